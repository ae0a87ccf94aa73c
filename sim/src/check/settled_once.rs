//! A request is answered at most once, where it was made, and never after its asker died.

use std::collections::BTreeMap;

use super::{Breach, Law, Verdict};
use crate::fact::Fact;

/// The requests that are open, and who made them.
#[derive(Debug, Default)]
pub struct SettledOnce {
    open: BTreeMap<u64, usize>,
}

impl Law for SettledOnce {
    fn name(&self) -> &'static str {
        "settled_once"
    }

    fn see(&mut self, _: u64, fact: &Fact) -> Verdict {
        match fact {
            Fact::Called { asked, .. } | Fact::JobCalled { asked, .. } => {
                self.open.insert(asked.request, asked.node);
                Ok(())
            }
            Fact::Replied { node, request, .. } | Fact::JobReplied { node, request, .. } => match self.open.remove(request) {
                Some(asker) if asker == *node => Ok(()),
                Some(asker) => Breach::at(*node, format!("request {request} of node {asker} was answered here")),
                None => Breach::at(*node, format!("request {request} is not open and was answered")),
            },
            Fact::Crashed { node } => {
                self.open.retain(|_, asker| asker != node);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
