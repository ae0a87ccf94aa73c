//! Runs jobs: keeps each executor's queue of ready tasks, near their data, and hands calls to the scheduler.
//!
//! A job's data set is listed, the executors are asked once which files they hold, and each task waits in the queue of
//! a node that holds its input. A node that has nothing left takes from the end of the longest queue, but only when that
//! queue is longer than what its owner can hold in hand: moving a task's data must pay.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use cid::Cid;

use crate::failure::Failure;
use crate::function::Function;
use crate::id::{Instant, MILLISECOND, NodeId, SECOND};
use crate::io::{Answer, Output, Request, Ticket};
use crate::job::{File, JobArg, JobDone, JobProgress, JobSpec, JobTask, Kind, expand};
use crate::membership::Membership;
use crate::message::{CIDS_MAX, Message};
use crate::scheduler::{Call, Origin, Scheduler, WORK_PER_SLOT};
use crate::task::{ARGS_MAX, Arg, Done, Task};

/// Jobs that run at the same time; further ones are refused with [`Failure::Overloaded`].
pub const JOBS_MAX: usize = 64;
/// Executors that are asked which files they hold: as many as a word has bits.
const HOLDERS_MAX: usize = 64;
/// How long the next of their answers is waited for.
const LOCATE_WAIT: Instant = 2 * SECOND;
/// How often progress is reported.
const PROGRESS_EVERY: Instant = 100 * MILLISECOND;
/// Calls that one turn of the loop begins, so that its output stays bounded.
const SUBMIT_MAX: usize = 64;
/// Tasks that a small job may run again because their results were lost; a larger one as many as it has.
const REDO_MAX: usize = 64;
/// How often a job that finds no executor with room looks again.
const LOOK_AGAIN: Instant = 100 * MILLISECOND;

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
    /// Until when.
    pub deadline: Instant,
}

#[derive(Debug)]
enum Stage {
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

#[derive(Debug)]
struct Job {
    new: NewJob,
    submitted: Instant,
    stage: Stage,
    files: Vec<File>,
    /// The executors that were asked what they hold; bit `i` of a file's word is `nodes[i]`.
    nodes: Vec<NodeId>,
    holders: Vec<u64>,
    tasks: Vec<JobTask>,
    /// For each task, how many of its promises are open, and which task waits for its result.
    open: Vec<u32>,
    consumer: Vec<u32>,
    results: Vec<Option<(Done, NodeId)>>,
    /// Ready tasks by the node that holds their input.
    near: BTreeMap<NodeId, VecDeque<u32>>,
    /// Ready tasks whose input is nowhere in particular.
    anywhere: VecDeque<u32>,
    running: BTreeSet<u32>,
    /// Tasks that were run again because their results were lost.
    redone: usize,
    progress: JobProgress,
    reported: Instant,
}

/// The jobs that this node runs.
#[derive(Debug, Default)]
pub struct Runner {
    jobs: BTreeMap<u64, Job>,
    next: u64,
    query: u64,
    queries: BTreeMap<u64, u64>,
    look_again: Option<Instant>,
}

impl Runner {
    /// Question numbers begin at `first`, apart from the scheduler's.
    pub fn new(first: u64) -> Runner {
        Runner { query: first, ..Runner::default() }
    }

    /// Jobs that have not ended.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// What is under way, by table: all zero when no job is.
    pub fn residue(&self) -> [(&'static str, usize); 2] {
        [("jobs", self.jobs.len()), ("job queries", self.queries.len())]
    }

    /// Begins a job.
    pub fn submit(&mut self, now: Instant, new: NewJob, out: &mut Vec<Output>) {
        if self.jobs.len() >= JOBS_MAX {
            let reply = Err(Failure::Overloaded { retry_after_ms: 1000 });
            return out.push(Output::JobReply { request: new.request, reply });
        }
        self.next += 1;
        let id = self.next;
        out.push(Output::Load { ticket: Ticket::Job(id), function: new.spec.function, hints: Vec::new() });
        self.jobs.insert(id, Job::new(now, new));
    }

    /// The manifest is here: the data set is listed next.
    pub fn loaded(&mut self, id: u64, function: Result<Arc<Function>, Failure>, out: &mut Vec<Output>) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| matches!(job.stage, Stage::Loading)) else { return };
        let checked = function.and_then(|f| {
            f.check_call(&job.new.spec.map, 1)?;
            // The last task of a level may be left with any smaller number of results.
            let fan_in = job.new.spec.fan_in.max(2) as usize;
            (1..=fan_in.min(ARGS_MAX + 1)).try_for_each(|args| f.check_call(&job.new.spec.reduce, args).map(|_| ()))?;
            if fan_in > ARGS_MAX {
                let (wanted, got) = (format!("a fan-in of at most {ARGS_MAX}"), format!("{fan_in}"));
                return Err(Failure::BadArgument { index: 0, wanted, got });
            }
            Ok(f)
        });
        match checked {
            Err(failure) => self.end(id, Err(failure), out),
            Ok(function) => {
                job.stage = Stage::Listing { function };
                out.push(Output::List { ticket: Ticket::Job(id), root: job.new.spec.dataset });
            }
        }
    }

    /// The files are known: the executors are asked which they hold.
    pub fn listed(
        &mut self,
        now: Instant,
        id: u64,
        files: Result<Vec<File>, Failure>,
        members: &Membership,
        out: &mut Vec<Output>,
    ) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Stage::Listing { function } = &job.stage else { return };
        let function = function.clone();
        job.files = match files {
            Ok(files) => files,
            Err(failure) => return self.end(id, Err(failure), out),
        };
        job.lay_out();
        if job.new.locality {
            job.nodes = members.executors(&function.engine).map(|(&node, _)| node).take(HOLDERS_MAX).collect();
        }
        job.stage = Stage::Locating { function, open: BTreeMap::new(), until: now + LOCATE_WAIT };
        for index in 0..job.nodes.len() {
            self.ask(id, index, 0, members.config.me, out);
        }
        self.begin_if_located(now, id);
    }

    /// Asks a node which files of a part it holds: one part after another, so that one turn puts out little.
    fn ask(&mut self, id: u64, index: usize, part: usize, me: NodeId, out: &mut Vec<Output>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Stage::Locating { open, .. } = &mut job.stage else { return };
        let (Some(files), to) = (job.files.chunks(CIDS_MAX).nth(part), job.nodes[index]) else { return };
        let cids = files.iter().map(|f| f.cid).collect();
        self.query += 1;
        open.insert(self.query, (index, part));
        self.queries.insert(self.query, id);
        out.push(match to == me {
            true => Output::Have { ticket: Ticket::JobHave(self.query), cids },
            false => Output::Send { to, message: Message::Holds { query: self.query, cids } },
        });
    }

    /// Somebody says which files of a part it holds. Returns whether the question was this runner's.
    pub fn held(
        &mut self,
        now: Instant,
        from: NodeId,
        query: u64,
        bits: &[u8],
        members: &Membership,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(&id) = self.queries.get(&query) else { return false };
        let Some(job) = self.jobs.get_mut(&id) else { return true };
        let Stage::Locating { open, until, .. } = &mut job.stage else { return true };
        let Some(&(node, part)) = open.get(&query).filter(|(node, _)| job.nodes[*node] == from) else { return true };
        open.remove(&query);
        *until = now + LOCATE_WAIT;
        self.queries.remove(&query);
        let holders = job.holders.iter_mut().skip(part * CIDS_MAX).take(CIDS_MAX);
        for (i, word) in holders.enumerate() {
            if bits.get(i / 8).is_some_and(|byte| byte >> (i % 8) & 1 == 1) {
                *word |= 1 << node;
            }
        }
        self.ask(id, node, part + 1, members.config.me, out);
        self.begin_if_located(now, id);
        true
    }

    fn begin_if_located(&mut self, now: Instant, id: u64) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Stage::Locating { function, open, until } = &job.stage else { return };
        if !open.is_empty() && now < *until {
            return;
        }
        for query in open.keys() {
            self.queries.remove(query);
        }
        job.stage = Stage::Running { function: function.clone() };
        job.queue_maps();
        self.look_again = Some(now);
    }

    /// A call of a job ended.
    pub fn settled(
        &mut self,
        now: Instant,
        id: u64,
        task: u32,
        result: Result<Answer, Failure>,
        scheduler: &mut Scheduler,
        out: &mut Vec<Output>,
    ) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.running.remove(&task);
        match result {
            // A result is gone with the node that had it: that costs time, never the answer.
            Err(Failure::NotFound { cid, .. }) if job.redo(task, &cid) => {}
            Err(failure) => self.abort(id, failure, scheduler, out),
            Ok(answer) => {
                let last = job.finish(task, answer);
                if let Some(done) = last {
                    let (request, total_us) = (job.new.request, now - job.submitted);
                    out.push(Output::Progress { request, progress: job.progress.clone() });
                    let done = JobDone { job: job.new.job, done, progress: core::mem::take(&mut job.progress), total_us };
                    self.end(id, Ok(done), out);
                } else if now - job.reported >= PROGRESS_EVERY {
                    job.reported = now;
                    out.push(Output::Progress { request: job.new.request, progress: job.progress.clone() });
                }
            }
        }
    }

    /// A user takes a job back.
    pub fn cancel(&mut self, request: Request, scheduler: &mut Scheduler, out: &mut Vec<Output>) {
        if let Some(id) = self.jobs.iter().find(|(_, job)| job.new.request == request).map(|(&id, _)| id) {
            self.abort(id, Failure::Cancelled, scheduler, out);
        }
    }

    /// A peer is gone: what was queued for it is anybody's.
    pub fn gone(&mut self, peer: NodeId) {
        for job in self.jobs.values_mut() {
            let orphans = job.near.remove(&peer).unwrap_or_default();
            job.anywhere.extend(orphans);
        }
    }

    /// Gives every executor with room the next task of each job, in turn.
    pub fn dispatch(&mut self, now: Instant, members: &Membership, scheduler: &mut Scheduler, out: &mut Vec<Output>) {
        let mut begun = 0;
        self.look_again = None;
        for (&id, job) in &mut self.jobs {
            let Stage::Running { function } = &job.stage else { continue };
            let function = function.clone();
            let executors: Vec<(NodeId, u32)> = members
                .executors(&function.engine)
                .map(|(&node, m)| (node, m.advert.offers.slots))
                .filter(|(_, slots)| *slots > 0)
                .collect();
            job.free_orphans(&executors);
            let mut progress = true;
            while progress && begun < SUBMIT_MAX && !scheduler.is_full() {
                progress = false;
                for &(node, slots) in &executors {
                    if begun >= SUBMIT_MAX || scheduler.is_full() || scheduler.room(&node, slots) == 0 {
                        continue;
                    }
                    let Some(task) = job.next_for(node, scheduler.room(&node, slots), slots) else { continue };
                    let call = job.call(id, task, node, function.clone());
                    job.running.insert(task);
                    scheduler.submit(now, call, members, out);
                    progress = true;
                    begun += 1;
                }
            }
            if begun >= SUBMIT_MAX {
                self.look_again = Some(now);
            } else if job.running.is_empty() {
                self.look_again = Some(now + LOOK_AGAIN);
            }
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant, scheduler: &mut Scheduler, out: &mut Vec<Output>) {
        let late: Vec<u64> = self.jobs.iter().filter(|(_, job)| job.new.deadline <= now).map(|(&id, _)| id).collect();
        for id in late {
            self.abort(id, Failure::DeadlineExceeded { stage: "running the job".into() }, scheduler, out);
        }
        let located: Vec<u64> = self.jobs.keys().copied().collect();
        for id in located {
            self.begin_if_located(now, id);
        }
    }

    /// When [`Runner::tick`] or [`Runner::dispatch`] has something to do again.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let deadlines = self.jobs.values().map(|job| match &job.stage {
            Stage::Locating { until, .. } => *until.min(&job.new.deadline),
            _ => job.new.deadline,
        });
        deadlines.chain(self.look_again).min()
    }

    fn abort(&mut self, id: u64, failure: Failure, scheduler: &mut Scheduler, out: &mut Vec<Output>) {
        let Some(job) = self.jobs.get(&id) else { return };
        let running: Vec<u32> = job.running.iter().copied().collect();
        if matches!(job.stage, Stage::Loading | Stage::Listing { .. }) {
            out.push(Output::Stop { ticket: Ticket::Job(id) });
        }
        self.end(id, Err(failure), out);
        for task in running {
            scheduler.cancel(Origin::Job(id, task), out);
        }
    }

    fn end(&mut self, id: u64, reply: Result<JobDone, Failure>, out: &mut Vec<Output>) {
        if let Some(job) = self.jobs.remove(&id) {
            self.queries.retain(|_, of| *of != id);
            out.push(Output::JobReply { request: job.new.request, reply });
        }
    }
}

impl Job {
    fn new(now: Instant, new: NewJob) -> Job {
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
            near: BTreeMap::new(),
            anywhere: VecDeque::new(),
            running: BTreeSet::new(),
            redone: 0,
            progress: JobProgress::default(),
            reported: now,
        }
    }

    /// Makes the graph.
    fn lay_out(&mut self) {
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

    /// Queues the tasks that wait for nothing: each at the holder with the fewest bytes queued, or anywhere.
    fn queue_maps(&mut self) {
        let mut queued = vec![0u64; self.nodes.len()];
        for number in 0..self.tasks.len() as u32 {
            if self.open[number as usize] > 0 {
                continue;
            }
            let word = self.holders.get(number as usize).copied().unwrap_or(0);
            let holder = (0..self.nodes.len()).filter(|i| word >> i & 1 == 1).min_by_key(|&i| (queued[i], i));
            match holder {
                None => self.anywhere.push_back(number),
                Some(i) => {
                    queued[i] = self.files[number as usize].size.saturating_add(queued[i]);
                    self.near.entry(self.nodes[i]).or_default().push_back(number);
                }
            }
        }
    }

    /// Tasks that are queued for a node that is no executor in reach are anybody's: it went away after its results, or
    /// its word on what it holds, had come.
    fn free_orphans(&mut self, executors: &[(NodeId, u32)]) {
        let reached = |node: &NodeId| executors.iter().any(|(executor, _)| executor == node);
        for (_, orphans) in self.near.extract_if(.., |node, _| !reached(node)) {
            self.anywhere.extend(orphans);
        }
    }

    /// The task that `node` should begin next. `room` is what it could still take in hand.
    fn next_for(&mut self, node: NodeId, room: u32, slots: u32) -> Option<u32> {
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
        if longest.len() > slots.saturating_mul(WORK_PER_SLOT) as usize { longest.pop_back() } else { None }
    }

    /// The call of a ready task.
    fn call(&self, id: u64, number: u32, node: NodeId, function: Arc<Function>) -> Call {
        let task = &self.tasks[number as usize];
        let (mut bytes, mut holders) = (0u64, Vec::new());
        let mut args = Vec::with_capacity(task.args.len());
        for arg in &task.args {
            match arg {
                JobArg::Link(cid) => {
                    bytes = self.files[number as usize].size;
                    let word = self.holders[number as usize];
                    holders.extend(self.nodes.iter().enumerate().filter(|(i, _)| word >> i & 1 == 1).map(|(_, n)| *n));
                    args.push(Arg::Link(*cid));
                }
                JobArg::Promise(earlier) => {
                    if let Some((done, by)) = &self.results[*earlier as usize] {
                        bytes = done.size.saturating_add(bytes);
                        holders.push(*by);
                        args.push(Arg::Link(done.result));
                    }
                }
            }
        }
        holders.sort_unstable();
        holders.dedup();
        let entry = match task.kind {
            Kind::Map => self.new.spec.map.clone(),
            Kind::Reduce => self.new.spec.reduce.clone(),
        };
        let task = Task { function: self.new.spec.function, entry, args, seq: 0 };
        let origin = Origin::Job(id, number);
        let (function, target, holders) = (Some(function), Some(node), Some(holders));
        Call { origin, task, function, deadline: self.new.deadline, target, holders, bytes }
    }

    /// Takes a task's result; gives the job's, when that was the last.
    fn finish(&mut self, number: u32, answer: Answer) -> Option<Done> {
        let share = self.progress.nodes.entry(answer.executor).or_default();
        share.tasks += 1;
        // Another node says these; they may be anything.
        share.input = share.input.saturating_add(answer.done.usage.input);
        share.fetched = share.fetched.saturating_add(answer.done.usage.fetched);
        share.run_us = share.run_us.saturating_add(answer.done.usage.run_us);
        self.progress.done += 1;
        if number as usize + 1 == self.tasks.len() {
            return Some(answer.done);
        }
        self.results[number as usize] = Some((answer.done, answer.executor));
        let consumer = self.consumer[number as usize];
        self.open[consumer as usize] -= 1;
        if self.open[consumer as usize] == 0 {
            self.queue_reduce(consumer);
        }
        None
    }

    /// Runs those tasks again whose results `number` could not get: the one with this CID or, where a block within a
    /// result is missing, all. Returns whether there are any and the job may.
    fn redo(&mut self, number: u32, missing: &Cid) -> bool {
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
            self.results[task as usize] = None;
            self.open[number as usize] += 1;
            self.progress.done -= 1;
            self.anywhere.push_front(task);
        }
        true
    }

    /// Queues a reducing task where most of its input lies; before the maps, so that results do not pile up.
    fn queue_reduce(&mut self, number: u32) {
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
