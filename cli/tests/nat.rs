//! Nodes behind NATs: what they become by a relay, and what they learn of themselves. Each is in a network of its own (a namespace
//! of Linux), and so is each NAT.

#[path = "mesh/row.rs"]
#[allow(dead_code, reason = "shared with the other tests of networks in a row, which use more of it")]
mod row;
#[path = "mesh/world.rs"]
#[allow(dead_code, reason = "shared with the mesh tests, which use more of it")]
mod world;

use row::{Row, addr_on, channel, connections, deploy, trusting};
use serde_json::Value;
use world::{Node, World, wait_until};

fn stat(row: &Row, world: &World, at: usize, node: &Node) -> Value {
    row.command(world, at, node, &["net", "stat", "-o", "json"]).json()
}

/// A client and an executor, each behind a NAT, and a relay that both reach, in a row: 0 and 4, 1 and 3, 2.
fn punched(transport: &str, protocol: &str) {
    let Some(row) = Row::of(5) else { return };
    row.route([1, 2, 3], &[0, 1], &[3, 4]);
    if row.nat(1, "right").and_then(|()| row.nat(3, "left")).is_none() {
        return;
    }
    let world = World::new();
    let trust = trusting(&world, &["client", "relay", "executor"]);
    let with = |more: &[&str]| trust.iter().map(String::as_str).chain(more.iter().copied()).map(String::from).collect::<Vec<_>>();
    let start = |at, name, args: Vec<String>| {
        row.node_by(&world, at, name, protocol, &args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let mut relay = start(2, "relay", with(&["--roles", "scheduler", "--relay"]));
    let ends = [(0, "client", "10.77.2.2", "scheduler"), (4, "executor", "10.77.3.1", "executor,scheduler,store")];
    let [client, executor] = ends.map(|(at, name, network, roles)| {
        let addr = addr_on(&row, &world, 2, &relay, network);
        let circuit = format!("{addr}/p2p-circuit");
        start(at, name, with(&["--roles", roles, "--join", &addr, "--listen", &circuit]))
    });
    // The relay alone can bring them together: nobody dials past a NAT.
    wait_until("a stream to the executor", || channel(&row, &world, 0, &client, &executor) == "stream");
    let function = deploy(&row, &world, 4, &executor);
    let calls = |text: &str, counted: &str| {
        let call = ["call", &function, "--entry", "map", "--arg", text, "--channel", "stream", "--timeout", "60s", "-o", "json"];
        let answer = row.command(&world, 0, &client, &call).json();
        assert_eq!(answer["executor"], executor.id(), "{answer}");
        let result = answer["result"].as_str().expect("a CID");
        assert_eq!(row.command(&world, 0, &client, &["cat", result]).ok(), counted);
    };
    calls("a rose is a rose", r#"{"a":2,"is":1,"rose":2}"#);
    for (at, node) in [(0, &client), (4, &executor)] {
        let direct = |stat: &Value| stat["peers"] == 2 && stat["peers_relayed"] == 0 && connections(stat, transport) >= 2;
        wait_until("a direct connection", || direct(&stat(&row, &world, at, node)));
    }
    calls("to and fro", r#"{"and":1,"fro":1,"to":1}"#);
    // The relay is not needed any more, and gets its room back.
    wait_until("no circuit", || stat(&row, &world, 2, &relay)["relay"]["circuits"] == 0);
    relay.kill();
    calls("without it", r#"{"it":1,"without":1}"#);
    for (at, node) in [(0, &client), (4, &executor)] {
        wait_until("the relay to be gone", || stat(&row, &world, at, node)["peers"] == 1);
        let stat = stat(&row, &world, at, node);
        assert_eq!((&stat["peers_relayed"], connections(&stat, "relayed")), (&Value::from(0), 0), "{stat}");
    }
    calls("still", r#"{"still":1}"#);
}

#[test]
fn nodes_behind_two_nats_begin_through_a_relay_end_directly_by_tcp_and_go_on_without_it() {
    punched("tcp", "tcp/0");
}

#[test]
fn nodes_behind_two_nats_begin_through_a_relay_end_directly_by_quic_and_go_on_without_it() {
    punched("quic", "udp/0/quic-v1");
}

/// A node behind a NAT (0 and 1), and two that can be dialled (2 and 3), of a public network of their own.
#[test]
fn nodes_of_the_public_network_learn_whether_they_can_be_dialled_and_who_cannot_serves_nobody() {
    let Some(row) = Row::of(4) else { return };
    row.route([1, 2], &[0, 1], &[3]);
    if row.nat(1, "right").is_none() {
        return;
    }
    let world = World::new();
    let public = ["--public", "--faults", "island"];
    let first = row.node(&world, 2, "first", &public);
    let join = |network: &str| addr_on(&row, &world, 2, &first, network);
    let second = row.node(&world, 3, "second", &[&public[..], &["--join", &join("10.77.3.1")]].concat());
    let hidden = row.node(&world, 0, "hidden", &[&public[..], &["--join", &join("10.77.2.2")]].concat());
    let closed = row.node(&world, 0, "closed", &[]);
    let is = |at, node: &Node, reachable: Value, mode: &str| {
        let stat = stat(&row, &world, at, node);
        stat["reachable"] == reachable && stat["dht"]["mode"] == mode
    };
    for (at, node) in [(2, &first), (3, &second)] {
        wait_until("word that it can be dialled", || is(at, node, "yes".into(), "server"));
    }
    wait_until("word that it cannot be dialled", || is(0, &hidden, "no".into(), "client"));
    let protocol = |at, node: &Node| stat(&row, &world, at, node)["dht"]["protocol"].clone();
    assert_eq!(protocol(0, &hidden), "/ipfs/kad/1.0.0");
    // A closed mesh asks nobody: each of its nodes serves it.
    assert!(is(0, &closed, Value::Null, "server"));
    assert_eq!(protocol(0, &closed), "/ipfs/lan/kad/1.0.0");
}
