//! What helps to look after a node: `doctor`, `top`, `members --watch` and `completions`, against real processes.

#[path = "mesh/world.rs"]
#[allow(dead_code, reason = "shared with the mesh tests, which use more of it")]
mod world;

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use world::{TIMEROSE, World};

/// What each check of `doctor` found, and its exit code.
fn doctor(world: &World, home: &Path) -> (i32, Vec<(String, String)>) {
    let said = world.command(home, &["doctor", "-o", "json"]);
    let findings: Vec<Value> = serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {}", said.stdout));
    let text = |value: &Value| value.as_str().expect("text").to_string();
    for finding in &findings {
        assert!(!text(&finding["cause"]).is_empty(), "{finding}");
        assert_eq!(
            text(&finding["hint"]).is_empty(),
            finding["state"] == "ok",
            "a hint where there is something to do: {finding}"
        );
    }
    (said.code, findings.iter().map(|finding| (text(&finding["check"]), text(&finding["state"]))).collect())
}

fn of<'a>(found: &'a [(String, String)], check: &str) -> &'a str {
    found.iter().find(|(name, _)| name == check).map_or("not checked", |(_, state)| state)
}

#[test]
fn doctor_says_what_is_there_and_starts_nothing() {
    let world = World::new();
    let home = world.path("home");
    let (code, found) = doctor(&world, &home);
    assert_eq!((code, of(&found, "node"), of(&found, "data folder")), (0, "warn", "ok"), "{found:?}");
    assert!(!home.exists(), "it makes no folder");

    let mut node = world.node("home", &[]);
    let (code, found) = doctor(&world, &home);
    let states = ["node", "version", "peers", "slots"].map(|check| of(&found, check));
    assert_eq!((code, states), (0, ["ok", "ok", "warn", "ok"]), "{found:?}");
    node.kill();
    // It could not take its address back.
    let (code, found) = doctor(&world, &home);
    assert_eq!((code, of(&found, "node")), (1, "fail"), "{found:?}");

    let file = world.write("file", "not a folder");
    let said = world.command(&file, &["doctor"]);
    assert_eq!(said.code, 1);
    assert!(said.stdout.contains("fail") && said.stdout.contains("hint: ") && said.stderr.contains("Unfit"), "{}", said.stdout);
}

#[test]
fn top_shows_a_node_once_on_a_pipe_and_by_the_line_as_json() {
    let world = World::new();
    let node = world.node("home", &[]);
    let shown = world.command(&node.dir, &["top"]).ok();
    let line = shown.lines().find(|line| line.starts_with(&node.id())).unwrap_or_else(|| panic!("{shown}"));
    assert_eq!(line.split_whitespace().skip(1).collect::<Vec<_>>(), ["local", "here", "1", "0", "0", "0", "0", "0"]);

    let mut top = Command::new(TIMEROSE)
        .args(["top", "-o", "json"])
        .env("TIMEROSE_PATH", &node.dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let lines = BufReader::new(top.stdout.take().expect("piped")).lines();
    for line in lines.take(2) {
        let now: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        assert_eq!((&now["nodes"][0]["id"], &now["nodes"][0]["slots_used"]), (&node.id().into(), &0.into()));
    }
    // Nobody reads any more: it ends by itself, and well.
    assert!(top.wait().expect("reaped").success());
}

#[test]
fn members_are_watched_as_they_come_and_go() {
    let world = World::new();
    let home = world.node("home", &[]);
    let mut watch = Command::new(TIMEROSE)
        .args(["members", "--watch"])
        .env("TIMEROSE_PATH", &home.dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
    let mut last = String::new();
    let mut next = |right: &dyn Fn(&[Value]) -> bool| {
        loop {
            let line = lines.next().expect("it goes on").expect("a line");
            assert_ne!(line, last, "nothing changed");
            let members: Vec<Value> = serde_json::from_str(&line).expect("JSON");
            last = line;
            if right(&members) {
                return;
            }
        }
    };
    next(&|members| members.len() == 1 && members[0]["id"] == home.id());
    let mut other = world.node("other", &["--join", &home.addr()]);
    let id = other.id();
    next(&|members| members.iter().any(|member| member["id"] == id && member["connected"] == true));
    other.kill();
    next(&|members| members.iter().all(|member| member["id"] != id || member["connected"] == false));
    // As Ctrl-C does.
    world::signal(&watch, "INT");
    assert!(!watch.wait().expect("reaped").success());
}

#[test]
fn completions_know_the_commands() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = world.command(&world.path("home"), &["completions", shell]).ok();
        for command in ["mapreduce", "doctor", "completions", "detach"] {
            assert!(script.contains(command), "{shell} has no {command}");
        }
    }
    assert_eq!(world.command(&world.path("home"), &["completions", "nosuch"]).code, 2);
    assert!(!world.path("home").exists());
}
