//! What `frames` promises: order, bounds, names for offences, and one word about each peer's coming and going.

use crate::common::{Host, host, host_as, soon};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{AsyncWriteExt, FutureExt};
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, UpgradeInfo, upgrade::OutboundUpgrade};
use libp2p::identity::Keypair;
use libp2p::swarm::derive_prelude::ConnectionEstablished;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, OneShotHandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol};
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use timerose_content::frames::{self, Codec, Config, Event, SendError, Sender};
use tokio::sync::mpsc::Receiver;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/timerose/test/1");

/// Passes every frame with the word whether it was its stream's first; refuses the frame `bad`.
struct Plain {
    opening: Option<&'static [u8]>,
}

impl Codec for Plain {
    type In = (bool, Bytes);

    fn opening(&self, _: &PeerId) -> Option<Bytes> {
        self.opening.map(Bytes::from_static)
    }

    fn decode(&self, _: &PeerId, first: bool, frame: Bytes) -> Result<Option<Self::In>, String> {
        if frame == b"bad"[..] { Err("a bad frame".into()) } else { Ok(Some((first, frame))) }
    }
}

type Events = Receiver<Event<(bool, Bytes)>>;

struct Peer {
    host: Host,
    sender: Sender,
    events: Events,
}

fn config(max_frame: usize) -> Config {
    Config { protocol: PROTOCOL, max_frame, max_inbound_streams: 8, queue: 4, events: 4 }
}

async fn peer(config: Config, opening: Option<&'static [u8]>) -> Peer {
    let (behaviour, sender, events) = frames::new(config, Arc::new(Plain { opening }));
    Peer { host: host(behaviour).await, sender, events }
}

impl Peer {
    async fn next(&mut self) -> Event<(bool, Bytes)> {
        soon(self.events.recv()).await.unwrap()
    }

    async fn frame(&mut self) -> (bool, Bytes) {
        match self.next().await {
            Event::Message { message, .. } => message,
            other => panic!("a frame was expected, not {other:?}"),
        }
    }

    async fn refusal(&mut self) -> String {
        match self.next().await {
            Event::Refused { why, .. } => why,
            other => panic!("a refusal was expected, not {other:?}"),
        }
    }
}

async fn pair() -> (Peer, Peer) {
    let (mut a, mut b) = (peer(config(4 << 20), None).await, peer(config(4 << 20), None).await);
    a.host.connect(&b.host).await;
    assert_eq!(a.next().await, Event::Connected { peer: b.host.peer });
    assert_eq!(b.next().await, Event::Connected { peer: a.host.peer });
    (a, b)
}

#[tokio::test]
async fn a_thousand_frames_arrive_both_ways_in_order_through_short_queues() {
    let (mut a, mut b) = pair().await;
    let (to_a, to_b) = (a.sender.clone(), b.sender.clone());
    let (peer_a, peer_b) = (a.host.peer, b.host.peer);
    let send = |sender: Sender, peer: PeerId| async move {
        for n in 0..1000u32 {
            sender.send(&peer, Bytes::copy_from_slice(&n.to_le_bytes())).await.unwrap();
        }
    };
    let sending = (tokio::spawn(send(to_a, peer_b)), tokio::spawn(send(to_b, peer_a)));
    for n in 0..1000u32 {
        let expected = (n == 0, Bytes::copy_from_slice(&n.to_le_bytes()));
        assert_eq!(a.frame().await, expected);
        assert_eq!(b.frame().await, expected);
    }
    sending.0.await.unwrap();
    sending.1.await.unwrap();
}

#[tokio::test]
async fn the_largest_frame_and_an_empty_one_arrive() {
    let (a, mut b) = pair().await;
    let large = Bytes::from(vec![7; 4 << 20]);
    a.sender.send(&b.host.peer, large.clone()).await.unwrap();
    a.sender.send(&b.host.peer, Bytes::new()).await.unwrap();
    assert_eq!(b.frame().await, (true, large));
    assert_eq!(b.frame().await, (false, Bytes::new()));
    let larger = Bytes::from(vec![7; (4 << 20) + 1]);
    assert_eq!(a.sender.try_send(&b.host.peer, larger), Err(SendError::TooLarge));
}

#[tokio::test]
async fn an_oversize_frame_is_refused_by_name_and_the_peer_may_go_on() {
    let (mut small, large) = (peer(config(1000), None).await, peer(config(1 << 20), None).await);
    large.host.connect(&small.host).await;
    small.next().await;
    large.sender.send(&small.host.peer, Bytes::from(vec![0; 1001])).await.unwrap();
    match small.next().await {
        Event::Refused { peer, why } => {
            assert_eq!(peer, large.host.peer);
            assert!(why.contains("oversize") && why.contains("1001"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    // The refusal reset the stream. What is sent before that is known at the sender is lost, what is sent later is not.
    let again = async {
        loop {
            large.sender.send(&small.host.peer, Bytes::from_static(b"fits")).await.unwrap();
            if let Ok(event) = tokio::time::timeout(std::time::Duration::from_millis(20), small.events.recv()).await {
                return event;
            }
        }
    };
    let event = soon(again).await.unwrap();
    assert!(matches!(event, Event::Message { message: (true, _), .. }), "{event:?}");
}

#[tokio::test]
async fn the_opening_frame_is_the_first_of_every_stream() {
    let (mut a, b) = (peer(config(100), None).await, peer(config(100), Some(b"credentials")).await);
    b.host.connect(&a.host).await;
    a.next().await;
    let opened = (true, Bytes::from_static(b"credentials"));
    b.sender.send(&a.host.peer, Bytes::from_static(b"one")).await.unwrap();
    assert_eq!(a.frame().await, opened);
    assert_eq!(a.frame().await, (false, Bytes::from_static(b"one")));
    b.sender.send(&a.host.peer, Bytes::from_static(b"bad")).await.unwrap();
    assert_eq!(a.refusal().await, "a bad frame");
    let again = async {
        loop {
            b.sender.send(&a.host.peer, Bytes::from_static(b"two")).await.unwrap();
            if let Ok(event) = tokio::time::timeout(std::time::Duration::from_millis(20), a.events.recv()).await {
                return event;
            }
        }
    };
    assert_eq!(soon(again).await, Some(Event::Message { peer: b.host.peer, message: opened }));
    assert_eq!(a.frame().await, (false, Bytes::from_static(b"two")));
}

#[tokio::test]
async fn disconnecting_is_told_to_both_and_sending_then_fails() {
    let (mut a, mut b) = pair().await;
    a.sender.send(&b.host.peer, Bytes::from_static(b"last")).await.unwrap();
    assert_eq!(b.frame().await.1, "last");
    b.sender.disconnect(&a.host.peer);
    assert_eq!(a.next().await, Event::Disconnected { peer: b.host.peer });
    assert_eq!(b.next().await, Event::Disconnected { peer: a.host.peer });
    assert_eq!(a.sender.try_send(&b.host.peer, Bytes::new()), Err(SendError::NotConnected));
}

#[tokio::test]
async fn two_connections_to_one_peer_are_one_peer() {
    let (mut a, mut b) = pair().await;
    b.host.connect_again(&a.host).await;
    assert!(matches!(a.next().await, Event::Dropped { .. }) && matches!(b.next().await, Event::Dropped { .. }));
    for n in 0..100u32 {
        a.sender.send(&b.host.peer, Bytes::copy_from_slice(&n.to_le_bytes())).await.unwrap();
        assert_eq!(b.frame().await.1, &n.to_le_bytes()[..]);
        b.sender.send(&a.host.peer, Bytes::copy_from_slice(&n.to_le_bytes())).await.unwrap();
        assert_eq!(a.frame().await.1, &n.to_le_bytes()[..]);
    }
    a.sender.disconnect(&b.host.peer);
    let told = loop {
        match b.next().await {
            Event::Dropped { .. } => {}
            other => break other,
        }
    };
    assert_eq!(told, Event::Disconnected { peer: a.host.peer });
}

#[tokio::test]
async fn a_peer_that_began_again_is_reached_though_its_old_connection_stands() {
    let keys = Keypair::generate_ed25519();
    let life = async || {
        let (behaviour, sender, events) = frames::new(config(100), Arc::new(Plain { opening: None }));
        Peer { host: host_as(&keys, behaviour).await, sender, events }
    };
    let (mut a, old, mut new) = (peer(config(100), None).await, life().await, life().await);
    a.host.connect(&old.host).await;
    assert_eq!(a.next().await, Event::Connected { peer: old.host.peer });
    a.sender.send(&old.host.peer, Bytes::from_static(b"to the old one")).await.unwrap();
    new.host.connect_again(&a.host).await;
    // What was said last may have gone to nobody.
    assert!(matches!(a.next().await, Event::Dropped { peer, .. } if peer == new.host.peer));
    a.sender.send(&new.host.peer, Bytes::from_static(b"to the new one")).await.unwrap();
    while !matches!(new.next().await, Event::Message { message: (true, said), .. } if said == "to the new one") {}
}

#[tokio::test]
async fn a_peer_without_the_protocol_is_told_as_unsupported() {
    let other = Config { protocol: StreamProtocol::new("/other/1"), ..config(100) };
    let (mut a, b) = (peer(config(100), None).await, peer(other, None).await);
    a.host.connect(&b.host).await;
    a.next().await;
    a.sender.send(&b.host.peer, Bytes::from_static(b"hello?")).await.unwrap();
    assert_eq!(a.next().await, Event::Unsupported { peer: b.host.peer });
}

#[tokio::test]
async fn a_receiver_that_does_not_keep_up_stops_the_sender_and_loses_nothing() {
    let (a, mut b) = pair().await;
    let frame = |n: u32| Bytes::from(vec![n as u8; 1 << 20]);
    // Far more than fits into the queues and the windows of the transport.
    let mut sent = 0;
    let stopped = std::time::Duration::from_millis(500);
    while let Ok(done) = tokio::time::timeout(stopped, a.sender.send(&b.host.peer, frame(sent))).await {
        done.unwrap();
        sent += 1;
        assert!(sent < 200, "nothing stops the sender");
    }
    for n in 0..sent {
        assert_eq!(b.frame().await.1, frame(n));
    }
}

#[tokio::test]
async fn a_stream_that_ends_inside_a_frame_is_refused_as_truncated() {
    for (bytes, expected) in [
        (&b"\x05abc"[..], "inside a frame of 5 bytes"),
        (&b"\x03abc\x80"[..], "inside a frame's length"),
        (&b"\x81\x00"[..], "bad length"),
        (&b"\xff\xff\xff\xff\xff\x01"[..], "oversize"),
    ] {
        let mut a = peer(config(100), None).await;
        let scrawler = host(Scrawler { bytes, todo: VecDeque::new() }).await;
        scrawler.connect(&a.host).await;
        a.next().await;
        let why = match a.next().await {
            // The whole frame before the garbage is passed.
            Event::Message { .. } => a.refusal().await,
            Event::Refused { why, .. } => why,
            other => panic!("{other:?}"),
        };
        assert!(why.contains(expected), "{why}");
    }
}

#[tokio::test]
async fn one_stream_too_many_is_refused_by_name() {
    let few = Config { max_inbound_streams: 0, ..config(100) };
    let (mut a, b) = (peer(few, None).await, peer(config(100), None).await);
    b.host.connect(&a.host).await;
    a.next().await;
    b.sender.send(&a.host.peer, Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!(a.refusal().await, "more than 0 streams");
}

/// Writes bytes to a stream of the protocol and ends it.
#[derive(Debug, Clone, Default)]
struct Scrawl(&'static [u8]);

impl UpgradeInfo for Scrawl {
    type Info = StreamProtocol;
    type InfoIter = std::iter::Once<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once(PROTOCOL)
    }
}

impl OutboundUpgrade<Stream> for Scrawl {
    type Output = ();
    type Error = std::io::Error;
    type Future = BoxFuture<'static, std::io::Result<()>>;

    fn upgrade_outbound(self, mut stream: Stream, _: StreamProtocol) -> Self::Future {
        async move {
            stream.write_all(self.0).await?;
            stream.close().await
        }
        .boxed()
    }
}

/// Scrawls to whoever connects.
struct Scrawler {
    bytes: &'static [u8],
    todo: VecDeque<PeerId>,
}

type ScrawlHandler = OneShotHandler<libp2p::core::upgrade::DeniedUpgrade, Scrawl, Done>;

#[derive(Debug)]
struct Done;

impl From<()> for Done {
    fn from((): ()) -> Done {
        Done
    }
}

impl From<std::convert::Infallible> for Done {
    fn from(never: std::convert::Infallible) -> Done {
        match never {}
    }
}

impl NetworkBehaviour for Scrawler {
    type ConnectionHandler = ScrawlHandler;
    type ToSwarm = ();

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<ScrawlHandler, ConnectionDenied> {
        Ok(handler())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<ScrawlHandler, ConnectionDenied> {
        Ok(handler())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, .. }) = event {
            self.todo.push_back(peer_id);
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, _: THandlerOutEvent<Self>) {}

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<(), THandlerInEvent<Self>>> {
        match self.todo.pop_front() {
            Some(peer_id) => {
                let event = Scrawl(self.bytes);
                Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::Any, event })
            }
            None => Poll::Pending,
        }
    }
}

fn handler() -> ScrawlHandler {
    let denied = libp2p::core::upgrade::DeniedUpgrade;
    OneShotHandler::new(libp2p::swarm::SubstreamProtocol::new(denied, ()), Default::default())
}
