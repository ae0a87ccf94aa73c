//! The task protocol on the wire: every stream opens with a session, every later frame is a message of that peer.
//!
//! All of it runs on the task of the connection, so that signatures and foreign CBOR never reach the loop.

use bytes::Bytes;
use libp2p::{PeerId, StreamProtocol};
use timerose_content::frames::{Codec, Config};
use timerose_core::capability::{Advert, Session};
use timerose_core::id::NodeId;
use timerose_core::io::Memo;
use timerose_core::message::{FRAME_MAX, Frame, Message};
use timerose_core::record::Verified;

use crate::keys::{Keys, node_of, open_memo, open_verified, wall_clock};

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
    /// Receipts whose signatures are right, and the question that they answer.
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
    /// This node's key.
    pub keys: Keys,
}

impl Codec for TaskCodec {
    type In = Heard;

    fn opening(&self, peer: &PeerId) -> Option<Bytes> {
        node_of(peer).map(|node| self.keys.session(node).into())
    }

    fn decode(&self, peer: &PeerId, first: bool, frame: Bytes) -> Result<Option<Heard>, String> {
        let node = node_of(peer).ok_or("its key is not Ed25519")?;
        if first {
            let session = open_verified::<Session>(&frame).map_err(|e| format!("session refused: {e}"))?;
            session.check(node, self.keys.id(), wall_clock()).map_err(|e| format!("session refused: {e}"))?;
            return Ok(None);
        }
        match Frame::decode(&frame).map_err(|e| format!("message refused: {e}"))? {
            Frame::Message(message) => Ok(Some(Heard::Message(node, message))),
            Frame::Receipts { query, sealed } => {
                let receipts: Option<Vec<Memo>> = sealed.iter().map(|bytes| open_memo(bytes)).collect();
                let receipts = receipts.ok_or_else(|| "receipt refused: forged or malformed".to_string())?;
                Ok(Some(Heard::Receipts(node, query, receipts)))
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
        let codec = TaskCodec { keys: bob.clone() };
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
        let codec = TaskCodec { keys: bob.clone() };
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
        let codec = TaskCodec { keys: bob };
        let advert = Advert {
            iss: alice.id(),
            addrs: vec![],
            epoch: 1,
            seq: 1,
            roles: vec![],
            engines: vec![],
            offers: Default::default(),
            region: String::new(),
        };
        let frame = |sealed: Vec<u8>| Bytes::from(Frame::Adverts(vec![serde_bytes::ByteBuf::from(sealed)]).encode());
        assert!(codec.decode(&peer(&eve), false, frame(alice.seal(&advert))).is_ok(), "an advert may be passed on");
        let Err(why) = codec.decode(&peer(&eve), false, frame(eve.seal(&advert))) else { panic!("a forged advert was taken") };
        assert!(why.contains("forged") && why.contains(&alice.id().to_string()), "{why}");
    }

    #[test]
    fn a_receipt_may_be_passed_on_and_its_key_is_computed_here() {
        let (alice, bob, eve) = (keys(), keys(), keys());
        let codec = TaskCodec { keys: bob };
        let task = Task { function: cid_of(RAW, b"function"), entry: String::new(), args: vec![], seq: 0 };
        let out = Ok(cid_of(RAW, b"result"));
        let receipt = Receipt { iss: alice.id(), ran: task.id(&eve.id()), task, out, size: 6, meta: Usage::default(), at: 1 };
        let frame = |sealed: Vec<u8>| Bytes::from(Frame::Receipts { query: 3, sealed: vec![sealed.into()] }.encode());
        let heard = codec.decode(&peer(&eve), false, frame(alice.seal(&receipt))).expect("good");
        let Some(Heard::Receipts(from, 3, receipts)) = heard else { panic!("receipts") };
        assert_eq!((from, receipts[0].key), (eve.id(), receipt.task.memo_key()));
        let Err(why) = codec.decode(&peer(&eve), false, frame(eve.seal(&receipt))) else { panic!("a forged one was taken") };
        assert!(why.contains("receipt refused"), "{why}");
    }
}
