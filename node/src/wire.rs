//! The task protocol on the wire: every stream opens with a session, every later frame is a message of that peer.
//!
//! All of it runs on the task of the connection, so that signatures and foreign CBOR never reach the loop.

use bytes::Bytes;
use libp2p::{PeerId, StreamProtocol};
use std::sync::Arc;
use timerose_content::frames::{Codec, Config};
use timerose_core::capability::{Advert, Session};
use timerose_core::id::NodeId;
use timerose_core::io::Memo;
use timerose_core::message::{FRAME_MAX, Frame, Message};
use timerose_core::record::Verified;

use crate::keys::{Keys, Roots, node_of, open_verified, wall_clock};
use crate::ports::Counters;

/// The protocol's name; its number is the version of the messages.
const PROTOCOL: StreamProtocol = StreamProtocol::new("/timerose/task/1");
/// Streams that one peer may have open to this node: one is in use, another may take its place.
const STREAMS_MAX: usize = 8;
/// Frames that wait for one peer.
const QUEUE: usize = 256;
/// What peers said and waits for the loop: of the largest size it is 16 MiB.
const EVENTS: usize = 32;

/// What a peer said, as far as it was checked.
pub(crate) enum Heard {
    /// Adverts whose signatures are right.
    Adverts(NodeId, Vec<Verified<Advert>>),
    /// Receipts whose proofs are right, and the question that they answer.
    Receipts(NodeId, u64, Vec<Memo>),
    /// A message.
    Message(NodeId, Message),
}

/// The bounds of the protocol.
pub(crate) fn config() -> Config {
    Config { protocol: PROTOCOL, max_frame: FRAME_MAX, max_inbound_streams: STREAMS_MAX, queue: QUEUE, events: EVENTS }
}

/// Opens streams with this node's sessions, and judges what peers send.
pub(crate) struct TaskCodec {
    keys: Keys,
    roots: Roots,
    counters: Arc<Counters>,
}

impl TaskCodec {
    /// The codec of the node with this key.
    pub fn new(keys: Keys, counters: Arc<Counters>) -> TaskCodec {
        TaskCodec { keys, roots: Roots::default(), counters }
    }
}

impl Codec for TaskCodec {
    type In = Heard;

    fn opening(&self, peer: &PeerId) -> Option<Bytes> {
        node_of(peer).map(|node| self.keys.session(node).into())
    }

    fn decode(&self, peer: &PeerId, first: bool, frame: Bytes) -> Result<Option<Heard>, String> {
        Counters::add(&self.counters.message_bytes_in, frame.len());
        let node = node_of(peer).ok_or("its key is not Ed25519")?;
        if first {
            let session = open_verified::<Session>(&frame).map_err(|e| format!("session refused: {e}"))?;
            session.check(node, self.keys.id(), wall_clock()).map_err(|e| format!("session refused: {e}"))?;
            return Ok(None);
        }
        match Frame::decode(&frame).map_err(|e| format!("message refused: {e}"))? {
            Frame::Message(message) => Ok(Some(Heard::Message(node, message))),
            Frame::Receipts { query, sealed } => {
                let receipts: Result<Vec<Memo>, _> = sealed.iter().map(|bytes| self.roots.open(bytes)).collect();
                receipts.map(|receipts| Some(Heard::Receipts(node, query, receipts))).map_err(|e| format!("receipt refused: {e}"))
            }
            Frame::Adverts(sealed) => {
                let adverts: Result<Vec<_>, _> = sealed.iter().map(|bytes| open_verified::<Advert>(bytes)).collect();
                adverts.map(|adverts| Some(Heard::Adverts(node, adverts))).map_err(|e| format!("advert refused: {e}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::identity::ed25519;
    use timerose_core::id::{RAW, cid_of};
    use timerose_core::proof::prove;
    use timerose_core::record::address;
    use timerose_core::task::{Receipt, Task, Usage};

    fn keys() -> Keys {
        Keys::from(ed25519::Keypair::generate())
    }

    fn peer(keys: &Keys) -> PeerId {
        keys.keypair().public().to_peer_id()
    }

    #[test]
    fn a_session_opens_the_stream_that_it_was_made_for_and_no_other() {
        let (alice, bob, eve) = (keys(), keys(), keys());
        let codec = TaskCodec::new(bob.clone(), Arc::default());
        let judge = |from: &Keys, frame: Vec<u8>| codec.decode(&peer(from), true, frame.into()).map(|_| ());
        assert_eq!(judge(&alice, alice.session(bob.id())), Ok(()));
        let why = judge(&eve, alice.session(bob.id())).expect_err("stolen");
        assert!(why.contains("not the peer") && why.contains(&alice.id().to_string()), "{why}");
        let why = judge(&alice, alice.session(eve.id())).expect_err("for another");
        assert!(why.contains("meant for"), "{why}");
    }

    #[test]
    fn a_session_with_any_bit_changed_is_refused() {
        let (alice, bob) = (keys(), keys());
        let codec = TaskCodec::new(bob.clone(), Arc::default());
        let token = alice.session(bob.id());
        for bit in 0..token.len() * 8 {
            let mut forged = token.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(codec.decode(&peer(&alice), true, forged.into()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn an_advert_that_somebody_else_signed_is_refused_and_named() {
        let (alice, bob, eve) = (keys(), keys(), keys());
        let codec = TaskCodec::new(bob, Arc::default());
        let advert = Advert {
            iss: alice.id(),
            addrs: vec![],
            epoch: 1,
            seq: 1,
            roles: vec![],
            engines: vec![],
            offers: Default::default(),
            region: String::new(),
            left: false,
        };
        let frame = |sealed: Vec<u8>| Bytes::from(Frame::Adverts(vec![serde_bytes::ByteBuf::from(sealed)]).encode());
        assert!(codec.decode(&peer(&eve), false, frame(alice.seal(&advert))).is_ok(), "an advert may be passed on");
        let Err(why) = codec.decode(&peer(&eve), false, frame(eve.seal(&advert))) else { panic!("a forged advert was taken") };
        assert!(why.contains("forged") && why.contains(&alice.id().to_string()), "{why}");
    }

    /// Proofs of receipts of `of`, below a root that `by` signed.
    fn proofs(of: NodeId, by: &Keys) -> Vec<Vec<u8>> {
        let task = Task { function: cid_of(RAW, b"function"), entry: String::new(), args: vec![], seq: 0 };
        let receipts: Vec<_> = (0..3)
            .map(|at| {
                let (ran, out) = (task.id(&of), Ok(cid_of(RAW, b"result")));
                address(&Receipt { iss: of, ran, task: task.clone(), out, size: 6, meta: Usage::default(), at })
            })
            .collect();
        prove(by.id(), &receipts.iter().map(|(cid, bytes)| (*cid, &bytes[..])).collect::<Vec<_>>(), |root| by.sign(root))
    }

    fn told(sealed: &[Vec<u8>]) -> Bytes {
        let sealed = sealed.iter().cloned().map(serde_bytes::ByteBuf::from).collect();
        Frame::Receipts { query: 3, sealed }.encode().into()
    }

    #[test]
    fn a_receipt_may_be_passed_on_and_its_key_is_computed_here() {
        let (alice, bob, eve) = (keys(), keys(), keys());
        let codec = TaskCodec::new(bob, Arc::default());
        let heard = codec.decode(&peer(&eve), false, told(&proofs(alice.id(), &alice))).expect("good");
        let Some(Heard::Receipts(from, 3, receipts)) = heard else { panic!("receipts") };
        assert_eq!((from, receipts.len()), (eve.id(), 3));
        assert!(receipts.iter().all(|memo| memo.key == memo.receipt.task.memo_key() && memo.receipt.iss == alice.id()));
        let Err(why) = codec.decode(&peer(&eve), false, told(&proofs(alice.id(), &eve))) else {
            panic!("a forged one was taken")
        };
        assert!(why.contains("receipt refused") && why.contains(&eve.id().to_string()), "{why}");
    }

    #[test]
    fn a_receipt_with_any_bit_changed_is_refused_also_below_a_root_that_is_known() {
        let (alice, bob, eve) = (keys(), keys(), keys());
        let codec = TaskCodec::new(bob, Arc::default());
        let all = proofs(alice.id(), &alice);
        codec.decode(&peer(&eve), false, told(&all)).expect("good, and the root is known from now on");
        for bit in 0..all[1].len() * 8 {
            let mut forged = all[1].clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(codec.decode(&peer(&eve), false, told(&[forged])).is_err(), "bit {bit}");
        }
    }
}
