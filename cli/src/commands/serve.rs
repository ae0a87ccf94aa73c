//! `node`, `up`: running nodes, here or as child processes.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use timerose_core::capability::Role;
use timerose_core::id::NodeId;
use timerose_core::resources::Resources;
use timerose_node::{Config, Faults, Keys, Limits, Reach, Running, StartError, start};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{LogFormat, Node, Up};
use crate::error::CliError;
use crate::output::{say, show};
use crate::paths::{api_addrs, api_file, write_api_addrs};
use crate::telemetry;

/// Guests' memory of a node that a command starts for itself.
const OWN_MEMORY: u64 = 4 << 30;

/// Starts a node in this process, for one command; `None` where another process has the folder.
pub fn start_here(home: &Path) -> Result<Option<(Running, Runtime)>, CliError> {
    let runtime = runtime()?;
    let config = Config {
        dir: home.to_path_buf(),
        listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
        api: ([127, 0, 0, 1], 0).into(),
        join: Vec::new(),
        roles: [Role::Executor, Role::Scheduler, Role::Store].into(),
        region: "local".into(),
        trust: BTreeSet::new(),
        offers: Resources { slots: processors(), memory: OWN_MEMORY },
        record: None,
        telemetry: Default::default(),
        reach: Reach::default(),
        limits: Limits::default(),
        faults: Faults::default(),
    };
    let running = runtime.block_on(async {
        let mut running = start(config).await?;
        running.addrs().await;
        Ok(running)
    });
    match running {
        Ok(running) => Ok(Some((running, runtime))),
        Err(StartError::Busy { .. }) => Ok(None),
        Err(error) => Err(not_started(error)),
    }
}

fn runtime() -> Result<Runtime, CliError> {
    Runtime::new().map_err(|e| CliError::io("the runtime", e))
}

fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u32)
}

fn not_started(error: StartError) -> CliError {
    let hint = match &error {
        StartError::Data { path, .. } if path.extension().is_some_and(|ending| ending == "redb") => {
            "check its permissions; if it is damaged, move it away: a new one is made, what it held is forgotten, and no block is lost"
        }
        StartError::Data { .. } => "check the folder and its permissions",
        StartError::Damaged { path, .. } if path.ends_with("index.redb") => {
            "move it away, then `timerose repo verify --repair`: blocks over 16 KiB are taken in again, smaller ones come from peers"
        }
        StartError::Damaged { .. } => "move it away: a new one is made, and what it held is forgotten; no block is lost",
        StartError::Full { .. } => "free space there and try again",
        StartError::Busy { .. } => "end it, or give this one a folder of its own",
        StartError::Listen { .. } => "is the port taken? port 0 lets the system choose",
        StartError::Address { .. } => "such as /ip4/127.0.0.1/tcp/4001 or /ip4/127.0.0.1/udp/4001/quic-v1",
        StartError::Engine(_) => "the log says more with -v",
    };
    match error {
        StartError::Address { .. } => CliError::usage(error, hint),
        StartError::Damaged { .. } => CliError { code: "Corrupt".into(), ..CliError::usage(error, hint) },
        StartError::Full { .. } => CliError { code: "StorageFull".into(), ..CliError::usage(error, hint) },
        _ => CliError::unavailable(error, hint),
    }
}

/// `timerose node`
pub fn node(home: &Path, args: Node) -> Result<(), CliError> {
    let dir = args.data.clone().unwrap_or_else(|| home.to_path_buf());
    let config = configure(&dir, &args)?;
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let mut running = start(config).await.map_err(not_started)?;
        let addrs = running.addrs().await;
        let id = Keys::open(&dir).map_err(not_started)?.id();
        write_api_addrs(&dir, &[running.api.to_string()])?;
        let ready = json!({"id": id.to_string(), "api": running.api.to_string(), "region": args.region, "addrs": addrs});
        show(args.show.output, &ready, || {
            format!("{id} in {}, API http://{}, at {}", args.region, running.api, addrs.join(" "))
        })?;
        let ended = wait_for_the_end(args.until_stdin_closes).await;
        let _ = std::fs::remove_file(api_file(&dir));
        running.stop().await;
        ended
    });
    // What still runs on blocking threads must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    ended
}

fn configure(dir: &Path, args: &Node) -> Result<Config, CliError> {
    let mut roles = BTreeSet::new();
    for role in &args.roles {
        roles.insert(match role.as_str() {
            "executor" => Role::Executor,
            "scheduler" => Role::Scheduler,
            "store" => Role::Store,
            other => return Err(CliError::usage(format!("{other:?} is no role"), "roles are executor, scheduler and store")),
        });
    }
    let mut trust = BTreeSet::new();
    for did in &args.trust {
        let id =
            did.parse::<NodeId>().map_err(|e| CliError::usage(format!("{did:?}: {e}"), "timerose id shows a node's did:key"))?;
        trust.insert(id);
    }
    Ok(Config {
        dir: dir.to_path_buf(),
        listen: args.listen.iter().filter(|addr| *addr != "none").cloned().collect(),
        api: args.api,
        join: args.join.clone(),
        roles,
        region: args.region.clone(),
        trust,
        offers: Resources { slots: args.slots.unwrap_or_else(processors), memory: args.memory_mib << 20 },
        record: args.record.clone(),
        telemetry: telemetry::read()?,
        reach: Reach { public: args.reach.public, relay: args.reach.relay },
        limits: Limits { storage: args.limits.storage_max, up: args.limits.bandwidth_up, down: args.limits.bandwidth_down },
        faults: args.faults,
    })
}

/// Ctrl-C, a polite kill, a closed terminal, or the end of whoever started this process.
async fn wait_for_the_end(until_stdin_closes: bool) -> Result<(), CliError> {
    let on = |kind| signal(kind).map_err(|e| CliError::io("signals", e));
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut terminate = on(SignalKind::terminate())?;
    let mut hang_up = on(SignalKind::hangup())?;
    let (closed, stdin_closed) = tokio::sync::oneshot::channel();
    if until_stdin_closes {
        std::thread::spawn(move || {
            // Nothing is ever written there: any return means that it is closed.
            let _ = std::io::stdin().read(&mut [0]);
            let _ = closed.send(());
        });
    }
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
        Ok(()) = stdin_closed, if until_stdin_closes => {}
    }
    Ok(())
}

/// `timerose up`
pub fn up(home: &Path, args: &Up, log: LogFormat, verbose: u8) -> Result<(), CliError> {
    runtime()?.block_on(async {
        let mut mesh = Mesh { home: home.to_path_buf(), children: Vec::new(), stdins: Vec::new(), announced: false };
        let started = mesh.start(args, log, verbose).await;
        let ended = match started {
            Ok(()) => mesh.wait().await,
            Err(error) => Err(error),
        };
        mesh.end().await;
        ended
    })
}

/// The nodes that one `up` runs.
struct Mesh {
    home: PathBuf,
    children: Vec<Child>,
    /// The nodes' stdins: while they are open the nodes run.
    stdins: Vec<ChildStdin>,
    /// Whether the folder's API addresses are this mesh's.
    announced: bool,
}

impl Mesh {
    async fn start(&mut self, args: &Up, log: LogFormat, verbose: u8) -> Result<(), CliError> {
        let other = api_addrs(&self.home).into_iter().find(|addr| std::net::TcpStream::connect(addr).is_ok());
        if let Some(addr) = other {
            let message = format!("nodes of {} are running already, one at {addr}", self.home.display());
            return Err(CliError::usage(message, "end them, or choose another TIMEROSE_PATH"));
        }
        let dirs: Vec<PathBuf> = (1..=args.nodes).map(|n| self.home.join(format!("node-{n}"))).collect();
        let ids: Result<Vec<NodeId>, StartError> = dirs.iter().map(|dir| Keys::open(dir).map(|keys| keys.id())).collect();
        let ids = ids.map_err(not_started)?;
        let slots = args.slots.unwrap_or_else(|| (processors() / u32::from(args.nodes)).max(1));
        let mut addrs = Vec::new();
        let mut join: Option<String> = None;
        for (index, dir) in dirs.iter().enumerate() {
            let region = &args.regions[index % args.regions.len()];
            let mut command = Command::new(std::env::current_exe().map_err(|e| CliError::io("this program", e))?);
            command.arg("node").arg("--data").arg(dir).args(["--output", "json", "--until-stdin-closes", "--region", region]);
            command.args(["--slots", &slots.to_string()]);
            command.args((log == LogFormat::Json).then_some("--log-format=json"));
            command.args((0..verbose).map(|_| "--verbose"));
            command.args(ids.iter().flat_map(|id| ["--trust".to_string(), id.to_string()]));
            command.args(join.iter().flat_map(|addr| ["--join", addr]));
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
            let mut child = command.spawn().map_err(|e| CliError::io("a node", e))?;
            self.stdins.extend(child.stdin.take());
            let ready = ready(&mut child).await;
            self.children.push(child);
            let ready = ready?;
            join = join.or_else(|| ready["addrs"][0].as_str().map(String::from));
            addrs.push(ready["api"].as_str().unwrap_or_default().to_string());
            show(args.show.output, &ready, || {
                let text = |name: &str| ready[name].as_str().unwrap_or_default().to_string();
                format!("node {} {} in {}, API http://{}", index + 1, text("id"), text("region"), text("api"))
            })?;
        }
        write_api_addrs(&self.home, &addrs)?;
        self.announced = true;
        Ok(())
    }

    /// Waits for Ctrl-C, or until no node is left; says which ended.
    async fn wait(&mut self) -> Result<(), CliError> {
        let mut child_ended = signal(SignalKind::child()).map_err(|e| CliError::io("signals", e))?;
        let children = &mut self.children;
        let mut left: Vec<usize> = (0..children.len()).collect();
        let all_ended = async {
            while !left.is_empty() {
                left.retain(|&index| match children[index].try_wait() {
                    Ok(None) => true,
                    ended => {
                        let how = ended.ok().flatten().map(|status| status.to_string()).unwrap_or_default();
                        say(&format!("node {} ended: {how}", index + 1));
                        false
                    }
                });
                if !left.is_empty() {
                    child_ended.recv().await;
                }
            }
        };
        tokio::select! {
            ended = wait_for_the_end(false) => ended,
            () = all_ended => Err(CliError::unavailable("no node is left", "their messages stand above")),
        }
    }

    /// Ends every node, politely at first: closing their stdin is the sign.
    async fn end(&mut self) {
        self.stdins.clear();
        for child in &mut self.children {
            if tokio::time::timeout(std::time::Duration::from_secs(5), child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
        }
        if self.announced {
            let _ = std::fs::remove_file(api_file(&self.home));
        }
    }
}

/// Waits for a node's first line.
async fn ready(child: &mut Child) -> Result<Value, CliError> {
    let died = || CliError::unavailable("a node did not start", "its message stands above");
    let stdout = child.stdout.take().ok_or_else(died)?;
    let mut lines = BufReader::new(stdout).lines();
    let line = lines.next_line().await.map_err(|e| CliError::io("a node", e))?.ok_or_else(died)?;
    serde_json::from_str(&line)
        .map_err(|e| CliError::unavailable(format!("a node said {line:?}: {e}"), "is it the same version?"))
}
