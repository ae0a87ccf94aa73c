//! The garbage collection against a model: nothing that is reachable is ever lost, and all that is not goes.

use cid::Cid;
use ipld_core::ipld::Ipld;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use timerose_content::gc::{GcError, Progress, Report, Spare};
use timerose_content::pin::{self, Mode};
use timerose_content::{Block, Content, ContentError, DAG_CBOR, Pin, RAW};

const NONE: Duration = Duration::ZERO;
const HOUR: Duration = Duration::from_secs(3600);

struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("failed with seed {}\n", self.0));
        }
    }
}

/// A node without a network, in a folder that can be opened again.
fn open(dir: &std::path::Path) -> (Content, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (content, _) = Content::open(dir, runtime.handle()).unwrap();
    (content, runtime)
}

fn gc(content: &Content, grace: Duration) -> Result<Report, GcError> {
    content.collect_garbage(grace, &mut |_| Ok(()), &mut |_| true)
}

fn leaf(bytes: impl Into<Vec<u8>>) -> Block {
    Block::encode(RAW, bytes.into()).unwrap()
}

fn node(number: u64, links: &[Cid]) -> Block {
    let links = links.iter().map(|cid| Ipld::Link(*cid)).collect();
    let data = serde_ipld_dagcbor::to_vec(&Ipld::List(vec![Ipld::Integer(number.into()), Ipld::List(links)])).unwrap();
    Block::encode(DAG_CBOR, data).unwrap()
}

/// What is below each block, as the test made it.
#[derive(Default)]
struct Model {
    blocks: BTreeMap<Cid, Vec<Cid>>,
    pins: BTreeMap<Cid, Mode>,
}

impl Model {
    fn reach(&self, root: Cid, found: &mut BTreeSet<Cid>) {
        if found.insert(root) {
            self.blocks[&root].iter().for_each(|below| self.reach(*below, found));
        }
    }

    fn pinned(&self) -> BTreeSet<Cid> {
        let mut found = BTreeSet::new();
        for (cid, mode) in &self.pins {
            if *mode == Mode::Recursive {
                self.reach(*cid, &mut found);
            }
        }
        found.extend(self.pins.keys());
        found
    }

    /// Makes a DAG over new leaves and over blocks that were there before, some of which may be gone, and pins it or not.
    fn grow(&mut self, content: &Content, rng: &mut fastrand::Rng, pinned: bool) {
        let _upload = content.upload();
        let mut made: Vec<(Cid, Vec<Cid>)> = Vec::new();
        let mut all = Vec::new();
        let old: Vec<Cid> = self.blocks.keys().copied().filter(|cid| cid.codec() == RAW).collect();
        for number in 0..rng.usize(2..20) {
            let (block, below) = match rng.u8(..4) {
                0 => (leaf(rng.u64(..40).to_le_bytes()), vec![]),
                1 => (leaf(vec![rng.u8(..8); 20_000]), vec![]),
                2 if !old.is_empty() => {
                    // Whoever links to what was there before has to say that he needs it.
                    let known = *rng.choice(&old).unwrap();
                    match content.block(&known) {
                        Ok(data) => (Block::new(known, data).unwrap(), vec![]),
                        Err(ContentError::Missing { .. }) => continue,
                        Err(other) => panic!("{other}"),
                    }
                }
                _ => {
                    let links: Vec<Cid> = (0..rng.usize(..4)).filter_map(|_| rng.choice(&made).map(|made| made.0)).collect();
                    (node(number as u64, &links), links)
                }
            };
            made.push((*block.cid(), below));
            all.push(block);
            if rng.bool() {
                content.store().put_many(&std::mem::take(&mut all)).unwrap();
            }
        }
        let links: Vec<Cid> = made.iter().map(|(cid, _)| *cid).collect();
        let root = node(rng.u64(..), &links);
        made.push((*root.cid(), links));
        all.push(root.clone());
        if rng.bool() {
            content.store().put_many(&all).unwrap()
        } else {
            content.store().put_soon(all).unwrap()
        }
        self.blocks.extend(made);
        if pinned {
            let mode = if rng.u8(..5) == 0 { Mode::Direct } else { Mode::Recursive };
            content.pin(&Pin { mode, ..Pin::recursive(*root.cid()) }).unwrap();
            self.pins.insert(*root.cid(), mode);
        }
    }
}

fn here(content: &Content) -> BTreeSet<cid::multihash::Multihash<64>> {
    content.store().iter().map(|hash| hash.unwrap()).collect()
}

#[test]
fn nothing_reachable_is_lost_and_all_else_goes() {
    for seed in [1, fastrand::u64(..)] {
        let _seed = Seed(seed);
        let mut rng = fastrand::Rng::with_seed(seed);
        let dir = tempfile::tempdir().unwrap();
        let (content, _runtime) = open(dir.path());
        let mut model = Model::default();
        for _ in 0..12 {
            for _ in 0..rng.usize(..6) {
                let pinned = rng.bool();
                model.grow(&content, &mut rng, pinned);
            }
            let some: Vec<Cid> = model.pins.keys().copied().filter(|_| rng.u8(..4) == 0).collect();
            for cid in some {
                assert!(pin::remove(content.store(), &cid).unwrap().is_some());
                model.pins.remove(&cid);
            }
            // A put_soon is on disk when a later put is.
            content.store().put_many(&[leaf("the last")]).unwrap();
            let before = content.store().stat().unwrap();
            let report = gc(&content, NONE).unwrap();
            let wanted: BTreeSet<_> = model.pinned().iter().map(|cid| *cid.hash()).collect();
            assert_eq!(here(&content), wanted);
            let after = content.store().stat().unwrap();
            assert_eq!((report.kept, report.removed), (after.blocks, before.blocks - after.blocks));
            assert_eq!(report.freed, before.bytes - after.bytes);
            model.blocks.retain(|cid, _| wanted.contains(cid.hash()));
            // A DAG of which a part went cannot be linked to as a whole any more.
            model.blocks.values_mut().for_each(|below| below.retain(|cid| wanted.contains(cid.hash())));
        }
    }
}

#[test]
fn what_is_put_and_pinned_while_collections_run_stays_whole() {
    let seed = fastrand::u64(..);
    let _seed = Seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let (content, _runtime) = open(dir.path());
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let collecting = scope.spawn(|| {
            let mut removed = 0;
            while !ended.load(Ordering::Relaxed) {
                removed += gc(&content, NONE).unwrap().removed;
            }
            removed
        });
        let growing: Vec<_> = (0..3)
            .map(|thread| {
                let (content, ended) = (&content, &ended);
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(seed.wrapping_add(thread));
                    let mut model = Model::default();
                    let stop = scopeguard(ended);
                    for _ in 0..40 {
                        let pinned = rng.bool();
                        model.grow(content, &mut rng, pinned);
                        for cid in model.pinned() {
                            assert!(content.store().get(&cid).unwrap().is_some(), "{cid} is lost");
                        }
                    }
                    std::mem::forget(stop);
                })
            })
            .collect();
        growing.into_iter().for_each(|thread| thread.join().unwrap());
        ended.store(true, Ordering::Relaxed);
        assert!(collecting.join().unwrap() > 0, "there was something to collect");
    });
}

/// Ends the collector when a test fails, which would wait for it otherwise.
fn scopeguard(ended: &AtomicBool) -> impl Drop {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    Stop(ended)
}

#[test]
fn young_blocks_are_spared_also_after_a_restart_and_when_they_came_again() {
    let dir = tempfile::tempdir().unwrap();
    let block = leaf("young");
    {
        let (content, _runtime) = open(dir.path());
        content.store().put_many(&[leaf("other"), block.clone()]).unwrap();
        assert_eq!(gc(&content, HOUR).unwrap().removed, 0);
    }
    let (content, _runtime) = open(dir.path());
    assert_eq!(gc(&content, HOUR).unwrap().removed, 0);
    let upload = content.upload();
    content.store().put_many(std::slice::from_ref(&block)).unwrap();
    assert_eq!(gc(&content, NONE).unwrap(), Report { kept: 1, removed: 1, freed: 5 }, "an upload put it again");
    drop(upload);
    assert_eq!(gc(&content, NONE).unwrap().removed, 1);
}

#[test]
fn roots_in_use_named_ones_and_blocks_for_others_are_spared() {
    let dir = tempfile::tempdir().unwrap();
    let (content, _runtime) = open(dir.path());
    let below: Vec<Block> = (0..5u8).map(|n| leaf([n])).collect();
    let nodes: Vec<Block> = below.iter().map(|leaf| node(7, &[*leaf.cid()])).collect();
    content.store().put_many(&below).unwrap();
    content.store().put_many(&nodes).unwrap();
    let hold = content.hold(&[*nodes[0].cid()]);
    pin::keep(content.store(), &[*nodes[1].cid()]).unwrap();
    let report = content.collect_garbage(
        NONE,
        &mut |spare| {
            spare(Spare::Below(*nodes[2].cid()))?;
            spare(Spare::Block(*nodes[3].cid()))
        },
        &mut |_| true,
    );
    assert_eq!(report.unwrap().removed, 2 + 2);
    let left: BTreeSet<Cid> =
        [&nodes[0], &below[0], &nodes[1], &nodes[2], &below[2], &nodes[3]].iter().map(|b| *b.cid()).collect();
    assert_eq!(here(&content), left.iter().map(|cid| *cid.hash()).collect());
    drop(hold);
    assert_eq!(gc(&content, HOUR).unwrap().removed, 0, "in use a moment ago, and young");
    assert_eq!(gc(&content, NONE).unwrap().kept, 1, "what is kept for others");
}

#[test]
fn what_was_in_use_when_a_collection_began_is_spared_if_it_is_pinned_behind_its_back() {
    let dir = tempfile::tempdir().unwrap();
    let (content, _runtime) = open(dir.path());
    let (deep, other, kept) = (leaf("deep"), leaf("other"), leaf("kept"));
    let root = node(1, &[*deep.cid()]);
    let upload = content.upload();
    content.store().put_many(&[deep.clone(), root.clone()]).unwrap();
    // All pins have been read when the further roots are asked for.
    let mut ends = Some(upload);
    let report = content.collect_garbage(
        NONE,
        &mut |_| {
            pin::put(content.store(), &Pin::recursive(*root.cid()))?;
            drop(ends.take());
            Ok(())
        },
        &mut |_| true,
    );
    assert_eq!(report.unwrap().removed, 0);
    assert!(all_here(&content, &[deep, root]));
    content.store().put_many(&[kept.clone(), other.clone()]).unwrap();
    let mut ends = Some(content.hold(&[*kept.cid()]));
    let report = content.collect_garbage(
        NONE,
        &mut |_| {
            pin::keep(content.store(), &[*kept.cid()])?;
            drop(ends.take());
            Ok(())
        },
        &mut |_| true,
    );
    assert_eq!(report.unwrap().removed, 1);
    assert!(all_here(&content, &[kept]) && !all_here(&content, &[other]));
}

#[test]
fn a_pinned_dag_with_a_hole_stops_the_collection_unless_it_is_known_to_lie_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let (content, _runtime) = open(dir.path());
    let deep = leaf("deep");
    let middle = node(1, &[*deep.cid()]);
    let root = node(2, &[*middle.cid()]);
    content.store().put_many(&[deep.clone(), middle.clone(), root.clone()]).unwrap();
    let pin = Pin::recursive(*root.cid());
    content.pin(&pin).unwrap();
    content.store().delete_many(&[*middle.cid()]).unwrap();
    assert_eq!(gc(&content, NONE), Err(GcError::Incomplete { pin: *root.cid(), missing: *middle.cid() }));
    assert!(content.store().has(deep.cid()).unwrap(), "it may yet be needed");
    assert_eq!(content.pin(&pin), Err(ContentError::Missing { cid: *middle.cid() }));
    content.pin(&Pin { partial: true, ..pin }).unwrap();
    assert_eq!(gc(&content, NONE).unwrap(), Report { kept: 1, removed: 1, freed: 4 });
}

#[test]
fn one_collection_runs_at_a_time_and_can_be_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let (content, _runtime) = open(dir.path());
    content.store().put_many(&(0..600u32).map(|n| leaf(n.to_le_bytes())).collect::<Vec<_>>()).unwrap();
    let mut told = Vec::new();
    let stopped = content.collect_garbage(NONE, &mut |_| Ok(()), &mut |progress| {
        told.push(progress);
        assert_eq!(gc(&content, NONE), Err(GcError::Running));
        false
    });
    assert_eq!(stopped, Err(GcError::Stopped));
    assert_eq!(told, [Progress::Swept { seen: 256, removed: 256 }]);
    assert_eq!(gc(&content, NONE).unwrap().removed, 600 - 256);
}

/// Makes all that is here old.
fn age(content: &Content) {
    content.store().flush().unwrap();
    let births = content.store().meta_scan_prefix("births", b"", 65_536).unwrap().into_iter().map(|(key, _)| key);
    content.store().meta_delete("births", &births.collect::<Vec<_>>()).unwrap();
}

const MAX: u64 = 1_000_000;

/// A node whose blocks may take [`MAX`] bytes.
fn open_bounded(dir: &std::path::Path) -> (Content, tokio::runtime::Runtime) {
    let (content, runtime) = open(dir);
    content.bound_storage(MAX, Box::new(|_| Ok(()))).unwrap();
    (content, runtime)
}

fn some(numbers: std::ops::Range<u8>, size: usize) -> Vec<Block> {
    numbers.map(|n| leaf(vec![n; size])).collect()
}

fn all_here(content: &Content, blocks: &[Block]) -> bool {
    blocks.iter().all(|block| content.store().has(block.cid()).unwrap())
}

#[test]
fn a_store_that_nears_its_bound_collects_garbage_by_itself_and_spares_what_is_pinned_or_young() {
    let dir = tempfile::tempdir().unwrap();
    let (content, _runtime) = open_bounded(dir.path());
    let (pinned, garbage) = (leaf(vec![100; 100_000]), some(0..7, 100_000));
    content.store().put_many(std::slice::from_ref(&pinned)).unwrap();
    content.pin(&Pin::recursive(*pinned.cid())).unwrap();
    content.store().put_many(&garbage).unwrap();
    age(&content);
    assert_eq!(content.store().stat().unwrap().bytes, 800_000, "not near it yet");
    let young = leaf(vec![101; 150_000]);
    content.store().put_many(std::slice::from_ref(&young)).unwrap();
    let begun = std::time::Instant::now();
    while content.store().stat().unwrap().bytes > 250_000 {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing was collected");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(all_here(&content, &[pinned, young]));
}

#[test]
fn a_collection_of_the_keeper_ends_when_the_store_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let (content, runtime) = open(dir.path());
    let (begun, begins) = std::sync::mpsc::sync_channel(1);
    let (close, closed) = std::sync::mpsc::sync_channel::<()>(1);
    let roots = move |_: &mut dyn FnMut(Spare) -> Result<(), GcError>| {
        begun.send(()).unwrap();
        // Once for a collection: the test lets one begin.
        closed.recv().unwrap();
        Ok(())
    };
    content.bound_storage(MAX, Box::new(roots)).unwrap();
    content.store().put_many(&(0..950u32).map(|n| leaf([n.to_le_bytes(); 250].concat())).collect::<Vec<_>>()).unwrap();
    begins.recv().unwrap();
    age(&content);
    drop((content, runtime));
    close.send(()).unwrap();
    let begin = std::time::Instant::now();
    let content = loop {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        match Content::open(dir.path(), runtime.handle()) {
            Ok((content, _)) => break content,
            Err(_) => assert!(begin.elapsed() < Duration::from_secs(60), "it is not closed"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(content.store().stat().unwrap().blocks, 950 - 256, "one step was taken");
}

#[test]
fn a_put_that_does_not_fit_waits_until_garbage_has_gone() {
    for soon in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (content, _runtime) = open_bounded(dir.path());
        content.store().put_many(&some(0..8, 100_000)).unwrap();
        age(&content);
        let more = some(10..15, 100_000);
        match soon {
            false => content.store().put_many(&more).unwrap(),
            true => content.store().put_soon(more.clone()).unwrap(),
        }
        assert!(all_here(&content, &more));
        assert_eq!(content.store().stat().unwrap().bytes, 500_000);
        let mut batch = content.store().batch();
        some(20..24, 100_000).into_iter().for_each(|block| batch.push(block).unwrap());
        batch.finish().unwrap();
    }
}

#[test]
fn a_full_store_refuses_whole_puts_loses_nothing_and_takes_what_is_here_already() {
    let dir = tempfile::tempdir().unwrap();
    let (content, _runtime) = open_bounded(dir.path());
    let kept = some(0..8, 100_000);
    content.store().put_many(&kept).unwrap();
    kept.iter().for_each(|block| content.pin(&Pin::recursive(*block.cid())).unwrap());
    age(&content);
    let over = some(10..14, 100_000);
    let full = Err(timerose_content::StoreError::OverMax { path: dir.path().to_owned(), max: MAX });
    assert_eq!(content.store().put_many(&over), full);
    assert_eq!(content.store().put_soon(over.clone()), full);
    let mut batch = content.store().batch();
    over.iter().for_each(|block| batch.push(block.clone()).unwrap());
    assert_eq!(batch.finish(), full);
    assert!(over.iter().all(|block| !content.store().has(block.cid()).unwrap()), "none of it");
    content.store().put_many(&kept).unwrap();
    content.store().put_many(&over[..1]).unwrap();
    content.pin(&Pin::recursive(*over[0].cid())).unwrap();
    assert!(all_here(&content, &kept) && all_here(&content, &over[..1]));
    assert_eq!(content.store().stat().unwrap().bytes, 900_000);
}
