//! What went wrong, for people and for scripts: a code, a cause, a hint, and an exit code.

use serde_json::Value;
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;
use timerose_core::failure::Failure;

use crate::text::plain;

/// The code of what is no error: whoever read stdout has had enough.
const NOBODY_READS: &str = "NobodyReads";

/// A command that failed.
#[derive(Debug)]
pub struct CliError {
    /// The failure's name: one of those in docs/errors.md, or `Usage`, or `Io`.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// When the node that refused wants to be asked again.
    pub retry_after: Option<Duration>,
}

impl CliError {
    /// The command makes no sense.
    pub fn usage(message: impl Display, hint: impl Display) -> CliError {
        CliError { code: "Usage".into(), message: message.to_string(), hint: hint.to_string(), retry_after: None }
    }

    /// This machine did not do its part.
    pub fn io(what: impl Display, error: impl Display) -> CliError {
        CliError { code: "Io".into(), ..CliError::usage(format!("{what}: {error}"), "check the path and its permissions") }
    }

    /// Stdout could not be written: closed by its reader (`| head`), or broken.
    pub fn stdout(error: &std::io::Error) -> CliError {
        let broken = CliError::io("stdout", error);
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => CliError { code: NOBODY_READS.into(), ..broken },
            _ => broken,
        }
    }

    /// A node did not answer, or not as it should.
    pub fn unavailable(message: impl Display, hint: impl Display) -> CliError {
        CliError { code: "Unavailable".into(), ..CliError::usage(message, hint) }
    }

    /// Work with effects was lost on the way.
    pub fn may_have_run(what: impl Into<String>) -> CliError {
        let lost = Failure::MayHaveRun { what: what.into() };
        CliError { code: lost.code().into(), ..CliError::usage(&lost, lost.hint()) }
    }

    /// A node's own error, as its API gives it.
    pub fn from_api(body: &Value) -> CliError {
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_string();
        let retry_after = body["retry_after_ms"].as_u64().map(Duration::from_millis);
        CliError { code: text("code"), message: text("message"), hint: text("hint"), retry_after }
    }

    /// Says it on stderr and gives the exit code; docs/errors.md lists both.
    pub fn report(&self) -> ExitCode {
        if self.code == NOBODY_READS {
            return ExitCode::SUCCESS;
        }
        let mut stderr = std::io::stderr().lock();
        // Where stderr is closed there is nobody to tell.
        // The message may hold what a guest or a peer wrote.
        let safe = |text: &str| text.lines().map(plain).collect::<Vec<_>>().join("\n");
        let _ = writeln!(stderr, "error: {}: {}", self.code, safe(&self.message));
        if !self.hint.is_empty() {
            let _ = writeln!(stderr, " hint: {}", safe(&self.hint));
        }
        ExitCode::from(self.exit_code())
    }

    fn exit_code(&self) -> u8 {
        match self.code.as_str() {
            "Usage" | "BadArgument" | "Rejected" => 2,
            "NotFound" => 3,
            "Denied" | "NotProven" => 4,
            "FunctionFailed" | "LimitExceeded" => 5,
            "NoExecutor" | "Overloaded" | "DeadlineExceeded" | "NodeFailed" | "StorageFull" | "MayHaveRun" | "Unavailable"
            | "Cancelled" => 6,
            _ => 1,
        }
    }
}
