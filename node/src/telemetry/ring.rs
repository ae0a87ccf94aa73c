//! The ring: the latest things that this node saw, whatever traces they are of.

use std::collections::VecDeque;
use std::sync::Arc;
use timerose_core::id::Instant;
use timerose_core::span::{Context, Seen};

/// How many are kept; the oldest go. About 2 MiB.
pub(super) const RECORDS_MAX: usize = 4096;
/// The most bytes that the texts in them take together; the oldest go.
const TEXTS_MAX: usize = 1 << 20;

/// What the API saw of a request. Times are of the node's monotonic clock.
#[derive(Debug)]
pub(super) struct RootSeen {
    /// The trace, and this span itself.
    pub context: Context,
    /// What the request named as its cause.
    pub parent: Option<[u8; 8]>,
    /// The method and the route.
    pub name: &'static str,
    pub begun: Instant,
    pub ended: Instant,
    /// The code that it failed with.
    pub failure: Option<&'static str>,
}

/// Something that is over.
#[derive(Debug)]
pub(super) enum Record {
    Root(RootSeen),
    Seen(Seen),
}

impl Record {
    pub fn context(&self) -> &Context {
        match self {
            Record::Root(root) => &root.context,
            Record::Seen(seen) => seen.context(),
        }
    }

    /// The bytes of its texts: an entry's name comes from whoever calls.
    fn texts(&self) -> usize {
        match self {
            Record::Root(_) => 0,
            Record::Seen(Seen::Call(call)) => call.entry.len() + call.steps.len() * 64,
            Record::Seen(Seen::Work(work)) => work.entry.len(),
        }
    }
}

/// The latest records, each with the number that its spans are named by.
#[derive(Default)]
pub(super) struct Ring {
    records: VecDeque<Arc<(u64, Record)>>,
    texts: usize,
    /// How many were pushed in all.
    pushed: u64,
}

impl Ring {
    /// Keeps one more.
    pub fn push(&mut self, id: u64, record: Record) {
        self.texts += record.texts();
        self.pushed += 1;
        self.records.push_back(Arc::new((id, record)));
        while self.records.len() > RECORDS_MAX || self.texts > TEXTS_MAX {
            let Some(oldest) = self.records.pop_front() else { return };
            self.texts -= oldest.1.texts();
        }
    }

    /// Those of a trace.
    pub fn of(&self, trace: &[u8]) -> Vec<Arc<(u64, Record)>> {
        self.records.iter().filter(|record| record.1.context().trace == trace).cloned().collect()
    }

    /// At most so many sampled records of those that were pushed from the `next`th on, how many went before they were asked for,
    /// and what comes after them.
    pub fn sampled_from(&self, next: u64, most: usize) -> (Vec<Arc<(u64, Record)>>, u64, u64) {
        let first = self.pushed - self.records.len() as u64;
        let missed = first.saturating_sub(next);
        let (mut found, mut after) = (Vec::new(), next.max(first));
        for record in self.records.iter().skip((after - first) as usize) {
            if found.len() == most {
                break;
            }
            after += 1;
            if record.1.context().sampled {
                found.push(record.clone());
            }
        }
        (found, missed, after)
    }

    /// Whether a run of that TaskId, or of that trace, ended here.
    pub fn has_run(&self, name: &[u8]) -> bool {
        self.records.iter().rev().any(|record| match &record.1 {
            Record::Seen(Seen::Work(work)) => {
                work.context.trace == name || work.outcome.is_ok_and(|(task, ..)| task.to_bytes() == name)
            }
            _ => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(n: u8) -> Record {
        let context = Context { trace: [n; 16], span: [n; 8], sampled: false };
        Record::Root(RootSeen { context, parent: None, name: "test", begun: 0, ended: 0, failure: None })
    }

    #[test]
    fn an_exporter_gets_what_is_sampled_once_and_hears_how_much_it_missed() {
        let mut ring = Ring::default();
        let push = |ring: &mut Ring, sampled| {
            let Record::Root(root) = root(1) else { return };
            ring.push(1, Record::Root(RootSeen { context: Context { sampled, ..root.context }, ..root }));
        };
        (0..6).for_each(|n| push(&mut ring, n % 2 == 0));
        let (found, missed, after) = ring.sampled_from(0, 2);
        assert_eq!((found.len(), missed, after), (2, 0, 3));
        let (found, missed, after) = ring.sampled_from(after, 2);
        assert_eq!((found.len(), missed, after), (1, 0, 6));
        (0..RECORDS_MAX + 10).for_each(|_| push(&mut ring, true));
        let (found, missed, after) = ring.sampled_from(after, RECORDS_MAX * 2);
        assert_eq!((found.len(), missed, after), (RECORDS_MAX, 10, RECORDS_MAX as u64 + 16));
    }

    #[test]
    fn the_latest_are_kept_and_found_by_their_trace() {
        let mut ring = Ring::default();
        ring.push(1, root(1));
        assert_eq!(ring.of(&[1; 16]).len(), 1);
        (0..RECORDS_MAX as u64).for_each(|id| ring.push(id, root(2)));
        assert!(ring.of(&[1; 16]).is_empty(), "the oldest is gone");
        assert_eq!(ring.of(&[2; 16]).len(), RECORDS_MAX);
    }
}
