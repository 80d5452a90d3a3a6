//! Agents without work: how long they wait, and nudges, which come when nothing else does.

use std::time::Duration;

use bulkhead_api::{MessageAnswer, NudgeAnswer};
use harness::client::data;
use harness::{Answer, Host, Value, json, wait_until};
use rustix::process::Signal;

/// A host with a role for each of these idle times, named after it.
fn host(idle_ms: &[u64]) -> Host {
    let with_role = |builder: harness::HostBuilder, ms: &u64| {
        builder.role(&format!("idle-{ms}"), "puppet", &format!("idle_ms = {ms}"))
    };
    idle_ms.iter().fold(Host::builder().guest("puppet"), with_role).start()
}

fn millis(line: &Value) -> u64 {
    line["uptimeMs"].as_u64().expect("a time")
}

/// What the agent replied in the turn of this message.
#[track_caller]
fn reply_to(host: &Host, agent: &str, message_id: &str) -> Value {
    host.wait_for_line("the turn", |line| {
        line["event"] == "agent.turn" && line["messageId"] == message_id
    });
    let page = host.client().events(agent, 0);
    let turn = page.events.iter().map(data).find(|data| data["messageId"] == message_id);
    turn.unwrap_or_else(|| panic!("no turn of {message_id}: {page:?}"))["reply"].clone()
}

#[test]
fn an_agent_without_work_completes() {
    let host = host(&[300]);
    host.client().start("one", "idle-300");
    let exit = host.wait_for_exit("one");
    assert_eq!(exit["reason"], "completed", "{exit}");
    assert!(exit["message"].as_str().unwrap().contains("nothing to do for 300 ms"), "{exit}");
    assert!(exit["agentUptimeMs"].as_u64() >= Some(300), "{exit}");
    assert_eq!(exit["phase"], "shutdown", "{exit}");
    let status = host.client().ended("one");
    assert_eq!(status.status, "exited", "{status:?}");
    assert_eq!(status.exit_reason.as_deref(), Some("completed"), "{status:?}");
    host.client().send("one", "hello").expect_error(409, &["one", "exited"]);
    assert!(host.crashes().is_empty());
    host.finish();
}

#[test]
fn a_time_in_which_the_process_stands_still_is_not_idle() {
    const FROZEN_MS: u64 = 3000;
    let host = host(&[1600]);
    host.client().start("one", "idle-1600");
    host.signal(Signal::STOP);
    // Longer than it may have nothing to do: this is the time that must not count.
    std::thread::sleep(Duration::from_millis(FROZEN_MS));
    host.signal(Signal::CONT);
    let exit = host.wait_for_exit("one");
    assert_eq!(exit["reason"], "completed", "{exit}");
    // Of the stop at most one step of sixteen counts, and not all of it.
    let least = FROZEN_MS + 1600 - 1600 / 16 - 100;
    assert!(exit["agentUptimeMs"].as_u64() >= Some(least), "{exit}");
    host.finish();
}

#[test]
fn an_agent_that_works_is_not_idle() {
    let host = host(&[300]);
    host.client().start("busy", "idle-300");
    std::thread::scope(|scope| {
        let busy = host.occupy(scope, "busy", "work");
        // As long as this one takes to be idle, and longer.
        host.client().start("idle", "idle-300");
        host.wait_for_exit("idle");
        let status = host.client().status("busy");
        assert_eq!((&*status.status, status.busy), ("running", true));
        host.release("busy");
        assert_eq!(busy.join().expect("an answer").reply(), "work");
    });
    let exit = host.wait_for_exit("busy");
    assert_eq!(exit["reason"], "completed", "{exit}");
    host.finish();
}

#[test]
fn a_message_restarts_the_wait() {
    let host = host(&[1000, 3000]);
    host.client().start("one", "idle-3000");
    host.client().start("clock", "idle-1000");
    host.wait_for_exit("clock");
    let sent: MessageAnswer = host.client().send_wait("one", "hello").read(200);
    let turn = host.wait_for_line("the turn", |line| {
        line["event"] == "agent.turn" && line["messageId"] == sent.message_id
    });
    let exit = host.wait_for_exit("one");
    let waited = millis(&exit) - millis(&turn);
    // Counted from its start it would be a second less.
    assert!(waited >= 2900, "it waited {waited} ms after its message");
    host.finish();
}

#[test]
fn an_agent_whose_idle_time_is_0_waits_for_ever() {
    let host = host(&[0, 300]);
    host.client().start("patient", "idle-0");
    for incarnation in 1..=3 {
        host.client().start("idle", "idle-300");
        host.wait_for_line("the other one is idle", |line| {
            line["event"] == "agent.exit"
                && line["agentId"] == "idle"
                && line["incarnation"] == incarnation
        });
    }
    assert_eq!(host.client().status("patient").status, "running");
    assert_eq!(host.client().ask("patient", "count"), "1");
    host.finish();
}

#[test]
fn a_permanent_agent_that_was_idle_comes_back() {
    let settings = "idle_ms = 100\nrestart = \"permanent\"\nrestart_backoff_ms = 1";
    let host = Host::builder().guest("puppet").role("puppet", "puppet", settings).start();
    host.client().start("one", "puppet");
    let scheduled = host.wait_for_event("one", "agent.restart_scheduled");
    assert_eq!(scheduled["reason"], "completed", "{scheduled}");
    host.wait_for_line("the next incarnation", |line| {
        line["event"] == "agent.start" && line["incarnation"] == 2
    });
    host.finish();
}

#[test]
fn an_idle_agent_gets_a_nudge_as_a_turn() {
    let host = host(&[0]);
    host.client().start("one", "idle-0");
    let answer = host.client().nudge("one", "n1", "look at bead 7").expect(200);
    assert_eq!(answer, json!({"queued": true, "nudgeId": "n1"}));
    assert_eq!(reply_to(&host, "one", "n1"), "look at bead 7");
    let message = host.wait_for_line("the nudge", |line| {
        line["event"] == "agent.message" && line["messageId"] == "n1"
    });
    assert_eq!(message["sender"], json!({"nudge": "n1"}), "{message}");
    // The host names one that has no name.
    let answer = host.client().post("/agents/one/nudge", &json!({"message": "again"}));
    let id = answer.read::<NudgeAnswer>(200).nudge_id;
    assert_eq!(reply_to(&host, "one", &id), "again");
    assert_eq!(host.client().ask("one", "count"), "3");
    host.finish();
}

#[test]
fn a_nudge_restarts_the_wait() {
    let host = host(&[1000, 3000]);
    host.client().start("one", "idle-3000");
    host.client().start("clock", "idle-1000");
    host.wait_for_exit("clock");
    host.client().nudge("one", "n1", "hello").expect(200);
    let turn = host.wait_for_line("the turn", |line| {
        line["event"] == "agent.turn" && line["messageId"] == "n1"
    });
    let waited = millis(&host.wait_for_exit("one")) - millis(&turn);
    assert!(waited >= 2900, "it waited {waited} ms after its nudge");
    host.finish();
}

#[test]
fn messages_go_before_nudges() {
    let host = host(&[0]);
    host.client().start("one", "idle-0");
    std::thread::scope(|scope| {
        let busy = host.occupy(scope, "one", "first");
        for id in ["n1", "n2"] {
            host.client().nudge("one", id, "a hint").expect(200);
        }
        let messages = host.queue(scope, "one", &["a", "b"]);
        let status = host.client().status("one");
        assert_eq!((status.mailbox_depth, status.nudges), (2, 2));
        host.release("one");
        busy.join().expect("an answer").expect(200);
        let id_of = |answer: Answer| answer.read::<MessageAnswer>(200).message_id;
        let ids = messages.into_iter().map(|message| id_of(message.join().expect("an answer")));
        let expected: Vec<_> = ids.chain(["n1".into(), "n2".into()]).collect();
        wait_until("all had their turn", || host.events_named("agent.turn").len() == 5);
        let turns = host.events_named("agent.turn");
        let order: Vec<_> = turns.iter().skip(1).map(|turn| turn["messageId"].clone()).collect();
        assert_eq!(order, expected);
    });
    assert_eq!(host.client().status("one").nudges, 0);
    host.finish();
}

#[test]
fn an_agent_may_take_nudges_in_the_middle_of_a_turn_and_gets_each_once() {
    let host = host(&[0]);
    host.client().start("one", "idle-0");
    std::thread::scope(|scope| {
        let gathering = scope.spawn(|| host.client().ask("one", "gather 3"));
        wait_until("it gathers", || host.client().status("one").busy);
        for id in ["n1", "n2", "n3"] {
            host.client().nudge("one", id, &format!("body of {id}")).expect(200);
        }
        let gathered = gathering.join().expect("an answer");
        assert_eq!(gathered, "test n1 body of n1\ntest n2 body of n2\ntest n3 body of n3");
    });
    // The reply's turn and this one: none for a nudge.
    assert_eq!(host.client().ask("one", "count"), "2");
    host.finish();
}

#[test]
fn nudges_are_bounded_and_take_no_place_of_messages() {
    /// Nudges that may wait.
    const MOST: usize = 64;
    let settings = "idle_ms = 0\nmailbox_messages = 1";
    let host = Host::builder().guest("puppet").role("puppet", "puppet", settings).start();
    host.client().start("one", "puppet");
    std::thread::scope(|scope| {
        let busy = host.occupy(scope, "one", "first");
        for number in 0..MOST {
            host.client().nudge("one", &format!("n{number}"), "x").expect(200);
        }
        let refused = host.client().nudge("one", "late", "x");
        assert_eq!(refused.retry_after, Some(1));
        let refused = refused.expect_error(429, &["one"]);
        assert_eq!(refused.error_type.as_deref(), Some("mailbox-full"), "{refused:?}");
        let message = host.queue(scope, "one", &["a"]);
        host.client().send("one", "b").expect_error(429, &["one"]);
        host.release("one");
        busy.join().expect("an answer").expect(200);
        for caller in message {
            caller.join().expect("an answer").expect(200);
        }
    });
    wait_until("all nudges had their turn", || host.client().status("one").nudges == 0);
    assert_eq!(host.client().ask("one", "count"), (MOST + 3).to_string());
    host.finish();
}

#[test]
fn a_nudge_that_cannot_be_left_says_why() {
    let host = host(&[0]);
    host.client().nudge("nobody", "n1", "x").expect_error(404, &["nobody"]);
    host.client().start("one", "idle-0");
    host.client().stop("one").expect(200);
    host.client().nudge("one", "n1", "x").expect_error(409, &["one", "exited"]);
    host.client().start("one", "idle-0");
    let bad = host.client().post("/agents/one/nudge", &json!({"source": "s", "nudgeId": ""}));
    let bad = bad.expect_error(400, &[]);
    let paths: Vec<_> = bad.issues.iter().map(|issue| &*issue.path).collect();
    assert_eq!(paths, ["message", "nudgeId"], "{bad:?}");
    host.finish();
}
