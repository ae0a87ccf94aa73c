//! Writing counts as JSON, and reading exactly what is written.

use alloc::vec::Vec;

use crate::table::{Counts, write_word};

/// The bytes are not what [`Counts::write`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The most digits of a 64-bit number.
const DIGITS: usize = 20;

impl Counts {
    /// The counts as JSON.
    pub fn write(&self) -> Vec<u8> {
        let words = self.sorted();
        let mut json = Vec::with_capacity(words.iter().map(|(word, _)| word.len() * 8 + 4 + DIGITS).sum::<usize>() + 2);
        json.push(b'{');
        for (index, (word, count)) in words.iter().enumerate() {
            if index > 0 {
                json.push(b',');
            }
            json.push(b'"');
            write_word(word, &mut json);
            json.extend_from_slice(b"\":");
            write_number(*count, &mut json);
        }
        json.push(b'}');
        json
    }

    /// Adds counts that were written before.
    ///
    /// # Errors
    /// [`Malformed`] where they are anything else than [`Counts::write`] writes: other spacing, an order that is not that of the
    /// keys, a count of 0.
    pub fn add_json(&mut self, json: &[u8]) -> Result<(), Malformed> {
        let mut rest = json.strip_prefix(b"{").ok_or(Malformed)?;
        if rest == b"}" {
            return Ok(());
        }
        let mut last: &[u8] = b"";
        loop {
            let (word, count, after) = read_entry(rest)?;
            // Every word is longer than the empty one that this starts with.
            if word <= last {
                return Err(Malformed);
            }
            self.add(word, count);
            last = word;
            match after {
                [b',', more @ ..] => rest = more,
                [b'}'] => return Ok(()),
                _ => return Err(Malformed),
            }
        }
    }
}

/// One `"word":count`, and what follows it.
fn read_entry(json: &[u8]) -> Result<(&[u8], u64, &[u8]), Malformed> {
    let json = json.strip_prefix(b"\"").ok_or(Malformed)?;
    let length = json.iter().take_while(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()).count();
    let (word, json) = json.split_at(length);
    let json = json.strip_prefix(b"\":").ok_or(Malformed)?;
    let digits = json.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, json) = json.split_at(digits);
    if word.is_empty() || number.is_empty() || number[0] == b'0' {
        return Err(Malformed);
    }
    let mut count = 0_u64;
    for digit in number {
        count = count.checked_mul(10).and_then(|count| count.checked_add(u64::from(digit - b'0'))).ok_or(Malformed)?;
    }
    Ok((word, count, json))
}

fn write_number(mut number: u64, json: &mut Vec<u8>) {
    let mut digits = [0; DIGITS];
    let mut first = DIGITS;
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    json.extend_from_slice(&digits[first..]);
}
