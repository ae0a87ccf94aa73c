//! Manifests that content does not find, as transcripts: executors that no stream reaches are asked by letter.

mod script;

use expect_test::expect;
use script::{check, with};

/// n2, an executor, is heard on the members topic alone; n3, another one, stands on a stream.
const FAR: &str = "
    . 0 tick
    . 0 aired n2 x 1
    . 0 advert n3 n3 x 1
    . 0 up n3
    . 0 rtt n3 1000
";

#[test]
fn a_manifest_is_told_by_letter_and_whoever_told_it_is_asked_first() {
    check(
        &with(
            FAR,
            "0 submit 7 5000 one 'x
            1 loaded call/1 no:f
            20 letter n2 1>0 1 1 got 1 manifest
            21 loaded call/1 f
            40 letter n2 1>0 2 2 grant 2",
        ),
        expect![[r#"
            0 submit 7 5000 one 'x
                load f for call/1
            1 loaded call/1 no:f
                tasks/n2 life 1 #1 get 1 f
            20 letter n2 1>0 1 1 got 1 manifest
                learn f for call/1 along with "manifest"
            21 loaded call/1 f
                tasks/n2 life 1 #2 claim 2 one('x) within 4979 ms, hints n1, inline, has [1]
            40 letter n2 1>0 2 2 grant 2
        "#]],
    );
}

#[test]
fn a_manifest_that_nobody_has_or_tells_in_time_is_not_found() {
    check(
        &with(
            FAR,
            "0 submit 7 60000 one 'x
            1 loaded call/1 no:f
            20 letter n2 1>0 1 1 got 1
            30 submit 8 60000 one 'x
            31 loaded call/2 no:f
            32 letter n2 1>0 0 2
            5031 tick",
        ),
        expect![[r#"
            0 submit 7 60000 one 'x
                load f for call/1
            1 loaded call/1 no:f
                tasks/n2 life 1 #1 get 1 f
            20 letter n2 1>0 1 1 got 1
                reply 7: NotFound: f was not found; 1 peers were asked
            30 submit 8 60000 one 'x
                load f for call/2
            31 loaded call/2 no:f
                tasks/n2 life 1 #2 get 2 f, has [1]
            32 letter n2 1>0 0 2
            5031 tick
                dial n2 /n2
                reply 8: NotFound: f was not found; 1 peers were asked
                (next tick at 5531)
        "#]],
    );
}

#[test]
fn a_block_that_is_not_the_manifest_is_none_and_an_answer_of_somebody_else_or_a_second_one_is_not_taken() {
    check(
        &with(
            FAR,
            "0 submit 7 60000 one 'x
            1 loaded call/1 no:f
            10 from n3 got 1 forged
            20 letter n2 1>0 1 1 got 1 wrong
            21 letter n2 1>0 2 - got 1 again
            22 loaded call/1 !disk",
        ),
        expect![[r#"
            0 submit 7 60000 one 'x
                load f for call/1
            1 loaded call/1 no:f
                tasks/n2 life 1 #1 get 1 f
            10 from n3 got 1 forged
            20 letter n2 1>0 1 1 got 1 wrong
                learn f for call/1 along with "wrong"
            21 letter n2 1>0 2 - got 1 again
            22 loaded call/1 !disk
                reply 7: NotFound: f was not found; 1 peers were asked
        "#]],
    );
}

#[test]
fn a_block_of_another_executor_is_read_where_the_first_was_none() {
    check(
        &with(
            FAR,
            ". 0 aired n4 x 1
            0 submit 7 60000 one 'x
            1 loaded call/1 no:f
            10 letter n2 1>0 1 1 got 1 wrong
            11 letter n4 1>0 1 1 got 1 manifest
            12 loaded call/1 !disk
            13 loaded call/1 f",
        ),
        expect![[r#"
            0 submit 7 60000 one 'x
                load f for call/1
            1 loaded call/1 no:f
                tasks/n2 life 1 #1 get 1 f
                tasks/n4 life 1 #2 get 1 f
            10 letter n2 1>0 1 1 got 1 wrong
                learn f for call/1 along with "wrong"
            11 letter n4 1>0 1 1 got 1 manifest
            12 loaded call/1 !disk
                learn f for call/1 along with "manifest"
            13 loaded call/1 f
                tasks/n4 life 1 #3 claim 2 one('x) within 59987 ms, hints n1, inline, has [1]
        "#]],
    );
}

#[test]
fn nobody_is_asked_where_streams_reach_all_executors() {
    check(
        &with(
            script::PEERS,
            "0 submit 7 5000 one 'x
            1 loaded call/1 no:f",
        ),
        expect![[r#"
            0 submit 7 5000 one 'x
                load f for call/1
            1 loaded call/1 no:f
                reply 7: NotFound: f was not found; 1 peers were asked
        "#]],
    );
}

#[test]
fn a_trusted_peer_is_told_a_block_and_a_stranger_is_not() {
    check(
        &with(
            FAR,
            "0 letter n2 1>0 1 - get 9 f
            1 read give/n2/9 bytes
            2 from n9 get 4 f",
        ),
        expect![[r#"
            0 letter n2 1>0 1 - get 9 f
                read f for give/n2/9
            1 read give/n2/9 bytes
                replies/n2 life 1 #1 got 9 along with "bytes", has [1]
            2 from n9 get 4 f
                n9 <- got 4
        "#]],
    );
}
