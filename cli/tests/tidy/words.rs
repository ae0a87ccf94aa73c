//! Words that have no place in a file, and files that have no place in the project.

use crate::paths::{in_tests, mentions};
use crate::source::{Source, find_word, is_word};

/// The largest file that is kept in the repository, in bytes.
pub const FILE_BYTES: u64 = 1 << 20;

/// What the core may not name, with the reason.
const NOT_IN_CORE: &[(&str, &str)] = &[
    ("std", "the core has no world: take what is needed as an Input, and ask for it by an Output"),
    ("f32", "floats differ between machines and break ties by chance: use integers"),
    ("f64", "floats differ between machines and break ties by chance: use integers"),
    ("HashMap", "its order differs from run to run: use BTreeMap"),
    ("HashSet", "its order differs from run to run: use BTreeSet"),
];

/// Marks of unfinished work. In two parts, so that this file does not break its own rule.
const MARKS: &[(&str, &str)] = &[("TO", "DO"), ("FIX", "ME"), ("XX", "X")];
/// Macros that are left behind.
const MACROS: &[&str] = &["todo", "unimplemented", "dbg"];
/// Hosts of package registries: packages are asked for by name, and the client knows where.
const HOSTS: &[(&str, &str)] = &[
    ("crates", ".io"),
    ("npmjs", ".org"),
    ("npmjs", ".com"),
    ("yarnpkg", ".com"),
    ("pypi", ".org"),
    ("deb.debian", ".org"),
    ("archive.ubuntu", ".com"),
    ("docker", ".io"),
    ("ghcr", ".io"),
    ("proxy.golang", ".org"),
    ("static.rust-lang", ".org"),
];
/// Where people keep their checkouts: such a path is right on one machine only.
const HOMES: &[(&str, &str)] = &[("/wo", "rk/"), ("/ro", "ot/"), ("/ho", "me/"), ("/Us", "ers/")];

fn rust(sources: &[Source]) -> impl Iterator<Item = &Source> {
    sources.iter().filter(|s| s.is(&["rs"]))
}

/// The core names neither the standard library nor anything whose value depends on the machine.
pub fn core_purity(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for file in rust(sources).filter(|s| s.path.starts_with("core/src/")) {
        if file.path == "core/src/lib.rs" && !file.code.contains("#![no_std]") {
            found.push(format!("{}: the core is `#![no_std]`", file.path));
        }
        for (word, reason) in NOT_IN_CORE {
            found.extend(find_word(&file.code, word).iter().map(|at| format!("{}: {word}: {reason}", file.place(*at))));
        }
    }
    found
}

/// `Verified::assume` skips the check of a signature: only the simulator and tests may.
pub fn assume(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for file in rust(sources).filter(|s| !s.path.starts_with("sim/") && !s.is_test()) {
        let uses = find_word(&file.code, "assume").into_iter().filter(|at| file.code[..*at].ends_with("::"));
        for at in uses.filter(|at| !in_tests(&file.code, *at)) {
            found.push(format!("{}: `assume` skips a signature's check: use record::open", file.place(at)));
        }
    }
    found
}

/// Arguments and the environment are read by the command line alone; everybody else is told.
pub fn environment(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    // Cargo tells a build script by the environment where to write.
    let built = |s: &Source| s.path.ends_with("/build.rs");
    let told = |s: &&Source| !s.is_test() && !built(s) && !s.path.starts_with("cli/") && !s.path.starts_with("guests/");
    for file in rust(sources).filter(told) {
        let reads = mentions(&file.code, "std").into_iter().filter(|(_, path)| path.first().is_some_and(|p| p == "env"));
        for (at, _) in reads.filter(|(at, _)| !in_tests(&file.code, *at)) {
            found.push(format!("{}: only cli reads the environment: take it as an argument", file.place(at)));
        }
    }
    found
}

/// What is here is finished.
pub fn unfinished(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for file in sources {
        for (a, b) in MARKS {
            let mark = format!("{a}{b}");
            let places = find_word(&file.text, &mark).into_iter();
            found.extend(places.map(|at| format!("{}: {mark}: do it now, or open an issue and leave no mark", file.place(at))));
        }
        for name in MACROS.iter().filter(|_| file.is(&["rs"])) {
            let places = find_word(&file.code, name).into_iter().filter(|at| file.code[at + name.len()..].starts_with('!'));
            found.extend(places.map(|at| format!("{}: {name}! is left behind: finish it or take it out", file.place(at))));
        }
    }
    found
}

/// Nothing names a registry's host or a path of one machine.
pub fn elsewhere(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for file in sources {
        for (a, b) in HOSTS {
            let host = format!("{a}{b}");
            let places = find_word(&file.text, &host).into_iter();
            found.extend(places.map(|at| format!("{}: {host}: name the package, not the registry", file.place(at))));
        }
        for (a, b) in HOMES {
            let home = format!("{a}{b}");
            let begins = |at: &usize| *at == 0 || !is_path(file.text.as_bytes()[at - 1]);
            let places = file.text.match_indices(&home).map(|(at, _)| at).filter(begins);
            found.extend(places.map(|at| format!("{}: {home} is a path of one machine: make it relative", file.place(at))));
        }
    }
    found
}

/// Whether a byte is part of a path, so that what follows it is not the path's beginning.
fn is_path(byte: u8) -> bool {
    is_word(byte) || matches!(byte, b'.' | b'-' | b'/' | b'~' | b'}' | b'$' | b'*')
}

/// What is kept in the repository is small, and leaves the choice of a toolchain to the user.
pub fn kept_files(files: &[(String, u64)]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, bytes) in files {
        if *bytes > FILE_BYTES {
            found.push(format!("{path}: {bytes} bytes, over {FILE_BYTES}: build it or fetch it instead of keeping it"));
        }
        if path.rsplit('/').next().is_some_and(|name| name.starts_with("rust-toolchain")) {
            found.push(format!("{path}: no toolchain file: rust-version in Cargo.toml says what is needed"));
        }
    }
    found
}

mod tests {
    use super::*;

    fn caught(rule: fn(&[Source]) -> Vec<String>, path: &str, text: &str) -> usize {
        rule(&[Source::new(path, text)]).len()
    }

    #[test]
    fn the_world_in_the_core_is_found() {
        assert_eq!(caught(core_purity, "core/src/a.rs", "use core::fmt; // std::fs, f64\nlet x = \"std\";"), 0);
        for text in ["use std::fs;", "let x: f64;", "1.0_f32; f32", "use hashbrown::HashMap;", "HashSet::new()"] {
            assert_eq!(caught(core_purity, "core/src/a.rs", text), 1, "{text}");
            assert_eq!(caught(core_purity, "node/src/a.rs", text), 0, "{text}");
        }
        assert_eq!(caught(core_purity, "core/src/lib.rs", "//! Decides.\n#![no_std]"), 0);
        assert_eq!(caught(core_purity, "core/src/lib.rs", "// #![no_std]"), 1);
    }

    #[test]
    fn an_assumed_signature_is_found() {
        for text in ["Verified::assume(x)", "Verified::<Advert>::assume(x)", "map(Verified::assume)"] {
            assert_eq!(caught(assume, "node/src/a.rs", text), 1, "{text}");
            assert_eq!(caught(assume, "sim/src/a.rs", text), 0, "{text}");
            assert_eq!(caught(assume, "core/tests/a.rs", text), 0, "{text}");
            assert_eq!(caught(assume, "core/src/a.rs", &format!("mod tests {{ {text} }}")), 0, "{text}");
        }
        assert_eq!(caught(assume, "core/src/record.rs", "pub fn assume(value: R) -> Self"), 0);
    }

    #[test]
    fn a_read_of_the_environment_is_found() {
        for text in ["std::env::var(\"A\")", "use std::{env, fs};", "use std::env::args;"] {
            assert_eq!(caught(environment, "node/src/a.rs", text), 1, "{text}");
            assert_eq!(caught(environment, "cli/src/a.rs", text), 0, "{text}");
            assert_eq!(caught(environment, "node/src/a.rs", &format!("mod tests {{ {text} }}")), 0, "{text}");
        }
        assert_eq!(caught(environment, "node/src/a.rs", "env!(\"A\")"), 0);
    }

    #[test]
    fn a_mark_of_unfinished_work_is_found() {
        for (a, b) in MARKS {
            assert_eq!(caught(unfinished, "docs/a.md", &format!("# {a}{b}: more")), 1);
        }
        for name in MACROS {
            assert_eq!(caught(unfinished, "a.rs", &format!("{name}!()")), 1);
        }
        assert_eq!(caught(unfinished, "scripts/a", "mktemp -d target/a.XXXXXX; todo"), 0);
    }

    #[test]
    fn a_host_or_a_path_of_one_machine_is_found() {
        for (a, b) in HOSTS {
            assert_eq!(caught(elsewhere, "a.toml", &format!("https://{a}{b}/x")), 1);
        }
        for (a, b) in HOMES {
            assert_eq!(caught(elsewhere, "a.md", &format!("see {a}{b}x")), 1);
            assert_eq!(caught(elsewhere, "a.md", &format!("see my{a}{b}x and $X{a}{b}")), 0);
        }
    }

    #[test]
    fn a_large_file_and_a_toolchain_file_are_found() {
        let of = |path: &str, bytes| kept_files(&[(path.to_string(), bytes)]).len();
        assert_eq!(of("a.wasm", FILE_BYTES), 0);
        assert_eq!(of("a.wasm", FILE_BYTES + 1), 1);
        assert_eq!(of("rust-toolchain.toml", 10), 1);
    }
}
