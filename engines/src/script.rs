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
    /// What of it is called.
    export: &'static str,
    /// Where the script is mounted.
    source: &'static str,
    /// What runs a plain script, if the interpreter does not do so by itself.
    plain: Option<&'static Shim>,
    /// What calls the script's handler.
    handler: &'static Shim,
    /// What calls the script's `map` and `reduce`.
    mapreduce: &'static Shim,
    /// What those need.
    helpers: &'static [Shim],
    /// How a line begins that declares something: what stands before its name, and behind it.
    declares: &'static [(&'static str, &'static str)],
}

impl Language {
    fn declares(&self, text: &str, name: &str) -> bool {
        let rest = |line, before| str::strip_prefix(line, before).and_then(|rest: &str| rest.strip_prefix(name));
        let is_it =
            |line| self.declares.iter().any(|(before, behind)| rest(line, before).is_some_and(|rest| rest.starts_with(behind)));
        text.lines().any(is_it)
    }
}

const PYTHON: Language = Language {
    name: "python",
    interpreter: "bafybeibrmpa425cvjtwv5dfuom7oqjrokrh2z7kuimcmn332wk5gitgmue",
    export: START,
    source: "/app/main.py",
    plain: None,
    handler: &Shim { path: "/timerose/handler.py", text: include_str!("script/handler.py") },
    mapreduce: &Shim { path: "/timerose/mapreduce.py", text: include_str!("script/mapreduce.py") },
    helpers: &[
        Shim { path: "/timerose/shared.py", text: include_str!("script/shared.py") },
        Shim { path: "/timerose/failed.py", text: include_str!("script/failed.py") },
    ],
    declares: &[("def ", "(")],
};

const JAVASCRIPT: Language = Language {
    name: "javascript",
    interpreter: "bafybeif35ssgfczc52pmyipa7jgpghvvpp64lcfwkbgskkcp5x2voggsjy",
    // The package has QuickJS as a library; this is its `main`.
    export: "qjs_init_argv",
    source: "/app/main.js",
    plain: Some(&RUN_JS),
    handler: &RUN_JS,
    mapreduce: &RUN_JS,
    helpers: &[],
    declares: &[("export function ", "("), ("export async function ", "("), ("export const ", " =")],
};

const RUN_JS: Shim = Shim { path: "/timerose/run.js", text: include_str!("script/run.js") };

/// Kilobytes of stack that QuickJS gives itself. It ends before the machine's own stack does, so that a script without end
/// fails with an error of its own.
const JAVASCRIPT_STACK: &str = "--stack-size=128k";

/// What of a manifest makes a script run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// The code: an interpreter.
    pub interpreter: Cid,
    /// One entry; or `map` and `reduce`.
    pub entries: Vec<Entry>,
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
    let (handler, mapreduce) = (known.declares(text, "handler"), known.declares(text, "map") && known.declares(text, "reduce"));
    let (shim, mode) = match (mapreduce, handler) {
        (true, _) => (Some(known.mapreduce), None),
        (false, true) => (Some(known.handler), Some("handler")),
        (false, false) => (known.plain, Some("script")),
    };
    let shims = || shim.into_iter().chain(if mapreduce || handler { known.helpers } else { &[] });
    let mut mounts = BTreeMap::from([(known.source.to_string(), source)]);
    mounts.extend(shims().map(|shim| (shim.path.to_string(), cid_of(RAW, shim.text.as_bytes()))));
    let main = shim.map_or(known.source, |shim| shim.path).to_string();
    let args = if known.name == PYTHON.name {
        // The heap has a fixed size. The rest is for the interpreter itself.
        vec!["-X".into(), format!("heapsize={}k", (memory - memory / 8) >> 10), main]
    } else {
        [JAVASCRIPT_STACK.into(), main].into_iter().chain(mode.map(String::from)).collect()
    };
    let entries = match mode {
        None => vec![entry(known, "map", ("text", "text"), false), entry(known, "reduce", ("values", "json"), true)],
        // One parameter that may be given any number of times: a call needs no argument, and the further ones are `argv`.
        Some(_) => {
            let (name, kind) = if handler { ("event", "json") } else { ("stdin", "bytes") };
            let params = vec![Param { name: name.into(), kind: kind.into() }];
            vec![Entry { name: known.export.into(), params, variadic: true, result: kind.into(), ..Entry::default() }]
        }
    };
    Ok(Script { interpreter, entries, args, mounts, files: shims().map(|shim| shim.text).collect() })
}

/// One of the two entries of a map-reduce script: its name is its argument, and what it takes is standard input.
fn entry(language: &Language, name: &str, (param, kind): (&str, &str), variadic: bool) -> Entry {
    Entry {
        name: name.into(),
        params: vec![Param { name: param.into(), kind: kind.into() }],
        variadic,
        result: "json".into(),
        export: language.export.into(),
        args: vec![name.into()],
        joined: variadic,
    }
}
