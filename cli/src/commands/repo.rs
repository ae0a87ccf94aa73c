//! `repo stat`, `repo verify`: what a node keeps on disk.

use serde_json::{Value, json};

use crate::args::{Format, Repo, Verify};
use crate::client::{Client, Repeat};
use crate::error::CliError;
use crate::output::show;
use crate::progress;
use crate::text::{bytes, columns, plain};

/// `timerose repo`
pub fn repo(client: &Client, command: &Repo) -> Result<(), CliError> {
    match command {
        Repo::Stat(show) => stat(client, show.output),
        Repo::Verify(args) => verify(client, args),
        Repo::Gc(args) => super::pin::gc(client, args),
    }
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or(0)
}

fn stat(client: &Client, format: Format) -> Result<(), CliError> {
    let stat = client.get("/v1/repo")?;
    show(format, &stat, || {
        let max = stat["max"].as_u64().map_or(String::new(), |max| format!(" of {}", bytes(max)));
        format!("{} blocks, {}{max}", number(&stat, "blocks"), bytes(number(&stat, "bytes")))
    })
}

fn verify(client: &Client, args: &Verify) -> Result<(), CliError> {
    let bar = progress::blocks("checking");
    let checked = client.follow("/v1/repo/verify", &json!({"repair": args.repair}), Repeat::Safe, |_, event| {
        bar.set_length(number(event, "blocks"));
        bar.set_position(number(event, "checked"));
    });
    bar.finish_and_clear();
    let report = checked?;
    show(args.show.output, &report, || table(&report))?;
    match number(&report, "wrong") {
        0 => Ok(()),
        wrong => {
            let hint = if args.repair { "see above what to do" } else { "timerose repo verify --repair" };
            Err(CliError { code: "Corrupt".into(), ..CliError::usage(format!("{wrong} things are wrong"), hint) })
        }
    }
}

fn table(report: &Value) -> String {
    let sum = format!("{} blocks checked, {} are right", number(report, "blocks"), bytes(number(report, "bytes")));
    let findings = report["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    if findings.is_empty() {
        return sum;
    }
    let text = |value: &Value| value.as_str().map(plain).unwrap_or_else(|| "-".into());
    let mut rows = vec![["FAULT", "BLOCK", "FILE", "WHAT TO DO"].map(String::from).to_vec()];
    for finding in findings {
        let todo = if finding["repaired"] == json!(true) { "done".into() } else { text(&finding["hint"]) };
        rows.push(vec![text(&finding["fault"]), text(&finding["cid"]), text(&finding["path"]), todo]);
    }
    let more = number(report, "found") - findings.len() as u64;
    let rest = if more > 0 { format!("\n… and {more} more") } else { String::new() };
    format!("{}{rest}\n{sum}", columns(&rows))
}
