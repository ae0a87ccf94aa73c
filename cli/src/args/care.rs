//! The arguments of what helps to look after a node and its command line.

/// `timerose completions`
#[derive(clap::Args)]
pub struct Completions {
    /// The shell; its manual says where such files lie.
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}
