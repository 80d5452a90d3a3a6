//! State that travels: the database of a town, kept in a bucket or a directory as well, so that the next machine goes on with it.
//!
//! ```text
//!   store ── pages that a commit changed ─▶ Outbox ─▶ thread ── one segment at a time ─▶ TOWN/log/N
//!     ▲                                        │                a copy of all pages now and then, in the same log
//!     │                                        └─▶ Progress: what is there of what was committed
//!   boot ── open: claim the log, restore what is newer than this disk
//! ```
//!
//! The log is a row of objects with numbers and no gaps. Each is created only if there is none with its number, so it has one
//! writer. Who begins to write takes the next free number; whoever wrote before finds its next number taken, and is at its end.
//! Each segment has the digest of the one before it.
//!
//! - `settings`: where to
//! - `place`: objects in a bucket, a directory or NATS: create, read, replace, remove
//! - `segment`: what an object of the log holds
//! - `head`: where the newest copy of all pages begins, and which epoch may write
//! - `log`: claiming the log, reading it to its end, and the next segment
//! - `image`: a file that is made from segments
//! - `marker`: which of the log's writers this disk has seen
//! - `restore`: what happens at a boot
//! - `outbox`: what was committed and is not there yet
//! - `whole`: small files on this disk
//! - `worker`: the thread
//! - `archives`: workspaces of agents, beside the log

mod archives;
mod fault;
mod head;
mod image;
mod log;
mod marker;
mod outbox;
mod place;
mod restore;
mod segment;
mod settings;
mod whole;
mod worker;

pub use archives::{
    ArchiveError, ArchiveFigures, ArchiveNotice, Archives, Arrived, Carrier, Limits, Shipped,
    go_on_without_archives,
};
pub use fault::ShipError;
pub use head::look;
pub use marker::forget;
pub use outbox::{NotShipped, Outbox};
pub use restore::{Opened, Restored, open};
pub use settings::{Address, AddressError, Settings};
pub use worker::{Copy, Notice, Ship};

#[cfg(test)]
mod tests;
