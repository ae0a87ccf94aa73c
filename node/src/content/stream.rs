//! Content as a stream of bytes: files, and parts of them.

use bytes::Bytes;
use cid::Cid;
use std::time::Duration;
use timerose_content::{EntryKind, FileReader, unixfs};
use timerose_core::failure::Failure;
use tokio::runtime::Handle;

use super::{Driver, named_as};
use crate::ports::{Chunks, Opened};

/// How long a reader may take for one chunk.
const CHUNK_WAIT: Duration = Duration::from_secs(60);

/// What ends a stream that nobody reads any more: not to be told to anybody.
pub(super) const LEFT: Failure = Failure::Cancelled;

/// Hands a chunk on; a reader that has gone, or does not read, ends it.
pub(super) fn send(runtime: &Handle, chunks: &Chunks, chunk: Bytes) -> Result<(), Failure> {
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
}
