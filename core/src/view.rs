//! The read model: all that the API, a dashboard or the simulator may show of a node.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::capability::Role;
use crate::channel::Tally;
use crate::envelope::Via;
use crate::id::NodeId;
use crate::resources::Resources;

/// One node's picture of itself and of the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// This node.
    pub me: NodeId,
    /// Every member that it knows, itself included once it listens.
    pub members: BTreeMap<NodeId, MemberView>,
    /// Calls that this node makes and that have not ended.
    pub calls: usize,
    /// Of those, how many wait: for a manifest, for answers, for an executor.
    pub calls_waiting: usize,
    /// Jobs that this node runs.
    pub jobs: usize,
    /// Slots that this node's executor uses.
    pub slots_used: u32,
    /// Work that this node's executor has admitted and that has not ended.
    pub work: u32,
    /// What came of letters on PubSub topics.
    pub letters: Tally,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// Where it can be dialled, as multiaddrs.
    pub addrs: Vec<String>,
    /// Where it stands, in its operator's words.
    pub region: String,
    /// What it does for others.
    pub roles: Vec<Role>,
    /// Its engines.
    pub engines: Vec<String>,
    /// What it offers in all.
    pub offers: Resources,
    /// The round trip to it, in microseconds, where it was measured.
    pub rtt_us: Option<u64>,
    /// Whether a stream reaches it now.
    pub connected: bool,
    /// How messages reach it now, if they do.
    pub via: Option<Via>,
    /// Whether it said goodbye.
    pub left: bool,
    /// When its process began, in milliseconds since 1970 UTC: the life that letters to it are for.
    pub epoch: u64,
    /// Whether this node takes its calls and believes its answers.
    pub trusted: bool,
}
