//! What a node decides besides calling, as transcripts: work, blocks, jobs.
//!
//! Each test is a script, and what the node does line by line. `UPDATE_EXPECT=1` writes what the node does now; whether
//! that is right is for the reader to say.

mod script;

use expect_test::expect;
use script::{ALONE, PEERS, check, with};

#[test]
fn a_job_maps_where_the_files_lie_and_reduces_where_the_results_do() {
    check(
        &with(
            PEERS,
            "0 job 7 60000 2
            1 loaded job/1 f
            2 listed job/1 a b c
            4 from n2 held 4611686018427387905 110
            5 from n3 held 4611686018427387906 001
            20 from n2 outcome 2 ra
            21 from n3 outcome 4 rc
            22 from n2 outcome 6 rb
            30 from n2 outcome 10 s1
            31 from n3 outcome 8 s2
            40 from n3 outcome 12 sum",
        ),
        expect![[r#"
            0 job 7 60000 2
                load f for job/1
            1 loaded job/1 f
                list data for job/1
            2 listed job/1 a b c
                n2 <- holds J+1 a b c
                n3 <- holds J+2 a b c
            4 from n2 held 4611686018427387905 110
            5 from n3 held 4611686018427387906 001
                n2 <- claim 2 one(a) within 59995 ms, hints n1
                n3 <- claim 4 one(c) within 59995 ms, hints n1
                n2 <- claim 6 one(b) within 59995 ms, hints n1
            20 from n2 outcome 2 ra
                n2 <- settled 2
            21 from n3 outcome 4 rc
                n3 <- settled 4
                n3 <- claim 8 any(rc) within 59979 ms, hints n1
            22 from n2 outcome 6 rb
                n2 <- settled 6
                n2 <- claim 10 any(ra rb) within 59978 ms, hints n1
            30 from n2 outcome 10 s1
                n2 <- settled 10
            31 from n3 outcome 8 s2
                n3 <- settled 8
                n3 <- claim 12 any(s1 s2) within 59969 ms, hints n2 n1
            40 from n3 outcome 12 sum
                n3 <- settled 12
                progress 7: 6 of 6
                job 7: sum; n2 ran 3, n3 ran 3
        "#]],
    );
}

#[test]
fn a_job_runs_again_what_was_lost_with_its_node() {
    check(
        &with(
            PEERS,
            "0 job 7 60000 2
            1 loaded job/1 f
            2 listed job/1 a b
            4 from n2 held 4611686018427387905 10
            5 from n3 held 4611686018427387906 11
            20 from n2 outcome 2 ra
            21 gone n2
            22 from n3 outcome 4 rb
            40 from n3 outcome 6 no:ra
            50 from n3 outcome 8 ra
            60 from n3 outcome 10 sum",
        ),
        expect![[r#"
            0 job 7 60000 2
                load f for job/1
            1 loaded job/1 f
                list data for job/1
            2 listed job/1 a b
                n2 <- holds J+1 a b
                n3 <- holds J+2 a b
            4 from n2 held 4611686018427387905 10
            5 from n3 held 4611686018427387906 11
                n2 <- claim 2 one(a) within 59995 ms, hints n3 n1
                n3 <- claim 4 one(b) within 59995 ms, hints n1
            20 from n2 outcome 2 ra
                n2 <- settled 2
            21 gone n2
            22 from n3 outcome 4 rb
                n3 <- settled 4
                n3 <- claim 6 any(ra rb) within 59978 ms, hints n2 n1
            40 from n3 outcome 6 no:ra
                n3 <- settled 6
                n3 <- claim 8 one(a) within 59960 ms, hints n2 n1
            50 from n3 outcome 8 ra
                n3 <- settled 8
                n3 <- claim 10 any(ra rb) within 59950 ms, hints n1
            60 from n3 outcome 10 sum
                n3 <- settled 10
                progress 7: 3 of 3
                job 7: sum; n2 ran 1, n3 ran 3
        "#]],
    );
}

#[test]
fn a_job_that_cannot_be_is_refused_before_it_begins() {
    check(
        &with(
            PEERS,
            "0 job 7 60000 2000
            1 loaded job/1 f
            2 job 8 60000 2
            3 loaded job/2 f
            4 listed job/2 no:data
            5 job 9 60000 2
            6 cancel 9",
        ),
        expect![[r#"
            0 job 7 60000 2000
                load f for job/1
            1 loaded job/1 f
                job 7: BadArgument: argument 0: wanted a fan-in of at most 1024, got 2000
            2 job 8 60000 2
                load f for job/2
            3 loaded job/2 f
                list data for job/2
            4 listed job/2 no:data
                job 8: NotFound: data was not found; 1 peers were asked
            5 job 9 60000 2
                load f for job/3
            6 cancel 9
                stop job/3
                job 9: Cancelled: cancelled
        "#]],
    );
}

#[test]
fn a_reduction_near_a_node_that_left_is_anybodys() {
    check(
        &with(
            PEERS,
            "0 job 7 60000 3
            1 loaded job/1 f
            2 listed job/1 a b c
            4 from n2 held 4611686018427387905 110
            5 from n3 held 4611686018427387906 001
            20 from n2 outcome 2 ra
            21 from n2 outcome 6 rb
            22 gone n2
            23 from n3 outcome 4 rc",
        ),
        expect![[r#"
            0 job 7 60000 3
                load f for job/1
            1 loaded job/1 f
                list data for job/1
            2 listed job/1 a b c
                n2 <- holds J+1 a b c
                n3 <- holds J+2 a b c
            4 from n2 held 4611686018427387905 110
            5 from n3 held 4611686018427387906 001
                n2 <- claim 2 one(a) within 59995 ms, hints n1
                n3 <- claim 4 one(c) within 59995 ms, hints n1
                n2 <- claim 6 one(b) within 59995 ms, hints n1
            20 from n2 outcome 2 ra
                n2 <- settled 2
            21 from n2 outcome 6 rb
                n2 <- settled 6
            22 gone n2
            23 from n3 outcome 4 rc
                n3 <- settled 4
                n3 <- claim 8 any(ra rb rc) within 59977 ms, hints n2 n1
        "#]],
    );
}

#[test]
fn a_second_answer_to_one_question_changes_nothing() {
    check(
        &with(
            ALONE,
            "0 submit 7 5000 one 'x
            1 loaded call/1 f
            2 loaded call/1 f
            3 loaded work/1 f
            4 loaded work/1 f
            5 fetched work/1 0
            6 fetched work/1 0
            7 loaded work/1 f
            8 exited work/1 result
            9 exited work/1 result
            10 signed work/1 result
            11 signed work/1 result",
        ),
        expect![[r#"
            0 submit 7 5000 one 'x
                load f for call/1
            1 loaded call/1 f
                load f for work/1
            2 loaded call/1 f
            3 loaded work/1 f
                fetch code and all below for work/1, perhaps from n1
            4 loaded work/1 f
            5 fetched work/1 0
                start one('x) for work/1, of n1
            6 fetched work/1 0
            7 loaded work/1 f
            8 exited work/1 result
                sign result as key for work/1
                reply 7: result by n1, 1 claims, 8000 us
            9 exited work/1 result
            10 signed work/1 result
                remember result as key by receipt
            11 signed work/1 result
                remember result as key by receipt
        "#]],
    );
}
