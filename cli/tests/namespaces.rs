//! Nodes that cannot dial each other, as behind two NATs: each is in a network of its own (a namespace of Linux), and only a
//! node that stands in both reaches both.

#[path = "mesh/world.rs"]
#[allow(dead_code, reason = "shared with the mesh tests, which use more of it")]
mod world;

use serde_json::Value;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use world::{Node, Said, TIMEROSE, World, wait_until};

/// Networks in a row: each reaches its neighbours and nobody else. They go with the test.
struct Row(Vec<String>);

impl Row {
    /// So many, if networks may be made here.
    fn of(count: usize) -> Option<Row> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let mut row = Row(Vec::new());
        for at in 0..count {
            let name = format!("timerose-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            if !ip(&["netns", "add", &name]).is_some_and(|output| output.status.success()) {
                let _ = writeln!(std::io::stderr(), "SKIPPED: only root may make network namespaces, by the command ip");
                return None;
            }
            row.0.push(name.clone());
            must(&["-n", &name, "link", "set", "lo", "up"]);
            if at > 0 {
                let before = row.0[at - 1].clone();
                must(&["-n", &before, "link", "add", "right", "type", "veth", "peer", "name", "left", "netns", &name]);
                for (network, end, last) in [(&before, "right", 1), (&name, "left", 2)] {
                    must(&["-n", network, "addr", "add", &format!("10.77.{at}.{last}/24"), "dev", end]);
                    must(&["-n", network, "link", "set", end, "up"]);
                }
            }
        }
        Some(row)
    }

    /// The program, in one of the networks.
    fn program(&self, at: usize) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0[at], TIMEROSE]);
        command
    }

    /// The addresses at which a node of that network listens.
    fn listens(&self, at: usize) -> Vec<String> {
        let left = (at > 0).then(|| format!("10.77.{at}.2"));
        let right = (at + 1 < self.0.len()).then(|| format!("10.77.{}.1", at + 1));
        let addrs = left.into_iter().chain(right);
        addrs.flat_map(|addr| ["--listen".to_string(), format!("/ip4/{addr}/tcp/0")]).collect()
    }

    fn node(&self, world: &World, at: usize, name: &str, args: &[&str]) -> Node {
        let listens = self.listens(at);
        world.node_by(self.program(at), name, &listens.iter().map(String::as_str).chain(args.iter().copied()).collect::<Vec<_>>())
    }

    /// Runs a command against a node, where that is.
    fn command(&self, world: &World, at: usize, node: &Node, args: &[&str]) -> Said {
        let mut program = self.program(at);
        program.args(args).env("TIMEROSE_PATH", &node.dir).current_dir(world.dir.path()).output().expect("run").into()
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        for name in &self.0 {
            ip(&["netns", "del", name]);
        }
    }
}

fn ip(args: &[&str]) -> Option<Output> {
    Command::new("ip").args(args).output().ok()
}

fn must(args: &[&str]) {
    let output = ip(args).expect("run");
    assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn guest(name: &str) -> String {
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../guests");
    built.join(name).to_str().expect("UTF-8").to_string()
}

/// Options by which a node trusts all of these.
fn trusting(world: &World, names: &[&str]) -> Vec<String> {
    names.iter().flat_map(|name| ["--trust".to_string(), world.did(name)]).collect()
}

/// The address of a node that its neighbour to that side dials: it may come after the first.
fn addr_on(row: &Row, world: &World, at: usize, node: &Node, network: &str) -> String {
    let mut found = None;
    wait_until("an address there", || {
        let id = row.command(world, at, node, &["id", "-o", "json"]).json();
        let mut addrs = id["addrs"].as_array().expect("addresses").iter().filter_map(Value::as_str);
        found = addrs.find(|addr| addr.contains(network)).map(String::from);
        found.is_some()
    });
    found.expect("an address")
}

/// By which channel a node reaches another.
fn channel(row: &Row, world: &World, at: usize, node: &Node, other: &Node) -> Value {
    let members = row.command(world, at, node, &["members", "-o", "json"]).json();
    let found = members.as_array().expect("a list").iter().find(|member| member["id"] == other.id()).cloned();
    found.map(|member| member["channel"].clone()).unwrap_or_default()
}

fn deploy(row: &Row, world: &World, at: usize, node: &Node) -> String {
    let (code, manifest) = (guest("built/wordcount-fan.wasm"), guest("wordcount/fan.toml"));
    row.command(world, at, node, &["deploy", &code, "--manifest", &manifest]).ok()
}

/// Connections by a transport, whoever opened them.
fn connections(stat: &Value, transport: &str) -> u64 {
    let all = stat["connections"].as_array().expect("a list");
    let of = all.iter().find(|of| of["transport"] == transport).expect("the transport");
    of["in"].as_u64().expect("a number") + of["out"].as_u64().expect("a number")
}

#[test]
fn nodes_that_cannot_dial_each_other_call_and_fetch_through_a_relay() {
    let Some(row) = Row::of(3) else { return };
    let world = World::new();
    let trust = trusting(&world, &["client", "relay", "executor"]);
    let with = |more: &[&str]| trust.iter().map(String::as_str).chain(more.iter().copied()).map(String::from).collect::<Vec<_>>();
    let start = |at, name, args: Vec<String>| row.node(&world, at, name, &args.iter().map(String::as_str).collect::<Vec<_>>());
    let relay = start(1, "relay", with(&["--roles", "scheduler", "--relay"]));
    let ends = [(0, "client", "10.77.1.2", "scheduler"), (2, "executor", "10.77.2.1", "executor,scheduler,store")];
    let [client, executor] = ends.map(|(at, name, network, roles)| {
        let addr = addr_on(&row, &world, 1, &relay, network);
        let circuit = format!("{addr}/p2p-circuit");
        start(at, name, with(&["--roles", roles, "--join", &addr, "--listen", &circuit]))
    });
    let stat = |at, node: &Node| row.command(&world, at, node, &["net", "stat", "-o", "json"]).json();
    wait_until("a place at the relay for both", || stat(1, &relay)["relay"]["reservations"] == 2);
    wait_until("a stream through the relay", || channel(&row, &world, 0, &client, &executor) == "stream");
    let function = deploy(&row, &world, 2, &executor);
    let call = ["call", &function, "--entry", "map", "--arg", "a rose is a rose", "--channel", "stream", "-o", "json"];
    let answer = row.command(&world, 0, &client, &call).json();
    assert_eq!(answer["executor"], executor.id(), "{answer}");
    let result = row.command(&world, 0, &client, &["cat", answer["result"].as_str().expect("a CID")]).ok();
    assert_eq!(result, r#"{"a":2,"is":1,"rose":2}"#);
    let mut bytes = vec![0; 1 << 20];
    fastrand::Rng::with_seed(7).fill(&mut bytes);
    world.write("file", &bytes);
    let cid = row.command(&world, 2, &executor, &["add", "file"]).ok();
    row.command(&world, 0, &client, &["get", &cid, "-o", "fetched"]).ok();
    assert!(std::fs::read(world.path("fetched")).expect("read") == bytes);
    // There is no other way: each end has direct connections with the relay alone.
    let (mine, between, theirs) = (stat(0, &client), stat(1, &relay), stat(2, &executor));
    assert!(between["relay"]["circuits"].as_u64() >= Some(1), "{between}");
    assert!(connections(&mine, "relayed") >= 1 && connections(&theirs, "relayed") >= 1, "{mine}\n{theirs}");
    assert_eq!((&mine["peers"], &theirs["peers"]), (&Value::from(2), &Value::from(2)), "{mine}\n{theirs}");
    // The relay kept nothing of it.
    let kept = row.command(&world, 1, &relay, &["repo", "stat", "-o", "json"]).json();
    assert_eq!(kept["blocks"], 0, "{kept}");
}

#[test]
fn a_call_passes_two_nodes_between_of_which_each_reaches_only_one_end() {
    let Some(row) = Row::of(4) else { return };
    let world = World::new();
    let trust = trusting(&world, &["client", "near", "far", "executor"]);
    let start = |at, name, more: &[&str]| {
        row.node(&world, at, name, &trust.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>())
    };
    let between = ["--roles", "scheduler"];
    let near = start(1, "near", &between);
    let far = start(2, "far", &[&between[..], &["--join", &addr_on(&row, &world, 1, &near, "10.77.2.1")]].concat());
    let executor = start(3, "executor", &["--join", &addr_on(&row, &world, 2, &far, "10.77.3.1")]);
    let client = start(0, "client", &["--roles", "scheduler", "--join", &addr_on(&row, &world, 1, &near, "10.77.1.2")]);
    wait_until("the executor to be heard", || channel(&row, &world, 0, &client, &executor) == "pubsub");
    let function = deploy(&row, &world, 0, &client);
    assert_eq!(deploy(&row, &world, 3, &executor), function);
    for (text, counted) in [("to and fro", r#"{"and":1,"fro":1,"to":1}"#), ("fro", r#"{"fro":1}"#)] {
        let said = row.command(&world, 0, &client, &["call", &function, "--entry", "map", "--arg", text, "--cat"]);
        assert_eq!(said.ok(), counted);
    }
    let stat = row.command(&world, 0, &client, &["net", "stat", "-o", "json"]).json();
    assert_eq!(stat["peers"], 1, "the client reached more than its neighbour: {stat}");
}
