//! One block of UnixFS, taken apart.

use super::{Meta, Problem};
use crate::block::{DAG_PB, PbLink, PbNode, RAW};
use bytes::Bytes;
use cid::Cid;
use prost::Message;

/// The kinds of `Data.DataType` in unixfs.proto.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file, or a part of one.
    File,
    /// A folder in one block.
    Directory,
    /// A folder, or a part of one, as a HAMT.
    Shard,
    /// A symbolic link.
    Symlink,
}

/// The longest target of a symbolic link, in bytes: what Linux takes.
pub(super) const MAX_TARGET_BYTES: usize = 4095;

/// A parsed block.
pub(super) struct Node {
    pub kind: Kind,
    /// Content of a file, or a shard's bit field.
    pub data: Bytes,
    /// Bytes of content under this block, as it says.
    pub file_size: Option<u64>,
    /// Bytes of content under each link, as it says.
    pub block_sizes: Vec<u64>,
    pub links: Vec<PbLink>,
    pub fanout: u64,
    pub meta: Meta,
}

/// unixfs.proto's `Data`.
#[derive(Clone, PartialEq, prost::Message)]
struct PbData {
    #[prost(int32, required, tag = "1")]
    kind: i32,
    #[prost(bytes = "bytes", optional, tag = "2")]
    data: Option<Bytes>,
    #[prost(uint64, optional, tag = "3")]
    file_size: Option<u64>,
    #[prost(uint64, repeated, packed = "false", tag = "4")]
    block_sizes: Vec<u64>,
    #[prost(uint64, optional, tag = "6")]
    fanout: Option<u64>,
    #[prost(uint32, optional, tag = "7")]
    mode: Option<u32>,
    #[prost(message, optional, tag = "8")]
    mtime: Option<PbTime>,
}

/// unixfs.proto's `UnixTime`.
#[derive(Clone, PartialEq, prost::Message)]
struct PbTime {
    #[prost(int64, required, tag = "1")]
    seconds: i64,
    #[prost(fixed32, optional, tag = "2")]
    nanos: Option<u32>,
}

impl PbTime {
    /// Seconds and nanoseconds; a time that makes no sense is none.
    fn read(&self) -> Option<(i64, u32)> {
        let nanos = self.nanos.unwrap_or(0);
        (nanos < 1_000_000_000).then_some((self.seconds, nanos))
    }
}

impl Node {
    /// Takes a raw or dag-pb block apart.
    pub fn parse(cid: &Cid, block: Bytes) -> Result<Node, Problem> {
        match cid.codec() {
            RAW => Ok(Node::file(block)),
            DAG_PB => Node::parse_dag_pb(cid, block),
            codec => Err(Problem::malformed(cid, format!("codec 0x{codec:x} is not UnixFS"))),
        }
    }

    fn file(data: Bytes) -> Node {
        let file_size = Some(data.len() as u64);
        Node { kind: Kind::File, data, file_size, block_sizes: Vec::new(), links: Vec::new(), fanout: 0, meta: Meta::default() }
    }

    fn parse_dag_pb(cid: &Cid, block: Bytes) -> Result<Node, Problem> {
        let malformed = |e: prost::DecodeError| Problem::malformed(cid, e.to_string());
        let node = PbNode::read(block).map_err(|why| Problem::malformed(cid, why))?;
        let data = node.data.ok_or_else(|| Problem::malformed(cid, "it is dag-pb, but not UnixFS"))?;
        let data = PbData::decode(data).map_err(malformed)?;
        let kind = match data.kind {
            0 | 2 => Kind::File,
            1 => Kind::Directory,
            4 => Kind::Symlink,
            5 => Kind::Shard,
            other => return Err(Problem::malformed(cid, format!("UnixFS type {other} is not known"))),
        };
        let meta = Meta { mode: data.mode.map(|mode| mode & Meta::MODE), mtime: data.mtime.and_then(|time| time.read()) };
        Ok(Node {
            kind,
            meta,
            data: data.data.unwrap_or_default(),
            file_size: data.file_size,
            block_sizes: data.block_sizes,
            links: node.links,
            fanout: data.fanout.unwrap_or(0),
        })
    }

    /// Where a symbolic link leads, if this is one and it says so in UTF-8, without a NUL, in at most [`MAX_TARGET_BYTES`].
    pub fn target(&self) -> Option<String> {
        let data = (self.kind == Kind::Symlink && self.data.len() <= MAX_TARGET_BYTES).then_some(self.data.as_ref())?;
        std::str::from_utf8(data).ok().filter(|target| !target.contains('\0')).map(str::to_owned)
    }

    /// Bytes of the file, as its root says.
    pub fn claimed_size(&self) -> u64 {
        self.file_size.unwrap_or(self.data.len() as u64)
    }
}

/// Where a link of the block `cid` leads.
pub(super) fn target(cid: &Cid, link: &PbLink) -> Result<Cid, Problem> {
    link.target().map_err(|why| Problem::malformed(cid, why))
}
