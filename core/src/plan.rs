//! A job as its runner sees it: which of its tasks are done, ready, or wait for others, and where each should run.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use cid::Cid;

use crate::function::{Determinism, Function};
use crate::id::{Instant, NodeId};
use crate::io::Request;
use crate::job::{File, JobArg, JobProgress, JobSpec, JobTask, Kind, expand};
use crate::message::KEYS_MAX;
use crate::scheduler::{Call, Client, Origin, WORK_PER_SLOT};
use crate::span::Context;
use crate::task::{Arg, Done, Task};

/// Tasks that a small job may run again because their results were lost; a larger one as many as it has.
const REDO_MAX: usize = 64;

/// A task that is taken from another node's queue is the smallest of so many of its last.
const TAKEN_FROM: usize = 16;

/// What a job needs to begin.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// For whom.
    pub request: Request,
    /// Its CID.
    pub job: Cid,
    /// What is asked for.
    pub spec: JobSpec,
    /// Whether tasks go where their data lies.
    pub locality: bool,
    /// Whether results of equal tasks will do.
    pub memo: bool,
    /// Until when.
    pub deadline: Instant,
    /// The trace that it is part of.
    pub trace: Option<Context>,
}

/// How far a job is.
#[derive(Debug)]
pub(crate) enum Stage {
    Loading,
    Listing {
        function: Arc<Function>,
    },
    /// Questions that are open, by number: who was asked about which part of the files.
    Locating {
        function: Arc<Function>,
        open: BTreeMap<u64, (usize, usize)>,
        until: Instant,
    },
    Running {
        function: Arc<Function>,
    },
}

/// A job under way.
#[derive(Debug)]
pub(crate) struct Job {
    pub new: NewJob,
    pub submitted: Instant,
    pub stage: Stage,
    pub files: Vec<File>,
    /// The executors that were asked what they hold; bit `i` of a file's word is `nodes[i]`.
    pub nodes: Vec<NodeId>,
    pub holders: Vec<u64>,
    pub tasks: Vec<JobTask>,
    /// For each task, how many of its promises are open, and which task waits for its result.
    pub open: Vec<u32>,
    pub consumer: Vec<u32>,
    pub results: Vec<Option<(Done, NodeId)>>,
    /// Ready tasks that are to be looked up before they are queued, and those that must run again.
    pub look_up: VecDeque<u32>,
    pub fresh: BTreeSet<u32>,
    /// Bytes of maps that were queued near each of `nodes`.
    pub queued: Vec<u64>,
    /// Ready tasks by the node that holds their input.
    pub near: BTreeMap<NodeId, VecDeque<u32>>,
    /// Ready tasks whose input is nowhere in particular.
    pub anywhere: VecDeque<u32>,
    pub running: BTreeSet<u32>,
    /// Tasks that were run again because their results were lost.
    pub redone: usize,
    pub progress: JobProgress,
    pub reported: Instant,
}

impl Job {
    pub fn new(now: Instant, new: NewJob) -> Job {
        Job {
            new,
            submitted: now,
            stage: Stage::Loading,
            files: Vec::new(),
            nodes: Vec::new(),
            holders: Vec::new(),
            tasks: Vec::new(),
            open: Vec::new(),
            consumer: Vec::new(),
            results: Vec::new(),
            look_up: VecDeque::new(),
            fresh: BTreeSet::new(),
            queued: Vec::new(),
            near: BTreeMap::new(),
            anywhere: VecDeque::new(),
            running: BTreeSet::new(),
            redone: 0,
            progress: JobProgress::default(),
            reported: now,
        }
    }

    /// Makes the graph.
    pub fn lay_out(&mut self) {
        self.tasks = expand(&self.new.spec, &self.files);
        self.holders = vec![0; self.files.len()];
        self.open = vec![0; self.tasks.len()];
        self.consumer = vec![0; self.tasks.len()];
        self.results = vec![None; self.tasks.len()];
        self.progress.tasks = self.tasks.len() as u32;
        for (number, task) in self.tasks.iter().enumerate() {
            for arg in &task.args {
                if let JobArg::Promise(earlier) = arg {
                    self.consumer[*earlier as usize] = number as u32;
                    self.open[number] += 1;
                }
            }
        }
    }

    /// The tasks that wait for nothing are ready.
    pub fn ready_maps(&mut self) {
        self.queued = vec![0; self.nodes.len()];
        for number in 0..self.tasks.len() as u32 {
            if self.open[number as usize] == 0 {
                self.ready(number);
            }
        }
    }

    /// A task waits for nothing any more: it is looked up, if that may spare it, and else queued.
    pub fn ready(&mut self, number: u32) {
        let Stage::Running { function } = &self.stage else { return };
        let pure = function.determinism == Determinism::Pure;
        match self.new.memo && pure && !self.fresh.contains(&number) {
            true => self.look_up.push_back(number),
            false => self.queue(number),
        }
    }

    /// The tasks that are looked up next.
    pub fn batch(&mut self) -> Vec<(u32, Task)> {
        let numbers: Vec<u32> = self.look_up.drain(..self.look_up.len().min(KEYS_MAX)).collect();
        numbers.into_iter().map(|number| (number, self.task(number).0)).collect()
    }

    /// Queues a ready task.
    pub fn queue(&mut self, number: u32) {
        match self.tasks[number as usize].kind {
            Kind::Map => self.queue_map(number),
            Kind::Reduce => self.queue_reduce(number),
        }
    }

    /// Queues a mapping task at the holder with the fewest bytes queued, or anywhere.
    pub fn queue_map(&mut self, number: u32) {
        let word = self.holders.get(number as usize).copied().unwrap_or(0);
        let holder = (0..self.nodes.len()).filter(|i| word >> i & 1 == 1).min_by_key(|&i| (self.queued[i], i));
        match holder {
            None => self.anywhere.push_back(number),
            Some(i) => {
                self.queued[i] = self.files[number as usize].size.saturating_add(self.queued[i]);
                self.near.entry(self.nodes[i]).or_default().push_back(number);
            }
        }
    }

    /// Tasks that are queued for a node that is no executor in reach are anybody's: it went away after its results, or
    /// its word on what it holds, had come.
    pub fn free_orphans(&mut self, executors: &[NodeId]) {
        for (_, orphans) in self.near.extract_if(.., |node, _| !executors.contains(node)) {
            self.anywhere.extend(orphans);
        }
    }

    /// Whether a task waits for an executor with room.
    pub fn has_ready(&self) -> bool {
        !self.anywhere.is_empty() || self.near.values().any(|queue| !queue.is_empty())
    }

    /// The task that `node` should begin next. `room` is what it could still take in hand; `expect` gives what a run takes, and
    /// what it costs to bring so many bytes to it.
    pub fn next_for(&mut self, node: NodeId, room: u32, slots: u32, expect: impl Fn(u64) -> (u64, u64)) -> Option<u32> {
        if let Some(task) = self.near.get_mut(&node).and_then(VecDeque::pop_front) {
            return Some(task);
        }
        if let Some(task) = self.anywhere.pop_front() {
            return Some(task);
        }
        // Only a node with an idle slot takes another's work.
        if room <= slots.saturating_mul(WORK_PER_SLOT - 1) {
            return None;
        }
        let longest = self.near.values_mut().max_by_key(|queue| queue.len())?;
        // What the owner has in hand is not taken; of the rest that is far from its turn, what is least to move.
        let spare = longest.len().saturating_sub(slots.saturating_mul(WORK_PER_SLOT) as usize);
        let size = |task: u32| self.files.get(task as usize).map_or(u64::MAX, |file| file.size);
        let last = (longest.len() - spare.min(TAKEN_FROM)..longest.len()).min_by_key(|&place| size(longest[place]))?;
        // Nor what its owner will have done before it could be brought here.
        let (run_us, fetch_us) = expect(size(longest[last]));
        let there_us = (longest.len() as u64).saturating_mul(run_us) / u64::from(slots);
        if there_us > fetch_us { longest.remove(last) } else { None }
    }

    /// A ready task, the bytes of its arguments, and how many of them each node holds.
    pub fn task(&self, number: u32) -> (Task, u64, BTreeMap<NodeId, u64>) {
        let task = &self.tasks[number as usize];
        let (mut bytes, mut held) = (0u64, BTreeMap::new());
        let mut args = Vec::with_capacity(task.args.len());
        for arg in &task.args {
            match arg {
                JobArg::Link(cid) => {
                    bytes = self.files[number as usize].size;
                    let word = self.holders[number as usize];
                    let holders = self.nodes.iter().enumerate().filter(|(i, _)| word >> i & 1 == 1);
                    held.extend(holders.map(|(_, node)| (*node, bytes)));
                    args.push(Arg::Link(*cid));
                }
                JobArg::Promise(earlier) => {
                    if let Some((done, by)) = &self.results[*earlier as usize] {
                        bytes = done.size.saturating_add(bytes);
                        let there: &mut u64 = held.entry(*by).or_default();
                        *there = done.size.saturating_add(*there);
                        args.push(Arg::Link(done.result));
                    }
                }
            }
        }
        let entry = match task.kind {
            Kind::Map => self.new.spec.map.clone(),
            Kind::Reduce => self.new.spec.reduce.clone(),
        };
        (Task { function: self.new.spec.function, entry, args, seq: 0 }, bytes, held)
    }

    /// The call of a ready task.
    pub fn call(&self, id: u64, number: u32, node: NodeId, function: Arc<Function>) -> Call {
        let (task, bytes, held) = self.task(number);
        let (origin, memo) = (Origin::Job(id, number), self.new.memo && !self.fresh.contains(&number));
        let (function, target, held, client) = (Some(function), Some(node), Some(held), Client::Job(id));
        let (deadline, again, new, via, trace) = (self.new.deadline, false, None, None, self.new.trace);
        Call { origin, task, function, deadline, target, held, bytes, client, memo, again, new, via, trace }
    }

    /// Takes a task's result; gives the job's, when that was the last.
    pub fn finish(&mut self, number: u32, done: Done, by: NodeId) -> Option<Done> {
        if done.reused {
            self.progress.reused += 1;
        } else {
            let share = self.progress.nodes.entry(by).or_default();
            share.tasks += 1;
            // Another node says these; they may be anything.
            share.input = share.input.saturating_add(done.usage.input);
            share.fetched = share.fetched.saturating_add(done.usage.fetched);
            share.run_us = share.run_us.saturating_add(done.usage.run_us);
        }
        self.progress.done += 1;
        if number as usize + 1 == self.tasks.len() {
            return Some(done);
        }
        self.results[number as usize] = Some((done, by));
        let consumer = self.consumer[number as usize];
        self.open[consumer as usize] -= 1;
        if self.open[consumer as usize] == 0 {
            self.ready(consumer);
        }
        None
    }

    /// Runs those tasks again whose results `number` could not get: the one with this CID or, where a block within a
    /// result is missing, all. Returns whether there are any and the job may.
    pub fn redo(&mut self, number: u32, missing: &Cid) -> bool {
        let earlier = |arg: &JobArg| if let JobArg::Promise(earlier) = arg { Some(*earlier) } else { None };
        let all: Vec<u32> = self.tasks[number as usize].args.iter().filter_map(earlier).collect();
        let is_missing = |task: &u32| self.results[*task as usize].as_ref().is_some_and(|(done, _)| done.result == *missing);
        let named: Vec<u32> = all.iter().copied().filter(is_missing).collect();
        let again = if named.is_empty() { all } else { named };
        self.redone += again.len();
        if again.is_empty() || self.redone > REDO_MAX.max(self.tasks.len()) {
            return false;
        }
        for task in again {
            let lost = self.results[task as usize].take();
            self.progress.reused -= u32::from(lost.is_some_and(|(done, _)| done.reused));
            self.open[number as usize] += 1;
            self.progress.done -= 1;
            // Whoever remembers it would give the same lost result.
            self.fresh.insert(task);
            self.anywhere.push_front(task);
        }
        true
    }

    /// Queues a reducing task where most of its input lies; before the maps, so that results do not pile up.
    pub fn queue_reduce(&mut self, number: u32) {
        let mut bytes: BTreeMap<NodeId, u64> = BTreeMap::new();
        for arg in &self.tasks[number as usize].args {
            if let JobArg::Promise(earlier) = arg
                && let Some((done, by)) = &self.results[*earlier as usize]
            {
                let sum = bytes.entry(*by).or_default();
                *sum = done.size.saturating_add(*sum);
            }
        }
        match bytes.into_iter().max_by_key(|&(_, size)| size) {
            Some((node, _)) if self.new.locality => self.near.entry(node).or_default().push_front(number),
            _ => self.anywhere.push_front(number),
        }
    }
}
