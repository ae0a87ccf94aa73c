//! Lines of the node's own log: what was seen of requests, calls and runs, each with the ids of its trace and its span. They
//! are at the level `debug`, for there are as many as calls.

use timerose_core::span::{CallSeen, Seen, WorkSeen};

use super::hex;
use super::ring::Record;

/// Writes the line of a record whose first span has this id.
pub(super) fn write(id: u64, record: &Record) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let trace_id = hex(&record.context().trace);
    let part = hex(&id.max(1).to_be_bytes());
    match record {
        Record::Root(root) => {
            let (us, failure) = (root.ended.saturating_sub(root.begun), root.failure);
            let span_id = hex(&root.context.span);
            tracing::debug!(trace_id, span_id, request = root.name, us, failure, "a request was answered");
        }
        Record::Seen(Seen::Call(CallSeen { function, begun, ended, outcome, .. })) => {
            let us = ended.saturating_sub(*begun);
            match outcome {
                Ok((executor, task, reused)) => {
                    tracing::debug!(trace_id, span_id = part, %function, %task, %executor, us, reused, "a call succeeded");
                }
                Err(failure) => tracing::debug!(trace_id, span_id = part, %function, us, failure, "a call failed"),
            }
        }
        Record::Seen(Seen::Work(WorkSeen { function, from, marks, ended, outcome, .. })) => {
            let us = ended.saturating_sub(marks.admitted);
            match outcome {
                Ok((task, _, reused)) => {
                    tracing::debug!(trace_id, span_id = part, %function, %task, %from, us, reused, "a run succeeded");
                }
                Err(failure) => tracing::debug!(trace_id, span_id = part, %function, %from, us, failure, "a run failed"),
            }
        }
    }
}
