//! The tables, and the way from an older shape to the newest.

use rusqlite::{Connection, Transaction};

/// One step each, in order. A step that was released is never changed; a new one is added.
const MIGRATIONS: &[&str] = &[
    // wanted: 0 stopped, 1 running, 2 failed. Times are milliseconds since the Unix epoch.
    "CREATE TABLE agents (
        id          TEXT PRIMARY KEY,
        wanted      INTEGER NOT NULL,
        incarnation INTEGER NOT NULL,
        restarts    TEXT NOT NULL,
        changed_at  INTEGER NOT NULL
     ) STRICT, WITHOUT ROWID;
     -- Apart from the rest: they are large and change seldom.
     CREATE TABLE agent_texts (
        id          TEXT PRIMARY KEY,
        order_text  TEXT,
        settings    TEXT
     ) STRICT;
     CREATE TABLE facts (
        name        TEXT PRIMARY KEY,
        value       INTEGER NOT NULL
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE snapshots (
        generation  INTEGER PRIMARY KEY AUTOINCREMENT,
        agent_id    TEXT NOT NULL,
        incarnation INTEGER NOT NULL,
        taken_at    INTEGER NOT NULL,
        sha256      BLOB NOT NULL,
        failures    INTEGER NOT NULL DEFAULT 0,
        set_aside   TEXT,
        size        INTEGER NOT NULL,
        bytes       BLOB NOT NULL
     ) STRICT;
     CREATE INDEX snapshots_of_agent ON snapshots (agent_id, generation, size);
     CREATE TABLE crashes (
        seq         INTEGER PRIMARY KEY AUTOINCREMENT,
        crash_id    TEXT NOT NULL UNIQUE,
        agent_id    TEXT NOT NULL,
        reason      TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        crashed_at  INTEGER NOT NULL,
        size        INTEGER NOT NULL
     ) STRICT;
     -- Apart from what is searched: ten thousand rows without their texts are a megabyte, read through in a
     -- millisecond, and a storm of crashes has no indexes to keep but one.
     CREATE TABLE crash_texts (
        seq         INTEGER PRIMARY KEY,
        record      TEXT NOT NULL
     ) STRICT;",
    // 0 the town does not have it, 1 it was notified, 2 it has it.
    "ALTER TABLE agents ADD COLUMN town_knows INTEGER NOT NULL DEFAULT 0;",
    // How long hosts had run with this file when the record was written, in milliseconds.
    "ALTER TABLE crashes ADD COLUMN ran_ms INTEGER NOT NULL DEFAULT 0;",
    // Calls of language models. An empty agent: those that have no row any more. An empty role: the container. Days
    // are counted since the Unix epoch, costs in billionths.
    "CREATE TABLE model_usage (
        agent_id         TEXT NOT NULL,
        role             TEXT NOT NULL,
        endpoint         TEXT NOT NULL,
        model            TEXT NOT NULL,
        calls            INTEGER NOT NULL,
        failed           INTEGER NOT NULL,
        input_tokens     INTEGER NOT NULL,
        cached_tokens    INTEGER NOT NULL,
        output_tokens    INTEGER NOT NULL,
        reasoning_tokens INTEGER NOT NULL,
        cost_nano        INTEGER NOT NULL,
        last_at          INTEGER NOT NULL,
        PRIMARY KEY (agent_id, role, endpoint, model)
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE model_usage_days (
        role      TEXT PRIMARY KEY,
        day       INTEGER NOT NULL,
        tokens    INTEGER NOT NULL,
        cost_nano INTEGER NOT NULL
     ) STRICT, WITHOUT ROWID;",
    // The digest of the code that is known to work with it. NULL: not known.
    "ALTER TABLE snapshots ADD COLUMN code BLOB;",
];

/// The shape that this program writes.
pub(super) const NEWEST: i64 = MIGRATIONS.len() as i64;

/// The shape of a file. 0: a new one.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Whether a file of this shape has crash records, in the columns that are read.
pub(super) fn has_crashes(version: i64) -> bool {
    (1..=NEWEST).contains(&version)
}

/// Brings a file to the newest shape, one step and one transaction at a time.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let from = usize::try_from(version(connection)?).unwrap_or(usize::MAX);
    for (at, step) in MIGRATIONS.iter().enumerate().skip(from) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        set_version(&transaction, at as i64 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

fn set_version(transaction: &Transaction<'_>, version: i64) -> rusqlite::Result<()> {
    transaction.pragma_update(None, "user_version", version)
}
