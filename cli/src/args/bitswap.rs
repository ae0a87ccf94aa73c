//! The arguments about the exchange of blocks.

use clap::Subcommand;

use super::Show;

/// `timerose bitswap`
#[derive(Subcommand)]
pub enum Bitswap {
    /// Show how many blocks and bytes came and went since the node began.
    Stat(Show),
    /// Show what came from each peer and went to it.
    Ledger(Ledger),
}

/// `timerose bitswap ledger`
#[derive(clap::Args)]
pub struct Ledger {
    #[command(flatten)]
    pub show: Show,
    /// The peer id of the only peer to show.
    #[arg(value_name = "PEER")]
    pub peer: Option<String>,
}
