//! Rows of agents that this program cannot read.

use super::*;

/// Every value of the table, as it stands there.
fn table(dir: &Path) -> Vec<Vec<rusqlite::types::Value>> {
    let connection = file::open_to_look(dir).unwrap();
    let sql =
        "SELECT id, wanted, incarnation, restarts, changed_at, town_knows, order_text, settings
               FROM agents LEFT JOIN agent_texts USING (id) ORDER BY id";
    let mut statement = connection.prepare(sql).unwrap();
    let row = |row: &rusqlite::Row<'_>| (0..8).map(|column| row.get(column)).collect();
    let rows: Vec<Vec<_>> = statement.query_map([], row).unwrap().map(Result::unwrap).collect();
    rows
}

/// Rows of another program, one for each way not to be understood.
fn spoil(dir: &Path) {
    let connection = Connection::open(file::path(dir)).unwrap();
    for (agent, what) in [
        ("a-restarts", "restarts = '{\"streak\": \"many\"}'"),
        ("b-wanted", "wanted = 9"),
        ("c-town", "town_knows = 9"),
        ("d-id", "id = 'no such name!'"),
    ] {
        let sql = format!("UPDATE agents SET {what} WHERE id = '{agent}'");
        assert_eq!(connection.execute(&sql, []).unwrap(), 1, "{agent}");
    }
}

#[test]
fn a_row_that_cannot_be_read_stays_as_it_is_through_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (database, _) = open_clean(dir.path());
    for agent in ["a-restarts", "b-wanted", "c-town", "d-id", "good"] {
        database.change(&id(agent), began(500, "order")).wait().unwrap();
    }
    drop(database);
    spoil(dir.path());
    let before = table(dir.path());
    for round in 0..3 {
        let (database, found, notices) = open(dir.path());
        assert_eq!(notices.try_recv().unwrap(), Notice::Unreadable { agents: 4, crashes: 0 });
        let mut unreadable: Vec<_> =
            found.unreadable.iter().map(|row| (row.id.to_string(), row.wanted)).collect();
        unreadable.sort_by(|a, b| a.0.cmp(&b.0));
        let running = Some(Wanted::Running);
        let expected = [("a-restarts", running), ("b-wanted", None), ("c-town", running)];
        assert_eq!(unreadable, expected.map(|(id, wanted)| (id.to_owned(), wanted)));
        assert!(database.forgotten() >= Incarnation(500), "no number is given twice");
        database.change(&id("other"), began(501 + round, "order")).wait().unwrap();
        drop(database);
        let after: Vec<_> = table(dir.path());
        let of = |rows: &[Vec<rusqlite::types::Value>]| -> Vec<_> {
            let name = |row: &Vec<_>| matches!(&row[0], rusqlite::types::Value::Text(name) if name != "other");
            rows.iter().filter(|row| name(row)).cloned().collect()
        };
        assert_eq!(of(&after), of(&before));
    }
    // A start replaces it.
    let (database, _, _notices) = open(dir.path());
    database.change(&id("a-restarts"), began(600, "new")).wait().unwrap();
    drop(database);
    let (_, found, notices) = open(dir.path());
    assert_eq!(notices.try_recv().unwrap(), Notice::Unreadable { agents: 3, crashes: 0 });
    let row = &by_id(found.agents)[&id("a-restarts")];
    assert_eq!((row.incarnation, row.order.as_deref()), (Incarnation(600), Some("new")));
}
