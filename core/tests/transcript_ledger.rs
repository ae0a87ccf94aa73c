//! What a node promises and keeps, as transcripts: detached work.
//!
//! Each test is a script, and what the node does line by line. `UPDATE_EXPECT=1` writes what the node does now; whether
//! that is right is for the reader to say.

mod script;

use expect_test::expect;
use script::{PEERS, check, with};

#[test]
fn detached_work_is_acknowledged_when_the_journal_has_it_and_told_when_the_journal_has_its_end() {
    check(
        &with(
            PEERS,
            "0 accept 7 h 5000 one 'x
            1 wait 8 h
            2 persisted accept/1
            3 loaded call/1 f
            3 from n2 grant 2
            3 ask 9
            4 from n2 outcome 2 r
            4 fetched keep/1 100
            5 ask 9 h
            6 persisted end/1
            7 ask 10
            memo on
            8 accept 11 h 5000 one 'x
            memo off
            9 accept 12 h 5000 one 'x
            10 ask 13 other",
        ),
        expect![[r#"
            0 accept 7 h 5000 one 'x
                persist h open until 5000, Os for accept/1
            1 wait 8 h
            2 persisted accept/1
                accepted 7
                load f for call/1
            3 loaded call/1 f
                n2 <- claim 2 one('x) within 4997 ms, hints n1, traced
            3 from n2 grant 2
            3 ask 9
                works 9: h running on n2
            4 from n2 outcome 2 r
                n2 <- settled 2
                seen call 2000 to 4000: n2 claimed 3000, n2 granted 3000; by n2
                fetch r and all below for keep/1, perhaps from n2
            4 fetched keep/1 100
                persist h ended r, Os for end/1
            5 ask 9 h
                works 9: h r
            6 persisted end/1
                works 8: h r
            7 ask 10
                works 10: h r
            8 accept 11 h 5000 one 'x
                accepted 11
            9 accept 12 h 5000 one 'x
                persist h open until 5009, Os for accept/2
            10 ask 13 other
                works 13: none
        "#]],
    );
}

#[test]
fn a_result_that_is_lost_with_its_executor_is_made_anew_and_not_remembered() {
    check(
        &with(
            PEERS,
            "memo on
            0 accept 7 h 60000 one 'x
            1 persisted accept/1
            2 loaded call/1 f
            3 recalled call/1 ('x)
            4 from n2 grant 2
            5 from n2 outcome 2 r
            6 fetched keep/1 no:r
            7 ask 8 h
            1006 tick
            1007 loaded call/3 f
            1008 from n2 grant 4
            1009 from n2 outcome 4 r
            1010 fetched keep/1 100
            1011 persisted end/1
            1012 ask 9 h",
        ),
        expect![[r#"
            0 accept 7 h 60000 one 'x
                persist h open until 60000, Os for accept/1
            1 persisted accept/1
                accepted 7
                load f for call/1
            2 loaded call/1 f
                recall one('x) for call/1
            3 recalled call/1 ('x)
                n2 <- claim 2 one('x) within 59997 ms, hints n1, earlier results do, traced
            4 from n2 grant 2
            5 from n2 outcome 2 r
                n2 <- settled 2
                seen call 1000 to 5000: n2 claimed 3000, n2 granted 4000; by n2
                fetch r and all below for keep/1, perhaps from n2
            6 fetched keep/1 no:r
            7 ask 8 h
                works 8: h waiting after NotFound
            1006 tick
                dial ? /join
                load f for call/3
                (next tick at 60000)
            1007 loaded call/3 f
                n2 <- claim 4 one('x) within 58993 ms, hints n1, traced
            1008 from n2 grant 4
            1009 from n2 outcome 4 r
                n2 <- settled 4
                seen call 1006000 to 1009000: n2 claimed 1007000, n2 granted 1008000; by n2
                fetch r and all below for keep/1, perhaps from n2
            1010 fetched keep/1 100
                persist h ended r, Os for end/1
            1011 persisted end/1
            1012 ask 9 h
                works 9: h r
        "#]],
    );
}

#[test]
fn what_the_journal_cannot_take_is_not_accepted() {
    check(
        &with(
            PEERS,
            "0 accept 7 h 5000 one 'x
            1 accept 8 h 5000 one 'x
            2 persisted accept/1 !disk
            3 ask 9",
        ),
        expect![[r#"
            0 accept 7 h 5000 one 'x
                persist h open until 5000, Os for accept/1
            1 accept 8 h 5000 one 'x
            2 persisted accept/1 !disk
                accepted 7: NodeFailed: a node failed: the disk is full
                accepted 8: NodeFailed: a node failed: the disk is full
            3 ask 9
                works 9: none
        "#]],
    );
}

#[test]
fn accepted_work_is_tried_until_its_time_is_up_and_its_own_failure_ends_it() {
    check(
        &with(
            PEERS,
            "0 accept 7 h 60000 one 'x
            1 persisted accept/1
            2 loaded call/1 no:f
            3 ask 8 h
            1002 tick
            1003 loaded call/2 f
            1004 from n2 outcome 3 !guest
            1005 persisted end/1
            1006 ask 9 h
            1007 accept 10 late 10 one 'x
            1008 persisted accept/2
            1009 loaded call/4 no:f
            1018 tick",
        ),
        expect![[r#"
            0 accept 7 h 60000 one 'x
                persist h open until 60000, Os for accept/1
            1 persisted accept/1
                accepted 7
                load f for call/1
            2 loaded call/1 no:f
                seen call 1000 to 2000: ; NotFound
            3 ask 8 h
                works 8: h waiting after NotFound
            1002 tick
                dial ? /join
                load f for call/2
                (next tick at 60000)
            1003 loaded call/2 f
                n2 <- claim 3 one('x) within 58997 ms, hints n1, traced
            1004 from n2 outcome 3 !guest
                n2 <- settled 3
                seen call 1002000 to 1004000: n2 claimed 1003000; FunctionFailed
                persist h ended FunctionFailed: the function failed with exit code 1: oops, Os for end/1
            1005 persisted end/1
            1006 ask 9 h
                works 9: h FunctionFailed: the function failed with exit code 1: oops
            1007 accept 10 late 10 one 'x
                persist late open until 1017, Os for accept/2
            1008 persisted accept/2
                accepted 10
                load f for call/4
            1009 loaded call/4 no:f
                seen call 1008000 to 1009000: ; NotFound
            1018 tick
                persist late ended DeadlineExceeded: the deadline passed while waiting to be begun, Os for end/2
                (next tick at 86401004)
        "#]],
    );
}

#[test]
fn an_earlier_lifes_work_is_begun_again_and_its_outcomes_are_known() {
    check(
        &with(
            "0 restored open:h:60000 ended:e:0:r open:late:0
            0 ask 7",
            &with(
                PEERS,
                "1 loaded call/1 f
            2 from n2 outcome 2 r
            2 fetched keep/3 0
            3 persisted end/3
            4 wait 8 h
            86400001 tick",
            ),
        ),
        expect![[r#"
            0 restored open:h:60000 ended:e:0:r open:late:0
                persist late ended DeadlineExceeded: the deadline passed while waiting to be begun, Os for end/1
                load f for call/1
            0 ask 7
                works 7: late DeadlineExceeded: the deadline passed while waiting to be begun, e r, h running
            1 loaded call/1 f
                n2 <- claim 2 one('x) within 59999 ms, hints n1, traced
            2 from n2 outcome 2 r
                n2 <- settled 2
                seen call 0 to 2000: n2 claimed 1000; by n2
                fetch r and all below for keep/3, perhaps from n2
            2 fetched keep/3 0
                persist h ended r, Os for end/3
            3 persisted end/3
            4 wait 8 h
                works 8: h r
            86400001 tick
                dial ? /join
                persist e forgotten, Os
                (next tick at 86400002)
        "#]],
    );
}

#[test]
fn detached_work_that_is_taken_back_stops_and_says_so() {
    check(
        &with(
            PEERS,
            "0 accept 7 h 60000 one 'x
            1 persisted accept/1
            2 loaded call/1 f
            3 revoke 8 h
            4 persisted end/1
            5 revoke 9 other
            6 accept 10 h 60000 one 'x",
        ),
        expect![[r#"
            0 accept 7 h 60000 one 'x
                persist h open until 60000, Os for accept/1
            1 persisted accept/1
                accepted 7
                load f for call/1
            2 loaded call/1 f
                n2 <- claim 2 one('x) within 59998 ms, hints n1, traced
            3 revoke 8 h
                persist h ended Cancelled: cancelled, Os for end/1
                n2 <- cancel 2
                seen call 1000 to 3000: n2 claimed 2000; Cancelled
            4 persisted end/1
                works 8: h Cancelled: cancelled
            5 revoke 9 other
                works 9: none
            6 accept 10 h 60000 one 'x
                persist h open until 60006, Os for accept/2
        "#]],
    );
}

#[test]
fn a_detached_job_is_answered_to_the_ledger() {
    check(
        &with(
            PEERS,
            "0 advert n3 n3 xs 1 2
            1 accept-job 7 job 60000 2
            2 persisted accept/1
            3 loaded job/1 f
            4 listed job/1 a
            5 from n2 held 4611686018427387905 1
            6 from n3 held 4611686018427387906 0
            7 from n2 outcome 2 ra
            8 from n2 outcome 4 sum
            8 fetched keep/1 0
            9 persisted end/1
            10 ask 8 job",
        ),
        expect![[r#"
            0 advert n3 n3 xs 1 2
                n2 <- 1 adverts
            1 accept-job 7 job 60000 2
                persist job open until 60001, Os for accept/1
            2 persisted accept/1
                accepted 7
                n3 <- hold 1 job
                load f for job/1
            3 loaded job/1 f
                list data for job/1
            4 listed job/1 a
                n2 <- holds J+1 a
                n3 <- holds J+2 a
            5 from n2 held 4611686018427387905 1
            6 from n3 held 4611686018427387906 0
                n2 <- claim 2 one(a) within 59995 ms, hints n1, traced
            7 from n2 outcome 2 ra
                n2 <- settled 2
                seen call 6000 to 7000: n2 claimed 6000; by n2
                n2 <- claim 4 any(ra) within 59994 ms, hints n1, traced
            8 from n2 outcome 4 sum
                n2 <- settled 4
                seen call 7000 to 8000: n2 claimed 7000; by n2
                fetch sum and all below for keep/1, perhaps from nobody
            8 fetched keep/1 0
                persist job ended sum, Os for end/1
            9 persisted end/1
            10 ask 8 job
                works 8: job sum
        "#]],
    );
}

#[test]
fn a_thousand_promises_of_an_earlier_life_are_taken_up_bit_by_bit() {
    use std::collections::BTreeMap;
    use timerose_core::id::{NodeId, Now, RAW, cid_of};
    use timerose_core::io::{Input, Output};
    use timerose_core::promise::{Asked, JournalEntry, Stage, Work};
    use timerose_core::task::Task;

    let function = cid_of(RAW, b"f");
    let work = |n: u64| {
        let task = Task { function, entry: String::new(), args: vec![], seq: n };
        let (handle, entry) = (task.id(&NodeId([1; 32])), String::new());
        // A third is open, of a third the time is up, and the outcome of a third was kept long enough.
        let (deadline_ms, stage) = match n % 3 {
            0 => (1 << 40, Stage::Open(Asked::Call { task, memo: true })),
            1 => (0, Stage::Open(Asked::Call { task, memo: true })),
            _ => (0, Stage::Ended { at_ms: 0, outcome: Err(timerose_core::failure::Failure::Cancelled) }),
        };
        JournalEntry::Work(Work { handle, job: false, function, entry, accepted_ms: n, deadline_ms, stage })
    };
    let mut node = script::node_under_test();
    let now = Now { monotonic_us: 5, unix_ms: timerose_core::ledger::KEPT_MS + 1 };
    let mut inputs = vec![Input::Restored { entries: (0..900).map(work).collect() }];
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    // A node that is woken whenever it wants to be.
    for _ in 0..200 {
        let Some(input) = inputs.pop() else { break };
        let mut out = Vec::new();
        node.handle(now, input, &mut out);
        assert!(out.len() <= 256, "{} outputs", out.len());
        for output in &out {
            let kind = match output {
                Output::Load { .. } => "begun",
                Output::Persist { entry: JournalEntry::Forgotten(_), .. } => "forgotten",
                Output::Persist { .. } => "ended",
                _ => "other",
            };
            *counts.entry(kind).or_default() += 1;
        }
        if node.next_wakeup().is_some_and(|at| at <= now.monotonic_us) {
            inputs.push(Input::Tick);
        }
    }
    // Of those that are open, as many as may be under way.
    counts.remove("other");
    assert_eq!(counts, BTreeMap::from([("begun", 256), ("ended", 300), ("forgotten", 300)]));
}

#[test]
fn a_full_ledger_forgets_the_oldest_outcome_and_refuses_where_there_is_none() {
    use timerose_core::failure::Failure;
    use timerose_core::id::{Now, RAW, cid_of};
    use timerose_core::io::{Input, Output};
    use timerose_core::ledger::{OPEN_BYTES_MAX, WORK_MAX};
    use timerose_core::promise::{Asked, JournalEntry, Key, Stage, Work};
    use timerose_core::task::{Arg, INLINE_MAX, Task};

    let function = cid_of(RAW, b"f");
    let call = |arg: usize| {
        let task = Task { function, entry: String::new(), args: vec![Arg::Inline(vec![0; arg])], seq: 0 };
        Asked::Call { task, memo: true }
    };
    let handle = |n: usize| cid_of(RAW, &n.to_be_bytes());
    let work = |n: usize, stage| {
        let (handle, entry, deadline_ms) = (handle(n), String::new(), 1 << 40);
        JournalEntry::Work(Work { handle, job: false, function, entry, accepted_ms: n as u64, deadline_ms, stage })
    };
    let now = Now { monotonic_us: 5, unix_ms: 100_000 };
    let told = |node: &mut timerose_core::node::Node, input| {
        let mut out = Vec::new();
        node.handle(now, input, &mut out);
        out
    };
    let accept = |n: usize, arg: usize| Input::Accept { request: 7, handle: handle(n), asked: call(arg), timeout_ms: 1000 };
    let refused =
        |out: &[Output]| out.iter().any(|o| matches!(o, Output::Accepted { request: 7, reply: Err(Failure::Overloaded { .. }) }));
    // One outcome, and as much open work as fits beside it.
    let mut node = script::node_under_test();
    let mut entries: Vec<JournalEntry> = (1..WORK_MAX).map(|n| work(n, Stage::Open(call(1)))).collect();
    entries.push(work(0, Stage::Ended { at_ms: 1, outcome: Err(Failure::Cancelled) }));
    told(&mut node, Input::Restored { entries });
    let out = told(&mut node, accept(WORK_MAX, 1));
    let forgets =
        |o: &Output| matches!(o, Output::Persist { entry: JournalEntry::Forgotten(Key::Work(cid)), .. } if *cid == handle(0));
    assert!(!refused(&out) && out.iter().any(forgets), "the outcome makes room");
    assert!(refused(&told(&mut node, accept(WORK_MAX + 1, 1))), "open work does not");
    // Few, and large.
    let mut node = script::node_under_test();
    let fit = OPEN_BYTES_MAX / (INLINE_MAX + 5);
    let entries = (0..fit).map(|n| work(n, Stage::Open(call(INLINE_MAX)))).collect();
    told(&mut node, Input::Restored { entries });
    assert!(refused(&told(&mut node, accept(fit, INLINE_MAX))));
    assert!(!refused(&told(&mut node, accept(fit, 1))));
}
