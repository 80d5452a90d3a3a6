//! The evidence sink.

use bulkhead_types::event::{EvidenceAvailable, EvidenceFailed, EvidenceFound, EvidenceLate};
use bulkhead_types::{Cause, Confidence, Event, Timestamp};

pub(super) fn all() -> [Event; 4] {
    let run_id = || "019bc0e1-7d20-7b42-8c11-2f6a9d4e0b77".to_owned();
    [
        Event::EvidenceFound(EvidenceFound {
            sink: "s3://evidence/towns".into(),
            duration_ms: 84,
            previous_run_id: Some(run_id()),
            written_at: Some(Timestamp(super::AT.0 - 4_000)),
            believed: "sink",
            crash_records: 3,
            agents: 12,
            damaged: vec!["run-0.json is half-written or damaged".into()],
        }),
        Event::EvidenceFailed(EvidenceFailed {
            doing: "store",
            cause: "refused",
            message: "the sink answered 503 Service Unavailable".into(),
            fingerprint: "evidence:store:refused".into(),
            repeated: 2,
        }),
        Event::EvidenceAvailable(EvidenceAvailable { down_ms: 61_204 }),
        Event::EvidenceLate(EvidenceLate {
            previous_run_id: run_id(),
            cause: Cause::UncaughtException,
            confidence: Confidence::High,
            evidence: vec!["main panicked at host/daemon/src/run.rs:71:9: no such lane".into()],
            crash_records: 1,
        }),
    ]
}
