//! The engines that run a function's bytes. Nothing here knows of the network.
//!
//! A node holds one [`Engine`] per kind of code and calls [`Engine::run`] on an engine thread, once the content that
//! the work names is local and verified. A guest reaches content through the narrow [`Host`] handle and nothing else:
//! it has no clock, no entropy, no files and no sockets but those that an engine makes up for it.
//!
//! | file | what it holds |
//! |---|---|
//! | `module.rs` | what a wasm module offers: checks at deploy, and a manifest for bare code |
//! | `script.rs`, `script/` | source text as a function: an interpreter, the text, and what calls its handler |
//! | `wasm.rs` | [`WasmEngine`]: from work to a program to a run |
//! | `wasm/fan.rs`, `wasm/command.rs` | the two ways to call a module |
//! | `wasm/wasi.rs`, `wasm/wasi/` | our own WASI preview 1: standard streams and read-only content |
//! | `wasm/meter.rs` | memory, time, cancellation, and how an end becomes a [`Failure`] |
//! | `wasm/modules.rs`, `wasm/disk.rs` | compiled code, in memory and on disk |
//! | `wasm/pace.rs` | how long runs take: which may be tried without a thread of their own |

mod module;
mod script;
mod wasm;

pub use module::describe;
pub use script::{SCRIPT_MEMORY, SOURCE_MAX, Script, interpreter, script};
pub use wasm::{WasmConfig, WasmEngine, WasmStats};

use cid::Cid;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use timerose_core::failure::Failure;
use timerose_core::function::Function;
use timerose_core::task::Arg;

/// The largest module that is loaded, in bytes: the biggest interpreter known (CPython with its scientific libraries) has
/// some 104 MB.
pub const CODE_MAX: u64 = 128 << 20;

/// One call that is to be made.
#[derive(Clone, Debug)]
pub struct Work {
    /// The function's manifest.
    pub function: Arc<Function>,
    /// Which entry of it; empty where it has only one.
    pub entry: String,
    /// The arguments, in order.
    pub args: Vec<Arg>,
    /// What the guest's clock and randomness are derived from. For [`Seeded`] work this is the TaskId; for [`Pure`] work
    /// it should be the memo key, or two callers who share a result could see different ones.
    ///
    /// [`Pure`]: timerose_core::function::Determinism::Pure
    /// [`Seeded`]: timerose_core::function::Determinism::Seeded
    pub task: Cid,
}

/// The narrow handle by which a running guest reaches content. Blocks are already local and verified when work starts.
///
/// A failure ends the run and is given to the caller as it is.
pub trait Host: Send + Sync {
    /// The length of a file, in bytes.
    fn size(&self, file: &Cid) -> Result<u64, Failure>;
    /// Reads from `offset` (bytes) into `buf` and gives how much was read: less than `buf` at the host's convenience, 0 only
    /// at the end of the file.
    fn read_at(&self, file: &Cid, offset: u64, buf: &mut [u8]) -> Result<usize, Failure>;
    /// The entries of a directory; `None` where the CID is a file.
    fn list(&self, dir: &Cid) -> Result<Option<Vec<HostEntry>>, Failure>;
    /// Hears what the guest writes to its standard error, as it comes. Must not take long. By default nobody listens.
    fn hear(&self, words: &[u8]) {
        let _ = words;
    }
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEntry {
    /// Its name, without slashes.
    pub name: String,
    /// Its content.
    pub cid: Cid,
    /// Its length in bytes; 0 for a directory.
    pub size: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// What a run that ended well gave and took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The result.
    pub output: Vec<u8>,
    /// Microseconds of execution; compiling and reading content are not counted.
    pub run_us: u64,
    /// Bytes of the arguments.
    pub input: u64,
    /// The most guest memory, in bytes.
    pub memory: u64,
}

/// A handle that takes work back. All clones are the same handle.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A handle that has not been used.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the run that holds this handle with [`Failure::Cancelled`], within some tens of milliseconds.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`Cancel::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What runs the code of a function.
pub trait Engine: Send + Sync {
    /// The names that manifests may give in `engine` to be run here.
    fn names(&self) -> &'static [&'static str];

    /// Whether `code`, the content of `function.code`, is fit to enter the mesh: a valid module, whose imports are known
    /// and whose exports fit the manifest's entries. Nothing is compiled or run.
    ///
    /// # Errors
    /// [`Failure::Rejected`] with the finding.
    fn check(&self, function: &Function, code: &[u8]) -> Result<(), Failure>;

    /// Does the work on the calling thread and returns when it has ended. The thread needs 2 MiB of stack.
    ///
    /// # Errors
    /// [`Failure::BadArgument`], [`Failure::Rejected`], [`Failure::FunctionFailed`], [`Failure::LimitExceeded`],
    /// [`Failure::Cancelled`], [`Failure::NodeFailed`], and whatever `host` fails with.
    fn run(&self, work: &Work, host: &Arc<dyn Host>, cancel: &Cancel) -> Result<Exit, Failure>;

    /// Whether a run with these arguments is likely to be over in well under a millisecond, reads no content and has no effects: then
    /// [`Engine::run_briefly`] may spare it the way to a thread of its own.
    fn is_brief(&self, function: &Function, args: &[Arg]) -> bool;

    /// Does the work here and now if it is brief, as [`Engine::is_brief`] says. `None`: it is not, or came to no good end in its time,
    /// which may have taken some milliseconds; then [`Engine::run`] begins it anew and says how it ends. A guest's doings can be
    /// repeated, as nothing of them is seen but what it wrote to its standard error.
    fn run_briefly(&self, work: &Work, host: &Arc<dyn Host>, cancel: &Cancel) -> Option<Exit>;
}

/// Fills `buf` from `offset` on. The content is known to be long enough.
pub(crate) fn read_exact(host: &dyn Host, file: &Cid, mut offset: u64, mut buf: &mut [u8]) -> Result<(), Failure> {
    while !buf.is_empty() {
        let read = host.read_at(file, offset, buf)?;
        if read == 0 || read > buf.len() {
            return Err(Failure::NodeFailed { what: format!("{file} ended early, at {offset} bytes") });
        }
        offset += read as u64;
        buf = &mut buf[read..];
    }
    Ok(())
}
