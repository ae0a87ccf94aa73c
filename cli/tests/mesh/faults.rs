//! Disks that are full, read-only or give back other bytes, and nodes that are killed: each has a clear error, and nothing else is lost.

use super::world::{self, Node, Said, World};
use super::{guest, pair};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The block files of a node.
fn block_files(dir: &Path) -> Vec<PathBuf> {
    let shards = fs::read_dir(dir.join("blocks/blocks")).expect("shards").map(|entry| entry.expect("a shard").path());
    shards.flat_map(|shard| fs::read_dir(shard).expect("files").map(|entry| entry.expect("a file").path())).collect()
}

fn random(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// A command failed with this code and exit code, and said these things.
fn refused(said: &Said, code: &str, exit: i32, parts: &[&str]) {
    assert_eq!(said.code, exit, "{}{}", said.stdout, said.stderr);
    assert!(said.stderr.contains(&format!("error: {code}: ")) && said.stderr.contains(" hint: "), "{}", said.stderr);
    for part in parts {
        assert!(said.stderr.contains(part), "{part:?} is not in {}", said.stderr);
    }
}

#[test]
fn a_corrupt_block_is_fetched_again_from_whoever_has_it() {
    let world = World::new();
    let (a, b) = pair(&world, &[], &[]);
    let text = "corrupt me not ".repeat(40_000);
    world.write("file", &text);
    let cid = world.command(&a.dir, &["add", "file"]).ok();
    assert_eq!(world.command(&b.dir, &["cat", &cid]).ok(), text.trim_end());
    for file in block_files(&a.dir) {
        fs::write(file, "other bytes").expect("spoilt");
    }
    let received = a.metric("block_bytes_received_total");
    assert_eq!(world.command(&a.dir, &["cat", &cid]).ok(), text.trim_end());
    assert!(a.metric("block_bytes_received_total") > received + 500_000);
    let report = world.command(&a.dir, &["repo", "verify", "-o", "json"]).json();
    assert_eq!(report["found"], 0, "what was fetched replaced it: {report}");
    let log = fs::read_to_string(&a.log).expect("a log");
    assert!(log.contains("a block is corrupt") && log.contains(&a.dir.join("blocks/blocks").display().to_string()), "{log}");
}

#[test]
fn a_corrupt_block_that_nobody_else_has_is_named_and_repo_verify_mends_the_rest() {
    let world = World::new();
    let node = world.node("a", &[]);
    let (flipped, cut, gone) = (random(1, 100_000), random(2, 100_000), random(3, 100_000));
    let names = ["flipped", "cut", "gone", "good"];
    let cids: Vec<String> = [&flipped, &cut, &gone, &b"good".to_vec()]
        .iter()
        .zip(names)
        .map(|(bytes, name)| {
            world.write(name, bytes);
            world.command(&node.dir, &["add", name]).ok()
        })
        .collect();
    let file = |cid: &str| block_files(&node.dir).into_iter().find(|path| path.ends_with(cid)).expect("its file");
    let paths: Vec<PathBuf> = cids[..3].iter().map(|cid| file(cid)).collect();
    let mut spoilt = flipped.clone();
    spoilt[77] ^= 1;
    fs::write(&paths[0], spoilt).expect("spoilt");
    fs::write(&paths[1], &cut[..99]).expect("cut short");
    fs::remove_file(&paths[2]).expect("removed");
    for (cid, path) in cids.iter().zip(&paths) {
        let said = world.command(&node.dir, &["cat", cid]);
        refused(&said, "Corrupt", 1, &[cid, &path.display().to_string(), "timerose repo verify"]);
    }
    assert_eq!(world.command(&node.dir, &["cat", &cids[3]]).ok(), "good", "the rest is untouched");
    let said = world.command(&node.dir, &["repo", "verify", "-o", "json"]);
    refused(&said, "Corrupt", 1, &["3 things are wrong", "--repair"]);
    let report: Value = serde_json::from_str(&said.stdout).expect("JSON");
    let mut found: Vec<(&str, &str)> = (report["findings"].as_array().expect("findings").iter())
        .map(|finding| (finding["cid"].as_str().expect("a CID"), finding["fault"].as_str().expect("a fault")))
        .collect();
    found.sort_unstable();
    let mut expected = [(&*cids[0], "corrupt"), (&*cids[1], "corrupt"), (&*cids[2], "missing")];
    expected.sort_unstable();
    assert_eq!(found, expected);
    world.command(&node.dir, &["repo", "verify", "--repair"]).ok();
    let stat = world.command(&node.dir, &["repo", "stat", "-o", "json"]).json();
    assert_eq!((&stat["blocks"], &stat["bytes"]), (&Value::from(1), &Value::from(4)));
    assert_eq!(world.command(&node.dir, &["cat", &cids[0]]).code, 3, "not here, and nobody has it");
    assert_eq!(world.command(&node.dir, &["add", "flipped"]).ok(), cids[0]);
    assert_eq!(world.command(&node.dir, &["repo", "verify", "-o", "json"]).json()["found"], 0);
}

#[test]
fn a_damaged_index_is_named_and_rebuilt_as_the_hint_says() {
    let world = World::new();
    let home = world.path("home");
    let large = random(4, 300_000);
    world.write("large", &large);
    let cid = world.command(&home, &["add", "large"]).ok();
    let index = home.join("blocks/index.redb");
    fs::write(&index, random(5, 50_000)).expect("spoilt");
    let said = world.command(&home, &["repo", "verify"]);
    refused(&said, "Corrupt", 1, &[&index.display().to_string(), "move it away", "repo verify --repair"]);
    fs::rename(&index, world.path("away")).expect("moved");
    world.command(&home, &["repo", "verify", "--repair"]).ok();
    // The file's root, of some hundred bytes, was in the index: adding it again costs no data.
    assert_eq!(world.command(&home, &["add", "large"]).ok(), cid);
    world.command(&home, &["get", &cid, "-o", "back"]).ok();
    assert!(fs::read(world.path("back")).expect("read") == large);
}

#[test]
fn a_damaged_table_of_what_is_remembered_is_named_and_no_block_is_lost() {
    let world = World::new();
    let home = world.path("home");
    world.write("file", "kept");
    let cid = world.command(&home, &["add", "file"]).ok();
    let tables = fs::read_dir(home.join("receipts")).expect("a folder").map(|entry| entry.expect("an entry").path());
    let tables: Vec<PathBuf> = tables.filter(|path| path.extension().is_some_and(|ending| ending == "log")).collect();
    assert!(!tables.is_empty());
    for table in tables {
        fs::write(&table, random(8, 50_000)).expect("spoilt");
        let said = world.command(&home, &["cat", &cid]);
        assert_ne!(said.code, 0);
        assert!(said.stderr.contains(&table.display().to_string()) && said.stderr.contains("move it away"), "{}", said.stderr);
        fs::remove_file(&table).expect("moved away");
        assert_eq!(world.command(&home, &["cat", &cid]).ok(), "kept");
    }
}

#[test]
fn damaged_machine_code_is_compiled_again_and_the_log_says_so() {
    let world = World::new();
    let mut node = world.node("a", &[]);
    let function = world.command(&node.dir, &["deploy", &guest("built/wordcount-fan.wasm")]).ok();
    let call =
        |dir: &Path| world.command(dir, &["call", &function, "--entry", "map", "--arg", "a b a", "--no-memo", "--cat"]).ok();
    let counted = call(&node.dir);
    let found = Command::new("find").arg(&node.dir).args(["-name", "*.cwasm"]).output().expect("run");
    let files: Vec<PathBuf> = String::from_utf8(found.stdout).expect("UTF-8").lines().map(PathBuf::from).collect();
    assert!(!files.is_empty(), "machine code is kept");
    node.kill();
    files.iter().for_each(|file| fs::write(file, random(6, 100_000)).expect("spoilt"));
    drop(node);
    let node = world.node("a", &[]);
    assert_eq!(call(&node.dir), counted);
    let log = fs::read_to_string(&node.log).expect("a log");
    assert!(log.contains("compiled code is damaged or not of this node, dropped"), "{log}");
}

/// A small disk of its own, where the test may mount one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(dir: PathBuf, mib: u32) -> Option<SmallDisk> {
        fs::create_dir_all(&dir).expect("made");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(&dir).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(SmallDisk(dir));
        }
        let _ = writeln!(std::io::stderr(), "SKIPPED: only root may mount a small disk");
        None
    }

    /// Fills what is left.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("ballast")).expect("made");
        while file.write(&[7; 4096]).is_ok_and(|written| written > 0) {}
    }

    fn free(&self) {
        fs::remove_file(self.0.join("ballast")).expect("removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_adds_loses_nothing_and_needs_no_restart() {
    let world = World::new();
    let Some(disk) = SmallDisk::mount(world.path("a"), 32) else { return };
    let node = world.node("a", &[]);
    let function = world.command(&node.dir, &["deploy", &guest("built/wordcount-fan.wasm")]).ok();
    let call = |text: &str| world.command(&node.dir, &["call", &function, "--entry", "map", "--arg", text, "--cat"]);
    assert_eq!(call("a b a").ok(), r#"{"a":2,"b":1}"#);
    world.write("kept", random(1, 600_000));
    let kept = world.command(&node.dir, &["add", "kept"]).ok();
    disk.fill();
    world.write("much", random(2, 3_000_000));
    let said = world.command(&node.dir, &["add", "much"]);
    refused(&said, "StorageFull", 6, &[&node.dir.display().to_string(), "free space", "need not be restarted"]);
    let whole = |cid: &str, to: &str, bytes: Vec<u8>| {
        world.command(&node.dir, &["get", cid, "-o", to]).ok();
        assert!(fs::read(world.path(to)).expect("read") == bytes);
    };
    whole(&kept, "kept-back", random(1, 600_000));
    let called = call("c d c");
    if called.code != 0 {
        refused(&called, "StorageFull", 6, &[]);
    }
    disk.free();
    let much = world.command(&node.dir, &["add", "much"]).ok();
    whole(&much, "much-back", random(2, 3_000_000));
    assert_eq!(call("e f e").ok(), r#"{"e":2,"f":1}"#);
    assert_eq!(world.command(&node.dir, &["repo", "verify", "-o", "json"]).json()["wrong"], 0);
}

#[test]
fn a_node_on_a_read_only_disk_says_so() {
    let world = World::new();
    let Some(disk) = SmallDisk::mount(world.path("a"), 16) else { return };
    world.did("a");
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(&disk.0).status();
    assert!(remounted.expect("run").success());
    let said = world.command(&world.path("a"), &["node"]);
    refused(&said, "Unavailable", 6, &["Read-only file system", &disk.0.display().to_string()]);
}

/// Adds a file over the API; its CID, if the node says that it has it.
fn add(api: &str, bytes: &[u8]) -> Option<String> {
    let mut answer = ureq::post(format!("http://{api}/v1/add")).send(bytes).ok()?;
    let added: Value = answer.body_mut().read_json().ok()?;
    added["cid"].as_str().map(String::from)
}

/// The size of the file of this number: small ones, of one block, of several.
fn size(number: u64) -> usize {
    [100, 20_000, 262_144, 700_000][number as usize % 4] + number as usize
}

/// Has the words of a text of its own counted, and does not wait for it; the handle, if the node promises to do it.
fn detach(api: &str, function: &str, number: u64) -> Option<String> {
    let arg = format!("number {number}");
    let body = serde_json::json!({"fn": function, "entry": "map", "args": [{"text": arg}], "detach": true});
    let mut answer = ureq::post(format!("http://{api}/v1/call")).send_json(body).ok()?;
    let accepted: Value = answer.body_mut().read_json().ok()?;
    accepted["handle"].as_str().map(String::from)
}

/// What a node acknowledged: files and work, by number.
#[derive(Default)]
struct Acknowledged {
    files: Vec<(u64, String)>,
    works: Vec<(u64, String)>,
}

impl Acknowledged {
    /// Gives a node files and work, two threads each, and kills it when so many were acknowledged.
    fn give_and_kill(&mut self, node: &mut Node, function: &str, first: u64, many: usize) {
        let api = node.api().to_string();
        let (tell, told) = std::sync::mpsc::sync_channel(4096);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (api, tell) = (&api, tell.clone());
                scope.spawn(move || {
                    let files = thread < 2;
                    let give = |number| match files {
                        true => add(api, &random(number, size(number))),
                        false => detach(api, function, number),
                    };
                    let mut number = first + thread;
                    while let Some(name) = give(number) {
                        tell.send((files, number, name)).expect("heard");
                        number += 4;
                    }
                });
            }
            drop(tell);
            let mut note =
                |(files, number, name)| if files { self.files.push((number, name)) } else { self.works.push((number, name)) };
            told.iter().take(many).for_each(&mut note);
            node.kill();
            told.iter().for_each(&mut note);
        });
    }

    /// All of it is there, and right.
    fn check(&self, node: &Node) {
        let get = |path: String| {
            let answer = ureq::get(format!("http://{}{path}", node.api())).call();
            answer.unwrap_or_else(|why| panic!("{path} is not there: {why}"))
        };
        for (number, cid) in &self.files {
            let mut bytes = Vec::new();
            get(format!("/v1/cat/{cid}")).body_mut().as_reader().read_to_end(&mut bytes).expect("read");
            assert!(bytes == random(*number, size(*number)), "file {number}, {cid}");
        }
        for (number, handle) in &self.works {
            let work: Value = get(format!("/v1/work/{handle}?wait_ms=60000")).body_mut().read_json().expect("JSON");
            let result = work["result"].as_str().unwrap_or_else(|| panic!("work {number}: {work}"));
            let counts = get(format!("/v1/cat/{result}")).body_mut().read_to_string().expect("text");
            assert_eq!(counts, format!(r#"{{"{number}":1,"number":1}}"#));
        }
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9_during_adds_and_detached_calls() {
    let world = World::new();
    let mut all = Acknowledged::default();
    let mut node = world.node("a", &[]);
    let function = crate::wordcount(&world, &node);
    for round in 0..world::rounds() {
        // Each time at another moment; in many rounds also after a thousand of each.
        let many = fastrand::Rng::with_seed(round as u64).usize(5..40 * world::rounds().max(3));
        let mut acknowledged = Acknowledged::default();
        acknowledged.give_and_kill(&mut node, &function, round as u64 * 1_000_000, many);
        node = world.node("a", &[]);
        let report = world.command(&node.dir, &["repo", "verify", "-o", "json"]).json();
        assert_eq!(report["wrong"], 0, "round {round}: {report}");
        acknowledged.check(&node);
        all.files.append(&mut acknowledged.files);
        all.works.append(&mut acknowledged.works);
    }
    // Of work that ended a node keeps the latest 16,384 pieces; some of these may not have been acknowledged.
    let kept = all.works.len().min(12_000);
    all.works.drain(..all.works.len() - kept);
    // Later deaths took nothing of it either.
    all.check(&node);
}
