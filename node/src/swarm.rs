//! The swarm driver: connections, the streams of the task protocol, gossip, and round trips.
//!
//! One task drives libp2p. What peers say goes from their connections straight to the loop: one that falls behind makes the
//! connections stop reading, so a fast peer cannot fill memory. Messages go straight from the loop to the connections, each of
//! which has a bounded queue. Gossip has no such brake: what finds no room is dropped, and comes again.

use bytes::Bytes;
use futures::StreamExt;
use libp2p::Transport;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::upgrade::Version;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, Swarm, SwarmBuilder, gossipsub, identify, noise, ping, tcp, yamux};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use timerose_content::{exchange, frames};
use timerose_core::id::NodeId;
use timerose_core::io::{Input, Output};
use timerose_core::message::Frame;
use tokio::sync::mpsc;

use crate::config::{Config, StartError};
use crate::keys::{Keys, node_of, peer_of};
use crate::ports::{Counters, WorkSender};
use crate::wire::{self, Heard, TaskCodec};

mod gossip;
mod mail;
mod seal;

use gossip::{Gossip, Said, Topics};
use mail::{Mail, Ready};

/// Every connection of a node stays open: a mesh of nodes is not a public network with churn to save on.
const IDLE: Duration = Duration::from_secs(24 * 3600);
/// How often round trips are measured; it also finds out that a silent peer is gone.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_WAIT: Duration = Duration::from_secs(10);

/// Connections that one peer may have: two that dial each other at once have two.
const CONNECTIONS_PER_PEER: u32 = 4;
/// Connections that peers may have opened, in all; further ones are closed at once.
const CONNECTIONS_IN: u32 = 1024;
/// Connections that peers are opening at the same time.
const PENDING_IN: u32 = 128;
/// How often topics that nobody uses are left.
const TIDY_EVERY: Duration = Duration::from_secs(60);

#[derive(NetworkBehaviour)]
struct Protocols {
    limits: connection_limits::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    exchange: exchange::Behaviour,
    tasks: frames::Behaviour<TaskCodec>,
    gossip: Gossip,
}

/// The way to connected peers: a frame goes to the task of their connection, without a queue or a wake-up between. What finds
/// that connection's queue full is dropped, as on any network. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Outbox {
    sender: frames::Sender,
    counters: Arc<Counters>,
}

impl Outbox {
    /// Says something to a peer.
    pub fn send(&self, to: &NodeId, frame: &Frame) {
        let Some(peer) = peer_of(to) else { return };
        match self.sender.try_send(&peer, Bytes::from(frame.encode())) {
            Ok(()) => Counters::count(&self.counters.messages_out),
            Err(why) => {
                Counters::count(&self.counters.messages_dropped);
                tracing::debug!(%peer, %why, "message dropped");
            }
        }
    }
}

/// The swarm, listening, and not yet run.
pub(crate) struct Driver {
    swarm: Swarm<Protocols>,
    outbox: Outbox,
    events: mpsc::Receiver<frames::Event<Heard>>,
    counters: Arc<Counters>,
    keys: Keys,
    topics: Topics,
    listens: bool,
}

impl Driver {
    /// Builds the swarm and listens. Must be called inside a tokio runtime.
    pub fn new(
        config: &Config,
        keys: &Keys,
        exchange: exchange::Behaviour,
        counters: Arc<Counters>,
    ) -> Result<Driver, StartError> {
        let fail = |addr: &str, why: String| StartError::Listen { addr: addr.to_string(), why };
        let (tasks, sender, events) = frames::new(wire::config(), Arc::new(TaskCodec::new(keys.clone())));
        let limits = ConnectionLimits::default()
            .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER))
            .with_max_established_incoming(Some(CONNECTIONS_IN))
            .with_max_pending_incoming(Some(PENDING_IN));
        let agent = format!("timerose/{}", env!("CARGO_PKG_VERSION"));
        let mut swarm = SwarmBuilder::with_existing_identity(keys.keypair())
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
            .with_behaviour(|key| {
                Ok(Protocols {
                    limits: connection_limits::Behaviour::new(limits),
                    identify: identify::Behaviour::new(
                        identify::Config::new("ipfs/0.1.0".into(), key.public()).with_agent_version(agent),
                    ),
                    ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_EVERY).with_timeout(PING_WAIT)),
                    exchange,
                    tasks,
                    gossip: gossip::behaviour(key)?,
                })
            })
            .map_err(|e| fail("swarm", e.to_string()))?
            .with_swarm_config(|c| c.with_idle_connection_timeout(IDLE))
            .build();
        for addr in &config.join {
            parse(addr)?;
        }
        for addr in &config.listen {
            swarm.listen_on(parse(addr)?).map_err(|e| fail(addr, e.to_string()))?;
        }
        let topics = Topics::join(&mut swarm.behaviour_mut().gossip, keys.id(), config.trust.clone());
        let outbox = Outbox { sender, counters: counters.clone() };
        Ok(Driver { swarm, outbox, events, counters, keys: keys.clone(), topics, listens: !config.listen.is_empty() })
    }

    /// The way to connected peers.
    pub fn outbox(&self) -> Outbox {
        self.outbox.clone()
    }

    /// Runs until `outputs` closes. What peers say comes from what is returned, for [`heard`]; round trips and gossip go to `work`, which
    /// may be full; this node's own addresses to `own`.
    pub fn run(
        self,
        outputs: mpsc::Receiver<Output>,
        work: WorkSender,
        own: mpsc::Sender<Input>,
    ) -> mpsc::Receiver<frames::Event<Heard>> {
        let Driver { swarm, outbox, events, counters, keys, topics, listens } = self;
        let (mail, sealed) = Mail::start(&keys, work.clone(), counters.clone());
        let drive = Drive { swarm, outbox, topics, mail, work, own, counters, addrs: BTreeSet::new() };
        tokio::spawn(drive.run(outputs, sealed, listens));
        events
    }
}

fn parse(addr: &str) -> Result<Multiaddr, StartError> {
    addr.parse().map_err(|e| StartError::Address { addr: addr.to_string(), why: format!("{e}") })
}

/// What a peer said or did, as an input. Shallow: what was said was read and checked on the connection's task.
pub(crate) fn heard(event: frames::Event<Heard>, counters: &Counters) -> Option<Input> {
    match event {
        frames::Event::Connected { peer } => node_of(&peer).map(|peer| Input::PeerUp { peer }),
        frames::Event::Disconnected { peer } => node_of(&peer).map(|peer| Input::PeerGone { peer }),
        frames::Event::Message { message, .. } => {
            Counters::count(&counters.messages_in);
            Some(match message {
                Heard::Adverts(from, adverts) => Input::Adverts { from, adverts },
                Heard::Receipts(from, query, receipts) => Input::Receipts { from, query, receipts },
                Heard::Message(from, message) => Input::Message { from, message },
            })
        }
        frames::Event::Refused { peer, why } => {
            Counters::count(&counters.refused);
            tracing::warn!(%peer, why, "refused a stream");
            None
        }
        frames::Event::Unsupported { peer } => {
            tracing::debug!(%peer, "the peer is no TimeRose node");
            None
        }
        frames::Event::Dropped { peer, why } => {
            Counters::count(&counters.messages_dropped);
            tracing::debug!(%peer, why, "messages to a peer may be lost");
            None
        }
    }
}

/// The task that drives libp2p.
struct Drive {
    swarm: Swarm<Protocols>,
    outbox: Outbox,
    topics: Topics,
    mail: Mail,
    work: WorkSender,
    own: mpsc::Sender<Input>,
    counters: Arc<Counters>,
    addrs: BTreeSet<Multiaddr>,
}

impl Drive {
    async fn run(mut self, mut outputs: mpsc::Receiver<Output>, mut sealed: mpsc::Receiver<Ready>, listens: bool) {
        let mut tidy = tokio::time::interval(TIDY_EVERY);
        // A node that listens nowhere has all its addresses already.
        let mut input = (!listens).then(|| Input::Listening { addrs: Vec::new() });
        loop {
            if let Some(input) = input.take()
                && self.own.send(input).await.is_err()
            {
                return;
            }
            tokio::select! {
                output = outputs.recv() => match output {
                    None => return,
                    Some(output) => self.carry_out(output),
                },
                Some(ready) = sealed.recv() => self.publish(ready),
                _ = tidy.tick() => self.topics.tidy(&mut self.swarm.behaviour_mut().gossip),
                event = self.swarm.select_next_some() => input = self.hear(event),
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::SendAdverts { to, sealed } => {
                let sealed = sealed.into_iter().map(serde_bytes::ByteBuf::from).collect();
                self.outbox.send(&to, &Frame::Adverts(sealed));
            }
            Output::SendReceipts { to, query, sealed } => {
                let sealed = sealed.into_iter().map(serde_bytes::ByteBuf::from).collect();
                self.outbox.send(&to, &Frame::Receipts { query, sealed });
            }
            Output::Post(post) => self.mail.send(post),
            Output::Announce { sealed } => self.topics.announce(&mut self.swarm.behaviour_mut().gossip, sealed),
            Output::Dial { peer, addrs } => self.dial(peer, &addrs),
            _ => {}
        }
    }

    fn dial(&mut self, peer: Option<NodeId>, addrs: &[String]) {
        let addrs: Vec<Multiaddr> = addrs.iter().filter_map(|addr| addr.parse().ok()).collect();
        let opts = match peer.as_ref().and_then(peer_of) {
            Some(peer) => DialOpts::peer_id(peer).addresses(addrs).condition(PeerCondition::DisconnectedAndNotDialing).build(),
            None => match addrs.into_iter().next() {
                Some(addr) => DialOpts::from(addr),
                None => return,
            },
        };
        if let Err(why) = self.swarm.dial(opts) {
            tracing::debug!(%why, "not dialled");
        }
    }

    fn publish(&mut self, ready: Ready) {
        let Ready { to, lane, bytes } = ready;
        let sent = self.topics.publish(&mut self.swarm.behaviour_mut().gossip, &to, peer_of(&to), lane, bytes);
        Counters::count(if sent { &self.counters.envelopes_out } else { &self.counters.envelopes_dropped });
    }

    /// What the loop must hear of an event. Round trips and gossip may get lost: the loop takes no work while this
    /// driver's own queue is full, so this driver must not wait for it.
    fn hear(&mut self, event: SwarmEvent<ProtocolsEvent>) -> Option<Input> {
        match event {
            SwarmEvent::NewListenAddr { address, .. } => {
                tracing::info!(%address, "listening");
                self.addrs.insert(address);
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.addrs.remove(&address);
            }
            SwarmEvent::Behaviour(ProtocolsEvent::Ping(ping::Event { peer, result: Ok(rtt), .. })) => {
                let peer = node_of(&peer)?;
                let _ = self.work.try_send(Input::Rtt { peer, us: rtt.as_micros() as u64 });
                return None;
            }
            SwarmEvent::Behaviour(ProtocolsEvent::Gossip(event)) => {
                self.gossip(event);
                return None;
            }
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                self.topics.up(peer_id);
                return None;
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
                self.topics.gone(&peer_id);
                return None;
            }
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => {
                tracing::debug!(?peer_id, %error, "could not connect");
                return None;
            }
            _ => return None,
        }
        let me = self.swarm.local_peer_id();
        let addrs = self.addrs.iter().map(|addr| format!("{addr}/p2p/{me}")).collect();
        Some(Input::Listening { addrs })
    }

    fn gossip(&mut self, event: gossipsub::Event) {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        match event {
            gossipsub::Event::Message { propagation_source, message_id, message } => {
                let (said, judgement) = self.topics.judge(message);
                if !matches!(judgement, gossipsub::MessageAcceptance::Accept) {
                    Counters::count(&self.counters.gossip_refused);
                    tracing::debug!(peer = %propagation_source, "gossip was not passed on");
                }
                gossip.report_message_validation_result(&message_id, &propagation_source, judgement);
                match said {
                    Said::Envelope(author, bytes) => self.mail.receive(author, bytes),
                    Said::Advert(advert) => drop(self.work.try_send(Input::Heard { advert })),
                    Said::Nothing => {}
                }
            }
            gossipsub::Event::Subscribed { peer_id, topic } if self.topics.listens(gossip, peer_id, &topic) => {
                let _ = self.work.try_send(Input::Audience);
            }
            gossipsub::Event::Subscribed { .. } => {}
            gossipsub::Event::Unsubscribed { peer_id, topic } => self.topics.listens_no_more(&peer_id, &topic),
            gossipsub::Event::SlowPeer { peer_id, .. } => tracing::debug!(peer = %peer_id, "gossip for a peer was dropped"),
            gossipsub::Event::GossipsubNotSupported { .. } => {}
        }
    }
}
