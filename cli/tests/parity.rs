//! The same content has the same CID at TimeRose, Kubo and Helia: the real ones are asked.
//!
//! `TIMEROSE_PEERS` names the folder that scripts/peers filled. Kubo's library makes CIDv0 in the balanced layout alone (it has no call for more,
//! and neither the RPC API nor the gateway is in it); Helia makes both and the trickle layout, and knows no symbolic links.

#[path = "mesh/peer.rs"]
#[allow(dead_code, reason = "shared with other tests of real peers, which use more of it")]
mod peer;
#[path = "mesh/world.rs"]
#[allow(dead_code, reason = "shared with the mesh tests, which use more of it")]
mod world;

use peer::Peer;
use serde_json::json;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};
use world::{Node, World};

const CHUNK: usize = 256 * 1024;

/// The CID that TimeRose gives.
fn ours(world: &World, node: &Node, path: &Path, args: &[&str]) -> String {
    let path = path.to_str().expect("UTF-8");
    world.command(&node.dir, &[&["add", path], args].concat()).ok()
}

/// Bytes that are the same in every run and differ from chunk to chunk.
fn content(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    fastrand::Rng::with_seed(size as u64).fill(&mut bytes);
    bytes
}

/// Files of every size at which the shape of their tree changes.
fn files(world: &World) -> Vec<PathBuf> {
    let sizes = [0, 1, 100, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 174 * CHUNK, 174 * CHUNK + 1];
    sizes.into_iter().map(|size| world.write(&format!("files/{size}"), content(size))).collect()
}

/// Folders with odd names, empty ones, and deep ones.
fn odd_folder(world: &World) -> PathBuf {
    let names = [
        "plain.txt",
        "два слова",
        "漢字.txt",
        "مرحبا",
        "e\u{301}",
        "\u{e9}",
        "👩‍👩‍👧",
        "100% & more",
        "quote\"'`",
        "#?=&",
        "-dash",
        "new\nline",
        "tab\t",
        "CAPS",
        "caps",
        "..dots",
        "a.",
        "~",
        "\u{202e}rtl",
        "$HOME",
        "<b>",
    ];
    for name in names {
        world.write(&format!("odd/names/{name}"), name);
    }
    world.write(&format!("odd/names/{}", "long".repeat(63)), "a name of 252 bytes");
    world.write(&format!("odd/{}/leaf", vec!["d"; 60].join("/")), "deep");
    world.write("odd/empty file", "");
    fs::create_dir(world.path("odd/empty folder")).expect("made");
    world.write("odd/large", content(3 * CHUNK + 7));
    world.path("odd")
}

/// A folder of so many entries, each with a name of 28 bytes.
fn wide_folder(world: &World, entries: usize) -> PathBuf {
    let folder = format!("wide-{entries}");
    for number in 0..entries {
        world.write(&format!("{folder}/an entry, number {number:010}."), format!("{}", number % 7));
    }
    world.path(&folder)
}

#[test]
fn helia_gives_the_same_cids() {
    let world = World::new();
    let (node, mut helia) = (world.node("a", &[]), Peer::helia());
    let mut paths = files(&world);
    paths.push(odd_folder(&world));
    for path in &paths {
        for (args, told) in [
            (&[][..], json!({})),
            (&["--cid-version", "0"][..], json!({"version": 0})),
            (&["--no-raw-leaves"], json!({"raw": false})),
            (&["--cid-version", "0", "--raw-leaves"], json!({"version": 0, "raw": true})),
        ] {
            assert_eq!(ours(&world, &node, path, args), helia.add(path, &told), "{} {args:?}", path.display());
        }
    }
    // Small chunks reach three levels of tree with little content.
    for size in [0, 99, 100, 101, 174 * 100, 174 * 100 + 1, 174 * 174 * 100, 174 * 174 * 100 + 1] {
        let path = world.write(&format!("small chunks/{size}"), content(size));
        for version in [0, 1] {
            let args = ["--chunker", "size-100", "--cid-version", &version.to_string()];
            let told = json!({"version": version, "chunk": 100});
            assert_eq!(ours(&world, &node, &path, &args), helia.add(&path, &told), "{size} bytes, version {version}");
        }
    }
}

#[test]
fn helia_lays_files_out_to_trickle_in_the_same_way() {
    let world = World::new();
    let (node, mut helia) = (world.node("a", &[]), Peer::helia());
    let ways = [
        (&[][..], json!({"trickles": true, "chunk": 100})),
        (&["--cid-version", "0"][..], json!({"trickles": true, "chunk": 100, "version": 0})),
        (&["--no-raw-leaves"], json!({"trickles": true, "chunk": 100, "raw": false})),
    ];
    // A root with trees up to a depth of n holds 174 · 5^n chunks.
    for (chunks, ways) in [(0, &ways[..]), (1, &ways), (174, &ways), (174 * 5, &ways), (174 * 25, &ways), (174 * 125, &ways[..1])]
    {
        for size in [chunks * 100, chunks * 100 + 1] {
            let path = world.write(&format!("trickles/{size}"), content(size));
            for (args, told) in ways {
                let args = [&["--trickle", "--chunker", "size-100"], *args].concat();
                assert_eq!(ours(&world, &node, &path, &args), helia.add(&path, told), "{size} bytes {args:?}");
            }
        }
    }
    let odd = odd_folder(&world);
    assert_eq!(ours(&world, &node, &odd, &["--trickle"]), helia.add(&odd, &json!({"trickles": true})));
    let plain = ours(&world, &node, &odd, &[]);
    assert_ne!(ours(&world, &node, &odd, &["--trickle"]), plain, "an archive of a folder is laid out so as well");
}

#[test]
fn helia_shards_folders_at_the_same_size_and_in_the_same_way() {
    let world = World::new();
    let (node, mut helia) = (world.node("a", &[]), Peer::helia());
    // An entry counts its name and its CID: 28 + 36 bytes with version 1, of which 4,096 are 256 KiB.
    for entries in [4095, 4096, 4097, 10_000] {
        let path = wide_folder(&world, entries);
        let cid = ours(&world, &node, &path, &[]);
        assert_eq!(cid, helia.add(&path, &json!({})), "{entries} entries");
        let listed = world.command(&node.dir, &["ls", &cid, "-o", "json"]).json();
        assert_eq!(listed.as_array().map(Vec::len), Some(entries));
    }
    // 28 + 34 with version 0.
    for entries in [4228, 4229] {
        let path = wide_folder(&world, entries);
        let cid = ours(&world, &node, &path, &["--cid-version", "0"]);
        assert_eq!(cid, helia.add(&path, &json!({"version": 0})), "{entries} entries, version 0");
    }
}

#[test]
fn helia_records_permissions_and_times_in_the_same_way() {
    let world = World::new();
    let (node, mut helia) = (world.node("a", &[]), Peer::helia());
    for (name, size, mode) in
        [("noted/none", 0, 0o600), ("noted/small", 9, 0o751), ("noted/chunk", CHUNK, 0o400), ("noted/below/deep", 5, 0o640)]
    {
        let path = world.write(name, content(size));
        let file = fs::File::open(&path).expect("opened");
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_600_000_000 + size as u64)).expect("set");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
    }
    for folder in ["noted/below", "noted"] {
        let path = world.path(folder);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o711)).expect("set");
        fs::File::open(&path).and_then(|file| file.set_modified(UNIX_EPOCH + Duration::from_secs(7))).expect("set");
    }
    for name in ["noted", "noted/none", "noted/small", "noted/chunk", "noted/below/deep"] {
        for version in [0, 1] {
            let args = ["--preserve-mode", "--preserve-mtime", "--cid-version", &version.to_string()];
            // As Kubo, TimeRose makes no raw leaves then. Helia takes them where they are to be had, and heads twice otherwise: so all files are
            // of one chunk, of which both make the same.
            let told = json!({"version": version, "raw": true, "keep": true});
            assert_eq!(
                ours(&world, &node, &world.path(name), &args),
                helia.add(&world.path(name), &told),
                "{name}, version {version}"
            );
        }
    }
}

#[test]
fn kubo_gives_the_same_cids() {
    let world = World::new();
    let (node, mut kubo) = (world.node("a", &[]), Peer::kubo(&world.path("kubo")));
    let mut paths = files(&world);
    let odd = odd_folder(&world);
    world.write("odd/names/back\\slash", "only Kubo takes it");
    world.write("odd/names/ spaces ", "only Kubo takes it");
    for (target, link) in
        [("names/plain.txt", "link"), ("../..", "out"), ("/etc/passwd", "names/absolute"), ("nowhere at all", "d/ё")]
    {
        symlink(target, odd.join(link)).expect("linked");
    }
    paths.push(odd);
    // This Kubo shards from 256 KiB on, later ones and Helia beyond it: at exactly that size they differ.
    paths.extend([4227, 4229, 10_000].map(|entries| wide_folder(&world, entries)));
    for path in &paths {
        let cid = ours(&world, &node, path, &["--cid-version", "0"]);
        assert_eq!(cid, kubo.add(path, &json!({})), "{}", path.display());
    }
}
