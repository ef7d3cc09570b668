//! The module's allocator. That of wasi-libc, which std would bring, takes several times as many instructions.

#![allow(unsafe_code, reason = "an allocator's interface is")]

use std::alloc::{GlobalAlloc, Layout};
use talc::wasm::{WasmDynamicTalc, new_wasm_dynamic_allocator};

static TALC: WasmDynamicTalc = new_wasm_dynamic_allocator();

#[global_allocator]
static ALLOCATOR: OutOfLine = OutOfLine;

/// Talc, called and not copied to each place that frees something.
struct OutOfLine;

// SAFETY: Talc's own; the module has one thread.
unsafe impl GlobalAlloc for OutOfLine {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { TALC.alloc(layout) }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { TALC.dealloc(block, layout) }
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { TALC.realloc(block, layout, size) }
    }
}
