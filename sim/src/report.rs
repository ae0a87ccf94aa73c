//! What a run came to: a report, or the law that was broken.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use timerose_core::message::Message;

use crate::check::Breach;
use crate::scenario::Scenario;

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The scenario's file.
    pub scenario: String,
    /// The seed: the same one gives the same report.
    pub seed: u64,
    /// SHA-256 over all facts, in hex.
    pub hash: String,
    /// Calls that were answered.
    pub settled: u64,
    /// Of those, with a result.
    pub ok: u64,
    /// Of those, with a failure, by its code.
    pub failed: BTreeMap<&'static str, u64>,
    /// Jobs that gave their result.
    pub jobs_ok: u64,
    /// Jobs that failed, by the failure's code.
    pub jobs_failed: BTreeMap<&'static str, u64>,
    /// From submission to result, in microseconds: the median.
    pub p50_us: u64,
    /// The 99th in a hundred.
    pub p99_us: u64,
    /// Refusals that were sent to another node.
    pub nacks: u64,
    /// Claims that were sent to another node.
    pub claims: u64,
    /// Claims beyond the first, of calls that gave a result.
    pub retries: u64,
    /// Where a scenario demands it: calls of nodes that run nothing themselves which went to the nearest executor.
    pub near: u64,
    /// Of so many.
    pub near_of: u64,
    /// Bytes of content that were brought from one node to another.
    pub bytes_moved: u64,
    /// The most outputs of one input.
    pub outputs_max: u64,
    /// Virtual time.
    pub virtual_ms: u64,
    /// Events that happened.
    pub events: u64,
}

/// A law was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub law: &'static str,
    /// When, in virtual microseconds.
    pub at: u64,
    /// Where, if it was one node's doing.
    pub node: Option<usize>,
    /// How.
    pub what: String,
    /// The scenario's file.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { law, at, what, scenario, seed, .. } = self;
        let place = self.node.map_or(String::new(), |node| format!(", node {node}"));
        writeln!(f, "the law {law} was broken at {}.{:06} s{place}: {what}", at / 1_000_000, at % 1_000_000)?;
        write!(f, "replay it: timerose sim {scenario} --seed {seed}")
    }
}

impl std::error::Error for Violation {}

impl Violation {
    pub(crate) fn new(law: &'static str, at: u64, breach: Breach, report: &Report) -> Violation {
        let (scenario, seed) = (report.scenario.clone(), report.seed);
        Violation { law, at, node: breach.node, what: breach.what, scenario, seed }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failures = |map: &BTreeMap<&str, u64>| map.iter().map(|(code, n)| format!(", {n} {code}")).collect::<String>();
        writeln!(f, "{} seed {}: {} of {} calls ok{}", self.scenario, self.seed, self.ok, self.settled, failures(&self.failed))?;
        if self.jobs_ok > 0 || !self.jobs_failed.is_empty() {
            writeln!(f, "jobs: {} ok{}", self.jobs_ok, failures(&self.jobs_failed))?;
        }
        writeln!(
            f,
            "p50 {} us, p99 {} us; {} claims, {} nacks, {} retries",
            self.p50_us, self.p99_us, self.claims, self.nacks, self.retries
        )?;
        if self.near_of > 0 {
            writeln!(f, "{} of {} calls went to the nearest executor", self.near, self.near_of)?;
        }
        writeln!(f, "{} bytes moved, {} events in {} virtual ms", self.bytes_moved, self.events, self.virtual_ms)?;
        write!(f, "hash {}", self.hash)
    }
}

impl Report {
    /// A message was sent to another node.
    pub(crate) fn said(&mut self, message: &Message) {
        match message {
            Message::Claim { .. } => self.claims += 1,
            Message::Nack { .. } => self.nacks += 1,
            _ => {}
        }
    }

    pub(crate) fn new(scenario: &Scenario, seed: u64) -> Report {
        Report {
            scenario: scenario.name.clone(),
            seed,
            hash: String::new(),
            settled: 0,
            ok: 0,
            failed: BTreeMap::new(),
            jobs_ok: 0,
            jobs_failed: BTreeMap::new(),
            p50_us: 0,
            p99_us: 0,
            nacks: 0,
            claims: 0,
            retries: 0,
            near: 0,
            near_of: 0,
            bytes_moved: 0,
            outputs_max: 0,
            virtual_ms: 0,
            events: 0,
        }
    }

    pub(crate) fn finish(&mut self, hash: String, now: u64, mut totals_us: Vec<u64>) {
        totals_us.sort_unstable();
        let percentile = |p: usize| totals_us.get((totals_us.len() * p / 100).min(totals_us.len().saturating_sub(1))).copied();
        self.p50_us = percentile(50).unwrap_or(0);
        self.p99_us = percentile(99).unwrap_or(0);
        self.virtual_ms = now / 1000;
        self.hash = hash;
    }
}
