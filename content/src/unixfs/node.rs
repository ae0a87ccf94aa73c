//! One block of UnixFS, taken apart.

use super::Problem;
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
}

/// unixfs.proto's `Data`; mode and mtime are passed over.
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
        Node { kind: Kind::File, data, file_size, block_sizes: Vec::new(), links: Vec::new(), fanout: 0 }
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
        Ok(Node {
            kind,
            data: data.data.unwrap_or_default(),
            file_size: data.file_size,
            block_sizes: data.block_sizes,
            links: node.links,
            fanout: data.fanout.unwrap_or(0),
        })
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
