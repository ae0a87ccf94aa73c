//! The storage side: where an import's blocks go, and keeping blocks for others.
//!
//! Blocks that belong together (one file's) form a group; its key decides by rendezvous which store keeps it. The store
//! fetches the blocks from here and says when they are durable; if it cannot, the next in the ranking is asked, and this
//! node itself is the last resort, so that an import never loses a block.

use alloc::collections::{BTreeMap, VecDeque};
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
    group: u64,
    cids: Vec<Cid>,
    /// The stores that are still to be asked.
    next: VecDeque<NodeId>,
    at: NodeId,
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

    /// Finds a place for a group of blocks.
    #[allow(clippy::too_many_arguments)]
    pub fn place(
        &mut self,
        now: Instant,
        request: Request,
        group: u64,
        key: Cid,
        cids: Vec<Cid>,
        members: &Membership,
        out: &mut Vec<Output>,
    ) {
        let stores = members.with_role(Role::Store).map(|(&node, _)| node);
        let mut ranked: VecDeque<NodeId> = rendezvous(&key, stores).into();
        ranked.push_back(members.config.me);
        self.next += 1;
        let id = self.next;
        let at = members.config.me;
        self.batches.insert(id, Batch { request, group, cids, next: ranked, at });
        self.ask_next(now, id, members, out);
    }

    fn ask_next(&mut self, now: Instant, id: u64, members: &Membership, out: &mut Vec<Output>) {
        let Some(batch) = self.batches.get_mut(&id) else { return };
        let me = members.config.me;
        let next = core::iter::from_fn(|| batch.next.pop_front()).find(|node| members.reaches(node)).unwrap_or(me);
        if next == me {
            out.push(Output::Placed { request: batch.request, group: batch.group, at: me });
            self.batches.remove(&id);
            self.timers.clear(id);
        } else {
            batch.at = next;
            self.timers.set(id, now + HOLD_WAIT);
            out.push(Output::Send { to: next, message: Message::Hold { batch: id, cids: batch.cids.clone() } });
        }
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
                out.push(Output::Placed { request: batch.request, group: batch.group, at: from });
                self.batches.remove(&id);
                self.timers.clear(id);
            }
            Some(batch) if batch.at == from => self.ask_next(now, id, members, out),
            _ => {}
        }
    }

    /// A peer is gone: its batches go to the next.
    pub fn gone(&mut self, now: Instant, peer: NodeId, members: &Membership, out: &mut Vec<Output>) {
        let hit: Vec<u64> = self.batches.iter().filter(|(_, b)| b.at == peer).map(|(&id, _)| id).collect();
        for id in hit {
            self.ask_next(now, id, members, out);
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
            self.ask_next(now, id, members, out);
        }
    }

    /// When [`Store::tick`] has something to do again.
    pub fn next_wakeup(&self) -> Option<Instant> {
        self.timers.next()
    }
}
