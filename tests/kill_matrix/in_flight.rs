//! Kills a host between delivery and end of turns, at random moments: no message is lost, none is delivered more often
//! than its role allows, and none again that was answered.
//!
//! A message that was not answered may come again after all of its work is done: the host dies after the guest's last act
//! and before it knows of the turn's end. On a busy machine that is a long time, and it can happen in each delivery.
//!
//! `IN_FLIGHT_KILLS` makes it longer, `IN_FLIGHT_SEED` repeats an order of pauses.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bulkhead_api::MessageAnswer;
use harness::client::data;
use harness::{Host, wait_until};
use parking_lot::Mutex;
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

/// Messages by their ids.
type Ids = Mutex<BTreeSet<String>>;

/// Sends one message after the other until the host is gone, and keeps those that were answered.
fn work(host: &Host, agent: &str, large: bool, answered: &Ids) {
    let body = match large {
        // More than a slot of the journal has room for.
        true => format!("{BODY}{}", "x".repeat(20_000)),
        false => BODY.to_owned(),
    };
    while let Ok(answer) = host.client().try_send_wait(agent, &body) {
        answered.lock().insert(answer.read::<MessageAnswer>(200).message_id);
    }
}

/// How many attempts came to their end.
fn times_through(attempts: &BTreeMap<u64, usize>) -> usize {
    attempts.values().filter(|notes| **notes == 2).count()
}

fn is_through(attempts: &BTreeMap<u64, usize>) -> bool {
    times_through(attempts) > 0
}

/// What holds at any time.
fn check(notes: &Notes, answered: &BTreeSet<String>) {
    for (id, attempts) in notes {
        assert!(attempts.keys().all(|attempt| *attempt <= MAX_ATTEMPTS), "{id}: {attempts:?}");
        assert!(attempts.values().all(|notes| *notes <= 2), "{id}, twice: {attempts:?}");
    }
    // Its sender waited for the run that it was sent to, so that was its first attempt.
    let once = BTreeMap::from([(1, 2)]);
    for id in answered {
        assert_eq!(notes.get(id), Some(&once), "{id} was answered and came again");
    }
}

/// Messages that were set aside, in this run or before. The last lines of a log may die with their host; events do not.
fn set_aside(host: &Host) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for agent in 0..AGENTS {
        let mut after = 0;
        loop {
            let page = host.client().events(&name(agent), after);
            let Some(last) = page.events.last() else { break };
            after = last.id;
            let such = page.events.iter().filter(|it| &*it.event == "agent.message_set_aside");
            ids.extend(such.filter_map(|it| data(it)["messageId"].as_str().map(str::to_owned)));
        }
    }
    ids
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
    let (answered, mut aside) = (Ids::default(), BTreeSet::new());
    let (mut in_turn, mut again) = (0, 0);
    for _ in 0..kills {
        let pause = Duration::from_micros(dice.u64(0..60_000));
        std::thread::scope(|scope| {
            for agent in 0..AGENTS {
                let (host, answered) = (&host, &answered);
                scope.spawn(move || work(host, &name(agent), agent % 2 == 1, answered));
            }
            // The moment of the kill is meant to be random: nothing waits for this time.
            std::thread::sleep(pause);
            host.signal(Signal::KILL);
        });
        host.wait();
        in_turn += notes(&host).values().filter(|attempts| !is_through(attempts)).count();
        while dice.u8(0..4) == 0 {
            // Another one at a random moment, while it brings its agents back, or later.
            host = host.restart();
            std::thread::sleep(Duration::from_millis(dice.u64(0..80)));
            host.signal(Signal::KILL);
            host.wait();
            again += 1;
        }
        host = host.restart().ready();
        wait_until("every message is through or set aside", || {
            let over = set_aside(&host);
            let is_over = |id| aside.contains(id) || over.contains(id);
            notes(&host).iter().all(|(id, attempts)| is_through(attempts) || is_over(id))
        });
        aside.extend(set_aside(&host));
        check(&notes(&host), &answered.lock());
    }
    let (answered, notes) = (answered.into_inner(), notes(&host));
    println!(
        "{kills} kills and {again} while agents were restarted: {} messages, {} of them answered, {in_turn} in their turn \
         at a kill, {} through more than once, {} set aside",
        notes.len(),
        answered.len(),
        notes.values().filter(|attempts| times_through(attempts) > 1).count(),
        aside.len()
    );
    assert!(in_turn > 0, "no kill met a turn");
    host.finish();
}
