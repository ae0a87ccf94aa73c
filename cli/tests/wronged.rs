//! Peers that lie, boast or stall in the middle of a transfer: a real Helia does so, and a real Kubo is honest.
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
use std::path::PathBuf;
use std::{fs, thread};
use world::{Node, Said, World, wait_until};

const CHUNK: usize = 256 * 1024;
/// A Helia of the tests dials plain TCP alone.
const TCP: [&str; 2] = ["--listen", "/ip4/127.0.0.1/tcp/0"];
/// Blocks that Helia gives as they are, before it turns: the folder, the file's root and some of its leaves.
const FAIR: u32 = 6;

/// A node, and a Helia that is connected to it.
struct Scene {
    world: World,
    node: Node,
    helia: Peer,
}

impl Scene {
    fn new() -> Scene {
        Scene::with(&[])
    }

    /// The node is given more options.
    fn with(more: &[&str]) -> Scene {
        let world = World::new();
        let (node, mut helia) = (world.node("a", &[&TCP, more].concat()), Peer::helia());
        connect(&mut helia, &node);
        Scene { world, node, helia }
    }

    /// Helia has a folder with a file of so many leaves.
    fn folder(&mut self, leaves: usize) -> Held {
        let mut bytes = vec![0; leaves * CHUNK];
        fastrand::Rng::with_seed(7).fill(&mut bytes);
        let file = self.world.write("folder/file", &bytes);
        // As Kubo adds files.
        let cid = self.helia.add(file.parent().expect("a folder"), &json!({"version": 0}));
        Held { cid, file, bytes }
    }

    /// A Kubo that has the file, and not the folder: a fetch of the folder asks Helia first.
    fn kubo(&self, held: &Held) -> Peer {
        let mut kubo = Peer::kubo(&self.world.path("kubo"));
        kubo.add(&held.file, &json!({}));
        kubo
    }

    fn pin(&self, cid: &str) -> Said {
        self.world.command(&self.node.dir, &["pin", "add", cid])
    }

    /// It is all here, and right, whoever is gone.
    fn has(self, held: &Held) {
        drop(self.helia);
        let to = self.world.path("got");
        let path = format!("{}/file", held.cid);
        self.world.command(&self.node.dir, &["get", &path, "-o", to.to_str().expect("UTF-8")]).ok();
        assert!(fs::read(&to).expect("there") == held.bytes, "the bytes are others");
        nothing_is_false(&self.world, &self.node);
    }

    /// Whoever wants it is told so within the time of a fetch, and what has come is right.
    fn has_not(&self, said: &Said) {
        assert_eq!(said.code, 3, "{}{}", said.stdout, said.stderr);
        assert!(said.stderr.contains("NotFound: ") && said.stderr.contains(" hint: "), "{}", said.stderr);
        nothing_is_false(&self.world, &self.node);
        assert_eq!(self.world.command(&self.node.dir, &["pin", "ls", "-o", "json"]).json(), json!([]), "it is not pinned");
    }
}

/// What a peer has.
struct Held {
    cid: String,
    file: PathBuf,
    bytes: Vec<u8>,
}

fn connect(peer: &mut Peer, node: &Node) {
    peer.tell(&json!({"do": "connect", "addr": node.addr()}));
}

/// Each block that a node keeps is that of its CID.
fn nothing_is_false(world: &World, node: &Node) {
    let report = world.command(&node.dir, &["repo", "verify", "-o", "json"]).json();
    assert_eq!(report["found"], 0, "{report}");
}

#[test]
fn who_lies_is_cut_off_and_the_honest_give_the_rest() {
    let mut scene = Scene::new();
    let held = scene.folder(64);
    let mut kubo = scene.kubo(&held);
    connect(&mut kubo, &scene.node);
    scene.helia.turn("liar", FAIR);
    scene.pin(&held.cid).ok();
    let log = fs::read_to_string(&scene.node.log).expect("a log");
    assert!(log.contains("it sends blocks that nobody asked it for"), "{log}");
    scene.has(&held);
}

#[test]
fn who_stalls_is_passed_over_and_the_honest_give_the_rest() {
    let mut scene = Scene::new();
    let held = scene.folder(64);
    let mut kubo = scene.kubo(&held);
    connect(&mut kubo, &scene.node);
    scene.helia.turn("staller", FAIR);
    scene.pin(&held.cid).ok();
    assert!(scene.helia.wronged() > 0, "it was asked, and gave nothing");
    scene.has(&held);
}

#[test]
fn who_says_that_it_has_a_block_and_never_sends_it_is_passed_over() {
    let mut scene = Scene::new();
    let leaf = scene.folder(1);
    // Who has it is asked first, and it says so.
    let cid = scene.helia.add(&leaf.file, &json!({"version": 0}));
    scene.helia.turn("staller", 1);
    scene.has_not(&scene.pin(&cid));
    assert!(scene.helia.wronged() > 0, "it was asked, and gave nothing");
    scene.helia.turn("staller", 1);
    let mut kubo = scene.kubo(&leaf);
    thread::scope(|scope| {
        let pinned = scope.spawn(|| scene.world.command(&scene.node.dir, &["pin", "add", &cid]));
        wait_until("the block to be asked for", || scene.helia.wronged() > 0);
        connect(&mut kubo, &scene.node);
        pinned.join().expect("no panic").ok();
    });
    drop(scene.helia);
    assert!(scene.world.command(&scene.node.dir, &["cat", &cid]).code == 0);
    nothing_is_false(&scene.world, &scene.node);
}

#[test]
fn where_only_a_liar_or_a_staller_has_it_the_fetch_ends_in_an_error_and_goes_on_later() {
    for character in ["liar", "staller"] {
        let mut scene = Scene::new();
        let held = scene.folder(64);
        scene.helia.turn(character, FAIR);
        scene.has_not(&scene.pin(&held.cid));
        assert!(scene.helia.wronged() > 0, "it was asked");
        scene.helia.turn("honest", u32::MAX);
        // A liar's connection may just be ending, and its Helia not know it.
        wait_until("the fetch to go on", || {
            connect(&mut scene.helia, &scene.node);
            scene.pin(&held.cid).code == 0
        });
        scene.has(&held);
    }
}

#[test]
fn a_peer_whose_process_stops_in_the_middle_costs_its_fetch_an_error_and_nothing_that_came() {
    // So slow that it is stopped in the middle.
    let mut scene = Scene::with(&["--bandwidth-down", "16MiB"]);
    let held = scene.folder(256);
    let before = scene.node.metric("block_bytes_received_total");
    let said = thread::scope(|scope| {
        let pinned = scope.spawn(|| scene.pin(&held.cid));
        scene.node.wait_for("block_bytes_received_total", |bytes| bytes > before + (4 << 20));
        scene.helia.signal("STOP");
        pinned.join().expect("no panic")
    });
    scene.has_not(&said);
    // Its connection may be gone by now, so that another goes on.
    scene.helia = Peer::helia();
    assert_eq!(scene.folder(256).cid, held.cid);
    connect(&mut scene.helia, &scene.node);
    scene.pin(&held.cid).ok();
    let received = scene.node.metric("block_bytes_received_total");
    // A message that was on its way when the process stopped comes again.
    assert!(received < (held.bytes.len() + held.bytes.len() / 4) as u64, "{received} bytes came");
    scene.has(&held);
}
