//! `get`: content back to disk, and nothing outside of the target.

use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::fs::{File, FileTimes, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::content::{copy, split};
use crate::args::Get;
use crate::client::Client;
use crate::error::CliError;
use crate::output::{say, show};
use crate::progress::transfer;
use crate::text::{bytes, plain};

/// `timerose get`
pub fn get(client: &Client, args: &Get) -> Result<(), CliError> {
    let of = split(&args.of);
    let root = client.get(&format!("/v1/stat/{of}"))?;
    let last = args.of.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let to = args.to.clone().unwrap_or_else(|| PathBuf::from(last));
    if to.symlink_metadata().is_ok() {
        return Err(CliError::usage(format!("{} exists", to.display()), "choose another path with -o"));
    }
    let mut got = Got { bytes: 0, files: 0, entries: 0, bar: transfer("getting", root["size"].as_u64().unwrap_or(0)) };
    let fetched = got.fetch(client, &of, &root, &to, 0);
    got.bar.finish_and_clear();
    fetched?;
    say(&format!("{} written in {} files", bytes(got.bytes), got.files));
    show(args.output, &json!({"path": to, "bytes": got.bytes, "files": got.files}), || to.display().to_string())
}

/// Folders within folders, and entries in all, that `get` writes: a small DAG can hold endlessly many.
const DEPTH_MAX: usize = 128;
const ENTRIES_MAX: u64 = 1_000_000;
/// Names that may be taken before a file is not written.
const NAMES_TRIED: u32 = 1000;

/// What was written so far.
struct Got {
    bytes: u64,
    files: u64,
    entries: u64,
    bar: ProgressBar,
}

impl Got {
    fn fetch(&mut self, client: &Client, of: &str, entry: &Value, to: &Path, depth: usize) -> Result<(), CliError> {
        self.entries += 1;
        if depth > DEPTH_MAX || self.entries > ENTRIES_MAX {
            let message = format!("the content is deeper than {DEPTH_MAX} folders or has over {ENTRIES_MAX} entries");
            return Err(CliError::usage(message, "get a part of it"));
        }
        match entry["kind"].as_str() {
            Some("symlink") => return self.bar.suspend(|| link(entry, to, depth)),
            Some("folder") => self.folder(client, of, to, depth)?,
            _ => self.file(client, of, to)?,
        }
        // A folder's own come last, as they may forbid to write in it.
        restore(entry, to)
    }

    fn folder(&mut self, client: &Client, of: &str, to: &Path, depth: usize) -> Result<(), CliError> {
        std::fs::create_dir(to).map_err(|e| CliError::io(to.display(), e))?;
        for entry in client.get(&format!("/v1/ls/{of}"))?.as_array().into_iter().flatten() {
            let name = entry["name"].as_str().unwrap_or_default();
            // Names come from whoever made the folder: one that is not a plain name would lead out of it.
            let mut parts = Path::new(name).components();
            if !matches!((parts.next(), parts.next()), (Some(Component::Normal(only)), None) if only == name) {
                return Err(CliError::usage(
                    format!("the folder holds the name {:?}", plain(name)),
                    "read it with `timerose cat`",
                ));
            }
            let below = entry["cid"].as_str().unwrap_or_default();
            self.fetch(client, below, entry, &to.join(name), depth + 1)?;
        }
        Ok(())
    }

    /// Writes under another name first, so that a file that is there is whole.
    fn file(&mut self, client: &Client, of: &str, to: &Path) -> Result<(), CliError> {
        let failed = |e: &std::io::Error| CliError::io(to.display(), e);
        let mut reader = self.bar.wrap_read(client.read(&format!("/v1/cat/{of}"))?);
        let (part, mut file) = fresh(to).map_err(|e| failed(&e))?;
        let written = copy(&mut reader, &mut file, failed)
            .and_then(|bytes| std::fs::rename(&part, to).map(|()| bytes).map_err(|e| failed(&e)));
        if written.is_err() {
            let _ = std::fs::remove_file(&part);
        }
        self.bytes += written?;
        self.files += 1;
        Ok(())
    }
}

/// A new file beside `to`. Its name is short, as that of `to` may be as long as names go, and one that nothing has: a folder may have entries of
/// any name.
fn fresh(to: &Path) -> std::io::Result<(PathBuf, File)> {
    let mut taken = 0;
    loop {
        let path = to.with_file_name(format!(".timerose-{}-{taken}.part", std::process::id()));
        match File::create_new(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && taken < NAMES_TRIED => taken += 1,
            made => return made.map(|file| (path, file)),
        }
    }
}

/// Makes a symbolic link, if it leads to somewhere within what is being written.
fn link(entry: &Value, to: &Path, depth: usize) -> Result<(), CliError> {
    match entry["target"].as_str() {
        Some(target) if stays_within(target, depth) => {
            std::os::unix::fs::symlink(target, to).map_err(|e| CliError::io(to.display(), e))
        }
        target => {
            let target = plain(target.unwrap_or("what is no text"));
            say(&format!("left out {}: a link out of the folder, to {target}", to.display()));
            Ok(())
        }
    }
}

/// Whether a link in a folder `depth - 1` below the root leads to somewhere below the root: up by fewer steps than it lies deep, and then
/// only down. What it leads through may be a link as well; that one stays within by the same rule.
fn stays_within(target: &str, depth: usize) -> bool {
    let mut parts = Path::new(target).components().peekable();
    let mut ups = 0;
    while parts.next_if(|part| matches!(part, Component::ParentDir | Component::CurDir)).is_some_and(|part| {
        ups += usize::from(part == Component::ParentDir);
        true
    }) {}
    !target.is_empty() && ups < depth && parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// Sets the permissions and the time of change that are recorded. Set-id and sticky bits are not taken from others.
fn restore(entry: &Value, at: &Path) -> Result<(), CliError> {
    let failed = |e: std::io::Error| CliError::io(at.display(), e);
    let time = entry["mtime"].as_array().and_then(|time| at_time(time.first()?.as_i64()?, time.get(1)?.as_u64()?));
    if let Some(time) = time {
        File::open(at).and_then(|file| file.set_times(FileTimes::new().set_modified(time))).map_err(failed)?;
    }
    if let Some(mode) = entry["mode"].as_u64() {
        std::fs::set_permissions(at, Permissions::from_mode(mode as u32 & 0o777)).map_err(failed)?;
    }
    Ok(())
}

/// `None` where the system knows no such time.
fn at_time(seconds: i64, nanos: u64) -> Option<SystemTime> {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let from = if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    from?.checked_add(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::stays_within;

    #[test]
    fn links_lead_up_to_the_root_at_most_and_then_only_down() {
        for (target, depth) in [("a", 1), ("./a/b", 1), ("../a", 2), ("../../x/y", 3), ("..", 2), (".", 1), ("a/./b", 1)] {
            assert!(stays_within(target, depth), "{target} at {depth}");
        }
        let out = [("/etc/passwd", 9), ("..", 1), ("../../a", 2), ("a/../..", 9), ("a/../b", 9), ("", 3), ("x", 0), ("/", 1)];
        for (target, depth) in out {
            assert!(!stays_within(target, depth), "{target} at {depth}");
        }
    }
}
