//! One fetch: walks a DAG depth first, asking the engine for what the store does not have.

use super::Exchange;
use super::engine::Command;
use super::session::Update;
use crate::block::{self, BlockError, RAW, SHA2_256};
use crate::blockstore::{Blockstore, StoreError};
use cid::Cid;
use libp2p::PeerId;
use std::collections::{BTreeMap, HashSet};
use tokio::sync::mpsc;

/// Blocks that one fetch has asked for and not received: more would let a wide DAG take all memory, fewer would leave fast peers idle.
const WINDOW: usize = 256;
/// CIDs that are looked up in the store at once.
const LOOK_UP: usize = 64;
/// CIDs that a fetch may know of and not have visited. Beyond it: [`FetchError::TooLarge`].
pub const MAX_FRONTIER: usize = 1 << 18;
/// Blocks in one fetch. Beyond it: [`FetchError::TooLarge`].
pub const MAX_FETCH_BLOCKS: usize = 1 << 20;

/// What to fetch.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// The blocks, or the roots of DAGs.
    pub roots: Vec<Cid>,
    /// Peers that are believed to have them, and are asked first. Those that are not connected do not count.
    pub hints: Vec<PeerId>,
    /// Whether to follow the links of dag-pb and dag-cbor blocks; blocks of other codecs are leaves.
    pub recursive: bool,
    /// Bytes that may come over the network; what is in flight when it is passed comes on top.
    pub limit_bytes: u64,
}

/// What came over the network. Blocks that were here already do not count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fetched {
    /// Blocks.
    pub blocks: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Bytes by the peer that sent them.
    pub from: BTreeMap<PeerId, u64>,
}

/// Why a fetch ended early. What had come is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Nobody who is connected has it.
    #[error("{cid} was not found: {asked} peers asked, {silent} of them silent")]
    NotFound {
        /// The block.
        cid: Cid,
        /// Peers that were asked.
        asked: usize,
        /// Peers of these that never answered.
        silent: usize,
    },
    /// More bytes than were allowed.
    #[error("the fetch passes its limit of {limit} bytes")]
    LimitExceeded {
        /// The limit.
        limit: u64,
    },
    /// More blocks, or more links waiting, than any fetch may have.
    #[error("the DAG is too large: over {MAX_FETCH_BLOCKS} blocks, or {MAX_FRONTIER} links waiting")]
    TooLarge,
    /// A block that was followed is malformed, or one was asked for whose hash cannot be checked.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node is shutting down.
    #[error("the exchange has ended")]
    Closed,
}

/// What a look-up found.
#[derive(Default)]
struct Looked {
    missing: Vec<Cid>,
    links: Vec<Cid>,
}

struct Walk {
    recursive: bool,
    limit: u64,
    /// Links to visit; the next is the last.
    frontier: Vec<Cid>,
    seen: HashSet<Cid>,
    outstanding: usize,
    fetched: Fetched,
}

impl Exchange {
    /// Fetches what is missing. It is durable here when this returns. Dropping the future takes the wants back within a tick.
    pub async fn fetch(&self, request: Fetch) -> Result<Fetched, FetchError> {
        let mut walk = Walk {
            recursive: request.recursive,
            limit: request.limit_bytes,
            frontier: Vec::new(),
            seen: HashSet::new(),
            outstanding: 0,
            fetched: Fetched::default(),
        };
        walk.push(request.roots)?;
        let id = self.next_id();
        // Room for an answer to every want, so that the engine never waits for a fetch.
        let (sender, mut updates) = mpsc::channel(WINDOW + LOOK_UP);
        self.command(Command::Open { id, hints: request.hints, updates: sender }).await?;
        loop {
            while walk.outstanding < WINDOW {
                let cids = walk.next();
                if cids.is_empty() {
                    break;
                }
                let (store, recursive) = (self.store.clone(), walk.recursive);
                let looked = tokio::task::spawn_blocking(move || look_up(&store, &cids, recursive)).await;
                let Looked { missing, links } = looked.map_err(|_| FetchError::Closed)??;
                walk.push(links)?;
                if !missing.is_empty() {
                    walk.outstanding += missing.len();
                    self.command(Command::Want { id, cids: missing }).await?;
                }
            }
            if walk.outstanding == 0 {
                return Ok(walk.fetched);
            }
            walk.take(updates.recv().await.ok_or(FetchError::Closed)?)?;
            while let Ok(update) = updates.try_recv() {
                walk.take(update)?;
            }
        }
    }

    async fn command(&self, command: Command) -> Result<(), FetchError> {
        self.commands.send(command).await.map_err(|_| FetchError::Closed)
    }
}

impl Walk {
    fn push(&mut self, links: Vec<Cid>) -> Result<(), FetchError> {
        let new = links.into_iter().rev().filter(|cid| !self.seen.contains(cid));
        self.frontier.extend(new);
        if self.frontier.len() > MAX_FRONTIER { Err(FetchError::TooLarge) } else { Ok(()) }
    }

    /// The next CIDs to visit, each once.
    fn next(&mut self) -> Vec<Cid> {
        let mut cids = Vec::new();
        while cids.len() < LOOK_UP {
            let Some(cid) = self.frontier.pop() else { break };
            if self.seen.insert(cid) {
                cids.push(cid);
            }
        }
        cids
    }

    fn take(&mut self, update: Update) -> Result<(), FetchError> {
        match update {
            Update::NotFound { cid, asked, silent } => return Err(FetchError::NotFound { cid, asked, silent }),
            Update::Store(error) => return Err(error.into()),
            Update::Landed { cid } => {
                self.outstanding -= 1;
                self.seen.remove(&cid);
                self.frontier.push(cid);
            }
            Update::Got { size, from, links } => {
                self.outstanding -= 1;
                self.fetched.blocks += 1;
                self.fetched.bytes += size;
                *self.fetched.from.entry(from).or_default() += size;
                if self.fetched.bytes > self.limit {
                    return Err(FetchError::LimitExceeded { limit: self.limit });
                }
                if self.recursive {
                    self.push(followable(links)?)?;
                }
            }
        }
        if self.seen.len() > MAX_FETCH_BLOCKS { Err(FetchError::TooLarge) } else { Ok(()) }
    }
}

/// Blocks of codecs that we cannot read are leaves.
fn followable(links: Result<Vec<Cid>, BlockError>) -> Result<Vec<Cid>, BlockError> {
    match links {
        Err(BlockError::UnsupportedCodec { .. }) => Ok(Vec::new()),
        other => other,
    }
}

fn look_up(store: &Blockstore, cids: &[Cid], recursive: bool) -> Result<Looked, FetchError> {
    let mut looked = Looked::default();
    for cid in cids {
        if block::inline_data(cid).is_none() && cid.hash().code() != SHA2_256 {
            return Err(BlockError::UnsupportedHash { cid: *cid, code: cid.hash().code() }.into());
        }
        if !recursive || cid.codec() == RAW {
            if !store.has(cid)? {
                looked.missing.push(*cid);
            }
            continue;
        }
        match store.get(cid) {
            Ok(Some(data)) => looked.links.extend(followable(block::links(cid, &data))?),
            // What is corrupt here may be whole elsewhere.
            Ok(None) | Err(StoreError::Corrupt { .. }) => looked.missing.push(*cid),
            Err(other) => return Err(other.into()),
        }
    }
    Ok(looked)
}
