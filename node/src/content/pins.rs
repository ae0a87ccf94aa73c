//! Pins, blocks that are kept for others, and the collection of garbage.

use cid::Cid;
use std::sync::Arc;
use std::time::Duration;
use timerose_content::gc::GcError;
use timerose_content::pin::{self, Mode, Pin};
use timerose_content::{Content, ContentError};
use timerose_core::failure::Failure;
use timerose_core::id::NodeId;
use tokio::sync::mpsc;

use super::{Driver, blocking, of_content, of_store};
use crate::ports::{GcNews, Needs};

/// How long a promise may take to be written: far more than it does.
const PROMISE_WAIT: Duration = Duration::from_secs(60);
/// Times that what a collection took away in between is fetched again.
const TRIES: usize = 3;

impl Driver {
    /// Brings what is to be pinned here, and pins it.
    pub(super) async fn pin(&self, pin: Pin) -> Result<(), Failure> {
        let _hold = self.0.content.hold(&[pin.cid]);
        let mut tries = 0;
        loop {
            if !pin.partial {
                self.fetch(vec![pin.cid], pin.mode == Mode::Recursive, &[]).await?;
            }
            let (content, wanted) = (self.0.content.clone(), pin.clone());
            let pinned = tokio::task::spawn_blocking(move || content.pin(&wanted)).await;
            tries += 1;
            match pinned {
                Ok(Ok(())) => {
                    self.0.routes.announcements.root(&pin.cid);
                    return Ok(());
                }
                Ok(Err(ContentError::Missing { .. })) if tries < TRIES && !pin.partial => {}
                Ok(Err(error)) => return Err(of_content(error)),
                Err(ended) => return Err(Failure::NodeFailed { what: format!("pinning ended early: {ended}") }),
            }
        }
    }

    /// Removes a pin, and gives it.
    pub(super) async fn unpin(&self, cid: Cid) -> Result<Option<Pin>, Failure> {
        let content = self.0.content.clone();
        let removed = blocking(move || pin::remove(content.store(), &cid).map_err(|e| of_store(&e))).await?;
        self.0.routes.announcements.withdraw(&cid);
        Ok(removed)
    }

    /// Brings blocks here that are kept for others.
    pub(super) async fn keep(&self, cids: Vec<Cid>, hints: &[NodeId]) -> Result<u64, Failure> {
        let _hold = self.0.content.hold(&cids);
        let bytes = self.fetch(cids.clone(), false, hints).await?;
        let content = self.0.content.clone();
        blocking(move || pin::keep(content.store(), &cids).map_err(|e| of_store(&e))).await?;
        Ok(bytes)
    }

    /// Brings the result of promised work here. It is spared until the promise that names it stands in the journal, whatever grace a collection is
    /// given.
    pub(super) async fn fetch_for_promise(&self, roots: Vec<Cid>, recursive: bool, hints: &[NodeId]) -> Result<u64, Failure> {
        let hold = self.0.content.hold(&roots);
        let fetched = self.fetch(roots, recursive, hints).await;
        tokio::spawn(async move {
            tokio::time::sleep(PROMISE_WAIT).await;
            drop(hold);
        });
        fetched
    }
}

/// Pins what an import has put: all of it is here, unless it was spread. A pin that is there already keeps its name.
pub(super) fn pin_import(content: &Content, cid: Cid, partial: bool) -> Result<(), Failure> {
    let before = pin::get(content.store(), &cid).map_err(|e| of_store(&e))?;
    let name = match before {
        Some(pin) if pin.mode == Mode::Recursive && pin.partial <= partial => return Ok(()),
        other => other.map(|pin| pin.name).unwrap_or_default(),
    };
    pin::put(content.store(), &Pin { partial, name, ..Pin::recursive(cid) }).map_err(|e| of_store(&e))
}

/// Collects garbage at a user's request; ends when nobody listens any more.
pub(super) async fn collect(content: Content, grace: Duration, needs: Vec<Arc<dyn Needs>>, news: mpsc::Sender<GcNews>) {
    let heard = news.clone();
    let collected = blocking(move || {
        let mut tell = |progress| {
            // Whoever is slow to take progress misses some.
            let _ = heard.try_send(GcNews::Progress(progress));
            !heard.is_closed()
        };
        content
            .collect_garbage(grace, &mut |spare| needs.iter().try_for_each(|needs| needs.each(spare)), &mut tell)
            .map_err(of_gc)
    });
    let _ = news.send(GcNews::Ended(collected.await)).await;
}

fn of_gc(error: GcError) -> Failure {
    match error {
        GcError::Running | GcError::TooBusy => Failure::Overloaded { retry_after_ms: 60_000 },
        GcError::Stopped => Failure::Cancelled,
        GcError::Store(error) => of_store(&error),
        incomplete @ GcError::Incomplete { .. } => Failure::NodeFailed { what: incomplete.to_string() },
    }
}
