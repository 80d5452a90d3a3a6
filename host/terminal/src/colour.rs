//! Colours, and who gets them.

use std::io::IsTerminal;

/// A colour of the terminal's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Something was lost.
    Red,
    /// All is well.
    Green,
    /// Something is not as it should be.
    Yellow,
    /// What a reader may skip.
    Grey,
    /// A name.
    Blue,
    /// A name.
    Magenta,
    /// A name.
    Cyan,
    /// A heading.
    Bold,
}

/// The text in a colour.
pub fn paint(text: &str, colour: Colour) -> String {
    let code = match colour {
        Colour::Bold => 1,
        Colour::Red => 31,
        Colour::Green => 32,
        Colour::Yellow => 33,
        Colour::Blue => 34,
        Colour::Magenta => 35,
        Colour::Cyan => 36,
        Colour::Grey => 90,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// When there are colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ColourChoice {
    /// On a terminal that knows colours, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always, whatever stdout is.
    Always,
    /// Never.
    Never,
}

impl ColourChoice {
    /// Whether stdout gets colours, by what it is and what the environment says.
    pub fn on_stdout(self) -> bool {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        self.on(std::io::stdout().is_terminal() && !dumb, set("NO_COLOR"))
    }

    fn on(self, terminal_knows_them: bool, unwanted: bool) -> bool {
        match self {
            Self::Auto => terminal_knows_them && !unwanted,
            Self::Always => true,
            Self::Never => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_on_the_command_line_counts_more_than_the_environment() {
        assert!(ColourChoice::Auto.on(true, false));
        assert!(!ColourChoice::Auto.on(true, true) && !ColourChoice::Auto.on(false, false));
        assert!(ColourChoice::Always.on(false, true));
        assert!(!ColourChoice::Never.on(true, false));
    }
}
