//! `providers`, `provide stat`: who has what, and what this node tells others that it has.

use serde_json::{Value, json};

use crate::args::{Format, Provide, Providers};
use crate::client::Client;
use crate::error::CliError;
use crate::output::show;
use crate::text::{columns, plain, url_part};

/// `timerose provide`
pub fn provide(client: &Client, command: &Provide) -> Result<(), CliError> {
    match command {
        Provide::Stat(args) => stat(client, args.output),
    }
}

fn stat(client: &Client, format: Format) -> Result<(), CliError> {
    let stat = client.get("/v1/provide")?;
    show(format, &stat, || {
        let names = ["announced", "waiting", "late", "failed", "results", "left_out"];
        let mut rows: Vec<Vec<String>> = names.map(|name| vec![name.replace('_', " "), stat[name].to_string()]).to_vec();
        let next = stat["next_s"].as_u64().map_or("-".into(), |s| format!("in {} min", s.div_ceil(60)));
        rows.push(vec!["next sweep".into(), next]);
        rows.push(vec!["last error".into(), stat["last_error"].as_str().map_or("-".into(), plain)]);
        columns(&rows)
    })
}

/// `timerose providers`
pub fn providers(client: &Client, args: &Providers) -> Result<(), CliError> {
    let found = client.get(&format!("/v1/providers/{}", url_part(&args.cid)))?;
    show(args.show.output, &found, || {
        let mut rows = vec![["PROVIDER", "STATE", "ADDRESSES"].map(String::from).to_vec()];
        if found["here"] == json!(true) {
            rows.push(vec!["this node".into(), "here".into(), String::new()]);
        }
        for provider in found["providers"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().map(plain).unwrap_or_default();
            let state = match (&provider["says"], provider["connected"] == json!(true)) {
                (Value::Bool(true), _) => "has it",
                (Value::Bool(false), _) => "named by the DHT, denies it",
                (_, true) => "named by the DHT, connected",
                (_, false) => "named by the DHT",
            };
            let addrs: Vec<String> = provider["addrs"].as_array().into_iter().flatten().map(text).collect();
            rows.push(vec![text(&provider["peer"]), state.into(), addrs.join(" ")]);
        }
        format!("{}\n{} connected peers asked, {} of them silent", columns(&rows), found["asked"], found["silent"])
    })
}
