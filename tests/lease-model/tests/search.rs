//! At most one process may act, and numbers rise, in all states of small worlds; and each broken version is found.
//!
//! `LEASE_EPOCHS` adds acquisitions to each world, `LEASE_LOSSES` losses.

use lease_model::scenario::{Scenario, fine, two};
use lease_model::search::Found;
use lease_model::versions::{self, as_it_is};

fn number(variable: &str) -> u8 {
    let text = std::env::var(variable).unwrap_or_default();
    if text.is_empty() {
        return 0;
    }
    text.parse().unwrap_or_else(|_| panic!("{variable} is no small number: {text}"))
}

/// Nothing is found in any state.
#[track_caller]
fn holds(name: &str, scenario: Scenario) {
    let epochs = scenario.epochs + u64::from(number("LEASE_EPOCHS"));
    let losses = scenario.losses + number("LEASE_LOSSES");
    let scenario = Scenario { epochs, losses, ..scenario };
    let Found { states, violation } = as_it_is::check(&scenario, false);
    if violation.is_some() {
        // Again, with what happened before.
        let found = as_it_is::check(&scenario, true);
        panic!("{name}: {}", found.violation.unwrap_or_default());
    }
    println!("{name}: all {states} states with {epochs} acquisitions and {losses} losses");
}

#[test]
fn two_processes() {
    holds("two processes", two());
}

#[test]
fn two_processes_that_give_it_back() {
    holds("two processes that give it back", Scenario { releases: 1, epochs: 1, ..two() });
}

#[test]
#[ignore = "takes minutes: just model-check"]
fn two_processes_that_give_it_back_and_take_it_again() {
    holds("two processes that give it back", Scenario { releases: 1, ..two() });
}

#[test]
#[ignore = "takes minutes: just model-check"]
fn three_acquisitions() {
    holds("three acquisitions", Scenario { epochs: 3, ..two() });
}

#[test]
#[ignore = "takes minutes: just model-check"]
fn two_processes_and_a_loss() {
    holds("two processes and a loss", Scenario { losses: 1, ..two() });
}

#[test]
#[ignore = "takes minutes: just model-check"]
fn two_processes_that_try_twice_to_renew() {
    holds("two processes that try twice to renew", fine());
}

#[test]
#[ignore = "takes minutes: just model-check"]
fn a_process_that_crashes_while_its_work_goes_on() {
    holds("a process that crashes", Scenario { crashes: 1, ..two() });
}

#[test]
#[ignore = "takes minutes: just model-check"]
fn what_is_sent_under_a_permit_may_arrive_at_any_time() {
    holds("somebody receives", Scenario { receives: true, ..two() });
}

/// Tries a broken version on a world that shows it. Returns what was found.
#[track_caller]
fn found(check: fn(&Scenario, bool) -> Found, scenario: &Scenario) -> String {
    let Found { states, violation } = check(scenario, true);
    let violation = violation.unwrap_or_else(|| panic!("nothing found in {states} states"));
    println!("found after {states} states: {violation}");
    violation
}

const BOTH: &str = "is live beside another one";

#[test]
fn work_that_never_ends_is_found() {
    assert!(found(versions::no_fence::check, &two()).contains(BOTH));
}

#[test]
fn a_belief_from_the_answer_on_is_found() {
    assert!(found(versions::count_from_the_answer::check, &two()).contains(BOTH));
}

#[test]
fn waiting_by_the_wall_clock_of_another_machine_is_found() {
    let skewed = Scenario { ahead: vec![0, 800], ..two() };
    assert!(found(versions::trust_another_clock::check, &skewed).contains(BOTH));
}

#[test]
fn waiting_once_although_it_is_renewed_is_found() {
    assert!(found(versions::wait_once::check, &two()).contains(BOTH));
}

#[test]
fn waiting_without_a_margin_is_found() {
    assert!(found(versions::no_margin::check, &two()).contains(BOTH));
}

#[test]
fn clocks_that_differ_by_more_than_the_margin_are_found() {
    let uneven = Scenario { speeds: vec![320, 350], ..two() };
    assert!(found(as_it_is::check, &uneven).contains(BOTH));
}

#[test]
fn waiting_for_the_fence_alone_is_found() {
    assert!(found(versions::wait_for_the_fence::check, &two()).contains(BOTH));
}

#[test]
fn a_number_that_is_taken_again_after_a_release_is_found() {
    let gives_back = Scenario { releases: 1, ..two() };
    let found = found(versions::take_the_number_again::check, &gives_back);
    assert!(found.contains("is no new one"), "{found}");
}

#[test]
fn a_number_that_is_taken_again_is_found() {
    let found = found(versions::same_number::check, &two());
    assert!(found.contains("is no new one") || found.contains("came again"), "{found}");
}

#[test]
fn a_write_that_is_believed_without_an_answer_is_found() {
    let lossy = Scenario { losses: 1, ..two() };
    let found = found(versions::believe_without_an_answer::check, &lossy);
    assert!(found.contains(BOTH) || found.contains("is no new one"), "{found}");
}

#[test]
fn a_name_that_is_taken_for_a_proof_is_found() {
    let crashes = Scenario { crashes: 1, ..two() };
    let found = found(versions::believe_the_name::check, &crashes);
    assert!(found.contains(BOTH) || found.contains("came again"), "{found}");
}

#[test]
fn a_belief_from_the_second_try_on_is_found() {
    let lossy = Scenario { losses: 1, ..two() };
    assert!(found(versions::count_from_the_second_try::check, &lossy).contains(BOTH));
}

#[test]
fn a_register_that_ignores_conditions_is_found() {
    let found = found(as_it_is::check, &Scenario { compares: false, ..two() });
    assert!(found.contains(BOTH) || found.contains("is no new one"), "{found}");
}

#[test]
fn a_receiver_that_does_not_compare_is_found() {
    let receives = Scenario { receives: true, ..two() };
    assert!(found(versions::no_gate::check, &receives).contains("was received after"));
}

#[test]
fn a_permit_that_comes_again_is_found() {
    let found = found(versions::come_again::check, &two());
    assert!(found.contains("came again"), "{found}");
}
