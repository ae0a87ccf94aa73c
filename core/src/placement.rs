//! Where things go: pure functions from members and demand to ranked candidates.

use alloc::vec::Vec;
use cid::Cid;
use sha2::{Digest, Sha256};

use crate::id::NodeId;

/// An executor as the ranking sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub node: NodeId,
    /// Bytes of the arguments that it would have to fetch.
    pub missing: u64,
    /// Round trip from here, in microseconds.
    pub rtt_us: u64,
    /// Its slots.
    pub slots: u32,
    /// Work of this scheduler that it has not ended.
    pub in_flight: u32,
}

/// What a byte costs to move, in nanoseconds: 100 MB/s, the order of a good link between machines.
const NS_PER_BYTE: u64 = 10;
/// What one more task in front of a slot costs, in microseconds, before any run was measured.
const WAIT_US: u64 = 5_000;

impl Candidate {
    /// The expected time until the work starts there, in microseconds: fetching and the queue go on side by side.
    pub fn cost_us(&self) -> u64 {
        let queue = (u64::from(self.in_flight) + 1).saturating_sub(u64::from(self.slots));
        let wait = queue * WAIT_US / u64::from(self.slots.max(1));
        let fetch = self.missing.saturating_mul(NS_PER_BYTE) / 1000;
        self.rtt_us + wait.max(fetch)
    }
}

/// Candidates, the best first; equal ones in order of id, so that all nodes rank alike.
pub fn rank(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_by_key(|c| (c.cost_us(), c.in_flight, c.node));
    candidates
}

/// The nodes in the order in which `key` belongs to them: rendezvous hashing (Thaler and Ravishankar, 1998). When a node
/// comes or goes, only the keys that it wins or won change hands.
pub fn rendezvous(key: &Cid, nodes: impl Iterator<Item = NodeId>) -> Vec<NodeId> {
    let mut ranked: Vec<([u8; 32], NodeId)> = nodes
        .map(|node| {
            let mut hash = Sha256::new();
            hash.update(key.hash().digest());
            hash.update(node.0);
            (hash.finalize().into(), node)
        })
        .collect();
    ranked.sort_unstable_by(|a, b| b.cmp(a));
    ranked.into_iter().map(|(_, node)| node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{RAW, cid_of};

    fn candidate(node: u8) -> Candidate {
        Candidate { node: NodeId([node; 32]), missing: 0, rtt_us: 100, slots: 2, in_flight: 0 }
    }

    fn first(candidates: Vec<Candidate>) -> u8 {
        rank(candidates)[0].node.0[0]
    }

    #[test]
    fn data_draws_work_until_the_queue_there_costs_more_than_the_move() {
        let far = Candidate { missing: 10_000_000, ..candidate(1) };
        assert_eq!(first(alloc::vec![far, candidate(2)]), 2);
        let crowded = Candidate { in_flight: 200, ..candidate(2) };
        assert_eq!(first(alloc::vec![far, crowded]), 1);
    }

    #[test]
    fn the_nearest_of_equals_is_first() {
        assert_eq!(first(alloc::vec![candidate(1), Candidate { rtt_us: 99, ..candidate(2) }]), 2);
        assert_eq!(first(alloc::vec![candidate(2), candidate(1)]), 1, "order of id where all is equal");
    }

    #[test]
    fn a_node_that_leaves_moves_only_its_own_keys() {
        let nodes: Vec<NodeId> = (1..=5).map(|n| NodeId([n; 32])).collect();
        let keys: Vec<Cid> = (0..500u32).map(|k| cid_of(RAW, &k.to_be_bytes())).collect();
        let mut won = [0u32; 6];
        for key in &keys {
            let before = rendezvous(key, nodes.iter().copied());
            let after = rendezvous(key, nodes[1..].iter().copied());
            won[before[0].0[0] as usize] += 1;
            assert_eq!(before.iter().find(|n| n.0[0] != 1), after.first());
        }
        assert!(won[1..].iter().all(|&n| (60..140).contains(&n)), "shares are even: {won:?}");
    }
}
