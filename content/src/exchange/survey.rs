//! Surveys: which of the connected peers have a block. Nothing is fetched.

use cid::Cid;
use libp2p::PeerId;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How long peers have to answer. Those that do not are silent.
pub const SURVEY_WAIT: Duration = Duration::from_secs(2);
/// Peers that one survey asks.
pub const MAX_SURVEYED: usize = 256;
/// Surveys that are under way at the same time; a further one finds nobody.
pub const MAX_SURVEYS: usize = 64;

/// What peers said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Surveyed {
    /// Peers that have it.
    pub have: Vec<PeerId>,
    /// Peers that do not.
    pub have_not: Vec<PeerId>,
    /// Peers that did not say.
    pub silent: Vec<PeerId>,
}

struct Survey {
    until: Instant,
    said: BTreeMap<PeerId, Option<bool>>,
    answer: oneshot::Sender<Surveyed>,
}

/// The surveys under way.
#[derive(Default)]
pub(super) struct Surveys(HashMap<Cid, Vec<Survey>>);

impl Surveys {
    /// Begins a survey among peers. `false`: there are too many.
    pub fn begin(&mut self, now: Instant, cid: Cid, peers: &[PeerId], answer: oneshot::Sender<Surveyed>) -> bool {
        let fits = self.0.values().map(Vec::len).sum::<usize>() < MAX_SURVEYS;
        if fits {
            let said = peers.iter().map(|peer| (*peer, None)).collect();
            self.0.entry(cid).or_default().push(Survey { until: now + SURVEY_WAIT, said, answer });
        }
        fits
    }

    /// A peer has said whether it has a block.
    pub fn heard(&mut self, from: &PeerId, cid: &Cid, has: bool) {
        for survey in self.0.get_mut(cid).into_iter().flatten() {
            if let Some(said) = survey.said.get_mut(from) {
                *said = Some(has);
            }
        }
    }

    /// A peer has gone: it will not answer, and is not asked any more.
    pub fn gone(&mut self, peer: &PeerId) {
        for survey in self.0.values_mut().flatten() {
            survey.said.remove(peer);
        }
    }

    /// Whether any is under way.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Answers those that are over; gives each block that is asked about no more, with the peers that were asked.
    pub fn end(&mut self, now: Instant) -> Vec<(Cid, Vec<PeerId>)> {
        let mut ended = Vec::new();
        self.0.retain(|cid, surveys| {
            let is_over = |survey: &mut Survey| {
                now >= survey.until || survey.said.values().all(Option::is_some) || survey.answer.is_closed()
            };
            let asked: Vec<PeerId> = surveys.iter().flat_map(|survey| survey.said.keys().copied()).collect();
            for survey in surveys.extract_if(.., is_over) {
                let who =
                    |what: Option<bool>| survey.said.iter().filter(|(_, said)| **said == what).map(|(peer, _)| *peer).collect();
                // Whoever asked may be gone.
                let _ = survey.answer.send(Surveyed { have: who(Some(true)), have_not: who(Some(false)), silent: who(None) });
            }
            if surveys.is_empty() {
                ended.push((*cid, asked));
            }
            !surveys.is_empty()
        });
        ended
    }
}
