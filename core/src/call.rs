//! A call as its scheduler sees it: what was asked for, and how far it is.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::failure::Failure;
use crate::function::Function;
use crate::id::{Instant, NodeId};
use crate::io::{Answer, Request};
use crate::message::Nack;
use crate::task::Task;

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
    /// Its manifest, where it was read already and the call was checked against it.
    pub function: Option<Arc<Function>>,
    /// Until when.
    pub deadline: Instant,
    /// Where it should go first, if somebody knows better than the ranking.
    pub target: Option<NodeId>,
    /// Who holds the arguments, where that is known; `None`: ask.
    pub holders: Option<Vec<NodeId>>,
    /// Bytes of the arguments that are addressed by CID, where that is known.
    pub bytes: u64,
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
}

impl State {
    /// The same for people, in a [`Failure::DeadlineExceeded`].
    pub fn stage(&self) -> String {
        match &self.phase {
            Phase::Loading => "loading the function".into(),
            Phase::Locating { .. } => "locating the arguments".into(),
            Phase::Queued { .. } => "waiting for an executor".into(),
            Phase::Claimed { node, .. } => format!("claiming {node}"),
            Phase::Granted { node, .. } => format!("running on {node}"),
        }
    }
}
