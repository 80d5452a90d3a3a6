//! The allocator of the process.
//!
//! Agents that come and go leave a heap in pieces: what is kept of each lies between what was freed. With glibc's
//! allocator a host after thousands of agents had twice to eight times as much resident as it used, also when it
//! was asked to trim; this one puts allocations of a size together and gives pages back by and by.

use std::ffi::c_char;

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// How it is set up. `_RJEM_MALLOC_CONF` in the environment comes over it.
///
/// - `narenas`: what is free in one arena is of no use to another, and a host has no more threads that allocate
///   at once than it has cores, which are few.
/// - `dirty_decay_ms`, `muzzy_decay_ms`: what was free for a second goes back, at once.
/// - `background_thread`: by a thread of its own, also when nobody allocates any more. It sleeps when there is
///   nothing to give back.
#[repr(transparent)]
struct Setup(*const c_char);

// SAFETY: what it points at is a constant.
#[expect(unsafe_code, reason = "jemalloc reads a pointer that is a constant")]
unsafe impl Sync for Setup {}

// SAFETY: jemalloc looks for a text under this name, a pointer to bytes that end in a zero, and only reads it.
#[expect(unsafe_code, reason = "jemalloc finds its settings by this name")]
#[unsafe(export_name = "_rjem_malloc_conf")]
#[used]
static SETUP: Setup = Setup(
    c"narenas:4,dirty_decay_ms:1000,muzzy_decay_ms:0,background_thread:true,max_background_threads:1"
        .as_ptr(),
);
