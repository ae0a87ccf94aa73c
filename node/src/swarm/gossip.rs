//! Gossip: the topics that a node listens to, and what it passes on.
//!
//! A node listens to its own two topics, to the members topic, and to those of the nodes that it writes to and is not
//! connected with. The last tells others that somebody wants to reach a node through them: a member listens to a trusted
//! node's topic when a peer other than that node does, so that the wish travels as far as it has to. A key that it lets ask
//! in its place is reached through this node alone, which listens to that key's topics when anybody does. What is passed on is
//! at least an envelope or an advert, for its topic, good, of bounded size and new, and within the pace of whoever brings
//! it; peers that bring anything else lose their standing.

use libp2p::PeerId;
use libp2p::gossipsub::{
    Behaviour, ConfigBuilder, IdentTopic, IdentityTransform, MaxCountSubscriptionFilter, Message, MessageAcceptance,
    MessageAuthenticity, MessageId, PeerScoreParams, PeerScoreThresholds, PublishError, TopicHash, TopicScoreParams,
    TopicSubscriptionFilter, ValidationMode,
};
use libp2p::identity::Keypair;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};
use timerose_core::capability::Advert;
use timerose_core::envelope::{Envelope, Lane, TOPICS};
use timerose_core::id::{DAG_CBOR, NodeId, cid_of};
use timerose_core::record::Verified;

use super::limits::Limits;
use crate::delegates::Delegates;
use crate::keys::{node_of, open_verified, peer_of, wall_clock};
use crate::net::TopicKind;

/// Where members say that they are there. One topic for all regions: a newcomer must hear them before it knows their
/// names, and 2,000 members say 33 things a second.
const MEMBERS: &str = "timerose/1/members";
/// The largest message on a topic: an envelope with its gossip around it.
const TRANSMIT_MAX: usize = 64 * 1024;
/// Messages that wait for one peer; further ones are dropped and come again.
const PEER_QUEUE: usize = 512;
/// Topics of one peer that are noticed.
const PEER_TOPICS_MAX: usize = 4096;
/// Topics that are joined to write to nodes; the one that was used longest ago is left.
const WRITTEN_MAX: usize = 256;
/// How long a topic stays joined after the last letter.
const WRITTEN_FOR: Duration = Duration::from_secs(600);
/// Topics that are joined because a peer wants to reach somebody; further ones are not.
const RELAYED_MAX: usize = 512;
/// How long such a topic stays joined after the last envelope. Longer than its writer stays, whose next joining is what makes
/// those between join again.
const RELAYED_FOR: Duration = Duration::from_secs(2 * WRITTEN_FOR.as_secs());
/// Envelopes that are remembered, so that the same bytes are not passed on twice.
const SEEN_MAX: usize = 8192;

/// The behaviour, with topics of ours alone.
pub(crate) type Gossip = Behaviour<IdentityTransform, MaxCountSubscriptionFilter<OurTopics>>;

/// Other topics are none of ours: nobody makes a node keep track of them.
pub(crate) struct OurTopics;

impl TopicSubscriptionFilter for OurTopics {
    fn can_subscribe(&mut self, topic: &TopicHash) -> bool {
        topic.as_str() == MEMBERS || node_of_topic(topic.as_str()).is_some()
    }
}

/// Gossip that works from 2 to 2,000 nodes.
pub(crate) fn behaviour(key: &Keypair) -> Result<Gossip, String> {
    let config = ConfigBuilder::default()
        // Below the usual 5 a mesh of few nodes would be short of peers for ever.
        .mesh_n(4)
        .mesh_n_low(2)
        .mesh_n_high(8)
        .mesh_outbound_min(1)
        // Own messages go to every peer that listens: two nodes need no heartbeat to reach each other.
        .flood_publish(true)
        .max_transmit_size(TRANSMIT_MAX)
        .connection_handler_queue_len(PEER_QUEUE)
        // Foreign nodes pass on signed messages only. An id is the source and its number, so that a letter that is sent
        // again is not taken for one that was passed on already.
        .validation_mode(ValidationMode::Strict)
        .message_id_fn(|message| {
            // Peers name messages to each other by it, so it has to be the usual one to the byte.
            let source = message.source.map(|source| source.to_bytes()).unwrap_or_default();
            MessageId::from([source, message.sequence_number.unwrap_or_default().to_be_bytes().to_vec()].concat())
        })
        .validate_messages()
        .build()
        .map_err(|e| e.to_string())?;
    let filter = MaxCountSubscriptionFilter {
        filter: OurTopics,
        max_subscribed_topics: PEER_TOPICS_MAX,
        max_subscriptions_per_request: PEER_TOPICS_MAX,
    };
    let mut gossip = Behaviour::new_with_subscription_filter(MessageAuthenticity::Signed(key.clone()), config, filter)?;
    let score = PeerScoreParams {
        // Many nodes of one machine or one office are the rule here.
        ip_colocation_factor_weight: 0.0,
        // What a peer loses by bringing too much is given in full.
        app_specific_weight: 1.0,
        // A peer may be clumsy now and then: nodes join and leave topics as they write.
        behaviour_penalty_threshold: 6.0,
        behaviour_penalty_decay: 0.9,
        ..PeerScoreParams::default()
    };
    gossip.with_peer_score(score, PeerScoreThresholds::default())?;
    Ok(gossip)
}

/// A peer is judged by what it passes on that is nothing of ours. How much it brings is the matter of [`Limits`].
fn judged() -> TopicScoreParams {
    TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.0,
        first_message_deliveries_weight: 0.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        // Nine in a row and a peer is not listened to for some seconds.
        invalid_message_deliveries_weight: -1.0,
        invalid_message_deliveries_decay: 0.9,
        ..TopicScoreParams::default()
    }
}

fn node_of_topic(topic: &str) -> Option<(NodeId, Lane)> {
    let (kind, node) = topic.strip_prefix(TOPICS)?.split_once('/')?;
    let lane = match kind {
        "tasks" => Lane::Tasks,
        "replies" => Lane::Replies,
        _ => return None,
    };
    Some((node.parse().ok()?, lane))
}

/// What is said on a topic, if it is one of ours.
pub(crate) fn kind_of(topic: &TopicHash) -> Option<TopicKind> {
    let topic = topic.as_str();
    if topic == MEMBERS {
        return Some(TopicKind::Members);
    }
    Some(kind_of_lane(node_of_topic(topic)?.1))
}

/// The kind of the topics of a lane.
pub(crate) fn kind_of_lane(lane: Lane) -> TopicKind {
    match lane {
        Lane::Tasks => TopicKind::Tasks,
        Lane::Replies => TopicKind::Replies,
    }
}

/// What became of a message that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was good.
    PassedOn,
    /// It was malformed, misplaced or replayed.
    Refused,
    /// It was over the pace of whoever brought it.
    Limited,
}

/// What a message on a topic is.
pub(crate) enum Said {
    /// An envelope for this node, still sealed.
    Envelope(PeerId, Vec<u8>),
    /// An advert whose signature is right.
    Advert(Verified<Advert>),
    /// Nothing for this node.
    Nothing,
}

/// The topics of a node, and who listens to those that matter to it.
pub(crate) struct Topics {
    me: NodeId,
    trust: BTreeSet<NodeId>,
    delegates: Delegates,
    connected: BTreeSet<PeerId>,
    /// The topics of trusted nodes that others want to reach, and when an envelope last came there.
    relayed: BTreeMap<String, Instant>,
    written: BTreeMap<String, Instant>,
    seen: Seen,
    limits: Limits,
    /// Peers whose standing suffers by what they brought over their pace.
    owing: BTreeSet<PeerId>,
}

impl Topics {
    /// Joins the topics that are a node's own.
    pub fn join(gossip: &mut Gossip, me: NodeId, trust: BTreeSet<NodeId>, delegates: Delegates) -> Topics {
        for topic in [MEMBERS.to_string(), Lane::Tasks.topic(&me), Lane::Replies.topic(&me)] {
            subscribe(gossip, &topic);
        }
        let (connected, relayed, written, seen, owing) = Default::default();
        Topics { me, trust, delegates, connected, relayed, written, seen, limits: Limits::new(Instant::now()), owing }
    }

    /// Publishes this node's advert. False if nobody has room for it; nothing where nobody is there to hear it.
    pub fn announce(&self, gossip: &mut Gossip, sealed: Vec<u8>) -> Option<bool> {
        match gossip.publish(TopicHash::from_raw(MEMBERS), sealed) {
            Ok(_) => Some(true),
            Err(PublishError::NoPeersSubscribedToTopic) => None,
            Err(why) => {
                tracing::debug!(%why, "nobody hears this node's advert");
                Some(false)
            }
        }
    }

    /// Publishes an envelope. False if nobody listens, or nobody has room: the letter comes again.
    pub fn publish(&mut self, gossip: &mut Gossip, to: &NodeId, peer: Option<PeerId>, lane: Lane, bytes: Vec<u8>) -> bool {
        let topic = lane.topic(to);
        if peer.is_none_or(|peer| !self.connected.contains(&peer)) {
            self.write_to(gossip, &topic);
        }
        self.seen.insert(&bytes);
        gossip.publish(TopicHash::from_raw(topic), bytes).inspect_err(|why| tracing::debug!(%why, %to, "not published")).is_ok()
    }

    /// Joins a topic so that those between know that somebody writes there.
    fn write_to(&mut self, gossip: &mut Gossip, topic: &str) {
        if self.written.insert(topic.to_string(), Instant::now()).is_none() {
            subscribe(gossip, topic);
        }
        if self.written.len() > WRITTEN_MAX
            && let Some(oldest) = self.written.iter().min_by_key(|(_, used)| **used).map(|(topic, _)| topic.clone())
        {
            self.written.remove(&oldest);
            self.leave_if_unused(gossip, &oldest);
        }
    }

    /// Leaves topics that were not used for long, and forgets peers that brought nothing over their pace.
    pub fn tidy(&mut self, gossip: &mut Gossip) {
        let written = self.written.extract_if(.., |_, used| used.elapsed() >= WRITTEN_FOR);
        let relayed = self.relayed.extract_if(.., |_, used| used.elapsed() >= RELAYED_FOR);
        for (topic, _) in written.chain(relayed).collect::<Vec<_>>() {
            self.leave_if_unused(gossip, &topic);
        }
        self.limits.tidy(Instant::now());
    }

    fn leave_if_unused(&self, gossip: &mut Gossip, topic: &str) {
        if !self.written.contains_key(topic) && !self.relayed.contains_key(topic) {
            gossip.unsubscribe(&IdentTopic::new(topic));
        }
    }

    /// A peer listens to a topic: perhaps it wants to reach a node through this one. Says whether it is the members topic.
    pub fn listens(&mut self, gossip: &mut Gossip, peer: PeerId, topic: &TopicHash) -> bool {
        let topic = topic.as_str();
        let Some((node, _)) = node_of_topic(topic) else { return topic == MEMBERS };
        let trusted = self.trust.contains(&node) && peer_of(&node) != Some(peer);
        let wanted = node != self.me && (trusted || self.delegates.has(&node));
        if wanted && !self.relayed.contains_key(topic) && self.relayed.len() < RELAYED_MAX {
            self.relayed.insert(topic.to_string(), Instant::now());
            subscribe(gossip, topic);
        }
        false
    }

    /// A peer is connected.
    pub fn up(&mut self, peer: PeerId) {
        self.connected.insert(peer);
    }

    /// A peer is gone.
    pub fn gone(&mut self, peer: &PeerId) {
        self.connected.remove(peer);
    }

    /// Whether a message is looked at, or over the pace of whoever brings it; that costs the peer its standing.
    pub fn admits(&mut self, gossip: &mut Gossip, from: PeerId, author: Option<PeerId>) -> bool {
        let now = Instant::now();
        let friend = author.filter(|author| node_of(author).is_some_and(|node| self.trust.contains(&node)));
        let taken = match friend {
            Some(author) => self.limits.takes_of_friend(now, author),
            None => self.limits.takes_from(now, from),
        };
        let standing = self.limits.standing(now, &from);
        if !taken && standing < 0.0 {
            self.owing.insert(from);
            gossip.set_application_score(&from, standing);
        }
        taken
    }

    /// Whether any peer's standing suffers, and is to be looked at from time to time.
    pub fn owes(&self) -> bool {
        !self.owing.is_empty()
    }

    /// Gives peers their standing back as their arrears are worked off.
    pub fn forgive(&mut self, gossip: &mut Gossip) {
        let now = Instant::now();
        self.owing.retain(|peer| {
            let standing = self.limits.standing(now, peer);
            gossip.set_application_score(peer, standing);
            standing < 0.0
        });
    }

    /// What a message is, and whether it is passed on.
    pub fn judge(&mut self, message: Message) -> (Said, MessageAcceptance) {
        let Some(author) = message.source else { return (Said::Nothing, MessageAcceptance::Reject) };
        if message.topic.as_str() == MEMBERS {
            return match open_verified::<Advert>(&message.data) {
                Ok(_) if !self.seen.insert(&message.data) => (Said::Nothing, MessageAcceptance::Ignore),
                Ok(advert) if advert.is_sane() => (Said::Advert(advert), MessageAcceptance::Accept),
                _ => (Said::Nothing, MessageAcceptance::Reject),
            };
        }
        let Ok(envelope) = Envelope::peek(&message.data) else { return (Said::Nothing, MessageAcceptance::Reject) };
        if node_of_topic(message.topic.as_str()) != Some((envelope.to, envelope.lane)) {
            return (Said::Nothing, MessageAcceptance::Reject);
        }
        // Clocks differ, and gossip comes again: neither is a fault of who passed it on.
        if !envelope.is_good(wall_clock()) || !self.seen.insert(&message.data) {
            return (Said::Nothing, MessageAcceptance::Ignore);
        }
        if let Some(used) = self.relayed.get_mut(message.topic.as_str()) {
            *used = Instant::now();
        }
        let said = if envelope.to == self.me { Said::Envelope(author, message.data) } else { Said::Nothing };
        (said, MessageAcceptance::Accept)
    }
}

fn subscribe(gossip: &mut Gossip, topic: &str) {
    let topic = IdentTopic::new(topic);
    if let Err(why) = gossip.set_topic_params(topic.clone(), judged()) {
        tracing::debug!(%why, "a topic is not judged");
    }
    if let Err(why) = gossip.subscribe(&topic) {
        tracing::warn!(%why, %topic, "not subscribed");
    }
}

/// The addresses of the latest envelopes.
#[derive(Default)]
struct Seen {
    known: BTreeSet<Vec<u8>>,
    order: VecDeque<Vec<u8>>,
}

impl Seen {
    /// False if these bytes came already.
    fn insert(&mut self, bytes: &[u8]) -> bool {
        let address = cid_of(DAG_CBOR, bytes).hash().digest().to_vec();
        if !self.known.insert(address.clone()) {
            return false;
        }
        self.order.push_back(address);
        if self.order.len() > SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::identity::ed25519;

    #[test]
    fn one_peer_that_writes_to_a_trusted_node_makes_those_between_listen() {
        let mut gossip = behaviour(&Keypair::generate_ed25519()).expect("made");
        let (me, friend, stranger, page) = (NodeId([1; 32]), NodeId([2; 32]), NodeId([3; 32]), NodeId([4; 32]));
        let delegates = Delegates::new(ed25519::Keypair::generate().into());
        let mut topics = Topics::join(&mut gossip, me, [friend].into(), delegates.clone());
        let own = gossip.topics().count();
        let heard = |topics: &mut Topics, gossip: &mut Gossip, peer, node| {
            topics.listens(gossip, peer, &TopicHash::from_raw(Lane::Tasks.topic(&node)));
            gossip.topics().count() - own
        };
        let writer = PeerId::random();
        assert_eq!(heard(&mut topics, &mut gossip, peer_of(&friend).expect("a name"), friend), 0, "it listens to its own");
        assert_eq!(heard(&mut topics, &mut gossip, writer, stranger), 0, "nobody relays to strangers");
        assert_eq!(heard(&mut topics, &mut gossip, writer, friend), 1);
        assert_eq!(heard(&mut topics, &mut gossip, PeerId::random(), friend), 1, "once");
        let itself = peer_of(&page).expect("a name");
        assert_eq!(heard(&mut topics, &mut gossip, itself, page), 1, "nobody let it");
        delegates.delegate(page);
        assert_eq!(heard(&mut topics, &mut gossip, itself, page), 2, "its node alone can reach it");
    }
}
