//! The arguments about finding and being found.

use clap::Subcommand;

use super::Show;

/// How far a node reaches beyond its mesh.
#[derive(clap::Args)]
pub struct Reach {
    /// Relay between nodes that it trusts and that cannot dial each other.
    #[arg(long)]
    pub relay: bool,
    /// Join the public network of IPFS: announce there, look up there, and dial no private address that a stranger names. Without it
    /// a node knows its mesh alone.
    #[arg(long)]
    pub public: bool,
}

/// `timerose provide`
#[derive(Subcommand)]
pub enum Provide {
    /// Say what is announced in the DHT, what waits, is late or failed, and when the next is due.
    Stat(Show),
}

/// `timerose providers`
#[derive(clap::Args)]
pub struct Providers {
    #[command(flatten)]
    pub show: Show,
    /// The block, or the root of a file, a folder or a function.
    pub cid: String,
}
