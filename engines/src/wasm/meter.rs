//! What a run may use and what it used: memory, time, cancellation; and how its end becomes a failure.

use std::fmt::Write;
use std::time::{Duration, Instant};

use timerose_core::failure::Failure;
use timerose_core::function::Limits;
use wasmtime::{Engine, PoolConcurrencyLimitError, ResourceLimiter, Store, Trap, UpdateDeadline, WasmBacktrace};

use crate::Cancel;
use crate::module::TABLE_ELEMENTS_MAX;

/// The exit code of a trap, as a Unix shell reports an abort.
const TRAPPED: i32 = 134;
/// The most of a guest's last words that a failure carries, in bytes.
pub(super) const LAST_WORDS: usize = 4 << 10;
/// The most frames of a trap that are named.
const FRAMES: usize = 12;

/// Why we ended a guest.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    /// It asked for it, with this exit code.
    #[error("exit {0}")]
    Exit(i32),
    /// It broke the rules by which it is called.
    #[error("{0}")]
    Broke(String),
    /// It may not go on.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Watches one run.
pub(super) struct Meter {
    limits: Limits,
    cancel: Cancel,
    started: Instant,
    /// Time since the start that is not the guest's: reading content.
    waited: Duration,
    /// Memory that the guest holds, in bytes: its own, and what its exceptions take.
    held: u64,
    peak: u64,
    /// Whether memory was asked for beyond the limit.
    denied: bool,
}

/// The data of a store that has a meter.
pub(super) trait Metered: 'static {
    fn meter(&mut self) -> &mut Meter;
}

impl Metered for Meter {
    fn meter(&mut self) -> &mut Meter {
        self
    }
}

impl Meter {
    /// A meter that starts now.
    pub(super) fn new(limits: &Limits, cancel: &Cancel) -> Self {
        Meter {
            limits: limits.clone(),
            cancel: cancel.clone(),
            started: Instant::now(),
            waited: Duration::ZERO,
            held: 0,
            peak: 0,
            denied: false,
        }
    }

    /// The most memory so far, in bytes.
    pub(super) fn peak(&self) -> u64 {
        self.peak
    }

    /// Whether memory was asked for beyond the limit.
    pub(super) fn denied(&self) -> bool {
        self.denied
    }

    /// Microseconds that the guest has run.
    pub(super) fn run_us(&self) -> u64 {
        u64::try_from(self.ran().as_micros()).unwrap_or(u64::MAX)
    }

    /// Does something whose time is not the guest's.
    pub(super) fn waiting<R>(&mut self, what: impl FnOnce() -> R) -> R {
        let before = Instant::now();
        let result = what();
        self.waited += before.elapsed();
        result
    }

    /// Whether the run may go on.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.cancel.is_cancelled() {
            return Err(Failure::Cancelled);
        }
        let at = self.limits.timeout_ms;
        if self.ran() > Duration::from_millis(at) {
            return Err(Failure::LimitExceeded { which: "time".into(), at });
        }
        Ok(())
    }

    pub(super) fn over_memory(&self) -> Failure {
        Failure::LimitExceeded { which: "memory".into(), at: self.limits.memory }
    }

    /// Checks the size of a result before it is copied.
    pub(super) fn check_output(&self, bytes: u64) -> Result<(), Failure> {
        let at = self.limits.output;
        if bytes > at { Err(Failure::LimitExceeded { which: "output".into(), at }) } else { Ok(()) }
    }

    fn ran(&self) -> Duration {
        self.started.elapsed().saturating_sub(self.waited)
    }

    /// The failure that `error` ended a run with; `said` is what the guest wrote to its standard error.
    pub(super) fn failure(&self, error: &wasmtime::Error, said: &[u8]) -> Failure {
        match error.downcast_ref::<Stop>() {
            Some(Stop::Failed(failure)) => return failure.clone(),
            // An interpreter that gets no more memory says so to its script, and ends with an error that looks like any other.
            Some(Stop::Exit(_)) if self.denied => return self.over_memory(),
            Some(Stop::Exit(exit)) => return failed(*exit, said, ""),
            Some(Stop::Broke(_)) | None => {}
        }
        if error.is::<PoolConcurrencyLimitError>() {
            return Failure::NodeFailed { what: format!("more runs at a time than the wasm engine has room for: {error}") };
        }
        if self.denied {
            return self.over_memory();
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => Failure::LimitExceeded { which: "fuel".into(), at: self.limits.fuel.unwrap_or_default() },
            Some(trap) => failed(TRAPPED, said, &with_frames(&trap.to_string(), error)),
            None => failed(TRAPPED, said, &with_frames(&error.root_cause().to_string(), error)),
        }
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let held = self.held.saturating_add((desired as u64).saturating_sub(current as u64));
        if held > self.limits.memory {
            self.denied = true;
            return Ok(false);
        }
        self.held = held;
        self.peak = self.peak.max(held);
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired as u64 <= TABLE_ELEMENTS_MAX)
    }
}

/// A store whose guest is held to its limits. Its meter runs since it was made.
pub(super) fn store<T: Metered>(engine: &Engine, data: T) -> wasmtime::Result<Store<T>> {
    let mut store = Store::new(engine, data);
    store.limiter(|data| data.meter());
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut context| {
        context.data_mut().meter().check().map_err(Stop::Failed)?;
        Ok(UpdateDeadline::Continue(1))
    });
    if let Some(fuel) = store.data_mut().meter().limits.fuel {
        store.set_fuel(fuel)?;
    }
    Ok(store)
}

fn with_frames(message: &str, error: &wasmtime::Error) -> String {
    let mut text = message.to_string();
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return text };
    for frame in trace.frames().iter().take(FRAMES) {
        // Writing to a string cannot fail.
        let _ = match frame.func_name() {
            Some(name) => write!(text, "\n  in {name}"),
            None => write!(text, "\n  in function {}", frame.func_index()),
        };
    }
    text
}

/// The end of what the guest said, and what we have to add.
fn failed(exit: i32, said: &[u8], added: &str) -> Failure {
    let mut stderr = String::from_utf8_lossy(said).into_owned();
    if !stderr.is_empty() && !stderr.ends_with('\n') && !added.is_empty() {
        stderr.push('\n');
    }
    stderr.push_str(added);
    let surplus = stderr.len().saturating_sub(LAST_WORDS);
    let cut = (surplus..stderr.len()).find(|at| stderr.is_char_boundary(*at)).unwrap_or(0);
    Failure::FunctionFailed { exit, stderr: stderr.split_off(cut) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_content_is_not_the_guests_time() {
        let limits = Limits { timeout_ms: 3_600_000, ..Limits::default() };
        let mut meter = Meter::new(&limits, &Cancel::new());
        let hours = Duration::from_secs(7_200);
        let Some(started) = meter.started.checked_sub(hours) else { return };
        meter.started = started;
        assert_eq!(meter.check(), Err(Failure::LimitExceeded { which: "time".into(), at: 3_600_000 }));
        meter.waited = hours;
        assert_eq!(meter.check(), Ok(()));
        let waited = meter.waited;
        assert_eq!(meter.waiting(|| 7), 7);
        assert!(meter.waited > waited);
    }

    #[test]
    fn last_words_are_cut_at_the_front_and_stay_text() {
        let said = "ä".repeat(LAST_WORDS);
        let Failure::FunctionFailed { exit: 3, stderr } = failed(3, said.as_bytes(), "x") else { panic!("another failure") };
        assert!(stderr.len() <= LAST_WORDS && stderr.len() > LAST_WORDS - 2 && stderr.ends_with("ä\nx"));
    }
}
