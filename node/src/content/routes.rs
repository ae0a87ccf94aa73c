//! Content and the DHT: what is not found at connected peers is looked for there, and what is pinned is announced.

use cid::Cid;
use futures::future::join_all;
use libp2p::PeerId;
use std::collections::BTreeSet;
use std::io::Read;
use timerose_content::{Fetch, FetchError, pin};
use timerose_core::failure::Failure;
use timerose_core::id::NodeId;

use super::{Driver, FETCH_MAX, archive, blocking, of_fetch, of_store};
use crate::finder::Provider;
use crate::keys::peer_of;
use crate::ports::{AddHow, Added, Imported, WorkSender};

/// Times that one fetch looks for providers: each time of those who were not asked before.
const LOOK_UPS: usize = 4;
/// Roots that are looked up beside the block that is missing: inner blocks are not announced.
const ROOTS: usize = 4;

impl Driver {
    /// Brings content here and says how many bytes came from peers: from those connected, or else from whom the DHT names.
    pub(super) async fn fetch(&self, roots: Vec<Cid>, recursive: bool, hints: &[NodeId]) -> Result<u64, Failure> {
        let mut hints: Vec<PeerId> = hints.iter().filter_map(peer_of).collect();
        let mut tried = BTreeSet::new();
        loop {
            let request = Fetch { roots: roots.clone(), hints: hints.clone(), recursive, limit_bytes: FETCH_MAX };
            let error = match self.0.content.fetch(request).await {
                Ok(fetched) => return Ok(fetched.bytes),
                Err(error) => error,
            };
            let missing = match &error {
                FetchError::NotFound { cid, .. } if tried.len() < LOOK_UPS => *cid,
                _ => return Err(of_fetch(error)),
            };
            let keys: BTreeSet<Cid> = roots.iter().take(ROOTS).copied().chain([missing]).collect();
            let finder = &self.0.routes.finder;
            let found = join_all(keys.into_iter().map(|cid| finder.reach(cid, tried.clone()))).await;
            let found: BTreeSet<PeerId> = found.into_iter().flatten().collect();
            if found.is_empty() {
                return Err(of_fetch(error));
            }
            hints.splice(0..0, found.iter().copied());
            tried.extend(found);
        }
    }

    /// Adds a file or an archive, and announces what is pinned of it.
    pub(super) async fn add(&self, source: Box<dyn Read + Send>, how: AddHow, work: WorkSender) -> Result<Added, Failure> {
        let driver = self.clone();
        let added = blocking(move || driver.0.imports.add(&driver.0.content, source, how, &work)).await?;
        if how.pin {
            self.0.routes.announcements.root(&added.cid);
        }
        Ok(added)
    }

    /// Takes a CAR in, and announces what is pinned of it.
    pub(super) async fn import_car(&self, source: Box<dyn Read + Send>, pin: bool) -> Result<Imported, Failure> {
        let content = self.0.content.clone();
        let imported = blocking(move || archive::import_car(&content, source, pin)).await?;
        let pinned = imported.roots.iter().filter(|(_, pinned, _)| *pinned);
        pinned.for_each(|(cid, ..)| self.0.routes.announcements.root(cid));
        Ok(imported)
    }

    /// Whether a block is here, and who else has it by the DHT.
    pub(super) async fn providers(&self, cid: Cid) -> Result<(bool, Vec<Provider>), Failure> {
        let content = self.0.content.clone();
        let here = blocking(move || content.store().has(&cid).map_err(|e| of_store(&e))).await?;
        Ok((here, self.0.routes.finder.find(cid).await))
    }

    /// Announces what was pinned in an earlier life of this node.
    pub(super) fn announce_pins(&self) {
        let driver = self.clone();
        tokio::task::spawn_blocking(move || {
            let mut last = None;
            loop {
                let page = match pin::page(driver.0.content.store(), last.as_ref()) {
                    Ok(page) => page,
                    Err(error) => return tracing::warn!(%error, "pins cannot be read, and are not announced"),
                };
                let Some(end) = page.last() else { return };
                last = Some(end.cid);
                page.iter().for_each(|pin| driver.0.routes.announcements.root(&pin.cid));
            }
        });
    }
}
