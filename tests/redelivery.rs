//! The message whose turn was under way when its agent or the host ended: it is delivered again, a bounded number
//! of times, and no caller that waits for it is forgotten.

use std::collections::BTreeMap;

use bulkhead_api::MessageAnswer;
use harness::{Host, HostBuilder, Value, json, wait_until};
use hyper::Method;
use rustix::process::Signal;

/// A backoff that no test sees the end of: up to three years, at random.
const LONG: &str = "restart_backoff_ms = 31_536_000_000\nrestart_backoff_max_ms = 31_536_000_000\n";

/// A backoff that nobody notices.
const SHORT: &str = "restart_backoff_ms = 1\nrestart_backoff_max_ms = 20\n";

fn builder(policy: &str, settings: &str) -> HostBuilder {
    let settings = format!("restart = {policy:?}\n{settings}");
    Host::builder().guest("puppet").role("puppet", "puppet", &settings)
}

/// What the agent noted of its deliveries: message and attempt, in order.
fn notes(host: &Host, agent: &str) -> Vec<(String, u64)> {
    let notes = std::fs::read_to_string(host.workspace(agent).join("notes")).unwrap_or_default();
    let note = |line: &str| {
        let (message, attempt) = line.split_once(' ').expect("a message and an attempt");
        (message.to_owned(), attempt.parse().expect("a number"))
    };
    notes.lines().map(note).collect()
}

fn attempts(host: &Host, agent: &str) -> Vec<u64> {
    notes(host, agent).into_iter().map(|(_, attempt)| attempt).collect()
}

#[track_caller]
fn wait_for_notes(host: &Host, agent: &str, count: usize) {
    wait_until("the delivery is noted", || notes(host, agent).len() >= count);
}

/// The host is gone from one moment to the next, and another run follows.
fn kill(mut host: Host) -> Host {
    host.signal(Signal::KILL);
    host.wait();
    host.restart().ready()
}

#[test]
fn callers_that_wait_get_the_answer_of_the_attempt_that_succeeds() {
    let host = builder("transient", SHORT).start();
    host.client().start("one", "puppet");
    assert_eq!(host.client().ask("one", "panic-until 2 attempt"), "2");
    assert_eq!(host.client().ask("one", "attempt"), "1", "another message, another count");
    assert_eq!(host.client().status("one").incarnation.0, 2);
    let lines = host.finish();
    let logged = lines.iter().filter(|line| line["event"] == "agent.message");
    let logged: Vec<_> = logged.map(|line| line["attempt"].as_u64().unwrap_or(0)).collect();
    assert_eq!(logged, [1, 2, 1]);
    let turns = lines.iter().filter(|line| line["event"] == "agent.turn");
    assert_eq!(turns.count(), 2, "one for each message");
}

#[test]
fn it_comes_before_everything_that_waits() {
    let host = builder("transient", SHORT).start();
    host.client().start("one", "puppet");
    std::thread::scope(|scope| {
        let first = host.occupy(scope, "one", "note panic-until 2 first");
        let others = host.queue(scope, "one", &["note second", "note third"]);
        host.release("one");
        wait_for_notes(&host, "one", 1);
        // The turn waits for the same sign once more.
        host.release("one");
        for (caller, reply) in
            std::iter::once(first).chain(others).zip(["first", "second", "third"])
        {
            assert_eq!(caller.join().expect("an answer").reply(), reply);
        }
    });
    assert_eq!(attempts(&host, "one"), [1, 2, 1, 1]);
    host.finish();
}

#[test]
fn past_its_attempts_it_is_set_aside_and_everyone_hears_of_it() {
    let host = builder("transient", &format!("{SHORT}max_attempts = 3")).start();
    host.client().start("one", "puppet");
    let answer = host.client().send_wait("one", "note panic").expect_error(502, &["told to panic"]);
    assert_eq!(answer.error_type.as_deref(), Some("message-set-aside"), "{answer:?}");
    assert_eq!(answer.exit_reason.as_deref(), Some("panic"), "{answer:?}");
    assert_eq!(answer.attempts, Some(3), "{answer:?}");
    assert_eq!(attempts(&host, "one"), [1, 2, 3]);
    host.client().runs("one", 4);
    assert_eq!(host.client().ask("one", "hello"), "hello");
    let shown = host.client().status("one").set_aside.expect("it was set aside");
    assert_eq!(Some(&shown.message_id), answer.message_id.as_ref());
    assert_eq!(Some(shown.attempts), answer.attempts);
    assert_eq!(shown.crash_ids, answer.crash_ids);
    // Those who follow the agent, the town among them.
    let logged = host.client().events_named("one", "agent.message_set_aside");
    assert_eq!(logged[0]["messageId"], shown.message_id);
    let lines = host.finish();
    let aside = harness::incarnations::only(&lines, "one", "agent.message_set_aside");
    let crashes = harness::incarnations::events_of(&lines, "one", "agent.crash");
    let crash_ids: Vec<_> = crashes.map(|crash| crash["crashId"].clone()).collect();
    assert_eq!(aside["crashIds"], json!(crash_ids), "{aside}");
    assert_eq!(json!(answer.crash_ids), json!(crash_ids), "{answer:?}");
    assert_eq!((&aside["attempts"], &aside["level"]), (&json!(3), &json!("error")), "{aside}");
    assert_eq!(aside["messageId"].as_str(), answer.message_id.as_deref(), "{aside}");
}

#[test]
fn a_role_may_have_each_message_delivered_once() {
    let host = builder("transient", &format!("{SHORT}max_attempts = 1")).start();
    host.client().start("one", "puppet");
    let answer = host.client().send_wait("one", "note panic").expect_error(502, &["told to panic"]);
    assert_eq!((answer.attempts, answer.exit_reason.as_deref()), (Some(1), Some("panic")));
    host.client().runs("one", 2);
    assert_eq!(host.client().ask("one", "hello"), "hello");
    assert_eq!(attempts(&host, "one"), [1]);
    host.finish();
}

#[test]
fn a_prompt_that_crashes_its_agent_is_delivered_again() {
    let host = builder("permanent", SHORT).start();
    let prompt = json!({"prompt": "note panic-until 2 hello"});
    host.client().start_with("one", "puppet", prompt).expect(201);
    wait_for_notes(&host, "one", 2);
    let noted = notes(&host, "one");
    assert_eq!((noted[0].1, noted[1].1), (1, 2), "{noted:?}");
    assert_eq!(noted[0].0, noted[1].0, "one message");
    host.wait_for_line("the prompt's turn", |line| {
        line["event"] == "agent.turn" && line["messageId"] == *noted[0].0
    });
    // It is done with, so the next crash brings no prompt back.
    host.client().send_wait("one", "panic").expect_error(502, &[]);
    host.client().runs("one", 4);
    assert_eq!(host.client().ask("one", "count"), "1");
    assert_eq!(attempts(&host, "one"), [1, 2]);
    host.finish();
}

#[test]
fn a_message_of_several_turns_comes_again_from_its_beginning() {
    let host = builder("transient", SHORT).start();
    host.client().start("one", "puppet");
    assert_eq!(host.client().ask("one", "note turns 3 panic-until 2 through"), "through");
    assert_eq!(attempts(&host, "one"), [1, 2]);
    host.finish();
}

#[test]
fn a_nudge_in_its_turn_comes_again() {
    let host = builder("transient", SHORT).start();
    host.client().start("one", "puppet");
    host.client().nudge("one", "n1", "note panic-until 2 x").expect(200);
    wait_for_notes(&host, "one", 2);
    assert_eq!(notes(&host, "one"), [("n1".to_owned(), 1), ("n1".to_owned(), 2)]);
    host.finish();
}

#[test]
fn the_senders_of_an_agent_that_does_not_come_back_hear_of_its_end() {
    let host = builder("temporary", SHORT).start();
    host.client().start("one", "puppet");
    let answer = host.client().send_wait("one", "note panic").expect_error(502, &["told to panic"]);
    assert_eq!(answer.error_type.as_deref(), Some("agent-ended"), "{answer:?}");
    assert_eq!(attempts(&host, "one"), [1]);
    let lines = host.finish();
    assert_eq!(
        harness::incarnations::events_of(&lines, "one", "agent.message_set_aside").count(),
        0
    );
}

#[test]
fn a_stop_in_the_backoff_answers_callers_that_wait_for_the_next_attempt() {
    let host = builder("transient", LONG).start();
    host.client().start("one", "puppet");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| host.client().send_wait("one", "panic"));
        host.client().reaches("one", "backoff");
        assert_eq!(host.client().status("one").mailbox_depth, 1);
        host.client().stop("one").expect(200);
        let answer = waits.join().expect("an answer").expect_error(502, &[]);
        assert_eq!(answer.error_type.as_deref(), Some("agent-ended"), "{answer:?}");
    });
    host.finish();
}

#[test]
fn a_prompt_comes_first_also_when_its_start_takes_over_a_backoff() {
    let host = builder("transient", LONG).start();
    host.client().start("one", "puppet");
    std::thread::scope(|scope| {
        let crashed = scope.spawn(|| host.client().send_wait("one", "note panic-until 2 again"));
        host.client().reaches("one", "backoff");
        let waits = host.queue(scope, "one", &["note waited"]);
        let prompt = json!({"prompt": "note prompt"});
        host.client().start_with("one", "puppet", prompt).expect(201);
        crashed.join().expect("an answer").expect(200);
        waits.into_iter().for_each(|caller| _ = caller.join().expect("an answer").expect(200));
    });
    let noted = notes(&host, "one");
    assert_eq!(attempts(&host, "one"), [1, 1, 2, 1], "crash, prompt, again, waited: {noted:?}");
    assert_eq!(noted[0].0, noted[2].0, "{noted:?}");
    host.finish();
}

#[test]
fn a_prompt_without_room_is_a_start_that_fails_and_not_an_agent_that_idles() {
    let host = builder("transient", &format!("{SHORT}mailbox_kb = 1")).start();
    let prompt = json!({"prompt": "x".repeat(2000)});
    let answer = host.client().start_with("one", "puppet", prompt);
    let answer = answer.expect_error(400, &["prompt", "2000", "1024"]);
    assert_eq!(answer.error_type.as_deref(), Some("invalid-request"), "{answer:?}");
    // One that the mailbox has room for, and the agent's memory has not.
    let host = builder("temporary", "memory_limit_mb = 2").start();
    let prompt = json!({"prompt": "x".repeat(1_000_000)});
    let answer = host.client().start_with("one", "puppet", prompt);
    let answer = answer.expect_error(422, &["prompt", "memory"]);
    assert_eq!(answer.error_type.as_deref(), Some("prompt-too-large"), "{answer:?}");
    assert_eq!(host.client().status("one").status, "failed");
    // The account is that of the new incarnation, not of the one that it replaces.
    host.client().start_with("two", "puppet", json!({"memoryLimitMb": 2})).expect(201);
    let prompt = json!({"prompt": format!("note {}", "x".repeat(1_000_000)), "memoryLimitMb": 64});
    host.client().start_with("two", "puppet", prompt).expect(201);
    wait_for_notes(&host, "two", 1);
    host.finish();
}

#[test]
fn a_message_in_its_turn_survives_the_host_whatever_its_size() {
    let mut host = builder("transient", SHORT).start().ready();
    let sizes: BTreeMap<_, _> =
        [("small", 10), ("page", 5000), ("large", 900_000)].into_iter().collect();
    for (agent, bytes) in &sizes {
        host.client().start(agent, "puppet");
        let body = format!("note wait {}", "x".repeat(*bytes));
        host.client().send(agent, &body).expect(200);
        wait_for_notes(&host, agent, 1);
    }
    host = kill(host);
    for (agent, bytes) in sizes {
        wait_for_notes(&host, agent, 2);
        let noted = notes(&host, agent);
        assert_eq!((noted[0].1, noted[1].1), (1, 2), "{agent}: {noted:?}");
        assert_eq!(noted[0].0, noted[1].0, "{agent}");
        host.release(agent);
        let turn = host.wait_for_event(agent, "agent.turn");
        assert_eq!(turn["messageId"], *noted[0].0, "{turn}");
        let logged = host.client().events_named(agent, "agent.turn");
        let reply = logged[0]["reply"].as_str().unwrap_or_default();
        assert_eq!(reply.len(), bytes.min(16 * 1024), "{agent} has its body");
    }
    host.finish();
}

#[test]
fn deaths_of_the_host_count_and_a_message_that_saw_too_many_is_set_aside() {
    let mut host = builder("transient", SHORT).start().ready();
    host.client().start("one", "puppet");
    let sent: MessageAnswer = host.client().send("one", "note wait never").read(200);
    wait_for_notes(&host, "one", 1);
    host = kill(host);
    wait_for_notes(&host, "one", 2);
    host = kill(host);
    let aside = host.wait_for_event("one", "agent.message_set_aside");
    assert_eq!(aside["messageId"], sent.message_id);
    assert_eq!(aside["attempts"], 2);
    assert_eq!(host.client().ask("one", "hello"), "hello");
    assert_eq!(attempts(&host, "one"), [1, 2]);
    // And it is not delivered again.
    host = kill(host);
    assert_eq!(host.client().ask("one", "count"), "1");
    host.finish();
}

#[test]
fn what_a_message_does_last_may_happen_in_each_of_its_deliveries() {
    let mut host = builder("transient", &format!("{SHORT}max_attempts = 3")).start().ready();
    host.client().start("one", "puppet");
    // Two notes are all of its work. That its turn is not over is known to nobody but the host.
    host.client().send("one", "note note wait never").expect(200);
    for delivery in 1..=3 {
        wait_for_notes(&host, "one", 2 * delivery);
        host = kill(host);
    }
    host.wait_for_event("one", "agent.message_set_aside");
    assert_eq!(attempts(&host, "one"), [1, 1, 2, 2, 3, 3]);
    host.finish();
}

#[test]
fn a_death_in_the_backoff_costs_no_attempt() {
    let mut host = builder("transient", LONG).start().ready();
    host.client().start("one", "puppet");
    host.client().send("one", "note panic-until 2 x").expect(200);
    host.client().reaches("one", "backoff");
    host = kill(host);
    wait_for_notes(&host, "one", 2);
    assert_eq!(attempts(&host, "one"), [1, 2]);
    host.finish();
}

/// How a run ends: killed, or asked to with all its time.
const ENDS: [Signal; 2] = [Signal::KILL, Signal::TERM];

#[test]
fn a_prompt_that_is_done_is_not_delivered_by_the_next_run() {
    for end in ENDS {
        let mut host = builder("permanent", SHORT).start().ready();
        let prompt = json!({"prompt": "note hello"});
        host.client().start_with("one", "puppet", prompt.clone()).expect(201);
        assert_eq!(host.client().ask("one", "count"), "2");
        for _ in 0..2 {
            host.signal(end);
            host.wait();
            host = host.restart().ready();
            assert_eq!(host.client().ask("one", "count"), "1", "after {end:?}");
        }
        assert_eq!(attempts(&host, "one"), [1], "after {end:?}");
        // A caller that asks for it once more gets it once more.
        host.client().stop("one").expect(200);
        host.client().start_with("one", "puppet", prompt).expect(201);
        assert_eq!(host.client().ask("one", "count"), "2");
        host.finish();
    }
}

#[test]
fn a_prompt_that_is_done_does_not_come_back_with_its_agent_whose_end_was_not_written() {
    for (prompt, is_stopped) in [("note wait done", false), ("note wait hello", true)] {
        let mut host = builder("transient", SHORT).start().ready();
        host.client().start_with("one", "puppet", json!({"prompt": prompt})).expect(201);
        wait_for_notes(&host, "one", 1);
        let mut file = rusqlite::Connection::open(host.state_dir().join("store/bulkhead.db"))
            .expect("open the database");
        let behavior = rusqlite::TransactionBehavior::Immediate;
        let lock = file.transaction_with_behavior(behavior).expect("keep others from writing");
        std::thread::scope(|scope| {
            host.release("one");
            if is_stopped {
                host.wait_for_line("the prompt's turn", |line| line["event"] == "agent.turn");
                // It is answered when it is written, so never.
                let client = host.client();
                scope.spawn(|| client.try_request(Method::POST, "/agents/one/stop", "{}"));
            }
            host.client().reaches("one", "exited");
            host.signal(Signal::KILL);
        });
        host.wait();
        lock.rollback().expect("let others write");
        host = host.restart().ready();
        // Nobody was told that it is down, so it is there, and has nothing to do.
        assert_eq!(host.client().ask("one", "count"), "1", "{prompt}");
        assert_eq!(attempts(&host, "one"), [1], "{prompt}");
        host.finish();
    }
}

#[test]
fn a_prompt_in_its_turn_is_delivered_by_the_next_run_with_its_attempt() {
    let mut host = builder("permanent", SHORT).start().ready();
    let prompt = json!({"prompt": "note wait hello"});
    host.client().start_with("one", "puppet", prompt).expect(201);
    wait_for_notes(&host, "one", 1);
    host = kill(host);
    wait_for_notes(&host, "one", 2);
    let noted = notes(&host, "one");
    assert_eq!((noted[0].1, noted[1].1), (1, 2), "{noted:?}");
    assert_eq!(noted[0].0, noted[1].0, "one message");
    host.release("one");
    host.wait_for_line("the turn's end", |line| line["event"] == "agent.turn");
    host.finish();
}

#[test]
fn a_turn_that_a_drain_had_no_time_for_comes_again_in_the_next_run_and_burns_no_attempt() {
    let settings = "\n[limits]\ndrain_ms = 300\nshutdown_ms = 200";
    let mut host =
        builder("transient", &format!("{SHORT}max_attempts = 2")).toml(settings).start().ready();
    host.client().start("one", "puppet");
    host.client().send("one", "note wait x").expect(200);
    // More often than it may crash.
    for delivery in 1..=4 {
        wait_for_notes(&host, "one", delivery);
        host.signal(Signal::TERM);
        host.wait();
        host = host.restart().ready();
    }
    wait_for_notes(&host, "one", 5);
    assert_eq!(attempts(&host, "one"), [1, 2, 3, 4, 5]);
    host.release("one");
    host.wait_for_line("the turn's end", |line| line["event"] == "agent.turn");
    assert_eq!(host.events_named("agent.message_set_aside"), [] as [Value; 0]);
    host.finish();
}

#[test]
fn only_its_owner_can_read_what_is_kept_of_messages() {
    use std::os::unix::fs::PermissionsExt;
    let host = builder("transient", SHORT).start().ready();
    let meta = std::fs::metadata(host.state_dir().join("journal")).expect("a journal");
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    host.finish();
}
