//! How long a program's runs take: whether its next one may be tried where it stands, without a thread of its own.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A program is brief while its runs take no longer than this on average, in microseconds: to hand them to another thread would take
/// a good part of that.
const BRIEF_US: u64 = 200;
/// What a run counts for of which nothing is known, and one that failed.
const UNKNOWN_US: u64 = 10_000;
/// Runs on a thread of its own after a program was brief and then was not; twice as many each further time.
const REST: u32 = 64;
const RESTS_MAX: u32 = 10;

/// The pace of one program. Threads that measure at the same time may lose one another's word: it is a guess.
pub(super) struct Pace {
    /// A moving average.
    run_us: AtomicU64,
    /// Runs until it may be tried again.
    rest: AtomicU32,
    rests: AtomicU32,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { run_us: AtomicU64::new(UNKNOWN_US), rest: AtomicU32::new(0), rests: AtomicU32::new(0) }
    }
}

impl Pace {
    /// Whether the next run is likely to be over in no time.
    pub(super) fn is_brief(&self) -> bool {
        self.rest.load(Ordering::Relaxed) == 0 && self.run_us.load(Ordering::Relaxed) <= BRIEF_US
    }

    /// A run took so long, or failed.
    pub(super) fn ran(&self, run_us: Option<u64>) {
        let (before, run_us) = (self.run_us.load(Ordering::Relaxed), run_us.unwrap_or(UNKNOWN_US).min(UNKNOWN_US));
        self.run_us.store(before - before / 8 + run_us / 8, Ordering::Relaxed);
        self.rest.store(self.rest.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
    }

    /// A run was tried and came to no good end in its time.
    pub(super) fn outstayed(&self) {
        let rests = self.rests.load(Ordering::Relaxed).min(RESTS_MAX);
        self.rests.store(rests + 1, Ordering::Relaxed);
        self.rest.store(REST << rests, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_brief_once_it_has_often_been_and_rests_longer_each_time_that_it_was_not() {
        let pace = Pace::default();
        let runs_until_brief = || {
            let mut runs = 0;
            while !pace.is_brief() {
                pace.ran(Some(3));
                runs += 1;
            }
            runs
        };
        let first = runs_until_brief();
        assert!((16..64).contains(&first), "{first}");
        pace.outstayed();
        assert_eq!(runs_until_brief(), REST);
        pace.outstayed();
        assert_eq!(runs_until_brief(), 2 * REST);
        pace.ran(None);
        assert!(!pace.is_brief(), "one that failed is not brief");
    }
}
