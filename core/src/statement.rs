//! Receipts on their way: to be signed, signed, checked; and what they are found under.

use alloc::vec::Vec;
use cid::Cid;
use serde::{Deserialize, Serialize};

use crate::proof::Proof;
use crate::record::{Record, Verified, address};
use crate::recorded;
use crate::task::{Done, Receipt};

/// The most receipts of one [`Input::Signed`](crate::io::Input::Signed).
pub const SIGNED_MAX: usize = 64;

/// A receipt that was checked, and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memo {
    /// The memo key of its task, as this node computed it.
    pub key: Cid,
    /// The receipt's CID.
    pub cid: Cid,
    /// The receipt.
    #[serde(with = "recorded::one")]
    pub receipt: Verified<Receipt>,
}

impl Memo {
    /// Whether this is the receipt that a name asks for: its own CID, its task, its result, or its memo key.
    pub fn is_of(&self, name: &Cid) -> bool {
        [self.cid, self.receipt.ran, self.key].contains(name) || self.receipt.out.as_ref() == Ok(name)
    }

    /// The receipt as it is kept.
    pub fn to_sealed(&self, result: Cid) -> Sealed {
        let names = Names { receipt: self.cid, task: self.receipt.ran, result, key: Some(self.key) };
        Sealed { names, tell: false, bytes: self.receipt.sealed().to_vec() }
    }
}

/// What a receipt is found under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// Its own CID.
    pub receipt: Cid,
    /// The TaskId.
    pub task: Cid,
    /// The result.
    pub result: Cid,
    /// The memo key, where its result may stand for another run.
    pub key: Option<Cid>,
}

/// A receipt that is to be signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// What it will be found under.
    pub names: Names,
    /// Whether the keepers of its memo key are to be told.
    pub tell: bool,
    /// The receipt's record.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// A receipt with its proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// What it is found under.
    pub names: Names,
    /// As in its [`Statement`].
    pub tell: bool,
    /// The [`Proof`](crate::proof::Proof)'s record.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

impl Record for Sealed {
    const SCHEMA: &'static str = "timerose/sealed";
    const MAX_BYTES: usize = Proof::MAX_BYTES + 1024;
}

/// What the engine gave: the result is already stored here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The result, and the CID of the receipt that will be signed.
    pub done: Done,
    /// The receipt.
    pub statement: Statement,
}

impl Exit {
    /// The end of a good run, of which `receipt` tells. Hashes: a driver's work.
    pub fn new(receipt: &Receipt, result: Cid, key: Cid) -> Exit {
        let (cid, bytes) = address(receipt);
        let (task, size, usage) = (receipt.ran, receipt.size, receipt.meta);
        let names = Names { receipt: cid, task, result, key: Some(key) };
        let done = Done { task, result, size, receipt: cid, usage, reused: false };
        Exit { done, statement: Statement { names, tell: false, bytes } }
    }
}
