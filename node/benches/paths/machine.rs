//! The machine: what it is, how busy it is, and what its disk and its hash function can do.

use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// Ticks of `/proc/self/stat` in a second: the same on every Linux.
const TICKS: f64 = 100.0;
/// Bytes in a MiB.
pub const MIB: u64 = 1 << 20;

/// One line: when, CPU, cores, memory, kernel, file system, load.
pub fn describe(dir: &Path) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
        line.map(|(_, value)| value.trim().to_string()).unwrap_or_default()
    };
    let info = read("/proc/cpuinfo");
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    let (cpu, sha) = (field(&info, "model name"), if info.contains(" sha_ni") { "with" } else { "without" });
    let kernel = read("/proc/sys/kernel/osrelease").trim().to_string();
    let memory: u64 = field(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
    let system = output(Command::new("df").arg("--output=fstype").arg(dir));
    let system = system.lines().last().unwrap_or_default();
    let date = output(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]));
    let gib = memory / (1 << 20);
    format!("{date}: {cpu}, {cores} cores, {sha} SHA extensions, {gib} GiB, Linux {kernel}, {system}; load before: {}", load())
}

/// Runnable tasks on average over 1, 5 and 15 minutes.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn output(command: &mut Command) -> String {
    let output = command.output().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string());
    output.unwrap_or_default()
}

/// CPU time of this process so far, in seconds.
pub fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    ticks as f64 / TICKS
}

/// How long something takes.
pub fn timed<T>(what: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    let result = what();
    (result, begin.elapsed())
}

/// A file of random bytes; another one each time.
pub fn random_file(path: &Path, bytes: u64) {
    let mut rng = fastrand::Rng::with_seed(seed());
    let mut file = fs::File::create(path).expect("a file");
    let mut left = bytes;
    let mut part = vec![0; MIB as usize];
    while left > 0 {
        let now = left.min(MIB) as usize;
        rng.fill(&mut part[..now]);
        std::io::Write::write_all(&mut file, &part[..now]).expect("written");
        left -= now as u64;
    }
    // What is measured later must not wait for this.
    file.sync_all().expect("synced");
}

/// A number that no earlier run began with.
pub fn seed() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// SHA-256 of a file's bytes, from memory, on this thread.
pub fn hash(path: &Path) -> Duration {
    let bytes = fs::read(path).expect("the file");
    timed(|| std::hint::black_box(Sha256::digest(&bytes))).1
}

/// `dd` with `conv=fdatasync` of a file into a new one in `dir`.
pub fn dd(source: &Path, dir: &Path) -> Duration {
    let target = dir.join("dd");
    let argument = |name: &str, path: &Path| format!("{name}={}", path.display());
    let mut command = Command::new("dd");
    command.args([&argument("if", source), &argument("of", &target), "bs=1M", "conv=fdatasync"]);
    let (status, took) = timed(|| command.stdout(Stdio::null()).stderr(Stdio::null()).status());
    assert!(status.is_ok_and(|status| status.success()), "dd works");
    fs::remove_file(&target).expect("it was written");
    took
}

/// An empty folder below `dir`. It is not removed before the run ends: for some minutes ext4 steps around inodes that were
/// freed, one by one, and whoever makes files next would pay for it.
pub fn folder(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    fs::create_dir_all(&path).expect("a folder");
    path
}
