//! Writes files and folders out to the file system, never outside of the folder that was named and never over what is there.

use super::read::FileReader;
use super::walk::{MAX_DIR_ENTRIES, Step, walk};
use super::{Error, Get, Problem};
use cid::Cid;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

/// Writes the content of the file `cid`; returns the number of bytes. Fails on a file that is not as large as it says.
pub fn export<E>(cid: &Cid, out: &mut dyn Write, get: &mut Get<'_, E>) -> Result<u64, Error<E>> {
    let mut reader = FileReader::open(cid, get)?;
    write_out(&mut reader, out, get)
}

fn write_out<E>(reader: &mut FileReader, out: &mut dyn Write, get: &mut Get<'_, E>) -> Result<u64, Error<E>> {
    let mut offset = 0;
    while offset < reader.size() {
        let chunk = reader.chunk(offset, get)?;
        out.write_all(&chunk).map_err(|e| Problem::io("write", Path::new("the output"), &e))?;
        offset += chunk.len() as u64;
    }
    Ok(offset)
}

/// Writes the folder `cid` to `target`; returns the number of bytes in its files.
///
/// `target` and folders below it may exist already; a file that exists is never touched ([`Problem::Exists`]) and no symbolic link below
/// `target` is followed. Fails with [`Problem::TooMany`] after `limit_bytes` or [`MAX_DIR_ENTRIES`] entries, with [`Problem::Unsupported`] at a
/// symbolic link in the DAG. What was written before an error stays.
pub fn export_dir<E>(cid: &Cid, target: &Path, limit_bytes: u64, get: &mut Get<'_, E>) -> Result<u64, Error<E>> {
    let mut written = 0;
    let mut left = MAX_DIR_ENTRIES;
    walk(
        cid,
        0,
        &mut String::new(),
        0,
        &mut |step, get| {
            let limit = MAX_DIR_ENTRIES as u64;
            left = left.checked_sub(1).ok_or(Problem::TooMany { what: "entries to export", limit })?;
            match step {
                // Names were checked one by one, so that a path is made of names below the target.
                Step::Folder { path: "" } => fs::create_dir_all(target).map_err(|e| Problem::io("create", target, &e).into()),
                Step::Folder { path } => make_dir(&target.join(path)).map_err(Error::from),
                Step::Symlink { path } => Err(Problem::Unsupported { path: target.join(path), what: "a symbolic link" }.into()),
                Step::File { path: "", cid, .. } => Err(Problem::NotADirectory { cid: *cid }.into()),
                Step::File { path, cid, .. } => {
                    written += export_file(cid, &target.join(path), limit_bytes - written, get)?;
                    Ok(())
                }
            }
        },
        get,
    )?;
    Ok(written)
}

fn export_file<E>(cid: &Cid, path: &Path, left: u64, get: &mut Get<'_, E>) -> Result<u64, Error<E>> {
    // The content can be no larger than the size, or reading fails: so the limit is known before anything is written.
    let mut reader = FileReader::open(cid, get)?;
    if reader.size() > left {
        return Err(Problem::TooMany { what: "bytes more to export", limit: left }.into());
    }
    let mut file = create_new(path)?;
    write_out(&mut reader, &mut file, get)
}

/// Makes a file that is not there; `create_new` follows no symbolic link.
fn create_new(path: &Path) -> Result<File, Problem> {
    OpenOptions::new().write(true).create_new(true).open(path).map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => Problem::Exists { path: path.to_owned() },
        _ => Problem::io("create", path, &e),
    })
}

/// Makes a folder, or takes one that is there; a symbolic link to a folder is none.
fn make_dir(path: &Path) -> Result<(), Problem> {
    match fs::create_dir(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            let found = fs::symlink_metadata(path).map_err(|e| Problem::io("look at", path, &e))?;
            if found.is_dir() { Ok(()) } else { Err(Problem::Exists { path: path.to_owned() }) }
        }
        Err(e) => Err(Problem::io("create", path, &e)),
    }
}
