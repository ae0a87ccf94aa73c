//! Functions: describing and calling them.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cid::Cid;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;
use timerose_core::envelope::{TASK_MAX, Via, inline_bytes};
use timerose_core::failure::Failure;
use timerose_core::function::Function;
use timerose_core::io::Answer;
use timerose_core::promise::Asked;
use timerose_core::record;
use timerose_core::task::{Arg, Done, Task};
use tokio::sync::{mpsc, oneshot};

use super::error::{ApiError, Body};
use super::{Api, Shared, traces};
use crate::ports::{AddHow, CHUNKS, ContentRequest, NamedKind};
use crate::shown::show_usage;
use crate::telemetry::CALL;

/// The body of a call.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CallBody {
    r#fn: String,
    #[serde(default)]
    entry: String,
    #[serde(default)]
    args: Vec<ArgBody>,
    timeout_ms: Option<u64>,
    #[serde(default = "yes")]
    memo: bool,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    detach: bool,
    #[serde(default)]
    channel: Channel,
}

/// How a call has to travel.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Channel {
    /// By a stream where one stands, by PubSub elsewhere.
    #[default]
    Auto,
    Stream,
    PubSub,
}

impl Channel {
    fn via(self) -> Option<Via> {
        match self {
            Channel::Auto => None,
            Channel::Stream => Some(Via::Stream),
            Channel::PubSub => Some(Via::PubSub),
        }
    }
}

/// The default of a switch.
pub(super) fn yes() -> bool {
    true
}

/// What a caller who says nothing waits, in milliseconds.
const WAITED_MS: u64 = 30_000;

/// One argument: `{"cid": …}`, `{"text": …}`, or `{"bytes": [0, 255, …]}`.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ArgBody {
    Cid(String),
    Text(String),
    Bytes(Vec<u8>),
}

/// The request header by which a client says who it is.
const CLIENT_HEADER: &str = "timerose-client";

const CID_HINT: &str = "a CID looks like bafy… or bafk…; timerose add and timerose deploy print them";

/// Reads a CID, or says that it is none.
pub(super) fn parse_cid(text: &str) -> Result<Cid, ApiError> {
    // A CID of a 64-byte hash has about 110 characters: anything much longer is not read.
    if text.len() > 256 {
        return Err(ApiError::usage("a CID of over 256 characters", CID_HINT));
    }
    text.parse().map_err(|_| ApiError::usage(format!("{text:?} is not a CID"), CID_HINT))
}

/// `POST /v1/call`
pub(super) async fn call(State(api): Shared, headers: HeaderMap, Body(body): Body<CallBody>) -> Result<Response, ApiError> {
    let mut args = Vec::with_capacity(body.args.len());
    for arg in body.args {
        args.push(match arg {
            ArgBody::Cid(text) => Arg::Link(parse_cid(&text)?),
            ArgBody::Text(text) => Arg::Inline(text.into_bytes()),
            ArgBody::Bytes(bytes) => Arg::Inline(bytes),
        });
    }
    let mut task = Task { function: parse_cid(&body.r#fn)?, entry: body.entry, args, seq: body.seq };
    let mut root = traces::begin(&api, CALL, &headers);
    if body.detach {
        if !matches!(body.channel, Channel::Auto) {
            return Err(ApiError::usage(
                "detached work travels by whichever channel reaches an executor",
                "leave out the channel, or do not detach it",
            ));
        }
        task.check()?;
        let handle = task.id(&api.ports.view.borrow().me);
        return api.accept(handle, Asked::Call { task, memo: body.memo }, body.timeout_ms).await;
    }
    let via = body.channel.via();
    if via == Some(Via::PubSub) && inline_bytes(&task) > TASK_MAX {
        name_by_cid(&api, &mut task).await?;
    }
    let timeout = Duration::from_millis(body.timeout_ms.unwrap_or(WAITED_MS));
    let called = api.client.call(task, timeout, body.memo, client_of(&headers), via, root.context()).await;
    let failed = |failure: Failure| {
        root.failed(failure.code());
        ApiError::from(failure).of_trace(root.trace())
    };
    let mut answer = show_answer(&called.map_err(failed)?);
    answer["trace"] = json!(root.trace());
    api.events.tell("call", || answer.clone());
    Ok(Json(answer).into_response())
}

/// Whose calls share a turn: those that bear the same name, or none. A name is as good as another, so that one who makes up
/// many has as many turns, but no more than calls.
fn client_of(headers: &HeaderMap) -> u64 {
    headers.get(CLIENT_HEADER).map_or(0, |name| {
        let mut hash = DefaultHasher::new();
        name.as_bytes().hash(&mut hash);
        hash.finish()
    })
}

/// Keeps what a task would carry along as files of this node, so that it fits a letter.
async fn name_by_cid(api: &Api, task: &mut Task) -> Result<(), ApiError> {
    task.check()?;
    for arg in &mut task.args {
        if let Arg::Inline(bytes) = arg {
            let source = Box::new(std::io::Cursor::new(std::mem::take(bytes)));
            let how = AddHow::unpinned();
            let added = ask(&api.ports.content, |answer| ContentRequest::Add { source, how, answer }).await?;
            *arg = Arg::Link(added.cid);
        }
    }
    Ok(())
}

fn show_answer(answer: &Answer) -> Value {
    let mut shown = show_done(&answer.done);
    shown["executor"] = json!(answer.executor.to_string());
    shown["claims"] = json!(answer.claims);
    shown["total_us"] = json!(answer.total_us);
    shown
}

/// A result as JSON.
pub(super) fn show_done(done: &Done) -> Value {
    json!({
        "result": done.result.to_string(),
        "size": done.size,
        "task": done.task.to_string(),
        "receipt": done.receipt.to_string(),
        "usage": show_usage(&done.usage),
        "reused": done.reused,
    })
}

/// `GET /v1/abi/CID`
pub(super) async fn abi(State(api): Shared, Path(cid): Path<String>) -> Result<Json<Value>, ApiError> {
    let cid = parse_cid(&cid)?;
    let block = ask(&api.ports.content, |answer| ContentRequest::Block { cid, answer }).await?;
    let function: Function = record::decode(&block).map_err(|e| Failure::BadArgument {
        index: 0,
        wanted: "a function".into(),
        got: format!("{cid}: {e}"),
    })?;
    Ok(Json(show_function(&cid, &function)))
}

/// A manifest as JSON.
pub(super) fn show_function(cid: &Cid, function: &Function) -> Value {
    let mounts: BTreeMap<&String, String> = function.mounts.iter().map(|(path, root)| (path, root.to_string())).collect();
    json!({
        "function": cid.to_string(),
        "engine": function.engine,
        "code": function.code.to_string(),
        "entries": function.entries,
        "determinism": function.determinism,
        "limits": function.limits,
        "args": function.args,
        "env": function.env,
        "mounts": mounts,
        "about": {
            "name": function.about.name,
            "description": function.about.description,
            "license": function.about.license,
            "source": function.about.source.map(|cid| cid.to_string()),
        },
    })
}

/// Asks a driver something and waits for the answer.
pub(super) async fn ask<R, T>(
    port: &mpsc::Sender<R>,
    request: impl FnOnce(oneshot::Sender<Result<T, Failure>>) -> R,
) -> Result<T, ApiError> {
    let (answer, answered) = oneshot::channel();
    port.send(request(answer)).await.map_err(|_| ApiError::ending())?;
    Ok(answered.await.map_err(|_| ApiError::ending())??)
}

/// Reads a file of at most `max` bytes.
pub(super) async fn read_file(api: &super::Api, file: Cid, max: u64) -> Result<Bytes, ApiError> {
    let named = ask(&api.ports.content, |answer| ContentRequest::Resolve { root: file, path: String::new(), answer }).await?;
    if named.kind != NamedKind::File || named.size > max {
        return Err(Failure::Rejected { finding: format!("code is a file of at most {max} bytes") }.into());
    }
    let (chunks, mut read) = mpsc::channel(CHUNKS);
    api.ports.content.send(ContentRequest::Read { file, part: None, chunks }).await.map_err(|_| ApiError::ending())?;
    let mut bytes = Vec::with_capacity(named.size as usize);
    while let Some(chunk) = read.recv().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes.into())
}
