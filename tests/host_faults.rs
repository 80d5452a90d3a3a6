//! Faults of the host itself: what is contained is logged and survived, what is not is logged and ends it.

use harness::{Host, Value, wait_until};
use rustix::process::Signal;

/// Exit code of a panic that nothing contained.
const PANICKED: i32 = 4;

fn host(fault: &str) -> Host {
    let host = Host::builder().inject_fault(fault).start();
    host.client().start("one", "echo");
    assert_eq!(host.client().ask("one", "hi"), "hi");
    host
}

/// The host dies of it, and the last line says of what.
#[track_caller]
fn dies_of(fault: &str, place: &str) {
    let host = host(fault);
    host.signal(Signal::USR2);
    let (status, lines) = host.wait_for_end();
    assert_eq!(status.code(), Some(PANICKED), "{status}");
    let last = lines.last().expect("a line");
    assert_eq!(last["event"], "container.uncaught_exception", "{last}");
    assert_eq!((&last["level"], &last["activeAgents"]), (&Value::from("fatal"), &Value::from(1)));
    assert!(last["message"].as_str().is_some_and(|text| text.contains("injected")), "{last}");
    let stack = last["stack"].as_str().expect("a stack");
    assert!(stack.contains("host/daemon/src/faults.rs:") && stack.contains(place), "{stack}");
}

#[test]
fn a_panic_of_the_main_thread_ends_the_host_with_its_story() {
    dies_of("panic-main", "in thread main");
}

#[test]
fn a_panic_of_a_thread_that_nothing_contains_ends_the_host_with_its_story() {
    dies_of("panic-thread", "in thread unnamed");
}

/// The host logs it and goes on. Returns its lines.
#[track_caller]
fn survives(fault: &str, times: usize) -> Vec<Value> {
    let host = host(fault);
    for _ in 0..times {
        host.signal(Signal::USR2);
        assert_eq!(host.client().ask("one", "hi"), "hi");
    }
    host.wait_for_line("the failure is logged", |line| {
        line["event"] == "container.unhandled_rejection"
    });
    host.client().stop("one").expect(200);
    let logged = host.events_named("container.unhandled_rejection");
    host.signal(Signal::TERM);
    let (status, _) = host.wait_for_end();
    assert_eq!(status.code(), Some(0), "{status}");
    logged
}

#[test]
fn a_panic_of_a_task_is_logged_with_its_location_and_survived() {
    let logged = survives("panic-task", 1);
    let line = &logged[0];
    assert_eq!((&line["task"], &line["name"]), (&"faulty task".into(), &"panic".into()), "{line}");
    assert!(line["message"].as_str().unwrap().contains("injected"), "{line}");
    assert!(line["stack"].as_str().unwrap().contains("host/daemon/src/faults.rs:"), "{line}");
    assert_eq!((&line["activeAgents"], &line["repeated"]), (&1.into(), &0.into()), "{line}");
}

#[test]
fn an_error_of_a_task_is_logged_and_survived() {
    let logged = survives("fail-task", 1);
    assert_eq!(logged[0]["name"], "error");
    assert_eq!(logged[0]["message"], "a fault was injected into a task");
}

#[test]
fn the_same_failure_again_and_again_is_one_line() {
    let logged = survives("panic-task", 50);
    // One at once; another only when the test took longer than the quiet time.
    let seconds = 10;
    assert!(logged.len() <= 1 + 90 / seconds, "{} lines", logged.len());
    let repeated: u64 = logged.iter().filter_map(|line| line["repeated"].as_u64()).sum();
    assert!(repeated + logged.len() as u64 <= 50, "{logged:?}");
}

/// An agent is restarted at once, and a few times only from faults of its own.
const LOOPER: &str = "restart = \"permanent\"\nworkspace = true\nrestart_max = 2\n\
    restart_backoff_ms = 1\nrestart_backoff_max_ms = 20";

#[test]
fn a_disk_that_takes_no_workspace_quarantines_nobody() {
    let host = Host::builder().guest("puppet").role("puppet", "puppet", LOOPER).start();
    host.client().start("one", "puppet");
    // A file is where its directory has to be: the host cannot make its next instance.
    let workspace = host.workspace("one");
    std::fs::remove_dir_all(&workspace).expect("remove the workspace");
    std::fs::write(&workspace, "").expect("write a file in its place");
    host.client().send("one", "panic").expect(200);
    let faults = || {
        let crashes = host.events_of("one", "agent.crash");
        crashes.iter().filter(|crash| crash["reason"] == "host_error").count()
    };
    wait_until("the host failed it often", || faults() >= 10);
    let status = host.client().status("one");
    assert_ne!(status.status, "quarantined", "{status:?}");
    assert!(status.restart.attempts_in_window <= 2, "{status:?}");
    assert!(host.events_named("agent.quarantined").is_empty());

    std::fs::remove_file(&workspace).expect("remove the file");
    host.client().reaches("one", "running");
    wait_until("it works", || {
        host.client().try_send_wait("one", "hi").is_ok_and(|answer| answer.status == 200)
    });
    assert!(host.events_named("agent.quarantined").is_empty());
    host.finish();
}
