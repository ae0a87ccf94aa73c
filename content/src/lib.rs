//! An embedded IPFS node as a library: blocks on disk, UnixFS over them, bitswap between them. It knows nothing of the mesh.
//!
//! [`Content`] ties the parts together. Its `fetch` is async; everything that touches the store blocks and belongs on a blocking thread.
//!
//! ```text
//! lib → exchange → frames            lib → unixfs → block
//!  │       └─────→ blockstore → block
//!  └→ keeper → gc → pin → blockstore  lib → car → unixfs
//! ```

pub mod block;
pub mod blockstore;
pub mod car;
pub mod exchange;
pub mod frames;
pub mod gc;
mod guard;
mod keeper;
pub mod pin;
mod proto;
pub mod unixfs;

pub use block::{Block, BlockError, DAG_CBOR, DAG_PB, MAX_BLOCK_BYTES, Multihash, RAW, cid_v1};
pub use blockstore::{Blockstore, StageFull, StoreError};
pub use exchange::{ExchangeEvent, Fetch, FetchError, Fetched, Ledger, Stats};
pub use guard::{Hold, Upload};
pub use keeper::KeptRoots;
pub use pin::Pin;
pub use unixfs::{DirBuilder, Entry, EntryKind, FileImporter, FileReader, Layout, Meta, Resolved, Root, Shape};

use bytes::Bytes;
use cid::Cid;
use libp2p::PeerId;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::broadcast;

/// An IPFS node without a swarm of its own: a store and an exchange.
#[derive(Clone)]
pub struct Content {
    store: Blockstore,
    exchange: exchange::Exchange,
    dir: PathBuf,
    uses: guard::Uses,
}

/// Why a request over the local store failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// A block is not here: fetch it and try again.
    #[error("{cid} is not here")]
    Missing {
        /// The block.
        cid: Cid,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The data, the request or the file system is at fault.
    #[error(transparent)]
    UnixFs(#[from] unixfs::Problem),
}

impl From<unixfs::Error<ContentError>> for ContentError {
    fn from(error: unixfs::Error<ContentError>) -> ContentError {
        match error {
            unixfs::Error::Source(error) => error,
            unixfs::Error::UnixFs(problem) => problem.into(),
        }
    }
}

impl Content {
    /// Opens the store in `dir` and starts the exchange on `runtime`. The behaviour belongs into the node's swarm: without it nothing is fetched.
    pub fn open(dir: &Path, runtime: &tokio::runtime::Handle) -> Result<(Content, exchange::Behaviour), StoreError> {
        let store = Blockstore::open(dir)?;
        let (exchange, behaviour) = exchange::Exchange::start(store.clone(), runtime);
        Ok((Content { store, exchange, dir: dir.to_owned(), uses: guard::Uses::default() }, behaviour))
    }

    /// The store.
    pub fn store(&self) -> &Blockstore {
        &self.store
    }

    /// Fetches what is missing from connected peers; it is durable here when this returns.
    ///
    /// Never hangs: a block that nobody has fails at once when every peer says so, and after [`exchange::PATIENCE`] without progress otherwise.
    /// Dropping the future takes its wants back.
    pub async fn fetch(&self, request: Fetch) -> Result<Fetched, FetchError> {
        let _hold = self.hold(&request.roots);
        self.exchange.fetch(request).await
    }

    /// Which of the connected peers have a block. Takes [`exchange::SURVEY_WAIT`] at most; nothing is fetched.
    pub async fn survey(&self, cid: Cid) -> exchange::Surveyed {
        self.exchange.survey(cid).await
    }

    /// Spares DAGs from the garbage collection, for as long as the answer is kept and for the grace after.
    pub fn hold(&self, roots: &[Cid]) -> Hold {
        self.uses.hold(roots)
    }

    /// Spares whatever is put from now on, for as long as the answer is kept: for imports, which end with a pin or with nothing.
    pub fn upload(&self) -> Upload {
        let upload = self.uses.upload();
        self.store.forget_births();
        upload
    }

    /// Pins a CID, in the place of the pin that it may have; durable on return. Blocks.
    ///
    /// Fails with [`ContentError::Missing`] where what is to be pinned is not all here; then nothing has changed.
    pub fn pin(&self, pin: &Pin) -> Result<(), ContentError> {
        let _hold = self.hold(&[pin.cid]);
        let before = pin::get(&self.store, &pin.cid)?;
        // The pin comes first: a collection that begins after it sees it, and one that runs already spares what is looked at from here on.
        pin::put(&self.store, pin)?;
        let missing = match pin.mode {
            pin::Mode::Recursive if !pin.partial => gc::missing(self, &pin.cid),
            _ => Ok((!pin.partial && !self.store.has(&pin.cid)?).then_some(pin.cid)),
        };
        match missing {
            Ok(None) => Ok(()),
            other => {
                match before {
                    Some(before) => pin::put(&self.store, &before)?,
                    None => drop(pin::remove(&self.store, &pin.cid)?),
                }
                Err(other.map_or_else(|e| e, |cid| ContentError::Missing { cid: cid.unwrap_or(pin.cid) }))
            }
        }
    }

    /// Removes what nothing needs; see [`gc`]. Blocks for as long as that takes.
    pub fn collect_garbage(
        &self,
        grace: Duration,
        roots: &mut gc::Roots<'_>,
        tell: &mut gc::Tell<'_>,
    ) -> Result<gc::Report, gc::GcError> {
        gc::collect(&self.store, &self.uses, &self.dir, grace, roots, tell)
    }

    /// Bounds the bytes that blocks may take, once: when use passes 90 % of it, garbage is collected, and puts that do not fit fail with
    /// [`StoreError::OverMax`]. `roots` names what must stay beside pins; see [`gc`].
    pub fn bound_storage(&self, max: u64, roots: Box<keeper::KeptRoots>) -> Result<(), StoreError> {
        keeper::start(&self.store, self.uses.clone(), self.dir.clone(), max, roots)
    }

    /// Totals of the exchange since it started.
    pub fn stats(&self) -> Stats {
        self.exchange.stats()
    }

    /// What was exchanged with each peer since it started: all that are connected, and the last 1,024 of those that are gone.
    pub fn ledgers(&self) -> Vec<(PeerId, Ledger)> {
        self.exchange.ledgers()
    }

    /// Limits the bytes that the exchange sends to all peers together, and takes from them, in a second. Peers that wait have equal shares.
    pub fn limit_bandwidth(&self, up: Option<u64>, down: Option<u64>) {
        self.exchange.limit(up, down);
    }

    /// These limits: up and down.
    pub fn bandwidth(&self) -> (Option<u64>, Option<u64>) {
        self.exchange.limits()
    }

    /// What the exchange tells of its peers from now on. Each is logged as a warning as well. A listener that lags misses the oldest.
    pub fn events(&self) -> broadcast::Receiver<ExchangeEvent> {
        self.exchange.events()
    }

    /// Stores a file of these bytes, durable on return: the CID that a file with these bytes gets (a raw block up to 256 KiB). Blocks.
    pub fn add_bytes(&self, bytes: &[u8]) -> Result<Cid, ContentError> {
        let mut batch = self.store.batch();
        let mut importer = FileImporter::default();
        let mut sink = |block| batch.push(block);
        importer.push(bytes, &mut sink)?;
        let root = importer.finish(&mut sink)?;
        batch.finish()?;
        Ok(root.cid)
    }

    /// As [`Content::add_bytes`], but durable only soon after: for what can be made again. Blocks.
    pub fn add_bytes_soon(&self, bytes: &[u8]) -> Result<Cid, ContentError> {
        let mut blocks = Vec::new();
        let mut importer = FileImporter::default();
        let mut sink = |block| {
            blocks.push(block);
            if blocks.len() < blockstore::BATCH_BLOCKS { Ok(()) } else { self.store.put_soon(std::mem::take(&mut blocks)) }
        };
        importer.push(bytes, &mut sink)?;
        let root = importer.finish(&mut sink)?;
        self.store.put_soon(blocks)?;
        Ok(root.cid)
    }

    /// As [`Content::add_bytes_soon`] for bytes of one block, without waiting for anything. `None`: they are more, or would have to wait.
    pub fn try_add_bytes_soon(&self, bytes: &[u8]) -> Option<Cid> {
        let mut blocks = Vec::new();
        let mut importer = FileImporter::default();
        let mut sink = |block| -> Result<(), StoreError> {
            blocks.push(block);
            Ok(())
        };
        if bytes.len() > unixfs::CHUNK_BYTES {
            return None;
        }
        importer.push(bytes, &mut sink).ok()?;
        let root = importer.finish(&mut sink).ok()?;
        self.store.try_put_soon(&blocks).then_some(root.cid)
    }

    /// Stores a file or a folder tree, durable on return; see [`unixfs::import_path`]. Blocks.
    pub fn add_path(&self, path: &Path, progress: &mut dyn FnMut(&Path, u64)) -> Result<Root, ContentError> {
        let mut batch = self.store.batch();
        let root = unixfs::import_path(path, &mut |block| batch.push(block).map_err(ContentError::from), progress)?;
        batch.finish()?;
        Ok(root)
    }

    /// A block that is here, or [`ContentError::Missing`]. Blocks.
    pub fn block(&self, cid: &Cid) -> Result<Bytes, ContentError> {
        self.store.get(cid)?.ok_or(ContentError::Missing { cid: *cid })
    }

    /// Writes the content of a file; see [`unixfs::export`]. Blocks.
    pub fn export(&self, cid: &Cid, out: &mut dyn Write) -> Result<u64, ContentError> {
        Ok(unixfs::export(cid, out, &mut |cid| self.block(cid))?)
    }

    /// The entries of a folder; see [`unixfs::list`]. Blocks.
    pub fn list(&self, cid: &Cid) -> Result<Vec<Entry>, ContentError> {
        Ok(unixfs::list(cid, &mut |cid| self.block(cid))?)
    }

    /// Follows a path; see [`unixfs::resolve`]. Blocks.
    pub fn resolve(&self, root: &Cid, path: &str) -> Result<Resolved, ContentError> {
        Ok(unixfs::resolve(root, path, &mut |cid| self.block(cid))?)
    }

    /// Visits every file under a root; see [`unixfs::walk_files`]. Blocks.
    pub fn walk_files(
        &self,
        root: &Cid,
        most: u64,
        visit: &mut dyn FnMut(&str, &Cid, u64) -> Result<(), ContentError>,
    ) -> Result<(), ContentError> {
        Ok(unixfs::walk_files(root, most, &mut |cid| self.block(cid), visit)?)
    }

    /// Reads a file at `offset` until `buffer` is full or the file ends; returns the bytes read. For many reads of one file keep a
    /// [`FileReader`]. Blocks.
    pub fn read_range(&self, cid: &Cid, offset: u64, buffer: &mut [u8]) -> Result<usize, ContentError> {
        let mut get = |cid: &Cid| self.block(cid);
        Ok(FileReader::open(cid, &mut get)?.read_range(offset, buffer, &mut get)?)
    }
}
