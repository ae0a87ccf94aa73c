//! The table of words: open addressing over words that lie one after another in one buffer, eight bytes to a number.
//!
//! `std`'s map would do but for two things: without an operating system there is none, and its hasher wants entropy. Most
//! words have at most eight bytes: they are read, hashed, compared and ordered as one number.

use alloc::vec;
use alloc::vec::Vec;

/// A word that was seen.
struct Word {
    /// Where it lies in the buffer.
    start: usize,
    end: usize,
    hash: u64,
    count: u64,
}

/// How often each word was seen.
pub struct Counts {
    /// All different words, and at the end the whole eights of the word that is being read. An eight holds its bytes from the
    /// highest down; the place of missing ones is taken by zeros, which are in no word, so eights are ordered as words are.
    eights: Vec<u64>,
    words: Vec<Word>,
    /// Numbers of words, by hash; [`FREE`] where there is none. A power of two in length, at most half full.
    slots: Vec<u32>,
    /// Where the word that is being read starts, and the hash of its whole eights.
    open: usize,
    hash: u64,
    /// The bytes of the word that is being read which do not fill an eight yet, from the lowest up.
    part: u64,
}

const FREE: u32 = u32::MAX;
const FIRST_SLOTS: usize = 1024;

/// For each byte, what it is as part of a word; 0 where it is no part of one.
const LOWER: [u8; 256] = {
    let mut lower = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        if (byte as u8).is_ascii_alphanumeric() {
            lower[byte] = (byte as u8).to_ascii_lowercase();
        }
        byte += 1;
    }
    lower
};

impl Default for Counts {
    fn default() -> Self {
        Counts { eights: Vec::new(), words: Vec::new(), slots: vec![FREE; FIRST_SLOTS], open: 0, hash: 0, part: 0 }
    }
}

impl Counts {
    /// Counts the words of a piece of text. A word may go on in the next piece: [`Counts::end`] ends the last one.
    pub fn add_text(&mut self, text: &[u8]) {
        // A copy that stays in a register.
        let mut part = self.part;
        for byte in text {
            let lower = LOWER[usize::from(*byte)];
            if lower != 0 {
                part = self.push(part, lower);
            } else if part != 0 || self.open < self.eights.len() {
                self.close(part, 1);
                part = 0;
            }
        }
        self.part = part;
    }

    /// Ends the word that is being read, if there is one.
    pub fn end(&mut self) {
        if self.part != 0 || self.open < self.eights.len() {
            self.close(self.part, 1);
            self.part = 0;
        }
    }

    /// Adds `count` to a word, not empty, that is lower-cased already.
    pub(crate) fn add(&mut self, word: &[u8], count: u64) {
        let part = word.iter().fold(0, |part, byte| self.push(part, *byte));
        self.close(part, count);
    }

    /// The words in the order of their bytes, each in eights (see [`write_word`]) and with its count.
    pub(crate) fn sorted(&self) -> Vec<(&[u64], u64)> {
        let words = self.words.iter().map(|word| (&self.eights[word.start..word.end], word.count));
        let mut sorted: Vec<(&[u64], u64)> = words.collect();
        sorted.sort_unstable();
        sorted
    }

    /// Takes a byte into the word that is being read, of which `part` does not fill an eight yet; gives the new part.
    #[inline]
    fn push(&mut self, part: u64, byte: u8) -> u64 {
        let part = part << 8 | u64::from(byte);
        // No byte of a word is 0: the eight is full when its highest byte is there.
        if part >> 56 == 0 {
            return part;
        }
        self.push_eight(part);
        0
    }

    /// Takes an eight into the word that is being read. A rotation, an exclusive or and a product make the hash, as in rustc's
    /// own tables: fast, and good enough where nobody attacks.
    #[inline]
    fn push_eight(&mut self, eight: u64) {
        self.eights.push(eight);
        self.hash = (self.hash.rotate_left(5) ^ eight).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    /// Counts the word that was read, of which `part` is left: its eights stay in the buffer if it is new.
    fn close(&mut self, part: u64, count: u64) {
        if part != 0 {
            self.push_eight(part << (part.leading_zeros() & !7));
        }
        let (start, end, hash) = (self.open, self.eights.len(), self.hash);
        self.hash = 0;
        let mut slot = self.home(hash);
        while let Some(word) = self.words.get_mut(self.slots[slot] as usize) {
            if word.hash == hash && self.eights[word.start..word.end].iter().eq(&self.eights[start..end]) {
                // A sum that does not fit can come from forged counts only.
                word.count = word.count.checked_add(count).expect("a count fits 64 bits");
                self.eights.truncate(start);
                return;
            }
            slot = self.after(slot);
        }
        self.slots[slot] = self.words.len() as u32;
        self.words.push(Word { start, end, hash, count });
        self.open = end;
        if self.words.len() * 2 > self.slots.len() {
            self.grow();
        }
    }

    fn grow(&mut self) {
        self.slots = vec![FREE; self.slots.len() * 2];
        for number in 0..self.words.len() {
            let mut slot = self.home(self.words[number].hash);
            while self.slots[slot] != FREE {
                slot = self.after(slot);
            }
            self.slots[slot] = number as u32;
        }
    }

    /// Where the search for a hash starts: at its highest bits, into which a product mixes all others. The lower ones of a short
    /// word's are 0.
    fn home(&self, hash: u64) -> usize {
        (hash >> (u64::BITS - self.slots.len().trailing_zeros())) as usize
    }

    fn after(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots.len() - 1)
    }
}

/// Appends the bytes of a word that is given in eights.
pub(crate) fn write_word(eights: &[u64], to: &mut Vec<u8>) {
    for eight in eights {
        let length = 8 - eight.trailing_zeros() as usize / 8;
        to.extend_from_slice(&eight.to_be_bytes()[..length]);
    }
}
