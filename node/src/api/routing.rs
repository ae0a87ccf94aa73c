//! Who has what: providers of a block, and what this node tells the DHT that it has.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::Shared;
use super::calls::{ask, parse_cid};
use super::error::ApiError;
use crate::announce::Stat;
use crate::ports::ContentRequest;

/// `GET /v1/providers/CID`
pub(super) async fn providers(State(api): Shared, Path(cid): Path<String>) -> Result<Json<Value>, ApiError> {
    let cid = parse_cid(&cid)?;
    let (here, providers) = ask(&api.ports.content, |answer| ContentRequest::Providers { cid, answer }).await?;
    let shown: Vec<Value> = providers
        .iter()
        .map(|provider| {
            let addrs: Vec<String> = provider.addrs.iter().map(ToString::to_string).collect();
            json!({"peer": provider.peer.to_string(), "connected": provider.connected, "addrs": addrs})
        })
        .collect();
    Ok(Json(json!({"cid": cid.to_string(), "here": here, "providers": shown})))
}

/// `GET /v1/provide`
pub(super) async fn provide(State(api): Shared) -> Json<Stat> {
    Json(api.ports.announcements.stat())
}
