//! Frames of an error, raw: no debug information is read here.

use std::cell::RefCell;
use std::collections::HashMap;

use bulkhead_types::{Frame, Frames};
use wasmtime::WasmBacktrace;

use crate::symbol::{demangle, truncated, truncated_symbol};
use crate::symbolizer::source;

/// The wasm frames that an error carries, innermost first. Empty when it was not inside wasm.
pub(crate) fn frames(error: &wasmtime::Error) -> Frames {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return Frames::default() };
    backtrace
        .frames()
        .iter()
        .enumerate()
        .map(|(index, frame)| {
            let (function, in_app) = frame.func_name().map(truncated_symbol).map(shown).unzip();
            let module = frame.module().name();
            Frame {
                index,
                function,
                module: module.map(|name| truncated(name).to_owned()),
                function_index: frame.func_index(),
                module_offset: frame.module_offset().map(|offset| offset as u64),
                in_app: in_app.unwrap_or_default() && !module.is_some_and(source::is_interpreter),
                ..Frame::default()
            }
        })
        .collect()
}

thread_local! {
    /// What came of the symbols that this thread has seen. One that crashes does so again, and at the same place.
    static SHOWN: RefCell<HashMap<Box<str>, (String, bool)>> = RefCell::default();
}

/// Symbols that a thread remembers, and bytes of the longest one.
const MAX_SHOWN: usize = 256;
const MAX_SHOWN_BYTES: usize = 512;

/// A symbol as a person reads it, and whether it is the agent's own code.
fn shown(symbol: &str) -> (String, bool) {
    SHOWN.with_borrow_mut(|known| {
        if let Some(shown) = known.get(symbol) {
            return shown.clone();
        }
        let name = demangle(symbol);
        let in_app = !source::is_library(&name);
        if symbol.len() <= MAX_SHOWN_BYTES {
            if known.len() >= MAX_SHOWN {
                known.clear();
            }
            known.insert(symbol.into(), (name.clone(), in_app));
        }
        (name, in_app)
    })
}
