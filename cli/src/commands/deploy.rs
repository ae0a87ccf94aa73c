//! `deploy`, `run`: a file becomes a function, whether it is a wasm module or the text of a script.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};

use super::call::{self, How};
use super::content::{Upload, upload};
use crate::args::{Deploy, Format, Run};
use crate::client::{Client, Repeat};
use crate::error::CliError;
use crate::output::{say, show};
use crate::text::text;

/// The languages of source text, by the ending of a file's name. Everything else is a wasm module.
const LANGUAGES: [(&str, &str); 4] = [("py", "python"), ("js", "javascript"), ("mjs", "javascript"), ("wat", "wat")];

/// `timerose deploy`
pub fn deploy(client: &Client, args: &Deploy) -> Result<(), CliError> {
    let function = make(client, &args.file, args.manifest.as_deref())?;
    show(args.show.output, &function, || text(&function["function"]))
}

/// `timerose run`
pub fn run(client: &Client, args: &Run) -> Result<(), CliError> {
    let function = make(client, &args.file, args.manifest.as_deref())?;
    let function = text(&function["function"]);
    say(&format!("function {function}"));
    let how = if args.with.show.output == Format::Table { How::Bytes } else { How::Cid };
    call::make(client, &function, &args.with, how)
}

/// Stores a file and makes a function of it; gives the function as the API shows it.
fn make(client: &Client, file: &Path, manifest: Option<&Path>) -> Result<Value, CliError> {
    let mut manifest = manifest.map_or(Ok(json!({})), read_manifest)?;
    let ending = file.extension().and_then(|ending| ending.to_str());
    let language = LANGUAGES.iter().find(|(known, _)| Some(*known) == ending).map(|(_, language)| *language);
    let code = upload(client, file, &Upload::unpinned())?;
    let Some(language) = language else {
        return client.post("/v1/deploy", &json!({"code": code["cid"], "manifest": manifest}), Repeat::Safe);
    };
    if manifest["about"]["name"].is_null() {
        manifest["about"]["name"] = file.file_stem().and_then(|name| name.to_str()).unwrap_or_default().into();
    }
    let body = json!({"code": code["cid"], "language": language, "manifest": manifest});
    match client.post("/v1/deploy", &body, Repeat::Safe) {
        Err(missing) if missing.code == "NotFound" => match interpreter(language) {
            Some(file) => {
                upload(client, &file, &Upload::unpinned())?;
                client.post("/v1/deploy", &body, Repeat::Safe)
            }
            None => Err(missing),
        },
        made => made,
    }
}

fn read_manifest(path: &Path) -> Result<Value, CliError> {
    let read = std::fs::read_to_string(path).map_err(|e| CliError::io(path.display(), e))?;
    let parsed = toml::from_str::<Value>(&read);
    parsed.map_err(|e| CliError::usage(format!("{}: {e}", path.display()), "docs/functions.md shows a manifest"))
}

/// The interpreter of a language where `scripts/interpreters` put it: in a folder beside that of this program.
pub fn interpreter(language: &str) -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let file = program.parent()?.parent()?.join("interpreters").join(format!("{language}.wasm"));
    file.is_file().then_some(file)
}
