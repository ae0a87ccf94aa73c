//! What a node says of itself: its id, its members, its health and its counters.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use timerose_core::view::View;

use super::Shared;
use crate::keys::peer_of;

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
