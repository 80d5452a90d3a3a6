//! Use of language models.

use bulkhead_types::{ModelCounts, TokenUsage, UsageChange, UsageDay, UsageKey, UsageRow};

use super::*;
use crate::database::usage as table;

fn key(agent: &str, model: &str) -> UsageKey {
    let agent = (!agent.is_empty()).then(|| id(agent));
    UsageKey { agent, role: "r".into(), endpoint: "e".into(), model: model.into() }
}

fn row(agent: &str, model: &str, calls: u64) -> UsageRow {
    let tokens = TokenUsage { input: 10 * calls, cached: calls, output: 2 * calls, reasoning: 1 };
    let counts = ModelCounts { calls, failed: 1, tokens, cost_nano: 7 * calls };
    UsageRow { key: key(agent, model), counts, last_at: Timestamp(calls as i64) }
}

fn day(role: Option<&str>, day: i64, tokens: u64) -> UsageDay {
    UsageDay { role: role.map(Into::into), day, tokens, cost_nano: tokens }
}

fn rows(rows: Vec<UsageRow>) -> UsageChange {
    UsageChange { rows, ..UsageChange::default() }
}

fn found(dir: &Path) -> (Vec<UsageRow>, Vec<UsageDay>) {
    let (_, found, told) = open(dir);
    assert_eq!(told.try_recv().ok(), None);
    let (mut rows, mut days) = (found.usage, found.usage_days);
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    days.sort_by(|a, b| a.role.cmp(&b.role));
    (rows, days)
}

#[test]
fn what_was_used_is_there_after_a_new_open() {
    let dir = tempfile::tempdir().unwrap();
    let (database, _) = open_clean(dir.path());
    database.record_usage(rows(vec![row("a", "1", 1), row("a", "2", 5), row("", "1", 3)]));
    let days = vec![day(None, 100, 9), day(Some("r"), 100, 4)];
    database.record_usage(UsageChange { rows: vec![row("a", "1", 2)], days, gone: Vec::new() });
    drop(database);
    let (rows, days) = found(dir.path());
    assert_eq!(rows, [row("", "1", 3), row("a", "1", 2), row("a", "2", 5)]);
    assert_eq!(days, [day(None, 100, 9), day(Some("r"), 100, 4)]);
}

#[test]
fn it_is_written_soon_although_nobody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let (database, _) = open_clean(dir.path());
    database.record_usage(rows(vec![row("a", "1", 1)]));
    let until = std::time::Instant::now() + PATIENCE;
    let written = || table::read(&file::open_to_read(dir.path()).unwrap()).unwrap().0.len();
    while written() != 1 {
        assert!(std::time::Instant::now() < until, "it was not written");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_row_that_is_gone_and_there_again_counts_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (database, _) = open_clean(dir.path());
    database.record_usage(rows(vec![row("a", "1", 8), row("b", "1", 1)]));
    database.receipt_of_all().wait().unwrap();
    let gone = vec![key("a", "1"), key("b", "1")];
    database.record_usage(UsageChange { gone, rows: vec![row("", "1", 9)], days: Vec::new() });
    database.record_usage(rows(vec![row("a", "1", 1)]));
    drop(database);
    assert_eq!(found(dir.path()).0, [row("", "1", 9), row("a", "1", 1)]);
}

#[test]
fn another_day_takes_the_place_of_the_one_before_also_of_roles_that_are_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let (database, _) = open_clean(dir.path());
    let days = |days| UsageChange { days, ..UsageChange::default() };
    database.record_usage(days(vec![day(None, 100, 50), day(Some("old"), 100, 50)]));
    database.receipt_of_all().wait().unwrap();
    database.record_usage(days(vec![day(None, 102, 1)]));
    drop(database);
    assert_eq!(found(dir.path()).1, [day(None, 102, 1)]);
}

#[test]
fn a_new_file_gets_all_of_it_and_an_old_one_never_counts_down() {
    let dir = tempfile::tempdir().unwrap();
    let (database, _, told) = open(dir.path());
    database.record_usage(rows(vec![row("a", "1", 1)]));
    database.receipt_of_all().wait().unwrap();
    fs::remove_file(file::path(dir.path())).unwrap();
    database.record_usage(rows(vec![row("b", "1", 1)]));
    database.receipt_of_all().wait().unwrap();
    assert!(matches!(told.recv_timeout(PATIENCE).unwrap(), Notice::Unavailable { .. }));
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), AVAILABLE);
    drop(database);
    assert_eq!(found(dir.path()).0, [row("a", "1", 1), row("b", "1", 1)]);

    let connection = Connection::open(file::path(dir.path())).unwrap();
    table::write(&connection, &rows(vec![row("a", "1", 5)])).unwrap();
    table::write(&connection, &rows(vec![row("a", "1", 2)])).unwrap();
    drop(connection);
    assert_eq!(found(dir.path()).0[0].counts, row("a", "1", 5).counts);
}

#[test]
fn a_row_that_says_nothing_costs_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (database, _) = open_clean(dir.path());
    database.record_usage(rows(vec![row("a", "1", 1), row("b", "1", 1)]));
    drop(database);
    let connection = Connection::open(file::path(dir.path())).unwrap();
    connection
        .execute("UPDATE model_usage SET agent_id = 'no id' WHERE agent_id = 'a'", [])
        .unwrap();
    drop(connection);
    assert_eq!(found(dir.path()).0, [row("b", "1", 1)]);
}
