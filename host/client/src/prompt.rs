//! Lines that are typed at a prompt, and those that come from a pipe.

use std::convert::Infallible;
use std::io::{BufRead, ErrorKind, Write};

use bulkhead_terminal::words::bytes;
use bulkhead_types::message::MAX_BODY_BYTES;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, getpgrp};
use rustix::termios::{
    LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios, tcflush, tcgetattr,
    tcgetpgrp, tcsetattr,
};
use rustyline::error::ReadlineError;
use rustyline::{Config, DefaultEditor};
use tokio::signal::unix::{self, SignalKind, signal};

use crate::failure::Failure;
use crate::screen::is_dumb;

/// How long nothing may come of a text until the rest of it is taken to be over.
const QUIET: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Reads thrown away at most after a text that nobody can read: a terminal may send without end.
const MOST_READS: usize = 1000;

/// As a key of the terminal: `_POSIX_VDISABLE`.
const NO_KEY: u8 = 0;

/// An editor of lines. What is typed or pasted ahead of a line stays in it for the next.
pub(crate) struct Prompt(pub(crate) DefaultEditor);

impl Prompt {
    pub(crate) fn new() -> Result<Self, Failure> {
        // `Terminal` switches it on, also for the time between two prompts.
        let config = Config::builder().bracketed_paste(false).build();
        DefaultEditor::with_config(config).map(Self).map_err(unreadable)
    }

    /// The next line. `None`: there are no more.
    pub(crate) fn read(&mut self, prompt: &str) -> Result<Option<String>, Failure> {
        loop {
            match self.0.readline(prompt) {
                Ok(line) => {
                    let _ = self.0.add_history_entry(&line);
                    return Ok(Some(line));
                }
                Err(ReadlineError::Eof | ReadlineError::Interrupted) => return Ok(None),
                Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::InvalidData => {
                    // The editor forgot what it had; the rest would be a text without its beginning.
                    forget_the_rest();
                    eprintln!("bulkhead: what was typed is not UTF-8: it was thrown away");
                }
                Err(error) => return Err(unreadable(error)),
            }
        }
    }

    /// Throws away what was typed ahead.
    pub(crate) fn forget(&mut self) -> Result<(), Failure> {
        let mut new = Self::new()?;
        std::mem::swap(new.0.history_mut(), self.0.history_mut());
        *self = new;
        let _ = tcflush(std::io::stdin(), QueueSelector::IFlush);
        Ok(())
    }
}

fn forget_the_rest() {
    let stdin = std::io::stdin();
    for _ in 0..MOST_READS {
        let _ = tcflush(&stdin, QueueSelector::IFlush);
        let mut polled = [PollFd::new(&stdin, PollFlags::IN)];
        if poll(&mut polled, Some(&QUIET)).unwrap_or(0) == 0 {
            return;
        }
    }
}

/// The terminal, as long as lines are typed there. Whatever ends that, also a panic, gives it back as it was.
pub(crate) struct Terminal {
    /// As it was. `None`: it is dumb, makes the lines itself, and stays as it is.
    modes: Option<Termios>,
    is_at_prompt: bool,
    resumed: unix::Signal,
}

impl Terminal {
    pub(crate) fn enter() -> Result<Self, Failure> {
        let modes = (!is_dumb()).then(|| tcgetattr(std::io::stdin())).transpose();
        let resumed = signal(SignalKind::from_raw(Signal::CONT.as_raw())).map_err(unreadable)?;
        let modes = modes.map_err(unreadable)?;
        let terminal = Self { modes, is_at_prompt: false, resumed };
        terminal.keep();
        Ok(terminal)
    }

    /// Whether the editor edits there. Ctrl-C at the prompt is a key then, and else a signal.
    pub(crate) fn is_edited(&self) -> bool {
        self.modes.is_some()
    }

    /// Has the terminal keep what is typed between two prompts, all of it and as it is: one that makes lines of it
    /// throws away what is longer than 4,095 bytes. Ctrl-C is a signal all the same, and Ctrl-\, which nobody would take,
    /// is none.
    fn keep(&self) {
        let Some(mut modes) = self.modes.clone().filter(|_| is_ours()) else { return };
        modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::IEXTEN;
        modes.special_codes[SpecialCodeIndex::VQUIT] = NO_KEY;
        // The modes of a prompt are the editor's.
        if !self.is_at_prompt {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &modes);
        }
        // A text of several lines is one message, also when it is pasted between two prompts.
        say(b"\x1b[?2004h");
    }

    /// A prompt is about to stand there.
    pub(crate) fn begin_line(&mut self) {
        // The editor leaves the terminal as it finds it, which another program may have changed meanwhile.
        self.keep();
        self.is_at_prompt = true;
    }

    /// Its line is read.
    pub(crate) fn end_line(&mut self) {
        self.is_at_prompt = false;
    }

    /// Has it kept also after a stop, where the shell took it back.
    pub(crate) async fn stay(&mut self) -> Infallible {
        loop {
            match self.resumed.recv().await {
                Some(()) => self.keep(),
                None => std::future::pending().await,
            }
        }
    }
}

impl Drop for Terminal {
    /// Also when a prompt stands there, which still reads.
    fn drop(&mut self) {
        if !is_ours() {
            return;
        }
        if let Some(modes) = &self.modes {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, modes);
            say(b"\x1b[?2004l");
        }
        if self.is_at_prompt {
            // What comes next begins a line.
            say(b"\n");
        }
    }
}

/// Whether the terminal may be changed: a process in the background is stopped for it, and there it is the shell's.
fn is_ours() -> bool {
    // It may also be one that controls no process.
    tcgetpgrp(std::io::stdin()).ok().is_none_or(|group| group == getpgrp())
}

fn say(bytes: &[u8]) {
    let _ = std::io::stdout().write_all(bytes);
    let _ = std::io::stdout().flush();
}

/// A line of stdin, where nobody types. `None`: there are no more.
pub(crate) fn read_line() -> Result<Option<String>, Failure> {
    line_of(std::io::stdin().lock(), MAX_BODY_BYTES)
}

fn line_of(from: impl BufRead, most: usize) -> Result<Option<String>, Failure> {
    // With the longest end of a line.
    let bound = most + 2;
    let mut line = Vec::new();
    let read = from.take(bound as u64).read_until(b'\n', &mut line).map_err(unreadable)?;
    let is_whole = read < bound || line.ends_with(b"\n");
    while matches!(line.last(), Some(b'\n' | b'\r')) {
        line.pop();
    }
    if !is_whole || line.len() > most {
        return Err(Failure::Usage(format!("the message is longer than {}", bytes(most as u64))));
    }
    let line = String::from_utf8(line)
        .map_err(|_| Failure::Usage("the message is not UTF-8".to_owned()))?;
    Ok((read > 0).then_some(line))
}

pub(crate) fn unreadable(error: impl std::fmt::Display) -> Failure {
    Failure::NoAnswer(format!("cannot read the message: {error}"))
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::{self, BufReader, Read};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::Path;
    use std::process::{Child, Command};
    use std::time::Duration;

    use rustix::process::{Pid, getpid, kill_process};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use tokio::task::spawn_blocking;

    use super::*;

    /// Makes [`reads_lines`] read them.
    const ON_A_TERMINAL: &str = "BULKHEAD_TEST_ON_A_TERMINAL";

    /// The other side of a terminal on which lines are read.
    struct Person {
        terminal: File,
        child: Child,
    }

    impl Person {
        fn new() -> Self {
            Self::at("xterm")
        }

        fn at(term: &str) -> Self {
            Self::by(Command::new(std::env::current_exe().unwrap()), term)
        }

        fn by(mut command: Command, term: &str) -> Self {
            let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
            grantpt(&terminal).unwrap();
            unlockpt(&terminal).unwrap();
            let name = ptsname(&terminal, Vec::new()).unwrap();
            let name = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
            let mut options = OpenOptions::new();
            options.read(true).write(true).custom_flags(OpenptFlags::NOCTTY.bits().cast_signed());
            let side = || options.open(name).unwrap();
            command.args(["--exact", "prompt::tests::reads_lines", "--nocapture"]);
            command.env(ON_A_TERMINAL, "1").env("TERM", term);
            let command = command.stdin(side()).stdout(side()).stderr(side());
            Self { terminal: terminal.into(), child: command.spawn().unwrap() }
        }

        fn types(&mut self, keys: &[u8]) {
            self.terminal.write_all(keys).unwrap();
        }

        /// Stops the process for a moment, in which the shell changes the terminal.
        fn is_stopped(&self) {
            let child = Pid::from_child(&self.child);
            for signal in [Signal::STOP, Signal::CONT] {
                kill_process(child, signal).unwrap();
            }
        }

        /// Reads until the terminal shows this. Returns all that it showed.
        fn sees(&mut self, words: &str) -> String {
            let (mut shown, mut byte) = (Vec::new(), [0]);
            while !shown.ends_with(words.as_bytes()) {
                let read = self.terminal.read(&mut byte).unwrap_or(0);
                assert!(read > 0, "{words}: {}", String::from_utf8_lossy(&shown));
                shown.extend(byte);
            }
            String::from_utf8_lossy(&shown).into_owned()
        }
    }

    /// Says the length of each line, and takes its time.
    #[test]
    fn reads_lines() {
        if std::env::var_os(ON_A_TERMINAL).is_none() {
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut terminal, mut prompt) = (Terminal::enter().unwrap(), Prompt::new().unwrap());
            loop {
                terminal.begin_line();
                let read = spawn_blocking(move || (prompt.read("> ").unwrap(), prompt));
                let line;
                (line, prompt) = tokio::select! {
                    read = read => read.unwrap(),
                    never = terminal.stay() => match never {},
                };
                terminal.end_line();
                let Some(line) = line else { break };
                println!("took {} of {}.", line.len(), &line[..1]);
                assert_ne!(line, "panic");
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(500)) => {}
                    never = terminal.stay() => match never {},
                }
                if line == "suspend" {
                    kill_process(getpid(), Signal::STOP).unwrap();
                    terminal.resumed.recv().await;
                    break;
                }
                if line == "forget" {
                    prompt.forget().unwrap();
                    println!("forgot");
                }
            }
        });
    }

    #[test]
    fn a_terminal_is_kept_as_it_was_after_a_stop() {
        let mut person = Person::new();
        let on = "\x1b[?2004h";
        person.sees(on);
        for _ in 0..2 {
            person.sees("> ");
            person.is_stopped();
            person.sees(on);
            person.types(b"a\r");
            person.sees("took 1 of a.");
            person.is_stopped();
            person.sees(on);
        }
        person.sees("> ");
        person.types(b"\x04");
        assert!(person.child.wait().unwrap().success());
    }

    #[test]
    fn what_is_typed_or_pasted_ahead_is_taken_whole_and_in_order() {
        let mut person = Person::new();
        person.sees("> ");
        person.types(b"a\nbb\rccc\n");
        for line in ["took 1 of a.", "took 2 of b.", "took 3 of c."] {
            person.sees(line);
        }
        // Longer than a line that a terminal makes.
        person.types(&[b"\x1b[200~", &[b'd'; 6000][..], b"\x1b[201~\r"].concat());
        person.sees("took 6000 of d.");
        person.sees("> ");
        person.types(b"\x04");
        assert!(person.child.wait().unwrap().success());
    }

    #[test]
    fn a_terminal_on_which_nothing_is_edited_stays_as_it_is() {
        for term in ["dumb", "cons25", "Emacs"] {
            let mut person = Person::at(term);
            let before = person.sees("> ");
            person.types(b"hi\n");
            let shown = person.sees("took 2 of h.");
            assert!(shown.contains("hi\r\n"), "what is typed is not seen: {shown:?}");
            let shown = before + &shown + &person.sees("> ");
            assert!(!shown.contains('\x1b'), "{shown:?}");
            person.types(b"\x04");
            assert!(person.child.wait().unwrap().success());
        }
    }

    #[test]
    fn no_end_leaves_a_terminal_without_echo() {
        let mut person = Person::new();
        person.sees("> ");
        person.types(b"quit\r");
        person.sees("took 4 of q.");
        // Between two prompts.
        person.types(b"\x1c");
        person.sees("> ");
        person.types(b"panic\r");
        person.sees("took 5 of p.");
        person.sees("\x1b[?2004l");
        assert!(!person.child.wait().unwrap().success());
        let modes = tcgetattr(&person.terminal).unwrap();
        assert!(modes.local_modes.contains(LocalModes::ECHO | LocalModes::ICANON));
    }

    #[test]
    fn one_in_the_background_ends_and_leaves_the_terminal_to_the_shell() {
        let mut shell = Command::new("setsid");
        shell.args([
            "--ctty",
            "--wait",
            "bash",
            "-mc",
            "\"$0\" \"$@\"; bg; wait %1; echo ended: $?",
        ]);
        shell.arg(std::env::current_exe().unwrap());
        let mut person = Person::by(shell, "xterm");
        person.sees("> ");
        person.types(b"suspend\r");
        person.sees("took 7 of s.");
        let shown = person.sees("ended: ") + &person.sees("\n");
        assert!(shown.ends_with("ended: 0\r\n") && !shown.contains("\x1b[?2004l"), "{shown:?}");
    }

    #[test]
    fn what_is_thrown_away_is_thrown_away_whole() {
        let mut person = Person::new();
        person.sees("> ");
        person.types(b"caf\xe9 \rits rest\r");
        person.sees("what was typed is not UTF-8");
        person.types(b"forget\rahead\rmore ahead");
        person.sees("took 6 of f.");
        person.sees("forgot");
        person.sees("> ");
        person.types(b"z\r");
        person.sees("took 1 of z.");
        person.sees("> ");
        person.types(b"\x04");
        assert!(person.child.wait().unwrap().success());
    }

    #[test]
    fn a_line_has_a_bound_wherever_it_comes_from() {
        let line = |bytes: &[u8]| line_of(bytes, 4).map_err(|failure| failure.words().unwrap());
        assert_eq!(line(b"four\nmore"), Ok(Some("four".to_owned())));
        assert_eq!(line(b"four\r\n"), Ok(Some("four".to_owned())));
        assert_eq!(line(b"four"), Ok(Some("four".to_owned())));
        assert_eq!(line(b"\n"), Ok(Some(String::new())));
        assert_eq!(line(b""), Ok(None));
        let long = || Err("the message is longer than 4 bytes".to_owned());
        for bytes in [&b"fives\n"[..], b"fives", b"four\r\r\n", b"four\r\rx", b"much longer\n"] {
            assert_eq!(line(bytes), long(), "{bytes:?}");
        }
        assert_eq!(line(b"\xff\n"), Err("the message is not UTF-8".to_owned()));
        let endless = line_of(BufReader::new(io::repeat(0)), 1 << 20).unwrap_err();
        assert_eq!(endless.words().unwrap(), "the message is longer than 1 MiB");
    }
}
