//! What is printed, beside a turn that is shown as it comes and a line that is being typed.

use std::cell::RefCell;

use bulkhead_printable as text;
use bulkhead_terminal::Colour;
use rustyline::ExternalPrinter;

use crate::commands::chat::TurnPage;
use crate::failure::Failure;
use crate::screen::Screen;

type Printer = Box<dyn ExternalPrinter>;

/// Stdout.
pub(super) struct Output {
    pub(super) screen: Screen,
    /// Of the line editor: prints above the line that is being typed.
    above: RefCell<Option<Printer>>,
    /// The turn that is shown.
    turn: RefCell<TurnPage>,
}

impl Output {
    pub(super) fn new(screen: Screen) -> Self {
        let turn = TurnPage::new(screen, false);
        Self { screen, above: RefCell::new(None), turn: RefCell::new(turn) }
    }

    /// From now on a line may be being typed.
    pub(super) fn print_above(&self, printer: Printer) {
        self.above.replace(Some(printer));
    }

    /// A new turn, to be shown as it comes.
    pub(super) fn begin_turn(&self) -> &RefCell<TurnPage> {
        self.turn.replace(TurnPage::new(self.screen, false));
        &self.turn
    }

    /// Lines that are already safe, each with its end.
    pub(super) fn lines(&self, lines: &str) -> Result<(), Failure> {
        let lines = self.turn.borrow_mut().break_line() + lines;
        match &mut *self.above.borrow_mut() {
            // What the terminal does not take is lost with the terminal.
            Some(printer) => printer.print(lines).map_err(|_| Failure::NobodyReads),
            None => self.screen.print(&lines),
        }
    }

    /// A line that is good to know.
    pub(super) fn good(&self, what: &str) -> Result<(), Failure> {
        self.line(what, Colour::Green)
    }

    /// A line that may be skipped.
    pub(super) fn aside(&self, what: &str) -> Result<(), Failure> {
        self.line(what, Colour::Grey)
    }

    /// Lines about something that is wrong.
    pub(super) fn wrong(&self, what: &str) -> Result<(), Failure> {
        self.painted(text::lines(what).lines(), Colour::Red)
    }

    fn line(&self, what: &str, colour: Colour) -> Result<(), Failure> {
        self.painted([&*text::line(what)], colour)
    }

    /// What an agent logged. A text of several lines, as a traceback, is one block.
    pub(super) fn logged(&self, what: &str) -> Result<(), Failure> {
        self.painted(text::lines(what).replace('\n', "\n  ").lines(), Colour::Grey)
    }

    fn painted<'a>(
        &self,
        lines: impl IntoIterator<Item = &'a str>,
        colour: Colour,
    ) -> Result<(), Failure> {
        let painted = lines.into_iter().map(|line| self.screen.paint(line, colour) + "\n");
        self.lines(&painted.collect::<String>())
    }
}
