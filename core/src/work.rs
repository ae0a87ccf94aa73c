//! A piece of work as its executor sees it: what was claimed, and how far it is.

use alloc::sync::Arc;
use alloc::vec::Vec;
use cid::Cid;
use serde_bytes::ByteBuf;

use crate::failure::Failure;
use crate::function::Function;
use crate::id::{Instant, NodeId};
use crate::io::{Output, Ticket};
use crate::message::{Message, RESULT_MAX};
use crate::span::{Context, Marks, Seen, WorkSeen};
use crate::task::{Done, Outcome, Task, Usage};

#[derive(Debug)]
pub enum Stage {
    Loading,
    Naming { function: Arc<Function> },
    Recalling { function: Arc<Function> },
    Fetching { function: Arc<Function>, since: Instant },
    Waiting { function: Arc<Function>, usage: Usage },
    Intending { function: Arc<Function>, usage: Usage },
    Running { function: Arc<Function> },
    Signing { done: Done },
    Noting { outcome: Outcome },
    Done { outcome: Outcome },
}

#[derive(Debug)]
pub struct Work {
    pub from: NodeId,
    /// Who answers for it: whose share and turns it has.
    pub sponsor: NodeId,
    pub lease: u64,
    pub task: Task,
    pub hints: Vec<NodeId>,
    pub memo: bool,
    pub keep: bool,
    pub inline: bool,
    pub stage: Stage,
    pub deadline: Instant,
    pub heard: Instant,
    /// False once the scheduler gave it up while it ran: the slot is free when the engine says so, not before.
    pub wanted: bool,
    /// For a run with effects: its TaskId, and when it was admitted, in milliseconds since 1970 UTC.
    pub effect: Option<(Cid, u64)>,
    pub trace: Option<Context>,
    pub marks: Marks,
}

impl Work {
    pub fn start(&mut self, now: Instant, id: u64, function: Arc<Function>, spent: Usage, out: &mut Vec<Output>) {
        self.marks.started = Some(now);
        self.stage = Stage::Running { function: function.clone() };
        let (task, subject, trace) = (self.task.clone(), self.from, self.trace);
        out.push(Output::Start { ticket: Ticket::Work(id), function, task, subject, spent, trace });
    }

    /// Tells of it, if it is traced: it is answered.
    pub fn report(&self, now: Instant, outcome: &Outcome, out: &mut Vec<Output>) {
        let Some(context) = self.trace else { return };
        let (function, entry) = (self.task.function, self.task.entry.clone());
        let outcome = outcome.as_ref().map(|done| (done.task, done.usage, done.reused)).map_err(Failure::code);
        let (from, marks, ended) = (self.from, self.marks, now);
        out.push(Output::Seen(Seen::Work(WorkSeen { context, from, function, entry, marks, ended, outcome })));
    }

    /// Tells the outcome, once its bytes are read where they go along.
    pub fn tell(&self, id: u64, out: &mut Vec<Output>) {
        match &self.stage {
            Stage::Done { outcome: Ok(done) } if self.inline && done.size <= RESULT_MAX as u64 => {
                out.push(Output::Read { ticket: Ticket::Work(id), cid: done.result });
            }
            _ => self.answer(None, out),
        }
    }

    pub fn answer(&self, body: Option<ByteBuf>, out: &mut Vec<Output>) {
        let Stage::Done { outcome } = &self.stage else { return };
        let message = Message::Outcome { lease: self.lease, outcome: outcome.clone(), body };
        out.push(Output::Send { to: self.from, message });
    }
}

/// What a claim asks for, as in [`Message::Claim`].
#[derive(Clone, Debug)]
pub struct Claim {
    /// What is to be done.
    pub task: Task,
    /// Milliseconds until the caller gives up.
    pub budget_ms: u64,
    /// Who holds the function or its arguments.
    pub hints: Vec<NodeId>,
    /// Whether an earlier result will do.
    pub memo: bool,
    /// Whether the receipt is worth telling others of.
    pub keep: bool,
    /// The trace that it is part of.
    pub trace: Option<Context>,
    /// Whether the result's bytes are wanted with the outcome.
    pub inline: bool,
}
