//! Whether bytes are canonical DAG-CBOR, whatever they mean: the decoder does not look into what nobody reads.
//!
//! One value has one encoding, so that one record has one CID: the shortest heads, definite lengths, text keys in order
//! of length and then of bytes, no key twice, no tag but that of a link, no floats that are not numbers.

use cid::Cid;

/// The deepest nesting that is read; records of this mesh take five.
const DEPTH_MAX: usize = 32;

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
/// The tag of a link, whose bytes begin with the identity multibase prefix (DAG-CBOR specification, "Links").
const LINK: u64 = 42;

/// An array or a map that is being read.
#[derive(Clone, Copy, Default)]
struct Level<'a> {
    /// Values still to come; in a map, keys are not counted.
    left: u64,
    is_map: bool,
    last_key: Option<&'a [u8]>,
}

/// Checks that `bytes` are one canonical value and nothing else; says what is wrong otherwise.
pub fn check(bytes: &[u8]) -> Result<(), &'static str> {
    let mut rest = bytes;
    let mut levels = [Level::default(); DEPTH_MAX];
    // The outermost level is the value itself.
    let mut depth = 0;
    levels[0].left = 1;
    loop {
        while levels[depth].left == 0 {
            if depth == 0 {
                return if rest.is_empty() { Ok(()) } else { Err("bytes behind the value") };
            }
            depth -= 1;
        }
        levels[depth].left -= 1;
        if levels[depth].is_map {
            let key = text(&mut rest)?;
            if levels[depth].last_key.is_some_and(|last| (last.len(), last) >= (key.len(), key)) {
                return Err("keys out of order, or a key twice");
            }
            levels[depth].last_key = Some(key);
        }
        if let Some(level) = value(&mut rest)? {
            depth += 1;
            *levels.get_mut(depth).ok_or("nested too deeply")? = level;
        }
    }
}

/// Reads a value; of an array or a map only the head.
fn value<'a>(rest: &mut &'a [u8]) -> Result<Option<Level<'a>>, &'static str> {
    let (major, number, head) = head(rest)?;
    match major {
        UNSIGNED | NEGATIVE => Ok(None),
        BYTES => take(rest, number).map(|_| None),
        TEXT => utf8(take(rest, number)?).map(|_| None),
        ARRAY | MAP => Ok(Some(Level { left: number, is_map: major == MAP, last_key: None })),
        TAG if number == LINK => match self::head(rest)? {
            (BYTES, length, _) => link(take(rest, length)?).map(|()| None),
            _ => Err("a link that is none"),
        },
        TAG => Err("a tag that is no link"),
        // False, true, null, and floats of 64 bits.
        _ if matches!(head, 0xf4..=0xf6) => Ok(None),
        // An exponent of ones only is no number.
        _ if head == 0xfb && number >> 52 & 0x7ff != 0x7ff => Ok(None),
        _ => Err("a simple value that DAG-CBOR does not have"),
    }
}

/// A CID's parser ignores what stands behind the digest.
fn link(bytes: &[u8]) -> Result<(), &'static str> {
    let bytes = bytes.strip_prefix(&[0]).ok_or("a link that is none")?;
    match Cid::try_from(bytes) {
        Ok(cid) if cid.encoded_len() == bytes.len() => Ok(()),
        _ => Err("a link that is none"),
    }
}

fn text<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], &'static str> {
    match head(rest)? {
        (TEXT, length, _) => utf8(take(rest, length)?),
        _ => Err("a key that is no text"),
    }
}

fn utf8(bytes: &[u8]) -> Result<&[u8], &'static str> {
    core::str::from_utf8(bytes).map(|_| bytes).map_err(|_| "text that is not UTF-8")
}

/// Reads a head: the major type, its number, and its first byte.
fn head(rest: &mut &[u8]) -> Result<(u8, u64, u8), &'static str> {
    let first = take(rest, 1)?[0];
    let (major, short) = (first >> 5, first & 0x1f);
    let wide = match short {
        0..24 => return Ok((major, u64::from(short), first)),
        24..28 => 1 << (short - 24),
        _ => return Err("an indefinite length, or a reserved head"),
    };
    let number = take(rest, wide)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    // A float's number is its bits. All others take the shortest form.
    let least = [24, 1 << 8, 1 << 16, 1 << 32][usize::from(short - 24)];
    if major < 7 && number < least {
        return Err("a number in more bytes than it takes");
    }
    Ok((major, number, first))
}

fn take<'a>(rest: &mut &'a [u8], count: u64) -> Result<&'a [u8], &'static str> {
    let count = usize::try_from(count).map_err(|_| "cut short")?;
    let (taken, left) = rest.split_at_checked(count).ok_or("cut short")?;
    *rest = left;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_one_encoding() {
        let good: [&[u8]; 11] = [
            &[0x00],
            &[0x17],
            &[0x18, 24],
            &[0x38, 24],
            &[0x19, 1, 0],
            &[0x1a, 0, 1, 0, 0],
            &[0x1b, 0, 0, 0, 1, 0, 0, 0, 0],
            &[0x82, 0xf4, 0xf6],
            &[0xa2, 0x61, b'b', 0x00, 0x62, b'a', b'a', 0x80],
            &[0xfb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0],
            &[0x62, 0xc3, 0xa4],
        ];
        for bytes in good {
            assert_eq!(check(bytes), Ok(()), "{bytes:x?}");
        }
        let cid = crate::id::cid_of(crate::id::RAW, b"").to_bytes();
        assert_eq!(check(&[&[0xd8, 42, 0x58, 37, 0][..], &cid].concat()), Ok(()));
        assert!(check(&[&[0xd8, 42, 0x58, 38, 0][..], &cid, &[0]].concat()).is_err(), "a byte behind the digest");
    }

    #[test]
    fn all_other_encodings_are_refused() {
        let bad: [&[u8]; 23] = [
            &[],
            &[0x18, 23],
            &[0x38, 23],
            &[0x19, 0, 255],
            &[0x1a, 0, 0, 255, 255],
            &[0x1b, 0, 0, 0, 0, 255, 255, 255, 255],
            &[0x1c],
            &[0x9f, 0xff],
            &[0x5f, 0xff],
            &[0x81],
            &[0x00, 0x00],
            &[0x61, 0xff],
            &[0xa1, 0x01, 0x01],
            &[0xa2, 0x61, b'a', 0x00, 0x61, b'a', 0x00],
            &[0xa2, 0x62, b'a', b'a', 0x00, 0x61, b'b', 0x00],
            &[0xc1, 0x00],
            &[0xd8, 42, 0x00],
            &[0xd8, 42, 0x41, 1],
            &[0xf7],
            &[0xf8, 32],
            &[0xf9, 0, 0],
            &[0xfb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0],
            &[0x5b, 255, 255, 255, 255, 255, 255, 255, 255],
        ];
        for bytes in bad {
            assert!(check(bytes).is_err(), "{bytes:x?}");
        }
    }

    #[test]
    fn nesting_has_an_end() {
        let nested = |levels: usize| [alloc::vec![0x81; levels], alloc::vec![0x00]].concat();
        assert_eq!(check(&nested(DEPTH_MAX - 1)), Ok(()));
        assert_eq!(check(&nested(DEPTH_MAX)), Err("nested too deeply"));
        assert_eq!(check(&nested(500_000)), Err("nested too deeply"));
    }
}
