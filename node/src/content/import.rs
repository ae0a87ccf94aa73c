//! Adding files and folders: into this node's store, or spread over the stores of the mesh.
//!
//! A spread file's blocks are offered to peers from memory, in parts; the core says who keeps which, and a block is let go
//! when all its copies are durable somewhere. So that listing a data set needs no peer, folders stay here as well.

use cid::Cid;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::mpsc as sync;
use std::time::{Duration, Instant};
use timerose_content::blockstore::BatchWriter;
use timerose_content::{Block, Blockstore, Content, DirBuilder, FileImporter, Meta, Root, pin, unixfs};
use timerose_core::failure::Failure;
use timerose_core::id::NodeId;
use timerose_core::io::{Input, Request};
use timerose_core::message::CIDS_MAX;

use crate::ports::{AddHow, Added, Requests, WorkSender};

/// Bytes of blocks that are placed in one step.
const PART_BYTES: usize = 8 << 20;
/// Bytes of blocks that wait for their place; below what the store lets an import stage.
const WAITING_BYTES: usize = 48 << 20;
/// How long an import waits for a single answer: longer than the core takes to give up on every store in turn.
const PLACE_WAIT: Duration = Duration::from_secs(600);

/// Placements that one import has not taken yet. What it has under way is bounded, and is at most a few thousand batches of
/// small blocks; an import that falls behind all the same fails.
const PLACEMENTS: usize = 16 * 1024;

/// How long an import that waits for others sleeps between two tries.
const STAGE_WAIT: Duration = Duration::from_millis(20);

type Placement = (Vec<Cid>, Option<NodeId>);

/// The imports of a node that wait for the core.
pub(super) struct Imports {
    me: NodeId,
    requests: Requests,
    waiting: Mutex<HashMap<Request, sync::SyncSender<Placement>>>,
}

impl Imports {
    pub fn new(me: NodeId, requests: Requests) -> Imports {
        Imports { me, requests, waiting: Mutex::default() }
    }

    /// The core says where a copy of some blocks is.
    pub fn placed(&self, request: Request, cids: Vec<Cid>, at: Option<NodeId>) {
        let mut waiting = self.waiting.lock();
        let taken = waiting.get(&request).is_none_or(|import| import.try_send((cids, at)).is_ok());
        if !taken {
            waiting.remove(&request);
        }
    }

    /// Adds what `source` gives: one file, or the files of a tar archive. Blocks.
    pub fn add(&self, content: &Content, source: Box<dyn Read + Send>, how: AddHow, work: &WorkSender) -> Result<Added, Failure> {
        // What it puts is spared from now on, until a pin holds it.
        let _upload = content.upload();
        let request = self.requests.next();
        let (sender, placements) = sync::sync_channel(PLACEMENTS);
        if how.spread.is_some() {
            self.waiting.lock().insert(request, sender);
        }
        let spread = how.spread.map(|copies| Spread {
            store: content.store(),
            me: self.me,
            request,
            work,
            placements,
            copies: copies.get(),
            file: None,
            part: Vec::new(),
            part_bytes: 0,
            waiting: HashMap::new(),
            waiting_bytes: 0,
            placed: BTreeMap::new(),
            missing: 0,
        });
        let sink = Sink { local: content.store().batch(), spread };
        let import = Import { sink, how, files: 0 };
        let added = if how.tar { import.archive(source) } else { import.file(source) };
        let added = added.and_then(|added| {
            if how.pin {
                super::pins::pin_import(content, added.cid, how.spread.is_some())?;
            }
            Ok(added)
        });
        if how.spread.is_some() {
            self.waiting.lock().remove(&request);
            if added.is_err() {
                // Whoever was asked to keep some of it need not go on.
                let _ = work.blocking_send(Input::Cancel { request });
            }
        }
        added
    }
}

/// One import under way.
struct Import<'a> {
    sink: Sink<'a>,
    how: AddHow,
    files: u64,
}

impl Import<'_> {
    fn file(mut self, mut source: Box<dyn Read + Send>) -> Result<Added, Failure> {
        let root = self.import(&mut source, self.how.meta)?;
        self.end(root)
    }

    fn archive(mut self, source: Box<dyn Read + Send>) -> Result<Added, Failure> {
        let mut tree = DirBuilder::new(self.how.shape);
        let mut archive = tar::Archive::new(source);
        for entry in archive.entries().map_err(bad)? {
            let mut entry = entry.map_err(bad)?;
            let path = text(&entry.path_bytes())?;
            let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
            let meta = self.meta(&mut entry)?;
            match entry.header().entry_type() {
                tar::EntryType::Regular => {
                    let root = self.import(&mut entry, meta)?;
                    tree.insert(&parts, root).map_err(bad)?;
                }
                tar::EntryType::Symlink => {
                    let target = text(&entry.link_name_bytes().ok_or_else(|| bad("a link that leads nowhere"))?)?;
                    let root = unixfs::symlink(&target, self.how.shape, meta, &mut |block| self.sink.take_folder(block));
                    tree.insert(&parts, root.map_err(of_tree)?).map_err(bad)?;
                }
                tar::EntryType::Directory => tree.insert_dir(&parts, meta).map_err(bad)?,
                other => return Err(bad(format!("{path} is no file, folder or symbolic link but {other:?}"))),
            }
        }
        self.sink.begin_folders()?;
        let root = tree.build(&mut |block| self.sink.take_folder(block)).map_err(of_tree)?;
        self.end(root)
    }

    /// What is to be recorded of an entry, as far as that is asked for.
    fn meta(&self, entry: &mut tar::Entry<'_, impl Read>) -> Result<Meta, Failure> {
        let mut meta = Meta::default();
        if self.how.keep_modes {
            meta.mode = Some(entry.header().mode().map_err(bad)? & Meta::MODE);
        }
        if self.how.keep_mtimes {
            let seconds = entry.header().mtime().map_err(bad)?;
            meta.mtime = Some((i64::try_from(seconds).map_err(bad)?, 0));
            // A more exact time, or one before 1970, comes in a PAX record.
            for record in entry.pax_extensions().map_err(bad)?.into_iter().flatten() {
                let record = record.map_err(bad)?;
                if record.key_bytes() == b"mtime" {
                    meta.mtime = Some(pax_time(record.value_bytes()).ok_or_else(|| bad("a time that is none"))?);
                }
            }
        }
        Ok(meta)
    }

    fn import(&mut self, source: &mut dyn Read, meta: Meta) -> Result<Root, Failure> {
        let mut importer = FileImporter::new(self.how.shape, meta);
        self.sink.begin_file();
        let broken = |e: std::io::Error| Failure::NodeFailed { what: format!("the upload broke off: {e}") };
        while importer.read(source, &mut |block| self.sink.take(block))?.map_err(broken)? > 0 {}
        self.files += 1;
        importer.finish(&mut |block| self.sink.take(block))
    }

    fn end(self, root: Root) -> Result<Added, Failure> {
        let (placed, missing) = self.sink.finish()?;
        Ok(Added { cid: root.cid, size: root.size, files: self.files, placed, missing })
    }
}

fn bad(why: impl std::fmt::Display) -> Failure {
    Failure::BadArgument { index: 0, wanted: "a tar archive".into(), got: why.to_string() }
}

fn of_tree(error: unixfs::Error<Failure>) -> Failure {
    match error {
        unixfs::Error::Source(failure) => failure,
        unixfs::Error::UnixFs(why) => bad(why),
    }
}

fn text(bytes: &[u8]) -> Result<String, Failure> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| bad(format!("{} is not UTF-8", String::from_utf8_lossy(bytes))))
}

/// Reads `-12.5`: seconds since 1970 with a fraction, rounded down to nanoseconds.
fn pax_time(bytes: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits = fraction.bytes().all(|b| b.is_ascii_digit()).then(|| format!("{fraction:0<9}"))?;
    let nanos: u32 = digits[..9].parse().ok()?;
    // The fraction goes with the sign, and is counted from the second below.
    if !whole.starts_with('-') || nanos == 0 {
        Some((seconds, nanos))
    } else {
        Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos))
    }
}

/// Where an import's blocks go: into this node's store, or first to the core.
struct Sink<'a> {
    local: BatchWriter,
    spread: Option<Spread<'a>>,
}

impl Sink<'_> {
    fn begin_file(&mut self) {
        if let Some(spread) = &mut self.spread {
            spread.file = None;
        }
    }

    fn take(&mut self, block: Block) -> Result<(), Failure> {
        match &mut self.spread {
            Some(spread) => spread.take(block),
            None => self.local.push(block).map_err(|e| super::of_store(&e)),
        }
    }

    /// From here on come the blocks of folders.
    fn begin_folders(&mut self) -> Result<(), Failure> {
        let Some(spread) = &mut self.spread else { return Ok(()) };
        spread.ask()?;
        spread.file = None;
        // Where one copy is enough, it is the one here. The stores that win several may include this node.
        spread.copies = if spread.copies == 1 { 0 } else { spread.copies };
        Ok(())
    }

    fn take_folder(&mut self, block: Block) -> Result<(), Failure> {
        if let Some(spread) = self.spread.as_mut().filter(|spread| spread.copies > 0) {
            spread.take(block.clone())?;
        }
        self.local.push(block).map_err(|e| super::of_store(&e))
    }

    /// Makes everything durable, here or elsewhere; gives the blocks by the node that keeps them, and how many copies are
    /// nowhere.
    fn finish(self) -> Result<(BTreeMap<NodeId, u64>, u64), Failure> {
        self.local.finish().map_err(|e| super::of_store(&e))?;
        let Some(mut spread) = self.spread else { return Ok((BTreeMap::new(), 0)) };
        spread.place()?;
        spread.settle(0)?;
        Ok((std::mem::take(&mut spread.placed), spread.missing))
    }
}

/// What an import that is spread keeps track of.
struct Spread<'a> {
    store: &'a Blockstore,
    me: NodeId,
    request: Request,
    work: &'a WorkSender,
    placements: sync::Receiver<Placement>,
    /// How many stores are to keep each block.
    copies: u8,
    /// The first block of the file that is being read: it decides where the file goes.
    file: Option<Cid>,
    /// Blocks that are to be placed next, by file, and their bytes.
    part: Vec<(Cid, Vec<Cid>)>,
    part_bytes: usize,
    /// Blocks whose copies have not all their place yet, each as often as it was staged, with the copies that are open; and
    /// their bytes.
    waiting: HashMap<Cid, Vec<(Block, u8)>>,
    waiting_bytes: usize,
    placed: BTreeMap<NodeId, u64>,
    /// Copies that have no place.
    missing: u64,
}

impl Spread<'_> {
    /// Offers a block to peers. What other imports of this node have staged counts as well: then this one waits.
    fn stage(&mut self, block: &Block) -> Result<(), Failure> {
        let begin = Instant::now();
        while self.store.stage(vec![block.clone()]).is_err() {
            self.ask()?;
            if self.waiting_bytes > 0 {
                self.settle(self.waiting_bytes - 1)?;
            } else if begin.elapsed() > PLACE_WAIT {
                return Err(Failure::Overloaded { retry_after_ms: 1000 });
            } else {
                std::thread::sleep(STAGE_WAIT);
            }
        }
        Ok(())
    }

    fn take(&mut self, block: Block) -> Result<(), Failure> {
        let cid = *block.cid();
        let key = *self.file.get_or_insert(cid);
        match self.part.last_mut() {
            Some((file, cids)) if *file == key => cids.push(cid),
            _ => self.part.push((key, vec![cid])),
        }
        self.stage(&block)?;
        self.part_bytes += cost(&block);
        self.waiting_bytes += cost(&block);
        self.waiting.entry(cid).or_default().push((block, self.copies));
        let blocks: usize = self.part.iter().map(|(_, cids)| cids.len()).sum();
        if self.part_bytes >= PART_BYTES || blocks >= CIDS_MAX { self.place() } else { Ok(()) }
    }

    /// Asks the core for places for the present part, and waits while too much waits.
    fn place(&mut self) -> Result<(), Failure> {
        self.ask()?;
        self.settle(WAITING_BYTES - PART_BYTES)
    }

    /// Asks the core for places for the present part.
    fn ask(&mut self) -> Result<(), Failure> {
        self.part_bytes = 0;
        let files = std::mem::take(&mut self.part);
        if !files.is_empty() {
            let gone = |_| Failure::NodeFailed { what: "the node is ending".into() };
            self.work.blocking_send(Input::Place { request: self.request, files, copies: self.copies }).map_err(gone)?;
        }
        Ok(())
    }

    /// Takes placements until at most `most` bytes wait.
    fn settle(&mut self, most: usize) -> Result<(), Failure> {
        while self.waiting_bytes > most {
            let placed = self.placements.recv_timeout(PLACE_WAIT);
            let (cids, at) = placed.map_err(|_| Failure::NodeFailed { what: "no store answered".into() })?;
            match at {
                Some(at) => *self.placed.entry(at).or_default() += cids.len() as u64,
                None => self.missing += cids.len() as u64,
            }
            if at == Some(self.me) {
                let blocks = cids.iter().filter_map(|cid| self.waiting.get(cid)?.first()).map(|(block, _)| block.clone());
                self.store.put_many(&blocks.collect::<Vec<_>>()).map_err(|e| super::of_store(&e))?;
                pin::keep(self.store, &cids).map_err(|e| super::of_store(&e))?;
            }
            for cid in &cids {
                self.has_a_place(cid);
            }
        }
        Ok(())
    }

    /// A copy of a block has its place: after the last one the block is let go.
    fn has_a_place(&mut self, cid: &Cid) {
        let Some(staged) = self.waiting.get_mut(cid) else { return };
        let Some((_, open)) = staged.last_mut() else { return };
        *open -= 1;
        if *open == 0 {
            self.waiting_bytes -= staged.pop().map_or(0, |(block, _)| cost(&block));
            self.store.unstage(&[*cid]);
        }
        if staged.is_empty() {
            self.waiting.remove(cid);
        }
    }
}

/// What a staged block takes of memory, as the store counts it: small ones take more than their bytes.
fn cost(block: &Block) -> usize {
    block.size() + 256
}

impl Drop for Spread<'_> {
    /// An import that fails must not leave its blocks in memory.
    fn drop(&mut self) {
        for (cid, blocks) in &self.waiting {
            blocks.iter().for_each(|_| self.store.unstage(&[*cid]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::pax_time;

    #[test]
    fn times_of_an_archive_are_read_to_the_nanosecond_before_1970_too() {
        assert_eq!(pax_time(b"12"), Some((12, 0)));
        assert_eq!(pax_time(b"1700000000.5"), Some((1_700_000_000, 500_000_000)));
        assert_eq!(pax_time(b"0.0000000019"), Some((0, 1)));
        assert_eq!(pax_time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(pax_time(b"-0.25"), Some((-1, 750_000_000)));
        for bad in [&b""[..], b"x", b"1.x", b"1.-5", b"9223372036854775808"] {
            assert_eq!(pax_time(bad), None);
        }
    }
}
