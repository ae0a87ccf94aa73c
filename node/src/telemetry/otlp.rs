//! Spans as OTLP has them, version 1 of its protobuf: an `ExportTraceServiceRequest`.
//!
//! Of the messages, the fields that are used; names and numbers are those of `opentelemetry/proto/trace/v1/trace.proto`.

use prost::Message;
use timerose_core::span::{Fact, Facts, Span};

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<OtlpSpan>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct OtlpSpan {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, repeated, tag = "11")]
    events: Vec<Event>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(fixed64, tag = "1")]
    time_unix_nano: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "3")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 3")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
}

const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const STATUS_ERROR: i32 = 2;

/// A request with the spans of a node, of which `resource` tells.
pub(super) fn request(resource: &[(String, String)], spans: Vec<([u8; 16], Span)>) -> Vec<u8> {
    let attributes = resource.iter().map(|(key, value)| pair(key.clone(), Value::Text(value.clone()))).collect();
    let scope = Some(Scope { name: "timerose".into(), version: env!("CARGO_PKG_VERSION").into() });
    let spans = spans.into_iter().map(|(trace, span)| convert(trace, span)).collect();
    let (resource, scope_spans) = (Some(Resource { attributes }), vec![ScopeSpans { scope, spans }]);
    Request { resource_spans: vec![ResourceSpans { resource, scope_spans }] }.encode_to_vec()
}

fn convert(trace: [u8; 16], span: Span) -> OtlpSpan {
    let kind = match span.name.as_str() {
        "schedule" => CLIENT,
        "execute" => SERVER,
        // A method and a route.
        name if name.contains(' ') => SERVER,
        _ => INTERNAL,
    };
    let event = |event: timerose_core::span::SpanEvent| Event {
        time_unix_nano: nanos(event.at_us),
        name: event.name,
        attributes: pairs(event.facts),
    };
    OtlpSpan {
        trace_id: trace.to_vec(),
        span_id: span.span.into_vec(),
        parent_span_id: span.parent.into_vec(),
        name: span.name,
        kind,
        start_time_unix_nano: nanos(span.start_us),
        end_time_unix_nano: nanos(span.end_us),
        attributes: pairs(span.facts),
        events: span.events.into_iter().map(event).collect(),
        status: span.failure.map(|message| Status { message, code: STATUS_ERROR }),
    }
}

fn nanos(us: u64) -> u64 {
    us.saturating_mul(1000)
}

fn pair(key: String, value: Value) -> KeyValue {
    KeyValue { key, value: Some(AnyValue { value: Some(value) }) }
}

fn pairs(facts: Facts) -> Vec<KeyValue> {
    let value = |fact| match fact {
        Fact::Number(number) => Value::Number(i64::try_from(number).unwrap_or(i64::MAX)),
        Fact::Text(text) => Value::Text(text),
    };
    facts.into_iter().map(|(key, fact)| pair(key, value(fact))).collect()
}
