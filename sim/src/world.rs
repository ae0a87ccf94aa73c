//! The world: one clock, one queue of events, and the nodes that they happen to.

use std::collections::BTreeMap;
use std::fmt::Write;

use cid::Cid;
use timerose_core::envelope::Post;
use timerose_core::failure::Failure;
use timerose_core::io::{Exit, Input, Ticket};
use timerose_core::job::JobSpec;
use timerose_core::message::Message;
use timerose_core::promise::JournalEntry;
use timerose_core::record::open;
use timerose_core::task::Task;

use crate::check::{Digest, Law, laws};
use crate::content::Content;
use crate::fact::{Asked, Fact};
use crate::host::{Host, address, checked, config, id, index};
use crate::network::{Network, Notice, Told};
use crate::report::{Report, Violation};
use crate::scenario::{Fault, Flood, Scenario};

/// How late a tick may come on an idle node, in microseconds.
const TICK_LATE_US: u64 = 500;

/// What travels on a stream.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    Message(Message),
    Adverts(Vec<Vec<u8>>),
    /// Sealed receipts, and the question that they answer.
    Receipts(u64, Vec<Vec<u8>>),
}

/// What is published.
#[derive(Clone, Debug)]
pub(crate) enum News {
    /// On the topic of one node.
    Letter(Post),
    /// On the members topic: a sealed advert.
    Advert(Vec<u8>),
}

/// What a node has sent for.
#[derive(Clone, Debug)]
pub(crate) struct Errand {
    pub node: usize,
    pub life: u32,
    pub ticket: Ticket,
    /// Which attempt: a later one, or a stop, voids it.
    pub serial: u64,
    pub want: Want,
    /// Since when.
    pub since: u64,
    /// What comes from whom, in this attempt.
    pub sources: Vec<(Cid, usize)>,
    /// Bytes that came in earlier attempts.
    pub moved: u64,
}

/// What an errand is for, and so how it is answered.
#[derive(Clone, Debug)]
pub(crate) enum Want {
    Manifest(Cid),
    Listing(Cid),
    Blocks(Vec<Cid>),
}

/// Something that is going to happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A driver answers.
    Answer { node: usize, life: u32, input: Input },
    /// Content arrives, or the look for it ends.
    Errand(Errand),
    /// An engine is done.
    Exit { node: usize, life: u32, work: u64, exit: Result<Exit, Failure> },
    /// A message arrives.
    Wire { from: usize, to: usize, session: u64, packet: Packet },
    /// Gossip arrives.
    Gossip { from: usize, to: usize, news: News },
    /// A dial gets through.
    Dialled { from: usize, life: u32, to: usize },
    /// A side notices that its connection broke.
    Notice(Notice),
    /// An entry is written to a journal.
    Persist { node: usize, life: u32, ticket: Option<Ticket>, entry: JournalEntry },
    /// A node wants its tick.
    Wake { node: usize, life: u32 },
    /// Somebody makes a call.
    Call { calm: bool },
    /// Somebody makes a call and does not wait for it.
    Detach,
    /// Somebody calls a function with effects.
    CallOnce { calm: bool },
    /// A client makes many calls at once.
    Flood(Flood),
    /// Somebody begins a job of so many files.
    Job { files: u64, calm: bool, again: bool },
    /// Somebody imports a few files.
    Import,
    /// A user takes a request back.
    TakeBack { node: usize, life: u32, request: u64 },
    /// Something goes wrong, or right again.
    Fault(Fault),
}

/// Where the lines of a trace go.
pub type Sink<'a> = &'a mut dyn FnMut(&str);

/// All of it.
pub struct World<'a> {
    pub(crate) scenario: Scenario,
    pub(crate) now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    pub(crate) hosts: Vec<Host>,
    pub(crate) network: Network,
    pub(crate) content: Content,
    /// Random numbers for the drivers' delays, and for the load.
    pub(crate) delays: fastrand::Rng,
    pub(crate) load: fastrand::Rng,
    /// Random numbers for what becomes of gossip.
    pub(crate) gossip: fastrand::Rng,
    pub(crate) serial: u64,
    /// What was asked for already, so that it can be asked for again.
    pub(crate) tasks: Vec<Task>,
    pub(crate) jobs: Vec<(u64, JobSpec)>,
    pub(crate) report: Report,
    pub(crate) totals_us: Vec<u64>,
    laws: Vec<Box<dyn Law>>,
    digest: Digest,
    sink: Sink<'a>,
    broken: Option<Violation>,
}

impl<'a> World<'a> {
    /// Everything is in place, no process runs yet.
    pub fn new(scenario: &Scenario, seed: u64, sink: Sink<'a>) -> World<'a> {
        // One stream of random numbers for each purpose, so that more of one does not shift the others.
        let rng = |purpose: u64| fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ purpose);
        World {
            now: 0,
            queue: BTreeMap::new(),
            next_event: 0,
            hosts: (0..scenario.nodes).map(|_| Host::new()).collect(),
            network: Network::new(scenario, rng(1)),
            content: Content::new(scenario, &mut rng(2)),
            delays: rng(3),
            load: rng(4),
            gossip: rng(5),
            serial: 0,
            tasks: Vec::new(),
            jobs: Vec::new(),
            report: Report::new(scenario, seed),
            totals_us: Vec::new(),
            laws: laws(scenario),
            digest: Digest::default(),
            sink,
            broken: None,
            scenario: scenario.clone(),
        }
    }

    /// Puts an event into the queue.
    pub(crate) fn at(&mut self, at: u64, event: Event) {
        self.next_event += 1;
        self.queue.insert((at.max(self.now), self.next_event), event);
    }

    /// Lets time pass until `until`, or until a law is broken.
    pub fn run_until(&mut self, until: u64) -> Result<(), Violation> {
        while let Some(entry) = self.queue.first_entry() {
            let at = entry.key().0;
            if at > until {
                break;
            }
            let event = entry.remove();
            self.now = at;
            self.happen(event);
            self.report.events += 1;
            if let Some(violation) = self.broken.take() {
                return Err(violation);
            }
        }
        self.now = until;
        Ok(())
    }

    /// Makes a fact known to the laws and to the hash.
    pub(crate) fn fact(&mut self, fact: Fact) {
        let line = self.digest.take(self.now, &fact);
        (self.sink)(line);
        for law in &mut self.laws {
            if let Err(breach) = law.see(self.now, &fact)
                && self.broken.is_none()
            {
                self.broken = Some(Violation::new(law.name(), self.now, breach, &self.report));
            }
        }
    }

    pub(crate) fn step(&mut self, node: usize, line: String) {
        self.fact(Fact::Step { node, line });
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Answer { node, life, input } => self.give(node, life, input),
            Event::Errand(errand) => self.errand_ends(errand),
            Event::Exit { node, life, work, exit } => self.exit(node, life, work, exit),
            Event::Wire { from, to, session, packet } if self.network.delivers(from, to, session) => {
                self.deliver(from, to, packet)
            }
            Event::Wire { .. } => {}
            Event::Gossip { from, to, news } => self.hear(from, to, news),
            Event::Dialled { from, life, to } => self.dialled(from, life, to),
            Event::Notice(notice) => {
                if self.network.notice(notice) {
                    self.give(notice.node, self.hosts[notice.node].life, Input::PeerGone { peer: id(notice.peer) });
                }
            }
            Event::Wake { node, life } => self.wake(node, life),
            Event::Persist { node, life, ticket, entry } => self.persisted(node, life, ticket, entry),
            Event::Call { calm } => self.call(calm),
            Event::Detach => self.detach(),
            Event::CallOnce { calm } => self.call_once(calm),
            Event::Flood(flood) => (0..flood.calls).for_each(|_| self.call_of(flood.node, flood.client, false)),
            Event::Job { files, calm, again } => self.job(files, calm, again),
            Event::Import => self.import(),
            Event::TakeBack { node, life, request } => {
                if self.hosts[node].life == life {
                    self.fact(Fact::TakenBack { request });
                    self.give(node, life, Input::Cancel { request });
                }
            }
            Event::Fault(fault) => self.fault(&fault),
        }
    }

    /// Gives a node an input and has what it decides carried out.
    pub(crate) fn give(&mut self, node: usize, life: u32, input: Input) {
        let now = self.clocks(node);
        let host = &mut self.hosts[node];
        let Some(machine) = host.node.as_mut().filter(|_| host.life == life) else { return };
        let line = brief(&input);
        let is_tick = matches!(input, Input::Tick);
        let mut outputs = Vec::new();
        machine.handle(now, input, &mut outputs);
        let next = machine.next_wakeup();
        self.plan_wake(node, next);
        self.step(node, line);
        self.report.outputs_max = self.report.outputs_max.max(outputs.len() as u64);
        if is_tick {
            self.fact(Fact::Ticked { node, outputs: outputs.len(), next });
        }
        for output in outputs {
            self.carry_out(node, output);
        }
    }

    /// A node's tick comes when it is due or somewhat later, as a real loop is busy with other things; so an answer may
    /// overtake the tick that it makes too late.
    fn plan_wake(&mut self, node: usize, next: Option<u64>) {
        let Some(due) = next.map(|at| at.max(self.now)) else { return };
        let host = &mut self.hosts[node];
        let late = TICK_LATE_US * host.times;
        if host.wake_at.is_none_or(|planned| planned > due + late) {
            let at = due + self.delays.u64(0..=late);
            host.wake_at = Some(at);
            let life = host.life;
            self.at(at, Event::Wake { node, life });
        }
    }

    /// A planned moment has come: a tick if it is still wanted, else another plan.
    fn wake(&mut self, node: usize, life: u32) {
        let host = &mut self.hosts[node];
        if host.life != life || host.wake_at != Some(self.now) {
            return;
        }
        host.wake_at = None;
        match host.node.as_ref().and_then(|node| node.next_wakeup()) {
            Some(at) if at <= self.now => self.give(node, life, Input::Tick),
            next => self.plan_wake(node, next),
        }
    }

    fn deliver(&mut self, from: usize, to: usize, packet: Packet) {
        let from = id(from);
        let input = match packet {
            Packet::Message(message) => Input::Message { from, message },
            Packet::Adverts(sealed) => {
                let adverts = sealed.iter().filter_map(|bytes| open(bytes, |_, _, _| true).ok()).collect();
                Input::Adverts { from, adverts }
            }
            Packet::Receipts(query, sealed) => {
                let receipts = sealed.iter().filter_map(|bytes| checked(bytes)).collect();
                Input::Receipts { from, query, receipts }
            }
        };
        self.give(to, self.hosts[to].life, input);
    }

    fn dialled(&mut self, from: usize, life: u32, to: usize) {
        let alive = self.hosts[from].life == life && self.hosts[to].node.is_some();
        if !alive || !self.network.passes(from, to) {
            return;
        }
        let Some(told) = self.network.connect(from, to) else { return };
        let us = self.network.rtt_us(from, to);
        for (told, node, other) in [(told[0], from, to), (told[1], to, from)] {
            let (life, peer) = (self.hosts[node].life, id(other));
            if told == Told::GoneAndUp {
                self.give(node, life, Input::PeerGone { peer });
            }
            if told != Told::Nothing {
                self.give(node, life, Input::PeerUp { peer });
                self.give(node, life, Input::Rtt { peer, us });
            }
        }
    }

    /// A process begins.
    pub(crate) fn start(&mut self, node: usize) {
        if self.hosts[node].node.is_some() {
            return;
        }
        // Each life has a later epoch than the one before, whatever the clock says.
        let epoch = self.clocks(node).unix_ms.max(self.hosts[node].epoch + 1);
        self.hosts[node].epoch = epoch;
        self.hosts[node].start(config(&self.scenario, node, epoch));
        let life = self.hosts[node].life;
        self.step(node, format!("life {life} begins"));
        self.restore(node);
        self.give(node, life, Input::Tick);
        self.give(node, life, Input::Listening { addrs: vec![address(node)] });
    }

    /// Faults that were planned do not happen.
    pub(crate) fn forget_faults(&mut self) {
        self.queue.retain(|_, event| !matches!(event, Event::Fault(_)));
    }

    /// What runs on a node that was slow goes on at full speed: it ends soon.
    pub(crate) fn hurry(&mut self) {
        let soon = self.now + self.scenario.run_ms[1] * 1000;
        let late = |at: u64, event: &Event| at > soon && matches!(event, Event::Exit { .. });
        let keys: Vec<(u64, u64)> = self.queue.iter().filter(|(key, event)| late(key.0, event)).map(|(key, _)| *key).collect();
        for key in keys {
            let event = self.queue.remove(&key).expect("it was there a line ago");
            self.at(soon, event);
        }
    }

    /// Says who misses whom.
    pub fn who_misses_whom(&mut self) {
        for node in 0..self.hosts.len() {
            let Some(view) = self.hosts[node].node.as_ref().map(|node| node.view()) else { continue };
            let connected = |other: &usize| view.members.get(&id(*other)).is_some_and(|m| m.connected);
            let missing = (0..self.hosts.len()).filter(|other| !connected(other)).collect();
            self.fact(Fact::Misses { node, missing });
        }
    }

    /// Ends the run: what is left, the laws' last word, the report.
    pub fn finish(mut self) -> Result<Report, Violation> {
        self.settle_promises();
        for node in 0..self.hosts.len() {
            let tables = self.hosts[node].node.as_ref().map(|node| node.residue()).unwrap_or_default();
            self.fact(Fact::Left { node, tables });
        }
        for law in &mut self.laws {
            if let Err(breach) = law.end()
                && self.broken.is_none()
            {
                self.broken = Some(Violation::new(law.name(), self.now, breach, &self.report));
            }
        }
        if let Some(violation) = self.broken {
            return Err(violation);
        }
        self.report.finish(self.digest.hex(), self.now, self.totals_us);
        Ok(self.report)
    }

    /// A running node, where there is one.
    pub(crate) fn somebody(&mut self) -> Option<usize> {
        let alive: Vec<usize> = (0..self.hosts.len()).filter(|&node| self.hosts[node].node.is_some()).collect();
        self.load.choice(alive)
    }

    /// What is owed to whoever asks now.
    pub(crate) fn asked(&mut self, node: usize, timeout_ms: u64, calm: bool) -> Asked {
        self.serial += 1;
        let stranger = self.scenario.is_stranger(node);
        Asked { node, client: 0, request: self.serial, timeout_us: timeout_ms * 1000, calm, stranger }
    }
}

/// An input in one line: for the hash, and to be read.
fn brief(input: &Input) -> String {
    let mut line = String::new();
    let written = match input {
        Input::Message { from, message } => match message {
            Message::Claim { lease, budget_ms, .. } => write!(line, "< {} claim {lease:x} {budget_ms} ms", index(from)),
            Message::Holds { query, cids } => write!(line, "< {} holds {query:x} {} cids", index(from), cids.len()),
            Message::Hold { batch, cids } => write!(line, "< {} hold {batch:x} {} cids", index(from), cids.len()),
            Message::Held { query, bits, .. } => write!(line, "< {} held {query:x} {:x?}", index(from), &bits[..]),
            Message::Outcome { lease, outcome: Ok(done), .. } => {
                write!(line, "< {} outcome {lease:x} {}", index(from), done.result)
            }
            other => write!(line, "< {} {other:x?}", index(from)),
        },
        Input::Receipts { from, query, receipts } => write!(line, "< {} {} receipts to {query:x}", index(from), receipts.len()),
        Input::Recalled { ticket, found, .. } => {
            write!(line, "recalled {ticket:?} {} of {}", found.iter().flatten().count(), found.len())
        }
        Input::Signed { receipts } => write!(line, "signed {}", receipts.len()),
        Input::Inquire { request, .. } => write!(line, "inquire {request}"),
        Input::Informed { .. } => write!(line, "informed"),
        Input::Search { request, of } => write!(line, "search {request} {} cids", of.len()),
        Input::Adverts { from, adverts } => write!(line, "< {} {} adverts", index(from), adverts.len()),
        Input::PeerUp { peer } => write!(line, "up {}", index(peer)),
        Input::PeerGone { peer } => write!(line, "gone {}", index(peer)),
        Input::Rtt { peer, us } => write!(line, "rtt {} {us}", index(peer)),
        Input::Submit { request, task, .. } => write!(line, "submit {request} {} {} args", task.entry, task.args.len()),
        Input::Where { request, task, .. } => write!(line, "where {request} {} {} args", task.entry, task.args.len()),
        Input::SubmitJob { request, job, .. } => write!(line, "submit job {request} {job}"),
        Input::Place { request, files, copies } => write!(line, "place {request} {} files {copies} times", files.len()),
        Input::Loaded { ticket, function } => write!(line, "loaded {ticket:?} {}", function.is_ok()),
        Input::Fetched { ticket, bytes } => write!(line, "fetched {ticket:?} {bytes:?}"),
        Input::Listed { ticket, files } => write!(line, "listed {ticket:?} {:?}", files.as_ref().map(Vec::len)),
        Input::Exited { ticket, exit, .. } => write!(line, "exited {ticket:?} {:?}", exit.as_ref().map(|e| e.done.usage.run_us)),
        Input::Restored { entries } => write!(line, "restored {} entries", entries.len()),
        Input::Accept { request, handle, .. } => write!(line, "accept {request} {handle}"),
        Input::Persisted { ticket, result } => write!(line, "persisted {ticket:?} {}", result.is_ok()),
        Input::Posted(opened) => write!(line, "< {} letter {}", index(&opened.from()), opened.seq()),
        Input::Heard { advert } => write!(line, "< {} is there {}", index(&advert.iss), advert.seq),
        other @ (Input::Tick
        | Input::Cancel { .. }
        | Input::Listening { .. }
        | Input::Have { .. }
        | Input::Read { .. }
        | Input::Ask { .. }
        | Input::Revoke { .. }
        | Input::Identified { .. }
        | Input::Audience
        | Input::Leave) => write!(line, "{other:?}"),
        Input::AdvertSigned { advert } => write!(line, "advert {}", advert.seq),
    };
    written.expect("a string takes everything");
    line
}
