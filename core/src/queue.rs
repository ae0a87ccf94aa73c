//! The calls that wait for an executor: who waits, and who is next.
//!
//! Clients take turns (deficit round robin with calls of equal cost, Shreedhar and Varghese, 1995); among one client's calls
//! the most urgent is first. A job keeps its ready tasks to itself, and has its turn when there is room for one.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Bound;

use crate::call::Client;
use crate::id::{Instant, NodeId};
use crate::mesh::has_room;

/// The most calls that wait for an executor; further ones are refused with [`Failure::Overloaded`], but for those of
/// clients that have less than their share, of which there are as many again.
///
/// [`Failure::Overloaded`]: crate::failure::Failure::Overloaded
pub const QUEUE_MAX: usize = 1024;
/// The most bytes of all calls under way, shared in the same way: a call may carry 448 KiB.
pub const CALL_BYTES_MAX: usize = 32 << 20;

/// The most turns that a client is owed: what is refused for longer is old.
const OWED_MAX: u32 = 64;

/// What waits, for one client.
#[derive(Debug, Default)]
struct Line {
    calls: BTreeSet<(Instant, u64)>,
    /// Whether this is a job that has tasks and found no room for them.
    hungry: bool,
}

/// What a client has under way, waiting or not.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    calls: usize,
    bytes: usize,
    /// Turns that came to nothing: an executor was asked and was full.
    owed: u32,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// A call's.
    Call(u64),
    /// A job's: it knows which of its tasks.
    Job,
}

/// The calls that wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    lines: BTreeMap<Client, Line>,
    /// Those that wait for one executor, and how many wait for each.
    near: BTreeMap<u64, NodeId>,
    crowds: BTreeMap<NodeId, u32>,
    /// Whose turn was last.
    last: Option<Client>,
    shares: BTreeMap<Client, Share>,
    bytes: usize,
}

impl Queue {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.lines.values().map(|line| line.calls.len()).sum()
    }

    /// Clients that have calls under way.
    pub fn clients(&self) -> usize {
        self.shares.len()
    }

    /// Whether a client may begin a call of so many bytes, while so many of all wait.
    pub fn admits(&self, client: Client, bytes: usize, waiting: usize) -> bool {
        let share = self.shares.get(&client).copied().unwrap_or_default();
        let clients = self.shares.len() + usize::from(share.calls == 0);
        has_room(QUEUE_MAX, waiting, share.calls, clients) && has_room(CALL_BYTES_MAX, self.bytes + bytes, share.bytes, clients)
    }

    /// A client begins a call.
    pub fn begun(&mut self, client: Client, bytes: usize) {
        let share = self.shares.entry(client).or_default();
        share.calls += 1;
        share.bytes += bytes;
        self.bytes += bytes;
    }

    /// A call of a client ended.
    pub fn ended(&mut self, client: Client, bytes: usize) {
        self.bytes -= bytes;
        if let Some(share) = self.shares.get_mut(&client) {
            share.calls -= 1;
            share.bytes -= bytes;
            if share.calls == 0 {
                self.shares.remove(&client);
            }
        }
    }

    /// A call waits, perhaps for one executor alone.
    pub fn insert(&mut self, call: u64, client: Client, deadline: Instant, near: Option<NodeId>) {
        self.lines.entry(client).or_default().calls.insert((deadline, call));
        if let Some(node) = near {
            self.near.insert(call, node);
            *self.crowds.entry(node).or_default() += 1;
        }
    }

    /// A call does not wait any more.
    pub fn remove(&mut self, call: u64, client: Client, deadline: Instant) {
        if let Some(line) = self.lines.get_mut(&client) {
            line.calls.remove(&(deadline, call));
            self.drop_if_empty(client);
        }
        if let Some(node) = self.near.remove(&call)
            && let Some(crowd) = self.crowds.get_mut(&node)
        {
            *crowd -= 1;
            if *crowd == 0 {
                self.crowds.remove(&node);
            }
        }
    }

    /// For which executor alone a call waits.
    pub fn near(&self, call: u64) -> Option<NodeId> {
        self.near.get(&call).copied()
    }

    /// How many calls wait for an executor alone.
    pub fn crowd(&self, node: &NodeId) -> u32 {
        self.crowds.get(node).copied().unwrap_or(0)
    }

    /// A job has tasks for which it found no room, or has none.
    pub fn hungry(&mut self, job: u64, hungry: bool) {
        let client = Client::Job(job);
        if hungry {
            self.lines.entry(client).or_default().hungry = true;
        } else if let Some(line) = self.lines.get_mut(&client) {
            line.hungry = false;
            self.drop_if_empty(client);
        }
    }

    fn drop_if_empty(&mut self, client: Client) {
        if self.lines.get(&client).is_some_and(|line| line.calls.is_empty() && !line.hungry) {
            self.lines.remove(&client);
        }
    }

    /// A client had its turn.
    pub fn served(&mut self, client: Client) {
        match self.shares.get_mut(&client) {
            Some(share) if share.owed > 0 => share.owed -= 1,
            _ => self.last = Some(client),
        }
    }

    /// A client's turn came to nothing, and it has another: or one of two whose turns alternate with refusals has them all.
    pub fn refused(&mut self, client: Client) {
        if let Some(share) = self.shares.get_mut(&client) {
            share.owed = share.owed.saturating_add(1).min(OWED_MAX);
        }
    }

    /// Whose turn is next, at most `max` turns: of the calls that may try, and of jobs, if there are such.
    pub fn turns(&self, max: usize, jobs: bool, may_try: impl Fn(u64) -> bool) -> Vec<Turn> {
        let begin = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let end = self.last.map_or(Bound::Excluded(Client::User(0)), Bound::Included);
        let clients = self.lines.range((begin, Bound::Unbounded)).chain(self.lines.range((Bound::Unbounded, end)));
        let line = |line: &Line| {
            let calls = line.calls.iter().map(|&(_, call)| call).filter(|&call| may_try(call)).map(Turn::Call);
            let mut turns: Vec<Turn> = calls.take(max).collect();
            if jobs && line.hungry {
                turns.push(Turn::Job);
            }
            turns
        };
        let is_owed = |client: &Client| self.shares.get(client).is_some_and(|share| share.owed > 0);
        let (mut lines, later): (Vec<_>, Vec<_>) = clients.partition(|(client, _)| is_owed(client));
        lines.extend(later);
        let lines: Vec<Vec<Turn>> = lines.iter().map(|(_, of)| line(of)).filter(|turns| !turns.is_empty()).take(max).collect();
        let mut turns: Vec<Turn> =
            (0..=max).flat_map(|round| lines.iter().filter_map(move |line| line.get(round))).copied().collect();
        turns.truncate(max);
        turns
    }
}
