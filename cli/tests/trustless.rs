//! Clients that trust a gateway in nothing read what it gives, and readers of CARs what is exported: Helia's verified-fetch and others are asked.
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
use sha2::{Digest, Sha256};
use std::path::Path;
use world::{Node, World};

const CHUNK: usize = 256 * 1024;

fn content(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    fastrand::Rng::with_seed(size as u64).fill(&mut bytes);
    bytes
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn add(world: &World, node: &Node, path: &Path, more: &[&str]) -> String {
    world.command(&node.dir, &[&["add", path.to_str().expect("UTF-8")], more].concat()).ok()
}

/// What the client read is this.
fn is(read: &Value, bytes: &[u8], what: &str) {
    assert_eq!((&read["size"], &read["sha256"]), (&bytes.len().into(), &sha256(bytes).into()), "{what}");
}

#[test]
fn verified_fetch_reads_files_parts_of_them_and_folders_of_every_shape() {
    let world = World::new();
    let node = world.node("a", &[]);
    let mut client = Peer::trustless(node.api());
    for version in ["0", "1"] {
        for size in [0, 1, CHUNK, CHUNK + 1, 5 << 20] {
            let bytes = content(size);
            let cid = add(&world, &node, &world.write("file", &bytes), &["--cid-version", version]);
            is(&client.tell(&json!({"do": "fetch", "path": cid})), &bytes, &format!("{size} bytes"));
        }
        let bytes = content(5 << 20);
        let cid = add(&world, &node, &world.write("file", &bytes), &["--cid-version", version]);
        for (first, last) in [(0, 0), (CHUNK - 1, CHUNK), (1_000_000, 2_000_000), (bytes.len() - 1, bytes.len() - 1)] {
            let read = client.tell(&json!({"do": "fetch", "path": cid, "range": format!("bytes={first}-{last}")}));
            assert_eq!(read["status"], 206);
            is(&read, &bytes[first..=last], &format!("bytes {first} to {last}"));
        }
    }
    for number in 0..6000 {
        world.write(&format!("site/wide/an entry, number {number:010}."), format!("{}", number % 7));
    }
    world.write("site/sub/index.html", "<p>a page");
    let deep = vec!["d"; 30].join("/");
    world.write(&format!("site/{deep}/leaf"), "a leaf");
    let cid = add(&world, &node, &world.path("site"), &[]);
    for (path, bytes) in [("wide/an entry, number 0000005999.", "0"), ("sub/", "<p>a page"), (&format!("{deep}/leaf"), "a leaf")]
    {
        is(&client.tell(&json!({"do": "fetch", "path": format!("{cid}/{path}")})), bytes.as_bytes(), path);
    }
}

#[test]
fn bytes_of_a_file_are_read_from_one_archive_that_holds_what_they_need_and_no_more() {
    let world = World::new();
    let node = world.node("a", &[]);
    let mut client = Peer::trustless(node.api());
    // 200 leaves are two nodes below the root.
    let bytes = content(200 * CHUNK);
    world.write("folder/file", &bytes);
    let end = bytes.len();
    for version in ["0", "1"] {
        let cid = add(&world, &node, &world.path("folder"), &["--cid-version", version]);
        for (from, to, offset, length, leaves, nodes) in [
            ("0", "0", 0, 1, 1, 1),
            ("300000", "300099", 300_000, 100, 1, 1),
            ("262143", "262144", CHUNK - 1, 2, 2, 1),
            ("-5", "*", end - 5, 5, 1, 1),
            ("0", "*", 0, end, 200, 2),
            ("52166656", "-1", 52_166_656, end - 52_166_656, 1, 1),
        ] {
            let asked =
                json!({"do": "part", "path": format!("{cid}/file"), "from": from, "to": to, "offset": offset, "length": length});
            let read = client.tell(&asked);
            is(&read, &bytes[offset..offset + length], &format!("{from}:{to}"));
            // The folder and the file's root as well.
            assert_eq!(read["blocks"], 2 + nodes + leaves, "{from}:{to}");
        }
    }
}

#[test]
fn others_read_the_index_of_an_exported_archive() {
    let world = World::new();
    let node = world.node("a", &[]);
    let mut client = Peer::trustless(node.api());
    world.write("folder/large", content(3 * CHUNK));
    world.write("folder/small", "small");
    let car = world.path("a.car");
    let file = car.to_str().expect("UTF-8");
    // The folder, the large file's root and leaves, and the small file.
    let blocks = 6;
    for version in ["0", "1"] {
        let cid = add(&world, &node, &world.path("folder"), &["--cid-version", version]);
        world.command(&node.dir, &["dag", "export", &cid, "--car-version", "2", "-o", file]).ok();
        let read = client.tell(&json!({"do": "index", "file": file}));
        assert_eq!((&read["blocks"], &read["found"]), (&blocks.into(), &blocks.into()));
        std::fs::remove_file(&car).expect("removed");
    }
}
