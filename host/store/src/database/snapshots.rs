//! Snapshots in the file: the last good ones, and those that were set aside.

use std::sync::Arc;

use bulkhead_types::{AgentId, Digest, Incarnation, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest as _, Sha256};

/// Good snapshots that are kept of an agent: the newest, and the one before it.
const GOOD: i64 = 2;

/// Snapshots that were set aside and are kept of an agent, for a person to look at.
const SET_ASIDE: i64 = 1;

/// What an agent wants to remember.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Whose.
    pub agent: AgentId,
    /// Of which incarnation.
    pub incarnation: Incarnation,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// The code that is known to work with it: it wrote it, or was the last to get through a turn after a restore from
    /// it. `None`: another machine or an older program kept it.
    pub code: Option<Digest>,
    /// The guest's own format.
    pub bytes: Arc<[u8]>,
}

/// A snapshot that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Counts all snapshots of this file upward. Names this one.
    pub generation: u64,
    /// What was kept.
    pub snapshot: Snapshot,
    /// Restores from it that failed.
    pub failures: u32,
}

/// What the newest snapshot of an agent is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Newest {
    /// There is none, or none that is good.
    None,
    /// The one to restore from.
    Kept(Kept),
    /// Its bytes are not those that were written. To be set aside.
    Rotten {
        /// Names it.
        generation: u64,
    },
}

/// The last name that was given to a snapshot.
pub(super) fn last_generation(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'snapshots'";
    connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

/// Keeps a snapshot, and of the older ones of its agent as many as have to be kept.
pub(super) fn write(connection: &Connection, kept: &Kept) -> rusqlite::Result<()> {
    let Kept { generation, snapshot, .. } = kept;
    let sha256 = Sha256::digest(&snapshot.bytes);
    let agent = snapshot.agent.as_str();
    connection
        .prepare_cached(
            "INSERT INTO snapshots
                 (generation, agent_id, incarnation, taken_at, code, sha256, size, bytes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (generation) DO NOTHING",
        )?
        .execute(params![
            *generation as i64,
            agent,
            i64::try_from(snapshot.incarnation.0).unwrap_or(i64::MAX),
            snapshot.taken_at.0,
            snapshot.code.map(|code| code.0),
            &sha256[..],
            snapshot.bytes.len() as i64,
            &snapshot.bytes[..]
        ])?;
    thin_out(connection, agent)
}

fn thin_out(connection: &Connection, agent: &str) -> rusqlite::Result<()> {
    for (which, kept) in [("IS NULL", GOOD), ("IS NOT NULL", SET_ASIDE)] {
        let sql = format!(
            "DELETE FROM snapshots WHERE agent_id = ?1 AND set_aside {which} AND generation NOT IN
             (SELECT generation FROM snapshots WHERE agent_id = ?1 AND set_aside {which}
              ORDER BY generation DESC LIMIT ?2)"
        );
        connection.prepare_cached(&sql)?.execute(params![agent, kept])?;
    }
    Ok(())
}

/// The newest good snapshot of an agent.
pub(super) fn newest(connection: &Connection, agent: &AgentId) -> rusqlite::Result<Newest> {
    newest_but(connection, agent, &[])
}

/// The same, but for some generations.
pub(super) fn newest_but(
    connection: &Connection,
    agent: &AgentId,
    aside: &[u64],
) -> rusqlite::Result<Newest> {
    // The file has a few of each agent.
    let generation: Option<i64> = connection
        .prepare_cached(
            "SELECT generation FROM snapshots WHERE agent_id = ?1 AND set_aside IS NULL ORDER BY generation DESC",
        )?
        .query_map([agent.as_str()], |row| row.get::<_, i64>(0))?
        .find(|it| !it.as_ref().is_ok_and(|it| aside.contains(&it.unsigned_abs())))
        .transpose()?;
    let found = connection
        .prepare_cached(
            "SELECT generation, incarnation, taken_at, code, sha256, failures, bytes FROM snapshots
             WHERE generation = ?1",
        )?
        .query_row([generation], |row| {
            let (generation, incarnation): (i64, i64) = (row.get(0)?, row.get(1)?);
            let (sha256, bytes): (Vec<u8>, Vec<u8>) = (row.get(4)?, row.get(6)?);
            let generation = generation.unsigned_abs();
            if Sha256::digest(&bytes)[..] != sha256[..] {
                return Ok(Newest::Rotten { generation });
            }
            let snapshot = Snapshot {
                agent: agent.clone(),
                incarnation: Incarnation(incarnation.unsigned_abs()),
                taken_at: Timestamp(row.get(2)?),
                code: row.get::<_, Option<[u8; 32]>>(3)?.map(Digest),
                bytes: bytes.into(),
            };
            Ok(Newest::Kept(Kept { generation, snapshot, failures: row.get(5)? }))
        })
        .optional()?;
    Ok(found.unwrap_or(Newest::None))
}

/// Whether an agent failed with a snapshot of these bytes, as far as that is still known.
pub(super) fn is_set_aside(
    connection: &Connection,
    agent: &AgentId,
    bytes: &[u8],
) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM snapshots
               WHERE agent_id = ?1 AND set_aside IS NOT NULL AND sha256 = ?2)";
    let sha256 = Sha256::digest(bytes);
    connection.query_row(sql, params![agent.as_str(), &sha256[..]], |row| row.get(0))
}

/// A restore from it failed.
pub(super) fn count_failure(connection: &Connection, generation: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE snapshots SET failures = failures + 1 WHERE generation = ?1")?
        .execute([generation as i64])?;
    Ok(())
}

/// This code works with it: failures before do not count.
pub(super) fn prove(
    connection: &Connection,
    generation: u64,
    code: Digest,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE snapshots SET failures = 0, code = ?2 WHERE generation = ?1")?
        .execute(params![generation as i64, code.0])?;
    Ok(())
}

/// It is not restored from any more, and kept for a person.
pub(super) fn set_aside(
    connection: &Connection,
    generation: u64,
    reason: &str,
) -> rusqlite::Result<()> {
    let agent: Option<String> = connection
        .prepare_cached(
            "UPDATE snapshots SET set_aside = ?2 WHERE generation = ?1 RETURNING agent_id",
        )?
        .query_row(params![generation as i64, reason], |row| row.get(0))
        .optional()?;
    agent.map_or(Ok(()), |agent| thin_out(connection, &agent))
}
