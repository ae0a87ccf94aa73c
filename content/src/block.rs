//! A block: bytes under the CID that names them. A [`Block`] cannot exist without its bytes having been hashed.

use crate::proto;
use bytes::Bytes;
use cid::{Cid, Version};
use ipld_core::codec::Links;
use multihash_codetable::{Code, MultihashDigest};
use prost::Message;
use serde_ipld_dagcbor::codec::DagCborCodec;

/// Multihash of a block: what the store is keyed by, so that one block under two codecs is held once.
pub type Multihash = cid::multihash::Multihash<64>;

/// Codec of a block without structure (<https://github.com/multiformats/multicodec>).
pub const RAW: u64 = 0x55;
/// Codec of the nodes of UnixFS (<https://ipld.io/specs/codecs/dag-pb/spec/>).
pub const DAG_PB: u64 = 0x70;
/// Codec of IPLD records (<https://ipld.io/specs/codecs/dag-cbor/spec/>).
pub const DAG_CBOR: u64 = 0x71;
/// Code of the sha2-256 multihash.
pub const SHA2_256: u64 = 0x12;
/// Code of the identity multihash: the digest is the data itself.
pub const IDENTITY: u64 = 0x00;
/// No block is larger, in bytes: what bitswap promises to carry (<https://specs.ipfs.tech/bitswap-protocol/#block-sizes>).
pub const MAX_BLOCK_BYTES: usize = 2 << 20;
/// Bytes of a large block that begin at a multiple of this in memory are written to disk from there; others are copied first.
pub(crate) const ALIGN: usize = 4096;

/// Why bytes are no block, or a block has no readable links.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Neither sha2-256 nor identity.
    #[error("{cid} uses multihash 0x{code:x}: only sha2-256 and identity are supported")]
    UnsupportedHash {
        /// The CID that was asked for.
        cid: Cid,
        /// Its multihash code.
        code: u64,
    },
    /// The bytes do not hash to the CID.
    #[error("the bytes do not hash to {cid}")]
    Mismatch {
        /// The CID that the bytes were said to have.
        cid: Cid,
    },
    /// More than [`MAX_BLOCK_BYTES`].
    #[error("a block of {size} bytes is over the limit of {MAX_BLOCK_BYTES}")]
    TooLarge {
        /// Bytes found.
        size: usize,
    },
    /// Links of a codec that this crate cannot read.
    #[error("{cid} has codec 0x{codec:x}: only raw, dag-pb and dag-cbor are supported")]
    UnsupportedCodec {
        /// The block.
        cid: Cid,
        /// Its codec.
        codec: u64,
    },
    /// The block is not what its codec says.
    #[error("{cid} is malformed: {why}")]
    Malformed {
        /// The block.
        cid: Cid,
        /// What is wrong with it.
        why: String,
    },
}

/// Bytes and the CID that they hash to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    cid: Cid,
    data: Bytes,
}

impl Block {
    /// Takes bytes for the block `cid`, if they hash to it and are at most [`MAX_BLOCK_BYTES`].
    pub fn new(cid: Cid, data: impl Into<Bytes>) -> Result<Block, BlockError> {
        let data = data.into();
        if data.len() > MAX_BLOCK_BYTES {
            return Err(BlockError::TooLarge { size: data.len() });
        }
        if !verify(&cid, &data)? {
            return Err(BlockError::Mismatch { cid });
        }
        Ok(Block { cid, data })
    }

    /// Makes the block that these bytes are under `codec`: CIDv1, sha2-256.
    pub fn encode(codec: u64, data: impl Into<Bytes>) -> Result<Block, BlockError> {
        let data = data.into();
        if data.len() > MAX_BLOCK_BYTES {
            return Err(BlockError::TooLarge { size: data.len() });
        }
        Ok(Block { cid: cid_v1(codec, &data), data })
    }

    /// For bytes that this crate has hashed itself a moment ago.
    pub(crate) fn hashed(cid: Cid, data: impl Into<Bytes>) -> Block {
        Block { cid, data: data.into() }
    }

    /// The CID.
    pub fn cid(&self) -> &Cid {
        &self.cid
    }

    /// The bytes.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// Bytes in the block.
    pub fn size(&self) -> usize {
        self.data.len()
    }

    /// The bytes alone.
    pub fn into_data(self) -> Bytes {
        self.data
    }
}

/// Whether `data` hashes to `cid`. Fails if the multihash is neither sha2-256 nor identity.
pub fn verify(cid: &Cid, data: &[u8]) -> Result<bool, BlockError> {
    match cid.hash().code() {
        SHA2_256 => Ok(*cid.hash() == Code::Sha2_256.digest(data)),
        IDENTITY => Ok(cid.hash().digest() == data),
        code => Err(BlockError::UnsupportedHash { cid: *cid, code }),
    }
}

/// The bytes of a block that its CID carries itself (identity multihash), if it is such a CID.
pub fn inline_data(cid: &Cid) -> Option<Bytes> {
    (cid.hash().code() == IDENTITY).then(|| Bytes::copy_from_slice(cid.hash().digest()))
}

/// The CIDv1 (sha2-256) of `data` under `codec`.
pub fn cid_v1(codec: u64, data: &[u8]) -> Cid {
    Cid::new_v1(codec, Code::Sha2_256.digest(data))
}

/// The CID (sha2-256) of a dag-pb node in either version.
pub(crate) fn cid_pb(version: Version, data: &[u8]) -> Cid {
    let v1 = cid_v1(DAG_PB, data);
    cid_of(version, DAG_PB, *v1.hash()).unwrap_or(v1)
}

/// The same block's CID in the version that is asked for; version 0 exists for dag-pb with sha2-256 alone.
pub(crate) fn cid_of(version: Version, codec: u64, hash: Multihash) -> Option<Cid> {
    match version {
        Version::V0 => (codec == DAG_PB).then(|| Cid::new_v0(hash).ok()).flatten(),
        Version::V1 => Some(Cid::new_v1(codec, hash)),
    }
}

/// The CIDs that a block links to, in its own order and with repetitions. Raw blocks have none.
///
/// Fails on a codec other than raw, dag-pb and dag-cbor, and on bytes which are not of the codec.
pub fn links(cid: &Cid, data: &[u8]) -> Result<Vec<Cid>, BlockError> {
    let malformed = |why: String| BlockError::Malformed { cid: *cid, why };
    if data.len() > MAX_BLOCK_BYTES {
        return Err(BlockError::TooLarge { size: data.len() });
    }
    match cid.codec() {
        RAW => Ok(Vec::new()),
        DAG_PB => {
            let node = PbNode::read(Bytes::copy_from_slice(data)).map_err(malformed)?;
            node.links.iter().map(|link| link.target().map_err(malformed)).collect()
        }
        DAG_CBOR => match DagCborCodec::links(data) {
            Ok(links) => Ok(links.collect()),
            Err(error) => Err(malformed(error.to_string())),
        },
        codec => Err(BlockError::UnsupportedCodec { cid: *cid, codec }),
    }
}

/// The field of a dag-pb node's links.
const LINKS: u64 = 2;
/// The shortest link: a CIDv1 with an empty identity hash, and its tag and length.
const MIN_LINK_BYTES: usize = 6;

/// A dag-pb node (<https://ipld.io/specs/codecs/dag-pb/spec/>). Read leniently: the hash has vouched for the bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PbNode {
    #[prost(message, repeated, tag = "2")]
    pub links: Vec<PbLink>,
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub data: Option<Bytes>,
}

impl PbNode {
    /// Reads a node. A link that is too short to hold a CID is refused before anything is built, so that memory stays in proportion.
    pub fn read(block: Bytes) -> Result<PbNode, String> {
        proto::each_field(&block, &mut |field, body| match field {
            LINKS if body.len() < MIN_LINK_BYTES => Err("a link holds no CID".into()),
            _ => Ok(()),
        })?;
        PbNode::decode(block).map_err(|e| e.to_string())
    }
}

/// One link of a dag-pb node.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PbLink {
    #[prost(bytes = "bytes", tag = "1")]
    pub hash: Bytes,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(uint64, tag = "3")]
    pub size: u64,
}

impl PbLink {
    /// Where the link leads, or what is wrong with it.
    pub fn target(&self) -> Result<Cid, String> {
        Cid::try_from(self.hash.as_ref()).map_err(|e| format!("a link is no CID: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_exists_only_if_its_bytes_hash_to_its_cid() {
        let cid = cid_v1(RAW, b"right");
        assert_eq!(Block::new(cid, &b"right"[..]).unwrap().data(), &b"right"[..]);
        assert_eq!(Block::new(cid, &b"wrong"[..]), Err(BlockError::Mismatch { cid }));
        let large = vec![0; MAX_BLOCK_BYTES + 1];
        assert!(matches!(Block::encode(RAW, large), Err(BlockError::TooLarge { .. })));
    }

    #[test]
    fn identity_is_compared_and_other_hashes_are_named() {
        let inline = Cid::new_v1(RAW, Multihash::wrap(IDENTITY, b"tiny").unwrap());
        assert_eq!(verify(&inline, b"tiny"), Ok(true));
        assert_eq!(verify(&inline, b"tony"), Ok(false));
        assert_eq!(inline_data(&inline).unwrap(), &b"tiny"[..]);
        let other = Cid::new_v1(RAW, Multihash::wrap(0x1e, &[0; 32]).unwrap());
        assert_eq!(verify(&other, b""), Err(BlockError::UnsupportedHash { cid: other, code: 0x1e }));
    }

    #[test]
    fn links_are_found_and_blocks_that_would_cost_too_much_are_refused() {
        let target = cid_v1(RAW, b"leaf");
        let data = serde_ipld_dagcbor::to_vec(&vec![target, target]).unwrap();
        let cid = cid_v1(DAG_CBOR, &data);
        assert_eq!(links(&cid, &data).unwrap(), vec![target, target]);
        let empty_links = [0x12, 0x00].repeat(1 << 20);
        let dag = cid_v1(DAG_PB, &empty_links);
        assert!(matches!(links(&dag, &empty_links), Err(BlockError::Malformed { .. })));
        let deep = vec![0x81; 1 << 20];
        assert!(matches!(links(&cid, &deep), Err(BlockError::Malformed { .. })));
    }
}
