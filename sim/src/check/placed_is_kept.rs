//! Every block of an import gets one place, and is there.

use std::collections::BTreeMap;

use cid::Cid;

use super::{Breach, Law, Verdict};
use crate::fact::Fact;

/// The blocks without a place, by import, and whose they are.
#[derive(Debug, Default)]
pub struct PlacedIsKept {
    open: BTreeMap<(u64, Cid), usize>,
}

impl Law for PlacedIsKept {
    fn name(&self) -> &'static str {
        "placed_is_kept"
    }

    fn see(&mut self, _: u64, fact: &Fact) -> Verdict {
        match fact {
            Fact::Placing { node, request, cids } => self.open.extend(cids.iter().map(|&cid| ((*request, cid), *node))),
            Fact::Placed { node, request, cids, at, kept } => {
                if !kept {
                    return Breach::at(*node, format!("blocks of import {request} are not all at node {at}"));
                }
                if let Some(cid) = cids.iter().find(|&&cid| self.open.remove(&(*request, cid)).is_none()) {
                    return Breach::at(*node, format!("block {cid} of import {request} has a second place"));
                }
            }
            Fact::Crashed { node } => self.open.retain(|_, importer| importer != node),
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self) -> Verdict {
        match self.open.iter().next() {
            Some(((request, cid), node)) => Breach::at(*node, format!("block {cid} of import {request} has no place")),
            None => Ok(()),
        }
    }
}
