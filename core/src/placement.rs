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
    /// What a byte costs to bring there, in nanoseconds.
    pub ns_per_byte: u64,
    /// Round trip from here, in microseconds.
    pub rtt_us: u64,
    /// Its slots.
    pub slots: u32,
    /// Work of this scheduler that stands before it there: what it has not ended and, where it has no room, what waits for it.
    pub ahead: u32,
    /// What a run of the function takes, in microseconds.
    pub run_us: u64,
    /// How long it does not want to be asked, in microseconds.
    pub rest_us: u64,
    /// Whether it may be asked now.
    pub open: bool,
}

impl Candidate {
    /// The expected time until the work starts there, in microseconds: fetching and the queue go on side by side.
    pub fn cost_us(&self) -> u64 {
        let queue = (u64::from(self.ahead) + 1).saturating_sub(u64::from(self.slots));
        let wait = queue.saturating_mul(self.run_us) / u64::from(self.slots.max(1));
        let fetch = self.missing.saturating_mul(self.ns_per_byte) / 1000;
        self.rtt_us.saturating_add(wait.max(self.rest_us).max(fetch))
    }
}

/// Why a member is not asked to run a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It said goodbye.
    Left,
    /// This node does not trust it.
    Stranger,
    /// It runs no work for others.
    NoExecutor,
    /// It has not the engine.
    Engine,
    /// It has no slots.
    Slots,
    /// It offers less memory than the function may use.
    Memory,
    /// No message reaches it now.
    OutOfReach,
}

/// What the scheduler would do with a call now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranking {
    /// The executors that suit, the best first.
    pub suited: Vec<Candidate>,
    /// All other members, in order of id, each with a reason.
    pub others: Vec<(NodeId, Unfit)>,
}

/// What candidates are ordered by: of equal ones one that may be asked now, and then by id, so that all nodes rank alike.
fn order(candidate: &Candidate) -> (u64, bool, u32, NodeId) {
    (candidate.cost_us(), !candidate.open, candidate.ahead, candidate.node)
}

/// The best candidate.
pub fn best<'a>(candidates: impl Iterator<Item = &'a Candidate>) -> Option<&'a Candidate> {
    candidates.min_by_key(|candidate| order(candidate))
}

/// Puts the best candidate first, the second best after it, and so on.
pub fn rank(candidates: &mut [Candidate]) {
    candidates.sort_unstable_by_key(order);
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
        Candidate {
            node: NodeId([node; 32]),
            missing: 0,
            ns_per_byte: 10,
            rtt_us: 100,
            slots: 2,
            ahead: 0,
            run_us: 5000,
            rest_us: 0,
            open: true,
        }
    }

    fn first(candidates: &[Candidate]) -> u8 {
        best(candidates.iter()).expect("somebody").node.0[0]
    }

    #[test]
    fn data_draws_work_until_the_queue_there_costs_more_than_the_move() {
        let far = Candidate { missing: 10_000_000, ..candidate(1) };
        assert_eq!(first(&[far, candidate(2)]), 2);
        assert_eq!(first(&[far, Candidate { ahead: 40, ..candidate(2) }]), 2);
        assert_eq!(first(&[far, Candidate { ahead: 41, ..candidate(2) }]), 1);
        assert_eq!(first(&[far, Candidate { ahead: 41, run_us: 500, ..candidate(2) }]), 2, "short runs wait on");
        assert_eq!(first(&[Candidate { ns_per_byte: 9, ..far }, Candidate { ahead: 40, ..candidate(2) }]), 1, "a quicker link");
        assert_eq!(first(&[far, Candidate { rest_us: 100_001, ..candidate(2) }]), 1);
    }

    #[test]
    fn the_nearest_of_equals_is_first() {
        assert_eq!(first(&[candidate(1), Candidate { rtt_us: 99, ..candidate(2) }]), 2);
        assert_eq!(first(&[candidate(2), candidate(1)]), 1, "order of id where all is equal");
        assert_eq!(first(&[candidate(2), Candidate { open: false, ..candidate(1) }]), 2, "who may be asked now");
    }

    #[test]
    fn who_is_ranked_first_is_the_best() {
        let mut ranked = [
            Candidate { rest_us: 7, ..candidate(4) },
            Candidate { missing: 9_000_000, ..candidate(3) },
            candidate(2),
            Candidate { rtt_us: 99, ..candidate(1) },
        ];
        let first = *best(ranked.iter()).expect("somebody");
        rank(&mut ranked);
        assert_eq!(ranked[0], first);
        assert_eq!(ranked.map(|c| c.node.0[0]), [1, 2, 4, 3]);
    }

    #[test]
    fn vast_numbers_cost_much_and_overflow_nothing() {
        let vast = Candidate { missing: u64::MAX, ns_per_byte: u64::MAX, rtt_us: u64::MAX, run_us: u64::MAX, ..candidate(1) };
        assert_eq!(first(&[vast, candidate(2)]), 2);
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
