//! Recordings: what a node was told, turn by turn, and whether a fresh node decides the same upon it.

use alloc::format;
use alloc::vec::Vec;
use cid::Cid;
use serde::{Deserialize, Serialize};

use crate::id::{Now, RAW, cid_of};
use crate::io::{Input, Output};
use crate::membership::NodeConfig;
use crate::node::Node;
use crate::record::Record;

/// What a recording begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// The node whose turns follow.
    pub config: NodeConfig,
}

impl Record for Recording {
    const SCHEMA: &'static str = "timerose/recording";
    const MAX_BYTES: usize = 1 << 20;
}

/// One turn of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// When.
    pub now: Now,
    /// What it was told.
    pub input: Input,
    /// The [`digest`] of what it decided.
    pub outputs: Cid,
}

impl Record for Turn {
    const SCHEMA: &'static str = "timerose/turn";
    /// The list of a large data set's files is the largest input.
    const MAX_BYTES: usize = 1 << 30;
}

/// What some outputs are known by: equal ones in an equal order have an equal one.
pub fn digest(outputs: &[Output]) -> Cid {
    cid_of(RAW, format!("{outputs:?}").as_bytes())
}

/// A fresh node that is told what another one was told.
#[derive(Debug)]
pub struct Replay {
    node: Node,
}

impl Replay {
    /// Begins as the recorded node began.
    pub fn new(recording: Recording) -> Replay {
        Replay { node: Node::new(recording.config) }
    }

    /// Takes the next turn. Gives what was decided now if it is not what was decided then.
    pub fn turn(&mut self, turn: Turn) -> Result<(), Vec<Output>> {
        let mut outputs = Vec::new();
        self.node.handle(turn.now, turn.input, &mut outputs);
        if digest(&outputs) == turn.outputs { Ok(()) } else { Err(outputs) }
    }
}
