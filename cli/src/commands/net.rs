//! `net stat`: what went over the network.

use serde_json::Value;

use crate::args::{Format, Net};
use crate::client::Client;
use crate::error::CliError;
use crate::output::show;
use crate::text::{bytes, columns, number, text};

/// `timerose net`
pub fn net(client: &Client, command: &Net) -> Result<(), CliError> {
    let Net::Stat(show) = command;
    stat(client, show.output)
}

fn stat(client: &Client, format: Format) -> Result<(), CliError> {
    let stat = client.get("/v1/net")?;
    show(format, &stat, || table(&stat))
}

fn size(value: &Value) -> String {
    value.as_u64().map_or_else(|| "-".into(), bytes)
}

/// What both protocols and topics count.
fn moved(name: String, of: &Value) -> Vec<String> {
    let mut row = vec![name];
    row.extend([number(&of["in"]), size(&of["bytes_in"]), number(&of["out"]), size(&of["bytes_out"])]);
    row.extend([number(&of["dropped"]), number(&of["refused"])]);
    row
}

fn table(stat: &Value) -> String {
    let list = |name: &str| stat[name].as_array().cloned().unwrap_or_default();
    let heading = ["IN", "BYTES IN", "OUT", "BYTES OUT", "DROPPED", "REFUSED"];
    let rows = |first: &str, more: &[&str]| vec![[&[first][..], &heading, more].concat().into_iter().map(String::from).collect()];
    let mut protocols: Vec<Vec<String>> = rows("PROTOCOL", &[]);
    protocols.extend(list("protocols").iter().map(|of| moved(text(&of["protocol"]), of)));
    let mut topics: Vec<Vec<String>> = rows("TOPICS", &["LIMITED", "JOINED", "LISTENERS", "MESH"]);
    topics.extend(list("topics").iter().map(|of| {
        let mut row = moved(text(&of["topic"]), of);
        row.extend(["limited", "joined", "listeners", "mesh"].map(|name| number(&of[name])));
        row
    }));
    let mut connections = vec![["TRANSPORT", "IN", "OUT"].map(String::from).to_vec()];
    let by = |of: &Value| vec![text(&of["transport"]), number(&of["in"]), number(&of["out"])];
    connections.extend(list("connections").iter().map(by));
    let rest = vec![
        vec!["peers".into(), number(&stat["peers"])],
        vec!["of them through a relay alone".into(), number(&stat["peers_relayed"])],
        vec!["can be dialled, as peers found".into(), stat["reachable"].as_str().unwrap_or("-").into()],
        vec!["DHT".into(), format!("{}, {}", text(&stat["dht"]["protocol"]), text(&stat["dht"]["mode"]))],
        vec!["reservations at this relay".into(), number(&stat["relay"]["reservations"])],
        vec!["circuits through this relay".into(), number(&stat["relay"]["circuits"])],
        vec!["copies of gossip dropped for slow peers".into(), number(&stat["copies_dropped"])],
    ];
    [columns(&protocols), columns(&topics), columns(&connections), columns(&rest)].join("\n\n")
}
