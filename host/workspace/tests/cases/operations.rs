//! What an agent does with its workspace, and what reaches the remote.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::{Bench, author, git, try_git};
use bulkhead_workspace::{
    Against, DiskLimit, Error, Kind, Merge, Paths, Request, Saved, Workspace,
};

async fn commit(workspace: &Workspace, message: &str) -> String {
    let commit = workspace.commit(message, &author(), &Paths::All).await.unwrap();
    commit.expect("there is something to commit").to_string()
}

#[tokio::test]
async fn a_commit_reaches_the_branch_of_the_agent_and_no_other() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    let main = bench.remote("main");
    bench.write("ann", "new/file", "x\n");
    let id = commit(&workspace, "# add a file\n\nwith reasons\n").await;
    assert_eq!(workspace.push().await.unwrap().as_str(), id);
    assert_eq!(bench.remote("agent/ann"), id);
    assert_eq!(bench.remote("main"), main);
    let bare = bench.server.path("town.git");
    assert_eq!(
        git(&bare, ["log", "-1", "--format=%an %ae %cn|%B", &id]),
        "Polecat polecat@example.com Polecat|# add a file\n\nwith reasons"
    );
    git(&bare, ["fsck", "--strict"]);
    assert!(workspace.commit("nothing", &author(), &Paths::All).await.unwrap().is_none());
    // What the remote has needs no second pack.
    let calls = bench.run.calls.load(Ordering::Relaxed);
    workspace.push().await.unwrap();
    assert!(bench.run.calls.load(Ordering::Relaxed) - calls <= 6);
    let log = workspace.log(10).await.unwrap();
    assert_eq!(
        log.iter().map(|commit| commit.subject.as_str()).collect::<Vec<_>>(),
        ["# add a file", "first"]
    );
    assert_eq!(workspace.log(1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn only_named_paths_are_committed_also_with_odd_names() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    for name in ["-rf", "*", "a\nb", ":(top)x", "other"] {
        bench.write("ann", name, "x");
    }
    std::fs::remove_file(bench.path("ann").join("README.md")).unwrap();
    let paths = ["-rf", "*", "a\nb", ":(top)x", "README.md"].map(Into::into).to_vec();
    workspace.commit("odd", &author(), &Paths::Only(paths)).await.unwrap().unwrap();
    let status = workspace.status().await.unwrap();
    assert_eq!(status.changes.len(), 1, "{status:?}");
    assert_eq!(status.changes[0].path, b"other");
    workspace.push().await.unwrap();
    let bare = bench.server.path("town.git");
    let names = git(&bare, ["ls-tree", "-z", "--name-only", "agent/ann"]);
    assert_eq!(
        names.trim_end_matches('\0').split('\0').collect::<Vec<_>>(),
        ["*", "-rf", ":(top)x", "a\nb", "src"]
    );
}

#[tokio::test]
async fn status_names_changes_and_the_distance_to_the_remote() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    bench.write("ann", "mine", "x");
    commit(&workspace, "mine").await;
    bench.commit("main", &[("theirs", "x")], "theirs");
    workspace.fetch().await.unwrap();
    bench.write("ann", "README.md", "changed");
    bench.write("ann", "line\nbreak", "x");
    let path = bench.path("ann").join(OsStr::from_bytes(b"\xff\xfe"));
    std::fs::write(path, "x").unwrap();
    git(&bench.path("ann"), ["mv", "src/a.txt", "src/b.txt"]);
    let status = workspace.status().await.unwrap();
    assert_eq!((status.ahead, status.behind, status.truncated), (1, 1, false));
    assert_eq!(status.branch.as_deref(), Some("agent/ann"));
    let find = |path: &[u8]| status.changes.iter().find(|change| change.path == path).unwrap();
    assert_eq!(find(b"README.md").unstaged, Kind::Modified);
    assert_eq!(find(b"line\nbreak").unstaged, Kind::Untracked);
    assert_eq!(find(b"\xff\xfe").unstaged, Kind::Untracked);
    assert_eq!(find(b"src/b.txt").from.as_deref(), Some(&b"src/a.txt"[..]));
    for n in 0..1100 {
        bench.write("ann", &format!("many/{n}"), "x");
    }
    let status = workspace.status().await.unwrap();
    assert!(status.truncated && status.changes.len() == bulkhead_workspace::MAX_CHANGES);
}

#[tokio::test]
async fn a_diff_is_bounded() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    bench.write("ann", "README.md", "committed\n");
    commit(&workspace, "one").await;
    bench.write("ann", "src/a.txt", "not committed\n");
    let text = async |against| {
        String::from_utf8(workspace.diff(against, 1 << 20).await.unwrap().text).unwrap()
    };
    let head = text(Against::Head).await;
    assert!(head.contains("+not committed") && !head.contains("+committed"), "{head}");
    let base = text(Against::Base).await;
    assert!(base.contains("+not committed") && base.contains("+committed"), "{base}");
    bench.write("ann", "src/a.txt", &"long line\n".repeat(100_000));
    let diff = workspace.diff(Against::Head, 1000).await.unwrap();
    assert!(diff.truncated && diff.text.len() == 1000);
    assert!(!workspace.diff(Against::Head, 10 << 20).await.unwrap().truncated);
}

#[tokio::test]
async fn what_others_pushed_is_never_overwritten() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    bench.write("ann", "mine", "1");
    commit(&workspace, "mine").await;
    workspace.push().await.unwrap();
    let theirs = bench.commit("agent/ann", &[("theirs", "x")], "theirs");
    bench.write("ann", "mine", "2");
    commit(&workspace, "more").await;
    let error = workspace.push().await.unwrap_err();
    assert!(matches!(&error, Error::Rejected { branch, .. } if branch == "agent/ann"), "{error:?}");
    assert_eq!(bench.remote("agent/ann"), theirs);
}

#[tokio::test]
async fn a_rebase_replaces_what_the_agent_itself_pushed() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    bench.write("ann", "mine", "1");
    commit(&workspace, "mine").await;
    workspace.push().await.unwrap();
    let main = bench.commit("main", &[("theirs", "x")], "theirs");
    assert_eq!(workspace.fetch().await.unwrap().upstream.unwrap().as_str(), main);
    let head = workspace.rebase().await.unwrap();
    assert_eq!(git(&bench.path("ann"), ["rev-parse", "HEAD~1"]), main);
    assert_eq!(bench.read("ann", "theirs"), "x");
    assert_eq!(workspace.push().await.unwrap(), head);
    assert_eq!(bench.remote("agent/ann"), head.as_str());
}

#[tokio::test]
async fn a_rebase_takes_in_what_others_pushed_to_the_agents_branch() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    bench.write("ann", "mine", "1");
    commit(&workspace, "mine").await;
    workspace.push().await.unwrap();
    let theirs = bench.commit("agent/ann", &[("theirs", "x")], "theirs");
    bench.commit("main", &[("later", "x")], "later");
    bench.write("ann", "mine", "2");
    commit(&workspace, "mine again").await;
    assert_eq!(workspace.push().await.unwrap_err().code(), "rejected");
    workspace.fetch().await.unwrap();
    let head = workspace.rebase().await.unwrap();
    assert_eq!(git(&bench.path("ann"), ["rev-parse", "HEAD~1"]), theirs);
    assert_eq!(workspace.push().await.unwrap(), head);
    assert_eq!(git(&bench.server.path("town.git"), ["show", "agent/ann:theirs"]), "x");
    // With theirs below its own it goes on as before.
    workspace.fetch().await.unwrap();
    workspace.rebase().await.unwrap();
    assert_eq!(bench.read("ann", "later"), "x");
}

/// Writes a hook of the server.
fn hook(bench: &Bench, name: &str, script: &str) {
    let path = bench.server.path("town.git").join("hooks").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
}

/// Commits of which the mirror does not know whether they are on the remote.
fn in_doubt(bench: &Bench) -> usize {
    let mirror = bench.root().join("rigs/town/mirror.git");
    git(&mirror, ["for-each-ref", "refs/pushing"]).lines().count()
}

#[tokio::test]
async fn a_push_whose_end_nobody_saw_is_the_agents_own() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    bench.write("ann", "mine", "1");
    commit(&workspace, "mine").await;
    workspace.push().await.unwrap();
    bench.write("ann", "mine", "2");
    let id = commit(&workspace, "more").await;
    let held = bench.folder.path().join("held");
    std::fs::write(&held, "").unwrap();
    hook(&bench, "post-receive", &format!("while [ -e {} ]; do sleep 0.01; done", held.display()));
    tokio::select! {
        done = workspace.push() => panic!("{done:?}"),
        () = async {
            while bench.remote("agent/ann") != id {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        } => {}
    }
    std::fs::remove_file(held).unwrap();
    let main = bench.commit("main", &[("theirs", "x")], "theirs");
    workspace.fetch().await.unwrap();
    let head = workspace.rebase().await.unwrap();
    assert_eq!(git(&bench.path("ann"), ["rev-parse", "HEAD~2"]), main);
    workspace.fetch().await.unwrap();
    assert_eq!(workspace.rebase().await.unwrap(), head, "its own is not what others pushed");
    assert_eq!(git(&bench.path("ann"), ["for-each-ref", "refs/pushing"]), "");
    assert_eq!(workspace.push().await.unwrap(), head);
    assert_eq!((bench.remote("agent/ann").as_str(), in_doubt(&bench)), (head.as_str(), 0));
}

#[tokio::test]
async fn notes_of_pushes_that_fail_do_not_pile_up() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    bench.server.misbehave(Some(git_server::Fault::Status(500)));
    for round in 1..=6 {
        bench.write("ann", "mine", &round.to_string());
        commit(&workspace, "mine").await;
        for _ in 0..2 {
            workspace.push().await.unwrap_err();
            assert_eq!(in_doubt(&bench), round.min(4));
        }
    }
    bench.server.misbehave(None);
    workspace.push().await.unwrap();
    assert_eq!(in_doubt(&bench), 0);
    hook(&bench, "pre-receive", "exit 1");
    bench.write("ann", "mine", "refused");
    commit(&workspace, "mine").await;
    assert_eq!(workspace.push().await.unwrap_err().code(), "rejected");
    assert_eq!(in_doubt(&bench), 0, "the remote does not have it");
    bench.server.misbehave(Some(git_server::Fault::Status(401)));
    assert_eq!(workspace.push().await.unwrap_err().code(), "unauthorized");
    assert_eq!(in_doubt(&bench), 0, "nor what it did not let in");
    bench.server.misbehave(Some(git_server::Fault::Status(500)));
    workspace.push().await.unwrap_err();
    assert_eq!(in_doubt(&bench), 1);
    bench.server.misbehave(None);
    bench.write("ann", "mine", "refused again");
    commit(&workspace, "mine").await;
    let refused = workspace.push().await.unwrap_err().to_string();
    assert!(refused.contains("hook declined"), "a doubt hides no reason: {refused}");
}

#[tokio::test]
async fn a_commit_of_others_that_was_pushed_again_is_replaced_by_nothing() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    bench.write("ann", "mine", "1");
    commit(&workspace, "mine").await;
    workspace.push().await.unwrap();
    let theirs = bench.commit("agent/ann", &[("theirs", "1")], "theirs");
    workspace.fetch().await.unwrap();
    workspace.rebase().await.unwrap();
    bench.server.misbehave(Some(git_server::Fault::Status(500)));
    workspace.push().await.unwrap_err();
    assert_eq!(in_doubt(&bench), 0, "the remote has it already");
    bench.server.misbehave(None);
    let own = ["-c", "user.name=ann", "-c", "user.email=ann@town.invalid"];
    let amend = ["commit", "--quiet", "--amend", "--message", "mine now"];
    git(&bench.path("ann"), own.iter().chain(&amend).copied());
    assert_eq!(workspace.push().await.unwrap_err().code(), "rejected");
    assert_eq!(bench.remote("agent/ann"), theirs);
}

#[tokio::test]
async fn a_branch_whose_name_is_no_utf8_hides_no_other() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let bare = bench.server.path("town.git");
    let head = bench.remote("main");
    let mut packed = std::fs::read(bare.join("packed-refs")).unwrap_or_default();
    packed.extend_from_slice(format!("{head} refs/heads/caf").as_bytes());
    packed.extend_from_slice(b"\xE9\n");
    std::fs::write(bare.join("packed-refs"), packed).unwrap();
    let workspace = bench.ready(&workspaces, "ann").await;
    assert_eq!(workspace.status().await.unwrap().head.unwrap().as_str(), head);
}

#[tokio::test]
async fn a_conflict_of_a_rebase_leaves_the_tree_as_before() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    bench.write("ann", "README.md", "mine\n");
    bench.write("ann", "good", "x");
    let head = commit(&workspace, "mine").await;
    bench.write("ann", "untracked", "u");
    bench.commit("main", &[("README.md", "theirs\n"), ("untracked2", "x")], "theirs");
    workspace.fetch().await.unwrap();
    let error = workspace.rebase().await.unwrap_err();
    assert_eq!(error, Error::Conflict { files: vec!["README.md".to_owned()] });
    let path = bench.path("ann");
    assert_eq!(git(&path, ["rev-parse", "HEAD"]), head);
    assert_eq!(git(&path, ["rev-parse", "--abbrev-ref", "HEAD"]), "agent/ann");
    assert_eq!(git(&path, ["status", "--porcelain"]), "?? untracked");
    assert_eq!(bench.read("ann", "README.md"), "mine\n");
    assert!(!path.join(".git/rebase-merge").exists());
    bench.write("ann", "good", "changed");
    assert_eq!(workspace.rebase().await.unwrap_err(), Error::Uncommitted);
    git(&path, ["checkout", "--quiet", "--detach", "--force"]);
    assert_eq!(workspace.rebase().await.unwrap_err().code(), "wrong-branch");
}

#[tokio::test]
async fn what_is_saved_is_on_the_remote_and_saved_once() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    bench.write("ann", "half", "done");
    let Saved::All(saved) = workspace.save("wip: drain").await.unwrap() else { panic!() };
    assert_eq!(bench.remote("agent/ann"), saved.as_str());
    let requests = bench.server.counts().requests;
    assert_eq!(workspace.save("wip: again").await.unwrap(), Saved::Nothing);
    assert_eq!(bench.server.counts().requests, requests, "and nobody is asked");
    // Another host goes on with it.
    workspaces.discard("ann").await.unwrap();
    let workspace = bench.ready(&workspaces, "ann").await;
    assert_eq!(bench.read("ann", "half"), "done");
    git(&bench.path("ann"), ["checkout", "--quiet", "--detach"]);
    bench.write("ann", "half", "more");
    assert_eq!(workspace.save("x").await.unwrap_err().code(), "wrong-branch");
}

#[tokio::test]
async fn what_is_not_finished_is_not_saved_and_what_stays_is_named() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    let path = bench.path("ann");
    // A stash stays behind, and nobody is asked twice for the rest.
    bench.write("ann", "README.md", "stashed\n");
    git(&path, ["stash", "--quiet"]);
    bench.write("ann", "half", "done");
    let Saved::Part { commit, why } = workspace.save("x").await.unwrap() else { panic!() };
    assert_eq!(bench.remote("agent/ann"), commit.as_str());
    assert!(why.contains("stash"), "{why}");
    let requests = bench.server.counts().requests;
    assert!(matches!(workspace.save("x").await.unwrap(), Saved::Part { .. }));
    assert_eq!(bench.server.counts().requests, requests);
    // A merge that stopped at a conflict.
    git(&path, ["stash", "drop", "--quiet"]);
    git(&path, ["branch", "other"]);
    bench.write("ann", "README.md", "mine\n");
    git(&path, ["commit", "--quiet", "--all", "-m", "mine"]);
    git(&path, ["checkout", "--quiet", "other"]);
    bench.write("ann", "README.md", "theirs\n");
    git(&path, ["commit", "--quiet", "--all", "-m", "theirs"]);
    git(&path, ["checkout", "--quiet", "agent/ann"]);
    assert!(!try_git(&path, ["merge", "other"]).status.success());
    assert_eq!(workspace.save("x").await.unwrap_err().code(), "unfinished");
    assert!(path.join(".git/MERGE_HEAD").exists(), "it is as before");
}

#[tokio::test]
async fn a_merge_reaches_the_target_or_names_the_files() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    bench.write("ann", "src/a.txt", "one\ntwo\nthree\nfour\n");
    let source = commit(&workspace, "four").await;
    workspace.push().await.unwrap();
    let target = bench.commit("main", &[("README.md", "theirs\n")], "theirs");
    let merge = async |source, target| {
        workspaces.merge(&bench.rig(), source, target, "merge it", &author()).await
    };
    let Ok(Merge::Merged { commit: merged }) = merge("agent/ann", "main").await else { panic!() };
    assert_eq!(bench.remote("main"), merged.as_str());
    let bare = bench.server.path("town.git");
    assert_eq!(
        git(&bare, ["log", "-1", "--format=%P %an", "main"]),
        format!("{target} {source} Polecat")
    );
    assert_eq!(git(&bare, ["show", "main:src/a.txt"]), "one\ntwo\nthree\nfour");
    assert_eq!(merge("agent/ann", "main").await.unwrap(), Merge::Merged { commit: merged.clone() });
    bench.commit("other", &[("README.md", "mine\n"), ("src/a.txt", "x\n")], "a");
    bench.commit("main", &[("README.md", "ours\n"), ("src/a.txt", "y\n")], "b");
    let before = bench.remote("main");
    let files = vec!["README.md".to_owned(), "src/a.txt".to_owned()];
    assert_eq!(merge("other", "main").await.unwrap(), Merge::Conflict { files });
    assert_eq!(bench.remote("main"), before);
    assert_eq!(
        merge("absent", "main").await.unwrap_err(),
        Error::BranchMissing("absent".to_owned())
    );
    // Servers that protect a branch refuse with reasons.
    hook(&bench, "pre-receive", "echo policy: no pushes on Monday; exit 1");
    bench.commit_locally("late", &[("late", "x")]);
    let error = merge("late", "main").await.unwrap_err();
    assert!(
        matches!(&error, Error::Rejected { why, .. } if why.contains("hook declined); policy: no pushes on Monday")),
        "{error:?}"
    );
}

#[tokio::test]
async fn push_survives_what_the_remote_does() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    bench.write("ann", "x", "x");
    let id = commit(&workspace, "x").await;
    bench.server.misbehave(Some(git_server::Fault::Status(500)));
    for error in [workspace.push().await.unwrap_err(), workspace.fetch().await.unwrap_err()] {
        assert_eq!((error.code(), error.is_of_remote()), ("clone-failed", true), "{error}");
    }
    // A server that knows the credential, and refuses all the same, is heard.
    *bench.keyring.kept.lock() = Some(("u".to_owned(), "right".to_owned()));
    bench.server.misbehave(Some(git_server::Fault::Status(403)));
    for error in [workspace.push().await.unwrap_err(), workspace.fetch().await.unwrap_err()] {
        assert!(error.is_of_remote() && error.to_string().contains("403"), "{error}");
    }
    bench.server.misbehave(None);
    bench.server.want(Some(("u", "new")));
    assert_eq!(workspace.push().await.unwrap_err().code(), "unauthorized");
    *bench.keyring.fresh.lock() = Some(("u".to_owned(), "new".to_owned()));
    assert_eq!(workspace.push().await.unwrap().as_str(), id);
}

#[tokio::test]
async fn what_is_too_large_is_not_pushed() {
    let mut bench = Bench::new();
    bench.settings.pack_bytes = 10_000;
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    let noise: String = (0..50_000).map(|_| fastrand::alphanumeric()).collect();
    bench.write("ann", "noise", &noise);
    commit(&workspace, "noise").await;
    let error = workspace.push().await.unwrap_err();
    assert_eq!(error, Error::TooLarge { what: "pack-objects", limit_bytes: 10_000 });
    workspace.status().await.unwrap();
}

#[tokio::test]
async fn a_full_workspace_takes_nothing_but_the_commit_that_saves_it() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let limit = DiskLimit { bytes: 400_000, entries: 1000 };
    let request = Request { limit, ..bench.request("ann") };
    bench.prepare(&workspaces, &request).await.unwrap();
    let workspace = workspaces.workspace("ann").await.unwrap();
    bench.write("ann", "a", &"x".repeat(300_000));
    assert!(workspace.checkpoint("fits").await.is_ok());
    bench.write("ann", "b", &"x".repeat(100_000));
    let full = Error::Full(limit);
    assert_eq!(workspace.checkpoint("more").await.unwrap_err(), full);
    assert_eq!(workspace.restore(1).await.unwrap_err(), full);
    let commit = workspace.commit("more", &author(), &Paths::All).await;
    assert_eq!(commit.unwrap_err(), full);
    // What only reads still answers, and what the agent leaves is worth more than its limit.
    assert_eq!(workspace.status().await.unwrap().changes.len(), 2);
    assert!(matches!(workspace.save("rescue").await, Ok(Saved::All(_))));
    bench.write("ann", "c", &"x".repeat(500_000));
    let full = Error::Full(DiskLimit { bytes: 800_000, entries: 2000 });
    assert_eq!(workspace.save("rescue").await.unwrap_err(), full);
    std::fs::remove_file(bench.path("ann").join("c")).unwrap();
    std::fs::remove_file(bench.path("ann").join("a")).unwrap();
    assert!(workspace.commit("less", &author(), &Paths::All).await.unwrap().is_some());
}
