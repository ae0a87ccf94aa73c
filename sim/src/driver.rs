//! The virtual drivers: each output is carried out after a virtual delay, and answered if it wants an answer.

use cid::Cid;
use timerose_core::failure::Failure;
use timerose_core::function::Determinism;
use timerose_core::id::NodeId;
use timerose_core::io::{Exit, Here, Input, Memo, Output, Sealed, Ticket, Wanted};
use timerose_core::message::SIZES_MAX;
use timerose_core::proof::prove;
use timerose_core::record::{open, seal};
use timerose_core::task::{Receipt, Task, Usage};

use crate::fact::Fact;
use crate::host::{at_address, checked, id, index};
use crate::network::Fate;
use crate::world::{Errand, Event, Packet, Want, World};

/// How long content is looked for before it counts as missing, in microseconds (DESIGN §7).
const NOT_FOUND_US: u64 = 5_000_000;
/// The pause between two looks.
const LOOK_AGAIN_US: u64 = 250_000;

impl World<'_> {
    /// Carries out what a node decided.
    pub(crate) fn carry_out(&mut self, node: usize, output: Output) {
        match output {
            Output::Send { to, message } => {
                self.report.said(&message);
                self.send(node, index(&to), Packet::Message(message));
            }
            Output::SendAdverts { to, sealed } => self.send(node, index(&to), Packet::Adverts(sealed)),
            Output::SendReceipts { to, query, sealed } => self.send(node, index(&to), Packet::Receipts(query, sealed)),
            Output::Post(post) => self.post(node, post),
            Output::Announce { sealed } => self.announce(node, &sealed),
            Output::Remember { receipts } if !self.hosts[node].full => {
                let keyed = receipts.into_iter().filter_map(|sealed| Some((sealed.names.key?, sealed.bytes)));
                self.hosts[node].memo.extend(keyed);
            }
            Output::Recall { ticket, of } => self.recall(node, ticket, of),
            Output::SignAdvert { advert } => {
                let sealed = seal(&advert, |_| [0; 64]);
                let advert = open(&sealed, |_, _, _| true).expect("what was sealed here opens here");
                self.answer(node, Input::AdvertSigned { advert });
            }
            Output::Dial { addrs, .. } => self.dial(node, &addrs),
            Output::Load { ticket, function, .. } => self.send_for(node, ticket, Want::Manifest(function)),
            Output::Learn { ticket, function, block } => self.learn(node, ticket, function, &block),
            Output::Fetch { ticket, roots, .. } => self.send_for(node, ticket, Want::Blocks(roots)),
            Output::List { ticket, root } => self.send_for(node, ticket, Want::Listing(root)),
            Output::Stop { ticket } => self.stop(node, ticket),
            Output::Have { ticket, cids } => self.have(node, ticket, &cids),
            Output::Read { ticket, cid } => self.read(node, ticket, &cid),
            Output::Unpack { from, lease, done, body } => self.unpack(node, from, lease, done, &body),
            Output::Start { ticket: Ticket::Work(work), function, task, subject, spent, .. } => {
                if function.determinism == Determinism::Effects {
                    self.fact(Fact::StartedOnce { node, task: task.id(&subject) });
                }
                let fact = Fact::Started { node, work, memory: function.limits.memory, subject: index(&subject) };
                self.fact(fact);
                self.begin_run(node, work, task, &subject, spent);
            }
            Output::Sign { ticket, statement, .. } => {
                let proofs = prove(id(node), &[(statement.names.receipt, &statement.bytes)], |_| [0; 64]);
                let seal = |bytes| (ticket, Sealed { names: statement.names, tell: statement.tell, bytes });
                self.answer(node, Input::Signed { receipts: proofs.into_iter().map(seal).collect() });
            }
            Output::Reply { request, reply } => {
                self.count(&reply);
                self.chosen(node, &reply);
                self.fact(Fact::Replied { node, request, reply });
            }
            Output::JobReply { request, reply } => {
                self.count_job(&reply);
                self.fact(Fact::JobReplied { node, request, reply });
            }
            Output::Placed { request, cids, at } => {
                let at = at.map(|at| index(&at));
                let kept = at.is_none_or(|at| cids.iter().all(|cid| self.content.has(at, cid)));
                self.fact(Fact::Placed { node, request, cids, at, kept });
            }
            Output::Persist { ticket, entry, class } => self.persist(node, ticket, entry, class),
            Output::Identify { ticket, task, subject } => {
                self.answer(node, Input::Identified { ticket, task: task.id(&subject) });
            }
            output @ (Output::Accepted { .. } | Output::Works { .. }) => self.told(node, output),
            Output::Start { .. }
            | Output::Remember { .. }
            | Output::Progress { .. }
            | Output::Ranked { .. }
            | Output::Searched { .. } => {}
            // Nobody asks what a node saw: the simulator sees it all.
            Output::Seen(_) | Output::Inquire { .. } | Output::Informed { .. } => {}
        }
    }

    /// Says which blocks a node has.
    fn have(&mut self, node: usize, ticket: Ticket, cids: &[Cid]) {
        let mut bits = vec![0; cids.len().div_ceil(8)];
        for (i, _) in cids.iter().enumerate().filter(|(_, cid)| self.content.has(node, cid)) {
            bits[i / 8] |= 1 << (i % 8);
        }
        let size = |cid: &Cid| if self.content.has(node, cid) { self.content.size(cid) } else { 0 };
        let sizes = if cids.len() <= SIZES_MAX { cids.iter().map(size).collect() } else { Vec::new() };
        self.answer(node, Input::Have { ticket, here: Here { bits, sizes } });
    }

    /// Says what a node remembers.
    fn recall(&mut self, node: usize, ticket: Ticket, of: Wanted) {
        let keys: Vec<Cid> = match of {
            Wanted::Tasks(tasks) => tasks.iter().map(Task::memo_key).collect(),
            Wanted::Keys(keys) => keys,
        };
        let memo = &self.hosts[node].memo;
        let found: Vec<Option<Memo>> = keys.iter().map(|key| memo.get(key).and_then(|sealed| checked(sealed))).collect();
        for (key, memo) in keys.iter().zip(&found).filter_map(|(key, memo)| Some((key, memo.as_ref()?))) {
            let receipt = &memo.receipt;
            let gives = self.content.result(&receipt.task).map(|(result, size)| (Ok(result), size));
            let right = memo.key == *key && gives == Some((receipt.out.clone(), receipt.size));
            self.fact(Fact::Remembers { node, key: *key, right });
        }
        self.answer(node, Input::Recalled { ticket, keys, found });
    }

    /// What a driver's turn takes on this node, in microseconds.
    pub(crate) fn turn_us(&mut self, node: usize) -> u64 {
        self.delays.u64(50..500) * self.hosts[node].times
    }

    pub(crate) fn answer(&mut self, node: usize, input: Input) {
        let (at, life) = (self.now + self.turn_us(node), self.hosts[node].life);
        self.at(at, Event::Answer { node, life, input });
    }

    fn send(&mut self, from: usize, to: usize, packet: Packet) {
        match self.network.send(self.now, from, to) {
            Fate::Arrives { at, session } => {
                if let Some(late) = self.network.comes_twice() {
                    self.at(at + late, Event::Wire { from, to, session, packet: packet.clone() });
                }
                self.at(at, Event::Wire { from, to, session, packet });
            }
            Fate::Lost => {}
            Fate::Breaks(notices) => {
                self.step(from, format!("the connection to {to} breaks"));
                self.notices(notices);
            }
        }
    }

    fn dial(&mut self, from: usize, addrs: &[String]) {
        let Some(to) = addrs.iter().find_map(|addr| at_address(addr)).filter(|&to| to != from) else { return };
        // A handshake takes two round trips.
        let at = self.now + 2 * self.network.rtt_us(from, to) + self.turn_us(from);
        let life = self.hosts[from].life;
        self.at(at, Event::Dialled { from, life, to });
    }

    fn send_for(&mut self, node: usize, ticket: Ticket, want: Want) {
        self.serial += 1;
        self.hosts[node].errands.insert(ticket, self.serial);
        let (life, serial, since) = (self.hosts[node].life, self.serial, self.now);
        self.look(Errand { node, life, ticket, serial, want, since, sources: Vec::new(), moved: 0 });
    }

    /// Finds out where the missing blocks can come from, and how long that takes.
    fn look(&mut self, mut errand: Errand) {
        let node = errand.node;
        let (mut rtt_us, mut bytes) = (0, 0);
        errand.sources.clear();
        for cid in errand.want.cids() {
            if self.content.has(node, &cid) {
                continue;
            }
            let near = self.content.holders(&cid).filter(|&other| self.network.flows(node, other));
            let Some(source) = near.min_by_key(|&other| (self.network.rtt_us(node, other), other)) else {
                return self.not_here(errand, cid);
            };
            errand.sources.push((cid, source));
            rtt_us = rtt_us.max(self.network.rtt_us(node, source));
            bytes += self.content.size(&cid);
        }
        let us = rtt_us + bytes / self.scenario.bandwidth_mb_per_s;
        let at = self.now + us + self.turn_us(node);
        self.at(at, Event::Errand(errand));
    }

    /// Nobody in reach has a block: that is known at once where there is somebody to ask, else it is waited for.
    fn not_here(&mut self, mut errand: Errand, cid: Cid) {
        let node = errand.node;
        let peers: Vec<usize> = (0..self.hosts.len()).filter(|&other| self.network.flows(node, other)).collect();
        if !peers.is_empty() || self.now >= errand.since + NOT_FOUND_US {
            let failure = Failure::not_found(cid, peers.len() as u32);
            if self.is_current(&errand) {
                self.hosts[node].errands.remove(&errand.ticket);
                self.answer(node, errand.want.answer(errand.ticket, Err(failure), self));
            }
            return;
        }
        errand.sources.clear();
        self.at(self.now + LOOK_AGAIN_US, Event::Errand(errand));
    }

    fn is_current(&self, errand: &Errand) -> bool {
        let host = &self.hosts[errand.node];
        host.life == errand.life && host.errands.get(&errand.ticket) == Some(&errand.serial)
    }

    /// An attempt is over: what its sources still reach is here, and perhaps that is all.
    pub(crate) fn errand_ends(&mut self, mut errand: Errand) {
        if !self.is_current(&errand) {
            return;
        }
        let node = errand.node;
        if !errand.sources.is_empty()
            && let Some(failure) = self.write_failure(node)
        {
            self.hosts[node].errands.remove(&errand.ticket);
            let input = errand.want.answer(errand.ticket, Err(failure), self);
            return self.give(node, errand.life, input);
        }
        for (cid, source) in std::mem::take(&mut errand.sources) {
            if self.network.flows(node, source) {
                errand.moved += self.content.size(&cid);
                self.content.copy(cid, node);
            }
        }
        if !errand.want.cids().iter().all(|cid| self.content.has(node, cid)) {
            return self.look(errand);
        }
        self.hosts[node].errands.remove(&errand.ticket);
        self.report.bytes_moved += errand.moved;
        let input = errand.want.answer(errand.ticket, Ok(errand.moved), self);
        self.give(node, errand.life, input);
    }

    fn begin_run(&mut self, node: usize, work: u64, task: Task, subject: &NodeId, spent: Usage) {
        let run_us = self.content.run_us(&task) * self.hosts[node].times;
        let bad_luck = self.delays.u32(0..1000) < self.scenario.engine_fails_per_mille;
        let exit = match self.content.result(&task) {
            _ if bad_luck => Err(Failure::NodeFailed { what: "the engine could not start".into() }),
            None => Err(Failure::FunctionFailed { exit: 1, stderr: "as it was told".into() }),
            Some((result, size)) => {
                let input = task.links().map(|cid| self.content.size(&cid)).sum();
                let meta = Usage { run_us, input, memory: 1 << 20, ..spent };
                let (iss, ran, key) = (id(node), task.id(subject), task.memo_key());
                let receipt = Receipt { iss, ran, task, out: Ok(result), size, meta, at: self.now / 1000 };
                Ok(Exit::new(&receipt, result, key))
            }
        };
        self.hosts[node].runs.insert(work, false);
        let (at, life) = (self.now + run_us + self.turn_us(node), self.hosts[node].life);
        self.at(at, Event::Exit { node, life, work, exit });
    }

    /// An engine is done: its result lies here.
    pub(crate) fn exit(&mut self, node: usize, life: u32, work: u64, exit: Result<Exit, Failure>) {
        let exit = exit.and_then(|exit| self.write_failure(node).map_or(Ok(exit), Err));
        let host = &mut self.hosts[node];
        // An engine ends once: what was stopped has an earlier end than it would have had.
        if host.life != life || host.runs.remove(&work).is_none() {
            return;
        }
        if let Ok(exit) = &exit {
            self.content.add(exit.done.result, exit.done.size, node);
        }
        self.fact(Fact::Ended { node, work });
        self.give(node, life, Input::Exited { ticket: Ticket::Work(work), exit });
    }

    fn stop(&mut self, node: usize, ticket: Ticket) {
        self.hosts[node].errands.remove(&ticket);
        let Ticket::Work(work) = ticket else { return };
        let Some(stopped) = self.hosts[node].runs.get_mut(&work).filter(|stopped| !**stopped) else { return };
        *stopped = true;
        let (at, life) = (self.now + 2 * self.turn_us(node), self.hosts[node].life);
        self.at(at, Event::Exit { node, life, work, exit: Err(Failure::Cancelled) });
    }
}

impl Want {
    fn cids(&self) -> Vec<Cid> {
        match self {
            Want::Manifest(cid) | Want::Listing(cid) => vec![*cid],
            Want::Blocks(cids) => cids.clone(),
        }
    }

    fn answer(&self, ticket: Ticket, bytes: Result<u64, Failure>, world: &World) -> Input {
        match self {
            Want::Manifest(cid) => {
                let missing = Failure::Rejected { finding: "not a manifest".into() };
                let function = bytes.and_then(|_| world.content.function(cid).ok_or(missing));
                Input::Loaded { ticket, function }
            }
            Want::Listing(root) => Input::Listed { ticket, files: bytes.map(|_| world.content.files(root)) },
            Want::Blocks(_) => Input::Fetched { ticket, bytes },
        }
    }
}
