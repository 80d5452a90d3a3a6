//! The books of a workspace against what lies on disk.

use std::fs::{self, OpenOptions};
use std::path::Path;

use super::*;
use crate::descriptors::Descriptors;

const MIB: u64 = 1024 * 1024;

fn quota(dir: &Path, bytes: u64, entries: u64) -> Quota {
    let limits = Limits { workspace_bytes: bytes, workspace_entries: entries, ..Limits::default() };
    let disk = Arc::new(Disk::new(DiskFloor { bytes: 0, inodes: 0 }));
    let descriptors = Descriptors::new(usize::MAX).none();
    Quota::new(&limits, disk, Some(File::open(dir).unwrap()), descriptors)
}

fn file(dir: &Path, name: &str) -> Arc<File> {
    let mut options = OpenOptions::new();
    Arc::new(
        options.create(true).truncate(false).read(true).write(true).open(dir.join(name)).unwrap(),
    )
}

fn space(quota: &Quota) -> Space {
    let step = quota.begin().unwrap();
    step.held.space.as_ref().unwrap().space
}

fn is_full<T>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| error.raw_os_error() == Some(Errno::NOSPC.raw_os_error()))
}

#[test]
fn what_is_there_counts_once_and_by_what_it_takes() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    fs::write(dir.path().join("a/b/one"), [1]).unwrap();
    fs::hard_link(dir.path().join("a/b/one"), dir.path().join("two")).unwrap();
    fs::write(dir.path().join("none"), "").unwrap();
    std::os::unix::fs::symlink("/etc", dir.path().join("out")).unwrap();
    assert_eq!(space(&quota(dir.path(), MIB, 100)), Space { bytes: 4 * 4096, entries: 6 });
}

#[test]
fn a_tree_may_be_deeper_than_a_path_is_long() {
    let dir = tempfile::tempdir().unwrap();
    let name = "d".repeat(200);
    let mut here = rustix::fs::open(dir.path(), rustix::fs::OFlags::PATH, 0.into()).unwrap();
    for _ in 0..100 {
        rustix::fs::mkdirat(&here, &name, 0o700.into()).unwrap();
        here = rustix::fs::openat(&here, &name, rustix::fs::OFlags::PATH, 0.into()).unwrap();
    }
    let space = space(&quota(dir.path(), MIB, 1000));
    assert_eq!(space, Space { bytes: 100 * 4096, entries: 100 });
}

#[test]
fn a_file_grows_to_the_limit_and_no_further_and_what_it_gives_back_can_be_had_again() {
    let dir = tempfile::tempdir().unwrap();
    let quota = quota(dir.path(), MIB, 10);
    let one = file(dir.path(), "one");
    assert_eq!(quota.write(&one, At::Position(0), &[1; 4096]).unwrap(), 4096);
    assert_eq!(quota.write(&one, At::End, &[1; 10]).unwrap(), 10);
    assert_eq!(quota.write(&one, At::Position(5), &[2; 10]).unwrap(), 10, "nothing more is taken");
    assert_eq!(space(&quota).bytes, 2 * 4096);
    assert_eq!(one.metadata().unwrap().len(), 4106);
    quota.resize(&one, MIB).unwrap();
    assert!(is_full(quota.resize(&one, MIB + 1)), "holes count");
    assert!(is_full(quota.write(&one, At::End, &[1])));
    assert!(is_full(quota.write(&one, At::Position(u64::MAX), &[1])));
    assert_eq!((space(&quota).bytes, one.metadata().unwrap().len()), (MIB, MIB));
    quota.resize(&one, 0).unwrap();
    assert_eq!(space(&quota).bytes, 0);
    assert_eq!(quota.write(&one, At::End, &[1; 4096]).unwrap(), 4096);
}

#[test]
fn what_fails_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let quota = quota(dir.path(), MIB, 10);
    file(dir.path(), "one");
    let unwritable = File::open(dir.path().join("one")).unwrap();
    assert!(quota.write(&unwritable, At::End, &[1; 100]).is_err());
    assert!(quota.resize(&unwritable, 100).is_err());
    assert_eq!(space(&quota).bytes, 0);
}

#[test]
fn a_deleted_file_counts_until_nobody_has_it_open() {
    let dir = tempfile::tempdir().unwrap();
    let quota = quota(dir.path(), MIB, 10);
    let one = file(dir.path(), "one");
    quota.opened(&one);
    let stream = Arc::clone(&one);
    assert_eq!(space(&quota), Space { bytes: 0, entries: 1 });
    quota.write(&one, At::End, &[1; 4096]).unwrap();
    fs::remove_file(dir.path().join("one")).unwrap();
    let removed = Removed { is_directory: false, links: 1, size: 4096 };
    quota.begin().unwrap().removed(removed);
    quota.write(&one, At::End, &[1; 4096]).unwrap();
    drop(one);
    assert!(is_full(quota.begin().unwrap().take(Space { bytes: MIB, entries: 0 })));
    assert_eq!(space(&quota), Space { bytes: 2 * 4096, entries: 1 });
    drop(stream);
    quota.begin().unwrap().take(Space { bytes: MIB, entries: 0 }).unwrap();
    assert_eq!(space(&quota), Space { bytes: MIB, entries: 0 });
}

#[test]
fn names_of_one_file_are_entries_and_only_the_last_one_has_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("one"), [1; 10]).unwrap();
    let quota = quota(dir.path(), MIB, 10);
    quota.begin().unwrap().take(Space::NAME).unwrap();
    let mut removed = Removed { is_directory: false, links: 2, size: 10 };
    quota.begin().unwrap().removed(removed);
    assert_eq!(space(&quota), Space::entry(10));
    removed.links = 1;
    quota.begin().unwrap().removed(removed);
    assert_eq!(space(&quota), Space::default());
}

#[test]
fn entries_have_a_limit_and_more_of_them_are_counted_again_when_some_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    for name in 0..8 {
        file(dir.path(), &name.to_string());
    }
    let quota = quota(dir.path(), MIB, 4);
    assert!(is_full(quota.begin().unwrap().take(Space::NAME)));
    for name in 0..5 {
        fs::remove_file(dir.path().join(name.to_string())).unwrap();
        quota.begin().unwrap().removed(Removed { is_directory: false, links: 1, size: 0 });
    }
    quota.begin().unwrap().take(Space::NAME).unwrap();
    assert_eq!(space(&quota).entries, 4);
    assert!(is_full(quota.begin().unwrap().take(Space::NAME)));
}

#[test]
fn as_many_files_are_open_as_somebody_has() {
    let dir = tempfile::tempdir().unwrap();
    let quota = quota(dir.path(), MIB, 10);
    let one = file(dir.path(), "one");
    for _ in 0..2 * crate::resources::MAX_OPEN {
        assert!(quota.may_open());
        quota.opened(&Arc::new(one.try_clone().unwrap()));
    }
    let kept: Vec<_> =
        (0..crate::resources::MAX_OPEN).map(|_| Arc::new(one.try_clone().unwrap())).collect();
    kept.iter().for_each(|file| quota.opened(file));
    assert!(!quota.may_open());
    drop(kept);
    assert!(quota.may_open());
}
