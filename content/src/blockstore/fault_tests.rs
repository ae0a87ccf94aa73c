//! What goes wrong with a disk: it is full, read-only, or gives back other bytes. Each has its error, and nothing else is lost by it.

use super::tests::{block, file_of};
use super::*;
use crate::block::cid_v1;
use std::fs;
use std::io::Write;
use std::process::Command;
use tempfile::TempDir;

fn open(dir: &Path) -> Blockstore {
    Blockstore::open(dir).unwrap()
}

fn check(store: &Blockstore, repair: bool) -> Report {
    store.verify(repair, &mut |_| true).unwrap()
}

fn faults(report: &Report) -> Vec<(Fault, Option<Cid>)> {
    let mut faults: Vec<_> = report.findings.iter().map(|finding| (finding.fault, finding.cid)).collect();
    faults.sort_by_key(|(_, cid)| *cid);
    faults
}

/// Damages block files: one bit, the end cut off, all of it gone.
fn damage(dir: &Path, flipped: &Block, cut: &Block, gone: &Block) {
    let mut bytes = flipped.data().to_vec();
    bytes[5] ^= 1;
    fs::write(file_of(dir, flipped), bytes).unwrap();
    fs::write(file_of(dir, cut), &cut.data()[..1000]).unwrap();
    fs::remove_file(file_of(dir, gone)).unwrap();
}

#[test]
fn corrupt_truncated_and_missing_files_are_told_apart_and_the_rest_is_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let blocks: Vec<Block> = (0..5).map(|n| block(n, 100_000)).collect();
    store.put_many(&blocks).unwrap();
    damage(dir.path(), &blocks[0], &blocks[1], &blocks[2]);
    let report = check(&store, false);
    let mut expected = vec![
        (Fault::Corrupt, Some(*blocks[0].cid())),
        (Fault::Corrupt, Some(*blocks[1].cid())),
        (Fault::Missing, Some(*blocks[2].cid())),
    ];
    expected.sort_by_key(|(_, cid)| *cid);
    assert_eq!(faults(&report), expected);
    assert_eq!((report.blocks, report.bytes, report.wrong), (5, 200_000, 3));
    assert_eq!(report.findings[0].path.parent().and_then(Path::parent), Some(&*dir.path().join("blocks")));
    let repaired = check(&store, true);
    assert_eq!((repaired.found, repaired.wrong), (3, 0));
    assert_eq!(check(&store, false), Report { blocks: 2, bytes: 200_000, ..Report::default() });
    assert!(!file_of(dir.path(), &blocks[0]).exists());
}

#[test]
fn a_block_that_was_found_corrupt_is_absent_until_it_is_put_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let blocks: Vec<Block> = (0..3).map(|n| block(n, 100_000)).collect();
    store.put_many(&blocks).unwrap();
    let stat = store.stat().unwrap();
    damage(dir.path(), &blocks[0], &blocks[1], &blocks[2]);
    for block in &blocks {
        let path = file_of(dir.path(), block);
        assert_eq!(store.serve_get(block.cid()), Err(StoreError::Corrupt { cid: *block.cid(), path }), "never served");
        assert!(!store.has(block.cid()).unwrap() && !store.serve_has(block.cid()).unwrap());
    }
    store.put_many(&blocks).unwrap();
    assert_eq!(store.stat().unwrap(), stat, "counted once");
    assert_eq!(check(&store, false).found, 0);
    assert!(blocks.iter().all(|block| store.has(block.cid()).unwrap()));
}

#[test]
fn a_small_block_that_the_index_has_wrong_is_corrupt_and_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (bad, good) = (block(1, 500), block(2, 500));
    store.put_many(std::slice::from_ref(&good)).unwrap();
    // The same index, with other bytes under the hash.
    let forged = Block::hashed(*bad.cid(), &b"other bytes"[..]);
    store.put_many(&[forged]).unwrap();
    let finding = Finding {
        fault: Fault::Corrupt,
        cid: Some(Cid::new_v1(block::RAW, *bad.cid().hash())),
        path: dir.path().join("index.redb"),
        repaired: false,
    };
    assert_eq!(check(&store, false).findings, [finding]);
    store.put_many(std::slice::from_ref(&bad)).unwrap();
    assert_eq!(store.get(bad.cid()).unwrap().as_ref(), Some(bad.data()));
    assert_eq!(store.stat().unwrap(), StoreStat { blocks: 2, bytes: 1000 });
}

#[test]
fn a_lost_index_is_rebuilt_from_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (small, large) = (block(1, 100), block(2, 300_000));
    store.put_many(&[small.clone(), large.clone()]).unwrap();
    drop(store);
    fs::remove_file(dir.path().join("index.redb")).unwrap();
    let stray = dir.path().join("blocks/07/notes.txt");
    fs::write(&stray, "mine").unwrap();
    let store = open(dir.path());
    assert!(!store.has(large.cid()).unwrap());
    let report = check(&store, false);
    let found: Vec<(Fault, Option<Cid>)> = faults(&report);
    assert_eq!(found, [(Fault::Foreign, None), (Fault::Unlisted, Some(*large.cid()))]);
    assert_eq!(report.wrong, 1, "what a crash may leave is not wrong");
    assert_eq!(check(&store, true).wrong, 1);
    assert_eq!(store.get(large.cid()).unwrap().as_ref(), Some(large.data()));
    assert!(stray.exists(), "nobody knows whose it is");
}

#[test]
fn a_check_beside_puts_and_deletes_finds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            for n in 0..60 {
                let block = block(n, 20_000);
                store.put_many(std::slice::from_ref(&block)).unwrap();
                if n % 2 == 0 {
                    store.delete_many(&[*block.cid()]).unwrap();
                }
            }
        });
        while !busy.is_finished() {
            assert_eq!(check(&store, false).findings, []);
        }
    });
}

#[test]
fn a_damaged_index_is_an_error_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..40 {
        store.put_many(&[block(n, 3000)]).unwrap();
    }
    drop(store);
    let path = dir.path().join("index.redb");
    let whole = fs::read(&path).unwrap();
    let mut rng = fastrand::Rng::with_seed(7);
    let mut refused = 0;
    for round in 0..60 {
        let mut bytes = whole.clone();
        match round {
            0 => bytes.truncate(100),
            1 => bytes.truncate(whole.len() / 2),
            2 => bytes.fill(0x55),
            // Where the header is, and anywhere.
            _ => {
                let below = if round % 2 == 0 { 512 } else { bytes.len() };
                (0..rng.usize(1..64)).for_each(|_| bytes[rng.usize(..below)] = rng.u8(..));
            }
        }
        fs::write(&path, bytes).unwrap();
        match Blockstore::open(dir.path()) {
            Err(StoreError::Damaged { path: named, .. }) => {
                assert_eq!(named, path);
                refused += 1;
            }
            Err(other) => panic!("round {round}: {other:?}"),
            // Damage that nobody comes across, or that is found when it is.
            Ok(store) => {
                for n in 0..40 {
                    let block = block(n, 3000);
                    match store.get(block.cid()) {
                        Ok(Some(data)) => assert_eq!(data, block.data()),
                        Ok(None) | Err(StoreError::Corrupt { .. } | StoreError::Damaged { .. }) => {}
                        Err(other) => panic!("round {round}: {other:?}"),
                    }
                }
                let put = store.put_many(&[block(99, 3000)]);
                assert!(matches!(put, Ok(()) | Err(StoreError::Damaged { .. })), "round {round}: {put:?}");
            }
        }
    }
    assert!(refused >= 3);
}

/// A small disk of its own, where the test may mount one.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new(mib: u32) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={mib}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(SmallDisk(dir));
        }
        let _ = writeln!(std::io::stderr(), "SKIPPED: only root may mount a small disk");
        None
    }

    fn remount(&self, options: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(self.0.path()).status();
        assert!(done.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// Fills what is left of a disk.
fn fill(dir: &Path) -> PathBuf {
    let path = dir.join("ballast");
    let mut file = fs::File::create(&path).unwrap();
    while file.write(&[7; 4096]).is_ok_and(|written| written > 0) {}
    path
}

#[test]
fn a_full_disk_refuses_what_is_new_keeps_what_it_has_and_works_again_when_there_is_room() {
    for size in [500, 100_000, 256 << 10] {
        let Some(disk) = SmallDisk::new(16) else { return };
        let dir = disk.0.path();
        let store = open(&dir.join("store"));
        let kept: Vec<Block> = (0..8).map(|n| block(n, size)).chain([block(100, 500), block(101, 50_000)]).collect();
        store.put_many(&kept).unwrap();
        let ballast = fill(dir);
        // Small ones still fit into the index for a while.
        let mut number = 1000;
        let refused = loop {
            number += 1;
            let put = store.put_many(&(0..20).map(|n| block(number * 100 + n, size)).collect::<Vec<_>>());
            if let Err(error) = put {
                break error;
            }
        };
        assert!(matches!(refused, StoreError::Full { .. }), "{size}: {refused:?}");
        for block in &kept {
            assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block.data()), "{size}: reads go on");
        }
        let soon = store.put_soon((0..20).map(|n| block(number * 100 + n, size)).collect());
        assert!(matches!(soon, Err(StoreError::Full { .. })), "{size}: {soon:?}");
        fs::remove_file(ballast).unwrap();
        let later = block(7, size);
        store.put_many(&[later.clone(), block(8, 50_000)]).unwrap();
        assert_eq!(store.get(later.cid()).unwrap().as_ref(), Some(later.data()));
        assert_eq!(check(&store, false).wrong, 0);
        drop(store);
        let store = open(&dir.join("store"));
        assert!(kept.iter().chain([&later]).all(|block| store.get(block.cid()).unwrap().as_ref() == Some(block.data())));
    }
}

#[test]
fn a_store_opens_on_a_full_disk_and_a_new_one_says_that_it_is_full() {
    let Some(disk) = SmallDisk::new(8) else { return };
    let dir = disk.0.path();
    let kept = block(1, 50_000);
    open(&dir.join("store")).put_many(std::slice::from_ref(&kept)).unwrap();
    fill(dir);
    assert_eq!(open(&dir.join("store")).get(kept.cid()).unwrap().as_ref(), Some(kept.data()));
    let new = Blockstore::open(&dir.join("new")).err();
    assert!(matches!(new, Some(StoreError::Full { .. })), "{new:?}");
}

#[test]
fn a_read_only_disk_is_named() {
    let Some(disk) = SmallDisk::new(8) else { return };
    let dir = disk.0.path();
    open(dir).put_many(&[block(1, 50_000)]).unwrap();
    disk.remount("ro");
    let error = Blockstore::open(dir).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("Read-only file system") && error.contains(&dir.display().to_string()), "{error}");
    disk.remount("rw");
    assert!(open(dir).has(&cid_v1(block::RAW, block(1, 50_000).data())).unwrap());
}
