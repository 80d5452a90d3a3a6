//! What the tests share: a server with a repository, git without a sandbox, workspaces.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bulkhead_tools::Launcher;
use bulkhead_types::Secret;
use bulkhead_workspace::{
    Author, Command, Credential, Credentials, DiskLimit, End, Error, Finished, Prepared, Progress,
    Protocols, Request, Rig, Run, RunError, Sandbox, Sandboxed, Settings, Workspace, Workspaces,
    silent,
};
use futures_util::future::BoxFuture;
use git_server::GitServer;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// Git, as this test program runs it: as a plain process or in the sandbox.
pub struct Runner {
    /// None: a plain process.
    sandbox: Option<Sandboxed>,
    /// Calls so far.
    pub calls: AtomicU64,
    /// Every call so far: sandbox, arguments, environment.
    pub log: Mutex<Vec<(Sandbox, Vec<String>)>>,
    /// The process group that runs, for those who kill it.
    pub running: Mutex<Option<rustix::process::Pid>>,
}

fn sandbox() -> Sandboxed {
    let program = Path::new(env!("CARGO_BIN_EXE_workspace-test-launcher"));
    let launcher =
        Launcher::start(std::process::Command::new(program), &bulkhead_tools::Settings::default())
            .unwrap();
    let layers = launcher.layers().clone();
    let (tools, driver) = launcher.connect().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test has no spawner")]
    drop(tokio::spawn(driver));
    Sandboxed::new(tools, &layers).unwrap()
}

/// Kills a process group when it is dropped.
struct Group(rustix::process::Pid);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process_group(self.0, rustix::process::Signal::KILL);
    }
}

impl Run for Runner {
    fn run(&self, command: Command) -> BoxFuture<'_, Result<Finished, RunError>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let words = command.args.iter().map(|arg| arg.to_string_lossy().into_owned());
        let env = command.env.iter().map(|(name, value)| format!("{name:?}={value:?}"));
        self.log.lock().push((command.sandbox.clone(), words.chain(env).collect()));
        if let Some(sandbox) = &self.sandbox {
            return sandbox.run(command);
        }
        Box::pin(async move {
            let program = command.program.to_owned();
            self.spawn(command).await.map_err(|error| RunError { program, why: error.to_string() })
        })
    }

    fn settle<'a>(&'a self, folder: &'a Path) -> BoxFuture<'a, ()> {
        match &self.sandbox {
            Some(sandbox) => sandbox.settle(folder),
            // A plain process dies of SIGKILL at once.
            None => Box::pin(std::future::ready(())),
        }
    }

    fn objects(&self, host: &Path) -> PathBuf {
        match &self.sandbox {
            Some(sandbox) => sandbox.objects(host),
            None => host.to_owned(),
        }
    }
}

impl Runner {
    /// By the name of the test program. It is called within a runtime.
    fn new() -> Self {
        let program = std::env::current_exe().unwrap();
        let name = program.file_name().unwrap().to_string_lossy().into_owned();
        let sandbox = name.starts_with("sandboxed").then(sandbox);
        Self { sandbox, calls: AtomicU64::new(0), log: Mutex::default(), running: Mutex::default() }
    }

    /// Whether git runs in the sandbox, with files of its own.
    pub fn is_sandboxed(&self) -> bool {
        self.sandbox.is_some()
    }

    async fn spawn(&self, command: Command) -> std::io::Result<Finished> {
        let folder = command.sandbox.folder();
        let mut child = tokio::process::Command::new(command.program)
            .args(&command.args)
            .env_clear()
            .envs(command.env.iter().map(|(name, value)| (name, value)))
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let group =
            child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())).unwrap();
        let _group = Group(group);
        *self.running.lock() = Some(group);
        let mut stdin = child.stdin.take().unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let mut watch = command.watch;
        let limit = command.limits.output_bytes;
        let work = async {
            let feed = async move {
                let _ = stdin.write_all(&command.stdin).await;
            };
            let ((), stdout, stderr, status) = tokio::join!(
                feed,
                read(stdout, limit, |_| {}),
                read(stderr, 1 << 20, |piece| if let Some(watch) = &mut watch {
                    watch(piece)
                }),
                child.wait()
            );
            (stdout, stderr, status)
        };
        let ended = tokio::time::timeout(command.limits.wall, work).await;
        *self.running.lock() = None;
        let Ok((stdout, stderr, status)) = ended else {
            let (stdout, stderr) = (Vec::new(), Vec::new());
            return Ok(Finished { end: End::Deadline, stdout, stderr, cut: false });
        };
        let end = status?.code().map_or(End::Signalled(9), End::Exited);
        let cut = stdout.1;
        Ok(Finished { end, stdout: stdout.0, stderr: stderr.0, cut })
    }
}

/// Reads to the end, keeps so much.
async fn read(
    mut from: impl AsyncRead + Unpin,
    limit: usize,
    mut see: impl FnMut(&[u8]),
) -> (Vec<u8>, bool) {
    let (mut kept, mut cut) = (Vec::new(), false);
    let mut piece = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        see(&piece[..count]);
        let room = limit.saturating_sub(kept.len()).min(count);
        kept.extend_from_slice(&piece[..room]);
        cut |= room < count;
    }
    (kept, cut)
}

/// Credentials that a test changes, and how often they were asked for.
#[derive(Default)]
pub struct Keyring {
    pub kept: Mutex<Option<(String, String)>>,
    pub fresh: Mutex<Option<(String, String)>>,
    pub asked: Mutex<Vec<bool>>,
}

impl Credentials for Keyring {
    fn get<'a>(&'a self, _: &'a str, _: &'a str, fresh: bool) -> BoxFuture<'a, Option<Credential>> {
        self.asked.lock().push(fresh);
        let pair = if fresh { &self.fresh } else { &self.kept }.lock().clone();
        let credential = pair
            .map(|(username, password)| Credential { username, password: Secret::from(password) });
        Box::pin(std::future::ready(credential))
    }
}

/// A server with the repository `town.git`, and workspaces.
pub struct Bench {
    pub server: GitServer,
    pub run: Arc<Runner>,
    pub keyring: Arc<Keyring>,
    pub settings: Settings,
    pub folder: TempDir,
}

/// Runs git and wants it to succeed.
#[track_caller]
pub fn git<A: AsRef<OsStr>>(folder: &Path, args: impl IntoIterator<Item = A>) -> String {
    let output = try_git(folder, args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Runs git.
pub fn try_git<A: AsRef<OsStr>>(
    folder: &Path,
    args: impl IntoIterator<Item = A>,
) -> std::process::Output {
    std::process::Command::new("git")
        .args([
            "-c",
            "user.name=T",
            "-c",
            "user.email=t@example.com",
            "-c",
            "protocol.file.allow=always",
        ])
        .args(args)
        .current_dir(folder)
        // Where a sandbox has the mirror's objects, there is nothing here.
        .env(
            "GIT_ALTERNATE_OBJECT_DIRECTORIES",
            folder.join("../../state/rigs/town/mirror.git/objects"),
        )
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap()
}

pub fn author() -> Author {
    Author { name: "Polecat".to_owned(), email: "polecat@example.com".to_owned() }
}

pub fn settings() -> Settings {
    Settings { protocols: Protocols { http: true, file: false }, ..Settings::default() }
}

impl Bench {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let served = folder.path().join("served");
        std::fs::create_dir(&served).unwrap();
        git(&served, ["init", "--quiet", "--bare", "-b", "main", "town.git"]);
        let bare = served.join("town.git");
        for (name, value) in [
            ("uploadpack.allowFilter", "true"),
            ("http.receivepack", "true"),
            ("uploadpack.allowAnySHA1InWant", "true"),
        ] {
            git(&bare, ["config", name, value]);
        }
        git(folder.path(), ["init", "--quiet", "-b", "main", "seed"]);
        let server = GitServer::start(&served).unwrap();
        let bench = Self {
            server,
            run: Arc::new(Runner::new()),
            keyring: Arc::default(),
            settings: settings(),
            folder,
        };
        bench.commit(
            "main",
            &[("README.md", "hello\n"), ("src/a.txt", "one\ntwo\nthree\n")],
            "first",
        );
        bench
    }

    /// The repository from which others push.
    pub fn seed(&self) -> PathBuf {
        self.folder.path().join("seed")
    }

    /// Commits files to a branch as somebody else, and pushes it.
    pub fn commit(&self, branch: &str, files: &[(&str, &str)], message: &str) -> String {
        let seed = self.seed();
        let bare = self.server.path("town.git");
        if git(&seed, ["rev-parse", "--abbrev-ref", "--all"]).is_empty() {
            git(&seed, ["checkout", "--quiet", "-B", branch]);
        } else {
            git(
                &seed,
                [
                    OsStr::new("fetch"),
                    OsStr::new("--quiet"),
                    bare.as_os_str(),
                    OsStr::new("+refs/heads/*:refs/remotes/o/*"),
                ],
            );
            let has = git(&seed, ["for-each-ref", &format!("refs/remotes/o/{branch}")]);
            let from = if has.is_empty() {
                "refs/remotes/o/main".to_owned()
            } else {
                format!("refs/remotes/o/{branch}")
            };
            git(&seed, ["checkout", "--quiet", "--force", "-B", branch, &from]);
        }
        for (name, text) in files {
            let path = seed.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        git(&seed, ["add", "--all"]);
        git(&seed, ["commit", "--quiet", "--allow-empty", "-m", message]);
        git(
            &seed,
            [OsStr::new("push"), OsStr::new("--quiet"), bare.as_os_str(), OsStr::new(branch)],
        );
        git(&seed, ["rev-parse", "HEAD"])
    }

    /// Makes a branch on the server itself, where no hook sees it.
    pub fn commit_locally(&self, branch: &str, files: &[(&str, &str)]) {
        let bare = self.server.path("town.git");
        let index = self.folder.path().join("index");
        let run = |args: &[&str], stdin: &str| {
            use std::io::Write;
            let mut child = std::process::Command::new("git")
                .args(["-c", "user.name=T", "-c", "user.email=t@example.com"])
                .args(args)
                .current_dir(&bare)
                .env("GIT_INDEX_FILE", &index)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
        };
        run(&["read-tree", "main"], "");
        for (name, text) in files {
            let blob = run(&["hash-object", "-w", "--stdin"], text);
            run(&["update-index", "--add", "--cacheinfo", &format!("100644,{blob},{name}")], "");
        }
        let tree = run(&["write-tree"], "");
        let commit = run(&["commit-tree", &tree, "-p", "main", "-m", "local"], "");
        run(&["update-ref", &format!("refs/heads/{branch}"), &commit], "");
    }

    /// The commit of a branch on the server, empty if there is none.
    pub fn remote(&self, branch: &str) -> String {
        git(
            &self.server.path("town.git"),
            ["for-each-ref", "--format=%(objectname)", &format!("refs/heads/{branch}")],
        )
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub fn workspaces(&self) -> Workspaces {
        let run: Arc<dyn Run> = Arc::clone(&self.run) as _;
        let credentials: Arc<dyn Credentials> = Arc::clone(&self.keyring) as _;
        Workspaces::new(&self.root(), run, credentials, self.settings.clone()).unwrap()
    }

    pub fn rig(&self) -> Rig {
        Rig {
            name: "town".to_owned(),
            url: self.server.url("town.git"),
            default_branch: "main".to_owned(),
        }
    }

    pub fn request(&self, agent: &str) -> Request {
        Request {
            agent: agent.to_owned(),
            path: self.path(agent),
            branch: format!("agent/{agent}"),
            start_point: None,
            lightweight: false,
            was_brought: false,
            author: author(),
            limit: DiskLimit { bytes: 1 << 30, entries: 65_536 },
        }
    }

    pub fn path(&self, agent: &str) -> PathBuf {
        self.folder.path().join("workspaces").join(agent)
    }

    /// A workspace that is ready.
    pub async fn ready(&self, workspaces: &Workspaces, agent: &str) -> Workspace {
        self.prepare(workspaces, &self.request(agent)).await.unwrap();
        workspaces.workspace(agent).await.unwrap()
    }

    pub async fn prepare(
        &self,
        workspaces: &Workspaces,
        request: &Request,
    ) -> Result<Prepared, Error> {
        workspaces.prepare(&self.rig(), request, &silent()).await
    }

    pub fn write(&self, agent: &str, name: &str, text: &str) {
        let path = self.path(agent).join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn read(&self, agent: &str, name: &str) -> String {
        std::fs::read_to_string(self.path(agent).join(name)).unwrap()
    }
}

/// Steps that were reported.
pub fn recorder() -> (Arc<Mutex<Vec<Progress>>>, bulkhead_workspace::OnProgress) {
    let steps: Arc<Mutex<Vec<Progress>>> = Arc::default();
    let taken = Arc::clone(&steps);
    (steps, Arc::new(move |step| taken.lock().push(step)))
}

impl Drop for Bench {
    fn drop(&mut self) {
        remove(self.folder.path());
    }
}

/// Removes a directory. A git that was given up may write to it for a moment more.
pub fn remove(folder: &Path) {
    let began = std::time::Instant::now();
    while let Err(error) = std::fs::remove_dir_all(folder) {
        if error.kind() == std::io::ErrorKind::NotFound {
            return;
        }
        assert!(began.elapsed().as_secs() < 10, "{}: {error}", folder.display());
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
