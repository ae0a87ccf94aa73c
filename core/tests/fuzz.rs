//! Parsers of foreign bytes and the machine itself under random input: a fixed seed and a fresh one, which is printed.
#![expect(clippy::print_stderr, reason = "a fresh seed is for whoever reads the log")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use cid::Cid;
use common::*;
use ipld_core::ipld::Ipld;
use serde_bytes::ByteBuf;
use timerose_core::capability::{Advert, Role, Session};
use timerose_core::delegation::Delegation;
use timerose_core::envelope::{Envelope, Lane, Letter, Opened, Post, Via};
use timerose_core::function::{Determinism, Function, Limits};
use timerose_core::id::{NodeId, Now};
use timerose_core::io::{Exit, Here, Input, Memo, Names, Output, Sealed, Statement, Ticket};
use timerose_core::job::{File, JobSpec};
use timerose_core::membership::NodeConfig;
use timerose_core::message::{Frame, Message, Nack};
use timerose_core::node::Node;
use timerose_core::promise::{Asked, JournalEntry};
use timerose_core::proof::{Root, open_proof};
use timerose_core::record::{RecordError, Verified, decode, encode, open, seal};
use timerose_core::replay::{Recording, Replay, Turn, digest};
use timerose_core::resources::Resources;
use timerose_core::span::{Context, Question, Reply};
use timerose_core::task::{Arg, Receipt, Task};

const SEED: u64 = 0x71_3e_05_e5;
/// Mutations of each golden encoding.
const MUTATIONS: usize = 1500;
/// Inputs of one life of a node.
const INPUTS: usize = 6000;

/// Both seeds, the fresh one printed for the case that it finds something.
fn seeds() -> [u64; 2] {
    let fresh = fresh_seed();
    eprintln!("fresh seed: {fresh}");
    [SEED, fresh]
}

/// Changes a few bytes: flips, overwrites, inserts, removes, doubles, cuts.
fn mutate(rng: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    const TELLING: [u8; 12] = [0x00, 0x17, 0x18, 0x1b, 0x40, 0x5f, 0x60, 0x80, 0x9f, 0xa0, 0xd8, 0xff];
    for _ in 0..rng.usize(1..4) {
        if bytes.is_empty() {
            return;
        }
        let at = rng.usize(0..bytes.len());
        match rng.u8(0..7) {
            0 => bytes[at] ^= 1 << rng.u8(0..8),
            1 => bytes[at] = rng.u8(..),
            2 => bytes[at] = TELLING[rng.usize(0..TELLING.len())],
            3 => bytes.insert(at, TELLING[rng.usize(0..TELLING.len())]),
            4 => drop(bytes.remove(at)),
            5 => {
                let until = rng.usize(at..bytes.len().min(at + 16)) + 1;
                let piece = bytes[at..until].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => bytes.truncate(at),
        }
    }
}

/// Reads mutations of `golden`: no panic, and what is accepted is canonical DAG-CBOR behind its first `skip` bytes.
fn survives<T>(rng: &mut fastrand::Rng, golden: &[u8], skip: usize, read: impl Fn(&[u8]) -> Result<T, RecordError>) -> usize {
    assert!(read(golden).is_ok());
    let mut accepted = 0;
    for _ in 0..MUTATIONS {
        let mut bytes = golden.to_vec();
        mutate(rng, &mut bytes);
        if read(&bytes).is_ok() {
            accepted += 1;
            let plain: Ipld = serde_ipld_dagcbor::from_slice(&bytes[skip..]).expect("what is accepted is DAG-CBOR");
            let again = serde_ipld_dagcbor::to_vec(&plain).expect("IPLD");
            assert_eq!(again, bytes[skip..], "accepted, and not canonical");
        }
    }
    accepted
}

#[test]
fn foreign_bytes_never_panic_and_are_canonical_where_they_are_accepted() {
    for seed in seeds() {
        let mut rng = fastrand::Rng::with_seed(seed);
        let rng = &mut rng;
        let mut accepted = 0;
        for (_, frame) in frames() {
            accepted += survives(rng, &frame.encode(), 0, Frame::decode);
        }
        accepted += survives(rng, &encode(&function()), 0, decode::<Function>);
        accepted += survives(rng, &encode(&job()), 0, decode::<JobSpec>);
        accepted += survives(rng, &encode(&Recording { config: config() }), 0, decode::<Recording>);
        accepted += survives(rng, &encode(&turn()), 0, decode::<Turn>);
        for (_, entry) in entries() {
            accepted += survives(rng, &encode(&entry), 0, decode::<JournalEntry>);
        }
        // The payload of an envelope begins behind its head and its signature.
        let (session, advert, root) = (session(node(1)), advert(node(1)), root(node(1)));
        accepted += survives(rng, &encode(&letter()), 0, decode::<Letter>);
        accepted += survives(rng, &seal(&envelope(node(1)), |_| [0; 64]), 67, Envelope::peek);
        accepted += survives(rng, &seal(&session, |_| [0; 64]), 67, |bytes| open::<Session>(bytes, |_, _, _| true));
        accepted += survives(rng, &seal(&advert, |_| [0; 64]), 67, |bytes| open::<Advert>(bytes, |_, _, _| true));
        let lent = Delegation { nbf: Some(7), ..delegation(node(1), node(3)) };
        accepted += survives(rng, &seal(&lent, |_| [0; 64]), 67, |bytes| open::<Delegation>(bytes, |_, _, _| true));
        accepted += survives(rng, &seal(&root, |_| [0; 64]), 67, |bytes| open::<Root>(bytes, |_, _, _| true));
        accepted += survives(rng, &encode(&receipt(node(1))), 0, decode::<Receipt>);
        accepted += survives(rng, &encode(&sealed()), 0, decode::<Sealed>);
        accepted +=
            survives(rng, &proofs(node(1), |_| [0; 64])[3], 0, |bytes| open_proof(bytes, |root| open(root, |_, _, _| true)));
        // Many mutations only change a text or a number: if none is accepted, the mutations are too wild to test much.
        assert!(accepted > 1000, "seed {seed}: {accepted} accepted");
    }
}

/// The names of all fields, at all depths, in order.
fn fields(bytes: &[u8]) -> Vec<String> {
    fn collect(value: &Ipld, into: &mut Vec<String>) {
        match value {
            Ipld::List(list) => list.iter().for_each(|value| collect(value, into)),
            Ipld::Map(map) => map.iter().for_each(|(key, value)| {
                into.push(key.clone());
                collect(value, into);
            }),
            _ => {}
        }
    }
    let mut names = Vec::new();
    collect(&serde_ipld_dagcbor::from_slice(bytes).expect("DAG-CBOR"), &mut names);
    names
}

#[test]
fn what_a_mutated_frame_says_is_said_again_the_same() {
    for seed in seeds() {
        let mut rng = fastrand::Rng::with_seed(seed ^ 1);
        for (name, frame) in frames() {
            for _ in 0..MUTATIONS {
                let mut bytes = frame.encode();
                mutate(&mut rng, &mut bytes);
                if let Ok(read) = Frame::decode(&bytes) {
                    let again = read.encode();
                    assert_eq!(Frame::decode(&again).as_ref(), Ok(&read), "seed {seed}: {name}");
                    // Only a field that is unknown, or that may be left out, makes a difference.
                    assert!(again == bytes || fields(&again) != fields(&bytes), "seed {seed}: {name}: {bytes:x?}");
                }
            }
        }
    }
}

#[test]
fn noise_is_refused_without_a_panic() {
    for seed in seeds() {
        let mut rng = fastrand::Rng::with_seed(seed ^ 2);
        for _ in 0..20_000 {
            let length = rng.usize(0..200);
            let bytes: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(length).collect();
            assert!(Frame::decode(&bytes).is_err() && decode::<Function>(&bytes).is_err(), "seed {seed}: {bytes:x?}");
            assert!(open::<Session>(&bytes, |_, _, _| true).is_err(), "seed {seed}: {bytes:x?}");
        }
    }
}

#[test]
fn whatever_a_node_was_told_it_decides_the_same_when_it_is_told_again() {
    for seed in seeds() {
        let rng = fastrand::Rng::with_seed(seed ^ 3);
        let mut chaos = Chaos { rng, tickets: Vec::new(), numbers: Vec::new(), runs: BTreeMap::new() };
        let (mut node, mut replay) = (Node::new(anything()), Replay::new(Recording { config: anything() }));
        let mut clock = 0;
        for step in 0..INPUTS / 3 {
            clock += *chaos.rng.choice(&[0, 1000, 300_000]).expect("not empty");
            let (now, input) = (Now { monotonic_us: clock, unix_ms: NOW.unix_ms + clock / 1000 }, chaos.input());
            let mut out = Vec::new();
            node.handle(now, input.clone(), &mut out);
            out.iter().for_each(|output| chaos.see(output));
            let turn = Turn { now, input, outputs: digest(&out) };
            let read: Turn = decode(&encode(&turn)).unwrap_or_else(|e| panic!("seed {seed}, step {step}: {e}: {turn:?}"));
            assert_eq!(read, turn, "seed {seed}, step {step}");
            replay.turn(read).unwrap_or_else(|out| panic!("seed {seed}, step {step}: {out:?}"));
        }
    }
}

/// A source of inputs that knows what the node has asked for, and often answers something else.
struct Chaos {
    rng: fastrand::Rng,
    /// Tickets, leases and queries that the node has named.
    tickets: Vec<Ticket>,
    numbers: Vec<u64>,
    runs: BTreeMap<u64, u64>,
}

impl Chaos {
    fn node(&mut self) -> NodeId {
        node(self.rng.u8(1..8))
    }

    /// A number that the node has named, one that it has not, or a limit of the type.
    fn number(&mut self) -> u64 {
        match self.rng.u8(0..10) {
            0 => u64::MAX,
            1 => 0,
            2 => self.rng.u64(..),
            3 => self.rng.u64(0..50),
            _ => self.rng.choice(&self.numbers).copied().unwrap_or(1),
        }
    }

    fn cids(&mut self) -> Vec<Cid> {
        (0..self.rng.usize(0..5)).map(|_| self.cid()).collect()
    }

    fn cid(&mut self) -> Cid {
        cid(["a", "b", "c", "d"][self.rng.usize(0..4)])
    }

    fn task(&mut self) -> Task {
        let args = (0..self.rng.usize(0..3)).map(|_| if self.rng.bool() { Arg::Inline(vec![1]) } else { Arg::Link(self.cid()) });
        let args = args.collect();
        let entry = if self.rng.u8(0..10) == 0 { "other" } else { "reduce" };
        Task { function: cid("function"), entry: entry.into(), args, seq: self.rng.u64(0..3) }
    }

    fn failure(&mut self) -> timerose_core::failure::Failure {
        let all = failures();
        all[self.rng.usize(0..all.len())].clone()
    }

    fn bits(&mut self) -> Vec<u8> {
        (0..self.rng.usize(0..3)).map(|_| self.rng.u8(..)).collect()
    }

    fn sizes(&mut self) -> Vec<u64> {
        (0..self.rng.usize(0..3)).map(|_| self.number()).collect()
    }

    fn message(&mut self) -> Message {
        let lease = self.number();
        match self.rng.u8(0..19) {
            0 | 1 => {
                let (task, budget_ms, hints) = (self.task(), self.number(), vec![self.node()]);
                let [memo, keep, inline] = [(); 3].map(|()| self.rng.bool());
                Message::Claim { lease, task, budget_ms, hints, memo, keep, trace: self.context(), inline }
            }
            2 => Message::Grant { lease },
            3 => Message::Nack { lease, reason: Nack::Busy { retry_after_ms: self.number() } },
            4 => Message::Nack { lease, reason: if self.rng.bool() { Nack::Denied } else { Nack::Unsuitable } },
            5 => {
                let usage = timerose_core::task::Usage { run_us: self.number(), input: self.number(), ..usage() };
                let done = timerose_core::task::Done {
                    size: self.number(),
                    result: self.cid(),
                    usage,
                    reused: self.rng.bool(),
                    ..done()
                };
                let outcome = if self.rng.bool() { Ok(done) } else { Err(self.failure()) };
                Message::Outcome { lease, outcome, body: self.rng.bool().then(|| ByteBuf::from(self.bits())) }
            }
            6 => Message::Unknown { lease },
            7 => Message::Settled { lease },
            8 => Message::Renew { lease },
            9 => Message::Cancel { lease },
            10 => Message::Holds { query: lease, cids: self.cids() },
            11 => Message::Held { query: lease, bits: ByteBuf::from(self.bits()), sizes: self.sizes() },
            12 => Message::Hold { batch: lease, cids: self.cids() },
            13 => Message::Recall { query: lease, keys: self.cids() },
            14 => Message::Inquire { query: lease, question: self.question() },
            15 => Message::Inform { query: lease, reply: self.reply() },
            16 => Message::Get { query: lease, cid: self.cid() },
            17 => Message::Got { query: lease, block: self.rng.bool().then(|| ByteBuf::from(self.bits())) },
            _ => Message::Kept { batch: lease, kept: if self.rng.bool() { Ok(()) } else { Err(self.failure()) } },
        }
    }

    fn context(&mut self) -> Option<Context> {
        self.rng.bool().then(context)
    }

    fn question(&mut self) -> Question {
        self.rng.choice(questions()).expect("not empty")
    }

    fn reply(&mut self) -> Reply {
        let spans = Reply::Spans { spans: vec![span(); self.rng.usize(0..3)], left_out: self.number() };
        self.rng.choice([Reply::Unknown, spans, part_of_a_log()]).expect("not empty")
    }

    fn memo(&mut self) -> Memo {
        let iss = self.node();
        let out = if self.rng.bool() { Ok(self.cid()) } else { Err("LimitExceeded".to_string()) };
        let receipt = Verified::assume(Receipt { out, size: self.number(), ..receipt(iss) });
        Memo { key: self.cid(), cid: self.cid(), receipt }
    }

    fn names(&mut self) -> Names {
        let key = self.rng.bool().then(|| self.cid());
        Names { receipt: self.cid(), task: self.cid(), result: self.cid(), key }
    }

    fn advert(&mut self) -> Verified<Advert> {
        let offers = Resources { slots: *self.rng.choice(&[0, 1, 4, u32::MAX]).expect("not empty"), memory: self.number() };
        let iss = self.node();
        let addrs = vec!["/somewhere".to_string(); self.rng.usize(0..3)];
        Verified::assume(Advert { epoch: self.rng.u64(0..3), seq: self.rng.u64(0..9), offers, addrs, ..advert(iss) })
    }

    fn opened(&mut self) -> Opened {
        let acks = (0..self.rng.usize(0..4)).map(|_| self.rng.u64(0..200)).collect();
        let message = (self.rng.u8(0..5) > 0).then(|| self.message());
        let lane = if self.rng.bool() { Lane::Tasks } else { Lane::Replies };
        let life = if self.rng.u8(0..20) == 0 { self.number() } else { anything().epoch };
        let post = Post {
            to: node(1),
            lane,
            epoch: self.rng.u64(0..3),
            life,
            seq: self.number(),
            letter: Letter { acks, message, delegation: None },
        };
        let from = if self.rng.u8(0..10) == 0 { NodeId([self.rng.u8(..); 32]) } else { self.node() };
        let delegation = (self.rng.u8(0..4) == 0).then(|| {
            let (iss, sub) = (self.node(), self.node());
            Delegation { sub, exp: self.number(), ..delegation(iss, from) }
        });
        Opened::assume(from, post, delegation)
    }

    /// An answer to something that the node asked, or to nothing.
    fn answer(&mut self) -> Input {
        let ticket = match self.tickets.len() {
            0 => Ticket::Work(1),
            len => self.tickets[self.rng.usize(0..len)],
        };
        let good = self.rng.u8(0..4) > 0;
        match self.rng.u8(0..12) {
            11 => Input::Read { ticket, bytes: good.then(|| ByteBuf::from(self.bits())) },
            0 => {
                let limits = Limits { memory: self.rng.u64(1..200), ..Limits::default() };
                let determinism = if self.rng.u8(0..4) == 0 { Determinism::Effects } else { Determinism::Pure };
                let function = Function { limits, determinism, ..small_function() };
                Input::Loaded { ticket, function: if good { Ok(Arc::new(function)) } else { Err(self.failure()) } }
            }
            1 => Input::Fetched { ticket, bytes: if good { Ok(self.number()) } else { Err(self.failure()) } },
            2 => {
                let file = |cid| File { path: String::new(), cid, size: u64::MAX / 2 };
                Input::Listed {
                    ticket,
                    files: if good { Ok(self.cids().into_iter().map(file).collect()) } else { Err(self.failure()) },
                }
            }
            3 => Input::Have { ticket, here: Here { bits: self.bits(), sizes: self.sizes() } },
            4 => {
                let (names, bytes) = (self.names(), vec![0; self.rng.usize(0..9000)]);
                let done = timerose_core::task::Done { result: names.result, receipt: names.receipt, ..done() };
                let exit = Exit { done, statement: Statement { names, tell: false, bytes } };
                Input::Exited { ticket, exit: if good { Ok(exit) } else { Err(self.failure()) } }
            }
            5 | 6 => {
                let found = (0..self.rng.usize(0..3)).map(|_| self.rng.bool().then(|| self.memo())).collect();
                Input::Recalled { ticket, keys: self.cids(), found }
            }
            7..9 => Input::Persisted { ticket, result: if good { Ok(()) } else { Err(self.failure()) } },
            9 => Input::Identified { ticket, task: self.cid() },
            10 => Input::Informed { ticket, reply: self.reply() },
            _ => {
                let sealed = |chaos: &mut Chaos| Sealed { names: chaos.names(), tell: chaos.rng.bool(), bytes: vec![0; 900] };
                let other = *self.rng.choice(&self.tickets).unwrap_or(&ticket);
                Input::Signed { receipts: vec![(ticket, sealed(self)), (other, sealed(self))] }
            }
        }
    }

    fn input(&mut self) -> Input {
        let request = self.rng.u64(0..40);
        match self.rng.u8(0..54) {
            0..4 => Input::Tick,
            4..7 => {
                let function = self.rng.bool().then(|| Arc::new(small_function()));
                let (task, timeout_ms, new) = (self.task(), self.number(), self.rng.bool().then(|| self.cid()));
                let (client, memo) = (self.rng.u64(0..3), self.rng.bool());
                let via = *self.rng.choice(&[None, Some(Via::Stream), Some(Via::PubSub)]).expect("not empty");
                Input::Submit { request, task, timeout_ms, memo, function, new, client, via, trace: self.context() }
            }
            7 => {
                let spec = JobSpec { fan_in: *self.rng.choice(&[0, 2, 4, u32::MAX]).expect("not empty"), ..job() };
                let (job, locality, timeout_ms) = (self.cid(), self.rng.bool(), self.number());
                Input::SubmitJob { request, job, spec, locality, timeout_ms, memo: self.rng.bool(), trace: self.context() }
            }
            8 => Input::Cancel { request },
            42 => Input::Inquire { request, question: self.question() },
            39 => Input::Search { request, of: self.cids() },
            53 => Input::Where { request, task: self.task(), timeout_ms: self.number() },
            9 => {
                let files = vec![(self.cid(), self.cids()), (self.cid(), self.cids())];
                Input::Place { request, files, copies: self.rng.u8(0..4) }
            }
            10..22 => Input::Message { from: self.node(), message: self.message() },
            22 => Input::Adverts { from: self.node(), adverts: vec![self.advert(), self.advert()] },
            23 => Input::AdvertSigned { advert: Verified::assume(Advert { epoch: 9, seq: self.number(), ..advert(node(1)) }) },
            24..26 => Input::PeerUp { peer: self.node() },
            26 => Input::PeerGone { peer: self.node() },
            27 => Input::Rtt { peer: self.node(), us: self.rng.u64(0..1 << 40) },
            35..39 => Input::Posted(self.opened()),
            41 => Input::Audience,
            40 => {
                let advert = Advert { left: self.rng.u8(0..4) == 0, ..self.advert().into_value() };
                Input::Heard { advert: Verified::assume(advert) }
            }
            29 => Input::Receipts { from: self.node(), query: self.number(), receipts: vec![self.memo(), self.memo()] },
            30 | 31 => {
                let call = Asked::Call { task: self.task(), memo: self.rng.bool() };
                let spec = JobSpec { fan_in: 2, ..job() };
                let asked = if self.rng.bool() { call } else { Asked::Job { spec, locality: true, memo: true } };
                Input::Accept { request, handle: self.cid(), asked, timeout_ms: self.number() }
            }
            32 => Input::Ask { request, handle: self.rng.bool().then(|| self.cid()), wait: self.rng.bool() },
            33 => Input::Revoke { request, handle: self.cid() },
            34 if self.rng.u8(0..20) == 0 => Input::Restored { entries: entries().into_iter().map(|(_, entry)| entry).collect() },
            28 => Input::Listening { addrs: vec!["/here".into()] },
            _ => self.answer(),
        }
    }

    /// Remembers what the node named, and that nobody is given what is not due to it.
    fn see(&mut self, output: &Output) {
        match output {
            Output::Start { ticket: Ticket::Work(id), .. } => {
                *self.runs.entry(*id).or_default() += 1;
                assert_eq!(self.runs[id], 1, "work {id} was started twice");
                self.tickets.push(Ticket::Work(*id));
            }
            Output::Load { ticket, .. }
            | Output::Fetch { ticket, .. }
            | Output::List { ticket, .. }
            | Output::Have { ticket, .. }
            | Output::Read { ticket, .. }
            | Output::Learn { ticket, .. }
            | Output::Recall { ticket, .. }
            | Output::Persist { ticket: Some(ticket), .. }
            | Output::Identify { ticket, .. }
            | Output::Inquire { ticket, .. }
            | Output::Sign { ticket, .. } => self.tickets.push(*ticket),
            Output::Send { message, .. } => match message {
                Message::Claim { lease, .. } => self.numbers.push(*lease),
                Message::Holds { query, .. } => self.numbers.push(*query),
                Message::Hold { batch, .. } => self.numbers.push(*batch),
                Message::Recall { query, .. } | Message::Inquire { query, .. } | Message::Get { query, .. } => {
                    self.numbers.push(*query)
                }
                _ => {}
            },
            _ => {}
        }
        // The latest are the ones that matter.
        if self.tickets.len() > 64 {
            self.tickets.remove(0);
        }
        if self.numbers.len() > 64 {
            self.numbers.remove(0);
        }
    }
}

fn anything() -> NodeConfig {
    NodeConfig {
        me: node(1),
        epoch: u64::MAX >> 8,
        region: String::new(),
        roles: [Role::Executor, Role::Scheduler, Role::Store].into(),
        engines: [function().engine].into(),
        offers: Resources { slots: 2, memory: 250 },
        trust: (1..6).map(node).collect(),
        join: vec!["/join".into()],
    }
}

#[test]
fn no_sequence_of_inputs_makes_a_node_panic_or_talk_without_end() {
    for seed in seeds() {
        for life in 0..8 {
            let mut chaos = Chaos {
                rng: fastrand::Rng::with_seed(seed.wrapping_add(life)),
                tickets: Vec::new(),
                numbers: Vec::new(),
                runs: BTreeMap::new(),
            };
            let mut node = Node::new(anything());
            let mut clock = 0;
            for step in 0..INPUTS {
                // The clock stands, creeps or leaps; it never goes back.
                clock += *chaos.rng.choice(&[0, 10, 1000, 300_000, 20_000_000]).expect("not empty");
                let input = chaos.input();
                let mut out = Vec::new();
                node.handle(Now { monotonic_us: clock, unix_ms: chaos.rng.u64(..) }, input, &mut out);
                assert!(out.len() <= 256, "seed {seed}, life {life}, step {step}: {} outputs", out.len());
                out.iter().for_each(|output| chaos.see(output));
                let view = node.view();
                assert!(view.slots_used <= 2, "seed {seed}, life {life}, step {step}: {view:?}");
            }
        }
    }
}
