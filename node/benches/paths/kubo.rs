//! What Kubo takes for the same work, for information: an old one (0.22), as that is the one that can be installed.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tokio::runtime::Runtime;

use crate::Settings;
use crate::add::add;
use crate::exchange::Source;
use crate::machine::{self, MIB, timed};
use crate::report::{Better, Goal, Row};

/// A Kubo that is told what to do by lines of JSON; peers/kubo.py says how. It ends with the rows.
struct Kubo {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    addr: String,
}

impl Drop for Kubo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Kubo {
    /// `None`: there is none.
    fn start(settings: &Settings, folder: &Path) -> Option<Kubo> {
        let peers = settings.peers.as_ref()?;
        let mut command = Command::new(peers.join("venv/bin/python"));
        command.arg(peers.join("kubo.py")).arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().ok()?;
        let (stdin, stdout) = (child.stdin.take()?, BufReader::new(child.stdout.take()?));
        let mut kubo = Kubo { child, stdin, stdout, addr: String::new() };
        let ready = kubo.line();
        let addr = ready["addrs"].as_array()?.iter().filter_map(Value::as_str).find(|addr| addr.contains("127.0.0.1/tcp/"))?;
        kubo.addr = if addr.contains("/p2p/") { addr.into() } else { format!("{addr}/p2p/{}", ready["peer"].as_str()?) };
        Some(kubo)
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).expect("JSON")
    }

    /// Has it do something: the answer, and the seconds until it came.
    fn tell(&mut self, told: &Value) -> (Value, f64) {
        let (answer, took) = timed(|| {
            writeln!(self.stdin, "{told}").expect("told");
            self.line()
        });
        assert!(answer.get("error").is_none(), "{told}: {answer}");
        (answer, took.as_secs_f64())
    }
}

/// The rows that show Kubo beside TimeRose.
pub fn rows(runtime: &Runtime, settings: &Settings) -> Vec<Row> {
    let folder = settings.folder("kubo");
    let size = settings.size_mb;
    let named = |what: &str| format!("{what} {size} MiB, beside Kubo");
    let add_row = |limit| Row::new(named("add"), "s", Better::Lower, Goal::Shown, limit);
    let exchange_row = |limit| Row::new(named("exchange"), "MiB/s", Better::Higher, Goal::Shown, limit);
    let start = |name| Kubo::start(settings, &folder.join(name));
    let (Some(mut one), Some(mut two)) = (start("one"), start("two")) else {
        eprintln!("   Kubo is not here: the rows about it are left out");
        let left_out = "left out: Kubo is not installed";
        return vec![add_row(left_out), exchange_row(left_out)];
    };
    two.tell(&json!({"do": "connect", "addr": one.addr}));
    let (mut added, mut exchanged) = (add_row("Kubo 0.22"), exchange_row("Kubo 0.22 to Kubo 0.22, with a copy as a file"));
    for round in 0..settings.rounds {
        // Another file each time, or Kubo would find that it has it.
        let file = folder.join(format!("file-{round}"));
        machine::random_file(&file, size * MIB);
        let (ours, _) = add(runtime, &file, &folder.join(format!("added-{round}")));
        let (answer, theirs) = one.tell(&json!({"do": "add", "path": file}));
        added.round(ours, theirs);
        let ours = runtime.block_on(async {
            Source::open(&folder.join(format!("source-{round}")), &file)
                .await
                .fetch(&folder.join(format!("copy-{round}")), size)
                .await
        });
        let (_, theirs) = two.tell(&json!({"do": "cat", "cid": answer["cid"]}));
        exchanged.round(size as f64 / ours, size as f64 / theirs);
        std::fs::remove_file(&file).expect("removed");
    }
    vec![added, exchanged]
}
