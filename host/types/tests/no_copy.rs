//! Two specs are compared without a copy of either: a prompt may have a mebibyte, and the slot's lock is held.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is their failure")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bulkhead_types::{AgentId, AgentSpec, message::MAX_BODY_BYTES};

struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "an allocator that counts")]
// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATED.try_with(|bytes| bytes.set(bytes.get() + layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn spec() -> AgentSpec {
    let id = AgentId::parse("a").unwrap();
    AgentSpec { prompt: "x".repeat(MAX_BODY_BYTES), ..AgentSpec::new(id, "r".into(), "c".into()) }
}

#[test]
fn comparing_two_specs_allocates_nothing() {
    let (one, mut other) = (spec(), spec());
    other.secrets.insert("TOKEN".into(), "another".to_owned().into());
    let before = ALLOCATED.get();
    assert!(one.is_same_as(&other));
    assert_eq!(ALLOCATED.get() - before, 0, "bytes were allocated");
    other.prompt.replace_range(MAX_BODY_BYTES - 1.., "y");
    assert!(!one.is_same_as(&other));
}
