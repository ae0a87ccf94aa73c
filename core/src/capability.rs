//! Who somebody is and what they offer: the session that opens a stream, and a member's advert.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use cid::Cid;
use core::fmt;
use serde::{Deserialize, Serialize};

use crate::id::{NodeId, Now};
use crate::record::{Record, Signed};
use crate::resources::Resources;

/// The command of a session, in UCAN's sense.
const SESSION_COMMAND: &str = "/timerose/session";
/// How long a session token is good for, in seconds. It is checked when a stream opens, not afterwards.
const SESSION_SECONDS: u64 = 60;
/// How far two clocks may differ, in seconds.
const CLOCK_SKEW_SECONDS: u64 = 30;

/// The first frame of every task stream: a UCAN 1.0-rc.1 invocation by which the opener says who it is to whom.
///
/// The stream is already authenticated by the transport; the token binds the *records'* key to it, and will carry the
/// delegations of callers that are not nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Who opens the stream.
    pub iss: NodeId,
    /// Whose resources are asked for: the receiver's.
    pub sub: NodeId,
    /// Who the token is for: the receiver, nobody else.
    pub aud: NodeId,
    /// Always `/timerose/session`.
    pub cmd: String,
    /// None in this version.
    pub args: BTreeMap<String, String>,
    /// Delegations: none in this version.
    pub prf: Vec<Cid>,
    /// Makes tokens distinct.
    #[serde(with = "serde_bytes")]
    pub nonce: Vec<u8>,
    /// Until when it may open a stream: seconds since 1970 UTC.
    pub exp: u64,
}

impl Record for Session {
    const SCHEMA: &'static str = "ucan/inv";
    const VERSION: &'static str = "1.0.0-rc.1";
    const MAX_BYTES: usize = 4096;
}

impl Signed for Session {
    fn issuer(&self) -> NodeId {
        self.iss
    }
}

impl Session {
    /// The token with which `from` opens a stream to `to`.
    pub fn new(from: NodeId, to: NodeId, now: Now, nonce: Vec<u8>) -> Session {
        Session {
            iss: from,
            sub: to,
            aud: to,
            cmd: SESSION_COMMAND.into(),
            args: BTreeMap::new(),
            prf: Vec::new(),
            nonce,
            exp: now.unix_ms / 1000 + SESSION_SECONDS,
        }
    }

    /// Checks what the signature does not say: that the token is for this stream, from its peer, and still good.
    pub fn check(&self, peer: NodeId, me: NodeId, now: Now) -> Result<(), SessionError> {
        let now = now.unix_ms / 1000;
        if self.iss != peer {
            return Err(SessionError::NotThePeer { issuer: self.iss });
        }
        if self.aud != me || self.sub != me {
            return Err(SessionError::NotForMe { audience: self.aud });
        }
        if self.cmd != SESSION_COMMAND || !self.prf.is_empty() {
            return Err(SessionError::UnknownCommand);
        }
        // The peer says `exp`: it may be anything.
        let from = now.saturating_sub(CLOCK_SKEW_SECONDS);
        if !(from..=now + SESSION_SECONDS + CLOCK_SKEW_SECONDS).contains(&self.exp) {
            return Err(SessionError::Expired { exp: self.exp });
        }
        Ok(())
    }
}

/// Why a session token does not open a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionError {
    /// It was issued by somebody else than the peer of the stream.
    NotThePeer {
        /// Who issued it.
        issuer: NodeId,
    },
    /// It was meant for another node.
    NotForMe {
        /// Whom it was for.
        audience: NodeId,
    },
    /// It asks for something that this version does not know.
    UnknownCommand,
    /// It is too old, or good for longer than a session may be.
    Expired {
        /// Its expiry, in seconds since 1970 UTC.
        exp: u64,
    },
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionError::NotThePeer { issuer } => write!(f, "session of {issuer}, who is not the peer"),
            SessionError::NotForMe { audience } => write!(f, "session meant for {audience}"),
            SessionError::UnknownCommand => write!(f, "session with an unknown command"),
            SessionError::Expired { exp } => write!(f, "session expired or too long: {exp}; are the clocks right?"),
        }
    }
}

impl core::error::Error for SessionError {}

/// What a node may do for others. A node has any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs tasks.
    Executor,
    /// Finds executors for callers.
    Scheduler,
    /// Keeps blocks for others.
    Store,
}

/// What a member says of itself. Signed, so that it may be passed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advert {
    /// The member.
    pub iss: NodeId,
    /// Where it can be dialled, as multiaddrs.
    pub addrs: Vec<String>,
    /// When the process started: milliseconds since 1970 UTC. A higher one voids all before.
    pub epoch: u64,
    /// Counts the adverts of one epoch.
    pub seq: u64,
    /// What it does for others.
    pub roles: Vec<Role>,
    /// The engines it has.
    pub engines: Vec<String>,
    /// What it offers in all, not what is free at the moment: that is asked, never gossiped.
    pub offers: Resources,
    /// A label by which the operator says where it stands.
    pub region: String,
    /// Whether it says goodbye.
    pub left: bool,
}

/// The most addresses of an advert.
const ADDRS_MAX: usize = 16;
/// The longest address or label, in bytes.
const TEXT_MAX: usize = 256;
/// The most engines of an advert.
const ENGINES_MAX: usize = 16;

impl Record for Advert {
    const SCHEMA: &'static str = "timerose/advert";
    const MAX_BYTES: usize = 8192;
}

impl Signed for Advert {
    fn issuer(&self) -> NodeId {
        self.iss
    }
}

impl Advert {
    /// Whether its parts keep within their bounds.
    pub fn is_sane(&self) -> bool {
        self.addrs.len() <= ADDRS_MAX
            && self.engines.len() <= ENGINES_MAX
            && self.roles.len() <= 8
            && self.region.len() <= TEXT_MAX
            && self.addrs.iter().chain(&self.engines).all(|text| text.len() <= TEXT_MAX)
    }

    /// Whether it says nothing but what `other` of the same member said, only later.
    pub fn repeats(&self, other: &Advert) -> bool {
        *self == Advert { seq: self.seq, ..other.clone() }
    }

    /// Whether it says more than `other` of the same member.
    pub fn is_newer_than(&self, other: &Advert) -> bool {
        (self.epoch, self.seq) > (other.epoch, other.seq)
    }
}
