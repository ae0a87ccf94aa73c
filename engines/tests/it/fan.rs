//! Calls of `wasm-fan` code: the ABI, and each way in which a call can fail.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use cid::Cid;
use timerose_core::failure::Failure;
use timerose_core::function::{Function, Limits};
use timerose_core::task::Arg;
use timerose_engines::{Cancel, Engine, Host, HostEntry, WasmConfig, WasmEngine};

use crate::setup::*;

/// Entries for everything that a guest can do, good and bad.
const ENTRIES: &str = r#"(module
    (memory (export "memory") 2)
    (global $at (mut i32) (i32.const 1024))
    (func (export "alloc") (param i32) (result i32) ALLOC)
    (func (export "echo") (param i32 i32) (result i32) (local.get 1))
    (func (export "join") (param i32 i32 i32) (result i32) (i32.add (local.get 1) (local.get 2)))
    (func (export "hello") (param i32) (result i32)
        (i32.store (local.get 0) (i32.const 0x6c6c6568)) (i32.const 4))
    (func (export "all") (param i32 i32 i32) (result i32) (local i32)
        (block (loop
            (br_if 1 (i32.eqz (local.get 2)))
            (local.set 3 (i32.add (local.get 3) (i32.load (local.get 1))))
            (local.set 1 (i32.add (local.get 1) (i32.const 4)))
            (local.set 2 (i32.sub (local.get 2) (i32.const 1)))
            (br 0)))
        (local.get 3))
    (func $inner unreachable)
    (func $outer (export "trap") (param i32 i32) (result i32) (call $inner) (i32.const 0))
    (func (export "spin") (param i32 i32) (result i32) (loop (br 0)) (i32.const 0))
    (func $down (export "recurse") (param i32 i32) (result i32)
        (i32.add (call $down (local.get 0) (local.get 1)) (i32.const 1)))
    (func (export "grow") (param i32 i32) (result i32)
        (if (i32.eq (memory.grow (i32.const 2000)) (i32.const -1)) (then unreachable))
        (i32.const 0))
    (func (export "far") (param i32 i32) (result i32) (i32.const 0x7fffffff))
    (func (export "minus") (param i32 i32) (result i32) (i32.const -1))
    (func (export "nan") (param i32 i32) (result i32)
        (f32.store (local.get 0) (f32.div (f32.const -0) (f32.const 0))) (i32.const 4)))"#;

/// Allocates upwards from 1024, with a gap after each block.
const UPWARDS: &str = "(global.get $at)
    (global.set $at (i32.add (i32.add (global.get $at) (local.get 0)) (i32.const 16)))";

fn with_alloc(alloc: &str) -> String {
    ENTRIES.replace("ALLOC", alloc)
}

fn function(setup: &mut Setup) -> Function {
    let code = setup.wat(&with_alloc(UPWARDS));
    let one = ["echo", "trap", "spin", "recurse", "grow", "far", "minus", "nan"].map(|name| entry(name, 1));
    let mut entries = vec![entry("hello", 0), entry("join", 2), { variadic("all") }];
    entries.extend(one);
    fan(code, &entries)
}

fn limited(setup: &mut Setup, limits: impl FnOnce(&mut Limits)) -> Function {
    let mut function = function(setup);
    limits(&mut function.limits);
    function
}

#[test]
fn arguments_lie_one_after_another_and_the_result_takes_their_place() {
    let mut setup = Setup::new();
    let function = function(&mut setup);
    let link = Arg::Link(setup.content.file("x".repeat(2500)));
    let joined = setup.run(&work(function.clone(), "join", vec![link, inline("end")])).expect("a join");
    assert_eq!(joined.output, ["x".repeat(2500).as_str(), "end"].concat().as_bytes());
    assert_eq!((joined.input, joined.memory), (2503, 2 * 65536));
    assert_eq!(setup.output(&work(function.clone(), "hello", vec![])), b"hell");
    assert_eq!(setup.output(&work(function, "echo", vec![inline("")])), b"");
}

#[test]
fn a_variadic_entry_takes_any_number_of_arguments() {
    let mut setup = Setup::new();
    let function = function(&mut setup);
    for count in [0, 1, 7, 300] {
        let args: Vec<Arg> = (0..count).map(|i| inline(format!("<{i}>"))).collect();
        let all: String = (0..count).map(|i| format!("<{i}>")).collect();
        assert_eq!(String::from_utf8(setup.output(&work(function.clone(), "all", args))).unwrap(), all);
    }
}

#[test]
fn a_trap_names_the_functions_it_happened_in() {
    let mut setup = Setup::new();
    let function = function(&mut setup);
    let Failure::FunctionFailed { exit: 134, stderr } = setup.failure(&work(function, "trap", vec![inline("")])) else {
        panic!("no trap")
    };
    assert_eq!(stderr, "wasm trap: wasm `unreachable` instruction executed\n  in inner\n  in outer");
}

#[test]
fn a_call_stack_without_end_is_the_functions_failure() {
    let mut setup = Setup::new();
    let function = function(&mut setup);
    let Failure::FunctionFailed { exit: 134, stderr } = setup.failure(&work(function, "recurse", vec![inline("")])) else {
        panic!("no trap")
    };
    assert!(stderr.starts_with("wasm trap: call stack exhausted\n  in down\n"), "{stderr}");
}

#[test]
fn time_is_limited() {
    let mut setup = Setup::new();
    let function = limited(&mut setup, |limits| limits.timeout_ms = 30);
    assert_eq!(setup.failure(&work(function, "spin", vec![inline("")])), exceeded("time", 30));
}

#[test]
fn memory_is_limited_as_it_grows_and_from_the_start() {
    let mut setup = Setup::new();
    let over = exceeded("memory", 16 << 20);
    let growing = function(&mut setup);
    assert_eq!(setup.failure(&work(growing, "grow", vec![inline("")])), over);
    let code = setup.wat(&with_alloc(UPWARDS).replace("\"memory\") 2", "\"memory\") 300"));
    assert_eq!(setup.failure(&work(fan(code, &[entry("echo", 1)]), "", vec![inline("")])), over);
    for no in ["0", "-1"] {
        let alloc = format!("(drop (memory.grow (i32.const 2000))) (i32.const {no})");
        let code = setup.wat(&with_alloc(&alloc));
        assert_eq!(setup.failure(&work(fan(code, &[entry("echo", 1)]), "", vec![inline("")])), over, "alloc gave {no}");
    }
}

#[test]
fn input_is_limited_before_anything_is_allocated() {
    let mut setup = Setup::new();
    let function = limited(&mut setup, |limits| limits.memory = 131_072);
    let big = Arg::Link(setup.content.file(vec![0; 65_537]));
    assert_eq!(setup.failure(&work(function, "echo", vec![big])), exceeded("input", 65_536));
}

#[test]
fn output_is_limited() {
    let mut setup = Setup::new();
    let function = limited(&mut setup, |limits| limits.output = 3);
    assert_eq!(setup.output(&work(function.clone(), "echo", vec![inline("abc")])), b"abc");
    assert_eq!(setup.failure(&work(function, "echo", vec![inline("abcd")])), exceeded("output", 3));
}

#[test]
fn fuel_is_limited_where_it_is_asked_for() {
    let mut setup = Setup::new();
    let function = limited(&mut setup, |limits| limits.fuel = Some(10_000));
    assert_eq!(setup.output(&work(function.clone(), "echo", vec![inline("abc")])), b"abc");
    assert_eq!(setup.failure(&work(function, "spin", vec![inline("")])), exceeded("fuel", 10_000));
}

#[test]
fn places_outside_of_memory_are_the_functions_failure() {
    let mut setup = Setup::new();
    let function = function(&mut setup);
    for name in ["far", "minus"] {
        let failure = setup.failure(&work(function.clone(), name, vec![inline("")]));
        assert!(
            matches!(&failure, Failure::FunctionFailed { stderr, .. } if stderr.contains("outside of its 131072 bytes")),
            "{failure:?}"
        );
    }
    let code = setup.wat(&with_alloc("(i32.const 131072)"));
    let failure = setup.failure(&work(fan(code, &[entry("echo", 1)]), "", vec![inline("x")]));
    assert!(matches!(failure, Failure::FunctionFailed { .. }), "{failure:?}");
}

#[test]
fn a_call_must_fit_the_manifest_and_the_manifest_the_code() {
    let mut setup = Setup::new();
    let function = function(&mut setup);
    let bad = |failure: Failure| matches!(failure, Failure::BadArgument { .. });
    assert!(bad(setup.failure(&work(function.clone(), "nothing", vec![]))));
    assert!(bad(setup.failure(&work(function.clone(), "echo", vec![]))));
    assert!(bad(setup.failure(&work(function.clone(), "echo", vec![inline(""), inline("")]))));
    for wrong in [entry("absent", 1), entry("echo", 2), entry("memory", 1)] {
        let function = fan(function.code, std::slice::from_ref(&wrong));
        let args = vec![inline(""); wrong.params.len()];
        assert!(matches!(setup.failure(&work(function, "", args)), Failure::Rejected { .. }), "{}", wrong.name);
    }
    let greedy = limited(&mut setup, |limits| limits.memory = MAX_MEMORY + 1);
    assert!(
        matches!(setup.failure(&work(greedy, "echo", vec![inline("")])), Failure::Rejected { finding } if finding.contains("lends at most"))
    );
}

#[test]
fn content_that_is_missing_fails_as_the_host_says() {
    let mut setup = Setup::new();
    let function = function(&mut setup);
    let missing = timerose_core::id::cid_of(timerose_core::id::RAW, b"not there");
    let failure = setup.failure(&work(function, "echo", vec![Arg::Link(missing)]));
    assert_eq!(failure, Failure::not_found(missing, 0));
}

#[test]
fn not_a_number_has_the_same_bits_everywhere() {
    let mut setup = Setup::new();
    let function = function(&mut setup);
    assert_eq!(setup.output(&work(function, "nan", vec![inline("")])), 0x7fc0_0000_u32.to_le_bytes());
}

/// Content that tells when an argument is read, and waits then for a sign.
struct Gate {
    content: Content,
    gated: Cid,
    reached: SyncSender<()>,
    go: Mutex<Receiver<()>>,
}

impl Host for Gate {
    fn size(&self, file: &Cid) -> Result<u64, Failure> {
        self.content.size(file)
    }

    fn read_at(&self, file: &Cid, offset: u64, buf: &mut [u8]) -> Result<usize, Failure> {
        if *file == self.gated && offset == 0 {
            self.reached.send(()).expect("the test listens");
            self.go.lock().expect("one reader").recv().expect("the test answers");
        }
        self.content.read_at(file, offset, buf)
    }

    fn list(&self, dir: &Cid) -> Result<Option<Vec<HostEntry>>, Failure> {
        self.content.list(dir)
    }
}

fn gate(content: &Content, gated: Cid) -> (Arc<dyn Host>, Receiver<()>, SyncSender<()>) {
    let (reached, reached_here) = sync_channel(1);
    let (go_here, go) = sync_channel(1);
    (Arc::new(Gate { content: content.clone(), gated, reached, go: Mutex::new(go) }), reached_here, go_here)
}

#[test]
fn a_run_can_be_taken_back_before_and_while_it_runs() {
    let mut setup = Setup::new();
    let function = function(&mut setup);
    let file = setup.content.file("the argument");
    let spin = work(function, "spin", vec![Arg::Link(file)]);
    let cancel = Cancel::new();
    let (host, reached, go) = gate(&setup.content, file);
    std::thread::scope(|scope| {
        let run = scope.spawn(|| setup.engine.run(&spin, &host, &cancel));
        reached.recv().expect("the run reads its argument");
        go.send(()).expect("the run waits");
        cancel.cancel();
        assert_eq!(run.join().expect("no panic"), Err(Failure::Cancelled));
    });
    assert_eq!(setup.run_with(&spin, &cancel), Err(Failure::Cancelled));
    setup.goes_on();
}

#[test]
fn a_brief_program_is_run_at_once_and_what_outstays_its_time_is_left_to_a_thread() {
    let mut setup = Setup::new();
    let function = function(&mut setup);
    let host: Arc<dyn Host> = Arc::new(setup.content.clone());
    let briefly = |work| setup.engine.run_briefly(work, &host, &Cancel::new());
    let echo = work(function.clone(), "echo", vec![inline("again and again")]);
    let spin = work(function.clone(), "spin", vec![inline("")]);
    assert_eq!(briefly(&echo), None, "nothing is known of it");
    // A machine that is busy may make a run take long, and then it is tried later again.
    let after_runs = |work| (0..10_000).find_map(|_| (setup.output(&echo) == b"again and again").then(|| briefly(work))?);
    assert_eq!(after_runs(&echo).expect("it is brief").output, b"again and again");
    while !setup.engine.is_brief(&function, &spin.args) {
        setup.output(&echo);
    }
    let file = Arg::Link(setup.content.clone().file("content"));
    assert!(!setup.engine.is_brief(&function, &[file]), "it would read");
    assert_eq!(briefly(&spin), None, "it does not end by itself");
    assert!(!setup.engine.is_brief(&function, &spin.args), "it rests");
}

#[test]
fn more_runs_than_there_is_room_for_are_the_nodes_failure() {
    let mut setup = Setup::new();
    let dir = tempfile::tempdir().unwrap();
    setup.engine = WasmEngine::new(WasmConfig { cache_dir: dir.path().into(), max_memory: MAX_MEMORY, instances: 1 }).unwrap();
    let function = function(&mut setup);
    let file = setup.content.file("the argument");
    let echo = work(function, "echo", vec![Arg::Link(file)]);
    let (host, reached, go) = gate(&setup.content, file);
    std::thread::scope(|scope| {
        let run = scope.spawn(|| setup.engine.run(&echo, &host, &Cancel::new()));
        reached.recv().expect("the run reads its argument");
        assert!(matches!(setup.run(&echo), Err(Failure::NodeFailed { .. })));
        go.send(()).expect("the run waits");
        assert_eq!(run.join().expect("no panic").expect("the first run").output, b"the argument");
    });
    setup.goes_on();
}
