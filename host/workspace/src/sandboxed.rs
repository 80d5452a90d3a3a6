//! Git in the sandbox of native programs.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_tools as tools;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};

use crate::run::{Command, End, Finished, Limits, OBJECTS, Run, RunError, Sandbox, Watch};

/// Where an agent's repository is, inside.
const WORKSPACE: &str = "/workspace";
/// Where a mirror is, inside.
const MIRROR: &str = "/mirror";

/// Bytes of stderr beside those of stdout.
const STDERR_BYTES: usize = 1 << 20;
/// Bytes of stderr that are kept: the last ones.
const KEPT_STDERR: usize = 64 * 1024;
/// Processes and threads of one call of git.
const PIDS: u32 = 64;
/// Calls of git at a time. Tools of agents need room beside them.
const CALLS: usize = 16;
/// How often a program that was killed is checked.
const POLL: Duration = Duration::from_millis(5);
/// How often a call is tried while all tools are in use.
const RETRY: Duration = Duration::from_millis(50);

/// Git in the sandbox of native programs.
pub struct Sandboxed {
    tools: tools::Tools,
    mounts: bool,
    git: PathBuf,
    shell: PathBuf,
    calls: Semaphore,
    dying: Dying,
}

/// Programs whose futures were dropped, by what they write to, until they have ended.
#[derive(Default)]
struct Dying(Mutex<Ends>);

/// The tasks that watch them, and which directory each is about.
type Ends = (JoinSet<()>, Vec<(PathBuf, AbortHandle)>);

/// A program that starts or runs. Dropping it before its end kills the program.
struct Running<'a> {
    dying: &'a Dying,
    folder: PathBuf,
    stage: Stage,
}

/// Stdin, stdout and stderr of a program.
type Pipes = (Option<pipe::Sender>, Option<tools::Output>, Option<tools::Output>);

/// How far a program is.
enum Stage {
    Waiting,
    Starting(BoxFuture<'static, Result<tools::Child, tools::SpawnError>>),
    Started(tools::Child),
}

impl Sandboxed {
    /// Uses the `git` and `sh` that are first in the usual directories of programs.
    ///
    /// Fails if there is none.
    pub fn new(tools: tools::Tools, layers: &tools::Layers) -> io::Result<Self> {
        let (git, shell) = (find("git")?, find("sh")?);
        let calls = Semaphore::new(CALLS);
        let dying = Dying::default();
        Ok(Self { tools, mounts: layers.mount_namespace, git, shell, calls, dying })
    }

    fn command(&self, command: &Command) -> tools::Command {
        let Command { sandbox, program, args, env, limits, .. } = command;
        let mut tool = tools::Command::new(if *program == "sh" { &self.shell } else { &self.git });
        let git = self.git.as_os_str();
        // The shell of a call with a credential becomes git by its name.
        tool.args = args
            .iter()
            .map(|arg| if arg == "git" { git.to_owned() } else { arg.clone() })
            .collect();
        tool.env = env.clone();
        (tool.dir, tool.sandbox) = self.boundary(sandbox);
        tool.limits = limits_of(limits);
        tool
    }

    /// The working directory, and what is visible.
    fn boundary(&self, sandbox: &Sandbox) -> (PathBuf, tools::Sandbox) {
        let (binds, network) = match sandbox {
            Sandbox::Tree { workspace, objects, limit } => {
                let objects = objects.iter().map(|objects| self.bind(objects, OBJECTS, false));
                let workspace =
                    tools::Bind { limit: *limit, ..self.bind(workspace, WORKSPACE, true) };
                ([workspace].into_iter().chain(objects).collect(), tools::Network::None)
            }
            Sandbox::Mirror { mirror, network } => {
                let network = if *network { tools::Network::Open } else { tools::Network::None };
                (vec![self.bind(mirror, MIRROR, true)], network)
            }
        };
        let binds: Vec<tools::Bind> = binds;
        (binds[0].inside.clone(), tools::Sandbox { binds, network })
    }

    fn bind(&self, host: &Path, inside: &str, writable: bool) -> tools::Bind {
        let inside = if self.mounts { PathBuf::from(inside) } else { host.to_owned() };
        tools::Bind { host: host.to_owned(), inside, writable, limit: None }
    }

    async fn finish(&self, command: Command) -> Result<Finished, tools::SpawnError> {
        let _call = self.calls.acquire().await.expect("the semaphore is never closed");
        let folder = command.sandbox.folder();
        self.dying.wait(folder).await;
        let (dying, stage) = (&self.dying, Stage::Waiting);
        let mut running = Running { dying, folder: folder.to_owned(), stage };
        let tool = self.command(&command);
        let (input, output, errors) = running.start(&self.tools, &tool).await?;
        let Command { stdin, limits, watch, .. } = command;
        let feed = async move {
            if let Some(mut input) = input {
                // Git need not read all of its input.
                let _ = input.write_all(&stdin).await;
            }
        };
        let (stdout, stderr, ended, ()) = tokio::join!(
            keep_first(output, limits.output_bytes),
            keep_last(errors, watch),
            running.wait(),
            feed
        );
        let (stdout, cut) = stdout;
        Ok(Finished { end: end_of(ended.end), stdout, stderr, cut })
    }
}

impl Dying {
    /// Watches a program to its end, in a task: also one that is about to start.
    fn add(&self, folder: PathBuf, end: impl Future<Output = ()> + Send + 'static) {
        // Without a runtime there is no launcher either, and so no program.
        if let Ok(runtime) = Handle::try_current() {
            let (tasks, known) = &mut *self.0.lock();
            known.push((folder, tasks.spawn_on(end, &runtime)));
        }
    }

    fn has(&self, folder: &Path) -> bool {
        let (tasks, known) = &mut *self.0.lock();
        while tasks.try_join_next().is_some() {}
        known.retain(|(_, task)| !task.is_finished());
        known.iter().any(|(known, _)| known == folder)
    }

    /// Waits until no program that was given up writes to a directory. Each has a second or so to end.
    async fn wait(&self, folder: &Path) {
        while self.has(folder) {
            sleep(POLL).await;
        }
    }
}

impl Running<'_> {
    /// Starts the program once there is room for one more.
    async fn start(
        &mut self,
        tools: &tools::Tools,
        tool: &tools::Command,
    ) -> Result<Pipes, tools::SpawnError> {
        let deadline = Instant::now() + tool.limits.wall;
        let mut child = loop {
            match self.try_start(tools.clone(), tool.clone()).await {
                Err(tools::SpawnError::TooMany(_)) if Instant::now() < deadline => {}
                started => break started?,
            }
            sleep(RETRY).await;
        };
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        self.stage = Stage::Started(child);
        Ok(pipes)
    }

    async fn try_start(
        &mut self,
        tools: tools::Tools,
        tool: tools::Command,
    ) -> Result<tools::Child, tools::SpawnError> {
        self.stage = Stage::Starting(Box::pin(async move { tools.spawn(&tool).await }));
        let Stage::Starting(starting) = &mut self.stage else { unreachable!("it was set") };
        let started = starting.await;
        self.stage = Stage::Waiting;
        started
    }

    async fn wait(&mut self) -> tools::Ended {
        let Stage::Started(child) = &mut self.stage else { unreachable!("it is started before") };
        let ended = child.wait().await;
        self.stage = Stage::Waiting;
        ended
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let folder = std::mem::take(&mut self.folder);
        match std::mem::replace(&mut self.stage, Stage::Waiting) {
            Stage::Waiting => {}
            Stage::Starting(starting) => self.dying.add(folder, async {
                if let Ok(child) = starting.await {
                    end(child).await;
                }
            }),
            Stage::Started(child) => {
                child.kill(tools::KillReason::Cancelled);
                self.dying.add(folder, end(child));
            }
        }
    }
}

async fn end(mut child: tools::Child) {
    child.kill(tools::KillReason::Cancelled);
    child.wait().await;
}

impl Run for Sandboxed {
    fn run(&self, command: Command) -> BoxFuture<'_, Result<Finished, RunError>> {
        let program = command.program.to_owned();
        Box::pin(async move {
            let finished = self.finish(command).await;
            finished.map_err(|error| RunError { program, why: error.to_string() })
        })
    }

    fn settle<'a>(&'a self, folder: &'a Path) -> BoxFuture<'a, ()> {
        Box::pin(self.dying.wait(folder))
    }

    fn objects(&self, host: &Path) -> PathBuf {
        if self.mounts { PathBuf::from(OBJECTS) } else { host.to_owned() }
    }
}

fn find(name: &str) -> io::Result<PathBuf> {
    let folders = ["/usr/local/bin", "/usr/bin", "/bin"];
    let mut paths = folders.iter().map(|folder| Path::new(folder).join(name));
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no such program: {name}"));
    paths.find(|path| path.is_file()).ok_or_else(missing)
}

fn limits_of(limits: &Limits) -> tools::Limits {
    tools::Limits {
        memory_bytes: limits.memory_bytes,
        wall: limits.wall,
        cpu: limits.wall.saturating_mul(2),
        pids: PIDS,
        output_bytes: (limits.output_bytes + STDERR_BYTES) as u64,
        file_bytes: limits.file_bytes,
        ..tools::Limits::default()
    }
}

fn end_of(end: tools::End) -> End {
    match end {
        tools::End::Exited(status) => End::Exited(status),
        tools::End::Signalled(signal) => End::Signalled(signal),
        tools::End::WallDeadline | tools::End::CpuDeadline => End::Deadline,
        tools::End::MemoryLimit => End::Memory,
        tools::End::OutputLimit => End::Output,
        tools::End::DiskLimit => End::Disk,
        tools::End::PidsLimit => End::Stopped("limit of processes"),
        tools::End::Cancelled => End::Stopped("cancelled"),
        tools::End::Shed => End::Stopped("the container's memory is short"),
        tools::End::LauncherDied => End::Stopped("the launcher of tools died"),
    }
}

/// Reads to the end, or until there is more than the limit. Dropping the pipe ends a program that goes on writing.
async fn keep_first(from: Option<impl AsyncRead + Unpin>, limit: usize) -> (Vec<u8>, bool) {
    let mut kept = Vec::new();
    if let Some(from) = from {
        // What was read before an error counts.
        let _ = from.take(limit as u64 + 1).read_to_end(&mut kept).await;
    }
    let cut = kept.len() > limit;
    kept.truncate(limit);
    (kept, cut)
}

async fn keep_last(from: Option<impl AsyncRead + Unpin>, mut watch: Option<Watch>) -> Vec<u8> {
    let (mut kept, mut piece) = (Vec::new(), vec![0; 8 * 1024]);
    let Some(mut from) = from else { return kept };
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        if let Some(watch) = &mut watch {
            watch(&piece[..count]);
        }
        kept.extend_from_slice(&piece[..count]);
        let surplus = kept.len().saturating_sub(KEPT_STDERR);
        kept.drain(..surplus);
    }
    kept
}
