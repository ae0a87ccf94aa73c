//! `receipt`, `lineage`: who ran what, and what came of it.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use timerose_core::proof::Proof;
use timerose_core::record::Record;

use crate::args::{Lineage, Receipt, VerifyReceipt};
use crate::client::Client;
use crate::error::CliError;
use crate::output::{say, show};
use crate::text::{bytes, columns, plain, text, url_part};

/// Arguments of one result that are shown where not all are.
const SHOWN: usize = 3;
/// Steps from a result to its inputs that are shown; the API goes no further either.
const DEPTH_MAX: usize = 32;

/// `timerose receipt`
pub fn receipt(client: &Client, args: &Receipt) -> Result<(), CliError> {
    let of = args.of.as_deref().unwrap_or_default();
    let receipt = client.get(&format!("/v1/receipt/{}", url_part(of)))?;
    if let Some(path) = &args.export {
        let mut proof = Vec::new();
        let name = receipt["receipt"].as_str().unwrap_or_default();
        let read = client.read(&format!("/v1/proof/{name}"))?.read_to_end(&mut proof);
        read.map_err(|e| CliError::unavailable(format!("the node broke off: {e}"), "call again"))?;
        let written = File::create_new(path).and_then(|mut file| file.write_all(&proof));
        written.map_err(|e| CliError::io(path.display(), e))?;
        say(&format!("written to {}: timerose receipt verify checks it anywhere", path.display()));
    }
    show(args.show.output, &receipt, || show_receipt(&receipt))
}

/// `timerose receipt verify`
pub fn verify(args: &VerifyReceipt) -> Result<(), CliError> {
    let (max, mut proof) = (Proof::MAX_BYTES as u64, Vec::new());
    let read = File::open(&args.file).and_then(|file| file.take(max + 1).read_to_end(&mut proof));
    read.map_err(|e| CliError::io(args.file.display(), e))?;
    let receipt = timerose_node::verify_receipt(&proof).map_err(|why| {
        let hint = "do not believe it; ask a node for the receipt again: timerose receipt CID --export FILE";
        CliError { code: "NotProven".into(), ..CliError::usage(format!("{}: {why}", args.file.display()), hint) }
    })?;
    show(args.show.output, &receipt, || show_receipt(&receipt))
}

fn show_receipt(receipt: &Value) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for name in ["receipt", "executor", "task", "function", "entry", "result", "failure"] {
        rows.push(vec![name.into(), text(&receipt[name])]);
    }
    for arg in receipt["args"].as_array().into_iter().flatten() {
        let shown = arg["cid"].as_str().map(String::from).unwrap_or_else(|| arg.to_string());
        rows.push(vec!["argument".into(), plain(&shown)]);
    }
    let usage = &receipt["usage"];
    let count = |name: &str| bytes(usage[name].as_u64().unwrap_or(0));
    rows.push(vec!["run".into(), format!("{} µs", usage["run_us"])]);
    rows.push(vec!["memory".into(), count("memory_bytes")]);
    rows.push(vec!["read".into(), count("input_bytes")]);
    rows.push(vec!["fetched".into(), format!("{} in {} µs", count("fetched_bytes"), usage["fetch_us"])]);
    rows.push(vec!["signature".into(), format!("verified, by {}", text(&receipt["executor"]))]);
    rows.retain(|row| !row[1].is_empty());
    columns(&rows)
}

/// `timerose lineage`
pub fn lineage(client: &Client, args: &Lineage) -> Result<(), CliError> {
    let lineage = client.get(&format!("/v1/lineage/{}", url_part(&args.of)))?;
    show(args.show.output, &lineage, || {
        let mut tree = Tree { made: made(&lineage), shown: BTreeSet::new(), most: if args.all { usize::MAX } else { SHOWN } };
        let mut lines = vec![summary(&lineage)];
        match lineage["results"].get(0) {
            Some(first) if lineage["result"].is_null() => tree.step(&text(&first["failure"]), first, 0, &mut lines),
            _ => tree.result(&text(&lineage["result"]), 0, &mut lines),
        }
        lines.join("\n")
    })
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The steps by their results.
fn made(lineage: &Value) -> BTreeMap<String, &Value> {
    list(&lineage["results"]).iter().map(|step| (text(&step["result"]), step)).collect()
}

fn summary(lineage: &Value) -> String {
    let results = list(&lineage["results"]);
    let nodes: BTreeSet<String> = results.iter().map(|step| text(&step["executor"])).collect();
    let (inputs, results, nodes) = (list(&lineage["inputs"]).len(), results.len(), nodes.len());
    let more = if lineage["whole"] == Value::Bool(true) { "" } else { ", and more that was not followed" };
    let many = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    format!("{} of {} on {}{more}", many(results, "result"), many(inputs, "input"), many(nodes, "node"))
}

/// A lineage as it is drawn.
struct Tree<'a> {
    made: BTreeMap<String, &'a Value>,
    /// What stands above already.
    shown: BTreeSet<String>,
    most: usize,
}

impl Tree<'_> {
    fn result(&mut self, cid: &str, depth: usize, lines: &mut Vec<String>) {
        let indent = "  ".repeat(depth);
        match self.made.get(cid).copied() {
            None => lines.push(format!("{indent}{cid}  input")),
            Some(_) if !self.shown.insert(cid.to_string()) => lines.push(format!("{indent}{cid}  as above")),
            Some(step) => self.step(cid, step, depth, lines),
        }
    }

    /// A step, and below it what it was made of.
    fn step(&mut self, result: &str, step: &Value, depth: usize, lines: &mut Vec<String>) {
        let executor = text(&step["executor"]);
        // The last eight characters tell nodes apart on a screen.
        let node: String = executor.chars().skip(executor.chars().count().saturating_sub(8)).collect();
        let (indent, function) = ("  ".repeat(depth), text(&step["function"]));
        lines.push(format!("{indent}{result}  {} of {function} on {node}", text(&step["entry"])));
        if depth >= DEPTH_MAX {
            return;
        }
        let args = list(&step["args"]);
        for arg in args.iter().take(self.most) {
            match arg["cid"].as_str() {
                Some(cid) => self.result(&plain(cid), depth + 1, lines),
                None => lines.push(format!("{indent}  {} inline", bytes(arg["inline_bytes"].as_u64().unwrap_or(0)))),
            }
        }
        if args.len() > self.most {
            lines.push(format!("{indent}  … and {} more", args.len() - self.most));
        }
    }
}
