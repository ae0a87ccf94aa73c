//! The receipts driver: keeps receipts with their proofs, and finds them by their names. The memo is one of them: a memo key
//! names the receipt whose result may stand for another run.
//!
//! What comes is kept in memory, where it is found at once, and written with all else that came in the same second. It is
//! lost with a process that dies in that second: nobody was promised it, and running again makes it again.

mod table;

use cid::Cid;
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use timerose_core::io::{Input, Memo, Names, Output, Sealed, Wanted};
use tokio::sync::mpsc;

use crate::config::StartError;
use crate::keys::Roots;
use crate::ports::{Known, half};
use table::{Name, Table};

/// How often what came is written and made safe.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// Bytes of receipts in memory from which they are written at once.
const WRITE_FROM: usize = 8 << 20;
/// Bytes of receipts in memory; when so many wait for the disk, whoever brings more waits too, and then the loop takes no new
/// work.
const WAITING_MAX: usize = 16 << 20;
/// What a receipt costs in memory beside its bytes.
const OVERHEAD: usize = 512;
/// Receipts that are written at once.
const WRITE_MAX: usize = 4096;

/// The receipts of a data folder, open.
pub(crate) struct Receipts {
    table: Arc<Table>,
    known: Known,
}

/// What came and is not written yet, by name and in order.
#[derive(Default)]
struct Front {
    by_name: HashMap<Name, Arc<Sealed>>,
    queue: VecDeque<Arc<Sealed>>,
    bytes: usize,
    ended: bool,
}

/// The front, and a bell that is rung when it changes.
#[derive(Default)]
struct Shared {
    front: Mutex<Front>,
    changed: Condvar,
}

impl Shared {
    fn put(&self, sealed: Sealed) {
        let sealed = Arc::new(sealed);
        let mut front = self.front.lock();
        while front.bytes >= WAITING_MAX {
            self.changed.wait(&mut front);
        }
        front.bytes += sealed.bytes.len() + OVERHEAD;
        front.by_name.extend(names(&sealed.names).map(|(name, _)| (name, sealed.clone())));
        front.queue.push_back(sealed);
        if front.queue.len() == 1 || front.bytes >= WRITE_FROM {
            self.changed.notify_all();
        }
    }

    /// What is to be written next, and whether it is the last; waits for it.
    fn next(&self, last: Instant) -> (Vec<Arc<Sealed>>, bool) {
        let mut front = self.front.lock();
        while front.queue.is_empty() && !front.ended {
            self.changed.wait(&mut front);
        }
        while front.bytes < WRITE_FROM && !front.ended {
            if self.changed.wait_until(&mut front, last + WRITE_EVERY).timed_out() {
                break;
            }
        }
        let count = front.queue.len().min(WRITE_MAX);
        (front.queue.iter().take(count).cloned().collect(), front.ended && front.queue.len() == count)
    }

    /// What was next is in the table, or could not be written. What came later under the same name is still on its way.
    fn written(&self, batch: &[Arc<Sealed>]) {
        let mut front = self.front.lock();
        for sealed in batch {
            front.queue.pop_front();
            front.bytes -= sealed.bytes.len() + OVERHEAD;
            for (name, _) in names(&sealed.names) {
                if front.by_name.get(&name).is_some_and(|kept| Arc::ptr_eq(kept, sealed)) {
                    front.by_name.remove(&name);
                }
            }
        }
        self.changed.notify_all();
    }

    fn get(&self, name: &Cid) -> Option<Vec<u8>> {
        let front = self.front.lock();
        front.by_name.get(&table::name(name)).map(|sealed| sealed.bytes.clone())
    }
}

/// All that a receipt is found under, and whether that is its memo key.
fn names(of: &Names) -> impl Iterator<Item = (Name, bool)> + use<> {
    let others = [of.receipt, of.task, of.result].map(|cid| (table::name(&cid), false));
    others.into_iter().chain(of.key.map(|key| (table::name(&key), true)))
}

impl Receipts {
    /// Opens or makes the receipts of a data folder.
    pub fn open(dir: &Path) -> Result<Receipts, StartError> {
        let fail = |error| StartError::of_store(dir, error);
        let (table, known) = (Table::open(dir).map_err(fail)?, Known::default());
        table.memo_keys(&known);
        Ok(Receipts { table: Arc::new(table), known })
    }

    /// Under which memo keys anything is kept.
    pub fn known(&self) -> Known {
        self.known.clone()
    }

    /// Runs on threads of its own until `outputs` closes; what waits then is still written.
    pub fn run(self, mut outputs: mpsc::Receiver<Output>, done: mpsc::Sender<Input>) {
        let Receipts { table, known } = self;
        let shared = Arc::new(Shared::default());
        tokio::task::spawn_blocking({
            let (table, known, shared) = (table.clone(), known.clone(), shared.clone());
            move || write(&table, &known, &shared)
        });
        tokio::task::spawn_blocking(move || {
            let roots = Roots::default();
            while let Some(output) = outputs.blocking_recv() {
                match output {
                    Output::Recall { ticket, of } => {
                        let keys = match of {
                            Wanted::Tasks(tasks) => tasks.iter().map(|task| task.memo_key()).collect(),
                            Wanted::Keys(keys) => keys,
                        };
                        let found = find(&table, &shared, &roots, &keys);
                        // Only a node that ends does not listen.
                        let _ = done.blocking_send(Input::Recalled { ticket, keys, found });
                    }
                    Output::Remember { receipts } => {
                        for sealed in receipts {
                            sealed.names.key.iter().for_each(|key| known.add(half(key)));
                            shared.put(sealed);
                        }
                    }
                    _ => {}
                }
            }
            shared.front.lock().ended = true;
            shared.changed.notify_all();
        });
    }
}

/// Writes what came, until no more comes.
fn write(table: &Table, known: &Known, shared: &Shared) {
    let mut last = Instant::now();
    loop {
        let (batch, ended) = shared.next(last);
        // The first after a pause is written and synced at once; a second in which much comes is written in several parts, and synced once.
        let durable = ended || last.elapsed() >= WRITE_EVERY;
        if durable {
            last = Instant::now();
        }
        if let Err(why) = table.write(&batch, known, durable) {
            tracing::error!(%why, receipts = batch.len(), "receipts could not be written");
        }
        shared.written(&batch);
        if ended {
            return;
        }
    }
}

/// What is kept under each name. What is not in the front any more must be in the table as it is read: so the front is
/// looked at first.
fn find(table: &Table, shared: &Shared, roots: &Roots, names: &[Cid]) -> Vec<Option<Memo>> {
    let fresh: Vec<Option<Vec<u8>>> = names.iter().map(|name| shared.get(name)).collect();
    let written = if fresh.iter().all(Option::is_some) { Ok(Vec::new()) } else { table.read(names) };
    let written = written.unwrap_or_else(|why| {
        tracing::error!(%why, "the receipts could not be read");
        Vec::new()
    });
    let mut written = written.into_iter();
    let checked = |(name, fresh): (&Cid, Option<Vec<u8>>)| {
        let kept = written.next().flatten();
        let memo = roots.open(&fresh.or(kept)?);
        memo.inspect_err(|why| tracing::error!(%why, "a receipt is damaged")).ok().filter(|memo| memo.is_of(name))
    };
    names.iter().zip(fresh).map(checked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Keys;
    use timerose_core::id::{RAW, cid_of};
    use timerose_core::io::{Exit, Statement, Ticket};
    use timerose_core::proof::prove;
    use timerose_core::task::{Arg, Receipt, Task, Usage};

    fn task(seq: u64) -> Task {
        let function = cid_of(RAW, b"function");
        Task { function, entry: "map".into(), args: vec![Arg::Inline(b"x".to_vec())], seq }
    }

    fn sealed(keys: &Keys, seq: u64) -> Sealed {
        let (task, result) = (task(seq), cid_of(RAW, b"result"));
        let (ran, key) = (task.id(&keys.id()), task.memo_key());
        let receipt = Receipt { iss: keys.id(), ran, task, out: Ok(result), size: 6, meta: Usage::default(), at: 1 };
        let Statement { names, bytes, .. } = Exit::new(&receipt, result, key).statement;
        let proof = prove(keys.id(), &[(names.receipt, &bytes)], |root| keys.sign(root)).remove(0);
        Sealed { names, tell: false, bytes: proof }
    }

    /// The receipts of a folder; those that had it before end when all is written.
    async fn opened(dir: &Path) -> Receipts {
        let begin = Instant::now();
        loop {
            match Receipts::open(dir) {
                Ok(receipts) => return receipts,
                Err(why) if begin.elapsed().as_secs() > 20 => panic!("the receipts do not close: {why}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// What a driver over `dir` finds after some outputs.
    async fn found(dir: &Path, outputs: Vec<Output>, of: Wanted) -> Vec<Option<Memo>> {
        let receipts = opened(dir).await;
        let ((to, outputs_rx), (done, mut heard)) = (mpsc::channel(16), mpsc::channel(1));
        receipts.run(outputs_rx, done);
        for output in outputs {
            to.send(output).await.expect("it runs");
        }
        to.send(Output::Recall { ticket: Ticket::Search(1), of }).await.expect("it runs");
        let Some(Input::Recalled { found, .. }) = heard.recv().await else { panic!("no answer") };
        found
    }

    fn remember(receipts: Vec<Sealed>) -> Vec<Output> {
        vec![Output::Remember { receipts }]
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_receipt_is_found_under_each_of_its_names_at_once_and_after_a_restart() {
        let (dir, keys) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let keys = Keys::open(keys.path()).expect("a key");
        let one = sealed(&keys, 0);
        let Names { receipt, task, result, key } = one.names;
        let all = || Wanted::Keys(vec![receipt, task, result, key.expect("pure")]);
        assert_eq!(found(dir.path(), vec![], all()).await, vec![None; 4]);
        let at_once = found(dir.path(), remember(vec![one.clone()]), all()).await;
        for memo in &at_once {
            let memo = memo.as_ref().expect("known at once");
            assert_eq!((memo.receipt.sealed(), memo.receipt.size), (&one.bytes[..], 6));
        }
        assert_eq!(found(dir.path(), vec![], all()).await, at_once);
        assert_eq!(found(dir.path(), vec![], Wanted::Tasks(vec![self::task(0)])).await[..], at_once[..1]);
        let known = opened(dir.path()).await.known();
        assert!(known.may_hold(&key.expect("pure")) && !known.may_hold(&task), "read at the start");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_receipt_that_is_damaged_or_does_not_bear_the_name_is_not_found() {
        let keys = tempfile::tempdir().expect("a folder");
        let keys = Keys::open(keys.path()).expect("a key");
        let good = sealed(&keys, 0);
        let mut damaged = good.clone();
        damaged.bytes[40] ^= 1;
        // Another task's receipt under this one's names.
        let other = Sealed { names: Names { result: cid_of(RAW, b"other"), ..good.names }, ..sealed(&keys, 7) };
        let noise = Sealed { bytes: b"noise".to_vec(), ..good.clone() };
        for bad in [damaged, other, noise] {
            let dir = tempfile::tempdir().expect("a folder");
            let names = Wanted::Keys(vec![bad.names.task, bad.names.result]);
            assert_eq!(found(dir.path(), remember(vec![bad]), names).await, vec![None; 2]);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_may_not_be_reused_is_found_but_not_by_its_memo_key() {
        let (dir, keys) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let keys = Keys::open(keys.path()).expect("a key");
        let mut one = sealed(&keys, 0);
        let key = one.names.key.take().expect("pure");
        let names = Wanted::Keys(vec![one.names.result, key]);
        let found = found(dir.path(), remember(vec![one]), names).await;
        assert!(found[0].is_some() && found[1].is_none(), "{found:?}");
    }
}
