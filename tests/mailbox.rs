//! Messages that wait: how many may, and what becomes of them when their agent ends.

use bulkhead_api::{MessageAnswer, StartAnswer, StopAnswer};
use harness::puppet::Caller;
use harness::{Answer, Host, Value, json, wait_until};

/// A backoff that no test sees the end of: up to three years, at random.
const LONG: &str = "restart_backoff_ms = 31_536_000_000\nrestart_backoff_max_ms = 31_536_000_000\n";

fn host(settings: &str) -> Host {
    Host::builder().guest("puppet").role("puppet", "puppet", settings).start()
}

fn transient(settings: &str) -> Host {
    // What is delivered again is the matter of `redelivery.rs`.
    host(&format!("restart = \"transient\"\nmax_attempts = 1\n{settings}"))
}

fn answers(callers: Vec<Caller<'_>>) -> Vec<Answer> {
    callers.into_iter().map(|caller| caller.join().expect("an answer")).collect()
}

fn replies(callers: Vec<Caller<'_>>) -> Vec<String> {
    answers(callers).iter().map(Answer::reply).collect()
}

/// Every sender is notified that the agent ended, and how.
#[track_caller]
fn check_undelivered(callers: Vec<Caller<'_>>, reason: &str) {
    for answer in answers(callers) {
        let answer = answer.expect_error(502, &[]);
        let kind = answer.error_type.as_deref();
        assert!(matches!(kind, Some("agent-ended" | "message-set-aside")), "{answer:?}");
        assert_eq!(answer.exit_reason.as_deref(), Some(reason), "{answer:?}");
        assert!(answer.message_id.is_some(), "{answer:?}");
    }
}

fn exit_of(lines: &[Value], incarnation: u64) -> &Value {
    let is_it = |line: &&Value| line["event"] == "agent.exit" && line["incarnation"] == incarnation;
    lines.iter().find(is_it).expect("an exit")
}

/// Messages that an agent took into a turn that ended, in order, with their incarnations.
fn turns(lines: &[Value]) -> Vec<(&str, u64)> {
    let turns = lines.iter().filter(|line| line["event"] == "agent.turn");
    turns
        .map(|line| {
            let id = line["messageId"].as_str().unwrap_or_default();
            (id, line["incarnation"].as_u64().unwrap_or_default())
        })
        .collect()
}

#[test]
fn a_mailbox_is_bounded_in_messages_and_says_when_to_try_again() {
    let host = host("mailbox_messages = 3");
    host.client().start("one", "puppet");
    std::thread::scope(|scope| {
        let busy = host.occupy(scope, "one", "first");
        let waiting = host.queue(scope, "one", &["a", "b", "c"]);
        let refused = host.client().send("one", "d");
        assert_eq!(refused.retry_after, Some(1));
        let refused = refused.expect_error(429, &["one", "3 messages"]);
        assert_eq!(refused.error_type.as_deref(), Some("mailbox-full"), "{refused:?}");
        host.release("one");
        assert_eq!(replies(vec![busy]), ["first"]);
        assert_eq!(replies(waiting), ["a", "b", "c"]);
    });
    // There is room again, and what was refused had no effect.
    assert_eq!(host.client().ask("one", "count"), "5");
    host.finish();
}

#[test]
fn mail_has_a_part_of_its_agents_memory_and_more_is_refused_to_the_sender() {
    let host = host("memory_limit_mb = 4\nmailbox_kb = 100000");
    host.client().start("one", "puppet");
    let large = "x".repeat(400_000);
    std::thread::scope(|scope| {
        let busy = host.occupy(scope, "one", "first");
        let waiting = host.queue(scope, "one", &[large.as_str()]);
        let refused = host.client().send("one", &large);
        assert_eq!(refused.retry_after, Some(1));
        // An eighth of 4 MiB.
        let refused = refused.expect_error(429, &["one", "memory", "524288"]);
        assert_eq!(refused.error_type.as_deref(), Some("agent-memory-full"), "{refused:?}");
        let memory = host.client().status("one").memory;
        assert!(memory.host.mailbox > 400_000, "{memory:?}");
        host.release("one");
        assert_eq!(replies(vec![busy]), ["first"]);
        assert_eq!(replies(waiting), std::slice::from_ref(&large));
    });
    // There is room again, and the agent has lived all the time.
    assert_eq!(host.client().ask("one", &large), large);
    assert_eq!(host.client().status("one").incarnation.0, 1);
    host.finish();
}

#[test]
fn a_mailbox_is_bounded_in_bytes() {
    let host = host("mailbox_kb = 1");
    host.client().start("one", "puppet");
    let [large, small] = ["x".repeat(900), "x".repeat(200)];
    std::thread::scope(|scope| {
        let busy = host.occupy(scope, "one", "first");
        let waiting = host.queue(scope, "one", &[&large]);
        let refused = host.client().send("one", &small);
        assert_eq!(refused.retry_after, Some(1));
        refused.expect_error(429, &["one", "900 bytes"]);
        let more = host.queue(scope, "one", &["small"]);
        host.release("one");
        assert_eq!(replies(vec![busy]), ["first"]);
        assert_eq!(replies(waiting), [large.as_str()]);
        assert_eq!(replies(more), ["small"]);
    });
    host.finish();
}

#[test]
fn a_message_that_never_fits_is_not_to_be_sent_again() {
    let host = host("mailbox_kb = 1");
    host.client().start("one", "puppet");
    let refused = host.client().send("one", &"x".repeat(1025));
    assert_eq!(refused.retry_after, None);
    let refused = refused.expect_error(413, &["one", "1025 bytes", "1024"]);
    assert_eq!(refused.error_type.as_deref(), Some("message-too-large"), "{refused:?}");
    assert_eq!(host.client().ask("one", &"x".repeat(1024)).len(), 1024);
    host.finish();
}

#[test]
fn an_agent_learns_that_its_message_never_fits_into_the_mailbox_of_another() {
    let host = host("mailbox_kb = 1");
    host.client().start("one", "puppet");
    host.client().start("two", "puppet");
    assert_eq!(host.client().ask("one", "send two 1025"), "larger than 1024 bytes");
    assert_eq!(host.client().ask("one", "send two 1024"), "sent");
    host.finish();
}

#[test]
fn what_waits_survives_a_crash_in_order_and_what_crashed_is_not_repeated() {
    const WAITING: [&str; 6] = ["a", "b", "count", "c", "d", "count"];
    let host = transient("restart_backoff_ms = 1");
    host.client().start("one", "puppet");
    std::thread::scope(|scope| {
        let crashing = host.occupy(scope, "one", "panic");
        let waiting = host.queue(scope, "one", &WAITING);
        host.release("one");
        check_undelivered(vec![crashing], "panic");
        assert_eq!(replies(waiting), ["a", "b", "3", "c", "d", "6"]);
    });
    let status = host.client().status("one");
    assert_eq!(status.incarnation.0, 2, "{status:?}");
    assert_eq!(status.message_count, 6, "{status:?}");
    let lines = host.finish();
    let taken: Vec<_> = lines.iter().filter(|line| line["event"] == "agent.message").collect();
    let taken: Vec<_> = taken.iter().map(|line| line["messageId"].as_str().unwrap()).collect();
    let worked_on = turns(&lines);
    // All but the first one, by the next incarnation, in the order of their coming.
    let expected: Vec<_> = taken[1..].iter().map(|id| (*id, 2)).collect();
    assert_eq!(worked_on, expected);
    assert!(exit_of(&lines, 1).get("undelivered").is_none(), "{}", exit_of(&lines, 1));
}

#[test]
fn each_of_many_crashes_costs_one_message() {
    let host = transient("restart_backoff_ms = 1\nrestart_max = 100");
    host.client().start("one", "puppet");
    std::thread::scope(|scope| {
        let first = host.occupy(scope, "one", "panic");
        let waiting = host.queue(scope, "one", &["panic", "a", "panic", "panic", "count"]);
        host.release("one");
        check_undelivered(vec![first], "panic");
        let statuses: Vec<_> = answers(waiting).iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [502, 200, 502, 502, 200]);
    });
    assert_eq!(host.client().status("one").incarnation.0, 5);
    host.finish();
}

#[test]
fn what_comes_in_backoff_waits_for_the_restart() {
    // A random part of this: one of the rounds has a backoff that is long enough to be seen.
    let host = transient("restart_backoff_ms = 1000\nrestart_max = 100\nrestart_healthy_ms = 1");
    host.client().start("one", "puppet");
    let came_in_backoff = (1..=20).any(|incarnation| {
        host.client().send_wait("one", "panic").expect_error(502, &[]);
        let sent: MessageAnswer = host.client().send_wait("one", "count").read(200);
        assert_eq!(sent.turn.and_then(|turn| turn.reply).as_deref(), Some("1"));
        host.client().runs("one", incarnation + 1);
        let line = host.wait_for_line("the message", |line| {
            line["event"] == "agent.message" && line["messageId"] == sent.message_id
        });
        // Taken by the incarnation that is over, worked on by the next.
        line["incarnation"] == incarnation
    });
    assert!(came_in_backoff);
    host.finish();
}

#[test]
fn senders_of_what_waits_for_an_agent_that_is_stopped_are_notified() {
    let host = transient("");
    host.client().start("one", "puppet");
    std::thread::scope(|scope| {
        let busy = host.occupy(scope, "one", "first");
        let waiting = host.queue(scope, "one", &["a", "b", "c"]);
        let stop = scope.spawn(|| host.client().stop("one"));
        host.client().reaches("one", "stopping");
        host.client().send("one", "late").expect_error(409, &["one", "stopping"]);
        host.release("one");
        // The turn under way may end.
        assert_eq!(replies(vec![busy]), ["first"]);
        check_undelivered(waiting, "stopped");
        assert_eq!(stop.join().expect("an answer").read::<StopAnswer>(200).exit_reason, "stopped");
    });
    assert_eq!(host.client().metrics()["bulkhead_mailbox_messages"], 0.0);
    let lines = host.finish();
    assert_eq!(exit_of(&lines, 1)["undelivered"], 3);
    assert_eq!(turns(&lines).len(), 1);
}

#[test]
fn senders_of_what_waits_for_an_agent_that_completes_are_notified() {
    let host = transient("");
    host.client().start("one", "puppet");
    std::thread::scope(|scope| {
        let busy = host.occupy(scope, "one", "done");
        let waiting = host.queue(scope, "one", &["a", "b"]);
        host.release("one");
        assert_eq!(replies(vec![busy]), ["done"]);
        check_undelivered(waiting, "completed");
    });
    host.finish();
}

#[test]
fn what_waits_is_taken_over_by_a_start_that_replaces_its_agent() {
    let host = transient("");
    host.client().start("one", "puppet");
    std::thread::scope(|scope| {
        let busy = host.occupy(scope, "one", "first");
        let waiting = host.queue(scope, "one", &["a", "count"]);
        let replacement = scope.spawn(|| host.client().start_afresh("one", "puppet"));
        wait_until("the next incarnation waits for this one", || {
            host.client().status("one").incarnation.0 == 2
        });
        let newer = host.queue(scope, "one", &["b", "count"]);
        host.release("one");
        assert_eq!(replies(vec![busy]), ["first"]);
        replacement.join().expect("an answer");
        assert_eq!(replies(waiting), ["a", "2"]);
        assert_eq!(replies(newer), ["b", "4"]);
    });
    let lines = host.finish();
    assert!(exit_of(&lines, 1).get("undelivered").is_none(), "{}", exit_of(&lines, 1));
    let worked_on: Vec<_> = turns(&lines).iter().map(|(_, incarnation)| *incarnation).collect();
    assert_eq!(worked_on, [1, 2, 2, 2, 2]);
}

#[test]
fn senders_of_what_waits_for_an_agent_that_is_quarantined_are_notified() {
    let host = transient("restart_max = 0");
    host.client().start("one", "puppet");
    std::thread::scope(|scope| {
        let crashing = host.occupy(scope, "one", "panic");
        let waiting = host.queue(scope, "one", &["a", "b", "c"]);
        host.release("one");
        check_undelivered(vec![crashing], "panic");
        check_undelivered(waiting, "panic");
    });
    assert_eq!(host.client().status("one").status, "quarantined");
    assert_eq!(host.client().metrics()["bulkhead_mailbox_messages"], 0.0);
    assert_eq!(exit_of(&host.finish(), 1)["undelivered"], 3);
}

#[test]
fn senders_of_what_waits_in_a_backoff_that_is_stopped_are_notified() {
    let host = transient(LONG);
    host.client().start("one", "puppet");
    std::thread::scope(|scope| {
        let crashing = host.occupy(scope, "one", "panic");
        let before = host.queue(scope, "one", &["a", "b"]);
        host.release("one");
        check_undelivered(vec![crashing], "panic");
        host.client().reaches("one", "backoff");
        let meanwhile = host.queue(scope, "one", &["c", "d"]);
        assert_eq!(host.client().metrics()["bulkhead_mailbox_messages"], 4.0);
        host.client().stop("one").expect(200);
        check_undelivered(before, "stopped");
        check_undelivered(meanwhile, "stopped");
    });
    assert_eq!(host.client().metrics()["bulkhead_mailbox_messages"], 0.0);
    host.finish();
}

#[test]
fn what_waits_in_backoff_is_taken_over_by_a_start() {
    let host = transient(LONG);
    host.client().start_with("one", "puppet", json!({"prompt": "first prompt"})).expect(201);
    std::thread::scope(|scope| {
        let crashing = host.occupy(scope, "one", "panic");
        let before = host.queue(scope, "one", &["a", "count"]);
        host.release("one");
        check_undelivered(vec![crashing], "panic");
        host.client().reaches("one", "backoff");
        let meanwhile = host.queue(scope, "one", &["b", "count"]);
        // Of another spec: it is the same agent to those who wrote to it.
        let body = json!({"prompt": "second prompt", "model": "another"});
        let started: StartAnswer = host.client().start_with("one", "puppet", body).read(201);
        assert_eq!(started.agent.incarnation.0, 2, "{started:?}");
        assert_eq!(replies(before), ["a", "3"]);
        assert_eq!(replies(meanwhile), ["b", "5"]);
    });
    // The new prompt came before what had waited, the old one was worked on.
    assert_eq!(host.client().ask("one", "count"), "6");
    assert_eq!(
        turns(&host.finish()).iter().filter(|(_, incarnation)| *incarnation == 2).count(),
        6
    );
}

#[test]
fn nudges_survive_a_crash_as_well() {
    let host = transient("restart_backoff_ms = 1");
    host.client().start("one", "puppet");
    std::thread::scope(|scope| {
        let crashing = host.occupy(scope, "one", "panic");
        host.client().nudge("one", "n1", "a hint").expect(200);
        host.release("one");
        check_undelivered(vec![crashing], "panic");
    });
    let turn = host.wait_for_line("the nudge's turn", |line| {
        line["event"] == "agent.turn" && line["messageId"] == "n1"
    });
    assert_eq!(turn["incarnation"], 2, "{turn}");
    host.finish();
}
