//! What a node remembers, and how it spares work by it, as transcripts.
//!
//! Each test is a script, and what the node does line by line. `UPDATE_EXPECT=1` writes what the node does now; whether
//! that is right is for the reader to say.

mod script;

use expect_test::expect;
use script::{check, with};

/// n2, n3 and n4 run work in one slot each and keep receipts; n1 has not said what it is.
const STORES: &str = "
    . 0 advert n2 n2 xs 1
    . 0 up n2
    . 0 rtt n2 1000
    . 0 advert n3 n3 xs 1
    . 0 up n3
    . 0 rtt n3 2000
    memo on
";

#[test]
fn a_result_that_is_known_here_spares_the_call() {
    check(
        &with(
            STORES,
            "0 submit 7 1000 one x
            1 loaded call/1 f
            2 recalled call/1 k:r:n2",
        ),
        expect![[r#"
            0 submit 7 1000 one x
                load f for call/1
            1 loaded call/1 f
                recall one(x) for call/1
            2 recalled call/1 k:r:n2
                reply 7: r again by n2, 0 claims, 2000 us
        "#]],
    );
}

#[test]
fn what_a_stranger_says_what_failed_and_what_is_out_of_reach_does_not_count() {
    check(
        &with(
            STORES,
            "0 submit 7 1000 one x
            . 1 loaded call/1 f
            2 recalled call/1 k:r:n6
            3 submit 8 1000 one y
            . 4 loaded call/2 f
            5 recalled call/2 l:!:n2
            6 submit 9 1000 one z
            . 7 loaded call/3 f
            8 recalled call/3 m:r:n4",
        ),
        expect![[r#"
            0 submit 7 1000 one x
                load f for call/1
            2 recalled call/1 k:r:n6
                have x? for call/1
            3 submit 8 1000 one y
                load f for call/2
            5 recalled call/2 l:!:n2
                have y? for call/2
            6 submit 9 1000 one z
                load f for call/3
            8 recalled call/3 m:r:n4
                have z? for call/3
        "#]],
    );
}

#[test]
fn a_receipt_under_another_key_does_not_count() {
    check(
        &with(
            STORES,
            "0 submit 7 1000 one 'x
            . 1 loaded call/1 f
            2 recalled call/1 k:r:n2:l",
        ),
        expect![[r#"
            0 submit 7 1000 one 'x
                load f for call/1
            2 recalled call/1 k:r:n2:l
                n2 <- claim 2 one('x) within 998 ms, hints n1, earlier results do
        "#]],
    );
}

#[test]
fn who_wants_it_to_run_is_not_given_what_is_known_and_joins_nobody() {
    check(
        &with(
            STORES,
            "0 submit 7 1000 one 'x
            . 1 loaded call/1 f
            . 2 recalled call/1 k
            memo off
            3 submit 8 1000 one 'x
            4 loaded call/3 f
            5 from n3 outcome 4 r",
        ),
        expect![[r#"
            0 submit 7 1000 one 'x
                load f for call/1
            3 submit 8 1000 one 'x
                load f for call/3
            4 loaded call/3 f
                n3 <- claim 4 one('x) within 999 ms, hints n1
            5 from n3 outcome 4 r
                n3 <- settled 4
                reply 8: r by n3, 1 claims, 2000 us
        "#]],
    );
}

#[test]
fn equal_calls_run_once_and_each_has_its_answer() {
    check(
        &with(
            STORES,
            "0 submit 7 1000 one 'x
            . 1 loaded call/1 f
            2 recalled call/1 k
            3 submit 8 500 one 'x
            . 4 loaded call/3 f
            5 recalled call/3 k
            6 submit 9 500 one 'x
            . 7 loaded call/4 f
            8 recalled call/4 k
            9 cancel 8
            10 from n2 outcome 2 r",
        ),
        expect![[r#"
            0 submit 7 1000 one 'x
                load f for call/1
            2 recalled call/1 k
                n2 <- claim 2 one('x) within 998 ms, hints n1, earlier results do
            3 submit 8 500 one 'x
                load f for call/3
            5 recalled call/3 k
            6 submit 9 500 one 'x
                load f for call/4
            8 recalled call/4 k
            9 cancel 8
                reply 8: Cancelled: cancelled
            10 from n2 outcome 2 r
                n2 <- settled 2
                reply 9: r again by n2, 0 claims, 4000 us
                reply 7: r by n2, 1 claims, 10000 us
        "#]],
    );
}

#[test]
fn what_runs_goes_on_for_the_others_when_the_first_is_taken_back_and_stops_with_the_last() {
    check(
        &with(
            STORES,
            "0 submit 7 1000 one 'x
            . 1 loaded call/1 f
            2 recalled call/1 k
            . 3 submit 8 500 one 'x
            . 4 loaded call/3 f
            5 recalled call/3 k
            . 6 submit 9 500 one 'x
            . 7 loaded call/4 f
            8 recalled call/4 k
            9 cancel 7
            9 cancel 9
            10 from n2 outcome 2 r
            11 submit 10 1000 one 'x
            . 11 loaded call/5 f
            12 recalled call/5 k
            . 13 submit 11 1000 one 'x
            . 13 loaded call/7 f
            14 recalled call/7 k
            15 cancel 10
            16 cancel 11",
        ),
        expect![[r#"
            0 submit 7 1000 one 'x
                load f for call/1
            2 recalled call/1 k
                n2 <- claim 2 one('x) within 998 ms, hints n1, earlier results do
            5 recalled call/3 k
            8 recalled call/4 k
            9 cancel 7
                reply 7: Cancelled: cancelled
            9 cancel 9
                reply 9: Cancelled: cancelled
            10 from n2 outcome 2 r
                n2 <- settled 2
                reply 8: r by n2, 1 claims, 7000 us
            11 submit 10 1000 one 'x
                load f for call/5
            12 recalled call/5 k
                n2 <- claim 6 one('x) within 999 ms, hints n1, earlier results do
            14 recalled call/7 k
            15 cancel 10
                reply 10: Cancelled: cancelled
            16 cancel 11
                n2 <- cancel 6
                reply 11: Cancelled: cancelled
        "#]],
    );
}

#[test]
fn a_deadline_is_its_callers_own_and_a_guests_failure_everybodys() {
    check(
        &with(
            STORES,
            "0 submit 7 100 one 'x
            . 1 loaded call/1 f
            2 recalled call/1 k
            . 3 submit 8 500 one 'x
            . 4 loaded call/3 f
            5 recalled call/3 k
            . 6 submit 9 500 one 'x
            . 7 loaded call/4 f
            8 recalled call/4 k
            100 tick
            100 tick
            120 from n2 outcome 5 !guest",
        ),
        expect![[r#"
            0 submit 7 100 one 'x
                load f for call/1
            2 recalled call/1 k
                n2 <- claim 2 one('x) within 98 ms, hints n1, earlier results do
            5 recalled call/3 k
            8 recalled call/4 k
            100 tick
                dial ? /join
                n2 <- cancel 2
                n2 <- claim 5 one('x) within 403 ms, hints n1, earlier results do
                reply 7: DeadlineExceeded: the deadline passed while claiming n2
                (next tick at 503)
            100 tick
                (next tick at 503)
            120 from n2 outcome 5 !guest
                n2 <- settled 5
                reply 9: FunctionFailed: the function failed with exit code 1: oops
                reply 8: FunctionFailed: the function failed with exit code 1: oops
        "#]],
    );
}

#[test]
fn an_executor_answers_with_its_own_earlier_result_and_with_nobody_elses() {
    check(
        &with(
            STORES,
            "0 from n2 claim 5 1000 one 'x
            1 loaded work/1 f
            2 recalled work/1 k:r:n1
            3 from n3 claim 6 1000 one 'y
            4 recalled work/2 l:r:n2
            . 5 from n2 settled 5
            6 from n2 jobclaim 7 1000 one 'x
            7 recalled work/3 k:r:n1",
        ),
        expect![[r#"
            0 from n2 claim 5 1000 one 'x
                n2 <- grant 5
                load f for work/1
            1 loaded work/1 f
                recall one('x) for work/1
            2 recalled work/1 k:r:n1
                n2 <- outcome 5 r
            3 from n3 claim 6 1000 one 'y
                n3 <- grant 6
                recall one('y) for work/2
            4 recalled work/2 l:r:n2
                fetch code and all below for work/2, perhaps from n3
            6 from n2 jobclaim 7 1000 one 'x
                n2 <- grant 7
                recall one('x) for work/3
            7 recalled work/3 k:r:n1
                n2 <- 1 receipts to 0
                n3 <- 1 receipts to 0
                n2 <- outcome 7 r
        "#]],
    );
}

#[test]
fn a_job_finds_results_here_and_at_the_winners_and_runs_the_rest_near_its_data() {
    check(
        &with(
            STORES,
            ". 0 job 7 60000 4
            . 1 loaded job/1 f
            . 2 listed job/1 a b c
            . 4 from n2 held 4611686018427387905 001
            5 from n3 held 4611686018427387906 110
            6 recalled jobmemo/1 ka:ra:n2 kb kc
            7 from n4 receipts J+1 kb:bad:n3
            8 from n6 receipts J+1 kb:bad:n3
            9 from n2 receipts J+1 kb:bad:n6
            10 from n3 receipts J+1 kb:rb:n3
            20 from n2 outcome 2 rc
            21 recalled jobmemo/2 ks
            22 from n2 receipts J+2
            23 from n3 receipts J+2 ks:sum:n3",
        ),
        expect![[r#"
            5 from n3 held 4611686018427387906 110
                recall one(a) one(b) one(c) for jobmemo/1
            6 recalled jobmemo/1 ka:ra:n2 kb kc
                n2 <- recall J+1 kb kc
                n3 <- recall J+1 kb kc
            7 from n4 receipts J+1 kb:bad:n3
            8 from n6 receipts J+1 kb:bad:n3
            9 from n2 receipts J+1 kb:bad:n6
            10 from n3 receipts J+1 kb:rb:n3
                n2 <- claim 2 one(c) within 59990 ms, hints n1, earlier results do
            20 from n2 outcome 2 rc
                n2 <- settled 2
                recall any(ra rb rc) for jobmemo/2
            21 recalled jobmemo/2 ks
                n2 <- recall J+2 ks
                n3 <- recall J+2 ks
            22 from n2 receipts J+2
            23 from n3 receipts J+2 ks:sum:n3
                progress 7: 4 of 4
                job 7: sum; n2 ran 1, 3 reused
        "#]],
    );
}

#[test]
fn a_silent_winner_costs_a_second_and_one_that_leaves_nothing() {
    check(
        &with(
            STORES,
            ". 0 job 7 60000 4
            . 1 loaded job/1 f
            . 2 listed job/1 a
            . 4 from n2 held 4611686018427387905 1
            . 5 from n3 held 4611686018427387906 0
            6 recalled jobmemo/1 ka
            7 gone n3
            . 8 tick
            1006 tick
            1010 from n2 receipts J+1 ka:ra:n2",
        ),
        expect![[r#"
            6 recalled jobmemo/1 ka
                n2 <- recall J+1 ka
                n3 <- recall J+1 ka
            7 gone n3
            1006 tick
                dial n3 /n3
                progress 7: 0 of 2
                n2 <- claim 2 one(a) within 58994 ms, hints n1, earlier results do
                (next tick at 2006)
            1010 from n2 receipts J+1 ka:ra:n2
        "#]],
    );
}

#[test]
fn what_was_lost_is_not_remembered_but_run_again() {
    check(
        &with(
            STORES,
            ". 0 job 7 60000 4
            . 1 loaded job/1 f
            . 2 listed job/1 a
            . 4 from n2 held 4611686018427387905 1
            . 5 from n3 held 4611686018427387906 0
            6 recalled jobmemo/1 ka:ra:n3
            7 recalled jobmemo/2 ks
            . 8 from n2 receipts J+2
            9 from n3 receipts J+2
            20 from n3 outcome 2 no:ra
            30 from n2 outcome 4 ra
            31 recalled jobmemo/3 ks
            32 from n2 receipts J+3
            33 from n3 receipts J+3",
        ),
        expect![[r#"
            6 recalled jobmemo/1 ka:ra:n3
                recall any(ra) for jobmemo/2
            7 recalled jobmemo/2 ks
                n2 <- recall J+2 ks
                n3 <- recall J+2 ks
            9 from n3 receipts J+2
                n3 <- claim 2 any(ra) within 59991 ms, hints n1, earlier results do
            20 from n3 outcome 2 no:ra
                n3 <- settled 2
                n2 <- claim 4 one(a) within 59980 ms, hints n1
            30 from n2 outcome 4 ra
                n2 <- settled 4
                recall any(ra) for jobmemo/3
            31 recalled jobmemo/3 ks
                n2 <- recall J+3 ks
                n3 <- recall J+3 ks
            32 from n2 receipts J+3
            33 from n3 receipts J+3
                n2 <- claim 6 any(ra) within 59967 ms, hints n1, earlier results do
        "#]],
    );
}

#[test]
fn a_job_that_ends_forgets_its_look_ups() {
    check(
        &with(
            STORES,
            ". 0 job 7 60000 4
            . 1 loaded job/1 f
            . 2 listed job/1 a
            . 4 from n2 held 4611686018427387905 1
            . 5 from n3 held 4611686018427387906 0
            6 cancel 7
            7 recalled jobmemo/1 ka:ra:n3",
        ),
        expect![[r#"
            6 cancel 7
                job 7: Cancelled: cancelled
            7 recalled jobmemo/1 ka:ra:n3
        "#]],
    );
}

#[test]
fn what_is_not_pure_is_neither_looked_up_nor_remembered() {
    check(
        &with(
            STORES,
            "0 submit 7 1000 one 'x
            1 loaded call/1 f seeded
            2 from n2 jobclaim 5 1000 one 'x
            3 loaded work/1 f seeded
            . 4 fetched work/1 0
            5 exited work/1 r
            6 signed work/1 r once
            . 7 job 8 60000 4
            . 8 loaded job/1 f seeded
            . 9 listed job/1 a
            . 10 from n2 held 4611686018427387905 1
            11 from n3 held 4611686018427387906 0",
        ),
        expect![[r#"
            0 submit 7 1000 one 'x
                load f for call/1
            1 loaded call/1 f seeded
                n2 <- claim 2 one('x) within 999 ms, hints n1, earlier results do
            2 from n2 jobclaim 5 1000 one 'x
                n2 <- grant 5
                load f for work/1
            3 loaded work/1 f seeded
                fetch code and all below for work/1, perhaps from n2
            5 exited work/1 r
                n2 <- outcome 5 r
                sign r as no key for work/1
            6 signed work/1 r once
                remember r as no key by receipt
            11 from n3 held 4611686018427387906 0
                n2 <- claim 4 one(a) within 59996 ms, hints n1, earlier results do
        "#]],
    );
}

#[test]
fn a_thousand_equal_calls_share_one_result_and_none_waits_on() {
    // The first takes the numbers 1 and, for its lease, 2.
    let mut script = String::from(". 0 submit 1 1000 one 'x\n. 0 loaded call/1 f\n. 0 recalled call/1 k\n");
    for request in 2..1000 {
        let call = request + 1;
        script += &format!(". 1 submit {request} 1000 one 'x\n. 1 loaded call/{call} f\n. 1 recalled call/{call} k\n");
    }
    script += ". 2 from n2 outcome 2 r\n3 cancel 2\n3 cancel 999\n4 submit 2000 1000 one 'x";
    check(
        &with(STORES, &script),
        expect![[r#"
        3 cancel 2
        3 cancel 999
        4 submit 2000 1000 one 'x
            load f for call/1001
    "#]],
    );
}
