//! How much of a line is read, and what it is known by.

/// What is checked of a line. The rest of a longer one is passed over.
pub const LINE_BYTES: usize = 256 << 10;

/// Names of agents, towns and runs are cut there.
pub(super) const NAME_BYTES: usize = 96;

/// A part of a record of ours that is longer than a line may be.
pub(super) const LINE_PART: &[u8] = b"container.line_part";
