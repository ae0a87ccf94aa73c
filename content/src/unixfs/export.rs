//! Writes out the content of files.

use super::read::FileReader;
use super::{Error, Get, Problem};
use cid::Cid;
use std::io::Write;
use std::path::Path;

/// Writes the content of the file `cid`; returns the number of bytes. Fails on a file that is not as large as it says.
pub fn export<E>(cid: &Cid, out: &mut dyn Write, get: &mut Get<'_, E>) -> Result<u64, Error<E>> {
    let mut reader = FileReader::open(cid, get)?;
    let mut offset = 0;
    while offset < reader.size() {
        let chunk = reader.chunk(offset, get)?;
        out.write_all(&chunk).map_err(|e| Problem::io("write", Path::new("the output"), &e))?;
        offset += chunk.len() as u64;
    }
    Ok(offset)
}
