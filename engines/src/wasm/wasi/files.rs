//! Descriptors and paths: the standard streams and read-only content that is read as it is asked for.
//!
//! There are no symbolic links, and a path cannot leave the directory that it starts in. `/dev/urandom` and `/dev/random` are there,
//! because programs look for their randomness in them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cid::Cid;
use timerose_core::failure::Failure;

use super::codes::{self, Errno, Fault};
use crate::module::rejected;
use crate::wasm::meter::Meter;
use crate::{Host, HostEntry, read_exact};

/// The most open descriptors.
const DESCRIPTORS_MAX: usize = 1024;
/// The most directories whose entries are remembered.
const LISTINGS_MAX: usize = 256;
/// Reads shorter than this are served from a read-ahead of this size, in bytes: a block is not looked up for each line.
const AHEAD: usize = 64 << 10;
/// Where programs look for randomness, unless something is mounted there.
const DEV: &str = "/dev";
const RANDOM: [&str; 2] = ["random", "urandom"];
/// Bytes of a directory entry before its name.
const DIRENT: usize = 24;

/// A file's content.
#[derive(Clone, Debug)]
pub(in crate::wasm) enum Source {
    /// By its address.
    Content {
        /// The file.
        cid: Cid,
        /// Its length in bytes.
        size: u64,
    },
    /// Carried along.
    Inline(Vec<u8>),
    /// Others one after another, each with a line end behind it.
    Joined(Vec<Source>),
}

impl Source {
    /// The length in bytes.
    pub(in crate::wasm) fn size(&self) -> u64 {
        match self {
            Source::Content { size, .. } => *size,
            Source::Inline(bytes) => bytes.len() as u64,
            Source::Joined(parts) => parts.iter().map(|part| part.size() + 1).sum(),
        }
    }

    /// Reads from a place on, as much as there is room for, which must be there.
    fn read(&self, host: &dyn Host, at: u64, to: &mut [u8]) -> Result<(), Failure> {
        match self {
            Source::Content { cid, .. } => read_exact(host, cid, at, to),
            Source::Inline(bytes) => {
                to.copy_from_slice(&bytes[at as usize..at as usize + to.len()]);
                Ok(())
            }
            Source::Joined(parts) => read_joined(parts, host, at, to),
        }
    }
}

fn read_joined(parts: &[Source], host: &dyn Host, at: u64, to: &mut [u8]) -> Result<(), Failure> {
    let (mut begin, mut done) = (0, 0);
    for part in parts {
        let (end, place) = (begin + part.size(), at + done as u64);
        if place < end && done < to.len() {
            let more = (end - place).min((to.len() - done) as u64) as usize;
            part.read(host, place - begin, &mut to[done..done + more])?;
            done += more;
        }
        if at + done as u64 == end && done < to.len() {
            to[done] = b'\n';
            done += 1;
        }
        begin = end + 1;
    }
    Ok(())
}

/// Where writes go.
#[derive(Clone, Copy)]
pub(super) enum Stream {
    Out,
    Err,
}

/// A directory's entries, sorted by name.
#[derive(Clone)]
pub(super) struct Dir {
    inode: u64,
    entries: Arc<Vec<HostEntry>>,
}

/// What a path leads to.
pub(super) enum Place {
    Dir(Dir),
    File {
        cid: Cid,
        size: u64,
    },
    /// Randomness without end.
    Random,
}

impl Place {
    pub(super) fn filestat(&self) -> [u8; 64] {
        match self {
            Place::Dir(dir) => filestat(codes::FILETYPE_DIRECTORY, dir.inode, 0),
            Place::File { cid, size } => filestat(codes::FILETYPE_REGULAR_FILE, inode(cid), *size),
            Place::Random => filestat(codes::FILETYPE_UNKNOWN, inode(&random()), 0),
        }
    }
}

struct OpenFile {
    source: Source,
    at: u64,
    ahead: Vec<u8>,
    ahead_at: u64,
}

enum Descriptor {
    File(OpenFile),
    /// A directory; with the guest path where it is a mount.
    Dir(Dir, Option<String>),
    Stream(Stream),
    Random,
}

/// All that a program has open.
pub(super) struct Files {
    host: Arc<dyn Host>,
    table: Vec<Option<Descriptor>>,
    listings: HashMap<Cid, Dir>,
}

impl Files {
    pub(super) fn new(host: Arc<dyn Host>) -> Self {
        Files { host, table: Vec::new(), listings: HashMap::new() }
    }

    /// Opens the standard streams as 0, 1 and 2, and the mounts from 3 on. A mounted file appears in the directory above it.
    pub(super) fn open(&mut self, meter: &mut Meter, stdin: Source, mounts: &BTreeMap<String, Cid>) -> Result<(), Failure> {
        let mut dirs: BTreeMap<&str, (u64, Vec<HostEntry>)> = BTreeMap::new();
        let mut dev = None;
        for (path, cid) in mounts {
            let path = path.trim_end_matches('/');
            let dir = self.list(meter, cid)?;
            let (at, entries) = match &dir {
                Some(dir) => (path, dir.entries.to_vec()),
                None => {
                    let (above, name) = path
                        .rsplit_once('/')
                        .filter(|(_, name)| is_name(name))
                        .ok_or_else(|| rejected(format!("the mount {path:?} is a file and needs a name")))?;
                    (above, vec![HostEntry { name: name.to_string(), cid: *cid, size: self.host.size(cid)?, is_dir: false }])
                }
            };
            let at = if at.is_empty() { "/" } else { at };
            dirs.entry(at).or_insert_with(|| (inode(cid), Vec::new())).1.extend(entries);
        }
        self.table = vec![Some(open_file(stdin)), Some(Descriptor::Stream(Stream::Out)), Some(Descriptor::Stream(Stream::Err))];
        if !dirs.keys().any(|path| *path == DEV) {
            // Behind all that the manifest mounts, whose numbers stay as they are.
            let entries = RANDOM.map(|name| HostEntry { name: name.into(), cid: random(), size: 0, is_dir: false });
            dev = Some(Descriptor::Dir(Dir { inode: inode(&random()), entries: Arc::new(entries.into()) }, Some(DEV.into())));
        }
        for (path, (inode, entries)) in dirs {
            self.table.push(Some(Descriptor::Dir(Dir { inode, entries: sorted(entries) }, Some(path.to_string()))));
        }
        self.table.extend(dev.map(Some));
        Ok(())
    }

    fn get(&self, fd: u32) -> Result<&Descriptor, Fault> {
        self.table.get(fd as usize).and_then(Option::as_ref).ok_or(Fault::Errno(Errno::BadF))
    }

    pub(super) fn exists(&self, fd: u32) -> Result<(), Fault> {
        self.get(fd).map(|_| ())
    }

    /// The stream that can be written to as `fd`.
    pub(super) fn stream(&self, fd: u32) -> Result<Stream, Fault> {
        match self.get(fd)? {
            Descriptor::Stream(stream) => Ok(*stream),
            Descriptor::File(_) | Descriptor::Dir(..) | Descriptor::Random => Err(Errno::RoFs.into()),
        }
    }

    /// Whether reading gives randomness.
    pub(super) fn is_random(&self, fd: u32) -> bool {
        matches!(self.get(fd), Ok(Descriptor::Random))
    }

    /// The guest path of a mount.
    pub(super) fn mount(&self, fd: u32) -> Result<&str, Fault> {
        match self.get(fd)? {
            Descriptor::Dir(_, Some(path)) => Ok(path),
            _ => Err(Errno::BadF.into()),
        }
    }

    fn file(&mut self, fd: u32) -> Result<(&mut OpenFile, &dyn Host), Fault> {
        match self.table.get_mut(fd as usize).and_then(Option::as_mut) {
            Some(Descriptor::File(file)) => Ok((file, &*self.host)),
            Some(Descriptor::Dir(..)) => Err(Errno::IsDir.into()),
            Some(Descriptor::Random) => Err(Errno::SPipe.into()),
            Some(Descriptor::Stream(_)) | None => Err(Errno::BadF.into()),
        }
    }

    /// Reads on, and gives how many bytes were read: less than asked for only at the end.
    pub(super) fn read(&mut self, meter: &mut Meter, fd: u32, to: &mut [u8]) -> Result<u32, Fault> {
        let (file, host) = self.file(fd)?;
        let read = file.read(meter, host, file.at, to)?;
        file.at += u64::from(read);
        Ok(read)
    }

    /// Reads from `offset`, and leaves the position where it is.
    pub(super) fn read_from(&mut self, meter: &mut Meter, fd: u32, offset: u64, to: &mut [u8]) -> Result<u32, Fault> {
        let (file, host) = self.file(fd)?;
        Ok(file.read(meter, host, offset, to)?)
    }

    /// Moves the position and gives where it is.
    pub(super) fn seek(&mut self, fd: u32, by: i64, whence: u32) -> Result<u64, Fault> {
        if matches!(self.get(fd)?, Descriptor::Stream(_)) {
            return Err(Errno::SPipe.into());
        }
        let (file, _) = self.file(fd)?;
        let from = match whence {
            codes::WHENCE_SET => 0,
            codes::WHENCE_CUR => file.at,
            codes::WHENCE_END => file.source.size(),
            _ => return Err(Errno::Inval.into()),
        };
        file.at = from.checked_add_signed(by).ok_or(Errno::Inval)?;
        Ok(file.at)
    }

    pub(super) fn fdstat(&self, fd: u32) -> Result<[u8; 24], Fault> {
        let (kind, rights, inheriting) = match self.get(fd)? {
            Descriptor::File(_) => (codes::FILETYPE_REGULAR_FILE, FILE_RIGHTS, 0),
            Descriptor::Dir(..) => (codes::FILETYPE_DIRECTORY, DIR_RIGHTS, DIR_RIGHTS | FILE_RIGHTS),
            // Not a character device: programs would take it for a terminal and write line by line.
            Descriptor::Stream(_) => (codes::FILETYPE_UNKNOWN, STREAM_RIGHTS, 0),
            Descriptor::Random => (codes::FILETYPE_UNKNOWN, FILE_RIGHTS, 0),
        };
        let mut stat = [0; 24];
        stat[0] = kind;
        stat[8..16].copy_from_slice(&rights.to_le_bytes());
        stat[16..24].copy_from_slice(&inheriting.to_le_bytes());
        Ok(stat)
    }

    pub(super) fn filestat(&self, fd: u32) -> Result<[u8; 64], Fault> {
        Ok(match self.get(fd)? {
            Descriptor::File(OpenFile { source: Source::Content { cid, size }, .. }) => {
                filestat(codes::FILETYPE_REGULAR_FILE, inode(cid), *size)
            }
            Descriptor::File(file) => filestat(codes::FILETYPE_REGULAR_FILE, u64::from(fd) + 1, file.source.size()),
            Descriptor::Dir(dir, _) => filestat(codes::FILETYPE_DIRECTORY, dir.inode, 0),
            Descriptor::Stream(_) => filestat(codes::FILETYPE_UNKNOWN, u64::from(fd) + 1, 0),
            Descriptor::Random => filestat(codes::FILETYPE_UNKNOWN, inode(&random()), 0),
        })
    }

    /// Writes directory entries from number `cookie` on, the last one cut off where there is no more room, and gives how many
    /// bytes were written.
    pub(super) fn read_dir(&self, fd: u32, cookie: u64, to: &mut [u8]) -> Result<u32, Fault> {
        let Descriptor::Dir(dir, _) = self.get(fd)? else { return Err(Errno::NotDir.into()) };
        let own = [".", ".."].map(|name| (name, dir.inode, codes::FILETYPE_DIRECTORY));
        let entries = dir.entries.iter().map(|entry| {
            let kind = if entry.is_dir { codes::FILETYPE_DIRECTORY } else { codes::FILETYPE_REGULAR_FILE };
            (entry.name.as_str(), inode(&entry.cid), kind)
        });
        let first = usize::try_from(cookie).unwrap_or(usize::MAX);
        let mut written = 0;
        for (next, (name, inode, kind)) in (1_u64..).zip(own.into_iter().chain(entries)).skip(first) {
            let mut head = [0; DIRENT];
            head[..8].copy_from_slice(&next.to_le_bytes());
            head[8..16].copy_from_slice(&inode.to_le_bytes());
            head[16..20].copy_from_slice(&(name.len() as u32).to_le_bytes());
            head[20] = kind;
            for piece in [&head[..], name.as_bytes()] {
                let room = &mut to[written..];
                let fits = room.len().min(piece.len());
                room[..fits].copy_from_slice(&piece[..fits]);
                written += fits;
            }
            if written == to.len() {
                break;
            }
        }
        Ok(written as u32)
    }

    pub(super) fn close(&mut self, fd: u32) -> Result<(), Fault> {
        self.take(fd).map(drop)
    }

    /// Moves a descriptor to the number of another, which is closed.
    pub(super) fn renumber(&mut self, from: u32, to: u32) -> Result<(), Fault> {
        self.exists(to)?;
        let moved = self.take(from)?;
        self.table[to as usize] = Some(moved);
        Ok(())
    }

    fn take(&mut self, fd: u32) -> Result<Descriptor, Fault> {
        self.table.get_mut(fd as usize).and_then(Option::take).ok_or(Fault::Errno(Errno::BadF))
    }

    /// Opens what `path` leads to from the directory `fd`, and gives its descriptor.
    pub(super) fn open_path(&mut self, meter: &mut Meter, fd: u32, path: &str, how: u32, rights: u64) -> Result<u32, Fault> {
        let place = match self.walk(meter, fd, path) {
            Ok(_) if how & codes::OFLAGS_CREAT != 0 && how & codes::OFLAGS_EXCL != 0 => return Err(Errno::Exist.into()),
            Err(Fault::Errno(Errno::NoEnt)) if how & codes::OFLAGS_CREAT != 0 => return Err(Errno::RoFs.into()),
            walked => walked?,
        };
        let descriptor = match place {
            Place::Dir(dir) if rights & codes::RIGHT_FD_WRITE == 0 => Descriptor::Dir(dir, None),
            Place::Dir(_) => return Err(Errno::IsDir.into()),
            Place::File { .. } | Place::Random if how & codes::OFLAGS_DIRECTORY != 0 => return Err(Errno::NotDir.into()),
            Place::File { .. } | Place::Random if how & codes::OFLAGS_TRUNC != 0 || rights & codes::RIGHT_FD_WRITE != 0 => {
                return Err(Errno::RoFs.into());
            }
            Place::File { cid, size } => open_file(Source::Content { cid, size }),
            Place::Random => Descriptor::Random,
        };
        let free = self.table.iter().position(Option::is_none).unwrap_or(self.table.len());
        if free >= DESCRIPTORS_MAX {
            return Err(Errno::MFile.into());
        }
        if free == self.table.len() {
            self.table.push(None);
        }
        self.table[free] = Some(descriptor);
        Ok(free as u32)
    }

    /// Follows `path` from the directory `fd`.
    pub(super) fn walk(&mut self, meter: &mut Meter, fd: u32, path: &str) -> Result<Place, Fault> {
        let Descriptor::Dir(start, _) = self.get(fd)? else { return Err(Errno::NotDir.into()) };
        if path.is_empty() {
            return Err(Errno::NoEnt.into());
        }
        if path.starts_with('/') {
            return Err(Errno::NotCapable.into());
        }
        let mut above = Vec::new();
        let mut here = start.clone();
        let mut parts = path.split('/');
        while let Some(part) = parts.next() {
            match part {
                "" | "." => {}
                ".." => here = above.pop().ok_or(Errno::NotCapable)?,
                name => {
                    let found = here.entries.binary_search_by(|entry| entry.name.as_str().cmp(name)).map_err(|_| Errno::NoEnt)?;
                    let HostEntry { cid, size, is_dir, .. } = here.entries[found];
                    if !is_dir {
                        // Nothing lies below a file, not even itself.
                        let place = if cid == random() { Place::Random } else { Place::File { cid, size } };
                        return if parts.next().is_none() { Ok(place) } else { Err(Errno::NotDir.into()) };
                    }
                    let below = self.list(meter, &cid)?.ok_or(Errno::NotDir)?;
                    above.push(std::mem::replace(&mut here, below));
                }
            }
        }
        Ok(Place::Dir(here))
    }

    /// A directory by its address; `None` for a file.
    fn list(&mut self, meter: &mut Meter, cid: &Cid) -> Result<Option<Dir>, Failure> {
        if let Some(dir) = self.listings.get(cid) {
            return Ok(Some(dir.clone()));
        }
        let Some(entries) = meter.waiting(|| self.host.list(cid))? else { return Ok(None) };
        let dir = Dir { inode: inode(cid), entries: sorted(entries) };
        if self.listings.len() >= LISTINGS_MAX {
            self.listings.clear();
        }
        self.listings.insert(*cid, dir.clone());
        Ok(Some(dir))
    }
}

impl OpenFile {
    fn read(&mut self, meter: &mut Meter, host: &dyn Host, at: u64, to: &mut [u8]) -> Result<u32, Failure> {
        let left = self.source.size().saturating_sub(at);
        // Guest memory is at most 4 GiB, and a piece of it shorter than that: lengths fit 32 bits.
        let length = left.min(to.len() as u64) as usize;
        let to = &mut to[..length];
        match &self.source {
            _ if to.is_empty() => {}
            Source::Inline(_) => self.source.read(host, at, to)?,
            source if length >= AHEAD => meter.waiting(|| source.read(host, at, to))?,
            source => {
                let is_ahead = at >= self.ahead_at && at + length as u64 <= self.ahead_at + self.ahead.len() as u64;
                if !is_ahead {
                    self.ahead.resize(left.min(AHEAD as u64) as usize, 0);
                    self.ahead_at = at;
                    meter.waiting(|| source.read(host, at, &mut self.ahead))?;
                }
                let start = (at - self.ahead_at) as usize;
                to.copy_from_slice(&self.ahead[start..start + length]);
            }
        }
        Ok(length as u32)
    }
}

fn open_file(source: Source) -> Descriptor {
    Descriptor::File(OpenFile { source, at: 0, ahead: Vec::new(), ahead_at: 0 })
}

/// Stands for randomness where a file has its address: the address of nothing. A folder that names it gets randomness too.
fn random() -> Cid {
    Cid::default()
}

/// Sorts entries for look-up. Names that no path could lead to, and all but the first of a name, are left out.
fn sorted(mut entries: Vec<HostEntry>) -> Arc<Vec<HostEntry>> {
    entries.retain(|entry| is_name(&entry.name));
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries.dedup_by(|later, first| later.name == first.name);
    Arc::new(entries)
}

fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

/// A number for a file: equal content has equal numbers, and none is 0, which means "unknown" to programs.
fn inode(cid: &Cid) -> u64 {
    let digest = cid.hash().digest();
    digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte)) | 1
}

/// A file's attributes. Content has no times: they are all 0.
fn filestat(kind: u8, inode: u64, size: u64) -> [u8; 64] {
    let mut stat = [0; 64];
    stat[8..16].copy_from_slice(&inode.to_le_bytes());
    stat[16] = kind;
    stat[24] = 1;
    stat[32..40].copy_from_slice(&size.to_le_bytes());
    stat
}

const FILE_RIGHTS: u64 = codes::RIGHT_FD_READ
    | codes::RIGHT_FD_SEEK
    | codes::RIGHT_FD_TELL
    | codes::RIGHT_FD_ADVISE
    | codes::RIGHT_FD_FDSTAT_SET_FLAGS
    | codes::RIGHT_FD_FILESTAT_GET
    | codes::RIGHT_POLL_FD_READWRITE;
const DIR_RIGHTS: u64 = codes::RIGHT_PATH_OPEN
    | codes::RIGHT_FD_READDIR
    | codes::RIGHT_PATH_READLINK
    | codes::RIGHT_PATH_FILESTAT_GET
    | codes::RIGHT_FD_FILESTAT_GET
    | codes::RIGHT_FD_FDSTAT_SET_FLAGS;
const STREAM_RIGHTS: u64 =
    codes::RIGHT_FD_WRITE | codes::RIGHT_FD_FDSTAT_SET_FLAGS | codes::RIGHT_FD_FILESTAT_GET | codes::RIGHT_POLL_FD_READWRITE;
