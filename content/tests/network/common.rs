//! Nodes for tests: a swarm on loopback with one behaviour, driven by a task that ends with its handle.

use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, noise, tcp, yamux};
use std::collections::HashSet;
use std::io::Write;
use std::time::Duration;
use tempfile::TempDir;
use timerose_content::{Block, Content, RAW};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// No step of a test takes longer, however loaded the machine is.
pub const SOON: Duration = Duration::from_secs(60);

/// A running swarm.
pub struct Host {
    pub peer: PeerId,
    address: Multiaddr,
    dials: mpsc::Sender<Multiaddr>,
    connected: watch::Receiver<HashSet<PeerId>>,
    connections: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a swarm with this behaviour.
pub async fn host<B: NetworkBehaviour + Send>(behaviour: B) -> Host
where
    B::ToSwarm: std::fmt::Debug,
{
    host_as(&Keypair::generate_ed25519(), behaviour).await
}

/// The same as the peer with this key.
pub async fn host_as<B: NetworkBehaviour + Send>(keys: &Keypair, behaviour: B) -> Host
where
    B::ToSwarm: std::fmt::Debug,
{
    let mut swarm: Swarm<B> = SwarmBuilder::with_existing_identity(keys.clone())
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| behaviour)
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
        .build();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    let peer = *swarm.local_peer_id();
    let (dials, requests) = mpsc::channel(8);
    let (tell, connected) = watch::channel(HashSet::new());
    let (count, connections) = watch::channel(0);
    let task = tokio::spawn(drive(swarm, requests, tell, count));
    Host { peer, address, dials, connected, connections, task }
}

async fn drive<B: NetworkBehaviour + Send>(
    mut swarm: Swarm<B>,
    mut dials: mpsc::Receiver<Multiaddr>,
    connected: watch::Sender<HashSet<PeerId>>,
    connections: watch::Sender<usize>,
) {
    loop {
        tokio::select! {
            Some(address) = dials.recv() => swarm.dial(address).unwrap(),
            event = swarm.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                    connected.send_modify(|peers| { peers.insert(peer_id); });
                    connections.send_modify(|count| *count += 1);
                }
                SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
                    connected.send_modify(|peers| { peers.remove(&peer_id); });
                }
                _ => {}
            }
        }
    }
}

impl Host {
    /// Connects to another host and returns when both know.
    pub async fn connect(&self, other: &Host) {
        self.dials.send(other.address.clone()).await.unwrap();
        self.until(|peers| peers.contains(&other.peer)).await;
        other.until(|peers| peers.contains(&self.peer)).await;
    }

    /// Opens one more connection to a host that is connected already.
    pub async fn connect_again(&self, other: &Host) {
        let before = *other.connections.borrow();
        self.dials.send(other.address.clone()).await.unwrap();
        let mut connections = other.connections.clone();
        soon(connections.wait_for(|now| *now > before)).await.unwrap();
    }

    /// Waits until the set of connected peers is as it should be.
    pub async fn until(&self, condition: impl Fn(&HashSet<PeerId>) -> bool) {
        let mut connected = self.connected.clone();
        soon(connected.wait_for(|peers| condition(peers))).await.unwrap();
    }
}

/// A node with content.
pub struct Node {
    pub host: Host,
    pub content: Content,
    pub dir: TempDir,
}

pub async fn node() -> Node {
    let dir = tempfile::tempdir().unwrap();
    let (content, behaviour) = Content::open(dir.path(), &tokio::runtime::Handle::current()).unwrap();
    Node { host: host(behaviour).await, content, dir }
}

pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(SOON, future).await.expect("it should have happened by now")
}

/// A raw block of random bytes.
pub fn random_block(rng: &mut fastrand::Rng, size: usize) -> Block {
    let mut data = vec![0; size];
    rng.fill(&mut data);
    Block::encode(RAW, data).unwrap()
}

/// Shows a figure of the development profile, with `--nocapture`; not a test.
pub fn figure(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
