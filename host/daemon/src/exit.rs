//! Numbered ends of the process.

use std::process::ExitCode;

/// How the process ends. The numbers are part of the interface; `bulkhead --help` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// As asked.
    Clean = 0,
    /// The address, the state directory or the engine is not to be had.
    CannotRun = 1,
    /// The command line, the configuration or a component is wrong. The number that `clap` uses.
    BadInput = 2,
    /// Not every agent ended by itself, or a second signal cut the end short.
    Unclean = 3,
    /// A panic of the host that nothing contained. The log has it as `container.uncaught_exception`.
    Panicked = 4,
    /// The supervisor died too often for its init process.
    GaveUp = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}
