//! A real Kubo and a real Helia find, through the DHT, what TimeRose nodes have, and the other way round.
//!
//! `TIMEROSE_PEERS` names the folder that scripts/peers filled.

#[path = "mesh/peer.rs"]
#[allow(dead_code, reason = "shared with other tests of real peers, which use more of it")]
mod peer;
#[path = "mesh/world.rs"]
#[allow(dead_code, reason = "shared with the mesh tests, which use more of it")]
mod world;

use peer::Peer;
use serde_json::{Value, json};
use std::net::UdpSocket;
use world::{Node, World, guest, wait_until};

/// Helia speaks no WebSocket here.
const TCP: [&str; 2] = ["--listen", "/ip4/127.0.0.1/tcp/0"];
const COUNTED: &str = r#"{"a":2,"is":1,"rose":2}"#;

fn stat(world: &World, node: &Node, name: &str) -> Value {
    world.command(&node.dir, &["provide", "stat", "-o", "json"]).json()[name].clone()
}

/// Has a node make a result and waits until others can know of it; gives its CID.
fn result(world: &World, node: &Node) -> String {
    let (code, manifest) = (guest("built/wordcount-fan.wasm"), guest("wordcount/fan.toml"));
    let function = world.command(&node.dir, &["deploy", &code, "--manifest", &manifest]).ok();
    let before = stat(world, node, "results");
    let result = world.command(&node.dir, &["call", &function, "--entry", "map", "--arg", "a rose is a rose"]).ok();
    wait_until("the announcement", || stat(world, node, "results") != before);
    result
}

/// This machine's address towards other machines: Kubo takes no loopback address from a DHT. Nothing is sent to find it out.
fn address() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    let routed = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr());
    routed.map_or_else(|_| "127.0.0.1".into(), |addr| addr.ip().to_string())
}

fn fetches(peer: &mut Peer, cid: &str) {
    let got = peer.tell(&json!({"do": "cat", "cid": cid}));
    assert_eq!(got["size"], COUNTED.len(), "{got}");
}

#[test]
fn kubo_fetches_the_result_of_a_call_from_a_node_that_the_dht_alone_names() {
    let world = World::new();
    let between = world.node("between", &TCP);
    let listen = format!("/ip4/{}/tcp/0", address());
    let maker = world.node("maker", &["--listen", &listen, "--join", &between.addr()]);
    let cid = result(&world, &maker);
    let mut kubo = Peer::kubo(&world.path("kubo"));
    kubo.tell(&json!({"do": "connect", "addr": between.addr()}));
    fetches(&mut kubo, &cid);
    assert_eq!(between.metric("block_bytes_sent_total"), 0, "it had nothing to give");
    maker.wait_for("block_bytes_sent_total", |bytes| bytes != 0);
}

#[test]
fn helia_fetches_the_result_of_a_call_from_a_node_that_the_dht_alone_names() {
    let world = World::new();
    let between = world.node("between", &TCP);
    let maker = world.node("maker", &[&TCP[..], &["--join", &between.addr()]].concat());
    let cid = result(&world, &maker);
    let mut helia = Peer::helia();
    helia.tell(&json!({"do": "connect", "addr": between.addr()}));
    fetches(&mut helia, &cid);
    assert_eq!(between.metric("block_bytes_sent_total"), 0, "it had nothing to give");
    maker.wait_for("block_bytes_sent_total", |bytes| bytes != 0);
}

#[test]
fn helia_finds_by_the_protocol_of_the_public_network_what_a_node_there_has() {
    let world = World::new();
    let public = [&TCP[..], &["--public", "--faults", "island"]].concat();
    let between = world.node("between", &public);
    let maker = world.node("maker", &[&public[..], &["--join", &between.addr()]].concat());
    // Each is dialled by the other, and serves the DHT from then on.
    for node in [&between, &maker] {
        wait_until("a server of the DHT", || {
            let stat = world.command(&node.dir, &["net", "stat", "-o", "json"]).json();
            stat["dht"] == json!({"protocol": "/ipfs/kad/1.0.0", "mode": "server"})
        });
    }
    let cid = result(&world, &maker);
    let mut helia = Peer::public_helia();
    helia.tell(&json!({"do": "connect", "addr": between.addr()}));
    fetches(&mut helia, &cid);
    assert_eq!(between.metric("block_bytes_sent_total"), 0, "it had nothing to give");
    assert_ne!(maker.metric("block_bytes_sent_total"), 0);
}

#[test]
fn two_nodes_that_know_helia_alone_find_each_other_through_it() {
    let world = World::new();
    let helia = Peer::helia();
    let join = ["--join", &helia.addr()];
    let maker = world.node("maker", &join);
    let cid = result(&world, &maker);
    let seeker = world.node("seeker", &[&join[..], &["--listen", "none"]].concat());
    wait_until("the result", || {
        let said = world.command(&seeker.dir, &["cat", &cid]);
        said.code == 0 && said.stdout == COUNTED
    });
    maker.wait_for("block_bytes_sent_total", |bytes| bytes != 0);
}

#[test]
fn what_helia_provides_is_found_through_a_node_between() {
    let world = World::new();
    let between = world.node("between", &TCP);
    let seeker = world.node("seeker", &["--join", &between.addr(), "--listen", "none"]);
    seeker.wait_for("members_connected", |members| members == 2);
    let mut helia = Peer::helia();
    helia.tell(&json!({"do": "connect", "addr": between.addr()}));
    let text = world.write("text", "of Helia");
    let cid = helia.add(&text, &json!({}));
    wait_until("a peer of the DHT to take it", || {
        helia.tell(&json!({"do": "provide", "cid": cid}));
        let found = world.command(&between.dir, &["providers", &cid, "-o", "json"]).json();
        let providers = found["providers"].as_array().cloned().unwrap_or_default();
        providers.iter().any(|provider| provider["peer"] == helia.id() && provider["dht"] == true)
    });
    assert_eq!(world.command(&seeker.dir, &["cat", &cid]).ok(), "of Helia");
}

#[test]
fn kubo_and_a_node_dial_each_other_over_tcp() {
    let world = World::new();
    let mut kubo = Peer::kubo(&world.path("kubo"));
    let text = world.write("text", "of Kubo");
    let cid = kubo.add(&text, &json!({}));
    let dials = world.node("dials", &["--listen", "none", "--join", &kubo.addr()]);
    wait_until("Kubo's file", || world.command(&dials.dir, &["cat", &cid]).stdout == "of Kubo");
    let dialled = world.node("dialled", &[]);
    kubo.tell(&json!({"do": "connect", "addr": dialled.addr()}));
    assert_eq!(world.command(&dialled.dir, &["cat", &cid]).ok(), "of Kubo");
}
