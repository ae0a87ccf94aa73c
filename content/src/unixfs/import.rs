//! Imports files and folder trees: the blocks of `ipfs add --cid-version=1` (raw leaves, 256 KiB chunks, balanced, 174 links a node).

use super::dir::build_dir;
use super::{Error, MAX_DEPTH, Problem, Root, Sink, check_name};
use crate::block::{self, ALIGN, Block, RAW};
use bytes::Bytes;
use cid::{Cid, Version};
use multihash_codetable::Code;
use rust_unixfs::file::adder::{FileBranchLink, rebuild_file_branch};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Bytes in a chunk.
pub const CHUNK_BYTES: usize = 256 << 10;
/// Links in a node of a file's tree.
pub const LINKS_PER_NODE: usize = 174;

/// Imports one file from bytes that are pushed or read. Memory holds one chunk and the links of the nodes that are open, whatever the file's
/// size. A chunk's bytes are read into the memory that becomes its block, and not copied again.
pub struct FileImporter {
    /// The chunk that is being filled: where it begins in its buffer, and the buffer.
    start: usize,
    buffer: Vec<u8>,
    /// The links that have no node above them yet: of leaves, of the nodes above these, and so on.
    layers: Vec<Vec<FileBranchLink>>,
    root: Root,
}

impl Default for FileImporter {
    fn default() -> Self {
        FileImporter::new()
    }
}

impl FileImporter {
    /// An empty file.
    pub fn new() -> FileImporter {
        // Even an empty file has one block, which `finish` makes: this CID is never seen.
        let root = Root { cid: Cid::default(), size: 0, dag_size: 0, blocks: 0 };
        FileImporter { start: 0, buffer: Vec::new(), layers: Vec::new(), root }
    }

    /// Appends bytes; the blocks that become complete go to the sink.
    pub fn push<E>(&mut self, mut bytes: &[u8], sink: &mut Sink<'_, E>) -> Result<(), E> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.room()));
            self.buffer.extend_from_slice(now);
            self.filled(now.len(), sink)?;
            bytes = later;
        }
        Ok(())
    }

    /// Appends what `source` gives until a chunk is full or the source ends, and says how many bytes that were; 0: it has ended. The outer
    /// error is the sink's, the inner one the source's.
    pub fn read<E>(&mut self, source: &mut dyn Read, sink: &mut Sink<'_, E>) -> Result<io::Result<usize>, E> {
        let room = self.room();
        let read = source.take(room as u64).read_to_end(&mut self.buffer);
        if let Ok(read) = read {
            self.filled(read, sink)?;
        }
        Ok(read)
    }

    /// Ends the file; the last blocks, the root last of all, go to the sink.
    pub fn finish<E>(mut self, sink: &mut Sink<'_, E>) -> Result<Root, E> {
        if self.buffer.len() > self.start || self.root.blocks == 0 {
            self.leaf(sink)?;
        }
        while self.layers.iter().map(Vec::len).sum::<usize>() > 1 {
            let Some(lowest) = self.layers.iter().position(|layer| !layer.is_empty()) else { break };
            self.node(lowest, sink)?;
        }
        Ok(self.root)
    }

    /// Bytes that the present chunk has room for; makes a buffer for it if it has none.
    fn room(&mut self) -> usize {
        if self.buffer.capacity() == 0 {
            self.buffer.reserve_exact(CHUNK_BYTES + ALIGN);
            // An allocator that does not tell where it is costs the store a copy.
            self.start = self.buffer.as_ptr().align_offset(ALIGN).min(ALIGN - 1);
            self.buffer.resize(self.start, 0);
        }
        self.start + CHUNK_BYTES - self.buffer.len()
    }

    fn filled<E>(&mut self, more: usize, sink: &mut Sink<'_, E>) -> Result<(), E> {
        self.root.size += more as u64;
        if self.buffer.len() - self.start == CHUNK_BYTES { self.leaf(sink) } else { Ok(()) }
    }

    /// Makes a leaf of the present chunk, and the nodes that have become full.
    fn leaf<E>(&mut self, sink: &mut Sink<'_, E>) -> Result<(), E> {
        let start = std::mem::take(&mut self.start);
        let data = Bytes::from(std::mem::take(&mut self.buffer)).slice(start..);
        let size = data.len() as u64;
        let cid = block::cid_v1(RAW, &data);
        self.emit(cid, data, sink)?;
        self.link(0, FileBranchLink { cid, blocksize: size, tsize: size });
        // A full layer waits for one link more: its node may be the root.
        let mut depth = 0;
        while self.layers.get(depth).is_some_and(|layer| layer.len() > LINKS_PER_NODE) {
            self.node(depth, sink)?;
            depth += 1;
        }
        Ok(())
    }

    /// Makes a node of the first links of a layer.
    fn node<E>(&mut self, depth: usize, sink: &mut Sink<'_, E>) -> Result<(), E> {
        let layer = &mut self.layers[depth];
        let links: Vec<FileBranchLink> = layer.drain(..layer.len().min(LINKS_PER_NODE)).collect();
        let size = links.iter().map(|link| link.blocksize).sum();
        let (cid, data) = rebuild_file_branch(size, &links, Version::V1, Code::Sha2_256);
        let tsize = links.iter().map(|link| link.tsize).sum::<u64>() + data.len() as u64;
        self.emit(cid, data.into(), sink)?;
        self.link(depth + 1, FileBranchLink { cid, blocksize: size, tsize });
        Ok(())
    }

    fn link(&mut self, depth: usize, link: FileBranchLink) {
        if self.layers.len() == depth {
            self.layers.push(Vec::new());
        }
        self.layers[depth].push(link);
    }

    fn emit<E>(&mut self, cid: Cid, data: Bytes, sink: &mut Sink<'_, E>) -> Result<(), E> {
        self.root.cid = cid;
        self.root.blocks += 1;
        self.root.dag_size += data.len() as u64;
        sink(Block::hashed(cid, data))
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
    loop {
        let read = importer.read(&mut file, sink).map_err(Error::Source)?.map_err(|e| Problem::io("read", path, &e))?;
        if read == 0 {
            return importer.finish(sink).map_err(Error::Source);
        }
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
