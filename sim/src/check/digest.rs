//! The hash of a run: two runs with the same hash had the same facts at the same times in the same order.

use std::fmt::Write;

use sha2::{Digest as _, Sha256};

use crate::fact::Fact;

/// Hashes facts as they come.
#[derive(Debug, Default)]
pub struct Digest {
    hash: Sha256,
    line: String,
}

impl Digest {
    /// Takes a fact in; gives its line.
    pub fn take(&mut self, at: u64, fact: &Fact) -> &str {
        self.line.clear();
        let written = match fact {
            Fact::Step { node, line } => writeln!(self.line, "{at} {node} {line}"),
            fact => writeln!(self.line, "{at} {fact:?}"),
        };
        written.expect("a string takes everything");
        self.hash.update(&self.line);
        self.line.trim_end()
    }

    /// The hash of all facts so far, in hex.
    pub fn hex(&self) -> String {
        let bytes = self.hash.clone().finalize();
        bytes.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a string takes everything");
            hex
        })
    }
}
