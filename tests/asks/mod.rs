//! Use of language models: what is counted, what budgets refuse, and agents that end for it.

use bulkhead_api::{CrashesPage, UsageView};
use bulkhead_types::{Consequence, ExitReason, ModelCounts};
use harness::{Host, HostBuilder, ModelServer, json, model_server, wait_until};
use rustix::process::Signal;

fn host(server: &ModelServer, role: &str, more: &str) -> HostBuilder {
    let role = format!("models = [\"default\"]\n{role}");
    let prices = "[models.default]\nprice_input = 1000000\nprice_output = 2000000\n";
    Host::builder()
        .guest("asks")
        .role("asks", "asks", &role)
        .model(server, "")
        .toml(&format!("{prices}{more}"))
}

fn total(host: &Host) -> ModelCounts {
    host.client().get("/usage").read::<UsageView>(200).total
}

#[test]
fn every_call_is_counted_where_people_look() {
    let server = model_server();
    let host = host(&server, "", "").start();
    let client = host.client();
    client.start("a", "asks");
    assert_eq!(client.ask("a", "ask 2 hello"), "Hello. I answer from a script.");
    let usage: UsageView = client.get("/usage?agent=a").read(200);
    let entry = &usage.entries[0];
    let agent = entry.agent_id.as_ref().expect("an agent").as_str();
    let found = [agent, &entry.role, &entry.endpoint, &entry.model];
    assert_eq!(found, ["a", "asks", "default", "scripted"]);
    assert_eq!((entry.counts.calls, entry.counts.failed), (2, 0));
    let tokens = entry.counts.tokens;
    let (input, output) = (tokens.input, tokens.output);
    assert!(input >= 2 && output >= 2, "{usage:#?}");
    assert_eq!(entry.counts.cost_nano, (input + 2 * output) * 1_000_000_000);
    assert_eq!(usage.total.tokens, tokens);
    assert_eq!(usage.today[0].tokens, input + output);
    let status = client.status("a");
    assert_eq!(status.usage.total.calls, 2);
    assert_eq!(status.usage.incarnation.tokens, tokens);
    let metrics = client.get("/metrics").text;
    let labels = "role=\"asks\",endpoint=\"default\",model=\"scripted\"";
    for sample in [
        format!("bulkhead_model_calls_total{{{labels},outcome=\"ok\"}} 2"),
        format!("bulkhead_model_tokens_total{{{labels},type=\"input\"}} {input}"),
        format!("bulkhead_model_cost_total{{{labels}}} {}.0", input + 2 * output),
        "bulkhead_model_call_duration_seconds_count{endpoint=\"default\"} 2".to_owned(),
    ] {
        assert!(metrics.contains(&sample), "no {sample}\n{metrics}");
    }
    let nobody: UsageView = client.get("/usage?agent=b").read(200);
    assert_eq!((nobody.entries.len(), nobody.total.calls), (0, 0));
    host.finish();
}

#[test]
fn a_budget_refuses_the_next_call_and_says_so_once() {
    let server = model_server();
    let host = host(&server, "[budget]\ntokens_per_day = 1", "").start();
    let client = host.client();
    client.start("a", "asks");
    assert_eq!(client.ask("a", "ask 1 hello"), "Hello. I answer from a script.");
    let refused = client.ask("a", "ask 3 hello");
    let begins = "budget-exceeded, a retry: budget tokens_per_day of role asks: ";
    assert!(refused.starts_with(begins), "{refused}");
    assert_eq!(server.asked(), 1, "nothing was sent");
    let logged = || {
        let events = host.events_of("a", "agent.model_budget");
        events.iter().map(|event| event["exhausted"].clone()).collect::<Vec<_>>()
    };
    wait_until("both are in the log", || logged().len() >= 2);
    assert_eq!(logged(), [false, true]);
    // Whoever follows the agent sees both.
    let events = client.get("/agents/a/events").expect(200).to_string();
    let near = "\"ends\":false,\"exhausted\":false";
    assert!(events.contains(near) && events.contains("\"exhausted\":true"), "{events}");
    let usage: UsageView = client.get("/usage?role=asks").read(200);
    let budget = &usage.budgets[0];
    assert_eq!((&*budget.budget, budget.bound), ("tokens_per_day", 1));
    assert_eq!(client.ask("a", "still here"), "still here");
    host.finish();
}

#[test]
fn a_day_is_used_up_also_after_a_kill_of_the_host() {
    let server = model_server();
    let mut host = host(&server, "[budget]\ntokens_per_day = 1", "").start();
    host.client().start("a", "asks");
    assert_eq!(host.client().ask("a", "ask 1 hello"), "Hello. I answer from a script.");
    // Within a second it is in the database.
    wait_until("it is written", || {
        let database = host.state_dir().join("store");
        let files = std::fs::read_dir(database).into_iter().flatten().flatten();
        files
            .filter_map(|file| std::fs::read(file.path()).ok())
            .any(|bytes| bytes.windows(b"scripted".len()).any(|window| window == b"scripted"))
    });
    host.signal(Signal::KILL);
    host.wait();
    let next = host.restart().ready();
    let refused = next.client().ask("a", "ask 1 hello");
    assert!(refused.starts_with("budget-exceeded, a retry: budget tokens_per_day"), "{refused}");
    next.finish();
}

#[test]
fn calls_of_a_turn_and_tokens_of_a_message_are_counted_anew() {
    let server = model_server();
    let host = host(&server, "[budget]\ncalls_per_turn = 2", "[budget]\ntokens_per_message = 1");
    let host = host.start();
    let client = host.client();
    client.start("a", "asks");
    for _ in 0..2 {
        assert_eq!(client.ask("a", "ask 1 hello"), "Hello. I answer from a script.");
    }
    let refused = client.ask("a", "ask 2 hello");
    let text = "budget-exceeded, no retry: budget tokens_per_message of the container: ";
    assert!(refused.starts_with(text), "{refused}");
    host.finish();
}

#[test]
fn a_budget_of_nothing_allows_no_call() {
    let server = model_server();
    let host = host(&server, "", "[budget]\ncalls_per_turn = 0").start();
    host.client().start("a", "asks");
    let text = "budget-exceeded, no retry: budget calls_per_turn of the container: 0 of 0 used";
    assert_eq!(host.client().ask("a", "ask 1 hello"), text);
    assert_eq!(server.asked(), 0);
    host.finish();
}

#[test]
fn an_agent_whose_role_says_so_ends_and_is_not_restarted() {
    let server = model_server();
    let role = "restart = \"permanent\"\n[budget]\ntokens_per_day = 1\non_exceeded = \"end\"";
    let mut host = host(&server, role, "").start();
    host.client().start("a", "asks");
    host.client().ask("a", "ask 1 hello");
    host.client().send("a", "ask 1 hello").expect(200);
    let status = host.client().ended("a");
    assert_eq!(status.exit_reason.as_deref(), Some("budget_exceeded"), "{status:#?}");
    assert_eq!(status.status, "failed");
    host.wait_for_event("a", "agent.crash");
    let page: CrashesPage = host.client().get("/crashes?agent=a").read(200);
    let crash = &page.crashes[0];
    assert_eq!(crash.reason, ExitReason::BudgetExceeded);
    assert_eq!(crash.resources.models.calls, 1);
    assert_eq!(crash.consequence, Consequence::None);
    // The day's window outlives the host, and so does the end.
    host.signal(Signal::TERM);
    host.wait();
    let host = host.restart().ready();
    assert_eq!(total(&host).calls, 1);
    assert_eq!(host.events_of("a", "agent.start").len(), 0);
    host.client().start("a", "asks");
    assert_eq!(host.client().status("a").usage.total.calls, 1);
    host.client().send("a", "ask 1 hello").expect(200);
    assert_eq!(host.client().ended("a").exit_reason.as_deref(), Some("budget_exceeded"));
    assert_eq!(server.asked(), 1);
    host.finish();
}

#[test]
fn the_same_tool_call_in_a_row_ends_an_agent_as_stuck() {
    let server = model_server();
    let host = host(&server, "same_tool_calls = 3", "").start();
    host.client().start("a", "asks");
    assert_eq!(host.client().ask("a", "tools 2 status"), "calls status");
    host.client().send("a", "tools 3 status").expect(200);
    assert_eq!(host.client().ended("a").exit_reason.as_deref(), Some("stuck"));
    let event = host.wait_for_event("a", "agent.stuck");
    assert_eq!((&event["rule"], &event["count"]), (&"same_tool_calls".into(), &json!(3)));
    assert_eq!(host.client().status("a").status, "failed");
    host.finish();
}

#[test]
fn turns_that_produce_nothing_end_an_agent_as_stuck() {
    let server = model_server();
    let host = host(&server, "idle_continues = 5", "").start();
    host.client().start("a", "asks");
    assert_eq!(host.client().ask("a", "turns 4 hello there"), "hello there");
    host.client().send("a", "turns 1000 never").expect(200);
    assert_eq!(host.client().ended("a").exit_reason.as_deref(), Some("stuck"));
    let event = host.wait_for_event("a", "agent.stuck");
    assert_eq!((&event["rule"], &event["count"]), (&"idle_continues".into(), &json!(5)));
    host.finish();
}

#[test]
fn an_answer_that_is_left_counts_as_well() {
    let server = model_server();
    let host = host(&server, "[budget]\ntokens_per_day = 3", "").start();
    host.client().start("a", "asks");
    assert_eq!(host.client().ask("a", "leave remember a long story of the sea"), "left");
    wait_until("the call is counted", || total(&host).calls == 1);
    let tokens = total(&host).tokens;
    assert!(tokens.input > 5, "{tokens:?}");
    let refused = host.client().ask("a", "ask 1 hello");
    assert!(refused.starts_with("budget-exceeded"), "{refused}");
    host.finish();
}
