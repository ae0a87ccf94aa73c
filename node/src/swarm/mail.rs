//! The mail room: threads that seal the letters that go out and open the envelopes that come in, off the loop and off
//! the swarm's task.
//!
//! Envelopes wait in one queue per author and are opened in turn, so that who floods a node fills a queue of its own.

use libp2p::PeerId;
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use timerose_core::envelope::{Lane, Post};
use timerose_core::id::NodeId;
use timerose_core::io::Input;
use tokio::sync::mpsc;

use super::seal;
use crate::keys::{Keys, wall_clock};
use crate::ports::{Counters, WorkSender};

/// Letters that wait to be sealed, and envelopes that wait to be published.
const OUT_MAX: usize = 1024;
/// Envelopes of one author that wait to be opened: as many as may be under way between two nodes.
const AUTHOR_MAX: usize = 256;
/// Envelopes that wait to be opened, in all.
const IN_MAX: usize = 4096;

/// An envelope, ready for its topic.
pub(crate) struct Ready {
    /// For whom.
    pub to: NodeId,
    /// On which of its topics.
    pub lane: Lane,
    /// The envelope.
    pub bytes: Vec<u8>,
}

/// The two slots of the mail room: for letters and for envelopes. What finds no room is dropped, and comes again.
pub(crate) struct Mail {
    letters: std::sync::mpsc::SyncSender<Post>,
    envelopes: Arc<Envelopes>,
    counters: Arc<Counters>,
}

impl Mail {
    /// Starts the threads, which end when this is dropped. What was opened goes to `work`.
    pub fn start(keys: &Keys, work: WorkSender, counters: Arc<Counters>) -> (Mail, mpsc::Receiver<Ready>) {
        let (letters, waiting) = std::sync::mpsc::sync_channel::<Post>(OUT_MAX);
        let (ready, sealed) = mpsc::channel(OUT_MAX);
        let (sealer, opener) = (keys.clone(), keys.clone());
        tokio::task::spawn_blocking(move || {
            while let Ok(post) = waiting.recv() {
                let Some(bytes) = seal::seal(&sealer, wall_clock(), &post) else {
                    tracing::warn!(to = %post.to, "a letter could not be sealed");
                    continue;
                };
                if ready.blocking_send(Ready { to: post.to, lane: post.lane, bytes }).is_err() {
                    return;
                }
            }
        });
        let envelopes = Arc::new(Envelopes::default());
        let (queue, counted) = (envelopes.clone(), counters.clone());
        tokio::task::spawn_blocking(move || {
            while let Some((author, bytes)) = queue.pop() {
                match seal::open(&opener, wall_clock(), &bytes) {
                    Ok(opened) => {
                        Counters::count(&counted.envelopes_in);
                        if work.blocking_send(Input::Posted(opened)).is_err() {
                            return;
                        }
                    }
                    Err(why) => {
                        Counters::count(&counted.envelopes_refused);
                        tracing::warn!(%author, %why, "refused an envelope");
                    }
                }
            }
        });
        (Mail { letters, envelopes, counters }, sealed)
    }

    /// A letter is to be sealed.
    pub fn send(&self, post: Post) {
        if self.letters.try_send(post).is_err() {
            Counters::count(&self.counters.envelopes_dropped);
        }
    }

    /// An envelope came from whoever signed its gossip.
    pub fn receive(&self, author: PeerId, bytes: Vec<u8>) {
        if !self.envelopes.push(author, bytes) {
            Counters::count(&self.counters.envelopes_dropped);
        }
    }
}

impl Drop for Mail {
    fn drop(&mut self) {
        self.envelopes.close();
    }
}

/// Envelopes that wait, by author, taken in turn.
#[derive(Default)]
struct Envelopes {
    queues: Mutex<Queues>,
    news: Condvar,
}

#[derive(Default)]
struct Queues {
    by_author: BTreeMap<PeerId, VecDeque<Vec<u8>>>,
    turns: VecDeque<PeerId>,
    count: usize,
    closed: bool,
}

impl Envelopes {
    /// False where the author's queue or the room is full.
    fn push(&self, author: PeerId, bytes: Vec<u8>) -> bool {
        let mut queues = self.queues.lock();
        if queues.count >= IN_MAX {
            return false;
        }
        let queue = queues.by_author.entry(author).or_default();
        if queue.len() >= AUTHOR_MAX {
            return false;
        }
        let first = queue.is_empty();
        queue.push_back(bytes);
        queues.count += 1;
        if first {
            queues.turns.push_back(author);
        }
        self.news.notify_one();
        true
    }

    /// The next author's next envelope; nothing once the room is closed.
    fn pop(&self) -> Option<(PeerId, Vec<u8>)> {
        let mut queues = self.queues.lock();
        loop {
            if queues.closed {
                return None;
            }
            if let Some(author) = queues.turns.pop_front() {
                let queue = queues.by_author.get_mut(&author)?;
                let bytes = queue.pop_front()?;
                if queue.is_empty() {
                    queues.by_author.remove(&author);
                } else {
                    queues.turns.push_back(author);
                }
                queues.count -= 1;
                return Some((author, bytes));
            }
            self.news.wait(&mut queues);
        }
    }

    fn close(&self) {
        self.queues.lock().closed = true;
        self.news.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_author_delays_another_by_one_envelope() {
        let (spammer, friend) = (PeerId::random(), PeerId::random());
        let room = Envelopes::default();
        let taken = (0..1000).filter(|_| room.push(spammer, vec![0])).count();
        assert_eq!(taken, AUTHOR_MAX);
        assert!(room.push(friend, vec![1]) && room.push(friend, vec![2]));
        let order: Vec<u8> = (0..4).filter_map(|_| room.pop()).map(|(_, bytes)| bytes[0]).collect();
        assert_eq!(order, [0, 1, 0, 2]);
        let rest = (4..AUTHOR_MAX + 2).filter_map(|_| room.pop()).count();
        assert_eq!((rest, room.queues.lock().count), (AUTHOR_MAX - 2, 0));
        room.close();
        assert!(room.pop().is_none());
    }

    #[test]
    fn the_room_is_bounded_however_many_write() {
        let room = Envelopes::default();
        let taken = (0..2 * IN_MAX).filter(|_| room.push(PeerId::random(), vec![0])).count();
        assert_eq!(taken, IN_MAX);
    }
}
