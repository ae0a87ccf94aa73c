//! Progress on stderr: bars on a terminal, nothing elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::text::bytes;

/// A bar of bytes.
pub fn transfer(what: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    bar.set_style(style("{prefix} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}"));
    bar.set_prefix(what.to_string());
    bar
}

/// What comes in, where nobody knows how much it will be.
pub fn stream(what: &str) -> ProgressBar {
    let bar = ProgressBar::no_length();
    bar.set_style(style("{prefix} {bytes} {bytes_per_sec} {elapsed}"));
    bar.set_prefix(what.to_string());
    bar
}

/// A bar of blocks.
pub fn blocks(what: &str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    bar.set_style(style("{prefix} {bar:30} {pos}/{len} blocks {eta}"));
    bar.set_prefix(what.to_string());
    bar
}

/// A bar of a job's tasks, with each node's share.
pub fn job() -> ProgressBar {
    let bar = ProgressBar::new(0);
    bar.set_style(style("{bar:30} {pos}/{len} tasks {elapsed}  {msg}"));
    bar
}

/// Shows how far a job is.
pub fn update_job(bar: &ProgressBar, progress: &Value) {
    bar.set_length(progress["tasks"].as_u64().unwrap_or(0));
    bar.set_position(progress["done"].as_u64().unwrap_or(0));
    let share = |node: &Value| {
        let id = node["node"].as_str().unwrap_or_default();
        let end = id.get(id.len().saturating_sub(8)..).unwrap_or_default();
        format!("{end}:{}", node["tasks"])
    };
    let shares: Vec<String> = progress["nodes"].as_array().into_iter().flatten().map(share).collect();
    let moved = bytes(progress["fetched_bytes"].as_u64().unwrap_or(0));
    bar.set_message(format!("{} moved  {}", moved, shares.join(" ")));
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates stand in this file")
}
