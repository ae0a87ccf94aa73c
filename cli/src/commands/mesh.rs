//! `members`, `id`: who is there.

use serde_json::{Value, json};
use std::io::IsTerminal;

use crate::args::{Format, Members};
use crate::client::Client;
use crate::error::CliError;
use crate::output::{line, redraw, show};
use crate::text::{columns, text};

/// `timerose members`
pub fn members(client: &Client, args: &Members) -> Result<(), CliError> {
    if args.watch {
        return watch(client, args.show.output);
    }
    let members = client.get("/v1/members")?;
    show(args.show.output, &members, || table(&members))
}

/// Shows the members again whenever what is known of one of them changes, as long as somebody reads it.
fn watch(client: &Client, format: Format) -> Result<(), CliError> {
    let draws = format == Format::Table && std::io::stdout().is_terminal();
    let mut shown = String::new();
    client.watch("/v1/events", |event, view| {
        // The node tells of its own work as well.
        if event != "view" {
            return Ok(());
        }
        let members = &view["members"];
        let now = if draws { table(members) } else { members.to_string() };
        if now == shown {
            return Ok(());
        }
        if draws {
            redraw(&now)?
        } else {
            line(&now)?
        }
        shown = now;
        Ok(())
    })?;
    Ok(())
}

fn table(members: &Value) -> String {
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
