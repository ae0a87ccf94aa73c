//! A connected peer as the client sees it: what it was asked, and how far it can be trusted.

use super::outbox::Outbox;
use super::wire::{Want, WantKind};
use crate::block::MAX_BLOCK_BYTES;
use cid::Cid;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Blocks that a node of ours may be asked for at once.
pub const MAX_OPEN: usize = 64;
/// Blocks that any other peer may be asked for at once: Helia loses blocks beyond it.
pub const MAX_OPEN_FOREIGN: usize = 8;
/// Bytes that another peer may be asked for at once, as far as can be foretold. Helia answers all that it is asked in one message on a stream of its
/// own, and its yamux sends as much in one frame as our window has room for. Ours doubles from 256 KiB as the stream is read, and ends the
/// connection at a frame of over 1 MiB: a window so wide is there once 896 KiB are read, so that no frame of a message of 2 MiB is so long.
const FOREIGN_BYTES: usize = 2 << 20;
/// Blocks by whose sizes those of the next are foretold.
const SIZES: usize = 16;
/// Blocks that must have come until sizes are foretold at all: the first are roots and nodes, which say nothing about leaves.
const FIRST: usize = 4;
/// Blocks nobody asked for that a peer may send before it is named and disconnected.
pub const UNREQUESTED_BUDGET: u32 = 8;
/// A peer that sends bytes but no answer is as good as silent after so long.
pub const ASK_LIMIT: Duration = Duration::from_secs(30);
/// CIDs that are remembered as asked for once, so that a block which crosses its cancel is no offence.
const MAX_RECENT: usize = 4096;

/// What we have asked the peer about one CID.
struct Ask {
    kind: WantKind,
    /// Whether it takes one of the peer's places: a block was asked for and nothing was answered.
    open: bool,
}

/// One peer.
pub(super) struct Peer {
    outbox: Arc<Outbox>,
    asks: HashMap<Cid, Ask>,
    recent: HashSet<Cid>,
    recent_order: VecDeque<Cid>,
    /// Blocks asked for and not answered.
    pub open: usize,
    /// The last time that it answered something we had asked, or that we began to ask.
    pub active: Instant,
    /// When it was last chosen: equals take turns.
    pub turn: u64,
    /// Offences so far.
    strikes: u32,
    /// It lets what we send pile up.
    pub deaf: bool,
    /// It is a node of our own kind.
    pub ours: bool,
    /// Sizes of the last blocks that came, in turn.
    sizes: [usize; SIZES],
    came: usize,
}

impl Peer {
    pub fn new(outbox: Arc<Outbox>, now: Instant) -> Peer {
        let mut sizes = [0; SIZES];
        sizes[..FIRST].fill(MAX_BLOCK_BYTES);
        Peer {
            outbox,
            asks: HashMap::new(),
            recent: HashSet::new(),
            recent_order: VecDeque::new(),
            open: 0,
            active: now,
            turn: 0,
            strikes: 0,
            deaf: false,
            ours: false,
            sizes,
            came: 0,
        }
    }

    /// Whether another block may be asked for.
    pub fn has_room(&self) -> bool {
        if self.ours {
            return self.open < MAX_OPEN;
        }
        let largest = self.sizes.iter().max().map_or(1, |size| (*size).max(1));
        self.open < (FOREIGN_BYTES / largest).clamp(1, MAX_OPEN_FOREIGN)
    }

    /// A block of so many bytes has come.
    pub fn got(&mut self, bytes: usize) {
        self.sizes[self.came % SIZES] = bytes;
        self.came = self.came.wrapping_add(1);
    }

    /// It sent what was not taken, maybe as it was too large: from now on blocks are asked for one by one, until smaller ones have come.
    pub fn expect_large(&mut self) {
        self.sizes = [MAX_BLOCK_BYTES; SIZES];
    }

    /// Asks for a block, or who has it.
    pub fn ask(&mut self, now: Instant, cid: Cid, kind: WantKind) {
        self.close(&cid);
        let open = kind == WantKind::Block;
        if open && self.open == 0 {
            self.active = now;
        }
        self.open += usize::from(open);
        self.asks.insert(cid, Ask { kind, open });
        self.say(Want::Add { cid, kind, send_dont_have: true });
    }

    /// The last sign that answers are coming: one that came, or, within [`ASK_LIMIT`] of it, a part of a long message (`heard`).
    pub fn lively(&self, now: Instant, heard: Option<Instant>) -> Instant {
        match heard {
            Some(heard) if now.duration_since(self.active) <= ASK_LIMIT => self.active.max(heard),
            _ => self.active,
        }
    }

    /// Whether this was asked, now or a while ago.
    pub fn was_asked(&self, cid: &Cid) -> bool {
        self.asks.contains_key(cid) || self.recent.contains(cid)
    }

    /// It has answered about a CID: the place is free. What it does not have stays asked for, as it may send it later.
    pub fn close(&mut self, cid: &Cid) {
        if let Some(ask) = self.asks.get_mut(cid)
            && std::mem::take(&mut ask.open)
        {
            self.open -= 1;
        }
    }

    /// A CID is of no more interest; `tell` the peer, unless it has sent the block itself.
    pub fn forget(&mut self, cid: &Cid, tell: bool) {
        self.close(cid);
        if self.asks.remove(cid).is_none() {
            return;
        }
        if self.recent.insert(*cid) {
            self.recent_order.push_back(*cid);
        }
        if self.recent_order.len() > MAX_RECENT
            && let Some(old) = self.recent_order.pop_front()
        {
            self.recent.remove(&old);
        }
        if tell {
            self.say(Want::Cancel { cid: *cid });
        }
    }

    /// Says everything once more, after frames may have been lost.
    pub fn repeat(&mut self) {
        let asks: Vec<(Cid, WantKind)> = self.asks.iter().map(|(cid, ask)| (*cid, ask.kind)).collect();
        for (cid, kind) in asks {
            self.say(Want::Add { cid, kind, send_dont_have: true });
        }
    }

    /// Counts an offence. `true`: that was one too many.
    pub fn strike(&mut self) -> bool {
        self.strikes += 1;
        self.strikes == UNREQUESTED_BUDGET + 1
    }

    fn say(&mut self, want: Want) {
        self.deaf |= !self.outbox.say(want);
    }

    /// Hands the peer's own wants to its outbox.
    pub fn wants(&self, wants: &[Want], full: bool) {
        if full || !wants.is_empty() {
            self.outbox.want(wants, full);
        }
    }
}
