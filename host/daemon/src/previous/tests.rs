use std::path::Path;

use bulkhead_blackbox as blackbox;
use bulkhead_blackbox::{Geometry, Run};
use bulkhead_types::previous::RunState;

use super::*;

const SMALL: Geometry = Geometry { in_flight: 4, container: 8, agents: 16 };

fn end_of(run_id: &str, code: Option<i32>, signal: Option<i32>) -> ProcessEnd {
    let counters = |oom_kills| MemoryFigures {
        oom_kills: Some(oom_kills),
        group_oom_kills: Some(oom_kills),
        ..MemoryFigures::default()
    };
    ProcessEnd {
        run_id: run_id.into(),
        pid: 7,
        code,
        signal,
        counters_before: counters(1),
        counters_after: counters(1),
        lease_lost: false,
    }
}

/// What a state directory has of earlier runs, and nothing from anywhere else.
fn of_disk<'a>(found: &'a Found, boxes: &'a [Previous], runs: &'a Runs) -> Traces<'a> {
    Traces {
        found,
        boxes,
        runs,
        ends: &[],
        forgotten: 0,
        outside: None,
        has_database: false,
        restored: None,
        remark: None,
        damaged: &[],
    }
}

/// A boot: reads what is there, and begins a run that comes to `state`. Returns what it would report, oldest first.
fn boot(
    dir: &Path,
    run_id: &str,
    ends: &[ProcessEnd],
    state: Option<RunState>,
) -> Vec<PreviousRun> {
    boot_to(dir, run_id, ends, state, true)
}

/// Not listed: it is killed when its black box is in place, and before it is on the list of runs.
fn boot_to(
    dir: &Path,
    run_id: &str,
    ends: &[ProcessEnd],
    state: Option<RunState>,
    is_listed: bool,
) -> Vec<PreviousRun> {
    let runs = Runs::read(dir);
    let boxes = blackbox::left(dir);
    let found = blackbox::read(dir);
    let traces = Traces { ends, ..of_disk(&found, &boxes, &runs) };
    let (unreported, number) = (traces.unreported(), traces.next_number());
    let before = Before::judge(&traces, &Kernel::here());
    let unreported = before.keep(unreported);
    let judged = before.judged;
    let Some(state) = state else { return judged };
    let boot_id = Kernel::here().boot_id();
    let run = Run { run_id: run_id.into(), number, boot_id, pid: 7, ..Run::default() };
    let blackbox = traces.open_box(dir, &run, SMALL, &Kernel::here()).blackbox.unwrap();
    let run = KnownRun { run_id: run_id.into(), number, has_box: true, verdict: None };
    let mut runs = runs.clone();
    if !is_listed {
        return judged;
    }
    runs.begin(unreported, run).unwrap();
    if state > RunState::Starting {
        blackbox.reached(RunState::Started).unwrap();
        blackbox.reached(RunState::Hydrated).unwrap();
        runs.set_reported().unwrap();
    }
    if state >= RunState::Draining {
        blackbox.reached(RunState::Draining).unwrap();
    }
    if state == RunState::Clean {
        blackbox.reached(RunState::Clean).unwrap();
    }
    judged
}

fn brief(judged: &[PreviousRun]) -> Vec<(Option<&str>, Cause)> {
    judged.iter().map(|run| (run.previous_run_id.as_deref(), run.cause)).collect()
}

#[test]
fn a_first_boot_is_no_error_and_a_lost_run_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let judged = boot(dir.path(), "a", &[], None);
    assert_eq!(brief(&judged), [(None, Cause::None)]);
    let event = Before { judged, deaths: Vec::new(), forgotten: 0 }.into_event();
    assert!(matches!(event, Some(Event::PreviousRun { level: Level::Info, .. })));
    // Init knows of one, and the disk is empty.
    for (code, signal) in [(Some(99), None), (None, Some(9))] {
        let judged = boot(dir.path(), "b", &[end_of("a", code, signal)], None);
        assert_eq!(brief(&judged), [(Some("a"), Cause::Lost)]);
        let event = Before { judged, deaths: Vec::new(), forgotten: 0 }.into_event();
        assert!(matches!(event, Some(Event::PreviousRun { level: Level::Error, .. })));
    }
    let judged = boot(dir.path(), "b", &[end_of("a", None, Some(11))], None);
    assert_eq!(brief(&judged), [(Some("a"), Cause::NativeFault)]);
}

#[test]
fn a_database_that_this_run_restored_is_no_trace_of_a_run_here() {
    let dir = tempfile::tempdir().unwrap();
    let runs = Runs::read(dir.path());
    let of = |has_database, restored, ends: &[ProcessEnd]| {
        let traces =
            Traces { has_database, restored, ends, ..of_disk(&Found::Nothing, &[], &runs) };
        let before = Before::judge(&traces, &Kernel::here());
        let (run, level) = (before.run().clone(), before.into_event().map(|it| it.level()));
        (run.cause, run.confidence, level, run.evidence[0].clone())
    };
    let (cause, confidence, level, evidence) = of(false, Some(true), &[]);
    assert_eq!((cause, confidence), (Cause::Clean, Confidence::Medium));
    assert_eq!(level, Some(Level::Info));
    assert!(evidence.contains("restored from what one elsewhere shipped"), "{evidence}");
    let (cause, confidence, level, _) = of(false, Some(false), &[]);
    assert_eq!((cause, confidence), (Cause::Lost, Confidence::Medium));
    assert_eq!(level, Some(Level::Error));
    // Somebody copied it here, or a run was here and its black box is gone.
    let (cause, confidence, _, evidence) = of(true, None, &[]);
    assert_eq!((cause, confidence), (Cause::Lost, Confidence::High));
    assert!(evidence.contains("was used by earlier runs"), "{evidence}");
    // What init saw counts, wherever the database came from.
    let (cause, ..) = of(false, Some(true), &[end_of("a", None, Some(11))]);
    assert_eq!(cause, Cause::NativeFault);
}

#[test]
fn a_black_box_that_is_gone_or_of_another_run_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    boot(dir.path(), "a", &[], Some(RunState::Clean));
    let stale = std::fs::read(dir.path().join("blackbox")).unwrap();
    let judged = boot(dir.path(), "b", &[], Some(RunState::Hydrated));
    assert_eq!(brief(&judged), [(Some("a"), Cause::Clean)]);
    // Killed, and somebody put the old one back.
    std::fs::write(dir.path().join("blackbox"), &stale).unwrap();
    let judged = boot(dir.path(), "c", &[], None);
    assert_eq!(brief(&judged), [(Some("b"), Cause::Lost)]);
    assert!(judged[0].evidence[0].contains("belongs to run a"), "{judged:#?}");
    std::fs::remove_file(dir.path().join("blackbox")).unwrap();
    std::fs::remove_file(dir.path().join("blackbox.previous")).unwrap();
    assert_eq!(brief(&boot(dir.path(), "c", &[], None)), [(Some("b"), Cause::Lost)]);
    std::fs::remove_file(dir.path().join("runs")).unwrap();
    assert_eq!(brief(&boot(dir.path(), "c", &[], None)), [(None, Cause::None)]);
}

#[test]
fn a_boot_that_was_killed_hides_neither_its_own_end_nor_that_before() {
    let dir = tempfile::tempdir().unwrap();
    let killed = |run_id| end_of(run_id, None, Some(9));
    boot(dir.path(), "a", &[], Some(RunState::Draining));
    // Its boot is killed before it reported anything, with its box in place.
    boot(dir.path(), "b", &[killed("a")], Some(RunState::Starting));
    let judged = boot(dir.path(), "c", &[killed("a"), killed("b")], Some(RunState::Starting));
    let reported = [(Some("a"), Cause::OrchestratorStop), (Some("b"), Cause::ExternalSigkill)];
    assert_eq!(brief(&judged), reported);
    // Two more, before they had anything.
    let ends = [killed("a"), killed("b"), killed("c"), killed("d0"), killed("d")];
    let judged = boot(dir.path(), "e", &ends, Some(RunState::Hydrated));
    let kill = |run_id| (Some(run_id), Cause::ExternalSigkill);
    assert_eq!(brief(&judged), [reported[0], kill("b"), kill("c"), kill("d0"), kill("d")]);
    // All of them are reported now.
    let judged = boot(dir.path(), "f", &[killed("e")], None);
    assert_eq!(brief(&judged), [kill("e")]);
    // Without an init process nobody knows who killed it.
    assert_eq!(brief(&boot(dir.path(), "f", &[], None)), [(Some("e"), Cause::Unknown)]);
}

#[test]
fn of_boots_that_left_nothing_each_end_is_reported_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let killed = |run_id| end_of(run_id, None, Some(9));
    let kill = |run_id| (Some(run_id), Cause::ExternalSigkill);
    // A disk that nobody used before.
    let judged = boot(dir.path(), "c", &[killed("a"), killed("b")], Some(RunState::Hydrated));
    assert_eq!(judged.len(), 2, "{judged:#?}");
    // Each had a black box and was killed before it was on the list. Only two boxes are kept, and what they said is.
    let names = ["c", "d", "e", "f", "g"];
    for (index, run_id) in names.into_iter().enumerate().skip(1) {
        let ends: Vec<_> = names[..index].iter().map(|run_id| killed(run_id)).collect();
        boot_to(dir.path(), run_id, &ends, Some(RunState::Starting), false);
    }
    let judged = boot(dir.path(), "h", &names.map(killed), Some(RunState::Starting));
    assert_eq!(brief(&judged), names.map(kill));
    // It was killed as well before it reported, and the list keeps their order.
    let names = ["c", "d", "e", "f", "g", "h", "i"];
    let judged = boot(dir.path(), "j", &names.map(killed), None);
    assert_eq!(brief(&judged), names.map(kill));
}

#[test]
fn of_boots_that_cannot_write_their_list_the_last_two_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let killed = |run_id| end_of(run_id, None, Some(9));
    let kill = |run_id| (Some(run_id), Cause::ExternalSigkill);
    boot(dir.path(), "a", &[], Some(RunState::Hydrated));
    std::fs::create_dir_all(dir.path().join("runs.new/in-the-way")).unwrap();
    boot_to(dir.path(), "b", &[killed("a")], Some(RunState::Starting), false);
    boot_to(dir.path(), "c", &["a", "b"].map(killed), Some(RunState::Starting), false);
    let judged = boot(dir.path(), "d", &["a", "b", "c"].map(killed), None);
    assert_eq!(brief(&judged), [(Some("a"), Cause::Lost), kill("b"), kill("c")]);
}

#[test]
fn a_boot_that_died_between_its_two_renames_has_its_own_box() {
    let dir = tempfile::tempdir().unwrap();
    boot(dir.path(), "a", &[], Some(RunState::Draining));
    let path = |name: &str| dir.path().join(name);
    let before = std::fs::read(path("runs")).unwrap();
    boot(dir.path(), "b", &[], Some(RunState::Starting));
    std::fs::rename(path("blackbox"), path("blackbox.new")).unwrap();
    std::fs::write(path("runs"), before).unwrap();
    let judged = boot(dir.path(), "c", &[], None);
    assert_eq!(brief(&judged), [(Some("a"), Cause::OrchestratorStop), (Some("b"), Cause::Unknown)]);
}

#[test]
fn a_list_of_runs_that_is_older_than_the_box_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    boot(dir.path(), "a", &[], Some(RunState::Hydrated));
    let old = std::fs::read(dir.path().join("runs")).unwrap();
    boot(dir.path(), "b", &[], Some(RunState::Clean));
    std::fs::write(dir.path().join("runs"), old).unwrap();
    let judged = boot(dir.path(), "c", &[], None);
    assert_eq!(judged.last().map(|run| run.cause), Some(Cause::Clean));
    std::fs::remove_file(dir.path().join("runs")).unwrap();
    assert_eq!(brief(&boot(dir.path(), "c", &[], None)), [(Some("b"), Cause::Clean)]);
}

#[test]
fn what_is_said_from_outside_counts_when_no_init_process_saw_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let outside = Outside::parse(r#"{"code":137,"reason":"oom"}"#).unwrap();
    let judge = |ends: &[ProcessEnd]| {
        let (runs, boxes) = (Runs::read(dir.path()), blackbox::left(dir.path()));
        let found = blackbox::read(dir.path());
        let traces = Traces { ends, outside: Some(&outside), ..of_disk(&found, &boxes, &runs) };
        let run = Before::judge(&traces, &Kernel::here()).run().clone();
        (run.cause, run.confidence)
    };
    assert_eq!(judge(&[]), (Cause::OomKill, Confidence::Medium), "the disk is gone");
    boot(dir.path(), "a", &[], Some(RunState::Hydrated));
    assert_eq!(judge(&[]), (Cause::OomKill, Confidence::Medium));
    assert_eq!(judge(&[end_of("a", None, Some(9))]).0, Cause::ExternalSigkill);
    // The first boot under an init process was killed before it reported the run that is meant.
    let ends = [end_of("b", None, Some(9))];
    let judge = |run_id: &str| {
        let (runs, boxes) = (Runs::read(dir.path()), blackbox::left(dir.path()));
        let found = blackbox::read(dir.path());
        let traces =
            Traces { ends: &ends, outside: Some(&outside), ..of_disk(&found, &boxes, &runs) };
        let before = Before::judge(&traces, &Kernel::here()).judged;
        let run = before.iter().find(|run| run.previous_run_id.as_deref() == Some(run_id));
        run.map(|run| run.cause)
    };
    assert_eq!(judge("a"), Some(Cause::OomKill));
    assert_eq!(judge("b"), Some(Cause::ExternalSigkill));
}

/// What a run on another disk left at the sink, `number` its epoch.
fn at_sink(run_id: &str, number: u64, state: RunState) -> LeftRun {
    let disk = tempfile::tempdir().unwrap();
    let boot_id = Kernel::here().boot_id();
    let run = Run { run_id: run_id.into(), number, boot_id, pid: 7, ..Run::default() };
    let blackbox = blackbox::open(disk.path(), &run, SMALL).blackbox.unwrap();
    for reached in [RunState::Started, RunState::Hydrated, RunState::Draining, RunState::Clean] {
        if reached <= state {
            blackbox.reached(reached).unwrap();
        }
    }
    let known = KnownRun { run_id: run_id.into(), number, has_box: true, verdict: None };
    LeftRun {
        epoch: number,
        run_id: run_id.into(),
        written_at: bulkhead_types::Timestamp(0),
        previous: blackbox.contents(),
        runs: vec![known],
        forgotten_runs: 0,
        agents: Vec::new(),
        others_go_on_after: bulkhead_types::Incarnation(0),
    }
}

/// What the next boot reports with this at the sink, and whether that is believed.
fn boot_with_sink(dir: &Path, sink: Result<Option<&LeftRun>, &Fault>) -> (Vec<PreviousRun>, bool) {
    let (mut runs, mut boxes) = (Runs::read(dir), blackbox::left(dir));
    let found = blackbox::read(dir);
    let (remark, believed) = settle(&mut runs, &mut boxes, sink);
    let traces = Traces { remark: remark.as_ref(), ..of_disk(&found, &boxes, &runs) };
    (Before::judge(&traces, &Kernel::here()).judged, believed)
}

#[test]
fn of_a_run_whose_disk_is_gone_its_digest_at_the_sink_counts() {
    let dir = tempfile::tempdir().unwrap();
    let asked = at_sink("x", 7, RunState::Draining);
    let (judged, believed) = boot_with_sink(dir.path(), Ok(Some(&asked)));
    assert!(believed);
    assert_eq!(brief(&judged), [(Some("x"), Cause::OrchestratorStop)]);
    let said = judged[0].evidence.iter().any(|it| it.contains("the disk has nothing of it"));
    assert!(said, "{judged:#?}");
    // One that left no box is known all the same.
    let silent = LeftRun { previous: None, ..at_sink("x", 7, RunState::Hydrated) };
    let (judged, _) = boot_with_sink(dir.path(), Ok(Some(&silent)));
    assert_eq!(brief(&judged), [(Some("x"), Cause::Lost)]);
    assert!(boot_with_sink(dir.path(), Ok(None)).0[0].cause == Cause::None);
}

#[test]
fn evidence_that_is_damaged_is_a_sign_of_a_run_where_there_is_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let judge_restored = |damaged: &[String], restored| {
        let (runs, boxes) = (Runs::read(dir.path()), blackbox::left(dir.path()));
        let found = blackbox::read(dir.path());
        let traces = Traces { damaged, restored, ..of_disk(&found, &boxes, &runs) };
        Before::judge(&traces, &Kernel::here()).run().clone()
    };
    let judge = |damaged: &[String]| judge_restored(damaged, None);
    let damaged = ["run-1.json is half-written or damaged".to_owned()];
    assert_eq!(judge(&[]).cause, Cause::None);
    let judged = judge(&damaged);
    assert_eq!((judged.cause, judged.confidence), (Cause::Lost, Confidence::High));
    assert!(judged.evidence[0].ends_with("run-1.json is half-written or damaged"), "{judged:#?}");
    // It may be of a run after the one that shipped its end.
    assert_eq!(judge_restored(&[], Some(true)).cause, Cause::Clean);
    let judged = judge_restored(&damaged, Some(true));
    assert_eq!((judged.cause, judged.confidence), (Cause::Lost, Confidence::Medium));
    assert!(judged.evidence[1].ends_with("run-1.json is half-written or damaged"), "{judged:#?}");
    boot(dir.path(), "a", &[], Some(RunState::Clean));
    assert_eq!(judge(&damaged).cause, Cause::Clean, "the disk knows more");
}

#[test]
fn a_run_without_a_black_box_is_not_skipped_and_the_one_before_is_not_reported_again() {
    let dir = tempfile::tempdir().unwrap();
    boot(dir.path(), "a", &[], Some(RunState::Clean));
    // The disk is full: the list is overwritten in its place, and there is no new box.
    let mut runs = Runs::read(dir.path());
    let b = KnownRun { run_id: "b".into(), number: 2, has_box: false, verdict: None };
    runs.begin(runs.unreported().to_vec(), b).unwrap();
    runs.set_reported().unwrap();
    std::fs::rename(dir.path().join("blackbox"), dir.path().join("blackbox.previous")).unwrap();
    assert_eq!(brief(&boot(dir.path(), "c", &[], None)), [(Some("b"), Cause::Unknown)]);
}

#[test]
fn the_newer_of_disk_and_sink_counts_and_the_other_is_a_stale_copy() {
    let dir = tempfile::tempdir().unwrap();
    boot(dir.path(), "a", &[], Some(RunState::Clean));
    boot(dir.path(), "b", &[], Some(RunState::Clean));
    // The disk is a copy of before the run at the sink.
    let newer = at_sink("x", 3, RunState::Draining);
    let (judged, believed) = boot_with_sink(dir.path(), Ok(Some(&newer)));
    assert!(believed);
    assert_eq!(brief(&judged), [(Some("x"), Cause::OrchestratorStop)], "b was reported by x");
    // The sink did not hear of the last runs.
    let older = at_sink("x", 1, RunState::Draining);
    let (judged, believed) = boot_with_sink(dir.path(), Ok(Some(&older)));
    assert!(!believed);
    assert_eq!(brief(&judged), [(Some("b"), Cause::Clean)]);
    // Both are of the same run: the disk has all of it, by whatever number.
    for number in [1, 2, 9] {
        let same = at_sink("b", number, RunState::Hydrated);
        let (judged, believed) = boot_with_sink(dir.path(), Ok(Some(&same)));
        assert_eq!((brief(&judged), believed), (vec![(Some("b"), Cause::Clean)], false));
    }
    // It is listed on the disk, and its box is gone.
    std::fs::remove_file(dir.path().join("blackbox")).unwrap();
    std::fs::remove_file(dir.path().join("blackbox.previous")).unwrap();
    let same = at_sink("b", 9, RunState::Draining);
    let (judged, _) = boot_with_sink(dir.path(), Ok(Some(&same)));
    assert_eq!(brief(&judged), [(Some("b"), Cause::OrchestratorStop)]);
}

#[test]
fn a_sink_that_is_of_no_help_is_named_in_the_verdict() {
    let dir = tempfile::tempdir().unwrap();
    boot(dir.path(), "a", &[], Some(RunState::Clean));
    let fault = Fault { cause: bulkhead_evidence::Cause::Deadline, message: "no answer".into() };
    let (judged, believed) = boot_with_sink(dir.path(), Err(&fault));
    assert_eq!((brief(&judged), believed), (vec![(Some("a"), Cause::Clean)], false));
    let said = judged[0].evidence.last().unwrap();
    assert_eq!(said, "the evidence sink is of no help: no answer");
}
