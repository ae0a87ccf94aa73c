//! `dag export`, `dag import`: CAR archives.

use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use ureq::SendBody;

use super::content::copy;
use crate::args::{Dag, DagExport, DagImport};
use crate::client::Client;
use crate::error::CliError;
use crate::output::show;
use crate::progress::{stream, transfer};
use crate::text::{bytes, columns, url_part};

/// `timerose dag`
pub fn dag(client: &Client, command: &Dag) -> Result<(), CliError> {
    match command {
        Dag::Export(args) => export(client, args),
        Dag::Import(args) => import(client, args),
    }
}

fn export(client: &Client, args: &DagExport) -> Result<(), CliError> {
    let reader = client.read(&format!("/v1/dag/export/{}?car-version={}", url_part(&args.cid), args.car_version))?;
    let Some(to) = &args.to else {
        let (mut reader, mut stdout) = (reader, std::io::stdout().lock());
        copy(&mut reader, &mut stdout, CliError::stdout)?;
        return stdout.flush().map_err(|e| CliError::stdout(&e));
    };
    let failed = |e: &std::io::Error| CliError::io(to.display(), e);
    let mut file = File::create_new(to).map_err(|e| failed(&e))?;
    let bar = stream("exporting");
    let written = copy(&mut bar.wrap_read(reader), &mut file, failed);
    bar.finish_and_clear();
    let written = written.inspect_err(|_| drop(std::fs::remove_file(to)))?;
    let exported = json!({"to": to, "bytes": written});
    show(args.output, &exported, || format!("{} written to {}", bytes(written), to.display()))
}

fn import(client: &Client, args: &DagImport) -> Result<(), CliError> {
    let route = format!("/v1/dag/import?pin-roots={}", args.pin_roots);
    let mut sums: Vec<Value> = Vec::new();
    for path in &args.files {
        let (source, size): (Box<dyn Read + Send>, u64) = if path == Path::new("-") {
            (Box::new(std::io::stdin()), 0)
        } else {
            let file = File::open(path).map_err(|e| CliError::io(path.display(), e))?;
            let size = file.metadata().map_or(0, |meta| meta.len());
            (Box::new(file), size)
        };
        let bar = transfer("importing", size);
        let sent = client.upload(&route, "application/vnd.ipld.car", SendBody::from_owned_reader(bar.wrap_read(source)));
        bar.finish_and_clear();
        sums.push(sent?);
    }
    let roots: Vec<Value> = sums.iter().flat_map(|sum| sum["roots"].as_array().into_iter().flatten()).cloned().collect();
    let sum = |name: &str| sums.iter().map(|sum| sum[name].as_u64().unwrap_or(0)).sum::<u64>();
    let imported = json!({"roots": roots, "blocks": sum("blocks"), "bytes": sum("bytes")});
    show(args.show.output, &imported, || {
        let row = |root: &Value| vec![root["cid"].as_str().unwrap_or_default().to_string()];
        columns(&roots.iter().map(row).collect::<Vec<_>>())
    })?;
    match roots.iter().find_map(|root| Some((root["cid"].as_str()?, root["missing"].as_str()?))) {
        None => Ok(()),
        Some((root, missing)) => {
            let message = format!("{root} is not pinned, as {missing} below it was neither in the archive nor here");
            let hint = "timerose pin add fetches what is missing; --pin-roots=false takes in parts of DAGs";
            Err(CliError { code: "NotFound".into(), ..CliError::usage(message, hint) })
        }
    }
}
