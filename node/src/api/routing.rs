//! Who has what: providers of a block, and what this node tells the DHT that it has.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::Shared;
use super::calls::{ask, parse_cid};
use super::error::ApiError;
use crate::announce::Stat;
use crate::ports::{ContentRequest, Holder, Holders};

/// `GET /v1/providers/CID`
pub(super) async fn providers(State(api): Shared, Path(cid): Path<String>) -> Result<Json<Value>, ApiError> {
    let cid = parse_cid(&cid)?;
    let Holders { here, providers, asked, silent } =
        ask(&api.ports.content, |answer| ContentRequest::Providers { cid, answer }).await?;
    let shown: Vec<Value> = providers
        .iter()
        .map(|Holder { peer, addrs, connected, by_dht, says }| {
            let addrs: Vec<String> = addrs.iter().map(ToString::to_string).collect();
            json!({"peer": peer.to_string(), "connected": connected, "addrs": addrs, "dht": by_dht, "says": says})
        })
        .collect();
    Ok(Json(json!({"cid": cid.to_string(), "here": here, "providers": shown, "asked": asked, "silent": silent})))
}

/// `GET /v1/provide`
pub(super) async fn provide(State(api): Shared) -> Json<Stat> {
    Json(api.ports.announcements.stat())
}
