//! The guests of this repository: what is committed is of these sources, and counts right.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use timerose_core::failure::Failure;
use timerose_core::function::{About, Determinism, Entry, Function, Limits, WASM_COMMAND, WASM_FAN};
use timerose_core::task::Arg;
use timerose_engines::{Engine, describe};

use crate::setup::*;

fn guests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests")
}

/// Where the built guests are: those that are committed, or fresh ones.
fn built() -> PathBuf {
    std::env::var_os("TIMEROSE_GUESTS").map_or_else(|| guests().join("built"), PathBuf::from)
}

fn guest(name: &str) -> Vec<u8> {
    let path = built().join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; guests/build.sh makes it", path.display()))
}

/// What a manifest file holds: a function but for its code.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    engine: String,
    determinism: Determinism,
    limits: Limits,
    entries: Vec<Entry>,
    about: About,
}

/// A guest as its manifest says.
fn deployed(setup: &mut Setup, manifest: &str, module: &str) -> Function {
    let text = fs::read_to_string(guests().join("wordcount").join(manifest)).expect("a manifest");
    let Manifest { engine, determinism, limits, entries, about } = toml::from_str(&text).expect("a valid manifest");
    let code = setup.content.file(guest(module));
    Function {
        engine,
        code,
        entries,
        determinism,
        limits,
        args: Vec::new(),
        env: BTreeMap::new(),
        mounts: BTreeMap::new(),
        about,
    }
}

fn fan_function(setup: &mut Setup) -> Function {
    deployed(setup, "fan.toml", "wordcount-fan.wasm")
}

fn command_function(setup: &mut Setup) -> Function {
    deployed(setup, "command.toml", "wordcount-command.wasm")
}

/// What counting comes to, in the plainest way.
fn naive(text: &[u8]) -> String {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for word in text.split(|byte| !byte.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        *counts.entry(String::from_utf8(word.to_ascii_lowercase()).unwrap()).or_default() += 1;
    }
    json(&counts)
}

fn json(counts: &BTreeMap<String, u64>) -> String {
    format!("{{{}}}", counts.iter().map(|(word, count)| format!("\"{word}\":{count}")).collect::<Vec<_>>().join(","))
}

/// Random bytes: sometimes text with few words, sometimes with many, sometimes noise.
fn random(rng: &mut fastrand::Rng) -> Vec<u8> {
    let alphabet: &[u8] = [&b"aA bB.9"[..], b"abcdefghijklmnopqrstuvwxyz     ", b"x ", b"\0\xff\xc3\xa4_zZ"][rng.usize(..4)];
    let noise = rng.u8(..4) == 0;
    (0..rng.usize(..3000)).map(|_| if noise { rng.u8(..) } else { alphabet[rng.usize(..alphabet.len())] }).collect()
}

#[test]
fn what_is_committed_is_of_these_sources() {
    let mut sources = vec![PathBuf::from("build.sh")];
    let mut folders = vec![PathBuf::from("wordcount")];
    while let Some(folder) = folders.pop() {
        for found in fs::read_dir(guests().join(&folder)).unwrap() {
            let path = folder.join(found.unwrap().file_name());
            let name = path.file_name().unwrap().to_str().unwrap();
            if guests().join(&path).is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") || name.starts_with("Cargo.") {
                sources.push(path);
            }
        }
    }
    sources.sort_by_key(|path| path.to_str().unwrap().to_string());
    let hashes: String = sources
        .iter()
        .map(|path| {
            let hash: String =
                Sha256::digest(fs::read(guests().join(path)).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{hash}  {}\n", path.display())
        })
        .collect();
    let committed = fs::read_to_string(guests().join("built/SOURCES.sha256")).unwrap();
    assert!(committed == hashes, "guests/built is stale: run guests/build.sh and commit what it writes\n{committed}\n{hashes}");
}

#[test]
fn the_guests_fit_their_manifests() {
    let mut setup = Setup::new();
    let (fan, command) = (fan_function(&mut setup), command_function(&mut setup));
    assert_eq!(setup.engine.check(&fan, &guest("wordcount-fan.wasm")), Ok(()));
    assert_eq!(setup.engine.check(&command, &guest("wordcount-command.wasm")), Ok(()));
    let (engine, entries) = describe(&guest("wordcount-fan.wasm")).unwrap();
    assert_eq!((engine, entries.iter().map(|e| e.name.as_str()).collect::<Vec<_>>()), (WASM_FAN, vec!["map", "reduce"]));
    assert_eq!(describe(&guest("wordcount-command.wasm")).unwrap().0, WASM_COMMAND);
}

#[test]
fn words_are_counted() {
    let mut setup = Setup::new();
    let (fan, command) = (fan_function(&mut setup), command_function(&mut setup));
    for (text, wanted) in [
        (&b""[..], "{}"),
        (b" \n\xff", "{}"),
        (b"a", r#"{"a":1}"#),
        (b"The cat. the CAT's 2nd", r#"{"2nd":1,"cat":2,"s":1,"the":2}"#),
        ("na\u{ef}ve".as_bytes(), r#"{"na":1,"ve":1}"#),
    ] {
        assert_eq!(String::from_utf8(setup.output(&work(fan.clone(), "map", vec![inline(text)]))).unwrap(), wanted);
        assert_eq!(String::from_utf8(setup.output(&work(command.clone(), "", vec![inline(text)]))).unwrap(), wanted);
    }
}

#[test]
fn counts_are_those_of_a_naive_counter_however_the_text_is_split() {
    let mut setup = Setup::new();
    let (fan, command) = (fan_function(&mut setup), command_function(&mut setup));
    let seed = 20_260_701;
    let mut rng = fastrand::Rng::with_seed(seed);
    for round in 0..60 {
        let parts: Vec<Vec<u8>> = (0..rng.usize(..6)).map(|_| random(&mut rng)).collect();
        let whole = parts.join(&b' ');
        let wanted = naive(&whole);
        let mut counts = Vec::new();
        for part in &parts {
            let count = setup.output(&work(fan.clone(), "map", vec![inline(part)]));
            assert_eq!(String::from_utf8(count.clone()).unwrap(), naive(part), "map, seed {seed}, round {round}");
            counts.push(inline(count));
        }
        let reduced = setup.output(&work(fan.clone(), "reduce", counts));
        assert_eq!(String::from_utf8(reduced).unwrap(), wanted, "reduce, seed {seed}, round {round}");
        let counted = setup.output(&work(command.clone(), "", vec![inline(&whole)]));
        assert_eq!(String::from_utf8(counted).unwrap(), wanted, "command, seed {seed}, round {round}");
    }
}

#[test]
fn a_large_text_is_counted_alike_by_both() {
    let mut setup = Setup::new();
    let mut rng = fastrand::Rng::with_seed(7);
    let mut text = Vec::new();
    while text.len() < 4 << 20 {
        // Skewed, as words are: few are frequent, many are rare.
        let rank = rng.u32(1..60_000) % rng.u32(1..60_000);
        text.extend_from_slice(format!("w{rank} ").as_bytes());
    }
    let wanted = naive(&text);
    let link = Arg::Link(setup.content.file(text));
    let (fan, command) = (fan_function(&mut setup), command_function(&mut setup));
    assert!(setup.output(&work(fan, "map", vec![link.clone()])) == wanted.as_bytes());
    assert!(setup.output(&work(command, "", vec![link])) == wanted.as_bytes());
}

#[test]
fn forged_counts_trap() {
    let mut setup = Setup::new();
    let fan = fan_function(&mut setup);
    let max = u64::MAX;
    for forged in [
        "",
        "{",
        "}",
        "{}}",
        "[]",
        "{ }",
        r#"{"a":1"#,
        r#"{"a":1,}"#,
        r#"{"a": 1}"#,
        r#"{"a":0}"#,
        r#"{"a":01}"#,
        r#"{"a":-1}"#,
        r#"{"a":}"#,
        r#"{"":1}"#,
        r#"{"A":1}"#,
        r#"{"b":1,"a":1}"#,
        r#"{"a":1,"a":1}"#,
        r#"{"a":1}{"a":1}"#,
        r#"{"a":18446744073709551616}"#,
        r#"{"a\n":1}"#,
    ] {
        let failure = setup.run(&work(fan.clone(), "reduce", vec![inline("{}"), inline(forged)])).expect_err(forged);
        assert!(matches!(failure, Failure::FunctionFailed { exit: 134, .. }), "{forged}: {failure:?}");
    }
    let full = inline(format!(r#"{{"a":{max}}}"#));
    assert_eq!(setup.output(&work(fan.clone(), "reduce", vec![full.clone()])), format!(r#"{{"a":{max}}}"#).as_bytes());
    assert!(matches!(setup.failure(&work(fan, "reduce", vec![full, inline(r#"{"a":1}"#)])), Failure::FunctionFailed { .. }));
}

#[test]
fn a_text_that_is_too_large_for_the_memory_goes_over_its_limit() {
    let mut setup = Setup::new();
    let mut fan = fan_function(&mut setup);
    fan.limits.memory = 4 << 20;
    let text = Arg::Link(setup.content.file("word ".repeat(400_000)));
    assert_eq!(setup.failure(&work(fan, "map", vec![text])), exceeded("memory", 4 << 20));
}
