//! `trace`, `logs`: what the nodes of the mesh saw.

use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;

use crate::args::{Format, Logs, Trace};
use crate::client::Client;
use crate::error::CliError;
use crate::output::{line, show};
use crate::text::{columns, escaped, text, url_part};

/// The characters of the bar that stands for a whole trace.
const BAR: u64 = 40;

/// `timerose trace`
pub fn trace(client: &Client, args: &Trace) -> Result<(), CliError> {
    let trace = client.get(&format!("/v1/traces/{}", url_part(&args.id)))?;
    show(args.show.output, &trace, || waterfall(&trace))
}

/// A trace as text: each span below its cause, with a bar for its part of the whole.
fn waterfall(trace: &Value) -> String {
    let spans: Vec<&Value> = trace["spans"].as_array().into_iter().flatten().collect();
    let start = |span: &Value| span["start_unix_us"].as_u64().unwrap_or(0);
    let took = |span: &Value| span["duration_us"].as_u64().unwrap_or(0);
    let first = spans.iter().map(|span| start(span)).min().unwrap_or(0);
    let whole = spans.iter().map(|span| start(span).saturating_add(took(span)) - first).max().unwrap_or(0).max(1);
    let mut rows = vec![["SPAN", "", "AT", "TOOK", "NODE", ""].map(String::from).to_vec()];
    for (depth, span) in nested(&spans) {
        let (at, took) = (start(span) - first, took(span));
        let place = |us: u64| (u128::from(us) * u128::from(BAR) / u128::from(whole)).min(u128::from(BAR)) as usize;
        let (from, to) = (place(at).min(BAR as usize - 1), place(at.saturating_add(took)));
        let bar = format!("{}{}", " ".repeat(from), "=".repeat(to.saturating_sub(from).max(1)));
        let node = text(&span["node"]);
        let node = format!("{} {}", node.get(node.len().saturating_sub(8)..).unwrap_or_default(), text(&span["region"]));
        let name = format!("{}{}", "  ".repeat(depth), text(&span["name"]));
        rows.push(vec![name, format!("|{bar:<width$}|", width = BAR as usize), ms(at), ms(took), node, text(&span["failure"])]);
        for event in span["events"].as_array().into_iter().flatten() {
            let at = event["at_unix_us"].as_u64().unwrap_or(0).saturating_sub(first);
            let facts = &event["facts"];
            let node = text(&facts["timerose.node"]);
            let node = node.get(node.len().saturating_sub(8)..).unwrap_or_default().to_string();
            let name = format!("{}. {}", "  ".repeat(depth + 1), text(&event["name"]));
            rows.push(vec![name, String::new(), ms(at), String::new(), node, text(&facts["timerose.reason"])]);
        }
    }
    let mut shown = columns(&rows);
    match trace["left_out"].as_u64() {
        None | Some(0) => {}
        Some(count) => shown.push_str(&format!("\n{count} further spans were left out")),
    }
    shown
}

fn ms(us: u64) -> String {
    format!("{}.{:02} ms", us / 1000, us % 1000 / 10)
}

/// Each span below its cause, with its depth. What names a cause that is not there stands at the top.
fn nested<'a>(spans: &[&'a Value]) -> Vec<(usize, &'a Value)> {
    let ids: BTreeSet<&str> = spans.iter().filter_map(|span| span["span"].as_str()).collect();
    let is_top = |span: &&&Value| span["parent"].as_str().is_none_or(|parent| !ids.contains(parent));
    let mut next: Vec<(usize, &Value)> = spans.iter().filter(is_top).rev().map(|span| (0, *span)).collect();
    let (mut shown, mut seen) = (Vec::new(), BTreeSet::new());
    while let Some((depth, span)) = next.pop() {
        let id = span["span"].as_str().unwrap_or_default();
        // Ids come from other nodes: one that is its own ancestor ends here.
        if !seen.insert(id) {
            continue;
        }
        shown.push((depth, span));
        next.extend(spans.iter().filter(|below| below["parent"] == id).rev().map(|below| (depth + 1, *below)));
    }
    shown
}

/// `timerose logs`
pub fn logs(client: &Client, args: &Logs) -> Result<(), CliError> {
    let path = format!("/v1/logs/{}", url_part(&args.task));
    if !args.follow {
        let log = client.get(&path)?;
        return match args.show.output {
            Format::Json => line(&log.to_string()),
            Format::Table => words(&log),
        };
    }
    client.watch(&format!("{path}?follow=true"), |_, log| match args.show.output {
        Format::Json => line(&log.to_string()),
        Format::Table => words(log),
    })?;
    Ok(())
}

/// Writes what a guest said, as it said it, but for what would drive the terminal.
fn words(log: &Value) -> Result<(), CliError> {
    let mut stdout = std::io::stdout().lock();
    let text = escaped(log["text"].as_str().unwrap_or_default());
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|e| CliError::stdout(&e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_trace_is_shown_as_a_waterfall() {
        let span = |span: &str, parent: Option<&str>, name: &str, start: u64, took: u64| {
            json!({"span": span, "parent": parent, "name": name, "node": "did:key:abcd1234", "region": "here",
                "start_unix_us": 1_000_000 + start, "duration_us": took, "facts": {}, "events": [], "failure": null})
        };
        let mut call = span("b", Some("a"), "schedule", 1000, 8000);
        call["events"] = json!([{"at_unix_us": 1_002_000, "name": "refused",
            "facts": {"timerose.node": "did:key:zzzz9999", "timerose.reason": "busy"}}]);
        let (circle, lost) = (span("x", Some("x"), "circle", 0, 0), span("e", Some("gone"), "orphan", 9000, 1000));
        let spans =
            json!([span("a", None, "POST /v1/call", 0, 10_000), call, span("c", Some("b"), "run", 5000, 2000), lost, circle]);
        let shown = waterfall(&json!({"trace": "t", "spans": spans, "left_out": 2}));
        let expected = [
            "SPAN                                                       AT       TOOK      NODE",
            "POST /v1/call  |========================================|  0.00 ms  10.00 ms  abcd1234 here",
            "  schedule     |    ================================    |  1.00 ms  8.00 ms   abcd1234 here",
            "    . refused                                              2.00 ms            zzzz9999       busy",
            "    run        |                    ========            |  5.00 ms  2.00 ms   abcd1234 here",
            "orphan         |                                    ====|  9.00 ms  1.00 ms   abcd1234 here",
            "2 further spans were left out",
        ];
        assert_eq!(shown, expected.join("\n"));
    }
}
