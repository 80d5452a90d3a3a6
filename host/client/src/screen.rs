//! Where answers go: stdout, and what is known of it.

use std::io::{ErrorKind, IsTerminal, Write};

use crate::failure::Failure;

/// A colour of the terminal's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Red,
    Green,
    Yellow,
    Grey,
}

/// The text in a colour.
pub(crate) fn paint(text: &str, colour: Colour) -> String {
    let code = match colour {
        Colour::Red => 31,
        Colour::Green => 32,
        Colour::Yellow => 33,
        Colour::Grey => 90,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// What is known of stdout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    /// A person may be looking.
    pub(crate) is_terminal: bool,
    /// Colours may be used: a terminal that knows them, and nobody who does not want them.
    pub(crate) colours: bool,
}

impl Screen {
    /// Looks at stdout and the environment.
    pub(crate) fn of_stdout() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { is_terminal, colours: is_terminal && !dumb && !set("NO_COLOR") }
    }

    /// Characters in a line of the terminal, as it is now; `None` when it is none.
    pub(crate) fn width(self) -> Option<usize> {
        if !self.is_terminal {
            return None;
        }
        let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
        (size.ws_col > 0).then_some(usize::from(size.ws_col))
    }

    /// The text in a colour, where there are colours.
    pub(crate) fn paint(self, text: &str, colour: Colour) -> String {
        if self.colours { paint(text, colour) } else { text.to_owned() }
    }

    /// Writes a text.
    pub(crate) fn print(self, text: &str) -> Result<(), Failure> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| {
            // A reader that has seen enough closes the pipe.
            if error.kind() == ErrorKind::BrokenPipe {
                return Failure::NobodyReads;
            }
            Failure::NoAnswer(format!("cannot write to stdout: {error}"))
        })
    }
}
