//! The web page: its files as they were built into this binary, and the headers that keep foreign text from being run.

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use timerose_core::view::View;

use super::Shared;
use super::error::ApiError;

/// The files of `web/dist` by their paths there; none where the page was not built.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/page.rs"));
/// What a binary without the page shows instead.
const UNBUILT: &str = include_str!("page.html");

/// What a browser may take from where, and do with it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types svelte-trusted-html";
/// How long a page waits for the node's WebSockets to open.
const SOCKETS_WAIT: Duration = Duration::from_secs(10);

/// What every answer says to a browser: scripts and styles are files of this host, nothing is taken from other hosts, no
/// text becomes markup but the page's own, and no other page may frame this one.
const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// Puts them on an answer, where it does not say something else itself: what the gateway gives may do even less.
pub(super) fn guard(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(value);
    }
}

/// `GET /`. The page may also speak to the node's own WebSockets on this machine, by which it has a part in PubSub: a page that is asked for
/// before the node knows where these are waits for them, or could not speak to them until it is loaded anew.
pub(super) async fn index(State(api): Shared) -> Response {
    let page = find("index.html").unwrap_or(UNBUILT.as_bytes());
    let mut view = api.ports.view.clone();
    // Where they are not opened in time, the page does without.
    let _ = tokio::time::timeout(SOCKETS_WAIT, view.wait_for(|view| sockets(own_addrs(view)).count() >= api.ports.sockets)).await;
    let policy = policy_with(sockets(own_addrs(&api.ports.view.borrow())));
    let headers = [(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")), (CONTENT_SECURITY_POLICY, policy)];
    (headers, [(CACHE_CONTROL, "no-cache")], page).into_response()
}

/// This node's addresses.
fn own_addrs(view: &View) -> &[String] {
    view.members.get(&view.me).map(|me| &me.addrs[..]).unwrap_or_default()
}

/// Those WebSockets among multiaddrs that a browser on this machine finds.
pub(crate) fn sockets(addrs: &[String]) -> impl Iterator<Item = SocketAddr> {
    addrs.iter().filter_map(|addr| socket_of(addr))
}

/// The policy of the page, with what it may connect to besides.
fn policy_with(sockets: impl Iterator<Item = SocketAddr>) -> HeaderValue {
    let sources: String = sockets.map(|socket| format!(" ws://{socket}")).collect();
    let policy = POLICY.replace("connect-src 'self'", &format!("connect-src 'self'{sources}"));
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static(POLICY))
}

/// Where a browser on this machine finds a node that listens on this multiaddr, if it does: on plain WebSocket, on loopback. A
/// policy cannot name an address of IPv6.
fn socket_of(addr: &str) -> Option<SocketAddr> {
    let rest = addr.strip_prefix("/ip4/")?;
    let (ip, rest) = rest.split_once("/tcp/")?;
    let (port, rest) = rest.split_once('/')?;
    let ip: Ipv4Addr = ip.parse().ok().filter(Ipv4Addr::is_loopback)?;
    (rest == "ws" || rest.starts_with("ws/p2p/")).then_some(SocketAddr::from((ip, port.parse().ok()?)))
}

/// `GET /assets/NAME`: their names hold a hash of what they contain, so that a browser may keep them.
pub(super) async fn asset(Path(name): Path<String>) -> Response {
    let Some(file) = find(&format!("assets/{name}")) else { return ApiError::not_a_route().into_response() };
    ([(CONTENT_TYPE, type_of(&name)), (CACHE_CONTROL, "public, max-age=31536000, immutable")], file).into_response()
}

fn find(path: &str) -> Option<&'static [u8]> {
    FILES.binary_search_by_key(&path, |(name, _)| name).ok().map(|at| FILES[at].1)
}

fn type_of(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_file_is_found_and_has_a_type() {
        assert!(FILES.is_sorted_by_key(|(name, _)| name), "the look-up is by order");
        for (name, bytes) in FILES {
            assert_eq!(find(name), Some(*bytes));
            assert!(*name == "index.html" || name.starts_with("assets/"), "{name} has no route");
            assert!(*name == "index.html" || type_of(name) != "application/octet-stream", "{name} has no type");
        }
        assert_eq!(find("assets/../index.html"), None);
    }

    #[test]
    fn a_binary_without_the_page_says_how_to_get_it_and_obeys_the_policy() {
        assert!(UNBUILT.contains("npm --prefix web run build"));
        for part in ["<script", "<style", "style=", "src=", "href="] {
            assert!(!UNBUILT.contains(part), "{part}");
        }
    }

    #[test]
    fn the_page_may_connect_to_the_nodes_own_websockets_on_this_machine() {
        let addrs = [
            "/ip4/127.0.0.1/tcp/4002/ws/p2p/12D3KooW",
            "/ip4/127.0.0.1/tcp/4003/ws",
            "/ip4/127.0.0.1/tcp/4001/p2p/12D3KooW",
            "/ip4/127.0.0.1/udp/4001/quic-v1/p2p/12D3KooW",
            "/ip4/192.0.2.1/tcp/4002/ws/p2p/12D3KooW",
            "/ip4/192.0.2.1/tcp/4001/p2p/12D3KooW/p2p-circuit/ip4/127.0.0.1/tcp/4004/ws",
            "/ip4/127.0.0.1/tcp/4005; script-src */ws",
            "/ip6/::1/tcp/4006/ws",
        ];
        let policy = policy_with(sockets(&addrs.map(String::from)));
        let connect = "connect-src 'self' ws://127.0.0.1:4002 ws://127.0.0.1:4003;";
        assert!(policy.to_str().expect("text").contains(connect), "{policy:?}");
        assert_eq!(policy_with(std::iter::empty()), POLICY);
    }

    #[test]
    fn nothing_inline_and_nothing_foreign_is_in_the_policy() {
        let mut headers = HeaderMap::new();
        guard(&mut headers);
        let policy = headers[CONTENT_SECURITY_POLICY].to_str().expect("text");
        for part in ["default-src 'none'", "script-src 'self';", "style-src 'self';", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{part}");
        }
        for part in ["unsafe", "http", "*", "data:"] {
            assert!(!policy.contains(part), "{part}");
        }
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
    }
}
