//! The heap that all agents begin with is shared until somebody writes to it.

use std::hint::black_box;
use std::mem;

/// The allocator has a class for about each of these, up to here.
const CLASS_BYTES: usize = 16;
const LARGEST_CLASS_BYTES: usize = 8 * 1024;

/// Larger than any hole.
const PROBE_BYTES: usize = 128 * 1024;

/// Blocks above the heap's end, one after the other, that mean that a class has no hole left.
const ENOUGH: usize = 64;

/// Takes all that is free below the heap's end, for good. Else an agent's first objects would lie in these holes, a
/// few on each page, and each of the pages would have to be copied for it; so they lie together, on pages of its own.
pub fn fill_holes() {
    let end = address(&block(PROBE_BYTES));
    for classes in (1..=LARGEST_CLASS_BYTES / CLASS_BYTES).rev() {
        // Eight bytes less: a header of the allocator's fits.
        fill_class(classes * CLASS_BYTES - 8, end);
    }
}

fn fill_class(size: usize, end: usize) {
    let mut above = Vec::with_capacity(ENOUGH);
    while above.len() < ENOUGH {
        let block = block(size);
        if address(&block) >= end {
            above.push(block);
        } else {
            above.clear();
            mem::forget(block);
        }
    }
}

fn block(bytes: usize) -> Vec<u8> {
    black_box(Vec::with_capacity(bytes))
}

fn address(block: &[u8]) -> usize {
    block.as_ptr() as usize
}
