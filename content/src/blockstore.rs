//! The blockstore: durable blocks, keyed by multihash, and a little metadata beside them.
//!
//! Blocks over 16 KiB are flat files, smaller ones and all metadata live in one redb file. One thread writes, so that concurrent callers share
//! its syncs; any thread reads. Every method blocks: call them from blocking threads.

mod bad;
mod batch;
mod bound;
mod error;
#[cfg(test)]
mod fault_tests;
mod flat;
mod index;
mod redb_file;
mod staging;
mod sweep;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

pub use batch::{BATCH_BLOCKS, BATCH_BYTES, BatchWriter};
pub(crate) use bound::Bound;
pub use bound::Room;
pub use error::StoreError;
pub use index::{MAX_SMALL_BYTES, StoreStat};
pub use staging::{MAX_STAGED_BYTES, StageFull};
pub(crate) use sweep::BIRTH_EVERY;
pub use sweep::MAX_GRACE;
pub use verify::{Fault, Finding, MAX_FINDINGS, Report};

use crate::block::{self, Block, Multihash};
use bad::Bad;
use bytes::Bytes;
use cid::Cid;
use flat::Flat;
use index::{Index, Place};
use staging::Staging;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use writer::{Disk, Pending, Work, Writer};

/// What the file `FORMAT` says. A store of this format must open for ever.
const FORMAT: &str = "timerose blockstore 1\n";
/// Multihashes that one step of [`Blockstore::iter`] reads.
const PAGE: usize = 1024;
/// Keys that one `meta_scan_prefix` may ask for.
pub const MAX_SCAN: usize = 65_536;

/// Told about blocks that have just become available, each by its multihash. Called on the thread that put or staged them.
pub(crate) type Observer = Box<dyn Fn(&[Multihash]) + Send + Sync>;

/// A store of blocks in a directory. Cloning is cheap; the store closes when the last clone is dropped.
#[derive(Clone)]
pub struct Blockstore(Arc<Inner>);

struct Inner {
    disk: Arc<Disk>,
    writer: Writer,
    staging: Staging,
    observer: OnceLock<Observer>,
}

impl Blockstore {
    /// Opens the store in `dir`, making it if there is none, and sweeps what a crash left half written.
    ///
    /// Fails with [`StoreError::Locked`] if another process has it, with [`StoreError::Format`] if it is of a newer format.
    pub fn open(dir: &Path) -> Result<Blockstore, StoreError> {
        std::fs::create_dir_all(dir).map_err(|e| StoreError::io("create", dir, &e))?;
        check_format(dir)?;
        // The index comes first: it holds the lock under which the sweep is safe.
        let index = Index::open(dir)?;
        let flat = Flat::open(dir)?;
        if index.stat()? == StoreStat::default() && flat.files(0).next().is_some() {
            tracing::warn!(dir = %dir.display(), "the index lists no block, and there are block files: repo verify --repair takes them in");
        }
        let disk = Disk {
            index,
            flat,
            fresh: Staging::default(),
            bad: Bad::default(),
            failing: AtomicBool::new(false),
            sweep: Default::default(),
            births: Default::default(),
            bound: Arc::default(),
        };
        disk.bound.now(disk.index.stat()?.bytes);
        let disk = Arc::new(disk);
        let writer = Writer::start(disk.clone())?;
        Ok(Blockstore(Arc::new(Inner { disk, writer, staging: Staging::default(), observer: OnceLock::new() })))
    }

    /// Sets the one observer of new blocks; a second one is not taken.
    pub(crate) fn observe(&self, observer: Observer) {
        let _ = self.0.observer.set(observer);
    }

    fn announce(&self, hashes: &[Multihash]) {
        if let Some(observer) = self.0.observer.get() {
            observer(hashes);
        }
    }

    /// Whether the block is kept here. One that is known to be corrupt is not.
    pub fn has(&self, cid: &Cid) -> Result<bool, StoreError> {
        Ok(self.size_of(cid)?.is_some())
    }

    /// Bytes in the block, if it is kept here.
    pub fn size_of(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        if let Some(data) = block::inline_data(cid) {
            return Ok(Some(data.len() as u64));
        }
        if let Some(data) = self.0.disk.fresh.get(cid.hash()) {
            return Ok(Some(data.len() as u64));
        }
        if self.0.disk.bad.has(cid.hash()) || !self.0.disk.sweep.claim(cid.hash()) {
            return Ok(None);
        }
        Ok(self.0.disk.index.place(cid.hash())?.map(|place| place.size()))
    }

    /// The block's bytes, hashed again on the way, or `None` if it is not kept here.
    ///
    /// Fails with [`StoreError::Corrupt`] if what is on disk is not the block. From then on the block counts as absent for [`Blockstore::has`]
    /// and for puts, so that the next fetch or put replaces it.
    pub fn get(&self, cid: &Cid) -> Result<Option<Bytes>, StoreError> {
        if let Some(data) = block::inline_data(cid) {
            return Ok(Some(data));
        }
        let disk = &self.0.disk;
        if let Some(data) = disk.fresh.get(cid.hash()) {
            return Ok(Some(data));
        }
        if disk.sweep.claim(cid.hash()) { self.read(cid) } else { Ok(None) }
    }

    /// Reads a block from disk, without a note that somebody relies on it.
    fn read(&self, cid: &Cid) -> Result<Option<Bytes>, StoreError> {
        let disk = &self.0.disk;
        let (data, path) = match disk.index.place(cid.hash())? {
            None => return Ok(None),
            Some(Place::Small(data)) => (data, disk.index.path().to_owned()),
            Some(Place::Large(_)) => match disk.flat.read(cid.hash())? {
                Some(data) => (data, disk.flat.path(cid.hash())),
                // Either it was deleted since the index was read, or its file is lost.
                None if disk.index.place(cid.hash())?.is_none() => return Ok(None),
                None => return Err(self.corrupt(cid, disk.flat.path(cid.hash()))),
            },
        };
        if block::verify(cid, &data)? { Ok(Some(data)) } else { Err(self.corrupt(cid, path)) }
    }

    /// Notes that a block's bytes are wrong.
    fn corrupt(&self, cid: &Cid, path: PathBuf) -> StoreError {
        if self.0.disk.bad.add(*cid.hash()) {
            tracing::error!(%cid, path = %path.display(), "a block is corrupt or its file is gone; it is fetched again when it is next needed");
        }
        StoreError::Corrupt { cid: *cid, path }
    }

    /// Stores blocks; they are durable when it returns. Blocks that are here already cost a look-up.
    ///
    /// Batches of 16 to 64 blocks or some MiB pay best; see [`Blockstore::batch`]. Where the bound leaves no room for all of them, it has room made,
    /// and fails with [`StoreError::OverMax`] if that does not help; then none is stored.
    pub fn put_many(&self, blocks: &[Block]) -> Result<(), StoreError> {
        let put = || self.begin_put(blocks.to_vec())?.wait();
        let ended = match put() {
            Err(StoreError::OverMax { .. }) if self.make_room(blocks) => put(),
            other => other,
        };
        if let Err(StoreError::OverMax { .. }) = ended {
            self.bound().refused();
        }
        ended?;
        self.announce(&blocks.iter().map(|block| *block.cid().hash()).collect::<Vec<_>>());
        Ok(())
    }

    /// Stores blocks that can be made again: they are here when it returns, and durable soon after (a crash in between loses
    /// them). While as much is on its way as may be, or the last write failed, it waits for the disk as [`Blockstore::put_many`] does.
    pub fn put_soon(&self, blocks: Vec<Block>) -> Result<(), StoreError> {
        if self.try_put_soon(&blocks) { Ok(()) } else { self.put_many(&blocks) }
    }

    /// As [`Blockstore::put_soon`], but where that would wait, nothing is stored and the answer is `false`.
    pub fn try_put_soon(&self, blocks: &[Block]) -> bool {
        if blocks.iter().any(|block| block::inline_data(block.cid()).is_some()) {
            let kept = blocks.iter().filter(|block| block::inline_data(block.cid()).is_none());
            return self.try_put_soon(&kept.cloned().collect::<Vec<_>>());
        }
        let disk = &self.0.disk;
        let bytes: u64 = blocks.iter().map(|block| block.size() as u64).sum();
        // What is given out here must find room, beside what was given out before.
        let fits = disk.bound.left().is_none_or(|left| bytes + disk.fresh.bytes() <= left);
        if !fits || disk.failing.load(Ordering::Relaxed) || disk.fresh.stage(blocks).is_err() {
            return false;
        }
        if !self.0.writer.soon(blocks) {
            disk.fresh.unstage(&blocks.iter().map(|block| *block.cid()).collect::<Vec<_>>());
            return false;
        }
        self.announce(&blocks.iter().map(|block| *block.cid().hash()).collect::<Vec<_>>());
        true
    }

    /// Waits until all that was put before is durable, or known to have failed: then it is absent.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.0.writer.begin(Work::Put(Vec::new()))?.wait()
    }

    /// Queues blocks for the disk without waiting; blocks only while the queue is full.
    fn begin_put(&self, mut blocks: Vec<Block>) -> Result<Pending, StoreError> {
        blocks.retain(|block| block::inline_data(block.cid()).is_none());
        self.0.writer.begin(Work::Put(blocks))
    }

    /// A sink that stores a stream of blocks in good batches, overlapping the caller's work with the disk's.
    pub fn batch(&self) -> BatchWriter {
        BatchWriter::new(self.clone())
    }

    /// Has room made for blocks. `false`: it makes no sense to try again.
    fn make_room(&self, blocks: &[Block]) -> bool {
        let bytes: u64 = blocks.iter().map(|block| block.size() as u64).sum();
        self.0.disk.bound.make_room(bytes + self.0.disk.fresh.bytes())
    }

    /// How many bytes blocks may take, if that is bounded.
    pub fn max_bytes(&self) -> Option<u64> {
        self.0.disk.bound.max()
    }

    /// What became of the room since the store was opened.
    pub fn room(&self) -> Room {
        self.0.disk.bound.room()
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        let index = self.0.disk.index.path();
        index.parent().unwrap_or(index)
    }

    /// The bound of this store.
    pub(crate) fn bound(&self) -> &Arc<Bound> {
        &self.0.disk.bound
    }

    /// The store as long as others use it.
    pub(crate) fn weak(&self) -> WeakStore {
        WeakStore(Arc::downgrade(&self.0))
    }

    /// Whether nobody else uses it.
    pub(crate) fn is_last(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Removes blocks; those that are not here are passed over. Space returns at once.
    pub fn delete_many(&self, cids: &[Cid]) -> Result<(), StoreError> {
        let hashes = cids.iter().map(|cid| *cid.hash()).collect();
        self.0.writer.begin(Work::Delete(hashes))?.wait()
    }

    /// From now on, blocks that are put have come now, even those that came a moment ago.
    pub(crate) fn forget_births(&self) {
        self.0.disk.births.forget();
    }

    /// Begins a collection of garbage; it ends when the answer is dropped. `None`: another one runs.
    pub(crate) fn begin_sweep(&self) -> Option<Sweeping<'_>> {
        self.0.disk.sweep.begin().then(|| Sweeping(self))
    }

    /// The multihashes of all blocks, in the order of their bytes. Blocks that come or go meanwhile may or may not be seen.
    pub fn iter(&self) -> impl Iterator<Item = Result<Multihash, StoreError>> + use<'_> {
        let mut page = Vec::new().into_iter();
        let mut last: Option<Multihash> = None;
        let mut ended = false;
        std::iter::from_fn(move || {
            if let Some(hash) = page.next() {
                last = Some(hash);
                return Some(Ok(hash));
            }
            if ended {
                return None;
            }
            match self.0.disk.index.page(last.as_ref(), PAGE) {
                Ok(next) => page = next.into_iter(),
                Err(e) => {
                    ended = true;
                    return Some(Err(e));
                }
            }
            last = page.next();
            ended = last.is_none();
            last.map(Ok)
        })
    }

    /// Blocks and bytes held, from counters that are committed with every change.
    pub fn stat(&self) -> Result<StoreStat, StoreError> {
        self.0.disk.index.stat()
    }

    /// Writes metadata of another crate; durable when it returns, all of it or nothing.
    pub fn meta_put(&self, table: &'static str, entries: &[(Vec<u8>, Vec<u8>)]) -> Result<(), StoreError> {
        self.0.writer.begin(Work::Meta { table, put: entries.to_vec(), delete: Vec::new() })?.wait()
    }

    /// Removes metadata of another crate; durable when it returns, all of it or nothing.
    pub fn meta_delete(&self, table: &'static str, keys: &[Vec<u8>]) -> Result<(), StoreError> {
        self.0.writer.begin(Work::Meta { table, put: Vec::new(), delete: keys.to_vec() })?.wait()
    }

    /// Reads metadata of another crate.
    pub fn meta_get(&self, table: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.disk.index.meta_get(table, key)
    }

    /// The first `limit` (at most [`MAX_SCAN`]) entries whose keys begin with `prefix`, in the order of their keys.
    pub fn meta_scan_prefix(
        &self,
        table: &'static str,
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        self.0.disk.index.meta_scan(table, prefix, limit.min(MAX_SCAN))
    }

    /// The first `limit` (at most [`MAX_SCAN`]) entries whose keys come after `after`, in the order of their keys.
    pub fn meta_after(&self, table: &'static str, after: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        self.0.disk.index.meta_after(table, after, limit.min(MAX_SCAN))
    }

    /// Offers blocks to peers from memory without keeping them, all or none. A block staged twice is to be unstaged twice.
    pub fn stage(&self, blocks: Vec<Block>) -> Result<(), StageFull> {
        self.0.staging.stage(&blocks)?;
        self.announce(&blocks.iter().map(|block| *block.cid().hash()).collect::<Vec<_>>());
        Ok(())
    }

    /// Ends the offer of [`Blockstore::stage`].
    pub fn unstage(&self, cids: &[Cid]) {
        self.0.staging.unstage(cids);
    }

    /// Bytes that are staged, with their overhead; at most [`MAX_STAGED_BYTES`].
    pub fn staged_bytes(&self) -> u64 {
        self.0.staging.bytes()
    }

    /// What peers may have: a staged block or a kept one.
    pub fn serve_get(&self, cid: &Cid) -> Result<Option<Bytes>, StoreError> {
        match self.0.staging.get(cid.hash()) {
            Some(data) => Ok(Some(data)),
            None => self.get(cid),
        }
    }

    /// Whether peers may have the block: staged or kept.
    pub fn serve_has(&self, cid: &Cid) -> Result<bool, StoreError> {
        Ok(self.0.staging.get(cid.hash()).is_some() || self.has(cid)?)
    }
}

/// A store that this does not keep open.
pub(crate) struct WeakStore(std::sync::Weak<Inner>);

impl WeakStore {
    /// The store, if it is open.
    pub fn get(&self) -> Option<Blockstore> {
        self.0.upgrade().map(Blockstore)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.disk.bound.close();
    }
}

/// The store while garbage is collected. It does not keep it open.
pub(crate) struct Sweeping<'a>(&'a Blockstore);

impl Sweeping<'_> {
    /// A block that is here; nobody relies on it for this.
    pub fn peek(&self, cid: &Cid) -> Result<Option<Bytes>, StoreError> {
        match block::inline_data(cid).or_else(|| self.0.0.disk.fresh.get(cid.hash())) {
            Some(data) => Ok(Some(data)),
            None => self.0.read(cid),
        }
    }

    /// Removes those blocks that nobody has asked for or put since the collection began.
    pub fn remove(&self, hashes: Vec<Multihash>) -> Result<(), StoreError> {
        self.0.0.writer.begin(Work::Sweep(hashes))?.wait()
    }

    /// Blocks and bytes removed so far, and whether more are in use than can be noted: then nothing more is removed.
    pub fn so_far(&self) -> (u64, u64, bool) {
        self.0.0.disk.sweep.so_far()
    }

    /// Visits the digests of the blocks that were put since a time, and forgets what was before [`MAX_GRACE`].
    pub fn born_since(
        &self,
        time: std::time::SystemTime,
        visit: &mut dyn FnMut(&[u8; 32]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let oldest = time.checked_sub(MAX_GRACE).map(sweep::time_key).unwrap_or_default();
        loop {
            let first = self.0.meta_scan_prefix(sweep::BIRTHS, b"", sweep::PRUNE)?.into_iter().map(|(key, _)| key);
            let old: Vec<Vec<u8>> = first.take_while(|key| key[..] < oldest[..]).collect();
            if old.is_empty() {
                break;
            }
            self.0.meta_delete(sweep::BIRTHS, &old)?;
        }
        let mut after = sweep::time_key(time).to_vec();
        loop {
            let page = self.0.meta_after(sweep::BIRTHS, &after, PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after.clone_from(last);
            for (_, record) in &page {
                sweep::digests(record).try_for_each(&mut *visit)?;
            }
        }
    }
}

impl Drop for Sweeping<'_> {
    fn drop(&mut self) {
        self.0.0.disk.sweep.end();
    }
}

/// Writes the format's name into a new store, and refuses a store of another format.
fn check_format(dir: &Path) -> Result<(), StoreError> {
    let path = dir.join("FORMAT");
    let failed = |doing, e: &std::io::Error| StoreError::io(doing, &path, e);
    match std::fs::read(&path) {
        Ok(found) if found == FORMAT.as_bytes() => Ok(()),
        Ok(found) => {
            let found = String::from_utf8_lossy(&found[..found.len().min(64)]).into_owned();
            Err(StoreError::Format { path, found, supported: FORMAT })
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let temporary = dir.join("FORMAT.new");
            std::fs::write(&temporary, FORMAT).map_err(|e| failed("write", &e))?;
            std::fs::File::open(&temporary).and_then(|f| f.sync_all()).map_err(|e| failed("sync", &e))?;
            std::fs::rename(&temporary, &path).map_err(|e| failed("rename to", &e))?;
            flat::sync_dir(dir)
        }
        Err(e) => Err(failed("read", &e)),
    }
}
