//! Prepares a hundred workspaces of a 50 MB repository from a warm mirror, beside `git worktree add`, both as plain
//! processes: `cargo run --release -p bulkhead-workspace --example hundred`. With the path of a launcher of tools as its
//! argument, git of the workspaces runs in the sandbox.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_tools::Launcher;
use bulkhead_workspace::{
    Author, Command, DiskLimit, End, Finished, NoCredentials, Protocols, Request, Rig, Run,
    RunError, Sandboxed, Settings, Workspaces, silent,
};
use futures_util::future::BoxFuture;
use git_server::GitServer;
use tokio::io::AsyncWriteExt;

/// Workspaces.
const COUNT: u32 = 100;
/// Files of the repository, of 50 KB each.
const FILES: u32 = 1000;

/// Git as a plain process, without limits.
struct Direct;

impl Run for Direct {
    fn run(&self, command: Command) -> BoxFuture<'_, Result<Finished, RunError>> {
        Box::pin(async move {
            let program = command.program.to_owned();
            run(command).await.map_err(|error| RunError { program, why: error.to_string() })
        })
    }

    fn settle<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    fn objects(&self, host: &Path) -> PathBuf {
        host.to_owned()
    }
}

async fn run(command: Command) -> std::io::Result<Finished> {
    let mut child = tokio::process::Command::new(command.program)
        .args(&command.args)
        .env_clear()
        .envs(command.env)
        .current_dir(command.sandbox.folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    child.stdin.take().expect("it is piped").write_all(&command.stdin).await?;
    let output = child.wait_with_output().await?;
    let end = output.status.code().map_or(End::Signalled(0), End::Exited);
    Ok(Finished { end, stdout: output.stdout, stderr: output.stderr, cut: false })
}

fn git<A: AsRef<OsStr>>(folder: &Path, args: impl IntoIterator<Item = A>) {
    let identity = ["-c", "user.name=T", "-c", "user.email=t@example.com"];
    let mut git = std::process::Command::new("git");
    let status = git.args(identity).args(args).current_dir(folder).status();
    assert!(status.expect("git runs").success());
}

/// A repository of 50 MB that does not compress, in folders.
fn seed(folder: &Path) -> std::io::Result<PathBuf> {
    git(folder, ["init", "--quiet", "-b", "main", "seed"]);
    let seed = folder.join("seed");
    for n in 0..FILES {
        let below = seed.join(format!("folder{}", n % 40));
        fs::create_dir_all(&below)?;
        let bytes: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(50_000).collect();
        fs::write(below.join(format!("file{n}")), bytes)?;
    }
    git(&seed, ["add", "--all"]);
    git(&seed, ["commit", "--quiet", "-m", "50 MB"]);
    git(folder, ["clone", "--quiet", "--bare", "seed", "served/town.git"]);
    Ok(seed)
}

fn request(folder: &Path, agent: String) -> Request {
    Request {
        path: folder.join("workspaces").join(&agent),
        branch: format!("agent/{agent}"),
        agent,
        start_point: None,
        lightweight: false,
        was_brought: false,
        author: Author { name: "A".to_owned(), email: "a@example.com".to_owned() },
        limit: DiskLimit { bytes: 1 << 30, entries: 65_536 },
    }
}

/// The median of five `git worktree add`.
fn worktree(folder: &Path, seed: &Path) -> Duration {
    let mut times: Vec<_> = (0..5)
        .map(|n| {
            let path = folder.join(format!("worktree{n}"));
            let began = Instant::now();
            let branch = format!("w{n}");
            let words = ["worktree", "add", "--quiet", "-b", &branch].map(OsStr::new);
            git(seed, words.into_iter().chain([path.as_os_str()]));
            began.elapsed()
        })
        .collect();
    times.sort();
    times[2]
}

fn sandbox(launcher: &Path) -> std::io::Result<Arc<dyn Run>> {
    let launcher = Launcher::start(
        std::process::Command::new(launcher),
        &bulkhead_tools::Settings::default(),
    )?;
    let layers = launcher.layers().clone();
    let (tools, driver) = launcher.connect()?;
    #[expect(clippy::disallowed_methods, reason = "an example has no spawner")]
    drop(tokio::spawn(driver));
    Ok(Arc::new(Sandboxed::new(tools, &layers)?))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    fs::create_dir(folder.join("served"))?;
    let seed = seed(folder)?;
    let server = GitServer::start(&folder.join("served"))?;
    let run = match std::env::args_os().nth(1) {
        Some(launcher) => sandbox(Path::new(&launcher))?,
        None => Arc::new(Direct),
    };
    let protocols = Protocols { http: true, file: false };
    let settings = Settings { protocols, ..Settings::default() };
    let workspaces =
        Workspaces::new(&folder.join("state"), run, Arc::new(NoCredentials), settings)?;
    let rig = Rig {
        name: "town".to_owned(),
        url: server.url("town.git"),
        default_branch: "main".to_owned(),
    };
    let began = Instant::now();
    workspaces.prepare(&rig, &request(folder, "first".to_owned()), &silent()).await?;
    println!("first, with the clone: {:.0?}", began.elapsed());
    let one = worktree(folder, &seed);
    println!("git worktree add: {one:.1?}");
    let began = Instant::now();
    for n in 0..COUNT {
        workspaces.prepare(&rig, &request(folder, format!("a{n}")), &silent()).await?;
    }
    report("one after the other", began.elapsed(), one);
    let requests: Vec<_> = (0..COUNT).map(|n| request(folder, format!("b{n}"))).collect();
    let began = Instant::now();
    let silent = silent();
    let all = requests.iter().map(|request| workspaces.prepare(&rig, request, &silent));
    for prepared in futures_util::future::join_all(all).await {
        prepared?;
    }
    report("all at once", began.elapsed(), one);
    Ok(())
}

fn report(how: &str, took: Duration, one: Duration) {
    let (each, ratio) = (took / COUNT, took.as_secs_f64() / one.as_secs_f64());
    let per = ratio / f64::from(COUNT);
    println!(
        "{COUNT} {how}: {took:.2?}, {each:.1?} each: {per:.2} of a worktree each, {ratio:.0} together"
    );
}
