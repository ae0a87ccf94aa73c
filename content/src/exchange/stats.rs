//! What the exchange counts: in all, and with each peer.

use libp2p::PeerId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Ledgers of peers that are gone; beyond, that of whoever exchanged nothing for longest is forgotten.
const MAX_LEDGERS: usize = 1024;

/// Totals since the node started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Bytes of wanted blocks that were received.
    pub bytes_in: u64,
    /// Bytes of blocks that were sent.
    pub bytes_out: u64,
    /// Wanted blocks that were received.
    pub blocks_in: u64,
    /// Blocks that were sent.
    pub blocks_out: u64,
    /// Blocks that came once more, after they had come from elsewhere.
    pub duplicates: u64,
    /// Blocks that nobody asked for, and messages that broke the protocol.
    pub refused: u64,
}

/// What was exchanged with one peer since the node started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ledger {
    /// Bytes of wanted blocks that it sent.
    pub bytes_in: u64,
    /// Bytes of blocks that it was sent.
    pub bytes_out: u64,
    /// Wanted blocks that it sent.
    pub blocks_in: u64,
    /// Blocks that it was sent.
    pub blocks_out: u64,
    /// Whether it is connected.
    pub connected: bool,
}

#[derive(Default)]
struct Ledgers {
    /// Each with the number of its last change.
    peers: HashMap<PeerId, (u64, Ledger)>,
    changes: u64,
}

impl Ledgers {
    fn change(&mut self, peer: &PeerId, how: impl FnOnce(&mut Ledger)) {
        self.changes += 1;
        let (last, ledger) = self.peers.entry(*peer).or_default();
        *last = self.changes;
        how(ledger);
        let gone = || self.peers.iter().filter(|(_, (_, ledger))| !ledger.connected);
        if self.peers.len() > MAX_LEDGERS
            && gone().count() > MAX_LEDGERS
            && let Some(oldest) = gone().min_by_key(|(_, (last, _))| *last).map(|(peer, _)| *peer)
        {
            self.peers.remove(&oldest);
        }
    }
}

/// The counters behind [`Stats`], and the ledgers.
#[derive(Default)]
pub(super) struct Counters {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    blocks_in: AtomicU64,
    blocks_out: AtomicU64,
    duplicates: AtomicU64,
    refused: AtomicU64,
    ledgers: Mutex<Ledgers>,
}

impl Counters {
    pub fn received(&self, from: &PeerId, bytes: usize) {
        self.ledgers.lock().change(from, |ledger| {
            ledger.blocks_in += 1;
            ledger.bytes_in += bytes as u64;
        });
        self.blocks_in.fetch_add(1, Relaxed);
        self.bytes_in.fetch_add(bytes as u64, Relaxed);
    }

    pub fn sent(&self, to: &PeerId, blocks: usize, bytes: usize) {
        if blocks == 0 {
            return;
        }
        self.ledgers.lock().change(to, |ledger| {
            ledger.blocks_out += blocks as u64;
            ledger.bytes_out += bytes as u64;
        });
        self.blocks_out.fetch_add(blocks as u64, Relaxed);
        self.bytes_out.fetch_add(bytes as u64, Relaxed);
    }

    pub fn duplicate(&self) {
        self.duplicates.fetch_add(1, Relaxed);
    }

    pub fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub fn connected(&self, peer: &PeerId, connected: bool) {
        self.ledgers.lock().change(peer, |ledger| ledger.connected = connected);
    }

    /// Every ledger that is kept, in the order of its peer.
    pub fn ledgers(&self) -> Vec<(PeerId, Ledger)> {
        let mut ledgers: Vec<_> = self.ledgers.lock().peers.iter().map(|(peer, (_, ledger))| (*peer, *ledger)).collect();
        ledgers.sort_by_key(|(peer, _)| *peer);
        ledgers
    }

    pub fn read(&self) -> Stats {
        Stats {
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            blocks_in: self.blocks_in.load(Relaxed),
            blocks_out: self.blocks_out.load(Relaxed),
            duplicates: self.duplicates.load(Relaxed),
            refused: self.refused.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ledgers_of_peers_that_are_gone_are_bounded_and_those_of_partners_stay() {
        let counters = Counters::default();
        let (partner, first) = (PeerId::random(), PeerId::random());
        counters.connected(&partner, true);
        counters.received(&partner, 7);
        counters.sent(&first, 2, 100);
        assert_eq!(counters.ledgers().len(), 2);
        for _ in 0..MAX_LEDGERS + 10 {
            counters.sent(&PeerId::random(), 1, 1);
        }
        let ledgers: HashMap<PeerId, Ledger> = counters.ledgers().into_iter().collect();
        assert_eq!((ledgers.len(), ledgers.contains_key(&first)), (MAX_LEDGERS + 1, false));
        assert_eq!(ledgers[&partner], Ledger { bytes_in: 7, blocks_in: 1, connected: true, ..Ledger::default() });
    }
}
