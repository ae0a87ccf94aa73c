//! Spans: what is shown and exported of what was seen.

use serde_bytes::ByteBuf;
use std::sync::Arc;
use timerose_core::id::Instant;
use timerose_core::span::TEXT_MAX;
use timerose_core::span::{
    CallSeen, Context, EVENTS_MAX, Fact, Facts, Marks, Reply, SPANS_MAX, Seen, Span, SpanEvent, Step, WorkSeen,
};

use super::ring::{Record, RootSeen};

/// The most spans of one record: an execution and its parts.
const PARTS_MAX: u64 = 8;

/// The spans of some records, in order of their beginning, as an answer. The clock of the records began at `begin_us`.
pub(super) fn reply(records: &[Arc<(u64, Record)>], begin_us: u64) -> Reply {
    let mut spans: Vec<Span> = records.iter().flat_map(|record| of(record.0, &record.1, begin_us)).collect();
    spans.sort_by_key(|span| span.start_us);
    let left_out = spans.len().saturating_sub(SPANS_MAX) as u64;
    spans.truncate(SPANS_MAX);
    if spans.is_empty() { Reply::Unknown } else { Reply::Spans { spans, left_out } }
}

/// The spans of one record.
pub(super) fn of(id: u64, record: &Record, begin_us: u64) -> Vec<Span> {
    let make = Make { id, begin_us };
    match record {
        Record::Root(root) => vec![make.root(root)],
        Record::Seen(Seen::Call(call)) => vec![make.call(call)],
        Record::Seen(Seen::Work(work)) => make.work(work),
    }
}

struct Make {
    id: u64,
    begin_us: u64,
}

impl Make {
    /// The id of a part of the record: numbers of records are far apart, so that those of their parts are their own.
    fn part(&self, part: u64) -> ByteBuf {
        ByteBuf::from(self.id.wrapping_add(part % PARTS_MAX).max(1).to_be_bytes())
    }

    fn span(&self, part: u64, context: &Context, name: &str, (begun, ended): (Instant, Instant)) -> Span {
        Span {
            span: self.part(part),
            parent: ByteBuf::from(context.span),
            name: name.to_string(),
            start_us: self.begin_us + begun,
            end_us: self.begin_us + ended.max(begun),
            facts: Facts::new(),
            events: Vec::new(),
            failure: None,
        }
    }

    fn root(&self, root: &RootSeen) -> Span {
        let span = self.span(0, &root.context, root.name, (root.begun, root.ended));
        let parent = root.parent.map(ByteBuf::from).unwrap_or_default();
        let mut facts = Facts::new();
        if let Some((method, route)) = root.name.split_once(' ') {
            facts.insert("http.request.method".into(), text(method));
            facts.insert("http.route".into(), text(route));
        }
        let failure = root.failure.map(str::to_string);
        Span { span: ByteBuf::from(root.context.span), parent, facts, failure, ..span }
    }

    fn call(&self, call: &CallSeen) -> Span {
        let mut span = self.span(0, &call.context, "schedule", (call.begun, call.ended));
        span.facts = function(&call.function.to_string(), &call.entry);
        match &call.outcome {
            Ok((executor, task, reused)) => {
                span.facts.insert("faas.invocation_id".into(), text(&task.to_string()));
                span.facts.insert("timerose.executor".into(), text(&executor.to_string()));
                span.facts.insert("timerose.reused".into(), Fact::Number(u64::from(*reused)));
            }
            Err(code) => span.failure = Some(code.to_string()),
        }
        let event = |(at, step): &(Instant, Step)| {
            let (name, node, why) = match step {
                Step::Claimed(node) => ("claimed", Some(node), None),
                Step::Granted(node) => ("granted", Some(node), None),
                Step::Refused(node, why) => ("refused", Some(node), Some(why)),
                Step::Lost(why) => ("lost", None, Some(why)),
            };
            let node = node.map(|node| ("timerose.node".to_string(), text(&node.to_string())));
            let why = why.map(|why| ("timerose.reason".to_string(), text(why)));
            SpanEvent { at_us: self.begin_us + at, name: name.into(), facts: node.into_iter().chain(why).collect() }
        };
        span.events = call.steps.iter().take(EVENTS_MAX).map(event).collect();
        span
    }

    /// An execution, and its parts as far as it came.
    fn work(&self, work: &WorkSeen) -> Vec<Span> {
        let Marks { admitted, fetching, waiting, started, exited } = work.marks;
        let mut whole = self.span(0, &work.context, "execute", (admitted, work.ended));
        whole.facts = function(&work.function.to_string(), &work.entry);
        whole.facts.insert("timerose.scheduler".into(), text(&work.from.to_string()));
        let mut usage = None;
        match &work.outcome {
            Ok((task, used, reused)) => {
                usage = Some(*used);
                whole.facts.insert("faas.invocation_id".into(), text(&task.to_string()));
                whole.facts.insert("timerose.reused".into(), Fact::Number(u64::from(*reused)));
                whole.facts.insert("timerose.memory_bytes".into(), Fact::Number(used.memory));
                whole.facts.insert("timerose.input_bytes".into(), Fact::Number(used.input));
            }
            Err(code) => whole.failure = Some(code.to_string()),
        }
        let inside = Context { span: self.id.to_be_bytes(), ..work.context };
        let mut spans = vec![whole];
        let mut part = |name, from: Option<Instant>, to: Option<Instant>| {
            let Some(from) = from else { return };
            let mut span = self.span(spans.len() as u64, &inside, name, (from, to.unwrap_or(work.ended)));
            if let (Some(used), "fetch") = (usage, name) {
                span.facts.insert("timerose.fetched_bytes".into(), Fact::Number(used.fetched));
            }
            spans.push(span);
        };
        part("fetch", fetching, waiting);
        part("wait", waiting, started);
        // The run's own time is the last before the engine was done; what is before went into compiling and setting up.
        let running = exited.map(|exited| exited.saturating_sub(usage.map_or(0, |used| used.run_us)));
        let running = running.map(|at| at.max(started.unwrap_or(at)));
        part("start", started, running);
        part("run", running, exited);
        part("return", exited.filter(|exited| *exited < work.ended), None);
        spans
    }
}

fn text(text: &str) -> Fact {
    let cut = (0..=text.len().min(TEXT_MAX)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    Fact::Text(text[..cut].to_string())
}

/// What was called, by the names of OpenTelemetry's conventions for functions.
fn function(name: &str, entry: &str) -> Facts {
    let mut facts = Facts::from([("faas.name".to_string(), text(name))]);
    if !entry.is_empty() {
        facts.insert("timerose.entry".into(), text(entry));
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use timerose_core::id::{NodeId, RAW, cid_of};
    use timerose_core::task::Usage;

    fn work(outcome: Result<(cid::Cid, Usage, bool), &'static str>, marks: Marks) -> Record {
        let context = Context { trace: [1; 16], span: [2; 8], sampled: true };
        let (from, function) = (NodeId([1; 32]), cid_of(RAW, b"f"));
        Record::Seen(Seen::Work(WorkSeen { context, from, function, entry: "e".into(), marks, ended: 100, outcome }))
    }

    fn shown(record: &Record) -> Vec<String> {
        let spans = of(1 << 40, record, 1000);
        assert!(spans.iter().all(Span::is_bounded), "a peer would refuse it");
        assert!(spans[1..].iter().all(|span| span.parent == spans[0].span), "parts of the whole");
        spans.iter().map(|span| format!("{} {}..{}", span.name, span.start_us, span.end_us)).collect()
    }

    #[test]
    fn an_execution_is_shown_with_its_parts() {
        let marks = Marks { admitted: 1, fetching: Some(2), waiting: Some(10), started: Some(12), exited: Some(90) };
        let usage = Usage { run_us: 50, ..Usage::default() };
        let record = work(Ok((cid_of(RAW, b"t"), usage, false)), marks);
        let parts = ["execute 1001..1100", "fetch 1002..1010", "wait 1010..1012", "start 1012..1040", "run 1040..1090"];
        assert_eq!(shown(&record)[..5], parts);
        assert_eq!(shown(&record)[5..], ["return 1090..1100"]);
    }

    #[test]
    fn an_execution_that_failed_early_has_the_parts_that_it_came_to() {
        let record = work(Err("NotFound"), Marks { admitted: 1, fetching: Some(2), ..Marks::default() });
        assert_eq!(shown(&record), ["execute 1001..1100", "fetch 1002..1100"]);
        assert_eq!(of(1, &record, 0)[0].failure.as_deref(), Some("NotFound"));
    }

    #[test]
    fn an_answer_is_bounded_and_says_what_it_leaves_out() {
        let records: Vec<_> = (0..400).map(|id| Arc::new((id * 100, work(Err("Cancelled"), Marks::default())))).collect();
        let Reply::Spans { spans, left_out } = reply(&records, 0) else { panic!("no spans") };
        assert_eq!((spans.len(), left_out), (SPANS_MAX, 400 - SPANS_MAX as u64));
        assert_eq!(reply(&[], 0), Reply::Unknown);
    }
}
