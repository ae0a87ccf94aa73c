//! Receipts by any of their names: this node looks into its own, and asks its peers for the rest.
//!
//! The executor of a task knows its receipt, and so do the keepers of its memo key. Who asks with a result knows neither of
//! them: so all trusted peers in reach are asked at the same time, and the first answer counts.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec;
use alloc::vec::Vec;
use cid::Cid;

use crate::failure::Failure;
use crate::id::{Instant, NodeId, SECOND};
use crate::io::{Memo, Output, Request, Ticket, Wanted};
use crate::membership::Membership;
use crate::message::{KEYS_MAX, Message};

/// Searches under way; further ones are refused with [`Failure::Overloaded`].
const SEARCHES_MAX: usize = 64;
/// The most peers that are asked, the nearest first.
const PEERS_MAX: usize = 32;
/// How long each step is waited for: this node's own look-up, then its peers' answers. What is not answered counts as not
/// found; a lost connection is noticed at once.
const WAIT: Instant = 2 * SECOND;

/// Receipts that are being signed, and questions that came while they were: whoever knows a result may ask for its receipt
/// at once, so these are looked up behind them. There are as many as there are questions.
#[derive(Debug, Default)]
pub struct Unsigned {
    asked: u64,
    signed: u64,
    waiting: VecDeque<(u64, Output)>,
}

impl Unsigned {
    /// Questions that wait.
    pub fn residue(&self) -> (&'static str, usize) {
        ("questions behind signatures", self.waiting.len())
    }

    /// Lets an output go on, unless it is a question that must wait. A call's own look-up never does.
    pub fn pass(&mut self, output: Output, out: &mut Vec<Output>) {
        match output {
            Output::Recall { ticket: Ticket::Search(_) | Ticket::Recall(..) | Ticket::JobMemo(_), .. }
                if self.asked > self.signed =>
            {
                self.waiting.push_back((self.asked, output));
            }
            output => {
                self.asked += u64::from(matches!(output, Output::Sign { .. }));
                out.push(output);
            }
        }
    }

    /// So many are signed, and on their way to be kept: what waited for them goes on.
    pub fn signed(&mut self, count: usize, out: &mut Vec<Output>) {
        self.signed = self.asked.min(self.signed + count as u64);
        while let Some((_, output)) = self.waiting.pop_front_if(|(behind, _)| *behind <= self.signed) {
            out.push(output);
        }
    }
}

#[derive(Debug)]
struct Search {
    request: Request,
    of: Vec<Cid>,
    found: Vec<Option<Memo>>,
    asked: BTreeSet<NodeId>,
    until: Instant,
}

impl Search {
    /// Takes what answers the question and is of an executor that this node believes.
    fn take(&mut self, receipts: &[Memo], members: &Membership) {
        for (name, found) in self.of.iter().zip(&mut self.found).filter(|(_, found)| found.is_none()) {
            let fits = |memo: &&Memo| memo.is_of(name) && members.trusts(&memo.receipt.iss);
            *found = receipts.iter().find(fits).cloned();
        }
    }

    fn missing(&self) -> Vec<Cid> {
        self.of.iter().zip(&self.found).filter(|(_, found)| found.is_none()).map(|(name, _)| *name).collect()
    }
}

/// The searches of this node's users.
#[derive(Debug)]
pub struct Searches {
    open: BTreeMap<u64, Search>,
    next: u64,
}

impl Searches {
    /// They are numbered from `first`.
    pub fn new(first: u64) -> Searches {
        Searches { open: BTreeMap::new(), next: first }
    }

    /// Searches under way.
    pub fn residue(&self) -> (&'static str, usize) {
        ("searches for receipts", self.open.len())
    }

    /// Begins a search: here first.
    pub fn begin(&mut self, now: Instant, request: Request, of: Vec<Cid>, out: &mut Vec<Output>) {
        if self.open.len() >= SEARCHES_MAX || of.len() > KEYS_MAX {
            return out.push(Output::Searched { request, found: Err(Failure::Overloaded { retry_after_ms: 1000 }) });
        }
        self.next += 1;
        out.push(Output::Recall { ticket: Ticket::Search(self.next), of: Wanted::Keys(of.clone()) });
        let found = vec![None; of.len()];
        self.open.insert(self.next, Search { request, of, found, asked: BTreeSet::new(), until: now + WAIT });
    }

    /// What this node has; its peers are asked for the rest.
    pub fn here(&mut self, now: Instant, query: u64, found: Vec<Option<Memo>>, members: &Membership, out: &mut Vec<Output>) {
        let Some(search) = self.open.get_mut(&query).filter(|search| search.asked.is_empty()) else { return };
        search.take(&found.into_iter().flatten().collect::<Vec<_>>(), members);
        let keys = search.missing();
        if !keys.is_empty() {
            let me = members.config.me;
            let in_reach = members.iter().map(|(&node, _)| node);
            let in_reach = in_reach.filter(|node| *node != me && members.trusts(node) && members.reaches(node));
            let mut peers: Vec<NodeId> = in_reach.collect();
            peers.sort_by_key(|node| (members.rtt_us(node), *node));
            search.asked.extend(peers.into_iter().take(PEERS_MAX));
            search.until = now + WAIT;
            let ask = |to: &NodeId| Output::Send { to: *to, message: Message::Recall { query, keys: keys.clone() } };
            out.extend(search.asked.iter().map(ask));
        }
        self.end_if_done(query, out);
    }

    /// A peer says what it has. Returns whether the question was a search's.
    pub fn there(&mut self, from: NodeId, query: u64, receipts: &[Memo], members: &Membership, out: &mut Vec<Output>) -> bool {
        let Some(search) = self.open.get_mut(&query) else { return false };
        if search.asked.remove(&from) {
            search.take(receipts, members);
            self.end_if_done(query, out);
        }
        true
    }

    fn end_if_done(&mut self, query: u64, out: &mut Vec<Output>) {
        if self.open.get(&query).is_some_and(|search| search.asked.is_empty() || search.found.iter().all(Option::is_some)) {
            self.end(query, out);
        }
    }

    fn end(&mut self, query: u64, out: &mut Vec<Output>) {
        if let Some(search) = self.open.remove(&query) {
            out.push(Output::Searched { request: search.request, found: Ok(search.found) });
        }
    }

    /// A peer is gone: nobody waits for its answers.
    pub fn gone(&mut self, peer: NodeId, out: &mut Vec<Output>) {
        let hit: Vec<u64> = self.open.iter_mut().filter_map(|(&id, t)| t.asked.remove(&peer).then_some(id)).collect();
        hit.into_iter().for_each(|id| self.end_if_done(id, out));
    }

    /// A user takes a search back.
    pub fn cancel(&mut self, request: Request) {
        self.open.retain(|_, search| search.request != request);
    }

    /// Searches that took too long end with what was found.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Output>) {
        let late: Vec<u64> = self.open.iter().filter(|(_, search)| search.until <= now).map(|(&id, _)| id).collect();
        late.into_iter().for_each(|id| self.end(id, out));
    }

    /// When [`Searches::tick`] has something to do again.
    pub fn next_wakeup(&self) -> Option<Instant> {
        self.open.values().map(|search| search.until).min()
    }
}
