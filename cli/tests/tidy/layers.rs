//! Who may use whom: between crates, inside the core, inside the node, and inside every crate.

use crate::paths::{Arrow, Module, arrows, mentions, module_of, name};
use crate::source::Source;
use std::collections::BTreeMap;

/// The crates, and which of ours each may depend on.
const CRATES: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("content", &[]),
    ("engines", &["core"]),
    ("sim", &["core"]),
    ("node", &["core", "content", "engines"]),
    ("cli", &["core", "node", "sim"]),
];

/// What the engines may know of the core: the vocabulary of functions and tasks, and what that is made of.
const VOCABULARY: &[&str] = &["id", "resources", "record", "failure", "function", "task"];

/// The files of the node that are no drivers: any of them may use them, and they use no driver.
const NODE_SHARED: &[&str] = &[
    "client",    // how the node's users ask its core
    "announce",  // the queue of what the DHT is told
    "config",    // what a node is told at its start
    "delegates", // who may ask in this node's place
    "finder",    // the handle by which the DHT is asked
    "frames",    // frames in files that are appended to: what the journal and the recorder write
    "keys",      // its key, and what it checks with those of others
    "net",       // the handle by which the API asks what goes over the network
    "ports",     // the narrow handles that the loop gives to drivers
    "shown",     // what is shown of a receipt
    "telemetry", // what was seen: a handle that whoever sees something is given
    "wire",      // the task protocol's frames: what the swarm reads and writes
];

/// The files of one crate's sources.
fn crate_files<'a>(sources: &'a [Source], folder: &str) -> Vec<&'a Source> {
    let below = format!("{folder}/src/");
    sources.iter().filter(|s| s.path.starts_with(&below) && s.is(&["rs"])).collect()
}

/// The core's modules in the order of `core/src/lib.rs`, which is their import order.
pub fn core_order(sources: &[Source]) -> Vec<String> {
    let lib = sources.iter().find(|s| s.path == "core/src/lib.rs");
    let declared = |line: &str| Some(line.strip_suffix(';')?.rsplit_once("mod ")?.1.to_string());
    lib.map_or_else(Vec::new, |lib| lib.code.lines().filter_map(declared).collect())
}

/// A file of the core uses only files above it.
pub fn import_order(sources: &[Source]) -> Vec<String> {
    let order = core_order(sources);
    let rank = |module: &Module| module.first().and_then(|first| order.iter().position(|m| m == first));
    let mut found = Vec::new();
    for Arrow { from, to, place } in arrows(&crate_files(sources, "core")) {
        let (Some(user), Some(used)) = (rank(&from), rank(&to)) else {
            found.push(format!("{place}: {} uses {}: declare both in core/src/lib.rs", name(&from), name(&to)));
            continue;
        };
        if used > user {
            found.push(format!(
                "{place}: {} uses {}, which stands below it in core/src/lib.rs: move what is shared up, or reorder the list",
                name(&from),
                name(&to)
            ));
        }
    }
    found
}

/// A crate depends on those of ours that it may know, and on no other; the node's tests may use what they like.
pub fn crate_arrows(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for (folder, allowed) in CRATES {
        let path = format!("{folder}/Cargo.toml");
        let Some(manifest) = sources.iter().find(|s| s.path == path) else {
            found.push(format!("{path} is missing: take {folder:?} out of CRATES if the crate is gone"));
            continue;
        };
        for used in our_dependencies(&manifest.text, *folder == "node") {
            if !allowed.contains(&used.as_str()) {
                found.push(format!("{path}: {folder} must not know {used}: see the arrows in ARCHITECTURE.md"));
            }
        }
    }
    found
}

/// The crates of ours that a manifest depends on, by folder name.
fn our_dependencies(manifest: &str, tests_are_free: bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut counts = false;
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            counts = line.contains("dependencies") && !(tests_are_free && line.contains("dev-dependencies"));
        }
        let at = line.find("timerose-").filter(|at| *at == 0 || line.starts_with('['));
        if let Some(at) = at.filter(|_| counts) {
            found.push(line[at + 9..].chars().take_while(|c| c.is_alphanumeric()).collect());
        }
    }
    found
}

/// The engines use the core's vocabulary and nothing that decides.
pub fn vocabulary(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for file in crate_files(sources, "engines") {
        for (at, path) in mentions(&file.code, "timerose_core") {
            let module = path.first().map_or("*", String::as_str);
            if !VOCABULARY.contains(&module) {
                found.push(format!(
                    "{}: engines use timerose_core::{module}, which is not vocabulary ({}): pass what is needed as an argument",
                    file.place(at),
                    VOCABULARY.join(", ")
                ));
            }
        }
    }
    found
}

/// The node is a star: `run` uses the drivers, no driver uses another, and what they share uses none.
pub fn star(sources: &[Source]) -> Vec<String> {
    let is_centre = |part: &str| part == "run";
    let is_driver = |part: &str| !is_centre(part) && !NODE_SHARED.contains(&part);
    let mut found = Vec::new();
    for Arrow { from, to, place } in arrows(&crate_files(sources, "node")) {
        let (Some(user), Some(used)) = (from.first(), to.first()) else { continue };
        if user != used && !is_centre(user) && (is_driver(used) || is_centre(used)) {
            found.push(format!(
                "{place}: {} uses {}: a driver speaks to the loop alone; put the handle into ports.rs and let run.rs pass it",
                name(&from),
                name(&to)
            ));
        }
    }
    found
}

/// No circle among the modules of a crate. A module may hand on what its own children hold: that is no arrow.
pub fn circles(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for (folder, _) in CRATES {
        let mut graph: BTreeMap<Module, Vec<Module>> = BTreeMap::new();
        for arrow in arrows(&crate_files(sources, folder)) {
            if !arrow.to.starts_with(&arrow.from) {
                graph.entry(arrow.from).or_default().push(arrow.to);
            }
        }
        for start in graph.keys() {
            // Each circle is told once, from its first module in order.
            if let Some(circle) = way(&graph, start, start).filter(|circle| circle.iter().min() == Some(start)) {
                let names: Vec<String> = circle.iter().map(|module| name(module)).collect();
                found.push(format!(
                    "{folder}: a circle of imports, {} -> {}: move what both need into a module of its own",
                    names.join(" -> "),
                    name(start)
                ));
            }
        }
    }
    found
}

/// The shortest way along the arrows from one module to another, without the end.
fn way(graph: &BTreeMap<Module, Vec<Module>>, from: &Module, to: &Module) -> Option<Vec<Module>> {
    let mut ways = vec![vec![from.clone()]];
    let mut next = 0;
    while let Some(way) = ways.get(next).cloned() {
        next += 1;
        for used in way.last().and_then(|last| graph.get(last)).into_iter().flatten() {
            if used == to {
                return Some(way);
            }
            if !ways.iter().any(|w| w.contains(used)) {
                ways.push(way.iter().chain([used]).cloned().collect());
            }
        }
    }
    None
}

/// Every file below a crate's `src` is part of it: some file declares it as a module.
pub fn dead_files(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for (folder, _) in CRATES {
        let files = crate_files(sources, folder);
        for file in &files {
            let module = module_of(&file.path);
            let Some((last, parent)) = module.split_last() else { continue };
            let declares = |f: &&&Source| module_of(&f.path) == parent && declares(&f.code, last);
            if !files.iter().any(|f| declares(&f)) {
                found.push(format!("{}: no `mod {last};` names this file: declare it or delete it", file.path));
            }
        }
    }
    found
}

fn declares(code: &str, module: &str) -> bool {
    let line = format!("mod {module};");
    code.lines().any(|l| l.trim() == line || l.trim().ends_with(&format!(" {line}")))
}

mod tests {
    use super::*;

    fn files(texts: &[(&str, &str)]) -> Vec<Source> {
        texts.iter().map(|(path, text)| Source::new(path, text)).collect()
    }

    #[test]
    fn a_use_of_a_lower_file_breaks_the_import_order() {
        let lib = ("core/src/lib.rs", "pub mod id;\nmod task;\npub mod job;\n");
        let of = |text: &str| {
            import_order(&files(&[lib, ("core/src/task.rs", text), ("core/src/job.rs", ""), ("core/src/id.rs", "")]))
        };
        assert!(of("use crate::id::NodeId; // crate::job").is_empty());
        assert_eq!(of("use crate::{id::Now, job::Job};").len(), 1);
        assert!(import_order(&files(&[lib, ("core/src/task/a.rs", "use super::b;"), ("core/src/task/b.rs", "")])).is_empty());
        assert_eq!(of("fn f() { crate::job::g() }").len(), 1);
        assert_eq!(of("mod tests { use super::super::job; }").len(), 1);
        assert_eq!(import_order(&files(&[lib, ("core/src/x.rs", "use crate::id;"), ("core/src/id.rs", "")])).len(), 1);
    }

    #[test]
    fn a_crate_that_knows_too_much_is_found() {
        let of = |path: &str, text: &str| {
            let mut all: Vec<Source> =
                CRATES.iter().map(|(folder, _)| Source::new(&format!("{folder}/Cargo.toml"), "")).collect();
            all.retain(|s| s.path != path);
            all.push(Source::new(path, text));
            crate_arrows(&all)
        };
        let node = "[dependencies]\ntimerose-core.workspace = true\n[dev-dependencies]\ntimerose-sim = {}\n";
        assert!(of("node/Cargo.toml", node).is_empty());
        assert_eq!(of("content/Cargo.toml", "[dependencies]\ntimerose-core.workspace = true\n").len(), 1);
        assert_eq!(of("core/Cargo.toml", "[dependencies.timerose-sim]\nworkspace = true\n").len(), 1);
        assert_eq!(of("core/Cargo.toml", "[dev-dependencies]\ntimerose-sim = { path = \"../sim\" }\n").len(), 1);
        assert_eq!(of("sim/Cargo.toml", "[dependencies]\ntimerose-node.workspace = true\n").len(), 1);
        assert!(of("core/Cargo.toml", "[package]\nname = \"timerose-core\"\n").is_empty());
    }

    #[test]
    fn engines_may_not_reach_for_what_decides() {
        let of = |text: &str| vocabulary(&files(&[("engines/src/lib.rs", text)]));
        assert!(of("use timerose_core::{failure::Failure, task::Usage};").is_empty());
        assert_eq!(of("use timerose_core::{failure::Failure, scheduler::Scheduler};").len(), 1);
        assert_eq!(of("use timerose_core::*;").len(), 1);
    }

    #[test]
    fn a_driver_that_calls_a_driver_breaks_the_star() {
        let of = |path: &str, text: &str| {
            let others = ["swarm", "receipts", "run", "ports", "lib"].map(|m| format!("node/src/{m}.rs"));
            let mut all: Vec<Source> = others.iter().filter(|o| *o != path).map(|o| Source::new(o, "")).collect();
            all.push(Source::new(path, text));
            star(&all)
        };
        assert!(of("node/src/run.rs", "use crate::{swarm, receipts};").is_empty());
        assert!(of("node/src/swarm.rs", "use crate::ports::Shelf;").is_empty());
        assert_eq!(of("node/src/swarm.rs", "use crate::receipts::Receipts;").len(), 1);
        assert_eq!(of("node/src/swarm/streams.rs", "use crate::receipts::Receipts;").len(), 1);
        assert_eq!(of("node/src/ports.rs", "use super::swarm;").len(), 1);
        assert_eq!(of("node/src/receipts.rs", "use crate::run;").len(), 1);
    }

    #[test]
    fn a_circle_is_found_however_long_it_is() {
        let of = |a: &str, b: &str, c: &str| {
            circles(&files(&[("sim/src/a.rs", a), ("sim/src/b.rs", b), ("sim/src/c.rs", c), ("sim/src/a/d.rs", "use super::X;")]))
        };
        assert!(of("use crate::b::X; pub use crate::a::d::Y;", "use crate::c::X;", "").is_empty());
        assert_eq!(of("use crate::b::X;", "use crate::c::X;", "use crate::a::X;").len(), 1);
        assert_eq!(of("use crate::b::X;", "use super::a::X;", "").len(), 1);
        assert_eq!(of("use crate::b::X;", "use crate::a::d::X;", "").len(), 1, "through a child of the first");
    }

    #[test]
    fn a_file_that_nobody_declares_is_found() {
        let of = |lib: &str| dead_files(&files(&[("sim/src/lib.rs", lib), ("sim/src/a.rs", "mod b;"), ("sim/src/a/b.rs", "")]));
        assert!(of("pub(crate) mod a;").is_empty());
        assert_eq!(of("// mod a;").len(), 1);
    }
}
