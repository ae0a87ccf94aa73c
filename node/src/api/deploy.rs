//! Making functions: of wasm code, of scripts, which an interpreter runs, and of WebAssembly text, which is assembled.

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use cid::Cid;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;
use timerose_content::Pin;
use timerose_core::failure::Failure;
use timerose_core::function::{About, Determinism, Entry, Function, Limits, WASM_COMMAND};
use timerose_core::record;
use timerose_engines::{CODE_MAX, SCRIPT_MEMORY, SOURCE_MAX, script};

use super::calls::{ask, parse_cid, read_file, show_function};
use super::error::{ApiError, Body};
use super::{Api, Shared};
use crate::ports::{AddHow, ContentRequest, EngineRequest};

/// The body of a deployment: the code's CID, the language that it is written in unless it is wasm, and the manifest but for
/// it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeployBody {
    code: String,
    #[serde(default)]
    language: Option<String>,
    #[serde(default)]
    manifest: Option<ManifestBody>,
}

/// A manifest as people write it.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestBody {
    #[serde(default)]
    engine: Option<String>,
    #[serde(default)]
    entries: Vec<Entry>,
    #[serde(default)]
    determinism: Determinism,
    #[serde(default)]
    limits: LimitsBody,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    mounts: BTreeMap<String, String>,
    #[serde(default)]
    about: About,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsBody {
    memory: Option<u64>,
    timeout_ms: Option<u64>,
    output: Option<u64>,
    fuel: Option<u64>,
}

/// `POST /v1/deploy`
pub(super) async fn deploy(State(api): Shared, Body(body): Body<DeployBody>) -> Result<Json<Value>, ApiError> {
    let mut code = parse_cid(&body.code)?;
    let mut manifest = body.manifest.unwrap_or_default();
    if let Some(language) = &body.language {
        code = code_of(&api, language, code, &mut manifest).await?;
    }
    let bytes = read_file(&api, code, CODE_MAX).await?;
    let described = ask(&api.ports.engine, |answer| EngineRequest::Describe { code: bytes.clone(), answer }).await;
    // A full manifest may stand for code that does not describe itself.
    let (engine, entries) = match (described, &manifest.engine) {
        (Ok(described), _) => described,
        (Err(_), Some(_)) if !manifest.entries.is_empty() => Default::default(),
        (Err(error), _) => return Err(error),
    };
    let mut mounts = BTreeMap::new();
    for (path, root) in &manifest.mounts {
        mounts.insert(path.clone(), parse_cid(root)?);
    }
    let (given, usual) = (manifest.limits, Limits::default());
    let function = Arc::new(Function {
        engine: manifest.engine.unwrap_or(engine),
        code,
        entries: if manifest.entries.is_empty() { entries } else { manifest.entries },
        determinism: manifest.determinism,
        limits: Limits {
            memory: given.memory.unwrap_or(usual.memory),
            timeout_ms: given.timeout_ms.unwrap_or(usual.timeout_ms),
            output: given.output.unwrap_or(usual.output),
            fuel: given.fuel,
        },
        args: manifest.args,
        env: manifest.env,
        mounts,
        about: manifest.about,
    });
    ask(&api.ports.engine, |answer| EngineRequest::Check { function: function.clone(), code: bytes, answer }).await?;
    function.check()?;
    let block = Bytes::from(record::encode(&*function));
    if block.len() > <Function as record::Record>::MAX_BYTES {
        return Err(Failure::Rejected { finding: "a manifest of over 64 KiB".into() }.into());
    }
    let cid = ask(&api.ports.content, |answer| ContentRequest::Put { block, answer }).await?;
    // What is here of it stays; its mounts may be large and lie elsewhere.
    let pin = Pin { partial: true, name: function.about.name.clone(), ..Pin::recursive(cid) };
    ask(&api.ports.content, |answer| ContentRequest::Pin { pin, answer }).await?;
    Ok(Json(show_function(&cid, &function)))
}

/// The language whose text is assembled instead of interpreted.
const WAT: &str = "wat";

const MADE_HINT: &str = "leave engine, entries and args out: they follow from the script";
const INTERPRETER_HINT: &str =
    "scripts/interpreters gets it; then deploy the script again, or `timerose add` the file on any node of the mesh";

/// Gives the code that text of this language stands for, and completes its manifest.
///
/// # Errors
/// The text is not fit, the manifest says what follows from the text, or the interpreter is not to be had.
async fn code_of(api: &Api, language: &str, source: Cid, manifest: &mut ManifestBody) -> Result<Cid, ApiError> {
    let text = read_file(api, source, SOURCE_MAX).await?;
    manifest.about.source = Some(source);
    if language == WAT {
        return keep(api, assemble(text).await?).await;
    }
    if manifest.engine.is_some() || !manifest.entries.is_empty() || !manifest.args.is_empty() {
        return Err(ApiError::usage("the manifest of a script says what follows from the script", MADE_HINT));
    }
    let memory = *manifest.limits.memory.get_or_insert(SCRIPT_MEMORY);
    let made = script(language, source, &text, memory)?;
    let asked = |answer| ContentRequest::Resolve { root: made.interpreter, path: String::new(), answer };
    ask(&api.ports.content, asked).await.map_err(|e| e.with_hint(INTERPRETER_HINT))?;
    for file in &made.files {
        keep(api, Bytes::from_static(file.as_bytes())).await?;
    }
    manifest.engine = Some(WASM_COMMAND.into());
    manifest.entries = made.entries;
    manifest.args = made.args;
    manifest.mounts.extend(made.mounts.iter().map(|(path, cid)| (path.clone(), cid.to_string())));
    Ok(made.interpreter)
}

async fn assemble(text: Bytes) -> Result<Bytes, ApiError> {
    let assembled = tokio::task::spawn_blocking(move || wat::parse_bytes(&text).map(|code| Bytes::from(code.into_owned())));
    let assembled = assembled.await.map_err(|_| ApiError::ending())?;
    Ok(assembled.map_err(|e| Failure::Rejected { finding: format!("the text is no WebAssembly: {e}") })?)
}

/// Keeps a file here.
async fn keep(api: &Api, bytes: Bytes) -> Result<Cid, ApiError> {
    let source = Box::new(Cursor::new(bytes));
    let added = |answer| ContentRequest::Add { source, how: AddHow::unpinned(), answer };
    Ok(ask(&api.ports.content, added).await?.cid)
}
