//! Once all faults are over, everybody reaches everybody again.

use super::{Breach, Law, Verdict};
use crate::fact::Fact;

/// Needs no memory: the world reports who misses whom, once, before the last calls.
#[derive(Debug)]
pub struct WholeAgain;

impl Law for WholeAgain {
    fn name(&self) -> &'static str {
        "whole_again"
    }

    fn see(&mut self, _: u64, fact: &Fact) -> Verdict {
        match fact {
            Fact::Misses { node, missing } if !missing.is_empty() => {
                Breach::at(*node, format!("it does not know or not reach the nodes {missing:?}"))
            }
            _ => Ok(()),
        }
    }
}
