//! Runs jobs: keeps each executor's queue of ready tasks, near their data, and hands calls to the scheduler.
//!
//! A job's data set is listed, the executors are asked once which files they hold, and each task waits in the queue of
//! a node that holds its input. A node that has nothing left takes from the end of the longest queue, but only when that
//! queue is longer than what its owner can hold in hand: moving a task's data must pay.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use cid::Cid;

use crate::capability::Role;
use crate::failure::Failure;
use crate::function::{Determinism, Function};
use crate::id::{Instant, MILLISECOND, NodeId, SECOND};
use crate::io::{Answer, Memo, Output, Request, Ticket};
use crate::job::{File, JobDone};
use crate::membership::Membership;
use crate::memo::{Looked, Lookups};
use crate::message::{CIDS_MAX, Message};
pub use crate::plan::NewJob;
use crate::plan::{Job, Stage};
use crate::scheduler::{Client, Origin, Scheduler};
use crate::task::{ARGS_MAX, Done};

/// Jobs that run at the same time; further ones are refused with [`Failure::Overloaded`].
pub const JOBS_MAX: usize = 64;
/// Executors that are asked which files they hold: as many as a word has bits.
const HOLDERS_MAX: usize = 64;
/// How long the next of their answers is waited for.
const LOCATE_WAIT: Instant = 2 * SECOND;
/// Bounds of what is told to whom a job is refused, in milliseconds: jobs are long, and after a minute all may differ.
const RETRY_MS: [u64; 2] = [500, 60_000];
/// How often progress is reported.
const PROGRESS_EVERY: Instant = 100 * MILLISECOND;
/// Calls that one turn of the loop begins, so that its output stays bounded.
const SUBMIT_MAX: usize = 64;
/// How often a job that finds no executor with room looks again.
const LOOK_AGAIN: Instant = 100 * MILLISECOND;

/// The jobs that this node runs.
#[derive(Debug)]
pub struct Runner {
    jobs: BTreeMap<u64, Job>,
    next: u64,
    query: u64,
    queries: BTreeMap<u64, u64>,
    lookups: Lookups,
    look_again: Option<Instant>,
    /// Whose turn was last, and jobs that ended since the last turns.
    last: u64,
    ended: Vec<u64>,
}

impl Runner {
    /// Question numbers begin at `first`, apart from the scheduler's.
    pub fn new(first: u64) -> Runner {
        let (jobs, queries, lookups) = (BTreeMap::new(), BTreeMap::new(), Lookups::new(first));
        Runner { jobs, next: 0, query: first, queries, lookups, look_again: None, last: 0, ended: Vec::new() }
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
    pub fn residue(&self) -> [(&'static str, usize); 3] {
        [("jobs", self.jobs.len()), ("job queries", self.queries.len()), ("job look-ups", self.lookups.len())]
    }

    /// Begins a job.
    pub fn submit(&mut self, now: Instant, new: NewJob, out: &mut Vec<Output>) {
        if self.jobs.len() >= JOBS_MAX {
            let reply = Err(Failure::Overloaded { retry_after_ms: self.first_end_ms(now) });
            return out.push(Output::JobReply { request: new.request, reply });
        }
        self.next += 1;
        let id = self.next;
        out.push(Output::Load { ticket: Ticket::Job(id), function: new.spec.function, hints: Vec::new() });
        self.jobs.insert(id, Job::new(now, new));
    }

    /// When the first of the jobs should end, by how far they have come: in milliseconds from now.
    fn first_end_ms(&self, now: Instant) -> u64 {
        let left_ms = |job: &Job| {
            let (done, tasks) = (u64::from(job.progress.done.max(1)), u64::from(job.progress.tasks));
            (now - job.submitted) / MILLISECOND * tasks.saturating_sub(done) / done
        };
        self.jobs.values().map(left_ms).min().unwrap_or(0).clamp(RETRY_MS[0], RETRY_MS[1])
    }

    /// The manifest is here: the data set is listed next.
    pub fn loaded(&mut self, id: u64, function: Result<Arc<Function>, Failure>, out: &mut Vec<Output>) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| matches!(job.stage, Stage::Loading)) else { return };
        let checked = function.and_then(|f| {
            if f.determinism == Determinism::Effects {
                return Err(Failure::Rejected {
                    finding: "a job's tasks may run more than once, and this function has effects".into(),
                });
            }
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
        job.ready_maps();
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
                let last = job.finish(task, answer.done, answer.executor);
                self.went_on(now, id, last, out);
            }
        }
    }

    /// Tells of progress; `last` is the job's result.
    fn went_on(&mut self, now: Instant, id: u64, last: Option<Done>, out: &mut Vec<Output>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
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

    /// This node's own memory was asked about a batch of tasks.
    pub fn recalled(
        &mut self,
        now: Instant,
        query: u64,
        keys: Vec<Cid>,
        found: Vec<Option<Memo>>,
        members: &Membership,
        out: &mut Vec<Output>,
    ) {
        let looked = self.lookups.here(now, query, keys, found, members, out);
        self.looked_up(now, looked, out);
    }

    /// A peer was asked about a batch of tasks.
    pub fn told(&mut self, now: Instant, from: NodeId, query: u64, found: &[Memo], members: &Membership, out: &mut Vec<Output>) {
        let looked = self.lookups.there(from, query, found, members);
        self.looked_up(now, looked, out);
    }

    /// Tasks were looked up: those that have a result are done, the others are queued near their data.
    fn looked_up(&mut self, now: Instant, looked: impl IntoIterator<Item = Looked>, out: &mut Vec<Output>) {
        for Looked { job: id, tasks } in looked {
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            let mut last = None;
            for (number, hit) in tasks {
                match hit {
                    Some((done, by)) => last = job.finish(number, done, by).or(last),
                    None => job.queue(number),
                }
            }
            self.went_on(now, id, last, out);
        }
    }

    /// A user takes a job back.
    pub fn cancel(&mut self, request: Request, scheduler: &mut Scheduler, out: &mut Vec<Output>) {
        if let Some(id) = self.jobs.iter().find(|(_, job)| job.new.request == request).map(|(&id, _)| id) {
            self.abort(id, Failure::Cancelled, scheduler, out);
        }
    }

    /// A peer is gone: what was queued for it is anybody's.
    pub fn gone(&mut self, now: Instant, peer: NodeId, out: &mut Vec<Output>) {
        for job in self.jobs.values_mut() {
            let orphans = job.near.remove(&peer).unwrap_or_default();
            job.anywhere.extend(orphans);
        }
        let looked = self.lookups.gone(peer);
        self.looked_up(now, looked, out);
    }

    /// Gives every executor with room a task, over and over: jobs take turns.
    pub fn dispatch(&mut self, now: Instant, members: &Membership, scheduler: &mut Scheduler, out: &mut Vec<Output>) {
        self.look_again = None;
        for id in core::mem::take(&mut self.ended) {
            scheduler.hungry(id, false);
        }
        if self.jobs.is_empty() {
            return;
        }
        for (&id, job) in &mut self.jobs {
            let Stage::Running { function } = &job.stage else { continue };
            let function = function.clone();
            while !job.look_up.is_empty() && self.lookups.has_room(id) {
                self.lookups.begin(now, id, job.batch(), out);
            }
            let executors: Vec<NodeId> = members.workers(&function.engine).map(|(&node, _)| node).collect();
            job.free_orphans(&executors);
        }
        let mut turns: VecDeque<u64> = self.jobs.keys().copied().filter(|id| *id > self.last).collect();
        turns.extend(self.jobs.keys().copied().filter(|id| *id <= self.last));
        let executors: Vec<(NodeId, u32)> = members
            .iter()
            .filter(|(node, m)| members.via(node).is_some() && members.trusts(node) && m.advert.roles.contains(&Role::Executor))
            .map(|(&node, m)| (node, m.advert.offers.slots))
            .filter(|(_, slots)| *slots > 0)
            .collect();
        let (mut begun, mut progress) = (0, true);
        while progress && begun < SUBMIT_MAX {
            progress = false;
            for &(node, slots) in executors.iter().take(SUBMIT_MAX - begun) {
                let begins = |id: &u64| self.begin_task(now, *id, node, slots, members, scheduler, out);
                let Some(turn) = turns.iter().position(begins).and_then(|turn| turns.remove(turn)) else { continue };
                turns.push_back(turn);
                self.last = turn;
                progress = true;
                begun += 1;
            }
        }
        let mut idle = false;
        for (&id, job) in &self.jobs {
            let running = matches!(job.stage, Stage::Running { .. });
            scheduler.hungry(id, running && job.has_ready());
            idle |= running && job.running.is_empty();
        }
        if begun >= SUBMIT_MAX {
            self.look_again = Some(now);
        } else if idle {
            self.look_again = Some(now + LOOK_AGAIN);
        }
    }

    /// Gives an executor the next task of a job, if there is one for it and it has room.
    fn begin_task(
        &mut self,
        now: Instant,
        id: u64,
        node: NodeId,
        slots: u32,
        members: &Membership,
        scheduler: &mut Scheduler,
        out: &mut Vec<Output>,
    ) -> bool {
        let room = scheduler.room(&node, slots);
        let Some(job) = self.jobs.get_mut(&id).filter(|_| room > 0 && scheduler.admits(Client::Job(id), 0)) else { return false };
        let Stage::Running { function } = &job.stage else { return false };
        let function = function.clone();
        if !members.workers(&function.engine).any(|(other, _)| *other == node) {
            return false;
        }
        let spec = job.new.spec.function;
        let expect = |bytes| scheduler.expected_us(&spec, &node, bytes);
        let Some(task) = job.next_for(node, room, slots, expect) else { return false };
        let call = job.call(id, task, node, function);
        job.running.insert(task);
        scheduler.submit(now, call, members, out);
        true
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant, scheduler: &mut Scheduler, out: &mut Vec<Output>) {
        let late: Vec<u64> = self.jobs.iter().filter(|(_, job)| job.new.deadline <= now).map(|(&id, _)| id).collect();
        for id in late {
            self.abort(id, Failure::DeadlineExceeded { stage: "running the job".into() }, scheduler, out);
        }
        let looked = self.lookups.late(now);
        self.looked_up(now, looked, out);
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
        deadlines.chain(self.look_again).chain(self.lookups.next_wakeup()).min()
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
            self.ended.push(id);
            self.queries.retain(|_, of| *of != id);
            self.lookups.forget(id);
            if self.jobs.is_empty() {
                // Nobody dispatches for no job: an alarm would never be taken back.
                self.look_again = None;
            }
            out.push(Output::JobReply { request: job.new.request, reply });
        }
    }
}
