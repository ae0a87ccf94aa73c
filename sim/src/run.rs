//! One run of a scenario: safety under faults, then liveness without; a report, or the law that was broken.

use crate::report::{Report, Violation};
use crate::scenario::Scenario;
use crate::world::{Sink, World};

/// How long the mesh has to find itself again before anything is demanded of it: somewhat longer than the longest pause
/// between two dials.
const HEAL_US: u64 = 45_000_000;

/// Plays a scenario.
pub fn run(scenario: &Scenario, seed: u64) -> Result<Report, Violation> {
    run_traced(scenario, seed, &mut |_| {})
}

/// Plays a scenario and hands on every fact as a line, before the laws see it.
pub fn run_traced(scenario: &Scenario, seed: u64, sink: Sink) -> Result<Report, Violation> {
    let mut world = World::new(scenario, seed, sink);
    let safety_us = scenario.safety_ms * 1000;
    world.plan_safety();
    world.run_until(safety_us)?;
    world.calm_down();
    world.run_until(safety_us + HEAL_US)?;
    world.who_misses_whom();
    world.plan_liveness();
    world.run_until(safety_us + HEAL_US + scenario.liveness_ms * 1000)?;
    world.finish()
}
