//! What a host finds when it comes up.

use std::path::Path;
use std::time::{Duration, Instant};

use bulkhead_types::{AgentId, Incarnation};
use rusqlite::Connection;

use super::file::{self, FileError};
use super::file_state::FileState;
use super::{
    CrashQuery, Found, NO_FILE, Notice, Shared, UnreadableAgent, agents, image, records, snapshots,
    usage,
};

/// What the first check found.
#[derive(Default)]
pub(super) struct First {
    pub found: Found,
    pub forgotten: Incarnation,
    /// Numbers that the file has room for beyond those that it was found with.
    pub reserved: u64,
    pub held: records::Held,
    pub generation: u64,
    /// How long hosts have run with the file.
    pub ran: Duration,
}

impl Shared {
    /// Opens the file and reads what is needed of it. A damaged one is set aside, once.
    pub(super) fn first_look(&self) -> (FileState, First) {
        let Some(dir) = self.dir() else {
            let reason = NO_FILE.into();
            return (FileState::Lost { reason, retry_at: None }, First::default());
        };
        if let Some(reason) = self.config.unusable.clone() {
            self.report(Notice::Unavailable { reason: reason.clone(), retries: false });
            return (FileState::Lost { reason: reason.into(), retry_at: None }, First::default());
        }
        let looked = self.look(dir).or_else(|error| match error {
            FileError::Damaged(reason) => {
                let aside = file::set_aside(dir, self.now())?;
                let (kept_as, removed) = (aside.kept_as, aside.removed);
                self.report(Notice::SetAside { reason, kept_as, removed });
                self.look(dir)
            }
            error => Err(error),
        });
        let error = match looked {
            Ok((opened, first)) => return (FileState::Open(opened), first),
            Err(error) => error,
        };
        let retries = !matches!(error, FileError::TooNew { .. });
        let reason = error.to_string();
        self.report(Notice::Unavailable { reason: reason.clone(), retries });
        let retry_at = retries.then(|| Instant::now() + self.config.retry);
        (FileState::Lost { reason: reason.into(), retry_at }, First::default())
    }

    fn look(&self, dir: &Path) -> Result<(file::Opened, First), FileError> {
        let opened = file::open(dir, self.config.check)?;
        if opened.check_cut_short {
            self.report(Notice::CheckCutShort);
        }
        let failed = |error: rusqlite::Error| FileError::of("read the database", &error);
        let (first, unreadable) = self.read(&opened.connection).map_err(failed)?;
        if unreadable != (0, 0) {
            let (agents, crashes) = unreadable;
            self.report(Notice::Unreadable { agents, crashes });
        }
        Ok((opened, first))
    }

    fn read(&self, connection: &Connection) -> rusqlite::Result<(First, (u64, u64))> {
        let agents::Rows { rows, forgotten, unreadable: of_agents } = agents::read(connection)?;
        let newest = CrashQuery { limit: self.config.crashes_at_open, ..CrashQuery::default() };
        let (mut crashes, unreadable_crashes) = records::query(connection, &newest)?;
        crashes.reverse();
        let held = records::count(connection)?;
        let generation = snapshots::last_generation(connection)?;
        let ran = records::ran(connection)?;
        let unreadable = of_agents.iter().filter_map(|row| {
            let id = AgentId::parse(&row.id).ok()?;
            Some(UnreadableAgent { id, wanted: row.wanted })
        });
        let unreadable_agents = unreadable.collect();
        let (usage, usage_days) = usage::read(connection)?;
        let found =
            Found { agents: rows, unreadable: unreadable_agents, crashes, usage, usage_days };
        // A disk that takes nothing is told with the first write that somebody waits for.
        let reserved = agents::reserve(connection, &of_agents).map_or(0, |()| image::RESERVED);
        let first = First { found, forgotten, reserved, held, generation, ran };
        Ok((first, (of_agents.len() as u64, unreadable_crashes)))
    }
}
