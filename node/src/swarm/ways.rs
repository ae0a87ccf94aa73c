//! The ways to a peer: directly, or through a relay.
//!
//! Two nodes that meet through a relay try to connect directly at once (dcutr); that is libp2p's part. It tries once for each relayed
//! connection, with the addresses that it knew when that began, so here such a connection is opened anew while no direct one comes about,
//! less and less often. Once a direct one stands, those through relays are let go of: a relay has room for so many and no more.

use libp2p::core::ConnectedPoint;
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{Multiaddr, PeerId};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::time::Instant;

use super::build::ProtocolsEvent;

/// How often there may be something to do.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long connections stand side by side before one is let go of: longer than it takes to notice that a peer at the end of a direct one is gone,
/// which may have come back through a relay.
const BESIDE: Duration = Duration::from_secs(20);
/// The first pause before a direct connection is tried again, doubling up to the last.
const PAUSE: Duration = Duration::from_secs(30);
const PAUSE_MAX: Duration = Duration::from_secs(15 * 60);

/// One connection.
struct Way {
    peer: PeerId,
    since: Instant,
    relayed: bool,
    /// The address by which this node opened it.
    dialled: Option<Multiaddr>,
}

/// When a direct connection is tried again.
struct Again {
    at: Instant,
    pause: Duration,
}

/// Something to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Close(ConnectionId),
    Dial(PeerId, Multiaddr),
}

/// All connections: as many as their limits allow.
#[derive(Default)]
pub(super) struct Ways {
    ways: BTreeMap<ConnectionId, Way>,
    /// Those that go through relays: asked for at every turn of the driver.
    relayed: usize,
    /// Peers that are connected through a relay alone: at most as many as are connected.
    again: HashMap<PeerId, Again>,
}

impl Ways {
    /// Takes what an event tells.
    pub fn note(&mut self, event: &SwarmEvent<ProtocolsEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.opened(*connection_id, *peer_id, endpoint, Instant::now());
            }
            SwarmEvent::ConnectionClosed { connection_id, .. } => self.closed(connection_id),
            SwarmEvent::Behaviour(ProtocolsEvent::Direct(event)) => match &event.result {
                Ok(_) => tracing::info!(peer = %event.remote_peer_id, "connected directly with a peer that a relay led to"),
                Err(why) => {
                    tracing::debug!(peer = %event.remote_peer_id, %why, "no direct connection with a peer behind a relay")
                }
            },
            _ => {}
        }
    }

    fn opened(&mut self, id: ConnectionId, peer: PeerId, endpoint: &ConnectedPoint, since: Instant) {
        let dialled = match endpoint {
            ConnectedPoint::Dialer { address, .. } => Some(address.clone()),
            ConnectedPoint::Listener { .. } => None,
        };
        let relayed = endpoint.is_relayed();
        self.ways.insert(id, Way { peer, since, relayed, dialled });
        self.relayed += usize::from(relayed);
    }

    fn closed(&mut self, id: &ConnectionId) {
        if self.ways.remove(id).is_some_and(|way| way.relayed) {
            self.relayed -= 1;
        }
    }

    /// Whether any connection goes through a relay.
    pub fn relayed(&self) -> bool {
        self.relayed > 0
    }

    /// What is to be done now.
    pub fn due(&mut self, now: Instant) -> Vec<Step> {
        let mut peers: BTreeMap<PeerId, Vec<(ConnectionId, &Way)>> = BTreeMap::new();
        for (id, way) in &self.ways {
            peers.entry(way.peer).or_default().push((*id, way));
        }
        let old = |way: &Way| now.duration_since(way.since) >= BESIDE;
        let mut steps = Vec::new();
        self.again.retain(|peer, _| peers.get(peer).is_some_and(|ways| ways.iter().all(|(_, way)| way.relayed)));
        for (peer, ways) in peers {
            let (relayed, direct): (Vec<_>, Vec<_>) = ways.into_iter().partition(|(_, way)| way.relayed);
            if !direct.is_empty() {
                let stands = direct.iter().any(|(_, way)| old(way));
                steps.extend(relayed.iter().filter(|(_, way)| stands && old(way)).map(|(id, _)| Step::Close(*id)));
                continue;
            }
            // Each end lets go of what it opened itself: else each might close the connection that the other keeps.
            let mut mine = relayed.iter().filter_map(|(id, way)| Some((*id, *way, way.dialled.clone()?)));
            let Some((mut last, mut way, mut addr)) = mine.next() else { continue };
            for (newer, newer_way, newer_addr) in mine {
                if old(newer_way) {
                    steps.push(Step::Close(last));
                }
                (last, way, addr) = (newer, newer_way, newer_addr);
            }
            let again = self.again.entry(peer).or_insert(Again { at: way.since + PAUSE, pause: PAUSE });
            if again.at <= now {
                again.pause = (again.pause * 2).min(PAUSE_MAX);
                again.at = now + again.pause;
                steps.push(Step::Dial(peer, addr));
            }
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::core::Endpoint;
    use libp2p::core::transport::PortUse;

    struct World {
        ways: Ways,
        peer: PeerId,
        begun: Instant,
    }

    impl World {
        fn new() -> World {
            World { ways: Ways::default(), peer: PeerId::random(), begun: Instant::now() }
        }

        fn opened(&mut self, number: usize, address: &str, dialled: bool, second: u64) {
            let address: Multiaddr = address.parse().expect("a multiaddr");
            let endpoint = match dialled {
                true => ConnectedPoint::Dialer { address, role_override: Endpoint::Dialer, port_use: PortUse::Reuse },
                false => ConnectedPoint::Listener { local_addr: address.clone(), send_back_addr: address },
            };
            let at = self.begun + Duration::from_secs(second);
            self.ways.opened(ConnectionId::new_unchecked(number), self.peer, &endpoint, at);
        }

        fn due(&mut self, second: u64) -> Vec<Step> {
            let steps = self.ways.due(self.begun + Duration::from_secs(second));
            for step in &steps {
                if let Step::Close(id) = step {
                    self.ways.closed(id);
                }
            }
            steps
        }
    }

    fn close(number: usize) -> Step {
        Step::Close(ConnectionId::new_unchecked(number))
    }

    const DIRECT: &str = "/ip4/127.0.0.1/tcp/1";
    const RELAYED: &str = "/ip4/127.0.0.1/tcp/2/p2p/12D3KooWR8prrFYyT9cZphXWKC8cqr4iRV4KB82kvbDXvYUgHBv4/p2p-circuit";

    #[test]
    fn a_relayed_connection_goes_once_a_direct_one_has_stood_beside_it_for_a_while() {
        let mut world = World::new();
        world.opened(1, RELAYED, false, 0);
        assert!(world.ways.relayed());
        world.opened(2, DIRECT, true, 10);
        assert_eq!(world.due(29), []);
        assert_eq!(world.due(30), [close(1)]);
        assert!(!world.ways.relayed());
        // The peer may have begun again, behind its relay, while its old connection seems to stand.
        world.opened(3, RELAYED, true, 100);
        assert_eq!(world.due(119), []);
        assert_eq!(world.due(120), [close(3)]);
        assert_eq!(world.due(10_000), [], "what is direct stays");
    }

    #[test]
    fn who_is_reached_through_a_relay_alone_is_dialled_anew_by_whoever_dialled_less_and_less_often() {
        let mut world = World::new();
        world.opened(1, RELAYED, true, 0);
        let again = Step::Dial(world.peer, RELAYED.parse().expect("a multiaddr"));
        assert_eq!(world.due(29), []);
        assert_eq!(world.due(30), [again]);
        world.opened(2, RELAYED, true, 31);
        assert_eq!(world.due(50), []);
        assert_eq!(world.due(51), [close(1)], "the newer one is in use");
        let dials: Vec<u64> = (60..4_000).filter(|second| !world.due(*second).is_empty()).collect();
        assert_eq!(dials, [90, 210, 450, 930, 1_830, 2_730, 3_630]);
        // Success ends it, and another time begins anew.
        world.opened(3, DIRECT, false, 4_000);
        assert_eq!(world.due(4_020), [close(2)]);
        world.ways.closed(&ConnectionId::new_unchecked(3));
        assert!(world.due(4_021).is_empty() && world.ways.again.is_empty() && !world.ways.relayed());
    }

    #[test]
    fn whoever_was_dialled_through_a_relay_leaves_the_next_attempt_to_the_other_and_closes_nothing_of_its() {
        let mut world = World::new();
        world.opened(1, RELAYED, false, 0);
        world.opened(2, RELAYED, false, 31);
        assert_eq!(world.due(10_000), []);
        world.opened(3, RELAYED, true, 10_000);
        assert_eq!(world.due(10_020), []);
    }
}
