//! The receipts on disk: files that are only appended to, and what is in them by name, in memory.
//!
//! Receipts come in thousands a second and under names that are hashes: a tree of them would have a page of its own written for each. So
//! they are written one behind another, in segments. A segment that is full gets a list of its names, so that it need not be read at the
//! start; the oldest one is removed where there are too many. A list that is lost or damaged is made anew of its segment.

use cid::Cid;
use parking_lot::RwLock;
use std::collections::{HashMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use timerose_content::StoreError;
use timerose_core::io::Sealed;
use timerose_core::record::{Record, decode, encode};

use super::names;
use crate::frames;
use crate::ports::{Known, half};

/// The folder's name in a data folder. In it `<number>.log` is a segment, `<number>.names` its list, and `lock` is held by who writes.
const DIR: &str = "receipts";
/// What a segment begins with: a mark, and the format's version, 32 bits, little-endian. Frames follow, each a record
/// `timerose/sealed`.
const HEAD: [u8; 12] = *b"TRreceip\x01\0\0\0";
/// What a list begins with. One frame follows: a name and a place for each entry, by name.
const NAMES_HEAD: [u8; 12] = *b"TRrcname\x01\0\0\0";
/// Bytes of an entry.
const ENTRY: usize = 12;
/// Bytes of a segment, about, and how many there are at most: 256 MiB of receipts, each commonly of over 1 KiB.
const SEGMENT_BYTES: u64 = 16 << 20;
const SEGMENTS_MAX: usize = 16;

/// What a receipt is found under: a quarter of the CID's hash, which is enough to find it; what is found says itself whether it is
/// meant.
pub(super) type Name = u64;

/// The name of a CID.
pub(super) fn name(cid: &Cid) -> Name {
    half(cid) as Name
}

/// Where in a segment a frame begins. The highest bit says that the name is a memo key.
type Place = u32;
const MEMO: Place = 1 << 31;

/// A segment that is full: its names in order. The last of equal ones is the latest.
struct Segment {
    path: PathBuf,
    file: File,
    names: Vec<Name>,
    places: Vec<Place>,
}

impl Segment {
    fn place(&self, name: Name) -> Option<Place> {
        let at = self.names.partition_point(|other| *other <= name).checked_sub(1)?;
        (self.names[at] == name).then(|| self.places[at])
    }
}

/// The segment that is written.
struct Latest {
    number: u32,
    path: PathBuf,
    file: File,
    len: u64,
    places: HashMap<Name, Place>,
}

struct Segments {
    full: VecDeque<Segment>,
    latest: Latest,
}

impl Segments {
    /// Where the latest receipt of a name is.
    fn find(&self, name: Name) -> Option<(&File, Place)> {
        let latest = self.latest.places.get(&name).map(|place| (&self.latest.file, *place));
        let full = || self.full.iter().rev().find_map(|segment| Some((&segment.file, segment.place(name)?)));
        latest.or_else(full)
    }
}

/// The segments of a data folder, open. One thread writes.
pub(super) struct Table {
    dir: PathBuf,
    segment_bytes: u64,
    segments_max: usize,
    segments: RwLock<Segments>,
    /// Held as long as this is open.
    _lock: File,
}

impl Table {
    pub fn open(dir: &Path) -> Result<Table, StoreError> {
        Table::open_with(dir, SEGMENT_BYTES, SEGMENTS_MAX)
    }

    fn open_with(dir: &Path, segment_bytes: u64, segments_max: usize) -> Result<Table, StoreError> {
        let dir = dir.join(DIR);
        let io = |doing, path: &Path| {
            let path = path.to_owned();
            move |e: io::Error| StoreError::io(doing, &path, &e)
        };
        fs::create_dir_all(&dir).map_err(io("create", &dir))?;
        let path = dir.join("lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(io("open", &path))?;
        lock.try_lock().map_err(|_| StoreError::Locked { path: dir.clone() })?;
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&dir).map_err(io("list", &dir))? {
            let path = entry.map_err(io("list", &dir))?.path();
            let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u32>().ok());
            numbers.extend(number.filter(|_| path.extension().is_some_and(|ending| ending == "log")));
        }
        numbers.sort_unstable();
        let last = numbers.pop().unwrap_or(1);
        let full: Result<VecDeque<_>, _> = numbers.iter().map(|number| read_full(&log(&dir, *number))).collect();
        let segments = Segments { full: full?, latest: read_latest(&dir, last)? };
        Ok(Table { dir, segment_bytes, segments_max, segments: RwLock::new(segments), _lock: lock })
    }

    /// Tells all memo keys.
    pub fn memo_keys(&self, known: &Known) {
        let segments = self.segments.read();
        let full = segments.full.iter().flat_map(|segment| segment.names.iter().zip(&segment.places));
        for (name, _) in full.chain(&segments.latest.places).filter(|(_, place)| **place & MEMO != 0) {
            known.add(u128::from(*name));
        }
    }

    /// Writes receipts, and forgets the oldest where there are too many. What cannot be written whole is taken back.
    pub fn write(&self, batch: &[Arc<Sealed>], known: &Known, durable: bool) -> Result<(), StoreError> {
        let (mut bytes, mut places) = (Vec::new(), Vec::with_capacity(batch.len() * 4));
        let segments = self.segments.read();
        let Latest { path, file, len, .. } = &segments.latest;
        for sealed in batch {
            let place = (len + bytes.len() as u64) as Place;
            frames::put(&mut bytes, &encode(&**sealed));
            places.extend(entries(sealed, place));
        }
        file.write_all_at(&bytes, *len).map_err(|e| {
            // Whatever is behind the end is written over next, or cut off at the next start.
            let _ = file.set_len(*len);
            StoreError::io("write", path, &e)
        })?;
        if durable {
            file.sync_data().map_err(|e| StoreError::io("sync", path, &e))?;
        }
        drop(segments);
        let mut segments = self.segments.write();
        segments.latest.len += bytes.len() as u64;
        // A key may have been forgotten with the oldest segment while this was on its way.
        places.iter().filter(|(_, place)| place & MEMO != 0).for_each(|(name, _)| known.add(u128::from(*name)));
        segments.latest.places.extend(places);
        let is_full = segments.latest.len >= self.segment_bytes;
        drop(segments);
        if is_full { self.next_segment(known) } else { Ok(()) }
    }

    /// Begins another segment, and removes the oldest one where there are too many. The one that is full is made safe first: nobody syncs it later,
    /// and its list would be believed though its receipts were lost.
    fn next_segment(&self, known: &Known) -> Result<(), StoreError> {
        let number = {
            let Latest { number, path, file, .. } = &self.segments.read().latest;
            file.sync_data().map_err(|e| StoreError::io("sync", path, &e))?;
            *number
        };
        let next = read_latest(&self.dir, number + 1)?;
        let mut segments = self.segments.write();
        let Latest { path, file, places, .. } = std::mem::replace(&mut segments.latest, next);
        let mut places: Vec<(Name, Place)> = places.into_iter().collect();
        places.sort_unstable();
        let segment = segment(path, file, places);
        if let Err(why) = write_names(&segment) {
            tracing::warn!(%why, path = %segment.path.display(), "the list of a segment's receipts could not be written; it is made anew at the next start");
        }
        segments.full.push_back(segment);
        if segments.full.len() < self.segments_max {
            return Ok(());
        }
        let Some(oldest) = segments.full.pop_front() else { return Ok(()) };
        for (name, _) in oldest.names.iter().zip(&oldest.places).filter(|(_, place)| **place & MEMO != 0) {
            if segments.find(*name).is_none() {
                known.remove(u128::from(*name));
            }
        }
        let _ = fs::remove_file(oldest.path.with_extension("names"));
        fs::remove_file(&oldest.path).map_err(|e| StoreError::io("remove", &oldest.path, &e))
    }

    /// The proof under each name, where there is one.
    pub fn read(&self, names: &[Cid]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let segments = self.segments.read();
        let read = |cid: &Cid| -> Result<Option<Vec<u8>>, StoreError> {
            let Some((file, place)) = segments.find(name(cid)) else { return Ok(None) };
            let frame = frames::read_at(file, u64::from(place & !MEMO), Sealed::MAX_BYTES)
                .map_err(|e| StoreError::io("read", &self.dir, &e))?;
            let sealed = frame.and_then(|frame| decode::<Sealed>(&frame).ok());
            if sealed.is_none() {
                tracing::error!(%cid, "a receipt is damaged");
            }
            Ok(sealed.map(|sealed| sealed.bytes))
        };
        names.iter().map(read).collect()
    }
}

/// A receipt's entries in the list of its segment.
fn entries(sealed: &Sealed, place: Place) -> impl Iterator<Item = (Name, Place)> + use<> {
    names(&sealed.names).map(move |(name, is_memo)| (name, if is_memo { place | MEMO } else { place }))
}

fn segment(path: PathBuf, file: File, places: Vec<(Name, Place)>) -> Segment {
    let (names, places) = places.into_iter().unzip();
    Segment { path, file, names, places }
}

fn log(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08}.log"))
}

fn write_names(segment: &Segment) -> io::Result<()> {
    let entries = segment.names.iter().zip(&segment.places);
    let entries: Vec<u8> = entries.flat_map(|(name, place)| [&name.to_le_bytes()[..], &place.to_le_bytes()].concat()).collect();
    let mut bytes = NAMES_HEAD.to_vec();
    frames::put(&mut bytes, &entries);
    fs::write(segment.path.with_extension("names"), bytes)
}

/// A segment's list, if there is one and it is whole.
fn read_names(path: &Path) -> Option<Vec<(Name, Place)>> {
    let bytes = fs::read(path.with_extension("names")).ok()?;
    let found = frames::scan(bytes.strip_prefix(&NAMES_HEAD)?, 0);
    let ([entries], 0) = (found.frames.as_slice(), found.damaged + found.torn) else { return None };
    let entry = |entry: &[u8; ENTRY]| {
        let [a, b, c, d, e, f, g, h, place @ ..] = *entry;
        (Name::from_le_bytes([a, b, c, d, e, f, g, h]), Place::from_le_bytes(place))
    };
    let entries: Vec<_> = entries.as_chunks::<ENTRY>().0.iter().map(entry).collect();
    entries.is_sorted().then_some(entries)
}

/// Opens a segment that is full.
fn read_full(path: &Path) -> Result<Segment, StoreError> {
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(|e| StoreError::io("open", path, &e))?;
    if let Some(places) = read_names(path) {
        return Ok(segment(path.to_owned(), file, places));
    }
    let (mut places, _) = scan(path, &file)?;
    places.sort_unstable();
    let segment = segment(path.to_owned(), file, places);
    if let Err(why) = write_names(&segment) {
        tracing::warn!(%why, path = %path.display(), "the list of a segment's receipts could not be written");
    }
    Ok(segment)
}

/// Opens or makes the segment that is written, and cuts off what was not written whole.
fn read_latest(dir: &Path, number: u32) -> Result<Latest, StoreError> {
    let path = log(dir, number);
    let failed = |doing| {
        let path = path.clone();
        move |e: io::Error| StoreError::io(doing, &path, &e)
    };
    let made = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let file = made.map_err(failed("create"))?;
    if file.metadata().map_err(failed("read"))?.len() < HEAD.len() as u64 {
        file.set_len(0).and_then(|()| file.write_all_at(&HEAD, 0)).map_err(failed("write"))?;
        return Ok(Latest { number, path, file, len: HEAD.len() as u64, places: HashMap::new() });
    }
    let (places, len) = scan(&path, &file)?;
    file.set_len(len).map_err(failed("cut"))?;
    Ok(Latest { number, path, file, len, places: places.into_iter().collect() })
}

/// All that a segment holds, in order, and where its last whole frame ends.
fn scan(path: &Path, file: &File) -> Result<(Vec<(Name, Place)>, u64), StoreError> {
    let failed = |e: io::Error| StoreError::io("read", path, &e);
    let mut bytes = vec![0; file.metadata().map_err(failed)?.len() as usize];
    match file.read_exact_at(&mut bytes, 0) {
        Err(e) if e.kind() != ErrorKind::UnexpectedEof => return Err(failed(e)),
        _ => {}
    }
    if !bytes.starts_with(&HEAD) {
        return Err(StoreError::Damaged { path: path.to_owned(), why: "it is no file of receipts, or of another format".into() });
    }
    let found = frames::scan(&bytes, HEAD.len());
    if found.damaged + found.torn > 0 {
        let lost = found.damaged + found.torn;
        tracing::warn!(bytes = lost, path = %path.display(), "a part of the receipts is not whole, and is left out");
    }
    let mut places = Vec::new();
    for (at, frame) in found.places.iter().zip(&found.frames) {
        // What this build cannot read is as if it were not there.
        if let Ok(sealed) = decode::<Sealed>(frame) {
            places.extend(entries(&sealed, *at as Place));
        }
    }
    Ok((places, found.end as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::Command;
    use timerose_core::id::{NodeId, RAW, cid_of};
    use timerose_core::io::Exit;
    use timerose_core::proof::prove;
    use timerose_core::task::{Receipt, Task, Usage};

    fn sealed(number: u64) -> Arc<Sealed> {
        let function = cid_of(RAW, &number.to_be_bytes());
        let task = Task { function, entry: String::new(), args: vec![], seq: 0 };
        let (iss, ran, key, result) = (NodeId([1; 32]), task.id(&NodeId([1; 32])), task.memo_key(), cid_of(RAW, b"result"));
        let receipt = Receipt { iss, ran, task, out: Ok(result), size: 6, meta: Usage::default(), at: 1 };
        let statement = Exit::new(&receipt, result, key).statement;
        let proof = prove(iss, &[(statement.names.receipt, &statement.bytes)], |_| [0; 64]).remove(0);
        Arc::new(Sealed { names: statement.names, tell: false, bytes: proof })
    }

    #[test]
    fn beyond_its_bound_the_oldest_is_forgotten_with_its_names() {
        let dir = tempfile::tempdir().expect("a folder");
        let open = || Table::open_with(dir.path(), 1, 4).expect("opened");
        let (table, known) = (open(), Known::default());
        let all: Vec<Arc<Sealed>> = (0..5).map(sealed).collect();
        all.iter().for_each(|sealed| known.add(half(&sealed.names.key.expect("pure"))));
        // Each is a segment of its own. The first one comes again, and is the youngest then.
        for number in [0, 1, 2, 0, 3, 4] {
            table.write(&[all[number].clone()], &known, false).expect("written");
        }
        let kept = |table: &Table, name: &dyn Fn(&Sealed) -> Cid| {
            let names: Vec<Cid> = all.iter().map(|sealed| name(sealed)).collect();
            table.read(&names).expect("read").iter().map(Option::is_some).collect::<Vec<_>>()
        };
        let right = [true, false, false, true, true];
        let check = |table: &Table, known: &Known| {
            assert_eq!(kept(table, &|sealed| sealed.names.key.expect("pure")), right);
            assert_eq!(kept(table, &|sealed| sealed.names.task), right);
            assert_eq!(kept(table, &|sealed| sealed.names.receipt), right);
            assert_eq!(all.iter().map(|s| known.may_hold(&s.names.key.expect("pure"))).collect::<Vec<_>>(), right);
            let of_result = table.read(&[cid_of(RAW, b"result")]).expect("read");
            assert_eq!(of_result, [Some(all[4].bytes.clone())], "the latest");
        };
        check(&table, &known);
        let files = || fs::read_dir(dir.path().join(DIR)).expect("listed").count();
        assert_eq!(files(), 3 * 2 + 2, "three segments with their lists, the latest, the lock");
        drop(table);
        for spoil in [None, Some(&b"spoilt"[..])] {
            if let Some(noise) = spoil {
                fs::write(log(&dir.path().join(DIR), 5).with_extension("names"), noise).expect("spoilt");
            }
            let (table, known) = (open(), Known::default());
            table.memo_keys(&known);
            check(&table, &known);
        }
    }

    #[test]
    fn a_key_that_comes_again_just_before_its_segment_goes_is_known() {
        let dir = tempfile::tempdir().expect("a folder");
        let (table, known) = (Table::open_with(dir.path(), 1, 3).expect("opened"), Known::default());
        let again = sealed(0);
        let key = again.names.key.expect("pure");
        table.write(std::slice::from_ref(&again), &known, false).expect("written");
        table.write(&[sealed(1)], &known, false).expect("written");
        // It waits to be written a second time.
        known.add(half(&key));
        table.write(&[sealed(2)], &known, false).expect("written");
        assert!(!known.may_hold(&key), "its segment is gone");
        table.write(&[again], &known, false).expect("written");
        assert!(known.may_hold(&key));
    }

    #[test]
    fn what_is_torn_or_damaged_costs_itself_and_the_rest_is_found() {
        let dir = tempfile::tempdir().expect("a folder");
        let known = Known::default();
        let all: Vec<Arc<Sealed>> = (0..4).map(sealed).collect();
        let table = Table::open(dir.path()).expect("made");
        table.write(&all, &known, true).expect("written");
        assert!(matches!(Table::open(dir.path()), Err(StoreError::Locked { .. })));
        drop(table);
        let path = log(&dir.path().join(DIR), 1);
        let mut bytes = fs::read(&path).expect("there");
        let third = bytes.len() - bytes.len() / 4 * 2 + 100;
        bytes[third] ^= 1;
        bytes.truncate(bytes.len() - 1);
        fs::write(&path, bytes).expect("spoilt");
        let table = Table::open(dir.path()).expect("opened");
        let kept = |table: &Table| {
            let names: Vec<Cid> = all.iter().map(|sealed| sealed.names.task).collect();
            table.read(&names).expect("read").iter().map(Option::is_some).collect::<Vec<_>>()
        };
        assert_eq!(kept(&table), [true, true, false, false]);
        table.write(&all[3..], &known, true).expect("written");
        assert_eq!(kept(&table), [true, true, false, true]);
    }

    /// A small disk of its own, where the test may mount one.
    struct SmallDisk(tempfile::TempDir);

    impl SmallDisk {
        fn mount() -> Option<SmallDisk> {
            let dir = tempfile::tempdir().expect("a folder");
            let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(dir.path()).output();
            if mounted.is_ok_and(|output| output.status.success()) {
                return Some(SmallDisk(dir));
            }
            let _ = writeln!(std::io::stderr(), "SKIPPED: only root may mount a small disk");
            None
        }
    }

    impl Drop for SmallDisk {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
        }
    }

    #[test]
    fn a_full_disk_costs_what_comes_while_it_is_full_and_no_restart() {
        let Some(disk) = SmallDisk::mount() else { return };
        let (table, known) = (Table::open(disk.0.path()).expect("made"), Known::default());
        let write = |numbers: std::ops::Range<u64>| table.write(&numbers.map(sealed).collect::<Vec<_>>(), &known, true);
        let kept = |number: u64| table.read(&[sealed(number).names.task]).expect("read")[0].is_some();
        write(0..10).expect("written");
        let ballast = disk.0.path().join("ballast");
        let mut file = fs::File::create(&ballast).expect("made");
        while file.write(&[7; 4096]).is_ok_and(|written| written > 0) {}
        drop(file);
        // The file has room of its own for a while.
        let refused = (1..).find_map(|round| write(round * 1000..round * 1000 + 500).err().map(|why| (round, why)));
        let (round, why) = refused.expect("it ends");
        assert!(matches!(why, StoreError::Full { .. }), "{why}");
        assert!((0..10).all(kept), "what was written is read while the disk is full");
        assert!(!kept(round * 1000));
        fs::remove_file(ballast).expect("removed");
        write(10..20).expect("there is room again");
        assert!((0..20).all(kept));
        drop(table);
        let table = Table::open(disk.0.path()).expect("opened");
        assert!(table.read(&[sealed(15).names.task]).expect("read")[0].is_some());
    }
}
