//! What the allocator of this process holds.

/// The heap of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heap {
    /// Bytes in allocations.
    pub used_bytes: u64,
    /// Bytes that the allocator took from the kernel and did not give back.
    pub total_bytes: u64,
}

/// Who says it.
pub const SOURCE: &str = "mallinfo2";

impl Heap {
    /// Asks the allocator. It counts its free lists under its own locks, which takes microseconds to a
    /// millisecond: not for every sample. `None` where it cannot be asked.
    pub fn read() -> Option<Self> {
        imp::read()
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod imp {
    use std::sync::OnceLock;

    use super::Heap;

    type Mallinfo2 = unsafe extern "C" fn() -> libc::mallinfo2;

    pub(super) fn read() -> Option<Heap> {
        let mallinfo2 = (*FOUND.get_or_init(find))?;
        // SAFETY: the function takes nothing, returns a plain struct by value, and may be called from any
        // thread at any time: glibc takes the lock of each arena in turn.
        let info = unsafe { mallinfo2() };
        Some(Heap {
            used_bytes: info.uordblks.saturating_add(info.hblkhd) as u64,
            total_bytes: info.arena.saturating_add(info.hblkhd) as u64,
        })
    }

    static FOUND: OnceLock<Option<Mallinfo2>> = OnceLock::new();

    /// glibc has it since 2.33. Looked up by its name, so that the host links and runs with an older one.
    fn find() -> Option<Mallinfo2> {
        // SAFETY: the name ends in a zero byte, and the handle is the one for "anywhere in the process".
        let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"mallinfo2".as_ptr()) };
        // SAFETY: null becomes `None`. Anything else is the function of this name, whose signature is that
        // of the C library's header; `Option` of a function pointer has the layout of a pointer.
        unsafe { std::mem::transmute::<*mut libc::c_void, Option<Mallinfo2>>(address) }
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod imp {
    pub(super) fn read() -> Option<super::Heap> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allocated_is_seen() {
        let Some(before) = Heap::read() else { return };
        let block = std::hint::black_box(vec![1_u8; 64 << 20]);
        let during = Heap::read().unwrap();
        // Other tests allocate beside this one, but not as much.
        assert!(during.used_bytes >= before.used_bytes + (32 << 20), "{before:?} {during:?}");
        assert!(during.total_bytes >= during.used_bytes, "{during:?}");
        drop(block);
    }
}
