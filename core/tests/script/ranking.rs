//! Where calls would run, in a script.

use std::iter::once;

use timerose_core::failure::Failure;
use timerose_core::io::{Input, Request};
use timerose_core::placement::{Candidate, Ranking};

use super::{Player, Words, name, number};

impl Player {
    /// `<request> <timeout ms> <entry or -> <arguments>`
    pub(super) fn asked_where(&mut self, words: Words) -> Input {
        let [request, timeout_ms, entry, args @ ..] = words else { panic!("no question: {words:?}") };
        let task = self.task(entry.trim_matches('-'), args);
        Input::Where { request: number(request), task, timeout_ms: number(timeout_ms) }
    }

    /// A ranking, one node a line.
    pub(super) fn ranked(&self, request: Request, reply: Result<Ranking, Failure>) -> String {
        let ranking = match reply {
            Ok(ranking) => ranking,
            Err(failure) => return format!("ranked {request}: {}", self.failed(&failure)),
        };
        let suited = ranking.suited.iter().map(|candidate| {
            let Candidate { node, ahead, missing, rest_us, open, .. } = candidate;
            let rest = if *open { String::new() } else { format!(", rests {rest_us} us") };
            format!("{} at {} us, {ahead} ahead, {missing} bytes missing{rest}", name(node), candidate.cost_us())
        });
        let others = ranking.others.iter().map(|(node, why)| format!("not {}: {why:?}", name(node)));
        let lines: Vec<String> = once(format!("ranked {request}:")).chain(suited).chain(others).collect();
        lines.join("\n        ")
    }
}
