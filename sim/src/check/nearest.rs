//! Calls of an idle mesh go to the nearest executor, and to none that refuses.

use super::{Breach, Law, Verdict};
use crate::fact::Fact;

/// Counts who runs what.
#[derive(Debug)]
pub struct Nearest {
    per_mille_min: u64,
    calls: u64,
    nearest: u64,
}

impl Nearest {
    /// So many calls in a thousand must go to the nearest executor; 0 demands nothing.
    pub fn new(per_mille_min: u64) -> Self {
        Nearest { per_mille_min, calls: 0, nearest: 0 }
    }
}

impl Law for Nearest {
    fn name(&self) -> &'static str {
        "nearest"
    }

    fn see(&mut self, _: u64, fact: &Fact) -> Verdict {
        let Fact::Chosen { node, claims, rtt_us, least_us } = fact else { return Ok(()) };
        if self.per_mille_min > 0 && *claims != 1 {
            return Breach::at(*node, format!("{claims} executors were asked, and the mesh was idle"));
        }
        self.calls += 1;
        self.nearest += u64::from(rtt_us <= least_us);
        Ok(())
    }

    fn end(&mut self) -> Verdict {
        let Nearest { per_mille_min, calls, nearest } = *self;
        if per_mille_min > 0 && (calls == 0 || nearest * 1000 < calls * per_mille_min) {
            return Err(Breach { node: None, what: format!("{nearest} of {calls} calls went to the nearest executor") });
        }
        Ok(())
    }
}
