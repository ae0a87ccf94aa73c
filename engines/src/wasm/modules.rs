//! Programs that are ready to run, in memory: made once however many ask at the same time, the least used dropped first.

use cid::Cid;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use timerose_core::failure::Failure;
use wasmtime::InstancePre;

use super::meter::Meter;
use super::pace::Pace;
use super::wasi::Command;
use crate::module::Shape;

/// The most programs that are kept.
const PROGRAMS_MAX: usize = 128;
/// The most machine code that is kept, in bytes.
const BYTES_MAX: usize = 512 << 20;

/// A linked module.
pub(super) struct Loaded<T: 'static> {
    pub(super) pre: InstancePre<T>,
    pub(super) shape: Shape,
    /// The size of its machine code.
    pub(super) bytes: usize,
    pub(super) pace: Pace,
}

/// A linked module, by the way it is called.
pub(super) enum Program {
    Fan(Loaded<Meter>),
    Command(Loaded<Command>),
}

impl Program {
    pub(super) fn shape(&self) -> &Shape {
        match self {
            Program::Fan(loaded) => &loaded.shape,
            Program::Command(loaded) => &loaded.shape,
        }
    }

    pub(super) fn pace(&self) -> &Pace {
        match self {
            Program::Fan(loaded) => &loaded.pace,
            Program::Command(loaded) => &loaded.pace,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Program::Fan(loaded) => loaded.bytes,
            Program::Command(loaded) => loaded.bytes,
        }
    }
}

/// What a program depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) code: Cid,
    pub(super) command: bool,
    pub(super) fuel: bool,
}

/// Held while the program is made: whoever asks in the meantime waits for it.
type Cell = Mutex<Option<Result<Arc<Program>, Failure>>>;

#[derive(Default)]
struct Slot {
    cell: Arc<Cell>,
    /// When it was last asked for, counted in questions.
    used: u64,
    bytes: usize,
}

#[derive(Default)]
struct Slots {
    by_key: HashMap<Key, Slot>,
    questions: u64,
}

/// The programs that are kept.
#[derive(Default)]
pub(super) struct Modules(Mutex<Slots>);

impl Modules {
    /// The program of `key`; `make` makes it where it is not kept.
    ///
    /// # Errors
    /// What `make` failed with. That code was rejected is remembered; other failures are tried again.
    pub(super) fn get(&self, key: Key, make: impl FnOnce() -> Result<Program, Failure>) -> Result<Arc<Program>, Failure> {
        let cell = self.cell(key);
        let mut kept = cell.lock();
        if let Some(outcome) = &*kept {
            return outcome.clone();
        }
        let outcome = make().map(Arc::new);
        if matches!(outcome, Ok(_) | Err(Failure::Rejected { .. })) {
            *kept = Some(outcome.clone());
        }
        drop(kept);
        self.shrink(key, outcome.as_ref().map_or(0, |program| program.bytes()));
        outcome
    }

    /// The program of `key`, if it is kept and nobody else is at it.
    pub(super) fn ready(&self, key: Key) -> Option<Arc<Program>> {
        let mut slots = self.0.lock();
        slots.questions += 1;
        let now = slots.questions;
        let slot = slots.by_key.get_mut(&key)?;
        slot.used = now;
        let kept = slot.cell.try_lock()?;
        kept.as_ref()?.as_ref().ok().cloned()
    }

    fn cell(&self, key: Key) -> Arc<Cell> {
        let mut slots = self.0.lock();
        slots.questions += 1;
        let now = slots.questions;
        let slot = slots.by_key.entry(key).or_default();
        slot.used = now;
        slot.cell.clone()
    }

    /// Notes the size of a program that was just made, and drops others until all fit.
    fn shrink(&self, made: Key, bytes: usize) {
        let mut slots = self.0.lock();
        if let Some(slot) = slots.by_key.get_mut(&made) {
            slot.bytes = bytes;
        }
        loop {
            let total: usize = slots.by_key.values().map(|slot| slot.bytes).sum();
            if slots.by_key.len() <= PROGRAMS_MAX && total <= BYTES_MAX {
                return;
            }
            let oldest =
                slots.by_key.iter().filter(|(key, _)| **key != made).min_by_key(|(_, slot)| slot.used).map(|(key, _)| *key);
            let Some(oldest) = oldest else { return };
            slots.by_key.remove(&oldest);
        }
    }
}
