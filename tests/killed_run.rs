//! A test run that is killed leaves no process behind.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use harness::{Host, processes, wait_until};
use rustix::process::Pid;

/// The test below, which the one above it kills.
const INNER: &str = "killed_run::a_host_that_nobody_ends";

/// What the inner test prints before the ids of its processes.
const IDS: &str = "processes of the host: ";

#[test]
fn the_hosts_of_a_test_run_that_is_killed_end_with_it() {
    let this = std::env::current_exe().expect("path of this test");
    // Nobody removes what a killed run kept in its directory for temporary files.
    let dir = tempfile::tempdir().expect("make a directory");
    let mut run = Command::new(this)
        .args(["--exact", INNER, "--ignored", "--nocapture"])
        .env("TMPDIR", dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run the inner test");
    let output = BufReader::new(run.stdout.take().expect("stdout is a pipe"));
    let ids = output.lines().map_while(Result::ok).find_map(|line| {
        let (_, ids) = line.split_once(IDS)?;
        Some(ids.split(' ').filter_map(|id| Pid::from_raw(id.parse().ok()?)).collect::<Vec<_>>())
    });
    run.kill().expect("kill the run");
    run.wait().expect("wait for the run");
    let ids = ids.expect("the inner test has a host");
    assert_eq!(ids.len(), 2, "init and supervisor");
    wait_until("its processes are gone", || !ids.iter().any(|id| processes::is_alive(*id)));
}

#[test]
#[ignore = "run by the test above, and killed"]
fn a_host_that_nobody_ends() {
    let host = Host::builder().supervise().start().ready();
    println!("\n{IDS}{} {}", host.pid(), host.supervisor_pid().as_raw_nonzero());
    loop {
        std::thread::park();
    }
}
