//! How long calls took: a histogram, each of whose buckets names a trace that fell into it.

use parking_lot::Mutex;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use super::hex;

/// The upper bounds of the buckets, in microseconds, and as OpenMetrics writes them in seconds. What took longer is in the last.
const BOUNDS: [(u64, &str); 14] = [
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1.0"),
    (5_000_000, "5.0"),
    (30_000_000, "30.0"),
    (u64::MAX, "+Inf"),
];

/// A trace that fell into a bucket, how long it took, and when: microseconds, those of the wall clock since 1970 UTC.
#[derive(Clone, Copy)]
struct Exemplar {
    trace: [u8; 16],
    us: u64,
    at_us: u64,
}

#[derive(Default)]
struct Bucket {
    count: AtomicU64,
    exemplar: Mutex<Option<Exemplar>>,
}

/// A histogram of durations.
#[derive(Default)]
pub(crate) struct Durations {
    buckets: [Bucket; BOUNDS.len()],
    sum_us: AtomicU64,
}

impl Durations {
    pub(super) fn measured(&self, us: u64, at_us: u64, trace: Option<[u8; 16]>) {
        let index = BOUNDS.iter().position(|(bound, _)| us <= *bound).unwrap_or(BOUNDS.len() - 1);
        let bucket = &self.buckets[index];
        bucket.count.fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
        // Any trace will do: one that is being written need not be waited for.
        if let (Some(trace), Some(mut exemplar)) = (trace, bucket.exemplar.try_lock()) {
            *exemplar = Some(Exemplar { trace, us, at_us });
        }
    }

    /// Its samples in the text of OpenMetrics.
    pub fn write(&self, name: &str, text: &mut String) {
        let mut count = 0;
        for (bucket, (_, bound)) in self.buckets.iter().zip(BOUNDS) {
            count += bucket.count.load(Ordering::Relaxed);
            // Writing to a string does not fail.
            let _ = write!(text, "{name}_bucket{{le=\"{bound}\"}} {count}");
            if let Some(Exemplar { trace, us, at_us }) = *bucket.exemplar.lock() {
                let _ = write!(text, " # {{trace_id=\"{}\"}} {} {}", hex(&trace), seconds(us), seconds(at_us));
            }
            text.push('\n');
        }
        let _ = write!(text, "{name}_count {count}\n{name}_sum {}\n", seconds(self.sum_us.load(Ordering::Relaxed)));
    }
}

fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_counts_all_that_took_no_longer_and_names_a_trace() {
        let durations = Durations::default();
        durations.measured(400, 1_700_000_000_000_000, Some([0xab; 16]));
        durations.measured(2_000, 1, None);
        durations.measured(40_000_000, 1, None);
        let mut text = String::new();
        durations.write("d", &mut text);
        let lines: Vec<&str> = text.lines().collect();
        let exemplar = format!("d_bucket{{le=\"0.0005\"}} 1 # {{trace_id=\"{}\"}} 0.000400 1700000000.000000", "ab".repeat(16));
        assert_eq!(lines[0], exemplar);
        assert_eq!((lines[1], lines[2]), ("d_bucket{le=\"0.001\"} 1", "d_bucket{le=\"0.0025\"} 2"));
        assert_eq!(lines[13..], ["d_bucket{le=\"+Inf\"} 3", "d_count 3", "d_sum 40.002400"]);
    }
}
