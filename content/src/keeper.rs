//! The keeper: a thread that collects garbage when the store is nearly full, for as long as the store is open.
//!
//! Each round spares less of what is young, until there is room. What was put or used in the last seconds always stays: whoever was told of a result
//! must find the time to ask for it.

use crate::blockstore::{BIRTH_EVERY, Blockstore, Bound, StoreError};
use crate::gc::{self, GcError, Spare};
use crate::guard::Uses;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For how long what is young is spared, in the order in which it is tried.
const GRACES: [Duration; 3] = [gc::GRACE, Duration::from_secs(300), Duration::from_secs(10)];
// How young a block is must be known as exactly as that.
const _: () = assert!(BIRTH_EVERY.as_secs() <= GRACES[GRACES.len() - 1].as_secs());
/// How often it is looked whether somebody else's collection has ended.
const POLL: Duration = Duration::from_millis(100);

/// Names further roots, as often as it is asked; see [`Spare`].
pub type KeptRoots = dyn Fn(&mut dyn FnMut(Spare) -> Result<(), GcError>) -> Result<(), GcError> + Send;

/// Bounds a store and starts its keeper, once.
pub(crate) fn start(store: &Blockstore, uses: Uses, dir: PathBuf, max: u64, roots: Box<KeptRoots>) -> Result<(), StoreError> {
    let (bound, weak) = (store.bound().clone(), store.weak());
    if !bound.set(max) {
        return Ok(());
    }
    let failed = |e: std::io::Error| StoreError::io("start the keeper of", store.path(), &e);
    let keep = move || {
        let _closes = Closes(bound.clone());
        while bound.is_called() {
            let begun = Instant::now();
            let Some(store) = weak.get() else { return };
            make_room(&store, &bound, &uses, &dir, &*roots);
            drop(store);
            bound.done(begun);
        }
    };
    std::thread::Builder::new().name("keeper".into()).spawn(keep).map_err(failed)?;
    // It may be fuller than it may be now.
    store.bound().now(store.stat()?.bytes);
    Ok(())
}

/// Lets nobody wait for a keeper that has ended, however it did.
struct Closes(Arc<Bound>);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn make_room(store: &Blockstore, bound: &Bound, uses: &Uses, dir: &Path, roots: &KeptRoots) {
    for grace in GRACES {
        match collect(store, uses, dir, grace, roots) {
            Ok(report) => {
                tracing::info!(removed = report.removed, freed = report.freed, ?grace, "collected garbage to make room")
            }
            Err(GcError::Stopped) => return,
            Err(error) => return tracing::warn!(%error, "the store is nearly full, and garbage cannot be collected"),
        }
        if bound.has_room() || store.is_last() {
            return;
        }
    }
    tracing::warn!(max = bound.max(), "the store is nearly full of what is pinned, in use or young");
}

fn collect(store: &Blockstore, uses: &Uses, dir: &Path, grace: Duration, roots: &KeptRoots) -> Result<gc::Report, GcError> {
    loop {
        let collected = gc::collect(store, uses, dir, grace, &mut |spare| roots(spare), &mut |_| !store.is_last());
        match collected {
            Err(GcError::Running) if !store.is_last() => std::thread::sleep(POLL),
            other => return other,
        }
    }
}
