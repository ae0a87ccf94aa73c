//! Transcripts of what a node promises: the inputs and outputs of its ledger, its journal, and its runs with effects.

use timerose_core::failure::Failure;
use timerose_core::io::{Input, Output, WorkState, WorkView};
use timerose_core::promise::{Asked, Effect, Ending, JournalEntry, Key, Stage, Work};

use super::{Player, Words, name, node, number, told};

impl Player {
    pub(super) fn promise_input(&mut self, words: Words) -> Input {
        match *words {
            ["accept", request, handle, timeout_ms, entry, ref args @ ..] => {
                let asked = Asked::Call { task: self.task(entry, args), memo: self.memo };
                let (request, timeout_ms) = (number(request), number(timeout_ms));
                Input::Accept { request, handle: self.cid(handle), asked, timeout_ms }
            }
            ["accept-job", request, handle, timeout_ms, fan_in] => {
                let spec = self.spec(fan_in);
                let asked = Asked::Job { spec, locality: true, memo: self.memo };
                let (request, timeout_ms) = (number(request), number(timeout_ms));
                Input::Accept { request, handle: self.cid(handle), asked, timeout_ms }
            }
            ["ask", request] => Input::Ask { request: number(request), handle: None, wait: false },
            ["ask", request, handle] => Input::Ask { request: number(request), handle: Some(self.cid(handle)), wait: false },
            ["wait", request, handle] => Input::Ask { request: number(request), handle: Some(self.cid(handle)), wait: true },
            ["revoke", request, handle] => Input::Revoke { request: number(request), handle: self.cid(handle) },
            ["restored", ref entries @ ..] => Input::Restored { entries: entries.iter().map(|word| self.entry(word)).collect() },
            _ => panic!("no such input: {words:?}"),
        }
    }

    /// `open:handle:deadline`, `ended:handle:at:result`, `begun:task:at`, `ran:task:at:result`: an entry of the journal; an
    /// open call is of `one('x)`.
    fn entry(&mut self, word: &str) -> JournalEntry {
        let parts: Vec<&str> = word.split(':').collect();
        let key = self.cid(parts[1]);
        let at_ms = number(parts[2]);
        let effect = |outcome| JournalEntry::Effect(Effect { task: key, at_ms, outcome });
        let (function, entry) = (self.cid("f"), "one".to_string());
        let work = |stage| {
            let (accepted_ms, deadline_ms) = (0, at_ms);
            JournalEntry::Work(Work { handle: key, job: false, function, entry, accepted_ms, deadline_ms, stage })
        };
        match parts[..] {
            ["open", ..] => work(Stage::Open(Asked::Call { task: self.task("one", &["'x"]), memo: self.memo })),
            ["ended", _, _, result] => {
                let outcome = Ok(Ending { done: self.done(result), executor: Some(node("n2")) });
                work(Stage::Ended { at_ms, outcome })
            }
            ["begun", ..] => effect(None),
            ["ran", _, _, result] => effect(Some(Ok(self.done(result)))),
            _ => panic!("no such entry: {word}"),
        }
    }

    pub(super) fn promise(&self, output: Output) -> String {
        match output {
            Output::Persist { ticket, entry, class } => {
                let whose = ticket.map_or(String::new(), |ticket| format!(" for {}", told(&ticket)));
                format!("persist {}, {class:?}{whose}", self.promised(&entry))
            }
            Output::Identify { ticket, task, subject } => {
                format!("identify {} of {} for {}", self.asked(&task), name(&subject), told(&ticket))
            }
            Output::Accepted { request, reply: Ok(()) } => format!("accepted {request}"),
            Output::Accepted { request, reply: Err(failure) } => format!("accepted {request}: {}", self.failed(&failure)),
            Output::Works { request, works } => {
                let works = works.iter().map(|work| self.work(work)).collect::<Vec<_>>();
                format!("works {request}: {}", if works.is_empty() { "none".into() } else { works.join(", ") })
            }
            _ => panic!("not about a promise: {output:?}"),
        }
    }

    fn promised(&self, entry: &JournalEntry) -> String {
        match entry {
            JournalEntry::Work(Work { handle, stage: Stage::Open(_), deadline_ms, .. }) => {
                format!("{} open until {deadline_ms}", self.called(handle))
            }
            JournalEntry::Work(Work { handle, stage: Stage::Ended { outcome, .. }, .. }) => {
                format!("{} ended {}", self.called(handle), self.ending(outcome))
            }
            JournalEntry::Effect(effect) => match &effect.outcome {
                None => format!("{} begins", self.called(&effect.task)),
                Some(Ok(done)) => format!("{} gave {}", self.called(&effect.task), self.called(&done.result)),
                Some(Err(failure)) => format!("{} gave {}", self.called(&effect.task), self.failed(failure)),
            },
            JournalEntry::Forgotten(Key::Work(cid) | Key::Effect(cid)) => format!("{} forgotten", self.called(cid)),
        }
    }

    fn ending(&self, outcome: &Result<Ending, Failure>) -> String {
        match outcome {
            Ok(ending) => self.called(&ending.done.result),
            Err(failure) => self.failed(failure),
        }
    }

    fn work(&self, work: &WorkView) -> String {
        let state = match &work.state {
            WorkState::Waiting { last: None } => "waiting".into(),
            WorkState::Waiting { last: Some(failure) } => format!("waiting after {}", failure.code()),
            WorkState::Running { on: None } => "running".into(),
            WorkState::Running { on: Some(on) } => format!("running on {}", name(on)),
            WorkState::Ended { outcome, .. } => self.ending(outcome),
        };
        format!("{} {state}", self.called(&work.handle))
    }
}
