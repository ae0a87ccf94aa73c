//! Traces: what a request is part of, and what the nodes of the mesh saw of it.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use timerose_core::id::NodeId;
use timerose_core::span::{Facts, Question, Reply, Span};

use super::error::ApiError;
use super::{Api, Shared};
use crate::telemetry::{Root, hex, traceparent, unhex};

/// Begins the span of a request: in the trace that its `traceparent` names, or in a new one.
pub(super) fn begin(api: &Api, name: &'static str, headers: &HeaderMap) -> Root {
    let named = headers.get("traceparent").and_then(|value| value.to_str().ok());
    api.ports.telemetry.begin(name, named.and_then(traceparent))
}

/// Reads a trace's id, or says that it is none.
pub(super) fn parse_trace(text: &str) -> Result<[u8; 16], ApiError> {
    let hint = "a trace's id is 32 hexadecimal digits; calls and jobs tell theirs as `trace`";
    unhex(text).ok_or_else(|| ApiError::usage("that is not a trace's id", hint))
}

/// `GET /v1/traces/ID`: the spans of a trace, from all nodes that this one trusts and reaches.
pub(super) async fn trace(State(api): Shared, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let trace = parse_trace(&id)?;
    let replies = api.client.inquire(Question::Spans { trace: trace.to_vec().into() }).await?;
    let (mut spans, mut left_out) = (Vec::new(), 0_u64);
    for (node, reply) in &replies {
        if let Reply::Spans { spans: told, left_out: more } = reply {
            left_out = left_out.saturating_add(*more);
            spans.extend(told.iter().map(|span| (node, span)));
        }
    }
    if spans.is_empty() {
        return Err(ApiError::not_traced(&id));
    }
    spans.sort_by_key(|(_, span)| (span.start_us, span.end_us));
    let spans: Vec<Value> = spans.into_iter().map(|(node, span)| show(&api, node, span)).collect();
    Ok(Json(json!({"trace": id, "spans": spans, "left_out": left_out})))
}

fn show(api: &Api, node: &NodeId, span: &Span) -> Value {
    let view = api.ports.view.borrow();
    let events: Vec<Value> = span
        .events
        .iter()
        .map(|event| json!({"at_unix_us": event.at_us, "name": event.name, "facts": show_facts(&event.facts)}))
        .collect();
    json!({
        "span": hex(&span.span),
        "parent": (!span.parent.is_empty()).then(|| hex(&span.parent)),
        "name": span.name,
        "node": node.to_string(),
        "region": view.members.get(node).map(|member| member.region.as_str()),
        "start_unix_us": span.start_us,
        "duration_us": span.end_us - span.start_us,
        "facts": show_facts(&span.facts),
        "events": events,
        "failure": span.failure,
    })
}

fn show_facts(facts: &Facts) -> BTreeMap<&String, Value> {
    facts.iter().map(|(name, fact)| (name, json!(fact))).collect()
}
