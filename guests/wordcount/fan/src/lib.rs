//! Word counts as `wasm-fan` code: `map(text) -> json` and `reduce(json...) -> json`.
//!
//! The module imports nothing. Input that makes no sense, and memory that does not suffice, end it with a trap.
#![no_std]
extern crate alloc as heap;

mod memory;

use core::slice;
use heap::vec::Vec;
use wordcount_count::{Counts, room};

/// Gives room for `size` bytes of arguments, and for the result that will replace them; null where there is none.
#[unsafe(no_mangle)]
pub extern "C" fn alloc(size: usize) -> *mut u8 {
    memory::take(room(size))
}

/// Counts the words of the text of `len` bytes at `ptr`.
///
/// # Safety
/// `ptr` was given by [`alloc`] for at least `len` bytes, which are set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn map(ptr: *mut u8, len: usize) -> usize {
    let mut counts = Counts::default();
    // SAFETY: the caller's promise.
    counts.add_text(unsafe { slice::from_raw_parts(ptr, len) });
    counts.end();
    // SAFETY: `alloc` made room for the result of so many bytes, and the text is not used any more.
    unsafe { answer(ptr, len, &counts.write()) }
}

/// Adds up `count` results of `map` or `reduce` that lie one after another at `ptr`; `lens` points to their lengths, 32-bit
/// little-endian numbers.
///
/// # Safety
/// `lens` points to `count` lengths, and `ptr` was given by [`alloc`] for at least their sum of bytes, which are set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn reduce(ptr: *mut u8, lens: *const [u8; 4], count: usize) -> usize {
    // SAFETY: the caller's promise; arrays of bytes need no alignment.
    let lens: Vec<usize> =
        unsafe { slice::from_raw_parts(lens, count) }.iter().map(|len| u32::from_le_bytes(*len) as usize).collect();
    let total = lens.iter().sum();
    // SAFETY: the caller's promise.
    let mut rest: &[u8] = unsafe { slice::from_raw_parts(ptr, total) };
    let mut counts = Counts::default();
    for len in lens {
        let (json, after) = rest.split_at(len);
        counts.add_json(json).expect("a result of map or reduce");
        rest = after;
    }
    // SAFETY: `alloc` made room for the result of so many bytes, and the arguments are not used any more.
    unsafe { answer(ptr, total, &counts.write()) }
}

/// Puts the result in the place of the arguments and gives its length.
///
/// # Safety
/// There are `room(input)` bytes at `ptr`, and nothing else uses them.
unsafe fn answer(ptr: *mut u8, input: usize, result: &[u8]) -> usize {
    assert!(result.len() <= room(input), "the result fits, as `room` proves");
    // SAFETY: the caller's promise, and the line above.
    unsafe { slice::from_raw_parts_mut(ptr, result.len()) }.copy_from_slice(result);
    result.len()
}

/// Ends the module. A message would need the code that formats it, and somewhere to go.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
