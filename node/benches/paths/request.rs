//! Round trips by libp2p's own request-response between two bare swarms: what a call between two nodes is held to.

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::identity::Keypair;
use libp2p::request_response::{self, Behaviour, Event, Message, ProtocolSupport};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm};
use std::io;
use std::time::Instant;
use tokio::task::JoinHandle;

use crate::net;

/// Bytes of a request or a response at most.
const MOST: u64 = 2 << 20;

/// Bytes as they are; a side ends its half of the stream when it has said all.
#[derive(Clone)]
struct Raw;

async fn read<T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io.take(MOST).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

impl request_response::Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>> {
        read(io).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>> {
        read(io).await
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

/// A caller, which drives its own swarm, and what answers it.
pub struct Requests {
    swarm: Swarm<Behaviour<Raw>>,
    to: PeerId,
    answering: JoinHandle<()>,
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

fn behaviour() -> Behaviour<Raw> {
    let protocols = [(StreamProtocol::new("/timerose/bench/request/1"), ProtocolSupport::Full)];
    Behaviour::with_codec(Raw, protocols, request_response::Config::default())
}

/// Answers every request with so many bytes.
async fn answer(mut swarm: Swarm<Behaviour<Raw>>, back: usize) {
    loop {
        if let SwarmEvent::Behaviour(Event::Message { message: Message::Request { channel, .. }, .. }) =
            swarm.select_next_some().await
        {
            swarm.behaviour_mut().send_response(channel, vec![1; back]).expect("the caller waits");
        }
    }
}

impl Requests {
    /// Two swarms that are connected; the second answers with `back` bytes.
    pub async fn start(back: usize) -> Requests {
        let (server, addr) = net::listening(&Keypair::generate_ed25519(), behaviour()).await;
        let to = *server.local_peer_id();
        let answering = tokio::spawn(answer(server, back));
        let (mut swarm, _) = net::listening(&Keypair::generate_ed25519(), behaviour()).await;
        let addr: Multiaddr = addr.with_p2p(to).expect("an address without a name");
        swarm.dial(addr).expect("dialled");
        while !matches!(swarm.select_next_some().await, SwarmEvent::ConnectionEstablished { .. }) {}
        Requests { swarm, to, answering }
    }

    /// Asks with so many bytes; gives the length of the answer, and the microseconds until it was here.
    pub async fn ask(&mut self, there: usize) -> (usize, f64) {
        let begin = Instant::now();
        let request = vec![0; there];
        self.swarm.behaviour_mut().send_request(&self.to, request);
        loop {
            match self.swarm.select_next_some().await {
                SwarmEvent::Behaviour(Event::Message { message: Message::Response { response, .. }, .. }) => {
                    return (response.len(), begin.elapsed().as_secs_f64() * 1e6);
                }
                SwarmEvent::Behaviour(Event::OutboundFailure { error, .. }) => panic!("no answer: {error}"),
                _ => {}
            }
        }
    }
}
