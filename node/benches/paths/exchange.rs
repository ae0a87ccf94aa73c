//! Block exchange: a file from one store into another over loopback, durable at both ends, against a raw stream and the disk.

use bytes::Bytes;
use cid::Cid;
use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{StreamProtocol, identify};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use timerose_content::{Content, Fetch, exchange, frames};
use tokio::runtime::Runtime;

use crate::Settings;
use crate::machine::{self, MIB};
use crate::net::{End, Host, Plain};
use crate::report::{Better, Goal, Row};

/// Bytes of a frame of the raw stream: as much as the exchange puts into a message.
const FRAME: usize = MIB as usize;

/// The rows about the exchange.
pub fn rows(runtime: &Runtime, settings: &Settings) -> Vec<Row> {
    let folder = settings.folder("exchange");
    let file = folder.join("file");
    machine::random_file(&file, settings.size_mb * MIB);
    let size = settings.size_mb as f64;
    let row = |what: &str, goal, limit| {
        Row::new(format!("exchange {size} MiB, durable at both ends{what}"), "MiB/s", Better::Higher, goal, limit)
    };
    let mut both = row("", Goal::Ratio(0.6), "the slower of a raw stream and dd fdatasync");
    let mut raw = row(": the wire alone", Goal::Shown, "raw stream of frames");
    let mut disk = row(": the disk alone", Goal::Shown, "dd fdatasync");
    let what = format!("exchange {size} MiB, durable at both ends: CPU of both ends");
    let mut cpu = Row::new(what, "s", Better::Lower, Goal::Shown, "raw stream of frames, and sha256 twice");
    runtime.block_on(async {
        let source = Source::open(&folder.join("source"), &file).await;
        for round in 0..settings.rounds {
            let (took, least) = raw_stream(settings.size_mb as usize).await;
            let stream = size / took;
            let dd = size / machine::dd(&file, &folder).as_secs_f64();
            let hash = machine::hash(&file).as_secs_f64();
            let before = machine::cpu_seconds();
            let ours = size / source.fetch(&folder.join(format!("copy-{round}")), settings.size_mb).await;
            cpu.round(machine::cpu_seconds() - before, least + 2.0 * hash);
            both.round(ours, stream.min(dd));
            raw.round(ours, stream);
            disk.round(ours, dd);
        }
    });
    vec![both, raw, disk, cpu]
}

/// What the exchange sees of a node: identify says that it speaks a protocol of ours, so that it is asked for as much at once as a node is.
#[derive(NetworkBehaviour)]
struct Protocols {
    exchange: exchange::Behaviour,
    identify: identify::Behaviour,
    ours: frames::Behaviour<Plain>,
}

impl Protocols {
    fn new(keys: &Keypair, exchange: exchange::Behaviour) -> Protocols {
        let config = frames::Config {
            protocol: StreamProtocol::new("/timerose/bench/1"),
            max_frame: 1024,
            max_inbound_streams: 1,
            queue: 1,
            events: 1,
        };
        // Nothing is said on it, so nobody need listen.
        let (ours, _, _) = frames::new(config, Arc::new(Plain { opening: None }));
        let identify = identify::Behaviour::new(identify::Config::new("ipfs/0.1.0".into(), keys.public()));
        Protocols { exchange, identify, ours }
    }
}

/// A node that has a file.
pub struct Source {
    host: Host,
    root: Cid,
    /// Kept for the exchange, which serves from it.
    _content: Content,
}

impl Source {
    /// Adds a file to a new store, and listens.
    pub async fn open(dir: &Path, file: &Path) -> Source {
        let (content, behaviour) = Content::open(dir, &tokio::runtime::Handle::current()).expect("a store");
        let root = {
            let (content, file) = (content.clone(), file.to_path_buf());
            tokio::task::spawn_blocking(move || content.add_path(&file, &mut |_, _| {}).expect("added").cid).await
        };
        let keys = Keypair::generate_ed25519();
        let host = Host::start(&keys, Protocols::new(&keys, behaviour), None).await;
        Source { host, root: root.expect("added"), _content: content }
    }

    /// Seconds that a fetch of its MiB into a new store takes.
    pub async fn fetch(&self, dir: &Path, size_mb: u64) -> f64 {
        let bytes = size_mb * MIB;
        let (content, behaviour) = Content::open(dir, &tokio::runtime::Handle::current()).expect("a store");
        let keys = Keypair::generate_ed25519();
        let host = Host::start(&keys, Protocols::new(&keys, behaviour), Some(&self.host.addr)).await;
        host.connected().await;
        let begin = Instant::now();
        let request = Fetch { roots: vec![self.root], hints: vec![self.host.peer], recursive: true, limit_bytes: 2 * bytes };
        let fetched = content.fetch(request).await.expect("fetched");
        let took = begin.elapsed().as_secs_f64();
        assert!(fetched.bytes >= bytes, "all of it came over the wire");
        took
    }
}

/// Seconds that so many frames take between two bare swarms, and seconds of CPU.
async fn raw_stream(frames: usize) -> (f64, f64) {
    let (mut one, two) = End::pair().await;
    let first = one.host.peer;
    let before = machine::cpu_seconds();
    let begin = Instant::now();
    let sending = tokio::spawn(async move {
        let frame = Bytes::from(vec![7; FRAME]);
        for _ in 0..frames {
            two.sender.send(&first, frame.clone()).await.expect("sent");
        }
        two
    });
    for _ in 0..frames {
        assert_eq!(one.frame().await.len(), FRAME);
    }
    let took = (begin.elapsed().as_secs_f64(), machine::cpu_seconds() - before);
    drop(sending.await);
    took
}
