//! One task over the files of a workspace.

use harness::{Host, HostBuilder, Trial, json, model_server};

fn builder() -> HostBuilder {
    Host::builder().guest("polecat")
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
    let answer = host.client().send_wait("toast", "read well.md").expect(200);
    assert_eq!(answer["outcome"], "done", "{answer}");
    assert_eq!(answer["reply"], "read returned: dry", "{answer}");
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
        let answer = host.client().send_wait("toast", &format!("read {path}")).expect(200);
        let reply = answer["reply"].as_str().unwrap_or_default();
        assert!(reply.contains("error"), "{path}: {answer}");
        assert!(!reply.contains("dear diary") && !reply.contains("root:"), "{path}: {answer}");
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
    assert_eq!(answer["error_type"], "model-unavailable", "{answer}");
    assert_eq!(trial.client().status("toast")["status"], "running");
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
    let answer = trial.client().send_wait("toast", " ").expect(200);
    assert_eq!(answer["reply"], "read returned: first", "{answer}");
    assert_eq!(trial.host().wait_for_exit("toast")["incarnation"], 1);
    trial.finish();
}
