//! What comes and goes on PubSub topics, in a script.

use serde_bytes::ByteBuf;
use timerose_core::capability::{Advert, Role};
use timerose_core::delegation::Delegation;
use timerose_core::envelope::{Lane, Letter, Opened, Post};
use timerose_core::id::{NodeId, Now};
use timerose_core::io::{Input, Output};
use timerose_core::message::Message;
use timerose_core::record::Verified;

use super::{Player, Words, advert, name, node, number, told};

impl Player {
    /// `<node> <x, left or nothing of note> <seq> [<epoch>]`
    pub(super) fn aired(&mut self, words: Words) -> Input {
        let (of, roles, seq, epoch) = match *words {
            [of, roles, seq] => (of, roles, seq, "1"),
            [of, roles, seq, epoch] => (of, roles, seq, epoch),
            _ => panic!("no such advert: {words:?}"),
        };
        let heard = advert(node(of), number(epoch), if roles == "x" { vec![Role::Executor] } else { vec![] }, 1);
        let advert = Advert { seq: number(seq), left: roles == "left", ..heard.into_value() };
        Input::Heard { advert: Verified::assume(advert) }
    }

    /// `from`, `1>0`: of the sender's life 1 to this node's life 0, number, acknowledgements or `-`, and a message.
    pub(super) fn letter(&mut self, words: Words) -> Input {
        let [from, lives, seq, acks, words @ ..] = words else { panic!("no letter: {words:?}") };
        let (epoch, life) = lives.split_once('>').map(|(from, to)| (number(from), number(to))).expect("two lives");
        let acks = acks.split(',').filter(|ack| *ack != "-").map(number).collect();
        let message = (!words.is_empty()).then(|| self.message(words));
        let lane = if message.as_ref().is_some_and(Message::is_answer) { Lane::Replies } else { Lane::Tasks };
        let post =
            Post { to: node("n1"), lane, epoch, life, seq: number(seq), letter: Letter { acks, message, delegation: None } };
        Input::Posted(Opened::assume(node(from), post, None))
    }

    /// `n2>n9`, of whom to whom, perhaps `n8>n2>n9` where the right is n8's; until when, in seconds; and a letter.
    pub(super) fn lent(&mut self, words: Words) -> Input {
        let [way, until, words @ ..] = words else { panic!("no delegation: {words:?}") };
        let way: Vec<NodeId> = way.split('>').map(node).collect();
        let [owner, .., holder] = way[..] else { panic!("no delegation: {words:?}") };
        let new = Delegation::new(way[way.len() - 2], holder, Now::default(), Vec::new());
        let delegation = Delegation { sub: owner, exp: number(until), ..new };
        let Input::Posted(letter) = self.letter(words) else { panic!("no letter: {words:?}") };
        let (to, lane, epoch, life, seq) = (node("n1"), letter.lane(), letter.epoch(), letter.life(), letter.seq());
        let from = letter.from();
        let post = Post { to, lane, epoch, life, seq, letter: letter.into_letter() };
        Input::Posted(Opened::assume(from, post, Some(delegation)))
    }

    /// `inline <claim>`: one that wants its result's bytes; `packed <outcome> <bytes>`: one that has them along.
    pub(super) fn packed(&mut self, words: Words) -> Message {
        let (kind, words) = words.split_first().expect("words");
        let (bytes, rest) = words.split_last().expect("words");
        match self.message(if *kind == "inline" { words } else { rest }) {
            Message::Claim { lease, task, budget_ms, hints, memo, keep, trace, .. } => {
                Message::Claim { lease, task, budget_ms, hints, memo, keep, trace, inline: true }
            }
            Message::Outcome { lease, outcome, .. } => {
                Message::Outcome { lease, outcome, body: Some(ByteBuf::from(bytes.as_bytes().to_vec())) }
            }
            other => other,
        }
    }

    /// Bytes of results on their way.
    pub(super) fn parcel(&self, output: Output) -> String {
        match output {
            Output::Read { ticket, cid } => format!("read {} for {}", self.called(&cid), told(&ticket)),
            Output::Learn { ticket, function, block } => {
                format!("learn {} for {}{}", self.called(&function), told(&ticket), along(Some(&block)))
            }
            Output::Unpack { from, lease, done, body } => {
                format!("unpack outcome {lease} {} of {}{}", self.called(&done.result), name(&from), along(Some(&body)))
            }
            other => panic!("no parcel: {other:?}"),
        }
    }

    /// A letter that is to be sealed.
    pub(super) fn posted(&self, post: Post) -> String {
        let Post { to, lane, life, seq, letter, .. } = post;
        let lane = if lane == Lane::Tasks { "tasks" } else { "replies" };
        let said = letter.message.map(|message| format!(" {}", self.said(&message))).unwrap_or_default();
        let acks = if letter.acks.is_empty() { String::new() } else { format!(", has {:?}", letter.acks) };
        format!("{lane}/{} life {life} #{seq}{said}{acks}", name(&to))
    }
}

/// What goes along with an outcome.
pub(super) fn along(body: Option<&ByteBuf>) -> String {
    body.map(|body| format!(" along with {:?}", String::from_utf8_lossy(body))).unwrap_or_default()
}
