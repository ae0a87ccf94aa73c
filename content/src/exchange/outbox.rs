//! What one peer is to be sent: our wants, and what is due on its own. One task per peer empties it, so that both share messages.

use super::wire::{Want, WantKind};
use crate::block::Multihash;
use cid::Cid;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet, VecDeque};
use tokio::sync::Notify;

/// Our wants and cancels that may wait for a peer. A peer that lets more pile up does not read, and is disconnected.
pub const MAX_OUT_ENTRIES: usize = 16_384;
/// Wants of a peer that are remembered, due and unmet together. Beyond it the oldest is forgotten, an unmet one first.
pub const MAX_WANTLIST: usize = 4096;

/// A want of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub cid: Cid,
    pub kind: WantKind,
    pub send_dont_have: bool,
}

#[derive(Default)]
struct State {
    /// The latest word on each CID that the peer has not been sent yet.
    entries: HashMap<Cid, Want>,
    order: VecDeque<Cid>,
    /// Wants to be looked up now, in the order in which they came.
    due: VecDeque<Wanted>,
    /// Wants that could not be met, by hash: to be met when the block comes. The order is that of their numbers.
    unmet: HashMap<Multihash, (u64, Wanted)>,
    /// Wants that the peer has taken back while they were being looked up.
    cancelled: HashSet<Cid>,
    looking_up: bool,
    next_number: u64,
    closed: bool,
}

/// One peer's outbox.
#[derive(Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    ready: Notify,
}

/// What is taken out at once.
#[derive(Default)]
pub(super) struct Batch {
    pub entries: Vec<Want>,
    pub due: Vec<Wanted>,
}

impl Outbox {
    /// Queues a want or a cancel of ours; the latest word on a CID replaces an earlier one. `false`: the peer is not reading.
    pub fn say(&self, want: Want) -> bool {
        let mut state = self.state.lock();
        let cid = want.cid();
        if state.entries.insert(cid, want).is_none() {
            state.order.push_back(cid);
        }
        let fits = state.entries.len() <= MAX_OUT_ENTRIES;
        drop(state);
        self.ready.notify_one();
        fits
    }

    /// Takes the peer's own wants; `full` replaces all that it wanted before. The last word on a CID in one message counts.
    pub fn want(&self, wants: &[Want], full: bool) {
        let last: HashMap<Cid, usize> = wants.iter().enumerate().map(|(at, want)| (want.cid(), at)).collect();
        let gone: HashSet<Cid> =
            wants.iter().enumerate().filter(|(at, w)| w.is_cancel() && last[&w.cid()] == *at).map(|(_, w)| w.cid()).collect();
        let mut state = self.state.lock();
        if full {
            state.due.clear();
            state.unmet.clear();
        }
        if !gone.is_empty() {
            state.due.retain(|wanted| !gone.contains(&wanted.cid));
        }
        for (_, want) in wants.iter().enumerate().filter(|(at, want)| last[&want.cid()] == *at) {
            state.unmet.remove(want.cid().hash());
            match *want {
                Want::Add { cid, kind, send_dont_have } => {
                    state.cancelled.remove(&cid);
                    state.due.push_back(Wanted { cid, kind, send_dont_have });
                }
                Want::Cancel { cid } if state.looking_up => drop(state.cancelled.insert(cid)),
                Want::Cancel { .. } => {}
            }
        }
        state.trim();
        drop(state);
        self.ready.notify_one();
    }

    /// Remembers wants that could not be met.
    pub fn keep_unmet(&self, wants: &[Wanted]) {
        let mut state = self.state.lock();
        for wanted in wants {
            if !state.cancelled.contains(&wanted.cid) {
                let number = state.next_number;
                state.next_number += 1;
                state.unmet.insert(*wanted.cid.hash(), (number, *wanted));
            }
        }
        state.trim();
    }

    /// Blocks have come: what waited for them is due.
    pub fn came(&self, hashes: &[Multihash]) {
        let mut state = self.state.lock();
        let before = state.due.len();
        for hash in hashes {
            if let Some((_, wanted)) = state.unmet.remove(hash) {
                state.due.push_back(wanted);
            }
        }
        let more = state.due.len() > before;
        drop(state);
        if more {
            self.ready.notify_one();
        }
    }

    /// Nothing more is to be sent.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.ready.notify_one();
    }

    /// Waits for something to send, and takes up to `most` wants of each side. `None`: the outbox is closed.
    pub async fn take(&self, most: usize) -> Option<Batch> {
        loop {
            let ready = self.ready.notified();
            if self.state.lock().closed {
                return None;
            }
            if let Some(batch) = self.try_take(most) {
                return Some(batch);
            }
            ready.await;
        }
    }

    pub(super) fn try_take(&self, most: usize) -> Option<Batch> {
        let mut state = self.state.lock();
        let mut batch = Batch::default();
        while batch.entries.len() < most {
            let Some(cid) = state.order.pop_front() else { break };
            batch.entries.extend(state.entries.remove(&cid));
        }
        let due = most.min(state.due.len());
        batch.due.extend(state.due.drain(..due));
        state.looking_up = !batch.due.is_empty();
        (!batch.entries.is_empty() || !batch.due.is_empty()).then_some(batch)
    }

    /// Puts back wants that did not fit into a message, ahead of the others, and drops those that were taken back meanwhile.
    pub fn put_back(&self, rest: Vec<Wanted>) {
        let mut state = self.state.lock();
        state.looking_up = false;
        let cancelled = std::mem::take(&mut state.cancelled);
        for wanted in rest.into_iter().rev().filter(|wanted| !cancelled.contains(&wanted.cid)) {
            state.due.push_front(wanted);
        }
    }
}

impl State {
    fn trim(&mut self) {
        while self.due.len() > MAX_WANTLIST {
            self.due.pop_front();
        }
        let room = MAX_WANTLIST - self.due.len();
        if self.unmet.len() > room {
            let mut numbers: Vec<(u64, Multihash)> = self.unmet.iter().map(|(hash, (n, _))| (*n, *hash)).collect();
            numbers.sort_unstable_by_key(|(number, _)| *number);
            for (_, hash) in numbers.into_iter().take(self.unmet.len() - room) {
                self.unmet.remove(&hash);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{RAW, cid_v1};

    fn want(n: usize) -> Want {
        Want::Add { cid: cid_v1(RAW, &n.to_le_bytes()), kind: WantKind::Block, send_dont_have: true }
    }

    #[test]
    fn the_wantlist_forgets_the_oldest_beyond_its_bound() {
        let outbox = Outbox::default();
        let wants: Vec<Want> = (0..MAX_WANTLIST + 10).map(want).collect();
        outbox.want(&wants, false);
        let due = outbox.try_take(usize::MAX).unwrap().due;
        assert_eq!(due.len(), MAX_WANTLIST);
        assert_eq!(due[0].cid, cid_v1(RAW, &10usize.to_le_bytes()));
    }

    #[test]
    fn a_cancel_reaches_wants_that_are_due_unmet_or_being_looked_up() {
        let outbox = Outbox::default();
        let cid = cid_v1(RAW, &1usize.to_le_bytes());
        outbox.want(&[want(1), Want::Cancel { cid }], false);
        assert!(outbox.try_take(9).is_none());
        outbox.want(&[want(1)], false);
        let due = outbox.try_take(9).unwrap().due;
        outbox.want(&[Want::Cancel { cid }], false);
        outbox.keep_unmet(&due);
        outbox.put_back(due);
        outbox.came(&[*cid.hash()]);
        assert!(outbox.try_take(9).is_none());
    }

    #[test]
    fn an_unmet_want_is_due_when_its_block_comes() {
        let outbox = Outbox::default();
        outbox.want(&[want(1)], false);
        let due = outbox.try_take(9).unwrap().due;
        outbox.keep_unmet(&due);
        outbox.put_back(Vec::new());
        outbox.came(&[*due[0].cid.hash()]);
        assert_eq!(outbox.try_take(9).unwrap().due, due);
    }

    #[test]
    fn a_cancel_replaces_a_want_that_was_never_sent() {
        let outbox = Outbox::default();
        let cid = cid_v1(RAW, &1usize.to_le_bytes());
        outbox.say(want(1));
        outbox.say(Want::Cancel { cid });
        assert_eq!(outbox.try_take(9).unwrap().entries, vec![Want::Cancel { cid }]);
    }
}
