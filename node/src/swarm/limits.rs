//! How much gossip a node takes from one peer, so that who floods it is heard no more than others, and passed on no further.
//!
//! Messages whose author this node trusts have a pace of their own, whoever passed them on. All others share the pace of the
//! peer that they came from: names cost nothing. What is over a pace is neither looked at nor passed on.

use libp2p::PeerId;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Messages of strangers that one peer may bring: a second, and at once.
pub(super) const PEER_RATE: u32 = 64;
pub(super) const PEER_BURST: u32 = 256;
/// Messages of strangers from all peers together. No node passes on more than that.
const STRANGERS_RATE: u32 = 256;
const STRANGERS_BURST: u32 = 1024;
/// Messages of one trusted author: more than two nodes have to say to each other.
const FRIEND_RATE: u32 = 4096;
const FRIEND_BURST: u32 = 8192;
/// What a peer may bring over its pace without losing its standing, a second: an honest one passes on what all strangers may
/// say, and no more.
const EXCUSED_RATE: u32 = STRANGERS_RATE - PEER_RATE;
/// The arrears, at that rate, that cost nothing: twice what an honest peer's burst makes.
const EXCUSED: Duration = Duration::from_secs(8);
/// What each second of arrears beyond costs a peer in gossip's score, and the most that it costs. The peer falls out of
/// gossip's meshes until it has paused, so that it brings nothing of others meanwhile, yet what it says itself is heard.
const COST: f64 = 10.0;
const COST_MAX: f64 = 40.0;
/// Peers whose pace is kept, those included that are gone and come back; strangers that further ones bring are not heard.
const PEERS_MAX: usize = 4096;

/// A pace, kept by the time when all that came is worked off (the generic cell rate algorithm).
#[derive(Clone, Copy)]
struct Pace {
    done: Instant,
}

impl Pace {
    /// Whether one more message is within the pace.
    fn takes(&mut self, now: Instant, rate: u32, burst: u32) -> bool {
        let each = Duration::from_secs(1) / rate;
        let takes = self.arrears(now) + each <= each * burst;
        if takes {
            self.add(now, rate);
        }
        takes
    }

    /// One more message in any case.
    fn add(&mut self, now: Instant, rate: u32) {
        self.done = self.done.max(now) + Duration::from_secs(1) / rate;
    }

    fn arrears(&self, now: Instant) -> Duration {
        self.done.saturating_duration_since(now)
    }
}

/// What one peer brought: what was taken, and what was over.
struct Brought {
    taken: Pace,
    over: Pace,
}

/// The paces.
pub(super) struct Limits {
    peers: BTreeMap<PeerId, Brought>,
    /// Of trusted authors: as many as are trusted.
    friends: BTreeMap<PeerId, Pace>,
    strangers: Pace,
}

impl Limits {
    /// Nothing came so far.
    pub fn new(now: Instant) -> Limits {
        Limits { peers: BTreeMap::new(), friends: BTreeMap::new(), strangers: Pace { done: now } }
    }

    /// Whether a message of a trusted author is taken.
    pub fn takes_of_friend(&mut self, now: Instant, author: PeerId) -> bool {
        self.friends.entry(author).or_insert(Pace { done: now }).takes(now, FRIEND_RATE, FRIEND_BURST)
    }

    /// Whether a message of anybody else is taken from a peer.
    pub fn takes_from(&mut self, now: Instant, peer: PeerId) -> bool {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&peer) {
            return false;
        }
        let new = Pace { done: now };
        let brought = self.peers.entry(peer).or_insert(Brought { taken: new, over: new });
        if !brought.taken.takes(now, PEER_RATE, PEER_BURST) {
            // Beyond what costs the most, more costs no more: it is forgiven as soon.
            if brought.over.arrears(now) < EXCUSED + Duration::from_secs_f64(COST_MAX / COST) {
                brought.over.add(now, EXCUSED_RATE);
            }
            return false;
        }
        self.strangers.takes(now, STRANGERS_RATE, STRANGERS_BURST)
    }

    /// What a peer's arrears cost it: nothing, or a negative score.
    pub fn standing(&self, now: Instant, peer: &PeerId) -> f64 {
        let arrears = self.peers.get(peer).map_or(Duration::ZERO, |brought| brought.over.arrears(now));
        let beyond = arrears.saturating_sub(EXCUSED).as_secs_f64();
        if beyond > 0.0 { -(beyond * COST).min(COST_MAX) } else { 0.0 }
    }

    /// Forgets whoever owes nothing.
    pub fn tidy(&mut self, now: Instant) {
        self.peers.retain(|_, brought| brought.taken.done > now || brought.over.done > now);
        self.friends.retain(|_, pace| pace.done > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds messages of strangers at so many a second for so many seconds; how many were taken.
    fn feed(limits: &mut Limits, begin: Instant, peer: PeerId, rate: u32, seconds: u32) -> u32 {
        let at = |number: u32| begin + Duration::from_secs(1) * number / rate;
        (0..rate * seconds).filter(|number| limits.takes_from(at(*number), peer)).count() as u32
    }

    #[test]
    fn of_a_flood_so_much_is_taken_as_the_pace_allows_and_it_costs_the_peer() {
        let (begin, peer, other) = (Instant::now(), PeerId::random(), PeerId::random());
        let mut limits = Limits::new(begin);
        let taken = feed(&mut limits, begin, peer, 2000, 10);
        assert!(taken <= PEER_BURST + 10 * PEER_RATE, "{taken}");
        assert!(taken >= 10 * PEER_RATE, "{taken}");
        let end = begin + Duration::from_secs(10);
        assert_eq!(limits.standing(end, &peer), -COST_MAX);
        // Others are heard as before, be they strangers at another peer or friends by the same one.
        assert_eq!(feed(&mut limits, end, other, PEER_RATE, 1), PEER_RATE);
        assert!(limits.takes_of_friend(end, other));
        assert_eq!(limits.standing(end, &other), 0.0);
        // It is forgiven within seconds, and then it is as if nothing had been.
        let later = end + EXCUSED + Duration::from_secs(5);
        assert_eq!(limits.standing(later, &peer), 0.0);
        limits.tidy(later);
        assert!(limits.peers.is_empty() && limits.friends.is_empty());
    }

    #[test]
    fn an_honest_node_between_loses_nothing_by_what_others_flood_it_with() {
        let begin = Instant::now();
        let (mut between, mut behind) = (Limits::new(begin), Limits::new(begin));
        let (peer, flooders) = (PeerId::random(), [(); 50].map(|()| PeerId::random()));
        for step in 0..20_000u32 {
            let now = begin + Duration::from_millis(step.into());
            for flooder in &flooders {
                if between.takes_from(now, *flooder) {
                    behind.takes_from(now, peer);
                }
            }
            assert_eq!(behind.standing(now, &peer), 0.0, "at {step} ms");
        }
    }

    #[test]
    fn a_friend_is_heard_whoever_passes_it_on_and_has_its_pace_too() {
        let begin = Instant::now();
        let (mut limits, friend) = (Limits::new(begin), PeerId::random());
        let taken = (0..2 * FRIEND_BURST).filter(|_| limits.takes_of_friend(begin, friend)).count();
        assert_eq!(taken as u32, FRIEND_BURST);
        assert!(limits.takes_of_friend(begin + Duration::from_millis(1), friend));
    }

    #[test]
    fn peers_that_come_and_go_take_bounded_room() {
        let begin = Instant::now();
        let mut limits = Limits::new(begin);
        for _ in 0..2 * PEERS_MAX {
            limits.takes_from(begin, PeerId::random());
        }
        assert_eq!(limits.peers.len(), PEERS_MAX);
    }
}
