//! Files that older and newer programs wrote.

use super::*;

/// A file of each version, as a program of that version wrote it. One that is new needs its own here.
const VERSIONS: &[&str] = &[
    include_str!("versions/1.sql"),
    include_str!("versions/2.sql"),
    include_str!("versions/3.sql"),
    include_str!("versions/4.sql"),
    include_str!("versions/5.sql"),
];

fn make(dir: &Path, sql: &str) {
    fs::create_dir_all(dir).unwrap();
    let connection = Connection::open(file::path(dir)).unwrap();
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
    connection.execute_batch(sql).unwrap();
}

fn shape(dir: &Path) -> Vec<String> {
    let connection = file::open_to_look(dir).unwrap();
    let sql = "SELECT m.name || ' ' || coalesce(group_concat(c.name || ' ' || c.type || c.pk), '')
               FROM sqlite_schema m LEFT JOIN pragma_table_info(m.name) c GROUP BY m.name ORDER BY 1";
    let mut statement = connection.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn every_version_has_a_file_here() {
    assert_eq!(VERSIONS.len() as i64, schema::NEWEST);
}

#[test]
fn a_file_of_every_older_version_is_brought_to_the_newest_with_all_that_it_has() {
    let new = tempfile::tempdir().unwrap();
    drop(open_clean(new.path()));
    for (at, sql) in VERSIONS.iter().enumerate() {
        let version = at as i64 + 1;
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), sql);
        assert_eq!(schema::version(&file::open_to_look(dir.path()).unwrap()).unwrap(), version);
        check_version(dir.path()).unwrap();
        let (database, found, notices) = open(dir.path());
        assert_eq!(notices.try_recv().ok(), None, "version {version}");
        assert_eq!(found.crashes.len(), 1);
        assert_eq!(
            (&*found.crashes[0].crash_id, &*found.crashes[0].message),
            ("c00001", "it went wrong")
        );
        let newest = kept(&database, "ann").unwrap();
        let code = (version >= 5).then_some(Digest([0; 32]));
        assert_eq!((newest.generation, newest.snapshot.code), (5, code));
        assert_eq!(database.forgotten(), Incarnation(41));
        let used: Vec<_> = found.usage.iter().map(|row| row.counts.tokens.total()).collect();
        assert_eq!(
            (&*used, found.usage_days.len()),
            if version < 4 { (&[][..], 0) } else { (&[12][..], 1) }
        );
        let rows = by_id(found.agents);
        let (ann, bob) = (&rows[&id("ann")], &rows[&id("bob")]);
        assert_eq!(
            (ann.wanted, ann.incarnation, ann.restarts.streak),
            (Wanted::Running, Incarnation(7), 2)
        );
        assert_eq!(ann.order.as_deref(), Some(r#"{"agentId":"ann","role":"mayor"}"#));
        assert_eq!(ann.settings.as_deref(), Some(r#"{"model":"small"}"#));
        assert_eq!((bob.wanted, bob.order.as_deref()), (Wanted::Stopped, None));
        let knows = if version < 2 { TownKnows::No } else { TownKnows::Yes };
        assert_eq!(ann.town_knows, knows);
        // It works.
        database.change(&id("cyd"), began(1, "order")).wait().unwrap();
        database.keep_crash(crash(2).into());
        drop(database);
        assert_eq!(shape(dir.path()), shape(new.path()), "version {version}");
        assert_eq!(open_clean(dir.path()).1.len(), 3);
    }
}

fn names(dir: &std::path::Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

#[test]
fn crash_records_of_every_version_are_read_without_changing_the_file() {
    for (at, sql) in VERSIONS.iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), sql);
        let before = fs::read(file::path(dir.path())).unwrap();
        let files = names(dir.path());
        let all = CrashQuery { limit: 10, agent: Some(id("ann")), ..CrashQuery::default() };
        assert_eq!(read_crashes(dir.path(), &all).unwrap().len(), 1, "version {}", at + 1);
        assert_eq!(fs::read(file::path(dir.path())).unwrap(), before);
        assert_eq!(names(dir.path()), files, "it leaves nothing behind");
    }
}

#[test]
fn a_file_that_was_made_and_not_filled_has_no_crash_records() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(file::path(dir.path()), "").unwrap();
    assert!(read_crashes(dir.path(), &CrashQuery::default()).unwrap().is_empty());
}

#[test]
fn a_file_of_a_newer_program_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (database, _) = open_clean(dir.path());
    database.change(&id("a"), began(1, "order")).wait().unwrap();
    drop(database);
    let connection = Connection::open(file::path(dir.path())).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let files = names(dir.path());
    let newer = check_version(dir.path()).unwrap_err();
    assert_eq!((newer.found, newer.known), (99, schema::NEWEST));
    let error = read_crashes(dir.path(), &CrashQuery::default()).unwrap_err().to_string();
    let known = format!("version 99, this program knows {}", schema::NEWEST);
    assert!(error.contains(&known) && newer.to_string().contains(&known), "{error}");
    assert_eq!(names(dir.path()), files, "it leaves nothing behind");
    let (database, found, notices) = open(dir.path());
    assert!(found.agents.is_empty() && found.unread.is_some(), "{found:?}");
    let notice = notices.try_recv().unwrap();
    let Notice::Unavailable { reason, retries: false } = notice else { panic!("{notice:?}") };
    assert!(reason.contains("version 99"), "{reason}");
    assert!(database.change(&id("a"), began(2, "x")).wait().is_err());
    drop(database);
    let connection = Connection::open(file::path(dir.path())).unwrap();
    connection.pragma_update(None, "user_version", schema::NEWEST).unwrap();
    drop(connection);
    let (_, found) = open_clean(dir.path());
    assert_eq!(found[&id("a")].order.as_deref(), Some("order"));
}
