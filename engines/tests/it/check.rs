//! What is found at deploy, and manifests for bare code.

use timerose_core::failure::Failure;
use timerose_core::function::{Function, WASM_COMMAND, WASM_FAN};
use timerose_engines::{Engine, describe};

use crate::setup::*;

const FAN: &str = r#"(module (memory (export "memory") 1)
    (func (export "alloc") (param i32) (result i32) (i32.const 0))
    (func (export "two") (param i32 i32 i32) (result i32) (i32.const 0))
    (func (export "none") (param i32) (result i32) (i32.const 0))
    (func (export "float") (param f32) (result i32) (i32.const 0))
    (func (export "silent") (param i32)))"#;
const COMMAND: &str = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
    (memory (export "memory") 1) (func (export "_start")))"#;

fn code(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).expect("a module in text form")
}

/// What `check` finds, or nothing.
fn finding(setup: &mut Setup, function: Function, code: &[u8]) -> Option<String> {
    match setup.engine.check(&function, code) {
        Ok(()) => None,
        Err(Failure::Rejected { finding }) => Some(finding),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn fit_code_passes() {
    let mut setup = Setup::new();
    let (fan_code, command_code) = (code(FAN), code(COMMAND));
    let cid = setup.content.file(fan_code.clone());
    assert_eq!(finding(&mut setup, fan(cid, &[entry("two", 2), entry("none", 0)]), &fan_code), None);
    assert_eq!(finding(&mut setup, fan(cid, &[variadic("two")]), &fan_code), None);
    assert_eq!(finding(&mut setup, command(cid), &command_code), None);
}

#[test]
fn unfit_code_is_rejected_with_the_finding() {
    let mut setup = Setup::new();
    let cid = setup.content.file("");
    let two = || fan(cid, &[entry("two", 2)]);
    let mut small = two();
    small.limits.memory = 65_535;
    let mut mounted = two();
    mounted.mounts.insert("/data".into(), cid);
    let mut strange = two();
    strange.engine = "wasm-other".into();
    let mut env = command(cid);
    env.env.insert("A=B".into(), "c".into());
    let shared = r#"(module (memory (export "memory") 1 1 shared))"#;
    let imports = FAN.replace("(module", r#"(module (import "env" "now" (func))"#);
    let foreign = COMMAND.replace("wasi_snapshot_preview1", "env");
    let global = COMMAND.replace("(func (param i32))", "(global i32)");
    let cases = [
        (two(), b"text".to_vec(), "does not begin with"),
        (two(), code(FAN)[..40].to_vec(), "not a valid wasm module"),
        (two(), b"\0asm\x0d\0\x01\0".to_vec(), "not a valid wasm module"),
        (two(), code(shared), "not a valid wasm module"),
        (two(), code(&imports), "imports nothing, but this imports env.now"),
        (two(), code(r#"(module (memory (export "memory") 1))"#), "\"alloc\""),
        (two(), code("(module)"), "does not export its memory"),
        (two(), code(COMMAND), "imports nothing"),
        (fan(cid, &[entry("three", 3)]), code(FAN), "does not export the function \"three\""),
        (fan(cid, &[entry("two", 1)]), code(FAN), "\"two\" should take 2 i32"),
        (fan(cid, &[entry("float", 0)]), code(FAN), "\"float\" should take 1 i32"),
        (fan(cid, &[variadic("none")]), code(FAN), "\"none\" should take 3 i32"),
        (fan(cid, &[]), code(FAN), "between 1 and 256 entries"),
        (small, code(FAN), "starts with 65536 bytes of memory"),
        (mounted, code(FAN), "no arguments of its own, no environment and no mounts"),
        (strange, code(FAN), "not the name of a wasm engine"),
        (command(cid), code(&foreign), "unknown import env.proc_exit"),
        (command(cid), code(&global), "unknown import wasi_snapshot_preview1.proc_exit"),
        (command(cid), code(FAN), "\"_start\""),
        (function(WASM_COMMAND, cid, vec![entry("main", 0)]), code(COMMAND), "a program exports _start alone"),
        (env, code(COMMAND), "environment variable"),
    ];
    for (function, code, wanted) in cases {
        let found = finding(&mut setup, function, &code).unwrap_or_default();
        assert!(found.contains(wanted), "found {found:?}, wanted {wanted:?}");
    }
}

#[test]
fn bare_code_is_described_by_its_exports() {
    let (engine, entries) = describe(&code(FAN)).expect("fan code");
    let shown: Vec<String> = entries
        .iter()
        .map(|e| {
            format!(
                "{}({})->{}",
                e.name,
                e.params.iter().map(|p| format!("{}:{}", p.name, p.kind)).collect::<Vec<_>>().join(","),
                e.result
            )
        })
        .collect();
    assert_eq!((engine, shown.join(" ").as_str()), (WASM_FAN, "none()->bytes two(a:bytes,b:bytes)->bytes"));
    let (engine, entries) = describe(&code(COMMAND)).expect("a command");
    assert_eq!(engine, WASM_COMMAND);
    assert!(matches!(&entries[..], [only] if only.name == "_start" && only.variadic));
    for neither in ["(module)", r#"(module (memory (export "memory") 1))"#, &COMMAND.replace("wasi_snapshot_preview1", "env")] {
        assert!(matches!(describe(&code(neither)), Err(Failure::Rejected { .. })), "{neither}");
    }
}

#[test]
fn what_check_refuses_does_not_run_either() {
    let mut setup = Setup::new();
    for wat in
        [FAN.replace("(module", r#"(module (import "env" "now" (func))"#), r#"(module (memory (export "memory") 1))"#.into()]
    {
        let cid = setup.wat(&wat);
        let failure = setup.failure(&work(fan(cid, &[entry("two", 2)]), "two", vec![inline(""), inline("")]));
        assert!(matches!(failure, Failure::Rejected { .. }), "{failure:?}");
    }
    let cid = setup.content.file("not wasm");
    assert!(matches!(setup.failure(&work(command(cid), "", vec![])), Failure::Rejected { .. }));
}
