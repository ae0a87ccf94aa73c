//! A warm call between two nodes on loopback, against the same bytes by libp2p's request-response between two bare swarms.
//! Frames on a kept stream, which is what our nodes speak, are shown beside it.

use bytes::Bytes;
use cid::Cid;
use libp2p::identity::Keypair;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};
use timerose_core::capability::Session;
use timerose_core::id::{NodeId, Now};
use timerose_core::message::{Frame, Message};
use timerose_core::record::seal;
use timerose_core::task::{Arg, Task};
use timerose_node::{Client as Node, Keys};
use tokio::runtime::Runtime;

use crate::Settings;
use crate::guest::Guest;
use crate::http::Client;
use crate::machine::seed;
use crate::net::End;
use crate::report::{Better, Goal, Row, quantile};
use crate::request::Requests;
use crate::small::{begin, body, config, deploy, task};

/// Calls of a round, one after another.
const CALLS: usize = 500;
/// Round trips before those that are measured, of the limits.
const WARM: usize = 20;
/// What a call is held to, and what is shown beside it.
const REQUESTS: &str = "libp2p request-response of the same bytes";
const FRAMES: &str = "frames of the same lengths on a kept stream, bare swarms";

/// Microseconds of each call of a round.
type Round = Vec<f64>;

fn micros(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e6
}

/// A peer that claims work by hand, as a scheduler does.
struct Claimer {
    end: End,
    node: libp2p::PeerId,
    function: Cid,
    leases: u64,
    /// The lengths of the last claim and its outcome, in bytes.
    lengths: (usize, usize),
}

impl Claimer {
    async fn start(keys: &Keypair, to: NodeId, addr: &str, function: Cid) -> Claimer {
        let unix_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let session = Session::new(node_id(keys), to, Now { monotonic_us: 0, unix_ms }, seed().to_be_bytes().to_vec());
        let opening = seal(&session, |bytes| keys.sign(bytes).expect("signed").try_into().expect("64 bytes"));
        let addr: libp2p::Multiaddr = addr.parse().expect("an address");
        let mut end = End::start(keys, "/timerose/task/1", Some(opening.into()), Some(&addr)).await;
        end.ready().await;
        let node = match addr.iter().last() {
            Some(libp2p::multiaddr::Protocol::P2p(peer)) => peer,
            _ => panic!("an address without a name"),
        };
        Claimer { end, node, function, leases: seed(), lengths: (0, 0) }
    }

    /// From the claim to the outcome.
    async fn call(&mut self) -> f64 {
        self.leases += 1;
        let lease = self.leases;
        let args = vec![Arg::Inline(format!("{lease:032}").into_bytes())];
        let task = Task { function: self.function, entry: String::new(), args, seq: 0 };
        let begin = Instant::now();
        let claim = Message::Claim {
            lease,
            task,
            budget_ms: 30_000,
            hints: Vec::new(),
            memo: false,
            keep: false,
            trace: None,
            inline: false,
        };
        let claim = Bytes::from(Frame::Message(claim).encode());
        self.lengths.0 = claim.len();
        self.end.sender.send(&self.node, claim).await.expect("sent");
        loop {
            let frame = self.end.frame().await;
            match Frame::decode(&frame).expect("a frame") {
                Frame::Message(Message::Outcome { lease: ended, outcome, .. }) if ended == lease => {
                    outcome.expect("it runs");
                    let took = micros(begin);
                    self.lengths.1 = frame.len();
                    let settled = Frame::Message(Message::Settled { lease }).encode();
                    self.end.sender.send(&self.node, settled.into()).await.expect("sent");
                    return took;
                }
                Frame::Message(Message::Nack { reason, .. }) => panic!("refused: {reason:?}"),
                _ => {}
            }
        }
    }
}

fn node_id(keys: &Keypair) -> NodeId {
    NodeId(keys.public().try_into_ed25519().expect("Ed25519").to_bytes())
}

async fn by_handle(node: &Node, function: &Cid) -> f64 {
    let begin = Instant::now();
    node.call(task(*function), Duration::from_secs(30), false, 0, None, None).await.expect("it runs");
    micros(begin)
}

async fn over_http(client: &mut Client, function: &Cid) -> f64 {
    let begin = Instant::now();
    let (status, body) = client.post("/v1/call", &body(function)).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    micros(begin)
}

async fn healthz(client: &mut Client) -> f64 {
    let begin = Instant::now();
    client.get("/healthz").await;
    micros(begin)
}

/// Round trips by request-response: `there` bytes, then `back` bytes.
async fn requests(there: usize, back: usize) -> Round {
    let mut requests = Requests::start(back).await;
    let mut round = Vec::with_capacity(CALLS);
    for at in 0..CALLS + WARM {
        let (length, took) = requests.ask(there).await;
        assert_eq!(length, back);
        if at >= WARM {
            round.push(took);
        }
    }
    round
}

/// Round trips of frames: `there` bytes, then `back` bytes.
async fn ping_pong(there: usize, back: usize) -> Round {
    let (mut one, mut two) = End::pair().await;
    let (first, second) = (one.host.peer, two.host.peer);
    let answering = tokio::spawn(async move {
        let answer = Bytes::from(vec![1; back]);
        while one.frame().await.len() == there {
            one.sender.send(&second, answer.clone()).await.expect("sent");
        }
    });
    let mut round = Vec::with_capacity(CALLS);
    for at in 0..CALLS + WARM {
        let begin = Instant::now();
        two.sender.send(&first, vec![0; there].into()).await.expect("sent");
        assert_eq!(two.frame().await.len(), back);
        if at >= WARM {
            round.push(micros(begin));
        }
    }
    answering.abort();
    round
}

struct Mesh {
    node: Node,
    api: SocketAddr,
    function: Cid,
    claimer: Claimer,
}

/// The shares of calls that a row is about, and what is the most that they may take of the limit.
const SHARES: [(f64, &str, f64); 2] = [(0.5, "p50", 1.5), (0.99, "p99", 2.0)];

fn pair(path: &str, limit: &'static str, goal: impl Fn(f64) -> Goal) -> [Row; 2] {
    SHARES.map(|(_, name, most)| Row::new(format!("two nodes: {path}, {name}"), "us", Better::Lower, goal(most), limit))
}

fn push(rows: &mut [Row; 2], ours: &Round, limit: &Round) {
    for (row, (share, _, _)) in rows.iter_mut().zip(SHARES) {
        row.round(quantile(ours, share), quantile(limit, share));
    }
}

async fn measure(mut mesh: Mesh, rounds: usize) -> Vec<Row> {
    let mut call = pair("a call by the handle of one, run at the other", REQUESTS, Goal::Ratio);
    let mut kept = pair("the same call", FRAMES, |_| Goal::Shown);
    let mut http = pair("the same call over HTTP", REQUESTS, |_| Goal::Shown);
    let mut wire = pair("claim to outcome, by a bare peer", FRAMES, |_| Goal::Shown);
    let mut local = pair("GET /healthz, for what HTTP takes", FRAMES, |_| Goal::Shown);
    let mut client = Client::connect(mesh.api).await;
    for _ in 0..rounds {
        let mut times: [Round; 4] = Default::default();
        for _ in 0..CALLS {
            times[0].push(by_handle(&mesh.node, &mesh.function).await);
        }
        for _ in 0..CALLS {
            times[1].push(over_http(&mut client, &mesh.function).await);
        }
        for _ in 0..CALLS {
            times[2].push(mesh.claimer.call().await);
        }
        for _ in 0..CALLS {
            times[3].push(healthz(&mut client).await);
        }
        let (there, back) = mesh.claimer.lengths;
        let (asked, sent) = (requests(there, back).await, ping_pong(there, back).await);
        push(&mut call, &times[0], &asked);
        push(&mut kept, &times[0], &sent);
        push(&mut http, &times[1], &asked);
        push(&mut wire, &times[2], &sent);
        push(&mut local, &times[3], &sent);
    }
    [call, kept, http, wire, local].into_iter().flatten().collect()
}

/// Waits until the caller's node finds the executor: until a call goes through.
async fn warm(api: SocketAddr, function: &Cid) {
    let mut client = Client::connect(api).await;
    for _ in 0..100 {
        if client.post("/v1/call", &body(function)).await.0 == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the nodes do not find each other");
}

/// The rows about two nodes.
pub fn rows(runtime: &Runtime, settings: &Settings) -> Vec<Row> {
    let folder = settings.folder("pair");
    let dirs = ["caller", "executor"].map(|name| folder.join(name));
    let function = dirs.each_ref().map(|dir| deploy(runtime, dir, &Guest::echo()))[0];
    let id = |dir: &Path| Keys::open(dir).expect("a key").id();
    let (caller, executor) = (id(&dirs[0]), id(&dirs[1]));
    let bare = Keypair::generate_ed25519();
    runtime.block_on(async {
        let mut second = begin(config(&dirs[1], 2, Vec::new(), &[caller, node_id(&bare)])).await;
        let addr = second.addrs().await[0].clone();
        let first = begin(config(&dirs[0], 0, vec![addr.clone()], &[executor])).await;
        warm(first.api, &function).await;
        let claimer = Claimer::start(&bare, executor, &addr, function).await;
        let mesh = Mesh { node: first.client(), api: first.api, function, claimer };
        // In a task, as a node's own parts are: whoever waits is woken as they are.
        let rows = tokio::spawn(measure(mesh, settings.rounds)).await.expect("measured");
        first.stop().await;
        second.stop().await;
        rows
    })
}
