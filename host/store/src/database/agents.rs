//! Rows of agents in the file.

use std::sync::Arc;

use bulkhead_types::{AgentId, Incarnation, Timestamp};
use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::image::{AgentRow, Due, Given, Private, RESERVED, TownKnows, Wanted};

/// Name of the fact that says which numbers were given to agents that are forgotten.
const FORGOTTEN: &str = "forgotten_incarnation";

/// How it is written whether an agent is desired.
const STOPPED: i64 = 0;
const RUNNING: i64 = 1;
const FAILED: i64 = 2;

/// How it is written whether the town has it.
const UNKNOWN: i64 = 0;
const NOTIFIED: i64 = 1;
const KNOWN: i64 = 2;

/// Everything that is kept of agents.
pub(super) struct Rows {
    pub rows: Vec<AgentRow>,
    /// Numbers up to this one were given to agents of which no row can be read.
    pub forgotten: Incarnation,
    /// Rows that say nothing, by what stands for their id.
    pub unreadable: Vec<Unreadable>,
}

/// A row that this program cannot read. It is left as it is, until its agent is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub id: String,
    /// Whether its agent is desired, as far as that can be read.
    pub wanted: Option<Wanted>,
    pub incarnation: Incarnation,
}

/// Reads all rows. One that says nothing costs no other.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<Rows> {
    let mut statement = connection.prepare(
        "SELECT agents.id, wanted, incarnation, restarts, changed_at, order_text, settings,
                town_knows
         FROM agents LEFT JOIN agent_texts USING (id)",
    )?;
    let (mut rows, mut unreadable) = (Vec::new(), Vec::new());
    let mut found = statement.query([])?;
    while let Some(found) = found.next()? {
        match row(found) {
            Ok(row) => rows.push(row),
            Err(_) => unreadable.push(Unreadable {
                id: found.get(0)?,
                wanted: wanted(found.get(1)?),
                incarnation: Incarnation(unsigned(found.get(2)?)),
            }),
        }
    }
    let forgotten = connection
        .query_row("SELECT value FROM facts WHERE name = ?1", [FORGOTTEN], |row| row.get(0))
        .optional()?;
    let forgotten = Incarnation(unsigned(forgotten.unwrap_or(0)));
    let of_unreadable = unreadable.iter().map(|row| row.incarnation).max();
    let forgotten = forgotten.max(of_unreadable.unwrap_or_default());
    Ok(Rows { rows, forgotten, unreadable })
}

fn wanted(value: i64) -> Option<Wanted> {
    match value {
        RUNNING => Some(Wanted::Running),
        FAILED => Some(Wanted::Failed),
        STOPPED => Some(Wanted::Stopped),
        _ => None,
    }
}

fn row(row: &Row<'_>) -> rusqlite::Result<AgentRow> {
    let id: String = row.get(0)?;
    let restarts: String = row.get(3)?;
    Ok(AgentRow {
        id: AgentId::parse(&id).map_err(|error| of_other_shape(0, error))?,
        wanted: wanted(row.get(1)?).ok_or_else(|| of_other_shape(1, NoSuchValue))?,
        incarnation: Incarnation(unsigned(row.get(2)?)),
        restarts: serde_json::from_str(&restarts)
            .map(Arc::new)
            .map_err(|error| of_other_shape(3, error))?,
        changed_at: Timestamp(row.get(4)?),
        order: row.get::<_, Option<String>>(5)?.map(Private::from),
        settings: row.get::<_, Option<String>>(6)?.map(Arc::from),
        town_knows: match row.get(7)? {
            KNOWN => TownKnows::Yes,
            NOTIFIED => TownKnows::Notified,
            UNKNOWN => TownKnows::No,
            _ => return Err(of_other_shape(7, NoSuchValue)),
        },
    })
}

/// A number that stands for nothing.
#[derive(Debug, thiserror::Error)]
#[error("it stands for nothing")]
struct NoSuchValue;

/// A value that this program never writes.
fn of_other_shape(
    column: usize,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    let error = FromSqlError::Other(Box::new(error));
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

/// Makes room for more numbers of every agent than the file has seen: whatever is given now, a run that comes
/// after this one gives none of it again. Rows that nobody can read stay as they are.
pub(super) fn reserve(connection: &Connection, unreadable: &[Unreadable]) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    let room = signed(RESERVED);
    transaction.execute("UPDATE agents SET incarnation = incarnation + ?1", [room])?;
    let mut statement =
        transaction.prepare("UPDATE agents SET incarnation = incarnation - ?1 WHERE id = ?2")?;
    for row in unreadable {
        statement.execute(params![room, row.id])?;
    }
    drop(statement);
    transaction.commit()
}

/// Takes back the room that was not used, where nobody else has changed the number.
pub(super) fn settle(connection: &Connection, given: &[Given]) -> rusqlite::Result<()> {
    let mut statement = connection
        .prepare("UPDATE agents SET incarnation = ?2 WHERE id = ?1 AND incarnation = ?3")?;
    given.iter().try_for_each(|Given { id, given, reserved }| {
        statement.execute(params![id.as_str(), signed(given.0), signed(reserved.0)]).map(|_| ())
    })
}

/// Writes one row as it is now, or removes it with everything of its agent.
pub(super) fn write(connection: &Connection, due: &Due) -> rusqlite::Result<()> {
    let Due { id, dirty, row, reserved, .. } = due;
    let id = id.as_str();
    let Some(row) = row else {
        connection.prepare_cached("DELETE FROM agents WHERE id = ?1")?.execute([id])?;
        connection.prepare_cached("DELETE FROM agent_texts WHERE id = ?1")?.execute([id])?;
        connection.prepare_cached("DELETE FROM snapshots WHERE agent_id = ?1")?.execute([id])?;
        return Ok(());
    };
    let wanted = match row.wanted {
        Wanted::Running => RUNNING,
        Wanted::Stopped => STOPPED,
        Wanted::Failed => FAILED,
    };
    let town_knows = match row.town_knows {
        TownKnows::No => UNKNOWN,
        TownKnows::Notified => NOTIFIED,
        TownKnows::Yes => KNOWN,
    };
    let restarts = serde_json::to_string(&*row.restarts)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    // A file that was away for a while may know of higher numbers than this run.
    connection
        .prepare_cached(
            "INSERT INTO agents (id, wanted, incarnation, restarts, changed_at, town_knows)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (id) DO UPDATE SET wanted = ?2,
                 incarnation = max(incarnation, ?3), restarts = ?4, changed_at = ?5,
                 town_knows = ?6",
        )?
        .execute(params![id, wanted, signed(reserved.0), restarts, row.changed_at.0, town_knows])?;
    if dirty.texts {
        connection
            .prepare_cached(
                "INSERT INTO agent_texts (id, order_text, settings) VALUES (?1, ?2, ?3)
                 ON CONFLICT (id) DO UPDATE SET order_text = ?2, settings = ?3",
            )?
            .execute(params![id, row.order.as_deref(), row.settings.as_deref()])?;
    }
    Ok(())
}

/// Writes which numbers were given to agents that are forgotten.
pub(super) fn write_forgotten(
    connection: &Connection,
    forgotten: Incarnation,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO facts (name, value) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET value = max(value, ?2)",
        )?
        .execute(params![FORGOTTEN, signed(forgotten.0)])?;
    Ok(())
}

/// Agents that are forgotten go on so much higher.
pub(super) fn leave_out(connection: &Connection, count: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO facts (name, value) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET value = value + ?2",
        )?
        .execute(params![FORGOTTEN, count])?;
    Ok(())
}

/// The database's integers have a sign; no count comes near it.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
