//! The exchange's one loop: messages and requests go into the client, blocks go to disk in batches, time passes.

use super::ExchangeEvent;
use super::server::Server;
use super::session::{Client, FetchId, Stored, Update};
use super::stats::Counters;
use super::survey::Surveyed;
use super::wire::Message;
use crate::block::{self, Block};
use crate::blockstore::{Blockstore, StoreError};
use crate::frames::{Event, Sender};
use cid::Cid;
use libp2p::PeerId;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

/// How often stalls are looked for.
const TICK: Duration = Duration::from_millis(100);
/// Wants of all fetches together. When so many are open, requests of fetches wait.
const MAX_WANTS: usize = 8192;
/// Bytes that may have come and not be durable yet. When so many wait for the disk, no message is read, and peers wait.
const MAX_UNSTORED_BYTES: usize = 32 << 20;
/// Batches that are on their way to disk at once: one being written while the next is gathered by the store.
const MAX_WRITES: usize = 2;

/// What fetches ask of the engine.
pub(super) enum Command {
    /// A fetch begins. It ends when its receiver of updates is dropped.
    Open { id: FetchId, hints: Vec<PeerId>, updates: mpsc::Sender<Update> },
    /// It wants these blocks.
    Want { id: FetchId, cids: Vec<Cid> },
    /// Which of the connected peers have a block?
    Survey { cid: Cid, answer: oneshot::Sender<Surveyed> },
}

type Written = (Vec<Stored>, Result<(), StoreError>);

pub(super) struct Engine {
    client: Client,
    server: Server,
    store: Blockstore,
    sender: Sender,
    counters: Arc<Counters>,
    events: broadcast::Sender<ExchangeEvent>,
    writes: JoinSet<Written>,
    /// What each write is about, should it be lost.
    writing: HashMap<tokio::task::Id, Vec<(Cid, u64, PeerId)>>,
}

impl Engine {
    pub fn new(
        store: Blockstore,
        server: Server,
        sender: Sender,
        counters: Arc<Counters>,
        events: broadcast::Sender<ExchangeEvent>,
    ) -> Engine {
        Engine {
            client: Client::default(),
            server,
            store,
            sender,
            counters,
            events,
            writes: JoinSet::new(),
            writing: HashMap::new(),
        }
    }

    pub async fn run(mut self, mut frames: mpsc::Receiver<Event<Message>>, mut commands: mpsc::Receiver<Command>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut connected, mut commanded) = (true, true);
        while connected || commanded {
            let may_read = self.client.unstored_bytes() < MAX_UNSTORED_BYTES;
            let may_want = self.client.want_count() < MAX_WANTS;
            tokio::select! {
                Some(written) = self.writes.join_next_with_id() => self.on_written(written),
                command = commands.recv(), if commanded && may_want => match command {
                    Some(command) => {
                        if connected && may_read {
                            self.catch_up(&mut frames);
                        }
                        self.on_command(command);
                    }
                    None => commanded = false,
                },
                event = frames.recv(), if connected && may_read => match event {
                    Some(event) => self.on_frames(event),
                    None => connected = false,
                },
                _ = tick.tick(), if self.client.is_waiting() || self.client.has_fetches() => self.on_tick(),
            }
            self.write();
        }
    }

    /// Takes what has come already, so that a fetch counts every peer that was connected before it began.
    fn catch_up(&mut self, frames: &mut mpsc::Receiver<Event<Message>>) {
        for _ in 0..frames.len() {
            let Ok(event) = frames.try_recv() else { return };
            self.on_frames(event);
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Open { id, hints, updates } => self.client.open(id, hints, updates),
            Command::Want { id, cids } => self.client.want(Instant::now(), id, cids),
            Command::Survey { cid, answer } => self.client.survey(Instant::now(), cid, answer),
        }
    }

    fn on_frames(&mut self, event: Event<Message>) {
        let now = Instant::now();
        match event {
            Event::Connected { peer } => {
                let outbox = self.server.connect(peer);
                self.client.connected(now, peer, outbox);
            }
            Event::Disconnected { peer } | Event::Unsupported { peer } => {
                self.server.disconnect(&peer);
                self.client.disconnected(now, &peer);
            }
            Event::Dropped { peer, .. } => self.client.repeat(&peer),
            Event::Refused { peer, why } => {
                self.counters.refused();
                let over_budget = self.client.refused(now, &peer);
                self.misbehaved(peer, why, over_budget);
            }
            Event::Message { peer, message } => {
                if self.sender.is_ours(&peer) {
                    self.client.ours(&peer);
                }
                let verdict = self.client.message(now, peer, message);
                verdict.wanted.iter().for_each(|size| self.counters.received(&peer, *size));
                (0..verdict.duplicates).for_each(|_| self.counters.duplicate());
                (0..verdict.unrequested).for_each(|_| self.counters.refused());
                if verdict.unrequested > 0 {
                    // At most as often as the budget allows: then the peer is cut off.
                    tracing::warn!(%peer, blocks = verdict.unrequested, "a peer sent other blocks than those it was asked for");
                }
                if verdict.over_budget {
                    self.misbehaved(peer, "it sends blocks that nobody asked it for".into(), true);
                }
            }
        }
    }

    fn misbehaved(&self, peer: PeerId, why: String, disconnect: bool) {
        tracing::warn!(%peer, why, disconnect, "a peer misbehaves");
        // Nobody need listen.
        let _ = self.events.send(ExchangeEvent::Misbehaved { peer, why });
        if disconnect {
            self.sender.disconnect(&peer);
        }
    }

    fn on_tick(&mut self) {
        self.client.tick(Instant::now(), &|peer| self.sender.heard(peer));
        for peer in self.client.deaf() {
            self.misbehaved(peer, "it does not read what it is sent".into(), true);
        }
    }

    fn write(&mut self) {
        while self.writes.len() < MAX_WRITES {
            let batch = self.client.take_received();
            if batch.is_empty() {
                return;
            }
            let about = batch.iter().map(|(block, from)| (*block.cid(), block.size() as u64, *from)).collect();
            let store = self.store.clone();
            let task = self.writes.spawn_blocking(move || write(&store, batch));
            self.writing.insert(task.id(), about);
        }
    }

    fn on_written(&mut self, written: Result<(tokio::task::Id, Written), JoinError>) {
        let (batch, outcome) = match written {
            Ok((id, written)) => {
                self.writing.remove(&id);
                written
            }
            // A block that a reader of links panics at must cost its fetch, and nothing else.
            Err(error) => {
                tracing::error!(%error, "writing blocks failed");
                let about = self.writing.remove(&error.id()).unwrap_or_default();
                let lost = |(cid, size, from)| Stored { cid, size, from, links: Ok(Vec::new()) };
                (about.into_iter().map(lost).collect(), Err(StoreError::Closed))
            }
        };
        self.client.stored(batch, &outcome);
    }
}

/// Makes a batch durable and reads its links, on a blocking thread.
fn write(store: &Blockstore, batch: Vec<(Block, PeerId)>) -> Written {
    let (blocks, peers): (Vec<Block>, Vec<PeerId>) = batch.into_iter().unzip();
    let outcome = store.put_many(&blocks);
    let stored = blocks.iter().zip(peers).map(|(block, from)| Stored {
        cid: *block.cid(),
        size: block.size() as u64,
        from,
        links: block::links(block.cid(), block.data()),
    });
    (stored.collect(), outcome)
}
