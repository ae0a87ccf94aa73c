//! The storage side: where an import's blocks go, and keeping blocks for others.
//!
//! A file's first block is its key: rendezvous decides by it which store keeps the file's blocks. The store fetches them
//! from here and says when they are durable; if it cannot, the next in the ranking is asked, and this node itself is the
//! last resort, so that an import never loses a block.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use cid::Cid;
use serde_bytes::ByteBuf;

use crate::capability::Role;
use crate::failure::Failure;
use crate::id::{Instant, NodeId, SECOND};
use crate::io::{Output, Request, Ticket};
use crate::membership::Membership;
use crate::message::Message;
use crate::placement::rendezvous;
use crate::timers::Timers;

/// Batches that this node fetches for others at the same time; further ones are refused.
const HOLDS_MAX: usize = 256;
/// Questions of what lies here that are being looked up; further ones are not answered, and their askers go on.
const QUESTIONS_MAX: usize = 256;
/// How long a store may take for one batch.
const HOLD_WAIT: Instant = 60 * SECOND;

#[derive(Debug)]
struct Batch {
    request: Request,
    files: Vec<(Cid, Vec<Cid>)>,
    at: NodeId,
    /// Stores that could not take it.
    passed: BTreeSet<NodeId>,
}

impl Batch {
    fn cids(&self) -> Vec<Cid> {
        self.files.iter().flat_map(|(_, cids)| cids).copied().collect()
    }
}

/// The batches that this node places, and those that it fetches for others.
#[derive(Debug)]
pub struct Store {
    batches: BTreeMap<u64, Batch>,
    timers: Timers,
    next: u64,
    fetching: usize,
    questions: usize,
}

impl Store {
    /// `epoch` keeps the batch numbers of two lives of a node apart.
    pub fn new(epoch: u64) -> Store {
        Store { batches: BTreeMap::new(), timers: Timers::default(), next: epoch << 20, fetching: 0, questions: 0 }
    }

    /// What is under way, by table: all zero when nothing is being placed, fetched or looked up.
    pub fn residue(&self) -> [(&'static str, usize); 4] {
        [
            ("batches", self.batches.len()),
            ("batch timers", usize::from(self.timers.next().is_some())),
            ("batches fetched", self.fetching),
            ("questions", self.questions),
        ]
    }

    /// Finds a place for the blocks of some files.
    pub fn place(
        &mut self,
        now: Instant,
        request: Request,
        files: Vec<(Cid, Vec<Cid>)>,
        members: &Membership,
        out: &mut Vec<Output>,
    ) {
        self.place_without(now, request, files, BTreeSet::new(), members, out);
    }

    /// Gives each file to the store that wins its key, except those that were passed over.
    fn place_without(
        &mut self,
        now: Instant,
        request: Request,
        files: Vec<(Cid, Vec<Cid>)>,
        passed: BTreeSet<NodeId>,
        members: &Membership,
        out: &mut Vec<Output>,
    ) {
        let me = members.config.me;
        let mut shares: BTreeMap<NodeId, Vec<(Cid, Vec<Cid>)>> = BTreeMap::new();
        let stores = members.with_role(Role::Store).map(|(&node, _)| node);
        let stores: Vec<NodeId> = stores.filter(|node| !passed.contains(node)).collect();
        for file in files {
            let owner = rendezvous(&file.0, stores.iter().copied()).first().copied().unwrap_or(me);
            shares.entry(owner).or_default().push(file);
        }
        for (at, files) in shares {
            let batch = Batch { request, files, at, passed: passed.clone() };
            let cids = batch.cids();
            if at == me {
                out.push(Output::Placed { request, cids, at });
                continue;
            }
            self.next += 1;
            self.batches.insert(self.next, batch);
            self.timers.set(self.next, now + HOLD_WAIT);
            out.push(Output::Send { to: at, message: Message::Hold { batch: self.next, cids } });
        }
    }

    /// A store could not take a batch: its files go to whoever is next.
    fn pass_on(&mut self, now: Instant, id: u64, members: &Membership, out: &mut Vec<Output>) {
        let Some(mut batch) = self.batches.remove(&id) else { return };
        self.timers.clear(id);
        batch.passed.insert(batch.at);
        self.place_without(now, batch.request, batch.files, batch.passed, members, out);
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
                out.push(Output::Placed { request: batch.request, cids: batch.cids(), at: from });
                self.batches.remove(&id);
                self.timers.clear(id);
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
            self.batches.remove(&id);
            self.timers.clear(id);
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
        } else if self.fetching >= HOLDS_MAX {
            Some(Failure::Overloaded { retry_after_ms: 1000 })
        } else {
            None
        };
        if let Some(failure) = refusal {
            return out.push(Output::Send { to: from, message: Message::Kept { batch, kept: Err(failure) } });
        }
        self.fetching += 1;
        let ticket = Ticket::Hold(from, batch);
        out.push(Output::Fetch { ticket, roots: cids, recursive: false, hints: [from].into() });
    }

    /// The blocks of a peer's batch are durable here, or could not be had.
    pub fn held(&mut self, from: NodeId, batch: u64, fetched: Result<u64, Failure>, out: &mut Vec<Output>) {
        self.fetching = self.fetching.saturating_sub(1);
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
    pub fn answer(&mut self, from: NodeId, query: u64, bits: Vec<u8>, out: &mut Vec<Output>) {
        self.questions = self.questions.saturating_sub(1);
        out.push(Output::Send { to: from, message: Message::Held { query, bits: ByteBuf::from(bits) } });
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
