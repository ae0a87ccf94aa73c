//! `make bench`: how fast the paths of DESIGN §8 are, each beside its limit, measured in the same run.
//!
//! Nothing here is a test: figures depend on the machine and on what else it does, so none is asserted. Every call has an
//! argument of its own, rounds of TimeRose and of its limit alternate, and a row shows the median of its rounds with their
//! spread. The table goes to stdout, the same figures as lines of JSON to a file. `docs/performance.md` explains the rows.
#![allow(clippy::print_stdout, reason = "the table is what this program is for")]
#![allow(clippy::print_stderr, reason = "so is the progress")]

mod add;
mod core_path;
mod engine_path;
mod exchange;
mod guest;
mod http;
mod kubo;
mod machine;
mod net;
mod pair;
mod range;
mod report;
mod request;
mod script_path;
mod small;
mod telemetry;

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::runtime::Runtime;

use report::Row;

/// As in the binary that users run.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What may be set.
#[derive(Parser)]
#[command(about = "Measures the paths of DESIGN section 8, each beside its limit")]
pub struct Settings {
    /// The groups to run: core, engine, script, small, telemetry, pair, add, exchange, kubo, range. All where none is named.
    groups: Vec<String>,
    /// Rounds of every row.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// MiB that the rows about bulk data move in a round.
    #[arg(long, default_value_t = 256)]
    size_mb: u64,
    /// Seconds of a round that counts requests.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Connections of the rows that count requests.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Where the data lies meanwhile, and where the figures go. The disk below it is the one that is measured.
    #[arg(long, default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/../bench"))]
    dir: PathBuf,
    /// The folder that scripts/peers filled, for the rows about Kubo.
    #[arg(long)]
    peers: Option<PathBuf>,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Settings {
    /// The folder of a group's data.
    fn folder(&self, name: &str) -> PathBuf {
        machine::folder(&self.data(), name)
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }
}

type Group = (&'static str, fn(&Runtime, &Settings) -> Vec<Row>);

const GROUPS: &[Group] = &[
    ("core", core_path::rows),
    ("engine", engine_path::rows),
    ("script", script_path::rows),
    ("small", small::rows),
    ("telemetry", telemetry::rows),
    ("pair", pair::rows),
    ("add", add::rows),
    ("exchange", exchange::rows),
    ("kubo", kubo::rows),
    ("range", range::rows),
];

fn main() -> ExitCode {
    let settings = Settings::parse();
    if let Some(unknown) = settings.groups.iter().find(|name| GROUPS.iter().all(|(group, _)| group != name)) {
        eprintln!("no group is called {unknown:?}");
        return ExitCode::from(2);
    }
    let data = settings.data();
    // What an interrupted run left.
    let _ = std::fs::remove_dir_all(&data);
    std::fs::create_dir_all(&data).expect("a folder for the data");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let machine = machine::describe(&data);
    let mut rows = Vec::new();
    for (name, measure) in GROUPS {
        if settings.groups.is_empty() || settings.groups.iter().any(|group| group == name) {
            eprintln!("-- {name} (load {})", machine::load());
            rows.extend(measure(&runtime, &settings));
        }
    }
    let after = machine::load();
    println!("{machine}; load after: {after}");
    println!("{} rounds, {} MiB, median (least to most)\n", settings.rounds, settings.size_mb);
    println!("{}", report::table(&rows));
    let file = settings.dir.join("latest.json");
    std::fs::write(&file, report::lines(&rows, &machine, &after)).expect("the figures are written");
    // What cannot be removed now is removed by the next run.
    let _ = std::fs::remove_dir_all(&data);
    ExitCode::SUCCESS
}
