//! A call as its scheduler sees it: what was asked for, and how far it is.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use cid::Cid;

use crate::envelope::Via;
use crate::failure::Failure;
use crate::function::{Determinism, Function};
use crate::id::{Instant, MILLISECOND, NodeId, SECOND};
use crate::io::{Answer, Here, Request};
use crate::membership::Membership;
use crate::memo::takes_part;
use crate::message::{HINTS_MAX, Message, Nack};
use crate::placement::{Candidate, Unfit, best};
use crate::span::{CallSeen, Context, EVENTS_MAX, Step};
use crate::task::{Done, Task};

/// Losses (a dead executor, silence) before a call fails.
const LOSSES_MAX: u32 = 5;
/// What an argument of unknown size counts for in the ranking, in bytes: a chunk of a file.
const UNKNOWN_SIZE: u64 = 256 * 1024;
/// The most that a peer's word on a size counts for, in bytes: far more than one fetch may bring.
const SIZE_MAX: u64 = 1 << 40;
/// How long a call's first claim may go unanswered: the answer needs no work, but a loaded machine may be slow to give it.
const CLAIM_WAIT: Instant = SECOND;
/// How long a young node looks for a first executor before it says that there is none.
const NOBODY_WAIT: Instant = 2 * SECOND;
/// Refusals in a row before a call is queued.
const REDIRECTS_MAX: u32 = 2;

/// On whose behalf a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A user of this node.
    Request(Request),
    /// A user of this node, who wants to know only where it would run.
    Where(Request),
    /// A job of this node: its number, and the task's.
    Job(u64, u32),
}

/// A call to be made.
#[derive(Clone, Debug)]
pub struct Call {
    /// For whom.
    pub origin: Origin,
    /// What.
    pub task: Task,
    /// Its manifest, where it was read already; a job's calls were checked against it.
    pub function: Option<Arc<Function>>,
    /// Until when.
    pub deadline: Instant,
    /// Where it should go first, if somebody knows better than the ranking.
    pub target: Option<NodeId>,
    /// Bytes of the arguments that each node holds, where that is known; `None`: ask.
    pub held: Option<BTreeMap<NodeId, u64>>,
    /// Bytes of the arguments that are addressed by CID, where that is known.
    pub bytes: u64,
    /// Who shares a turn with it.
    pub client: Client,
    /// Whether the result of an equal task will do.
    pub memo: bool,
    /// Whether an earlier life of this node may have made it.
    pub again: bool,
    /// Its memo key, where it is known that nothing is remembered here under it.
    pub new: Option<Cid>,
    /// How it has to travel, if that matters.
    pub via: Option<Via>,
    /// The trace that it is part of.
    pub trace: Option<Context>,
}

impl Call {
    /// A call of which nothing is known yet but what is asked for.
    pub fn new(origin: Origin, task: Task, deadline: Instant, client: Client) -> Call {
        let (function, target, held, bytes) = (None, None, None, 0);
        let (memo, again, new, via, trace) = (false, false, None, None, None);
        Call { origin, task, function, deadline, target, held, bytes, client, memo, again, new, via, trace }
    }
}

/// Whose calls share a turn: while calls wait for an executor, each client has its turn, however many calls it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    /// A user of this node, by the number that the API gives.
    User(u64),
    /// Whoever left calls here and does not wait for them: together.
    Detached,
    /// A job of this node.
    Job(u64),
}

/// A call that ended.
#[derive(Clone, Debug)]
pub struct Settled {
    /// For whom.
    pub origin: Origin,
    /// How.
    pub result: Result<Answer, Failure>,
    /// What is told of it to whoever traces it; the end is for whoever takes it.
    pub seen: Option<CallSeen>,
}

/// How far a call is.
#[derive(Debug)]
pub(crate) enum Phase {
    /// The manifest is being read.
    Loading,
    /// This node's memory is being asked.
    Recalling,
    /// An equal call is under way.
    Joined,
    /// Executors are being asked what they hold.
    Locating(Search),
    /// No executor has room; not before `from`.
    Queued { from: Instant },
    /// An executor was asked.
    Claimed { node: NodeId, lease: u64 },
    /// An executor works on it.
    Granted { node: NodeId, lease: u64, heard: Instant },
}

/// What becomes of a call that is to be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// No executor may be asked now.
    Nobody,
    /// It waits until then for an executor that is full and yet better than any with room.
    Wait(NodeId, Instant),
    /// This one is asked.
    Ask(NodeId),
}

/// The search for a call's arguments: who was asked, and what lies where as far as was answered.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// Questions that are open, by number.
    pub asked: BTreeMap<u64, NodeId>,
    sizes: Vec<u64>,
    bits: Vec<(NodeId, Vec<u8>)>,
}

impl Search {
    /// A node says which arguments it holds, and how long they are.
    pub fn add(&mut self, node: NodeId, here: &Here) {
        self.sizes.resize(self.sizes.len().max(here.sizes.len()), 0);
        for (known, size) in self.sizes.iter_mut().zip(&here.sizes) {
            *known = (*size).min(SIZE_MAX).max(*known);
        }
        self.bits.push((node, here.bits.clone()));
    }

    /// The bytes of all `count` arguments, and those that each node holds.
    pub fn sum(&self, count: usize) -> (u64, BTreeMap<NodeId, u64>) {
        let size = |i: usize| self.sizes.get(i).copied().filter(|size| *size > 0).unwrap_or(UNKNOWN_SIZE);
        let mut held = BTreeMap::new();
        for (node, bits) in &self.bits {
            let bytes: u64 = (0..count).filter(|i| is_set(bits, *i)).map(size).sum();
            if bytes > 0 {
                held.insert(*node, bytes);
            }
        }
        ((0..count).map(size).sum(), held)
    }
}

/// A call under way.
#[derive(Debug)]
pub(crate) struct State {
    pub call: Call,
    pub phase: Phase,
    pub submitted: Instant,
    /// Since when it waits for an executor that is full and near its data, though another has room.
    pub waits_near: Option<Instant>,
    pub claims: u32,
    pub redirects: u32,
    pub losses: u32,
    /// Executors that are not asked in this round.
    pub passed: BTreeSet<NodeId>,
    /// Executors that are not asked again, and why.
    pub refused: BTreeMap<NodeId, Nack>,
    /// The last failure that another executor might have spared.
    pub last: Option<Failure>,
    /// The memo key, once it is known and others may join.
    pub key: Option<Cid>,
    /// What happened to it on its way, if it is traced.
    pub steps: Vec<(Instant, Step)>,
}

impl State {
    /// A call that begins.
    pub fn new(call: Call, submitted: Instant) -> State {
        State {
            call,
            phase: Phase::Loading,
            submitted,
            waits_near: None,
            claims: 0,
            redirects: 0,
            losses: 0,
            passed: BTreeSet::new(),
            refused: BTreeMap::new(),
            last: None,
            key: None,
            steps: Vec::new(),
        }
    }

    /// Whether this node's memory is asked first. A job has looked its tasks up already.
    pub fn may_recall(&self, function: &Function) -> bool {
        matches!(self.call.origin, Origin::Request(_)) && self.call.memo && takes_part(function, &self.call.task)
    }

    /// Notes a step of a call that is traced.
    pub fn note(&mut self, now: Instant, step: Step) {
        if self.call.trace.is_some() && self.steps.len() < EVENTS_MAX {
            self.steps.push((now, step));
        }
    }

    /// An executor refused.
    pub fn refuse(&mut self, now: Instant, node: NodeId, reason: &Nack) {
        let why = match reason {
            Nack::Busy { .. } => "busy",
            Nack::Denied => "denied",
            Nack::Unsuitable => "unsuitable",
        };
        self.note(now, Step::Refused(node, why));
    }

    /// An executor took it.
    pub fn grant(&mut self, now: Instant, node: NodeId, lease: u64) {
        if matches!(self.phase, Phase::Claimed { .. }) {
            self.note(now, Step::Granted(node));
        }
        self.phase = Phase::Granted { node, lease, heard: now };
    }

    /// It has ended.
    pub fn settled(self, result: Result<Answer, Failure>) -> Settled {
        let State { call, submitted: begun, steps, .. } = self;
        let outcome = result.as_ref().map(|a| (a.executor, a.done.task, a.done.reused)).map_err(Failure::code);
        let Task { function, entry, .. } = call.task;
        let seen = call.trace.map(|context| CallSeen { context, function, entry, begun, ended: begun, steps, outcome });
        Settled { origin: call.origin, result, seen }
    }

    /// The claim of a call for `node`.
    pub fn claim(&mut self, now: Instant, lease: u64, node: NodeId, me: NodeId) -> Message {
        let mut hints: Vec<NodeId> = self.call.held.iter().flatten().map(|(h, _)| *h).filter(|h| *h != node).collect();
        hints.truncate(HINTS_MAX - 1);
        if node != me && !hints.contains(&me) {
            hints.push(me);
        }
        let budget_ms = (self.call.deadline - now) / MILLISECOND;
        let (task, memo, trace) = (self.call.task.clone(), self.call.memo, self.call.trace);
        self.note(now, Step::Claimed(node));
        let keep = matches!(self.call.origin, Origin::Job(..));
        Message::Claim { lease, task, budget_ms, hints, memo, keep, trace, inline: false }
    }

    /// Who was asked, and how it has to travel, if that matters.
    pub fn asked(&self) -> Option<(NodeId, Option<Via>)> {
        match self.phase {
            Phase::Claimed { node, .. } | Phase::Granted { node, .. } => Some((node, self.call.via)),
            _ => None,
        }
    }

    /// The request that it is made for, and who works on it.
    pub fn worker(&self) -> Option<(Request, NodeId)> {
        match (self.call.origin, &self.phase) {
            (Origin::Request(request), Phase::Granted { node, .. }) => Some((request, *node)),
            _ => None,
        }
    }

    /// Whether it must not run a second time: so an executor that was asked is the only one that may be.
    pub fn runs_once(&self) -> bool {
        self.call.function.as_ref().is_some_and(|function| function.determinism == Determinism::Effects)
    }

    /// How long a claim may go unanswered: twice as long after each loss, so that a machine on which all is slow is not taken for
    /// a mesh that is dead.
    pub fn patience(&self) -> Instant {
        CLAIM_WAIT << self.losses.min(LOSSES_MAX)
    }

    /// Notes that an attempt came to nothing through no fault of the work. Gives the failure if that is the end.
    pub fn lose(&mut self, now: Instant, failure: Failure) -> Result<(), Failure> {
        self.note(now, Step::Lost(failure.code()));
        if let Phase::Claimed { node, .. } | Phase::Granted { node, .. } = self.phase {
            self.passed.insert(node);
        }
        self.losses += 1;
        if self.runs_once() {
            return Err(Failure::MayHaveRun { what: format!("{failure}") });
        }
        if self.losses > LOSSES_MAX {
            return Err(failure);
        }
        self.last = Some(failure);
        Ok(())
    }

    /// Checks a call against its manifest, which it is given.
    pub fn check(&self, function: Result<Arc<Function>, Failure>) -> Result<Arc<Function>, Failure> {
        let function = function?;
        let task = &self.call.task;
        // Who asks where a function would run need not say with what.
        let bare = matches!(self.call.origin, Origin::Where(_)) && task.args.is_empty();
        let given = function.entry(&task.entry).filter(|_| bare).map_or(task.args.len(), |entry| entry.params.len());
        if !bare || !task.entry.is_empty() {
            function.check_call(&task.entry, given)?;
        }
        match self.call.again && function.determinism == Determinism::Effects {
            true => Err(Failure::MayHaveRun { what: "the node that had accepted it began again".into() }),
            false => Ok(function),
        }
    }

    /// What came of an equal call, as this one's: told since its own submission.
    pub fn shares(&self, ended: &State, result: &Result<Answer, Failure>) -> Result<Answer, Failure> {
        let answer = result.as_ref().map_err(Failure::clone)?;
        let done = Done { reused: true, ..answer.done.clone() };
        let total_us = (ended.submitted + answer.total_us).saturating_sub(self.submitted);
        Ok(Answer { done, executor: answer.executor, claims: 0, total_us })
    }

    /// An executor was full. Says whether the call pauses: it does after some of them.
    pub fn redirected(&mut self) -> bool {
        self.redirects += 1;
        if self.redirects <= REDIRECTS_MAX {
            return false;
        }
        self.redirects = 0;
        self.passed.clear();
        true
    }

    /// What becomes of a call that finds no executor open: it waits for the first executor of a young mesh until then, it
    /// waits for one to have room, or it fails.
    pub fn stuck(&mut self, now: Instant, function: &Function, members: &Membership) -> Result<Option<Instant>, Failure> {
        let mut all = members.executors_for(function, self.call.via).peekable();
        let nobody = all.peek().is_none();
        let until = self.submitted + NOBODY_WAIT;
        if nobody && now < until {
            return Ok(Some(until));
        }
        if nobody || all.all(|(node, _)| self.refused.contains_key(node)) {
            return Err(self.nobody(function, members));
        }
        // Whoever was passed over in this round may be asked in the next.
        self.passed.clear();
        self.redirects = 0;
        Ok(None)
    }

    /// The request that is told where it would run, once there is somebody or nobody is waited for any more.
    pub fn tells(&self, now: Instant, candidates: &[Candidate]) -> Option<Request> {
        match self.call.origin {
            Origin::Where(request) if !candidates.is_empty() || now >= self.submitted + NOBODY_WAIT => Some(request),
            _ => None,
        }
    }

    /// Where it goes, out of the executors that may be asked now or later.
    pub fn choose(&mut self, now: Instant, candidates: &[Candidate]) -> Choice {
        let open = || candidates.iter().filter(|c| c.open);
        let target = open().find(|c| self.call.target == Some(c.node));
        let Some(there) = target.or_else(|| best(open())) else { return Choice::Nobody };
        let near = best(candidates.iter()).filter(|near| target.is_none() && near.node != there.node);
        match near.and_then(|near| Some((near.node, self.waits_until(now, near, there)?))) {
            Some((near, until)) => Choice::Wait(near, until),
            None => Choice::Ask(there.node),
        }
    }

    /// Whether it needs something of a peer now: an answer, or that it goes on working.
    pub fn needs(&self, peer: NodeId) -> bool {
        match &self.phase {
            Phase::Claimed { node, .. } | Phase::Granted { node, .. } => *node == peer,
            Phase::Locating(search) => search.asked.values().any(|node| *node == peer),
            _ => false,
        }
    }

    /// Until when it waits for an executor that is full and yet better than one with room: no longer than it would take there,
    /// so that a wrong guess costs at most twice the right one, and nobody waits for ever.
    fn waits_until(&mut self, now: Instant, near: &Candidate, there: &Candidate) -> Option<Instant> {
        let until = self.waits_near.get_or_insert(now).saturating_add(there.cost_us());
        let look = if near.rest_us > 0 { until.min(now + near.rest_us) } else { until };
        (now < until).then_some(look)
    }

    /// Exchanges the users of two equal calls: what was done for the one goes on for the other.
    pub fn swap_users(&mut self, other: &mut State) {
        use core::mem::swap;
        swap(&mut self.call.origin, &mut other.call.origin);
        swap(&mut self.call.client, &mut other.call.client);
        swap(&mut self.call.deadline, &mut other.call.deadline);
        swap(&mut self.submitted, &mut other.submitted);
    }

    /// Why nobody may be asked: nobody is there, or everybody refuses.
    fn nobody(&mut self, function: &Function, members: &Membership) -> Failure {
        let (engine, memory) = (&function.engine, function.limits.memory);
        let small = members.unfit_for(function, self.call.via).iter().any(|(_, why)| *why == Unfit::Memory);
        let needed = if small { format!("engine {engine} with {memory} bytes of memory") } else { format!("engine {engine}") };
        let denied = self.refused.iter().find(|(_, why)| **why == Nack::Denied);
        match (denied, self.last.take()) {
            (Some((node, _)), _) => Failure::Denied {
                rule: format!("{node} runs work of trusted keys only"),
                missing: format!("trust in {}", members.config.me),
            },
            (None, Some(failure)) => failure,
            (None, None) => Failure::NoExecutor { needed, seen: members.iter().count() as u32 },
        }
    }

    /// The same for people, in a [`Failure::DeadlineExceeded`].
    pub fn stage(&self) -> String {
        match &self.phase {
            Phase::Loading | Phase::Recalling => "loading the function".into(),
            Phase::Joined => "waiting for an equal call".into(),
            Phase::Locating(_) => "locating the arguments".into(),
            Phase::Queued { .. } => "waiting for an executor".into(),
            Phase::Claimed { node, .. } => format!("claiming {node}"),
            Phase::Granted { node, .. } => format!("running on {node}"),
        }
    }
}

/// Whether a bit is set.
pub(crate) fn is_set(bits: &[u8], i: usize) -> bool {
    bits.get(i / 8).is_some_and(|byte| byte >> (i % 8) & 1 == 1)
}

/// An executor's failure as its caller tells it: the executor may notice a deadline first, and does not name itself.
pub(crate) fn at(node: NodeId, failure: Failure) -> Failure {
    match failure {
        Failure::DeadlineExceeded { stage } => Failure::DeadlineExceeded { stage: format!("{stage} on {node}") },
        other => other,
    }
}

/// Whether what came of a pure call is what comes of every equal one: a result, or a failure of the function itself.
pub(crate) fn is_everybodys(result: &Result<Answer, Failure>) -> bool {
    use Failure::{BadArgument, FunctionFailed, Rejected};
    matches!(result, Ok(_) | Err(BadArgument { .. } | FunctionFailed { .. } | Rejected { .. }))
}
