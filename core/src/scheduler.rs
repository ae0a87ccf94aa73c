//! The invoker's side of a call: load its manifest, find the best executor, claim it, and settle exactly once.
//!
//! The executor decides: a claim is granted or refused at once, and a refusal costs one round trip. After two refusals
//! the call waits in a bounded queue, by deadline. Silence, a lost peer or a forgotten lease is retried elsewhere as
//! long as the retry budget lasts. See DESIGN §6 for what a caller may rely on.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use cid::Cid;

pub use crate::call::{Call, Origin, Settled};
use crate::call::{Phase, State, all_set, at, is_everybodys};
use crate::failure::Failure;
use crate::function::Function;
use crate::id::{Instant, MILLISECOND, NodeId, SECOND};
use crate::io::{Answer, Memo, Output, Request, Ticket, Wanted};
use crate::membership::Membership;
use crate::memo::{Joined, reuse, takes_part};
use crate::mesh::RetryBudget;
use crate::message::{Message, Nack};
pub use crate::pace::WORK_PER_SLOT;
use crate::pace::Pace;
use crate::placement::{Candidate, rank};
use crate::queue::Queue;
use crate::task::Outcome;
use crate::timers::Timers;

/// The most calls that wait for an executor; further ones are refused with [`Failure::Overloaded`].
pub const QUEUE_MAX: usize = 1024;
/// Queued calls that one free place lets have a try.
const WAKE_MAX: usize = 8;
/// Executors that are asked which arguments they hold.
const SHORTLIST_MAX: usize = 8;
/// How long their answers are waited for.
const LOCATE_WAIT: Instant = 200 * MILLISECOND;
/// How long a claim may go unanswered: the answer needs no work, but a loaded machine may be slow to give it.
const CLAIM_WAIT: Instant = SECOND;
/// How often a granted lease is renewed, and after how long without a word it counts as lost.
const RENEW_EVERY: Instant = 5 * SECOND;
const LEASE_SILENCE: Instant = 15 * SECOND;
/// How long a young node looks for a first executor before it says that there is none.
const NOBODY_WAIT: Instant = 2 * SECOND;
/// How often a call looks for itself while every executor is full.
const LOOK_AGAIN: Instant = SECOND / 2;
/// The alarm that is no call's: an executor that said it is full may be asked again. Calls are numbered from 1.
const REST_IS_OVER: u64 = 0;
/// What an argument of unknown size counts for in the ranking, in bytes.
const UNKNOWN_SIZE: u64 = 256 * 1024;

/// The calls that this node makes.
#[derive(Debug)]
pub struct Scheduler {
    calls: BTreeMap<u64, State>,
    by_lease: BTreeMap<u64, u64>,
    by_query: BTreeMap<u64, u64>,
    queue: Queue,
    pace: Pace,
    timers: Timers,
    budget: RetryBudget,
    next: u64,
    settled: Vec<Settled>,
    joined: Joined,
}

impl Scheduler {
    /// `epoch` keeps the lease numbers of two lives of a node apart.
    pub fn new(epoch: u64) -> Scheduler {
        Scheduler {
            calls: BTreeMap::new(),
            by_lease: BTreeMap::new(),
            by_query: BTreeMap::new(),
            queue: Queue::default(),
            pace: Pace::default(),
            timers: Timers::default(),
            budget: RetryBudget::default(),
            next: epoch << 20,
            settled: Vec::new(),
            joined: Joined::default(),
        }
    }

    /// Calls that have not ended, and how many of them wait for an executor.
    pub fn load(&self) -> (usize, usize) {
        (self.calls.len(), self.queue.len())
    }

    /// How much more work this scheduler would give an executor now.
    pub fn room(&self, node: &NodeId, slots: u32) -> u32 {
        self.pace.room(node, slots)
    }

    /// Who works on the calls of requests.
    pub fn workers(&self) -> BTreeMap<Request, NodeId> {
        self.calls.values().filter_map(State::worker).collect()
    }

    /// Takes the calls that ended since the last time.
    pub fn take_settled(&mut self) -> Vec<Settled> {
        core::mem::take(&mut self.settled)
    }

    /// What is under way, by table: all zero when no call is.
    pub fn residue(&self) -> [(&'static str, usize); 8] {
        [
            ("calls", self.calls.len()),
            ("calls by lease", self.by_lease.len()),
            ("calls by query", self.by_query.len()),
            ("calls queued", self.queue.len()),
            ("executors with work", self.pace.working()),
            ("call timers", usize::from(self.timers.next().is_some())),
            ("settled calls", self.settled.len()),
            ("calls by key", self.joined.len()),
        ]
    }

    /// Whether [`Scheduler::take_settled`] would give any.
    pub fn has_settled(&self) -> bool {
        !self.settled.is_empty()
    }

    /// Whether a further call would be refused: all that has no lease waits, for its manifest, for answers, or for an
    /// executor.
    pub fn is_full(&self) -> bool {
        self.calls.len() - self.by_lease.len() >= QUEUE_MAX
    }

    /// Begins a call.
    pub fn submit(&mut self, now: Instant, call: Call, members: &Membership, out: &mut Vec<Output>) {
        let refusal = if self.is_full() { Err(Failure::Overloaded { retry_after_ms: 1000 }) } else { call.task.check() };
        if let Err(failure) = refusal {
            return self.settled.push(Settled { origin: call.origin, result: Err(failure) });
        }
        self.budget.deposit();
        let id = self.number();
        let loaded = call.function.is_some();
        if !loaded {
            out.push(Output::Load { ticket: Ticket::Call(id), function: call.task.function, hints: Vec::new() });
        }
        self.timers.set(id, call.deadline);
        self.calls.insert(id, State::new(call, now));
        if loaded {
            self.locate(now, id, members, out);
        }
    }

    /// The manifest is here, or is not to be had.
    pub fn loaded(
        &mut self,
        now: Instant,
        id: u64,
        function: Result<Arc<Function>, Failure>,
        members: &Membership,
        out: &mut Vec<Output>,
    ) {
        let Some(state) = self.calls.get_mut(&id).filter(|s| matches!(s.phase, Phase::Loading)) else { return };
        match state.check(function) {
            Err(failure) => self.settle(id, Err(failure), None),
            Ok(function) => {
                let recall = state.call.memo && takes_part(&function, &state.call.task);
                state.call.function = Some(function);
                if !recall {
                    return self.locate(now, id, members, out);
                }
                state.phase = Phase::Recalling;
                let of = Wanted::Tasks([state.call.task.clone()].into());
                out.push(Output::Recall { ticket: Ticket::Call(id), of });
            }
        }
    }

    /// What this node remembers of an equal task. If nothing, an equal call that is under way will do.
    pub fn recalled(&mut self, now: Instant, id: u64, key: Cid, hit: Option<Memo>, members: &Membership, out: &mut Vec<Output>) {
        let Some(state) = self.calls.get_mut(&id).filter(|s| matches!(s.phase, Phase::Recalling)) else { return };
        if let Some((done, executor)) = hit.filter(|memo| memo.key == key).and_then(|memo| reuse(&memo, members)) {
            let answer = Answer { done, executor, claims: 0, total_us: now - state.submitted };
            return self.settle(id, Ok(answer), None);
        }
        state.key = Some(key);
        state.phase = Phase::Joined;
        if self.joined.join(key, id) {
            self.locate(now, id, members, out);
        }
    }

    /// Equal calls that waited for one that ended: they have its result too, or the first of them runs next. A failure
    /// is theirs only if the function itself is the reason.
    fn share(&mut self, followers: Vec<u64>, ended: &State, result: &Result<Answer, Failure>) {
        let (Some(&heir), Some(key)) = (followers.first(), ended.key) else { return };
        if !is_everybodys(result) {
            return self.timers.set(heir, 0);
        }
        self.joined.forget(&key);
        for id in followers {
            let Some(state) = self.calls.get(&id) else { continue };
            let result = state.shares(ended, result);
            self.settle(id, result, None);
        }
    }

    /// Asks who holds the arguments, unless that is known or there is nothing to hold.
    fn locate(&mut self, now: Instant, id: u64, members: &Membership, out: &mut Vec<Output>) {
        let Some(state) = self.calls.get_mut(&id) else { return };
        let links: Vec<_> = state.call.task.links().collect();
        if state.call.holders.is_some() || links.is_empty() {
            return self.place(now, id, members, out);
        }
        state.phase = Phase::Locating { asked: BTreeMap::new() };
        self.timers.set(id, state.call.deadline.min(now + LOCATE_WAIT));
        out.push(Output::Have { ticket: Ticket::Call(id), cids: links });
    }

    /// What this node holds of a call's arguments: if not all, the executors are asked.
    pub fn have(&mut self, now: Instant, id: u64, bits: &[u8], members: &Membership, out: &mut Vec<Output>) {
        let Some(State { call, phase: Phase::Locating { asked }, .. }) = self.calls.get_mut(&id) else { return };
        let Some(function) = call.function.clone() else { return };
        let me = members.config.me;
        let links: Vec<_> = call.task.links().collect();
        call.bytes = links.len() as u64 * UNKNOWN_SIZE;
        if all_set(bits, links.len()) {
            call.holders.get_or_insert_default().push(me);
        } else {
            for (&node, _) in members.executors(&function.engine).filter(|(node, _)| **node != me).take(SHORTLIST_MAX) {
                self.next += 1;
                asked.insert(self.next, node);
                self.by_query.insert(self.next, id);
                out.push(Output::Send { to: node, message: Message::Holds { query: self.next, cids: links.clone() } });
            }
        }
        if asked.is_empty() {
            self.place(now, id, members, out);
        }
    }

    /// An executor says what it holds. Returns whether the question was this scheduler's.
    pub fn held(
        &mut self,
        now: Instant,
        from: NodeId,
        query: u64,
        bits: &[u8],
        members: &Membership,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(&id) = self.by_query.get(&query) else { return false };
        let Some(State { call, phase: Phase::Locating { asked }, .. }) = self.calls.get_mut(&id) else { return true };
        if asked.get(&query) != Some(&from) {
            return true;
        }
        asked.remove(&query);
        self.by_query.remove(&query);
        if all_set(bits, call.task.links().count()) {
            call.holders.get_or_insert_default().push(from);
        }
        if asked.is_empty() {
            self.place(now, id, members, out);
        }
        true
    }

    /// An executor took the work, or still has it.
    pub fn granted(&mut self, now: Instant, from: NodeId, lease: u64) {
        let Some((id, state)) = self.by_lease(from, lease) else { return };
        state.phase = Phase::Granted { node: from, lease, heard: now };
        let wake = state.call.deadline.min(now + RENEW_EVERY);
        self.timers.set(id, wake);
    }

    /// An executor refused.
    pub fn nacked(&mut self, now: Instant, from: NodeId, lease: u64, reason: Nack, members: &Membership, out: &mut Vec<Output>) {
        let Some((id, state)) = self.by_lease(from, lease) else { return };
        let (mut pause, mut busy) = (0, None);
        match reason {
            Nack::Busy { retry_after_ms } => {
                // Bounded, as a peer says it; and never at once, or two nodes could play ball with a call.
                let rest = retry_after_ms.saturating_mul(MILLISECOND).clamp(5 * MILLISECOND, SECOND);
                busy = Some(now + rest);
                pause = state.redirected(from, rest);
            }
            Nack::Denied | Nack::Unsuitable => {
                state.refused.insert(from, reason);
            }
        }
        if let Some(until) = busy {
            self.pace.rests(from, until);
            self.await_the_busy(now);
        }
        self.release(id);
        // A refusal frees no place: whoever waits goes on waiting.
        if pause > 0 {
            self.enqueue(id, now + pause);
        } else {
            self.place(now, id, members, out);
        }
    }

    /// An executor says what came of the work.
    pub fn outcome(
        &mut self,
        now: Instant,
        from: NodeId,
        lease: u64,
        outcome: Outcome,
        members: &Membership,
        out: &mut Vec<Output>,
    ) {
        out.push(Output::Send { to: from, message: Message::Settled { lease } });
        self.pace.rested(&from);
        let Some((id, _)) = self.by_lease(from, lease) else { return };
        match outcome {
            // An executor's word: it did not run.
            Err(failure) if failure.is_retriable() && !self.calls[&id].runs_once() => self.lost(now, id, failure, members, out),
            Err(failure) => self.settle(id, Err(at(from, failure)), None),
            Ok(done) => {
                let state = &self.calls[&id];
                let total_us = now - state.submitted;
                let answer = Answer { done, executor: from, claims: state.claims, total_us };
                self.settle(id, Ok(answer), None);
            }
        }
        self.wake_queue(now, members, out);
    }

    /// An executor has forgotten a lease.
    pub fn unknown(&mut self, now: Instant, from: NodeId, lease: u64, members: &Membership, out: &mut Vec<Output>) {
        let Some((id, _)) = self.by_lease(from, lease) else { return };
        self.lost(now, id, Failure::NodeFailed { what: format!("{from} lost the work") }, members, out);
    }

    /// A peer is gone: what it was doing goes elsewhere at once.
    pub fn gone(&mut self, now: Instant, peer: NodeId, members: &Membership, out: &mut Vec<Output>) {
        self.pace.rested(&peer);
        let hit = |s: &State| match &s.phase {
            Phase::Claimed { node, .. } | Phase::Granted { node, .. } => *node == peer,
            Phase::Locating { asked } => asked.values().any(|node| *node == peer),
            _ => false,
        };
        let affected: Vec<u64> = self.calls.iter().filter(|(_, s)| hit(s)).map(|(&id, _)| id).collect();
        for id in affected {
            let Some(state) = self.calls.get_mut(&id) else { continue };
            if let Phase::Locating { asked } = &mut state.phase {
                for (query, _) in asked.extract_if(.., |_, node| *node == peer) {
                    self.by_query.remove(&query);
                }
                if asked.is_empty() {
                    self.place(now, id, members, out);
                }
            } else {
                self.lost(now, id, Failure::NodeFailed { what: format!("{peer} went away") }, members, out);
            }
        }
    }

    /// The user takes a request back.
    pub fn cancel(&mut self, origin: Origin, out: &mut Vec<Output>) {
        let found = self.calls.iter().find(|(_, s)| s.call.origin == origin).map(|(&id, _)| id);
        if let Some(id) = found {
            self.settle(id, Err(Failure::Cancelled), Some(out));
        }
    }

    /// A member came or changed: calls that wait for one may go on.
    pub fn members_changed(&mut self, now: Instant, members: &Membership, out: &mut Vec<Output>) {
        self.wake_queue(now, members, out);
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant, members: &Membership, out: &mut Vec<Output>) {
        while let Some(id) = self.timers.pop(now) {
            if id == REST_IS_OVER {
                self.await_the_busy(now);
                self.wake_queue(now, members, out);
                continue;
            }
            let Some(state) = self.calls.get_mut(&id) else { continue };
            if state.call.deadline <= now {
                let stage = state.stage();
                self.settle(id, Err(Failure::DeadlineExceeded { stage }), Some(out));
                continue;
            }
            match state.phase {
                Phase::Joined if state.key.is_some_and(|key| self.joined.leads(&key, id)) => self.locate(now, id, members, out),
                Phase::Loading | Phase::Recalling | Phase::Joined => self.timers.set(id, state.call.deadline),
                Phase::Locating { .. } | Phase::Queued { .. } => self.place(now, id, members, out),
                Phase::Claimed { node, lease } => {
                    out.push(Output::Send { to: node, message: Message::Cancel { lease } });
                    self.lost(now, id, Failure::NodeFailed { what: format!("{node} did not answer a claim") }, members, out);
                }
                Phase::Granted { node, lease, heard } if now - heard < LEASE_SILENCE => {
                    out.push(Output::Send { to: node, message: Message::Renew { lease } });
                    self.timers.set(id, state.call.deadline.min(now + RENEW_EVERY));
                }
                Phase::Granted { node, lease, .. } => {
                    out.push(Output::Send { to: node, message: Message::Cancel { lease } });
                    self.lost(now, id, Failure::NodeFailed { what: format!("{node} fell silent") }, members, out);
                }
            }
        }
    }

    /// When [`Scheduler::tick`] has something to do again.
    pub fn next_wakeup(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Claims the best executor for a call, or queues it, or says that there is none.
    fn place(&mut self, now: Instant, id: u64, members: &Membership, out: &mut Vec<Output>) {
        self.release(id);
        let Some(state) = self.calls.get(&id) else { return };
        let Some(function) = state.call.function.clone() else { return };
        if state.call.deadline <= now {
            // An answer came in after the deadline and before the tick.
            let stage = state.stage();
            return self.settle(id, Err(Failure::DeadlineExceeded { stage }), Some(out));
        }
        let holders = state.call.holders.as_deref().unwrap_or_default();
        let candidates: Vec<Candidate> = members
            .executors(&function.engine)
            .filter(|(node, _)| !state.passed.contains(node) && !state.refused.contains_key(node))
            .filter(|(node, m)| self.room(node, m.advert.offers.slots) > 0 && self.pace.busy_until(node) <= now)
            .map(|(&node, m)| Candidate {
                node,
                missing: if holders.contains(&node) { 0 } else { state.call.bytes },
                rtt_us: members.rtt_us(&node),
                slots: m.advert.offers.slots,
                in_flight: self.pace.in_flight(&node),
            })
            .collect();
        let target = candidates.iter().map(|c| c.node).find(|node| state.call.target == Some(*node));
        match target.or_else(|| rank(candidates).first().map(|c| c.node)) {
            Some(node) => self.claim(now, id, node, members.config.me, out),
            None => self.wait_or_fail(now, id, &function.engine, members, out),
        }
    }

    fn claim(&mut self, now: Instant, id: u64, node: NodeId, me: NodeId, out: &mut Vec<Output>) {
        let lease = self.number();
        let Some(state) = self.calls.get_mut(&id) else { return };
        self.queue.remove(id, state.call.deadline);
        state.phase = Phase::Claimed { node, lease };
        state.claims += 1;
        // A lost target is not asked first again.
        state.call.target = None;
        let message = state.claim(now, lease, node, me);
        self.timers.set(id, state.call.deadline.min(now + CLAIM_WAIT));
        self.by_lease.insert(lease, id);
        self.pace.give(node);
        out.push(Output::Send { to: node, message });
    }

    fn wait_or_fail(&mut self, now: Instant, id: u64, engine: &str, members: &Membership, out: &mut Vec<Output>) {
        let Some(state) = self.calls.get_mut(&id) else { return };
        let mut all = members.executors(engine).peekable();
        let nobody = all.peek().is_none();
        let refused_by_all = !nobody && all.all(|(node, _)| state.refused.contains_key(node));
        if nobody && now < state.submitted + NOBODY_WAIT {
            let until = state.submitted + NOBODY_WAIT;
            return self.enqueue(id, until);
        }
        if nobody || refused_by_all {
            let failure = state.nobody(engine, members);
            return self.settle(id, Err(failure), Some(out));
        }
        // Somebody suits but has no room. Whoever was passed over in this round may be asked in the next.
        state.passed.clear();
        state.redirects = 0;
        let full = |node: &NodeId, slots: u32| {
            let refused = self.calls.get(&id).is_some_and(|state| state.refused.contains_key(node));
            refused || self.room(node, slots) == 0 || self.pace.busy_until(node) > now
        };
        match members.executors(engine).all(|(node, m)| full(node, m.advert.offers.slots)) {
            // An outcome, or the end of a rest, wakes the most urgent: a thousand calls that look for themselves would
            // be a busy loop.
            true => self.wait(id, now, now + LOOK_AGAIN),
            false => self.enqueue(id, now + 20 * MILLISECOND),
        }
    }

    /// Sets the alarm for the first executor that may be asked again.
    fn await_the_busy(&mut self, now: Instant) {
        match self.pace.next_rest(now) {
            Some(until) => self.timers.set(REST_IS_OVER, until),
            None => self.timers.clear(REST_IS_OVER),
        }
    }

    fn enqueue(&mut self, id: u64, from: Instant) {
        self.wait(id, from, from);
    }

    /// Puts a call into the queue: it may be woken from `from` on, and looks for itself at `look`.
    fn wait(&mut self, id: u64, from: Instant, look: Instant) {
        let Some(state) = self.calls.get_mut(&id) else { return };
        state.phase = Phase::Queued { from };
        self.queue.insert(id, state.call.deadline);
        self.timers.set(id, look.min(state.call.deadline));
    }

    /// A place may have become free: the most urgent calls that may try, do.
    fn wake_queue(&mut self, now: Instant, members: &Membership, out: &mut Vec<Output>) {
        let may_try = |s: &State| matches!(s.phase, Phase::Queued { from } if from <= now || s.claims == 0);
        for id in self.queue.first(WAKE_MAX, |id| self.calls.get(&id).is_some_and(may_try)) {
            self.place(now, id, members, out);
        }
    }

    /// An attempt came to nothing through no fault of the work.
    fn lost(&mut self, now: Instant, id: u64, failure: Failure, members: &Membership, out: &mut Vec<Output>) {
        let Some(state) = self.calls.get_mut(&id) else { return };
        if let Err(failure) = state.lose(failure) {
            return self.settle(id, Err(failure), Some(out));
        }
        self.release(id);
        if self.budget.withdraw(now) {
            self.place(now, id, members, out);
        } else {
            self.enqueue(id, now + 100 * MILLISECOND);
        }
    }

    /// Gives back what the present attempt holds.
    fn release(&mut self, id: u64) {
        let Some(state) = self.calls.get_mut(&id) else { return };
        match core::mem::replace(&mut state.phase, Phase::Queued { from: 0 }) {
            Phase::Claimed { node, lease } | Phase::Granted { node, lease, .. } => {
                self.by_lease.remove(&lease);
                self.pace.take(&node);
            }
            Phase::Locating { asked } => {
                for query in asked.keys() {
                    self.by_query.remove(query);
                }
            }
            Phase::Loading | Phase::Recalling | Phase::Joined | Phase::Queued { .. } => {}
        }
    }

    /// Ends a call, once. With `out`, whoever still works on it is told to stop.
    fn settle(&mut self, id: u64, result: Result<Answer, Failure>, out: Option<&mut Vec<Output>>) {
        if let (Some(out), Some(state)) = (out, self.calls.get(&id)) {
            match state.phase {
                Phase::Claimed { node, lease } | Phase::Granted { node, lease, .. } => {
                    out.push(Output::Send { to: node, message: Message::Cancel { lease } });
                }
                Phase::Loading => out.push(Output::Stop { ticket: Ticket::Call(id) }),
                _ => {}
            }
        }
        self.release(id);
        self.timers.clear(id);
        if let Some(state) = self.calls.remove(&id) {
            self.queue.remove(id, state.call.deadline);
            if let Some(key) = state.key {
                let followers = self.joined.leave(&key, id);
                self.share(followers, &state, &result);
            }
            self.settled.push(Settled { origin: state.call.origin, result });
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The call that `from` holds this lease of.
    fn by_lease(&mut self, from: NodeId, lease: u64) -> Option<(u64, &mut State)> {
        let id = *self.by_lease.get(&lease)?;
        let state = self.calls.get_mut(&id)?;
        match state.phase {
            Phase::Claimed { node, .. } | Phase::Granted { node, .. } if node == from => Some((id, state)),
            _ => None,
        }
    }
}
