//! Time and randomness that a task makes up: the same for every run of it, everywhere.

use cid::Cid;
use sha2::{Digest, Sha256};

use super::codes::{self, Errno, Fault};
use super::guest::Guest;

/// How far the clock goes on at each reading, in nanoseconds: a program that waits for time to pass ends.
const STEP_NS: u64 = 1_000;
const SECOND_NS: u64 = 1_000_000_000;
/// 2000-01-01 UTC, in seconds since 1970: the earliest start of a program's wall clock.
const EARLIEST: u64 = 946_684_800;
/// The start is spread over some 34 years, and so stays within what 32 bits of signed seconds can say.
const SPREAD: u64 = 1 << 30;
/// The most random bytes that are given at a time.
const RANDOM_MAX: usize = 1 << 20;
/// The most events that are waited for at a time.
const SUBSCRIPTIONS_MAX: u32 = 1024;
/// Bytes of a subscription and of an event.
const SUBSCRIPTION: u32 = 48;
const EVENT: usize = 32;

/// The clock and the randomness of one run.
pub(super) struct World {
    seed: [u8; 32],
    /// What the wall clock showed at the start, in nanoseconds since 1970.
    started: u64,
    /// Nanoseconds since the start.
    now: u64,
    /// Blocks of randomness that were used.
    blocks: u64,
}

impl World {
    pub(super) fn of(task: &Cid) -> Self {
        let seed: [u8; 32] = Sha256::new().chain_update(b"timerose/seed/1").chain_update(task.to_bytes()).finalize().into();
        let [a, b, c, d, ..] = seed;
        let offset = u64::from(u32::from_le_bytes([a, b, c, d])) % SPREAD;
        World { seed, started: (EARLIEST + offset) * SECOND_NS, now: 0, blocks: 0 }
    }

    pub(super) fn resolution(clock: u32) -> Result<u64, Fault> {
        if clock > codes::CLOCK_THREAD_CPUTIME { Err(Errno::Inval.into()) } else { Ok(STEP_NS) }
    }

    /// Reads a clock, in nanoseconds: the wall clock since 1970, all others since the start.
    pub(super) fn read(&mut self, clock: u32) -> Result<u64, Fault> {
        self.now = self.now.saturating_add(Self::resolution(clock)?);
        Ok(self.shown(clock))
    }

    fn shown(&self, clock: u32) -> u64 {
        if clock == codes::CLOCK_REALTIME { self.started.saturating_add(self.now) } else { self.now }
    }

    pub(super) fn random(&mut self, to: &mut [u8]) -> Result<(), Fault> {
        if to.len() > RANDOM_MAX {
            return Err(Errno::Inval.into());
        }
        for piece in to.chunks_mut(32) {
            let block = Sha256::new().chain_update(self.seed).chain_update(self.blocks.to_le_bytes()).finalize();
            self.blocks += 1;
            piece.copy_from_slice(&block[..piece.len()]);
        }
        Ok(())
    }
}

/// Waits for one of several events. Streams are always ready; where only clocks are waited for, the clock goes on to the
/// earliest and nothing sleeps.
pub(super) fn poll(guest: &mut Guest<'_>, world: &mut World, from: u32, to: u32, count: u32, happened: u32) -> Result<(), Fault> {
    if count == 0 || count > SUBSCRIPTIONS_MAX {
        return Err(Errno::Inval.into());
    }
    let mut timers = Vec::new();
    let mut events = Vec::new();
    for index in 0..count {
        let at = from.checked_add(index * SUBSCRIPTION).ok_or(Errno::Fault)?;
        guest.bytes(at, SUBSCRIPTION)?;
        let user = guest.u64(at)?;
        match guest.u8(at + 8)? {
            codes::EVENT_CLOCK => {
                let clock = guest.u32(at + 16)?;
                World::resolution(clock)?;
                let timeout = guest.u64(at + 24)?;
                let is_point = guest.u16(at + 40)? & codes::SUBSCRIPTION_ABSTIME != 0;
                timers.push((user, if is_point { timeout.saturating_sub(world.shown(clock)) } else { timeout }));
            }
            kind if kind <= codes::EVENT_FD_WRITE => events.push(event(user, kind)),
            _ => return Err(Errno::Inval.into()),
        }
    }
    if events.is_empty() {
        let wait = timers.iter().map(|(_, wait)| *wait).min().unwrap_or(0);
        world.now = world.now.saturating_add(wait);
        events.extend(timers.iter().filter(|(_, timer)| *timer <= wait).map(|(user, _)| event(*user, codes::EVENT_CLOCK)));
    }
    guest.put(to, events.as_flattened())?;
    guest.put_u32(happened, events.len() as u32)
}

fn event(user: u64, kind: u8) -> [u8; EVENT] {
    let mut event = [0; EVENT];
    event[..8].copy_from_slice(&user.to_le_bytes());
    event[10] = kind;
    if kind != codes::EVENT_CLOCK {
        // How many bytes are ready: at least one, so that a program tries.
        event[16] = 1;
    }
    event
}
