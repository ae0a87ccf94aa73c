//! Traces: the context that travels with a call, and what a node tells of its part in it.
//!
//! A context is that of W3C Trace Context: a trace's id, the id of the span that is the cause, and whether the trace is
//! sampled. Ids are made where entropy is; here they are carried. What the machines saw of a call leaves them as plain
//! facts ([`Seen`]); a driver makes [`Span`]s of them, which a peer that is trusted may ask for.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use cid::Cid;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::ByteBuf;

use crate::id::{Instant, NodeId};
use crate::task::Usage;

/// The most spans of one answer; an answer that leaves some out says so.
pub const SPANS_MAX: usize = 256;
/// The most events of a span, and the most facts of a span or an event.
pub const EVENTS_MAX: usize = 16;
/// The most bytes of a name or a text in a span.
pub const TEXT_MAX: usize = 256;
/// The most bytes of a log in one answer.
pub const LOG_PART_MAX: usize = 16 * 1024;

/// Where in which trace something happens. On the wire 25 bytes: the trace's id, the span's, and the flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace's id; not all zeros.
    pub trace: [u8; 16],
    /// The id of the span that is the cause; not all zeros.
    pub span: [u8; 8],
    /// Whether it is exported by whoever exports. All traces are kept in the nodes' rings.
    pub sampled: bool,
}

impl Context {
    /// The context of work that nobody waits for: it follows from the work's handle, so that another life of the node goes on
    /// with the same trace.
    pub fn of(handle: &Cid) -> Context {
        let mut bytes = [1; 24];
        for (to, from) in bytes.iter_mut().zip(handle.hash().digest()) {
            *to = *from;
        }
        Context::read(&bytes, 1).unwrap_or(Context { trace: [1; 16], span: [1; 8], sampled: true })
    }

    /// Reads both ids from 24 bytes; an id of zeros alone is none.
    fn read(ids: &[u8], flags: u8) -> Option<Context> {
        let (trace, span) = ids.split_at_checked(16)?;
        let (trace, span): ([u8; 16], [u8; 8]) = (trace.try_into().ok()?, span.try_into().ok()?);
        (trace != [0; 16] && span != [0; 8]).then_some(Context { trace, span, sampled: flags & 1 == 1 })
    }
}

impl Serialize for Context {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = [0; 25];
        bytes[..16].copy_from_slice(&self.trace);
        bytes[16..24].copy_from_slice(&self.span);
        bytes[24] = u8::from(self.sampled);
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for Context {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = ByteBuf::deserialize(deserializer)?;
        let read = match bytes.split_at_checked(24) {
            Some((ids, [flags @ (0 | 1)])) => Context::read(ids, *flags),
            _ => None,
        };
        read.ok_or_else(|| serde::de::Error::custom("a trace context is two ids that are not zero, and 0 or 1"))
    }
}

/// What happened to a call on its way to an executor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// An executor was asked.
    Claimed(NodeId),
    /// It took the work.
    Granted(NodeId),
    /// It refused.
    Refused(NodeId, &'static str),
    /// What was tried came to nothing; the failure's code.
    Lost(&'static str),
}

/// What a scheduler saw of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallSeen {
    /// Its cause.
    pub context: Context,
    /// What was called.
    pub function: Cid,
    /// Which entry of it.
    pub entry: String,
    /// When it was submitted.
    pub begun: Instant,
    /// When it was settled.
    pub ended: Instant,
    /// What happened between, at most [`EVENTS_MAX`] steps: the first ones.
    pub steps: Vec<(Instant, Step)>,
    /// Whose result it has, the TaskId there, and whether it is that of an earlier run; or the failure's code.
    pub outcome: Result<(NodeId, Cid, bool), &'static str>,
}

/// What an executor saw of a piece of work. What did not happen has no time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkSeen {
    /// Its cause.
    pub context: Context,
    /// Who asked for it.
    pub from: NodeId,
    /// What was called.
    pub function: Cid,
    /// Which entry of it.
    pub entry: String,
    /// When each part of it began.
    pub marks: Marks,
    /// When it was answered.
    pub ended: Instant,
    /// The TaskId, what the run took, and whether it is an earlier run's; or the failure's code.
    pub outcome: Result<(Cid, Usage, bool), &'static str>,
}

/// When the parts of a piece of work began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// It was admitted.
    pub admitted: Instant,
    /// Fetching.
    pub fetching: Option<Instant>,
    /// Waiting for a slot.
    pub waiting: Option<Instant>,
    /// It was given to the engine.
    pub started: Option<Instant>,
    /// The engine was done.
    pub exited: Option<Instant>,
}

/// What a machine saw of something that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A scheduler, of a call.
    Call(CallSeen),
    /// An executor, of a piece of work.
    Work(WorkSeen),
}

impl Seen {
    /// Of which trace it is.
    pub fn context(&self) -> &Context {
        match self {
            Seen::Call(call) => &call.context,
            Seen::Work(work) => &work.context,
        }
    }
}

/// A figure or a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Fact {
    /// A figure, in the unit that its name tells.
    Number(u64),
    /// A text of at most [`TEXT_MAX`] bytes.
    Text(String),
}

/// Facts by their names; those of OpenTelemetry's conventions where there is one.
pub type Facts = BTreeMap<String, Fact>;

/// A stretch of time in which a node did something for a trace. Times are microseconds since 1970 UTC by its own clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Its id, 8 bytes.
    pub span: ByteBuf,
    /// The id of the span that is its cause, 8 bytes; empty where there is none.
    pub parent: ByteBuf,
    /// What was done.
    pub name: String,
    /// When it began.
    pub start_us: u64,
    /// When it ended.
    pub end_us: u64,
    /// What else is known of it.
    pub facts: Facts,
    /// What happened in it, in order of time.
    pub events: Vec<SpanEvent>,
    /// The code of the failure that it ended with.
    pub failure: Option<String>,
}

/// Something that happened in a span.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanEvent {
    /// When.
    pub at_us: u64,
    /// What.
    pub name: String,
    /// What else is known of it.
    pub facts: Facts,
}

fn are_bounded(facts: &Facts) -> bool {
    let fits =
        |(name, fact): (&String, &Fact)| name.len() <= TEXT_MAX && !matches!(fact, Fact::Text(text) if text.len() > TEXT_MAX);
    facts.len() <= EVENTS_MAX && facts.iter().all(fits)
}

impl Span {
    /// Whether it is as a span of a peer must be: ids of the right length, a time that does not run back, lists and texts
    /// within their bounds.
    pub fn is_bounded(&self) -> bool {
        let event = |event: &SpanEvent| event.name.len() <= TEXT_MAX && are_bounded(&event.facts);
        self.span.len() == 8
            && matches!(self.parent.len(), 0 | 8)
            && self.start_us <= self.end_us
            && self.name.len() <= TEXT_MAX
            && self.failure.as_ref().is_none_or(|code| code.len() <= TEXT_MAX)
            && are_bounded(&self.facts)
            && self.events.len() <= EVENTS_MAX
            && self.events.iter().all(event)
    }
}

/// What a node may be asked about what it saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// The spans of a trace, by its id of 16 bytes.
    Spans {
        /// Which.
        trace: ByteBuf,
    },
    /// What a run wrote to its standard error.
    Log {
        /// The TaskId, as bytes; or the id of the trace that it is of, for whoever does not know the TaskId yet.
        of: ByteBuf,
        /// From which byte on, counted from the first that it wrote.
        from: u64,
    },
}

/// The most bytes of a name in a [`Question`]: a TaskId has 36.
pub const NAME_MAX: usize = 64;

impl Question {
    /// Whether its names have lengths that names may have.
    pub fn is_bounded(&self) -> bool {
        match self {
            Question::Spans { trace } => trace.len() == 16,
            Question::Log { of, .. } => of.len() <= NAME_MAX,
        }
    }
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Nothing is known of it here.
    Unknown,
    /// Spans, at most [`SPANS_MAX`].
    Spans {
        /// In order of their beginning.
        spans: Vec<Span>,
        /// How many were left out.
        left_out: u64,
    },
    /// A part of a log.
    Log {
        /// Where it begins: later than was asked for where the older bytes are gone.
        from: u64,
        /// At most [`LOG_PART_MAX`] bytes, as the guest wrote them.
        bytes: ByteBuf,
        /// How many bytes follow that are here already.
        behind: u64,
        /// Whether the run has ended.
        ended: bool,
    },
}

impl Reply {
    /// Whether every list and text is within its bound.
    pub fn is_bounded(&self) -> bool {
        match self {
            Reply::Unknown => true,
            Reply::Spans { spans, .. } => spans.len() <= SPANS_MAX && spans.iter().all(Span::is_bounded),
            Reply::Log { bytes, .. } => bytes.len() <= LOG_PART_MAX,
        }
    }
}
