//! The links between nodes: latency, order, loss, partitions, and what each side believes of its connection.
//!
//! A message is sent on a stream: those of one direction arrive in order, or, once the connection broke, not at all. Some
//! come twice or are overtaken all the same, as on PubSub; the core must not mind. A side learns of that later, each by itself. Until then it believes in the connection; if the other side dials again
//! meanwhile, the believing side may take that for a second connection and is told nothing.

use std::collections::BTreeMap;

use crate::scenario::Scenario;

/// The state of a pair of nodes, the lower number first.
#[derive(Debug, Default)]
struct Link {
    /// Counts the connections.
    session: u64,
    /// Whether each side believes that it is connected.
    up: [bool; 2],
    /// Whether the connection is dead, whatever they believe.
    broken: bool,
    /// When the last message of each direction arrives.
    last: [u64; 2],
}

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives, if the session lasts.
    Arrives {
        /// When.
        at: u64,
        /// The connection that carries it.
        session: u64,
    },
    /// It is lost.
    Lost,
    /// It is lost and with it the connection.
    Breaks(Vec<Notice>),
}

/// A side will notice that its connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Who notices.
    pub node: usize,
    /// Whom it misses.
    pub peer: usize,
    /// Which connection broke.
    pub session: u64,
    /// When.
    pub at: u64,
}

/// What a side is told of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The peer is there.
    Up,
    /// The peer was gone and is there.
    GoneAndUp,
    /// Nothing: it believed in the connection all the time.
    Nothing,
}

/// All links.
#[derive(Debug)]
pub struct Network {
    links: BTreeMap<(usize, usize), Link>,
    /// One-way latency of each pair, in microseconds.
    base: BTreeMap<(usize, usize), u64>,
    /// Nodes of different sides do not reach each other.
    side: Vec<bool>,
    /// What a slow node adds to every message that it is given, in microseconds.
    lag: Vec<u64>,
    rng: fastrand::Rng,
    loss_per_mille: u32,
    stall_per_mille: u32,
    twice_per_mille: u32,
    overtaken_per_mille: u32,
    stall_us: [u64; 2],
    detect_us: [u64; 2],
}

impl Network {
    /// Nobody is connected yet.
    pub fn new(scenario: &Scenario, mut rng: fastrand::Rng) -> Network {
        let [shortest, longest] = scenario.latency_ms.map(|ms| ms * 1000);
        let mut base = BTreeMap::new();
        for a in 0..scenario.nodes {
            for b in a + 1..scenario.nodes {
                let near = a % scenario.regions == b % scenario.regions;
                let to = if near { shortest + (longest - shortest) / 8 } else { longest };
                base.insert((a, b), rng.u64(shortest..=to).max(20));
            }
        }
        Network {
            links: base.keys().map(|&pair| (pair, Link::default())).collect(),
            base,
            side: vec![false; scenario.nodes],
            lag: vec![0; scenario.nodes],
            rng,
            loss_per_mille: scenario.loss_per_mille,
            stall_per_mille: scenario.stall_per_mille,
            twice_per_mille: scenario.twice_per_mille,
            overtaken_per_mille: scenario.overtaken_per_mille,
            stall_us: scenario.stall_ms.map(|ms| ms * 1000),
            detect_us: scenario.detect_ms.map(|ms| ms * 1000),
        }
    }

    /// From now on nothing is lost, held up, repeated or cut off.
    pub fn calm_down(&mut self) {
        (self.loss_per_mille, self.stall_per_mille) = (0, 0);
        (self.twice_per_mille, self.overtaken_per_mille) = (0, 0);
        self.side.fill(false);
        self.lag.fill(0);
    }

    /// A round trip of two nodes, in microseconds.
    pub fn rtt_us(&self, a: usize, b: usize) -> u64 {
        self.base.get(&pair(a, b)).map_or(0, |one_way| 2 * one_way)
    }

    /// What a slow node adds to every message that it is given.
    pub fn set_lag(&mut self, node: usize, us: u64) {
        self.lag[node] = us;
    }

    /// Whether a new connection of two nodes can come about, and bytes can flow on one that stands.
    pub fn passes(&self, a: usize, b: usize) -> bool {
        self.side[a] == self.side[b]
    }

    /// Whether bytes flow between two nodes now.
    pub fn flows(&self, a: usize, b: usize) -> bool {
        self.links.get(&pair(a, b)).is_some_and(|link| link.up == [true, true] && !link.broken)
    }

    /// A message is sent.
    pub fn send(&mut self, now: u64, from: usize, to: usize) -> Fate {
        let (me, other) = (side(from, to), side(to, from));
        let Some(link) = self.links.get_mut(&pair(from, to)) else { return Fate::Lost };
        if !link.up[me] || link.broken {
            return Fate::Lost;
        }
        if self.rng.u32(0..1000) < self.loss_per_mille {
            return Fate::Breaks(self.cut(now, from, to));
        }
        let base = self.base[&pair(from, to)];
        let stalled = self.rng.u32(0..1000) < self.stall_per_mille;
        let stall = if stalled { self.rng.u64(self.stall_us[0]..=self.stall_us[1]) } else { 0 };
        let at = now + base + self.rng.u64(0..=base / 4) + stall + self.lag[to];
        if self.overtaken_per_mille > 0 && self.rng.u32(0..1000) < self.overtaken_per_mille {
            let at = at + self.rng.u64(0..=self.stall_us[1]);
            return Fate::Arrives { at, session: link.session };
        }
        // In order, and no two at the same instant.
        let at = at.max(link.last[other] + 1);
        link.last[other] = at;
        Fate::Arrives { at, session: link.session }
    }

    /// How much later the message that was sent last comes a second time, if it does.
    pub fn comes_twice(&mut self) -> Option<u64> {
        let twice = self.twice_per_mille > 0 && self.rng.u32(0..1000) < self.twice_per_mille;
        twice.then(|| self.rng.u64(0..=self.stall_us[1]))
    }

    /// Whether a message of that session still gets to `to`.
    pub fn delivers(&self, from: usize, to: usize, session: u64) -> bool {
        let link = &self.links[&pair(from, to)];
        link.session == session && !link.broken && link.up[side(to, from)]
    }

    /// A connection breaks: both sides will notice.
    fn cut(&mut self, now: u64, a: usize, b: usize) -> Vec<Notice> {
        let Some(link) = self.links.get_mut(&pair(a, b)) else { return Vec::new() };
        if link.broken {
            return Vec::new();
        }
        link.broken = true;
        let session = link.session;
        let [from, to] = self.detect_us;
        [(a, b), (b, a)]
            .into_iter()
            .filter(|&(node, peer)| link.up[side(node, peer)])
            .map(|(node, peer)| Notice { node, peer, session, at: now + self.rng.u64(from..=to) })
            .collect()
    }

    /// A side notices. Returns whether that is news to it.
    pub fn notice(&mut self, notice: Notice) -> bool {
        let Notice { node, peer, session, .. } = notice;
        let Some(link) = self.links.get_mut(&pair(node, peer)) else { return false };
        let news = link.session == session && link.up[side(node, peer)];
        if news {
            link.up[side(node, peer)] = false;
        }
        news
    }

    /// A dial from `from` got through: a new connection stands, unless a good one did already. Returns what `from` and
    /// `to` are told.
    pub fn connect(&mut self, from: usize, to: usize) -> Option<[Told; 2]> {
        if self.flows(from, to) {
            return None;
        }
        let link = self.links.get_mut(&pair(from, to))?;
        link.session += 1;
        link.broken = false;
        link.last = [0, 0];
        Some([side(from, to), side(to, from)].map(|side| {
            let believed = std::mem::replace(&mut link.up[side], true);
            match (believed, self.rng.bool()) {
                (false, _) => Told::Up,
                (true, true) => Told::GoneAndUp,
                (true, false) => Told::Nothing,
            }
        }))
    }

    /// A process was killed: it believes nothing any more. Some machines say so at once, some fall silent.
    pub fn crash(&mut self, now: u64, node: usize) -> Vec<Notice> {
        let silent = self.rng.bool();
        let peers: Vec<usize> = (0..self.side.len()).filter(|&peer| peer != node).collect();
        let mut notices = Vec::new();
        for peer in peers {
            let mut cut = self.cut(now, node, peer);
            cut.retain(|notice| notice.node == peer);
            if !silent {
                let soon = now + self.rtt_us(node, peer) / 2;
                cut.iter_mut().for_each(|notice| notice.at = soon);
            }
            notices.extend(cut);
            if let Some(link) = self.links.get_mut(&pair(node, peer)) {
                link.up[side(node, peer)] = false;
            }
        }
        notices
    }

    /// These nodes and the others no longer reach each other.
    pub fn partition(&mut self, now: u64, nodes: &[usize]) -> Vec<Notice> {
        self.side.fill(false);
        nodes.iter().for_each(|&node| self.side[node] = true);
        let across: Vec<(usize, usize)> = self.links.keys().copied().filter(|&(a, b)| !self.passes(a, b)).collect();
        across.into_iter().flat_map(|(a, b)| self.cut(now, a, b)).collect()
    }

    /// Everybody can reach everybody.
    pub fn heal(&mut self) {
        self.side.fill(false);
    }
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

/// Which of a link's two sides `node` is.
fn side(node: usize, peer: usize) -> usize {
    usize::from(node > peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(loss_per_mille: u32) -> Network {
        let scenario = Scenario { nodes: 2, loss_per_mille, stall_per_mille: 300, ..Scenario::default() };
        Network::new(&scenario, fastrand::Rng::with_seed(1))
    }

    #[test]
    fn messages_of_a_session_arrive_in_order() {
        let mut network = network(0);
        assert_eq!(network.send(0, 0, 1), Fate::Lost, "nobody is connected");
        assert_eq!(network.connect(0, 1), Some([Told::Up, Told::Up]));
        let mut last = 0;
        for now in 0..1000 {
            let Fate::Arrives { at, session } = network.send(now, 0, 1) else { panic!("nothing is lost here") };
            assert!(at > last && network.delivers(0, 1, session));
            last = at;
        }
    }

    #[test]
    fn a_lost_message_breaks_the_connection_until_it_is_dialled_again() {
        let mut network = network(1000);
        network.connect(0, 1);
        let Fate::Breaks(notices) = network.send(0, 0, 1) else { panic!("everything is lost here") };
        assert_eq!(notices.len(), 2);
        assert!(!network.flows(0, 1) && network.send(0, 1, 0) == Fate::Lost);
        assert!(network.notice(notices[0]) && !network.notice(notices[0]), "it is news once");
        let told = network.connect(0, 1).expect("the old connection is dead");
        assert_eq!(told[0], Told::Up, "this side had noticed");
        assert_ne!(told[1], Told::Up, "this side had not");
        assert!(!network.notice(notices[1]), "the old connection does not matter any more");
    }

    #[test]
    fn a_partition_cuts_only_what_crosses_it() {
        let scenario = Scenario { nodes: 4, ..Scenario::default() };
        let mut network = Network::new(&scenario, fastrand::Rng::with_seed(1));
        for (a, b) in [(0, 1), (0, 2), (2, 3)] {
            network.connect(a, b);
        }
        assert_eq!(network.partition(0, &[0, 1]).len(), 2);
        assert!(network.flows(0, 1) && network.flows(2, 3) && !network.flows(0, 2) && !network.passes(1, 2));
        network.heal();
        assert!(network.passes(1, 2) && !network.flows(0, 2), "healing does not connect");
    }
}
