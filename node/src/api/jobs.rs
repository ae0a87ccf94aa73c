//! Jobs: a map-reduce over a data set, as a stream of events.

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use bytes::Bytes;
use futures::Stream;
use serde::Deserialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use timerose_core::io::Input;
use timerose_core::job::{FAN_IN, JobDone, JobProgress, JobSpec};
use timerose_core::record;
use timerose_core::view::View;
use tokio::sync::mpsc;

use super::calls::{ask, parse_cid, show_done, yes};
use super::error::{ApiError, Body};
use super::{JobNews, PROGRESS_QUEUE, Shared};
use crate::ports::ContentRequest;

/// The body of a job.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JobBody {
    r#fn: String,
    dataset: String,
    #[serde(default = "map")]
    map: String,
    #[serde(default = "reduce")]
    reduce: String,
    #[serde(default = "yes")]
    locality: bool,
    #[serde(default = "an_hour")]
    timeout_ms: u64,
    #[serde(default = "yes")]
    memo: bool,
}

fn map() -> String {
    "map".into()
}

fn reduce() -> String {
    "reduce".into()
}

fn an_hour() -> u64 {
    3_600_000
}

/// `POST /v1/mapreduce`: events `progress`, then one `result` or `error`.
pub(super) async fn mapreduce(
    State(api): Shared,
    Body(body): Body<JobBody>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let (function, dataset) = (parse_cid(&body.r#fn)?, parse_cid(&body.dataset)?);
    let spec = JobSpec { function, dataset, map: body.map, reduce: body.reduce, fan_in: FAN_IN };
    let block = Bytes::from(record::encode(&spec));
    let job = ask(&api.ports.content, |answer| ContentRequest::Put { block, answer }).await?;
    let request = api.ports.requests.next();
    let (news, heard) = mpsc::channel(PROGRESS_QUEUE);
    api.pending.jobs.lock().insert(request, news);
    let guard = api.guard(request);
    let (locality, timeout_ms, memo) = (body.locality, body.timeout_ms, body.memo);
    api.submit(Input::SubmitJob { request, job, spec, locality, timeout_ms, memo }).await?;
    let view = api.ports.view.clone();
    // The guard lives as long as somebody reads: a reader that goes takes the job back.
    let events = futures::stream::unfold((heard, Some(guard)), move |(mut heard, guard)| {
        let view = view.clone();
        async move {
            let event = match heard.recv().await? {
                JobNews::Progress(progress) => named("progress", &show_progress(&progress, &view.borrow())),
                JobNews::Ended(ended) => {
                    if let Some(guard) = guard {
                        guard.answered();
                    }
                    let event = match ended {
                        Ok(done) => named("result", &show_job(&done, &view.borrow())),
                        Err(failure) => named("error", ApiError::from(failure).body()),
                    };
                    return Some((Ok(event), (heard, None)));
                }
            };
            Some((Ok(event), (heard, guard)))
        }
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

fn named(name: &str, data: &Value) -> Event {
    Event::default().event(name).data(data.to_string())
}

fn show_progress(progress: &JobProgress, view: &View) -> Value {
    let region = |node| view.members.get(node).map(|member| member.region.as_str()).unwrap_or_default();
    let nodes: Vec<Value> = progress
        .nodes
        .iter()
        .map(|(node, share)| {
            json!({
                "node": node.to_string(),
                "region": region(node),
                "tasks": share.tasks,
                "input_bytes": share.input,
                "fetched_bytes": share.fetched,
                "run_us": share.run_us,
            })
        })
        .collect();
    let fetched: u64 = progress.nodes.values().map(|share| share.fetched).sum();
    let executed: u32 = progress.nodes.values().map(|share| share.tasks).sum();
    json!({
        "tasks": progress.tasks,
        "done": progress.done,
        "executed": executed,
        "reused": progress.reused,
        "fetched_bytes": fetched,
        "nodes": nodes,
    })
}

fn show_job(done: &JobDone, view: &View) -> Value {
    let mut shown = show_done(&done.done);
    if let (Value::Object(shown), Value::Object(progress)) = (&mut shown, show_progress(&done.progress, view)) {
        shown.extend(progress);
    }
    shown["job"] = json!(done.job.to_string());
    shown["total_ms"] = json!(done.total_us / 1000);
    shown
}
