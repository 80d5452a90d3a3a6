//! What becomes of an agent after an end: whether it is restarted, when, and when no more.

use bulkhead_api::{ErrorBody, StartAnswer, StopAnswer};
use bulkhead_types::restart::QuarantineReason;
use bulkhead_types::{ExitReason, RestartPolicy};
use harness::{Answer, Host, HostBuilder, Value, json};

/// A backoff that no test sees the end of: up to three years, at random.
const LONG: &str = "restart_backoff_ms = 31_536_000_000\nrestart_backoff_max_ms = 31_536_000_000\n";

/// A backoff that nobody notices.
const SHORT: &str = "restart_backoff_ms = 1\nrestart_backoff_max_ms = 20\n";

fn builder(policy: &str, settings: &str) -> HostBuilder {
    // What is delivered again is the matter of `redelivery.rs`.
    let settings = format!("restart = {policy:?}\nmax_attempts = 1\n{settings}");
    Host::builder().guest("puppet").role("puppet", "puppet", &settings)
}

/// Makes the agent panic in a turn. Returns the sender's answer.
#[track_caller]
fn panics(host: &Host, agent: &str) -> ErrorBody {
    let answer = host.client().send_wait(agent, "panic").expect_error(502, &["told to panic"]);
    let kind = answer.error_type.as_deref();
    assert!(matches!(kind, Some("agent-ended" | "message-set-aside")), "{answer:?}");
    assert_eq!(answer.exit_reason.as_deref(), Some("panic"), "{answer:?}");
    answer
}

/// The only line of an event about an incarnation of the agent.
#[track_caller]
fn line<'a>(lines: &'a [Value], event: &str, agent: &str, number: u64) -> &'a Value {
    let is_one = |line: &&Value| {
        line["event"] == event && line["agentId"] == agent && line["incarnation"] == number
    };
    let found: Vec<_> = lines.iter().filter(is_one).collect();
    let [line] = found[..] else { panic!("{event} of {agent} #{number}: {found:?}") };
    line
}

fn count(lines: &[Value], event: &str, agent: &str) -> usize {
    lines.iter().filter(|line| line["event"] == event && line["agentId"] == agent).count()
}

fn seq(line: &Value) -> u64 {
    line["seq"].as_u64().expect("a line has a number")
}

#[test]
fn a_crashed_transient_agent_comes_back_with_a_new_store() {
    let host = builder("transient", SHORT).start();
    host.client().start("one", "puppet");
    assert_eq!(host.client().ask("one", "hello"), "hello");
    assert_eq!(host.client().ask("one", "count"), "2");
    let logged = panics(&host, "one");
    host.client().runs("one", 2);
    // Nothing is left of the incarnation before, and the message that ended it is not worked on again.
    assert_eq!(host.client().ask("one", "count"), "1");
    let status = host.client().status("one");
    assert_eq!(status.incarnation.0, 2, "{status:?}");
    assert_eq!(status.restart.policy, RestartPolicy::Transient, "{status:?}");
    assert!(status.restart.next_restart_at.is_none(), "{status:?}");

    let lines = host.finish();
    let crash = line(&lines, "agent.crash", "one", 1);
    assert_eq!(logged.crash_id.as_deref(), crash["crashId"].as_str(), "{crash}");
    let consequence = &crash["consequence"];
    assert_eq!(consequence["decision"], "restart", "{crash}");
    assert_eq!(consequence["attemptsInWindow"], 1, "{crash}");
    assert!(consequence["backoffMs"].as_u64() <= Some(1), "{crash}");
    assert!(consequence["restartAt"].is_string(), "{crash}");
    let scheduled = line(&lines, "agent.restart_scheduled", "one", 1);
    for field in ["restartAt", "backoffMs", "attemptsInWindow"] {
        assert_eq!(scheduled[field], consequence[field], "{field}: {scheduled}");
    }
    assert_eq!(scheduled["reason"], "panic", "{scheduled}");
    let exit = line(&lines, "agent.exit", "one", 1);
    assert_eq!(exit["crashId"], crash["crashId"], "{exit}");
    let next = line(&lines, "agent.start", "one", 2);
    let order = [crash, exit, scheduled, next].map(seq);
    assert!(order.is_sorted(), "crash, exit, restart scheduled, start: {order:?}");
    let turns = lines.iter().filter(|line| {
        line["event"] == "agent.turn" && line["messageId"].as_str() == logged.message_id.as_deref()
    });
    assert_eq!(turns.count(), 0, "a turn that crashed is none that ended, then or later");
}

#[test]
fn a_restart_does_not_repeat_the_prompt() {
    let host = builder("transient", SHORT).start();
    host.client().start_with("one", "puppet", json!({"prompt": "hello"})).expect(201);
    assert_eq!(host.client().ask("one", "count"), "2");
    panics(&host, "one");
    host.client().runs("one", 2);
    assert_eq!(host.client().ask("one", "count"), "1");
    host.finish();
}

#[test]
fn a_temporary_agent_stays_down() {
    let host = builder("temporary", SHORT).start();
    host.client().start("one", "puppet");
    panics(&host, "one");
    // One change leads from the turn to here: had it a restart before it, this would be `backoff`.
    let status = host.client().ended("one");
    assert_eq!(status.status, "failed", "{status:?}");
    assert_eq!(status.incarnation.0, 1, "{status:?}");
    let lines = host.finish();
    assert_eq!(line(&lines, "agent.crash", "one", 1)["consequence"]["decision"], "none");
    assert_eq!(count(&lines, "agent.restart_scheduled", "one"), 0);
}

#[test]
fn a_transient_agent_that_is_stopped_or_completes_stays_down() {
    let host = builder("transient", SHORT).start();
    for agent in ["stopped", "completed"] {
        host.client().start(agent, "puppet");
    }
    host.client().stop("stopped").expect(200);
    assert_eq!(host.client().ask("completed", "done"), "done");
    for agent in ["stopped", "completed"] {
        let status = host.client().ended(agent);
        assert_eq!(status.status, "exited", "{status:?}");
        assert_eq!(status.exit_reason.as_deref(), Some(agent), "{status:?}");
    }
    let lines = host.finish();
    for agent in ["stopped", "completed"] {
        assert_eq!(count(&lines, "agent.restart_scheduled", agent), 0);
    }
}

#[test]
fn a_permanent_agent_that_completes_comes_back_and_one_that_is_stopped_does_not() {
    let host = builder("permanent", SHORT).start();
    host.client().start("one", "puppet");
    let done = host.client().send_wait("one", "done").turn();
    assert_eq!(done.outcome, "done", "{done:?}");
    host.client().runs("one", 2);
    let status = host.client().status("one");
    let history = &status.restart.history;
    assert_eq!(history.len(), 1, "{status:?}");
    assert_eq!(history[0].reason, ExitReason::Completed, "{status:?}");
    host.client().stop("one").expect(200);
    assert_eq!(host.client().status("one").status, "exited");
    let lines = host.finish();
    assert_eq!(line(&lines, "agent.restart_scheduled", "one", 1)["reason"], "completed");
    assert_eq!(count(&lines, "agent.restart_scheduled", "one"), 1);
    assert_eq!(count(&lines, "agent.crash", "one"), 0);
}

#[test]
fn an_agent_of_the_configuration_comes_back() {
    let host = builder("permanent", SHORT).agent("id = \"boot\"\nrole = \"puppet\"").start();
    host.client().reaches("boot", "running");
    panics(&host, "boot");
    host.client().runs("boot", 2);
    assert_eq!(host.client().ask("boot", "hello"), "hello");
    host.finish();
}

#[test]
fn a_backoff_shows_when_it_ends_and_why_it_began() {
    let host = builder("transient", &format!("{LONG}restart_max = 7\nrestart_window_ms = 60000"));
    let host = host.start();
    host.client().start("one", "puppet");
    let logged = panics(&host, "one");
    let status = host.client().status("one");
    assert_eq!(status.status, "backoff", "{status:?}");
    assert!(!status.busy, "{status:?}");
    assert_eq!(status.incarnation.0, 1, "{status:?}");
    assert_eq!(status.exit_reason.as_deref(), Some("panic"), "{status:?}");
    let exit = status.exit.as_ref().expect("more about the end");
    assert_eq!(exit.crash_id.as_deref(), logged.crash_id.as_deref(), "{status:?}");
    let restart = &status.restart;
    assert_eq!(restart.attempts_in_window, 1, "{status:?}");
    assert_eq!(restart.max_restarts, 7, "{status:?}");
    assert_eq!(restart.window_ms, 60_000, "{status:?}");
    let [end] = &restart.history[..] else { panic!("one end: {status:?}") };
    assert_eq!(end.reason, ExitReason::Panic, "{status:?}");
    assert_eq!(end.incarnation.0, 1, "{status:?}");
    assert_eq!(end.crash_id.as_deref(), logged.crash_id.as_deref(), "{status:?}");
    assert!(!end.at_start, "{status:?}");
    let next = restart.next_restart_at.expect("when it is restarted");
    assert_eq!(host.client().list()[0].restart.next_restart_at, Some(next));
    // No incarnation is active, and the slot is kept.
    let metrics = host.client().metrics();
    assert_eq!(metrics["bulkhead_stores"], 0.0);
    assert_eq!(metrics["bulkhead_places_used"], 1.0);
    assert_eq!(metrics["bulkhead_agents{state=\"backoff\"}"], 1.0);
    let lines = host.finish();
    assert_eq!(line(&lines, "agent.restart_scheduled", "one", 1)["restartAt"], next.to_string());
}

#[test]
fn the_place_of_an_agent_in_backoff_is_kept_for_it() {
    let host = builder("transient", LONG).toml("[limits]\nmax_agents = 1").start();
    host.client().start("one", "puppet");
    panics(&host, "one");
    host.client()
        .start_with("two", "echo", json!({}))
        .expect_error(503, &["about to be restarted"]);
    host.client().stop("one").expect(200);
    host.client().start("two", "echo");
    host.finish();
}

#[test]
fn a_start_in_backoff_starts_now() {
    let host = builder("transient", LONG).start();
    host.client().start("one", "puppet");
    panics(&host, "one");
    let started = host.client().start("one", "puppet");
    assert_eq!(started.agent.incarnation.0, 2, "{started:?}");
    assert_eq!(started.agent.status, "running", "{started:?}");
    assert_eq!(host.client().ask("one", "count"), "1");
    // It is the same agent: what happened before counts.
    panics(&host, "one");
    let status = host.client().status("one");
    assert_eq!(status.status, "backoff", "{status:?}");
    assert_eq!(status.restart.attempts_in_window, 2, "{status:?}");
    // Of another spec it does not.
    let body = json!({"model": "another"});
    let started: StartAnswer = host.client().start_with("one", "puppet", body).read(201);
    assert_eq!(started.agent.incarnation.0, 3, "{started:?}");
    assert_eq!(started.agent.restart.attempts_in_window, 0, "{started:?}");
    let lines = host.finish();
    for number in [1, 2] {
        let cancelled = line(&lines, "agent.restart_cancelled", "one", number);
        assert_eq!(cancelled["by"], "start", "{cancelled}");
        assert!(seq(line(&lines, "agent.exit", "one", number)) < seq(cancelled), "{cancelled}");
    }
}

#[test]
fn a_stop_in_backoff_ends_it() {
    const ROUNDS: u64 = 50;
    let host = builder("transient", LONG).start();
    for number in 1..=ROUNDS {
        let body = json!({"model": number.to_string()});
        host.client().start_with("one", "puppet", body).expect(201);
        panics(&host, "one");
        assert_eq!(host.client().status("one").status, "backoff");
        let answer: StopAnswer = host.client().stop("one").read(200);
        assert!(answer.stopped, "{answer:?}");
        // A client that gets the answer of the stop sees it stopped.
        let status = host.client().status("one");
        assert_eq!(status.status, "exited", "incarnation {number}: {status:?}");
        assert!(status.restart.next_restart_at.is_none(), "{status:?}");
        host.client().send("one", "hello").expect_error(409, &["one", "exited"]);
        assert_eq!(host.client().metrics()["bulkhead_places_used"], 0.0);
    }
    let lines = host.finish();
    for number in 1..=ROUNDS {
        let cancelled = line(&lines, "agent.restart_cancelled", "one", number);
        assert_eq!(cancelled["by"], "control-api", "{cancelled}");
    }
    assert_eq!(count(&lines, "agent.exit", "one") as u64, ROUNDS);
}

#[test]
fn stops_in_backoff_at_the_same_time_all_see_the_end_of_it() {
    let host = builder("transient", LONG).start();
    for number in 1..=20 {
        let body = json!({"model": number.to_string()});
        host.client().start_with("one", "puppet", body).expect(201);
        panics(&host, "one");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    host.client().stop("one").expect(200);
                    let status = host.client().status("one");
                    assert_eq!(status.status, "exited", "incarnation {number}: {status:?}");
                });
            }
        });
    }
    let lines = host.finish();
    for number in 1..=20 {
        line(&lines, "agent.restart_cancelled", "one", number);
    }
}

/// An agent that was allowed two restarts and used them up. Returns the answer to a start.
#[track_caller]
fn quarantined(host: &Host) -> Answer {
    host.client().start("one", "puppet");
    for number in 1..=3 {
        host.client().runs("one", number);
        panics(host, "one");
    }
    let status = host.client().status("one");
    assert_eq!(status.status, "quarantined", "{status:?}");
    assert!(status.restart.next_restart_at.is_none(), "{status:?}");
    let why = status.restart.quarantine.map(|quarantine| quarantine.why);
    assert_eq!(why, Some(QuarantineReason::Intensity));
    host.client().start_with("one", "puppet", json!({}))
}

fn two_restarts() -> Host {
    builder("transient", &format!("{SHORT}restart_max = 2")).start()
}

#[test]
fn one_end_too_many_is_quarantined_and_the_same_start_refused() {
    let host = two_restarts();
    let refused = quarantined(&host).expect_error(409, &["quarantined", "force"]);
    assert_eq!(refused.error_type.as_deref(), Some("quarantined"), "{refused:?}");
    assert_eq!(refused.phase.as_deref(), Some("admission"), "{refused:?}");
    let history = &refused.history;
    let incarnations: Vec<_> = history.iter().map(|end| end.incarnation.0).collect();
    assert_eq!(incarnations, [1, 2, 3], "{refused:?}");
    assert!(history.iter().all(|end| end.reason == ExitReason::Panic), "{refused:?}");
    host.client().send("one", "hello").expect_error(409, &["one", "quarantined"]);
    host.client().nudge("one", "n", "hello").expect_error(409, &["one", "quarantined"]);
    assert_eq!(host.client().metrics()["bulkhead_places_used"], 0.0);
    assert_eq!(host.client().metrics()["bulkhead_agents{state=\"quarantined\"}"], 1.0);
    let lines = host.finish();
    let logged = line(&lines, "agent.quarantined", "one", 3);
    assert_eq!(logged["why"], "intensity", "{logged}");
    assert_eq!(logged["attemptsInWindow"], 3, "{logged}");
    assert_eq!(logged["reason"], "panic", "{logged}");
    let crash = line(&lines, "agent.crash", "one", 3);
    assert_eq!(logged["crashId"], crash["crashId"], "{logged}");
    assert_eq!(crash["consequence"]["decision"], "quarantined", "{crash}");
    assert_eq!(crash["consequence"]["why"], "intensity", "{crash}");
    assert_eq!(crash["consequence"]["message"], logged["message"], "{crash}");
    let attempts =
        |number| line(&lines, "agent.restart_scheduled", "one", number)["attemptsInWindow"].clone();
    assert_eq!([attempts(1), attempts(2)], [json!(1), json!(2)]);
}

#[test]
fn force_ends_a_quarantine_and_its_history() {
    let host = two_restarts();
    quarantined(&host).expect_error(409, &[]);
    let forced = json!({"force": true});
    let started: StartAnswer = host.client().start_with("one", "puppet", forced).read(201);
    assert_eq!(started.agent.incarnation.0, 4, "{started:?}");
    assert!(started.agent.restart.history.is_empty(), "{started:?}");
    assert!(started.agent.restart.quarantine.is_none(), "{started:?}");
    // It has all its restarts again.
    panics(&host, "one");
    host.client().runs("one", 5);
    host.finish();
}

#[test]
fn another_spec_is_a_new_chance() {
    let host = two_restarts();
    quarantined(&host).expect_error(409, &[]);
    let body = json!({"systemPrompt": "do better"});
    let started: StartAnswer = host.client().start_with("one", "puppet", body).read(201);
    assert_eq!(started.agent.incarnation.0, 4, "{started:?}");
    assert!(started.agent.restart.quarantine.is_none(), "{started:?}");
    assert_eq!(host.client().ask("one", "count"), "1");
    host.finish();
}

#[test]
fn a_stop_leaves_a_quarantine_as_it_is() {
    let host = two_restarts();
    quarantined(&host).expect_error(409, &[]);
    host.client().stop("one").expect(200);
    assert_eq!(host.client().status("one").status, "quarantined");
    host.client().start_with("one", "puppet", json!({})).expect_error(409, &["quarantined"]);
    let lines = host.finish();
    assert_eq!(count(&lines, "agent.restart_cancelled", "one"), 0);
}

#[test]
fn ends_that_are_long_ago_do_not_count() {
    let settings = format!("{SHORT}restart_max = 1\nrestart_window_ms = 1");
    let host = builder("transient", &settings).start();
    host.client().start("one", "puppet");
    for number in 1..=6 {
        host.client().runs("one", number);
        panics(&host, "one");
    }
    host.client().runs("one", 7);
    host.finish();
}

/// A start that ends in the same way each time: as often as the role says, and no more.
#[track_caller]
fn check_same_fault(lines: &[Value], agent: &str, reason: &str) {
    assert_eq!(count(lines, "agent.exit", agent), 3);
    assert_eq!(count(lines, "agent.start", agent), 0);
    assert_eq!(count(lines, "agent.restart_scheduled", agent), 2);
    let logged = line(lines, "agent.quarantined", agent, 3);
    assert_eq!(logged["why"], "same-fault", "{logged}");
    assert_eq!(logged["reason"], reason, "{logged}");
    for (number, deterministic) in [(1, "unknown"), (2, "unknown"), (3, "true")] {
        let crash = line(lines, "agent.crash", agent, number);
        assert_eq!(crash["phase"], "start", "{crash}");
        assert_eq!(crash["deterministic"], deterministic, "{crash}");
    }
}

#[test]
fn a_start_that_fails_in_the_same_way_each_time_is_not_retried_into_the_wall() {
    for (prompt, reason, error_type) in
        [("panic", "panic", "guest-crashed"), ("error", "start_failed", "guest-error")]
    {
        let host = builder("transient", &format!("{SHORT}restart_same_fault = 3")).start();
        let body = json!({"prompt": prompt});
        let answer = host.client().start_with("one", "puppet", body.clone());
        let answer = answer.expect_error(502, &["told to"]);
        assert_eq!(answer.error_type.as_deref(), Some(error_type), "{answer:?}");
        assert_eq!(answer.phase.as_deref(), Some("guest_start"), "{answer:?}");
        let status = host.client().reaches("one", "quarantined");
        let history = &status.restart.history;
        assert!(history.iter().all(|end| end.at_start), "{status:?}");
        assert_eq!(history[0].crash_id, answer.crash_id, "{status:?}");
        host.client().start_with("one", "puppet", body).expect_error(409, &["same fault"]);
        // Of the starts that somebody waited for, and of nobody else's, there is a failure to log.
        let lines = host.finish();
        assert_eq!(line(&lines, "agent.start_failed", "one", 1)["errorType"], error_type);
        check_same_fault(&lines, "one", reason);
    }
}

#[test]
fn an_agent_of_the_configuration_that_cannot_start_is_quarantined_and_the_host_is_ready() {
    let host = builder("permanent", &format!("{SHORT}restart_same_fault = 3"))
        .agent("id = \"boot\"\nrole = \"puppet\"\nprompt = \"panic\"")
        .agent("id = \"healthy\"\nrole = \"echo\"")
        .start();
    host.client().reaches("boot", "quarantined");
    harness::wait_until("the host is ready", || host.client().get("/readyz").status == 200);
    assert_eq!(host.client().ask("healthy", "hello"), "hello");
    check_same_fault(&host.finish(), "boot", "panic");
}

#[test]
fn a_component_that_can_never_start_is_refused_and_not_retried() {
    let dir = tempfile::tempdir().expect("make a directory");
    let stranger = dir.path().join("stranger.wasm");
    std::fs::write(&stranger, wat::parse_str("(component)").expect("a component"))
        .expect("write it");
    let settings = format!("restart = \"permanent\"\n{SHORT}");
    let host = builder("permanent", SHORT)
        .role("small", "puppet", &format!("{settings}memory_limit_mb = 1"))
        .component("stranger", &stranger)
        .role("stranger", "stranger", &settings)
        .agent("id = \"boot-small\"\nrole = \"small\"")
        .agent("id = \"boot-stranger\"\nrole = \"stranger\"")
        .start();
    for (role, error_type) in [("small", "memory-minimum"), ("stranger", "wrong-world")] {
        let answer = host.client().start_with(role, role, json!({})).expect_error(422, &[]);
        assert_eq!(answer.error_type.as_deref(), Some(error_type), "{answer:?}");
    }
    // Long enough for another agent to be restarted, more than once.
    let first = host.client().start("crasher", "puppet").agent.incarnation.0;
    for number in first..first + 3 {
        host.client().runs("crasher", number);
        panics(&host, "crasher");
    }
    host.client().runs("crasher", first + 3);
    let lines = host.finish();
    for agent in ["small", "stranger", "boot-small", "boot-stranger"] {
        assert_eq!(count(&lines, "agent.start_failed", agent), 1, "{agent}");
        assert_eq!(count(&lines, "agent.restart_scheduled", agent), 0, "{agent}");
        assert_eq!(count(&lines, "agent.exit", agent), 0, "{agent}");
    }
}

#[test]
fn an_agent_that_dies_in_a_loop_has_one_budget_of_log_lines() {
    /// As many lines get through at once, and a tenth of them with each second.
    const BURST: u64 = 10;
    const INCARNATIONS: u64 = 6;
    let settings = format!("{SHORT}restart_max = 100\nlog_lines_per_second = 1");
    let host = builder("transient", &settings).start();
    host.client().start("one", "puppet");
    for number in 1..=INCARNATIONS {
        host.client().runs("one", number);
        assert_eq!(host.client().ask("one", "say 20"), "20");
        panics(&host, "one");
    }
    let lines = host.finish();
    let written = count(&lines, "agent.log", "one") as u64;
    let millis = |line: &Value| line["uptimeMs"].as_u64().expect("a time");
    let first = millis(line(&lines, "agent.start", "one", 1));
    let last = millis(line(&lines, "agent.exit", "one", INCARNATIONS));
    let allowed = BURST + (last - first).div_ceil(1000) + 1;
    assert!(written <= allowed, "{written} lines, {allowed} are allowed");
    let lost = |number| line(&lines, "agent.exit", "one", number)["droppedLogLines"].clone();
    assert!(
        lost(INCARNATIONS).as_u64() >= Some(15),
        "the last incarnation lost {}",
        lost(INCARNATIONS)
    );
}
