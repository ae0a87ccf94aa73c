//! The content driver: what the core and the API ask of the embedded IPFS node.

mod archive;
mod cached;
mod import;
mod pins;
mod repo;
mod routes;
mod shelf;
mod stream;

use bytes::Bytes;
use cid::Cid;
use futures::FutureExt;
use parking_lot::Mutex;
use serde_bytes::ByteBuf;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use timerose_content::blockstore::StoreStat;
use timerose_content::gc::Spare;
use timerose_content::{
    Block, Content, ContentError, DAG_CBOR, EntryKind, FetchError, Meta, RAW, StoreError, exchange, pin, unixfs,
};
use timerose_core::failure::Failure;
use timerose_core::function::Function;
use timerose_core::id::NodeId;
use timerose_core::io::{Here, Input, Output, Ticket};
use timerose_core::job::{FILES_MAX, File};
use timerose_core::message::{Message, RESULT_MAX, SIZES_MAX};
use timerose_core::record;
use timerose_core::task::Done;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;

use crate::config::{Config, StartError};
use crate::finder::Routes;
use crate::ports::{ContentRequest, Exchanged, Functions, Kept, Named, NamedKind, Needs, Requests, Shelf, WorkSender};
use import::Imports;
use shelf::LocalShelf;

/// Fetches and look-ups of the core that are under way at the same time; further ones wait their turn.
const TASKS_MAX: usize = 512;
/// Results that came along with their outcomes and wait to be put down: 31 MiB. A further one is dropped with its outcome, which its executor
/// tells again when the lease is renewed.
const PARCELS_MAX: usize = 1024;
/// Requests of the API that are under way at the same time: each may hold a thread that waits for another, of which there
/// are 512. Further ones wait, and then the API waits to ask.
const ASKS_MAX: usize = 64;
/// The most that one fetch may bring here, in bytes.
const FETCH_MAX: u64 = 16 << 30;

/// The content side of a node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Driver(Arc<Inner>);

struct Inner {
    content: Content,
    runtime: Handle,
    /// Turns for what the core asks, and for what the API asks: the one must not wait for the other.
    tasks: Arc<Semaphore>,
    asks: Arc<Semaphore>,
    /// Places for results that came along with their outcomes and are not put down yet.
    parcels: Arc<Semaphore>,
    /// What can still be taken back.
    running: Mutex<BTreeMap<Ticket, AbortHandle>>,
    functions: Functions,
    imports: Imports,
    needs: Vec<Arc<dyn Needs>>,
    routes: Routes,
}

impl Driver {
    /// Opens the blocks of a data folder, within its bounds. Must be called inside a tokio runtime. `needs` says what others of this node need to
    /// be kept.
    pub fn open(
        config: &Config,
        me: NodeId,
        requests: Requests,
        functions: Functions,
        needs: Vec<Arc<dyn Needs>>,
        routes: Routes,
    ) -> Result<(Driver, exchange::Behaviour), StartError> {
        let dir = config.dir.as_path();
        let path = dir.join("blocks");
        let runtime = Handle::current();
        let (content, behaviour) = Content::open(&path, &runtime).map_err(|e| StartError::of_store(dir, e))?;
        content.limit_bandwidth(config.limits.up, config.limits.down);
        if let Some(max) = config.limits.storage {
            let kept = needs.clone();
            let roots = move |spare: &mut dyn FnMut(Spare) -> _| kept.iter().try_for_each(|needs| needs.each(spare));
            content.bound_storage(max, Box::new(roots)).map_err(|e| StartError::of_store(dir, e))?;
        }
        let inner = Inner {
            content,
            runtime,
            tasks: Arc::new(Semaphore::new(TASKS_MAX)),
            asks: Arc::new(Semaphore::new(ASKS_MAX)),
            parcels: Arc::new(Semaphore::new(PARCELS_MAX)),
            running: Mutex::default(),
            functions,
            imports: Imports::new(me, requests),
            needs,
            routes,
        };
        Ok((Driver(Arc::new(inner)), behaviour))
    }

    /// The handle for the other drivers.
    pub fn shelf(&self) -> Arc<dyn Shelf> {
        Arc::new(LocalShelf::new(self.0.content.clone(), self.0.routes.announcements.clone()))
    }

    /// Waits until all that was put is on the disk: results are gathered before they are written.
    pub async fn flush(&self) {
        let store = self.0.content.store().clone();
        if let Err(why) = blocking(move || store.flush().map_err(|e| of_store(&e))).await {
            tracing::error!(%why, "what was put last is not on the disk");
        }
    }

    /// Runs until the queues close.
    pub fn run(
        self,
        mut outputs: mpsc::Receiver<Output>,
        mut requests: mpsc::Receiver<ContentRequest>,
        work: WorkSender,
        done: mpsc::Sender<Input>,
    ) {
        self.announce_pins();
        let driver = self.clone();
        tokio::spawn(async move {
            while let Some(output) = outputs.recv().await {
                driver.carry_out(output, &done);
            }
        });
        let driver = self.clone();
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                // The semaphore is never closed.
                let Ok(turn) = driver.0.asks.clone().acquire_owned().await else { return };
                let answered = driver.clone().answer(request, work.clone());
                tokio::spawn(async move {
                    answered.await;
                    drop(turn);
                });
            }
        });
    }

    fn carry_out(&self, output: Output, done: &mpsc::Sender<Input>) {
        let driver = self.clone();
        match output {
            Output::Load { ticket, function, hints } => {
                let what = async move { driver.load(function, &hints).await };
                self.begin(ticket, done, what, |ticket, function| Input::Loaded { ticket, function });
            }
            Output::Learn { ticket, function, block } => {
                let what = async move { driver.learn(function, block).await };
                self.begin(ticket, done, what, |ticket, function| Input::Loaded { ticket, function });
            }
            Output::Fetch { ticket, roots, recursive, durable, hints } => {
                let what = async move {
                    if durable {
                        // What is on its way to the disk gets there, or is known to be missing and fetched.
                        let store = driver.0.content.store().clone();
                        blocking(move || store.flush().map_err(|e| of_store(&e))).await?;
                    }
                    match ticket {
                        Ticket::Hold(..) => driver.keep(roots, &hints).await,
                        Ticket::Keep(_) => driver.fetch_for_promise(roots, recursive, &hints).await,
                        _ => driver.fetch(roots, recursive, &hints).await,
                    }
                };
                self.begin(ticket, done, what, |ticket, bytes| Input::Fetched { ticket, bytes });
            }
            Output::List { ticket, root } => {
                let what = async move { driver.files(root).await };
                self.begin(ticket, done, what, |ticket, files| Input::Listed { ticket, files });
            }
            Output::Have { ticket, cids } => {
                let what = async move { driver.have(cids).await };
                // A store that cannot be read has nothing.
                self.begin(ticket, done, what, |ticket, here| Input::Have { ticket, here: here.unwrap_or_default() });
            }
            Output::Read { ticket, cid } => {
                // A peer is told any small block that it asks for; what goes along with an outcome is bytes of a file.
                let any = matches!(ticket, Ticket::Give(..));
                let what = async move { driver.small(cid, any).await };
                // What cannot be read does not go along.
                self.begin(ticket, done, what, |ticket, bytes| Input::Read { ticket, bytes: bytes.ok().flatten() });
            }
            Output::Unpack { from, lease, done: ended, body } => self.unpack(done.clone(), from, lease, ended, body),
            Output::Placed { request, cids, at } => self.0.imports.placed(request, cids, at),
            Output::Stop { ticket } => {
                if let Some(task) = self.0.running.lock().remove(&ticket) {
                    task.abort();
                }
            }
            _ => {}
        }
    }

    /// Does something for the core in a task of its own, which [`Output::Stop`] ends. Whatever happens there is answered.
    fn begin<T: Send + 'static>(
        &self,
        ticket: Ticket,
        done: &mpsc::Sender<Input>,
        what: impl Future<Output = Result<T, Failure>> + Send + 'static,
        answer: fn(Ticket, Result<T, Failure>) -> Input,
    ) {
        let (driver, done) = (self.clone(), done.clone());
        // The lock is held until the task is entered, so that it cannot end before it is known.
        let mut running = self.0.running.lock();
        let task = tokio::spawn(async move {
            let _turn = driver.0.tasks.acquire().await;
            let ended = AssertUnwindSafe(what).catch_unwind().await;
            let ended =
                ended.unwrap_or_else(|_| Err(Failure::NodeFailed { what: "a content task panicked; the log says where".into() }));
            driver.0.running.lock().remove(&ticket);
            // Only a node that ends does not listen.
            let _ = done.send(answer(ticket, ended)).await;
        });
        running.insert(ticket, task.abort_handle());
    }

    /// A block that is here, if it is small enough to go along with an answer, and bytes of a file or `any`.
    async fn small(&self, cid: Cid, any: bool) -> Result<Option<ByteBuf>, Failure> {
        let content = self.0.content.clone();
        let block = blocking(move || content.block(&cid).map_err(of_content)).await?;
        Ok(((any || cid.codec() == RAW) && block.len() <= RESULT_MAX).then(|| ByteBuf::from(block)))
    }

    /// Puts down a result that came along with its outcome, and passes the outcome on. Bytes that are not the result's, or
    /// find no room, are dropped: then it has to be fetched by its CID as a larger one.
    fn unpack(&self, to: mpsc::Sender<Input>, from: NodeId, lease: u64, done: Done, body: ByteBuf) {
        let Ok(place) = self.0.parcels.clone().try_acquire_owned() else {
            return tracing::debug!(%from, "no place for a result that came along");
        };
        let driver = self.clone();
        tokio::spawn(async move {
            let (_place, _turn) = (place, driver.0.tasks.acquire().await);
            let (content, result) = (driver.0.content.clone(), done.result);
            let kept = blocking(move || {
                let block = Block::new(result, body.into_vec()).map_err(|e| Failure::NodeFailed { what: e.to_string() })?;
                content.add_bytes_soon(block.data()).map_err(of_content)
            });
            if let Err(why) = kept.await {
                tracing::warn!(%from, %why, "the bytes of a result were not kept");
            }
            // Only a node that ends does not listen.
            let message = Message::Outcome { lease, outcome: Ok(done), body: None };
            let _ = to.send(Input::Message { from, message }).await;
        });
    }

    /// Puts down a manifest that came by letter, and reads it.
    async fn learn(&self, cid: Cid, bytes: ByteBuf) -> Result<Arc<Function>, Failure> {
        let content = self.0.content.clone();
        blocking(move || {
            let block = Block::new(cid, bytes.into_vec()).map_err(|e| Failure::NodeFailed { what: e.to_string() })?;
            content.store().put_many(&[block]).map_err(|e| of_store(&e))
        })
        .await?;
        self.load(cid, &[]).await
    }

    /// Reads a manifest, from peers where it is not here.
    async fn load(&self, cid: Cid, hints: &[NodeId]) -> Result<Arc<Function>, Failure> {
        if let Some(function) = self.0.functions.get(&cid) {
            return Ok(function);
        }
        let block = self.block(cid, hints).await?;
        let not_one = |why: String| Failure::BadArgument { index: 0, wanted: "a function".into(), got: format!("{cid}: {why}") };
        let function: Function = record::decode(&block).map_err(|e| not_one(e.to_string()))?;
        function.check()?;
        let function = Arc::new(function);
        self.0.functions.put(cid, function.clone());
        // Whoever looks for it finds that this node has it now.
        self.0.routes.announcements.result(&cid);
        Ok(function)
    }

    /// One block, from peers where it is not here or corrupt.
    async fn block(&self, cid: Cid, hints: &[NodeId]) -> Result<Bytes, Failure> {
        let here = |content: Content| move || content.store().serve_get(&cid).map_err(|e| of_store(&e));
        let corrupt = match blocking(here(self.0.content.clone())).await {
            Ok(Some(block)) => return Ok(block),
            Ok(None) => None,
            Err(corrupt @ Failure::Corrupt { .. }) => Some(corrupt),
            Err(other) => return Err(other),
        };
        match self.fetch(vec![cid], false, hints).await {
            Ok(_) => {}
            // That there was one once says more than that nobody else has it.
            Err(Failure::NotFound { .. }) if corrupt.is_some() => return corrupt.map_or(Err(Failure::Cancelled), Err),
            Err(other) => return Err(other),
        }
        blocking(here(self.0.content.clone())).await?.ok_or(Failure::not_found(cid, 0))
    }

    /// Runs `what` on a blocking thread with a source of blocks that fetches what is not here.
    async fn walk<T: Send + 'static>(
        &self,
        what: impl FnOnce(&mut unixfs::Get<'_, Failure>) -> Result<T, unixfs::Error<Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let driver = self.clone();
        blocking(move || {
            let mut get = |cid: &Cid| match driver.0.content.block(cid) {
                Ok(block) => Ok(block),
                Err(ContentError::Missing { cid } | ContentError::Store(StoreError::Corrupt { cid, .. })) => {
                    driver.0.runtime.block_on(driver.block(cid, &[]))
                }
                Err(other) => Err(of_content(other)),
            };
            what(&mut get).map_err(of_unixfs)
        })
        .await
    }

    async fn files(&self, root: Cid) -> Result<Vec<File>, Failure> {
        self.walk(move |get| {
            let mut files = Vec::new();
            unixfs::walk_files(&root, FILES_MAX as u64, get, &mut |path, cid, size| {
                files.push(File { path: path.to_string(), cid: *cid, size });
                Ok(())
            })?;
            Ok(files)
        })
        .await
    }

    /// Which blocks are here and, of a few, how long the files are of which they are the roots.
    async fn have(&self, cids: Vec<Cid>) -> Result<Here, Failure> {
        let content = self.0.content.clone();
        blocking(move || {
            let mut here = Here { bits: vec![0u8; cids.len().div_ceil(8)], sizes: Vec::new() };
            for (i, cid) in cids.iter().enumerate() {
                if content.store().has(cid).map_err(|e| of_store(&e))? {
                    here.bits[i / 8] |= 1 << (i % 8);
                }
            }
            if cids.len() <= SIZES_MAX {
                here.sizes = cids.iter().map(|cid| size_here(&content, cid)).collect();
            }
            Ok(here)
        })
        .await
    }

    async fn answer(self, request: ContentRequest, work: WorkSender) {
        match request {
            ContentRequest::Exchanged { answer } => {
                let (stats, ledgers) = (self.0.content.stats(), self.0.content.ledgers());
                let (up, down) = self.0.content.bandwidth();
                let _ = answer.send(Ok(Exchanged { stats, ledgers, up, down }));
            }
            ContentRequest::Providers { cid, answer } => {
                let _ = answer.send(self.providers(cid).await);
            }
            ContentRequest::Add { source, how, answer } => {
                let _ = answer.send(self.add(source, how, work).await);
            }
            ContentRequest::Resolve { root, path, answer } => {
                let _ = answer.send(self.resolve(root, path).await);
            }
            ContentRequest::List { root, path, answer } => {
                let _ = answer.send(self.list(root, path).await);
            }
            ContentRequest::Block { cid, answer } => {
                let _ = answer.send(self.block(cid, &[]).await);
            }
            ContentRequest::Cached { root, path, alone, answer } => {
                let _ = answer.send(self.cached(root, path, alone).await);
            }
            ContentRequest::Put { block, answer } => {
                let _ = answer.send(self.put(block).await);
            }
            ContentRequest::Stat { answer } => {
                let _ = answer.send(self.kept().await);
            }
            ContentRequest::Pin { pin, answer } => {
                let _ = answer.send(self.pin(pin).await);
            }
            ContentRequest::Unpin { cid, answer } => {
                let _ = answer.send(self.unpin(cid).await);
            }
            ContentRequest::Pins { after, answer } => {
                let content = self.0.content.clone();
                let page = blocking(move || pin::page(content.store(), after.as_ref()).map_err(|e| of_store(&e)));
                let _ = answer.send(page.await);
            }
            ContentRequest::Gc { grace, news } => pins::collect(self.0.content.clone(), grace, self.0.needs.clone(), news).await,
            ContentRequest::Verify { repair, news } => repo::verify(self.0.content.clone(), repair, news).await,
            ContentRequest::Open { root, path, answer } => {
                let _ = answer.send(self.open_path(root, path).await);
            }
            ContentRequest::Read { file, part, chunks } => {
                let failed = chunks.clone();
                if let Err(failure) = self.read(file, part, chunks).await {
                    let _ = failed.send(Err(failure)).await;
                }
            }
            ContentRequest::Car { root, path, how, chunks } => {
                let failed = chunks.clone();
                if let Err(failure) = self.export_car(root, path, how, chunks).await {
                    let _ = failed.send(Err(failure)).await;
                }
            }
            ContentRequest::ImportCar { source, pin, answer } => {
                let _ = answer.send(self.import_car(source, pin).await);
            }
        }
    }

    /// Keeps a record.
    async fn put(&self, record: Bytes) -> Result<Cid, Failure> {
        let content = self.0.content.clone();
        blocking(move || {
            let block = Block::encode(DAG_CBOR, record).map_err(|e| Failure::NodeFailed { what: e.to_string() })?;
            content.store().put_many(std::slice::from_ref(&block)).map_err(|e| of_store(&e))?;
            Ok(*block.cid())
        })
        .await
    }

    async fn kept(&self) -> Result<Kept, Failure> {
        let content = self.0.content.clone();
        blocking(move || {
            let StoreStat { blocks, bytes } = content.store().stat().map_err(|e| of_store(&e))?;
            let (max, room) = (content.store().max_bytes(), content.store().room());
            Ok(Kept { blocks, bytes, max, room })
        })
        .await
    }

    async fn resolve(&self, root: Cid, path: String) -> Result<Named, Failure> {
        self.walk(move |get| Ok(named_as(unixfs::resolve(&root, &path, get)?))).await
    }

    async fn list(&self, root: Cid, path: String) -> Result<Vec<Named>, Failure> {
        let entries = self.walk(move |get| {
            let folder = unixfs::resolve(&root, &path, get)?;
            unixfs::list(&folder.cid, get)
        });
        let named = |entry: timerose_content::Entry| {
            let Meta { mode, mtime } = entry.meta;
            let kind = kind_of(entry.kind);
            Named { name: entry.name, cid: entry.cid, size: entry.size, kind, mode, mtime, target: entry.target }
        };
        Ok(entries.await?.into_iter().map(named).collect())
    }
}

/// What a path led to, without a name.
fn named_as(found: unixfs::Resolved) -> Named {
    let Meta { mode, mtime } = found.meta;
    let kind = kind_of(found.kind);
    Named { name: String::new(), cid: found.cid, size: found.size, kind, mode, mtime, target: found.target }
}

/// The length of a file whose root is here; 0 where that is not so, or it is no file.
fn size_here(content: &Content, cid: &Cid) -> u64 {
    if cid.codec() == RAW {
        return content.store().size_of(cid).ok().flatten().unwrap_or(0);
    }
    timerose_content::FileReader::open(cid, &mut |cid| content.block(cid)).map_or(0, |file| file.size())
}

fn kind_of(kind: EntryKind) -> NamedKind {
    match kind {
        EntryKind::File => NamedKind::File,
        EntryKind::Directory => NamedKind::Folder,
        EntryKind::Symlink => NamedKind::Symlink,
    }
}

/// Runs something that blocks.
async fn blocking<T: Send + 'static>(what: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let ended = tokio::task::spawn_blocking(what).await;
    ended.unwrap_or_else(|e| Err(Failure::NodeFailed { what: format!("a content task ended early: {e}") }))
}

fn of_store(error: &StoreError) -> Failure {
    match error {
        StoreError::Full { path } => Failure::StorageFull { at: path.display().to_string(), max: None },
        StoreError::OverMax { path, max } => Failure::StorageFull { at: path.display().to_string(), max: Some(*max) },
        StoreError::Corrupt { cid, path } => Failure::Corrupt { cid: *cid, at: path.display().to_string() },
        other => Failure::NodeFailed { what: other.to_string() },
    }
}

fn of_content(error: ContentError) -> Failure {
    match error {
        ContentError::Missing { cid } => Failure::not_found(cid, 0),
        ContentError::UnixFs(problem) => of_unixfs(problem.into()),
        ContentError::Store(error) => of_store(&error),
    }
}

fn of_fetch(error: FetchError) -> Failure {
    match error {
        FetchError::NotFound { cid, asked, .. } => Failure::not_found(cid, asked as u32),
        FetchError::LimitExceeded { limit } => Failure::LimitExceeded { which: "input".into(), at: limit },
        // Another node would fare no better with it.
        bad @ (FetchError::Block(_) | FetchError::TooLarge) => {
            Failure::BadArgument { index: 0, wanted: "content that can be fetched".into(), got: bad.to_string() }
        }
        FetchError::Store(error) => of_store(&error),
        FetchError::Closed => Failure::NodeFailed { what: "the exchange has ended".into() },
    }
}

fn of_unixfs(error: unixfs::Error<Failure>) -> Failure {
    match error {
        unixfs::Error::Source(failure) => failure,
        unixfs::Error::UnixFs(problem) => {
            Failure::BadArgument { index: 0, wanted: "UnixFS content".into(), got: problem.to_string() }
        }
    }
}
