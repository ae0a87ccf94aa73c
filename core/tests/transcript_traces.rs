//! What is told of calls that are traced, and who is asked what, as transcripts.
//!
//! Each test is a script, and what the node does line by line. `UPDATE_EXPECT=1` writes what the node does now; whether
//! that is right is for the reader to say.

mod script;

use expect_test::expect;
use script::{PEERS, check, with};

#[test]
fn a_call_tells_of_each_executor_that_was_asked_and_its_claim_carries_the_trace() {
    check(
        &with(
            PEERS,
            "traced
            . 0 submit 1 1000 one 'x
            1 loaded call/1 f
            2 from n2 nack 2 denied
            3 from n3 grant 3
            9 from n3 outcome 3 r",
        ),
        expect![[r#"
            1 loaded call/1 f
                n2 <- claim 2 one('x) within 999 ms, hints n1, traced
            2 from n2 nack 2 denied
                n3 <- claim 3 one('x) within 998 ms, hints n1, traced
            3 from n3 grant 3
            9 from n3 outcome 3 r
                n3 <- settled 3
                seen call 0 to 9000: n2 claimed 1000, n2 denied 2000, n3 claimed 2000, n3 granted 3000; by n3
                reply 1: r by n3, 2 claims, 9000 us
        "#]],
    );
}

#[test]
fn a_call_that_fails_tells_why() {
    check(
        &with(PEERS, "traced\n . 0 submit 1 1000 one 'x\n 1 loaded call/1 no:f"),
        expect![[r#"
        1 loaded call/1 no:f
            seen call 0 to 1000: ; NotFound
            reply 1: NotFound: f was not found; 1 peers were asked
    "#]],
    );
}

#[test]
fn work_tells_when_each_part_of_it_began() {
    check(
        "traced
        . 0 up n2
        0 from n2 claim 5 1000 one x
        1 loaded work/1 f
        3 fetched work/1 70
        9 exited work/1 r
        . 10 from n2 settled 5
        . 11 from n2 claim 6 1000 one x
        12 fetched work/2 no:x",
        expect![[r#"
            0 from n2 claim 5 1000 one x
                n2 <- grant 5
                load f for work/1
            1 loaded work/1 f
                fetch x code and all below for work/1, perhaps from n2
            3 fetched work/1 70
                start one(x) for work/1, of n2
            9 exited work/1 r
                seen work of n2 0 to 9000, fetching 1000, waiting 3000, started 3000, exited 9000; done
                n2 <- outcome 5 r
                sign r as key for work/1
            12 fetched work/2 no:x
                seen work of n2 11000 to 12000, fetching 11000; NotFound
                n2 <- outcome 6 NotFound: x was not found; 1 peers were asked
        "#]],
    );
}

#[test]
fn what_is_not_traced_is_not_told_of() {
    check(
        "0 from n2 claim 5 1000 one 'x
        1 loaded work/1 f
        3 fetched work/1 0
        9 exited work/1 r",
        expect![[r#"
            0 from n2 claim 5 1000 one 'x
                n2 <- grant 5
                load f for work/1
            1 loaded work/1 f
                fetch code and all below for work/1, perhaps from n2
            3 fetched work/1 0
                start one('x) for work/1, of n2
            9 exited work/1 r
                n2 <- outcome 5 r
                sign r as key for work/1
        "#]],
    );
}

#[test]
fn the_spans_of_a_trace_come_from_this_node_and_all_friends_and_strangers_are_told_nothing() {
    check(
        &with(
            PEERS,
            "0 inquire 1 spans
            1 informed inquiry/1 spans call
            2 from n3 inform I+1 spans fetch run
            3 from n2 inform I+1 unknown
            4 from n2 inform I+1 spans late
            5 inquire 2 spans
            6 informed inquiry/2 unknown
            7 from n2 inform I+2 log 0 wrong
            2100 tick
            2200 from n9 inquire 8 spans
            2201 from n2 inquire 9 spans
            2202 informed inform/n2/9 spans run",
        ),
        expect![[r#"
            0 inquire 1 spans
                inquire spans of 7 for inquiry/1
            1 informed inquiry/1 spans call
                n2 <- inquire I+1 spans of 7
                n3 <- inquire I+1 spans of 7
            2 from n3 inform I+1 spans fetch run
            3 from n2 inform I+1 unknown
                informed 1: n1: call, n3: fetch run
            4 from n2 inform I+1 spans late
            5 inquire 2 spans
                inquire spans of 7 for inquiry/2
            6 informed inquiry/2 unknown
                n2 <- inquire I+2 spans of 7
                n3 <- inquire I+2 spans of 7
            7 from n2 inform I+2 log 0 wrong
            2100 tick
                dial ? /join
                informed 2: 
            2200 from n9 inquire 8 spans
                n9 <- inform 8 unknown
            2201 from n2 inquire 9 spans
                inquire spans of 7 for inform/n2/9
            2202 informed inform/n2/9 spans run
                n2 <- inform 9 run
        "#]],
    );
}

#[test]
fn a_log_is_with_one_node_and_its_answer_ends_the_inquiry() {
    check(
        &with(
            PEERS,
            "0 inquire 1 log 0
            1 informed inquiry/1 unknown
            2 from n3 inform I+1 log 0 said
            . 3 inquire 2 log 4
            4 informed inquiry/2 log 4 more
            . 5 inquire 3 log 9
            . 6 informed inquiry/3 unknown
            7 gone n2
            8 gone n3",
        ),
        expect![[r#"
            0 inquire 1 log 0
                inquire log of 1 from 0 for inquiry/1
            1 informed inquiry/1 unknown
                n2 <- inquire I+1 log of 1 from 0
                n3 <- inquire I+1 log of 1 from 0
            2 from n3 inform I+1 log 0 said
                informed 1: n3: log from 0 said
            4 informed inquiry/2 log 4 more
                informed 2: n1: log from 4 more
            7 gone n2
            8 gone n3
                informed 3: 
        "#]],
    );
}
