//! The arguments of what shows who is in the mesh.

use super::Show;

/// `timerose members`
#[derive(clap::Args)]
pub struct Members {
    #[command(flatten)]
    pub show: Show,
    /// Go on until Ctrl-C: drawn anew on a terminal whenever something changes; elsewhere, and as JSON, a line for each change.
    #[arg(short, long)]
    pub watch: bool,
}
