//! A task, its identity, its memo key, and what became of it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use cid::Cid;
use ipld_core::ipld::Ipld;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::failure::Failure;
use crate::id::{DAG_CBOR, NodeId, cid_of};
use crate::record::{Record, to_cbor};

/// The most inline bytes of one argument; anything larger goes by CID.
pub const INLINE_MAX: usize = 32 * 1024;
/// The most arguments of one task.
pub const ARGS_MAX: usize = 1024;
/// The semantics under which results may be shared; bumped by hand when a golden result changes, not with the engine.
pub const PROFILE: &str = "timerose/1";

/// A function, an entry, and ordered arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The function's CID.
    #[serde(rename = "fn")]
    pub function: Cid,
    /// Which entry of it; empty where it has only one.
    pub entry: String,
    /// The arguments, in order.
    pub args: Vec<Arg>,
    /// Tells apart equal tasks that are meant to run more than once; 0 for pure work.
    #[serde(default)]
    pub seq: u64,
}

/// An argument: content by its address, or a few bytes carried along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arg {
    /// A UnixFS file or a raw block.
    Link(Cid),
    /// At most [`INLINE_MAX`] bytes.
    Inline(Vec<u8>),
}

impl Serialize for Arg {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Arg::Link(cid) => cid.serialize(serializer),
            Arg::Inline(bytes) => serializer.serialize_bytes(bytes),
        }
    }
}

impl<'de> Deserialize<'de> for Arg {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Ipld::deserialize(deserializer)? {
            Ipld::Link(cid) => Ok(Arg::Link(cid)),
            Ipld::Bytes(bytes) if bytes.len() <= INLINE_MAX => Ok(Arg::Inline(bytes)),
            Ipld::Bytes(_) => Err(serde::de::Error::custom("an inline argument over 32 KiB")),
            _ => Err(serde::de::Error::custom("an argument is a link or bytes")),
        }
    }
}

/// The most bytes of a task's entry and arguments together, so that a claim fits a frame and a receipt its bound.
pub const TASK_MAX: usize = 448 * 1024;

impl Task {
    /// Checks that the task can travel: the number of its arguments and their bytes.
    pub fn check(&self) -> Result<(), Failure> {
        let bytes = self.size();
        if self.args.len() > ARGS_MAX {
            let (wanted, got) = (format!("at most {ARGS_MAX} arguments"), format!("{}", self.args.len()));
            return Err(Failure::BadArgument { index: ARGS_MAX as u32, wanted, got });
        }
        if let Some(index) = self.args.iter().position(|arg| matches!(arg, Arg::Inline(bytes) if bytes.len() > INLINE_MAX)) {
            let (wanted, got) = (format!("at most {INLINE_MAX} inline bytes"), "more: pass its CID".into());
            return Err(Failure::BadArgument { index: index as u32, wanted, got });
        }
        if bytes > TASK_MAX {
            let (wanted, got) = (format!("at most {TASK_MAX} inline bytes in all"), format!("{bytes}: pass CIDs"));
            return Err(Failure::BadArgument { index: 0, wanted, got });
        }
        Ok(())
    }

    /// The bytes of its entry and arguments as they travel.
    pub fn size(&self) -> usize {
        // A link takes 41 bytes, the head of a byte string up to five.
        let sizes = self.args.iter().map(|arg| if let Arg::Inline(bytes) = arg { bytes.len() + 5 } else { 41 });
        self.entry.len() + sizes.sum::<usize>()
    }

    /// The CIDs among the arguments.
    pub fn links(&self) -> impl Iterator<Item = Cid> + '_ {
        self.args.iter().filter_map(|a| match a {
            Arg::Link(cid) => Some(*cid),
            Arg::Inline(_) => None,
        })
    }

    /// The TaskId: the CID of the UCAN task `{sub, cmd, args, nonce}` that `subject` asks for.
    pub fn id(&self, subject: &NodeId) -> Cid {
        #[derive(Serialize)]
        struct UcanTask<'a> {
            sub: &'a NodeId,
            cmd: &'static str,
            args: Args<'a>,
            nonce: &'a serde_bytes::Bytes,
        }
        #[derive(Serialize)]
        struct Args<'a> {
            r#fn: Cid,
            entry: &'a str,
            args: &'a [Arg],
        }
        let nonce = self.seq.to_be_bytes();
        let nonce = if self.seq == 0 { &[][..] } else { &nonce[..] };
        let task = UcanTask {
            sub: subject,
            cmd: "/timerose/fn/invoke",
            args: Args { r#fn: self.function, entry: &self.entry, args: &self.args },
            nonce: serde_bytes::Bytes::new(nonce),
        };
        cid_of(DAG_CBOR, &to_cbor(&task))
    }

    /// What a pure result may be reused under.
    pub fn memo_key(&self) -> Cid {
        #[derive(Serialize)]
        struct Key<'a> {
            r#fn: Cid,
            entry: &'a str,
            args: &'a [Arg],
            profile: &'static str,
            /// Reserved: results of different namespaces are never shared.
            namespace: &'static str,
        }
        let key = Key { r#fn: self.function, entry: &self.entry, args: &self.args, profile: PROFILE, namespace: "" };
        cid_of(DAG_CBOR, &to_cbor(&key))
    }
}

/// What a task gave: a result by its CID, or a failure.
pub type Outcome = Result<Done, Failure>;

/// A result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The TaskId.
    pub task: Cid,
    /// The result's CID: that of a file with the same bytes.
    pub result: Cid,
    /// Its length in bytes.
    pub size: u64,
    /// The receipt's CID.
    pub receipt: Cid,
    /// What the run took.
    pub usage: Usage,
    /// Whether it comes of an earlier run of an equal task.
    pub reused: bool,
}

/// What a run took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Microseconds of execution.
    pub run_us: u64,
    /// Microseconds of fetching before it.
    pub fetch_us: u64,
    /// Bytes that came from other nodes for it.
    pub fetched: u64,
    /// Bytes of the arguments.
    pub input: u64,
    /// The most guest memory, in bytes.
    pub memory: u64,
}

/// A statement: this task ran here, and this came of it. It bears no signature of its own: its executor signs many
/// together, and each is kept and passed on as a [`Proof`](crate::proof::Proof).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The executor, whose key must have signed the root above it.
    pub iss: NodeId,
    /// The TaskId.
    pub ran: Cid,
    /// The task itself, so that a receipt explains itself.
    pub task: Task,
    /// Deterministic facts only: the result's CID, or the failure's code.
    pub out: Result<Cid, String>,
    /// The result's length in bytes; 0 for a failure.
    pub size: u64,
    /// What it took.
    pub meta: Usage,
    /// When it ended: milliseconds since 1970 UTC by the executor's clock.
    pub at: u64,
}

impl Record for Receipt {
    const SCHEMA: &'static str = "timerose/receipt";
    /// A task may carry many inline arguments.
    const MAX_BYTES: usize = 512 * 1024;
}
