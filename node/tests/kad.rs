//! Whatever a peer says in Kademlia's protocol, asked or asking, the node goes on and answers others.
//!
//! The corpus has one message of each kind, in the protobuf of the libp2p specification of Kademlia. Each goes as it is and
//! with many mutations: as a request to a node, and as the answer to what a node asks.

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::request_response::{self, Event, Message, ProtocolSupport};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify, noise, tcp, yamux};
use std::io;
use std::path::Path;

mod common;

use common::node;

const KAD: StreamProtocol = StreamProtocol::new("/ipfs/lan/kad/1.0.0");
/// Mutations of each message of the corpus under each seed.
const ROUNDS: usize = 40;
/// Look-ups that are answered with mutations.
const LOOK_UPS: u32 = 60;

/// The corpus, by name.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut paths: Vec<_> = std::fs::read_dir(dir).expect("the corpus").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).expect("text");
        let digits = text.trim().as_bytes().chunks(2);
        let bytes = digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex"));
        (path.file_stem().expect("a name").to_string_lossy().into_owned(), bytes.collect())
    };
    paths.iter().map(read).collect()
}

/// With its length before it, as the protocol has messages.
fn framed(message: &[u8]) -> Vec<u8> {
    let (mut frame, mut left) = (Vec::new(), message.len());
    while left > 0x7f {
        frame.push(left as u8 | 0x80);
        left >>= 7;
    }
    frame.push(left as u8);
    frame.extend_from_slice(message);
    frame
}

/// A frame of the corpus with some bytes changed, missing or new; in one of eight the length is among them.
fn mutated(rng: &mut fastrand::Rng, message: &[u8]) -> Vec<u8> {
    let mut bytes = message.to_vec();
    let mutate = |rng: &mut fastrand::Rng, bytes: &mut Vec<u8>| {
        let at = rng.usize(..=bytes.len());
        match rng.u8(..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(..8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.usize(..5)],
            2 => bytes.truncate(at),
            3 => bytes.insert(at, rng.u8(..)),
            4 => bytes.extend_from_within(at..),
            _ => {
                let end = bytes.len().min(at + 9);
                bytes[at..end].fill(0xff);
            }
        }
    };
    (0..rng.usize(1..4)).for_each(|_| mutate(rng, &mut bytes));
    let mut frame = framed(&bytes);
    if rng.u8(..8) == 0 {
        mutate(rng, &mut frame);
    }
    frame
}

/// Bytes as they are, one message in each direction.
#[derive(Clone, Default)]
struct Raw;

/// The most bytes of an answer that are looked at.
const ANSWER_MAX: u64 = 64 * 1024;

impl request_response::Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>> {
        // Who asks keeps its side open: a message is as long as its head says, which fits a byte for what a look-up asks.
        let mut head = [0];
        io.read_exact(&mut head).await?;
        let mut message = vec![0; usize::from(head[0])];
        io.read_exact(&mut message).await?;
        Ok(message)
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>> {
        let mut answer = Vec::new();
        io.take(ANSWER_MAX).read_to_end(&mut answer).await?;
        Ok(answer)
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&request).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, response: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&response).await
    }
}

#[derive(NetworkBehaviour)]
struct Rogue {
    identify: identify::Behaviour,
    kad: request_response::Behaviour<Raw>,
}

/// A peer that speaks Kademlia by hand and listens on loopback.
fn rogue() -> Swarm<Rogue> {
    let mut swarm = SwarmBuilder::with_existing_identity(Keypair::generate_ed25519())
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .expect("a transport")
        .with_behaviour(|keys| Rogue {
            identify: identify::Behaviour::new(identify::Config::new("/ipfs/id/1.0.0".into(), keys.public())),
            kad: request_response::Behaviour::new([(KAD, ProtocolSupport::Full)], request_response::Config::default()),
        })
        .expect("a behaviour")
        .with_swarm_config(|c| c.with_idle_connection_timeout(std::time::Duration::from_secs(60)))
        .build();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().expect("a multiaddr")).expect("listening");
    swarm
}

fn peer_of(addr: &Multiaddr) -> PeerId {
    let Some(Protocol::P2p(id)) = addr.iter().last() else { panic!("{addr} names nobody") };
    id
}

/// Sends a request and gives the answer, of which a refusal is one.
async fn ask(rogue: &mut Swarm<Rogue>, to: PeerId, frame: Vec<u8>) -> Option<Vec<u8>> {
    let sent = rogue.behaviour_mut().kad.send_request(&to, frame);
    loop {
        match rogue.select_next_some().await {
            SwarmEvent::Behaviour(RogueEvent::Kad(Event::Message {
                message: Message::Response { request_id, response },
                ..
            })) if request_id == sent => return Some(response),
            SwarmEvent::Behaviour(RogueEvent::Kad(Event::OutboundFailure { request_id, .. })) if request_id == sent => {
                return None;
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_survives_whatever_it_is_asked_and_answers_what_is_right() {
    let dir = tempfile::tempdir().expect("a folder");
    let (running, _, addr) = node(&dir).await;
    let id = peer_of(&addr);
    let mut rogue = rogue();
    rogue.dial(addr.clone()).expect("dialled");
    while !matches!(rogue.select_next_some().await, SwarmEvent::ConnectionEstablished { .. }) {}
    let corpus = corpus();
    let (mut answers, mut asked) = (0, 0);
    for (_, message) in &corpus {
        answers += usize::from(ask(&mut rogue, id, framed(message)).await.is_some_and(|answer| !answer.is_empty()));
    }
    assert!(answers >= 3, "providers, nodes and values are answered: {answers}");
    for seed in [1, fastrand::u64(..)] {
        let mut rng = fastrand::Rng::with_seed(seed);
        for (name, message) in &corpus {
            for _ in 0..ROUNDS {
                let frame = mutated(&mut rng, message);
                if ask(&mut rogue, id, frame).await.is_none() && !rogue.is_connected(&id) {
                    rogue.dial(addr.clone()).expect("dialled");
                    while !matches!(rogue.select_next_some().await, SwarmEvent::ConnectionEstablished { .. }) {}
                }
                asked += 1;
            }
            let find = corpus.iter().find(|(name, _)| name == "kad-find-node").expect("there").1.clone();
            let answer = ask(&mut rogue, id, framed(&find)).await;
            assert!(answer.is_some_and(|answer| !answer.is_empty()), "after mutations of {name} under seed {seed}");
        }
    }
    assert_eq!(asked, 2 * ROUNDS * corpus.len());
    running.stop().await;
}

/// What a node's API says of who has a block.
async fn providers(api: std::net::SocketAddr, cid: &cid::Cid) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(api).await.expect("connected");
    let request = format!("GET /v1/providers/{cid} HTTP/1.1\r\nhost: {api}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_survives_whatever_it_is_answered() {
    let dir = tempfile::tempdir().expect("a folder");
    let (running, _, addr) = node(&dir).await;
    let id = peer_of(&addr);
    let mut rogue = rogue();
    rogue.dial(addr).expect("dialled");
    let corpus = corpus();
    let mut rng = fastrand::Rng::with_seed(fastrand::u64(..));
    let (answered, mut answers) = tokio::sync::watch::channel(0u32);
    let answering = tokio::spawn(async move {
        loop {
            if let SwarmEvent::Behaviour(RogueEvent::Kad(Event::Message {
                message: Message::Request { channel, .. },
                peer,
                ..
            })) = rogue.select_next_some().await
            {
                assert_eq!(peer, id);
                let (_, message) = &corpus[rng.usize(..corpus.len())];
                let _ = rogue.behaviour_mut().kad.send_response(channel, mutated(&mut rng, message));
                answered.send_modify(|count| *count += 1);
            }
        }
    });
    let mut asked = 0;
    // The node asks whom it knows to speak the protocol, which it learns after it connected.
    while *answers.borrow_and_update() < LOOK_UPS {
        asked += 1;
        let cid = timerose_content::cid_v1(timerose_content::RAW, format!("block {asked}").as_bytes());
        let answer = providers(running.api, &cid).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "look-up {asked}: {answer}");
        assert!(asked < 100 * LOOK_UPS, "the node asks nobody");
    }
    answering.abort();
    running.stop().await;
}
