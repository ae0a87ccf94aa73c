//! Hostile modules: whatever the bytes, checking and describing them answers and does not panic.

use timerose_core::function::{About, Determinism, Entry, Function, Limits, Param, WASM_COMMAND, WASM_FAN};
use timerose_core::id::{RAW, cid_of};
use timerose_engines::{Engine, WasmConfig, WasmEngine, describe};

const ROUNDS: u64 = 2_000;

fn corpus() -> Vec<Vec<u8>> {
    let fan = r#"(module (memory (export "memory") 1) (global $at (mut i32) (i32.const 8)) (table 2 funcref) (elem (i32.const 0) $alloc)
        (func $alloc (export "alloc") (param i32) (result i32) (global.get $at))
        (func (export "echo") (param i32 i32) (result i32) (block (result i32) (br 0 (local.get 1)))) (data (i32.const 0) "text"))"#;
    let command = r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1 2) (func (export "_start") (drop (call 0 (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))))"#;
    let component = b"\0asm\x0d\0\x01\0".to_vec();
    let guests = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests/built");
    let built = std::fs::read(guests.join("wordcount-fan.wasm")).expect("guests/build.sh makes it");
    vec![wat::parse_str(fan).expect("a module"), wat::parse_str(command).expect("a module"), component, built]
}

fn mutate(code: &mut Vec<u8>, rng: &mut fastrand::Rng) {
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(..code.len().max(1));
        match rng.u8(..6) {
            _ if code.is_empty() => code.push(rng.u8(..)),
            0 => code[at] = rng.u8(..),
            1 => code[at] ^= 1 << rng.u8(..8),
            2 => code.truncate(at),
            3 => code.insert(at, rng.u8(..)),
            4 => drop(code.remove(at)),
            _ => {
                let copied = code[at..(at + rng.usize(..16)).min(code.len())].to_vec();
                let to = rng.usize(..code.len());
                code.splice(to..to, copied);
            }
        }
    }
}

fn function(engine: &str, entry: &str) -> Function {
    let params = vec![Param { name: "a".into(), kind: "bytes".into() }];
    Function {
        engine: engine.into(),
        code: cid_of(RAW, b"code"),
        entries: vec![Entry { name: entry.into(), params, result: "bytes".into(), ..Entry::default() }],
        determinism: Determinism::Pure,
        limits: Limits::default(),
        args: Vec::new(),
        env: Default::default(),
        mounts: Default::default(),
        about: About::default(),
    }
}

#[test]
fn no_module_makes_the_checker_panic() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let engine =
        WasmEngine::new(WasmConfig { cache_dir: dir.path().into(), max_memory: 1 << 20, instances: 1 }).expect("an engine");
    let functions = [function(WASM_FAN, "echo"), function(WASM_COMMAND, "_start")];
    let corpus = corpus();
    for seed in 0..ROUNDS {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut code = corpus[rng.usize(..corpus.len())].clone();
        mutate(&mut code, &mut rng);
        let described = describe(&code);
        let checked = functions.each_ref().map(|function| engine.check(function, &code).is_ok());
        // What passes a check is described as what it is.
        if let (Ok((name, _)), [true, false]) = (&described, checked) {
            assert_eq!(*name, WASM_FAN, "seed {seed}");
        }
    }
}
