//! `pin`, `repo gc`: what is kept, and letting go of the rest.

use serde_json::{Value, json};

use crate::args::{Gc, Pin};
use crate::client::{Client, Repeat};
use crate::error::CliError;
use crate::output::show;
use crate::progress;
use crate::text::{bytes, columns, text, url_part};

/// `timerose pin`
pub fn pin(client: &Client, command: &Pin) -> Result<(), CliError> {
    match command {
        Pin::Add(args) => {
            let mode = if args.direct { "direct" } else { "recursive" };
            let pin = |cid: &String| client.post("/v1/pins", &json!({"cid": cid, "mode": mode, "name": args.name}), Repeat::Safe);
            list(args.show.output, args.cids.iter().map(pin).collect())
        }
        Pin::Rm(args) => {
            list(args.show.output, args.cids.iter().map(|cid| client.delete(&format!("/v1/pins/{}", url_part(cid)))).collect())
        }
        Pin::Ls(args) => {
            let mut pins = Vec::new();
            let mut route = "/v1/pins".to_string();
            while let Some(page) = client.get(&route)?.as_array().filter(|page| !page.is_empty()) {
                route = format!("/v1/pins?after={}", text(&page[page.len() - 1]["cid"]));
                pins.extend(page.iter().filter(|pin| args.name.as_ref().is_none_or(|name| pin["name"] == json!(name))).cloned());
            }
            list(args.show.output, Ok(pins))
        }
    }
}

fn list(format: crate::args::Format, pins: Result<Vec<Value>, CliError>) -> Result<(), CliError> {
    let pins = json!(pins?);
    show(format, &pins, || {
        let row = |pin: &Value| {
            let partial = if pin["partial"] == json!(true) { " (what is here)" } else { "" };
            vec![text(&pin["cid"]), format!("{}{partial}", text(&pin["mode"])), text(&pin["name"])]
        };
        columns(&pins.as_array().into_iter().flatten().map(row).collect::<Vec<_>>())
    })
}

/// `timerose repo gc`
pub fn gc(client: &Client, args: &Gc) -> Result<(), CliError> {
    let bar = progress::blocks("collecting");
    let number = |value: &Value, name: &str| value[name].as_u64().unwrap_or(0);
    let collected = client.follow("/v1/repo/gc", &json!({"grace_s": args.grace.as_secs()}), Repeat::Safe, |_, event| {
        bar.set_position(number(event, "marked").max(number(event, "seen")));
    });
    bar.finish_and_clear();
    let report = collected?;
    show(args.show.output, &report, || {
        let (removed, kept) = (number(&report, "removed"), number(&report, "kept"));
        format!("{removed} blocks removed, {} freed, {kept} blocks kept", bytes(number(&report, "freed")))
    })
}
