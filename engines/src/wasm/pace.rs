//! How long a program's runs take: whether its next one may be tried where it stands, without a thread of its own.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A program is brief while its runs take no longer than this on average, in microseconds: to hand them to another thread would take
/// a good part of that.
const BRIEF_US: u64 = 200;
/// What a run counts for of which nothing is known, one that failed, and one that took longer: a machine that is busy may make any of them
/// take long.
const MOST_US: u64 = 2_000;
/// Runs on a thread of its own after one that was tried in vain: at first, and at most. Twice as many each further time, and one less for
/// each that was tried with success.
const REST: u32 = 64;
const REST_MAX: u32 = 4096;

/// The pace of one program. Threads that measure at the same time may lose one another's word: it is a guess.
pub(super) struct Pace {
    /// A moving average.
    run_us: AtomicU64,
    /// Runs until it may be tried again.
    rest: AtomicU32,
    /// How long it rested, less what it made good since.
    rested: AtomicU32,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { run_us: AtomicU64::new(MOST_US), rest: AtomicU32::new(0), rested: AtomicU32::new(0) }
    }
}

impl Pace {
    /// Whether the next run is likely to be over in no time.
    pub(super) fn is_brief(&self) -> bool {
        self.rest.load(Ordering::Relaxed) == 0 && self.run_us.load(Ordering::Relaxed) <= BRIEF_US
    }

    /// A run took so long, or failed.
    pub(super) fn ran(&self, run_us: Option<u64>) {
        let (before, run_us) = (self.run_us.load(Ordering::Relaxed), run_us.unwrap_or(MOST_US).min(MOST_US));
        self.run_us.store(before - before / 8 + run_us / 8, Ordering::Relaxed);
        less(&self.rest);
    }

    /// A run was tried, and took so long.
    pub(super) fn kept(&self, run_us: u64) {
        self.ran(Some(run_us));
        less(&self.rested);
    }

    /// A run was tried and came to no good end in its time.
    pub(super) fn outstayed(&self) {
        let rest = (self.rested.load(Ordering::Relaxed) * 2).clamp(REST, REST_MAX);
        self.rested.store(rest, Ordering::Relaxed);
        self.rest.store(rest, Ordering::Relaxed);
    }
}

fn less(count: &AtomicU32) {
    let before = count.load(Ordering::Relaxed);
    if before > 0 {
        count.store(before - 1, Ordering::Relaxed);
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
        (0..3 * REST).for_each(|_| pace.kept(3));
        pace.outstayed();
        assert_eq!(runs_until_brief(), REST, "it made good");
        pace.ran(None);
        assert!(!pace.is_brief(), "one that failed is not brief");
    }
}
