use std::time::Duration;

use bulkhead_types::Timestamp;
use bulkhead_types::previous::{InFlight, RunState};

use super::*;
use crate::{BootFailed, CleanMarker, Fact, Kind, Panic, Record, Run, StopIntent};
use Confidence::{High, Low, Medium};
use WaitStatus::{Exited, Signaled};

const SIGKILL: Option<WaitStatus> = Some(Signaled(9));

/// A run that was going well when its record stops.
fn busy() -> Previous {
    let states = [RunState::Starting, RunState::Started, RunState::Hydrated];
    Previous {
        run: Run {
            run_id: "run-1".into(),
            boot_id: Some("boot-1".into()),
            baseline: MemoryFigures { oom_kills: Some(3), limit_hits: Some(0), ..calm() },
            ..Run::default()
        },
        reached: states.into_iter().map(|state| (state, Timestamp(1000))).collect(),
        stop_intent_at: None,
        last_live: Some(Timestamp(90_000)),
        in_line: false,
        uptime: Some(Duration::from_secs(89)),
        last_log_seq: Some(70),
        clean: CleanMarker::Absent,
        records: vec![record(1, 60_000, &Fact::Memory(calm()))],
        in_flight: Vec::new(),
        untracked: 0,
        torn: 0,
        missing: 0,
    }
}

fn calm() -> MemoryFigures {
    MemoryFigures {
        rss_bytes: Some(300),
        limit_bytes: Some(1000),
        anon_bytes: Some(200),
        psi_full_avg10: Some(0.0),
        oom_kills: Some(3),
        group_oom_kills: None,
        limit_hits: Some(0),
    }
}

fn full() -> MemoryFigures {
    MemoryFigures { anon_bytes: Some(960), ..calm() }
}

fn record(seq: u64, at: i64, fact: &Fact<'_>) -> Record {
    let payload = match fact {
        Fact::Memory(fact) => serde_json::to_vec(fact),
        Fact::StopIntent(fact) => serde_json::to_vec(fact),
        Fact::Panic(fact) => serde_json::to_vec(fact),
        Fact::BootFailed(fact) => serde_json::to_vec(fact),
        other => panic!("{other:?}"),
    };
    Record { seq, at: Timestamp(at), kind: fact.kind(), payload: payload.unwrap() }
}

impl Previous {
    fn and(mut self, at: i64, fact: &Fact<'_>) -> Self {
        let seq = self.records.len() as u64 + 1;
        self.records.push(record(seq, at, fact));
        self
    }

    fn came_to(mut self, state: RunState) -> Self {
        self.reached.push((state, Timestamp(91_000)));
        self
    }

    fn only_came_to(mut self, last: RunState) -> Self {
        self.reached.retain(|(state, _)| *state <= last);
        self
    }

    fn marked(mut self, run_id: &str) -> Self {
        self.clean = CleanMarker::Of(run_id.into());
        self
    }
}

fn stop() -> Fact<'static> {
    Fact::StopIntent(StopIntent {
        by: "SIGTERM".into(),
        reason: "a signal".into(),
        drain_ms: Some(300_000),
    })
}

fn panic() -> Fact<'static> {
    Fact::Panic(Panic {
        name: "main".into(),
        message: "boom".into(),
        location: Some("src/a.rs:1:2".into()),
    })
}

/// The same boot, the same counters, and nobody saw the end.
fn quiet() -> Observations {
    Observations { boot_id: Some("boot-1".into()), memory: calm(), ..Observations::default() }
}

fn after(wait: Option<WaitStatus>) -> Observations {
    Observations { wait, ..quiet() }
}

/// The kernel killed somebody since.
fn after_oom(wait: Option<WaitStatus>) -> Observations {
    Observations { memory: MemoryFigures { oom_kills: Some(4), ..calm() }, ..after(wait) }
}

fn another_boot() -> Observations {
    let memory = MemoryFigures { oom_kills: Some(0), ..calm() };
    Observations { boot_id: Some("boot-2".into()), memory, ..Observations::default() }
}

#[track_caller]
fn check(run: &Previous, now: &Observations, cause: Cause, confidence: Confidence) -> PreviousRun {
    let judged = judge(run, now);
    assert_eq!((judged.cause, judged.confidence), (cause, confidence), "{judged:#?}");
    assert!(!judged.evidence.is_empty());
    assert!(judged.excluded.iter().all(|line| !line.starts_with(cause.as_str())), "{judged:#?}");
    judged
}

fn excludes(judged: &PreviousRun, line: &str) {
    assert!(judged.excluded.iter().any(|found| found.starts_with(line)), "{judged:#?}");
}

fn without_box(missing: &Missing, wait: Option<WaitStatus>) -> (Cause, Confidence) {
    let judged = judge_without_box(missing, calm(), &after(wait));
    assert!(!judged.evidence.is_empty(), "{judged:#?}");
    assert_eq!((&judged.previous_run_id, judged.last_state), (&None, None));
    (judged.cause, judged.confidence)
}

#[test]
fn a_first_run_and_one_whose_evidence_is_gone_are_two_things() {
    let lost = Missing::Lost("the disk is another one".into());
    assert_eq!(without_box(&Missing::NoRun, None), (Cause::None, Medium));
    assert_eq!(without_box(&Missing::Elsewhere { ended: true }, None), (Cause::Clean, Medium));
    assert_eq!(without_box(&Missing::Elsewhere { ended: false }, None), (Cause::Lost, Medium));
    assert_eq!(without_box(&lost, None), (Cause::Lost, High));
    assert_eq!(without_box(&lost, SIGKILL), (Cause::Lost, High), "it may have been in its drain");
    assert_eq!(without_box(&lost, Some(Exited(99))), (Cause::Lost, High));
    assert_eq!(without_box(&lost, Some(Signaled(11))), (Cause::NativeFault, High));
}

#[test]
fn a_run_that_died_before_it_had_a_box_is_judged_by_what_its_parent_saw() {
    assert_eq!(without_box(&Missing::NeverHad, None), (Cause::Unknown, Low));
    assert_eq!(without_box(&Missing::NeverHad, SIGKILL), (Cause::ExternalSigkill, Medium));
    assert_eq!(without_box(&Missing::NeverHad, Some(Exited(99))), (Cause::Unknown, Low));
    assert_eq!(without_box(&Missing::NeverHad, Some(Signaled(6))), (Cause::NativeFault, High));
    let judged = judge_without_box(&Missing::NeverHad, calm(), &after_oom(SIGKILL));
    assert_eq!(judged.cause, Cause::OomKill);
    let broken = Missing::Unreadable("its black box could not be read: no header".into());
    let judged = judge_without_box(&broken, calm(), &quiet());
    assert_eq!((judged.cause, judged.confidence), (Cause::Unknown, Low));
    assert!(judged.evidence[0].contains("no header"), "{judged:#?}");
}

/// The same boot and counters, and a word from outside.
fn outside(text: &str) -> Observations {
    Observations { outside: Some(Outside::parse(text).unwrap()), ..quiet() }
}

#[test]
fn what_outsiders_know_comes_in() {
    let judged = check(&busy(), &outside(r#"{"code":137,"reason":"oom"}"#), Cause::OomKill, Medium);
    assert_eq!(judged.exit_code, Some(137));
    let line = r#"from outside: code 137, reason "oom""#;
    assert!(judged.evidence.iter().any(|found| found == line), "{judged:#?}");
    let full = busy().and(89_000, &Fact::Memory(full()));
    check(&full, &outside(r#"{"reason":"OOMKilled"}"#), Cause::OomKill, High);
    check(&busy(), &outside(r#"{"reason":"Evicted"}"#), Cause::OrchestratorStop, Medium);
    check(&busy(), &outside(r#"{"signal":9}"#), Cause::ExternalSigkill, High);
    check(&busy(), &outside(r#"{"code":137}"#), Cause::ExternalSigkill, Low);
    check(&busy(), &outside(r#"{"signal":11}"#), Cause::NativeFault, High);
    let lost = Missing::Lost("gone".into());
    let judged = judge_without_box(&lost, calm(), &outside(r#"{"code":137,"reason":"oom"}"#));
    assert_eq!((judged.cause, judged.confidence), (Cause::OomKill, Medium));
    let judged = judge_without_box(&lost, calm(), &outside(r#"{"code":0}"#));
    assert_eq!(judged.cause, Cause::Lost);
}

#[test]
fn a_box_that_outsiders_contradict_is_not_believed() {
    let clean = || busy().and(90_500, &stop()).came_to(RunState::Draining).marked("run-1");
    for text in [r#"{"code":137}"#, r#"{"signal":9}"#, r#"{"code":0,"reason":"oom"}"#] {
        let judged = judge(&clean(), &outside(text));
        assert_ne!(judged.cause, Cause::Clean, "{judged:#?}");
    }
    check(&clean(), &outside(r#"{"code":0}"#), Cause::Clean, High);
    check(&clean(), &outside(r#"{"code":3}"#), Cause::Clean, High);
}

#[test]
fn a_clean_marker_of_its_own_after_hydration_and_drain_is_clean() {
    let run = busy().and(90_500, &stop()).came_to(RunState::Draining).marked("run-1");
    check(&run, &after(Some(Exited(0))), Cause::Clean, High);
    check(&run, &another_boot(), Cause::Clean, High);
    check(&run, &after(SIGKILL), Cause::Clean, Medium);
}

#[test]
fn a_clean_marker_of_another_run_proves_nothing() {
    let run = busy().and(90_500, &stop()).came_to(RunState::Draining).marked("run-0");
    let judged = check(&run, &quiet(), Cause::OrchestratorStop, High);
    excludes(&judged, "clean: the clean marker is that of run run-0");
}

#[test]
fn a_run_that_was_asked_to_end_while_it_booted_and_did_is_clean() {
    let run = busy().only_came_to(RunState::Started).came_to(RunState::Draining).marked("run-1");
    let judged = check(&run, &after(Some(Exited(0))), Cause::Clean, High);
    assert_eq!(judged.evidence[0], "it marked itself as clean after the drain");
    assert_eq!(judged.evidence[1], "its boot came no further than started");
}

#[test]
fn a_clean_marker_without_a_drain_proves_nothing() {
    let run = busy().marked("run-1");
    let judged = check(&run, &after(SIGKILL), Cause::ExternalSigkill, High);
    excludes(&judged, "clean: the clean marker was written without a drain");
}

#[test]
fn a_damaged_clean_marker_proves_nothing() {
    let run = Previous { clean: CleanMarker::Damaged, ..busy().came_to(RunState::Draining) };
    check(&run, &quiet(), Cause::OrchestratorStop, High);
}

#[test]
fn a_panic_record_as_the_last_word_is_an_uncaught_exception() {
    let run = busy().and(90_000, &panic());
    let judged = check(&run, &after(Some(Exited(70))), Cause::UncaughtException, High);
    assert_eq!(judged.evidence[0], "main panicked at src/a.rs:1:2: boom");
    assert_eq!(judged.exit_code, Some(70));
    check(&run, &quiet(), Cause::UncaughtException, High);
}

#[test]
fn an_abort_after_a_panic_is_the_panic_and_not_a_native_fault() {
    check(&busy().and(90_000, &panic()), &after(Some(Signaled(6))), Cause::UncaughtException, High);
}

#[test]
fn a_panic_during_the_drain_is_a_panic() {
    let run = busy().and(90_000, &stop()).came_to(RunState::Draining).and(91_000, &panic());
    check(&run, &after(Some(Exited(70))), Cause::UncaughtException, High);
}

#[test]
fn a_kill_that_follows_a_panic_does_not_hide_it() {
    check(&busy().and(90_000, &panic()), &after(SIGKILL), Cause::UncaughtException, Medium);
}

#[test]
fn a_panic_that_the_run_outlived_did_not_end_it() {
    let run = busy().and(5_000, &panic());
    check(&run, &after(SIGKILL), Cause::ExternalSigkill, High);
}

#[test]
fn a_wall_clock_that_was_set_back_does_not_hide_a_panic_or_the_last_moment() {
    let later = Timestamp(9_000_000);
    let mut run = busy().and(later.0, &Fact::Memory(calm())).and(89_999, &panic());
    run.reached.push((RunState::Started, later));
    let judged = check(&run, &after(Some(Signaled(6))), Cause::UncaughtException, High);
    assert_eq!(judged.last_ts, Some(Timestamp(90_000)));
}

#[test]
fn a_panic_record_that_is_no_json_is_a_panic_all_the_same() {
    let mut run = busy();
    let payload = b"\xff out of words".to_vec();
    run.records.push(Record { seq: 9, at: Timestamp(90_000), kind: Kind::Panic, payload });
    check(&run, &quiet(), Cause::UncaughtException, High);
}

#[test]
fn the_exit_code_of_a_panic_without_its_record_is_a_weaker_sign() {
    check(&busy(), &after(Some(Exited(101))), Cause::UncaughtException, Medium);
}

#[test]
fn signals_of_the_machine_are_native_faults() {
    for signal in [4, 6, 7, 8, 11] {
        check(&busy(), &after(Some(Signaled(signal))), Cause::NativeFault, High);
        check(&busy(), &after(Some(Exited(128 + signal))), Cause::NativeFault, Medium);
    }
}

#[test]
fn a_native_fault_while_draining_is_a_native_fault() {
    let run = busy().and(90_000, &stop()).came_to(RunState::Draining);
    check(&run, &after(Some(Signaled(11))), Cause::NativeFault, High);
}

#[test]
fn sigkill_with_a_risen_counter_and_full_memory_is_an_oom_kill() {
    let run = busy().and(89_000, &Fact::Memory(full()));
    let judged = check(&run, &after_oom(SIGKILL), Cause::OomKill, High);
    assert_eq!(judged.evidence[0], "the kernel's count of out-of-memory kills went from 3 to 4");
    assert!(judged.evidence[1].starts_with("memory was at 96 % of its limit"), "{judged:?}");
    assert_eq!(judged.last_memory.unwrap().figures, full());
}

#[test]
fn an_oom_kill_is_less_sure_with_less_evidence() {
    let near = || busy().and(89_000, &Fact::Memory(full()));
    check(&busy(), &after_oom(SIGKILL), Cause::OomKill, Medium);
    check(&near(), &after_oom(None), Cause::OomKill, Medium);
    check(&near(), &after_oom(Some(Exited(137))), Cause::OomKill, Medium);
    check(&busy(), &after_oom(None), Cause::OomKill, Low);
    let blind = Observations { boot_id: None, ..after_oom(SIGKILL) };
    check(&near(), &blind, Cause::OomKill, Medium);
}

#[test]
fn full_memory_with_a_counter_that_stayed_is_no_oom_kill() {
    let run = busy().and(89_000, &Fact::Memory(full()));
    let judged = check(&run, &after(SIGKILL), Cause::ExternalSigkill, Medium);
    excludes(&judged, "oom_kill: the kernel's count of out-of-memory kills stayed at 3");
}

#[test]
fn full_memory_with_an_unknown_counter_is_a_guess() {
    let run = busy().and(89_000, &Fact::Memory(full()));
    let unknown = Observations { memory: MemoryFigures::default(), ..after(SIGKILL) };
    check(&run, &unknown, Cause::OomKill, Low);
    check(&busy(), &unknown, Cause::ExternalSigkill, Medium);
}

#[test]
fn an_oom_kill_before_the_last_sample_hit_somebody_else() {
    let later = MemoryFigures { oom_kills: Some(4), ..calm() };
    let run = busy().and(89_000, &Fact::Memory(later));
    check(&run, &after_oom(SIGKILL), Cause::ExternalSigkill, High);
}

#[test]
fn an_exit_of_its_own_is_no_oom_kill() {
    let run = busy().and(89_000, &Fact::Memory(full()));
    let judged = check(&run, &after_oom(Some(Exited(3))), Cause::Unknown, Low);
    excludes(&judged, "oom_kill: SIGKILL did not end the process");
}

#[test]
fn a_counter_that_went_back_is_not_the_same_counter() {
    let fresh =
        Observations { memory: MemoryFigures { oom_kills: Some(0), ..calm() }, ..after(SIGKILL) };
    check(&busy(), &fresh, Cause::ExternalSigkill, Medium);
}

#[test]
fn the_baseline_counts_when_there_is_no_sample() {
    let run = Previous { records: Vec::new(), ..busy() };
    check(&run, &after_oom(SIGKILL), Cause::OomKill, Medium);
}

#[test]
fn pressure_with_hits_of_the_limit_and_no_oom_kill_is_thrash() {
    let thrash =
        |hits| MemoryFigures { psi_full_avg10: Some(62.0), limit_hits: Some(hits), ..full() };
    let run = busy().and(80_000, &Fact::Memory(thrash(50))).and(89_000, &Fact::Memory(thrash(90)));
    let judged = check(&run, &after(SIGKILL), Cause::MemoryThrash, High);
    assert_eq!(judged.evidence[0], "every task waited for memory 62 % of the time");
    check(&run, &quiet(), Cause::MemoryThrash, Medium);
    let judged = check(&run, &after_oom(SIGKILL), Cause::OomKill, High);
    excludes(&judged, "uncaught_exception");
}

#[test]
fn pressure_without_the_limits_counter_is_a_guess_and_without_hits_no_thrash() {
    let pressed = |hits| MemoryFigures { psi_full_avg10: Some(62.0), limit_hits: hits, ..calm() };
    let mut run = busy().and(89_000, &Fact::Memory(pressed(None)));
    run.run.baseline.limit_hits = None;
    run.records.remove(0);
    let now = Observations { memory: pressed(None), ..after(SIGKILL) };
    check(&run, &now, Cause::MemoryThrash, Low);
    let run = busy().and(89_000, &Fact::Memory(pressed(Some(0))));
    let judged = check(&run, &after(SIGKILL), Cause::ExternalSigkill, High);
    excludes(&judged, "memory_thrash: every task waited");
}

#[test]
fn killed_while_draining_after_sigterm_is_an_orchestrator_stop_and_no_external_sigkill() {
    let run = busy().and(90_000, &stop()).came_to(RunState::Draining);
    let judged = check(&run, &after(SIGKILL), Cause::OrchestratorStop, High);
    assert!(judged.evidence[0].starts_with("SIGTERM asked it to end at"), "{judged:?}");
}

#[test]
fn a_stop_says_how_much_of_the_drain_was_left() {
    let mut run = busy().and(90_000, &stop()).came_to(RunState::Draining);
    run.last_live = Some(Timestamp(380_000));
    let judged = check(&run, &after(SIGKILL), Cause::OrchestratorStop, High);
    assert_eq!(judged.evidence[1], "10 of 300 s of its drain were left", "{judged:#?}");
    run.last_live = Some(Timestamp(500_000));
    assert_eq!(judge(&run, &quiet()).evidence[1], "0 of 300 s of its drain were left");
}

#[test]
fn the_stop_is_known_after_its_record_was_overwritten() {
    let run = Previous { stop_intent_at: Some(Timestamp(90_000)), ..busy() };
    check(&run, &after(SIGKILL), Cause::OrchestratorStop, High);
    check(&busy().came_to(RunState::Draining), &quiet(), Cause::OrchestratorStop, High);
}

#[test]
fn a_signal_that_asks_for_an_end_and_found_no_handler_is_a_stop() {
    check(&busy(), &after(Some(Signaled(15))), Cause::OrchestratorStop, High);
    let booting = busy().only_came_to(RunState::Starting);
    check(&booting, &after(Some(Signaled(15))), Cause::OrchestratorStop, High);
}

#[test]
fn a_stop_on_a_machine_that_went_away_is_a_stop() {
    check(&busy().and(90_000, &stop()), &another_boot(), Cause::OrchestratorStop, High);
}

#[test]
fn an_oom_kill_of_somebody_else_while_draining_is_a_stop() {
    let run = busy().and(90_000, &stop()).came_to(RunState::Draining);
    check(&run, &after_oom(SIGKILL), Cause::OrchestratorStop, High);
    let run = run.and(90_500, &Fact::Memory(full()));
    check(&run, &after_oom(SIGKILL), Cause::OomKill, High);
}

#[test]
fn another_boot_without_a_clean_marker_is_another_machine() {
    check(&busy(), &another_boot(), Cause::VmReplaced, High);
    let run = busy().and(89_000, &Fact::Memory(full()));
    check(&run, &another_boot(), Cause::VmReplaced, Medium);
    let booting = busy().only_came_to(RunState::Started);
    check(&booting, &another_boot(), Cause::VmReplaced, High);
}

#[test]
fn an_unknown_boot_id_is_no_other_boot() {
    let blind = Observations { boot_id: None, ..quiet() };
    check(&busy(), &blind, Cause::Unknown, Low);
}

#[test]
fn an_end_in_the_boot_is_an_init_failure_with_its_phase() {
    let run = busy().only_came_to(RunState::Started);
    let judged = check(&run, &after(Some(Exited(78))), Cause::InitFailure, High);
    assert_eq!(judged.evidence[0], "its boot came no further than started");
    assert_eq!(judged.last_state, Some(RunState::Started));
    check(&run, &after(Some(Exited(1))), Cause::InitFailure, High);
}

#[test]
fn a_kill_in_the_boot_is_a_kill_and_one_that_nobody_saw_is_unknown() {
    let run = busy().only_came_to(RunState::Started);
    let judged = check(&run, &after(SIGKILL), Cause::ExternalSigkill, High);
    excludes(&judged, "init_failure: SIGKILL ended it in its boot");
    let judged = check(&run, &quiet(), Cause::Unknown, Low);
    let line = "its boot came no further than started";
    assert!(judged.evidence.iter().any(|found| found == line), "{judged:#?}");
}

#[test]
fn a_boot_that_reported_why_it_failed_is_believed() {
    let failed = Fact::BootFailed(BootFailed { phase: "listen".into(), message: "in use".into() });
    let own =
        Fact::StopIntent(StopIntent { by: "boot".into(), reason: "failed".into(), drain_ms: None });
    let run = busy().only_came_to(RunState::Starting).and(2000, &failed).and(2001, &own);
    let judged = check(&run, &after(Some(Exited(1))), Cause::InitFailure, High);
    assert_eq!(judged.evidence[0], "its boot failed in phase listen: in use");
}

#[test]
fn an_oom_kill_in_the_boot_is_an_oom_kill() {
    let run = busy().only_came_to(RunState::Started).and(2000, &Fact::Memory(full()));
    check(&run, &after_oom(SIGKILL), Cause::OomKill, High);
}

#[test]
fn a_boot_that_was_asked_to_end_did_not_fail() {
    let run = busy().only_came_to(RunState::Started).and(2000, &stop());
    check(&run, &after(Some(Exited(0))), Cause::OrchestratorStop, High);
}

#[test]
fn sigkill_and_nothing_else_is_an_external_sigkill() {
    let judged = check(&busy(), &after(SIGKILL), Cause::ExternalSigkill, High);
    excludes(&judged, "oom_kill: the kernel's count of out-of-memory kills stayed at 3");
    excludes(&judged, "vm_replaced: the machine has not booted since");
    excludes(&judged, "orchestrator_stop: nobody asked it to end");
    assert_eq!((judged.signal, judged.exit_code), (Some(9), None));
}

#[test]
fn an_exit_code_of_137_alone_proves_nothing() {
    let judged = check(&busy(), &after(Some(Exited(137))), Cause::ExternalSigkill, Low);
    assert_eq!((judged.signal, judged.exit_code), (None, Some(137)));
}

#[test]
fn an_end_that_nobody_saw_and_nothing_explains_is_unknown() {
    let judged = check(&busy(), &quiet(), Cause::Unknown, Low);
    assert!(judged.evidence.contains(&"nobody saw how the process ended".to_owned()));
    assert!(judged.excluded.len() >= 5, "{judged:#?}");
    check(&busy(), &after(Some(Exited(0))), Cause::Unknown, Low);
}

#[test]
fn what_the_run_was_at_is_reported_with_its_last_words() {
    let work = InFlight {
        agent_id: "a1".into(),
        incarnation: 3,
        phase: "handle".into(),
        message_id: None,
        since: Timestamp(80_000),
    };
    let at = vec![work.clone()];
    let run = Previous { in_flight: at, untracked: 7, torn: 2, missing: 1, ..busy() };
    let judged = judge(&run, &quiet());
    assert_eq!(judged.in_flight, [work]);
    assert_eq!(judged.previous_run_id.as_deref(), Some("run-1"));
    assert_eq!((judged.last_seq, judged.last_ts), (Some(70), Some(Timestamp(90_000))));
    assert!(judged.evidence.iter().any(|line| line.starts_with("it was at 7 more")));
    assert!(judged.evidence.iter().any(|line| line.starts_with("2 slots of its black box")));
    assert!(judged.evidence.iter().any(|line| line.starts_with("1 slots of its black box")));
}

/// What the machine and this process's cgroup counted.
fn counted(machine: u64, group: u64) -> MemoryFigures {
    MemoryFigures { oom_kills: Some(machine), group_oom_kills: Some(group), ..calm() }
}

#[test]
fn a_kill_of_a_neighbour_is_none_of_this_group() {
    let mut run = busy().and(80_000, &Fact::Memory(counted(3, 1)));
    run.run.baseline = counted(3, 1);
    let neighbour = Observations { memory: counted(4, 1), ..after(SIGKILL) };
    let judged = check(&run, &neighbour, Cause::ExternalSigkill, High);
    excludes(&judged, "oom_kill: the kernel's count of out-of-memory kills stayed at 1");
    let own = Observations { memory: counted(4, 2), ..after(SIGKILL) };
    check(&run, &own, Cause::OomKill, Medium);
}

#[test]
fn the_count_of_a_group_says_nothing_when_nobody_saw_the_end() {
    let mut run = busy().and(80_000, &Fact::Memory(counted(3, 0)));
    run.run.baseline = counted(3, 0);
    let new_group = Observations { memory: counted(4, 0), ..after(None) };
    check(&run, &new_group, Cause::OomKill, Low);
}
