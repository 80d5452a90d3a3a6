//! Use of language models: what is kept of it, and its rows in the file.
//!
//! Figures are absolute, and a file that comes back never counts down: where it knows more than this run, it is right.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bulkhead_types::{
    AgentId, ModelCounts, Timestamp, TokenUsage, UsageChange, UsageDay, UsageKey, UsageRow,
};
use rusqlite::{Connection, Row, params};

/// All that is kept, and what the file does not have of it. As many rows as the ledger has entries.
#[derive(Default)]
pub(super) struct UsageImage {
    rows: HashMap<UsageKey, UsageRow>,
    days: HashMap<Option<Arc<str>>, UsageDay>,
    dirty_rows: HashSet<UsageKey>,
    dirty_days: HashSet<Option<Arc<str>>>,
    /// Removed before rows are written: one of them may be there again.
    gone: HashSet<UsageKey>,
}

impl UsageImage {
    /// What a file had at open.
    pub fn load(&mut self, rows: Vec<UsageRow>, days: Vec<UsageDay>) {
        self.rows = rows.into_iter().map(|row| (row.key.clone(), row)).collect();
        self.days = days.into_iter().map(|day| (day.role.clone(), day)).collect();
    }

    pub fn change(&mut self, change: UsageChange) {
        for key in change.gone {
            self.rows.remove(&key);
            self.dirty_rows.remove(&key);
            self.gone.insert(key);
        }
        for row in change.rows {
            self.dirty_rows.insert(row.key.clone());
            self.rows.insert(row.key.clone(), row);
        }
        for day in change.days {
            self.dirty_days.insert(day.role.clone());
            self.days.insert(day.role.clone(), day);
        }
    }

    pub fn is_dirty(&self) -> bool {
        !self.dirty_rows.is_empty() || !self.dirty_days.is_empty() || !self.gone.is_empty()
    }

    /// Another file: it has nothing.
    pub fn all_is_dirty(&mut self) {
        self.dirty_rows = self.rows.keys().cloned().collect();
        self.dirty_days = self.days.keys().cloned().collect();
    }

    /// What the file does not have.
    pub fn take(&mut self) -> UsageChange {
        let rows = self.dirty_rows.drain().filter_map(|key| self.rows.get(&key).cloned());
        let days = self.dirty_days.drain().filter_map(|role| self.days.get(&role).cloned());
        UsageChange {
            rows: rows.collect(),
            days: days.collect(),
            gone: self.gone.drain().collect(),
        }
    }

    /// It was not written.
    pub fn put_back(&mut self, taken: UsageChange) {
        let UsageChange { rows, gone, days } = taken;
        let is_there = |key: &UsageKey| self.rows.contains_key(key);
        self.dirty_rows.extend(rows.into_iter().map(|row| row.key).filter(is_there));
        self.dirty_days.extend(days.into_iter().map(|day| day.role));
        self.gone.extend(gone);
    }
}

pub(super) fn is_empty(change: &UsageChange) -> bool {
    change.rows.is_empty() && change.days.is_empty() && change.gone.is_empty()
}

/// How many rows of the file a change is about.
pub(super) fn count(change: &UsageChange) -> u64 {
    (change.rows.len() + change.days.len() + change.gone.len()) as u64
}

/// Writes a change. Days that are over go.
pub(super) fn write(connection: &Connection, change: &UsageChange) -> rusqlite::Result<()> {
    let agent = |key: &UsageKey| key.agent.as_ref().map_or_else(String::new, AgentId::to_string);
    for key in &change.gone {
        connection
            .prepare_cached(
                "DELETE FROM model_usage
                 WHERE agent_id = ?1 AND role = ?2 AND endpoint = ?3 AND model = ?4",
            )?
            .execute(params![agent(key), key.role, key.endpoint, key.model])?;
    }
    for UsageRow { key, counts, last_at } in &change.rows {
        let tokens = &counts.tokens;
        connection
            .prepare_cached(
                "INSERT INTO model_usage (agent_id, role, endpoint, model, calls, failed,
                     input_tokens, cached_tokens, output_tokens, reasoning_tokens, cost_nano,
                     last_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
                 ON CONFLICT DO UPDATE SET
                     calls = max(calls, ?5), failed = max(failed, ?6),
                     input_tokens = max(input_tokens, ?7),
                     cached_tokens = max(cached_tokens, ?8),
                     output_tokens = max(output_tokens, ?9),
                     reasoning_tokens = max(reasoning_tokens, ?10),
                     cost_nano = max(cost_nano, ?11), last_at = ?12",
            )?
            .execute(params![
                agent(key),
                key.role,
                key.endpoint,
                key.model,
                signed(counts.calls),
                signed(counts.failed),
                signed(tokens.input),
                signed(tokens.cached),
                signed(tokens.output),
                signed(tokens.reasoning),
                signed(counts.cost_nano),
                last_at.0,
            ])?;
    }
    for UsageDay { role, day, tokens, cost_nano } in &change.days {
        connection
            .prepare_cached(
                "INSERT INTO model_usage_days (role, day, tokens, cost_nano)
                 VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET
                     tokens = CASE WHEN day = ?2 THEN max(tokens, ?3) ELSE ?3 END,
                     cost_nano = CASE WHEN day = ?2 THEN max(cost_nano, ?4) ELSE ?4 END,
                     day = ?2",
            )?
            .execute(params![
                role.as_deref().unwrap_or(""),
                day,
                signed(*tokens),
                signed(*cost_nano)
            ])?;
        // Of roles that there are no more.
        connection
            .prepare_cached("DELETE FROM model_usage_days WHERE day < ?1 - 1")?
            .execute([day])?;
    }
    Ok(())
}

/// Everything. A row that says nothing costs no other.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<(Vec<UsageRow>, Vec<UsageDay>)> {
    let mut statement = connection.prepare(
        "SELECT agent_id, role, endpoint, model, calls, failed, input_tokens, cached_tokens,
                output_tokens, reasoning_tokens, cost_nano, last_at FROM model_usage",
    )?;
    let rows = statement.query_map([], |row| Ok(self::row(row).ok().flatten()))?;
    let rows = rows.filter_map(Result::transpose).collect::<rusqlite::Result<_>>()?;
    let mut statement =
        connection.prepare("SELECT role, day, tokens, cost_nano FROM model_usage_days")?;
    let days = statement.query_map([], |row| {
        let role: String = row.get(0)?;
        Ok(UsageDay {
            role: (!role.is_empty()).then(|| role.into()),
            day: row.get(1)?,
            tokens: unsigned(row.get(2)?),
            cost_nano: unsigned(row.get(3)?),
        })
    })?;
    Ok((rows, days.collect::<rusqlite::Result<_>>()?))
}

/// `None`: its agent has an id that no agent has.
fn row(row: &Row<'_>) -> rusqlite::Result<Option<UsageRow>> {
    let agent: String = row.get(0)?;
    let agent = match agent.is_empty() {
        true => None,
        false => match AgentId::parse(&agent) {
            Ok(agent) => Some(agent),
            Err(_) => return Ok(None),
        },
    };
    let text = |column| row.get::<_, String>(column).map(Arc::from);
    let number = |column| row.get(column).map(unsigned);
    Ok(Some(UsageRow {
        key: UsageKey { agent, role: text(1)?, endpoint: text(2)?, model: text(3)? },
        counts: ModelCounts {
            calls: number(4)?,
            failed: number(5)?,
            tokens: TokenUsage {
                input: number(6)?,
                cached: number(7)?,
                output: number(8)?,
                reasoning: number(9)?,
            },
            cost_nano: number(10)?,
        },
        last_at: Timestamp(row.get(11)?),
    }))
}

/// The database's integers have a sign; no count comes near it.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
