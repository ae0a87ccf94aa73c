//! `bitswap stat`, `bitswap ledger`: blocks that came and went.

use serde_json::{Value, json};

use crate::args::{Bitswap, Format, Ledger};
use crate::client::Client;
use crate::error::CliError;
use crate::output::show;
use crate::text::{bytes, columns, plain};

/// `timerose bitswap`
pub fn bitswap(client: &Client, command: &Bitswap) -> Result<(), CliError> {
    let mut stat = client.get("/v1/bitswap")?;
    let peers = stat["peers"].take();
    match command {
        Bitswap::Stat(args) => {
            let connected = peers.as_array().into_iter().flatten().filter(|peer| peer["connected"] == json!(true));
            stat["peers"] = connected.count().into();
            show_stat(args.output, &stat)
        }
        Bitswap::Ledger(args) => show_ledger(args, peers),
    }
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or(0)
}

fn show_stat(format: Format, stat: &Value) -> Result<(), CliError> {
    show(format, stat, || {
        let rate = |name: &str| stat[name].as_u64().map_or("none".into(), |rate| format!("{} a second", bytes(rate)));
        let rows = [
            ("blocks received", number(stat, "blocks_in").to_string()),
            ("bytes received", bytes(number(stat, "bytes_in"))),
            ("blocks sent", number(stat, "blocks_out").to_string()),
            ("bytes sent", bytes(number(stat, "bytes_out"))),
            ("received twice", number(stat, "duplicates").to_string()),
            ("refused", number(stat, "refused").to_string()),
            ("limit down", rate("limit_down")),
            ("limit up", rate("limit_up")),
            ("peers", number(stat, "peers").to_string()),
        ];
        columns(&rows.map(|(name, value)| vec![name.to_string(), value]))
    })
}

fn show_ledger(args: &Ledger, peers: Value) -> Result<(), CliError> {
    let mut peers = peers;
    if let (Some(wanted), Value::Array(peers)) = (&args.peer, &mut peers) {
        peers.retain(|peer| peer["peer"] == json!(wanted));
        if peers.is_empty() {
            let hint = "timerose bitswap ledger lists the peers that there are ledgers of";
            return Err(CliError { code: "NotFound".into(), ..CliError::usage(format!("no ledger of {wanted}"), hint) });
        }
    }
    show(args.show.output, &peers, || {
        let mut rows = vec![["PEER", "STATE", "BLOCKS IN", "BYTES IN", "BLOCKS OUT", "BYTES OUT"].map(String::from).to_vec()];
        for peer in peers.as_array().into_iter().flatten() {
            let state = if peer["connected"] == json!(true) { "connected" } else { "gone" };
            rows.push(vec![
                peer["peer"].as_str().map(plain).unwrap_or_default(),
                state.into(),
                number(peer, "blocks_in").to_string(),
                bytes(number(peer, "bytes_in")),
                number(peer, "blocks_out").to_string(),
                bytes(number(peer, "bytes_out")),
            ]);
        }
        columns(&rows)
    })
}
