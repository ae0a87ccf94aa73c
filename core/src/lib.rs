//! What is decided in a TimeRose node: the vocabulary, the messages, and the state machines that act on them.
//!
//! The crate has no clock, no entropy, no input or output, and no floats in decisions: [`node::Node::handle`] takes
//! the time and one [`io::Input`], and appends [`io::Output`]s. A real node and the simulator drive the same code.
//!
//! Modules are listed in import order: a module may use only those above it (a tidy test checks it).
#![no_std]
extern crate alloc;

mod call;
pub mod capability;
pub mod executor;
pub mod failure;
pub mod function;
pub mod id;
pub mod io;
pub mod job;
pub mod membership;
pub mod mesh;
pub mod message;
pub mod node;
pub mod placement;
pub mod record;
pub mod resources;
pub mod runner;
pub mod scheduler;
pub mod store;
pub mod task;
pub mod timers;
pub mod view;
