//! The vocabulary's bytes: golden vectors under `fixtures/`, and what is refused.
//!
//! A change of a fixture is a change of the wire and of every CID: `UPDATE_EXPECT=1` writes them, a review decides.

mod common;

use std::fmt::Write;

use common::*;
use expect_test::expect_file;
use ipld_core::ipld::Ipld;
use serde_bytes::ByteBuf;
use timerose_core::capability::{Advert, Session};
use timerose_core::delegation::Delegation;
use timerose_core::envelope::{Envelope, Letter};
use timerose_core::function::Function;
use timerose_core::id::{DAG_CBOR, cid_of};
use timerose_core::job::JobSpec;
use timerose_core::message::{FRAME_MAX, Frame};
use timerose_core::promise::JournalEntry;
use timerose_core::proof::open_proof;
use timerose_core::record::{Record, RecordError, address, decode, encode, open, seal};
use timerose_core::replay::{Recording, Turn};
use timerose_core::task::Receipt;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

fn record<R: Record>(name: &str, record: &R) -> String {
    let (cid, bytes) = address(record);
    format!("{name}\n{cid}\n{}\n\n", hex(&bytes))
}

#[test]
fn records_have_the_bytes_and_addresses_of_the_fixture() {
    let task = task();
    let again = timerose_core::task::Task { seq: 1, ..task.clone() };
    let text = [
        record("function", &function()),
        record("function with defaults", &small_function()),
        record("job", &job()),
        record("receipt", &receipt(node(1))),
        record("root", &root(node(1))),
        record("receipt as it is kept", &sealed()),
        record("session", &session(node(1))),
        record("delegation", &delegation(node(1), node(3))),
        record("delegation from later on", &Delegation { nbf: Some(NOW.unix_ms / 1000), ..delegation(node(1), node(3)) }),
        record("advert", &advert(node(1))),
        record("recording", &Recording { config: config() }),
        record("turn", &turn()),
        entries().iter().map(|(name, entry)| record(name, entry)).collect(),
        record("letter", &letter()),
        record("letter in another's place", &Letter { delegation: Some(ByteBuf::from(b"sealed".to_vec())), ..letter() }),
        record("envelope", &envelope(node(1))),
        format!("task id for node 1\n{}\n\n", task.id(&node(1))),
        format!("task id for node 2\n{}\n\n", task.id(&node(2))),
        format!("task id of the second run\n{}\n\n", again.id(&node(1))),
        format!("memo key\n{}\n", task.memo_key()),
    ];
    assert_eq!(task.memo_key(), again.memo_key(), "a repetition may reuse a pure result");
    expect_file!["../fixtures/records.txt"].assert_eq(&text.concat());
}

#[test]
fn envelopes_have_the_bytes_of_the_fixture() {
    // Not a real signature: the place where it stands is what this is about.
    let session = seal(&session(node(1)), |_| [0xaa; 64]);
    let delegation = seal(&delegation(node(1), node(3)), |_| [0xee; 64]);
    let advert = seal(&advert(node(1)), |_| [0xbb; 64]);
    let root = seal(&root(node(1)), |_| [0xcc; 64]);
    let envelope = seal(&envelope(node(1)), |_| [0xdd; 64]);
    let proof = &proofs(node(1), |_| [0xdd; 64])[3];
    let text = [
        ("session", &session),
        ("delegation", &delegation),
        ("advert", &advert),
        ("root", &root),
        ("proof of the fourth of five", proof),
        ("envelope", &envelope),
    ];
    let text: Vec<String> = text.iter().map(|(name, bytes)| format!("{name}\n{}\n", hex(bytes))).collect();
    let text = text.join("\n");
    expect_file!["../fixtures/envelopes.txt"].assert_eq(&text);
}

#[test]
fn frames_have_the_bytes_of_the_fixture() {
    let mut text = String::new();
    for (name, frame) in frames() {
        writeln!(text, "{name}\n{}\n", hex(&frame.encode())).expect("a string takes everything");
        assert_eq!(Frame::decode(&frame.encode()), Ok(frame), "{name}");
    }
    expect_file!["../fixtures/frames.txt"].assert_eq(&text);
}

#[test]
fn what_is_written_is_read_back() {
    assert_eq!(decode(&encode(&function())), Ok(function()));
    assert_eq!(decode(&encode(&small_function())), Ok(small_function()));
    assert_eq!(decode(&encode(&job())), Ok(job()));
    assert_eq!(decode(&encode(&receipt(node(1)))), Ok(receipt(node(1))));
    assert_eq!(decode(&encode(&session(node(1)))), Ok(session(node(1))));
    assert_eq!(decode(&encode(&delegation(node(1), node(3)))), Ok(delegation(node(1), node(3))));
    assert_eq!(decode(&encode(&advert(node(1)))), Ok(advert(node(1))));
    assert_eq!(decode(&encode(&letter())), Ok(letter()));
    assert_eq!(decode(&encode(&envelope(node(1)))), Ok(envelope(node(1))));
}

fn refuses_every_truncation<T>(name: &str, bytes: &[u8], read: impl Fn(&[u8]) -> Result<T, RecordError>) {
    assert!(read(bytes).is_ok(), "{name}");
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_err(), "{name} cut to {length} bytes");
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert!(read(&longer).is_err(), "{name} with a byte behind it");
}

#[test]
fn bytes_that_are_cut_short_or_go_on_are_refused() {
    refuses_every_truncation("function", &encode(&function()), decode::<Function>);
    refuses_every_truncation("job", &encode(&job()), decode::<JobSpec>);
    refuses_every_truncation("recording", &encode(&Recording { config: config() }), decode::<Recording>);
    refuses_every_truncation("turn", &encode(&turn()), decode::<Turn>);
    for (name, entry) in entries() {
        refuses_every_truncation(name, &encode(&entry), decode::<JournalEntry>);
    }
    let sealed = seal(&session(node(1)), |_| [0; 64]);
    refuses_every_truncation("session", &sealed, |bytes| open::<Session>(bytes, |_, _, _| true));
    let sealed = seal(&delegation(node(1), node(3)), |_| [0; 64]);
    refuses_every_truncation("delegation", &sealed, |bytes| open::<Delegation>(bytes, |_, _, _| true));
    let sealed = seal(&advert(node(1)), |_| [0; 64]);
    refuses_every_truncation("advert", &sealed, |bytes| open::<Advert>(bytes, |_, _, _| true));
    refuses_every_truncation("receipt", &encode(&receipt(node(1))), decode::<Receipt>);
    for proof in proofs(node(1), |_| [0; 64]) {
        refuses_every_truncation("proof", &proof, |bytes| open_proof(bytes, |root| open(root, |_, _, _| true)));
    }
    let sealed = seal(&envelope(node(1)), |_| [0; 64]);
    refuses_every_truncation("envelope", &sealed, Envelope::peek);
    refuses_every_truncation("letter", &encode(&letter()), decode::<Letter>);
    for (name, frame) in frames() {
        refuses_every_truncation(&name, &frame.encode(), Frame::decode);
    }
}

/// A text string in CBOR, of fewer than 24 bytes.
fn short(text: &str) -> Vec<u8> {
    [&[0x60 + text.len() as u8], text.as_bytes()].concat()
}

/// `{"Message": {"Grant": {"lease": <lease>}}}`, with the pieces given.
fn grant(lease: &[u8]) -> Vec<u8> {
    [&[0xa1][..], &short("Message"), &[0xa1], &short("Grant"), lease].concat()
}

#[test]
fn other_encodings_of_the_same_are_refused() {
    let lease = short("lease");
    let good = grant(&[&[0xa1][..], &lease, &[0x05]].concat());
    assert!(Frame::decode(&good).is_ok(), "the hand-made frame is the one that is varied below");
    let longer =
        [[0x18, 0x05].to_vec(), [0x19, 0, 5].to_vec(), [0x1a, 0, 0, 0, 5].to_vec(), [0x1b, 0, 0, 0, 0, 0, 0, 0, 5].to_vec()];
    for five in longer {
        let bytes = grant(&[&[0xa1][..], &lease, &five].concat());
        assert!(Frame::decode(&bytes).is_err(), "five in {} bytes", five.len());
    }
    let variants = [
        ("an indefinite map", grant(&[&[0xbf][..], &lease, &[0x05, 0xff]].concat())),
        ("an indefinite key", grant(&[&[0xa1, 0x7f][..], &lease, &[0xff, 0x05]].concat())),
        ("a long map head", grant(&[&[0xb8, 0x01][..], &lease, &[0x05]].concat())),
        ("a long text head", grant(&[&[0xa1, 0x78, 0x05][..], b"lease", &[0x05]].concat())),
        ("a field twice", grant(&[&[0xa2][..], &lease, &[0x05], &lease, &[0x05]].concat())),
        ("keys out of order", grant(&[&[0xa2][..], &lease, &[0x05], &short("abc"), &[0x05]].concat())),
        ("a float", grant(&[&[0xa1][..], &lease, &[0xfb, 0x40, 0x14, 0, 0, 0, 0, 0, 0]].concat())),
        ("a tag", grant(&[&[0xa1][..], &lease, &[0xc1, 0x05]].concat())),
        ("a negative number", grant(&[&[0xa1][..], &lease, &[0x24]].concat())),
        ("a map with a key too few", grant(&[&[0xa2][..], &lease, &[0x05]].concat())),
    ];
    for (what, bytes) in variants {
        assert!(Frame::decode(&bytes).is_err(), "{what} was read");
    }
}

#[test]
fn unknown_fields_are_ignored_and_their_encoding_still_counts() {
    let lease = [short("lease"), vec![0x05]].concat();
    let with = |value: &[u8]| grant(&[&[0xa2][..], &lease, &short("newest"), value].concat());
    let known = Frame::decode(&grant(&[&[0xa1][..], &lease].concat()));
    assert!(known.is_ok());
    for value in [&[0x05][..], &[0x81, 0x05], &[0xa1, 0x61, b'x', 0xf6], &[0xf5]] {
        assert_eq!(Frame::decode(&with(value)), known, "{value:x?}");
    }
    for value in [&[0x18, 0x05][..], &[0x9f, 0xff], &[0xa2, 0x61, b'b', 0x01, 0x61, b'a', 0x01], &[0xf7]] {
        assert!(Frame::decode(&with(value)).is_err(), "{value:x?} is not DAG-CBOR, even where nobody reads it");
    }
}

/// The record's bytes with its tag replaced by one of the same length.
fn retagged(tag: &str) -> Vec<u8> {
    let (bytes, ours) = (encode(&job()), b"timerose/job@1");
    let at = bytes.windows(ours.len()).position(|w| w == ours).expect("the tag is in there");
    [&bytes[..at], tag.as_bytes(), &bytes[at + ours.len()..]].concat()
}

#[test]
fn another_schema_or_version_is_named() {
    let found = |tag: &str| decode::<JobSpec>(&retagged(tag));
    assert_eq!(found("timerose/job@1"), Ok(job()));
    for tag in ["timerose/job@2", "timerose/jab@1"] {
        let (found_tag, wanted) = (tag.to_string(), "timerose/job@1".to_string());
        assert_eq!(found(tag), Err(RecordError::Unsupported { found: found_tag, wanted }), "{tag}");
    }
    // A signed record by another name.
    let sealed = seal(&advert(node(1)), |_| [0; 64]);
    let error = open::<Session>(&sealed, |_, _, _| true).expect_err("an advert is no session");
    assert!(matches!(error, RecordError::Unsupported { found, .. } if found == "timerose/advert@1"));
}

#[test]
fn more_bytes_than_the_schema_allows_are_refused_unread() {
    let max = JobSpec::MAX_BYTES;
    assert_eq!(decode::<JobSpec>(&vec![0xff; max + 1]), Err(RecordError::TooLarge { max }));
    assert_eq!(Frame::decode(&vec![0xff; FRAME_MAX + 1]), Err(RecordError::TooLarge { max: FRAME_MAX }));
    let error = open::<Session>(&vec![0xff; Session::MAX_BYTES + 1], |_, _, _| true).expect_err("too large");
    assert_eq!(error, RecordError::TooLarge { max: Session::MAX_BYTES });
}

#[test]
fn lists_over_their_bounds_are_refused() {
    use timerose_core::message::{ADVERTS_MAX, CIDS_MAX, HINTS_MAX, KEYS_MAX, Message, SIZES_MAX};
    use timerose_core::task::{ARGS_MAX, Arg, Task};
    let claim = |args: usize, hints: usize| {
        let task = Task { args: vec![Arg::Inline(vec![]); args], ..task() };
        Frame::Message(Message::Claim {
            lease: 1,
            task,
            budget_ms: 1,
            hints: vec![node(1); hints],
            memo: true,
            keep: true,
            trace: None,
            inline: true,
        })
    };
    let receipts = |count: usize| Frame::Receipts { query: 1, sealed: vec![ByteBuf::new(); count] };
    let recall = |count: usize| Frame::Message(Message::Recall { query: 1, keys: vec![cid("a"); count] });
    let cases = [
        ("receipts", receipts(KEYS_MAX), receipts(KEYS_MAX + 1)),
        ("keys", recall(KEYS_MAX), recall(KEYS_MAX + 1)),
        ("adverts", Frame::Adverts(vec![ByteBuf::new(); ADVERTS_MAX]), Frame::Adverts(vec![ByteBuf::new(); ADVERTS_MAX + 1])),
        ("arguments", claim(ARGS_MAX, 0), claim(ARGS_MAX + 1, 0)),
        ("hints", claim(0, HINTS_MAX), claim(0, HINTS_MAX + 1)),
        (
            "cids",
            Frame::Message(Message::Holds { query: 1, cids: vec![cid("a"); CIDS_MAX] }),
            Frame::Message(Message::Holds { query: 1, cids: vec![cid("a"); CIDS_MAX + 1] }),
        ),
        (
            "bits",
            Frame::Message(Message::Held { query: 1, bits: ByteBuf::from(vec![0; CIDS_MAX / 8]), sizes: vec![0; SIZES_MAX] }),
            Frame::Message(Message::Held { query: 1, bits: ByteBuf::from(vec![0; CIDS_MAX / 8 + 1]), sizes: vec![] }),
        ),
        (
            "sizes",
            Frame::Message(Message::Held { query: 1, bits: ByteBuf::new(), sizes: vec![0; SIZES_MAX] }),
            Frame::Message(Message::Held { query: 1, bits: ByteBuf::new(), sizes: vec![0; SIZES_MAX + 1] }),
        ),
    ];
    for (what, full, over) in cases {
        assert_eq!(Frame::decode(&full.encode()), Ok(full), "{what}");
        assert!(Frame::decode(&over.encode()).is_err(), "{what}");
    }
}

#[test]
fn nesting_without_end_is_refused_and_does_not_exhaust_the_stack() {
    // Arrays of one within each other, in a field that nobody reads; and maps; as many as a frame has bytes.
    let lease = [short("lease"), vec![0x05]].concat();
    for (levels, head) in [(100_000, vec![0x81]), (500_000, vec![0x81]), (100_000, vec![0xa1, 0x61, b'x'])] {
        let deep = [head.repeat(levels), vec![0x01]].concat();
        let bytes = grant(&[&[0xa2][..], &lease, &short("newest"), &deep].concat());
        assert!(bytes.len() <= FRAME_MAX);
        assert!(Frame::decode(&bytes).is_err(), "{levels} levels");
        // The same below an argument, which is read as any value.
        let claim =
            [&[0xa1][..], &short("Message"), &[0xa1], &short("Claim"), &[0xa1], &short("task"), &[0xa1], &short("args"), &deep];
        assert!(Frame::decode(&claim.concat()).is_err());
    }
}

#[test]
fn every_encoding_is_canonical_dag_cbor() {
    // Reading as plain IPLD sorts keys and forgets lengths; writing that again gives the only canonical form.
    let mut all: Vec<Vec<u8>> = frames().iter().map(|(_, frame)| frame.encode()).collect();
    all.extend([encode(&function()), encode(&small_function()), encode(&job()), seal(&advert(node(1)), |_| [0; 64])]);
    for bytes in all {
        let plain: Ipld = serde_ipld_dagcbor::from_slice(&bytes).expect("DAG-CBOR");
        assert_eq!(serde_ipld_dagcbor::to_vec(&plain).expect("IPLD"), bytes);
    }
    assert_eq!(address(&job()).0, cid_of(DAG_CBOR, &encode(&job())));
}
