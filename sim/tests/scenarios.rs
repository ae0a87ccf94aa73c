//! Every scenario under `scenarios/`, under the same seeds every time, or under as many fresh ones as are asked for.

#![expect(clippy::print_stderr, reason = "reports are for whoever reads the log")]

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use timerose_sim::{Report, Scenario, run};

/// Seeds that each scenario is played under: four, which make over fifty runs and fail for what was changed alone; or as many
/// fresh ones as `TIMEROSE_SEEDS` says.
fn seeds() -> Range<u64> {
    match std::env::var("TIMEROSE_SEEDS").ok().and_then(|text| text.parse::<u64>().ok()) {
        None => 1..5,
        Some(count) => {
            let first = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis() as u64;
            first..first + count
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn load(name: &str) -> Scenario {
    let text = std::fs::read_to_string(folder().join(name)).expect("a scenario of this folder");
    Scenario::parse(&format!("sim/scenarios/{name}"), &text).unwrap_or_else(|e| panic!("{e}"))
}

fn names() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).expect("the folder of scenarios");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name in UTF-8")).collect();
    names.sort();
    names
}

fn played(scenario: &Scenario, seed: u64) -> Result<Report, String> {
    run(scenario, seed).inspect(|report| eprintln!("{report}\n")).map_err(|violation| violation.to_string())
}

fn play(scenario: &Scenario, seed: u64) -> Report {
    played(scenario, seed).unwrap_or_else(|violation| panic!("\n{violation}\n"))
}

#[test]
fn every_law_holds_in_every_scenario() {
    let (names, seeds) = (names(), &seeds());
    assert!(names.len() >= 8, "scenarios went missing: {names:?}");
    // Scenarios are dealt to two threads, which is what a small machine has. A broken law does not stop the others.
    let broken = std::thread::scope(|scope| {
        let deal = |part| {
            let mine: Vec<&String> = names.iter().skip(part).step_by(2).collect();
            scope.spawn(move || {
                let runs = mine.into_iter().flat_map(|name| seeds.clone().map(move |seed| (name, seed)));
                runs.filter_map(|(name, seed)| played(&load(name), seed).err()).collect::<Vec<String>>()
            })
        };
        [0, 1].map(deal).map(|part| part.join().expect("no panic")).concat()
    });
    assert!(broken.is_empty(), "{} broken:\n{}", broken.len(), broken.join("\n"));
}

/// `TIMEROSE_TASKS` says how many calls of nodes that hear their answers, about; `make soak` asks for ten thousand.
#[test]
fn each_call_over_pubsub_ends_once_and_truly_though_letters_get_lost_and_come_twice_and_peers_are_silent() {
    let mut scenario = load("gossip.toml");
    let asked = std::env::var("TIMEROSE_TASKS").ok().and_then(|text| text.parse().ok());
    scenario.calls = asked.map_or(scenario.calls, |calls: u64| calls * 10 / 8);
    scenario.safety_ms = scenario.safety_ms.max((scenario.calls + 250) * scenario.call_every_ms);
    let report = play(&scenario, 1);
    // The laws judged every answer: those who hear have each its one true result. The deaf ask two in ten, in vain.
    let all = scenario.calls + scenario.last_calls;
    assert!(report.settled == all && report.ok > scenario.calls * 3 / 4, "{report:?}");
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let scenario = load("crashes.toml");
    let (first, second, other) = (play(&scenario, 7), play(&scenario, 7), play(&scenario, 8));
    assert_eq!(first, second, "all numbers and the hash");
    assert_ne!(first.hash, other.hash);
}

#[test]
fn the_scenarios_show_what_they_are_there_for() {
    let overload = play(&load("overload.toml"), 1);
    assert!(overload.nacks > 100, "executors refuse: {overload:?}");
    assert!(overload.failed.contains_key("Overloaded"), "queues are bounded: {overload:?}");
    let crashes = play(&load("crashes.toml"), 1);
    assert!(crashes.retries > 0, "work is done again elsewhere: {crashes:?}");
    let calm = play(&load("calm.toml"), 1);
    assert_eq!((calm.ok, calm.settled), (320, 320));
    assert!(calm.p50_us < 60_000, "{calm:?}");
}
