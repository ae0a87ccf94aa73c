//! A node in the process of a test.

use libp2p::Multiaddr;
use std::collections::BTreeSet;
use timerose_core::capability::Role;
use timerose_core::id::NodeId;
use timerose_core::resources::Resources;
use timerose_node::{Config, Faults, Running, start};

/// Starts a node that executes and trusts nobody; gives its identity and where it listens.
pub async fn node(dir: &tempfile::TempDir) -> (Running, NodeId, Multiaddr) {
    node_that(dir, |_| ()).await
}

/// The same, with something else about it.
pub async fn node_that(dir: &tempfile::TempDir, is: impl FnOnce(&mut Config)) -> (Running, NodeId, Multiaddr) {
    let mut config = Config {
        dir: dir.path().to_path_buf(),
        listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
        api: ([127, 0, 0, 1], 0).into(),
        join: Vec::new(),
        roles: [Role::Executor].into(),
        region: "test".into(),
        trust: BTreeSet::new(),
        offers: Resources { slots: 1, memory: 1 << 30 },
        record: None,
        telemetry: Default::default(),
        reach: Default::default(),
        limits: Default::default(),
        faults: Faults::default(),
    };
    is(&mut config);
    let mut running = start(config).await.expect("started");
    let addr = running.addrs().await[0].parse().expect("a multiaddr");
    let id = timerose_node::Keys::open(dir.path()).expect("there").id();
    (running, id, addr)
}
