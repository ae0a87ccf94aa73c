//! Faults on purpose, at the boundary of gossip, so that tests with real processes can show what the channel stands.

use crate::config::Faults;

/// Says of each message what becomes of it: the same seed and the same messages give the same.
pub(crate) struct Faulty {
    faults: Faults,
    state: u64,
}

impl Faulty {
    /// No faults at all where none are asked for.
    pub fn new(faults: Faults) -> Faulty {
        Faulty { faults, state: faults.seed }
    }

    /// Whether a message on a topic is heard and passed on.
    pub fn hears(&mut self) -> bool {
        !self.faults.silent && (self.faults.loss_per_mille == 0 || self.draw() % 1000 >= u64::from(self.faults.loss_per_mille))
    }

    /// Whether letters go out.
    pub fn speaks(&self) -> bool {
        !self.faults.silent
    }

    /// The next number of the generator SplitMix64.
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_messages_are_lost_as_were_asked_for_and_the_same_ones_each_time() {
        let lost = |faults| {
            let mut faulty = Faulty::new(faults);
            (0..100_000).filter(|_| !faulty.hears()).collect::<Vec<u32>>()
        };
        let one_percent = Faults { seed: 7, loss_per_mille: 10, ..Faults::default() };
        let (first, again, other) = (lost(one_percent), lost(one_percent), lost(Faults { seed: 8, ..one_percent }));
        assert!((900..1100).contains(&first.len()), "{}", first.len());
        assert!(first == again && first != other);
        assert!(lost(Faults::default()).is_empty() && Faulty::new(Faults::default()).speaks());
        let silent = Faults { silent: true, ..Faults::default() };
        assert!(lost(silent).len() == 100_000 && !Faulty::new(silent).speaks());
    }
}
