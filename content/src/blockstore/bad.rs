//! Blocks that were found to be corrupt: they count as absent until they are put again or deleted.

use crate::block::Multihash;
use parking_lot::RwLock;
use std::collections::HashSet;

/// Corrupt blocks that are remembered. One more is not, and is found out again whenever it is read.
const MAX_BAD: usize = 65_536;

/// The list.
#[derive(Default)]
pub(super) struct Bad(RwLock<HashSet<Multihash>>);

impl Bad {
    /// Notes a block. `true`: it was not known.
    pub fn add(&self, hash: Multihash) -> bool {
        let mut bad = self.0.write();
        bad.len() < MAX_BAD && bad.insert(hash)
    }

    pub fn has(&self, hash: &Multihash) -> bool {
        self.0.read().contains(hash)
    }

    /// They were put again, or deleted.
    pub fn forget<'a>(&self, hashes: impl Iterator<Item = &'a Multihash>) {
        // Hardly ever is there any.
        if self.0.read().is_empty() {
            return;
        }
        let mut bad = self.0.write();
        for hash in hashes {
            bad.remove(hash);
        }
    }
}
