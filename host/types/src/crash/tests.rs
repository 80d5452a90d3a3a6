use super::*;
use crate::Sender;

fn record() -> CrashRecord {
    CrashRecord {
        crash_id: "c1".into(),
        agent_id: AgentId::parse("a1").unwrap(),
        role: "mayor".into(),
        name: "A".into(),
        rig_id: None,
        town_id: Some("town".into()),
        run_id: "run-1".into(),
        incarnation: Incarnation(3),
        start_attempt: 2,
        component: "mayor".into(),
        component_sha256: Some(Digest([7; 32])),
        source_sha256: None,
        reason: ExitReason::Trap,
        trap: Some("integer-divide-by-zero".into()),
        message: "divided by zero".into(),
        location: Some(Location { file: "src/lib.rs".into(), line: 3, column: 9 }),
        exceptions: Vec::new(),
        status: None,
        code: None,
        requested_bytes: Some(65_536),
        fingerprint: "f".into(),
        deterministic: Determinism::True,
        frames: vec![Frame {
            index: 0,
            function: Some("mayor::step".into()),
            module: None,
            function_index: 4,
            module_offset: Some(99),
            file: Some("src/lib.rs".into()),
            line: Some(3),
            column: None,
            in_app: true,
        }]
        .into(),
        symbolized: Symbolized::Done,
        started_at: Timestamp(1000),
        crashed_at: Timestamp(2000),
        agent_uptime_ms: 1000,
        phase: Phase::Handle,
        message_id: Some("m1".into()),
        host_call: None,
        resources: Resources { soft_limit_crossed: true, turns: 5, ..Resources::default() },
        last_log_lines: vec!["one".into()],
        last_events: vec![LastEvent {
            id: 1,
            event: "agent.start".into(),
            timestamp: Timestamp(1),
        }],
        active_tools: Vec::new(),
        tools_in_flight: Vec::new(),
        active_agents: 1,
        rss_mb: Some(48.5),
        pressure: Some(0.25),
        eviction: None,
        consequence: Consequence::Quarantined {
            why: QuarantineReason::SameFault,
            message: "three times".into(),
            attempts_in_window: 3,
        },
        core_dump: Some(CoreDumpRef { id: "d1".into(), bytes: 10, note: None }),
    }
}

#[test]
fn a_record_reads_back_what_it_wrote() {
    let record = record();
    let json = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<CrashRecord>(&json).unwrap(), record);
    for consequence in [
        Consequence::None,
        Consequence::Restart { restart_at: Timestamp(5), backoff_ms: 5, attempts_in_window: 1 },
    ] {
        let record = CrashRecord { consequence, ..record.clone() };
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<CrashRecord>(&json).unwrap(), record);
    }
}

#[test]
fn a_field_of_a_later_version_is_no_obstacle() {
    let mut json = serde_json::to_value(record()).unwrap();
    json["sender"] = serde_json::to_value(Sender::Operator).unwrap();
    serde_json::from_value::<CrashRecord>(json).unwrap();
}

#[test]
fn the_words_are_those_of_the_contract() {
    let json = serde_json::to_value(record()).unwrap();
    assert_eq!(json["symbolized"], "done");
    assert_eq!(json["frames"][0]["inApp"], true);
    assert_eq!(json["frames"][0].get("column"), None);
    assert_eq!(json["resources"]["softLimitCrossed"], true);
    assert_eq!(json["startAttempt"], 2);
}

#[test]
fn frames_are_the_list_that_they_were_made_from_and_have_its_text() {
    let list = record().frames.to_vec();
    let frames = Frames::from(list.clone());
    for _ in 0..2 {
        let text = serde_json::to_string(&list).unwrap();
        assert_eq!(serde_json::to_string(&frames).unwrap(), text);
        assert_eq!(serde_json::from_str::<Frames>(&text).unwrap(), frames);
        assert_eq!(serde_json::to_value(&frames).unwrap(), serde_json::to_value(&list).unwrap());
    }
    assert!(frames.weight() > size_of::<Frame>());
    let none = Frames::from(Vec::new());
    assert_eq!((serde_json::to_string(&none).unwrap().as_str(), none.weight()), ("[]", 0));
    assert_eq!(none, Frames::default());
}
