//! What a program threw, and where.

use bulkhead_types::{Exception, SourceFrame};

use super::Line;
use super::frames::aligned;
use crate::colour::Colour;
use crate::words::counted;

/// Frames of an exception in a block.
const FRAMES: usize = 8;

/// Lines of what a cause says in a block.
const CAUSE_LINES: usize = 4;

/// The frames of the exception, whose text stands above them, then what caused it with its frames.
pub(super) fn block(chain: &[Exception]) -> Vec<Line> {
    let mut lines = Vec::new();
    for (index, exception) in chain.iter().enumerate() {
        if index > 0 {
            let summary = exception.summary();
            let text = summary.lines().take(CAUSE_LINES).enumerate();
            lines.extend(text.map(|(at, line)| match at {
                0 => Line::new(format!("  caused by {line}")),
                _ => Line::new(format!("  > {line}")),
            }));
        }
        let shown = &exception.frames[..exception.frames.len().min(FRAMES)];
        let places = shown.iter().map(|frame| (name(frame), Some(frame.place())));
        lines.extend(aligned(places).map(|text| Line::in_colour(text, Colour::Bold)));
        let folded = exception.frames.len() - shown.len();
        if folded > 0 {
            lines.push(Line::in_colour(
                format!("  … {}", counted(folded, "more frame")),
                Colour::Grey,
            ));
        }
    }
    lines
}

/// All of a chain, one exception or frame a line.
pub(super) fn all(chain: &[Exception]) -> impl Iterator<Item = String> {
    chain.iter().flat_map(|exception| {
        let frame = |frame: &SourceFrame| format!("    {}  {}", name(frame), frame.place());
        [exception.summary()].into_iter().chain(exception.frames.iter().map(frame))
    })
}

fn name(frame: &SourceFrame) -> String {
    frame.function.clone().unwrap_or_else(|| "(top level)".to_owned())
}
