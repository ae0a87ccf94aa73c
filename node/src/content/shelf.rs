//! The handle by which engines reach content: all of it local.

use cid::Cid;
use parking_lot::Mutex;
use std::collections::VecDeque;
use timerose_content::{Content, ContentError, EntryKind, FileReader, Hold};
use timerose_core::failure::Failure;
use timerose_engines::{Host, HostEntry};

use super::of_content;
use crate::announce::Announcements;
use crate::ports::Shelf;

/// Files that are kept open between reads: a guest reads its arguments in order, some of a mount at a time.
const OPEN_MAX: usize = 16;

/// Content as one node's guests see it.
pub(super) struct LocalShelf {
    content: Content,
    announcements: Announcements,
    open: Mutex<VecDeque<(Cid, FileReader)>>,
}

impl LocalShelf {
    pub fn new(content: Content, announcements: Announcements) -> LocalShelf {
        LocalShelf { content, announcements, open: Mutex::default() }
    }

    /// Does something with a file's reader, keeping it open for the next read.
    fn with_reader<T>(
        &self,
        file: &Cid,
        what: impl FnOnce(&mut FileReader, &Content) -> Result<T, ContentError>,
    ) -> Result<T, Failure> {
        let kept = {
            let mut open = self.open.lock();
            open.iter().position(|(cid, _)| cid == file).and_then(|at| open.remove(at))
        };
        let mut reader = match kept {
            Some((_, reader)) => reader,
            None => FileReader::open(file, &mut |cid| self.content.block(cid)).map_err(ContentError::from).map_err(of_content)?,
        };
        let result = what(&mut reader, &self.content).map_err(of_content)?;
        let mut open = self.open.lock();
        if open.len() >= OPEN_MAX {
            open.pop_front();
        }
        open.push_back((*file, reader));
        Ok(result)
    }
}

impl Host for LocalShelf {
    fn size(&self, file: &Cid) -> Result<u64, Failure> {
        self.with_reader(file, |reader, _| Ok(reader.size()))
    }

    fn read_at(&self, file: &Cid, offset: u64, buf: &mut [u8]) -> Result<usize, Failure> {
        self.with_reader(file, |reader, content| Ok(reader.read_range(offset, buf, &mut |cid| content.block(cid))?))
    }

    fn list(&self, dir: &Cid) -> Result<Option<Vec<HostEntry>>, Failure> {
        if self.content.resolve(dir, "").map_err(of_content)?.kind != EntryKind::Directory {
            return Ok(None);
        }
        let entries = self.content.list(dir).map_err(of_content)?;
        let shown = entries.into_iter().filter(|entry| entry.kind != EntryKind::Symlink).map(|entry| {
            let is_dir = entry.kind == EntryKind::Directory;
            HostEntry { name: entry.name, cid: entry.cid, size: if is_dir { 0 } else { entry.size }, is_dir }
        });
        Ok(Some(shown.collect()))
    }
}

impl Shelf for LocalShelf {
    fn put(&self, bytes: &[u8]) -> Result<Cid, Failure> {
        let cid = self.content.add_bytes_soon(bytes).map_err(of_content)?;
        self.announcements.result(&cid);
        Ok(cid)
    }

    fn try_put(&self, bytes: &[u8]) -> Option<Cid> {
        let cid = self.content.try_add_bytes_soon(bytes)?;
        self.announcements.result(&cid);
        Some(cid)
    }

    fn hold(&self, roots: &[Cid]) -> Hold {
        self.content.hold(roots)
    }
}
