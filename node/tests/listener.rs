//! Somebody who is trusted by nobody stands between two nodes, passes their gossip on, and listens: it learns nothing but
//! names and sizes, and what it plays again, alters or signs anew is refused.
#![expect(clippy::print_stderr, reason = "what spam costs is for whoever reads the log")]

use cid::Cid;
use futures::StreamExt;
use libp2p::gossipsub::{Behaviour, ConfigBuilder, Event, IdentTopic, MessageAuthenticity};
use libp2p::identity::Keypair;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, SwarmBuilder, noise, tcp, yamux};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use timerose_content::{Block, Content, DAG_CBOR};
use timerose_core::capability::Role;
use timerose_core::envelope::Envelope;
use timerose_core::function::{Determinism, Entry, Function, Limits, Param, WASM_FAN};
use timerose_core::id::NodeId;
use timerose_core::record::{address, seal};
use timerose_core::resources::Resources;
use timerose_node::{Config, Faults, Keys, Running, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

/// Calls whose time is taken.
const CALLS: usize = 20;

/// What was said on a topic.
type Heard = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// The listener: what it heard, and the way to have it say something on a topic.
struct Eve {
    keys: Keypair,
    addr: Multiaddr,
    heard: Heard,
    say: mpsc::Sender<(String, Vec<u8>)>,
}

impl Eve {
    /// A gossipsub peer that is subscribed to these topics and passes on whatever comes there.
    async fn listen(topics: &[String]) -> Eve {
        let keys = Keypair::generate_ed25519();
        let config = ConfigBuilder::default().flood_publish(true).build().expect("a configuration");
        let mut gossip: Behaviour = Behaviour::new(MessageAuthenticity::Signed(keys.clone()), config).expect("a behaviour");
        for topic in topics {
            gossip.subscribe(&IdentTopic::new(topic)).expect("subscribed");
        }
        let mut swarm = SwarmBuilder::with_existing_identity(keys.clone())
            .with_tokio()
            .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
            .expect("a transport")
            .with_behaviour(|_| gossip)
            .expect("a behaviour")
            .with_swarm_config(|c| c.with_idle_connection_timeout(Duration::from_secs(600)))
            .build();
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().expect("a multiaddr")).expect("listens");
        let addr = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        let (heard, (say, mut said)) = (Heard::default(), mpsc::channel::<(String, Vec<u8>)>(16));
        let hears = heard.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    event = swarm.select_next_some() => {
                        if let SwarmEvent::Behaviour(Event::Message { message, .. }) = event {
                            hears.lock().expect("not poisoned").push((message.topic.into_string(), message.data));
                        }
                    }
                    said = said.recv() => {
                        let Some((topic, bytes)) = said else { return };
                        // A peer's full queue loses some of it.
                        let _ = swarm.behaviour_mut().publish(IdentTopic::new(topic), bytes);
                    }
                }
            }
        });
        Eve { keys, addr, heard, say }
    }

    fn id(&self) -> NodeId {
        NodeId(self.keys.public().try_into_ed25519().expect("Ed25519").to_bytes())
    }

    fn heard_on(&self, topic: &str) -> Vec<Vec<u8>> {
        let heard = self.heard.lock().expect("not poisoned");
        heard.iter().filter(|(on, _)| on == topic).map(|(_, bytes)| bytes.clone()).collect()
    }

    fn sign(&self, envelope: &Envelope) -> Vec<u8> {
        seal(envelope, |bytes| self.keys.sign(bytes).expect("signed").try_into().expect("64 bytes"))
    }

    async fn say(&self, topic: &str, bytes: Vec<u8>) {
        self.say.send((topic.to_string(), bytes)).await.expect("it runs");
    }
}

/// A node that only dials, and only these.
async fn node(dir: &Path, join: &[&Multiaddr], roles: &[Role], trust: [NodeId; 2]) -> Running {
    let config = Config {
        dir: dir.to_path_buf(),
        listen: Vec::new(),
        api: ([127, 0, 0, 1], 0).into(),
        join: join.iter().map(ToString::to_string).collect(),
        roles: roles.iter().copied().collect(),
        region: "test".into(),
        trust: trust.into(),
        offers: Resources { slots: 2, memory: 1 << 30 },
        record: None,
        telemetry: Default::default(),
        reach: Default::default(),
        limits: Default::default(),
        faults: Faults::default(),
    };
    // The store of the deployment lets go of the folder when its threads have ended.
    for _ in 0..200 {
        if let Ok(running) = start(config.clone()).await {
            return running;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    start(config).await.expect("started")
}

/// Puts a function into the data folder of a node that does not run yet.
async fn deploy(dir: &Path) -> Cid {
    let code = include_bytes!("../../guests/built/wordcount-fan.wasm");
    let (content, _behaviour) = Content::open(&dir.join("blocks"), &tokio::runtime::Handle::current()).expect("a store");
    let params = vec![Param { name: "text".into(), kind: "text".into() }];
    let function = Function {
        engine: WASM_FAN.into(),
        code: content.add_bytes(code).expect("stored"),
        entries: vec![Entry { name: "map".into(), params, result: "json".into(), ..Entry::default() }],
        determinism: Determinism::Pure,
        limits: Limits::default(),
        args: Vec::new(),
        env: BTreeMap::new(),
        mounts: BTreeMap::new(),
        about: Default::default(),
    };
    let (cid, bytes) = address(&function);
    content.store().put_many(&[Block::encode(DAG_CBOR, bytes).expect("a block")]).expect("stored");
    cid
}

async fn http(api: SocketAddr, request: String) -> String {
    let mut stream = tokio::net::TcpStream::connect(api).await.expect("connected");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    answer
}

/// Calls `map`; gives the whole answer.
async fn call(api: SocketAddr, function: &Cid, text: &str) -> String {
    let body = format!(r#"{{"fn":"{function}","entry":"map","args":[{{"text":"{text}"}}],"channel":"pubsub","memo":false}}"#);
    let head = format!("POST /v1/call HTTP/1.1\r\nhost: {api}\r\nconnection: close\r\ncontent-type: application/json\r\n");
    http(api, format!("{head}content-length: {}\r\n\r\n{body}", body.len())).await
}

async fn metric(api: SocketAddr, name: &str) -> u64 {
    let text = http(api, format!("GET /metrics HTTP/1.1\r\nhost: {api}\r\nconnection: close\r\n\r\n")).await;
    let name = format!("timerose_{name}");
    // One sample, or one of each kind of topics.
    let samples = text.lines().filter_map(|line| line.strip_prefix(&name)).filter(|rest| rest.starts_with([' ', '{']));
    let values: Vec<u64> =
        samples.map(|rest| rest.trim().rsplit(' ').next().expect("a value").parse().expect("a number")).collect();
    assert!(!values.is_empty(), "{name}");
    values.iter().sum()
}

/// Waits until a metric is that high.
async fn reaches(api: SocketAddr, name: &str, at_least: u64) {
    for _ in 0..1200 {
        if metric(api, name).await >= at_least {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{name} is {} and should reach {at_least}", metric(api, name).await);
}

/// Two nodes, and the listener between them.
struct Between {
    eve: Eve,
    client: Running,
    executor: Running,
    function: Cid,
    ids: [NodeId; 2],
    topics: [String; 2],
    _dirs: [tempfile::TempDir; 2],
}

impl Between {
    async fn new() -> Between {
        Between::and(None).await
    }

    /// The executor knows one more peer.
    async fn and(other: Option<&Eve>) -> Between {
        let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let ids = [0, 1].map(|at: usize| Keys::open(dirs[at].path()).expect("a key").id());
        let topics = [format!("timerose/1/tasks/{}", ids[1]), format!("timerose/1/replies/{}", ids[0])];
        let eve = Eve::listen(&[&["timerose/1/members".to_string()][..], &topics[..]].concat()).await;
        let function = deploy(dirs[0].path()).await;
        assert_eq!(deploy(dirs[1].path()).await, function);
        let client = node(dirs[0].path(), &[&eve.addr], &[Role::Scheduler], ids).await;
        let known: Vec<&Multiaddr> = [Some(&eve), other].into_iter().flatten().map(|peer| &peer.addr).collect();
        let executor = node(dirs[1].path(), &known, &[Role::Executor], ids).await;
        let between = Between { eve, client, executor, function, ids, topics, _dirs: dirs };
        // Until its advert has come there is no executor.
        for _ in 0..60 {
            if between.call("is anybody there").await.starts_with("HTTP/1.1 200") {
                return between;
            }
        }
        panic!("no executor was heard of");
    }

    async fn call(&self, text: &str) -> String {
        call(self.client.api, &self.function, text).await
    }

    /// The mean time of some calls, in milliseconds.
    async fn time(&self, name: &str) -> f64 {
        let begin = Instant::now();
        for number in 0..CALLS {
            let answer = self.call(&format!("{name} {number}")).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        begin.elapsed().as_secs_f64() * 1e3 / CALLS as f64
    }

    async fn stop(self) {
        self.client.stop().await;
        self.executor.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_listens_learns_nothing_but_names_and_sizes() {
    let between = Between::new().await;
    let answer = between.call("attack at dawn").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let function = between.function.to_bytes();
    let secrets: [&[u8]; 8] =
        [b"attack", b"dawn", br#""at":1"#, b"Claim", b"Outcome", b"Grant", &function, between.function.hash().digest()];
    for (topic, to) in between.topics.iter().zip([between.ids[1], between.ids[0]]) {
        let heard = between.eve.heard_on(topic);
        assert!(!heard.is_empty(), "{topic}");
        for bytes in heard {
            let envelope = Envelope::peek(&bytes).expect("an envelope");
            assert_eq!(envelope.to, to);
            for secret in secrets {
                assert!(!bytes.windows(secret.len()).any(|part| part == secret), "{}", String::from_utf8_lossy(secret));
            }
        }
    }
    between.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envelope_that_is_played_again_altered_or_signed_anew_is_refused() {
    let between = Between::new().await;
    let (eve, api, tasks) = (&between.eve, between.executor.api, &between.topics[0]);
    let ran = metric(api, "runs_total").await;
    let taken = eve.heard_on(tasks).into_iter().next().expect("a claim");
    let claim = Envelope::peek(&taken).expect("an envelope");
    // The same bytes under another publisher's name: gossip takes them for new, the node does not.
    let gossip = metric(api, "gossip_refused_total").await;
    eve.say(tasks, taken.clone()).await;
    reaches(api, "gossip_refused_total", gossip + 1).await;
    let refused = metric(api, "envelopes_refused_total").await;
    let mut altered = taken.clone();
    *altered.last_mut().expect("bytes") ^= 1;
    let longer = eve.sign(&Envelope { exp: claim.exp + 1, ..claim.clone() });
    let stolen = eve.sign(&Envelope { iss: eve.id(), ..claim });
    for (number, forged) in [altered, longer, stolen].into_iter().enumerate() {
        eve.say(tasks, forged).await;
        reaches(api, "envelopes_refused_total", refused + 1 + number as u64).await;
    }
    assert_eq!(metric(api, "envelopes_refused_total").await, refused + 3);
    assert_eq!(metric(api, "runs_total").await, ran, "something of it ran");
    assert!(between.call("and the next call is heard").await.starts_with("HTTP/1.1 200"));
    between.stop().await;
}

/// Has somebody say envelopes on a topic, each well formed, signed and new, until this is aborted. Each costs the recipient a
/// signature and a curve before it is refused.
fn spam(spammer: &Eve, topic: String, sample: Envelope, pause: Duration) -> tokio::task::JoinHandle<()> {
    let (keys, me, say) = (spammer.keys.clone(), spammer.id(), spammer.say.clone());
    tokio::spawn(async move {
        let mut pace = tokio::time::interval(pause);
        for seq in 1.. {
            pace.tick().await;
            let envelope = Envelope { iss: me, seq, ..sample.clone() };
            let bytes = seal(&envelope, |bytes| keys.sign(bytes).expect("signed").try_into().expect("64 bytes"));
            if say.send((topic.clone(), bytes)).await.is_err() {
                return;
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_flood_so_much_is_taken_as_the_pace_of_its_peer_allows_and_all_calls_of_others_come_back() {
    let mallory = Eve::listen(&[]).await;
    let between = Between::and(Some(&mallory)).await;
    let (tasks, api) = (between.topics[0].clone(), between.executor.api);
    let sample = between.eve.heard_on(&tasks).into_iter().next().expect("a claim");
    let begin = Instant::now();
    let flood = spam(&mallory, tasks.clone(), Envelope::peek(&sample).expect("an envelope"), Duration::from_millis(1));
    reaches(api, "gossip_limited_total", 500).await;
    for number in 0..CALLS {
        let answer = between.call(&format!("beside a flood {number}")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    flood.abort();
    // Opened, and passed on to whoever listens: both within the pace that docs/pubsub.md names.
    let opened = metric(api, "envelopes_refused_total").await;
    let of_mallory = |bytes: &Vec<u8>| Envelope::peek(bytes).is_ok_and(|envelope| envelope.iss == mallory.id());
    let heard = between.eve.heard_on(&tasks).iter().filter(|bytes| of_mallory(bytes)).count() as u64;
    let came = metric(api, "gossip_received_total").await;
    let allowed = 256 + 64 * (begin.elapsed().as_secs() + 1);
    eprintln!("of a flood {opened} were opened and {heard} passed on, of {came} messages that came; allowed were {allowed}");
    assert!(opened <= allowed && heard <= allowed, "{opened} were opened, {heard} passed on, and {allowed} are allowed");
    assert!(heard > 0, "the listener would have heard more of it");
    between.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spam_of_one_peer_keeps_nobody_from_being_heard() {
    let mallory = Eve::listen(&[]).await;
    let between = Between::and(Some(&mallory)).await;
    let quiet = between.time("quiet").await;
    let (tasks, api) = (between.topics[0].clone(), between.executor.api);
    let sample = between.eve.heard_on(&tasks).into_iter().next().expect("a claim");
    let spam = spam(&mallory, tasks, Envelope::peek(&sample).expect("an envelope"), Duration::from_millis(2));
    reaches(api, "envelopes_refused_total", 50).await;
    let refused = metric(api, "envelopes_refused_total").await;
    let loud = between.time("loud").await;
    let (ratio, spammed) = (loud / quiet, metric(api, "envelopes_refused_total").await - refused);
    spam.abort();
    eprintln!("a call takes {quiet:.1} ms, and {loud:.1} ms beside {spammed} envelopes of spam: {ratio:.2} times");
    assert!(spammed > 0, "there was no spam");
    between.stop().await;
}
