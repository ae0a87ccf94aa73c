//! What a node decides of keys that are no nodes and ask in the place of one, as transcripts.
//!
//! n9 is nobody that n1 trusts. A line with `lent` is a letter with a delegation: of whom to whom, and until when. `UPDATE_EXPECT=1`
//! writes what the node does now; whether that is right is for the reader to say.

mod script;

use expect_test::expect;
use script::check;

#[test]
fn a_key_that_a_trusted_node_lets_ask_is_served_on_its_topic_until_its_delegation_ends() {
    check(
        "0 lent n2>n9 100 n9 1>0 1 - claim 9 1000 one 'x
        10 loaded work/1 f
        20 fetched work/1 0
        30 exited work/1 r
        40 letter n9 1>0 2 1,2 settled 9
        129000 letter n9 1>0 3 - claim 10 1000 one 'x
        129500 letter n9 1>0 4 3 cancel 10
        131000 letter n9 1>0 5 - claim 11 1000 one 'x
        132000 lent n2>n9 200 n9 1>0 6 4 claim 12 1000 one 'x",
        expect![[r#"
            0 lent n2>n9 100 n9 1>0 1 - claim 9 1000 one 'x
                replies/n9 life 1 #1 grant 9, has [1]
                load f for work/1
            10 loaded work/1 f
                fetch code and all below for work/1, perhaps from n9
            20 fetched work/1 0
                start one('x) for work/1, of n9
            30 exited work/1 r
                replies/n9 life 1 #2 outcome 9 r
                sign r as key for work/1
            40 letter n9 1>0 2 1,2 settled 9
            129000 letter n9 1>0 3 - claim 10 1000 one 'x
                replies/n9 life 1 #3 grant 10, has [2, 3]
                start one('x) for work/2, of n9
            129500 letter n9 1>0 4 3 cancel 10
                stop work/2
            131000 letter n9 1>0 5 - claim 11 1000 one 'x
                replies/n9 life 1 #4 nack 11 Denied, has [4, 5]
            132000 lent n2>n9 200 n9 1>0 6 4 claim 12 1000 one 'x
                replies/n9 life 1 #5 grant 12, has [6]
        "#]],
    );
}

#[test]
fn who_is_no_member_is_written_to_for_a_minute() {
    check(
        "0 letter n9 1>0 1 - claim 9 1000 one 'x
        59000 tick
        61000 tick
        66000 tick",
        expect![[r#"
            0 letter n9 1>0 1 - claim 9 1000 one 'x
                replies/n9 life 1 #1 nack 9 Denied, has [1]
            59000 tick
                dial ? /join
                replies/n9 life 1 #1 nack 9 Denied
                (next tick at 59500)
            61000 tick
                dial ? /join
                (next tick at 62000)
            66000 tick
                dial ? /join
                (next tick at 68000)
        "#]],
    );
}

#[test]
fn the_nodes_own_word_is_as_good() {
    check(
        "0 lent n1>n9 100 n9 1>0 1 - claim 9 1000 one 'x",
        expect![[r#"
        0 lent n1>n9 100 n9 1>0 1 - claim 9 1000 one 'x
            replies/n9 life 1 #1 grant 9, has [1]
            load f for work/1
    "#]],
    );
}

#[test]
fn a_delegation_by_a_stranger_for_another_key_or_another_time_or_of_a_lent_right_gives_nothing() {
    check(
        "0 lent n8>n9 100 n9 1>0 1 - claim 9 1000 one 'x
        1 lent n2>n8 100 n9 1>0 2 1 claim 10 1000 one 'x
        2 lent n2>n9 90000 n9 1>0 3 2 claim 11 1000 one 'x
        3 lent n3>n2>n9 100 n9 1>0 4 3 claim 12 1000 one 'x
        200000 lent n2>n9 100 n9 1>0 5 4 claim 13 1000 one 'x",
        expect![[r#"
            0 lent n8>n9 100 n9 1>0 1 - claim 9 1000 one 'x
                replies/n9 life 1 #1 nack 9 Denied, has [1]
            1 lent n2>n8 100 n9 1>0 2 1 claim 10 1000 one 'x
                replies/n9 life 1 #2 nack 10 Denied, has [2]
            2 lent n2>n9 90000 n9 1>0 3 2 claim 11 1000 one 'x
                replies/n9 life 1 #3 nack 11 Denied, has [3]
            3 lent n3>n2>n9 100 n9 1>0 4 3 claim 12 1000 one 'x
                replies/n9 life 1 #4 nack 12 Denied, has [4]
            200000 lent n2>n9 100 n9 1>0 5 4 claim 13 1000 one 'x
                replies/n9 life 1 #5 nack 13 Denied, has [5]
        "#]],
    );
}

#[test]
fn a_guest_may_have_functions_run_and_nothing_else() {
    check(
        "0 lent n2>n9 100 n9 1>0 1 - holds 5 one
        1 letter n9 1>0 2 - hold 6 one
        2 letter n9 1>0 3 - inquire 7 log 1",
        expect![[r#"
            0 lent n2>n9 100 n9 1>0 1 - holds 5 one
            1 letter n9 1>0 2 - hold 6 one
                n9 <- kept 6 Denied: denied by the rule "blocks are kept for trusted keys, by stores": trust, or the role store is missing
            2 letter n9 1>0 3 - inquire 7 log 1
                n9 <- inform 7 unknown
        "#]],
    );
}

#[test]
fn keys_that_ask_in_a_nodes_place_have_that_nodes_share_together_and_another_nodes_is_its_own() {
    check(
        ". 0 lent n2>n9 100 n9 1>0 1 - claim 9 1000 one 'a
        . 1 letter n9 1>0 2 1 claim 10 1000 one 'b
        . 2 letter n2 1>0 1 - claim 11 1000 one 'c
        3 lent n2>n8 100 n8 1>0 1 - claim 12 1000 one 'd
        4 lent n3>n8 100 n8 1>0 2 1 claim 13 1000 one 'e",
        expect![[r#"
            3 lent n2>n8 100 n8 1>0 1 - claim 12 1000 one 'd
                replies/n8 life 1 #4 nack 12 busy 30 ms, has [1]
            4 lent n3>n8 100 n8 1>0 2 1 claim 13 1000 one 'e
                replies/n8 life 1 #5 grant 13, has [2]
                load f for work/4
        "#]],
    );
}
