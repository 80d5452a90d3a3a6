//! What the server's thread and the test share.

use std::path::PathBuf;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

/// What the server does instead of serving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answers with this status and nothing else.
    Status(u16),
    /// Ends the connection after so many bytes of each pack that it sends.
    CutPack(usize),
    /// Waits so long before each KiB of a pack.
    Slow(Duration),
    /// Does not answer at all.
    Stall,
    /// Sends clients to this base URL.
    Redirect(String),
}

/// Requests so far, also those that were refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub requests: u64,
    /// Requests for the refs, for a fetch.
    pub listings: u64,
    /// Requests that asked for a pack and got one.
    pub packs: u64,
    /// Packs that clients pushed.
    pub pushes: u64,
    /// Refused because of a missing or wrong credential.
    pub unauthorized: u64,
}

/// The credential that the server wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub username: String,
    pub password: String,
}

#[derive(Debug, Default)]
pub(crate) struct Inner {
    pub fault: Option<Fault>,
    pub wanted: Option<Wanted>,
    pub counts: Counts,
    /// The values of `Authorization`, as they came.
    pub authorizations: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub root: PathBuf,
    inner: Mutex<Inner>,
}

impl State {
    pub fn new(root: PathBuf) -> Self {
        Self { root, inner: Mutex::default() }
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}
