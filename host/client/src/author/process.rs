//! The host as a child process: its log lines, and its end.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::{Instant, sleep_until};

use super::fact::Fact;
use super::log_file::LogFile;
use crate::failure::Failure;

/// How long the child may take to end before it is killed: what agents have by default, and some more.
const END: Duration = Duration::from_secs(30);

/// What comes from the child.
pub(crate) enum Said {
    /// A line of its log, which is JSON.
    Log(String),
    /// A line of its stderr, for a person.
    Words(String),
    /// Nothing more.
    Ended(ExitStatus),
}

/// A host that runs.
pub(crate) struct Process {
    child: Child,
    /// Until they are closed. The host bounds its lines (`log.max_line_kb`).
    stdout: Option<Lines<BufReader<ChildStdout>>>,
    stderr: Option<Lines<BufReader<ChildStderr>>>,
    log: Option<LogFile>,
    /// It was asked to end, and is killed then.
    end_by: Option<Instant>,
    has_ended: bool,
}

impl Process {
    /// Starts a host; `set_up` adds to the arguments and variables of `program run`. It ends with the calling thread,
    /// whatever ends that.
    pub(crate) fn start(
        program: &Path,
        config: &Path,
        set_up: impl FnOnce(&mut Command),
    ) -> Result<Self, Failure> {
        let mut command = Command::new(program);
        command.args(["run", "--log-format", "json", "--sigint", "stop", "--config"]).arg(config);
        set_up(&mut command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C is for this program, which then ends the child.
            .process_group(0)
            .kill_on_drop(true);
        bind_to_this_thread(&mut command);
        let cannot = |error| {
            let shown = program.display();
            Failure::NoAnswer(format!("cannot run the host, {shown}: {error}"))
        };
        let mut child = command.spawn().map_err(cannot)?;
        let stdout = child.stdout.take().map(|pipe| BufReader::new(pipe).lines());
        let stderr = child.stderr.take().map(|pipe| BufReader::new(pipe).lines());
        Ok(Self { child, stdout, stderr, log: None, end_by: None, has_ended: false })
    }

    /// Waits until it listens. Returns where; from then on its log is kept in this file. `say` gets what the host itself
    /// writes to a person.
    pub(crate) async fn ready(
        &mut self,
        log: &Path,
        say: impl Fn(&str) -> Result<(), Failure>,
    ) -> Result<SocketAddr, Failure> {
        loop {
            match self.next().await? {
                Said::Log(line) => {
                    if let Some(Fact::ColdStart { listen }) = Fact::parse(&line) {
                        match LogFile::create(log) {
                            Ok(file) => self.log = Some(file),
                            Err(problem) => say(&problem)?,
                        }
                        self.keep(&line);
                        return Ok(listen);
                    }
                }
                Said::Words(words) => say(&words)?,
                Said::Ended(status) => return Err(ended(status)),
            }
        }
    }

    /// What comes next. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Said, Failure> {
        loop {
            tokio::select! {
                line = next_line(&mut self.stdout) => match line {
                    Some(line) => {
                        self.keep(&line);
                        return Ok(Said::Log(line));
                    }
                    None => self.stdout = None,
                },
                line = next_line(&mut self.stderr) => match line {
                    Some(line) => return Ok(Said::Words(line)),
                    None => self.stderr = None,
                },
                // After all that it wrote.
                status = self.child.wait(), if self.stdout.is_none() && self.stderr.is_none() => {
                    self.has_ended = true;
                    let lost = |error| Failure::NoAnswer(format!("cannot wait for the host: {error}"));
                    return status.map(Said::Ended).map_err(lost);
                }
                () = passed(self.end_by) => {
                    self.end_by = None;
                    // It may have ended in this moment.
                    let _ = self.child.start_kill();
                }
            }
        }
    }

    /// Asks it to stop its agents and end. `Ended` follows.
    pub(crate) fn ask_to_end(&mut self) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let (Some(pid), None) = (pid, self.end_by) {
            let _ = kill_process(pid, Signal::INT);
            self.end_by = Some(Instant::now() + END);
        }
    }

    /// Ends it, and waits for that.
    pub(crate) async fn end(&mut self) {
        self.ask_to_end();
        while !self.has_ended && !matches!(self.next().await, Err(_) | Ok(Said::Ended(_))) {}
    }

    fn keep(&mut self, line: &str) {
        if let Some(log) = &mut self.log {
            log.write(line);
        }
    }
}

/// The failure that an end is which nobody asked for. What the host said of it was shown.
pub(crate) fn ended(status: ExitStatus) -> Failure {
    match status.code() {
        Some(2) => Failure::Reported(2),
        _ => Failure::NoAnswer(format!("the host ended ({status})")),
    }
}

/// Never, where it was closed.
async fn next_line<R>(lines: &mut Option<Lines<R>>) -> Option<String>
where
    R: tokio::io::AsyncBufRead + Unpin,
{
    match lines {
        None => std::future::pending().await,
        // What cannot be read any more is as good as closed.
        Some(lines) => lines.next_line().await.ok().flatten(),
    }
}

async fn passed(at: Option<Instant>) {
    match at {
        None => std::future::pending().await,
        Some(at) => sleep_until(at).await,
    }
}

/// The child gets a SIGKILL when this thread ends, and so does what the child started.
fn bind_to_this_thread(command: &mut Command) {
    let parent = rustix::process::getpid();
    let bind = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have ended before the call.
        if rustix::process::getppid() == Some(parent) {
            Ok(())
        } else {
            Err(std::io::ErrorKind::NotFound.into())
        }
    };
    // SAFETY: between fork and exec it makes two system calls, and allocates nothing.
    #[expect(unsafe_code, reason = "a child can only bind itself, before it runs a program")]
    unsafe {
        command.pre_exec(bind);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    const COLD_START: &str =
        r#"echo '{"level":"info","event":"container.cold_start","listen":"127.0.0.1:9"}'"#;

    /// A program that does this instead of running a host.
    fn program(dir: &TempDir, script: &str) -> PathBuf {
        let path = dir.path().join("host");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        path
    }

    fn start(program: &Path) -> Result<Process, Failure> {
        Process::start(program, Path::new("x.toml"), |_| {})
    }

    fn is_there(pid: u32) -> bool {
        // One that ended and was not waited for is not there.
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[tokio::test]
    async fn it_is_ready_when_it_listens_and_ends_when_it_is_asked_to() {
        let dir = tempfile::tempdir().unwrap();
        let script = format!("{COLD_START}\necho '{{\"a\":1}}'\nexec sleep 600");
        let mut process = start(&program(&dir, &script)).unwrap();
        let pid = process.child.id().unwrap();
        let listen = process.ready(&dir.path().join("dev.log"), |_| Ok(())).await.unwrap();
        assert_eq!(listen, "127.0.0.1:9".parse().unwrap());
        assert!(matches!(process.next().await, Ok(Said::Log(line)) if line == "{\"a\":1}"));
        process.end().await;
        assert!(process.has_ended && !is_there(pid));
        let log = fs::read_to_string(dir.path().join("dev.log")).unwrap();
        assert!(log.lines().count() == 2 && log.ends_with("{\"a\":1}\n"), "{log}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_end_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        // What is ignored stays so over an exec.
        let script = format!("trap '' INT\n{COLD_START}\nexec sleep 600");
        let mut process = start(&program(&dir, &script)).unwrap();
        let pid = process.child.id().unwrap();
        process.ready(&dir.path().join("dev.log"), |_| Ok(())).await.unwrap();
        let asked = Instant::now();
        process.end().await;
        assert!(process.has_ended && asked.elapsed() >= END && !is_there(pid));
    }

    #[tokio::test]
    async fn the_end_of_one_that_cannot_run_has_its_code_and_its_words() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = start(&program(&dir, "echo no >&2; exit 2")).unwrap();
        let failure = process.ready(&dir.path().join("dev.log"), |_| Ok(())).await.unwrap_err();
        assert!(matches!(failure, Failure::Reported(2)), "{failure:?}");
        let missing = start(Path::new("/nowhere/bulkhead"));
        let words = missing.err().unwrap().words().unwrap();
        assert!(words.contains("/nowhere/bulkhead: No such file"), "{words}");
    }

    /// As when this program is killed: nothing of it runs any more.
    #[test]
    fn it_does_not_outlive_the_thread_that_started_it() {
        let dir = tempfile::tempdir().unwrap();
        let program = program(&dir, "exec sleep 600");
        let pid = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap();
            let _inside = runtime.enter();
            let process = start(&program).unwrap();
            let pid = process.child.id().unwrap();
            // It is not dropped: that would end it as well.
            std::mem::forget(process);
            pid
        });
        let pid = pid.join().unwrap();
        for _ in 0..1000 {
            if !is_there(pid) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{pid} is still there");
    }
}
