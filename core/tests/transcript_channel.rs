//! What a node decides of members that only PubSub reaches, as transcripts: letters, acknowledgements, adverts, death.
//!
//! Each test is a script, and what the node does line by line. `UPDATE_EXPECT=1` writes what the node does now; whether
//! that is right is for the reader to say.

mod script;

use expect_test::expect;
use script::{check, with};

/// n1 cannot be dialled nor dial: n2, an executor, is heard on the members topic alone.
const FAR: &str = "
    . 0 tick
    . 0 aired n2 x 1
";

#[test]
fn a_call_goes_to_a_member_that_only_pubsub_reaches_and_each_letter_is_acknowledged() {
    check(
        &with(
            FAR,
            "0 submit 7 5000 one 'x
            1 loaded call/1 f
            9 letter n2 1>0 1 1 grant 2
            29 tick
            40 letter n2 1>0 2 - outcome 2 result
            45 letter n2 1>0 0 2",
        ),
        expect![[r#"
            0 submit 7 5000 one 'x
                load f for call/1
            1 loaded call/1 f
                tasks/n2 life 1 #1 claim 2 one('x) within 4999 ms, hints n1, inline
            9 letter n2 1>0 1 1 grant 2
            29 tick
                dial n2 /n2
                tasks/n2 life 1 #0, has [1]
                (next tick at 500)
            40 letter n2 1>0 2 - outcome 2 result
                tasks/n2 life 1 #2 settled 2, has [2]
                reply 7: result by n2, 1 claims, 40000 us
            45 letter n2 1>0 0 2
        "#]],
    );
}

#[test]
fn a_letter_goes_again_at_doubling_pauses_until_it_is_acknowledged() {
    check(
        &with(
            FAR,
            "0 submit 7 60000 one 'x
            1 loaded call/1 f
            251 tick
            751 tick
            760 letter n2 1>0 1 1 grant 2
            900 letter n2 1>0 1 1 grant 2
            920 tick",
        ),
        expect![[r#"
            0 submit 7 60000 one 'x
                load f for call/1
            1 loaded call/1 f
                tasks/n2 life 1 #1 claim 2 one('x) within 59999 ms, hints n1, inline
            251 tick
                dial n2 /n2
                tasks/n2 life 1 #1 claim 2 one('x) within 59999 ms, hints n1, inline
                (next tick at 500)
            751 tick
                dial ? /join
                dial n2 /n2
                tasks/n2 life 1 #1 claim 2 one('x) within 59999 ms, hints n1, inline
                (next tick at 1001)
            760 letter n2 1>0 1 1 grant 2
            900 letter n2 1>0 1 1 grant 2
            920 tick
                tasks/n2 life 1 #0, has [1]
                (next tick at 1751)
        "#]],
    );
}

#[test]
fn a_letter_that_comes_twice_is_acknowledged_twice_and_taken_once() {
    check(
        &with(
            FAR,
            "0 letter n2 1>0 5 - claim 9 1000 one 'x
            30 letter n2 1>0 5 - claim 9 1000 one 'x
            60 tick
            70 letter n2 1>0 0 1
            80 loaded work/1 f
            85 fetched work/1 0
            90 exited work/1 r
            95 signed work/1 r
            96 letter n2 1>0 6 2 settled 9
            120 tick",
        ),
        expect![[r#"
            0 letter n2 1>0 5 - claim 9 1000 one 'x
                replies/n2 life 1 #1 grant 9, has [5]
                load f for work/1
            30 letter n2 1>0 5 - claim 9 1000 one 'x
            60 tick
                dial n2 /n2
                replies/n2 life 1 #0, has [5]
                (next tick at 250)
            70 letter n2 1>0 0 1
            80 loaded work/1 f
                fetch code and all below for work/1, perhaps from n2
            85 fetched work/1 0
                start one('x) for work/1, of n2
            90 exited work/1 r
                replies/n2 life 1 #2 outcome 9 r
                sign r as key for work/1
            95 signed work/1 r
                remember r as key by receipt
            96 letter n2 1>0 6 2 settled 9
            120 tick
                replies/n2 life 1 #0, has [6]
                (next tick at 500)
        "#]],
    );
}

#[test]
fn what_was_meant_for_another_life_is_refused() {
    check(
        &with(
            FAR,
            "0 letter n2 1>3 5 - claim 9 1000 one 'x
            1 letter n2 2>0 1 - claim 9 1000 one 'x
            2 letter n2 1>0 6 - claim 8 1000 one 'x
            30 tick",
        ),
        expect![[r#"
            0 letter n2 1>3 5 - claim 9 1000 one 'x
            1 letter n2 2>0 1 - claim 9 1000 one 'x
                replies/n2 life 2 #1 grant 9, has [1]
                load f for work/1
            2 letter n2 1>0 6 - claim 8 1000 one 'x
            30 tick
                dial n2 /n2
                (next tick at 251)
        "#]],
    );
}

#[test]
fn a_silent_member_is_asked_no_more_and_the_call_says_who_did_not_answer() {
    check(
        &with(
            FAR,
            "0 submit 7 20000 one 'x
            1 loaded call/1 f
            251 tick
            751 tick
            1001 tick
            1751 tick
            3000 tick
            7000 tick",
        ),
        expect![[r#"
            0 submit 7 20000 one 'x
                load f for call/1
            1 loaded call/1 f
                tasks/n2 life 1 #1 claim 2 one('x) within 19999 ms, hints n1, inline
            251 tick
                dial n2 /n2
                tasks/n2 life 1 #1 claim 2 one('x) within 19999 ms, hints n1, inline
                (next tick at 500)
            751 tick
                dial ? /join
                dial n2 /n2
                tasks/n2 life 1 #1 claim 2 one('x) within 19999 ms, hints n1, inline
                (next tick at 1001)
            1001 tick
                tasks/n2 life 1 #2 cancel 2
                (next tick at 1251)
            1751 tick
                dial ? /join
                dial n2 /n2
                tasks/n2 life 1 #2 cancel 2
                (next tick at 2251)
            3000 tick
                tasks/n2 life 1 #2 cancel 2
                reply 7: NodeFailed: a node failed: n2 did not answer a claim
                (next tick at 3751)
            7000 tick
                dial ? /join
                dial n2 /n2
                tasks/n2 life 1 #2 cancel 2
                (next tick at 9000)
        "#]],
    );
}

#[test]
fn a_stream_is_taken_where_one_stands_and_pubsub_where_it_is_asked_for() {
    check(
        &with(
            FAR,
            ". 0 advert n3 n3 x 1
            . 0 up n3
            . 0 rtt n3 90000
            0 submit 7 5000 one 'x
            1 loaded call/1 f
            via pubsub
            2 submit 8 5000 one 'y
            . 3 gone n3
            4 loaded call/3 f",
        ),
        expect![[r#"
            0 submit 7 5000 one 'x
                load f for call/1
            1 loaded call/1 f
                n3 <- claim 2 one('x) within 4999 ms, hints n1
            2 submit 8 5000 one 'y
                load f for call/3
            4 loaded call/3 f
                tasks/n2 life 1 #2 claim 5 one('y) within 4998 ms, hints n1, inline
        "#]],
    );
}

#[test]
fn a_lease_is_talked_of_on_the_channel_on_which_it_was_claimed() {
    check(
        &with(
            "",
            ". 0 advert n2 n2 x 1
            . 0 up n2
            via pubsub
            0 submit 7 60000 one 'x
            1 loaded call/1 f
            9 letter n2 1>0 1 1 grant 2
            5009 tick
            5020 from n2 claim 9 1000 one 'y
            5030 letter n2 1>0 2 2 outcome 2 result",
        ),
        expect![[r#"
            0 submit 7 60000 one 'x
                load f for call/1
            1 loaded call/1 f
                tasks/n2 life 1 #1 claim 2 one('x) within 59999 ms, hints n1, inline
            9 letter n2 1>0 1 1 grant 2
            5009 tick
                dial ? /join
                tasks/n2 life 1 #0, has [1]
                tasks/n2 life 1 #2 renew 2
                (next tick at 5259)
            5020 from n2 claim 9 1000 one 'y
                n2 <- grant 9
                load f for work/1
            5030 letter n2 1>0 2 2 outcome 2 result
                tasks/n2 life 1 #3 settled 2, has [2]
                reply 7: result by n2, 1 claims, 5030000 us
        "#]],
    );
}

#[test]
fn a_member_that_dies_without_a_word_is_noticed_after_three_adverts_that_did_not_come() {
    check(
        &with(
            FAR,
            "100000 aired n2 x 2
            279000 tick
            279001 submit 7 9000 one 'x
            279002 loaded call/1 f
            279003 letter n2 1>0 1 1 grant 2
            . 279020 tick
            459003 tick
            459004 submit 8 9000 one 'x
            459005 loaded call/3 f
            461004 tick",
        ),
        expect![[r#"
            100000 aired n2 x 2
            279000 tick
                dial ? /join
                dial n2 /n2
                (next tick at 279500)
            279001 submit 7 9000 one 'x
                load f for call/1
            279002 loaded call/1 f
                tasks/n2 life 1 #1 claim 2 one('x) within 8999 ms, hints n1, inline
            279003 letter n2 1>0 1 1 grant 2
            459003 tick
                dial ? /join
                dial n2 /n2
                tasks/n2 life 1 #0, has [1]
                reply 7: DeadlineExceeded: the deadline passed while waiting for an executor
                (next tick at 460003)
            459004 submit 8 9000 one 'x
                load f for call/3
            459005 loaded call/3 f
            461004 tick
                dial ? /join
                dial n2 /n2
                reply 8: NoExecutor: no executor for engine wasm among 1 members
                (next tick at 463004)
        "#]],
    );
}

#[test]
fn who_leaves_or_begins_again_loses_its_leases_at_once() {
    check(
        &with(
            FAR,
            "0 submit 7 600000 one 'x
            . 1 loaded call/1 f
            . 9 letter n2 1>0 1 1 grant 2
            20 aired n2 x 1 2
            30 letter n2 2>0 1 - grant 3
            40 tick
            50 aired n2 left 2 2
            51 aired n2 x 1 2
            71 tick
            2000 tick",
        ),
        expect![[r#"
            0 submit 7 600000 one 'x
                load f for call/1
            20 aired n2 x 1 2
            30 letter n2 2>0 1 - grant 3
            40 tick
                dial n2 /n2
                tasks/n2 life 2 #2 claim 3 one('x) within 599960 ms, hints n1, inline, has [1]
                (next tick at 290)
            50 aired n2 left 2 2
            51 aired n2 x 1 2
            71 tick
                (next tick at 500)
            2000 tick
                dial ? /join
                dial n2 /n2
                reply 7: NodeFailed: a node failed: n2 went away
                (next tick at 3000)
        "#]],
    );
}

#[test]
fn a_newcomer_is_answered_soon_and_an_advert_played_again_keeps_nobody_alive() {
    check(
        "0 listening
        1 signed-advert
        2 aired n2 x 1
        6000 tick
        6001 signed-advert
        7000 aired n2 x 1
        100000 aired n2 x 1
        180002 tick
        180003 submit 7 1000 one 'x
        200000 leave",
        expect![[r#"
            0 listening
                sign advert 1 for /n1
            1 signed-advert
                announce
            2 aired n2 x 1
            6000 tick
                sign advert 2 for /n1
                dial ? /join
                dial n2 /n2
                (next tick at 6500)
            6001 signed-advert
                announce
            7000 aired n2 x 1
            100000 aired n2 x 1
            180002 tick
                sign advert 3 for /n1
                dial ? /join
                dial n2 /n2
                (next tick at 181002)
            180003 submit 7 1000 one 'x
                load f for call/1
            200000 leave
                sign advert 4 for 
        "#]],
    );
}

#[test]
fn a_result_comes_along_with_its_outcome_and_is_put_down_before_the_call_ends() {
    check(
        &with(
            FAR,
            "0 submit 7 5000 one 'x
            1 loaded call/1 f
            9 letter n2 1>0 1 1 grant 2
            40 letter n2 1>0 2 - packed outcome 2 result bytes
            41 from n2 outcome 2 result
            50 letter n2 1>0 3 - packed outcome 2 result bytes
            51 letter n2 1>0 4 - packed outcome 99 result bytes",
        ),
        expect![[r#"
            0 submit 7 5000 one 'x
                load f for call/1
            1 loaded call/1 f
                tasks/n2 life 1 #1 claim 2 one('x) within 4999 ms, hints n1, inline
            9 letter n2 1>0 1 1 grant 2
            40 letter n2 1>0 2 - packed outcome 2 result bytes
                unpack outcome 2 result of n2 along with "bytes"
            41 from n2 outcome 2 result
                tasks/n2 life 1 #2 settled 2, has [1, 2]
                reply 7: result by n2, 1 claims, 41000 us
            50 letter n2 1>0 3 - packed outcome 2 result bytes
                tasks/n2 life 1 #3 settled 2, has [3]
            51 letter n2 1>0 4 - packed outcome 99 result bytes
                tasks/n2 life 1 #4 settled 99, has [4]
        "#]],
    );
}

#[test]
fn an_executor_reads_the_result_for_whoever_wants_it_along_and_again_when_it_is_asked_again() {
    check(
        &with(
            FAR,
            "0 letter n2 1>0 5 - inline claim 9 1000 one 'x
            10 loaded work/1 f
            11 fetched work/1 0
            12 exited work/1 r
            13 read work/1 bytes
            20 letter n2 1>0 6 2 renew 9
            21 read work/1
            30 letter n2 1>0 7 3 settled 9
            31 read work/1 bytes",
        ),
        expect![[r#"
            0 letter n2 1>0 5 - inline claim 9 1000 one 'x
                replies/n2 life 1 #1 grant 9, has [5]
                load f for work/1
            10 loaded work/1 f
                fetch code and all below for work/1, perhaps from n2
            11 fetched work/1 0
                start one('x) for work/1, of n2
            12 exited work/1 r
                read r for work/1
                sign r as key for work/1
            13 read work/1 bytes
                replies/n2 life 1 #2 outcome 9 r along with "bytes"
            20 letter n2 1>0 6 2 renew 9
                read r for work/1
            21 read work/1
                replies/n2 life 1 #3 outcome 9 r, has [6]
            30 letter n2 1>0 7 3 settled 9
            31 read work/1 bytes
        "#]],
    );
}

#[test]
fn the_tasks_of_a_job_go_by_pubsub_where_no_stream_reaches_an_executor() {
    let script = "0 job 7 60000 2
        1 loaded job/1 f
        2 listed job/1 x
        3 tick
        4 letter n2 1>0 1 1 grant 2
        5 letter n2 1>0 2 - packed outcome 2 mapped bytes
        6 from n2 outcome 2 mapped";
    check(
        &with(FAR, script),
        expect![[r#"
        0 job 7 60000 2
            load f for job/1
        1 loaded job/1 f
            list data for job/1
        2 listed job/1 x
            tasks/n2 life 1 #1 claim 2 one(x) within 59998 ms, hints n1, inline
        3 tick
            dial n2 /n2
            (next tick at 252)
        4 letter n2 1>0 1 1 grant 2
        5 letter n2 1>0 2 - packed outcome 2 mapped bytes
            unpack outcome 2 mapped of n2 along with "bytes"
        6 from n2 outcome 2 mapped
            tasks/n2 life 1 #2 settled 2, has [1, 2]
            tasks/n2 life 1 #3 claim 4 any(mapped) within 59994 ms, hints n1, inline
    "#]],
    );
    // Whom a stream reaches is given them, as content can be fetched from there.
    let script = "0 advert n3 n3 x 1
        0 up n3
        0 job 7 60000 2
        1 loaded job/1 f
        2 listed job/1 x
        3 from n3 held J+1 1";
    check(
        &with(FAR, script),
        expect![[r#"
        0 advert n3 n3 x 1
        0 up n3
            n3 <- 2 adverts
        0 job 7 60000 2
            load f for job/1
        1 loaded job/1 f
            list data for job/1
        2 listed job/1 x
            n3 <- holds J+1 x
        3 from n3 held J+1 1
            n3 <- claim 2 one(x) within 59997 ms, hints n1
    "#]],
    );
}
