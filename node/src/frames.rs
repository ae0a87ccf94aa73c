//! Frames in a file that is only ever appended to: each bears a mark, its length and a checksum, so that one that is torn or
//! damaged is noticed, and the next good one is found.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use timerose_core::id::{RAW, cid_of};

/// What a frame begins with.
const MARK: [u8; 4] = *b"TRfr";
/// The mark, the length (32 bits, little-endian), and the checksum.
const HEAD: usize = 4 + 4 + SUM;
/// Bytes of the checksum: the beginning of the SHA-256.
const SUM: usize = 8;

/// Appends a frame.
pub(crate) fn put(out: &mut Vec<u8>, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("records are bounded far below 4 GiB");
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&sum(payload));
    out.extend_from_slice(payload);
}

/// What a file holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan<'a> {
    /// The payloads of the good frames, in order.
    pub frames: Vec<&'a [u8]>,
    /// Where each of them begins.
    pub places: Vec<usize>,
    /// Bytes between good frames that are none.
    pub damaged: usize,
    /// Where the last good frame ends.
    pub end: usize,
    /// Bytes after it: a frame whose writing was broken off, or the damaged last one.
    pub torn: usize,
}

/// Reads the frames from `from` on.
pub(crate) fn scan(bytes: &[u8], from: usize) -> Scan<'_> {
    let mut found = Scan { end: from, ..Scan::default() };
    let mut at = from;
    while at < bytes.len() {
        if let Some(payload) = frame(&bytes[at..]) {
            found.damaged += at - found.end;
            found.frames.push(payload);
            found.places.push(at);
            at += HEAD + payload.len();
            found.end = at;
        } else {
            let rest = &bytes[at + 1..];
            at = rest.windows(MARK.len()).position(|window| window == MARK).map_or(bytes.len(), |next| at + 1 + next);
        }
    }
    found.torn = bytes.len().saturating_sub(found.end);
    found
}

/// Reads the payload, of so many bytes at most, of the frame that begins at a place of a file; none if it is not whole and unharmed.
pub(crate) fn read_at(file: &File, at: u64, most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; HEAD];
    let read = |bytes: &mut [u8], at| match file.read_exact_at(bytes, at) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        other => other.map(|()| true),
    };
    if !read(&mut bytes, at)? {
        return Ok(None);
    }
    let length = bytes[MARK.len()..].first_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize);
    if length > most {
        return Ok(None);
    }
    bytes.resize(HEAD + length, 0);
    let whole = read(&mut bytes[HEAD..], at + HEAD as u64)? && frame(&bytes).is_some();
    Ok(whole.then(|| bytes.split_off(HEAD)))
}

/// The frame that begins here, if it is whole and unharmed.
fn frame(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(&MARK)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<SUM>()?;
    let payload = rest.get(..u32::from_le_bytes(*length) as usize)?;
    (sum(payload) == *checksum).then_some(payload)
}

fn sum(payload: &[u8]) -> [u8; SUM] {
    let cid = cid_of(RAW, payload);
    *cid.hash().digest().first_chunk().expect("a digest of 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(payloads: &[&[u8]]) -> Vec<u8> {
        let mut bytes = b"head".to_vec();
        payloads.iter().for_each(|payload| put(&mut bytes, payload));
        bytes
    }

    #[test]
    fn a_file_that_is_cut_anywhere_gives_its_whole_frames() {
        let payloads: [&[u8]; 3] = [b"one", b"", b"three, with TRfr inside"];
        let bytes = file(&payloads);
        let ends: Vec<usize> = (0..=3).map(|n| file(&payloads[..n]).len()).collect();
        for cut in ends[0]..=bytes.len() {
            let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
            let found = scan(&bytes[..cut], 4);
            assert_eq!(found.frames, payloads[..whole], "cut to {cut} bytes");
            assert_eq!((found.damaged, found.end, found.torn), (0, ends[whole], cut - ends[whole]), "cut to {cut} bytes");
        }
    }

    #[test]
    fn a_flipped_bit_costs_its_own_frame_and_no_other() {
        let payloads: [&[u8]; 3] = [b"one", b"two and TRfr", b"three"];
        let bytes = file(&payloads);
        let ends: Vec<usize> = (0..=3).map(|n| file(&payloads[..n]).len()).collect();
        for bit in ends[0] * 8..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let hit = ends.iter().filter(|end| **end <= bit / 8).count() - 1;
            let left: Vec<&[u8]> = payloads.iter().enumerate().filter(|(n, _)| *n != hit).map(|(_, p)| *p).collect();
            let found = scan(&flipped, 4);
            assert_eq!(found.frames, left, "bit {bit}");
            assert_eq!(found.damaged + found.torn, ends[hit + 1] - ends[hit], "bit {bit}");
        }
    }
}
