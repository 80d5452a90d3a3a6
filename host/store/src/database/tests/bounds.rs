//! What grows while the disk hangs, and how large the log becomes.

use super::*;

/// A disk that hangs: nobody takes anything from the image.
#[test]
fn agents_that_come_and_go_while_the_disk_hangs_leave_nothing_behind() {
    let mut image = Image::new(16);
    let come_and_go = |image: &mut Image, range: std::ops::Range<u64>| {
        for n in range {
            let id = id(&format!("agent-{n}"));
            image.change(&id, began(1, "order"), Timestamp(1), true);
            image.change(&id, stopped(1), Timestamp(1), true);
        }
    };
    come_and_go(&mut image, 0..1000);
    assert!(image.waiting() <= 16, "{} rows wait", image.waiting());
    // The writer is at some of them.
    let taken = image.take(true);
    come_and_go(&mut image, 1000..2000);
    assert!(image.waiting() <= 32, "{} rows wait", image.waiting());
    assert_eq!(image.rows().count(), 16);
    image.put_back(taken);
    come_and_go(&mut image, 2000..3000);
    assert!(image.waiting() <= 16, "{} rows wait", image.waiting());
    // What the file has goes from it, also when it came back meanwhile.
    let taken = image.take(true);
    image.is_written(&taken);
    come_and_go(&mut image, 3000..3016);
    come_and_go(&mut image, 2984..3000);
    come_and_go(&mut image, 3016..3032);
    let gone = image.take(true).iter().filter(|due| due.row.is_none()).count();
    assert_eq!(gone, 16);
}

#[test]
fn a_clock_that_was_set_back_does_not_make_the_newest_the_oldest() {
    let mut image = Image::new(3);
    for (at, agent) in [(1000, "a"), (2000, "b"), (5, "c")] {
        image.change(&id(agent), began(1, "order"), Timestamp(at), true);
        image.change(&id(agent), stopped(1), Timestamp(at), true);
    }
    image.change(&id("d"), began(1, "order"), Timestamp(6), true);
    let mut left: Vec<_> = image.rows().map(|row| row.id.to_string()).collect();
    left.sort();
    assert_eq!(left, ["b", "c", "d"]);
}

#[test]
fn files_that_are_set_aside_go_in_their_order_whatever_the_clock_says() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..10 {
        fs::write(file::path(dir.path()), format!("{n}")).unwrap();
        file::set_aside(dir.path(), Timestamp(1_000_000 - n * 1000)).unwrap();
    }
    let mut names: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let left: Vec<_> = names.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    assert_eq!(left, ["2", "3", "4", "5", "6", "7", "8", "9"]);
}

const MIB: u64 = 1024 * 1024;

/// Writes a snapshot of a MiB, and says what became of it.
fn write_mib(database: &Database, n: u8) -> Result<(), NotDurable> {
    let snapshot = snapshot(&format!("agent-{}", n % 4), &[n; MIB as usize]);
    database.keep_snapshot(snapshot).unwrap().wait()
}

#[test]
fn a_reader_that_never_ends_does_not_let_the_log_grow_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (database, _, notices) = open_with(dir.path(), |config| {
        config.retry = Duration::from_millis(20);
        config.max_log_bytes = 16 * MIB;
    });
    write_mib(&database, 0).unwrap();
    let reader = Connection::open(file::path(dir.path())).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM snapshots;").unwrap();
    let mut refused = None;
    for n in 1..=60 {
        refused = refused.or(write_mib(&database, n).err());
        let size = wal::size(dir.path());
        assert!(size <= (16 + 8 + 2) * MIB, "the log has {size} bytes");
    }
    let refused = refused.expect("the log has a bound").to_string();
    assert!(refused.contains("16 MiB") && refused.contains("another process"), "{refused}");
    let notice = notices.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(notice, Notice::Unavailable { retries: true, .. }), "{notice:?}");
    database.keep_crash(crash(1).into());
    reader.execute_batch("COMMIT").unwrap();
    let notice = notices.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(notice, Notice::Available { .. }), "{notice:?}");
    write_mib(&database, 61).unwrap();
    assert_eq!(notices.try_recv().ok(), None, "it is reported once");
}

#[test]
fn a_log_that_became_large_gives_the_disk_back_when_nobody_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (database, _) = open_clean(dir.path());
    let many: Vec<_> = (0..20)
        .map(|n| database.keep_snapshot(snapshot("a", &[n; MIB as usize])).unwrap())
        .collect();
    many.into_iter().for_each(|receipt| receipt.wait().unwrap());
    let until = std::time::Instant::now() + PATIENCE;
    while wal::size(dir.path()) > file::CHECKPOINT_BYTES {
        assert!(std::time::Instant::now() < until, "{} bytes", wal::size(dir.path()));
        std::thread::sleep(Duration::from_millis(20));
    }
}
