//! Content and the DHT: what is not found at connected peers is looked for there, and what is pinned is announced.

use cid::Cid;
use futures::future::join_all;
use libp2p::PeerId;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use timerose_content::{Fetch, FetchError, pin};
use timerose_core::failure::{self, Failure};
use timerose_core::id::NodeId;

use super::{Driver, FETCH_MAX, archive, blocking, of_fetch, of_store};
use crate::finder::Provider;
use crate::keys::peer_of;
use crate::ports::{AddHow, Added, Holder, Holders, Imported, WorkSender};

/// Times that one fetch looks for providers: each time of those who were not asked before.
const LOOK_UPS: usize = 4;
/// Roots that are looked up beside the block that is missing: inner blocks are not announced.
const ROOTS: usize = 4;

impl Driver {
    /// Brings content here and says how many bytes came from peers: from those connected, or else from whom the DHT names.
    pub(super) async fn fetch(&self, roots: Vec<Cid>, recursive: bool, hints: &[NodeId]) -> Result<u64, Failure> {
        let mut hints: Vec<PeerId> = hints.iter().filter_map(peer_of).collect();
        let mut tried = BTreeSet::new();
        let mut missed = BTreeSet::new();
        let mut look_ups = 0;
        loop {
            let request = Fetch { roots: roots.clone(), hints: hints.clone(), recursive, limit_bytes: FETCH_MAX };
            let error = match self.0.content.fetch(request).await {
                Ok(fetched) => return Ok(fetched.bytes),
                Err(error) => error,
            };
            let missing = match &error {
                FetchError::NotFound { cid, .. } if look_ups < LOOK_UPS => *cid,
                _ => return Err(named(of_fetch(error), &tried, &missed)),
            };
            look_ups += 1;
            let keys: BTreeSet<Cid> = roots.iter().take(ROOTS).copied().chain([missing]).collect();
            let finder = &self.0.routes.finder;
            let found = join_all(keys.into_iter().map(|cid| finder.reach(cid, tried.clone()))).await;
            let (found, out_of_reach): (Vec<Provider>, Vec<Provider>) =
                found.into_iter().flatten().partition(|provider| provider.connected);
            let found: BTreeSet<PeerId> = found.into_iter().map(|provider| provider.peer).collect();
            missed.extend(out_of_reach.into_iter().map(|provider| provider.peer));
            if found.is_empty() {
                return Err(named(of_fetch(error), &tried, &missed));
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

    /// Whether a block is here, who is connected and has it, and who has it by the DHT.
    pub(super) async fn providers(&self, cid: Cid) -> Result<Holders, Failure> {
        let content = self.0.content.clone();
        let here = blocking(move || content.store().has(&cid).map_err(|e| of_store(&e))).await?;
        let (said, named) = futures::join!(self.0.content.survey(cid), self.0.routes.finder.find(cid));
        let asked = said.have.len() + said.have_not.len() + said.silent.len();
        let says = |peer: &PeerId| match peer {
            peer if said.have.contains(peer) => Some(true),
            peer if said.have_not.contains(peer) => Some(false),
            _ => None,
        };
        let mut providers: BTreeMap<PeerId, Holder> = BTreeMap::new();
        for Provider { peer, addrs, connected } in named {
            providers.insert(peer, Holder { peer, addrs, connected, by_dht: true, says: says(&peer) });
        }
        for peer in &said.have {
            let unnamed = Holder { peer: *peer, addrs: Vec::new(), connected: true, by_dht: false, says: Some(true) };
            providers.entry(*peer).or_insert(unnamed);
        }
        Ok(Holders { here, providers: providers.into_values().collect(), asked, silent: said.silent.len() })
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

/// The same failure with those who were said to have what was not found: who was asked for it, and who could not be.
fn named(failure: Failure, tried: &BTreeSet<PeerId>, missed: &BTreeSet<PeerId>) -> Failure {
    let Failure::NotFound { cid, asked, .. } = failure else { return failure };
    let of = |peers: &BTreeSet<PeerId>, why: &str| {
        let provider = |peer: &PeerId| failure::Provider { peer: peer.to_string(), why: why.to_string() };
        peers.iter().map(provider).collect::<Vec<_>>()
    };
    let out_of_reach: BTreeSet<PeerId> = missed.difference(tried).copied().collect();
    let mut failed = of(&out_of_reach, "it cannot be reached");
    failed.extend(of(tried, "it did not give it"));
    Failure::not_given(cid, asked, failed)
}
