//! What is found out about a crash afterwards, with real guests and the runtime in this process.

#[path = "crashes/components.rs"]
mod components;
#[path = "crashes/core_dumps.rs"]
mod core_dumps;
#[path = "crashes/guest.rs"]
mod guest;
#[path = "crashes/symbols.rs"]
mod symbols;
