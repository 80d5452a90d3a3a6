//! The init process from outside: it brings a supervisor back that died, passes signals on, takes the ends
//! of orphans, gives up in time, and leaves nobody behind.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use harness::host::{CLEAN, UNCLEAN, command};
use harness::{Host, HostBuilder, Need, Value, json, processes, skip, wait_until};
use rustix::process::{Pid, Signal, kill_process};

/// Exit code of wrong input.
const BAD_INPUT: i32 = 2;

/// Exit code of an init process whose supervisor died too often.
const GAVE_UP: i32 = 5;

fn supervised() -> HostBuilder {
    Host::builder().supervise()
}

/// Kills the supervisor and waits for the next one.
fn kill_and_wait_for_run(host: &Host, run: usize) -> Value {
    kill_process(host.supervisor_pid(), Signal::KILL).expect("kill the supervisor");
    host.wait_for_number(&["container.cold_start"], run)
}

#[test]
fn a_supervisor_that_is_killed_comes_back_at_the_same_place() {
    let mut host = supervised().start();
    let first = host.supervisor_pid();
    assert_eq!(processes::parent(first), Pid::from_raw(host.pid().cast_signed()));
    host.client().start("one", "echo");
    let line = kill_and_wait_for_run(&host, 2);
    assert_eq!((&line["init"], &line["restartSeq"]), (&true.into(), &1.into()), "{line}");
    assert_ne!(host.supervisor_pid(), first);
    assert!(host.is_running(), "the init process is the same");
    // What ran is being restored.
    let answer = host.client().start_with("one", "echo", json!({}));
    assert!([200, 201].contains(&answer.status), "{}", answer.text);
    assert_eq!(host.client().ask("one", "hi"), "hi");
    assert!(host.stderr().contains("died of signal 9; restart 1 of 5"), "{}", host.stderr());
    host.finish();
}

#[test]
fn a_supervisor_that_dies_again_and_again_is_given_up() {
    let host = supervised().args(&["--max-restarts", "1"]).start();
    kill_and_wait_for_run(&host, 2);
    kill_process(host.supervisor_pid(), Signal::KILL).expect("kill the supervisor");
    let (status, _) = host.wait_for_end();
    assert_eq!(status.code(), Some(GAVE_UP), "{status}");
}

#[test]
fn a_signal_to_the_init_process_ends_the_agents_in_order() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let host = supervised().start();
        host.client().start("one", "echo");
        let supervisor = host.supervisor_pid();
        let lines = host.finish_with(signal, CLEAN);
        let exit = lines.iter().find(|line| line["event"] == "agent.exit").expect("an exit");
        assert_eq!(exit["reason"], "drained", "{exit}");
        assert!(!processes::is_known(supervisor), "its end was taken");
    }
}

#[test]
fn an_end_that_no_restart_betters_is_final() {
    let dir = tempfile::tempdir().expect("make a directory");
    let file = dir.path().join("bulkhead.toml");
    std::fs::write(&file, "[server]\nnothing = 1\n").expect("write the configuration");
    let ended = command(&file, dir.path()).arg("--supervise").output().expect("run the host");
    assert_eq!(ended.status.code(), Some(BAD_INPUT), "{ended:?}");
    let lines = String::from_utf8_lossy(&ended.stderr).lines().count();
    assert_eq!(lines, 1, "one run and nothing about a restart: {ended:?}");
}

#[test]
fn the_supervisor_does_not_outlive_its_init_process() {
    let host = supervised().start();
    let supervisor = host.supervisor_pid();
    host.signal(Signal::KILL);
    wait_until("the supervisor is gone", || !processes::is_alive(supervisor));
    let (status, _) = host.wait_for_end();
    assert_eq!(status.code(), None, "{status}");
}

/// Runs its arguments. Before that it starts a child that starts a child, writes their ids down, and leaves
/// the first one waiting for a word.
const WITH_DESCENDANTS: &str = r#"
mkfifo word
sh -c 'sleep 1000 <&- >&- 2>&- & echo $! >grandchild; read x <word' >&- 2>&- &
echo $! >child
exec "$@"
"#;

/// The id that the script wrote into this file.
fn written_pid(host: &Host, name: &str) -> Pid {
    let read = || {
        let text = std::fs::read_to_string(host.dir().join(name)).ok()?;
        Pid::from_raw(text.trim().parse().ok()?)
    };
    wait_until("the script has written its ids", || read().is_some());
    read().expect("an id")
}

#[test]
fn the_ends_of_orphans_are_taken() {
    let host = supervised().run_by(&["sh", "-c", WITH_DESCENDANTS, "sh"]).start();
    let (child, grandchild) = (written_pid(&host, "child"), written_pid(&host, "grandchild"));
    let init = Pid::from_raw(host.pid().cast_signed());
    assert_eq!(processes::parent(child), init);
    assert_eq!(processes::parent(grandchild), Some(child));
    std::fs::write(host.dir().join("word"), "go\n").expect("let the child go");
    wait_until("no trace of the child", || !processes::is_known(child));
    assert_eq!(processes::parent(grandchild), init, "the orphan was taken in");
    kill_process(grandchild, Signal::KILL).expect("kill the orphan");
    wait_until("no trace of the orphan", || !processes::is_known(grandchild));
    assert_eq!(host.events_named("container.cold_start").len(), 1, "the host noticed nothing");
    host.finish();
}

/// Runs its arguments as process 1.
const AS_PROCESS_1: [&str; 5] = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];

/// Whether this machine and user can have a process 1 of their own. Says so when not.
fn can_have_process_1() -> bool {
    let mut probe = Command::new(AS_PROCESS_1[0]);
    probe.args(&AS_PROCESS_1[1..]).arg("true").stdin(Stdio::null());
    let can = probe.output().is_ok_and(|ended| ended.status.success());
    if !can {
        harness::skip(
            Need::Pidns,
            "no process namespace can be made (root and `unshare` are needed)",
        );
    }
    can
}

#[test]
fn process_1_is_an_init_process_without_an_option() {
    if !can_have_process_1() {
        return;
    }
    let builder = Host::builder().run_by(&AS_PROCESS_1);
    let host = builder.start();
    let first = &host.events_named("container.cold_start")[0];
    assert_eq!((&first["init"], &first["restartSeq"]), (&true.into(), &0.into()), "{first}");
    let unshare = Pid::from_raw(host.pid().cast_signed()).expect("an id");
    let init = processes::children(unshare)[0];
    let supervisor = processes::children(init)[0];
    kill_process(supervisor, Signal::KILL).expect("kill the supervisor");
    host.wait_for_number(&["container.cold_start"], 2);
    assert_eq!(processes::children(unshare), [init], "the init process is the same");
    kill_process(init, Signal::TERM).expect("end the init process");
    let lines = host.ends_with(CLEAN);
    assert_eq!(lines.last().expect("a line")["event"], "container.stopped");
}

/// Waits in the backoff before a restart that follows several deaths.
const LONG_BACKOFF: &str = "after 1600 ms";

#[test]
fn a_signal_between_two_supervisors_ends_the_init_process() {
    let dir = tempfile::tempdir().expect("make a directory");
    let file = dir.path().join("bulkhead.toml");
    let config = Host::builder().render(&dir.path().join("state"));
    std::fs::write(&file, config).expect("write the configuration");
    let args = ["--supervise", "--inject-fault", "abort-in-boot", "--max-restarts", "100"];
    let mut init = command(&file, dir.path()).args(args).spawn().expect("start the host");
    let stderr = BufReader::new(init.stderr.take().expect("stderr is a pipe"));
    let lines = stderr.lines().map_while(Result::ok).find(|line| line.contains(LONG_BACKOFF));
    assert!(lines.expect("a long backoff").contains("died of signal 6; restart 6 of 100"));
    kill_process(Pid::from_child(&init), Signal::TERM).expect("end the init process");
    let ended = init.wait_with_output().expect("wait for the init process");
    assert_eq!(ended.status.code(), Some(UNCLEAN), "{}", ended.status);
    let lines = String::from_utf8_lossy(&ended.stdout).into_owned();
    let last: Value = serde_json::from_str(lines.lines().last().expect("a line")).expect("JSON");
    assert_eq!(
        (&last["event"], &last["cause"]),
        (&"container.previous_run".into(), &"native_fault".into())
    );
}

#[test]
fn a_supervisor_that_cannot_be_started_is_tried_again_and_init_says_so() {
    let builder = supervised().args(&["--max-restarts", "1000"]);
    // A user who has no right to as many processes as he likes.
    let Some(launch) = builder.launch().by_user(65_533) else {
        return skip(Need::Root, "it takes root, setpriv, and a binary that everybody may run");
    };
    let as_nobody = launch.wrapper.clone();
    let host = Host::start_with(launch, |state| {
        let dir = state.parent().expect("a directory");
        std::os::unix::fs::chown(dir, Some(65_533), None).expect("give it away");
        builder.render(state)
    })
    .ready();
    // As the same user, and below the hard limit: that takes no right that the tests may lack.
    let limit = |soft: &str| {
        let mut command = Command::new(&as_nobody[0]);
        let limit = [format!("--pid={}", host.pid()), format!("--nproc={soft}:")];
        let set = command.args(&as_nobody[1..]).arg("prlimit").args(limit).output();
        assert!(set.as_ref().is_ok_and(|set| set.status.success()), "set its limit: {set:?}");
    };
    limit("1");
    kill_process(host.supervisor_pid(), Signal::KILL).expect("kill the supervisor");
    let failures = || host.stderr().matches("cannot be started").count();
    wait_until("init says so", || failures() >= 3);
    for line in host.stderr().lines() {
        let line: Value = serde_json::from_str(line).expect("its lines are JSON when the log is");
        assert_eq!((&line["event"], &line["level"]), (&"container.init".into(), &"warn".into()));
    }
    limit("4096");
    let line = host.wait_for_number(&["container.previous_run"], 2);
    assert_eq!(
        (&line["cause"], &line["signal"]),
        (&"external_sigkill".into(), &9.into()),
        "{line}"
    );
    let begun = host.events_named("container.cold_start");
    assert_eq!(begun[1]["restartSeq"], 1, "a failed start is no restart: {}", begun[1]);
    host.wait_until_ready();
    host.finish();
}

#[test]
fn a_closed_stderr_keeps_no_supervisor_from_coming_back() {
    let dir = tempfile::tempdir().expect("make a directory");
    let file = dir.path().join("bulkhead.toml");
    let config = Host::builder().render(&dir.path().join("state"));
    std::fs::write(&file, config).expect("write the configuration");
    let mut init = command(&file, dir.path()).arg("--supervise").spawn().expect("start the host");
    drop(init.stderr.take());
    let stdout = BufReader::new(init.stdout.take().expect("stdout is a pipe"));
    let mut runs = stdout.lines().map_while(Result::ok).filter_map(|line| {
        let line: Value = serde_json::from_str(&line).expect("a line is JSON");
        let pid = Pid::from_raw(i32::try_from(line["pid"].as_i64()?).ok()?);
        (line["event"] == "container.cold_start").then_some(pid?)
    });
    kill_process(runs.next().expect("a run"), Signal::KILL).expect("kill the supervisor");
    assert!(runs.next().is_some(), "the init process is gone");
    kill_process(Pid::from_child(&init), Signal::TERM).expect("end the init process");
    runs.for_each(drop);
    assert!(init.wait().is_ok());
}
