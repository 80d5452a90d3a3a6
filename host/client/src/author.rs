//! What the author of an agent is shown and given, whichever command it is: the host as a child process, what its log says,
//! and exceptions with the code around them.
//!
//! ```text
//!  a configuration ─▶ project
//!  the child ─▶ process ─▶ log lines ─▶ fact ─▶ crash ─▶ excerpt
//!                  └─▶ log_file
//! ```

pub(crate) mod crash;
mod excerpt;
pub(crate) mod fact;
mod log_file;
pub(crate) mod process;
pub(crate) mod project;
pub(crate) mod signals;
pub(crate) mod start;
