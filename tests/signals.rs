//! What signals do to the host: one wish that is delivered twice stays one, what was ignored when the host was
//! started stays ignored, and none that means nothing to the host ends it.

use std::cell::RefCell;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use harness::host::{CLEAN, UNCLEAN, command};
use harness::{Host, HostBuilder, Value, processes, wait_for, wait_until};
use rustix::process::{Pid, Signal, kill_process};

/// Signals that come within this time of the first one are the same wish.
const SIGNAL_DEBOUNCE: Duration = Duration::from_secs(1);

fn puppet() -> HostBuilder {
    Host::builder().guest("puppet")
}

/// The process that the agents run in.
fn supervisor(host: &Host) -> Pid {
    host.supervisor_pid()
}

fn init(host: &Host) -> Pid {
    Pid::from_raw(host.pid().cast_signed()).expect("an id")
}

fn send(to: Pid, signal: Signal) {
    kill_process(to, signal).expect("send a signal");
}

/// Lets the turn come to its end when the drain has begun, and checks that it was let.
#[track_caller]
fn keeps_its_grace(host: Host, signals: &[(Pid, Signal)]) -> Vec<Value> {
    host.client().start("a", "puppet");
    std::thread::scope(|scope| {
        let caller = host.occupy(scope, "a", "long");
        let mut before = None;
        for (to, signal) in signals {
            // Of two that wait for one process the kernel delivers the one with the lower number first.
            if before.replace(to) == Some(to) {
                host.wait_for_line("the first", |line| line["event"] == "container.stop_intent");
            }
            send(*to, *signal);
        }
        host.wait_for_line("the drain", |line| {
            line["event"] == "container.draining" && line["phase"] == "settling"
        });
        // Each of them came before the turn may end.
        wait_until("no signal is on its way", || signals.iter().all(|(to, _)| is_taken(*to)));
        host.release("a");
        assert_eq!(caller.join().expect("the sender").reply(), "long");
    });
    host.ends_with(CLEAN)
}

/// Whether the process has no signal that waits for it.
fn is_taken(pid: Pid) -> bool {
    let path = format!("/proc/{}/status", pid.as_raw_nonzero());
    let status = std::fs::read_to_string(path).unwrap_or_default();
    let pending =
        status.lines().filter(|line| line.starts_with("SigPnd") || line.starts_with("ShdPnd"));
    pending.into_iter().all(|line| line.ends_with("0000000000000000"))
}

#[test]
fn two_signals_within_a_second_are_one_wish() {
    let host = puppet().start().ready();
    let pid = supervisor(&host);
    keeps_its_grace(host, &[(pid, Signal::TERM), (pid, Signal::TERM)]);
    // What some service managers send after the first one.
    let host = puppet().start().ready();
    let pid = supervisor(&host);
    keeps_its_grace(host, &[(pid, Signal::TERM), (pid, Signal::HUP)]);
}

#[test]
fn a_signal_to_the_whole_group_is_one_wish() {
    for init_first in [true, false] {
        let host = puppet().supervise().start().ready();
        let (init, supervisor) = (init(&host), supervisor(&host));
        let mut order = [(init, Signal::TERM), (supervisor, Signal::TERM)];
        if !init_first {
            order.reverse();
        }
        keeps_its_grace(host, &order);
    }
}

#[test]
fn a_second_signal_later_ends_at_once() {
    for builder in [puppet(), puppet().supervise()] {
        let host = builder.start().ready();
        host.client().start("a", "puppet");
        std::thread::scope(|scope| {
            let caller = host.occupy(scope, "a", "long");
            host.signal(Signal::TERM);
            host.wait_for_line("the drain", |line| line["event"] == "container.draining");
            // The time is the fact: what comes after it is another request.
            std::thread::sleep(SIGNAL_DEBOUNCE + Duration::from_millis(100));
            host.signal(Signal::TERM);
            let body = caller.join().expect("the sender").expect_error(502, &[]);
            assert_eq!(body.exit_reason.as_deref(), Some("killed"), "{body:?}");
        });
        host.ends_with(UNCLEAN);
    }
}

/// Runs its arguments with these signals ignored, as `nohup` and shells do that put a program into the background.
fn ignoring(signals: &str) -> [String; 4] {
    let script = format!("trap '' {signals}; exec \"$@\"");
    ["sh".into(), "-c".into(), script, "sh".into()]
}

#[test]
fn signals_that_were_ignored_at_exec_stay_ignored() {
    for builder in [puppet(), puppet().supervise()] {
        let wrapper = ignoring("HUP INT");
        let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        let host = builder.run_by(&wrapper).start().ready();
        for to in [init(&host), supervisor(&host)] {
            send(to, Signal::HUP);
            send(to, Signal::INT);
        }
        host.client().start("one", "puppet");
        wait_until("nothing is on its way", || is_taken(supervisor(&host)));
        assert_eq!(host.client().ask("one", "hi"), "hi");
        assert!(host.events_named("container.stop_intent").is_empty());
        host.finish();
    }
}

#[test]
fn a_signal_that_means_nothing_does_not_end_the_supervisor() {
    let host = puppet().supervise().start().ready();
    let before = supervisor(&host);
    for signal in [Signal::USR1, Signal::USR2] {
        host.signal(signal);
    }
    wait_until("init says so", || host.stderr().matches("is not forwarded").count() == 2);
    assert!(processes::is_alive(before));
    host.client().start("one", "puppet");
    assert_eq!(host.client().ask("one", "hi"), "hi");
    assert_eq!(host.events_named("container.cold_start").len(), 1);
    host.finish();
}

#[test]
fn sigquit_ends_the_agents_in_order() {
    for builder in [puppet(), puppet().supervise()] {
        let host = builder.start().ready();
        host.client().start("one", "puppet");
        let lines = host.finish_with(Signal::QUIT, CLEAN);
        let intent = lines.iter().find(|line| line["event"] == "container.stop_intent");
        assert_eq!(intent.expect("a line")["by"], "SIGQUIT");
    }
}

#[test]
fn what_sigint_means_is_a_setting() {
    // By flag; without it, an interrupt leaves a turn the role's grace only.
    let host = puppet().args(&["--sigint", "drain"]).start().ready();
    let pid = supervisor(&host);
    keeps_its_grace(host, &[(pid, Signal::INT)]);
    // By the file, through init.
    let host = puppet().toml("[signals]\nsigint = \"drain\"").supervise().start().ready();
    let pid = init(&host);
    keeps_its_grace(host, &[(pid, Signal::INT)]);
}

/// A supervisor that waits for its configuration does not take signals yet.
#[test]
fn a_signal_that_kills_the_supervisor_through_init_is_logged() {
    let dir = tempfile::tempdir().expect("make a directory");
    let file = dir.path().join("bulkhead.toml");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &file,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .expect("make a pipe");
    let init = command(&file, dir.path()).arg("--supervise").spawn().expect("start the host");
    let pid = Pid::from_child(&init);
    // Succeeds when somebody reads: the supervisor is in the middle of it from then on.
    let open = || {
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        std::fs::OpenOptions::new().write(true).custom_flags(nonblocking).open(&file)
    };
    let pipe = RefCell::new(None);
    wait_until("the supervisor waits for its configuration", || {
        *pipe.borrow_mut() = open().ok();
        pipe.borrow().is_some()
    });
    let mut pipe = pipe.take().expect("it is open");
    let child = processes::children(pid)[0];
    send(pid, Signal::TERM);
    wait_until("the supervisor is dead", || !processes::is_known(child));
    // For init, which reads it when it logs the end, a moment after the supervisor is gone.
    let config = Host::builder().render(&dir.path().join("state"));
    wait_for("init reads the configuration", || pipe.write_all(config.as_bytes()));
    drop(pipe);
    let ended = init.wait_with_output().expect("wait for init");
    assert_eq!(ended.status.code(), Some(128 + 15), "{ended:?}");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("died of signal 15") && said.contains("forwarded"), "{said}");
}
