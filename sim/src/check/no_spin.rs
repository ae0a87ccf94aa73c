//! A node that had nothing to do does not want to be woken at once again: that would be a busy loop.

use std::collections::BTreeMap;

use super::{Breach, Law, Verdict};
use crate::fact::Fact;

/// Idle ticks in a row at one instant that are forgiven.
const IDLE_MAX: u32 = 3;

/// Idle ticks in a row, by node.
#[derive(Debug, Default)]
pub struct NoSpin {
    idle: BTreeMap<usize, u32>,
}

impl Law for NoSpin {
    fn name(&self) -> &'static str {
        "no_spin"
    }

    fn see(&mut self, at: u64, fact: &Fact) -> Verdict {
        let Fact::Ticked { node, outputs, next } = fact else { return Ok(()) };
        let idle = self.idle.entry(*node).or_default();
        let spins = *outputs == 0 && next.is_some_and(|next| next <= at);
        *idle = if spins { *idle + 1 } else { 0 };
        if *idle > IDLE_MAX {
            return Breach::at(*node, format!("{idle} ticks in a row did nothing, and the next is wanted at {next:?}"));
        }
        Ok(())
    }
}
