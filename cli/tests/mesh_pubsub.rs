//! Nodes that reach each other by PubSub alone: real processes, of which two only dial and the third is dialled.

#[path = "mesh/world.rs"]
#[allow(dead_code, reason = "shared with the mesh tests, which use more of it")]
mod world;

use serde_json::Value;
use world::{Node, World, channel, guest, wait_until};

/// A client, a node between, and an executor. The outer two trust each other and cannot dial each other.
fn apart(world: &World) -> [Node; 3] {
    let dids = ["client", "between", "executor"].map(|name| world.did(name));
    let trust: Vec<&str> = dids.iter().flat_map(|did| ["--trust", did.as_str()]).collect();
    let between = world.node("between", &[&trust[..], &["--roles", "scheduler,store"]].concat());
    let addr = between.addr();
    let outer = [&trust[..], &["--join", &addr, "--listen", "none"]].concat();
    let executor = world.node("executor", &outer);
    let client = world.node("client", &[&outer[..], &["--roles", "scheduler"]].concat());
    between.wait_for("members_connected", |members| members == 3);
    [client, between, executor]
}

#[test]
fn a_call_reaches_an_executor_that_nobody_can_dial_through_a_node_between() {
    let world = World::new();
    let [client, between, executor] = apart(&world);
    wait_until("the executor to be heard", || channel(&world, &client, &executor.id()) == "pubsub");
    assert_eq!(channel(&world, &client, &between.id()), "stream");
    let (code, manifest) = (guest("built/wordcount-fan.wasm"), guest("wordcount/fan.toml"));
    let function = world.command(&between.dir, &["deploy", &code, "--manifest", &manifest]).ok();
    let text = "the cat and the hat ".repeat(40_000);
    let file = world.write("text", &text);
    let cid = world.command(&between.dir, &["add", file.to_str().expect("UTF-8")]).ok();
    let call = |args: &[&str]| {
        world.command(&client.dir, &[&["call", &function, "--entry", "map", "-o", "json", "--arg"], args].concat())
    };
    for (args, counted) in [(&[cid.as_str()][..], 1), (&["a b", "--channel", "pubsub"], 2)] {
        let answer = call(args).json();
        assert_eq!(answer["executor"], Value::String(executor.id()), "{answer}");
        // More than once if the machine is so busy that a claim was not answered in time.
        assert!(executor.metric("runs_total") >= counted);
    }
    // The client has no stream to the executor: the result's bytes came along.
    let text = world.command(&client.dir, &["call", &function, "--entry", "map", "--arg", "a d a", "--cat"]).ok();
    assert_eq!(text, r#"{"a":2,"d":1}"#);
    // The same way is refused where only a stream will do.
    let said = call(&["a c", "--channel", "stream"]);
    assert!(said.code == 6 && said.stderr.contains("NoExecutor"), "{} {}", said.code, said.stderr);
    assert!(client.metric("letters_sent_total") >= 4 && executor.metric("letters_taken_total") >= 4);
    assert_eq!((between.metric("envelopes_received_total"), client.metric("members_connected")), (0, 2));
}

#[test]
fn a_function_that_lies_only_with_an_executor_beyond_streams_is_called_by_its_cid() {
    let world = World::new();
    let [client, between, executor] = apart(&world);
    wait_until("the executor to be heard", || channel(&world, &client, &executor.id()) == "pubsub");
    // Its code is its own: the node between, which could be asked by a stream, has neither manifest nor code.
    let (code, manifest) = (guest("built/wordcount-fan.wasm"), guest("wordcount/fan.toml"));
    let function = world.command(&executor.dir, &["deploy", &code, "--manifest", &manifest]).ok();
    let call = ["call", &function, "--entry", "map", "--arg", "far and away", "-o", "json"];
    let answer = world.command(&client.dir, &call).json();
    assert_eq!(answer["executor"], executor.id(), "{answer}");
    let result = world.command(&client.dir, &["cat", answer["result"].as_str().expect("a CID")]).ok();
    assert_eq!(result, r#"{"and":1,"away":1,"far":1}"#);
    // The manifest is content here now; of the code, which is far larger than a letter, nothing came.
    let abi = world.command(&client.dir, &["abi", &function, "-o", "json"]).json();
    assert_eq!(abi["engine"], "wasm-fan", "{abi}");
    let stat = world.command(&client.dir, &["repo", "stat", "-o", "json"]).json();
    assert!(stat["bytes"].as_u64() < Some(4096), "{stat}");
    assert_eq!(between.metric("envelopes_received_total"), 0);
}

#[test]
fn net_stat_tells_by_which_topics_and_connections_a_call_went() {
    let world = World::new();
    let [client, between, executor] = apart(&world);
    wait_until("the executor to be heard", || channel(&world, &client, &executor.id()) == "pubsub");
    let (code, manifest) = (guest("built/wordcount-fan.wasm"), guest("wordcount/fan.toml"));
    let function = world.command(&between.dir, &["deploy", &code, "--manifest", &manifest]).ok();
    let stat = |node: &Node| world.command(&node.dir, &["net", "stat", "-o", "json"]).json();
    let of = |stat: &Value, list: &str, name: &str, what: &str| {
        let rows = stat[list].as_array().expect("a list").iter();
        let row = rows.into_iter().find(|row| row.as_object().is_some_and(|row| row.values().any(|value| *value == *name)));
        row.unwrap_or_else(|| panic!("{name} in {stat}"))[what].as_u64().expect("a number")
    };
    let before = stat(&between);
    world.command(&client.dir, &["call", &function, "--entry", "map", "--arg", "a d a", "--cat"]).ok();
    let (mine, after, theirs) = (stat(&client), stat(&between), stat(&executor));
    // A claim at least went to the executor, a grant or an outcome to the client, both through the node between.
    for (topic, from, to) in [("tasks", &mine, &theirs), ("replies", &theirs, &mine)] {
        let passed = of(&after, "topics", topic, "in") - of(&before, "topics", topic, "in");
        assert!(passed >= 1 && of(&after, "topics", topic, "out") - of(&before, "topics", topic, "out") == passed, "{after}");
        assert!(of(from, "topics", topic, "out") >= 1 && of(from, "topics", topic, "bytes_out") > 300, "{from}");
        assert!(of(to, "topics", topic, "in") >= 1 && of(to, "topics", topic, "bytes_in") > 300, "{to}");
        assert!(of(from, "topics", topic, "joined") >= 1 && of(from, "topics", topic, "listeners") >= 1, "{from}");
    }
    assert_eq!((&mine["peers"], &after["peers"]), (&Value::from(1), &Value::from(2)));
    let opened = |stat: &Value, by: &str| {
        ["tcp", "quic", "websocket", "relayed"].into_iter().map(|transport| of(stat, "connections", transport, by)).sum::<u64>()
    };
    let (out, came) = (opened(&mine, "out"), opened(&after, "in"));
    assert!(out >= 1 && opened(&mine, "in") == 0 && came >= 2, "{mine} {after}");
    assert!(of(&mine, "protocols", "tasks", "bytes_out") > 0 && of(&after, "protocols", "tasks", "in") > 0, "{after}");
    assert_eq!(between.any_metric(r#"timerose_connections{transport="relayed",direction="in"}"#), 0);
    assert!(between.any_metric(r#"timerose_gossip_sent_total{topic="tasks"}"#) >= of(&after, "topics", "tasks", "out"));
}

#[test]
fn jobs_and_detached_calls_reach_an_executor_by_pubsub_too() {
    let world = World::new();
    let [client, between, executor] = apart(&world);
    wait_until("the executor to be heard", || channel(&world, &client, &executor.id()) == "pubsub");
    let (code, manifest) = (guest("built/wordcount-fan.wasm"), guest("wordcount/fan.toml"));
    let function = world.command(&between.dir, &["deploy", &code, "--manifest", &manifest]).ok();
    for (name, text) in [("a", "rose and thorn"), ("b", "rose"), ("c", "thorn and rose")] {
        world.write(&format!("data/{name}"), text);
    }
    let data = world.command(&between.dir, &["add", "data"]).ok();
    let data = data.lines().last().expect("a CID");
    let result = world.command(&client.dir, &["mapreduce", &function, data]).ok();
    assert_eq!(world.command(&client.dir, &["cat", &result]).ok(), r#"{"and":2,"rose":3,"thorn":2}"#);
    assert!(executor.metric("runs_total") >= 4, "a run a file, and at least one to reduce");
    let detached = ["call", &function, "--entry", "map", "--arg", "far away", "--detach"];
    let handle = world.command(&client.dir, &detached).ok();
    world.command(&client.dir, &["wait", handle.lines().last().expect("a handle")]).ok();
    let said = world.command(&client.dir, &[&detached[..], &["--channel", "pubsub"]].concat());
    assert_eq!(said.code, 2, "{}", said.stderr);
}

#[test]
fn who_leaves_is_noticed_by_those_whom_only_gossip_tells() {
    let world = World::new();
    let [client, _between, mut executor] = apart(&world);
    wait_until("the executor to be heard", || channel(&world, &client, &executor.id()) == "pubsub");
    executor.end();
    wait_until("the goodbye", || channel(&world, &client, &executor.id()) == Value::Null);
    let members = world.command(&client.dir, &["members", "-o", "json"]).json();
    let left = members.as_array().expect("a list").iter().filter(|member| member["left"] == true).count();
    assert_eq!(left, 1, "{members}");
}

#[test]
fn a_call_goes_between_ends_of_which_each_was_told_of_another_node() {
    let world = World::new();
    let [client, first, second, executor] = ["client", "first", "second", "executor"].map(|name| world.did(name));
    // The client is told nothing of the second, nor the executor of the first. The DHT may connect them all the same.
    let start = |name: &str, trust: &[&String], more: &[&str]| {
        let trust = trust.iter().flat_map(|did| ["--trust", did.as_str()]);
        world.node(name, &trust.chain(more.iter().copied()).collect::<Vec<&str>>())
    };
    let relay = ["--roles", "scheduler"];
    let near = start("first", &[&client, &second, &executor], &relay);
    let far = start("second", &[&client, &first, &executor], &[&relay[..], &["--join", &near.addr()]].concat());
    let executing = start("executor", &[&client, &second], &["--listen", "none", "--join", &far.addr()]);
    let calling = start("client", &[&executor, &first], &["--listen", "none", "--join", &near.addr(), "--roles", "scheduler"]);
    wait_until("the executor to be heard", || channel(&world, &calling, &executing.id()) == "pubsub");
    let (code, manifest) = (guest("built/wordcount-fan.wasm"), guest("wordcount/fan.toml"));
    let function = [&calling, &executing].map(|node| world.command(&node.dir, &["deploy", &code, "--manifest", &manifest]).ok());
    for (text, counted) in [("to and fro", r#"{"and":1,"fro":1,"to":1}"#), ("fro", r#"{"fro":1}"#)] {
        let said = world.command(&calling.dir, &["call", &function[0], "--entry", "map", "--arg", text, "--cat"]);
        assert_eq!(said.ok(), counted);
    }
    assert!(executing.metric("runs_total") >= 2);
}

#[test]
fn where_names_the_executor_that_the_call_then_goes_to_and_how_it_is_reached() {
    let world = World::new();
    let [client, between, executor] = apart(&world);
    wait_until("the executor to be heard", || channel(&world, &client, &executor.id()) == "pubsub");
    let (code, manifest) = (guest("built/wordcount-fan.wasm"), guest("wordcount/fan.toml"));
    let function = world.command(&between.dir, &["deploy", &code, "--manifest", &manifest]).ok();
    let file = world.command(&between.dir, &["add", &manifest]).ok();
    let told = world.command(&client.dir, &["where", &function, "--entry", "map", "--arg", &file, "-o", "json"]).json();
    let first = &told["executors"][0];
    assert_eq!(first["node"], executor.id(), "{told}");
    assert_eq!((&first["channel"], &first["open"]), (&Value::from("pubsub"), &Value::from(true)), "{told}");
    assert_eq!(first["request_topic"], format!("timerose/1/tasks/{}", executor.id()));
    assert_eq!(told["reply_topic"], format!("timerose/1/replies/{}", client.id()));
    assert!(first["cost_us"].as_u64() >= first["rtt_us"].as_u64() && first["missing_bytes"].as_u64() > Some(0), "{told}");
    let others = told["others"].as_array().expect("a list");
    assert!(others.len() == 2 && others.iter().all(|one| one["reason"] == "runs no work for others"), "{told}");
    let answer = world.command(&client.dir, &["call", &function, "--entry", "map", "--arg", &file, "-o", "json"]).json();
    assert_eq!(answer["executor"], first["node"]);
    // People see the same: how the first is reached, and then everybody.
    let shown = world.command(&client.dir, &["where", &function]).ok();
    assert!(shown.starts_with("nearest") && shown.contains("EXECUTOR") && shown.contains("runs no work for others"), "{shown}");
    let refused = world.command(&client.dir, &["where", &function, "--entry", "none"]);
    assert!(refused.stderr.contains("an entry out of"), "{}", refused.stderr);
}
