//! The journal driver: what a node remembers beside its blocks. So far: which receipt belongs to a task and to a result.

use cid::Cid;
use redb::{Database, ReadableDatabase, TableDefinition};
use std::path::Path;
use timerose_core::failure::Failure;
use timerose_core::io::Output;
use tokio::sync::mpsc;

use crate::config::StartError;
use crate::ports::JournalRequest;

/// The receipt of a TaskId or of a result, by CID bytes.
const RECEIPTS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("receipts");
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
        let db = Database::create(&path).map_err(|e| fail(e.to_string()))?;
        let begin = db.begin_write().map_err(|e| fail(e.to_string()))?;
        begin.open_table(RECEIPTS).map_err(|e| fail(e.to_string()))?;
        begin.commit().map_err(|e| fail(e.to_string()))?;
        Ok(Journal { db })
    }

    /// Runs on a thread of its own until `outputs` closes: entries are written together, as many as wait.
    pub fn run(self, mut outputs: mpsc::Receiver<Output>, mut requests: mpsc::Receiver<JournalRequest>) {
        let db = std::sync::Arc::new(self.db);
        let reader = db.clone();
        tokio::task::spawn_blocking(move || {
            let mut batch = Vec::new();
            while outputs.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
                if let Err(why) = write(&db, batch.drain(..)) {
                    tracing::error!(%why, "the journal could not be written");
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

fn write(db: &Database, batch: impl Iterator<Item = Output>) -> Result<(), redb::Error> {
    let mut begin = db.begin_write()?;
    // A receipt can be made again by running again: it survives a crash of the process, not of the machine.
    begin.set_durability(redb::Durability::None)?;
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
