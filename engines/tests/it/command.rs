//! Runs of `wasm-command` programs: streams, arguments, time, randomness, the end.

use timerose_core::failure::Failure;
use timerose_core::function::{Entry, Function, WASM_COMMAND};
use timerose_core::id::{RAW, cid_of};
use timerose_core::record;
use timerose_core::task::{Arg, INLINE_MAX};

use crate::setup::*;

/// A program around `body`, with the calls that the tests use. `$say` writes bytes to a stream.
fn program(body: &str) -> String {
    format!(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_seek" (func $fd_seek (param i32 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
        (import "wasi_snapshot_preview1" "sock_shutdown" (func $sock_shutdown (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "path_create_directory" (func $path_create_directory (param i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "from_the_future" (func $from_the_future))
        (memory (export "memory") 2)
        (data (i32.const 16) "oops")
        (func $say (param $fd i32) (param $at i32) (param $length i32)
            (i32.store (i32.const 0) (local.get $at))
            (i32.store (i32.const 4) (local.get $length))
            (if (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable)))
        (func (export "_start") (local $n i32)
        {body}))"#
    )
}

/// Copies standard input to standard output, 1000 bytes at a time.
const CAT: &str = r#"(loop
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (i32.const 1000))
    (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
    (local.set $n (i32.load (i32.const 8)))
    (if (local.get $n) (then (call $say (i32.const 1) (i32.const 1024) (local.get $n)) (br 1))))"#;

/// Writes the numbers that some calls answered, one byte each.
fn answers(calls: &[&str]) -> String {
    let mut body = String::new();
    for (index, call) in calls.iter().enumerate() {
        body += &format!("(i32.store8 (i32.const {}) (call {call}))\n", 2048 + index);
    }
    body + &format!("(call $say (i32.const 1) (i32.const 2048) (i32.const {}))", calls.len())
}

#[test]
fn standard_input_becomes_standard_output() {
    let mut setup = Setup::new();
    let code = setup.wat(&program(CAT));
    let text: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
    let link = Arg::Link(setup.content.file(text.clone()));
    let exit = setup.run(&work(command(code), "", vec![link])).expect("a copy");
    assert!(exit.output == text);
    assert_eq!((exit.input, exit.memory), (200_000, 131_072));
    assert_eq!(setup.output(&work(command(code), "_start", vec![inline("inline")])), b"inline");
    assert_eq!(setup.output(&work(command(code), "", vec![])), b"");
}

#[test]
fn all_arguments_are_standard_input_where_the_entry_says_so() {
    let mut setup = Setup::new();
    let code = setup.wat(&program(CAT));
    let joined = Entry { export: "_start".into(), joined: true, ..variadic("all") };
    let function = function(WASM_COMMAND, code, vec![variadic("_start"), joined]);
    // Longer than what is read ahead, so that a part is read on its own and together with what is around it.
    let text: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
    let link = Arg::Link(setup.content.file(text.clone()));
    let args = vec![inline("first"), inline(""), link, inline(b"\xff\0")];
    let exit = setup.run(&work(function.clone(), "all", args)).expect("a copy");
    assert!(exit.output == [b"first\n\n", &text[..], b"\n\xff\0\n"].concat());
    assert_eq!(exit.input, 200_000 + 11);
    assert_eq!(setup.output(&work(function.clone(), "all", vec![])), b"");
    assert_eq!(setup.output(&work(function, "_start", vec![inline("first")])), b"first");
}

#[test]
fn standard_input_is_a_file_that_can_be_read_again() {
    let mut setup = Setup::new();
    let rewind = "(if (call $fd_seek (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 8)) (then unreachable))";
    let code = setup.wat(&program(&format!("{CAT} {rewind} {CAT}")));
    assert_eq!(setup.output(&work(command(code), "", vec![inline("twice")])), b"twicetwice");
}

#[test]
fn arguments_and_environment_arrive_in_order() {
    let mut setup = Setup::new();
    let strings = |what: &str| {
        format!(
            "(drop (call ${what}_sizes_get (i32.const 0) (i32.const 4))) (local.set $n (i32.load (i32.const 4)))
             (drop (call ${what}_get (i32.const 1024) (i32.const 4096))) (call $say (i32.const 1) (i32.const 4096) (local.get $n))"
        )
    };
    let code = setup.wat(&program(&(strings("args") + &strings("environ"))));
    let mut function = command(code);
    function.env.insert("B".into(), "2".into());
    function.env.insert("A".into(), "1".into());
    function.args = vec!["own".into()];
    function.entries[0].args = vec!["own 2".into()];
    let file = Arg::Link(setup.content.file("from a file"));
    let args = vec![inline(""), inline("first"), file.clone()];
    let output = |function: &Function| {
        let work = work(function.clone(), "", args.clone());
        let own = format!(
            "TIMEROSE_FUNCTION={}\0TIMEROSE_TASK={}\0TIMEROSE_TIMEOUT_MS=30000\0",
            record::address(function).0,
            work.task
        );
        let said = setup.output(&work);
        let (before, after) = said.split_at(said.len() - own.len());
        assert_eq!(String::from_utf8_lossy(after), own);
        String::from_utf8_lossy(before).into_owned()
    };
    assert_eq!(output(&function), "main\0own\0own 2\0first\0from a file\0A=1\0B=2\0");
    function.about.name = "named".into();
    // What the program is told of itself is true, whatever the manifest says.
    function.env.insert("TIMEROSE_TASK".into(), "another".into());
    assert_eq!(output(&function), "named\0own\0own 2\0first\0from a file\0A=1\0B=2\0");
    let long = Arg::Link(setup.content.file("x".repeat(INLINE_MAX + 1)));
    for bad in [inline(b"\xff"), inline(b"a\0b"), long] {
        let failure = setup.failure(&work(function.clone(), "", vec![inline(""), file.clone(), bad]));
        assert!(matches!(failure, Failure::BadArgument { index: 2, .. }), "{failure:?}");
    }
}

#[test]
fn an_exit_code_is_the_programs_failure_with_its_last_words() {
    let mut setup = Setup::new();
    let oops = "(call $say (i32.const 2) (i32.const 16) (i32.const 4))";
    let code = setup.wat(&program(&format!("{oops} (call $proc_exit (i32.const 3))")));
    let failed = |exit: i32, stderr: &str| Failure::FunctionFailed { exit, stderr: stderr.into() };
    assert_eq!(setup.failure(&work(command(code), "", vec![])), failed(3, "oops"));
    let code = setup.wat(&program(&format!("{oops} unreachable")));
    let Failure::FunctionFailed { exit: 134, stderr } = setup.failure(&work(command(code), "", vec![])) else {
        panic!("no trap")
    };
    assert!(stderr.starts_with("oops\nwasm trap: wasm `unreachable` instruction executed\n"), "{stderr}");
    // 64 KiB of noise, of which the end is kept.
    let noise = format!("(call $say (i32.const 2) (i32.const 1024) (i32.const 65536)) {oops} (call $proc_exit (i32.const 1))");
    let code = setup.wat(&program(&noise));
    let Failure::FunctionFailed { exit: 1, stderr } = setup.failure(&work(command(code), "", vec![])) else { panic!("no exit") };
    assert!(stderr.len() == 4096 && stderr.ends_with("oops"), "{}", stderr.len());
    let code =
        setup.wat(&program("(call $say (i32.const 1) (i32.const 16) (i32.const 4)) (call $proc_exit (i32.const 0)) unreachable"));
    assert_eq!(setup.output(&work(command(code), "", vec![])), b"oops");
}

#[test]
fn limits_hold_for_programs_too() {
    let mut setup = Setup::new();
    let code = setup.wat(&program(CAT));
    let mut function = command(code);
    function.limits.output = 1500;
    let text = inline("x".repeat(1501));
    assert_eq!(setup.failure(&work(function, "", vec![text])), exceeded("output", 1500));
    let mut function = command(setup.wat(&program("(loop (br 0))")));
    function.limits.timeout_ms = 30;
    assert_eq!(setup.failure(&work(function.clone(), "", vec![])), exceeded("time", 30));
    function.limits.fuel = Some(1000);
    assert_eq!(setup.failure(&work(function, "", vec![])), exceeded("fuel", 1000));
    let hungry = "(if (i32.eq (memory.grow (i32.const 2000)) (i32.const -1)) (then unreachable))";
    let function = command(setup.wat(&program(hungry)));
    assert_eq!(setup.failure(&work(function, "", vec![])), exceeded("memory", 16 << 20));
    // The same for a program that notices and gives up in good order.
    let gives_up = "(if (i32.eq (memory.grow (i32.const 2000)) (i32.const -1)) (then (call $proc_exit (i32.const 1))))";
    let function = command(setup.wat(&program(gives_up)));
    assert_eq!(setup.failure(&work(function, "", vec![])), exceeded("memory", 16 << 20));
}

/// A library whose `malloc` gives the end of a page, and whose `main` writes its arguments out and gives their number - 1.
const LIBRARY: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (global $began (mut i32) (i32.const 0))
    (func (export "_initialize") (global.set $began (i32.const 1)))
    (func (export "malloc") (param i32) (result i32)
        (if (result i32) (global.get $began) (then (i32.const 1024)) (else (i32.const 0))))
    (func (export "fills") (param i32 i32) (result i32)
        (i32.sub (local.get 0) (i32.const 3)))
    (func (export "main") (param i32 i32) (result i32)
        (i32.store (i32.const 0) (i32.load (i32.add (local.get 1) (i32.const 4))))
        (i32.store (i32.const 4) (i32.sub (i32.load (i32.add (local.get 1) (i32.const 8))) (i32.load (i32.const 0))))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (i32.load (i32.add (local.get 1) (i32.mul (local.get 0) (i32.const 4))))))"#;

#[test]
fn a_function_of_a_library_is_called_as_main_is() {
    let mut setup = Setup::new();
    let code = setup.wat(LIBRARY);
    let library = |entry: &str| {
        let mut function = function(WASM_COMMAND, code, vec![variadic(entry)]);
        function.args = vec!["own".into()];
        function
    };
    // The second of three, up to where the third begins; the array ends with a null pointer, which is what it exits with.
    assert_eq!(setup.output(&work(library("main"), "", vec![inline("stdin"), inline("more")])), b"own\0");
    assert_eq!(setup.output(&work(library("fills"), "", vec![inline("stdin"), inline("more")])), b"");
    let failure = setup.failure(&work(library("fills"), "", vec![inline("stdin"), inline("more"), inline("most")]));
    assert_eq!(failure, Failure::FunctionFailed { exit: 1, stderr: String::new() });
    let code = setup.wat(&LIBRARY.replace("(i32.const 1024)", "(i32.const 65533)"));
    let far = function(WASM_COMMAND, code, vec![variadic("main")]);
    let Failure::FunctionFailed { exit: 134, stderr } = setup.failure(&work(far, "", vec![])) else { panic!("no failure") };
    assert!(stderr.contains("malloc gave no room"), "{stderr}");
}

#[test]
fn the_device_of_randomness_gives_what_the_call_gives() {
    let mut setup = Setup::new();
    // Descriptor 3 is /dev, where nothing is mounted.
    let open = r#"(i64.store (i32.const 1024) (i64.const 0x6d6f646e617275))
        (if (call $path_open (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const 7) (i32.const 0) (i64.const 2)
            (i64.const 0) (i32.const 0) (i32.const 1032)) (then unreachable))
        (i32.store (i32.const 0) (i32.const 2048)) (i32.store (i32.const 4) (i32.const 32))
        (if (call $fd_read (i32.load (i32.const 1032)) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
        (call $say (i32.const 1) (i32.const 2048) (i32.const 32))"#;
    let import = r#"(module (import "wasi_snapshot_preview1" "path_open"
        (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))"#;
    let device = setup.wat(&program(open).replacen("(module", import, 1));
    let call =
        "(drop (call $random_get (i32.const 2048) (i32.const 32))) (call $say (i32.const 1) (i32.const 2048) (i32.const 32))";
    let call = setup.wat(&program(call));
    let (device, call) = (work(command(device), "", vec![]), work(command(call), "", vec![]));
    assert_eq!(setup.output(&device), setup.output(&call));
}

#[test]
fn exceptions_are_caught_and_cost_no_more_memory_the_oftener_they_are_thrown() {
    let mut setup = Setup::new();
    let throw = "(local.set $n (i32.const 3000000))
        (loop
            (block $caught (try_table (catch $oops $caught) (throw $oops)))
            (local.set $n (i32.sub (local.get $n) (i32.const 1)))
            (br_if 0 (local.get $n)))
        (call $say (i32.const 1) (i32.const 16) (i32.const 4))";
    let code = setup.wat(&program(throw).replacen("(memory", "(tag $oops) (memory", 1));
    assert_eq!(setup.output(&work(command(code), "", vec![])), b"oops");
    let code = setup.wat(&program("(throw $oops)").replacen("(memory", "(tag $oops) (memory", 1));
    assert!(matches!(setup.failure(&work(command(code), "", vec![])), Failure::FunctionFailed { exit: 134, .. }));
}

#[test]
fn time_and_randomness_follow_from_the_task() {
    let mut setup = Setup::new();
    let code = setup.wat(&program(
        "(drop (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 1024)))
         (drop (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 1032)))
         (drop (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 1040)))
         (drop (call $random_get (i32.const 1048) (i32.const 40)))
         (drop (call $random_get (i32.const 1088) (i32.const 40)))
         (call $say (i32.const 1) (i32.const 1024) (i32.const 104))",
    ));
    let one = work(command(code), "", vec![]);
    let mut other = one.clone();
    other.task = cid_of(RAW, b"another task");
    let (first, second) = (setup.output(&one), setup.output(&other));
    assert_eq!(first, setup.output(&one));
    let number = |at: usize| u64::from_le_bytes(first[at..at + 8].try_into().unwrap());
    assert!((946_684_800..2_147_483_648).contains(&(number(0) / 1_000_000_000)), "between 2000 and 2038");
    assert_eq!((number(8), number(16)), (2_000, 3_000));
    assert_ne!(first[24..64], first[64..]);
    assert!(first[..8] != second[..8] && first[24..] != second[24..]);
}

#[test]
fn sleeping_moves_the_clock_and_takes_no_time() {
    let mut setup = Setup::new();
    // One subscription: clock 1, an hour from now.
    let code = setup.wat(&program(
        "(i64.store (i32.const 1024) (i64.const 77)) (i32.store (i32.const 1040) (i32.const 1))
         (i64.store (i32.const 1048) (i64.const 3600000000000))
         (if (call $poll_oneoff (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 8)) (then unreachable))
         (i32.store (i32.const 2044) (i32.load (i32.const 8)))
         (drop (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 2080)))
         (call $say (i32.const 1) (i32.const 2044) (i32.const 44))",
    ));
    let output = setup.output(&work(command(code), "", vec![]));
    assert_eq!(output[..4], 1_u32.to_le_bytes(), "one event");
    assert_eq!(output[4..12], 77_u64.to_le_bytes(), "of this subscription");
    assert_eq!(output[12..36], [0; 24], "without an error");
    assert_eq!(output[36..44], (3_600_000_000_000_u64 + 1_000).to_le_bytes());
}

#[test]
fn calls_answer_with_their_errors() {
    let mut setup = Setup::new();
    let calls = [
        "$sock_shutdown (i32.const 3) (i32.const 0)",                                 // ENOSYS
        "$path_create_directory (i32.const 3) (i32.const 0) (i32.const 1)",           // EROFS
        "$fd_read (i32.const 9) (i32.const 0) (i32.const 0) (i32.const 8)",           // EBADF
        "$fd_read (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)",           // EBADF
        "$fd_seek (i32.const 9) (i64.const 0) (i32.const 0) (i32.const 8)",           // EBADF
        "$fd_seek (i32.const 1) (i64.const 0) (i32.const 0) (i32.const 8)",           // ESPIPE
        "$fd_seek (i32.const 0) (i64.const -1) (i32.const 0) (i32.const 8)",          // EINVAL
        "$fd_write (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8)",          // EROFS
        "$fd_write (i32.const 1) (i32.const -4) (i32.const 1) (i32.const 8)",         // EFAULT
        "$fd_write (i32.const 1) (i32.const 0) (i32.const 100000) (i32.const 8)",     // EINVAL
        "$random_get (i32.const 131064) (i32.const 16)",                              // EFAULT
        "$clock_time_get (i32.const 9) (i64.const 0) (i32.const 8)",                  // EINVAL
        "$poll_oneoff (i32.const 1024) (i32.const 2048) (i32.const 0) (i32.const 8)", // EINVAL
        "$poll_oneoff (i32.const 131064) (i32.const 2048) (i32.const 1) (i32.const 8)", // EFAULT
        "$args_get (i32.const -2) (i32.const 0)",                                     // EFAULT
    ];
    let code = setup.wat(&program(&answers(&calls)));
    assert_eq!(setup.output(&work(command(code), "", vec![])), [52, 69, 8, 8, 8, 70, 28, 69, 21, 28, 21, 28, 28, 21, 21]);
    let code = setup.wat(&program("(call $from_the_future)"));
    let failure = setup.failure(&work(command(code), "", vec![]));
    assert!(
        matches!(&failure, Failure::FunctionFailed { stderr, .. } if stderr.contains("from_the_future is not implemented")),
        "{failure:?}"
    );
}

#[test]
fn a_known_call_with_another_signature_is_rejected() {
    let mut setup = Setup::new();
    let code = setup
        .wat(&program("").replace("\"proc_exit\" (func $proc_exit (param i32))", "\"proc_exit\" (func $proc_exit (param i64))"));
    assert!(matches!(setup.failure(&work(command(code), "", vec![])), Failure::Rejected { .. }));
}
