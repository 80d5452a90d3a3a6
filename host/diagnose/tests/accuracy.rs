//! How often the verdict is right, on logs whose truth is known.

mod support;

use support::noise::{NOISES, Noise};
use support::score::Scores;
use support::{Log, noise, original, recorded};

/// Of logs without noise.
const CLEAN_GOAL: f64 = 0.95;

/// Of logs with noise.
const NOISY_GOAL: f64 = 0.85;

/// Towns of the original container; each has every cause.
const TOWNS: u64 = 40;

fn originals() -> Vec<Log> {
    (0..TOWNS).map(original::town).collect()
}

/// Each log is damaged so many times, every time otherwise.
fn scores(logs: &[Log], noise: Noise, times: u64, held_back: bool) -> Scores {
    let mut scores = Scores::default();
    let times = if noise == Noise::Clean { 1 } else { times };
    for (number, log) in (0..).zip(logs).filter(|(_, log)| log.is_held_back() == held_back) {
        for time in 0..times {
            let log = noise::with(log, noise, number * times + time);
            scores.add(&log, &log.report());
        }
    }
    scores
}

#[track_caller]
fn check(name: &str, logs: &[Log], times: u64) {
    let mut failures = Vec::new();
    for noise in std::iter::once(Noise::Clean).chain(NOISES) {
        for held_back in [false, true] {
            let half = if held_back { "held back" } else { "for writing rules" };
            let title = format!("{name}, {half}, {noise:?}");
            let goal = if noise == Noise::Clean { CLEAN_GOAL } else { NOISY_GOAL };
            let scores = scores(logs, noise, times, held_back);
            println!("{}", scores.table(&title));
            if !held_back && std::env::var_os("SHOW_MISTAKES").is_some() {
                scores.mistakes.iter().for_each(|mistake| println!("    {mistake}"));
            }
            let below = scores.below(goal);
            if !below.is_empty() {
                failures.push(format!("{title}: {below:?} below {goal}"));
            }
            if !scores.confident_and_wrong.is_empty() {
                failures.push(format!("{title}: confident: {:?}", scores.confident_and_wrong));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn restarts_of_the_original_container_are_distinguished() {
    check("original", &originals(), 1);
}

#[test]
fn restarts_of_the_real_host_are_distinguished() {
    check("host", &recorded::all(), 5);
}
