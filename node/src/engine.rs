//! The engine driver: as many threads as the node lends slots, each running one piece of work at a time.
//!
//! Work that is likely to be over in microseconds is tried in a task of the runtime first: to wake a thread and to be woken by it takes
//! longer than it does. What does not end there in its time is begun anew by a thread.

use bytes::Bytes;
use cid::Cid;
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use timerose_core::failure::Failure;
use timerose_core::function::{Determinism, Function};
use timerose_core::id::NodeId;
use timerose_core::io::{Exit, Input, Output, Ticket};
use timerose_core::resources::Resources;
use timerose_core::task::{Receipt, Task, Usage};
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

/// The host of a run that is tried: it reads nothing, and a guest that speaks is heard when it is begun anew.
#[derive(Default)]
struct NoHost {
    spoken: AtomicBool,
}

impl Host for NoHost {
    fn size(&self, _: &Cid) -> Result<u64, Failure> {
        Err(Failure::Cancelled)
    }

    fn read_at(&self, _: &Cid, _: u64, _: &mut [u8]) -> Result<usize, Failure> {
        Err(Failure::Cancelled)
    }

    fn list(&self, _: &Cid) -> Result<Option<Vec<HostEntry>>, Failure> {
        Err(Failure::Cancelled)
    }

    fn hear(&self, _: &[u8]) {
        self.spoken.store(true, Ordering::Relaxed);
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

/// A task that is to be run, and its names.
struct Run {
    function: Arc<Function>,
    task: Task,
    ran: Cid,
    key: Cid,
    spent: Usage,
}

impl Run {
    fn new(function: Arc<Function>, task: Task, subject: &NodeId, spent: Usage) -> Run {
        let (ran, key) = (task.id(subject), task.memo_key());
        Run { function, task, ran, key, spent }
    }

    fn work(&self) -> Work {
        // Two callers who share a pure result must see the same one.
        let seed = if self.function.determinism == Determinism::Pure { self.key } else { self.ran };
        let (entry, args) = (self.task.entry.clone(), self.task.args.clone());
        Work { function: self.function.clone(), entry, args, task: seed }
    }

    /// The end of a good run, with its receipt.
    fn ended(self, me: NodeId, exit: &timerose_engines::Exit, result: Cid) -> Exit {
        let Run { task, ran, key, spent, .. } = self;
        let meta = Usage { run_us: exit.run_us, input: exit.input, memory: exit.memory, ..spent };
        let (size, at) = (exit.output.len() as u64, wall_clock().unix_ms);
        Exit::new(&Receipt { iss: me, ran, task, out: Ok(result), size, meta, at }, result, key)
    }
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
pub(crate) struct Handle {
    driver: Arc<Driver>,
    done: mpsc::Sender<Input>,
}

impl Handle {
    /// Begins or stops a piece of work. Must be called inside the runtime.
    pub fn carry_out(&self, output: Output) {
        let driver = &self.driver;
        match &output {
            Output::Stop { ticket } => {
                if let Some(cancel) = driver.running.lock().get(ticket) {
                    cancel.cancel();
                }
            }
            Output::Start { ticket, function, task, .. } => {
                // Registered before it is begun, so that a stop that comes at once finds it.
                driver.running.lock().insert(*ticket, Cancel::new());
                if !driver.engine.is_brief(function, &task.args) {
                    return driver.queue.put(output);
                }
                let (driver, done) = (driver.clone(), self.done.clone());
                tokio::spawn(async move {
                    match driver.try_briefly(&output) {
                        // Only a node that ends does not listen.
                        Some(input) => drop(done.send(input).await),
                        None => driver.queue.put(output),
                    }
                });
            }
            _ => {}
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.driver.queue.close();
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
        let handle = Handle { driver: self.clone(), done: done.clone() };
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
        let cancel = self.cancel(&ticket);
        let run = Run::new(function, task, &subject, spent);
        let voice = self.telemetry.voice(run.ran, trace);
        // A panic must not take the slot with it: the core waits for an exit.
        let exit = catch_unwind(AssertUnwindSafe(|| self.run_one(run, voice, &cancel)));
        let exit = exit.unwrap_or_else(|_| Err(Failure::NodeFailed { what: "the engine panicked; the log says where".into() }));
        Some(self.exited(ticket, exit))
    }

    /// Tries a piece of work here and now. `None`: it is to be begun anew, on a thread.
    fn try_briefly(&self, output: &Output) -> Option<Input> {
        let Output::Start { ticket, function, task, subject, spent, .. } = output else { return None };
        let cancel = self.cancel(ticket);
        let run = Run::new(function.clone(), task.clone(), subject, *spent);
        let _hold = self.shelf.hold(&[function.code]);
        let host = Arc::new(NoHost::default());
        let (work, heard): (_, Arc<dyn Host>) = (run.work(), host.clone());
        let tried = catch_unwind(AssertUnwindSafe(|| self.engine.run_briefly(&work, &heard, &cancel)));
        let exit = tried.ok().flatten().filter(|_| !host.spoken.load(Ordering::Relaxed))?;
        let result = self.shelf.try_put(&exit.output)?;
        Some(self.exited(*ticket, Ok(run.ended(self.me, &exit, result))))
    }

    fn cancel(&self, ticket: &Ticket) -> Cancel {
        self.running.lock().get(ticket).cloned().unwrap_or_default()
    }

    fn exited(&self, ticket: Ticket, exit: Result<Exit, Failure>) -> Input {
        self.running.lock().remove(&ticket);
        Counters::count(&self.counters.runs);
        Input::Exited { ticket, exit }
    }

    /// Runs a task, and stores its result.
    fn run_one(&self, run: Run, voice: Voice, cancel: &Cancel) -> Result<Exit, Failure> {
        let function = &run.function;
        let roots: Vec<Cid> = run.task.links().chain([function.code]).chain(function.mounts.values().copied()).collect();
        let _hold = self.shelf.hold(&roots);
        let host: Arc<dyn Host> = Arc::new(RunHost { shelf: self.shelf.clone(), voice });
        let exit = self.engine.run(&run.work(), &host, cancel)?;
        let result = self.shelf.put(&exit.output)?;
        Ok(run.ended(self.me, &exit, result))
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
