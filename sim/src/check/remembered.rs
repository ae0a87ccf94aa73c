//! What is remembered is true, and spares the work: a job that equals one that ended executes nothing, when no fault came
//! between them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Breach, Law, Verdict};
use crate::fact::Fact;

/// The jobs that ended in calm times, and those that should find all of their results.
#[derive(Debug, Default)]
pub struct Remembered {
    calm: BTreeSet<u64>,
    ended: BTreeSet<u64>,
    spared: BTreeMap<u64, u64>,
}

impl Law for Remembered {
    fn name(&self) -> &'static str {
        "remembered"
    }

    fn see(&mut self, _: u64, fact: &Fact) -> Verdict {
        match fact {
            Fact::Remembers { node, key, right: false } => {
                Breach::at(*node, format!("what is remembered under {key} is not what its task gives"))
            }
            Fact::JobCalled { asked, again, .. } => {
                if asked.calm && !asked.stranger {
                    self.calm.insert(asked.request);
                    self.spared.extend(again.filter(|before| self.ended.contains(before)).map(|before| (asked.request, before)));
                }
                Ok(())
            }
            Fact::JobReplied { node, request, reply: Ok(done) } => {
                let ran: u32 = done.progress.nodes.values().map(|share| share.tasks).sum();
                if let Some(before) = self.spared.get(request).filter(|_| ran > 0) {
                    return Breach::at(*node, format!("job {request} equals job {before}, which had ended, and ran {ran} tasks"));
                }
                if self.calm.contains(request) {
                    self.ended.insert(*request);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
