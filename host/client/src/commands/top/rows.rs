//! Texts as rows of a screen.

use ratatui::text::Span;

/// Columns of a window beside its text.
pub(super) const FRAME: usize = 4;

/// Rows of a window beside its text.
pub(super) const BORDERS: usize = 2;

/// What keys do, and what is seen.
pub(super) const HELP: [&str; 14] = [
    "↑ ↓ PgUp PgDn Home End   select an agent, or scroll",
    "Enter                    open the agent: events, and turns as they happen",
    "Esc                      back",
    "m                        send a message to the agent",
    "s                        stop the agent, or start it",
    "c                        show the last crash of the agent",
    "?                        this help",
    "q, Ctrl-C                quit",
    "",
    "Agents that need attention come first: quarantined or failed, in backoff,",
    "above 90 % of their memory limit. Then those that work, wait, and are over.",
    "",
    "Bars are the last seconds, newest on the right: memory of the limit,",
    "CPU of one core, tokens of the most in a second.",
];

/// Lines as rows of a window on a screen with so many columns.
pub(super) fn rows_in_window(
    lines: &[impl AsRef<str>],
    columns: usize,
) -> impl Iterator<Item = String> {
    lines.iter().flat_map(move |line| wrapped(line.as_ref(), columns.saturating_sub(FRAME)))
}

/// A text as lines that fit.
pub(super) fn wrapped(words: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for character in words.chars() {
        let columns = width_of(character);
        if used + columns > width {
            lines.push(String::new());
            used = 0;
        }
        used += columns;
        if let Some(line) = lines.last_mut() {
            line.push(character);
        }
    }
    lines
}

/// Columns of a character.
pub(super) fn width_of(character: char) -> usize {
    Span::raw(&*character.encode_utf8(&mut [0; 4])).width()
}
