//! One task over the files of a workspace.

use std::path::Path;
use std::process::Command;

use git_server::{GitServer, demo};
use harness::{Host, HostBuilder, ModelServer, Trial, json, model_server};
use tempfile::TempDir;

fn builder() -> HostBuilder {
    Host::builder().guest("polecat")
}

/// Polecats that may run a shell.
fn with_a_shell(more: &str) -> HostBuilder {
    let settings = format!("models = [\"default\"]\ntools = [\"sh\"]\n{more}");
    builder().role("polecat", "polecat", &settings)
}

/// Writes files into the workspace that the agent will get.
fn prepare(host: &Host, agent: &str, files: &[(&str, &str)]) {
    let workspace = host.workspace(agent);
    for (name, text) in files {
        let path = workspace.join(name);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("make a directory");
        std::fs::write(path, text).expect("write a file");
    }
}

#[test]
fn it_reads_the_notes_writes_a_summary_and_is_done() {
    let model = model_server();
    let trial = Trial::begin(builder().model(&model, ""));
    let host = trial.host();
    prepare(
        host,
        "toast",
        &[("well.md", "# The well\n\nIt is dry. TODO dig\n"), ("gate.txt", "The gate is open\n")],
    );
    let body = json!({"prompt": "summarize the notes", "name": "Toast"});
    trial.client().start_with("toast", "polecat", body).expect(201);
    let exit = host.wait_for_exit("toast");
    assert_eq!(exit["reason"], "completed", "{exit}");
    let summary = std::fs::read_to_string(host.workspace("toast").join("summary.md"));
    let summary = summary.expect("the summary");
    assert!(summary.contains("- gate.txt: The gate is open"), "{summary}");
    assert!(summary.contains("- well.md: # The well"), "{summary}");
    assert!(summary.contains("TODO dig"), "{summary}");
    let turns = host.events_of("toast", "agent.turn");
    let going_on = turns.iter().filter(|turn| turn["outcome"] == "continue").count();
    assert!(going_on >= 3, "a task is cut into turns: {turns:?}");
    assert!(host.crashes().is_empty());
    trial.finish();
}

#[test]
fn the_sender_of_a_task_gets_its_summary() {
    let model = model_server();
    let host = builder().model(&model, "").start();
    prepare(&host, "toast", &[("well.md", "dry")]);
    host.client().start("toast", "polecat");
    let answer = host.client().send_wait("toast", "read well.md").turn();
    assert_eq!(answer.outcome, "done", "{answer:?}");
    assert_eq!(answer.reply.as_deref(), Some("read returned: dry"), "{answer:?}");
    assert_eq!(host.wait_for_exit("toast")["reason"], "completed");
    host.finish();
}

#[test]
fn it_does_not_leave_its_workspace() {
    let model = model_server();
    let host = builder().model(&model, "").start();
    std::fs::create_dir_all(host.workspace("other")).expect("make a directory");
    std::fs::write(host.workspace("other").join("diary.md"), "dear diary").expect("write a file");
    prepare(&host, "toast", &[("own.md", "x")]);
    std::os::unix::fs::symlink(host.workspace("other"), host.workspace("toast").join("link"))
        .expect("make a link");
    for path in ["../other/diary.md", "link/diary.md", "/etc/passwd"] {
        host.client().start("toast", "polecat");
        let answer = host.client().send_wait("toast", &format!("read {path}")).turn();
        let reply = answer.reply.as_deref().unwrap_or_default();
        assert!(reply.contains("error"), "{path}: {answer:?}");
        assert!(!reply.contains("dear diary") && !reply.contains("root:"), "{path}: {answer:?}");
    }
    host.client().start("toast", "polecat");
    host.client().send_wait("toast", "write ../other/note.md hi").expect(200);
    assert!(!host.workspace("other").join("note.md").exists());
    host.finish();
}

#[test]
fn two_of_them_have_two_workspaces() {
    let model = model_server();
    let host = builder().model(&model, "").start();
    for agent in ["one", "two"] {
        host.client().start(agent, "polecat");
        host.client().send_wait(agent, &format!("write own.md {agent}")).expect(200);
    }
    for agent in ["one", "two"] {
        let text = std::fs::read_to_string(host.workspace(agent).join("own.md"));
        assert_eq!(text.expect("its file"), agent);
    }
    host.finish();
}

#[test]
fn a_model_that_never_comes_to_an_end_is_a_fatal_error() {
    let model = model_server();
    let trial = Trial::begin(builder().model(&model, ""));
    trial.client().start("toast", "polecat");
    trial.client().send("toast", "for ever").expect(200);
    let crash = trial.reported("toast", 1, "guest_error");
    assert_eq!(crash["code"], "too-many-rounds", "{crash}");
    trial.finish();
}

#[test]
fn a_model_that_is_away_fails_the_turn_and_the_task_waits() {
    let model = model_server();
    let trial = Trial::begin(builder().model(&model, ""));
    trial.client().start_with("toast", "polecat", json!({"model": "fail-503"})).expect(201);
    let answer = trial.client().send_wait("toast", "read a.md").expect_error(502, &["503"]);
    assert_eq!(answer.error_type.as_deref(), Some("model-unavailable"), "{answer:?}");
    assert_eq!(trial.client().status("toast").status, "running");
    trial.finish();
}

#[test]
fn a_task_whose_model_is_away_goes_on_with_another() {
    let model = model_server();
    let trial = Trial::begin(builder().model(&model, ""));
    prepare(trial.host(), "toast", &[("a.md", "first")]);
    trial.client().start_with("toast", "polecat", json!({"model": "fail-400"})).expect(201);
    trial.client().send_wait("toast", "read a.md").expect_error(502, &["400"]);
    trial.client().set_model("toast", "scripted").expect(200);
    let answer = trial.client().send_wait("toast", " ").turn();
    assert_eq!(answer.reply.as_deref(), Some("read returned: first"), "{answer:?}");
    assert_eq!(trial.host().wait_for_exit("toast")["incarnation"], 1);
    trial.finish();
}

#[test]
fn it_runs_the_tests_edits_a_file_and_runs_them_again() {
    let model = model_server();
    let host = with_a_shell("").model(&model, "").start();
    let test = "value=$(sh value.sh)\n\
        [ \"$value\" = 42 ] || { echo \"$value is not 42\" >&2; exit 1; }\n\
        echo all passed\n";
    prepare(&host, "toast", &[("value.sh", "# The answer\necho 41"), ("test.sh", test)]);
    host.client().start("toast", "polecat");
    let answer = host.client().send_wait("toast", "repair value.sh 41 42").turn();
    assert_eq!(answer.outcome, "done", "{answer:?}");
    let reply = answer.reply.as_deref().unwrap_or_default();
    assert!(reply.starts_with("run returned: exited with code 0 after "), "{answer:?}");
    assert!(reply.ends_with("\nstdout:\nall passed"), "{answer:?}");
    let value = std::fs::read_to_string(host.workspace("toast").join("value.sh"));
    assert_eq!(value.expect("the edited file"), "# The answer\necho 42");
    assert_eq!(host.wait_for_exit("toast")["reason"], "completed");
    host.wait_for_number(&["agent.tool_exited"], 2);
    let ends = host.events_of("toast", "agent.tool_exited");
    let codes: Vec<_> = ends.iter().map(|end| end["code"].clone()).collect();
    assert_eq!(codes, [json!(1), json!(0)], "it failed before the edit and passed after it");
    host.finish();
}

#[test]
fn a_program_that_takes_too_much_memory_ends_and_the_polecat_goes_on() {
    let model = model_server();
    let trial = Trial::begin(with_a_shell("tool_memory_mb = 32").model(&model, ""));
    let host = trial.host();
    prepare(host, "toast", &[("big.sh", "x=x; while :; do x=$x$x; done\n")]);
    trial.client().start("toast", "polecat");
    let answer = trial.client().send_wait("toast", "run sh big.sh").turn();
    assert_eq!(answer.outcome, "done", "{answer:?}");
    let reply = answer.reply.as_deref().unwrap_or_default();
    assert!(reply.contains("was ended: it wanted too much memory"), "{answer:?}");
    let exit = host.wait_for_exit("toast");
    assert_eq!((&exit["reason"], &exit["incarnation"]), (&json!("completed"), &json!(1)), "{exit}");
    let end = host.wait_for_event("toast", "agent.tool_exited");
    assert_eq!(end["end"], "memory_limit", "{end}");
    assert!(host.crashes().is_empty());
    trial.finish();
}

#[test]
fn a_program_that_may_not_be_run_is_a_result() {
    let model = model_server();
    let host = with_a_shell("").model(&model, "").start();
    host.client().start("toast", "polecat");
    let answer = host.client().send_wait("toast", "run cat own.md").turn();
    assert_eq!(answer.outcome, "done", "{answer:?}");
    let reply = answer.reply.as_deref().unwrap_or_default();
    assert!(reply.starts_with("run returned: error: program denied: "), "{answer:?}");
    host.finish();
}

#[test]
fn run_is_offered_only_where_the_role_lists_programs() {
    let model = model_server();
    for (builder, offered) in [(builder(), false), (with_a_shell(""), true)] {
        let host = builder.model(&model, "").start();
        host.client().start("toast", "polecat");
        host.client().send_wait("toast", "search nothing").expect(200);
        let tools = model.last_request().tools;
        let run = tools.iter().map(|tool| &tool.function).find(|tool| tool.name == "run");
        assert_eq!(run.is_some(), offered, "{run:?}");
        if let Some(run) = run {
            assert!(run.description.ends_with("Programs: sh."), "{}", run.description);
        }
        host.finish();
    }
}

/// A server with the project of the demo.
struct Remote {
    server: GitServer,
    dir: TempDir,
}

impl Remote {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        demo::make(dir.path()).expect("make the repository");
        Self { server: GitServer::start(dir.path()).expect("serve it"), dir }
    }

    /// Polecats that work on it and may run a shell and git.
    fn polecats(&self) -> HostBuilder {
        let settings = "models = [\"default\"]\ntools = [\"sh\", \"git\"]\ngit = true\n\
                        git_author = \"Fixer <fixer@example.invalid>\"";
        let rig = format!("[rigs.demo]\nurl = \"{}\"", self.server.url(demo::REPOSITORY));
        builder().role("polecat", "polecat", settings).toml(&rig)
    }

    /// What git says of the repository on the server.
    fn git(&self, args: &[&str]) -> String {
        git(&self.dir.path().join(demo::REPOSITORY), args)
    }
}

fn git(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(dir).args(["-c", "user.name=Other", "-c", "user.email=o@example.invalid"]);
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    let output = command.args(args).output().expect("run git");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Has a polecat of the repository do a task to its end, and returns its reply.
fn task(host: &Host, prompt: &str) -> String {
    task_with(host, prompt, json!({"rigId": "demo"}))
}

fn task_with(host: &Host, prompt: &str, more: harness::Value) -> String {
    host.client().start_with("toast", "polecat", more).expect(201);
    let answer = host.client().send_wait("toast", prompt).turn();
    assert_eq!(answer.outcome, "done", "{answer:?}");
    answer.reply.expect("a reply")
}

fn repair() -> String {
    format!("repair {}", demo::REPAIR.join(" "))
}

/// How often the model read this text in the last task.
fn times_read(model: &ModelServer, text: &str) -> usize {
    let messages = model.last_request().messages;
    messages.iter().filter(|message| message.text().contains(text)).count()
}

#[test]
fn it_repairs_a_project_and_the_branch_is_on_the_server() {
    let (model, remote) = (model_server(), Remote::new());
    let trial = Trial::begin(remote.polecats().model(&model, ""));
    let reply = task(trial.host(), &repair());
    let commit = remote.git(&["rev-parse", "bulkhead/toast"]);
    assert!(reply.contains("all passed\npush returned: pushed: "), "{reply}");
    let end = format!("\n\nBranch bulkhead/toast is pushed, with commit {commit}.");
    assert!(reply.ends_with(&end), "{reply}");
    assert_eq!(times_read(&model, "has not ended yet"), 0);
    let by = remote.git(&["log", "--format=%an <%ae> %s", "main..bulkhead/toast"]);
    assert_eq!(by, "Fixer <fixer@example.invalid> Repair price.sh");
    assert_eq!(remote.git(&["diff", "--name-only", "main", "bulkhead/toast"]), "price.sh");
    // What is on the server passes, and not only what is in the workspace.
    let tree = remote.dir.path().join("tree");
    remote.git(&["worktree", "add", "--quiet", "--detach", "../tree", "bulkhead/toast"]);
    assert!(Command::new("sh").arg("test.sh").current_dir(tree).status().unwrap().success());
    let ends = trial.host().events_of("toast", "agent.tool_exited");
    let codes: Vec<_> = ends.iter().map(|end| end["code"].clone()).collect();
    assert_eq!(codes, [json!(1), json!(0)], "it failed before the edit and passed after it");
    assert_eq!(trial.host().wait_for_exit("toast")["reason"], "completed");
    trial.finish();
}

#[test]
fn a_model_that_thinks_gets_back_what_it_thought_in_either_dialect() {
    let (model, remote) = (model_server(), Remote::new());
    let url = model.anthropic_url();
    let claude = format!(
        "[models.default]\nmodel = \"scripted\"\ndialect = \"anthropic\"\nbase_url = {:?}\n",
        url.trim_end_matches("/v1")
    );
    for host in [remote.polecats().model(&model, ""), remote.polecats().toml(&claude)] {
        let host = host.start();
        let reply = task_with(&host, &repair(), json!({"rigId": "demo", "model": "thinks"}));
        assert!(reply.contains("Branch bulkhead/toast is pushed"), "{reply}");
        let messages = model.last_request().messages;
        let calls = messages.iter().filter(|message| !message.called().is_empty());
        assert!(
            calls.clone().count() > 2 && calls.clone().all(|it| it.reasoning_content.is_some())
        );
        host.finish();
        remote.git(&["branch", "-D", "bulkhead/toast"]);
    }
}

#[test]
fn a_rejected_push_is_read_and_what_it_advises_works() {
    let (model, remote) = (model_server(), Remote::new());
    let host = remote.polecats().model(&model, "").start();
    host.client().start_with("toast", "polecat", json!({"rigId": "demo"})).expect(201);
    // Somebody takes the branch meanwhile.
    let other = remote.git(&["commit-tree", "main^{tree}", "-p", "main", "-m", "something else"]);
    remote.git(&["update-ref", "refs/heads/bulkhead/toast", &other]);
    let answer = host.client().send_wait("toast", &repair()).turn();
    let reply = answer.reply.as_deref().unwrap_or_default();
    let rejected = "push returned: error: the push to bulkhead/toast was rejected: [rejected] ";
    assert!(reply.contains(rejected), "{reply}");
    assert!(reply.contains(" of branch bulkhead/toast is not pushed."), "{reply}");
    assert_eq!(times_read(&model, "was rejected: [rejected] (fetch first). If others "), 1);
    assert_eq!(times_read(&model, "The task has not ended yet. Commit "), 1);
    assert_eq!(remote.git(&["rev-parse", "bulkhead/toast"]), other, "nothing of theirs is lost");

    host.wait_for_exit("toast");
    let rebased = task(&host, "call rebase");
    assert!(rebased.starts_with("rebase returned: rebased: "), "{rebased}");
    let pushed = task(&host, "call push");
    let commit = remote.git(&["rev-parse", "bulkhead/toast"]);
    assert!(pushed.ends_with(&format!("is pushed, with commit {commit}.")), "{pushed}");
    let subjects = remote.git(&["log", "--format=%s", "main..bulkhead/toast"]);
    assert_eq!(subjects, "Repair price.sh\nsomething else");
    host.finish();
}

#[test]
fn work_that_is_not_committed_is_named_to_the_model_once_and_in_the_reply() {
    let (model, remote) = (model_server(), Remote::new());
    let host = remote.polecats().model(&model, "").start();
    let reply = task(&host, "write notes.md found it");
    assert!(reply.ends_with("\n\nNot committed: notes.md."), "{reply}");
    assert_eq!(times_read(&model, "The task has not ended yet. Not committed: notes.md. "), 1);
    host.wait_for_exit("toast");
    let difference = task(&host, "call diff");
    assert!(
        difference.starts_with("diff returned: branch bulkhead/toast, commit "),
        "{difference}"
    );
    assert!(difference.contains("\nnot committed:\nnew notes.md\n"), "{difference}");
    host.finish();
}

#[test]
fn git_is_offered_only_in_a_repository() {
    let (model, remote) = (model_server(), Remote::new());
    let host = remote.polecats().model(&model, "").start();
    for (agent, body, offered) in
        [("toast", json!({"rigId": "demo"}), true), ("bread", json!({}), false)]
    {
        host.client().start_with(agent, "polecat", body).expect(201);
        host.client().send_wait(agent, "search nothing").expect(200);
        let tools = model.last_request().tools;
        for name in ["diff", "commit", "push", "rebase"] {
            assert_eq!(
                tools.iter().any(|tool| tool.function.name == name),
                offered,
                "{agent}: {name}"
            );
        }
    }
    host.finish();
}
