//! Answers the wants of peers, and carries our own to them: one task per peer, reading the disk on blocking threads.
//!
//! Each peer has a queue of its own and few messages on their way, so that one which wants much does not keep another waiting. Where a limit makes
//! messages wait, they are small, and are made when the one before is being sent: what is said meanwhile goes with the next.

use super::outbox::{Batch, Outbox, Wanted};
use super::stats::Counters;
use super::wire::{Message, Presence, WantKind};
use crate::block::{Block, Multihash};
use crate::blockstore::Blockstore;
use crate::frames::{Sender, Throttle};
use bytes::Bytes;
use libp2p::PeerId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes of blocks after which a message is sent; with the largest block on top it stays under bitswap's 4 MiB.
const SERVE_BYTES: usize = 512 << 10;
/// Wants of either side in one message.
const MESSAGE_WANTS: usize = 1024;

/// The outboxes of all connected peers.
pub(super) struct Server {
    store: Blockstore,
    counters: Arc<Counters>,
    sender: Sender,
    up: Arc<Throttle>,
    outboxes: Arc<Mutex<HashMap<PeerId, Arc<Outbox>>>>,
}

impl Server {
    /// From now on, wants that could not be met are met as soon as their blocks come into the store.
    pub fn new(store: Blockstore, counters: Arc<Counters>, sender: Sender, up: Arc<Throttle>) -> Server {
        let outboxes: Arc<Mutex<HashMap<PeerId, Arc<Outbox>>>> = Arc::default();
        // A weak link: the store must not keep alive what itself keeps the store alive.
        let waiting = Arc::downgrade(&outboxes);
        store.observe(Box::new(move |hashes: &[Multihash]| {
            let Some(outboxes) = waiting.upgrade() else { return };
            let outboxes: Vec<Arc<Outbox>> = outboxes.lock().values().cloned().collect();
            outboxes.iter().for_each(|outbox| outbox.came(hashes));
        }));
        Server { store, counters, sender, up, outboxes }
    }

    /// A peer has connected: its outbox, emptied by a task of its own until the peer is gone.
    pub fn connect(&self, peer: PeerId) -> Arc<Outbox> {
        let outbox = Arc::new(Outbox::default());
        self.counters.connected(&peer, true);
        self.outboxes.lock().insert(peer, outbox.clone());
        let task = PeerTask {
            peer,
            outbox: outbox.clone(),
            store: self.store.clone(),
            counters: self.counters.clone(),
            sender: self.sender.clone(),
            up: self.up.clone(),
        };
        tokio::spawn(task.run());
        outbox
    }

    /// A peer is gone, and with it what it was owed.
    pub fn disconnect(&self, peer: &PeerId) {
        if let Some(outbox) = self.outboxes.lock().remove(peer) {
            self.counters.connected(peer, false);
            outbox.close();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.outboxes.lock().values().for_each(|outbox| outbox.close());
    }
}

struct PeerTask {
    peer: PeerId,
    outbox: Arc<Outbox>,
    store: Blockstore,
    counters: Arc<Counters>,
    sender: Sender,
    up: Arc<Throttle>,
}

impl PeerTask {
    /// Bytes of blocks after which a message is sent: under a limit no more than go in a quarter of a second, or one block.
    async fn room(&self) -> usize {
        let Some(rate) = self.up.rate() else { return SERVE_BYTES };
        self.sender.drained(&self.peer).await;
        (rate / 4).clamp(1, SERVE_BYTES as u64) as usize
    }

    async fn run(self) {
        loop {
            let room = self.room().await;
            let Some(Batch { entries, due }) = self.outbox.take(MESSAGE_WANTS).await else { return };
            let mut answer = Answer::default();
            if !due.is_empty() {
                let (store, outbox) = (self.store.clone(), self.outbox.clone());
                let looked = tokio::task::spawn_blocking(move || look_up(&store, &outbox, due, room)).await;
                // It fails only when the runtime ends.
                let Ok(looked) = looked else { return };
                answer = looked;
            }
            let (blocks, bytes) = (answer.blocks.len(), answer.blocks.iter().map(Block::size).sum());
            let message = Message { wants: entries, full: false, blocks: answer.blocks, presences: answer.presences };
            if message.is_empty() {
                continue;
            }
            let frame: Bytes = message.encode();
            if self.sender.send(&self.peer, frame).await.is_err() {
                return;
            }
            self.counters.sent(&self.peer, blocks, bytes);
        }
    }
}

#[derive(Default)]
struct Answer {
    blocks: Vec<Block>,
    presences: Vec<Presence>,
}

/// Looks wants up until a message has so many bytes; what does not fit waits for the next.
fn look_up(store: &Blockstore, outbox: &Outbox, due: Vec<Wanted>, room: usize) -> Answer {
    let mut answer = Answer::default();
    let mut bytes = 0;
    let mut due = due.into_iter();
    while bytes < room {
        let Some(wanted) = due.next() else { break };
        match find(store, &wanted) {
            Some(Found::Block(data)) => {
                bytes += data.len();
                answer.blocks.push(Block::hashed(wanted.cid, data));
            }
            Some(Found::Have) => answer.presences.push(Presence::Have(wanted.cid)),
            None => {
                // Remembered first and looked up again after, or a block that comes in between would be missed.
                outbox.keep_unmet(&[wanted]);
                if find(store, &wanted).is_some() {
                    outbox.came(&[*wanted.cid.hash()]);
                } else if wanted.send_dont_have {
                    answer.presences.push(Presence::DontHave(wanted.cid));
                }
            }
        }
    }
    outbox.put_back(due.collect());
    answer
}

enum Found {
    Block(Bytes),
    Have,
}

/// A block that cannot be read counts as one that we do not have: the peer can ask another.
fn find(store: &Blockstore, wanted: &Wanted) -> Option<Found> {
    let found = match wanted.kind {
        WantKind::Block => store.serve_get(&wanted.cid).map(|data| data.map(Found::Block)),
        WantKind::Have => store.serve_has(&wanted.cid).map(|has| has.then_some(Found::Have)),
    };
    found.unwrap_or_else(|error| {
        tracing::warn!(cid = %wanted.cid, %error, "a wanted block cannot be read");
        None
    })
}
