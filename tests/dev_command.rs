//! `bulkhead new` and `bulkhead dev`: from nothing to an agent that is talked to, edited, broken and mended.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use harness::{Need, files, launcher, processes, skip};
use rustix::process::{Pid, Signal, kill_process};

/// An unoptimized engine compiles the runner first.
const PATIENCE: Duration = Duration::from_secs(300);

/// Lines that wait to be looked at, at most.
const LINES: usize = 1000;

/// An author at work.
struct Dev {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Dev {
    fn start(project: &Path) -> Self {
        let mut command = Command::new(files::binary());
        command.arg("dev").current_dir(project).stdin(Stdio::piped()).stdout(Stdio::piped());
        launcher::end_with_this_process(&mut command);
        let mut child = launcher::spawn(command).expect("run bulkhead dev");
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (send, lines) = sync_channel(LINES);
        std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.take_while(|line| send.send(line.clone()).is_ok()).for_each(drop);
        });
        Self { child, stdin, lines }
    }

    fn say(&mut self, text: &str) {
        writeln!(self.stdin, "{text}").expect("dev reads");
    }

    /// Waits for a line with this text, and returns it with those before it.
    #[track_caller]
    fn shows(&self, text: &str) -> Vec<String> {
        let (mut seen, until) = (Vec::new(), Instant::now() + PATIENCE);
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => seen.push(line),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no line with {text:?} among {seen:#?}")
                }
            }
            if seen.last().is_some_and(|line| line.contains(text)) {
                return seen;
            }
        }
    }
}

fn new(dir: &Path, language: &str) -> std::process::Output {
    let mut command = Command::new(files::binary());
    command.args(["new", "toast", "--lang", language]).current_dir(dir);
    command.output().expect("run bulkhead new")
}

/// As an editor writes it: whole, or not at all. An agent that restarts in this moment would read half of it.
fn edit(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    let new = file.with_extension("new");
    std::fs::write(&new, text.replace(from, to)).unwrap();
    std::fs::rename(new, file).unwrap();
}

#[test]
fn an_agent_is_written_talked_to_broken_and_mended() {
    if !files::target_dir().join("debug/runners/js.wasm").exists() {
        return skip(Need::Runners, "`just runners` builds them, and names them to this program");
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(new(dir.path(), "ts").status.success());
    let again = new(dir.path(), "ts");
    assert_eq!(again.status.code(), Some(2), "nothing is overwritten");
    let project = dir.path().join("toast");
    edit(&project.join("bulkhead.toml"), "127.0.0.1:8080", "127.0.0.1:0");
    let agent = project.join("agent.ts");

    let mut dev = Dev::start(&project);
    let begin = dev.shows("incarnation 1").join("\n");
    assert!(
        begin.contains("toast has no language model: set `models` of [roles.toast]"),
        "{begin}"
    );
    dev.say("hello");
    dev.shows("1: hello");
    edit(
        &agent,
        "if (text === \"notes\")",
        "if (text === \"boom\") return state.nothing.length;\n    if (text === \"notes\")",
    );
    dev.shows("incarnation 2, state kept");
    dev.say("boom");
    let crash = dev.shows("^").join("\n");
    assert!(crash.contains("TypeError: cannot read property 'length' of undefined"), "{crash}");
    assert!(crash.contains("at agent.ts:18:") && crash.contains("> 18 |"), "{crash}");
    edit(&agent, "state.nothing.length", "\"mended\"");
    dev.shows("state kept");
    dev.say("boom");
    dev.shows("mended");

    // A start that takes long is not blamed on a compiler that does not run. The configuration has the host start again.
    edit(
        &agent,
        "export default",
        "for (const until = Date.now() + 4000; Date.now() < until; );\nexport default",
    );
    dev.shows("state kept");
    edit(&project.join("bulkhead.toml"), "[server]", "# Edited.\n[server]");
    dev.shows("the host starts again");
    let begin = dev.shows("state kept").join("\n");
    assert!(begin.contains("toast starts, which takes a while"), "{begin}");
    assert!(!begin.contains("compiled"), "{begin}");

    // Ctrl-C ends it, and the host with it.
    let dev_pid = Pid::from_child(&dev.child);
    let hosts = processes::all_children(dev_pid);
    assert!(!hosts.is_empty(), "it runs a host");
    kill_process(dev_pid, Signal::INT).unwrap();
    assert!(dev.child.wait().unwrap().success());
    harness::wait_until("the host has ended", || {
        hosts.iter().all(|host| !processes::is_alive(*host))
    });
}

#[test]
fn the_end_of_stdin_is_the_end_though_the_configuration_is_broken() {
    let dir = tempfile::tempdir().unwrap();
    assert!(new(dir.path(), "js").status.success());
    let project = dir.path().join("toast");
    let config = project.join("bulkhead.toml");
    edit(&config, "127.0.0.1:8080", "127.0.0.1:0");
    // Nobody to talk to: it takes no runner.
    edit(&config, "\n[[agents]] # started at boot\nid = \"toast\"\nrole = \"toast\"\n", "");
    let mut dev = Dev::start(&project);
    dev.shows("no agent is configured to talk to");
    dev.say("hello");
    dev.shows("not sent: no agent is configured to talk to");
    edit(&config, "[server]", "[sever]");
    dev.shows("waiting for a change of bulkhead.toml");
    dev.say("hello");
    dev.shows("not sent: the host does not run");
    let Dev { mut child, stdin, .. } = dev;
    drop(stdin);
    let end = child.wait().expect("it ends");
    assert_eq!(end.code(), Some(2), "by the code of the configuration");
}
