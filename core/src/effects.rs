//! Runs with effects: each happens at most once on an executor, and what came of it is kept as long as its key is good.
//!
//! A run is noted in the journal, safe from a loss of power, before it begins, and its outcome before it is told. The key
//! is the TaskId, so a caller who wants another run of the same task gives it another sequence number.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use cid::Cid;

use crate::failure::Failure;
use crate::io::{Output, Ticket};
use crate::promise::{Class, Effect, JournalEntry, Key};
use crate::task::{Done, Outcome};

/// The most runs that are kept; further ones are refused with [`Failure::Overloaded`] until the oldest have had their day.
pub const EFFECTS_MAX: usize = 16_384;
/// How long a run is kept, and so how long its key is good, in milliseconds: a day.
pub const KEPT_MS: u64 = 24 * 3600 * 1000;

/// The runs with effects that this node has begun, or is about to begin.
#[derive(Debug, Default)]
pub struct Effects {
    noted: BTreeMap<Cid, Effect>,
    /// When each was noted, the oldest first.
    age: BTreeSet<(u64, Cid)>,
    /// Those that are admitted and not noted yet.
    reserved: BTreeSet<Cid>,
}

impl Effects {
    /// Takes up what an earlier life of this node noted.
    pub fn restore(&mut self, now_ms: u64, effects: Vec<Effect>, out: &mut Vec<Output>) {
        for effect in effects {
            self.age.insert((effect.at_ms, effect.task));
            self.noted.insert(effect.task, effect);
        }
        self.forget_old(now_ms, out);
    }

    /// What the journal must hold when nothing is being written.
    pub fn entries(&self) -> impl Iterator<Item = JournalEntry> + '_ {
        self.noted.values().cloned().map(JournalEntry::Effect)
    }

    /// Runs that are admitted and have not begun.
    pub fn reserved(&self) -> usize {
        self.reserved.len()
    }

    /// Admits a run, or says what came of it, or why it may not be.
    pub fn reserve(&mut self, now_ms: u64, task: Cid, out: &mut Vec<Output>) -> Option<Outcome> {
        self.forget_old(now_ms, out);
        let lost = |what: &str| Some(Err(Failure::MayHaveRun { what: what.into() }));
        match self.noted.get(&task) {
            Some(Effect { outcome: Some(Ok(done)), .. }) => return Some(Ok(Done { reused: true, ..done.clone() })),
            Some(Effect { outcome: Some(failed), .. }) => return Some(failed.clone()),
            Some(_) => return lost("an earlier run of this task began, and its end is not known"),
            None => {}
        }
        if self.noted.len() + self.reserved.len() >= EFFECTS_MAX {
            return Some(Err(Failure::Overloaded { retry_after_ms: 10_000 }));
        }
        match self.reserved.insert(task) {
            true => None,
            false => lost("it is about to run for an earlier request"),
        }
    }

    /// A run that was admitted does not begin.
    pub fn release(&mut self, task: &Cid) {
        self.reserved.remove(task);
    }

    /// A run is about to begin: `id` is told when that is noted.
    pub fn intend(&mut self, id: u64, at_ms: u64, task: Cid, out: &mut Vec<Output>) {
        self.reserved.remove(&task);
        let effect = Effect { task, at_ms, outcome: None };
        self.age.insert((at_ms, task));
        self.noted.insert(task, effect.clone());
        out.push(note(id, effect));
    }

    /// A run was noted and does not begin after all.
    pub fn undo(&mut self, task: &Cid, out: &mut Vec<Output>) {
        self.remove(task);
        out.push(forgotten(*task));
    }

    /// A run came to its end: `id` is told when that is noted.
    pub fn ended(&mut self, id: u64, task: &Cid, outcome: Outcome, out: &mut Vec<Output>) {
        if let Some(effect) = self.noted.get_mut(task) {
            effect.outcome = Some(outcome);
            out.push(note(id, effect.clone()));
        }
    }

    fn remove(&mut self, task: &Cid) {
        if let Some(effect) = self.noted.remove(task) {
            self.age.remove(&(effect.at_ms, *task));
        }
    }

    fn forget_old(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        // As many as may come at once, so that one turn puts out little.
        for _ in 0..2 {
            let Some(&(at_ms, task)) = self.age.first() else { return };
            if at_ms.saturating_add(KEPT_MS) > now_ms {
                return;
            }
            self.remove(&task);
            out.push(forgotten(task));
        }
    }
}

fn note(id: u64, effect: Effect) -> Output {
    Output::Persist { ticket: Some(Ticket::Work(id)), entry: JournalEntry::Effect(effect), class: Class::Disk }
}

fn forgotten(task: Cid) -> Output {
    Output::Persist { ticket: None, entry: JournalEntry::Forgotten(Key::Effect(task)), class: Class::Os }
}
