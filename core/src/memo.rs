//! The memory: which receipts may stand for another run, who keeps them, and how a job's tasks are looked up.
//!
//! A pure task's result may be reused under its memo key. What small calls gave is remembered where they ran; receipts of
//! job tasks and of longer runs go to the two stores that win rendezvous of the key as well. A job asks there, in
//! batches; a single call never asks anybody. Keys are computed by drivers, and signatures checked by them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use cid::Cid;

use crate::capability::Role;
use crate::function::{Determinism, Function};
use crate::id::{Instant, NodeId, SECOND};
use crate::io::{Memo, Output, Sealed, Statement, Ticket, Wanted};
use crate::membership::Membership;
use crate::message::{FRAME_MAX, KEYS_MAX, Message};
use crate::placement::rendezvous;
use crate::task::{Done, Task};

/// The largest receipt that is remembered for reuse, with its proof, in bytes; a larger one is of a task whose inline
/// arguments are most of it.
pub const REMEMBERED_MAX: usize = 8 * 1024;
/// What a proof takes beside its receipt, at most, in bytes.
const PROOF_MAX: usize = 1024;
/// Receipts that are told in one frame: so many fit, however large.
const TOLD_MAX: usize = 32;
/// A run that took longer is worth telling others of, in microseconds.
const WORTH_TELLING_US: u64 = 10_000;
/// How many stores keep a receipt besides its executor.
const KEEPERS: usize = 2;
/// How long their answers are waited for; what is not answered counts as not found. Each side checks a hundred signatures,
/// and a loaded machine is slow to; a lost connection is noticed at once.
const ASK_WAIT: Instant = SECOND;
/// How long this node's own look-up is waited for.
const OWN_WAIT: Instant = 5 * SECOND;
/// Look-ups that one job has open; further tasks wait their turn.
pub const LOOKUPS_MAX: usize = 2;
/// Peers' questions that are being looked up; further ones are not answered, and their askers go on.
const QUESTIONS_MAX: usize = 256;
/// Room for a frame's head and the lengths within it, in bytes.
const FRAME_HEAD: usize = 4 * 1024;

/// Whether a task takes part: the same arguments give the same result, and nobody wants it to run again.
pub fn takes_part(function: &Function, task: &Task) -> bool {
    function.determinism == Determinism::Pure && task.seq == 0
}

/// The stores that keep the receipt of a key.
fn keepers(key: &Cid, members: &Membership) -> Vec<NodeId> {
    let mut won = rendezvous(key, members.with_role(Role::Store).map(|(&node, _)| node));
    won.truncate(KEEPERS);
    won
}

/// The result that a receipt stands for, and where it lies: if its executor is trusted and in reach, and it succeeded.
pub fn reuse(memo: &Memo, members: &Membership) -> Option<(Done, NodeId)> {
    let receipt = &memo.receipt;
    // Whoever asked for it to run again did not ask for this result to be shared.
    let may = receipt.task.seq == 0 && members.trusts(&receipt.iss) && members.reaches(&receipt.iss);
    let result = receipt.out.as_ref().ok().filter(|_| may)?;
    let (task, result, size) = (receipt.ran, *result, receipt.size);
    Some((Done { task, result, size, receipt: memo.cid, usage: receipt.meta, reused: true }, receipt.iss))
}

/// Says what becomes of a receipt before it is signed: whether it may be reused, and whether its keepers are told of it, as
/// they are of a job's and of a long run's.
pub fn judge(statement: &mut Statement, pure: bool, keep: bool, run_us: u64) {
    if !pure || statement.bytes.len() + PROOF_MAX > REMEMBERED_MAX {
        statement.names.key = None;
    }
    statement.tell = statement.names.key.is_some() && (keep || run_us > WORTH_TELLING_US);
}

/// Tells the keepers of their keys some receipts, each with its proof.
pub fn tell<'a>(receipts: impl Iterator<Item = (&'a Cid, &'a [u8])>, members: &Membership, out: &mut Vec<Output>) {
    let mut told: BTreeMap<NodeId, Vec<Vec<u8>>> = BTreeMap::new();
    for (key, sealed) in receipts {
        for to in keepers(key, members).into_iter().filter(|node| *node != members.config.me) {
            told.entry(to).or_default().push(sealed.to_vec());
        }
    }
    for (to, receipts) in told {
        out.extend(receipts.chunks(TOLD_MAX).map(|part| Output::SendReceipts { to, query: 0, sealed: part.to_vec() }));
    }
}

/// Remembers this node's own receipts, and tells the keepers of those that others may look for.
pub fn remember(receipts: Vec<Sealed>, members: &Membership, out: &mut Vec<Output>) {
    let told = receipts.iter().filter(|sealed| sealed.tell);
    tell(told.filter_map(|sealed| Some((sealed.names.key.as_ref()?, &sealed.bytes[..]))), members, out);
    out.push(Output::Remember { receipts });
}

/// What peers ask this node to remember, and ask it for.
#[derive(Debug, Default)]
pub struct Memory {
    questions: usize,
}

impl Memory {
    /// Peers' questions under way.
    pub fn residue(&self) -> (&'static str, usize) {
        ("recalls of peers", self.questions)
    }

    /// A peer tells receipts that this node is to keep.
    pub fn told(&self, from: NodeId, receipts: Vec<Memo>, members: &Membership, out: &mut Vec<Output>) {
        if !members.trusts(&from) || !members.config.roles.contains(&Role::Store) {
            return;
        }
        let is_worth_it = |memo: &&Memo| {
            let receipt = &memo.receipt;
            receipt.task.seq == 0 && receipt.sealed().len() <= REMEMBERED_MAX && members.trusts(&receipt.iss)
        };
        let sealed = |memo: &Memo| Some(memo.to_sealed(*memo.receipt.out.as_ref().ok()?));
        let receipts: Vec<Sealed> = receipts.iter().take(KEYS_MAX).filter(is_worth_it).filter_map(sealed).collect();
        if !receipts.is_empty() {
            out.push(Output::Remember { receipts });
        }
    }

    /// A peer asks what is remembered.
    pub fn asked(&mut self, from: NodeId, query: u64, keys: Vec<Cid>, members: &Membership, out: &mut Vec<Output>) {
        if members.trusts(&from) && self.questions < QUESTIONS_MAX {
            self.questions += 1;
            out.push(Output::Recall { ticket: Ticket::Recall(from, query), of: Wanted::Keys(keys) });
        }
    }

    /// What a peer asked for was looked up. What does not fit a frame counts as not found.
    pub fn answer(&mut self, to: NodeId, query: u64, found: Vec<Option<Memo>>, out: &mut Vec<Output>) {
        self.questions = self.questions.saturating_sub(1);
        let mut room = FRAME_MAX - FRAME_HEAD;
        let mut sealed = Vec::new();
        for memo in found.into_iter().flatten().take(KEYS_MAX) {
            let bytes = memo.receipt.sealed();
            if let Some(rest) = room.checked_sub(bytes.len() + 8) {
                room = rest;
                sealed.push(bytes.to_vec());
            }
        }
        out.push(Output::SendReceipts { to, query, sealed });
    }
}

/// A batch of a job's tasks that was looked up: each with an earlier result and where it lies, or without.
#[derive(Debug)]
pub struct Looked {
    /// The job.
    pub job: u64,
    /// Its tasks.
    pub tasks: Vec<(u32, Option<(Done, NodeId)>)>,
}

#[derive(Debug)]
struct Lookup {
    looked: Looked,
    /// The tasks' places in the batch, by key.
    missing: BTreeMap<Cid, Vec<usize>>,
    asked: BTreeSet<NodeId>,
    until: Instant,
}

/// The look-ups of this node's jobs.
#[derive(Debug)]
pub struct Lookups {
    open: BTreeMap<u64, Lookup>,
    next: u64,
}

impl Lookups {
    /// They are numbered from `first`.
    pub fn new(first: u64) -> Lookups {
        Lookups { open: BTreeMap::new(), next: first }
    }

    /// Look-ups that have not ended.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether a job may begin another.
    pub fn has_room(&self, job: u64) -> bool {
        self.open.values().filter(|lookup| lookup.looked.job == job).count() < LOOKUPS_MAX
    }

    /// Looks up at most [`KEYS_MAX`] tasks: here first.
    pub fn begin(&mut self, now: Instant, job: u64, tasks: Vec<(u32, Task)>, out: &mut Vec<Output>) {
        self.next += 1;
        let (numbers, tasks): (Vec<u32>, Vec<Task>) = tasks.into_iter().unzip();
        let looked = Looked { job, tasks: numbers.into_iter().map(|number| (number, None)).collect() };
        let lookup = Lookup { looked, missing: BTreeMap::new(), asked: BTreeSet::new(), until: now + OWN_WAIT };
        self.open.insert(self.next, lookup);
        out.push(Output::Recall { ticket: Ticket::JobMemo(self.next), of: Wanted::Tasks(tasks) });
    }

    /// What is remembered here; the keepers are asked for the rest.
    pub fn here(
        &mut self,
        now: Instant,
        query: u64,
        keys: Vec<Cid>,
        found: Vec<Option<Memo>>,
        members: &Membership,
        out: &mut Vec<Output>,
    ) -> Option<Looked> {
        let lookup = self.open.get_mut(&query).filter(|lookup| lookup.asked.is_empty())?;
        let mut questions: BTreeMap<NodeId, Vec<Cid>> = BTreeMap::new();
        let mut found = found.into_iter();
        for (place, ((_, hit), key)) in lookup.looked.tasks.iter_mut().zip(keys).enumerate() {
            *hit = found.next().flatten().filter(|memo| memo.key == key).and_then(|memo| reuse(&memo, members));
            if hit.is_some() {
                continue;
            }
            let places = lookup.missing.entry(key).or_default();
            places.push(place);
            if places.len() > 1 {
                continue;
            }
            for node in keepers(&key, members).into_iter().filter(|node| *node != members.config.me) {
                questions.entry(node).or_default().push(key);
            }
        }
        lookup.until = now + ASK_WAIT;
        for (to, keys) in questions {
            lookup.asked.insert(to);
            out.push(Output::Send { to, message: Message::Recall { query, keys } });
        }
        self.ended(query)
    }

    /// What is remembered at a keeper.
    pub fn there(&mut self, from: NodeId, query: u64, receipts: &[Memo], members: &Membership) -> Option<Looked> {
        let lookup = self.open.get_mut(&query)?;
        if !lookup.asked.remove(&from) {
            return None;
        }
        for memo in receipts {
            let Some(hit) = reuse(memo, members) else { continue };
            for place in lookup.missing.remove(&memo.key).into_iter().flatten() {
                lookup.looked.tasks[place].1 = Some(hit.clone());
            }
        }
        self.ended(query)
    }

    /// A look-up that waits for nobody any more.
    fn ended(&mut self, query: u64) -> Option<Looked> {
        let lookup = self.open.get(&query)?;
        let ended = lookup.asked.is_empty() || lookup.missing.is_empty();
        if ended { self.open.remove(&query).map(|lookup| lookup.looked) } else { None }
    }

    /// A peer is gone: nobody waits for its answers.
    pub fn gone(&mut self, peer: NodeId) -> Vec<Looked> {
        let hit: Vec<u64> = self.open.iter_mut().filter_map(|(&id, l)| l.asked.remove(&peer).then_some(id)).collect();
        hit.into_iter().filter_map(|id| self.ended(id)).collect()
    }

    /// Look-ups that took too long end with what was found.
    pub fn late(&mut self, now: Instant) -> Vec<Looked> {
        self.open.extract_if(.., |_, lookup| lookup.until <= now).map(|(_, lookup)| lookup.looked).collect()
    }

    /// A job ended.
    pub fn forget(&mut self, job: u64) {
        self.open.retain(|_, lookup| lookup.looked.job != job);
    }

    /// When [`Lookups::late`] has something to say again.
    pub fn next_wakeup(&self) -> Option<Instant> {
        self.open.values().map(|lookup| lookup.until).min()
    }
}

/// Equal calls that are under way together, by memo key: the first of each runs, the others wait for its result.
#[derive(Debug, Default)]
pub struct Joined {
    by_key: BTreeMap<Cid, Vec<u64>>,
}

impl Joined {
    /// Keys with calls under way.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// A call comes; says whether it is the one that runs.
    pub fn join(&mut self, key: Cid, call: u64) -> bool {
        let calls = self.by_key.entry(key).or_default();
        calls.push(call);
        calls.len() == 1
    }

    /// The calls of a key have what they waited for.
    pub fn forget(&mut self, key: &Cid) {
        self.by_key.remove(key);
    }

    /// The call that waits for `call`'s result and is next, if `call` is the one that runs.
    pub fn heir(&self, key: &Cid, call: u64) -> Option<u64> {
        self.by_key.get(key).filter(|calls| calls.first() == Some(&call)).and_then(|calls| calls.get(1)).copied()
    }

    /// Whether a call is the one that runs.
    pub fn leads(&self, key: &Cid, call: u64) -> bool {
        self.by_key.get(key).and_then(|calls| calls.first()) == Some(&call)
    }

    /// A call ends. If it was the one that ran, the others are given: they share its result, or else the first of them
    /// runs next.
    pub fn leave(&mut self, key: &Cid, call: u64) -> Vec<u64> {
        let Some(calls) = self.by_key.get_mut(key) else { return Vec::new() };
        let led = calls.first() == Some(&call);
        calls.retain(|other| *other != call);
        let rest = if led { calls.clone() } else { Vec::new() };
        if calls.is_empty() {
            self.by_key.remove(key);
        }
        rest
    }
}
