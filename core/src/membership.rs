//! Who is alive and what they offer: the members that this node knows, and whom it should connect to.
//!
//! Members come by static joins and by what peers pass on. A new advert of a trusted member is passed to every connected
//! peer once, so that all members of a connected mesh hear of it; an old one goes no further, so that it dies out. Of
//! strangers only those are known that are connected, and only by their own word.

use alloc::collections::btree_map::Entry;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::capability::{Advert, Role};
use crate::delegation::Guests;
use crate::envelope::Via;
use crate::function::Function;
use crate::id::{Instant, MILLISECOND, NodeId, Now, SECOND};
use crate::io::Output;
use crate::mesh::smoothed;
use crate::message::ADVERTS_MAX;
use crate::placement::Unfit;
use crate::record::Verified;
use crate::resources::Resources;

/// The most strangers (members that are not trusted) that are kept, to be shown; further ones are not noticed.
pub const STRANGERS_MAX: usize = 64;
/// The first pause before another attempt to connect, doubling up to [`DIAL_PAUSE_MAX`].
const DIAL_PAUSE: Instant = SECOND / 2;
const DIAL_PAUSE_MAX: Instant = 30 * SECOND;
/// How often a node says on the members topic that it is there; up to a tenth sooner, so that not all say it at once.
const ANNOUNCE_EVERY: Instant = 60 * SECOND;
/// After how long without an advert a member that no stream reaches counts as dead: three were missed.
const DEAD_AFTER: Instant = 3 * ANNOUNCE_EVERY;
/// The least pause between two announcements, and how long members together take to answer a newcomer, per member.
const ANNOUNCE_PAUSE: Instant = SECOND;
const WELCOME_EACH: Instant = 5 * MILLISECOND;
/// How long a member that acknowledges nothing is not asked by PubSub, unless it is heard of.
const SILENT_FOR: Instant = 60 * SECOND;
/// What PubSub costs beside the round trip, in microseconds: a stream is always nearer.
const PUBSUB_US: u64 = 250_000;

/// What a node is configured to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeConfig {
    /// This node.
    pub me: NodeId,
    /// When the process started: milliseconds since 1970 UTC.
    pub epoch: u64,
    /// Where it stands, in the operator's words.
    pub region: String,
    /// What it does for others.
    pub roles: BTreeSet<Role>,
    /// The engines it has.
    pub engines: BTreeSet<String>,
    /// What it offers.
    pub offers: Resources,
    /// The keys whose calls it takes and whose answers it believes, besides its own.
    pub trust: BTreeSet<NodeId>,
    /// Where to find the mesh: multiaddrs.
    pub join: Vec<String>,
}

/// A member as this node sees it.
#[derive(Clone, Debug)]
pub struct Member {
    /// What it says of itself.
    pub advert: Verified<Advert>,
    /// The last round trip, in microseconds.
    pub rtt_us: Option<u64>,
    dial: Dialling,
    /// When its last advert came on the members topic, if it is believed to listen there now.
    aired: Option<Instant>,
    /// The epoch and the number of that advert: it counts once.
    aired_last: (u64, u64),
    /// Until when it is not asked by PubSub, as it acknowledged nothing.
    silent_until: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Dialling {
    next: Instant,
    pause: Instant,
}

impl Member {
    fn new(advert: Verified<Advert>, rtt_us: Option<u64>) -> Member {
        Member { advert, rtt_us, dial: Dialling::soon(), aired: None, aired_last: (0, 0), silent_until: 0 }
    }
}

impl Dialling {
    fn soon() -> Dialling {
        Dialling { next: 0, pause: DIAL_PAUSE }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        if self.next > now {
            return false;
        }
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(DIAL_PAUSE_MAX);
        true
    }
}

/// The members, this node included.
#[derive(Debug)]
pub struct Membership {
    /// What this node is.
    pub config: NodeConfig,
    members: BTreeMap<NodeId, Member>,
    connected: BTreeSet<NodeId>,
    /// The epoch of each connected peer, in its own words.
    lives: BTreeMap<NodeId, u64>,
    /// The last round trip to each connected peer whose advert has not come yet.
    early_us: BTreeMap<NodeId, u64>,
    joins: Vec<(String, Dialling)>,
    addrs: Vec<String>,
    seq: u64,
    /// When this node announces itself again.
    announce: Option<Instant>,
    announced: Instant,
    /// Members that died, left or began again, until somebody takes them.
    departed: Vec<NodeId>,
    /// The keys that trusted nodes let ask for work in their place.
    pub guests: Guests,
}

impl Membership {
    /// Nobody is known yet, not even this node: its advert has to be signed first.
    pub fn new(config: NodeConfig) -> Membership {
        let joins = config.join.iter().map(|addr| (addr.clone(), Dialling::soon())).collect();
        let (members, connected) = (BTreeMap::new(), BTreeSet::new());
        Membership {
            config,
            members,
            connected,
            lives: BTreeMap::new(),
            early_us: BTreeMap::new(),
            joins,
            addrs: Vec::new(),
            seq: 0,
            announce: None,
            announced: 0,
            departed: Vec::new(),
            guests: Guests::default(),
        }
    }

    /// Every member, in order of id.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeId, &Member)> {
        self.members.iter()
    }

    /// Whether work and answers of this node are believed.
    pub fn trusts(&self, node: &NodeId) -> bool {
        *node == self.config.me || self.config.trust.contains(node)
    }

    /// Who answers for the calls of a key: the trusted node that it is, or that lets it ask in its place. Others' are not taken.
    pub fn sponsor(&self, key: &NodeId, now: Instant) -> Option<NodeId> {
        if self.trusts(key) { Some(*key) } else { self.guests.issuer(key, now) }
    }

    /// Whether messages reach this node now.
    pub fn reaches(&self, node: &NodeId) -> bool {
        *node == self.config.me || self.connected.contains(node)
    }

    /// How messages reach a node now, if they do: by a stream, or by PubSub where its advert came there of late.
    pub fn via(&self, node: &NodeId) -> Option<Via> {
        if self.reaches(node) {
            return Some(Via::Stream);
        }
        let airs = |member: &Member| member.aired.is_some() && member.silent_until == 0;
        (self.trusts(node) && self.members.get(node).is_some_and(airs)).then_some(Via::PubSub)
    }

    /// The epoch of a member's latest advert.
    pub fn life(&self, node: &NodeId) -> Option<u64> {
        self.members.get(node).map(|member| member.advert.epoch)
    }

    /// The trusted members in reach that have a role.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = (&NodeId, &Member)> {
        self.members.iter().filter(move |(id, m)| self.trusts(id) && self.reaches(id) && m.advert.roles.contains(&role))
    }

    /// The executors in reach that have an engine.
    pub fn executors<'a>(&'a self, engine: &'a str) -> impl Iterator<Item = (&'a NodeId, &'a Member)> {
        self.with_role(Role::Executor).filter(move |(_, m)| m.advert.engines.iter().any(|e| e == engine))
    }

    /// The executors that can run a function and that messages reach: by that channel, or by any.
    pub fn executors_for<'a>(&'a self, f: &'a Function, via: Option<Via>) -> impl Iterator<Item = (&'a NodeId, &'a Member)> {
        self.members.iter().filter(move |(id, member)| self.unfit(id, member, f, via).is_none())
    }

    /// The members that are not among [`Membership::executors_for`], and why.
    pub fn unfit_for(&self, function: &Function, via: Option<Via>) -> Vec<(NodeId, Unfit)> {
        let unfit = |(id, member): (&NodeId, _)| Some((*id, self.unfit(id, member, function, via)?));
        self.members.iter().filter_map(unfit).collect()
    }

    fn unfit(&self, id: &NodeId, member: &Member, function: &Function, via: Option<Via>) -> Option<Unfit> {
        let (advert, offers) = (&member.advert, &member.advert.offers);
        let reached = || match via {
            None => self.via(id).is_some(),
            Some(Via::Stream) => self.reaches(id),
            // A connected member listens to its topics as well.
            Some(Via::PubSub) => *id != self.config.me && self.via(id).is_some() && member.silent_until == 0,
        };
        if !self.trusts(id) {
            Some(Unfit::Stranger)
        } else if !advert.roles.contains(&Role::Executor) {
            Some(Unfit::NoExecutor)
        } else if !advert.engines.contains(&function.engine) {
            Some(Unfit::Engine)
        } else if offers.slots == 0 {
            Some(Unfit::Slots)
        } else if offers.memory < function.limits.memory {
            Some(Unfit::Memory)
        } else if !reached() {
            Some(if advert.left { Unfit::Left } else { Unfit::OutOfReach })
        } else {
            None
        }
    }

    /// The executors that have an engine and are given the tasks of jobs: those that a stream reaches. Where there are none,
    /// those that PubSub reaches, though nothing can be fetched from them but small results.
    pub fn workers<'a>(&'a self, engine: &'a str) -> impl Iterator<Item = (&'a NodeId, &'a Member)> {
        let streams = self.executors(engine).next().is_some();
        let reached = move |id| if streams { self.reaches(id) } else { self.via(id).is_some() };
        let works = move |m: &Member| m.advert.roles.contains(&Role::Executor) && m.advert.engines.iter().any(|e| e == engine);
        self.members.iter().filter(move |(id, member)| self.trusts(id) && reached(id) && works(member))
    }

    /// How far a member is in microseconds: the round trip, none to oneself, a guess where it was never measured; and
    /// more where no stream reaches it.
    pub fn rtt_us(&self, node: &NodeId) -> u64 {
        const UNMEASURED_US: u64 = 100_000;
        if *node == self.config.me {
            return 0;
        }
        let rtt = self.members.get(node).and_then(|m| m.rtt_us).unwrap_or(UNMEASURED_US);
        if self.reaches(node) { rtt } else { rtt.saturating_add(PUBSUB_US) }
    }

    /// Says on which addresses this node can be dialled, now and from now on.
    pub fn listening(&mut self, addrs: Vec<String>, out: &mut Vec<Output>) {
        self.addrs = addrs;
        self.sign_advert(false, out);
    }

    /// Says that this node is about to end.
    pub fn leave(&mut self, out: &mut Vec<Output>) {
        self.addrs.clear();
        self.sign_advert(true, out);
    }

    fn sign_advert(&mut self, left: bool, out: &mut Vec<Output>) {
        self.seq += 1;
        let config = &self.config;
        out.push(Output::SignAdvert {
            advert: Advert {
                iss: config.me,
                addrs: self.addrs.clone(),
                epoch: config.epoch,
                seq: self.seq,
                roles: config.roles.iter().copied().collect(),
                engines: config.engines.iter().cloned().collect(),
                offers: config.offers,
                region: config.region.clone(),
                left,
            },
        });
    }

    /// This node's advert is signed: all hear it, by stream as far as it is news.
    pub fn signed(&mut self, now: Instant, advert: Verified<Advert>, out: &mut Vec<Output>) {
        out.push(Output::Announce { sealed: advert.sealed().to_vec() });
        self.announced = now;
        self.announce = (!advert.left).then(|| now + ANNOUNCE_EVERY - self.jitter(ANNOUNCE_EVERY / 10));
        self.learn(self.config.me, alloc::vec![advert], out);
    }

    /// An advert came on the members topic, through whomever.
    pub fn aired(&mut self, now: Instant, advert: Verified<Advert>) {
        let id = advert.iss;
        // Strangers are known only while they are connected.
        if !advert.is_sane() || !self.config.trust.contains(&id) || id == self.config.me {
            return;
        }
        let (known, said) = (self.members.get(&id), (advert.epoch, advert.seq));
        // What came by stream already counts as well, once; what is played again does not.
        let old = |known: &Member| known.advert.is_newer_than(&advert) || said <= known.aired_last;
        if known.is_some_and(old) {
            return;
        }
        let newborn = known.is_none_or(|known| known.advert.epoch < advert.epoch || known.aired.is_none());
        let (left, restarted) = (advert.left, known.is_some_and(|known| known.advert.epoch < advert.epoch));
        if left || restarted {
            self.departed.push(id);
        }
        let member = match self.members.entry(id) {
            Entry::Vacant(free) => free.insert(Member::new(advert, self.early_us.remove(&id))),
            Entry::Occupied(known) => {
                let member = known.into_mut();
                if restarted {
                    (member.dial, member.silent_until) = (Dialling::soon(), 0);
                }
                member.advert = advert;
                member
            }
        };
        (member.aired, member.aired_last) = ((!left).then_some(now), said);
        if newborn && !left {
            self.welcome(now);
        }
    }

    /// Somebody new listens: this node says soon that it is there, members one after the other.
    pub fn welcome(&mut self, now: Instant) {
        let Some(planned) = self.announce else { return };
        let spread = (SECOND / 5).max(self.members.len() as u64 * WELCOME_EACH);
        let at = (now + self.jitter(spread)).max(self.announced + ANNOUNCE_PAUSE);
        self.announce = Some(planned.min(at));
    }

    /// A number below `within` that differs from node to node and from advert to advert.
    fn jitter(&self, within: Instant) -> Instant {
        let id = self.config.me.0.iter().fold(self.seq, |hash, byte| hash.wrapping_mul(0x100_0000_01b3) ^ u64::from(*byte));
        id % within.max(1)
    }

    /// A member acknowledges nothing by PubSub.
    pub fn silent(&mut self, now: Instant, node: &NodeId) {
        if let Some(member) = self.members.get_mut(node) {
            member.silent_until = now + SILENT_FOR;
        }
    }

    /// A letter of a member came.
    pub fn spoke(&mut self, now: Instant, node: &NodeId) {
        let connected = self.connected.contains(node);
        if let Some(member) = self.members.get_mut(node).filter(|member| !member.advert.left) {
            member.silent_until = 0;
            if !connected {
                member.aired = Some(now);
            }
        }
    }

    /// Takes the members that died, left or began again since the last time.
    pub fn take_departed(&mut self) -> Vec<NodeId> {
        core::mem::take(&mut self.departed)
    }

    /// Learns adverts that `from` passed on (or this node's own), and passes on those that are news.
    pub fn learn(&mut self, from: NodeId, adverts: Vec<Verified<Advert>>, out: &mut Vec<Output>) {
        let (mut news, mut newborns) = (Vec::new(), Vec::new());
        for advert in adverts {
            let id = advert.iss;
            if from == id && self.connected.contains(&id) && self.trusts(&id) {
                let before = self.lives.insert(id, advert.epoch);
                // It began again while its old connection seemed to stand: its new life knows nobody yet.
                newborns.extend(before.filter(|before| *before < advert.epoch).map(|_| id));
            }
            let trusted = self.trusts(&id);
            let full = !trusted && self.members.keys().filter(|id| !self.trusts(id)).count() >= STRANGERS_MAX;
            // Only this node speaks for itself, and nobody speaks for strangers but they themselves.
            let hearsay = from != id && (!trusted || id == self.config.me);
            if !advert.is_sane() || hearsay {
                continue;
            }
            match self.members.get_mut(&id) {
                Some(known) if !advert.is_newer_than(&known.advert) => continue,
                Some(known) => {
                    // Who only says again that it is there says it on the members topic.
                    if !advert.repeats(&known.advert) {
                        known.dial = Dialling::soon();
                        news.extend(trusted.then(|| advert.sealed().to_vec()));
                    }
                    if known.advert.epoch < advert.epoch || advert.left {
                        self.departed.push(id);
                    }
                    known.aired = known.aired.filter(|_| !advert.left);
                    known.advert = advert;
                }
                None if full => continue,
                None => {
                    news.extend(trusted.then(|| advert.sealed().to_vec()));
                    self.members.insert(id, Member::new(advert, self.early_us.remove(&id)));
                }
            }
        }
        for peer in newborns {
            self.up(peer, out);
        }
        if news.is_empty() {
            return;
        }
        for &to in self.connected.iter().filter(|&&peer| peer != from) {
            out.push(Output::SendAdverts { to, sealed: news.clone() });
        }
    }

    /// A peer is in reach: it hears of everybody that this node trusts.
    pub fn up(&mut self, peer: NodeId, out: &mut Vec<Output>) {
        self.connected.insert(peer);
        let trusted = self.members.iter().filter(|(id, _)| self.trusts(id));
        let sealed: Vec<Vec<u8>> = trusted.map(|(_, m)| m.advert.sealed().to_vec()).collect();
        for part in sealed.chunks(ADVERTS_MAX) {
            out.push(Output::SendAdverts { to: peer, sealed: part.to_vec() });
        }
    }

    /// A peer is out of reach. If it is trusted it stays a member, and is dialled again.
    pub fn gone(&mut self, peer: NodeId) {
        self.connected.remove(&peer);
        self.early_us.remove(&peer);
        self.lives.remove(&peer);
        if !self.trusts(&peer) {
            self.members.remove(&peer);
        }
        if let Some(member) = self.members.get_mut(&peer) {
            member.dial = Dialling::soon();
            // Whether it is still there is for its next advert to say.
            member.aired = None;
        }
    }

    /// A round trip was measured.
    pub fn measured(&mut self, peer: NodeId, us: u64) {
        if let Some(member) = self.members.get_mut(&peer) {
            member.rtt_us = Some(member.rtt_us.map_or(us, |before| smoothed(before, us)));
        } else if self.connected.contains(&peer) {
            // The first is measured as the connection opens: a member that had none would count as far.
            self.early_us.insert(peer, us);
        }
    }

    /// Notes who died without a word, and says again that this node is there.
    fn age(&mut self, now: Instant, out: &mut Vec<Output>) {
        for (id, member) in &mut self.members {
            if member.silent_until <= now {
                member.silent_until = 0;
            }
            if !self.connected.contains(id) && member.aired.is_some_and(|heard| heard + DEAD_AFTER <= now) {
                member.aired = None;
                self.departed.push(*id);
            }
        }
        if self.announce.is_some_and(|at| at <= now) {
            self.announce = None;
            self.sign_advert(false, out);
        }
    }

    /// Dials whom it is time to dial, and does what else is due.
    pub fn tick(&mut self, now: Now, out: &mut Vec<Output>) {
        let now = now.monotonic_us;
        self.age(now, out);
        // A join address stands for whoever answers there; it is tried again while nobody is connected.
        // Every one is tried once, so that a node with two of them ties two meshes together.
        let alone = self.connected.is_empty();
        for (addr, dial) in &mut self.joins {
            if (alone || dial.next == 0) && dial.is_due(now) {
                out.push(Output::Dial { peer: None, addrs: alloc::vec![addr.clone()] });
            }
        }
        let config = &self.config;
        for (id, member) in &mut self.members {
            // A stranger is never dialled: its addresses may be anybody's.
            let missing =
                config.trust.contains(id) && *id != config.me && !self.connected.contains(id) && !member.advert.addrs.is_empty();
            // Of two members the one with the lower id dials, so that they end up with one connection; the other
            // comes in after a while, in case it cannot be dialled.
            if missing && (*id > config.me || member.dial.pause > 4 * DIAL_PAUSE) {
                if member.dial.is_due(now) {
                    out.push(Output::Dial { peer: Some(*id), addrs: member.advert.addrs.clone() });
                }
            } else if missing {
                member.dial.is_due(now);
            }
        }
    }

    /// When [`Membership::tick`] has something to do again.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let alone = self.connected.is_empty();
        let joins = self.joins.iter().map(|(_, dial)| dial.next).filter(move |&next| alone || next == 0);
        let members = self
            .members
            .iter()
            .filter(|(id, m)| {
                **id != self.config.me
                    && self.config.trust.contains(id)
                    && !self.connected.contains(id)
                    && !m.advert.addrs.is_empty()
            })
            .map(|(_, m)| m.dial.next);
        let deaths = self.members.iter().filter(|(id, _)| !self.connected.contains(id)).filter_map(|(_, m)| m.aired);
        let silences = self.members.values().map(|m| m.silent_until).filter(|&until| until > 0);
        joins.chain(members).chain(deaths.map(|heard| heard + DEAD_AFTER)).chain(silences).chain(self.announce).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    const ME: NodeId = NodeId([1; 32]);
    const FRIEND: NodeId = NodeId([2; 32]);
    const STRANGER: NodeId = NodeId([9; 32]);

    fn members() -> Membership {
        let config = NodeConfig {
            me: ME,
            epoch: 1,
            region: String::new(),
            roles: BTreeSet::new(),
            engines: BTreeSet::new(),
            offers: Resources::default(),
            trust: [FRIEND].into(),
            join: Vec::new(),
        };
        Membership::new(config)
    }

    fn advert(of: NodeId) -> Verified<Advert> {
        Verified::assume(Advert {
            iss: of,
            addrs: vec!["/ip4/10.0.0.1/tcp/22".to_string()],
            epoch: 1,
            seq: 1,
            roles: Vec::new(),
            engines: Vec::new(),
            offers: Resources::default(),
            region: String::new(),
            left: false,
        })
    }

    fn dialled(members: &mut Membership) -> Vec<NodeId> {
        let mut out = Vec::new();
        members.tick(Now { monotonic_us: 60 * SECOND, unix_ms: 0 }, &mut out);
        out.into_iter().filter_map(|o| if let Output::Dial { peer, .. } = o { peer } else { None }).collect()
    }

    #[test]
    fn a_stranger_is_shown_while_it_is_there_and_neither_dialled_nor_passed_on() {
        let (mut members, mut out) = (members(), Vec::new());
        members.up(FRIEND, &mut out);
        members.up(STRANGER, &mut out);
        out.clear();
        members.learn(STRANGER, vec![advert(STRANGER)], &mut out);
        assert!(out.is_empty(), "passed on: {out:?}");
        assert_eq!(members.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [STRANGER]);
        members.gone(STRANGER);
        assert_eq!((members.iter().count(), dialled(&mut members)), (0, vec![]));
    }

    #[test]
    fn nobody_speaks_for_a_stranger_and_a_friend_of_a_friend_is_dialled() {
        let (mut members, mut out) = (members(), Vec::new());
        members.up(STRANGER, &mut out);
        members.learn(STRANGER, vec![advert(NodeId([8; 32])), advert(FRIEND), advert(ME)], &mut out);
        assert_eq!(members.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [FRIEND]);
        assert_eq!(dialled(&mut members), [FRIEND]);
    }

    #[test]
    fn strangers_fill_their_own_places_and_nobody_elses() {
        let (mut members, mut out) = (members(), Vec::new());
        for n in 10..=250u8 {
            members.learn(NodeId([n; 32]), vec![advert(NodeId([n; 32]))], &mut out);
        }
        assert_eq!(members.iter().count(), STRANGERS_MAX);
        members.learn(FRIEND, vec![advert(FRIEND)], &mut out);
        assert_eq!(members.iter().count(), STRANGERS_MAX + 1);
    }
}
