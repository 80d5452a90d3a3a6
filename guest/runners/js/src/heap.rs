//! The heap that all agents begin with is shared until somebody writes to it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::{mem, ptr};

use rquickjs::Ctx;
#[cfg(target_family = "wasm")]
use rquickjs::qjs;

/// The allocator has a class for about each of these, up to here.
const CLASS_BYTES: usize = 16;
const LARGEST_CLASS_BYTES: usize = 8 * 1024;

/// Larger than any hole.
const PROBE_BYTES: usize = 128 * 1024;

/// Blocks above the heap's end, one after the other, that mean that a class has no hole left.
const ENOUGH: usize = 64;

/// What is below is of the image. 0 while the component is built.
#[expect(unsafe_code, reason = "a name for C")]
// SAFETY: the name is nobody else's.
#[unsafe(export_name = "bulkhead_image_end")]
static IMAGE_END: AtomicUsize = AtomicUsize::new(0);

/// Frees nothing of the image.
struct ImageAllocator;

#[global_allocator]
static ALLOCATOR: ImageAllocator = ImageAllocator;

fn is_of_image(block: *mut u8) -> bool {
    block.addr() < IMAGE_END.load(Relaxed)
}

#[expect(unsafe_code, reason = "an allocator is")]
// SAFETY: the system's allocator, which is asked to free less.
unsafe impl GlobalAlloc for ImageAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !is_of_image(block) {
            // SAFETY: the caller's.
            unsafe { System.dealloc(block, layout) }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !is_of_image(block) {
            // SAFETY: the caller's.
            return unsafe { System.realloc(block, layout, size) };
        }
        // SAFETY: `size` with this alignment is a layout, by the caller's word.
        let layout_after = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: `size` is not 0, by the caller's word.
        let moved = unsafe { System.alloc(layout_after) };
        if !moved.is_null() {
            // SAFETY: both have so many bytes, and one of them is new.
            unsafe { ptr::copy_nonoverlapping(block, moved, layout.size().min(size)) }
        }
        moved
    }
}

/// Makes the heap the image of all agents: nobody counts references to objects that are there, see `c/image.h`, and none of
/// those to come lies among them.
pub fn seal(ctx: &Ctx<'_>) {
    let end = fill_holes();
    seal_image(ctx, end);
    IMAGE_END.store(end, Relaxed);
}

#[cfg(target_family = "wasm")]
#[expect(unsafe_code, reason = "the one way to QuickJS's list of objects")]
fn seal_image(ctx: &Ctx<'_>, end: usize) {
    unsafe extern "C" {
        fn bulkhead_seal_image(ctx: *mut qjs::JSContext, end: usize);
    }
    // SAFETY: it is QuickJS's context, and the function is c/image.c's.
    unsafe {
        bulkhead_seal_image(ctx.as_raw().as_ptr(), end);
    }
}

/// For tests on this machine, whose QuickJS is as it was published.
#[cfg(not(target_family = "wasm"))]
fn seal_image(_: &Ctx<'_>, _: usize) {}

/// Takes all that is free below the heap's end, for good, and returns that end. Else an agent's first objects would lie in these
/// holes, a few on each page, and each of the pages would have to be copied for it; so they lie together, on pages of its own.
fn fill_holes() -> usize {
    let end = address(&block(PROBE_BYTES));
    let mut above = mem::ManuallyDrop::new(Vec::with_capacity(ENOUGH));
    for classes in (1..=LARGEST_CLASS_BYTES / CLASS_BYTES).rev() {
        // Eight bytes less: a header of the allocator's fits.
        fill_class(classes * CLASS_BYTES - 8, end, &mut above);
    }
    end
}

fn fill_class(size: usize, end: usize, above: &mut Vec<Vec<u8>>) {
    while above.len() < ENOUGH {
        let block = block(size);
        if address(&block) >= end {
            above.push(block);
        } else {
            above.clear();
            mem::forget(block);
        }
    }
    above.clear();
}

fn block(bytes: usize) -> Vec<u8> {
    black_box(Vec::with_capacity(bytes))
}

fn address(block: &[u8]) -> usize {
    block.as_ptr() as usize
}
