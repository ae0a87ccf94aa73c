//! How fast bytes may go: so many a second in all, shared fairly by the peers that have something to move.
//!
//! Bytes are taken in parts, as tokens from a bucket. When several peers wait, the next part is that of the peer which has had least since it began to wait
//! (start-time fair queueing): who has much to move is slowed by that, and not who has little.

use libp2p::PeerId;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Bytes that are taken at once at most.
pub const PART: usize = 16 << 10;
/// How much time's worth of bytes may be caught up with.
const BURST: Duration = Duration::from_millis(100);
/// Peers whose share is remembered though they may not be waiting; beyond, those who have no more than their due are forgotten.
const MAX_SHARES: usize = 1024;

/// Place in the order: the bytes that a peer has had, in the bucket's own count, and a number that tells equals apart.
type Place = (u64, u64);

#[derive(Default)]
struct State {
    /// When the next part may go.
    free: Option<Instant>,
    /// The place of the last part that went.
    clock: u64,
    /// Up to where each peer has had its share.
    shares: HashMap<PeerId, u64>,
    waiting: BTreeMap<Place, Arc<Notify>>,
    next_number: u64,
}

/// One direction's limit; none until one is set.
#[derive(Default)]
pub struct Throttle {
    /// Bytes a second; 0: no limit.
    rate: AtomicU64,
    state: Mutex<State>,
}

/// The limits of both directions. Cheap to clone.
#[derive(Clone, Default)]
pub struct Throttles {
    /// To peers.
    pub up: Arc<Throttle>,
    /// From peers.
    pub down: Arc<Throttle>,
}

/// A part that waits. Whoever stops waiting gives its place up.
struct Turn<'a> {
    throttle: &'a Throttle,
    place: Place,
    ready: Arc<Notify>,
}

impl Throttle {
    /// Sets the limit, in bytes a second.
    pub fn set(&self, rate: Option<u64>) {
        self.rate.store(rate.unwrap_or(0), Ordering::Relaxed);
    }

    /// The limit, in bytes a second.
    pub fn rate(&self) -> Option<u64> {
        Some(self.rate.load(Ordering::Relaxed)).filter(|rate| *rate > 0)
    }

    /// Waits until so many bytes of a peer, at most [`PART`], may go.
    pub async fn take(&self, peer: &PeerId, bytes: usize) {
        let Some(rate) = self.rate() else { return };
        let cost = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let turn = {
            let mut state = self.state.lock();
            let place = state.place(peer, bytes);
            if state.waiting.is_empty() && state.free.is_none_or(|free| free <= Instant::now()) {
                return state.go(Instant::now(), place, cost);
            }
            let ready = Arc::new(Notify::new());
            state.waiting.insert(place, ready.clone());
            Turn { throttle: self, place, ready }
        };
        loop {
            let at = {
                let mut state = self.state.lock();
                let first = state.waiting.first_key_value().is_some_and(|(place, _)| *place == turn.place);
                match state.free.filter(|free| *free > Instant::now()) {
                    _ if !first => None,
                    None => return state.go(Instant::now(), turn.place, cost),
                    later => later,
                }
            };
            match at {
                Some(at) => sleep_until(at).await,
                None => turn.ready.notified().await,
            }
        }
    }
}

impl State {
    /// The place of a peer's next part.
    fn place(&mut self, peer: &PeerId, bytes: usize) -> Place {
        if self.shares.len() >= MAX_SHARES {
            let clock = self.clock;
            self.shares.retain(|_, had| *had > clock);
        }
        let had = self.shares.entry(*peer).or_default();
        let place = (*had).max(self.clock);
        *had = place + bytes as u64;
        self.next_number += 1;
        (place, self.next_number)
    }

    /// A part goes now.
    fn go(&mut self, now: Instant, place: Place, cost: Duration) {
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        self.free = Some(self.free.map_or(now, |free| free.max(earliest)) + cost);
        self.clock = place.0;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.throttle.state.lock();
        state.waiting.remove(&self.place);
        if let Some((_, next)) = state.waiting.first_key_value() {
            next.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts that go in a second.
    const PARTS: u32 = 64;

    /// A bucket with a clock of its own, in which parts wait.
    struct World {
        state: State,
        now: Instant,
        waiting: BTreeMap<Place, PeerId>,
    }

    impl World {
        fn new() -> World {
            World { state: State::default(), now: Instant::now(), waiting: BTreeMap::new() }
        }

        fn wait(&mut self, peer: PeerId) {
            let place = self.state.place(&peer, PART);
            self.waiting.insert(place, peer);
        }

        /// Whose part goes next, as soon as one may.
        fn next(&mut self) -> Option<PeerId> {
            let (place, peer) = self.waiting.pop_first()?;
            self.now = self.state.free.map_or(self.now, |free| free.max(self.now));
            self.state.go(self.now, place, Duration::from_secs(1) / PARTS);
            Some(peer)
        }
    }

    #[test]
    fn so_many_bytes_go_in_a_second_and_no_more() {
        let (mut world, peer) = (World::new(), PeerId::random());
        let mut took = |idle: Duration| {
            world.now += idle;
            let begun = world.now;
            for _ in 0..5 * PARTS {
                world.wait(peer);
                world.next().unwrap();
            }
            world.now - begun
        };
        let (most, least) = (Duration::from_secs(5), Duration::from_secs(5) - 2 * BURST);
        assert!((least..=most).contains(&took(Duration::ZERO)));
        assert!(
            (least..=most).contains(&took(Duration::from_secs(60))),
            "time in which nothing went gives no more than a moment's worth"
        );
    }

    #[test]
    fn a_peer_with_much_to_move_does_not_keep_one_with_little_waiting() {
        let (mut world, greedy, modest) = (World::new(), PeerId::random(), PeerId::random());
        (0..1000).for_each(|_| world.wait(greedy));
        (0..50).for_each(|_| assert_eq!(world.next(), Some(greedy)));
        // It is being served when the other comes.
        (0..10).for_each(|_| world.wait(modest));
        let first: Vec<PeerId> = (0..20).filter_map(|_| world.next()).collect();
        // First come, first served, it would wait for 950 of the other.
        assert!(first.iter().filter(|peer| **peer == modest).count() >= 9, "in turn, as much of the one as of the other");
        // What it did not use is not saved up for it.
        (0..500).for_each(|_| assert!(world.next().is_some()));
        (0..10).for_each(|_| world.wait(modest));
        let then: Vec<PeerId> = (0..20).filter_map(|_| world.next()).collect();
        assert!((9..=11).contains(&then.iter().filter(|peer| **peer == modest).count()));
    }

    #[tokio::test]
    async fn who_stops_waiting_holds_nobody_up() {
        let (throttle, peer) = (Throttle::default(), PeerId::random());
        throttle.set(Some(u64::from(PARTS) * PART as u64));
        throttle.take(&peer, PART).await;
        let mut gone: Vec<_> = (0..100).map(|_| Box::pin(throttle.take(&peer, PART))).collect();
        for waits in &mut gone {
            let _ = futures::poll!(waits.as_mut());
        }
        let mut last = Box::pin(throttle.take(&peer, PART));
        assert!(futures::poll!(last.as_mut()).is_pending());
        drop(gone);
        last.await;
        assert!(throttle.state.lock().waiting.is_empty());
    }
}
