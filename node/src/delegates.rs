//! The keys that this node lets ask for work in its place: the API lets them, and the swarm passes on what is written to them.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use timerose_core::delegation::{Delegation, HOLDERS_MAX};
use timerose_core::id::NodeId;

use crate::keys::{Keys, wall_clock};

/// The delegations of this life. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Delegates {
    keys: Keys,
    /// Until when each holder's is good, in seconds since 1970 UTC.
    holders: Arc<Mutex<BTreeMap<NodeId, u64>>>,
}

impl Delegates {
    /// Nobody yet.
    pub fn new(keys: Keys) -> Delegates {
        Delegates { keys, holders: Arc::default() }
    }

    /// The signed delegation by which `holder` may have functions run for a day. Where [`HOLDERS_MAX`] keys have one, the one
    /// that ends first is forgotten here, as it is by executors.
    pub fn delegate(&self, holder: NodeId) -> Vec<u8> {
        let now = wall_clock();
        // It need not be secret, and two of one millisecond may be the same.
        let delegation = Delegation::new(self.keys.id(), holder, now, now.unix_ms.to_be_bytes().to_vec());
        let mut holders = self.holders.lock();
        holders.insert(holder, delegation.exp);
        if holders.len() > HOLDERS_MAX
            && let Some(first) = holders.iter().min_by_key(|(_, exp)| **exp).map(|(holder, _)| *holder)
        {
            holders.remove(&first);
        }
        self.keys.seal(&delegation)
    }

    /// Whether a key may ask in this node's place now.
    pub fn has(&self, holder: &NodeId) -> bool {
        self.holders.lock().get(holder).is_some_and(|exp| *exp > wall_clock().unix_ms / 1000)
    }
}
