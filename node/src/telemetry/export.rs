//! The exporter: a thread that sends sampled spans to a collector, by OTLP over HTTP.
//!
//! The ring is its queue: what left the ring before its turn, or what the collector did not take, is dropped and counted. So a
//! collector that is slow or dead costs the node nothing but this thread's time.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;
use ureq::Agent;

use super::setup::TelemetryConfig;
use super::{Inner, otlp, spans};

/// Records that go together, and at how many that wait the thread is woken.
pub(super) const BATCH: usize = 512;
/// How long fewer of them wait.
const EVERY: Duration = Duration::from_secs(1);
/// How long a collector may take.
const WAIT: Duration = Duration::from_secs(5);
/// How long a collector that failed is left alone, doubling up to the second.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Runs until the node has ended.
pub(super) fn run(node: &Weak<Inner>, config: &TelemetryConfig, endpoint: &str) {
    let agent: Agent = Agent::config_builder().timeout_global(Some(WAIT)).build().into();
    let (mut next, mut pause) = (0, PAUSE);
    loop {
        std::thread::park_timeout(EVERY);
        let Some(inner) = node.upgrade() else { return };
        inner.pending.store(0, Ordering::Relaxed);
        loop {
            let (records, missed, after) = inner.ring.lock().sampled_from(next, BATCH);
            next = after;
            inner.dropped.fetch_add(missed, Ordering::Relaxed);
            if records.is_empty() {
                break;
            }
            let count = records.len();
            let parts = records.iter().flat_map(|record| {
                let trace = record.1.context().trace;
                spans::of(record.0, &record.1, inner.begin_us).into_iter().map(move |span| (trace, span))
            });
            let body = otlp::request(&config.resource, parts.collect());
            let sent = agent.post(endpoint).content_type("application/x-protobuf").send(&body[..]);
            match sent {
                Ok(_) => {
                    inner.exported.fetch_add(count as u64, Ordering::Relaxed);
                    pause = PAUSE;
                }
                Err(why) => {
                    inner.dropped.fetch_add(count as u64, Ordering::Relaxed);
                    tracing::debug!(%why, endpoint, "the collector took no spans");
                    drop(inner);
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(PAUSE_MAX);
                    break;
                }
            }
            if count < BATCH {
                break;
            }
        }
    }
}
