//! The one loop: takes an input, asks the core, hands the outputs to their drivers. It awaits nothing else and computes
//! nothing.
//!
//! New work is taken only while every driver's queue has room; completions are always taken, since they free what they
//! complete. What a queue cannot take waits in order behind it, and then nothing new is taken at all.

use std::collections::VecDeque;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use timerose_content::frames;
use timerose_core::id::{NodeId, Now};
use timerose_core::io::{Input, Output};
use timerose_core::membership::NodeConfig;
use timerose_core::message::Frame;
use timerose_core::node::Node;
use timerose_core::promise::JournalEntry;
use timerose_core::view::View;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::config::{Config, StartError};
use crate::finder::Routes;
use crate::journal::Promises;
use crate::keys::{Keys, peer_of, wall_clock};
use crate::ports::{ApiPorts, Counters, Functions, PORT_QUEUE, Requests, WorkReceiver, work_queue};
use crate::receipts::Receipts;
use crate::recorder::Recorder;
use crate::telemetry::Telemetry;
use crate::wire::Heard;
use crate::{api, content, engine, signer, swarm};

/// Outputs that wait for one driver.
const DRIVER_QUEUE: usize = 4096;
/// Room that every driver must have before new work is taken: about what one turn puts out at most. What is more waits in
/// the backlog.
const ROOM: usize = 256;
/// Completions that wait for the loop; drivers wait with more.
const DONE_QUEUE: usize = 4096;
/// How long a node that ends goes on, so that its goodbye gets away.
const GOODBYE: Duration = Duration::from_millis(200);
/// How long the last receipts may take at the end.
const END_WAIT: Duration = Duration::from_secs(1);
/// How often the read model is published at most.
const VIEW_EVERY: Duration = Duration::from_millis(50);

/// A node that runs until this is dropped.
pub struct Running {
    /// Where its HTTP API listens.
    pub api: SocketAddr,
    /// What it sees; the first value comes before it listens.
    view: watch::Receiver<View>,
    client: Client,
    /// Whether peers can dial it.
    listens: bool,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    ended: JoinHandle<()>,
    library: content::Driver,
}

impl Running {
    /// Waits until the node has addresses, if it listens at all, and gives them as multiaddrs.
    pub async fn addrs(&mut self) -> Vec<String> {
        let listens = self.listens;
        let ready = |view: &View| view.members.get(&view.me).is_some_and(|me| !listens || !me.addrs.is_empty());
        let seen = self.view.wait_for(ready).await;
        seen.map(|view| view.members[&view.me].addrs.clone()).unwrap_or_default()
    }

    /// The way to its core for programs that have it in their process.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Ends the node, and waits for the loop and for the disk.
    pub async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let _ = self.ended.await;
        self.library.flush().await;
    }
}

/// Starts a node. Must be called inside a multi-threaded tokio runtime.
///
/// # Errors
/// [`StartError`], before anything was promised to anybody.
pub async fn start(config: Config) -> Result<Running, StartError> {
    let begin = Instant::now();
    let (lock, epoch) = lock(&config.dir)?;
    let keys = Keys::open(&config.dir)?;
    let (counters, requests) = (Arc::new(Counters::default()), Requests::default());
    let telemetry = observe(&config, &keys, begin)?;
    let (work, work_rx) = work_queue();
    let (done, done_rx) = mpsc::channel(DONE_QUEUE);

    let (promises, promised) = Promises::open(&config.dir)?;
    let (functions, needs) = (Functions::default(), vec![promises.needs()]);
    let (routes, finds) = Routes::new();
    let announcements = routes.announcements.clone();
    let (library, exchange) = content::Driver::open(&config, keys.id(), requests.clone(), functions.clone(), needs, routes)?;
    let watch = (counters.clone(), telemetry.clone());
    let engines = engine::Driver::new(&config.dir, keys.id(), config.offers, library.shelf(), watch)?;
    let receipts = Receipts::open(&config.dir)?;
    let swarm = swarm::Driver::new(&config, &keys, exchange, counters.clone(), announcements.clone())?;

    let (node, recorder) = decider(&config, keys.id(), epoch, engines.names())?;
    let (view, view_rx) = watch::channel(node.view());

    let [(to_swarm, swarm_rx), (to_content, content_rx), (to_receipts, receipts_rx)] = [queue(), queue(), queue()];
    let [(to_promises, promises_rx), (to_signer, signer_rx), (to_telemetry, telemetry_rx)] = [queue(), queue(), queue()];
    let (content_port, content_requests) = mpsc::channel(PORT_QUEUE);
    let (engine_port, engine_requests) = mpsc::channel(PORT_QUEUE);

    let (outbox, delegates) = (swarm.outbox(), swarm.delegates());
    let (peers, net) = swarm.run(swarm_rx, finds, work.clone(), done.clone());
    let engine = engines.run(config.offers.slots, engine_requests, done.clone())?;
    let client = Client::new(work.clone(), requests, functions, receipts.known());
    receipts.run(receipts_rx, done.clone());
    let signing = signer::run(keys.clone(), signer_rx, done.clone());
    promises.run(promises_rx, done.clone());
    telemetry.run(telemetry_rx, done.clone());
    library.clone().run(content_rx, content_requests, work.clone(), done.clone());
    let ports = ApiPorts {
        content: content_port,
        engine: engine_port,
        view: view_rx.clone(),
        counters: counters.clone(),
        telemetry: telemetry.clone(),
        announcements,
        net,
        delegates,
        sockets: api::sockets(&config.listen).count(),
    };
    let api = api::serve(config.api, client.clone(), ports).await?;

    let drivers = Drivers {
        swarm: Line::new(to_swarm),
        outbox,
        content: Line::new(to_content),
        engine,
        receipts: Line::new(to_receipts),
        promises: Line::new(to_promises),
        signer: Line::new(to_signer),
        inquiries: Line::new(to_telemetry),
        telemetry,
        client: client.clone(),
    };
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let (out, published) = (Vec::new(), None);
    let turns = Loop { _lock: lock, node, recorder, drivers, view, counters, begin, out, published, stale: true };
    let sources = Sources { work: work_rx, peers, done: done_rx };
    let ended = tokio::spawn(turns.run(promised, sources, stopped, signing));
    Ok(Running { api, view: view_rx, client, listens: !config.listen.is_empty(), stop: Some(stop), ended, library })
}

/// The core, and what writes down what it is told, if that is wanted.
fn decider(config: &Config, me: NodeId, epoch: u64, engines: &[&str]) -> Result<(Node, Option<Recorder>), StartError> {
    let core = core_config(config, me, epoch, engines);
    let recorder = config.record.as_deref().map(|path| Recorder::begin(path, &core)).transpose()?;
    Ok((Node::new(core), recorder))
}

/// What this node will have seen, and whoever it is told to.
fn observe(config: &Config, keys: &Keys, begin: Instant) -> Result<Telemetry, StartError> {
    let telemetry = Telemetry::new(begin, config.telemetry.sampler);
    let instance = peer_of(&keys.id()).map(|peer| peer.to_string()).unwrap_or_default();
    let threads = |e: std::io::Error| StartError::Engine(format!("no thread for the exporter: {e}"));
    telemetry.export(&config.telemetry, instance).map_err(threads)?;
    Ok(telemetry)
}

/// What the core is told of its node.
fn core_config(config: &Config, me: NodeId, epoch: u64, engines: &[&str]) -> NodeConfig {
    NodeConfig {
        me,
        epoch,
        region: config.region.clone(),
        roles: config.roles.clone(),
        engines: engines.iter().map(|name| name.to_string()).collect(),
        offers: config.offers,
        trust: config.trust.clone(),
        join: config.join.clone(),
    }
}

/// Takes the data folder for this process, and gives this life's epoch: the present time in milliseconds since 1970 UTC, or
/// what comes after the epoch before, if the clock was set back since. Peers go by it which life of a node is the latest.
fn lock(dir: &Path) -> Result<(File, u64), StartError> {
    let path = dir.join("lock");
    let fail = |why: std::io::Error| StartError::Data { path: path.clone(), why: why.to_string() };
    std::fs::create_dir_all(dir).map_err(fail)?;
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StartError::Busy { path: dir.to_path_buf() }),
        Err(TryLockError::Error(why)) => return Err(fail(why)),
    }
    let mut before = [0; 8];
    let before = file.read_exact(&mut before).map_or(0, |()| u64::from_be_bytes(before));
    let epoch = wall_clock().unix_ms.max(before.saturating_add(1));
    file.rewind().and_then(|()| file.write_all(&epoch.to_be_bytes())).and_then(|()| file.sync_data()).map_err(fail)?;
    Ok((file, epoch))
}

fn queue() -> (mpsc::Sender<Output>, mpsc::Receiver<Output>) {
    mpsc::channel(DRIVER_QUEUE)
}

/// The way to one driver, and what waits in front of it.
struct Line {
    queue: mpsc::Sender<Output>,
    /// What did not fit, in order. It grows by completions only, of which there are as many as work was taken.
    backlog: VecDeque<Output>,
}

impl Line {
    fn new(queue: mpsc::Sender<Output>) -> Line {
        Line { queue, backlog: VecDeque::new() }
    }

    fn push(&mut self, output: Output) {
        self.backlog.push_back(output);
        self.flush();
    }

    fn flush(&mut self) {
        while let Some(output) = self.backlog.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(output)) = self.queue.try_send(output) {
                return self.backlog.push_front(output);
            }
        }
    }

    fn has_room(&self) -> bool {
        self.backlog.is_empty() && self.queue.capacity() >= ROOM
    }
}

struct Drivers {
    swarm: Line,
    /// Takes a message without a queue.
    outbox: swarm::Outbox,
    content: Line,
    /// Takes work without a queue.
    engine: engine::Handle,
    receipts: Line,
    promises: Line,
    signer: Line,
    inquiries: Line,
    /// Takes what was seen without a queue.
    telemetry: Telemetry,
    /// Takes an answer without a queue.
    client: Client,
}

impl Drivers {
    fn all(&mut self) -> [&mut Line; 6] {
        let Drivers { swarm, content, receipts, promises, signer, inquiries, .. } = self;
        [swarm, content, receipts, promises, signer, inquiries]
    }

    /// Who carries out what.
    fn hand_out(&mut self, output: Output) {
        match output {
            Output::Seen(seen) => self.telemetry.see(seen),
            Output::Send { to, message } => self.outbox.send(&to, &Frame::Message(message)),
            Output::SendAdverts { .. }
            | Output::SendReceipts { .. }
            | Output::Post(..)
            | Output::Announce { .. }
            | Output::Dial { .. } => self.swarm.push(output),
            Output::Load { .. }
            | Output::Learn { .. }
            | Output::Fetch { .. }
            | Output::List { .. }
            | Output::Have { .. }
            | Output::Read { .. }
            | Output::Unpack { .. }
            | Output::Placed { .. } => {
                self.content.push(output);
            }
            Output::Start { .. } => self.engine.carry_out(output),
            Output::Stop { .. } => {
                self.content.push(output.clone());
                self.engine.carry_out(output);
            }
            Output::Persist { .. } => self.promises.push(output),
            Output::Sign { .. } | Output::SignAdvert { .. } | Output::Identify { .. } => self.signer.push(output),
            Output::Remember { .. } | Output::Recall { .. } => self.receipts.push(output),
            Output::Inquire { .. } => self.inquiries.push(output),
            Output::Reply { .. }
            | Output::Ranked { .. }
            | Output::Informed { .. }
            | Output::Searched { .. }
            | Output::Progress { .. }
            | Output::JobReply { .. }
            | Output::Accepted { .. }
            | Output::Works { .. } => self.client.answer(output),
        }
    }
}

/// Where inputs come from.
struct Sources {
    /// New work of this node's users.
    work: WorkReceiver,
    /// What peers say and do: new work as well.
    peers: mpsc::Receiver<frames::Event<Heard>>,
    /// Completions.
    done: mpsc::Receiver<Input>,
}

/// The next of what users and peers ask for; neither can keep the other waiting for long. May be dropped at any time.
async fn new_work(
    work: &mut WorkReceiver,
    peers: &mut mpsc::Receiver<frames::Event<Heard>>,
    counters: &Counters,
) -> Option<Input> {
    loop {
        let input = tokio::select! {
            Some(event) = peers.recv() => swarm::heard(event, counters),
            Some(input) = work.recv() => Some(input),
            else => return None,
        };
        if input.is_some() {
            return input;
        }
    }
}

struct Loop {
    /// Held as long as the node runs: one process at a time has a data folder.
    _lock: File,
    node: Node,
    recorder: Option<Recorder>,
    drivers: Drivers,
    view: watch::Sender<View>,
    counters: Arc<Counters>,
    begin: Instant,
    out: Vec<Output>,
    published: Option<Instant>,
    /// Whether something happened since the view was published.
    stale: bool,
}

impl Loop {
    async fn run(
        mut self,
        promised: Vec<JournalEntry>,
        mut sources: Sources,
        mut stopped: tokio::sync::oneshot::Receiver<()>,
        signing: JoinHandle<()>,
    ) {
        // Before anything else, so that nothing is promised twice.
        self.turn(Input::Restored { entries: promised });
        self.turn(Input::Tick);
        loop {
            let may_take = self.drivers.all().into_iter().all(|line| line.has_room());
            let wake = self.wakeup();
            self.counters.work_waiting.store((sources.work.len() + sources.peers.len()) as u64, Ordering::Relaxed);
            let input = tokio::select! {
                biased;
                _ = &mut stopped => return self.end(sources.done, signing).await,
                Some(input) = sources.done.recv() => input,
                Some(input) = new_work(&mut sources.work, &mut sources.peers, &self.counters), if may_take => input,
                () = tokio::time::sleep_until(wake.into()) => Input::Tick,
            };
            self.turn(input);
        }
    }

    /// Says goodbye, has the receipts signed and kept of what was answered, and takes nothing else.
    async fn end(mut self, mut done: mpsc::Receiver<Input>, mut signing: JoinHandle<()>) {
        self.turn(Input::Leave);
        self.drivers.signer = Line::new(queue().0);
        let begun = tokio::time::Instant::now();
        let mut signed = false;
        loop {
            let wait = if signed { GOODBYE } else { END_WAIT };
            tokio::select! {
                biased;
                Some(input) = done.recv() => {
                    if matches!(input, Input::Signed { .. } | Input::AdvertSigned { .. }) {
                        self.turn(input);
                    }
                }
                _ = &mut signing, if !signed => signed = true,
                () = tokio::time::sleep_until(begun + wait) => return,
            }
        }
    }

    fn turn(&mut self, input: Input) {
        Counters::count(&self.counters.inputs);
        let (now, told) = (self.now(), self.recorder.is_some().then(|| input.clone()));
        self.node.handle(now, input, &mut self.out);
        if let Some(told) = told {
            let goes_on = |recorder: &Recorder| recorder.take(now, told, self.out.clone());
            self.recorder = self.recorder.take().filter(goes_on);
        }
        let mut out = std::mem::take(&mut self.out);
        for output in out.drain(..) {
            self.drivers.hand_out(output);
        }
        self.out = out;
        for line in self.drivers.all() {
            line.flush();
        }
        self.stale = self.published.is_some_and(|at| at.elapsed() < VIEW_EVERY);
        if !self.stale {
            self.published = Some(Instant::now());
            let backlog = self.drivers.all().into_iter().map(|line| line.backlog.len() as u64).sum();
            self.counters.backlog.store(backlog, Ordering::Relaxed);
            self.view.send_replace(self.node.view());
        }
    }

    /// The core's next alarm; sooner while a driver has no room or the view is not the latest.
    fn wakeup(&mut self) -> Instant {
        let now = Instant::now();
        let idle = Duration::from_secs(3600);
        let core = self.node.next_wakeup().map_or(now + idle, |us| self.begin + Duration::from_micros(us));
        let blocked = self.drivers.all().into_iter().any(|line| !line.has_room());
        let view = self.published.filter(|_| self.stale).map(|at| at + VIEW_EVERY);
        let mut wake = core;
        if blocked {
            wake = wake.min(now + Duration::from_millis(1));
        }
        wake.min(view.unwrap_or(wake))
    }

    fn now(&self) -> Now {
        Now { monotonic_us: self.begin.elapsed().as_micros() as u64, unix_ms: wall_clock().unix_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_life_has_a_later_epoch_even_if_the_clock_was_set_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let (first, epoch) = lock(dir.path()).expect("taken");
        assert!(epoch >= 1_700_000_000_000, "milliseconds since 1970");
        assert!(matches!(lock(dir.path()), Err(StartError::Busy { .. })));
        drop(first);
        // An earlier life whose clock was far ahead.
        std::fs::write(dir.path().join("lock"), u64::to_be_bytes(epoch + 1_000_000_000)).expect("written");
        let (_second, later) = lock(dir.path()).expect("taken");
        assert_eq!(later, epoch + 1_000_000_001);
    }
}
