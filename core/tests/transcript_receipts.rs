//! What becomes of a node's receipts, as transcripts: who signs, who is told, who may ask, who is asked.
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
fn a_jobs_receipt_goes_to_the_members_that_win_its_key_and_a_short_calls_does_not() {
    check(
        &with(
            STORES,
            "0 from n2 jobclaim 5 1000 one 'x
            . 1 loaded work/1 f
            . 2 recalled work/1 k
            . 3 fetched work/1 0
            4 exited work/1 r
            5 signed work/1 r tell
            . 6 from n2 settled 5
            . 7 from n2 claim 6 1000 one 'y
            . 8 recalled work/2 k
            9 exited work/2 r
            10 signed work/2 r",
        ),
        expect![[r#"
            0 from n2 jobclaim 5 1000 one 'x
                n2 <- grant 5
                load f for work/1
            4 exited work/1 r
                n2 <- outcome 5 r
                sign r as key for work/1, to be told
            5 signed work/1 r tell
                n2 <- 1 receipts to 0
                n3 <- 1 receipts to 0
                remember r as key by receipt
            9 exited work/2 r
                n2 <- outcome 6 r
                sign r as key for work/2
            10 signed work/2 r
                remember r as key by receipt
        "#]],
    );
}

#[test]
fn receipts_are_kept_for_friends_of_friends_only() {
    check(
        &with(
            STORES,
            "0 from n2 receipts 0 k:r:n3
            1 from n6 receipts 0 k:r:n3
            2 from n2 receipts 0 k:r:n6 l:!:n3",
        ),
        expect![[r#"
            0 from n2 receipts 0 k:r:n3
                remember r as k by old
            1 from n6 receipts 0 k:r:n3
            2 from n2 receipts 0 k:r:n6 l:!:n3
        "#]],
    );
}

#[test]
fn a_friends_question_is_answered_and_a_strangers_is_not() {
    check(
        &with(
            STORES,
            "0 from n2 recall 5 k l
            1 recalled recall/n2/5 k:r:n3 l
            2 from n6 recall 5 k",
        ),
        expect![[r#"
            0 from n2 recall 5 k l
                recall k l for recall/n2/5
            1 recalled recall/n2/5 k:r:n3 l
                n2 <- 1 receipts to 5
            2 from n6 recall 5 k
        "#]],
    );
}

#[test]
fn a_receipt_is_looked_for_here_then_with_all_friends_at_once() {
    check(
        &with(
            STORES,
            "0 search 7 r s
            1 recalled search/1 r:r:n2 s
            2 from n2 receipts T+1
            3 from n3 receipts T+1 k:s:n2
            4 search 8 s
            . 5 recalled search/2 s
            6 from n3 receipts T+2 k:s:n6
            7 from n6 receipts T+2 k:s:n2
            8 gone n2
            9 search 9 r
            . 10 recalled search/3 r
            2009 tick
            2010 tick
            2011 search 10 r
            2012 cancel 10
            2013 recalled search/4 r:r:n2",
        ),
        expect![[r#"
            0 search 7 r s
                recall r s for search/1
            1 recalled search/1 r:r:n2 s
                n2 <- recall T+1 s
                n3 <- recall T+1 s
            2 from n2 receipts T+1
            3 from n3 receipts T+1 k:s:n2
                searched 7: old by n2, old by n2
            4 search 8 s
                recall s for search/2
            6 from n3 receipts T+2 k:s:n6
            7 from n6 receipts T+2 k:s:n2
            8 gone n2
                searched 8: nothing
            9 search 9 r
                recall r for search/3
            2009 tick
                dial ? /join
                dial n2 /n2
                (next tick at 2010)
            2010 tick
                searched 9: nothing
                (next tick at 2509)
            2011 search 10 r
                recall r for search/4
            2012 cancel 10
            2013 recalled search/4 r:r:n2
        "#]],
    );
}

#[test]
fn who_asks_for_a_receipt_that_is_being_signed_is_answered_when_it_is() {
    check(
        &with(
            STORES,
            "0 from n2 claim 5 1000 one 'x
            . 1 loaded work/1 f
            . 2 recalled work/1 k
            . 3 fetched work/1 0
            4 exited work/1 r
            5 from n2 recall 6 r
            6 search 7 r
            7 from n3 claim 8 1000 one 'y
            8 signed work/1 r",
        ),
        expect![[r#"
            0 from n2 claim 5 1000 one 'x
                n2 <- grant 5
                load f for work/1
            4 exited work/1 r
                n2 <- outcome 5 r
                sign r as key for work/1
            5 from n2 recall 6 r
            6 search 7 r
            7 from n3 claim 8 1000 one 'y
                n3 <- grant 8
                recall one('y) for work/2
            8 signed work/1 r
                remember r as key by receipt
                recall r for recall/n2/6
                recall r for search/1
        "#]],
    );
}
