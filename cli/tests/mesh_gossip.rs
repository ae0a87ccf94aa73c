//! Calls over PubSub among eight real processes, of which one message in a hundred gets lost at each and two hear nothing.
//!
//! `TIMEROSE_TASKS` says how many tasks; `make soak` asks for ten thousand.

#![expect(clippy::print_stderr, reason = "latencies are for whoever reads the log")]

#[path = "mesh/world.rs"]
#[allow(dead_code, reason = "shared with the mesh tests, which use more of it")]
mod world;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use timerose_core::id::{RAW, cid_of};
use world::{Node, World, guest};

const NODES: usize = 8;
/// Connected, and deaf and dumb on topics: a fifth of the nodes, rounded up.
const SILENT: usize = 2;
/// Callers at the same time.
const CALLERS: usize = 16;

fn tasks() -> usize {
    std::env::var("TIMEROSE_TASKS").ok().and_then(|text| text.parse().ok()).unwrap_or(500)
}

/// The nodes, all of whom know each other and trust some others; the last are silent.
fn mesh(world: &World, others: &[&str]) -> Vec<Node> {
    let dids: Vec<String> = (0..NODES).map(|n| world.did(&format!("n{n}"))).collect();
    let trusted = dids.iter().map(String::as_str).chain(others.iter().copied());
    let trust: Vec<&str> = trusted.flat_map(|did| ["--trust", did]).collect();
    let mut nodes: Vec<Node> = Vec::new();
    for n in 0..NODES {
        let join = nodes.first().map(Node::addr);
        let faults = if n < NODES - SILENT { format!("seed={n},loss=10") } else { "silent".to_string() };
        let joins = join.iter().flat_map(|addr| ["--join", addr.as_str()]);
        let args: Vec<&str> = trust.iter().copied().chain(joins).chain(["--faults", &faults]).collect();
        nodes.push(world.node(&format!("n{n}"), &args));
    }
    for node in &nodes {
        node.wait_for("members_connected", |members| members == NODES as u64);
    }
    nodes
}

/// What came of one task.
struct Ended {
    took_us: u64,
    status: u16,
    answer: Value,
}

/// Calls `map` of the function with one word each, so many at a time, over PubSub.
fn call_all(api: &str, function: &str, count: usize) -> Vec<Ended> {
    let (next, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (agent, next, ended) = (agent.clone(), next.clone(), ended.clone());
            let (url, function) = (format!("http://{api}/v1/call"), function.to_string());
            std::thread::spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let body = json!({"fn": function, "entry": "map", "args": [{"text": format!("w{number}")}],
                        "channel": "pubsub", "memo": false, "timeout_ms": 60_000});
                    let begin = Instant::now();
                    let mut said = agent.post(&url).send_json(&body).expect("an answer");
                    let (status, answer) = (said.status().as_u16(), said.body_mut().read_json().expect("JSON"));
                    let took_us = begin.elapsed().as_micros() as u64;
                    ended.lock().expect("not poisoned").push((number, Ended { took_us, status, answer }));
                }
            })
        })
        .collect();
    callers.into_iter().for_each(|caller| caller.join().expect("a caller ended"));
    let mut ended = Arc::try_unwrap(ended).ok().expect("all ended").into_inner().expect("not poisoned");
    ended.sort_by_key(|(number, _)| *number);
    ended.into_iter().map(|(_, ended)| ended).collect()
}

#[test]
fn each_task_is_answered_once_and_truly_though_messages_get_lost_and_peers_are_silent() {
    let (world, count) = (World::new(), tasks());
    let nodes = mesh(&world, &[]);
    let silent: BTreeSet<String> = nodes[NODES - SILENT..].iter().map(Node::id).collect();
    let (code, manifest) = (guest("built/wordcount-fan.wasm"), guest("wordcount/fan.toml"));
    let function = world.command(&nodes[0].dir, &["deploy", &code, "--manifest", &manifest]).ok();
    let ended = call_all(nodes[0].api(), &function, count);
    assert_eq!(ended.len(), count);
    let mut names = BTreeSet::new();
    for (number, Ended { status, answer, .. }) in ended.iter().enumerate() {
        assert_eq!(*status, 200, "task {number}: {answer}");
        let counted = cid_of(RAW, format!(r#"{{"w{number}":1}}"#).as_bytes());
        assert_eq!(answer["result"], counted.to_string(), "task {number}: {answer}");
        assert!(!silent.contains(answer["executor"].as_str().expect("an executor")), "a silent node answered: {answer}");
        assert!(names.insert(answer["task"].to_string()), "a task was answered twice: {answer}");
    }
    let mut took: Vec<u64> = ended.iter().map(|ended| ended.took_us).collect();
    took.sort_unstable();
    let at = |permille: usize| took[(took.len() * permille / 1000).min(took.len() - 1)] as f64 / 1000.0;
    let of_all = |metric: &str| nodes.iter().map(|node| node.metric(metric)).sum::<u64>();
    eprintln!(
        "{count} tasks over PubSub, {CALLERS} at a time: p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms; {} runs; {} letters, {} sent again",
        at(500),
        at(990),
        at(1000),
        of_all("runs_total"),
        of_all("letters_sent_total"),
        of_all("letters_resent_total"),
    );
    assert!(nodes[0].metric("letters_sent_total") >= 2 * count as u64, "calls went another way");
}

#[test]
fn who_joins_late_sees_all_members() {
    let world = World::new();
    let late = world.did("late");
    let nodes = mesh(&world, &[late.as_str()]);
    let dids: Vec<String> = nodes.iter().map(Node::id).collect();
    let (mut args, addr) = (vec!["--join"], nodes[0].addr());
    args.push(&addr);
    args.extend(dids.iter().flat_map(|did| ["--trust", did.as_str()]));
    let newcomer = world.node("late", &args);
    let begin = Instant::now();
    newcomer.wait_for("members_connected", |members| members == NODES as u64 + 1);
    let saw = begin.elapsed().as_millis();
    for node in &nodes {
        node.wait_for("members_connected", |members| members == NODES as u64 + 1);
    }
    eprintln!(
        "a newcomer saw all {NODES} members {saw} ms after it was ready, and was seen by all after {} ms",
        begin.elapsed().as_millis()
    );
}
