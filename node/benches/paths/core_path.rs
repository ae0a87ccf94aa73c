//! Decisions: the core alone, fed with the inputs that drivers would give, on one thread.

use cid::Cid;
use libp2p::identity::ed25519;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;
use timerose_core::capability::{Advert, Role};
use timerose_core::function::{Function, WASM_FAN};
use timerose_core::id::{NodeId, Now, RAW, cid_of};
use timerose_core::io::{Exit, Input, Names, Output, Sealed, Statement, Ticket};
use timerose_core::membership::NodeConfig;
use timerose_core::node::Node;
use timerose_core::record::{Verified, address, open, seal};
use timerose_core::resources::Resources;
use timerose_core::task::{Arg, Done, Task, Usage};
use tokio::runtime::Runtime;

use crate::Settings;
use crate::guest::Guest;
use crate::report::{Better, Goal, Row};

/// Calls that are under way at the same time in the row about decisions.
const IN_FLIGHT: usize = 256;
/// Calls of a round.
const CALLS: usize = 100 * IN_FLIGHT;

/// What the engine is to run.
pub struct Started {
    pub ticket: Ticket,
    pub task: Task,
    pub subject: NodeId,
}

/// A node's core whose drivers are this struct: nothing is signed, stored or sent.
pub struct Desk {
    node: Node,
    begin: Instant,
    out: Vec<Output>,
    function: Arc<Function>,
    cid: Cid,
    requests: u64,
    /// How often the core was asked.
    pub handled: u64,
}

impl Desk {
    /// A core with so many slots of its own, and nobody else.
    pub fn new(function: Arc<Function>, slots: u32) -> Desk {
        let pair = ed25519::Keypair::generate();
        let me = NodeId(pair.public().to_bytes());
        let offers = Resources { slots, memory: 1 << 40 };
        let roles = BTreeSet::from([Role::Executor]);
        let engines = BTreeSet::from([WASM_FAN.to_string()]);
        let node = Node::new(NodeConfig {
            me,
            epoch: 1,
            region: String::new(),
            roles,
            engines,
            offers,
            trust: BTreeSet::new(),
            join: Vec::new(),
        });
        let (cid, _) = address(&*function);
        let mut desk = Desk { node, begin: Instant::now(), out: Vec::new(), function, cid, requests: 0, handled: 0 };
        desk.handle(Input::Listening { addrs: Vec::new() });
        let advert = desk.out.drain(..).find_map(|output| match output {
            Output::SignAdvert { advert } => Some(sign(&pair, &advert)),
            _ => None,
        });
        desk.handle(Input::AdvertSigned { advert: advert.expect("an advert to sign") });
        desk.out.clear();
        desk
    }

    fn handle(&mut self, input: Input) {
        self.handled += 1;
        let monotonic_us = self.begin.elapsed().as_micros() as u64;
        self.node.handle(Now { monotonic_us, unix_ms: 1_700_000_000_000 }, input, &mut self.out);
    }

    /// Submits a call and does what the core asks for, until it says what is to be run.
    pub fn submit(&mut self) -> Started {
        self.requests += 1;
        let args = vec![Arg::Inline(self.requests.to_be_bytes().to_vec())];
        let task = Task { function: self.cid, entry: String::new(), args, seq: 0 };
        let request = self.requests;
        let (function, new, client, via) = (None, None, 0, None);
        self.handle(Input::Submit { request, task, timeout_ms: 30_000, memo: false, function, new, client, via, trace: None });
        loop {
            let answer = match self.out.pop().expect("the core goes on") {
                Output::Start { ticket, task, subject, .. } => return Started { ticket, task, subject },
                Output::Load { ticket, .. } => Input::Loaded { ticket, function: Ok(self.function.clone()) },
                Output::Fetch { ticket, .. } => Input::Fetched { ticket, bytes: Ok(0) },
                _ => continue,
            };
            self.handle(answer);
        }
    }

    /// Ends a call; the core must answer its user, and have its receipt signed and kept.
    pub fn end(&mut self, ticket: Ticket, exit: Exit) {
        self.handle(Input::Exited { ticket, exit: Ok(exit) });
        let (mut asked, mut replied) = (None, false);
        for output in self.out.drain(..) {
            match output {
                Output::Sign { ticket, statement, .. } => asked = Some((ticket, statement)),
                Output::Reply { reply: Ok(_), .. } => replied = true,
                _ => {}
            }
        }
        assert!(replied, "a call that ran is answered");
        let (ticket, Statement { names, tell, bytes }) = asked.expect("a receipt to sign");
        self.handle(Input::Signed { receipts: vec![(ticket, Sealed { names, tell, bytes })] });
        self.out.clear();
    }
}

/// The end of a run, with nothing in it.
fn some_exit() -> Exit {
    let some = cid_of(RAW, b"result");
    let usage = Usage { run_us: 10, input: 8, memory: 1 << 18, ..Usage::default() };
    let names = Names { receipt: some, task: some, result: some, key: Some(some) };
    let done = Done { task: some, result: some, size: 8, receipt: some, usage, reused: false };
    Exit { done, statement: Statement { names, tell: false, bytes: Vec::new() } }
}

fn sign(pair: &ed25519::Keypair, advert: &Advert) -> Verified<Advert> {
    let sealed = seal(advert, |bytes| pair.sign(bytes).try_into().expect("64 bytes"));
    let verify = |_: &NodeId, message: &[u8], signature: &[u8; 64]| pair.public().verify(message, signature);
    open(&sealed, verify).expect("its own advert")
}

/// The rows of the core.
pub fn rows(_: &Runtime, settings: &Settings) -> Vec<Row> {
    let function = Arc::new(Guest::echo().function(cid_of(RAW, b"code")));
    let row = |path: &str, goal| Row::new(path, "1/s", Better::Higher, goal, "");
    let mut decisions = row("core: decisions, submitted to started, 256 under way", Goal::Figure(500_000.0));
    let mut alone = row("core: whole calls, one after another", Goal::Shown);
    let mut inputs = row("core: inputs handled, one call after another", Goal::Shown);
    let exit = some_exit();
    for _ in 0..settings.rounds {
        let mut desk = Desk::new(function.clone(), IN_FLIGHT as u32);
        let mut deciding = 0.0;
        for _ in 0..CALLS / IN_FLIGHT {
            let begin = Instant::now();
            let started: Vec<Started> = (0..IN_FLIGHT).map(|_| desk.submit()).collect();
            deciding += begin.elapsed().as_secs_f64();
            started.into_iter().for_each(|started| desk.end(started.ticket, exit.clone()));
        }
        decisions.ours.push(CALLS as f64 / deciding);
        let mut desk = Desk::new(function.clone(), 2);
        let begin = Instant::now();
        for _ in 0..CALLS {
            let started = desk.submit();
            desk.end(started.ticket, exit.clone());
        }
        let took = begin.elapsed().as_secs_f64();
        alone.ours.push(CALLS as f64 / took);
        inputs.ours.push(desk.handled as f64 / took);
    }
    vec![decisions, alone, inputs]
}
