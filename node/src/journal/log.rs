//! The log of promises on disk: appended to, replayed at the start, and written anew when most of it is dead.
//!
//! A file `promises.log`: a head with the format's version, then frames, each a record `timerose/promise`. The last entry of
//! a key stands. A compaction writes what stands into `promises.new`, makes it safe and renames it: at every moment one of
//! the two files is whole.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use timerose_core::promise::{JournalEntry, Key};
use timerose_core::record::{self, Record};

use crate::config::StartError;
use crate::frames;

const NAME: &str = "promises.log";
/// Where a compaction writes; what is left of one that was broken off is worth nothing.
const FRESH: &str = "promises.new";
/// What was found damaged within is kept here as it was, for whoever wants to look.
const DAMAGED: &str = "promises.damaged";
/// What the file begins with; the format's version follows, 32 bits, little-endian.
const MAGIC: [u8; 8] = *b"TRpromis";
/// The format that this build writes and reads.
const FORMAT: u32 = 1;
const HEAD: usize = 12;
/// A file is not worth writing anew below this size, in bytes.
const COMPACT_MIN: u64 = 1 << 20;

/// The log, open for appending.
#[derive(Debug)]
pub(crate) struct Log {
    dir: PathBuf,
    file: File,
    len: u64,
    /// What stands, encoded.
    live: BTreeMap<Key, Vec<u8>>,
    live_bytes: u64,
    /// Why nothing may be written any more: what the file holds is not known.
    broken: Option<String>,
}

impl Log {
    /// Opens or makes the log of a data folder, and gives what stands in it.
    pub fn open(dir: &Path) -> Result<(Log, Vec<JournalEntry>), StartError> {
        let path = dir.join(NAME);
        let fail = |why: String| StartError::Data { path: path.clone(), why };
        let opened = Log::read(dir, &path).map_err(|why| fail(why.to_string()))?;
        let (mut log, bytes) = opened;
        let bytes = bytes.unwrap_or_else(|| head().to_vec());
        check_head(&bytes).map_err(fail)?;
        let found = frames::scan(&bytes, HEAD);
        let mut entries = BTreeMap::new();
        for payload in &found.frames {
            let entry: JournalEntry = record::decode(payload)
                .map_err(|why| fail(format!("it holds an entry that this TimeRose cannot read: {why}")))?;
            log.note(&entry, payload.to_vec());
            entries.insert(entry.key(), entry);
        }
        if found.torn > 0 {
            tracing::warn!(bytes = found.torn, path = %path.display(), "the end of the journal was not whole and is cut off");
            log.cut(found.end as u64).map_err(|why| fail(why.to_string()))?;
        }
        if found.damaged > 0 {
            let kept = dir.join(DAMAGED);
            tracing::error!(bytes = found.damaged, kept = %kept.display(), "the journal is damaged within; its other entries are kept");
            fs::write(&kept, &bytes).and_then(|()| log.compact()).map_err(|why| fail(why.to_string()))?;
        }
        entries.retain(|_, entry| entry.is_live());
        Ok((log, entries.into_values().collect()))
    }

    /// Opens the file, and reads it; where there is none, makes one.
    fn read(dir: &Path, path: &Path) -> io::Result<(Log, Option<Vec<u8>>)> {
        let open =
            |file: File, len: u64| Log { dir: dir.to_path_buf(), file, len, live: BTreeMap::new(), live_bytes: 0, broken: None };
        match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => {
                let bytes = fs::read(path)?;
                Ok((open(file, bytes.len() as u64), Some(bytes)))
            }
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(dir)?;
                let (file, len) = write_fresh(dir, std::iter::empty())?;
                adopt(dir)?;
                Ok((open(file, len), None))
            }
            Err(why) => Err(why),
        }
    }

    /// What stands after an entry.
    fn note(&mut self, entry: &JournalEntry, payload: Vec<u8>) {
        let added = payload.len() as u64;
        let before = match entry.is_live() {
            true => {
                self.live_bytes += added;
                self.live.insert(entry.key(), payload)
            }
            false => self.live.remove(&entry.key()),
        };
        self.live_bytes -= before.map_or(0, |payload| payload.len() as u64);
    }

    /// Appends entries: they survive the end of this process. What cannot be written whole is taken back.
    pub fn append<'a>(&mut self, entries: impl Iterator<Item = &'a JournalEntry>) -> Result<(), String> {
        if let Some(why) = &self.broken {
            return Err(why.clone());
        }
        let mut bytes = Vec::new();
        let mut noted = Vec::new();
        for entry in entries {
            let payload = record::encode(entry);
            if payload.len() > JournalEntry::MAX_BYTES {
                return Err(format!("an entry of {} bytes, over {}", payload.len(), JournalEntry::MAX_BYTES));
            }
            frames::put(&mut bytes, &payload);
            noted.push((entry, payload));
        }
        if let Err(why) = self.file.write_all_at(&bytes, self.len) {
            if let Err(worse) = self.cut(self.len) {
                self.broken = Some(format!("{worse}, and before that {why}"));
            }
            return Err(why.to_string());
        }
        self.len += bytes.len() as u64;
        noted.into_iter().for_each(|(entry, payload)| self.note(entry, payload));
        Ok(())
    }

    /// Makes what was appended survive a loss of power.
    pub fn make_safe(&mut self) -> Result<(), String> {
        if let Some(why) = &self.broken {
            return Err(why.clone());
        }
        self.file.sync_data().map_err(|why| {
            // After a failure the system may forget what it could not write: nothing here is certain any more.
            self.broken = Some(format!("{why}; the node must be started again"));
            why.to_string()
        })
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.file.sync_data()?;
        self.len = len;
        Ok(())
    }

    /// Writes the log anew if most of it is dead.
    pub fn compact_if_worth_it(&mut self) -> io::Result<()> {
        match self.broken.is_none() && self.len > COMPACT_MIN && self.len > 2 * self.live_bytes {
            true => self.compact(),
            false => Ok(()),
        }
    }

    fn compact(&mut self) -> io::Result<()> {
        let (file, len) = write_fresh(&self.dir, self.live.values())?;
        adopt(&self.dir)?;
        (self.file, self.len) = (file, len);
        Ok(())
    }
}

fn head() -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(&MAGIC);
    head[8..].copy_from_slice(&FORMAT.to_le_bytes());
    head
}

fn check_head(bytes: &[u8]) -> Result<(), String> {
    let version = bytes.strip_prefix(&MAGIC).and_then(|rest| rest.first_chunk::<4>());
    match version.map(|version| u32::from_le_bytes(*version)) {
        Some(FORMAT) => Ok(()),
        Some(newer) if newer > FORMAT => {
            Err(format!("it is of format {newer}, and this TimeRose reads format {FORMAT}: start the newer one that wrote it"))
        }
        _ => Err("it is no journal of promises".into()),
    }
}

/// Writes a log of these entries beside the present one, and makes it safe.
fn write_fresh<'a>(dir: &Path, live: impl Iterator<Item = &'a Vec<u8>>) -> io::Result<(File, u64)> {
    let mut bytes = head().to_vec();
    live.for_each(|payload| frames::put(&mut bytes, payload));
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(dir.join(FRESH))?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    Ok((file, bytes.len() as u64))
}

/// Puts the log that was written beside the present one in its place.
fn adopt(dir: &Path) -> io::Result<()> {
    fs::rename(dir.join(FRESH), dir.join(NAME))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use timerose_core::failure::Failure;
    use timerose_core::id::{RAW, cid_of};
    use timerose_core::promise::{Effect, Stage, Work};

    fn key(n: u32) -> cid::Cid {
        cid_of(RAW, &n.to_be_bytes())
    }

    /// An entry; `why` tells two of one key apart.
    fn entry(n: u32, why: &str) -> JournalEntry {
        let outcome = Err(Failure::NodeFailed { what: why.into() });
        let stage = Stage::Ended { at_ms: 1, outcome };
        let (handle, function, entry) = (key(n), key(0), String::new());
        JournalEntry::Work(Work { handle, job: false, function, entry, accepted_ms: 1, deadline_ms: 2, stage })
    }

    fn effect(n: u32) -> JournalEntry {
        JournalEntry::Effect(Effect { task: key(n), at_ms: 5, outcome: None })
    }

    fn opened(dir: &Path) -> (Log, Vec<JournalEntry>) {
        Log::open(dir).unwrap_or_else(|e| panic!("{e}"))
    }

    fn sorted(mut entries: Vec<JournalEntry>) -> Vec<JournalEntry> {
        entries.sort_by_key(JournalEntry::key);
        entries
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    #[test]
    fn the_last_entry_of_each_key_is_what_a_replay_gives() {
        let dir = folder();
        let (mut log, none) = opened(dir.path());
        assert_eq!(none, []);
        let entries = [entry(1, "a"), entry(2, "b"), effect(1), entry(1, "c"), JournalEntry::Forgotten(Key::Work(key(2)))];
        log.append(entries.iter()).expect("written");
        log.make_safe().expect("safe");
        drop(log);
        assert_eq!(opened(dir.path()).1, sorted(vec![entry(1, "c"), effect(1)]));
    }

    #[test]
    fn a_tail_that_is_torn_at_any_byte_loses_the_last_entry_and_can_be_written_on() {
        let dir = folder();
        let (mut log, _) = opened(dir.path());
        log.append([entry(1, "a"), entry(2, "b")].iter()).expect("written");
        let before = log.len as usize;
        log.append([entry(3, "c")].iter()).expect("written");
        let bytes = fs::read(dir.path().join(NAME)).expect("there");
        for cut in before..bytes.len() {
            fs::write(dir.path().join(NAME), &bytes[..cut]).expect("written");
            let (mut log, entries) = opened(dir.path());
            assert_eq!(entries, sorted(vec![entry(1, "a"), entry(2, "b")]), "cut to {cut}");
            log.append([entry(4, "d")].iter()).expect("written");
            drop(log);
            assert_eq!(opened(dir.path()).1, sorted(vec![entry(1, "a"), entry(2, "b"), entry(4, "d")]), "cut to {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_costs_one_entry_at_most_and_what_was_there_is_kept() {
        let dir = folder();
        let (mut log, _) = opened(dir.path());
        let all = [entry(1, "a"), entry(2, "b"), entry(3, "c")];
        log.append(all.iter()).expect("written");
        let bytes = fs::read(dir.path().join(NAME)).expect("there");
        for byte in (HEAD..bytes.len()).step_by(7) {
            let mut flipped = bytes.clone();
            flipped[byte] ^= 0x10;
            fs::write(dir.path().join(NAME), &flipped).expect("written");
            let left = opened(dir.path()).1;
            assert!(left.len() == 2 && left.iter().all(|entry| all.contains(entry)), "byte {byte}");
            // It is mended, not found damaged again and again.
            assert_eq!(frames::scan(&fs::read(dir.path().join(NAME)).expect("there"), HEAD).damaged, 0);
        }
        assert!(dir.path().join(DAMAGED).exists());
    }

    #[test]
    fn a_newer_format_and_other_files_are_refused_and_left_alone() {
        for (bytes, why) in [
            (&b"TRpromis\x02\0\0\0more"[..], "format 2, and this TimeRose reads format 1"),
            (b"something else", "no journal of promises"),
            (b"", "no journal of promises"),
        ] {
            let dir = folder();
            fs::write(dir.path().join(NAME), bytes).expect("written");
            let error = Log::open(dir.path()).expect_err("refused").to_string();
            assert!(error.contains(why) && error.contains(NAME), "{error}");
            assert_eq!(fs::read(dir.path().join(NAME)).expect("there"), bytes);
        }
        // An entry of a version to come.
        let dir = folder();
        let (log, _) = opened(dir.path());
        let mut bytes = fs::read(dir.path().join(NAME)).expect("there");
        let newer: Vec<u8> = record::encode(&effect(1));
        let tag = b"timerose/promise@1";
        let at = newer.windows(tag.len()).position(|window| window == tag).expect("its tag");
        let newer = [&newer[..at], b"timerose/promise@2", &newer[at + tag.len()..]].concat();
        frames::put(&mut bytes, &newer);
        fs::write(dir.path().join(NAME), &bytes).expect("written");
        drop(log);
        let error = Log::open(dir.path()).expect_err("refused").to_string();
        assert!(error.contains("timerose/promise@2"), "{error}");
    }

    #[test]
    fn a_log_of_mostly_dead_entries_is_written_anew_and_stays_small() {
        let dir = folder();
        let (mut log, _) = opened(dir.path());
        let long = "x".repeat(10_000);
        for n in 0..1000 {
            log.append([entry(n % 5, &long)].iter()).expect("written");
            log.compact_if_worth_it().expect("written");
            assert!(log.len <= COMPACT_MIN + 2 * 60_000, "{} bytes", log.len);
        }
        log.append([entry(9, "last")].iter()).expect("a compacted log is written on");
        drop(log);
        let entries: Vec<JournalEntry> = (0..5).map(|n| entry(n, &long)).chain([entry(9, "last")]).collect();
        assert_eq!(opened(dir.path()).1, sorted(entries));
    }

    #[test]
    fn a_compaction_that_ends_between_any_two_of_its_steps_loses_nothing() {
        let all = [entry(1, "a"), effect(2)];
        let begun = || {
            let dir = folder();
            let (mut log, _) = opened(dir.path());
            log.append([entry(1, "old")].iter().chain(&all)).expect("written");
            (dir, log)
        };
        // Before the new file is whole: any part of it.
        let (dir, log) = begun();
        write_fresh(dir.path(), log.live.values()).expect("written");
        let whole = fs::read(dir.path().join(FRESH)).expect("there");
        for cut in 0..=whole.len() {
            fs::write(dir.path().join(FRESH), &whole[..cut]).expect("written");
            assert_eq!(opened(dir.path()).1, sorted(all.to_vec()), "the new file had {cut} bytes");
        }
        // Whole and not renamed: the old one stands, is written on, and the next compaction begins anew.
        let (mut log, _) = opened(dir.path());
        log.append([entry(3, "more")].iter()).expect("written");
        log.compact().expect("written");
        drop(log);
        let more: Vec<JournalEntry> = all.iter().cloned().chain([entry(3, "more")]).collect();
        assert_eq!(opened(dir.path()).1, sorted(more));
        // Renamed, and the process ends.
        let (dir, log) = begun();
        write_fresh(dir.path(), log.live.values()).expect("written");
        fs::rename(dir.path().join(FRESH), dir.path().join(NAME)).expect("renamed");
        drop(log);
        assert_eq!(opened(dir.path()).1, sorted(all.to_vec()));
    }

    #[test]
    fn what_cannot_be_written_is_taken_back_and_said() {
        let dir = folder();
        let (mut log, _) = opened(dir.path());
        log.append([entry(1, "a")].iter()).expect("written");
        let good = log.len;
        let huge = entry(2, &"x".repeat(JournalEntry::MAX_BYTES));
        assert!(log.append([entry(3, "b"), huge].iter()).expect_err("too large").contains("over"));
        // A file that may only be read.
        log.file = File::open(dir.path().join(NAME)).expect("opened");
        assert!(log.append([entry(4, "c")].iter()).is_err());
        assert!(log.append([entry(5, "d")].iter()).is_err() && log.make_safe().is_err(), "nothing is taken after that");
        assert_eq!(log.len, good);
        assert_eq!(opened(dir.path()).1, [entry(1, "a")]);
    }
}
