//! What a node lends and what work takes: slots and memory, with arithmetic that cannot go below zero.

use serde::{Deserialize, Serialize};

/// An amount of compute: offered by an executor, or taken by one piece of running work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Pieces of work that run at the same time; one slot is one engine thread.
    pub slots: u32,
    /// Bytes of guest memory.
    pub memory: u64,
}

impl Resources {
    /// Whether `wanted` fits into what is left here.
    pub fn covers(&self, wanted: &Resources) -> bool {
        self.slots >= wanted.slots && self.memory >= wanted.memory
    }

    /// What is left after taking `taken`; never below zero.
    pub fn less(&self, taken: &Resources) -> Resources {
        Resources { slots: self.slots.saturating_sub(taken.slots), memory: self.memory.saturating_sub(taken.memory) }
    }

    /// The sum, held at the largest value.
    pub fn plus(&self, more: &Resources) -> Resources {
        Resources { slots: self.slots.saturating_add(more.slots), memory: self.memory.saturating_add(more.memory) }
    }
}
