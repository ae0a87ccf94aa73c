//! How full and how quick the executors are, as this scheduler sees it: its own work there, their refusals, and what
//! outcomes say of runs and fetches.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use cid::Cid;

use crate::call::State;
use crate::capability::Role;
use crate::failure::Failure;
use crate::function::{Function, TIMEOUT_MS_MAX};
use crate::id::{Instant, MILLISECOND, NodeId, SECOND};
use crate::membership::Membership;
use crate::placement::Candidate;
use crate::queue::Queue;
use crate::task::Done;

/// Work that one scheduler gives one executor for each of its slots: one runs, two wait or fetch.
pub const WORK_PER_SLOT: u32 = 3;
/// How long an executor that did not answer is not asked, unless it is heard before.
const SILENT_REST: Instant = 10 * SECOND;
/// Functions and nodes of which times are kept; beyond, one of them is forgotten and measured again.
const MEASURED_MAX: usize = 256;
/// What a run takes, in microseconds, before any was measured.
const RUN_US: u64 = 5_000;
/// What a byte costs to move, in nanoseconds, before any fetch was measured: 100 MB/s, the order of a good link.
const NS_PER_BYTE: u64 = 10;
/// The slowest that a link is taken for, in nanoseconds a byte: 10 kB/s.
const NS_PER_BYTE_MAX: u64 = 100_000;
/// Bounds of what a refused caller is told to wait, in milliseconds: sooner is a busy loop, and after a minute all may differ.
const RETRY_MS: [u64; 2] = [20, 60_000];
/// A smaller fetch says more of round trips than of bandwidth, in bytes.
const FETCH_MIN: u64 = 64 * 1024;

/// The executors as far as this scheduler has to do with them.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    in_flight: BTreeMap<NodeId, u32>,
    /// Executors that said they are full, and until when they are not asked: or all that wait would ask in turn.
    busy: BTreeMap<NodeId, Instant>,
    /// Those among them that did not say so, but nothing.
    silent: BTreeSet<NodeId>,
    run_us: BTreeMap<Cid, u64>,
    any_run_us: Option<u64>,
    ns_per_byte: BTreeMap<NodeId, u64>,
    any_ns_per_byte: Option<u64>,
}

impl Pace {
    /// Executors that have work of this scheduler.
    pub fn working(&self) -> usize {
        self.in_flight.len()
    }

    /// Work of this scheduler that an executor has not ended.
    pub fn in_flight(&self, node: &NodeId) -> u32 {
        self.in_flight.get(node).copied().unwrap_or(0)
    }

    /// How much more work this scheduler would give an executor now.
    pub fn room(&self, node: &NodeId, slots: u32) -> u32 {
        // A peer says how many slots it has.
        slots.saturating_mul(WORK_PER_SLOT).saturating_sub(self.in_flight(node))
    }

    /// An executor is given work.
    pub fn give(&mut self, node: NodeId) {
        *self.in_flight.entry(node).or_default() += 1;
    }

    /// An executor has one piece of work less.
    pub fn take(&mut self, node: &NodeId) {
        if let Some(count) = self.in_flight.get_mut(node) {
            *count -= 1;
            if *count == 0 {
                self.in_flight.remove(node);
            }
        }
    }

    /// Until when an executor is not asked.
    pub fn busy_until(&self, node: &NodeId) -> Instant {
        self.busy.get(node).copied().unwrap_or(0)
    }

    /// An executor said that it is full. Gives until when it is not asked: bounded, as a peer says it; and never at once, or
    /// two nodes could play ball with a call.
    pub fn rests(&mut self, now: Instant, node: NodeId, retry_after_ms: u64) -> Instant {
        let until = now + retry_after_ms.saturating_mul(MILLISECOND).clamp(5 * MILLISECOND, SECOND);
        self.busy.insert(node, until);
        until
    }

    /// An executor may be asked again: it has ended something, or is gone.
    pub fn rested(&mut self, node: &NodeId) {
        self.busy.remove(node);
        self.silent.remove(node);
    }

    /// An executor does not answer: calls that have no other wait for it to be heard, and do not lose a second each over it.
    pub fn fell_silent(&mut self, now: Instant, node: NodeId) {
        self.silent.insert(node);
        self.busy.insert(node, now + SILENT_REST);
    }

    /// An executor was heard.
    pub fn heard(&mut self, node: &NodeId) {
        if self.silent.contains(node) {
            self.rested(node);
        }
    }

    /// Forgets the rests that are over, and says when the next one is.
    pub fn next_rest(&mut self, now: Instant) -> Option<Instant> {
        self.busy.retain(|_, until| *until > now);
        self.silent.retain(|node| self.busy.contains_key(node));
        self.busy.values().min().copied()
    }

    /// Learns from what a run took. An earlier run's figures say nothing of now.
    pub fn measured(&mut self, function: &Cid, node: NodeId, done: &Done) {
        if done.reused {
            return;
        }
        let usage = &done.usage;
        // An executor says these; they may be anything.
        let run_us = usage.run_us.clamp(1, TIMEOUT_MS_MAX.saturating_mul(MILLISECOND));
        learn(&mut self.run_us, *function, run_us);
        self.any_run_us = Some(mean(self.any_run_us, run_us));
        if usage.fetched >= FETCH_MIN {
            let ns = (usage.fetch_us.saturating_mul(1000) / usage.fetched).clamp(1, NS_PER_BYTE_MAX);
            learn(&mut self.ns_per_byte, node, ns);
            self.any_ns_per_byte = Some(mean(self.any_ns_per_byte, ns));
        }
    }

    /// What a run of a function takes, in microseconds; of any, where it is not known.
    pub fn run_us(&self, function: &Cid) -> u64 {
        self.run_us.get(function).copied().or(self.any_run_us).unwrap_or(RUN_US)
    }

    /// What it costs to bring so many bytes to a node, in microseconds.
    pub fn fetch_us(&self, node: &NodeId, bytes: u64) -> u64 {
        bytes.saturating_mul(self.ns_per_byte(node)) / 1000
    }

    /// What a refused caller is told: until then, the calls that are under way should be done.
    pub fn overloaded(&self, calls: usize, members: &Membership) -> Failure {
        let slots: u64 = members.with_role(Role::Executor).map(|(_, m)| u64::from(m.advert.offers.slots)).sum();
        let us = (calls as u64).saturating_mul(self.any_run_us.unwrap_or(RUN_US)) / slots.max(1);
        Failure::Overloaded { retry_after_ms: (us / MILLISECOND).clamp(RETRY_MS[0], RETRY_MS[1]) }
    }

    /// The executors that may be asked for a call, now or later.
    pub fn candidates(
        &self,
        now: Instant,
        state: &State,
        queue: &Queue,
        function: &Function,
        members: &Membership,
    ) -> Vec<Candidate> {
        let call = &state.call;
        let run_us = self.run_us(&call.task.function);
        let held = |node: &NodeId| call.held.as_ref().and_then(|held| held.get(node)).copied().unwrap_or(0);
        let candidate = |node: &NodeId, slots: u32| {
            let (room, rest_us) = (self.room(node, slots) > 0, self.busy_until(node).saturating_sub(now));
            let open = room && rest_us == 0;
            let crowd = if open { 0 } else { queue.crowd(node) };
            Candidate {
                node: *node,
                missing: call.bytes.saturating_sub(held(node)),
                ns_per_byte: self.ns_per_byte(node),
                rtt_us: members.rtt_us(node),
                slots,
                ahead: self.in_flight(node).saturating_add(crowd),
                run_us,
                rest_us,
                open,
            }
        };
        members
            .executors_for(function, call.via)
            .filter(|(node, _)| !state.passed.contains(node) && !state.refused.contains_key(node))
            .map(|(node, m)| candidate(node, m.advert.offers.slots))
            .collect()
    }

    /// What a byte costs to bring to a node, in nanoseconds.
    fn ns_per_byte(&self, node: &NodeId) -> u64 {
        self.ns_per_byte.get(node).copied().or(self.any_ns_per_byte).unwrap_or(NS_PER_BYTE)
    }
}

/// A moving mean over about eight samples.
fn mean(before: Option<u64>, sample: u64) -> u64 {
    before.map_or(sample, |mean| mean - mean / 8 + sample / 8)
}

fn learn<K: Ord + Copy>(means: &mut BTreeMap<K, u64>, of: K, sample: u64) {
    if means.len() >= MEASURED_MAX && !means.contains_key(&of) {
        means.pop_first();
    }
    let before = means.get(&of).copied();
    means.insert(of, mean(before, sample).max(1));
}
