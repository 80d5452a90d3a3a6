//! Sentences about the evidence sink.

use bulkhead_types::Event;
use bulkhead_types::event::{EvidenceAvailable, EvidenceFailed, EvidenceFound, EvidenceLate};

use super::{Sentence, Who, and, ms, quoted};
use crate::reason::{confidence as sure, run_ended};
use crate::words::counted;

pub(super) fn of(event: &Event) -> Option<Sentence<'_>> {
    let said = |text: String| Sentence::new(Who::Host, text);
    let sentence = match event {
        Event::EvidenceFound(EvidenceFound {
            sink,
            previous_run_id,
            believed,
            crash_records,
            agents,
            damaged,
            ..
        }) => {
            let found = match (previous_run_id, *believed) {
                (None, _) => "nothing of an earlier run",
                (Some(_), "sink") => "more of its last run than the disk has",
                (Some(_), _) => "nothing of its last run that the disk has not",
            };
            let records = counted(*crash_records, "crash record");
            let agents = counted(*agents, "agent");
            let damaged = and(damaged.len() as u64, "documents are not believed");
            said(format!(
                "found {found} at {sink}: {records} and {agents} were not on the disk{damaged}"
            ))
            .detail_if(*believed != "sink")
        }
        Event::EvidenceFailed(EvidenceFailed { doing, message, repeated, .. }) => {
            let what = match *doing {
                "fetch" => "cannot fetch evidence of earlier runs",
                _ => "cannot store evidence",
            };
            said(format!("{what}: {}{}", quoted(message), and(*repeated, "times before")))
        }
        Event::EvidenceAvailable(EvidenceAvailable { down_ms }) => {
            said(format!("stores evidence again, after {}", ms(*down_ms)))
        }
        Event::EvidenceLate(EvidenceLate {
            cause, confidence, evidence, crash_records, ..
        }) => {
            let records = and(*crash_records as u64, "crash records came with it");
            let (ended, sure) = (run_ended(*cause), sure(*confidence));
            let evidence = evidence.join("; ");
            said(format!("learned late that its last run {ended} ({sure}): {evidence}{records}"))
        }
        _ => return None,
    };
    Some(sentence)
}
