//! Ledgers and limits: what each peer had is counted, and one that wants much does not keep another waiting.

use crate::common::{Node, host, node, random_block, soon};
use crate::fetching::request;
use cid::Cid;
use std::sync::Arc;
use timerose_content::exchange::wire::{Bitswap, MAX_MESSAGE, Message, PROTOCOL, Want, WantKind};
use timerose_content::frames::{self, Config, Event};
use timerose_content::{Block, Ledger};
use tokio::sync::watch;

fn cids(blocks: &[Block]) -> Vec<Cid> {
    blocks.iter().map(|block| *block.cid()).collect()
}

fn blocks(seed: u64, count: usize, size: usize) -> Vec<Block> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| random_block(&mut rng, size)).collect()
}

/// What a node has exchanged with another.
fn ledger(of: &Node, with: &Node) -> Ledger {
    let ledgers = of.content.ledgers();
    ledgers.into_iter().find(|(peer, _)| *peer == with.host.peer).map(|(_, ledger)| ledger).unwrap_or_default()
}

#[tokio::test]
async fn both_ends_keep_the_same_ledger_and_keep_it_when_the_other_goes() {
    let (a, b) = (node().await, node().await);
    let some = blocks(1, 20, 30_000);
    a.content.store().put_many(&some).unwrap();
    b.host.connect(&a.host).await;
    soon(b.content.fetch(request(cids(&some), &[&a]))).await.unwrap();
    let came = Ledger { bytes_in: 600_000, blocks_in: 20, connected: true, ..Ledger::default() };
    assert_eq!(ledger(&b, &a), came);
    let went = Ledger { bytes_out: 600_000, blocks_out: 20, connected: true, ..Ledger::default() };
    let peer = b.host.peer;
    soon(async {
        // It is counted a moment after it was sent.
        while ledger(&a, &b) != went {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(b);
    soon(a.host.until(|peers| !peers.contains(&peer))).await;
    soon(async {
        while a.content.ledgers().iter().any(|(_, ledger)| ledger.connected) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(a.content.ledgers(), [(peer, Ledger { connected: false, ..went })]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_modest_peer_is_served_in_turn_with_one_that_wants_a_thousand_blocks_at_once() {
    let (a, modest) = (node().await, node().await);
    let config = Config { protocol: PROTOCOL, max_frame: MAX_MESSAGE, max_inbound_streams: 8, queue: 16, events: 16 };
    let (behaviour, sender, mut events) = frames::new(config, Arc::new(Bitswap));
    let greedy = host(behaviour).await;
    let (much, little) = (blocks(2, 1000, 16 << 10), blocks(3, 10, 16 << 10));
    a.content.store().put_many(&much).unwrap();
    a.content.store().put_many(&little).unwrap();
    // All of it takes a minute, and the little under a second by itself.
    a.content.limit_bandwidth(Some(256 << 10), None);
    greedy.connect(&a.host).await;
    modest.host.connect(&a.host).await;
    let want = |cid: &Cid| Want::Add { cid: *cid, kind: WantKind::Block, send_dont_have: true };
    let wants = Message { wants: cids(&much).iter().map(want).collect(), ..Message::default() };
    sender.send(&a.host.peer, wants.encode()).await.unwrap();
    let (tell, mut had) = watch::channel(0);
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            let Event::Message { message, .. } = event else { continue };
            tell.send_modify(|had| *had += message.blocks.len());
        }
    });
    // It is being served when the other comes.
    soon(had.wait_for(|had| *had >= 20)).await.unwrap();
    let fetched = soon(modest.content.fetch(request(cids(&little), &[&a]))).await.unwrap();
    let by_then = *had.borrow();
    assert_eq!(fetched.blocks, 10);
    assert!(by_then < 900, "first come, first served: {by_then} of 1000 went before the 10 that the modest one wanted");
    a.content.limit_bandwidth(None, None);
    soon(had.wait_for(|had| *had == 1000)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_peer_is_not_taken_for_a_silent_one() {
    let (a, b) = (node().await, node().await);
    // A block takes four seconds: longer than silence is borne.
    let some = blocks(4, 2, 1 << 20);
    a.content.store().put_many(&some).unwrap();
    a.content.limit_bandwidth(Some(256 << 10), None);
    b.content.limit_bandwidth(None, Some(1 << 20));
    b.host.connect(&a.host).await;
    let fetched = soon(b.content.fetch(request(cids(&some), &[&a]))).await.unwrap();
    assert_eq!((fetched.blocks, b.content.stats().duplicates), (2, 0));
}
