//! Where a call would run, as transcripts: the ranking that is told is the one by which calls are placed.

mod script;

use expect_test::expect;
use script::{PEERS, check, with};

#[test]
fn where_tells_what_a_call_would_do_and_leaves_nothing_behind() {
    check(
        &with(
            PEERS,
            ". 0 advert n4 n4 s 0
            . 0 up n4
            . 0 advert n5 n5 x 1
            0 where 7 5000 -
            1 loaded call/1 f
            2 submit 8 5000 one 'x
            3 loaded call/2 f
            4 tick",
        ),
        expect![[r#"
            0 where 7 5000 -
                load f for call/1
            1 loaded call/1 f
                ranked 7:
                    n2 at 1000 us, 0 ahead, 0 bytes missing
                    n3 at 2000 us, 0 ahead, 0 bytes missing
                    not n4: NoExecutor
                    not n5: OutOfReach
            2 submit 8 5000 one 'x
                load f for call/2
            3 loaded call/2 f
                n2 <- claim 3 one('x) within 4999 ms, hints n1
            4 tick
                dial ? /join
                dial n5 /n5
                (next tick at 504)
        "#]],
    );
}

#[test]
fn where_asks_who_holds_the_arguments_and_ranks_by_it() {
    check(
        &with(
            PEERS,
            "0 where 7 5000 one a
            1 loaded call/1 f
            2 have call/1 0
            4 from n2 held 2 0
            5 from n3 held 3 1",
        ),
        expect![[r#"
            0 where 7 5000 one a
                load f for call/1
            1 loaded call/1 f
                have a? for call/1
            2 have call/1 0
                n2 <- holds 2 a
                n3 <- holds 3 a
            4 from n2 held 2 0
            5 from n3 held 3 1
                ranked 7:
                    n3 at 2000 us, 0 ahead, 0 bytes missing
                    n2 at 3621 us, 0 ahead, 262144 bytes missing
        "#]],
    );
}

#[test]
fn where_fails_as_a_call_does_and_may_be_taken_back() {
    check(
        &with(
            PEERS,
            "0 where 7 5000 -
            1 loaded call/1 no:f
            2 where 8 5000 three
            3 loaded call/2 f
            4 where 9 5000 -
            5 cancel 9",
        ),
        expect![[r#"
            0 where 7 5000 -
                load f for call/1
            1 loaded call/1 no:f
                ranked 7: NotFound: f was not found; 1 peers were asked
            2 where 8 5000 three
                load f for call/2
            3 loaded call/2 f
                ranked 8: BadArgument: argument 0: wanted an entry out of none, one, any, got "three"
            4 where 9 5000 -
                load f for call/3
            5 cancel 9
                stop call/3
                ranked 9: Cancelled: cancelled
        "#]],
    );
}

#[test]
fn who_has_too_little_memory_is_not_asked() {
    check(
        &with(
            PEERS,
            "0 where 7 5000 -
            1 loaded call/1 f 101
            2001 tick
            2002 submit 8 5000 one 'x
            2003 loaded call/2 f 101
            4003 tick",
        ),
        expect![[r#"
            0 where 7 5000 -
                load f for call/1
            1 loaded call/1 f 101
            2001 tick
                dial ? /join
                ranked 7:
                    not n2: Memory
                    not n3: Memory
            2002 submit 8 5000 one 'x
                load f for call/2
            2003 loaded call/2 f 101
            4003 tick
                reply 8: NoExecutor: no executor for engine wasm with 101 bytes of memory among 2 members
        "#]],
    );
}

#[test]
fn a_round_trip_that_was_measured_before_the_advert_came_counts() {
    check(
        &with(
            PEERS,
            ". 0 up n4
            . 0 rtt n4 500
            . 0 advert n4 n4 x 1
            0 where 7 5000 -
            1 loaded call/1 f",
        ),
        expect![[r#"
            0 where 7 5000 -
                load f for call/1
            1 loaded call/1 f
                ranked 7:
                    n4 at 500 us, 0 ahead, 0 bytes missing
                    n2 at 1000 us, 0 ahead, 0 bytes missing
                    n3 at 2000 us, 0 ahead, 0 bytes missing
        "#]],
    );
}
