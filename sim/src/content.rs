//! The virtual content: which node holds which block, the functions, the data sets, and what every task gives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cid::Cid;
use timerose_core::function::{Determinism, Entry, Function, Limits, Param, WASM_FAN};
use timerose_core::id::{NodeId, RAW, cid_of};
use timerose_core::job::{File, JobArg, JobSpec, Kind, expand};
use timerose_core::record::address;
use timerose_core::task::{Arg, Task};

use crate::fact::Truth;
use crate::scenario::Scenario;

/// The entry of a plain call, which takes any number of arguments.
pub const RUN: &str = "run";
/// The entries of a job.
pub const MAP: &str = "map";
/// See [`MAP`].
pub const REDUCE: &str = "reduce";

/// A manifest's and a listing's size, in bytes.
const MANIFEST_BYTES: u64 = 1024;
/// A module's size, in bytes.
const CODE_BYTES: u64 = 200 * 1024;

/// All content there is.
#[derive(Debug)]
pub struct Content {
    holders: BTreeMap<Cid, BTreeSet<usize>>,
    sizes: BTreeMap<Cid, u64>,
    functions: BTreeMap<Cid, Arc<Function>>,
    datasets: BTreeMap<Cid, Vec<File>>,
    /// What calls may take as an argument.
    pub blobs: Vec<Cid>,
    /// What calls may run, in order of size.
    pub callable: Vec<Cid>,
    /// What runs at most once, where the scenario calls it.
    pub effectful: Option<Cid>,
    run_us: [u64; 2],
    guest_fails_per_mille: u32,
}

impl Content {
    /// Functions and data, spread over the nodes.
    pub fn new(scenario: &Scenario, rng: &mut fastrand::Rng) -> Content {
        let mut content = Content {
            holders: BTreeMap::new(),
            sizes: BTreeMap::new(),
            functions: BTreeMap::new(),
            datasets: BTreeMap::new(),
            blobs: Vec::new(),
            callable: Vec::new(),
            effectful: None,
            run_us: scenario.run_ms.map(|ms| ms * 1000),
            guest_fails_per_mille: scenario.guest_fails_per_mille,
        };
        for memory_mib in [16, 64, 256] {
            // Two nodes hold it, so that one crash does not take it from the mesh.
            let deployer = rng.usize(0..scenario.nodes);
            let function = content.deploy(memory_mib.min(scenario.memory_mib) << 20, Determinism::Pure, deployer);
            content.replicate(function, (deployer + 1) % scenario.nodes);
            content.callable.push(function);
        }
        for blob in 0..scenario.blobs {
            let size = rng.u64(scenario.blob_kib[0]..=scenario.blob_kib[1]) * 1024;
            let cid = cid_of(RAW, format!("blob {blob}").as_bytes());
            content.add(cid, size, rng.usize(0..scenario.nodes));
            content.add(cid, size, rng.usize(0..scenario.nodes));
            content.blobs.push(cid);
        }
        if scenario.effects > 0 {
            let function = content.deploy(16 << 20, Determinism::Effects, 0);
            (1..scenario.nodes).for_each(|node| content.replicate(function, node));
            content.effectful = Some(function);
        }
        content
    }

    fn deploy(&mut self, memory: u64, determinism: Determinism, node: usize) -> Cid {
        let code = cid_of(RAW, format!("code for {memory} bytes").as_bytes());
        let params = || vec![Param { name: "data".into(), kind: "bytes".into() }];
        let entry = |name: &str, variadic| Entry {
            name: name.into(),
            params: params(),
            variadic,
            result: "bytes".into(),
            ..Entry::default()
        };
        let function = Function {
            engine: WASM_FAN.into(),
            code,
            entries: vec![entry(RUN, true), entry(MAP, false), entry(REDUCE, true)],
            determinism,
            limits: Limits { memory, ..Limits::default() },
            args: Vec::new(),
            env: BTreeMap::new(),
            mounts: BTreeMap::new(),
            about: Default::default(),
        };
        let (cid, _) = address(&function);
        self.functions.insert(cid, Arc::new(function));
        self.add(cid, MANIFEST_BYTES, node);
        self.add(code, CODE_BYTES, node);
        cid
    }

    fn replicate(&mut self, function: Cid, node: usize) {
        let code = self.functions[&function].code;
        self.add(function, MANIFEST_BYTES, node);
        self.add(code, CODE_BYTES, node);
    }

    /// A data set of so many files, dealt to the nodes; the listing lies at `node`.
    pub fn add_dataset(&mut self, number: u64, files: u64, kib: [u64; 2], nodes: usize, rng: &mut fastrand::Rng) -> Cid {
        let root = cid_of(RAW, format!("data set {number} of {files} files").as_bytes());
        let mut list = Vec::new();
        for file in 0..files {
            let cid = cid_of(RAW, format!("file {file} of {number}").as_bytes());
            let size = rng.u64(kib[0]..=kib[1]) * 1024;
            let holder = rng.usize(0..nodes);
            self.add(cid, size, holder);
            self.add(cid, size, (holder + 1) % nodes);
            list.push(File { path: format!("{file:05}"), cid, size });
        }
        self.datasets.insert(root, list);
        // A listing is small and was read by whoever worked on the data set: it is everywhere.
        (0..nodes).for_each(|node| self.add(root, MANIFEST_BYTES, node));
        root
    }

    /// A block lies at a node.
    pub fn add(&mut self, cid: Cid, size: u64, node: usize) {
        self.sizes.insert(cid, size);
        self.holders.entry(cid).or_default().insert(node);
    }

    /// A node has a copy of a block that exists.
    pub fn copy(&mut self, cid: Cid, node: usize) {
        self.holders.entry(cid).or_default().insert(node);
    }

    /// Whether a block lies at a node.
    pub fn has(&self, node: usize, cid: &Cid) -> bool {
        self.holders.get(cid).is_some_and(|nodes| nodes.contains(&node))
    }

    /// Who has a block, in order of number.
    pub fn holders(&self, cid: &Cid) -> impl Iterator<Item = usize> + '_ {
        self.holders.get(cid).into_iter().flatten().copied()
    }

    /// A block's size in bytes.
    pub fn size(&self, cid: &Cid) -> u64 {
        self.sizes.get(cid).copied().unwrap_or(0)
    }

    /// A manifest.
    pub fn function(&self, cid: &Cid) -> Option<Arc<Function>> {
        self.functions.get(cid).cloned()
    }

    /// A data set's files.
    pub fn files(&self, root: &Cid) -> Vec<File> {
        self.datasets.get(root).cloned().unwrap_or_default()
    }

    /// What a task gives: its result and the result's size, or nothing if the guest fails. It depends on the task alone.
    pub fn result(&self, task: &Task) -> Option<(Cid, u64)> {
        let key = task.memo_key();
        let fails = task.entry == RUN && draw(&key, 0, 1000) < u64::from(self.guest_fails_per_mille);
        (!fails).then(|| (cid_of(RAW, &key.to_bytes()), 100 + draw(&key, 1, 60_000)))
    }

    /// How long a task runs on an idle node, in microseconds.
    pub fn run_us(&self, task: &Task) -> u64 {
        let [from, to] = self.run_us;
        from + draw(&task.memo_key(), 2, to - from + 1)
    }

    /// What a call of `subject` must come to.
    pub fn truth(&self, task: &Task, subject: &NodeId) -> Truth {
        if let Some(missing) = task.links().find(|cid| !self.holders.contains_key(cid)) {
            return Truth::Missing(missing);
        }
        match self.result(task) {
            Some((result, _)) => Truth::Gives { task: task.id(subject), result },
            None => Truth::Fails,
        }
    }

    /// How many tasks a job has, and what the last one gives.
    pub fn job_truth(&self, spec: &JobSpec) -> (u32, Cid) {
        let tasks = expand(spec, &self.files(&spec.dataset));
        let mut results: Vec<Cid> = Vec::new();
        for task in &tasks {
            let entry = if task.kind == Kind::Map { &spec.map } else { &spec.reduce };
            let link = |arg: &JobArg| match arg {
                JobArg::Link(cid) => Arg::Link(*cid),
                JobArg::Promise(earlier) => Arg::Link(results[*earlier as usize]),
            };
            let args = task.args.iter().map(link).collect();
            let task = Task { function: spec.function, entry: entry.clone(), args, seq: 0 };
            results.push(self.result(&task).expect("only plain calls fail").0);
        }
        (tasks.len() as u32, *results.last().expect("a job has at least one task"))
    }
}

/// A number below `below` that depends on the address alone.
fn draw(cid: &Cid, salt: usize, below: u64) -> u64 {
    let digest = cid.hash().digest();
    let bytes: [u8; 8] = digest[8 * salt..8 * salt + 8].try_into().expect("eight bytes");
    u64::from_be_bytes(bytes) % below
}
