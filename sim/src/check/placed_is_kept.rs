//! Every copy of a block of an import gets one place, is there, and meets no other copy; the first copy never goes without.

use std::collections::{BTreeMap, BTreeSet};

use cid::Cid;

use super::{Breach, Law, Verdict};
use crate::fact::Fact;

/// The blocks of imports, and what became of their copies.
#[derive(Debug, Default)]
pub struct PlacedIsKept {
    blocks: BTreeMap<(u64, Cid), Block>,
}

#[derive(Debug)]
struct Block {
    importer: usize,
    /// Copies that nothing was heard of.
    open: u8,
    at: BTreeSet<usize>,
}

impl Law for PlacedIsKept {
    fn name(&self) -> &'static str {
        "placed_is_kept"
    }

    fn see(&mut self, _: u64, fact: &Fact) -> Verdict {
        match fact {
            Fact::Placing { node, request, cids, copies } => {
                let block = |cid: &Cid| ((*request, *cid), Block { importer: *node, open: *copies, at: BTreeSet::new() });
                self.blocks.extend(cids.iter().map(block));
            }
            Fact::Placed { node, request, cids, at, kept } => {
                if !kept {
                    return Breach::at(*node, format!("blocks of import {request} are not all at node {at:?}"));
                }
                for cid in cids {
                    let block = self.blocks.get_mut(&(*request, *cid)).filter(|block| block.open > 0);
                    let Some(block) = block else {
                        return Breach::at(*node, format!("block {cid} of import {request} has a place too many"));
                    };
                    block.open -= 1;
                    if at.is_some_and(|at| !block.at.insert(at)) {
                        return Breach::at(*node, format!("two copies of block {cid} of import {request} are at one node"));
                    }
                }
            }
            Fact::Crashed { node } => self.blocks.retain(|_, block| block.importer != *node),
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self) -> Verdict {
        match self.blocks.iter().find(|(_, block)| block.open > 0 || block.at.is_empty()) {
            Some(((request, cid), block)) => Breach::at(block.importer, format!("block {cid} of import {request} lacks a place")),
            None => Ok(()),
        }
    }
}
