//! Pins: what the garbage collection spares.

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Value, json};
use timerose_content::pin::{MAX_NAME_BYTES, Mode, Pin};

use super::Shared;
use super::calls::{ask, parse_cid};
use super::error::{ApiError, Body};
use crate::ports::ContentRequest;

/// Where a list goes on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    after: Option<String>,
}

/// A new pin.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PinBody {
    cid: String,
    #[serde(default = "recursive")]
    mode: Mode,
    #[serde(default)]
    name: String,
}

fn recursive() -> Mode {
    Mode::Recursive
}

fn show(pin: &Pin) -> Value {
    json!({"cid": pin.cid.to_string(), "mode": pin.mode, "name": pin.name, "partial": pin.partial})
}

/// `GET /v1/pins`: some of them, in the order of their CIDs; with `?after=CID` those that follow. An empty answer is the end.
pub(super) async fn list(State(api): Shared, Query(query): Query<ListQuery>) -> Result<Json<Vec<Value>>, ApiError> {
    let after = query.after.as_deref().map(parse_cid).transpose()?;
    let page = ask(&api.ports.content, |answer| ContentRequest::Pins { after, answer }).await?;
    Ok(Json(page.iter().map(show).collect()))
}

/// `POST /v1/pins`: fetches what is not here, then pins.
pub(super) async fn add(State(api): Shared, Body(body): Body<PinBody>) -> Result<Json<Value>, ApiError> {
    if body.name.len() > MAX_NAME_BYTES {
        return Err(ApiError::usage(format!("the name is over {MAX_NAME_BYTES} bytes"), "choose a shorter one"));
    }
    let pin = Pin { cid: parse_cid(&body.cid)?, mode: body.mode, partial: false, name: body.name };
    let shown = show(&pin);
    ask(&api.ports.content, |answer| ContentRequest::Pin { pin, answer }).await?;
    Ok(Json(shown))
}

/// `DELETE /v1/pins/CID`
pub(super) async fn remove(State(api): Shared, Path(cid): Path<String>) -> Result<Json<Value>, ApiError> {
    let cid = parse_cid(&cid)?;
    let removed = ask(&api.ports.content, |answer| ContentRequest::Unpin { cid, answer }).await?;
    let removed = removed.ok_or_else(|| ApiError::usage(format!("{cid} is not pinned"), "timerose pin ls shows what is"))?;
    Ok(Json(show(&removed)))
}
