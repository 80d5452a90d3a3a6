//! Lists and removes a hundred workspaces with ten thousand files each:
//! `cargo run --release -p bulkhead-workspace --example inventory`. With the path of a launcher of tools as its argument,
//! they are repositories of a rig, and git runs in the sandbox.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_tools::Launcher;
use bulkhead_types::AgentId;
use bulkhead_types::time::Timestamp;
use bulkhead_workspace::{
    Author, DiskLimit, Inventory, NoCredentials, Policy, Protocols, Request, Rig, Sandboxed,
    Settings, Workspaces, choose, silent,
};
use git_server::GitServer;

/// Workspaces, unless the environment variable `WORKSPACES` has another number.
const COUNT: usize = 100;
/// Files of each, a hundred to a directory.
const FILES: usize = 10_000;

fn fill(folder: &Path) -> io::Result<()> {
    for n in 0..FILES {
        let below = folder.join(format!("folder{}", n / 100));
        if n % 100 == 0 {
            fs::create_dir_all(&below)?;
        }
        fs::write(below.join(format!("file{n}")), format!("{n}\n"))?;
    }
    Ok(())
}

fn git<A: AsRef<OsStr>>(folder: &Path, args: impl IntoIterator<Item = A>) {
    let identity = ["-c", "user.name=T", "-c", "user.email=t@example.com"];
    let mut git = std::process::Command::new("git");
    let status = git.args(identity).args(args).current_dir(folder).status();
    assert!(status.expect("git runs").success());
}

fn workspaces(folder: &Path, launcher: &Path) -> Result<Workspaces, Box<dyn std::error::Error>> {
    let launcher = std::process::Command::new(launcher);
    let launcher = Launcher::start(launcher, &bulkhead_tools::Settings::default())?;
    let layers = launcher.layers().clone();
    let (tools, driver) = launcher.connect()?;
    #[expect(clippy::disallowed_methods, reason = "an example has no spawner")]
    drop(tokio::spawn(driver));
    let run = Arc::new(Sandboxed::new(tools, &layers)?);
    let protocols = Protocols { http: true, file: false };
    let settings = Settings { protocols, ..Settings::default() };
    Ok(Workspaces::new(&folder.join("state"), run, Arc::new(NoCredentials), settings)?)
}

fn count() -> usize {
    std::env::var("WORKSPACES").map_or(COUNT, |count| count.parse().expect("a number"))
}

/// Makes the workspaces, as repositories of one rig.
async fn clone(folder: &Path, workspaces: &Workspaces) -> Result<(), Box<dyn std::error::Error>> {
    fs::create_dir(folder.join("served"))?;
    git(folder, ["init", "--quiet", "-b", "main", "seed"]);
    let seed = folder.join("seed");
    fill(&seed)?;
    git(&seed, ["add", "--all"]);
    git(&seed, ["commit", "--quiet", "-m", "files"]);
    git(folder, ["clone", "--quiet", "--bare", "seed", "served/town.git"]);
    let server = GitServer::start(&folder.join("served"))?;
    let (name, default_branch) = ("town".to_owned(), "main".to_owned());
    let rig = Rig { name, url: server.url("town.git"), default_branch };
    for n in 0..count() {
        let agent = format!("a{n}");
        let request = Request {
            path: folder.join("workspaces").join(&agent),
            branch: format!("agent/{agent}"),
            agent,
            start_point: None,
            lightweight: false,
            was_brought: false,
            author: Author { name: "A".to_owned(), email: "a@example.com".to_owned() },
            limit: DiskLimit { bytes: 1 << 30, entries: 65_536 },
        };
        workspaces.prepare(&rig, &request, &silent()).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let workspaces =
        std::env::args_os().nth(1).map(|launcher| workspaces(folder, Path::new(&launcher)));
    let workspaces = workspaces.transpose()?;
    match &workspaces {
        Some(workspaces) => clone(folder, workspaces).await?,
        None => {
            for n in 0..count() {
                fill(&folder.join("workspaces").join(format!("a{n}")))?;
            }
        }
    }
    let inventory = Inventory::new(&folder.join("workspaces"), workspaces)?;
    let now = Timestamp(1_800_000_000_000);
    for round in ["first", "again"] {
        let began = Instant::now();
        let all = inventory.list(now).await?;
        let entries: u64 = all.iter().map(|kept| kept.entries).sum();
        let pushed = all.iter().filter(|kept| kept.pushed.is_pushed()).count();
        let took = began.elapsed();
        println!("list, {round}: {took:.2?} for {entries} entries, {pushed} are pushed");
    }
    let policy = Policy { keep: Some(Duration::ZERO), ..Policy::default() };
    let choice = choose(&inventory.list(now).await?, &policy, now, &|_: &AgentId| false);
    let (began, mut aside) = (Instant::now(), Vec::new());
    for removal in &choice.removals {
        aside.extend(inventory.set_aside(&removal.agent, Some(removal.used)).await?);
    }
    println!("set aside {}: {:.2?}", aside.len(), began.elapsed());
    let (began, mut bytes) = (Instant::now(), 0);
    for aside in aside {
        bytes += aside.delete().await?.bytes;
    }
    println!("deleted {} MB: {:.2?}", bytes / 1_000_000, began.elapsed());
    Ok(())
}
