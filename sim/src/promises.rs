//! What outlives a process: each node's journal, the work that it promised, and crashes at the worst moments for both.

use timerose_core::failure::Failure;
use timerose_core::io::{Input, Output, Ticket, WorkState, WorkView};
use timerose_core::promise::{Asked, Class, JournalEntry};
use timerose_core::task::{Arg, Task};

use crate::content::RUN;
use crate::fact::{Fact, Kept};
use crate::host::id;
use crate::scenario::{Fault, FaultKind};
use crate::world::{Event, World};

/// How long detached work is tried, in milliseconds: longer than any run.
const TRIED_MS: u64 = 24 * 3600 * 1000;
/// What making an entry safe from a loss of power takes at most, in microseconds.
const DISK_US: u64 = 5000;

/// A moment of a persist at which a process may die.
#[derive(Clone, Copy, Debug)]
enum Moment {
    BeforeItIsWritten,
    BeforeItIsTold,
    AfterItWasTold,
}

impl World<'_> {
    /// Writes an entry after a while; entries of one node are written in order.
    pub(crate) fn persist(&mut self, node: usize, ticket: Option<Ticket>, entry: JournalEntry, class: Class) {
        let disk_us = if class == Class::Disk { self.delays.u64(0..DISK_US) } else { 0 };
        let at = self.now + self.turn_us(node) + disk_us;
        let host = &mut self.hosts[node];
        host.written_at = host.written_at.max(at);
        let (at, life) = (host.written_at, host.life);
        self.at(at, Event::Persist { node, life, ticket, entry });
    }

    /// An entry is written, and whoever waits is told; unless the process dies first.
    pub(crate) fn persisted(&mut self, node: usize, life: u32, ticket: Option<Ticket>, entry: JournalEntry) {
        if self.hosts[node].life != life {
            return;
        }
        if let Some(failure) = self.write_failure(node) {
            self.hosts[node].refused = true;
            if let Some(ticket) = ticket {
                self.give(node, life, Input::Persisted { ticket, result: Err(failure) });
            }
            return;
        }
        let dies =
            self.scenario.persist_crashes_per_mille > 0 && self.delays.u32(0..1000) < self.scenario.persist_crashes_per_mille;
        let moments = [Moment::BeforeItIsWritten, Moment::BeforeItIsTold, Moment::AfterItWasTold];
        let moment = dies.then(|| moments[self.delays.usize(0..3)]);
        if !matches!(moment, Some(Moment::BeforeItIsWritten)) {
            self.hosts[node].write(entry);
        }
        if matches!(moment, None | Some(Moment::AfterItWasTold))
            && let Some(ticket) = ticket
        {
            self.give(node, life, Input::Persisted { ticket, result: Ok(()) });
        }
        if let Some(moment) = moment {
            self.step(node, format!("it dies {moment:?}"));
            let [from, to] = self.scenario.fault_ms;
            let at_ms = self.now / 1000 + self.delays.u64(from..=to);
            let fault = |kind| Event::Fault(Fault::new(at_ms, kind, vec![node]));
            self.at(self.now, fault(FaultKind::Crash));
            self.at(at_ms * 1000, fault(FaultKind::Restart));
        }
    }

    /// A process begins with what its journal holds, and with nothing else.
    pub(crate) fn restore(&mut self, node: usize) {
        let host = &self.hosts[node];
        let entries: Vec<JournalEntry> = host.journal.values().cloned().collect();
        self.give(node, host.life, Input::Restored { entries });
        self.compare_with_journal(node);
    }

    /// A node's state and its journal say the same, unless the journal could not write.
    fn compare_with_journal(&mut self, node: usize) {
        let host = &self.hosts[node];
        let Some(machine) = &host.node else { return };
        let mut entries: Vec<JournalEntry> = machine.entries().collect();
        entries.sort_by_key(JournalEntry::key);
        let same = host.refused || entries.iter().eq(host.journal.values());
        self.fact(Fact::Restored { node, entries: host.journal.len(), same });
    }

    /// Somebody asks for a call and does not wait for it.
    pub(crate) fn detach(&mut self) {
        let Some(node) = self.somebody().filter(|&node| !self.scenario.is_stranger(node)) else { return };
        let request = self.asked(node, 0, false).request;
        let function = *self.load.choice(&self.content.callable).expect("there are functions");
        let mut args = vec![Arg::Inline(request.to_be_bytes().to_vec())];
        if self.load.bool() {
            args.push(Arg::Link(*self.load.choice(&self.content.blobs).expect("there are blobs")));
        }
        let task = Task { function, entry: RUN.into(), args, seq: 0 };
        let handle = task.id(&id(node));
        let truth = self.content.truth(&task, &id(node));
        self.fact(Fact::Detached { node, request, handle, truth });
        let asked = Asked::Call { task, memo: true };
        let input = Input::Accept { request, handle, asked, timeout_ms: TRIED_MS };
        self.give(node, self.hosts[node].life, input);
    }

    /// Somebody calls a function with effects.
    pub(crate) fn call_once(&mut self, calm: bool) {
        let Some(node) = self.somebody() else { return };
        let asked = self.asked(node, self.scenario.timeout_ms, calm);
        let function = self.content.effectful.expect("it is deployed where it is called");
        let args = vec![Arg::Inline(asked.request.to_be_bytes().to_vec())];
        let task = Task { function, entry: RUN.into(), args, seq: asked.request };
        self.fact(Fact::Called { asked, truth: self.content.truth(&task, &id(node)) });
        let (request, timeout_ms, function, new) = (asked.request, self.scenario.timeout_ms, None, None);
        let input = Input::Submit { request, task, timeout_ms, memo: true, function, new, client: 0, via: None, trace: None };
        self.give(node, self.hosts[node].life, input);
    }

    /// At the end every node is asked what became of what it promised.
    pub(crate) fn settle_promises(&mut self) {
        for node in 0..self.hosts.len() {
            let request = self.asked(node, 0, true).request;
            self.give(node, self.hosts[node].life, Input::Ask { request, handle: None, wait: false });
            self.compare_with_journal(node);
        }
    }

    /// What the ledger says to users.
    pub(crate) fn told(&mut self, node: usize, output: Output) {
        match output {
            Output::Accepted { request, reply } => {
                self.fact(Fact::Accepted { node, request, accepted: reply.map_err(|failure| failure.code()) });
            }
            Output::Works { works, .. } => {
                let works = works.into_iter().map(|work| (work.handle, kept(work))).collect();
                self.fact(Fact::Promised { node, works });
            }
            _ => {}
        }
    }
}

fn kept(work: WorkView) -> Kept {
    match work.state {
        WorkState::Ended { outcome: Ok(ending), .. } => Kept::Gave(ending.done.result),
        WorkState::Ended { outcome: Err(Failure::FunctionFailed { .. }), .. } => Kept::Fails,
        WorkState::Ended { outcome: Err(failure), .. } => Kept::Lost(failure.code()),
        WorkState::Waiting { .. } | WorkState::Running { .. } => Kept::Open,
    }
}
