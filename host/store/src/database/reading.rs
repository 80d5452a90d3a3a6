//! Reading the file while a run has it.

use std::sync::Arc;

use bulkhead_types::AgentId;
use rusqlite::Connection;

use super::file::{self, FileError};
use super::snapshots::{self, Newest};
use super::{Database, NotDurable, Shared};

impl Database {
    /// The newest good snapshot of an agent, also one that is not written yet. Reads the disk: not for a thread
    /// that must not wait. An error: nobody knows whether there is one.
    pub fn newest_snapshot(&self, agent: &AgentId) -> Result<Newest, NotDurable> {
        if let Some(waiting) = self.shared.lanes.lock().newest_snapshot(agent) {
            return Ok(Newest::Kept(waiting));
        }
        // What was set aside is written when the file can be had.
        let aside = self.shared.lanes.lock().set_aside();
        let read = |connection: &Connection| snapshots::newest_but(connection, agent, &aside);
        Ok(self.shared.read_now(read)?.unwrap_or(Newest::None))
    }

    /// Whether an agent failed with a snapshot of these bytes, as far as that is still known. Reads the disk: not
    /// for a thread that must not wait. An error: nobody knows.
    pub fn is_set_aside(&self, agent: &AgentId, bytes: &[u8]) -> Result<bool, NotDurable> {
        let read = |connection: &Connection| snapshots::is_set_aside(connection, agent, bytes);
        Ok(self.shared.read_now(read)?.unwrap_or(false))
    }

    /// Why what earlier runs left could not be read yet, if it could not.
    pub fn unread(&self) -> Option<Arc<str>> {
        self.shared.lanes.lock().unread.clone()
    }
}

impl Shared {
    /// Reads the file beside the writer, or instead of one that cannot open it. Nothing: there is no file, or none that
    /// is used.
    fn read_now<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, NotDurable> {
        let used = self.dir().filter(|_| self.config.unusable.is_none());
        let Some(dir) = used else { return Ok(None) };
        // Who reads alone keeps the writer from opening the file meanwhile.
        let is_lost = || self.lanes.lock().lost.is_some();
        let alone = is_lost().then(|| self.writes.lock());
        if !file::may_be_there(dir) {
            let unread = self.lanes.lock().unread.clone();
            return unread.map_or(Ok(None), |reason| Err(NotDurable { reason }));
        }
        let opened = match file::open_to_read(dir) {
            Err(FileError::Unusable { .. }) if alone.is_some() && is_lost() => {
                file::open_alone(dir)
            }
            opened => opened,
        };
        let failed = |error: FileError| NotDurable { reason: error.to_string().into() };
        let connection = opened.map_err(failed)?;
        let read = read(&connection);
        read.map(Some).map_err(|error| failed(FileError::of("read the database", &error)))
    }
}
