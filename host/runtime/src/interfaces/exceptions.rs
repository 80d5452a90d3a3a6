//! `record exception`: what programs throw.

use bulkhead_types::{Exception, SourceFrame};

use crate::bindings::bulkhead::agent::agent_types as wit;

/// A chain of causes as a guest gives it, within its bounds. Its frames are the author's: a guest that makes it knows which
/// those are.
pub(crate) fn lifted(chain: Vec<wit::Exception>) -> Vec<Exception> {
    Exception::bounded(chain.into_iter().map(Exception::from).collect())
}

/// Bytes that a chain takes in a line of the log, as JSON writes it.
pub(crate) fn json_bytes(chain: &[Exception]) -> usize {
    let size = bulkhead_printable::json_bytes;
    let frame = |it: &SourceFrame| it.function.as_deref().map_or(0, size) + size(&it.file) + 64;
    let one = |it: &Exception| {
        // The line has the first message twice.
        size(&it.kind) + 2 * size(&it.message) + it.frames.iter().map(frame).sum::<usize>() + 64
    };
    chain.iter().map(one).sum()
}

impl From<wit::Exception> for Exception {
    fn from(exception: wit::Exception) -> Self {
        let frames = exception.frames.into_iter().map(SourceFrame::from).collect();
        Self { kind: exception.kind, message: exception.message, frames }
    }
}

impl From<wit::SourceFrame> for SourceFrame {
    fn from(frame: wit::SourceFrame) -> Self {
        let wit::SourceFrame { function, file, line, column } = frame;
        Self { function, file, line, column }
    }
}
