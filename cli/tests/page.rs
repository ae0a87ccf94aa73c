//! What a node tells a browser: its page, the headers that protect it, and what happens as it happens.

#[path = "mesh/world.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod world;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use world::{Node, World};

/// Streams of events that a node serves at the same time.
const READERS: usize = 32;

type Lines = Box<dyn BufRead>;

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}

/// Asks a node, with further headers.
fn ask(node: &Node, path: &str, headers: &[(&str, &str)]) -> ureq::http::Response<ureq::Body> {
    let mut request = agent().get(format!("http://{}{path}", node.api()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.call().expect("an answer")
}

fn follow(node: &Node) -> Lines {
    let response = ask(node, "/v1/events", &[]);
    assert_eq!(response.status(), 200);
    Box::new(BufReader::new(response.into_body().into_reader()))
}

/// The data of the next event of that name.
fn next(lines: &mut Lines, name: &str) -> Value {
    let mut line = String::new();
    loop {
        line.clear();
        assert!(lines.read_line(&mut line).expect("a line") > 0, "the stream ended");
        if line.trim_end() == format!("event: {name}") {
            line.clear();
            lines.read_line(&mut line).expect("its data");
            return serde_json::from_str(line.strip_prefix("data: ").expect("data")).expect("JSON");
        }
    }
}

#[test]
fn the_page_and_the_api_are_guarded() {
    let world = World::new();
    let node = world.node("a", &[]);
    let mut page = ask(&node, "/", &[]);
    for path in ["/", "/healthz", "/v1/members", "/nowhere", "/assets/nothing.js"] {
        let answer = ask(&node, path, &[]);
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        assert!(header("content-security-policy").starts_with("default-src 'none'; script-src 'self'"), "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("cross-origin-resource-policy"), "same-origin", "{path}");
    }
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    assert!(page.body_mut().read_to_string().expect("text").contains("<title>TimeRose</title>"));
    // Its first answer waited for the WebSocket: a node is ready when it has one of its addresses.
    let policy = page.headers()["content-security-policy"].to_str().expect("text");
    assert!(policy.contains("connect-src 'self' ws://127.0.0.1:"), "{policy}");
    let link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    let statuses = ["/", "/v1/members"].map(|path| ask(&node, path, &link).status().as_u16());
    assert_eq!(statuses, [200, 403], "another site may link to the page, and to nothing else");
}

#[test]
fn a_key_gets_the_nodes_signed_word_and_pages_of_other_sites_do_not() {
    let world = World::new();
    let node = world.node("a", &[]);
    let key = world.did("page");
    let ask = |body: Value, origin: &str| {
        let request = agent().post(format!("http://{}/v1/delegations", node.api())).header("origin", origin);
        request.send_json(body).expect("an answer")
    };
    let own = format!("http://{}", node.api());
    let mut answer = ask(json!({"key": key}), &own);
    assert_eq!(answer.headers()["content-type"], "application/vnd.ipld.dag-cbor");
    let sealed = answer.body_mut().read_to_vec().expect("bytes");
    let has = |text: &str| sealed.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(sealed.starts_with(&[0x82, 0x58, 0x40]) && has("ucan/dlg@1.0.0-rc.1"), "{sealed:x?}");
    assert!(has(&key) && has(&node.id()) && has("/timerose/fn/invoke"), "{sealed:x?}");
    let statuses = [
        ask(json!({"key": "did:web:example.org"}), &own).status().as_u16(),
        ask(json!({"key": key, "for": "ever"}), &own).status().as_u16(),
        ask(json!({"key": key}), "http://evil.example").status().as_u16(),
    ];
    assert_eq!(statuses, [422, 422, 403]);
}

#[test]
fn a_reader_of_events_hears_of_members_and_calls_and_readers_are_bounded() {
    let world = World::new();
    let node = world.node("a", &[]);
    let mut lines = follow(&node);
    let view = next(&mut lines, "view");
    assert_eq!(view["members"].as_array().map(Vec::len), Some(1), "{view}");
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests");
    let file = |name: &str| guests.join(name).display().to_string();
    let manifest = file("wordcount/fan.toml");
    let deploy = ["deploy", &file("built/wordcount-fan.wasm"), "--manifest", &manifest];
    let function = world.command(&node.dir, &deploy).ok();
    let answer = world.command(&node.dir, &["call", &function, "--entry", "map", "--arg", "a rose", "-o", "json"]).json();
    let call = next(&mut lines, "call");
    assert_eq!((&call["result"], &call["executor"]), (&answer["result"], &json!(node.id())));

    let others: Vec<Lines> = (1..READERS).map(|_| follow(&node)).collect();
    let refused = ask(&node, "/v1/events", &[]);
    assert_eq!(refused.status(), 429);
    drop(others);
    world::wait_until("room for another reader", || ask(&node, "/v1/events", &[]).status() == 200);
}

#[test]
fn a_block_is_given_as_it_is_stored() {
    let world = World::new();
    let node = world.node("a", &[]);
    let cid = world.command(&node.dir, &["add", world.write("x", "a rose").to_str().expect("UTF-8")]).ok();
    let mut bytes = Vec::new();
    let answer = ask(&node, &format!("/v1/block/{cid}"), &[]);
    assert_eq!(answer.headers()["content-type"], "application/octet-stream");
    answer.into_body().into_reader().read_to_end(&mut bytes).expect("all of it");
    assert_eq!(bytes, b"a rose");
    assert_eq!(ask(&node, "/v1/block/nonsense", &[]).status(), 400);
}
