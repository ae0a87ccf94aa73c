//! Real swarms on loopback: frames, fetching, and peers that misbehave.

mod common;
mod fetching;
mod framing;
mod misbehaving;
mod shares;
