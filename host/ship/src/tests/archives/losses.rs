//! What a failure in the midst, a loss of power or another machine takes, and must not take.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use bulkhead_types::AgentId;

use super::{Machine, agent, noise, objects, until, wait};
use crate::tests::{MAX_WORKSPACE, World};
use crate::{ArchiveNotice, Settings};

/// Refuses to write the index, for longer than anybody tries.
fn hold_index(world: &World, count: u32) {
    let status = bucket_server::StatusCode::SERVICE_UNAVAILABLE;
    let server = world.server.as_ref().unwrap();
    server.answer_next(bucket_server::Method::PUT, "workspaces.json", status, count);
}

/// Of a machine that gives up soon.
fn impatient(world: &World) -> Settings {
    Settings { wait: Duration::from_millis(300), ..world.settings() }
}

/// Takes a directory away, until what it returns is called.
fn leave(world: &World) -> impl FnOnce() {
    let (place, away) = (world.disk("place"), world.disk("away"));
    fs::rename(&place, &away).unwrap();
    move || fs::rename(&away, &place).unwrap()
}

#[test]
fn what_was_packed_and_never_named_is_not_taken_for_shipped() {
    let world = World::of_bucket();
    let first = Machine::with(&world, "first", 1, impatient(&world));
    first.write("of", "one");
    first.ship().unwrap().unwrap();
    first.write("of", "one, and more");
    hold_index(&world, 10_000);
    assert_eq!(first.ship().unwrap_err().code(), "refused");
    hold_index(&world, 0);
    drop(first);

    let second = Machine::start(&world, "second", 2);
    second.arrive().unwrap().unwrap();
    assert_eq!(second.text("of"), "one");
    second.write("of", "two");
    second.ship().unwrap().unwrap();

    let first = Machine::start(&world, "first", 3);
    let kept_as = first.arrive().unwrap().unwrap().kept_as.expect("it is nowhere else");
    assert_eq!(fs::read_to_string(kept_as.join("of")).unwrap(), "one, and more");
    assert_eq!(first.text("of"), "two");
}

#[test]
fn one_that_is_packed_again_is_still_the_one_before() {
    let world = World::of_bucket();
    let first = Machine::with(&world, "first", 1, impatient(&world));
    first.write("of", "one");
    for try_ in 0..3 {
        hold_index(&world, 10_000);
        assert_eq!(first.ship().unwrap_err().code(), "refused");
        hold_index(&world, 0);
        first.change_note(|note| {
            let known = note["ids"].as_array().unwrap();
            assert_eq!(known.len(), try_ + 1, "any of them may be named");
        });
    }
    first.ship().unwrap().unwrap();
    first.change_note(|note| assert_eq!(note["ids"].as_array().unwrap().len(), 1));
    until("only one is left", || objects(&world).len() == 1);
}

#[test]
fn a_disk_that_lost_what_was_shipped_gets_it_back() {
    for world in World::both() {
        let first = Machine::start(&world, "first", 1);
        first.write("of", "one");
        first.ship().unwrap().unwrap();
        first.restart();
        assert_eq!(first.arrive(), Ok(None), "it is as it was shipped");
        // A loss of power, before the disk had it.
        fs::File::create(first.path("of")).unwrap();
        first.restart();
        assert_eq!(wait(first.archives.is_newer(&agent())), Ok(true));
        let kept_as = first.arrive().unwrap().unwrap().kept_as.unwrap();
        assert_eq!(fs::read(kept_as.join("of")).unwrap(), b"");
        assert_eq!(first.text("of"), "one");

        // An agent that was at work has more here than in its archive, whatever the disk lost.
        wait(first.archives.begins(&agent())).unwrap();
        first.write("of", "one, and more");
        first.restart();
        assert_eq!(first.arrive(), Ok(None));
        wait(first.archives.begins(&agent())).unwrap();
        first.ship().unwrap().unwrap();
        first.restart();
        assert_eq!(first.arrive(), Ok(None), "it is as it was shipped");
        wait(first.archives.begins(&agent())).unwrap();
        assert_eq!(first.ship(), Ok(None), "nothing was changed");
        fs::File::create(first.path("of")).unwrap();
        first.restart();
        first.arrive().unwrap().unwrap();
        assert_eq!(first.text("of"), "one, and more");
    }
}

#[test]
fn what_was_kept_aside_stays_when_an_arrival_fails_in_the_midst() {
    let world = World::of_directory();
    let first = Machine::start(&world, "first", 1);
    first.write("of", "one");
    first.ship().unwrap().unwrap();
    let second = Machine::start(&world, "second", 2);
    second.write("only-here", "x");
    // What it writes its note by.
    let blocked = second.folder.join(".shipped/.a.new");
    fs::create_dir_all(blocked.join("full")).unwrap();
    assert_eq!(second.arrive().unwrap_err().code(), "disk");
    fs::remove_dir_all(&blocked).unwrap();
    second.arrive().unwrap().unwrap();
    assert_eq!(second.text("of"), "one");
    let older = second.folder.join(".older/a/only-here");
    assert_eq!(fs::read_to_string(older).unwrap(), "x");
    assert_eq!(fs::read_dir(second.folder.join(".arriving")).unwrap().count(), 0);
}

#[test]
fn an_archive_that_is_withdrawn_takes_nothing_along_that_was_kept() {
    let world = World::of_directory();
    let first = Machine::start(&world, "first", 1);
    first.write("of", "one");
    first.ship().unwrap().unwrap();
    let second = Machine::start(&world, "second", 2);
    second.write("only-here", "x");
    let kept_as = second.arrive().unwrap().unwrap().kept_as.unwrap();
    assert_eq!(wait(second.archives.withdraw(&agent())), Ok(true));
    assert!(kept_as.join("only-here").exists());
    assert_eq!(second.archives.figures().due, 0);
    assert_eq!(wait(second.archives.remove(&agent())), Ok(false));
    assert!(!kept_as.exists());
}

#[test]
fn an_archive_that_cannot_be_withdrawn_is_withdrawn_later() {
    let world = World::of_bucket();
    let first = Machine::with(&world, "first", 1, impatient(&world));
    first.write("of", "one");
    first.ship().unwrap().unwrap();
    first.write("of", "two");
    hold_index(&world, 10_000);
    assert!(wait(first.archives.withdraw(&agent())).is_err());
    // In its place it would be packed, and is too large for that.
    let hole = fs::File::create(first.path("hole")).unwrap();
    hole.set_len(MAX_WORKSPACE + 1).unwrap();
    assert_eq!(first.ship().unwrap_err().code(), "too-large");
    hold_index(&world, 0);
    assert_eq!(wait(first.archives.finish(Duration::from_secs(20))), 0);
    let second = Machine::start(&world, "second", 2);
    assert_eq!(second.arrive(), Ok(None), "all of it is elsewhere");
}

#[test]
fn a_part_that_a_busy_server_refuses_is_written_again() {
    let world = World::of_bucket();
    let first = Machine::start(&world, "first", 1);
    first.write("of", "one");
    let server = world.server.as_ref().unwrap();
    server.answer_next(bucket_server::Method::PUT, ".0", bucket_server::StatusCode::CONFLICT, 1);
    first.ship().unwrap().unwrap();
    let second = Machine::start(&world, "second", 2);
    second.arrive().unwrap().unwrap();
    assert_eq!(second.text("of"), "one");
}

#[test]
fn what_is_due_is_shipped_when_nobody_is_there_and_the_place_is_back() {
    let world = World::of_directory();
    let first = Machine::with(&world, "first", 1, impatient(&world));
    first.write("of", "one");
    let back = leave(&world);
    assert_eq!(first.ship().unwrap_err().code(), "unavailable");
    for _ in 0..2 {
        first.archives.owe_archive(&agent());
        wait(first.archives.ship_due(|_| Some(())));
    }
    assert_eq!(first.archives.figures().due, 1);
    wait(first.archives.ship_due(|_| -> Option<()> { panic!("it was tried a moment ago") }));
    assert_eq!(first.notices.lock().len(), 1, "it is reported once");
    back();
    first.archives.owe_archive(&agent());
    wait(first.archives.ship_due(|_| None::<()>));
    assert_eq!(first.archives.figures().due, 1, "somebody is there");
    wait(first.archives.ship_due(|_| Some(())));
    assert_eq!(first.archives.figures().due, 0);
    let last = first.notices.lock().pop();
    assert!(matches!(last, Some(ArchiveNotice::Shipped(_))), "{last:?}");
}

#[test]
fn names_are_bytes() {
    use std::os::unix::ffi::OsStrExt as _;
    let world = World::of_directory();
    let first = Machine::start(&world, "first", 1);
    let name = |first: &[u8], length: usize| {
        let bytes: Vec<u8> =
            first.iter().copied().chain(std::iter::repeat(b'n')).take(length).collect();
        std::ffi::OsStr::from_bytes(&bytes).to_owned()
    };
    let names: Vec<_> = [(&b"\xff"[..], 1), (b"\xff", 99), (b"\xff", 100), (b"\xff", 101)]
        .into_iter()
        .chain([(&b"n"[..], 100), (b"\xff", 255), ("ü".as_bytes(), 254)])
        .map(|(first, length)| name(first, length))
        .collect();
    fs::create_dir_all(first.path("")).unwrap();
    for name in &names {
        fs::write(first.folder.join("a").join(name), name.as_bytes()).unwrap();
    }
    for name in names.iter().filter(|name| name.as_bytes()[0] == 0xff) {
        symlink(name, first.path(&format!("to-{}", name.len()))).unwrap();
    }
    let shipped = first.ship().unwrap().unwrap();
    let second = Machine::start(&world, "second", 2);
    assert_eq!(second.arrive().unwrap().unwrap().entries, shipped.entries);
    for name in &names {
        let path = second.folder.join("a").join(name);
        assert!(fs::read(path).unwrap() == name.as_bytes(), "{name:?}");
    }
    let target = |machine: &Machine| fs::read_link(machine.path("to-255")).unwrap();
    assert_eq!(target(&first), target(&second));
}

#[test]
fn what_was_packed_and_never_named_stays_after_a_start_of_the_machine() {
    let world = World::of_bucket();
    let first = Machine::with(&world, "first", 1, impatient(&world));
    first.write("of", "one");
    first.ship().unwrap().unwrap();
    wait(first.archives.begins(&agent())).unwrap();
    first.write("of", "one, and more");
    hold_index(&world, 10_000);
    assert_eq!(first.ship().unwrap_err().code(), "refused");
    hold_index(&world, 0);
    first.restart();
    assert_eq!(first.arrive(), Ok(None), "the archive that is named is older");
    drop(first);
    // The next process knows that it is due, and the agent has not begun.
    let first = Machine::with(&world, "first", 2, impatient(&world));
    assert_eq!(first.archives.figures().due, 1);
    wait(first.archives.ship_due(|_| Some(())));
    assert_eq!(first.archives.figures().due, 0);
    let second = Machine::start(&world, "second", 3);
    second.arrive().unwrap().unwrap();
    assert_eq!(second.text("of"), "one, and more");
}

#[test]
fn a_disk_that_went_on_without_shipping_is_newer() {
    let world = World::of_directory();
    let first = Machine::start(&world, "first", 1);
    first.write("of", "one");
    first.ship().unwrap().unwrap();
    // A run without it: nobody says that the agent begins.
    crate::go_on_without_archives(&first.folder).unwrap();
    first.write("of", "a month later");
    first.restart();
    let first = Machine::start(&world, "first", 2);
    assert_eq!(first.archives.figures().due, 1);
    assert_eq!(first.arrive(), Ok(None));
    first.ship().unwrap().unwrap();
    crate::go_on_without_archives(&world.disk("nowhere")).unwrap();
}

#[test]
fn a_tree_that_is_not_all_in_its_archive_is_kept_when_another_one_comes() {
    let world = World::of_directory();
    let first = Machine::start(&world, "first", 1);
    first.write("of", "one");
    let _socket = std::os::unix::net::UnixListener::bind(first.path("left-out")).unwrap();
    assert_eq!(first.ship().unwrap().unwrap().skipped, 1);
    let second = Machine::start(&world, "second", 2);
    second.arrive().unwrap().unwrap();
    second.write("of", "two");
    second.ship().unwrap().unwrap();
    let first = Machine::start(&world, "first", 3);
    let kept_as = first.arrive().unwrap().unwrap().kept_as.expect("it has more than was shipped");
    assert!(fs::symlink_metadata(kept_as.join("left-out")).is_ok());
}

#[test]
fn one_that_was_shipped_counts_although_the_limit_is_lower_now() {
    let world = World::of_directory();
    let first = Machine::start(&world, "first", 1);
    first.write("large", noise(3 * 1024 * 1024));
    first.ship().unwrap().unwrap();
    first.restart();
    let lower = || Settings { workspace_bytes: Some(1024 * 1024), ..world.settings() };
    let first = Machine::with(&world, "first", 2, lower());
    assert_eq!(first.arrive(), Ok(None), "it is as it was shipped");
    let second = Machine::with(&world, "second", 3, lower());
    assert!(second.arrive().unwrap().is_some());
}

#[test]
fn an_agent_that_fails_keeps_no_other_one_from_being_shipped() {
    let world = World::of_bucket();
    let first = Machine::start(&world, "first", 1);
    let other = AgentId::parse("b").unwrap();
    first.write("of", "one");
    fs::create_dir_all(first.folder.join("b")).unwrap();
    fs::write(first.folder.join("b/of"), "two").unwrap();
    for agent in [&agent(), &other] {
        first.archives.owe_archive(agent);
    }
    // What its note is written by.
    let blocked = first.folder.join(".shipped/.a.new");
    fs::create_dir_all(blocked.join("full")).unwrap();
    wait(first.archives.ship_due(|_| Some(())));
    assert!(first.archives.has(&other) && !first.archives.has(&agent()));
    assert_eq!(first.archives.figures().due, 1);
    until("what nothing names is gone", || objects(&world).len() == 1);
    fs::remove_dir_all(blocked).unwrap();
    assert_eq!(wait(first.archives.finish(Duration::from_secs(20))), 0);
}

#[test]
fn the_end_waits_for_no_try_that_is_under_way() {
    let world = World::of_directory();
    let settings = Settings { wait: Duration::from_secs(20), ..world.settings() };
    let first = Machine::with(&world, "first", 1, settings);
    first.write("of", "one");
    let back = leave(&world);
    first.archives.owe_archive(&agent());
    let (loops, (begun, has_begun)) = (first.archives.clone(), std::sync::mpsc::sync_channel(1));
    let under_way = std::thread::spawn(move || wait(loops.ship_due(|_| begun.send(()).ok())));
    has_begun.recv().unwrap();
    back();
    let began = Instant::now();
    assert_eq!(wait(first.archives.finish(Duration::from_secs(10))), 0);
    assert!(began.elapsed() < Duration::from_secs(10));
    under_way.join().unwrap();
}

#[test]
fn a_disk_that_lost_what_was_named_a_moment_ago_does_not_ship_what_is_left() {
    let world = World::of_directory();
    let first = Machine::start(&world, "first", 1);
    wait(first.archives.begins(&agent())).unwrap();
    first.write("of", "one");
    first.ship().unwrap().unwrap();
    // The last note did not come to the disk, nor did the file.
    first.change_note(|note| note["isNamed"] = false.into());
    fs::File::create(first.path("of")).unwrap();
    first.restart();
    let first = Machine::start(&world, "first", 2);
    wait(first.archives.ship_due(|_| Some(())));
    let second = Machine::start(&world, "second", 3);
    second.arrive().unwrap().unwrap();
    assert_eq!(second.text("of"), "one");
    assert!(first.arrive().unwrap().is_some(), "it is brought here as well");
}

#[test]
fn a_first_archive_that_was_not_written_is_owed_by_the_next_process() {
    let world = World::of_directory();
    let first = Machine::with(&world, "first", 1, impatient(&world));
    wait(first.archives.begins(&agent())).unwrap();
    assert!(!wait(first.archives.knows(&agent())), "nothing was ever shipped");
    first.write("of", "one");
    let back = leave(&world);
    assert_eq!(first.ship().unwrap_err().code(), "unavailable");
    drop(first);
    back();
    let first = Machine::with(&world, "first", 2, impatient(&world));
    assert_eq!(first.archives.figures().due, 1);
    wait(first.archives.ship_due(|_| Some(())));
    assert!(first.archives.has(&agent()));
    // All of it is elsewhere, and the next process owes nothing.
    assert_eq!(wait(first.archives.withdraw(&agent())), Ok(true));
    let first = Machine::with(&world, "first", 3, impatient(&world));
    assert_eq!(first.archives.figures().due, 0);
}
