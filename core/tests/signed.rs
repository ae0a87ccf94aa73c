//! Signed records with real keys: what a signature proves, and what a session token says besides.

mod common;

use common::*;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde_bytes::ByteBuf;
use timerose_core::capability::{Advert, Session, SessionError};
use timerose_core::delegation::{Delegation, DelegationError, GOOD_SECONDS};
use timerose_core::id::{NodeId, Now};
use timerose_core::proof::{Proof, Root, open_proof, prove};
use timerose_core::record::{RecordError, Signed, Verified, address, decode, encode, open, seal};
use timerose_core::task::Receipt;

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn id(key: &SigningKey) -> NodeId {
    NodeId(key.verifying_key().to_bytes())
}

/// The check as a driver does it.
fn verify(issuer: &NodeId, payload: &[u8], signature: &[u8; 64]) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(&issuer.0) else { return false };
    key.verify_strict(payload, &Signature::from_bytes(signature)).is_ok()
}

fn sealed<R: Signed>(record: &R, key: &SigningKey) -> Vec<u8> {
    seal(record, |payload| key.sign(payload).to_bytes())
}

fn opened<R: Signed>(bytes: &[u8]) -> Result<Verified<R>, RecordError> {
    open(bytes, verify)
}

#[test]
fn what_a_key_sealed_opens_and_keeps_its_bytes() {
    let key = key(1);
    let bytes = sealed(&root(id(&key)), &key);
    let root_back = opened::<Root>(&bytes).expect("its own signature");
    assert_eq!((&*root_back, root_back.sealed()), (&root(id(&key)), &bytes[..]));
    assert!(opened::<Advert>(&sealed(&advert(id(&key)), &key)).is_ok());
    assert!(opened::<Session>(&sealed(&session(id(&key)), &key)).is_ok());
}

#[test]
fn a_flipped_bit_anywhere_is_refused() {
    let key = key(1);
    let all = [sealed(&root(id(&key)), &key), sealed(&advert(id(&key)), &key), sealed(&session(id(&key)), &key)];
    for (kind, bytes) in all.iter().enumerate() {
        let (mut refused, mut forged) = (0, 0);
        for bit in 0..bytes.len() * 8 {
            let mut bent = bytes.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            let error = match kind {
                0 => opened::<Root>(&bent).err(),
                1 => opened::<Advert>(&bent).err(),
                _ => opened::<Session>(&bent).err(),
            };
            let error = error.unwrap_or_else(|| panic!("bit {bit} of kind {kind} was flipped and it opened"));
            refused += 1;
            forged += usize::from(matches!(error, RecordError::Forged { .. }));
        }
        assert_eq!(refused, bytes.len() * 8);
        // All of the signature's own bits, and more: it is the signature check that refuses these, not the parser.
        assert!(forged >= 512 + 100, "kind {kind}: only {forged} flips met the signature check");
    }
}

#[test]
fn another_keys_signature_is_forged_and_names_the_issuer() {
    let (honest, other) = (key(1), key(2));
    let issuer = id(&honest);
    assert_eq!(opened::<Root>(&sealed(&root(issuer), &other)), Err(RecordError::Forged { issuer }));
    assert_eq!(opened::<Advert>(&sealed(&advert(issuer), &other)), Err(RecordError::Forged { issuer }));
    assert_eq!(opened::<Session>(&sealed(&session(issuer), &other)), Err(RecordError::Forged { issuer }));
}

#[test]
fn a_signature_of_one_record_does_not_open_another() {
    let key = key(1);
    let one = sealed(&root(id(&key)), &key);
    let two = sealed(&Root { size: 1, ..root(id(&key)) }, &key);
    let mixed = [&one[..67], &two[67..]].concat();
    assert_eq!(opened::<Root>(&mixed), Err(RecordError::Forged { issuer: id(&key) }));
}

fn proven(key: &SigningKey) -> Vec<Vec<u8>> {
    proofs(id(key), |payload| key.sign(payload).to_bytes())
}

fn open_real(bytes: &[u8]) -> Result<NodeId, RecordError> {
    open_proof(bytes, opened).map(|(_, receipt)| receipt.iss)
}

#[test]
fn every_receipt_of_a_root_is_proven_by_its_own_path() {
    let key = key(1);
    for (number, bytes) in proven(&key).iter().enumerate() {
        let (cid, receipt_back) = open_proof(bytes, opened).expect("its own proof");
        let told = Receipt { at: NOW.unix_ms + number as u64, ..receipt(id(&key)) };
        assert_eq!((&*receipt_back, receipt_back.sealed(), cid), (&told, &bytes[..], address(&told).0));
    }
}

#[test]
fn a_proof_with_any_bit_changed_is_refused() {
    let key = key(1);
    for (number, bytes) in proven(&key).iter().enumerate() {
        let (mut forged, mut unproven) = (0, 0);
        for bit in 0..bytes.len() * 8 {
            let mut bent = bytes.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            let error = open_real(&bent).err().unwrap_or_else(|| panic!("bit {bit} of proof {number} was flipped and it opened"));
            forged += usize::from(matches!(error, RecordError::Forged { .. }));
            unproven += usize::from(matches!(error, RecordError::Unproven { .. }));
        }
        // Not the parser alone refuses: the signature does, and the path does. The last of five has one step to the top.
        assert!(forged >= 512 && unproven >= 256, "proof {number}: {forged} forged, {unproven} unproven");
    }
}

#[test]
fn a_receipt_under_the_wrong_root_leaf_or_issuer_is_refused() {
    let (honest, other) = (key(1), key(2));
    let issuer = id(&honest);
    let parts = |bytes: &Vec<u8>| decode::<Proof>(bytes).expect("a proof");
    let mine: Vec<Proof> = proven(&honest).iter().map(parts).collect();
    let theirs: Vec<Proof> = proven(&other).iter().map(parts).collect();
    let judge = |proof: Proof| open_real(&encode(&proof));
    assert_eq!(judge(mine[1].clone()), Ok(issuer));
    let wrong_root = Proof { root: theirs[1].root.clone(), ..mine[1].clone() };
    assert_eq!(judge(wrong_root), Err(RecordError::Unproven { issuer: id(&other) }));
    let wrong_leaf = Proof { receipt: mine[2].receipt.clone(), ..mine[1].clone() };
    assert_eq!(judge(wrong_leaf), Err(RecordError::Unproven { issuer }));
    let wrong_number = Proof { index: 0, ..mine[1].clone() };
    assert_eq!(judge(wrong_number), Err(RecordError::Unproven { issuer }));
    let beyond = Proof { index: 5, ..mine[4].clone() };
    assert_eq!(judge(beyond), Err(RecordError::Unproven { issuer }));
    let short = Proof { path: mine[1].path[1..].to_vec(), ..mine[1].clone() };
    assert_eq!(judge(short), Err(RecordError::Unproven { issuer }));
    let long = Proof { path: [&mine[1].path[..], &mine[1].path[..1]].concat(), ..mine[1].clone() };
    assert_eq!(judge(long), Err(RecordError::Unproven { issuer }));
    // One who signs a tree over another's receipts proves nothing by it.
    let stolen = proofs_by(issuer, &other);
    assert_eq!(open_real(&stolen[0]), Err(RecordError::Unproven { issuer: id(&other) }));
    // And who says that it is the other's root cannot sign it.
    let forged = proofs(issuer, |payload| other.sign(payload).to_bytes());
    assert_eq!(open_real(&forged[0]), Err(RecordError::Forged { issuer }));
}

/// Receipts of `issuer`, below a root of `signer`.
fn proofs_by(issuer: NodeId, signer: &SigningKey) -> Vec<Vec<u8>> {
    let (cid, bytes) = address(&receipt(issuer));
    prove(id(signer), &[(cid, &bytes)], |payload| signer.sign(payload).to_bytes())
}

#[test]
fn the_root_of_a_tree_cannot_be_had_from_a_node_inside_another() {
    // A receipt that looks like two hashes side by side would be a node below another: the prefixes forbid it.
    let key = key(1);
    let all = proven(&key);
    let proof: Proof = decode(&all[0]).expect("a proof");
    let root = opened::<Root>(&proof.root).expect("a root");
    let smaller = Root { size: 2, ..(*root).clone() };
    let path = vec![proof.path[2].clone()];
    let claimed = Proof { path, root: ByteBuf::from(sealed(&smaller, &key)), ..proof };
    assert_eq!(open_real(&encode(&claimed)), Err(RecordError::Unproven { issuer: id(&key) }));
}

#[test]
fn the_signature_check_is_what_decides() {
    // The one who checks is asked exactly once, about the issuer and the very bytes that follow the signature.
    let key = key(1);
    let bytes = sealed(&session(id(&key)), &key);
    let mut asked = Vec::new();
    let verdict = open::<Session>(&bytes, |issuer, payload, signature| {
        asked.push((*issuer, payload.to_vec(), *signature));
        false
    });
    assert_eq!(verdict, Err(RecordError::Forged { issuer: id(&key) }));
    let [(issuer, payload, signature)] = &asked[..] else { panic!("asked {} times", asked.len()) };
    assert_eq!((*issuer, &payload[..], &signature[..]), (id(&key), &bytes[67..], &bytes[3..67]));
}

fn at(seconds_later: i64) -> Now {
    Now { unix_ms: NOW.unix_ms.wrapping_add_signed(seconds_later * 1000), ..NOW }
}

#[test]
fn a_session_is_for_one_stream_and_one_minute() {
    let (peer, me) = (node(1), node(2));
    let token = session(peer);
    assert_eq!(token.check(peer, me, NOW), Ok(()));
    assert_eq!(token.check(node(3), me, NOW), Err(SessionError::NotThePeer { issuer: peer }));
    assert_eq!(token.check(peer, node(3), NOW), Err(SessionError::NotForMe { audience: me }));
    let other_subject = Session { sub: node(3), ..token.clone() };
    assert_eq!(other_subject.check(peer, me, NOW), Err(SessionError::NotForMe { audience: me }));
    let other_command = Session { cmd: "/timerose/other".into(), ..token.clone() };
    assert_eq!(other_command.check(peer, me, NOW), Err(SessionError::UnknownCommand));
    let delegated = Session { prf: vec![cid("proof")], ..token.clone() };
    assert_eq!(delegated.check(peer, me, NOW), Err(SessionError::UnknownCommand));
}

#[test]
fn an_old_session_and_one_for_too_long_are_refused() {
    let (peer, me) = (node(1), node(2));
    let token = session(peer);
    // A minute, and half a minute for clocks that differ.
    assert_eq!(token.check(peer, me, at(90)), Ok(()));
    assert_eq!(token.check(peer, me, at(91)), Err(SessionError::Expired { exp: token.exp }));
    assert_eq!(token.check(peer, me, at(-30)), Ok(()));
    assert_eq!(token.check(peer, me, at(-31)), Err(SessionError::Expired { exp: token.exp }));
    // A peer says what it likes, and a clock shows what it likes: neither may overflow.
    for (exp, unix_ms) in [(u64::MAX, NOW.unix_ms), (0, u64::MAX), (u64::MAX, u64::MAX), (0, 0)] {
        let token = Session { exp, ..token.clone() };
        let verdict = token.check(peer, me, Now { unix_ms, ..NOW });
        assert_eq!(verdict.is_ok(), (exp, unix_ms) == (0, 0), "exp {exp} at {unix_ms}");
    }
}

#[test]
fn a_delegation_is_for_one_key_and_gives_what_is_the_issuers_own() {
    let (issuer, holder) = (node(1), node(3));
    let good = delegation(issuer, holder);
    assert_eq!(good.check(holder, NOW), Ok(()));
    assert_eq!(good.check(node(4), NOW), Err(DelegationError::NotTheHolder { audience: holder }));
    let lent_on = Delegation { sub: node(2), ..good.clone() };
    assert_eq!(lent_on.check(holder, NOW), Err(DelegationError::LentOn { owner: node(2) }));
    let more = Delegation { cmd: "/".into(), ..good.clone() };
    assert_eq!(more.check(holder, NOW), Err(DelegationError::UnknownRight));
    let under_conditions = Delegation { pol: vec!["==".into()], ..good.clone() };
    assert_eq!(under_conditions.check(holder, NOW), Err(DelegationError::UnknownRight));
}

#[test]
fn a_delegation_is_good_for_a_day_and_for_no_longer() {
    let (day, holder) = (GOOD_SECONDS as i64, node(3));
    let good = delegation(node(1), holder);
    let expired = Err(DelegationError::Expired { exp: good.exp });
    assert_eq!([at(day + 30), at(-30)].map(|now| good.check(holder, now)), [Ok(()); 2]);
    assert_eq!([at(day + 31), at(-31)].map(|now| good.check(holder, now)), [expired; 2]);
    let later = |seconds: u64| Delegation { nbf: Some(NOW.unix_ms / 1000 + seconds), ..good.clone() };
    assert_eq!([later(30), later(31)].map(|lent| lent.check(holder, NOW)), [Ok(()), expired]);
    for (exp, unix_ms) in [(u64::MAX, NOW.unix_ms), (0, u64::MAX), (u64::MAX, u64::MAX)] {
        assert!(Delegation { exp, ..good.clone() }.check(holder, Now { unix_ms, ..NOW }).is_err(), "exp {exp} at {unix_ms}");
    }
}
