//! Scripts as their users meet them: real processes, the real interpreters, and the page of the book about them.
//!
//! Needs what `scripts/interpreters` installs; `scripts/test` runs these.

#[path = "mesh/world.rs"]
#[allow(dead_code, reason = "shared with the mesh tests, which use more of it")]
mod world;

use std::path::{Path, PathBuf};
use std::process::Command;
use world::World;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn example(name: &str) -> String {
    root().join("guests/scripts").join(name).to_str().expect("UTF-8").to_string()
}

#[test]
fn the_installed_interpreters_are_those_that_functions_name() {
    let world = World::new();
    let folder: PathBuf = std::env::var_os("TIMEROSE_INTERPRETERS").expect("what scripts/interpreters printed").into();
    for (language, file) in [("python", "hello.py"), ("javascript", "hello.js")] {
        let module = folder.join(format!("{language}.wasm"));
        let added = world.command(&world.path("home"), &["add", module.to_str().expect("UTF-8")]).ok();
        let deployed = world.command(&world.path("home"), &["deploy", &example(file), "-o", "json"]).json();
        assert_eq!(deployed["code"], added);
    }
}

#[test]
fn a_script_runs_at_once_where_nothing_was_installed_by_hand() {
    let world = World::new();
    for file in ["hello.py", "hello.js"] {
        let said = world.command(&world.path("home"), &["run", &example(file), "--arg", "Ann"]);
        assert_eq!(said.stdout, "Hello, Ann!\n", "{}", said.stderr);
        assert!(said.stderr.starts_with("function bafyrei"), "{}", said.stderr);
    }
    let text = world.write("text", "the rose and the time");
    let arg = format!("@{}", text.display());
    for file in ["wordcount.py", "wordcount.js"] {
        let said = world.command(&world.path("home"), &["run", &example(file), "--arg", &arg]).ok();
        assert_eq!(said, r#"{"and":1,"rose":1,"the":2,"time":1}"#);
    }
    let wat = r#"(module (memory (export "memory") 1) (func (export "alloc") (param i32) (result i32) (i32.const 1024))
        (func (export "same") (param i32 i32) (result i32) (local.get 1)))"#;
    let wat = world.write("same.wat", wat).display().to_string();
    assert_eq!(world.command(&world.path("home"), &["run", &wat, "--arg", "as it is"]).ok(), "as it is");
    let broken = world.write("broken.wat", "(module (func (export").display().to_string();
    let said = world.command(&world.path("home"), &["deploy", &broken]);
    assert!(said.code == 2 && said.stderr.contains("Rejected") && said.stderr.contains("no WebAssembly"), "{}", said.stderr);
}

#[test]
fn a_node_that_has_no_interpreter_runs_a_script_by_its_cid_alone() {
    let world = World::new();
    let (a, b) = (world.did("a"), world.did("b"));
    // The first deploys and does not execute; all that the second runs comes as blocks.
    let first = world.node("a", &["--trust", &b, "--roles", "scheduler,store"]);
    let second = world.node("b", &["--trust", &a, "--join", &first.addr()]);
    for node in [&first, &second] {
        node.wait_for("members_connected", |members| members == 2);
    }
    for (file, size) in [("greet.py", 370_907), ("greet.js", 1_530_391)] {
        let before = second.metric("block_bytes_received_total");
        let function = world.command(&first.dir, &["deploy", &example(file)]).ok();
        let event = r#"{"name": "Ann"}"#;
        let answer = world.command(&first.dir, &["call", &function, "--arg", event, "-o", "json"]).json();
        assert_eq!(answer["executor"], second.id());
        let result = world.command(&first.dir, &["cat", answer["result"].as_str().expect("a CID")]).json();
        assert_eq!(result["body"], "Hello, Ann!");
        assert!(second.metric("block_bytes_received_total") - before >= size, "{file}");
        // It can be called through the second as well, which never saw the script's file.
        let said = world.command(&second.dir, &["call", &function, "--arg", "Bob", "--cat"]).json();
        assert_eq!(said["body"], "Hello, Bob!");
    }
}

#[test]
fn a_scripts_failure_is_its_own_traceback_and_an_exit_code() {
    let world = World::new();
    let home = world.path("home");
    let said = |name: &str, text: &str| {
        let file = world.write(name, text).display().to_string();
        world.command(&home, &["run", &file])
    };
    let error = said("boom.py", "def f():\n    return {}['x']\nf()\n");
    assert_eq!((error.code, error.stdout.as_str()), (5, ""));
    assert!(error.stderr.contains("FunctionFailed") && error.stderr.contains("line 2, in f\nKeyError: x"), "{}", error.stderr);
    let error = said("boom.js", "throw new RangeError('no');\n");
    assert!(error.code == 5 && error.stderr.contains("RangeError: no\n    at <anonymous> (/app/main.js:1:"), "{}", error.stderr);
    let error = said("syntax.py", "if True\n");
    assert!(error.code == 5 && error.stderr.contains("SyntaxError"), "{}", error.stderr);
    let manifest = world.write("short.toml", "[limits]\ntimeout_ms = 50\n").display().to_string();
    let endless = world.write("endless.js", "for (;;);\n").display().to_string();
    let error = world.command(&home, &["run", &endless, "--manifest", &manifest]);
    assert!(error.code == 5 && error.stderr.contains("LimitExceeded"), "{}", error.stderr);
    let told = world.write("told.toml", "engine = \"wasm-fan\"\n").display().to_string();
    let error = world.command(&home, &["run", &endless, "--manifest", &told]);
    assert!(error.code == 2 && error.stderr.contains("follows from the script"), "{}", error.stderr);
}

#[test]
fn the_page_about_scripts_leads_where_it_says() {
    let page = std::fs::read_to_string(root().join("docs/scripts.md")).expect("the page");
    let home = tempfile::tempdir().expect("a folder");
    let mut script = String::from("set -euo pipefail\n");
    let mut inside = false;
    for line in page.lines() {
        match line.trim() {
            "```sh" => inside = true,
            "```" => inside = false,
            _ if inside => script.push_str(&format!("{line}\n")),
            _ => {}
        }
    }
    assert!(script.matches("timerose run").count() >= 4, "the page has lost its commands");
    let program = Path::new(env!("CARGO_BIN_EXE_timerose")).parent().expect("a folder");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("bash");
    shell.arg("-c").arg(&script).current_dir(root()).env("PATH", path).env("TIMEROSE_PATH", home.path());
    let ran = shell.output().expect("run");
    let (stdout, stderr) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{stdout}\n{stderr}");
    for wanted in ["Hello, Ann!", r#"{"statusCode":200,"body":"Hello, Ann!"}"#, "mount     /app/main.py", r#""scheduler":"#] {
        assert!(stdout.contains(wanted), "no {wanted:?} in\n{stdout}");
    }
}
