//! Kademlia as this node speaks it: its protocol and bounds, and the records of others that it keeps.
//!
//! A closed mesh speaks the LAN protocol of IPFS, which Kubo and Helia speak too, and every node of it is a server. The public network is by
//! choice, and only who can be dialled is a server there: others would be asked in vain.

use cid::Cid;
use libp2p::kad::store::{MemoryStore, MemoryStoreConfig, RecordStore};
use libp2p::kad::{self, ProviderRecord, RecordKey};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;

use crate::announce::{EXPIRES, ROOTS_MAX};
use crate::config::Reach;
use crate::net::Reachable;

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
pub(super) const RESULTS_KEPT: usize = 4096;
/// Records of other providers that are kept; further ones are not.
const STRANGERS_MAX: usize = 1 << 16;
/// The share of one provider.
const STRANGER_SHARE: usize = 1 << 14;
/// Addresses of one peer that are kept.
pub(super) const ADDRS_MAX: usize = 16;
/// The longest key that is kept: a hash of 512 bits with its head.
const KEY_MAX: usize = 72;

/// Where the public network is entered.
const BOOTSTRAP: [&str; 4] = [
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt",
];

/// With `island`, the public network is entered by nobody but whom this node is told to join.
pub(super) fn behaviour(me: PeerId, reach: Reach, island: bool) -> Kad {
    let public = reach.public;
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
    kad.set_mode(Some(mode(reach, Reachable::Unknown)));
    if public && !island {
        for addr in BOOTSTRAP.iter().filter_map(|addr| addr.parse::<Multiaddr>().ok()) {
            if let Some(Protocol::P2p(peer)) = addr.iter().last() {
                kad.add_address(&peer, addr);
            }
        }
    }
    kad
}

/// What a node is in the DHT by what it knows of whether it can be dialled. A relay says that it can, until peers find otherwise.
pub(super) fn mode(reach: Reach, reachable: Reachable) -> kad::Mode {
    match reachable {
        Reachable::Yes => kad::Mode::Server,
        Reachable::Unknown if !reach.public || reach.relay => kad::Mode::Server,
        Reachable::Unknown | Reachable::No => kad::Mode::Client,
    }
}

/// The key of a block in the DHT: its hash.
pub(super) fn key(cid: &Cid) -> RecordKey {
    RecordKey::new(&cid.hash().to_bytes())
}

/// Whether an address is one of the public internet: of a name, or of a host that is no private, local or reserved one.
pub(super) fn is_global(addr: &Multiaddr) -> bool {
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
pub(super) struct Strangers {
    kept: VecDeque<(Instant, RecordKey, PeerId)>,
    shares: HashMap<PeerId, usize>,
}

impl Strangers {
    /// Keeps a record, if there is room.
    pub fn keep(&mut self, store: &mut MemoryStore, mut record: ProviderRecord, may_dial: impl Fn(&Multiaddr) -> bool) {
        let (key, peer) = (record.key.clone(), record.provider);
        record.addresses.retain(may_dial);
        record.addresses.truncate(ADDRS_MAX);
        let share = self.shares.get(&peer).copied().unwrap_or_default();
        if share >= STRANGER_SHARE || self.kept.len() >= STRANGERS_MAX || key.as_ref().len() > KEY_MAX {
            return tracing::debug!(%peer, "no room for a record of a provider");
        }
        if store.add_provider(record).is_ok() {
            self.shares.insert(peer, share + 1);
            self.kept.push_back((Instant::now() + EXPIRES, key, peer));
        }
    }

    pub fn tidy(&mut self, store: &mut MemoryStore, now: Instant) {
        while self.kept.front().is_some_and(|(expires, ..)| *expires <= now) {
            let Some((_, key, peer)) = self.kept.pop_front() else { return };
            // It may have been renewed since.
            let renewed = store
                .providers(&key)
                .iter()
                .any(|record| record.provider == peer && record.expires.is_some_and(|at| Instant::from_std(at) > now));
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
        let refused = ProviderRecord::new(vec![0; KEY_MAX + 1], PeerId::random(), Vec::new());
        strangers.keep(&mut store, refused, |_| true);
        assert_eq!(strangers.shares.len(), 2, "who is refused is not remembered");
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
