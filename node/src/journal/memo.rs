//! The memo: receipts by the memo key of their task, for reuse.
//!
//! It is the journal's front: what is handed to the journal is kept here until it is committed, so that a look-up sees
//! all that was remembered before it, and never waits for the disk's writes.

use cid::Cid;
use parking_lot::Mutex;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use timerose_core::io::{Input, Memo, Output, Wanted};
use tokio::sync::mpsc;

use crate::keys::open_memo;

/// A number and a sealed receipt, by memo key.
pub(crate) const MEMO: TableDefinition<&[u8], &[u8]> = TableDefinition::new("memo");
/// Memo keys by number: in the order in which they came.
pub(crate) const MEMO_AGE: TableDefinition<u64, &[u8]> = TableDefinition::new("memo_age");
/// The most receipts that are remembered, each of at most [`timerose_core::memo::REMEMBERED_MAX`] bytes and commonly of
/// 500; beyond, the oldest is forgotten.
pub(crate) const MEMO_MAX: u64 = 250_000;

/// What was handed to the journal and is not committed yet, by memo key: at most what its queue and a batch hold.
#[derive(Clone, Default)]
pub(crate) struct Fresh(Arc<Mutex<HashMap<Cid, Vec<u8>>>>);

impl Fresh {
    /// Notes what is on its way to the table.
    fn coming(&self, key: Cid, sealed: &[u8]) {
        self.0.lock().insert(key, sealed.to_vec());
    }

    /// What was on its way is in the table, or could not be written; a later receipt of the same key is still on its way.
    pub fn settled(&self, batch: &[Output]) {
        let mut fresh = self.0.lock();
        for output in batch {
            if let Output::Remember { key, sealed, .. } = output
                && fresh.get(key) == Some(sealed)
            {
                fresh.remove(key);
            }
        }
    }

    fn get(&self, key: &Cid) -> Option<Vec<u8>> {
        self.0.lock().get(key).cloned()
    }
}

/// Answers look-ups on a thread of its own, and passes everything else on to the journal, in order.
pub(crate) fn run(
    db: Arc<Database>,
    fresh: Fresh,
    mut outputs: mpsc::Receiver<Output>,
    journal: SyncSender<Output>,
    done: mpsc::Sender<Input>,
) {
    tokio::task::spawn_blocking(move || {
        while let Some(output) = outputs.blocking_recv() {
            // Only a node that ends does not listen.
            let ended = match output {
                Output::Recall { ticket, of } => {
                    let keys = match of {
                        Wanted::Tasks(tasks) => tasks.iter().map(|task| task.memo_key()).collect(),
                        Wanted::Keys(keys) => keys,
                    };
                    let found = look_up(&db, &fresh, &keys);
                    done.blocking_send(Input::Recalled { ticket, keys, found }).is_err()
                }
                other => {
                    if let Output::Remember { key, sealed, .. } = &other {
                        fresh.coming(*key, sealed);
                    }
                    journal.send(other).is_err()
                }
            };
            if ended {
                return;
            }
        }
    });
}

fn look_up(db: &Database, fresh: &Fresh, keys: &[Cid]) -> Vec<Option<Memo>> {
    let found = |keys: &[Cid]| -> Result<Vec<Option<Memo>>, redb::Error> {
        // What is not fresh any more must be in the table as it is read: so the table is opened after the look.
        let fresh: Vec<Option<Vec<u8>>> = keys.iter().map(|key| fresh.get(key)).collect();
        let table = db.begin_read()?.open_table(MEMO)?;
        let mut found = Vec::with_capacity(keys.len());
        for (key, fresh) in keys.iter().zip(fresh) {
            let sealed = match fresh {
                Some(sealed) => Some(sealed),
                None => table.get(key.to_bytes().as_slice())?.and_then(|entry| entry.value().get(8..).map(<[u8]>::to_vec)),
            };
            found.push(sealed.and_then(|sealed| open_memo(&sealed)).filter(|memo| memo.key == *key));
        }
        Ok(found)
    };
    found(keys).unwrap_or_else(|why| {
        tracing::error!(%why, "the memo could not be read");
        vec![None; keys.len()]
    })
}

/// Writes a receipt, and forgets the oldest if there are more than `max`.
pub(crate) fn write(
    memo: &mut Table<'_, &[u8], &[u8]>,
    age: &mut Table<'_, u64, &[u8]>,
    key: &Cid,
    sealed: &[u8],
    max: u64,
) -> Result<(), redb::Error> {
    let key = key.to_bytes();
    let number = age.last()?.map_or(0, |(last, _)| last.value() + 1);
    let entry = [&number.to_be_bytes()[..], sealed].concat();
    let before = memo.insert(key.as_slice(), entry.as_slice())?;
    let before = before.and_then(|entry| entry.value().first_chunk::<8>().map(|number| u64::from_be_bytes(*number)));
    if let Some(before) = before {
        age.remove(before)?;
    }
    age.insert(number, key.as_slice())?;
    if memo.len()? > max {
        let oldest = age.pop_first()?.map(|(_, key)| key.value().to_vec());
        if let Some(oldest) = oldest {
            memo.remove(oldest.as_slice())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Journal;
    use crate::keys::Keys;
    use timerose_core::id::RAW;
    use timerose_core::id::{DAG_CBOR, cid_of};
    use timerose_core::io::Ticket;
    use timerose_core::task::{Arg, Receipt, Task, Usage};

    fn task(seq: u64) -> Task {
        let function = cid_of(RAW, b"function");
        Task { function, entry: "map".into(), args: vec![Arg::Inline(b"x".to_vec())], seq }
    }

    fn sealed(keys: &Keys, seq: u64) -> Vec<u8> {
        let (task, result) = (task(seq), cid_of(RAW, b"result"));
        let ran = task.id(&keys.id());
        keys.seal(&Receipt { iss: keys.id(), ran, task, out: Ok(result), size: 6, meta: Usage::default(), at: 1 })
    }

    /// What a journal in `dir` gives for the task after `outputs`.
    async fn found(dir: &std::path::Path, outputs: Vec<Output>) -> Option<Memo> {
        // The one before ends when all is written.
        let begin = std::time::Instant::now();
        let journal = loop {
            match Journal::open(dir) {
                Ok(journal) => break journal,
                Err(why) if begin.elapsed().as_secs() > 20 => panic!("the journal does not close: {why}"),
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            }
        };
        let ((to, outputs_rx), (_port, requests), (done, mut heard)) = (mpsc::channel(16), mpsc::channel(1), mpsc::channel(16));
        journal.run(outputs_rx, requests, done);
        for output in outputs {
            to.send(output).await.expect("it runs");
        }
        let of = Wanted::Tasks(vec![task(0)]);
        to.send(Output::Recall { ticket: Ticket::JobMemo(1), of }).await.expect("it runs");
        let Some(Input::Recalled { mut found, keys, .. }) = heard.recv().await else { panic!("no answer") };
        assert_eq!(keys, [task(0).memo_key()]);
        found.pop().flatten()
    }

    fn remember(key: Cid, sealed: Vec<u8>) -> Output {
        Output::Remember { key, result: cid_of(RAW, b"result"), receipt: cid_of(DAG_CBOR, &sealed), sealed }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_remembered_is_known_at_once_and_after_a_restart() {
        let (dir, keys) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let keys = Keys::open(keys.path()).expect("a key");
        assert_eq!(found(dir.path(), vec![]).await, None);
        let sealed = sealed(&keys, 0);
        let at_once = found(dir.path(), vec![remember(task(0).memo_key(), sealed.clone())]).await;
        let memo = at_once.expect("known at once");
        assert_eq!((memo.receipt.sealed(), memo.receipt.size), (&sealed[..], 6));
        assert_eq!(found(dir.path(), vec![]).await, Some(memo));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_receipt_that_is_damaged_or_of_another_key_is_not_found() {
        let keys = tempfile::tempdir().expect("a folder");
        let keys = Keys::open(keys.path()).expect("a key");
        let mut damaged = sealed(&keys, 0);
        damaged[40] ^= 1;
        for bad in [damaged, sealed(&keys, 7), b"noise".to_vec()] {
            let dir = tempfile::tempdir().expect("a folder");
            assert_eq!(found(dir.path(), vec![remember(task(0).memo_key(), bad)]).await, None);
        }
    }

    #[test]
    fn beyond_its_bound_the_oldest_is_forgotten() {
        let dir = tempfile::tempdir().expect("a folder");
        let db = Database::create(dir.path().join("db")).expect("made");
        let begin = db.begin_write().expect("begun");
        let key = |n: u8| cid_of(RAW, &[n]);
        {
            let (mut memo, mut age) = (begin.open_table(MEMO).expect("made"), begin.open_table(MEMO_AGE).expect("made"));
            // The first one comes again, and is the youngest then.
            for n in [0, 1, 2, 0, 3, 4] {
                write(&mut memo, &mut age, &key(n), &[n], 3).expect("written");
            }
            let kept: Vec<bool> = (0..5).map(|n| memo.get(key(n).to_bytes().as_slice()).expect("read").is_some()).collect();
            assert_eq!(kept, [true, false, false, true, true]);
            assert_eq!((memo.len().expect("counted"), age.len().expect("counted")), (3, 3));
        }
        begin.commit().expect("committed");
    }
}
