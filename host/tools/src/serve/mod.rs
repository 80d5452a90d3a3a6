//! The launcher's process.

mod cause;
mod monitor;
mod outbox;
mod ready;
mod start;
mod tool;
mod trial;
mod worker;

use std::process::ExitCode;

/// The main function of the process that [`Launcher::start`](crate::Launcher::start) starts, whose standard input is
/// the socket. It has to be called before there is another thread. It returns when the host's end of the socket is
/// closed, with nothing left of any tool.
///
/// # Errors
///
/// A failure, with its reason on stderr, if it cannot work.
pub fn serve() -> ExitCode {
    match monitor::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("bulkhead: launcher of tools: {problem}");
            ExitCode::FAILURE
        }
    }
}
