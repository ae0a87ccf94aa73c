//! Scripts on the real interpreters: what they find, what they give, and how they fail.
//!
//! `scripts/interpreters` installs the interpreters and prints their folder, which `TIMEROSE_INTERPRETERS` names here.
//! `scripts/test` runs these.

#[path = "it/setup.rs"]
#[allow(dead_code, reason = "shared with the other tests, which use more of it")]
mod setup;

use std::path::{Path, PathBuf};

use timerose_core::failure::Failure;
use timerose_core::function::{Function, WASM_COMMAND};
use timerose_core::id::{RAW, cid_of};
use timerose_core::task::Arg;
use timerose_engines::{Cancel, Engine, SCRIPT_MEMORY, Work, script};

use setup::*;

const BOTH: [&str; 2] = ["python", "javascript"];

/// An engine, and both interpreters under the addresses by which scripts name them.
fn setup() -> Setup {
    let folder: PathBuf = std::env::var_os("TIMEROSE_INTERPRETERS").expect("what scripts/interpreters printed").into();
    let mut setup = Setup::new();
    for language in BOTH {
        let module = std::fs::read(folder.join(format!("{language}.wasm"))).expect("an interpreter");
        let cid = timerose_engines::interpreter(language).expect("a known language");
        setup.content.file_as(cid, module);
    }
    setup
}

/// The function of a script.
fn deploy(setup: &mut Setup, language: &str, text: &str, memory: u64) -> Function {
    let source = setup.content.file(text);
    let made = script(language, source, text.as_bytes(), memory).expect("a script");
    for file in &made.files {
        setup.content.file(*file);
    }
    let mut function = function(WASM_COMMAND, made.interpreter, made.entries);
    (function.args, function.mounts, function.limits.memory) = (made.args, made.mounts, memory);
    let module = setup.content.bytes(&made.interpreter);
    setup.engine.check(&function, &module).expect("fit to be deployed");
    function
}

/// Work of a script with text as arguments.
fn script_work(setup: &mut Setup, language: &str, text: &str, args: &[&str]) -> Work {
    work(deploy(setup, language, text, SCRIPT_MEMORY), "", args.iter().map(inline).collect())
}

fn output(setup: &mut Setup, language: &str, text: &str, args: &[&str]) -> String {
    let work = script_work(setup, language, text, args);
    String::from_utf8(setup.output(&work)).expect("UTF-8")
}

/// Exit code and last words of a script that fails.
fn failure(setup: &mut Setup, language: &str, text: &str, args: &[&str]) -> (i32, String) {
    let work = script_work(setup, language, text, args);
    match setup.failure(&work) {
        Failure::FunctionFailed { exit, stderr } => (exit, stderr),
        other => panic!("{other:?}"),
    }
}

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests/scripts").join(name);
    std::fs::read_to_string(path).expect("an example")
}

#[test]
fn a_script_reads_standard_input_and_arguments_and_its_output_is_the_result() {
    let mut setup = setup();
    for (language, file) in BOTH.into_iter().zip(["hello.py", "hello.js"]) {
        let text = example(file);
        assert_eq!(output(&mut setup, language, &text, &[]), "Hello, world!\n");
        assert_eq!(output(&mut setup, language, &text, &["Ann"]), "Hello, Ann!\n");
        assert_eq!(output(&mut setup, language, &text, &["Ann", "and", "Bob"]), "Hello, Ann and Bob!\n");
    }
}

#[test]
fn both_languages_count_the_same_words() {
    let mut setup = setup();
    let text = "The rose, the ROSE; 2026 and Zürich\nthe end 7".repeat(500);
    let linked = Arg::Link(setup.content.file(text.clone()));
    let mut counted = Vec::new();
    for (language, file) in BOTH.into_iter().zip(["wordcount.py", "wordcount.js"]) {
        let mut work = script_work(&mut setup, language, &example(file), &[]);
        work.args = vec![linked.clone()];
        counted.push(String::from_utf8(setup.output(&work)).expect("UTF-8"));
    }
    assert_eq!(counted[0], counted[1]);
    let wanted = r#"{"2026":500,"7":1,"7the":499,"and":500,"end":500,"rich":500,"rose":1000,"the":1001,"z":500}"#;
    assert_eq!(counted[0], wanted);
}

#[test]
fn a_handler_is_given_the_event_and_its_result_is_json_whatever_it_prints() {
    let mut setup = setup();
    for (language, file) in BOTH.into_iter().zip(["greet.py", "greet.js"]) {
        let text = example(file);
        let mut greeted = |args: &[&str]| -> serde_json::Value {
            serde_json::from_str(&output(&mut setup, language, &text, args)).expect("JSON")
        };
        assert_eq!(greeted(&[r#"{"name": "Ann"}"#])["body"], "Hello, Ann!");
        assert_eq!(greeted(&["Bob"])["body"], "Hello, Bob!", "text that is no JSON is itself the event");
        assert_eq!(greeted(&[])["statusCode"], 200);
    }
    let python = "def handler(event, context):\n    return [event, context.args, context.timeout_ms, context.task]";
    let javascript = "export const handler = (event, context) => [event, context.args, context.timeout_ms, context.task];";
    for (language, text) in BOTH.into_iter().zip([python, javascript]) {
        let task = cid_of(RAW, b"a task");
        let said = |event: &str, more: &str| format!(r#"[{event},[{more}],30000,"{task}"]"#);
        assert_eq!(output(&mut setup, language, text, &[r#"{"a":[1,2.5,null,true]}"#]), said(r#"{"a":[1,2.5,null,true]}"#, ""));
        assert_eq!(output(&mut setup, language, text, &["7", "b", "c"]), said("7", r#""b","c""#));
        assert_eq!(output(&mut setup, language, text, &[]), said("null", ""));
    }
}

#[test]
fn map_and_reduce_are_entries_and_reduce_takes_any_number_of_values_however_large() {
    let mut setup = setup();
    for (language, file) in BOTH.into_iter().zip(["counts.py", "counts.js"]) {
        let function = deploy(&mut setup, language, &example(file), SCRIPT_MEMORY);
        let names: Vec<&str> = function.entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["map", "reduce"]);
        let call = |entry: &str, args: Vec<Arg>| -> serde_json::Value {
            let given = work(function.clone(), entry, args);
            serde_json::from_slice(&setup.output(&given)).expect("JSON")
        };
        let first = call("map", vec![inline(&"the rose: the ROSE")]);
        assert_eq!(first, serde_json::json!({"the": 2, "rose": 2}));
        // Larger than an argument of a command may be, and behind it a line end of its own.
        let text: String = (0..20_000).map(|n| format!("w{n} the ")).collect();
        let second = call("map", vec![inline(&text)]);
        let both = vec![inline(&first.to_string()), inline(&format!("{second}\n"))];
        let sum = call("reduce", both);
        assert_eq!((&sum["the"], &sum["rose"], &sum["w19999"]), (&20_002.into(), &2.into(), &1.into()));
        let again = call("reduce", vec![inline(&sum.to_string()), inline(&first.to_string())]);
        assert_eq!(again["the"], 20_004);
        assert_eq!(call("reduce", vec![]), serde_json::json!({}));
    }
    let (python, javascript) = (
        "def map(text):\n    return {1}\ndef reduce(values):\n    return 1",
        "export const map = (text) => 1n;\nexport const reduce = () => 1;",
    );
    for (language, text) in BOTH.into_iter().zip([python, javascript]) {
        let function = deploy(&mut setup, language, text, SCRIPT_MEMORY);
        match setup.failure(&work(function, "map", vec![inline(&"a")])) {
            Failure::FunctionFailed { exit: 1, stderr } => assert!(stderr.contains("TypeError"), "{stderr}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_no_json_is_the_handlers_failure() {
    let mut setup = setup();
    for value in ["{1, 2}", "float('nan')", "[object()]", "{1: 2}", "lambda: 0"] {
        let (exit, said) = failure(&mut setup, "python", &format!("def handler(event, context):\n    return {value}"), &[]);
        assert!(exit == 1 && said.contains("TypeError: handler gave what is no JSON"), "{value}: {said}");
    }
    for value in ["1n", "() => 1", "Symbol('a')"] {
        let (exit, said) = failure(&mut setup, "javascript", &format!("export function handler() {{ return {value}; }}"), &[]);
        assert!(exit == 1 && said.contains("TypeError"), "{value}: {said}");
    }
}

#[test]
fn an_exception_is_shown_with_the_lines_of_the_script() {
    let mut setup = setup();
    let (exit, said) = failure(&mut setup, "python", "def f(x):\n    return 1 / x\n\nprint('before')\nf(0)\n", &[]);
    assert_eq!(exit, 1);
    let trace = "Traceback (most recent call last):\n  File \"/app/main.py\", line 5, in <module>\n  File \"/app/main.py\", line 2, \
                 in f\nZeroDivisionError: divide by zero\n";
    assert_eq!(said, trace);
    let (exit, said) =
        failure(&mut setup, "python", "\ndef handler(event, context):\n    print('log')\n    return event['x']\n", &[]);
    assert_eq!(exit, 1);
    let frames = "log\nTraceback (most recent call last):\n  File \"/app/main.py\", line 4, in handler\nTypeError: ";
    assert!(said.starts_with(frames) && !said.contains("/timerose/"), "{said}");
    let (exit, said) = failure(&mut setup, "javascript", "function f(x) {\n  return x.y.z;\n}\nf({});\n", &[]);
    let trace =
        "TypeError: cannot read property 'z' of undefined\n    at f (/app/main.js:2:10)\n    at <anonymous> (/app/main.js:4:1)\n";
    assert_eq!((exit, said.as_str()), (1, trace));
    let (exit, said) =
        failure(&mut setup, "javascript", "export async function handler(e) {\n  throw new Error('no');\n}\n", &[]);
    assert!(
        exit == 1 && said.starts_with("Error: no\n    at handler (/app/main.js:2:") && !said.contains("/timerose/"),
        "{said}"
    );
}

#[test]
fn a_syntax_error_and_an_exit_code_are_failures_too() {
    let mut setup = setup();
    for text in ["def f(:\n", "def handler(event, context):\n    return (\n"] {
        let (exit, said) = failure(&mut setup, "python", text, &[]);
        assert!(exit == 1 && said.contains("/app/main.py") && said.contains("SyntaxError"), "{said}");
    }
    for text in ["function f( {\n", "export function handler( {\n"] {
        let (exit, said) = failure(&mut setup, "javascript", text, &[]);
        assert!(exit == 1 && said.contains("/app/main.js") && said.contains("SyntaxError"), "{said}");
    }
    assert_eq!(failure(&mut setup, "python", "import sys\nsys.exit(3)", &[]), (3, String::new()));
    let text = "import * as std from 'qjs:std';\nstd.exit(3);";
    assert_eq!(failure(&mut setup, "javascript", text, &[]), (3, String::new()));
}

#[test]
fn limits_end_loops_and_hunger() {
    let mut setup = setup();
    for (language, text) in BOTH.into_iter().zip(["while True: pass", "for (;;);"]) {
        let mut work = script_work(&mut setup, language, text, &[]);
        let mut limited = (*work.function).clone();
        limited.limits.timeout_ms = 50;
        work.function = limited.into();
        assert_eq!(setup.failure(&work), exceeded("time", 50));
    }
    let text = "const all = [];\nfor (;;) all.push(new Uint8Array(1 << 20).fill(1));";
    let work = script_work(&mut setup, "javascript", text, &[]);
    assert_eq!(setup.failure(&work), exceeded("memory", SCRIPT_MEMORY));
    // MicroPython takes its heap at the start, so that it is Python's own error which ends a script.
    let text = "all = []\nwhile True: all.append(bytearray(1 << 20))";
    let (exit, said) = failure(&mut setup, "python", text, &[]);
    assert!(exit == 1 && said.contains("line 2") && said.contains("MemoryError"), "{said}");
    for (language, text) in BOTH.into_iter().zip(["def f(n): return f(n + 1)\nf(0)", "const f = (n) => f(n + 1) + 1;\nf(0);"]) {
        let (exit, said) = failure(&mut setup, language, text, &[]);
        assert!(exit == 1 && (said.contains("recursion depth") || said.contains("RangeError")), "{said}");
    }
}

#[test]
fn the_memory_of_the_manifest_is_the_scripts() {
    let mut setup = setup();
    let text = "held = bytearray(40 << 20)\nprint(len(held))";
    let enough = work(deploy(&mut setup, "python", text, 64 << 20), "", vec![]);
    assert_eq!(setup.output(&enough), b"41943040\n");
    let too_little = work(deploy(&mut setup, "python", text, SCRIPT_MEMORY), "", vec![]);
    assert!(matches!(setup.failure(&too_little), Failure::FunctionFailed { stderr, .. } if stderr.contains("MemoryError")));
}

#[test]
fn time_and_chance_follow_from_the_task() {
    let mut setup = setup();
    let python = "import random, time\nprint(random.random(), time.time(), hash('a'))\nprint(list({'b', 'a', 'c'}))";
    let javascript = "console.log(Math.random(), Date.now(), performance.now());";
    for (language, text) in BOTH.into_iter().zip([python, javascript]) {
        let work = script_work(&mut setup, language, text, &[]);
        let first = setup.output(&work);
        assert_eq!(first, setup.output(&work));
        let other = Work { task: cid_of(RAW, b"another task"), ..work };
        assert_ne!(first, setup.output(&other));
    }
}

#[test]
fn what_is_awaited_runs_and_sleeping_takes_no_time() {
    let mut setup = setup();
    let text = "const began = Date.now();\nawait new Promise((done) => setTimeout(done, 3600_000));\n\
                console.log(Date.now() - began >= 3600_000);";
    assert_eq!(output(&mut setup, "javascript", text, &[]), "true\n");
    assert_eq!(output(&mut setup, "python", "import time\ntime.sleep(3600)\nprint('awake')", &[]), "awake\n");
}

#[test]
fn a_script_reaches_nothing_outside() {
    let mut setup = setup();
    let python = "import os\nprint(sorted(os.listdir('/app')), os.getenv('HOME'), os.getenv('PATH'))\n\
                  for path in ['/etc/passwd', '/app/../etc/passwd']:\n    try:\n        open(path)\n        print('opened')\n    \
                  except OSError:\n        print('no')\ntry:\n    open('/app/x', 'w')\n    print('written')\nexcept OSError:\n    print('no')";
    assert_eq!(output(&mut setup, "python", python, &[]), "['main.py'] None None\nno\nno\nno\n");
    let javascript = "import * as std from 'qjs:std';\nconsole.log(std.open('/etc/passwd', 'r'), std.open('/app/x', 'w'), \
                      std.getenv('HOME'));";
    assert_eq!(output(&mut setup, "javascript", javascript, &[]), "null null undefined\n");
    // The package's own way to its own host is not here.
    let (exit, said) = failure(&mut setup, "python", "import host\nhost.call('a', '{}')", &[]);
    assert!(exit == 134 && said.contains("is not implemented"), "{said}");
}

#[test]
fn a_cancelled_script_ends() {
    let mut setup = setup();
    let work = script_work(&mut setup, "python", "while True: pass", &[]);
    let cancel = Cancel::new();
    let canceller = cancel.clone();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| setup.run_with(&work, &cancel));
        canceller.cancel();
        assert_eq!(run.join().expect("it ends"), Err(Failure::Cancelled));
    });
}

#[test]
fn text_that_is_no_script_is_refused() {
    let source = cid_of(RAW, b"");
    let refused = |language: &str, text: &[u8]| match script(language, source, text, SCRIPT_MEMORY) {
        Err(Failure::Rejected { finding }) => finding,
        other => panic!("{other:?}"),
    };
    assert!(refused("cobol", b"").contains("python, javascript or wat"));
    assert!(refused("python", b"\xff").contains("UTF-8"));
    assert!(refused("python", &[b' '; (1 << 20) + 1]).contains("over 1048576 bytes"));
}
