//! Blocks in memory, a bounded number of bytes: those that are served but not kept (a record that peers are about to ask for and
//! that nobody needs afterwards), and those that are on their way to disk.

use crate::block::{Block, Multihash};
use bytes::Bytes;
use cid::Cid;
use parking_lot::RwLock;
use std::collections::HashMap;

/// Bytes that may be staged at once. When full, [`StageFull`] is the answer and nothing is staged.
pub const MAX_STAGED_BYTES: u64 = 64 << 20;
/// What one staged block costs beside its bytes, in bytes: keeps many empty blocks from being free.
const BLOCK_OVERHEAD: u64 = 256;

/// There is no room to stage these blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("staging {wanted} bytes beside {staged} would pass the limit of {MAX_STAGED_BYTES}")]
pub struct StageFull {
    /// Bytes that were to be staged.
    pub wanted: u64,
    /// Bytes that are staged.
    pub staged: u64,
}

#[derive(Default)]
struct Inner {
    /// Each block with the number of times that it was staged.
    blocks: HashMap<Multihash, (Bytes, u32)>,
    bytes: u64,
}

/// The staging area.
#[derive(Default)]
pub(super) struct Staging(RwLock<Inner>);

fn cost(data: &Bytes) -> u64 {
    data.len() as u64 + BLOCK_OVERHEAD
}

impl Staging {
    /// All or nothing. A block that is staged twice must be unstaged twice.
    pub fn stage(&self, blocks: &[Block]) -> Result<(), StageFull> {
        let mut inner = self.0.write();
        let is_new = |block: &&Block| !inner.blocks.contains_key(block.cid().hash());
        let wanted: u64 = match blocks {
            [one] if is_new(&one) => cost(one.data()),
            [_] => 0,
            // Those that come twice here count once.
            many => {
                let new = many.iter().filter(is_new).map(|block| (*block.cid().hash(), cost(block.data())));
                new.collect::<HashMap<Multihash, u64>>().values().sum()
            }
        };
        if inner.bytes + wanted > MAX_STAGED_BYTES {
            return Err(StageFull { wanted, staged: inner.bytes });
        }
        inner.bytes += wanted;
        for block in blocks {
            let entry = inner.blocks.entry(*block.cid().hash()).or_insert_with(|| (block.data().clone(), 0));
            entry.1 = entry.1.saturating_add(1);
        }
        Ok(())
    }

    pub fn unstage(&self, cids: &[Cid]) {
        let mut inner = self.0.write();
        for cid in cids {
            let Some(entry) = inner.blocks.get_mut(cid.hash()) else { continue };
            entry.1 -= 1;
            if entry.1 == 0
                && let Some((data, _)) = inner.blocks.remove(cid.hash())
            {
                inner.bytes -= cost(&data);
            }
        }
    }

    pub fn get(&self, hash: &Multihash) -> Option<Bytes> {
        self.0.read().blocks.get(hash).map(|(data, _)| data.clone())
    }

    pub fn bytes(&self) -> u64 {
        self.0.read().bytes
    }
}
