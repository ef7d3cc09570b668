//! The module's allocator: Talc, and a few blocks at hand. That of wasi-libc, which std would bring, takes several times as many instructions.
//!
//! A request takes the same few blocks as the one before it and gives them back: what the proxy returns, and the record that is written. Talc
//! joins what is given back with what is free beside it, to take it apart again for the next request. So the two blocks of each small size that
//! were given back last stay as they are, for whoever wants one of that size next.

#![allow(unsafe_code, reason = "an allocator's interface is")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ptr::null_mut;
use talc::wasm::{WasmDynamicTalc, new_wasm_dynamic_allocator};

static TALC: WasmDynamicTalc = new_wasm_dynamic_allocator();

#[global_allocator]
static ALLOCATOR: AtHand = AtHand([const { [const { Cell::new(null_mut()) }; 2] }; SIZES]);

/// How many sizes have blocks at hand: those below 4 KiB. Of larger ones a request has none, but for its body.
const SIZES: usize = 256;
/// Talc's blocks are multiples of this…
const UNIT: usize = 16;
/// … of which it keeps so much for itself. Were it otherwise, only space would be lost.
const KEPT: usize = 4;

/// The blocks at hand, by size; null where there is none.
struct AtHand([[Cell<*mut u8>; 2]; SIZES]);

// SAFETY: the module has one thread.
unsafe impl Sync for AtHand {}

impl AtHand {
    /// How many units a block has beside its first.
    #[inline]
    fn units(size: usize) -> usize {
        size.wrapping_add(KEPT - 1) / UNIT
    }

    /// Where blocks for this are kept; nowhere if it is large or unusually aligned.
    #[inline]
    fn place(&self, layout: Layout) -> Option<&[Cell<*mut u8>; 2]> {
        self.0.get(Self::units(layout.size())).filter(|_| layout.align() <= UNIT)
    }

    /// All that a block for this has.
    #[inline]
    fn whole(layout: Layout) -> Layout {
        let size = Self::units(layout.size()).wrapping_mul(UNIT).wrapping_add(UNIT - KEPT);
        Layout::from_size_align(size, layout.align().max(UNIT)).unwrap_or(layout)
    }
}

// Called and not copied to each place that frees something.
// SAFETY: blocks are Talc's own, each as large as any of its size may be. Those at hand belong to nobody.
unsafe impl GlobalAlloc for AtHand {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if let Some([last, before]) = self.place(layout) {
            let block = last.replace(before.replace(null_mut()));
            if !block.is_null() {
                return block;
            }
        }
        // SAFETY: as the caller promises, and no smaller.
        unsafe { TALC.alloc(Self::whole(layout)) }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let over = self.place(layout).map_or(block, |[last, before]| before.replace(last.replace(block)));
        if !over.is_null() {
            // SAFETY: as the caller promises, or as promised of one of the same size.
            unsafe { TALC.dealloc(over, Self::whole(layout)) }
        }
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let whole = Self::whole(layout);
        let after = Layout::from_size_align(size, layout.align()).map_or(size, |after| Self::whole(after).size());
        // SAFETY: as the caller promises, and no smaller.
        if after == whole.size() { block } else { unsafe { TALC.realloc(block, whole, after) } }
    }
}
