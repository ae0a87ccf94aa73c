//! The PubSub channel: letters to members that no stream reaches, acknowledged, repeated and taken once.
//!
//! Gossip loses messages, repeats them and keeps no order. Above it, each letter has a number; it is sent again, after
//! 250 ms and then at doubling pauses up to 5 s, until its number is acknowledged. The receiver takes each number of a
//! sender's life once. What is said is the same as on a stream, and like there a message may be lost: whoever needs an
//! answer keeps a timer.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use crate::envelope::{ACKS_MAX, Lane, Letter, Opened, Post};
use crate::id::{Instant, MILLISECOND, NodeId, SECOND};
use crate::io::Output;
use crate::message::Message;
use crate::timers::Timers;

/// The first pause before a letter is sent again, doubling up to [`PAUSE_MAX`].
const PAUSE: Instant = 250 * MILLISECOND;
const PAUSE_MAX: Instant = 5 * SECOND;
/// How long a letter is kept for a recipient that does not acknowledge it: for a member, whose death is noticed otherwise,
/// and for anybody else, whose new life nobody tells of.
const KEPT: Instant = 600 * SECOND;
const KEPT_FOR_OTHERS: Instant = 60 * SECOND;
/// The most bytes of letters that wait for one recipient; a message beyond is dropped, as on a stream that is full.
pub const OUTBOX_MAX: usize = 4 << 20;
/// The same for all recipients together.
pub const OUTBOXES_MAX: usize = 64 << 20;
/// Letters to one recipient that are under way; further ones wait for an acknowledgement.
const UNDER_WAY_MAX: usize = 256;
/// The numbers of a sender that are remembered; older ones are refused as replays.
const SEEN_MAX: usize = 1024;
/// Letters that may follow one that is not acknowledged: half of what its recipient remembers.
const SPAN_MAX: u64 = SEEN_MAX as u64 / 2;
/// How long an acknowledgement waits for a letter to travel with.
const ACK_WAIT: Instant = 20 * MILLISECOND;
/// How long a recipient may say nothing to what is written to it before it counts as silent.
const SILENT_AFTER: Instant = 2 * SECOND;
/// Strangers whose letters are heard, so that they can be refused with a reason; the one that was silent longest goes.
const STRANGERS_MAX: usize = 64;
/// The most leases that are known to be talked of on topics; of older ones the usual way is taken.
const TALKS_MAX: usize = 8192;

/// Why a letter was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It was meant for an earlier life of this node.
    OtherLife,
    /// It is of an earlier life of its sender.
    OldLife,
    /// It was taken before: a retransmission, or a replay.
    Again,
    /// A mere acknowledgement with a message in it.
    Unnumbered,
}

/// What came of letters, for people to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Letters sent for the first time.
    pub sent: u64,
    /// Letters sent again.
    pub again: u64,
    /// Letters taken.
    pub taken: u64,
    /// Letters that came again, or were replayed.
    pub doubles: u64,
    /// Letters refused for another reason.
    pub refused: u64,
    /// Messages dropped: too large, an outbox that is full, a recipient that went, or is silent for long.
    pub dropped: u64,
}

#[derive(Debug)]
struct Sent {
    message: Message,
    bytes: usize,
    since: Instant,
    pause: Instant,
    /// The how-manieth letter to its recipient it is.
    ordinal: u64,
}

#[derive(Debug, Default)]
struct Peer {
    /// Its life, to which letters are addressed.
    life: u64,
    /// Whether it was a member when it was last written to.
    member: bool,
    sent: BTreeMap<u64, Sent>,
    waiting: VecDeque<(Message, usize)>,
    bytes: usize,
    ordinal: u64,
    /// Since when it was written to and has said nothing.
    unanswered: Option<Instant>,
    silent: bool,
    owed: Vec<u64>,
    owed_at: Option<Instant>,
    owed_lane: Option<Lane>,
    /// What was taken of its present life, and the number up to which everything else counts as taken.
    seen: BTreeSet<u64>,
    floor: u64,
    heard: Instant,
}

impl Peer {
    /// Whether one more letter may be under way.
    fn may_send(&self) -> bool {
        // Numbers and ordinals grow together.
        let oldest = self.sent.first_key_value().map(|(_, sent)| sent.ordinal);
        self.sent.len() < UNDER_WAY_MAX && oldest.is_none_or(|oldest| self.ordinal - oldest < SPAN_MAX)
    }

    /// Notes a number; false if it was taken before.
    fn take(&mut self, seq: u64) -> bool {
        if seq <= self.floor || !self.seen.insert(seq) {
            return false;
        }
        if self.seen.len() > SEEN_MAX {
            self.floor = self.seen.pop_first().unwrap_or(self.floor);
        }
        true
    }
}

/// The letters that this node writes and takes.
#[derive(Debug)]
pub struct Channel {
    epoch: u64,
    next: u64,
    bytes: usize,
    peers: BTreeMap<NodeId, Peer>,
    by_seq: BTreeMap<u64, NodeId>,
    timers: Timers,
    acks: BTreeSet<(Instant, NodeId)>,
    silent: Vec<NodeId>,
    talks: Talks,
    tally: Tally,
}

impl Channel {
    /// `epoch` is that of this node's adverts.
    pub fn new(epoch: u64) -> Channel {
        Channel {
            epoch,
            next: 0,
            bytes: 0,
            peers: BTreeMap::new(),
            by_seq: BTreeMap::new(),
            timers: Timers::default(),
            acks: BTreeSet::new(),
            silent: Vec::new(),
            talks: Talks::default(),
            tally: Tally::default(),
        }
    }

    /// What came of letters so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// What waits, by table: all zero when every letter is acknowledged.
    pub fn residue(&self) -> [(&'static str, usize); 3] {
        [("letters", self.by_seq.len()), ("bytes of letters", self.bytes), ("owed acknowledgements", self.acks.len())]
    }

    /// Whether a message goes by PubSub though a stream may stand: the lease that it is about is talked of there.
    pub fn talks(&self, to: &NodeId, message: &Message) -> bool {
        message.lease().is_some_and(|lease| self.talks.has(*to, !message.is_answer(), lease))
    }

    /// Writes to a node. `life` is the epoch of a member's advert; without one the life is that of its last letter.
    pub fn post(&mut self, now: Instant, to: NodeId, life: Option<u64>, message: Message, out: &mut Vec<Output>) {
        self.lives(to, life.unwrap_or(0));
        self.talks.said(to, true, &message);
        self.withdraw(&to, &message);
        let Some(bytes) = message.fits_a_letter() else {
            self.tally.dropped += 1;
            return;
        };
        let Some(peer) = self.peers.get_mut(&to) else { return };
        peer.member = life.is_some();
        if peer.bytes + bytes > OUTBOX_MAX || self.bytes + bytes > OUTBOXES_MAX {
            self.tally.dropped += 1;
            return;
        }
        peer.bytes += bytes;
        self.bytes += bytes;
        peer.waiting.push_back((message, bytes));
        self.send_waiting(now, to, out);
    }

    /// What was said of a lease matters no more once the same side says something newer of it.
    fn withdraw(&mut self, to: &NodeId, newer: &Message) {
        let Some(peer) = self.peers.get_mut(to).filter(|_| newer.lease().is_some()) else { return };
        let about = |older: &Message| older.is_answer() == newer.is_answer() && older.lease() == newer.lease();
        let mut freed = 0;
        peer.waiting.retain(|(message, bytes)| {
            let stays = !about(message);
            freed += if stays { 0 } else { *bytes };
            stays
        });
        for (seq, sent) in peer.sent.extract_if(.., |_, sent| about(&sent.message)) {
            freed += sent.bytes;
            self.by_seq.remove(&seq);
            self.timers.clear(seq);
        }
        peer.bytes -= freed;
        self.bytes -= freed;
    }

    /// A letter came. Gives the message if it is new.
    ///
    /// # Errors
    /// [`Refusal`]; letters that come again are acknowledged again.
    pub fn heard(
        &mut self,
        now: Instant,
        opened: Opened,
        trusted: impl Fn(&NodeId) -> bool,
        out: &mut Vec<Output>,
    ) -> Result<Option<Message>, Refusal> {
        let (from, seq, lane) = (opened.from(), opened.seq(), opened.lane());
        if opened.life() != self.epoch {
            self.tally.refused += 1;
            return Err(Refusal::OtherLife);
        }
        if self.peers.get(&from).is_some_and(|peer| opened.epoch() < peer.life) {
            self.tally.refused += 1;
            return Err(Refusal::OldLife);
        }
        self.make_room_for(&from, trusted);
        self.lives(from, opened.epoch());
        let Letter { acks, message, .. } = opened.into_letter();
        self.acknowledged(now, from, &acks, out);
        let Some(peer) = self.peers.get_mut(&from) else { return Ok(None) };
        (peer.heard, peer.silent, peer.unanswered) = (now, false, None);
        if seq == 0 {
            self.tally.refused += u64::from(message.is_some());
            return if message.is_some() { Err(Refusal::Unnumbered) } else { Ok(None) };
        }
        let fresh = peer.take(seq);
        self.owe(now, from, seq, lane, out);
        if !fresh {
            self.tally.doubles += 1;
            return Err(Refusal::Again);
        }
        self.tally.taken += 1;
        if let Some(message) = &message {
            self.talks.said(from, false, message);
        }
        Ok(message)
    }

    /// Numbers that their recipient has.
    fn acknowledged(&mut self, now: Instant, from: NodeId, acks: &[u64], out: &mut Vec<Output>) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        for seq in acks {
            let Some(sent) = peer.sent.remove(seq) else { continue };
            peer.bytes -= sent.bytes;
            self.bytes -= sent.bytes;
            self.by_seq.remove(seq);
            self.timers.clear(*seq);
        }
        self.send_waiting(now, from, out);
    }

    /// An acknowledgement is due soon, or goes at once where a letter is full of them.
    fn owe(&mut self, now: Instant, to: NodeId, seq: u64, lane: Lane, out: &mut Vec<Output>) {
        let Some(peer) = self.peers.get_mut(&to) else { return };
        if !peer.owed.contains(&seq) {
            peer.owed.push(seq);
        }
        // What came as a task is answered on the topic of replies, and the other way round.
        peer.owed_lane = Some(if lane == Lane::Tasks { Lane::Replies } else { Lane::Tasks });
        if peer.owed.len() >= ACKS_MAX {
            return self.acknowledge(to, out);
        }
        if peer.owed_at.is_none() {
            let at = now + ACK_WAIT;
            peer.owed_at = Some(at);
            self.acks.insert((at, to));
        }
    }

    fn acknowledge(&mut self, to: NodeId, out: &mut Vec<Output>) {
        let lane = self.peers.get(&to).and_then(|peer| peer.owed_lane).unwrap_or(Lane::Replies);
        let acks = self.take_owed(to);
        let Some(peer) = self.peers.get(&to).filter(|_| !acks.is_empty()) else { return };
        let letter = Letter { acks, message: None, delegation: None };
        out.push(Output::Post(Post { to, lane, epoch: self.epoch, life: peer.life, seq: 0, letter }));
    }

    fn take_owed(&mut self, to: NodeId) -> Vec<u64> {
        let Some(peer) = self.peers.get_mut(&to) else { return Vec::new() };
        if let Some(at) = peer.owed_at.take() {
            self.acks.remove(&(at, to));
        }
        core::mem::take(&mut peer.owed)
    }

    /// Numbers and sends what waits, as far as it may be under way.
    fn send_waiting(&mut self, now: Instant, to: NodeId, out: &mut Vec<Output>) {
        while let Some(peer) = self.peers.get_mut(&to).filter(|peer| peer.may_send()) {
            let Some((message, bytes)) = peer.waiting.pop_front() else { return };
            self.next += 1;
            let seq = self.next;
            peer.ordinal += 1;
            let ordinal = peer.ordinal;
            peer.sent.insert(seq, Sent { message, bytes, since: now, pause: PAUSE, ordinal });
            self.by_seq.insert(seq, to);
            self.tally.sent += 1;
            self.transmit(now, to, seq, out);
        }
    }

    /// Sends a letter, for the first time or again, with all that is owed.
    fn transmit(&mut self, now: Instant, to: NodeId, seq: u64, out: &mut Vec<Output>) {
        let acks = self.take_owed(to);
        let Some(peer) = self.peers.get_mut(&to) else { return };
        let life = peer.life;
        let Some(sent) = peer.sent.get_mut(&seq) else { return };
        peer.unanswered.get_or_insert(now);
        self.timers.set(seq, now + sent.pause);
        sent.pause = (sent.pause * 2).min(PAUSE_MAX);
        let lane = if sent.message.is_answer() { Lane::Replies } else { Lane::Tasks };
        let letter = Letter { acks, message: Some(sent.message.clone()), delegation: None };
        out.push(Output::Post(Post { to, lane, epoch: self.epoch, life, seq, letter }));
    }

    /// A peer is known to live since `life`: what was written to an earlier life is dropped.
    pub fn lives(&mut self, peer: NodeId, life: u64) {
        let before = self.peers.entry(peer).or_default().life;
        if before >= life {
            return;
        }
        self.forget(&peer);
        let peer = self.peers.entry(peer).or_default();
        *peer = Peer { life, heard: peer.heard, ..Peer::default() };
    }

    /// A peer is gone: what was written to it is dropped. What was taken of it stays known.
    pub fn forget(&mut self, peer: &NodeId) {
        self.take_owed(*peer);
        let Some(state) = self.peers.get_mut(peer) else { return };
        self.tally.dropped += (state.sent.len() + state.waiting.len()) as u64;
        for seq in core::mem::take(&mut state.sent).into_keys() {
            self.by_seq.remove(&seq);
            self.timers.clear(seq);
        }
        state.waiting.clear();
        self.bytes -= core::mem::take(&mut state.bytes);
        (state.silent, state.unanswered) = (false, None);
        self.talks.forget(peer);
    }

    /// Whoever is new takes the place of strangers who were heard longest ago, if there are too many: also of those who were none
    /// as long as somebody vouched for them.
    fn make_room_for(&mut self, newcomer: &NodeId, trusted: impl Fn(&NodeId) -> bool) {
        if self.peers.contains_key(newcomer) {
            return;
        }
        let mut strangers: Vec<(Instant, NodeId)> =
            self.peers.iter().filter(|(id, _)| !trusted(id)).map(|(id, peer)| (peer.heard, *id)).collect();
        let Some(over) = (strangers.len() + 1).checked_sub(STRANGERS_MAX) else { return };
        strangers.sort_unstable();
        for (_, oldest) in &strangers[..over] {
            self.forget(oldest);
            self.peers.remove(oldest);
        }
    }

    /// Sends again what is due, and the acknowledgements that found no letter.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Output>) {
        while let Some(&(at, to)) = self.acks.first() {
            if at > now {
                break;
            }
            self.acknowledge(to, out);
        }
        while let Some(seq) = self.timers.pop(now) {
            let Some(&to) = self.by_seq.get(&seq) else { continue };
            let Some(peer) = self.peers.get_mut(&to) else { continue };
            let first = peer.sent.first_key_value().map(|(&seq, _)| seq);
            let Some(sent) = peer.sent.get(&seq) else { continue };
            if now - sent.since >= if peer.member { KEPT } else { KEPT_FOR_OTHERS } {
                let bytes = sent.bytes;
                peer.sent.remove(&seq);
                peer.bytes -= bytes;
                self.bytes -= bytes;
                self.by_seq.remove(&seq);
                self.tally.dropped += 1;
                self.send_waiting(now, to, out);
                continue;
            }
            if peer.unanswered.is_some_and(|since| now - since >= SILENT_AFTER) && !peer.silent {
                peer.silent = true;
                self.silent.push(to);
            }
            // Of what waits for a silent peer, one letter goes on asking whether it is there.
            if peer.silent && first != Some(seq) {
                self.timers.set(seq, now + PAUSE_MAX);
                continue;
            }
            self.tally.again += 1;
            self.transmit(now, to, seq, out);
        }
    }

    /// Takes the peers that fell silent since the last time.
    pub fn take_silent(&mut self) -> Vec<NodeId> {
        core::mem::take(&mut self.silent)
    }

    /// When [`Channel::tick`] has something to do again.
    pub fn next_wakeup(&self) -> Option<Instant> {
        [self.timers.next(), self.acks.first().map(|&(at, _)| at)].into_iter().flatten().min()
    }
}

/// The leases that are talked of on topics, with whom, and whether they are this node's own claims.
#[derive(Debug, Default)]
struct Talks {
    known: BTreeSet<(NodeId, bool, u64)>,
    order: VecDeque<(NodeId, bool, u64)>,
}

impl Talks {
    fn has(&self, peer: NodeId, mine: bool, lease: u64) -> bool {
        self.known.contains(&(peer, mine, lease))
    }

    /// A message was written to a peer, or came from it.
    fn said(&mut self, peer: NodeId, written: bool, message: &Message) {
        let Some(lease) = message.lease() else { return };
        let talk = (peer, written != message.is_answer(), lease);
        match message {
            Message::Claim { .. } if self.known.insert(talk) => {
                self.order.push_back(talk);
                if self.order.len() > TALKS_MAX
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.known.remove(&oldest);
                }
            }
            Message::Nack { .. } | Message::Unknown { .. } | Message::Settled { .. } | Message::Cancel { .. } => {
                self.known.remove(&talk);
            }
            _ => {}
        }
    }

    fn forget(&mut self, peer: &NodeId) {
        self.known.retain(|(other, ..)| other != peer);
    }
}
