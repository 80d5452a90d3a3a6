//! Directories that cannot be written.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use super::full_disk::{Unmount, mount};
use super::*;

/// The same directory once more, read-only.
fn read_only(dir: &Path, at: &Path) -> Option<(Unmount, Unmount)> {
    let bound = mount(&["--bind", dir.to_str().unwrap()], at)?;
    let again = mount(&["-o", "remount,bind,ro"], at)?;
    fs::write(at.join("probe"), "").unwrap_err();
    Some((bound, again))
}

fn ids(dir: &Path) -> Result<Vec<String>, String> {
    let all = CrashQuery { limit: 10, ..CrashQuery::default() };
    let records = read_crashes(dir, &all).map_err(|error| error.to_string())?;
    Ok(records.iter().map(|record| record.crash_id.clone()).collect())
}

#[test]
fn crash_records_are_read_from_a_read_only_directory_however_the_file_was_left() {
    // A name that a URI would read in another way.
    let (top, at) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (dir, at) = (top.path().join("50% of?this#dir"), at.path().join("seen%20here?mode=rw"));
    fs::create_dir(&at).unwrap();
    fs::create_dir(&dir).unwrap();
    let Some(_unmount) = read_only(&dir, &at) else { return };
    assert_eq!(ids(&at), Ok(vec![]), "no file");
    let (database, _) = open_clean(&dir);
    database.keep_crash(crash(1).into());
    assert!(database.flush(PATIENCE));
    assert_eq!(ids(&at), Ok(vec!["c00001".into()]), "a host runs");
    database.keep_crash(crash(2).into());
    drop(database);
    assert!(!file::log_path(&dir).exists());
    assert_eq!(ids(&at), Ok(vec!["c00002".into(), "c00001".into()]), "it was closed in order");
    assert!(!file::log_path(&dir).exists());
}

/// The variable that makes a process of [`has_the_database_open`].
const DIR: &str = "DATABASE_OPEN_DIR";

/// Not a test of its own: another process that has the database open until its stdin ends.
#[test]
fn has_the_database_open() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let (_database, _) = open_clean(Path::new(&dir));
    println!("\nopen");
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn a_file_that_another_process_has_open_is_not_read_as_one_that_does_not_change() {
    let (top, at) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let Some(_unmount) = read_only(top.path(), at.path()) else { return };
    drop(open_clean(top.path()));
    let mut host = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "database::tests::read_only::has_the_database_open", "--nocapture"])
        .env(DIR, top.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(host.stdout.take().unwrap()).lines();
    assert!(lines.map(Result::unwrap).any(|line| line == "open"));
    // As on a file system on which readers cannot share memory.
    fs::remove_file(top.path().join("bulkhead.db-shm")).unwrap();
    fs::remove_file(file::log_path(top.path())).unwrap();
    let error = ids(at.path()).unwrap_err();
    assert!(error.contains("a host uses the database"), "{error}");
    drop(host.stdin.take());
    host.wait().unwrap();
    assert_eq!(ids(at.path()), Ok(vec![]));
}

#[test]
fn what_a_host_has_in_its_log_is_never_left_out_of_what_is_read() {
    let (top, at) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (dir, at) = (top.path(), at.path());
    let Some(_unmount) = read_only(dir, at) else { return };
    // A copy of what a host leaves that dies: first with, then without what readers share.
    let in_use = tempfile::tempdir().unwrap();
    let (database, _) = open_clean(in_use.path());
    database.keep_crash(crash(1).into());
    assert!(database.flush(PATIENCE));
    for name in ["bulkhead.db", "bulkhead.db-wal", "bulkhead.db-shm"] {
        fs::copy(in_use.path().join(name), dir.join(name)).unwrap();
    }
    assert_eq!(ids(at), Ok(vec!["c00001".into()]));
    fs::remove_file(dir.join("bulkhead.db-shm")).unwrap();
    let error = ids(at).unwrap_err();
    assert!(error.contains("was not closed"), "{error}");
}
