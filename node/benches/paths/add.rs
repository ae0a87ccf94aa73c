//! `add`: a file into the blockstore, against hashing it and against writing it with a sync.

use std::path::Path;
use timerose_content::Content;
use tokio::runtime::Runtime;

use crate::Settings;
use crate::machine::{self, MIB, timed};
use crate::report::{Better, Goal, Row};

/// The rows about adding.
pub fn rows(runtime: &Runtime, settings: &Settings) -> Vec<Row> {
    let folder = settings.folder("add");
    let file = folder.join("file");
    machine::random_file(&file, settings.size_mb * MIB);
    let size = settings.size_mb;
    let lower = Better::Lower;
    let slower = "the slower of sha256 on a core and dd fdatasync";
    let mut wall = Row::new(format!("add {size} MiB: wall"), "s", lower, Goal::Ratio(1.5), slower);
    let mut cpu = Row::new(format!("add {size} MiB: CPU"), "s", lower, Goal::Ratio(1.5), "sha256");
    let mut disk = Row::new(format!("add {size} MiB: wall, the disk alone"), "s", lower, Goal::Shown, "dd fdatasync");
    for round in 0..settings.rounds {
        let hash = machine::hash(&file).as_secs_f64();
        let dd = machine::dd(&file, &folder).as_secs_f64();
        let (took, used) = add(runtime, &file, &folder.join(format!("store-{round}")));
        wall.round(took, hash.max(dd));
        cpu.round(used, hash);
        disk.round(took, dd);
    }
    vec![wall, cpu, disk]
}

/// Adds a file to a new store: seconds until it is durable, and seconds of CPU.
pub fn add(runtime: &Runtime, file: &Path, store: &Path) -> (f64, f64) {
    let (content, _behaviour) = Content::open(store, runtime.handle()).expect("a store");
    let before = machine::cpu_seconds();
    let (added, took) = timed(|| content.add_path(file, &mut |_, _| {}));
    added.expect("added");
    (took.as_secs_f64(), machine::cpu_seconds() - before)
}
