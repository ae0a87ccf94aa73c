//! The client's decisions, without a network and with a clock of the test's own.

use super::outbox::Outbox;
use super::peer::{ASK_LIMIT, MAX_OPEN, MAX_OPEN_FOREIGN, UNREQUESTED_BUDGET};
use super::session::{Client, PATIENCE, SHORTLIST, STALL, Stored, Update, WIDEN};
use super::survey::{SURVEY_WAIT, Surveyed};
use super::wire::{Message, Presence, Want, WantKind};
use crate::block::{Block, RAW, cid_v1};
use cid::Cid;
use libp2p::PeerId;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// A client with peers whose outboxes the test reads.
struct World {
    client: Client,
    now: Instant,
    peers: Vec<(PeerId, Arc<Outbox>)>,
    updates: mpsc::Receiver<Update>,
}

fn cid(n: usize) -> Cid {
    cid_v1(RAW, &n.to_le_bytes())
}

/// A world with `peers` connected, and one fetch that hints at the first `hints` of them.
fn world(peers: usize, hints: usize) -> World {
    let now = Instant::now();
    let mut client = Client::default();
    let peers: Vec<(PeerId, Arc<Outbox>)> = (0..peers).map(|_| (PeerId::random(), Arc::new(Outbox::default()))).collect();
    for (peer, outbox) in &peers {
        client.connected(now, *peer, outbox.clone());
    }
    let (sender, updates) = mpsc::channel(1024);
    client.open(1, peers.iter().take(hints).map(|(peer, _)| *peer).collect(), sender);
    World { client, now, peers, updates }
}

impl World {
    fn want(&mut self, cids: impl IntoIterator<Item = usize>) {
        self.client.want(self.now, 1, cids.into_iter().map(cid).collect());
    }

    /// What a peer has been sent since this was asked last, as `block`, `have` and `cancel` with the number of wants.
    fn said(&self, peer: usize) -> Vec<(&'static str, Cid)> {
        let word = |want: &Want| match want {
            Want::Add { cid, kind: WantKind::Block, .. } => ("block", *cid),
            Want::Add { cid, kind: WantKind::Have, .. } => ("have", *cid),
            Want::Cancel { cid } => ("cancel", *cid),
        };
        self.peers[peer].1.try_take(usize::MAX).map_or(Vec::new(), |batch| batch.entries.iter().map(word).collect())
    }

    fn answer(&mut self, peer: usize, presences: Vec<Presence>) {
        let message = Message { presences, ..Message::default() };
        self.client.message(self.now, self.peers[peer].0, message);
    }

    fn send(&mut self, peer: usize, n: usize) {
        let blocks = vec![Block::encode(RAW, n.to_le_bytes().to_vec()).unwrap()];
        self.client.message(self.now, self.peers[peer].0, Message { blocks, ..Message::default() });
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.client.tick(self.now, &|_| None);
    }

    fn not_found(&mut self) -> Option<(Cid, usize, usize)> {
        match self.updates.try_recv() {
            Ok(Update::NotFound { cid, asked, silent }) => Some((cid, asked, silent)),
            _ => None,
        }
    }
}

#[test]
fn wants_are_spread_over_the_holders_and_no_peer_gets_too_many() {
    let mut world = world(3, 2);
    let peers: Vec<PeerId> = world.peers.iter().map(|(peer, _)| *peer).collect();
    peers.iter().for_each(|peer| world.client.ours(peer));
    world.want(0..200);
    let asked = world.said(0);
    assert_eq!(asked.len(), MAX_OPEN);
    assert_eq!(world.said(1).len(), MAX_OPEN);
    assert!(world.said(2).is_empty(), "a peer that nobody hinted at is not bothered");
    let answered = (0..200).find(|n| asked.contains(&("block", cid(*n)))).unwrap();
    world.send(0, answered);
    let next = world.said(0);
    assert_eq!(next.len(), 1, "an answer makes room for one more");
    assert_eq!(next[0].0, "block");
}

#[test]
fn without_hints_the_first_that_has_it_is_asked_for_it_and_the_others_are_told_when_it_came() {
    let mut world = world(3, 0);
    world.want([7]);
    for peer in 0..3 {
        assert_eq!(world.said(peer), [("have", cid(7))]);
    }
    world.answer(1, vec![Presence::Have(cid(7))]);
    world.answer(2, vec![Presence::Have(cid(7))]);
    assert_eq!(world.said(1), [("block", cid(7))]);
    assert!(world.said(2).is_empty());
    world.send(1, 7);
    assert_eq!(world.said(0), [("cancel", cid(7))]);
    assert_eq!(world.said(2), [("cancel", cid(7))]);
    assert!(world.said(1).is_empty());
    world.want([8]);
    assert_eq!(world.said(1), [("block", cid(8))], "who helped is asked first");
}

#[test]
fn a_shortlist_is_asked_before_the_rest() {
    let mut world = world(SHORTLIST + 5, 0);
    world.want([1]);
    let asked: Vec<usize> = (0..SHORTLIST + 5).filter(|peer| !world.said(*peer).is_empty()).collect();
    assert_eq!(asked.len(), SHORTLIST);
    for peer in asked {
        world.answer(peer, vec![Presence::DontHave(cid(1))]);
    }
    let rest: Vec<usize> = (0..SHORTLIST + 5).filter(|peer| world.said(*peer).iter().any(|s| s.0 == "have")).collect();
    assert_eq!(rest.len(), 5);
    assert_eq!(world.not_found(), None);
    for peer in rest {
        world.answer(peer, vec![Presence::DontHave(cid(1))]);
    }
    assert_eq!(world.not_found(), Some((cid(1), SHORTLIST + 5, 0)));
}

#[test]
fn a_silent_shortlist_grows_until_everybody_is_asked() {
    let mut world = world(SHORTLIST * 4, 0);
    world.want([1]);
    let asked = |world: &World| (0..SHORTLIST * 4).filter(|peer| world.said(*peer).iter().any(|s| s.0 == "have")).count();
    assert_eq!(asked(&world), SHORTLIST);
    for more in [SHORTLIST, 2 * SHORTLIST, 0] {
        world.pass(WIDEN);
        assert_eq!(asked(&world), more);
    }
}

/// A block of so many bytes, its number first.
fn block(n: usize, bytes: usize) -> Block {
    let mut data = n.to_le_bytes().to_vec();
    data.resize(bytes, 0);
    Block::encode(RAW, data).unwrap()
}

/// Has a foreign peer send blocks of so many bytes as it is asked for them, and gives how many it is asked for at once: at first, and then.
fn windows(bytes: usize) -> (usize, usize) {
    let mut world = world(1, 1);
    let blocks: Vec<Block> = (0..30).map(|n| block(n, bytes)).collect();
    world.client.want(world.now, 1, blocks.iter().map(|block| *block.cid()).collect());
    let mut open = world.said(0).len();
    let before = open;
    // Wants are made in the order in which they were given.
    for block in blocks.into_iter().take(20) {
        world.client.message(world.now, world.peers[0].0, Message { blocks: vec![block], ..Message::default() });
        open = open - 1 + world.said(0).len();
    }
    (before, open)
}

#[test]
fn a_foreign_peer_is_asked_for_no_more_than_it_can_answer_in_one_message() {
    assert_eq!(windows(256 << 10), (1, MAX_OPEN_FOREIGN));
    assert_eq!(windows(100), (1, MAX_OPEN_FOREIGN));
    assert_eq!(windows(1 << 20), (1, 2));
    assert_eq!(windows(2 << 20), (1, 1));
}

#[test]
fn what_was_in_a_message_that_was_not_taken_is_asked_for_again_one_by_one() {
    let mut world = world(1, 1);
    world.want(0..7);
    // As many are asked for at once only when the first have shown how large they are.
    (0..4).for_each(|n| world.send(0, n));
    assert_eq!(world.said(0).len(), 7);
    assert!(!world.client.refused(world.now, &world.peers[0].0));
    let again = world.said(0);
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].0, "block");
    // The blocks may come late all the same. The next is asked for when nothing else is.
    (4..7).for_each(|n| world.send(0, n));
    assert_eq!(world.client.take_received().len(), 7);
    let strikes = (0..2 * UNREQUESTED_BUDGET).position(|_| world.client.refused(world.now, &world.peers[0].0));
    assert_eq!(strikes, Some(UNREQUESTED_BUDGET as usize - 1), "the peer is cut off in the end");
}

#[test]
fn who_wants_what_was_just_stored_is_told_to_look_again_and_nobody_is_asked() {
    let mut world = world(1, 1);
    world.want([1]);
    world.send(0, 1);
    let stored = |(block, from): (Block, PeerId)| Stored { cid: *block.cid(), size: 8, from, links: Ok(Vec::new()) };
    let batch = world.client.take_received().into_iter().map(stored).collect();
    world.client.stored(batch, &Ok(()));
    assert!(matches!(world.updates.try_recv(), Ok(Update::Got { .. })));
    world.said(0);
    // Another fetch had looked before it was there.
    world.want([1]);
    assert!(matches!(world.updates.try_recv(), Ok(Update::Landed { cid: landed }) if landed == cid(1)));
    assert!(world.said(0).is_empty());
    world.want([1]);
    assert_eq!(world.said(0), [("block", cid(1))], "it is gone again");
}

#[test]
fn a_stalled_peer_is_passed_over_and_its_late_block_is_still_taken() {
    let mut world = world(2, 2);
    world.want([1]);
    let first = usize::from(world.said(0).is_empty());
    world.pass(STALL + Duration::from_millis(1));
    assert_eq!(world.said(1 - first).last(), Some(&("block", cid(1))));
    world.send(first, 1);
    assert_eq!(world.said(1 - first), [("cancel", cid(1))]);
    assert_eq!(world.client.take_received().len(), 1);
}

#[test]
fn silence_ends_in_not_found_and_the_wants_are_taken_back() {
    let mut world = world(2, 1);
    world.want([1]);
    world.pass(STALL + Duration::from_millis(1));
    world.answer(1, vec![Presence::DontHave(cid(1))]);
    world.pass(PATIENCE - STALL - Duration::from_millis(2));
    assert_eq!(world.not_found(), None);
    world.pass(Duration::from_millis(2));
    assert_eq!(world.not_found(), Some((cid(1), 2, 1)));
    assert_eq!(world.said(0).last(), Some(&("cancel", cid(1))));
    assert!(!world.client.is_waiting());
}

#[test]
fn a_peer_that_answers_other_wants_is_waited_for_until_it_falls_silent() {
    let mut world = world(1, 1);
    // So that it may be asked for all of them at once.
    world.client.ours(&world.peers[0].0);
    world.want(0..30);
    for n in 1..30 {
        world.pass(Duration::from_millis(1900));
        world.send(0, n);
        assert_eq!(world.not_found(), None);
    }
    world.pass(PATIENCE + Duration::from_millis(1));
    assert_eq!(world.not_found(), Some((cid(0), 1, 1)));
}

#[test]
fn a_slow_message_is_waited_for_but_not_for_ever() {
    let mut world = world(1, 1);
    world.want([0]);
    let begun = world.now;
    while world.not_found().is_none() {
        world.now += Duration::from_secs(1);
        let now = world.now;
        world.client.tick(now, &|_| Some(now));
    }
    let waited = world.now - begun;
    assert!(waited > ASK_LIMIT && waited <= ASK_LIMIT + PATIENCE, "{waited:?}");
}

#[test]
fn a_peer_that_says_now_yes_now_no_is_not_believed_for_ever() {
    let mut world = world(1, 0);
    world.want([1]);
    let mut rounds = 0;
    while world.not_found().is_none() {
        world.answer(0, vec![Presence::Have(cid(1))]);
        world.answer(0, vec![Presence::DontHave(cid(1))]);
        rounds += 1;
        assert!(rounds < 10);
    }
}

#[test]
fn when_the_last_holder_goes_the_want_fails_at_once() {
    let mut world = world(2, 1);
    world.want([1]);
    world.client.disconnected(world.now, &world.peers[0].0);
    assert_eq!(world.said(1), [("have", cid(1))]);
    world.client.disconnected(world.now, &world.peers[1].0);
    assert_eq!(world.not_found(), Some((cid(1), 0, 0)));
}

#[test]
fn lost_frames_are_said_again() {
    let mut world = world(1, 1);
    world.want([1]);
    assert_eq!(world.said(0), [("block", cid(1))]);
    world.client.repeat(&world.peers[0].0);
    assert_eq!(world.said(0), [("block", cid(1))]);
}

#[test]
fn a_block_that_crosses_its_cancel_is_a_duplicate_and_no_offence() {
    let mut world = world(2, 2);
    world.want([1]);
    let first = usize::from(world.said(0).is_empty());
    world.pass(STALL + Duration::from_millis(1));
    world.send(1 - first, 1);
    let blocks = vec![Block::encode(RAW, 1usize.to_le_bytes().to_vec()).unwrap()];
    let late = Message { blocks, ..Message::default() };
    let verdict = world.client.message(world.now, world.peers[first].0, late);
    assert_eq!((verdict.duplicates, verdict.unrequested), (1, 0));
}

#[test]
fn unrequested_blocks_use_up_a_budget_once() {
    let mut world = world(1, 0);
    let mut over = 0;
    for n in 0..2 * UNREQUESTED_BUDGET as usize {
        let blocks = vec![Block::encode(RAW, n.to_le_bytes().to_vec()).unwrap()];
        let verdict = world.client.message(world.now, world.peers[0].0, Message { blocks, ..Message::default() });
        assert_eq!(verdict.unrequested, 1);
        over += usize::from(verdict.over_budget);
    }
    assert_eq!(over, 1);
    assert!(world.client.take_received().is_empty());
}

#[test]
fn a_survey_ends_when_everybody_has_said_or_was_silent_for_long_and_leaves_no_want_behind() {
    let mut world = world(4, 0);
    let (tell, mut told) = tokio::sync::oneshot::channel();
    world.client.survey(world.now, cid(7), tell);
    for peer in 0..4 {
        assert_eq!(world.said(peer), [("have", cid(7))]);
    }
    world.answer(0, vec![Presence::Have(cid(7))]);
    world.answer(1, vec![Presence::DontHave(cid(7))]);
    // A small block may come in place of an answer.
    world.send(2, 7);
    assert!(told.try_recv().is_err() && world.client.is_waiting());
    world.pass(SURVEY_WAIT);
    let said = told.try_recv().unwrap();
    let mut have = [world.peers[0].0, world.peers[2].0];
    have.sort();
    assert_eq!(said, Surveyed { have: have.to_vec(), have_not: vec![world.peers[1].0], silent: vec![world.peers[3].0] });
    for peer in [0, 1, 3] {
        assert_eq!(world.said(peer), [("cancel", cid(7))]);
    }
    assert!(!world.client.is_waiting());
}

#[test]
fn a_survey_asks_nobody_twice_and_takes_no_want_of_a_fetch_back() {
    let mut world = world(2, 0);
    world.want([7]);
    assert_eq!((world.said(0), world.said(1)), (vec![("have", cid(7))], vec![("have", cid(7))]));
    world.answer(0, vec![Presence::DontHave(cid(7))]);
    let (tell, mut told) = tokio::sync::oneshot::channel();
    world.client.survey(world.now, cid(7), tell);
    assert!(world.said(0).is_empty() && world.said(1).is_empty());
    world.answer(1, vec![Presence::Have(cid(7))]);
    assert_eq!(told.try_recv().unwrap().have, [world.peers[1].0]);
    assert_eq!(world.said(1), [("block", cid(7))], "the fetch goes on");
    world.send(1, 7);
    assert!(world.client.take_received().len() == 1);
    let (tell, mut told) = tokio::sync::oneshot::channel();
    world.client.survey(world.now, cid(9), tell);
    let gone: Vec<PeerId> = world.peers.iter().map(|(peer, _)| *peer).collect();
    gone.iter().for_each(|peer| world.client.disconnected(world.now, peer));
    assert_eq!(told.try_recv().unwrap(), Surveyed::default(), "whoever is gone is not waited for");
}

#[test]
fn a_survey_asks_those_again_who_have_answered_an_earlier_question() {
    let mut world = world(2, 0);
    let (tell, mut first) = tokio::sync::oneshot::channel();
    world.client.survey(world.now, cid(7), tell);
    assert_eq!((world.said(0), world.said(1)), (vec![("have", cid(7))], vec![("have", cid(7))]));
    world.answer(0, vec![Presence::Have(cid(7))]);
    assert!(first.try_recv().is_err(), "the other is slow");
    let (tell, mut second) = tokio::sync::oneshot::channel();
    world.client.survey(world.now, cid(7), tell);
    assert_eq!(world.said(0), [("have", cid(7))]);
    world.answer(0, vec![Presence::Have(cid(7))]);
    world.pass(SURVEY_WAIT);
    let said = Surveyed { have: vec![world.peers[0].0], have_not: vec![], silent: vec![world.peers[1].0] };
    assert_eq!((first.try_recv().unwrap(), second.try_recv().unwrap()), (said.clone(), said));
}

#[test]
fn a_survey_that_ends_before_a_fetch_takes_back_what_the_fetch_does_not_ask() {
    let mut world = world(SHORTLIST + 1, 0);
    world.want([7]);
    let strangers: Vec<usize> = (0..=SHORTLIST).filter(|peer| world.said(*peer).is_empty()).collect();
    let [stranger] = strangers[..] else { panic!("{strangers:?}") };
    let (tell, mut told) = tokio::sync::oneshot::channel();
    world.client.survey(world.now, cid(7), tell);
    assert_eq!(world.said(stranger), [("have", cid(7))]);
    told.close();
    world.pass(Duration::ZERO);
    assert_eq!(world.said(stranger), [("cancel", cid(7))]);
    assert!(world.client.is_waiting(), "the fetch goes on");
    assert!((0..=SHORTLIST).all(|peer| world.said(peer).is_empty()));
}
