//! The gateway: `GET /ipfs/CID/path`, for browsers and for clients that check blocks themselves
//! (<https://specs.ipfs.tech/http-gateways/>).
//!
//! What peers stored shares the origin of the API, so nothing of it may act: every answer says `sandbox` without scripts and forms, loads
//! nothing from elsewhere, is never sniffed, and no answer has a script's type.

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header::{
    ACCEPT, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    HeaderValue, IF_NONE_MATCH, IF_RANGE, LOCATION, RANGE, VARY,
};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::calls::{ask, parse_cid};
use super::content::stream;
use super::error::ApiError;
use super::{Api, Shared};
use crate::ports::{ContentRequest, Named, NamedKind};
use page::listing;
use trustless::{block, car, car_how};
use types::type_of;

mod page;
mod trustless;
mod types;

/// What is under a CID never changes.
const FOR_EVER: &str = "public, max-age=29030400, immutable";
/// A page that this program makes may look otherwise in the next version.
const A_WEEK: &str = "public, max-age=604800, stale-while-revalidate=2678400";
/// Same origin, or a page's own pictures would not be loaded; without scripts that gives it nothing.
const POLICY: &str = "sandbox allow-same-origin; default-src 'none'; img-src 'self' data:; media-src 'self' data:; \
    font-src 'self' data:; style-src 'self' 'unsafe-inline'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'";
const RAW: &str = "application/vnd.ipld.raw";
const CAR: &str = "application/vnd.ipld.car";

/// The path of a request.
#[derive(Deserialize)]
pub(super) struct At {
    cid: String,
    #[serde(default)]
    path: String,
}

/// The query of a request; what a gateway does not know it passes over.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Ask {
    format: Option<String>,
    dag_scope: Option<String>,
    entity_bytes: Option<String>,
    car_version: Option<String>,
    car_order: Option<String>,
    car_dups: Option<String>,
}

/// How content is given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A file's bytes, or a page for a folder.
    Plain,
    /// One block.
    Raw,
    /// Blocks that can be checked.
    Car,
}

/// `GET /ipfs/CID[/path]`
pub(super) async fn get(
    State(api): Shared,
    method: Method,
    uri: Uri,
    Path(at): Path<At>,
    Query(ask): Query<Ask>,
    headers: HeaderMap,
) -> Response {
    let answered = answer(&api, &method, &uri, &at, &ask, &headers).await;
    let mut response = answered.unwrap_or_else(IntoResponse::into_response);
    // The other headers that guard a browser are those of every answer.
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    // As it was asked for, and so a header's value.
    if let Ok(path) = HeaderValue::from_str(uri.path()) {
        response.headers_mut().insert("x-ipfs-path", path);
    }
    if method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    response
}

async fn answer(api: &Api, method: &Method, uri: &Uri, at: &At, asked: &Ask, headers: &HeaderMap) -> Result<Response, ApiError> {
    let root = parse_cid(&at.cid)?;
    let form = form(asked, headers)?;
    match form {
        Form::Plain => {}
        Form::Raw => return block(api, root, &at.path, headers).await,
        Form::Car => return car(api, root, &at.path, car_how(asked, accepted(headers))?, headers).await,
    }
    let path = at.path.clone();
    let opened = ask(&api.ports.content, |answer| ContentRequest::Open { root, path, answer }).await?;
    let opened = opened.ok_or_else(|| ApiError::no_entry(uri.path()))?;
    let name = at.path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    match opened.named.kind {
        NamedKind::File => file(api, method, &opened.named, name, headers).await,
        NamedKind::Symlink => Ok(text(&opened.named, headers)),
        NamedKind::Folder if !uri.path().ends_with('/') => {
            let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
            Ok((StatusCode::MOVED_PERMANENTLY, [(LOCATION, format!("{}/{query}", uri.path()))]).into_response())
        }
        NamedKind::Folder => match &opened.index {
            Some(index) => file(api, method, index, "index.html", headers).await,
            None => folder(api, &opened.named, &at.cid, &at.path, headers).await,
        },
    }
}

fn form(asked: &Ask, headers: &HeaderMap) -> Result<Form, ApiError> {
    let accepts =
        |kind: &str| accepted(headers).split(',').any(|one| one.split(';').next().is_some_and(|one| one.trim() == kind));
    match asked.format.as_deref() {
        Some("raw") => Ok(Form::Raw),
        Some("car") => Ok(Form::Car),
        Some(other) => Err(ApiError::usage(format!("the format {other:?} is not known"), "raw and car are")),
        None if accepts(RAW) => Ok(Form::Raw),
        None if accepts(CAR) => Ok(Form::Car),
        None => Ok(Form::Plain),
    }
}

fn accepted(headers: &HeaderMap) -> &str {
    headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Whether the client has what it asks for.
fn unchanged(tag: &str, headers: &HeaderMap) -> bool {
    let weak = |tag: &str| tag.trim().trim_start_matches("W/").to_string();
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    known.split(',').any(|one| one.trim() == "*" || weak(one) == weak(tag))
}

/// The headers of an answer that a client may keep, or the answer that it has it.
fn kept(tag: &str, cache: &'static str, headers: &HeaderMap) -> Result<HeaderMap, Response> {
    let mut kept = HeaderMap::new();
    kept.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    if let Ok(tag) = HeaderValue::from_str(tag) {
        kept.insert(ETAG, tag);
    }
    if unchanged(tag, headers) { Err((StatusCode::NOT_MODIFIED, kept).into_response()) } else { Ok(kept) }
}

/// A file, or the part of it that is asked for.
async fn file(api: &Api, method: &Method, file: &Named, name: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    let tag = format!("\"{}\"", file.cid);
    let mut head = match kept(&tag, FOR_EVER, headers) {
        Ok(head) => head,
        Err(unchanged) => return Ok(unchanged),
    };
    head.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let whole = headers.get(IF_RANGE).is_some_and(|known| known.as_bytes() != tag.as_bytes());
    let range = headers.get(RANGE).filter(|_| !whole).and_then(|range| range.to_str().ok());
    let part = match range.and_then(|range| part_of(range, file.size)) {
        None => None,
        Some(Some(part)) => Some(part),
        Some(None) => {
            let all = format!("bytes */{}", file.size);
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, [(CONTENT_RANGE, all)]).into_response());
        }
    };
    let (start, end) = part.unwrap_or((0, file.size));
    let (first, body) = if *method == Method::HEAD {
        (bytes::Bytes::new(), Body::empty())
    } else {
        let cid = file.cid;
        stream(api, |chunks| ContentRequest::Read { file: cid, part, chunks }).await?
    };
    let beginning = if start == 0 { &first[..] } else { &[] };
    head.insert(CONTENT_TYPE, HeaderValue::from_static(type_of(name, beginning)));
    head.insert(CONTENT_LENGTH, (end - start).into());
    if part.is_none() {
        return Ok((head, body).into_response());
    }
    if let Ok(range) = HeaderValue::from_str(&format!("bytes {start}-{}/{}", end - 1, file.size)) {
        head.insert(CONTENT_RANGE, range);
    }
    Ok((StatusCode::PARTIAL_CONTENT, head, body).into_response())
}

/// What a `Range` asks for, as a start and the place after the end. `None`: it is not understood, and the whole is given; `Some(None)`: there is
/// nothing there. Several ranges at once are not understood.
fn part_of(range: &str, size: u64) -> Option<Option<(u64, u64)>> {
    let (from, to) = range.strip_prefix("bytes=")?.trim().split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // A number that is too large is past every end.
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    if from.is_empty() {
        let last = number(to)?.min(size);
        return Some((last > 0).then(|| (size - last, size)));
    }
    let from = number(from)?;
    let to = if to.is_empty() { u64::MAX } else { number(to)? };
    if to < from {
        return None;
    }
    Some((from < size).then(|| (from, to.saturating_add(1).min(size))))
}

/// Where a symbolic link leads, as text: it is shown, not followed.
fn text(link: &Named, headers: &HeaderMap) -> Response {
    match kept(&format!("\"{}\"", link.cid), FOR_EVER, headers) {
        Ok(head) => {
            (head, [(CONTENT_TYPE, "text/plain; charset=utf-8")], link.target.clone().unwrap_or_default()).into_response()
        }
        Err(unchanged) => unchanged,
    }
}

/// A page that lists a folder.
async fn folder(api: &Api, folder: &Named, root: &str, path: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    let tag = format!("\"DirIndex-{}_CID-{}\"", env!("CARGO_PKG_VERSION"), folder.cid);
    let head = match kept(&tag, A_WEEK, headers) {
        Ok(head) => head,
        Err(unchanged) => return Ok(unchanged),
    };
    let cid = folder.cid;
    let entries = ask(&api.ports.content, |answer| ContentRequest::List { root: cid, path: String::new(), answer }).await?;
    Ok((head, [(CONTENT_TYPE, "text/html; charset=utf-8")], listing(root, path, &folder.cid, &entries)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_file_and_what_is_no_range_is_passed_over() {
        for (range, part) in [
            ("bytes=0-0", Some(Some((0, 1)))),
            ("bytes=2-5", Some(Some((2, 6)))),
            ("bytes=2-", Some(Some((2, 10)))),
            ("bytes=2-99", Some(Some((2, 10)))),
            ("bytes=-3", Some(Some((7, 10)))),
            ("bytes=-99", Some(Some((0, 10)))),
            ("bytes=9-18446744073709551615", Some(Some((9, 10)))),
            ("bytes=10-", Some(None)),
            ("bytes=99999999999999999999999-", Some(None)),
            ("bytes=-0", Some(None)),
            ("bytes=5-2", None),
            ("bytes=-", None),
            ("bytes=a-b", None),
            ("bytes=+1-2", None),
            ("bytes=0-1,3-4", None),
            ("items=0-1", None),
        ] {
            assert_eq!(part_of(range, 10), part, "{range}");
        }
        assert_eq!(part_of("bytes=0-", 0), Some(None));
        assert_eq!(part_of("bytes=-5", 0), Some(None));
    }

    #[test]
    fn tags_are_compared_weakly() {
        let known = |tags: &'static str| HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_static(tags))]);
        for tags in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "*"] {
            assert!(unchanged("\"a\"", &known(tags)), "{tags}");
            assert!(unchanged("W/\"a\"", &known(tags)), "{tags}");
        }
        assert!(!unchanged("\"a\"", &known("\"b\"")));
        assert!(!unchanged("\"a\"", &HeaderMap::new()));
    }
}
