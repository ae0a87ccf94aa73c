//! What a collection of garbage needs of the store: which blocks were used while it runs, and when blocks came.
//!
//! While a collection runs, every block that is asked for or put is noted. The writer removes blocks in its turn, those noted excepted; from the
//! moment of that choice until they are gone, blocks that are to go count as absent. So nobody is told that a block is here that then goes.

use crate::block::{Block, Multihash};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Blocks that may be noted as used during one collection; beyond, it removes nothing more.
const USED_MAX: usize = 1 << 20;
/// The table of births: time and number, then the digests of the blocks that were put then.
pub(super) const BIRTHS: &str = "births";
/// Blocks that are put again within this time are not written down again. It is the shortest time for which the keeper spares what is young.
pub(crate) const BIRTH_EVERY: Duration = Duration::from_secs(10);
/// Blocks that are remembered for that; beyond, they are written down again.
const RECENT_MAX: usize = 65_536;
/// Writes after which the oldest births are looked at, and how many of them.
const PRUNE_EVERY: u32 = 1024;
pub(super) const PRUNE: usize = 2048;
/// How long births are kept: the longest time for which a collection may spare young blocks.
pub const MAX_GRACE: Duration = Duration::from_secs(24 * 3600);

/// A sha2-256 digest: all that this store holds.
type Key = [u8; 32];

fn key(hash: &Multihash) -> Key {
    let mut key = [0; 32];
    let digest = hash.digest();
    let length = digest.len().min(32);
    key[..length].copy_from_slice(&digest[..length]);
    key
}

#[derive(Default)]
struct State {
    used: HashSet<Key>,
    full: bool,
    doomed: HashSet<Key>,
    removed: u64,
    freed: u64,
}

/// The state of a collection, if one runs.
#[derive(Default)]
pub(super) struct Sweep {
    running: AtomicBool,
    state: Mutex<State>,
}

impl Sweep {
    /// Begins to note what is used. `false`: another collection runs.
    pub fn begin(&self) -> bool {
        let mut state = self.state.lock();
        if self.running.load(Ordering::Acquire) {
            return false;
        }
        *state = State::default();
        self.running.store(true, Ordering::Release);
        true
    }

    pub fn end(&self) {
        let mut state = self.state.lock();
        self.running.store(false, Ordering::Release);
        *state = State::default();
    }

    /// Notes that somebody relies on a block. `false`: it is on its way out, and counts as absent.
    pub fn claim(&self, hash: &Multihash) -> bool {
        !self.running.load(Ordering::Acquire) || self.state.lock().claim(key(hash))
    }

    /// As [`Sweep::claim`] for blocks that are put: one that was on its way out is gone when its put comes to its turn.
    pub fn claim_all(&self, blocks: &[&Block]) {
        if self.running.load(Ordering::Acquire) {
            let mut state = self.state.lock();
            for block in blocks {
                state.claim(key(block.cid().hash()));
            }
        }
    }

    /// Which of these may go: from now on they count as absent.
    pub fn doom(&self, hashes: &[Multihash]) -> Vec<Multihash> {
        let mut state = self.state.lock();
        if state.full || !self.running.load(Ordering::Acquire) {
            return Vec::new();
        }
        let doomed: Vec<Multihash> = hashes.iter().filter(|hash| !state.used.contains(&key(hash))).copied().collect();
        state.doomed.extend(doomed.iter().map(key));
        doomed
    }

    /// They are gone, or could not be removed.
    pub fn gone(&self, blocks: u64, bytes: u64) {
        let mut state = self.state.lock();
        state.doomed.clear();
        state.removed += blocks;
        state.freed += bytes;
    }

    /// Blocks and bytes removed so far, and whether more are in use than can be noted.
    pub fn so_far(&self) -> (u64, u64, bool) {
        let state = self.state.lock();
        (state.removed, state.freed, state.full)
    }
}

impl State {
    fn claim(&mut self, key: Key) -> bool {
        if self.doomed.contains(&key) {
            return false;
        }
        if self.used.len() < USED_MAX {
            self.used.insert(key);
        } else if !self.used.contains(&key) {
            self.full = true;
        }
        true
    }
}

/// When blocks came, in the writer's hands.
#[derive(Default)]
pub(super) struct Births(Mutex<Recent>);

#[derive(Default)]
struct Recent {
    since: Option<std::time::Instant>,
    noted: HashSet<Key>,
    number: u32,
}

impl Births {
    /// The record of blocks that are put now, whether they are here already or not; `None` if that is written down already. With it comes
    /// whether the oldest records should be looked at.
    pub fn record(&self, blocks: &[&Block]) -> Option<(Vec<u8>, Vec<u8>, bool)> {
        let mut recent = self.0.lock();
        if recent.noted.len() >= RECENT_MAX || recent.since.is_none_or(|since| since.elapsed() >= BIRTH_EVERY) {
            recent.noted.clear();
            recent.since = Some(std::time::Instant::now());
        }
        let fresh: Vec<Key> =
            blocks.iter().map(|block| key(block.cid().hash())).filter(|key| recent.noted.insert(*key)).collect();
        if fresh.is_empty() {
            return None;
        }
        recent.number = recent.number.wrapping_add(1);
        let name = [&time_key(SystemTime::now())[..], &recent.number.to_be_bytes()].concat();
        Some((name, fresh.concat(), recent.number.is_multiple_of(PRUNE_EVERY)))
    }

    /// Records even blocks anew that were recorded a moment ago.
    pub fn forget(&self) {
        self.0.lock().noted.clear();
    }
}

/// Where the records of a time begin in the table.
pub(super) fn time_key(time: SystemTime) -> [u8; 8] {
    let nanos = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    u64::try_from(nanos).unwrap_or(u64::MAX).to_be_bytes()
}

/// The digests of a record.
pub(super) fn digests(record: &[u8]) -> impl Iterator<Item = &Key> {
    record.as_chunks::<32>().0.iter()
}
