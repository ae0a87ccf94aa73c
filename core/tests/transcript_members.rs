//! Who is a member, and who hears of whom, as transcripts.
//!
//! Each test is a script, and what the node does line by line. `UPDATE_EXPECT=1` writes what the node does now; whether
//! that is right is for the reader to say.

mod script;

use expect_test::expect;
use script::{ALONE, PEERS, check, with};

#[test]
fn an_executor_refuses_strangers_and_what_is_over_three_a_slot() {
    check(
        &with(
            ALONE,
            "0 up n2
            0 up n9
            1 from n9 claim 1 5000 one 'x
            2 from n2 claim 1 5000 one 'x
            2 from n2 claim 2 5000 one 'x
            2 from n2 claim 3 5000 one 'x
            2 from n2 claim 4 5000 one 'x
            3 from n2 claim 1 5000 one 'x
            4 from n2 cancel 2
            5 from n2 claim 4 5000 one 'x",
        ),
        expect![[r#"
            0 up n2
                n2 <- 1 adverts
            0 up n9
                n9 <- 1 adverts
            1 from n9 claim 1 5000 one 'x
                n9 <- nack 1 Denied
            2 from n2 claim 1 5000 one 'x
                n2 <- grant 1
                load f for work/1
            2 from n2 claim 2 5000 one 'x
                n2 <- grant 2
                load f for work/2
            2 from n2 claim 3 5000 one 'x
                n2 <- grant 3
                load f for work/3
            2 from n2 claim 4 5000 one 'x
                n2 <- nack 4 busy 30 ms
            3 from n2 claim 1 5000 one 'x
                n2 <- grant 1
            4 from n2 cancel 2
                stop work/2
            5 from n2 claim 4 5000 one 'x
                n2 <- grant 4
                load f for work/4
        "#]],
    );
}

#[test]
fn an_executor_fetches_runs_signs_and_answers_until_it_is_heard() {
    check(
        &with(
            ALONE,
            "0 up n2
            1 from n2 claim 1 5000 one a
            2 loaded work/1 f
            30 fetched work/1 1000
            40 exited work/1 result
            41 signed work/1 result
            50 from n2 renew 1
            60 from n2 settled 1
            70 from n2 renew 1",
        ),
        expect![[r#"
            0 up n2
                n2 <- 1 adverts
            1 from n2 claim 1 5000 one a
                n2 <- grant 1
                load f for work/1
            2 loaded work/1 f
                fetch a code and all below for work/1, perhaps from n2
            30 fetched work/1 1000
                start one(a) for work/1, of n2
            40 exited work/1 result
                n2 <- outcome 1 result
                sign result as key for work/1
            41 signed work/1 result
                remember result as key by receipt
            50 from n2 renew 1
                n2 <- outcome 1 result
            60 from n2 settled 1
            70 from n2 renew 1
                n2 <- unknown 1
        "#]],
    );
}

#[test]
fn one_slot_runs_one_piece_of_work_at_a_time_and_frees_it_when_the_engine_says_so() {
    check(
        &with(
            ALONE,
            "0 up n2
            1 from n2 claim 1 5000 none
            2 loaded work/1 f
            3 fetched work/1 0
            4 from n2 claim 2 5000 none
            5 from n2 claim 3 5000 none
            6 from n2 cancel 1
            7 from n2 cancel 2
            9 exited work/1 !stopped",
        ),
        expect![[r#"
            0 up n2
                n2 <- 1 adverts
            1 from n2 claim 1 5000 none
                n2 <- grant 1
                load f for work/1
            2 loaded work/1 f
                fetch code and all below for work/1, perhaps from n2
            3 fetched work/1 0
                start none() for work/1, of n2
            4 from n2 claim 2 5000 none
                n2 <- grant 2
            5 from n2 claim 3 5000 none
                n2 <- grant 3
            6 from n2 cancel 1
                stop work/1
            7 from n2 cancel 2
            9 exited work/1 !stopped
                start none() for work/3, of n2
        "#]],
    );
}

#[test]
fn work_that_asks_for_more_memory_than_there_is_is_refused_after_all() {
    check(
        &with(
            ALONE,
            "0 up n2
            1 from n2 claim 1 5000 none
            2 loaded work/1 f 101
            3 from n2 claim 2 5000 none
            4 loaded work/2 no:f",
        ),
        expect![[r#"
            0 up n2
                n2 <- 1 adverts
            1 from n2 claim 1 5000 none
                n2 <- grant 1
                load f for work/1
            2 loaded work/1 f 101
                stop work/1
                n2 <- nack 1 Unsuitable
            3 from n2 claim 2 5000 none
                n2 <- grant 2
                load f for work/2
            4 loaded work/2 no:f
                n2 <- outcome 2 NotFound: f was not found; 1 peers were asked
        "#]],
    );
}

#[test]
fn work_ends_at_its_deadline_and_when_its_scheduler_is_silent_or_gone() {
    check(
        &with(
            ALONE,
            "0 up n2
            1 from n2 claim 1 100 none
            2 loaded work/1 f
            101 tick
            200 from n2 claim 2 60000 none
            201 loaded work/2 f
            10000 from n2 renew 2
            15200 tick
            25000 tick
            26000 from n2 claim 3 60000 none
            26001 gone n2
            26002 loaded work/3 f",
        ),
        expect![[r#"
            0 up n2
                n2 <- 1 adverts
            1 from n2 claim 1 100 none
                n2 <- grant 1
                load f for work/1
            2 loaded work/1 f
                fetch code and all below for work/1, perhaps from n2
            101 tick
                dial ? /join
                stop work/1
                n2 <- outcome 1 DeadlineExceeded: the deadline passed while fetching
                (next tick at 59352)
            200 from n2 claim 2 60000 none
                n2 <- grant 2
                fetch code and all below for work/2, perhaps from n2
            201 loaded work/2 f
            10000 from n2 renew 2
                n2 <- grant 2
            15200 tick
                (next tick at 25000)
            25000 tick
                stop work/2
                n2 <- outcome 2 NodeFailed: a node failed: the lease was not renewed in time
                (next tick at 59352)
            26000 from n2 claim 3 60000 none
                n2 <- grant 3
                fetch code and all below for work/3, perhaps from n2
            26001 gone n2
                stop work/3
            26002 loaded work/3 f
        "#]],
    );
}

#[test]
fn an_outcome_that_nobody_takes_is_kept_for_half_a_minute() {
    check(
        &with(
            ALONE,
            "0 up n2
            1 from n2 claim 1 60000 none
            2 loaded work/1 f
            3 fetched work/1 0
            4 exited work/1 result
            5 signed work/1 result
            30003 tick
            30003 from n2 renew 1
            30004 tick
            30005 from n2 renew 1",
        ),
        expect![[r#"
            0 up n2
                n2 <- 1 adverts
            1 from n2 claim 1 60000 none
                n2 <- grant 1
                load f for work/1
            2 loaded work/1 f
                fetch code and all below for work/1, perhaps from n2
            3 fetched work/1 0
                start none() for work/1, of n2
            4 exited work/1 result
                n2 <- outcome 1 result
                sign result as key for work/1
            5 signed work/1 result
                remember result as key by receipt
            30003 tick
                dial ? /join
                (next tick at 30004)
            30003 from n2 renew 1
                n2 <- outcome 1 result
            30004 tick
                (next tick at 59352)
            30005 from n2 renew 1
                n2 <- unknown 1
        "#]],
    );
}

#[test]
fn blocks_are_kept_for_friends_and_questions_are_answered() {
    check(
        &with(
            ALONE,
            "0 up n2
            0 up n9
            1 from n2 hold 5 a b
            2 from n9 hold 5 a
            3 fetched hold/n2/5 2000
            4 from n2 hold 6 c
            5 fetched hold/n2/6 no:c
            6 from n2 holds 9 a b c
            7 from n9 holds 9 a
            8 have holds/n2/9 110",
        ),
        expect![[r#"
            0 up n2
                n2 <- 1 adverts
            0 up n9
                n9 <- 1 adverts
            1 from n2 hold 5 a b
                fetch a b for hold/n2/5, perhaps from n2
            2 from n9 hold 5 a
                n9 <- kept 5 Denied: denied by the rule "blocks are kept for trusted keys, by stores": trust, or the role store is missing
            3 fetched hold/n2/5 2000
                n2 <- kept 5
            4 from n2 hold 6 c
                fetch c for hold/n2/6, perhaps from n2
            5 fetched hold/n2/6 no:c
                n2 <- kept 6 NotFound: c was not found; 1 peers were asked
            6 from n2 holds 9 a b c
                have a b c? for holds/n2/9
            7 from n9 holds 9 a
            8 have holds/n2/9 110
                n2 <- held 9 [3]
        "#]],
    );
}

#[test]
fn an_import_goes_to_the_stores_that_win_it_and_comes_home_if_none_can() {
    check(
        "0 advert n2 n2 s 1
         0 up n2
         0 advert n3 n3 s 1
         0 up n3
         1 place 7 1 a,b c,d e
         2 from n3 kept 9
         3 from n2 kept 1
         4 gone n3
         5 from n2 kept 3 !disk",
        expect![[r#"
            0 advert n2 n2 s 1
            0 up n2
                n2 <- 1 adverts
            0 advert n3 n3 s 1
                n2 <- 1 adverts
            0 up n3
                n3 <- 2 adverts
            1 place 7 1 a,b c,d e
                n2 <- hold 1 c d e
                n3 <- hold 2 a b
            2 from n3 kept 9
            3 from n2 kept 1
                placed 7: c d e at n2
            4 gone n3
                n2 <- hold 3 a b
            5 from n2 kept 3 !disk
                placed 7: a b at n1
        "#]],
    );
}

#[test]
fn copies_go_to_different_stores_and_one_that_fails_to_a_third() {
    check(
        "0 advert n2 n2 s 1
         0 up n2
         0 advert n3 n3 s 1
         0 up n3
         0 advert n4 n4 s 1
         0 up n4
         1 place 7 2 a,b
         2 gone n3
         3 from n2 kept 2
         4 from n4 kept 3
         5 place 8 3 a
         6 from n2 kept 4
         7 from n4 kept 5 !disk",
        expect![[r#"
            0 advert n2 n2 s 1
            0 up n2
                n2 <- 1 adverts
            0 advert n3 n3 s 1
                n2 <- 1 adverts
            0 up n3
                n3 <- 2 adverts
            0 advert n4 n4 s 1
                n2 <- 1 adverts
                n3 <- 1 adverts
            0 up n4
                n4 <- 3 adverts
            1 place 7 2 a,b
                n3 <- hold 1 a b
                n2 <- hold 2 a b
            2 gone n3
                n4 <- hold 3 a b
            3 from n2 kept 2
                placed 7: a b at n2
            4 from n4 kept 3
                placed 7: a b at n4
            5 place 8 3 a
                n2 <- hold 4 a
                n4 <- hold 5 a
                no place 8: a
            6 from n2 kept 4
                placed 8: a at n2
            7 from n4 kept 5 !disk
                no place 8: a
        "#]],
    );
}

#[test]
fn a_node_joins_dials_whom_it_hears_of_and_passes_news_on_once() {
    check(
        "0 tick
         1 listening
         2 signed-advert
         3 up n2
         4 advert n2 n3 x 1
         5 tick
         6 up n3
         7 advert n3 n3 x 1
         8 advert n3 n2 x 1
         9 gone n3
         10 tick
         600 tick",
        expect![[r#"
            0 tick
                dial ? /join
                (next tick at 500)
            1 listening
                sign advert 1 for /n1
            2 signed-advert
                announce
            3 up n2
                n2 <- 1 adverts
            4 advert n2 n3 x 1
            5 tick
                dial n3 /n3
                (next tick at 505)
            6 up n3
                n3 <- 2 adverts
            7 advert n3 n3 x 1
            8 advert n3 n2 x 1
                n2 <- 1 adverts
            9 gone n3
            10 tick
                dial n3 /n3
                (next tick at 510)
            600 tick
                dial n3 /n3
                (next tick at 1600)
        "#]],
    );
}

#[test]
fn a_node_that_began_again_behind_an_old_connection_hears_of_everybody() {
    check(
        &with(
            PEERS,
            "1 advert n2 n2 x 1 1
            2 advert n3 n2 x 1 2
            3 advert n2 n2 x 1 2
            4 advert n2 n2 x 1 2",
        ),
        expect![[r#"
            1 advert n2 n2 x 1 1
            2 advert n3 n2 x 1 2
                n2 <- 1 adverts
            3 advert n2 n2 x 1 2
                n2 <- 2 adverts
            4 advert n2 n2 x 1 2
        "#]],
    );
}
