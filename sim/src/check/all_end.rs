//! Every request is answered by its deadline, unless its asker died.

use std::collections::BTreeMap;

use super::{Breach, Law, Verdict};
use crate::fact::{Asked, Fact};

/// How far beyond its deadline an answer may come, in microseconds: a slow node's ticks are late.
const SLACK_US: u64 = 50_000;

/// The requests that are open and when they must be answered.
#[derive(Debug, Default)]
pub struct AllEnd {
    open: BTreeMap<u64, (u64, usize)>,
}

impl AllEnd {
    fn answered(&mut self, at: u64, node: usize, request: u64) -> Verdict {
        match self.open.remove(&request) {
            Some((until, _)) if at > until => {
                Breach::at(node, format!("request {request} was answered {} us after its deadline", at - until))
            }
            _ => Ok(()),
        }
    }
}

impl Law for AllEnd {
    fn name(&self) -> &'static str {
        "all_end"
    }

    fn see(&mut self, at: u64, fact: &Fact) -> Verdict {
        match fact {
            Fact::Called { asked, .. } | Fact::JobCalled { asked, .. } => {
                let Asked { node, request, timeout_us, .. } = *asked;
                self.open.insert(request, (at + timeout_us + SLACK_US, node));
                Ok(())
            }
            Fact::Replied { node, request, .. } | Fact::JobReplied { node, request, .. } => self.answered(at, *node, *request),
            Fact::Crashed { node } => {
                self.open.retain(|_, (_, asker)| asker != node);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn end(&mut self) -> Verdict {
        match self.open.iter().next() {
            Some((request, (_, node))) => {
                let count = self.open.len();
                Breach::at(*node, format!("request {request} was never answered ({count} in all)"))
            }
            None => Ok(()),
        }
    }
}
