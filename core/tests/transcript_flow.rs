//! Near the data, in turn, and in time: as transcripts.
//!
//! `UPDATE_EXPECT=1` writes what the node does now; whether that is right is for the reader to say.

mod script;

use expect_test::expect;
use script::{ALONE, PEERS, check, with};

/// n2, the only one, has two pieces of work of this node's: it is given one more. A run takes 8 ms.
const FULL: &str = "
    runs 8000 0 0
    . 0 submit 1 60000 one 'a
    . 0 loaded call/1 f
    . 0 from n2 grant 2
    . 0 submit 2 60000 one 'b
    . 0 loaded call/3 f
    . 0 from n2 grant 4
";

#[test]
fn a_call_goes_where_most_of_its_bytes_lie() {
    check(
        &with(
            PEERS,
            "0 submit 7 5000 any a b c
            1 loaded call/1 f
            2 have call/1 000
            4 from n2 held 2 100 1000000 0 0
            5 from n3 held 3 011 0 900000 900000
            6 from n3 outcome 4 result
            7 submit 8 5000 any a b c
            8 loaded call/5 f
            9 have call/5 001 0 0 900000
            10 from n2 held 6 110 1900001 900000 0
            11 from n3 held 7 011 0 900000 900000",
        ),
        expect![[r#"
            0 submit 7 5000 any a b c
                load f for call/1
            1 loaded call/1 f
                have a b c? for call/1
            2 have call/1 000
                n2 <- holds 2 a b c
                n3 <- holds 3 a b c
            4 from n2 held 2 100 1000000 0 0
            5 from n3 held 3 011 0 900000 900000
                n3 <- claim 4 any(a b c) within 4995 ms, hints n2 n1
            6 from n3 outcome 4 result
                n3 <- settled 4
                reply 7: result by n3, 1 claims, 6000 us
            7 submit 8 5000 any a b c
                load f for call/5
            8 loaded call/5 f
                have a b c? for call/5
            9 have call/5 001 0 0 900000
                n2 <- holds 6 a b c
                n3 <- holds 7 a b c
            10 from n2 held 6 110 1900001 900000 0
            11 from n3 held 7 011 0 900000 900000
                n2 <- claim 8 any(a b c) within 4996 ms, hints n1 n3
        "#]],
    );
}

#[test]
fn a_call_waits_for_a_full_executor_near_its_data_while_that_is_cheaper() {
    // Three megabytes take 30 ms elsewhere and a run 8 ms: n2 has three of its own, d4 waits for it, and d5 had better go.
    check(
        &[
            PEERS,
            "runs 8000 0 0
            . 0 submit 1 60000 one 'a
            . 0 loaded call/1 f
            . 0 from n2 outcome 2 r
            . 0 submit 2 60000 one d1
            . 0 loaded call/3 f
            . 0 have call/3 0
            . 0 from n2 held 4 1 3000000
            . 0 from n3 held 5 0
            . 0 submit 3 60000 one d2
            . 0 loaded call/7 f
            . 0 have call/7 0
            . 0 from n2 held 8 1 3000000
            . 0 from n3 held 9 0
            . 0 submit 4 60000 one d3
            . 0 loaded call/11 f
            . 0 have call/11 0
            . 0 from n2 held 12 1 3000000
            . 0 from n3 held 13 0
            0 submit 5 60000 one d4
            0 loaded call/15 f
            0 have call/15 0
            0 from n2 held 16 1 3000000
            0 from n3 held 17 0
            0 submit 6 60000 one d5
            0 loaded call/18 f
            0 have call/18 0
            0 from n2 held 19 1 3000000
            0 from n3 held 20 0
            7 from n2 outcome 6 r
            40 tick",
        ]
        .concat(),
        expect![[r#"
            0 submit 5 60000 one d4
                load f for call/15
            0 loaded call/15 f
                have d4? for call/15
            0 have call/15 0
                n2 <- holds 16 d4
                n3 <- holds 17 d4
            0 from n2 held 16 1 3000000
            0 from n3 held 17 0
            0 submit 6 60000 one d5
                load f for call/18
            0 loaded call/18 f
                have d5? for call/18
            0 have call/18 0
                n2 <- holds 19 d5
                n3 <- holds 20 d5
            0 from n2 held 19 1 3000000
            0 from n3 held 20 0
                n3 <- claim 21 one(d5) within 60000 ms, hints n2 n1
            7 from n2 outcome 6 r
                n2 <- settled 6
                n2 <- claim 22 one(d4) within 59993 ms, hints n1
                reply 2: r by n2, 1 claims, 7000 us
            40 tick
                dial ? /join
                (next tick at 1000)
        "#]],
    );
}

#[test]
fn a_link_that_was_measured_counts_in_place_of_a_guess() {
    // n2 has shown that it fetches at 1 MB/s; n3, whose data is less, at 100 MB/s.
    check(
        &with(
            PEERS,
            "runs 1000 1000000 1000000
            . 0 submit 1 5000 one 'x
            . 0 loaded call/1 f
            0 from n2 outcome 2 r
            0 submit 7 5000 any a b
            1 loaded call/3 f
            2 have call/3 00
            4 from n2 held 4 10 500000 0
            runs 1000 1000000 10000
            5 from n3 held 5 01 0 400000",
        ),
        expect![[r#"
            0 from n2 outcome 2 r
                n2 <- settled 2
                reply 1: r by n2, 1 claims, 0 us
            0 submit 7 5000 any a b
                load f for call/3
            1 loaded call/3 f
                have a b? for call/3
            2 have call/3 00
                n2 <- holds 4 a b
                n3 <- holds 5 a b
            4 from n2 held 4 10 500000 0
            5 from n3 held 5 01 0 400000
                n2 <- claim 6 any(a b) within 4995 ms, hints n3 n1
        "#]],
    );
}

#[test]
fn what_a_task_needs_is_fetched_while_it_waits_for_its_slot() {
    check(
        &with(
            ALONE,
            ". 0 up n2
            0 from n2 claim 1 5000 one 'x
            1 loaded work/1 f
            2 fetched work/1 100
            3 from n2 claim 2 5000 one a
            4 fetched work/2 5000
            9 exited work/1 result",
        ),
        expect![[r#"
            0 from n2 claim 1 5000 one 'x
                n2 <- grant 1
                load f for work/1
            1 loaded work/1 f
                fetch code and all below for work/1, perhaps from n2
            2 fetched work/1 100
                start one('x) for work/1, of n2
            3 from n2 claim 2 5000 one a
                n2 <- grant 2
                fetch a and all below for work/2, perhaps from n2
            4 fetched work/2 5000
            9 exited work/1 result
                n2 <- outcome 1 result
                sign result as key for work/1
                start one(a) for work/2, of n2
        "#]],
    );
}

#[test]
fn a_client_with_few_calls_is_not_behind_one_with_many() {
    let mut script = [PEERS, ". 0 gone n3\n", FULL, "client 1\n"].concat();
    for request in 10..20 {
        script.push_str(&format!(". 1 submit {request} 5000 one 'x\n"));
    }
    for call in 5..15 {
        script.push_str(&format!(". 1 loaded call/{call} f\n"));
    }
    script.push_str(
        "client 2
        2 submit 20 60000 one 'x
        2 loaded call/16 f
        2 submit 21 60000 one 'x
        2 loaded call/17 f
        3 from n2 outcome 2 r
        4 from n2 outcome 4 r
        5 from n2 outcome 15 r
        6 from n2 outcome 18 r
        7 from n2 outcome 19 r
        8 from n2 outcome 20 r",
    );
    check(
        &script,
        expect![[r#"
            2 submit 20 60000 one 'x
                load f for call/16
            2 loaded call/16 f
            2 submit 21 60000 one 'x
                load f for call/17
            2 loaded call/17 f
            3 from n2 outcome 2 r
                n2 <- settled 2
                n2 <- claim 18 one('x) within 59999 ms, hints n1
                reply 1: r by n2, 1 claims, 3000 us
            4 from n2 outcome 4 r
                n2 <- settled 4
                n2 <- claim 19 one('x) within 4997 ms, hints n1
                reply 2: r by n2, 1 claims, 4000 us
            5 from n2 outcome 15 r
                n2 <- settled 15
                n2 <- claim 20 one('x) within 59997 ms, hints n1
                reply 10: r by n2, 1 claims, 4000 us
            6 from n2 outcome 18 r
                n2 <- settled 18
                n2 <- claim 21 one('x) within 4995 ms, hints n1
                reply 20: r by n2, 1 claims, 4000 us
            7 from n2 outcome 19 r
                n2 <- settled 19
                n2 <- claim 22 one('x) within 4994 ms, hints n1
                reply 11: r by n2, 1 claims, 6000 us
            8 from n2 outcome 20 r
                n2 <- settled 20
                n2 <- claim 23 one('x) within 4993 ms, hints n1
                reply 21: r by n2, 1 claims, 6000 us
        "#]],
    );
}

#[test]
fn schedulers_take_turns_at_an_executor_and_a_full_one_takes_who_has_less_than_its_share() {
    check(
        &with(
            ALONE,
            ". 0 up n2
            . 0 up n3
            . 0 from n2 claim 1 5000 one 'x
            . 0 loaded work/1 f
            . 0 fetched work/1 100
            . 0 from n2 claim 2 5000 one 'x
            . 0 from n2 claim 3 5000 one 'x
            0 from n2 claim 4 5000 one 'x
            1 from n3 claim 1 5000 one 'x
            2 from n3 claim 2 5000 one 'x
            3 exited work/1 result
            4 from n2 claim 5 5000 one 'x
            5 exited work/4 result
            6 exited work/2 result",
        ),
        expect![[r#"
            0 from n2 claim 4 5000 one 'x
                n2 <- nack 4 busy 30 ms
            1 from n3 claim 1 5000 one 'x
                n3 <- grant 1
            2 from n3 claim 2 5000 one 'x
                n3 <- nack 2 busy 40 ms
            3 exited work/1 result
                n2 <- outcome 1 result
                sign result as key for work/1
                start one('x) for work/4, of n3
            4 from n2 claim 5 5000 one 'x
                n2 <- nack 5 busy 29 ms
            5 exited work/4 result
                n3 <- outcome 1 result
                sign result as key for work/4
                start one('x) for work/2, of n2
            6 exited work/2 result
                n2 <- outcome 2 result
                sign result as key for work/2
                start one('x) for work/3, of n2
        "#]],
    );
}

#[test]
fn work_whose_deadline_passed_does_not_start_even_if_the_tick_is_late() {
    check(
        &with(
            ALONE,
            ". 0 up n2
            . 0 from n2 claim 1 5000 one 'x
            . 0 loaded work/1 f
            . 0 fetched work/1 100
            0 from n2 claim 2 50 one 'y
            0 from n2 claim 3 100 one 'z
            70 exited work/1 result
            80 from n2 claim 4 50 one a
            140 fetched work/4 1000000
            150 exited work/3 result",
        ),
        expect![[r#"
            0 from n2 claim 2 50 one 'y
                n2 <- grant 2
            0 from n2 claim 3 100 one 'z
                n2 <- grant 3
            70 exited work/1 result
                n2 <- outcome 1 result
                sign result as key for work/1
                n2 <- outcome 2 DeadlineExceeded: the deadline passed while waiting for a slot
                start one('z) for work/3, of n2
            80 from n2 claim 4 50 one a
                n2 <- grant 4
                fetch a and all below for work/4, perhaps from n2
            140 fetched work/4 1000000
                n2 <- outcome 4 DeadlineExceeded: the deadline passed while waiting for a slot
            150 exited work/3 result
                n2 <- outcome 3 result
                sign result as key for work/3
        "#]],
    );
}

#[test]
fn a_run_that_was_taken_over_and_stopped_at_the_first_ones_deadline_is_run_again() {
    check(
        &with(
            PEERS,
            "memo on
            0 submit 7 100 one 'x
            . 0 loaded call/1 f
            0 recalled call/1 k
            1 submit 8 60000 one 'x
            . 1 loaded call/3 f
            1 recalled call/3 k
            2 cancel 7
            100 from n2 outcome 2 !late",
        ),
        expect![[r#"
            0 submit 7 100 one 'x
                load f for call/1
            0 recalled call/1 k
                n2 <- claim 2 one('x) within 100 ms, hints n1, earlier results do
            1 submit 8 60000 one 'x
                load f for call/3
            1 recalled call/3 k
            2 cancel 7
                reply 7: Cancelled: cancelled
            100 from n2 outcome 2 !late
                n2 <- settled 2
                n3 <- claim 4 one('x) within 59901 ms, hints n1, earlier results do
        "#]],
    );
}

#[test]
fn what_waits_fetches_or_is_being_located_stops_when_it_is_taken_back() {
    check(
        &with(
            PEERS,
            "0 submit 7 5000 one a
            0 loaded call/1 f
            1 have call/1 0
            2 cancel 7
            3 from n2 held 2 1
            4 from n2 claim 1 5000 one a
            5 from n2 claim 2 5000 one b
            . 6 loaded work/1 f
            7 from n2 cancel 1
            8 from n2 cancel 2
            9 from n2 claim 3 5000 one c
            10 gone n2",
        ),
        expect![[r#"
            0 submit 7 5000 one a
                load f for call/1
            0 loaded call/1 f
                have a? for call/1
            1 have call/1 0
                n2 <- holds 2 a
                n3 <- holds 3 a
            2 cancel 7
                reply 7: Cancelled: cancelled
            3 from n2 held 2 1
            4 from n2 claim 1 5000 one a
                n2 <- grant 1
                load f for work/1
            5 from n2 claim 2 5000 one b
                n2 <- grant 2
                load f for work/2
            7 from n2 cancel 1
                stop work/1
            8 from n2 cancel 2
                stop work/2
            9 from n2 claim 3 5000 one c
                n2 <- grant 3
                fetch c code and all below for work/3, perhaps from n2
            10 gone n2
                stop work/3
        "#]],
    );
}

#[test]
fn a_refusal_says_when_what_waits_should_be_done() {
    let mut script =
        [PEERS, "runs 8000 0 0\n . 0 submit 1 9000 one 'a\n . 0 loaded call/1 f\n . 0 from n2 outcome 2 r\n"].concat();
    for request in 0..1024 {
        script.push_str(&format!(". 0 submit {} 5000 one 'x\n", 10 + request));
    }
    // Two slots, 1024 calls of 8 ms; another client still has its share.
    script.push_str("0 submit 2 5000 one 'x\n client 2\n 0 submit 3 5000 one 'x");
    check(
        &script,
        expect![[r#"
        0 submit 2 5000 one 'x
            reply 2: Overloaded: all executors and the queue are full, again in 4096 ms
        0 submit 3 5000 one 'x
            load f for call/1027
    "#]],
    );
}

#[test]
fn jobs_and_callers_take_turns() {
    check(
        &[
            PEERS,
            ". 0 gone n3
            . 0 job 1 60000 16
            . 0 loaded job/1 f
            . 0 listed job/1 a b c d e f
            . 0 from n2 held J+1 111111
            client 1
            . 1 submit 20 60000 one 'x
            . 1 submit 21 60000 one 'y
            1 loaded call/7 f
            1 loaded call/8 f
            2 from n2 outcome 2 r
            3 from n2 outcome 4 r
            4 from n2 outcome 6 r
            5 from n2 outcome 9 r",
        ]
        .concat(),
        expect![[r#"
            1 loaded call/7 f
            1 loaded call/8 f
            2 from n2 outcome 2 r
                n2 <- settled 2
                n2 <- claim 9 one('x) within 59999 ms, hints n1
            3 from n2 outcome 4 r
                n2 <- settled 4
                n2 <- claim 11 one(d) within 59997 ms, hints n1
            4 from n2 outcome 6 r
                n2 <- settled 6
                n2 <- claim 12 one('y) within 59997 ms, hints n1
            5 from n2 outcome 9 r
                n2 <- settled 9
                reply 20: r by n2, 1 claims, 4000 us
                n2 <- claim 14 one(e) within 59995 ms, hints n1
        "#]],
    );
}

#[test]
fn an_executor_that_does_not_answer_is_not_asked_by_every_call_in_turn() {
    check(
        &with(
            PEERS,
            ". 0 gone n3
            0 submit 7 60000 one 'x
            0 loaded call/1 f
            0 submit 8 60000 one 'y
            500 loaded call/3 f
            1000 tick
            1500 tick
            2000 tick
            3000 from n2 grant 2
            3500 tick",
        ),
        expect![[r#"
            0 submit 7 60000 one 'x
                load f for call/1
            0 loaded call/1 f
                n2 <- claim 2 one('x) within 60000 ms, hints n1
            0 submit 8 60000 one 'y
                load f for call/3
            500 loaded call/3 f
                n2 <- claim 4 one('y) within 59500 ms, hints n1
            1000 tick
                dial ? /join
                dial n3 /n3
                n2 <- cancel 2
                (next tick at 1500)
            1500 tick
                dial n3 /n3
                n2 <- cancel 4
                (next tick at 2000)
            2000 tick
                (next tick at 2500)
            3000 from n2 grant 2
            3500 tick
                dial n3 /n3
                n2 <- claim 5 one('x) within 56500 ms, hints n1
                n2 <- claim 6 one('y) within 56500 ms, hints n1
                (next tick at 5500)
        "#]],
    );
}
