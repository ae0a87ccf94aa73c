//! The executor's side: it alone decides what it takes, fetches what the work needs, runs it, and answers.
//!
//! A piece of work goes through `Loading → Fetching → Waiting → Running → Done`; one with effects is named after loading,
//! noted before running (`Intending`), has its receipt signed, and is noted again before its end is told (`Noting`). It is
//! admitted while fewer than three a slot are under way, or its scheduler has less than its share of them; it runs when a
//! slot and its memory are free, and schedulers take turns. The lease is between this node and the
//! claiming scheduler: it ends with an outcome that was received, with silence, or with the loss of the peer.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use cid::Cid;
use serde_bytes::ByteBuf;

use crate::capability::Role;
use crate::effects::Effects;
use crate::failure::Failure;
use crate::function::{Determinism, Function};
use crate::id::{Instant, MILLISECOND, NodeId, Now, SECOND};
use crate::io::{Exit, Memo, Output, Sealed, Ticket, Wanted};
use crate::membership::Membership;
use crate::memo::{judge, remember, reuse, takes_part, tell};
use crate::message::{Message, Nack, RESULT_MAX};
use crate::promise::{Effect, JournalEntry};
use crate::resources::Resources;
use crate::scheduler::WORK_PER_SLOT;
use crate::span::Marks;
use crate::task::{Outcome, Task, Usage};
use crate::timers::Timers;
use crate::turns::Turns;
use crate::work::{Stage, Work};

pub use crate::work::Claim;

/// How long work goes on without a word from its scheduler: three missed renewals.
const LEASE_SILENCE: Instant = 15 * SECOND;
/// How long an outcome is kept for a scheduler that has not said that it has it.
const OUTCOME_KEPT: Instant = 30 * SECOND;
/// The most outcomes that are kept so; beyond, the oldest are forgotten and the work is done again if it was wanted.
const OUTCOMES_MAX: usize = 4096;
/// Manifests that are kept read.
const FUNCTIONS_MAX: usize = 256;

/// What work does that is ready and has no slot.
const WAITING: &str = "waiting for a slot";

/// The work that this node does.
#[derive(Debug)]
pub struct Executor {
    /// Boxed, or the map would move kilobytes whenever one comes or goes.
    works: BTreeMap<u64, Box<Work>>,
    by_lease: BTreeMap<(NodeId, u64), u64>,
    turns: Turns,
    done: VecDeque<u64>,
    running: Resources,
    functions: BTreeMap<Cid, Arc<Function>>,
    /// Functions whose code and mounts were fetched already.
    ready: BTreeSet<Cid>,
    timers: Timers,
    effects: Effects,
    next: u64,
    /// What a run takes, in microseconds: a moving average.
    run_us: u64,
}

impl Default for Executor {
    fn default() -> Self {
        Executor {
            works: BTreeMap::new(),
            by_lease: BTreeMap::new(),
            turns: Turns::default(),
            done: VecDeque::new(),
            running: Resources::default(),
            functions: BTreeMap::new(),
            ready: BTreeSet::new(),
            timers: Timers::default(),
            effects: Effects::default(),
            next: 0,
            run_us: 10_000,
        }
    }
}

impl Executor {
    /// Slots in use, and work that was admitted and has not ended.
    pub fn load(&self) -> (u32, u32) {
        (self.running.slots, self.turns.admitted() as u32)
    }

    /// What is under way, by table: all zero when there is no work and all outcomes are received or expired.
    pub fn residue(&self) -> [(&'static str, usize); 8] {
        [
            ("work", self.works.len()),
            ("work by lease", self.by_lease.len()),
            ("work waiting", self.turns.waiting()),
            ("schedulers with work", self.turns.schedulers()),
            ("outcomes", self.done.len()),
            ("slots used", self.running.slots as usize),
            ("work timers", usize::from(self.timers.next().is_some())),
            ("runs reserved", self.effects.reserved()),
        ]
    }

    /// Takes up the runs with effects that an earlier life of this node noted.
    pub fn restore(&mut self, now_ms: u64, effects: Vec<Effect>, out: &mut Vec<Output>) {
        self.effects.restore(now_ms, effects, out);
    }

    /// What the journal must hold of runs with effects when nothing is being written.
    pub fn entries(&self) -> impl Iterator<Item = JournalEntry> + '_ {
        self.effects.entries()
    }

    /// A scheduler asks for work to be done.
    pub fn claim(&mut self, now: Instant, from: NodeId, lease: u64, claim: Claim, members: &Membership, out: &mut Vec<Output>) {
        let Claim { task, budget_ms, hints, memo, keep, trace, inline } = claim;
        if self.by_lease.contains_key(&(from, lease)) {
            return self.renew(now, from, lease, out);
        }
        let sponsor = match self.admit(now, from, task.size(), members) {
            Ok(sponsor) => sponsor,
            Err(reason) => return out.push(Output::Send { to: from, message: Message::Nack { lease, reason } }),
        };
        self.next += 1;
        let id = self.next;
        let deadline = now + budget_ms.min(crate::function::TIMEOUT_MS_MAX) * MILLISECOND;
        let function = self.functions.get(&task.function).cloned();
        let load = Output::Load { ticket: Ticket::Work(id), function: task.function, hints: with(&hints, from) };
        let (stage, marks) = (Stage::Loading, Marks { admitted: now, ..Marks::default() });
        let (heard, wanted, effect) = (now, true, None);
        let work =
            Work { from, sponsor, lease, task, hints, memo, keep, inline, stage, deadline, heard, wanted, effect, trace, marks };
        self.turns.enter(sponsor, &work.task);
        self.works.insert(id, Box::new(work));
        self.by_lease.insert((from, lease), id);
        self.timers.set(id, deadline.min(now + LEASE_SILENCE));
        out.push(Output::Send { to: from, message: Message::Grant { lease } });
        match function {
            Some(function) => self.loaded(now, id, Ok(function), members, out),
            None => out.push(load),
        }
    }

    /// Who answers for work that is taken: keys that ask in a node's place have its share and its turns.
    fn admit(&self, now: Instant, from: NodeId, bytes: usize, members: &Membership) -> Result<NodeId, Nack> {
        let config = &members.config;
        let sponsor = members.sponsor(&from, now).ok_or(Nack::Denied)?;
        if !config.roles.contains(&Role::Executor) {
            return Err(Nack::Unsuitable);
        }
        let places = config.offers.slots.saturating_mul(WORK_PER_SLOT) as usize;
        if !self.turns.admits(sponsor, bytes, places) {
            let ahead = self.turns.admitted() as u64 / u64::from(config.offers.slots.max(1));
            return Err(Nack::Busy { retry_after_ms: (ahead.saturating_mul(self.run_us) / MILLISECOND).clamp(1, 10_000) });
        }
        Ok(sponsor)
    }

    /// A scheduler says that it still wants the work, or asks what came of it.
    pub fn renew(&mut self, now: Instant, from: NodeId, lease: u64, out: &mut Vec<Output>) {
        let message = match self.by_lease.get(&(from, lease)).and_then(|id| Some((*id, self.works.get_mut(id)?.as_mut()))) {
            None => Message::Unknown { lease },
            Some((id, work @ Work { stage: Stage::Done { .. }, .. })) => return work.tell(id, out),
            Some((id, work)) => {
                work.heard = now;
                let wake = work.deadline.min(now + LEASE_SILENCE);
                self.timers.set(id, wake);
                Message::Grant { lease }
            }
        };
        out.push(Output::Send { to: from, message });
    }

    /// The scheduler does not want the work any more, or has its outcome.
    pub fn drop_lease(&mut self, from: NodeId, lease: u64, out: &mut Vec<Output>) {
        if let Some(&id) = self.by_lease.get(&(from, lease)) {
            self.forget(id, out);
        }
    }

    /// A peer is gone, and with it whoever wanted its work.
    pub fn gone(&mut self, peer: NodeId, out: &mut Vec<Output>) {
        let orphans: Vec<u64> = self.by_lease.range((peer, 0)..=(peer, u64::MAX)).map(|(_, &id)| id).collect();
        for id in orphans {
            self.forget(id, out);
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
        let Some(work) = self.works.get_mut(&id).filter(|w| matches!(w.stage, Stage::Loading)) else { return };
        let function = match function.and_then(|f| f.check_call(&work.task.entry, work.task.args.len()).map(|_| f.clone())) {
            Ok(function) => function,
            Err(failure) => return self.end(now, id, Err(failure), out),
        };
        let suits = members.config.engines.contains(&function.engine) && members.config.offers.memory >= function.limits.memory;
        if !suits {
            let (to, lease) = (work.from, work.lease);
            self.forget(id, out);
            return out.push(Output::Send { to, message: Message::Nack { lease, reason: Nack::Unsuitable } });
        }
        if self.functions.len() >= FUNCTIONS_MAX && !self.functions.contains_key(&work.task.function) {
            self.functions.pop_first();
        }
        self.functions.insert(work.task.function, function.clone());
        if function.determinism == Determinism::Effects {
            let (task, subject) = (work.task.clone(), work.from);
            work.stage = Stage::Naming { function };
            return out.push(Output::Identify { ticket: Ticket::Work(id), task, subject });
        }
        // The scheduler of this node has looked here already.
        if work.memo && work.from != members.config.me && takes_part(&function, &work.task) {
            work.stage = Stage::Recalling { function };
            let of = Wanted::Tasks([work.task.clone()].into());
            return out.push(Output::Recall { ticket: Ticket::Work(id), of });
        }
        self.prepare(now, id, function, members, out);
    }

    /// The TaskId of work with effects is known: it goes on unless it was begun before.
    pub fn identified(&mut self, now: Now, id: u64, task: Cid, members: &Membership, out: &mut Vec<Output>) {
        let Some(work) = self.works.get_mut(&id) else { return };
        let Stage::Naming { function } = &work.stage else { return };
        let function = function.clone();
        if let Some(outcome) = self.effects.reserve(now.unix_ms, task, out) {
            return self.end(now.monotonic_us, id, outcome, out);
        }
        work.effect = Some((task, now.unix_ms));
        self.prepare(now.monotonic_us, id, function, members, out);
    }

    /// The journal has what it was given for this work, or cannot take it.
    pub fn persisted(
        &mut self,
        now: Instant,
        id: u64,
        persisted: Result<(), Failure>,
        members: &Membership,
        out: &mut Vec<Output>,
    ) {
        let Some(work) = self.works.get_mut(&id) else { return };
        match (&work.stage, persisted) {
            (Stage::Intending { function, usage }, Ok(())) => {
                let (function, usage) = (function.clone(), *usage);
                work.start(now, id, function, usage, out);
            }
            (Stage::Intending { .. }, Err(failure)) => {
                self.stand_down(id, out);
                self.end(now, id, Err(failure), out);
                self.start_waiting(now, members, out);
            }
            (Stage::Noting { outcome }, persisted) => {
                let outcome = outcome.clone();
                // What was not noted may not be told as done: a later request would hear otherwise.
                let lost = |why| Failure::MayHaveRun { what: alloc::format!("its end could not be noted: {why}") };
                self.end(now, id, persisted.map_err(lost).and(outcome), out);
            }
            _ => {}
        }
    }

    /// Work that was about to begin does not: its slot is free, and nothing is noted of it.
    fn stand_down(&mut self, id: u64, out: &mut Vec<Output>) {
        let Some(Work { stage: Stage::Intending { function, .. }, effect, .. }) = self.works.get(&id).map(Box::as_ref) else {
            return;
        };
        self.running = self.running.less(&function.demand());
        if let Some((task, _)) = effect {
            self.effects.undo(task, out);
        }
    }

    /// What this node remembers of an equal task: that is the answer, or the work goes on.
    pub fn recalled(&mut self, now: Instant, id: u64, key: Cid, hit: Option<Memo>, members: &Membership, out: &mut Vec<Output>) {
        let Some(Work { stage: Stage::Recalling { function }, keep, .. }) = self.works.get(&id).map(Box::as_ref) else { return };
        let (function, keep) = (function.clone(), *keep);
        // What another node has is better had from there: the scheduler takes this node for the holder.
        let own = hit.filter(|memo| memo.key == key && memo.receipt.iss == members.config.me);
        let Some((memo, (done, _))) = own.and_then(|memo| reuse(&memo, members).map(|known| (memo, known))) else {
            return self.prepare(now, id, function, members, out);
        };
        if keep {
            // The job did not find it at the winners of its key: they are new, or were not reached then.
            tell([(&key, memo.receipt.sealed())].into_iter(), members, out);
        }
        self.end(now, id, Ok(done), out);
    }

    /// Fetches what is missing, and starts.
    fn prepare(&mut self, now: Instant, id: u64, function: Arc<Function>, members: &Membership, out: &mut Vec<Output>) {
        let Some(work) = self.works.get_mut(&id) else { return };
        let ready = self.ready.contains(&work.task.function);
        let mut roots: Vec<Cid> = work.task.links().collect();
        if !ready {
            roots.push(function.code);
            roots.extend(function.mounts.values());
        }
        if roots.is_empty() {
            work.stage = Stage::Waiting { function, usage: Usage::default() };
            work.marks.waiting = Some(now);
            self.turns.wait(work.sponsor, id);
            return self.start_waiting(now, members, out);
        }
        let hints = with(&work.hints, work.from);
        work.stage = Stage::Fetching { function, since: now };
        work.marks.fetching = Some(now);
        out.push(Output::Fetch { ticket: Ticket::Work(id), roots, recursive: true, durable: false, hints });
    }

    /// The code and the arguments are here, or are not to be had.
    pub fn fetched(&mut self, now: Instant, id: u64, bytes: Result<u64, Failure>, members: &Membership, out: &mut Vec<Output>) {
        let Some(work) = self.works.get_mut(&id) else { return };
        let Stage::Fetching { function, since } = &work.stage else { return };
        match bytes {
            Err(failure) => self.end(now, id, Err(failure), out),
            Ok(fetched) => {
                let usage = Usage { fetch_us: now - since, fetched, ..Usage::default() };
                work.stage = Stage::Waiting { function: function.clone(), usage };
                work.marks.waiting = Some(now);
                if self.ready.len() >= FUNCTIONS_MAX {
                    self.ready.pop_first();
                }
                self.ready.insert(work.task.function);
                self.turns.wait(work.sponsor, id);
                self.start_waiting(now, members, out);
            }
        }
    }

    /// Starts what waits as far as there is room: schedulers take turns, and the work of each starts in order of arrival. What
    /// is next and needs more memory than is free is waited for, or small work would pass it for ever.
    fn start_waiting(&mut self, now: Instant, members: &Membership, out: &mut Vec<Output>) {
        let offers = members.config.offers;
        while let Some((sponsor, id)) = self.turns.next() {
            let Some(work) = self.works.get_mut(&id) else { return };
            let Stage::Waiting { function, usage } = &work.stage else { return };
            if work.deadline <= now {
                self.turns.forget(sponsor, id);
                let failure = Failure::DeadlineExceeded { stage: WAITING.to_string() };
                self.end(now, id, Err(failure), out);
                continue;
            }
            if !offers.less(&self.running).covers(&function.demand()) {
                return;
            }
            self.running = self.running.plus(&function.demand());
            let (function, usage) = (function.clone(), *usage);
            if let Some((task, at_ms)) = work.effect {
                work.stage = Stage::Intending { function, usage };
                self.effects.intend(id, at_ms, task, out);
            } else {
                work.start(now, id, function, usage, out);
            }
            self.turns.start(sponsor, id);
        }
    }

    /// The engine is done with a piece of work, wanted or not. Only effects wait for their receipt's signature: whoever
    /// loses the answer of other work may ask again.
    pub fn exited(&mut self, now: Instant, id: u64, exit: Result<Exit, Failure>, members: &Membership, out: &mut Vec<Output>) {
        let Some(work) = self.works.get_mut(&id) else { return };
        let Stage::Running { function } = &work.stage else { return };
        self.running = self.running.less(&function.demand());
        work.marks.exited = Some(now);
        let run_us = exit.as_ref().map_or(0, |exit| exit.done.usage.run_us);
        match exit {
            _ if !work.wanted => {
                if let Some(work) = self.works.remove(&id) {
                    self.turns.leave(work.sponsor, &work.task);
                }
            }
            Ok(Exit { done, mut statement }) => {
                self.run_us = self.run_us - self.run_us / 8 + run_us / 8;
                judge(&mut statement, takes_part(function, &work.task), work.keep, run_us);
                let urgent = function.determinism == Determinism::Effects;
                if urgent {
                    work.stage = Stage::Signing { done };
                } else {
                    self.end(now, id, Ok(done), out);
                }
                out.push(Output::Sign { ticket: Ticket::Work(id), statement, urgent });
            }
            Err(failure) => self.conclude(now, id, Err(failure), out),
        }
        self.start_waiting(now, members, out);
    }

    /// Receipts are signed: work that waited for that is done.
    pub fn signed(&mut self, now: Instant, receipts: Vec<(Ticket, Sealed)>, members: &Membership, out: &mut Vec<Output>) {
        for (ticket, _) in &receipts {
            let Ticket::Work(id) = *ticket else { continue };
            if let Some(Work { stage: Stage::Signing { done }, .. }) = self.works.get(&id).map(Box::as_ref) {
                let done = done.clone();
                self.conclude(now, id, Ok(done), out);
            }
        }
        remember(receipts.into_iter().map(|(_, sealed)| sealed).collect(), members, out);
    }

    /// Work that ran is done: it is answered, with effects when the journal has the outcome.
    fn conclude(&mut self, now: Instant, id: u64, outcome: Outcome, out: &mut Vec<Output>) {
        let Some(work) = self.works.get_mut(&id) else { return };
        let Some((task, _)) = work.effect else { return self.end(now, id, outcome, out) };
        let outcome = outcome.map_err(|failure| match failure {
            // Nobody knows how far it came.
            Failure::NodeFailed { what } => Failure::MayHaveRun { what },
            other => other,
        });
        work.stage = Stage::Noting { outcome: outcome.clone() };
        self.effects.ended(id, &task, outcome, out);
    }

    /// Answers, and keeps the answer until it is known to have arrived.
    fn end(&mut self, now: Instant, id: u64, outcome: Outcome, out: &mut Vec<Output>) {
        let Some(work) = self.works.get_mut(&id) else { return };
        if let Some((task, _)) = work.effect {
            self.effects.release(&task);
        }
        work.report(now, &outcome, out);
        work.stage = Stage::Done { outcome };
        work.tell(id, out);
        // Outcomes are small and many are kept; tasks may be large.
        let (sponsor, args) = (work.sponsor, core::mem::take(&mut work.task.args));
        let task = Task { args, ..work.task.clone() };
        self.turns.leave(sponsor, &task);
        self.timers.set(id, now + OUTCOME_KEPT);
        self.done.push_back(id);
        if self.done.len() > OUTCOMES_MAX
            && let Some(&oldest) = self.done.front()
        {
            self.forget(oldest, out);
        }
    }

    /// The bytes of a result that go along with its outcome, if they are to be had.
    pub fn read(&self, id: u64, bytes: Option<ByteBuf>, out: &mut Vec<Output>) {
        if let Some(work) = self.works.get(&id) {
            work.answer(bytes.filter(|bytes| bytes.len() <= RESULT_MAX), out);
        }
    }

    /// Drops work at whatever stage it is.
    fn forget(&mut self, id: u64, out: &mut Vec<Output>) {
        self.stand_down(id, out);
        let Some(work) = self.works.remove(&id).map(|work| *work) else { return };
        if let Some((task, _)) = work.effect {
            self.effects.release(&task);
        }
        self.by_lease.remove(&(work.from, work.lease));
        self.timers.clear(id);
        // What was told to stop has its place until it does.
        if !matches!(work.stage, Stage::Done { .. } | Stage::Running { .. }) {
            self.turns.leave(work.sponsor, &work.task);
        }
        match work.stage {
            Stage::Done { .. } => self.done.retain(|other| *other != id),
            Stage::Loading | Stage::Fetching { .. } => out.push(Output::Stop { ticket: Ticket::Work(id) }),
            Stage::Running { function } => {
                out.push(Output::Stop { ticket: Ticket::Work(id) });
                let work = Work { stage: Stage::Running { function }, wanted: false, ..work };
                self.works.insert(id, Box::new(work));
            }
            Stage::Waiting { .. } => self.turns.forget(work.sponsor, id),
            Stage::Naming { .. }
            | Stage::Recalling { .. }
            | Stage::Intending { .. }
            | Stage::Signing { .. }
            | Stage::Noting { .. } => {}
        }
    }

    /// Does what is due: leases that fell silent, deadlines, outcomes that nobody fetched.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Output>) {
        while let Some(id) = self.timers.pop(now) {
            let Some(work) = self.works.get(&id) else { continue };
            let stage = match work.stage {
                Stage::Done { .. } => {
                    self.forget(id, out);
                    continue;
                }
                Stage::Loading | Stage::Naming { .. } | Stage::Recalling { .. } | Stage::Fetching { .. } => "fetching",
                Stage::Waiting { .. } | Stage::Intending { .. } => WAITING,
                Stage::Running { .. } | Stage::Signing { .. } | Stage::Noting { .. } => "running",
            };
            let late = work.deadline <= now;
            if late || now - work.heard >= LEASE_SILENCE {
                // A caller that is still there after a silence may try again: its own deadline has not passed.
                let failure = match late {
                    true => Failure::DeadlineExceeded { stage: stage.to_string() },
                    false => Failure::NodeFailed { what: "the lease was not renewed in time".to_string() },
                };
                let (to, lease, outcome) = (work.from, work.lease, Err(failure));
                work.report(now, &outcome, out);
                self.forget(id, out);
                out.push(Output::Send { to, message: Message::Outcome { lease, outcome, body: None } });
            } else {
                self.timers.set(id, work.deadline.min(work.heard + LEASE_SILENCE));
            }
        }
    }

    /// When [`Executor::tick`] has something to do again.
    pub fn next_wakeup(&self) -> Option<Instant> {
        self.timers.next()
    }
}

/// The claim's hints and the claimer itself, who has read the manifest.
fn with(hints: &[NodeId], from: NodeId) -> Vec<NodeId> {
    let mut all = hints.to_vec();
    if !all.contains(&from) {
        all.push(from);
    }
    all
}
