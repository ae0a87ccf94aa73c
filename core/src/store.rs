//! The storage side: where an import's blocks go, and keeping blocks for others.
//!
//! A file's first block is its key: rendezvous ranks the stores by it, and the first `n` of them keep the file's `n` copies.
//! A store fetches the blocks from here and says when they are durable. If it cannot, its copy goes to the next that was not
//! asked, so that no two copies meet. The first copy has this node itself as its last resort: an import never loses
//! a block. A further copy that finds no store is told to be missing.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use cid::Cid;
use serde_bytes::ByteBuf;

use crate::capability::Role;
use crate::failure::Failure;
use crate::id::{Instant, NodeId, SECOND};
use crate::io::{Here, Output, Request, Ticket};
use crate::membership::Membership;
use crate::message::Message;
use crate::placement::rendezvous;
use crate::timers::Timers;

/// Batches that this node fetches for others at the same time; further ones are refused.
const HOLDS_MAX: usize = 256;
/// Questions of what lies here that are being looked up; further ones are not answered, and their askers go on.
const QUESTIONS_MAX: usize = 256;
/// Stores besides this node that keep a job's record.
const COPIES: usize = 2;
/// How long a store may take for one batch.
const HOLD_WAIT: Instant = 60 * SECOND;

/// Files: for each the block that decides where it goes, and its blocks.
type Files = Vec<(Cid, Vec<Cid>)>;

/// One copy of some files, on its way to a store.
#[derive(Debug)]
struct Batch {
    request: Request,
    files: Files,
    at: NodeId,
    /// The copies that must not meet.
    group: u64,
    /// Whether this node keeps the copy if no store does.
    first: bool,
}

/// The copies of some files: no store is asked for two of them, or twice.
#[derive(Debug)]
struct Group {
    asked: BTreeSet<NodeId>,
    open: usize,
}

/// The batches that this node places, and those that it fetches for others.
#[derive(Debug)]
pub struct Store {
    batches: BTreeMap<u64, Batch>,
    groups: BTreeMap<u64, Group>,
    timers: Timers,
    next: u64,
    next_group: u64,
    /// What is being fetched for others: whose batch.
    fetching: BTreeSet<(NodeId, u64)>,
    questions: usize,
}

impl Store {
    /// `epoch` keeps the batch numbers of two lives of a node apart.
    pub fn new(epoch: u64) -> Store {
        let (batches, groups, timers) = (BTreeMap::new(), BTreeMap::new(), Timers::default());
        Store { batches, groups, timers, next: epoch << 20, next_group: 0, fetching: BTreeSet::new(), questions: 0 }
    }

    /// What is under way, by table: all zero when nothing is being placed, fetched or looked up.
    pub fn residue(&self) -> [(&'static str, usize); 5] {
        [
            ("batches", self.batches.len()),
            ("batch groups", self.groups.len()),
            ("batch timers", usize::from(self.timers.next().is_some())),
            ("batches fetched", self.fetching.len()),
            ("questions", self.questions),
        ]
    }

    /// Finds places for `copies` copies (at least one) of the blocks of some files.
    pub fn place(
        &mut self,
        now: Instant,
        request: Request,
        files: Files,
        copies: u8,
        members: &Membership,
        out: &mut Vec<Output>,
    ) {
        let copies = usize::from(copies.max(1));
        let mut shares: BTreeMap<Vec<NodeId>, Files> = BTreeMap::new();
        for file in files {
            let mut winners = self.ranked(&file.0, members);
            winners.truncate(copies);
            shares.entry(winners).or_default().push(file);
        }
        for (winners, files) in shares {
            self.next_group += 1;
            let group = self.next_group;
            self.groups.insert(group, Group { asked: winners.iter().copied().collect(), open: copies });
            for copy in 0..copies {
                let batch = (request, files.clone(), group, copy == 0);
                self.ask(now, winners.get(copy).copied(), batch, members.config.me, out);
            }
        }
    }

    fn ranked(&self, key: &Cid, members: &Membership) -> Vec<NodeId> {
        rendezvous(key, members.with_role(Role::Store).map(|(&node, _)| node))
    }

    /// Asks a store to keep a copy. Without one the first copy stays here, and a further one has no place.
    fn ask(
        &mut self,
        now: Instant,
        at: Option<NodeId>,
        (request, files, group, first): (Request, Files, u64, bool),
        me: NodeId,
        out: &mut Vec<Output>,
    ) {
        let cids: Vec<Cid> = files.iter().flat_map(|(_, cids)| cids).copied().collect();
        let kept_here = self.groups.get(&group).is_some_and(|copies| copies.asked.contains(&me));
        match at.or((first && !kept_here).then_some(me)) {
            Some(at) if at != me => {
                self.next += 1;
                self.batches.insert(self.next, Batch { request, files, at, group, first });
                self.timers.set(self.next, now + HOLD_WAIT);
                out.push(Output::Send { to: at, message: Message::Hold { batch: self.next, cids } });
            }
            at => {
                self.ended(group);
                out.push(Output::Placed { request, cids, at });
            }
        }
    }

    /// A copy has its place, or is not wanted any more.
    fn ended(&mut self, group: u64) {
        if let Some(copies) = self.groups.get_mut(&group) {
            copies.open -= 1;
            if copies.open == 0 {
                self.groups.remove(&group);
            }
        }
    }

    /// Has the stores that win a record's CID keep a copy, so that it can be had when this node is gone. Nobody waits for them:
    /// where one cannot, there is one copy less.
    pub fn copy(&mut self, cid: Cid, members: &Membership, out: &mut Vec<Output>) {
        let me = members.config.me;
        for to in self.ranked(&cid, members).into_iter().filter(|node| *node != me).take(COPIES) {
            self.next += 1;
            out.push(Output::Send { to, message: Message::Hold { batch: self.next, cids: [cid].into() } });
        }
    }

    /// A store could not take a batch: it goes to the next that has no copy of it.
    fn pass_on(&mut self, now: Instant, id: u64, members: &Membership, out: &mut Vec<Output>) {
        let Some(Batch { request, files, group, first, .. }) = self.forget(id) else { return };
        let ranked = files.first().map(|(key, _)| self.ranked(key, members)).unwrap_or_default();
        let Some(copies) = self.groups.get_mut(&group) else { return };
        let next = ranked.into_iter().find(|node| !copies.asked.contains(node));
        copies.asked.extend(next);
        self.ask(now, next, (request, files, group, first), members.config.me, out);
    }

    fn forget(&mut self, id: u64) -> Option<Batch> {
        self.timers.clear(id);
        self.batches.remove(&id)
    }

    /// A store says what became of a batch.
    pub fn kept(
        &mut self,
        now: Instant,
        from: NodeId,
        id: u64,
        kept: Result<(), Failure>,
        members: &Membership,
        out: &mut Vec<Output>,
    ) {
        match self.batches.get(&id) {
            Some(batch) if batch.at == from && kept.is_ok() => {
                let Some(batch) = self.forget(id) else { return };
                let cids = batch.files.into_iter().flat_map(|(_, cids)| cids).collect();
                out.push(Output::Placed { request: batch.request, cids, at: Some(from) });
                self.ended(batch.group);
            }
            Some(batch) if batch.at == from => self.pass_on(now, id, members, out),
            _ => {}
        }
    }

    /// A peer is gone: its batches go to the next.
    pub fn gone(&mut self, now: Instant, peer: NodeId, members: &Membership, out: &mut Vec<Output>) {
        let hit: Vec<u64> = self.batches.iter().filter(|(_, b)| b.at == peer).map(|(&id, _)| id).collect();
        for id in hit {
            self.pass_on(now, id, members, out);
        }
    }

    /// An import was taken back.
    pub fn cancel(&mut self, request: Request) {
        let gone: Vec<u64> = self.batches.iter().filter(|(_, b)| b.request == request).map(|(&id, _)| id).collect();
        for id in gone {
            if let Some(batch) = self.forget(id) {
                self.ended(batch.group);
            }
        }
    }

    /// A peer asks this node to keep blocks.
    pub fn hold(&mut self, from: NodeId, batch: u64, cids: Vec<Cid>, members: &Membership, out: &mut Vec<Output>) {
        let denied = !members.trusts(&from) || !members.config.roles.contains(&Role::Store);
        let refusal = if denied {
            Some(Failure::Denied {
                rule: "blocks are kept for trusted keys, by stores".into(),
                missing: "trust, or the role store".into(),
            })
        } else if self.fetching.len() >= HOLDS_MAX {
            Some(Failure::Overloaded { retry_after_ms: 1000 })
        } else {
            None
        };
        if let Some(failure) = refusal {
            return out.push(Output::Send { to: from, message: Message::Kept { batch, kept: Err(failure) } });
        }
        // A batch that comes a second time is on its way already.
        if !self.fetching.insert((from, batch)) {
            return;
        }
        let ticket = Ticket::Hold(from, batch);
        out.push(Output::Fetch { ticket, roots: cids, recursive: false, durable: true, hints: [from].into() });
    }

    /// The blocks of a peer's batch are durable here, or could not be had.
    pub fn held(&mut self, from: NodeId, batch: u64, fetched: Result<u64, Failure>, out: &mut Vec<Output>) {
        self.fetching.remove(&(from, batch));
        out.push(Output::Send { to: from, message: Message::Kept { batch, kept: fetched.map(|_| ()) } });
    }

    /// A peer asks which blocks lie here.
    pub fn asked(&mut self, from: NodeId, query: u64, cids: Vec<Cid>, members: &Membership, out: &mut Vec<Output>) {
        if members.trusts(&from) && self.questions < QUESTIONS_MAX {
            self.questions += 1;
            out.push(Output::Have { ticket: Ticket::Holds(from, query), cids });
        }
    }

    /// What lies here was looked up.
    pub fn answer(&mut self, from: NodeId, query: u64, here: Here, out: &mut Vec<Output>) {
        self.questions = self.questions.saturating_sub(1);
        out.push(Output::Send { to: from, message: Message::Held { query, bits: ByteBuf::from(here.bits), sizes: here.sizes } });
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant, members: &Membership, out: &mut Vec<Output>) {
        while let Some(id) = self.timers.pop(now) {
            self.pass_on(now, id, members, out);
        }
    }

    /// When [`Store::tick`] has something to do again.
    pub fn next_wakeup(&self) -> Option<Instant> {
        self.timers.next()
    }
}
