//! What a node says of itself: its id, its members, its health and its counters.

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::fmt::Write;
use timerose_core::view::View;

use super::Shared;
use super::calls::ask;
use super::error::ApiError;
use crate::keys::peer_of;
use crate::ports::{ContentRequest, Counters};

/// `GET /healthz`
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /v1/id`
pub(super) async fn id(State(api): Shared) -> Json<Value> {
    let view = api.ports.view.borrow();
    let addrs = view.members.get(&view.me).map(|me| me.addrs.clone()).unwrap_or_default();
    let peer = peer_of(&view.me).map(|peer| peer.to_string());
    Json(json!({"id": view.me.to_string(), "peer": peer, "addrs": addrs, "version": env!("CARGO_PKG_VERSION")}))
}

/// `GET /v1/members`
pub(super) async fn members(State(api): Shared) -> Json<Value> {
    Json(show_members(&api.ports.view.borrow()))
}

/// The members as JSON.
pub(super) fn show_members(view: &View) -> Value {
    let members: Vec<Value> = view
        .members
        .iter()
        .map(|(id, member)| {
            json!({
                "id": id.to_string(),
                "self": *id == view.me,
                "region": member.region,
                "roles": member.roles,
                "engines": member.engines,
                "slots": member.offers.slots,
                "memory_bytes": member.offers.memory,
                "rtt_us": member.rtt_us,
                "connected": member.connected,
                "channel": member.via,
                "left": member.left,
                "epoch": member.epoch,
                "trusted": member.trusted,
                "addrs": member.addrs,
            })
        })
        .collect();
    json!(members)
}

/// What Linux says of this process, under the names that Prometheus clients give it.
fn process() -> String {
    const KIB: u64 = 1024;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let open_fds = std::fs::read_dir("/proc/self/fd").map(|entries| entries.count() as u64).ok();
    let gauges = [
        ("resident_memory_bytes", "Resident memory.", of("VmRSS:").map(|kib| kib * KIB)),
        ("open_fds", "Open file descriptors.", open_fds),
        ("threads", "Threads.", of("Threads:")),
    ];
    let mut text = String::new();
    for (name, help, value) in gauges.into_iter().filter_map(|(name, help, value)| Some((name, help, value?))) {
        // Writing to a string does not fail.
        let _ = write!(text, "# HELP process_{name} {help}\n# TYPE process_{name} gauge\nprocess_{name} {value}\n");
    }
    text
}

/// `GET /metrics`, in the Prometheus text format 0.0.4.
pub(super) async fn metrics(State(api): Shared) -> Result<Response, ApiError> {
    let moved = ask(&api.ports.content, |answer| ContentRequest::Stats { answer }).await?;
    let mut text = String::new();
    let mut put = |name: &str, kind: &str, help: &str, value: u64| {
        // Writing to a string does not fail.
        let _ = write!(text, "# HELP timerose_{name} {help}\n# TYPE timerose_{name} {kind}\ntimerose_{name} {value}\n");
    };
    let counters = &api.ports.counters;
    put("inputs_total", "counter", "Inputs that the core has taken.", Counters::read(&counters.inputs));
    put("messages_sent_total", "counter", "Messages sent to peers.", Counters::read(&counters.messages_out));
    put("messages_received_total", "counter", "Messages from peers.", Counters::read(&counters.messages_in));
    put("messages_dropped_total", "counter", "Messages that could not be sent.", Counters::read(&counters.messages_dropped));
    put(
        "streams_refused_total",
        "counter",
        "Streams refused as forged, truncated or oversized.",
        Counters::read(&counters.refused),
    );
    let posted = [
        ("envelopes_sent_total", "Envelopes published.", &counters.envelopes_out),
        ("envelopes_received_total", "Envelopes that were opened.", &counters.envelopes_in),
        ("envelopes_dropped_total", "Envelopes that found no room or no listener.", &counters.envelopes_dropped),
        ("envelopes_refused_total", "Envelopes refused as forged, altered or expired.", &counters.envelopes_refused),
        ("gossip_refused_total", "Gossip that was malformed, misplaced or replayed.", &counters.gossip_refused),
    ];
    for (name, help, counter) in posted {
        put(name, "counter", help, Counters::read(counter));
    }
    put("runs_total", "counter", "Runs of guests that ended.", Counters::read(&counters.runs));
    put("block_bytes_received_total", "counter", "Block bytes from peers.", moved.blocks_in);
    put("block_bytes_sent_total", "counter", "Block bytes to peers.", moved.blocks_out);
    let view = api.ports.view.borrow();
    let connected = view.members.values().filter(|member| member.connected).count();
    let letters = [
        ("letters_sent_total", "Letters sent for the first time.", view.letters.sent),
        ("letters_resent_total", "Letters sent again.", view.letters.again),
        ("letters_taken_total", "Letters taken.", view.letters.taken),
        ("letters_doubled_total", "Letters that came again, or were replayed.", view.letters.doubles),
        ("letters_refused_total", "Letters for another life of this node, or of one of its sender.", view.letters.refused),
        ("letters_dropped_total", "Messages given up: no room, no recipient, ten minutes of silence.", view.letters.dropped),
    ];
    for (name, help, value) in letters {
        put(name, "counter", help, value);
    }
    put("members", "gauge", "Members known, this node included.", view.members.len() as u64);
    put("members_connected", "gauge", "Members in reach, this node included.", connected as u64);
    put("calls", "gauge", "Calls that this node makes.", view.calls as u64);
    put("calls_waiting", "gauge", "Of those, calls that wait.", view.calls_waiting as u64);
    put("jobs", "gauge", "Jobs that this node runs.", view.jobs as u64);
    put("slots_used", "gauge", "Slots in use.", u64::from(view.slots_used));
    put("work", "gauge", "Work that was admitted and has not ended.", u64::from(view.work));
    drop(view);
    put("work_waiting", "gauge", "New work that waits for the loop.", Counters::read(&counters.work_waiting));
    put("outputs_waiting", "gauge", "Outputs that wait for a full driver.", Counters::read(&counters.backlog));
    text.push_str(&process());
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}
