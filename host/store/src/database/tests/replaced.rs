//! Files that go, come back, or are replaced under a host.

use super::*;

#[test]
fn a_file_that_was_away_at_boot_gets_what_this_run_decided_and_keeps_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let (store, away) = (dir.path().join("store"), dir.path().join("away"));
    let (database, _) = open_clean(&store);
    for agent in ["stopped-meanwhile", "begun-later", "untouched"] {
        database.change(&id(agent), began(40, "old")).wait().unwrap();
    }
    drop(database);
    fs::rename(&store, &away).unwrap();
    fs::write(&store, "a file in the directory's place").unwrap();
    let soon = |config: &mut Config| config.retry = Duration::from_millis(20);
    let (database, found, notices) = open_with(&store, soon);
    assert_eq!(found, Found::default());
    assert!(matches!(notices.recv_timeout(PATIENCE).unwrap(), Notice::Unavailable { .. }));
    // Nothing is known of it, so it counts from 1 again.
    database.note(&id("stopped-meanwhile"), began(1, "new"));
    database.note(&id("stopped-meanwhile"), stopped(1));
    fs::remove_file(&store).unwrap();
    fs::rename(&away, &store).unwrap();
    assert_eq!(notices.recv_timeout(PATIENCE).unwrap(), AVAILABLE);
    database.change(&id("begun-later"), began(1, "new")).wait().unwrap();
    drop(database);
    let (_, found) = open_clean(&store);
    let seen = |agent: &str| {
        let row = &found[&id(agent)];
        (row.wanted, row.incarnation.0, row.order.as_deref())
    };
    assert_eq!(seen("stopped-meanwhile"), (Wanted::Stopped, 40, None));
    assert_eq!(seen("begun-later"), (Wanted::Running, 40, Some("new")));
    assert_eq!(seen("untouched"), (Wanted::Running, 40, Some("old")));
}

#[test]
fn a_file_that_somebody_removed_is_made_again_with_everything() {
    let dir = tempfile::tempdir().unwrap();
    let (database, _, notices) = open(dir.path());
    database.change(&id("a"), began(1, "order")).wait().unwrap();
    fs::remove_file(file::path(dir.path())).unwrap();
    database.change(&id("b"), began(1, "order")).wait().unwrap();
    assert!(matches!(notices.recv_timeout(PATIENCE).unwrap(), Notice::Unavailable { .. }));
    assert_eq!(notices.recv_timeout(PATIENCE).unwrap(), AVAILABLE);
    drop(database);
    assert_eq!(open_clean(dir.path()).1.len(), 2);
}

#[test]
fn what_the_writer_had_in_hand_does_not_come_after_what_is_newer() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { dir: Some(dir.path().to_owned()), ..Config::default() };
    let (mut writer, _) = Database::prepare(config, |_| {});
    let shared = Arc::clone(&writer.shared);
    let change = |change| shared.lanes.lock().image.change(&id("a"), change, writer::now(), true);
    change(began(1, "old"));
    let in_hand = shared.lanes.lock().take();
    assert_eq!(in_hand.rows.len(), 1);
    // Before it is written, the agent changes and the file goes.
    change(began(2, "new"));
    fs::remove_file(file::path(dir.path())).unwrap();
    writer.write(in_hand);
    let connection = file::open_to_read(dir.path()).unwrap();
    let rows = agents::read(&connection).unwrap().rows;
    assert_eq!(rows[0].order.as_deref(), Some("new"));
}

#[test]
fn a_file_that_is_made_again_knows_the_numbers_of_agents_that_are_forgotten() {
    for damaged in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (database, _, notices) = open_with(dir.path(), |config| config.max_agents = 1);
        database.change(&id("a"), began(40, "order"));
        database.change(&id("a"), stopped(40)).wait().unwrap();
        database.change(&id("b"), began(1, "order")).wait().unwrap();
        assert_eq!(database.forgotten(), Incarnation(40));
        match damaged {
            true => Connection::open(file::path(dir.path()))
                .unwrap()
                .execute_batch("DROP TABLE agents")
                .unwrap(),
            false => fs::remove_file(file::path(dir.path())).unwrap(),
        }
        database.change(&id("b"), stopped(1)).wait().unwrap();
        notices.recv_timeout(PATIENCE).unwrap();
        drop(database);
        let (database, _, _notices) = open(dir.path());
        assert_eq!(database.forgotten(), Incarnation(40), "damaged: {damaged}");
    }
}

#[test]
fn snapshots_count_on_when_a_file_comes_back_that_was_away_at_boot() {
    let dir = tempfile::tempdir().unwrap();
    let (store, away) = (dir.path().join("store"), dir.path().join("away"));
    let (database, _) = open_clean(&store);
    for _ in 0..5 {
        database.keep_snapshot(snapshot("a", b"old")).unwrap().wait().unwrap();
    }
    drop(database);
    fs::rename(&store, &away).unwrap();
    fs::write(&store, "a file in the directory's place").unwrap();
    let soon = |config: &mut Config| config.retry = Duration::from_millis(20);
    let (database, _, notices) = open_with(&store, soon);
    assert!(matches!(notices.recv_timeout(PATIENCE).unwrap(), Notice::Unavailable { .. }));
    fs::remove_file(&store).unwrap();
    fs::rename(&away, &store).unwrap();
    assert_eq!(notices.recv_timeout(PATIENCE).unwrap(), AVAILABLE);
    database.keep_snapshot(snapshot("a", b"new")).unwrap().wait().unwrap();
    assert_eq!(*kept(&database, "a").unwrap().snapshot.bytes, *b"new");
}

#[test]
fn a_file_that_is_damaged_while_it_is_in_use_is_replaced_with_everything() {
    let dir = tempfile::tempdir().unwrap();
    let (database, _, notices) = open(dir.path());
    database.change(&id("a"), began(1, "order")).wait().unwrap();
    let saboteur = Connection::open(file::path(dir.path())).unwrap();
    saboteur.execute_batch("DROP TABLE agents").unwrap();
    database.change(&id("b"), began(1, "order")).wait().unwrap();
    assert!(matches!(notices.recv_timeout(PATIENCE).unwrap(), Notice::SetAside { .. }));
    drop(database);
    assert_eq!(open_clean(dir.path()).1.len(), 2);
}
