//! Imports files and folder trees: the blocks of `ipfs add --cid-version=1` (raw leaves, 256 KiB chunks, balanced, 174 links a node).

use super::dir::build_dir;
use super::{Error, MAX_DEPTH, Problem, Root, Sink, check_name};
use crate::block::Block;
use cid::Cid;
use rust_unixfs::file::adder::{BalancedCollector, Chunker, FileAdder};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// Bytes in a chunk.
pub const CHUNK_BYTES: usize = 256 << 10;
/// Links in a node of a file's tree.
pub const LINKS_PER_NODE: usize = 174;
/// Bytes that are read from a file at once: whole chunks spare the importer a copy.
const READ_BYTES: usize = 4 * CHUNK_BYTES;

/// Imports one file from bytes that are pushed. Memory holds one chunk and the links of the nodes that are open, whatever the file's size.
pub struct FileImporter {
    adder: FileAdder,
    root: Option<Cid>,
    size: u64,
    dag_size: u64,
    blocks: u64,
}

impl Default for FileImporter {
    fn default() -> Self {
        FileImporter::new()
    }
}

impl FileImporter {
    /// An empty file.
    pub fn new() -> FileImporter {
        let adder = FileAdder::builder()
            .with_chunker(Chunker::Size(CHUNK_BYTES))
            .with_collector(BalancedCollector::with_branching_factor(LINKS_PER_NODE))
            .build();
        FileImporter { adder, root: None, size: 0, dag_size: 0, blocks: 0 }
    }

    /// Appends bytes; the blocks that become complete go to the sink.
    pub fn push<E>(&mut self, mut bytes: &[u8], sink: &mut Sink<'_, E>) -> Result<(), E> {
        self.size += bytes.len() as u64;
        while !bytes.is_empty() {
            let (blocks, consumed) = self.adder.push(bytes);
            bytes = &bytes[consumed..];
            for (cid, data) in blocks {
                self.root = Some(cid);
                self.blocks += 1;
                self.dag_size += data.len() as u64;
                sink(Block::hashed(cid, data))?;
            }
        }
        Ok(())
    }

    /// Ends the file; the last blocks, the root last of all, go to the sink.
    pub fn finish<E>(self, sink: &mut Sink<'_, E>) -> Result<Root, E> {
        let FileImporter { adder, mut root, size, mut dag_size, mut blocks } = self;
        for (cid, data) in adder.finish() {
            root = Some(cid);
            blocks += 1;
            dag_size += data.len() as u64;
            sink(Block::hashed(cid, data))?;
        }
        // Even an empty file has one block, so there is always a root.
        let cid = root.unwrap_or_else(|| crate::block::cid_v1(crate::block::RAW, b""));
        Ok(Root { cid, size, dag_size, blocks })
    }
}

/// Imports the file or the folder tree at `path`. Blocks go to the sink, the root last; `progress` is told each file with the bytes read of it
/// since it was told last.
///
/// Fails with [`Problem::Unsupported`], naming the path, at a symbolic link or a special file, and with [`Problem::BadName`] at a name that is
/// not UTF-8. Files that change meanwhile are imported as they were read.
pub fn import_path<E>(path: &Path, sink: &mut Sink<'_, E>, progress: &mut dyn FnMut(&Path, u64)) -> Result<Root, Error<E>> {
    import_at(path, 0, sink, progress)
}

fn import_at<E>(
    path: &Path,
    depth: usize,
    sink: &mut Sink<'_, E>,
    progress: &mut dyn FnMut(&Path, u64),
) -> Result<Root, Error<E>> {
    let found = fs::symlink_metadata(path).map_err(|e| Problem::io("look at", path, &e))?.file_type();
    if found.is_file() {
        return import_file(path, sink, progress);
    }
    if !found.is_dir() {
        let what = if found.is_symlink() { "a symbolic link" } else { "a special file" };
        return Err(Problem::Unsupported { path: path.to_owned(), what }.into());
    }
    if depth >= MAX_DEPTH {
        return Err(Problem::TooMany { what: "folders within folders", limit: MAX_DEPTH as u64 }.into());
    }
    let mut entries = Vec::new();
    let (mut size, mut blocks) = (0, 0);
    for name in names(path)? {
        let root = import_at(&path.join(&name), depth + 1, sink, progress)?;
        size += root.size;
        blocks += root.blocks;
        entries.push((name, root.cid, root.dag_size));
    }
    let dir = build_dir(entries, sink)?;
    Ok(Root { size, blocks: blocks + dir.blocks, ..dir })
}

fn import_file<E>(path: &Path, sink: &mut Sink<'_, E>, progress: &mut dyn FnMut(&Path, u64)) -> Result<Root, Error<E>> {
    let mut file = File::open(path).map_err(|e| Problem::io("open", path, &e))?;
    let mut importer = FileImporter::new();
    let mut buffer = Vec::with_capacity(READ_BYTES);
    loop {
        buffer.clear();
        // Fills the buffer whole unless the file ends, so that chunks are not cut.
        let read = Read::by_ref(&mut file).take(READ_BYTES as u64).read_to_end(&mut buffer);
        let read = read.map_err(|e| Problem::io("read", path, &e))?;
        if read == 0 {
            return importer.finish(sink).map_err(Error::Source);
        }
        importer.push(&buffer, sink).map_err(Error::Source)?;
        progress(path, read as u64);
    }
}

/// The names in a folder, sorted by their bytes.
fn names(path: &Path) -> Result<Vec<String>, Problem> {
    let failed = |e: std::io::Error| Problem::io("list", path, &e);
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = name
            .into_string()
            .map_err(|name| Problem::BadName { name: path.join(&name).to_string_lossy().into_owned(), why: "it is not UTF-8" })?;
        check_name(&name)?;
        if names.len() >= super::MAX_DIR_ENTRIES {
            return Err(Problem::TooMany { what: "entries in a folder", limit: super::MAX_DIR_ENTRIES as u64 });
        }
        names.push(name);
    }
    names.sort_unstable();
    Ok(names)
}
