//! What it costs to be watched: small calls that are traced and exported to a collector, beside the same that are not.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use timerose_node::{Config, Running, Sampler, TelemetryConfig};
use tokio::runtime::Runtime;

use crate::Settings;
use crate::guest::Guest;
use crate::http::Client;
use crate::report::{Better, Goal, Row};
use crate::small::{begin, body, config, deploy, rate};

/// A collector that takes everything and keeps nothing. It runs as long as the program.
fn collector() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let addr = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || take(stream));
        }
    });
    addr
}

/// Answers the requests of a connection until it ends.
fn take(mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let lower = line.to_ascii_lowercase();
            length = lower.strip_prefix("content-length:").map_or(length, |n| n.trim().parse().expect("a length"));
        }
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
}

/// A warm node that is told this of traces.
fn node(runtime: &Runtime, settings: &Settings, name: &str, telemetry: TelemetryConfig) -> (Running, cid::Cid) {
    let dir = settings.folder(name);
    let function = deploy(runtime, &dir, &Guest::echo());
    let running = runtime.block_on(begin(Config { telemetry, ..config(&dir, 2, Vec::new(), &[]) }));
    // The first call compiles.
    runtime.block_on(async { Client::connect(running.api).await.post("/v1/call", &body(&function)).await });
    (running, function)
}

/// The rows about telemetry.
pub fn rows(runtime: &Runtime, settings: &Settings) -> Vec<Row> {
    let off = TelemetryConfig { sampler: Sampler::named("always_off", None).expect("a sampler"), ..Default::default() };
    let endpoint = Some(format!("http://{}/v1/traces", collector()));
    let tenth = Sampler::named("parentbased_traceidratio", Some("0.1")).expect("a sampler");
    let (plain, function) = node(runtime, settings, "plain", off);
    let watched = [
        ("kept in the ring", TelemetryConfig::default()),
        ("a tenth exported", TelemetryConfig { endpoint: endpoint.clone(), sampler: tenth, ..Default::default() }),
        ("all exported", TelemetryConfig { endpoint, ..Default::default() }),
    ];
    let mut rows = Vec::new();
    for (name, telemetry) in watched {
        let (running, _) = node(runtime, settings, name, telemetry);
        let goal = Goal::Ratio(0.95);
        let mut row =
            Row::new(format!("small calls over HTTP, traced: {name}"), "1/s", Better::Higher, goal, "the same, untraced");
        for _ in 0..settings.rounds {
            let ours = runtime.block_on(rate(running.api, settings, Some(function)));
            row.round(ours, runtime.block_on(rate(plain.api, settings, Some(function))));
        }
        runtime.block_on(running.stop());
        rows.push(row);
    }
    runtime.block_on(plain.stop());
    rows
}
