//! What goes wrong around a boot and a copy, and must not be taken for something else.

use bucket_server::{Method, StatusCode};

use super::*;

/// Segments are read beside each other. One that was written in between looks like a gap.
#[test]
fn a_segment_that_is_written_while_others_are_read_is_no_gap() {
    let world = World::of_bucket();
    let first = world.start("a", 1);
    for n in 0..6 {
        first.change(&format!("agent-{n}"), began(1));
        first.shipped(PATIENCE).unwrap();
    }
    first.die();
    let segments = world.segments();
    let server = world.server.as_ref().unwrap();
    server.answer_next(Method::GET, &segments[3], StatusCode::NOT_FOUND, 1);
    let second = world.start("b", 2);
    assert_eq!(second.agents().len(), 6);
    second.end();
}

#[test]
fn a_head_that_cannot_be_moved_is_tried_again() {
    let world = World::of_bucket();
    let first = world.start("a", 1);
    first.change("agent", began(1));
    first.shipped(PATIENCE).unwrap();
    let copy = |first: &Copy| {
        first.outbox.wants_copy();
        first.outbox.filled.notify_one();
        first.shipped(PATIENCE).unwrap();
    };
    let server = world.server.as_ref().unwrap();
    server.answer_next(Method::PUT, "head.json", StatusCode::SERVICE_UNAVAILABLE, 1);
    let before = world.segments();
    copy(&first);
    let next = || first.notices.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(next(), Notice::Untidy { .. }));
    assert!(matches!(next(), Notice::Tidy));
    assert_eq!(first.outbox.figures().failing, None);
    // An object that cannot be removed does not hold up what is shipped, and goes as well.
    server.answer_next(Method::DELETE, &before[1], StatusCode::SERVICE_UNAVAILABLE, 1);
    copy(&first);
    first.change("other", began(1));
    first.shipped(PATIENCE).unwrap();
    assert!(matches!(next(), Notice::Untidy { .. }));
    assert!(matches!(next(), Notice::Tidy));
    copy(&first);
    // The first one says that there is a log.
    let is_gone = || world.segments().iter().skip(1).all(|segment| !before.contains(segment));
    let until = Instant::now() + PATIENCE;
    while !is_gone() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(is_gone(), "{before:?}, {:?}", world.segments());
    first.end();
}

/// An answer was lost, or a write that was given up is still on its way: the head is this host's all the same.
#[test]
fn a_head_that_conflicts_and_is_its_own_fences_nobody() {
    let world = World::of_bucket();
    let first = world.start("a", 1);
    first.change("agent", began(1));
    first.shipped(PATIENCE).unwrap();
    let server = world.server.as_ref().unwrap();
    server.answer_next(Method::PUT, "head.json", StatusCode::PRECONDITION_FAILED, 2);
    first.outbox.wants_copy();
    first.outbox.filled.notify_one();
    let next = || first.notices.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(next(), Notice::Untidy { error: ShipError::Unavailable(_) }));
    assert!(matches!(next(), Notice::Tidy));
    first.end();
}

/// Whoever dies between two removals leaves the rest to the next one.
#[test]
fn what_a_dead_writer_did_not_remove_is_removed_by_the_next_one() {
    let world = World::of_bucket();
    let server = world.server.as_ref().unwrap();
    server.answer_next(Method::DELETE, "", StatusCode::FORBIDDEN, u32::MAX);
    let first = world.start("a", 1);
    let until = Instant::now() + PATIENCE;
    // Several copies may be one.
    while !matches!(first.notices.try_recv(), Ok(Notice::Untidy { .. })) {
        assert!(Instant::now() < until, "nothing was to be removed: {:?}", world.segments());
        first.change("agent", began(1));
        first.outbox.wants_copy();
        first.outbox.filled.notify_one();
        first.shipped(PATIENCE).unwrap();
    }
    // Credentials that may not delete make nothing undurable.
    assert_eq!(first.outbox.figures().failing, None);
    let before = world.segments();
    first.die();
    let mut newest = 0;
    let read = |bytes: &mut Vec<u8>| {
        let head: crate::head::Head = serde_json::from_slice(bytes).unwrap();
        newest = head.copy;
    };
    assert!(server.change("/towns/a/town/head.json", read));
    server.answer_next(Method::DELETE, "", StatusCode::SERVICE_UNAVAILABLE, 0);
    let number = |path: &str| path.rsplit('/').next().unwrap().parse::<u64>().unwrap();
    let old: Vec<_> = before.iter().filter(|it| (2..newest).contains(&number(it))).collect();
    assert!(!old.is_empty(), "{before:?}");
    let second = world.start("b", 2);
    second.change("agent", began(2));
    second.shipped(PATIENCE).unwrap();
    // The newest copy of the first one is the one before the newest now.
    let left = || world.segments().iter().any(|segment| old.contains(&segment));
    let until = Instant::now() + PATIENCE;
    while left() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!left(), "{old:?}, {:?}", world.segments());
    second.end();
}

#[test]
fn what_a_dead_writer_left_in_a_directory_goes() {
    let world = World::of_directory();
    world.start("a", 1).end();
    let town = world.dir.path().join("place/town");
    let left = [town.join(".0a.new"), town.join("log/.0b.new")];
    // Another writer may be at this one.
    let young = town.join("log/.0c.new");
    fs::write(&young, "half a segm").unwrap();
    for path in &left {
        fs::write(path, "half a segm").unwrap();
        let hour = std::time::SystemTime::now() - Duration::from_secs(3600);
        fs::File::options().write(true).open(path).unwrap().set_modified(hour).unwrap();
    }
    world.start("b", 2).end();
    assert!(left.iter().all(|path| !path.exists()) && young.exists());
}

#[test]
fn a_disk_that_is_full_at_a_restore_is_no_damaged_place() {
    let world = World::of_directory();
    let first = world.start("a", 1);
    let bytes: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(3 << 20).collect();
    first.change("agent", began(1));
    first.database.keep_snapshot(snapshot("agent", 1, bytes)).unwrap().wait().unwrap();
    first.end();
    let disk = world.disk("b");
    fs::create_dir(&disk).unwrap();
    let mount = |arguments: &[&str]| {
        let done = std::process::Command::new("mount").args(arguments).arg(&disk).status();
        done.is_ok_and(|status| status.success())
    };
    if !mount(&["-t", "tmpfs", "-o", "size=1m", "tmpfs"]) {
        return support::skip(support::Need::Mount, "no file system can be mounted here");
    }
    let mut settings = world.settings();
    settings.restore = Duration::from_millis(300);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let opened = runtime.block_on(open(settings, 2, &disk, |_| {}));
    let _ = std::process::Command::new("umount").arg("-l").arg(&disk).status();
    let Err(error) = opened else { panic!("it was opened") };
    assert!(matches!(error, ShipError::Local(_)), "{error:?}");
}

#[test]
fn a_place_that_lost_its_head_is_no_new_place() {
    let world = World::of_directory();
    let first = world.start("a", 1);
    first.change("agent", began(1));
    first.end();
    let place = world.dir.path().join("place/town");
    // Also when old segments were removed.
    let aged = world.start("a", 1);
    for _ in 0..3 {
        aged.change("agent", began(1));
        aged.outbox.wants_copy();
        aged.outbox.filled.notify_one();
        aged.shipped(PATIENCE).unwrap();
    }
    let until = Instant::now() + PATIENCE;
    while world.segments().len() > 4 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    aged.end();
    fs::remove_file(place.join("head.json")).unwrap();
    let error = world.error("b", 2);
    assert!(error.contains("head.json is missing"), "{error}");
    fs::remove_dir_all(&place).unwrap();
    let error = world.error("a", 2);
    assert!(error.contains("this disk has shipped there before"), "{error}");
}

#[test]
fn a_place_that_is_away_is_named_with_the_setting() {
    let world = World::of_directory();
    let mut settings = world.settings();
    settings.restore = Duration::from_millis(300);
    settings.to = Address::File(world.dir.path().join("nowhere"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let told = std::cell::RefCell::new(Vec::new());
    let tell = |error: &ShipError| told.borrow_mut().push(error.to_string());
    let opened = runtime.block_on(open(settings, 1, &world.disk("a"), tell));
    let Err(error) = opened else { panic!("it was opened") };
    let error = error.to_string();
    assert!(error.contains("nowhere") && error.contains("ship.restore_ms"), "{error}");
    // Once, and not at the end.
    let told = told.into_inner();
    assert!(told.len() == 1 && told[0].contains("nowhere"), "{told:?}");
}

#[test]
fn a_boot_does_not_wait_for_a_bucket_that_is_not_there() {
    let world = World::of_bucket();
    let server = world.server.as_ref().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let look = || runtime.block_on(crate::look(&world.settings()));
    assert_eq!(look(), Ok(None));
    server.set_gone(true);
    let began = Instant::now();
    let error = world.error("a", 1);
    assert!(began.elapsed() < PATIENCE / 2, "it was tried again");
    let said = "NoSuchBucket (The specified bucket does not exist)";
    assert!(error.contains(said) && !error.contains('<'), "{error}");
    assert!(matches!(look(), Err(ShipError::NoPlace(_))), "{:?}", look());
    // A copy that runs has something to ship, and waits for it.
    server.set_gone(false);
    let first = world.start("a", 1);
    first.shipped(PATIENCE).unwrap();
    assert_eq!(look(), Ok(Some(1)));
    server.set_gone(true);
    first.change("agent", super::began(1));
    let notice = first.about_shipping();
    assert!(matches!(notice, Notice::Failing { .. }), "{notice:?}");
    server.set_gone(false);
    first.shipped(PATIENCE).unwrap();
    first.end();
}
