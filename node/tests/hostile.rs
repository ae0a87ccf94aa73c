//! A peer that forges, steals, garbles or truncates is refused and named, and the node goes on.

use bytes::Bytes;
use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId, StreamProtocol, SwarmBuilder, noise, tcp, yamux};
use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};
use timerose_content::exchange::wire::{Bitswap, MAX_MESSAGE, Message as Exchanged, PROTOCOL};
use timerose_content::frames::{self, Codec, Config as Frames, Event};
use timerose_content::{Block, RAW, cid_v1};
use timerose_core::capability::Session;
use timerose_core::id::{NodeId, Now};
use timerose_core::message::{Frame, Message};
use timerose_core::record::seal;

mod common;

use common::node;

/// What the node logs, for all tests of this file: a hostile peer's name is looked for in it.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("the log").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The log of this process.
    fn get() -> &'static Log {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Log::default();
            let writer = log.clone();
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
            log
        })
    }

    /// Waits until a line names the peer and says why.
    async fn wait_for(&self, peer: &PeerId, why: &str) {
        for _ in 0..600 {
            let text = String::from_utf8_lossy(&self.0.lock().expect("the log")).into_owned();
            if text.lines().any(|line| line.contains(&peer.to_string()) && line.contains(why)) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("no line names {peer} for {why:?}:\n{}", String::from_utf8_lossy(&self.0.lock().expect("the log")));
    }
}

/// Sends the frames that it is given, whatever they are.
struct Rogue {
    opening: Bytes,
}

impl Codec for Rogue {
    type In = Bytes;
    fn opening(&self, _: &PeerId) -> Option<Bytes> {
        Some(self.opening.clone())
    }
    fn decode(&self, _: &PeerId, first: bool, frame: Bytes) -> Result<Option<Bytes>, String> {
        Ok((!first).then_some(frame))
    }
}

/// Connects to a node as `keys`, opens a stream with `opening` and sends `frame` on it; gives what the node says.
async fn attack(keys: &Keypair, to: Multiaddr, opening: Vec<u8>, frame: Vec<u8>) -> tokio::sync::mpsc::Receiver<Event<Bytes>> {
    let config = Frames {
        protocol: StreamProtocol::new("/timerose/task/1"),
        max_frame: 1 << 20,
        max_inbound_streams: 4,
        queue: 16,
        events: 16,
    };
    let (sender, mut events) = connect(keys, to, config, Rogue { opening: opening.into() }).await;
    let Some(Event::Connected { peer }) = events.recv().await else { panic!("not connected") };
    sender.try_send(&peer, frame.into()).expect("queued");
    events
}

/// Connects to a node as `keys` and speaks one protocol by hand.
async fn connect<C: Codec>(
    keys: &Keypair,
    to: Multiaddr,
    config: Frames,
    codec: C,
) -> (frames::Sender, tokio::sync::mpsc::Receiver<Event<C::In>>) {
    let (behaviour, sender, events) = frames::new(config, Arc::new(codec));
    let mut swarm = SwarmBuilder::with_existing_identity(keys.clone())
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .expect("a transport")
        .with_behaviour(|_| behaviour)
        .expect("a behaviour")
        .with_swarm_config(|c| c.with_idle_connection_timeout(std::time::Duration::from_secs(60)))
        .build();
    swarm.dial(to).expect("dialled");
    tokio::spawn(async move { while swarm.next().await.is_some() {} });
    (sender, events)
}

fn node_id(keys: &Keypair) -> NodeId {
    NodeId(keys.public().try_into_ed25519().expect("Ed25519").to_bytes())
}

fn session(keys: &Keypair, to: NodeId) -> Vec<u8> {
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    let session = Session::new(node_id(keys), to, Now { monotonic_us: 0, unix_ms }, vec![1]);
    seal(&session, |bytes| keys.sign(bytes).expect("signed").try_into().expect("64 bytes"))
}

fn question() -> Vec<u8> {
    Frame::Message(Message::Renew { lease: 7 }).encode()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_session_is_answered() {
    let dir = tempfile::tempdir().expect("a folder");
    let (running, id, addr) = node(&dir).await;
    let keys = Keypair::generate_ed25519();
    let mut events = attack(&keys, addr, session(&keys, id), question()).await;
    loop {
        let Some(event) = events.recv().await else { panic!("cut off") };
        if let Event::Message { message, .. } = event
            && let Ok(Frame::Message(answer)) = Frame::decode(&message)
        {
            assert_eq!(answer, Message::Unknown { lease: 7 });
            break;
        }
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_session_is_refused_and_named() {
    let log = Log::get();
    let dir = tempfile::tempdir().expect("a folder");
    let (running, id, addr) = node(&dir).await;
    let keys = Keypair::generate_ed25519();
    let mut forged = session(&keys, id);
    forged[20] ^= 1;
    let _events = attack(&keys, addr, forged, question()).await;
    log.wait_for(&keys.public().to_peer_id(), "forged").await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_session_is_refused_and_named() {
    let log = Log::get();
    let dir = tempfile::tempdir().expect("a folder");
    let (running, id, addr) = node(&dir).await;
    let (alice, eve) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let _events = attack(&eve, addr, session(&alice, id), question()).await;
    log.wait_for(&eve.public().to_peer_id(), "not the peer").await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_message_is_refused_and_named_and_the_next_stream_is_heard() {
    let log = Log::get();
    let dir = tempfile::tempdir().expect("a folder");
    let (running, id, addr) = node(&dir).await;
    let keys = Keypair::generate_ed25519();
    let mut truncated = question();
    truncated.pop();
    let _events = attack(&keys, addr.clone(), session(&keys, id), truncated).await;
    log.wait_for(&keys.public().to_peer_id(), "message refused").await;
    let honest = Keypair::generate_ed25519();
    let mut events = attack(&honest, addr, session(&honest, id), question()).await;
    while !matches!(events.recv().await, Some(Event::Message { .. })) {}
    running.stop().await;
}

/// Asks a node's API for the bytes of a CID; gives the whole answer.
async fn cat(api: std::net::SocketAddr, cid: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(api).await.expect("connected");
    let request = format!("GET /v1/cat/{cid} HTTP/1.1\r\nhost: {api}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_block_for_a_cid_is_not_taken_and_its_sender_is_named() {
    let log = Log::get();
    let dir = tempfile::tempdir().expect("a folder");
    let (running, _, addr) = node(&dir).await;
    let liar = Keypair::generate_ed25519();
    let config = Frames { protocol: PROTOCOL, max_frame: MAX_MESSAGE, max_inbound_streams: 8, queue: 16, events: 16 };
    let (sender, mut events) = connect(&liar, addr, config, Bitswap).await;
    let lying = tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if let Event::Message { peer, message } = event
                && message.wants.iter().any(|want| !want.is_cancel())
            {
                let wrong = Block::encode(RAW, Bytes::from_static(b"a lie")).expect("a block");
                let answer = Exchanged { blocks: vec![wrong], ..Exchanged::default() };
                // A liar that was cut off has nobody left to lie to.
                let _ = sender.send(&peer, answer.encode()).await;
            }
        }
    });
    let wanted = cid_v1(RAW, b"the truth");
    // A connection that the node does not know yet is not asked.
    let answer = loop {
        let answer = cat(running.api, &wanted.to_string()).await;
        if !answer.contains("\"asked\":0") {
            break answer;
        }
    };
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("NotFound") && !answer.contains("a lie"), "{answer}");
    log.wait_for(&liar.public().to_peer_id(), "other blocks than those it was asked for").await;
    // From here on the liar says nothing, not even what it has.
    lying.abort();
    let lie = cat(running.api, &cid_v1(RAW, b"a lie").to_string()).await;
    assert!(!lie.starts_with("HTTP/1.1 200"), "what nobody asked for was kept: {lie}");
    running.stop().await;
}
