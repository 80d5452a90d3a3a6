//! One file for each interface that the host gives to guests.

pub(crate) mod body;
pub(crate) mod files;
pub(crate) mod host;
pub(crate) mod http;
pub(crate) mod listing;
pub(crate) mod opening;
pub(crate) mod stdio;

/// The interface as `wasmtime-wasi` names it. A test lists a directory that is too large.
const FILESYSTEM: &str = "wasi:filesystem/types@0.2.12";
