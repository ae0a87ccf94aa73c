//! The exchange of blocks: what came and went, in all and by peer.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use timerose_content::{Ledger, Stats};

use super::Shared;
use super::calls::ask;
use super::error::ApiError;
use crate::ports::{ContentRequest, Exchanged};

/// `GET /v1/bitswap`
pub(super) async fn bitswap(State(api): Shared) -> Result<Json<Value>, ApiError> {
    let Exchanged { stats, ledgers, up, down } = ask(&api.ports.content, |answer| ContentRequest::Exchanged { answer }).await?;
    let Stats { bytes_in, bytes_out, blocks_in, blocks_out, duplicates, refused } = stats;
    let ledger = |(peer, ledger): &(libp2p::PeerId, Ledger)| {
        let Ledger { bytes_in, bytes_out, blocks_in, blocks_out, connected } = ledger;
        json!({
            "peer": peer.to_string(),
            "connected": connected,
            "blocks_in": blocks_in,
            "bytes_in": bytes_in,
            "blocks_out": blocks_out,
            "bytes_out": bytes_out,
        })
    };
    Ok(Json(json!({
        "blocks_in": blocks_in,
        "bytes_in": bytes_in,
        "blocks_out": blocks_out,
        "bytes_out": bytes_out,
        "duplicates": duplicates,
        "refused": refused,
        "limit_up": up,
        "limit_down": down,
        "peers": ledgers.iter().map(ledger).collect::<Vec<_>>(),
    })))
}
