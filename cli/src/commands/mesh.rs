//! `members`, `id`: who is there.

use serde_json::{Value, json};

use crate::args::Format;
use crate::client::Client;
use crate::error::CliError;
use crate::output::show;
use crate::text::{columns, plain};

fn text(value: &Value) -> String {
    value.as_str().map(plain).unwrap_or_default()
}

/// `timerose members`
pub fn members(client: &Client, format: Format) -> Result<(), CliError> {
    let members = client.get("/v1/members")?;
    show(format, &members, || {
        let mut rows = vec![["MEMBER", "REGION", "ROLES", "SLOTS", "RTT", "STATE"].map(String::from).to_vec()];
        for member in members.as_array().into_iter().flatten() {
            let roles: Vec<String> = member["roles"].as_array().into_iter().flatten().map(text).collect();
            let rtt = member["rtt_us"].as_u64().map(|us| format!("{:.1} ms", us as f64 / 1000.0));
            let state = match (&member["self"], &member["connected"], &member["trusted"]) {
                (me, ..) if *me == json!(true) => "this node",
                _ if member["left"] == json!(true) => "left",
                _ if member["channel"] == json!("pubsub") => "by pubsub",
                (_, up, _) if *up == json!(false) => "out of reach",
                (_, _, trusted) if *trusted == json!(false) => "not trusted",
                _ => "connected",
            };
            rows.push(vec![
                text(&member["id"]),
                text(&member["region"]),
                roles.join(","),
                member["slots"].to_string(),
                rtt.unwrap_or_else(|| "-".into()),
                state.into(),
            ]);
        }
        columns(&rows)
    })
}

/// `timerose id`
pub fn id(client: &Client, format: Format) -> Result<(), CliError> {
    let id = client.get("/v1/id")?;
    show(format, &id, || {
        let mut rows = vec![
            vec!["id".to_string(), text(&id["id"])],
            vec!["peer".into(), text(&id["peer"])],
            vec!["version".into(), text(&id["version"])],
        ];
        rows.extend(id["addrs"].as_array().into_iter().flatten().map(|addr| vec!["address".to_string(), text(addr)]));
        columns(&rows)
    })
}
