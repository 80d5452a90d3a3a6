//! The host as a process.

use std::cell::Cell;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use hyper::Method;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag;
use tempfile::TempDir;

use crate::client::Client;
use crate::output::{Drained, Output, Stalled};
use crate::{HostBuilder, PATIENCE, files, launcher, wait_until};

/// How long the host may take to end when asked to, before it is killed.
const END_PATIENCE: Duration = Duration::from_secs(60);

/// Exit code of a run that ended as asked.
pub const CLEAN: i32 = 0;

/// Exit code of a run that ended as asked and had to kill an agent for it.
pub const UNCLEAN: i32 = 3;

/// Ending signals that come closer than this are one wish; a little more than what the host takes for one.
pub const SIGNAL_DEBOUNCE: Duration = Duration::from_millis(1100);

/// Name of the configuration's file.
const CONFIG: &str = "bulkhead.toml";

/// Between two checks whether the process is gone.
const LOOK: Duration = Duration::from_millis(5);

/// A running host with a configuration, a state directory and a port of its own. Dropping it kills it,
/// removes its directory and, when the test failed, shows the end of its log.
pub struct Host {
    child: Child,
    output: Output,
    client: Client,
    launch: Launch,
    /// Removed last, when no other run in it is left.
    dir: Arc<TempDir>,
}

/// How a host is called.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// Arguments of `bulkhead run`, beside the configuration.
    pub args: Vec<String>,
    /// A command that runs the host, if there is one.
    pub wrapper: Vec<String>,
    /// Lines about agents are counted and not kept: see [`Host::counted`].
    pub terse: bool,
}

impl Launch {
    /// By this command, which gets the host's command line as its last arguments.
    #[must_use]
    pub fn run_by(self, command: &[&str]) -> Self {
        Self { wrapper: command.iter().map(ToString::to_string).collect(), ..self }
    }

    /// As the user with this number, who has nothing. None without root, setpriv, and a binary that everybody may run.
    pub fn by_user(self, uid: u32) -> Option<Self> {
        let [user, group] = [format!("--reuid={uid}"), format!("--regid={uid}")];
        let setpriv = ["setpriv", &user, &group, "--clear-groups", "--pdeathsig=KILL", "--"];
        let mut probe = Command::new(setpriv[0]);
        let probe = probe.args(&setpriv[1..]).arg(files::binary()).arg("--version").output();
        let runs = geteuid().is_root() && probe.is_ok_and(|output| output.status.success());
        runs.then(|| self.run_by(&setpriv))
    }
}

impl Host {
    /// Begins to describe one.
    pub fn builder() -> HostBuilder {
        HostBuilder::default()
    }

    /// Starts a host with the configuration that `config` makes for a state directory.
    pub fn start(config: impl FnOnce(&Path) -> String) -> Self {
        Self::start_with(Launch::default(), config)
    }

    /// The same, called in another way.
    pub fn start_with(launch: Launch, config: impl FnOnce(&Path) -> String) -> Self {
        let dir = tempfile::Builder::new().prefix("bulkhead-test-").tempdir().expect("make a dir");
        let file = dir.path().join(CONFIG);
        std::fs::write(&file, config(&dir.path().join("state"))).expect("write the configuration");
        Self::launch(launch, Arc::new(dir))
    }

    /// A new run with the configuration and the state directory of this one, which must have ended.
    pub fn restart(&mut self) -> Self {
        self.restart_with(self.launch.clone())
    }

    /// The same, called in another way.
    pub fn restart_with(&mut self, launch: Launch) -> Self {
        assert!(!self.is_running(), "the state directory is in use");
        Self::launch(launch, Arc::clone(&self.dir))
    }

    /// Waits until its boot is through.
    pub fn ready(self) -> Self {
        self.wait_until_ready();
        self
    }

    /// The same for a host that has a new supervisor, which may not listen yet.
    pub fn wait_until_ready(&self) {
        let ready = || self.client().try_request(Method::GET, "/readyz", "");
        wait_until("the host is ready", || ready().is_ok_and(|answer| answer.status == 200));
    }

    fn launch(launch: Launch, dir: Arc<TempDir>) -> Self {
        let mut command = wrapped(&launch.wrapper, command(&dir.path().join(CONFIG), dir.path()));
        command.args(&launch.args);
        let mut child = launcher::spawn(command).expect("start the host");
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let stderr = child.stderr.take().expect("stderr is a pipe");
        let mut output = Output::collect(stdout, stderr, launch.terse);
        let first = output.wait_for(PATIENCE, |line| line["event"] == "container.cold_start");
        let Some(first) = first else {
            let _ = child.kill();
            let status = child.wait();
            output.join();
            panic!("the host did not begin ({status:?}); {}", output.tail());
        };
        let client = Client::new(address(&first), &state_dir_of(&child, dir.path()));
        Self { child, output, client, launch, dir }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.client.address()
    }

    /// Calls of the control API.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Its process id; with `--supervise`, of the init process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process id of the run that began last, as that run says it.
    pub fn supervisor_pid(&self) -> Pid {
        // What says that the run began may be faster than its line.
        self.wait_for_line("that a run began", |line| line["event"] == "container.cold_start");
        let runs = self.events_named("container.cold_start");
        let pid = runs.last().and_then(|line| i32::try_from(line["pid"].as_u64()?).ok());
        pid.and_then(Pid::from_raw).expect("cold_start says its pid")
    }

    /// The directory that the configuration lies in. The host runs in it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// The workspace of an agent, whether it exists or not.
    pub fn workspace(&self, agent: &str) -> PathBuf {
        self.state_dir().join("workspaces").join(agent)
    }

    /// A line that `wanted` says yes to, of those that are there or the next. Panics when none comes.
    #[track_caller]
    pub fn wait_for_line(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let line = self.output.wait_for(PATIENCE, wanted);
        line.unwrap_or_else(|| {
            let seen = self.lines().len();
            panic!("no line came in {PATIENCE:?} or before the end: {what}; {seen} others did")
        })
    }

    /// The first line of an event about an agent, of those that are there or to come.
    #[track_caller]
    pub fn wait_for_event(&self, agent: &str, event: &str) -> Value {
        self.wait_for_line(&format!("{event} of {agent}"), |line| {
            line["event"] == event && line["agentId"] == agent
        })
    }

    /// Waits until an agent has ended, and returns the line that says so.
    #[track_caller]
    pub fn wait_for_exit(&self, agent: &str) -> Value {
        self.wait_for_event(agent, "agent.exit")
    }

    /// Waits until there are this many lines of these events, and returns the last of them.
    pub fn wait_for_number(&self, events: &[&str], number: usize) -> Value {
        let seen = Cell::new(0);
        // Each line is checked once, in order.
        self.wait_for_line(&format!("{events:?}, number {number}"), |line| {
            let is_one = line["event"].as_str().is_some_and(|event| events.contains(&event));
            seen.set(seen.get() + usize::from(is_one));
            is_one && seen.get() == number
        })
    }

    /// The lines of an event so far.
    pub fn events_named(&self, event: &str) -> Vec<Value> {
        self.output.lines(|line| line["event"] == event)
    }

    /// The lines of an event about an agent so far.
    pub fn events_of(&self, agent: &str, event: &str) -> Vec<Value> {
        self.output.lines(|line| line["event"] == event && line["agentId"] == agent)
    }

    /// Lines of an event about agents so far, of a host that is [`terse`](HostBuilder::terse).
    pub fn counted(&self, event: &str) -> u64 {
        self.output.counted(event)
    }

    /// The lines about an agent so far.
    pub fn lines_of(&self, agent: &str) -> Vec<Value> {
        self.output.lines(|line| line["agentId"] == agent)
    }

    /// What it wrote since the last call, for runs that are long: see [`Output::drain`].
    pub fn drain_lines(&self) -> Vec<Drained> {
        self.output.drain()
    }

    /// Nobody reads its log until the guard is dropped.
    #[must_use]
    pub fn stall_log(&self) -> Stalled {
        self.output.stall()
    }

    /// Every line so far.
    pub fn lines(&self) -> Vec<Value> {
        self.output.lines(|_| true)
    }

    /// The crash records so far.
    pub fn crashes(&self) -> Vec<Value> {
        self.events_named("agent.crash")
    }

    /// Whether the process is there.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("send the host a signal");
    }

    /// Ends it with SIGTERM and checks the run: see [`finish_with`](Self::finish_with).
    pub fn finish(self) -> Vec<Value> {
        self.finish_with(Signal::TERM, CLEAN)
    }

    /// Ends it with a signal and checks what holds for every run: it exits with this code, every line
    /// is one of ours and none is missing, no background task of the host failed, no agent ended
    /// twice. Returns the lines.
    pub fn finish_with(self, signal: Signal, code: i32) -> Vec<Value> {
        self.signal(signal);
        self.ends_with(code)
    }

    /// The same for a host that was asked to end before.
    pub fn ends_with(mut self, code: i32) -> Vec<Value> {
        let status = wait(&mut self.child, END_PATIENCE);
        let Some(status) = status else { panic!("the host did not end") };
        self.output.join();
        assert_eq!(status.code(), Some(code), "the host ended with {status}");
        if let Err(problem) = self.output.check().and_then(|()| self.output.check_contract()) {
            panic!("{problem}");
        }
        let lines = self.lines();
        check_run(last_run(&lines));
        lines
    }
}

impl Host {
    /// Waits until it ends by itself. Returns its status and its lines.
    pub fn wait_for_end(mut self) -> (ExitStatus, Vec<Value>) {
        let status = self.wait();
        (status, self.lines())
    }

    /// The same for a host that will be started again.
    pub fn wait(&mut self) -> ExitStatus {
        let status = wait(&mut self.child, END_PATIENCE);
        let Some(status) = status else { panic!("the host did not end") };
        self.output.join();
        if let Err(problem) = self.output.check_contract() {
            panic!("{problem}");
        }
        status
    }

    /// What it wrote to stderr so far.
    pub fn stderr(&self) -> String {
        self.output.stderr()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            if wait(&mut self.child, Duration::from_secs(5)).is_none() {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
        self.output.join();
        if std::thread::panicking() {
            eprintln!("{}", self.output.tail());
        }
    }
}

/// Signals that end the host, unless the caller of the tests ignores them: `nohup`, or a shell's background. A handler
/// is not inherited, so the host gets the default for one that is set here.
fn heed_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
            let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
            if ignored.is_some_and(|mask| mask & 1 << (signal - 1) != 0) {
                flag::register(signal, Arc::default()).expect("take a signal");
            }
        }
    });
}

/// `bulkhead run --config <file>`, with nothing of this process's environment or signals that could change it. It is
/// killed when the thread that starts it ends: see [`launcher`].
pub fn command(config: &Path, dir: &Path) -> Command {
    heed_signals();
    let mut command = Command::new(files::binary());
    command.arg("run").arg("--config").arg(config).current_dir(dir);
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("BULKHEAD_") || name_text.starts_with("GASTOWN_") {
            command.env_remove(&name);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    launcher::end_with_this_process(&mut command);
    command
}

/// `wrapper` as the command, with `command` as its last arguments.
pub fn wrapped(wrapper: &[String], command: Command) -> Command {
    let Some((program, args)) = wrapper.split_first() else { return command };
    let mut outer = Command::new(program);
    outer.args(args).arg(command.get_program()).args(command.get_args());
    if let Some(dir) = command.get_current_dir() {
        outer.current_dir(dir);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    launcher::end_with_this_process(&mut outer);
    outer
}

/// How a run ended that was not meant to go on.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
}

/// Runs the host with a file that should make it end by itself, and with these variables. Panics when
/// it goes on.
pub fn run_to_end(config: &Path, variables: &[(&str, &str)]) -> Ended {
    let dir = config.parent().expect("the file lies in a directory");
    let mut command = command(config, dir);
    command.envs(variables.iter().copied());
    let mut child = command.spawn().expect("start the host");
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let read = |from: &mut dyn Read| {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (stdout, stderr, status) = std::thread::scope(|scope| {
        let stdout = scope.spawn(|| stdout.as_mut().map(|pipe| read(pipe)));
        let stderr = scope.spawn(|| stderr.as_mut().map(|pipe| read(pipe)));
        let status = wait(&mut child, PATIENCE);
        if status.is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        (stdout.join(), stderr.join(), status)
    });
    let text = |read: std::thread::Result<Option<String>>| read.ok().flatten().unwrap_or_default();
    let (stdout, stderr) = (text(stdout), text(stderr));
    let Some(status) = status else { panic!("the host runs with {config:?}: {stdout}{stderr}") };
    Ended { code: status.code(), stdout, stderr }
}

/// The exit status, if there is one in time.
fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let until = Instant::now() + patience;
    while Instant::now() < until {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        std::thread::sleep(LOOK);
    }
    None
}

/// Where a host that lies in `dir` keeps what it keeps. It may have mounted something there for itself.
fn state_dir_of(host: &Child, dir: &Path) -> PathBuf {
    let config = std::fs::read_to_string(dir.join(CONFIG)).unwrap_or_default();
    let config = config.parse::<toml::Table>().unwrap_or_default();
    let state = config.get("state").and_then(|state| state.get("dir")?.as_str());
    let state = dir.join(state.unwrap_or("state"));
    if state.join("control-token").exists() {
        return state;
    }
    let root = PathBuf::from(format!("/proc/{}/root", host.id()));
    state.strip_prefix("/").map_or(state.clone(), |state| root.join(state))
}

fn address(cold_start: &Value) -> SocketAddr {
    let listen = cold_start["listen"].as_str().unwrap_or_default();
    let listen = listen.strip_prefix("http://").unwrap_or(listen);
    listen
        .parse()
        .unwrap_or_else(|_| panic!("cold_start says no address in `listen`: {cold_start}"))
}

/// The lines of the run that began last: with `--supervise` there may be more than one.
fn last_run(lines: &[Value]) -> &[Value] {
    let begins = |line: &Value| line["event"] == "container.cold_start";
    &lines[lines.iter().rposition(begins).unwrap_or(0)..]
}

fn check_run(lines: &[Value]) {
    for line in lines {
        let event = line["event"].as_str().unwrap_or_default();
        let failed = ["container.unhandled_rejection", "container.uncaught_exception"];
        assert!(!failed.contains(&event), "the host itself failed: {line}");
    }
    for event in ["agent.exit", "agent.crash"] {
        let mut incarnations: Vec<_> = lines
            .iter()
            .filter(|line| line["event"] == event)
            .map(|line| (line["agentId"].to_string(), line["incarnation"].as_u64()))
            .collect();
        let count = incarnations.len();
        incarnations.sort();
        incarnations.dedup();
        assert_eq!(incarnations.len(), count, "an incarnation has two lines of {event}");
    }
    let exits = lines.iter().filter(|line| line["event"] == "agent.exit").count();
    let starts = lines.iter().filter(|line| line["event"] == "agent.start").count();
    assert!(exits >= starts, "{starts} starts and only {exits} exits");
    let last = lines.last().unwrap_or(&Value::Null);
    assert_eq!(last["event"], "container.stopped", "the last line: {last}");
    assert_eq!(last["droppedLines"], 0, "lines were lost: {last}");
}
