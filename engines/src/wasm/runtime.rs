//! wasmtime as we set it up: what guests may use, how instances are allocated, and how modules become programs.

use cid::Cid;
use sha2::{Digest, Sha256};
use std::hash::{Hash, Hasher};
use timerose_core::failure::Failure;
use timerose_core::function::WASM_COMMAND;
use wasmtime::{Config, Engine, ExternType, InstanceAllocationStrategy, Linker, Module, PoolingAllocationConfig, ValType};

use super::meter::Meter;
use super::modules::{Loaded, Program};
use super::pace::Pace;
use super::wasi::{self, Command};
use crate::module::{FEATURES, Shape, Signature, TABLE_ELEMENTS_MAX, rejected};

/// Address space of one instance's memory. With all that 32 bits can address and a guard behind it, compiled code needs
/// no bounds checks; what is not touched costs nothing.
const RESERVATION: u64 = 4 << 30;
/// The guard behind each memory, in bytes.
const GUARD: u64 = 32 << 20;
/// Bytes at the start of a memory that are cleared by writing zeros, not by giving the pages back, when an instance ends:
/// small calls then need no system call.
const KEEP_RESIDENT: usize = 1 << 20;
/// Bytes of a guest's call stack. An engine thread has 2 MiB: the rest is for us.
const STACK: usize = 512 << 10;
/// Bytes of an instance's own tables of functions and globals; large interpreters need more than the 1 MiB of the default.
const INSTANCE_BYTES: usize = 2 << 20;

/// One way to compile and to allocate, with what guests can import.
pub(super) struct Runtime {
    engine: Engine,
    commands: Linker<Command>,
    fans: Linker<Meter>,
    /// Changes with everything that machine code depends on.
    fingerprint: [u8; 32],
}

impl Runtime {
    /// For at most `instances` runs at a time, in memory that is reserved now and used again and again.
    pub(super) fn pooled(instances: u32) -> wasmtime::Result<Self> {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_core_instances(instances)
            // Exceptions live in a second memory of their instance.
            .total_memories(instances.saturating_mul(2))
            .total_gc_heaps(instances)
            .total_tables(instances)
            .max_memory_size(RESERVATION as usize)
            .max_core_instance_size(INSTANCE_BYTES)
            .table_elements(TABLE_ELEMENTS_MAX as usize)
            .linear_memory_keep_resident(KEEP_RESIDENT)
            .table_keep_resident(KEEP_RESIDENT)
            // Where the kernel can say which pages were touched, only those are cleared.
            .pagemap_scan(wasmtime::Enabled::Auto);
        Self::new(config().allocation_strategy(InstanceAllocationStrategy::Pooling(pool)))
    }

    /// With fuel: rarely used, so memory is allocated for each run.
    pub(super) fn fuelled() -> wasmtime::Result<Self> {
        Self::new(config().consume_fuel(true))
    }

    fn new(config: &Config) -> wasmtime::Result<Self> {
        let engine = Engine::new(config)?;
        let commands = wasi::linker(&engine)?;
        let fans = Linker::new(&engine);
        let mut fingerprint = Fingerprint(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut fingerprint);
        Ok(Runtime { engine, commands, fans, fingerprint: fingerprint.0.finalize().into() })
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The name under which the machine code of `code` is kept. Another version of wasmtime, other settings or another CPU
    /// give another name.
    pub(super) fn file_name(&self, code: &Cid) -> [u8; 32] {
        Sha256::new().chain_update(self.fingerprint).chain_update(code.to_bytes()).finalize().into()
    }

    /// Loads machine code that this node compiled before.
    ///
    /// `body` must come from [`super::disk::Disk::load`].
    pub(super) fn revive(&self, body: &[u8]) -> wasmtime::Result<Module> {
        // SAFETY: `deserialize` runs whatever it is given, so the bytes must be what `Module::serialize` wrote. They come from
        // `Disk::load`, which gives only what carries a valid HMAC-SHA256, over the file's name and all of its bytes, made
        // with a random key that this node keeps to itself (mode 0600) and uses for nothing but what it serialized. They were
        // read once and checked in the memory that is used here, so no file can change in between. The name binds code, CPU,
        // settings and version; wasmtime checks the latter three once more.
        #[allow(unsafe_code)]
        unsafe {
            Module::deserialize(&self.engine, body)
        }
    }

    /// Links a module.
    ///
    /// # Errors
    /// [`Failure::Rejected`] where it does not fit the engine that its manifest names.
    pub(super) fn program(&self, engine: &str, module: &Module) -> Result<Program, Failure> {
        let shape = shape(module);
        shape.check_engine(engine)?;
        let image = module.image_range();
        let (bytes, pace) = (image.end as usize - image.start as usize, Pace::default());
        let unlinkable = |e: wasmtime::Error| rejected(format!("the module cannot be linked: {e:#}"));
        if engine == WASM_COMMAND {
            let linker = wasi::complete(&self.commands, module).map_err(unlinkable)?;
            let pre = linker.instantiate_pre(module).map_err(unlinkable)?;
            return Ok(Program::Command(Loaded { pre, shape, bytes, pace }));
        }
        let pre = self.fans.instantiate_pre(module).map_err(unlinkable)?;
        Ok(Program::Fan(Loaded { pre, shape, bytes, pace }))
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .wasm_features(!FEATURES, false)
        .wasm_features(FEATURES, true)
        .relaxed_simd_deterministic(true)
        .cranelift_nan_canonicalization(true)
        .epoch_interruption(true)
        .memory_reservation(RESERVATION)
        .memory_guard_size(GUARD)
        .max_wasm_stack(STACK);
    config
}

/// The shape of a module that wasmtime has already validated.
fn shape(module: &Module) -> Shape {
    let mut shape = Shape::default();
    for import in module.imports() {
        let is_function = matches!(import.ty(), ExternType::Func(_));
        shape.imports.push((import.module().to_string(), import.name().to_string(), is_function));
    }
    for export in module.exports() {
        match export.ty() {
            ExternType::Func(ty) => {
                let is_i32 = |value: ValType| matches!(value, ValType::I32);
                let signature = Signature::of(ty.params().map(is_i32), ty.results().map(is_i32));
                shape.functions.insert(export.name().to_string(), signature);
            }
            ExternType::Memory(ty) if export.name() == "memory" => {
                shape.memory = Some(ty.minimum().saturating_mul(ty.page_size()))
            }
            _ => {}
        }
    }
    shape
}

/// Lets a value that can only be hashed be hashed with SHA-256.
struct Fingerprint(Sha256);

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Not used: the digest is taken from the field.
    fn finish(&self) -> u64 {
        0
    }
}
