//! The node: routes every input to the machine that it is for, and nothing else.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use cid::Cid;

use crate::channel::{Channel, Refusal};
use crate::envelope::{Opened, Via};
use crate::executor::{Claim, Executor};
use crate::id::{Instant, MILLISECOND, NodeId, Now};
use crate::inquiry::Inquiries;
use crate::io::{Here, Input, Memo, Output, Ticket};
use crate::ledger::{Begin, Ledger, is_own};
use crate::manifest::{Found, Manifests};
use crate::membership::{Membership, NodeConfig};
use crate::memo::Memory;
use crate::message::Message;
use crate::promise::{Asked, JournalEntry};
use crate::runner::{NewJob, Runner};
use crate::scheduler::{Call, Client, Origin, Scheduler, Settled};
use crate::search::{Searches, Unsigned};
use crate::span::{CallSeen, Context, Seen};
use crate::store::Store;
use crate::view::{MemberView, View};

/// The most turns that a node's messages to itself may take in one call of [`Node::handle`]: a call on one's own
/// executor takes five.
const SELF_TURNS_MAX: usize = 4096;

/// One node's decisions. Call [`Node::handle`] with every input, and with [`Input::Tick`] when
/// [`Node::next_wakeup`] has come; carry out every output.
#[derive(Debug)]
pub struct Node {
    members: Membership,
    scheduler: Scheduler,
    executor: Executor,
    runner: Runner,
    store: Store,
    memory: Memory,
    ledger: Ledger,
    searches: Searches,
    inquiries: Inquiries,
    manifests: Manifests,
    unsigned: Unsigned,
    channel: Channel,
    /// Empty between inputs: what its memory is kept for.
    outputs: Vec<Output>,
}

impl Node {
    /// A node that knows nobody yet. It joins upon the first [`Input::Tick`].
    pub fn new(config: NodeConfig) -> Node {
        let epoch = config.epoch;
        Node {
            members: Membership::new(config),
            scheduler: Scheduler::new(epoch),
            executor: Executor::default(),
            // Apart from the scheduler's numbers, which answer to the same messages, and from those of an earlier life.
            runner: Runner::new(1 << 62 | epoch << 20),
            store: Store::new(epoch),
            memory: Memory::default(),
            ledger: Ledger::default(),
            searches: Searches::new(1 << 63 | epoch << 20),
            inquiries: Inquiries::new(3 << 62 | epoch << 20),
            manifests: Manifests::new(epoch),
            unsigned: Unsigned::default(),
            channel: Channel::new(epoch),
            outputs: Vec::new(),
        }
    }

    /// Decides upon one input. Outputs are appended in the order in which they are to be carried out.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        let me = self.members.config.me;
        let (mut next, mut own) = (Some(input), VecDeque::new());
        let mut outputs = core::mem::take(&mut self.outputs);
        for _ in 0..SELF_TURNS_MAX {
            let Some(input) = next.take().or_else(|| own.pop_front().map(|message| Input::Message { from: me, message })) else {
                break;
            };
            let signed = if let Input::Signed { receipts } = &input { receipts.len() } else { 0 };
            self.route(now, input, &mut outputs);
            self.finish(now, &mut outputs);
            // What a node says to itself takes the same route without the wire.
            for output in outputs.drain(..) {
                match output {
                    Output::Send { to, message } if to == me => own.push_back(message),
                    // The ledger's jobs are answered to it.
                    Output::JobReply { request, reply } if is_own(request) => self.ledger.job_ended(now, request, reply, out),
                    Output::Progress { request, .. } if is_own(request) => {}
                    Output::Send { to, mut message } if self.carrier(&to, &message) == Via::PubSub => {
                        if let Message::Claim { inline, .. } = &mut message {
                            *inline = true;
                        }
                        self.channel.post(now.monotonic_us, to, self.members.life(&to), message, out);
                    }
                    output => self.unsigned.pass(output, out),
                }
            }
            self.unsigned.signed(signed, out);
        }
        self.outputs = outputs;
    }

    /// Which channel a message takes: the one on which its lease is talked of or its call has to travel, else a stream
    /// if one stands.
    fn carrier(&self, to: &NodeId, message: &Message) -> Via {
        let wanted = match message {
            Message::Claim { lease, .. } => self.scheduler.asked(*lease).and_then(|(_, via)| via),
            _ => None,
        };
        if wanted == Some(Via::PubSub) || self.channel.talks(to, message) {
            return Via::PubSub;
        }
        self.members.via(to).unwrap_or(Via::Stream)
    }

    /// When [`Input::Tick`] is due, on the monotonic clock.
    pub fn next_wakeup(&self) -> Option<u64> {
        [
            self.members.next_wakeup(),
            self.scheduler.next_wakeup(),
            self.executor.next_wakeup(),
            self.runner.next_wakeup(),
            self.store.next_wakeup(),
            self.ledger.next_wakeup(),
            self.searches.next_wakeup(),
            self.inquiries.next_wakeup(),
            self.manifests.next_wakeup(),
            self.channel.next_wakeup(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What may be shown of this node.
    pub fn view(&self) -> View {
        let members = self.members.iter().map(|(id, member)| {
            let advert = &member.advert;
            let view = MemberView {
                addrs: advert.addrs.clone(),
                region: advert.region.clone(),
                roles: advert.roles.clone(),
                engines: advert.engines.clone(),
                offers: advert.offers,
                rtt_us: member.rtt_us,
                connected: self.members.reaches(id),
                via: self.members.via(id),
                left: advert.left,
                epoch: advert.epoch,
                trusted: self.members.trusts(id),
            };
            (*id, view)
        });
        let (calls, calls_waiting) = self.scheduler.load();
        let (slots_used, work) = self.executor.load();
        View {
            me: self.members.config.me,
            members: members.collect(),
            calls,
            calls_waiting,
            jobs: self.runner.len(),
            slots_used,
            work,
            letters: self.channel.tally(),
        }
    }

    /// What is under way, by table, where there is any. A node whose calls, jobs and work have ended has none: what is
    /// left then is a leak.
    pub fn residue(&self) -> Vec<(&'static str, usize)> {
        let (calls, work) = (self.scheduler.residue(), self.executor.residue());
        let (jobs, store) = (self.runner.residue(), self.store.residue());
        calls
            .into_iter()
            .chain(work)
            .chain(jobs)
            .chain(store)
            .chain(self.ledger.residue())
            .chain([self.memory.residue(), self.searches.residue(), self.inquiries.residue(), self.unsigned.residue()])
            .chain([self.manifests.residue()])
            .chain(self.channel.residue())
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// What the journal holds when nothing is on its way to it.
    pub fn entries(&self) -> impl Iterator<Item = JournalEntry> + '_ {
        self.ledger.entries().chain(self.executor.entries())
    }

    fn route(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        let (clock, members) = (now.monotonic_us, &mut self.members);
        match input {
            Input::Tick => self.tick(now, out),
            Input::Restored { entries } => self.restored(now, entries, out),
            Input::Submit { request, task, timeout_ms, memo, function, new, client, via, trace } => {
                let deadline = clock.saturating_add(timeout_ms.saturating_mul(MILLISECOND));
                let via = via.or_else(|| Via::of(&task));
                let call = Call::new(Origin::Request(request), task, deadline, Client::User(client));
                let call = Call { function, memo, new, via, trace, ..call };
                self.scheduler.submit(clock, call, members, out);
            }
            Input::Where { request, task, timeout_ms } => {
                let deadline = clock.saturating_add(timeout_ms.saturating_mul(MILLISECOND));
                let call = Call::new(Origin::Where(request), task, deadline, Client::User(0));
                self.scheduler.submit(clock, call, members, out);
            }
            Input::SubmitJob { request, job, spec, locality, timeout_ms, memo, trace } => {
                let deadline = clock.saturating_add(timeout_ms.saturating_mul(MILLISECOND));
                self.store.copy(job, members, out);
                self.runner.submit(clock, NewJob { request, job, spec, locality, memo, deadline, trace }, out);
            }
            Input::Cancel { request } => {
                self.scheduler.cancel(Origin::Request(request), out);
                self.scheduler.cancel(Origin::Where(request), out);
                self.runner.cancel(request, &mut self.scheduler, out);
                self.store.cancel(request);
                self.searches.cancel(request);
                self.inquiries.cancel(request);
                self.ledger.leave(request);
            }
            Input::Accept { request, handle, asked, timeout_ms } => {
                self.ledger.accept(now, request, handle, asked, timeout_ms, out);
            }
            Input::Ask { request, handle: Some(handle), wait } => self.ledger.ask(request, handle, wait, out),
            Input::Ask { request, handle: None, .. } => self.ledger.survey(request, &self.scheduler.workers(), out),
            Input::Revoke { request, handle } => {
                if let Some(stop) = self.ledger.revoke(now, request, handle, out) {
                    self.scheduler.cancel(Origin::Request(stop), out);
                    self.runner.cancel(stop, &mut self.scheduler, out);
                }
            }
            Input::Search { request, of } => self.searches.begin(clock, request, of, out),
            Input::Inquire { request, question } => self.inquiries.begin(clock, request, question, out),
            Input::Place { request, files, copies } => self.store.place(clock, request, files, copies, members, out),
            Input::Message { from, message } => self.message(now, from, message, out),
            Input::Receipts { from, query: 0, receipts } => self.memory.told(from, receipts, members, out),
            Input::Receipts { from, query, receipts } => {
                if !self.searches.there(from, query, &receipts, members, out) {
                    self.runner.told(clock, from, query, &receipts, members, out);
                }
            }
            Input::Posted(opened) => self.posted(now, opened, out),
            Input::PeerGone { peer } => self.gone(now, peer, out),
            other => self.met(now, other, out),
        }
    }

    /// What is heard of members, by them or by others.
    fn met(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        let (clock, members) = (now.monotonic_us, &mut self.members);
        match input {
            Input::Adverts { from, adverts } => {
                members.learn(from, adverts, out);
                self.scheduler.members_changed(clock, members, out);
                self.bury(now, out);
            }
            Input::AdvertSigned { advert } => {
                members.signed(clock, advert, out);
                self.scheduler.members_changed(clock, members, out);
            }
            Input::Heard { advert } => {
                members.aired(clock, advert);
                self.scheduler.members_changed(clock, members, out);
                self.bury(now, out);
            }
            Input::Audience => members.welcome(clock),
            Input::Leave => members.leave(out),
            Input::PeerUp { peer } => {
                members.up(peer, out);
                self.scheduler.members_changed(clock, members, out);
            }
            Input::Rtt { peer, us } => members.measured(peer, us),
            Input::Listening { addrs } => members.listening(addrs, out),
            answer => self.answer(now, answer, out),
        }
    }

    /// What a driver answers, to whoever asked.
    fn answer(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        let (clock, members) = (now.monotonic_us, &self.members);
        match input {
            Input::Loaded { ticket: Ticket::Work(id), function } => self.executor.loaded(clock, id, function, members, out),
            Input::Loaded { ticket, function } => {
                let found = self.manifests.loaded(clock, ticket, function, members, out);
                self.found(clock, found, out);
            }
            Input::Fetched { ticket: Ticket::Work(id), bytes } => self.executor.fetched(clock, id, bytes, members, out),
            Input::Fetched { ticket: Ticket::Keep(id), bytes } => self.ledger.kept(now, id, bytes, out),
            Input::Fetched { ticket: Ticket::Hold(from, batch), bytes } => self.store.held(from, batch, bytes, out),
            Input::Listed { ticket: Ticket::Job(id), files } => self.runner.listed(clock, id, files, members, out),
            Input::Have { ticket: Ticket::Call(id), here } => self.scheduler.have(clock, id, &here, members, out),
            Input::Have { ticket: Ticket::JobHave(query), here } => {
                self.runner.held(clock, members.config.me, query, &here.bits, members, out);
            }
            Input::Have { ticket: Ticket::Holds(from, query), here } => self.store.answer(from, query, here, out),
            Input::Read { ticket: Ticket::Work(id), bytes } => self.executor.read(id, bytes, out),
            Input::Read { ticket: Ticket::Give(to, query), bytes: block } => self.manifests.give(to, query, block, out),
            Input::Exited { ticket: Ticket::Work(id), exit } => self.executor.exited(clock, id, exit, members, out),
            Input::Signed { receipts } => self.executor.signed(clock, receipts, members, out),
            Input::Informed { ticket: Ticket::Inquiry(id), reply } => self.inquiries.here(clock, id, reply, members, out),
            Input::Informed { ticket: Ticket::Inform(to, query), reply } => {
                out.push(Output::Send { to, message: Message::Inform { query, reply } });
            }
            Input::Recalled { ticket, keys, found } => self.recalled(clock, ticket, keys, found, out),
            Input::Persisted { ticket: Ticket::Accept(id), result } => self.ledger.accepted(now, id, result, out),
            Input::Persisted { ticket: Ticket::End(id), .. } => self.ledger.noted(now, id, out),
            Input::Persisted { ticket: Ticket::Work(id), result } => self.executor.persisted(clock, id, result, members, out),
            Input::Identified { ticket: Ticket::Work(id), task } => self.executor.identified(now, id, task, members, out),
            // An answer to a ticket that never asks for such a thing.
            _ => {}
        }
    }

    /// Manifests that were read or are not to be had, to whoever wants them.
    fn found(&mut self, now: Instant, found: impl IntoIterator<Item = Found>, out: &mut Vec<Output>) {
        for (ticket, function, told) in found {
            match ticket {
                Ticket::Call(id) => self.scheduler.loaded(now, id, (function, told), &self.members, out),
                Ticket::Job(id) => self.runner.loaded(id, function, out),
                _ => {}
            }
        }
    }

    /// What is remembered, to whoever asked.
    fn recalled(&mut self, now: Instant, ticket: Ticket, keys: Vec<Cid>, mut found: Vec<Option<Memo>>, out: &mut Vec<Output>) {
        let members = &self.members;
        match (ticket, keys.first().copied()) {
            (Ticket::JobMemo(query), _) => self.runner.recalled(now, query, keys, found, members, out),
            (Ticket::Search(query), _) => self.searches.here(now, query, found, members, out),
            (Ticket::Recall(from, query), _) => self.memory.answer(from, query, found, out),
            (Ticket::Call(id), Some(key)) => self.scheduler.recalled(now, id, key, found.pop().flatten(), members, out),
            (Ticket::Work(id), Some(key)) => self.executor.recalled(now, id, key, found.pop().flatten(), members, out),
            _ => {}
        }
    }

    fn message(&mut self, now: Now, from: NodeId, message: Message, out: &mut Vec<Output>) {
        let (clock, members) = (now.monotonic_us, &self.members);
        match message {
            Message::Claim { lease, task, budget_ms, hints, memo, keep, trace, inline } => {
                self.executor.claim(
                    clock,
                    from,
                    lease,
                    Claim { task, budget_ms, hints, memo, keep, trace, inline },
                    members,
                    out,
                );
            }
            Message::Renew { lease } => self.executor.renew(clock, from, lease, out),
            Message::Settled { lease } | Message::Cancel { lease } => self.executor.drop_lease(from, lease, out),
            Message::Grant { lease } => self.scheduler.granted(clock, from, lease),
            Message::Nack { lease, reason } => self.scheduler.nacked(clock, from, lease, reason, members, out),
            // What nobody waits for is not put down: a peer may not fill this node's disk.
            Message::Outcome { lease, outcome: Ok(done), body: Some(body) }
                if self.scheduler.asked(lease).is_some_and(|(asked, _)| asked == from) =>
            {
                out.push(Output::Unpack { from, lease, done, body });
            }
            Message::Outcome { lease, outcome, .. } => self.scheduler.outcome(clock, from, lease, outcome, members, out),
            Message::Unknown { lease } => self.scheduler.unknown(clock, from, lease, members, out),
            Message::Holds { query, cids } => self.store.asked(from, query, cids, members, out),
            Message::Held { query, bits, sizes } => {
                let there = Here { bits: bits.into_vec(), sizes };
                let theirs = self.scheduler.held(clock, from, query, &there, members, out);
                if !theirs {
                    self.runner.held(clock, from, query, &there.bits, members, out);
                }
            }
            Message::Recall { query, keys } => self.memory.asked(from, query, keys, members, out),
            Message::Inquire { query, question } => Inquiries::asked(from, query, question, members, out),
            Message::Inform { query, reply } => self.inquiries.there(from, query, reply, out),
            Message::Get { query, cid } => self.manifests.asked(from, query, cid, members, out),
            Message::Got { query, block } => {
                let found = self.manifests.there(from, query, block, out);
                self.found(clock, found, out);
            }
            Message::Hold { batch, cids } => self.store.hold(from, batch, cids, members, out),
            Message::Kept { batch, kept } => self.store.kept(clock, from, batch, kept, members, out),
        }
    }

    /// A letter came: what it says is as good as what comes on a stream.
    fn posted(&mut self, now: Now, opened: Opened, out: &mut Vec<Output>) {
        let (clock, from, members) = (now.monotonic_us, opened.from(), &mut self.members);
        if let Some(delegation) = opened.delegation().filter(|delegation| members.trusts(&delegation.iss)) {
            members.guests.admit(now, from, delegation);
        }
        let message = self.channel.heard(clock, opened, |id| members.sponsor(id, clock).is_some(), out);
        if message != Err(Refusal::OtherLife) && message != Err(Refusal::OldLife) {
            members.spoke(clock, &from);
        }
        if let Ok(Some(message)) = message {
            self.message(now, from, message, out);
        }
    }

    /// Members that died, left or began again: what was written to them is void, and whatever those did whom no stream
    /// reaches goes elsewhere. The others have a connection to lose.
    fn bury(&mut self, now: Now, out: &mut Vec<Output>) {
        for peer in self.members.take_departed() {
            if let Some(life) = self.members.life(&peer) {
                self.channel.lives(peer, life);
            }
            if !self.members.reaches(&peer) {
                self.lose(now, peer, out);
            }
        }
    }

    fn gone(&mut self, now: Now, peer: NodeId, out: &mut Vec<Output>) {
        self.members.gone(peer);
        self.lose(now, peer, out);
    }

    fn lose(&mut self, now: Now, peer: NodeId, out: &mut Vec<Output>) {
        let clock = now.monotonic_us;
        self.channel.forget(&peer);
        self.executor.gone(peer, out);
        self.scheduler.gone(clock, peer, &self.members, out);
        self.runner.gone(clock, peer, out);
        self.store.gone(clock, peer, &self.members, out);
        self.searches.gone(peer, out);
        self.inquiries.gone(peer, out);
        let unfound = self.manifests.gone(peer);
        self.found(clock, unfound, out);
    }

    fn tick(&mut self, now: Now, out: &mut Vec<Output>) {
        let clock = now.monotonic_us;
        self.members.tick(now, out);
        self.channel.tick(clock, out);
        for node in self.channel.take_silent() {
            self.members.silent(clock, &node);
        }
        self.bury(now, out);
        self.executor.tick(clock, out);
        self.scheduler.tick(clock, &self.members, out);
        self.runner.tick(clock, &mut self.scheduler, out);
        self.store.tick(clock, &self.members, out);
        self.searches.tick(clock, out);
        self.inquiries.tick(clock, out);
        let unfound = self.manifests.tick(clock);
        self.found(clock, unfound, out);
        self.ledger.tick(now, out);
    }

    /// Takes up what an earlier life of this node promised.
    fn restored(&mut self, now: Now, entries: Vec<JournalEntry>, out: &mut Vec<Output>) {
        let (mut works, mut effects) = (Vec::new(), Vec::new());
        for entry in entries {
            match entry {
                JournalEntry::Work(work) => works.push(work),
                JournalEntry::Effect(effect) => effects.push(effect),
                JournalEntry::Forgotten(_) => {}
            }
        }
        self.executor.restore(now.unix_ms, effects, out);
        self.ledger.restore(now, works);
    }

    /// Begins what the ledger has ready.
    fn begin(&mut self, now: Now, out: &mut Vec<Output>) {
        let clock = now.monotonic_us;
        for Begin { request, handle, asked, deadline, again } in self.ledger.begin(now, out) {
            let trace = Some(Context::of(&handle));
            match asked {
                Asked::Call { task, memo } => {
                    let (origin, client, target, held, bytes) = (Origin::Request(request), Client::Detached, None, None, 0);
                    let (function, new, via) = (None, None, Via::of(&task));
                    let call =
                        Call { origin, task, function, deadline, target, held, bytes, client, memo, again, new, via, trace };
                    self.scheduler.submit(clock, call, &self.members, out);
                }
                Asked::Job { spec, locality, memo } => {
                    self.store.copy(handle, &self.members, out);
                    let new = NewJob { request, job: handle, spec, locality, memo, deadline, trace };
                    self.runner.submit(clock, new, out);
                }
            }
        }
    }

    /// Hands settled calls to whoever made them, until nothing more comes of it.
    fn finish(&mut self, now: Now, out: &mut Vec<Output>) {
        let clock = now.monotonic_us;
        loop {
            self.begin(now, out);
            for Settled { origin, result, seen } in self.scheduler.take_settled() {
                out.extend(seen.map(|seen| Output::Seen(Seen::Call(CallSeen { ended: clock, ..seen }))));
                match origin {
                    Origin::Job(job, task) => self.runner.settled(clock, job, task, result, &mut self.scheduler, out),
                    // Where there was a ranking, it was told by the scheduler.
                    Origin::Where(request) => {
                        let failed = result.err();
                        out.extend(failed.map(|failure| Output::Ranked { request, reply: Err(failure) }));
                    }
                    Origin::Request(request) => match is_own(request) {
                        true => self.ledger.call_ended(now, request, result, out),
                        false => out.push(Output::Reply { request, reply: result }),
                    },
                }
            }
            self.runner.dispatch(clock, &self.members, &mut self.scheduler, out);
            self.scheduler.jobs_are_served(clock, &self.members, out);
            if !self.scheduler.has_settled() {
                return;
            }
        }
    }
}
