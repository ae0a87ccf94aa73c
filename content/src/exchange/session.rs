//! The client: who is asked for which block, and when to give up. A plain state machine; time comes in from outside.
//!
//! A block is asked for from peers that are believed to have it: those hinted at, those that served the same fetch before, those that said HAVE.
//! When none is left, the other connected peers are asked who has it. When every one has said DONT_HAVE the want fails at once, and otherwise
//! after [`PATIENCE`] without progress.

use super::outbox::Outbox;
use super::peer::Peer;
use super::survey::{MAX_SURVEYED, Surveyed, Surveys};
use super::wire::{Message, Presence, WantKind};
use crate::block::{Block, BlockError};
use crate::blockstore::{BATCH_BLOCKS, BATCH_BYTES, StoreError};
use cid::Cid;
use libp2p::PeerId;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// A peer that was asked for a block and has answered nothing for so long is passed over.
pub const STALL: Duration = Duration::from_secs(2);
/// A want without any progress for so long fails.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Peers that are asked at once who has a block. While none answers, twice as many are after each [`WIDEN`].
pub const SHORTLIST: usize = 8;
/// How long the shortlist may be silent until it grows.
pub const WIDEN: Duration = Duration::from_millis(500);
/// Peers that a fetch remembers as helpful.
const MAX_HELPFUL: usize = 16;
/// Blocks that are remembered as stored, the last of them: more than are written while a fetch looks up what it has.
const MAX_LANDED: usize = 4096;

/// What a fetch hears: for each CID that it wanted, exactly one of these.
#[derive(Debug)]
pub(super) enum Update {
    /// The block is durable here.
    Got { size: u64, from: PeerId, links: Result<Vec<Cid>, BlockError> },
    /// It was stored while the fetch looked for it: it is to look once more. Who sent it would take it for sent, and not answer.
    Landed { cid: Cid },
    /// No connected peer has it.
    NotFound { cid: Cid, asked: usize, silent: usize },
    /// It came, but cannot be stored.
    Store(StoreError),
}

/// A block that has been written, or not.
pub(super) struct Stored {
    pub cid: Cid,
    pub size: u64,
    pub from: PeerId,
    pub links: Result<Vec<Cid>, BlockError>,
}

pub(super) type FetchId = u64;

struct Fetch {
    /// Peers to ask first: hinted at, or helpful so far.
    peers: Vec<PeerId>,
    hinted: usize,
    updates: mpsc::Sender<Update>,
    wants: HashSet<Cid>,
}

/// Where a peer stands towards a want.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Believed to have it, and not asked for it.
    Candidate,
    /// Asked whether it has it.
    AskedHave,
    /// Asked for it.
    AskedBlock,
    /// Asked for it, and silent.
    Stalled,
    /// It said that it does not have it. It may say otherwise later.
    DontHave,
    /// It was asked for it and said that it does not have it: not asked again, or a peer could play that for ever.
    Refused,
}

impl Standing {
    fn has_declined(self) -> bool {
        matches!(self, Standing::DontHave | Standing::Refused)
    }
}

struct WantState {
    fetches: Vec<FetchId>,
    standing: HashMap<PeerId, Standing>,
    /// Who is asked for the block now, and since when.
    asked: Option<(PeerId, Instant)>,
    /// Waits in the queue for a candidate with room.
    queued: bool,
    /// The last progress.
    since: Instant,
}

/// All wants of all fetches.
#[derive(Default)]
pub(super) struct Client {
    peers: HashMap<PeerId, Peer>,
    fetches: HashMap<FetchId, Fetch>,
    wants: HashMap<Cid, WantState>,
    surveys: Surveys,
    queue: VecDeque<Cid>,
    /// Blocks on their way to disk, and the fetches that wait for them.
    storing: HashMap<Cid, Vec<FetchId>>,
    /// What was stored last and nobody has looked for in vain since, and in which order.
    landed: HashSet<Cid>,
    landed_order: VecDeque<Cid>,
    received: VecDeque<(Block, PeerId)>,
    unstored: usize,
    turn: u64,
}

/// What came of the blocks in a message.
#[derive(Default)]
pub(super) struct Verdict {
    pub wanted: Vec<usize>,
    pub duplicates: usize,
    pub unrequested: usize,
    /// The peer has used up its budget of unrequested blocks.
    pub over_budget: bool,
}

impl Client {
    pub fn connected(&mut self, now: Instant, peer: PeerId, outbox: Arc<Outbox>) {
        self.peers.insert(peer, Peer::new(outbox, now));
        let wants: Vec<Cid> = self.wants.keys().copied().collect();
        for cid in wants {
            let Some(want) = self.wants.get_mut(&cid) else { continue };
            if want.fetches.iter().filter_map(|id| self.fetches.get(id)).any(|f| f.peers.contains(&peer)) {
                want.standing.insert(peer, Standing::Candidate);
            }
            self.advance(now, cid);
        }
        self.assign(now);
    }

    pub fn disconnected(&mut self, now: Instant, peer: &PeerId) {
        self.peers.remove(peer);
        self.surveys.gone(peer);
        self.end_surveys(now);
        let wants: Vec<Cid> = self.wants.keys().copied().collect();
        for cid in wants {
            let Some(want) = self.wants.get_mut(&cid) else { continue };
            if want.standing.remove(peer).is_none() {
                continue;
            }
            want.asked = want.asked.filter(|(asked, _)| asked != peer);
            self.advance(now, cid);
        }
        self.assign(now);
    }

    /// Frames to a peer may have been lost.
    pub fn repeat(&mut self, peer: &PeerId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.repeat();
        }
    }

    /// A peer is a node of our own kind.
    pub fn ours(&mut self, peer: &PeerId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.ours = true;
        }
    }

    /// A message of a peer was not taken. What it was asked for may have been in it, and is asked for again. `true`: that was one offence too many.
    pub fn refused(&mut self, now: Instant, from: &PeerId) -> bool {
        let Some(peer) = self.peers.get_mut(from) else { return false };
        peer.expect_large();
        let over_budget = peer.strike();
        if over_budget {
            return true;
        }
        let lost = |want: &WantState| want.asked.is_some_and(|(asked, _)| asked == *from);
        let lost: Vec<Cid> = self.wants.iter().filter(|(_, want)| lost(want)).map(|(cid, _)| *cid).collect();
        for cid in lost {
            let (Some(want), Some(peer)) = (self.wants.get_mut(&cid), self.peers.get_mut(from)) else { continue };
            peer.close(&cid);
            want.standing.insert(*from, Standing::Candidate);
            want.asked = None;
            self.advance(now, cid);
        }
        self.assign(now);
        false
    }

    pub fn open(&mut self, id: FetchId, hints: Vec<PeerId>, updates: mpsc::Sender<Update>) {
        let hinted = hints.len();
        self.fetches.insert(id, Fetch { peers: hints, hinted, updates, wants: HashSet::new() });
    }

    pub fn want(&mut self, now: Instant, id: FetchId, cids: Vec<Cid>) {
        for cid in cids {
            let Some(fetch) = self.fetches.get_mut(&id) else { return };
            fetch.wants.insert(cid);
            // Once only: should it be gone again, it is fetched.
            if self.landed.remove(&cid) {
                self.tell(vec![id], &cid, &|| Update::Landed { cid });
                continue;
            }
            if let Some(waiting) = self.storing.get_mut(&cid) {
                waiting.push(id);
                continue;
            }
            let want = self.wants.entry(cid).or_insert_with(|| WantState {
                fetches: Vec::new(),
                standing: HashMap::new(),
                asked: None,
                queued: false,
                since: now,
            });
            want.fetches.push(id);
            for peer in fetch.peers.iter().filter(|peer| self.peers.contains_key(peer)) {
                want.standing.entry(*peer).or_insert(Standing::Candidate);
            }
            self.advance(now, cid);
        }
        self.assign(now);
    }

    /// Whether any want is open, so that time matters.
    pub fn is_waiting(&self) -> bool {
        !self.wants.is_empty() || !self.surveys.is_empty()
    }

    /// Asks the connected peers whether they have a block. Whoever is being asked already need not be asked again; who has answered is, unless it
    /// declined: it may have it no more.
    pub fn survey(&mut self, now: Instant, cid: Cid, answer: oneshot::Sender<Surveyed>) {
        let asked: Vec<PeerId> = self.peers.keys().take(MAX_SURVEYED).copied().collect();
        if !self.surveys.begin(now, cid, &asked, answer) {
            return;
        }
        for id in asked {
            match self.wants.get(&cid).and_then(|want| want.standing.get(&id)) {
                Some(Standing::DontHave | Standing::Refused) => self.surveys.heard(&id, &cid, false),
                Some(Standing::AskedHave | Standing::AskedBlock | Standing::Stalled) => {}
                Some(Standing::Candidate) | None => {
                    self.peers.get_mut(&id).into_iter().for_each(|peer| peer.ask(now, cid, WantKind::Have));
                }
            }
        }
        self.end_surveys(now);
    }

    fn end_surveys(&mut self, now: Instant) {
        for (cid, asked) in self.surveys.end(now) {
            let wanted_of = |id: &PeerId| self.wants.get(&cid).is_some_and(|want| want.standing.contains_key(id));
            for id in asked.iter().filter(|id| !wanted_of(id)) {
                if let Some(peer) = self.peers.get_mut(id) {
                    peer.forget(&cid, true);
                }
            }
        }
    }

    /// Wants that are open.
    pub fn want_count(&self) -> usize {
        self.wants.len()
    }

    /// Takes a message from a peer.
    pub fn message(&mut self, now: Instant, from: PeerId, message: Message) -> Verdict {
        let mut verdict = Verdict::default();
        let Some(peer) = self.peers.get(&from) else { return verdict };
        peer.wants(&message.wants, message.full);
        for block in message.blocks {
            self.block(now, from, block, &mut verdict);
        }
        for presence in message.presences {
            self.presence(now, from, presence);
        }
        self.end_surveys(now);
        self.assign(now);
        verdict
    }

    fn block(&mut self, now: Instant, from: PeerId, block: Block, verdict: &mut Verdict) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        // As Kubo answers who asks whether it has a small block.
        self.surveys.heard(&from, block.cid(), true);
        if !peer.was_asked(block.cid()) {
            verdict.unrequested += 1;
            verdict.over_budget |= peer.strike();
            return;
        }
        let Some(want) = self.wants.remove(block.cid()) else {
            peer.forget(block.cid(), false);
            verdict.duplicates += 1;
            return;
        };
        peer.active = now;
        peer.got(block.size());
        for id in want.standing.keys() {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.forget(block.cid(), *id != from);
            }
        }
        for id in &want.fetches {
            if let Some(fetch) = self.fetches.get_mut(id)
                && !fetch.peers.contains(&from)
                && fetch.peers.len() < fetch.hinted + MAX_HELPFUL
            {
                fetch.peers.push(from);
            }
        }
        verdict.wanted.push(block.size());
        self.unstored += block.size();
        self.storing.insert(*block.cid(), want.fetches);
        self.received.push_back((block, from));
    }

    fn presence(&mut self, now: Instant, from: PeerId, presence: Presence) {
        let (Presence::Have(cid) | Presence::DontHave(cid)) = presence;
        self.surveys.heard(&from, &cid, matches!(presence, Presence::Have(_)));
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let Some(want) = self.wants.get_mut(&cid) else { return };
        let Some(standing) = want.standing.get_mut(&from) else { return };
        match (presence, *standing) {
            (Presence::Have(_), Standing::AskedHave | Standing::DontHave) => {
                *standing = Standing::Candidate;
                want.since = now;
            }
            // Nothing new: it counts for nothing, or a peer could seem alive by repeating itself.
            (Presence::Have(_), _) | (Presence::DontHave(_), Standing::DontHave | Standing::Refused) => return,
            (Presence::DontHave(_), before) => {
                let asked = matches!(before, Standing::AskedBlock | Standing::Stalled);
                *standing = if asked { Standing::Refused } else { Standing::DontHave };
                want.asked = want.asked.filter(|(asked, _)| *asked != from);
            }
        }
        peer.active = now;
        peer.close(&cid);
        self.advance(now, cid);
    }

    /// Finds the next thing to do for a want that nobody is asked for.
    fn advance(&mut self, now: Instant, cid: Cid) {
        let Some(want) = self.wants.get_mut(&cid) else { return };
        if want.asked.is_some() || want.queued {
            return;
        }
        if want.standing.values().any(|s| *s == Standing::Candidate) {
            want.queued = true;
            self.queue.push_back(cid);
            return;
        }
        let pending = want.standing.values().filter(|s| **s == Standing::AskedHave).count();
        let silent = now.duration_since(want.since).as_millis() / WIDEN.as_millis();
        let most = SHORTLIST << silent.min(16);
        let strangers: Vec<PeerId> =
            self.peers.keys().filter(|id| !want.standing.contains_key(id)).take(most.saturating_sub(pending)).copied().collect();
        for id in strangers {
            if let Some(peer) = self.peers.get_mut(&id) {
                want.standing.insert(id, Standing::AskedHave);
                peer.ask(now, cid, WantKind::Have);
            }
        }
        if want.standing.values().all(|s| s.has_declined()) {
            self.fail(cid);
        }
    }

    /// Gives queued wants to candidates with room: the least busy, in turn.
    fn assign(&mut self, now: Instant) {
        for _ in 0..self.queue.len() {
            if !self.peers.values().any(Peer::has_room) {
                return;
            }
            let Some(cid) = self.queue.pop_front() else { return };
            let Some(want) = self.wants.get_mut(&cid) else { continue };
            let candidates = || want.standing.iter().filter(|(_, s)| **s == Standing::Candidate).map(|(id, _)| *id);
            let free = |id: &PeerId| self.peers.get(id).filter(|p| p.has_room()).map(|p| (p.open, p.turn));
            let best = candidates().filter_map(|id| free(&id).map(|key| (key, id))).min_by_key(|(key, _)| *key);
            if let Some((_, id)) = best {
                want.queued = false;
                self.ask_block(now, cid, id);
            } else if candidates().next().is_some() {
                self.queue.push_back(cid);
            } else {
                want.queued = false;
                self.advance(now, cid);
            }
        }
    }

    fn ask_block(&mut self, now: Instant, cid: Cid, id: PeerId) {
        let (Some(want), Some(peer)) = (self.wants.get_mut(&cid), self.peers.get_mut(&id)) else { return };
        // Time in the queue is nobody's silence; time at a silent peer is.
        if !want.standing.values().any(|s| *s == Standing::Stalled) {
            want.since = now;
        }
        want.standing.insert(id, Standing::AskedBlock);
        want.asked = Some((id, now));
        self.turn += 1;
        peer.turn = self.turn;
        peer.ask(now, cid, WantKind::Block);
    }

    /// Time has passed: passes over peers that stall, fails wants that get nowhere, drops fetches that nobody awaits. `heard` tells when a part of
    /// a message that is still on its way came last.
    pub fn tick(&mut self, now: Instant, heard: &dyn Fn(&PeerId) -> Option<Instant>) {
        let gone: Vec<FetchId> = self.fetches.iter().filter(|(_, f)| f.updates.is_closed()).map(|(id, _)| *id).collect();
        gone.into_iter().for_each(|id| self.close(id));
        self.end_surveys(now);
        let wants: Vec<Cid> = self.wants.keys().copied().collect();
        for cid in wants {
            let Some(want) = self.wants.get_mut(&cid) else { continue };
            let lively = |id: &PeerId| self.peers.get(id).map(|peer| peer.lively(now, heard(id)));
            let mut progress = want.since;
            if let Some((id, at)) = want.asked {
                let answered = lively(&id).unwrap_or(at).max(at);
                if now.duration_since(answered) > STALL {
                    want.standing.insert(id, Standing::Stalled);
                    want.asked = None;
                } else {
                    progress = progress.max(answered);
                }
            } else if want.queued {
                let waits = want.standing.iter().filter(|(_, s)| **s == Standing::Candidate);
                progress = waits.filter_map(|(id, _)| lively(id)).max().unwrap_or(progress).max(progress);
            }
            if now.duration_since(progress) > PATIENCE {
                self.fail(cid);
            } else {
                self.advance(now, cid);
            }
        }
        self.assign(now);
    }

    /// Peers that do not read what we send.
    pub fn deaf(&self) -> Vec<PeerId> {
        self.peers.iter().filter(|(_, peer)| peer.deaf).map(|(id, _)| *id).collect()
    }

    fn fail(&mut self, cid: Cid) {
        let Some(want) = self.wants.get(&cid) else { return };
        let asked = want.standing.values().filter(|s| **s != Standing::Candidate).count();
        let declined = want.standing.values().filter(|s| s.has_declined()).count();
        tracing::debug!(%cid, asked, silent = asked - declined, "a block was not found");
        let fetches = self.take_back(&cid);
        self.tell(fetches, &cid, &|| Update::NotFound { cid, asked, silent: asked - declined });
    }

    /// Nobody wants it any more: tells all who were asked.
    fn take_back(&mut self, cid: &Cid) -> Vec<FetchId> {
        let Some(want) = self.wants.remove(cid) else { return Vec::new() };
        for id in want.standing.keys() {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.forget(cid, true);
            }
        }
        want.fetches
    }

    fn tell(&mut self, fetches: Vec<FetchId>, cid: &Cid, update: &dyn Fn() -> Update) {
        for id in fetches {
            if let Some(fetch) = self.fetches.get_mut(&id)
                && fetch.wants.remove(cid)
            {
                // A fetch has room for an answer to each of its wants, unless it is gone.
                let _ = fetch.updates.try_send(update());
            }
        }
    }

    fn close(&mut self, id: FetchId) {
        let Some(fetch) = self.fetches.remove(&id) else { return };
        for cid in fetch.wants {
            let Some(want) = self.wants.get_mut(&cid) else { continue };
            want.fetches.retain(|other| *other != id);
            if want.fetches.is_empty() {
                self.take_back(&cid);
            }
        }
    }

    /// Whether any fetch is known, finished or not.
    pub fn has_fetches(&self) -> bool {
        !self.fetches.is_empty()
    }

    /// Bytes that have come and are not durable yet.
    pub fn unstored_bytes(&self) -> usize {
        self.unstored
    }

    /// The next batch for the disk.
    pub fn take_received(&mut self) -> Vec<(Block, PeerId)> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while bytes < BATCH_BYTES && batch.len() < BATCH_BLOCKS {
            let Some((block, from)) = self.received.pop_front() else { break };
            bytes += block.size();
            batch.push((block, from));
        }
        batch
    }

    fn land(&mut self, cid: Cid) {
        if self.landed.insert(cid) {
            self.landed_order.push_back(cid);
        }
        if self.landed_order.len() > MAX_LANDED
            && let Some(old) = self.landed_order.pop_front()
        {
            self.landed.remove(&old);
        }
    }

    /// A batch has been written, or not.
    pub fn stored(&mut self, batch: Vec<Stored>, outcome: &Result<(), StoreError>) {
        for Stored { cid, size, from, links } in batch {
            self.unstored -= size as usize;
            let fetches = self.storing.remove(&cid).unwrap_or_default();
            if outcome.is_ok() {
                self.land(cid);
            }
            self.tell(fetches, &cid, &|| match outcome {
                Ok(()) => Update::Got { size, from, links: links.clone() },
                Err(error) => Update::Store(error.clone()),
            });
        }
    }
}
