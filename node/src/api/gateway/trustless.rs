//! What clients check themselves: blocks, and CARs of what a path names, in every variant that they may ask for
//! (<https://specs.ipfs.tech/http-gateways/trustless-gateway/>).

use axum::http::HeaderMap;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use cid::Cid;
use std::fmt;

use super::super::calls::ask;
use super::super::content::stream;
use super::super::error::ApiError;
use super::accept::Range;
use super::{Api, Ask, CAR, FOR_EVER, RAW, kept};
use crate::ports::{CarHow, ContentRequest, Scope, Span};

impl fmt::Display for Scope {
    /// As it stands in an `ETag`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Block => f.write_str("block"),
            Scope::Entity(None) => f.write_str("entity"),
            Scope::Entity(Some(Span { first, last: None })) => write!(f, "entity.{first}:*"),
            Scope::Entity(Some(Span { first, last: Some(last) })) => write!(f, "entity.{first}:{last}"),
            Scope::All => f.write_str("all"),
        }
    }
}

/// One block.
pub(super) async fn block(api: &Api, root: Cid, path: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    let cid = terminus(api, root, path.trim_matches('/')).await?;
    let head = match attached(&format!("\"{cid}.raw\""), RAW, &format!("{cid}.bin"), headers) {
        Ok(head) => head,
        Err(unchanged) => return Ok(unchanged),
    };
    let block = ask(&api.ports.content, |answer| ContentRequest::Block { cid, answer }).await?;
    Ok((head, block).into_response())
}

/// A CAR of what a path names, with the blocks on the way to it.
pub(super) async fn car(api: &Api, root: Cid, path: &str, how: CarHow, headers: &HeaderMap) -> Result<Response, ApiError> {
    let path = path.trim_matches('/').to_string();
    let cid = terminus(api, root, &path).await?;
    let dups = if how.repeats { "y" } else { "n" };
    let tag = format!("W/\"{root}.{cid}.{}.dups-{dups}.car\"", how.scope);
    let kind = format!("{CAR}; version=1; order=dfs; dups={dups}");
    let head = match attached(&tag, &kind, &format!("{cid}.car"), headers) {
        Ok(head) => head,
        Err(unchanged) => return Ok(unchanged),
    };
    let (_, body) = stream(api, |chunks| ContentRequest::Car { root, path, how, chunks }).await?;
    Ok((head, body).into_response())
}

/// Where a path leads. Without one the root may be of any codec.
async fn terminus(api: &Api, root: Cid, path: &str) -> Result<Cid, ApiError> {
    if path.is_empty() {
        return Ok(root);
    }
    let path = path.to_string();
    Ok(ask(&api.ports.content, |answer| ContentRequest::Resolve { root, path, answer }).await?.cid)
}

/// The headers of what a browser must not show, or the answer that the client has it.
fn attached(tag: &str, kind: &str, name: &str, headers: &HeaderMap) -> Result<HeaderMap, Response> {
    let mut head = kept(tag, FOR_EVER, headers)?;
    for (header, value) in [(CONTENT_TYPE, kind), (CONTENT_DISPOSITION, &format!("attachment; filename=\"{name}\""))] {
        if let Ok(value) = HeaderValue::from_str(value) {
            head.insert(header, value);
        }
    }
    Ok(head)
}

/// How a CAR is asked for: by the query, or else by the best of the types in `Accept` that can be given.
pub(super) fn car_how(asked: &Ask, accepted: &[Range<'_>]) -> Result<CarHow, ApiError> {
    let scope = match (asked.entity_bytes.as_deref(), asked.dag_scope.as_deref()) {
        (Some(bytes), _) => Scope::Entity(Some(span(bytes)?)),
        (None, None | Some("all")) => Scope::All,
        (None, Some("entity")) => Scope::Entity(None),
        (None, Some("block")) => Scope::Block,
        (None, Some(other)) => {
            return Err(ApiError::usage(format!("the dag-scope {other:?} is not known"), "block, entity and all are"));
        }
    };
    let mut variants = accepted.iter().filter(|range| range.is(CAR) && range.weight > 0).peekable();
    let repeats = match variants.peek() {
        None => repeats(asked, ""),
        Some(_) => variants.find_map(|range| repeats(asked, range.parameters)),
    };
    let none = || ApiError::usage("a CAR of that kind is not given", "version=1; order=dfs; dups=n and dups=y are");
    Ok(CarHow { scope, repeats: repeats.ok_or_else(none)?, version_2: false })
}

/// Whether blocks are to be repeated, by the query and by the parameters of a type; `None`: something is asked for that is not given.
pub(super) fn repeats(asked: &Ask, parameters: &str) -> Option<bool> {
    let stated = |name: &str| {
        let value = parameters.split(';').find_map(|one| one.trim().strip_prefix(name)?.trim_start().strip_prefix('='));
        value.map(|value| value.trim().trim_matches('"'))
    };
    let one = |query: &Option<String>, name| query.as_deref().or_else(|| stated(name)).map(str::to_string);
    let version = one(&asked.car_version, "version");
    let order = one(&asked.car_order, "order");
    let dups = one(&asked.car_dups, "dups");
    let given = matches!(version.as_deref(), None | Some("1")) && matches!(order.as_deref(), None | Some("dfs" | "unk"));
    match dups.as_deref() {
        Some("y") if given => Some(true),
        None | Some("n") if given => Some(false),
        _ => None,
    }
}

/// Reads `FROM:TO`, where TO may be `*` and either may be negative.
fn span(text: &str) -> Result<Span, ApiError> {
    let number = |text: &str| {
        let digits = text.strip_prefix('-').unwrap_or(text);
        // A place that is too far off is past every end.
        let far = if text.len() > digits.len() { i64::MIN } else { i64::MAX };
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse().unwrap_or(far))
    };
    let read = |text: &str| {
        let (first, last) = text.split_once(':')?;
        let last = if last == "*" { None } else { Some(number(last)?) };
        let span = Span { first: number(first)?, last };
        // Both from the same end: they can be compared without the file.
        let backwards = span.last.is_some_and(|last| last < span.first && (last < 0) == (span.first < 0));
        (!backwards).then_some(span)
    };
    let hint = "FROM:TO, both included: TO is * for the end, and negative numbers count from there";
    read(text).ok_or_else(|| ApiError::usage(format!("{text:?} are no bytes of a file"), hint))
}

#[cfg(test)]
mod tests {
    use super::super::accept::accepted;
    use super::*;
    use axum::http::header::ACCEPT;

    #[test]
    fn bytes_of_a_file_are_cut_to_it_and_what_is_no_range_is_refused() {
        for (text, part) in [
            ("0:*", Some((0, 10))),
            ("0:0", Some((0, 1))),
            ("2:5", Some((2, 6))),
            ("2:99", Some((2, 10))),
            ("-3:*", Some((7, 10))),
            ("-99:1", Some((0, 2))),
            ("-3:-2", Some((7, 9))),
            ("4:-4", Some((4, 7))),
            ("9:99999999999999999999", Some((9, 10))),
            ("-99999999999999999999:0", Some((0, 1))),
            ("10:*", None),
            ("8:-5", None),
            ("0:-11", None),
        ] {
            assert_eq!(span(text).expect("a range").within(10), part, "{text}");
            assert_eq!(span(text).expect("a range").within(0), None, "{text}");
        }
        for text in ["", ":", "1", "1:", ":1", "*:1", "1-2", "+1:2", "1:2:3", "5:2", "-2:-5", "a:b", " 1:2", "--1:*"] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn of_the_variants_of_a_car_the_best_that_can_be_given_is() {
        let named = |accepted: &'static str| HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accepted))]);
        let of = |text: &'static str| car_how(&Ask::default(), &accepted(&named(text))).ok().map(|how| how.repeats);
        for (text, repeats) in [
            ("", Some(false)),
            ("text/html, application/vnd.ipld.car", Some(false)),
            ("application/vnd.ipld.car; version=1; order=dfs; dups=y", Some(true)),
            ("application/vnd.ipld.car;version=1;order=unk;dups=n;q=0.5", Some(false)),
            ("application/vnd.ipld.car; dups=\"y\"", Some(true)),
            ("application/vnd.ipld.car; order=bfs, application/vnd.ipld.car; dups=y", Some(true)),
            ("application/vnd.ipld.car; dups=y; q=0.3, application/vnd.ipld.car; dups=n; q=0.4", Some(false)),
            ("application/vnd.ipld.car; dups=y; q=0, application/vnd.ipld.car; dups=n; q=0.1", Some(false)),
            ("application/vnd.ipld.car; version=2", None),
            ("application/vnd.ipld.car; order=bfs", None),
            ("application/vnd.ipld.car; dups=maybe", None),
            ("application/vnd.ipld.raw; order=bfs", Some(false)),
        ] {
            assert_eq!(of(text), repeats, "{text}");
        }
        let asked = Ask { car_dups: Some("n".into()), car_version: Some("1".into()), ..Ask::default() };
        let how = car_how(&asked, &accepted(&named("application/vnd.ipld.car; version=2; dups=y"))).ok();
        assert_eq!(how.map(|how| how.repeats), Some(false), "the query counts before the header");
        let both = Ask { entity_bytes: Some("1:2".into()), dag_scope: Some("all".into()), ..Ask::default() };
        assert_eq!(car_how(&both, &[]).ok().map(|how| how.scope.to_string()), Some("entity.1:2".into()), "bytes imply the scope");
    }
}
