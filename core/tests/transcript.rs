//! What a caller's node decides, as transcripts: claims, refusals, losses, deadlines.
//!
//! Each test is a script, and what the node does line by line. `UPDATE_EXPECT=1` writes what the node does now; whether
//! that is right is for the reader to say.

mod script;

use expect_test::expect;
use script::{ALONE, PEERS, check, with};

#[test]
fn a_call_on_ones_own_executor_takes_no_wire() {
    check(
        &with(
            ALONE,
            "0 submit 7 5000 one 'x
            1 loaded call/1 f
            2 loaded work/1 f
            3 fetched work/1 100
            9 exited work/1 result
            10 signed work/1 result
            11 submit 8 5000 one 'y
            12 loaded call/3 f
            20 exited work/2 other",
        ),
        expect![[r#"
            0 submit 7 5000 one 'x
                load f for call/1
            1 loaded call/1 f
                load f for work/1
            2 loaded work/1 f
                fetch code and all below for work/1, perhaps from n1
            3 fetched work/1 100
                start one('x) for work/1, of n1
            9 exited work/1 result
                sign result as key for work/1
                reply 7: result by n1, 1 claims, 9000 us
            10 signed work/1 result
                remember result as key by receipt
            11 submit 8 5000 one 'y
                load f for call/3
            12 loaded call/3 f
                start one('y) for work/2, of n1
            20 exited work/2 other
                sign other as key for work/2
                reply 8: other by n1, 1 claims, 9000 us
        "#]],
    );
}

#[test]
fn a_claim_is_granted_and_its_outcome_is_acknowledged() {
    check(
        &with(
            PEERS,
            "0 submit 7 5000 one 'x
            1 loaded call/1 f
            3 from n2 grant 2
            20 from n2 outcome 2 result
            30 from n2 outcome 2 result",
        ),
        expect![[r#"
            0 submit 7 5000 one 'x
                load f for call/1
            1 loaded call/1 f
                n2 <- claim 2 one('x) within 4999 ms, hints n1
            3 from n2 grant 2
            20 from n2 outcome 2 result
                n2 <- settled 2
                reply 7: result by n2, 1 claims, 20000 us
            30 from n2 outcome 2 result
                n2 <- settled 2
        "#]],
    );
}

#[test]
fn an_executor_is_asked_what_it_holds_and_the_holder_gets_the_work() {
    check(
        &with(
            PEERS,
            "0 submit 7 5000 one a
            1 loaded call/1 f
            2 have call/1 0
            4 from n2 held 2 0
            5 from n3 held 3 1",
        ),
        expect![[r#"
            0 submit 7 5000 one a
                load f for call/1
            1 loaded call/1 f
                have a? for call/1
            2 have call/1 0
                n2 <- holds 2 a
                n3 <- holds 3 a
            4 from n2 held 2 0
            5 from n3 held 3 1
                n3 <- claim 4 one(a) within 4995 ms, hints n1
        "#]],
    );
}

#[test]
fn silence_about_what_is_held_costs_a_fifth_of_a_second() {
    check(
        &with(
            PEERS,
            "0 submit 7 5000 one a
            1 loaded call/1 f
            2 have call/1 0
            4 from n2 held 2 0
            201 tick
            300 from n3 held 3 1",
        ),
        expect![[r#"
            0 submit 7 5000 one a
                load f for call/1
            1 loaded call/1 f
                have a? for call/1
            2 have call/1 0
                n2 <- holds 2 a
                n3 <- holds 3 a
            4 from n2 held 2 0
            201 tick
                dial ? /join
                n2 <- claim 4 one(a) within 4799 ms, hints n1
                (next tick at 1201)
            300 from n3 held 3 1
        "#]],
    );
}

#[test]
fn after_three_refusals_a_call_waits_for_a_rest() {
    check(
        &with(
            PEERS,
            "0 advert n4 n4 x 1
            . 0 up n4
            . 0 rtt n4 3000
            0 submit 7 5000 one 'x
            1 loaded call/1 f
            2 from n2 nack 2 40
            3 from n3 nack 3 40
            4 from n4 nack 4 40
            42 tick
            44 tick
            46 from n2 grant 5",
        ),
        expect![[r#"
            0 advert n4 n4 x 1
                n2 <- 1 adverts
                n3 <- 1 adverts
            0 submit 7 5000 one 'x
                load f for call/1
            1 loaded call/1 f
                n2 <- claim 2 one('x) within 4999 ms, hints n1
            2 from n2 nack 2 40
                n3 <- claim 3 one('x) within 4998 ms, hints n1
            3 from n3 nack 3 40
                n4 <- claim 4 one('x) within 4997 ms, hints n1
            4 from n4 nack 4 40
            42 tick
                dial ? /join
                (next tick at 43)
            44 tick
                n2 <- claim 5 one('x) within 4956 ms, hints n1
                (next tick at 1044)
            46 from n2 grant 5
        "#]],
    );
}

#[test]
fn a_refused_executor_is_not_asked_again_before_its_rest_is_over() {
    check(
        &with(
            PEERS,
            "0 submit 7 5000 one 'x
            0 submit 8 5000 one 'y
            1 loaded call/1 f
            2 from n2 nack 3 500
            3 loaded call/2 f
            4 from n3 outcome 4 result
            502 tick",
        ),
        expect![[r#"
            0 submit 7 5000 one 'x
                load f for call/1
            0 submit 8 5000 one 'y
                load f for call/2
            1 loaded call/1 f
                n2 <- claim 3 one('x) within 4999 ms, hints n1
            2 from n2 nack 3 500
                n3 <- claim 4 one('x) within 4998 ms, hints n1
            3 loaded call/2 f
                n3 <- claim 5 one('y) within 4997 ms, hints n1
            4 from n3 outcome 4 result
                n3 <- settled 4
                reply 7: result by n3, 2 claims, 4000 us
            502 tick
                dial ? /join
                (next tick at 1003)
        "#]],
    );
}

#[test]
fn who_is_denied_everywhere_is_told_so() {
    check(
        &with(
            PEERS,
            "0 submit 7 5000 one 'x
            1 loaded call/1 f
            2 from n2 nack 2 denied
            3 from n3 nack 3 denied",
        ),
        expect![[r#"
            0 submit 7 5000 one 'x
                load f for call/1
            1 loaded call/1 f
                n2 <- claim 2 one('x) within 4999 ms, hints n1
            2 from n2 nack 2 denied
                n3 <- claim 3 one('x) within 4998 ms, hints n1
            3 from n3 nack 3 denied
                reply 7: Denied: denied by the rule "n2 runs work of trusted keys only": trust in n1 is missing
        "#]],
    );
}

#[test]
fn who_suits_nobody_is_told_so() {
    check(
        &with(
            PEERS,
            "0 submit 7 5000 one 'x
            1 loaded call/1 f
            2 from n2 grant 2
            3 from n2 nack 2 unsuitable
            4 from n3 nack 3 unsuitable",
        ),
        expect![[r#"
            0 submit 7 5000 one 'x
                load f for call/1
            1 loaded call/1 f
                n2 <- claim 2 one('x) within 4999 ms, hints n1
            2 from n2 grant 2
            3 from n2 nack 2 unsuitable
                n3 <- claim 3 one('x) within 4997 ms, hints n1
            4 from n3 nack 3 unsuitable
                reply 7: NoExecutor: no executor for engine wasm among 2 members
        "#]],
    );
}

#[test]
fn a_lost_peer_is_replaced_at_once() {
    check(
        &with(
            PEERS,
            "0 submit 7 5000 one 'x
            1 loaded call/1 f
            2 from n2 grant 2
            50 gone n2
            60 from n3 outcome 3 result
            61 from n2 outcome 2 late",
        ),
        expect![[r#"
            0 submit 7 5000 one 'x
                load f for call/1
            1 loaded call/1 f
                n2 <- claim 2 one('x) within 4999 ms, hints n1
            2 from n2 grant 2
            50 gone n2
                n3 <- claim 3 one('x) within 4950 ms, hints n1
            60 from n3 outcome 3 result
                n3 <- settled 3
                reply 7: result by n3, 2 claims, 60000 us
            61 from n2 outcome 2 late
                n2 <- settled 2
        "#]],
    );
}

#[test]
fn a_claim_without_an_answer_is_taken_back_after_a_second() {
    check(
        &with(
            PEERS,
            "0 submit 7 5000 one 'x
            1 loaded call/1 f
            1001 tick
            1100 from n2 grant 2
            1200 from n3 outcome 3 result",
        ),
        expect![[r#"
            0 submit 7 5000 one 'x
                load f for call/1
            1 loaded call/1 f
                n2 <- claim 2 one('x) within 4999 ms, hints n1
            1001 tick
                dial ? /join
                n2 <- cancel 2
                n3 <- claim 3 one('x) within 3999 ms, hints n1
                (next tick at 3001)
            1100 from n2 grant 2
            1200 from n3 outcome 3 result
                n3 <- settled 3
                reply 7: result by n3, 2 claims, 1200000 us
        "#]],
    );
}

#[test]
fn a_lease_is_renewed_and_a_silent_one_is_given_up() {
    check(
        &with(
            PEERS,
            "0 submit 7 60000 one 'x
            1 loaded call/1 f
            2 from n2 grant 2
            5002 tick
            5003 from n2 grant 2
            10003 tick
            15003 tick
            20003 tick
            20004 from n3 grant 3
            25004 tick
            25005 from n3 unknown 3",
        ),
        expect![[r#"
            0 submit 7 60000 one 'x
                load f for call/1
            1 loaded call/1 f
                n2 <- claim 2 one('x) within 59999 ms, hints n1
            2 from n2 grant 2
            5002 tick
                dial ? /join
                n2 <- renew 2
                (next tick at 10002)
            5003 from n2 grant 2
            10003 tick
                n2 <- renew 2
                (next tick at 15003)
            15003 tick
                n2 <- renew 2
                (next tick at 20003)
            20003 tick
                n2 <- cancel 2
                n3 <- claim 3 one('x) within 39997 ms, hints n1
                (next tick at 22003)
            20004 from n3 grant 3
            25004 tick
                n3 <- renew 3
                (next tick at 30004)
            25005 from n3 unknown 3
        "#]],
    );
}

#[test]
fn a_deadline_ends_a_call_wherever_it_is() {
    check(
        &with(
            PEERS,
            "0 submit 7 100 one 'x
            1 loaded call/1 f
            2 from n2 grant 2
            100 tick
            101 from n2 outcome 2 late
            200 submit 8 100 one 'y
            300 tick",
        ),
        expect![[r#"
            0 submit 7 100 one 'x
                load f for call/1
            1 loaded call/1 f
                n2 <- claim 2 one('x) within 99 ms, hints n1
            2 from n2 grant 2
            100 tick
                dial ? /join
                n2 <- cancel 2
                reply 7: DeadlineExceeded: the deadline passed while running on n2
            101 from n2 outcome 2 late
                n2 <- settled 2
            200 submit 8 100 one 'y
                load f for call/3
            300 tick
                stop call/3
                reply 8: DeadlineExceeded: the deadline passed while loading the function
        "#]],
    );
}

#[test]
fn an_answer_after_the_deadline_and_before_the_tick_begins_nothing() {
    check(
        &with(
            PEERS,
            "0 submit 7 100 one 'x
            101 loaded call/1 f
            101 submit 8 100 one a
            102 loaded call/2 f
            250 have call/2 1",
        ),
        expect![[r#"
            0 submit 7 100 one 'x
                load f for call/1
            101 loaded call/1 f
                reply 7: DeadlineExceeded: the deadline passed while waiting for an executor
            101 submit 8 100 one a
                load f for call/2
            102 loaded call/2 f
                have a? for call/2
            250 have call/2 1
                reply 8: DeadlineExceeded: the deadline passed while waiting for an executor
        "#]],
    );
}

#[test]
fn a_call_that_is_taken_back_is_stopped_where_it_runs() {
    check(
        &with(
            PEERS,
            "0 submit 7 5000 one 'x
            1 loaded call/1 f
            2 from n2 grant 2
            3 cancel 7
            4 cancel 7
            5 from n2 outcome 2 late",
        ),
        expect![[r#"
            0 submit 7 5000 one 'x
                load f for call/1
            1 loaded call/1 f
                n2 <- claim 2 one('x) within 4999 ms, hints n1
            2 from n2 grant 2
            3 cancel 7
                n2 <- cancel 2
                reply 7: Cancelled: cancelled
            4 cancel 7
            5 from n2 outcome 2 late
                n2 <- settled 2
        "#]],
    );
}

#[test]
fn an_unknown_function_and_a_wrong_call_fail_before_anybody_is_asked() {
    check(
        &with(
            PEERS,
            "0 submit 7 5000 one 'x
            1 loaded call/1 no:f
            2 submit 8 5000 one 'x 'y
            3 loaded call/2 f
            4 submit 9 5000 nine 'x
            5 loaded call/3 f",
        ),
        expect![[r#"
            0 submit 7 5000 one 'x
                load f for call/1
            1 loaded call/1 no:f
                reply 7: NotFound: f was not found; 1 peers were asked
            2 submit 8 5000 one 'x 'y
                load f for call/2
            3 loaded call/2 f
                reply 8: BadArgument: argument 1: wanted 1 argument, got 2
            4 submit 9 5000 nine 'x
                load f for call/3
            5 loaded call/3 f
                reply 9: BadArgument: argument 0: wanted an entry out of none, one, any, got "nine"
        "#]],
    );
}

#[test]
fn a_nodes_fault_is_tried_elsewhere_and_a_guests_is_not() {
    check(
        &with(
            PEERS,
            "0 submit 7 5000 one 'x
            1 loaded call/1 f
            2 from n2 outcome 2 !disk
            3 from n3 outcome 3 !guest",
        ),
        expect![[r#"
            0 submit 7 5000 one 'x
                load f for call/1
            1 loaded call/1 f
                n2 <- claim 2 one('x) within 4999 ms, hints n1
            2 from n2 outcome 2 !disk
                n2 <- settled 2
                n3 <- claim 3 one('x) within 4998 ms, hints n1
            3 from n3 outcome 3 !guest
                n3 <- settled 3
                reply 7: FunctionFailed: the function failed with exit code 1: oops
        "#]],
    );
}

#[test]
fn a_young_node_waits_two_seconds_for_its_first_executor() {
    check(
        "0 submit 7 5000 one 'x
         1 loaded call/1 f
         2000 tick
         3000 submit 8 5000 one 'x
         3001 loaded call/2 f
         3500 advert n2 n2 x 1
         3501 up n2",
        expect![[r#"
            0 submit 7 5000 one 'x
                load f for call/1
            1 loaded call/1 f
            2000 tick
                dial ? /join
                reply 7: NoExecutor: no executor for engine wasm among 0 members
                (next tick at 2500)
            3000 submit 8 5000 one 'x
                load f for call/2
            3001 loaded call/2 f
            3500 advert n2 n2 x 1
            3501 up n2
                n2 <- 1 adverts
                n2 <- claim 3 one('x) within 4499 ms, hints n1
        "#]],
    );
}

#[test]
fn a_vast_time_and_a_vast_advert_overflow_nothing() {
    check(
        "0 advert n2 n2 x 4294967295
         0 up n2
         0 submit 7 18446744073709551615 one 'x
         1 loaded call/1 f
         2 from n2 nack 2 18446744073709551615
         1002 tick",
        expect![[r#"
            0 advert n2 n2 x 4294967295
            0 up n2
                n2 <- 1 adverts
            0 submit 7 18446744073709551615 one 'x
                load f for call/1
            1 loaded call/1 f
                n2 <- claim 2 one('x) within 18446744073709550 ms, hints n1
            2 from n2 nack 2 18446744073709551615
            1002 tick
                dial ? /join
                n2 <- claim 3 one('x) within 18446744073708549 ms, hints n1
                (next tick at 2002)
        "#]],
    );
}

#[test]
fn the_queue_has_an_end_and_says_so() {
    let mut script = String::new();
    for request in 1..=1024 {
        script.push_str(&format!(". 0 submit {request} 5000 one 'x\n"));
    }
    script.push_str("0 submit 1025 5000 one 'x\n 1 cancel 1\n 2 submit 1026 5000 one 'x");
    check(
        &script,
        expect![[r#"
            0 submit 1025 5000 one 'x
                reply 1025: Overloaded: all executors and the queue are full, again in 5120 ms
            1 cancel 1
                stop call/1
                reply 1: Cancelled: cancelled
            2 submit 1026 5000 one 'x
                load f for call/1025
        "#]],
    );
}
