//! `sim`: a scenario, played in virtual time. `replay`: a recording of a real node, told to a fresh one.

use serde_json::json;
use std::fmt::Display;
use std::time::{SystemTime, UNIX_EPOCH};
use timerose_sim::{Scenario, run};

use crate::args::{Replay, Sim};
use crate::error::CliError;
use crate::output::{say, show};

/// `timerose sim`
pub fn sim(args: &Sim) -> Result<(), CliError> {
    let name = args.scenario.display().to_string();
    let text = std::fs::read_to_string(&args.scenario).map_err(|e| CliError::io(&name, e))?;
    let scenario =
        Scenario::parse(&name, &text).map_err(|e| CliError::usage(e, "sim/scenarios holds scenarios to start from"))?;
    let seed = args.seed.unwrap_or_else(|| {
        let fresh = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
        say(&format!("seed {fresh}"));
        fresh
    });
    let report =
        run(&scenario, seed).map_err(|broken| violation(broken, format!("the same happens again with --seed {seed}")))?;
    let shown = json!({
        "scenario": report.scenario,
        "seed": report.seed,
        "hash": report.hash,
        "settled": report.settled,
        "ok": report.ok,
        "failed": report.failed,
        "jobs_ok": report.jobs_ok,
        "jobs_failed": report.jobs_failed,
        "p50_us": report.p50_us,
        "p99_us": report.p99_us,
        "claims": report.claims,
        "nacks": report.nacks,
        "retries": report.retries,
        "near": report.near,
        "near_of": report.near_of,
        "bytes_moved": report.bytes_moved,
        "virtual_ms": report.virtual_ms,
        "events": report.events,
    });
    show(args.show.output, &shown, || report.to_string())
}

/// What must not be was.
fn violation(what: impl Display, hint: impl Display) -> CliError {
    CliError { code: "Violation".into(), ..CliError::usage(what, hint) }
}

/// `timerose replay`
pub fn replay(args: &Replay) -> Result<(), CliError> {
    let name = args.file.display();
    let replayed = timerose_node::replay(&args.file).map_err(|why| CliError::io(name, why))?;
    if let Some((turn, how)) = replayed.differs {
        let message = format!("turn {turn} comes out otherwise: {how}");
        return Err(violation(message, "this program decides otherwise than the one that recorded it"));
    }
    let shown = json!({"turns": replayed.turns});
    show(args.show.output, &shown, || format!("{} turns, each as it was", replayed.turns))
}
