//! The invoker's side of a call: load its manifest, find the best executor, claim it, and settle exactly once.
//!
//! The executor decides: a claim is granted or refused at once, and a refusal costs one round trip. After two refusals
//! the call waits in a bounded queue. It also waits there for an executor near its data that is full, as long as that is
//! cheaper than to move the data (delay scheduling, Zaharia and others, 2010). Silence, a lost peer or a forgotten lease is
//! retried elsewhere as long as the retry budget lasts. See DESIGN §6 for what a caller may rely on.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use alloc::{boxed::Box, collections::BTreeMap};
use cid::Cid;

pub use crate::call::{Call, Client, Origin, Settled};
use crate::call::{Choice, Phase, Search, State, at, is_everybodys, is_set};
use crate::envelope::Via;
use crate::failure::Failure;
use crate::function::Function;
use crate::id::{Instant, MILLISECOND, NodeId, SECOND};
use crate::io::{Answer, Here, Memo, Output, Request, Ticket, Wanted};
use crate::membership::Membership;
use crate::memo::{Joined, reuse};
use crate::mesh::RetryBudget;
use crate::message::{Message, Nack};
use crate::pace::Pace;
pub use crate::pace::WORK_PER_SLOT;
use crate::placement::{Ranking, rank};
pub use crate::queue::{CALL_BYTES_MAX, QUEUE_MAX};
use crate::queue::{Queue, Turn};
use crate::task::Outcome;
use crate::timers::Timers;

/// Queued calls that one free place lets have a try.
const WAKE_MAX: usize = 8;
/// Executors that are asked which arguments they hold.
const SHORTLIST_MAX: usize = 8;
/// How long their answers are waited for.
const LOCATE_WAIT: Instant = 200 * MILLISECOND;
/// How often a granted lease is renewed, and after how long without a word it counts as lost.
const RENEW_EVERY: Instant = 5 * SECOND;
const LEASE_SILENCE: Instant = 15 * SECOND;
/// How often a call looks for itself while every executor is full.
const LOOK_AGAIN: Instant = SECOND / 2;
/// The alarm that is no call's: an executor that said it is full may be asked again. Calls are numbered from 1.
const REST_IS_OVER: u64 = 0;

/// The calls that this node makes.
#[derive(Debug, Default)]
pub struct Scheduler {
    calls: BTreeMap<u64, Box<State>>,
    by_lease: BTreeMap<u64, u64>,
    by_query: BTreeMap<u64, u64>,
    queue: Queue,
    pace: Pace,
    timers: Timers,
    budget: RetryBudget,
    next: u64,
    settled: Vec<Settled>,
    joined: Joined,
    /// Whether a place was left to jobs, whose turn it was.
    left_to_jobs: bool,
}

impl Scheduler {
    /// `epoch` keeps the lease numbers of two lives of a node apart.
    pub fn new(epoch: u64) -> Scheduler {
        Scheduler { next: epoch << 20, ..Scheduler::default() }
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
        self.calls.values().filter_map(|state| state.worker()).collect()
    }

    /// Takes the calls that ended since the last time.
    pub fn take_settled(&mut self) -> Vec<Settled> {
        core::mem::take(&mut self.settled)
    }

    /// What is under way, by table: all zero when no call is.
    pub fn residue(&self) -> [(&'static str, usize); 9] {
        [
            ("calls", self.calls.len()),
            ("calls by lease", self.by_lease.len()),
            ("calls by query", self.by_query.len()),
            ("calls queued", self.queue.len()),
            ("clients with calls", self.queue.clients()),
            ("executors with work", self.pace.working()),
            ("call timers", usize::from(self.timers.next().is_some())),
            ("settled calls", self.settled.len()),
            ("calls by key", self.joined.len()),
        ]
    }

    /// Who was asked under a lease, and how that call has to travel, if that matters.
    pub fn asked(&self, lease: u64) -> Option<(NodeId, Option<Via>)> {
        self.calls.get(self.by_lease.get(&lease)?)?.asked()
    }

    /// Whether [`Scheduler::take_settled`] would give any.
    pub fn has_settled(&self) -> bool {
        !self.settled.is_empty()
    }

    /// Whether a client may begin a call of so many bytes: all that has no lease waits, for its manifest, for answers, or
    /// for an executor.
    pub fn admits(&self, client: Client, bytes: usize) -> bool {
        self.queue.admits(client, bytes, self.calls.len() - self.by_lease.len())
    }

    /// What a run of a function takes, in microseconds, and what it costs to bring so many bytes to a node.
    pub fn expected_us(&self, function: &Cid, node: &NodeId, bytes: u64) -> (u64, u64) {
        (self.pace.run_us(function), self.pace.fetch_us(node, bytes))
    }

    /// Begins a call.
    pub fn submit(&mut self, now: Instant, mut call: Call, members: &Membership, out: &mut Vec<Output>) {
        let bytes = call.task.size();
        let refusal = call.task.check().and_then(|()| match self.admits(call.client, bytes) {
            true => Ok(()),
            false => Err(self.pace.overloaded(self.calls.len(), members)),
        });
        if let Err(failure) = refusal {
            return self.settled.push(State::new(call, now).settled(Err(failure)));
        }
        self.queue.begun(call.client, bytes);
        self.budget.deposit();
        let id = self.number();
        let (known, function) = (call.function.take(), call.task.function);
        self.timers.set(id, call.deadline);
        self.calls.insert(id, Box::new(State::new(call, now)));
        match known {
            Some(function) => self.loaded(now, id, (Ok(function), None), members, out),
            None => out.push(Output::Load { ticket: Ticket::Call(id), function, hints: Vec::new() }),
        }
    }

    /// The manifest is here, or is not to be had. Who told it, if it came by letter, is asked first.
    pub fn loaded(
        &mut self,
        now: Instant,
        id: u64,
        (function, told): (Result<Arc<Function>, Failure>, Option<NodeId>),
        members: &Membership,
        out: &mut Vec<Output>,
    ) {
        let Some(state) = self.calls.get_mut(&id).filter(|s| matches!(s.phase, Phase::Loading)) else { return };
        match state.check(function) {
            Err(failure) => self.settle(id, Err(failure), None),
            Ok(function) => {
                let recall = state.may_recall(&function);
                state.call.target = state.call.target.or(told);
                state.call.function = Some(function);
                if !recall {
                    return self.locate(now, id, members, out);
                }
                let of = Wanted::Tasks([state.call.task.clone()].into());
                state.phase = Phase::Recalling;
                match state.call.new {
                    Some(key) => self.recalled(now, id, key, None, members, out),
                    None => out.push(Output::Recall { ticket: Ticket::Call(id), of }),
                }
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
        if state.call.held.is_some() || links.is_empty() {
            return self.place(now, id, members, out);
        }
        state.phase = Phase::Locating(Search::default());
        self.timers.set(id, state.call.deadline.min(now + LOCATE_WAIT));
        out.push(Output::Have { ticket: Ticket::Call(id), cids: links });
    }

    /// What this node holds of a call's arguments: if not all, the executors are asked.
    pub fn have(&mut self, now: Instant, id: u64, here: &Here, members: &Membership, out: &mut Vec<Output>) {
        let Some(State { call, phase: Phase::Locating(search), .. }) = self.calls.get_mut(&id).map(Box::as_mut) else { return };
        let Some(function) = call.function.clone() else { return };
        let me = members.config.me;
        let links: Vec<_> = call.task.links().collect();
        search.add(me, here);
        if !(0..links.len()).all(|i| is_set(&here.bits, i)) {
            for (&node, _) in members.executors(&function.engine).filter(|(node, _)| **node != me).take(SHORTLIST_MAX) {
                self.next += 1;
                search.asked.insert(self.next, node);
                self.by_query.insert(self.next, id);
                out.push(Output::Send { to: node, message: Message::Holds { query: self.next, cids: links.clone() } });
            }
        }
        if search.asked.is_empty() {
            self.place(now, id, members, out);
        }
    }

    /// An executor says what it holds. Returns whether the question was this scheduler's.
    pub fn held(
        &mut self,
        now: Instant,
        from: NodeId,
        query: u64,
        there: &Here,
        members: &Membership,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(&id) = self.by_query.get(&query) else { return false };
        let Some(State { phase: Phase::Locating(search), .. }) = self.calls.get_mut(&id).map(Box::as_mut) else { return true };
        if search.asked.get(&query) == Some(&from) {
            search.asked.remove(&query);
            self.by_query.remove(&query);
            search.add(from, there);
            if search.asked.is_empty() {
                self.place(now, id, members, out);
            }
        }
        true
    }

    /// An executor took the work, or still has it.
    pub fn granted(&mut self, now: Instant, from: NodeId, lease: u64) {
        self.pace.heard(&from);
        let Some((id, state)) = self.by_lease(from, lease) else { return };
        state.grant(now, from, lease);
        let wake = state.call.deadline.min(now + RENEW_EVERY);
        self.timers.set(id, wake);
    }

    /// An executor refused.
    pub fn nacked(&mut self, now: Instant, from: NodeId, lease: u64, reason: Nack, members: &Membership, out: &mut Vec<Output>) {
        let Some((id, state)) = self.by_lease(from, lease) else { return };
        let mut pause = None;
        state.refuse(now, from, &reason);
        match reason {
            Nack::Busy { retry_after_ms } => {
                let (redirected, client) = (state.redirected(), state.call.client);
                self.queue.refused(client);
                let until = self.pace.rests(now, from, retry_after_ms);
                pause = redirected.then_some(until);
                self.await_the_busy(now);
            }
            Nack::Denied | Nack::Unsuitable => drop(state.refused.insert(from, reason)),
        }
        self.release(id);
        // A refusal frees no place: whoever waits goes on waiting.
        match pause {
            Some(until) => self.enqueue(id, until),
            None => self.place(now, id, members, out),
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
        let Some((id, state)) = self.by_lease(from, lease) else { return };
        // Whose deadline passed there may be somebody who has left, and whose run this call took over.
        let early = matches!(outcome, Err(Failure::DeadlineExceeded { .. })) && state.call.deadline > now + SECOND;
        match outcome {
            // An executor's word: it did not run.
            Err(failure) if (early || failure.is_retriable()) && !state.runs_once() => {
                self.lost(now, id, failure, members, out);
            }
            Err(failure) => self.settle(id, Err(at(from, failure)), None),
            Ok(done) => {
                let (function, total_us, claims) = (state.call.task.function, now - state.submitted, state.claims);
                self.pace.measured(&function, from, &done);
                let answer = Answer { done, executor: from, claims, total_us };
                self.settle(id, Ok(answer), None);
            }
        }
        self.wake(now, Some(from), true, members, out);
    }

    /// An executor has forgotten a lease.
    pub fn unknown(&mut self, now: Instant, from: NodeId, lease: u64, members: &Membership, out: &mut Vec<Output>) {
        let Some((id, _)) = self.by_lease(from, lease) else { return };
        self.lost(now, id, Failure::NodeFailed { what: format!("{from} lost the work") }, members, out);
    }

    /// A peer is gone: what it was doing goes elsewhere at once.
    pub fn gone(&mut self, now: Instant, peer: NodeId, members: &Membership, out: &mut Vec<Output>) {
        self.pace.rested(&peer);
        let affected: Vec<u64> = self.calls.iter().filter(|(_, s)| s.needs(peer)).map(|(&id, _)| id).collect();
        for id in affected {
            let Some(state) = self.calls.get_mut(&id) else { continue };
            if let Phase::Locating(Search { asked, .. }) = &mut state.phase {
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

    /// The user takes a request back. What was done for it goes on for an equal call that waits for its result.
    pub fn cancel(&mut self, origin: Origin, out: &mut Vec<Output>) {
        let Some(id) = self.calls.iter().find(|(_, s)| s.call.origin == origin).map(|(&id, _)| id) else { return };
        let heir = self.calls[&id].key.and_then(|key| self.joined.heir(&key, id));
        let Some((heir, mut next)) = heir.and_then(|heir| Some((heir, self.calls.remove(&heir)?))) else {
            return self.settle(id, Err(Failure::Cancelled), Some(out));
        };
        if let Some(state) = self.calls.get_mut(&id) {
            let (waits, near) = (matches!(state.phase, Phase::Queued { .. }), self.queue.near(id));
            self.queue.remove(id, state.call.client, state.call.deadline);
            state.swap_users(&mut next);
            if waits {
                self.queue.insert(id, state.call.client, state.call.deadline, near);
            }
            self.timers.set_at_latest(id, state.call.deadline);
        }
        self.calls.insert(heir, next);
        self.settle(heir, Err(Failure::Cancelled), Some(out));
    }

    /// A member came or changed: calls that wait for one may go on.
    pub fn members_changed(&mut self, now: Instant, members: &Membership, out: &mut Vec<Output>) {
        self.wake(now, None, true, members, out);
    }

    /// A job has tasks for which it found no room, or has none.
    pub fn hungry(&mut self, job: u64, hungry: bool) {
        self.queue.hungry(job, hungry);
    }

    /// The jobs took what room they could use: the rest is for calls.
    pub fn jobs_are_served(&mut self, now: Instant, members: &Membership, out: &mut Vec<Output>) {
        if core::mem::take(&mut self.left_to_jobs) {
            self.wake(now, None, false, members, out);
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant, members: &Membership, out: &mut Vec<Output>) {
        while let Some(id) = self.timers.pop(now) {
            if id == REST_IS_OVER {
                self.await_the_busy(now);
                self.wake(now, None, true, members, out);
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
                Phase::Locating(_) | Phase::Queued { .. } => self.place(now, id, members, out),
                Phase::Claimed { node, lease } => {
                    self.pace.fell_silent(now, node);
                    self.await_the_busy(now);
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
        let Some(state) = self.calls.get_mut(&id) else { return };
        let Some(function) = state.call.function.clone() else { return };
        if state.call.deadline <= now {
            // An answer came in after the deadline and before the tick.
            let stage = state.stage();
            return self.settle(id, Err(Failure::DeadlineExceeded { stage }), Some(out));
        }
        let mut candidates = self.pace.candidates(now, state, &self.queue, &function, members);
        if let Some(request) = state.tells(now, &candidates) {
            rank(&mut candidates);
            let others = members.unfit_for(&function, state.call.via);
            self.remove(id);
            return out.push(Output::Ranked { request, reply: Ok(Ranking { suited: candidates, others }) });
        }
        match state.choose(now, &candidates) {
            Choice::Nobody => self.wait_or_fail(now, id, &function, members, out),
            Choice::Wait(near, until) => self.wait(id, now, until, Some(near)),
            Choice::Ask(node) => self.claim(now, id, node, members.config.me, out),
        }
    }

    fn claim(&mut self, now: Instant, id: u64, node: NodeId, me: NodeId, out: &mut Vec<Output>) {
        let lease = self.number();
        let Some(state) = self.calls.get_mut(&id) else { return };
        self.queue.served(state.call.client);
        state.phase = Phase::Claimed { node, lease };
        state.claims += 1;
        state.waits_near = None;
        // A lost target is not asked first again.
        state.call.target = None;
        let message = state.claim(now, lease, node, me);
        self.timers.set(id, state.call.deadline.min(now + state.patience()));
        self.by_lease.insert(lease, id);
        self.pace.give(node);
        out.push(Output::Send { to: node, message });
    }

    fn wait_or_fail(&mut self, now: Instant, id: u64, function: &Function, members: &Membership, out: &mut Vec<Output>) {
        let Some(state) = self.calls.get_mut(&id) else { return };
        match state.stuck(now, function, members) {
            Err(failure) => return self.settle(id, Err(failure), Some(out)),
            Ok(Some(until)) => return self.enqueue(id, until),
            Ok(None) => {}
        }
        let candidates = self.pace.candidates(now, state, &self.queue, function, members);
        match candidates.iter().any(|c| c.open) {
            // An outcome, or the end of a rest, wakes those whose turn it is: a thousand calls that look for themselves
            // would be a busy loop.
            false => self.wait(id, now, now + LOOK_AGAIN, None),
            true => self.enqueue(id, now + 20 * MILLISECOND),
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
        self.wait(id, from, from, None);
    }

    /// Puts a call into the queue: it may be woken from `from` on, by a place at one executor or at any, and looks for itself
    /// at `look`.
    fn wait(&mut self, id: u64, from: Instant, look: Instant, near: Option<NodeId>) {
        let Some(state) = self.calls.get_mut(&id) else { return };
        state.phase = Phase::Queued { from };
        self.queue.insert(id, state.call.client, state.call.deadline, near);
        self.timers.set(id, look.min(state.call.deadline));
    }

    /// A place may have become free, at one executor or anywhere: those whose turn it is try. With `jobs` they have turns too.
    fn wake(&mut self, now: Instant, at: Option<NodeId>, jobs: bool, members: &Membership, out: &mut Vec<Output>) {
        let waits_for_it = |id| at.is_none() || self.queue.near(id).is_none_or(|near| Some(near) == at);
        let is_due = |s: &State| matches!(s.phase, Phase::Queued { from } if from <= now || s.claims == 0);
        let may_try = |id| self.calls.get(&id).is_some_and(|s| is_due(s)) && waits_for_it(id);
        for turn in self.queue.turns(WAKE_MAX, jobs, may_try) {
            match turn {
                Turn::Call(id) => self.place(now, id, members, out),
                Turn::Job => {
                    self.left_to_jobs = true;
                    return;
                }
            }
        }
    }

    /// An attempt came to nothing through no fault of the work.
    fn lost(&mut self, now: Instant, id: u64, failure: Failure, members: &Membership, out: &mut Vec<Output>) {
        let Some(state) = self.calls.get_mut(&id) else { return };
        if let Err(failure) = state.lose(now, failure) {
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
        let call = &mut state.call;
        match core::mem::replace(&mut state.phase, Phase::Queued { from: 0 }) {
            Phase::Claimed { node, lease } | Phase::Granted { node, lease, .. } => {
                self.by_lease.remove(&lease);
                self.pace.take(&node);
            }
            Phase::Locating(search) => {
                for query in search.asked.keys() {
                    self.by_query.remove(query);
                }
                let (bytes, held) = search.sum(call.task.links().count());
                (call.bytes, call.held) = (bytes, Some(held));
            }
            Phase::Queued { .. } => self.queue.remove(id, call.client, call.deadline),
            Phase::Loading | Phase::Recalling | Phase::Joined => {}
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
        if let Some(state) = self.remove(id) {
            if let Some(key) = state.key {
                let followers = self.joined.leave(&key, id);
                self.share(followers, &state, &result);
            }
            self.settled.push(state.settled(result));
        }
    }

    /// Forgets a call.
    fn remove(&mut self, id: u64) -> Option<State> {
        self.release(id);
        self.timers.clear(id);
        let state = *self.calls.remove(&id)?;
        self.queue.ended(state.call.client, state.call.task.size());
        Some(state)
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
