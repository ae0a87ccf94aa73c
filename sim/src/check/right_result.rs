//! A call gives its own true result or an honest failure; once the faults are over it gives its result, and under faults
//! often enough.

use std::collections::{BTreeMap, BTreeSet};

use timerose_core::failure::Failure;
use timerose_core::io::Answer;

use super::{Breach, Law, Verdict};
use crate::fact::{Asked, Fact, Truth};

/// The open calls and what they should give.
#[derive(Debug, Default)]
pub struct RightResult {
    open: BTreeMap<u64, (Asked, Truth)>,
    taken_back: BTreeSet<u64>,
    ok_per_mille_min: u64,
    /// The first nodes, so many, hear no answer while there are faults.
    deaf: usize,
    ok: u64,
    could: u64,
}

impl RightResult {
    /// So many calls in a thousand must give their result while there are faults, of those of nodes that may hear it: all but
    /// the first `deaf`.
    pub fn new(ok_per_mille_min: u64, deaf: usize) -> Self {
        RightResult { ok_per_mille_min, deaf, ..RightResult::default() }
    }

    fn judge(&mut self, asked: Asked, truth: Truth, reply: &Result<Answer, Failure>) -> Result<(), String> {
        let taken_back = self.taken_back.remove(&asked.request);
        let in_vain = asked.stranger || asked.node < self.deaf;
        if let (Truth::Gives { .. }, false, false, false) = (truth, asked.calm, taken_back, in_vain) {
            self.could += 1;
            self.ok += u64::from(reply.is_ok());
        }
        let fits = match (reply, truth) {
            (Ok(Answer { done, .. }), Truth::Gives { task, result }) => {
                // A reused result comes of an earlier task, which may have been somebody else's.
                (done.task == task || done.reused) && done.result == result
            }
            (Ok(_), _) => false,
            (Err(Failure::Cancelled), _) => taken_back,
            (Err(Failure::Denied { .. }), _) => asked.stranger,
            (Err(Failure::FunctionFailed { .. }), _) => truth == Truth::Fails,
            (Err(Failure::NotFound { cid, .. }), Truth::Missing(missing)) if *cid == missing => true,
            // Under faults anything may be out of reach, too slow or too much.
            (
                Err(
                    Failure::NotFound { .. }
                    | Failure::NoExecutor { .. }
                    | Failure::Overloaded { .. }
                    | Failure::DeadlineExceeded { .. }
                    | Failure::NodeFailed { .. }
                    | Failure::MayHaveRun { .. },
                ),
                _,
            ) => !asked.calm,
            (Err(_), _) => false,
        };
        if fits { Ok(()) } else { Err(format!("request {} should give {truth:?} and gave {reply:?}", asked.request)) }
    }
}

impl Law for RightResult {
    fn name(&self) -> &'static str {
        "right_result"
    }

    fn see(&mut self, _: u64, fact: &Fact) -> Verdict {
        match fact {
            Fact::Called { asked, truth } => {
                self.open.insert(asked.request, (*asked, *truth));
            }
            Fact::TakenBack { request } => {
                self.taken_back.insert(*request);
            }
            Fact::Replied { node, request, reply } => {
                let Some((asked, truth)) = self.open.remove(request) else { return Ok(()) };
                if let Err(what) = self.judge(asked, truth, reply) {
                    return Breach::at(*node, what);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self) -> Verdict {
        if self.ok * 1000 < self.could * self.ok_per_mille_min {
            let (ok, could, min) = (self.ok, self.could, self.ok_per_mille_min);
            return Err(Breach {
                node: None,
                what: format!("only {ok} of {could} calls gave their result: fewer than {min} in 1000"),
            });
        }
        Ok(())
    }
}
