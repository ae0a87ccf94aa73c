//! The arguments of what shows what nodes saw: traces, logs, and how a node writes its own.

use clap::ValueEnum;

use super::Show;

/// How a node's own log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `timerose trace`
#[derive(clap::Args)]
pub struct Trace {
    #[command(flatten)]
    pub show: Show,
    /// A trace's id: what calls and jobs say with `-o json`.
    #[arg(value_name = "TRACE")]
    pub id: String,
}

/// `timerose logs`
#[derive(clap::Args)]
pub struct Logs {
    #[command(flatten)]
    pub show: Show,
    /// A TaskId, such as what `call --detach` printed; or the id of its trace.
    #[arg(value_name = "TASK")]
    pub task: String,
    /// Go on until the run has ended; wait for it if it has not begun.
    #[arg(short, long)]
    pub follow: bool,
}
