//! Transcripts: a script of inputs, one a line, and the same script with the outputs below each line.
//!
//! A line is `<milliseconds> <input>`; with a `.` in front its outputs are not shown. `memo on`, `traced`, `client N` and `runs <run us>
//! <bytes fetched> <fetch us>` say how what comes after them is. Nodes are `n1`, `n2`, …; content is named by a word whose
//! bytes it is; an argument `'x` is inline. The wall clock begins at 0 with the other. The node under test is n1: it runs work in one slot,
//! keeps blocks, and trusts n2 to n5.
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part of this")]

mod here;
mod letters;
mod promises;
mod ranking;
mod tickets;
mod traces;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use cid::Cid;
use expect_test::Expect;
use here::{bitmap, lengths};
use serde_bytes::ByteBuf;
use timerose_core::capability::{Advert, Role};
use timerose_core::envelope::Via;
use timerose_core::failure::Failure;
use timerose_core::function::{Determinism, Entry, Function, Limits, Param};
use timerose_core::id::{NodeId, Now, RAW, cid_of};
use timerose_core::io::{Exit, Here, Input, Memo, Names, Output, Sealed, Statement, Ticket, Wanted};
use timerose_core::job::{File, JobSpec};
use timerose_core::membership::NodeConfig;
use timerose_core::message::{Message, Nack};
use timerose_core::node::Node;
use timerose_core::record::Verified;
use timerose_core::resources::Resources;
use timerose_core::span::Context;
use timerose_core::task::{Arg, Done, Receipt, Task, Usage};

use tickets::{query_number, shown, ticket, told};
use traces::{asked_for, replied, reply};

/// n1 alone, knowing itself.
pub const ALONE: &str = "
    . 0 listening
    . 0 signed-advert
";

/// n1 with n2 and n3, which run work in one slot each, n2 the nearer one; n1 itself knows that it is no use: it has not
/// said what it is.
pub const PEERS: &str = "
    . 0 advert n2 n2 x 1
    . 0 up n2
    . 0 rtt n2 1000
    . 0 advert n3 n3 x 1
    . 0 up n3
    . 0 rtt n3 2000
";

/// The node under test, before anything was said to it.
pub fn node_under_test() -> Node {
    Node::new(config())
}

/// A setup and what comes after it.
pub fn with(setup: &str, script: &str) -> String {
    [setup, script].concat()
}

/// Plays a script and compares.
pub fn check(script: &str, expected: Expect) {
    let mut player = Player::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        player.play(line);
    }
    expected.assert_eq(&player.text);
}

struct Player {
    node: Node,
    /// What CIDs are called.
    names: BTreeMap<Cid, String>,
    text: String,
    /// Whether what is asked for from now on may be an earlier result.
    memo: bool,
    /// Whose the calls are that come from now on.
    client: u64,
    /// What runs that end from now on took, as their executors say.
    usage: Usage,
    /// How calls have to travel from now on.
    via: Option<Via>,
    /// The trace of what is asked for from now on.
    trace: Option<Context>,
}

/// The words of a line.
type Words<'a> = &'a [&'a str];

fn node(name: &str) -> NodeId {
    NodeId([name.strip_prefix('n').and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("a node: {name}")); 32])
}

fn name(node: &NodeId) -> String {
    format!("n{}", node.0[0])
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("a number: {word}"))
}

fn config() -> NodeConfig {
    NodeConfig {
        me: node("n1"),
        epoch: 0,
        region: String::new(),
        roles: BTreeSet::from([Role::Executor, Role::Scheduler, Role::Store]),
        engines: BTreeSet::from(["wasm".to_string()]),
        offers: Resources { slots: 1, memory: 100 },
        trust: (2..=5).map(|n| NodeId([n; 32])).collect(),
        join: vec!["/join".into()],
    }
}

fn advert(iss: NodeId, epoch: u64, roles: Vec<Role>, slots: u32) -> Verified<Advert> {
    let (addrs, engines) = (vec![format!("/{}", name(&iss))], vec!["wasm".into()]);
    let offers = Resources { slots, memory: 100 };
    Verified::assume(Advert { iss, addrs, epoch, seq: 1, roles, engines, offers, region: String::new(), left: false })
}

fn function(memory: u64) -> Function {
    let params = |n| (0..n).map(|i| Param { name: format!("p{i}"), kind: "bytes".into() }).collect();
    let entry = |name: &str, n, variadic| Entry {
        name: name.into(),
        params: params(n),
        variadic,
        result: "bytes".into(),
        ..Entry::default()
    };
    Function {
        engine: "wasm".into(),
        code: cid_of(RAW, b"code"),
        entries: vec![entry("none", 0, false), entry("one", 1, false), entry("any", 1, true)],
        determinism: Determinism::Pure,
        limits: Limits { memory, ..Limits::default() },
        args: Vec::new(),
        env: BTreeMap::new(),
        mounts: BTreeMap::new(),
        about: Default::default(),
    }
}

impl Player {
    fn new() -> Player {
        Player {
            node: Node::new(config()),
            names: BTreeMap::new(),
            text: String::new(),
            memo: false,
            client: 0,
            usage: Usage { run_us: 1000, ..Usage::default() },
            via: None,
            trace: None,
        }
    }

    fn play(&mut self, line: &str) {
        let (silent, line) = line.strip_prefix('.').map_or((false, line), |line| (true, line.trim()));
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["memo", on] = words[..] {
            self.memo = on == "on";
            return;
        }
        if let ["client", client] = words[..] {
            self.client = number(client);
            return;
        }
        if let ["runs", run_us, fetched, fetch_us] = words[..] {
            let (run_us, fetched, fetch_us) = (number(run_us), number(fetched), number(fetch_us));
            self.usage = Usage { run_us, fetched, fetch_us, ..Usage::default() };
            return;
        }
        if let ["traced"] = words[..] {
            self.trace = Some(traces::CONTEXT);
            return;
        }
        if let ["via", via] = words[..] {
            self.via = (via == "pubsub").then_some(Via::PubSub);
            return;
        }
        let us = number(words[0]) * 1000;
        let input = self.input(&words[1..]);
        let mut out = Vec::new();
        self.node.handle(Now { monotonic_us: us, unix_ms: us / 1000 }, input, &mut out);
        if silent {
            return;
        }
        writeln!(self.text, "{line}").expect("a string takes everything");
        for output in out {
            let line = self.output(output);
            writeln!(self.text, "    {line}").expect("a string takes everything");
        }
        if let Some(next) = self.node.next_wakeup().filter(|_| words[1] == "tick") {
            writeln!(self.text, "    (next tick at {})", next / 1000).expect("a string takes everything");
        }
    }

    /// The content of that name.
    fn cid(&mut self, name: &str) -> Cid {
        let cid = cid_of(RAW, name.as_bytes());
        self.names.insert(cid, name.into());
        cid
    }

    fn cids(&mut self, words: Words) -> Vec<Cid> {
        words.iter().map(|word| self.cid(word)).collect()
    }

    fn called(&self, cid: &Cid) -> String {
        self.names.get(cid).cloned().unwrap_or_else(|| "?".into())
    }

    fn called_all(&self, cids: &[Cid]) -> String {
        cids.iter().map(|cid| self.called(cid)).collect::<Vec<_>>().join(" ")
    }

    fn task(&mut self, entry: &str, args: Words) -> Task {
        let args = args.iter().map(|arg| match arg.strip_prefix('\'') {
            Some(bytes) => Arg::Inline(bytes.as_bytes().to_vec()),
            None => Arg::Link(self.cid(arg)),
        });
        let args = args.collect();
        self.cid("code");
        Task { function: self.cid("f"), entry: entry.into(), args, seq: 0 }
    }

    fn done(&mut self, result: &str) -> Done {
        let usage = self.usage;
        let (task, result, receipt) = (self.cid("task"), self.cid(result), self.cid("receipt"));
        Done { task, result, size: 10, receipt, usage, reused: false }
    }

    /// `key:result:node`: what that node's receipt says; a result `!` is a failure; `:key` in the end is its true key.
    fn memo(&mut self, word: &str) -> Memo {
        let parts: Vec<&str> = word.split(':').collect();
        let (result, iss, key) = (parts[1], parts[2], parts.last().filter(|_| parts.len() > 3).unwrap_or(&parts[0]));
        let out = if result == "!" { Err("LimitExceeded".to_string()) } else { Ok(self.cid(result)) };
        let (ran, task) = (self.cid("earlier"), self.task("one", &["x"]));
        let receipt = Receipt { iss: node(iss), ran, task, out, size: 10, meta: Usage::default(), at: 0 };
        Memo { key: self.cid(key), cid: self.cid("old"), receipt: Verified::assume(receipt) }
    }

    fn spec(&mut self, fan_in: &str) -> JobSpec {
        let (function, dataset) = (self.cid("f"), self.cid("data"));
        JobSpec { function, dataset, map: "one".into(), reduce: "any".into(), fan_in: number(fan_in) as u32 }
    }

    fn receipt_of(&mut self, result: &str) -> Names {
        let (receipt, task) = (self.cid("receipt"), self.cid("task"));
        Names { receipt, task, result: self.cid(result), key: Some(self.cid("key")) }
    }

    fn failure(&mut self, word: &str) -> Failure {
        match word.strip_prefix("no:") {
            Some(missing) => Failure::not_found(self.cid(missing), 1),
            None if word == "!guest" => Failure::FunctionFailed { exit: 1, stderr: "oops".into() },
            None if word == "!stopped" => Failure::Cancelled,
            None if word == "!late" => Failure::DeadlineExceeded { stage: "running".into() },
            None => Failure::NodeFailed { what: "the disk is full".into() },
        }
    }

    fn is_failure(word: &str) -> bool {
        word.starts_with("no:") || word.starts_with('!')
    }

    fn input(&mut self, words: Words) -> Input {
        match *words {
            ["tick"] => Input::Tick,
            ["up", peer] => Input::PeerUp { peer: node(peer) },
            ["gone", peer] => Input::PeerGone { peer: node(peer) },
            ["rtt", peer, us] => Input::Rtt { peer: node(peer), us: number(us) },
            ["listening"] => Input::Listening { addrs: vec!["/n1".into()] },
            ["signed-advert"] => {
                let roles = vec![Role::Executor, Role::Scheduler, Role::Store];
                Input::AdvertSigned { advert: advert(node("n1"), 1, roles, 1) }
            }
            ["advert", from, of, roles, slots] => self.input(&["advert", from, of, roles, slots, "1"]),
            ["advert", from, of, roles, slots, epoch] => {
                let roles = roles.chars().map(|c| match c {
                    'x' => Role::Executor,
                    's' => Role::Store,
                    _ => Role::Scheduler,
                });
                Input::Adverts {
                    from: node(from),
                    adverts: vec![advert(node(of), number(epoch), roles.collect(), number(slots) as u32)],
                }
            }
            ["aired", ref words @ ..] => self.aired(words),
            ["audience"] => Input::Audience,
            ["leave"] => Input::Leave,
            ["letter", ref words @ ..] => self.letter(words),
            ["lent", ref words @ ..] => self.lent(words),
            ["submit" | "job", ..] => self.work_input(words),
            ["where", ref words @ ..] => self.asked_where(words),
            ["inquire", request, ref words @ ..] => Input::Inquire { request: number(request), question: self.question(words) },
            ["search", request, ref of @ ..] => Input::Search { request: number(request), of: self.cids(of) },
            ["cancel", request] => Input::Cancel { request: number(request) },
            ["accept" | "accept-job" | "ask" | "wait" | "revoke" | "restored", ..] => self.promise_input(words),
            ["place", request, copies, ref files @ ..] => {
                let files = files.iter().map(|file| {
                    let cids: Vec<Cid> = file.split(',').map(|block| self.cid(block)).collect();
                    (cids[0], cids)
                });
                Input::Place { request: number(request), files: files.collect(), copies: number(copies) as u8 }
            }
            ["from", peer, "receipts", query, ref memos @ ..] => {
                let receipts = memos.iter().map(|word| self.memo(word)).collect();
                Input::Receipts { from: node(peer), query: query_number(query), receipts }
            }
            ["from", peer, ref words @ ..] => Input::Message { from: node(peer), message: self.message(words) },
            [answer, whose, ref words @ ..] => self.answer(answer, ticket(whose), words),
            _ => panic!("no such input: {words:?}"),
        }
    }

    fn work_input(&mut self, words: Words) -> Input {
        match *words {
            ["submit", request, timeout_ms, entry, ref args @ ..] => {
                let task = self.task(entry, args);
                let (request, timeout_ms, memo, client) = (number(request), number(timeout_ms), self.memo, self.client);
                Input::Submit {
                    request,
                    task,
                    timeout_ms,
                    memo,
                    function: None,
                    new: None,
                    client,
                    via: self.via,
                    trace: self.trace,
                }
            }
            ["job", request, timeout_ms, fan_in] => {
                let (spec, job) = (self.spec(fan_in), self.cid("job"));
                Input::SubmitJob {
                    request: number(request),
                    job,
                    spec,
                    locality: true,
                    timeout_ms: number(timeout_ms),
                    memo: self.memo,
                    trace: self.trace,
                }
            }
            _ => panic!("no such work: {words:?}"),
        }
    }

    fn answer(&mut self, answer: &str, ticket: Ticket, words: Words) -> Input {
        match (answer, words) {
            ("loaded", ["f"]) => Input::Loaded { ticket, function: Ok(Arc::new(function(10))) },
            ("loaded", ["f", kind @ ("seeded" | "effects")]) => {
                let determinism = if *kind == "seeded" { Determinism::Seeded } else { Determinism::Effects };
                Input::Loaded { ticket, function: Ok(Arc::new(Function { determinism, ..function(10) })) }
            }
            ("informed", words) => Input::Informed { ticket, reply: reply(words) },
            ("persisted", []) => Input::Persisted { ticket, result: Ok(()) },
            ("persisted", [why]) => Input::Persisted { ticket, result: Err(self.failure(why)) },
            ("identified", [task]) => Input::Identified { ticket, task: self.cid(task) },
            ("loaded", ["f", memory]) => Input::Loaded { ticket, function: Ok(Arc::new(function(number(memory)))) },
            ("loaded", [why]) => Input::Loaded { ticket, function: Err(self.failure(why)) },
            ("fetched", [why]) if Player::is_failure(why) => Input::Fetched { ticket, bytes: Err(self.failure(why)) },
            ("fetched", [bytes]) => Input::Fetched { ticket, bytes: Ok(number(bytes)) },
            ("listed", [why]) if Player::is_failure(why) => Input::Listed { ticket, files: Err(self.failure(why)) },
            ("listed", files) => {
                let file = |file: &&str| File { path: file.to_string(), cid: self.cid(file), size: 1000 };
                Input::Listed { ticket, files: Ok(files.iter().map(file).collect()) }
            }
            ("have", [bits, sizes @ ..]) => Input::Have { ticket, here: Here { bits: bitmap(bits), sizes: lengths(sizes) } },
            ("exited", [why]) if Player::is_failure(why) => Input::Exited { ticket, exit: Err(self.failure(why)) },
            ("exited", [result]) => {
                let done = Done { usage: Usage { run_us: 8000, ..Usage::default() }, ..self.done(result) };
                let statement = Statement { names: self.receipt_of(result), tell: false, bytes: vec![1] };
                Input::Exited { ticket, exit: Ok(Exit { done, statement }) }
            }
            ("signed", [result, told @ ..]) => {
                let mut names = self.receipt_of(result);
                names.key = names.key.filter(|_| told != ["once"]);
                Input::Signed { receipts: vec![(ticket, Sealed { names, tell: told == ["tell"], bytes: vec![1] })] }
            }
            ("read", bytes) => Input::Read { ticket, bytes: bytes.first().map(|word| ByteBuf::from(word.as_bytes().to_vec())) },
            ("recalled", found) => {
                let keys = found.iter().map(|word| self.cid(word.split(':').next().expect("a key"))).collect();
                let found = found.iter().map(|word| word.contains(':').then(|| self.memo(word))).collect();
                Input::Recalled { ticket, keys, found }
            }
            _ => panic!("no such answer: {answer} {words:?}"),
        }
    }

    fn message(&mut self, words: Words) -> Message {
        match *words {
            ["claim", lease, budget_ms, entry, ref args @ ..] => {
                let task = self.task(entry, args);
                let (lease, budget_ms, memo) = (number(lease), number(budget_ms), self.memo);
                Message::Claim { lease, task, budget_ms, hints: vec![], memo, keep: false, trace: self.trace, inline: false }
            }
            ["jobclaim", ref words @ ..] => match self.message(&[&["claim"], words].concat()) {
                Message::Claim { lease, task, budget_ms, hints, memo, trace, inline, .. } => {
                    Message::Claim { lease, task, budget_ms, hints, memo, keep: true, trace, inline }
                }
                other => other,
            },
            ["grant", lease] => Message::Grant { lease: number(lease) },
            ["nack", lease, "denied"] => Message::Nack { lease: number(lease), reason: Nack::Denied },
            ["nack", lease, "unsuitable"] => Message::Nack { lease: number(lease), reason: Nack::Unsuitable },
            ["nack", lease, ms] => Message::Nack { lease: number(lease), reason: Nack::Busy { retry_after_ms: number(ms) } },
            ["outcome", lease, why] if Player::is_failure(why) => {
                Message::Outcome { lease: number(lease), outcome: Err(self.failure(why)), body: None }
            }
            ["inline" | "packed", ..] => self.packed(words),
            ["outcome", lease, result] => Message::Outcome { lease: number(lease), outcome: Ok(self.done(result)), body: None },
            ["unknown", lease] => Message::Unknown { lease: number(lease) },
            ["settled", lease] => Message::Settled { lease: number(lease) },
            ["renew", lease] => Message::Renew { lease: number(lease) },
            ["cancel", lease] => Message::Cancel { lease: number(lease) },
            ["holds", query, ref cids @ ..] => Message::Holds { query: number(query), cids: self.cids(cids) },
            ["held", query, bits, ref sizes @ ..] => {
                Message::Held { query: query_number(query), bits: ByteBuf::from(bitmap(bits)), sizes: lengths(sizes) }
            }
            ["recall", query, ref keys @ ..] => Message::Recall { query: number(query), keys: self.cids(keys) },
            ["inquire", query, ref words @ ..] => Message::Inquire { query: number(query), question: self.question(words) },
            ["inform", query, ref words @ ..] => Message::Inform { query: query_number(query), reply: reply(words) },
            ["get", query, cid] => Message::Get { query: number(query), cid: self.cid(cid) },
            ["got", query] => Message::Got { query: number(query), block: None },
            ["got", query, bytes] => Message::Got { query: number(query), block: Some(ByteBuf::from(bytes.as_bytes().to_vec())) },
            ["hold", batch, ref cids @ ..] => Message::Hold { batch: number(batch), cids: self.cids(cids) },
            ["kept", batch] => Message::Kept { batch: number(batch), kept: Ok(()) },
            ["kept", batch, why] => Message::Kept { batch: number(batch), kept: Err(self.failure(why)) },
            _ => panic!("no such message: {words:?}"),
        }
    }

    fn output(&self, output: Output) -> String {
        match output {
            Output::Send { to, message } => format!("{} <- {}", name(&to), self.said(&message)),
            Output::Post(post) => self.posted(post),
            Output::Announce { .. } => "announce".into(),
            Output::SendAdverts { to, sealed } => format!("{} <- {} adverts", name(&to), sealed.len()),
            Output::SignAdvert { advert } => format!("sign advert {} for {}", advert.seq, advert.addrs.join(" ")),
            Output::Dial { peer, addrs } => {
                format!("dial {} {}", peer.map_or("?".into(), |peer| name(&peer)), addrs.join(" "))
            }
            Output::Load { ticket, function, .. } => format!("load {} for {}", self.called(&function), told(&ticket)),
            Output::Fetch { ticket, roots, recursive, durable: _, hints } => {
                let (what, from) = (self.called_all(&roots), names(&hints));
                let all = if recursive { " and all below" } else { "" };
                format!("fetch {what}{all} for {}, perhaps from {from}", told(&ticket))
            }
            Output::Stop { ticket } => format!("stop {}", told(&ticket)),
            Output::List { ticket, root } => format!("list {} for {}", self.called(&root), told(&ticket)),
            Output::Read { .. } | Output::Unpack { .. } | Output::Learn { .. } => self.parcel(output),
            Output::Have { ticket, cids } => format!("have {}? for {}", self.called_all(&cids), told(&ticket)),
            Output::Start { ticket, task, subject, .. } => {
                format!("start {} for {}, of {}", self.asked(&task), told(&ticket), name(&subject))
            }
            Output::Sign { .. } | Output::Remember { .. } | Output::Searched { .. } => self.stated(output),
            Output::Recall { ticket, of: Wanted::Tasks(tasks) } => {
                let tasks: Vec<String> = tasks.iter().map(|task| self.asked(task)).collect();
                format!("recall {} for {}", tasks.join(" "), told(&ticket))
            }
            Output::Recall { ticket, of: Wanted::Keys(keys) } => {
                format!("recall {} for {}", self.called_all(&keys), told(&ticket))
            }
            Output::SendReceipts { to, query, sealed } => {
                format!("{} <- {} receipts to {}", name(&to), sealed.len(), shown(query))
            }
            Output::Reply { request, reply: Ok(answer) } => {
                let (result, by) = (self.called(&answer.done.result), name(&answer.executor));
                let again = if answer.done.reused { " again" } else { "" };
                format!("reply {request}: {result}{again} by {by}, {} claims, {} us", answer.claims, answer.total_us)
            }
            Output::Reply { request, reply: Err(failure) } => {
                let after = match failure {
                    Failure::Overloaded { retry_after_ms } => format!(", again in {retry_after_ms} ms"),
                    _ => String::new(),
                };
                format!("reply {request}: {}{after}", self.failed(&failure))
            }
            Output::Ranked { request, reply } => self.ranked(request, reply),
            Output::Progress { request, progress } => format!("progress {request}: {} of {}", progress.done, progress.tasks),
            Output::JobReply { request, reply: Ok(done) } => {
                let shares = done.progress.nodes.iter().map(|(node, share)| format!("{} ran {}", name(node), share.tasks));
                let shares = shares.collect::<Vec<_>>().join(", ");
                let reused = match done.progress.reused {
                    0 => String::new(),
                    count => format!(", {count} reused"),
                };
                format!("job {request}: {}; {shares}{reused}", self.called(&done.done.result))
            }
            Output::JobReply { request, reply: Err(failure) } => format!("job {request}: {}", self.failed(&failure)),
            output @ (Output::Persist { .. } | Output::Identify { .. } | Output::Accepted { .. } | Output::Works { .. }) => {
                self.promise(output)
            }
            output @ (Output::Seen(_) | Output::Inquire { .. } | Output::Informed { .. }) => self.traced(output),
            Output::Placed { request, cids, at: None } => format!("no place {request}: {}", self.called_all(&cids)),
            Output::Placed { request, cids, at: Some(at) } => {
                format!("placed {request}: {} at {}", self.called_all(&cids), name(&at))
            }
        }
    }

    /// What is to become of receipts, or what was found.
    fn stated(&self, output: Output) -> String {
        match output {
            Output::Sign { ticket, statement: Statement { names, tell, .. }, urgent } => {
                let whom = if tell { ", to be told" } else { "" };
                let key = names.key.map_or("no key".into(), |key| self.called(&key));
                let now = if urgent { " now" } else { "" };
                format!("sign{now} {} as {key} for {}{whom}", self.called(&names.result), told(&ticket))
            }
            Output::Remember { receipts } => {
                let shown = |Sealed { names, .. }: &Sealed| {
                    let key = names.key.map_or("no key".into(), |key| self.called(&key));
                    format!("{} as {key} by {}", self.called(&names.result), self.called(&names.receipt))
                };
                format!("remember {}", receipts.iter().map(shown).collect::<Vec<_>>().join(", "))
            }
            Output::Searched { request, found: Err(failure) } => format!("searched {request}: {}", self.failed(&failure)),
            Output::Searched { request, found: Ok(found) } => {
                let by = |memo: &Memo| format!("{} by {}", self.called(&memo.cid), name(&memo.receipt.iss));
                let shown = found.iter().map(|memo| memo.as_ref().map_or("nothing".into(), by));
                format!("searched {request}: {}", shown.collect::<Vec<_>>().join(", "))
            }
            other => panic!("no receipts: {other:?}"),
        }
    }

    fn said(&self, message: &Message) -> String {
        match message {
            Message::Claim { lease, task, budget_ms, hints, memo, trace, inline, .. } => {
                let reuse = if *memo { ", earlier results do" } else { "" };
                let traced = if trace.is_some() { ", traced" } else { "" };
                let inline = if *inline { ", inline" } else { "" };
                format!("claim {lease} {} within {budget_ms} ms, hints {}{reuse}{traced}{inline}", self.asked(task), names(hints))
            }
            Message::Outcome { lease, outcome: Ok(done), body } => {
                format!("outcome {lease} {}{}", self.called(&done.result), letters::along(body.as_ref()))
            }
            Message::Outcome { lease, outcome: Err(failure), .. } => format!("outcome {lease} {}", self.failed(failure)),
            Message::Holds { query, cids } => format!("holds {} {}", shown(*query), self.called_all(cids)),
            Message::Held { query, bits, .. } => format!("held {} {:?}", shown(*query), &bits[..]),
            Message::Recall { query, keys } => format!("recall {} {}", shown(*query), self.called_all(keys)),
            Message::Get { query, cid } => format!("get {query} {}", self.called(cid)),
            Message::Got { query, block } => format!("got {query}{}", letters::along(block.as_ref())),
            Message::Hold { batch, cids } => format!("hold {batch} {}", self.called_all(cids)),
            Message::Kept { batch, kept: Ok(()) } => format!("kept {batch}"),
            Message::Kept { batch, kept: Err(failure) } => format!("kept {batch} {}", self.failed(failure)),
            Message::Inquire { query, question } => format!("inquire {} {}", shown(*query), asked_for(question)),
            Message::Inform { query, reply } => format!("inform {} {}", shown(*query), replied(reply)),
            Message::Grant { lease } => format!("grant {lease}"),
            Message::Nack { lease, reason: Nack::Busy { retry_after_ms } } => format!("nack {lease} busy {retry_after_ms} ms"),
            Message::Nack { lease, reason } => format!("nack {lease} {reason:?}"),
            Message::Unknown { lease } => format!("unknown {lease}"),
            Message::Settled { lease } => format!("settled {lease}"),
            Message::Renew { lease } => format!("renew {lease}"),
            Message::Cancel { lease } => format!("cancel {lease}"),
        }
    }

    fn asked(&self, task: &Task) -> String {
        let args = task.args.iter().map(|arg| match arg {
            Arg::Link(cid) => self.called(cid),
            Arg::Inline(bytes) => format!("'{}", String::from_utf8_lossy(bytes)),
        });
        format!("{}({})", task.entry, args.collect::<Vec<_>>().join(" "))
    }

    /// A failure as people read it, with this file's names.
    fn failed(&self, failure: &Failure) -> String {
        let mut text = format!("{}: {failure}", failure.code());
        for (cid, name) in &self.names {
            text = text.replace(&cid.to_string(), name);
        }
        (1..=9).fold(text, |text, n| text.replace(&NodeId([n; 32]).to_string(), &format!("n{n}")))
    }
}

fn names(nodes: &[NodeId]) -> String {
    if nodes.is_empty() { "nobody".into() } else { nodes.iter().map(name).collect::<Vec<_>>().join(" ") }
}
