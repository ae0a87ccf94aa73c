//! The journal driver: what a node remembers beside its blocks. So far: which receipt belongs to a task and to a result.

use cid::Cid;
use redb::{Database, ReadableDatabase, TableDefinition};
use std::path::Path;
use std::time::{Duration, Instant};
use timerose_core::failure::Failure;
use timerose_core::io::Output;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::config::StartError;
use crate::ports::JournalRequest;

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
        begin.commit().map_err(|e| fail(e.to_string()))?;
        Ok(Journal { db })
    }

    /// Runs on a thread of its own until `outputs` closes: entries are written together, as many as wait.
    pub fn run(self, mut outputs: mpsc::Receiver<Output>, mut requests: mpsc::Receiver<JournalRequest>) {
        let db = std::sync::Arc::new(self.db);
        let reader = db.clone();
        let runtime = Handle::current();
        tokio::task::spawn_blocking(move || {
            let (mut batch, mut safe, mut written) = (Vec::new(), Instant::now(), false);
            loop {
                // What was written is made safe within a second, and not before: it is asked for at once, and lost only
                // with a machine or a process that dies in that second.
                let wait = if written { SAFE_EVERY.saturating_sub(safe.elapsed()) } else { FOR_EVER };
                let next = async { tokio::time::timeout(wait, outputs.recv_many(&mut batch, BATCH_MAX)).await };
                let ended = matches!(runtime.block_on(next), Ok(0));
                let durable = ended || (written && safe.elapsed() >= SAFE_EVERY);
                written |= !batch.is_empty();
                if let Err(why) = write(&db, batch.drain(..), durable) {
                    tracing::error!(%why, "the journal could not be written");
                }
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

fn write(db: &Database, batch: impl Iterator<Item = Output>, durable: bool) -> Result<(), redb::Error> {
    let mut begin = db.begin_write()?;
    begin.set_durability(if durable { redb::Durability::Immediate } else { redb::Durability::None })?;
    {
        let mut table = begin.open_table(RECEIPTS)?;
        for output in batch {
            if let Output::Index { task, result, receipt } = output {
                for key in [task, result] {
                    table.insert(key.to_bytes().as_slice(), receipt.to_bytes().as_slice())?;
                }
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
