//! Delegations: a node's word that a key which is no node may ask for work in its place, such as the key of a web page.
//!
//! Whoever trusts the node takes the key's calls, and nothing else of it. There is no list of delegations that would have to
//! be kept or taken back: each is good for a day at most, for one key, and cannot be passed on.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

use crate::id::{Instant, MILLISECOND, NodeId, Now};
use crate::record::{Record, Signed};

/// What may be done by a delegation, in UCAN's sense: the command of tasks.
const COMMAND: &str = "/timerose/fn/invoke";
/// How long a delegation is good for, in seconds.
pub const GOOD_SECONDS: u64 = 24 * 3600;
/// How far two clocks may differ, in seconds.
const CLOCK_SKEW_SECONDS: u64 = 30;
/// The keys of one issuer whose calls are taken; beyond, the one whose delegation ends first makes room.
pub const HOLDERS_MAX: usize = 64;

/// A UCAN 1.0-rc.1 delegation by which a node lets a key run functions in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegation {
    /// Who lets.
    pub iss: NodeId,
    /// Whom: the holder, nobody else.
    pub aud: NodeId,
    /// Whose right it is: the issuer's own. A right that was only lent is not lent on.
    pub sub: NodeId,
    /// Always `/timerose/fn/invoke`.
    pub cmd: String,
    /// Conditions on the arguments: none in this version.
    pub pol: Vec<String>,
    /// Makes delegations distinct.
    #[serde(with = "serde_bytes")]
    pub nonce: Vec<u8>,
    /// From when it is good, if not at once: seconds since 1970 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// Until when it is good: seconds since 1970 UTC.
    pub exp: u64,
}

impl Record for Delegation {
    const SCHEMA: &'static str = "ucan/dlg";
    const VERSION: &'static str = "1.0.0-rc.1";
    const MAX_BYTES: usize = 1024;
}

impl Signed for Delegation {
    fn issuer(&self) -> NodeId {
        self.iss
    }
}

impl Delegation {
    /// The delegation by which `iss` lets `holder` run functions for a day.
    pub fn new(iss: NodeId, holder: NodeId, now: Now, nonce: Vec<u8>) -> Delegation {
        let exp = now.unix_ms / 1000 + GOOD_SECONDS;
        Delegation { iss, aud: holder, sub: iss, cmd: COMMAND.into(), pol: Vec::new(), nonce, nbf: None, exp }
    }

    /// Checks what the signature does not say: that it is the holder's, that its issuer had the right to give, and that it is
    /// good now. Whether the issuer is trusted is for the caller to say.
    ///
    /// # Errors
    /// [`DelegationError`].
    pub fn check(&self, holder: NodeId, now: Now) -> Result<(), DelegationError> {
        if self.aud != holder {
            return Err(DelegationError::NotTheHolder { audience: self.aud });
        }
        if self.sub != self.iss {
            return Err(DelegationError::LentOn { owner: self.sub });
        }
        if self.cmd != COMMAND || !self.pol.is_empty() {
            return Err(DelegationError::UnknownRight);
        }
        let now = now.unix_ms / 1000;
        // The issuer says `exp` and `nbf`: they may be anything.
        let good = (now.saturating_sub(CLOCK_SKEW_SECONDS)..=now + GOOD_SECONDS + CLOCK_SKEW_SECONDS).contains(&self.exp);
        if !good || self.nbf.is_some_and(|from| from > now + CLOCK_SKEW_SECONDS) {
            return Err(DelegationError::Expired { exp: self.exp });
        }
        Ok(())
    }
}

/// Why a delegation gives no right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DelegationError {
    /// It was given to somebody else.
    NotTheHolder {
        /// To whom.
        audience: NodeId,
    },
    /// Its issuer was lent the right itself.
    LentOn {
        /// Whose right it is.
        owner: NodeId,
    },
    /// It gives something that this version does not know, or under conditions.
    UnknownRight,
    /// It is too old, not yet good, or good for longer than a delegation may be.
    Expired {
        /// Its expiry, in seconds since 1970 UTC.
        exp: u64,
    },
}

impl fmt::Display for DelegationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DelegationError::NotTheHolder { audience } => write!(f, "delegation given to {audience}"),
            DelegationError::LentOn { owner } => write!(f, "delegation of a right that is {owner}'s"),
            DelegationError::UnknownRight => write!(f, "delegation of an unknown right"),
            DelegationError::Expired { exp } => write!(f, "delegation expired or too long: {exp}; are the clocks right?"),
        }
    }
}

impl core::error::Error for DelegationError {}

/// The keys that trusted nodes let ask for work, as far as they were heard of.
#[derive(Debug, Default)]
pub struct Guests {
    by_holder: BTreeMap<NodeId, Guest>,
}

#[derive(Debug)]
struct Guest {
    issuer: NodeId,
    until: Instant,
}

impl Guests {
    /// In whose place a key may have functions run now.
    pub fn issuer(&self, holder: &NodeId, now: Instant) -> Option<NodeId> {
        self.by_holder.get(holder).filter(|guest| guest.until > now).map(|guest| guest.issuer)
    }

    /// Notes the delegation of a key that has just written, by an issuer that is trusted. False if it gives no right.
    pub fn admit(&mut self, now: Now, holder: NodeId, delegation: &Delegation) -> bool {
        if delegation.check(holder, now).is_err() {
            return false;
        }
        let (issuer, clock) = (delegation.iss, now.monotonic_us);
        let left_ms = delegation.exp.saturating_add(CLOCK_SKEW_SECONDS).saturating_mul(1000).saturating_sub(now.unix_ms);
        self.by_holder.retain(|_, guest| guest.until > clock);
        let of_issuer = || self.by_holder.iter().filter(|(other, guest)| guest.issuer == issuer && **other != holder);
        if of_issuer().count() >= HOLDERS_MAX
            && let Some(first) = of_issuer().min_by_key(|(_, guest)| guest.until).map(|(holder, _)| *holder)
        {
            self.by_holder.remove(&first);
        }
        let until = clock.saturating_add(left_ms.saturating_mul(MILLISECOND));
        self.by_holder.insert(holder, Guest { issuer, until });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_issuer_has_a_bounded_number_of_guests_and_takes_no_place_of_anothers() {
        let (now, mut guests) = (Now { monotonic_us: 0, unix_ms: 1_800_000_000_000 }, Guests::default());
        let later = |ms| Now { monotonic_us: ms * MILLISECOND, unix_ms: now.unix_ms + ms };
        let (generous, modest) = (NodeId([1; 32]), NodeId([2; 32]));
        let mut admit = |issuer, holder: u16, at: Now| {
            let holder = NodeId(core::array::from_fn(|n| holder.to_be_bytes()[n % 2]));
            assert!(guests.admit(at, holder, &Delegation::new(issuer, holder, at, Vec::new())));
            holder
        };
        let kept = admit(modest, 1, now);
        let many: Vec<NodeId> = (2..2 + 3 * HOLDERS_MAX as u16).map(|n| admit(generous, n, later(1000 * u64::from(n)))).collect();
        let clock = later(1_000_000).monotonic_us;
        assert_eq!(guests.issuer(&kept, clock), Some(modest));
        assert_eq!(many.iter().map(|holder| guests.issuer(holder, clock)).filter(Option::is_some).count(), HOLDERS_MAX);
        assert!(
            many.ends_with(&[*many.iter().rfind(|holder| guests.issuer(holder, clock).is_some()).expect("some")]),
            "the latest stay"
        );
        let end = later((GOOD_SECONDS + CLOCK_SKEW_SECONDS) * 1000 + 1).monotonic_us;
        assert_eq!(guests.issuer(&kept, end), None, "a day later it has no right");
    }
}
