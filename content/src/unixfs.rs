//! UnixFS: files and folders as DAGs (<https://specs.ipfs.tech/unixfs/>), with the CIDs of `ipfs add`.
//!
//! Everything here is synchronous and does not know where blocks live: importing hands blocks to a sink, reading asks for them. Whoever answers
//! has checked their hashes. What a block *says* (sizes, names, kinds) is not trusted: sizes are checked against what is found, names that could
//! leave a folder are refused, depths and numbers are bounded. A DAG can be far larger than its blocks, as blocks can be shared.

mod dir;
mod encode;
mod export;
mod import;
mod layout;
#[cfg(test)]
mod layout_tests;
mod node;
mod read;
#[cfg(test)]
mod tests;
mod walk;

pub use dir::DirBuilder;
pub use export::export;
pub use import::{CHUNK_BYTES, FileImporter, MAX_CHUNK_BYTES, Shape, import_path, symlink};
pub use layout::{LINKS_PER_NODE, Layout};
pub use read::{FileReader, MAX_FILE_DEPTH};
pub use walk::{Entry, EntryKind, MAX_DIR_ENTRIES, MAX_SHARD_DEPTH, Resolved, folder_blocks, list, resolve, walk_files};

use crate::block::{self, Block};
use bytes::Bytes;
use cid::Cid;
use std::path::{Path, PathBuf};

/// Folders within folders, at most: what import, walks and export go down.
pub const MAX_DEPTH: usize = 128;

/// Takes the blocks that importing makes.
pub type Sink<'a, E> = dyn FnMut(Block) -> Result<(), E> + 'a;
/// Gives the blocks that reading asks for, each checked against its CID.
pub type Get<'a, E> = dyn FnMut(&Cid) -> Result<Bytes, E> + 'a;

/// An error of the caller's own sink or source of blocks, or one of UnixFS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error<E> {
    /// The sink or the source failed.
    #[error("{0}")]
    Source(E),
    /// The data, the request or the file system is at fault.
    #[error(transparent)]
    UnixFs(#[from] Problem),
}

/// What is wrong with data, a request or the file system.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A block is not the UnixFS that it should be.
    #[error("{cid} is malformed: {why}")]
    Malformed {
        /// The block.
        cid: Cid,
        /// What is wrong with it.
        why: String,
    },
    /// A folder has no such entry.
    #[error("{cid} has no entry {name:?}")]
    NoEntry {
        /// The folder.
        cid: Cid,
        /// The name that was looked for.
        name: String,
    },
    /// A folder was expected.
    #[error("{cid} is no folder")]
    NotADirectory {
        /// What was found.
        cid: Cid,
    },
    /// A file was expected.
    #[error("{cid} is no file")]
    NotAFile {
        /// What was found.
        cid: Cid,
    },
    /// A name that is empty, `.`, `..`, or contains a slash or a NUL, or that an entry has already.
    #[error("the name {name:?} is refused: {why}")]
    BadName {
        /// The name.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// More than may be.
    #[error("more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// A special file cannot be imported.
    #[error("{} is {what}: only files, folders and symbolic links are supported", path.display())]
    Unsupported {
        /// Where.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The file system fails.
    #[error("cannot {doing} {}: {why}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// The operating system's words.
        why: String,
    },
}

impl Problem {
    fn malformed(cid: &Cid, why: impl Into<String>) -> Problem {
        Problem::Malformed { cid: *cid, why: why.into() }
    }

    fn io(doing: &'static str, path: &Path, error: &std::io::Error) -> Problem {
        Problem::Io { doing, path: path.to_owned(), why: error.to_string() }
    }
}

/// What may be recorded beside content, as `ipfs add` records it. By default nothing is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meta {
    /// POSIX permissions: the bits of [`Meta::MODE`].
    pub mode: Option<u32>,
    /// When it was changed last: seconds since 1970, which may be negative, and nanoseconds below a second.
    pub mtime: Option<(i64, u32)>,
}

impl Meta {
    /// The bits of a mode that are recorded: permissions, set-id and sticky.
    pub const MODE: u32 = 0o7777;
}

/// The root of what was imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Root {
    /// Its CID.
    pub cid: Cid,
    /// Bytes of file content under it.
    pub size: u64,
    /// Bytes of all blocks under it, with repetitions: what a link to it says (`Tsize` of dag-pb).
    pub dag_size: u64,
    /// Blocks that were handed to the sink, with repetitions.
    pub blocks: u64,
}

/// Refuses names that could lead out of a folder or are no names.
fn check_name(name: &str) -> Result<(), Problem> {
    let why = match name {
        "" => "it is empty",
        "." | ".." => "it would lead elsewhere",
        _ if name.contains('/') => "it contains a slash",
        _ if name.contains('\0') => "it contains a NUL",
        _ => return Ok(()),
    };
    Err(Problem::BadName { name: name.to_owned(), why })
}

/// Gets a block, from its CID itself if that carries it.
fn fetch<E>(cid: &Cid, get: &mut Get<'_, E>) -> Result<Bytes, Error<E>> {
    match block::inline_data(cid) {
        Some(data) => Ok(data),
        None => get(cid).map_err(Error::Source),
    }
}
