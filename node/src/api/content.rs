//! Content: adding files and folders, and reading them back.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cid::{Cid, Version};
use futures::{StreamExt, TryStreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::Read;
use std::time::Duration;
use timerose_content::{Layout, Meta, Shape, unixfs};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::calls::{ask, parse_cid};
use super::error::ApiError;
use super::{Api, Shared};
use crate::ports::{AddHow, Added, CHUNKS, CarHow, Chunks, ContentRequest, Copies, Imported, Named, Scope};

/// How long a sender may say nothing in the midst of a body.
const IDLE: Duration = Duration::from_secs(60);
/// The type of a body that holds a folder.
const TAR: &str = "application/x-tar";

/// The query of an upload; its names are those of `ipfs add`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct AddQuery {
    /// Whether the blocks go to the stores of the mesh.
    #[serde(default)]
    spread: bool,
    /// How many of them keep each block.
    #[serde(default = "one")]
    copies: Copies,
    #[serde(default = "version")]
    cid_version: u8,
    raw_leaves: Option<bool>,
    /// `size-N`
    chunker: Option<String>,
    /// Whether files are laid out so, rather than balanced.
    #[serde(default)]
    trickle: bool,
    /// Whether what an archive says of modes and times is recorded.
    #[serde(default)]
    preserve_mode: bool,
    #[serde(default)]
    preserve_mtime: bool,
    /// What is recorded of a single file: an octal number, and seconds with nanoseconds.
    mode: Option<String>,
    mtime: Option<i64>,
    #[serde(default)]
    mtime_nsecs: u32,
    #[serde(default = "yes")]
    pin: bool,
}

impl AddQuery {
    fn how(&self, tar: bool) -> Result<AddHow, ApiError> {
        let refused = |what: &str| ApiError::usage(what, "docs/api.md lists what can be asked for");
        let version = match self.cid_version {
            0 => Version::V0,
            1 => Version::V1,
            _ => return Err(refused("cid-version is 0 or 1")),
        };
        let mut shape = Shape::of(version);
        if let Some(chunker) = &self.chunker {
            let size = chunker.strip_prefix("size-").and_then(|size| size.parse().ok());
            let size = size.filter(|size| (1..=unixfs::MAX_CHUNK_BYTES).contains(size));
            let bound = || format!("chunker is size-N, with N from 1 to {}", unixfs::MAX_CHUNK_BYTES);
            shape.chunk_bytes = size.ok_or_else(|| refused(&bound()))?;
        }
        if self.trickle {
            shape.layout = Layout::Trickle;
        }
        let octal = |mode: &String| u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= Meta::MODE);
        let mode =
            self.mode.as_ref().map(|mode| octal(mode).ok_or_else(|| refused("mode is octal, such as 0644"))).transpose()?;
        if self.mtime_nsecs > 999_999_999 {
            return Err(refused("mtime-nsecs is below 1000000000"));
        }
        let meta = Meta { mode, mtime: self.mtime.map(|seconds| (seconds, self.mtime_nsecs)) };
        let noted = self.preserve_mode || self.preserve_mtime || meta != Meta::default();
        if noted && self.raw_leaves == Some(true) {
            return Err(refused("raw-leaves and modes or times exclude each other: a raw block has no place for them"));
        }
        // As in Kubo: with modes or times, no file of the import has raw leaves.
        shape.raw_leaves = self.raw_leaves.unwrap_or(shape.raw_leaves && !noted);
        let spread = self.spread.then_some(self.copies);
        let (keep_modes, keep_mtimes) = (self.preserve_mode, self.preserve_mtime);
        Ok(AddHow { tar, spread, shape, meta, keep_modes, keep_mtimes, pin: self.pin })
    }
}

fn version() -> u8 {
    1
}

fn yes() -> bool {
    true
}

fn one() -> Copies {
    Copies::MIN
}

/// `POST /v1/add`: the body is a file, or with the type `application/x-tar` a folder.
pub(super) async fn add(State(api): Shared, Query(query): Query<AddQuery>, request: Request) -> Result<Json<Value>, ApiError> {
    let tar = request.headers().get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(TAR.as_bytes()));
    let how = query.how(tar)?;
    let added = ask(&api.ports.content, |answer| ContentRequest::Add { source: source(request), how, answer }).await?;
    Ok(Json(show_added(&added)))
}

/// A request's body, for a thread that reads it.
pub(super) fn source(request: Request) -> Box<dyn Read + Send> {
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
    Box::new(SyncIoBridge::new(StreamReader::new(Box::pin(body))))
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
    let (_, body) = stream(&api, |chunks| ContentRequest::Read { file: found.cid, part: None, chunks }).await?;
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

/// A body of the bytes that the content driver sends, with the first of them: they come before the status, so that what
/// cannot be had is an error and not a broken body.
pub(super) async fn stream(api: &Api, request: impl FnOnce(Chunks) -> ContentRequest) -> Result<(Bytes, Body), ApiError> {
    let (chunks, read) = mpsc::channel(CHUNKS);
    api.ports.content.send(request(chunks)).await.map_err(|_| ApiError::ending())?;
    let mut read = ReceiverStream::new(read);
    let first = read.next().await.transpose()?.unwrap_or_default();
    let begin = first.clone();
    let rest = read.map_err(std::io::Error::other);
    Ok((begin, Body::from_stream(futures::stream::once(async { Ok(first) }).chain(rest))))
}

/// The query of an import.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ImportQuery {
    #[serde(default = "yes")]
    pin_roots: bool,
}

/// `POST /v1/dag/import`: the body is a CAR.
pub(super) async fn import(
    State(api): Shared,
    Query(query): Query<ImportQuery>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let (source, pin) = (source(request), query.pin_roots);
    let Imported { roots, blocks, bytes } =
        ask(&api.ports.content, |answer| ContentRequest::ImportCar { source, pin, answer }).await?;
    let root = |(cid, pinned, missing): &(Cid, bool, Option<Cid>)| json!({"cid": cid.to_string(), "pinned": pinned, "missing": missing.map(|cid| cid.to_string())});
    Ok(Json(json!({"roots": roots.iter().map(root).collect::<Vec<_>>(), "blocks": blocks, "bytes": bytes})))
}

/// Of which version a CAR is to be.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct ExportQuery {
    car_version: Option<u8>,
}

/// `GET /v1/dag/export/CID`: a CAR of all below it.
pub(super) async fn export(
    State(api): Shared,
    Path(cid): Path<String>,
    Query(query): Query<ExportQuery>,
) -> Result<Response, ApiError> {
    let root = parse_cid(&cid)?;
    let version = query.car_version.unwrap_or(1);
    if !(1..=2).contains(&version) {
        return Err(ApiError::usage(format!("a CAR of version {version} is not known"), "1 and 2 are"));
    }
    let how = CarHow { scope: Scope::All, repeats: false, version_2: version == 2 };
    let (_, body) = stream(&api, |chunks| ContentRequest::Car { root, path: String::new(), how, chunks }).await?;
    Ok(([(CONTENT_TYPE, format!("application/vnd.ipld.car; version={version}"))], body).into_response())
}

/// `GET /v1/block/CID`: one block as it is, for whoever decodes it himself.
pub(super) async fn block(State(api): Shared, Path(cid): Path<String>) -> Result<Response, ApiError> {
    let cid = parse_cid(&cid)?;
    let block = ask(&api.ports.content, |answer| ContentRequest::Block { cid, answer }).await?;
    Ok(([(CONTENT_TYPE, "application/octet-stream")], block).into_response())
}
