//! Bitswap 1.2.0 on the wire (<https://specs.ipfs.tech/bitswap-protocol/>): one protobuf message a frame.
//!
//! A block travels as the prefix of its CID and its bytes, so its CID is what its bytes hash to: bytes other than those asked for are simply
//! another block, which nobody asked for.

use crate::block::{self, Block, SHA2_256};
use crate::frames::Codec;
use crate::proto;
use bytes::{Bytes, BytesMut};
use cid::{Cid, Version};
use libp2p::{PeerId, StreamProtocol};
use multihash_codetable::{Code, MultihashDigest};
use prost::Message as _;

/// The protocol's name.
pub const PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/bitswap/1.2.0");
/// Bytes in a message at most (the specification's limit).
pub const MAX_MESSAGE: usize = 4 << 20;
/// Wants, presences and blocks in a message at most. A message with more is refused before it is decoded.
pub const MAX_ITEMS: usize = 16_384;

/// How a peer wants a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantKind {
    /// It wants the bytes.
    Block,
    /// It wants to know who has it.
    Have,
}

/// One entry of a wantlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// A block is wanted.
    Add {
        /// Which.
        cid: Cid,
        /// How.
        kind: WantKind,
        /// Whether an absence is to be answered as well.
        send_dont_have: bool,
    },
    /// A block is wanted no longer.
    Cancel {
        /// Which.
        cid: Cid,
    },
}

impl Want {
    /// The CID that it is about.
    pub fn cid(&self) -> Cid {
        let (Want::Add { cid, .. } | Want::Cancel { cid }) = self;
        *cid
    }

    /// Whether it takes a want back.
    pub fn is_cancel(&self) -> bool {
        matches!(self, Want::Cancel { .. })
    }
}

/// Whether the sender has a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It has.
    Have(Cid),
    /// It has not.
    DontHave(Cid),
}

/// One message, its blocks hashed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// What the sender wants.
    pub wants: Vec<Want>,
    /// Whether `wants` replaces all that the sender wanted before.
    pub full: bool,
    /// Blocks, each under the CID that its bytes hash to.
    pub blocks: Vec<Block>,
    /// What the sender has and has not.
    pub presences: Vec<Presence>,
}

impl Message {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.wants.is_empty() && !self.full && self.blocks.is_empty() && self.presences.is_empty()
    }

    /// The bytes of the frame's body.
    pub fn encode(&self) -> Bytes {
        let pb = PbMessage {
            wantlist: (!self.wants.is_empty() || self.full)
                .then(|| PbWantlist { entries: self.wants.iter().map(PbEntry::from).collect(), full: self.full }),
            payload: self
                .blocks
                .iter()
                .map(|block| PbBlock { prefix: prefix(block.cid()), data: block.data().clone() })
                .collect(),
            presences: self.presences.iter().map(PbPresence::from).collect(),
            pending_bytes: 0,
        };
        let mut frame = BytesMut::with_capacity(pb.encoded_len());
        // `BytesMut` grows, so that encoding cannot run out of room.
        let _ = pb.encode(&mut frame);
        frame.freeze()
    }

    /// Reads a frame's body and hashes its blocks. Fails with the reason, for the peer's name to be put to it.
    pub fn decode(frame: Bytes) -> Result<Message, String> {
        let items = count_items(&frame)?;
        if items > MAX_ITEMS {
            return Err(format!("{items} entries in a message, the limit is {MAX_ITEMS}"));
        }
        let pb = PbMessage::decode(frame).map_err(|e| format!("no bitswap message: {e}"))?;
        let wantlist = pb.wantlist.unwrap_or_default();
        Ok(Message {
            wants: wantlist.entries.iter().map(PbEntry::read).collect::<Result<_, _>>()?,
            full: wantlist.full,
            blocks: pb.payload.into_iter().map(PbBlock::read).collect::<Result<_, _>>()?,
            presences: pb.presences.iter().map(PbPresence::read).collect::<Result<_, _>>()?,
        })
    }
}

/// The codec of bitswap's frames.
pub struct Bitswap;

impl Codec for Bitswap {
    type In = Message;

    fn opening(&self, _: &PeerId) -> Option<Bytes> {
        None
    }

    fn decode(&self, _: &PeerId, _: bool, frame: Bytes) -> Result<Option<Message>, String> {
        Message::decode(frame).map(Some)
    }
}

/// Version, codec, hash and its length: everything of a CID but the digest.
fn prefix(cid: &Cid) -> Bytes {
    let mut bytes = Vec::with_capacity(8);
    let mut buffer = unsigned_varint::encode::u64_buffer();
    for part in [u64::from(cid.version()), cid.codec(), cid.hash().code(), u64::from(cid.hash().size())] {
        bytes.extend_from_slice(unsigned_varint::encode::u64(part, &mut buffer));
    }
    bytes.into()
}

/// Hashes `data` into the CID that `prefix` gives the form of.
fn hash(prefix: &[u8], data: &Bytes) -> Result<Block, String> {
    let mut rest = prefix;
    let mut part = || -> Result<u64, String> {
        let (value, left) = unsigned_varint::decode::u64(rest).map_err(|e| format!("a block's prefix: {e}"))?;
        rest = left;
        Ok(value)
    };
    let (version, codec, code, size) = (part()?, part()?, part()?, part()?);
    if code != SHA2_256 || size != 32 {
        return Err(format!("a block with multihash 0x{code:x} of {size} bytes: only sha2-256 is carried"));
    }
    if data.len() > block::MAX_BLOCK_BYTES {
        return Err(format!("a block of {} bytes, the limit is {}", data.len(), block::MAX_BLOCK_BYTES));
    }
    let version = Version::try_from(version).map_err(|e| format!("a block's prefix: {e}"))?;
    let cid = block::cid_of(version, codec, Code::Sha2_256.digest(data))
        .ok_or_else(|| format!("a block's prefix: no CIDv0 has codec 0x{codec:x}"))?;
    Ok(Block::hashed(cid, data.clone()))
}

fn read_cid(bytes: &Bytes) -> Result<Cid, String> {
    Cid::try_from(bytes.as_ref()).map_err(|e| format!("no CID: {e}"))
}

/// Counts the repeated parts of a message without building them: an empty one costs two bytes on the wire and fifty in memory.
fn count_items(message: &[u8]) -> Result<usize, String> {
    let mut items = 0;
    let outer = proto::each_field(message, &mut |field, body| {
        match field {
            1 => proto::each_field(body, &mut |_, _| {
                items += 1;
                Ok(())
            })?,
            _ => items += 1,
        }
        Ok(())
    });
    outer.map_err(|why| format!("no bitswap message: {why}"))?;
    Ok(items)
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbMessage {
    #[prost(message, optional, tag = "1")]
    wantlist: Option<PbWantlist>,
    #[prost(message, repeated, tag = "3")]
    payload: Vec<PbBlock>,
    #[prost(message, repeated, tag = "4")]
    presences: Vec<PbPresence>,
    #[prost(int32, tag = "5")]
    pending_bytes: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbWantlist {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<PbEntry>,
    #[prost(bool, tag = "2")]
    full: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbEntry {
    #[prost(bytes = "bytes", tag = "1")]
    block: Bytes,
    #[prost(int32, tag = "2")]
    priority: i32,
    #[prost(bool, tag = "3")]
    cancel: bool,
    /// 0: the block, 1: who has it.
    #[prost(int32, tag = "4")]
    want_type: i32,
    #[prost(bool, tag = "5")]
    send_dont_have: bool,
}

impl From<&Want> for PbEntry {
    fn from(want: &Want) -> PbEntry {
        match want {
            Want::Add { cid, kind, send_dont_have } => PbEntry {
                block: cid.to_bytes().into(),
                priority: 1,
                cancel: false,
                want_type: i32::from(*kind == WantKind::Have),
                send_dont_have: *send_dont_have,
            },
            Want::Cancel { cid } => PbEntry { block: cid.to_bytes().into(), cancel: true, ..PbEntry::default() },
        }
    }
}

impl PbEntry {
    fn read(&self) -> Result<Want, String> {
        let cid = read_cid(&self.block)?;
        if self.cancel {
            return Ok(Want::Cancel { cid });
        }
        let kind = if self.want_type == 1 { WantKind::Have } else { WantKind::Block };
        Ok(Want::Add { cid, kind, send_dont_have: self.send_dont_have })
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbBlock {
    #[prost(bytes = "bytes", tag = "1")]
    prefix: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    data: Bytes,
}

impl PbBlock {
    fn read(self) -> Result<Block, String> {
        hash(&self.prefix, &self.data)
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbPresence {
    #[prost(bytes = "bytes", tag = "1")]
    cid: Bytes,
    /// 0: has it, 1: has it not.
    #[prost(int32, tag = "2")]
    kind: i32,
}

impl From<&Presence> for PbPresence {
    fn from(presence: &Presence) -> PbPresence {
        match presence {
            Presence::Have(cid) => PbPresence { cid: cid.to_bytes().into(), kind: 0 },
            Presence::DontHave(cid) => PbPresence { cid: cid.to_bytes().into(), kind: 1 },
        }
    }
}

impl PbPresence {
    fn read(&self) -> Result<Presence, String> {
        let cid = read_cid(&self.cid)?;
        Ok(if self.kind == 0 { Presence::Have(cid) } else { Presence::DontHave(cid) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{DAG_PB, RAW, cid_v1};

    fn sample() -> Message {
        let cid = cid_v1(RAW, b"one");
        Message {
            wants: vec![
                Want::Add { cid, kind: WantKind::Block, send_dont_have: true },
                Want::Add { cid, kind: WantKind::Have, send_dont_have: false },
                Want::Cancel { cid },
            ],
            full: true,
            blocks: vec![Block::encode(DAG_PB, &b""[..]).unwrap(), Block::encode(RAW, vec![7; 1000]).unwrap()],
            presences: vec![Presence::Have(cid), Presence::DontHave(cid)],
        }
    }

    #[test]
    fn a_message_reads_back_as_it_was_written() {
        assert_eq!(Message::decode(sample().encode()), Ok(sample()));
        assert!(Message::decode(Bytes::new()).unwrap().is_empty());
    }

    #[test]
    fn a_block_comes_out_under_the_hash_of_its_bytes_alone() {
        let honest = Block::encode(RAW, &b"honest"[..]).unwrap();
        let pb = PbBlock { prefix: prefix(honest.cid()), data: Bytes::from_static(b"forged") };
        assert_eq!(*pb.read().unwrap().cid(), cid_v1(RAW, b"forged"));
    }

    #[test]
    fn many_empty_entries_are_refused_before_they_are_built() {
        let entries = [0x22, 0x00].repeat(MAX_ITEMS + 1);
        assert!(Message::decode(entries.into()).unwrap_err().contains("entries"));
        let mut wantlist = vec![0x0a];
        let mut buffer = unsigned_varint::encode::usize_buffer();
        wantlist.extend(unsigned_varint::encode::usize(2 * (MAX_ITEMS + 1), &mut buffer));
        wantlist.extend([0x0a, 0x00].repeat(MAX_ITEMS + 1));
        assert!(Message::decode(wantlist.into()).unwrap_err().contains("entries"));
    }

    #[test]
    fn other_hashes_and_identity_are_not_carried() {
        for code in [0x00u8, 0x1b] {
            let pb = PbBlock { prefix: vec![1, 0x55, code, 32].into(), data: Bytes::from_static(b"x") };
            assert!(pb.read().unwrap_err().contains("multihash"));
        }
    }
}
