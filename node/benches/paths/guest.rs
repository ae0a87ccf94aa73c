//! The guests that are called: one that does nothing, and the word count.

use cid::Cid;
use std::path::Path;
use std::sync::Arc;
use timerose_content::{Block, Content, DAG_CBOR};
use timerose_core::function::{About, Determinism, Entry, Function, Limits, Param, WASM_FAN};
use timerose_core::record;

/// Gives its argument back: every microsecond of a call is overhead.
const ECHO: &str = r#"(module
    (memory (export "memory") 4)
    (func (export "alloc") (param i32) (result i32) i32.const 65536)
    (func (export "fx") (param i32 i32) (result i32) local.get 1))"#;

/// A guest's code and the entry of it that is called.
#[derive(Clone)]
pub struct Guest {
    /// The module.
    pub code: Vec<u8>,
    /// The exported function, of one argument.
    pub entry: &'static str,
}

impl Guest {
    /// The one that does nothing.
    pub fn echo() -> Guest {
        Guest { code: wat::parse_str(ECHO).expect("a module"), entry: "fx" }
    }

    /// The map of the word count.
    pub fn word_count() -> Guest {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests/built/wordcount-fan.wasm");
        Guest { code: std::fs::read(path).expect("guests/built/wordcount-fan.wasm"), entry: "map" }
    }

    /// Its manifest, for code of that CID.
    pub fn function(&self, code: Cid) -> Function {
        let param = Param { name: "a".into(), kind: "bytes".into() };
        Function {
            engine: WASM_FAN.into(),
            code,
            entries: vec![Entry { name: self.entry.into(), params: vec![param], result: "bytes".into(), ..Entry::default() }],
            determinism: Determinism::Pure,
            limits: Limits { memory: 16 << 20, timeout_ms: 30_000, output: 1 << 20, fuel: None },
            args: Vec::new(),
            env: Default::default(),
            mounts: Default::default(),
            about: About::default(),
        }
    }

    /// Stores code and manifest; gives the function's CID and the function.
    pub fn deploy(&self, content: &Content) -> (Cid, Arc<Function>) {
        let function = self.function(content.add_bytes(&self.code).expect("stored"));
        let (cid, bytes) = record::address(&function);
        let block = Block::encode(DAG_CBOR, bytes).expect("a block");
        content.store().put_many(&[block]).expect("stored");
        (cid, Arc::new(function))
    }
}

/// Text of so many bytes, of words from a vocabulary of two thousand.
pub fn text(rng: &mut fastrand::Rng, bytes: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes + 16);
    while text.len() < bytes {
        let word = rng.u32(..2000).wrapping_mul(2_654_435_761);
        let letters = (0..3 + word % 7).map(|at| b'a' + (word >> (at * 3) & 0x1f) as u8 % 26);
        text.extend(letters);
        text.push(b' ');
    }
    text.truncate(bytes);
    text
}
