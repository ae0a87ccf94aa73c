//! Networks for tests, each a namespace of Linux, in a row.

use serde_json::Value;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::world::{Node, Said, TIMEROSE, World, guest, wait_until};

/// Networks in a row: each reaches its neighbours and nobody else. They go with the test.
pub struct Row(Vec<String>);

impl Row {
    /// So many, if networks may be made here.
    pub fn of(count: usize) -> Option<Row> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let mut row = Row(Vec::new());
        for at in 0..count {
            let name = format!("timerose-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            if !ip(&["netns", "add", &name]).is_some_and(|output| output.status.success()) {
                skipped("only root may make network namespaces, by the command ip");
                return None;
            }
            row.0.push(name.clone());
            must(&["-n", &name, "link", "set", "lo", "up"]);
            if at > 0 {
                let before = row.0[at - 1].clone();
                must(&["-n", &before, "link", "add", "right", "type", "veth", "peer", "name", "left", "netns", &name]);
                for (network, end, last) in [(&before, "right", 1), (&name, "left", 2)] {
                    must(&["-n", network, "addr", "add", &format!("10.77.{at}.{last}/24"), "dev", end]);
                    must(&["-n", network, "link", "set", end, "up"]);
                }
            }
        }
        Some(row)
    }

    /// Makes routers of some: they pass on what is for others, and what is for the whole row goes to that side.
    pub fn route(&self, routers: impl IntoIterator<Item = usize>, rightwards: &[usize], leftwards: &[usize]) {
        for at in routers {
            self.run(at, &["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"], "").expect("a router");
        }
        let ways = rightwards.iter().map(|at| (*at, format!("10.77.{}.2", at + 1)));
        for (at, via) in ways.chain(leftwards.iter().map(|at| (*at, format!("10.77.{at}.1")))) {
            must(&["-n", &self.0[at], "route", "add", "default", "via", &via]);
        }
    }

    /// Makes one a NAT, if that can be done here: what is behind it shares its address on that side (`left` or `right`), and nobody
    /// comes in who was not called. It keeps the ports, so a place behind it has one address towards all, as most NATs of homes have it.
    pub fn nat(&self, at: usize, outside: &str) -> Option<()> {
        let rules = format!(
            "table ip nat {{\n chain out {{\n type nat hook postrouting priority 100\n oifname {outside} masquerade\n }}\n }}\n\
             table ip wall {{\n chain here {{\n type filter hook input priority 0\n iifname {outside} ct state new drop\n }}\n \
             chain through {{\n type filter hook forward priority 0\n iifname {outside} ct state new drop\n }}\n }}\n"
        );
        let made = self.run(at, &["nft", "-f", "-"], &rules);
        made.inspect_err(|why| skipped(&format!("no NAT can be made here, by the command nft: {why}"))).ok()
    }

    /// Runs a command there with that input; what it says where it fails.
    fn run(&self, at: usize, command: &[&str], input: &str) -> Result<(), String> {
        let mut child = Command::new("ip");
        child.args(["netns", "exec", &self.0[at]]).args(command).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child.spawn().map_err(|e| e.to_string())?;
        let written = child.stdin.take().expect("piped").write_all(input.as_bytes());
        let output = child.wait_with_output().map_err(|e| e.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
        // A command that is not there reads nothing.
        if output.status.success() { written.map_err(|e| e.to_string()) } else { Err(said) }
    }

    /// The program, in one of the networks.
    pub fn program(&self, at: usize) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0[at], TIMEROSE]);
        command
    }

    /// The addresses at which a node of that network listens, by a transport such as `tcp/0`.
    pub fn listens(&self, at: usize, transport: &str) -> Vec<String> {
        let left = (at > 0).then(|| format!("10.77.{at}.2"));
        let right = (at + 1 < self.0.len()).then(|| format!("10.77.{}.1", at + 1));
        let addrs = left.into_iter().chain(right);
        addrs.flat_map(|addr| ["--listen".to_string(), format!("/ip4/{addr}/{transport}")]).collect()
    }

    pub fn node(&self, world: &World, at: usize, name: &str, args: &[&str]) -> Node {
        self.node_by(world, at, name, "tcp/0", args)
    }

    /// The same with another transport than TCP.
    pub fn node_by(&self, world: &World, at: usize, name: &str, transport: &str, args: &[&str]) -> Node {
        let listens = self.listens(at, transport);
        world.node_by(self.program(at), name, &listens.iter().map(String::as_str).chain(args.iter().copied()).collect::<Vec<_>>())
    }

    /// Runs a command against a node, where that is.
    pub fn command(&self, world: &World, at: usize, node: &Node, args: &[&str]) -> Said {
        let mut program = self.program(at);
        program.args(args).env("TIMEROSE_PATH", &node.dir).current_dir(world.dir.path()).output().expect("run").into()
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        for name in &self.0 {
            ip(&["netns", "del", name]);
        }
    }
}

fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

fn ip(args: &[&str]) -> Option<Output> {
    Command::new("ip").args(args).output().ok()
}

fn must(args: &[&str]) {
    let output = ip(args).expect("run");
    assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Options by which a node trusts all of these.
pub fn trusting(world: &World, names: &[&str]) -> Vec<String> {
    names.iter().flat_map(|name| ["--trust".to_string(), world.did(name)]).collect()
}

/// The address of a node that its neighbour to that side dials: it may come after the first.
pub fn addr_on(row: &Row, world: &World, at: usize, node: &Node, network: &str) -> String {
    let mut found = None;
    wait_until("an address there", || {
        let id = row.command(world, at, node, &["id", "-o", "json"]).json();
        let mut addrs = id["addrs"].as_array().expect("addresses").iter().filter_map(Value::as_str);
        found = addrs.find(|addr| addr.contains(network)).map(String::from);
        found.is_some()
    });
    found.expect("an address")
}

/// By which channel a node reaches another.
pub fn channel(row: &Row, world: &World, at: usize, node: &Node, other: &Node) -> Value {
    let members = row.command(world, at, node, &["members", "-o", "json"]).json();
    let found = members.as_array().expect("a list").iter().find(|member| member["id"] == other.id()).cloned();
    found.map(|member| member["channel"].clone()).unwrap_or_default()
}

pub fn deploy(row: &Row, world: &World, at: usize, node: &Node) -> String {
    let (code, manifest) = (guest("built/wordcount-fan.wasm"), guest("wordcount/fan.toml"));
    row.command(world, at, node, &["deploy", &code, "--manifest", &manifest]).ok()
}

/// Connections by a transport, whoever opened them.
pub fn connections(stat: &Value, transport: &str) -> u64 {
    let all = stat["connections"].as_array().expect("a list");
    let of = all.iter().find(|of| of["transport"] == transport).expect("the transport");
    of["in"].as_u64().expect("a number") + of["out"].as_u64().expect("a number")
}
