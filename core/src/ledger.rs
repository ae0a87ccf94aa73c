//! Work that outlives its asker: calls and jobs that were accepted, are tried until they end, and whose outcome is kept.
//!
//! A piece of work goes through `Accepting → Ready ⇄ UnderWay → Keeping → Ending → Ended`. It is acknowledged when the
//! journal has it; its result is brought here, wherever it was made, and its outcome is told when the journal has that.
//! After a restart what had not ended is begun again; a pure function's memo makes that cheap, and one with effects is
//! never begun a second time.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use cid::Cid;

use crate::failure::Failure;
use crate::id::{Instant, MILLISECOND, NodeId, Now, SECOND};
use crate::io::{Answer, Output, Request, Ticket, WorkState, WorkView};
use crate::job::JobDone;
use crate::promise::{Asked, Class, Ending, JournalEntry, Key, Stage, Work};
use crate::timers::Timers;

/// The most work that is kept, ended or not. Beyond, the oldest that ended is forgotten; where none has ended, further work
/// is refused with [`Failure::Overloaded`].
pub const WORK_MAX: usize = 16_384;
/// The most bytes of inline arguments of work that has not ended; further work is refused likewise.
pub const OPEN_BYTES_MAX: usize = 64 << 20;
/// How long an outcome is kept, in milliseconds: a day.
pub const KEPT_MS: u64 = 24 * 3600 * 1000;
/// Work that is handed to the scheduler and the runner at the same time, so that it does not fill their queues.
const UNDER_WAY_MAX: usize = 256;
/// Those who wait for one outcome at the same time; further ones are told at once how far it is.
const WAITERS_MAX: usize = 64;
/// Those who wait for one acknowledgement at the same time; further ones are refused with [`Failure::Overloaded`].
const ASKERS_MAX: usize = 64;
/// What one turn begins, and what it forgets, so that its output stays bounded.
const TURN_MAX: usize = 64;
/// How often content that nobody has is looked for, as peers may still be on their way after a restart.
const NOT_FOUND_TRIES: u32 = 6;
/// The pause before work is tried again, doubling up to [`PAUSE_MAX`].
const PAUSE: Instant = SECOND;
const PAUSE_MAX: Instant = 30 * SECOND;
/// Requests from this number on are the ledger's own; those of users are counted from 1.
const OWN: Request = 1 << 63;

/// Whether a request is the ledger's.
pub fn is_own(request: Request) -> bool {
    request >= OWN
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Accepting,
    Ready,
    UnderWay,
    Keeping,
    Ending,
    Ended,
}

#[derive(Debug)]
struct Item {
    work: Work,
    state: State,
    tries: u32,
    /// Whether an earlier life of this node may have begun it.
    again: bool,
    /// Why it is tried again.
    last: Option<Failure>,
    /// What it gave, while that is being brought here.
    ending: Option<Ending>,
    /// Whether a result was lost with its executor: whoever remembers it would give the same lost one.
    lost: bool,
    /// Those who wait for the acknowledgement, and for the outcome.
    askers: Vec<Request>,
    waiters: Vec<Request>,
}

/// Work that is to begin.
#[derive(Clone, Debug)]
pub struct Begin {
    /// Under which request: the answer to it is the ledger's.
    pub request: Request,
    /// The handle.
    pub handle: Cid,
    /// What.
    pub asked: Asked,
    /// Until when.
    pub deadline: Instant,
    /// Whether it may have begun before.
    pub again: bool,
}

/// The work that this node promised to do.
#[derive(Debug, Default)]
pub struct Ledger {
    items: BTreeMap<u64, Item>,
    by_handle: BTreeMap<Cid, u64>,
    /// In the order in which they become ready.
    ready: BTreeSet<u64>,
    under_way: usize,
    open_bytes: usize,
    waiters: BTreeMap<Request, u64>,
    /// The oldest first.
    ended: VecDeque<u64>,
    /// When work is tried again, or its outcome forgotten.
    timers: Timers,
    next: u64,
}

impl Ledger {
    /// Work that has not ended.
    pub fn open(&self) -> usize {
        self.items.len() - self.ended.len()
    }

    /// What is under way, by table: all zero when all work has ended and nobody waits.
    pub fn residue(&self) -> [(&'static str, usize); 5] {
        [
            ("detached work", self.open()),
            ("detached work ready", self.ready.len()),
            ("detached work under way", self.under_way),
            ("bytes of detached work", self.open_bytes),
            ("waiters", self.waiters.len()),
        ]
    }

    /// What the journal must hold when nothing is being written.
    pub fn entries(&self) -> impl Iterator<Item = JournalEntry> + '_ {
        self.items.values().map(|item| JournalEntry::Work(item.work.clone()))
    }

    /// Takes up what an earlier life of this node left.
    pub fn restore(&mut self, now: Now, mut works: Vec<Work>) {
        let since = |work: &Work| match &work.stage {
            Stage::Ended { at_ms, .. } => *at_ms,
            Stage::Open(_) => work.accepted_ms,
        };
        works.sort_by_key(|work| (since(work), work.handle));
        for work in works {
            let ended = matches!(work.stage, Stage::Ended { .. });
            let id = self.insert(work, if ended { State::Ended } else { State::Ready }, true);
            if ended {
                self.ended.push_back(id);
                self.keep(now, id);
            } else {
                self.make_ready(now, id);
            }
        }
    }

    /// Work waits to be begun, until its time is up.
    fn make_ready(&mut self, now: Now, id: u64) {
        let Some(item) = self.items.get_mut(&id) else { return };
        item.state = State::Ready;
        let deadline = item.deadline(now);
        self.ready.insert(id);
        self.timers.set(id, deadline);
    }

    fn insert(&mut self, work: Work, state: State, again: bool) -> u64 {
        self.next += 1;
        self.open_bytes += bytes(&work);
        self.by_handle.insert(work.handle, self.next);
        let (askers, waiters) = (Vec::new(), Vec::new());
        self.items
            .insert(self.next, Item { work, state, tries: 0, again, last: None, ending: None, lost: false, askers, waiters });
        self.next
    }

    /// A user wants work done. To accept the same again is no second promise, unless the first came to nothing.
    pub fn accept(&mut self, now: Now, request: Request, handle: Cid, asked: Asked, timeout_ms: u64, out: &mut Vec<Output>) {
        if let Some(&id) = self.by_handle.get(&handle)
            && let Some(item) = self.items.get_mut(&id)
        {
            let spent = matches!(&item.work.stage, Stage::Ended { outcome, .. } if is_spent(outcome, &asked));
            match item.state {
                State::Accepting if item.askers.len() < ASKERS_MAX => return item.askers.push(request),
                State::Accepting => {
                    let reply = Err(Failure::Overloaded { retry_after_ms: 100 });
                    return out.push(Output::Accepted { request, reply });
                }
                State::Ended if spent => self.remove(id),
                _ => return out.push(Output::Accepted { request, reply: Ok(()) }),
            }
        }
        let work = describe(now, handle, asked, timeout_ms);
        if let Err(failure) = self.make_room(bytes(&work), out) {
            return out.push(Output::Accepted { request, reply: Err(failure) });
        }
        let entry = JournalEntry::Work(work.clone());
        let id = self.insert(work, State::Accepting, false);
        if let Some(item) = self.items.get_mut(&id) {
            item.askers.push(request);
        }
        out.push(Output::Persist { ticket: Some(Ticket::Accept(id)), entry, class: Class::Os });
    }

    fn make_room(&mut self, bytes: usize, out: &mut Vec<Output>) -> Result<(), Failure> {
        if self.items.len() >= WORK_MAX
            && let Some(&oldest) = self.ended.front()
        {
            self.forget(oldest, out);
        }
        match self.items.len() >= WORK_MAX || self.open_bytes + bytes > OPEN_BYTES_MAX {
            true => Err(Failure::Overloaded { retry_after_ms: 1000 }),
            false => Ok(()),
        }
    }

    /// The journal has the promise, or cannot take it.
    pub fn accepted(&mut self, now: Now, id: u64, persisted: Result<(), Failure>, out: &mut Vec<Output>) {
        let Some(item) = self.items.get_mut(&id).filter(|item| item.state == State::Accepting) else { return };
        for request in core::mem::take(&mut item.askers) {
            out.push(Output::Accepted { request, reply: persisted.clone() });
        }
        match persisted {
            Ok(()) => self.make_ready(now, id),
            Err(_) => self.remove(id),
        }
    }

    /// Takes work that should begin. The caller begins it, and tells how it ended.
    pub fn begin(&mut self, now: Now, out: &mut Vec<Output>) -> Vec<Begin> {
        let mut begun = Vec::new();
        for _ in 0..TURN_MAX {
            if self.under_way >= UNDER_WAY_MAX {
                break;
            }
            let Some(id) = self.ready.pop_first() else { break };
            let Some(item) = self.items.get_mut(&id) else { continue };
            let Stage::Open(asked) = &item.work.stage else { continue };
            let deadline = item.deadline(now);
            if deadline <= now.monotonic_us {
                self.late(now, id, out);
                continue;
            }
            item.state = State::UnderWay;
            self.under_way += 1;
            self.timers.clear(id);
            let (asked, again) = match item.lost {
                true => (asked.clone().anew(), true),
                false => (asked.clone(), item.again),
            };
            begun.push(Begin { request: OWN + id, handle: item.work.handle, asked, deadline, again });
        }
        begun
    }

    /// A call of the ledger's ended.
    pub fn call_ended(&mut self, now: Now, request: Request, result: Result<Answer, Failure>, out: &mut Vec<Output>) {
        let ending = result.map(|answer| Ending { done: answer.done, executor: Some(answer.executor) });
        self.came_back(now, request, ending, out);
    }

    /// A job of the ledger's ended.
    pub fn job_ended(&mut self, now: Now, request: Request, result: Result<JobDone, Failure>, out: &mut Vec<Output>) {
        self.came_back(now, request, result.map(|job| Ending { done: job.done, executor: None }), out);
    }

    fn came_back(&mut self, now: Now, request: Request, result: Result<Ending, Failure>, out: &mut Vec<Output>) {
        let id = request - OWN;
        let Some(item) = self.items.get_mut(&id).filter(|item| item.state == State::UnderWay) else { return };
        self.under_way -= 1;
        match result {
            Ok(ending) => {
                item.state = State::Keeping;
                let (roots, hints) = ([ending.done.result].into(), ending.executor.into_iter().collect());
                item.ending = Some(ending);
                out.push(Output::Fetch { ticket: Ticket::Keep(id), roots, recursive: true, durable: true, hints });
            }
            Err(failure) => self.settle(now, id, Err(failure), out),
        }
    }

    /// A result is safe here, or is gone with its executor.
    pub fn kept(&mut self, now: Now, id: u64, fetched: Result<u64, Failure>, out: &mut Vec<Output>) {
        let Some(item) = self.items.get_mut(&id).filter(|item| item.state == State::Keeping) else { return };
        let Some(ending) = item.ending.take() else { return };
        item.lost |= fetched.is_err();
        self.settle(now, id, fetched.map(|_| ending), out);
    }

    /// What came of work is final, or it is tried again.
    fn settle(&mut self, now: Now, id: u64, result: Result<Ending, Failure>, out: &mut Vec<Output>) {
        let Some(item) = self.items.get_mut(&id) else { return };
        match result {
            // The work is not at fault: it was promised, so it is tried as long as its user gave it time.
            Err(failure) if passes(&failure, item.tries) => {
                let pause = PAUSE.saturating_mul(1 << item.tries.min(5)).min(PAUSE_MAX);
                item.tries += 1;
                item.last = Some(failure);
                item.state = State::Ready;
                let again = now.monotonic_us.saturating_add(pause).min(item.deadline(now));
                self.timers.set(id, again);
            }
            result => self.end(now, id, result, out),
        }
    }

    fn late(&mut self, now: Now, id: u64, out: &mut Vec<Output>) {
        let stage = String::from("waiting to be begun");
        self.end(now, id, Err(Failure::DeadlineExceeded { stage }), out);
    }

    /// Work has its outcome: it is told when the journal has it.
    fn end(&mut self, now: Now, id: u64, outcome: Result<Ending, Failure>, out: &mut Vec<Output>) {
        let Some(item) = self.items.get_mut(&id) else { return };
        self.open_bytes -= bytes(&item.work);
        item.state = State::Ending;
        item.work.stage = Stage::Ended { at_ms: now.unix_ms, outcome };
        self.ready.remove(&id);
        self.timers.clear(id);
        let entry = JournalEntry::Work(item.work.clone());
        out.push(Output::Persist { ticket: Some(Ticket::End(id)), entry, class: Class::Os });
    }

    /// The journal has an outcome. If it cannot take it, it is told all the same: it is true, and after a restart the work
    /// is done again.
    pub fn noted(&mut self, now: Now, id: u64, out: &mut Vec<Output>) {
        let Some(item) = self.items.get_mut(&id).filter(|item| item.state == State::Ending) else { return };
        item.state = State::Ended;
        let waiters = core::mem::take(&mut item.waiters);
        let view = item.view();
        for request in waiters {
            self.waiters.remove(&request);
            out.push(Output::Works { request, works: [view.clone()].into() });
        }
        self.ended.push_back(id);
        self.keep(now, id);
    }

    /// Sets the alarm at which an outcome is forgotten; says whether its time is over.
    fn keep(&mut self, now: Now, id: u64) -> bool {
        let Some(Stage::Ended { at_ms, .. }) = self.items.get(&id).map(|item| &item.work.stage) else { return false };
        // A clock that was wrong when it ended must not keep it for ever.
        let left_ms = at_ms.saturating_add(KEPT_MS).saturating_sub(now.unix_ms).min(KEPT_MS);
        self.timers.set(id, now.monotonic_us.saturating_add(left_ms * MILLISECOND));
        left_ms == 0
    }

    fn forget(&mut self, id: u64, out: &mut Vec<Output>) {
        if let Some(item) = self.items.get(&id) {
            let entry = JournalEntry::Forgotten(Key::Work(item.work.handle));
            out.push(Output::Persist { ticket: None, entry, class: Class::Os });
        }
        self.remove(id);
    }

    fn remove(&mut self, id: u64) {
        let Some(item) = self.items.remove(&id) else { return };
        self.open_bytes -= bytes(&item.work);
        self.by_handle.remove(&item.work.handle);
        self.timers.clear(id);
        self.ready.remove(&id);
        self.ended.retain(|other| *other != id);
        for request in item.waiters {
            self.waiters.remove(&request);
        }
    }

    /// A user asks about all work; `workers` says who is at it.
    pub fn survey(&mut self, request: Request, workers: &BTreeMap<Request, NodeId>, out: &mut Vec<Output>) {
        let accepted = self.items.iter().filter(|(_, item)| item.state != State::Accepting);
        let works = accepted.map(|(id, item)| {
            let on = workers.get(&(OWN + id)).copied();
            let view = item.view();
            let running = view.state == WorkState::Running { on: None };
            if running { WorkView { state: WorkState::Running { on }, ..view } } else { view }
        });
        out.push(Output::Works { request, works: works.collect() });
    }

    /// A user asks about one piece of work; with `wait`, when it has ended. What is not known is not in the answer.
    pub fn ask(&mut self, request: Request, handle: Cid, wait: bool, out: &mut Vec<Output>) {
        let found = self.by_handle.get(&handle).copied();
        let Some((id, item)) = found.and_then(|id| Some((id, self.items.get_mut(&id)?))) else {
            return out.push(Output::Works { request, works: Vec::new() });
        };
        if wait && item.state != State::Ended && item.waiters.len() < WAITERS_MAX {
            item.waiters.push(request);
            self.waiters.insert(request, id);
        } else {
            out.push(Output::Works { request, works: [item.view()].into() });
        }
    }

    /// Somebody does not wait any more.
    pub fn leave(&mut self, request: Request) {
        if let Some(id) = self.waiters.remove(&request)
            && let Some(item) = self.items.get_mut(&id)
        {
            item.waiters.retain(|other| *other != request);
        }
    }

    /// A user takes accepted work back, and is told what became of it. Gives the request under which it is under way, for
    /// the caller to stop.
    pub fn revoke(&mut self, now: Now, request: Request, handle: Cid, out: &mut Vec<Output>) -> Option<Request> {
        let id = self.by_handle.get(&handle).copied();
        let state = id.and_then(|id| self.items.get(&id)).map(|item| item.state);
        let mut stop = None;
        match (id, state) {
            (Some(id), Some(State::UnderWay)) => {
                self.under_way -= 1;
                stop = Some(OWN + id);
                self.end(now, id, Err(Failure::Cancelled), out);
            }
            (Some(id), Some(State::Ready)) => self.end(now, id, Err(Failure::Cancelled), out),
            _ => {}
        }
        self.ask(request, handle, state.is_some_and(|state| state != State::Accepting), out);
        stop
    }

    /// Does what is due: tries again, forgets.
    pub fn tick(&mut self, now: Now, out: &mut Vec<Output>) {
        for _ in 0..TURN_MAX {
            let Some(id) = self.timers.pop(now.monotonic_us) else { return };
            match self.items.get(&id).map(|item| item.state) {
                Some(State::Ready) if self.items[&id].deadline(now) <= now.monotonic_us => self.late(now, id, out),
                Some(State::Ready) => self.make_ready(now, id),
                Some(State::Ended) if self.keep(now, id) => self.forget(id, out),
                _ => {}
            }
        }
    }

    /// When [`Ledger::tick`] or [`Ledger::begin`] has something to do again.
    pub fn next_wakeup(&self) -> Option<Instant> {
        // What one turn did not begin is due at once.
        let more = !self.ready.is_empty() && self.under_way < UNDER_WAY_MAX;
        if more { Some(0) } else { self.timers.next() }
    }
}

impl Item {
    /// Until when it is tried.
    fn deadline(&self, now: Now) -> Instant {
        let left_ms = self.work.deadline_ms.saturating_sub(now.unix_ms);
        now.monotonic_us.saturating_add(left_ms.saturating_mul(MILLISECOND))
    }

    fn view(&self) -> WorkView {
        let work = &self.work;
        let state = match (&work.stage, self.state) {
            (Stage::Ended { at_ms, outcome }, _) => WorkState::Ended { at_ms: *at_ms, outcome: outcome.clone() },
            (_, State::UnderWay | State::Keeping) => WorkState::Running { on: None },
            _ => WorkState::Waiting { last: self.last.clone() },
        };
        let Work { handle, job, function, accepted_ms, deadline_ms, .. } = *work;
        WorkView { handle, job, function, entry: work.entry.clone(), accepted_ms, deadline_ms, state }
    }
}

/// Whether a failure may pass with time.
fn passes(failure: &Failure, tries: u32) -> bool {
    match failure {
        Failure::Overloaded { .. } | Failure::NoExecutor { .. } | Failure::NodeFailed { .. } => true,
        Failure::NotFound { .. } => tries < NOT_FOUND_TRIES,
        _ => false,
    }
}

/// Whether work that ended is done anew when it is asked for again: its node failed it, or its result is not wanted. Who
/// gave it a sequence number of its own has its outcome, whatever it is.
fn is_spent(outcome: &Result<Ending, Failure>, asked: &Asked) -> bool {
    use Failure::{BadArgument, FunctionFailed, LimitExceeded, MayHaveRun, Rejected};
    let memo = match asked {
        Asked::Call { task, .. } if task.seq != 0 => return false,
        Asked::Call { memo, .. } | Asked::Job { memo, .. } => *memo,
    };
    let stands = matches!(
        outcome,
        Ok(_) | Err(BadArgument { .. } | FunctionFailed { .. } | LimitExceeded { .. } | MayHaveRun { .. } | Rejected { .. })
    );
    !memo || !stands
}

/// What open work takes of the bound on inline arguments.
fn bytes(work: &Work) -> usize {
    match &work.stage {
        Stage::Open(Asked::Call { task, .. }) => task.size(),
        _ => 0,
    }
}

fn describe(now: Now, handle: Cid, asked: Asked, timeout_ms: u64) -> Work {
    let (job, function, entry) = match &asked {
        Asked::Call { task, .. } => (false, task.function, task.entry.clone()),
        Asked::Job { spec, .. } => (true, spec.function, spec.map.clone()),
    };
    let (accepted_ms, deadline_ms) = (now.unix_ms, now.unix_ms.saturating_add(timeout_ms));
    Work { handle, job, function, entry, accepted_ms, deadline_ms, stage: Stage::Open(asked) }
}
