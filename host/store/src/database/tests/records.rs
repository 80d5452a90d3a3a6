//! Snapshots and crash records.

use super::*;

#[test]
fn the_last_two_good_snapshots_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (database, _) = open_clean(dir.path());
    for n in 0..5_u8 {
        database.keep_snapshot(snapshot("a", &[n; 100])).unwrap().wait().unwrap();
    }
    drop(database);
    let (database, _) = open_clean(dir.path());
    let newest = kept(&database, "a").unwrap();
    assert_eq!(*newest.snapshot.bytes, [4; 100]);
    database.count_snapshot_failure(newest.generation);
    database.receipt().wait().unwrap();
    assert_eq!(kept(&database, "a").unwrap().failures, 1);
    database.set_snapshot_aside(newest.generation, "made the guest fail twice");
    database.receipt().wait().unwrap();
    let before = kept(&database, "a").unwrap();
    assert_eq!(*before.snapshot.bytes, [3; 100]);
    database.set_snapshot_aside(before.generation, "as well");
    database.receipt().wait().unwrap();
    assert_eq!(kept(&database, "a"), None);
    assert_eq!(kept(&database, "b"), None);
}

#[test]
fn a_snapshot_whose_bytes_changed_on_the_disk_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (database, _) = open_clean(dir.path());
    database.keep_snapshot(snapshot("a", b"good")).unwrap().wait().unwrap();
    let disk = Connection::open(file::path(dir.path())).unwrap();
    disk.execute("UPDATE snapshots SET bytes = ?1", [&b"baad"[..]]).unwrap();
    let newest = database.newest_snapshot(&id("a")).unwrap();
    assert!(matches!(newest, Newest::Rotten { .. }), "{newest:?}");
}

#[test]
fn a_snapshot_that_is_too_large_is_refused_by_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let (database, _, _told) = open_with(dir.path(), |config| config.max_snapshot_bytes = 10);
    let refused = database.keep_snapshot(snapshot("a", &[0; 11])).unwrap_err();
    assert_eq!(refused.to_string(), "snapshot has 11 bytes, at most 10 are kept");
}

#[test]
fn crash_records_are_found_by_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let (database, _) = open_clean(dir.path());
    let records: Vec<_> = (0..60).map(|n| Arc::new(crash(n))).collect();
    assert!(database.import_crashes(&records, PATIENCE));
    let ids = |query: CrashQuery| -> Vec<String> {
        let found = read_crashes(dir.path(), &query).unwrap();
        found.iter().map(|record| record.crash_id.clone()).collect()
    };
    let all = CrashQuery { limit: 1000, ..CrashQuery::default() };
    assert_eq!(ids(CrashQuery { limit: 2, ..all.clone() }), ["c00059", "c00058"]);
    let of_both = CrashQuery {
        agent: Some(id("even")),
        reason: Some(ExitReason::Panic),
        fingerprint: Some("f4".into()),
        ..all.clone()
    };
    assert_eq!(ids(of_both), ["c00054", "c00024"]);
    let prefix = CrashQuery { id_prefix: Some("c0003".into()), limit: 2, ..all.clone() };
    assert_eq!(ids(prefix), ["c00039", "c00038"]);
    let later = CrashQuery { since: Some(writer::now().after(PATIENCE)), ..all };
    assert_eq!(ids(later), [""; 0]);
}

#[test]
fn crash_records_go_by_count_age_and_size_and_the_newest_stays() {
    let count = Retention { records: 100, ..Retention::default() };
    let age = Retention { age: Duration::from_secs(3600), ..Retention::default() };
    let size = Retention { bytes: 50_000, ..Retention::default() };
    let tiny = Retention { bytes: 1, ..Retention::default() };
    for (rules, most, least) in [(count, 100, 100), (age, 500, 500), (size, 60, 20), (tiny, 1, 1)] {
        let dir = tempfile::tempdir().unwrap();
        let (database, _, _told) = open_with(dir.path(), |config| config.retention = rules);
        let old = Timestamp(writer::now().0 - 7_200_000);
        let of = |n: u64| match n {
            0..500 => CrashRecord { crashed_at: old, ..crash(n) },
            _ => crash(n),
        };
        for n in 0..1000 {
            database.keep_crash(of(n).into());
        }
        // Each batch removes some: as many as are needed to get through.
        for n in 1000..1010 {
            assert!(database.flush(PATIENCE));
            database.keep_crash(of(n % 1000).into());
        }
        assert!(database.flush(PATIENCE));
        let all = CrashQuery { limit: 5000, ..CrashQuery::default() };
        let left = read_crashes(dir.path(), &all).unwrap();
        assert!((least..=most + 500).contains(&left.len()), "{rules:?}: {}", left.len());
        assert!(left.len() <= most + 10, "{rules:?}: {}", left.len());
    }
}

#[test]
fn what_is_found_out_while_a_record_waits_costs_no_second_write() {
    let bounds = Bounds { works: 1, work_bytes: 1, crashes: 2 };
    let mut lanes = Lanes::new(Image::new(1), bounds);
    assert_eq!(lanes.push_crash(Arc::new(crash(1))), Pushed::TellsTheWriter);
    assert_eq!(lanes.push_crash(Arc::new(crash(2))), Pushed::Waits);
    let better = CrashRecord { message: "better".into(), ..crash(1) };
    assert_eq!(lanes.push_crash(Arc::new(better)), Pushed::Waits, "its place is its own");
    assert_eq!(lanes.push_crash(Arc::new(crash(3))), Pushed::NoRoom, "there is no other");
    let taken = lanes.take().crashes;
    let taken: Vec<_> = taken.iter().map(|record| (&*record.crash_id, &*record.message)).collect();
    assert_eq!(taken, [("c00001", "better"), ("c00002", &*crash(2).message)]);
}

#[test]
fn a_full_queue_drops_and_counts_and_never_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let (database, _, _told) = open_with(dir.path(), |config| config.crash_queue = 1);
    (0..2000).for_each(|n| database.keep_crash(Arc::new(crash(n))));
    assert!(database.flush(PATIENCE));
    let counts = database.counts();
    assert_eq!(counts.crashes_written + counts.crashes_dropped, 2000);
    assert_eq!(counts.crash_errors, 0);
    assert!(counts.crashes_dropped > 0);
}
