//! What only a terminal shows: widths, colours, and that something is waited for. `script` makes one.

use std::process::Command;

use harness::{Host, files, wait_until};

use super::{Person, Running};

/// A line of a shell on a terminal with so many columns.
fn on_a_terminal(person: &Person, columns: usize, line: &str) -> Running {
    let shell = format!("stty cols {columns} rows 24; exec {} {line}", files::binary().display());
    let mut command = Command::new("script");
    person.surround(command.args(["-q", "-e", "-c", &shell, "/dev/null"]));
    command.env("TERM", "xterm");
    Running::of(command)
}

#[test]
fn a_table_fits_and_has_colours_unless_somebody_does_not_want_them() {
    let host = Host::builder().start().ready();
    let person = Person::of(&host);
    let long = "a-very-long-name-of-an-agent-in-a-rig-far-away";
    person.says(&["start", long, "--role", "echo"]).ok();
    let wide = on_a_terminal(&person, 200, "ps").ends();
    assert_eq!(wide.code, 0, "{wide:?}");
    assert!(
        wide.stdout.contains(long) && wide.stdout.contains("\x1b[32mrunning\x1b[0m"),
        "{wide:?}"
    );

    let plain = Person::of(&host).with("NO_COLOR", "1");
    let narrow = on_a_terminal(&plain, 70, "ps").ends();
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
    let mut send = on_a_terminal(&person, 80, "send one 'wait hello' --wait 5m");
    wait_until("the turn is under way", || host.client().view("one").busy);
    let mut shown = Vec::new();
    while !shown.ends_with(b"waiting for the turn of one: 2 s") {
        let mut byte = [0];
        let stdout = send.stdout.as_mut().expect("stdout is open");
        std::io::Read::read_exact(stdout, &mut byte).expect("the wait is shown");
        shown.extend(byte);
    }
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
        assert_eq!(host.client().status("one")["status"], status);
    }
    host.finish();
}
