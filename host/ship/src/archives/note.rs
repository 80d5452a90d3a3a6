//! What this disk knows of the archive of an agent: a file `.shipped/AGENT` beside the workspaces.
//!
//! The workspace here is at least as new as the archives that its note names. If the index names another one, another machine
//! has been at work since. After a start of the machine that is so only if the tree is still the one of the archive, or its agent
//! has begun since: the disk may have lost what was written last, and the archive has it.
//!
//! ```text
//!   packed ─▶ with(id)  index names it ─▶ named  the agent begins ─▶ used  its end ─▶ with(id), or named as it was
//! ```

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::walk::Survey;
use crate::{marker, whole};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Note {
    /// Where the archives are. Those of another place are others.
    pub to: String,
    /// Archives that the workspace has gone on from, and those that were made of it since of which it is not known whether they
    /// are named.
    pub ids: Vec<String>,
    /// The tree as it is in the last of them.
    pub fingerprint: String,
    /// Whether the last of them is known to be named.
    pub is_named: bool,
    /// What is in the tree and not in the last of them.
    pub skipped: u64,
    /// The start of the machine's kernel when this was written.
    pub boot_id: String,
    /// Whether the agent has begun since the last of them was made.
    pub is_used: bool,
}

/// Archives that a note names, at most. Above that the oldest one goes which is not known to be named.
const MAX_IDS: usize = 256;

impl Note {
    /// Reads it. One that is damaged counts as none: then the archive is newer.
    pub fn read(path: &Path, to: &str) -> Option<Self> {
        let note: Self = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        (note.to == to).then_some(note)
    }

    /// Of a tree that is as it is in an archive that is named.
    pub fn of(to: &str, id: String, fingerprint: String) -> Self {
        Self::default().with(to, id, fingerprint, 0).named()
    }

    /// The same with one more archive, of which it is not known whether it is named. The agent has not begun since.
    pub fn with(mut self, to: &str, id: String, fingerprint: String, skipped: u64) -> Self {
        if self.ids.len() >= MAX_IDS {
            self.ids.remove(1);
        }
        self.ids.push(id);
        let (to, boot_id) = (to.to_owned(), marker::boot_id());
        Self { to, ids: self.ids, fingerprint, is_named: false, skipped, boot_id, is_used: false }
    }

    /// The same at a begin of the agent.
    pub fn used(self) -> Self {
        Self { is_used: true, boot_id: marker::boot_id(), ..self }
    }

    /// Of a tree that was never shipped, at a begin of its agent.
    pub fn new(to: &str) -> Self {
        Self { to: to.to_owned(), ..Self::default() }.used()
    }

    /// Whether the tree was ever shipped, or brought here.
    pub fn is_of_any(&self) -> bool {
        !self.ids.is_empty()
    }

    /// The same when the last of them is named and the tree is as it is there. All others count no longer.
    pub fn named(mut self) -> Self {
        let ids = self.ids.split_off(self.ids.len().saturating_sub(1));
        Self { ids, is_named: true, boot_id: marker::boot_id(), is_used: false, ..self }
    }

    /// Whether there is nothing to write at a begin.
    pub fn is_used_now(&self) -> bool {
        self.is_used && self.is_of_this_start()
    }

    /// Whether the machine was not started since it was written. If nobody can tell, it may have been.
    pub fn is_of_this_start(&self) -> bool {
        !self.boot_id.is_empty() && self.boot_id == marker::boot_id()
    }

    pub fn knows(&self, id: &str) -> bool {
        self.ids.iter().any(|known| known == id)
    }

    /// Whether what this disk wrote after the archive that is named cannot be lost without a trace: the machine was not started
    /// since, or the agent has gone on, or it was packed once more.
    pub fn is_ahead_of(&self, named: &str) -> bool {
        self.is_used || self.is_of_this_start() || self.ids.last().is_none_or(|last| last != named)
    }

    /// Whether the tree is as it is in this archive.
    pub fn is_unchanged(&self, id: &str, fingerprint: &str) -> bool {
        self.ids.last().is_some_and(|last| last == id) && self.fingerprint == fingerprint
    }

    /// Whether all of the tree is in an archive that is or was named.
    pub fn is_shipped(&self, now: &Survey) -> bool {
        self.is_named
            && self.skipped == 0
            && now.seen.skipped == 0
            && self.fingerprint == now.fingerprint
    }

    /// Whether there may be more here than is shipped.
    pub fn is_owed(&self) -> bool {
        self.is_used || !self.is_named
    }

    /// It is on the disk then.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        whole::write(path, self)
    }

    /// For what only spares work, or is known otherwise.
    pub fn write_soon(&self, path: &Path) -> io::Result<()> {
        whole::write_soon(path, self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::walk::Seen;
    use super::*;

    #[test]
    fn what_was_packed_at_the_end_of_an_agent_is_not_ahead_of_its_archive_after_a_restart() {
        let begun = Note::new("place");
        assert!(begun.is_owed() && !begun.is_of_any());
        let mut packed = begun.with("place", "first".into(), "tree".into(), 1);
        assert!(packed.is_ahead_of("first"), "the disk has all");
        packed.boot_id = "before".into();
        assert!(!packed.is_ahead_of("first"), "it may have lost some of it");
        assert!(packed.is_ahead_of("older"), "it was packed once more");
        assert!(packed.is_owed() && packed.is_unchanged("first", "tree"));
        let left_out = packed.clone().named();
        assert!(!left_out.is_owed() && left_out.ids == ["first"]);
        let now = Survey { seen: Seen::default(), fingerprint: "tree".into() };
        assert!(!left_out.is_shipped(&now), "what was left out is only here");
        assert!(Note::of("place", "first".into(), "tree".into()).is_shipped(&now));
        assert!(packed.used().is_ahead_of("first"), "its agent has gone on");
    }
}
