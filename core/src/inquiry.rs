//! What other nodes saw: a trace is put together from what each node of it tells, and a log is with the node that ran.
//!
//! This node answers first. Then all trusted peers in reach are asked at the same time: of a trace every answer counts, of a
//! log the first. Peers are answered if they are trusted.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::failure::Failure;
use crate::id::{Instant, NodeId, SECOND};
use crate::io::{Output, Request, Ticket};
use crate::membership::Membership;
use crate::message::Message;
use crate::span::{Question, Reply};

/// Inquiries under way; further ones are refused with [`Failure::Overloaded`].
const INQUIRIES_MAX: usize = 64;
/// The most peers that are asked, the nearest first.
const PEERS_MAX: usize = 32;
/// How long each step is waited for; a lost connection is noticed at once.
const WAIT: Instant = 2 * SECOND;

#[derive(Debug)]
struct Inquiry {
    request: Request,
    question: Question,
    replies: Vec<(NodeId, Reply)>,
    asked: BTreeSet<NodeId>,
    until: Instant,
}

impl Inquiry {
    fn take(&mut self, from: NodeId, reply: Reply) {
        let fits = matches!(
            (&self.question, &reply),
            (Question::Spans { .. }, Reply::Spans { .. }) | (Question::Log { .. }, Reply::Log { .. })
        );
        if fits {
            self.replies.push((from, reply));
        }
    }

    fn is_done(&self) -> bool {
        self.asked.is_empty() || matches!(self.question, Question::Log { .. }) && !self.replies.is_empty()
    }
}

/// The inquiries of this node's users.
#[derive(Debug)]
pub struct Inquiries {
    open: BTreeMap<u64, Inquiry>,
    next: u64,
}

impl Inquiries {
    /// They are numbered from `first`.
    pub fn new(first: u64) -> Inquiries {
        Inquiries { open: BTreeMap::new(), next: first }
    }

    /// Inquiries under way.
    pub fn residue(&self) -> (&'static str, usize) {
        ("inquiries", self.open.len())
    }

    /// Begins an inquiry: here first.
    pub fn begin(&mut self, now: Instant, request: Request, question: Question, out: &mut Vec<Output>) {
        if self.open.len() >= INQUIRIES_MAX || !question.is_bounded() {
            return out.push(Output::Informed { request, replies: Err(Failure::Overloaded { retry_after_ms: 1000 }) });
        }
        self.next += 1;
        out.push(Output::Inquire { ticket: Ticket::Inquiry(self.next), question: question.clone() });
        let (replies, asked, until) = (Vec::new(), BTreeSet::new(), now + WAIT);
        self.open.insert(self.next, Inquiry { request, question, replies, asked, until });
    }

    /// What this node saw itself; its peers are asked for the rest.
    pub fn here(&mut self, now: Instant, query: u64, reply: Reply, members: &Membership, out: &mut Vec<Output>) {
        let Some(inquiry) = self.open.get_mut(&query).filter(|inquiry| inquiry.asked.is_empty()) else { return };
        let me = members.config.me;
        inquiry.take(me, reply);
        // What has the log is the only node that has it.
        if matches!(inquiry.question, Question::Spans { .. }) || inquiry.replies.is_empty() {
            let in_reach = members.iter().map(|(&node, _)| node);
            let in_reach = in_reach.filter(|node| *node != me && members.trusts(node) && members.reaches(node));
            let mut peers: Vec<NodeId> = in_reach.collect();
            peers.sort_by_key(|node| (members.rtt_us(node), *node));
            inquiry.asked.extend(peers.into_iter().take(PEERS_MAX));
            inquiry.until = now + WAIT;
            let question = &inquiry.question;
            let ask = |to: &NodeId| {
                let message = Message::Inquire { query, question: question.clone() };
                Output::Send { to: *to, message }
            };
            out.extend(inquiry.asked.iter().map(ask));
        }
        self.end_if_done(query, out);
    }

    /// A peer says what it saw.
    pub fn there(&mut self, from: NodeId, query: u64, reply: Reply, out: &mut Vec<Output>) {
        let Some(inquiry) = self.open.get_mut(&query) else { return };
        if inquiry.asked.remove(&from) {
            inquiry.take(from, reply);
            self.end_if_done(query, out);
        }
    }

    /// A peer asks what this node saw.
    pub fn asked(from: NodeId, query: u64, question: Question, members: &Membership, out: &mut Vec<Output>) {
        out.push(match members.trusts(&from) {
            true => Output::Inquire { ticket: Ticket::Inform(from, query), question },
            false => Output::Send { to: from, message: Message::Inform { query, reply: Reply::Unknown } },
        });
    }

    fn end_if_done(&mut self, query: u64, out: &mut Vec<Output>) {
        if self.open.get(&query).is_some_and(Inquiry::is_done) {
            self.end(query, out);
        }
    }

    fn end(&mut self, query: u64, out: &mut Vec<Output>) {
        if let Some(Inquiry { request, replies, .. }) = self.open.remove(&query) {
            out.push(Output::Informed { request, replies: Ok(replies) });
        }
    }

    /// A peer is gone: nobody waits for its answers.
    pub fn gone(&mut self, peer: NodeId, out: &mut Vec<Output>) {
        let hit: Vec<u64> = self.open.iter_mut().filter_map(|(&id, i)| i.asked.remove(&peer).then_some(id)).collect();
        hit.into_iter().for_each(|id| self.end_if_done(id, out));
    }

    /// A user takes an inquiry back.
    pub fn cancel(&mut self, request: Request) {
        self.open.retain(|_, inquiry| inquiry.request != request);
    }

    /// Inquiries that took too long end with what was told.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Output>) {
        let late: Vec<u64> = self.open.iter().filter(|(_, inquiry)| inquiry.until <= now).map(|(&id, _)| id).collect();
        late.into_iter().for_each(|id| self.end(id, out));
    }

    /// When [`Inquiries::tick`] has something to do again.
    pub fn next_wakeup(&self) -> Option<Instant> {
        self.open.values().map(|inquiry| inquiry.until).min()
    }
}
