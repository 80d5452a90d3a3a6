//! A conversation with a model over real HTTP, tools, and what happens when the model fails.

mod oddities;

use harness::{
    Host, HostBuilder, ModelServer, Trial, files, json, model_server, model_server_with_key,
};

fn builder() -> HostBuilder {
    Host::builder().guest("mayor")
}

#[test]
fn it_answers_with_what_the_model_says_and_remembers() {
    let model = model_server();
    let host = builder().model(&model, "").start();
    host.client().start("mayor", "mayor");
    assert_eq!(host.client().ask("mayor", "hello"), "Hello. I answer from a script.");
    host.client().ask("mayor", "remember the well is dry");
    let said = host.client().ask("mayor", "what did I say");
    assert_eq!(said, "You said: hello; remember the well is dry");
    assert_eq!(model.asked(), 3);
    host.finish();
}

#[test]
fn its_prompt_is_the_first_thing_it_hears() {
    let model = model_server();
    let host = builder().model(&model, "").start();
    let body = json!({"prompt": "remember this town is called Aix"});
    host.client().start_with("mayor", "mayor", body).expect(201);
    let said = host.client().ask("mayor", "what did I say");
    assert_eq!(said, "You said: remember this town is called Aix");
    host.finish();
}

#[test]
fn an_event_that_the_model_wants_is_an_event_of_the_agent() {
    let model = model_server();
    let host = builder().model(&model, "").start();
    host.client().start("mayor", "mayor");
    let reply = host.client().ask("mayor", "emit town.square {\"people\":3}");
    assert_eq!(reply, "emit returned: published");
    assert_eq!(host.client().events_named("mayor", "town.square"), [json!({"people": 3})]);
    host.client().ask("mayor", "status painting the town hall");
    let status = host.client().events_named("mayor", "status");
    assert_eq!(status[0]["text"], "painting the town hall", "{status:?}");
    host.finish();
}

#[test]
fn an_event_name_that_is_the_hosts_is_refused_and_the_model_gets_the_error() {
    let model = model_server();
    let host = builder().model(&model, "").start();
    host.client().start("mayor", "mayor");
    for name in ["agent.crash", "container.stopped", "Loud!"] {
        let reply = host.client().ask("mayor", &format!("emit {name} x"));
        assert!(reply.starts_with("emit returned: error:"), "{reply}");
        assert!(host.client().events_named("mayor", name).is_empty());
    }
    host.finish();
}

#[test]
fn it_sends_a_message_to_another_agent() {
    let model = model_server();
    let host = builder().model(&model, "").start();
    host.client().start("mayor", "mayor");
    host.client().start("scribe", "echo");
    let reply = host.client().ask("mayor", "tell scribe good morning");
    assert!(reply.starts_with("send returned: sent as message"), "{reply}");
    let message = host.wait_for_event("scribe", "agent.message");
    assert_eq!(message["sender"], json!({"agent": "mayor"}), "{message}");
    assert_eq!(message["bytes"], "good morning".len(), "{message}");
    let reply = host.client().ask("mayor", "tell nobody good morning");
    assert!(reply.contains("error") && reply.contains("nobody"), "{reply}");
    host.finish();
}

#[test]
fn it_ends_when_the_model_says_that_its_work_is_over() {
    let model = model_server();
    let host = builder().model(&model, "").start();
    host.client().start("mayor", "mayor");
    let answer = host.client().send_wait("mayor", "done").turn();
    assert_eq!(answer.outcome, "done", "{answer:?}");
    assert_eq!(answer.reply.as_deref(), Some("told to finish"), "{answer:?}");
    let exit = host.wait_for_line("agent.exit", |line| line["event"] == "agent.exit");
    assert_eq!(exit["reason"], "completed", "{exit}");
    assert_eq!(host.client().ended("mayor").status, "exited");
    host.finish();
}

#[test]
fn a_tool_that_nobody_offered_is_an_error_that_the_model_hears() {
    let model = model_server();
    let host = builder().model(&model, "").start();
    host.client().start("mayor", "mayor");
    let reply = host.client().ask("mayor", "call launch");
    assert!(reply.contains("no such tool: launch"), "{reply}");
    let answer = host.client().send_wait("mayor", "for ever").expect_error(502, &[]);
    assert_eq!(answer.error_type.as_deref(), Some("too-many-tool-rounds"), "{answer:?}");
    assert_eq!(host.client().ask("mayor", "hello"), "Hello. I answer from a script.");
    host.finish();
}

#[test]
fn the_right_key_is_sent_and_never_shown() {
    const KEY: &str = "sk-0123456789-hush";
    let model = model_server_with_key(KEY);
    let host = builder().model(&model, KEY).start();
    host.client().start("mayor", "mayor");
    assert_eq!(host.client().ask("mayor", "hello"), "Hello. I answer from a script.");
    let seen = [
        host.client().get("/agents").text,
        host.client().get("/agents/mayor/events").text,
        host.client().get("/health").text,
    ];
    assert!(!seen.iter().any(|text| text.contains(KEY)), "the key is in an answer");
    let lines = host.finish();
    assert!(!lines.iter().any(|line| line.to_string().contains(KEY)), "the key is in the log");
}

#[test]
fn a_wrong_key_fails_the_turn_and_not_the_agent() {
    const KEY: &str = "sk-wrong-hush";
    let model = model_server_with_key("another");
    let host = builder().model(&model, KEY).start();
    host.client().start("mayor", "mayor");
    let answer = host.client().send_wait("mayor", "hello");
    assert!(!answer.text.contains(KEY), "{}", answer.text);
    let answer = answer.expect_error(502, &["401"]);
    assert_eq!(answer.error_type.as_deref(), Some("model-refused"), "{answer:?}");
    assert_eq!(host.client().status("mayor").status, "running");
    let lines = host.finish();
    assert!(!lines.iter().any(|line| line.to_string().contains(KEY)), "the key is in the log");
}

#[test]
fn a_model_that_fails_fails_the_turn_and_not_the_agent() {
    let model = model_server();
    let trial = Trial::begin(builder().model(&model, ""));
    for (name, code) in [
        ("fail-500", "model-unavailable"),
        ("fail-400", "model-refused"),
        ("garbage", "model-bad-answer"),
        ("empty", "model-bad-answer"),
        ("cut", "model-"),
    ] {
        trial.client().start_with(name, "mayor", json!({"model": name})).expect(201);
        let answer = trial.client().send_wait(name, "hello").expect_error(502, &[]);
        let kind = answer.error_type.as_deref().unwrap_or_default();
        assert!(kind.starts_with(code), "model {name}: {answer:?}");
        let status = trial.client().status(name);
        assert_eq!(status.status, "running", "model {name}: {status:?}");
        assert_eq!(status.model.as_deref(), Some(name), "{status:?}");
    }
    assert!(trial.host().crashes().is_empty());
    trial.finish();
}

#[test]
fn a_model_that_never_ends_its_answer_meets_the_turns_limits() {
    let model = model_server();
    let settings = "models = [\"default\"]\nhost_call_ms = 60000\nwall_ms = 1500";
    let trial = Trial::begin(builder().role("mayor", "mayor", settings).model(&model, ""));
    trial.client().start_with("mayor", "mayor", json!({"model": "stall"})).expect(201);
    let answer = trial.client().send_wait("mayor", "hello").expect_error(502, &[]);
    // The guest bounds its request by the turn's deadline; whichever is first, it ends.
    let ended = answer.exit_reason.as_deref() == Some("wall_deadline");
    let gave_up = answer.error_type.as_deref().is_some_and(|kind| kind.starts_with("model-"));
    assert!(ended || gave_up, "{answer:?}");
    trial.finish();
}

#[test]
fn without_leave_of_its_role_the_model_is_out_of_reach() {
    let model = model_server();
    // The endpoint is configured, for others.
    let trial = Trial::begin(builder().model(&model, "").role("mayor", "mayor", "models = []"));
    let own = json!({"model.base-url": model.base_url(), "model.name": "scripted"});
    trial.client().start("none", "mayor");
    trial.client().start_with("own", "mayor", json!({"envVars": own})).expect(201);
    for agent in ["none", "own"] {
        let answer = trial.client().send_wait(agent, "hello").expect_error(502, &[]);
        let kind = answer.error_type.as_deref().unwrap_or_default();
        assert!(kind.starts_with("model-"), "{agent}: {answer:?}");
        assert_eq!(trial.client().status(agent).status, "running");
    }
    assert_eq!(model.asked(), 0, "the request left the container");
    trial.finish();
}

#[test]
fn an_allow_list_reaches_exactly_what_it_names() {
    let (model, other) = (model_server(), model_server());
    let settings = |allowed: &harness::ModelServer| {
        format!(
            "http_allow = [\"{}\"]\nconfig = {{ \"model.base-url\" = {:?}, \"model.name\" = \"m\" }}",
            allowed.address(),
            model.base_url()
        )
    };
    let host = Host::builder()
        .component("mayor", &files::component("mayor"))
        .role("allowed", "mayor", &settings(&model))
        .role("elsewhere", "mayor", &settings(&other))
        .start();
    host.client().start("allowed", "allowed");
    host.client().start("elsewhere", "elsewhere");
    assert_eq!(host.client().ask("allowed", "hello"), "Hello. I answer from a script.");
    host.client().send_wait("elsewhere", "hello").expect_error(502, &[]);
    assert_eq!((model.asked(), other.asked()), (1, 0));
    host.finish();
}

fn system_of(model: &ModelServer) -> String {
    let request = model.last_request();
    assert_eq!(request.messages[0].role, "system");
    request.messages[0].text()
}

#[test]
fn a_change_of_model_prompt_and_dashboard_reaches_the_conversation_that_goes_on() {
    let model = model_server();
    let host = builder().model(&model, "").start();
    let client = host.client();
    let body = json!({"model": "first", "systemPrompt": "Be kind."});
    client.start_with("mayor", "mayor", body).expect(201);
    client.ask("mayor", "remember the well is dry");
    assert_eq!(
        (model.last_request().model.as_str(), system_of(&model).as_str()),
        ("first", "Be kind.")
    );

    client.set_model("mayor", "second").expect(200);
    client.set_system_prompt("mayor", "Be brief.").expect(200);
    let context = json!({"context": "three beads are open"});
    client.post("/dashboard-context", &context).expect(200);

    assert_eq!(client.ask("mayor", "what did I say"), "You said: remember the well is dry");
    let asked = model.last_request();
    assert_eq!(asked.model, "second");
    let roles: Vec<_> = asked.messages.iter().map(|message| message.role.as_str()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user"]);
    let system = system_of(&model);
    assert!(system.starts_with("Be brief.") && system.contains("three beads are open"), "{system}");
    let status = client.status("mayor");
    assert_eq!(status.incarnation.0, 1, "{status:?}");
    assert_eq!(status.model.as_deref(), Some("second"), "{status:?}");

    client.post("/dashboard-context", &json!({"context": ""})).expect(200);
    client.ask("mayor", "hello");
    assert_eq!(system_of(&model), "Be brief.");
    host.finish();
}

#[test]
fn an_agent_that_starts_after_a_change_begins_with_it_and_a_new_start_says_again_what_it_wants() {
    let model = model_server();
    let host = builder().model(&model, "").start();
    let client = host.client();
    client.post("/dashboard-context", &json!({"context": "all is quiet"})).expect(200);
    client.start("mayor", "mayor");
    client.set_model("mayor", "second").expect(200);
    client.ask("mayor", "hello");
    assert_eq!(model.last_request().model, "second");
    assert!(system_of(&model).contains("all is quiet"));
    client.start_afresh("mayor", "mayor");
    client.ask("mayor", "hello");
    assert_eq!(model.last_request().model, "scripted");
    assert!(system_of(&model).contains("all is quiet"));
    host.finish();
}

#[test]
fn a_key_that_the_town_syncs_is_used_at_once_and_never_shown() {
    const STALE: &str = "sk-stale-hush";
    const FRESH: &str = "sk-fresh-hush";
    let model = model_server_with_key(FRESH);
    let host = builder().model(&model, STALE).start();
    let client = host.client();
    // What a start brought is as old as the start.
    let body = json!({"envVars": {"model.api-key": STALE}});
    client.start_with("mayor", "mayor", body).expect(201);
    client.send_wait("mayor", "hello").expect_error(502, &["401"]);

    let synced = client.sync_config(json!({"model.api-key": FRESH}));
    assert_eq!(synced.expect(200), json!({"synced": true}));
    assert_eq!(client.ask("mayor", "hello"), "Hello. I answer from a script.");
    assert_eq!(client.status("mayor").incarnation.0, 1);

    client.sync_config(json!({"model.api-key": null})).expect(200);
    client.send_wait("mayor", "hello").expect_error(502, &["401"]);
    let seen = [client.get("/agents").text, client.get("/agents/mayor/events").text];
    let hidden = |text: &str| !text.contains(STALE) && !text.contains(FRESH);
    assert!(seen.iter().all(|text| hidden(text)), "a key is in an answer");
    assert!(host.finish().iter().all(|line| hidden(&line.to_string())), "a key is in the log");
}

#[test]
fn a_value_that_makes_no_sense_fails_turns_until_it_is_set_right_and_the_conversation_is_kept() {
    let model = model_server();
    let host = builder().model(&model, "").start();
    let client = host.client();
    client.start("mayor", "mayor");
    client.ask("mayor", "remember the well is dry");
    client.sync_config(json!({"max-tool-rounds": "many"})).expect(200);
    let answer = client.send_wait("mayor", "hello").expect_error(502, &["max-tool-rounds"]);
    assert_eq!(answer.error_type.as_deref(), Some("bad-config"), "{answer:?}");
    client.sync_config(json!({"max-tool-rounds": 4})).expect(200);
    assert_eq!(client.ask("mayor", "what did I say"), "You said: remember the well is dry");
    host.finish();
}

#[test]
fn an_agent_that_has_ended_is_not_changed() {
    let host = builder().model(&model_server(), "").start();
    let client = host.client();
    client.start("mayor", "mayor");
    client.stop("mayor").expect(200);
    let refused = client.set_model("mayor", "second").expect_error(409, &["mayor", "exited"]);
    assert_eq!(refused.error_type.as_deref(), Some("not-running"), "{refused:?}");
    client.set_system_prompt("nobody", "Be brief.").expect_error(404, &["nobody"]);
    host.finish();
}
