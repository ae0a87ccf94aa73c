//! What this node saw of calls: the traces that it was part of, and what guests wrote to their standard error.
//!
//! Both are kept in memory within bounds, the latest; whoever is trusted may ask for them. Recording is a push under a lock:
//! what is shown or exported is made of it by whoever wants it.

mod durations;
mod export;
mod lines;
mod logs;
mod otlp;
mod ring;
mod setup;
mod spans;

use parking_lot::Mutex;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use timerose_core::io::{Input, Output};
use timerose_core::span::{Context, Question, Reply, Seen};
use tokio::sync::mpsc;

pub(crate) use durations::Durations;
use logs::Logs;
pub(crate) use logs::Voice;
use ring::{Record, Ring, RootSeen};
pub use setup::{Sampler, TelemetryConfig};

/// The request whose durations are counted.
pub(crate) const CALL: &str = "POST /v1/call";

/// What this node saw. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Telemetry(Arc<Inner>);

struct Inner {
    /// When the node's monotonic clock began, and what the wall clock said then, in microseconds since 1970 UTC.
    begin: Instant,
    begin_us: u64,
    /// Makes ids: a counter under keys that no other node has.
    keys: [RandomState; 2],
    count: AtomicU64,
    ring: Mutex<Ring>,
    logs: Mutex<Logs>,
    sampler: Sampler,
    calls: Durations,
    /// Who exports, if anybody does, and how many sampled records came since it looked.
    exporter: OnceLock<Thread>,
    pending: AtomicUsize,
    exported: AtomicU64,
    dropped: AtomicU64,
}

impl Telemetry {
    /// Keeps nothing yet. The core's clock began at `begin`.
    pub fn new(begin: Instant, sampler: Sampler) -> Telemetry {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let begin_us = unix.saturating_sub(begin.elapsed()).as_micros() as u64;
        let keys = [RandomState::new(), RandomState::new()];
        let (count, ring, logs, calls) = (AtomicU64::new(0), Mutex::default(), Mutex::default(), Durations::default());
        let (exporter, pending, exported, dropped) = Default::default();
        let inner = Inner { begin, begin_us, keys, count, ring, logs, sampler, calls, exporter, pending, exported, dropped };
        Telemetry(Arc::new(inner))
    }

    /// Sends sampled spans where the configuration says, if it says so. `instance` tells this node from others.
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn export(&self, config: &TelemetryConfig, instance: String) -> std::io::Result<()> {
        let (mut config, node) = (config.clone(), Arc::downgrade(&self.0));
        config.resource.push(("service.instance.id".into(), instance));
        config.resource.push(("service.version".into(), env!("CARGO_PKG_VERSION").into()));
        let Some(endpoint) = config.endpoint.clone().filter(|_| !config.sampler.is_off()) else { return Ok(()) };
        let thread = std::thread::Builder::new().name("otlp".into()).spawn(move || export::run(&node, &config, &endpoint))?;
        let _ = self.0.exporter.set(thread.thread().clone());
        Ok(())
    }

    /// How long calls took.
    pub fn calls(&self) -> &Durations {
        &self.0.calls
    }

    /// Records that a collector took, and those that none did.
    pub fn exported(&self) -> [u64; 2] {
        [&self.0.exported, &self.0.dropped].map(|count| count.load(Ordering::Relaxed))
    }

    /// Answers what the core asks, until it asks no more.
    pub fn run(&self, mut asked: mpsc::Receiver<Output>, done: mpsc::Sender<Input>) {
        let telemetry = self.clone();
        tokio::spawn(async move {
            while let Some(output) = asked.recv().await {
                let Output::Inquire { ticket, question } = output else { continue };
                let reply = telemetry.answer(&question);
                if done.send(Input::Informed { ticket, reply }).await.is_err() {
                    return;
                }
            }
        });
    }

    fn answer(&self, question: &Question) -> Reply {
        match question {
            Question::Spans { trace } => {
                let records = self.0.ring.lock().of(trace);
                spans::reply(&records, self.0.begin_us)
            }
            Question::Log { of, from } => {
                let part = self.0.logs.lock().part(of, *from);
                // Most runs say nothing, and have no log.
                part.unwrap_or_else(|| if self.0.ring.lock().has_run(of) { logs::silence() } else { Reply::Unknown })
            }
        }
    }

    /// Keeps what a machine of the core saw.
    pub fn see(&self, seen: Seen) {
        self.keep(Record::Seen(seen));
    }

    fn keep(&self, record: Record) {
        let (id, sampled) = (self.id(), record.context().sampled);
        lines::write(id, &record);
        self.0.ring.lock().push(id, record);
        if let Some(exporter) = self.0.exporter.get()
            && sampled
            && self.0.pending.fetch_add(1, Ordering::Relaxed) + 1 == export::BATCH
        {
            exporter.unpark();
        }
    }

    /// A number that nobody else has.
    fn id(&self) -> u64 {
        let count = self.0.count.fetch_add(1, Ordering::Relaxed);
        self.0.keys[0].hash_one(count).max(1)
    }

    fn now_us(&self) -> u64 {
        self.0.begin.elapsed().as_micros() as u64
    }

    /// Begins the span of a request, as a part of the trace that the request names; of a new one where it names none.
    pub fn begin(&self, name: &'static str, cause: Option<Context>) -> Root {
        let id = self.id();
        let trace = cause.map_or_else(|| trace_id(id, self.0.keys[1].hash_one(id)), |cause| cause.trace);
        let (sampler, begun) = (&self.0.sampler, self.now_us());
        let sampled = sampler.samples(cause.as_ref(), &trace);
        let context = Context { trace, span: id.to_be_bytes(), sampled };
        let parent = cause.map(|cause| cause.span);
        let seen = RootSeen { context, parent, name, begun, ended: 0, failure: None };
        Root { telemetry: self.clone(), begun, name, seen: (!sampler.is_off()).then_some(seen) }
    }

    /// The voice of a run: what its guest says is kept under it.
    pub fn voice(&self, task: cid::Cid, trace: Option<Context>) -> Voice {
        Voice::new(self.clone(), task, trace.map(|context| context.trace))
    }
}

fn trace_id(high: u64, low: u64) -> [u8; 16] {
    (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
}

/// The span of a request, which ends when this is dropped.
pub(crate) struct Root {
    telemetry: Telemetry,
    begun: u64,
    name: &'static str,
    /// Nothing where nothing is traced.
    seen: Option<RootSeen>,
}

impl Root {
    /// What is done for the request is a part of this.
    pub fn context(&self) -> Option<Context> {
        self.seen.as_ref().map(|seen| seen.context)
    }

    /// The trace's id as text; none where nothing is traced.
    pub fn trace(&self) -> Option<String> {
        self.context().map(|context| hex(&context.trace))
    }

    /// The request failed, with this code.
    pub fn failed(&mut self, code: &'static str) {
        if let Some(seen) = &mut self.seen {
            seen.failure = Some(code);
        }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let ended = self.telemetry.now_us();
        if self.name == CALL {
            let trace = self.seen.as_ref().map(|seen| seen.context.trace);
            let at_us = self.telemetry.0.begin_us + ended;
            self.telemetry.0.calls.measured(ended.saturating_sub(self.begun), at_us, trace);
        }
        if let Some(seen) = self.seen.take() {
            self.telemetry.keep(Record::Root(RootSeen { ended, ..seen }));
        }
    }
}

/// Bytes as W3C Trace Context writes ids: hexadecimal, in small letters.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// Reads as many bytes as [`hex`] would have written so.
pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    let pairs = text.as_bytes();
    if pairs.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Reads a `traceparent`. What is not one is as if it were not there, as the recommendation wants it.
pub(crate) fn traceparent(text: &str) -> Option<Context> {
    let mut parts = text.split('-');
    let [version] = unhex::<1>(parts.next()?)?;
    let (trace, span, [flags]) = (unhex(parts.next()?)?, unhex(parts.next()?)?, unhex::<1>(parts.next()?)?);
    // A later version may have more parts; ff is none.
    let right = version != 0xff && (version > 0 || parts.next().is_none()) && trace != [0; 16] && span != [0; 8];
    right.then_some(Context { trace, span, sampled: flags & 1 == 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_the_recommendation_says() {
        let read = |text: &str| traceparent(text).map(|c| (hex(&c.trace), hex(&c.span), c.sampled));
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let good = |sampled| Some((trace.to_string(), span.to_string(), sampled));
        assert_eq!(read(&format!("00-{trace}-{span}-01")), good(true));
        assert_eq!(read(&format!("00-{trace}-{span}-00")), good(false));
        assert_eq!(read(&format!("00-{trace}-{span}-03")), good(true), "flags that are not known yet");
        assert_eq!(read(&format!("cc-{trace}-{span}-01-what-comes-later")), good(true), "a later version");
        for bad in [
            String::new(),
            format!("00-{trace}-{span}"),
            format!("00-{trace}-{span}-01-more"),
            format!("ff-{trace}-{span}-01"),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            format!("00-{}-{span}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{trace}-{span}-1"),
            format!("00-{trace}é-{span}-01"),
        ] {
            assert_eq!(read(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_request_without_a_trace_begins_one_of_its_own() {
        let telemetry = Telemetry::new(Instant::now(), Sampler::default());
        let (one, other) = (telemetry.begin("a", None), telemetry.begin("b", None));
        assert_ne!(one.trace(), other.trace());
        let cause = one.context().expect("it has one");
        let part = telemetry.begin("c", Some(cause));
        assert_eq!(part.trace(), one.trace());
        drop((part, one));
        let Reply::Spans { spans, left_out: 0 } = telemetry.answer(&Question::Spans { trace: cause.trace.to_vec().into() })
        else {
            panic!("no spans")
        };
        let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, ["a", "c"]);
        assert_eq!(spans[1].parent, spans[0].span);
        drop(other);
    }
}
