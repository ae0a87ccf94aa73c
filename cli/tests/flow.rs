//! Overload, slow peers, and callers that go away: real processes.

#[path = "mesh/world.rs"]
#[allow(dead_code, reason = "shared with the mesh tests, which use more of it")]
mod world;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use world::{Node, TIMEROSE, World, signal};

/// A module whose `run` gives back `done`, and whose `map` never ends; so does its `reduce`.
fn module() -> Vec<u8> {
    let text = r#"(module
        (memory (export "memory") 2)
        (data (i32.const 1024) "done")
        (func (export "alloc") (param i32) (result i32) (i32.const 1024))
        (func (export "run") (param i32 i32) (result i32) (i32.const 4))
        (func $spin (result i32) (loop (br 0)) (unreachable))
        (func (export "map") (param i32 i32) (result i32) (call $spin))
        (func (export "reduce") (param i32 i32 i32) (result i32) (call $spin)))"#;
    wat::parse_str(text).expect("a module")
}

const MANIFEST: &str = r#"
    engine = "wasm-fan"
    determinism = "pure"
    entries = [
        { name = "run", params = [{ name = "x", type = "bytes" }], result = "bytes" },
        { name = "map", params = [{ name = "x", type = "bytes" }], result = "bytes" },
        { name = "reduce", params = [{ name = "x", type = "bytes" }], variadic = true, result = "bytes" },
    ]
    [limits]
    timeout_ms = 3_600_000
"#;

/// Deploys the module at a node.
fn deploy(world: &World, node: &Node) -> String {
    let (code, manifest) = (world.write("flow.wasm", module()), world.write("flow.toml", MANIFEST));
    let text = |path: &std::path::Path| path.to_str().expect("UTF-8").to_string();
    world.command(&node.dir, &["deploy", &text(&code), "--manifest", &text(&manifest)]).ok()
}

/// All that a node may be for others, and all but running work.
const ALL: &str = "executor,scheduler,store";
const NO_EXECUTOR: &str = "scheduler,store";

/// Nodes that trust each other, by name and roles.
fn mesh<const N: usize>(world: &World, nodes: [(&str, &str); N]) -> [Node; N] {
    let dids = nodes.map(|(name, _)| world.did(name));
    let trust: Vec<&str> = dids.iter().flat_map(|did| ["--trust", did.as_str()]).collect();
    let mut join = Vec::new();
    let nodes = nodes.map(|(name, roles)| {
        let join_args: Vec<&str> = join.iter().map(String::as_str).collect();
        let node = world.node(name, &[trust.as_slice(), &["--roles", roles], &join_args].concat());
        if join.is_empty() {
            join = vec!["--join".to_string(), node.addr()];
        }
        node
    });
    for node in &nodes {
        node.wait_for("members_connected", |members| members == N as u64);
    }
    nodes
}

/// A call over a connection of its own: the status, the `Retry-After`, and the JSON.
fn post(api: &str, function: &str, entry: &str, arg: &str) -> std::io::Result<(u16, Option<String>, Value)> {
    let body = json!({"fn": function, "entry": entry, "args": [{"text": arg}], "timeout_ms": 60_000}).to_string();
    let mut stream = TcpStream::connect(api)?;
    let head =
        format!("POST /v1/call HTTP/1.1\r\nhost: {api}\r\ncontent-type: application/json\r\ncontent-length: {}", body.len());
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let (mut length, mut retry_after) = (0, None);
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        match line.trim().to_ascii_lowercase().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().unwrap_or(0),
            Some(("retry-after", value)) => retry_after = Some(value.to_string()),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok((status, retry_after, serde_json::from_slice(&body).unwrap_or_default()))
}

/// A command that is left to run.
fn begin(node: &Node, args: &[&str]) -> Child {
    let mut command = Command::new(TIMEROSE);
    command.args(args).env("TIMEROSE_PATH", &node.dir).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("started")
}

/// Interrupts a command as Ctrl-C does.
fn interrupt(mut command: Child) {
    signal(&command, "INT");
    command.wait().expect("reaped");
}

#[test]
fn a_thousand_calls_at_once_are_answered_or_told_when_to_come_back() {
    // A thousand connections are more than a process may open by default.
    let raised = Command::new("prlimit").args(["--pid", &std::process::id().to_string(), "--nofile=4096:"]).status();
    assert!(raised.is_ok_and(|status| status.success()));
    let world = World::new();
    let nodes = mesh(&world, [("a", ALL), ("b", ALL), ("c", ALL), ("d", ALL)]);
    let function = deploy(&world, &nodes[0]);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..1000)
            .map(|call| {
                let (api, function) = (nodes[call % 4].api(), &function);
                let run = move || post(api, function, "run", &call.to_string());
                std::thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, run).expect("a thread")
            })
            .collect();
        calls.into_iter().map(|call| call.join().expect("ended").expect("an answer")).collect()
    });
    let ok = answers.iter().filter(|(status, ..)| *status == 200).count();
    assert!(ok >= 990, "{ok} of 1000 have a result");
    for (status, retry_after, body) in answers.iter().filter(|(status, ..)| *status != 200) {
        assert_eq!((*status, &body["code"]), (429, &Value::from("Overloaded")), "{body}");
        assert!(retry_after.is_some() && body["retry_after_ms"].as_u64() > Some(0), "{retry_after:?} {body}");
    }
    for node in &nodes {
        node.wait_for("calls", |calls| calls == 0);
        assert!(node.any_metric("process_resident_memory_bytes") > 0 && node.any_metric("process_open_fds") > 0);
        assert!(node.any_metric("process_threads") > 0);
    }
}

#[test]
fn a_peer_that_does_not_read_delays_nobody() {
    let world = World::new();
    let [a, b, c] = mesh(&world, [("a", NO_EXECUTOR), ("b", ALL), ("c", ALL)]);
    let function = deploy(&world, &a);
    let mut answers = Vec::new();
    std::thread::scope(|scope| {
        let (of_a, of_c, function) = (a.api(), c.api(), &function);
        // c has claims at b when it stops reading; others will have claims at it.
        for call in 0..40 {
            scope.spawn(move || post(of_c, function, "map", &format!("of c {call}")));
        }
        b.wait_for("slots_used", |slots| slots == 1);
        c.signal("STOP");
        let call = |call| move || post(of_a, function, "run", &format!("of a {call}"));
        let calls: Vec<_> = (0..40).map(|n| scope.spawn(call(n))).collect();
        answers.extend(calls.into_iter().map(|call| call.join().expect("ended")));
        // The connections of its callers break with it.
        c.signal("KILL");
    });
    for answer in answers {
        let (status, _, body) = answer.expect("an answer");
        assert_eq!((status, &body["executor"]), (200, &Value::String(b.id())), "{body}");
    }
    a.wait_for("calls", |calls| calls == 0);
    b.wait_for("work", |work| work == 0);
}

#[test]
fn an_interrupted_command_stops_its_guest_wherever_it_is() {
    let world = World::new();
    let [a, b, c] = mesh(&world, [("a", NO_EXECUTOR), ("b", ALL), ("c", NO_EXECUTOR)]);
    let function = deploy(&world, &a);
    let call = |arg: &str| begin(&a, &["call", &function, "--entry", "map", "--arg", arg, "--timeout", "10m"]);
    let (runs, waits) = (call("runs"), call("waits"));
    b.wait_for("work", |work| work == 2);
    b.wait_for("slots_used", |slots| slots == 1);
    interrupt(waits);
    b.wait_for("work", |work| work == 1);
    // What only c has comes late when c has stopped.
    world.write("text", "of c");
    let slow = world.command(&c.dir, &["add", "text"]).ok();
    c.signal("STOP");
    let fetches = call(&slow);
    b.wait_for("work", |work| work == 2);
    interrupt(fetches);
    b.wait_for("work", |work| work == 1);
    c.signal("CONT");
    assert_eq!(b.metric("slots_used"), 1, "the first still runs");
    interrupt(runs);
    b.wait_for("slots_used", |slots| slots == 0);
    // A job takes its tasks with it.
    for file in ["one", "two", "three"] {
        world.write(&format!("data/{file}"), file);
    }
    let data = world.command(&a.dir, &["add", "data"]).ok();
    let job = begin(&a, &["mapreduce", &function, &data]);
    b.wait_for("work", |work| work == 3);
    interrupt(job);
    b.wait_for("work", |work| work == 0);
    b.wait_for("slots_used", |slots| slots == 0);
    a.wait_for("calls", |calls| calls == 0);
    a.wait_for("jobs", |jobs| jobs == 0);
}

#[test]
fn the_work_of_a_killed_node_is_stopped() {
    let world = World::new();
    let [mut a, b] = mesh(&world, [("a", NO_EXECUTOR), ("b", ALL)]);
    let function = deploy(&world, &a);
    let mut call = begin(&a, &["call", &function, "--entry", "map", "--arg", "", "--timeout", "10m"]);
    b.wait_for("slots_used", |slots| slots == 1);
    a.kill();
    b.wait_for("slots_used", |slots| slots == 0);
    assert!(!call.wait().expect("ended").success());
}

/// A node that refuses so many calls, each with this word, and answers the next. Gives the calls' heads and bodies.
fn refusing(refusals: usize, retry_after_ms: u64) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let addr = listener.local_addr().expect("an address").to_string();
    let serve = move || {
        let mut calls = Vec::new();
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.expect("a connection"));
            loop {
                let (mut head, mut length) = (String::new(), 0);
                while !head.ends_with("\r\n\r\n") {
                    let from = head.len();
                    if reader.read_line(&mut head).unwrap_or(0) == 0 {
                        break;
                    }
                    if let Some(value) = head[from..].to_ascii_lowercase().strip_prefix("content-length: ") {
                        length = value.trim().parse().expect("a length");
                    }
                }
                if head.is_empty() {
                    break;
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).expect("a body");
                let refused = json!({"code": "Overloaded", "message": "full", "hint": "later", "retry_after_ms": retry_after_ms});
                let (status, answer) = match head.starts_with("POST") {
                    false => ("200 OK", "ok".to_string()),
                    true if calls.len() < refusals => ("429 Too Many Requests", refused.to_string()),
                    true => ("200 OK", json!({"result": "bafy", "reused": true, "executor": "e", "total_us": 1}).to_string()),
                };
                if head.starts_with("POST") {
                    calls.push(head + &String::from_utf8_lossy(&body));
                }
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
                reader.get_mut().write_all(answer.as_bytes()).expect("written");
                if calls.len() > refusals || status.starts_with("429") && retry_after_ms > 60_000 {
                    return calls;
                }
            }
        }
        calls
    };
    (addr, std::thread::spawn(serve))
}

#[test]
fn a_refused_command_comes_back_when_it_was_told_to_and_not_after_its_time() {
    let world = World::new();
    let (addr, node) = refusing(2, 30);
    world.write("home/api", &addr);
    let said = world.command(&world.path("home"), &["call", "bafy", "--timeout", "20s"]);
    assert_eq!((said.code, said.stdout.trim()), (0, "bafy"), "{}", said.stderr);
    assert_eq!(said.stderr.matches("overloaded: trying again in").count(), 2, "{}", said.stderr);
    let calls = node.join().expect("ended");
    let budget = |call: &String| {
        let body: Value = serde_json::from_str(call.split("\r\n\r\n").nth(1).expect("a body")).expect("JSON");
        body["timeout_ms"].as_u64().expect("a number")
    };
    assert!(calls.windows(2).all(|two| budget(&two[1]) + 30 <= budget(&two[0])), "{calls:?}");
    assert!(calls.iter().all(|call| call.contains("timerose-client: ")), "{calls:?}");
    // A minute is more than there is.
    let (addr, node) = refusing(1, 60_001);
    world.write("home/api", &addr);
    let said = world.command(&world.path("home"), &["call", "bafy", "--timeout", "20s"]);
    assert_eq!(said.code, 6, "{}", said.stderr);
    assert!(said.stderr.contains("Overloaded") && !said.stderr.contains("trying again"), "{}", said.stderr);
    node.join().expect("ended");
}
