//! What lies at a node, in a script.

use super::{Words, number};

/// Lengths of files, in bytes.
pub(super) fn lengths(words: Words) -> Vec<u64> {
    words.iter().map(|word| number(word)).collect()
}

/// `101`: the first and the third are there.
pub(super) fn bitmap(bits: &str) -> Vec<u8> {
    let mut map = vec![0; bits.len().div_ceil(8)];
    for (i, _) in bits.chars().enumerate().filter(|(_, bit)| *bit == '1') {
        map[i / 8] |= 1 << (i % 8);
    }
    map
}
