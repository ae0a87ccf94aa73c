//! Content goes from TimeRose to Kubo and Helia and back, by bitswap and to Helia by archives too: the real ones are asked.
//!
//! The library that Kubo is here has no call that reads an archive, and no RPC API or gateway in it that one could be given to.
//! `TIMEROSE_PEERS` names the folder that scripts/peers filled.

#[path = "mesh/peer.rs"]
#[allow(dead_code, reason = "shared with other tests of real peers, which use more of it")]
mod peer;
#[path = "mesh/world.rs"]
#[allow(dead_code, reason = "shared with the mesh tests, which use more of it")]
mod world;

use peer::Peer;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::{fs, io, thread};
use world::{Node, World, wait_until};

const CHUNK: usize = 256 * 1024;
const SIZES: [usize; 6] = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 64 << 20];
/// A Helia of the tests dials plain TCP alone.
const TCP: [&str; 2] = ["--listen", "/ip4/127.0.0.1/tcp/0"];
/// Tried as well where `TIMEROSE_BIG` is set.
const BIG: usize = 1 << 30;

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A file of so many bytes, which differ from chunk to chunk and from seed to seed.
fn file(world: &World, seed: u64, size: usize) -> PathBuf {
    let mut bytes = vec![0; size];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    world.write(&format!("files/{seed}-{size}"), bytes)
}

fn sha256(path: &Path) -> String {
    let digest = Sha256::digest(fs::read(path).expect("there"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn add(world: &World, node: &Node, path: &Path, more: &[&str]) -> String {
    world.command(&node.dir, &[&["add", text(path)], more].concat()).ok()
}

fn get(world: &World, node: &Node, of: &str) -> PathBuf {
    let to = world.path(&format!("got/{}", of.replace('/', " ")));
    fs::create_dir_all(world.path("got")).expect("made");
    world.command(&node.dir, &["get", of, "-o", text(&to)]).ok();
    to
}

fn connect(peer: &mut Peer, node: &Node) {
    peer.tell(&json!({"do": "connect", "addr": node.addr()}));
}

/// The peer reads a file, or what lies at `path` of a folder, that only the node has.
fn peer_reads(peer: &mut Peer, cid: &str, path: Option<&str>, original: &Path) {
    let mut told = json!({"do": "cat", "cid": cid});
    if let Some(path) = path {
        told["path"] = path.into();
    }
    let read = peer.tell(&told);
    let size = fs::metadata(original).expect("there").len();
    assert_eq!((&read["size"], &read["sha256"]), (&size.into(), &sha256(original).into()), "{}", original.display());
}

fn files_go_both_ways(world: &World, node: &Node, peer: &mut Peer, sizes: &[usize]) {
    connect(peer, node);
    for size in sizes {
        let theirs = file(world, 1, *size);
        let cid = peer.add(&theirs, &json!({}));
        assert_eq!(sha256(&get(world, node, &cid)), sha256(&theirs), "{size} bytes to us");
        let ours = file(world, 2, *size);
        peer_reads(peer, &add(world, node, &ours, &[]), None, &ours);
    }
}

#[test]
fn kubo_gives_and_takes_files_of_every_shape() {
    let world = World::new();
    let (node, mut kubo) = (world.node("a", &TCP), Peer::kubo(&world.path("kubo")));
    let big = std::env::var_os("TIMEROSE_BIG").map(|_| BIG);
    let sizes: Vec<usize> = SIZES.into_iter().chain(big).collect();
    files_go_both_ways(&world, &node, &mut kubo, &sizes);
}

#[test]
fn helia_gives_and_takes_files_of_every_shape() {
    let world = World::new();
    let (node, mut helia) = (world.node("a", &TCP), Peer::helia());
    files_go_both_ways(&world, &node, &mut helia, &SIZES);
    let log = fs::read_to_string(&node.log).expect("a log");
    assert!(!log.contains("misbehaves"), "nothing came that was not taken: {log}");
}

#[test]
fn blocks_of_every_size_come_from_helia() {
    let world = World::new();
    let (node, mut helia) = (world.node("a", &TCP), Peer::helia());
    connect(&mut helia, &node);
    // The first is a limit: 2 MiB is the most that a block has.
    for chunk in [2 << 20, 1 << 20, (1 << 20) - 100, CHUNK + 1, 1000] {
        let theirs = file(&world, chunk as u64, 12 * (1 << 20).min(chunk * 100));
        let cid = helia.add(&theirs, &json!({"chunk": chunk}));
        assert_eq!(sha256(&get(&world, &node, &cid)), sha256(&theirs), "chunks of {chunk} bytes");
    }
    assert_eq!(fs::read_to_string(&node.log).expect("a log").matches("misbehaves").count(), 0, "all was taken");
}

/// Bytes that a node keeps.
fn kept(node: &Node) -> u64 {
    let mut stat = ureq::get(format!("http://{}/v1/repo", node.api())).call().expect("an answer");
    let stat: serde_json::Value = serde_json::from_str(&stat.body_mut().read_to_string().expect("text")).expect("JSON");
    stat["bytes"].as_u64().expect("a number")
}

#[test]
fn what_came_before_a_node_was_killed_is_not_fetched_again() {
    let world = World::new();
    // So slow that it is killed in the midst of it.
    let slow = [&TCP[..], &["--bandwidth-down", "16MiB"]].concat();
    let (mut node, mut kubo) = (world.node("a", &slow), Peer::kubo(&world.path("kubo")));
    let (size, part) = (64 << 20, 8 << 20);
    let theirs = file(&world, 3, size);
    let cid = kubo.add(&theirs, &json!({}));
    connect(&mut kubo, &node);
    let url = format!("http://{}/ipfs/{cid}", node.api());
    // It ends with the node.
    let reading =
        thread::spawn(move || ureq::get(url).call().map(|read| io::copy(&mut read.into_body().into_reader(), &mut io::sink())));
    wait_until("a part to be kept", || kept(&node) > part);
    node.kill();
    let _ = reading.join().expect("no panic");
    let node = world.node("a", &TCP);
    let before = kept(&node);
    assert!((part..size as u64).contains(&before), "{before} bytes came of {size}");
    connect(&mut kubo, &node);
    assert_eq!(sha256(&get(&world, &node, &cid)), sha256(&theirs));
    assert_eq!(node.metric("block_bytes_received_total"), kept(&node) - before, "the rest came, and nothing twice");
}

#[test]
fn dag_cbor_comes_from_helia_with_all_that_it_links_to() {
    let world = World::new();
    let (node, mut helia) = (world.node("a", &TCP), Peer::helia());
    connect(&mut helia, &node);
    let files = [file(&world, 4, 3 * CHUNK), file(&world, 5, 10)];
    let cids = files.each_ref().map(|file| helia.add(file, &json!({})));
    let mut tie = |cids: &[&str]| helia.tell(&json!({"do": "tie", "cids": cids}))["cid"].as_str().expect("a CID").to_string();
    let below = tie(&[&cids[0]]);
    let root = tie(&[&below, &cids[1]]);
    world.command(&node.dir, &["pin", "add", &root]).ok();
    drop(helia);
    for (cid, file) in cids.iter().zip(&files) {
        assert_eq!(sha256(&get(&world, &node, cid)), sha256(file), "it came along");
    }
}

#[test]
fn sharded_and_deep_folders_go_both_ways() {
    let world = World::new();
    let (node, mut kubo, mut helia) = (world.node("a", &TCP), Peer::kubo(&world.path("kubo")), Peer::helia());
    connect(&mut kubo, &node);
    connect(&mut helia, &node);
    let deep = vec!["d"; 60].join("/");
    for who in ["kubo", "helia", "ours"] {
        for number in 0..10_000 {
            world.write(&format!("{who}/wide/an entry, number {number:010}."), format!("{who} {}", number % 7));
        }
        world.write(&format!("{who}/{deep}/leaf"), format!("of {who}"));
    }
    for (who, peer) in [("kubo", &mut kubo), ("helia", &mut helia)] {
        let cid = peer.add(&world.path(who), &json!({}));
        let listed = world.command(&node.dir, &["ls", &format!("{cid}/wide"), "-o", "json"]).json();
        assert_eq!(listed.as_array().map(Vec::len), Some(10_000), "{who}");
        assert_eq!(
            world.command(&node.dir, &["cat", &format!("{cid}/wide/an entry, number 0000009999.")]).ok(),
            format!("{who} 3")
        );
        assert_eq!(world.command(&node.dir, &["cat", &format!("{cid}/{deep}/leaf")]).ok(), format!("of {who}"));
    }
    let cid = add(&world, &node, &world.path("ours"), &[]);
    for path in ["wide/an entry, number 0000009999.".to_string(), format!("{deep}/leaf")] {
        peer_reads(&mut helia, &cid, Some(&path), &world.path("ours").join(&path));
    }
}

#[test]
fn files_that_are_laid_out_to_trickle_go_both_ways() {
    let world = World::new();
    let (node, mut kubo, mut helia) = (world.node("a", &TCP), Peer::kubo(&world.path("kubo")), Peer::helia());
    connect(&mut kubo, &node);
    connect(&mut helia, &node);
    // Over 174 · 5 parts: there are trees below trees.
    for (seed, size) in [(6, 0), (6, 1000), (7, 1_000_001)] {
        let theirs = file(&world, seed, size);
        let cid = helia.add(&theirs, &json!({"trickles": true, "chunk": 1000}));
        assert_eq!(sha256(&get(&world, &node, &cid)), sha256(&theirs), "{size} bytes to us");
        let ours = file(&world, seed + 10, size);
        let cid = add(&world, &node, &ours, &["--trickle", "--chunker", "size-1000", "--cid-version", "0"]);
        for peer in [&mut kubo, &mut helia] {
            peer_reads(peer, &cid, None, &ours);
        }
    }
}

#[test]
fn archives_go_both_ways_between_helia_and_us() {
    let world = World::new();
    // They are not connected: what is not in an archive does not come.
    let node = world.node("a", &TCP);
    world.write("folder/слово/large", fs::read(file(&world, 8, 3 * CHUNK + 7)).expect("there"));
    world.write("folder/empty", "");
    let (folder, car) = (world.path("folder"), world.path("a.car"));
    let run = |args: &[&str]| world.command(&node.dir, args);
    for (version, car_version) in [("0", "1"), ("0", "2"), ("1", "1"), ("1", "2")] {
        let mut helia = Peer::helia();
        let cid = add(&world, &node, &folder, &["--cid-version", version, "--trickle"]);
        run(&["dag", "export", &cid, "--car-version", car_version, "-o", text(&car)]).ok();
        assert_eq!(helia.tell(&json!({"do": "import", "file": car}))["roots"], json!([cid]));
        for path in ["слово/large", "empty"] {
            peer_reads(&mut helia, &cid, Some(path), &folder.join(path));
        }
        fs::remove_file(&car).expect("removed");
    }
    for (version, trickles) in [(0, false), (1, true)] {
        let (mut helia, node) = (Peer::helia(), world.node(&format!("reader-{version}"), &[]));
        let cid = helia.add(&folder, &json!({"version": version, "trickles": trickles}));
        helia.tell(&json!({"do": "export", "cid": cid, "file": car}));
        let imported = world.command(&node.dir, &["dag", "import", text(&car), "-o", "json"]).json();
        assert_eq!((&imported["roots"][0]["cid"], &imported["roots"][0]["pinned"]), (&json!(cid), &json!(true)));
        for path in ["слово/large", "empty"] {
            let got = get(&world, &node, &format!("{cid}/{path}"));
            assert_eq!(sha256(&got), sha256(&folder.join(path)), "{path}, version {version}");
        }
    }
}
