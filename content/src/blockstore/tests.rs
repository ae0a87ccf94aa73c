//! The store's promises: durable when told so, cheap when known, and honest about what the disk did.

use super::*;
use crate::block::{DAG_PB, RAW, cid_v1};
use std::fs;
use std::path::PathBuf;

pub(super) fn block(n: u32, size: usize) -> Block {
    let mut data = vec![0; size];
    fastrand::Rng::with_seed(u64::from(n)).fill(&mut data);
    Block::encode(RAW, data).unwrap()
}

/// Small and large blocks, and those at the border.
fn blocks() -> Vec<Block> {
    [0, 1, MAX_SMALL_BYTES - 1, MAX_SMALL_BYTES, MAX_SMALL_BYTES + 1, 256 << 10, block::MAX_BLOCK_BYTES]
        .iter()
        .enumerate()
        .map(|(n, size)| block(n as u32, *size))
        .collect()
}

pub(super) fn file_of(dir: &Path, block: &Block) -> PathBuf {
    let last = block.cid().hash().digest().last().copied().unwrap();
    dir.join("blocks").join(format!("{last:02x}")).join(Cid::new_v1(RAW, *block.cid().hash()).to_string())
}

#[test]
fn what_was_put_is_here_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = blocks();
    let store = Blockstore::open(dir.path()).unwrap();
    store.put_many(&blocks).unwrap();
    store.put_many(&blocks).unwrap();
    drop(store);
    let store = Blockstore::open(dir.path()).unwrap();
    for block in &blocks {
        assert!(store.has(block.cid()).unwrap());
        assert_eq!(store.size_of(block.cid()).unwrap(), Some(block.size() as u64));
        assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block.data()));
    }
    let bytes = blocks.iter().map(|block| block.size() as u64).sum();
    assert_eq!(store.stat().unwrap(), StoreStat { blocks: blocks.len() as u64, bytes });
    let mut listed: Vec<Multihash> = store.iter().map(Result::unwrap).collect();
    let mut expected: Vec<Multihash> = blocks.iter().map(|block| *block.cid().hash()).collect();
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);
    let mut checked = 0;
    let report = store
        .verify(false, &mut |n| {
            checked = n;
            true
        })
        .unwrap();
    assert_eq!(report, Report { blocks: checked, bytes, ..Report::default() });
    assert_eq!(checked, blocks.len() as u64);
}

#[test]
fn a_block_is_one_block_under_every_codec() {
    let dir = tempfile::tempdir().unwrap();
    let store = Blockstore::open(dir.path()).unwrap();
    let raw = Block::encode(RAW, &b"same"[..]).unwrap();
    let dag = Block::encode(DAG_PB, &b"same"[..]).unwrap();
    store.put_many(&[raw, dag.clone()]).unwrap();
    assert_eq!(store.stat().unwrap().blocks, 1);
    assert_eq!(store.get(dag.cid()).unwrap().as_ref(), Some(dag.data()));
}

#[test]
fn deleting_returns_the_space_and_spares_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let store = Blockstore::open(dir.path()).unwrap();
    let blocks = blocks();
    store.put_many(&blocks).unwrap();
    let (gone, kept) = blocks.split_at(5);
    let cids: Vec<Cid> = gone.iter().map(|block| *block.cid()).chain([cid_v1(RAW, b"never here")]).collect();
    store.delete_many(&cids).unwrap();
    for block in gone {
        assert_eq!(store.get(block.cid()).unwrap(), None);
        assert!(!file_of(dir.path(), block).exists());
    }
    assert_eq!(store.stat().unwrap().blocks, kept.len() as u64);
    for block in kept {
        assert!(store.get(block.cid()).unwrap().is_some());
    }
}

#[test]
fn concurrent_puts_and_deletes_keep_the_counters_exact() {
    let dir = tempfile::tempdir().unwrap();
    let store = Blockstore::open(dir.path()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let store = store.clone();
            scope.spawn(move || {
                for round in 0..8 {
                    // Half of the blocks are every thread's, half are its own.
                    let shared = block(round, 20_000);
                    let own = block(1000 * (thread + 1) + round, 1000);
                    store.put_many(&[shared, own.clone()]).unwrap();
                    if round % 2 == 0 {
                        store.delete_many(&[*own.cid()]).unwrap();
                    }
                }
            });
        }
    });
    let stat = StoreStat { blocks: 8 + 16, bytes: 8 * 20_000 + 16 * 1000 };
    assert_eq!(store.stat().unwrap(), stat);
    assert_eq!(store.verify(false, &mut |_| true).unwrap().found, 0);
}

#[test]
fn a_crash_between_file_and_index_leaves_a_store_that_opens_and_heals() {
    let dir = tempfile::tempdir().unwrap();
    let kept = block(1, 100_000);
    let store = Blockstore::open(dir.path()).unwrap();
    store.put_many(std::slice::from_ref(&kept)).unwrap();
    drop(store);
    // A half-written temporary file, and a whole file that the index never heard of.
    let orphan = block(2, 50_000);
    fs::write(dir.path().join("tmp").join("0"), &orphan.data()[..1000]).unwrap();
    fs::write(file_of(dir.path(), &orphan), &orphan.data()[..1000]).unwrap();
    let store = Blockstore::open(dir.path()).unwrap();
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    assert!(!store.has(orphan.cid()).unwrap());
    assert_eq!(store.get(orphan.cid()).unwrap(), None);
    store.put_many(std::slice::from_ref(&orphan)).unwrap();
    assert_eq!(store.get(orphan.cid()).unwrap().as_ref(), Some(orphan.data()));
    assert_eq!(store.get(kept.cid()).unwrap().as_ref(), Some(kept.data()));
}

#[test]
fn a_copy_taken_after_each_put_holds_every_acknowledged_block() {
    let dir = tempfile::tempdir().unwrap();
    let store = Blockstore::open(dir.path()).unwrap();
    let mut acknowledged = Vec::new();
    for n in 0..4 {
        let batch = [block(n, 40_000), block(100 + n, 500)];
        store.put_many(&batch).unwrap();
        acknowledged.extend(batch);
        // What a machine would find after losing power now; the store itself goes on writing.
        let copy = tempfile::tempdir().unwrap();
        copy_tree(dir.path(), copy.path());
        let copied = Blockstore::open(copy.path()).unwrap();
        for block in &acknowledged {
            assert_eq!(copied.get(block.cid()).unwrap().as_ref(), Some(block.data()));
        }
    }
}

pub(super) fn copy_tree(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_disk_error_reaches_the_caller_and_the_store_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = Blockstore::open(dir.path()).unwrap();
    // A file where the temporary folder should be: no block file can be made.
    fs::remove_dir(dir.path().join("tmp")).unwrap();
    fs::write(dir.path().join("tmp"), "").unwrap();
    let (large, small) = (block(1, 100_000), block(2, 100));
    let error = store.put_many(std::slice::from_ref(&large)).unwrap_err();
    assert!(matches!(error, StoreError::Io { doing: "write", .. }), "{error:?}");
    assert!(!store.has(large.cid()).unwrap());
    store.put_many(std::slice::from_ref(&small)).unwrap();
    assert!(store.has(small.cid()).unwrap());
}

#[test]
fn a_second_opener_and_a_newer_format_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Blockstore::open(dir.path()).unwrap();
    let second = Blockstore::open(dir.path()).err().unwrap();
    assert_eq!(second, StoreError::Locked { path: dir.path().to_owned() });
    drop(store);
    fs::write(dir.path().join("FORMAT"), "timerose blockstore 2\n").unwrap();
    let newer = Blockstore::open(dir.path()).err().unwrap();
    assert!(matches!(newer, StoreError::Format { ref found, .. } if found == "timerose blockstore 2\n"), "{newer}");
}

#[test]
fn metadata_is_durable_ordered_and_apart_from_other_tables() {
    let dir = tempfile::tempdir().unwrap();
    let store = Blockstore::open(dir.path()).unwrap();
    assert_eq!(store.meta_get("pins", b"a/1").unwrap(), None);
    assert_eq!(store.meta_scan_prefix("pins", b"", 9).unwrap(), []);
    let entry = |key: &str| (key.as_bytes().to_vec(), b"v".to_vec());
    store.meta_put("pins", &[entry("a/2"), entry("b/1"), entry("a/1"), entry("a/3")]).unwrap();
    store.meta_put("blocks", &[entry("a/9")]).unwrap();
    drop(store);
    let store = Blockstore::open(dir.path()).unwrap();
    assert_eq!(store.stat().unwrap().blocks, 0);
    assert_eq!(store.meta_get("pins", b"a/1").unwrap(), Some(b"v".to_vec()));
    assert_eq!(store.meta_scan_prefix("pins", b"a/", 2).unwrap(), [entry("a/1"), entry("a/2")]);
    store.meta_delete("pins", &[b"a/1".to_vec()]).unwrap();
    assert_eq!(store.meta_scan_prefix("pins", b"a/", 9).unwrap(), [entry("a/2"), entry("a/3")]);
}

#[test]
fn staged_blocks_are_served_but_not_kept_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let store = Blockstore::open(dir.path()).unwrap();
    let staged = block(1, 1000);
    store.stage(vec![staged.clone()]).unwrap();
    store.stage(vec![staged.clone()]).unwrap();
    assert_eq!(store.get(staged.cid()).unwrap(), None);
    assert_eq!(store.serve_get(staged.cid()).unwrap().as_ref(), Some(staged.data()));
    assert!(store.serve_has(staged.cid()).unwrap() && !store.has(staged.cid()).unwrap());
    let large: Vec<Block> = (10..43).map(|n| block(n, block::MAX_BLOCK_BYTES)).collect();
    let before = store.staged_bytes();
    let full = store.stage(large).unwrap_err();
    assert_eq!(full.staged, before);
    assert_eq!(store.staged_bytes(), before, "nothing of it was staged");
    store.unstage(&[*staged.cid()]);
    assert!(store.serve_has(staged.cid()).unwrap(), "it was staged twice");
    store.unstage(&[*staged.cid()]);
    assert_eq!((store.staged_bytes(), store.serve_has(staged.cid()).unwrap()), (0, false));
}

#[test]
fn identity_cids_need_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = Blockstore::open(dir.path()).unwrap();
    let cid = Cid::new_v1(RAW, Multihash::wrap(block::IDENTITY, b"inline").unwrap());
    let block = Block::new(cid, &b"inline"[..]).unwrap();
    store.put_many(&[block]).unwrap();
    assert_eq!(store.stat().unwrap().blocks, 0);
    assert_eq!(store.get(&cid).unwrap().unwrap(), &b"inline"[..]);
}

#[test]
fn a_batch_writer_stores_everything_it_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let store = Blockstore::open(dir.path()).unwrap();
    let blocks: Vec<Block> = (0..256).map(|n| block(n, 256 << 10)).collect();
    let mut batch = store.batch();
    let begun = std::time::Instant::now();
    for block in blocks {
        batch.push(block).unwrap();
    }
    batch.finish().unwrap();
    let rate = 64.0 / begun.elapsed().as_secs_f64();
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("put, durable: {rate:.0} MiB/s\n"));
    assert_eq!(store.stat().unwrap(), StoreStat { blocks: 256, bytes: 64 << 20 });
}

#[test]
fn what_is_put_soon_is_here_at_once_and_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = Blockstore::open(dir.path()).unwrap();
    let blocks = blocks();
    for block in &blocks {
        store.put_soon(vec![block.clone()]).unwrap();
        assert!(store.has(block.cid()).unwrap());
        assert_eq!(store.size_of(block.cid()).unwrap(), Some(block.size() as u64));
        assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block.data()));
        assert_eq!(store.serve_get(block.cid()).unwrap().as_ref(), Some(block.data()));
    }
    store.delete_many(&[*blocks[3].cid()]).unwrap();
    assert!(!store.has(blocks[3].cid()).unwrap(), "what was deleted does not come back from memory");
    drop(store);
    let store = Blockstore::open(dir.path()).unwrap();
    let kept: Vec<bool> = blocks.iter().map(|block| store.has(block.cid()).unwrap()).collect();
    assert_eq!(kept, [true, true, true, false, true, true, true]);
    assert_eq!(store.0.disk.fresh.bytes(), 0);
}

#[test]
fn more_than_memory_may_hold_can_be_put_soon() {
    let dir = tempfile::tempdir().unwrap();
    let store = Blockstore::open(dir.path()).unwrap();
    let large: Vec<Block> = (0..48).map(|n| block(n, 2 << 20)).collect();
    for block in &large {
        store.put_soon(vec![block.clone()]).unwrap();
        assert!(store.0.disk.fresh.bytes() <= MAX_STAGED_BYTES);
    }
    assert!(large.iter().all(|block| store.get(block.cid()).unwrap().as_ref() == Some(block.data())));
}

#[test]
fn what_many_put_side_by_side_is_kept_whether_they_wait_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = Blockstore::open(dir.path()).unwrap();
    // More threads than requests may wait.
    let put = |thread: u32| {
        for n in (0..20).map(|n| thread * 20 + n) {
            let block = block(n, 100);
            if thread.is_multiple_of(2) { store.put_soon(vec![block]) } else { store.put_many(&[block]) }.unwrap();
        }
    };
    std::thread::scope(|scope| (0..160).for_each(|thread| drop(scope.spawn(move || put(thread)))));
    store.flush().unwrap();
    assert_eq!(store.stat().unwrap().blocks, 160 * 20);
    assert_eq!(store.0.disk.fresh.bytes(), 0);
}
