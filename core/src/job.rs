//! A job: what is asked for, and the graph of tasks that it stands for.
//!
//! A job's specification is a small record; the graph is a pure function of it and of the data set's listing, so both
//! are content-addressed. A task's argument may be a *promise*: the result of an earlier task.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use cid::Cid;
use serde::{Deserialize, Serialize};

use crate::id::NodeId;
use crate::record::Record;
use crate::task::Done;

/// The most files of a data set.
pub const FILES_MAX: usize = 1_000_000;
/// How many results one reducing task takes by default.
pub const FAN_IN: u32 = 16;

/// A map-reduce job: one map task a file, then reducing tasks over the results in the order of the data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The function of both entries.
    #[serde(rename = "fn")]
    pub function: Cid,
    /// A folder, or a single file.
    pub dataset: Cid,
    /// The entry that takes one file.
    pub map: String,
    /// The entry that takes any number of results.
    pub reduce: String,
    /// The most results that one reducing task takes: at least 2.
    pub fan_in: u32,
}

impl Record for JobSpec {
    const SCHEMA: &'static str = "timerose/job";
    const MAX_BYTES: usize = 4096;
}

/// A file of a data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its path below the root.
    pub path: String,
    /// Its root block.
    pub cid: Cid,
    /// Its length in bytes.
    pub size: u64,
}

/// One node of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobTask {
    /// Whether it maps a file or reduces results.
    pub kind: Kind,
    /// Its arguments, in order.
    pub args: Vec<JobArg>,
}

/// What a task of a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The map entry.
    Map,
    /// The reduce entry.
    Reduce,
}

/// An argument of a job's task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobArg {
    /// Content that exists.
    Link(Cid),
    /// The result of the task with this number, which is lower than that of the task that waits for it.
    Promise(u32),
}

/// The graph of a job over `files`; the last task gives the job's result.
pub fn expand(spec: &JobSpec, files: &[File]) -> Vec<JobTask> {
    let mut tasks: Vec<JobTask> =
        files.iter().map(|file| JobTask { kind: Kind::Map, args: vec![JobArg::Link(file.cid)] }).collect();
    let mut level: Vec<u32> = (0..tasks.len() as u32).collect();
    loop {
        let mut next = Vec::new();
        // An empty data set is reduced as well: its result is what the function makes of nothing.
        let groups: Vec<&[u32]> = if level.is_empty() { vec![&[]] } else { level.chunks(spec.fan_in.max(2) as usize).collect() };
        for group in groups {
            next.push(tasks.len() as u32);
            tasks.push(JobTask { kind: Kind::Reduce, args: group.iter().map(|&task| JobArg::Promise(task)).collect() });
        }
        if next.len() == 1 {
            return tasks;
        }
        level = next;
    }
}

/// How far a job is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobProgress {
    /// Tasks in all; 0 until the data set is listed.
    pub tasks: u32,
    /// Tasks that are done.
    pub done: u32,
    /// Of those, tasks that gave the result of an earlier run.
    pub reused: u32,
    /// What each node did.
    pub nodes: BTreeMap<NodeId, NodeShare>,
}

/// One node's share of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeShare {
    /// Tasks that it ran.
    pub tasks: u32,
    /// Bytes of their arguments.
    pub input: u64,
    /// Bytes that it fetched from other nodes for them.
    pub fetched: u64,
    /// Microseconds of execution.
    pub run_us: u64,
}

/// A job that gave a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobDone {
    /// The job's own CID.
    pub job: Cid,
    /// The last task's result.
    pub done: Done,
    /// Who did what.
    pub progress: JobProgress,
    /// Microseconds from submission to result.
    pub total_us: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{RAW, cid_of};

    fn graph(files: usize, fan_in: u32) -> Vec<JobTask> {
        let cid = cid_of(RAW, b"x");
        let spec = JobSpec { function: cid, dataset: cid, map: "map".into(), reduce: "reduce".into(), fan_in };
        let files: Vec<File> = (0..files).map(|_| File { path: String::new(), cid, size: 1 }).collect();
        expand(&spec, &files)
    }

    #[test]
    fn every_result_is_reduced_once_and_in_order() {
        for files in [0, 1, 2, 15, 16, 17, 256, 257, 1000] {
            let tasks = graph(files, 16);
            let promised: Vec<u32> = tasks
                .iter()
                .flat_map(|t| &t.args)
                .filter_map(|a| if let JobArg::Promise(p) = a { Some(*p) } else { None })
                .collect();
            let expected: Vec<u32> = (0..tasks.len() as u32 - 1).collect();
            assert_eq!(promised, expected, "{files} files: each task but the last is promised once, in order");
            assert!(tasks.iter().all(|t| t.args.len() <= 16));
        }
    }

    #[test]
    fn levels_shrink_by_the_fan_in() {
        assert_eq!(graph(256, 16).len(), 256 + 16 + 1);
        assert_eq!(graph(1, 16).len(), 2);
        assert_eq!(graph(0, 16).len(), 1);
        assert_eq!(graph(3, 1).len(), graph(3, 2).len(), "a fan-in below 2 would never end");
    }
}
