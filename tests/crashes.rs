//! What is found out about a crash afterwards, with real guests and the runtime in this process.

mod components;
mod core_dumps;
mod guest;
mod symbols;
