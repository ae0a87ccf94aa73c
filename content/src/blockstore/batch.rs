//! A sink of blocks: gathers them into batches and keeps one batch on its way to disk while the caller makes the next.

use super::{Blockstore, Pending, StoreError};
use crate::block::Block;

/// Bytes after which a batch goes to disk.
pub const BATCH_BYTES: usize = 8 << 20;
/// Blocks after which a batch goes to disk.
pub const BATCH_BLOCKS: usize = 64;

/// Stores a stream of blocks. Nothing is known to be durable before [`BatchWriter::finish`] returns.
pub struct BatchWriter {
    store: Blockstore,
    blocks: Vec<Block>,
    bytes: usize,
    flight: Option<(Pending, Vec<Block>)>,
}

impl BatchWriter {
    pub(super) fn new(store: Blockstore) -> BatchWriter {
        BatchWriter { store, blocks: Vec::new(), bytes: 0, flight: None }
    }

    /// Takes one block; blocks while the batch before the last is still being written. Fails with the error of an earlier batch.
    pub fn push(&mut self, block: Block) -> Result<(), StoreError> {
        self.bytes += block.size();
        self.blocks.push(block);
        if self.bytes >= BATCH_BYTES || self.blocks.len() >= BATCH_BLOCKS {
            self.send()?;
        }
        Ok(())
    }

    /// Makes everything durable.
    pub fn finish(mut self) -> Result<(), StoreError> {
        self.send()?;
        self.settle()
    }

    fn send(&mut self) -> Result<(), StoreError> {
        let blocks = std::mem::take(&mut self.blocks);
        self.bytes = 0;
        let pending = self.store.begin_put(blocks.clone())?;
        self.settle()?;
        self.flight = Some((pending, blocks));
        Ok(())
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        let Some((pending, blocks)) = self.flight.take() else { return Ok(()) };
        match pending.wait() {
            // Once more, after room was made.
            Err(StoreError::OverMax { .. }) => return self.store.put_many(&blocks),
            other => other?,
        }
        self.store.announce(&blocks.iter().map(|block| *block.cid().hash()).collect::<Vec<_>>());
        Ok(())
    }
}
