//! Fetching between honest nodes: whole DAGs, from several holders, and a clear answer when nobody has a block.

use crate::common::{Node, figure, node, random_block, soon};
use std::time::Instant;
use timerose_content::{Block, ContentError, DAG_CBOR, Fetch, FetchError, Fetched, RAW, StoreError, cid_v1};

pub fn request(roots: Vec<cid::Cid>, hints: &[&Node]) -> Fetch {
    Fetch { roots, hints: hints.iter().map(|n| n.host.peer).collect(), recursive: true, limit_bytes: u64::MAX }
}

/// A folder of `files` files of `size` random bytes each.
fn folder(files: usize, size: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(7);
    for n in 0..files {
        let mut data = vec![0; size];
        rng.fill(&mut data);
        let sub = dir.path().join(format!("sub{}", n % 3));
        std::fs::create_dir_all(&sub).unwrap();
        std::fs::write(sub.join(format!("file{n}")), data).unwrap();
    }
    dir
}

/// Adds a path to a node, on a blocking thread as callers should.
async fn add(node: &Node, path: &std::path::Path) -> timerose_content::Root {
    let (content, path) = (node.content.clone(), path.to_owned());
    tokio::task::spawn_blocking(move || content.add_path(&path, &mut |_, _| {}).unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_32_mib_is_fetched_whole_and_reads_back() {
    let (a, b) = (node().await, node().await);
    let source = folder(8, 4 << 20);
    let root = add(&a, source.path()).await;
    b.host.connect(&a.host).await;
    let begun = Instant::now();
    let fetched = soon(b.content.fetch(request(vec![root.cid], &[&a]))).await.unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    figure(&format!("fetch: {:.0} MiB/s", fetched.bytes as f64 / 1048576.0 / seconds));
    assert_eq!(fetched.blocks, root.blocks);
    assert_eq!(fetched.from.keys().collect::<Vec<_>>(), [&a.host.peer]);
    for n in 0..8 {
        let name = format!("sub{}/file{n}", n % 3);
        let mut copy = Vec::new();
        b.content.export(&b.content.resolve(&root.cid, &name).unwrap().cid, &mut copy).unwrap();
        assert!(copy == std::fs::read(source.path().join(&name)).unwrap());
    }
    assert_eq!(b.content.stats().blocks_in, root.blocks);
    assert_eq!(a.content.stats().bytes_out, fetched.bytes);
    let again = soon(b.content.fetch(request(vec![root.cid], &[&a]))).await.unwrap();
    assert_eq!(again, Fetched::default(), "what is here is not fetched again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_spread_over_two_holders_comes_from_both_without_hints() {
    let (a, b, c) = (node().await, node().await, node().await);
    let mut rng = fastrand::Rng::with_seed(3);
    let blocks: Vec<Block> = (0..40).map(|_| random_block(&mut rng, 50_000)).collect();
    a.content.store().put_many(&blocks[..20]).unwrap();
    b.content.store().put_many(&blocks[20..]).unwrap();
    let cids: Vec<_> = blocks.iter().map(|block| *block.cid()).collect();
    let list = Block::encode(DAG_CBOR, serde_ipld_dagcbor::to_vec(&cids).unwrap()).unwrap();
    b.content.store().put_many(std::slice::from_ref(&list)).unwrap();
    c.host.connect(&a.host).await;
    c.host.connect(&b.host).await;
    let fetched = soon(c.content.fetch(request(vec![*list.cid()], &[]))).await.unwrap();
    assert_eq!(fetched.blocks, 41);
    assert_eq!(fetched.from[&a.host.peer], 20 * 50_000);
    for block in &blocks {
        assert_eq!(c.content.store().get(block.cid()).unwrap().as_ref(), Some(block.data()));
    }
}

#[tokio::test]
async fn an_unknown_block_is_not_found_at_once_and_the_error_counts_the_peers() {
    let nodes = [node().await, node().await, node().await];
    let cid = cid_v1(RAW, b"nobody has this");
    let alone = nodes[0].content.fetch(request(vec![cid], &[])).await;
    assert_eq!(alone, Err(FetchError::NotFound { cid, asked: 0, silent: 0 }));
    nodes[0].host.connect(&nodes[1].host).await;
    nodes[0].host.connect(&nodes[2].host).await;
    let answer = soon(nodes[0].content.fetch(request(vec![cid], &[&nodes[1]]))).await;
    assert_eq!(answer, Err(FetchError::NotFound { cid, asked: 2, silent: 0 }), "everybody answered");
}

#[tokio::test]
async fn a_fetch_over_its_limit_ends() {
    let (a, b) = (node().await, node().await);
    let cid = a.content.add_bytes(random_block(&mut fastrand::Rng::with_seed(1), 1 << 20).data()).unwrap();
    b.host.connect(&a.host).await;
    let fetch = Fetch { limit_bytes: 300 << 10, ..request(vec![cid], &[&a]) };
    assert_eq!(soon(b.content.fetch(fetch)).await, Err(FetchError::LimitExceeded { limit: 300 << 10 }));
}

#[tokio::test]
async fn two_fetches_of_one_block_share_it() {
    let (a, b) = (node().await, node().await);
    let mut rng = fastrand::Rng::with_seed(5);
    let blocks: Vec<Block> = (0..64).map(|_| random_block(&mut rng, 20_000)).collect();
    a.content.store().put_many(&blocks).unwrap();
    let cids: Vec<_> = blocks.iter().map(|block| *block.cid()).collect();
    b.host.connect(&a.host).await;
    let one = b.content.fetch(request(cids.clone(), &[&a]));
    let two = b.content.fetch(request(cids, &[&a]));
    let (one, two) = soon(futures::future::join(one, two)).await;
    one.unwrap();
    two.unwrap();
    assert_eq!(b.content.stats().blocks_in, 64, "each block was fetched once");
    assert_eq!(b.content.stats().duplicates, 0);
}

#[tokio::test]
async fn a_block_that_a_peer_gets_later_still_comes() {
    let (a, b, silent) = (node().await, node().await, crate::misbehaving::silent_peer().await);
    let block = Block::encode(RAW, &b"late"[..]).unwrap();
    b.host.connect(&a.host).await;
    // The silent peer keeps the want open: nobody says that it has the block.
    b.host.connect(&silent.host).await;
    let fetch = tokio::spawn({
        let (content, request) = (b.content.clone(), request(vec![*block.cid()], &[&a]));
        async move { content.fetch(request).await }
    });
    soon(silent.asked()).await;
    a.content.store().stage(vec![block.clone()]).unwrap();
    let fetched = soon(fetch).await.unwrap().unwrap();
    assert_eq!(fetched.from[&a.host.peer], 4);
    assert_eq!(a.content.store().get(block.cid()).unwrap(), None, "it was staged, not kept");
    assert_eq!(b.content.store().get(block.cid()).unwrap().as_ref(), Some(block.data()));
}

#[tokio::test]
async fn a_peer_that_connects_during_a_fetch_is_asked_as_well() {
    let (a, b, silent) = (node().await, node().await, crate::misbehaving::silent_peer().await);
    let cid = a.content.add_bytes(b"here").unwrap();
    b.host.connect(&silent.host).await;
    let fetch = tokio::spawn({
        let (content, request) = (b.content.clone(), request(vec![cid], &[]));
        async move { content.fetch(request).await }
    });
    soon(silent.asked()).await;
    b.host.connect(&a.host).await;
    assert_eq!(soon(fetch).await.unwrap().unwrap().blocks, 1);
}

#[tokio::test]
async fn dropping_a_fetch_takes_its_wants_back() {
    let (b, silent) = (node().await, crate::misbehaving::silent_peer().await);
    let cid = cid_v1(RAW, b"never");
    b.host.connect(&silent.host).await;
    let fetch = tokio::spawn({
        let (content, request) = (b.content.clone(), request(vec![cid], &[]));
        async move { content.fetch(request).await }
    });
    soon(silent.asked()).await;
    fetch.abort();
    soon(silent.cancelled()).await;
}

#[tokio::test]
async fn a_node_that_is_dropped_lets_go_of_its_store() {
    let (a, b) = (node().await, node().await);
    let cid = a.content.add_bytes(b"kept").unwrap();
    b.host.connect(&a.host).await;
    soon(b.content.fetch(request(vec![cid], &[&a]))).await.unwrap();
    let Node { host, content, dir } = b;
    drop((host, content));
    // The tasks of the exchange end by themselves, and the store closes with the last of them.
    let mut again = tokio::time::interval(std::time::Duration::from_millis(5));
    let reopened = async {
        loop {
            match timerose_content::Blockstore::open(dir.path()) {
                Err(timerose_content::StoreError::Locked { .. }) => again.tick().await,
                other => return other.unwrap(),
            };
        }
    };
    assert!(soon(reopened).await.has(&cid).unwrap());
}

/// Spoils the files of a node's large blocks.
fn spoil(node: &crate::common::Node) {
    for shard in std::fs::read_dir(node.dir.path().join("blocks")).unwrap() {
        for file in std::fs::read_dir(shard.unwrap().path()).unwrap() {
            std::fs::write(file.unwrap().path(), b"other bytes").unwrap();
        }
    }
}

#[tokio::test]
async fn a_corrupt_block_is_never_served_and_comes_back_from_a_peer_that_has_it() {
    let (holder, whole, asker) = (node().await, node().await, node().await);
    let bytes = vec![7; 100_000];
    let cid = holder.content.add_bytes(&bytes).unwrap();
    spoil(&holder);
    asker.host.connect(&holder.host).await;
    let refused = soon(asker.content.fetch(request(vec![cid], &[&holder]))).await;
    assert_eq!(refused, Err(FetchError::NotFound { cid, asked: 1, silent: 0 }));
    assert_eq!(asker.content.store().stat().unwrap().blocks, 0);
    // Whoever reads it hears that it is corrupt, and a fetch then brings it from elsewhere.
    assert!(matches!(holder.content.block(&cid), Err(ContentError::Store(StoreError::Corrupt { .. }))));
    whole.content.add_bytes(&bytes).unwrap();
    holder.host.connect(&whole.host).await;
    let fetched = soon(holder.content.fetch(request(vec![cid], &[]))).await.unwrap();
    assert_eq!(fetched.from.into_keys().collect::<Vec<_>>(), [whole.host.peer]);
    assert_eq!(holder.content.block(&cid).unwrap(), bytes);
    assert_eq!(holder.content.store().verify(false, &mut |_| true).unwrap().found, 0);
}
