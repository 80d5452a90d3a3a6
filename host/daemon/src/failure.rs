//! Why the program does not do what it was asked to do.

use std::fmt;

use bulkhead_types::error::chain;

use crate::exit::Exit;

/// Prints an answer. A reader that has seen enough closes the pipe, which is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    let printed = bulkhead_terminal::print(text);
    printed.map(drop).map_err(|problem| Failure::new(Exit::CannotRun, problem))
}

/// A failure before anything ran, with the exit code that it leads to.
#[derive(Debug)]
pub struct Failure {
    code: Exit,
    message: String,
}

impl Failure {
    /// A failure that is only a sentence.
    pub fn new(code: Exit, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The input is wrong.
    pub fn bad_input(message: impl Into<String>) -> Self {
        Self { code: Exit::BadInput, message: message.into() }
    }

    /// The input is right and it does not work here.
    pub fn cannot_run(context: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        Self { code: Exit::CannotRun, message: format!("{context}: {}", chain(error)) }
    }

    /// The exit code.
    pub fn code(&self) -> Exit {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
