//! A run with effects happens at most once, whoever dies.

use std::collections::BTreeMap;

use cid::Cid;

use super::{Breach, Law, Verdict};
use crate::fact::Fact;

/// Where each began.
#[derive(Debug, Default)]
pub struct RunsOnce {
    begun: BTreeMap<Cid, usize>,
}

impl Law for RunsOnce {
    fn name(&self) -> &'static str {
        "runs_once"
    }

    fn see(&mut self, _: u64, fact: &Fact) -> Verdict {
        match fact {
            Fact::StartedOnce { node, task } => match self.begun.insert(*task, *node) {
                Some(before) => Breach::at(*node, format!("{task} has effects, ran on node {before} and runs again")),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}
