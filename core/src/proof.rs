//! Proofs: an executor signs the root of a tree over the receipts that have gathered, and each receipt is kept and passed
//! on with its path to that root.
//!
//! The tree is the Merkle tree of RFC 6962, section 2.1, with SHA-256: a leaf is hashed behind a zero byte and a node
//! behind a one, so that neither can pass for the other. The entry of a leaf is a receipt's CID in binary. The signed root
//! says how many leaves there are, so that a leaf's number decides the shape of its path and every bit of a proof counts.

use alloc::vec::Vec;
use cid::Cid;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use sha2::{Digest, Sha256};

use crate::id::{DAG_CBOR, NodeId, cid_of};
use crate::record::{Record, RecordError, Signed, Verified, decode, encode, seal};
use crate::task::Receipt;

/// The most receipts below one root.
pub const LEAVES_MAX: usize = 256;
/// The longest path: the levels of a tree of [`LEAVES_MAX`] leaves.
const PATH_MAX: usize = LEAVES_MAX.ilog2() as usize;
/// What stands in front of a leaf's entry and of a node's children (RFC 6962, section 2.1).
const LEAF: u8 = 0;
const NODE: u8 = 1;

type Hash = [u8; 32];

/// A signed statement: I made the receipts below this root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The executor that signs.
    pub iss: NodeId,
    /// How many receipts there are: at least one, at most [`LEAVES_MAX`].
    pub size: u64,
    /// The hash of the whole tree.
    #[serde(with = "serde_bytes")]
    pub hash: Hash,
}

impl Record for Root {
    const SCHEMA: &'static str = "timerose/root";
    const MAX_BYTES: usize = 1024;
}

impl Signed for Root {
    fn issuer(&self) -> NodeId {
        self.iss
    }
}

/// A receipt, and why it is to be believed: the form in which receipts are kept and passed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The receipt's record.
    pub receipt: ByteBuf,
    /// Its number among the leaves, from 0.
    pub index: u64,
    /// The hashes beside its way up, from the bottom.
    pub path: Vec<ByteBuf>,
    /// The root in its envelope.
    pub root: ByteBuf,
}

impl Record for Proof {
    const SCHEMA: &'static str = "timerose/proof";
    const MAX_BYTES: usize = Receipt::MAX_BYTES + 4096;
}

/// Proves receipts with one signature: at most [`LEAVES_MAX`], each by its CID and its record. Gives an encoded [`Proof`]
/// for each, in order.
pub fn prove(iss: NodeId, receipts: &[(Cid, &[u8])], sign: impl FnOnce(&[u8]) -> [u8; 64]) -> Vec<Vec<u8>> {
    let mut levels: Vec<Vec<Hash>> = [receipts.iter().map(|(cid, _)| leaf(cid)).collect()].into();
    while let Some(below) = levels.last().filter(|level| level.len() > 1) {
        // The last of an odd number goes up as it is.
        let above = below.chunks(2).map(|pair| if let [left, right] = pair { node(left, right) } else { pair[0] });
        let above = above.collect();
        levels.push(above);
    }
    let Some(&hash) = levels.last().and_then(|top| top.first()) else { return Vec::new() };
    let root = ByteBuf::from(seal(&Root { iss, size: receipts.len() as u64, hash }, sign));
    let prove_one = |(index, (_, receipt)): (usize, &(Cid, &[u8]))| {
        let beside = levels.iter().enumerate().filter_map(|(height, level)| level.get((index >> height) ^ 1));
        let path = beside.map(|hash| ByteBuf::from(hash.to_vec())).collect();
        encode(&Proof { receipt: ByteBuf::from(receipt.to_vec()), index: index as u64, path, root: root.clone() })
    };
    receipts.iter().enumerate().map(prove_one).collect()
}

/// Opens a proof: `open_root` is [`record::open`](crate::record::open), or gives what it gave for the same bytes.
///
/// # Errors
/// As `open_root`; [`RecordError::Unproven`] where the receipt is not under that root, or is another executor's.
pub fn open_proof(
    bytes: &[u8],
    open_root: impl FnOnce(&[u8]) -> Result<Verified<Root>, RecordError>,
) -> Result<(Cid, Verified<Receipt>), RecordError> {
    let proof: Proof = decode(bytes)?;
    let receipt: Receipt = decode(&proof.receipt)?;
    let root = open_root(&proof.root)?;
    let cid = cid_of(DAG_CBOR, &proof.receipt);
    if root.iss != receipt.iss || climb(leaf(&cid), &proof, root.size) != Some(root.hash) {
        return Err(RecordError::Unproven { issuer: root.iss });
    }
    Ok((cid, Verified::proven(receipt, bytes)))
}

/// The root that a leaf's path leads to, in a tree of so many leaves; none where there is no such path.
fn climb(leaf: Hash, proof: &Proof, leaves: u64) -> Option<Hash> {
    if proof.index >= leaves || leaves > LEAVES_MAX as u64 || proof.path.len() > PATH_MAX {
        return None;
    }
    let (mut hash, mut index, mut width) = (leaf, proof.index, leaves);
    let mut path = proof.path.iter();
    while width > 1 {
        if index ^ 1 < width {
            let beside: &Hash = path.next()?.as_slice().try_into().ok()?;
            hash = if index & 1 == 1 { node(beside, &hash) } else { node(&hash, beside) };
        }
        (index, width) = (index >> 1, width.div_ceil(2));
    }
    path.next().is_none().then_some(hash)
}

fn leaf(cid: &Cid) -> Hash {
    Sha256::new().chain_update([LEAF]).chain_update(cid.to_bytes()).finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([NODE]).chain_update(left).chain_update(right).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RAW;

    /// The tree hash as RFC 6962 defines it: split at the largest power of two below the number of leaves.
    fn by_the_book(leaves: &[Cid]) -> Hash {
        match leaves {
            [one] => leaf(one),
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                node(&by_the_book(&leaves[..split]), &by_the_book(&leaves[split..]))
            }
        }
    }

    #[test]
    fn the_tree_is_that_of_rfc_6962_and_each_leaf_has_one_way_up() {
        let all: Vec<Cid> = (0..LEAVES_MAX as u32).map(|n| cid_of(RAW, &n.to_be_bytes())).collect();
        for count in (1..=20).chain([127, 128, 129, 255, 256]) {
            let leaves: Vec<(Cid, &[u8])> = all[..count].iter().map(|cid| (*cid, &b""[..])).collect();
            let proofs = prove(NodeId([1; 32]), &leaves, |_| [0; 64]);
            for (number, bytes) in proofs.iter().enumerate() {
                let proof: Proof = decode(bytes).expect("it was encoded");
                let root = crate::record::open::<Root>(&proof.root, |_, _, _| true).expect("sealed");
                assert_eq!((root.size, root.hash), (count as u64, by_the_book(&all[..count])));
                assert_eq!(climb(leaf(&all[number]), &proof, root.size), Some(root.hash));
                for other in (0..count as u64).filter(|other| *other != number as u64) {
                    let moved = Proof { index: other, ..proof.clone() };
                    assert_ne!(climb(leaf(&all[number]), &moved, root.size), Some(root.hash), "{number} of {count} as {other}");
                }
            }
        }
        assert!(prove(NodeId([1; 32]), &[], |_| [0; 64]).is_empty());
    }
}
