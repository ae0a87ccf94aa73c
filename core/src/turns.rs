//! An executor's places: which schedulers have how many, and whose work starts next.

use alloc::collections::{BTreeMap, VecDeque};
use core::ops::Bound;

use crate::id::NodeId;
use crate::mesh::has_room;
use crate::task::Task;

/// The most bytes of all tasks that are under way, shared by schedulers as the places are; beyond, claims are refused.
pub const WORK_BYTES_MAX: usize = 32 << 20;

/// What each scheduler has here.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// Work that is ready to start, in order of arrival.
    waiting: BTreeMap<NodeId, VecDeque<u64>>,
    /// Whose turn was last.
    last: Option<NodeId>,
    /// Places of those that were admitted, and the bytes of their tasks.
    shares: BTreeMap<NodeId, (usize, usize)>,
}

impl Turns {
    /// Schedulers that have work here.
    pub fn schedulers(&self) -> usize {
        self.shares.len()
    }

    /// Schedulers that have work that is ready to start.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Work that was admitted and has neither ended nor been given up.
    pub fn admitted(&self) -> usize {
        self.shares.values().map(|(places, _)| places).sum()
    }

    /// Whether there is a place, of so many in all, for a task of so many bytes.
    pub fn admits(&self, from: NodeId, bytes: usize, places: usize) -> bool {
        let (mine, my_bytes) = self.shares.get(&from).copied().unwrap_or_default();
        let parties = self.shares.len() + usize::from(mine == 0);
        let all_bytes = self.shares.values().map(|(_, bytes)| bytes).sum::<usize>() + bytes;
        has_room(places, self.admitted(), mine, parties) && has_room(WORK_BYTES_MAX, all_bytes, my_bytes, parties)
    }

    /// A task takes a place.
    pub fn enter(&mut self, from: NodeId, task: &Task) {
        let (places, bytes) = self.shares.entry(from).or_default();
        (*places, *bytes) = (*places + 1, *bytes + task.size());
    }

    /// A task gives its place back.
    pub fn leave(&mut self, from: NodeId, task: &Task) {
        if let Some((places, bytes)) = self.shares.get_mut(&from) {
            (*places, *bytes) = (*places - 1, *bytes - task.size());
            if *places == 0 {
                self.shares.remove(&from);
            }
        }
    }

    /// A piece of work is ready to start.
    pub fn wait(&mut self, from: NodeId, work: u64) {
        self.waiting.entry(from).or_default().push_back(work);
    }

    /// A piece of work does not wait any more.
    pub fn forget(&mut self, from: NodeId, work: u64) {
        if let Some(works) = self.waiting.get_mut(&from) {
            works.retain(|other| *other != work);
            if works.is_empty() {
                self.waiting.remove(&from);
            }
        }
    }

    /// Whose turn it is, and its first piece of work.
    pub fn next(&self) -> Option<(NodeId, u64)> {
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.waiting.range((after, Bound::Unbounded)).next().or_else(|| self.waiting.first_key_value());
        next.and_then(|(from, works)| Some((*from, *works.front()?)))
    }

    /// The work whose turn it was starts.
    pub fn start(&mut self, from: NodeId, work: u64) {
        self.forget(from, work);
        self.last = Some(from);
    }
}
