//! Small warm calls: how many a second, in process and over HTTP.

use cid::Cid;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use timerose_content::Content;
use timerose_core::capability::Role;
use timerose_core::function::Function;
use timerose_core::id::{NodeId, RAW, cid_of};
use timerose_core::io::Exit;
use timerose_core::resources::Resources;
use timerose_core::task::{Arg, Receipt, Task, Usage};
use timerose_engines::{Cancel, Engine, Host, WasmEngine, Work};
use timerose_node::{Client as Node, Config, Faults, Running, start};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::Settings;
use crate::core_path::Desk;
use crate::engine_path::{Bare, Files, engine};
use crate::guest::Guest;
use crate::http::Client;
use crate::report::{Better, Goal, Row};

/// Makes every call's argument another one.
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// The body of a call that nobody made before.
pub fn body(function: &Cid) -> String {
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    format!(r#"{{"fn":"{function}","args":[{{"text":"{serial:032}"}}],"memo":false}}"#)
}

/// What a node is told: slots for an executor, none for a node that only asks.
pub fn config(dir: &Path, slots: u32, join: Vec<String>, trust: &[NodeId]) -> Config {
    Config {
        dir: dir.to_path_buf(),
        listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
        api: ([127, 0, 0, 1], 0).into(),
        join,
        roles: if slots > 0 { [Role::Executor].into() } else { Default::default() },
        region: "bench".into(),
        trust: trust.iter().copied().collect(),
        offers: Resources { slots, memory: 4 << 30 },
        record: None,
        telemetry: Default::default(),
        reach: Default::default(),
        limits: Default::default(),
        faults: Faults::default(),
    }
}

/// Puts the guest into the data folder of a node that does not run yet; gives the function's CID.
pub fn deploy(runtime: &Runtime, dir: &Path, guest: &Guest) -> Cid {
    let (content, _behaviour) = Content::open(&dir.join("blocks"), runtime.handle()).expect("a store");
    guest.deploy(&content).0
}

/// Starts a node once the store that was written before is closed.
pub async fn begin(config: Config) -> Running {
    for _ in 0..100 {
        match start(config.clone()).await {
            Ok(running) => return running,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    start(config).await.expect("started")
}

/// Requests a second: `function` is called, or where there is none the node's health is asked for.
pub async fn rate(api: SocketAddr, settings: &Settings, function: Option<Cid>) -> f64 {
    let begin = Instant::now();
    let until = begin + Duration::from_secs_f64(settings.seconds);
    let mut clients = JoinSet::new();
    for _ in 0..settings.connections {
        clients.spawn(async move {
            let mut client = Client::connect(api).await;
            let mut count = 0_u64;
            while Instant::now() < until {
                let (status, body) = match &function {
                    Some(function) => client.post("/v1/call", &body(function)).await,
                    None => client.get("/healthz").await,
                };
                assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
                count += 1;
            }
            count
        });
    }
    let total: u64 = clients.join_all().await.into_iter().sum();
    total as f64 / begin.elapsed().as_secs_f64()
}

/// Calls a second through a whole node's own handle, by so many callers side by side.
async fn whole(node: Node, settings: &Settings, function: Cid) -> f64 {
    let begin = Instant::now();
    let until = begin + Duration::from_secs_f64(settings.seconds);
    let mut callers = JoinSet::new();
    for _ in 0..settings.connections {
        let node = node.clone();
        callers.spawn(async move {
            let mut count = 0_u64;
            while Instant::now() < until {
                node.call(task(function), Duration::from_secs(30), false, 0, None, None).await.expect("it runs");
                count += 1;
            }
            count
        });
    }
    let total: u64 = callers.join_all().await.into_iter().sum();
    total as f64 / begin.elapsed().as_secs_f64()
}

/// A call that nobody made before.
pub fn task(function: Cid) -> Task {
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    Task { function, entry: String::new(), args: vec![Arg::Inline(format!("{serial:032}").into_bytes())], seq: 0 }
}

/// Calls a second of one core and one engine thread: the core decides, the engine runs, the receipt is encoded. Nothing
/// waits in a queue, is signed or stored.
fn in_process(engine: &WasmEngine, host: &Arc<dyn Host>, function: &Arc<Function>, seconds: f64) -> f64 {
    let mut desk = Desk::new(function.clone(), 2);
    let (begin, mut count) = (Instant::now(), 0_u64);
    while begin.elapsed().as_secs_f64() < seconds {
        for _ in 0..100 {
            let started = desk.submit();
            let (task, iss) = (started.task, started.subject);
            let (ran, key) = (task.id(&iss), task.memo_key());
            let (entry, args) = (task.entry.clone(), task.args.clone());
            let work = Work { function: function.clone(), entry, args, task: key };
            let exit = engine.run(&work, host, &Cancel::new()).expect("it runs");
            let (result, size) = (cid_of(RAW, &exit.output), exit.output.len() as u64);
            let meta = Usage { run_us: exit.run_us, input: exit.input, memory: exit.memory, ..Usage::default() };
            let receipt = Receipt { iss, ran, task, out: Ok(result), size, meta, at: 0 };
            desk.end(started.ticket, Exit::new(&receipt, result, key));
        }
        count += 100;
    }
    count as f64 / begin.elapsed().as_secs_f64()
}

/// Calls a second of bare wasmtime on one thread.
fn bare_calls(bare: &Bare, seconds: f64) -> f64 {
    let (begin, mut count) = (Instant::now(), 0_u64);
    while begin.elapsed().as_secs_f64() < seconds {
        for _ in 0..100 {
            count += 1;
            std::hint::black_box(bare.call(&count.to_be_bytes()).expect("it runs"));
        }
    }
    count as f64 / begin.elapsed().as_secs_f64()
}

/// The sum of what two threads reach side by side.
fn on_two_threads(rate: &(dyn Fn() -> f64 + Sync)) -> f64 {
    std::thread::scope(|scope| {
        let other = scope.spawn(rate);
        rate() + other.join().expect("it ends")
    })
}

/// The rows about small calls.
pub fn rows(runtime: &Runtime, settings: &Settings) -> Vec<Row> {
    let folder = settings.folder("small");
    let guest = Guest::echo();
    let mut inside = Row::new(
        "small calls: core + engine on 2 threads (no queues, signatures, store: an upper bound)",
        "1/s",
        Better::Higher,
        Goal::Shown,
        "bare wasmtime, 2 threads",
    );
    let mut node = Row::new("small calls: a whole node, in process, 2 slots", "1/s", Better::Higher, Goal::Figure(20_000.0), "");
    let mut outside = Row::new("small calls: HTTP keep-alive, 2 slots", "1/s", Better::Higher, Goal::Ratio(0.5), "GET /healthz");
    let dir = folder.join("node");
    let function = deploy(runtime, &dir, &guest);
    let running = runtime.block_on(begin(config(&dir, 2, Vec::new(), &[])));
    // The first call compiles.
    runtime.block_on(async { Client::connect(running.api).await.post("/v1/call", &body(&function)).await });

    let (content, _behaviour) = Content::open(&folder.join("blocks"), runtime.handle()).expect("a store");
    let (_, manifest) = guest.deploy(&content);
    let engine = engine(&folder, 2);
    let host: Arc<dyn Host> = Arc::new(Files::new(content));
    let bare = Bare::new(&guest);
    for _ in 0..settings.rounds {
        let ours = on_two_threads(&|| in_process(&engine, &host, &manifest, settings.seconds));
        inside.round(ours, on_two_threads(&|| bare_calls(&bare, settings.seconds)));
        node.ours.push(runtime.block_on(whole(running.client(), settings, function)));
        let calls = runtime.block_on(rate(running.api, settings, Some(function)));
        outside.round(calls, runtime.block_on(rate(running.api, settings, None)));
    }
    runtime.block_on(running.stop());
    vec![inside, node, outside]
}
