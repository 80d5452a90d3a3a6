//! The commands that ask a host: the real binary on both sides.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use harness::{Host, PATIENCE, Value, files};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

mod answers;
mod chat;
mod failures;
mod health;
mod hosts;
mod logs;
mod terminal;
mod tools;
mod top;
mod upgrade;
mod waits;
mod workspaces;

/// What a command came to.
#[derive(Debug)]
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ended {
    /// Its stdout, when it has this code and says nothing else.
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{}", self.stdout);
        self.stdout
    }

    /// Its stdout as one JSON document.
    #[track_caller]
    fn json(self) -> Value {
        let stdout = self.ok();
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
    }

    /// Checks the code, that stderr names all of these, and that no line of stdout says otherwise.
    #[track_caller]
    fn fails(&self, code: i32, named: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for name in named {
            assert!(self.stderr.contains(name), "{name:?} is not named: {}", self.stderr);
        }
    }
}

/// Someone at a command line, in a directory of their own.
struct Person {
    dir: TempDir,
    variables: Vec<(String, String)>,
}

impl Person {
    /// One whose `BULKHEAD_URL` is this.
    fn at(url: &str) -> Self {
        let dir = tempfile::tempdir().expect("make a directory");
        Self { dir, variables: Vec::new() }.with("BULKHEAD_URL", url)
    }

    /// One who asks this host.
    fn of(host: &Host) -> Self {
        let person = Self::at(&format!("http://{}", host.address()));
        match host.client().token() {
            Some(token) => person.with("BULKHEAD_CONTROL_TOKEN", token),
            None => person,
        }
    }

    /// The same with another variable.
    fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// `bulkhead` with these words, and with nothing of this process's environment that could change it.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(files::binary());
        self.surround(command.args(words));
        command
    }

    fn surround(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("BULKHEAD_") || text == "NO_COLOR" || text == "TERM" {
                command.env_remove(&name);
            }
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    }

    /// Runs `bulkhead` with these words to its end.
    #[track_caller]
    fn says(&self, words: &[&str]) -> Ended {
        self.types(words, "")
    }

    /// The same with something on stdin.
    #[track_caller]
    fn types(&self, words: &[&str], stdin: &str) -> Ended {
        let mut command = self.command(words);
        command.stdin(Stdio::piped());
        let mut running = Running::of(command);
        let mut pipe = running.child.stdin.take().expect("stdin is a pipe");
        // One that reads no stdin may have ended.
        let _ = pipe.write_all(stdin.as_bytes());
        drop(pipe);
        running.ends()
    }
}

/// A command under way. Dropping it kills it.
struct Running {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Running {
    fn of(mut command: Command) -> Self {
        let mut child = command.spawn().expect("run bulkhead");
        let stdout = child.stdout.take().map(BufReader::new);
        Self { child, stdout }
    }

    /// The next line of its stdout.
    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        let stdout = self.stdout.as_mut().expect("stdout is open");
        stdout.read_line(&mut line).expect("read a line");
        assert!(line.ends_with('\n'), "its stdout ended: {line:?}");
        line
    }

    /// Reads its stdout up to a text.
    #[track_caller]
    fn shows(&mut self, text: &str) {
        let mut shown = Vec::new();
        let stdout = self.stdout.as_mut().expect("stdout is open");
        while !shown.ends_with(text.as_bytes()) {
            let mut byte = [0];
            if stdout.read_exact(&mut byte).is_err() {
                panic!("it ended without {text:?}: {}", String::from_utf8_lossy(&shown));
            }
            shown.extend(byte);
        }
    }

    fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("send a signal");
    }

    /// Closes its stdout, as `head` does.
    fn close(&mut self) {
        self.stdout = None;
    }

    /// Waits for its end.
    #[track_caller]
    fn ends(mut self) -> Ended {
        let pid = Pid::from_child(&self.child);
        let (done, end) = std::sync::mpsc::sync_channel::<()>(1);
        // A command that does not end must not keep the test from ending.
        let watch = std::thread::spawn(move || {
            let timed_out = end.recv_timeout(PATIENCE).is_err();
            if timed_out {
                let _ = kill_process(pid, Signal::KILL);
            }
            timed_out
        });
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut err = self.child.stderr.take().expect("stderr is a pipe");
        std::thread::scope(|scope| {
            scope.spawn(|| err.read_to_end(&mut stderr));
            if let Some(out) = &mut self.stdout {
                let _ = out.read_to_end(&mut stdout);
            }
        });
        let _ = done.send(());
        let timed_out = watch.join().expect("watch the command");
        let status = self.child.wait().expect("wait for bulkhead");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let (stdout, stderr) = (text(stdout), text(stderr));
        assert!(!timed_out, "it did not end: {stdout}{stderr}");
        let code = status.code().unwrap_or_else(|| panic!("it died: {status} {stdout}{stderr}"));
        Ended { code, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
