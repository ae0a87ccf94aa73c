//! Jobs: a map-reduce over a data set, as a stream of events.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cid::Cid;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use timerose_core::failure::Failure;
use timerose_core::job::{FAN_IN, JobDone, JobProgress, JobSpec};
use timerose_core::promise::Asked;
use timerose_core::record;
use timerose_core::view::View;

use super::calls::{ask, parse_cid, show_done, yes};
use super::error::{ApiError, Body};
use super::{Api, Shared, traces};
use crate::client::JobNews;
use crate::ports::ContentRequest;

/// The body of a job: a function and a data set, or the CID of a job that was begun before, through whatever node.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JobBody {
    r#fn: Option<String>,
    dataset: Option<String>,
    #[serde(default = "map")]
    map: String,
    #[serde(default = "reduce")]
    reduce: String,
    job: Option<String>,
    #[serde(default = "yes")]
    locality: bool,
    timeout_ms: Option<u64>,
    #[serde(default = "yes")]
    memo: bool,
    #[serde(default)]
    detach: bool,
}

fn map() -> String {
    "map".into()
}

fn reduce() -> String {
    "reduce".into()
}

/// How long the user of a job waits who says nothing, in milliseconds.
const WAITED_MS: u64 = 3_600_000;

/// The job that is asked for, and its CID; its record is kept here.
async fn job_of(api: &Api, body: &JobBody) -> Result<(Cid, JobSpec), ApiError> {
    match (&body.job, &body.r#fn, &body.dataset) {
        (Some(job), None, None) => {
            let cid = parse_cid(job)?;
            let block = ask(&api.ports.content, |answer| ContentRequest::Block { cid, answer }).await?;
            let not_one = |e| Failure::BadArgument { index: 0, wanted: "a job".into(), got: format!("{cid}: {e}") };
            Ok((cid, record::decode(&block).map_err(not_one)?))
        }
        (None, Some(function), Some(dataset)) => {
            let (function, dataset) = (parse_cid(function)?, parse_cid(dataset)?);
            let (map, reduce) = (body.map.clone(), body.reduce.clone());
            let spec = JobSpec { function, dataset, map, reduce, fan_in: FAN_IN };
            let block = Bytes::from(record::encode(&spec));
            Ok((ask(&api.ports.content, |answer| ContentRequest::Put { block, answer }).await?, spec))
        }
        _ => Err(ApiError::usage("a job is its CID, or a function and a data set", "docs/api.md lists what each route takes")),
    }
}

/// `POST /v1/mapreduce`: one event `job`, any number of `progress`, then one `result` or `error`.
pub(super) async fn mapreduce(State(api): Shared, headers: HeaderMap, Body(body): Body<JobBody>) -> Result<Response, ApiError> {
    let (job, spec) = job_of(&api, &body).await?;
    if body.detach {
        let asked = Asked::Job { spec, locality: body.locality, memo: body.memo };
        return api.accept(job, asked, body.timeout_ms).await;
    }
    let timeout_ms = body.timeout_ms.unwrap_or(WAITED_MS);
    let root = traces::begin(&api, "POST /v1/mapreduce", &headers);
    let trace = root.trace();
    let (heard, guard) = api.client.job((job, spec), body.locality, timeout_ms, body.memo, root.context()).await?;
    let (view, told) = (api.ports.view.clone(), api.events.clone());
    // The guard lives as long as somebody reads: a reader that goes takes the job back.
    let events = futures::stream::unfold((heard, Some((guard, root))), move |(mut heard, guard)| {
        let (view, told) = (view.clone(), told.clone());
        async move {
            let event = match heard.recv().await? {
                JobNews::Progress(progress) => {
                    let shown = show_progress(&progress, &view.borrow());
                    let event = named("progress", &shown);
                    told.tell("job", || with_job(shown, &job));
                    event
                }
                JobNews::Ended(ended) => {
                    if let Some((guard, mut root)) = guard {
                        guard.answered();
                        if let Err(failure) = &ended {
                            root.failed(failure.code());
                        }
                    }
                    let event = match ended {
                        Ok(done) => {
                            let shown = show_job(&done, &view.borrow());
                            let event = named("result", &shown);
                            told.tell("job", || shown);
                            event
                        }
                        Err(failure) => named("error", ApiError::from(failure).body()),
                    };
                    return Some((Ok(event), (heard, None)));
                }
            };
            Some((Ok(event), (heard, guard)))
        }
    });
    let begun = named("job", &json!({"job": job.to_string(), "trace": trace}));
    let events = futures::stream::once(async move { Ok::<Event, Infallible>(begun) }).chain(events);
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

fn with_job(mut shown: Value, job: &Cid) -> Value {
    shown["job"] = json!(job.to_string());
    shown
}

/// One server-sent event.
pub(super) fn named(name: &str, data: &Value) -> Event {
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
    let mut shown = with_job(shown, &done.job);
    shown["total_ms"] = json!(done.total_us / 1000);
    shown
}
