//! CARs, both ways: of what a path names, and into the store.

use bytes::{Bytes, BytesMut};
use cid::Cid;
use std::io::Read;
use timerose_content::car::{CarError, CarReader, CarWriter, Out, version_2};
use timerose_content::exchange::MAX_FETCH_BLOCKS;
use timerose_content::unixfs::Problem;
use timerose_content::{Content, ContentError, EntryKind, FileReader, Pin, unixfs};
use timerose_core::failure::Failure;

use super::stream::{LEFT, send};
use super::{Driver, of_content, of_store, of_unixfs};
use crate::ports::{CarHow, Chunks, Imported, Scope, Span};

/// Bytes of a CAR that are sent together.
const CAR_CHUNK: usize = 256 << 10;

type Get<'a> = unixfs::Get<'a, Failure>;
type Sent<T> = Result<T, unixfs::Error<Failure>>;

/// Where a path leads.
struct Terminus {
    /// The blocks on the way to it.
    way: Vec<Cid>,
    cid: Cid,
    /// What it is; `None` where it is no UnixFS.
    kind: Option<EntryKind>,
}

impl Driver {
    /// Sends a CAR, while the rest of it is being fetched. Version 2 begins with its length, so that all is read once before.
    pub(super) async fn export_car(&self, root: Cid, path: String, how: CarHow, chunks: Chunks) -> Result<(), Failure> {
        let ahead = self.clone();
        let whole = path.is_empty() && how.scope == Scope::All;
        let fetching = whole.then(|| tokio::spawn(async move { ahead.fetch(vec![root], true, &[]).await }));
        let runtime = self.0.runtime.clone();
        let sent = self.walk(move |get| {
            // Blocks are read for long, and nothing is sent: whoever has left is to be noticed all the same.
            let get: &mut Get<'_> = &mut |cid: &Cid| if chunks.is_closed() { Err(LEFT) } else { get(cid) };
            let to = terminus(&root, &path, get)?;
            let mut ready = BytesMut::new();
            let mut out = |bytes: Bytes| {
                ready.extend_from_slice(&bytes);
                if ready.len() < CAR_CHUNK { Ok(()) } else { send(&runtime, &chunks, ready.split().freeze()) }
            };
            if how.version_2 {
                let measured = write(&root, &to, how, get, &mut |_| Ok(()))?;
                out(version_2(measured.size())).map_err(unixfs::Error::Source)?;
            }
            let written = write(&root, &to, how, get, &mut out)?;
            if how.version_2 {
                out(written.index()).map_err(unixfs::Error::Source)?;
            }
            send(&runtime, &chunks, ready.freeze()).map_err(unixfs::Error::Source)
        });
        let sent = sent.await;
        fetching.inspect(tokio::task::JoinHandle::abort);
        sent
    }
}

fn terminus(root: &Cid, path: &str, get: &mut Get<'_>) -> Sent<Terminus> {
    match unixfs::resolve(root, path, get) {
        Ok(found) => Ok(Terminus { way: found.way, cid: found.cid, kind: Some(found.kind) }),
        // Without a path the root may be anything.
        Err(unixfs::Error::UnixFs(unixfs::Problem::Malformed { .. })) if path.split('/').all(str::is_empty) => {
            Ok(Terminus { way: Vec::new(), cid: *root, kind: None })
        }
        Err(other) => Err(other),
    }
}

/// Writes an archive of version 1.
fn write(root: &Cid, to: &Terminus, how: CarHow, get: &mut Get<'_>, out: &mut Out<'_, Failure>) -> Sent<CarWriter> {
    let mut writer = CarWriter::begin(&[*root], how.repeats, out).map_err(unixfs::Error::Source)?;
    for cid in &to.way {
        writer.block(cid, get, out)?;
    }
    match (how.scope, to.kind) {
        (Scope::All, _) | (Scope::Entity(None), Some(EntryKind::File)) => writer.below(&to.cid, get, out)?,
        (Scope::Entity(Some(span)), Some(EntryKind::File)) => part(&mut writer, &to.cid, span, MAX_FETCH_BLOCKS, get, out)?,
        (Scope::Entity(_), Some(EntryKind::Directory)) => {
            for cid in unixfs::folder_blocks(&to.cid, get)? {
                writer.block(&cid, get, out)?;
            }
        }
        (Scope::Block, _) | (Scope::Entity(_), Some(EntryKind::Symlink) | None) => {
            writer.block(&to.cid, get, out)?;
        }
    }
    Ok(writer)
}

/// Writes the blocks that a part of a file is read from, at most so many times one: a few blocks can make a file without end. The root
/// comes in any case, as it tells how large the file is.
fn part(writer: &mut CarWriter, file: &Cid, span: Span, most: usize, get: &mut Get<'_>, out: &mut Out<'_, Failure>) -> Sent<()> {
    let mut block = |cid: &Cid| writer.block(cid, get, out).map_err(of_unixfs);
    let mut reader = FileReader::open(file, &mut block)?;
    let (mut offset, end) = span.within(reader.size()).unwrap_or_default();
    for _ in 0..most {
        if offset >= end {
            return Ok(());
        }
        // Up to the end of the leaf that holds it.
        offset += reader.chunk(offset, &mut block)?.len() as u64;
    }
    if offset < end { Err(Problem::TooMany { what: "blocks in an archive", limit: most as u64 }.into()) } else { Ok(()) }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use timerose_content::{FileImporter, Meta, Shape};

    #[test]
    fn a_file_that_is_one_block_over_and_over_is_not_walked_without_end() {
        let mut blocks = HashMap::new();
        let mut importer = FileImporter::new(Shape { chunk_bytes: 1, ..Shape::default() }, Meta::default());
        let mut keep = |block: timerose_content::Block| {
            blocks.insert(*block.cid(), block.data().clone());
            Ok::<_, Failure>(())
        };
        importer.push(&[0; 500], &mut keep).expect("kept");
        let file = importer.finish(&mut keep).expect("kept").cid;
        let get = &mut |cid: &Cid| blocks.get(cid).cloned().ok_or(Failure::not_found(*cid, 0));
        let mut written = |span, most| {
            let mut writer = CarWriter::begin::<Failure>(&[file], false, &mut |_| Ok(())).expect("begun");
            part(&mut writer, &file, span, most, get, &mut |_| Ok(()))
        };
        let all = Span { first: 0, last: None };
        assert!(written(all, 500).is_ok());
        assert!(matches!(written(all, 499), Err(unixfs::Error::UnixFs(Problem::TooMany { .. }))));
        assert!(written(Span { first: 490, last: None }, 10).is_ok());
    }
}
