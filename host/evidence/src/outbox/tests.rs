use bulkhead_types::{AgentId, Frames};
use serde_json::json;

use super::*;

const HEARTBEAT: Duration = Duration::from_secs(10);

/// A record as the host writes one.
pub(crate) fn record(crash_id: &str) -> Arc<CrashRecord> {
    let record = json!({
        "crashId": crash_id, "agentId": AgentId::parse("a1").unwrap(), "role": "r", "name": "n",
        "rigId": null, "townId": null, "runId": "run-1", "incarnation": 3, "startAttempt": 1,
        "component": "c", "componentSha256": null, "reason": "panic", "trap": null, "message": "m",
        "location": null, "status": null, "code": null, "requestedBytes": null, "fingerprint": "f",
        "deterministic": "unknown", "frames": Frames::default(), "symbolized": "pending",
        "startedAt": "2026-11-28T07:00:00.000Z", "crashedAt": "2026-11-28T07:00:01.000Z",
        "agentUptimeMs": 1000, "phase": "handle", "messageId": null, "hostCall": null,
        "resources": {
            "memoryBytes": 1, "memoryPeakBytes": 1, "memoryLimitBytes": 1, "softLimitCrossed": false,
            "deniedGrowths": 0, "cpuUs": 1, "turns": 1, "hostCalls": 1, "mailboxDepth": 0,
        },
        "lastLogLines": [], "activeTools": [], "activeAgents": 1,
        "consequence": {"decision": "none"}, "coreDump": null,
    });
    Arc::new(serde_json::from_value(record).unwrap())
}

/// All that is due is stored at `now`.
fn store(outbox: &Outbox, now: Instant) {
    while let Next::Store(kind) = outbox.next(HEARTBEAT, now) {
        let asked = outbox.asked(kind);
        outbox.is_stored(kind, asked, now);
    }
}

fn begun(now: Instant) -> Outbox {
    let outbox = Outbox::default();
    assert_eq!(outbox.next(HEARTBEAT, now), Next::Store(Kind::Run), "the first digest is due");
    store(&outbox, now);
    outbox
}

#[test]
fn a_crash_is_due_at_once_and_the_digest_after_it() {
    let now = Instant::now();
    let outbox = begun(now);
    assert_eq!(outbox.next(HEARTBEAT, now), Next::Wait(now + HEARTBEAT));
    outbox.crashed(record("1"));
    assert_eq!(outbox.next(HEARTBEAT, now), Next::Store(Kind::Crashes));
    outbox.is_stored(Kind::Crashes, outbox.asked(Kind::Crashes), now);
    assert_eq!(outbox.next(HEARTBEAT, now), Next::Wait(now + RUN_GAP));
    // A storm of them has its pace, and each document has all.
    outbox.crashed(record("2"));
    outbox.crashed(record("3"));
    assert_eq!(outbox.next(HEARTBEAT, now), Next::Wait(now + CRASH_GAP));
    assert_eq!(outbox.records().1.records.len(), 3);
}

#[test]
fn what_happens_while_a_document_is_on_its_way_is_due_again() {
    let now = Instant::now();
    let outbox = begun(now);
    outbox.crashed(record("1"));
    let (asked, _) = outbox.records();
    outbox.crashed(record("2"));
    outbox.is_stored(Kind::Crashes, asked, now);
    assert_eq!(outbox.next(HEARTBEAT, now + CRASH_GAP), Next::Store(Kind::Crashes));
}

#[test]
fn after_failures_nothing_is_due_for_a_while_that_grows_to_the_heartbeat() {
    let now = Instant::now();
    let outbox = begun(now);
    let mut waits = Vec::new();
    for _ in 0..6 {
        outbox.has_failed(HEARTBEAT, now, 1.0);
        outbox.crashed(record("1"));
        let Next::Wait(at) = outbox.next(HEARTBEAT, now) else { panic!("it has to wait") };
        waits.push((at - now).as_secs());
    }
    assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
    store(&outbox, now + HEARTBEAT);
    outbox.has_failed(HEARTBEAT, now, 1.0);
    assert_eq!(outbox.next(HEARTBEAT, now), Next::Wait(now + FIRST_BACKOFF), "it begins again");
    assert_eq!(outbox.figures().failed, 7);
}

#[test]
fn those_that_failed_together_are_not_due_together() {
    let now = Instant::now();
    let wait = |dice| {
        let outbox = begun(now);
        for _ in 0..3 {
            outbox.has_failed(HEARTBEAT, now, dice);
        }
        let Next::Wait(at) = outbox.next(HEARTBEAT, now) else { panic!("it has to wait") };
        at - now
    };
    assert_eq!([0.0, 0.25, 0.5, 1.0].map(|dice| wait(dice).as_millis()), [500, 1000, 2000, 4000]);
}

#[test]
fn one_who_waits_is_worth_a_try_at_once_and_no_more() {
    let now = Instant::now();
    let outbox = begun(now);
    outbox.has_failed(HEARTBEAT, now, 1.0);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| outbox.flush(Duration::from_secs(20)));
        while outbox.next(HEARTBEAT, now) != Next::Store(Kind::Run) {
            std::thread::yield_now();
        }
        outbox.has_failed(HEARTBEAT, now, 1.0);
        assert!(matches!(outbox.next(HEARTBEAT, now), Next::Wait(_)));
        store(&outbox, now + HEARTBEAT);
        assert!(waits.join().unwrap());
    });
    assert!(!outbox.flush(Duration::from_millis(1)), "nobody stores it");
    outbox.close();
    assert!(!outbox.flush(Duration::from_secs(3600)), "nobody will");
}

#[test]
fn numbers_are_followed_before_half_of_the_room_is_used() {
    let now = Instant::now();
    let outbox = begun(now);
    (1..ROOM / 2).for_each(|_| outbox.numbered());
    assert!(matches!(outbox.next(HEARTBEAT, now + RUN_GAP), Next::Wait(_)));
    outbox.numbered();
    assert_eq!(outbox.next(HEARTBEAT, now + RUN_GAP), Next::Store(Kind::Run));
}

#[test]
fn the_newest_records_are_kept_and_those_that_no_sink_took_are_counted() {
    let now = Instant::now();
    let outbox = begun(now);
    outbox.begin_with(&[record("old-1"), record("old-2")]);
    (0..MAX_RECORDS).for_each(|n| outbox.crashed(record(&format!("new-{n}"))));
    assert_eq!(outbox.figures().dropped, 0, "those of earlier runs are at the sink");
    outbox.crashed(record("one-more"));
    assert_eq!(outbox.figures().dropped, 1);
    let ids: Vec<_> = outbox.records().1.records.iter().map(|it| it.crash_id.clone()).collect();
    assert_eq!((ids.len(), &*ids[0], &*ids[63]), (MAX_RECORDS, "new-1", "one-more"));
    // What was found late comes before, and only as far as there is room.
    let outbox = Outbox::default();
    outbox.crashed(record("b"));
    outbox.begin_with(&[record("a"), record("b")]);
    let ids: Vec<_> = outbox.records().1.records.iter().map(|it| it.crash_id.clone()).collect();
    assert_eq!(ids, ["a", "b"]);
}

#[test]
fn a_record_that_is_known_better_takes_its_own_place() {
    let outbox = Outbox::default();
    outbox.crashed(record("a"));
    outbox.crashed(record("b"));
    let better = CrashRecord { message: "better".into(), ..CrashRecord::clone(&record("a")) };
    outbox.crashed(better.into());
    let messages: Vec<_> = outbox.records().1.records.iter().map(|it| it.message.clone()).collect();
    assert_eq!(messages, ["better", "m"]);
}

#[test]
fn large_records_lose_what_is_large_and_the_oldest_make_room() {
    let long = |crash_id: &str, line: usize, message: usize| {
        let record = CrashRecord::clone(&record(crash_id));
        let (last_log_lines, message) = (vec!["x".repeat(line)], "m".repeat(message));
        Arc::new(CrashRecord { last_log_lines, message, ..record })
    };
    let fitting = fit(vec![long("a", MAX_RECORD, 10), long("b", 10, MAX_RECORD)]);
    assert_eq!((fitting[0].last_log_lines.len(), fitting[0].message.len()), (0, 10));
    assert!(size(&fitting[1]) < MAX_RECORD);
    let many: Vec<_> = (0..64).map(|n| long(&n.to_string(), MAX_RECORD / 2, 10)).collect();
    let fitting = fit(many);
    assert!(
        fitting.len() < 64 && fitting.iter().map(|it| size(it)).sum::<usize>() <= MAX_RECORDS_BYTES
    );
    assert_eq!(fitting.last().unwrap().crash_id, "63");
}
