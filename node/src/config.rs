//! What a node is told at its start, and why it may not start.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use timerose_content::StoreError;
use timerose_core::capability::Role;
use timerose_core::id::NodeId;
use timerose_core::resources::Resources;

use crate::telemetry::TelemetryConfig;

/// Everything that a node is told. Arguments, environment and files are read by the CLI alone.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where its key, its blocks and its journal lie. Made where it is missing; one process at a time.
    pub dir: PathBuf,
    /// Where peers reach it: TCP, QUIC and WebSocket multiaddrs; none for a node that only dials others. Port 0 lets the
    /// system choose.
    pub listen: Vec<String>,
    /// Where its HTTP API listens. Loopback unless the operator knows better: whoever reaches it acts as this node.
    pub api: SocketAddr,
    /// Where to find the mesh: multiaddrs.
    pub join: Vec<String>,
    /// What it does for others.
    pub roles: BTreeSet<Role>,
    /// Where it stands, in the operator's words.
    pub region: String,
    /// The keys whose calls it takes and whose answers it believes.
    pub trust: BTreeSet<NodeId>,
    /// What its executor offers.
    pub offers: Resources,
    /// Where what the core is told is recorded, for a replay.
    pub record: Option<PathBuf>,
    /// Which traces are told, and to whom.
    pub telemetry: TelemetryConfig,
    /// How far it reaches beyond its mesh.
    pub reach: Reach,
    /// What its content may take of disk and network.
    pub limits: Limits,
    /// What goes wrong on purpose: nothing, but in tests.
    pub faults: Faults,
}

/// What a node's content may take of disk and network. The default is all that there is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Bytes in blocks. When they near it, garbage is collected.
    pub storage: Option<u64>,
    /// Bytes of bitswap a second to all peers together.
    pub up: Option<u64>,
    /// Bytes of bitswap a second from all peers together.
    pub down: Option<u64>,
}

/// How far a node reaches beyond its mesh.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reach {
    /// Whether it joins the public network of IPFS. If so, it dials no private address that a stranger names.
    pub public: bool,
    /// Whether it relays between nodes that it trusts and that cannot dial each other.
    pub relay: bool,
}

/// Faults on purpose, for tests. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Of the generator that decides which messages are lost.
    pub seed: u64,
    /// Of a thousand messages on topics, so many are neither heard nor passed on.
    pub loss_per_mille: u32,
    /// Whether the node hears nothing on topics, passes nothing on, and sends no letter. It stays connected and says that
    /// it is there.
    pub silent: bool,
    /// Whether the public network is one of the test's own: private addresses are as good as public ones there, and none of the usual
    /// nodes is asked.
    pub island: bool,
}

impl FromStr for Faults {
    type Err = String;

    /// Such as `seed=7,loss=10`, `silent` or `island`.
    fn from_str(text: &str) -> Result<Faults, String> {
        let mut faults = Faults::default();
        for word in text.split(',') {
            let number = |text: &str| text.parse().map_err(|e| format!("{word:?}: {e}"));
            match word.split_once('=') {
                Some(("seed", seed)) => faults.seed = number(seed)?,
                Some(("loss", loss)) => faults.loss_per_mille = number(loss)?.min(1000) as u32,
                None if word == "silent" => faults.silent = true,
                None if word == "island" => faults.island = true,
                _ => return Err(format!("{word:?} is no fault: seed=N, loss=N (of a thousand), silent, island")),
            }
        }
        Ok(faults)
    }
}

impl StartError {
    /// The same for what is kept by means of the blockstore.
    pub(crate) fn of_store(dir: &Path, error: StoreError) -> StartError {
        match error {
            // A node that is ending has let go of the folder, and not yet of the store.
            StoreError::Locked { .. } => StartError::Busy { path: dir.to_path_buf() },
            StoreError::Damaged { path, why } => StartError::Damaged { path, why },
            StoreError::Full { path } => StartError::Full { path },
            StoreError::Io { path, doing, why } => StartError::Data { path, why: format!("cannot {doing} it: {why}") },
            other => StartError::Data { path: dir.to_path_buf(), why: other.to_string() },
        }
    }
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be used.
    #[error("the data folder {path}: {why}")]
    Data {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A file of the data folder is damaged.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How it was noticed.
        why: String,
    },
    /// There is no room on the disk.
    #[error("no space left on the disk of {path}")]
    Full {
        /// What was to be written.
        path: PathBuf,
    },
    /// Another process runs a node in the data folder.
    #[error("another process runs a node in {path}")]
    Busy {
        /// Which folder.
        path: PathBuf,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {addr}: {why}")]
    Listen {
        /// Which.
        addr: String,
        /// Why not.
        why: String,
    },
    /// An address is no multiaddr.
    #[error("{addr:?} is not a multiaddr: {why}")]
    Address {
        /// What was given.
        addr: String,
        /// Why it is none.
        why: String,
    },
    /// The engines cannot be set up.
    #[error("the engine did not start: {0}")]
    Engine(String),
}
