//! Runs of `wasm-command` code: a WASI preview 1 program with standard input, arguments and read-only mounts; or a library
//! of the same kind, one function of which is called as a C program's `main` is.

use std::sync::Arc;

use timerose_core::failure::Failure;
use timerose_core::function::{Entry, Limits};
use timerose_core::record;
use timerose_core::task::{Arg, INLINE_MAX};
use wasmtime::{Instance, InstancePre, Store};

use super::meter::{self, Meter, Metered, Stop};
use super::modules::Loaded;
use super::wasi::{Command, Source};
use crate::module::{INITIALIZE, MALLOC, START};
use crate::{Cancel, Exit, Host, Work, read_exact};

/// The program's own name, `argv[0]`, where the manifest gives none.
const NAME: &str = "main";

/// Runs the program in an instance of its own.
pub(super) fn run(
    program: &Loaded<Command>,
    work: &Work,
    entry: &Entry,
    host: &Arc<dyn Host>,
    limits: &Limits,
    cancel: &Cancel,
) -> Result<Exit, Failure> {
    let function = &*work.function;
    let (stdin, behind) = if entry.joined {
        let parts: Result<_, _> = work.args.iter().map(|arg| source(arg, &**host)).collect();
        (Source::Joined(parts?), work.args.len())
    } else {
        let first = work.args.first().map(|arg| source(arg, &**host)).transpose()?;
        (first.unwrap_or(Source::Inline(Vec::new())), 1)
    };
    let name = if function.about.name.is_empty() || function.about.name.contains('\0') { NAME } else { &function.about.name };
    let mut argv = vec![name.to_string()];
    argv.extend(function.args.iter().chain(&entry.args).cloned());
    let own = argv.len();
    for (index, arg) in work.args.iter().enumerate().skip(behind) {
        argv.push(argument(index, arg, &**host)?);
    }
    let input = stdin.size() + argv.iter().skip(own).map(|arg| arg.len() as u64).sum::<u64>();
    let mut command = Command::new(host.clone(), &work.task, Meter::new(limits, cancel));
    command.args = argv;
    command.env = environment(work);
    command.open(stdin, &function.mounts)?;
    // Reading is over: the program's time starts here.
    *command.meter() = Meter::new(limits, cancel);

    let engine = program.pre.module().engine();
    let mut store = meter::store(engine, command).map_err(|e| Failure::NodeFailed { what: format!("a wasm store: {e:#}") })?;
    let ended = start(&program.pre, &mut store, entry.exported());
    let mut command = store.into_data();
    match ended {
        Err(error) if !matches!(error.downcast_ref(), Some(Stop::Exit(0))) => {
            let said = std::mem::take(&mut command.stderr);
            Err(command.meter().failure(&error, &said))
        }
        _ => Ok(Exit { run_us: command.meter().run_us(), memory: command.meter().peak(), input, output: command.stdout }),
    }
}

/// The manifest's environment, and who is running: the same for every run that may share a result.
fn environment(work: &Work) -> Vec<String> {
    let mut env = work.function.env.clone();
    env.insert("TIMEROSE_FUNCTION".into(), record::address(&*work.function).0.to_string());
    env.insert("TIMEROSE_TASK".into(), work.task.to_string());
    env.insert("TIMEROSE_TIMEOUT_MS".into(), work.function.limits.timeout_ms.to_string());
    env.iter().map(|(key, value)| format!("{key}={value}")).collect()
}

/// Starts the program, or calls `entry` of a library; returns when it has ended.
fn start(pre: &InstancePre<Command>, store: &mut Store<Command>, entry: &str) -> wasmtime::Result<()> {
    let instance = pre.instantiate(&mut *store)?;
    if entry == START {
        return instance.get_typed_func::<(), ()>(&mut *store, START)?.call(store, ());
    }
    if let Some(initialize) = instance.get_func(&mut *store, INITIALIZE) {
        initialize.typed::<(), ()>(&*store)?.call(&mut *store, ())?;
    }
    let (argc, argv) = place_arguments(&instance, store)?;
    match instance.get_typed_func::<(u32, u32), i32>(&mut *store, entry)?.call(store, (argc, argv))? {
        0 => Ok(()),
        exit => Err(Stop::Exit(exit).into()),
    }
}

/// Puts the arguments where the guest's own `malloc` says, as C's `main` takes them: a count, and an array of that many
/// pointers to text with a zero after it, with a null pointer as its end.
fn place_arguments(instance: &Instance, store: &mut Store<Command>) -> wasmtime::Result<(u32, u32)> {
    let args = std::mem::take(&mut store.data_mut().args);
    let pointers = (args.len() as u32 + 1) * 4;
    // At most 1024 arguments of 32 KiB, and a manifest: the sum fits.
    let bytes: u32 = args.iter().map(|arg| arg.len() as u32 + 1).sum();
    let argv = instance.get_typed_func::<u32, u32>(&mut *store, MALLOC)?.call(&mut *store, pointers + bytes)?;
    let mut block = Vec::with_capacity((pointers + bytes) as usize);
    let mut text = argv.wrapping_add(pointers);
    for arg in &args {
        block.extend(text.to_le_bytes());
        text = text.wrapping_add(arg.len() as u32 + 1);
    }
    block.extend([0; 4]);
    for arg in &args {
        block.extend(arg.as_bytes());
        block.push(0);
    }
    let memory = instance.get_memory(&mut *store, "memory").filter(|_| argv != 0);
    let placed = memory.and_then(|memory| memory.write(&mut *store, argv as usize, &block).ok());
    placed.ok_or_else(|| Stop::Broke("malloc gave no room for the arguments".into()))?;
    Ok((args.len() as u32, argv))
}

/// An argument as bytes that are read as they are wanted.
fn source(arg: &Arg, host: &dyn Host) -> Result<Source, Failure> {
    Ok(match arg {
        Arg::Link(cid) => Source::Content { cid: *cid, size: host.size(cid)? },
        Arg::Inline(bytes) => Source::Inline(bytes.clone()),
    })
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
