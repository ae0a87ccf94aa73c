//! What is shown of a receipt: by the API, and by whoever checks one that lies in a file.

use serde_json::{Value, json};
use timerose_core::record::RecordError;
use timerose_core::task::{Arg, Usage};

use crate::keys::open_receipt;

/// Checks a receipt's proof, and gives all that it says as JSON. Needs nothing but the bytes.
///
/// # Errors
/// As [`open_receipt`].
pub fn verify_receipt(proof: &[u8]) -> Result<Value, RecordError> {
    let (cid, receipt) = open_receipt(proof)?;
    let arg = |arg: &Arg| match arg {
        Arg::Link(cid) => json!({"cid": cid.to_string()}),
        Arg::Inline(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => json!({"text": text}),
            Err(_) => json!({"bytes": bytes}),
        },
    };
    Ok(json!({
        "receipt": cid.to_string(),
        "executor": receipt.iss.to_string(),
        "task": receipt.ran.to_string(),
        "function": receipt.task.function.to_string(),
        "entry": receipt.task.entry,
        "args": receipt.task.args.iter().map(arg).collect::<Vec<_>>(),
        "result": receipt.out.as_ref().ok().map(|cid| cid.to_string()),
        "failure": receipt.out.as_ref().err(),
        "size": receipt.size,
        "usage": show_usage(&receipt.meta),
        "at_unix_ms": receipt.at,
        "verified": true,
    }))
}

/// What a run took.
pub(crate) fn show_usage(usage: &Usage) -> Value {
    json!({
        "run_us": usage.run_us,
        "fetch_us": usage.fetch_us,
        "fetched_bytes": usage.fetched,
        "input_bytes": usage.input,
        "memory_bytes": usage.memory,
    })
}
