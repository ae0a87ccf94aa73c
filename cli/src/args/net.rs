//! The arguments of `timerose net`.

use super::Show;
use clap::Subcommand;

/// `timerose net`
#[derive(Subcommand)]
pub enum Net {
    /// Show what went over the network: by protocol, by topic of PubSub, by transport.
    Stat(Show),
}
