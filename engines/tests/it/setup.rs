//! What the tests share: an engine in a folder of its own, content in memory, and a function that must go on working.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use cid::Cid;
use tempfile::TempDir;
use timerose_core::failure::Failure;
use timerose_core::function::{About, Determinism, Entry, Function, Limits, Param, WASM_COMMAND, WASM_FAN};
use timerose_core::id::{DAG_PB, RAW, cid_of};
use timerose_core::task::Arg;
use timerose_engines::{Cancel, Engine, Exit, Host, HostEntry, WasmConfig, WasmEngine, Work};

/// How many runs at a time the tests' engines have room for.
pub const INSTANCES: u32 = 8;
/// The most memory of a function in the tests.
pub const MAX_MEMORY: u64 = 512 << 20;

/// Content in memory.
#[derive(Clone, Default)]
pub struct Content {
    files: HashMap<Cid, Arc<Vec<u8>>>,
    dirs: HashMap<Cid, Vec<HostEntry>>,
}

impl Content {
    pub fn file(&mut self, bytes: impl Into<Vec<u8>>) -> Cid {
        let bytes = bytes.into();
        let cid = cid_of(RAW, &bytes);
        self.files.insert(cid, Arc::new(bytes));
        cid
    }

    /// A file under an address that is known beforehand.
    #[allow(dead_code, reason = "for the tests of scripts")]
    pub fn file_as(&mut self, cid: Cid, bytes: Vec<u8>) {
        self.files.insert(cid, Arc::new(bytes));
    }

    /// The bytes of a file.
    #[allow(dead_code, reason = "for the tests of scripts")]
    pub fn bytes(&self, file: &Cid) -> Arc<Vec<u8>> {
        self.files[file].clone()
    }

    pub fn dir(&mut self, entries: &[(&str, Cid)]) -> Cid {
        let entries: Vec<HostEntry> = entries
            .iter()
            .map(|(name, cid)| HostEntry {
                name: name.to_string(),
                cid: *cid,
                size: self.files.get(cid).map_or(0, |file| file.len() as u64),
                is_dir: self.dirs.contains_key(cid),
            })
            .collect();
        let cid = cid_of(DAG_PB, format!("{entries:?}").as_bytes());
        self.dirs.insert(cid, entries);
        cid
    }

    /// The same content, but for one file.
    pub fn without(&self, file: &Cid) -> Self {
        let mut content = self.clone();
        content.files.remove(file);
        content
    }

    fn get(&self, file: &Cid) -> Result<&Arc<Vec<u8>>, Failure> {
        self.files.get(file).ok_or(Failure::not_found(*file, 0))
    }
}

impl Host for Content {
    fn size(&self, file: &Cid) -> Result<u64, Failure> {
        Ok(self.get(file)?.len() as u64)
    }

    /// At most 1000 bytes at a time: callers must not count on more.
    fn read_at(&self, file: &Cid, offset: u64, buf: &mut [u8]) -> Result<usize, Failure> {
        let rest = self.get(file)?.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(buf.len()).min(1000);
        buf[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn list(&self, dir: &Cid) -> Result<Option<Vec<HostEntry>>, Failure> {
        match self.dirs.get(dir) {
            Some(entries) => Ok(Some(entries.clone())),
            None => self.get(dir).map(|_| None),
        }
    }
}

/// An engine over a folder.
pub fn engine(dir: &Path) -> WasmEngine {
    let config = WasmConfig { cache_dir: dir.to_path_buf(), max_memory: MAX_MEMORY, instances: INSTANCES };
    WasmEngine::new(config).expect("an engine in a temporary folder")
}

/// An engine with content.
pub struct Setup {
    pub engine: WasmEngine,
    pub content: Content,
    _dir: TempDir,
}

impl Setup {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        Setup { engine: engine(dir.path()), content: Content::default(), _dir: dir }
    }

    /// Adds code in text form.
    pub fn wat(&mut self, wat: &str) -> Cid {
        let code = wat::parse_str(wat).expect("a module in text form");
        self.content.file(code)
    }

    pub fn run(&self, work: &Work) -> Result<Exit, Failure> {
        self.run_with(work, &Cancel::new())
    }

    pub fn run_with(&self, work: &Work, cancel: &Cancel) -> Result<Exit, Failure> {
        let host: Arc<dyn Host> = Arc::new(self.content.clone());
        self.engine.run(work, &host, cancel)
    }

    /// The output of work that must succeed.
    pub fn output(&self, work: &Work) -> Vec<u8> {
        self.run(work).expect("work that succeeds").output
    }

    /// The failure of work that must fail. The engine goes on after it.
    pub fn failure(&mut self, work: &Work) -> Failure {
        let failure = self.run(work).expect_err("work that fails");
        self.goes_on();
        failure
    }

    /// Makes a call that must succeed.
    pub fn goes_on(&mut self) {
        let code = self.wat(GOOD);
        let work = work(fan(code, &[entry("echo", 1)]), "echo", vec![inline("still here")]);
        assert_eq!(self.output(&work), b"still here");
    }
}

const GOOD: &str = r#"(module (memory (export "memory") 1)
    (func (export "alloc") (param i32) (result i32) (i32.const 1024))
    (func (export "echo") (param i32 i32) (result i32) (local.get 1)))"#;

/// A function of `code`.
pub fn function(engine: &str, code: Cid, entries: Vec<Entry>) -> Function {
    Function {
        engine: engine.into(),
        code,
        entries,
        determinism: Determinism::Pure,
        limits: Limits { memory: 16 << 20, timeout_ms: 30_000, output: 1 << 20, fuel: None },
        args: Vec::new(),
        env: BTreeMap::new(),
        mounts: BTreeMap::new(),
        about: About::default(),
    }
}

pub fn fan(code: Cid, entries: &[Entry]) -> Function {
    function(WASM_FAN, code, entries.to_vec())
}

/// A command that takes any number of arguments, none included.
pub fn command(code: Cid) -> Function {
    function(WASM_COMMAND, code, vec![variadic("_start")])
}

pub fn entry(name: &str, params: usize) -> Entry {
    let params = (0..params).map(|i| Param { name: format!("p{i}"), kind: "bytes".into() }).collect();
    Entry { name: name.into(), params, result: "bytes".into(), ..Entry::default() }
}

pub fn variadic(name: &str) -> Entry {
    Entry { variadic: true, ..entry(name, 1) }
}

pub fn work(function: Function, entry: &str, args: Vec<Arg>) -> Work {
    Work { function: Arc::new(function), entry: entry.into(), args, task: cid_of(RAW, b"a task") }
}

pub fn inline(bytes: impl AsRef<[u8]>) -> Arg {
    Arg::Inline(bytes.as_ref().to_vec())
}

pub fn exceeded(which: &str, at: u64) -> Failure {
    Failure::LimitExceeded { which: which.into(), at }
}
