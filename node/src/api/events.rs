//! What happens, as a stream: the read model when it changes, and each call and job that this API has answered.

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use timerose_core::failure::Failure;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};
use tokio::time::{Instant, sleep_until};

use super::error::ApiError;
use super::jobs::named;
use super::{Shared, status};
use crate::ports::Counters;

/// Streams at the same time; one more is told to come again.
const READERS: usize = 32;
/// When it may.
const RETRY_MS: u64 = 5000;
/// Events that wait for a slow reader; older ones are left out.
const QUEUE: usize = 256;
/// How often the read model is sent at most.
const VIEW_EVERY: Duration = Duration::from_millis(250);

/// Where routes tell what they have done.
#[derive(Clone)]
pub(super) struct Events {
    done: broadcast::Sender<(&'static str, Arc<Value>)>,
    readers: Arc<Semaphore>,
}

impl Events {
    pub fn new() -> Events {
        Events { done: broadcast::channel(QUEUE).0, readers: Arc::new(Semaphore::new(READERS)) }
    }

    /// A place for one more reader of a stream; without one left it is told to come again.
    pub fn place(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let full = |_| Failure::Overloaded { retry_after_ms: RETRY_MS };
        self.readers.clone().try_acquire_owned().map_err(full)
    }

    /// Tells whoever listens. It costs nothing while nobody does.
    pub fn tell(&self, name: &'static str, data: impl FnOnce() -> Value) {
        if self.done.receiver_count() > 0 {
            // The last listener may have gone since.
            let _ = self.done.send((name, Arc::new(data())));
        }
    }
}

/// One reader's place in the stream.
struct Reader {
    api: super::Api,
    view: watch::Receiver<timerose_core::view::View>,
    done: broadcast::Receiver<(&'static str, Arc<Value>)>,
    /// Before this the view is not sent again.
    next_view: Instant,
    _place: OwnedSemaphorePermit,
}

/// `GET /v1/events`: `view`, `call` and `job` events until the reader goes.
pub(super) async fn events(State(api): Shared) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let place = api.events.place()?;
    let (mut view, done) = (api.ports.view.clone(), api.events.done.subscribe());
    view.mark_changed();
    let reader = Reader { api, view, done, next_view: Instant::now(), _place: place };
    let stream = futures::stream::unfold(reader, |mut reader| async {
        let event = reader.next().await?;
        Some((Ok(event), reader))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

impl Reader {
    /// The next event; none when the node ends.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let next_view = self.next_view;
            let changed = async {
                sleep_until(next_view).await;
                self.view.changed().await
            };
            tokio::select! {
                changed = changed => {
                    changed.ok()?;
                    self.next_view = Instant::now() + VIEW_EVERY;
                    return Some(named("view", &self.show_view()));
                }
                done = self.done.recv() => match done {
                    Ok((name, data)) => return Some(named(name, &data)),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                },
            }
        }
    }

    fn show_view(&mut self) -> Value {
        let view = self.view.borrow_and_update();
        let counters = &self.api.ports.counters;
        json!({
            "members": status::show_members(&view),
            "calls": view.calls,
            "calls_waiting": view.calls_waiting,
            "jobs": view.jobs,
            "slots_used": view.slots_used,
            "work": view.work,
            "runs": Counters::read(&counters.runs),
        })
    }
}
