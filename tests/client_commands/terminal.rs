//! What only a terminal shows: widths, colours, that something is waited for, and the log of a host for people.
//! `script` makes one.

use std::path::Path;
use std::process::{Command, Stdio};

use harness::client::Client;
use harness::processes::children;
use harness::{Host, files, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use super::{Person, Running};

/// A line of a shell on a terminal with so many columns.
pub(super) fn on_a_terminal(person: &Person, columns: usize, line: &str, keys: Stdio) -> Running {
    let shell = format!("stty cols {columns} rows 24; exec {} {line}", files::binary().display());
    let mut command = Command::new("script");
    person.surround(command.args(["-q", "-e", "-c", &shell, "/dev/null"]));
    let own = person.variables.iter().map(|(name, value)| (name, value));
    command.env("TERM", "xterm").envs(own).stdin(keys);
    Running::of(command)
}

#[test]
fn a_table_fits_and_has_colours_unless_somebody_does_not_want_them() {
    let host = Host::builder().start().ready();
    let person = Person::of(&host);
    let long = "a-very-long-name-of-an-agent-in-a-rig-far-away";
    person.says(&["start", long, "--role", "echo"]).ok();
    let wide = on_a_terminal(&person, 200, "ps", Stdio::null()).ends();
    assert_eq!(wide.code, 0, "{wide:?}");
    assert!(
        wide.stdout.contains(long) && wide.stdout.contains("\x1b[32mrunning\x1b[0m"),
        "{wide:?}"
    );

    let plain = Person::of(&host).with("NO_COLOR", "1");
    let narrow = on_a_terminal(&plain, 70, "ps", Stdio::null()).ends();
    assert!(!narrow.stdout.contains('\x1b') && narrow.stdout.contains('…'), "{narrow:?}");
    let widths: Vec<_> =
        narrow.stdout.lines().map(|line| line.trim_end().chars().count()).collect();
    assert!(widths.len() == 2 && widths.iter().all(|width| *width <= 70), "{narrow:?}");
    host.finish();
}

#[test]
fn a_long_wait_is_shown_and_wiped() {
    let host = Host::builder().guest("puppet").start().ready();
    let person = Person::of(&host);
    person.says(&["start", "one", "--role", "puppet"]).ok();
    let mut send = on_a_terminal(&person, 80, "send one 'wait hello' --wait 5m", Stdio::null());
    wait_until("the turn is under way", || host.client().status("one").busy);
    send.shows("waiting for the turn of one: 2 s");
    host.release("one");
    let ended = send.ends();
    assert_eq!(ended.code, 0, "{ended:?}");
    let (_, after) = ended.stdout.rsplit_once("\r\x1b[K").expect("the line is wiped");
    assert!(after.starts_with("one took message ") && after.contains("hello"), "{after:?}");
    host.finish();
}

#[test]
fn stopping_all_asks_first() {
    let host = Host::builder().start().ready();
    let person = Person::of(&host);
    person.says(&["start", "one", "--role", "echo"]).ok();
    for (answer, code, status) in [("n", 2, "running"), ("y", 0, "exited")] {
        let shell = format!(
            "echo {answer} | script -q -e -c '{} stop --all' /dev/null",
            files::binary().display()
        );
        let mut command = Command::new("sh");
        person.surround(command.args(["-c", &shell]));
        let ended = Running::of(command).ends();
        assert!(ended.stdout.contains("stop 1 agent of http://"), "{ended:?}");
        assert_eq!(ended.code, code, "{ended:?}");
        assert_eq!(host.client().status("one").status, status);
    }
    host.finish();
}

/// A host on a terminal, up to the end of its banner, and what it has shown.
fn host_on_a_terminal(dir: &Path, options: &str) -> (Running, Client, String) {
    let (file, state) = (dir.join("bulkhead.toml"), dir.join("state"));
    let builder = Host::builder().guest("trap").toml("[log]\nformat = \"auto\"");
    std::fs::write(&file, builder.render(&state)).expect("write the configuration");
    let person = Person::at("");
    let line = format!("run --config {} {options}", file.display());
    let mut host = on_a_terminal(&person, 160, &line, Stdio::null());
    let mut shown = until(&mut host, "http://");
    let (_, address) = shown.rsplit_once("http://").expect("an address");
    let client = Client::new(address.trim().parse().expect("an address"), &state);
    shown.push_str(&until(&mut host, "is ready after"));
    (host, client, shown)
}

/// Its lines up to one with this text.
fn until(host: &mut Running, text: &str) -> String {
    let mut shown = String::new();
    while !shown.contains(text) {
        shown.push_str(&host.line());
    }
    shown
}

/// Asks a host to end that `script` started.
fn ask_to_end(host: &Running) {
    let [host] = children(Pid::from_child(&host.child))[..] else { panic!("no child of script") };
    kill_process(host, Signal::TERM).expect("send a signal");
}

#[test]
fn a_host_shows_where_it_is_and_each_crash_once_with_its_lines() {
    let dir = tempfile::tempdir().expect("make a directory");
    let (mut host, client, mut shown) = host_on_a_terminal(dir.path(), "");
    for part in ["control-token", "export BULKHEAD_CONFIG=", "bulkhead ps", "--role"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    client.start("bad", "trap");
    client.send_wait("bad", "panic").expect(502);
    shown += &until(&mut host, "more: bulkhead crashes show");
    ask_to_end(&host);
    let ended = host.ends();
    shown += &ended.stdout;
    assert_eq!(ended.code, 0, "{shown}");
    assert_eq!(
        shown.matches("crashed: it panicked while it handled a message").count(),
        1,
        "{shown}"
    );
    assert!(shown.contains("> told to panic") && shown.contains("trap.rs:"), "{shown}");
    assert!(shown.contains("frames of the runtime") && shown.contains("\x1b[31m"), "{shown}");
    assert!(!shown.contains("=[") && !shown.contains("{\""), "{shown}");
    assert!(shown.lines().count() < 50, "{shown}");
}

#[test]
fn a_host_shows_more_on_request_and_no_colours() {
    let dir = tempfile::tempdir().expect("make a directory");
    let (host, _, mut shown) = host_on_a_terminal(dir.path(), "-v --color never");
    ask_to_end(&host);
    let ended = host.ends();
    shown += &ended.stdout;
    assert_eq!(ended.code, 0, "{shown}");
    assert!(shown.contains("[container.cold_start]"), "{shown}");
    assert!(!shown.contains('\x1b'), "{shown:?}");
}
