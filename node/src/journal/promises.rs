//! The driver of the log of promises: writes entries together, and says when each is as safe as it has to be.
//!
//! What waits is written by one `write`, which is all that class *os* needs. If any of it is of class *disk*, one
//! `fdatasync` follows at once; what comes during it is written and made safe together next.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use timerose_content::gc::{GcError, Spare};
use timerose_core::failure::Failure;
use timerose_core::io::{Input, Output, Ticket};
use timerose_core::promise::{Asked, Class, Effect, JournalEntry, Key, Stage};
use timerose_core::task::Arg;
use tokio::sync::mpsc;

use super::log::Log;
use crate::config::StartError;
use crate::ports::Needs;

/// The most entries that are written together.
const BATCH_MAX: usize = 256;

/// The log, open.
pub(crate) struct Promises {
    log: Log,
    roots: Roots,
}

/// The content that each promise needs.
#[derive(Clone, Default)]
struct Roots(Arc<Mutex<BTreeMap<Key, Vec<Spare>>>>);

impl Roots {
    fn note(&self, entry: &JournalEntry) {
        let roots = needed(entry);
        let mut all = self.0.lock();
        if roots.is_empty() { drop(all.remove(&entry.key())) } else { drop(all.insert(entry.key(), roots)) }
    }
}

impl Needs for Roots {
    fn each(&self, spare: &mut dyn FnMut(Spare) -> Result<(), GcError>) -> Result<(), GcError> {
        let all: Vec<Spare> = self.0.lock().values().flatten().copied().collect();
        all.into_iter().try_for_each(spare)
    }
}

/// What a promise needs: while it is open all that it works on, and then its result and receipt.
fn needed(entry: &JournalEntry) -> Vec<Spare> {
    match entry {
        JournalEntry::Work(work) => match &work.stage {
            Stage::Open(Asked::Call { task, .. }) => {
                let args = task.args.iter().filter_map(|arg| if let Arg::Link(cid) = arg { Some(*cid) } else { None });
                args.chain([task.function]).map(Spare::Below).collect()
            }
            Stage::Open(Asked::Job { spec, .. }) => vec![Spare::Below(spec.dataset), Spare::Below(spec.function)],
            Stage::Ended { outcome: Ok(ending), .. } => {
                vec![Spare::Below(ending.done.result), Spare::Block(ending.done.receipt)]
            }
            Stage::Ended { outcome: Err(_), .. } => Vec::new(),
        },
        JournalEntry::Effect(Effect { outcome: Some(Ok(done)), .. }) => {
            vec![Spare::Below(done.result), Spare::Block(done.receipt)]
        }
        JournalEntry::Effect(_) | JournalEntry::Forgotten(_) => Vec::new(),
    }
}

impl Promises {
    /// Opens or makes the log of a data folder, and gives what stands in it.
    pub fn open(dir: &Path) -> Result<(Promises, Vec<JournalEntry>), StartError> {
        let (log, entries) = Log::open(dir)?;
        let roots = Roots::default();
        entries.iter().for_each(|entry| roots.note(entry));
        Ok((Promises { log, roots }, entries))
    }

    /// What the garbage collection must spare for it.
    pub fn needs(&self) -> Arc<dyn Needs> {
        Arc::new(self.roots.clone())
    }

    /// Runs on a thread of its own until `outputs` closes.
    pub fn run(mut self, mut outputs: mpsc::Receiver<Output>, done: mpsc::Sender<Input>) {
        tokio::task::spawn_blocking(move || {
            let mut batch = Vec::new();
            while outputs.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
                self.write(&batch, &done);
                batch.clear();
            }
        });
    }

    fn write(&mut self, batch: &[Output], done: &mpsc::Sender<Input>) {
        let persists = || {
            batch.iter().filter_map(|output| match output {
                Output::Persist { ticket, entry, class } => Some((*ticket, entry, *class)),
                _ => None,
            })
        };
        let tell = |class: Class, result: Result<(), String>| {
            let result = result.map_err(|why| {
                tracing::error!(%why, "the journal could not be written");
                Failure::NodeFailed { what: format!("the journal could not be written: {why}") }
            });
            let tickets = persists().filter(|(_, _, of)| *of == class).filter_map(|(ticket, ..)| ticket);
            for ticket in tickets.collect::<Vec<Ticket>>() {
                // Only a node that ends does not listen.
                let _ = done.blocking_send(Input::Persisted { ticket, result: result.clone() });
            }
        };
        // Before anybody hears that it stands.
        persists().for_each(|(_, entry, _)| self.roots.note(entry));
        let written = self.log.append(persists().map(|(_, entry, _)| entry));
        tell(Class::Os, written.clone());
        if persists().any(|(_, _, class)| class == Class::Disk) {
            tell(Class::Disk, written.and_then(|()| self.log.make_safe()));
        }
        if let Err(why) = self.log.compact_if_worth_it() {
            tracing::warn!(%why, "the journal could not be written anew; it is written on");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use timerose_core::id::{RAW, cid_of};
    use timerose_core::promise::Effect;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_entry_is_on_the_log_when_it_is_acknowledged() {
        let dir = tempfile::tempdir().expect("a folder");
        let (promises, none) = Promises::open(dir.path()).expect("opened");
        assert!(none.is_empty());
        let ((to, outputs), (done, mut heard)) = (mpsc::channel(16), mpsc::channel(16));
        promises.run(outputs, done);
        for (n, class) in [(1u8, Class::Os), (2, Class::Disk), (3, Class::Os)] {
            let entry = JournalEntry::Effect(Effect { task: cid_of(RAW, &[n]), at_ms: 1, outcome: None });
            to.send(Output::Persist { ticket: Some(Ticket::Work(n.into())), entry, class }).await.expect("it runs");
            let Some(Input::Persisted { ticket: Ticket::Work(id), result: Ok(()) }) = heard.recv().await else {
                panic!("no answer")
            };
            assert_eq!(id, u64::from(n));
            // As a process that begins now would find it.
            let bytes = std::fs::read(dir.path().join("promises.log")).expect("there");
            let copy = tempfile::tempdir().expect("a folder");
            std::fs::write(copy.path().join("promises.log"), bytes).expect("written");
            assert_eq!(Promises::open(copy.path()).expect("opened").1.len(), usize::from(n));
        }
    }
}
