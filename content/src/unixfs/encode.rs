//! Blocks of files and symbolic links, byte for byte those of Kubo (<https://ipld.io/specs/codecs/dag-pb/spec/>: links come first, and each has
//! a name, if an empty one).

use super::Meta;
use cid::Cid;
use unsigned_varint::encode;

/// `Data.DataType` in unixfs.proto.
pub(super) const RAW: u64 = 0;
pub(super) const FILE: u64 = 2;
const SYMLINK: u64 = 4;

/// Keys of protobuf: a field's number and its wire type.
const NUMBER: u64 = 0;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

/// A part of a file: where it is, its bytes of content, and the bytes of all blocks under it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub cid: Cid,
    pub size: u64,
    pub dag_size: u64,
}

/// A file, or a part of one, with its content in the block itself; it is of the type [`FILE`] or [`RAW`].
pub(super) fn leaf(kind: u64, content: &[u8], meta: Meta) -> Vec<u8> {
    let mut data = Vec::with_capacity(content.len() + 32);
    number(&mut data, 1, kind);
    if !content.is_empty() {
        bytes(&mut data, 2, content);
    }
    number(&mut data, 3, content.len() as u64);
    put_meta(&mut data, meta);
    node(&[], &data)
}

/// A file, or a part of one, that consists of parts.
pub(super) fn branch(parts: &[Part], meta: Meta) -> Vec<u8> {
    let mut data = Vec::with_capacity(16 + 5 * parts.len());
    number(&mut data, 1, FILE);
    number(&mut data, 3, parts.iter().map(|part| part.size).sum());
    parts.iter().for_each(|part| number(&mut data, 4, part.size));
    put_meta(&mut data, meta);
    node(parts, &data)
}

/// A symbolic link.
pub(super) fn symlink(target: &str, meta: Meta) -> Vec<u8> {
    let mut data = Vec::with_capacity(target.len() + 16);
    number(&mut data, 1, SYMLINK);
    bytes(&mut data, 2, target.as_bytes());
    put_meta(&mut data, meta);
    node(&[], &data)
}

fn put_meta(out: &mut Vec<u8>, meta: Meta) {
    if let Some(mode) = meta.mode {
        number(out, 7, mode.into());
    }
    if let Some((seconds, nanos)) = meta.mtime {
        let mut time = Vec::with_capacity(16);
        // int64: a negative number is written as the 64 bits that it has.
        number(&mut time, 1, seconds as u64);
        if nanos > 0 {
            varint(&mut time, 2 << 3 | FIXED32);
            time.extend_from_slice(&nanos.to_le_bytes());
        }
        bytes(out, 8, &time);
    }
}

fn node(links: &[Part], data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(links.len() * 52 + data.len() + 8);
    let mut link = Vec::with_capacity(64);
    for part in links {
        link.clear();
        bytes(&mut link, 1, &part.cid.to_bytes());
        bytes(&mut link, 2, b"");
        number(&mut link, 3, part.dag_size);
        bytes(&mut out, 2, &link);
    }
    bytes(&mut out, 1, data);
    out
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3 | NUMBER);
    varint(out, value);
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | LENGTH);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn varint(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(encode::u64(value, &mut encode::u64_buffer()));
}
