//! AssemblyScript: `abort: no rig in assembly/agent.ts(12:5)`.

use bulkhead_types::exception::{Exception, SourceFrame};

use crate::place;

const ABORT: &str = "abort: ";

pub(crate) fn begins(line: &str) -> bool {
    line.starts_with(ABORT)
}

pub(crate) fn exception(lines: &[&str]) -> Option<Exception> {
    let text = lines.first()?.strip_prefix(ABORT)?;
    let read = text.rsplit_once(" in ").and_then(|(said, place)| Some((said, frame(place)?)));
    let (said, frame) = read.map_or((text, None), |(said, frame)| (said, Some(frame)));
    let frames = frame.into_iter().collect();
    Some(Exception { kind: "abort".into(), message: said.to_owned(), frames })
}

/// `assembly/agent.ts(12:5)`.
fn frame(place: &str) -> Option<SourceFrame> {
    let (file, numbers) = place.trim_end().strip_suffix(')')?.rsplit_once('(')?;
    let (line, column) = numbers.split_once(':')?;
    place::frame(file, line.parse().ok()?, Some(column.parse().ok()?))
}
