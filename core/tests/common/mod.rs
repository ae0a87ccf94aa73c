//! What the tests of the core share: one of every record, and one of every message.
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part of this")]

use std::collections::BTreeMap;

use cid::Cid;
use serde_bytes::ByteBuf;
use timerose_core::capability::{Advert, Role, Session};
use timerose_core::delegation::Delegation;
use timerose_core::envelope::{Envelope, Lane, Letter, Post};
use timerose_core::failure::Failure;
use timerose_core::function::{About, Determinism, Entry, Function, Limits, Param, WASM_COMMAND};
use timerose_core::id::{NodeId, Now, RAW, cid_of};
use timerose_core::io::{Input, Names, Sealed};
use timerose_core::job::JobSpec;
use timerose_core::membership::NodeConfig;
use timerose_core::message::{Frame, Message, Nack};
use timerose_core::promise::{Asked, Effect, Ending, JournalEntry, Key, Stage, Work};
use timerose_core::proof::{Root, prove};
use timerose_core::record::{Verified, address};
use timerose_core::replay::{Turn, digest};
use timerose_core::resources::Resources;
use timerose_core::span::{Context, Fact, Facts, Question, Reply, Span, SpanEvent};
use timerose_core::task::{Arg, Done, Receipt, Task, Usage};

/// 2027-01-15T08:00:00Z.
pub const NOW: Now = Now { monotonic_us: 1_000_000, unix_ms: 1_800_000_000_000 };

/// The address of some text.
pub fn cid(text: &str) -> Cid {
    cid_of(RAW, text.as_bytes())
}

/// A node by a number.
pub fn node(number: u8) -> NodeId {
    NodeId([number; 32])
}

/// A manifest with everything in it.
pub fn function() -> Function {
    let param = |name: &str, kind: &str| Param { name: name.into(), kind: kind.into() };
    Function {
        engine: WASM_COMMAND.into(),
        code: cid("code"),
        entries: vec![
            Entry { name: "map".into(), params: vec![param("text", "text")], result: "json".into(), ..Entry::default() },
            Entry {
                name: "reduce".into(),
                params: vec![param("counts", "json")],
                variadic: true,
                result: "json".into(),
                export: "_start".into(),
                args: vec!["reduce".into()],
                joined: true,
            },
        ],
        determinism: Determinism::Seeded,
        limits: Limits { memory: 1 << 20, timeout_ms: 5000, output: 4096, fuel: Some(1_000_000) },
        args: vec!["-q".into(), "/app/main.py".into()],
        env: BTreeMap::from([("LANG".into(), "C".into())]),
        mounts: BTreeMap::from([("/lib".into(), cid("lib"))]),
        about: About {
            name: "word-count".into(),
            description: "counts words".into(),
            license: "MIT".into(),
            source: Some(cid("source")),
        },
    }
}

/// A manifest with nothing in it that can be left out.
pub fn small_function() -> Function {
    Function {
        entries: function().entries.into_iter().take(1).collect(),
        determinism: Determinism::Pure,
        limits: Limits::default(),
        args: Vec::new(),
        env: BTreeMap::new(),
        mounts: BTreeMap::new(),
        about: About::default(),
        ..function()
    }
}

/// A task with both kinds of argument.
pub fn task() -> Task {
    let args = vec![Arg::Link(cid("argument")), Arg::Inline(b"inline".to_vec())];
    Task { function: cid("function"), entry: "map".into(), args, seq: 0 }
}

/// What a run took.
pub fn usage() -> Usage {
    Usage { run_us: 1234, fetch_us: 56, fetched: 789, input: 4096, memory: 65536 }
}

/// A result.
pub fn done() -> Done {
    Done { task: task().id(&node(1)), result: cid("result"), size: 6, receipt: cid("receipt"), usage: usage(), reused: false }
}

/// A receipt of a good run by `iss`.
pub fn receipt(iss: NodeId) -> Receipt {
    Receipt { iss, ran: task().id(&node(1)), task: task(), out: Ok(cid("result")), size: 6, meta: usage(), at: NOW.unix_ms }
}

/// Proofs of five receipts of `iss` that differ in their time, signed by `sign`.
pub fn proofs(iss: NodeId, sign: impl FnOnce(&[u8]) -> [u8; 64]) -> Vec<Vec<u8>> {
    let receipts: Vec<(Cid, Vec<u8>)> = (0..5).map(|n| address(&Receipt { at: NOW.unix_ms + n, ..receipt(iss) })).collect();
    prove(iss, &receipts.iter().map(|(cid, bytes)| (*cid, &bytes[..])).collect::<Vec<_>>(), sign)
}

/// A receipt with its proof, as it is kept.
pub fn sealed() -> Sealed {
    let (receipt, _) = address(&receipt(node(1)));
    let names = Names { receipt, task: task().id(&node(1)), result: cid("result"), key: Some(task().memo_key()) };
    Sealed { names, tell: false, bytes: b"a proof".to_vec() }
}

/// The root of a tree.
pub fn root(iss: NodeId) -> Root {
    Root { iss, size: 5, hash: [9; 32] }
}

/// A session of `iss` with node 2.
pub fn session(iss: NodeId) -> Session {
    Session::new(iss, node(2), NOW, vec![7; 12])
}

/// What lets `holder` run functions in the place of `iss`.
pub fn delegation(iss: NodeId, holder: NodeId) -> Delegation {
    Delegation::new(iss, holder, NOW, vec![7; 12])
}

/// What `iss` says of itself.
pub fn advert(iss: NodeId) -> Advert {
    Advert {
        iss,
        addrs: vec!["/ip4/127.0.0.1/udp/4001/quic-v1".into()],
        epoch: NOW.unix_ms,
        seq: 3,
        roles: vec![Role::Executor, Role::Scheduler, Role::Store],
        engines: vec![WASM_COMMAND.into()],
        offers: Resources { slots: 2, memory: 1 << 30 },
        region: "here".into(),
        left: false,
    }
}

/// A letter with everything in it.
pub fn letter() -> Letter {
    Letter { acks: vec![7, 1 << 33], message: Some(Message::Renew { lease: 1 << 40 }), delegation: None }
}

/// An envelope of `iss` for node 2. Its body is no seal: the place where it stands is what this is about.
pub fn envelope(iss: NodeId) -> Envelope {
    let post = Post { to: node(2), lane: Lane::Tasks, epoch: NOW.unix_ms, life: NOW.unix_ms + 1, seq: 9, letter: letter() };
    Envelope { key: vec![5; 32], body: vec![6; 48], ..Envelope::address(iss, NOW, &post) }
}

/// A job.
pub fn job() -> JobSpec {
    JobSpec { function: cid("function"), dataset: cid("dataset"), map: "map".into(), reduce: "reduce".into(), fan_in: 16 }
}

/// Entries of the journal, of every kind, by name.
pub fn entries() -> Vec<(&'static str, JournalEntry)> {
    let work = |stage| {
        let (handle, accepted_ms) = (task().id(&node(1)), NOW.unix_ms);
        let (function, entry, deadline_ms) = (cid("function"), "map".to_string(), accepted_ms + 1000);
        JournalEntry::Work(Work { handle, job: false, function, entry, accepted_ms, deadline_ms, stage })
    };
    let at_ms = NOW.unix_ms;
    let ending = Ending { done: done(), executor: Some(node(2)) };
    let effect = |outcome| JournalEntry::Effect(Effect { task: task().id(&node(1)), at_ms, outcome });
    vec![
        ("call accepted", work(Stage::Open(Asked::Call { task: task(), memo: true }))),
        ("job accepted", work(Stage::Open(Asked::Job { spec: job(), locality: true, memo: false }))),
        ("work ended", work(Stage::Ended { at_ms, outcome: Ok(ending) })),
        ("work failed", work(Stage::Ended { at_ms, outcome: Err(Failure::Cancelled) })),
        ("run begins", effect(None)),
        ("run ended", effect(Some(Ok(done())))),
        ("work forgotten", JournalEntry::Forgotten(Key::Work(cid("handle")))),
        ("run forgotten", JournalEntry::Forgotten(Key::Effect(cid("handle")))),
    ]
}

/// What a node is.
pub fn config() -> NodeConfig {
    NodeConfig {
        me: node(1),
        epoch: NOW.unix_ms,
        region: "here".into(),
        roles: [Role::Executor, Role::Store].into(),
        engines: [WASM_COMMAND.to_string()].into(),
        offers: Resources { slots: 2, memory: 1 << 30 },
        trust: [node(2)].into(),
        join: vec!["/ip4/127.0.0.1/udp/4001/quic-v1".into()],
    }
}

/// A turn with a signed record in it.
pub fn turn() -> Turn {
    let adverts = vec![Verified::assume(advert(node(2)))];
    Turn { now: NOW, input: Input::Adverts { from: node(2), adverts }, outputs: digest(&[]) }
}

/// Every failure that there is.
pub fn failures() -> Vec<Failure> {
    let text = || "text".to_string();
    vec![
        Failure::not_found(cid("missing"), 3),
        Failure::NoExecutor { needed: text(), seen: 2 },
        Failure::Overloaded { retry_after_ms: 1000 },
        Failure::Denied { rule: text(), missing: text() },
        Failure::Rejected { finding: text() },
        Failure::FunctionFailed { exit: -1, stderr: text() },
        Failure::LimitExceeded { which: text(), at: 4096 },
        Failure::DeadlineExceeded { stage: text() },
        Failure::BadArgument { index: 1, wanted: text(), got: text() },
        Failure::Cancelled,
        Failure::NodeFailed { what: text() },
        Failure::MayHaveRun { what: text() },
        Failure::StorageFull { at: text(), max: Some(4096) },
        Failure::Corrupt { cid: cid("corrupt"), at: text() },
    ]
}

/// Where in a trace something happens.
pub fn context() -> Context {
    Context { trace: [0xa1; 16], span: [0xb2; 8], sampled: true }
}

/// One question of each kind.
pub fn questions() -> [Question; 2] {
    let of = ByteBuf::from(cid("task").to_bytes());
    [Question::Spans { trace: ByteBuf::from(context().trace) }, Question::Log { of, from: 4096 }]
}

/// A span with one of everything.
pub fn span() -> Span {
    let facts = |name: &str, fact| Facts::from([(name.to_string(), fact)]);
    let event = SpanEvent { at_us: 1_700_000_000_000_001, name: "claimed".into(), facts: facts("node", Fact::Text("n2".into())) };
    Span {
        span: ByteBuf::from([0xb3; 8]),
        parent: ByteBuf::from(context().span),
        name: "run".into(),
        start_us: 1_700_000_000_000_000,
        end_us: 1_700_000_000_008_000,
        facts: facts("fetched_bytes", Fact::Number(70_000)),
        events: vec![event],
        failure: Some("Cancelled".into()),
    }
}

/// What a guest said.
pub fn part_of_a_log() -> Reply {
    Reply::Log { from: 4096, bytes: ByteBuf::from(b"it said this\n".to_vec()), behind: 7, ended: false }
}

fn claim(lease: u64, inline: bool) -> Message {
    let (budget_ms, hints) = (30_000, vec![node(1), node(2)]);
    Message::Claim { lease, task: task(), budget_ms, hints, memo: true, keep: false, trace: None, inline }
}

/// One frame of every kind, by name.
pub fn frames() -> Vec<(String, Frame)> {
    let (lease, query, batch) = (1 << 40, 1 << 62, 5);
    let cids = vec![cid("a"), cid("b")];
    let messages = [
        ("claim", claim(lease, false)),
        ("claim of the result as well", claim(lease, true)),
        (
            "claim with a trace",
            Message::Claim {
                lease,
                task: task(),
                budget_ms: 1,
                hints: vec![],
                memo: true,
                keep: true,
                trace: Some(context()),
                inline: false,
            },
        ),
        ("grant", Message::Grant { lease }),
        ("nack busy", Message::Nack { lease, reason: Nack::Busy { retry_after_ms: 20 } }),
        ("nack denied", Message::Nack { lease, reason: Nack::Denied }),
        ("nack unsuitable", Message::Nack { lease, reason: Nack::Unsuitable }),
        ("outcome", Message::Outcome { lease, outcome: Ok(done()), body: None }),
        ("outcome and result", Message::Outcome { lease, outcome: Ok(done()), body: Some(ByteBuf::from(b"result".to_vec())) }),
        ("unknown", Message::Unknown { lease }),
        ("settled", Message::Settled { lease }),
        ("renew", Message::Renew { lease }),
        ("cancel", Message::Cancel { lease }),
        ("holds", Message::Holds { query, cids: cids.clone() }),
        ("held", Message::Held { query, bits: ByteBuf::from(vec![0b10]), sizes: vec![0, 1 << 20] }),
        ("recall", Message::Recall { query, keys: cids.clone() }),
        ("inquire spans", Message::Inquire { query, question: questions()[0].clone() }),
        ("inquire log", Message::Inquire { query, question: questions()[1].clone() }),
        ("inform unknown", Message::Inform { query, reply: Reply::Unknown }),
        ("inform spans", Message::Inform { query, reply: Reply::Spans { spans: vec![span()], left_out: 1 } }),
        ("inform log", Message::Inform { query, reply: part_of_a_log() }),
        ("get", Message::Get { query, cid: cid("a") }),
        ("got", Message::Got { query, block: Some(ByteBuf::from(b"block".to_vec())) }),
        ("got nothing", Message::Got { query, block: None }),
        ("hold", Message::Hold { batch, cids }),
        ("kept", Message::Kept { batch, kept: Ok(()) }),
        ("not kept", Message::Kept { batch, kept: Err(Failure::Cancelled) }),
    ];
    let mut frames = vec![("adverts".to_string(), Frame::Adverts(vec![ByteBuf::from(b"sealed".to_vec())]))];
    frames.push(("receipts".to_string(), Frame::Receipts { query, sealed: vec![ByteBuf::from(b"sealed".to_vec())] }));
    frames.extend(messages.map(|(name, message)| (name.to_string(), Frame::Message(message))));
    for failure in failures() {
        let name = format!("outcome {}", failure.code());
        frames.push((name, Frame::Message(Message::Outcome { lease, outcome: Err(failure), body: None })));
    }
    frames
}

/// A fresh seed from the clock, which a failing test prints.
pub fn fresh_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("a clock after 1970").as_millis() as u64
}
