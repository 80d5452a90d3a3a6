//! Structured log lines.
//!
//! ```no_run
//! bulkhead_guest::info!("turn finished", rounds = 3, model = "small");
//! ```
//!
//! The host drops and counts lines over the agent's rate, cuts a message at 8 KiB, and takes at most
//! 32 fields. What is printed to stdout or stderr becomes log lines as well, without fields.

use std::fmt::Display;

use crate::bindings::bulkhead::agent::host as raw;
use crate::host::beginning;

pub use raw::Level;

const MAX_FIELDS: usize = 32;
const MAX_LINE_BYTES: usize = 16 * 1024;
const MAX_NAME_BYTES: usize = 256;
const MAX_VALUE_BYTES: usize = 2 * 1024;

/// Writes one line. The macros are the usual way here.
pub fn write(level: Level, message: &str, fields: &[(&str, &dyn Display)]) {
    // The host cuts below these. Far more than them would end the agent: see `copied_bytes`.
    let field = |(key, value): &(&str, &dyn Display)| {
        let (key, value) = (beginning(key, MAX_NAME_BYTES), value.to_string());
        (key.to_owned(), beginning(&value, MAX_VALUE_BYTES).to_owned())
    };
    let fields: Vec<(String, String)> = fields.iter().take(MAX_FIELDS).map(field).collect();
    raw::log(level, beginning(message, MAX_LINE_BYTES), &fields);
}

/// Writes a line of a given level: `log!(Level::Info, "message", key = value)`.
#[macro_export]
macro_rules! log {
    ($level:expr, $message:expr $(, $key:ident = $value:expr)* $(,)?) => {
        $crate::log::write(
            $level,
            ::std::convert::AsRef::<str>::as_ref(&$message),
            &[$((stringify!($key), &$value as &dyn ::std::fmt::Display)),*],
        )
    };
}

/// Writes a line of level `trace`.
#[macro_export]
macro_rules! trace {
    ($($line:tt)+) => { $crate::log!($crate::log::Level::Trace, $($line)+) };
}

/// Writes a line of level `debug`.
#[macro_export]
macro_rules! debug {
    ($($line:tt)+) => { $crate::log!($crate::log::Level::Debug, $($line)+) };
}

/// Writes a line of level `info`.
#[macro_export]
macro_rules! info {
    ($($line:tt)+) => { $crate::log!($crate::log::Level::Info, $($line)+) };
}

/// Writes a line of level `warn`.
#[macro_export]
macro_rules! warn {
    ($($line:tt)+) => { $crate::log!($crate::log::Level::Warn, $($line)+) };
}

/// Writes a line of level `error`.
#[macro_export]
macro_rules! error {
    ($($line:tt)+) => { $crate::log!($crate::log::Level::Error, $($line)+) };
}
