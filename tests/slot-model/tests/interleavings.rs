//! Invariants 1 and 2 of the start slot in every schedule: at most one incarnation is active, and every start is
//! answered. Beside them that numbers rise with the beginnings of incarnations, and that no start replaces what
//! it asks for. A schedule in which somebody waits for ever is found as a deadlock.
//!
//! `SLOT_SCHEDULES` is the number of random schedules (default 20,000), `SLOT_PREEMPTIONS` the most
//! preemptions in the schedules of small scenarios, of which all are tried (default 2).

use std::panic::{AssertUnwindSafe, catch_unwind};

use bulkhead_types::IfRunning;
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{RandomScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, Runner};
use slot_model::bounded::BoundedScheduler;
use slot_model::scenario::{Fate, Scenario, Step, crashing, start};
use slot_model::versions::{self, as_it_is};

/// Random schedules when the environment does not say.
const SCHEDULES: usize = 20_000;

/// Preemptions when the environment does not say.
const PREEMPTIONS: usize = 2;

fn schedules() -> usize {
    number("SLOT_SCHEDULES").unwrap_or(SCHEDULES)
}

fn preemptions() -> usize {
    number("SLOT_PREEMPTIONS").unwrap_or(PREEMPTIONS)
}

fn number(variable: &str) -> Option<usize> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no whole number: {text}")))
}

/// Runs `play` under every schedule that `scheduler` thinks of. Returns how many there were.
fn check(scheduler: impl Scheduler + 'static, play: impl Fn() + Send + Sync + 'static) -> usize {
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::Print;
    Runner::new(scheduler, config).run(play)
}

/// All schedules of a small scenario with few preemptions.
fn check_small(name: &str, scenario: Scenario) {
    let preemptions = preemptions();
    let scheduler = BoundedScheduler::new(preemptions);
    let count = check(scheduler, move || as_it_is::play(&scenario));
    println!("{name}: all {count} schedules with at most {preemptions} preemptions");
}

#[test]
fn two_equal_starts() {
    check_small(
        "two equal starts",
        Scenario { then: vec![vec![start(1)], vec![start(1)]], ..Scenario::default() },
    );
}

#[test]
fn two_different_starts() {
    check_small(
        "two different starts",
        Scenario { then: vec![vec![start(1)], vec![start(2)]], ..Scenario::default() },
    );
}

#[test]
fn an_equal_start_of_what_runs() {
    let scenario = || Scenario {
        first: vec![start(1)],
        then: vec![vec![start(1)], vec![start(1)]],
        ..Scenario::default()
    };
    check_small("an equal start of what runs", scenario());
}

#[test]
fn a_crash_and_an_equal_start() {
    check_small("a crash and an equal start", crash_and_equal_start());
}

#[test]
fn a_start_of_what_ends() {
    let scenario = Scenario {
        first: vec![start(1)],
        then: vec![vec![Step::Stop], vec![start(1)]],
        ..Scenario::default()
    };
    check_small("a start of what ends", scenario);
}

#[test]
fn a_crash_and_a_stop() {
    check_small("a crash and a stop", crash_and_stop());
}

#[test]
fn a_crash_and_a_start() {
    check_small("a crash and a start", crash_and_start());
}

#[test]
fn a_start_and_a_drain() {
    check_small(
        "a start and a drain",
        Scenario {
            then: vec![vec![crashing(1, 1)], vec![Step::Drain]],
            ends_by_itself: true,
            ..Scenario::default()
        },
    );
}

fn crash_and_stop() -> Scenario {
    Scenario { first: vec![crashing(1, 1)], then: vec![vec![Step::Stop]], ends_by_itself: true }
}

fn crash_and_start() -> Scenario {
    Scenario { first: vec![crashing(1, 1)], then: vec![vec![start(2)]], ..Scenario::default() }
}

fn crash_and_equal_start() -> Scenario {
    Scenario { then: vec![vec![start(1)]], ..crash_and_start() }
}

/// Some actors with some steps each.
fn any_scenario() -> Scenario {
    let mut rng = thread_rng();
    let (actors, restarts) = (rng.gen_range(2..5), rng.gen_bool(0.5));
    let mut steps = || (0..rng.gen_range(1..4)).map(|_| any_step(restarts)).collect();
    let then = (0..actors).map(|_| steps()).collect();
    Scenario { then, ..Scenario::default() }
}

fn any_step(restarts: bool) -> Step {
    let mut rng = thread_rng();
    match rng.gen_range(0..20) {
        0 => Step::Drain,
        1..5 => Step::Stop,
        _ => Step::Start {
            spec: rng.gen_range(1..4),
            if_running: match rng.gen_range(0..10) {
                0 if restarts => IfRunning::Restart,
                1..3 => IfRunning::Keep,
                _ => IfRunning::Join,
            },
            fate: Fate {
                load_fails: rng.gen_bool(0.1),
                impatient: rng.gen_bool(0.1),
                start_crashes: if rng.gen_bool(0.2) { rng.gen_range(1..3) } else { 0 },
                crashes: if rng.gen_bool(0.5) { rng.gen_range(1..4) } else { 0 },
            },
        },
    }
}

#[test]
fn anything_at_the_same_time() {
    let count = check(RandomScheduler::new(schedules()), || as_it_is::play(&any_scenario()));
    println!("anything at the same time: {count} schedules");
}

/// Tries a broken version on a scenario that shows it, and on any; returns what the checker found.
fn found(play: fn(&Scenario), scenario: fn() -> Scenario) -> String {
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::None;
    let scheduler = RandomScheduler::new(SCHEDULES);
    let runner = Runner::new(scheduler, config);
    let run = AssertUnwindSafe(|| runner.run(move || play(&scenario())));
    #[expect(clippy::disallowed_methods, reason = "a test has no panic hook that ends it")]
    let panic = catch_unwind(run).expect_err("the checker found nothing wrong with a broken slot");
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or_default().to_owned()
}

#[track_caller]
fn assert_says(found: &str, any_of: &[&str]) {
    // What any broken slot may come to as well, when a schedule shows that first.
    let any_slot = ["began after", "failed: exits"];
    let is_one = any_of.iter().chain(&any_slot).any(|text| found.contains(text));
    assert!(is_one, "found something else: {found}");
}

#[test]
fn a_critical_section_in_two_parts_is_found() {
    let found = found(versions::drop_the_lock::play, any_scenario);
    let signs = [
        "is active beside",
        "another one is active",
        "without a permit",
        "deadlock",
        "began after",
        "written into another's lane",
    ];
    assert_says(&found, &signs);
}

#[test]
fn cancelling_inside_the_lock_is_found() {
    let found = found(versions::cancel_inside_the_lock::play, any_scenario);
    assert_says(&found, &["deadlock"]);
}

#[test]
fn reusing_an_incarnation_is_found() {
    let found = found(versions::reuse_an_incarnation::play, crash_and_start);
    assert_says(&found, &["was given before"]);
}

#[test]
fn forgetting_a_stop_during_a_crash_is_found() {
    let found = found(versions::forget_the_release::play, crash_and_stop);
    assert_says(&found, &["deadlock", "is active after a stop"]);
}

#[test]
fn not_waiting_for_the_holder_is_found() {
    let found = found(versions::do_not_wait::play, any_scenario);
    assert_says(&found, &["is active beside", "another one is active"]);
}

#[test]
fn a_number_that_is_given_too_early_is_found() {
    let found = found(versions::number_too_early::play, crash_and_start);
    assert_says(&found, &["began after"]);
}

#[test]
fn replacing_an_equal_is_found() {
    let found = found(versions::replace_an_equal::play, crash_and_equal_start);
    assert_says(&found, &["replaced its equal"]);
}

#[test]
fn a_record_that_outlives_its_answer_is_found() {
    let found = found(versions::leave_the_record::play, crash_and_start);
    assert!(found.contains("outlives its answer"), "{found}");
}

#[test]
fn a_message_that_comes_after_its_answer_is_found() {
    let found = found(versions::answer_what_comes_again::play, crash_and_stop);
    let signs = ["outlives its answer", "after its answer", "answered twice"];
    assert!(signs.iter().any(|sign| found.contains(sign)), "{found}");
}

#[test]
fn mail_that_is_lost_when_a_start_takes_over_is_found() {
    let found = found(versions::lose_what_waits::play, crash_and_start);
    assert!(found.contains("a sender was not answered"), "{found}");
}
