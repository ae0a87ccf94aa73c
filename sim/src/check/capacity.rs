//! Nobody runs more than it lends: slots and guest memory.

use std::collections::BTreeMap;

use super::{Breach, Law, Verdict};
use crate::fact::Fact;

/// What runs where: the memory of each piece of work.
#[derive(Debug)]
pub struct Capacity {
    slots: u32,
    memory: u64,
    running: BTreeMap<usize, BTreeMap<u64, u64>>,
}

impl Capacity {
    /// Every node lends so many slots and so many bytes.
    pub fn new(slots: u32, memory: u64) -> Self {
        Capacity { slots, memory, running: BTreeMap::new() }
    }
}

impl Law for Capacity {
    fn name(&self) -> &'static str {
        "capacity"
    }

    fn see(&mut self, _: u64, fact: &Fact) -> Verdict {
        match fact {
            Fact::Started { node, work, memory, .. } => {
                let running = self.running.entry(*node).or_default();
                if running.insert(*work, *memory).is_some() {
                    return Breach::at(*node, format!("work {work} was started twice"));
                }
                let (slots, memory) = (running.len(), running.values().sum::<u64>());
                if slots > self.slots as usize || memory > self.memory {
                    return Breach::at(*node, format!("{slots} pieces of work with {memory} bytes run at the same time"));
                }
            }
            Fact::Ended { node, work } => {
                self.running.entry(*node).or_default().remove(work);
            }
            Fact::Crashed { node } => {
                self.running.remove(node);
            }
            _ => {}
        }
        Ok(())
    }
}
