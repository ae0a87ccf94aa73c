//! Content goes from TimeRose to Kubo and Helia and back by bitswap: the real ones are asked.
//!
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
use std::fs;
use std::path::{Path, PathBuf};
use world::{Node, World};

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

fn get(world: &World, node: &Node, cid: &str) -> PathBuf {
    let to = world.path(&format!("got/{cid}"));
    fs::create_dir_all(world.path("got")).expect("made");
    world.command(&node.dir, &["get", cid, "-o", text(&to)]).ok();
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
