//! Content as a stream of bytes: files, parts of them, and CARs, both ways.

use bytes::{Bytes, BytesMut};
use cid::Cid;
use std::io::Read;
use std::time::Duration;
use timerose_content::car::{CarError, CarReader, CarWriter};
use timerose_content::{Content, ContentError, EntryKind, FileReader, Pin, unixfs};
use timerose_core::failure::Failure;
use tokio::runtime::Handle;

use super::{Driver, named_as, of_content, of_store};
use crate::ports::{Chunks, Imported, Opened, Scope};

/// How long a reader may take for one chunk.
const CHUNK_WAIT: Duration = Duration::from_secs(60);
/// Bytes of a CAR that are sent together.
const CAR_CHUNK: usize = 256 << 10;

/// What ends a stream that nobody reads any more: not to be told to anybody.
const LEFT: Failure = Failure::Cancelled;

/// Hands a chunk on; a reader that has gone, or does not read, ends it.
fn send(runtime: &Handle, chunks: &Chunks, chunk: Bytes) -> Result<(), Failure> {
    let sent = runtime.block_on(async { tokio::time::timeout(CHUNK_WAIT, chunks.send(Ok(chunk))).await });
    if matches!(sent, Ok(Ok(()))) { Ok(()) } else { Err(LEFT) }
}

impl Driver {
    /// What a path names, for a gateway.
    pub(super) async fn open_path(&self, root: Cid, path: String) -> Result<Option<Opened>, Failure> {
        self.walk(move |get| {
            let found = match unixfs::resolve(&root, &path, get) {
                Err(unixfs::Error::UnixFs(unixfs::Problem::NoEntry { .. } | unixfs::Problem::NotADirectory { .. })) => {
                    return Ok(None);
                }
                other => other?,
            };
            let index = match found.kind {
                EntryKind::Directory => match unixfs::resolve(&found.cid, "index.html", get) {
                    Ok(index) => Some(index).filter(|index| index.kind == EntryKind::File).map(named_as),
                    Err(unixfs::Error::UnixFs(unixfs::Problem::NoEntry { .. })) => None,
                    Err(other) => return Err(other),
                },
                _ => None,
            };
            Ok(Some(Opened { named: named_as(found), index }))
        })
        .await
    }

    /// Sends a file's bytes in order, while the rest of it is being fetched.
    pub(super) async fn read(&self, file: Cid, part: Option<(u64, u64)>, chunks: Chunks) -> Result<(), Failure> {
        let ahead = self.clone();
        // A part is fetched as it is read: it may be a small one.
        let fetching = part.is_none().then(|| tokio::spawn(async move { ahead.fetch(vec![file], true, &[]).await }));
        let runtime = self.0.runtime.clone();
        let sent = self.walk(move |get| {
            let mut reader = FileReader::open(&file, get)?;
            let (mut offset, end) = part.unwrap_or((0, reader.size()));
            while offset < end.min(reader.size()) {
                let mut chunk = reader.chunk(offset, get)?;
                chunk.truncate(usize::try_from(end - offset).unwrap_or(usize::MAX));
                offset += chunk.len() as u64;
                send(&runtime, &chunks, chunk).map_err(unixfs::Error::Source)?;
            }
            Ok(())
        });
        let sent = sent.await;
        fetching.inspect(tokio::task::JoinHandle::abort);
        sent
    }

    /// Sends a CAR, while the rest of it is being fetched.
    pub(super) async fn export_car(&self, root: Cid, path: String, scope: Scope, chunks: Chunks) -> Result<(), Failure> {
        let ahead = self.clone();
        let whole = path.is_empty() && scope == Scope::All;
        let fetching = whole.then(|| tokio::spawn(async move { ahead.fetch(vec![root], true, &[]).await }));
        let runtime = self.0.runtime.clone();
        let sent = self.walk(move |get| {
            // Where there is no path, the root may be of any codec.
            let (cid, way, kind) = if path.split('/').all(str::is_empty) && scope != Scope::Entity {
                (root, Vec::new(), EntryKind::File)
            } else {
                let found = unixfs::resolve(&root, &path, get)?;
                (found.cid, found.way, found.kind)
            };
            let mut ready = BytesMut::new();
            let mut out = |bytes: Bytes| {
                ready.extend_from_slice(&bytes);
                if ready.len() < CAR_CHUNK { Ok(()) } else { send(&runtime, &chunks, ready.split().freeze()) }
            };
            let mut writer = CarWriter::begin(&[root], &mut out).map_err(unixfs::Error::Source)?;
            way.iter().try_for_each(|cid| writer.block(cid, get, &mut out))?;
            match (scope, kind) {
                (Scope::Block, _) | (Scope::Entity, EntryKind::Symlink) => writer.block(&cid, get, &mut out)?,
                (Scope::Entity, EntryKind::Directory) => {
                    let blocks = unixfs::folder_blocks(&cid, get)?;
                    blocks.iter().try_for_each(|cid| writer.block(cid, get, &mut out))?;
                }
                _ => writer.below(&cid, get, &mut out)?,
            }
            send(&runtime, &chunks, ready.freeze()).map_err(unixfs::Error::Source)
        });
        let sent = sent.await;
        fetching.inspect(tokio::task::JoinHandle::abort);
        sent
    }
}

/// Keeps what a CAR holds. Blocks.
pub(super) fn import_car(content: &Content, source: Box<dyn Read + Send>, pin: bool) -> Result<Imported, Failure> {
    // What it puts is spared from now on, until pins hold it.
    let _upload = content.upload();
    let mut reader = CarReader::open(source).map_err(of_car)?;
    let mut batch = content.store().batch();
    let (mut blocks, mut bytes) = (0, 0);
    while let Some(block) = reader.next_block().map_err(of_car)? {
        blocks += 1;
        bytes += block.size() as u64;
        batch.push(block).map_err(|e| of_store(&e))?;
    }
    batch.finish().map_err(|e| of_store(&e))?;
    let mut roots = Vec::new();
    for root in reader.roots() {
        let (pinned, missing) = match pin.then(|| content.pin(&Pin::recursive(*root))) {
            None => (false, None),
            Some(Ok(())) => (true, None),
            Some(Err(ContentError::Missing { cid })) => (false, Some(cid)),
            Some(Err(other)) => return Err(of_content(other)),
        };
        roots.push((*root, pinned, missing));
    }
    Ok(Imported { roots, blocks, bytes })
}

fn of_car(error: CarError) -> Failure {
    Failure::BadArgument { index: 0, wanted: "a CAR of sha2-256 blocks".into(), got: error.to_string() }
}
