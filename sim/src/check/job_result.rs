//! A job gives the result of its own graph, after every task of it; once the faults are over it does give it.

use std::collections::{BTreeMap, BTreeSet};

use cid::Cid;
use timerose_core::failure::Failure;

use super::{Breach, Law, Verdict};
use crate::fact::{Asked, Fact};

/// The open jobs and what they should give.
#[derive(Debug, Default)]
pub struct JobResult {
    open: BTreeMap<u64, (Asked, u32, Cid)>,
    taken_back: BTreeSet<u64>,
}

impl Law for JobResult {
    fn name(&self) -> &'static str {
        "job_result"
    }

    fn see(&mut self, _: u64, fact: &Fact) -> Verdict {
        match fact {
            Fact::JobCalled { asked, tasks, result, .. } => {
                self.open.insert(asked.request, (*asked, *tasks, *result));
                Ok(())
            }
            Fact::TakenBack { request } => {
                self.taken_back.insert(*request);
                Ok(())
            }
            Fact::JobReplied { node, request, reply } => {
                let Some((asked, tasks, result)) = self.open.remove(request) else { return Ok(()) };
                let fits = match reply {
                    Ok(done) => {
                        let shares: u32 = done.progress.nodes.values().map(|share| share.tasks).sum();
                        // A task whose result was lost with its node ran twice.
                        done.done.result == result && done.progress.done == tasks && shares + done.progress.reused >= tasks
                    }
                    Err(Failure::Cancelled) => self.taken_back.contains(request),
                    Err(Failure::Denied { .. }) => asked.stranger,
                    Err(Failure::BadArgument { .. } | Failure::Rejected { .. } | Failure::FunctionFailed { .. }) => false,
                    Err(_) => !asked.calm,
                };
                if fits {
                    return Ok(());
                }
                Breach::at(*node, format!("job {request} of {tasks} tasks should give {result} and gave {reply:?}"))
            }
            _ => Ok(()),
        }
    }
}
