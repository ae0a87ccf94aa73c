//! A redb file that outlives its faults: after a failed write (a full disk) redb serves nothing until it is opened anew, which is done here;
//! and where damaged pages make it panic, that becomes an error.

use super::error::{StoreError, is_full};
use parking_lot::RwLock;
use redb::{Database, DatabaseError};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// One redb file, open in this process alone.
pub struct RedbFile {
    path: PathBuf,
    cache_bytes: usize,
    /// `None` while it cannot be opened.
    database: RwLock<Option<Database>>,
    /// A use of it panicked or failed to write: it is opened anew before the next.
    suspect: AtomicBool,
}

impl RedbFile {
    /// Opens or makes the file; redb may use so much memory for its pages.
    ///
    /// Fails with [`StoreError::Locked`] naming the file's folder, [`StoreError::Damaged`], [`StoreError::Full`] or [`StoreError::Io`].
    pub fn open(path: PathBuf, cache_bytes: usize) -> Result<RedbFile, StoreError> {
        let file = RedbFile { path, cache_bytes, database: RwLock::default(), suspect: AtomicBool::new(false) };
        *file.database.write() = Some(file.open_database()?);
        Ok(file)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Does something with the database, in transactions that end with it. After an earlier fault the file is opened anew, and `what` may then
    /// be called a second time.
    pub fn with<T>(&self, mut what: impl FnMut(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        match self.attempt(&mut what) {
            Some(outcome) => outcome,
            None => {
                self.reopen()?;
                self.attempt(&mut what).unwrap_or_else(|| Err(self.failed(redb::Error::PreviousIo)))
            }
        }
    }

    /// `None`: it is to be opened anew first.
    fn attempt<T>(&self, what: &mut dyn FnMut(&Database) -> Result<T, redb::Error>) -> Option<Result<T, StoreError>> {
        let database = self.database.read();
        let database = database.as_ref()?;
        if self.suspect.load(Ordering::Acquire) {
            return None;
        }
        match catch_unwind(AssertUnwindSafe(|| what(database))) {
            Ok(Ok(value)) => Some(Ok(value)),
            Ok(Err(redb::Error::PreviousIo | redb::Error::DatabaseClosed)) => None,
            Ok(Err(error)) => {
                self.suspect.fetch_or(matches!(error, redb::Error::Io(_)), Ordering::AcqRel);
                Some(Err(self.failed(error)))
            }
            Err(_) => {
                self.suspect.store(true, Ordering::Release);
                Some(Err(self.damaged("redb panicked; the log says where")))
            }
        }
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let mut database = self.database.write();
        // redb holds the file's lock until the old one is gone.
        *database = None;
        *database = Some(self.open_database()?);
        self.suspect.store(false, Ordering::Release);
        tracing::warn!(path = %self.path.display(), "opened anew after a fault");
        Ok(())
    }

    fn open_database(&self) -> Result<Database, StoreError> {
        let open = || Database::builder().set_cache_size(self.cache_bytes).create(&self.path);
        match catch_unwind(AssertUnwindSafe(open)) {
            Ok(Ok(database)) => Ok(database),
            Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => {
                Err(StoreError::Locked { path: self.path.parent().unwrap_or(&self.path).to_owned() })
            }
            Ok(Err(error)) => Err(self.failed(error.into())),
            Err(_) => Err(self.damaged("redb panicked; the log says where")),
        }
    }

    fn damaged(&self, why: &str) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), why: why.into() }
    }

    fn failed(&self, error: redb::Error) -> StoreError {
        match error {
            redb::Error::Io(e) if is_full(&e) => StoreError::Full { path: self.path.clone() },
            redb::Error::Io(e) if matches!(e.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
                self.damaged(&e.to_string())
            }
            redb::Error::Io(e) => StoreError::io("use", &self.path, &e),
            redb::Error::Corrupted(why) => self.damaged(&why),
            redb::Error::UpgradeRequired(version) => self.damaged(&format!("it has redb's format {version}")),
            other => StoreError::Index { path: self.path.clone(), why: other.to_string() },
        }
    }
}
