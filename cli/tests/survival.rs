//! A job goes on whoever dies: an executor, the node that runs it, or two nodes at once. `TIMEROSE_ROUNDS` says how often.

#![expect(clippy::print_stderr, reason = "the seed of random rounds is for whoever reads the log")]

#[path = "mesh/world.rs"]
#[allow(dead_code, reason = "shared with the mesh tests, which use more of it")]
mod world;

use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};
use world::{Node, World, rounds, wait_until};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const FILES: usize = 300;

/// Four nodes that may die and come back.
struct Mesh {
    /// Before the world: they show their logs, which lie in it, if the test fails.
    nodes: BTreeMap<usize, Node>,
    world: World,
    dids: Vec<String>,
}

impl Mesh {
    fn new() -> Mesh {
        let world = World::new();
        let dids = NAMES.iter().map(|name| world.did(name)).collect();
        let mut mesh = Mesh { world, dids, nodes: BTreeMap::new() };
        mesh.heal();
        mesh
    }

    /// Starts whoever is down, and waits until all see each other.
    fn heal(&mut self) {
        for (number, name) in NAMES.iter().enumerate() {
            if self.nodes.contains_key(&number) {
                continue;
            }
            let trust = self.dids.iter().flat_map(|did| ["--trust", did.as_str()]);
            let join = self.nodes.values().next().map(Node::addr);
            let args: Vec<&str> = trust.chain(join.iter().flat_map(|addr| ["--join", addr.as_str()])).collect();
            let node = self.world.node(name, &args);
            self.nodes.insert(number, node);
        }
        for node in self.nodes.values() {
            node.wait_for("members_connected", |members| members == NAMES.len() as u64);
        }
    }

    /// A folder through which commands reach these nodes, in this order.
    fn home(&self, order: &[usize]) -> PathBuf {
        let api: String = order.iter().map(|number| format!("{}\n", self.nodes[number].api())).collect();
        let file = self.world.write("home/api", api);
        file.parent().expect("a folder").to_path_buf()
    }

    fn runs(&self) -> u64 {
        self.nodes.values().map(|node| node.metric("runs_total")).sum()
    }
}

/// A data set of its own for each round, and the counts of its words.
fn data(world: &World, round: usize) -> (String, BTreeMap<String, u64>) {
    let folder = format!("data-{round}");
    let mut counts = BTreeMap::new();
    for file in 0..FILES {
        let mut text = String::new();
        for word in 0..2000 + file {
            writeln!(text, "w{} r{round} f{file}", word % 700).expect("written");
            for word in [format!("w{}", word % 700), format!("r{round}"), format!("f{file}")] {
                *counts.entry(word).or_default() += 1;
            }
        }
        world.write(&format!("{folder}/{:02}/{file}", file % 11), text);
    }
    (folder, counts)
}

#[test]
fn a_job_survives_an_executor_its_own_node_and_two_at_once() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis() as u64;
    eprintln!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut mesh = Mesh::new();
    let guests = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../guests");
    let path = |name: &str| guests.join(name).to_str().expect("UTF-8").to_string();
    let (code, manifest) = (path("built/wordcount-fan.wasm"), path("wordcount/fan.toml"));
    let all: Vec<usize> = (0..NAMES.len()).collect();
    let deployed = mesh.world.command(&mesh.home(&all), &["deploy", &code, "--manifest", &manifest]).ok();
    for round in 0..rounds() {
        let mut order = all.clone();
        rng.shuffle(&mut order);
        let home = mesh.home(&order);
        let (folder, counts) = data(&mesh.world, round);
        let added = mesh.world.command(&home, &["add", "--spread", "--copies", "3", &folder, "-o", "json"]).json();
        assert_eq!(added["missing"], 0, "{added}");
        let dataset = added["cid"].as_str().expect("a CID").to_string();
        // The first of the order runs the job.
        let victims = match round % 3 {
            0 => vec![order[1 + rng.usize(0..3)]],
            1 => vec![order[0]],
            _ => {
                let mut pair = order.clone();
                rng.shuffle(&mut pair);
                pair[..2].to_vec()
            }
        };
        let moment = mesh.runs() + rng.u64(FILES as u64 / 20..FILES as u64 * 3 / 4);
        let names: Vec<String> = victims.iter().map(|victim| mesh.nodes[victim].id()).collect();
        eprintln!("round {round}: {} runs the job; {names:?} die after {moment} runs in all", mesh.nodes[&order[0]].id());
        let world = &mesh.world;
        let nodes = &mut mesh.nodes;
        let answer = std::thread::scope(|scope| {
            let job = scope.spawn(|| world.command(&home, &["mapreduce", &deployed, &dataset, "-o", "json"]).json());
            wait_until("the moment", || nodes.values().map(|node| node.metric("runs_total")).sum::<u64>() >= moment);
            for victim in &victims {
                nodes.remove(victim).expect("it lives").kill();
            }
            job.join().expect("an answer")
        });
        let survivor = mesh.nodes.values().next().expect("two live");
        let result = answer["result"].as_str().expect("a CID");
        let shown = mesh.world.command(&survivor.dir, &["cat", result]).ok();
        let found: BTreeMap<String, u64> = serde_json::from_str(&shown).expect("counts");
        assert!(found == counts, "round {round}: wrong totals");
        assert_eq!(answer["tasks"], Value::from(answer["done"].as_u64()), "{answer}");
        mesh.heal();
    }
}
