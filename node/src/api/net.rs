//! What goes over the network: by protocol, by topic, by transport.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use timerose_content::Stats;

use super::Shared;
use super::calls::ask;
use super::error::ApiError;
use crate::net::{NetStat, Reachable, TopicKind};
use crate::ports::{ContentRequest, Counters};

/// `GET /v1/net`
pub(super) async fn stat(State(api): Shared) -> Result<Json<Value>, ApiError> {
    let moved = ask(&api.ports.content, |answer| ContentRequest::Exchanged { answer }).await?.stats;
    let stat = api.ports.net.stat().await.ok_or_else(ApiError::ending)?;
    Ok(Json(show(&api.ports.counters, &moved, &stat)))
}

fn show(counters: &Counters, moved: &Stats, stat: &NetStat) -> Value {
    let connections =
        stat.connections.iter().map(|(transport, of)| json!({"transport": transport, "in": of.inbound, "out": of.outbound}));
    json!({
        "peers": stat.peers,
        "peers_relayed": stat.peers_relayed,
        "reachable": stat.reachable.map(Reachable::name),
        "dht": {"protocol": stat.dht, "mode": if stat.dht_server { "server" } else { "client" }},
        "connections": connections.collect::<Vec<Value>>(),
        "relay": {"reservations": stat.reservations, "circuits": stat.circuits},
        "protocols": [
            {
                "protocol": "tasks",
                "in": Counters::read(&counters.messages_in),
                "bytes_in": Counters::read(&counters.message_bytes_in),
                "out": Counters::read(&counters.messages_out),
                "bytes_out": Counters::read(&counters.message_bytes_out),
                "dropped": Counters::read(&counters.messages_dropped),
                "refused": Counters::read(&counters.refused),
            },
            {
                "protocol": "bitswap",
                "in": moved.blocks_in,
                "bytes_in": moved.bytes_in,
                "out": moved.blocks_out,
                "bytes_out": moved.bytes_out,
                "dropped": null,
                "refused": moved.refused,
            },
            {
                "protocol": "kad",
                "in": stat.kad_in,
                "bytes_in": null,
                "out": stat.kad_out,
                "bytes_out": null,
                "dropped": null,
                "refused": null,
            },
        ],
        "topics": TopicKind::ALL.map(|kind| show_topic(kind, stat)),
        "copies_dropped": stat.copies_dropped,
    })
}

fn show_topic(kind: TopicKind, stat: &NetStat) -> Value {
    let of = stat.topics[kind as usize];
    json!({
        "topic": kind.name(),
        "in": of.received,
        "bytes_in": of.received_bytes,
        "out": of.sent,
        "bytes_out": of.sent_bytes,
        "dropped": of.dropped,
        "refused": of.refused,
        "limited": of.limited,
        "joined": of.joined,
        "listeners": of.listeners,
        "mesh": of.mesh,
    })
}
