//! Nobody runs the work of a stranger, who may only work for itself.

use super::{Breach, Law, Verdict};
use crate::fact::Fact;

/// Nodes from this number on are strangers.
#[derive(Debug)]
pub struct Trust {
    strangers_from: usize,
}

impl Trust {
    /// Nodes from `strangers_from` on are strangers.
    pub fn new(strangers_from: usize) -> Self {
        Trust { strangers_from }
    }
}

impl Law for Trust {
    fn name(&self) -> &'static str {
        "trust"
    }

    fn see(&mut self, _: u64, fact: &Fact) -> Verdict {
        match fact {
            Fact::Started { node, subject, work, .. } if *subject >= self.strangers_from && subject != node => {
                Breach::at(*node, format!("work {work} of the stranger {subject} was started"))
            }
            _ => Ok(()),
        }
    }
}
