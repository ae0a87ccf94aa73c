//! A warm pure call of 64 KiB that lie in the blockstore, against bare wasmtime with the bytes at hand.

use cid::Cid;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;
use timerose_content::{Block, Content, ContentError, FileReader, RAW};
use timerose_core::failure::Failure;
use timerose_core::function::Function;
use timerose_core::task::Arg;
use timerose_engines::{Cancel, Engine, Host, HostEntry, WasmConfig, WasmEngine, Work};
use tokio::runtime::Runtime;
use wasmtime::{InstanceAllocationStrategy, InstancePre, Linker, Module, PoolingAllocationConfig, Store};

use crate::Settings;
use crate::guest::{self, Guest};
use crate::machine;
use crate::report::{Better, Goal, Row};

/// Bytes of an argument.
const ARGUMENT: usize = 64 << 10;
/// Calls of a round, each with an argument of its own.
const CALLS: usize = 200;
/// Calls of a round that store their result.
const STORED: usize = 50;

/// Content as the node's own shelf shows it to guests: the file that was opened last stays open.
pub struct Files {
    content: Content,
    open: Mutex<Option<(Cid, FileReader)>>,
}

impl Files {
    /// The files of a store.
    pub fn new(content: Content) -> Files {
        Files { content, open: Mutex::default() }
    }

    fn with<T>(&self, file: &Cid, what: impl FnOnce(&mut FileReader) -> Result<T, ContentError>) -> Result<T, Failure> {
        let failed = |e: ContentError| Failure::NodeFailed { what: e.to_string() };
        let kept = self.open.lock().take().filter(|(cid, _)| cid == file);
        let mut reader = match kept {
            Some((_, reader)) => reader,
            None => FileReader::open(file, &mut |cid| self.content.block(cid)).map_err(|e| failed(e.into()))?,
        };
        let result = what(&mut reader).map_err(failed)?;
        *self.open.lock() = Some((*file, reader));
        Ok(result)
    }
}

impl Host for Files {
    fn size(&self, file: &Cid) -> Result<u64, Failure> {
        self.with(file, |reader| Ok(reader.size()))
    }

    fn read_at(&self, file: &Cid, offset: u64, buf: &mut [u8]) -> Result<usize, Failure> {
        self.with(file, |reader| Ok(reader.read_range(offset, buf, &mut |cid| self.content.block(cid))?))
    }

    fn list(&self, _: &Cid) -> Result<Option<Vec<HostEntry>>, Failure> {
        Ok(None)
    }
}

/// Wasmtime with pooled instances, and nothing else: no limits, no clock, no way to stop a guest.
pub struct Bare {
    pre: InstancePre<()>,
    entry: &'static str,
}

impl Bare {
    /// A guest, ready to be called.
    pub fn new(guest: &Guest) -> Bare {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_core_instances(2).total_memories(2).total_tables(2).linear_memory_keep_resident(64 << 10);
        pool.table_keep_resident(64 << 10);
        let mut config = wasmtime::Config::new();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = wasmtime::Engine::new(&config).expect("an engine");
        let module = Module::new(&engine, &guest.code).expect("a module");
        let pre = Linker::new(&engine).instantiate_pre(&module).expect("linked");
        Bare { pre, entry: guest.entry }
    }

    /// One call in an instance of its own: the hash of the result.
    pub fn call(&self, argument: &[u8]) -> wasmtime::Result<[u8; 32]> {
        let mut store = Store::new(self.pre.module().engine(), ());
        let instance = self.pre.instantiate(&mut store)?;
        let memory = instance.get_memory(&mut store, "memory").expect("a memory");
        let at = instance.get_typed_func::<i32, i32>(&mut store, "alloc")?.call(&mut store, argument.len() as i32)?;
        memory.write(&mut store, at as usize, argument)?;
        let entry = instance.get_typed_func::<(i32, i32), i32>(&mut store, self.entry)?;
        let length = entry.call(&mut store, (at, argument.len() as i32))?;
        let result = memory.data(&store)[at as usize..][..length as usize].to_vec();
        Ok(Sha256::digest(&result).into())
    }
}

/// Our side: an engine, a store, a function in it.
struct Ours {
    engine: WasmEngine,
    content: Content,
    host: Arc<dyn Host>,
    function: Arc<Function>,
}

impl Ours {
    fn call(&self, arg: Arg) -> Vec<u8> {
        let task = self.function.code;
        let work = Work { function: self.function.clone(), entry: String::new(), args: vec![arg], task };
        self.engine.run(&work, &self.host, &Cancel::new()).expect("it runs").output
    }
}

/// Has a result made although nobody uses it.
fn keep<T>(result: T) {
    std::hint::black_box(result);
}

/// Microseconds that one of so many calls took on average.
fn each(calls: usize, what: impl FnOnce()) -> f64 {
    machine::timed(what).1.as_secs_f64() * 1e6 / calls as f64
}

fn measure(settings: &Settings, content: &Content, guest: &Guest, name: &str, goal: Goal) -> Vec<Row> {
    let (_, function) = guest.deploy(content);
    let host: Arc<dyn Host> = Arc::new(Files::new(content.clone()));
    let ours = Ours { engine: engine(&settings.folder("engine"), 2), content: content.clone(), host, function };
    let bare = Bare::new(guest);
    let row =
        |path: &str, goal| Row::new(format!("{name}, {path}"), "us", Better::Lower, goal, "bare wasmtime + sha256 of the result");
    let mut by_cid = row("64 KiB by CID", goal);
    let mut at_hand = row("64 KiB in memory, no store", Goal::Shown);
    let mut stored = row("64 KiB in memory, result durable before the answer", Goal::Shown);
    let mut rng = fastrand::Rng::with_seed(machine::seed());
    for _ in 0..settings.rounds {
        let texts: Vec<Vec<u8>> = (0..CALLS).map(|_| guest::text(&mut rng, ARGUMENT)).collect();
        let blocks: Vec<Block> = texts.iter().map(|text| Block::encode(RAW, text.clone()).expect("a block")).collect();
        blocks.chunks(64).for_each(|blocks| content.store().put_many(blocks).expect("stored"));
        let warm = guest::text(&mut rng, ARGUMENT);
        ours.call(Arg::Inline(warm.clone()));
        bare.call(&warm).expect("it runs");
        let link = |block: &Block| Arg::Link(*block.cid());
        let with_cid = each(CALLS, || {
            blocks.iter().for_each(|block| keep(Sha256::digest(ours.call(link(block)))));
        });
        let in_bare = each(CALLS, || {
            texts.iter().for_each(|text| keep(bare.call(text).expect("it runs")));
        });
        let inline: Vec<Arg> = texts.iter().map(|text| Arg::Inline(text.clone())).collect();
        let in_memory = each(CALLS, || {
            inline.into_iter().for_each(|arg| keep(Sha256::digest(ours.call(arg))));
        });
        // The argument itself must not be the result, or it would be there already.
        let fresh: Vec<Arg> = (0..STORED).map(|_| Arg::Inline(guest::text(&mut rng, ARGUMENT))).collect();
        let with_store = each(STORED, || {
            fresh.into_iter().for_each(|arg| keep(ours.content.add_bytes(&ours.call(arg)).expect("stored")));
        });
        by_cid.round(with_cid, in_bare);
        at_hand.round(in_memory, in_bare);
        stored.round(with_store, in_bare);
    }
    vec![by_cid, at_hand, stored]
}

/// The rows of the engine.
pub fn rows(runtime: &Runtime, settings: &Settings) -> Vec<Row> {
    let folder = settings.folder("engine");
    let (content, _behaviour) = Content::open(&folder.join("blocks"), runtime.handle()).expect("a store");
    let mut rows = measure(settings, &content, &Guest::echo(), "echo", Goal::Ratio(2.0));
    rows.extend(measure(settings, &content, &Guest::word_count(), "word count", Goal::Ratio(2.0)));
    rows
}

/// An engine for so many runs at a time.
pub fn engine(dir: &Path, instances: u32) -> WasmEngine {
    WasmEngine::new(WasmConfig { cache_dir: dir.join("modules"), max_memory: 1 << 30, instances }).expect("an engine")
}
