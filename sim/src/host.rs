//! One node in the world: the state machine, and what its virtual drivers are busy with.

use std::collections::{BTreeMap, BTreeSet};

use cid::Cid;
use timerose_core::capability::Role;
use timerose_core::function::WASM_FAN;
use timerose_core::id::NodeId;
use timerose_core::io::{Memo, Ticket};
use timerose_core::membership::NodeConfig;
use timerose_core::node::Node;
use timerose_core::promise::{JournalEntry, Key};
use timerose_core::proof::open_proof;
use timerose_core::record::open;
use timerose_core::resources::Resources;

use crate::scenario::Scenario;

/// A node and its drivers.
#[derive(Debug)]
pub(crate) struct Host {
    /// The state machine; nothing while the process is down.
    pub node: Option<Node>,
    /// Counts the processes: what was begun for an earlier one comes to nothing.
    pub life: u32,
    /// How many times slower than an idle node it is.
    pub times: u64,
    /// By how much its wall clock is ahead, in milliseconds.
    pub clock_ms: i64,
    /// Whether its disk is full.
    pub full: bool,
    /// Whether its journal had to refuse something in this life: then it says less than the node's state.
    pub refused: bool,
    /// The epoch of its present or last life: on its disk.
    pub epoch: u64,
    /// When it will be woken.
    pub wake_at: Option<u64>,
    /// What is being brought here, by who asked: the number tells attempts apart.
    pub errands: BTreeMap<Ticket, u64>,
    /// The sealed receipts that it remembers, by memo key: on its disk.
    pub memo: BTreeMap<Cid, Vec<u8>>,
    /// What it promised, as it stands on its disk; and when the last entry on its way will be written.
    pub journal: BTreeMap<Key, JournalEntry>,
    pub written_at: u64,
    /// What runs here, by the work's number; true once it was told to stop.
    pub runs: BTreeMap<u64, bool>,
}

impl Host {
    /// A machine on which no process has run yet.
    pub fn new() -> Host {
        Host {
            node: None,
            life: 0,
            times: 1,
            clock_ms: 0,
            full: false,
            refused: false,
            epoch: 0,
            wake_at: None,
            errands: BTreeMap::new(),
            memo: BTreeMap::new(),
            journal: BTreeMap::new(),
            written_at: 0,
            runs: BTreeMap::new(),
        }
    }

    /// A process begins.
    pub fn start(&mut self, config: NodeConfig) {
        self.life += 1;
        self.refused = false;
        self.node = Some(Node::new(config));
        self.wake_at = None;
    }

    /// An entry is on the disk.
    pub fn write(&mut self, entry: JournalEntry) {
        let key = entry.key();
        match entry.is_live() {
            true => drop(self.journal.insert(key, entry)),
            false => drop(self.journal.remove(&key)),
        }
    }

    /// The process is killed.
    pub fn kill(&mut self) {
        self.life += 1;
        self.node = None;
        self.errands.clear();
        self.runs.clear();
    }
}

/// A node's configuration: it joins by the addresses of two others.
pub(crate) fn config(scenario: &Scenario, node: usize, epoch: u64) -> NodeConfig {
    let executor = scenario.is_executor(node);
    let roles = if executor { vec![Role::Executor, Role::Scheduler, Role::Store] } else { vec![Role::Scheduler] };
    let friends = 0..scenario.nodes - scenario.strangers;
    NodeConfig {
        me: id(node),
        epoch,
        region: format!("region-{}", node % scenario.regions),
        roles: roles.into_iter().collect(),
        engines: BTreeSet::from([WASM_FAN.to_string()]),
        offers: Resources { slots: if executor { scenario.slots } else { 0 }, memory: scenario.memory_mib << 20 },
        trust: friends.map(id).collect(),
        join: [0, 1].into_iter().filter(|&other| other != node && other < scenario.nodes).map(address).collect(),
    }
}

/// A node's name in the mesh.
pub(crate) fn id(node: usize) -> NodeId {
    let mut key = [0; 32];
    // Not in the order of the numbers, as real keys are not.
    key[0] = (node as u8).wrapping_mul(167).wrapping_add(13);
    key[1] = node as u8;
    NodeId(key)
}

/// The node of that name.
pub(crate) fn index(id: &NodeId) -> usize {
    usize::from(id.0[1])
}

/// Where a node can be dialled.
pub(crate) fn address(node: usize) -> String {
    format!("/sim/{node}")
}

/// The node that can be dialled there.
pub(crate) fn at_address(addr: &str) -> Option<usize> {
    addr.strip_prefix("/sim/")?.parse().ok()
}

/// A sealed receipt, under the key of its own task.
pub(crate) fn checked(sealed: &[u8]) -> Option<Memo> {
    let (cid, receipt) = open_proof(sealed, |root| open(root, |_, _, _| true)).ok()?;
    Some(Memo { key: receipt.task.memo_key(), cid, receipt })
}
