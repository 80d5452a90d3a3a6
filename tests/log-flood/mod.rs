//! A guest that writes more than anybody can read.

use harness::{Trial, Value};

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

    // `flood` writes to two streams. Further lines get through as the bucket fills, and tell.
    let (mut written, mut told) = (2 * LINES, (0, 0));
    for _ in 0..1000 {
        trial.client().ask(AGENT, "stderr 1");
        written += 1;
        trial.bystander().wait_for_more();
        told = counted(&trial.host().events_of(AGENT, "agent.log"));
        if told.0 + told.1 == written {
            break;
        }
    }
    let (passed, dropped) = told;
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
    let memory = trial.client().status(AGENT)["memory"].clone();
    assert!(memory["usedBytes"].as_u64() < Some(16 * 1024 * 1024), "{memory}");
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
    let events = page["events"].as_array().unwrap();
    assert!(events.len() <= 2000, "{} events are kept", events.len());
    let ids: Vec<_> = events.iter().map(|event| event["id"].as_u64().unwrap()).collect();
    assert!(ids.is_sorted() && !ids.is_empty());
    if accepted > 2000 {
        assert_eq!(page["droppedBefore"].as_u64(), Some(ids[0]), "{page}");
    }
    trial.finish();
}
