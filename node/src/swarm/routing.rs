//! Routing: what this node has is announced in the DHT, and who has what is looked up there.
//!
//! Providers are looked up for the content driver once no connected peer has a block; what was found is remembered for a while.

use cid::Cid;
use libp2p::core::Endpoint;
use libp2p::kad::store::RecordStore;
use libp2p::kad::{self, GetProvidersOk, InboundRequest, QueryId, QueryResult};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, NetworkBehaviour};
use libp2p::{Multiaddr, PeerId, Swarm, identify};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::build::Protocols;
use super::dht::{ADDRS_MAX, Kad, RESULTS_KEPT, Strangers, is_global, key};
use crate::announce::{Announcements, by_hash};
use crate::finder::{Find, Provider};

/// Look-ups that somebody waits for; further ones find nobody.
const SEEKS_MAX: usize = 256;
/// Providers of one look-up: it ends when so many are known.
const ENOUGH: usize = 8;
/// Look-ups whose answer is remembered.
const INDEX_MAX: usize = 1024;
/// For how long, if it found somebody, and if it did not.
const FRESH: Duration = Duration::from_secs(60);
const FRESH_EMPTY: Duration = Duration::from_secs(1);

/// Somebody who waits for a look-up.
struct Seek {
    dial: bool,
    skip: BTreeSet<PeerId>,
    answer: oneshot::Sender<Vec<Provider>>,
}

/// A look-up that somebody waits for.
#[derive(Default)]
struct LookUp {
    seeks: Vec<Seek>,
    found: BTreeMap<PeerId, Vec<Multiaddr>>,
    /// Being dialled.
    dialled: BTreeSet<PeerId>,
    query: Option<QueryId>,
}

/// What a query is about.
enum Query {
    Announce(Cid),
    Find(Cid),
}

/// What was found, and when.
type Found = (Instant, BTreeMap<PeerId, Vec<Multiaddr>>);

/// The state beside libp2p's own.
pub(super) struct Routing {
    pub announcements: Announcements,
    public: bool,
    queries: HashMap<QueryId, Query>,
    look_ups: HashMap<Cid, LookUp>,
    index: HashMap<Cid, Found>,
    results: VecDeque<Cid>,
    strangers: Strangers,
}

impl Routing {
    pub fn new(announcements: Announcements, public: bool) -> Routing {
        let (queries, look_ups, index, results, strangers) = Default::default();
        Routing { announcements, public, queries, look_ups, index, results, strangers }
    }

    /// Whether a peer's address may be dialled: in the public network, only what is reachable from everywhere.
    fn may_dial(&self, addr: &Multiaddr) -> bool {
        !self.public || is_global(addr)
    }

    /// Waits until there is something to announce, and somebody to tell.
    pub async fn due(&self, somebody: bool) {
        if somebody { self.announcements.due().await } else { std::future::pending().await }
    }

    /// Announces what is due.
    pub fn announce(&mut self, kad: &mut Kad) {
        while let Some(cid) = self.announcements.next() {
            match kad.start_providing(key(&cid)) {
                Ok(query) => drop(self.queries.insert(query, Query::Announce(cid))),
                Err(why) => drop(self.announcements.ended(&cid, Err(why.to_string()))),
            }
        }
    }

    fn announced(&mut self, kad: &mut Kad, cid: Cid, how: Result<(), String>) {
        if self.announcements.ended(&cid, how) {
            return;
        }
        self.results.push_back(cid);
        if self.results.len() > RESULTS_KEPT
            && let Some(old) = self.results.pop_front()
            && !self.announcements.is_root(&old)
        {
            kad.stop_providing(&key(&old));
        }
    }

    /// A peer said what it speaks and where it is.
    pub fn met(&self, kad: &mut Kad, peer: PeerId, info: identify::Info) {
        tracing::debug!(%peer, agent = info.agent_version, protocols = info.protocols.len(), "met a peer");
        if !info.protocols.iter().any(|name| kad.protocol_names().contains(name)) {
            return;
        }
        for addr in info.listen_addrs.into_iter().filter(|addr| self.may_dial(addr)).take(ADDRS_MAX) {
            kad.add_address(&peer, addr);
        }
    }

    /// Looks somebody up, or says at once what is known.
    pub fn find(&mut self, swarm: &mut Swarm<Protocols>, find: Find) {
        let Find { cid, dial, skip, answer } = find;
        let cid = by_hash(&cid);
        self.look_ups.retain(|_, look_up| {
            look_up.seeks.retain(|seek| !seek.answer.is_closed());
            !look_up.seeks.is_empty()
        });
        if self.look_ups.values().map(|look_up| look_up.seeks.len()).sum::<usize>() >= SEEKS_MAX {
            return drop(answer.send(Vec::new()));
        }
        let known = self
            .index
            .get(&cid)
            .filter(|(at, found)| skip.is_empty() && at.elapsed() < if found.is_empty() { FRESH_EMPTY } else { FRESH });
        let known = known.map(|(_, found)| found.clone());
        let look_up = self.look_ups.entry(cid).or_default();
        look_up.seeks.push(Seek { dial, skip, answer });
        match known {
            Some(found) => self.found(swarm, cid, found),
            None if look_up.query.is_none() => {
                let query = swarm.behaviour_mut().kad.get_providers(key(&cid));
                look_up.query = Some(query);
                self.queries.insert(query, Query::Find(cid));
            }
            None => {}
        }
        self.settle(swarm, cid);
    }

    /// What kad says.
    pub fn hear(&mut self, swarm: &mut Swarm<Protocols>, event: kad::Event) {
        let kad = &mut swarm.behaviour_mut().kad;
        let (id, result, step, stats) = match event {
            kad::Event::InboundRequest { request: InboundRequest::AddProvider { record: Some(record) } } => {
                let public = self.public;
                return self.strangers.keep(kad.store_mut(), record, |addr| !public || is_global(addr));
            }
            kad::Event::OutboundQueryProgressed { id, result, step, stats } => (id, result, step, stats),
            _ => return,
        };
        match (result, self.queries.get(&id)) {
            (QueryResult::StartProviding(how), Some(Query::Announce(cid))) => {
                let cid = *cid;
                self.queries.remove(&id);
                let nobody = || Err("no peer of the DHT answered".to_string());
                let how = how.map_err(|why| why.to_string());
                let how = how.and_then(|_| if stats.num_successes() > 0 { Ok(()) } else { nobody() });
                self.announced(kad, cid, how);
            }
            (QueryResult::GetProviders(how), Some(Query::Find(cid))) => {
                let cid = *cid;
                if step.last {
                    self.queries.remove(&id);
                }
                self.progress(swarm, cid, id, how.ok(), step.last);
            }
            _ => {}
        }
    }

    fn progress(&mut self, swarm: &mut Swarm<Protocols>, cid: Cid, id: QueryId, how: Option<GetProvidersOk>, last: bool) {
        let me = *swarm.local_peer_id();
        let mut found = BTreeMap::new();
        if let Some(GetProvidersOk::FoundProviders { providers, .. }) = how {
            for peer in providers.into_iter().filter(|peer| *peer != me).take(ENOUGH) {
                found.insert(peer, self.addrs_of(&mut swarm.behaviour_mut().kad, &cid, peer));
            }
        }
        self.found(swarm, cid, found);
        if let Some(look_up) = self.look_ups.get_mut(&cid) {
            if look_up.found.len() >= ENOUGH
                && let Some(mut query) = swarm.behaviour_mut().kad.query_mut(&id)
            {
                query.finish();
            }
            if last {
                look_up.query = None;
                if self.index.len() >= INDEX_MAX {
                    self.index.clear();
                }
                self.index.insert(cid, (Instant::now(), look_up.found.clone()));
            }
        }
        self.settle(swarm, cid);
    }

    /// Where a provider is, as far as those say who named it.
    fn addrs_of(&self, kad: &mut Kad, cid: &Cid, peer: PeerId) -> Vec<Multiaddr> {
        let kept = kad.store_mut().providers(&key(cid)).into_iter().find(|record| record.provider == peer);
        let mut addrs = kept.map(|record| record.addresses).unwrap_or_default();
        // What was heard in queries that are under way, and stands in the table of peers: kad tells it to whoever dials.
        let dialling = ConnectionId::new_unchecked(0);
        addrs.extend(kad.handle_pending_outbound_connection(dialling, Some(peer), &[], Endpoint::Dialer).unwrap_or_default());
        let distinct: BTreeSet<Multiaddr> = addrs.into_iter().filter(|addr| self.may_dial(addr)).take(ADDRS_MAX).collect();
        distinct.into_iter().collect()
    }

    /// Adds providers to a look-up, and dials them for whoever wants that.
    fn found(&mut self, swarm: &mut Swarm<Protocols>, cid: Cid, found: BTreeMap<PeerId, Vec<Multiaddr>>) {
        let Some(look_up) = self.look_ups.get_mut(&cid) else { return };
        for (peer, addrs) in found {
            let wanted = look_up.seeks.iter().any(|seek| seek.dial && !seek.skip.contains(&peer));
            if wanted && !swarm.is_connected(&peer) && !addrs.is_empty() && look_up.dialled.insert(peer) {
                // If it is being dialled already, that will do.
                let _ = swarm.dial(DialOpts::peer_id(peer).addresses(addrs.clone()).build());
            }
            look_up.found.insert(peer, addrs);
        }
    }

    /// Who was dialled is connected, or could not be reached.
    pub fn dialled(&mut self, swarm: &Swarm<Protocols>, peer: &PeerId) {
        let of: Vec<Cid> = self.look_ups.iter().filter(|(_, up)| up.dialled.contains(peer)).map(|(cid, _)| *cid).collect();
        for cid in of {
            if let Some(look_up) = self.look_ups.get_mut(&cid) {
                look_up.dialled.remove(peer);
            }
            self.settle(swarm, cid);
        }
    }

    /// Answers whoever need not wait any longer.
    fn settle(&mut self, swarm: &Swarm<Protocols>, cid: Cid) {
        let Some(look_up) = self.look_ups.get_mut(&cid) else { return };
        let all = look_up.found.iter().map(|(peer, addrs)| Provider {
            peer: *peer,
            addrs: addrs.clone(),
            connected: swarm.is_connected(peer),
        });
        let all: Vec<Provider> = all.collect();
        let over = look_up.query.is_none();
        for seek in std::mem::take(&mut look_up.seeks) {
            let mut given: Vec<Provider> = all.iter().filter(|provider| !seek.skip.contains(&provider.peer)).cloned().collect();
            let at_once = seek.dial && given.iter().any(|provider| provider.connected);
            if at_once {
                given.retain(|provider| provider.connected);
            }
            if at_once || (over && (!seek.dial || look_up.dialled.is_empty())) {
                // Whoever asked may be gone.
                let _ = seek.answer.send(given);
            } else {
                look_up.seeks.push(seek);
            }
        }
        if over && look_up.seeks.is_empty() {
            self.look_ups.remove(&cid);
        }
    }

    /// Forgets what has expired.
    pub fn tidy(&mut self, kad: &mut Kad) {
        self.strangers.tidy(kad.store_mut(), Instant::now());
        self.index.retain(|_, (at, _)| at.elapsed() < FRESH);
    }
}
