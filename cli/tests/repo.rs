//! What a node keeps on disk and gives to peers: its bound, a collection that is cut short, ledgers, and who is asked for a block.

#[path = "mesh/world.rs"]
#[allow(dead_code, reason = "shared with the mesh tests, which use more of it")]
mod world;

use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use world::{Node, Said, World, rounds, wait_until};

/// A node of its own is dialled by TCP alone.
const TCP: [&str; 2] = ["--listen", "/ip4/127.0.0.1/tcp/0"];

fn random(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

fn run(world: &World, node: &Node, args: &[&str]) -> Said {
    world.command(&node.dir, args)
}

/// Adds random bytes; gives their CID.
fn add(world: &World, node: &Node, seed: u64, size: usize, more: &[&str]) -> String {
    let file = world.write(&format!("files/{seed}"), random(seed, size));
    run(world, node, &[&["add", file.to_str().expect("UTF-8")], more].concat()).ok()
}

/// Whether a file is whole.
fn is_here(world: &World, node: &Node, cid: &str, seed: u64, size: usize) -> bool {
    let to = world.path("got");
    let _ = fs::remove_file(&to);
    run(world, node, &["get", cid, "-o", to.to_str().expect("UTF-8")]).ok();
    fs::read(to).expect("read") == random(seed, size)
}

fn stat(world: &World, node: &Node) -> Value {
    run(world, node, &["repo", "stat", "-o", "json"]).json()
}

const MIB: usize = 1 << 20;

#[test]
fn a_node_keeps_within_its_bound_refuses_what_does_not_fit_and_loses_nothing() {
    let world = World::new();
    let node = world.node("a", &[&TCP[..], &["--storage-max", "8MiB"]].concat());
    let pinned = add(&world, &node, 1, 2 * MIB, &[]);
    let loose = add(&world, &node, 2, 5 * MIB, &[]);
    assert_eq!(stat(&world, &node)["max"], 8 * MIB);
    assert!(run(&world, &node, &["repo", "stat"]).ok().ends_with(" of 8.0 MiB"));
    let other = world.node("b", &TCP);
    let wanted = add(&world, &other, 3, 3 * MIB, &[]);
    let late = world.node("c", &[&TCP[..], &["--storage-max", "1MiB", "--join", &other.addr()]].concat());
    late.wait_for("members_connected", |members| members == 2);
    // All is pinned: nothing can go.
    let file = world.write("more", random(4, 3 * MIB));
    let file = file.to_str().expect("UTF-8");
    let said = run(&world, &node, &["add", file]);
    assert_eq!(said.code, 6, "{}", said.stdout);
    for part in ["StorageFull", "8388608 bytes", "--storage-max", "timerose pin ls"] {
        assert!(said.stderr.contains(part), "{part}: {}", said.stderr);
    }
    assert!(is_here(&world, &node, &pinned, 1, 2 * MIB) && is_here(&world, &node, &loose, 2, 5 * MIB));
    assert_eq!(node.metric("store_max_bytes"), 8 * MIB as u64);
    assert!(node.metric("store_bytes") > 7 * MIB as u64 && node.metric("store_refused_total") > 0);
    let fetched = run(&world, &late, &["pin", "add", &wanted]);
    assert!(fetched.code == 6 && fetched.stderr.contains("StorageFull"), "{}", fetched.stderr);
    // What nobody needs goes by itself, once it is old enough.
    run(&world, &node, &["pin", "rm", &loose]).ok();
    wait_until("room", || run(&world, &node, &["add", file]).code == 0);
    assert!(is_here(&world, &node, &pinned, 1, 2 * MIB));
    assert_eq!(run(&world, &node, &["cat", &loose]).code, 3, "it made room");
    assert!(stat(&world, &node)["bytes"].as_u64() <= Some(8 * MIB as u64));
    // Room may be there before the collection has ended.
    node.wait_for("store_collections_total", |collections| collections > 0);
    assert!(node.metric("store_freed_bytes_total") > 0);
    assert_eq!(run(&world, &node, &["repo", "verify", "-o", "json"]).json()["wrong"], 0);
}

/// Begins a collection and returns when it has told so often that it has removed something, or has ended.
fn collect_until(node: &Node, tells: usize) -> bool {
    let request = ureq::post(format!("http://{}/v1/repo/gc", node.api())).header("content-type", "application/json");
    let answer = request.send(r#"{"grace_s": 0}"#).expect("an answer");
    let mut lines = BufReader::new(answer.into_body().into_reader()).lines();
    let mut told = 0;
    while told < tells {
        let Some(Ok(line)) = lines.next() else { return false };
        if line.contains("freed") {
            return false;
        }
        told += usize::from(line.contains("removed") && !line.contains(r#""removed":0"#));
    }
    true
}

#[test]
fn a_node_killed_while_it_collects_garbage_loses_nothing_that_is_pinned() {
    let world = World::new();
    let seed = fastrand::u64(..);
    let _ = writeln!(std::io::stderr(), "seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut pins: Vec<(String, u64, usize)> = Vec::new();
    let (mut node, mut cut_short) = (world.node("a", &TCP), 0);
    for round in 0..rounds() as u64 {
        // Small blocks, which lie in the index, and large ones in files of their own; what is pinned lies among what is not.
        for (number, chunk) in ["1000", "20000", "262144"].into_iter().enumerate() {
            let (pin, size) = (100 * round + number as u64, 700_000);
            let chunker = format!("size-{chunk}");
            pins.push((add(&world, &node, pin, size, &["--chunker", &chunker]), pin, size));
            let size = 3_000 * chunk.parse::<usize>().expect("a number").min(3_000);
            add(&world, &node, pin + 50, size, &["--chunker", &chunker, "--pin=false"]);
        }
        cut_short += usize::from(collect_until(&node, rng.usize(1..12)));
        node.kill();
        node = world.node("a", &TCP);
        let verified = run(&world, &node, &["repo", "verify", "-o", "json"]).json();
        assert_eq!(verified["wrong"], 0, "round {round}: {verified}");
        for (cid, seed, size) in &pins {
            assert!(is_here(&world, &node, cid, *seed, *size), "round {round}: {cid}");
        }
        let listed = run(&world, &node, &["pin", "ls", "-o", "json"]).json();
        assert_eq!(listed.as_array().map(Vec::len), Some(pins.len()), "round {round}");
    }
    assert!(cut_short > 0, "no collection was cut short");
    run(&world, &node, &["repo", "gc", "--grace", "0s"]).ok();
    assert!(pins.iter().all(|(cid, seed, size)| is_here(&world, &node, cid, *seed, *size)));
    let left: usize = pins.iter().map(|(.., size)| size).sum();
    let bytes = stat(&world, &node)["bytes"].as_u64().expect("a number");
    assert!((left as u64..left as u64 * 2).contains(&bytes), "all else has gone: {bytes} of {left}");
}

#[test]
fn both_ends_show_what_they_exchanged() {
    let world = World::new();
    let a = world.node("a", &[&TCP[..], &["--bandwidth-up", "8MiB"]].concat());
    let b = world.node("b", &[&TCP[..], &["--bandwidth-down", "4MB", "--join", &a.addr()]].concat());
    b.wait_for("members_connected", |members| members == 2);
    let cid = add(&world, &a, 1, 300_000, &[]);
    assert!(is_here(&world, &b, &cid, 1, 300_000));
    let stat = |node: &Node| run(&world, node, &["bitswap", "stat", "-o", "json"]).json();
    let came = stat(&b);
    assert_eq!((&came["limit_up"], &came["limit_down"], &came["peers"]), (&Value::Null, &4_000_000.into(), &1.into()));
    assert_eq!((&came["blocks_in"], stat(&a)["limit_up"].as_u64()), (&3.into(), Some(8 << 20)));
    wait_until("the count", || stat(&a)["blocks_out"] == 3);
    let peer = run(&world, &b, &["id", "-o", "json"]).json()["peer"].as_str().expect("a peer id").to_string();
    let ledger = run(&world, &a, &["bitswap", "ledger", &peer, "-o", "json"]).json();
    assert_eq!((&ledger[0]["blocks_out"], &ledger[0]["connected"]), (&3.into(), &true.into()));
    assert_eq!(ledger[0]["bytes_out"], came["bytes_in"]);
    let shown = run(&world, &a, &["bitswap", "ledger"]).ok();
    assert!(shown.contains(&peer) && shown.contains("connected"), "{shown}");
    assert_eq!(run(&world, &a, &["bitswap", "ledger", "nobody"]).code, 3);
    assert!(run(&world, &b, &["bitswap", "stat"]).ok().contains("limit down"));
}

#[test]
fn connected_peers_are_asked_who_has_a_block_and_who_did_not_give_it_is_named() {
    let world = World::new();
    let a = world.node("a", &TCP);
    let mut holder = world.node("holder", &[&TCP[..], &["--join", &a.addr()]].concat());
    let peer = run(&world, &holder, &["id", "-o", "json"]).json()["peer"].as_str().expect("a peer id").to_string();
    a.wait_for("members_connected", |members| members == 2);
    // What is not pinned is not announced: the DHT does not know of it.
    let loose = add(&world, &holder, 1, 100, &["--pin=false"]);
    let mut found = Value::Null;
    // On a busy machine it may be too slow to say so.
    wait_until("its word", || {
        found = run(&world, &a, &["providers", &loose, "-o", "json"]).json();
        found["silent"] == 0
    });
    assert_eq!((&found["here"], &found["asked"]), (&false.into(), &1.into()));
    let one = &found["providers"][0];
    assert_eq!((&one["peer"], &one["dht"], &one["says"]), (&peer.as_str().into(), &false.into(), &true.into()), "{found}");
    assert!(run(&world, &a, &["providers", &loose]).ok().contains("has it"));
    let nowhere = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyka";
    let found = run(&world, &a, &["providers", nowhere, "-o", "json"]).json();
    assert_eq!((&found["providers"], &found["asked"]), (&serde_json::json!([]), &1.into()));
    // What is pinned is announced; when its holder has gone, the DHT names it still.
    let pinned = add(&world, &holder, 2, 100, &[]);
    wait_until("the announcement", || {
        let found = run(&world, &a, &["providers", &pinned, "-o", "json"]).json();
        found["providers"][0]["dht"] == true
    });
    holder.kill();
    a.wait_for("members_connected", |members| members == 1);
    let said = run(&world, &a, &["cat", &pinned]);
    assert_eq!(said.code, 3);
    assert!(said.stderr.contains(&format!("{peer} was said to have it: it cannot be reached")), "{}", said.stderr);
}
