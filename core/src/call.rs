//! A call as its scheduler sees it: what was asked for, and how far it is.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use cid::Cid;

use crate::failure::Failure;
use crate::function::{Determinism, Function};
use crate::id::{Instant, MILLISECOND, NodeId};
use crate::io::{Answer, Request};
use crate::membership::Membership;
use crate::memo::takes_part;
use crate::message::{HINTS_MAX, Message, Nack};
use crate::task::{Done, Task};

/// Losses (a dead executor, silence) before a call fails.
const LOSSES_MAX: u32 = 5;
/// Refusals in a row before a call is queued.
const REDIRECTS_MAX: u32 = 2;

/// On whose behalf a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A user of this node.
    Request(Request),
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
    /// Who holds the arguments, where that is known; `None`: ask.
    pub holders: Option<Vec<NodeId>>,
    /// Bytes of the arguments that are addressed by CID, where that is known.
    pub bytes: u64,
    /// Whether the result of an equal task will do.
    pub memo: bool,
    /// Whether an earlier life of this node may have made it.
    pub again: bool,
    /// Its memo key, where it is known that nothing is remembered here under it.
    pub new: Option<Cid>,
}

/// A call that ended.
#[derive(Clone, Debug)]
pub struct Settled {
    /// For whom.
    pub origin: Origin,
    /// How.
    pub result: Result<Answer, Failure>,
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
    Locating { asked: BTreeMap<u64, NodeId> },
    /// No executor has room; not before `from`.
    Queued { from: Instant },
    /// An executor was asked.
    Claimed { node: NodeId, lease: u64 },
    /// An executor works on it.
    Granted { node: NodeId, lease: u64, heard: Instant },
}

/// A call under way.
#[derive(Debug)]
pub(crate) struct State {
    pub call: Call,
    pub phase: Phase,
    pub submitted: Instant,
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
}

impl State {
    /// A call that begins.
    pub fn new(call: Call, submitted: Instant) -> State {
        State {
            call,
            phase: Phase::Loading,
            submitted,
            claims: 0,
            redirects: 0,
            losses: 0,
            passed: BTreeSet::new(),
            refused: BTreeMap::new(),
            last: None,
            key: None,
        }
    }

    /// Whether this node's memory is asked first. A job has looked its tasks up already.
    pub fn may_recall(&self, function: &Function) -> bool {
        matches!(self.call.origin, Origin::Request(_)) && self.call.memo && takes_part(function, &self.call.task)
    }

    /// The claim of a call for `node`.
    pub fn claim(&self, now: Instant, lease: u64, node: NodeId, me: NodeId) -> Message {
        let mut hints: Vec<NodeId> = self.call.holders.iter().flatten().copied().filter(|h| *h != node).collect();
        hints.truncate(HINTS_MAX - 1);
        if node != me && !hints.contains(&me) {
            hints.push(me);
        }
        let budget_ms = (self.call.deadline - now) / MILLISECOND;
        let (task, memo) = (self.call.task.clone(), self.call.memo);
        let keep = matches!(self.call.origin, Origin::Job(..));
        Message::Claim { lease, task, budget_ms, hints, memo, keep }
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

    /// Notes that an attempt came to nothing through no fault of the work. Gives the failure if that is the end.
    pub fn lose(&mut self, failure: Failure) -> Result<(), Failure> {
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
        function.check_call(&self.call.task.entry, self.call.task.args.len())?;
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

    /// A full executor is passed over; after some of them the call pauses.
    pub fn redirected(&mut self, from: NodeId, rest: Instant) -> Instant {
        self.passed.insert(from);
        self.redirects += 1;
        if self.redirects <= REDIRECTS_MAX {
            return 0;
        }
        self.redirects = 0;
        self.passed.clear();
        rest
    }

    /// Why nobody may be asked: nobody is there, or everybody refuses.
    pub fn nobody(&mut self, engine: &str, members: &Membership) -> Failure {
        let denied = self.refused.iter().find(|(_, why)| **why == Nack::Denied);
        match (denied, self.last.take()) {
            (Some((node, _)), _) => Failure::Denied {
                rule: format!("{node} runs work of trusted keys only"),
                missing: format!("trust in {}", members.config.me),
            },
            (None, Some(failure)) => failure,
            (None, None) => Failure::NoExecutor { needed: format!("engine {engine}"), seen: members.iter().count() as u32 },
        }
    }

    /// The same for people, in a [`Failure::DeadlineExceeded`].
    pub fn stage(&self) -> String {
        match &self.phase {
            Phase::Loading | Phase::Recalling => "loading the function".into(),
            Phase::Joined => "waiting for an equal call".into(),
            Phase::Locating { .. } => "locating the arguments".into(),
            Phase::Queued { .. } => "waiting for an executor".into(),
            Phase::Claimed { node, .. } => format!("claiming {node}"),
            Phase::Granted { node, .. } => format!("running on {node}"),
        }
    }
}

/// Whether the first `count` bits are set.
pub(crate) fn all_set(bits: &[u8], count: usize) -> bool {
    (0..count).all(|i| bits.get(i / 8).is_some_and(|byte| byte >> (i % 8) & 1 == 1))
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
