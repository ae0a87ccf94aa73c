//! Where words go: data to stdout, all else to stderr.

use serde_json::Value;
use std::io::{IsTerminal, Write};

use crate::args::{Format, LogFormat};
use crate::error::CliError;
use crate::log::JsonLines;

/// Writes one line of data.
pub fn line(text: &str) -> Result<(), CliError> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}").map_err(|e| CliError::stdout(&e))
}

/// To the upper left, and the rest of the terminal cleared.
const ANEW: &str = "\x1b[H\x1b[J";

/// Draws what stands on a terminal anew.
pub fn redraw(text: &str) -> Result<(), CliError> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{ANEW}{text}").and_then(|()| stdout.flush()).map_err(|e| CliError::stdout(&e))
}

/// Writes a result: as JSON, or as `table` shows it.
pub fn show(format: Format, value: &Value, table: impl FnOnce() -> String) -> Result<(), CliError> {
    match format {
        Format::Json => line(&value.to_string()),
        Format::Table => line(&table()),
    }
}

/// Says something that is no data.
pub fn say(text: &str) {
    // Where stderr is closed there is nobody to tell.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Sends the log to stderr; `RUST_LOG` says more finely than `-v` what is shown.
pub fn start_log(verbose: u8, format: LogFormat) {
    // A node that knows nobody yet is no cause for alarm, though Kademlia warns of it.
    let default = match verbose {
        0 => "warn,libp2p_kad=error",
        1 => "warn,libp2p_kad=error,timerose_node=info,timerose_content=info,timerose_engines=info",
        _ => "info,timerose_node=debug,timerose_content=debug,timerose_engines=debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| default.into());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.event_format(JsonLines).init(),
    }
}
