//! Styles of the screen, with and without colours.

use bulkhead_terminal::Colour;
use ratatui::style::{Color, Modifier, Style};

/// How things look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Theme {
    pub(super) colours: bool,
}

impl Theme {
    pub(super) fn of(self, colour: Colour) -> Style {
        if !self.colours {
            return Style::new();
        }
        let style = Style::new();
        match colour {
            Colour::Red => style.fg(Color::Red),
            Colour::Green => style.fg(Color::Green),
            Colour::Yellow => style.fg(Color::Yellow),
            Colour::Grey => style.fg(Color::DarkGray),
            Colour::Blue => style.fg(Color::Blue),
            Colour::Magenta => style.fg(Color::Magenta),
            Colour::Cyan => style.fg(Color::Cyan),
            Colour::Bold => style.add_modifier(Modifier::BOLD),
        }
    }

    /// What must be seen also without colours.
    pub(super) fn alarm(self) -> Style {
        self.of(Colour::Red).add_modifier(Modifier::BOLD)
    }

    /// The heading of a table or window.
    pub(super) fn title() -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// The selected row.
    pub(super) fn bar() -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}
