//! Where answers go: stdout, and what is known of it.

use std::io::IsTerminal;

use bulkhead_terminal::{Colour, ColourChoice, Reader, paint};

use crate::failure::Failure;

/// What is known of stdout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    /// A person may be looking.
    pub(crate) is_terminal: bool,
    /// Colours may be used: a terminal that knows them, and nobody who does not want them.
    pub(crate) colours: bool,
}

/// Characters in a line of the terminal that stdout is; `None` when it is none.
pub fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// What `TERM` says of terminals that take no control sequences. The line editor does not edit there.
const DUMB: [&str; 3] = ["dumb", "cons25", "emacs"];

/// Whether this is one of them.
pub(crate) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|is| DUMB.iter().any(|term| is.eq_ignore_ascii_case(term)))
}

impl Screen {
    /// Looks at stdout and the environment.
    pub(crate) fn of_stdout(colours: ColourChoice) -> Self {
        Self { is_terminal: std::io::stdout().is_terminal(), colours: colours.on_stdout() }
    }

    /// Characters in a line of the terminal, as it is now; `None` when it is none.
    pub(crate) fn width(self) -> Option<usize> {
        self.is_terminal.then(terminal_width).flatten()
    }

    /// The text in a colour, where there are colours.
    pub(crate) fn paint(self, text: &str, colour: Colour) -> String {
        if self.colours { paint(text, colour) } else { text.to_owned() }
    }

    /// Writes a text.
    pub(crate) fn print(self, text: &str) -> Result<(), Failure> {
        match bulkhead_terminal::print(text).map_err(Failure::NoAnswer)? {
            Reader::Reads => Ok(()),
            Reader::IsGone => Err(Failure::NobodyReads),
        }
    }
}
