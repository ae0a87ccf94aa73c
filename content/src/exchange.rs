//! The exchange: bitswap 1.2.0, client and server (<https://specs.ipfs.tech/bitswap-protocol/>).
//!
//! ```text
//! frames ─Event→ engine (one task: who is asked for what) ─→ outbox of each peer ─task→ frames
//!                   │ batches of blocks                          ▲ wants that are due, looked up on blocking threads
//!                   └──blocking thread──→ Blockstore ──new blocks┘
//! ```

mod engine;
mod fetch;
mod outbox;
mod peer;
mod server;
mod session;
#[cfg(test)]
mod session_tests;
mod stats;
mod survey;
pub mod wire;

pub use fetch::{Fetch, FetchError, Fetched, MAX_FETCH_BLOCKS, MAX_FRONTIER};
pub use outbox::{MAX_OUT_ENTRIES, MAX_WANTLIST};
pub use peer::{ASK_LIMIT, MAX_OPEN, MAX_OPEN_FOREIGN, UNREQUESTED_BUDGET};
pub use session::{PATIENCE, SHORTLIST, STALL, WIDEN};
pub use stats::{Ledger, Stats};
pub use survey::{MAX_SURVEYED, MAX_SURVEYS, SURVEY_WAIT, Surveyed};

use crate::blockstore::Blockstore;
use crate::frames;
use cid::Cid;
use engine::{Command, Engine};
use libp2p::PeerId;
use server::Server;
use session::FetchId;
use stats::Counters;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{broadcast, mpsc, oneshot};

/// What goes into the swarm.
pub type Behaviour = frames::Behaviour<wire::Bitswap>;

/// Streams that a peer may have open to us: Kubo opens one for each response.
const MAX_INBOUND_STREAMS: usize = 128;
/// Messages that may wait: to one peer, and from all peers together. Of the largest size they are 16 MiB.
const QUEUE: usize = 4;
/// Requests of fetches that may wait for the engine. When full, the fetches wait.
const MAX_COMMANDS: usize = 64;
/// Events that a slow listener may lag behind; it then misses the oldest.
const MAX_EVENTS: usize = 64;

/// What the exchange tells of its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExchangeEvent {
    /// A peer broke the protocol, or sent more blocks than [`UNREQUESTED_BUDGET`] that nobody had asked it for. It has been disconnected if it
    /// went on.
    Misbehaved {
        /// Who.
        peer: PeerId,
        /// How.
        why: String,
    },
}

/// The running exchange.
#[derive(Clone)]
pub(crate) struct Exchange {
    store: Blockstore,
    commands: mpsc::Sender<Command>,
    events: broadcast::Sender<ExchangeEvent>,
    counters: Arc<Counters>,
    throttles: frames::Throttles,
    next_fetch: Arc<AtomicU64>,
}

impl Exchange {
    /// Starts the exchange over a store, on a runtime. It ends when both the behaviour and all clones of the exchange are dropped.
    pub fn start(store: Blockstore, runtime: &tokio::runtime::Handle) -> (Exchange, Behaviour) {
        let config = frames::Config {
            protocol: wire::PROTOCOL,
            max_frame: wire::MAX_MESSAGE,
            max_inbound_streams: MAX_INBOUND_STREAMS,
            queue: QUEUE,
            events: QUEUE,
        };
        let throttles = frames::Throttles::default();
        let (behaviour, sender, frames) = frames::throttled(config, Arc::new(wire::Bitswap), throttles.clone());
        let (commands, requests) = mpsc::channel(MAX_COMMANDS);
        let (events, _) = broadcast::channel(MAX_EVENTS);
        let counters = Arc::new(Counters::default());
        let server = Server::new(store.clone(), counters.clone(), sender.clone(), throttles.up.clone());
        let engine = Engine::new(store.clone(), server, sender, counters.clone(), events.clone());
        runtime.spawn(engine.run(frames, requests));
        (Exchange { store, commands, events, counters, throttles, next_fetch: Arc::default() }, behaviour)
    }

    /// Asks the connected peers whether they have a block.
    pub async fn survey(&self, cid: Cid) -> Surveyed {
        let (answer, answered) = oneshot::channel();
        // An exchange that has ended knows nobody.
        let _ = self.commands.send(Command::Survey { cid, answer }).await;
        answered.await.unwrap_or_default()
    }

    pub fn stats(&self) -> Stats {
        self.counters.read()
    }

    pub fn ledgers(&self) -> Vec<(PeerId, Ledger)> {
        self.counters.ledgers()
    }

    /// Sets the limits, in bytes a second.
    pub fn limit(&self, up: Option<u64>, down: Option<u64>) {
        self.throttles.up.set(up);
        self.throttles.down.set(down);
    }

    /// The limits: up and down.
    pub fn limits(&self) -> (Option<u64>, Option<u64>) {
        (self.throttles.up.rate(), self.throttles.down.rate())
    }

    pub fn events(&self) -> broadcast::Receiver<ExchangeEvent> {
        self.events.subscribe()
    }

    fn next_id(&self) -> FetchId {
        self.next_fetch.fetch_add(1, Ordering::Relaxed)
    }
}
