//! Counting words, and the JSON in which the counts travel.
//!
//! A word is a maximal run of ASCII letters and digits, lower-cased; the text around it may be any bytes. Counts are written
//! as one compact JSON object, word to count, its keys sorted by their bytes: `{"a":1,"b":2}`. The same text always gives
//! the same bytes.
#![no_std]
extern crate alloc;

mod json;
mod table;

pub use json::Malformed;
pub use table::Counts;

/// The most bytes that [`Counts::write`] needs for the counts of a text of `input` bytes, and also for the sum of counts that
/// were written in `input` bytes.
///
/// Of a text: a word of length L that occurs c times takes c·(L+1) bytes of input, counting one byte that separates each from
/// the next, of which the very last may be missing: the words take at most `input` + 1 bytes. It is written in L+4+d bytes,
/// `"` word `"` `:` count `,`, where d, the digits of c, is at most c. As L and c are at least 1, L+4+d ≤ 3·c·(L+1). All words
/// are thus written in 3·(`input`+1) bytes; the braces add 2, the comma that the last word lacks takes away 1.
///
/// Of a sum: a word is written once, with the sum of its counts; that has no more digits than these have together. So its
/// entry is no longer than its entries in the input, and `{}` is written where there is no input at all.
pub const fn room(input: usize) -> usize {
    input.saturating_mul(3).saturating_add(4)
}
