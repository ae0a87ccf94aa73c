//! Which node a call goes to in a mesh of three regions that lie far from each other: real processes, each in a network of its own
//! (a namespace of Linux), between which every packet takes the time of a long way (`mesh/regions.py`).

#![expect(clippy::print_stderr, reason = "where calls went is for whoever reads the log")]

#[path = "mesh/world.rs"]
#[allow(dead_code, reason = "shared with the mesh tests, which use more of it")]
mod world;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use world::{Node, Said, TIMEROSE, World, guest, wait_until};

/// The regions, and the round trips between them in milliseconds; in a region, those from its client to its executors.
const REGIONS: [&str; 3] = ["europe", "america", "asia"];
const RTT_MS: [[u64; 3]; 3] = [[20, 100, 260], [100, 20, 180], [260, 180, 20]];
/// Executors of each region that take everybody's calls.
const EXECUTORS: usize = 2;
/// Calls of each client, one at a time.
const CALLS: usize = 70;
/// What may be measured on top of a round trip, on a machine that does other things as well.
const SLACK_US: u64 = 30_000;
/// How often they are looked at, five times a second, before the test gives up.
const PATIENCE: usize = 900;

/// A network for the client of each region, and one for its executors. They go with the test.
struct Sites {
    networks: Vec<String>,
    router: Option<Child>,
}

/// Where the client of a region is.
fn client_site(region: usize) -> usize {
    2 * region
}

/// Where its executors are.
fn executors_site(region: usize) -> usize {
    2 * region + 1
}

impl Sites {
    /// All of them, if networks may be made here.
    fn new() -> Option<Sites> {
        let mut sites = Sites { networks: Vec::new(), router: None };
        for at in 0..2 * REGIONS.len() {
            let name = format!("timerose-region-{}-{at}", std::process::id());
            if !ip(&["netns", "add", &name]) {
                eprintln!("SKIPPED: only root may make network namespaces, by the command ip");
                return None;
            }
            assert!(ip(&["-n", &name, "link", "set", "lo", "up"]));
            sites.networks.push(name);
        }
        let places: Vec<Value> = (sites.networks.iter().enumerate())
            .map(|(at, network)| json!([network, format!("tr{}x{at}", std::process::id()), address(at)]))
            .collect();
        let rtt = |one: usize, other: usize| RTT_MS[one / 2][other / 2];
        let all = 0..places.len();
        let rtts: Vec<Vec<u64>> = all.clone().map(|one| all.clone().map(|other| rtt(one, other)).collect()).collect();
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/mesh/regions.py");
        let router = Command::new("python3")
            .arg(script)
            .arg(json!({"sites": places, "rtt_ms": rtts}).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut router) = router else {
            eprintln!("SKIPPED: there is no python3, which delays packets");
            return None;
        };
        let mut ready = String::new();
        BufReader::new(router.stdout.take().expect("piped")).read_line(&mut ready).expect("a line");
        if ready.is_empty() && router.wait().expect("ended").code() == Some(3) {
            eprintln!("SKIPPED: this machine has no /dev/net/tun, by which packets are delayed");
            return None;
        }
        assert_eq!(ready, "ready\n");
        sites.router = Some(router);
        Some(sites)
    }

    /// The program, in one of the networks.
    fn program(&self, at: usize) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.networks[at], TIMEROSE]);
        command
    }

    fn node(&self, world: &World, at: usize, name: &str, args: &[&str]) -> Node {
        let listen = format!("/ip4/{}/tcp/0", address(at));
        let common = ["--listen", &listen, "--region", REGIONS[at / 2]];
        world.node_by(self.program(at), name, &[&common, args].concat())
    }

    /// Runs a command against a node, where that is.
    fn command(&self, world: &World, at: usize, node: &Node, args: &[&str]) -> Said {
        let mut program = self.program(at);
        program.args(args).env("TIMEROSE_PATH", &node.dir).current_dir(world.dir.path()).output().expect("run").into()
    }
}

impl Drop for Sites {
    fn drop(&mut self) {
        if let Some(mut router) = self.router.take() {
            drop(router.stdin.take());
            let _ = router.wait();
        }
        for name in &self.networks {
            ip(&["netns", "del", name]);
        }
    }
}

fn address(at: usize) -> String {
    format!("10.78.0.{}", at + 1)
}

/// Whether the command could be run, and went well.
fn ip(args: &[&str]) -> bool {
    Command::new("ip").args(args).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The mesh: a client and executors in each region, and beside the first client an executor that takes nobody's calls.
struct Mesh {
    // Nodes end before their networks and folders go.
    clients: Vec<Node>,
    executors: Vec<Vec<Node>>,
    refuser: Node,
    sites: Sites,
    world: World,
}

impl Mesh {
    /// All nodes know each other; the refuser trusts none of them.
    fn new(sites: Sites) -> Mesh {
        let world = World::new();
        let clients: Vec<String> = REGIONS.iter().map(|region| format!("{region}-client")).collect();
        let executors: Vec<Vec<String>> =
            REGIONS.iter().map(|region| (0..EXECUTORS).map(|n| format!("{region}-{n}")).collect()).collect();
        let names = clients.iter().chain(executors.iter().flatten()).map(String::as_str).chain(["refuser"]);
        let trust: Vec<String> = names.flat_map(|name| ["--trust".to_string(), world.did(name)]).collect();
        let trust: Vec<&str> = trust.iter().map(String::as_str).collect();
        let mut join: Vec<String> = Vec::new();
        let mut start = |at: usize, name: &str, args: &[&str]| {
            let joins: Vec<&str> = join.iter().flat_map(|addr| ["--join", addr]).collect();
            let node = sites.node(&world, at, name, &[args, &joins].concat());
            if join.is_empty() {
                join.push(addr_of(&sites, &world, at, &node));
            }
            node
        };
        let clients: Vec<Node> = (clients.iter().enumerate())
            .map(|(region, name)| start(client_site(region), name, &[&trust[..], &["--roles", "scheduler"]].concat()))
            .collect();
        let executors: Vec<Vec<Node>> = (executors.iter().enumerate())
            .map(|(region, names)| names.iter().map(|name| start(executors_site(region), name, &trust)).collect())
            .collect();
        let refuser = start(client_site(0), "refuser", &[]);
        Mesh { world, sites, clients, executors, refuser }
    }

    fn run(&self, region: usize, args: &[&str]) -> Said {
        self.sites.command(&self.world, client_site(region), &self.clients[region], args)
    }

    /// The round trips from a region's client to all executors are measured, and are what they were made. The first of them were
    /// taken while everything started, and a machine that does other things as well may need some more.
    fn await_rtts(&self, region: usize) {
        let theirs = |(region, nodes): (usize, &Vec<Node>)| nodes.iter().map(|node| (node.id(), region)).collect::<Vec<_>>();
        let executors: Vec<(String, usize)> = self.executors.iter().enumerate().flat_map(theirs).collect();
        let mut seen = Value::Null;
        for _ in 0..PATIENCE {
            seen = self.run(region, &["members", "-o", "json"]).json();
            let rtt_of = |id: &str| {
                let found = seen.as_array().expect("a list").iter().find(|member| member["id"] == id);
                found.and_then(|member| member["rtt_us"].as_u64())
            };
            let is_right = |(id, at): &(String, usize)| {
                let least = RTT_MS[region][*at] * 1000;
                rtt_of(id).is_some_and(|us| (least..least + SLACK_US).contains(&us))
            };
            if executors.iter().all(is_right) {
                return;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        panic!("round trips of {} were not measured as they are: {seen}", REGIONS[region]);
    }

    /// What ran at the executor that takes nobody's calls, in its own words.
    fn runs_of_the_refuser(&self) -> Value {
        let mut program = self.sites.program(client_site(0));
        program.args(["top", "-o", "json"]).env("TIMEROSE_PATH", &self.refuser.dir).stdout(Stdio::piped());
        // It says one line a second for as long as it is let.
        let mut top = program.spawn().expect("run");
        let mut line = String::new();
        BufReader::new(top.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let _ = top.kill();
        let _ = top.wait();
        let now: Value = serde_json::from_str(&line).expect("JSON");
        let me = now["nodes"].as_array().expect("a list").iter().find(|node| node["id"] == self.refuser.id());
        me.expect("itself")["runs"].clone()
    }

    /// Whom the client of a region would ask, the nearest first.
    fn asks(&self, region: usize, function: &str) -> Vec<String> {
        let ranked = self.run(region, &["where", function, "-o", "json"]).json();
        let suited = ranked["executors"].as_array().expect("a list");
        suited.iter().map(|one| one["node"].as_str().expect("an id").to_string()).collect()
    }
}

/// The address of a node, once it listens.
fn addr_of(sites: &Sites, world: &World, at: usize, node: &Node) -> String {
    let mut found = None;
    wait_until("an address", || {
        let id = sites.command(world, at, node, &["id", "-o", "json"]).json();
        found = id["addrs"].as_array().expect("addresses").first().and_then(Value::as_str).map(String::from);
        found.is_some()
    });
    found.expect("an address")
}

#[test]
fn calls_of_an_idle_mesh_go_to_the_nearest_executor_and_none_to_one_that_refuses() {
    let Some(sites) = Sites::new() else { return };
    let mesh = Mesh::new(sites);
    let (code, manifest) = (guest("built/wordcount-fan.wasm"), guest("wordcount/fan.toml"));
    let deploy =
        |at: usize, node: &Node| mesh.sites.command(&mesh.world, at, node, &["deploy", &code, "--manifest", &manifest]).ok();
    let function = deploy(client_site(0), &mesh.clients[0]);
    for region in 0..REGIONS.len() {
        deploy(client_site(region), &mesh.clients[region]);
        mesh.executors[region].iter().for_each(|node| drop(deploy(executors_site(region), node)));
    }
    for region in 0..REGIONS.len() {
        mesh.await_rtts(region);
    }
    // Beside the client, and so the first that it asks.
    wait_until("the refuser to be the nearest", || mesh.asks(0, &function).first() == Some(&mesh.refuser.id()));
    let (mut nearest, mut refused) = (0, 0);
    for (region, name) in REGIONS.iter().enumerate() {
        let mut went = [0; REGIONS.len()];
        for number in 0..CALLS {
            let word = format!("{name}{number}");
            let answer = mesh.run(region, &["call", &function, "--entry", "map", "--arg", &word, "-o", "json"]).json();
            let ran = |nodes: &Vec<Node>| nodes.iter().any(|node| answer["executor"] == node.id());
            let place = mesh.executors.iter().position(ran).unwrap_or_else(|| panic!("who ran it? {answer}"));
            went[place] += 1;
            refused += usize::from(region == 0 && answer["claims"].as_u64() > Some(1));
        }
        nearest += went[region];
        let shown: Vec<String> = REGIONS.iter().zip(went).map(|(to, count)| format!("{to} {count}")).collect();
        eprintln!("of {CALLS} calls in {name}: {}", shown.join(", "));
    }
    let all = CALLS * REGIONS.len();
    eprintln!("{nearest} of {all} went to the nearest region; {refused} of the first client's were refused once on the way");
    assert!(nearest * 100 >= all * 95, "only {nearest} of {all} calls went to the nearest");
    assert!(refused > 0, "nobody was refused");
    assert_eq!(mesh.runs_of_the_refuser(), 0);
}
