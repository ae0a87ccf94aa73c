//! Envelopes: what travels on a PubSub topic, signed by its sender and sealed to its recipient.
//!
//! Whoever listens on a topic sees who writes to whom, how often and how much, and nothing else. An envelope is good for
//! one life of its recipient and for a minute; a sender seals a retransmission anew, so that the same bytes twice are a
//! replay. The curves and ciphers are a driver's, given here as closures.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::delegation::Delegation;
use crate::id::{NodeId, Now};
use crate::message::{BODY_MAX, Message};
use crate::record::{Record, RecordError, Signed, Verified, decode, encode, open};
use crate::task::{Arg, Task};

/// The largest letter, in bytes; what is larger goes by CID: see [`Message::fits_a_letter`].
pub const LETTER_MAX: usize = 34 * 1024;
/// The most bytes of a task's entry and arguments in a letter: what is larger has to name its arguments by CID.
pub const TASK_MAX: usize = BODY_MAX - 2048;
/// The most acknowledgements of one letter.
pub const ACKS_MAX: usize = 256;
/// What sealing adds to a letter, in bytes: the tag of ChaCha20-Poly1305.
pub const TAG: usize = 16;
/// How long an envelope is good for, in seconds. Each retransmission is a new one.
const GOOD_SECONDS: u64 = 60;
/// How far two clocks may differ, in seconds.
const CLOCK_SKEW_SECONDS: u64 = 30;

/// Which of its two topics a node is written to on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lane {
    /// `timerose/1/tasks/<executor>`: what schedulers say.
    Tasks,
    /// `timerose/1/replies/<client>`: what executors answer.
    Replies,
}

/// What all topics of the mesh begin with; its number is the version of what is said on them.
pub const TOPICS: &str = "timerose/1/";

impl Lane {
    /// A node's topic.
    pub fn topic(self, node: &NodeId) -> String {
        let kind = if self == Lane::Tasks { "tasks" } else { "replies" };
        format!("{TOPICS}{kind}/{node}")
    }
}

/// How messages reach a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// A stream of its own, `/timerose/task/1`.
    Stream,
    /// Its PubSub topics.
    PubSub,
}

impl Via {
    /// How a task has to travel that nobody sent a certain way: one that would not fit a letter by stream alone.
    pub fn of(task: &Task) -> Option<Via> {
        (inline_bytes(task) > TASK_MAX).then_some(Via::Stream)
    }
}

/// The bytes that a task carries along.
pub fn inline_bytes(task: &Task) -> usize {
    task.args.iter().map(|arg| if let Arg::Inline(bytes) = arg { bytes.len() + 5 } else { 41 }).sum::<usize>() + task.entry.len()
}

/// What is said, before it is sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// Numbers of letters that arrived; at most [`ACKS_MAX`].
    pub acks: Vec<u64>,
    /// The same message as on a stream; none in a mere acknowledgement.
    pub message: Option<Message>,
    /// A signed [`Delegation`], where the sender asks in the place of a node; with each claim, or before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegation: Option<ByteBuf>,
}

impl Record for Letter {
    const SCHEMA: &'static str = "timerose/letter";
    const MAX_BYTES: usize = LETTER_MAX;
}

/// A sealed letter and its address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Who writes.
    pub iss: NodeId,
    /// To whom.
    pub to: NodeId,
    /// On which of its topics.
    pub lane: Lane,
    /// The sender's life: the epoch of its advert.
    pub epoch: u64,
    /// The recipient's life, for which alone it is meant.
    pub life: u64,
    /// Counts the letters of the sender's life; 0 for a mere acknowledgement, which is not acknowledged itself.
    pub seq: u64,
    /// Until when it is good: seconds since 1970 UTC.
    pub exp: u64,
    /// The ephemeral X25519 public key, 32 bytes.
    #[serde(with = "serde_bytes")]
    pub key: Vec<u8>,
    /// The letter, sealed.
    #[serde(with = "serde_bytes")]
    pub body: Vec<u8>,
}

impl Record for Envelope {
    const SCHEMA: &'static str = "timerose/envelope";
    const MAX_BYTES: usize = LETTER_MAX + 1024;
}

impl Signed for Envelope {
    fn issuer(&self) -> NodeId {
        self.iss
    }
}

/// Why an envelope was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvelopeError {
    /// Not an envelope, or its signature is not the sender's.
    Record(RecordError),
    /// It is for somebody else.
    NotForMe {
        /// For whom.
        to: NodeId,
    },
    /// It is too old, or good for longer than an envelope may be.
    Expired {
        /// Until when it was good, in seconds since 1970 UTC.
        exp: u64,
    },
    /// It was not sealed to this node by the sender who signed it.
    Unreadable {
        /// Who signed it.
        issuer: NodeId,
    },
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EnvelopeError::Record(why) => write!(f, "{why}"),
            EnvelopeError::NotForMe { to } => write!(f, "envelope meant for {to}"),
            EnvelopeError::Expired { exp } => write!(f, "envelope expired or too long: {exp}; are the clocks right?"),
            EnvelopeError::Unreadable { issuer } => write!(f, "envelope signed by {issuer} and not sealed by it"),
        }
    }
}

impl core::error::Error for EnvelopeError {}

impl Envelope {
    /// The address of a letter that is sealed now; the key and the body are still to come.
    pub fn address(iss: NodeId, now: Now, post: &Post) -> Envelope {
        let exp = now.unix_ms / 1000 + GOOD_SECONDS;
        let Post { to, lane, epoch, life, seq, .. } = *post;
        Envelope { iss, to, lane, epoch, life, seq, exp, key: Vec::new(), body: Vec::new() }
    }

    /// Reads an envelope without checking who signed it: for nodes that only pass it on.
    pub fn peek(bytes: &[u8]) -> Result<Envelope, RecordError> {
        open::<Envelope>(bytes, |_, _, _| true).and_then(|envelope| {
            let envelope = envelope.into_value();
            let sane = envelope.key.len() == 32 && (TAG..=LETTER_MAX + TAG).contains(&envelope.body.len());
            if sane { Ok(envelope) } else { Err(RecordError::Malformed(String::from("a key or a body of impossible size"))) }
        })
    }

    /// Whether it is good now.
    pub fn is_good(&self, now: Now) -> bool {
        let now = now.unix_ms / 1000;
        // The sender says `exp`: it may be anything.
        (now.saturating_sub(CLOCK_SKEW_SECONDS)..=now + GOOD_SECONDS + CLOCK_SKEW_SECONDS).contains(&self.exp)
    }

    /// Opens an envelope: `verify` says whether a signature is that of a key over some bytes, `unseal` gives the letter's
    /// bytes if they were sealed to this node by the sender. A delegation in the letter is verified too, and no more: whether it
    /// gives a right is decided later.
    pub fn open(
        bytes: &[u8],
        me: NodeId,
        now: Now,
        verify: impl Fn(&NodeId, &[u8], &[u8; 64]) -> bool,
        unseal: impl FnOnce(&Envelope) -> Option<Vec<u8>>,
    ) -> Result<Opened, EnvelopeError> {
        let envelope = Envelope::peek(bytes).map_err(EnvelopeError::Record)?;
        if envelope.to != me {
            return Err(EnvelopeError::NotForMe { to: envelope.to });
        }
        if !envelope.is_good(now) {
            return Err(EnvelopeError::Expired { exp: envelope.exp });
        }
        let envelope = open::<Envelope>(bytes, &verify).map_err(EnvelopeError::Record)?.into_value();
        let issuer = envelope.iss;
        let letter = unseal(&envelope).ok_or(EnvelopeError::Unreadable { issuer })?;
        let mut letter: Letter = decode(&letter).map_err(EnvelopeError::Record)?;
        if letter.acks.len() > ACKS_MAX || letter.message.as_ref().is_some_and(|message| message.fits_a_letter().is_none()) {
            return Err(EnvelopeError::Record(RecordError::Malformed(format!("a letter of {issuer} over its bounds"))));
        }
        let delegation = letter.delegation.take().map(|bytes| open::<Delegation>(&bytes, &verify)).transpose();
        let delegation = delegation.map_err(EnvelopeError::Record)?.map(Verified::into_value);
        let Envelope { epoch, life, seq, lane, .. } = envelope;
        Ok(Opened { from: issuer, epoch, life, seq, lane, letter, delegation })
    }
}

/// A letter to be sealed and published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// To whom.
    pub to: NodeId,
    /// On which of its topics.
    pub lane: Lane,
    /// This node's life.
    pub epoch: u64,
    /// The recipient's.
    pub life: u64,
    /// As in [`Envelope::seq`].
    pub seq: u64,
    /// What it says.
    pub letter: Letter,
}

impl Post {
    /// The letter's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        encode(&self.letter)
    }
}

/// A letter whose sender, recipient and seal were checked: the only form of one that the core accepts. It is written and read
/// for recordings alone, which are this node's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    from: NodeId,
    epoch: u64,
    life: u64,
    seq: u64,
    lane: Lane,
    letter: Letter,
    delegation: Option<Delegation>,
}

impl Opened {
    /// Takes a letter as sealed and signed without a check. For drivers without ciphers, such as the simulator; a tidy
    /// test forbids it in the node.
    pub fn assume(from: NodeId, post: Post, delegation: Option<Delegation>) -> Opened {
        let Post { lane, epoch, life, seq, letter, .. } = post;
        Opened { from, epoch, life, seq, lane, letter, delegation }
    }

    /// Who wrote it.
    pub fn from(&self) -> NodeId {
        self.from
    }

    /// The sender's life.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The life of this node that it is meant for.
    pub fn life(&self) -> u64 {
        self.life
    }

    /// Its number.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The topic on which it came.
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// In whose place the sender says that it asks; the signature is right, whatever it says.
    pub fn delegation(&self) -> Option<&Delegation> {
        self.delegation.as_ref()
    }

    /// What it says.
    pub fn into_letter(self) -> Letter {
        self.letter
    }
}
