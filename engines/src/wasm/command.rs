//! Runs of `wasm-command` code: a WASI preview 1 program with standard input, arguments and read-only mounts.

use std::sync::Arc;

use timerose_core::failure::Failure;
use timerose_core::task::{Arg, INLINE_MAX};

use super::meter::{self, Meter, Metered, Stop};
use super::modules::Loaded;
use super::wasi::{Command, Source};
use crate::module::START;
use crate::{Cancel, Exit, Host, Work, read_exact};

/// The program's own name, `argv[0]`, where the manifest gives none.
const NAME: &str = "main";

/// Runs the program in an instance of its own.
pub(super) fn run(program: &Loaded<Command>, work: &Work, host: &Arc<dyn Host>, cancel: &Cancel) -> Result<Exit, Failure> {
    let function = &*work.function;
    let stdin = match work.args.first() {
        Some(Arg::Link(cid)) => Source::Content { cid: *cid, size: host.size(cid)? },
        Some(Arg::Inline(bytes)) => Source::Inline(bytes.clone()),
        None => Source::Inline(Vec::new()),
    };
    let name = if function.about.name.is_empty() || function.about.name.contains('\0') { NAME } else { &function.about.name };
    let mut argv = vec![name.to_string()];
    for (index, arg) in work.args.iter().enumerate().skip(1) {
        argv.push(argument(index, arg, &**host)?);
    }
    let input = stdin.size() + argv.iter().skip(1).map(|arg| arg.len() as u64).sum::<u64>();
    let env = function.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut command = Command::new(host.clone(), &work.task, Meter::new(&function.limits, cancel));
    command.args = argv;
    command.env = env;
    command.open(stdin, &function.mounts)?;
    // Reading is over: the program's time starts here.
    *command.meter() = Meter::new(&function.limits, cancel);

    let engine = program.pre.module().engine();
    let mut store = meter::store(engine, command).map_err(|e| Failure::NodeFailed { what: format!("a wasm store: {e:#}") })?;
    let ended = program
        .pre
        .instantiate(&mut store)
        .and_then(|instance| instance.get_typed_func::<(), ()>(&mut store, START))
        .and_then(|start| start.call(&mut store, ()));
    let mut command = store.into_data();
    match ended {
        Err(error) if !matches!(error.downcast_ref(), Some(Stop::Exit(0))) => {
            let said = std::mem::take(&mut command.stderr);
            Err(command.meter().failure(&error, &said))
        }
        _ => Ok(Exit { run_us: command.meter().run_us(), memory: command.meter().peak(), input, output: command.stdout }),
    }
}

/// An argument as text: given inline, or as a small file.
fn argument(index: usize, arg: &Arg, host: &dyn Host) -> Result<String, Failure> {
    let wrong = |got: &str| Failure::BadArgument {
        index: u32::try_from(index).unwrap_or(u32::MAX),
        wanted: format!("at most {INLINE_MAX} bytes of UTF-8 text without zeros"),
        got: got.to_string(),
    };
    let bytes = match arg {
        Arg::Inline(bytes) => bytes.clone(),
        Arg::Link(cid) => {
            let size = host.size(cid)?;
            if size > INLINE_MAX as u64 {
                return Err(wrong(&format!("a file of {size} bytes")));
            }
            let mut bytes = vec![0; size as usize];
            read_exact(host, cid, 0, &mut bytes)?;
            bytes
        }
    };
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        Ok(_) => Err(wrong("text with a zero byte")),
        Err(_) => Err(wrong("bytes that are not UTF-8")),
    }
}
