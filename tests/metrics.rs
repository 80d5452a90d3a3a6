//! `GET /metrics` of the real host: what is counted while agents come and go, and that nothing of them
//! stays behind.

use std::io::Write;
use std::process::{Command, Stdio};

use harness::client::Client;
use harness::metrics::{given_back, is_empty, wait_for_metrics};
use harness::{Host, Metrics, Value, json, wait_until};

/// Guests of the test: one that behaves, and one for each way in which a store can be lost.
const GUESTS: [&str; 4] = ["trap", "hang", "host-error", "slow-start"];

fn host() -> Host {
    let builder = Host::builder();
    let builder = GUESTS.iter().fold(builder, |builder, guest| builder.guest(guest));
    // A stop in the middle of a long host call ends by force.
    builder.role("hang", "hang", "host_call_ms = 60000\nshutdown_ms = 200").start()
}

fn state(name: &str) -> String {
    format!("bulkhead_agents{{state=\"{name}\"}}")
}

fn exits(reason: &str) -> String {
    format!("bulkhead_agent_exits_total{{reason=\"{reason}\"}}")
}

/// The samples of a family with one label, by its value.
fn labelled<'a>(metrics: &'a Metrics, family: &str) -> impl Iterator<Item = (&'a str, f64)> {
    let start = format!("{family}{{");
    metrics.iter().filter_map(move |(name, value)| {
        Some((name.strip_prefix(&start)?.split('"').nth(1)?, *value))
    })
}

/// One agent of each fate.
fn one_of_each(client: &Client) {
    client.start("stopped", "echo");
    assert_eq!(client.ask("stopped", "hi"), "hi");
    client.stop("stopped").expect(200);

    client.start("superseded", "echo");
    client.start_afresh("superseded", "echo");
    client.stop("superseded").expect(200);

    client.start("trapped", "trap");
    client.send_wait("trapped", "unreachable").expect_error(502, &[]);

    client.start("host-panic", "host-error");
    client.send_wait("host-panic", "panic").expect_error(502, &[]);

    client.start("killed", "hang");
    client.send("killed", "60000").expect(200);
    wait_until("the agent is in its turn", || client.status("killed").busy);
    for body in ["one", "two", "three"] {
        client.send("killed", body).expect(200);
    }
    let metrics = client.metrics();
    assert_eq!(metrics["bulkhead_mailbox_messages"], 3.0, "{metrics:#?}");
    assert_eq!(metrics["bulkhead_mailbox_bytes"], 11.0, "{metrics:#?}");
    client.stop("killed").expect(200);

    // Its component is compiled outside of the short deadline.
    client.start_with("slow", "slow-start", json!({"prompt": "0"})).expect(201);
    client.stop("slow").expect(200);
    let body = json!({"deadlineMs": 200, "prompt": "60000"});
    client.start_with("too-slow", "slow-start", body).expect_error(504, &[]);
}

#[test]
fn counts_return_to_their_start_whatever_became_of_the_agents() {
    let host = host();
    let client = host.client();
    wait_for_metrics(client, "boot is through", |now| {
        now["bulkhead_ready"] == 1.0 && is_empty(now)
    });
    // What compiling and the first agent open stays open: files are compared from here on.
    one_of_each(client);
    let before = wait_for_metrics(client, "nothing of the first round is left", is_empty);
    for _ in 0..5 {
        one_of_each(client);
    }
    let after = wait_for_metrics(client, "counts return to their start", |now| {
        given_back(now) == given_back(&before)
    });
    for (reason, count) in [
        ("stopped", 18.0),
        ("superseded", 6.0),
        ("trap", 6.0),
        ("host_error", 6.0),
        ("killed", 6.0),
        ("start_failed", 6.0),
    ] {
        assert_eq!(after[&exits(reason)], count, "{reason}: {after:#?}");
    }
    host.finish();
}

#[test]
fn live_agents_are_counted_where_they_are() {
    let host = host();
    let client = host.client();
    for n in 0..5 {
        client.start(&format!("echo-{n}"), "echo");
    }
    let metrics = client.metrics();
    assert_eq!(metrics[&state("running")], 5.0, "{metrics:#?}");
    let of_echo = "bulkhead_role_agents{role=\"echo\",state=\"running\"}";
    assert_eq!(metrics[of_echo], 5.0, "{metrics:#?}");
    let of_trap = "bulkhead_role_agents{role=\"trap\",state=\"running\"}";
    assert_eq!(metrics[of_trap], 0.0, "{metrics:#?}");
    assert_eq!(metrics["bulkhead_stores"], 5.0, "{metrics:#?}");
    assert_eq!(metrics["bulkhead_places_used"], 5.0, "{metrics:#?}");
    assert_eq!(metrics["bulkhead_places_max"], 64.0, "{metrics:#?}");
    assert!(metrics["bulkhead_tasks"] >= 5.0, "{metrics:#?}");
    let agents = client.list();
    let guests: u64 = agents.iter().map(|agent| agent.memory.guest_bytes).sum();
    let hosts: u64 = agents.iter().map(|agent| agent.memory.host_bytes).sum();
    for (metric, of_agents) in [
        ("bulkhead_guest_memory_bytes", guests as f64),
        ("bulkhead_agent_host_memory_bytes", hosts as f64),
    ] {
        assert!(of_agents > 0.0, "{agents:?}");
        assert_eq!(metrics[metric], of_agents, "{metrics:#?}");
    }
    client.stop("echo-0").expect(200);
    let metrics = client.metrics();
    assert_eq!((metrics[&state("running")], metrics[&state("exited")]), (4.0, 1.0), "{metrics:#?}");
    assert_eq!(metrics["bulkhead_draining"], 0.0);
    host.finish();
}

/// A duration that the log has in microseconds or milliseconds, as the sum of a histogram has it, in seconds.
fn logged(lines: &[Value], event: &str, seconds: impl Fn(&Value) -> f64) -> (f64, f64) {
    let of_event = lines.iter().filter(|line| line["event"] == event);
    of_event.fold((0.0, 0.0), |(count, sum), line| (count + 1.0, sum + seconds(line)))
}

#[test]
fn starts_and_turns_are_measured_and_counted_by_role() {
    let host = Host::builder()
        .guest("trap")
        .role("brittle", "trap", "restart = \"permanent\"\nmax_attempts = 1")
        .start();
    let client = host.client();
    client.start("a", "echo");
    (0..20).for_each(|n| assert_eq!(client.ask("a", &n.to_string()), n.to_string()));
    client.start("b", "brittle");
    client.send_wait("b", "unreachable").expect_error(502, &[]);
    host.wait_for_number(&["agent.start"], 3);
    let metrics = wait_for_metrics(client, "the restart counts", |now| {
        now["bulkhead_agent_start_duration_seconds_count"] == 3.0
    });
    let of =
        |what: &str, role: &str| metrics[&format!("bulkhead_role_{what}_total{{role=\"{role}\"}}")];
    for (role, counts) in [("echo", [1.0, 0.0, 0.0]), ("brittle", [2.0, 1.0, 1.0])] {
        assert_eq!(["starts", "crashes", "restarts"].map(|what| of(what, role)), counts, "{role}");
    }
    let part = |line: &Value| {
        let timings = line["timings"].as_object().expect("timings");
        timings.values().filter_map(Value::as_f64).sum::<f64>() / 1e6
    };
    let (_, sum) = logged(&host.lines(), "agent.start", part);
    let measured = metrics["bulkhead_agent_start_duration_seconds_sum"];
    assert!((measured - sum).abs() < 1e-6, "{measured} {sum}");
    // A turn that ends its agent returns nothing.
    assert_eq!(metrics["bulkhead_agent_turn_duration_seconds_count"], 20.0);
    host.wait_for_number(&["agent.turn"], 20);
    let (turns, sum) = logged(&host.lines(), "agent.turn", |line| {
        line["wallMs"].as_f64().expect("a number") / 1e3
    });
    let measured = metrics["bulkhead_agent_turn_duration_seconds_sum"];
    assert_eq!(turns, 20.0);
    assert!(
        measured > sum && measured < sum + 0.02,
        "less than a millisecond each: {measured} {sum}"
    );
    host.finish();
}

#[test]
fn counters_agree_with_the_log() {
    let host = host();
    let client = host.client();
    one_of_each(client);
    client.get("/agents/nobody/status").expect_error(404, &["nobody"]);
    // The writer is a moment behind the facts.
    let metrics = wait_for_metrics(client, "the log has every fact", |now| {
        let lines = host.lines();
        let exits: Vec<_> = lines.iter().filter(|line| line["event"] == "agent.exit").collect();
        let events_agree = labelled(now, "bulkhead_events_total").all(|(name, counted)| {
            lines.iter().filter(|line| line["event"] == name).count() as f64 == counted
        });
        let exits_agree = labelled(now, "bulkhead_agent_exits_total").all(|(reason, counted)| {
            exits.iter().filter(|line| line["reason"] == reason).count() as f64 == counted
        });
        events_agree && exits_agree
    });
    assert_eq!(metrics["bulkhead_events_total{event=\"agent.exit\"}"], 8.0, "{metrics:#?}");
    assert_eq!(metrics["bulkhead_events_total{event=\"container.cold_start\"}"], 1.0);
    assert!(metrics["bulkhead_events_total{event=\"container.request_refused\"}"] >= 1.0);
    assert_eq!(metrics["bulkhead_log_lines_dropped_total{level=\"error\"}"], 0.0);
    let all: f64 =
        labelled(&metrics, "bulkhead_agent_exits_total").map(|(_, counted)| counted).sum();
    assert_eq!(all, 8.0, "every exit has a reason");
    host.finish();
}

/// The answer to a scrape that asks for this.
fn scrape(host: &Host, accept: &str) -> String {
    let token = host.client().token().expect("a token");
    let request = format!(
        "GET /metrics HTTP/1.1\r\nhost: localhost\r\naccept: {accept}\r\nauthorization: Bearer {token}\r\n\
         connection: close\r\n\r\n"
    );
    let answer = host.client().raw(request.as_bytes()).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.text
}

/// What a program says of a text on its stdin. It must end with 0.
fn judged(program: &str, args: &[&str], text: &str) -> String {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; see `just lint-metrics`"));
    child.stdin.take().expect("stdin is a pipe").write_all(text.as_bytes()).expect("write");
    let ended = child.wait_with_output().expect("wait");
    let said = [ended.stdout, ended.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(ended.status.success(), "{program}: {said}");
    said
}

#[test]
#[ignore = "needs promtool and Python: just lint-metrics"]
fn strict_readers_find_nothing() {
    let host = Host::builder().start().ready();
    host.client().start("one", "echo");
    let said = judged("promtool", &["check", "metrics"], &scrape(&host, "text/plain"));
    assert_eq!(said, "");
    let parser = "import sys; from prometheus_client.openmetrics.parser import text_string_to_metric_families as read; \
                  print(len(list(read(sys.stdin.read()))))";
    let text = scrape(&host, "application/openmetrics-text; version=1.0.0");
    let families: usize =
        judged("python3", &["-c", parser], &text).trim().parse().expect("a number");
    assert!(families > 40, "{families}");
    host.finish();
}
