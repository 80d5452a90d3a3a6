//! Frames of an error, raw: no debug information is read here.

use bulkhead_model::Frame;
use wasmtime::WasmBacktrace;

/// The wasm frames that an error carries, innermost first. Empty when it was not inside wasm.
pub(crate) fn frames(error: &wasmtime::Error) -> Vec<Frame> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    backtrace
        .frames()
        .iter()
        .enumerate()
        .map(|(index, frame)| Frame {
            index,
            function: frame.func_name().map(demangle),
            module: frame.module().name().map(str::to_owned),
            function_index: frame.func_index(),
            module_offset: frame.module_offset().map(|offset| offset as u64),
            file: None,
            line: None,
            column: None,
            in_app: false,
        })
        .collect()
}

/// A Rust symbol as a person reads it, without the hash of its crate.
fn demangle(symbol: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(symbol))
}
