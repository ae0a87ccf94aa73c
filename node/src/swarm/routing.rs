//! Kademlia: what this node has is announced, who has what is looked up, and records of others are kept within bounds.
//!
//! A closed mesh speaks the LAN protocol of IPFS, which Kubo and Helia speak too; the public network is by choice. Every node is a
//! server. Providers are found by look-ups that the content driver asks for once no connected peer has a block; what was found is
//! remembered for a while.

use cid::Cid;
use libp2p::core::Endpoint;
use libp2p::kad::store::{MemoryStore, MemoryStoreConfig, RecordStore};
use libp2p::kad::{self, GetProvidersOk, InboundRequest, ProviderRecord, QueryId, QueryResult, RecordKey};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, NetworkBehaviour};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, identify};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::build::Protocols;
use crate::announce::{Announcements, EXPIRES, ROOTS_MAX, by_hash};
use crate::finder::{Find, Provider};

pub(super) type Kad = kad::Behaviour<MemoryStore>;

/// The protocol of closed meshes.
const LAN: StreamProtocol = StreamProtocol::new("/ipfs/lan/kad/1.0.0");
/// The protocol of the public network.
const PUBLIC: StreamProtocol = StreamProtocol::new("/ipfs/kad/1.0.0");
/// How long one look-up or announcement may take.
const QUERY_WAIT: Duration = Duration::from_secs(30);
/// How long a peer may take to answer: the others go on meanwhile.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// Results whose announcement this node itself answers for; the oldest give way.
const RESULTS_KEPT: usize = 4096;
/// Records of other providers that are kept; further ones are not.
const STRANGERS_MAX: usize = 1 << 16;
/// The share of one provider.
const STRANGER_SHARE: usize = 1 << 14;
/// Addresses of one peer that are kept.
const ADDRS_MAX: usize = 16;
/// The longest key that is kept: a hash of 512 bits with its head.
const KEY_MAX: usize = 72;
/// Look-ups that somebody waits for; further ones find nobody.
const SEEKS_MAX: usize = 256;
/// Providers of one look-up: it ends when so many are known.
const ENOUGH: usize = 8;
/// Look-ups whose answer is remembered.
const INDEX_MAX: usize = 1024;
/// For how long, if it found somebody, and if it did not.
const FRESH: Duration = Duration::from_secs(60);
const FRESH_EMPTY: Duration = Duration::from_secs(1);

/// Where the public network is entered.
const BOOTSTRAP: [&str; 4] = [
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt",
];

pub(super) fn behaviour(me: PeerId, public: bool) -> Kad {
    let mut config = kad::Config::new(if public { PUBLIC } else { LAN });
    config
        .set_query_timeout(QUERY_WAIT)
        .set_substreams_timeout(ANSWER_WAIT)
        // The announcements' own queue does it, at its pace.
        .set_provider_publication_interval(None)
        .set_publication_interval(None)
        .set_replication_interval(None)
        .set_provider_record_ttl(Some(EXPIRES))
        .set_record_filtering(kad::StoreInserts::FilterBoth);
    let bounds = MemoryStoreConfig {
        max_records: 0,
        max_provided_keys: ROOTS_MAX + RESULTS_KEPT + STRANGERS_MAX,
        ..MemoryStoreConfig::default()
    };
    let mut kad = Kad::with_config(me, MemoryStore::with_config(me, bounds), config);
    kad.set_mode(Some(kad::Mode::Server));
    if public {
        for addr in BOOTSTRAP.iter().filter_map(|addr| addr.parse::<Multiaddr>().ok()) {
            if let Some(Protocol::P2p(peer)) = addr.iter().last() {
                kad.add_address(&peer, addr);
            }
        }
    }
    kad
}

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
        let known = self.index.get(&cid).filter(|(at, found)| {
            skip.is_empty() && at.elapsed() < if found.is_empty() { FRESH_EMPTY } else { FRESH }
        });
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
            let of_use = |provider: &&Provider| !seek.skip.contains(&provider.peer) && (!seek.dial || provider.connected);
            let given: Vec<Provider> = all.iter().filter(of_use).cloned().collect();
            let at_once = seek.dial && !given.is_empty();
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

/// The key of a block in the DHT: its hash.
fn key(cid: &Cid) -> RecordKey {
    RecordKey::new(&cid.hash().to_bytes())
}

/// Whether an address is one of the public internet: of a name, or of a host that is no private, local or reserved one.
fn is_global(addr: &Multiaddr) -> bool {
    match addr.iter().next() {
        Some(Protocol::Ip4(ip)) => is_global_ip(IpAddr::V4(ip)),
        Some(Protocol::Ip6(ip)) => is_global_ip(IpAddr::V6(ip)),
        Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_)) => true,
        _ => false,
    }
}

fn is_global_ip(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let odd = a == 0 || a >= 240 || ip.is_documentation() || ip.is_multicast() || (a == 198 && (b == 18 || b == 19));
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared || odd)
        }
        // 2000::/3 is what is given out, but for the part of documentation.
        IpAddr::V6(ip) => ip.segments()[0] & 0xe000 == 0x2000 && !(ip.segments()[0] == 0x2001 && ip.segments()[1] == 0x0db8),
    }
}

/// Records of other providers, in the order in which they expire.
#[derive(Default)]
struct Strangers {
    kept: VecDeque<(Instant, RecordKey, PeerId)>,
    shares: HashMap<PeerId, usize>,
}

impl Strangers {
    /// Keeps a record, if there is room.
    fn keep(&mut self, store: &mut MemoryStore, mut record: ProviderRecord, may_dial: impl Fn(&Multiaddr) -> bool) {
        let (key, peer) = (record.key.clone(), record.provider);
        record.addresses.retain(may_dial);
        record.addresses.truncate(ADDRS_MAX);
        let share = self.shares.entry(peer).or_default();
        if *share >= STRANGER_SHARE || self.kept.len() >= STRANGERS_MAX || key.as_ref().len() > KEY_MAX {
            return tracing::debug!(%peer, "no room for a record of a provider");
        }
        if store.add_provider(record).is_ok() {
            *share += 1;
            self.kept.push_back((Instant::now() + EXPIRES, key, peer));
        }
    }

    fn tidy(&mut self, store: &mut MemoryStore, now: Instant) {
        while self.kept.front().is_some_and(|(expires, ..)| *expires <= now) {
            let Some((_, key, peer)) = self.kept.pop_front() else { return };
            // It may have been renewed since.
            let renewed = store.providers(&key).iter().any(|record| {
                record.provider == peer && record.expires.is_some_and(|at| Instant::from_std(at) > now)
            });
            if !renewed {
                store.remove_provider(&key, &peer);
            }
            if let Some(share) = self.shares.get_mut(&peer) {
                *share -= 1;
                if *share == 0 {
                    self.shares.remove(&peer);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64, provider: PeerId) -> ProviderRecord {
        let mut record = ProviderRecord::new(number.to_be_bytes().to_vec(), provider, Vec::new());
        record.expires = Some((Instant::now() + EXPIRES).into_std());
        record
    }

    #[test]
    fn one_provider_cannot_take_the_room_of_others_and_expired_records_make_room() {
        let mut store = MemoryStore::with_config(
            PeerId::random(),
            MemoryStoreConfig { max_provided_keys: STRANGERS_MAX, ..MemoryStoreConfig::default() },
        );
        let (mut strangers, greedy, modest) = (Strangers::default(), PeerId::random(), PeerId::random());
        (0..2 * STRANGER_SHARE as u64).for_each(|n| strangers.keep(&mut store, record(n, greedy), |_| true));
        assert_eq!(strangers.kept.len(), STRANGER_SHARE);
        strangers.keep(&mut store, record(0, modest), |_| true);
        assert_eq!(store.providers(&record(0, modest).key).len(), 2);
        let long = ProviderRecord::new(vec![0; KEY_MAX + 1], modest, Vec::new());
        strangers.keep(&mut store, long, |_| true);
        assert_eq!(strangers.kept.len(), STRANGER_SHARE + 1);
        strangers.tidy(&mut store, Instant::now() + EXPIRES + Duration::from_secs(1));
        assert!(strangers.kept.is_empty() && strangers.shares.is_empty());
        assert!(store.providers(&record(0, modest).key).is_empty());
    }

    #[test]
    fn only_addresses_of_the_public_internet_are_dialled_in_the_public_network() {
        let global = |addr: &str| is_global(&addr.parse().expect("a multiaddr"));
        for addr in ["/ip4/8.8.8.8/tcp/1", "/ip6/2606:4700::1/udp/1/quic-v1", "/dns4/example.org/tcp/443"] {
            assert!(global(addr), "{addr}");
        }
        for addr in [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/10.1.2.3/tcp/1",
            "/ip4/192.168.0.1/tcp/1",
            "/ip4/172.16.0.1/tcp/1",
            "/ip4/100.64.0.1/tcp/1",
            "/ip4/169.254.169.254/tcp/80",
            "/ip4/0.0.0.0/tcp/1",
            "/ip4/224.0.0.1/udp/1",
            "/ip6/::1/tcp/1",
            "/ip6/fd00::1/tcp/1",
            "/ip6/fe80::1/tcp/1",
            "/ip6/::ffff:10.0.0.1/tcp/1",
            "/ip6/2001:db8::1/tcp/1",
            "/memory/1",
        ] {
            assert!(!global(addr), "{addr}");
        }
    }
}
