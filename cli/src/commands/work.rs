//! `wait`, `cancel`, `ps`: work that outlives the command that asked for it.

use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::content::cat;
use crate::args::{Cancel, Format, Wait};
use crate::client::{Client, Trouble};
use crate::error::CliError;
use crate::output::show;
use crate::text::{columns, plain, text, url_part};

/// How long one request waits at most, in milliseconds.
const ASK_MS: u64 = 30_000;
/// How long a node that went away may take to come back.
const GONE_WAIT: Duration = Duration::from_secs(60);
/// The pause before it is looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What the node that accepted the work says to a request. Only that one knows of it, and it may be on its way back.
fn of_its_node(client: &Client, mut ask: impl FnMut(&str) -> Result<Value, Trouble>) -> Result<Value, CliError> {
    let begin = Instant::now();
    loop {
        let mut refused = None;
        let mut gone = CliError::unavailable("the node that accepted the work does not answer", "start it again");
        for base in client.bases() {
            match ask(&base) {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Said(error)) => refused = Some(error),
                Err(Trouble::Gone(error)) => gone = error,
            }
        }
        match refused {
            Some(error) => return Err(error),
            None if begin.elapsed() > GONE_WAIT => return Err(gone),
            None => std::thread::sleep(LOOK_AGAIN),
        }
    }
}

/// `timerose wait`
pub fn wait(client: &Client, args: &Wait) -> Result<(), CliError> {
    let begin = Instant::now();
    let work = loop {
        let left_ms = args.timeout.saturating_sub(begin.elapsed()).as_millis() as u64;
        let asked = Instant::now();
        let path = |ms| format!("/v1/work/{}?wait_ms={ms}", url_part(&args.handle));
        // First who has it, then its end: the others are not waited for.
        let work = of_its_node(client, |base| {
            client.get_at(base, &path(0)).and_then(|_| client.get_at(base, &path(left_ms.min(ASK_MS))))
        })?;
        if ["done", "failed"].contains(&work["state"].as_str().unwrap_or_default()) {
            break work;
        }
        if left_ms == 0 {
            return Err(CliError {
                code: "DeadlineExceeded".into(),
                ..CliError::usage(
                    format!("the work is {} still", text(&work["state"])),
                    "wait longer with --timeout; the work goes on",
                )
            });
        }
        // A node with too many who wait answers at once.
        std::thread::sleep(LOOK_AGAIN.saturating_sub(asked.elapsed()));
    };
    if work["state"] == "failed" {
        return Err(CliError::from_api(&work["error"]));
    }
    if args.cat {
        return cat(client, work["result"].as_str().unwrap_or_default());
    }
    show(args.show.output, &work, || text(&work["result"]))
}

/// `timerose cancel`
pub fn cancel(client: &Client, args: &Cancel) -> Result<(), CliError> {
    let path = format!("/v1/work/{}/cancel", url_part(&args.handle));
    let work = of_its_node(client, |base| client.post_at(base, &path, &json!({})))?;
    show(args.show.output, &work, || state(&work))
}

/// How far work is, in one word.
pub fn state(work: &Value) -> String {
    match work["error"]["code"].as_str() {
        Some("Cancelled") => "cancelled".into(),
        Some(code) => format!("{}: {}", text(&work["state"]), plain(code)),
        None => text(&work["state"]),
    }
}

/// `timerose ps`
pub fn ps(client: &Client, format: Format) -> Result<(), CliError> {
    let mut works = Vec::new();
    for base in client.bases() {
        // One that went away a moment ago has nothing to show.
        if let Ok(Value::Array(some)) = client.get_at(&base, "/v1/work") {
            works.extend(some);
        }
    }
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    show(format, &json!(works), || {
        let mut rows = vec![["HANDLE", "KIND", "STATE", "AGE", "FUNCTION", "EXECUTOR"].map(String::from).to_vec()];
        for work in &works {
            let age = now_ms.saturating_sub(work["accepted_unix_ms"].as_u64().unwrap_or(now_ms));
            let function = [text(&work["function"]), text(&work["entry"])].join(" ");
            let executor = work["executor"].as_str().map_or("-".into(), plain);
            let cells = [text(&work["handle"]), text(&work["kind"]), state(work), since(age), function, executor];
            rows.push(cells.to_vec());
        }
        columns(&rows)
    })
}

/// A time as people read it.
fn since(ms: u64) -> String {
    match ms / 1000 {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m", s / 60),
        s => format!("{}h", s / 3600),
    }
}
