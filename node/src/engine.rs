//! The engine driver: as many threads as the node lends slots, each running one piece of work at a time.

use bytes::Bytes;
use cid::Cid;
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use timerose_core::failure::Failure;
use timerose_core::function::{Determinism, Function};
use timerose_core::id::NodeId;
use timerose_core::io::{Exit, Input, Output, Ticket};
use timerose_core::resources::Resources;
use timerose_core::task::{Arg, Receipt, Usage};
use timerose_engines::{Cancel, Engine, Host, HostEntry, WasmConfig, WasmEngine, Work, describe};
use tokio::sync::mpsc;

use crate::config::StartError;
use crate::keys::wall_clock;
use crate::ports::{Counters, EngineRequest, Shelf};
use crate::telemetry::{Telemetry, Voice};

/// What one run may reach: content, and whoever hears what its guest says.
struct RunHost {
    shelf: Arc<dyn Shelf>,
    voice: Voice,
}

impl Host for RunHost {
    fn size(&self, file: &Cid) -> Result<u64, Failure> {
        self.shelf.size(file)
    }

    fn read_at(&self, file: &Cid, offset: u64, buf: &mut [u8]) -> Result<usize, Failure> {
        self.shelf.read_at(file, offset, buf)
    }

    fn list(&self, dir: &Cid) -> Result<Option<Vec<HostEntry>>, Failure> {
        self.shelf.list(dir)
    }

    fn hear(&self, words: &[u8]) {
        self.voice.say(words);
    }
}

/// The stack of an engine thread: guests run on it.
const STACK_BYTES: usize = 4 << 20;

/// The engines of this node.
pub(crate) struct Driver {
    me: NodeId,
    engine: Arc<dyn Engine>,
    shelf: Arc<dyn Shelf>,
    running: Mutex<BTreeMap<Ticket, Cancel>>,
    queue: Queue,
    counters: Arc<Counters>,
    telemetry: Telemetry,
}

/// What the threads are to start: no more than there are slots, as the core sees to it.
#[derive(Default)]
struct Queue {
    /// The work, and whether no more comes.
    waiting: Mutex<(VecDeque<Output>, bool)>,
    changed: Condvar,
}

impl Queue {
    fn put(&self, output: Output) {
        self.waiting.lock().0.push_back(output);
        self.changed.notify_one();
    }

    fn close(&self) {
        self.waiting.lock().1 = true;
        self.changed.notify_all();
    }

    /// Waits for work; nothing when no more comes.
    fn take(&self) -> Option<Output> {
        let mut waiting = self.waiting.lock();
        loop {
            if let Some(output) = waiting.0.pop_front() {
                return Some(output);
            }
            if waiting.1 {
                return None;
            }
            self.changed.wait(&mut waiting);
        }
    }
}

/// The loop's way to the engines: nothing waits in it, so that a call begins without a further wake-up. The threads end with
/// it.
pub(crate) struct Handle(Arc<Driver>);

impl Handle {
    /// Begins or stops a piece of work.
    pub fn carry_out(&self, output: Output) {
        match output {
            Output::Stop { ticket } => {
                if let Some(cancel) = self.0.running.lock().get(&ticket) {
                    cancel.cancel();
                }
            }
            Output::Start { ticket, .. } => {
                // Registered before a thread takes it, so that a stop that comes at once finds it.
                self.0.running.lock().insert(ticket, Cancel::new());
                self.0.queue.put(output);
            }
            _ => {}
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.queue.close();
    }
}

impl Driver {
    /// Sets the engines up; compiled modules are kept below `dir`, receipts are `me`'s.
    pub fn new(
        dir: &Path,
        me: NodeId,
        offers: Resources,
        shelf: Arc<dyn Shelf>,
        (counters, telemetry): (Arc<Counters>, Telemetry),
    ) -> Result<Arc<Driver>, StartError> {
        let config = WasmConfig { cache_dir: dir.join("modules"), max_memory: offers.memory, instances: offers.slots };
        let engine = WasmEngine::new(config).map_err(|e| StartError::Engine(e.to_string()))?;
        let (running, queue) = (Mutex::default(), Queue::default());
        Ok(Arc::new(Driver { me, engine: Arc::new(engine), shelf, running, queue, counters, telemetry }))
    }

    /// The engines' names, for the advert.
    pub fn names(&self) -> &'static [&'static str] {
        self.engine.names()
    }

    /// Runs until the handle is dropped.
    pub fn run(
        self: Arc<Self>,
        slots: u32,
        mut requests: mpsc::Receiver<EngineRequest>,
        done: mpsc::Sender<Input>,
    ) -> Result<Handle, StartError> {
        let handle = Handle(self.clone());
        for slot in 0..slots {
            let (driver, done) = (self.clone(), done.clone());
            std::thread::Builder::new()
                .name(format!("engine-{slot}"))
                .stack_size(STACK_BYTES)
                .spawn(move || {
                    while let Some(output) = driver.queue.take() {
                        let Some(input) = driver.start(output) else { continue };
                        if done.blocking_send(input).is_err() {
                            return;
                        }
                    }
                })
                .map_err(|e| StartError::Engine(e.to_string()))?;
        }
        tokio::task::spawn_blocking(move || {
            while let Some(request) = requests.blocking_recv() {
                self.answer(request);
            }
        });
        Ok(handle)
    }

    fn start(&self, output: Output) -> Option<Input> {
        let Output::Start { ticket, function, task, subject, spent, trace } = output else { return None };
        let cancel = self.running.lock().get(&ticket).cloned().unwrap_or_default();
        let (ran, key) = (task.id(&subject), task.memo_key());
        let voice = self.telemetry.voice(ran, trace);
        let receipt = Receipt { iss: self.me, ran, task, out: Err(String::new()), size: 0, meta: spent, at: 0 };
        // A panic must not take the slot with it: the core waits for an exit.
        let ran = catch_unwind(AssertUnwindSafe(|| self.run_one(function, receipt, key, voice, &cancel)));
        let exit = ran.unwrap_or_else(|_| Err(Failure::NodeFailed { what: "the engine panicked; the log says where".into() }));
        self.running.lock().remove(&ticket);
        Counters::count(&self.counters.runs);
        Some(Input::Exited { ticket, exit })
    }

    /// Runs a task and fills in its receipt.
    fn run_one(
        &self,
        function: Arc<Function>,
        mut receipt: Receipt,
        key: Cid,
        voice: Voice,
        cancel: &Cancel,
    ) -> Result<Exit, Failure> {
        let inputs = receipt.task.args.iter().filter_map(|arg| if let Arg::Link(cid) = arg { Some(*cid) } else { None });
        let roots: Vec<Cid> = inputs.chain([function.code]).chain(function.mounts.values().copied()).collect();
        let _hold = self.shelf.hold(&roots);
        let host: Arc<dyn Host> = Arc::new(RunHost { shelf: self.shelf.clone(), voice });
        // Two callers who share a pure result must see the same one.
        let seed = if function.determinism == Determinism::Pure { key } else { receipt.ran };
        let (entry, args) = (receipt.task.entry.clone(), receipt.task.args.clone());
        let exit = self.engine.run(&Work { function, entry, args, task: seed }, &host, cancel)?;
        let result = self.shelf.put(&exit.output)?;
        receipt.out = Ok(result);
        receipt.size = exit.output.len() as u64;
        receipt.meta = Usage { run_us: exit.run_us, input: exit.input, memory: exit.memory, ..receipt.meta };
        receipt.at = wall_clock().unix_ms;
        Ok(Exit::new(&receipt, result, key))
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
