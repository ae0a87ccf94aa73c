//! One alarm per item, in order of time: what the state machines sleep on.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::id::Instant;

/// Alarms of items that are named by a number. Setting an item's alarm replaces the one before.
#[derive(Debug, Default)]
pub struct Timers {
    order: BTreeSet<(Instant, u64)>,
    alarm: BTreeMap<u64, Instant>,
}

impl Timers {
    /// Wakes `item` at `at` and not before.
    pub fn set(&mut self, item: u64, at: Instant) {
        if let Some(before) = self.alarm.insert(item, at) {
            self.order.remove(&(before, item));
        }
        self.order.insert((at, item));
    }

    /// Wakes `item` at `at` unless it wakes before.
    pub fn set_at_latest(&mut self, item: u64, at: Instant) {
        let earlier = self.alarm.get(&item).copied().filter(|&set| set <= at);
        if earlier.is_none() {
            self.set(item, at);
        }
    }

    /// Forgets the alarm of `item`.
    pub fn clear(&mut self, item: u64) {
        if let Some(at) = self.alarm.remove(&item) {
            self.order.remove(&(at, item));
        }
    }

    /// Takes one item whose time has come, the earliest first.
    pub fn pop(&mut self, now: Instant) -> Option<u64> {
        let &(at, item) = self.order.first()?;
        if at > now {
            return None;
        }
        self.clear(item);
        Some(item)
    }

    /// When the next alarm goes off.
    pub fn next(&self) -> Option<Instant> {
        self.order.first().map(|&(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_wakes_once_and_at_its_latest_setting() {
        let mut timers = Timers::default();
        timers.set(1, 10);
        timers.set(2, 5);
        timers.set(1, 3);
        assert_eq!(timers.next(), Some(3));
        assert_eq!((timers.pop(4), timers.pop(4)), (Some(1), None));
        timers.clear(2);
        assert_eq!((timers.pop(100), timers.next()), (None, None));
    }
}
