//! What a node says that it speaks, by how far it reaches.

use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, StreamProtocol, Swarm, SwarmBuilder, autonat, identify, noise, tcp, yamux};
use std::time::Duration;
use timerose_node::{Config, Faults, Reach};

#[allow(dead_code, reason = "shared with other tests of a node, which use more of it")]
mod common;

const LAN: &str = "/ipfs/lan/kad/1.0.0";
const PUBLIC: &str = "/ipfs/kad/1.0.0";
/// No step of a test takes longer, however loaded the machine is.
const SOON: Duration = Duration::from_secs(120);

#[derive(NetworkBehaviour)]
struct Asked {
    identify: identify::Behaviour,
    autonat: autonat::v1::Behaviour,
}

/// A peer that dials whoever asks it to, and hears what it speaks.
async fn peer(addr: Multiaddr) -> Swarm<Asked> {
    let anywhere = autonat::v1::Config { only_global_ips: false, use_connected: false, ..Default::default() };
    let mut swarm = SwarmBuilder::with_existing_identity(Keypair::generate_ed25519())
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .expect("a transport")
        .with_behaviour(|keys| Asked {
            identify: identify::Behaviour::new(identify::Config::new("/ipfs/id/1.0.0".into(), keys.public())),
            autonat: autonat::v1::Behaviour::new(keys.public().to_peer_id(), anywhere),
        })
        .expect("a behaviour")
        .with_swarm_config(|c| c.with_idle_connection_timeout(SOON))
        .build();
    swarm.dial(addr).expect("dialled");
    swarm
}

/// The next that the node says of what it speaks.
async fn told(peer: &mut Swarm<Asked>) -> Vec<StreamProtocol> {
    let told = async {
        loop {
            let event = peer.select_next_some().await;
            if let SwarmEvent::Behaviour(AskedEvent::Identify(identify::Event::Received { info, .. })) = event {
                return info.protocols;
            }
        }
    };
    tokio::time::timeout(SOON, told).await.expect("the node says what it speaks")
}

fn speaks(told: &[StreamProtocol], protocol: &str) -> bool {
    told.iter().any(|spoken| spoken.as_ref() == protocol)
}

fn public(config: &mut Config) {
    config.reach = Reach { public: true, relay: false };
    config.faults = Faults { island: true, ..Faults::default() };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_a_closed_mesh_serves_the_dht_of_the_lan_from_the_start() {
    let dir = tempfile::tempdir().expect("a folder");
    let (running, _, addr) = common::node(&dir).await;
    let told = told(&mut peer(addr).await).await;
    assert!(speaks(&told, LAN) && !speaks(&told, PUBLIC), "{told:?}");
    assert!(!told.iter().any(|protocol| protocol.as_ref().contains("autonat")), "{told:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_the_public_network_serves_its_dht_once_a_peer_has_dialled_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let (running, _, addr) = common::node_that(&dir, public).await;
    let mut peer = peer(addr).await;
    let before = told(&mut peer).await;
    assert!(!speaks(&before, PUBLIC) && !speaks(&before, LAN), "nobody knows yet whether it can be dialled: {before:?}");
    // The node asks this peer, which dials it: each connection has it say what it speaks.
    loop {
        let told = told(&mut peer).await;
        assert!(!speaks(&told, LAN), "{told:?}");
        if speaks(&told, PUBLIC) {
            break;
        }
    }
    running.stop().await;
}
