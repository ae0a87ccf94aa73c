//! What survives the death of nodes, as users meet it: detached work, jobs, calls with effects, and recordings.

#[path = "mesh/world.rs"]
#[allow(dead_code, reason = "shared with the mesh tests, which use more of it")]
mod world;

use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use world::{Node, Said, TIMEROSE, World, wait_until};

/// A function that takes a while: `map` gives an `x` for any file, `reduce` gives its arguments one after another, `spin`
/// gives `done` after some seconds.
const SLOW: &str = r#"(module
    (memory (export "memory") 4)
    (global $top (mut i32) (i32.const 1024))
    (func (export "alloc") (param $size i32) (result i32) (local $at i32)
        (local.set $at (global.get $top))
        (global.set $top (i32.add (global.get $top) (i32.and (i32.add (local.get $size) (i32.const 64)) (i32.const -8))))
        (local.get $at))
    (func $turns (param $left i64)
        (loop (local.set $left (i64.sub (local.get $left) (i64.const 1))) (br_if 0 (i64.ne (local.get $left) (i64.const 0)))))
    (func (export "map") (param $ptr i32) (param $len i32) (result i32)
        (call $turns (i64.const 0x8000000))
        (i32.store8 (local.get $ptr) (i32.const 120))
        (i32.const 1))
    (func (export "spin") (param $ptr i32) (param $len i32) (result i32)
        (call $turns (i64.const 0x100000000))
        (i32.store (local.get $ptr) (i32.const 0x656e6f64))
        (i32.const 4))
    (func (export "reduce") (param $ptr i32) (param $lens i32) (param $count i32) (result i32) (local $sum i32)
        (block $end (loop $next
            (br_if $end (i32.eqz (local.get $count)))
            (local.set $sum (i32.add (local.get $sum) (i32.load (local.get $lens))))
            (local.set $lens (i32.add (local.get $lens) (i32.const 4)))
            (local.set $count (i32.sub (local.get $count) (i32.const 1)))
            (br $next)))
        (local.get $sum)))"#;

/// Its manifest.
fn manifest(determinism: &str) -> String {
    let entry = |name: &str, variadic: bool| {
        format!(
            "[[entries]]\nname = \"{name}\"\nparams = [{{ name = \"a\", type = \"bytes\" }}]\nvariadic = {variadic}\nresult = \"bytes\"\n"
        )
    };
    format!("determinism = \"{determinism}\"\n{}{}{}", entry("map", false), entry("spin", false), entry("reduce", true))
}

/// Deploys it at a node.
fn slow(world: &World, node: &Node, determinism: &str) -> String {
    world.write("slow.wasm", wat::parse_str(SLOW).expect("a module"));
    world.write("slow.toml", manifest(determinism));
    world.command(&node.dir, &["deploy", "slow.wasm", "--manifest", "slow.toml"]).ok()
}

#[test]
fn detached_calls_survive_the_death_of_their_node() {
    let world = World::new();
    let mut node = world.node("a", &[]);
    let function = slow(&world, &node, "pure");
    let detach =
        |entry: &str, arg: &str| world.command(&node.dir, &["call", &function, "--entry", entry, "--arg", arg, "--detach"]).ok();
    let first = detach("spin", "");
    node.wait_for("slots_used", |slots| slots == 1);
    // One slot: these wait behind it.
    let others: Vec<String> = (0..20).map(|n| detach("map", &format!("number {n}"))).collect();
    assert_eq!(detach("map", "number 3"), others[3], "to accept the same again is no second promise");
    let listed = world.command(&node.dir, &["ps", "-o", "json"]).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(21));
    assert!(listed.as_array().expect("a list").iter().any(|work| work["state"] != "done"), "{listed}");
    node.kill();
    // Whoever waits meanwhile looks for the node until it is back.
    let home = node.dir.clone();
    std::thread::scope(|scope| {
        let node = world.node("a", &[]);
        let waits = scope.spawn(|| world.command(&home, &["wait", &first, "--cat"]).ok());
        for handle in &others {
            assert_eq!(world.command(&node.dir, &["wait", handle, "--cat"]).ok(), "x");
        }
        assert_eq!(waits.join().expect("waited"), "done");
        let listed = world.command(&node.dir, &["ps"]).ok();
        assert_eq!(listed.lines().filter(|line| line.contains("  done  ")).count(), 21, "{listed}");
        // What is known before and after is the same, with who did it.
        let work = world.command(&node.dir, &["wait", &first, "-o", "json"]).json();
        assert_eq!((&work["executor"], &work["state"]), (&Value::String(node.id()), &Value::from("done")));
        let receipt = world.command(&node.dir, &["receipt", work["receipt"].as_str().expect("a CID"), "-o", "json"]).json();
        assert_eq!(receipt["result"], work["result"]);
    });
}

#[test]
fn detached_work_is_taken_back_and_what_is_not_known_is_said() {
    let world = World::new();
    let node = world.node("a", &[]);
    let function = slow(&world, &node, "pure");
    let handle = world.command(&node.dir, &["call", &function, "--entry", "spin", "--arg", "", "--detach"]).ok();
    node.wait_for("slots_used", |slots| slots == 1);
    let said = world.command(&node.dir, &["wait", &handle, "--timeout", "10ms"]);
    assert!(said.code == 6 && said.stderr.contains("DeadlineExceeded"), "{}", said.stderr);
    assert_eq!(world.command(&node.dir, &["cancel", &handle]).ok(), "cancelled");
    node.wait_for("slots_used", |slots| slots == 0);
    let said = world.command(&node.dir, &["wait", &handle]);
    assert!(said.code == 6 && said.stderr.contains("Cancelled"), "{}", said.stderr);
    let said = world.command(&node.dir, &["wait", &function]);
    assert!(said.code == 3 && said.stderr.contains("timerose ps"), "{}", said.stderr);
}

/// Three nodes that trust each other; the first neither runs work nor keeps blocks. And a folder whose commands may go
/// through any of them.
fn three(world: &World) -> ([Node; 3], PathBuf) {
    three_with(world, &["--roles", "scheduler"])
}

/// The same, the first with these arguments.
fn three_with(world: &World, args: &[&str]) -> ([Node; 3], PathBuf) {
    let dids = ["a", "b", "c"].map(|name| world.did(name));
    let trust: Vec<&str> = dids.iter().flat_map(|did| ["--trust", did.as_str()]).collect();
    let first = world.node("a", &[&trust[..], args].concat());
    let addr = first.addr();
    let joined = [&trust[..], &["--join", &addr]].concat();
    let nodes = [first, world.node("b", &joined), world.node("c", &joined)];
    for node in &nodes {
        node.wait_for("members_connected", |members| members == 3);
    }
    let apis: String = nodes.iter().map(|node| std::fs::read_to_string(node.dir.join("api")).expect("there")).collect();
    world.write("home/api", apis);
    (nodes, world.path("home"))
}

/// Runs a command that is watched while it runs.
fn begin(home: &PathBuf, args: &[&str]) -> Child {
    let command =
        Command::new(TIMEROSE).args(args).env("TIMEROSE_PATH", home).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    command.expect("started")
}

fn end(child: Child) -> Said {
    child.wait_with_output().expect("ended").into()
}

#[test]
fn a_job_goes_on_through_another_node_when_its_own_dies() {
    let world = World::new();
    let (mut nodes, home) = three(&world);
    let function = slow(&world, &nodes[1], "pure");
    for n in 0..40 {
        world.write(&format!("data/{n:02}"), format!("file {n}"));
    }
    let data = world.command(&nodes[1].dir, &["add", "data"]).ok();
    let job = begin(&home, &["mapreduce", &function, &data, "-o", "json"]);
    let runs = |nodes: &[Node]| nodes.iter().map(|node| node.metric("runs_total")).sum::<u64>();
    wait_until("some tasks", || runs(&nodes[1..]) >= 5);
    nodes[0].kill();
    let said = end(job);
    assert!(said.stderr.starts_with("job baf") && said.stderr.contains("going on through"), "{}", said.stderr);
    let done = said.json();
    let number = |name: &str| done[name].as_u64().expect("a number");
    assert_eq!((number("tasks"), number("executed") + number("reused")), (44, 44), "{done}");
    assert!(number("reused") >= 1, "what was done is not run again: {done}");
    let result = done["result"].as_str().expect("a CID");
    assert_eq!(world.command(&home, &["cat", result]).ok(), "x".repeat(40));
}

#[test]
fn a_job_is_resumed_by_its_cid_through_a_node_that_never_saw_it() {
    let world = World::new();
    let (mut nodes, home) = three(&world);
    let function = slow(&world, &nodes[1], "pure");
    for n in 0..8 {
        world.write(&format!("data/{n:02}"), format!("file {n}"));
    }
    let data = world.command(&nodes[1].dir, &["add", "data"]).ok();
    let mut job = begin(&home, &["mapreduce", &function, &data]);
    let mut first = String::new();
    let mut stderr = BufReader::new(job.stderr.take().expect("piped"));
    stderr.read_line(&mut first).expect("a line");
    let cid = first.trim().strip_prefix("job ").expect("the job's CID comes first").to_string();
    wait_until("a task", || nodes[1].metric("runs_total") + nodes[2].metric("runs_total") >= 1);
    // As Ctrl-C and a dead node: nobody works on it any more.
    job.kill().expect("killed");
    job.wait().expect("reaped");
    let _ = stderr.read_to_string(&mut first);
    nodes[0].kill();
    let done = world.command(&nodes[2].dir, &["mapreduce", "--resume", &cid, "-o", "json"]).json();
    assert_eq!((&done["job"], &done["tasks"]), (&Value::String(cid.clone()), &Value::from(9)), "{done}");
    let again = world.command(&nodes[1].dir, &["mapreduce", "--resume", &cid, "-o", "json"]).json();
    // A member that is slow to tell what it keeps costs another run.
    let [executed, reused] = ["executed", "reused"].map(|name| again[name].as_u64().expect("a number"));
    assert!(executed <= 2 && executed + reused == 9, "{again}");
    assert_eq!(again["result"], done["result"]);
    // The same, detached: the handle is the job.
    assert_eq!(world.command(&nodes[1].dir, &["mapreduce", &function, &data, "--detach"]).ok(), cid);
    let waited = world.command(&nodes[1].dir, &["wait", &cid, "-o", "json"]).json();
    assert_eq!((&waited["result"], &waited["kind"]), (&done["result"], &Value::from("job")));
}

#[test]
fn a_call_goes_on_through_another_node_each_time_its_own_dies() {
    let world = World::new();
    let (mut nodes, home) = three(&world);
    let function = slow(&world, &nodes[1], "pure");
    assert_eq!(slow(&world, &nodes[2], "pure"), function, "it outlives either of them");
    let call = begin(&home, &["call", &function, "--entry", "spin", "--arg", "", "--timeout", "10m", "--cat"]);
    wait_until("a run to begin", || nodes[1].metric("slots_used") + nodes[2].metric("slots_used") == 1);
    // No state is handed over: whoever is asked next is a scheduler as good as the first.
    nodes[0].kill();
    nodes[1].wait_for("calls", |calls| calls == 1);
    nodes[1].kill();
    let said = end(call);
    assert_eq!(said.stderr.matches("going on through").count(), 2, "{}", said.stderr);
    assert_eq!(said.ok(), "done");
    nodes[2].wait_for("calls", |calls| calls == 0);
}

#[test]
fn a_call_with_effects_runs_at_most_once_whoever_dies() {
    let world = World::new();
    let (mut nodes, home) = three(&world);
    let function = slow(&world, &nodes[1], "effects");
    assert_eq!(slow(&world, &nodes[2], "effects"), function, "it outlives either of them");
    let dir = nodes[0].dir.clone();
    let args = |entry, seq| ["call", &function, "--entry", entry, "--arg", "", "--seq", seq, "--timeout", "10m"];
    let runs = |nodes: &[Node]| nodes.iter().map(|node| node.metric("runs_total")).sum::<u64>();
    for seq in ["1", "2"] {
        world.command(&dir, &args("map", seq)).ok();
    }
    assert_eq!(runs(&nodes[1..]), 2);
    nodes[1..].iter().for_each(|node| node.wait_for("slots_used", |slots| slots == 0));
    // The executor dies: it is not run elsewhere.
    let call = begin(&dir, &args("spin", "3"));
    let mut victim = None;
    wait_until("a run to begin", || {
        victim = nodes.iter().position(|node| node.metric("slots_used") == 1);
        victim.is_some()
    });
    let victim = victim.expect("found");
    nodes[victim].kill();
    let said = end(call);
    assert!(said.code == 6 && said.stderr.contains("MayHaveRun") && said.stderr.contains("--seq"), "{}", said.stderr);
    let survivor = 3 - victim;
    assert_eq!(nodes[survivor].metric("slots_used"), 0);
    // Nor through another node when the caller's own dies.
    let call = begin(&home, &args("spin", "4"));
    nodes[survivor].wait_for("slots_used", |slots| slots == 1);
    nodes[0].kill();
    let said = end(call);
    assert!(said.code == 6 && said.stderr.contains("MayHaveRun"), "{}", said.stderr);
}

#[test]
fn an_executor_remembers_across_its_death_what_it_began() {
    let world = World::new();
    let mut node = world.node("a", &[]);
    let function = slow(&world, &node, "effects");
    let args = |entry, seq| ["call", &function, "--entry", entry, "--arg", "", "--seq", seq, "--timeout", "10m", "-o", "json"];
    let first = world.command(&node.dir, &args("map", "1")).json();
    let noted = || std::fs::metadata(node.dir.join("promises.log")).expect("there").len();
    let before = noted();
    let mut call = begin(&node.dir, &args("spin", "2"));
    wait_until("its intent in the journal", || noted() > before);
    node.kill();
    call.kill().expect("killed");
    call.wait().expect("reaped");
    let node = world.node("a", &[]);
    let again = world.command(&node.dir, &args("map", "1")).json();
    assert_eq!(
        (&again["result"], &again["receipt"], &again["reused"]),
        (&first["result"], &first["receipt"], &Value::Bool(true))
    );
    let said = world.command(&node.dir, &args("spin", "2"));
    assert!(said.code == 6 && said.stderr.contains("MayHaveRun"), "{}", said.stderr);
    assert_eq!(node.metric("runs_total"), 0);
}

#[test]
fn of_a_spread_folder_and_of_all_below_it_as_many_stores_have_a_copy_as_were_asked_for() {
    let world = World::new();
    let (nodes, _) = three_with(&world, &[]);
    // All folders of an import go together: several imports, so that the one who adds wins some of them.
    for set in 0..8 {
        for n in 0..4 {
            world.write(&format!("set-{set}/{:02}/file-{n}", n % 2), format!("file {n} of {set}"));
        }
        let folder = format!("set-{set}");
        let added = world.command(&nodes[0].dir, &["add", "--spread", "--copies", "2", &folder, "-o", "json"]).json();
        assert_eq!(added["missing"], 0, "{added}");
        let ls = |cid: &String| {
            let below = world.command(&nodes[0].dir, &["ls", cid, "-o", "json"]).json();
            let cid = |entry: &Value| entry["cid"].as_str().expect("a CID").to_string();
            below.as_array().into_iter().flatten().map(cid).collect::<Vec<_>>()
        };
        let root = added["cid"].as_str().expect("a CID").to_string();
        let folders = ls(&root);
        let files: Vec<String> = folders.iter().flat_map(ls).collect();
        assert_eq!((folders.len(), files.len()), (2, 4));
        for cid in [root].iter().chain(&folders).chain(&files) {
            let here = |node: &&Node| {
                let url = format!("http://{}/v1/providers/{cid}", node.api());
                let text = ureq::get(url).call().expect("an answer").body_mut().read_to_string().expect("text");
                serde_json::from_str::<Value>(&text).expect("JSON")["here"] == true
            };
            assert!(nodes.iter().filter(here).count() >= 2, "{cid} of {added}");
        }
    }
}

#[test]
fn a_recorded_node_decides_the_same_when_it_is_told_the_same() {
    let world = World::new();
    let file = world.path("recording").display().to_string();
    let (a, b) = (world.did("a"), world.did("b"));
    let mut node = world.node("a", &["--trust", &b, "--record", &file]);
    let mut peer = world.node("b", &["--trust", &a, "--join", &node.addr()]);
    node.wait_for("members_connected", |members| members == 2);
    let function = slow(&world, &node, "pure");
    for n in 0..6 {
        world.write(&format!("data/{n:02}"), format!("file {n}"));
    }
    let data = world.command(&node.dir, &["add", "--spread", "data"]).ok();
    world.command(&node.dir, &["mapreduce", &function, &data]).ok();
    let call = ["call", &function, "--entry", "map", "--arg", "x"];
    world.command(&node.dir, &call).ok();
    let handle = world.command(&node.dir, &[&call[..], &["--seq", "1", "--detach"]].concat()).ok();
    peer.kill();
    node.wait_for("members_connected", |members| members == 1);
    world.command(&node.dir, &["wait", &handle]).ok();
    assert_eq!(world.command(&node.dir, &["call", &function]).code, 2);
    // A polite end, so that the last turns are written.
    drop(node.child.stdin.take());
    node.child.wait().expect("ended");
    let said = world.command(&world.path("home"), &["replay", &file, "-o", "json"]).json();
    assert!(said["turns"].as_u64() > Some(40), "{said}");
    // And it can fail: without its first half it is another story.
    let bytes = std::fs::read(&file).expect("there");
    let marks: Vec<usize> = bytes.windows(4).enumerate().filter(|(_, four)| four == b"TRfr").map(|(at, _)| at).collect();
    std::fs::write(&file, [&bytes[..marks[1]], &bytes[marks[marks.len() / 2]..]].concat()).expect("written");
    let said = world.command(&world.path("home"), &["replay", &file]);
    assert!(said.code == 1 && said.stderr.contains("comes out otherwise"), "{}", said.stderr);
}
