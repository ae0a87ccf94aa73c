//! Large blocks as files: `blocks/<last byte of the digest, hex>/<CIDv1 raw>`, 256 directories.
//!
//! A file appears under its name only whole and synced: it is written to `tmp/`, synced, renamed, and its directory synced. A file whose
//! block the index does not list (a crash between rename and commit) counts as absent and is overwritten by the next put.
//!
//! Bulk data goes to disk past the page cache (`O_DIRECT`, open(2)) where the file system can do that: the kernel then copies nothing, a sync
//! has nothing to write back, and a data set that passes through does not drive out what guests work with.

use super::error::StoreError;
use crate::block::{ALIGN, Block, MAX_BLOCK_BYTES, Multihash, RAW};
use bytes::Bytes;
use cid::Cid;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Threads that write and sync the files of one batch: what keeps a disk's queue busy (16 were best in the prototype on an idle machine).
const SYNC_THREADS: usize = 8;
/// Blocks of at least this many bytes are bulk data: a whole chunk of a file. Smaller ones are likely to be read again soon.
const DIRECT_BYTES: usize = 256 << 10;

/// The directories of the large blocks.
pub(super) struct Flat {
    blocks: PathBuf,
    temporary: PathBuf,
    /// Whether the file system can write past the page cache: believed until it says otherwise.
    direct: AtomicBool,
    /// Aligned memory for blocks that lie elsewhere, at most one piece a thread that writes.
    scratch: Mutex<Vec<Vec<u8>>>,
}

impl Flat {
    /// Opens or makes the directories and removes files that a crash left half written.
    pub fn open(dir: &Path) -> Result<Flat, StoreError> {
        let flat = Flat {
            blocks: dir.join("blocks"),
            temporary: dir.join("tmp"),
            direct: AtomicBool::new(true),
            scratch: Mutex::default(),
        };
        if flat.temporary.exists() {
            fs::remove_dir_all(&flat.temporary).map_err(|e| StoreError::io("sweep", &flat.temporary, &e))?;
        }
        make_dir(&flat.temporary)?;
        for shard in 0..=u8::MAX {
            make_dir(&flat.blocks.join(format!("{shard:02x}")))?;
        }
        sync_dir(&flat.blocks)?;
        sync_dir(dir)?;
        Ok(flat)
    }

    /// The file of a block.
    pub fn path(&self, hash: &Multihash) -> PathBuf {
        self.shard(hash).join(Cid::new_v1(RAW, *hash).to_string())
    }

    fn shard(&self, hash: &Multihash) -> PathBuf {
        self.blocks.join(format!("{:02x}", hash.digest().last().copied().unwrap_or(0)))
    }

    /// Writes the blocks so that they survive a power cut, with one sync for each file and for each directory that was touched.
    pub fn write(&self, blocks: &[&Block]) -> Result<(), StoreError> {
        in_parallel(blocks, &|index, block| self.write_one(index, block))?;
        let shards: BTreeSet<PathBuf> = blocks.iter().map(|b| self.shard(b.cid().hash())).collect();
        let shards: Vec<PathBuf> = shards.into_iter().collect();
        in_parallel(&shards, &|_, shard| sync_dir(shard))
    }

    fn write_one(&self, index: usize, block: &Block) -> Result<(), StoreError> {
        // The writer is one thread and a batch ends before the next begins, so that the index alone is a unique name.
        let temporary = self.temporary.join(index.to_string());
        let data = block.data();
        let bulk = data.len() >= DIRECT_BYTES && data.len().is_multiple_of(ALIGN);
        let mut written = Err(ErrorKind::InvalidInput.into());
        if bulk && self.direct.load(Ordering::Relaxed) {
            written = self.aligned(data, |data| write_synced(&temporary, libc::O_DIRECT, data));
            // How a file system says that it cannot, or not with this alignment.
            if written.as_ref().is_err_and(|e| e.kind() == ErrorKind::InvalidInput) {
                self.direct.store(false, Ordering::Relaxed);
            }
        }
        if written.as_ref().is_err_and(|e| e.kind() == ErrorKind::InvalidInput) {
            written = write_synced(&temporary, 0, data);
        }
        written.map_err(|e| StoreError::io("write", &temporary, &e))?;
        let path = self.path(block.cid().hash());
        fs::rename(&temporary, &path).map_err(|e| StoreError::io("rename to", &path, &e))
    }

    /// Gives `write` the bytes where a direct write can take them from.
    fn aligned(&self, data: &Bytes, write: impl FnOnce(&[u8]) -> io::Result<()>) -> io::Result<()> {
        if data.as_ptr().align_offset(ALIGN) == 0 {
            return write(data);
        }
        let mut scratch = self.scratch.lock().pop().unwrap_or_else(|| Vec::with_capacity(MAX_BLOCK_BYTES + ALIGN));
        let start = scratch.as_ptr().align_offset(ALIGN).min(ALIGN);
        scratch.clear();
        scratch.resize(start, 0);
        scratch.extend_from_slice(data);
        let written = write(&scratch[start..]);
        self.scratch.lock().push(scratch);
        written
    }

    /// The bytes in a block's file; `None` if there is no file.
    pub fn read(&self, hash: &Multihash) -> Result<Option<Bytes>, StoreError> {
        let path = self.path(hash);
        let failed = |e: std::io::Error| StoreError::io("read", &path, &e);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        // One byte over the limit is enough to know that a file is no block.
        let length = file.metadata().map_err(failed)?.len().min(MAX_BLOCK_BYTES as u64 + 1);
        let mut data = Vec::with_capacity(length as usize);
        file.take(MAX_BLOCK_BYTES as u64 + 1).read_to_end(&mut data).map_err(failed)?;
        Ok(Some(data.into()))
    }

    /// The names in one of the 256 directories; none if it cannot be read.
    pub fn files(&self, shard: u8) -> impl Iterator<Item = PathBuf> {
        let listed = fs::read_dir(self.blocks.join(format!("{shard:02x}")));
        listed.into_iter().flatten().flatten().map(|entry| entry.path())
    }

    /// Removes the files of blocks that the index no longer lists. A file that is gone already is no error.
    pub fn remove(&self, hashes: &[Multihash]) -> Result<(), StoreError> {
        for hash in hashes {
            let path = self.path(hash);
            match fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(StoreError::io("remove", &path, &e)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Makes a file and syncs it.
fn write_synced(path: &Path, flags: i32, data: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(path)?;
    file.write_all(data)?;
    file.sync_data()
}

/// Runs `work` over `items` on up to [`SYNC_THREADS`] threads; the first error ends it.
fn in_parallel<T: Sync>(items: &[T], work: &(dyn Fn(usize, &T) -> Result<(), StoreError> + Sync)) -> Result<(), StoreError> {
    let threads = SYNC_THREADS.min(items.len());
    if threads <= 1 {
        return items.iter().enumerate().try_for_each(|(index, item)| work(index, item));
    }
    let next = AtomicUsize::new(0);
    let run = || -> Result<(), StoreError> {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return Ok(()) };
            work(index, item)?;
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or(Err(StoreError::Closed)))
    })
}

fn make_dir(path: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(path).map_err(|e| StoreError::io("create", path, &e))
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|e| StoreError::io("sync", path, &e))
}
