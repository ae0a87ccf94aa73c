//! `where`: who would run a function, and why.

use serde_json::{Value, json};

use crate::args::Where;
use crate::client::Client;
use crate::error::CliError;
use crate::output::show;
use crate::text::{bytes, columns, text, url_part};

/// `timerose where`
pub fn place(client: &Client, args: &Where) -> Result<(), CliError> {
    let mut query = vec![("fn", args.function.as_str())];
    if !args.entry.is_empty() {
        query.push(("entry", &args.entry));
    }
    query.extend(args.args.iter().map(|arg| ("arg", arg.as_str())));
    let pairs: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", url_part(value))).collect();
    let answer = client.get(&format!("/v1/executors?{}", pairs.join("&")))?;
    show(args.show.output, &answer, || table(&answer))
}

fn milliseconds(us: &Value) -> String {
    us.as_u64().map_or_else(|| "-".into(), |us| format!("{:.1} ms", us as f64 / 1000.0))
}

/// How the first is reached, then everybody in order.
fn table(answer: &Value) -> String {
    let list = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
    let (executors, others) = (list("executors"), list("others"));
    let mut reached = Vec::new();
    if let Some(first) = executors.first() {
        reached.push(vec!["nearest".to_string(), text(&first["node"])]);
        for addr in first["addrs"].as_array().into_iter().flatten() {
            reached.push(vec!["address".into(), text(addr)]);
        }
        reached.push(vec!["request topic".into(), text(&first["request_topic"])]);
        reached.push(vec!["reply topic".into(), text(&answer["reply_topic"])]);
    }
    let heading = ["EXECUTOR", "REGION", "CHANNEL", "COST", "RTT", "AHEAD", "SLOTS", "RUN", "MISSING", "STATE"];
    let mut rows = vec![heading.map(String::from).to_vec()];
    for one in &executors {
        let state = match (&one["open"], one["rest_us"].as_u64()) {
            (open, _) if *open == json!(true) => "open".to_string(),
            (_, Some(0) | None) => "full".into(),
            (_, Some(_)) => format!("rests {}", milliseconds(&one["rest_us"])),
        };
        rows.push(vec![
            text(&one["node"]),
            text(&one["region"]),
            text(&one["channel"]),
            milliseconds(&one["cost_us"]),
            milliseconds(&one["rtt_us"]),
            one["ahead"].to_string(),
            one["slots"].to_string(),
            milliseconds(&one["run_us"]),
            bytes(one["missing_bytes"].as_u64().unwrap_or(0)),
            state,
        ]);
    }
    for one in &others {
        let mut row = vec![text(&one["node"]), text(&one["region"])];
        row.resize(heading.len() - 1, "-".into());
        row.push(text(&one["reason"]));
        rows.push(row);
    }
    let parts = [columns(&reached), columns(&rows)];
    parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join("\n\n")
}
