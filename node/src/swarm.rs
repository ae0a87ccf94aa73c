//! The swarm driver: connections, the streams of the task protocol, and round trips.
//!
//! One task drives libp2p. What peers say goes from their connections straight to the loop: one that falls behind makes the
//! connections stop reading, so a fast peer cannot fill memory.

use bytes::Bytes;
use futures::StreamExt;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, identify, noise, ping, tcp, yamux};
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

#[derive(NetworkBehaviour)]
struct Protocols {
    limits: connection_limits::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    exchange: exchange::Behaviour,
    tasks: frames::Behaviour<TaskCodec>,
}

/// The swarm, listening, and not yet run.
pub(crate) struct Driver {
    swarm: Swarm<Protocols>,
    sender: frames::Sender,
    events: mpsc::Receiver<frames::Event<Heard>>,
    counters: Arc<Counters>,
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
            .with_behaviour(|key| Protocols {
                limits: connection_limits::Behaviour::new(limits),
                identify: identify::Behaviour::new(
                    identify::Config::new("ipfs/0.1.0".into(), key.public()).with_agent_version(agent),
                ),
                ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_EVERY).with_timeout(PING_WAIT)),
                exchange,
                tasks,
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
        Ok(Driver { swarm, sender, events, counters })
    }

    /// Runs until `outputs` closes. What peers say comes from what is returned, for [`heard`]; round trips go to `work`, which
    /// may be full; this node's own addresses to `own`.
    pub fn run(
        self,
        outputs: mpsc::Receiver<Output>,
        work: WorkSender,
        own: mpsc::Sender<Input>,
    ) -> mpsc::Receiver<frames::Event<Heard>> {
        let Driver { swarm, sender, events, counters } = self;
        tokio::spawn(drive(swarm, sender, outputs, work, own, counters));
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

async fn drive(
    mut swarm: Swarm<Protocols>,
    sender: frames::Sender,
    mut outputs: mpsc::Receiver<Output>,
    work: WorkSender,
    own: mpsc::Sender<Input>,
    counters: Arc<Counters>,
) {
    let mut addrs = BTreeSet::new();
    loop {
        let input = tokio::select! {
            output = outputs.recv() => match output {
                None => return,
                Some(output) => { carry_out(&mut swarm, &sender, output, &counters); None }
            },
            event = swarm.select_next_some() => hear(event, &mut addrs, swarm.local_peer_id()),
        };
        let ended = match input {
            None => false,
            // The loop takes no work while this driver's own queue is full: it must not wait for the loop here. A round
            // trip is measured again soon.
            Some(input @ Input::Rtt { .. }) => !work.try_send(input),
            Some(input) => own.send(input).await.is_err(),
        };
        if ended {
            return;
        }
    }
}

fn carry_out(swarm: &mut Swarm<Protocols>, sender: &frames::Sender, output: Output, counters: &Counters) {
    match output {
        Output::Send { to, message } => send(sender, &to, &Frame::Message(message), counters),
        Output::SendAdverts { to, sealed } => {
            let sealed = sealed.into_iter().map(serde_bytes::ByteBuf::from).collect();
            send(sender, &to, &Frame::Adverts(sealed), counters);
        }
        Output::SendReceipts { to, query, sealed } => {
            let sealed = sealed.into_iter().map(serde_bytes::ByteBuf::from).collect();
            send(sender, &to, &Frame::Receipts { query, sealed }, counters);
        }
        Output::Dial { peer, addrs } => {
            let addrs: Vec<Multiaddr> = addrs.iter().filter_map(|addr| addr.parse().ok()).collect();
            let opts = match peer.as_ref().and_then(peer_of) {
                Some(peer) => {
                    DialOpts::peer_id(peer).addresses(addrs).condition(PeerCondition::DisconnectedAndNotDialing).build()
                }
                None => match addrs.into_iter().next() {
                    Some(addr) => DialOpts::from(addr),
                    None => return,
                },
            };
            if let Err(why) = swarm.dial(opts) {
                tracing::debug!(%why, "not dialled");
            }
        }
        _ => {}
    }
}

fn send(sender: &frames::Sender, to: &NodeId, frame: &Frame, counters: &Counters) {
    let Some(peer) = peer_of(to) else { return };
    match sender.try_send(&peer, Bytes::from(frame.encode())) {
        Ok(()) => Counters::count(&counters.messages_out),
        Err(why) => {
            Counters::count(&counters.messages_dropped);
            tracing::debug!(%peer, %why, "message dropped");
        }
    }
}

fn hear(event: SwarmEvent<ProtocolsEvent>, addrs: &mut BTreeSet<Multiaddr>, me: &PeerId) -> Option<Input> {
    match event {
        SwarmEvent::NewListenAddr { address, .. } => {
            tracing::info!(%address, "listening");
            addrs.insert(address);
        }
        SwarmEvent::ExpiredListenAddr { address, .. } => {
            addrs.remove(&address);
        }
        SwarmEvent::Behaviour(ProtocolsEvent::Ping(ping::Event { peer, result: Ok(rtt), .. })) => {
            return node_of(&peer).map(|peer| Input::Rtt { peer, us: rtt.as_micros() as u64 });
        }
        SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => {
            tracing::debug!(?peer_id, %error, "could not connect");
            return None;
        }
        _ => return None,
    }
    let named = addrs.iter().map(|addr| format!("{addr}/p2p/{me}")).collect();
    Some(Input::Listening { addrs: named })
}
