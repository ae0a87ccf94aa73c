//! The wasm engines: from a piece of work to a program to a run, over wasmtime.
//!
//! Pure and seeded functions run alike here: NaN bits are canonical, relaxed SIMD is deterministic, there are no threads,
//! and what little a program can ask of the world (a clock, randomness) is derived from [`Work::task`]. Functions with
//! effects get no more than that yet. Every run has an instance of its own, and it is dropped at the end.

mod command;
mod disk;
mod fan;
mod meter;
mod modules;
mod pace;
mod runtime;
mod ticker;
mod wasi;

use cid::Cid;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use timerose_core::failure::Failure;
use timerose_core::function::{Determinism, Entry, Function, Limits, WASM_COMMAND, WASM_FAN};
use timerose_core::task::Arg;
use wasmtime::Module;

use crate::module::{self, rejected};
use crate::{CODE_MAX, Cancel, Engine, Exit, Host, Work, read_exact};
use disk::Disk;
use modules::{Key, Modules, Program};
use runtime::Runtime;
use ticker::Ticker;

/// How long a run that is tried may take, in milliseconds. It is looked at with every tick, so one that takes longer is ended within
/// that and a tick.
const BRIEF_MS: u64 = 5;

/// How a [`WasmEngine`] is set up.
#[derive(Clone, Debug)]
pub struct WasmConfig {
    /// Where compiled code is kept, with the key that seals it. The folder must belong to this node alone: whoever can read
    /// the key can make the node run any machine code.
    pub cache_dir: PathBuf,
    /// The most memory that a function may ask for here, in bytes.
    pub max_memory: u64,
    /// How many runs may be under way at the same time. Each reserves 4 GiB of address space, but no memory before it is used.
    pub instances: u32,
}

/// How modules came to be ready since the engine was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WasmStats {
    /// Modules that were compiled.
    pub compiled: u64,
    /// Modules whose machine code was loaded from disk.
    pub loaded: u64,
}

/// Runs `wasm-fan` and `wasm-command` functions.
pub struct WasmEngine {
    config: WasmConfig,
    plain: Runtime,
    /// For manifests with `limits.fuel`: counting changes the machine code and slows it down, so it has a runtime of its own.
    fuelled: OnceLock<Runtime>,
    ticker: Ticker,
    modules: Modules,
    disk: Disk,
    compiled: AtomicU64,
    loaded: AtomicU64,
}

impl WasmEngine {
    /// Starts the engine: opens or makes the cache folder, reserves address space, starts the thread that keeps time.
    ///
    /// # Errors
    /// [`Failure::NodeFailed`] where one of these cannot be done.
    pub fn new(config: WasmConfig) -> Result<Self, Failure> {
        let failed = |what: &str, error: &dyn std::fmt::Display| Failure::NodeFailed { what: format!("{what}: {error}") };
        let disk = Disk::open(&config.cache_dir).map_err(|e| failed("the cache of compiled code cannot be opened", &e))?;
        let plain = Runtime::pooled(config.instances).map_err(|e| failed("the wasm engine could not start", &e))?;
        let ticker = Ticker::start().map_err(|e| failed("the wasm engine's timer could not start", &e))?;
        ticker.watch(plain.engine());
        Ok(WasmEngine {
            config,
            plain,
            fuelled: OnceLock::new(),
            ticker,
            modules: Modules::default(),
            disk,
            compiled: AtomicU64::new(0),
            loaded: AtomicU64::new(0),
        })
    }

    /// How modules came to be ready since the engine was made.
    pub fn stats(&self) -> WasmStats {
        WasmStats { compiled: self.compiled.load(Ordering::Relaxed), loaded: self.loaded.load(Ordering::Relaxed) }
    }

    fn runtime(&self, fuel: bool) -> Result<&Runtime, Failure> {
        if !fuel {
            return Ok(&self.plain);
        }
        if let Some(runtime) = self.fuelled.get() {
            return Ok(runtime);
        }
        let made = Runtime::fuelled()
            .map_err(|e| Failure::NodeFailed { what: format!("the wasm engine with fuel could not start: {e}") })?;
        // Two threads may both make one; the loser's is dropped.
        Ok(self.fuelled.get_or_init(|| {
            self.ticker.watch(made.engine());
            made
        }))
    }

    /// The program of a function, ready to be instantiated.
    fn program(&self, function: &Function, host: &dyn Host) -> Result<Arc<Program>, Failure> {
        let key = key(function);
        let runtime = self.runtime(key.fuel)?;
        self.modules.get(key, || runtime.program(&function.engine, &self.module(runtime, &function.code, host)?))
    }

    /// Runs a program that suits the function.
    fn start(
        &self,
        program: &Program,
        (work, entry): (&Work, &Entry),
        host: &Arc<dyn Host>,
        limits: &Limits,
        cancel: &Cancel,
    ) -> Result<Exit, Failure> {
        program.shape().check_entry(&work.function.engine, entry)?;
        let _ticking = self.ticker.run();
        match program {
            Program::Fan(fan) => fan::run(fan, work, entry, &**host, limits, cancel),
            Program::Command(command) => command::run(command, work, entry, host, limits, cancel),
        }
    }

    /// The machine code of a module: from disk, or compiled and put there.
    fn module(&self, runtime: &Runtime, code: &Cid, host: &dyn Host) -> Result<Module, Failure> {
        let name = runtime.file_name(code);
        if let Some(body) = self.disk.load(&name) {
            match runtime.revive(&body) {
                Ok(module) => {
                    self.loaded.fetch_add(1, Ordering::Relaxed);
                    return Ok(module);
                }
                Err(error) => tracing::warn!(%code, %error, "compiled code from disk does not load, compiling again"),
            }
        }
        let size = host.size(code)?;
        if size > CODE_MAX {
            return Err(rejected(format!("the module has {size} bytes, the most is {CODE_MAX}")));
        }
        let mut bytes = vec![0; size as usize];
        read_exact(host, code, 0, &mut bytes)?;
        let module =
            Module::from_binary(runtime.engine(), &bytes).map_err(|e| rejected(format!("not a valid wasm module: {e:#}")))?;
        self.compiled.fetch_add(1, Ordering::Relaxed);
        // A cache that cannot be written costs time only.
        let stored = module.serialize().map_err(std::io::Error::other).and_then(|body| self.disk.store(&name, &body));
        if let Err(error) = stored {
            tracing::warn!(%code, %error, "compiled code could not be kept");
        }
        Ok(module)
    }
}

impl Engine for WasmEngine {
    fn names(&self) -> &'static [&'static str] {
        &[WASM_FAN, WASM_COMMAND]
    }

    fn check(&self, function: &Function, code: &[u8]) -> Result<(), Failure> {
        if !self.names().contains(&function.engine.as_str()) {
            return Err(rejected(format!("{:?} is not the name of a wasm engine", function.engine)));
        }
        module::check(function, code)
    }

    fn run(&self, work: &Work, host: &Arc<dyn Host>, cancel: &Cancel) -> Result<Exit, Failure> {
        let function = &*work.function;
        if !self.names().contains(&function.engine.as_str()) {
            return Err(Failure::NodeFailed { what: format!("no engine {:?} here", function.engine) });
        }
        let entry = function.check_call(&work.entry, work.args.len())?;
        if function.limits.memory > self.config.max_memory {
            let finding =
                format!("limits.memory is {}, this node lends at most {}", function.limits.memory, self.config.max_memory);
            return Err(rejected(finding));
        }
        if cancel.is_cancelled() {
            return Err(Failure::Cancelled);
        }
        let program = self.program(function, &**host)?;
        let ended = self.start(&program, (work, entry), host, &function.limits, cancel);
        program.pace().ran(ended.as_ref().ok().map(|exit| exit.run_us));
        ended
    }

    fn is_brief(&self, function: &Function, args: &[Arg]) -> bool {
        let content = !function.mounts.is_empty() || args.iter().any(|arg| matches!(arg, Arg::Link(_)));
        // What has effects is begun once.
        let once = function.determinism == Determinism::Effects;
        !(content || once)
            && function.limits.fuel.is_none()
            && self.modules.ready(key(function)).is_some_and(|program| program.pace().is_brief())
    }

    fn run_briefly(&self, work: &Work, host: &Arc<dyn Host>, cancel: &Cancel) -> Option<Exit> {
        let function = &*work.function;
        let entry = function.check_call(&work.entry, work.args.len()).ok()?;
        if function.limits.memory > self.config.max_memory || cancel.is_cancelled() || !self.is_brief(function, &work.args) {
            return None;
        }
        let program = self.modules.ready(key(function))?;
        let limits = Limits { timeout_ms: function.limits.timeout_ms.min(BRIEF_MS), ..function.limits.clone() };
        match self.start(&program, (work, entry), host, &limits, cancel) {
            Ok(exit) => {
                program.pace().kept(exit.run_us);
                Some(exit)
            }
            Err(_) => {
                program.pace().outstayed();
                None
            }
        }
    }
}

fn key(function: &Function) -> Key {
    Key { code: function.code, command: function.engine == WASM_COMMAND, fuel: function.limits.fuel.is_some() }
}
