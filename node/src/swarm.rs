//! The swarm driver: connections, the streams of the task protocol, gossip, and round trips.
//!
//! One task drives libp2p. What peers say goes from their connections straight to the loop: one that falls behind makes the
//! connections stop reading, so a fast peer cannot fill memory. Messages go straight from the loop to the connections, each of
//! which has a bounded queue. Gossip has no such brake: what finds no room is dropped, and comes again.

use bytes::Bytes;
use futures::StreamExt;
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::SwarmEvent;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, Swarm, autonat, gossipsub, identify, kad, ping};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use timerose_content::{exchange, frames};
use timerose_core::id::NodeId;
use timerose_core::io::{Input, Output};
use timerose_core::message::Frame;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use crate::announce::Announcements;
use crate::config::{Config, Reach, StartError};
use crate::delegates::Delegates;
use crate::finder::Find;
use crate::keys::{Keys, node_of, peer_of};
use crate::net::{Ask, Net, Reachable, TopicKind};
use crate::ports::{Counters, WorkSender};
use crate::wire::{self, Heard, TaskCodec};

mod build;
mod dht;
mod faults;
mod gossip;
mod limits;
mod mail;
mod routing;
mod seal;
mod traffic;
mod ways;

use build::{Protocols, ProtocolsEvent};
use faults::Faulty;
use gossip::{Fate, Said, Topics, kind_of, kind_of_lane};
use mail::{Mail, Ready};
use routing::Routing;
use traffic::Traffic;
use ways::{LOOK_EVERY, Step, Ways};

/// How often topics that nobody uses are left.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// How often the standing of peers that brought too much gossip is looked at.
const FORGIVE_EVERY: Duration = Duration::from_secs(1);
/// How often a relay is tried again that this node is not reached through.
const RELAY_AGAIN: Duration = Duration::from_secs(5);

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
        let bytes = Bytes::from(frame.encode());
        let length = bytes.len();
        match self.sender.try_send(&peer, bytes) {
            Ok(()) => {
                Counters::count(&self.counters.messages_out);
                Counters::add(&self.counters.message_bytes_out, length);
            }
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
    delegates: Delegates,
    routing: Routing,
    relays: Relays,
    reach: Reach,
    faults: Faulty,
    listens: bool,
}

/// The relays that this node is to be reached through, each with the listener that stands there.
type Relays = BTreeMap<Multiaddr, Option<ListenerId>>;

impl Driver {
    /// Builds the swarm and listens. Must be called inside a tokio runtime.
    pub fn new(
        config: &Config,
        keys: &Keys,
        exchange: exchange::Behaviour,
        counters: Arc<Counters>,
        announcements: Announcements,
    ) -> Result<Driver, StartError> {
        let fail = |addr: &str, why: String| StartError::Listen { addr: addr.to_string(), why };
        let (tasks, sender, events) = frames::new(wire::config(), Arc::new(TaskCodec::new(keys.clone(), counters.clone())));
        let mut swarm = build::swarm(config, keys, exchange, tasks)?;
        for addr in &config.join {
            parse(addr)?;
        }
        let mut relays = BTreeMap::new();
        for addr in &config.listen {
            let parsed = parse(addr)?;
            let listener = swarm.listen_on(parsed.clone()).map_err(|e| fail(addr, e.to_string()))?;
            if parsed.iter().any(|part| part == Protocol::P2pCircuit) {
                relays.insert(parsed, Some(listener));
            }
        }
        let delegates = Delegates::new(keys.clone());
        let topics = Topics::join(&mut swarm.behaviour_mut().gossip, keys.id(), config.trust.clone(), delegates.clone());
        let routing = Routing::new(announcements, config.reach.public && !config.faults.island);
        let outbox = Outbox { sender, counters: counters.clone() };
        let (faults, listens) = (Faulty::new(config.faults), !config.listen.is_empty());
        let (keys, reach) = (keys.clone(), config.reach);
        Ok(Driver { swarm, outbox, events, counters, keys, topics, delegates, routing, relays, reach, faults, listens })
    }

    /// The way to connected peers.
    pub fn outbox(&self) -> Outbox {
        self.outbox.clone()
    }

    /// Who may ask in this node's place.
    pub fn delegates(&self) -> Delegates {
        self.delegates.clone()
    }

    /// Runs until `outputs` closes. What peers say comes from what is returned, for [`heard`]; round trips and gossip go to `work`, which
    /// may be full; this node's own addresses to `own`. Look-ups come by `finds`. Gives the
    /// handle by which the figures are asked for as well.
    pub fn run(
        self,
        outputs: mpsc::Receiver<Output>,
        finds: mpsc::Receiver<Find>,
        work: WorkSender,
        own: mpsc::Sender<Input>,
    ) -> (mpsc::Receiver<frames::Event<Heard>>, Net) {
        let Driver { swarm, outbox, events, counters, keys, topics, routing, relays, reach, faults, listens, .. } = self;
        let (mail, sealed) = Mail::start(&keys, work.clone(), counters.clone());
        let (net, asks) = Net::new();
        let (addrs, mut traffic, ways, somebody): (_, Traffic, _, _) = Default::default();
        if reach.public {
            traffic.reachable(Reachable::Unknown);
        }
        let drive = Drive {
            swarm,
            outbox,
            topics,
            routing,
            relays,
            reach,
            faults,
            mail,
            work,
            own,
            counters,
            addrs,
            traffic,
            ways,
            somebody,
        };
        tokio::spawn(drive.run(outputs, finds, asks, sealed, listens));
        (events, net)
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
    routing: Routing,
    relays: Relays,
    reach: Reach,
    faults: Faulty,
    mail: Mail,
    work: WorkSender,
    own: mpsc::Sender<Input>,
    counters: Arc<Counters>,
    addrs: BTreeSet<Multiaddr>,
    traffic: Traffic,
    ways: Ways,
    /// Whether anybody of the DHT was met.
    somebody: bool,
}

impl Drive {
    async fn run(
        mut self,
        mut outputs: mpsc::Receiver<Output>,
        mut finds: mpsc::Receiver<Find>,
        mut asks: mpsc::Receiver<Ask>,
        mut sealed: mpsc::Receiver<Ready>,
        listens: bool,
    ) {
        let mut tidy = tokio::time::interval(TIDY_EVERY);
        let mut again = tokio::time::interval(RELAY_AGAIN);
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut forgive = tokio::time::interval(FORGIVE_EVERY);
        forgive.set_missed_tick_behavior(MissedTickBehavior::Delay);
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
                Some(find) = finds.recv() => self.routing.find(&mut self.swarm, find),
                Some(answer) = asks.recv() => self.tell(answer),
                () = self.routing.due(self.somebody) => self.routing.announce(&mut self.swarm.behaviour_mut().kad),
                _ = again.tick(), if !self.relays.is_empty() => self.relay_again(|_| true),
                _ = look.tick(), if self.ways.relayed() => self.straighten(),
                _ = forgive.tick(), if self.topics.owes() => self.topics.forgive(&mut self.swarm.behaviour_mut().gossip),
                _ = tidy.tick() => {
                    self.topics.tidy(&mut self.swarm.behaviour_mut().gossip);
                    self.routing.tidy(&mut self.swarm.behaviour_mut().kad);
                }
                event = self.swarm.select_next_some() => {
                    self.traffic.note(&event);
                    self.ways.note(&event);
                    input = self.hear(event);
                }
            }
        }
    }

    /// Answers whoever asks for the figures.
    fn tell(&self, answer: Ask) {
        let Protocols { gossip, kad, .. } = self.swarm.behaviour();
        // Whoever asked may be gone.
        let _ = answer.send(self.traffic.stat(gossip, kad));
    }

    /// Opens ways to peers through relays anew, and lets go of those that are needed no more.
    fn straighten(&mut self) {
        for step in self.ways.due(Instant::now()) {
            match step {
                Step::Close(id) => drop(self.swarm.close_connection(id)),
                Step::Dial(peer, addr) => {
                    let opts = DialOpts::peer_id(peer).addresses(vec![addr]).condition(PeerCondition::Always).build();
                    if let Err(why) = self.swarm.dial(opts) {
                        tracing::debug!(%peer, %why, "not dialled anew");
                    }
                }
            }
        }
    }

    /// Peers have found whether this node can be dialled.
    fn reached(&mut self, status: &autonat::v1::NatStatus) {
        let reachable = match status {
            autonat::v1::NatStatus::Public(_) => Reachable::Yes,
            autonat::v1::NatStatus::Private => Reachable::No,
            autonat::v1::NatStatus::Unknown => Reachable::Unknown,
        };
        tracing::info!(reachable = reachable.name(), "peers say whether this node can be dialled");
        self.traffic.reachable(reachable);
        self.swarm.behaviour_mut().kad.set_mode(Some(dht::mode(self.reach, reachable)));
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
            Output::Announce { sealed } => {
                let bytes = sealed.len();
                if let Some(sent) = self.topics.announce(&mut self.swarm.behaviour_mut().gossip, sealed) {
                    self.traffic.published(TopicKind::Members, bytes, sent);
                }
            }
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
        if !self.faults.speaks() {
            return;
        }
        let length = bytes.len();
        let sent = self.topics.publish(&mut self.swarm.behaviour_mut().gossip, &to, peer_of(&to), lane, bytes);
        self.traffic.published(kind_of_lane(lane), length, sent);
        Counters::count(if sent { &self.counters.envelopes_out } else { &self.counters.envelopes_dropped });
    }

    /// What the loop must hear of an event. Round trips and gossip may get lost: the loop takes no work while this
    /// driver's own queue is full, so this driver must not wait for it.
    fn hear(&mut self, event: SwarmEvent<ProtocolsEvent>) -> Option<Input> {
        match event {
            SwarmEvent::NewListenAddr { address, .. } => {
                tracing::info!(%address, "listening");
                if self.reach.relay {
                    // Whoever waits at a relay tells others where that is.
                    self.swarm.add_external_address(address.clone());
                }
                self.addrs.insert(address);
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                for (relay, listener) in self.relays.iter_mut().filter(|(_, listener)| **listener == Some(listener_id)) {
                    *listener = None;
                    tracing::warn!(%relay, ?reason, "not reached through the relay; tried again");
                }
                return None;
            }
            SwarmEvent::Behaviour(ProtocolsEvent::Identify(identify::Event::Received { peer_id, info, .. })) => {
                self.routing.met(&mut self.swarm.behaviour_mut().kad, peer_id, info);
                return None;
            }
            SwarmEvent::Behaviour(ProtocolsEvent::Autonat(autonat::v1::Event::StatusChanged { new, .. })) => {
                self.reached(&new);
                return None;
            }
            SwarmEvent::Behaviour(ProtocolsEvent::Kad(kad::Event::RoutingUpdated { .. })) => {
                self.somebody = true;
                return None;
            }
            SwarmEvent::Behaviour(ProtocolsEvent::Kad(event)) => {
                self.routing.hear(&mut self.swarm, event);
                return None;
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
                self.routing.dialled(&self.swarm, &peer_id);
                // A listener ends unasked if it comes while its relay is being dialled for another reason.
                self.relay_again(|relay| relay.iter().any(|part| part == Protocol::P2p(peer_id)));
                return None;
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
                self.topics.gone(&peer_id);
                return None;
            }
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => {
                tracing::debug!(?peer_id, %error, "could not connect");
                if let Some(peer) = peer_id {
                    self.routing.dialled(&self.swarm, &peer);
                }
                return None;
            }
            _ => return None,
        }
        let me = self.swarm.local_peer_id();
        // Addresses by a relay end in it already.
        let full = |addr: &Multiaddr| addr.clone().with_p2p(*me).unwrap_or_else(|same| same).to_string();
        Some(Input::Listening { addrs: self.addrs.iter().map(full).collect() })
    }

    /// Asks those relays once more that this node is not reached through.
    fn relay_again(&mut self, which: impl Fn(&Multiaddr) -> bool) {
        for (relay, listener) in self.relays.iter_mut().filter(|(relay, listener)| listener.is_none() && which(relay)) {
            *listener = self.swarm.listen_on(relay.clone()).ok();
        }
    }

    fn gossip(&mut self, event: gossipsub::Event) {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        match event {
            gossipsub::Event::Message { propagation_source, message_id, message } => {
                let (kind, bytes) = (kind_of(&message.topic), message.data.len());
                let hears = self.faults.hears();
                let admitted = !hears || self.topics.admits(gossip, propagation_source, message.source);
                let (said, judgement) = match hears && admitted {
                    true => self.topics.judge(message),
                    false => (Said::Nothing, gossipsub::MessageAcceptance::Ignore),
                };
                let fate = match judgement {
                    _ if !admitted => Fate::Limited,
                    gossipsub::MessageAcceptance::Accept => Fate::PassedOn,
                    _ => Fate::Refused,
                };
                if let Some(kind) = kind {
                    self.traffic.came(kind, bytes, fate);
                }
                if fate != Fate::PassedOn {
                    tracing::debug!(peer = %propagation_source, ?fate, "gossip was not passed on");
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
            gossipsub::Event::Subscribed { .. } | gossipsub::Event::Unsubscribed { .. } => {}
            gossipsub::Event::SlowPeer { peer_id, .. } => tracing::debug!(peer = %peer_id, "gossip for a peer was dropped"),
            gossipsub::Event::GossipsubNotSupported { .. } => {}
        }
    }
}
