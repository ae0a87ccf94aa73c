//! `abi`, `call`, `mapreduce`: functions by CID.

use cid::Cid;
use serde_json::{Value, json};
use timerose_core::task::INLINE_MAX;

use super::content::{Upload, cat, upload};
use crate::args::{Abi, Call, Format, Mapreduce, With};
use crate::client::{Client, Repeat};
use crate::error::CliError;
use crate::output::{say, show};
use crate::progress;
use crate::text::{bytes, columns, plain, text, url_part};

/// `timerose abi`
pub fn abi(client: &Client, args: &Abi) -> Result<(), CliError> {
    let function = client.get(&format!("/v1/abi/{}", url_part(&args.function)))?;
    show(args.show.output, &function, || show_abi(&function))
}

fn show_abi(function: &Value) -> String {
    let about = &function["about"];
    let limits = &function["limits"];
    let words: Vec<String> = function["args"].as_array().into_iter().flatten().map(text).collect();
    let mut rows = vec![
        vec!["function".into(), text(&function["function"])],
        vec!["name".into(), text(&about["name"])],
        vec!["about".into(), text(&about["description"])],
        vec!["license".into(), text(&about["license"])],
        vec!["engine".into(), text(&function["engine"])],
        vec!["code".into(), text(&function["code"])],
        vec!["source".into(), text(&about["source"])],
        vec!["args".into(), words.join(" ")],
        vec!["results".into(), text(&function["determinism"])],
        vec![
            "limits".into(),
            format!(
                "{} memory, {} ms, {} output",
                bytes(limits["memory"].as_u64().unwrap_or(0)),
                limits["timeout_ms"],
                bytes(limits["output"].as_u64().unwrap_or(0))
            ),
        ],
    ];
    for (path, cid) in function["mounts"].as_object().into_iter().flatten() {
        rows.push(vec!["mount".into(), format!("{} {}", plain(path), text(cid))]);
    }
    for entry in function["entries"].as_array().into_iter().flatten() {
        let mut params: Vec<String> = Vec::new();
        for param in entry["params"].as_array().into_iter().flatten() {
            params.push(format!("{}: {}", text(&param["name"]), text(&param["type"])));
        }
        let more = if entry["variadic"] == json!(true) { "…" } else { "" };
        rows.push(vec![
            "entry".into(),
            format!("{}({}{more}) -> {}", text(&entry["name"]), params.join(", "), text(&entry["result"])),
        ]);
    }
    rows.retain(|row| !row[1].is_empty());
    columns(&rows)
}

/// An argument as it was typed: a CID, `@FILE`, or text.
fn argument(client: &Client, typed: &str) -> Result<Value, CliError> {
    if let Some(path) = typed.strip_prefix('@') {
        let read = std::fs::read(path).map_err(|e| CliError::io(path, e))?;
        // A small file travels along; a large one is added, and travels by its CID.
        if read.len() <= INLINE_MAX / 4 {
            return Ok(json!({"bytes": read}));
        }
        let added = upload(client, std::path::Path::new(path), &Upload::unpinned())?;
        return Ok(json!({"cid": added["cid"]}));
    }
    match typed.parse::<Cid>() {
        Ok(cid) => Ok(json!({"cid": cid.to_string()})),
        Err(_) => Ok(json!({"text": typed})),
    }
}

/// `timerose call`
pub fn call(client: &Client, args: &Call) -> Result<(), CliError> {
    let how = match (args.detach, args.cat) {
        (true, _) => How::Detached,
        (false, true) => How::Bytes,
        (false, false) => How::Cid,
    };
    make(client, &args.function, &args.with, how)
}

/// What is shown of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The result's CID.
    Cid,
    /// The result's bytes.
    Bytes,
    /// The handle, at once.
    Detached,
}

/// Makes a call.
pub fn make(client: &Client, function: &str, args: &With, how: How) -> Result<(), CliError> {
    let given: Result<Vec<Value>, CliError> = args.args.iter().map(|typed| argument(client, typed)).collect();
    let body = json!({
        "fn": function,
        "entry": args.entry,
        "args": given?,
        "timeout_ms": args.timeout.map(|timeout| timeout.as_millis() as u64),
        "memo": !args.no_memo,
        "seq": args.seq,
        "detach": how == How::Detached,
        "channel": args.channel.name(),
    });
    if how == How::Detached {
        client.outlives_us()?;
    }
    let answer = client.post("/v1/call", &body, Repeat::Unless(function))?;
    if how == How::Detached {
        return show(args.show.output, &answer, || text(&answer["handle"]));
    }
    if how == How::Bytes {
        return cat(client, answer["result"].as_str().unwrap_or_default());
    }
    if args.show.output == Format::Table {
        let ran = if answer["reused"] == json!(true) { "known from a run" } else { "ran" };
        say(&format!(
            "{ran} on {} in {} µs ({} µs in all)",
            text(&answer["executor"]),
            answer["usage"]["run_us"],
            answer["total_us"]
        ));
    }
    show(args.show.output, &answer, || text(&answer["result"]))
}

/// `timerose mapreduce`
pub fn mapreduce(client: &Client, args: &Mapreduce) -> Result<(), CliError> {
    let mut body = json!({
        "locality": !args.no_locality,
        "memo": !args.no_memo,
        "timeout_ms": args.timeout.map(|timeout| timeout.as_millis() as u64),
        "detach": args.detach,
    });
    match &args.resume {
        Some(job) => body["job"] = json!(job),
        None => {
            for (name, value) in [("fn", &args.function), ("dataset", &args.dataset)] {
                body[name] = json!(value);
            }
            (body["map"], body["reduce"]) = (json!(args.map), json!(args.reduce));
        }
    }
    // A job's functions have no effects: it may be asked for again through any node.
    if args.detach {
        client.outlives_us()?;
        let answer = client.post("/v1/mapreduce", &body, Repeat::Safe)?;
        return show(args.show.output, &answer, || text(&answer["handle"]));
    }
    let bar = progress::job();
    let mut known = Value::Null;
    let done = client.follow("/v1/mapreduce", &body, Repeat::Safe, |name, news| match name {
        "job" if known != news["job"] => {
            known = news["job"].clone();
            bar.suspend(|| say(&format!("job {}", text(&known))));
        }
        "job" => {}
        _ => progress::update_job(&bar, news),
    });
    bar.finish_and_clear();
    let done = done?;
    if args.show.output == Format::Table {
        say(&show_shares(&done));
        say(&format!(
            "{} tasks in {} ms, {} executed, {} moved",
            done["tasks"],
            done["total_ms"],
            done["executed"],
            bytes(done["fetched_bytes"].as_u64().unwrap_or(0))
        ));
    }
    show(args.show.output, &done, || text(&done["result"]))
}

fn show_shares(done: &Value) -> String {
    let mut rows = vec![vec!["NODE".into(), "REGION".into(), "TASKS".into(), "READ".into(), "FETCHED".into()]];
    for share in done["nodes"].as_array().into_iter().flatten() {
        rows.push(vec![
            text(&share["node"]),
            text(&share["region"]),
            share["tasks"].to_string(),
            bytes(share["input_bytes"].as_u64().unwrap_or(0)),
            bytes(share["fetched_bytes"].as_u64().unwrap_or(0)),
        ]);
    }
    columns(&rows)
}
