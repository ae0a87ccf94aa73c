//! Who has calls waiting has its share of the results: schedulers among each other, and the clients of one scheduler.

use std::collections::BTreeMap;

use super::{Breach, Law, Verdict};
use crate::fact::{Asked, Fact};

/// A party with so many open calls always has some that wait: these are what it competes with.
const SATURATED: usize = 50;
/// Results among which each party must have its share.
const WINDOW: u64 = 200;
/// Of an equal share, how much it must have, in a hundred: with two parties, 40 % of all.
const SHARE_PERCENT: u64 = 80;

/// The results of parties that compete.
#[derive(Debug, Default)]
struct Race {
    wins: BTreeMap<u64, u64>,
}

impl Race {
    /// One of the parties that compete now has a result.
    fn win(&mut self, parties: &[u64], winner: u64) -> Result<(), String> {
        if !self.wins.keys().eq(parties) {
            self.wins = parties.iter().map(|party| (*party, 0)).collect();
        }
        *self.wins.entry(winner).or_default() += 1;
        let all: u64 = self.wins.values().sum();
        if self.wins.len() < 2 || all < WINDOW {
            return Ok(());
        }
        let least = WINDOW / self.wins.len() as u64 * SHARE_PERCENT / 100;
        let wins = std::mem::take(&mut self.wins);
        match wins.iter().find(|(_, wins)| **wins < least) {
            Some((party, wins)) => Err(format!("{party} has {wins} of {all} results, and should have {least}")),
            None => Ok(()),
        }
    }
}

/// The open calls of each client of each node, and who competes.
#[derive(Debug, Default)]
pub struct Fair {
    open: BTreeMap<u64, (usize, u64)>,
    calls: BTreeMap<usize, BTreeMap<u64, usize>>,
    nodes: Race,
    clients: BTreeMap<usize, Race>,
}

impl Fair {
    fn ended(&mut self, request: u64, ok: bool) -> Verdict {
        let Some((node, client)) = self.open.get(&request).copied() else { return Ok(()) };
        let busy = |clients: &BTreeMap<u64, usize>| clients.values().sum::<usize>() >= SATURATED;
        let nodes: Vec<u64> = self.calls.iter().filter(|(_, clients)| busy(clients)).map(|(node, _)| *node as u64).collect();
        let mine = self.calls.get(&node).into_iter().flatten();
        let clients: Vec<u64> = mine.filter(|(_, calls)| **calls >= SATURATED).map(|(client, _)| *client).collect();
        self.forget(request);
        if ok && nodes.contains(&(node as u64)) {
            self.nodes.win(&nodes, node as u64).or_else(|what| Breach::at(node, format!("node {what}")))?;
        }
        if ok && clients.contains(&client) {
            let race = self.clients.entry(node).or_default();
            race.win(&clients, client).or_else(|what| Breach::at(node, format!("client {what}")))?;
        }
        Ok(())
    }

    fn forget(&mut self, request: u64) {
        if let Some((node, client)) = self.open.remove(&request)
            && let Some(calls) = self.calls.get_mut(&node).and_then(|clients| clients.get_mut(&client))
        {
            *calls -= 1;
        }
    }
}

impl Law for Fair {
    fn name(&self) -> &'static str {
        "fair"
    }

    fn see(&mut self, _: u64, fact: &Fact) -> Verdict {
        match fact {
            Fact::Called { asked: Asked { node, request, client, .. }, .. } if *client > 0 => {
                self.open.insert(*request, (*node, *client));
                *self.calls.entry(*node).or_default().entry(*client).or_default() += 1;
            }
            Fact::Replied { request, reply, .. } => return self.ended(*request, reply.is_ok()),
            Fact::Crashed { node } => {
                self.open.retain(|_, (asker, _)| asker != node);
                self.calls.remove(node);
            }
            _ => {}
        }
        Ok(())
    }
}
