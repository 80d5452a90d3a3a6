//! The end of the whole container by a signal: what is finished, what is killed, what is logged.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bulkhead_api::Health;
use harness::client::Client;
use harness::host::{CLEAN, SIGNAL_DEBOUNCE, UNCLEAN};
use harness::incarnations::{check_one_at_a_time, events_of, only};
use harness::trial::incarnation;
use harness::{Answer, Host, HostBuilder, Value, json, wait_until};
use rustix::process::Signal;

/// Is restarted automatically, and nobody lives to see it: the wait is random, below three thousand years.
const FOR_EVER_AWAY: &str = "restart = \"transient\"\nmax_attempts = 1\nrestart_backoff_ms = 31536000000\nrestart_backoff_max_ms = 31536000000";

/// What comes after a drain's own time, where the machine does other things: killing, last answers, last
/// lines of the log.
const ENDING: Duration = Duration::from_secs(15);

fn phase_begins(host: &Host, phase: &str) -> Value {
    host.wait_for_line(&format!("the phase {phase}"), |line| {
        line["event"] == "container.draining" && line["phase"] == phase
    })
}

/// Begins a turn of this many milliseconds with a message. The sender gets what comes of it.
fn busy<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    client: &'scope Client,
    agent: &'scope str,
    message: &'scope str,
) -> std::thread::ScopedJoinHandle<'scope, Answer> {
    let sender = scope.spawn(move || client.send_wait(agent, message));
    wait_until("the turn is under way", || client.status(agent).busy);
    sender
}

/// The report of the drain: each phase with its name, and the agents that were there, stopped and killed.
#[track_caller]
fn phases(lines: &[Value]) -> Vec<(String, [u64; 3])> {
    let reports: Vec<_> =
        lines.iter().filter(|line| line["event"] == "container.drained").collect();
    let [report] = reports[..] else { panic!("{} lines of container.drained", reports.len()) };
    let phase = |phase: &Value| {
        let figure = |name: &str| phase[name].as_u64().unwrap_or_else(|| panic!("{name}: {phase}"));
        let name = phase["phase"].as_str().expect("a name").to_owned();
        (name, ["agents", "stopped", "killed"].map(figure))
    };
    let phases: Vec<_> = report["phases"].as_array().expect("phases").iter().map(phase).collect();
    check_begins(lines, &phases, report);
    phases
}

/// Each phase was logged when it began, in this order, then the whole, then the end of the host.
#[track_caller]
fn check_begins(lines: &[Value], phases: &[(String, [u64; 3])], report: &Value) {
    let begins = lines.iter().filter(|line| line["event"] == "container.draining");
    let begins: Vec<_> = begins.collect();
    let logged = &begins[begins.len().saturating_sub(phases.len())..];
    for (begin, (name, [agents, ..])) in logged.iter().zip(phases) {
        assert_eq!((&begin["phase"], &begin["agents"]), (&json!(name), &json!(agents)), "{begin}");
    }
    assert_eq!(logged.len(), phases.len(), "{report}");
    let stopped = lines.last().expect("a line");
    assert_eq!(stopped["event"], "container.stopped");
    for (index, name) in ["stopped", "killed"].into_iter().enumerate() {
        let sum: u64 = phases.iter().map(|(_, figures)| figures[index + 1]).sum();
        assert_eq!(stopped[name], sum, "{name}: {report}");
    }
    let order: Vec<_> = begins.iter().copied().chain([report, stopped]).map(seq).collect();
    assert!(order.is_sorted(), "{order:?}");
}

fn seq(line: &Value) -> u64 {
    line["seq"].as_u64().expect("a number")
}

#[track_caller]
fn reason<'a>(lines: &'a [Value], agent: &str) -> &'a str {
    only(lines, agent, "agent.exit")["reason"].as_str().expect("a reason")
}

fn slow() -> HostBuilder {
    Host::builder().guest("hang").role("hang", "hang", "host_call_ms = 60000")
}

#[test]
fn turns_and_mail_are_finished_and_nothing_new_is_let_in() {
    let host = Host::builder().guest("puppet").start();
    let client = host.client();
    client.start("busy", "puppet");
    client.start("idle", "echo");
    wait_until("boot is through", || client.get("/readyz").status == 200);
    std::thread::scope(|scope| {
        let turn = host.occupy(scope, "busy", "over");
        let mail: Vec<_> = ["one", "two", "three"]
            .map(|body| (body, scope.spawn(move || client.send_wait("busy", body))))
            .into();
        wait_until("mail waits", || client.status("busy").mailbox_depth == 3);
        host.signal(Signal::TERM);
        let begin = phase_begins(&host, "settling");
        assert_eq!((&begin["agents"], &begin["busy"]), (&json!(2), &json!(1)), "{begin}");
        client.get("/readyz").expect_error(503, &["draining"]);
        assert_eq!(client.get("/health").read::<Health>(200).draining, Some(true));
        for (agent, more) in [
            ("new", json!({})),
            ("idle", json!({})),
            ("idle", json!({"ifRunning": "keep"})),
            ("busy", json!({"force": true})),
        ] {
            let refused = client.start_with(agent, "echo", more);
            assert!(refused.retry_after.is_some(), "{refused:?}");
            let body = refused.expect_error(503, &[]);
            assert_eq!(body.error_type.as_deref(), Some("draining"), "{body:?}");
        }
        // An active agent still gets messages.
        assert_eq!(client.ask("idle", "hi"), "hi");
        host.release("busy");
        assert_eq!(turn.join().expect("the sender").reply(), "over");
        for (body, sender) in mail {
            assert_eq!(sender.join().expect("a sender").reply(), body);
        }
    });
    let lines = host.ends_with(CLEAN);
    let expected = [("settling".into(), [2, 0, 0]), ("stopping".into(), [2, 2, 0])];
    assert_eq!(phases(&lines), expected);
    for agent in ["busy", "idle"] {
        assert_eq!(reason(&lines, agent), "drained");
    }
    let stopping = lines.iter().find(|line| line["phase"] == "stopping").expect("a line");
    let turns: Vec<_> = events_of(&lines, "busy", "agent.turn").collect();
    assert_eq!(turns.len(), 4);
    assert!(
        turns.iter().all(|turn| seq(turn) < seq(stopping)),
        "agents stop when mail is worked off"
    );
    let refused = lines.iter().filter(|line| line["event"] == "agent.start_failed");
    for line in refused {
        assert_eq!(line["error_type"], Value::Null, "{line}");
        assert_eq!(line["errorType"], "draining", "{line}");
        assert!(seq(line) < seq(turns[0]), "refused before anything ended: {line}");
    }
}

#[test]
fn turns_that_do_not_end_are_killed_when_time_is_up() {
    let limits = "[limits]\ndrain_ms = 60000\nshutdown_ms = 3000";
    let builder = slow().guest("spin").guest("ignores-stop").toml(limits);
    // What the platform says counts, and the first line of a run says what counts.
    let builder = builder.run_by(&["env", "BULKHEAD_DRAIN_MS=4500"]);
    // Their own grace is 20 s: the container's is what counts.
    let host = builder
        .role("spin", "spin", "cpu_ms = 60000")
        .role("ignores-stop", "ignores-stop", "")
        .start();
    let client = host.client();
    for role in ["hang", "spin", "ignores-stop", "echo"] {
        client.start(role, role);
    }
    let asked = std::thread::scope(|scope| {
        let turns = [("hang", "60000"), ("spin", "spin")]
            .map(|(agent, message)| busy(scope, client, agent, message));
        let asked = Instant::now();
        host.signal(Signal::TERM);
        for turn in turns {
            let body = turn.join().expect("the sender").expect_error(502, &[]);
            assert_eq!(body.exit_reason.as_deref(), Some("killed"), "{body:?}");
            assert!(body.crash_id.is_some(), "{body:?}");
        }
        asked
    });
    let lines = host.ends_with(UNCLEAN);
    let took = asked.elapsed();
    let start = (&lines[0]["event"], &lines[0]["drainMs"]);
    assert_eq!(start, (&json!("container.cold_start"), &json!(4500)));
    assert!(
        took > Duration::from_millis(4500) && took < Duration::from_millis(4500) + ENDING,
        "{took:?}"
    );
    let expected = [
        ("settling".into(), [4, 0, 0]),
        ("stopping".into(), [4, 1, 0]),
        ("killing".into(), [3, 0, 3]),
    ];
    assert_eq!(phases(&lines), expected);
    assert_eq!(reason(&lines, "echo"), "drained");
    for agent in ["hang", "spin", "ignores-stop"] {
        assert_eq!(reason(&lines, agent), "killed");
        only(&lines, agent, "agent.crash");
    }
}

#[test]
fn the_end_of_an_agent_that_is_not_restarted_is_logged_before_the_host_goes() {
    let limits = "[limits]\ndrain_ms = 300\nshutdown_ms = 200";
    let host = Host::builder().guest("host-error").toml(limits).start().ready();
    host.client().start("stuck", "host-error");
    // A thread that a host function blocks: no epoch and no timer gets at it.
    host.client().send("stuck", "block").expect(200);
    host.wait_for_line("the guest is about to block", |line| {
        line["event"] == "agent.log" && line["message"] == "about to block"
    });
    host.signal(Signal::TERM);
    let lines = host.ends_with(UNCLEAN);
    let exit = only(&lines, "stuck", "agent.exit");
    assert_eq!((&exit["reason"], &exit["phase"]), (&"killed".into(), &"handle".into()), "{exit}");
    let crash = only(&lines, "stuck", "agent.crash");
    assert_eq!(crash["hostCall"], "bulkhead:agent/host.config", "{crash}");
    let message = crash["message"].as_str().unwrap_or_default();
    assert!(message.contains("did not return within 5"), "{crash}");
    let drained = lines.iter().find(|line| line["event"] == "container.drained").expect("a line");
    assert!(seq(exit) < seq(drained), "{drained}");
    assert_eq!(phases(&lines).last(), Some(&("killing".into(), [1, 0, 1])));
}

#[test]
fn an_agent_in_backoff_does_not_come_back() {
    let host = Host::builder().guest("trap").role("trap", "trap", FOR_EVER_AWAY).start();
    let client = host.client();
    client.start("one", "trap");
    client.send_wait("one", "panic").expect_error(502, &[]);
    assert_eq!(client.status("one").status, "backoff");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.send_wait("one", "hi"));
        wait_until("mail waits", || client.status("one").mailbox_depth == 1);
        host.signal(Signal::TERM);
        let body = waiting.join().expect("the sender").expect_error(502, &[]);
        assert_eq!(body.exit_reason.as_deref(), Some("drained"), "{body:?}");
    });
    let lines = host.ends_with(CLEAN);
    assert_eq!(phases(&lines).iter().map(|(_, [agents, ..])| agents).sum::<u64>(), 0);
    assert_eq!(only(&lines, "one", "agent.restart_cancelled")["by"], "drain");
    only(&lines, "one", "agent.start");
}

#[test]
fn many_agents_in_backoff_are_all_logged() {
    const MANY: usize = 50;
    let host = Host::builder().guest("trap").role("trap", "trap", FOR_EVER_AWAY).start();
    let names: Vec<_> = (0..MANY).map(|n| format!("agent-{n}")).collect();
    for name in &names {
        host.client().start(name, "trap");
        host.client().send_wait(name, "panic").expect_error(502, &[]);
    }
    let lines = host.finish();
    for name in &names {
        assert_eq!(only(&lines, name, "agent.restart_cancelled")["by"], "drain");
    }
}

#[test]
fn a_crash_while_others_work_is_recorded_and_not_restarted() {
    let at_once = "restart = \"permanent\"\nmax_attempts = 1\nrestart_backoff_ms = 1";
    let host = Host::builder().guest("puppet").guest("trap").role("trap", "trap", at_once).start();
    let client = host.client();
    client.start("busy", "puppet");
    client.start("one", "trap");
    std::thread::scope(|scope| {
        let turn = host.occupy(scope, "busy", "over");
        host.signal(Signal::TERM);
        phase_begins(&host, "settling");
        let body = client.send_wait("one", "panic").expect_error(502, &[]);
        assert_eq!(body.exit_reason.as_deref(), Some("panic"), "{body:?}");
        assert_eq!(client.status("one").status, "failed");
        host.release("busy");
        turn.join().expect("the sender").expect(200);
    });
    let lines = host.ends_with(UNCLEAN);
    let expected = [("settling".into(), [2, 0, 1]), ("stopping".into(), [1, 1, 0])];
    assert_eq!(phases(&lines), expected);
    only(&lines, "one", "agent.crash");
    only(&lines, "one", "agent.start");
    assert_eq!(events_of(&lines, "one", "agent.restart_scheduled").count(), 0);
}

#[test]
fn a_crash_that_was_reported_before_is_no_unclean_end() {
    // A copy of so much memory takes a while after the report.
    let role = "core_dump = true\nmemory_limit_mb = 64";
    let host = Host::builder().guest("leak").role("leak", "leak", role).start();
    let client = host.client();
    client.start("one", "leak");
    assert_eq!(client.ask("one", "leak 40960"), "40960");
    std::thread::scope(|scope| {
        scope.spawn(|| client.send_wait("one", "leak 40960"));
        host.wait_for_event("one", "agent.exit");
        host.signal(Signal::TERM);
    });
    let lines = host.ends_with(CLEAN);
    assert!(phases(&lines).iter().all(|(_, figures)| *figures == [0; 3]));
    only(&lines, "one", "agent.core_dump");
}

#[test]
fn a_message_of_many_turns_is_worked_off_to_its_end() {
    let host = Host::builder().guest("puppet").start();
    let client = host.client();
    client.start("one", "puppet");
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| client.send_wait("one", "turns 5000 through"));
        wait_until("it is at it", || client.status("one").message_count == 1);
        host.signal(Signal::TERM);
        assert_eq!(caller.join().expect("the sender").reply(), "through");
    });
    let lines = host.ends_with(CLEAN);
    assert_eq!(phases(&lines)[0].0, "settling");
}

#[test]
fn a_second_signal_ends_at_once() {
    let host = slow().start();
    let client = host.client();
    client.start("busy", "hang");
    client.start("idle", "echo");
    std::thread::scope(|scope| {
        let turn = busy(scope, client, "busy", "60000");
        host.signal(Signal::TERM);
        phase_begins(&host, "settling");
        client.stop("idle").expect(200);
        // The time is the fact: one that comes sooner is the first one once more.
        std::thread::sleep(SIGNAL_DEBOUNCE);
        host.signal(Signal::TERM);
        let body = turn.join().expect("the sender").expect_error(502, &[]);
        assert_eq!(body.exit_reason.as_deref(), Some("killed"), "{body:?}");
    });
    let lines = host.ends_with(UNCLEAN);
    let phases = phases(&lines);
    let [(first, settling), (last, [1, stopped, killed])] = &phases[..] else {
        panic!("{phases:?}")
    };
    assert_eq!((first.as_str(), *settling), ("settling", [2, 1, 0]), "what ended before counts");
    assert_eq!((last.as_str(), stopped + killed), ("killing", 1));
    assert_eq!(reason(&lines, "busy"), "killed");
    only(&lines, "idle", "agent.exit");
    let intents = lines.iter().filter(|line| line["event"] == "container.stop_intent");
    assert_eq!(intents.count(), 2, "each signal is logged");
}

#[test]
fn an_end_that_a_second_signal_cut_short_is_clean_for_the_next_run() {
    let mut first = slow().start();
    first.client().start("busy", "hang");
    std::thread::scope(|scope| {
        let turn = busy(scope, first.client(), "busy", "60000");
        first.signal(Signal::TERM);
        phase_begins(&first, "settling");
        std::thread::sleep(SIGNAL_DEBOUNCE);
        first.signal(Signal::TERM);
        turn.join().expect("the sender").expect_error(502, &[]);
    });
    assert_eq!(first.wait().code(), Some(UNCLEAN));
    let second = first.restart();
    let line = second.wait_for_number(&["container.previous_run"], 1);
    assert_eq!(
        (&line["cause"], &line["confidence"]),
        (&json!("clean"), &json!("high")),
        "{line:#}"
    );
    let second = second.ready();
    // It is delivered again, and would hold up this end too.
    second.client().stop("busy").expect(200);
    second.finish();
}

#[test]
fn an_interrupt_does_not_wait_for_mail() {
    let host = Host::builder().guest("puppet").start();
    let client = host.client();
    client.start("busy", "puppet");
    client.start("idle", "echo");
    std::thread::scope(|scope| {
        let turn = host.occupy(scope, "busy", "over");
        let waiting = scope.spawn(|| client.send_wait("busy", "hi"));
        wait_until("mail waits", || client.status("busy").mailbox_depth == 1);
        host.signal(Signal::INT);
        // The turn is within the role's grace.
        phase_begins(&host, "stopping");
        host.release("busy");
        assert_eq!(turn.join().expect("the sender").reply(), "over");
        let body = waiting.join().expect("a sender").expect_error(502, &[]);
        assert_eq!(body.exit_reason.as_deref(), Some("drained"), "{body:?}");
    });
    let lines = host.ends_with(CLEAN);
    assert_eq!(phases(&lines), [("stopping".into(), [2, 2, 0])]);
    assert_eq!(only(&lines, "busy", "agent.exit")["undelivered"], 1);
}

#[test]
fn a_start_that_waited_for_its_turn_is_no_unclean_end() {
    let host = Host::builder().guest("puppet").start();
    let client = host.client();
    client.start("one", "puppet");
    std::thread::scope(|scope| {
        let turn = host.occupy(scope, "one", "over");
        let next = scope.spawn(|| client.start_with("one", "puppet", json!({"model": "another"})));
        wait_until("the next one waits for its turn", || client.status("one").incarnation.0 == 2);
        host.signal(Signal::INT);
        next.join().expect("the caller").expect_error(409, &["superseded"]);
        host.release("one");
        assert_eq!(turn.join().expect("the sender").reply(), "over");
    });
    let lines = host.ends_with(CLEAN);
    assert_eq!(reason(&lines, "one"), "superseded");
    let superseded = only(&lines, "one", "agent.start_superseded");
    assert_eq!((incarnation(superseded), &superseded["by"]), (2, &json!("SIGINT")));
    let (agents, ended) = phases(&lines)
        .iter()
        .fold((0, 0), |(agents, ended), (_, [a, s, k])| (agents.max(*a), ended + s + k));
    assert_eq!(agents, ended, "as many ended as there were");
}

#[test]
fn one_that_is_killed_behind_a_waiting_start_makes_the_end_unclean() {
    let host = slow().role("hang", "hang", "host_call_ms = 60000\nshutdown_ms = 1000").start();
    let client = host.client();
    client.start("one", "hang");
    std::thread::scope(|scope| {
        let turn = busy(scope, client, "one", "60000");
        let next = scope.spawn(|| client.start_with("one", "hang", json!({"model": "another"})));
        wait_until("the next one waits for its turn", || client.status("one").incarnation.0 == 2);
        host.signal(Signal::INT);
        next.join().expect("the caller").expect_error(409, &["superseded"]);
        turn.join().expect("the sender").expect_error(502, &["killed"]);
    });
    let lines = host.ends_with(UNCLEAN);
    assert_eq!(reason(&lines, "one"), "killed");
}

/// How many agents of each kind, what they are asked to do, and how they end.
const CROWD: [(&str, usize, Option<&str>, &[&str]); 8] = [
    ("echo", 40, None, &["drained"]),
    ("spin", 25, Some("spin"), &["killed"]),
    ("ignores-stop", 25, None, &["killed"]),
    ("hang", 25, Some("60000"), &["killed"]),
    // In its `start`, which has nothing to lose.
    ("slow-start", 25, None, &["drained"]),
    ("log-flood", 20, Some("flood 1000000000"), &["killed"]),
    ("looper", 25, Some("panic"), &["panic"]),
    ("quarantined", 15, Some("panic"), &["panic"]),
];

/// Starts the whole crowd, and gets everyone to where it should be. Yields the ids by kind.
fn crowd(client: &Client) -> BTreeMap<&'static str, Vec<String>> {
    let mut ids = BTreeMap::<_, Vec<String>>::new();
    for (role, number, message, _) in CROWD {
        for n in 0..number {
            let id = format!("{role}-{n}");
            match (role, message) {
                ("slow-start", _) => start_slowly(client.clone(), id.clone()),
                (_, None) => drop(client.start(&id, role)),
                (_, Some(message)) => {
                    client.start(&id, role);
                    client.send(&id, message).expect(200);
                }
            }
            ids.entry(role).or_default().push(id);
        }
    }
    let expected = |role: &str| match role {
        "slow-start" => ("starting", false),
        "looper" => ("backoff", false),
        "quarantined" => ("quarantined", false),
        "echo" | "ignores-stop" => ("running", false),
        _ => ("running", true),
    };
    let total: usize = CROWD.iter().map(|(_, number, ..)| number).sum();
    wait_until("everyone is where it should be", || {
        let all = client.list();
        all.len() == total
            && all.iter().all(|agent| (&*agent.status, agent.busy) == expected(&agent.role))
    });
    ids
}

/// A start whose answer comes when the host ends, on a thread of its own.
fn start_slowly(client: Client, id: String) {
    std::thread::spawn(move || {
        let body = json!({"agentId": id, "role": "slow-start", "prompt": "60000"}).to_string();
        let _ = client.try_request("POST".parse().expect("a method"), "/agents/start", body);
    });
}

#[test]
fn two_hundred_agents_of_every_kind_end_in_time_and_each_is_accounted_for() {
    let builder = ["spin", "ignores-stop", "hang", "slow-start", "log-flood", "trap"]
        .into_iter()
        .fold(Host::builder(), HostBuilder::guest);
    let limits = "[limits]\nmax_agents = 256\ndrain_ms = 8000\nshutdown_ms = 6000";
    let long = "cpu_ms = 600000\nwall_ms = 600000\nhost_call_ms = 600000\nlog_lines_per_second = 1";
    let builder = ["spin", "ignores-stop", "hang", "log-flood"]
        .into_iter()
        .fold(builder.toml(limits), |builder, role| builder.role(role, role, long));
    let host = builder
        .role("looper", "trap", FOR_EVER_AWAY)
        .role("quarantined", "trap", "restart = \"transient\"\nmax_attempts = 1\nrestart_max = 0")
        .start();
    let ids = crowd(host.client());
    let asked = Instant::now();
    host.signal(Signal::TERM);
    let lines = host.ends_with(UNCLEAN);
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(8) + ENDING, "{took:?}");

    for (role, .., reasons) in CROWD {
        for id in &ids[role] {
            let exit = only(&lines, id, "agent.exit");
            let reason = exit["reason"].as_str().expect("a reason");
            assert!(reasons.contains(&reason), "{exit}");
            check_one_at_a_time(&lines, id);
        }
    }
    for id in &ids["looper"] {
        assert_eq!(only(&lines, id, "agent.restart_cancelled")["by"], "drain");
    }
    for id in &ids["quarantined"] {
        only(&lines, id, "agent.quarantined");
    }
    let phases = phases(&lines);
    let [(_, settling), (_, stopping), (_, killing)] = &phases[..] else { panic!("{phases:?}") };
    assert_eq!(*settling, [160, 0, 0]);
    assert_eq!(*stopping, [160, 65, 0], "echoes and starts end when asked to");
    assert_eq!(*killing, [95, 0, 95]);
    let exits = lines.iter().filter(|line| line["event"] == "agent.exit").count();
    assert_eq!(exits, 200);
}
