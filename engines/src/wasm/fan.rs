//! Calls of `wasm-fan` code, whose ABI is described at [`timerose_core::function::Function`].

use timerose_core::failure::Failure;
use timerose_core::function::{Entry, Limits};
use timerose_core::task::Arg;
use wasmtime::{Instance, Memory, Store, Val};

use super::meter::{self, Meter, Stop};
use super::modules::Loaded;
use crate::{Cancel, Exit, Host, Work, read_exact};

/// Calls `entry` in an instance of its own.
pub(super) fn run(
    program: &Loaded<Meter>,
    work: &Work,
    entry: &Entry,
    host: &dyn Host,
    limits: &Limits,
    cancel: &Cancel,
) -> Result<Exit, Failure> {
    let lengths = lengths(&work.args, limits, host)?;
    let input = lengths.iter().map(|length| u64::from(*length)).sum();
    let meter = Meter::new(limits, cancel);
    let engine = program.pre.module().engine();
    let mut store = meter::store(engine, meter).map_err(|e| Failure::NodeFailed { what: format!("a wasm store: {e:#}") })?;
    match (Call { work, entry, host, lengths }).perform(program, &mut store) {
        Ok(output) => Ok(Exit { output, run_us: store.data().run_us(), input, memory: store.data().peak() }),
        Err(error) => Err(store.data().failure(&error, b"")),
    }
}

/// The lengths of the arguments, in bytes; together at most half of the memory, the other half being the guest's own.
fn lengths(args: &[Arg], limits: &Limits, host: &dyn Host) -> Result<Vec<u32>, Failure> {
    let at = limits.memory / 2;
    let mut total = 0_u64;
    let mut lengths = Vec::with_capacity(args.len());
    for arg in args {
        let length = match arg {
            Arg::Link(cid) => host.size(cid)?,
            Arg::Inline(bytes) => bytes.len() as u64,
        };
        total = total.saturating_add(length);
        let over = || Failure::LimitExceeded { which: "input".into(), at };
        // Memory is at most 4 GiB, so what fits into half of it has a 32-bit length.
        let fits = if total <= at { u32::try_from(length).ok() } else { None };
        lengths.push(fits.ok_or_else(over)?);
    }
    Ok(lengths)
}

struct Call<'a> {
    work: &'a Work,
    entry: &'a Entry,
    host: &'a dyn Host,
    lengths: Vec<u32>,
}

impl Call<'_> {
    fn perform(&self, program: &Loaded<Meter>, store: &mut Store<Meter>) -> wasmtime::Result<Vec<u8>> {
        let instance = program.pre.instantiate(&mut *store)?;
        let memory = instance.get_memory(&mut *store, "memory").ok_or_else(|| Stop::Broke("no memory is exported".into()))?;
        let total: u32 = self.lengths.iter().sum();
        let at = allocate(store, &instance, memory, total)?;
        self.place(store, memory, at)?;

        let mut params = vec![integer(at)];
        if self.entry.variadic {
            let table: Vec<u8> = self.lengths.iter().flat_map(|length| length.to_le_bytes()).collect();
            let table_at = allocate(store, &instance, memory, table.len() as u32)?;
            window(memory.data_mut(&mut *store), table_at, table.len() as u32)?.copy_from_slice(&table);
            params.extend([integer(table_at), integer(self.lengths.len() as u32)]);
        } else {
            params.extend(self.lengths.iter().map(|length| integer(*length)));
        }
        let entry =
            instance.get_func(&mut *store, &self.entry.name).ok_or_else(|| Stop::Broke("the entry is not exported".into()))?;
        let mut results = [Val::I32(0)];
        entry.call(&mut *store, &params, &mut results)?;

        let length = results[0].i32().unwrap_or(-1) as u32;
        let (bytes, meter) = memory.data_and_store_mut(&mut *store);
        let output = window(bytes, at, length)?;
        meter.check_output(u64::from(length)).map_err(Stop::Failed)?;
        Ok(output.to_vec())
    }

    /// Reads the arguments straight into the guest's memory, one after another from `at` on.
    fn place(&self, store: &mut Store<Meter>, memory: Memory, at: u32) -> wasmtime::Result<()> {
        let (bytes, meter) = memory.data_and_store_mut(&mut *store);
        let mut rest = window(bytes, at, self.lengths.iter().sum())?;
        for (arg, length) in self.work.args.iter().zip(&self.lengths) {
            let (place, after) = rest.split_at_mut(*length as usize);
            rest = after;
            match arg {
                Arg::Inline(bytes) => place.copy_from_slice(bytes),
                Arg::Link(cid) => meter.waiting(|| read_exact(self.host, cid, 0, place)).map_err(Stop::Failed)?,
            }
            meter.check().map_err(Stop::Failed)?;
        }
        Ok(())
    }
}

/// Asks the guest for `size` bytes and gives where they are.
fn allocate(store: &mut Store<Meter>, instance: &Instance, memory: Memory, size: u32) -> wasmtime::Result<u32> {
    let alloc = instance.get_typed_func::<i32, i32>(&mut *store, "alloc")?;
    let at = alloc.call(&mut *store, size as i32)?;
    // Null and -1 are how allocators say no. Without a denied growth they are taken at their word: a module may well keep
    // its arguments at address 0.
    if matches!(at, 0 | -1) && store.data().denied() {
        return Err(Stop::Failed(store.data().over_memory()).into());
    }
    window(memory.data_mut(&mut *store), at as u32, size)?;
    Ok(at as u32)
}

/// A 32-bit integer as wasm takes it.
fn integer(value: u32) -> Val {
    Val::I32(value as i32)
}

fn window(bytes: &mut [u8], at: u32, length: u32) -> Result<&mut [u8], Stop> {
    let size = bytes.len();
    let start = at as usize;
    start
        .checked_add(length as usize)
        .and_then(|end| bytes.get_mut(start..end))
        .ok_or_else(|| Stop::Broke(format!("the guest gave {length} bytes at {at}, outside of its {size} bytes of memory")))
}
