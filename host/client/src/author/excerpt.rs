//! Lines of the author's file around a place in it.
//!
//! ```text
//!     11 |   async message({ text }) {
//!   > 12 |     return text.nothing.length;
//!        |                        ^
//!     13 |   },
//! ```

use std::path::{Component, Path, PathBuf};

use bulkhead_printable as text;
use bulkhead_types::SourceFrame;

use crate::table::truncated;

/// Lines before and after the one that it is about.
const AROUND: usize = 3;

/// Characters of a line.
const WIDTH: usize = 120;

/// Larger files are not read: the host takes 16 MiB of a source.
const MAX_BYTES: u64 = 16 << 20;

/// The file of a frame, below `base`. `None` where it leads elsewhere: a program can name any file.
pub(crate) fn file_of(frame: &SourceFrame, base: &Path) -> Option<PathBuf> {
    let path = Path::new(&frame.file);
    let is_below = path.components().all(|part| matches!(part, Component::Normal(_)));
    (is_below && !frame.file.is_empty()).then(|| base.join(path))
}

/// The lines around a frame, each with its end, safe to print. Empty where the file has no such line.
pub(crate) fn of_file(path: &Path, line: u32, column: Option<u32>) -> String {
    let is_small =
        std::fs::metadata(path).is_ok_and(|about| about.is_file() && about.len() <= MAX_BYTES);
    let source = is_small.then(|| std::fs::read(path).ok()).flatten().unwrap_or_default();
    excerpt(&String::from_utf8_lossy(&source), line, column)
}

fn excerpt(source: &str, line: u32, column: Option<u32>) -> String {
    let lines: Vec<&str> = source.lines().collect();
    let at = (line as usize).wrapping_sub(1);
    if at >= lines.len() {
        return String::new();
    }
    let (first, last) = (at.saturating_sub(AROUND), (at + AROUND).min(lines.len() - 1));
    let digits = (last + 1).to_string().len();
    let mut shown = String::new();
    for (index, text) in lines.iter().enumerate().take(last + 1).skip(first) {
        let mark = if index == at { '>' } else { ' ' };
        let line = format!("  {mark} {:>digits$} | {}", index + 1, printable(text));
        shown += line.trim_end();
        shown.push('\n');
        if index == at
            && let Some(before) = column.and_then(|column| before(text, column))
        {
            shown += &format!("    {:digits$} | {:before$}^\n", "", "");
        }
    }
    shown
}

fn printable(line: &str) -> String {
    truncated(&text::line(&line.replace('\t', "    ")), WIDTH)
}

/// Characters that are shown before a column of a line, from 1. `None` where that is not shown.
fn before(line: &str, column: u32) -> Option<usize> {
    let column = (column as usize).checked_sub(1)?;
    let prefix: String = line.chars().take(column).collect();
    let shown = text::line(&prefix.replace('\t', "    ")).chars().count();
    (prefix.chars().count() == column && shown < WIDTH).then_some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_lines_before_and_after_and_a_caret_under_the_column() {
        let source: String = (1..=12).map(|line| format!("line {line}\n")).collect();
        let expected = [
            "     6 | line 6",
            "     7 | line 7",
            "     8 | line 8",
            "  >  9 | line 9",
            "       |      ^",
            "    10 | line 10",
            "    11 | line 11",
            "    12 | line 12",
        ];
        assert_eq!(excerpt(&source, 9, Some(6)).lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_tab_and_what_a_terminal_acts_upon_do_not_move_the_caret() {
        let expected = [r"  > 1 |             \u{1b}x = y.z", r"      |                       ^"];
        let shown = excerpt("\t\t\t\u{1b}x = y.z", 1, Some(9));
        assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_not_there_is_not_shown() {
        assert_eq!(excerpt("one\n", 2, None), "");
        assert_eq!(excerpt("one\n", 0, None), "");
        assert_eq!(excerpt("", 1, None), "");
        assert_eq!(excerpt("one\n", 1, Some(9)), "  > 1 | one\n", "no such column");
        assert_eq!(excerpt("one\n", 1, Some(4)), "  > 1 | one\n      |    ^\n", "its end");
        let long = "x".repeat(500);
        let shown = excerpt(&long, 1, Some(400));
        assert!(shown.lines().count() == 1 && shown.chars().count() < 140, "{shown}");
        assert_eq!(of_file(Path::new("/nowhere/agent.js"), 1, None), "");
    }

    #[test]
    fn only_files_of_the_source_are_opened() {
        let frame = |file: &str| SourceFrame { file: file.to_owned(), ..SourceFrame::default() };
        let base = Path::new("agents");
        assert_eq!(file_of(&frame("lib/x.js"), base), Some(PathBuf::from("agents/lib/x.js")));
        for file in ["", "/etc/passwd", "../x.js", "lib/../../x.js", "."] {
            assert_eq!(file_of(&frame(file), base), None, "{file}");
        }
    }
}
