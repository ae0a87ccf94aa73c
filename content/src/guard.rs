//! What is in use: roots that a fetch, a call or an upload relies on now, or did a short while ago.

use cid::Cid;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Roots that are remembered after their use; beyond, those of the longest ago are forgotten.
const USES_MAX: usize = 65_536;

/// The roots in use. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Uses(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// How many hold it, and when it was let go last.
    roots: HashMap<Cid, (u32, Instant)>,
    /// Uploads that have not ended, and when each began.
    uploads: BTreeMap<u64, SystemTime>,
    next: u64,
}

/// Roots that are in use until this is dropped, and for a while after.
#[must_use = "nothing is held once this is dropped"]
pub struct Hold {
    uses: Uses,
    roots: Vec<Cid>,
}

/// An upload that has not ended: whatever is put from its beginning on is spared.
#[must_use = "nothing is spared once this is dropped"]
pub struct Upload {
    uses: Uses,
    number: u64,
}

impl Uses {
    pub fn hold(&self, roots: &[Cid]) -> Hold {
        let mut state = self.0.lock();
        for root in roots {
            state.roots.entry(*root).or_insert_with(|| (0, Instant::now())).0 += 1;
        }
        Hold { uses: self.clone(), roots: roots.to_vec() }
    }

    pub fn upload(&self) -> Upload {
        let mut state = self.0.lock();
        state.next += 1;
        let number = state.next;
        state.uploads.insert(number, SystemTime::now());
        Upload { uses: self.clone(), number }
    }

    /// Roots that are held, or were within `grace`.
    pub fn roots(&self, grace: Duration) -> Vec<Cid> {
        let state = self.0.lock();
        let recent = state.roots.iter().filter(|(_, (held, last))| *held > 0 || last.elapsed() < grace);
        recent.map(|(root, _)| *root).collect()
    }

    /// When the oldest upload under way began.
    pub fn oldest_upload(&self) -> Option<SystemTime> {
        self.0.lock().uploads.values().min().copied()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.uses.0.lock();
        for root in &self.roots {
            if let Some((held, last)) = state.roots.get_mut(root) {
                *held -= 1;
                *last = Instant::now();
            }
        }
        if state.roots.len() > USES_MAX {
            // Half of them at once, so that it is not done for each.
            let mut times: Vec<Instant> = state.roots.values().filter(|(held, _)| *held == 0).map(|(_, last)| *last).collect();
            let middle = times.len() / 2;
            if let Some((_, &mut middle, _)) = (middle < times.len()).then(|| times.select_nth_unstable(middle)) {
                state.roots.retain(|_, (held, last)| *held > 0 || *last > middle);
            }
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.uses.0.lock().uploads.remove(&self.number);
    }
}
