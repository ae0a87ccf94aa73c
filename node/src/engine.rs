//! The engine driver: as many threads as the node lends slots, each running one piece of work at a time.

use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use timerose_core::failure::Failure;
use timerose_core::function::Determinism;
use timerose_core::io::{Exit, Input, Output, Ticket};
use timerose_core::resources::Resources;
use timerose_core::task::Usage;
use timerose_engines::{Cancel, Engine, Host, WasmConfig, WasmEngine, Work, describe};
use tokio::sync::mpsc;

use crate::config::StartError;
use crate::ports::{Counters, EngineRequest, Shelf};

/// The stack of an engine thread: guests run on it.
const STACK_BYTES: usize = 4 << 20;

/// The engines of this node.
pub(crate) struct Driver {
    engine: Arc<dyn Engine>,
    shelf: Arc<dyn Shelf>,
    running: Mutex<BTreeMap<Ticket, Cancel>>,
    counters: Arc<Counters>,
}

impl Driver {
    /// Sets the engines up; compiled modules are kept below `dir`.
    pub fn new(dir: &Path, offers: Resources, shelf: Arc<dyn Shelf>, counters: Arc<Counters>) -> Result<Arc<Driver>, StartError> {
        let config = WasmConfig { cache_dir: dir.join("modules"), max_memory: offers.memory, instances: offers.slots };
        let engine = WasmEngine::new(config).map_err(|e| StartError::Engine(e.to_string()))?;
        Ok(Arc::new(Driver { engine: Arc::new(engine), shelf, running: Mutex::default(), counters }))
    }

    /// The engines' names, for the advert.
    pub fn names(&self) -> &'static [&'static str] {
        self.engine.names()
    }

    /// Runs until `outputs` closes.
    pub fn run(
        self: Arc<Self>,
        slots: u32,
        mut outputs: mpsc::Receiver<Output>,
        mut requests: mpsc::Receiver<EngineRequest>,
        done: mpsc::Sender<Input>,
    ) -> Result<(), StartError> {
        // The core starts no more than there are slots: a thread is free for each, and sending never waits.
        let (start, work) = std::sync::mpsc::sync_channel::<Output>(slots as usize);
        let work = Arc::new(Mutex::new(work));
        for slot in 0..slots {
            let (driver, work, done) = (self.clone(), work.clone(), done.clone());
            std::thread::Builder::new()
                .name(format!("engine-{slot}"))
                .stack_size(STACK_BYTES)
                .spawn(move || {
                    loop {
                        let next = work.lock().recv();
                        let Ok(output) = next else { return };
                        let Some(input) = driver.start(output) else { continue };
                        if done.blocking_send(input).is_err() {
                            return;
                        }
                    }
                })
                .map_err(|e| StartError::Engine(e.to_string()))?;
        }
        let driver = self.clone();
        tokio::spawn(async move {
            while let Some(output) = outputs.recv().await {
                match output {
                    Output::Stop { ticket } => {
                        if let Some(cancel) = driver.running.lock().get(&ticket) {
                            cancel.cancel();
                        }
                    }
                    Output::Start { ticket, .. } => {
                        // Registered before a thread takes it, so that a stop that comes at once finds it.
                        driver.running.lock().insert(ticket, Cancel::new());
                        let _ = start.send(output);
                    }
                    _ => {}
                }
            }
        });
        tokio::task::spawn_blocking(move || {
            while let Some(request) = requests.blocking_recv() {
                self.answer(request);
            }
        });
        Ok(())
    }

    fn start(&self, output: Output) -> Option<Input> {
        let Output::Start { ticket, function, task, subject } = output else { return None };
        let cancel = self.running.lock().get(&ticket).cloned().unwrap_or_default();
        let id = task.id(&subject);
        // Two callers who share a pure result must see the same one.
        let seed = if function.determinism == Determinism::Pure { task.memo_key() } else { id };
        let work = Work { function, entry: task.entry, args: task.args, task: seed };
        // A panic must not take the slot with it: the core waits for an exit.
        let ran = catch_unwind(AssertUnwindSafe(|| self.run_one(&work, &cancel)));
        let exit = ran.unwrap_or_else(|_| Err(Failure::NodeFailed { what: "the engine panicked; the log says where".into() }));
        self.running.lock().remove(&ticket);
        Counters::count(&self.counters.runs);
        Some(Input::Exited { ticket, task: id, exit })
    }

    fn run_one(&self, work: &Work, cancel: &Cancel) -> Result<Exit, Failure> {
        let host: Arc<dyn Host> = self.shelf.clone();
        let exit = self.engine.run(work, &host, cancel)?;
        let result = self.shelf.put(&exit.output)?;
        let usage = Usage { run_us: exit.run_us, input: exit.input, memory: exit.memory, ..Usage::default() };
        Ok(Exit { result, size: exit.output.len() as u64, usage })
    }

    fn answer(&self, request: EngineRequest) {
        match request {
            EngineRequest::Describe { code, answer } => {
                let _ = answer.send(describe(&code).map(|(engine, entries)| (engine.to_string(), entries)));
            }
            EngineRequest::Check { function, code, answer } => {
                let known = self.engine.names().contains(&function.engine.as_str());
                let checked = if known { self.engine.check(&function, &code) } else { Err(unknown(&function.engine, &code)) };
                let _ = answer.send(checked);
            }
        }
    }
}

fn unknown(engine: &str, code: &Bytes) -> Failure {
    Failure::Rejected { finding: format!("this node has no engine {engine:?} for these {} bytes of code", code.len()) }
}
