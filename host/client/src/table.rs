//! Rows under titles, within the width of a terminal.

use bulkhead_terminal::{Colour, paint};

/// Between two columns.
const GAP: usize = 2;

/// A column.
pub struct Column {
    title: &'static str,
    /// How narrow it may become when the terminal is. `None`: as wide as it has to be.
    least: Option<usize>,
    to_the_right: bool,
}

impl Column {
    /// One that keeps its width.
    pub fn new(title: &'static str) -> Self {
        Self { title, least: None, to_the_right: false }
    }

    /// One that gives way, down to so many characters.
    pub fn giving(title: &'static str, least: usize) -> Self {
        Self { least: Some(least), ..Self::new(title) }
    }

    /// One of figures.
    pub fn of_figures(title: &'static str) -> Self {
        Self { to_the_right: true, ..Self::new(title) }
    }
}

/// What stands in a row under a title.
pub struct Cell {
    text: String,
    colour: Option<Colour>,
}

impl Cell {
    /// A text, which must be safe for a terminal.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), colour: None }
    }

    /// The same in a colour.
    pub fn in_colour(text: impl Into<String>, colour: Colour) -> Self {
        Self { text: text.into(), colour: Some(colour) }
    }
}

/// Draws it. With a width, columns that give way do so from the last to the first, and no line is
/// longer.
pub fn draw(columns: &[Column], rows: &[Vec<Cell>], width: Option<usize>, colours: bool) -> String {
    let widest = |(at, column): (usize, &Column)| {
        let cells = rows.iter().map(|row| row[at].text.chars().count());
        cells.max().unwrap_or(0).max(column.title.len())
    };
    let mut widths: Vec<usize> = columns.iter().enumerate().map(widest).collect();
    let total = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
    let mut over = width.map_or(0, |width| total.saturating_sub(width));
    for (column, width) in columns.iter().zip(&mut widths).rev() {
        let least = column.least.unwrap_or(*width).min(*width);
        let given = over.min(*width - least);
        *width -= given;
        over -= given;
    }
    let titles: Vec<_> = columns.iter().map(|column| Cell::new(column.title)).collect();
    let mut text = String::new();
    for row in std::iter::once(&titles).chain(rows) {
        let mut room = width.unwrap_or(usize::MAX);
        for (at, cell) in row.iter().enumerate() {
            let last = at + 1 == row.len();
            let shown = truncated(&cell.text, widths[at].min(room));
            let length = shown.chars().count();
            let blank = " ".repeat(widths[at].min(room) - length);
            let shown = match cell.colour {
                Some(colour) if colours => paint(&shown, colour),
                _ => shown,
            };
            let padded = match (columns[at].to_the_right, last) {
                (true, _) => format!("{blank}{shown}"),
                (false, true) => shown,
                (false, false) => format!("{shown}{blank}"),
            };
            text.push_str(&padded);
            room = room.saturating_sub(widths[at]);
            if !last {
                text.push_str(&" ".repeat(GAP.min(room)));
                room = room.saturating_sub(GAP);
            }
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
    text
}

/// At most so many characters; a mark says that there were more.
pub(crate) fn truncated(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept = text.chars().take(width.saturating_sub(1));
    if width == 0 { String::new() } else { kept.chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(width: Option<usize>, colours: bool) -> String {
        let columns =
            [Column::giving("AGENT", 4), Column::of_figures("N"), Column::giving("SAID", 6)];
        let rows = [
            vec![Cell::in_colour("mayor-of-town", Colour::Green), Cell::new("7"), Cell::new("hi")],
            vec![Cell::new("bad"), Cell::new("1234"), Cell::new("a long sentence of it")],
        ];
        draw(&columns, &rows, width, colours)
    }

    #[test]
    fn without_a_width_everything_is_shown() {
        let expected = "AGENT             N  SAID\n\
                        mayor-of-town     7  hi\n\
                        bad            1234  a long sentence of it\n";
        assert_eq!(table(None, false), expected);
        assert_eq!(table(Some(200), false), expected);
    }

    #[test]
    fn the_last_column_gives_way_first_and_no_line_is_longer_than_the_terminal() {
        let narrow = table(Some(30), false);
        assert!(narrow.contains("bad            1234  a long s…\n"), "{narrow}");
        let narrower = table(Some(20), false);
        assert!(narrower.contains("mayor…     7  hi\n"), "{narrower}");
        for width in 0..40 {
            for line in table(Some(width), false).lines() {
                assert!(line.chars().count() <= width, "{width}: {line:?}");
            }
        }
    }

    #[test]
    fn a_colour_takes_no_room() {
        let coloured = table(Some(30), true);
        assert!(coloured.contains("\x1b[32mmayor-of-town\x1b[0m     7  hi"), "{coloured:?}");
        assert_eq!(coloured.replace("\x1b[32m", "").replace("\x1b[0m", ""), table(Some(30), false));
    }
}
