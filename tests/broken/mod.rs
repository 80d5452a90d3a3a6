//! The agent of `tests/runners.rs` in Rust: what works in each language, and each way to fail.

use bulkhead_types::Phase;
use harness::{Host, HostBuilder, Value, json, model_server};

use crate::runners::{ROLE, crash, works};

fn host(more: &str) -> HostBuilder {
    let component = harness::files::component("broken");
    Host::builder().component("broken", &component).role(
        "broken",
        "broken",
        &format!("{ROLE}\n{more}"),
    )
}

/// The line of the agent's source that a record points to.
#[track_caller]
fn source_line(record: &Value) -> String {
    let file = record["location"]["file"].as_str().unwrap_or_default();
    assert!(file.ends_with("broken.rs"), "no place in the agent's source: {record}");
    let source = harness::files::root().join("tests/programs/examples/broken.rs");
    let source = std::fs::read_to_string(source).unwrap();
    let line = record["location"]["line"].as_u64().expect("a line") as usize;
    source.lines().nth(line - 1).unwrap_or_default().trim().to_owned()
}

#[test]
fn an_agent_in_rust_works_and_fails_with_its_own_words() {
    let model = model_server();
    let host = host("models = [\"default\"]").model(&model, "").start();
    works(&host, "rust");
    let client = host.client();
    client.start("lives", "broken");
    for (message, code, words) in
        [("own", "bad-prompt", "not like that"), ("refused", "invalid", "agent.mine")]
    {
        let answer = client.send_wait("lives", message).expect_error(502, &[words]);
        assert_eq!(answer.error_type.as_deref(), Some(code));
    }
    assert_eq!(client.status("lives").incarnation.0, 1, "it still lives");
    let mut fingerprints = Vec::new();
    for (message, reason, words, line) in [
        ("type", "panic", "`None`", "black_box(None::<()>).unwrap()"),
        ("range", "panic", "too far", "panic!("),
        ("callback", "panic", "`None`", "black_box(None::<()>).unwrap()"),
        ("cause", "exception", "on top", "AgentError::exception("),
        ("fatal", "guest_error", "no more", ""),
        ("exit", "guest_exit", "status 1", ""),
        ("recursion", "stack_exhausted", "stack", ""),
        ("memory", "memory_limit", "memory", ""),
        ("loop", "cpu_deadline", "CPU", ""),
    ] {
        let record = crash(&host, message);
        assert_eq!(record["reason"], reason, "{message}: {record}");
        assert!(record["message"].as_str().unwrap().contains(words), "{message}: {record}");
        if !line.is_empty() {
            assert!(source_line(&record).contains(line), "{message}: {record}");
        }
        fingerprints.push(record["fingerprint"].as_str().unwrap().to_owned());
        if message == "cause" {
            let [own, cause] = [0, 1].map(|at| &record["exceptions"][at]);
            assert_eq!(
                (&own["kind"], &cause["kind"]),
                (&json!("OnTop"), &json!("cause")),
                "{record}"
            );
            assert!(cause["message"].as_str().unwrap().contains("invalid digit"), "{record}");
        }
    }
    fingerprints.sort_unstable();
    let count = fingerprints.len();
    fingerprints.dedup();
    assert_eq!(fingerprints.len(), count, "each fault has a fingerprint of its own");
    host.finish();
}

#[test]
fn a_start_in_rust_fails_with_its_own_words() {
    let host = host("").start();
    for (prompt, reason) in [("range", "panic"), ("cause", "exception"), ("fatal", "start_failed")]
    {
        let answer = host.client().start_with(prompt, "broken", json!({ "prompt": prompt }));
        let id = answer.expect_error(502, &[]).crash_id.expect("a crash");
        let record = host.client().crash(&id);
        let found = (record.reason.as_str(), record.phase);
        assert_eq!(found, (reason, Phase::Start), "{record:?}");
    }
    host.finish();
}
