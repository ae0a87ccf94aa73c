//! Version 2 of a CAR: what stands around an archive of version 1, so that its blocks can be read in any order.
//!
//! The index is a `MultihashIndexSorted` (0x0401): for each hash function, and each length of digests, the digests in order, each with
//! the place where its section begins within the archive of version 1. All blocks that are written here are sha2-256.

use super::{V2_HEADER_BYTES, V2_PRAGMA_BYTES};
use crate::block::SHA2_256;
use bytes::Bytes;
use cid::Cid;
use std::collections::HashMap;

/// A header of version 1 that says version 2 and nothing else.
const PRAGMA: [u8; V2_PRAGMA_BYTES as usize] = *b"\x0a\xa1gversion\x02";
/// The characteristics: the index knows every section.
const FULLY_INDEXED: u8 = 0x80;
/// `MultihashIndexSorted`, as a varint.
const CODEC: [u8; 2] = [0x81, 0x08];
const DIGEST_BYTES: usize = 32;
/// A digest and its place.
const ENTRY_BYTES: usize = DIGEST_BYTES + 8;

/// What stands before an archive of version 1 of so many bytes; its index follows it at once.
pub fn version_2(size: u64) -> Bytes {
    let begin = V2_PRAGMA_BYTES + V2_HEADER_BYTES as u64;
    let mut head = Vec::with_capacity(begin as usize);
    head.extend(PRAGMA);
    head.push(FULLY_INDEXED);
    head.extend([0; 15]);
    for number in [begin, size, begin + size] {
        head.extend(number.to_le_bytes());
    }
    head.into()
}

/// The index of sections that begin at these places.
pub(super) fn of(places: &HashMap<Cid, u64>) -> Bytes {
    // Digests of any other length are of no block that can be checked.
    let entry = |(cid, place): (&Cid, &u64)| Some((<[u8; DIGEST_BYTES]>::try_from(cid.hash().digest()).ok()?, *place));
    let mut entries: Vec<([u8; DIGEST_BYTES], u64)> = places.iter().filter_map(entry).collect();
    entries.sort_unstable();
    let mut index = Vec::with_capacity(64 + entries.len() * ENTRY_BYTES);
    index.extend(CODEC);
    let hashes = i32::from(!entries.is_empty());
    index.extend(hashes.to_le_bytes());
    if hashes == 0 {
        return index.into();
    }
    index.extend(SHA2_256.to_le_bytes());
    // Lengths of digests: one.
    index.extend(1i32.to_le_bytes());
    index.extend((ENTRY_BYTES as u32).to_le_bytes());
    index.extend(((entries.len() * ENTRY_BYTES) as u64).to_le_bytes());
    for (digest, place) in entries {
        index.extend(digest);
        index.extend(place.to_le_bytes());
    }
    index.into()
}
