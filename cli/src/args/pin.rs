//! The arguments of `timerose pin`.

use super::Show;
use clap::Subcommand;

/// `timerose pin`
#[derive(Subcommand)]
pub enum Pin {
    /// Pin a CID, fetching what is not here.
    Add(PinAdd),
    /// List the pins.
    Ls(PinLs),
    /// Remove pins; what they held goes with the next collection.
    Rm(PinRm),
}

/// `timerose pin add`
#[derive(clap::Args)]
pub struct PinAdd {
    #[command(flatten)]
    pub show: Show,
    /// What to pin.
    #[arg(value_name = "CID", required = true)]
    pub cids: Vec<String>,
    /// A name for it, in your words.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub name: String,
    /// Pin the block alone, not what it links to.
    #[arg(long)]
    pub direct: bool,
}

/// `timerose pin ls`
#[derive(clap::Args)]
pub struct PinLs {
    #[command(flatten)]
    pub show: Show,
    /// Only those of this name.
    #[arg(long)]
    pub name: Option<String>,
}

/// `timerose pin rm`
#[derive(clap::Args)]
pub struct PinRm {
    #[command(flatten)]
    pub show: Show,
    /// What is no longer needed.
    #[arg(value_name = "CID", required = true)]
    pub cids: Vec<String>,
}
