//! What is kept of a workspace: checkpoints, commits, what is saved; and what git would leave out of them.

use crate::support;

use crate::support::{Bench, author, git, try_git};
use bulkhead_workspace::{Against, Error, Paths, Pushed, Request, Saved, Settings};

#[tokio::test]
async fn a_checkpoint_brings_back_files_of_every_kind() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    let path = bench.path("ann");
    bench.write("ann", "README.md", "staged\n");
    git(&path, ["add", "README.md"]);
    bench.write("ann", "README.md", "staged and changed\n");
    bench.write("ann", "untracked/file", "u");
    std::fs::remove_file(path.join("src/a.txt")).unwrap();
    let before = (
        git(&path, ["status", "--porcelain"]),
        git(&path, ["rev-parse", "HEAD"]),
        git(&path, ["ls-files", "--stage"]),
    );
    let kept = workspace.checkpoint("before the storm").await.unwrap();
    let state = || {
        (
            git(&path, ["status", "--porcelain"]),
            git(&path, ["rev-parse", "HEAD"]),
            git(&path, ["ls-files", "--stage"]),
        )
    };
    assert_eq!(state(), before);
    bench.write("ann", "README.md", "lost\n");
    bench.write("ann", "src/a.txt", "back\n");
    bench.write("ann", "later", "x");
    std::fs::remove_dir_all(path.join("untracked")).unwrap();
    git(&path, ["add", "--all"]);
    workspace.restore(kept.id).await.unwrap();
    assert_eq!(state(), before);
    assert_eq!(bench.read("ann", "README.md"), "staged and changed\n");
    assert_eq!(bench.read("ann", "untracked/file"), "u");
    assert!(!path.join("later").exists() && !path.join("src/a.txt").exists());
    assert_eq!(workspace.checkpoints().await.unwrap(), [kept]);
    assert_eq!(workspace.restore(77).await.unwrap_err(), Error::NoCheckpoint(77));
}

#[tokio::test]
async fn a_restore_leaves_what_the_checkpoint_ignored() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    let path = bench.path("ann");
    let kept_names = ["keep.log", ".env", "src/deep/x", ":(top)y.log"];
    bench.write("ann", ".gitignore", "*.log\n.env\n");
    bench.write("ann", "src/.gitignore", "deep/\n");
    kept_names.iter().for_each(|name| bench.write("ann", name, "only here"));
    let kept = workspace.checkpoint("before").await.unwrap();
    bench.write("ann", ".gitignore", "build/\n");
    bench.write("ann", "src/.gitignore", "!deep/\n");
    bench.write("ann", "other/.gitignore", "!keep.log\n");
    bench.write("ann", "build/later", "x");
    bench.write("ann", "later", "x");
    workspace.restore(kept.id).await.unwrap();
    assert_eq!(bench.read("ann", ".gitignore"), "*.log\n.env\n");
    assert_eq!(bench.read("ann", "src/.gitignore"), "deep/\n");
    for name in kept_names {
        assert_eq!(bench.read("ann", name), "only here");
    }
    assert!(path.join("build/later").exists(), "it was ignored until now");
    assert!(!path.join("later").exists() && !path.join("other").exists());
}

#[tokio::test]
async fn a_checkpoint_without_files_of_a_repository_is_none() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    let path = bench.path("ann");
    bench.write("ann", "file", "1");
    let kept = workspace.checkpoint("before").await.unwrap();
    for has_commit in [false, true] {
        bench.write("ann", "deps/sub/file", "x");
        git(&path.join("deps/sub"), ["init", "--quiet"]);
        if has_commit {
            git(&path.join("deps/sub"), ["commit", "--quiet", "--allow-empty", "-m", "x"]);
        }
        let error = workspace.checkpoint("nested").await.unwrap_err();
        assert_eq!(error, Error::Nested("deps/sub".to_owned()));
        bench.write("ann", "file", "2");
        workspace.restore(kept.id).await.unwrap();
        assert_eq!(
            (bench.read("ann", "file"), bench.read("ann", "deps/sub/file")),
            ("1".into(), "x".into())
        );
        std::fs::remove_dir_all(path.join("deps")).unwrap();
    }
    bench.write("ann", ".gitignore", "sub/\n");
    git(&path, ["init", "--quiet", "deps/sub"]);
    workspace.checkpoint("ignored").await.unwrap();
    assert_eq!(workspace.checkpoints().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_repository_without_a_commit_is_in_nobodys_way() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    let path = bench.path("ann");
    git(&path, ["init", "--quiet", "sub"]);
    bench.write("ann", "one", "1");
    assert!(workspace.commit("one", &author(), &Paths::All).await.unwrap().is_some());
    assert_eq!(workspace.status().await.unwrap().changes[0].path, b"sub/");
    bench.write("ann", "two", "2");
    let Saved::Part { commit, why } = workspace.save("x").await.unwrap() else { panic!() };
    assert_eq!(why, "not committed: sub/");
    let bare = bench.server.path("town.git");
    assert_eq!(git(&bare, ["show", &format!("{commit}:two")]), "2");
    assert!(workspace.commit("none", &author(), &Paths::All).await.unwrap().is_none());
    let only = Paths::Only(vec!["sub".into()]);
    assert!(workspace.commit("sub", &author(), &only).await.is_err());
}

#[tokio::test]
async fn old_checkpoints_are_dropped_and_a_conflict_does_not_prevent_one() {
    let mut bench = Bench::new();
    bench.settings = Settings { checkpoints: 3, ..support::settings() };
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    let path = bench.path("ann");
    for n in 1..=5 {
        bench.write("ann", "file", &n.to_string());
        workspace.checkpoint(&format!("number {n}")).await.unwrap();
    }
    let ids: Vec<_> = workspace.checkpoints().await.unwrap().iter().map(|kept| kept.id).collect();
    assert_eq!(ids, [3, 4, 5]);
    workspace.restore(3).await.unwrap();
    assert_eq!(bench.read("ann", "file"), "3");
    git(&path, ["checkout", "--quiet", "-b", "x"]);
    bench.write("ann", "README.md", "x\n");
    git(&path, ["commit", "--quiet", "-am", "x"]);
    git(&path, ["checkout", "--quiet", "-b", "y", "HEAD~1"]);
    bench.write("ann", "README.md", "y\n");
    git(&path, ["commit", "--quiet", "-am", "y"]);
    let merge = try_git(&path, ["merge", "x"]);
    assert!(!merge.status.success(), "{merge:?}");
    let kept = workspace.checkpoint("conflict").await.unwrap();
    bench.write("ann", "README.md", "gone");
    workspace.restore(kept.id).await.unwrap();
    assert!(bench.read("ann", "README.md").contains("<<<<<<<"));
}

#[tokio::test]
async fn rules_that_are_in_no_commit_hide_no_work() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    let path = bench.path("ann");
    bench.write("ann", ".gitignore", "*.log\nbuild/\n");
    workspace.save("rules").await.unwrap();
    bench.write("ann", "a.log", "x");
    bench.write("ann", "build/x", "x");
    assert!(workspace.pushed().await.is_pushed());
    bench.write("ann", "a.work", "1");
    std::fs::write(path.join(".git/info/exclude"), "*.work\nvendor\n").unwrap();
    let why = |path: &str| Pushed::No { why: format!("not committed: {path}") };
    assert_eq!(workspace.pushed().await, why("a.work"));
    assert!(matches!(workspace.save("x").await.unwrap(), Saved::All(_)));
    bench.write("ann", ".git/rules", "*.work\n");
    git(&path, ["config", "core.excludesFile", ".git/rules"]);
    bench.write("ann", "deep/b.work", "2");
    assert_eq!(workspace.pushed().await, why("deep/"));
    let Saved::All(saved) = workspace.save("x").await.unwrap() else { panic!() };
    let bare = bench.server.path("town.git");
    let names = git(&bare, ["ls-tree", "-r", "--name-only", saved.as_str()]);
    assert!(names.contains("a.work") && names.contains("deep/b.work"), "{names}");
    assert!(!names.contains("log") && !names.contains("build"), "{names}");
    git(&path, ["init", "--quiet", "vendor"]);
    let Saved::Part { why, .. } = workspace.save("x").await.unwrap() else { panic!() };
    assert_eq!(why, "not committed: vendor/");
}

/// Leaves a merge that stopped at `README.md`.
fn stop_a_merge(bench: &Bench) {
    let path = bench.path("ann");
    for (branch, text) in [("theirs", "theirs\n"), ("mine", "mine\n")] {
        git(&path, ["checkout", "--quiet", "-b", branch, "origin/main"]);
        bench.write("ann", "README.md", text);
        git(&path, ["commit", "--quiet", "--all", "-m", branch]);
    }
    assert!(!try_git(&path, ["merge", "theirs"]).status.success());
}

#[tokio::test]
async fn marks_of_a_conflict_are_not_committed() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    let path = bench.path("ann");
    stop_a_merge(&bench);
    bench.write("ann", "other", "x");
    let conflict = Error::Conflict { files: vec!["README.md".to_owned()] };
    for paths in [Paths::All, Paths::Only(vec!["README.md".into()])] {
        let error = workspace.commit("merge", &author(), &paths).await.unwrap_err();
        assert_eq!(error, conflict);
    }
    assert_eq!(git(&path, ["status", "--porcelain"]), "UU README.md\n?? other");
    bench.write("ann", "README.md", "both\n");
    git(&path, ["add", "README.md"]);
    workspace.commit("merge", &author(), &Paths::All).await.unwrap().unwrap();
    assert_eq!(git(&path, ["show", "--no-patch", "--format=%s"]), "merge");
    assert!(!path.join(".git/MERGE_HEAD").exists());
}

#[tokio::test]
async fn a_path_that_cannot_be_committed_is_the_callers_mistake() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    bench.write("ann", ".gitignore", "*.log\n");
    bench.write("ann", "a.log", "x");
    bench.write("ann", "fine", "x");
    git(&bench.path("ann"), ["init", "--quiet", "sub"]);
    for path in ["absent", "../x", "/etc/passwd", "a.log", "", "a\0b", "sub"] {
        let paths = Paths::Only(vec![path.into()]);
        let error = workspace.commit("x", &author(), &paths).await.unwrap_err();
        assert_eq!(error.code(), "invalid", "{path:?}: {error}");
    }
    assert!(workspace.commit("x", &author(), &Paths::All).await.unwrap().is_some());
}

#[tokio::test]
async fn a_difference_without_a_remote_is_all_there_is() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let request = Request { lightweight: true, ..bench.request("ann") };
    bench.prepare(&workspaces, &request).await.unwrap();
    let workspace = workspaces.workspace("ann").await.unwrap();
    bench.write("ann", "one", "committed\n");
    workspace.commit("one", &author(), &Paths::All).await.unwrap().unwrap();
    let diff = workspace.diff(Against::Base, 1 << 20).await.unwrap();
    assert!(String::from_utf8(diff.text).unwrap().contains("+committed"));
    // With a remote whose branch is gone it is nothing.
    let workspace = bench.ready(&workspaces, "bob").await;
    git(&bench.path("bob"), ["update-ref", "-d", "refs/remotes/origin/main"]);
    let error = workspace.diff(Against::Base, 1 << 20).await.unwrap_err();
    assert_eq!(error, Error::BranchMissing("main".to_owned()));
}

#[tokio::test]
async fn a_broken_repository_is_named_at_the_next_start() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    bench.ready(&workspaces, "ann").await;
    let path = bench.path("ann").join(".git");
    std::fs::remove_file(path.join("HEAD")).unwrap();
    std::fs::remove_dir_all(path.join("refs")).unwrap();
    let error = bench.prepare(&workspaces, &bench.request("ann")).await.unwrap_err();
    assert_eq!(error.code(), "occupied");
    assert!(error.to_string().contains("broken"), "{error}");
}

#[tokio::test]
async fn an_agent_without_a_rig_does_not_begin_in_a_repository() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let path = bench.path("ann");
    workspaces.check_free("ann", &path).await.unwrap();
    bench.ready(&workspaces, "ann").await;
    let error = workspaces.check_free("ann", &path).await.unwrap_err();
    assert_eq!(error, Error::Occupied("branch agent/ann of rig town".to_owned()));
    workspaces.check_free("bob", &bench.path("bob")).await.unwrap();
    std::fs::remove_dir_all(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    workspaces.check_free("ann", &path).await.unwrap();
}
