//! The narrow handles that the loop gives to drivers: what one part of a node may ask of another, and nothing more.
//!
//! The bytes of files do not pass through the core, so the API asks the content driver for them here; an engine's guest
//! reads through [`Shelf`].

use bytes::Bytes;
use cid::Cid;
use libp2p::{Multiaddr, PeerId};
use parking_lot::RwLock;
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use timerose_content::blockstore::{Report, Room};
use timerose_content::{Hold, Ledger, Meta, Pin, Shape, Stats, gc};
use timerose_core::failure::Failure;
use timerose_core::function::{Entry, Function};
use timerose_core::io::{Input, Request};
use timerose_core::message::Message;
use timerose_core::span::Reply;
use timerose_core::view::View;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::announce::Announcements;
use crate::delegates::Delegates;
use crate::net::Net;
use crate::telemetry::Telemetry;

/// Where an answer goes.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, Failure>>;

/// Requests of a port that wait to be taken up; whoever comes later waits with them.
pub(crate) const PORT_QUEUE: usize = 64;

/// Chunks of a file that wait for its reader.
pub(crate) const CHUNKS: usize = 4;

/// What the API may ask of the content driver.
pub(crate) enum ContentRequest {
    /// Keep a file, or the files of a tar archive.
    Add { source: Box<dyn Read + Send>, how: AddHow, answer: Answer<Added> },
    /// What a path names.
    Resolve { root: Cid, path: String, answer: Answer<Named> },
    /// The entries of a folder.
    List { root: Cid, path: String, answer: Answer<Vec<Named>> },
    /// What a path names, and the page that stands for it if it is a folder; `None` where there is no such entry.
    Open { root: Cid, path: String, answer: Answer<Option<Opened>> },
    /// The bytes of a file, in order; where a part is given, those from its start to before its end.
    Read { file: Cid, part: Option<(u64, u64)>, chunks: Chunks },
    /// A CAR of what a path names, with the blocks on the way to it.
    Car { root: Cid, path: String, how: CarHow, chunks: Chunks },
    /// Keep the blocks of a CAR, and pin its roots where that is asked for.
    ImportCar { source: Box<dyn Read + Send>, pin: bool, answer: Answer<Imported> },
    /// Whether what a path names, or its block `alone`, can be given without asking anybody.
    Cached { root: Cid, path: String, alone: bool, answer: Answer<bool> },
    /// The bytes of one block, from peers where it is not here.
    Block { cid: Cid, answer: Answer<Bytes> },
    /// Keep a record.
    Put { block: Bytes, answer: Answer<Cid> },
    /// How much is kept.
    Stat { answer: Answer<Kept> },
    /// Read and hash every block, and mend what can be mended where that is asked for.
    Verify { repair: bool, news: mpsc::Sender<RepoNews> },
    /// Fetch what a pin is for, and pin it.
    Pin { pin: Pin, answer: Answer<()> },
    /// Remove a pin, and give it.
    Unpin { cid: Cid, answer: Answer<Option<Pin>> },
    /// Pins after that of a CID.
    Pins { after: Option<Cid>, answer: Answer<Vec<Pin>> },
    /// Remove what nothing needs and nobody used or put for so long.
    Gc { grace: Duration, news: mpsc::Sender<GcNews> },
    /// Who has a block: whether it is here, who is connected and says so, and whom the DHT names.
    Providers { cid: Cid, answer: Answer<Holders> },
    /// What went over the network.
    Exchanged { answer: Answer<Exchanged> },
}

/// How much a node keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    /// Blocks.
    pub blocks: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// How many bytes they may take, if that is bounded.
    pub max: Option<u64>,
    /// What became of the room since the node began.
    pub room: Room,
}

/// Who has a block.
#[derive(Clone, Debug)]
pub(crate) struct Holders {
    /// Whether this node has.
    pub here: bool,
    /// Others.
    pub providers: Vec<Holder>,
    /// Connected peers that were asked, and those of them that did not answer.
    pub asked: usize,
    /// See `asked`.
    pub silent: usize,
}

/// Somebody who has a block, by its own word or that of the DHT.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    /// Who.
    pub peer: PeerId,
    /// Where, as far as the DHT told.
    pub addrs: Vec<Multiaddr>,
    /// Whether it is connected.
    pub connected: bool,
    /// Whether the DHT names it.
    pub by_dht: bool,
    /// What it said itself, if it was asked and answered.
    pub says: Option<bool>,
}

/// What is heard of a check of the store.
pub(crate) enum RepoNews {
    /// So many blocks of about so many are checked.
    Progress { checked: u64, blocks: u64 },
    /// How it ended.
    Ended(Result<Report, Failure>),
}

/// What is heard of a collection of garbage.
pub(crate) enum GcNews {
    /// How far it is.
    Progress(gc::Progress),
    /// How it ended.
    Ended(Result<gc::Report, Failure>),
}

/// What a driver needs to be kept, beside pins: the garbage collection spares it.
pub(crate) trait Needs: Send + Sync {
    /// Visits all of it.
    fn each(&self, spare: &mut dyn FnMut(gc::Spare) -> Result<(), gc::GcError>) -> Result<(), gc::GcError>;
}

/// What went over the network since the node began, and may go.
#[derive(Clone, Debug)]
pub(crate) struct Exchanged {
    /// In all.
    pub stats: Stats,
    /// By peer.
    pub ledgers: Vec<(PeerId, Ledger)>,
    /// The limits, in bytes a second to peers and from them.
    pub up: Option<u64>,
    /// See `up`.
    pub down: Option<u64>,
}

/// Where bytes go, in order. Whoever stops reading ends it.
pub(crate) type Chunks = mpsc::Sender<Result<Bytes, Failure>>;

/// What a gateway is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    /// What the path names.
    pub named: Named,
    /// `index.html` in it, if it is a folder that has one.
    pub index: Option<Named>,
}

/// How a CAR is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CarHow {
    /// How much of what a path names goes into it.
    pub scope: Scope,
    /// Whether a block is there each time that it is come by, and not once alone.
    pub repeats: bool,
    /// Whether it is of version 2, with an index, or of version 1.
    pub version_2: bool,
}

/// How much of what a path names goes into a CAR, in the terms of the trustless gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Its block.
    Block,
    /// A file or a part of it, or a folder without what is in it.
    Entity(Option<Span>),
    /// All below it.
    All,
}

/// Bytes of a file, from the first to the last, both included. A negative number counts from the file's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub first: i64,
    /// `None`: that of the file.
    pub last: Option<i64>,
}

impl Span {
    /// What there is of it in a file of so many bytes, as a start and the place after the end; `None`: nothing.
    pub fn within(self, size: u64) -> Option<(u64, u64)> {
        let size = i128::from(size);
        let place = |number: i64| i128::from(number) + if number < 0 { size } else { 0 };
        let first = place(self.first).max(0);
        let end = self.last.map_or(size, |last| place(last) + 1).min(size);
        (first < end).then(|| Some((u64::try_from(first).ok()?, u64::try_from(end).ok()?))).flatten()
    }
}

/// What a CAR brought.
#[derive(Clone, Debug)]
pub(crate) struct Imported {
    /// Its roots, each with whether it is pinned now, and with a block that is missing below it if one is.
    pub roots: Vec<(Cid, bool, Option<Cid>)>,
    /// Blocks, with repetitions.
    pub blocks: u64,
    /// Bytes in them.
    pub bytes: u64,
}

/// How something is added.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AddHow {
    /// Whether the source is a tar archive of a folder.
    pub tar: bool,
    /// So many copies go over the stores of the mesh, instead of one here.
    pub spread: Option<Copies>,
    /// How it becomes blocks.
    pub shape: Shape,
    /// What is recorded of a source that is a file.
    pub meta: Meta,
    /// Whether modes are taken from the archive.
    pub keep_modes: bool,
    /// Whether times of change are taken from the archive.
    pub keep_mtimes: bool,
    /// Whether the root is pinned.
    pub pin: bool,
}

impl AddHow {
    /// A file as it is usually added, without a pin: something that is pinned will link to it.
    pub fn unpinned() -> AddHow {
        let (shape, meta) = (Shape::default(), Meta::default());
        AddHow { tar: false, spread: None, shape, meta, keep_modes: false, keep_mtimes: false, pin: false }
    }
}

/// How many stores keep each block of a spread import.
pub(crate) type Copies = std::num::NonZeroU8;

/// What was added.
#[derive(Clone, Debug)]
pub(crate) struct Added {
    /// The root.
    pub cid: Cid,
    /// Bytes of content.
    pub size: u64,
    /// Files.
    pub files: u64,
    /// Blocks by the node that keeps them, each copy counted.
    pub placed: std::collections::BTreeMap<timerose_core::id::NodeId, u64>,
    /// Copies of blocks for which no store was left.
    pub missing: u64,
}

/// A file or a folder.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Named {
    /// Its name; empty for a root.
    pub name: String,
    /// Its CID.
    #[serde(serialize_with = "as_text")]
    pub cid: Cid,
    /// Bytes of content; for a folder, of everything below.
    pub size: u64,
    /// What it is.
    pub kind: NamedKind,
    /// Its POSIX permissions, where they are recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// When it was changed last, where that is recorded: seconds since 1970 and nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtime: Option<(i64, u32)>,
    /// Where a symbolic link leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NamedKind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, which is shown and not followed.
    Symlink,
}

/// Writes a CID as its text.
pub(crate) fn as_text<T: std::fmt::Display, S: serde::Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// What the API may ask of the engine driver.
pub(crate) enum EngineRequest {
    /// Which engine bare code is for, and what it offers.
    Describe { code: Bytes, answer: Answer<(String, Vec<Entry>)> },
    /// Whether code is fit for its manifest.
    Check { function: Arc<Function>, code: Bytes, answer: Answer<()> },
}

/// Half of a CID's hash: enough to tell apart what is kept.
pub(crate) fn half(cid: &Cid) -> u128 {
    cid.hash().digest().iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// The memo keys under which anything is remembered here, as many as there are receipts: who misses a key need not ask. A
/// quarter of a key's hash stands for it, so that one may seem known that is not. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Known(Arc<RwLock<HashSet<u64>>>);

/// Memo keys for which there is room from the start, about as many as small receipts are kept: memory that is not used yet costs
/// nothing, and a table that grows is copied.
const KEYS_ROOM: usize = 500_000;

impl Default for Known {
    fn default() -> Known {
        Known(Arc::new(RwLock::new(HashSet::with_capacity(KEYS_ROOM))))
    }
}

impl Known {
    /// Whether anything may be remembered under a key.
    pub fn may_hold(&self, key: &Cid) -> bool {
        self.0.read().contains(&(half(key) as u64))
    }

    /// Something is remembered from now on under the key of this half.
    pub fn add(&self, half: u128) {
        self.0.write().insert(half as u64);
    }

    /// Nothing is remembered any more under the key of this half.
    pub fn remove(&self, half: u128) {
        self.0.write().remove(&(half as u64));
    }
}

/// Manifests that are kept read.
const FUNCTIONS_MAX: usize = 256;

/// The functions whose manifests were read and checked. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Functions(Arc<RwLock<HashMap<Cid, Arc<Function>>>>);

impl Functions {
    /// A manifest that is here.
    pub fn get(&self, cid: &Cid) -> Option<Arc<Function>> {
        self.0.read().get(cid).cloned()
    }

    /// Keeps one; when there are too many, all others go.
    pub fn put(&self, cid: Cid, function: Arc<Function>) {
        let mut functions = self.0.write();
        if functions.len() >= FUNCTIONS_MAX {
            functions.clear();
        }
        functions.insert(cid, function);
    }
}

/// Numbers the requests of this node's users.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests(Arc<AtomicU64>);

impl Requests {
    /// A number that no other request has.
    pub fn next(&self) -> Request {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// New work that waits for the loop, at most: a peer's messages can be large.
const WORK_QUEUE: usize = 256;
/// The bytes of it, in KiB.
const WORK_KIB: usize = 16 << 10;

/// Gives the loop new work, and waits while it has much: in number or in bytes.
#[derive(Clone)]
pub(crate) struct WorkSender {
    queue: mpsc::Sender<Input>,
    room_kib: Arc<Semaphore>,
}

/// The other end.
pub(crate) struct WorkReceiver {
    queue: mpsc::Receiver<Input>,
    room_kib: Arc<Semaphore>,
}

/// The way of new work to the loop.
pub(crate) fn work_queue() -> (WorkSender, WorkReceiver) {
    let (sender, receiver) = mpsc::channel(WORK_QUEUE);
    let room_kib = Arc::new(Semaphore::new(WORK_KIB));
    (WorkSender { queue: sender, room_kib: room_kib.clone() }, WorkReceiver { queue: receiver, room_kib })
}

/// The loop has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended;

impl WorkSender {
    /// Waits until there is room.
    pub async fn send(&self, input: Input) -> Result<(), Ended> {
        // The semaphore is never closed.
        let room = self.room_kib.acquire_many(weight_kib(&input)).await.map_err(|_| Ended)?;
        self.queue.send(input).await.map_err(|_| Ended)?;
        room.forget();
        Ok(())
    }

    /// The same from a thread that may block, inside the runtime.
    pub fn blocking_send(&self, input: Input) -> Result<(), Ended> {
        tokio::runtime::Handle::current().block_on(self.send(input))
    }

    /// Does not wait: what finds no room is left out. Says whether the loop still runs.
    pub fn try_send(&self, input: Input) -> bool {
        let Ok(room) = self.room_kib.try_acquire_many(weight_kib(&input)) else { return true };
        match self.queue.try_send(input) {
            Ok(()) => room.forget(),
            Err(mpsc::error::TrySendError::Full(_)) => {}
            Err(mpsc::error::TrySendError::Closed(_)) => return false,
        }
        true
    }
}

impl WorkReceiver {
    /// The next input.
    pub async fn recv(&mut self) -> Option<Input> {
        let input = self.queue.recv().await?;
        self.room_kib.add_permits(weight_kib(&input) as usize);
        Some(input)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }
}

/// What an input holds in memory, about and in KiB: the same when it comes as when it went.
fn weight_kib(input: &Input) -> u32 {
    const CID_BYTES: usize = 96;
    const SPAN_BYTES: usize = 2048;
    let bytes = match input {
        Input::Submit { task, .. } | Input::Where { task, .. } | Input::Message { message: Message::Claim { task, .. }, .. } => {
            task.size()
        }
        Input::Message { message: Message::Holds { cids, .. } | Message::Hold { cids, .. }, .. } => cids.len() * CID_BYTES,
        Input::Message { message: Message::Recall { keys, .. }, .. } => keys.len() * CID_BYTES,
        Input::Message { message: Message::Inform { reply: Reply::Spans { spans, .. }, .. }, .. } => spans.len() * SPAN_BYTES,
        Input::Place { files, .. } => files.iter().map(|(_, cids)| (cids.len() + 1) * CID_BYTES).sum(),
        Input::Receipts { receipts, .. } => receipts.iter().map(|memo| 2 * memo.receipt.sealed().len()).sum(),
        Input::Adverts { adverts, .. } => adverts.iter().map(|advert| 2 * advert.sealed().len()).sum(),
        _ => 0,
    };
    // No input is larger than what a frame may hold, twice.
    (bytes / 1024 + 1).min(WORK_KIB / 4) as u32
}

/// All that the API is given.
#[derive(Clone)]
pub(crate) struct ApiPorts {
    /// The content driver.
    pub content: mpsc::Sender<ContentRequest>,
    /// The engine driver.
    pub engine: mpsc::Sender<EngineRequest>,
    /// The core's read model.
    pub view: watch::Receiver<View>,
    /// What the drivers count.
    pub counters: Arc<Counters>,
    /// What this node saw.
    pub telemetry: Telemetry,
    /// What the DHT is told.
    pub announcements: Announcements,
    /// What goes over the network.
    pub net: Net,
    /// Who may ask in this node's place.
    pub delegates: Delegates,
    /// WebSockets on this machine that this node opens as it begins.
    pub sockets: usize,
}

/// What the drivers count, for `/metrics`.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Inputs that the core has taken.
    pub inputs: AtomicU64,
    /// Messages sent to peers.
    pub messages_out: AtomicU64,
    /// Messages from peers.
    pub messages_in: AtomicU64,
    /// Bytes of messages sent to peers.
    pub message_bytes_out: AtomicU64,
    /// Bytes of messages from peers.
    pub message_bytes_in: AtomicU64,
    /// Messages that were dropped because a peer's queue was full or it was gone.
    pub messages_dropped: AtomicU64,
    /// Envelopes published.
    pub envelopes_out: AtomicU64,
    /// Envelopes that were opened.
    pub envelopes_in: AtomicU64,
    /// Envelopes that found no room or no listener; their letters come again.
    pub envelopes_dropped: AtomicU64,
    /// Envelopes refused: forged, altered, expired, sealed by somebody else.
    pub envelopes_refused: AtomicU64,
    /// Streams refused: forged, truncated, oversized.
    pub refused: AtomicU64,
    /// Runs of guests that ended.
    pub runs: AtomicU64,
    /// New work that waits for the loop.
    pub work_waiting: AtomicU64,
    /// Outputs that wait for a driver whose queue is full.
    pub backlog: AtomicU64,
}

impl Counters {
    /// Counts one.
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts so many.
    pub fn add(counter: &AtomicU64, many: usize) {
        counter.fetch_add(many as u64, Ordering::Relaxed);
    }

    /// Reads a counter.
    pub fn read(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

/// What other drivers may do with content: the Host of DESIGN §4, storing a result, keeping records.
pub(crate) trait Shelf: timerose_engines::Host {
    /// Stores a result and gives its CID: that of a file with the same bytes. It can be made again, and is durable only soon
    /// after.
    fn put(&self, bytes: &[u8]) -> Result<Cid, Failure>;
    /// As [`Shelf::put`] for a small result, without waiting for anything; `None` where it would have to wait.
    fn try_put(&self, bytes: &[u8]) -> Option<Cid>;
    /// Spares content from the garbage collection for as long as the answer is kept.
    fn hold(&self, roots: &[Cid]) -> Hold;
}
