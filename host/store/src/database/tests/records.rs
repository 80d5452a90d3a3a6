//! Snapshots and crash records.

use super::crash_queue::CrashQueue;
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
fn a_snapshot_knows_what_code_works_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (database, _) = open_clean(dir.path());
    let (wrote, other) = (Digest([1; 32]), Digest([2; 32]));
    let written = Snapshot { code: Some(wrote), ..snapshot("a", b"state") };
    database.keep_snapshot(written).unwrap().wait().unwrap();
    let known = |database: &Database| {
        let kept = kept(database, "a").unwrap();
        (kept.snapshot.code, kept.failures)
    };
    assert_eq!(known(&database), (Some(wrote), 0));
    let generation = kept(&database, "a").unwrap().generation;
    database.count_snapshot_failure(generation);
    database.receipt().wait().unwrap();
    assert_eq!(known(&database), (Some(wrote), 1));
    database.prove_snapshot(generation, other);
    drop(database);
    let (database, _) = open_clean(dir.path());
    assert_eq!(known(&database), (Some(other), 0));
    database.keep_snapshot(snapshot("a", b"of the town")).unwrap().wait().unwrap();
    assert_eq!(known(&database), (None, 0));
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
fn snapshots_that_find_no_disk_are_written_when_there_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    fs::write(&store, "in its place").unwrap();
    let (database, _, notices) =
        open_with(&store, |config| config.retry = Duration::from_millis(20));
    for bytes in [b"one", b"two"] {
        database.keep_snapshot(snapshot("a", bytes)).unwrap().wait().unwrap_err();
    }
    database.keep_snapshot(snapshot("b", b"bee")).unwrap().wait().unwrap_err();
    let newest = kept(&database, "a").expect("it is kept in memory");
    assert_eq!(*newest.snapshot.bytes, *b"two");
    fs::remove_file(&store).unwrap();
    while !matches!(notices.recv_timeout(PATIENCE).unwrap(), Notice::Available { .. }) {}
    assert!(database.flush(PATIENCE));
    for (agent, bytes) in [("a", b"two"), ("b", b"bee")] {
        let Newest::Kept(kept) = read_snapshot(&store, &id(agent)).unwrap() else { panic!() };
        assert_eq!(*kept.snapshot.bytes, *bytes);
    }
}

#[test]
fn snapshots_that_wait_for_a_disk_have_the_bound_of_those_that_wait_for_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    fs::write(&store, "in its place").unwrap();
    let (database, _, _notices) = open_with(&store, |config| config.snapshot_queue_bytes = 250);
    for agent in ["a", "b"] {
        database.keep_snapshot(snapshot(agent, &[1; 100])).unwrap().wait().unwrap_err();
    }
    let refused = database.keep_snapshot(snapshot("c", &[1; 100])).unwrap_err();
    assert_eq!(refused, SnapshotRefused::Full);
}

#[test]
fn a_snapshot_that_is_too_large_is_refused_by_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let (database, _, _notices) = open_with(dir.path(), |config| config.max_snapshot_bytes = 10);
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

/// Lets hosts have run for this much longer with the file.
fn let_run(dir: &Path, time: Duration) {
    let connection = Connection::open(file::path(dir)).unwrap();
    let ran = crate::database::records::ran(&connection).unwrap() + time;
    crate::database::records::write_ran(&connection, ran).unwrap();
}

#[test]
fn crash_records_go_by_count_age_and_size_and_the_newest_stays() {
    let count = Retention { records: 100, ..Retention::default() };
    let age = Retention { age: Duration::from_secs(3600), ..Retention::default() };
    let size = Retention { bytes: 50_000, ..Retention::default() };
    let tiny = Retention { bytes: 1, ..Retention::default() };
    for (rules, most, least) in [(count, 100, 100), (age, 500, 500), (size, 60, 20), (tiny, 1, 1)] {
        let dir = tempfile::tempdir().unwrap();
        let open = || open_with(dir.path(), |config| config.retention = rules);
        let (database, _, _notices) = open();
        (0..500).for_each(|n| database.keep_crash(crash(n).into()));
        drop(database);
        let_run(dir.path(), Duration::from_secs(7200));
        let (database, _, _notices) = open();
        (500..1000).for_each(|n| database.keep_crash(crash(n).into()));
        // Each batch removes some: as many as are needed to get through.
        for n in 1000..1010 {
            assert!(database.flush(PATIENCE));
            database.keep_crash(crash(n % 1000).into());
        }
        assert!(database.flush(PATIENCE));
        let all = CrashQuery { limit: 5000, ..CrashQuery::default() };
        let left = read_crashes(dir.path(), &all).unwrap();
        assert!((least..=most + 500).contains(&left.len()), "{rules:?}: {}", left.len());
        assert!(left.len() <= most + 10, "{rules:?}: {}", left.len());
    }
}

#[test]
fn a_clock_that_jumped_costs_no_record_and_keeps_none() {
    let dir = tempfile::tempdir().unwrap();
    let (day, age) = (Duration::from_secs(24 * 3600), Duration::from_secs(30 * 24 * 3600));
    let now = writer::now();
    // Before the clock was set, as it should be, two years ahead, and as it should be.
    let clocks = [Timestamp(0), now, now.after(24 * age), now];
    let ids = || {
        let all = CrashQuery { limit: 5000, ..CrashQuery::default() };
        let records = read_crashes(dir.path(), &all).unwrap();
        records.iter().rev().map(|record| record.crash_id.clone()).collect::<Vec<_>>()
    };
    for (run, crashed_at) in clocks.into_iter().enumerate() {
        let (database, _) = open_clean(dir.path());
        database.keep_crash(CrashRecord { crashed_at, ..crash(run as u64) }.into());
        drop(database);
        let_run(dir.path(), day);
    }
    assert_eq!(ids(), ["c00000", "c00001", "c00002", "c00003"], "none is older than four days");
    let_run(dir.path(), 27 * day + day / 2);
    let (database, _) = open_clean(dir.path());
    database.keep_crash(crash(4).into());
    drop(database);
    assert_eq!(ids(), ["c00002", "c00003", "c00004"], "the first two are older than a month");
}

#[test]
fn what_is_found_out_while_a_record_waits_costs_no_second_write() {
    let bounds = CrashBounds { records: 2, bytes: 1 << 20 };
    let mut queue = CrashQueue::new(bounds);
    let mut push = |record: CrashRecord| {
        let pushed = queue.push(Arc::new(record));
        (pushed.wakes_the_writer, pushed.dropped)
    };
    assert_eq!(push(crash(1)), (true, 0));
    assert_eq!(push(crash(2)), (false, 0));
    let better = CrashRecord { message: "better".into(), ..crash(2) };
    assert_eq!(push(better), (false, 0), "its slot is its own");
    assert_eq!(push(crash(3)), (false, 1), "the oldest makes room");
    let taken = queue.take();
    let names = |taken: &[Arc<CrashRecord>]| -> Vec<_> {
        taken.iter().map(|record| (record.crash_id.clone(), record.message.clone())).collect()
    };
    let expected = [("c00002".into(), "better".into()), ("c00003".into(), crash(3).message)];
    assert_eq!(names(&taken), expected);
    queue.push(Arc::new(crash(4)));
    assert_eq!(queue.put_back(taken), 1, "and the oldest again");
    assert_eq!(queue.take()[0].crash_id, "c00003", "in their order");
}

#[test]
fn a_full_queue_drops_and_counts_and_never_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let (database, _, _notices) = open_with(dir.path(), |config| config.crash_queue = 1);
    (0..2000).for_each(|n| database.keep_crash(Arc::new(crash(n))));
    assert!(database.flush(PATIENCE));
    let counts = database.counts();
    assert_eq!(counts.crashes_written + counts.crashes_dropped, 2000);
    assert_eq!(counts.crash_errors, 0);
    assert!(counts.crashes_dropped > 0);
}
