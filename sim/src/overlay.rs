//! Gossip between nodes: what is published finds its way through others, or gets lost, or comes twice and out of order.

use cid::Cid;
use timerose_core::envelope::{Opened, Post};
use timerose_core::failure::Failure;
use timerose_core::id::NodeId;
use timerose_core::io::{Input, Ticket};
use timerose_core::message::Message;
use timerose_core::record::open;
use timerose_core::task::Done;

use crate::host::{id, index};
use crate::world::{Event, News, World};

/// What a second hop costs over the way between two nodes, in microseconds, at most.
const DETOUR_US: u64 = 20_000;

impl World<'_> {
    /// A letter goes to its recipient's topic.
    pub(crate) fn post(&mut self, from: usize, post: Post) {
        post.letter.message.iter().for_each(|message| self.report.said(message));
        self.publish(from, index(&post.to), &News::Letter(post));
    }

    /// An advert goes to everybody.
    pub(crate) fn announce(&mut self, from: usize, sealed: &[u8]) {
        for to in (0..self.hosts.len()).filter(|&to| to != from) {
            self.publish(from, to, &News::Advert(sealed.to_vec()));
        }
    }

    /// A result is read, to go along with its outcome. Blocks have no bytes here: their address stands for them.
    pub(crate) fn read(&mut self, node: usize, ticket: Ticket, cid: &Cid) {
        let bytes = self.content.has(node, cid).then(|| cid.to_bytes().into());
        self.answer(node, Input::Read { ticket, bytes });
    }

    /// A manifest that came by letter is put down.
    pub(crate) fn learn(&mut self, node: usize, ticket: Ticket, function: Cid, block: &[u8]) {
        let right = *block == function.to_bytes();
        if right {
            self.content.add(function, self.content.size(&function), node);
        }
        let wrong = || Failure::NodeFailed { what: "not the block".into() };
        let function = self.content.function(&function).filter(|_| right).ok_or_else(wrong);
        self.answer(node, Input::Loaded { ticket, function });
    }

    /// A result that came along is put down.
    pub(crate) fn unpack(&mut self, node: usize, from: NodeId, lease: u64, done: Done, body: &[u8]) {
        if *body == done.result.to_bytes() {
            self.content.add(done.result, done.size, node);
        }
        self.answer(node, Input::Message { from, message: Message::Outcome { lease, outcome: Ok(done), body: None } });
    }

    /// Gossip sets out for one of those who should hear it.
    fn publish(&mut self, from: usize, to: usize, news: &News) {
        let loss = self.scenario.gossip_loss_per_mille;
        let copies = match self.gossip.u32(0..1000) {
            chance if chance < loss => 0,
            chance if chance < 2 * loss => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let at = self.now + self.network.rtt_us(from, to) + self.gossip.u64(0..DETOUR_US);
            self.at(at, Event::Gossip { from, to, news: news.clone() });
        }
    }

    /// Gossip arrives, if there is a way and somebody to hear it.
    pub(crate) fn hear(&mut self, from: usize, to: usize, news: News) {
        if !self.network.passes(from, to) || to < self.scenario.deaf {
            return;
        }
        let input = match news {
            News::Letter(post) => Input::Posted(Opened::assume(id(from), post, None)),
            News::Advert(sealed) => match open(&sealed, |_, _, _| true) {
                Ok(advert) => Input::Heard { advert },
                Err(_) => return,
            },
        };
        self.give(to, self.hosts[to].life, input);
    }
}
