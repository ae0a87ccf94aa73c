//! What a node promised and must not forget: the entries of its journal.
//!
//! The journal is a map: the last entry of a key stands, and a forgotten key has none. So its replay is its state, in
//! whatever order entries of different keys were written.

use alloc::string::String;
use cid::Cid;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::id::NodeId;
use crate::job::JobSpec;
use crate::record::Record;
use crate::task::{Done, Outcome, Task};

/// What an entry survives once it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The end of the process: the system has it.
    Os,
    /// The loss of power: the disk has it.
    Disk,
}

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Key {
    /// Detached work, by its handle.
    Work(Cid),
    /// A run with effects, by its TaskId.
    Effect(Cid),
}

/// One entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JournalEntry {
    /// Work that outlives its asker.
    Work(Work),
    /// A run that must not happen twice.
    Effect(Effect),
    /// Nothing is promised under this key any more.
    Forgotten(Key),
}

impl JournalEntry {
    /// What it is about.
    pub fn key(&self) -> Key {
        match self {
            JournalEntry::Work(work) => Key::Work(work.handle),
            JournalEntry::Effect(effect) => Key::Effect(effect.task),
            JournalEntry::Forgotten(key) => *key,
        }
    }

    /// Whether it promises anything.
    pub fn is_live(&self) -> bool {
        !matches!(self, JournalEntry::Forgotten(_))
    }
}

impl Record for JournalEntry {
    const SCHEMA: &'static str = "timerose/promise";
    /// A task may carry many inline arguments.
    const MAX_BYTES: usize = 512 * 1024;
}

/// Work that was accepted, and what came of it. Times are milliseconds since 1970 UTC: they outlive the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// A call's TaskId with this node as its subject; a job's CID.
    pub handle: Cid,
    /// Whether it is a job.
    pub job: bool,
    /// The function.
    #[serde(rename = "fn")]
    pub function: Cid,
    /// The entry of a call, the mapping entry of a job.
    pub entry: String,
    /// When it was accepted.
    pub accepted_ms: u64,
    /// Until when it is tried.
    pub deadline_ms: u64,
    /// How far it is.
    pub stage: Stage,
}

/// How far accepted work is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// To be done.
    Open(Asked),
    /// Done, or failed for good.
    Ended {
        /// When.
        at_ms: u64,
        /// How.
        outcome: Result<Ending, Failure>,
    },
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asked {
    /// A call.
    Call {
        /// What is to be run.
        task: Task,
        /// Whether the result of an equal task will do.
        memo: bool,
    },
    /// A job.
    Job {
        /// What is to be run.
        spec: JobSpec,
        /// Whether tasks go where their data lies.
        locality: bool,
        /// Whether results of equal tasks will do.
        memo: bool,
    },
}

impl Asked {
    /// The same, but no result of an equal task will do.
    pub fn anew(mut self) -> Asked {
        match &mut self {
            Asked::Call { memo, .. } | Asked::Job { memo, .. } => *memo = false,
        }
        self
    }
}

/// A result, and who made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// The result and its receipt; a job's are those of its last task.
    pub done: Done,
    /// Who ran it; nobody in particular for a job.
    pub executor: Option<NodeId>,
}

/// A run with effects. It is noted before it begins, so that nobody begins it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// The TaskId: it tells the caller and the sequence number apart.
    pub task: Cid,
    /// When it was about to begin: milliseconds since 1970 UTC.
    pub at_ms: u64,
    /// What came of it, once that is known.
    pub outcome: Option<Outcome>,
}

/// Accepted work as its users see it. Times are milliseconds since 1970 UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkView {
    /// Its name.
    pub handle: Cid,
    /// Whether it is a job.
    pub job: bool,
    /// The function.
    pub function: Cid,
    /// The entry of a call, the mapping entry of a job.
    pub entry: String,
    /// When it was accepted.
    pub accepted_ms: u64,
    /// Until when it is tried.
    pub deadline_ms: u64,
    /// How far it is.
    pub state: WorkState,
}

/// How far accepted work is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkState {
    /// It waits to be begun, or to be tried again.
    Waiting {
        /// Why again.
        last: Option<Failure>,
    },
    /// It is under way.
    Running {
        /// On whom, where that is one node.
        on: Option<NodeId>,
    },
    /// It has its outcome.
    Ended {
        /// When.
        at_ms: u64,
        /// How.
        outcome: Result<Ending, Failure>,
    },
}
