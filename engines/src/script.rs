//! Source text as a function: an interpreter's module as code, the text as a mount.
//!
//! A script language is no engine. What is made here is a `wasm-command` function like any other, so a node that runs it
//! needs nothing installed: the interpreter comes by its CID as other code does. `docs/scripts.md` describes what a script
//! finds when it runs.

use std::collections::BTreeMap;

use cid::Cid;
use timerose_core::failure::Failure;
use timerose_core::function::{Entry, Param};
use timerose_core::id::{RAW, cid_of};

use crate::module::{START, rejected};

/// The longest source text, in bytes.
pub const SOURCE_MAX: u64 = 1 << 20;
/// `limits.memory` of a script whose manifest does not say otherwise, in bytes.
pub const SCRIPT_MEMORY: u64 = 32 << 20;

/// A file that is mounted beside the script.
struct Shim {
    path: &'static str,
    text: &'static str,
}

/// A language whose scripts can be functions.
struct Language {
    name: &'static str,
    /// The module of the pinned package in `interpreters/requirements.txt`, as a UnixFS file.
    interpreter: &'static str,
    entry: &'static str,
    /// Where the script is mounted.
    source: &'static str,
    /// What calls the script's handler, or runs the script; and what that needs.
    shims: &'static [Shim],
    /// A line that begins with one of these declares a handler.
    handlers: &'static [&'static str],
}

const PYTHON: Language = Language {
    name: "python",
    interpreter: "bafybeibrmpa425cvjtwv5dfuom7oqjrokrh2z7kuimcmn332wk5gitgmue",
    entry: START,
    source: "/app/main.py",
    shims: &[
        Shim { path: "/timerose/handler.py", text: include_str!("script/handler.py") },
        Shim { path: "/timerose/failed.py", text: include_str!("script/failed.py") },
    ],
    handlers: &["def handler("],
};

const JAVASCRIPT: Language = Language {
    name: "javascript",
    interpreter: "bafybeif35ssgfczc52pmyipa7jgpghvvpp64lcfwkbgskkcp5x2voggsjy",
    // The package has QuickJS as a library; this is its `main`.
    entry: "qjs_init_argv",
    source: "/app/main.js",
    shims: &[Shim { path: "/timerose/run.js", text: include_str!("script/run.js") }],
    handlers: &["export function handler(", "export async function handler(", "export const handler ="],
};

/// Kilobytes of stack that QuickJS gives itself. It ends before the machine's own stack does, so that a script without end
/// fails with an error of its own.
const JAVASCRIPT_STACK: &str = "--stack-size=128k";

/// What of a manifest makes a script run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// The code: an interpreter.
    pub interpreter: Cid,
    /// The only entry.
    pub entry: Entry,
    /// The arguments that make the interpreter run the script.
    pub args: Vec<String>,
    /// The script, and what helps it.
    pub mounts: BTreeMap<String, Cid>,
    /// Files that `mounts` names as raw blocks and that must be stored.
    pub files: Vec<&'static str>,
}

/// The interpreter of a language: the CID of its module.
pub fn interpreter(language: &str) -> Option<Cid> {
    find(language).and_then(|language| language.interpreter.parse().ok())
}

fn find(language: &str) -> Option<&'static Language> {
    [&PYTHON, &JAVASCRIPT].into_iter().find(|known| known.name == language)
}

/// What runs `text`, whose CID is `source`, within `memory` bytes.
///
/// # Errors
/// [`Failure::Rejected`] where nothing here runs the language, or the text is too long or not UTF-8.
pub fn script(language: &str, source: Cid, text: &[u8], memory: u64) -> Result<Script, Failure> {
    let known = find(language).zip(interpreter(language));
    let (known, interpreter) =
        known.ok_or_else(|| rejected(format!("{language:?} is no language here: python, javascript or wat")))?;
    if text.len() as u64 > SOURCE_MAX {
        return Err(rejected(format!("a script of over {SOURCE_MAX} bytes")));
    }
    let text = std::str::from_utf8(text).map_err(|_| rejected("a script that is not UTF-8"))?;
    let handler = text.lines().any(|line| known.handlers.iter().any(|start| line.starts_with(start)));
    // MicroPython runs a plain script by itself.
    let shims = if handler || known.name == JAVASCRIPT.name { known.shims } else { &[] };
    let mut mounts = BTreeMap::from([(known.source.to_string(), source)]);
    mounts.extend(shims.iter().map(|shim| (shim.path.to_string(), cid_of(RAW, shim.text.as_bytes()))));
    let main = shims.first().map_or(known.source, |shim| shim.path).to_string();
    let args = if known.name == PYTHON.name {
        // The heap has a fixed size. The rest is for the interpreter itself.
        vec!["-X".into(), format!("heapsize={}k", (memory - memory / 8) >> 10), main]
    } else {
        vec![JAVASCRIPT_STACK.into(), main, if handler { "handler" } else { "script" }.into()]
    };
    let (name, kind) = if handler { ("event", "json") } else { ("stdin", "bytes") };
    // One parameter that may be given any number of times: a call needs no argument, and the further ones are `argv`.
    let params = vec![Param { name: name.into(), kind: kind.into() }];
    let entry = Entry { name: known.entry.into(), params, variadic: true, result: kind.into() };
    Ok(Script { interpreter, entry, args, mounts, files: shims.iter().map(|shim| shim.text).collect() })
}
