//! Texts as rows of a screen.

use ratatui::text::Span;

/// Columns of a window beside its text.
pub(super) const FRAME: usize = 4;

/// A crash page as rows of its window on a screen with so many columns.
pub(super) fn crash_rows(lines: &[String], columns: usize) -> impl Iterator<Item = String> {
    lines.iter().flat_map(move |line| wrapped(line, columns.saturating_sub(FRAME)))
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
