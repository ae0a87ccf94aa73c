//! What can go wrong in the store, in a form that several waiting callers can each be given.

use crate::block::BlockError;
use cid::Cid;
use std::io::ErrorKind;
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
    /// There is no room on the disk. Nothing that was stored is lost; it works again when there is room.
    #[error("no space left on the disk of {}", path.display())]
    Full {
        /// The file that was to be written.
        path: PathBuf,
    },
    /// The blocks take as much as they may. Nothing that was stored is lost; it works again when something has gone.
    #[error("the blocks in {} have reached the {max} bytes that they may take", path.display())]
    OverMax {
        /// The store's directory.
        path: PathBuf,
        /// The bound, in bytes.
        max: u64,
    },
    /// A redb file is damaged.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// redb's words.
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
    /// What is on disk is not the block that was written. It counts as absent from now on, so that a fetch or a put replaces it.
    #[error("{cid} is corrupt in {}", path.display())]
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
    /// What the operating system says of a file or directory.
    pub fn io(doing: &'static str, path: &Path, error: &std::io::Error) -> StoreError {
        if is_full(error) {
            return StoreError::Full { path: path.to_owned() };
        }
        StoreError::Io { doing, path: path.to_owned(), why: error.to_string() }
    }
}

/// Whether an error means that there is no room.
pub(super) fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}
