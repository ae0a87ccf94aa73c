//! The protocol on one connection: a writer for the one stream that we open, a reader for each stream that the peer opens.

use super::read::{PERMIT_BYTES, ReadError, read_throttled};
use super::throttle::PART;
use super::{Codec, Config, Event, Heard, OURS, Queued, Throttle, Throttles};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::io::{BufReader, BufWriter};
use futures::stream::FuturesUnordered;
use futures::{AsyncWriteExt, FutureExt, StreamExt};
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound, ProtocolsChange,
};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol};
use libp2p::{PeerId, Stream, StreamProtocol};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Frames of the largest size that one connection may be reading at once: bounds what a peer's many streams cost together.
const READING_FRAMES: usize = 2;
/// Bytes that small frames gather in before they go to the multiplexer, and that small reads come from.
const STREAM_BUFFER: usize = 16 << 10;

type Upgrade = ReadyUpgrade<StreamProtocol>;

/// What all connections share.
pub(super) struct Protocol<C: Codec> {
    pub config: Config,
    pub codec: Arc<C>,
    pub throttles: Throttles,
    pub events: mpsc::Sender<Event<C::In>>,
}

/// Our side of the stream that we open.
enum Outbound {
    /// Nothing to say and no stream.
    Idle(mpsc::Receiver<Queued>),
    /// A stream is to be asked for, or (`asked`) was.
    Opening { asked: bool, first: Again, queue: mpsc::Receiver<Queued> },
    /// Frames are being written, or a failure is being reported.
    Running(BoxFuture<'static, Next>),
    /// The behaviour has let go of this connection.
    Ended,
}

/// A frame that a stream is opened for; `retried` if a stream has failed under it before.
struct Again {
    frame: Bytes,
    retried: bool,
}

/// How a run of the writer ended: with the queue and the frame to open another stream for, if any.
struct Next {
    queue: mpsc::Receiver<Queued>,
    again: Option<Again>,
}

/// The handler of one connection.
pub struct Handler<C: Codec> {
    peer: PeerId,
    protocol: Arc<Protocol<C>>,
    outbound: Outbound,
    inbound: FuturesUnordered<BoxFuture<'static, ()>>,
    /// What the peer's streams may be reading together.
    budget: Arc<Semaphore>,
    /// Told of the progress of long frames, and whether the peer is one of ours.
    heard: Arc<Heard>,
    /// Fires when `Connected` is with the receiver: no message may overtake it.
    announced: Option<oneshot::Receiver<()>>,
}

impl<C: Codec> Handler<C> {
    pub(super) fn new(
        peer: PeerId,
        protocol: Arc<Protocol<C>>,
        queue: mpsc::Receiver<Queued>,
        heard: Arc<Heard>,
        announced: oneshot::Receiver<()>,
    ) -> Self {
        let budget = READING_FRAMES * (protocol.config.max_frame / PERMIT_BYTES + 1);
        Handler {
            peer,
            protocol,
            outbound: Outbound::Idle(queue),
            inbound: FuturesUnordered::new(),
            budget: Arc::new(Semaphore::new(budget)),
            heard,
            announced: Some(announced),
        }
    }

    /// Takes a frame that waits, if one does.
    #[cfg(test)]
    pub(super) fn take_queued(&mut self) -> bool {
        let Outbound::Idle(queue) = &mut self.outbound else { return false };
        queue.try_recv().is_ok()
    }

    fn upgrade(&self) -> SubstreamProtocol<Upgrade, ()> {
        SubstreamProtocol::new(ReadyUpgrade::new(self.protocol.config.protocol.clone()), ())
    }

    fn on_inbound(&mut self, stream: Stream) {
        let most = self.protocol.config.max_inbound_streams;
        // One place more than streams, for the report: while that is on its way, further streams are reset in silence.
        let task = match self.inbound.len() {
            n if n < most => {
                read_frames(self.peer, self.protocol.clone(), self.budget.clone(), self.heard.clone(), stream).boxed()
            }
            n if n == most => refuse(self.peer, self.protocol.clone(), format!("more than {most} streams")).boxed(),
            _ => return,
        };
        self.inbound.push(task);
    }

    fn on_outbound(&mut self, stream: Stream) {
        self.outbound = match std::mem::replace(&mut self.outbound, Outbound::Ended) {
            Outbound::Opening { first, queue, .. } => {
                Outbound::Running(write_frames(self.peer, self.protocol.clone(), stream, first, queue).boxed())
            }
            other => other,
        };
    }

    fn on_outbound_failed(&mut self, error: StreamUpgradeError<Infallible>) {
        let outbound = std::mem::replace(&mut self.outbound, Outbound::Ended);
        let Outbound::Opening { first, queue, .. } = outbound else {
            self.outbound = outbound;
            return;
        };
        let unsupported = matches!(error, StreamUpgradeError::NegotiationFailed);
        self.outbound = if !unsupported && !first.retried {
            Outbound::Opening { asked: false, first: Again { retried: true, ..first }, queue }
        } else {
            let peer = self.peer;
            let event = match unsupported {
                true => Event::Unsupported { peer },
                false => Event::Dropped { peer, why: format!("no stream can be opened: {error}") },
            };
            Outbound::Running(give_up(self.protocol.clone(), event, queue, unsupported).boxed())
        };
    }

    /// Moves our side on; `Ready` asks for a stream.
    fn poll_outbound(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.outbound {
                Outbound::Idle(queue) => match queue.poll_recv(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(None) => self.outbound = Outbound::Ended,
                    Poll::Ready(Some(queued)) => self.resume(Again { frame: queued.frame, retried: false }),
                },
                Outbound::Opening { asked: true, .. } | Outbound::Ended => return Poll::Pending,
                Outbound::Opening { asked, .. } => {
                    *asked = true;
                    return Poll::Ready(());
                }
                Outbound::Running(run) => match run.poll_unpin(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Next { queue, again }) => {
                        self.outbound = Outbound::Idle(queue);
                        if let Some(again) = again {
                            self.resume(again);
                        }
                    }
                },
            }
        }
    }

    fn resume(&mut self, first: Again) {
        self.outbound = match std::mem::replace(&mut self.outbound, Outbound::Ended) {
            Outbound::Idle(queue) => Outbound::Opening { asked: false, first, queue },
            other => other,
        };
    }
}

impl<C: Codec> ConnectionHandler for Handler<C> {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = Upgrade;
    type OutboundProtocol = Upgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Upgrade, ()> {
        self.upgrade()
    }

    fn connection_keep_alive(&self) -> bool {
        !self.inbound.is_empty() || !matches!(&self.outbound, Outbound::Idle(queue) if queue.is_empty())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Upgrade, (), Infallible>> {
        if let Some(announced) = &mut self.announced {
            if announced.poll_unpin(cx).is_pending() {
                return Poll::Pending;
            }
            self.announced = None;
        }
        while let Poll::Ready(Some(())) = self.inbound.poll_next_unpin(cx) {}
        self.poll_outbound(cx).map(|()| ConnectionHandlerEvent::OutboundSubstreamRequest { protocol: self.upgrade() })
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Upgrade, Upgrade>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                self.on_inbound(protocol);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                self.on_outbound(protocol);
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => self.on_outbound_failed(error),
            ConnectionEvent::RemoteProtocolsChange(ProtocolsChange::Added(mut names)) => {
                let ours = names.any(|name| name.as_ref().starts_with(OURS));
                self.heard.ours.fetch_or(ours, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

async fn refuse<C: Codec>(peer: PeerId, protocol: Arc<Protocol<C>>, why: String) {
    // Without a receiver there is nobody to tell.
    let _ = protocol.events.send(Event::Refused { peer, why }).await;
}

/// Reads a stream to its end. Returning drops the stream, which resets it unless the peer has ended it.
async fn read_frames<C: Codec>(
    peer: PeerId,
    protocol: Arc<Protocol<C>>,
    budget: Arc<Semaphore>,
    heard: Arc<Heard>,
    stream: Stream,
) {
    let mut reader = BufReader::with_capacity(STREAM_BUFFER, stream);
    let mut first = true;
    loop {
        let wait = |bytes| protocol.throttles.down.take(&peer, bytes);
        let parts = protocol.throttles.down.rate().map_or(usize::MAX, |_| PART);
        let frame = match read_throttled(&mut reader, protocol.config.max_frame, &budget, &|| heard.now(), parts, wait).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return,
            Err(ReadError::Refused(why)) => return refuse(peer, protocol, why).await,
            Err(ReadError::Io(error)) => {
                tracing::debug!(%peer, %error, "an inbound stream failed");
                return;
            }
        };
        match protocol.codec.decode(&peer, first, frame) {
            Ok(Some(message)) => {
                if protocol.events.send(Event::Message { peer, message }).await.is_err() {
                    return;
                }
            }
            Ok(None) => {}
            Err(why) => return refuse(peer, protocol, why).await,
        }
        first = false;
    }
}

/// Writes frames for as long as the stream holds.
async fn write_frames<C: Codec>(
    peer: PeerId,
    protocol: Arc<Protocol<C>>,
    stream: Stream,
    first: Again,
    mut queue: mpsc::Receiver<Queued>,
) -> Next {
    let mut writer = BufWriter::with_capacity(STREAM_BUFFER, stream);
    let mut opening = protocol.codec.opening(&peer);
    let Again { mut frame, mut retried } = first;
    loop {
        let written = async {
            let up = &protocol.throttles.up;
            if let Some(opening) = opening.take() {
                write_frame(&mut writer, &opening, &peer, up).await?;
            }
            write_frame(&mut writer, &frame, &peer, up).await?;
            // More frames follow at once: they share the next flush.
            if queue.is_empty() { writer.flush().await } else { Ok(()) }
        };
        match written.await {
            Ok(()) => {}
            Err(_) if !retried => return Next { queue, again: Some(Again { frame, retried: true }) },
            Err(error) => {
                let event = Event::Dropped { peer, why: format!("the stream failed twice: {error}") };
                return give_up(protocol, event, queue, false).await;
            }
        }
        retried = false;
        match queue.recv().await {
            Some(next) => frame = next.frame,
            None => return Next { queue, again: None },
        }
    }
}

async fn write_frame(writer: &mut BufWriter<Stream>, frame: &Bytes, peer: &PeerId, up: &Throttle) -> std::io::Result<()> {
    let mut prefix = unsigned_varint::encode::usize_buffer();
    writer.write_all(unsigned_varint::encode::usize(frame.len(), &mut prefix)).await?;
    if up.rate().is_none() {
        return writer.write_all(frame).await;
    }
    for part in frame.chunks(PART) {
        up.take(peer, part.len()).await;
        writer.write_all(part).await?;
    }
    Ok(())
}

/// Reports that a frame is lost; `all` the frames that wait if none of them has a chance.
async fn give_up<C: Codec>(
    protocol: Arc<Protocol<C>>,
    event: Event<C::In>,
    mut queue: mpsc::Receiver<Queued>,
    all: bool,
) -> Next {
    while all && queue.try_recv().is_ok() {}
    // Without a receiver there is nobody to tell.
    let _ = protocol.events.send(event).await;
    Next { queue, again: None }
}
