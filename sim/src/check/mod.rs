//! The laws: each is told every fact and says at once when it is broken.

use crate::fact::Fact;
use crate::scenario::Scenario;

mod accepted_is_kept;
mod all_end;
mod capacity;
mod digest;
mod fair;
mod job_result;
mod nearest;
mod no_spin;
mod nothing_is_left;
mod placed_is_kept;
mod remembered;
mod right_result;
mod runs_once;
mod settled_once;
mod trust;
mod whole_again;

pub use accepted_is_kept::AcceptedIsKept;
pub use all_end::AllEnd;
pub use capacity::Capacity;
pub use digest::Digest;
pub use fair::Fair;
pub use job_result::JobResult;
pub use nearest::Nearest;
pub use no_spin::NoSpin;
pub use nothing_is_left::NothingIsLeft;
pub use placed_is_kept::PlacedIsKept;
pub use remembered::Remembered;
pub use right_result::RightResult;
pub use runs_once::RunsOnce;
pub use settled_once::SettledOnce;
pub use trust::Trust;
pub use whole_again::WholeAgain;

/// How a law was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Where, if it was one node's doing.
    pub node: Option<usize>,
    /// What happened.
    pub what: String,
}

impl Breach {
    fn at(node: usize, what: impl Into<String>) -> Verdict {
        Err(Breach { node: Some(node), what: what.into() })
    }
}

/// A law's word on a fact.
pub type Verdict = Result<(), Breach>;

/// Something that must hold in every run.
pub trait Law {
    /// Its name.
    fn name(&self) -> &'static str;
    /// Is told a fact; `at` is virtual microseconds.
    fn see(&mut self, at: u64, fact: &Fact) -> Verdict;
    /// Is told that the run is over.
    fn end(&mut self) -> Verdict {
        Ok(())
    }
}

/// Every law, for one run.
pub fn laws(scenario: &Scenario) -> Vec<Box<dyn Law>> {
    vec![
        Box::new(SettledOnce::default()),
        Box::new(RightResult::new(scenario.ok_per_mille_min, scenario.deaf)),
        Box::new(JobResult::default()),
        Box::new(Remembered::default()),
        Box::new(Capacity::new(scenario.slots, scenario.memory_mib << 20)),
        Box::new(Fair::default()),
        Box::new(Nearest::new(scenario.nearest_per_mille_min)),
        Box::new(Trust::new(scenario.nodes - scenario.strangers)),
        Box::new(PlacedIsKept::default()),
        Box::new(AcceptedIsKept::default()),
        Box::new(RunsOnce::default()),
        Box::new(NoSpin::default()),
        Box::new(WholeAgain),
        Box::new(AllEnd::default()),
        Box::new(NothingIsLeft),
    ]
}
