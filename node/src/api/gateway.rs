//! The gateway: `GET /ipfs/CID/path`, for browsers and for clients that check blocks themselves
//! (<https://specs.ipfs.tech/http-gateways/>).
//!
//! What peers stored shares the origin of the API, so nothing of it may act: every answer says `sandbox` without scripts and forms, loads
//! nothing from elsewhere, is never sniffed, and no answer has a script's type.

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    HeaderValue, IF_NONE_MATCH, IF_RANGE, LOCATION, RANGE, VARY,
};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use cid::Cid;
use serde::Deserialize;

use super::calls::{ask, parse_cid};
use super::content::stream;
use super::error::ApiError;
use super::{Api, Shared};
use crate::ports::{CarHow, ContentRequest, Named, NamedKind};
use accept::{Range, accepted};
use page::listing;
use trustless::{block, car, car_how, repeats};
use types::type_of;

mod accept;
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
    Car(CarHow),
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
    let ranges = accepted(headers);
    let form = form(asked, &ranges)?;
    if only_if_cached(headers) {
        let (path, alone) = (at.path.clone(), form == Form::Raw);
        if !ask(&api.ports.content, |answer| ContentRequest::Cached { root, path, alone, answer }).await? {
            return Ok(StatusCode::PRECONDITION_FAILED.into_response());
        }
    }
    let verifiable = match form {
        Form::Plain => return plain(api, method, uri, at, root, headers).await,
        Form::Raw => block(api, root, &at.path, headers).await?,
        Form::Car(how) => car(api, root, &at.path, how, headers).await?,
    };
    Ok(match content_location(uri, asked, form) {
        Some(location) => ([(CONTENT_LOCATION, location)], verifiable).into_response(),
        None => verifiable,
    })
}

/// A file's bytes, or a page for a folder.
async fn plain(api: &Api, method: &Method, uri: &Uri, at: &At, root: Cid, headers: &HeaderMap) -> Result<Response, ApiError> {
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

/// In which form content is asked for: by the query, or else by the best of the types in `Accept` that can be given. Blocks come only
/// where they are named, and then before what is taken as gladly.
fn form(asked: &Ask, accepted: &[Range<'_>]) -> Result<Form, ApiError> {
    match asked.format.as_deref() {
        Some("raw") => return Ok(Form::Raw),
        Some("car") => return Ok(Form::Car(car_how(asked, accepted)?)),
        Some(other) => return Err(ApiError::usage(format!("the format {other:?} is not known"), "raw and car are")),
        None => {}
    }
    let taken = accepted.iter().filter(|range| range.weight > 0);
    let others = taken.clone().filter(|range| !range.is(RAW) && !range.is(CAR)).map(|range| range.weight).max();
    let at_least = |range: &&Range<'_>| range.weight >= others.unwrap_or_default();
    let given = |range: &Range<'_>| range.is(RAW) || range.is(CAR) && repeats(asked, range.parameters).is_some();
    match taken.clone().filter(at_least).find(|range| given(range)) {
        Some(range) if range.is(RAW) => Ok(Form::Raw),
        Some(_) => Ok(Form::Car(car_how(asked, accepted)?)),
        // Nothing but archives of a kind that is not given: the client is told so.
        None if others.is_none() && taken.count() > 0 => Ok(Form::Car(car_how(asked, accepted)?)),
        None => Ok(Form::Plain),
    }
}

/// The address under which a cache may keep blocks apart from files, where only `Accept` said that they are asked for.
fn content_location(uri: &Uri, asked: &Ask, form: Form) -> Option<HeaderValue> {
    let more = match form {
        _ if asked.format.is_some() => return None,
        Form::Plain => return None,
        Form::Raw => "format=raw",
        Form::Car(how) if how.repeats && asked.car_dups.is_none() => "format=car&car-dups=y",
        Form::Car(_) => "format=car",
    };
    let query = uri.query().filter(|query| !query.is_empty()).map(|query| format!("{query}&")).unwrap_or_default();
    HeaderValue::from_str(&format!("{}?{query}{more}", uri.path())).ok()
}

/// Whether nothing may be fetched for an answer.
fn only_if_cached(headers: &HeaderMap) -> bool {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case("only-if-cached"))
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
    use axum::http::header::ACCEPT;

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
    fn blocks_are_given_where_they_are_named_and_nothing_is_taken_more_gladly() {
        let of = |accept: &'static str, asked: &Ask| {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            form(asked, &accepted(&headers)).ok().map(|form| match form {
                Form::Plain => "plain",
                Form::Raw => "raw",
                Form::Car(how) if how.repeats => "car, repeated",
                Form::Car(_) => "car",
            })
        };
        let raw = Ask { format: Some("raw".into()), ..Ask::default() };
        for (accept, given) in [
            ("", Some("plain")),
            ("*/*", Some("plain")),
            ("text/html, application/xhtml+xml, */*;q=0.8", Some("plain")),
            ("application/vnd.ipld.raw", Some("raw")),
            ("Application/VND.ipld.RAW;q=0.1", Some("raw")),
            ("application/vnd.ipld.raw, */*", Some("raw")),
            ("text/html, application/vnd.ipld.car", Some("car")),
            ("text/html, application/vnd.ipld.car;q=0.9", Some("plain")),
            ("*/*;q=0.1, application/vnd.ipld.car;q=0.2", Some("car")),
            ("application/vnd.ipld.raw;q=0.5, application/vnd.ipld.car;q=0.7", Some("car")),
            ("application/vnd.ipld.car, application/vnd.ipld.raw", Some("car")),
            ("application/vnd.ipld.raw, application/vnd.ipld.car", Some("raw")),
            ("application/vnd.ipld.car;dups=y;q=0.9, application/vnd.ipld.raw;q=0.8", Some("car, repeated")),
            ("application/vnd.ipld.car;version=2, application/vnd.ipld.raw;q=0.8", Some("raw")),
            ("application/vnd.ipld.car;version=2, */*;q=0.8", Some("plain")),
            ("application/vnd.ipld.car;version=2", None),
            ("application/vnd.ipld.raw;q=0", Some("plain")),
            ("application/vnd.ipld.raw;q=0.000, application/vnd.ipld.car;q=0.001", Some("car")),
        ] {
            assert_eq!(of(accept, &Ask::default()), given, "{accept}");
            assert_eq!(of(accept, &raw), Some("raw"), "the query counts before the header: {accept}");
        }
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
