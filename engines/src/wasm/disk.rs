//! Compiled code on disk, sealed.
//!
//! To load machine code is to trust it, so every file ends with an HMAC-SHA256 over its name and its content, made with a
//! random key that only this installation has. A file that was damaged, exchanged or brought from elsewhere is dropped.

use hmac::digest::Key;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// The most files that are kept; the ones that were not used for longest go first.
const FILES_MAX: usize = 512;
/// The most bytes that are kept in them.
const BYTES_MAX: u64 = 4 << 30;
/// Bytes of the key and of a seal.
const SEAL: usize = 32;
const KEY_FILE: &str = "key";
/// The ending of compiled code.
const ENDING: &str = "cwasm";

/// A folder of compiled code.
pub(super) struct Disk {
    dir: PathBuf,
    key: [u8; SEAL],
    /// Tells apart the temporary files of this process.
    writes: AtomicU64,
}

impl Disk {
    /// Opens the folder, with its key; makes both where they are missing.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Disk { dir: dir.to_path_buf(), key: key(dir)?, writes: AtomicU64::new(0) })
    }

    /// What was stored under `name`, if it is there and its seal is right.
    pub(super) fn load(&self, name: &[u8; 32]) -> Option<Vec<u8>> {
        let path = self.path(name);
        let mut bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "compiled code cannot be read");
                return None;
            }
        };
        let whole =
            bytes.split_last_chunk::<SEAL>().is_some_and(|(body, seal)| self.sealed(name, body).verify_slice(seal).is_ok());
        if !whole {
            tracing::warn!(path = %path.display(), "compiled code is damaged or not of this node, dropped");
            // Where it cannot be removed it is refused again next time.
            let _ = fs::remove_file(&path);
            return None;
        }
        bytes.truncate(bytes.len() - SEAL);
        // Keeps what is used: the time is only a hint for eviction.
        let _ = File::options().append(true).open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Some(bytes)
    }

    /// Stores `body` under `name`: whole or not at all.
    pub(super) fn store(&self, name: &[u8; 32], body: &[u8]) -> io::Result<()> {
        self.evict((body.len() + SEAL) as u64)?;
        let seal = self.sealed(name, body).finalize().into_bytes();
        let path = self.path(name);
        let temporary = self.dir.join(format!("{}.{}.tmp", std::process::id(), self.writes.fetch_add(1, Ordering::Relaxed)));
        let written = File::create(&temporary).and_then(|mut file| {
            file.write_all(body)?;
            file.write_all(&seal)
        });
        written.and_then(|()| fs::rename(&temporary, &path)).inspect_err(|_| {
            // What is left of it goes with the next eviction.
            let _ = fs::remove_file(&temporary);
        })
    }

    fn sealed(&self, name: &[u8; 32], body: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new(&block(&self.key));
        mac.update(name);
        mac.update(body);
        mac
    }

    fn path(&self, name: &[u8; 32]) -> PathBuf {
        let hex: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        self.dir.join(format!("{hex}.{ENDING}"))
    }

    /// Makes room for one more file of `size` bytes.
    fn evict(&self, size: u64) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_name() != KEY_FILE {
                // A file that another process has just removed needs no room.
                let Ok(about) = entry.metadata() else { continue };
                files.push((about.modified()?, entry.path(), about.len()));
            }
        }
        files.sort();
        let mut count = files.len() + 1;
        let mut bytes = size + files.iter().map(|(_, _, size)| size).sum::<u64>();
        for (_, path, size) in files {
            if count <= FILES_MAX && bytes <= BYTES_MAX {
                break;
            }
            // What cannot be removed now is tried again next time.
            let _ = fs::remove_file(path);
            count -= 1;
            bytes -= size;
        }
        Ok(())
    }
}

/// The key as HMAC uses it: filled up with zeros to a block of SHA-256 (RFC 2104).
fn block(key: &[u8; SEAL]) -> Key<Hmac<Sha256>> {
    let mut block = Key::<Hmac<Sha256>>::default();
    block[..SEAL].copy_from_slice(key);
    block
}

/// Reads the folder's key, or makes one.
fn key(dir: &Path) -> io::Result<[u8; SEAL]> {
    let path = dir.join(KEY_FILE);
    if let Some(key) = read_key(&path)? {
        return Ok(key);
    }
    let mut key = [0; SEAL];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let temporary = dir.join(format!("{KEY_FILE}.{}.tmp", std::process::id()));
    // A file of an earlier process with our number may be left.
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(&key)?;
    // A link, unlike a renaming, does not replace the key that another process may have put there just now.
    let linked = fs::hard_link(&temporary, &path);
    fs::remove_file(&temporary)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            read_key(&path)?.ok_or_else(|| io::Error::other("the key changed while it was read"))
        }
        linked => linked.map(|()| key),
    }
}

/// The key in `path`. One of a wrong length is removed: all that it sealed is refused from then on.
fn read_key(path: &Path) -> io::Result<Option<[u8; SEAL]>> {
    match fs::read(path) {
        Ok(bytes) => match <[u8; SEAL]>::try_from(bytes) {
            Ok(key) => Ok(Some(key)),
            Err(_) => {
                tracing::warn!(path = %path.display(), "the key of the compiled code is damaged, making another");
                fs::remove_file(path)?;
                Ok(None)
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_last_is_kept_and_the_number_of_files_is_bounded() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let disk = Disk::open(dir.path()).expect("a cache");
        for number in 0..FILES_MAX as u32 + 8 {
            let mut name = [0; 32];
            name[..4].copy_from_slice(&number.to_le_bytes());
            disk.store(&name, b"code").expect("room for a file");
            assert_eq!(disk.load(&name).as_deref(), Some(&b"code"[..]));
        }
        assert_eq!(fs::read_dir(dir.path()).expect("the folder").count(), FILES_MAX + 1, "with the key");
    }
}
