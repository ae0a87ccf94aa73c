//! Nodes that cannot dial each other, as behind two NATs: each is in a network of its own (a namespace of Linux), and only a
//! node that stands in both reaches both.

#[path = "mesh/row.rs"]
#[allow(dead_code, reason = "shared with the tests of NATs, which use more of it")]
mod row;
#[path = "mesh/world.rs"]
#[allow(dead_code, reason = "shared with the mesh tests, which use more of it")]
mod world;

use row::{Row, addr_on, channel, connections, deploy, trusting};
use serde_json::Value;
use world::{Node, World, wait_until};

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
