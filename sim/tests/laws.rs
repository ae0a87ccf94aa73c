//! Each law fires when it is broken: it is fed a trace that breaks it, and the same trace without the fault.

use std::collections::BTreeMap;

use cid::Cid;
use timerose_core::failure::Failure;
use timerose_core::id::{NodeId, RAW, cid_of};
use timerose_core::io::Answer;
use timerose_core::job::{JobDone, JobProgress, NodeShare};
use timerose_core::task::{Done, Usage};
use timerose_sim::check::{
    AcceptedIsKept, AllEnd, Breach, Capacity, Digest, Fair, JobResult, Law, Nearest, NoSpin, NothingIsLeft, PlacedIsKept,
    Remembered, RightResult, RunsOnce, SettledOnce, Trust, WholeAgain,
};
use timerose_sim::fact::{Asked, Fact, Kept, Truth};

fn cid(name: &str) -> Cid {
    cid_of(RAW, name.as_bytes())
}

fn asked(request: u64) -> Asked {
    Asked { node: 1, client: 0, request, timeout_us: 1_000_000, calm: false, stranger: false }
}

fn calm(request: u64) -> Asked {
    Asked { calm: true, ..asked(request) }
}

fn called(asked: Asked) -> Fact {
    Fact::Called { asked, truth: Truth::Gives { task: cid("task"), result: cid("result") } }
}

fn done(task: &str, result: &str) -> Done {
    Done { task: cid(task), result: cid(result), size: 1, receipt: cid("receipt"), usage: Usage::default(), reused: false }
}

fn replied(node: usize, request: u64, task: &str, result: &str) -> Fact {
    let answer = Answer { done: done(task, result), executor: NodeId([1; 32]), claims: 1, total_us: 1 };
    Fact::Replied { node, request, reply: Ok(answer) }
}

fn failed(request: u64, failure: Failure) -> Fact {
    Fact::Replied { node: 1, request, reply: Err(failure) }
}

fn late() -> Failure {
    Failure::DeadlineExceeded { stage: "waiting".into() }
}

/// What a law says of facts that happen a tenth of a second apart, and of their end.
fn judge(mut law: impl Law, facts: &[Fact]) -> Result<(), Breach> {
    for (i, fact) in facts.iter().enumerate() {
        law.see(i as u64 * 100_000, fact)?;
    }
    law.end()
}

fn holds(law: impl Law, facts: &[Fact]) {
    let name = law.name();
    assert_eq!(judge(law, facts), Ok(()), "{name} fires without a reason");
}

fn fires(law: impl Law, facts: &[Fact], what: &str) {
    let name = law.name();
    let breach = judge(law, facts).expect_err(name);
    assert!(breach.what.contains(what), "{name}: {breach:?}");
}

#[test]
fn a_second_answer_is_seen() {
    let (call, answer) = (called(asked(7)), replied(1, 7, "task", "result"));
    holds(SettledOnce::default(), &[call.clone(), answer.clone()]);
    fires(SettledOnce::default(), &[call.clone(), answer.clone(), answer.clone()], "is not open");
    fires(SettledOnce::default(), &[call.clone(), replied(2, 7, "task", "result")], "of node 1 was answered here");
    fires(SettledOnce::default(), &[call, Fact::Crashed { node: 1 }, answer], "is not open");
}

#[test]
fn more_work_than_there_is_room_for_is_seen() {
    let start = |work, memory| Fact::Started { node: 3, work, memory, subject: 0 };
    let end = Fact::Ended { node: 3, work: 1 };
    let law = || Capacity::new(2, 100);
    holds(law(), &[start(1, 50), start(2, 50), end.clone(), start(3, 50)]);
    holds(law(), &[start(1, 50), start(2, 50), Fact::Crashed { node: 3 }, start(1, 100)]);
    fires(law(), &[start(1, 10), start(2, 10), start(3, 10)], "3 pieces of work");
    fires(law(), &[start(1, 60), start(2, 60)], "120 bytes");
    fires(law(), &[start(1, 10), start(1, 10)], "twice");
}

/// The node and the client of a party.
type Party = fn(u64) -> (usize, u64);

#[test]
fn an_unfair_share_is_seen() {
    // Two parties of 300 calls each; of ten results the second has so many.
    let play = |party: Party, share: u64| {
        let call = |request: u64| {
            let (node, client) = party(request % 2);
            called(Asked { node, client, ..asked(request) })
        };
        let answers = (0..250).map(|turn| {
            let second = turn % 10 < share;
            replied(party(u64::from(second)).0, turn * 2 + u64::from(second), "task", "result")
        });
        (0..600).map(call).chain(answers).collect::<Vec<Fact>>()
    };
    let nodes: Party = |party| (party as usize, 1);
    let clients: Party = |party| (1, party + 1);
    for parties in [nodes, clients] {
        holds(Fair::default(), &play(parties, 4));
        fires(Fair::default(), &play(parties, 3), "should have 80");
    }
}

#[test]
fn a_request_without_an_answer_is_seen() {
    let call = called(asked(7));
    let wait = vec![Fact::TakenBack { request: 0 }; 10];
    holds(AllEnd::default(), &[call.clone(), failed(7, late())]);
    holds(AllEnd::default(), &[call.clone(), Fact::Crashed { node: 1 }]);
    fires(AllEnd::default(), std::slice::from_ref(&call), "never answered");
    let too_late: Vec<Fact> = [vec![call], wait, vec![failed(7, late())]].concat();
    fires(AllEnd::default(), &too_late, "after its deadline");
}

#[test]
fn a_wrong_answer_is_seen() {
    let law = || RightResult::new(0, 0);
    let missing = Failure::not_found(cid("nowhere"), 3);
    let guest = Failure::FunctionFailed { exit: 1, stderr: String::new() };
    holds(law(), &[called(calm(7)), replied(1, 7, "task", "result")]);
    fires(law(), &[called(asked(7)), replied(1, 7, "task", "other")], "should give");
    fires(law(), &[called(asked(7)), replied(1, 7, "other", "result")], "should give");
    let of = |asked, truth| Fact::Called { asked, truth };
    fires(law(), &[of(asked(7), Truth::Fails), replied(1, 7, "task", "result")], "should give");
    holds(law(), &[of(calm(7), Truth::Fails), failed(7, guest.clone())]);
    fires(law(), &[called(asked(7)), failed(7, guest)], "should give");
    holds(law(), &[of(calm(7), Truth::Missing(cid("nowhere"))), failed(7, missing.clone())]);
    fires(law(), &[called(calm(7)), failed(7, missing)], "should give");
    holds(law(), &[called(asked(7)), failed(7, late())]);
    fires(law(), &[called(calm(7)), failed(7, late())], "should give");
    fires(law(), &[called(asked(7)), failed(7, Failure::Cancelled)], "should give");
    holds(law(), &[called(asked(7)), Fact::TakenBack { request: 7 }, failed(7, Failure::Cancelled)]);
}

#[test]
fn too_many_failures_are_seen() {
    let facts = [called(asked(7)), failed(7, late()), called(asked(8)), replied(1, 8, "task", "result")];
    holds(RightResult::new(500, 0), &facts);
    fires(RightResult::new(501, 0), &facts, "only 1 of 2");
    // What failed was asked for by node 1: if that one is deaf, nothing is expected of it.
    holds(RightResult::new(1000, 2), &facts);
}

#[test]
fn a_wrong_job_result_is_seen() {
    let call = |asked| Fact::JobCalled { asked, tasks: 2, result: cid("sum"), again: None };
    let reply = |result: &str, tasks| {
        let share = NodeShare { tasks, ..NodeShare::default() };
        let progress = JobProgress { tasks: 2, done: tasks, reused: 0, nodes: BTreeMap::from([(NodeId([1; 32]), share)]) };
        let done = JobDone { job: cid("job"), done: done("task", result), progress, total_us: 1 };
        Fact::JobReplied { node: 1, request: 7, reply: Ok(done) }
    };
    let late = Fact::JobReplied { node: 1, request: 7, reply: Err(late()) };
    holds(JobResult::default(), &[call(calm(7)), reply("sum", 2)]);
    fires(JobResult::default(), &[call(asked(7)), reply("other", 2)], "should give");
    fires(JobResult::default(), &[call(asked(7)), reply("sum", 1)], "should give");
    holds(JobResult::default(), &[call(asked(7)), late.clone()]);
    fires(JobResult::default(), &[call(calm(7)), late], "should give");
}

#[test]
fn a_false_memory_and_work_that_it_should_have_spared_are_seen() {
    let remembers = |right| Fact::Remembers { node: 0, key: cid("key"), right };
    holds(Remembered::default(), &[remembers(true)]);
    fires(Remembered::default(), &[remembers(false)], "is not what its task gives");
    let call = |asked, again| Fact::JobCalled { asked, tasks: 2, result: cid("sum"), again };
    let reply = |request, ran| {
        let share = NodeShare { tasks: ran, ..NodeShare::default() };
        let nodes = BTreeMap::from([(NodeId([1; 32]), share)]);
        let progress = JobProgress { tasks: 2, done: 2, reused: 2 - ran, nodes };
        let done = JobDone { job: cid("job"), done: done("task", "sum"), progress, total_us: 1 };
        Fact::JobReplied { node: 1, request, reply: Ok(done) }
    };
    let (first, second) = ([call(calm(7), None), reply(7, 2)], call(calm(8), Some(7)));
    let [begun, ended] = first;
    holds(Remembered::default(), &[begun.clone(), ended.clone(), second.clone(), reply(8, 0)]);
    fires(Remembered::default(), &[begun.clone(), ended.clone(), second.clone(), reply(8, 1)], "ran 1 tasks");
    // One that had not ended yet, and faults, spare nothing.
    holds(Remembered::default(), &[begun, second, ended, reply(8, 2)]);
    holds(Remembered::default(), &[call(asked(7), None), reply(7, 2), call(calm(8), Some(7)), reply(8, 1)]);
}

#[test]
fn work_for_a_stranger_is_seen() {
    let start = |node, subject| Fact::Started { node, work: 1, memory: 1, subject };
    holds(Trust::new(4), &[start(0, 3), start(4, 4)]);
    fires(Trust::new(4), &[start(0, 4)], "stranger 4");
}

#[test]
fn a_lost_block_is_seen() {
    let cids = vec![cid("a"), cid("b")];
    let ask = Fact::Placing { node: 0, request: 7, cids: cids.clone(), copies: 2 };
    let put = |cids: &[Cid], at, kept| Fact::Placed { node: 0, request: 7, cids: cids.to_vec(), at, kept };
    let first = [ask.clone(), put(&cids, Some(2), true)];
    let then = |more: &[Fact]| [&first, more].concat();
    holds(PlacedIsKept::default(), &then(&[put(&cids[..1], Some(3), true), put(&cids[1..], None, true)]));
    fires(PlacedIsKept::default(), &then(&[put(&cids, Some(3), false)]), "are not all at node");
    fires(PlacedIsKept::default(), &then(&[put(&cids[..1], Some(3), true)]), "lacks a place");
    fires(PlacedIsKept::default(), &then(&[put(&cids, Some(2), true)]), "at one node");
    fires(PlacedIsKept::default(), &then(&[put(&cids, Some(3), true), put(&cids, Some(4), true)]), "a place too many");
    fires(PlacedIsKept::default(), &[ask, put(&cids, None, true), put(&cids, None, true)], "lacks a place");
}

#[test]
fn work_that_was_accepted_and_lost_is_seen() {
    let truth = Truth::Gives { task: cid("task"), result: cid("result") };
    let asked = Fact::Detached { node: 1, request: 7, handle: cid("work"), truth };
    let answer = |accepted| Fact::Accepted { node: 1, request: 7, accepted };
    let kept = |works: &[Kept]| Fact::Promised { node: 1, works: works.iter().map(|kept| (cid("work"), *kept)).collect() };
    let law = AcceptedIsKept::default;
    holds(law(), &[asked.clone(), answer(Ok(())), Fact::Crashed { node: 1 }, kept(&[Kept::Gave(cid("result"))])]);
    // What was not acknowledged is no promise.
    holds(law(), &[asked.clone(), Fact::Crashed { node: 1 }, kept(&[])]);
    holds(law(), &[asked.clone(), answer(Err("Overloaded")), kept(&[])]);
    for works in [&[][..], &[Kept::Open], &[Kept::Gave(cid("other"))], &[Kept::Fails], &[Kept::Lost("NodeFailed")]] {
        fires(law(), &[asked.clone(), answer(Ok(())), kept(works)], "was accepted");
    }
    let disk = |full| Fact::Disk { node: 1, full };
    holds(law(), &[asked.clone(), disk(true), answer(Err("NodeFailed")), kept(&[])]);
    fires(law(), &[asked, disk(true), disk(false), answer(Err("NodeFailed"))], "was answered with");
    let compared = |same| Fact::Restored { node: 1, entries: 3, same };
    holds(law(), &[compared(true)]);
    fires(law(), &[compared(false)], "3 entries");
}

#[test]
fn a_second_run_with_effects_is_seen() {
    let start = |node, task| Fact::StartedOnce { node, task: cid(task) };
    holds(RunsOnce::default(), &[start(1, "a"), start(1, "b"), start(2, "c")]);
    fires(RunsOnce::default(), &[start(1, "a"), Fact::Crashed { node: 1 }, start(2, "a")], "runs again");
}

#[test]
fn calls_that_go_far_or_are_refused_are_seen() {
    let law = || Nearest::new(950);
    let chosen = |claims, rtt_us| Fact::Chosen { node: 1, claims, rtt_us, least_us: 10 };
    let far = |count| [vec![chosen(1, 10); 100 - count], vec![chosen(1, 11); count]].concat();
    holds(law(), &far(5));
    fires(law(), &far(6), "94 of 100");
    fires(law(), &[chosen(1, 10), chosen(2, 10)], "2 executors");
    fires(law(), &[], "0 of 0");
    holds(Nearest::new(0), &[chosen(2, 11)]);
}

#[test]
fn a_busy_loop_is_seen() {
    let tick = |outputs, next| Fact::Ticked { node: 0, outputs, next };
    holds(NoSpin::default(), &vec![tick(1, Some(0)); 10]);
    holds(NoSpin::default(), &vec![tick(0, Some(u64::MAX)); 10]);
    fires(NoSpin::default(), &vec![tick(0, Some(0)); 10], "ticks in a row");
}

#[test]
fn what_is_left_over_and_who_is_missing_is_seen() {
    holds(NothingIsLeft, &[Fact::Left { node: 0, tables: vec![] }]);
    fires(NothingIsLeft, &[Fact::Left { node: 0, tables: vec![("calls", 1)] }], "calls");
    holds(WholeAgain, &[Fact::Misses { node: 0, missing: vec![] }]);
    fires(WholeAgain, &[Fact::Misses { node: 0, missing: vec![4] }], "[4]");
}

#[test]
fn the_hash_sees_every_fact_and_its_time() {
    let hash = |facts: &[(u64, Fact)]| {
        let mut digest = Digest::default();
        facts.iter().for_each(|(at, fact)| drop(digest.take(*at, fact).to_string()));
        digest.hex()
    };
    let fact = || Fact::Ended { node: 1, work: 2 };
    assert_eq!(hash(&[(5, fact())]), hash(&[(5, fact())]));
    let others =
        [hash(&[]), hash(&[(6, fact())]), hash(&[(5, Fact::Ended { node: 1, work: 3 })]), hash(&[(5, fact()), (5, fact())])];
    assert!(others.iter().all(|other| *other != hash(&[(5, fact())])));
}
