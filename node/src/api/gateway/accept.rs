//! What a client takes, by `Accept` (RFC 9110, §12.5.1): types, each with its parameters and its weight.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// The weight of what is taken gladly, in thousandths.
const WHOLE: u16 = 1000;

/// A type that a client names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range<'a> {
    /// It, or a wildcard.
    pub kind: &'a str,
    /// All its parameters, as they were written.
    pub parameters: &'a str,
    /// How gladly it is taken, in thousandths; nothing: not at all.
    pub weight: u16,
}

impl Range<'_> {
    /// Whether it is this type, and no wildcard.
    pub fn is(&self, kind: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind)
    }
}

/// The types that a client names, the best first, and those that it names first among equals.
pub(super) fn accepted(headers: &HeaderMap) -> Vec<Range<'_>> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut ranges: Vec<Range<'_>> = values.flat_map(|value| value.split(',')).filter_map(range).collect();
    ranges.sort_by_key(|range| WHOLE - range.weight);
    ranges
}

fn range(text: &str) -> Option<Range<'_>> {
    let (kind, parameters) = text.split_once(';').unwrap_or((text, ""));
    let weight = parameters.split(';').find_map(|one| {
        let (name, value) = one.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| weight(value.trim()))
    });
    (!kind.trim().is_empty()).then(|| Range { kind: kind.trim(), parameters, weight: weight.unwrap_or(WHOLE) })
}

/// Reads `0.5`. What is no weight counts as none given.
fn weight(text: &str) -> u16 {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit());
    match whole {
        "0" if digits => format!("{part:0<3}").parse().unwrap_or(WHOLE),
        _ => WHOLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn types_come_by_their_weights_and_equal_ones_as_they_were_named() {
        let mut headers = HeaderMap::new();
        headers.append(ACCEPT, HeaderValue::from_static("text/html, a/b;q=0.5 , c/d; v=1; Q=0.501, e/f;q=0, ,"));
        headers.append(ACCEPT, HeaderValue::from_static("g/h; q=1.000, */*;q=0.05, i/j;q=much, k/l;q=0.12345"));
        let named: Vec<(&str, u16)> = accepted(&headers).iter().map(|range| (range.kind, range.weight)).collect();
        let whole = [("text/html", 1000), ("g/h", 1000), ("i/j", 1000), ("k/l", 1000)];
        assert_eq!(named, [&whole[..], &[("c/d", 501), ("a/b", 500), ("*/*", 50), ("e/f", 0)]].concat());
        assert!(accepted(&HeaderMap::new()).is_empty());
    }
}
