//! What users do: calls, jobs, imports; and what becomes of it, counted.

use cid::Cid;
use timerose_core::envelope::Via;
use timerose_core::failure::Failure;
use timerose_core::id::{RAW, cid_of};
use timerose_core::io::{Answer, Input};
use timerose_core::job::{JobDone, JobSpec};
use timerose_core::record::address;
use timerose_core::task::{Arg, Task};

use crate::content::{MAP, REDUCE, RUN};
use crate::fact::{Asked, Fact};
use crate::host::{id, index};
use crate::scenario::{Fault, FaultKind};
use crate::world::{Event, World};

/// The liveness phase's job is asked for again after so long.
const REPEAT_AFTER_US: u64 = 20_000_000;
/// The farthest that a wall clock jumps, in milliseconds.
const CLOCK_JUMP_MS: i64 = 3_600_000;
/// One block of an import, in bytes.
const BLOCK_BYTES: u64 = 256 * 1024;

impl World<'_> {
    /// Plans the safety phase: starts, calls, jobs, imports, faults.
    pub fn plan_safety(&mut self) {
        for node in 0..self.hosts.len() {
            let at_ms = self.load.u64(0..500);
            self.fault_at(Fault::new(at_ms, FaultKind::Restart, vec![node]));
        }
        let every = self.scenario.call_every_ms * 1000;
        for call in 0..self.scenario.calls {
            let at = 1_000_000 + call * every + self.load.u64(0..=every);
            self.at(at, Event::Call { calm: false });
        }
        let spread = 1_000_000..self.scenario.safety_ms.max(1001) * 1000;
        for _ in 0..self.scenario.detached {
            let at = self.load.u64(spread.clone());
            self.at(at, Event::Detach);
        }
        for _ in 0..self.scenario.effects {
            let at = self.load.u64(spread.clone());
            self.at(at, Event::CallOnce { calm: false });
        }
        for flood in self.scenario.floods.clone() {
            self.at(flood.at_ms * 1000, Event::Flood(flood));
        }
        for files in self.scenario.jobs.clone() {
            let at = self.load.u64(1_000_000..3_000_000);
            self.at(at, Event::Job { files, calm: false, again: false });
        }
        for _ in 0..self.scenario.imports {
            let at = self.load.u64(500_000..=self.scenario.safety_ms.max(1000) * 1000);
            self.at(at, Event::Import);
        }
        for fault in self.scenario.faults.clone() {
            self.fault_at(fault);
        }
        self.plan_random_faults();
    }

    /// Plans the liveness phase's calls, over ten seconds, and a job.
    pub fn plan_liveness(&mut self) {
        for _ in 0..self.scenario.last_calls {
            let at = self.now + self.load.u64(0..10_000_000);
            self.at(at, Event::Call { calm: true });
        }
        for _ in 0..self.scenario.effects.min(self.scenario.last_calls) {
            let at = self.now + self.load.u64(0..10_000_000);
            self.at(at, Event::CallOnce { calm: true });
        }
        if let Some(&files) = self.scenario.jobs.first() {
            self.at(self.now, Event::Job { files, calm: true, again: false });
            if self.scenario.repeat_per_mille > 0 {
                self.at(self.now + REPEAT_AFTER_US, Event::Job { files, calm: true, again: true });
            }
        }
    }

    fn fault_at(&mut self, fault: Fault) {
        self.at(fault.at_ms * 1000, Event::Fault(fault));
    }

    fn plan_random_faults(&mut self) {
        let scenario = self.scenario.clone();
        let many = |per_min: u64| per_min * scenario.safety_ms / 60_000;
        let kinds = [
            (many(scenario.crashes_per_min), FaultKind::Crash, FaultKind::Restart),
            (many(scenario.partitions_per_min), FaultKind::Partition, FaultKind::Heal),
            (many(scenario.slow_per_min), FaultKind::Slow, FaultKind::Slow),
            (many(scenario.clock_jumps_per_min), FaultKind::Clock, FaultKind::Clock),
            (many(scenario.full_disks_per_min), FaultKind::Full, FaultKind::Freed),
        ];
        for (count, begins, ends) in kinds {
            for _ in 0..count {
                let at_ms = self.load.u64(1000..scenario.safety_ms.max(1001));
                let until_ms = at_ms + self.load.u64(scenario.fault_ms[0]..=scenario.fault_ms[1]);
                let mut nodes = vec![self.load.usize(0..scenario.nodes)];
                if begins == FaultKind::Partition {
                    nodes = (0..scenario.nodes).filter(|_| self.load.bool()).collect();
                }
                let times = self.load.u64(2..60);
                let clock_ms = self.load.i64(-CLOCK_JUMP_MS..=CLOCK_JUMP_MS);
                self.fault_at(Fault { times, lag_ms: times, clock_ms, ..Fault::new(at_ms, begins, nodes.clone()) });
                self.fault_at(Fault::new(until_ms, ends, nodes));
            }
        }
    }

    /// Somebody calls a function with a few bytes of its own, and perhaps with data of the mesh.
    pub(crate) fn call(&mut self, calm: bool) {
        if let Some(node) = self.somebody() {
            self.call_of(node, 0, calm);
        }
    }

    /// A client of a node calls.
    pub(crate) fn call_of(&mut self, node: usize, client: u64, calm: bool) {
        let asked = Asked { client, ..self.asked(node, self.scenario.timeout_ms, calm) };
        let function = *self.load.choice(&self.content.callable).expect("there are functions");
        let mut args = vec![Arg::Inline(asked.request.to_be_bytes().to_vec())];
        if self.load.u32(0..1000) < self.scenario.missing_per_mille {
            args.push(Arg::Link(cid_of(RAW, format!("nothing for {}", asked.request).as_bytes())));
        } else if self.load.u32(0..1000) < self.scenario.linked_per_mille {
            args.push(Arg::Link(*self.load.choice(&self.content.blobs).expect("there are blobs")));
        }
        let mut task = Task { function, entry: RUN.into(), args, seq: 0 };
        if self.repeats()
            && let Some(earlier) = self.load.choice(&self.tasks)
        {
            task = earlier.clone();
        }
        self.tasks.push(task.clone());
        self.fact(Fact::Called { asked, truth: self.content.truth(&task, &id(node)) });
        let life = self.hosts[node].life;
        if self.load.u32(0..1000) < self.scenario.cancel_per_mille {
            let at = self.now + self.load.u64(0..200_000);
            self.at(at, Event::TakeBack { node, life, request: asked.request });
        }
        let (request, timeout_ms) = (asked.request, self.scenario.timeout_ms);
        let via = (self.gossip.u32(0..1000) < self.scenario.pubsub_per_mille).then_some(Via::PubSub);
        let input = Input::Submit { request, task, timeout_ms, memo: true, function: None, new: None, client, via, trace: None };
        self.give(node, life, input);
    }

    /// Somebody begins a job over a data set of its own.
    pub(crate) fn job(&mut self, files: u64, calm: bool, again: bool) {
        let Some(node) = self.somebody() else { return };
        let asked = self.asked(node, self.scenario.job_timeout_ms, calm);
        // In calm times only the one that is meant to: what faults kept from the winners of its keys is no law's business.
        let earlier = if again || (!calm && self.repeats()) { self.jobs.last().cloned() } else { None };
        if let Some((before, spec)) = earlier {
            return self.begin_job(asked, spec, Some(before));
        }
        let kib = self.scenario.blob_kib;
        let nodes = self.scenario.nodes;
        let dataset = self.content.add_dataset(asked.request, files, kib, nodes, &mut self.load);
        let function = self.content.callable[0];
        let spec = JobSpec { function, dataset, map: MAP.into(), reduce: REDUCE.into(), fan_in: 4 };
        self.begin_job(asked, spec, None);
    }

    fn begin_job(&mut self, asked: Asked, spec: JobSpec, again: Option<u64>) {
        self.jobs.push((asked.request, spec.clone()));
        let (tasks, result) = self.content.job_truth(&spec);
        self.fact(Fact::JobCalled { asked, tasks, result, again });
        let (job, bytes) = address(&spec);
        self.content.add(job, bytes.len() as u64, asked.node);
        let (locality, timeout_ms) = (self.scenario.locality, self.scenario.job_timeout_ms);
        let input = Input::SubmitJob { request: asked.request, job, spec, locality, timeout_ms, memo: true, trace: None };
        self.give(asked.node, self.hosts[asked.node].life, input);
    }

    fn repeats(&mut self) -> bool {
        self.scenario.repeat_per_mille > 0 && self.load.u32(0..1000) < self.scenario.repeat_per_mille
    }

    /// Somebody imports a few files.
    pub(crate) fn import(&mut self) {
        let Some(node) = self.somebody() else { return };
        let request = self.asked(node, 0, false).request;
        let block = |file, block| cid_of(RAW, format!("block {block} of file {file} of import {request}").as_bytes());
        let files: Vec<(Cid, Vec<Cid>)> =
            (0..4).map(|file| (block(file, 0), (0..4).map(|number| block(file, number)).collect())).collect();
        let cids: Vec<Cid> = files.iter().flat_map(|(_, blocks)| blocks).copied().collect();
        for &cid in &cids {
            self.content.add(cid, BLOCK_BYTES, node);
        }
        let copies = self.load.u8(1..=3);
        self.fact(Fact::Placing { node, request, cids, copies });
        self.give(node, self.hosts[node].life, Input::Place { request, files, copies });
    }

    /// Counts an answered call.
    pub(crate) fn count(&mut self, reply: &Result<Answer, Failure>) {
        self.report.settled += 1;
        match reply {
            Ok(answer) => {
                self.report.ok += 1;
                self.report.retries += u64::from(answer.claims.saturating_sub(1));
                self.totals_us.push(answer.total_us);
            }
            Err(failure) => *self.report.failed.entry(failure.code()).or_default() += 1,
        }
    }

    /// Says how near the executor of a call was, where the asker is none itself.
    pub(crate) fn chosen(&mut self, node: usize, reply: &Result<Answer, Failure>) {
        let Ok(answer) = reply else { return };
        if self.scenario.nearest_per_mille_min == 0 || self.scenario.is_executor(node) || answer.done.reused {
            return;
        }
        let alive = (0..self.hosts.len()).filter(|&other| self.scenario.is_executor(other) && self.hosts[other].node.is_some());
        let Some(least_us) = alive.map(|other| self.network.rtt_us(node, other)).min() else { return };
        let rtt_us = self.network.rtt_us(node, index(&answer.executor));
        self.report.near_of += 1;
        self.report.near += u64::from(rtt_us <= least_us);
        self.fact(Fact::Chosen { node, claims: answer.claims, rtt_us, least_us });
    }

    /// Counts an answered job.
    pub(crate) fn count_job(&mut self, reply: &Result<JobDone, Failure>) {
        match reply {
            Ok(_) => self.report.jobs_ok += 1,
            Err(failure) => *self.report.jobs_failed.entry(failure.code()).or_default() += 1,
        }
    }
}
