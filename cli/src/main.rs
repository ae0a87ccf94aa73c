//! `timerose`: a computing mesh over IPFS, as a command line.
//!
//! Arguments, environment and files are read here and nowhere else. Data goes to stdout, everything else to stderr.

mod args;
mod client;
mod commands;
mod error;
mod log;
#[cfg(test)]
mod manual;
mod output;
mod paths;
mod progress;
mod telemetry;
mod text;

use clap::Parser;
use std::process::ExitCode;

/// Small calls allocate on one thread and free on another all the time. The system's allocator keeps what each thread's arena once
/// needed, so memory crept up with the number of calls.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = args::Args::parse();
    output::start_log(args.verbose, args.log_format);
    match commands::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}
