//! Agents that work on a repository: real git over smart HTTP, from the start request to the branch on the server.

mod limits;
pub mod remote;

use std::process::Command;

use bulkhead_api::{
    DiffView, EntryKind, ExecAnswer, FilesView, MergeAnswer, RigView, SeenView, WorkspaceList,
    WorkspaceView,
};
use bulkhead_types::{ExitReason, Phase, ToolEnd};
use git_server::Fault;
use harness::{Host, HostBuilder, Value, files, json, wait_until};
use rustix::process::Signal;

use remote::{Remote, text};

const TOKEN: &str = "ghp-0123456789-hush";

/// A host whose agents work on repositories and may run git and a shell.
fn builder(remote: &Remote, more: &str) -> HostBuilder {
    let rig = format!("[rigs.demo]\nurl = \"{}\"\n{more}", remote.server.url("demo.git"));
    Host::builder()
        .component("toolbox", &files::component("toolbox"))
        .role("toolbox", "toolbox", "git = true\ntools = [\"git\", \"sh\"]")
        .toml(&rig)
}

fn start(host: &Host, more: Value) -> harness::Answer {
    let mut request = json!({"rigId": "demo"});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    host.client().start_with("toast", "toolbox", request)
}

#[track_caller]
fn ask(host: &Host, order: Value) -> Value {
    let reply = host.client().ask("toast", &order.to_string());
    serde_json::from_str(&reply).unwrap_or_else(|error| panic!("{error}: {reply}"))
}

fn sh(host: &Host, script: &str) -> Value {
    ask(host, json!({"do": "run", "run": ["sh", "-c", script]}))
}

#[test]
fn an_agent_begins_in_its_repository_and_its_branch_gets_to_the_server() {
    let remote = Remote::new();
    let host = builder(&remote, "").start();
    start(&host, json!({"name": "Toast"})).expect(201);
    let line =
        host.wait_for_line("its repository", |line| line["event"] == "agent.workspace_prepared");
    assert_eq!(
        (&line["rig"], &line["branch"]),
        (&json!("demo"), &json!("bulkhead/toast")),
        "{line}"
    );
    assert_eq!(line["head"], remote.git(&["rev-parse", "main"]), "{line}");
    let status = ask(&host, json!({"do": "status"}));
    assert_eq!((&status["branch"], &status["changes"]), (&line["branch"], &json!([])), "{status}");

    // With files as the agent has them, and with git as a program in its sandbox.
    ask(&host, json!({"do": "write-file", "directory": "notes.md", "stdin": "found it\n"}));
    let ran = sh(&host, "cat readme.md && git log --oneline | wc -l && git status --short");
    assert_eq!(
        (&ran["code"], &ran["stdout"]),
        (&json!(0), &json!("# Demo\n1\n?? notes.md\n")),
        "{ran}"
    );
    let diff = ask(&host, json!({"do": "diff"}));
    assert_eq!(diff["text"], "", "what git does not know is no difference: {diff}");
    let committed = ask(&host, json!({"do": "commit", "say": "note it"}));
    assert!(committed["commit"].is_string(), "{committed}");
    let pushed = ask(&host, json!({"do": "push"}));
    assert_eq!(pushed["commit"], committed["commit"], "{pushed}");
    assert_eq!(remote.git(&["rev-parse", "bulkhead/toast"]), committed["commit"], "on the server");
    let by = remote.git(&["log", "-1", "--format=%an <%ae>", "bulkhead/toast"]);
    assert_eq!(by, "Toast <toast@agents.invalid>");
    assert_eq!(ask(&host, json!({"do": "log"}))["subjects"], json!(["note it", "first"]));
    host.finish();
}

#[test]
fn a_workspace_outlives_its_agent_and_the_host() {
    let remote = Remote::new();
    let mut host = builder(&remote, "").start();
    start(&host, json!({})).expect(201);
    ask(&host, json!({"do": "write-file", "directory": "draft", "stdin": "half"}));
    host.client().stop("toast").expect(200);
    host.signal(Signal::TERM);
    host.wait();
    // No network is needed to go on.
    remote.server.misbehave(Some(Fault::Status(500)));
    let host = host.restart().ready();
    start(&host, json!({})).expect(201);
    let line =
        host.wait_for_line("its repository", |line| line["event"] == "agent.workspace_prepared");
    assert_eq!(line["reused"], true, "{line}");
    assert_eq!(ask(&host, json!({"do": "status"}))["changes"], json!(["draft"]));
    host.finish();
}

#[test]
fn a_token_gets_to_the_server_and_nowhere_else() {
    let remote = Remote::new();
    remote.server.want(Some(("git", TOKEN)));
    let host = builder(&remote, &format!("token = \"{TOKEN}\"")).start();
    start(&host, json!({})).expect(201);
    assert!(!remote.server.authorizations().is_empty());
    // Neither in the repository, nor in an environment, nor among processes.
    let ran = sh(&host, "grep -ra 'ghp-[0]' . /proc/[0-9]*/environ /proc/[0-9]*/cmdline; env");
    assert!(ran["stdout"].as_str().unwrap().contains("PATH="), "{ran}");
    assert!(!ran.to_string().contains("ghp-01"), "{ran}");
    ask(&host, json!({"do": "write-file", "directory": "x", "stdin": "x"}));
    ask(&host, json!({"do": "commit", "say": "x"}));
    assert!(ask(&host, json!({"do": "push"}))["commit"].is_string());
    let found =
        Command::new("grep").args(["-rl", TOKEN, text(&host.state_dir())]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "nothing of it on the disk");
    for line in host.finish() {
        assert!(!line.to_string().contains(TOKEN), "{line}");
    }
}

#[test]
fn why_there_is_no_repository_is_said_to_the_caller_and_recorded() {
    let remote = Remote::new();
    remote.server.want(Some(("git", TOKEN)));
    let host = builder(&remote, "").start();
    let refused = start(&host, json!({})).expect_error(502, &["clone-failed"]);
    assert_eq!(refused.phase.as_deref(), Some("workspace"), "{refused:?}");
    assert!(refused.error.contains("credential"), "{refused:?}");
    let record = host.client().crash(&refused.crash_id.unwrap());
    assert_eq!((record.reason, record.phase), (ExitReason::StartFailed, Phase::Workspace));
    assert_eq!(record.code.as_deref(), Some("unauthorized"), "{record:?}");

    remote.server.want(None);
    let missing = start(&host, json!({"startPoint": "no-such-branch", "force": true}));
    let missing = missing.expect_error(400, &["invalid-request"]);
    assert!(missing.error.contains("no-such-branch"), "{missing:?}");
    for (more, text) in [
        (json!({"rigId": "other"}), "no gitUrl"),
        (json!({"gitUrl": "https://example.invalid/x.git"}), "not the url of [rigs.demo]"),
        (json!({"rigId": "other", "gitUrl": "http://example.invalid/x.git"}), "https://"),
    ] {
        let refused = start(&host, more).expect_error(400, &["invalid-request"]);
        assert!(refused.error.contains(text), "{refused:?}");
    }
    // The host is as well as before.
    start(&host, json!({"force": true})).expect(201);
    host.finish();
}

#[test]
fn a_server_that_is_down_quarantines_nobody_and_what_is_sent_meanwhile_waits() {
    let remote = Remote::new();
    remote.server.misbehave(Some(Fault::Status(500)));
    let settings = "git = true\nrestart = \"transient\"\nrestart_backoff_ms = 20\n\
                    restart_backoff_max_ms = 20";
    let host = Host::builder()
        .component("toolbox", &files::component("toolbox"))
        .role("toolbox", "toolbox", settings)
        .toml(&format!("[rigs.demo]\nurl = \"{}\"\n", remote.server.url("demo.git")))
        .start();
    start(&host, json!({})).expect_error(502, &["clone-failed"]);
    // More than the restarts that an agent at fault would have.
    host.wait_for_number(&["agent.restart_scheduled"], 8);
    assert_eq!(host.client().status("toast").restart.attempts_in_window, 0);
    host.client().send("toast", &json!({"do": "status"}).to_string()).expect(200);
    remote.server.misbehave(None);
    host.client().reaches("toast", "running");
    wait_until("it has its mail", || host.client().status("toast").message_count == 1);
    host.finish();
}

#[test]
fn a_start_for_another_branch_is_refused_and_what_runs_goes_on_with_its_mail() {
    let remote = Remote::new();
    let host = builder(&remote, "").start();
    let client = host.client();
    start(&host, json!({})).expect(201);
    std::thread::scope(|scope| {
        let order =
            json!({"do": "run", "run": ["sh", "-c", "until test -e go; do sleep 0.1; done"]});
        let first = scope.spawn(move || client.send_wait("toast", &order.to_string()));
        wait_until("it is at work", || client.status("toast").message_count == 1);
        let second =
            scope.spawn(|| client.send_wait("toast", &json!({"do": "status"}).to_string()));
        wait_until("another message waits", || client.status("toast").mailbox_depth == 1);
        let refused = start(&host, json!({"branch": "feature/x"}));
        refused.expect_error(409, &["occupied", "bulkhead/toast"]);
        let refused = start(&host, json!({"branch": "a..b"}));
        refused.expect_error(400, &["a..b"]);
        std::fs::write(host.workspace("toast").join("go"), "").expect("write into the workspace");
        for caller in [first, second] {
            caller.join().unwrap().expect(200);
        }
    });
    assert_eq!(client.status("toast").incarnation.0, 1);
    host.finish();
}

#[test]
fn a_start_that_clones_can_be_stopped() {
    let remote = Remote::new();
    remote.server.misbehave(Some(Fault::Stall));
    let host = builder(&remote, "").start();
    let client = host.client();
    std::thread::scope(|scope| {
        let started = scope.spawn(|| start(&host, json!({})));
        wait_until("it talks to the server", || remote.server.counts().requests > 0);
        client.stop("toast").expect(200);
        started.join().unwrap().expect_error(409, &["superseded"]);
    });
    host.finish();
}

#[test]
fn what_an_agent_did_is_seen_from_outside_also_when_it_is_gone() {
    let remote = Remote::new();
    let host = builder(&remote, "").start();
    let client = host.client();
    client.get("/agents/toast/files").expect_error(404, &["toast"]);
    client.get("/agents/toast/diff").expect_error(404, &["toast"]);
    start(&host, json!({})).expect(201);
    sh(
        &host,
        "mkdir src && printf 'a\\n' >src/a && printf '# Demo\\nmore\\n' >readme.md && ln -s /etc/passwd link",
    );
    for _ in 0..2 {
        let seen = |path: &str| {
            let path = format!("/agents/toast/files{path}");
            client.get(&path).read::<FilesView>(200).seen
        };
        let SeenView::Directory { entries, .. } = seen("") else { panic!("no directory") };
        let names: Vec<_> = entries.iter().map(|entry| (&*entry.name, entry.kind)).collect();
        let expected = [
            (".git", EntryKind::Directory),
            ("link", EntryKind::Link),
            ("readme.md", EntryKind::File),
            ("src", EntryKind::Directory),
        ];
        assert_eq!(names, expected, "{entries:?}");
        let file = seen("?path=readme.md&offset=2");
        let SeenView::File { text, bytes, .. } = &file else { panic!("no file: {file:?}") };
        assert_eq!((&**text, *bytes), ("Demo\nmore\n", 12));
        assert_eq!(seen("?path=link"), SeenView::Link { target: "/etc/passwd".into() });
        for outside in ["../toast", "/etc/passwd", "link/x"] {
            let path = format!("/agents/toast/files?path={outside}");
            client.get(&path).expect_error(400, &["path"]);
        }
        let diff: DiffView = client.get("/agents/toast/diff").read(200);
        assert_eq!((diff.branch.as_deref(), diff.ahead), (Some("bulkhead/toast"), 0));
        assert!(diff.patch.ends_with("\n # Demo\n+more\n"), "{diff:?}");
        let changed: Vec<_> = diff.uncommitted.iter().map(|change| &*change.path).collect();
        assert_eq!(changed, ["readme.md", "link", "src/a"], "{diff:?}");
        client.stop("toast");
        host.wait_for_exit("toast");
    }
    host.finish();
}

#[test]
fn a_program_is_run_in_an_agents_place() {
    let remote = Remote::new();
    let host = builder(&remote, "").start();
    let client = host.client();
    client.post("/agents/toast/exec", &json!({"program": "git"})).expect_error(404, &["toast"]);
    start(&host, json!({})).expect(201);
    let exec = |body: Value| client.post("/agents/toast/exec", &body);
    let ran: ExecAnswer = exec(json!({
        "program": "sh", "arguments": ["-c", "pwd; cat; echo $A >&2; exit 3"], "stdin": "in",
        "environment": {"A": "b"}
    }))
    .read(200);
    assert_eq!((ran.end, ran.code), (ToolEnd::Exited, Some(3)), "{ran:?}");
    assert_eq!((&*ran.stdout, &*ran.stderr), ("/workspace\nin", "b\n"));
    exec(json!({"program": "cat"})).expect_error(403, &["cat", "git, sh"]);
    exec(json!({"program": "sh", "directory": ".."})).expect_error(422, &["directory"]);
    let end = host.wait_for_event("toast", "agent.tool_exited");
    assert_eq!((&end["program"], &end["code"]), (&json!("sh"), &json!(3)), "{end}");
    // It ends with the agent.
    std::thread::scope(|scope| {
        let hangs = scope.spawn(|| exec(json!({"program": "sh", "arguments": ["-c", "sleep 60"]})));
        wait_until("it runs", || host.events_of("toast", "agent.tool_started").len() == 2);
        client.stop("toast").expect(200);
        let ended: ExecAnswer = hangs.join().unwrap().read(200);
        assert_eq!(ended.end, ToolEnd::Cancelled, "{ended:?}");
    });
    exec(json!({"program": "git"})).expect_error(409, &["not running"]);
    host.finish();
}

#[test]
fn a_branch_is_merged_or_its_conflicts_are_named() {
    let remote = Remote::new();
    let host = builder(&remote, "").start();
    let client = host.client();
    let rig: RigView = client.post("/rigs/demo/prepare", &json!({})).read(200);
    assert_eq!((rig.head, rig.branches), (Some(remote.git(&["rev-parse", "main"])), 1));
    client.post("/rigs/other/prepare", &json!({})).expect_error(404, &["gitUrl", "demo"]);
    client
        .post("/rigs/other/prepare", &json!({"gitUrl": "http://example.invalid/x.git"}))
        .expect_error(400, &["gitUrl"]);
    let work = |agent: &str, text: &str| {
        let request = json!({"rigId": "demo"});
        client.start_with(agent, "toolbox", request).expect(201);
        for order in [
            json!({"do": "write-file", "directory": "readme.md", "stdin": text}),
            json!({"do": "commit", "say": "work"}),
            json!({"do": "push"}),
        ] {
            let reply = client.ask(agent, &order.to_string());
            assert!(!reply.contains("error"), "{reply}");
        }
    };
    work("one", "# Demo\none\n");
    work("two", "# Demo\ntwo\n");
    let merge = |body: Value| client.post("/rigs/demo/merge", &body);
    merge(json!({"source": "bulkhead/none"})).expect_error(404, &["bulkhead/none"]);
    let merged: MergeAnswer = merge(json!({"source": "bulkhead/one"})).read(200);
    assert_eq!(merged.commit, remote.git(&["rev-parse", "main"]), "{merged:?}");
    let by = remote.git(&["log", "-1", "--format=%an: %s", "main"]);
    assert_eq!(by, "Bulkhead: Merge branch 'bulkhead/one' into main");
    let again: MergeAnswer = merge(json!({"source": "bulkhead/one"})).read(200);
    assert_eq!(again.commit, merged.commit, "there is nothing to merge");
    let conflict = merge(json!({"source": "bulkhead/two"})).expect_error(409, &["readme.md"]);
    assert_eq!(conflict.error_type.as_deref(), Some("conflict"));
    assert_eq!(conflict.files, ["readme.md"]);
    assert_eq!(merged.commit, remote.git(&["rev-parse", "main"]), "as before");
    host.finish();
}

/// A host whose agents leave their work on the server.
fn saving(remote: &Remote, more: &str) -> HostBuilder {
    let rig = format!("[rigs.demo]\nurl = \"{}\"\n{more}", remote.server.url("demo.git"));
    let settings = "git = true\ngit_save = true\ntools = [\"git\", \"sh\"]\nrestart = \"transient\"\n\
        restart_backoff_ms = 1";
    Host::builder()
        .component("toolbox", &files::component("toolbox"))
        .role("toolbox", "toolbox", settings)
        .toml(&rig)
}

#[test]
fn work_survives_its_agent_its_host_and_its_machine() {
    let remote = Remote::new();
    let host = saving(&remote, "").start();
    start(&host, json!({"name": "Toast"})).expect(201);
    let has = |file: &str| remote.git(&["show", &format!("bulkhead/toast:{file}")]);
    // A crash, and a restart that goes on from there.
    sh(&host, "echo one >draft && git config user.name Somebody");
    host.client().send("toast", &json!({"do": "panic"}).to_string());
    host.wait_for_number(&["agent.start"], 3);
    assert_eq!(has("draft"), "one");
    let log = remote.git(&["log", "--format=%an: %s", "bulkhead/toast"]);
    let wip = "Toast: WIP: work of toast at the end of an incarnation (panic)";
    assert_eq!(log, format!("{wip}\nSeed: first"));
    // The message was delivered twice. The second time nothing was new: nothing is said.
    let saved = host.events_of("toast", "agent.work_saved");
    assert_eq!(saved.len(), 1, "{saved:?}");
    assert_eq!(saved[0]["commit"], remote.git(&["rev-parse", "bulkhead/toast"]), "{saved:?}");
    // A drain.
    sh(&host, "echo two >>draft");
    let lines = host.finish();
    assert_eq!(has("draft"), "one\ntwo");
    assert!(lines.iter().any(|line| line["event"] == "agent.exit" && line["reason"] == "drained"));
    // Another machine goes on with it.
    let host = saving(&remote, "").start();
    start(&host, json!({})).expect(201);
    assert_eq!(sh(&host, "cat draft")["stdout"], "one\ntwo\n");
    host.finish();
}

#[test]
fn a_server_that_hangs_holds_up_no_drain() {
    let remote = Remote::new();
    let host = saving(&remote, "[limits]\ndrain_ms = 2500\nshutdown_ms = 1000").start();
    start(&host, json!({})).expect(201);
    sh(&host, "echo one >draft");
    remote.server.misbehave(Some(Fault::Stall));
    let lines = host.finish();
    let not = lines.iter().find(|line| line["event"] == "agent.work_not_saved").expect("its line");
    assert_eq!((&not["code"], &not["rig"]), (&json!("killed"), &json!("demo")), "{not}");
    let drained = lines.iter().find(|line| line["event"] == "container.drained").unwrap();
    assert!(drained["durationMs"].as_u64().unwrap() < 9_000, "{drained}");
}

#[test]
fn work_that_the_server_does_not_take_stays_in_the_workspace() {
    let remote = Remote::new();
    let host = saving(&remote, "").start();
    start(&host, json!({})).expect(201);
    sh(&host, "echo one >draft");
    remote.server.misbehave(Some(Fault::Status(500)));
    host.client().stop("toast").expect(200);
    let not = host.wait_for_event("toast", "agent.work_not_saved");
    assert_eq!(not["branch"], "bulkhead/toast", "{not}");
    // The next incarnation has it, and its end brings it to the server.
    remote.server.misbehave(None);
    start(&host, json!({})).expect(201);
    assert_eq!(sh(&host, "cat draft")["stdout"], "one\n");
    host.client().stop("toast").expect(200);
    assert_eq!(remote.git(&["show", "bulkhead/toast:draft"]), "one");
    host.finish();
}

#[test]
fn workspaces_go_when_their_work_is_on_the_server_and_nobody_uses_them() {
    let remote = Remote::new();
    let host = builder(&remote, "").start();
    let client = host.client();
    for agent in ["pushed", "work", "up"] {
        client.start_with(agent, "toolbox", json!({"rigId": "demo"})).expect(201);
    }
    client.ask(
        "work",
        &json!({"do": "write-file", "directory": "draft", "stdin": "half"}).to_string(),
    );
    for agent in ["pushed", "work"] {
        client.stop(agent).expect(200);
    }
    let list = client.get("/workspaces").read::<WorkspaceList>(200).workspaces;
    let seen = |it: &WorkspaceView| (it.agent_id.to_string(), it.in_use, it.not_pushed.is_none());
    let expected = [("pushed", false, true), ("up", true, true), ("work", false, false)];
    let expected = expected.map(|(agent, used, pushed)| (agent.to_owned(), used, pushed));
    assert_eq!(list.iter().map(seen).collect::<Vec<_>>(), expected, "{list:?}");
    let work = &list[2];
    assert!(work.not_pushed.as_deref().unwrap().contains("draft"), "{work:?}");
    assert!(work.bytes > 4096 && work.rig.as_deref() == Some("demo"), "{work:?}");
    client.delete("/workspaces/up").expect_error(409, &["up", "in use"]);
    client.delete("/workspaces/work").expect_error(409, &["work", "draft"]);
    client.delete("/workspaces/none").expect_error(404, &["none"]);
    client.delete("/workspaces/..%2Fgit").expect_error(400, &["agent"]);
    client.delete("/workspaces/work?force=true").expect(200);
    assert!(!host.workspace("work").exists() && host.workspace("up").exists());
    let removed =
        host.wait_for_line("its removal", |line| line["event"] == "container.workspace_removed");
    assert_eq!(
        (&removed["agentId"], &removed["why"]),
        (&json!("work"), &json!("asked")),
        "{removed}"
    );
    // The next start begins from nothing.
    client.start_with("work", "toolbox", json!({"rigId": "demo"})).expect(201);
    let status = client.ask("work", &json!({"do": "status"}).to_string());
    assert!(status.contains("\"changes\":[]"), "{status}");
    host.finish();
}

#[test]
fn a_policy_removes_workspaces_and_leaves_work_alone() {
    let remote = Remote::new();
    let policy = "[workspaces]\nkeep_pushed_hours = 0\nmax_mb = 1\n";
    let mut host = builder(&remote, policy).start();
    let client = host.client();
    for agent in ["pushed", "work", "up"] {
        client.start_with(agent, "toolbox", json!({"rigId": "demo"})).expect(201);
    }
    client.ask(
        "work",
        &json!({"do": "write-file", "directory": "draft", "stdin": "half"}).to_string(),
    );
    client.stop("pushed").expect(200);
    client.stop("work").expect(200);
    host.signal(Signal::TERM);
    host.wait();
    // `up` comes back by itself; the others are gone, and one of them has nothing to lose.
    let host = host.restart().ready();
    let removed =
        host.wait_for_line("a removal", |line| line["event"] == "container.workspace_removed");
    assert_eq!(
        (&removed["agentId"], &removed["why"]),
        (&json!("pushed"), &json!("pushed")),
        "{removed}"
    );
    assert!(!host.workspace("pushed").exists());
    assert!(host.workspace("work").join("draft").exists() && host.workspace("up").exists());
    let lines = host.finish();
    let removals = lines.iter().filter(|line| line["event"] == "container.workspace_removed");
    assert_eq!(removals.count(), 1);
}

#[test]
fn an_agent_fetches_and_goes_back_to_a_checkpoint() {
    let remote = Remote::new();
    let host = builder(&remote, "").start();
    start(&host, json!({})).expect(201);
    remote.commit(&[("theirs", "new\n")], "theirs");
    let main = remote.git(&["rev-parse", "main"]);
    assert_eq!(ask(&host, json!({"do": "fetch"}))["upstream"], main);
    assert_eq!(
        sh(&host, "ls; git rev-parse origin/main")["stdout"],
        format!("readme.md\n{main}\n")
    );
    assert_eq!(ask(&host, json!({"do": "rebase"}))["commit"], main);
    sh(&host, "echo draft >draft; echo more >>readme.md; git add readme.md");
    let number = ask(&host, json!({"do": "checkpoint", "say": "before"}))["number"].clone();
    assert!(number.as_u64() > Some(0), "{number}");
    sh(&host, "rm draft theirs; echo wrong >readme.md; echo late >late");
    assert_eq!(ask(&host, json!({"do": "restore", "take": number}))["number"], number);
    let ran = sh(&host, "ls; cat draft theirs readme.md; git diff --cached --name-only");
    let expected = "draft\nreadme.md\ntheirs\ndraft\nnew\n# Demo\nmore\nreadme.md\n";
    assert_eq!(ran["stdout"], expected, "{ran}");
    let none = ask(&host, json!({"do": "restore", "take": 99}));
    assert!(none["message"].as_str().unwrap().contains("99"), "{none}");
    host.finish();
}

#[test]
fn a_partial_mirror_has_the_files_that_are_needed() {
    let remote = Remote::new();
    remote.commit(&[("readme.md", "# Demo, again\n")], "second");
    for offers in [true, false] {
        remote.git(&["config", "uploadpack.allowFilter", &offers.to_string()]);
        let host = builder(&remote, "partial = true").start();
        start(&host, json!({})).expect(201);
        assert_eq!(sh(&host, "cat readme.md")["stdout"], "# Demo, again\n");
        let mirror = host.state_dir().join("git/rigs/demo/mirror.git");
        let list = ["rev-list", "--objects", "--all", "--missing=print", "--no-object-names"];
        let list = remote::git(&mirror, &list);
        let missing = list.lines().filter(|line| line.starts_with('?')).count();
        assert_eq!(missing, usize::from(offers), "the first readme.md: {list}");
        ask(&host, json!({"do": "write-file", "directory": "x", "stdin": "x"}));
        ask(&host, json!({"do": "commit", "say": "x"}));
        assert!(ask(&host, json!({"do": "push"}))["commit"].is_string());
        remote.git(&["branch", "-D", "bulkhead/toast"]);
        host.finish();
    }
}

#[test]
fn the_state_directory_may_be_named_in_a_roundabout_way() {
    let remote = Remote::new();
    let host = builder(&remote, "").run_by(&["env", "BULKHEAD_STATE_DIR=state/../state"]).start();
    start(&host, json!({})).expect(201);
    assert_eq!(sh(&host, "cat readme.md")["stdout"], "# Demo\n");
    host.finish();
}
