//! The store: how much it holds, whether it is whole, and letting go of what nothing needs.

use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use serde::Deserialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::time::Duration;
use timerose_content::blockstore::{Fault, Finding, Report};
use timerose_content::gc::{self, Progress};
use tokio::sync::mpsc;

use super::Shared;
use super::calls::ask;
use super::error::{ApiError, Body};
use super::jobs::named;
use crate::client::PROGRESS_QUEUE;
use crate::ports::{ContentRequest, GcNews, Kept, RepoNews};

/// The body of a check.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VerifyBody {
    #[serde(default)]
    repair: bool,
}

/// `GET /v1/repo`
pub(super) async fn stat(State(api): Shared) -> Result<Json<Value>, ApiError> {
    let Kept { blocks, bytes, max, .. } = ask(&api.ports.content, |answer| ContentRequest::Stat { answer }).await?;
    Ok(Json(json!({"blocks": blocks, "bytes": bytes, "max": max})))
}

/// `POST /v1/repo/verify`: events `progress`, then one `result` or `error`. Whoever stops reading ends it.
pub(super) async fn verify(
    State(api): Shared,
    Body(body): Body<VerifyBody>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let (news, heard) = mpsc::channel(PROGRESS_QUEUE);
    let request = ContentRequest::Verify { repair: body.repair, news };
    api.ports.content.send(request).await.map_err(|_| ApiError::ending())?;
    let events = futures::stream::unfold(heard, |mut heard| async move {
        let event = match heard.recv().await? {
            RepoNews::Progress { checked, blocks } => named("progress", &json!({"checked": checked, "blocks": blocks})),
            RepoNews::Ended(Ok(report)) => named("result", &show(&report)),
            RepoNews::Ended(Err(failure)) => named("error", ApiError::from(failure).body()),
        };
        Some((Ok(event), heard))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

/// The body of a collection.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GcBody {
    /// Seconds for which blocks are spared after they were put or used.
    #[serde(default = "grace")]
    grace_s: u64,
}

fn grace() -> u64 {
    gc::GRACE.as_secs()
}

/// `POST /v1/repo/gc`: events `progress`, then one `result` or `error`. Whoever stops reading ends it.
pub(super) async fn gc(
    State(api): Shared,
    Body(body): Body<GcBody>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let (news, heard) = mpsc::channel(PROGRESS_QUEUE);
    let request = ContentRequest::Gc { grace: Duration::from_secs(body.grace_s), news };
    api.ports.content.send(request).await.map_err(|_| ApiError::ending())?;
    let events = futures::stream::unfold(heard, |mut heard| async move {
        let event = match heard.recv().await? {
            GcNews::Progress(Progress::Marked(marked)) => named("progress", &json!({"marked": marked})),
            GcNews::Progress(Progress::Swept { seen, removed }) => named("progress", &json!({"seen": seen, "removed": removed})),
            GcNews::Ended(Ok(gc::Report { kept, removed, freed })) => {
                named("result", &json!({"kept": kept, "removed": removed, "freed": freed}))
            }
            GcNews::Ended(Err(failure)) => named("error", ApiError::from(failure).body()),
        };
        Some((Ok(event), heard))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

fn show(report: &Report) -> Value {
    let findings: Vec<Value> = report.findings.iter().map(show_finding).collect();
    json!({
        "blocks": report.blocks,
        "bytes": report.bytes,
        "found": report.found,
        "wrong": report.wrong,
        "findings": findings,
    })
}

fn show_finding(finding: &Finding) -> Value {
    let (fault, hint) = match finding.fault {
        Fault::Corrupt => ("corrupt", "--repair removes it, so that it is fetched again; or add it again"),
        Fault::Missing => ("missing", "--repair takes it off the index, so that it is fetched again; or add it again"),
        Fault::Unlisted => ("unlisted", "a crash leaves such files; --repair takes it in"),
        Fault::Foreign => ("foreign", "it is no block: move it away"),
    };
    json!({
        "fault": fault,
        "cid": finding.cid.map(|cid| cid.to_string()),
        "path": finding.path.display().to_string(),
        "repaired": finding.repaired,
        "hint": if finding.repaired { "" } else { hint },
    })
}
