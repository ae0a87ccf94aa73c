//! WASI preview 1 for `wasm-command` programs: standard streams, arguments, environment, and read-only content.
//!
//! There is nothing ambient: no real clock, no entropy, no network, no file that the manifest does not mount. Calls that
//! would change a file answer `EROFS`; calls that are not here answer `ENOSYS`, so that a program which imports them but
//! does not depend on them still runs. Numbers and layouts are those of `wasi_snapshot_preview1.witx`.

mod codes;
mod files;
mod guest;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use cid::Cid;
use timerose_core::failure::Failure;
use wasmtime::{Caller, Engine, Extern, ExternType, Linker, Module, Val, ValType};

use super::meter::{LAST_WORDS, Meter, Metered, Stop};
use crate::Host;
use crate::module::WASI;
use codes::{Errno, Fault};
pub(super) use files::Source;
use files::{Files, Place};
use guest::Guest;
use world::World;

/// One running program and all that it can reach.
pub(super) struct Command {
    /// `argv`, with the program's name first.
    pub(super) args: Vec<String>,
    /// `KEY=VALUE` each.
    pub(super) env: Vec<String>,
    /// All that was written to standard output.
    pub(super) stdout: Vec<u8>,
    /// The end of what was written to standard error: [`LAST_WORDS`] bytes, or up to twice as many.
    pub(super) stderr: Vec<u8>,
    host: Arc<dyn Host>,
    meter: Meter,
    files: Files,
    world: World,
}

impl Metered for Command {
    fn meter(&mut self) -> &mut Meter {
        &mut self.meter
    }
}

impl Command {
    /// A program without arguments, environment or files; its clock and its randomness follow from `task`.
    pub(super) fn new(host: Arc<dyn Host>, task: &Cid, meter: Meter) -> Self {
        Command {
            args: Vec::new(),
            env: Vec::new(),
            stdout: Vec::new(),
            stderr: Vec::new(),
            meter,
            files: Files::new(host.clone()),
            host,
            world: World::of(task),
        }
    }

    /// Opens the standard streams and the mounts (guest path to root).
    pub(super) fn open(&mut self, stdin: Source, mounts: &BTreeMap<String, Cid>) -> Result<(), Failure> {
        self.files.open(&mut self.meter, stdin, mounts)
    }

    fn write_out(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.meter.check_output(self.stdout.len() as u64 + bytes.len() as u64)?;
        self.stdout.extend_from_slice(bytes);
        Ok(())
    }

    fn write_err(&mut self, bytes: &[u8]) {
        self.host.hear(bytes);
        self.stderr.extend_from_slice(&bytes[bytes.len().saturating_sub(LAST_WORDS)..]);
        if self.stderr.len() > 2 * LAST_WORDS {
            self.stderr.drain(..self.stderr.len() - LAST_WORDS);
        }
    }
}

/// Makes one call: `body` sees the guest's memory and its program.
fn call(
    mut caller: Caller<'_, Command>,
    body: impl FnOnce(&mut Guest<'_>, &mut Command) -> Result<(), Fault>,
) -> wasmtime::Result<i32> {
    let memory = caller.get_export("memory").and_then(Extern::into_memory);
    let memory = memory.ok_or_else(|| Stop::Broke("no memory is exported".into()))?;
    let (bytes, command) = memory.data_and_store_mut(&mut caller);
    match body(&mut Guest(bytes), command) {
        Ok(()) => Ok(0),
        Err(Fault::Errno(errno)) => Ok(errno as i32),
        Err(Fault::Stop(stop)) => Err(stop.into()),
    }
}

/// What every program can import.
pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Command>> {
    let mut linker = Linker::new(engine);
    process(&mut linker)?;
    streams(&mut linker)?;
    descriptors(&mut linker)?;
    paths(&mut linker)?;
    Ok(linker)
}

/// `common`, and an answer for each function that `module` imports besides.
pub(super) fn complete(common: &Linker<Command>, module: &Module) -> wasmtime::Result<Linker<Command>> {
    let mut linker = common.clone();
    for import in module.imports() {
        let ExternType::Func(ty) = import.ty() else { continue };
        let name = import.name().to_string();
        let errno = codes::without_implementation(&name);
        let answers =
            import.module() == WASI && ty.results().len() == 1 && ty.results().all(|result| matches!(result, ValType::I32));
        // That the name is taken means that the call is implemented.
        let _ = linker.func_new(import.module(), import.name(), ty, move |_, _, results| match results {
            [result] if answers => {
                *result = Val::I32(errno as i32);
                Ok(())
            }
            _ => Err(Stop::Broke(format!("{name} is not implemented")).into()),
        });
    }
    Ok(linker)
}

/// Arguments, environment, time, randomness, the end.
fn process(linker: &mut Linker<Command>) -> wasmtime::Result<()> {
    linker.func_wrap(WASI, "args_sizes_get", |caller: Caller<'_, Command>, count: u32, bytes: u32| {
        call(caller, |guest, command| guest.put_sizes(&command.args, count, bytes))
    })?;
    linker.func_wrap(WASI, "args_get", |caller: Caller<'_, Command>, pointers: u32, bytes: u32| {
        call(caller, |guest, command| guest.put_strings(&command.args, pointers, bytes))
    })?;
    linker.func_wrap(WASI, "environ_sizes_get", |caller: Caller<'_, Command>, count: u32, bytes: u32| {
        call(caller, |guest, command| guest.put_sizes(&command.env, count, bytes))
    })?;
    linker.func_wrap(WASI, "environ_get", |caller: Caller<'_, Command>, pointers: u32, bytes: u32| {
        call(caller, |guest, command| guest.put_strings(&command.env, pointers, bytes))
    })?;
    linker.func_wrap(WASI, "clock_res_get", |caller: Caller<'_, Command>, clock: u32, to: u32| {
        call(caller, |guest, _| guest.put_u64(to, World::resolution(clock)?))
    })?;
    linker.func_wrap(WASI, "clock_time_get", |caller: Caller<'_, Command>, clock: u32, _precision: u64, to: u32| {
        call(caller, |guest, command| guest.put_u64(to, command.world.read(clock)?))
    })?;
    linker.func_wrap(WASI, "random_get", |caller: Caller<'_, Command>, to: u32, length: u32| {
        call(caller, |guest, command| command.world.random(guest.bytes_mut(to, length)?))
    })?;
    linker.func_wrap(WASI, "poll_oneoff", |caller: Caller<'_, Command>, from: u32, to: u32, count: u32, happened: u32| {
        call(caller, |guest, command| world::poll(guest, &mut command.world, from, to, count, happened))
    })?;
    linker.func_wrap(WASI, "sched_yield", |_: Caller<'_, Command>| 0_i32)?;
    linker.func_wrap(WASI, "proc_exit", |_: Caller<'_, Command>, exit: i32| -> wasmtime::Result<()> {
        Err(Stop::Exit(exit).into())
    })?;
    Ok(())
}

/// Reading and writing.
fn streams(linker: &mut Linker<Command>) -> wasmtime::Result<()> {
    linker.func_wrap(WASI, "fd_read", |caller: Caller<'_, Command>, fd: u32, iovecs: u32, count: u32, read: u32| {
        call(caller, |guest, Command { files, meter, world, .. }| {
            files.exists(fd)?;
            scatter(guest, iovecs, count, read, |_, piece| match files.is_random(fd) {
                true => world.random(piece).map(|()| piece.len() as u32),
                false => files.read(meter, fd, piece),
            })
        })
    })?;
    linker.func_wrap(
        WASI,
        "fd_pread",
        |caller: Caller<'_, Command>, fd: u32, iovecs: u32, count: u32, offset: u64, read: u32| {
            call(caller, |guest, Command { files, meter, .. }| {
                files.exists(fd)?;
                scatter(guest, iovecs, count, read, |done, piece| {
                    let from = offset.checked_add(u64::from(done)).ok_or(Errno::Inval)?;
                    files.read_from(meter, fd, from, piece)
                })
            })
        },
    )?;
    linker.func_wrap(WASI, "fd_write", |caller: Caller<'_, Command>, fd: u32, iovecs: u32, count: u32, written: u32| {
        call(caller, |guest, command| {
            let stream = command.files.stream(fd)?;
            let iovecs = guest.iovecs(iovecs, count)?;
            let total = iovecs.iter().map(|(_, length)| length).sum();
            for (at, length) in iovecs {
                let bytes = guest.bytes(at, length)?;
                match stream {
                    files::Stream::Out => command.write_out(bytes)?,
                    files::Stream::Err => command.write_err(bytes),
                }
            }
            guest.put_u32(written, total)
        })
    })?;
    Ok(())
}

/// Fills the pieces of a read one after another with `fill`, which is told how many bytes came before and tells how many it
/// read; a piece that is not filled is the last. The sum goes to `read`.
fn scatter(
    guest: &mut Guest<'_>,
    iovecs: u32,
    count: u32,
    read: u32,
    mut fill: impl FnMut(u32, &mut [u8]) -> Result<u32, Fault>,
) -> Result<(), Fault> {
    let mut done = 0;
    for (at, length) in guest.iovecs(iovecs, count)? {
        let filled = fill(done, guest.bytes_mut(at, length)?)?;
        done += filled;
        if filled < length {
            break;
        }
    }
    guest.put_u32(read, done)
}

/// What can be done with an open descriptor besides.
fn descriptors(linker: &mut Linker<Command>) -> wasmtime::Result<()> {
    linker.func_wrap(WASI, "fd_seek", |caller: Caller<'_, Command>, fd: u32, by: i64, whence: u32, to: u32| {
        call(caller, |guest, command| guest.put_u64(to, command.files.seek(fd, by, whence)?))
    })?;
    linker.func_wrap(WASI, "fd_tell", |caller: Caller<'_, Command>, fd: u32, to: u32| {
        call(caller, |guest, command| guest.put_u64(to, command.files.seek(fd, 0, codes::WHENCE_CUR)?))
    })?;
    linker.func_wrap(WASI, "fd_fdstat_get", |caller: Caller<'_, Command>, fd: u32, to: u32| {
        call(caller, |guest, command| guest.put(to, &command.files.fdstat(fd)?))
    })?;
    linker.func_wrap(WASI, "fd_filestat_get", |caller: Caller<'_, Command>, fd: u32, to: u32| {
        call(caller, |guest, command| guest.put(to, &command.files.filestat(fd)?))
    })?;
    linker.func_wrap(WASI, "fd_prestat_get", |caller: Caller<'_, Command>, fd: u32, to: u32| {
        call(caller, |guest, command| {
            // A union whose only case, 0, is a directory; then the length of its name.
            let length = command.files.mount(fd)?.len() as u32;
            guest.put_u32(to, 0)?;
            guest.put_u32(to.wrapping_add(4), length)
        })
    })?;
    linker.func_wrap(WASI, "fd_prestat_dir_name", |caller: Caller<'_, Command>, fd: u32, to: u32, length: u32| {
        call(caller, |guest, command| {
            let name = command.files.mount(fd)?.as_bytes();
            if (length as usize) < name.len() {
                return Err(Errno::NameTooLong.into());
            }
            guest.put(to, name)
        })
    })?;
    linker.func_wrap(
        WASI,
        "fd_readdir",
        |caller: Caller<'_, Command>, fd: u32, to: u32, length: u32, cookie: u64, used: u32| {
            call(caller, |guest, command| {
                let written = command.files.read_dir(fd, cookie, guest.bytes_mut(to, length)?)?;
                guest.put_u32(used, written)
            })
        },
    )?;
    linker
        .func_wrap(WASI, "fd_close", |caller: Caller<'_, Command>, fd: u32| call(caller, |_, command| command.files.close(fd)))?;
    linker.func_wrap(WASI, "fd_renumber", |caller: Caller<'_, Command>, from: u32, to: u32| {
        call(caller, |_, command| command.files.renumber(from, to))
    })?;
    // Advice, flags and flushing change nothing that a reader could see.
    linker.func_wrap(WASI, "fd_advise", |caller: Caller<'_, Command>, fd: u32, _: u64, _: u64, _: u32| {
        call(caller, |_, command| command.files.exists(fd))
    })?;
    linker.func_wrap(WASI, "fd_fdstat_set_flags", |caller: Caller<'_, Command>, fd: u32, _: u32| {
        call(caller, |_, command| command.files.exists(fd))
    })?;
    for name in ["fd_sync", "fd_datasync"] {
        linker
            .func_wrap(WASI, name, |caller: Caller<'_, Command>, fd: u32| call(caller, |_, command| command.files.exists(fd)))?;
    }
    Ok(())
}

/// Looking up and opening.
fn paths(linker: &mut Linker<Command>) -> wasmtime::Result<()> {
    linker.func_wrap(
        WASI,
        "path_open",
        |caller: Caller<'_, Command>, fd: u32, _: u32, path: u32, length: u32, how: u32, rights: u64, _: u64, _: u32, to: u32| {
            call(caller, |guest, command| {
                let path = guest.path(path, length)?;
                let opened = command.files.open_path(&mut command.meter, fd, path, how, rights)?;
                guest.put_u32(to, opened)
            })
        },
    )?;
    linker.func_wrap(
        WASI,
        "path_filestat_get",
        |caller: Caller<'_, Command>, fd: u32, _: u32, path: u32, length: u32, to: u32| {
            call(caller, |guest, command| {
                let path = guest.path(path, length)?;
                let place = command.files.walk(&mut command.meter, fd, path)?;
                guest.put(to, &place.filestat())
            })
        },
    )?;
    linker.func_wrap(
        WASI,
        "path_readlink",
        |caller: Caller<'_, Command>, fd: u32, path: u32, length: u32, _: u32, _: u32, _: u32| {
            call(caller, |guest, command| {
                let path = guest.path(path, length)?;
                // What exists is never a symbolic link.
                let _: Place = command.files.walk(&mut command.meter, fd, path)?;
                Err(Errno::Inval.into())
            })
        },
    )?;
    Ok(())
}
