//! Names of host calls, of our own and WASI's, with components written as text.

use std::sync::Once;
use std::time::Duration;

use bulkhead_types::{Exit, ExitReason};
use tracing::subscriber::NoSubscriber;

use super::*;
use crate::CallLimits;
use crate::tests::{Rig, limits, roomy};

/// The names are heard from now on, by all tests of this process.
fn hear() {
    static HEARS: Once = Once::new();
    HEARS.call_once(|| {
        let _ = tracing::subscriber::set_global_default(HostCallNames::over(NoSubscriber::new()));
    });
}

/// A stock component that asks for `bytes` random bytes, and then does something else. More than the host gives
/// at once is a failure of the host function.
fn asks_for_random_bytes(bytes: u64, then: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (import "wasi:random/random@0.2.0" (instance $random
                (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
            (core module $libc
                (memory (export "memory") 2)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024))
            (core instance $libc (instantiate $libc))
            (core func $get (canon lower (func $random "get-random-bytes")
                (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
            (core module $m
                (import "wasi" "get" (func $get (param i64 i32)))
                (func (export "run") (result i32)
                    (call $get (i64.const {bytes}) (i32.const 0)) {then}))
            (core instance $i (instantiate $m
                (with "wasi" (instance (export "get" (func $get))))))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $exports (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $exports)))"#
    );
    wat::parse_str(text).unwrap()
}

/// A stock component that waits for a minute.
fn waits() -> Vec<u8> {
    let text = r#"(component
        (import "wasi:io/poll@0.2.0" (instance $poll
            (export "pollable" (type $p (sub resource)))
            (export "[method]pollable.block" (func (param "self" (borrow $p))))))
        (alias export $poll "pollable" (type $pollable))
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
            (alias outer 1 $pollable (type $p))
            (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
        (core func $subscribe (canon lower (func $clock "subscribe-duration")))
        (core func $block (canon lower (func $poll "[method]pollable.block")))
        (core module $m
            (import "wasi" "subscribe" (func $subscribe (param i64) (result i32)))
            (import "wasi" "block" (func $block (param i32)))
            (func (export "run") (result i32)
                (call $block (call $subscribe (i64.const 60000000000))) i32.const 0))
        (core instance $i (instantiate $m (with "wasi" (instance
            (export "subscribe" (func $subscribe)) (export "block" (func $block))))))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $exports (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $exports)))"#;
    wat::parse_str(text).unwrap()
}

fn ends(component: &[u8], limits: CallLimits) -> Exit {
    hear();
    let rig = Rig::new(1);
    let loaded = rig.load(&rig.write(component)).unwrap();
    let exit = rig.run_loaded(&loaded, &roomy(), limits).unwrap_err();
    rig.end();
    *exit
}

fn host_call(exit: &Exit) -> Option<&str> {
    exit.host_call.as_deref()
}

#[test]
fn a_host_function_that_fails_is_named_with_its_interface() {
    let exit = ends(&asks_for_random_bytes(1 << 20, "i32.const 0"), limits(5000));
    assert_eq!(host_call(&exit), Some("wasi:random/random.get-random-bytes"), "{exit:?}");
    assert!(!exit.frames.is_empty(), "{exit:?}");
}

#[test]
fn one_that_returned_has_no_part_in_what_the_guest_does_next() {
    let exit = ends(&asks_for_random_bytes(16, "unreachable"), limits(5000));
    assert_eq!((exit.reason, host_call(&exit)), (ExitReason::Trap, None), "{exit:?}");
    let exit = ends(&asks_for_random_bytes(16, "(loop br 0) unreachable"), limits(30));
    assert_eq!((exit.reason, host_call(&exit)), (ExitReason::CpuDeadline, None), "{exit:?}");
}

#[test]
fn one_that_takes_too_long_is_named_too() {
    let host_call_limit = Duration::from_millis(30);
    let exit = ends(&waits(), CallLimits { host_call: host_call_limit, ..limits(5000) });
    assert_eq!(exit.reason, ExitReason::HostCallTimeout, "{exit:?}");
    assert_eq!(host_call(&exit), Some("wasi:io/poll.[method]pollable.block"), "{exit:?}");
}

mod wasi {
    pub(super) mod http {
        pub(in super::super) mod outgoing_handler {
            pub(in super::super::super) fn handle() {
                let span = tracing::span!(
                    tracing::Level::TRACE,
                    "wit-bindgen import",
                    module = "outgoing-handler",
                    function = "handle",
                );
                let _enter = span.enter();
            }
        }
    }
}

#[test]
fn a_call_is_named_for_the_guest_of_its_thread_alone() {
    hear();
    let (one, other) = (Arc::new(Current::default()), Arc::new(Current::default()));
    one.enter();
    wasi::http::outgoing_handler::handle();
    Current::leave();
    wasi::http::outgoing_handler::handle();
    assert_eq!(one.name(), Some("wasi:http/outgoing-handler.handle"));
    assert_eq!(other.name(), None);
    one.forget();
    assert_eq!(one.name(), None);
    other.enter();
    name("memory.grow");
    Current::leave();
    assert_eq!(other.name(), Some("memory.grow"));
}

/// Bindings name what they link. What is linked by hand has to do so itself.
#[test]
fn whatever_is_linked_by_hand_says_its_name() {
    let interfaces = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/interfaces");
    let mut linked = 0;
    for entry in std::fs::read_dir(interfaces).unwrap() {
        let path = entry.unwrap().path();
        let Ok(source) = std::fs::read_to_string(&path) else { continue };
        for function in source.split(".func_wrap").skip(1) {
            linked += 1;
            assert!(function.contains("host_call::name("), "{}", path.display());
        }
    }
    assert!(linked >= 2, "{linked}: is it called something else now?");
}
