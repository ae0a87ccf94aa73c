//! Receipts: what ran where, what came of it, and what that came of.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use cid::Cid;
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use timerose_core::failure::Failure;
use timerose_core::io::Memo;
use timerose_core::task::Arg;

use super::calls::parse_cid;
use super::error::ApiError;
use super::{Api, Shared};
use crate::shown::verify_receipt;

/// Results and inputs of one lineage; it is cut off there, and says so.
const LINEAGE_MAX: usize = 8192;
/// Steps from the result to its furthest inputs.
const DEPTH_MAX: usize = 32;
/// What is looked up together: so many receipts fit a peer's answer.
const BATCH: usize = 32;
/// Look-ups of one lineage at the same time.
const AT_ONCE: usize = 4;

/// `GET /v1/receipt/CID`: of a receipt, a task or a result.
pub(super) async fn receipt(State(api): Shared, Path(of): Path<String>) -> Result<Json<Value>, ApiError> {
    let memo = api.receipt_of(parse_cid(&of)?).await?;
    Ok(Json(verify_receipt(memo.receipt.sealed()).map_err(broken)?))
}

/// `GET /v1/proof/CID`: the same with its proof, as bytes that need nobody to be checked.
pub(super) async fn proof(State(api): Shared, Path(of): Path<String>) -> Result<Response, ApiError> {
    let memo = api.receipt_of(parse_cid(&of)?).await?;
    Ok(([(CONTENT_TYPE, "application/vnd.ipld.dag-cbor")], memo.receipt.sealed().to_vec()).into_response())
}

fn broken(error: timerose_core::record::RecordError) -> Failure {
    Failure::NodeFailed { what: format!("a receipt of this node: {error}") }
}

/// `GET /v1/lineage/CID`: a result, the results and inputs that it came of, and theirs, down to what nobody computed.
pub(super) async fn lineage(State(api): Shared, Path(of): Path<String>) -> Result<Json<Value>, ApiError> {
    let root = api.receipt_of(parse_cid(&of)?).await?;
    let mut seen: BTreeSet<Cid> = links(&root).chain(root.receipt.out.clone().ok()).collect();
    let mut next: Vec<Cid> = links(&root).collect::<BTreeSet<_>>().into_iter().collect();
    let mut results = vec![show_step(&root)];
    let (mut inputs, mut whole) = (Vec::new(), true);
    for _ in 0..DEPTH_MAX {
        let batches: Vec<Vec<Cid>> = next.chunks(BATCH).map(<[Cid]>::to_vec).collect();
        let looked = futures::stream::iter(batches.into_iter().map(|batch| api.client.search(batch)));
        let found: Vec<Vec<Option<Memo>>> = looked.buffered(AT_ONCE).try_collect().await?;
        let mut below = Vec::new();
        for (cid, memo) in next.iter().zip(found.into_iter().flatten()) {
            // A receipt of this name that has another result is not what made it.
            let Some(memo) = memo.filter(|memo| memo.receipt.out.as_ref() == Ok(cid)) else {
                inputs.push(cid.to_string());
                continue;
            };
            results.push(show_step(&memo));
            below.extend(links(&memo).filter(|link| seen.insert(*link)));
        }
        whole &= seen.len() <= LINEAGE_MAX;
        below.truncate(LINEAGE_MAX.saturating_sub(results.len() + inputs.len()));
        next = below;
        if next.is_empty() {
            break;
        }
    }
    whole &= next.is_empty();
    let result = root.receipt.out.as_ref().ok().map(|cid| cid.to_string());
    Ok(Json(json!({"result": result, "results": results, "inputs": inputs, "whole": whole})))
}

/// What a result was made of directly.
fn links(memo: &Memo) -> impl Iterator<Item = Cid> + '_ {
    memo.receipt.task.links()
}

fn show_step(memo: &Memo) -> Value {
    let receipt = &memo.receipt;
    let arg = |arg: &Arg| match arg {
        Arg::Link(cid) => json!({"cid": cid.to_string()}),
        Arg::Inline(bytes) => json!({"inline_bytes": bytes.len()}),
    };
    json!({
        "result": receipt.out.as_ref().ok().map(|cid| cid.to_string()),
        "failure": receipt.out.as_ref().err(),
        "receipt": memo.cid.to_string(),
        "function": receipt.task.function.to_string(),
        "entry": receipt.task.entry,
        "executor": receipt.iss.to_string(),
        "args": receipt.task.args.iter().map(arg).collect::<Vec<_>>(),
    })
}

impl Api {
    /// The receipt of that name, from this node or one of its peers.
    async fn receipt_of(&self, of: Cid) -> Result<Memo, ApiError> {
        let found = self.client.search(vec![of]).await?.into_iter().flatten().next();
        let asked = || {
            let view = self.ports.view.borrow();
            view.members.iter().filter(|(node, m)| **node != view.me && m.connected && m.trusted).count() as u32
        };
        Ok(found.ok_or_else(|| Failure::not_found(of, asked()))?)
    }
}
