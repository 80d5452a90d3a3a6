//! Crash records in the file, their index, and how long they stay.

use std::sync::Arc;
use std::time::Duration;

use bulkhead_types::time::millis;
use bulkhead_types::{AgentId, CrashRecord, ExitReason, Timestamp};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

/// How many crash records the file keeps. Whatever is passed first counts, and what was written first goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// At most so many.
    pub records: u64,
    /// Not longer than this, counted while hosts run. No wall clock has a part in it: one that jumped, or an edge
    /// device that comes up in 1970, must not cost a record, nor keep one.
    pub age: Duration,
    /// Of their texts together.
    pub bytes: u64,
}

impl Default for Retention {
    /// Ten thousand records of a month, 64 MiB.
    fn default() -> Self {
        let age = Duration::from_secs(30 * 24 * 3600);
        Self { records: 10_000, age, bytes: 64 * 1024 * 1024 }
    }
}

/// Which records of the file are wanted. All conditions together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CrashQuery {
    /// Of this agent.
    pub agent: Option<AgentId>,
    /// With this reason.
    pub reason: Option<ExitReason>,
    /// Of one cause.
    pub fingerprint: Option<String>,
    /// Whose id begins so.
    pub id_prefix: Option<String>,
    /// Crashed at this time or later.
    pub since: Option<Timestamp>,
    /// At most so many, the newest.
    pub limit: usize,
}

/// Name of the fact that says how long hosts have run with this file.
const RAN: &str = "ran_ms";

/// Records that go in one transaction for the retention's sake.
const STEP: u64 = 256;

/// What the file holds of records, counted along.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub records: u64,
    pub bytes: u64,
}

/// Counts what is there.
pub(super) fn count(connection: &Connection) -> rusqlite::Result<Held> {
    let sql = "SELECT count(*), coalesce(sum(size), 0) FROM crashes";
    connection.query_row(sql, [], |row| {
        let (records, bytes): (i64, i64) = (row.get(0)?, row.get(1)?);
        Ok(Held { records: records.unsigned_abs(), bytes: bytes.unsigned_abs() })
    })
}

/// How long hosts have run with this file.
pub(super) fn ran(connection: &Connection) -> rusqlite::Result<Duration> {
    let sql = "SELECT value FROM facts WHERE name = ?1";
    let ran = connection.query_row(sql, [RAN], |row| row.get::<_, i64>(0)).optional()?;
    Ok(Duration::from_millis(ran.unwrap_or(0).unsigned_abs()))
}

/// Writes how long hosts have run with this file.
pub(super) fn write_ran(connection: &Connection, ran: Duration) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO facts (name, value) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET value = max(value, ?2)",
        )?
        .execute(params![RAN, signed_ms(ran)])?;
    Ok(())
}

fn signed_ms(duration: Duration) -> i64 {
    i64::try_from(millis(duration)).unwrap_or(i64::MAX)
}

/// Writes a record, or replaces the one with its id. `ran`: how long hosts have run with the file.
pub(super) fn write(
    connection: &Connection,
    record: &CrashRecord,
    held: &mut Held,
    ran: Duration,
) -> rusqlite::Result<()> {
    let text = serde_json::to_string(record)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let size = text.len() as u64;
    let inserted = connection
        .prepare_cached(
            "INSERT INTO crashes
                 (crash_id, agent_id, reason, fingerprint, crashed_at, size, ran_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (crash_id) DO NOTHING",
        )?
        .execute(params![
            record.crash_id,
            record.agent_id.as_str(),
            record.reason.as_str(),
            record.fingerprint,
            record.crashed_at.0,
            size as i64,
            signed_ms(ran),
        ])?;
    if inserted == 1 {
        connection
            .prepare_cached("INSERT INTO crash_texts (seq, record) VALUES (?1, ?2)")?
            .execute(params![connection.last_insert_rowid(), text])?;
        held.records += 1;
        held.bytes += size;
        return Ok(());
    }
    // The same crash, of which more is known now. It keeps its position.
    let (seq, before): (i64, i64) = connection
        .prepare_cached("SELECT seq, size FROM crashes WHERE crash_id = ?1")?
        .query_row([&record.crash_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    connection
        .prepare_cached("UPDATE crashes SET size = ?2 WHERE seq = ?1")?
        .execute([seq, size as i64])?;
    connection
        .prepare_cached("UPDATE crash_texts SET record = ?2 WHERE seq = ?1")?
        .execute(params![seq, text])?;
    held.bytes = (held.bytes + size).saturating_sub(before.unsigned_abs());
    Ok(())
}

/// Removes some of the oldest records when there are too many, too old or too large ones. Says whether
/// there is more to remove. The newest record stays whatever its size. `ran`: how long hosts have run with the file.
pub(super) fn retain(
    connection: &Connection,
    rules: &Retention,
    held: &mut Held,
    ran: Duration,
) -> rusqlite::Result<bool> {
    let oldest = connection
        .prepare_cached("SELECT ran_ms FROM crashes ORDER BY seq LIMIT 1")?
        .query_row([], |row| row.get::<_, i64>(0))
        .optional()?;
    let Some(oldest) = oldest else { return Ok(false) };
    let since = signed_ms(ran.saturating_sub(rules.age));
    let too_many = held.records.saturating_sub(rules.records.max(1));
    let too_large = held.bytes > rules.bytes && held.records > 1;
    if too_many == 0 && !too_large && oldest >= since {
        return Ok(false);
    }
    // By order of writing: for a cursor, what is older than something that is gone is gone as well.
    let mut statement =
        connection.prepare_cached("SELECT seq, size, ran_ms FROM crashes ORDER BY seq LIMIT ?1")?;
    let victims = statement.query_map([STEP as i64], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?.unsigned_abs(), row.get::<_, i64>(2)?))
    })?;
    let mut last = None;
    let mut left = *held;
    for victim in victims {
        let (seq, size, at) = victim?;
        let excess = left.records > rules.records.max(1) || left.bytes > rules.bytes;
        if left.records <= 1 || !(excess || at < since) {
            break;
        }
        (left.records, left.bytes) = (left.records - 1, left.bytes.saturating_sub(size));
        last = Some(seq);
    }
    let Some(last) = last else { return Ok(false) };
    connection.prepare_cached("DELETE FROM crash_texts WHERE seq <= ?1")?.execute([last])?;
    connection.prepare_cached("DELETE FROM crashes WHERE seq <= ?1")?.execute([last])?;
    *held = left;
    Ok(true)
}

/// Some records, newest first, and how many of them could not be understood.
pub(super) fn query(
    connection: &Connection,
    wanted: &CrashQuery,
) -> rusqlite::Result<(Vec<Arc<CrashRecord>>, u64)> {
    let mut conditions = vec!["1".to_owned()];
    let mut values: Vec<Value> = Vec::new();
    let mut add = |condition, value: Value| {
        conditions.push(format!("{condition} ?{}", values.len() + 1));
        values.push(value);
    };
    if let Some(agent) = &wanted.agent {
        add("agent_id =", agent.as_str().to_owned().into());
    }
    if let Some(reason) = wanted.reason {
        add("reason =", reason.as_str().to_owned().into());
    }
    if let Some(fingerprint) = &wanted.fingerprint {
        add("fingerprint =", fingerprint.clone().into());
    }
    if let Some(prefix) = &wanted.id_prefix {
        // Ids are ASCII: everything that begins so lies before the prefix with the largest of them.
        add("crash_id >=", prefix.clone().into());
        add("crash_id <", format!("{prefix}\u{7f}").into());
    }
    if let Some(since) = wanted.since {
        add("crashed_at >=", since.0.into());
    }
    values.push(i64::try_from(wanted.limit).unwrap_or(i64::MAX).into());
    let conditions = conditions.join(" AND ");
    let sql = format!(
        "SELECT record FROM crashes JOIN crash_texts USING (seq)
         WHERE {conditions} ORDER BY seq DESC LIMIT ?{}",
        values.len()
    );
    let mut statement = connection.prepare(&sql)?;
    let texts = statement.query_map(params_from_iter(values), |row: &Row<'_>| row.get(0))?;
    let (mut records, mut unreadable) = (Vec::new(), 0);
    for text in texts {
        let text: String = text?;
        match serde_json::from_str(&text) {
            Ok(record) => records.push(Arc::new(record)),
            Err(_) => unreadable += 1,
        }
    }
    Ok((records, unreadable))
}
