//! How full the executors are, as this scheduler sees it: its own work there, and their refusals.

use alloc::collections::BTreeMap;

use crate::id::{Instant, NodeId};

/// Work that one scheduler gives one executor for each of its slots: one runs, two wait or fetch.
pub const WORK_PER_SLOT: u32 = 3;

/// The executors as far as this scheduler has to do with them.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    in_flight: BTreeMap<NodeId, u32>,
    /// Executors that said they are full, and until when they are not asked: or all that wait would ask in turn.
    busy: BTreeMap<NodeId, Instant>,
}

impl Pace {
    /// Executors that have work of this scheduler.
    pub fn working(&self) -> usize {
        self.in_flight.len()
    }

    /// Work of this scheduler that an executor has not ended.
    pub fn in_flight(&self, node: &NodeId) -> u32 {
        self.in_flight.get(node).copied().unwrap_or(0)
    }

    /// How much more work this scheduler would give an executor now.
    pub fn room(&self, node: &NodeId, slots: u32) -> u32 {
        // A peer says how many slots it has.
        slots.saturating_mul(WORK_PER_SLOT).saturating_sub(self.in_flight(node))
    }

    /// An executor is given work.
    pub fn give(&mut self, node: NodeId) {
        *self.in_flight.entry(node).or_default() += 1;
    }

    /// An executor has one piece of work less.
    pub fn take(&mut self, node: &NodeId) {
        if let Some(count) = self.in_flight.get_mut(node) {
            *count -= 1;
            if *count == 0 {
                self.in_flight.remove(node);
            }
        }
    }

    /// Until when an executor is not asked.
    pub fn busy_until(&self, node: &NodeId) -> Instant {
        self.busy.get(node).copied().unwrap_or(0)
    }

    /// An executor said that it is full.
    pub fn rests(&mut self, node: NodeId, until: Instant) {
        self.busy.insert(node, until);
    }

    /// An executor may be asked again: it has ended something, or is gone.
    pub fn rested(&mut self, node: &NodeId) {
        self.busy.remove(node);
    }

    /// Forgets the rests that are over, and says when the next one is.
    pub fn next_rest(&mut self, now: Instant) -> Option<Instant> {
        self.busy.retain(|_, until| *until > now);
        self.busy.values().min().copied()
    }
}
