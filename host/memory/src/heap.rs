//! What the allocator of this process holds.
//!
//! It is jemalloc, which the binary sets up (`bulkhead::allocator`). A program with another one has a heap of
//! nothing here.

use std::ptr;

use tikv_jemalloc_ctl::{epoch, stats};

/// The heap of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heap {
    /// Bytes in allocations.
    pub used_bytes: u64,
    /// Bytes that the allocator has in memory, for them and besides.
    pub total_bytes: u64,
}

/// The allocator, who says it.
pub const SOURCE: &str = "jemalloc";

/// Gives up all pages of all arenas that nothing lies in; `4096` stands for all of them.
const PURGE: &std::ffi::CStr = c"arena.4096.purge";

impl Heap {
    /// Asks the allocator. It adds up the figures of its arenas under their locks, which takes some ten
    /// microseconds: not for every sample. `None` where it cannot be asked.
    pub fn read() -> Option<Self> {
        epoch::advance().ok()?;
        let bytes = |figure: usize| figure as u64;
        Some(Self {
            used_bytes: stats::allocated::read().ok().map(bytes)?,
            total_bytes: stats::resident::read().ok().map(bytes)?,
        })
    }

    /// The allocator gives back at once what it would give back by and by: whole pages that nobody uses.
    #[expect(unsafe_code, reason = "jemalloc has no safe call for it")]
    pub fn give_back() {
        let (nothing, no_length) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the name ends in a zero byte. This control takes no value and yields none, so no pointer is
        // read or written through. It may be called from any thread at any time.
        unsafe { tikv_jemalloc_sys::mallctl(PURGE.as_ptr(), nothing, no_length, nothing, 0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

    #[test]
    fn what_is_allocated_is_seen_and_goes_back() {
        let before = Heap::read().unwrap();
        let block = std::hint::black_box(vec![1_u8; 64 << 20]);
        let during = Heap::read().unwrap();
        // Other tests allocate beside this one, but not as much.
        assert!(during.used_bytes >= before.used_bytes + (32 << 20), "{before:?} {during:?}");
        assert!(during.total_bytes >= during.used_bytes, "{during:?}");
        drop(block);
        Heap::give_back();
        let after = Heap::read().unwrap();
        assert!(after.total_bytes + (32 << 20) <= during.total_bytes, "{during:?} {after:?}");
    }
}
