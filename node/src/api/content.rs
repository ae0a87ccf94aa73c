//! Content: adding files and folders, and reading them back.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, TryStreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::Shared;
use super::calls::{ask, parse_cid};
use super::error::ApiError;
use crate::ports::{Added, CHUNKS, ContentRequest, Copies, Named};

/// How long a sender may say nothing in the midst of a body.
const IDLE: Duration = Duration::from_secs(60);
/// The type of a body that holds a folder.
const TAR: &str = "application/x-tar";

/// The query of an upload.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AddQuery {
    /// Whether the blocks go to the stores of the mesh.
    #[serde(default)]
    spread: bool,
    /// How many of them keep each block.
    #[serde(default = "one")]
    copies: Copies,
}

fn one() -> Copies {
    Copies::MIN
}

/// `POST /v1/add`: the body is a file, or with the type `application/x-tar` a folder.
pub(super) async fn add(State(api): Shared, Query(query): Query<AddQuery>, request: Request) -> Result<Json<Value>, ApiError> {
    let tar = request.headers().get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(TAR.as_bytes()));
    let body = request.into_body().into_data_stream();
    // A sender that stops must not hold a thread for ever.
    let body = futures::stream::unfold(body, |mut body| async {
        let next = tokio::time::timeout(IDLE, body.next()).await;
        let part = match next {
            Ok(part) => part?.map_err(std::io::Error::other),
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        };
        Some((part, body))
    });
    let spread = query.spread.then_some(query.copies);
    let source = Box::new(SyncIoBridge::new(StreamReader::new(Box::pin(body))));
    let added = ask(&api.ports.content, |answer| ContentRequest::Add { source, tar, spread, answer }).await?;
    Ok(Json(show_added(&added)))
}

fn show_added(added: &Added) -> Value {
    let placed: Vec<Value> =
        added.placed.iter().map(|(node, blocks)| json!({"node": node.to_string(), "blocks": blocks})).collect();
    json!({"cid": added.cid.to_string(), "size": added.size, "files": added.files, "placed": placed, "missing": added.missing})
}

/// A root, and a path below it where the route has one.
#[derive(Deserialize)]
pub(super) struct Below {
    cid: String,
    #[serde(default)]
    path: String,
}

/// `GET /v1/stat/CID[/path]`
pub(super) async fn stat(State(api): Shared, Path(below): Path<Below>) -> Result<Json<Named>, ApiError> {
    let root = parse_cid(&below.cid)?;
    let found = ask(&api.ports.content, |answer| ContentRequest::Resolve { root, path: below.path, answer }).await?;
    Ok(Json(found))
}

/// `GET /v1/ls/CID[/path]`
pub(super) async fn ls(State(api): Shared, Path(below): Path<Below>) -> Result<Json<Vec<Named>>, ApiError> {
    let root = parse_cid(&below.cid)?;
    let found = ask(&api.ports.content, |answer| ContentRequest::List { root, path: below.path, answer }).await?;
    Ok(Json(found))
}

/// `GET /v1/cat/CID[/path]`
pub(super) async fn cat(State(api): Shared, Path(below): Path<Below>) -> Result<Response, ApiError> {
    let root = parse_cid(&below.cid)?;
    let found = ask(&api.ports.content, |answer| ContentRequest::Resolve { root, path: below.path, answer }).await?;
    let (chunks, read) = mpsc::channel(CHUNKS);
    api.ports.content.send(ContentRequest::Read { file: found.cid, chunks }).await.map_err(|_| ApiError::ending())?;
    // The first chunk comes before the status, so that what cannot be had is an error and not a broken body.
    let mut read = ReceiverStream::new(read);
    let first = read.next().await.transpose()?.unwrap_or_default();
    let rest = read.map_err(std::io::Error::other);
    let body = Body::from_stream(futures::stream::once(async { Ok(first) }).chain(rest));
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, found.size.into());
    // What a peer stored is never run by a browser.
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", found.cid)) {
        headers.insert(ETAG, tag);
    }
    Ok(response)
}

/// `GET /v1/block/CID`: one block as it is, for whoever decodes it himself.
pub(super) async fn block(State(api): Shared, Path(cid): Path<String>) -> Result<Response, ApiError> {
    let cid = parse_cid(&cid)?;
    let block = ask(&api.ports.content, |answer| ContentRequest::Block { cid, answer }).await?;
    Ok(([(CONTENT_TYPE, "application/octet-stream")], block).into_response())
}
