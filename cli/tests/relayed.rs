//! A real Kubo and a real Helia pass envelopes on between two nodes that are connected only with them.
//!
//! `TIMEROSE_PEERS` names the folder that scripts/peers filled.

#[path = "mesh/peer.rs"]
#[allow(dead_code, reason = "shared with other tests of real peers, which use more of it")]
mod peer;
#[path = "mesh/world.rs"]
#[allow(dead_code, reason = "shared with the mesh tests, which use more of it")]
mod world;

use peer::Peer;
use serde_json::Value;
use world::{Node, World, channel, guest, wait_until};

/// A call of one node runs on another. Both only dial, and only the peer.
fn calls_pass(world: &World, mut peer: Peer) {
    let dids = ["client", "executor"].map(|name| world.did(name));
    let trust: Vec<&str> = dids.iter().flat_map(|did| ["--trust", did.as_str()]).collect();
    let [tasks, replies] = [format!("timerose/1/tasks/{}", dids[1]), format!("timerose/1/replies/{}", dids[0])];
    for topic in ["timerose/1/members", &tasks, &replies] {
        peer.subscribe(topic);
    }
    let addr = peer.addr();
    let args = [&trust[..], &["--join", &addr, "--listen", "none"]].concat();
    let client = world.node("client", &[&args[..], &["--roles", "scheduler"]].concat());
    wait_until("the peer to know the client", || peer.subscribers(&replies) == 1);
    let executor = world.node("executor", &args);
    wait_until("the executor to be heard", || channel(world, &client, &dids[1]) == "pubsub");
    let (code, manifest) = (guest("built/wordcount-fan.wasm"), guest("wordcount/fan.toml"));
    let deploy = |node: &Node| world.command(&node.dir, &["deploy", &code, "--manifest", &manifest]).ok();
    let function = deploy(&executor);
    assert_eq!(deploy(&client), function);
    for (text, counted) in [("a rose is a rose", r#"{"a":2,"is":1,"rose":2}"#), ("is it", r#"{"is":1,"it":1}"#)] {
        let said = world.command(&client.dir, &["call", &function, "--entry", "map", "--arg", text, "--cat", "--timeout", "60s"]);
        assert_eq!(said.ok(), counted);
    }
    assert!(executor.metric("runs_total") >= 2);
    // Nobody else was there, and what the peer passed on said nothing to it.
    assert_eq!((client.metric("members_connected"), executor.metric("members_connected")), (1, 1));
    let heard = peer.heard();
    assert!(heard.iter().any(|message| message["topic"] == tasks.as_str()), "{heard:?}");
    assert!(heard.iter().any(|message| message["topic"] == replies.as_str()), "{heard:?}");
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    for message in heard {
        let bytes = message["hex"].as_str().expect("bytes");
        for secret in ["a rose is", "is it", r#""is":1"#, "Claim", "Outcome", "Renew"] {
            assert!(!bytes.contains(&hex(secret)), "{secret} in {message}");
        }
    }
}

#[test]
fn helia_passes_envelopes_on_between_nodes_that_are_connected_only_with_it() {
    let world = World::new();
    calls_pass(&world, Peer::helia());
}

#[test]
fn kubo_passes_envelopes_on_between_nodes_that_are_connected_only_with_it() {
    let world = World::new();
    let kubo = Peer::kubo(&world.path("kubo"));
    calls_pass(&world, kubo);
}
