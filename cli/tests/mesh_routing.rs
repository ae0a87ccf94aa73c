//! Finding and reaching: nodes that know of each other through the DHT alone, through a relay, and by WebSocket.

#[path = "mesh/world.rs"]
#[allow(dead_code, reason = "shared with the mesh tests, which use more of it")]
mod world;

use serde_json::Value;
use world::{Node, World, channel, guest, wait_until};

fn deploy(world: &World, node: &Node) -> String {
    let (code, manifest) = (guest("built/wordcount-fan.wasm"), guest("wordcount/fan.toml"));
    world.command(&node.dir, &["deploy", &code, "--manifest", &manifest]).ok()
}

fn peer(world: &World, node: &Node) -> String {
    world.command(&node.dir, &["id", "-o", "json"]).json()["peer"].as_str().expect("a peer").to_string()
}

/// Whom the DHT names, as a node hears it.
fn providers(world: &World, node: &Node, cid: &str) -> Vec<String> {
    let found = world.command(&node.dir, &["providers", cid, "-o", "json"]).json();
    let providers = found["providers"].as_array().expect("a list");
    providers.iter().map(|provider| provider["peer"].as_str().expect("a peer").to_string()).collect()
}

#[test]
fn content_functions_and_results_are_found_at_a_node_that_the_dht_alone_names() {
    let world = World::new();
    // No two trust each other, and strangers are not dialled: who meets here was found. The seeker comes first and listens nowhere, so
    // that nobody finds it either.
    let between = world.node("between", &[]);
    let join = ["--join", &between.addr()];
    let seeker = world.node("seeker", &["--join", &between.addr(), "--listen", "none"]);
    seeker.wait_for("members_connected", |members| members == 2);
    let holder = world.node("holder", &join);
    let text = world.write("text", "the time and the rose ".repeat(30_000));
    let file = world.command(&holder.dir, &["add", text.to_str().expect("UTF-8")]).ok();
    let function = deploy(&world, &holder);
    let answer = world.command(&holder.dir, &["call", &function, "--entry", "map", "-o", "json", "--arg", &file]).json();
    let result = answer["result"].as_str().expect("a CID").to_string();
    let stat = || world.command(&holder.dir, &["provide", "stat", "-o", "json"]).json();
    wait_until("the announcements", || stat()["announced"] == 2 && stat()["results"] != 0);
    let stat = stat();
    assert_eq!((&stat["late"], &stat["failed"], &stat["left_out"]), (&0.into(), &0.into(), &0.into()), "{stat}");
    assert!(stat["next_s"].as_u64().is_some_and(|s| s > 20 * 3600), "{stat}");
    assert_eq!(world.command(&seeker.dir, &["cat", &result]).ok(), world.command(&holder.dir, &["cat", &result]).ok());
    assert_eq!(world.command(&seeker.dir, &["cat", &file]).ok().len(), "the time and the rose ".len() * 30_000 - 1);
    assert_eq!(between.metric("block_bytes_sent_total"), 0, "it had nothing to give");
    let holder_peer = peer(&world, &holder);
    for cid in [&file, &function, &result] {
        assert!(providers(&world, &seeker, cid).contains(&holder_peer), "{cid}");
    }
    // What nobody has is said to be nowhere, at once.
    let nowhere = "bafkreiaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let said = world.command(&seeker.dir, &["cat", nowhere]);
    assert!(said.code == 3 && said.stderr.contains("NotFound"), "{}", said.stderr);
}

#[test]
fn nodes_that_listen_nowhere_but_at_a_relay_call_each_other_by_streams() {
    let world = World::new();
    let dids = ["client", "relay", "executor"].map(|name| world.did(name));
    let trust: Vec<&str> = dids.iter().flat_map(|did| ["--trust", did.as_str()]).collect();
    let relay = world.node("relay", &[&trust[..], &["--roles", "scheduler,store", "--relay"]].concat());
    let addr = relay.addr();
    let circuit = format!("{addr}/p2p-circuit");
    let outer = [&trust[..], &["--join", &addr, "--listen", &circuit]].concat();
    let executor = world.node("executor", &outer);
    assert!(executor.addr().contains("/p2p-circuit/"), "{}", executor.addr());
    let client = world.node("client", &[&outer[..], &["--roles", "scheduler"]].concat());
    wait_until("a stream", || channel(&world, &client, &executor.id()) == "stream");
    let function = deploy(&world, &relay);
    let call = ["call", &function, "--entry", "map", "-o", "json", "--channel", "stream", "--arg", "a rose is a rose"];
    let answer = world.command(&client.dir, &call).json();
    assert_eq!(answer["executor"], Value::String(executor.id()), "{answer}");
}

#[test]
fn a_relay_serves_only_whom_it_trusts() {
    let world = World::new();
    let relay = world.node("relay", &["--relay"]);
    let circuit = format!("{}/p2p-circuit", relay.addr());
    let stranger = world.node("stranger", &["--listen", "/ip4/127.0.0.1/tcp/0", "--listen", &circuit]);
    let log = || std::fs::read_to_string(&stranger.log).expect("the log");
    wait_until("the refusal", || log().contains("not reached through the relay"));
    assert!(!log().contains("/p2p-circuit\"") && !log().contains("listening address=/p2p-circuit"), "{}", log());
    let id = world.command(&stranger.dir, &["id", "-o", "json"]).json();
    assert!(!id["addrs"].to_string().contains("p2p-circuit"), "{id}");
}

#[test]
fn a_node_joins_by_a_websocket() {
    let world = World::new();
    let first = world.node("first", &["--listen", "/ip4/127.0.0.1/tcp/0/ws"]);
    assert!(first.addr().contains("/ws/"), "{}", first.addr());
    let file = world.write("text", "by WebSocket");
    let cid = world.command(&first.dir, &["add", file.to_str().expect("UTF-8")]).ok();
    let second = world.node("second", &["--listen", "none", "--join", &first.addr()]);
    second.wait_for("members_connected", |members| members == 2);
    assert_eq!(world.command(&second.dir, &["cat", &cid]).ok(), "by WebSocket");
}
