//! Work that outlives its request: accepting it, waiting for it, taking it back, and listing it.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cid::Cid;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use timerose_core::io::{Input, WorkState, WorkView};
use timerose_core::promise::Asked;

use super::calls::{parse_cid, show_done};
use super::error::ApiError;
use super::{Api, Shared};

/// How long detached work is tried by default, in milliseconds: a day.
const TRIED_MS: u64 = 24 * 3600 * 1000;
/// The longest that one request waits, in milliseconds: whoever waits longer asks again.
const WAIT_MS_MAX: u64 = 60_000;

/// `GET /v1/work`: all that this node has accepted and not forgotten.
pub(super) async fn list(State(api): Shared) -> Result<Json<Value>, ApiError> {
    let works = api.client.works(|request| Input::Ask { request, handle: None, wait: false }).await?;
    Ok(Json(works.iter().map(|work| show(&api, work)).collect()))
}

/// How long a question waits.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    #[serde(default)]
    wait_ms: u64,
}

/// `GET /v1/work/HANDLE?wait_ms=N`: when it has ended, and after so long in any case.
pub(super) async fn get(State(api): Shared, Path(handle): Path<String>, wait: Query<Wait>) -> Result<Json<Value>, ApiError> {
    let handle = parse_cid(&handle)?;
    let ask = |wait| move |request| Input::Ask { request, handle: Some(handle), wait };
    let wait_ms = wait.wait_ms.min(WAIT_MS_MAX);
    let works = match tokio::time::timeout(Duration::from_millis(wait_ms), api.client.works(ask(true))).await {
        Ok(works) => works?,
        Err(_) => api.client.works(ask(false)).await?,
    };
    one(&api, &handle, &works)
}

/// `POST /v1/work/HANDLE/cancel`: takes it back, and tells what became of it.
pub(super) async fn cancel(State(api): Shared, Path(handle): Path<String>) -> Result<Json<Value>, ApiError> {
    let handle = parse_cid(&handle)?;
    let works = api.client.works(|request| Input::Revoke { request, handle }).await?;
    one(&api, &handle, &works)
}

fn one(api: &Api, handle: &Cid, works: &[WorkView]) -> Result<Json<Value>, ApiError> {
    let work = works.first().ok_or_else(|| ApiError::not_promised(handle))?;
    Ok(Json(show(api, work)))
}

impl Api {
    /// Has work accepted: `202` with its handle when the journal has it.
    pub(super) async fn accept(&self, handle: Cid, asked: Asked, timeout_ms: Option<u64>) -> Result<Response, ApiError> {
        self.client.accept(handle, asked, timeout_ms.unwrap_or(TRIED_MS)).await?;
        Ok((StatusCode::ACCEPTED, Json(json!({"handle": handle.to_string()}))).into_response())
    }
}

fn show(api: &Api, work: &WorkView) -> Value {
    let state = match &work.state {
        WorkState::Waiting { .. } => "waiting",
        WorkState::Running { .. } => "running",
        WorkState::Ended { outcome: Ok(_), .. } => "done",
        WorkState::Ended { outcome: Err(_), .. } => "failed",
    };
    let mut shown = match &work.state {
        WorkState::Ended { outcome: Ok(ending), .. } => show_done(&ending.done),
        _ => json!({}),
    };
    shown["handle"] = json!(work.handle.to_string());
    shown["kind"] = json!(if work.job { "job" } else { "call" });
    shown["function"] = json!(work.function.to_string());
    shown["entry"] = json!(work.entry);
    shown["state"] = json!(state);
    shown["accepted_unix_ms"] = json!(work.accepted_ms);
    shown["deadline_unix_ms"] = json!(work.deadline_ms);
    shown["node"] = json!(api.ports.view.borrow().me.to_string());
    match &work.state {
        WorkState::Waiting { last: Some(failure) } => shown["error"] = ApiError::from(failure.clone()).body().clone(),
        WorkState::Ended { at_ms, outcome } => {
            shown["ended_unix_ms"] = json!(at_ms);
            match outcome {
                Ok(ending) => shown["executor"] = json!(ending.executor.map(|node| node.to_string())),
                Err(failure) => shown["error"] = ApiError::from(failure.clone()).body().clone(),
            }
        }
        WorkState::Running { on: Some(on) } => shown["executor"] = json!(on.to_string()),
        _ => {}
    }
    shown
}
