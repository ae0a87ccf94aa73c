//! Real IPFS peers for tests: processes that are told what to do by lines of JSON. They end with the test.
//!
//! `TIMEROSE_PEERS` names the folder that scripts/peers filled.

use serde_json::{Value, json};
use std::fs::{File, canonicalize};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A real peer in a process of its own.
pub struct Peer {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    ready: Value,
    /// What came on topics, as far as it was read.
    heard: Vec<Value>,
}

impl Peer {
    fn start(command: &mut Command) -> Peer {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
        let (stdin, stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let mut peer = Peer { child, stdin, stdout: BufReader::new(stdout), ready: Value::Null, heard: Vec::new() };
        peer.ready = peer.line();
        assert_eq!(peer.ready["ready"], true);
        peer
    }

    pub fn helia() -> Peer {
        let peers = peers();
        Peer::start(Command::new(peers.join("node_modules/.bin/node")).arg(peers.join("helia.mjs")))
    }

    /// One whose DHT is that of the public network.
    pub fn public_helia() -> Peer {
        let peers = peers();
        let mut node = Command::new(peers.join("node_modules/.bin/node"));
        Peer::start(node.arg(peers.join("helia.mjs")).arg("/ipfs/kad/1.0.0"))
    }

    /// A client of the gateway at that address, which checks all that it gets.
    pub fn trustless(api: &str) -> Peer {
        let peers = peers();
        let mut node = Command::new(peers.join("node_modules/.bin/node"));
        Peer::start(node.arg(peers.join("trustless.mjs")).arg(format!("http://{api}")))
    }

    /// With its repository in that folder, and its log beside it.
    pub fn kubo(folder: &Path) -> Peer {
        let peers = peers();
        let log = File::create(folder.with_extension("log")).expect("a log");
        Peer::start(Command::new(peers.join("venv/bin/python")).arg(peers.join("kubo.py")).arg(folder).stderr(log))
    }

    /// Its id, as text.
    pub fn id(&self) -> &str {
        self.ready["peer"].as_str().expect("an id")
    }

    /// Where it can be dialled.
    pub fn addr(&self) -> String {
        let addrs = self.ready["addrs"].as_array().expect("addresses");
        let addr = addrs.iter().filter_map(Value::as_str).find(|addr| addr.contains("127.0.0.1/tcp/")).expect("a TCP address");
        if addr.contains("/p2p/") { addr.to_string() } else { format!("{addr}/p2p/{}", self.id()) }
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"))
    }

    /// Has it do something and gives the answer.
    pub fn tell(&mut self, told: &Value) -> Value {
        writeln!(self.stdin, "{told}").expect("told");
        loop {
            let line = self.line();
            if line.get("topic").is_some() {
                self.heard.push(line);
                continue;
            }
            assert!(line.get("error").is_none(), "{told}: {line}");
            return line;
        }
    }

    pub fn add(&mut self, path: &Path, more: &Value) -> String {
        let mut told = json!({"do": "add", "path": path});
        told.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        self.tell(&told)["cid"].as_str().expect("a CID").to_string()
    }

    /// Has a Helia give so many blocks as they are, and of others none (`staller`) or false bytes (`liar`).
    pub fn turn(&mut self, character: &str, after: u32) {
        self.tell(&json!({"do": "turn", "character": character, "after": after}));
    }

    /// How many blocks that Helia did not give as they are.
    pub fn wronged(&mut self) -> u64 {
        self.tell(&json!({"do": "wronged"}))["blocks"].as_u64().expect("a number")
    }

    /// Sends its process a signal, by name.
    pub fn signal(&self, name: &str) {
        super::world::signal(&self.child, name);
    }

    pub fn subscribe(&mut self, topic: &str) {
        self.tell(&json!({"do": "subscribe", "topic": topic}));
    }

    /// How many peers it knows that listen to a topic.
    pub fn subscribers(&mut self, topic: &str) -> usize {
        self.tell(&json!({"do": "subscribers", "topic": topic}))["peers"].as_array().map_or(0, Vec::len)
    }

    /// What came on topics so far.
    pub fn heard(&mut self) -> &[Value] {
        // What it wrote before it answers was read when the answer is.
        self.tell(&json!({"do": "peers"}));
        &self.heard
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn peers() -> PathBuf {
    let folder = std::env::var("TIMEROSE_PEERS").expect("TIMEROSE_PEERS names the folder that scripts/peers filled");
    canonicalize(folder).expect("the folder of the peers")
}
