//! The thread that makes time pass for guests: while any run, compiled code looks up every tick.

use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use wasmtime::Engine;

/// How often a running guest is checked for its time limit and for cancellation.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// Owns the thread, which ends with it and sleeps while nothing runs.
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    engines: Vec<Engine>,
    running: usize,
    /// Whether the thread sleeps until a run begins: only then is it woken, as a wake-up costs more than a small call.
    parked: bool,
    stopped: bool,
}

impl Ticker {
    pub(super) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let thread = Builder::new().name("wasm-ticker".into()).spawn(move || theirs.tick())?;
        Ok(Ticker { shared, thread: Some(thread) })
    }

    /// Ticks for this engine's guests too.
    pub(super) fn watch(&self, engine: &Engine) {
        self.shared.state.lock().engines.push(engine.clone());
    }

    /// Ticks until the answer is dropped.
    pub(super) fn run(&self) -> Running<'_> {
        let mut state = self.shared.state.lock();
        state.running += 1;
        if std::mem::take(&mut state.parked) {
            self.shared.changed.notify_one();
        }
        Running(&self.shared)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.state.lock().stopped = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked, and there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

/// A run is under way.
pub(super) struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.state.lock().running -= 1;
    }
}

impl Shared {
    fn tick(&self) {
        let mut state = self.state.lock();
        while !state.stopped {
            if state.running == 0 {
                state.parked = true;
                self.changed.wait(&mut state);
                continue;
            }
            if self.changed.wait_for(&mut state, TICK).timed_out() {
                state.engines.iter().for_each(Engine::increment_epoch);
            }
        }
    }
}
