//! An agent that does what it should, and the calls that everybody uses.

use bulkhead_api::{MessageAnswer, StartAnswer, StopAnswer};
use harness::host::CLEAN;
use harness::{Host, Value, json};
use rustix::process::Signal;

#[test]
fn a_start_answers_with_a_running_agent() {
    let host = Host::builder().start();
    let body = json!({"name": "Ann", "rigId": "rig-1", "prompt": "", "envVars": {"TOKEN": "hush"},
        "identity": "x", "gitUrl": "https://example.com/x.git", "branch": "b", "defaultBranch": "main"});
    let answer = host.client().start_with("echo-1", "echo", body).expect(201);
    for (field, value) in [
        ("agentId", json!("echo-1")),
        ("name", json!("Ann")),
        ("role", json!("echo")),
        ("component", json!("echo")),
        ("rigId", json!("rig-1")),
        ("status", json!("running")),
        ("incarnation", json!(1)),
        ("exitReason", json!(null)),
    ] {
        assert_eq!(answer[field], value, "{answer}");
    }
    assert_eq!(answer["memory"]["limitBytes"], 64 * 1024 * 1024, "{answer}");
    let line = host.wait_for_line("agent.start", |line| line["event"] == "agent.start");
    assert_eq!(line["agentId"], "echo-1");
    assert!(line["timings"]["instantiateUs"].is_u64(), "{line}");
    let lines = host.finish();
    assert!(!lines.iter().any(|line| line.to_string().contains("hush")), "a secret was logged");
}

#[test]
fn what_is_said_comes_back_whatever_it_is() {
    let host = Host::builder().start();
    host.client().start("echo", "echo");
    let large = "x".repeat(1024 * 1024);
    for said in ["hi", "gr\u{fc}n \u{1f33f}", "\u{0}\n\"\\", "{\"a\":1}", large.as_str()] {
        assert!(host.client().ask("echo", said) == said, "{:.40} did not come back", said);
    }
    let answer = host.client().send_wait("echo", "last").turn();
    assert_eq!(answer.outcome, "idle", "{answer:?}");
    let status = host.client().status("echo");
    assert_eq!(status.message_count, 6, "{status:?}");
    assert!(!status.busy, "{status:?}");
    assert_eq!(status.mailbox_depth, 0, "{status:?}");
    host.finish();
}

#[test]
fn a_message_without_wait_is_taken_and_worked_on() {
    let host = Host::builder().start();
    host.client().start("echo", "echo");
    let answer: MessageAnswer = host.client().send("echo", "hi").read(200);
    assert!(answer.sent, "{answer:?}");
    assert!(answer.turn.is_none(), "{answer:?}");
    let id = &*answer.message_id;
    let message = host.wait_for_line("agent.message", |line| {
        line["event"] == "agent.message" && line["messageId"] == id
    });
    assert_eq!(message["sender"], "operator", "{message}");
    assert_eq!(message["bytes"], 2, "{message}");
    let turn = host.wait_for_line("agent.turn", |line| {
        line["event"] == "agent.turn" && line["messageId"] == id
    });
    assert_eq!(turn["outcome"], "idle", "{turn}");
    host.finish();
}

#[test]
fn messages_are_worked_on_in_the_order_of_their_coming() {
    let host = Host::builder().start();
    host.client().start("echo", "echo");
    let sent: Vec<_> =
        (0..50).map(|n| host.client().send("echo", &n.to_string()).expect(200)).collect();
    let last = &sent[49]["messageId"];
    host.wait_for_line("the last turn", |line| {
        line["event"] == "agent.turn" && line["messageId"] == *last
    });
    let turns = host.events_named("agent.turn");
    let of = |lines: &[harness::Value]| -> Vec<String> {
        lines.iter().map(|line| line["messageId"].to_string()).collect()
    };
    assert_eq!(of(&turns), of(&sent));
    host.finish();
}

#[test]
fn a_stop_ends_it_and_a_start_begins_the_next_incarnation() {
    let host = Host::builder().start();
    host.client().start("echo", "echo");
    let stopped: StopAnswer = host.client().stop("echo").read(200);
    assert!(stopped.stopped, "{stopped:?}");
    assert_eq!(stopped.exit_reason, "stopped", "{stopped:?}");
    let status = host.client().status("echo");
    assert_eq!(status.status, "exited", "{status:?}");
    assert_eq!(status.exit_reason.as_deref(), Some("stopped"), "{status:?}");
    let exit = host.wait_for_line("agent.exit", |line| line["event"] == "agent.exit");
    assert_eq!(exit["reason"], "stopped", "{exit}");
    assert!(!exit["by"].as_str().unwrap_or_default().is_empty(), "{exit}");
    host.client().send("echo", "anybody?").expect_error(409, &["echo"]);
    let again = host.client().start("echo", "echo");
    assert_eq!(again.agent.incarnation.0, 2, "{again:?}");
    assert_eq!(host.client().ask("echo", "hi"), "hi");
    let lines = host.finish();
    assert!(lines.iter().all(|line| line["event"] != "agent.crash"));
}

#[test]
fn a_start_of_a_running_agent_joins_it_begins_it_afresh_or_keeps_it() {
    let host = Host::builder().start();
    host.client().start("echo", "echo");
    let joined: StartAnswer = host.client().start_with("echo", "echo", json!({})).read(200);
    assert_eq!((joined.agent.incarnation.0, joined.joined), (1, true), "{joined:?}");
    let other = json!({"ifRunning": "keep", "model": "another"});
    let kept = host.client().start_with("echo", "echo", other).expect(200);
    assert_eq!((&kept["incarnation"], kept.get("joined")), (&1.into(), None), "{kept}");
    let afresh = host.client().start_afresh("echo", "echo");
    assert_eq!(afresh.agent.incarnation.0, 2, "{afresh:?}");
    assert_eq!(afresh.agent.message_count, 0, "{afresh:?}");
    assert_eq!(host.client().ask("echo", "hi"), "hi");
    host.finish();
}

#[test]
fn many_starts_of_one_agent_at_once_leave_one_incarnation() {
    let host = Host::builder().start();
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| host.client().start_with("echo", "echo", json!({}))))
            .collect();
        asked.into_iter().map(|asked| asked.join().expect("an answer")).collect()
    });
    for answer in &answers {
        assert!([200, 201, 409].contains(&answer.status), "{}", answer.text);
    }
    assert_eq!(host.client().ask("echo", "hi"), "hi");
    assert_eq!(host.client().list().len(), 1);
    assert_eq!(host.client().health().agents, 1);
    host.finish();
}

#[test]
fn agents_are_listed_and_their_events_can_be_read_from_anywhere() {
    let host = Host::builder().start();
    for agent in ["a", "b", "c"] {
        host.client().start(agent, "echo");
    }
    let mut names: Vec<_> =
        host.client().list().iter().map(|agent| agent.agent_id.to_string()).collect();
    names.sort();
    assert_eq!(names, ["a", "b", "c"]);
    host.client().ask("a", "hi");
    let page = host.client().events("a", 0);
    assert!(page.events.len() >= 2, "start and turn at least: {page:?}");
    assert!(page.events.is_sorted_by(|a, b| a.id < b.id), "{page:?}");
    let rest = host.client().events("a", page.events[0].id);
    assert_eq!(rest.events.len(), page.events.len() - 1, "{rest:?}");
    let nobody = host.client().events("nobody", 0);
    assert!(nobody.events.is_empty(), "the original answers an empty list");
    host.finish();
}

#[test]
fn the_container_says_how_it_is() {
    let host = Host::builder().start().ready();
    host.client().start("echo", "echo");
    let health = host.client().health();
    assert_eq!(health.agents, 1, "{health:?}");
    assert_eq!(health.servers, 0, "{health:?}");
    let first = &host.lines()[0];
    assert_eq!(health.run_id, first["runId"], "{health:?}");
    assert_eq!(host.client().get("/livez").status, 200);
    assert_eq!(host.client().get("/readyz").status, 200);
    host.finish();
}

#[test]
fn agents_of_the_configuration_run_after_boot() {
    let host = Host::builder()
        .agent("id = \"first\"\nrole = \"echo\"\nname = \"The First\"")
        .agent("id = \"second\"\nrole = \"echo\"\nprompt = \"good morning\"")
        .start();
    for agent in ["first", "second"] {
        host.wait_for_event(agent, "agent.start");
        assert_eq!(host.client().ask(agent, "hi"), "hi");
    }
    assert_eq!(host.client().status("first").name, "The First");
    let prompt = host.wait_for_event("second", "agent.message");
    assert_eq!(prompt["sender"], "prompt", "{prompt}");
    assert_eq!(host.lines()[0]["bootAgents"], 2);
    host.finish();
}

#[test]
fn both_signals_end_the_host_and_every_agent_with_a_line() {
    for signal in [Signal::TERM, Signal::INT] {
        let host = Host::builder().start();
        for agent in ["a", "b"] {
            host.client().start(agent, "echo");
        }
        let lines = host.finish_with(signal, CLEAN);
        let exits: Vec<_> = lines.iter().filter(|line| line["event"] == "agent.exit").collect();
        assert_eq!(exits.len(), 2);
        for exit in exits {
            let reason = exit["reason"].as_str().unwrap();
            assert!(["stopped", "drained"].contains(&reason), "{exit}");
        }
        let intent = lines.iter().find(|line| line["event"] == "container.stop_intent");
        assert!(intent.is_some_and(|line| line.to_string().contains("SIG")), "{intent:?}");
        let stopped = lines.last().unwrap();
        assert_eq!((&stopped["stopped"], &stopped["killed"]), (&json!(2), &json!(0)), "{stopped}");
    }
}

#[test]
fn a_component_is_compiled_once_for_many_agents_and_once_for_many_starts() {
    let host = Host::builder().compiles().start();
    std::thread::scope(|scope| {
        for agent in ["a", "b", "c", "d"] {
            let client = host.client();
            scope.spawn(move || client.start(agent, "echo"));
        }
    });
    let lines = host.finish();
    let is_load = |line: &&Value| line["event"] == "container.component_loaded";
    let loads: Vec<_> = lines.iter().filter(is_load).collect();
    assert_eq!(loads.len(), 1, "{loads:?}");
    assert_eq!(loads[0]["source"], "compiled", "{loads:?}");
}

#[test]
fn the_largest_number_of_agents_is_an_answer_and_not_a_crash() {
    let host = Host::builder().toml("[limits]\nmax_agents = 3").start();
    for agent in ["a", "b", "c"] {
        host.client().start(agent, "echo");
    }
    let refused = host.client().start_with("d", "echo", json!({}));
    let refused = refused.expect_error(503, &["3"]);
    assert_eq!(refused.error_type.as_deref(), Some("capacity"), "{refused:?}");
    host.client().stop("a").expect(200);
    host.client().start("d", "echo");
    for agent in ["b", "c", "d"] {
        assert_eq!(host.client().ask(agent, "hi"), "hi");
    }
    host.finish();
}

#[test]
fn a_place_is_free_as_soon_as_a_stop_is_answered() {
    let host = Host::builder().toml("[limits]\nmax_agents = 1").start();
    for round in 0..50 {
        host.client().start(&format!("agent-{round}"), "echo");
        host.client().stop(&format!("agent-{round}")).expect(200);
    }
    host.finish();
}

/// Starts a host that finds what another has left in its cache of compiled components.
fn with_cache_of(first: &Host, change: impl Fn(&mut Vec<u8>)) -> Host {
    let left = first.state_dir().join("aot");
    Host::start(|state| {
        let cache = state.join("aot");
        std::fs::create_dir_all(&cache).expect("make a directory");
        for entry in std::fs::read_dir(&left).expect("the first host has a cache") {
            let entry = entry.expect("read the cache");
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                let mut bytes = std::fs::read(entry.path()).expect("read an entry");
                change(&mut bytes);
                std::fs::write(cache.join(entry.file_name()), bytes).expect("copy an entry");
            }
        }
        Host::builder().render(state)
    })
}

fn source_of_the_component(host: &Host) -> String {
    host.client().start("echo", "echo");
    assert_eq!(host.client().ask("echo", "hi"), "hi");
    let loaded = host.wait_for_number(&["container.component_loaded"], 1);
    loaded["source"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn the_next_run_takes_a_compiled_component_from_the_cache_and_never_a_broken_one() {
    let first = Host::builder().compiles().start();
    assert_eq!(source_of_the_component(&first), "compiled");

    let second = with_cache_of(&first, |_| {});
    assert_eq!(source_of_the_component(&second), "cache");
    assert!(second.events_named("container.cache_entry_rejected").is_empty());
    second.finish();

    type Change = fn(&mut Vec<u8>);
    let changes: [Change; 4] = [
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| bytes.clear(),
        |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        },
        |bytes| bytes[..64].fill(0x7f),
    ];
    for change in changes {
        let host = with_cache_of(&first, change);
        assert_eq!(source_of_the_component(&host), "compiled");
        let rejected = host.events_named("container.cache_entry_rejected");
        assert_eq!(rejected.len(), 1, "{rejected:?}");
        assert!(!rejected[0]["reason"].as_str().unwrap_or_default().is_empty(), "{rejected:?}");
        host.finish();
    }
    first.finish();
}
