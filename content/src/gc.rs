//! Garbage collection: marks what must stay, removes the rest.
//!
//! What stays: pinned DAGs, blocks kept for others, what the caller names, roots in use and those that were within the grace, blocks that were put
//! within the grace or since the oldest upload under way began, and whatever is asked for or put while it runs. Marks and the queue of what is to be
//! followed are on disk, so that memory stays bounded whatever the store holds. It reads and removes in small steps, and nobody waits for it.

use crate::block::{self, BlockError, DAG_CBOR, DAG_PB};
use crate::blockstore::{Blockstore, MAX_GRACE, StoreError, Sweeping};
use crate::guard::Uses;
use crate::pin::{self, Mode};
use crate::{Content, ContentError};
use cid::Cid;
use redb::{Database, ReadableTable, TableDefinition};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// For how long blocks are spared after they were put or used, if nothing else is asked for.
pub const GRACE: Duration = Duration::from_secs(3600);
/// Memory for the pages of the marks, in bytes.
const CACHE_BYTES: usize = 16 << 20;
/// Blocks that are removed in one step, and marks between two reports.
const STEP: usize = 256;
/// Blocks of a DAG that is checked to be whole; beyond it no pin is made. A fetch has the same bound.
const MAX_BLOCKS: usize = crate::exchange::MAX_FETCH_BLOCKS;

/// Digests that are marked, each with a bit for the codec under which it was followed.
const MARKS: TableDefinition<&[u8], u8> = TableDefinition::new("marks");
/// What is to be followed, in order.
const QUEUE: TableDefinition<u64, &[u8]> = TableDefinition::new("queue");

/// A root that the caller names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spare {
    /// This block.
    Block(Cid),
    /// This block and what is here of all below it.
    Below(Cid),
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many blocks must stay.
    Marked(u64),
    /// So many blocks were looked at, and so many removed.
    Swept {
        /// Looked at.
        seen: u64,
        /// Removed.
        removed: u64,
    },
}

/// What it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Blocks that stay.
    pub kept: u64,
    /// Blocks that were removed.
    pub removed: u64,
    /// Bytes in them.
    pub freed: u64,
}

/// Why nothing, or nothing more, was removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GcError {
    /// Another one runs.
    #[error("a collection is under way already")]
    Running,
    /// The caller wanted no more.
    #[error("the collection was stopped")]
    Stopped,
    /// A block of a pinned DAG is not here: what lies below it is not known, and might be removed by mistake.
    #[error("{missing} is not here and belongs to the pin {pin}: nothing is removed, as what lies below it is not known")]
    Incomplete {
        /// The pinned root.
        pin: Cid,
        /// The block.
        missing: Cid,
    },
    /// So much is in use that it cannot be noted.
    #[error("too many blocks are in use: try again when less is going on")]
    TooBusy,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Names further roots; see [`Spare`].
pub type Roots<'a> = dyn FnMut(&mut dyn FnMut(Spare) -> Result<(), GcError>) -> Result<(), GcError> + 'a;
/// Is told how far it is; `false` stops it.
pub type Tell<'a> = dyn FnMut(Progress) -> bool + 'a;

/// Collects. Blocks for as long as it takes.
pub(crate) fn collect(
    store: &Blockstore,
    uses: &Uses,
    dir: &Path,
    grace: Duration,
    roots: &mut Roots<'_>,
    tell: &mut Tell<'_>,
) -> Result<Report, GcError> {
    let grace = grace.min(MAX_GRACE);
    let sweeping = store.begin_sweep().ok_or(GcError::Running)?;
    // What is being written was not noted as used, and is not written down as young yet. That it is written matters, not how it ends.
    let _ = store.flush();
    let file = Temporary::new(dir.join("gc.redb"))?;
    let database = Database::builder().set_cache_size(CACHE_BYTES).create(&file.0).map_err(|e| failed(&file.0, e))?;
    let write = database.begin_write().map_err(|e| failed(&file.0, e))?;
    let report = {
        let marks = write.open_table(MARKS).map_err(|e| failed(&file.0, e))?;
        let queue = write.open_table(QUEUE).map_err(|e| failed(&file.0, e))?;
        let path = file.0.clone();
        let mut marker = Marker { sweeping: &sweeping, marks, queue, path, first: 0, next: 0, count: 0, tell };
        marker.mark(store, uses, grace, roots)?;
        marker.sweep(store)
    };
    // All of it was for this collection alone.
    let _ = write.abort();
    report.inspect(|report| store.bound().freed(report.freed))
}

fn failed(path: &Path, error: impl Into<redb::Error>) -> StoreError {
    StoreError::Index { path: path.to_owned(), why: error.into().to_string() }
}

/// A file that is gone when this is.
struct Temporary(PathBuf);

impl Temporary {
    fn new(path: PathBuf) -> Result<Temporary, StoreError> {
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("remove", &path, &e)),
            _ => Ok(Temporary(path)),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What stays is removed by the next collection.
        let _ = std::fs::remove_file(&self.0);
    }
}

struct Marker<'a, 'db> {
    sweeping: &'a Sweeping<'a>,
    marks: redb::Table<'db, &'static [u8], u8>,
    queue: redb::Table<'db, u64, &'static [u8]>,
    path: PathBuf,
    /// The numbers of the first in the queue and of the next that comes into it.
    first: u64,
    next: u64,
    count: u64,
    tell: &'a mut Tell<'a>,
}

impl Marker<'_, '_> {
    fn mark(&mut self, store: &Blockstore, uses: &Uses, grace: Duration, roots: &mut Roots<'_>) -> Result<(), GcError> {
        // What is in use and what is young come before the pins are read: an upload that ends meanwhile, or a hold that is let go, may leave a pin
        // behind, where the pins were read already.
        let now = SystemTime::now();
        let young = now.checked_sub(grace + grace.min(crate::blockstore::BIRTH_EVERY)).unwrap_or(SystemTime::UNIX_EPOCH);
        let since = uses.oldest_upload().map_or(young, |upload| upload.min(young));
        let in_use = uses.roots(grace);
        let whole = |pin: &pin::Pin| pin.mode == Mode::Recursive && !pin.partial;
        // Those that must be whole come first: what they share with others is then followed under their rule.
        for now in [true, false] {
            let mut after = None;
            loop {
                let page = pin::page(store, after.as_ref())?;
                let Some(last) = page.last() else { break };
                after = Some(last.cid);
                for pin in page.iter().filter(|pin| whole(pin) == now) {
                    match pin.mode {
                        Mode::Recursive => self.below(pin.cid, now)?,
                        Mode::Direct => self.block(&pin.cid.hash().to_bytes())?,
                    }
                }
            }
        }
        pin::each_kept(store, &mut |cid| self.block(&cid.hash().to_bytes()))?;
        roots(&mut |spare| match spare {
            Spare::Block(cid) => Ok(self.block(&cid.hash().to_bytes())?),
            Spare::Below(cid) => self.below(cid, false),
        })?;
        // What came into use meanwhile may not have been looked at yet.
        for root in in_use.into_iter().chain(uses.roots(grace)) {
            self.below(root, false)?;
        }
        let sweeping = self.sweeping;
        sweeping.born_since(since, &mut |digest| self.block(&[&[0x12, 0x20], &digest[..]].concat()))?;
        Ok(())
    }

    /// Marks a block by its multihash, and nothing below it.
    fn block(&mut self, hash: &[u8]) -> Result<(), StoreError> {
        let marked = self.marks.get(hash).map_err(|e| failed(&self.path, e))?.is_some();
        if !marked {
            self.marks.insert(hash, 0).map_err(|e| failed(&self.path, e))?;
            self.count += 1;
        }
        Ok(())
    }

    /// Marks a block, and puts it into the queue if it can have links and was not followed yet.
    fn reach(&mut self, cid: &Cid) -> Result<(), StoreError> {
        let hash = cid.hash().to_bytes();
        let codec = match cid.codec() {
            DAG_PB => 1,
            DAG_CBOR => 2,
            _ => return self.block(&hash),
        };
        let marked = self.marks.get(hash.as_slice()).map_err(|e| failed(&self.path, e))?.map(|mark| mark.value());
        if marked.is_some_and(|followed| followed & codec != 0) {
            return Ok(());
        }
        self.count += u64::from(marked.is_none());
        self.marks.insert(hash.as_slice(), marked.unwrap_or(0) | codec).map_err(|e| failed(&self.path, e))?;
        self.queue.insert(self.next, cid.to_bytes().as_slice()).map_err(|e| failed(&self.path, e))?;
        self.next += 1;
        Ok(())
    }

    /// Marks a block and all below it. If it must be `whole`, a block that has links and is not here is an error.
    fn below(&mut self, root: Cid, whole: bool) -> Result<(), GcError> {
        self.reach(&root)?;
        while self.first < self.next {
            let cid = {
                let next = self.queue.remove(self.first).map_err(|e| failed(&self.path, e))?;
                next.and_then(|bytes| Cid::try_from(bytes.value()).ok())
            };
            self.first += 1;
            if self.first.is_multiple_of(STEP as u64) && !(self.tell)(Progress::Marked(self.count)) {
                return Err(GcError::Stopped);
            }
            let Some(cid) = cid else { continue };
            let data = match self.sweeping.peek(&cid) {
                Ok(Some(data)) => data,
                Ok(None) | Err(StoreError::Corrupt { .. } | StoreError::Block(_)) if !whole => continue,
                Ok(None) | Err(StoreError::Corrupt { .. }) => return Err(GcError::Incomplete { pin: root, missing: cid }),
                Err(other) => return Err(other.into()),
            };
            // What has no links that can be read has nothing below it.
            for link in block::links(&cid, &data).unwrap_or_default() {
                self.reach(&link)?;
            }
        }
        Ok(())
    }

    fn sweep(&mut self, store: &Blockstore) -> Result<Report, GcError> {
        let mut batch = Vec::with_capacity(STEP);
        let mut seen = 0u64;
        let mut hashes = store.iter();
        loop {
            let next = hashes.next().transpose()?;
            if let Some(hash) = next {
                seen += 1;
                if self.marks.get(hash.to_bytes().as_slice()).map_err(|e| failed(&self.path, e))?.is_none() {
                    batch.push(hash);
                }
            }
            if batch.len() >= STEP || (next.is_none() && !batch.is_empty()) {
                self.sweeping.remove(std::mem::take(&mut batch))?;
            }
            let (removed, freed, full) = self.sweeping.so_far();
            if full {
                return Err(GcError::TooBusy);
            }
            if next.is_none() {
                return Ok(Report { kept: store.stat()?.blocks, removed, freed });
            }
            if seen.is_multiple_of(STEP as u64) && !(self.tell)(Progress::Swept { seen, removed }) {
                return Err(GcError::Stopped);
            }
        }
    }
}

/// The first block of a DAG that is not here, if any is missing. Each that is here counts as used.
pub(crate) fn missing(content: &Content, root: &Cid) -> Result<Option<Cid>, ContentError> {
    let mut seen = HashSet::new();
    let mut left = vec![*root];
    while let Some(cid) = left.pop() {
        if !seen.insert(cid) {
            continue;
        }
        if seen.len() > MAX_BLOCKS {
            let problem = crate::unixfs::Problem::TooMany { what: "blocks in a pinned DAG", limit: MAX_BLOCKS as u64 };
            return Err(problem.into());
        }
        if ![DAG_PB, DAG_CBOR].contains(&cid.codec()) {
            if !content.store().has(&cid)? {
                return Ok(Some(cid));
            }
            continue;
        }
        let Some(data) = content.store().get(&cid)? else { return Ok(Some(cid)) };
        match block::links(&cid, &data) {
            Ok(links) => left.extend(links.into_iter().rev()),
            Err(BlockError::Malformed { .. } | BlockError::UnsupportedCodec { .. }) => {}
            Err(other) => return Err(StoreError::Block(other).into()),
        }
    }
    Ok(None)
}
