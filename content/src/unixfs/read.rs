//! Reads a file at any offset, loading only the blocks on the way.

use super::node::{Kind, Node, target};
use super::{Error, Get, Problem, fetch};
use bytes::Bytes;
use cid::Cid;

/// Levels of a file's tree, at most. Balanced, with 174 links a node, they hold 2^111 leaves; in the trickle layout 10^12, each of which may have
/// 256 KiB and more.
pub const MAX_FILE_DEPTH: usize = 16;

/// A part of the file under a node.
struct Part {
    start: u64,
    end: u64,
    at: Place,
}

enum Place {
    Here(Bytes),
    Under(Cid),
}

/// The parts of one node, in order and without gaps.
struct Level {
    start: u64,
    end: u64,
    parts: Vec<Part>,
}

/// A UnixFS file that is being read. It keeps the nodes on the way to the last offset, so that reading on loads each block once.
///
/// Every size that a node states is checked against what is found below it before content is handed out.
pub struct FileReader {
    /// From the root, which is always there, to the node of the last offset.
    levels: Vec<Level>,
}

impl FileReader {
    /// Opens the file `cid`. Fails with [`Problem::NotAFile`] on anything else.
    pub fn open<E>(cid: &Cid, get: &mut Get<'_, E>) -> Result<FileReader, Error<E>> {
        Ok(FileReader { levels: vec![load(cid, 0, None, get)?] })
    }

    /// Bytes in the file, as its root says; reading fails where that is not so.
    pub fn size(&self) -> u64 {
        self.levels[0].end
    }

    /// Reads at `offset` until `buffer` is full or the file ends. Returns the number of bytes read.
    pub fn read_range<E>(&mut self, offset: u64, buffer: &mut [u8], get: &mut Get<'_, E>) -> Result<usize, Error<E>> {
        let mut done = 0;
        while done < buffer.len() {
            let Some(offset) = offset.checked_add(done as u64) else { break };
            let chunk = self.chunk(offset, get)?;
            if chunk.is_empty() {
                break;
            }
            let length = chunk.len().min(buffer.len() - done);
            buffer[done..done + length].copy_from_slice(&chunk[..length]);
            done += length;
        }
        Ok(done)
    }

    /// The bytes from `offset` to the end of the block that holds it, without copying; empty at the end of the file.
    pub fn chunk<E>(&mut self, offset: u64, get: &mut Get<'_, E>) -> Result<Bytes, Error<E>> {
        if offset >= self.size() {
            return Ok(Bytes::new());
        }
        // The root covers every offset below the size, so it stays.
        while self.levels.last().is_some_and(|level| offset < level.start || offset >= level.end) {
            self.levels.pop();
        }
        loop {
            let Some(level) = self.levels.last() else { return Ok(Bytes::new()) };
            let at = level.parts.partition_point(|part| part.end <= offset);
            let Some(part) = level.parts.get(at) else { return Ok(Bytes::new()) };
            match &part.at {
                Place::Here(data) => return Ok(data.slice((offset - part.start) as usize..)),
                Place::Under(cid) => {
                    if self.levels.len() >= MAX_FILE_DEPTH {
                        let limit = MAX_FILE_DEPTH as u64;
                        return Err(Problem::TooMany { what: "levels in a file", limit }.into());
                    }
                    let next = load(cid, part.start, Some(part.end), get)?;
                    self.levels.push(next);
                }
            }
        }
    }
}

/// Loads a node whose content begins at `start` and should end at `end`.
fn load<E>(cid: &Cid, start: u64, end: Option<u64>, get: &mut Get<'_, E>) -> Result<Level, Error<E>> {
    let node = Node::parse(cid, fetch(cid, get)?)?;
    if node.kind != Kind::File {
        return Err(Problem::NotAFile { cid: *cid }.into());
    }
    if node.links.len() != node.block_sizes.len() {
        return Err(Problem::malformed(cid, "it has not one size for each link").into());
    }
    let mut at = start;
    let mut parts = Vec::with_capacity(node.links.len() + 1);
    let mut add = |size: u64, place: Place| -> Result<(), Problem> {
        let end = at.checked_add(size).ok_or_else(|| Problem::malformed(cid, "its sizes overflow"))?;
        parts.push(Part { start: at, end, at: place });
        at = end;
        Ok(())
    };
    let claimed = node.file_size;
    add(node.data.len() as u64, Place::Here(node.data))?;
    for (link, size) in node.links.iter().zip(&node.block_sizes) {
        add(*size, Place::Under(target(cid, link)?))?;
    }
    if end.is_some_and(|end| end != at) || claimed.is_some_and(|size| size != at - start) {
        return Err(Problem::malformed(cid, "its size is not what is said of it").into());
    }
    Ok(Level { start, end: at, parts })
}
