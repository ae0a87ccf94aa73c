//! Plain values of a service mesh's data plane: so far the retry budget, shares of a bounded table, and round trips.

use crate::id::Instant;

/// Bounds retries to a fifth of the calls and ten a second, so that a fault does not become a storm (as in Finagle).
#[derive(Debug)]
pub struct RetryBudget {
    milli: u64,
    at: Instant,
}

impl RetryBudget {
    /// A hundred retries, in thousandths.
    const MAX: u64 = 100_000;

    /// A call was begun: a fifth of a retry is earned.
    pub fn deposit(&mut self) {
        self.milli = (self.milli + 200).min(Self::MAX);
    }

    /// Whether one more retry is allowed now; takes it if so.
    pub fn withdraw(&mut self, now: Instant) -> bool {
        self.milli = (self.milli + (now - self.at) / 100).min(Self::MAX);
        self.at = now;
        let enough = self.milli >= 1000;
        if enough {
            self.milli -= 1000;
        }
        enough
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        RetryBudget { milli: Self::MAX, at: 0 }
    }
}

/// Whether a table of `room` places, of which `taken` are, has one for a party that has `mine`. A full table has room still
/// for whoever has less than its share, up to as many places again: one party alone may fill the table, and yet shuts nobody out.
pub fn has_room(room: usize, taken: usize, mine: usize, parties: usize) -> bool {
    taken < room || (mine < (room / parties.max(1)).max(1) && taken < room.saturating_mul(2))
}

/// A round trip in microseconds, after another sample of it. What is added to a way only lengthens it, so a shorter sample is nearer the truth: half of
/// it is taken at once, of a longer one an eighth, as RFC 6298 does. The first is taken while a node starts, and is often long.
pub fn smoothed(before: u64, us: u64) -> u64 {
    let share = if us < before { 2 } else { 8 };
    before - before / share + us / share
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SECOND;

    #[test]
    fn a_full_table_has_room_for_whoever_has_less_than_its_share() {
        assert!(has_room(10, 9, 9, 1) && !has_room(10, 10, 10, 1), "one alone has all of it, and no more");
        assert!(has_room(10, 10, 0, 2) && has_room(10, 14, 4, 2) && !has_room(10, 15, 5, 2), "a second has its half");
        assert!(has_room(10, 19, 0, 30) && !has_room(10, 20, 0, 30), "there is an end");
    }

    #[test]
    fn a_long_first_sample_is_soon_forgotten_and_a_long_later_one_hardly_counts() {
        let after = |samples: &[u64]| samples.iter().copied().reduce(smoothed).expect("samples");
        assert!(after(&[800_000, 2000, 2000, 2000, 2000, 2000, 2000]) < 15_000);
        assert!(after(&[2000, 2000, 2000, 80_000]) < 12_000);
        assert!(after(&[u64::MAX, 0, u64::MAX]) < u64::MAX, "whatever was measured");
    }

    #[test]
    fn a_spent_budget_refills_by_ten_a_second_and_by_calls() {
        let mut budget = RetryBudget::default();
        let spend = |budget: &mut RetryBudget, now| (0..1000).take_while(|_| budget.withdraw(now)).count();
        assert_eq!(spend(&mut budget, 0), 100);
        assert_eq!(spend(&mut budget, SECOND), 10);
        (0..10).for_each(|_| budget.deposit());
        assert_eq!(spend(&mut budget, SECOND), 2);
    }
}
