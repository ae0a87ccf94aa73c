//! The arguments. Their doc comments are the manual.

mod bitswap;
mod care;
mod dag;
mod limits;
mod members;
mod net;
mod pin;
mod routing;
mod seen;

use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

pub use bitswap::{Bitswap, Ledger};
pub use care::Completions;
pub use dag::{Dag, DagExport, DagImport};
pub use limits::Limits;
pub use members::Members;
pub use net::Net;
pub use pin::Pin;
pub use routing::{Provide, Providers, Reach};
pub use seen::{LogFormat, Logs, Trace};

/// A computing mesh over IPFS: deploy, call and run code by CID, near its data.
///
/// Content and functions are both CIDs. Whoever holds a function's CID can run it on the nearest suitable node.
/// Without a running node, commands that need one start it in this process for as long as they take.
#[derive(Parser)]
#[command(name = "timerose", version, disable_help_subcommand = true)]
pub struct Args {
    /// Where data, keys and the API's address lie.
    #[arg(id = "home", long = "path", env = "TIMEROSE_PATH", global = true, value_name = "DIR", hide_env_values = true)]
    pub home: Option<PathBuf>,
    /// Say more on stderr; twice for all.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// How the log on stderr is written.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How results are shown, as an option.
#[derive(clap::Args)]
pub struct Show {
    /// How results are shown.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// How results are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One compact JSON document.
    Json,
}

/// How a call reaches its executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Channel {
    /// By a stream where one stands, by PubSub elsewhere.
    Auto,
    /// By a stream of its own.
    Stream,
    /// By the topics of executor and caller, sealed, through whoever passes it on.
    Pubsub,
}

impl Channel {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Channel::Auto => "auto",
            Channel::Stream => "stream",
            Channel::Pubsub => "pubsub",
        }
    }
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Run some nodes on this machine, joined with each other, until Ctrl-C.
    Up(Up),
    /// Run one node until Ctrl-C.
    Node(Node),
    /// Add a file or a folder; prints its CID.
    Add(Add),
    /// Write a file's bytes to stdout.
    Cat(Cat),
    /// Write a file or a folder to disk, with the links, permissions and times that are recorded.
    Get(Get),
    /// List a folder.
    Ls(Ls),
    /// Make a function of a wasm file or a script; prints its CID.
    Deploy(Deploy),
    /// Make a function of a wasm file or a script and call it at once; prints the result's bytes.
    Run(Run),
    /// Show what a function takes and gives.
    Abi(Abi),
    /// Call a function on the nearest suitable node; prints the result's CID.
    Call(Call),
    /// Show who would run a function, the nearest first, and why not the others.
    Where(Where),
    /// Wait until detached work has ended; prints its result's CID.
    Wait(Wait),
    /// Take detached work back.
    Cancel(Cancel),
    /// List the detached work that is open, and that ended within a day.
    Ps(Show),
    /// Map a function over the files of a data set, near where they lie, and reduce the results to one.
    Mapreduce(Mapreduce),
    /// List the members of the mesh.
    Members(Members),
    /// Show this node's identity and addresses.
    Id(Show),
    /// Look at this node's traffic.
    #[command(subcommand)]
    Net(Net),
    /// Show the signed receipt of a task or a result, keep it as a file, or verify such a file.
    Receipt(Receipt),
    /// Show what a result was made of: the receipts behind it, down to the inputs that nobody computed.
    Lineage(Lineage),
    /// Show what each node of a call or a job did for it, and when.
    Trace(Trace),
    /// Show what a function wrote to its standard error, from whichever node ran it.
    Logs(Logs),
    /// Move DAGs in and out as CAR archives.
    #[command(subcommand)]
    Dag(Dag),
    /// Say what the garbage collection must spare.
    #[command(subcommand)]
    Pin(Pin),
    /// Show what this node lets others know that it has.
    #[command(subcommand)]
    Provide(Provide),
    /// Show who has a block: this node, connected peers by their own word, and whom the DHT names.
    Providers(Providers),
    /// Show what blocks came from peers and went to them.
    #[command(subcommand)]
    Bitswap(Bitswap),
    /// Look after what this node keeps on disk.
    #[command(subcommand)]
    Repo(Repo),
    /// Check this machine, its node and the mesh around it: each finding with its cause and what to do.
    Doctor(Show),
    /// Watch the nodes and the work that runs: drawn anew each second on a terminal, once elsewhere, a line a second as JSON.
    Top(Show),
    /// Write what makes a shell complete commands and options.
    Completions(Completions),
    /// Run a scenario in the simulator.
    Sim(Sim),
    /// Tell a fresh node's core what `node --record` wrote, and compare what it decides.
    #[command(hide = true)]
    Replay(Replay),
}

/// `timerose up`
#[derive(clap::Args)]
pub struct Up {
    #[command(flatten)]
    pub show: Show,
    /// How many.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub nodes: u8,
    /// The regions that they stand in, in turn.
    #[arg(long, value_delimiter = ',', default_value = "local", value_name = "NAME,…")]
    pub regions: Vec<String>,
    /// Slots of each node; by default the processors, shared out.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub slots: Option<u32>,
}

/// `timerose node`
#[derive(clap::Args)]
pub struct Node {
    #[command(flatten)]
    pub show: Show,
    /// Where its key, its blocks and its API's address lie; by default TIMEROSE_PATH itself. Commands find the node when
    /// TIMEROSE_PATH is this folder.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where peers reach it, as TCP, QUIC or WebSocket multiaddrs; `none` for a node that only dials others. A relay's address with
    /// `/p2p-circuit` at its end lets peers reach it through that relay.
    #[arg(long, value_name = "MADDR", default_values = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0/ws"])]
    pub listen: Vec<String>,
    /// A node of the mesh to join; may be repeated.
    #[arg(long, value_name = "MADDR")]
    pub join: Vec<String>,
    /// What it does for others.
    #[arg(long, value_delimiter = ',', default_value = "executor,scheduler,store", value_name = "ROLE,…")]
    pub roles: Vec<String>,
    /// Where it stands, in your words.
    #[arg(long, default_value = "local", value_name = "NAME")]
    pub region: String,
    /// A key whose calls it takes and whose answers it believes, as a did:key; may be repeated.
    #[arg(long, value_name = "DID")]
    pub trust: Vec<String>,
    #[command(flatten)]
    pub reach: Reach,
    #[command(flatten)]
    pub limits: Limits,
    /// Where its HTTP API listens. Whoever reaches it acts as this node.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR")]
    pub api: std::net::SocketAddr,
    /// Pieces of work that it runs at the same time; by default one a processor.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub slots: Option<u32>,
    /// Memory that guests may use together, in MiB.
    #[arg(long, default_value_t = 4096, value_name = "MIB")]
    pub memory_mib: u64,
    /// Write down what the node's core is told, for `timerose replay`.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// What goes wrong on purpose, for tests: docs/simulator.md says what there is.
    #[arg(long, hide = true, default_value = "loss=0", value_name = "FAULT,…")]
    pub faults: timerose_node::Faults,
    /// End when stdin closes: for whoever starts nodes and must not leave them behind.
    #[arg(long, hide = true)]
    pub until_stdin_closes: bool,
}

/// `timerose add`
#[derive(clap::Args)]
pub struct Add {
    #[command(flatten)]
    pub show: Show,
    /// A file or a folder. A symbolic link is followed; those in a folder are added as links.
    pub path: PathBuf,
    /// Spread the blocks over the stores of the mesh instead of keeping them here.
    #[arg(long)]
    pub spread: bool,
    /// How many stores keep each block that is spread: with N, any N - 1 of them may be lost.
    #[arg(long, default_value_t = 1, requires = "spread", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub copies: u8,
    /// Pin the root, so that the garbage collection spares it and all below it.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pub pin: bool,
    #[command(flatten)]
    pub shape: Shape,
}

/// How content becomes blocks: the same options give the same CIDs as those of `ipfs add`.
#[derive(clap::Args)]
pub struct Shape {
    /// The version of the CIDs.
    #[arg(long, default_value_t = 1, value_name = "0|1", value_parser = clap::value_parser!(u8).range(0..=1))]
    pub cid_version: u8,
    /// Make blocks of a file's bytes alone, without a head; the default of version 1.
    #[arg(long, overrides_with = "no_raw_leaves")]
    pub raw_leaves: bool,
    /// Give every block of a file a head; the default of version 0.
    #[arg(long)]
    pub no_raw_leaves: bool,
    /// How files are cut: into parts of N bytes.
    #[arg(long, default_value = "size-262144", value_name = "size-N")]
    pub chunker: String,
    /// Lay files out for reading from their start, rather than balanced: each node has its leaves first and then trees that grow deeper.
    #[arg(long)]
    pub trickle: bool,
    /// Record the permissions of files and folders; no block of theirs is raw then.
    #[arg(long)]
    pub preserve_mode: bool,
    /// Record when files, folders and links were changed last; no block of theirs is raw then.
    #[arg(long)]
    pub preserve_mtime: bool,
}

/// `timerose cat`
#[derive(clap::Args)]
pub struct Cat {
    /// A CID, or a path below one.
    #[arg(value_name = "CID[/PATH]")]
    pub of: String,
}

/// `timerose get`
#[derive(clap::Args)]
pub struct Get {
    /// A CID, or a path below one.
    #[arg(value_name = "CID[/PATH]")]
    pub of: String,
    /// Where to; must not exist. By default the last name of the path, or the CID.
    #[arg(short = 'o', long = "to", value_name = "PATH")]
    pub to: Option<PathBuf>,
    /// How results are shown.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// `timerose ls`
#[derive(clap::Args)]
pub struct Ls {
    #[command(flatten)]
    pub show: Show,
    /// A CID, or a path below one.
    #[arg(value_name = "CID[/PATH]")]
    pub of: String,
}

/// `timerose deploy`
#[derive(clap::Args)]
pub struct Deploy {
    #[command(flatten)]
    pub show: Show,
    /// The code: a wasm module, or source text whose name ends in .py, .js, .mjs or .wat.
    pub file: PathBuf,
    /// What it takes and may use, as TOML; by default what its exports tell.
    #[arg(long, value_name = "FILE.toml")]
    pub manifest: Option<PathBuf>,
}

/// `timerose run`
#[derive(clap::Args)]
pub struct Run {
    /// The code: a wasm module, or source text whose name ends in .py, .js, .mjs or .wat.
    pub file: PathBuf,
    /// What it takes and may use, as TOML; by default what its exports tell.
    #[arg(long, value_name = "FILE.toml")]
    pub manifest: Option<PathBuf>,
    #[command(flatten)]
    pub with: With,
}

/// `timerose abi`
#[derive(clap::Args)]
pub struct Abi {
    #[command(flatten)]
    pub show: Show,
    /// The function's CID.
    #[arg(value_name = "FN")]
    pub function: String,
}

/// `timerose call`
#[derive(clap::Args)]
pub struct Call {
    /// The function's CID.
    #[arg(value_name = "FN")]
    pub function: String,
    #[command(flatten)]
    pub with: With,
    /// Write the result's bytes to stdout instead of its CID.
    #[arg(long)]
    pub cat: bool,
    /// Do not wait: print a handle for `wait`, `cancel` and `ps` once the running node has promised to do it.
    #[arg(long, conflicts_with_all = ["cat", "channel"])]
    pub detach: bool,
}

/// How a function is called.
#[derive(clap::Args)]
pub struct With {
    #[command(flatten)]
    pub show: Show,
    /// Which entry; needed where there is more than one.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    pub entry: String,
    /// An argument: a CID, @FILE, or text. Text that looks like a CID is given as @FILE. May be repeated.
    #[arg(long = "arg", value_name = "CID|@FILE|TEXT")]
    pub args: Vec<String>,
    /// Run it even if the result of an equal call is known.
    #[arg(long)]
    pub no_memo: bool,
    /// How the call reaches its executor.
    #[arg(long, value_enum, default_value_t = Channel::Auto)]
    pub channel: Channel,
    /// Tells equal calls apart: a function with effects runs once for each number.
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    pub seq: u64,
    /// How long it may take, in all: 500ms, 30s, 5m, 1h. By default 30s, and 24h with --detach.
    #[arg(long, value_parser = duration)]
    pub timeout: Option<std::time::Duration>,
}

/// `timerose where`
#[derive(clap::Args)]
pub struct Where {
    #[command(flatten)]
    pub show: Show,
    /// The function's CID.
    #[arg(value_name = "FN")]
    pub function: String,
    /// Which entry.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    pub entry: String,
    /// An argument: who holds it is nearer. May be repeated.
    #[arg(long = "arg", value_name = "CID")]
    pub args: Vec<String>,
}

/// `timerose wait`
#[derive(clap::Args)]
pub struct Wait {
    #[command(flatten)]
    pub show: Show,
    /// What `--detach` printed.
    #[arg(value_name = "HANDLE")]
    pub handle: String,
    /// Write the result's bytes to stdout instead of its CID.
    #[arg(long)]
    pub cat: bool,
    /// How long to wait: 500ms, 30s, 5m, 1h. The work goes on in any case.
    #[arg(long, default_value = "24h", value_parser = duration)]
    pub timeout: std::time::Duration,
}

/// `timerose cancel`
#[derive(clap::Args)]
pub struct Cancel {
    #[command(flatten)]
    pub show: Show,
    /// What `--detach` printed.
    #[arg(value_name = "HANDLE")]
    pub handle: String,
}

/// `timerose replay`
#[derive(clap::Args)]
pub struct Replay {
    #[command(flatten)]
    pub show: Show,
    /// What `node --record` wrote.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// `timerose mapreduce`
#[derive(clap::Args)]
pub struct Mapreduce {
    #[command(flatten)]
    pub show: Show,
    /// The function's CID.
    #[arg(value_name = "FN", required_unless_present = "resume")]
    pub function: Option<String>,
    /// The CID of a folder or a file.
    #[arg(value_name = "DATASET", required_unless_present = "resume")]
    pub dataset: Option<String>,
    /// Go on with a job that was begun before, through whatever node: what is done is not run again.
    #[arg(long, value_name = "JOB", conflicts_with_all = ["function", "dataset", "map", "reduce"])]
    pub resume: Option<String>,
    /// The entry that takes one file.
    #[arg(long, default_value = "map", value_name = "ENTRY")]
    pub map: String,
    /// The entry that takes any number of results.
    #[arg(long, default_value = "reduce", value_name = "ENTRY")]
    pub reduce: String,
    /// Send tasks anywhere, not to where their data lies.
    #[arg(long)]
    pub no_locality: bool,
    /// Run every task, even those whose results are known.
    #[arg(long)]
    pub no_memo: bool,
    /// Do not wait: print a handle for `wait`, `cancel` and `ps` once the running node has promised to do it.
    #[arg(long)]
    pub detach: bool,
    /// How long it may take, in all: 30s, 5m, 1h. By default 1h, and 24h with --detach.
    #[arg(long, value_parser = duration)]
    pub timeout: Option<std::time::Duration>,
}

/// `timerose receipt`
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Receipt {
    #[command(flatten)]
    pub show: Show,
    /// A receipt, or a task or a result: this node asks its peers for what it does not know.
    #[arg(value_name = "CID", required = true)]
    pub of: Option<String>,
    /// Write it with its proof to a file, which must not exist. `timerose receipt verify` reads it.
    #[arg(long, value_name = "FILE")]
    pub export: Option<PathBuf>,
    /// What else to do.
    #[command(subcommand)]
    pub action: Option<ReceiptAction>,
}

/// What else can be done with receipts.
#[derive(Subcommand)]
pub enum ReceiptAction {
    /// Verify a receipt that lies in a file. Needs neither a node nor a network.
    Verify(VerifyReceipt),
}

/// `timerose receipt verify`
#[derive(clap::Args)]
pub struct VerifyReceipt {
    #[command(flatten)]
    pub show: Show,
    /// The file, as `--export` wrote it.
    pub file: PathBuf,
}

/// `timerose lineage`
#[derive(clap::Args)]
pub struct Lineage {
    #[command(flatten)]
    pub show: Show,
    /// A result, or a task or a receipt.
    #[arg(value_name = "CID")]
    pub of: String,
    /// Show every result and input, not the first of each list alone.
    #[arg(long)]
    pub all: bool,
}

/// `timerose repo`
#[derive(Subcommand)]
pub enum Repo {
    /// Show how much is kept.
    Stat(Show),
    /// Read and hash every block, and look for every file in the index; fails when something is wrong.
    Verify(Verify),
    /// Remove the blocks that no pin and no work needs.
    Gc(Gc),
}

/// `timerose repo gc`
#[derive(clap::Args)]
pub struct Gc {
    #[command(flatten)]
    pub show: Show,
    /// For how long blocks are spared after they were put or used: 0s, 10m, 24h.
    #[arg(long, default_value = "1h", value_parser = duration)]
    pub grace: std::time::Duration,
}

/// `timerose repo verify`
#[derive(clap::Args)]
pub struct Verify {
    #[command(flatten)]
    pub show: Show,
    /// Take blocks whose bytes are wrong or gone off the index, so that they are fetched again, and take in whole blocks that
    /// it does not list.
    #[arg(long)]
    pub repair: bool,
}

/// `timerose sim`
#[derive(clap::Args)]
pub struct Sim {
    #[command(flatten)]
    pub show: Show,
    /// What happens, as TOML.
    #[arg(value_name = "SCENARIO.toml")]
    pub scenario: PathBuf,
    /// Where all chance comes from; by default the scenario is run with a fresh one, which is printed.
    #[arg(long)]
    pub seed: Option<u64>,
}

/// Reads `500ms`, `30s`, `5m` or `1h`.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("a number and a unit out of ms, s, m, h, such as 30s".into()),
    };
    let number: u64 = number.parse().map_err(|_| "a number and a unit, such as 30s".to_string())?;
    number.checked_mul(ms).map(std::time::Duration::from_millis).ok_or_else(|| "too long".into())
}
