//! Directories of agents: what is nowhere else, when they were used, and their removal.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use bulkhead_types::AgentId;
use bulkhead_types::time::Timestamp;
use bulkhead_workspace::{
    Error, Inventory, Kept, Paths, Policy, Pushed, Why, Workspace, Workspaces, choose,
};

use crate::support::{Bench, author, git};

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn id(agent: &str) -> AgentId {
    AgentId::parse(agent).unwrap()
}

fn inventory(bench: &Bench, workspaces: Option<&Workspaces>) -> Inventory {
    Inventory::new(&bench.folder.path().join("workspaces"), workspaces.cloned()).unwrap()
}

fn names(all: &[Kept]) -> Vec<&str> {
    all.iter().map(|kept| kept.agent.as_str()).collect()
}

/// What is only in the workspace.
#[track_caller]
fn why(pushed: Pushed) -> String {
    match pushed {
        Pushed::No { why } => why,
        Pushed::Yes => panic!("it is pushed"),
    }
}

/// A bench with the workspace of `ann`.
async fn ann() -> (Bench, Workspaces, Workspace) {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    (bench, workspaces, workspace)
}

async fn commit(bench: &Bench, workspace: &Workspace, name: &str) -> String {
    bench.write("ann", name, name);
    let commit = workspace.commit(name, &author(), &Paths::All).await.unwrap();
    commit.unwrap().to_string()
}

#[tokio::test]
async fn what_is_committed_and_pushed_is_on_the_remote() {
    let (bench, workspaces, workspace) = ann().await;
    assert_eq!(workspace.pushed().await, Pushed::Yes, "nothing was done");
    let first = commit(&bench, &workspace, "x").await;
    assert_eq!(why(workspace.pushed().await), "HEAD is not on the remote");
    workspace.push().await.unwrap();
    assert_eq!(workspace.pushed().await, Pushed::Yes);
    // Ahead again, and pushed by the end of the agent.
    bench.write("ann", "y", "y");
    assert_eq!(why(workspace.pushed().await), "not committed: y");
    workspace.save("wip").await.unwrap();
    assert_eq!(workspace.pushed().await, Pushed::Yes);
    // An older state of the same work is there too.
    git(&bench.path("ann"), ["reset", "--quiet", "--hard", &first]);
    assert_eq!(workspace.pushed().await, Pushed::Yes);
    // So for a host that was started again.
    drop((workspace, workspaces));
    let workspace = bench.workspaces().workspace("ann").await.unwrap();
    assert_eq!(workspace.pushed().await, Pushed::Yes);
}

#[tokio::test]
async fn work_that_was_pushed_and_merged_is_done_when_its_branch_is_gone() {
    let (bench, _workspaces, workspace) = ann().await;
    commit(&bench, &workspace, "x").await;
    workspace.push().await.unwrap();
    let bare = bench.server.path("town.git");
    git(&bare, ["update-ref", "-d", "refs/heads/agent/ann"]);
    workspace.fetch().await.unwrap();
    let mirror = bench.root().join("rigs/town/mirror.git");
    assert_eq!(git(&mirror, ["for-each-ref", "refs/heads/agent"]), "", "the mirror knows");
    assert_eq!(workspace.pushed().await, Pushed::Yes);
}

#[tokio::test]
async fn a_push_that_was_rejected_is_none() {
    let (bench, _workspaces, workspace) = ann().await;
    bench.commit("agent/ann", &[("theirs", "x")], "theirs");
    commit(&bench, &workspace, "x").await;
    assert_eq!(workspace.push().await.unwrap_err().code(), "rejected");
    assert_eq!(why(workspace.pushed().await), "HEAD is not on the remote");
}

#[tokio::test]
async fn files_that_git_does_not_know_are_work_unless_they_are_ignored() {
    let (bench, _workspaces, workspace) = ann().await;
    bench.write("ann", ".gitignore", "target/\n");
    workspace.commit("ignore", &author(), &Paths::All).await.unwrap();
    workspace.push().await.unwrap();
    bench.write("ann", "target/debug/large", "built");
    assert_eq!(workspace.pushed().await, Pushed::Yes);
    bench.write("ann", "notes/a", "x");
    assert_eq!(why(workspace.pushed().await), "not committed: notes/");
    git(&bench.path("ann"), ["config", "status.showUntrackedFiles", "no"]);
    assert_eq!(why(workspace.pushed().await), "not committed: notes/");
    fs::remove_dir_all(bench.path("ann").join("notes")).unwrap();
    fs::remove_file(bench.path("ann").join("README.md")).unwrap();
    assert_eq!(why(workspace.pushed().await), "not committed: README.md");
}

#[tokio::test]
async fn commits_beside_the_branch_are_work() {
    let (bench, _workspaces, workspace) = ann().await;
    let path = bench.path("ann");
    let own = |args: &[&str]| git(&path, args.iter().copied());
    // Detached.
    own(&["checkout", "--quiet", "--detach"]);
    assert_eq!(workspace.pushed().await, Pushed::Yes);
    commit(&bench, &workspace, "x").await;
    assert_eq!(why(workspace.pushed().await), "HEAD is not on the remote");
    // On another branch.
    own(&["checkout", "--quiet", "-b", "other"]);
    own(&["checkout", "--quiet", "agent/ann"]);
    assert_eq!(why(workspace.pushed().await), "refs/heads/other is not on the remote");
    // Of which the name is no text.
    let odd = OsStr::from_bytes(b"odd\xff");
    git(&path, [OsStr::new("branch"), OsStr::new("-m"), OsStr::new("other"), odd]);
    assert!(why(workspace.pushed().await).starts_with("refs/heads/odd"));
    git(&path, [OsStr::new("branch"), OsStr::new("-m"), odd, OsStr::new("other")]);
    own(&["tag", "mark", "other"]);
    own(&["branch", "-D", "other"]);
    assert_eq!(why(workspace.pushed().await), "refs/tags/mark is not on the remote");
    own(&["tag", "-d", "mark"]);
    assert_eq!(workspace.pushed().await, Pushed::Yes);
    // In the stash.
    bench.write("ann", "README.md", "changed\n");
    own(&["stash", "--quiet"]);
    assert_eq!(why(workspace.pushed().await), "refs/stash is not on the remote");
    own(&["stash", "drop", "--quiet"]);
    // A checkpoint is a way back, not work.
    workspace.checkpoint("one").await.unwrap();
    assert_eq!(workspace.pushed().await, Pushed::Yes);
    // Nothing checked out.
    own(&["checkout", "--quiet", "--orphan", "empty"]);
    why(workspace.pushed().await);
}

#[tokio::test]
async fn an_operation_that_is_half_done_is_work() {
    let (bench, _workspaces, workspace) = ann().await;
    let path = bench.path("ann");
    for name in ["rebase-merge", "worktrees", "modules"] {
        fs::create_dir(path.join(".git").join(name)).unwrap();
        assert_eq!(why(workspace.pushed().await), format!("there is .git/{name}"));
        fs::remove_dir(path.join(".git").join(name)).unwrap();
    }
    fs::write(path.join(".git/MERGE_HEAD"), "").unwrap();
    assert_eq!(why(workspace.pushed().await), "there is .git/MERGE_HEAD");
    fs::remove_file(path.join(".git/MERGE_HEAD")).unwrap();
    assert_eq!(workspace.pushed().await, Pushed::Yes);
}

#[tokio::test]
async fn a_repository_without_a_remote_is_never_pushed() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let request = bulkhead_workspace::Request { lightweight: true, ..bench.request("ann") };
    bench.prepare(&workspaces, &request).await.unwrap();
    let workspace = workspaces.workspace("ann").await.unwrap();
    assert_eq!(why(workspace.pushed().await), "it has no remote");
}

#[tokio::test]
async fn what_a_repository_says_of_its_remote_proves_nothing() {
    let (bench, _workspaces, workspace) = ann().await;
    let path = bench.path("ann");
    let commit = commit(&bench, &workspace, "x").await;
    for name in ["refs/remotes/origin/agent/ann", "refs/remotes/origin/main", "refs/pushed/ann/x"] {
        git(&path, ["update-ref", name, &commit]);
    }
    fs::write(path.join(".git/info/grafts"), format!("{commit}\n")).unwrap();
    why(workspace.pushed().await);
    fs::remove_file(path.join(".git/info/grafts")).unwrap();
    // Nor does a push to a remote of its own.
    git(&path, ["init", "--quiet", "--bare", ".git/own"]);
    git(&path, ["config", "remote.origin.url", ".git/own"]);
    git(&path, ["config", "remote.origin.pushurl", ".git/own"]);
    git(&path, ["push", "--quiet", "origin", "HEAD:refs/heads/main"]);
    assert_eq!(why(workspace.pushed().await), "HEAD is not on the remote");
}

#[tokio::test]
async fn what_the_index_hides_is_work() {
    let (bench, _workspaces, workspace) = ann().await;
    let path = bench.path("ann");
    for (hide, show) in
        [("--assume-unchanged", "--no-assume-unchanged"), ("--skip-worktree", "--no-skip-worktree")]
    {
        git(&path, ["update-index", hide, "README.md"]);
        bench.write("ann", "README.md", "hidden\n");
        assert_eq!(why(workspace.pushed().await), "git ignores changes of README.md");
        git(&path, ["update-index", show, "README.md"]);
        assert_eq!(why(workspace.pushed().await), "not committed: README.md");
        git(&path, ["checkout", "--quiet", "README.md"]);
    }
    // A mode that the agent's git does not look at.
    git(&path, ["config", "core.fileMode", "false"]);
    fs::set_permissions(path.join("README.md"), PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(why(workspace.pushed().await), "not committed: README.md");
}

#[tokio::test]
async fn a_repository_in_the_tree_is_work_though_its_commit_is_pushed() {
    let (bench, _workspaces, workspace) = ann().await;
    let path = bench.path("ann");
    let inner = path.join("inner");
    git(&path, ["init", "--quiet", "inner"]);
    git(&inner, ["commit", "--quiet", "--allow-empty", "-m", "only here"]);
    assert_eq!(why(workspace.pushed().await), "not committed: inner/");
    workspace.commit("inner", &author(), &Paths::All).await.unwrap().unwrap();
    workspace.push().await.unwrap();
    assert_eq!(why(workspace.pushed().await), "a repository in inner");
    fs::remove_dir_all(&inner).unwrap();
    // A submodule that nobody filled.
    fs::create_dir(&inner).unwrap();
    assert_eq!(workspace.pushed().await, Pushed::Yes);
    symlink("/", path.join("link")).unwrap();
    let head = git(&path, ["rev-parse", "HEAD"]);
    let entry = format!("160000,{head},link/tmp");
    git(&path, ["update-index", "--add", "--cacheinfo", &entry]);
    why(workspace.pushed().await);
}

/// A program that leaves a trace, whatever the repository's path is, and says something.
fn trap(path: &Path, says: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\necho \"$0\" >>.git/trace\nprintf '{says}'\n")).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_monitor_that_has_seen_nothing_is_not_asked() {
    let (bench, _workspaces, workspace) = ann().await;
    let path = bench.path("ann");
    let (hooks, trace) = (path.join(".git/hooks"), path.join(".git/trace"));
    trap(&hooks.join("evil"), "token\\0");
    for name in ["post-index-change", "reference-transaction"] {
        trap(&hooks.join(name), "");
    }
    git(&path, ["config", "core.fsmonitor", ".git/hooks/evil"]);
    git(&path, ["config", "core.hooksPath", ".git/hooks"]);
    // Git notes in the index what the monitor says.
    git(&path, ["update-index", "--fsmonitor"]);
    git(&path, ["status"]);
    assert!(fs::remove_file(&trace).is_ok(), "the trap works");
    bench.write("ann", "README.md", "changed\n");
    let believed = git(&path, ["status", "--porcelain"]);
    // Outside of the sandbox files of the inside look changed anyway.
    assert!(believed.is_empty() || bench.run.is_sandboxed(), "{believed}");
    fs::remove_file(&trace).unwrap();
    assert_eq!(why(workspace.pushed().await), "not committed: README.md");
    assert!(!trace.exists(), "{}", fs::read_to_string(&trace).unwrap());
}

#[tokio::test]
async fn a_repository_that_git_cannot_read_is_not_pushed() {
    let (bench, workspaces, workspace) = ann().await;
    let git_dir = bench.path("ann").join(".git");
    let config = fs::read(git_dir.join("config")).unwrap();
    fs::write(git_dir.join("config"), "[core\n").unwrap();
    assert!(why(workspace.pushed().await).contains("config"));
    fs::write(git_dir.join("config"), config).unwrap();
    assert_eq!(workspace.pushed().await, Pushed::Yes);
    fs::write(git_dir.join("index"), "junk").unwrap();
    why(workspace.pushed().await);
    fs::rename(git_dir.join("index"), bench.folder.path().join("junk")).unwrap();
    assert_eq!(why(workspace.pushed().await), "not committed: README.md");
    git(&bench.path("ann"), ["reset", "--quiet", "--hard"]);
    assert_eq!(workspace.pushed().await, Pushed::Yes);
    // A link to what the host sees and the agent does not.
    let outside = bench.folder.path().join("outside.git");
    fs::rename(&git_dir, &outside).unwrap();
    symlink(&outside, &git_dir).unwrap();
    why(workspace.pushed().await);
    fs::remove_file(&git_dir).unwrap();
    why(workspace.pushed().await);
    drop(workspaces);
}

#[tokio::test]
async fn without_the_mirror_nothing_is_pushed() {
    let (bench, workspaces, workspace) = ann().await;
    let commit = commit(&bench, &workspace, "x").await;
    workspace.push().await.unwrap();
    drop((workspace, workspaces));
    // A mirror that was made again has only what the remote has.
    fs::remove_dir_all(bench.root().join("rigs")).unwrap();
    let workspace = bench.workspaces().workspace("ann").await.unwrap();
    why(workspace.pushed().await);
    assert_eq!(bench.remote("agent/ann"), commit);
}

#[tokio::test]
async fn all_directories_of_agents_are_listed() {
    let (bench, workspaces, workspace) = ann().await;
    commit(&bench, &workspace, "x").await;
    let folder = bench.folder.path().join("workspaces");
    for name in ["plain:1", ".hidden", "no agent", "plain:1/below"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    fs::write(folder.join("plain:1/below/file"), vec![1; 100_000]).unwrap();
    fs::write(folder.join("file"), "").unwrap();
    symlink(folder.join("plain:1"), folder.join("link")).unwrap();
    symlink("..", folder.join("plain:1/loop")).unwrap();
    // What a program inside did, git too, is not the host's to know.
    git(&folder.join("plain:1/below"), ["init", "--quiet"]);
    let inventory = inventory(&bench, Some(&workspaces));
    let all = inventory.list(NOW).await.unwrap();
    assert_eq!(names(&all), ["ann", "plain:1"]);
    let [of_git, plain] = &all[..] else { unreachable!() };
    assert_eq!(of_git.rig.as_deref(), Some("town"));
    assert_eq!(of_git.branch.as_deref(), Some("agent/ann"));
    assert_eq!(why(of_git.pushed.clone()), "HEAD is not on the remote");
    assert_eq!(
        (&plain.rig, &plain.branch, plain.path.clone()),
        (&None, &None, bench.path("plain:1"))
    );
    assert!(plain.entries > 3 && plain.bytes >= 100_000 && !plain.truncated, "{plain:?}");
    assert_eq!(why(plain.pushed.clone()), "it is no repository of a rig");
    workspace.push().await.unwrap();
    assert!(inventory.list(NOW).await.unwrap()[0].pushed.is_pushed());
    // An empty directory has nothing that could be lost.
    let new = AgentId::parse("new").unwrap();
    fs::create_dir(folder.join("new")).unwrap();
    assert_eq!(inventory.pushed(&new).await.unwrap(), Some(Pushed::Yes));
    assert!(inventory.list(NOW).await.unwrap()[1].pushed.is_pushed());
    fs::write(folder.join("new/.hidden"), "").unwrap();
    assert!(!inventory.pushed(&new).await.unwrap().unwrap().is_pushed());
    fs::remove_dir_all(folder.join("new")).unwrap();
    // Without git all are plain.
    let all = self::inventory(&bench, None).list(NOW).await.unwrap();
    assert_eq!(names(&all), ["ann", "plain:1"]);
    assert!(all.iter().all(|kept| !kept.pushed.is_pushed() && kept.rig.is_none()));
}

#[tokio::test]
async fn a_use_is_what_the_host_noted_and_not_the_time_of_a_file() {
    let bench = Bench::new();
    let inventory = inventory(&bench, None);
    let later = |hours: u32| NOW.after(HOUR * hours);
    let used = async |now| {
        let all = inventory.list(now).await.unwrap();
        all.into_iter().map(|kept| (kept.agent.to_string(), kept.used)).collect::<Vec<_>>()
    };
    for (agent, time) in [("old", SystemTime::UNIX_EPOCH), ("new", SystemTime::now() + HOUR * 99)] {
        fs::create_dir(bench.path(agent)).unwrap();
        bench.write(agent, "file", "x");
        for path in [bench.path(agent).join("file"), bench.path(agent)] {
            fs::File::open(path).unwrap().set_modified(time).unwrap();
        }
    }
    inventory.used(&id("old"), later(1)).await.unwrap();
    let expected = [("new".to_owned(), later(2)), ("old".to_owned(), later(1))];
    assert_eq!(used(later(2)).await, expected, "new is found first");
    assert_eq!(used(later(5)).await, expected, "and stays so");
    inventory.used(&id("new"), later(6)).await.unwrap();
    assert_eq!(used(later(7)).await[0].1, later(6));
    // A clock that was wrong, and a disk that was full.
    assert_eq!(used(later(3)).await[0].1, later(3));
    assert_eq!(used(later(9)).await[0].1, later(6));
    fs::write(bench.folder.path().join("workspaces/.used/old"), "").unwrap();
    assert_eq!(used(later(9)).await[1].1, later(9));
}

#[tokio::test]
async fn notes_about_nothing_go_after_a_while() {
    let bench = Bench::new();
    let inventory = inventory(&bench, None);
    fs::create_dir(bench.path("here")).unwrap();
    let notes = bench.folder.path().join("workspaces/.used");
    for agent in ["here", "gone", "starting"] {
        inventory.used(&id(agent), NOW).await.unwrap();
    }
    fs::write(notes.join(".tmp123"), "").unwrap();
    for name in ["here", "gone", ".tmp123"] {
        let file = fs::File::options().write(true).open(notes.join(name)).unwrap();
        file.set_modified(SystemTime::now() - HOUR * 25).unwrap();
    }
    inventory.list(NOW).await.unwrap();
    let mut left: Vec<_> =
        fs::read_dir(&notes).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["here", "starting"]);
}

#[tokio::test]
async fn what_the_policy_chooses_goes_and_the_next_start_makes_it_again() {
    let (bench, workspaces, workspace) = ann().await;
    commit(&bench, &workspace, "x").await;
    let pushed = workspace.push().await.unwrap();
    let ben = bench.ready(&workspaces, "ben").await;
    bench.write("ben", "work", "x");
    let inventory = inventory(&bench, Some(&workspaces));
    let policy =
        Policy { keep_pushed: Some(Duration::ZERO), max_bytes: Some(0), ..Policy::default() };
    let choice = choose(&inventory.list(NOW).await.unwrap(), &policy, NOW, &|_| false);
    let [removal] = &choice.removals[..] else { panic!("{choice:?}") };
    assert_eq!((removal.agent.as_str(), removal.why), ("ann", Why::Pushed));
    assert!(choice.excess_bytes > 0, "the work of ben");
    // Used in the meantime.
    inventory.used(&removal.agent, NOW.after(HOUR)).await.unwrap();
    assert!(inventory.set_aside(&removal.agent, Some(removal.used)).await.unwrap().is_none());
    let list = inventory.list(NOW.after(HOUR)).await.unwrap();
    let aside = inventory.set_aside(&removal.agent, Some(list[0].used)).await.unwrap().unwrap();
    assert!(!bench.path("ann").exists());
    assert!(matches!(workspaces.workspace("ann").await, Err(Error::Unprepared(_))));
    let notes = ["state/agents/ann.json", "workspaces/.used/ann"];
    assert!(notes.iter().all(|note| !bench.folder.path().join(note).exists()));
    let freed = aside.delete().await.unwrap();
    assert_eq!(freed.left, None);
    assert!((list[0].entries + 1..).contains(&freed.entries), "{freed:?} {list:?}");
    assert!(freed.bytes >= list[0].bytes, "{freed:?} {list:?}");
    let removed = bench.folder.path().join("workspaces/.removed");
    assert_eq!(fs::read_dir(removed).unwrap().count(), 0);
    assert_eq!(names(&inventory.list(NOW).await.unwrap()), ["ben"]);
    // The refs of the agent stay in the mirror, and so does its next start.
    let mirror = bench.root().join("rigs/town/mirror.git");
    assert_ne!(git(&mirror, ["for-each-ref", "refs/pushed/ann"]), "");
    bench.ready(&workspaces, "ann").await;
    assert_eq!(git(&bench.path("ann"), ["rev-parse", "HEAD"]), pushed.as_str());
    assert!(ben.status().await.is_ok());
}

#[tokio::test]
async fn a_removal_that_was_interrupted_is_finished_later() {
    let bench = Bench::new();
    let inventory = inventory(&bench, None);
    fs::create_dir_all(bench.path("ann").join("closed/below")).unwrap();
    fs::set_permissions(bench.path("ann").join("closed"), PermissionsExt::from_mode(0o000))
        .unwrap();
    drop(inventory.set_aside(&id("ann"), None).await.unwrap().unwrap());
    assert!(!bench.path("ann").exists());
    assert!(inventory.list(NOW).await.unwrap().is_empty());
    let inventory = self::inventory(&bench, None);
    let freed = inventory.clear().await.unwrap();
    assert_eq!((freed.entries, freed.left), (3, None));
    assert_eq!(inventory.clear().await.unwrap().entries, 0);
    assert!(inventory.set_aside(&id("ann"), None).await.unwrap().is_none(), "it is gone");
}

#[tokio::test]
async fn what_is_no_directory_is_not_removed() {
    let bench = Bench::new();
    let inventory = inventory(&bench, None);
    let outside = bench.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "x").unwrap();
    symlink(&outside, bench.path("ann")).unwrap();
    assert!(inventory.list(NOW).await.unwrap().is_empty());
    assert!(inventory.set_aside(&id("ann"), None).await.unwrap().is_none());
    assert!(bench.path("ann").is_symlink() && outside.join("file").exists());
}
