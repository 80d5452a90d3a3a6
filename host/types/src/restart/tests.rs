use proptest::prelude::*;

use super::*;

fn rules(policy: RestartPolicy) -> RestartRules {
    RestartRules { policy, ..RestartRules::default() }
}

fn crash(at_s: i64, fingerprint: &str) -> PastEnd {
    let exit = Exit::new(ExitReason::Trap, Phase::Handle, "x");
    PastEnd::new(&exit, Timestamp(at_s * 1000), Incarnation(1), fingerprint.into(), None)
}

fn crash_at_start(at_s: i64, fingerprint: &str) -> PastEnd {
    PastEnd { at_start: true, ..crash(at_s, fingerprint) }
}

fn normal(at_s: i64) -> PastEnd {
    PastEnd { reason: ExitReason::Completed, ..crash(at_s, "") }
}

const SHORT: Duration = Duration::from_millis(1);

fn backoff(decision: &Decision) -> Duration {
    match decision {
        Decision::Retry { backoff, .. } => *backoff,
        other => panic!("no retry: {other:?}"),
    }
}

#[test]
fn the_policy_says_which_ends_are_answered() {
    for (policy, after_normal, after_crash) in [
        (RestartPolicy::Permanent, true, true),
        (RestartPolicy::Transient, false, true),
        (RestartPolicy::Temporary, false, false),
    ] {
        let rules = rules(policy);
        let mut state = RestartState::default();
        let decision = state.after(&rules, normal(0), SHORT, 1.0);
        assert_eq!(matches!(decision, Decision::Retry { .. }), after_normal, "{policy:?}");
        let decision = state.after(&rules, crash(1, "f"), SHORT, 1.0);
        assert_eq!(matches!(decision, Decision::Retry { .. }), after_crash, "{policy:?}");
    }
}

#[test]
fn an_agent_that_had_nothing_to_do_is_no_crash_looper() {
    let rules = rules(RestartPolicy::Permanent);
    let idle = Exit::new(ExitReason::Completed, Phase::Shutdown, "had nothing to do");
    let done = Exit::new(ExitReason::Completed, Phase::Run, "the program ran to its end");
    for (exit, is_looper) in [(idle, false), (done, true)] {
        let mut state = RestartState::default();
        let end = |n| PastEnd::new(&exit, Timestamp(n), Incarnation(1), "f".into(), None);
        let decisions = (0..20).map(|n| state.after(&rules, end(n), SHORT, 1.0));
        let is_quarantined =
            decisions.filter(|it| matches!(it, Decision::Quarantine(_))).count() > 0;
        assert_eq!(is_quarantined, is_looper, "{exit:?}");
    }
}

#[test]
fn the_bound_doubles_up_to_its_cap_and_the_dice_choose_below_it() {
    let rules = RestartRules { max_restarts: 100, ..rules(RestartPolicy::Transient) };
    let mut state = RestartState::default();
    let bounds: Vec<u128> = (0..9)
        .map(|n| backoff(&state.after(&rules, crash(n, "f"), SHORT, 1.0)).as_millis())
        .collect();
    assert_eq!(bounds, [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]);
    assert_eq!(backoff(&state.after(&rules, crash(9, "f"), SHORT, 0.0)), Duration::ZERO);
    let retry = state.after(&rules, crash(10, "f"), SHORT, 0.5);
    assert_eq!(retry, Decision::Retry { at: Timestamp(40_000), backoff: Duration::from_secs(30) });
}

/// A crash when the run had lived for so long, by a wall clock that says something else.
fn crash_after(uptime_s: u64, wall_s: i64) -> PastEnd {
    let run_uptime = Some(Duration::from_secs(uptime_s));
    PastEnd { run_uptime, ..crash(wall_s, "f") }
}

#[test]
fn a_wall_clock_that_jumps_neither_makes_a_crash_looper_nor_hides_one() {
    let rules = rules(RestartPolicy::Transient);
    let (hour, minutes) = (3600, rules.window.as_secs());
    // Set back by an hour before each end, which are a window apart.
    let mut state = RestartState::default();
    for n in 0..20_u64 {
        let end = crash_after(n * minutes, 100 * hour - n as i64 * hour);
        let decision = state.after(&rules, end, SHORT, 1.0);
        assert!(matches!(decision, Decision::Retry { .. }), "end {n}: {decision:?}");
    }
    // Set forward by an hour before each end, which follow each other at once.
    let mut state = RestartState::default();
    let mut decisions = (0..20_u64).map(|n| {
        let end = crash_after(n, n as i64 * hour);
        state.after(&rules, end, SHORT, 1.0)
    });
    let quarantined = decisions.position(|decision| matches!(decision, Decision::Quarantine(_)));
    assert_eq!(quarantined, Some(rules.max_restarts as usize));
}

#[test]
fn ends_of_an_earlier_run_count_by_the_wall_clock() {
    let rules = rules(RestartPolicy::Transient);
    let state = RestartState {
        ends: vec![crash(0, "f").into(), crash(100, "f").into(), crash_after(1, 9_000).into()],
        ..RestartState::default()
    };
    let window = rules.window.as_secs() as i64;
    let now = Timestamp((window + 50) * 1000);
    let attempts =
        |uptime_s| state.attempts_in_window(&rules, now, Some(Duration::from_secs(uptime_s)));
    assert_eq!(attempts(1), 2, "the first is too old");
    assert_eq!(attempts(1 + rules.window.as_secs()), 0, "all are as old as this run at least");
}

#[test]
fn a_wall_clock_that_is_set_back_between_two_runs_makes_no_crash_looper() {
    let rules = rules(RestartPolicy::Transient);
    let day = 86_400;
    let ends = (0..rules.max_restarts).map(|n| crash(day + i64::from(n), "f").into()).collect();
    let mut state = RestartState { ends, ..RestartState::default() };
    backoff(&state.after(&rules, crash_after(rules.window.as_secs(), 0), SHORT, 1.0));
}

#[test]
fn a_healthy_incarnation_resets_the_backoff_and_not_the_window() {
    let rules = rules(RestartPolicy::Transient);
    let mut state = RestartState::default();
    for n in 0..4 {
        state.after(&rules, crash(n, "f"), SHORT, 1.0);
    }
    let decision = state.after(&rules, crash(100, "f"), rules.healthy, 1.0);
    assert_eq!(backoff(&decision), rules.backoff);
    assert_eq!(state.attempts_in_window(&rules, Timestamp(100_000), None), 5);
}

#[test]
fn one_end_too_many_in_the_window_is_quarantined() {
    let rules = rules(RestartPolicy::Permanent);
    let mut state = RestartState::default();
    for n in 0..5 {
        backoff(&state.after(&rules, crash(n, "f"), SHORT, 1.0));
    }
    let Decision::Quarantine(quarantine) = state.after(&rules, crash(5, "f"), SHORT, 1.0) else {
        panic!("not quarantined")
    };
    assert_eq!(quarantine.why, QuarantineReason::Intensity);
    assert_eq!(quarantine.since, Timestamp(5_000));
    assert_eq!(quarantine.message, "it ended 6 times within 300 s, 5 are allowed; last: trap");
    assert_eq!(state.quarantine, Some(quarantine));
}

#[test]
fn ends_outside_the_window_do_not_count() {
    let rules = rules(RestartPolicy::Permanent);
    let mut state = RestartState::default();
    for n in 0..50 {
        // One a minute: five in each window.
        backoff(&state.after(&rules, crash(n * 60, "f"), SHORT, 1.0));
    }
    assert!(state.ends.len() <= MIN_HISTORY);
}

#[test]
fn the_same_fault_at_start_several_times_in_a_row_is_not_retried_into_the_wall() {
    let rules = rules(RestartPolicy::Transient);
    let mut state = RestartState::default();
    backoff(&state.after(&rules, crash_at_start(0, "a"), SHORT, 1.0));
    backoff(&state.after(&rules, crash_at_start(1, "b"), SHORT, 1.0));
    backoff(&state.after(&rules, crash_at_start(2, "b"), SHORT, 1.0));
    let decision = state.after(&rules, crash_at_start(3, "b"), SHORT, 1.0);
    let Decision::Quarantine(quarantine) = decision else { panic!("{decision:?}") };
    assert_eq!(quarantine.why, QuarantineReason::SameFault);
}

#[test]
fn the_same_fault_at_work_has_the_whole_window() {
    let rules = rules(RestartPolicy::Transient);
    let mut state = RestartState::default();
    for n in 0..5 {
        backoff(&state.after(&rules, crash(n, "same"), SHORT, 1.0));
    }
}

#[test]
fn a_start_that_no_retry_can_help_is_quarantined_at_once() {
    let mut state = RestartState::default();
    let end = PastEnd { deterministic: true, ..crash_at_start(0, "f") };
    let decision = state.after(&rules(RestartPolicy::Permanent), end, SHORT, 1.0);
    let Decision::Quarantine(quarantine) = decision else { panic!("{decision:?}") };
    assert_eq!(quarantine.why, QuarantineReason::Deterministic);
}

/// An end of a start that had no workspace.
fn without_workspace(at_s: i64, deterministic: Determinism) -> PastEnd {
    let exit = Exit::new(ExitReason::StartFailed, Phase::Workspace, "x");
    let exit = Exit { deterministic, ..exit };
    PastEnd::new(&exit, Timestamp(at_s * 1000), Incarnation(1), "same".into(), None)
}

#[test]
fn a_workspace_that_is_not_made_is_tried_again_with_backoff_and_quarantines_nobody() {
    let (mut state, rules) = (RestartState::default(), rules(RestartPolicy::Transient));
    let mut again =
        |n| backoff(&state.after(&rules, without_workspace(n, Determinism::Unknown), SHORT, 1.0));
    let bounds: Vec<_> = (0..20).map(|n| again(n).as_millis()).collect();
    assert_eq!((bounds[0], bounds[1], bounds[19]), (500, 1000, 60_000));
    assert_eq!(state.attempts_in_window(&rules, Timestamp(20_000), None), 0);
    // Also not those of an earlier run.
    let written = serde_json::to_string(&state).unwrap();
    let state: RestartState = serde_json::from_str(&written).unwrap();
    assert_eq!(state.attempts_in_window(&rules, Timestamp(20_000), None), 0);
}

#[test]
fn a_workspace_that_cannot_be_what_is_asked_for_is_not_tried_again() {
    let mut state = RestartState::default();
    let end = without_workspace(0, Determinism::True);
    let decision = state.after(&rules(RestartPolicy::Permanent), end, SHORT, 1.0);
    assert_eq!((decision, state.quarantine), (Decision::Stay, None));
}

/// An end that was somebody else's doing.
fn not_its_doing(reason: ExitReason, at_s: i64) -> PastEnd {
    PastEnd { reason, at_start: true, deterministic: true, ..crash(at_s, "same") }
}

#[test]
fn what_the_host_or_the_neighbours_do_quarantines_nobody() {
    for reason in [ExitReason::HostError, ExitReason::EvictedMemoryPressure] {
        let mut state = RestartState::default();
        let rules = rules(RestartPolicy::Permanent);
        let mut bounds = Vec::new();
        for n in 0..200 {
            let decision = state.after(&rules, not_its_doing(reason, n), SHORT, 1.0);
            bounds.push(backoff(&decision));
        }
        assert_eq!(state.attempts_in_window(&rules, Timestamp(200_000), None), 0);
        assert!(bounds.is_sorted() && bounds[0] == rules.backoff, "it backs off all the same");
        assert_eq!(state.ends.len(), MIN_HISTORY, "and stays visible");
    }
}

#[test]
fn what_does_not_count_hides_no_crash_looper() {
    let rules = rules(RestartPolicy::Permanent);
    let mut state = RestartState::default();
    for n in 0..5 {
        backoff(&state.after(&rules, crash(n, "f"), SHORT, 1.0));
        for _ in 0..20 {
            let end = not_its_doing(ExitReason::HostError, n);
            backoff(&state.after(&rules, end, SHORT, 1.0));
        }
    }
    let decision = state.after(&rules, crash(5, "f"), SHORT, 1.0);
    let Decision::Quarantine(quarantine) = decision else { panic!("{decision:?}") };
    assert!(quarantine.message.contains("ended 6 times"), "{}", quarantine.message);
    // Nor does it interrupt the same fault in a row.
    let mut state = RestartState::default();
    for n in 0..2 {
        backoff(&state.after(&rules, crash_at_start(n, "f"), SHORT, 1.0));
        let end = not_its_doing(ExitReason::EvictedMemoryPressure, n);
        backoff(&state.after(&rules, end, SHORT, 1.0));
    }
    let decision = state.after(&rules, crash_at_start(2, "f"), SHORT, 1.0);
    assert!(matches!(decision, Decision::Quarantine(_)), "{decision:?}");
}

#[test]
fn one_that_is_evicted_again_and_again_stays_away_longer_and_longer() {
    let rules = rules(RestartPolicy::Permanent);
    let mut state = RestartState::default();
    let mut evict = |at_s, lived, dice| {
        let end = not_its_doing(ExitReason::EvictedMemoryPressure, at_s);
        backoff(&state.after(&rules, end, lived, dice))
    };
    // A leak that takes a healthy period to fill the container is no less one.
    let seconds: Vec<f64> =
        (0..12).map(|n| evict(n * 400, rules.healthy, 1.0).as_secs_f64()).collect();
    assert_eq!(seconds[..4], [0.5, 1.0, 2.0, 4.0]);
    assert_eq!(seconds[10..], [300.0, 300.0], "five times the cap of other backoffs");
    assert_eq!(evict(5000, SHORT, 0.0).as_secs(), 150, "it is never restarted at once");
    assert_eq!(evict(6000, rules.window, 1.0), rules.backoff, "until it stayed for a window");
}

#[test]
fn the_state_survives_being_written_and_read() {
    let rules = rules(RestartPolicy::Permanent);
    let mut state = RestartState::default();
    for n in 0..6 {
        state.after(&rules, crash(n, "f"), SHORT, 1.0);
    }
    let text = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<RestartState>(&text).unwrap(), state);
    assert_eq!(serde_json::from_str::<RestartState>("{}").unwrap(), RestartState::default());
}

proptest! {
    /// Whatever happens: what is kept is bounded, a retry lies within its bound and not in the past,
    /// and within any window no more than the allowed restarts happen.
    #[test]
    fn restarts_are_bounded(
        ends in prop::collection::vec((0_i64..200, any::<bool>(), 0_u8..3, 0.0_f64..=1.0), 1..200),
        max_restarts in 0_u32..8,
    ) {
        let rules = RestartRules { max_restarts, ..rules(RestartPolicy::Permanent) };
        let mut state = RestartState::default();
        let (mut now, mut retries) = (0, Vec::new());
        for (gap, at_start, fingerprint, dice) in ends {
            now += gap;
            let end = PastEnd { at_start, ..crash(now, &fingerprint.to_string()) };
            match state.after(&rules, end, SHORT, dice) {
                Decision::Retry { at, backoff } => {
                    prop_assert!(backoff <= rules.backoff_max && at.0 >= now * 1000);
                    retries.push(now);
                }
                Decision::Quarantine(_) => state = RestartState::default(),
                Decision::Stay => prop_assert!(false, "permanent stays"),
            }
            if state.quarantine.is_none() && state.ends.is_empty() { retries.clear(); }
            let since = now - rules.window.as_secs() as i64;
            let recent = retries.iter().filter(|at| **at > since).count();
            prop_assert!(recent <= max_restarts as usize);
            prop_assert!(state.ends.len() <= MIN_HISTORY);
        }
    }
}

#[test]
fn two_deaths_of_the_host_in_a_row_quarantine_whatever_the_policy() {
    for policy in [RestartPolicy::Temporary, RestartPolicy::Permanent] {
        let rules = rules(policy);
        let death = |at_s| PastEnd { reason: ExitReason::HostDeath, ..crash(at_s, "h") };
        let mut state = RestartState::default();
        assert_eq!(state.after_host_death(&rules, death(0), SHORT), None);
        // It came through a turn, then the row begins again.
        assert!(state.clear_host_deaths() && !state.clear_host_deaths());
        assert_eq!(state.after_host_death(&rules, death(1), SHORT), None);
        // So it does after a healthy incarnation, and after an end of its own.
        assert_eq!(state.after_host_death(&rules, death(2), rules.healthy), None);
        state.after(&rules, crash(3, "f"), SHORT, 1.0);
        assert_eq!(state.after_host_death(&rules, death(4), SHORT), None);
        let quarantine = state.after_host_death(&rules, death(5), SHORT).unwrap();
        assert_eq!(quarantine.why, QuarantineReason::HostDeath);
        assert_eq!(state.quarantine, Some(quarantine));
        let read: RestartState =
            serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
        assert_eq!(read.host_deaths, 2);
    }
}
