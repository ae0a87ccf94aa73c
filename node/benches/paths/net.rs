//! Bare swarms on loopback: what a node's transport does without the node.

use bytes::Bytes;
use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, noise, tcp, yamux};
use std::sync::Arc;
use timerose_content::frames::{self, Codec, Config, Event, Sender};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// A running swarm; it ends with this.
pub struct Host {
    /// Its name.
    pub peer: PeerId,
    /// Where it listens, its name included.
    pub addr: Multiaddr,
    connected: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Host {
    /// Starts a swarm. It dials `other` where one is given.
    pub async fn start<B: NetworkBehaviour + Send>(keys: &Keypair, behaviour: B, other: Option<&Multiaddr>) -> Host
    where
        B::ToSwarm: Send,
    {
        let (mut swarm, addr) = listening(keys, behaviour).await;
        if let Some(other) = other {
            swarm.dial(other.clone()).expect("dialled");
        }
        let peer = *swarm.local_peer_id();
        let (tell, connected) = watch::channel(false);
        let task = tokio::spawn(async move {
            loop {
                if let SwarmEvent::ConnectionEstablished { .. } = swarm.select_next_some().await {
                    tell.send_replace(true);
                }
            }
        });
        Host { peer, addr: addr.with_p2p(peer).expect("an address without a name"), connected, task }
    }

    /// Waits for the first connection.
    pub async fn connected(&self) {
        self.connected.clone().wait_for(|connected| *connected).await.expect("it runs");
    }
}

/// A swarm with a node's transport (TCP, noise, yamux) that listens, and where.
pub async fn listening<B: NetworkBehaviour>(keys: &Keypair, behaviour: B) -> (Swarm<B>, Multiaddr) {
    let mut swarm: Swarm<B> = SwarmBuilder::with_existing_identity(keys.clone())
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .expect("a transport")
        .with_behaviour(|_| behaviour)
        .expect("a behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(std::time::Duration::from_secs(3600)))
        .build();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().expect("an address")).expect("it listens");
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return (swarm, address);
        }
    }
}

/// Frames as they are; the opening of a stream, where there is one, is sent and skipped.
pub struct Plain {
    /// What our streams open with.
    pub opening: Option<Bytes>,
}

impl Codec for Plain {
    type In = Bytes;
    fn opening(&self, _: &PeerId) -> Option<Bytes> {
        self.opening.clone()
    }
    fn decode(&self, _: &PeerId, first: bool, frame: Bytes) -> Result<Option<Bytes>, String> {
        Ok((!first || self.opening.is_none()).then_some(frame))
    }
}

/// One end of a protocol of frames.
pub struct End {
    pub host: Host,
    pub sender: Sender,
    pub events: mpsc::Receiver<Event<Bytes>>,
}

impl End {
    /// Starts a swarm that speaks `protocol`.
    pub async fn start(keys: &Keypair, protocol: &'static str, opening: Option<Bytes>, other: Option<&Multiaddr>) -> End {
        let config = Config {
            protocol: StreamProtocol::new(protocol),
            max_frame: 2 << 20,
            max_inbound_streams: 8,
            // As many as the exchange's.
            queue: 4,
            events: 4,
        };
        let (behaviour, sender, events) = frames::new(config, Arc::new(Plain { opening }));
        End { host: Host::start(keys, behaviour, other).await, sender, events }
    }

    /// Two ends that are connected, the second to the first.
    pub async fn pair() -> (End, End) {
        let keys = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let mut one = End::start(&keys.0, "/timerose/bench/1", None, None).await;
        let mut two = End::start(&keys.1, "/timerose/bench/1", None, Some(&one.host.addr)).await;
        one.ready().await;
        two.ready().await;
        (one, two)
    }

    /// Waits for the first connection.
    pub async fn ready(&mut self) {
        while !matches!(self.events.recv().await.expect("the swarm runs"), Event::Connected { .. }) {}
    }

    /// The next frame.
    pub async fn frame(&mut self) -> Bytes {
        loop {
            match self.events.recv().await.expect("the swarm runs") {
                Event::Message { message, .. } => return message,
                Event::Refused { why, .. } | Event::Dropped { why, .. } => panic!("{why}"),
                Event::Disconnected { .. } | Event::Unsupported { .. } => panic!("the other end is gone"),
                Event::Connected { .. } => {}
            }
        }
    }
}
