//! What a run makes known: the facts that the laws judge and that the hash of a run is made of.

use cid::Cid;
use timerose_core::failure::Failure;
use timerose_core::io::Answer;
use timerose_core::job::JobDone;

/// What a call must give if it gives anything: known beforehand, as the simulated functions are pure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// A result, under this TaskId.
    Gives {
        /// The TaskId for this caller.
        task: Cid,
        /// The result.
        result: Cid,
    },
    /// The guest fails.
    Fails,
    /// An argument is nowhere.
    Missing(Cid),
}

/// What became of detached work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It has not ended.
    Open,
    /// It has this result.
    Gave(Cid),
    /// Its guest failed.
    Fails,
    /// Another failure, by its code.
    Lost(&'static str),
}

/// A reply is owed for this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Who asked.
    pub node: usize,
    /// Which of its clients; 0 where that does not matter.
    pub client: u64,
    /// The request.
    pub request: u64,
    /// What the user waits, in virtual microseconds.
    pub timeout_us: u64,
    /// Whether all faults were over, so that only the truth will do as an answer.
    pub calm: bool,
    /// Whether nobody trusts the asker, so that a denial is an answer too.
    pub stranger: bool,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Fact {
    /// Any step of the machine: for the hash and for people.
    Step {
        /// At which node.
        node: usize,
        /// What, in short.
        line: String,
    },
    /// A user asked for a call.
    Called {
        /// By whom and for how long.
        asked: Asked,
        /// What should come of it.
        truth: Truth,
    },
    /// A user took a request back.
    TakenBack {
        /// Which.
        request: u64,
    },
    /// A call was answered.
    Replied {
        /// Where.
        node: usize,
        /// Which.
        request: u64,
        /// How.
        reply: Result<Answer, Failure>,
    },
    /// An executor other than the asker ran a call.
    Chosen {
        /// Who asked.
        node: usize,
        /// How many claims it sent for it.
        claims: u32,
        /// A round trip to the executor, in microseconds.
        rtt_us: u64,
        /// A round trip to the nearest executor.
        least_us: u64,
    },
    /// A user asked for a job.
    JobCalled {
        /// By whom and for how long.
        asked: Asked,
        /// How many tasks it has.
        tasks: u32,
        /// What its last task gives.
        result: Cid,
        /// The request of an equal job before it.
        again: Option<u64>,
    },
    /// A node remembers a receipt under a key.
    Remembers {
        /// Which.
        node: usize,
        /// The memo key.
        key: Cid,
        /// Whether it is of that key, and says what its task gives.
        right: bool,
    },
    /// A job was answered.
    JobReplied {
        /// Where.
        node: usize,
        /// Which.
        request: u64,
        /// How.
        reply: Result<JobDone, Failure>,
    },
    /// An import asked where its blocks go.
    Placing {
        /// The importer.
        node: usize,
        /// The import.
        request: u64,
        /// Its blocks.
        cids: Vec<Cid>,
        /// How many stores are to keep each.
        copies: u8,
    },
    /// A copy of some blocks of an import has its place.
    Placed {
        /// The importer.
        node: usize,
        /// The import.
        request: u64,
        /// Which blocks.
        cids: Vec<Cid>,
        /// Where; `None`: no store was left for it.
        at: Option<usize>,
        /// Whether every one of them is there.
        kept: bool,
    },
    /// A disk became full, or has room again.
    Disk {
        /// Whose.
        node: usize,
        /// Whether nothing can be written.
        full: bool,
    },
    /// An engine was started.
    Started {
        /// Where.
        node: usize,
        /// The work's number there.
        work: u64,
        /// Guest memory, in bytes.
        memory: u64,
        /// Whose work it is.
        subject: usize,
    },
    /// An engine was started for a task with effects.
    StartedOnce {
        /// Where.
        node: usize,
        /// The TaskId.
        task: Cid,
    },
    /// A user asked for work without waiting for it.
    Detached {
        /// Which node.
        node: usize,
        /// The request.
        request: u64,
        /// The work's handle.
        handle: Cid,
        /// What should come of it.
        truth: Truth,
    },
    /// Work was accepted, or refused with a failure of this code.
    Accepted {
        /// By whom.
        node: usize,
        /// The request.
        request: u64,
        /// Whether.
        accepted: Result<(), &'static str>,
    },
    /// All that a node promised and has not forgotten.
    Promised {
        /// Which.
        node: usize,
        /// By handle.
        works: Vec<(Cid, Kept)>,
    },
    /// A node's state was compared with its journal: when it began, or when nothing was on its way.
    Restored {
        /// Which.
        node: usize,
        /// Entries of its journal.
        entries: usize,
        /// Whether they say the same.
        same: bool,
    },
    /// An engine ended, by itself or because it was stopped.
    Ended {
        /// Where.
        node: usize,
        /// The work's number there.
        work: u64,
    },
    /// A process was killed.
    Crashed {
        /// Which.
        node: usize,
    },
    /// A node was given its tick.
    Ticked {
        /// Which.
        node: usize,
        /// How much it had to do.
        outputs: usize,
        /// When it wants the next.
        next: Option<u64>,
    },
    /// Whom a node does not reach some time after all faults.
    Misses {
        /// Which.
        node: usize,
        /// The others.
        missing: Vec<usize>,
    },
    /// What is under way in a node after everything ended.
    Left {
        /// Which.
        node: usize,
        /// Its tables that are not empty, and their sizes.
        tables: Vec<(&'static str, usize)>,
    },
}
