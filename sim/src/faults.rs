//! What goes wrong in the world, and how it becomes right again.

use timerose_core::failure::Failure;
use timerose_core::id::Now;

use crate::fact::Fact;
use crate::network::Notice;
use crate::scenario::{Fault, FaultKind};
use crate::world::{Event, World};

/// Virtual time begins here: milliseconds since 1970 UTC.
const UNIX_MS: u64 = 1_800_000_000_000;

impl World<'_> {
    /// What a node's clocks show. They agree until one jumps.
    pub(crate) fn clocks(&self, node: usize) -> Now {
        let unix_ms = (UNIX_MS + self.now / 1000).saturating_add_signed(self.hosts[node].clock_ms);
        Now { monotonic_us: self.now, unix_ms }
    }

    /// Why a node cannot write, if it cannot.
    pub(crate) fn write_failure(&self, node: usize) -> Option<Failure> {
        self.hosts[node].full.then(|| Failure::NodeFailed { what: "the disk is full".into() })
    }

    pub(crate) fn fault(&mut self, fault: &Fault) {
        self.step(fault.nodes.first().copied().unwrap_or(0), format!("fault {fault:?}"));
        let mut notices = Vec::new();
        match fault.kind {
            FaultKind::Partition => notices = self.network.partition(self.now, &fault.nodes),
            FaultKind::Heal => self.network.heal(),
            _ => {}
        }
        for &node in &fault.nodes {
            match fault.kind {
                FaultKind::Crash => notices.extend(self.crash(node)),
                FaultKind::Restart => self.start(node),
                FaultKind::Slow => {
                    self.hosts[node].times = fault.times;
                    self.network.set_lag(node, fault.lag_ms * 1000);
                }
                FaultKind::Clock => self.hosts[node].clock_ms = fault.clock_ms,
                FaultKind::Full => self.set_full(node, true),
                FaultKind::Freed => self.set_full(node, false),
                FaultKind::Partition | FaultKind::Heal => {}
            }
        }
        self.notices(notices);
    }

    fn set_full(&mut self, node: usize, full: bool) {
        self.hosts[node].full = full;
        self.fact(Fact::Disk { node, full });
    }

    fn crash(&mut self, node: usize) -> Vec<Notice> {
        if self.hosts[node].node.is_none() {
            return Vec::new();
        }
        self.hosts[node].kill();
        self.fact(Fact::Crashed { node });
        self.network.crash(self.now, node)
    }

    pub(crate) fn notices(&mut self, notices: Vec<Notice>) {
        for notice in notices {
            self.at(notice.at, Event::Notice(notice));
        }
    }

    /// All faults stop, and what they did is undone.
    pub fn calm_down(&mut self) {
        self.forget_faults();
        self.network.calm_down();
        self.hurry();
        (self.scenario.gossip_loss_per_mille, self.scenario.deaf) = (0, 0);
        self.scenario.engine_fails_per_mille = 0;
        self.scenario.cancel_per_mille = 0;
        self.scenario.persist_crashes_per_mille = 0;
        for node in 0..self.hosts.len() {
            (self.hosts[node].times, self.hosts[node].clock_ms) = (1, 0);
            if self.hosts[node].full {
                self.set_full(node, false);
            }
            self.start(node);
        }
        self.step(0, "all faults are over".into());
    }
}
