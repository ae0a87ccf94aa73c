//! Peers that lie, keep silent or die: no fetch hangs, nothing false is stored, and whoever lies is named.

use crate::common::{Host, host, node, random_block, soon};
use crate::fetching::request;
use bytes::Bytes;
use cid::Cid;
use std::sync::Arc;
use timerose_content::exchange::UNREQUESTED_BUDGET;
use timerose_content::exchange::wire::{Bitswap, MAX_MESSAGE, Message, PROTOCOL, Want, WantKind};
use timerose_content::frames::{self, Config, Event, Sender};
use timerose_content::{Block, ExchangeEvent, FetchError, RAW, cid_v1};
use tokio::sync::{mpsc, watch};

/// A peer that speaks bitswap by hand.
struct Puppet {
    host: Host,
    sender: Sender,
    events: mpsc::Receiver<Event<Message>>,
}

async fn puppet() -> Puppet {
    let config = Config { protocol: PROTOCOL, max_frame: MAX_MESSAGE, max_inbound_streams: 8, queue: 16, events: 16 };
    let (behaviour, sender, events) = frames::new(config, Arc::new(Bitswap));
    Puppet { host: host(behaviour).await, sender, events }
}

/// Blocks that a message wants.
fn wanted(message: &Message) -> Vec<Cid> {
    let block = |want: &Want| match want {
        Want::Add { cid, kind: WantKind::Block, .. } => Some(*cid),
        _ => None,
    };
    message.wants.iter().filter_map(block).collect()
}

/// A peer that takes every message and answers none.
pub struct Silent {
    pub host: Host,
    asked: watch::Receiver<bool>,
    cancelled: watch::Receiver<bool>,
}

impl Silent {
    /// Returns when it has been asked something.
    pub async fn asked(&self) {
        self.asked.clone().wait_for(|asked| *asked).await.unwrap();
    }

    /// Returns when a want has been taken back.
    pub async fn cancelled(&self) {
        self.cancelled.clone().wait_for(|cancelled| *cancelled).await.unwrap();
    }
}

pub async fn silent_peer() -> Silent {
    let Puppet { host, mut events, .. } = puppet().await;
    let ((ask, asked), (cancel, cancelled)) = (watch::channel(false), watch::channel(false));
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            let Event::Message { message, .. } = event else { continue };
            ask.send_if_modified(|asked| !std::mem::replace(asked, message.wants.iter().any(|w| !w.is_cancel())));
            cancel.send_if_modified(|c| std::mem::replace(c, message.wants.iter().any(Want::is_cancel)) != *c);
        }
    });
    Silent { host, asked, cancelled }
}

#[tokio::test]
async fn a_silent_peer_ends_in_not_found_that_says_so() {
    let (a, silent) = (node().await, silent_peer().await);
    a.host.connect(&silent.host).await;
    let cid = cid_v1(RAW, b"wanted");
    let mut fetch = request(vec![cid], &[]);
    let expected = Err(FetchError::NotFound { cid, asked: 1, silent: 1 });
    assert_eq!(soon(a.content.fetch(fetch.clone())).await, expected);
    fetch.hints = vec![silent.host.peer];
    assert_eq!(soon(a.content.fetch(fetch)).await, expected);
}

#[tokio::test]
async fn a_silent_hint_does_not_keep_the_block_from_coming_from_another_peer() {
    let (a, honest, silent) = (node().await, node().await, silent_peer().await);
    let cid = honest.content.add_bytes(b"here").unwrap();
    a.host.connect(&silent.host).await;
    a.host.connect(&honest.host).await;
    let mut fetch = request(vec![cid], &[]);
    fetch.hints = vec![silent.host.peer];
    let fetched = soon(a.content.fetch(fetch)).await.unwrap();
    assert_eq!(fetched.from[&honest.host.peer], 4);
}

/// Answers each want with other bytes than those wanted, `times` times over, until it is cut off.
async fn lie(sender: Sender, mut events: mpsc::Receiver<Event<Message>>, times: u32) {
    let mut number = 0u32;
    while let Some(event) = events.recv().await {
        let Event::Message { peer, message } = event else { continue };
        for _ in wanted(&message) {
            for _ in 0..times {
                number += 1;
                let forged = Block::encode(RAW, forged(number)).unwrap();
                let answer = Message { blocks: vec![forged], ..Message::default() };
                if sender.send(&peer, answer.encode()).await.is_err() {
                    break;
                }
            }
        }
    }
}

fn forged(number: u32) -> Bytes {
    format!("forged {number}").into_bytes().into()
}

#[tokio::test]
async fn a_peer_that_answers_with_other_bytes_is_named_and_nothing_of_it_is_stored() {
    let (a, liar) = (node().await, puppet().await);
    let mut misbehaviour = a.content.events();
    let liar_id = liar.host.peer;
    a.host.connect(&liar.host).await;
    let task = tokio::spawn(lie(liar.sender, liar.events, UNREQUESTED_BUDGET + 1));
    let cid = cid_v1(RAW, b"honest bytes");
    let mut fetch = request(vec![cid], &[]);
    fetch.hints = vec![liar_id];
    let answer = soon(a.content.fetch(fetch)).await;
    assert!(matches!(answer, Err(FetchError::NotFound { cid: missing, .. }) if missing == cid), "{answer:?}");
    let ExchangeEvent::Misbehaved { peer, why } = soon(misbehaviour.recv()).await.unwrap() else { panic!() };
    assert_eq!(peer, liar_id);
    assert!(why.contains("nobody asked"), "{why}");
    a.host.until(|peers| !peers.contains(&liar_id)).await;
    assert_eq!(a.content.store().stat().unwrap().blocks, 0, "neither under the CID that was asked for nor under its own");
    assert_eq!(a.content.stats().refused, u64::from(UNREQUESTED_BUDGET) + 1);
    task.abort();
}

#[tokio::test]
async fn a_lie_does_not_keep_the_block_from_coming_from_another_peer() {
    let (a, honest, liar) = (node().await, node().await, puppet().await);
    let cid = honest.content.add_bytes(b"honest bytes").unwrap();
    a.host.connect(&liar.host).await;
    a.host.connect(&honest.host).await;
    let mut fetch = request(vec![cid], &[]);
    fetch.hints = vec![liar.host.peer];
    let _task = tokio::spawn(lie(liar.sender, liar.events, 1));
    let fetched = soon(a.content.fetch(fetch)).await.unwrap();
    assert_eq!(fetched.from.into_keys().collect::<Vec<_>>(), [honest.host.peer]);
    assert_eq!(a.content.store().stat().unwrap().blocks, 1);
}

#[tokio::test]
async fn garbage_is_refused_by_name() {
    let (a, liar) = (node().await, puppet().await);
    let mut misbehaviour = a.content.events();
    a.host.connect(&liar.host).await;
    liar.sender.send(&a.host.peer, Bytes::from_static(b"\x0a\xff")).await.unwrap();
    let ExchangeEvent::Misbehaved { peer, why } = soon(misbehaviour.recv()).await.unwrap() else { panic!() };
    assert_eq!((peer, why.as_str()), (liar.host.peer, "no bitswap message: not enough input bytes"));
}

/// What a puppet is asked for next.
async fn asked(puppet: &mut Puppet) -> Cid {
    loop {
        let Event::Message { message, .. } = soon(puppet.events.recv()).await.unwrap() else { continue };
        if let Some(cid) = wanted(&message).into_iter().next() {
            return cid;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_peer_dies_in_mid_fetch_another_continues() {
    let (a, b, mut dying) = (node().await, node().await, puppet().await);
    let mut rng = fastrand::Rng::with_seed(11);
    let blocks: Vec<Block> = (0..128).map(|_| random_block(&mut rng, 100_000)).collect();
    a.content.store().put_many(&blocks).unwrap();
    b.host.connect(&a.host).await;
    b.host.connect(&dying.host).await;
    let mut request = request(blocks.iter().map(|block| *block.cid()).collect(), &[&a]);
    request.hints.push(dying.host.peer);
    let content = b.content.clone();
    let fetch = tokio::spawn(async move { content.fetch(request).await });
    // It answers one want and is gone with the next one: that has to go elsewhere.
    let first = asked(&mut dying).await;
    let block = blocks.iter().find(|block| *block.cid() == first).unwrap();
    let answer = Message { blocks: vec![block.clone()], ..Message::default() };
    dying.sender.send(&b.host.peer, answer.encode()).await.unwrap();
    asked(&mut dying).await;
    drop(dying.host);
    let fetched = soon(fetch).await.unwrap().unwrap();
    assert_eq!(fetched.blocks, 128);
    assert!(fetched.from[&a.host.peer] >= 127 * 100_000);
}
