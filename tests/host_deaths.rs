//! Who kills the host is not simply started again: a death of the host counts against the agents that were at work
//! then, two in a row quarantine one, and the innocent are cleared one at a time.

use bulkhead_types::ExitReason;
use harness::{Host, HostBuilder, Value, wait_until};
use rustix::process::{Signal, kill_process};

/// An agent whose first turn aborts the host, and others that wait in theirs.
fn builder() -> HostBuilder {
    // By default a role is `temporary`.
    Host::builder().guest("host-error").guest("puppet").supervise()
}

fn deaths_of(host: &Host, agent: &str) -> Vec<Value> {
    let mut crashes = host.events_of(agent, "agent.crash");
    crashes.retain(|crash| crash["reason"] == "host_death");
    crashes
}

/// How often init restarted the host. A run that dies at once may have no line of its own.
fn restarts(host: &Host) -> u64 {
    let runs = host.events_named("container.cold_start");
    runs.last().and_then(|line| line["restartSeq"].as_u64()).expect("a run")
}

/// Begins an agent that ends the host in its first turn, each time.
fn start_culprit(host: &Host) {
    start_culprit_as(host, "host-error");
}

fn start_culprit_as(host: &Host, role: &str) {
    let prompt = harness::json!({"prompt": "abort"});
    host.client().start_with("culprit", role, prompt).expect(201);
    wait_until("it is at work", || host.client().status("culprit").busy);
    std::fs::write(host.workspace("culprit").join("abort"), "").expect("write into the workspace");
}

#[test]
fn an_agent_that_kills_the_host_twice_is_quarantined() {
    let host = builder().start().ready();
    host.client().start("bystander", "puppet");
    start_culprit(&host);
    host.wait_for_number(&["agent.quarantined"], 1);
    assert_eq!(restarts(&host), 2, "two deaths");
    host.wait_until_ready();
    let status = host.client().status("culprit");
    let (state, reason) = (&*status.status, status.exit_reason.as_deref());
    assert_eq!((state, reason), ("quarantined", Some("host_death")));
    // Each run counts what died with the one before it.
    let metrics = host.client().metrics();
    assert_eq!(metrics["bulkhead_agent_exits_total{reason=\"host_death\"}"], 1.0, "{metrics:#?}");
    assert_eq!(metrics["bulkhead_role_crashes_total{role=\"host-error\"}"], 1.0, "{metrics:#?}");
    assert_eq!(metrics["bulkhead_agents_missing{state=\"quarantined\"}"], 1.0, "{metrics:#?}");
    let cause = "bulkhead_previous_run_info{cause=\"native_fault\",confidence=\"high\"}";
    assert_eq!(metrics[cause], 1.0, "{metrics:#?}");
    host.client()
        .start_with("culprit", "host-error", harness::json!({"prompt": "abort"}))
        .expect_error(409, &[]);
    assert_eq!(host.client().ask("bystander", "hi"), "hi");
    assert!(deaths_of(&host, "bystander").is_empty(), "it was not at work");
    let crashes = deaths_of(&host, "culprit");
    assert_eq!(crashes.len(), 2, "{crashes:#?}");
    assert_eq!(crashes[0]["consequence"]["decision"], "restart");
    assert_eq!(crashes[1]["consequence"]["why"], "host-death", "{:#}", crashes[1]);
    let runs = host.events_named("container.cold_start");
    for (crash, run) in crashes.iter().zip(&runs[..1]) {
        assert_eq!(crash["phase"], "handle", "{crash:#}");
        let kept = host.client().crash(crash["crashId"].as_str().expect("an id"));
        assert_eq!(kept.reason, ExitReason::HostDeath, "{kept:#?}");
        assert_eq!(kept.run_id, run["runId"], "the run that died: {kept:#?}");
    }
    // It stays down over a death that nobody is to blame for.
    kill_process(host.supervisor_pid(), Signal::KILL).expect("kill the supervisor");
    host.wait_for_line("the next run", |line| line["restartSeq"] == 3);
    host.wait_until_ready();
    let metrics = host.client().metrics();
    assert_eq!(metrics["bulkhead_agent_exits_total{reason=\"host_death\"}"], 0.0, "{metrics:#?}");
    assert_eq!(host.client().status("culprit").status, "quarantined");
    host.finish();
}

#[test]
fn a_message_that_killed_the_host_is_set_aside_with_the_record_of_that() {
    let host = builder()
        .role("once", "host-error", "max_attempts = 1\nfault_injection = true")
        .start()
        .ready();
    start_culprit_as(&host, "once");
    let aside =
        host.wait_for_line("it is set aside", |line| line["event"] == "agent.message_set_aside");
    let deaths = deaths_of(&host, "culprit");
    assert_eq!(deaths.len(), 1, "{deaths:#?}");
    assert_eq!(aside["crashIds"], harness::json!([deaths[0]["crashId"]]), "{aside:#}");
    host.wait_until_ready();
    host.finish();
}

#[test]
fn the_innocent_that_were_at_work_are_cleared() {
    let host = builder().start().ready();
    let innocent = ["a", "b", "z"];
    for agent in innocent {
        host.client().start(agent, "puppet");
        host.client().send(agent, "wait well").expect(200);
        wait_until("it is at work", || host.client().status(agent).busy);
    }
    start_culprit(&host);
    host.wait_for_line("the next run", |line| line["restartSeq"].as_u64() > Some(0));
    // An agent that has its message again may end its turn.
    innocent.iter().for_each(|agent| host.release(agent));
    host.wait_for_number(&["agent.quarantined"], 1);
    host.wait_until_ready();
    assert_eq!(host.events_of("culprit", "agent.quarantined").len(), 1);
    assert_eq!(deaths_of(&host, "culprit").len(), 2);
    for agent in innocent {
        innocent.iter().for_each(|agent| host.release(agent));
        host.client().reaches(agent, "running");
        assert_eq!(deaths_of(&host, agent).len(), 1, "it was in flight once");
    }
    assert_eq!(restarts(&host), 2, "two deaths are enough to find it");
    let reported = host.events_named("container.previous_run");
    let last = reported.last().expect("a line");
    assert_eq!(last["inFlight"].as_array().map(Vec::len), Some(1), "it was alone: {last:#}");
    host.finish_with(Signal::INT, harness::host::CLEAN);
}

#[test]
fn a_kill_from_outside_counts_against_nobody() {
    let host = builder().start().ready();
    host.client().start("a", "puppet");
    for run in 2..=4 {
        if !host.client().status("a").busy {
            host.client().send("a", "wait well").expect(200);
        }
        wait_until("it is at work", || host.client().status("a").busy);
        kill_process(host.supervisor_pid(), Signal::KILL).expect("kill the supervisor");
        host.wait_for_number(&["container.cold_start"], run);
        host.wait_until_ready();
        host.client().reaches("a", "running");
    }
    assert!(deaths_of(&host, "a").is_empty());
    assert!(host.events_named("agent.quarantined").is_empty());
    host.release("a");
    host.finish_with(Signal::INT, harness::host::CLEAN);
}
