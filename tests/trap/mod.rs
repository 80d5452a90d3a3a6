//! Traps and errors of a turn.

use harness::trial::functions;
use harness::{Trial, Value, files};

/// The line of the guest's source that a record points to.
#[track_caller]
fn source_line(crash: &Value) -> String {
    let file = crash["location"]["file"].as_str().unwrap_or_default();
    assert!(file.ends_with("trap.rs"), "no location in the guest's source: {crash}");
    let source = std::fs::read_to_string(files::root().join("tests/programs/examples/trap.rs"));
    let source = source.expect("read the guest's source");
    let line = crash["location"]["line"].as_u64().expect("a line number") as usize;
    assert!(crash["location"]["column"].as_u64() >= Some(1), "{crash}");
    source.lines().nth(line - 1).unwrap_or_default().to_owned()
}

#[test]
fn a_panic_is_reported_with_its_message_and_location() {
    let trial = Trial::of(&["trap"]);
    let crash = trial.ends_by("trap", "panic", "panic");
    let message_id = crash["messageId"].as_str().unwrap();
    let message = crash["message"].as_str().unwrap();
    assert!(message.contains(&format!("told to panic by message {message_id}")), "{message}");
    assert!(source_line(&crash).contains("panic!("), "{crash}");
    assert_eq!(crash["trap"], "unreachable-code-reached", "{crash}");
    assert!(!functions(&crash).is_empty(), "{crash}");
    let log = crash["lastLogLines"].to_string();
    assert!(log.contains("panicked at"), "{crash}");
    trial.finish();
}

#[test]
fn an_unwrap_of_none_is_a_panic_too() {
    let trial = Trial::of(&["trap"]);
    let crash = trial.ends_by("trap", "unwrap", "panic");
    assert!(crash["message"].as_str().unwrap().contains("`None`"), "{crash}");
    assert!(source_line(&crash).contains(".unwrap()"), "{crash}");
    trial.finish();
}

#[test]
fn an_unreachable_without_a_panic_message_is_a_trap() {
    let trial = Trial::of(&["trap"]);
    let crash = trial.ends_by("trap", "unreachable", "trap");
    assert_eq!(crash["trap"], "unreachable-code-reached", "{crash}");
    assert!(crash["location"].is_null(), "{crash}");
    assert!(functions(&crash)[0].contains("unreachable_instruction"), "{crash}");
    trial.finish();
}

#[test]
fn a_panic_before_does_not_make_a_later_trap_a_panic() {
    let trial = Trial::of(&["trap"]);
    trial.ends_by("trap", "panic", "panic");
    let number = trial.client().status("trap").incarnation.0;
    let crash = trial.crashes("trap", number, "unreachable", "trap");
    assert!(crash["location"].is_null(), "{crash}");
    trial.finish();
}

#[test]
fn a_wild_pointer_is_an_access_out_of_bounds_with_its_frame() {
    let trial = Trial::of(&["trap"]);
    let crash = trial.ends_by("trap", "wild-pointer", "trap");
    assert_eq!(crash["trap"], "memory-out-of-bounds", "{crash}");
    assert!(functions(&crash)[0].contains("read_wild_pointer"), "{crash}");
    assert!(crash["frames"][0]["moduleOffset"].as_u64() > Some(0), "{crash}");
    trial.finish();
}

#[test]
fn a_division_by_zero_is_a_trap_of_that_name() {
    let trial = Trial::of(&["trap"]);
    let crash = trial.ends_by("trap", "divide", "trap");
    assert_eq!(crash["trap"], "integer-division-by-zero", "{crash}");
    assert!(functions(&crash)[0].contains("divide_unchecked"), "{crash}");
    trial.finish();
}

#[test]
fn a_fatal_error_ends_the_agent_with_its_own_words() {
    let trial = Trial::of(&["trap"]);
    let crash = trial.ends_by("trap", "fatal-error", "guest_error");
    assert_eq!(crash["code"], "told-to-fail", "{crash}");
    assert!(crash["message"].as_str().unwrap().contains("told to fail by a message"), "{crash}");
    trial.finish();
}

#[test]
fn an_error_fails_its_turn_only() {
    let trial = Trial::of(&["trap"]);
    trial.client().start("trap", "trap");
    let answer = trial.client().send_wait("trap", "error");
    let answer = answer.expect_error(502, &["told to fail by a message"]);
    assert_eq!(answer.error_type.as_deref(), Some("told-to-fail"), "{answer:?}");
    assert!(answer.exit_reason.is_none(), "{answer:?}");
    let turn = trial.host().wait_for_line("agent.turn with the error", |line| {
        line["event"] == "agent.turn" && line["messageId"].as_str() == answer.message_id.as_deref()
    });
    assert!(turn["error"].as_str().unwrap().contains("told to fail"), "{turn}");
    assert_eq!(turn["level"], "warn", "{turn}");
    assert_eq!(trial.client().ask("trap", "still there?"), "still there?");
    assert_eq!(trial.client().status("trap").incarnation.0, 1);
    assert!(trial.host().crashes().is_empty());
    trial.finish();
}

#[test]
fn messages_behind_a_fatal_one_are_answered_with_the_end() {
    let trial = Trial::of(&["trap", "hang"]);
    trial.client().start("trap", "trap");
    // All are in the mailbox or refused before their turn; none may be left without an answer.
    let answers = std::thread::scope(|scope| {
        let bodies = ["panic", "one", "two", "three"];
        let asked = bodies.map(|body| scope.spawn(|| trial.client().send_wait("trap", body)));
        asked.map(|asked| asked.join().expect("an answer"))
    });
    for answer in answers {
        assert!([200, 409, 502].contains(&answer.status), "{}", answer.text);
    }
    trial.reported("trap", 1, "panic");
    trial.client().send_wait("trap", "anybody?").expect_error(409, &["trap", "failed"]);
    trial.finish();
}

#[test]
fn twenty_crashes_in_a_row_are_twenty_records_of_one_cause() {
    const CRASHES: u64 = 20;
    let trial = Trial::of(&["trap"]);
    let crashes: Vec<_> = (1..=CRASHES)
        .map(|number| {
            assert_eq!(trial.client().start("trap", "trap").agent.incarnation.0, number);
            trial.crashes("trap", number, "wild-pointer", "trap")
        })
        .collect();
    let mut ids: Vec<_> = crashes.iter().map(|crash| crash["crashId"].to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len() as u64, CRASHES);
    assert!(crashes.iter().all(|crash| crash["fingerprint"] == crashes[0]["fingerprint"]));
    trial.starts_again("trap", CRASHES);
    trial.finish();
}

#[test]
fn different_causes_have_different_fingerprints() {
    let trial = Trial::of(&["trap"]);
    let mut prints = Vec::new();
    for (number, (body, reason)) in (1..).zip([
        ("panic", "panic"),
        ("unwrap", "panic"),
        ("wild-pointer", "trap"),
        ("divide", "trap"),
        // Of another message.
        ("panic", "panic"),
    ]) {
        trial.client().start("trap", "trap");
        prints.push(trial.crashes("trap", number, body, reason)["fingerprint"].to_string());
    }
    assert_eq!(prints.first(), prints.last());
    prints.sort();
    prints.dedup();
    assert_eq!(prints.len(), 4);
    trial.finish();
}
