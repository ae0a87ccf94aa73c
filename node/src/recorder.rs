//! Recording what the core is told, and replaying it: a fresh core that is told the same must decide the same.
//!
//! A file of frames: first the record `timerose/recording`, then a `timerose/turn` for every input. The recorder never
//! holds up the loop: where the disk is slower than the loop, the recording ends and the log says so.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use timerose_core::id::Now;
use timerose_core::io::{Input, Output};
use timerose_core::membership::NodeConfig;
use timerose_core::record;
use timerose_core::replay::{Recording, Replay, Turn, digest};

use crate::config::StartError;
use crate::frames;

/// Turns that wait to be written.
const QUEUE: usize = 4096;

/// Writes turns on a thread of its own.
pub(crate) struct Recorder {
    /// Closed before the thread is waited for.
    queue: Option<SyncSender<(Now, Input, Vec<Output>)>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Recorder {
    /// What was taken is written.
    fn drop(&mut self) {
        self.queue = None;
        // A thread that panicked has said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Recorder {
    /// Begins a recording; a file that is there already is written over.
    pub fn begin(path: &Path, config: &NodeConfig) -> Result<Recorder, StartError> {
        let fail = |why: std::io::Error| StartError::Data { path: path.to_path_buf(), why: why.to_string() };
        let mut file = File::create(path).map_err(fail)?;
        let mut bytes = Vec::new();
        frames::put(&mut bytes, &record::encode(&Recording { config: config.clone() }));
        file.write_all(&bytes).map_err(fail)?;
        let (queue, turns) = sync_channel::<(Now, Input, Vec<Output>)>(QUEUE);
        let shown = path.display().to_string();
        let thread = std::thread::spawn(move || {
            for (now, input, outputs) in turns {
                let turn = Turn { now, input, outputs: digest(&outputs) };
                bytes.clear();
                frames::put(&mut bytes, &record::encode(&turn));
                if let Err(why) = file.write_all(&bytes) {
                    return tracing::error!(%why, path = shown, "the recording has ended");
                }
            }
        });
        Ok(Recorder { queue: Some(queue), thread: Some(thread) })
    }

    /// Takes a turn; says whether the recording goes on.
    pub fn take(&self, now: Now, input: Input, outputs: Vec<Output>) -> bool {
        let taken = self.queue.as_ref().is_some_and(|queue| queue.try_send((now, input, outputs)).is_ok());
        if !taken {
            tracing::error!("the recording has ended: its file is too slow or full; what was written can be replayed");
        }
        taken
    }
}

/// What came of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Turns that were taken.
    pub turns: u64,
    /// The first turn upon which something else was decided, counted from 1: what it was told, and what was decided now.
    pub differs: Option<(u64, String)>,
}

/// Tells a fresh core what a recording holds.
///
/// # Errors
/// Why the file is no recording, in words.
pub fn replay(path: &Path) -> Result<Replayed, String> {
    let bytes = std::fs::read(path).map_err(|why| why.to_string())?;
    let found = frames::scan(&bytes, 0);
    let mut payloads = found.frames.iter();
    let first = payloads.next().ok_or("it is no recording")?;
    let recording: Recording = record::decode(first).map_err(|why| why.to_string())?;
    if found.damaged > 0 {
        return Err(format!("{} bytes within it are damaged", found.damaged));
    }
    let mut node = Replay::new(recording);
    let mut turns = 0;
    for payload in payloads {
        let turn: Turn = record::decode(payload).map_err(|why| why.to_string())?;
        turns += 1;
        let told = turn.clone();
        if let Err(decided) = node.turn(turn) {
            let differs = Some((turns, format!("upon {:?} it decides {decided:?}", told.input)));
            return Ok(Replayed { turns, differs });
        }
    }
    Ok(Replayed { turns, differs: None })
}
