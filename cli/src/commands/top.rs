//! `top`: the nodes and the work that runs, as they are now.

use serde_json::{Value, json};
use std::io::IsTerminal;
use std::time::Duration;

use super::work::state;
use crate::args::Format;
use crate::client::Client;
use crate::error::CliError;
use crate::output::{line, redraw};
use crate::text::{columns, number, plain, text};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(1);
/// Pieces of work that are shown, at most; the rest is counted.
const WORK_SHOWN: usize = 20;

/// `timerose top`
pub fn top(client: &Client, format: Format) -> Result<(), CliError> {
    let terminal = std::io::stdout().is_terminal();
    loop {
        let now = look(client)?;
        match format {
            Format::Json => line(&now.to_string())?,
            Format::Table if terminal => redraw(&table(&now))?,
            Format::Table => return line(&table(&now)),
        }
        std::thread::sleep(EVERY);
    }
}

/// The members, with what the nodes of this folder say of themselves, and the work that these have open.
fn look(client: &Client) -> Result<Value, CliError> {
    let mut members = client.get("/v1/members")?;
    let mut works = Vec::new();
    for base in client.bases() {
        // One that goes away in the midst of this is shown as others are.
        if let Ok(Some(view)) = client.first_event(&base, "/v1/events")
            && let Some(me) = view["members"].as_array().into_iter().flatten().find(|member| member["self"] == json!(true))
        {
            let same = |member: &&mut Value| member["id"] == me["id"];
            if let Some(member) = members.as_array_mut().into_iter().flatten().find(same) {
                for name in ["slots_used", "work", "calls", "calls_waiting", "jobs", "runs"] {
                    member[name] = view[name].clone();
                }
            }
        }
        if let Ok(Value::Array(some)) = client.get_at(&base, "/v1/work") {
            works.extend(some.into_iter().filter(|work| work["state"] == "waiting" || work["state"] == "running"));
        }
    }
    Ok(json!({"nodes": members, "work": works}))
}

fn table(now: &Value) -> String {
    let mut rows =
        vec![["NODE", "REGION", "RTT", "SLOTS", "USED", "CALLS", "WAITING", "JOBS", "RUNS"].map(String::from).to_vec()];
    for node in now["nodes"].as_array().into_iter().flatten() {
        let id = text(&node["id"]);
        let rtt = match (&node["self"], node["rtt_us"].as_u64()) {
            (me, _) if *me == json!(true) => "here".into(),
            (_, Some(us)) => format!("{:.1} ms", us as f64 / 1000.0),
            (_, None) if node["left"] == json!(true) => "left".into(),
            (_, None) => "-".into(),
        };
        let told = ["slots", "slots_used", "calls", "calls_waiting", "jobs", "runs"].map(|name| number(&node[name]));
        rows.push([vec![id, text(&node["region"]), rtt], told.to_vec()].concat());
    }
    let mut shown = columns(&rows);
    let works = now["work"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !works.is_empty() {
        let mut rows = vec![["WORK", "KIND", "STATE", "EXECUTOR"].map(String::from).to_vec()];
        for work in works.iter().take(WORK_SHOWN) {
            let executor = work["executor"].as_str().map_or("-".into(), plain);
            rows.push(vec![text(&work["handle"]), text(&work["kind"]), state(work), executor]);
        }
        shown = format!("{shown}\n\n{}", columns(&rows));
        if works.len() > WORK_SHOWN {
            shown.push_str(&format!("\n… and {} more", works.len() - WORK_SHOWN));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_other_folders_are_shown_without_what_they_do_not_tell() {
        let now = json!({"nodes": [
            {"id": "a", "self": true, "region": "north", "slots": 2, "slots_used": 1, "calls": 3, "calls_waiting": 0, "jobs": 0, "runs": 7},
            {"id": "b\u{1b}[2J", "region": "south", "slots": 4, "rtt_us": 1500},
        ], "work": [{"handle": "h", "kind": "call", "state": "running", "executor": "b"}]});
        expect_test::expect![[r#"
            NODE   REGION  RTT     SLOTS  USED  CALLS  WAITING  JOBS  RUNS
            a      north   here    2      1     3      0        0     7
            b�[2J  south   1.5 ms  4      -     -      -        -     -

            WORK  KIND  STATE    EXECUTOR
            h     call  running  b"#]]
        .assert_eq(&table(&now));
    }
}
