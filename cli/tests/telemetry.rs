//! What a node tells those who watch it: its metrics, and spans to a collector.

#[path = "mesh/world.rs"]
#[allow(dead_code, reason = "shared with the mesh tests, which use more of it")]
mod world;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc;
use world::{Node, World, wait_until};

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn wordcount(world: &World, node: &Node) -> String {
    let file = |name: &str| root().join("guests").join(name).display().to_string();
    let (code, manifest) = (file("built/wordcount-fan.wasm"), file("wordcount/fan.toml"));
    world.command(&node.dir, &["deploy", &code, "--manifest", &manifest]).ok()
}

/// The trace of a call of that text.
fn call(world: &World, node: &Node, function: &str, text: &str) -> String {
    let answer = world.command(&node.dir, &["call", function, "--entry", "map", "--arg", text, "-o", "json"]).json();
    answer["trace"].as_str().expect("a trace").to_string()
}

#[test]
fn the_metrics_are_open_metrics_and_the_book_lists_each() {
    let world = World::new();
    let node = world.node("a", &[]);
    let function = wordcount(&world, &node);
    let trace = call(&world, &node, &function, "a rose");
    let mut answer = ureq::get(format!("http://{}/metrics", node.api())).call().expect("an answer");
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.headers()["content-type"], kind);
    let text = answer.body_mut().read_to_string().expect("text");
    assert!(text.ends_with("\n# EOF\n") && text.matches("# EOF").count() == 1);
    let mut families = BTreeMap::new();
    let mut family = (String::new(), String::new());
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            family = (name.to_string(), kind.to_string());
            assert!(families.insert(name.to_string(), kind.to_string()).is_none(), "{name} stands together");
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(rest.starts_with(&format!("{} ", family.0)) && rest.ends_with('.'), "{line}");
        } else {
            let sample = line.split([' ', '{']).next().expect("a name");
            let endings: &[&str] = match family.1.as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                _ => &["_bucket", "_count", "_sum"],
            };
            let fits = sample.strip_prefix(&family.0).is_some_and(|ending| endings.contains(&ending));
            assert!(fits && sample.starts_with(|c: char| c.is_ascii_lowercase()), "{line}");
        }
    }
    let page = std::fs::read_to_string(root().join("docs/metrics.md")).expect("the page");
    let rows = page.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        Some((cells.next()?.trim_end_matches('`').to_string(), cells.next()?.to_string()))
    });
    let sample = |(name, kind): (String, String)| if kind == "counter" { (name + "_total", kind) } else { (name, kind) };
    assert_eq!(rows.collect::<BTreeMap<_, _>>(), families.into_iter().map(sample).collect(), "docs/metrics.md and GET /metrics");
    assert!(text.contains("timerose_call_duration_seconds_count 1\n"), "{text}");
    assert!(text.contains("timerose_store_max_bytes +Inf\n"), "there is no bound: {text}");
    assert!(text.contains(&format!("# {{trace_id=\"{trace}\"}} ")), "the call is an exemplar: {text}");
}

/// A collector: takes requests and hands on what they carry.
fn collector() -> (String, mpsc::Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let addr = listener.local_addr().expect("an address");
    let (taken, requests) = mpsc::sync_channel(64);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let taken = taken.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().expect("cloned"));
                loop {
                    let (mut head, mut length) = (String::new(), 0);
                    while !head.ends_with("\r\n\r\n") {
                        let from = head.len();
                        if reader.read_line(&mut head).unwrap_or(0) == 0 {
                            return;
                        }
                        let line = head[from..].to_ascii_lowercase();
                        length = line.strip_prefix("content-length:").map_or(length, |n| n.trim().parse().expect("a length"));
                    }
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).expect("a body");
                    if taken.send((head, body)).is_err() {
                        return;
                    }
                    let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
                    (&stream).write_all(answer.as_bytes()).expect("answered");
                }
            });
        }
    });
    (format!("http://{addr}"), requests)
}

/// The fields of a protobuf message that have bytes in them; a number stands as its little-endian bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut number = 0;
        for shift in (0..).step_by(7) {
            let (byte, rest) = bytes.split_first().expect("a number");
            *bytes = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return number;
            }
        }
        number
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let length = match key & 7 {
            0 => {
                found.push((key >> 3, varint(&mut bytes).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            2 => varint(&mut bytes) as usize,
            wire => panic!("wire type {wire}"),
        };
        let (value, rest) = bytes.split_at(length);
        found.push((key >> 3, value.to_vec()));
        bytes = rest;
    }
    found
}

/// What stands in a message below these fields, one after another.
fn below(message: &[u8], path: &[u64]) -> Vec<Vec<u8>> {
    let Some((first, rest)) = path.split_first() else { return vec![message.to_vec()] };
    fields(message).into_iter().filter(|(tag, _)| tag == first).flat_map(|(_, value)| below(&value, rest)).collect()
}

fn texts(message: &[u8], path: &[u64]) -> Vec<String> {
    below(message, path).into_iter().map(|bytes| String::from_utf8(bytes).expect("UTF-8")).collect()
}

/// The texts among attributes.
fn attributes(message: &[u8], path: &[u64]) -> BTreeMap<String, String> {
    let first = |pair: &[u8], path: &[u64]| texts(pair, path).into_iter().next();
    below(message, path).iter().filter_map(|pair| Some((first(pair, &[1])?, first(pair, &[2, 1])?))).collect()
}

#[test]
fn a_collector_gets_the_spans_of_sampled_calls_and_learns_whose_they_are() {
    let world = World::new();
    let (endpoint, requests) = collector();
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_SERVICE_NAME", "roses"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team=gardeners"),
    ];
    let node = world.node_with("a", &[], &env);
    let function = wordcount(&world, &node);
    let trace = call(&world, &node, &function, "a rose");
    let mut spans = BTreeMap::new();
    // The call's own span ends when it is answered.
    while !(spans.contains_key("POST /v1/call") && spans.contains_key("execute") && spans.contains_key("schedule")) {
        let (head, body) = requests.recv_timeout(std::time::Duration::from_secs(60)).expect("spans");
        assert!(head.starts_with("POST /v1/traces HTTP/1.1") && head.contains("application/x-protobuf"), "{head}");
        let resource = attributes(&body, &[1, 1, 1]);
        assert_eq!((resource["service.name"].as_str(), resource["team"].as_str()), ("roses", "gardeners"));
        assert!(resource["service.instance.id"].starts_with("12D3Koo") && !resource["service.version"].is_empty());
        for span in below(&body, &[1, 2, 2]) {
            spans.insert(texts(&span, &[5]).remove(0), span);
        }
    }
    let root_id = below(&spans["POST /v1/call"], &[2]);
    for name in ["POST /v1/call", "schedule", "execute", "run"] {
        let span = &spans[name];
        let hex: String = below(span, &[1])[0].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, trace, "{name}");
        let [start, end] = [7, 8].map(|tag| u64::from_le_bytes(below(span, &[tag])[0][..].try_into().expect("8 bytes")));
        assert!(start <= end && start > 1_600_000_000_000_000_000, "{name}: nanoseconds since 1970");
        if ["schedule", "execute"].contains(&name) {
            assert_eq!(below(span, &[4]), root_id, "{name} is a part of the call");
            assert_eq!(attributes(span, &[9])["faas.name"], function, "{name}");
        }
    }
    let mut events = texts(&spans["schedule"], &[11, 2]);
    events.truncate(1);
    assert_eq!(events, ["claimed"]);
    wait_until("the collector's answer to be counted", || node.metric("traces_exported_total") >= 3);
    assert_eq!(node.metric("traces_dropped_total"), 0);
}

#[test]
fn a_dead_collector_costs_the_spans_and_nothing_else() {
    let world = World::new();
    let dead = TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("an address");
    let node = world.node_with("a", &[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{dead}"))]);
    let function = wordcount(&world, &node);
    let trace = call(&world, &node, &function, "a rose");
    wait_until("the spans to be dropped", || node.metric("traces_dropped_total") > 0);
    assert_eq!(node.metric("traces_exported_total"), 0);
    let again = call(&world, &node, &function, "another rose");
    for trace in [trace, again] {
        assert!(world.command(&node.dir, &["trace", &trace]).ok().contains("execute"), "the ring has it still");
    }
}

#[test]
fn what_is_not_sampled_is_kept_here_alone_and_always_off_keeps_nothing() {
    let world = World::new();
    let (endpoint, requests) = collector();
    let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_TRACES_SAMPLER", "parentbased_always_off")];
    let node = world.node_with("a", &[], &env);
    let function = wordcount(&world, &node);
    let kept = call(&world, &node, &function, "a rose");
    assert!(world.command(&node.dir, &["trace", &kept]).ok().contains("execute"));
    // A request that brings a sampled trace along is told of, and it alone.
    let brought = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = ureq::post(format!("http://{}/v1/call", node.api()));
    let request = request.header("traceparent", format!("00-{brought}-00f067aa0ba902b7-01"));
    let body = serde_json::json!({"fn": function, "entry": "map", "args": [{"text": "third"}]});
    request.send_json(&body).expect("an answer");
    let (_, body) = requests.recv_timeout(std::time::Duration::from_secs(60)).expect("spans");
    for span in below(&body, &[1, 2, 2]) {
        assert_eq!(below(&span, &[1])[0][..4], [0x4b, 0xf9, 0x2f, 0x35], "of the trace that was brought");
    }
    let off = world.node_with("off", &[], &[("OTEL_TRACES_SAMPLER", "always_off")]);
    let function = wordcount(&world, &off);
    let answer = world.command(&off.dir, &["call", &function, "--entry", "map", "--arg", "a", "-o", "json"]).json();
    assert!(answer["trace"].is_null(), "{answer}");
}

#[test]
fn a_log_in_json_is_one_object_a_line() {
    let world = World::new();
    let node = world.node("a", &["--log-format", "json"]);
    let log = std::fs::read_to_string(&node.log).expect("a log");
    assert!(!log.is_empty(), "a node says where it listens");
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        for name in ["ts", "level", "target", "message"] {
            assert!(line[name].is_string(), "{name}: {line}");
        }
    }
}

#[test]
fn a_line_of_the_log_leads_to_the_span_of_the_trace() {
    let world = World::new();
    let env = [("RUST_LOG", "warn,timerose_node::telemetry=debug")];
    let node = world.node_with("a", &["--log-format", "json"], &env);
    let function = wordcount(&world, &node);
    let trace = call(&world, &node, &function, "a rose");
    let spans = world.command(&node.dir, &["trace", &trace, "-o", "json"]).json();
    let lines = || -> BTreeMap<String, serde_json::Value> {
        let log = std::fs::read_to_string(&node.log).expect("a log");
        let lines = log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")));
        let of_it = lines.filter(|line: &serde_json::Value| line["trace_id"] == *trace);
        of_it.map(|line| (line["message"].as_str().expect("a message").to_string(), line)).collect()
    };
    wait_until("a line of the request, the call and the run", || lines().len() == 3);
    for (message, span) in
        [("a request was answered", "POST /v1/call"), ("a call succeeded", "schedule"), ("a run succeeded", "execute")]
    {
        let line = &lines()[message];
        assert!(spans.to_string().contains(line["span_id"].as_str().expect("an id")), "{span} of {spans}: {line}");
        assert!(line["us"].is_u64(), "{line}");
    }
}
