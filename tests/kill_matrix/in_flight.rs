//! Kills a host between delivery and end of turns, at random moments: no message is lost, and none is delivered more
//! often than its role allows.
//!
//! `IN_FLIGHT_KILLS` makes it longer, `IN_FLIGHT_SEED` repeats an order of pauses.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use harness::{Host, wait_until};
use rustix::process::Signal;

/// Kills when nothing else is said: some ten seconds.
const KILLS: usize = 12;

/// Agents that have a message in its turn nearly all the time.
const AGENTS: usize = 4;

const MAX_ATTEMPTS: u64 = 3;

/// A message notes its delivery, takes some turns, and notes its end.
const BODY: &str = "note turns 30 note x";

/// What the notes of all agents say: of each message how often each attempt was noted.
type Notes = BTreeMap<String, BTreeMap<u64, usize>>;

fn name(agent: usize) -> String {
    format!("a{agent}")
}

fn notes(host: &Host) -> Notes {
    let mut notes = Notes::new();
    for agent in 0..AGENTS {
        let path = host.workspace(&name(agent)).join("notes");
        for line in std::fs::read_to_string(path).unwrap_or_default().lines() {
            let (message, attempt) = line.split_once(' ').expect("a message and an attempt");
            let attempt = attempt.parse().expect("a number");
            *notes.entry(message.to_owned()).or_default().entry(attempt).or_default() += 1;
        }
    }
    notes
}

/// Sends one message after the other until the host is gone.
fn work(host: &Host, agent: &str, large: bool) {
    let body = match large {
        // More than a slot of the journal has room for.
        true => format!("{BODY}{}", "x".repeat(20_000)),
        false => BODY.to_owned(),
    };
    while host.client().try_send_wait(agent, &body).is_ok_and(|answer| answer.status == 200) {}
}

/// Whether an attempt came to its end.
fn is_through(attempts: &BTreeMap<u64, usize>) -> bool {
    attempts.values().any(|notes| *notes == 2)
}

fn set_aside(host: &Host) -> Vec<String> {
    let lines = host.events_named("agent.message_set_aside");
    lines.iter().filter_map(|line| line["messageId"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_message_in_its_turn_is_neither_lost_nor_delivered_too_often() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let kills = number("IN_FLIGHT_KILLS").map_or(KILLS, |kills: u64| kills as usize);
    let seed = number("IN_FLIGHT_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("IN_FLIGHT_SEED={seed}");
    let mut dice = fastrand::Rng::with_seed(seed);
    let role = format!("restart = \"transient\"\nidle_ms = 0\nmax_attempts = {MAX_ATTEMPTS}");
    let mut host = Host::builder().guest("puppet").role("puppet", "puppet", &role).start().ready();
    (0..AGENTS).for_each(|agent| _ = host.client().start(&name(agent), "puppet"));
    let aside = Mutex::new(Vec::new());
    let (mut in_turn, mut again) = (0, 0);
    for _ in 0..kills {
        let pause = Duration::from_micros(dice.u64(0..60_000));
        std::thread::scope(|scope| {
            for agent in 0..AGENTS {
                let host = &host;
                scope.spawn(move || work(host, &name(agent), agent % 2 == 1));
            }
            // The moment of the kill is meant to be random: nothing waits for this time.
            std::thread::sleep(pause);
            host.signal(Signal::KILL);
        });
        host.wait();
        aside.lock().unwrap().extend(set_aside(&host));
        in_turn += notes(&host).values().filter(|attempts| !is_through(attempts)).count();
        while dice.u8(0..4) == 0 {
            // Another one at a random moment, while it brings its agents back, or later.
            host = host.restart();
            std::thread::sleep(Duration::from_millis(dice.u64(0..80)));
            host.signal(Signal::KILL);
            host.wait();
            aside.lock().unwrap().extend(set_aside(&host));
            again += 1;
        }
        host = host.restart().ready();
        wait_until("every message is through or set aside", || {
            let mut over = aside.lock().unwrap().clone();
            over.extend(set_aside(&host));
            notes(&host).iter().all(|(id, attempts)| is_through(attempts) || over.contains(id))
        });
        for (id, attempts) in notes(&host) {
            assert!(attempts.keys().all(|attempt| *attempt <= MAX_ATTEMPTS), "{id}: {attempts:?}");
            assert!(attempts.values().all(|notes| *notes <= 2), "{id}, twice: {attempts:?}");
            let through = attempts.values().filter(|notes| **notes == 2).count();
            // Killed after the guest's last note, before the host heard of it.
            assert!(through <= 2, "{id} was through and came again: {attempts:?}");
        }
    }
    let aside = aside.lock().unwrap().len();
    println!(
        "{kills} kills and {again} while agents were restarted: {} messages, {in_turn} in their turn at a kill, \
         {aside} set aside",
        notes(&host).len()
    );
    assert!(in_turn > 0, "no kill met a turn");
    host.finish();
}
