//! Which exception ended a program, found in what its runtime writes.
//!
//! A runtime that is compiled to WebAssembly ends with a trap that names nothing: the exception stands on stderr, in the
//! format of that runtime. A [`Scanner`] reads the lines of one call and keeps the last report alone; its [`Evidence`]
//! says what that report names. What is printed is a claim, and anybody can print it: the caller decides whether it
//! explains an end.
//!
//! | module | reads |
//! | --- | --- |
//! | `rust` | panics, failed allocations, and the exceptions of interpreters that a Rust runtime prints in a panic |
//! | `python` | tracebacks of CPython, with causes and groups |
//! | `go` | panics and fatal errors with the first goroutine |
//! | `native` | assertions of C, uncaught exceptions of C++ |
//! | `javascript` | stacks of V8, QuickJS and SpiderMonkey, and what StarlingMonkey prints around them |
//! | `assemblyscript` | aborts |
//!
//! Frames of standard libraries and interpreters are dropped as long as one of the author's own is left
//! ([`keep_own_frames`]). Code that a bundler made is mapped back to its sources by [`map_to_sources`].

mod assemblyscript;
mod format;
mod go;
mod javascript;
mod library;
mod lines;
mod memory;
mod native;
mod place;
mod python;
mod rust;
mod scanner;
mod source_map;

pub use javascript::frames as javascript_frames;
pub use library::keep_own_frames;
pub use memory::is_out_of_memory;
pub use rust::{Panic, Place};
pub use scanner::{Cause, Evidence, Scanner};
pub use source_map::{Bundle, SourceMap, SourceMapError, map_to_sources};
