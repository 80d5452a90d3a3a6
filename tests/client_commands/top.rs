//! `bulkhead top`: on a real terminal, which tmux makes, and without one.

use std::process::Command;

use harness::{Host, Need, files, skip, wait_for, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::Person;

/// A terminal with a shell in which `bulkhead top` runs. When it ends, the shell prints its code and what the terminal
/// does with input.
struct Tmux {
    dir: TempDir,
}

impl Tmux {
    /// `None`: there is no tmux here.
    fn start(person: &Person, size: (u16, u16)) -> Option<Self> {
        let tmux = Self { dir: tempfile::tempdir().expect("make a directory") };
        let line = format!(
            "{} top; echo code $?; stty -a | tr ';' '\\n' | grep -ow -- '-\\?icanon'; cat",
            files::binary().display()
        );
        let (columns, rows) = (size.0.to_string(), size.1.to_string());
        let mut command = tmux.command(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &columns,
            "-y",
            &rows,
            "--",
            "sh",
            "-c",
            &line,
        ]);
        person.surround(&mut command);
        command.env("TERM", "xterm-256color");
        match command.status() {
            Ok(status) => assert!(status.success(), "tmux starts: {status}"),
            Err(error) => {
                skip(Need::Tmux, &format!("tmux: {error}"));
                return None;
            }
        }
        Some(tmux)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-u").arg("-S").arg(self.dir.path().join("socket")).args(words);
        command
    }

    fn does(&self, words: &[&str]) -> String {
        let done = self.command(words).output().expect("run tmux");
        assert!(done.status.success(), "{words:?}: {done:?}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    fn keys(&self, keys: &[&str]) {
        self.does(&[&["send-keys"], keys].concat());
    }

    /// Waits until the screen shows all of these, and returns it.
    #[track_caller]
    fn shows(&self, named: &[&str]) -> String {
        wait_for(&format!("the screen shows {named:?}"), || {
            let screen = self.does(&["capture-pane", "-p"]);
            if named.iter().all(|name| screen.contains(name)) { Ok(screen) } else { Err(screen) }
        })
    }

    /// The `bulkhead` in it.
    fn pid(&self) -> Pid {
        let shell = self.does(&["list-panes", "-F", "#{pane_pid}"]);
        let shell = shell.trim();
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"));
        let child = children.expect("the children of the shell").trim().parse().expect("one child");
        Pid::from_raw(child).expect("a process id")
    }

    /// Waits for its end, and checks that the terminal is as it was.
    #[track_caller]
    fn ended(&self, code: &str) {
        let screen = self.shows(&[&format!("code {code}\n"), "icanon"]);
        assert!(!screen.contains("-icanon") && !screen.contains("q quit"), "{screen}");
        assert_eq!(self.does(&["display-message", "-p", "#{alternate_on}#{cursor_flag}"]), "01\n");
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.command(&["kill-server"]).output();
    }
}

#[test]
fn agents_are_watched_opened_and_sent_messages() {
    let host = Host::builder().guest("puppet").guest("trap").start().ready();
    let person = Person::of(&host);
    host.client().start("one", "puppet");
    let Some(tmux) = Tmux::start(&person, (80, 24)) else { return };
    tmux.shows(&[host_name(&person), "AGENT", "one", "running", "q quit"]);
    tmux.keys(&["?"]);
    tmux.shows(&["send a message to the agent"]);
    // Not Escape: with the next key it would be one that was pressed with Alt.
    tmux.keys(&["x"]);
    tmux.keys(&["Enter"]);
    tmux.shows(&["role puppet", "events and turns", "Esc back"]);
    tmux.keys(&["m"]);
    tmux.shows(&["message to one"]);
    tmux.keys(&["-l", "hello there"]);
    tmux.keys(&["Enter"]);
    tmux.shows(&["sent to one as message", "agent.turn"]);
    tmux.does(&["resize-window", "-x", "250", "-y", "40"]);
    tmux.shows(&["\"reply\":\"hello there\""]);
    tmux.keys(&["Escape"]);
    tmux.shows(&["RESTARTS", "LAST EXIT"]);

    host.client().start("bad", "trap");
    host.client().send("bad", "panic").expect(200);
    host.wait_for_exit("bad");
    tmux.shows(&["bad", "panic"]);
    tmux.keys(&["Home"]);
    tmux.keys(&["c"]);
    tmux.shows(&["crash: ↑↓ scroll", "told to panic by message"]);
    tmux.keys(&["x"]);
    tmux.keys(&["End"]);
    tmux.keys(&["s"]);
    tmux.shows(&["stop one?"]);
    tmux.keys(&["y"]);
    tmux.shows(&["one stopped: stopped"]);
    assert_eq!(host.client().status("one").status, "exited");
    tmux.keys(&["q"]);
    tmux.ended("0");
    drop(tmux);
    host.finish();
}

#[test]
fn an_order_that_is_left_behind_is_named() {
    let host = Host::builder().guest("puppet").start().ready();
    let person = Person::of(&host);
    host.client().start("one", "puppet");
    host.client().send("one", "wait hello").expect(200);
    wait_until("the turn is under way", || host.client().status("one").busy);
    let Some(tmux) = Tmux::start(&person, (120, 24)) else { return };
    tmux.shows(&["one", "running, busy"]);
    tmux.keys(&["s"]);
    tmux.shows(&["stop one?"]);
    tmux.keys(&["y", "q"]);
    tmux.shows(&["has not answered yet (stop of one); it may continue"]);
    tmux.ended("0");
    assert_eq!(host.client().status("one").status, "stopping");
    host.release("one");
    assert_eq!(host.client().ended("one").exit_reason.as_deref(), Some("stopped"));
    drop(tmux);
    host.finish();
}

#[test]
fn a_host_that_is_down_is_waited_for() {
    let address = harness::free_address().to_string();
    let mut host = Host::builder().guest("puppet").args(&["--listen", &address]).start().ready();
    let person = Person::of(&host);
    host.client().start("one", "puppet");
    let Some(tmux) = Tmux::start(&person, (250, 30)) else { return };
    tmux.shows(&["one", "running"]);
    tmux.keys(&["Enter"]);
    tmux.shows(&["events and turns"]);
    host.signal(Signal::TERM);
    host.wait();
    tmux.shows(&["NO ANSWER, trying again"]);
    let host = host.restart().ready();
    // It is back by itself.
    host.client().ask("one", "after the restart");
    tmux.shows(&["\"reply\":\"after the restart\"", "1 agent"]);
    drop(tmux);
    host.finish();
}

#[test]
fn signals_leave_the_terminal_as_it_was() {
    let host = Host::builder().guest("puppet").start().ready();
    let person = Person::of(&host);
    for (signal, code) in [(Signal::TERM, "143"), (Signal::HUP, "129"), (Signal::INT, "0")] {
        let Some(tmux) = Tmux::start(&person, (80, 24)) else { return };
        tmux.shows(&["no agents"]);
        kill_process(tmux.pid(), signal).expect("send a signal");
        tmux.ended(code);
    }
    host.finish();
}

#[test]
fn without_a_terminal_it_is_a_table() {
    let host = Host::builder().guest("puppet").start().ready();
    let person = Person::of(&host);
    assert_eq!(person.says(&["top"]).ok(), "no agents\n");
    host.client().start("one", "puppet");
    let table = person.says(&["top"]).ok();
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("AGENT  ROLE    STATUS") && lines.len() == 2, "{table}");
    assert!(lines[1].starts_with("one    puppet  running"), "{table}");
    host.finish();
}

/// Its address, as `top` shows it.
fn host_name(person: &Person) -> &str {
    &person.variables[0].1
}
