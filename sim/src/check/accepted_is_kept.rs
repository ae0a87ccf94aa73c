//! Nothing that was acknowledged is lost: accepted work has its right outcome in the end, whatever died in between; and a
//! journal says what its node's state says.

use std::collections::{BTreeMap, BTreeSet};

use cid::Cid;

use super::{Breach, Law, Verdict};
use crate::fact::{Fact, Kept, Truth};

/// The work that was asked for, and that was accepted, by node.
#[derive(Debug, Default)]
pub struct AcceptedIsKept {
    asked: BTreeMap<u64, (usize, Cid, Truth)>,
    accepted: BTreeMap<(usize, Cid), Truth>,
    full: BTreeSet<usize>,
}

impl Law for AcceptedIsKept {
    fn name(&self) -> &'static str {
        "accepted_is_kept"
    }

    fn see(&mut self, _: u64, fact: &Fact) -> Verdict {
        match fact {
            Fact::Detached { node, request, handle, truth } => {
                self.asked.insert(*request, (*node, *handle, *truth));
            }
            Fact::Accepted { node, request, accepted } => match (self.asked.remove(request), accepted) {
                (Some((asked, handle, truth)), Ok(())) if asked == *node => {
                    self.accepted.insert((*node, handle), truth);
                }
                (Some(_), Err("Overloaded")) => {}
                (Some(_), Err("NodeFailed")) if self.full.contains(node) => {}
                (asked, accepted) => {
                    return Breach::at(*node, format!("request {request} for {asked:?} was answered with {accepted:?}"));
                }
            },
            Fact::Promised { node, works } => {
                for (handle, truth) in self.accepted.iter().filter(|((of, _), _)| of == node).map(|((_, h), t)| (h, t)) {
                    let kept = works.iter().find(|(work, _)| work == handle).map(|(_, kept)| *kept);
                    let right = match (kept, truth) {
                        (Some(Kept::Gave(gave)), Truth::Gives { result, .. }) => gave == *result,
                        (Some(Kept::Fails), Truth::Fails) => true,
                        _ => false,
                    };
                    if !right {
                        return Breach::at(*node, format!("{handle} was accepted, should give {truth:?} and is {kept:?}"));
                    }
                }
            }
            Fact::Disk { node, full: true } => drop(self.full.insert(*node)),
            Fact::Disk { node, full: false } => drop(self.full.remove(node)),
            Fact::Restored { node, entries, same: false } => {
                return Breach::at(*node, format!("its state is not what the {entries} entries of its journal say"));
            }
            _ => {}
        }
        Ok(())
    }
}
