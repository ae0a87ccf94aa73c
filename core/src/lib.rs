//! What is decided in a TimeRose node: the vocabulary, the messages, and the state machines that act on them.
//!
//! The crate has no clock, no entropy, no input or output, and no floats in decisions: [`node::Node::handle`] takes
//! the time and one [`io::Input`], and appends [`io::Output`]s. A real node and the simulator drive the same code.
//!
//! Modules are listed in import order: a module may use only those above it (a tidy test checks it).
#![no_std]
extern crate alloc;

pub mod id;
pub mod resources;
pub mod failure;
mod canonical;
pub mod record;
pub mod function;
mod recorded;
pub mod task;
pub mod proof;
pub mod capability;
pub mod delegation;
pub mod job;
pub mod promise;
pub mod span;
pub mod message;
pub mod envelope;
mod statement;
pub mod placement;
pub mod io;
pub mod timers;
pub mod mesh;
pub mod membership;
pub mod channel;
pub mod memo;
mod search;
mod inquiry;
mod manifest;
pub mod view;
pub mod store;
mod call;
pub mod queue;
mod pace;
pub mod scheduler;
pub mod effects;
pub mod turns;
mod work;
pub mod executor;
mod plan;
pub mod runner;
pub mod ledger;
pub mod node;
pub mod replay;
