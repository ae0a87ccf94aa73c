//! Compiled code is kept, shared by threads, and trusted only with this installation's seal.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};

use tempfile::TempDir;
use timerose_engines::{Cancel, Engine, Host, WasmEngine, WasmStats, Work};

use crate::setup::*;

fn module(name: &str) -> String {
    format!(
        r#"(module (memory (export "memory") 1) (func (export "alloc") (param i32) (result i32) (i32.const 1024))
            (func (export "name") (param i32) (result i32)
                (i32.store8 (local.get 0) (i32.const {})) (i32.const 1)))"#,
        name.as_bytes()[0]
    )
}

struct Fixture {
    dir: TempDir,
    host: Arc<dyn Host>,
    a: Work,
    b: Work,
}

impl Fixture {
    fn new() -> Self {
        let mut content = Content::default();
        let [a, b] = ["a", "b"].map(|name| {
            let code = content.file(wat::parse_str(module(name)).expect("a module"));
            work(fan(code, &[entry("name", 0)]), "name", vec![])
        });
        Fixture { dir: tempfile::tempdir().expect("a temporary folder"), host: Arc::new(content), a, b }
    }

    fn call(&self, engine: &WasmEngine, work: &Work) -> Vec<u8> {
        engine.run(work, &self.host, &Cancel::new()).expect("a good call").output
    }

    /// Runs `a` in a new engine over `dir` and tells how its code came about.
    fn a_in(&self, dir: &Path) -> WasmStats {
        let engine = engine(dir);
        assert_eq!(self.call(&engine, &self.a), b"a");
        engine.stats()
    }
}

const COMPILED: WasmStats = WasmStats { compiled: 1, loaded: 0 };
const LOADED: WasmStats = WasmStats { compiled: 0, loaded: 1 };

fn compiled_files(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|ending| ending == "cwasm")).collect();
    files.sort();
    files
}

#[test]
fn code_is_compiled_once_and_then_loaded() {
    let fixture = Fixture::new();
    let engine = engine(fixture.dir.path());
    for _ in 0..3 {
        assert_eq!(fixture.call(&engine, &fixture.a), b"a");
    }
    assert_eq!(engine.stats(), COMPILED);
    assert_eq!(fixture.a_in(fixture.dir.path()), LOADED);
}

#[test]
fn a_damaged_file_is_compiled_again() {
    let fixture = Fixture::new();
    let dir = fixture.dir.path();
    fixture.a_in(dir);
    let damages: [fn(&mut Vec<u8>); 4] =
        [|bytes| bytes[100] ^= 1, |bytes| *bytes.last_mut().unwrap() ^= 1, |bytes| bytes.truncate(20), |bytes| bytes.clear()];
    for damage in damages {
        let path = compiled_files(dir).pop().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        assert_eq!(fixture.a_in(dir), COMPILED);
        assert_eq!(fixture.a_in(dir), LOADED);
    }
}

#[test]
fn a_file_from_another_installation_is_refused() {
    let fixture = Fixture::new();
    fixture.a_in(fixture.dir.path());
    let theirs = compiled_files(fixture.dir.path()).pop().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::copy(&theirs, elsewhere.path().join(theirs.file_name().unwrap())).unwrap();
    assert_eq!(fixture.a_in(elsewhere.path()), COMPILED);
}

#[test]
fn files_cannot_stand_for_each_other() {
    let fixture = Fixture::new();
    let dir = fixture.dir.path();
    let first = engine(dir);
    fixture.call(&first, &fixture.a);
    fixture.call(&first, &fixture.b);
    let files = compiled_files(dir);
    let [one, other] = [0, 1].map(|i| fs::read(&files[i]).unwrap());
    fs::write(&files[0], other).unwrap();
    fs::write(&files[1], one).unwrap();
    let second = engine(dir);
    assert_eq!((fixture.call(&second, &fixture.a), fixture.call(&second, &fixture.b)), (b"a".to_vec(), b"b".to_vec()));
    assert_eq!(second.stats(), WasmStats { compiled: 2, loaded: 0 });
}

#[test]
fn the_key_is_private_and_a_damaged_one_is_replaced() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new();
    let dir = fixture.dir.path();
    fixture.a_in(dir);
    let key = dir.join("key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(&key, b"short").unwrap();
    assert_eq!(fixture.a_in(dir), COMPILED);
    assert_eq!(fs::metadata(&key).unwrap().len(), 32);
    assert_eq!(fixture.a_in(dir), LOADED);
}

#[test]
fn a_folder_that_is_gone_costs_time_only() {
    let fixture = Fixture::new();
    let engine = engine(fixture.dir.path());
    fs::remove_dir_all(fixture.dir.path()).unwrap();
    assert_eq!(fixture.call(&engine, &fixture.a), b"a");
}

#[test]
fn threads_that_ask_at_the_same_time_wait_for_one_compilation() {
    let fixture = Fixture::new();
    let engine = engine(fixture.dir.path());
    let together = Barrier::new(INSTANCES as usize);
    std::thread::scope(|scope| {
        for _ in 0..INSTANCES {
            scope.spawn(|| {
                together.wait();
                for _ in 0..100 {
                    assert_eq!(fixture.call(&engine, &fixture.a), b"a");
                }
            });
        }
    });
    assert_eq!(engine.stats(), COMPILED);
}
