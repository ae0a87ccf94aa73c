//! Traces in transcripts: what is asked of them, and what is told.

use serde_bytes::ByteBuf;
use timerose_core::io::Output;
use timerose_core::span::{Context, Marks, Question, Reply, Seen, Span, Step};

use super::tickets::told;
use super::{Player, Words, name, number};

/// The trace that everything is part of after `traced`.
pub const CONTEXT: Context = Context { trace: [7; 16], span: [8; 8], sampled: true };

/// A span of that name, of one microsecond.
fn span(name: &&str) -> Span {
    let (span, parent) = (ByteBuf::from([9; 8]), ByteBuf::from(CONTEXT.span));
    let (facts, events, failure) = Default::default();
    Span { span, parent, name: name.to_string(), start_us: 1, end_us: 2, facts, events, failure }
}

/// `unknown`, `spans NAME…`, or `log FROM TEXT`.
pub fn reply(words: Words) -> Reply {
    match *words {
        ["unknown"] => Reply::Unknown,
        ["spans", ref names @ ..] => Reply::Spans { spans: names.iter().map(span).collect(), left_out: 0 },
        ["log", from, text] => Reply::Log { from: number(from), bytes: ByteBuf::from(text.as_bytes()), behind: 0, ended: true },
        _ => panic!("no such reply: {words:?}"),
    }
}

pub fn replied(reply: &Reply) -> String {
    match reply {
        Reply::Unknown => "unknown".into(),
        Reply::Spans { spans, .. } => spans.iter().map(|span| span.name.as_str()).collect::<Vec<_>>().join(" "),
        Reply::Log { from, bytes, .. } => format!("log from {from} {}", String::from_utf8_lossy(bytes)),
    }
}

pub fn asked_for(question: &Question) -> String {
    match question {
        Question::Spans { trace } => format!("spans of {}", trace[0]),
        Question::Log { of, from } => format!("log of {} from {from}", of[0]),
    }
}

impl Player {
    /// `spans`, or `log FROM`.
    pub fn question(&self, words: Words) -> Question {
        match *words {
            ["spans"] => Question::Spans { trace: ByteBuf::from(CONTEXT.trace) },
            ["log", from] => Question::Log { of: ByteBuf::from([1, 2]), from: number(from) },
            _ => panic!("no such question: {words:?}"),
        }
    }

    pub fn traced(&self, output: Output) -> String {
        match output {
            Output::Seen(Seen::Call(call)) => {
                let steps = call.steps.iter().map(|(at, step)| match step {
                    Step::Claimed(node) => format!("{} claimed {at}", name(node)),
                    Step::Granted(node) => format!("{} granted {at}", name(node)),
                    Step::Refused(node, why) => format!("{} {why} {at}", name(node)),
                    Step::Lost(why) => format!("{why} {at}"),
                });
                let steps = steps.collect::<Vec<_>>().join(", ");
                let outcome = call.outcome.map_or_else(str::to_string, |(node, ..)| format!("by {}", name(&node)));
                format!("seen call {} to {}: {steps}; {outcome}", call.begun, call.ended)
            }
            Output::Seen(Seen::Work(work)) => {
                let Marks { admitted, fetching, waiting, started, exited } = work.marks;
                let marks = [("fetching", fetching), ("waiting", waiting), ("started", started), ("exited", exited)];
                let marks = marks.into_iter().filter_map(|(name, at)| Some(format!(", {name} {}", at?)));
                let outcome = work.outcome.map_or_else(str::to_string, |_| "done".into());
                let (from, marks) = (name(&work.from), marks.collect::<String>());
                format!("seen work of {from} {admitted} to {}{marks}; {outcome}", work.ended)
            }
            Output::Inquire { ticket, question } => format!("inquire {} for {}", asked_for(&question), told(&ticket)),
            Output::Informed { request, replies: Ok(replies) } => {
                let replies = replies.iter().map(|(node, reply)| format!("{}: {}", name(node), replied(reply)));
                format!("informed {request}: {}", replies.collect::<Vec<_>>().join(", "))
            }
            Output::Informed { request, replies: Err(failure) } => format!("informed {request}: {}", failure.code()),
            other => panic!("not of a trace: {other:?}"),
        }
    }
}
