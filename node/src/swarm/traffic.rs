//! What the swarm counts of its connections and topics, for whoever asks by [`Net`](crate::net::Net).

use libp2p::core::ConnectedPoint;
use libp2p::gossipsub::{self, TopicHash};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{Multiaddr, PeerId, kad, relay};
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::build::ProtocolsEvent;
use super::dht::Kad;
use super::gossip::{Fate, Gossip, kind_of};
use crate::net::{Connections, NetStat, Reachable, TopicKind};

/// The ways in which peers are connected.
const TRANSPORTS: [&str; 4] = ["tcp", "quic", "websocket", RELAYED];
const RELAYED: &str = "relayed";

/// The figures as they grow.
#[derive(Default)]
pub(super) struct Traffic {
    stat: NetStat,
    /// As many as the limits of connections allow.
    connections: HashMap<ConnectionId, (PeerId, &'static str, bool)>,
    /// Who waits at this relay: as many as it lets.
    waiting: BTreeSet<PeerId>,
}

impl Traffic {
    /// Counts what an event tells.
    pub fn note(&mut self, event: &SwarmEvent<ProtocolsEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                let (transport, dialled) = (transport(endpoint), endpoint.is_dialer());
                self.connections.insert(*connection_id, (*peer_id, transport, dialled));
            }
            SwarmEvent::ConnectionClosed { connection_id, .. } => drop(self.connections.remove(connection_id)),
            SwarmEvent::Behaviour(ProtocolsEvent::Kad(event)) => self.note_kad(event),
            SwarmEvent::Behaviour(ProtocolsEvent::Relay(event)) => self.note_relay(event),
            SwarmEvent::Behaviour(ProtocolsEvent::Gossip(gossipsub::Event::SlowPeer { failed_messages, .. })) => {
                self.stat.copies_dropped += (failed_messages.priority + failed_messages.non_priority) as u64;
            }
            _ => {}
        }
    }

    /// Takes what is known of whether this node can be dialled.
    pub fn reachable(&mut self, reachable: Reachable) {
        self.stat.reachable = Some(reachable);
    }

    fn note_kad(&mut self, event: &kad::Event) {
        match event {
            kad::Event::InboundRequest { .. } => self.stat.kad_in += 1,
            kad::Event::OutboundQueryProgressed { stats, step, .. } if step.last => {
                self.stat.kad_out += u64::from(stats.num_requests());
            }
            _ => {}
        }
    }

    fn note_relay(&mut self, event: &relay::Event) {
        match event {
            relay::Event::ReservationReqAccepted { src_peer_id, .. } => drop(self.waiting.insert(*src_peer_id)),
            relay::Event::ReservationClosed { src_peer_id } | relay::Event::ReservationTimedOut { src_peer_id } => {
                self.waiting.remove(src_peer_id);
            }
            relay::Event::CircuitReqAccepted { .. } => self.stat.circuits += 1,
            relay::Event::CircuitClosed { .. } => self.stat.circuits = self.stat.circuits.saturating_sub(1),
            _ => {}
        }
    }

    /// A message came on a topic, and went on to others or did not.
    pub fn came(&mut self, kind: TopicKind, bytes: usize, fate: Fate) {
        let topic = self.stat.topic(kind);
        topic.received += 1;
        topic.received_bytes += bytes as u64;
        match fate {
            Fate::PassedOn => {
                topic.sent += 1;
                topic.sent_bytes += bytes as u64;
            }
            Fate::Refused => topic.refused += 1,
            Fate::Limited => topic.limited += 1,
        }
    }

    /// A message of this node's own was published, or was not.
    pub fn published(&mut self, kind: TopicKind, bytes: usize, sent: bool) {
        let topic = self.stat.topic(kind);
        match sent {
            true => {
                topic.sent += 1;
                topic.sent_bytes += bytes as u64;
            }
            false => topic.dropped += 1,
        }
    }

    /// The figures of now.
    pub fn stat(&self, gossip: &Gossip, kad: &Kad) -> NetStat {
        let mut stat = self.stat.clone();
        stat.dht = kad.protocol_names().iter().map(ToString::to_string).collect();
        stat.dht_server = kad.mode() == kad::Mode::Server;
        stat.reservations = self.waiting.len() as u64;
        stat.connections = by_transport(self.connections.values().map(|(_, transport, dialled)| (*transport, *dialled)));
        let peers: BTreeSet<&PeerId> = self.connections.values().map(|(peer, ..)| peer).collect();
        let direct: BTreeSet<&PeerId> =
            self.connections.values().filter(|(_, transport, _)| *transport != RELAYED).map(|(peer, ..)| peer).collect();
        (stat.peers, stat.peers_relayed) = (peers.len() as u64, (peers.len() - direct.len()) as u64);
        let mine: BTreeMap<&TopicHash, TopicKind> =
            gossip.topics().filter_map(|topic| kind_of(topic).map(|kind| (topic, kind))).collect();
        for (topic, kind) in &mine {
            let figures = stat.topic(*kind);
            figures.joined += 1;
            figures.mesh += gossip.mesh_peers(topic).count() as u64;
        }
        for kind in gossip.all_peers().flat_map(|(_, topics)| topics).filter_map(|topic| mine.get(topic)) {
            stat.topic(*kind).listeners += 1;
        }
        stat
    }
}

fn by_transport(connections: impl Iterator<Item = (&'static str, bool)>) -> BTreeMap<&'static str, Connections> {
    let mut all: BTreeMap<&'static str, Connections> = TRANSPORTS.iter().map(|name| (*name, Connections::default())).collect();
    for (transport, dialled) in connections {
        let of = all.entry(transport).or_default();
        match dialled {
            true => of.outbound += 1,
            false => of.inbound += 1,
        }
    }
    all
}

/// How a peer is connected, by the address that was dialled.
fn transport(endpoint: &ConnectedPoint) -> &'static str {
    let addr = match endpoint {
        ConnectedPoint::Dialer { address, .. } => address,
        ConnectedPoint::Listener { local_addr, .. } => local_addr,
    };
    transport_of(addr)
}

fn transport_of(addr: &Multiaddr) -> &'static str {
    let mut name = "tcp";
    for part in addr {
        match part {
            Protocol::P2pCircuit => return RELAYED,
            Protocol::QuicV1 => name = "quic",
            Protocol::Ws(_) | Protocol::Wss(_) => name = "websocket",
            _ => {}
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_counts_for_the_transport_that_it_goes_by() {
        let of = |addr: &str| transport_of(&addr.parse().expect("a multiaddr"));
        let relay = PeerId::random();
        assert_eq!(of("/ip4/127.0.0.1/tcp/1"), "tcp");
        assert_eq!(of("/ip4/127.0.0.1/udp/1/quic-v1"), "quic");
        assert_eq!(of("/ip4/127.0.0.1/tcp/1/ws"), "websocket");
        assert_eq!(of(&format!("/ip4/127.0.0.1/udp/1/quic-v1/p2p/{relay}/p2p-circuit")), "relayed");
        let counted = by_transport([("quic", true), ("quic", false), ("quic", true)].into_iter());
        assert_eq!(counted.keys().copied().collect::<BTreeSet<_>>(), TRANSPORTS.into());
        assert_eq!(counted["quic"], Connections { inbound: 1, outbound: 2 });
    }

    #[test]
    fn what_is_passed_on_was_received_and_sent_and_what_is_refused_was_not_sent() {
        let mut traffic = Traffic::default();
        traffic.came(TopicKind::Tasks, 100, Fate::PassedOn);
        traffic.came(TopicKind::Tasks, 9, Fate::Refused);
        traffic.came(TopicKind::Tasks, 1, Fate::Limited);
        traffic.published(TopicKind::Tasks, 1, true);
        traffic.published(TopicKind::Tasks, 1, false);
        let topic = *traffic.stat.topic(TopicKind::Tasks);
        assert_eq!((topic.received, topic.received_bytes, topic.sent, topic.sent_bytes), (3, 110, 2, 101));
        assert_eq!((topic.refused, topic.limited, topic.dropped), (1, 1, 1));
        assert_eq!(*traffic.stat.topic(TopicKind::Members), Default::default());
    }
}
