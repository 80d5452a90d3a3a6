//! What a host finds when it comes up.

use std::path::Path;
use std::time::{Duration, Instant};

use bulkhead_types::{AgentId, Incarnation};
use rusqlite::Connection;

use super::file::{self, FileError};
use super::file_state::FileState;
use super::{
    CrashQuery, Found, NO_FILE, NUMBERS_LEFT_OUT, Notice, Shared, UnreadableAgent, agents, image,
    records, snapshots, usage,
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

impl First {
    /// Nothing is known of what earlier runs left. No number of theirs is given again, unless they had more than are left out.
    fn unread(reason: String) -> Self {
        let found = Found { unread: Some(reason), ..Found::default() };
        Self { found, forgotten: Incarnation(NUMBERS_LEFT_OUT), ..Self::default() }
    }
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
            let is_left = self.config.expected || file::may_be_there(dir);
            let first = if is_left { First::unread(reason.clone()) } else { First::default() };
            return (FileState::Lost { reason: reason.into(), retry_at: None }, first);
        }
        let mut is_expected = self.config.expected;
        let looked = match self.look(dir) {
            Err(FileError::Damaged(reason)) => file::set_aside(dir, self.now()).and_then(|aside| {
                is_expected = false;
                let (kept_as, removed) = (Some(aside.kept_as), aside.removed);
                self.report(Notice::SetAside { reason, kept_as, removed });
                self.look(dir)
            }),
            Ok((opened, first)) => {
                if opened.is_new && is_expected {
                    self.report(Notice::gone());
                }
                Ok((opened, first))
            }
            failed => failed,
        };
        let error = match looked {
            Ok((opened, first)) => return (FileState::Open(opened), first),
            Err(error) => error,
        };
        let retries = !matches!(error, FileError::TooNew { .. });
        let reason = error.to_string();
        self.report(Notice::Unavailable { reason: reason.clone(), retries });
        let first = match file::may_be_there(dir) {
            true => self.look_alone(dir).unwrap_or_else(|error| First::unread(error.to_string())),
            false if is_expected => First::unread(reason.clone()),
            false => First::default(),
        };
        let retry_at = retries.then(|| Instant::now() + self.config.retry);
        (FileState::Lost { reason: reason.into(), retry_at }, first)
    }

    fn look(&self, dir: &Path) -> Result<(file::Opened, First), FileError> {
        let opened = file::open(dir, self.config.check)?;
        let first = self.look_at(&opened.connection, opened.check_cut_short)?;
        Ok((opened, first))
    }

    /// Reads a file that cannot be written. Agents go on with what is in it, and it gets the rest later.
    fn look_alone(&self, dir: &Path) -> Result<First, FileError> {
        let mut connection = file::open_alone(dir)?;
        let check_cut_short = file::check(&mut connection, self.config.check)?;
        self.look_at(&connection, check_cut_short)
    }

    fn look_at(&self, connection: &Connection, check_cut_short: bool) -> Result<First, FileError> {
        if check_cut_short {
            self.report(Notice::CheckCutShort);
        }
        let failed = |error: rusqlite::Error| FileError::of("read the database", &error);
        let (first, unreadable) = self.read(connection).map_err(failed)?;
        if unreadable != (0, 0) {
            let (agents, crashes) = unreadable;
            self.report(Notice::Unreadable { agents, crashes });
        }
        Ok(first)
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
        let (agents, unreadable) = (rows, unreadable_agents);
        let found = Found { agents, unreadable, unread: None, crashes, usage, usage_days };
        // A disk that takes nothing is told with the first write that somebody waits for.
        let reserved = agents::reserve(connection, &of_agents).map_or(0, |()| image::RESERVED);
        let first = First { found, forgotten, reserved, held, generation, ran };
        Ok((first, (of_agents.len() as u64, unreadable_crashes)))
    }
}
