//! Logs: what guests wrote to their standard error, by task. The last bytes of each, of the latest tasks.

use cid::Cid;
use serde_bytes::ByteBuf;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use timerose_core::span::{LOG_PART_MAX, Reply};

use super::Telemetry;

/// The bytes that are kept of one task's log: the last ones.
const LOG_MAX: usize = 64 * 1024;
/// The bytes of all logs together, and how many there may be; the oldest go.
const LOGS_BYTES_MAX: usize = 4 << 20;
const LOGS_MAX: usize = 256;
/// How long a log is kept after its last word.
const KEPT: Duration = Duration::from_secs(3600);

struct Log {
    task: Cid,
    trace: Option<[u8; 16]>,
    /// How many bytes came before those that are kept.
    gone: u64,
    bytes: VecDeque<u8>,
    ended: bool,
    last: Instant,
}

/// The latest logs, the oldest first.
#[derive(Default)]
pub(super) struct Logs {
    logs: VecDeque<Log>,
    bytes: usize,
}

/// The log of a run that said nothing.
pub(super) fn silence() -> Reply {
    Reply::Log { from: 0, bytes: ByteBuf::new(), behind: 0, ended: true }
}

impl Logs {
    /// Begins a task's log; that of an earlier run of it is replaced.
    fn begin(&mut self, now: Instant, task: Cid, trace: Option<[u8; 16]>) {
        if let Some(at) = self.logs.iter().position(|log| log.task == task) {
            self.remove(at);
        }
        while self.logs.front().is_some_and(|log| self.logs.len() >= LOGS_MAX || now.duration_since(log.last) > KEPT) {
            self.remove(0);
        }
        self.logs.push_back(Log { task, trace, gone: 0, bytes: VecDeque::new(), ended: false, last: now });
    }

    fn remove(&mut self, at: usize) {
        if let Some(log) = self.logs.remove(at) {
            self.bytes -= log.bytes.len();
        }
    }

    fn of(&mut self, task: &Cid) -> Option<&mut Log> {
        // It is among the latest.
        self.logs.iter_mut().rev().find(|log| log.task == *task)
    }

    fn say(&mut self, now: Instant, task: &Cid, words: &[u8]) {
        let Some(log) = self.of(task) else { return };
        log.last = now;
        let kept = &words[words.len().saturating_sub(LOG_MAX)..];
        let surplus = (log.bytes.len() + kept.len()).saturating_sub(LOG_MAX);
        log.gone += (words.len() - kept.len() + surplus) as u64;
        log.bytes.drain(..surplus);
        log.bytes.extend(kept);
        self.bytes = self.bytes + kept.len() - surplus;
        while self.bytes > LOGS_BYTES_MAX && self.logs.len() > 1 {
            self.remove(0);
        }
    }

    fn end(&mut self, task: &Cid) {
        if let Some(log) = self.of(task) {
            log.ended = true;
        }
    }

    /// A part of a log, by its task or its trace, from a byte on.
    pub fn part(&self, name: &[u8], from: u64) -> Option<Reply> {
        let is_it = |log: &&Log| log.trace.is_some_and(|trace| trace == name) || log.task.to_bytes() == name;
        let log = self.logs.iter().rev().find(is_it)?;
        let skip = (from.saturating_sub(log.gone) as usize).min(log.bytes.len());
        let bytes: Vec<u8> = log.bytes.iter().skip(skip).take(LOG_PART_MAX).copied().collect();
        let behind = (log.bytes.len() - skip - bytes.len()) as u64;
        let ended = log.ended;
        Some(Reply::Log { from: log.gone + skip as u64, bytes: ByteBuf::from(bytes), behind, ended })
    }
}

/// By which a run's guest is heard. Its log begins with its first word and ends with this.
pub(crate) struct Voice {
    telemetry: Telemetry,
    task: Cid,
    trace: Option<[u8; 16]>,
    spoke: AtomicBool,
}

impl Voice {
    pub(super) fn new(telemetry: Telemetry, task: Cid, trace: Option<[u8; 16]>) -> Voice {
        Voice { telemetry, task, trace, spoke: AtomicBool::new(false) }
    }

    /// The guest said this.
    pub fn say(&self, words: &[u8]) {
        let (now, mut logs) = (Instant::now(), self.telemetry.0.logs.lock());
        if !self.spoke.swap(true, Ordering::Relaxed) {
            logs.begin(now, self.task, self.trace);
        }
        logs.say(now, &self.task, words);
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        if *self.spoke.get_mut() {
            self.telemetry.0.logs.lock().end(&self.task);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use timerose_core::id::{RAW, cid_of};

    fn part(logs: &Logs, name: &[u8], from: u64) -> (u64, Vec<u8>, u64, bool) {
        match logs.part(name, from) {
            Some(Reply::Log { from, bytes, behind, ended }) => (from, bytes.into_vec(), behind, ended),
            other => panic!("no log: {other:?}"),
        }
    }

    #[test]
    fn a_log_is_read_in_parts_by_its_task_or_its_trace_and_keeps_its_last_bytes() {
        let telemetry = Telemetry::new(Instant::now(), Default::default());
        let (task, trace) = (cid_of(RAW, b"task"), [7; 16]);
        let voice = Voice::new(telemetry.clone(), task, Some(trace));
        voice.say(b"one ");
        voice.say(b"two");
        {
            let logs = telemetry.0.logs.lock();
            assert_eq!(part(&logs, &task.to_bytes(), 0), (0, b"one two".to_vec(), 0, false));
            assert_eq!(part(&logs, &trace, 4), (4, b"two".to_vec(), 0, false));
            assert_eq!(part(&logs, &trace, 99), (7, Vec::new(), 0, false), "no more yet");
            assert_eq!(logs.part(&[1; 16], 0), None);
        }
        voice.say(&vec![b'x'; LOG_MAX - 3]);
        drop(voice);
        let logs = telemetry.0.logs.lock();
        let (from, bytes, behind, ended) = part(&logs, &trace, 0);
        assert_eq!((from, &bytes[..4], ended), (4, &b"twox"[..], true));
        assert_eq!(bytes.len() as u64 + behind, LOG_MAX as u64);
    }

    #[test]
    fn logs_are_few_and_small_together() {
        let telemetry = Telemetry::new(Instant::now(), Default::default());
        for n in 0..LOGS_MAX as u32 + 100 {
            telemetry.voice(cid_of(RAW, &n.to_be_bytes()), None).say(&[b'x'; 30_000]);
        }
        let logs = telemetry.0.logs.lock();
        assert!(logs.logs.len() <= LOGS_MAX && logs.bytes <= LOGS_BYTES_MAX);
        assert_eq!(logs.bytes, logs.logs.iter().map(|log| log.bytes.len()).sum::<usize>());
    }
}
