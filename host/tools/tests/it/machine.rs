//! What the tests share: a launcher, commands, and what a machine may lack.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bulkhead_tools::{
    Bind, Command, End, Finished, Launcher, Layer, Layers, Limits, Settings, Tools,
};
use support::{Need, skip};

/// The launcher's program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_tools-test-launcher");
/// How many times slower than others this machine is: an emulated one, say.
const SLOWNESS: &str = "BULKHEAD_TESTS_SLOWNESS";

/// Catches what hangs.
pub fn deadline() -> Duration {
    patient(Duration::from_secs(60))
}

/// So long on an ordinary machine.
pub fn patient(usual: Duration) -> Duration {
    usual * slowness()
}

pub fn slowness() -> u32 {
    std::env::var(SLOWNESS).map_or(1, |times| times.parse().unwrap())
}

/// A running launcher with its runtime.
pub struct Machine {
    pub layers: Layers,
    /// The process of the launcher.
    pub launcher: i32,
    pub tools: Tools,
    pub workspace: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Machine {
    pub fn new() -> Self {
        Self::with(&Settings::default())
    }

    pub fn with(settings: &Settings) -> Self {
        Self::of(Launcher::start(std::process::Command::new(PROGRAM), settings).unwrap())
    }

    pub fn of(launcher: Launcher) -> Self {
        let layers = launcher.layers().clone();
        let id = launcher.id().cast_signed();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let guard = runtime.enter();
        let (tools, driver) = launcher.connect().unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test has no spawner")]
        drop(tokio::spawn(driver));
        let workspace = tempfile::tempdir().unwrap();
        drop(guard);
        Self { layers, launcher: id, tools, workspace, runtime }
    }

    /// Runs a future, with a deadline that catches what hangs.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        let bounded = async { tokio::time::timeout(deadline(), future).await };
        self.runtime.block_on(bounded).expect("it hangs")
    }

    /// A command with the workspace at `/workspace`.
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args = args.iter().map(Into::into).collect();
        command.env = vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())];
        let host = self.workspace.path().to_owned();
        command.sandbox.binds =
            vec![Bind { host, inside: "/workspace".into(), writable: true, limit: None }];
        command.dir = "/workspace".into();
        command.limits = Limits { wall: patient(Duration::from_secs(20)), ..Limits::default() };
        command
    }

    pub fn shell(&self, script: &str) -> Command {
        self.command("/bin/sh", &["-c", script])
    }

    pub fn run(&self, command: &Command) -> Finished {
        self.wait(self.tools.run(command, Vec::new())).unwrap()
    }

    /// Runs a script to a good end, and returns what it wrote.
    pub fn output(&self, script: &str) -> String {
        let finished = self.run(&self.shell(script));
        let (out, errors) = (text(&finished.stdout), text(&finished.stderr));
        assert_eq!(finished.ended.end, End::Exited(0), "{script}: {out}{errors}");
        out
    }

    /// A file of the workspace that can be executed.
    #[allow(dead_code, reason = "some tests need none")]
    pub fn program(&self, name: &str, text: &str) -> PathBuf {
        let path = self.workspace.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Whether it has these layers. A test that needs them returns otherwise.
    pub fn has(&self, layers: &[Layer]) -> bool {
        let missing = layers.iter().find(|layer| !self.layers.has(**layer));
        if let Some(layer) = missing {
            skip(need(*layer), &self.layers.problems.join("; "));
        }
        missing.is_none()
    }
}

/// How many processes have that in their command line.
pub fn processes_with(mark: &str) -> usize {
    let lines = numbers_in("/proc").map(|pid| fs::read(format!("/proc/{pid}/cmdline")));
    let has = |line: &Vec<u8>| line.starts_with(mark.as_bytes());
    lines.filter_map(Result::ok).filter(has).count()
}

/// Those that are not zombies.
pub fn children_of(parent: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    text.unwrap_or_default().split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Of a launcher.
pub fn cgroups_of(launcher: i32) -> Vec<PathBuf> {
    let mut found = Vec::new();
    find_dirs(Path::new("/sys/fs/cgroup"), &format!("-{launcher}-"), &mut found);
    found
}

fn find_dirs(dir: &Path, part: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|it| it.is_dir()) {
            let name = entry.file_name().into_string().unwrap_or_default();
            if name.starts_with("bulkhead-tools-") && name.contains(part) {
                found.push(entry.path());
            }
            find_dirs(&entry.path(), part, found);
        }
    }
}

fn numbers_in(dir: &str) -> impl Iterator<Item = i32> {
    let entries = fs::read_dir(dir).unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a machine has that can make this layer.
fn need(layer: Layer) -> Need {
    match layer {
        Layer::Cgroup => Need::Cgroup,
        Layer::PidNamespace => Need::Pidns,
        Layer::MountNamespace => Need::Mount,
        Layer::NetworkNamespace => Need::Netns,
        Layer::Identity => Need::Root,
        Layer::Landlock | Layer::Seccomp => Need::Confinement,
    }
}

/// Waits for a fact, and fails when it does not become one.
pub fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let (begun, deadline) = (Instant::now(), deadline());
    while !is_so() {
        assert!(begun.elapsed() < deadline, "{what}: not after {deadline:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
