//! The frames of a crash: those of the agent's own code first, the rest as a number.

use bulkhead_types::{CrashRecord, Frame, Symbolized};

use super::Line;
use crate::colour::Colour;
use crate::words::counted;

/// Own frames in a block.
const OWN: usize = 12;

/// Frames in a block of a record that has none of its own.
const OTHERS: usize = 3;

/// Longest name of a function, in characters.
const NAME: usize = 80;

/// Widest name that others are aligned to.
const ALIGNED: usize = 44;

/// The agent's own frames, innermost first, and how many there are beside them.
pub(super) fn own(record: &CrashRecord) -> Vec<Line> {
    let frames = &record.frames;
    let has_own = frames.iter().any(|frame| frame.in_app);
    let most = if has_own { OWN } else { OTHERS };
    let shown: Vec<&Frame> =
        frames.iter().filter(|frame| frame.in_app == has_own).take(most).collect();
    let mut lines = panicked_at(record, &shown);
    let places = shown.iter().map(|frame| (name(frame), place(frame)));
    lines.extend(aligned(places).map(|text| match has_own {
        true => Line::in_colour(text, Colour::Bold),
        false => Line::new(text),
    }));
    let folded = frames.len() - shown.len();
    if folded > 0 {
        let of = if has_own { "of the runtime and libraries" } else { "more" };
        lines.push(Line::in_colour(format!("  … {} {of}", counted(folded, "frame")), Colour::Grey));
    }
    if !frames.is_empty() && record.symbolized != Symbolized::Done {
        lines
            .push(Line::in_colour(format!("  {}", without_lines(record.symbolized)), Colour::Grey));
    }
    lines
}

/// Functions and their places, in two columns.
pub(super) fn aligned(
    frames: impl Iterator<Item = (String, Option<String>)>,
) -> impl Iterator<Item = String> {
    let frames: Vec<_> = frames.map(|(name, place)| (cut(&name), place)).collect();
    let width =
        frames.iter().map(|(name, _)| name.chars().count()).filter(|it| *it <= ALIGNED).max();
    let width = width.unwrap_or(0);
    frames.into_iter().map(move |(name, place)| match place {
        Some(place) => format!("  at {name:<width$}  {place}"),
        None => format!("  at {name}"),
    })
}

/// All frames in their order, the agent's own ones with a mark.
pub(super) fn all(record: &CrashRecord) -> Vec<String> {
    let line = |frame: &Frame| {
        let mark = if frame.in_app { '*' } else { ' ' };
        let place = place(frame).map_or_else(String::new, |place| format!("  {place}"));
        format!("{mark}{:>3} {}{place}", frame.index, name(frame))
    };
    record.frames.iter().map(line).collect()
}

/// Why frames have neither file nor line.
fn without_lines(symbolized: Symbolized) -> &'static str {
    match symbolized {
        Symbolized::Done => "",
        Symbolized::Pending => "files and lines are not known yet",
        Symbolized::Unavailable => {
            "no files and lines: the component has no usable debug information"
        }
    }
}

/// Where a panic says that it happened, unless a frame says it.
fn panicked_at(record: &CrashRecord, shown: &[&Frame]) -> Vec<Line> {
    // An exception has frames of its own.
    let at = record.location.as_ref().filter(|_| record.exceptions.is_empty());
    let Some(at) = at else { return Vec::new() };
    let is_known = shown.iter().any(|frame| frame.in_app && frame.line == Some(at.line));
    let text = format!("  at {}:{}:{}", at.file, at.line, at.column);
    if is_known { Vec::new() } else { vec![Line::in_colour(text, Colour::Bold)] }
}

fn name(frame: &Frame) -> String {
    cut(frame.function.as_deref().unwrap_or("(no name)"))
}

fn cut(name: &str) -> String {
    match name.char_indices().nth(NAME) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

fn place(frame: &Frame) -> Option<String> {
    let (file, line) = (frame.file.as_ref()?, frame.line?);
    Some(format!("{file}:{line}"))
}
