//! The narrow handle by which content and API ask the swarm who has a block: a look-up in the DHT, bounded in time.

use cid::Cid;
use libp2p::{Multiaddr, PeerId};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::announce::Announcements;

/// How long a look-up may take, dials included.
const WAIT: Duration = Duration::from_secs(4);
/// Look-ups that wait for the swarm; further ones wait with them.
const QUEUE: usize = 64;

/// Somebody who says that it has a block.
#[derive(Clone, Debug)]
pub(crate) struct Provider {
    /// Who.
    pub peer: PeerId,
    /// Where, as far as was told.
    pub addrs: Vec<Multiaddr>,
    /// Whether it is connected.
    pub connected: bool,
}

/// A look-up.
pub(crate) struct Find {
    /// What for.
    pub cid: Cid,
    /// Whether providers are dialled: the answer then comes with the first that is connected, or when none could be reached.
    pub dial: bool,
    /// Who is of no interest.
    pub skip: BTreeSet<PeerId>,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Vec<Provider>>,
}

/// What content may ask of routing.
#[derive(Clone)]
pub(crate) struct Routes {
    /// Who has something.
    pub finder: Finder,
    /// Let others know of something.
    pub announcements: Announcements,
}

impl Routes {
    /// Nothing to announce yet, and where look-ups arrive.
    pub fn new() -> (Routes, mpsc::Receiver<Find>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Routes { finder: Finder(sender), announcements: Announcements::default() }, receiver)
    }
}

/// Asks for look-ups. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Finder(mpsc::Sender<Find>);

impl Finder {
    /// Who provides a block; nobody, if that is not known in time.
    pub async fn find(&self, cid: Cid) -> Vec<Provider> {
        self.ask(cid, false, BTreeSet::new()).await
    }

    /// Connects with somebody who provides a block and is not among `skip`; gives who is connected, or else whom it was tried to reach.
    pub async fn reach(&self, cid: Cid, skip: BTreeSet<PeerId>) -> Vec<Provider> {
        self.ask(cid, true, skip).await
    }

    async fn ask(&self, cid: Cid, dial: bool, skip: BTreeSet<PeerId>) -> Vec<Provider> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.0.send(Find { cid, dial, skip, answer }).await.ok()?;
            answered.await.ok()
        };
        timeout(WAIT, asked).await.ok().flatten().unwrap_or_default()
    }
}
