//! The bound: how many bytes blocks may take, and how those who put wait until room has been made.
//!
//! Room is made by one thread, the keeper (see [`crate::keeper`]). It is called when use passes 90 % of the bound, and by a put that does
//! not fit. It rests between its rounds, so that a store full of what must stay does not spend its days looking for garbage.

use parking_lot::{Condvar, Mutex};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long the keeper rests after a round at least, and by how many times what the round took.
const REST: Duration = Duration::from_secs(10);
const REST_TIMES: u32 = 9;

#[derive(Default)]
struct Calls {
    called: bool,
    /// Bytes that the largest put of those that wait needs.
    needed: u64,
    /// Rounds that have ended.
    rounds: u64,
    /// No round begins before.
    rests_until: Option<Instant>,
    /// There is a keeper.
    kept: bool,
}

/// What became of a store's room since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Collections of garbage that ended well, whoever asked for them.
    pub collections: u64,
    /// Bytes in the blocks that they removed.
    pub freed: u64,
    /// Puts that were refused, as they did not fit after a collection either.
    pub refused: u64,
}

/// The bound of one store; none until it is set.
#[derive(Default)]
pub(crate) struct Bound {
    max: OnceLock<u64>,
    used: AtomicU64,
    room: Mutex<Room>,
    calls: Mutex<Calls>,
    changed: Condvar,
}

impl Bound {
    /// Sets the bound, once; there is a keeper from now on.
    pub fn set(&self, max: u64) -> bool {
        let set = self.max.set(max).is_ok();
        self.calls.lock().kept |= set;
        set
    }

    /// Bytes that blocks may take.
    pub fn max(&self) -> Option<u64> {
        self.max.get().copied()
    }

    /// What became of the room so far.
    pub fn room(&self) -> Room {
        *self.room.lock()
    }

    /// Garbage was collected: so many bytes.
    pub fn freed(&self, bytes: u64) {
        let mut room = self.room.lock();
        room.collections += 1;
        room.freed += bytes;
    }

    /// A put was refused.
    pub fn refused(&self) {
        self.room.lock().refused += 1;
    }

    /// Bytes that are left; `None` where there is no bound.
    pub fn left(&self) -> Option<u64> {
        self.max().map(|max| max.saturating_sub(self.used.load(Ordering::Acquire)))
    }

    /// Whether over 90 % are used: then room is to be made.
    pub fn is_high(&self) -> bool {
        self.max().is_some_and(|max| self.used.load(Ordering::Acquire) > max - max / 10)
    }

    /// Blocks take so many bytes now.
    pub fn now(&self, used: u64) {
        self.used.store(used, Ordering::Release);
        if self.is_high() {
            self.call(&mut self.calls.lock());
        }
    }

    /// Calls the keeper, unless it rests. Says whether a round is under way or about to begin.
    fn call(&self, calls: &mut Calls) -> bool {
        if !calls.called && calls.kept && calls.rests_until.is_none_or(|until| Instant::now() >= until) {
            calls.called = true;
            self.changed.notify_all();
        }
        calls.called
    }

    /// Has room made for so many bytes, and waits for it. `false`: it makes no sense to try again.
    pub fn make_room(&self, bytes: u64) -> bool {
        let mut calls = self.calls.lock();
        if self.max().is_some_and(|max| bytes > max) {
            return false;
        }
        calls.needed = calls.needed.max(bytes);
        if !self.call(&mut calls) {
            return false;
        }
        let before = calls.rounds;
        while calls.kept && calls.rounds == before {
            self.changed.wait(&mut calls);
        }
        calls.rounds > before
    }

    /// The keeper waits to be called. `false`: the store is closed.
    pub fn is_called(&self) -> bool {
        let mut calls = self.calls.lock();
        while calls.kept && !calls.called {
            self.changed.wait(&mut calls);
        }
        calls.kept
    }

    /// Whether there is room for whoever waits, and some more.
    pub fn has_room(&self) -> bool {
        let needed = self.calls.lock().needed;
        !self.is_high() && self.left().is_none_or(|left| left >= needed)
    }

    /// The keeper has done what it can, since a time.
    pub fn done(&self, begun: Instant) {
        let mut calls = self.calls.lock();
        calls.called = false;
        calls.needed = 0;
        calls.rounds += 1;
        calls.rests_until = Some(Instant::now() + REST.max(begun.elapsed() * REST_TIMES));
        self.changed.notify_all();
    }

    /// Nobody makes room any more.
    pub fn close(&self) {
        self.calls.lock().kept = false;
        self.changed.notify_all();
    }
}
