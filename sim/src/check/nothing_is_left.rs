//! When everything has ended and all leases have expired, no table of a node holds anything.

use super::{Breach, Law, Verdict};
use crate::fact::Fact;

/// Needs no memory: the world reports what is left, once, at the end.
#[derive(Debug)]
pub struct NothingIsLeft;

impl Law for NothingIsLeft {
    fn name(&self) -> &'static str {
        "nothing_is_left"
    }

    fn see(&mut self, _: u64, fact: &Fact) -> Verdict {
        match fact {
            Fact::Left { node, tables } if !tables.is_empty() => Breach::at(*node, format!("left over: {tables:?}")),
            _ => Ok(()),
        }
    }
}
