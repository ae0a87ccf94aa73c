//! The one thread that writes. Whatever waits in its queue is made durable together: one round of file syncs, one commit of the index.

use super::bad::Bad;
use super::bound::Bound;
use super::error::StoreError;
use super::flat::Flat;
use super::index::{Change, Index, MAX_SMALL_BYTES, Pairs};
use super::staging::Staging;
use super::sweep::{BIRTHS, Births, MAX_GRACE, PRUNE, Sweep, time_key};
use crate::block::{Block, Multihash};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

/// Requests that may wait. When so many wait, callers block until the disk has caught up.
const MAX_QUEUE: usize = 64;
/// Block bytes that are made durable together at most: bounds how long the first of a group waits.
const MAX_GROUP_BYTES: usize = 32 << 20;
/// How long blocks that nobody waits for wait for company, and how many there may be: the fewer commits, the more the disk does for
/// those who wait.
const GATHER: Duration = Duration::from_millis(250);
const MAX_SOON: usize = 4096;
/// How long whoever must not wait tries to get at the blocks that wait for company.
const BRIEFLY: Duration = Duration::from_micros(50);
/// Blocks that stop being read from memory at once.
const UNSTAGED: usize = 256;
/// Requests that are made durable together at most.
const MAX_GROUP_REQUESTS: usize = 256;

/// One thing to make durable.
pub(super) enum Work {
    Put(Vec<Block>),
    /// Blocks that have been given out already, from [`Disk::fresh`]: nobody waits.
    PutSoon(Vec<Block>),
    Delete(Vec<Multihash>),
    /// As a delete, but blocks that are in use stay.
    Sweep(Vec<Multihash>),
    Meta {
        table: &'static str,
        put: Pairs,
        delete: Vec<Vec<u8>>,
    },
}

impl Work {
    fn bytes(&self) -> usize {
        match self {
            Work::Put(blocks) | Work::PutSoon(blocks) => blocks.iter().map(Block::size).sum(),
            Work::Delete(_) | Work::Sweep(_) => 0,
            Work::Meta { put, .. } => put.iter().map(|(key, value)| key.len() + value.len()).sum(),
        }
    }
}

pub(super) struct Request {
    work: Work,
    done: SyncSender<Result<(), StoreError>>,
}

/// The disk side that readers and the writer share.
pub(super) struct Disk {
    pub index: Index,
    pub flat: Flat,
    /// Blocks that are on their way to disk and are read from here until they are there.
    pub fresh: Staging,
    pub sweep: Sweep,
    pub births: Births,
    /// Blocks that are listed, and whose bytes are wrong.
    pub bad: Bad,
    /// How much blocks may take.
    pub bound: Arc<Bound>,
    /// The last write failed: what is put from now on waits for the disk, so that whoever puts it hears of it.
    pub failing: AtomicBool,
}

impl Disk {
    /// Why a put does not fit.
    fn over_max(&self) -> StoreError {
        let index = self.index.path();
        StoreError::OverMax { path: index.parent().unwrap_or(index).to_owned(), max: self.bound.max().unwrap_or_default() }
    }
}

/// A request that is on its way to disk.
#[must_use = "nothing is known to be durable before `wait`"]
pub(super) struct Pending(Receiver<Result<(), StoreError>>);

impl Pending {
    /// Blocks until the request is durable, or has failed.
    pub fn wait(self) -> Result<(), StoreError> {
        self.0.recv().unwrap_or(Err(StoreError::Closed))
    }
}

/// Blocks that nobody waits for, and since when the first of them waits for company. Whatever is put into the queue puts them there
/// first, so that requests are carried out in the order in which they came. The lock is held meanwhile.
#[derive(Default)]
struct Soon(Mutex<(Vec<Block>, Option<Instant>)>);

/// The writer's queue; the thread ends when this is dropped.
pub(super) struct Writer {
    soon: Arc<Soon>,
    queue: Option<SyncSender<Request>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    pub fn start(disk: Arc<Disk>) -> Result<Writer, StoreError> {
        let (queue, requests) = sync_channel(MAX_QUEUE);
        let path = disk.index.path().to_owned();
        let soon = Arc::new(Soon::default());
        let theirs = soon.clone();
        let thread = std::thread::Builder::new()
            .name("blockstore".into())
            .spawn(move || run(&disk, &theirs, &requests))
            .map_err(|e| StoreError::io("start the writer of", &path, &e))?;
        Ok(Writer { soon, queue: Some(queue), thread: Some(thread) })
    }

    /// Queues a request; blocks while the queue is full.
    pub fn begin(&self, work: Work) -> Result<Pending, StoreError> {
        let queue = self.queue.as_ref().ok_or(StoreError::Closed)?;
        let mut soon = self.soon.0.lock();
        if let Some(before) = taken(&mut soon) {
            queue.send(before).map_err(|_| StoreError::Closed)?;
        }
        let (request, pending) = request(work);
        queue.send(request).map_err(|_| StoreError::Closed)?;
        Ok(pending)
    }

    /// Has blocks that were given out already made durable before long. Does not wait: `false` where others wait for the queue.
    pub fn soon(&self, blocks: &[Block]) -> bool {
        let (Some(queue), Some(mut soon)) = (self.queue.as_ref(), self.soon.0.try_lock_for(BRIEFLY)) else { return false };
        soon.0.extend_from_slice(blocks);
        if soon.1.is_none() {
            soon.1 = Some(Instant::now());
            // The writer may sleep, and is to look at its clock. A full queue does not let it.
            let _ = queue.try_send(request(Work::PutSoon(Vec::new())).0);
        } else if soon.0.len() >= MAX_SOON
            && let Some(full) = taken(&mut soon)
            && let Err(TrySendError::Full(Request { work: Work::PutSoon(blocks), .. })) = queue.try_send(full)
        {
            *soon = (blocks, Some(Instant::now()));
        }
        true
    }
}

fn request(work: Work) -> (Request, Pending) {
    let (done, pending) = sync_channel(1);
    (Request { work, done }, Pending(pending))
}

/// The blocks that wait for company, as a request.
fn taken(soon: &mut (Vec<Block>, Option<Instant>)) -> Option<Request> {
    let (blocks, _) = std::mem::take(soon);
    (!blocks.is_empty()).then(|| request(Work::PutSoon(blocks)).0)
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A writer that panicked has nothing left to wait for; its callers have been told `Closed`.
            let _ = thread.join();
        }
    }
}

/// The next request, or what has waited long enough for company; nothing when no more comes. Never waits for the lock: whoever holds it may
/// wait for room in the queue.
fn next(soon: &Soon, requests: &Receiver<Request>) -> Option<Request> {
    loop {
        let received = requests.try_recv().or_else(|_| {
            let since = soon.0.try_lock_for(BRIEFLY).ok_or(RecvTimeoutError::Timeout)?.1;
            match since {
                None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(since) => requests.recv_timeout((since + GATHER).saturating_duration_since(Instant::now())),
            }
        });
        match received {
            Ok(Request { work: Work::PutSoon(blocks), .. }) if blocks.is_empty() => {}
            Ok(request) => return Some(request),
            Err(ended) => {
                let Some(mut soon) = soon.0.try_lock_for(BRIEFLY) else { continue };
                // Whatever came into the queue since was there first.
                let due = ended == RecvTimeoutError::Disconnected || soon.1.is_some_and(|since| since.elapsed() >= GATHER);
                let next = requests.try_recv().ok().or_else(|| if due { taken(&mut soon) } else { None });
                if next.is_some() || ended == RecvTimeoutError::Disconnected {
                    return next;
                }
            }
        }
    }
}

fn run(disk: &Disk, soon: &Soon, requests: &Receiver<Request>) {
    while let Some(first) = next(soon, requests) {
        let mut bytes = first.work.bytes();
        let mut group = vec![first];
        while bytes < MAX_GROUP_BYTES && group.len() < MAX_GROUP_REQUESTS {
            let Ok(next) = requests.try_recv() else { break };
            bytes += next.work.bytes();
            group.push(next);
        }
        serve(disk, &group);
    }
}

/// Puts of a group share their syncs. A delete is a group's border: what came before it must not be undone by it, nor it by what follows.
fn serve(disk: &Disk, group: &[Request]) {
    let mut rest = group;
    while !rest.is_empty() {
        let deletes = |request: &Request| matches!(request.work, Work::Delete(_) | Work::Sweep(_));
        let same = rest.iter().take_while(|request| deletes(request) == deletes(&rest[0])).count();
        let (now, later) = rest.split_at(same);
        let (now, over) = fitting(disk, now);
        for request in over {
            let _ = request.done.send(Err(disk.over_max()));
        }
        let outcome = apply(disk, &now);
        disk.failing.store(outcome.is_err(), Ordering::Relaxed);
        for request in now {
            if let Work::PutSoon(blocks) = &request.work {
                if let Err(why) = &outcome {
                    tracing::error!(%why, blocks = blocks.len(), "blocks that were to be stored soon are lost");
                }
                // A few at a time: others want in.
                for part in blocks.chunks(UNSTAGED) {
                    disk.fresh.unstage(&part.iter().map(|block| *block.cid()).collect::<Vec<_>>());
                }
            }
            // A caller that no longer waits needs no answer.
            let _ = request.done.send(outcome.clone());
        }
        rest = later;
    }
}

/// Which requests may be carried out, and which are puts for which the bound leaves no room. What was put soon has been given out, and is kept in
/// any case: it was looked at when it was taken.
fn fitting<'a>(disk: &Disk, group: &'a [Request]) -> (Vec<&'a Request>, Vec<&'a Request>) {
    let puts = |request: &'a Request| match &request.work {
        Work::Put(blocks) => blocks.as_slice(),
        _ => &[],
    };
    let Some(left) = disk.bound.left() else { return (group.iter().collect(), Vec::new()) };
    let mut left = left.saturating_sub(disk.fresh.bytes());
    let sum: u64 = group.iter().flat_map(puts).map(|block| block.size() as u64).sum();
    if sum <= left {
        return (group.iter().collect(), Vec::new());
    }
    group.iter().partition(|request| {
        let blocks: Vec<&Block> = puts(request).iter().collect();
        // An index that cannot be read fails what follows.
        let absent = disk.index.absent(&blocks, &disk.bad).unwrap_or_default();
        let bytes = absent.iter().map(|block| block.size() as u64).sum();
        let fits = bytes <= left;
        left -= if fits { bytes } else { 0 };
        fits
    })
}

fn apply(disk: &Disk, group: &[&Request]) -> Result<(), StoreError> {
    let mut change = Change::default();
    let mut blocks: Vec<&Block> = Vec::new();
    let mut swept = Vec::new();
    for request in group {
        match &request.work {
            Work::Put(put) | Work::PutSoon(put) => blocks.extend(put),
            Work::Delete(hashes) => change.remove.extend(hashes),
            Work::Sweep(hashes) => swept.extend(disk.sweep.doom(hashes)),
            Work::Meta { table, put, delete } => {
                change.meta.extend(put.iter().map(|(key, value)| (*table, key.as_slice(), Some(value.as_slice()))));
                change.meta.extend(delete.iter().map(|key| (*table, key.as_slice(), None)));
            }
        }
    }
    disk.sweep.claim_all(&blocks);
    if disk.bound.is_high() {
        // Young blocks may go soon: how young they are must be exact.
        disk.births.forget();
    }
    let birth = disk.births.record(&blocks);
    let old = if birth.as_ref().is_some_and(|(_, _, prune)| *prune) { old_births(disk)? } else { Vec::new() };
    if let Some((key, digests, _)) = &birth {
        change.meta.push((BIRTHS, key, Some(digests)));
        change.meta.extend(old.iter().map(|key| (BIRTHS, key.as_slice(), None)));
    }
    let bytes = swept_bytes(disk, &swept)?;
    change.remove.extend(&swept);
    let applied = make(disk, change, &blocks);
    if applied.is_err() {
        disk.births.forget();
    }
    if !swept.is_empty() {
        let (blocks, bytes) = if applied.is_ok() { (swept.len() as u64, bytes) } else { (0, 0) };
        disk.sweep.gone(blocks, bytes);
    }
    applied
}

fn make<'a>(disk: &Disk, mut change: Change<'a>, blocks: &[&'a Block]) -> Result<(), StoreError> {
    change.add = disk.index.absent(blocks, &disk.bad)?;
    let large: Vec<&Block> = change.add.iter().copied().filter(|b| b.size() > MAX_SMALL_BYTES).collect();
    disk.flat.write(&large)?;
    if change.add.is_empty() && change.remove.is_empty() && change.meta.is_empty() {
        return Ok(());
    }
    let (files, stat) = disk.index.commit(&change)?;
    disk.bound.now(stat.bytes);
    disk.bad.forget(change.add.iter().map(|block| block.cid().hash()).chain(&change.remove));
    disk.flat.remove(&files)
}

/// Keys of some births that no collection will ask for.
fn old_births(disk: &Disk) -> Result<Vec<Vec<u8>>, StoreError> {
    let Some(oldest) = SystemTime::now().checked_sub(MAX_GRACE).map(time_key) else { return Ok(Vec::new()) };
    let keys = disk.index.meta_scan(BIRTHS, b"", PRUNE)?.into_iter().map(|(key, _)| key);
    Ok(keys.take_while(|key| key[..] < oldest[..]).collect())
}

/// Bytes of blocks that are about to go.
fn swept_bytes(disk: &Disk, hashes: &[Multihash]) -> Result<u64, StoreError> {
    let mut bytes = 0;
    for hash in hashes {
        bytes += disk.index.place(hash)?.map_or(0, |place| place.size());
    }
    Ok(bytes)
}
