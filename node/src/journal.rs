//! The journal driver: what a node promised, in a log of its own.

mod log;
mod promises;

pub(crate) use promises::Promises;
