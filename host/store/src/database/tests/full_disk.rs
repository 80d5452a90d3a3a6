//! Disks that are full, and what waits for room.

use std::path::PathBuf;

use support::Need;

use super::*;

pub(super) struct Unmount(pub PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// Mounts something, which only root may. Without it the test that calls this cannot run here.
pub(super) fn mount(arguments: &[&str], at: &Path) -> Option<Unmount> {
    let mount = std::process::Command::new("mount").args(arguments).arg(at).output();
    if mount.as_ref().is_ok_and(|output| output.status.success()) {
        return Some(Unmount(at.to_owned()));
    }
    support::skip(Need::Mount, &format!("no file system can be mounted here: {mount:?}"));
    None
}

/// A small file system in memory.
pub(super) fn small_disk(size: &str, at: &Path) -> Option<Unmount> {
    mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], at)
}

#[test]
fn a_full_disk_is_reported_and_what_was_not_written_follows() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_unmount) = small_disk("1m", dir.path()) else { return };
    let store = dir.path().join("store");
    let soon = |config: &mut Config| config.retry = Duration::from_millis(20);
    let (database, _, notices) = open_with(&store, soon);
    database.change(&id("a"), began(1, "order")).wait().unwrap();
    let filler = dir.path().join("filler");
    let full = fs::write(&filler, vec![0; 2 * 1024 * 1024]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let large = "x".repeat(100_000);
    let error = database.change(&id("b"), began(1, &large)).wait().unwrap_err();
    assert!(error.to_string().contains("full"), "{error}");
    let notice = notices.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(notice, Notice::Unavailable { retries: true, .. }), "{notice:?}");
    fs::remove_file(&filler).unwrap();
    loop {
        match notices.recv_timeout(PATIENCE).unwrap() {
            Notice::Available { .. } => break,
            Notice::Unavailable { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    drop(database);
    let (database, found) = open_clean(&store);
    assert_eq!(found[&id("b")].order.as_deref(), Some(&*large));
    drop(database);
}

/// The ids of the records in the file, oldest first.
fn in_file(dir: &Path) -> Vec<String> {
    let all = CrashQuery { limit: 100_000, ..CrashQuery::default() };
    let records = read_crashes(dir, &all).unwrap();
    records.iter().rev().map(|record| record.crash_id.clone()).collect()
}

fn ids(numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.map(|n| crash(n).crash_id).collect()
}

#[test]
fn crash_records_of_a_full_disk_are_there_when_the_file_is_said_to_be_available() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_unmount) = small_disk("2m", dir.path()) else { return };
    let store = dir.path().join("store");
    let soon = |config: &mut Config| config.retry = Duration::from_millis(20);
    let (database, _, notices) = open_with(&store, soon);
    database.keep_crash(crash(0).into());
    assert!(database.flush(PATIENCE));
    let filler = dir.path().join("filler");
    fs::write(&filler, vec![0; 4 * 1024 * 1024]).unwrap_err();
    let mut said = Vec::new();
    let mut n = 1;
    while said.is_empty() || n < 60 {
        assert!(n < 10_000, "a full disk takes everything");
        database.keep_crash(crash(n).into());
        n += 1;
        assert!(database.flush(PATIENCE));
        said.extend(notices.try_iter());
    }
    assert!(matches!(said[0], Notice::Unavailable { retries: true, .. }), "{said:?}");
    assert!(database.counts().crashes_waiting > 0);
    fs::remove_file(&filler).unwrap();
    let available = loop {
        match notices.recv_timeout(PATIENCE).unwrap() {
            Notice::Unavailable { .. } => {}
            notice => break notice,
        }
    };
    // What it says is so, at once.
    assert_eq!(in_file(&store), ids(0..n));
    let Notice::Available { crashes_written, crashes_dropped: 0 } = available else {
        panic!("{available:?}")
    };
    assert!((1..n).contains(&crashes_written), "{crashes_written} of {n}");
    let counts = database.counts();
    assert_eq!((counts.crashes_waiting, counts.crashes_dropped), (0, 0));
    assert_eq!(counts.crashes_written, n);
}

#[test]
fn of_the_crash_records_that_wait_the_oldest_make_room_and_are_counted() {
    let heavy = |n: u64| CrashRecord { message: "x".repeat(10_000), ..crash(n) };
    for (records, bytes, left) in [(10, 1 << 20, 10), (1000, 45_000, 4)] {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        fs::write(&store, "a file in the directory's place").unwrap();
        let (database, _, notices) = open_with(&store, |config| {
            config.retry = Duration::from_millis(20);
            (config.crash_queue, config.crash_queue_bytes) = (records, bytes);
        });
        for n in 0..60 {
            database.keep_crash(heavy(n).into());
        }
        let counts = database.counts();
        assert_eq!((counts.crashes_waiting, counts.crashes_dropped), (left, 60 - left as u64));
        assert!(matches!(notices.recv_timeout(PATIENCE).unwrap(), Notice::Unavailable { .. }));
        fs::remove_file(&store).unwrap();
        let (crashes_written, crashes_dropped) = (left as u64, 60 - left as u64);
        let expected = Notice::Available { crashes_written, crashes_dropped };
        assert_eq!(notices.recv_timeout(PATIENCE).unwrap(), expected);
        assert_eq!(in_file(&store), ids(crashes_dropped..60));
    }
}

#[test]
fn a_flush_has_a_lost_file_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    fs::write(&store, "a file in the directory's place").unwrap();
    let (database, _, _notices) = open(&store);
    database.keep_crash(crash(1).into());
    assert!(database.flush(PATIENCE), "it does not wait for a file");
    fs::remove_file(&store).unwrap();
    drop(database);
    assert_eq!(in_file(&store), ids(1..2));
}
