//! Real processes for tests: nodes in folders of their own, and commands against them. All of it ends with the test.

use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// The program under test.
pub const TIMEROSE: &str = env!("CARGO_BIN_EXE_timerose");

/// A folder for one test.
pub struct World {
    pub dir: TempDir,
}

/// What a command said.
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// Its standard output, if it went well.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout.trim_end().to_string()
    }

    pub fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        Said {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl World {
    pub fn new() -> World {
        World { dir: tempfile::tempdir().expect("a folder") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("below the folder")).expect("made");
        std::fs::write(&path, bytes).expect("written");
        path
    }

    /// The key of a node that has not run yet, as its DID.
    pub fn did(&self, name: &str) -> String {
        self.command(&self.path(name), &["id", "-o", "json"]).json()["id"].as_str().expect("an id").to_string()
    }

    /// Starts a node and waits until it is ready.
    pub fn node(&self, name: &str, args: &[&str]) -> Node {
        self.node_with(name, args, &[])
    }

    /// The same with variables of the environment.
    pub fn node_with(&self, name: &str, args: &[&str], env: &[(&str, &str)]) -> Node {
        let mut program = Command::new(TIMEROSE);
        program.envs(env.iter().copied());
        self.node_by(program, name, args)
    }

    /// The same by a command of its own that runs the program.
    pub fn node_by(&self, mut program: Command, name: &str, args: &[&str]) -> Node {
        let dir = self.path(name);
        let log = self.path(&format!("{name}.log"));
        let mut child = program
            .args(["-v", "node", "--until-stdin-closes", "-o", "json", "--slots", "1", "--data"])
            .arg(&dir)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("a log"))
            .spawn()
            .expect("started");
        let mut first = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut first).expect("a line");
        let ready: Value = serde_json::from_str(&first)
            .unwrap_or_else(|e| panic!("{e}: {first:?}; {}", std::fs::read_to_string(&log).unwrap_or_default()));
        Node { child, dir, log, ready }
    }

    /// Runs a command against the node of a folder, or without one.
    pub fn command(&self, home: &Path, args: &[&str]) -> Said {
        Command::new(TIMEROSE).args(args).env("TIMEROSE_PATH", home).current_dir(self.dir.path()).output().expect("run").into()
    }
}

/// A node in a process of its own.
pub struct Node {
    pub child: Child,
    pub dir: PathBuf,
    pub log: PathBuf,
    ready: Value,
}

impl Node {
    pub fn id(&self) -> String {
        self.ready["id"].as_str().expect("an id").to_string()
    }

    /// Where it can be dialled, by TCP.
    pub fn addr(&self) -> String {
        let addrs = self.ready["addrs"].as_array().expect("addresses");
        addrs.iter().filter_map(Value::as_str).find(|addr| addr.contains("/tcp/")).expect("a TCP address").to_string()
    }

    /// Where its API listens.
    pub fn api(&self) -> &str {
        self.ready["api"].as_str().expect("an address")
    }

    /// One of its metrics.
    pub fn metric(&self, name: &str) -> u64 {
        self.any_metric(&format!("timerose_{name}"))
    }

    /// One of its metrics, or of its process's.
    pub fn any_metric(&self, name: &str) -> u64 {
        let url = format!("http://{}/metrics", self.api());
        let text = ureq::get(url).call().expect("metrics").body_mut().read_to_string().expect("text");
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} "))).expect("the metric");
        line.parse().expect("a number")
    }

    /// Waits until a metric is as it should be.
    pub fn wait_for(&self, name: &str, right: impl Fn(u64) -> bool) {
        wait_until(name, || right(self.metric(name)));
    }

    /// Sends it a signal, by name.
    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Ends it politely.
    #[allow(dead_code, reason = "not every test that shares this has a node that may say goodbye")]
    pub fn end(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().expect("reaped");
    }

    pub fn kill(&mut self) {
        // SIGKILL: nothing of the node's own runs any more.
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
    }
}

impl Drop for Node {
    #[expect(clippy::print_stderr, reason = "a test that fails shows its nodes' logs")]
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), std::fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

/// A file of the folder `guests`.
#[allow(dead_code, reason = "not every test that shares this deploys one")]
pub fn guest(name: &str) -> String {
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests");
    guests.join(name).to_str().expect("UTF-8").to_string()
}

/// By which channel a node reaches another, whose id is given.
#[allow(dead_code, reason = "not every test that shares this asks")]
pub fn channel(world: &World, node: &Node, other: &str) -> Value {
    let members = world.command(&node.dir, &["members", "-o", "json"]).json();
    let found = members.as_array().expect("a list").iter().find(|member| member["id"] == other);
    found.map(|member| member["channel"].clone()).unwrap_or_default()
}

/// How many times the long tests go round: `make soak` asks for many.
pub fn rounds() -> usize {
    std::env::var("TIMEROSE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

/// Sends a process a signal, by name.
pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().expect("kill");
    assert!(sent.success());
}

/// Polls for what has no event of its own, and gives up after a minute.
pub fn wait_until(what: &str, mut right: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if right() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("in vain waited for {what}");
}
