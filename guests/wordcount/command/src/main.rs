//! Word counts as a `wasm-command`: text on standard input, JSON on standard output.

use std::io::{self, Read, Write};
use wordcount_count::Counts;

/// Bytes that are read at a time: as many as the engine hands over without a copy of its own.
const PIECE: usize = 256 * 1024;

fn main() -> io::Result<()> {
    let mut counts = Counts::default();
    let mut piece = vec![0; PIECE];
    let mut input = io::stdin().lock();
    loop {
        match input.read(&mut piece)? {
            0 => break,
            read => counts.add_text(&piece[..read]),
        }
    }
    counts.end();
    io::stdout().lock().write_all(&counts.write())
}
