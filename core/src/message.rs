//! What nodes say to each other on a task stream (`/timerose/task/1`): one DAG-CBOR frame a message.
//!
//! The stream opens with a [`Session`](crate::capability::Session); a message bears no signature of its own. The wire
//! carries remaining milliseconds, never wall clocks.

use alloc::vec::Vec;
use cid::Cid;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::failure::Failure;
use crate::id::NodeId;
use crate::record::{RecordError, from_cbor, to_cbor};
use crate::span::{Context, Question, Reply};
use crate::task::{Outcome, Task};

/// The largest frame, in bytes.
pub const FRAME_MAX: usize = 512 * 1024;
/// The most CIDs of one [`Message::Holds`] or [`Message::Hold`].
pub const CIDS_MAX: usize = 4096;
/// The most CIDs whose sizes are told in one [`Message::Held`]: a file's root has to be read for that.
pub const SIZES_MAX: usize = 64;
/// The most adverts of one frame.
pub const ADVERTS_MAX: usize = 48;
/// The most keys of one [`Message::Recall`], and the most receipts of one frame.
pub const KEYS_MAX: usize = 128;
/// The most bytes of a message on a PubSub topic.
pub const BODY_MAX: usize = 32 * 1024;
/// The most bytes of a result that travels with its outcome, so that the whole fits a letter.
pub const RESULT_MAX: usize = BODY_MAX - 1024;
/// The most nodes of which a claim says that they hold its data.
pub const HINTS_MAX: usize = 8;

/// A frame as it travels: adverts still to be verified, or a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame {
    /// Sealed adverts of the sender and of members that it knows.
    Adverts(Vec<ByteBuf>),
    /// Receipts of trusted executors, with their proofs.
    Receipts {
        /// The question of a [`Message::Recall`] that they answer; 0: they are to be remembered.
        query: u64,
        /// At most [`KEYS_MAX`] records of [`Proof`](crate::proof::Proof).
        sealed: Vec<ByteBuf>,
    },
    /// Anything else.
    Message(Message),
}

/// A message from an authenticated peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Scheduler to executor: will you do this now?
    Claim {
        /// Names the work between these two nodes; never used twice by a scheduler.
        lease: u64,
        /// What is to be done.
        task: Task,
        /// Milliseconds until the caller gives up.
        budget_ms: u64,
        /// Nodes that hold the function or its arguments.
        hints: Vec<NodeId>,
        /// Whether an earlier result will do.
        memo: bool,
        /// Whether the receipt is worth telling the members that win its memo key, however short the run.
        keep: bool,
        /// The trace that it is part of.
        trace: Option<Context>,
        /// Whether the result's bytes are wanted with the outcome: the claimer has no stream to fetch them by.
        inline: bool,
    },
    /// Executor: I will.
    Grant {
        /// The claim's lease.
        lease: u64,
    },
    /// Executor: I will not.
    Nack {
        /// The claim's lease.
        lease: u64,
        /// Why.
        reason: Nack,
    },
    /// Executor: this came of it. Repeated upon [`Message::Renew`] until [`Message::Settled`].
    Outcome {
        /// The claim's lease.
        lease: u64,
        /// What came of it.
        outcome: Outcome,
        /// The result's bytes, where the claim asked for them and they are at most [`RESULT_MAX`].
        body: Option<ByteBuf>,
    },
    /// Executor: I know nothing of this lease (it was lost, or expired).
    Unknown {
        /// The lease that was renewed.
        lease: u64,
    },
    /// Scheduler: I have the outcome; forget the lease.
    Settled {
        /// The claim's lease.
        lease: u64,
    },
    /// Scheduler: I still want it. Answered by [`Message::Grant`], [`Message::Outcome`] or [`Message::Unknown`].
    Renew {
        /// The claim's lease.
        lease: u64,
    },
    /// Scheduler: stop.
    Cancel {
        /// The claim's lease.
        lease: u64,
    },
    /// Which of these do you have?
    Holds {
        /// Names the question.
        query: u64,
        /// At most [`CIDS_MAX`].
        cids: Vec<Cid>,
    },
    /// The answer: one bit a CID, the first in the lowest bit of the first byte.
    Held {
        /// The question.
        query: u64,
        /// One bit a CID.
        bits: ByteBuf,
        /// The lengths of the files of which these are the roots, in bytes, one a CID; 0 where that is not known. Empty where
        /// more than [`SIZES_MAX`] were asked for.
        sizes: Vec<u64>,
    },
    /// Have you receipts under these names: memo keys, results, TaskIds, or their own CIDs? Answered by [`Frame::Receipts`].
    Recall {
        /// Names the question; never 0.
        query: u64,
        /// At most [`KEYS_MAX`].
        keys: Vec<Cid>,
    },
    /// What did you see of this? Answered by [`Message::Inform`].
    Inquire {
        /// Names the inquiry.
        query: u64,
        /// Of what.
        question: Question,
    },
    /// This is what I saw.
    Inform {
        /// The inquiry.
        query: u64,
        /// The answer.
        reply: Reply,
    },
    /// Tell me this small block: no stream brings it. Answered by [`Message::Got`].
    Get {
        /// Names the question.
        query: u64,
        /// Which.
        cid: Cid,
    },
    /// The block.
    Got {
        /// The question.
        query: u64,
        /// Its bytes, still to be checked; none if it is not here, or over [`RESULT_MAX`] bytes.
        block: Option<ByteBuf>,
    },
    /// Fetch these blocks from me and keep them.
    Hold {
        /// Names the batch.
        batch: u64,
        /// At most [`CIDS_MAX`].
        cids: Vec<Cid>,
    },
    /// The blocks of a batch are durable here, or are not.
    Kept {
        /// The batch.
        batch: u64,
        /// Why not.
        kept: Result<(), Failure>,
    },
}

/// Which of some CIDs lie at a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Here {
    /// One bit a CID, as in [`Message::Held`].
    #[serde(with = "serde_bytes")]
    pub bits: Vec<u8>,
    /// The lengths of the files of which those are the roots, as in [`Message::Held`].
    pub sizes: Vec<u64>,
}

/// Why an executor does not take a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Nack {
    /// Full. Trying again here makes sense after so many milliseconds.
    Busy {
        /// Milliseconds.
        retry_after_ms: u64,
    },
    /// The caller is not trusted here.
    Denied,
    /// It has no such engine, or not so much memory, or is no executor.
    Unsuitable,
}

impl Frame {
    /// The bytes of a frame.
    pub fn encode(&self) -> Vec<u8> {
        to_cbor(self)
    }

    /// Reads a frame from an untrusted peer: canonical, and every list within its bound.
    pub fn decode(bytes: &[u8]) -> Result<Frame, RecordError> {
        if bytes.len() > FRAME_MAX {
            return Err(RecordError::TooLarge { max: FRAME_MAX });
        }
        let frame: Frame = from_cbor(bytes)?;
        if frame.is_bounded() { Ok(frame) } else { Err(RecordError::Malformed("a list over its bound".into())) }
    }

    fn is_bounded(&self) -> bool {
        match self {
            Frame::Adverts(adverts) => adverts.len() <= ADVERTS_MAX,
            Frame::Receipts { sealed, .. } => sealed.len() <= KEYS_MAX,
            Frame::Message(message) => message.is_bounded(),
        }
    }
}

impl Message {
    /// The lease that it is about, where it is about one.
    pub fn lease(&self) -> Option<u64> {
        match self {
            Message::Claim { lease, .. }
            | Message::Grant { lease }
            | Message::Nack { lease, .. }
            | Message::Outcome { lease, .. }
            | Message::Unknown { lease }
            | Message::Settled { lease }
            | Message::Renew { lease }
            | Message::Cancel { lease } => Some(*lease),
            _ => None,
        }
    }

    /// Whether it answers another message.
    pub fn is_answer(&self) -> bool {
        use Message::{Got, Grant, Held, Inform, Kept, Nack, Outcome, Unknown};
        let of_a_lease = matches!(self, Grant { .. } | Nack { .. } | Outcome { .. } | Unknown { .. });
        of_a_lease || matches!(self, Held { .. } | Kept { .. } | Inform { .. } | Got { .. })
    }

    /// Its encoding's length, in bytes, if it fits a letter on a PubSub topic. What does not has to name its content by
    /// CID instead of carrying it.
    pub fn fits_a_letter(&self) -> Option<usize> {
        let length = to_cbor(self).len();
        (length <= BODY_MAX && self.is_bounded()).then_some(length)
    }

    fn is_bounded(&self) -> bool {
        match self {
            Message::Recall { keys, .. } => keys.len() <= KEYS_MAX,
            Message::Claim { task, hints, .. } => task.check().is_ok() && hints.len() <= HINTS_MAX,
            Message::Holds { cids, .. } | Message::Hold { cids, .. } => cids.len() <= CIDS_MAX,
            Message::Outcome { body: Some(body), .. } => body.len() <= RESULT_MAX,
            Message::Got { block: Some(block), .. } => block.len() <= RESULT_MAX,
            Message::Held { bits, sizes, .. } => bits.len() <= CIDS_MAX / 8 && sizes.len() <= SIZES_MAX,
            Message::Inquire { question, .. } => question.is_bounded(),
            Message::Inform { reply, .. } => reply.is_bounded(),
            _ => true,
        }
    }
}
