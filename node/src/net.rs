//! What goes over the network, as the swarm sees it, and the handle by which the API asks for it.

use std::collections::BTreeMap;
use tokio::sync::{mpsc, oneshot};

/// Who asks for the figures; further ones wait with them.
const QUEUE: usize = 16;

/// Somebody who asks for the figures.
pub(crate) type Ask = oneshot::Sender<NetStat>;

/// The way to the swarm. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Net(mpsc::Sender<Ask>);

impl Net {
    /// The handle, and where questions arrive.
    pub fn new() -> (Net, mpsc::Receiver<Ask>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Net(sender), receiver)
    }

    /// The figures of now; nothing once the node ends.
    pub async fn stat(&self) -> Option<NetStat> {
        let (answer, answered) = oneshot::channel();
        self.0.send(answer).await.ok()?;
        answered.await.ok()
    }
}

/// The topics, all tasks topics in one and all replies topics in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TopicKind {
    /// Where members say that they are there.
    Members,
    /// Where executors are asked for work.
    Tasks,
    /// Where clients are answered.
    Replies,
}

impl TopicKind {
    /// All of them, in the order in which they are shown.
    pub const ALL: [TopicKind; 3] = [TopicKind::Members, TopicKind::Tasks, TopicKind::Replies];

    /// Its name in the API and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            TopicKind::Members => "members",
            TopicKind::Tasks => "tasks",
            TopicKind::Replies => "replies",
        }
    }
}

/// What went over topics of one kind since the node began. Bytes are those of messages, without gossip's own around them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TopicStat {
    /// Messages that came and were new to gossip.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Messages that this node published, and those of others that it passed on: each once, however many peers had it.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Own messages that found no listener or no room.
    pub dropped: u64,
    /// Messages of others that were malformed, misplaced or replayed.
    pub refused: u64,
    /// Messages that were over the pace of the peer that brought them, and were not looked at.
    pub limited: u64,
    /// Topics that this node listens to.
    pub joined: u64,
    /// Connected peers that listen, summed over the topics.
    pub listeners: u64,
    /// Peers in gossip's mesh, summed over the topics: they pass everything on at once.
    pub mesh: u64,
}

/// Connections of one transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Connections {
    /// That peers opened.
    pub inbound: u64,
    /// That this node opened.
    pub outbound: u64,
}

/// Whether peers of the public network can dial a node, as those found whom it asked (AutoNAT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reachable {
    /// Nobody has answered yet.
    Unknown,
    /// One has dialled it.
    Yes,
    /// One could not.
    No,
}

impl Reachable {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Reachable::Unknown => "unknown",
            Reachable::Yes => "yes",
            Reachable::No => "no",
        }
    }
}

/// The figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NetStat {
    /// Connected peers.
    pub peers: u64,
    /// Of them, those that are reached through a relay alone.
    pub peers_relayed: u64,
    /// Whether this node can be dialled; nothing where nobody is asked.
    pub reachable: Option<Reachable>,
    /// The protocol of the DHT.
    pub dht: String,
    /// Whether this node serves the DHT to others.
    pub dht_server: bool,
    /// Connections by transport, all transports in it.
    pub connections: BTreeMap<&'static str, Connections>,
    /// Peers that may be reached through this node as their relay.
    pub reservations: u64,
    /// Connections of others that go through this node as their relay.
    pub circuits: u64,
    /// Requests of Kademlia that came.
    pub kad_in: u64,
    /// Requests of Kademlia that this node made in queries that ended.
    pub kad_out: u64,
    /// Copies of gossip that were dropped because a peer was slow to take them.
    pub copies_dropped: u64,
    /// Topics in the order of [`TopicKind::ALL`].
    pub topics: [TopicStat; 3],
}

impl NetStat {
    /// The figures of one kind of topics.
    pub fn topic(&mut self, kind: TopicKind) -> &mut TopicStat {
        &mut self.topics[kind as usize]
    }
}
