//! The journal driver: what a node remembers beside its blocks: which receipt belongs to a task and to a result, the memo,
//! and in a log of its own what it promised.

use cid::Cid;
use redb::{Database, ReadableDatabase, TableDefinition};
use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};
use timerose_core::failure::Failure;
use timerose_core::io::{Input, Output};
use tokio::sync::mpsc;

use crate::config::StartError;
use crate::ports::JournalRequest;

mod log;
mod memo;
mod promises;

pub(crate) use promises::Promises;

use memo::{Fresh, MEMO, MEMO_AGE, MEMO_MAX};

/// The receipt of a TaskId or of a result, by CID bytes.
const RECEIPTS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("receipts");
/// How often what was written is made safe.
const SAFE_EVERY: Duration = Duration::from_secs(1);
/// Longer than anybody waits.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);
/// The most entries of one commit.
const BATCH_MAX: usize = 1024;

/// The journal's file, open.
pub(crate) struct Journal {
    db: Database,
}

impl Journal {
    /// Opens or makes the journal of a data folder.
    pub fn open(dir: &Path) -> Result<Journal, StartError> {
        let path = dir.join("journal.redb");
        let fail = |why: String| StartError::Data { path: path.clone(), why };
        let db = Database::create(&path).map_err(|e| match e {
            redb::DatabaseError::DatabaseAlreadyOpen => StartError::Busy { path: dir.to_path_buf() },
            other => fail(other.to_string()),
        })?;
        let begin = db.begin_write().map_err(|e| fail(e.to_string()))?;
        begin.open_table(RECEIPTS).map_err(|e| fail(e.to_string()))?;
        begin.open_table(MEMO).map_err(|e| fail(e.to_string()))?;
        begin.open_table(MEMO_AGE).map_err(|e| fail(e.to_string()))?;
        begin.commit().map_err(|e| fail(e.to_string()))?;
        Ok(Journal { db })
    }

    /// Runs on threads of its own until `outputs` closes: entries are written together, as many as wait.
    pub fn run(self, outputs: mpsc::Receiver<Output>, mut requests: mpsc::Receiver<JournalRequest>, done: mpsc::Sender<Input>) {
        let db = std::sync::Arc::new(self.db);
        let (reader, fresh) = (db.clone(), Fresh::default());
        // Not one of tokio's: what ends with the runtime could not wait for the rest to be written.
        let (behind, writes) = std::sync::mpsc::sync_channel(BATCH_MAX);
        memo::run(db.clone(), fresh.clone(), outputs, behind, done);
        tokio::task::spawn_blocking(move || {
            let (mut batch, mut safe, mut written) = (Vec::new(), Instant::now(), false);
            loop {
                // What was written is made safe within a second, and not before: it is asked for at once, and lost only
                // with a machine or a process that dies in that second.
                let wait = if written { SAFE_EVERY.saturating_sub(safe.elapsed()) } else { FOR_EVER };
                let next = writes.recv_timeout(wait);
                let ended = matches!(next, Err(RecvTimeoutError::Disconnected));
                batch.extend(next);
                batch.extend(writes.try_iter().take(BATCH_MAX));
                let durable = ended || (written && safe.elapsed() >= SAFE_EVERY);
                written |= !batch.is_empty();
                if let Err(why) = write(&db, &batch, durable) {
                    tracing::error!(%why, "the journal could not be written");
                }
                fresh.settled(&batch);
                batch.clear();
                if durable {
                    (safe, written) = (Instant::now(), false);
                }
                if ended {
                    return;
                }
            }
        });
        tokio::task::spawn_blocking(move || {
            while let Some(JournalRequest::Receipt { of, answer }) = requests.blocking_recv() {
                let found = read(&reader, &of).map_err(|why| Failure::NodeFailed { what: format!("journal: {why}") });
                // Whoever asked may be gone.
                let _ = answer.send(found);
            }
        });
    }
}

fn write(db: &Database, batch: &[Output], durable: bool) -> Result<(), redb::Error> {
    let mut begin = db.begin_write()?;
    begin.set_durability(if durable { redb::Durability::Immediate } else { redb::Durability::None })?;
    {
        let mut table = begin.open_table(RECEIPTS)?;
        let (mut memo, mut age) = (begin.open_table(MEMO)?, begin.open_table(MEMO_AGE)?);
        for output in batch {
            match output {
                Output::Index { task, result, receipt } => {
                    for key in [task, result] {
                        table.insert(key.to_bytes().as_slice(), receipt.to_bytes().as_slice())?;
                    }
                }
                Output::Remember { key, result, receipt, sealed } => {
                    table.insert(result.to_bytes().as_slice(), receipt.to_bytes().as_slice())?;
                    memo::write(&mut memo, &mut age, key, sealed, MEMO_MAX)?;
                }
                _ => {}
            }
        }
    }
    begin.commit()?;
    Ok(())
}

fn read(db: &Database, of: &Cid) -> Result<Option<Cid>, redb::Error> {
    let table = db.begin_read()?.open_table(RECEIPTS)?;
    let found = table.get(of.to_bytes().as_slice())?;
    Ok(found.and_then(|bytes| Cid::try_from(bytes.value()).ok()))
}
