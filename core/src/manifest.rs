//! Manifests that no stream brings: they are asked for by letter.
//!
//! A function may lie with executors alone that are reached by PubSub. Its manifest is a small block and fits a letter, so
//! where content does not find it, the trusted executors are asked that no stream reaches. The first that tells it is asked
//! first to run the call: it has the code as well.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use cid::Cid;
use serde_bytes::ByteBuf;

use crate::capability::Role;
use crate::envelope::Via;
use crate::failure::Failure;
use crate::function::Function;
use crate::id::{Instant, NodeId, SECOND};
use crate::io::{Output, Ticket};
use crate::membership::{Member, Membership};
use crate::message::Message;

/// Manifests that are asked for; further ones are not found.
const SOUGHT_MAX: usize = 256;
/// The most executors that are asked, the nearest first.
const PEERS_MAX: usize = 8;
/// Blocks that are read for peers at the same time; who asks for more is told that there is none.
const GIVING_MAX: usize = 64;
/// How long they are waited for: a letter that gets lost comes again within half a second.
const WAIT: Instant = 5 * SECOND;

/// What became of a manifest: for whom, what, and who told it, if it came by letter.
pub type Found = (Ticket, Result<Arc<Function>, Failure>, Option<NodeId>);

/// A manifest that content did not find.
#[derive(Debug)]
struct Sought {
    ticket: Ticket,
    function: Cid,
    /// What is said where nobody has it.
    failure: Failure,
    asked: BTreeSet<NodeId>,
    /// Who told the one that is being read.
    told: Option<NodeId>,
    /// Another one, for the case that it is none.
    spare: Option<(NodeId, ByteBuf)>,
    until: Instant,
}

/// The manifests that are asked for by letter.
#[derive(Debug)]
pub struct Manifests {
    sought: BTreeMap<u64, Sought>,
    next: u64,
    /// Blocks that are read for peers.
    giving: usize,
}

impl Manifests {
    /// `epoch` keeps the questions of two lives of a node apart.
    pub fn new(epoch: u64) -> Manifests {
        Manifests { sought: BTreeMap::new(), next: epoch << 20, giving: 0 }
    }

    /// Manifests that are asked for.
    pub fn residue(&self) -> (&'static str, usize) {
        ("manifests", self.sought.len())
    }

    /// What content read. Nothing, as long as others are asked for what it did not find.
    pub fn loaded(
        &mut self,
        now: Instant,
        ticket: Ticket,
        function: Result<Arc<Function>, Failure>,
        members: &Membership,
        out: &mut Vec<Output>,
    ) -> Option<Found> {
        if let Some(query) = self.sought.iter().find(|(_, sought)| sought.ticket == ticket).map(|(query, _)| *query) {
            return self.read(query, function, out);
        }
        match function {
            Err(failure @ Failure::NotFound { cid, .. }) => self.seek(now, ticket, cid, failure, members, out),
            other => Some((ticket, other, None)),
        }
    }

    /// Asks executors for a manifest, if there are any to ask.
    fn seek(
        &mut self,
        now: Instant,
        ticket: Ticket,
        function: Cid,
        failure: Failure,
        members: &Membership,
        out: &mut Vec<Output>,
    ) -> Option<Found> {
        let runs = |(node, member): &(&NodeId, &Member)| {
            members.via(node) == Some(Via::PubSub) && member.advert.roles.contains(&Role::Executor)
        };
        let mut peers: Vec<NodeId> = members.iter().filter(runs).map(|(node, _)| *node).collect();
        if peers.is_empty() || self.sought.len() >= SOUGHT_MAX {
            return Some((ticket, Err(failure), None));
        }
        peers.sort_by_key(|node| (members.rtt_us(node), *node));
        peers.truncate(PEERS_MAX);
        self.next += 1;
        let query = self.next;
        out.extend(peers.iter().map(|to| Output::Send { to: *to, message: Message::Get { query, cid: function } }));
        let asked = peers.into_iter().collect();
        self.sought.insert(query, Sought { ticket, function, failure, asked, told: None, spare: None, until: now + WAIT });
        None
    }

    /// What was told is read: it is the manifest, or others may still tell it.
    fn read(&mut self, query: u64, function: Result<Arc<Function>, Failure>, out: &mut Vec<Output>) -> Option<Found> {
        let sought = self.sought.get_mut(&query)?;
        let told = sought.told.take();
        if function.is_err() {
            let Some((from, block)) = sought.spare.take() else { return self.end_if_done(query) };
            sought.told = Some(from);
            out.push(Output::Learn { ticket: sought.ticket, function: sought.function, block });
            return None;
        }
        self.sought.remove(&query).map(|sought| (sought.ticket, function, told))
    }

    /// An executor tells a block, or that it has none.
    pub fn there(&mut self, from: NodeId, query: u64, block: Option<ByteBuf>, out: &mut Vec<Output>) -> Option<Found> {
        let sought = self.sought.get_mut(&query)?;
        if !sought.asked.remove(&from) {
            return None;
        }
        match block {
            Some(block) if sought.told.is_none() => {
                sought.told = Some(from);
                out.push(Output::Learn { ticket: sought.ticket, function: sought.function, block });
                None
            }
            Some(block) => {
                sought.spare.get_or_insert((from, block));
                None
            }
            None => self.end_if_done(query),
        }
    }

    /// A peer asks for a block, which is read if it is trusted.
    pub fn asked(&mut self, from: NodeId, query: u64, cid: Cid, members: &Membership, out: &mut Vec<Output>) {
        if members.trusts(&from) && self.giving < GIVING_MAX {
            self.giving += 1;
            out.push(Output::Read { ticket: Ticket::Give(from, query), cid });
        } else {
            out.push(Output::Send { to: from, message: Message::Got { query, block: None } });
        }
    }

    /// A block that a peer asked for was read, or is not here.
    pub fn give(&mut self, to: NodeId, query: u64, block: Option<ByteBuf>, out: &mut Vec<Output>) {
        self.giving = self.giving.saturating_sub(1);
        out.push(Output::Send { to, message: Message::Got { query, block } });
    }

    fn end_if_done(&mut self, query: u64) -> Option<Found> {
        let is_done = |sought: &Sought| sought.asked.is_empty() && sought.told.is_none();
        let done = self.sought.get(&query).is_some_and(is_done);
        if done { self.end(query) } else { None }
    }

    fn end(&mut self, query: u64) -> Option<Found> {
        self.sought.remove(&query).map(|sought| (sought.ticket, Err(sought.failure), None))
    }

    /// An executor is gone: nobody waits for its answers.
    pub fn gone(&mut self, peer: NodeId) -> Vec<Found> {
        let hit: Vec<u64> = self.sought.iter_mut().filter_map(|(&id, s)| s.asked.remove(&peer).then_some(id)).collect();
        hit.into_iter().filter_map(|id| self.end_if_done(id)).collect()
    }

    /// What nobody told in time was not found.
    pub fn tick(&mut self, now: Instant) -> Vec<Found> {
        let late: Vec<u64> = self.sought.iter().filter(|(_, sought)| sought.until <= now).map(|(&id, _)| id).collect();
        late.into_iter().filter_map(|id| self.end(id)).collect()
    }

    /// When [`Manifests::tick`] has something to do again.
    pub fn next_wakeup(&self) -> Option<Instant> {
        self.sought.values().map(|sought| sought.until).min()
    }
}
