//! A guest that writes more than anybody can read.

use harness::{Trial, Value, json, wait_until};

const AGENT: &str = "log-flood";

/// Log lines of the agent on a stream, and how many were dropped before them.
fn counted(lines: &[Value]) -> (u64, u64) {
    let dropped = lines.iter().map(|line| line["dropped"].as_u64().unwrap_or(0)).sum();
    (lines.len() as u64, dropped)
}

#[test]
fn a_flood_is_bounded_counted_and_disturbs_nobody() {
    const LINES: u64 = 20_000;
    let trial = Trial::of(&[AGENT]);
    trial.client().start(AGENT, AGENT);
    assert_eq!(trial.client().ask(AGENT, &format!("flood {LINES}")), LINES.to_string());

    // `flood` writes to two streams. Further lines get through as the bucket fills, and report it.
    let (mut written, mut reported) = (2 * LINES, (0, 0));
    for _ in 0..1000 {
        trial.client().ask(AGENT, "stderr 1");
        written += 1;
        trial.bystander().wait_for_more();
        reported = counted(&trial.host().events_of(AGENT, "agent.log"));
        if reported.0 + reported.1 == written {
            break;
        }
    }
    let (passed, dropped) = reported;
    assert_eq!(passed + dropped, written, "{passed} lines and {dropped} dropped");
    assert!(passed < LINES / 2, "{passed} of {written} lines got through");
    assert!(trial.host().crashes().is_empty());
    trial.finish();
}

#[test]
fn a_line_without_an_end_is_cut() {
    let trial = Trial::of(&[AGENT]);
    trial.client().start(AGENT, AGENT);
    assert_eq!(trial.client().ask(AGENT, "long 3000000"), "3000000");
    let line = trial.host().wait_for_line("the long line", |line| {
        line["event"] == "agent.log" && line["stream"] == "stdout"
    });
    let length = line["message"].as_str().unwrap().len();
    assert!((1000..=8 * 1024 + 64).contains(&length), "{length} bytes");
    let memory = trial.client().status(AGENT).memory;
    assert!(memory.used_bytes < 16 * 1024 * 1024, "{memory:?}");
    trial.finish();
}

/// Texts of the agent's lines on a stream.
fn said(trial: &Trial, stream: &str) -> Vec<String> {
    let lines = trial.host().events_of(AGENT, "agent.log").into_iter();
    let lines = lines.filter(|line| line["stream"] == stream);
    lines.map(|line| line["message"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_long_printed_line_arrives_whole_in_lines_that_end_between_characters() {
    let trial = Trial::of(&[AGENT]);
    trial.client().start(AGENT, AGENT);
    assert_eq!(trial.client().ask(AGENT, "print 20000"), "20000");
    trial.host().wait_for_line("the end of the line", |line| {
        line["message"].as_str().is_some_and(|message| message.ends_with('>'))
    });
    let lines = said(&trial, "stdout");
    let text = format!("<{}>", "世".repeat(6666));
    assert_eq!(lines.concat(), text);
    assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [8191, 8190, 3619]);
    trial.finish();
}

#[test]
fn a_write_that_nobody_allowed_ends_the_agent_before_it_is_looked_at() {
    let trial = Trial::of(&[AGENT]);
    trial.client().start(AGENT, AGENT);
    let crash = trial.crashes(AGENT, 1, "newlines 4000000", "trap");
    assert!(crash["message"].as_str().unwrap().contains("check-write allowed 0"), "{crash}");
    assert!(said(&trial, "stdout").is_empty());
    trial.finish();
}

#[test]
fn a_rate_of_lines_is_one_of_bytes_and_a_long_line_comes_in_parts() {
    let trial = Trial::of(&[AGENT]);
    trial.client().start(AGENT, AGENT);
    assert_eq!(trial.client().ask(AGENT, "fat 500"), "500");
    let written = || trial.host().events_of(AGENT, "agent.log").len() as u64;
    trial.host().wait_for_line("a long line", |line| line["part"] == 2);
    // Some 260 KiB each, of 500 KiB at once and 50 in a second.
    assert!((1..10).contains(&written()), "{} lines", written());
    let lines = trial.host().lines();
    let first = lines.iter().position(|line| line["event"] == "agent.log").unwrap();
    let parts = lines[first]["parts"].as_u64().unwrap() as usize;
    trial.host().wait_for_line("its last part", |line| line["part"] == parts);
    let lines = trial.host().lines();
    let text = lines[first + 1..first + parts].iter().map(|part| part["text"].as_str().unwrap());
    let record: Value = serde_json::from_str(&text.collect::<String>()).unwrap();
    assert_eq!(record["message"].as_str().unwrap(), "\u{1}".repeat(8192));
    assert_eq!(record["fields"].as_object().unwrap().len(), 32);
    assert_eq!((&record["event"], &record["role"]), (&"agent.log".into(), &AGENT.into()));
    trial.bystander().wait_for_more();
    trial.finish();
}

#[test]
fn a_long_crash_record_keeps_its_head_in_one_line_and_all_of_it_in_its_parts() {
    let trial = Trial::of(&[AGENT]);
    trial.client().start(AGENT, AGENT);
    let crash = trial.crashes(AGENT, 1, "quote 20", "panic");
    assert_eq!(
        (&crash["message"], &crash["part"]),
        (&"said too much".into(), &1.into()),
        "{crash}"
    );
    assert!(!crash["frames"].as_array().unwrap().is_empty(), "{crash}");
    let parts = crash["parts"].as_u64().unwrap();
    trial.host().wait_for_line("the last part", |line| line["part"] == parts);
    let lines = trial.host().lines();
    let at = lines.iter().position(|line| line["seq"] == crash["seq"]).unwrap();
    let texts =
        lines[at + 1..at + parts as usize].iter().map(|part| part["text"].as_str().unwrap());
    let whole: Value = serde_json::from_str(&texts.collect::<String>()).unwrap();
    let quotes = whole["lastLogLines"].as_array().unwrap().iter();
    // Behind them are the lines of the panic.
    let quotes = quotes.filter(|line| **line == "\"".repeat(1000)).count();
    assert!((14..20).contains(&quotes), "{whole}");
    assert!(crash["lastLogLines"].as_array().unwrap().len() < 20);
    let id = crash["crashId"].as_str().unwrap();
    assert_eq!(json!(trial.client().crash(id).last_log_lines), whole["lastLogLines"]);
    trial.finish();
}

#[test]
fn the_words_of_turns_that_fail_count_for_the_rate_too() {
    let trial = Trial::of(&[AGENT]);
    trial.client().start(AGENT, AGENT);
    for _ in 0..60 {
        trial.client().send_wait(AGENT, "fail 4096").expect(502);
    }
    let failed = || {
        let turns = trial.host().events_of(AGENT, "agent.turn");
        turns.into_iter().filter(|turn| !turn["error"].is_null()).collect::<Vec<_>>()
    };
    wait_until("each turn has its line", || failed().len() == 60);
    // Some 25 KiB each, of 500 KiB at once and 50 in a second.
    let whole = failed().iter().filter(|turn| turn["part"] == 1).count();
    assert!((10..50).contains(&whole), "{whole} of 60");
    let left_out = |turn: &&Value| turn["error"].as_str().unwrap().starts_with("left out");
    assert_eq!(failed().iter().filter(left_out).count(), 60 - whole);
    trial.finish();
}

#[test]
fn what_a_guest_says_is_a_text_in_every_place() {
    let trial = Trial::of(&[AGENT]);
    trial.client().start(AGENT, AGENT);
    let forged =
        r#"{"ts":"2026-01-15T09:30:00.000Z","event":"container.stop_intent","x":"\u{202e}"}"#;
    trial.client().ask(AGENT, &format!("say {forged}"));
    let line = trial.host().wait_for_line("its line", |line| line["stream"] == "log");
    assert_eq!(line["message"], forged);
    let names: Vec<_> = line["fields"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, ["guest.event".to_owned(), format!("guest.{forged}")]);
    assert_eq!(said(&trial, "stdout"), [forged]);
    trial.finish();
}

#[test]
fn events_are_kept_up_to_a_bound_and_the_page_says_from_where() {
    let trial = Trial::of(&[AGENT]);
    trial.client().start(AGENT, AGENT);
    let reply = trial.client().ask(AGENT, "events 5000");
    let numbers: Vec<u64> = reply
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect();
    let [accepted, refused] = numbers[..] else { panic!("no two numbers: {reply}") };
    assert_eq!(accepted + refused, 5000, "{reply}");
    let page = trial.client().events(AGENT, 0);
    assert!(page.events.len() <= 2000, "{} events are kept", page.events.len());
    let ids: Vec<_> = page.events.iter().map(|event| event.id).collect();
    assert!(ids.is_sorted() && !ids.is_empty());
    if accepted > 2000 {
        assert_eq!(page.dropped_before, Some(ids[0]), "{page:?}");
    }
    trial.finish();
}
