//! What can go wrong in the store, in a form that several waiting callers can each be given.

use crate::block::BlockError;
use cid::Cid;
use std::path::{Path, PathBuf};

/// An error of the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A file or directory cannot be read or written.
    #[error("cannot {doing} {}: {why}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// The operating system's words.
        why: String,
    },
    /// The index (redb) cannot be read or written.
    #[error("the index {} fails: {why}", path.display())]
    Index {
        /// The index's file.
        path: PathBuf,
        /// redb's words.
        why: String,
    },
    /// What is on disk is not the block that was written.
    #[error("{cid} is corrupt in {}: delete it and fetch it again", path.display())]
    Corrupt {
        /// The block.
        cid: Cid,
        /// The file that holds the bad bytes.
        path: PathBuf,
    },
    /// Another process has the store open.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The store's directory.
        path: PathBuf,
    },
    /// The directory was written by a newer version of this program, or holds something else.
    #[error("{} has format {found:?}, this program knows {supported:?}", path.display())]
    Format {
        /// The file that names the format.
        path: PathBuf,
        /// What it says (shortened).
        found: String,
        /// What it should say.
        supported: &'static str,
    },
    /// A CID that this store cannot hold.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The thread that writes has ended.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    pub(super) fn io(doing: &'static str, path: &Path, error: &std::io::Error) -> StoreError {
        StoreError::Io { doing, path: path.to_owned(), why: error.to_string() }
    }
}
