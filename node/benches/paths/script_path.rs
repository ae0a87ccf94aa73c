//! A warm call of a script's handler, against the same interpreter with a script that does nothing.

use std::path::Path;
use std::sync::Arc;
use timerose_content::Content;
use timerose_core::function::{About, Determinism, Function, Limits, WASM_COMMAND};
use timerose_core::task::Arg;
use timerose_engines::{Cancel, Engine, Host, SCRIPT_MEMORY, WasmEngine, Work, script};
use tokio::runtime::Runtime;

use crate::Settings;
use crate::engine_path::{Files, engine};
use crate::machine;
use crate::report::{Better, Goal, Row, median};

/// Calls of a round, each with an event of its own.
const CALLS: usize = 500;
/// What a warm call may take, in microseconds.
const WARM_US: f64 = 1_000.0;

/// A script that can be called.
struct Called<'a> {
    engine: &'a WasmEngine,
    host: Arc<dyn Host>,
    function: Arc<Function>,
}

impl<'a> Called<'a> {
    /// Deploys a script.
    fn new(engine: &'a WasmEngine, content: &Content, language: &str, text: &[u8]) -> Called<'a> {
        let source = content.add_bytes(text).expect("stored");
        let made = script(language, source, text, SCRIPT_MEMORY).expect("a script");
        for file in &made.files {
            content.add_bytes(file.as_bytes()).expect("stored");
        }
        let function = Arc::new(Function {
            engine: WASM_COMMAND.into(),
            code: made.interpreter,
            entries: made.entries,
            determinism: Determinism::Pure,
            limits: Limits { memory: SCRIPT_MEMORY, ..Limits::default() },
            args: made.args,
            env: Default::default(),
            mounts: made.mounts,
            about: About::default(),
        });
        Called { engine, host: Arc::new(Files::new(content.clone())), function }
    }

    /// Microseconds that half of the calls took at most.
    fn each(&self, rng: &mut fastrand::Rng) -> f64 {
        let events: Vec<Arg> =
            (0..CALLS).map(|_| Arg::Inline(format!(r#"{{"name": "{}"}}"#, rng.u64(..)).into_bytes())).collect();
        let call = |event| {
            let task = self.function.code;
            let work = Work { function: self.function.clone(), entry: String::new(), args: vec![event], task };
            let run = || self.engine.run(&work, &self.host, &Cancel::new()).expect("it runs");
            machine::timed(|| std::hint::black_box(run())).1.as_secs_f64() * 1e6
        };
        median(&events.into_iter().map(call).collect::<Vec<f64>>())
    }
}

/// The rows of scripts; none where the interpreters are not installed.
pub fn rows(runtime: &Runtime, settings: &Settings) -> Vec<Row> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let interpreters = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../interpreters");
    let folder = settings.folder("script");
    let (content, _behaviour) = Content::open(&folder.join("blocks"), runtime.handle()).expect("a store");
    let engine = engine(&folder, 2);
    let mut rows = Vec::new();
    for (language, handler) in [("python", "greet.py"), ("javascript", "greet.js")] {
        let Ok(code) = std::fs::read(interpreters.join(format!("{language}.wasm"))) else {
            eprintln!("   no {language}: scripts/interpreters installs it");
            continue;
        };
        content.add_bytes(&code).expect("stored");
        let text = std::fs::read(root.join("guests/scripts").join(handler)).expect("the example");
        let ours = Called::new(&engine, &content, language, &text);
        let limit = Called::new(&engine, &content, language, b"");
        let name = format!("script: {language}, a warm call of a handler, p50");
        let mut row = Row::new(name, "us", Better::Lower, Goal::Figure(WARM_US), "an empty script");
        let mut rng = fastrand::Rng::with_seed(machine::seed());
        // The first calls compile.
        ours.each(&mut rng);
        limit.each(&mut rng);
        for _ in 0..settings.rounds {
            row.round(ours.each(&mut rng), limit.each(&mut rng));
        }
        rows.push(row);
    }
    rows
}
