//! The receipts on disk: each under a number, and the numbers by name. The file outlives a full disk, as that of the blocks does.

use cid::Cid;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::Path;
use std::sync::Arc;
use timerose_content::StoreError;
use timerose_content::blockstore::RedbFile;
use timerose_core::id::{DAG_CBOR, cid_of};
use timerose_core::io::Sealed;
use timerose_core::proof::Proof;
use timerose_core::record::decode;
use timerose_core::task::Receipt;

use super::names;
use crate::ports::{Known, half};

/// The file's name in a data folder.
const FILE: &str = "receipts.redb";
/// Proofs by number. The number of the next is this one's and its length: the oldest and the newest say how much there is.
const PROOFS: TableDefinition<u64, &[u8]> = TableDefinition::new("proofs");
/// The latest proof under a memo key, and under another name.
const MEMO: TableDefinition<u128, u64> = TableDefinition::new("memo");
const OTHERS: TableDefinition<u128, u64> = TableDefinition::new("others");
/// Bytes of proofs that are kept, commonly of 1 KiB each; beyond, the oldest are forgotten.
const BYTES_MAX: u64 = 256 << 20;
/// Pages of the file that are kept in memory, in bytes: by default they would be a gigabyte.
const CACHE_BYTES: usize = 16 << 20;

/// What a receipt is found under: half of the CID's hash, which is enough to find it; what is found says itself whether it
/// is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Name {
    /// A memo key.
    Memo(u128),
    /// The CID of a receipt, a task or a result.
    Other(u128),
}

impl Name {
    pub fn memo(key: &Cid) -> Name {
        Name::Memo(half(key))
    }

    pub fn other(cid: &Cid) -> Name {
        Name::Other(half(cid))
    }
}

/// The file, open.
pub(super) struct Table {
    file: RedbFile,
}

impl Table {
    pub fn open(dir: &Path) -> Result<Table, StoreError> {
        let file = RedbFile::open(dir.join(FILE), CACHE_BYTES)?;
        file.with(|db| {
            let begin = db.begin_write()?;
            begin.open_table(PROOFS)?;
            begin.open_table(MEMO)?;
            begin.open_table(OTHERS)?;
            Ok(begin.commit()?)
        })?;
        Ok(Table { file })
    }

    /// Tells all memo keys.
    pub fn memo_keys(&self, known: &Known) -> Result<(), StoreError> {
        self.file.with(|db| {
            for entry in db.begin_read()?.open_table(MEMO)?.iter()? {
                known.add(entry?.0.value());
            }
            Ok(())
        })
    }

    /// Writes receipts, and forgets the oldest where there are too many.
    pub fn write(&self, batch: &[Arc<Sealed>], known: &Known, durable: bool) -> Result<(), StoreError> {
        self.file.with(|db| write_within(db, BYTES_MAX, batch, known, durable))
    }

    /// The proof under each name, where there is one.
    pub fn read(&self, names: &[Cid]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.file.with(|db| read(db, names))
    }
}

fn read(db: &Database, names: &[Cid]) -> Result<Vec<Option<Vec<u8>>>, redb::Error> {
    let begin = db.begin_read()?;
    let (proofs, memo, others) = (begin.open_table(PROOFS)?, begin.open_table(MEMO)?, begin.open_table(OTHERS)?);
    let find = |name: &Cid| -> Result<Option<Vec<u8>>, redb::Error> {
        let number = match memo.get(half(name))? {
            Some(number) => Some(number.value()),
            None => others.get(half(name))?.map(|number| number.value()),
        };
        let Some(number) = number else { return Ok(None) };
        Ok(proofs.get(number)?.map(|proof| proof.value().to_vec()))
    };
    names.iter().map(find).collect()
}

/// Writes receipts, and forgets the oldest beyond `most` bytes of them.
fn write_within(db: &Database, most: u64, batch: &[Arc<Sealed>], known: &Known, durable: bool) -> Result<(), redb::Error> {
    let mut begin = db.begin_write()?;
    begin.set_durability(if durable { Durability::Immediate } else { Durability::None })?;
    {
        let mut proofs = begin.open_table(PROOFS)?;
        let (mut memo, mut others) = (begin.open_table(MEMO)?, begin.open_table(OTHERS)?);
        let mut number = proofs.last()?.map_or(0, |(number, proof)| number.value() + proof.value().len() as u64);
        let mut by_name = Vec::with_capacity(batch.len() * 4);
        for sealed in batch {
            proofs.insert(number, sealed.bytes.as_slice())?;
            by_name.extend(names(&sealed.names).map(|name| (name, number)));
            number += sealed.bytes.len() as u64;
        }
        // In order, so that neighbours in the tree are touched one after another; the latest of a name wins.
        by_name.sort_unstable();
        for (name, number) in by_name {
            match name {
                Name::Memo(half) => memo.insert(half, number)?,
                Name::Other(half) => others.insert(half, number)?,
            };
        }
        loop {
            let first = proofs.first()?.map(|(first, _)| first.value());
            let Some(first) = first.filter(|first| number - first > most) else { break };
            let proof = proofs.remove(first)?.map(|proof| proof.value().to_vec());
            let Some((key, rest)) = proof.and_then(|proof| names_of(&proof)) else { continue };
            if memo.get(half(&key))?.is_some_and(|number| number.value() == first) {
                memo.remove(half(&key))?;
                known.remove(half(&key));
            }
            for name in rest.iter().map(half) {
                if others.get(name)?.is_some_and(|number| number.value() == first) {
                    others.remove(name)?;
                }
            }
        }
    }
    begin.commit()?;
    Ok(())
}

/// What a receipt that is to be forgotten was found under: its memo key, and the rest.
fn names_of(proof: &[u8]) -> Option<(Cid, Vec<Cid>)> {
    let proof: Proof = decode(proof).ok()?;
    let receipt: Receipt = decode(&proof.receipt).ok()?;
    let own = cid_of(DAG_CBOR, &proof.receipt);
    Some((receipt.task.memo_key(), [own, receipt.ran].into_iter().chain(receipt.out.ok()).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::process::Command;
    use timerose_core::id::{NodeId, RAW};
    use timerose_core::io::Exit;
    use timerose_core::proof::prove;
    use timerose_core::task::{Task, Usage};

    fn sealed(number: u64) -> Arc<Sealed> {
        let function = cid_of(RAW, &number.to_be_bytes());
        let task = Task { function, entry: String::new(), args: vec![], seq: 0 };
        let (iss, ran, key, result) = (NodeId([1; 32]), task.id(&NodeId([1; 32])), task.memo_key(), cid_of(RAW, b"result"));
        let receipt = Receipt { iss, ran, task, out: Ok(result), size: 6, meta: Usage::default(), at: 1 };
        let statement = Exit::new(&receipt, result, key).statement;
        let proof = prove(iss, &[(statement.names.receipt, &statement.bytes)], |_| [0; 64]).remove(0);
        Arc::new(Sealed { names: statement.names, tell: false, bytes: proof })
    }

    #[test]
    fn beyond_its_bound_the_oldest_is_forgotten_with_its_names() {
        let dir = tempfile::tempdir().expect("a folder");
        let (table, known) = (Table::open(dir.path()).expect("made"), Known::default());
        let all: Vec<Arc<Sealed>> = (0..5).map(sealed).collect();
        all.iter().for_each(|sealed| known.add(half(&sealed.names.key.expect("pure"))));
        // The first one comes again, and is the youngest then.
        let most = all[0].bytes.len() as u64 * 3;
        for number in [0, 1, 2, 0, 3, 4] {
            let batch = [all[number].clone()];
            table.file.with(|db| write_within(db, most, &batch, &known, false)).expect("written");
        }
        let kept = |name: &dyn Fn(&Sealed) -> Cid| {
            let names: Vec<Cid> = all.iter().map(|sealed| name(sealed)).collect();
            table.read(&names).expect("read").iter().map(Option::is_some).collect::<Vec<_>>()
        };
        let right = [true, false, false, true, true];
        assert_eq!(kept(&|sealed| sealed.names.key.expect("pure")), right);
        assert_eq!(kept(&|sealed| sealed.names.task), right);
        assert_eq!(kept(&|sealed| sealed.names.receipt), right);
        assert_eq!(all.iter().map(|s| known.may_hold(&s.names.key.expect("pure"))).collect::<Vec<_>>(), right);
        let of_result = table.read(&[cid_of(RAW, b"result")]).expect("read");
        assert_eq!(of_result, [Some(all[4].bytes.clone())], "the latest");
    }

    /// A small disk of its own, where the test may mount one.
    struct SmallDisk(tempfile::TempDir);

    impl SmallDisk {
        fn mount() -> Option<SmallDisk> {
            let dir = tempfile::tempdir().expect("a folder");
            let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(dir.path()).output();
            if mounted.is_ok_and(|output| output.status.success()) {
                return Some(SmallDisk(dir));
            }
            let _ = writeln!(std::io::stderr(), "SKIPPED: only root may mount a small disk");
            None
        }
    }

    impl Drop for SmallDisk {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
        }
    }

    #[test]
    fn a_full_disk_costs_what_comes_while_it_is_full_and_no_restart() {
        let Some(disk) = SmallDisk::mount() else { return };
        let (table, known) = (Table::open(disk.0.path()).expect("made"), Known::default());
        let write = |numbers: std::ops::Range<u64>| table.write(&numbers.map(sealed).collect::<Vec<_>>(), &known, true);
        let kept = |number: u64| table.read(&[sealed(number).names.task]).expect("read")[0].is_some();
        write(0..10).expect("written");
        let ballast = disk.0.path().join("ballast");
        let mut file = fs::File::create(&ballast).expect("made");
        while file.write(&[7; 4096]).is_ok_and(|written| written > 0) {}
        drop(file);
        // The file has room of its own for a while.
        let refused = (1..).find_map(|round| write(round * 1000..round * 1000 + 500).err().map(|why| (round, why)));
        let (round, why) = refused.expect("it ends");
        assert!(matches!(why, StoreError::Full { .. }), "{why}");
        assert!((0..10).all(kept), "what was written is read while the disk is full");
        assert!(!kept(round * 1000));
        fs::remove_file(ballast).expect("removed");
        write(10..20).expect("there is room again");
        assert!((0..20).all(kept));
        drop(table);
        let table = Table::open(disk.0.path()).expect("opened");
        assert!(table.read(&[sealed(15).names.task]).expect("read")[0].is_some());
    }
}
