//! A libp2p protocol made of length-prefixed frames: bitswap speaks through it, and so may any other protocol of a node.
//!
//! Each direction has its own streams, and a stream carries frames one way: an unsigned varint length, then the body. To each peer one stream is
//! opened when there is something to say, and kept; from each peer many streams are accepted, as Kubo opens one for each response. Everything a
//! peer sends is read and judged on the task of its connection, never on the swarm's loop. When the receiver of events does not keep up,
//! reading stops and the peer's own sends wait: nothing is dropped.
//!
//! A consumer of events must not await [`Sender::send`] in the loop in which it receives: two such peers could wait for each other.

mod behaviour;
mod handler;
mod read;
mod throttle;

pub use behaviour::Behaviour;
pub use read::{ReadError, read_frame};
pub use throttle::{Throttle, Throttles};

use bytes::Bytes;
use futures::task::AtomicWaker;
use libp2p::swarm::ConnectionId;
use libp2p::{PeerId, StreamProtocol};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

/// What a protocol does with its frames. Runs on the connection's own task, so it must not block for long.
pub trait Codec: Send + Sync + 'static {
    /// What a frame means.
    type In: Send + 'static;

    /// The first frame of every stream that we open to `peer` (a session's credentials), if the protocol has one.
    fn opening(&self, peer: &PeerId) -> Option<Bytes>;

    /// Judges one inbound frame; `first` says that it is its stream's first. `Ok(None)`: consumed, nobody need know. An error resets the
    /// stream and comes out as [`Event::Refused`].
    fn decode(&self, peer: &PeerId, first: bool, frame: Bytes) -> Result<Option<Self::In>, String>;
}

/// The bounds of a protocol.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name.
    pub protocol: StreamProtocol,
    /// Bytes in a frame at most, in either direction. A longer one is refused before it is read.
    pub max_frame: usize,
    /// Streams that a peer may have open to us on one connection. One more is reset and reported.
    pub max_inbound_streams: usize,
    /// Frames that may wait for one peer; together they hold at most 8 MiB, or four of the largest. When full: [`SendError::Full`].
    pub queue: usize,
    /// Events that may wait for the receiver. When full, reading stops.
    pub events: usize,
}

impl Config {
    /// KiB of frames that may wait for one peer.
    fn room_kib(&self) -> usize {
        (LINE_BYTES / 1024).max(4 * kib_of(self.max_frame) as usize)
    }
}

/// Bytes of frames that may wait for one peer, if the largest are not larger than a quarter of it.
const LINE_BYTES: usize = 8 << 20;

/// What a frame of so many bytes takes of the room.
fn kib_of(bytes: usize) -> u32 {
    u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX)
}

/// A frame that waits for its peer, and the room that it takes.
struct Queued {
    frame: Bytes,
    _room: OwnedSemaphorePermit,
}

/// What happens on the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<T> {
    /// The first connection to a peer stands. The peer need not speak the protocol.
    Connected {
        /// Who.
        peer: PeerId,
    },
    /// The last connection to a peer is gone, and with it every frame that waited for it.
    Disconnected {
        /// Who.
        peer: PeerId,
    },
    /// The codec passed a frame.
    Message {
        /// Who sent it.
        peer: PeerId,
        /// What it means.
        message: T,
    },
    /// The peer broke the protocol; that stream has been reset.
    Refused {
        /// Who.
        peer: PeerId,
        /// How.
        why: String,
    },
    /// The peer does not speak the protocol; the frames that waited for it were dropped.
    Unsupported {
        /// Who.
        peer: PeerId,
    },
    /// One or more frames to a peer that is still connected may not have arrived.
    Dropped {
        /// Who.
        peer: PeerId,
        /// Why.
        why: String,
    },
}

/// Why a frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// As many frames wait for this peer as may.
    #[error("too many frames wait for this peer")]
    Full,
    /// No connection to this peer.
    #[error("not connected to this peer")]
    NotConnected,
    /// The peer would refuse a frame of this size.
    #[error("the frame is larger than the protocol allows")]
    TooLarge,
}

/// One connection of a peer, as the senders see it.
struct Line {
    connection: ConnectionId,
    /// It goes through a relay.
    relayed: bool,
    queue: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    heard: Arc<Heard>,
}

/// How the names of the protocols begin that our own nodes alone speak.
const OURS: &str = "/timerose/";

/// What one connection tells of its peer.
#[derive(Default)]
struct Heard {
    /// When a part of a long frame came last.
    part: Mutex<Option<Instant>>,
    /// The peer has said that it speaks a protocol of ours.
    ours: AtomicBool,
}

impl Heard {
    fn now(&self) {
        *self.part.lock() = Some(Instant::now());
    }
}

/// Who is connected, shared by the behaviour and the senders.
struct Routes {
    max_frame: usize,
    /// The room of each line when nothing waits.
    room_kib: u32,
    /// The last line of a peer is the one in use. Lines through a relay come before direct ones, older before newer: a direct line is the
    /// shorter way and needs nobody else, and a peer that began again is reached by its new connection, though the old one may seem to
    /// stand for seconds.
    peers: Mutex<HashMap<PeerId, Vec<Line>>>,
    /// Peers to disconnect: at most as many as are connected.
    closing: Mutex<HashSet<PeerId>>,
    behaviour: AtomicWaker,
}

/// Sends frames to connected peers.
#[derive(Clone)]
pub struct Sender(Arc<Routes>);

impl Sender {
    /// Queues a frame without waiting.
    pub fn try_send(&self, peer: &PeerId, frame: Bytes) -> Result<(), SendError> {
        let (queue, room) = self.line(peer, &frame)?;
        let _room = room.try_acquire_many_owned(kib_of(frame.len())).map_err(|_| SendError::Full)?;
        queue.try_send(Queued { frame, _room }).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => SendError::Full,
            mpsc::error::TrySendError::Closed(_) => SendError::NotConnected,
        })
    }

    /// Queues a frame, waiting for room. Never fails with [`SendError::Full`].
    pub async fn send(&self, peer: &PeerId, frame: Bytes) -> Result<(), SendError> {
        let (queue, room) = self.line(peer, &frame)?;
        // A peer that goes lets go of what waited for it, and of its room.
        let _room = room.acquire_many_owned(kib_of(frame.len())).await.map_err(|_| SendError::NotConnected)?;
        queue.send(Queued { frame, _room }).await.map_err(|_| SendError::NotConnected)
    }

    /// Waits until no frame waits for a peer any more: the last may still be being written.
    pub async fn drained(&self, peer: &PeerId) {
        let room = self.0.peers.lock().get(peer).and_then(|lines| lines.last()).map(|line| line.room.clone());
        if let Some(room) = room {
            // The semaphore is never closed.
            let _ = room.acquire_many(self.0.room_kib).await;
        }
    }

    /// Closes every connection to a peer.
    pub fn disconnect(&self, peer: &PeerId) {
        if self.0.peers.lock().contains_key(peer) {
            self.0.closing.lock().insert(*peer);
            self.0.behaviour.wake();
        }
    }

    /// When a part of a frame that is still on its way came last: a slow peer is told from a silent one by this.
    pub fn heard(&self, peer: &PeerId) -> Option<Instant> {
        self.0.peers.lock().get(peer)?.iter().filter_map(|line| *line.heard.part.lock()).max()
    }

    /// Whether a peer is a node of our own kind, by the protocols that it says it speaks. It may say so some time after it has connected.
    pub fn is_ours(&self, peer: &PeerId) -> bool {
        self.0.peers.lock().get(peer).is_some_and(|lines| lines.iter().any(|line| line.heard.ours.load(Ordering::Relaxed)))
    }

    fn line(&self, peer: &PeerId, frame: &Bytes) -> Result<(mpsc::Sender<Queued>, Arc<Semaphore>), SendError> {
        if frame.len() > self.0.max_frame {
            return Err(SendError::TooLarge);
        }
        let peers = self.0.peers.lock();
        let line = peers.get(peer).and_then(|lines| lines.last()).ok_or(SendError::NotConnected)?;
        Ok((line.queue.clone(), line.room.clone()))
    }
}

/// Makes the protocol: its behaviour goes into a swarm, frames go out through the sender, and what comes in is received.
pub fn new<C: Codec>(config: Config, codec: Arc<C>) -> (Behaviour<C>, Sender, mpsc::Receiver<Event<C::In>>) {
    throttled(config, codec, Throttles::default())
}

/// As [`new`], within limits of the bytes that go in a second.
pub fn throttled<C: Codec>(
    config: Config,
    codec: Arc<C>,
    throttles: Throttles,
) -> (Behaviour<C>, Sender, mpsc::Receiver<Event<C::In>>) {
    let (events, receiver) = mpsc::channel(config.events);
    let routes = Arc::new(Routes {
        max_frame: config.max_frame,
        room_kib: u32::try_from(config.room_kib()).unwrap_or(u32::MAX),
        peers: Mutex::default(),
        closing: Mutex::default(),
        behaviour: AtomicWaker::new(),
    });
    let behaviour = Behaviour::new(config, codec, throttles, routes.clone(), events);
    (behaviour, Sender(routes), receiver)
}
