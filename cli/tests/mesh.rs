//! The mesh as its users meet it: real processes, real streams, real blocks, real wasm.

#[path = "mesh/faults.rs"]
mod faults;
#[path = "mesh/world.rs"]
#[allow(dead_code, reason = "shared with the mesh tests, which use more of it")]
mod world;

use serde_json::Value;
use std::collections::BTreeMap;
use world::{Node, World, guest, wait_until};

/// Deploys the word count at a node.
fn wordcount(world: &World, node: &Node) -> String {
    let (code, manifest) = (guest("built/wordcount-fan.wasm"), guest("wordcount/fan.toml"));
    world.command(&node.dir, &["deploy", &code, "--manifest", &manifest]).ok()
}

/// Two nodes that trust each other; the second joins the first.
fn pair(world: &World, first: &[&str], second: &[&str]) -> (Node, Node) {
    let (a, b) = (world.did("a"), world.did("b"));
    let first = world.node("a", &[&["--trust", &b], first].concat());
    let second = world.node("b", &[&["--trust", &a, "--join", &first.addr()], second].concat());
    for node in [&first, &second] {
        node.wait_for("members_connected", |members| members == 2);
    }
    (first, second)
}

#[test]
fn a_node_that_never_saw_code_or_data_runs_both_by_cid() {
    let world = World::new();
    let (a, b) = pair(&world, &["--roles", "scheduler,store"], &[]);
    let function = wordcount(&world, &a);
    let text = "the cat and the hat ".repeat(40_000);
    let file = world.write("text", &text);
    let cid = world.command(&a.dir, &["add", file.to_str().expect("UTF-8")]).ok();
    assert_eq!(b.metric("block_bytes_received_total"), 0);
    let answer = world.command(&a.dir, &["call", &function, "--entry", "map", "--arg", &cid, "-o", "json"]).json();
    assert_eq!(answer["executor"], Value::String(b.id()));
    assert!(answer["usage"]["fetched_bytes"].as_u64() >= Some(text.len() as u64), "the data came as blocks: {answer}");
    let result = answer["result"].as_str().expect("a CID");
    let counts = world.command(&a.dir, &["cat", result]).ok();
    assert_eq!(counts, r#"{"and":40000,"cat":40000,"hat":40000,"the":80000}"#);
    // The executor remembers it; the caller, which has nothing of its own to go by, is told so.
    let again = world.command(&a.dir, &["call", &function, "--entry", "map", "--arg", &cid, "-o", "json"]).json();
    assert_eq!((&answer["reused"], &again["reused"]), (&Value::Bool(false), &Value::Bool(true)), "{again}");
    assert_eq!(again["result"], answer["result"]);
    let before = b.metric("runs_total");
    let anew = world.command(&a.dir, &["call", &function, "--entry", "map", "--arg", &cid, "--no-memo", "-o", "json"]).json();
    assert_eq!((&anew["reused"], &anew["result"]), (&Value::Bool(false), &answer["result"]));
    assert!(b.metric("runs_total") > before, "it is run");
    // The receipt says so, under the executor's signature, to the caller as well as to the executor, who alone has it.
    for node in [&b, &a] {
        let receipt = world.command(&node.dir, &["receipt", result, "-o", "json"]).json();
        assert_eq!(receipt["executor"], Value::String(b.id()));
        assert_eq!(receipt["args"][0]["cid"], Value::String(cid.clone()));
        // A caller that keeps receipts for others may have been told of the first run, and not of the second yet.
        let right = [&answer["receipt"], &anew["receipt"]];
        assert!(
            right.contains(&&receipt["receipt"]) && (node.id() == a.id() || receipt["receipt"] == anew["receipt"]),
            "{receipt}"
        );
    }
}

#[test]
fn a_stranger_is_denied_and_told_what_is_missing() {
    let world = World::new();
    let (a, b) = (world.did("a"), world.did("b"));
    // The first trusts the second, but not the other way round.
    let first = world.node("a", &["--trust", &b, "--roles", "scheduler,store"]);
    let second = world.node("b", &["--join", &first.addr()]);
    first.wait_for("members_connected", |members| members == 2);
    let function = wordcount(&world, &first);
    let said = world.command(&first.dir, &["call", &function, "--entry", "map", "--arg", "a b"]);
    assert_eq!(said.code, 4, "{}", said.stderr);
    assert!(said.stderr.contains("Denied") && said.stderr.contains(&a) && said.stderr.contains("--trust"), "{}", said.stderr);
    assert_eq!(second.metric("runs_total"), 0);
}

#[test]
fn what_nobody_has_is_not_found_and_the_peers_are_counted() {
    let world = World::new();
    let (a, _b) = pair(&world, &[], &[]);
    let nowhere = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyka";
    let said = world.command(&a.dir, &["call", nowhere]);
    assert_eq!(said.code, 3, "{}", said.stderr);
    assert!(said.stderr.contains("NotFound") && said.stderr.contains("1 peers were asked"), "{}", said.stderr);
    let function = wordcount(&world, &a);
    let said = world.command(&a.dir, &["call", &function, "--entry", "map", "--arg", nowhere]);
    assert_eq!(said.code, 3, "{}", said.stderr);
}

/// A module that counts down from 2^33, which takes seconds, and gives `done`.
fn slow_module() -> Vec<u8> {
    let text = r#"(module
        (memory (export "memory") 1)
        (data (i32.const 1024) "done")
        (func (export "alloc") (param i32) (result i32) (i32.const 1024))
        (func (export "spin") (param i32 i32) (result i32) (local i64)
            (local.set 2 (i64.const 0x200000000))
            (loop (local.set 2 (i64.sub (local.get 2) (i64.const 1))) (br_if 0 (i64.ne (local.get 2) (i64.const 0))))
            (i32.const 4)))"#;
    wat::parse_str(text).expect("a module")
}

#[test]
fn a_killed_executor_costs_time_but_not_the_answer() {
    let world = World::new();
    let (a, b, c) = (world.did("a"), world.did("b"), world.did("c"));
    let first = world.node("a", &["--trust", &b, "--trust", &c, "--roles", "scheduler,store"]);
    let trust_a = ["--trust", &a, "--join", &first.addr()];
    let mut workers = [world.node("b", &trust_a), world.node("c", &trust_a)];
    first.wait_for("members_connected", |members| members == 3);
    let code = world.write("slow.wasm", slow_module());
    let function = world.command(&first.dir, &["deploy", code.to_str().expect("UTF-8")]).ok();
    std::thread::scope(|scope| {
        let call =
            scope.spawn(|| world.command(&first.dir, &["call", &function, "--arg", "", "--timeout", "10m", "-o", "json"]).json());
        let mut victim = None;
        wait_until("a run to begin", || {
            victim = workers.iter().position(|worker| worker.metric("slots_used") == 1);
            victim.is_some()
        });
        let victim = &mut workers[victim.expect("found")];
        victim.kill();
        let answer = call.join().expect("answered");
        assert_ne!(answer["executor"], Value::String(victim.id()));
        // An executor that is slow to say so may have been passed over.
        assert!(answer["claims"].as_u64() >= Some(2), "{answer}");
        let result = answer["result"].as_str().expect("a CID");
        assert_eq!(world.command(&first.dir, &["cat", result]).ok(), "done");
    });
}

#[test]
fn equal_calls_at_the_same_time_run_once() {
    let world = World::new();
    let node = world.node("a", &[]);
    let code = world.write("slow.wasm", slow_module());
    let function = world.command(&node.dir, &["deploy", code.to_str().expect("UTF-8")]).ok();
    let call = || world.command(&node.dir, &["call", &function, "--arg", "", "--timeout", "10m", "-o", "json"]).json();
    let answers: Vec<Value> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..3).map(|_| scope.spawn(call)).collect();
        calls.into_iter().map(|call| call.join().expect("answered")).collect()
    });
    assert_eq!(node.metric("runs_total"), 1);
    assert!(answers.iter().all(|answer| answer["result"] == answers[0]["result"]), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| answer["reused"] == true).count(), 2, "{answers:?}");
}

#[test]
fn a_caller_that_goes_away_stops_the_guest() {
    let world = World::new();
    let (a, b) = pair(&world, &["--roles", "scheduler,store"], &[]);
    let code = world.write("slow.wasm", slow_module());
    let function = world.command(&a.dir, &["deploy", code.to_str().expect("UTF-8")]).ok();
    let mut call = std::process::Command::new(world::TIMEROSE)
        .args(["call", &function, "--arg", "", "--timeout", "10m"])
        .env("TIMEROSE_PATH", &a.dir)
        .spawn()
        .expect("started");
    b.wait_for("slots_used", |slots| slots == 1);
    call.kill().expect("killed");
    call.wait().expect("reaped");
    b.wait_for("slots_used", |slots| slots == 0);
    a.wait_for("calls", |calls| calls == 0);
}

/// Counts words as the guest should, by other means.
fn count(texts: &[String]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for text in texts {
        for word in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
            *counts.entry(word.to_ascii_lowercase()).or_default() += 1;
        }
    }
    counts
}

#[test]
fn a_spread_data_set_is_counted_where_it_lies_and_the_totals_are_right() {
    let world = World::new();
    let names = ["a", "b", "c"];
    let dids = names.map(|name| world.did(name));
    let trust: Vec<&str> = dids.iter().flat_map(|did| ["--trust", did.as_str()]).collect();
    let first = world.node("a", &trust);
    let addr = first.addr();
    let joined = [trust.as_slice(), &["--join", &addr]].concat();
    let nodes = [first, world.node("b", &joined), world.node("c", &joined)];
    for node in &nodes {
        node.wait_for("members_connected", |members| members == 3);
    }
    let texts: Vec<String> = (0..60).map(|n| format!("file {n} of Sixty: {}\n", "x1 Y2-z3 ".repeat(n * 7 + 1))).collect();
    for (n, text) in texts.iter().enumerate() {
        world.write(&format!("data/{:02}/text-{n}", n % 7), text);
    }
    let a = &nodes[0];
    let added = world.command(&a.dir, &["add", "--spread", "data", "-o", "json"]).json();
    assert_eq!(added["placed"].as_array().map(Vec::len), Some(3), "every store keeps some: {added}");
    let data = added["cid"].as_str().expect("a CID");
    let function = wordcount(&world, a);
    // Another node runs the job.
    let b = &nodes[1];
    let near = world.command(&b.dir, &["mapreduce", &function, data, "-o", "json"]).json();
    let runs = |nodes: &[world::Node]| nodes.iter().map(|node| node.metric("runs_total")).sum::<u64>();
    assert_eq!(near["executed"], 65, "{near}");
    let before = runs(&nodes);
    assert!(before >= 65, "{before}");
    // Through yet another node, all is known: its own share and what the members that won the memo keys tell. On a busy machine one
    // may not tell within its second, and a task is run again.
    let again = world.command(&nodes[2].dir, &["mapreduce", &function, data, "-o", "json"]).json();
    let [executed, reused] = ["executed", "reused"].map(|name| again[name].as_u64().expect("a number"));
    assert!(executed <= 3 && executed + reused == 65, "{again}");
    assert_eq!(again["result"], near["result"]);
    let before = runs(&nodes);
    let far = world.command(&b.dir, &["mapreduce", &function, data, "--no-locality", "--no-memo", "-o", "json"]).json();
    assert_eq!((far["executed"].as_u64(), far["reused"].as_u64()), (Some(65), Some(0)), "{far}");
    assert!(runs(&nodes) >= before + 65, "they are run");
    assert_eq!(near["result"], far["result"]);
    assert_eq!(near["tasks"], Value::from(60 + 4 + 1));
    let done: u64 =
        near["nodes"].as_array().expect("shares").iter().map(|share| share["tasks"].as_u64().expect("a number")).sum();
    assert_eq!(done, 65);
    let result = near["result"].as_str().expect("a CID");
    // Every node knows what it was made of, down to the files, and who did it.
    for node in &nodes {
        let lineage = world.command(&node.dir, &["lineage", result, "-o", "json"]).json();
        let count = |name: &str| lineage[name].as_array().map(Vec::len);
        assert_eq!((count("results"), count("inputs")), (Some(65), Some(60)), "{lineage}");
        assert_eq!((&lineage["result"], &lineage["whole"]), (&near["result"], &Value::Bool(true)));
        assert_eq!(lineage["results"][0]["entry"], "reduce");
    }
    // A third one shows it.
    let shown = world.command(&nodes[2].dir, &["cat", result]).ok();
    let counts: BTreeMap<String, u64> = serde_json::from_str(&shown).expect("counts");
    assert_eq!(counts, count(&texts));
}

#[test]
fn a_receipt_in_a_file_proves_itself_and_a_changed_byte_shows() {
    let world = World::new();
    let (a, b) = pair(&world, &["--roles", "scheduler,store"], &[]);
    let function = wordcount(&world, &a);
    let answer = world.command(&a.dir, &["call", &function, "--entry", "map", "--arg", "a rose", "-o", "json"]).json();
    let result = answer["result"].as_str().expect("a CID");
    let shown = world.command(&a.dir, &["receipt", result, "--export", "receipt.cbor", "-o", "json"]).json();
    let again = world.command(&a.dir, &["receipt", result, "--export", "receipt.cbor"]);
    assert!(again.code == 1 && again.stderr.contains("Io"), "what is there is not written over: {}", again.stderr);
    // Nobody is asked: neither of the nodes runs, and none is started.
    let executor = b.id();
    drop((a, b));
    let nowhere = world.path("nowhere");
    let verified = world.command(&nowhere, &["receipt", "verify", "receipt.cbor", "-o", "json"]).json();
    assert_eq!(verified, shown);
    assert_eq!((&verified["executor"], &verified["verified"]), (&Value::String(executor.clone()), &Value::Bool(true)));
    assert_eq!((&verified["result"], &verified["receipt"]), (&answer["result"], &answer["receipt"]));
    let said = world.command(&nowhere, &["receipt", "verify", "receipt.cbor"]).ok();
    assert!(said.contains(&format!("verified, by {executor}")), "{said}");
    assert!(!nowhere.exists(), "no node was started");
    let proof = std::fs::read(world.path("receipt.cbor")).expect("written");
    for at in [0, proof.len() / 3, proof.len() - 1] {
        let mut forged = proof.clone();
        forged[at] ^= 1;
        world.write("forged.cbor", forged);
        let said = world.command(&nowhere, &["receipt", "verify", "forged.cbor"]);
        assert_eq!((said.code, said.stdout.as_str()), (4, ""), "byte {at}: {}", said.stderr);
        assert!(said.stderr.contains("NotProven") && said.stderr.contains("forged.cbor"), "{}", said.stderr);
    }
}

#[test]
fn a_folder_comes_back_as_it_went_in() {
    let world = World::new();
    let node = world.node("a", &[]);
    world.write("tree/empty", "");
    world.write("tree/deep/er/ü 100%?#&", "odd name");
    world.write("tree/large", vec![7u8; 600_000]);
    std::fs::create_dir_all(world.path("tree/hollow")).expect("made");
    let cid = world.command(&node.dir, &["add", "tree"]).ok();
    assert_eq!(world.command(&node.dir, &["cat", &format!("{cid}/deep/er/ü 100%?#&")]).ok(), "odd name");
    world.command(&node.dir, &["get", &cid, "-o", "back"]).ok();
    let diff =
        std::process::Command::new("diff").args(["-r", "tree", "back"]).current_dir(world.dir.path()).output().expect("run");
    assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));
    let said = world.command(&node.dir, &["get", &cid, "-o", "back"]);
    assert_eq!(said.code, 2, "what is there is not written over");
    let _listening = std::os::unix::net::UnixListener::bind(world.path("tree/socket")).expect("made");
    let said = world.command(&node.dir, &["add", "tree"]);
    assert_eq!(said.code, 2, "{}", said.stderr);
    assert!(said.stderr.contains("tree/socket"), "a special file: {}", said.stderr);
}

/// A process that ends with the test, however that ends.
struct Ending(std::process::Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn up_runs_its_nodes_and_ends_them_all() {
    let world = World::new();
    let home = world.path("home");
    let up = std::process::Command::new(world::TIMEROSE)
        .args(["up", "--nodes", "3", "--regions", "north,south"])
        .env("TIMEROSE_PATH", &home)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("started");
    let mut up = Ending(up);
    wait_until("three nodes", || std::fs::read_to_string(home.join("api")).is_ok_and(|text| text.lines().count() == 3));
    let apis = std::fs::read_to_string(home.join("api")).expect("addresses");
    wait_until("the mesh", || {
        let members = world.command(&home, &["members", "-o", "json"]).json();
        members.as_array().is_some_and(|all| all.len() == 3 && all.iter().all(|m| m["connected"] == true && m["trusted"] == true))
    });
    let regions: Vec<Value> = world.command(&home, &["members", "-o", "json"]).json().as_array().expect("a list").clone();
    assert_eq!(regions.iter().filter(|member| member["region"] == "south").count(), 1);
    // A second one is refused, and does the first no harm.
    let second = world.command(&home, &["up", "--nodes", "1"]);
    assert!(second.code == 2 && second.stderr.contains("running already"), "{}", second.stderr);
    assert_eq!(std::fs::read_to_string(home.join("api")).expect("addresses"), apis);
    // As Ctrl-C does.
    let interrupted = std::process::Command::new("kill").args(["-INT", &up.0.id().to_string()]).status().expect("sent");
    assert!(interrupted.success());
    assert!(up.0.wait().expect("ended").success());
    for api in apis.lines() {
        assert!(std::net::TcpStream::connect(api).is_err(), "{api} still answers");
    }
    assert!(!home.join("api").exists());
}

#[test]
fn commands_without_a_node_wait_for_each_other() {
    let world = World::new();
    let home = world.path("home");
    world.write("a", "a");
    let added: Vec<String> = std::thread::scope(|scope| {
        let adding: Vec<_> = (0..4).map(|_| scope.spawn(|| world.command(&home, &["add", "a"]).ok())).collect();
        adding.into_iter().map(|one| one.join().expect("added")).collect()
    });
    assert!(added.iter().all(|cid| cid == "bafkreigks6arfsq3xxfpvqrrwonchxcnu6do76auprhhfomao6c273sixm"), "{added:?}");
    assert_eq!(world.did("home"), world.did("home"), "one key");
}

#[test]
fn a_node_in_a_folder_that_another_has_does_it_no_harm() {
    let world = World::new();
    let node = world.node("a", &[]);
    let second = world.command(&world.path("home"), &["node", "--data", node.dir.to_str().expect("UTF-8")]);
    assert!(second.code == 6 && second.stderr.contains("another process"), "{}", second.stderr);
    let id = world.command(&node.dir, &["id", "-o", "json"]).json();
    assert_eq!(id["id"], Value::String(node.id()));
}
