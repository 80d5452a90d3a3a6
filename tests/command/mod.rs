//! A stock program with `wasi:cli/run` and nothing of ours.

use harness::{Host, Trial, json};

#[test]
fn a_stock_program_runs_as_an_agent_whose_run_is_its_incarnation() {
    let trial = Trial::of(&["command"]);
    let workspace = trial.host().workspace("job");
    std::fs::create_dir_all(&workspace).expect("make the workspace");
    std::fs::write(workspace.join("input.txt"), "x").expect("write a file");
    trial.client().start("job", "command");
    let exit = trial.host().wait_for_event("job", "agent.exit");
    assert_eq!(exit["reason"], "completed", "{exit}");
    assert_eq!(exit["phase"], "run", "{exit}");
    for (stream, text) in [
        ("stdout", "command ran with arguments: []"),
        ("stderr", "command wrote to stderr"),
        ("stdout", "workspace holds: input.txt"),
    ] {
        trial.host().wait_for_line(text, |line| {
            line["event"] == "agent.log"
                && line["stream"] == stream
                && line["message"].as_str().is_some_and(|message| message.contains(text))
        });
    }
    let status = trial.client().ended("job");
    assert_eq!(status.status, "exited", "{status:?}");
    assert_eq!(status.exit_reason.as_deref(), Some("completed"), "{status:?}");
    assert!(trial.host().crashes().is_empty());
    let again = trial.client().start("job", "command");
    assert_eq!(again.agent.incarnation.0, 2, "{again:?}");
    trial.host().wait_for_line("the second run's end", |line| {
        line["event"] == "agent.exit" && line["agentId"] == "job" && line["incarnation"] == 2
    });
    trial.finish();
}

#[test]
fn a_program_gets_the_arguments_of_its_role() {
    let host = Host::builder()
        .guest("command")
        .role("verbose", "command", "args = [\"--verbose\", \"two words\", \"\"]")
        .start();
    host.client().start("job", "verbose");
    let text = r#"command ran with arguments: ["--verbose", "two words", ""]"#;
    host.wait_for_line(text, |line| line["event"] == "agent.log" && line["message"] == text);
    host.client().ended("job");
    host.finish();
}

#[test]
fn a_program_that_fails_is_reported_with_its_status() {
    let trial = Trial::of(&["command"]);
    let body = json!({"envVars": {"COMMAND_EXIT": "fail"}});
    trial.client().start_with("job", "command", body).expect(201);
    let crash = trial.reported("job", 1, "guest_exit");
    assert_eq!(crash["status"], 1, "{crash}");
    assert_eq!(crash["phase"], "run", "{crash}");
    trial.finish();
}

#[test]
fn the_environment_of_the_next_run_follows_the_town() {
    let trial = Trial::of(&["command"]);
    let body = json!({"envVars": {"COMMAND_EXIT": "well"}});
    trial.client().sync_config(json!({"COMMAND_EXIT": "fail"})).expect(200);
    trial.client().start_with("job", "command", body.clone()).expect(201);
    trial.reported("job", 1, "guest_exit");
    trial.client().sync_config(json!({"COMMAND_EXIT": null})).expect(200);
    trial.client().start_with("job", "command", body).expect(201);
    let exit = trial.host().wait_for_line("the second run's end", |line| {
        line["event"] == "agent.exit" && line["agentId"] == "job" && line["incarnation"] == 2
    });
    assert_eq!(exit["reason"], "completed", "{exit}");
    trial.finish();
}
