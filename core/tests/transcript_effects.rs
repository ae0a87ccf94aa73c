//! Runs with effects, as transcripts: noted before they begin and before their end is told, and at most once.
//!
//! Each test is a script, and what the node does line by line. `UPDATE_EXPECT=1` writes what the node does now; whether
//! that is right is for the reader to say.

mod script;

use expect_test::expect;
use script::{ALONE, PEERS, check, with};

#[test]
fn a_run_with_effects_is_noted_before_it_begins_and_before_its_end_is_told() {
    check(
        &with(
            ALONE,
            "0 from n2 claim 1 5000 one 'x
            1 loaded work/1 f effects
            2 identified work/1 t
            3 fetched work/1 0
            4 persisted work/1
            5 exited work/1 r
            6 signed work/1 result
            7 persisted work/1
            8 from n2 settled 1
            9 from n2 claim 2 5000 one 'x
            10 identified work/2 t",
        ),
        expect![[r#"
            0 from n2 claim 1 5000 one 'x
                n2 <- grant 1
                load f for work/1
            1 loaded work/1 f effects
                identify one('x) of n2 for work/1
            2 identified work/1 t
                fetch code and all below for work/1, perhaps from n2
            3 fetched work/1 0
                persist t begins, Disk for work/1
            4 persisted work/1
                start one('x) for work/1, of n2
            5 exited work/1 r
                sign now r as no key for work/1
            6 signed work/1 result
                persist t gave r, Disk for work/1
                remember result as key by receipt
            7 persisted work/1
                n2 <- outcome 1 r
            8 from n2 settled 1
            9 from n2 claim 2 5000 one 'x
                n2 <- grant 2
                identify one('x) of n2 for work/2
            10 identified work/2 t
                n2 <- outcome 2 r
        "#]],
    );
}

#[test]
fn a_run_with_effects_that_was_lost_is_not_run_again() {
    check(
        &with(
            ALONE,
            "0 restored begun:t:0
            1 from n2 claim 1 5000 one 'x
            2 loaded work/1 f effects
            3 identified work/1 t
            4 from n2 claim 2 5000 one 'y
            5 identified work/2 u
            6 fetched work/2 0
            7 persisted work/2
            8 exited work/2 !disk
            9 persisted work/2",
        ),
        expect![[r#"
            0 restored begun:t:0
            1 from n2 claim 1 5000 one 'x
                n2 <- grant 1
                load f for work/1
            2 loaded work/1 f effects
                identify one('x) of n2 for work/1
            3 identified work/1 t
                n2 <- outcome 1 MayHaveRun: the work may have run: an earlier run of this task began, and its end is not known
            4 from n2 claim 2 5000 one 'y
                n2 <- grant 2
                identify one('y) of n2 for work/2
            5 identified work/2 u
                fetch code and all below for work/2, perhaps from n2
            6 fetched work/2 0
                persist u begins, Disk for work/2
            7 persisted work/2
                start one('y) for work/2, of n2
            8 exited work/2 !disk
                persist u gave MayHaveRun: the work may have run: the disk is full, Disk for work/2
            9 persisted work/2
                n2 <- outcome 2 MayHaveRun: the work may have run: the disk is full
        "#]],
    );
}

#[test]
fn a_run_with_effects_that_never_began_may_begin_later() {
    check(
        &with(
            ALONE,
            "0 from n2 claim 1 5000 one 'x
            1 loaded work/1 f effects
            2 identified work/1 t
            3 from n2 claim 2 5000 one 'x
            4 identified work/2 t
            5 fetched work/1 0
            6 from n2 cancel 1
            7 persisted work/1
            8 from n2 claim 3 5000 one 'x
            9 identified work/3 t
            10 fetched work/3 0
            11 persisted work/3 !disk",
        ),
        expect![[r#"
            0 from n2 claim 1 5000 one 'x
                n2 <- grant 1
                load f for work/1
            1 loaded work/1 f effects
                identify one('x) of n2 for work/1
            2 identified work/1 t
                fetch code and all below for work/1, perhaps from n2
            3 from n2 claim 2 5000 one 'x
                n2 <- grant 2
                identify one('x) of n2 for work/2
            4 identified work/2 t
                n2 <- outcome 2 MayHaveRun: the work may have run: it is about to run for an earlier request
            5 fetched work/1 0
                persist t begins, Disk for work/1
            6 from n2 cancel 1
                persist t forgotten, Os
            7 persisted work/1
            8 from n2 claim 3 5000 one 'x
                n2 <- grant 3
                identify one('x) of n2 for work/3
            9 identified work/3 t
                persist t begins, Disk for work/3
            10 fetched work/3 0
            11 persisted work/3 !disk
                persist t forgotten, Os
                n2 <- outcome 3 NodeFailed: a node failed: the disk is full
        "#]],
    );
}

#[test]
fn a_call_with_effects_goes_to_one_executor_and_to_no_other_once_it_was_asked() {
    check(
        &with(
            PEERS,
            "0 submit 7 5000 one 'x
            1 loaded call/1 f effects
            2 from n2 nack 2 1
            3 from n3 grant 3
            4 gone n3
            5 submit 8 5000 one 'y
            6 loaded call/4 f effects
            7 from n2 outcome 5 !disk",
        ),
        expect![[r#"
            0 submit 7 5000 one 'x
                load f for call/1
            1 loaded call/1 f effects
                n2 <- claim 2 one('x) within 4999 ms, hints n1
            2 from n2 nack 2 1
                n3 <- claim 3 one('x) within 4998 ms, hints n1
            3 from n3 grant 3
            4 gone n3
                n3 <- cancel 3
                reply 7: MayHaveRun: the work may have run: a node failed: n3 went away
            5 submit 8 5000 one 'y
                load f for call/4
            6 loaded call/4 f effects
            7 from n2 outcome 5 !disk
                n2 <- settled 5
        "#]],
    );
}

#[test]
fn an_accepted_call_with_effects_is_not_begun_by_a_later_life() {
    check(
        &with(
            "0 restored open:h:60000",
            &with(
                PEERS,
                "1 loaded call/1 f effects
            2 persisted end/1
            3 ask 7 h",
            ),
        ),
        expect![[r#"
            0 restored open:h:60000
                load f for call/1
            1 loaded call/1 f effects
                seen call 0 to 1000: ; MayHaveRun
                persist h ended MayHaveRun: the work may have run: the node that had accepted it began again, Os for end/1
            2 persisted end/1
            3 ask 7 h
                works 7: h MayHaveRun: the work may have run: the node that had accepted it began again
        "#]],
    );
}
