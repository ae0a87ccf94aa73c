//! What the exchange counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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

/// The counters behind [`Stats`].
#[derive(Default)]
pub(super) struct Counters {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    blocks_in: AtomicU64,
    blocks_out: AtomicU64,
    duplicates: AtomicU64,
    refused: AtomicU64,
}

impl Counters {
    pub fn received(&self, bytes: usize) {
        self.blocks_in.fetch_add(1, Relaxed);
        self.bytes_in.fetch_add(bytes as u64, Relaxed);
    }

    pub fn sent(&self, blocks: usize, bytes: usize) {
        self.blocks_out.fetch_add(blocks as u64, Relaxed);
        self.bytes_out.fetch_add(bytes as u64, Relaxed);
    }

    pub fn duplicate(&self) {
        self.duplicates.fetch_add(1, Relaxed);
    }

    pub fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
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
