//! Small logs, each with one thing to get right.

use std::io::Cursor;

use bulkhead_diagnose::{Confidence, Input, Options, Report, diagnose};

const BOOT: &str = r#"{"level":"info","msg":"container.cold_start","uptime":41,"townId":"t","ts":"2026-01-15T09:00:00.041Z"}"#;
const NEXT: &str = r#"{"level":"info","msg":"container.cold_start","uptime":38,"townId":"t","ts":"2026-01-15T09:10:00.038Z"}"#;

fn report(lines: &[&str]) -> Report {
    let text = lines.join("\n").into_bytes();
    let inputs = vec![Input::new("log", Cursor::new(text))];
    diagnose(inputs, &Options::default(), |_| {}).expect("a report")
}

/// Verdicts in order.
#[track_caller]
fn verdicts(lines: &[&str]) -> Vec<&'static str> {
    report(lines).restarts.iter().map(|restart| restart.verdict.id()).collect()
}

fn original(msg: &str, minute: u32, second: u32, uptime_ms: u32) -> String {
    format!(
        "{{\"level\":\"error\",\"msg\":\"{msg}\",\"message\":\"m\",\"townId\":\"t\",\"uptimeMs\":{uptime_ms},\"ts\":\"2026-01-15T09:{minute:02}:{second:02}.000Z\"}}"
    )
}

fn ours(event: &str, run: &str, seq: u32, second: u32, more: &str) -> String {
    format!(
        "{{\"ts\":\"2026-01-15T09:00:{second:02}.000Z\",\"level\":\"error\",\"event\":\"{event}\",{more}\"schema\":1,\"townId\":\"t\",\"runId\":\"{run}\",\"uptimeMs\":{},\"seq\":{seq}}}",
        second * 1000
    )
}

#[test]
fn the_control_plane_may_have_another_clock() {
    let late = "2026-01-15T09:10:03.000Z POST /trpc/gastown.forceRestartContainer 200";
    let alive = original("container.memory_usage", 9, 55, 595_000);
    let goes_on = original("container.memory_usage", 12, 0, 120_000);
    assert_eq!(verdicts(&[BOOT, &alive, NEXT, late, &goes_on]), ["H4"]);
    let too_late = "2026-01-15T09:11:03.000Z POST /trpc/gastown.forceRestartContainer 200";
    assert_eq!(verdicts(&[BOOT, &alive, NEXT, too_late, &goes_on]), ["undecided"]);
}

#[test]
fn uptime_that_falls_parts_runs_that_do_not_say_where_they_begin() {
    let lines = [
        original("container.memory_usage", 1, 0, 60_000),
        original("container.memory_usage", 1, 30, 90_000),
        original("container.uncaught_exception", 1, 50, 110_000),
        original("container.memory_usage", 2, 40, 30_000),
        original("container.memory_usage", 3, 10, 60_000),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let report = report(&lines);
    assert_eq!(report.restarts.len(), 1);
    assert_eq!(report.restarts[0].verdict.id(), "H1");
    assert_eq!(report.restarts[0].at.as_deref(), Some("2026-01-15T09:02:10.000Z"));
    let backwards: Vec<&str> = lines.iter().rev().copied().collect();
    assert_eq!(verdicts(&backwards), ["H1"]);
}

#[test]
fn a_silence_parts_runs_of_which_nothing_says_when_they_began() {
    let lines = [
        "2026-01-15T09:00:00Z [control-server] --> GET /health",
        "2026-01-15T09:00:10Z SIGTERM received - starting graceful drain...",
        "2026-01-15T09:07:00Z [control-server] --> GET /health",
    ];
    assert_eq!(verdicts(&lines), ["H4"]);
}

#[test]
fn a_numbered_line_counts_once_however_often_it_comes() {
    let crash = ours("agent.crash", "r1", 1, 5, "\"agentId\":\"a\",");
    let next = ours("container.cold_start", "r2", 0, 20, "");
    let begin = ours("container.cold_start", "r1", 0, 1, "");
    let mut lines = vec![begin.as_str()];
    lines.extend([crash.as_str(); 20]);
    lines.push(&next);
    let report = report(&lines);
    assert_eq!(report.restarts[0].verdict.id(), "undecided", "one crash is no loop");
    assert_eq!(report.summary.input.doubled_lines, 19);
    let crashes: Vec<String> =
        (1..=20).map(|seq| ours("agent.crash", "r1", seq, 5, "\"agentId\":\"a\",")).collect();
    let mut lines = vec![begin.as_str()];
    lines.extend(crashes.iter().map(String::as_str));
    lines.push(&next);
    assert_eq!(verdicts(&lines), ["H10"]);
}

#[test]
fn what_an_agent_says_is_no_sign() {
    let says = "\"agentId\":\"a\",\"message\":\"SIGTERM received, forceRestartContainer, oh no: Bun has crashed\",";
    let lines = [
        ours("container.cold_start", "r1", 0, 1, ""),
        ours("agent.log", "r1", 1, 5, says),
        ours("container.cold_start", "r2", 0, 20, ""),
    ];
    assert_eq!(verdicts(&lines.each_ref().map(String::as_str)), ["undecided"]);
    let prefixed = lines.clone().map(|line| format!("2026-01-15T09:00:01Z stdout F {line}"));
    assert_eq!(verdicts(&prefixed.each_ref().map(String::as_str)), ["undecided"]);
    let cut = &lines[1][..lines[1].len() - 90];
    assert_eq!(verdicts(&[&lines[0], cut, &lines[2]]), ["undecided"]);
}

#[test]
fn failures_all_the_time_are_no_cause() {
    let failures: Vec<String> = (1..58)
        .map(|n| original("container.unhandled_rejection", n / 6, n % 6 * 10, n * 10_000))
        .collect();
    let mut lines = vec![BOOT];
    lines.extend(failures.iter().map(String::as_str));
    lines.push(NEXT);
    assert_eq!(verdicts(&lines), ["undecided"]);
    // The last ones alone are a cluster.
    lines.drain(1..55);
    assert_eq!(verdicts(&lines), ["H1"]);
}

#[test]
fn an_end_that_its_own_init_reports_needs_no_run_after_it() {
    let lines = [
        ours("container.cold_start", "r1", 0, 1, ""),
        ours(
            "container.previous_run",
            "r1",
            9,
            20,
            "\"previousRunId\":\"r1\",\"cause\":\"native_fault\",\"confidence\":\"high\",",
        ),
    ];
    let report = report(&lines.each_ref().map(String::as_str));
    let [end] = &report.restarts[..] else { panic!("one end") };
    assert_eq!((end.verdict.id(), end.confidence, &end.at), ("H7", Confidence::High, &None));
    assert_eq!(end.lost_lines, 8);
}

#[test]
fn what_a_run_says_of_the_one_before_goes_to_that_one() {
    let fields = "\"previousRunId\":\"r1\",\"cause\":\"oom_kill\",\"confidence\":\"low\",";
    let lines = [
        ours("container.previous_run", "r2", 1, 30, fields),
        ours("container.cold_start", "r2", 0, 29, ""),
    ];
    let report = report(&lines.each_ref().map(String::as_str));
    let [end] = &report.restarts[..] else { panic!("one end") };
    assert_eq!((end.run_id.as_deref(), end.verdict.id()), (Some("r1"), "H3"));
    assert_eq!(end.confidence, Confidence::Low, "the run was not sure itself");
}

#[test]
fn a_run_may_not_know_the_name_of_the_one_before() {
    let fields = "\"previousRun\":{\"cause\":\"native_fault\",\"confidence\":\"high\"},";
    let lines = [
        ours("container.cold_start", "r1", 0, 1, ""),
        ours("container.cold_start", "r2", 0, 20, fields),
        ours("container.cold_start", "r3", 0, 40, ""),
    ];
    assert_eq!(verdicts(&lines.each_ref().map(String::as_str)), ["H7", "undecided"]);
}

#[test]
fn a_kill_from_outside_explains_the_end_of_a_host_whose_agents_were_in_trouble() {
    let of_a = "\"agentId\":\"a\",";
    let quarantined = (0..6).map(|_| ("agent.crash", of_a)).chain([("agent.quarantined", of_a)]);
    let stale = "\"agentId\":\"a\",\"phase\":\"restore\",";
    let homeless = "\"failed\":3,";
    let troubles: [(&str, Vec<_>); 3] = [
        ("quarantine", quarantined.collect()),
        ("stale state", vec![("agent.start_failed", stale); 4]),
        (
            "hydration",
            vec![
                ("container.boot_hydration_failed", ""),
                ("container.boot_hydration_finished", homeless),
            ],
        ),
    ];
    for (name, events) in troubles {
        for confidence in ["high", "medium", "low"] {
            let mut lines = vec![ours("container.cold_start", "r1", 0, 1, "")];
            for (seq, (event, more)) in (1..).zip(&events) {
                lines.push(ours(event, "r1", seq, 5, more));
            }
            let told = format!(
                "\"previousRunId\":\"r1\",\"cause\":\"external_sigkill\",\"confidence\":\"{confidence}\","
            );
            lines.push(ours("container.cold_start", "r2", 0, 20, ""));
            lines.push(ours("container.previous_run", "r2", 1, 20, &told));
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            assert_eq!(verdicts(&lines), ["H13"], "{name}, {confidence}");
        }
    }
}

#[test]
fn two_explanations_that_weigh_the_same_are_told_and_left_undecided() {
    let stale: Vec<String> = (0..4)
        .map(|n| format!("2026-01-15T09:09:{n}0Z [process-manager] session.create failed for toast, attempting stale DB recovery. Response: {{}}"))
        .collect();
    let race =
        "2026-01-15T09:09:50Z [process-manager] startAgent: aborting in-flight startup for nux";
    let mut lines = vec![BOOT];
    lines.extend(stale.iter().map(String::as_str));
    lines.extend([race, NEXT]);
    let report = report(&lines);
    let also: Vec<_> = report.restarts[0].also.iter().map(|one| one.id()).collect();
    assert_eq!((report.restarts[0].verdict.id(), &also[..]), ("undecided", &["H2", "H6"][..]));
    assert!(!report.is_explained());
}

/// As `bulkhead logs` prints them, of a host that is ended by Ctrl-C and started again at once.
#[test]
fn kept_events_tell_restarts_that_are_close_together() {
    let lines = [
        "2026-11-27T16:39:58.587Z - container.cold_start {\"bootId\":\"b\",\"pid\":7}",
        "2026-11-27T16:39:58.594Z - container.previous_run {\"cause\":\"none\",\"confidence\":\"medium\"}",
        "2026-11-27T16:39:58.628Z - container.stop_intent {\"by\":\"SIGINT\",\"drainMs\":20000,\"reason\":\"a signal asked for it\"}",
        "2026-11-27T16:39:58.632Z - container.stopped {\"droppedLines\":0,\"durationMs\":0,\"killed\":0,\"stopped\":0}",
        "2026-11-27T16:40:00.729Z - container.cold_start {\"bootId\":\"b\",\"pid\":8}",
        "2026-11-27T16:40:00.729Z - container.previous_run {\"cause\":\"clean\",\"confidence\":\"high\",\"previousRunId\":\"r\"}",
    ];
    let report = report(&lines);
    let [restart] = &report.restarts[..] else { panic!("{:?}", report.summary) };
    assert_eq!(restart.verdict.id(), "H4");
    assert!(restart.next.contains("Ctrl-C"), "{}", restart.next);
    assert_eq!(report.summary.runs, 2);
}

/// A host that somebody ends by a signal, and starts again.
fn ended_by(signal: &str, town: &str) -> Report {
    let by = format!("\"by\":\"{signal}\",\"reason\":\"a signal asked for it\",");
    let lines = [
        ours("container.cold_start", "r1", 0, 1, ""),
        ours("container.stop_intent", "r1", 1, 5, &by),
        ours("container.stopped", "r1", 2, 6, ""),
        ours("container.cold_start", "r2", 0, 20, ""),
    ];
    let lines = lines.map(|line| line.replace("\"townId\":\"t\"", town));
    report(&lines.each_ref().map(String::as_str))
}

#[test]
fn an_end_that_was_asked_for_says_which_signal_asked_and_whom_to_ask() {
    let (town, alone) = ("\"townId\":\"t\"", "\"townId\":null");
    for (signal, town, says, next) in [
        ("SIGINT", alone, "SIGINT (Ctrl-C) asked it to end", "nothing, if somebody pressed Ctrl-C"),
        ("SIGINT", town, "SIGINT (Ctrl-C) asked it to end", "nothing, if somebody pressed Ctrl-C"),
        ("SIGHUP", alone, "its terminal went away", "closed that"),
        ("SIGTERM", alone, "SIGTERM asked it to end", "a service manager"),
        ("SIGTERM", town, "SIGTERM asked it to end", "the control plane"),
        ("the fence", town, "it was asked to end", "the control plane"),
    ] {
        let report = ended_by(signal, town);
        let [restart] = &report.restarts[..] else { panic!("{signal}: one restart") };
        assert_eq!(restart.verdict.title(), "ended on request", "{signal}");
        let evidence = restart.evidence.iter().any(|one| one.text.contains(says));
        assert!(evidence, "{signal}: {:?}", restart.evidence);
        assert!(restart.next.contains(next), "{signal}: {}", restart.next);
        assert_eq!(restart.next.contains("control plane"), next == "the control plane", "{signal}");
    }
}

#[test]
fn who_has_an_init_process_is_not_told_to_take_one() {
    let killed = "\"cause\":\"external_sigkill\",\"confidence\":\"high\",\"previousRunId\":\"r1\",";
    let end = ours("container.previous_run", "r2", 1, 20, killed);
    let next = ours("container.cold_start", "r2", 0, 20, "\"init\":true,");
    for (init, advice) in [("\"init\":true,", false), ("\"init\":false,", true)] {
        let begin = ours("container.cold_start", "r1", 0, 1, init);
        let known = report(&[&begin, &next, &end]);
        assert_eq!(known.restarts[0].verdict.id(), "H13");
        assert_eq!(known.restarts[0].next.contains("--supervise"), advice, "{init}");
        let undecided = report(&[&begin, &next]);
        assert_eq!(undecided.restarts[0].verdict.id(), "undecided");
        assert_eq!(undecided.restarts[0].next.contains("--supervise"), advice, "{init}");
        // What the init process says after the last run is an end, and no restart.
        let last = ours("container.previous_run", "r1", 1, 20, killed);
        let summary = report(&[&begin, &last]).summary;
        assert_eq!((summary.runs, summary.restarts, summary.unfollowed), (1, 1, 1));
    }
}
