//! What makes an envelope of a letter and a letter of an envelope: signatures, curves, ciphers.
//!
//! A letter is sealed to the X25519 form of its recipient's Ed25519 key with a key of its own (ephemeral-static), under
//! ChaCha20-Poly1305. The cipher's key depends on the sender and the recipient as well, so that who signs somebody else's
//! envelope anew has signed nothing that opens. The signature covers everything.

use chacha20poly1305::aead::Aead;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use ed25519_curve::{SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use timerose_core::envelope::{Envelope, EnvelopeError, Opened, Post};
use timerose_core::id::{NodeId, Now};
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};

use crate::keys::{Keys, verifies};

/// Separates these keys from every other use of the same hash.
const DOMAIN: &[u8] = b"timerose/1/envelope";
/// Each cipher key seals one letter, so the nonce may stand still.
const NONCE: [u8; 12] = [0; 12];

/// The sealed and signed envelope of a letter; nothing where the recipient's key is no point of the curve, or the system
/// has no random bytes.
pub(crate) fn seal(keys: &Keys, now: Now, post: &Post) -> Option<Vec<u8>> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).ok()?;
    seal_with(keys, now, post, secret)
}

/// The same with an ephemeral secret that is given.
fn seal_with(keys: &Keys, now: Now, post: &Post, secret: [u8; 32]) -> Option<Vec<u8>> {
    let mut envelope = Envelope::address(keys.id(), now, post);
    envelope.key = x25519(secret, X25519_BASEPOINT_BYTES).to_vec();
    let cipher = cipher(&envelope, agree(secret, public(&post.to)?)?);
    envelope.body = cipher.encrypt(&NONCE.into(), post.bytes().as_slice()).ok()?;
    Some(keys.seal(&envelope))
}

/// Checks and opens an envelope that is said to be for this node.
pub(crate) fn open(keys: &Keys, now: Now, bytes: &[u8]) -> Result<Opened, EnvelopeError> {
    Envelope::open(bytes, keys.id(), now, verifies, |envelope| {
        let theirs: [u8; 32] = envelope.key.as_slice().try_into().ok()?;
        let secret = SigningKey::from_bytes(&keys.secret()).to_scalar_bytes();
        cipher(envelope, agree(secret, theirs)?).decrypt(&NONCE.into(), envelope.body.as_slice()).ok()
    })
}

/// The X25519 form of a node's key.
fn public(node: &NodeId) -> Option<[u8; 32]> {
    let key = VerifyingKey::from_bytes(&node.0).ok().filter(|key| !key.is_weak())?;
    Some(key.to_montgomery().to_bytes())
}

/// What both sides know; nothing where the other's point makes it known to everybody.
fn agree(secret: [u8; 32], theirs: [u8; 32]) -> Option<[u8; 32]> {
    Some(x25519(secret, theirs)).filter(|shared| *shared != [0; 32])
}

fn cipher(envelope: &Envelope, shared: [u8; 32]) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(&derive(envelope, shared).into())
}

/// All inputs have a fixed length, and the digest is a key and never shown: a plain hash is a sound derivation.
fn derive(envelope: &Envelope, shared: [u8; 32]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [DOMAIN, &shared, &envelope.key, &envelope.iss.0, &envelope.to.0] {
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::identity::ed25519;
    use timerose_core::delegation::Delegation;
    use timerose_core::envelope::{Lane, Letter};
    use timerose_core::message::Message;
    use timerose_core::record;

    /// 2027-01-15T08:00:00Z.
    const NOW: Now = Now { monotonic_us: 0, unix_ms: 1_800_000_000_000 };

    fn keys(seed: u8) -> Keys {
        let secret = ed25519::SecretKey::try_from_bytes([seed; 32]).expect("32 bytes");
        Keys::from(ed25519::Keypair::from(secret))
    }

    fn post(to: &Keys) -> Post {
        let letter = Letter { acks: vec![3], message: Some(Message::Grant { lease: 7 }), delegation: None };
        Post { to: to.id(), lane: Lane::Replies, epoch: 1, life: 2, seq: 4, letter }
    }

    #[test]
    fn a_letter_is_read_by_its_recipient_and_by_nobody_else() {
        let (alice, bob, eve) = (keys(1), keys(2), keys(3));
        let bytes = seal(&alice, NOW, &post(&bob)).expect("sealed");
        let opened = open(&bob, NOW, &bytes).expect("opened");
        assert_eq!((opened.from(), opened.epoch(), opened.life(), opened.seq()), (alice.id(), 1, 2, 4));
        assert_eq!(opened.into_letter(), post(&bob).letter);
        assert_eq!(open(&eve, NOW, &bytes), Err(EnvelopeError::NotForMe { to: bob.id() }));
        // Whoever listens has no part of the letter, and a second envelope of the same letter has nothing in common.
        let letter = post(&bob).bytes();
        assert!(!bytes.windows(12).any(|window| letter.windows(12).any(|plain| plain == window)));
        let again = seal(&alice, NOW, &post(&bob)).expect("sealed");
        let bodies = [&bytes, &again].map(|bytes| Envelope::peek(bytes).expect("an envelope"));
        assert!(bodies[0].key != bodies[1].key && bodies[0].body != bodies[1].body);
    }

    #[test]
    fn an_envelope_with_any_bit_changed_is_refused() {
        let (alice, bob) = (keys(1), keys(2));
        let bytes = seal(&alice, NOW, &post(&bob)).expect("sealed");
        for bit in 0..bytes.len() * 8 {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&bob, NOW, &forged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn who_signs_anothers_envelope_anew_or_readdresses_it_is_refused_and_named() {
        let (alice, bob, eve) = (keys(1), keys(2), keys(3));
        let good = Envelope::peek(&seal(&alice, NOW, &post(&bob)).expect("sealed")).expect("an envelope");
        let stolen = eve.seal(&Envelope { iss: eve.id(), ..good.clone() });
        assert_eq!(open(&bob, NOW, &stolen), Err(EnvelopeError::Unreadable { issuer: eve.id() }));
        // Eve signs, and says that it was Alice.
        let forged = eve.seal(&good);
        let why = EnvelopeError::Record(record::RecordError::Forged { issuer: alice.id() });
        assert_eq!(open(&bob, NOW, &forged), Err(why));
        let mine = alice.seal(&Envelope { to: eve.id(), ..good });
        assert_eq!(open(&eve, NOW, &mine), Err(EnvelopeError::Unreadable { issuer: alice.id() }));
    }

    #[test]
    fn an_envelope_is_good_for_a_minute_and_the_skew_of_clocks() {
        let (alice, bob) = (keys(1), keys(2));
        let bytes = seal(&alice, NOW, &post(&bob)).expect("sealed");
        let at = |seconds: i64| Now { unix_ms: NOW.unix_ms.saturating_add_signed(seconds * 1000), ..NOW };
        assert!(open(&bob, at(90), &bytes).is_ok() && open(&bob, at(-30), &bytes).is_ok());
        for seconds in [91, -31, 86_400] {
            assert!(matches!(open(&bob, at(seconds), &bytes), Err(EnvelopeError::Expired { .. })), "{seconds}");
        }
    }

    #[test]
    fn points_that_make_the_secret_known_to_all_are_refused() {
        let (alice, bob) = (keys(1), keys(2));
        let good = Envelope::peek(&seal(&alice, NOW, &post(&bob)).expect("sealed")).expect("an envelope");
        let low = alice.seal(&Envelope { key: vec![0; 32], ..good });
        assert_eq!(open(&bob, NOW, &low), Err(EnvelopeError::Unreadable { issuer: alice.id() }));
        // The neutral element, as somebody's key.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        assert!(seal(&alice, NOW, &Post { to: NodeId(neutral), ..post(&bob) }).is_none());
    }

    #[test]
    fn a_delegation_comes_verified_with_its_letter_and_one_with_any_bit_changed_spoils_it() {
        let (page, bob, issuer) = (keys(1), keys(2), keys(3));
        let lent = Delegation::new(issuer.id(), page.id(), NOW, vec![7; 12]);
        let sealed = issuer.seal(&lent);
        let with = |delegation: Vec<u8>| {
            let letter = Letter { delegation: Some(delegation.into()), ..post(&bob).letter };
            seal(&page, NOW, &Post { letter, ..post(&bob) }).expect("sealed")
        };
        assert_eq!(open(&bob, NOW, &with(sealed.clone())).expect("opened").delegation(), Some(&lent));
        for bit in 0..sealed.len() * 8 {
            let mut forged = sealed.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(open(&bob, NOW, &with(forged)), Err(EnvelopeError::Record(_))), "bit {bit}");
        }
        let own = page.seal(&lent);
        let forged = record::RecordError::Forged { issuer: issuer.id() };
        assert_eq!(open(&bob, NOW, &with(own)), Err(EnvelopeError::Record(forged)));
    }

    #[test]
    fn sealing_has_the_bytes_of_the_fixture() {
        let bytes = seal_with(&keys(1), NOW, &post(&keys(2)), [9; 32]).expect("sealed");
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        // A change of it is a change of the wire: nodes of two versions would not read each other.
        assert_eq!(hex, include_str!("../../fixtures/envelope.txt").trim());
        assert!(open(&keys(2), NOW, &bytes).is_ok());
    }

    #[test]
    fn the_worked_example_of_the_book_is_what_a_node_does() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let (alice, bob, secret) = (keys(1), keys(2), [9; 32]);
        let sealed = seal_with(&alice, NOW, &post(&bob), secret).expect("sealed");
        let envelope = Envelope::peek(&sealed).expect("an envelope");
        let (theirs, shared) = (public(&bob.id()).expect("a point"), agree(secret, public(&bob.id()).expect("a point")));
        let shared = shared.expect("a secret");
        let steps = [
            ("sender", alice.id().to_string()),
            ("recipient", bob.id().to_string()),
            ("recipient's X25519 key", hex(&theirs)),
            ("ephemeral X25519 key", hex(&envelope.key)),
            ("shared secret", hex(&shared)),
            ("cipher key", hex(&derive(&envelope, shared))),
            ("letter", hex(&post(&bob).bytes())),
            ("body", hex(&envelope.body)),
            ("signature", hex(&sealed[3..67])),
            ("envelope", hex(&sealed)),
        ];
        let example = steps.map(|(step, value)| format!("{step}:\n{value}\n")).concat();
        assert!(include_str!("../../../docs/pubsub.md").contains(&example), "the example in docs/pubsub.md should be\n{example}");
    }
}
