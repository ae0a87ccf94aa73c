//! Where a function would run: the scheduler's own ranking, with how each executor is reached.

use axum::Json;
use axum::extract::{Query, State};
use cid::Cid;
use serde_json::{Value, json};
use std::time::Duration;
use timerose_core::envelope::Lane;
use timerose_core::id::NodeId;
use timerose_core::placement::{Candidate, Ranking, Unfit};
use timerose_core::task::{Arg, Task};
use timerose_core::view::View;

use super::Shared;
use super::calls::parse_cid;
use super::error::ApiError;

/// How long the manifest and the holders of the arguments may take to be found.
const WAIT: Duration = Duration::from_secs(30);

const HINT: &str = "it takes fn=CID, and perhaps entry=NAME and arg=CID, once for each argument";

/// `GET /v1/executors?fn=CID&entry=NAME&arg=CID…`
pub(super) async fn executors(State(api): Shared, Query(query): Query<Vec<(String, String)>>) -> Result<Json<Value>, ApiError> {
    let task = task_of(query)?;
    let function = task.function;
    let ranking = api.client.rank(task, WAIT).await?;
    Ok(Json(show_ranking(&function, &ranking, &api.ports.view.borrow())))
}

/// The call that a query names.
fn task_of(query: Vec<(String, String)>) -> Result<Task, ApiError> {
    let (mut function, mut entry, mut args) = (None, String::new(), Vec::new());
    for (name, value) in query {
        match name.as_str() {
            "fn" => function = Some(parse_cid(&value)?),
            "entry" => entry = value,
            "arg" => args.push(Arg::Link(parse_cid(&value)?)),
            _ => return Err(ApiError::usage(format!("no such part of the query: {name:?}"), HINT)),
        }
    }
    let function = function.ok_or_else(|| ApiError::usage("which function?", HINT))?;
    Ok(Task { function, entry, args, seq: 0 })
}

fn show_ranking(function: &Cid, ranking: &Ranking, view: &View) -> Value {
    let suited: Vec<Value> = ranking.suited.iter().map(|candidate| show_candidate(candidate, view)).collect();
    let other = |(node, why): &(NodeId, Unfit)| {
        json!({
            "node": node.to_string(),
            "region": view.members.get(node).map(|member| &member.region),
            "reason": reason(*why),
        })
    };
    json!({
        "fn": function.to_string(),
        "reply_topic": Lane::Replies.topic(&view.me),
        "executors": suited,
        "others": ranking.others.iter().map(other).collect::<Vec<Value>>(),
    })
}

/// What is known of an executor, and what the scheduler makes of it. It may have gone since it was ranked.
fn show_candidate(candidate: &Candidate, view: &View) -> Value {
    let member = view.members.get(&candidate.node);
    json!({
        "node": candidate.node.to_string(),
        "self": candidate.node == view.me,
        "region": member.map(|member| &member.region),
        "addrs": member.map(|member| &member.addrs),
        "channel": member.and_then(|member| member.via),
        "request_topic": Lane::Tasks.topic(&candidate.node),
        "cost_us": candidate.cost_us(),
        "rtt_us": candidate.rtt_us,
        "ahead": candidate.ahead,
        "slots": candidate.slots,
        "run_us": candidate.run_us,
        "missing_bytes": candidate.missing,
        "ns_per_byte": candidate.ns_per_byte,
        "rest_us": candidate.rest_us,
        "open": candidate.open,
    })
}

/// Why a member is not asked, in words.
fn reason(why: Unfit) -> &'static str {
    match why {
        Unfit::Left => "left",
        Unfit::Stranger => "not trusted",
        Unfit::NoExecutor => "runs no work for others",
        Unfit::Engine => "lacks the engine",
        Unfit::Slots => "has no slots",
        Unfit::Memory => "offers too little memory",
        Unfit::OutOfReach => "out of reach",
    }
}
