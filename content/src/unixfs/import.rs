//! Imports files and folder trees: the blocks of `ipfs add`, of either CID version and layout, with raw leaves or without.

use super::dir::build_dir;
use super::encode::{self, Part};
use super::layout::{Layout, Tree};
use super::node::MAX_TARGET_BYTES;
use super::{Error, MAX_DEPTH, Meta, Problem, Root, Sink, check_name};
use crate::block::{self, ALIGN, Block, RAW};
use crate::blockstore::MAX_SMALL_BYTES;
use bytes::Bytes;
use cid::{Cid, Version};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Bytes in a chunk, if nothing else is asked for.
pub const CHUNK_BYTES: usize = 256 << 10;
/// Bytes in a chunk, at most: a leaf has a head as well, and is no larger than a block may be.
pub const MAX_CHUNK_BYTES: usize = crate::block::MAX_BLOCK_BYTES - 256;

/// How content becomes blocks, in the terms of `ipfs add`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The version of all CIDs but those of raw blocks, which exist in version 1 only.
    pub version: Version,
    /// Whether the parts of a file are blocks without a head.
    pub raw_leaves: bool,
    /// Bytes in a part: 1 to [`MAX_CHUNK_BYTES`].
    pub chunk_bytes: usize,
    /// How the parts of a file hang together.
    pub layout: Layout,
}

impl Shape {
    /// What `ipfs add --cid-version` chooses.
    pub fn of(version: Version) -> Shape {
        Shape { version, raw_leaves: version == Version::V1, chunk_bytes: CHUNK_BYTES, layout: Layout::Balanced }
    }
}

impl Default for Shape {
    fn default() -> Shape {
        Shape::of(Version::V1)
    }
}

/// Imports one file from bytes that are pushed or read. Memory holds one chunk and the links of the nodes that are open, whatever the file's
/// size. A chunk's bytes are read into the memory that becomes its block, and not copied again.
pub struct FileImporter {
    shape: Shape,
    meta: Meta,
    /// The chunk that is being filled: where it begins in its buffer, and the buffer.
    start: usize,
    buffer: Vec<u8>,
    /// The first chunk of a file that something is to be recorded of: if no other follows, its block may be the root, and says it.
    first: Option<Bytes>,
    tree: Tree,
    made: Made,
}

impl Default for FileImporter {
    fn default() -> Self {
        FileImporter::new(Shape::default(), Meta::default())
    }
}

impl FileImporter {
    /// An empty file. If something is to be recorded of it, it has no raw leaves: a raw block has no place for that.
    pub fn new(mut shape: Shape, meta: Meta) -> FileImporter {
        shape.raw_leaves &= meta == Meta::default();
        shape.chunk_bytes = shape.chunk_bytes.clamp(1, MAX_CHUNK_BYTES);
        // Even an empty file has one block, which `finish` makes: this CID is never seen.
        let root = Root { cid: Cid::default(), size: 0, dag_size: 0, blocks: 0 };
        let (tree, made) = (Tree::new(shape.layout), Made { shape, root });
        FileImporter { shape, meta, start: 0, buffer: Vec::new(), first: None, tree, made }
    }

    /// Appends bytes; the blocks that become complete go to the sink.
    pub fn push<E>(&mut self, mut bytes: &[u8], sink: &mut Sink<'_, E>) -> Result<(), E> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.room(bytes.len())));
            self.buffer.extend_from_slice(now);
            self.filled(now.len(), sink)?;
            bytes = later;
        }
        Ok(())
    }

    /// Appends what `source` gives until a chunk is full or the source ends, and says how many bytes that were; 0: it has ended. The outer
    /// error is the sink's, the inner one the source's.
    pub fn read<E>(&mut self, source: &mut dyn Read, sink: &mut Sink<'_, E>) -> Result<io::Result<usize>, E> {
        let room = self.room(usize::MAX);
        let read = source.take(room as u64).read_to_end(&mut self.buffer);
        if let Ok(read) = read {
            self.filled(read, sink)?;
        }
        Ok(read)
    }

    /// Ends the file; the last blocks, the root last of all, go to the sink.
    pub fn finish<E>(mut self, sink: &mut Sink<'_, E>) -> Result<Root, E> {
        let lone = self.may_be_root();
        if self.buffer.len() > self.start || lone {
            let last = self.chunk();
            self.leaf(last, if lone { self.meta } else { Meta::default() }, sink)?;
        } else if let Some(only) = self.first.take() {
            self.leaf(only, self.meta, sink)?;
        }
        let FileImporter { tree, mut made, meta, .. } = self;
        tree.finish(meta, &mut |parts, meta| made.branch(parts, meta, sink))?;
        Ok(made.root)
    }

    /// Whether the block of the present chunk is the root if the file ends with it.
    fn may_be_root(&self) -> bool {
        self.shape.layout == Layout::Balanced && self.made.root.blocks == 0 && self.first.is_none()
    }

    /// Bytes that the present chunk has room for; makes a buffer for it if it has none.
    fn room(&mut self, coming: usize) -> usize {
        if self.buffer.capacity() == 0 {
            // A small file takes no more memory than it has: its block may wait for the disk in company of many.
            let align = if coming >= self.shape.chunk_bytes && self.shape.chunk_bytes > MAX_SMALL_BYTES { ALIGN } else { 1 };
            self.buffer.reserve_exact(self.shape.chunk_bytes.min(coming) + align);
            // An allocator that does not tell where it is costs the store a copy.
            self.start = self.buffer.as_ptr().align_offset(align).min(align - 1);
            self.buffer.resize(self.start, 0);
        }
        self.start + self.shape.chunk_bytes - self.buffer.len()
    }

    fn filled<E>(&mut self, more: usize, sink: &mut Sink<'_, E>) -> Result<(), E> {
        self.made.root.size += more as u64;
        if self.buffer.len() - self.start < self.shape.chunk_bytes {
            return Ok(());
        }
        let lone = self.may_be_root();
        let chunk = self.chunk();
        if self.meta != Meta::default() && lone {
            self.first = Some(chunk);
            return Ok(());
        }
        self.leaf(chunk, Meta::default(), sink)
    }

    /// Takes the present chunk out.
    fn chunk(&mut self) -> Bytes {
        let start = std::mem::take(&mut self.start);
        Bytes::from(std::mem::take(&mut self.buffer)).slice(start..)
    }

    /// Makes a leaf of a chunk, and the nodes that have become full.
    fn leaf<E>(&mut self, chunk: Bytes, meta: Meta, sink: &mut Sink<'_, E>) -> Result<(), E> {
        if let Some(first) = self.first.take() {
            self.leaf(first, Meta::default(), sink)?;
        }
        let FileImporter { tree, made, .. } = self;
        let leaf = made.leaf(chunk, meta, sink)?;
        tree.add(leaf, &mut |parts, meta| made.branch(parts, meta, sink))
    }
}

/// Makes the blocks of a file, and counts them.
struct Made {
    shape: Shape,
    /// So far; its CID is that of the latest block.
    root: Root,
}

impl Made {
    fn leaf<E>(&mut self, chunk: Bytes, meta: Meta, sink: &mut Sink<'_, E>) -> Result<Part, E> {
        let size = chunk.len() as u64;
        let (cid, block) = if self.shape.raw_leaves {
            (block::cid_v1(RAW, &chunk), chunk)
        } else {
            let kind = match self.shape.layout {
                Layout::Balanced => encode::FILE,
                Layout::Trickle => encode::RAW,
            };
            let block = encode::leaf(kind, &chunk, meta);
            (block::cid_pb(self.shape.version, &block), block.into())
        };
        let dag_size = block.len() as u64;
        self.emit(cid, block, sink)?;
        Ok(Part { cid, size, dag_size })
    }

    fn branch<E>(&mut self, parts: &[Part], meta: Meta, sink: &mut Sink<'_, E>) -> Result<Part, E> {
        let size = parts.iter().map(|part| part.size).sum();
        let block = encode::branch(parts, meta);
        let cid = block::cid_pb(self.shape.version, &block);
        let dag_size = parts.iter().map(|part| part.dag_size).sum::<u64>() + block.len() as u64;
        self.emit(cid, block.into(), sink)?;
        Ok(Part { cid, size, dag_size })
    }

    fn emit<E>(&mut self, cid: Cid, data: Bytes, sink: &mut Sink<'_, E>) -> Result<(), E> {
        self.root.cid = cid;
        self.root.blocks += 1;
        self.root.dag_size += data.len() as u64;
        sink(Block::hashed(cid, data))
    }
}

/// Makes the block of a symbolic link. Fails with [`Problem::BadName`] on a target that is empty, too long, or contains a NUL.
pub fn symlink<E>(target: &str, shape: Shape, meta: Meta, sink: &mut Sink<'_, E>) -> Result<Root, Error<E>> {
    if target.is_empty() || target.len() > MAX_TARGET_BYTES || target.contains('\0') {
        return Err(Problem::BadName { name: target.to_owned(), why: "a link cannot lead there" }.into());
    }
    // As in Kubo, a link has no mode.
    let block = encode::symlink(target, Meta { mode: None, ..meta });
    let root = Root { cid: block::cid_pb(shape.version, &block), size: 0, dag_size: block.len() as u64, blocks: 1 };
    sink(Block::hashed(root.cid, block)).map_err(Error::Source)?;
    Ok(root)
}

/// Imports the file or the folder tree at `path`. Blocks go to the sink, the root last; `progress` is told each file with the bytes read of it
/// since it was told last.
///
/// Symbolic links are imported as such. Fails with [`Problem::Unsupported`], naming the path, at a special file, and with [`Problem::BadName`]
/// at a name or a link's target that is not UTF-8. Files that change meanwhile are imported as they were read.
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
    if found.is_symlink() {
        let target = fs::read_link(path).map_err(|e| Problem::io("read", path, &e))?;
        return symlink(&utf8(path, target.into_os_string())?, Shape::default(), Meta::default(), sink);
    }
    if !found.is_dir() {
        return Err(Problem::Unsupported { path: path.to_owned(), what: "a special file" }.into());
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
    let dir = build_dir(entries, Shape::default(), Meta::default(), sink)?;
    Ok(Root { size, blocks: blocks + dir.blocks, ..dir })
}

fn import_file<E>(path: &Path, sink: &mut Sink<'_, E>, progress: &mut dyn FnMut(&Path, u64)) -> Result<Root, Error<E>> {
    let mut file = File::open(path).map_err(|e| Problem::io("open", path, &e))?;
    let mut importer = FileImporter::default();
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
        let name = utf8(path, entry.map_err(failed)?.file_name())?;
        check_name(&name)?;
        if names.len() >= super::MAX_DIR_ENTRIES {
            return Err(Problem::TooMany { what: "entries in a folder", limit: super::MAX_DIR_ENTRIES as u64 });
        }
        names.push(name);
    }
    names.sort_unstable();
    Ok(names)
}

fn utf8(path: &Path, name: std::ffi::OsString) -> Result<String, Problem> {
    let bad = |name| Problem::BadName { name: path.join(name).to_string_lossy().into_owned(), why: "it is not UTF-8" };
    name.into_string().map_err(bad)
}
