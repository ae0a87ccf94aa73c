//! What is played: a small TOML file. Units stand in the names; all times are virtual.

use std::fmt;

use serde::Deserialize;

/// The most nodes of a scenario.
pub const NODES_MAX: usize = 200;

/// A scenario. Every field has a default, so that a file says only what it is about.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    /// The file that it came from, for the command that replays it.
    #[serde(skip)]
    pub name: String,
    /// How many nodes there are.
    pub nodes: usize,
    /// How many of them run work, the first ones; 0 means all.
    pub executors: usize,
    /// How many of them, the last ones, nobody trusts.
    pub strangers: usize,
    /// Pieces of work that an executor runs at the same time.
    pub slots: u32,
    /// Guest memory that an executor lends, in MiB.
    pub memory_mib: u64,
    /// Nodes are dealt to so many regions in turn; only messages between regions take the longer latencies.
    pub regions: usize,
    /// One way, from the shortest to the longest.
    pub latency_ms: [u64; 2],
    /// Messages in a thousand with which their connection breaks.
    pub loss_per_mille: u32,
    /// Messages in a thousand that are held up, and all behind them on the same stream.
    pub stall_per_mille: u32,
    /// Messages in a thousand that come a second time.
    pub twice_per_mille: u32,
    /// Messages in a thousand that others of the same stream overtake.
    pub overtaken_per_mille: u32,
    /// For how long messages are held up, at most how late a second one comes, and an overtaken one.
    pub stall_ms: [u64; 2],
    /// How long it takes until a side notices that a connection is broken.
    pub detect_ms: [u64; 2],
    /// Calls in a thousand that have to travel by PubSub.
    pub pubsub_per_mille: u32,
    /// Letters and adverts in a thousand that gossip loses, for each node that should hear them; so many come twice.
    pub gossip_loss_per_mille: u32,
    /// How many nodes, the first ones, hear no gossip while there are faults.
    pub deaf: usize,
    /// Between any two nodes, in megabytes a second.
    pub bandwidth_mb_per_s: u64,
    /// Calls of the safety phase.
    pub calls: u64,
    /// The pause between two of them.
    pub call_every_ms: u64,
    /// Clients that make many calls at once.
    pub floods: Vec<Flood>,
    /// Calls of the liveness phase: each must give its result.
    pub last_calls: u64,
    /// What a run takes on an idle node.
    pub run_ms: [u64; 2],
    /// What a caller waits.
    pub timeout_ms: u64,
    /// Calls in a thousand whose guest fails, by its own fault.
    pub guest_fails_per_mille: u32,
    /// Runs in a thousand that fail by the node's fault.
    pub engine_fails_per_mille: u32,
    /// Calls in a thousand that their user takes back while they are under way.
    pub cancel_per_mille: u32,
    /// Calls and jobs in a thousand that equal an earlier one.
    pub repeat_per_mille: u32,
    /// Calls in a thousand whose argument nobody has.
    pub missing_per_mille: u32,
    /// Calls in a thousand that take a piece of data as an argument.
    pub linked_per_mille: u32,
    /// Pieces of data that calls take as arguments.
    pub blobs: u64,
    /// How large they are.
    pub blob_kib: [u64; 2],
    /// Detached calls of the safety phase, spread over it.
    pub detached: u64,
    /// Calls of a function with effects in the safety phase, spread over it; a few more in the liveness phase.
    pub effects: u64,
    /// Writes in a thousand to a journal right before or after which the process dies, to begin again after a while.
    pub persist_crashes_per_mille: u32,
    /// The map-reduce jobs of the safety phase, by their number of files; the liveness phase repeats the first.
    pub jobs: Vec<u64>,
    /// What a job's user waits.
    pub job_timeout_ms: u64,
    /// Whether job tasks go where their data lies.
    pub locality: bool,
    /// Groups of blocks that are placed on stores.
    pub imports: u64,
    /// Planned faults.
    pub faults: Vec<Fault>,
    /// Random faults: crashes a minute, each followed by a restart.
    pub crashes_per_min: u64,
    /// Random faults: partitions a minute, each followed by its healing.
    pub partitions_per_min: u64,
    /// Random faults: nodes that become slow, each followed by its recovery.
    pub slow_per_min: u64,
    /// Random faults: wall clocks that jump, up to an hour ahead or back, each set right again.
    pub clock_jumps_per_min: u64,
    /// Random faults: disks that are full, each freed again.
    pub full_disks_per_min: u64,
    /// How long a random fault lasts.
    pub fault_ms: [u64; 2],
    /// How long there are faults.
    pub safety_ms: u64,
    /// How long the mesh has, once it had time to heal, to end everything; its last minute must be idle.
    pub liveness_ms: u64,
    /// Calls in a thousand that must give their result in the safety phase, of those that have one, were not taken back and
    /// were not asked for by a deaf node.
    pub ok_per_mille_min: u64,
    /// Calls in a thousand that must go to the nearest executor, of those whose asker is none; each at the first claim.
    pub nearest_per_mille_min: u64,
}

impl Default for Scenario {
    fn default() -> Self {
        Scenario {
            name: String::new(),
            nodes: 5,
            executors: 0,
            strangers: 0,
            slots: 2,
            memory_mib: 1024,
            regions: 1,
            latency_ms: [1, 5],
            loss_per_mille: 0,
            stall_per_mille: 0,
            twice_per_mille: 0,
            overtaken_per_mille: 0,
            stall_ms: [200, 2000],
            detect_ms: [500, 5000],
            pubsub_per_mille: 0,
            gossip_loss_per_mille: 0,
            deaf: 0,
            bandwidth_mb_per_s: 100,
            calls: 200,
            call_every_ms: 20,
            floods: Vec::new(),
            last_calls: 20,
            run_ms: [1, 50],
            timeout_ms: 20_000,
            guest_fails_per_mille: 0,
            engine_fails_per_mille: 0,
            cancel_per_mille: 0,
            repeat_per_mille: 0,
            missing_per_mille: 0,
            linked_per_mille: 400,
            blobs: 16,
            blob_kib: [64, 4096],
            detached: 0,
            effects: 0,
            persist_crashes_per_mille: 0,
            jobs: Vec::new(),
            job_timeout_ms: 120_000,
            locality: true,
            imports: 0,
            faults: Vec::new(),
            crashes_per_min: 0,
            partitions_per_min: 0,
            slow_per_min: 0,
            clock_jumps_per_min: 0,
            full_disks_per_min: 0,
            fault_ms: [1000, 10_000],
            safety_ms: 20_000,
            liveness_ms: 180_000,
            ok_per_mille_min: 0,
            nearest_per_mille_min: 0,
        }
    }
}

/// Many calls at once.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flood {
    /// When.
    pub at_ms: u64,
    /// At which node.
    pub node: usize,
    /// By which of its clients, from 1 on.
    pub client: u64,
    /// How many.
    pub calls: u64,
}

/// A planned fault.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// When.
    pub at_ms: u64,
    /// What.
    pub kind: FaultKind,
    /// To whom: for a partition, the nodes of one side.
    #[serde(default)]
    pub nodes: Vec<usize>,
    /// For a slow node: how many times slower its engine and its drivers are; 1 is as before.
    #[serde(default = "one")]
    pub times: u64,
    /// For a slow node: what it adds to every message that it is given.
    #[serde(default)]
    pub lag_ms: u64,
    /// For a wall clock: by how much it is ahead from now on.
    #[serde(default)]
    pub clock_ms: i64,
}

impl Fault {
    /// A fault without particulars.
    pub fn new(at_ms: u64, kind: FaultKind, nodes: Vec<usize>) -> Fault {
        Fault { at_ms, kind, nodes, times: 1, lag_ms: 0, clock_ms: 0 }
    }
}

fn one() -> u64 {
    1
}

/// What can go wrong, and right again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultKind {
    /// The process is killed; what is on its disk stays.
    Crash,
    /// It begins again.
    Restart,
    /// The nodes and the others no longer reach each other.
    Partition,
    /// Everybody reaches everybody.
    Heal,
    /// The nodes become so slow, or with neither `times` nor `lag_ms` quick again.
    Slow,
    /// The wall clocks jump, or without `clock_ms` are set right.
    Clock,
    /// The disks are full: nothing more can be written.
    Full,
    /// There is room again.
    Freed,
}

/// Why a scenario cannot be played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioError(String);

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ScenarioError {}

impl Scenario {
    /// Reads the text of the file `name`.
    pub fn parse(name: &str, text: &str) -> Result<Scenario, ScenarioError> {
        let mut scenario: Scenario = toml::from_str(text).map_err(|e| ScenarioError(format!("{name}: {e}")))?;
        scenario.name = name.to_string();
        scenario.check().map_err(|why| ScenarioError(format!("{name}: {why}")))?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), String> {
        let ranges = [
            ("latency_ms", self.latency_ms),
            ("stall_ms", self.stall_ms),
            ("detect_ms", self.detect_ms),
            ("run_ms", self.run_ms),
            ("blob_kib", self.blob_kib),
            ("fault_ms", self.fault_ms),
        ];
        if let Some((name, _)) = ranges.iter().find(|(_, [from, to])| from > to) {
            return Err(format!("{name} ends before it begins"));
        }
        if self.nodes == 0 || self.nodes > NODES_MAX {
            return Err(format!("nodes must be between 1 and {NODES_MAX}"));
        }
        if self.executors > self.nodes || self.strangers >= self.nodes {
            return Err("executors and strangers are among the nodes, and somebody is no stranger".into());
        }
        if self.deaf >= self.nodes {
            return Err("somebody must hear gossip".into());
        }
        if self.slots == 0 || self.regions == 0 || self.bandwidth_mb_per_s == 0 || self.blobs == 0 {
            return Err("slots, regions, bandwidth_mb_per_s and blobs must be at least 1".into());
        }
        if let Some(fault) = self.faults.iter().find(|f| f.nodes.iter().any(|&n| n >= self.nodes) || f.times == 0) {
            return Err(format!("the fault at {} ms names a node that there is not, or 0 times", fault.at_ms));
        }
        if self.floods.iter().any(|flood| flood.node >= self.nodes || flood.client == 0) {
            return Err("a flood names a node that there is not, or client 0".into());
        }
        Ok(())
    }

    /// Whether this node runs work.
    pub fn is_executor(&self, node: usize) -> bool {
        self.executors == 0 || node < self.executors
    }

    /// Whether nobody else trusts this node.
    pub fn is_stranger(&self, node: usize) -> bool {
        node >= self.nodes - self.strangers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_says_what_is_wrong_with_it() {
        for (text, why) in [
            ("nodes = 0", "between 1 and 200"),
            ("latency_ms = [9, 1]", "latency_ms ends before it begins"),
            ("nodes = 2\nfaults = [{ at_ms = 1, kind = \"crash\", nodes = [2] }]", "a node that there is not"),
            ("node = 2", "unknown field"),
        ] {
            let error = Scenario::parse("x.toml", text).expect_err(text).to_string();
            assert!(error.starts_with("x.toml: ") && error.contains(why), "{error}");
        }
    }
}
