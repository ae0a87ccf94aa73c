//! Memory for one call: taken from the end of what is in use, and given back with the whole instance.

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32::{memory_grow, memory_size};
use core::cell::Cell;
use core::ptr;

const PAGE: usize = 64 * 1024;
/// Memory grows by at least so many pages at a time: each growth is a call to the host.
const STEP: usize = 16;
/// What [`take`] aligns to, in bytes.
const ALIGN: usize = 16;

/// Where free memory starts; 0 before the first use.
struct Bump(Cell<usize>);

// SAFETY: the module has one thread.
unsafe impl Sync for Bump {}

#[global_allocator]
static BUMP: Bump = Bump(Cell::new(0));

unsafe extern "C" {
    /// Set by the linker: the end of the module's own data.
    static __heap_base: u8;
}

impl Bump {
    /// Moves the end of what is in use to `end`; `None` where memory does not grow that far.
    fn reach(&self, end: usize) -> Option<()> {
        let have = memory_size(0) * PAGE;
        if end > have {
            let missing = (end - have).div_ceil(PAGE);
            let granted = memory_grow(0, missing.max(STEP)) != usize::MAX || memory_grow(0, missing) != usize::MAX;
            granted.then_some(())?;
        }
        self.0.set(end);
        Some(())
    }

    fn take(&self, size: usize, align: usize) -> Option<usize> {
        let free = match self.0.get() {
            0 => &raw const __heap_base as usize,
            free => free,
        };
        let start = free.checked_next_multiple_of(align)?;
        self.reach(start.checked_add(size)?)?;
        Some(start)
    }
}

/// Room for `size` bytes; null where there is none.
pub fn take(size: usize) -> *mut u8 {
    BUMP.take(size, ALIGN).map_or(ptr::null_mut(), ptr::with_exposed_provenance_mut)
}

// SAFETY: every block starts where the one before ends or behind it, and none is used again after it was given back, but
// for the last, whose end moves.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.take(layout.size(), layout.align()).map_or(ptr::null_mut(), ptr::with_exposed_provenance_mut)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if block as usize + layout.size() == self.0.get() {
            self.0.set(block as usize);
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The last block grows where it is, without a copy.
        if block as usize + layout.size() == self.0.get() {
            return match (block as usize).checked_add(size).and_then(|end| self.reach(end)) {
                Some(()) => block,
                None => ptr::null_mut(),
            };
        }
        // SAFETY: alignment is as before and not 0; a size that is too large is refused by `take`.
        let moved = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !moved.is_null() {
            // SAFETY: both blocks have at least so many bytes and do not overlap.
            unsafe { ptr::copy_nonoverlapping(block, moved, layout.size().min(size)) };
        }
        moved
    }
}

// memcpy and its like come from the C library of the target, in which they import nothing.
#[link(name = "c")]
unsafe extern "C" {}
