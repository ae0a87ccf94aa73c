//! A function: the self-describing manifest whose CID is the function.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use cid::Cid;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::record::Record;
use crate::resources::Resources;

/// The engine name of a WASI preview 1 program.
pub const WASM_COMMAND: &str = "wasm-command";
/// The engine name of the raw ABI of the IPFS-FAN prototype: see [`Function`].
pub const WASM_FAN: &str = "wasm-fan";

/// A manifest. Its CID is the function's name everywhere in the mesh.
///
/// Engine `wasm-fan`: a core module without imports that exports `memory`, `alloc(size) -> ptr`, and entries. The
/// arguments, at most half of `limits.memory`, are written one after another at the `ptr` that `alloc` gives for them. A
/// fixed entry is `entry(ptr, len1, …, lenN) -> out_len`. A variadic one is `entry(ptr, lens, count) -> out_len`, where `lens`
/// points to `count` little-endian 32-bit lengths, for which `alloc` is called a second time. The result is read back from
/// `ptr`; `alloc` must have left room for it.
///
/// Engine `wasm-command`: a WASI preview 1 program. The only entry is `_start`; the first argument is its standard input and
/// further ones its `argv`, after [`Function::args`]; standard output is the result. Code without `_start` that exports
/// `malloc` is a library: any entry `entry(argc, argv) -> exit code` is called as C's `main` is, after `_initialize` if there
/// is one. An entry may have another name than what it exports, arguments of its own, and all that it is given as its
/// standard input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Which engine runs the code. A name that a node does not know makes it no candidate, not an error.
    pub engine: String,
    /// The bytes to run.
    pub code: Cid,
    /// What can be called, in the order of the manifest.
    pub entries: Vec<Entry>,
    /// What a result may be reused for.
    pub determinism: Determinism,
    /// What one call may use.
    pub limits: Limits,
    /// The first arguments of a command, before those of a call: what makes an interpreter run one script.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment variables of a command.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Read-only UnixFS trees of a command: guest path to root.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mounts: BTreeMap<String, Cid>,
    /// For people.
    #[serde(default)]
    pub about: About,
}

impl Record for Function {
    const SCHEMA: &'static str = "timerose/function";
    const MAX_BYTES: usize = 64 * 1024;
}

/// One thing that a function can be called for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// By which it is called.
    pub name: String,
    /// What it takes, in order.
    pub params: Vec<Param>,
    /// Whether the last parameter may be given any number of times, none included.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub variadic: bool,
    /// The type of its result, for people and pages: `bytes`, `text`, `json`.
    pub result: String,
    /// What a command exports for it, where that has another name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub export: String,
    /// The entry's own arguments of a command, after [`Function::args`] and before those of a call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Whether all arguments of a call are a command's standard input, one after another, each with a line end behind it;
    /// else the first alone is.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub joined: bool,
}

impl Entry {
    /// The exported name.
    pub fn exported(&self) -> &str {
        if self.export.is_empty() { &self.name } else { &self.export }
    }
}

/// One parameter: a name and a type for people and pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Param {
    /// Its name.
    pub name: String,
    /// `bytes`, `text` or `json`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// How far a result depends on the arguments alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Determinism {
    /// Equal arguments give equal bytes: no clock, no entropy, canonical NaN.
    #[default]
    Pure,
    /// As pure, with a clock and randomness that are derived from the task.
    Seeded,
    /// Anything: it runs at most once unless the caller says otherwise.
    Effects,
}

/// What one call may use. Going over is [`Failure::LimitExceeded`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of guest memory.
    pub memory: u64,
    /// Milliseconds of execution; fetching is not counted.
    pub timeout_ms: u64,
    /// Bytes of result.
    pub output: u64,
    /// Units of fuel, where a budget is wanted; it costs about 1.7x in speed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { memory: 256 << 20, timeout_ms: 30_000, output: 64 << 20, fuel: None }
    }
}

/// What a person or a catalogue wants to know of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// A short name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What it does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// An SPDX expression.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub license: String,
    /// The source it was built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Cid>,
}

/// The most guest memory that a manifest may ask for, in bytes: all that 32-bit wasm can address.
pub const MEMORY_MAX: u64 = 4 << 30;
/// The longest run that a manifest may ask for: a day, in milliseconds.
pub const TIMEOUT_MS_MAX: u64 = 24 * 3600 * 1000;
/// The most entries of a manifest.
pub const ENTRIES_MAX: usize = 256;

impl Function {
    /// The entry called `name`; with one entry only, the empty name means it.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        match (name, &self.entries[..]) {
            ("", [only]) => Some(only),
            _ => self.entries.iter().find(|e| e.name == name),
        }
    }

    /// Checks that a call of `entry` with `args` arguments fits the manifest.
    pub fn check_call(&self, entry: &str, args: usize) -> Result<&Entry, Failure> {
        let found = self.entry(entry).ok_or_else(|| {
            let names: Vec<&str> = self.entries.iter().map(|e| e.name.as_str()).collect();
            Failure::BadArgument { index: 0, wanted: format!("an entry out of {}", names.join(", ")), got: format!("{entry:?}") }
        })?;
        let params = found.params.len();
        let least = if found.variadic { params.saturating_sub(1) } else { params };
        let fits = args >= least && (found.variadic || args == params);
        if fits {
            return Ok(found);
        }
        let plural = if params == 1 { "" } else { "s" };
        let wanted = if found.variadic { format!("{least} or more arguments") } else { format!("{params} argument{plural}") };
        Err(Failure::BadArgument { index: args.min(params) as u32, wanted, got: args.to_string() })
    }

    /// Checks a manifest by itself, without its code: names, counts and limits.
    pub fn check(&self) -> Result<(), Failure> {
        let reject = |finding: &str| Err(Failure::Rejected { finding: finding.to_string() });
        if self.entries.is_empty() || self.entries.len() > ENTRIES_MAX {
            return reject("a function needs between 1 and 256 entries");
        }
        for (i, entry) in self.entries.iter().enumerate() {
            if entry.name.is_empty() || self.entries[..i].iter().any(|e| e.name == entry.name) {
                return reject("entries need distinct names");
            }
            if entry.variadic && entry.params.is_empty() {
                return reject("a variadic entry needs a parameter to repeat");
            }
        }
        if self.limits.memory == 0 || self.limits.memory > MEMORY_MAX {
            return reject("limits.memory must be between 1 byte and 4 GiB");
        }
        if self.limits.timeout_ms == 0 || self.limits.timeout_ms > TIMEOUT_MS_MAX {
            return reject("limits.timeout_ms must be between 1 ms and a day");
        }
        if self.mounts.keys().any(|path| !path.starts_with('/') || path.split('/').any(|part| part == "..")) {
            return reject("mounts need absolute paths without \"..\"");
        }
        Ok(())
    }

    /// What one call takes of an executor.
    pub fn demand(&self) -> Resources {
        Resources { slots: 1, memory: self.limits.memory }
    }
}
