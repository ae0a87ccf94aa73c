//! What the swarm is made of: its transports and protocols.

use hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::system_conf::read_system_conf;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::upgrade::Version;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{PeerId, Swarm, SwarmBuilder, Transport, autonat, dcutr, identify, noise, ping, relay, tcp, yamux};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;
use timerose_content::{exchange, frames};
use timerose_core::id::NodeId;

use super::dht::{self, Kad};
use super::gossip::{self, Gossip};
use crate::config::{Config, StartError};
use crate::keys::{Keys, peer_of};
use crate::wire::TaskCodec;

/// Connections of a mesh stay open: it is not a public network with churn to save on.
const IDLE: Duration = Duration::from_secs(24 * 3600);
/// In the public network, whoever was met in a look-up is let go of again.
const IDLE_PUBLIC: Duration = Duration::from_secs(300);
/// How often round trips are measured; it also finds out that a silent peer is gone.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_WAIT: Duration = Duration::from_secs(10);

/// Connections that one peer may have: two that dial each other at once have two, and as many through a relay, which may be opened
/// anew while the old ones stand.
const CONNECTIONS_PER_PEER: u32 = 8;
/// Connections that peers may have opened, in all; further ones are closed at once.
const CONNECTIONS_IN: u32 = 1024;
/// Connections that this node may have opened, in all: look-ups in a large network dial many.
const CONNECTIONS_OUT: u32 = 1024;
/// Connections that peers are opening at the same time.
const PENDING_IN: u32 = 128;

/// Peers that may wait at a relay to be reached through it.
const RELAYED_PEERS: usize = 128;
/// Circuits through a relay at the same time: in all, and of one peer.
const CIRCUITS: usize = 256;
const CIRCUITS_PER_PEER: usize = 32;
/// What one circuit may carry each way, and for how long; then its ends connect anew.
const CIRCUIT_BYTES: u64 = 16 << 30;
const CIRCUIT_TIME: Duration = Duration::from_secs(24 * 3600);

#[derive(NetworkBehaviour)]
pub(super) struct Protocols {
    limits: connection_limits::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub exchange: exchange::Behaviour,
    pub tasks: frames::Behaviour<TaskCodec>,
    pub gossip: Gossip,
    pub kad: Kad,
    relayed: relay::client::Behaviour,
    direct: dcutr::Behaviour,
    relay: Toggle<relay::Behaviour>,
    autonat: Toggle<autonat::v1::Behaviour>,
}

/// Builds the swarm, which does not listen yet.
pub(super) fn swarm(
    config: &Config,
    keys: &Keys,
    exchange: exchange::Behaviour,
    tasks: frames::Behaviour<TaskCodec>,
) -> Result<Swarm<Protocols>, StartError> {
    let fail = |what: &str, why: String| StartError::Listen { addr: what.to_string(), why };
    let (resolver, options) = resolver();
    let idle = if config.reach.public { IDLE_PUBLIC } else { IDLE };
    let swarm = SwarmBuilder::with_existing_identity(keys.keypair())
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .map_err(|e| fail("tcp", e.to_string()))?
        .with_quic()
        .with_other_transport(|key| {
            let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
            let secure = noise::Config::new(key)?;
            Ok(libp2p_websocket::Config::new(tcp)
                .upgrade(Version::V1Lazy)
                .authenticate(secure)
                .multiplex(yamux::Config::default()))
        })
        .map_err(|e| fail("websocket", e.to_string()))?
        .with_dns_config(resolver, options)
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .map_err(|e| fail("relay", e.to_string()))?
        .with_behaviour(|key, relayed| {
            let me = key.public().to_peer_id();
            let agent = format!("timerose/{}", env!("CARGO_PKG_VERSION"));
            Ok(Protocols {
                limits: connection_limits::Behaviour::new(limits()),
                identify: identify::Behaviour::new(
                    identify::Config::new("ipfs/0.1.0".into(), key.public()).with_agent_version(agent),
                ),
                ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_EVERY).with_timeout(PING_WAIT)),
                exchange,
                tasks,
                gossip: gossip::behaviour(key)?,
                kad: dht::behaviour(me, config.reach, config.faults.island),
                relayed,
                direct: dcutr::Behaviour::new(me),
                relay: config.reach.relay.then(|| relay::Behaviour::new(me, relaying(&config.trust))).into(),
                autonat: config.reach.public.then(|| autonat::v1::Behaviour::new(me, asking(config.faults.island))).into(),
            })
        })
        .map_err(|e| fail("swarm", e.to_string()))?
        .with_swarm_config(|c| c.with_idle_connection_timeout(idle))
        .build();
    Ok(swarm)
}

/// How the system looks up names; where it does not say, by a server on this machine, as resolv.conf(5) has it. A machine without
/// names is one that a node runs on.
fn resolver() -> (ResolverConfig, ResolverOpts) {
    read_system_conf().unwrap_or_else(|why| {
        tracing::info!(%why, "the system does not say who looks up names; a server on this machine is asked");
        let local = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
        (ResolverConfig::from_parts(None, Vec::new(), vec![local]), ResolverOpts::default())
    })
}

fn limits() -> ConnectionLimits {
    ConnectionLimits::default()
        .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER))
        .with_max_established_incoming(Some(CONNECTIONS_IN))
        .with_max_established_outgoing(Some(CONNECTIONS_OUT))
        .with_max_pending_incoming(Some(PENDING_IN))
}

/// When peers of the public network are first asked to dial this node: it has met some by then.
const ASK_AFTER: Duration = Duration::from_secs(5);
/// How often, while too few have answered. No peer is asked more often than every 90 s.
const ASK_EVERY: Duration = Duration::from_secs(15);
/// How long one may take: it dials one address after another, and gives up on each after 10 s.
const ASK_WAIT: Duration = Duration::from_secs(60);

/// How this node asks whether it can be dialled, and answers others. Only peers of the public internet are asked: one of the same
/// home or office sees more than the world does.
fn asking(island: bool) -> autonat::v1::Config {
    autonat::v1::Config {
        boot_delay: ASK_AFTER,
        retry_interval: ASK_EVERY,
        timeout: ASK_WAIT,
        only_global_ips: !island,
        ..autonat::v1::Config::default()
    }
}

/// A relay for whom this node trusts: others may neither wait at it nor reach anybody through it.
fn relaying(trust: &BTreeSet<NodeId>) -> relay::Config {
    let trusted: BTreeSet<PeerId> = trust.iter().filter_map(peer_of).collect();
    let only = || {
        let trusted = trusted.clone();
        let limiter: Box<dyn relay::RateLimiter> =
            Box::new(move |peer: PeerId, _: &libp2p::Multiaddr, _| trusted.contains(&peer));
        vec![limiter]
    };
    relay::Config {
        max_reservations: RELAYED_PEERS,
        reservation_rate_limiters: only(),
        max_circuits: CIRCUITS,
        max_circuits_per_peer: CIRCUITS_PER_PEER,
        max_circuit_duration: CIRCUIT_TIME,
        max_circuit_bytes: CIRCUIT_BYTES,
        circuit_src_rate_limiters: only(),
        ..relay::Config::default()
    }
}
