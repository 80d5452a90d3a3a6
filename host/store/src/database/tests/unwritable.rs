//! Files that cannot be written at boot, or are not there.

use super::full_disk::small_disk;
use super::*;

/// Takes all that is left of the disk.
fn fill(dir: &Path) -> std::path::PathBuf {
    let filler = dir.join("filler");
    let full = fs::write(&filler, vec![0; 8 * 1024 * 1024]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    filler
}

fn soon(config: &mut Config) {
    config.retry = Duration::from_millis(20);
}

/// What a run leaves: an agent with a state, and one in quarantine.
fn leave(store: &Path) -> Database {
    let (database, _) = open_clean(store);
    database.change(&id("a"), began(40, "order")).wait().unwrap();
    let restarts = quarantined().into();
    let (incarnation, wanted) = (Incarnation(9), Wanted::Running);
    database.change(&id("q"), began(9, "order"));
    database.change(&id("q"), Change::Ended { incarnation, restarts, wanted }).wait().unwrap();
    database.keep_snapshot(snapshot("a", b"old")).unwrap().wait().unwrap();
    database.keep_crash(crash(1).into());
    assert!(database.flush(PATIENCE));
    database
}

#[track_caller]
fn wait_for(notices: &Receiver<Notice>, is_it: impl Fn(&Notice) -> bool) {
    while !is_it(&notices.recv_timeout(PATIENCE).unwrap()) {}
}

#[track_caller]
fn goes_on_with_what_is_there(store: &Path, disk: &Path) {
    let filler = fill(disk);
    let (database, found, notices) = open_with(store, soon);
    let notice = notices.recv_timeout(PATIENCE).unwrap();
    let Notice::Unavailable { reason, retries: true } = notice else { panic!("{notice:?}") };
    assert!(reason.contains("the disk has no room"), "{reason}");
    assert_eq!((found.agents.len(), found.crashes.len(), found.unread), (2, 1, None));
    assert!(matches!(database.durability(), Durability::Lost(_)));
    assert_eq!(*kept(&database, "a").unwrap().snapshot.bytes, *b"old");
    assert!(!database.is_set_aside(&id("a"), b"old").unwrap());
    // Also one that is set aside meanwhile is not there any more.
    database.set_snapshot_aside(kept(&database, "a").unwrap().generation, "a test");
    assert_eq!(database.newest_snapshot(&id("a")).unwrap(), Newest::None);
    // What this run adds is written when there is room, and nothing is lost or named late.
    database.note(&id("a"), Change::Returned { incarnation: Incarnation(200) });
    drop(database.keep_snapshot(snapshot("a", b"new")).unwrap());
    assert_eq!(*kept(&database, "a").unwrap().snapshot.bytes, *b"new");
    fs::remove_file(filler).unwrap();
    wait_for(&notices, |notice| matches!(notice, Notice::Available { .. }));
    assert!(database.flush(PATIENCE));
    assert_eq!(database.found_late(), []);
    drop(database);
    let (database, found) = open_clean(store);
    assert_eq!(found[&id("a")].incarnation, Incarnation(200));
    assert_eq!(*found[&id("q")].restarts, quarantined());
    let Kept { generation, snapshot, .. } = kept(&database, "a").unwrap();
    assert_eq!((generation, &*snapshot.bytes), (2, &b"new"[..]));
}

#[test]
fn on_a_full_disk_a_run_goes_on_with_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_unmount) = small_disk("4m", dir.path()) else { return };
    let store = dir.path().join("store");
    drop(leave(&store));
    assert!(!file::log_path(&store).exists(), "it was closed in order");
    goes_on_with_what_is_there(&store, dir.path());
}

#[test]
fn on_a_full_disk_what_is_in_the_log_alone_is_read_as_well() {
    let (dir, before) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let Some(_unmount) = small_disk("4m", dir.path()) else { return };
    let store = dir.path().join("store");
    fs::create_dir(&store).unwrap();
    // As a kill leaves it, on a machine that was started again.
    let database = leave(before.path());
    for name in ["bulkhead.db", "bulkhead.db-wal"] {
        fs::copy(before.path().join(name), store.join(name)).unwrap();
    }
    drop(database);
    assert!(fs::metadata(file::log_path(&store)).unwrap().len() > 0);
    goes_on_with_what_is_there(&store, dir.path());
}

#[test]
fn what_was_not_read_is_not_taken_for_nothing_and_is_named_when_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (store, away) = (dir.path().join("store"), dir.path().join("away"));
    drop(leave(&store));
    fs::rename(&store, &away).unwrap();
    fs::write(&store, "a file in the directory's place").unwrap();
    let (database, found, notices) = open_with(&store, |config| {
        soon(config);
        config.expected = true;
    });
    assert!(found.unread.is_some() && found.agents.is_empty(), "{found:?}");
    assert!(database.forgotten() >= Incarnation(1000), "no number is given twice");
    database.newest_snapshot(&id("a")).unwrap_err();
    database.note(&id("other"), began(200_000, "order"));
    fs::remove_file(&store).unwrap();
    fs::rename(&away, &store).unwrap();
    wait_for(&notices, |notice| *notice == AVAILABLE);
    assert_eq!(database.found_late(), [id("a")], "one in quarantine is not missed");
    assert_eq!(*kept(&database, "a").unwrap().snapshot.bytes, *b"old");
    database.change(&id("a"), stopped(u64::MAX / 4)).wait().unwrap();
    assert_eq!(database.found_late(), []);
}

#[test]
fn a_file_that_can_be_seen_and_not_read_is_not_taken_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    drop(leave(dir.path()));
    let whole = fs::read(file::path(dir.path())).unwrap();
    // A directory has its name.
    fs::remove_file(file::path(dir.path())).unwrap();
    fs::create_dir(file::path(dir.path())).unwrap();
    let (database, found, notices) = open_with(dir.path(), soon);
    assert!(found.unread.is_some(), "{found:?}");
    database.newest_snapshot(&id("a")).unwrap_err();
    let aside = dir.path().join("aside");
    fs::write(&aside, whole).unwrap();
    fs::remove_dir(file::path(dir.path())).unwrap();
    fs::rename(&aside, file::path(dir.path())).unwrap();
    wait_for(&notices, |notice| matches!(notice, Notice::Available { .. }));
    assert_eq!(*kept(&database, "a").unwrap().snapshot.bytes, *b"old");
}

#[test]
fn a_file_that_is_gone_is_missed_where_earlier_runs_had_one() {
    for expected in [false, true] {
        for is_empty in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let expect = |config: &mut Config| config.expected = expected;
            drop(leave(dir.path()));
            fs::remove_file(file::path(dir.path())).unwrap();
            if is_empty {
                fs::write(file::path(dir.path()), "").unwrap();
            }
            let (database, found, notices) = open_with(dir.path(), expect);
            assert_eq!(found, Found::default());
            assert_eq!(notices.try_recv().ok(), expected.then(Notice::gone));
            drop(database);
            let (_, _, notices) = open_with(dir.path(), expect);
            assert_eq!(notices.try_recv().ok(), None, "it is said once");
        }
    }
}

#[test]
fn a_file_that_is_gone_is_missed_also_where_none_can_be_made_at_boot() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    fs::write(&store, "a file in the directory's place").unwrap();
    let (_database, found, notices) = open_with(&store, |config| {
        soon(config);
        config.expected = true;
    });
    assert!(found.unread.is_some());
    fs::remove_file(&store).unwrap();
    wait_for(&notices, |notice| *notice == Notice::gone());
    wait_for(&notices, |notice| *notice == AVAILABLE);
}
