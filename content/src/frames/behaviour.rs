//! The protocol in the swarm: it makes handlers, keeps the list of peers, and tells of the first and the last connection of each.

use super::handler::{Handler, Protocol};
use super::{Codec, Config, Event, Heard, Line, Queued, Routes, Throttles};
use futures::FutureExt;
use futures::future::BoxFuture;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::ConnectionEstablished;
use libp2p::swarm::{
    CloseConnection, ConnectionClosed, ConnectionDenied, ConnectionId, DialFailure, FromSwarm, ListenFailure, NetworkBehaviour,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Notices of connections that may wait for the receiver of events. When so many wait, new connections are denied.
const MAX_NOTICES: usize = 1024;

/// The receiver of events has fallen too far behind to be told of another connection.
#[derive(Debug, thiserror::Error)]
#[error("too many notices of connections wait to be received")]
struct Behind;

/// Something to tell in order: an event, and the handler that may begin once it is told.
struct Notice<T> {
    event: Option<Event<T>>,
    begin: Option<oneshot::Sender<()>>,
}

/// Our ends of what a handler was given.
struct Starting {
    queue: mpsc::Sender<Queued>,
    heard: Arc<Heard>,
    begin: oneshot::Sender<()>,
}

type Permit<T> = Result<mpsc::OwnedPermit<Event<T>>, mpsc::error::SendError<()>>;

/// The [`NetworkBehaviour`] of a protocol of frames; see [`super::new`].
pub struct Behaviour<C: Codec> {
    protocol: Arc<Protocol<C>>,
    routes: Arc<Routes>,
    notices: VecDeque<Notice<C::In>>,
    permit: Option<BoxFuture<'static, Permit<C::In>>>,
    /// Connections whose handlers exist but which the swarm has not confirmed: it may still deny them.
    starting: HashMap<ConnectionId, Starting>,
}

impl<C: Codec> Behaviour<C> {
    pub(super) fn new(
        config: Config,
        codec: Arc<C>,
        throttles: Throttles,
        routes: Arc<Routes>,
        events: mpsc::Sender<Event<C::In>>,
    ) -> Self {
        let protocol = Arc::new(Protocol { config, codec, throttles, events });
        Behaviour { protocol, routes, notices: VecDeque::new(), permit: None, starting: HashMap::new() }
    }

    fn handler(&mut self, connection: ConnectionId, peer: PeerId) -> Result<Handler<C>, ConnectionDenied> {
        if self.notices.len() >= MAX_NOTICES {
            return Err(ConnectionDenied::new(Behind));
        }
        let (queue, frames) = mpsc::channel(self.protocol.config.queue);
        let (begin, announced) = oneshot::channel();
        let heard = Arc::new(Heard::default());
        self.starting.insert(connection, Starting { queue, heard: heard.clone(), begin });
        Ok(Handler::new(peer, self.protocol.clone(), frames, heard, announced))
    }

    fn on_established(&mut self, connection: ConnectionId, peer: PeerId, relayed: bool) {
        let Some(Starting { queue, heard, begin }) = self.starting.remove(&connection) else { return };
        let mut peers = self.routes.peers.lock();
        let lines = peers.entry(peer).or_default();
        let room = Arc::new(Semaphore::new(self.protocol.config.room_kib()));
        let at = if relayed { lines.iter().take_while(|line| line.relayed).count() } else { lines.len() };
        lines.insert(at, Line { connection, relayed, queue, room, heard });
        let event = match lines.len() {
            1 => Some(Event::Connected { peer }),
            all if at + 1 == all => Some(Event::Dropped { peer, why: "a newer connection is used".into() }),
            _ => None,
        };
        drop(peers);
        self.tell(Notice { event, begin: Some(begin) });
    }

    fn on_closed(&mut self, connection: ConnectionId, peer: PeerId) {
        let mut peers = self.routes.peers.lock();
        let Some(lines) = peers.get_mut(&peer) else { return };
        let Some(at) = lines.iter().position(|line| line.connection == connection) else { return };
        lines.remove(at);
        let event = if lines.is_empty() {
            peers.remove(&peer);
            self.routes.closing.lock().remove(&peer);
            Event::Disconnected { peer }
        } else if at == lines.len() {
            Event::Dropped { peer, why: "the connection in use was closed".into() }
        } else {
            return;
        };
        drop(peers);
        self.tell(Notice { event: Some(event), begin: None });
    }

    /// Tells at once if nothing waits and there is room: who hears of a connection from the swarm then finds the peer known here too.
    fn tell(&mut self, mut notice: Notice<C::In>) {
        if self.notices.is_empty()
            && self.permit.is_none()
            && let Ok(permit) = self.protocol.events.try_reserve()
            && let Some(event) = notice.event.take()
        {
            permit.send(event);
        }
        self.notices.push_back(notice);
    }

    /// Tells what there is room to tell.
    fn poll_notices(&mut self, cx: &mut Context<'_>) {
        while let Some(notice) = self.notices.front_mut() {
            if notice.event.is_some() {
                let events = &self.protocol.events;
                let permit = self.permit.get_or_insert_with(|| events.clone().reserve_owned().boxed());
                let Poll::Ready(ready) = permit.poll_unpin(cx) else { return };
                self.permit = None;
                // Without a receiver there is nobody to tell, and the handlers find that out for themselves.
                if let (Ok(permit), Some(event)) = (ready, notice.event.take()) {
                    permit.send(event);
                }
            }
            if let Some(begin) = self.notices.pop_front().and_then(|notice| notice.begin) {
                // The connection may be gone again.
                let _ = begin.send(());
            }
        }
    }
}

impl<C: Codec> NetworkBehaviour for Behaviour<C> {
    type ConnectionHandler = Handler<C>;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler<C>, ConnectionDenied> {
        self.handler(connection, peer)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler<C>, ConnectionDenied> {
        self.handler(connection, peer)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, endpoint, .. }) => {
                self.on_established(connection_id, peer_id, endpoint.is_relayed());
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                self.on_closed(connection_id, peer_id);
            }
            FromSwarm::DialFailure(DialFailure { connection_id, .. })
            | FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.starting.remove(&connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        self.routes.behaviour.register(cx.waker());
        self.poll_notices(cx);
        let mut closing = self.routes.closing.lock();
        let Some(peer_id) = closing.iter().next().copied() else { return Poll::Pending };
        closing.remove(&peer_id);
        Poll::Ready(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::All })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{Sender, new};
    use bytes::Bytes;
    use libp2p::StreamProtocol;
    use libp2p::core::ConnectedPoint;

    struct Anything;

    impl Codec for Anything {
        type In = Bytes;

        fn opening(&self, _: &PeerId) -> Option<Bytes> {
            None
        }

        fn decode(&self, _: &PeerId, _: bool, frame: Bytes) -> Result<Option<Bytes>, String> {
            Ok(Some(frame))
        }
    }

    /// A behaviour whose connections are told by hand.
    struct World {
        behaviour: Behaviour<Anything>,
        sender: Sender,
        events: mpsc::Receiver<Event<Bytes>>,
        peer: PeerId,
        handlers: HashMap<usize, Handler<Anything>>,
    }

    impl World {
        fn new() -> World {
            let protocol = StreamProtocol::new("/timerose/test/1");
            let config = Config { protocol, max_frame: 100, max_inbound_streams: 1, queue: 4, events: 16 };
            let (behaviour, sender, events) = new(config, Arc::new(Anything));
            World { behaviour, sender, events, peer: PeerId::random(), handlers: HashMap::new() }
        }

        /// The far end dials us, directly or through a relay.
        fn connect(&mut self, number: usize, relayed: bool) {
            let by = if relayed {
                format!("/ip4/127.0.0.1/tcp/1/p2p/{}/p2p-circuit", PeerId::random())
            } else {
                "/ip4/127.0.0.1/tcp/2".into()
            };
            let (local, connection_id) = (by.parse::<Multiaddr>().unwrap(), ConnectionId::new_unchecked(number));
            let handler = self.behaviour.handle_established_inbound_connection(connection_id, self.peer, &local, &local).unwrap();
            self.handlers.insert(number, handler);
            let endpoint = ConnectedPoint::Listener { local_addr: local.clone(), send_back_addr: local };
            self.behaviour.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id: self.peer,
                connection_id,
                endpoint: &endpoint,
                failed_addresses: &[],
                other_established: 0,
            }));
        }

        fn close(&mut self, number: usize) {
            self.handlers.remove(&number);
            self.behaviour.on_closed(ConnectionId::new_unchecked(number), self.peer);
        }

        /// The connection that a frame goes by now.
        fn used(&mut self) -> usize {
            self.sender.try_send(&self.peer, Bytes::from_static(b"frame")).unwrap();
            let mut waiting = self.handlers.iter_mut().filter_map(|(number, handler)| handler.take_queued().then_some(*number));
            let used = waiting.next().expect("it waits somewhere");
            assert!(waiting.next().is_none(), "it waits once");
            used
        }

        fn told(&mut self) -> Vec<Event<Bytes>> {
            assert!(self.behaviour.poll(&mut Context::from_waker(futures::task::noop_waker_ref())).is_pending());
            std::iter::from_fn(|| self.events.try_recv().ok()).collect()
        }
    }

    #[test]
    fn a_direct_connection_is_used_before_one_through_a_relay_and_the_newest_of_a_kind_before_older_ones() {
        let mut world = World::new();
        world.connect(1, true);
        assert_eq!(world.used(), 1);
        world.connect(2, true);
        assert_eq!(world.used(), 2);
        world.connect(3, false);
        assert_eq!(world.used(), 3);
        let before: Vec<Event<Bytes>> = world.told();
        assert!(matches!(before[..], [Event::Connected { .. }, Event::Dropped { .. }, Event::Dropped { .. }]), "{before:?}");
        // Whoever has a direct way to a peer and is then reached through a relay as well.
        world.connect(4, true);
        assert_eq!(world.used(), 3);
        assert_eq!(world.told(), [], "nothing that was said can be lost by it");
        world.connect(5, false);
        assert_eq!(world.used(), 5);
        world.close(5);
        assert_eq!(world.used(), 3);
        world.close(3);
        assert_eq!(world.used(), 4, "the newest that goes through a relay");
        world.close(1);
        assert_eq!(world.used(), 4);
        world.close(4);
        assert_eq!(world.used(), 2);
        world.close(2);
        assert_eq!(world.told().last(), Some(&Event::Disconnected { peer: world.peer }));
    }
}
