//! Logs: what a task's guest wrote to its standard error, from whichever node ran it.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::time::{Duration, Instant};
use timerose_core::span::{LOG_PART_MAX, Question, Reply};
use tokio::sync::OwnedSemaphorePermit;

use super::calls::parse_cid;
use super::error::ApiError;
use super::jobs::named;
use super::{Api, Shared, traces};

/// How often a log that is followed is asked for: the next pause is twice the last as long as nothing comes.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long a log is waited for that no node has.
const UNKNOWN_MAX: Duration = Duration::from_secs(600);
/// Parts of a log that one answer is put together of: as many as a node keeps.
const PARTS_MAX: usize = 64 * 1024 / LOG_PART_MAX + 1;

/// How a log is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    from: u64,
}

/// A part of a log: the node that has it, where the part begins, its bytes, how many follow, and whether the run has ended.
struct Part {
    node: String,
    from: u64,
    bytes: Vec<u8>,
    behind: u64,
    ended: bool,
}

/// The name of a log: a TaskId, or the id of its trace.
fn name_of(text: &str) -> Result<Vec<u8>, ApiError> {
    if text.len() == 32 {
        return Ok(traces::parse_trace(text)?.to_vec());
    }
    Ok(parse_cid(text)?.to_bytes())
}

/// `GET /v1/logs/TASK`: all that is kept of it; with `follow=true` as events, until the run has ended.
pub(super) async fn log(State(api): Shared, Path(task): Path<String>, Query(how): Query<How>) -> Result<Response, ApiError> {
    let of = name_of(&task)?;
    if how.follow {
        let place = api.events.place()?;
        let reader = Reader { api, of, task, from: how.from, pause: PAUSE, ended: false, known: Instant::now(), _place: place };
        let events = futures::stream::unfold(reader, |reader| reader.next());
        return Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response());
    }
    let mut whole: Option<Part> = None;
    for _ in 0..PARTS_MAX {
        let from = whole.as_ref().map_or(how.from, |part| part.from.saturating_add(part.bytes.len() as u64));
        let Some(part) = part(&api, &of, from).await? else { break };
        let more = part.behind > 0 && !part.bytes.is_empty();
        match &mut whole {
            None => whole = Some(part),
            Some(whole) => {
                whole.bytes.extend(part.bytes);
                whole.ended = part.ended;
            }
        }
        if !more {
            break;
        }
    }
    let part = whole.ok_or_else(|| ApiError::no_log(&task))?;
    Ok(Json(show(&task, &part)).into_response())
}

/// What follows of a log, if any node has it.
async fn part(api: &Api, of: &[u8], from: u64) -> Result<Option<Part>, ApiError> {
    let replies = api.client.inquire(Question::Log { of: of.to_vec().into(), from }).await?;
    Ok(replies.into_iter().find_map(|(node, reply)| match reply {
        Reply::Log { from, bytes, behind, ended } => {
            Some(Part { node: node.to_string(), from, bytes: bytes.into_vec(), behind, ended })
        }
        _ => None,
    }))
}

/// A guest writes bytes; what of them is no UTF-8 is shown as a replacement character.
fn show(task: &str, part: &Part) -> Value {
    let text = String::from_utf8_lossy(&part.bytes);
    json!({"of": task, "node": part.node, "from": part.from, "text": text, "ended": part.ended})
}

/// How many of the last bytes may be the beginning of a character whose end is still to come.
fn unfinished(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => bytes.len() - error.valid_up_to(),
        // A wrong byte hides what comes after it: at most three bytes can be the beginning of a character.
        Err(_) => (1..=3.min(bytes.len()))
            .rev()
            .find(|n| {
                std::str::from_utf8(&bytes[bytes.len() - n..]).is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none())
            })
            .unwrap_or(0),
        Ok(_) => 0,
    }
}

/// One who follows a log.
struct Reader {
    api: Api,
    of: Vec<u8>,
    task: String,
    from: u64,
    pause: Duration,
    ended: bool,
    /// When any node had it last.
    known: Instant,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    /// The next event: `log` as long as there are words, then `result`; nothing after that.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Reader)> {
        if self.ended {
            return None;
        }
        loop {
            let found = match part(&self.api, &self.of, self.from).await {
                Ok(found) => found,
                Err(error) => {
                    self.ended = true;
                    return Some((Ok(named("error", error.body())), self));
                }
            };
            if let Some(mut part) = found {
                self.known = Instant::now();
                let over = part.ended && part.behind == 0;
                if !over {
                    part.bytes.truncate(part.bytes.len() - unfinished(&part.bytes));
                }
                if !part.bytes.is_empty() {
                    self.from = part.from.saturating_add(part.bytes.len() as u64);
                    self.pause = PAUSE;
                    return Some((Ok(named("log", &show(&self.task, &part))), self));
                }
                if over {
                    self.ended = true;
                    return Some((Ok(named("result", &json!({"of": self.task, "node": part.node, "ended": true}))), self));
                }
            }
            if self.known.elapsed() > UNKNOWN_MAX {
                self.ended = true;
                return Some((Ok(named("error", ApiError::no_log(&self.task).body())), self));
            }
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_that_is_not_whole_yet_waits_for_its_end() {
        let text = "aé€😀".as_bytes();
        let waits: Vec<usize> = (0..=text.len()).map(|n| unfinished(&text[..n])).collect();
        assert_eq!(waits, [0, 0, 1, 0, 1, 2, 0, 1, 2, 3, 0]);
        assert_eq!(unfinished(b"\xffa\xe2\x82"), 2, "after a byte that is wrong");
        assert_eq!(unfinished(b"\xff\xff"), 0);
    }
}
