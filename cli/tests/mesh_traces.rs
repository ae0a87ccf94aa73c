//! One trace through all nodes of a call, and the words of a guest as it says them: real processes.

#[path = "mesh/world.rs"]
#[allow(dead_code, reason = "shared with the mesh tests, which use more of it")]
mod world;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use world::{Node, World};

/// The trace that the tests bring along, and the span that is its cause.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CAUSE: &str = "00f067aa0ba902b7";

/// Says what would drive a terminal or a page, then counts down from `from` before it ends.
fn talker(from: &str) -> Vec<u8> {
    let text = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\10\00\00\00\17\00\00\00\27\00\00\00\04\00\00\00begun \1b[2J<script>\f0\9f\98\80\nend\n")
        (func (export "_start") (local i64)
            (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 100)))
            (local.set 0 (i64.const FROM))
            (loop (local.set 0 (i64.sub (local.get 0) (i64.const 1))) (br_if 0 (i64.ne (local.get 0) (i64.const 0))))
            (drop (call $write (i32.const 2) (i32.const 8) (i32.const 1) (i32.const 100)))))"#;
    wat::parse_str(text.replace("FROM", from)).expect("a module")
}

/// A node that runs nothing, and one that runs for it.
fn pair(world: &World) -> (Node, Node) {
    let (a, b) = (world.did("a"), world.did("b"));
    let first = world.node("a", &["--trust", &b, "--roles", "scheduler,store"]);
    let second = world.node("b", &["--trust", &a, "--join", &first.addr()]);
    for node in [&first, &second] {
        node.wait_for("members_connected", |members| members == 2);
    }
    (first, second)
}

fn deploy(world: &World, node: &Node, name: &str, code: Vec<u8>) -> String {
    let code = world.write(name, code);
    world.command(&node.dir, &["deploy", code.to_str().expect("UTF-8")]).ok()
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}

/// Calls as a part of [`TRACE`].
fn call(node: &Node, function: &str) -> Value {
    let request = agent().post(format!("http://{}/v1/call", node.api()));
    let request = request.header("traceparent", format!("00-{TRACE}-{CAUSE}-01"));
    let body = json!({"fn": function, "args": [{"text": ""}], "timeout_ms": 600_000});
    request.send_json(&body).expect("an answer").body_mut().read_json().expect("JSON")
}

#[test]
fn the_spans_of_caller_and_executor_are_of_one_trace_and_any_node_shows_them() {
    let world = World::new();
    let (a, b) = pair(&world);
    let function = deploy(&world, &a, "talker.wasm", talker("1"));
    let answer = call(&a, &function);
    assert_eq!((&answer["trace"], &answer["executor"]), (&json!(TRACE), &json!(b.id())), "{answer}");
    for node in [&a, &b] {
        let trace = world.command(&node.dir, &["trace", TRACE, "-o", "json"]).json();
        let spans = trace["spans"].as_array().expect("spans");
        let of = |name: &str| spans.iter().find(|span| span["name"] == name).unwrap_or_else(|| panic!("no {name}: {trace}"));
        let root = of("POST /v1/call");
        assert_eq!((&root["parent"], &root["node"]), (&json!(CAUSE), &json!(a.id())));
        for (name, node) in [("schedule", &a), ("execute", &b)] {
            assert_eq!((&of(name)["parent"], &of(name)["node"]), (&root["span"], &json!(node.id())), "{name}");
        }
        for part in ["fetch", "wait", "start", "run"] {
            assert_eq!(of(part)["parent"], of("execute")["span"], "{part}");
        }
        let events: Vec<&Value> = of("schedule")["events"].as_array().expect("a list").iter().map(|e| &e["name"]).collect();
        assert!(events.contains(&&json!("claimed")), "{trace}");
        assert_eq!(of("execute")["facts"]["faas.invocation_id"], answer["task"]);
        assert!(of("fetch")["facts"]["timerose.fetched_bytes"].as_u64() > Some(0), "{trace}");
    }
    let shown = world.command(&a.dir, &["trace", TRACE]).ok();
    assert!(shown.contains("  schedule") && shown.contains("    run") && shown.contains("|="), "{shown}");
    let said = world.command(&a.dir, &["trace", &"0".repeat(31)]);
    assert_eq!(said.code, 2, "{}", said.stderr);
    let said = world.command(&a.dir, &["trace", &"1".repeat(32)]);
    assert_eq!(said.code, 3, "{}", said.stderr);
}

#[test]
fn a_log_is_read_through_any_node_and_what_would_drive_a_terminal_is_escaped() {
    let world = World::new();
    let (a, b) = pair(&world);
    let function = deploy(&world, &a, "talker.wasm", talker("1"));
    let answer = call(&a, &function);
    let task = answer["task"].as_str().expect("a CID");
    for name in [task, TRACE] {
        let log = world.command(&a.dir, &["logs", name, "-o", "json"]).json();
        assert_eq!(log["text"], "begun \u{1b}[2J<script>\u{1f600}\nend\n", "{log}");
        assert_eq!((&log["node"], &log["ended"]), (&json!(b.id()), &json!(true)));
    }
    let shown = world.command(&a.dir, &["logs", task, "--follow"]).ok();
    assert_eq!(shown, "begun \\u{1b}[2J<script>\u{1f600}\nend");
    let said = world.command(&a.dir, &["logs", &function]);
    assert_eq!(said.code, 3, "{}", said.stderr);
}

#[test]
fn a_guests_words_come_while_it_runs() {
    let world = World::new();
    let (a, b) = pair(&world);
    let function = deploy(&world, &a, "slow.wasm", talker("0x400000000"));
    let mut call = std::process::Command::new(world::TIMEROSE)
        .args(["call", &function, "--arg", "", "--detach"])
        .env("TIMEROSE_PATH", &a.dir)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("started");
    assert!(call.wait().expect("it ends").success());
    let mut handle = String::new();
    BufReader::new(call.stdout.take().expect("piped")).read_line(&mut handle).expect("a line");
    let handle = handle.trim();
    let url = format!("http://{}/v1/logs/{handle}?follow=true", a.api());
    let response = agent().get(url).call().expect("an answer");
    let mut lines = BufReader::new(response.into_body().into_reader()).lines();
    let data = lines.find_map(|line| line.expect("a line").strip_prefix("data: ").map(str::to_string)).expect("an event");
    let first: Value = serde_json::from_str(&data).expect("JSON");
    assert_eq!(first["text"], "begun \u{1b}[2J<script>\u{1f600}\n", "the first words alone");
    assert_eq!(first["ended"], false);
    assert_eq!(b.metric("runs_total"), 0, "it runs still");
    world.command(&a.dir, &["cancel", handle]).ok();
}
