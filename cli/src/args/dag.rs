//! The arguments of `timerose dag`.

use super::{Format, Show};
use clap::Subcommand;
use std::path::PathBuf;

/// `timerose dag`
#[derive(Subcommand)]
pub enum Dag {
    /// Write a DAG as a CAR.
    Export(DagExport),
    /// Take in the blocks of CARs, of version 1 or 2; prints their roots.
    Import(DagImport),
}

/// `timerose dag export`
#[derive(clap::Args)]
pub struct DagExport {
    /// The root.
    #[arg(value_name = "CID")]
    pub cid: String,
    /// Where to; must not exist. By default stdout.
    #[arg(short = 'o', long = "to", value_name = "FILE.car")]
    pub to: Option<PathBuf>,
    /// The format's version. 2 has an index of its blocks, and takes longer, as its length stands at its beginning.
    #[arg(long, default_value_t = 1, value_name = "1|2", value_parser = clap::value_parser!(u8).range(1..=2))]
    pub car_version: u8,
    /// How the result is shown, where the CAR itself does not go to stdout.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// `timerose dag import`
#[derive(clap::Args)]
pub struct DagImport {
    #[command(flatten)]
    pub show: Show,
    /// The archives; `-` is stdin.
    #[arg(value_name = "FILE.car", required = true)]
    pub files: Vec<PathBuf>,
    /// Pin the roots.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pub pin_roots: bool,
}
