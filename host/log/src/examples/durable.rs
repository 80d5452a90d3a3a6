//! What survives a run: the database, and bringing agents back.

use bulkhead_types::event::{
    AgentTag, HydrationFailed, HydrationFinished, HydrationResult, HydrationStarted,
    SnapshotNotKept, StoreAvailable, StoreSetAside, StoreUnavailable,
};
use bulkhead_types::{AgentId, Event, Incarnation, Timestamp};

pub(super) fn all() -> [Event; 11] {
    [
        Event::HydrationStarted(HydrationStarted {
            agents: 12,
            from_store: 11,
            from_town: 9,
            quarantined: 1,
            source: "town_and_store",
            town_error: None,
        }),
        Event::HydrationFinished(HydrationFinished {
            agents: 12,
            running: 12,
            failed: 0,
            late: 0,
            overtaken: 0,
            quarantined: 0,
            source: "store",
            duration_ms: 31,
            results: Vec::new(),
        }),
        Event::HydrationFinished(HydrationFinished {
            agents: 12,
            running: 10,
            failed: 1,
            late: 1,
            overtaken: 0,
            quarantined: 1,
            source: "town_and_store",
            duration_ms: 10_004,
            results: vec![
                HydrationResult {
                    agent_id: id("furiosa"),
                    result: "failed",
                    error_type: Some("unknown-role"),
                    error: Some("unknown role \"driver\"; the configuration has mayor".into()),
                },
                HydrationResult {
                    agent_id: id("nux"),
                    result: "late",
                    error_type: None,
                    error: None,
                },
            ],
        }),
        Event::HydrationFailed(HydrationFailed {
            error: "the task that brings agents back ended before its time".into(),
            action: "read the panic before this line; start the missing agents by hand",
        }),
        Event::StoreSetAside(StoreSetAside {
            reason: "database disk image is malformed".into(),
            kept_as: Some("state/store/bulkhead.db.set-aside-1768469400000".into()),
            removed: None,
        }),
        Event::StoreSetAside(StoreSetAside {
            reason: "the database is missing or empty, although earlier runs left their journal or events beside it".into(),
            kept_as: None,
            removed: None,
        }),
        Event::StoreUnavailable(StoreUnavailable {
            reason: "write to the database: database or disk is full".into(),
            retries: true,
        }),
        Event::StoreOff {},
        Event::StoreAvailable(StoreAvailable {
            crash_records_written: 59,
            crash_records_dropped: 0,
        }),
        Event::SnapshotSetAside {
            agent: AgentTag {
                agent_id: id("furiosa"),
                role: "mayor".into(),
                incarnation: Incarnation(7),
            },
            generation: 41,
            taken_at: Timestamp(super::AT.0 - 60_000),
            bytes: 18_233,
            failures: 2,
            reason: "the agent failed with it before its first turn was done",
        },
        Event::SnapshotNotKept(SnapshotNotKept {
            agent: AgentTag {
                agent_id: id("furiosa"),
                role: "mayor".into(),
                incarnation: Incarnation(7),
            },
            code: "too-large".into(),
            message:
                "the snapshot has 1204118 bytes, and the role's limit is 1048576 (snapshot_kb)"
                    .into(),
            bytes: Some(1_204_118),
            limit_bytes: Some(1_048_576),
        }),
    ]
}

fn id(text: &str) -> AgentId {
    AgentId::parse(text).expect("an id")
}
