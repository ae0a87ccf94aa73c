//! Many [`Node`](timerose_core::node::Node)s, one virtual clock, one seed.
//!
//! A scenario says what happens: how many nodes, which calls, which faults. A run plays it in two phases: *safety* under
//! faults, then all faults stop and *liveness* is demanded. Laws (one file each under `check/`) watch every fact of the
//! run; the first one that is broken ends it with the command that replays it. The same seed gives the same run.
//!
//! Modules are listed in import order: a module may use only those above it.

pub mod scenario;
pub mod fact;
pub mod check;
pub mod report;
pub mod content;
pub mod network;
mod faults;
mod host;
pub mod world;
mod driver;
mod overlay;
mod load;
mod promises;
pub mod run;

pub use report::{Report, Violation};
pub use run::{run, run_traced};
pub use scenario::{Scenario, ScenarioError};
