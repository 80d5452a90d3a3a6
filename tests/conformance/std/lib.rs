//! The unit tests of Rust's standard library, outside of it: its module tree as far as files of tests hang in it, with
//! the public items of the library that the compiler brings. It takes the place of the library's own `src/lib.rs`, so
//! each `mod tests` is the library's file. Tests of private items cannot be here.
#![cfg(test)]
#![feature(
    assert_matches, buf_read_has_data_left, bufreader_peek, can_vector, clone_to_uninit,
    const_default, const_trait_impl, core_io_borrowed_buf, cursor_split, dirfd, file_buffered,
    fs_set_times, hash_set_entry, io_const_error, io_error_more, io_error_uncategorized,
    io_slice_as_bytes, ip, maybe_uninit_fill, os_str_display, os_str_slice, path_file_prefix,
    read_buf, seek_io_take_position, seek_stream_len, set_permissions_nofollow, tcp_linger,
    tcplistener_into_incoming, test, thread_id_value, thread_spawn_hook, try_reserve_kind, wasi_ext,
    wasip2, write_all_vectored
)]

extern crate alloc;
extern crate std as realstd;
extern crate test;

pub use std::{
    any, array, assert_matches, borrow, boxed, cell, clone, cmp, env, error, fmt, hash, iter, mem,
    num, ops, panic, path, prelude, ptr, rc, result, str, string, sync, time, vec,
};

mod test_helpers;

pub mod collections {
    pub use std::collections::*;

    mod hash {
        mod map {
            use std::collections::hash_map::*;

            mod tests;
        }

        mod set {
            use std::collections::hash_set::*;

            mod tests;
        }
    }
}

pub mod ffi {
    pub use std::ffi::*;

    mod os_str {
        use std::clone::CloneToUninit;
        use std::ffi::*;
        use std::rc::Rc;
        use std::sync::Arc;

        mod tests;
    }
}

pub mod fs {
    pub use std::fs::*;

    mod tests;
}

pub mod io {
    pub use std::io::*;

    /// As the library has it.
    pub const DEFAULT_BUF_SIZE: usize = 8 * 1024;

    mod buffered {
        mod tests;
    }

    mod copy {
        mod tests;
    }

    mod cursor {
        mod tests;
    }

    mod impls {
        mod tests;
    }

    mod stdio {
        use std::io::*;
        use std::sync::{Arc, Mutex};

        mod tests;
    }

    mod util {
        mod tests;
    }

    mod tests;
}

pub mod net {
    pub use std::net::*;

    mod ip_addr {
        mod tests;
    }

    mod socket_addr {
        mod tests;
    }

    mod tcp {
        mod tests;
    }

    mod udp {
        mod tests;
    }

    mod test;
}

pub mod os {
    pub use std::os::*;

    #[path = "fd/tests.rs"]
    mod fd_tests;
}

pub mod thread {
    pub use std::thread::*;

    mod tests;
}
