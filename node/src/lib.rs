//! What is done in a TimeRose node: one loop that asks the core, and the drivers that carry out what it decides.
//!
//! The shape is a star: [`run`] starts every driver and gives each its queues; no driver knows another. What they share
//! stands in `ports` (the narrow handles), `telemetry`, `keys` and `config`.

mod announce;
mod api;
mod client;
mod config;
mod content;
mod delegates;
mod engine;
mod finder;
mod frames;
mod journal;
mod keys;
mod net;
mod ports;
mod receipts;
mod recorder;
mod run;
mod shown;
mod signer;
mod swarm;
mod telemetry;
mod wire;

pub use client::Client;
pub use config::{Config, Faults, Limits, Reach, StartError};
pub use keys::{Keys, open_receipt};
pub use recorder::{Replayed, replay};
pub use run::{Running, start};
pub use shown::verify_receipt;
pub use telemetry::{Sampler, TelemetryConfig};
