//! The calls that wait for an executor: who waits, and who is next.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::id::Instant;

/// The calls that wait, the most urgent first.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    order: BTreeSet<(Instant, u64)>,
}

impl Queue {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// A call waits.
    pub fn insert(&mut self, call: u64, deadline: Instant) {
        self.order.insert((deadline, call));
    }

    /// A call does not wait any more.
    pub fn remove(&mut self, call: u64, deadline: Instant) {
        self.order.remove(&(deadline, call));
    }

    /// The first `max` calls of those that may try.
    pub fn first(&self, max: usize, may_try: impl Fn(u64) -> bool) -> Vec<u64> {
        self.order.iter().map(|&(_, call)| call).filter(|&call| may_try(call)).take(max).collect()
    }
}
