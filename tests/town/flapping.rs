//! A town that changes its misbehaviour all the time, beside a host under load: no agent is harmed, no control
//! call is late, the host's memory stays flat, and when the town is well again it knows everything.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bulkhead_api::{AgentView, Health};
use fastrand::Rng;
use harness::resident::resident_bytes;
use harness::{Answer, Host, Value, json, wait_until};
use parking_lot::Mutex;
use town_server::{Call, Fault, TownServer, Which};

use super::beside::{TOWN, builder, check, kept, runs, sealed, town};

/// How long it flaps unless `TOWN_FLAP_SECONDS` says otherwise.
const SECONDS: u64 = 10;

/// Agents that run all the time.
const STEADY: usize = 8;

/// Threads that start and stop agents of their own.
const CHURNERS: usize = 3;

/// The deadline that each start asks for.
const START_MS: u64 = 15_000;

/// A control call that does not wait for a guest is answered in this time, on a machine that does other things
/// as well.
const ANSWER: Duration = Duration::from_secs(5);

/// What the host may keep more at the end than after it had settled in: arenas of the allocator that threads
/// touched, and what it remembers of agents that ended.
const GROWTH_BYTES: u64 = 48 * 1024 * 1024;

/// What goes on in the test.
struct Flap {
    town: TownServer,
    host: Host,
    over: AtomicBool,
    /// The slowest answer of each kind of control call.
    slowest: Mutex<BTreeMap<&'static str, Duration>>,
}

/// What is reported of one thread's work.
#[derive(Default)]
struct Work {
    starts: u64,
    stops: u64,
    messages: u64,
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn a_town_that_flaps_harms_nobody() {
    let seconds = setting("TOWN_FLAP_SECONDS").unwrap_or(SECONDS);
    let seed = setting("TOWN_FLAP_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("TOWN_FLAP_SEED={seed} TOWN_FLAP_SECONDS={seconds}");
    let town = town();
    let host = builder(&town).start().ready();
    for agent in steady() {
        host.client().start(&agent, "remembers");
    }
    let flap = Flap { town, host, over: AtomicBool::new(false), slowest: Mutex::default() };
    // Everything has been done once before memory is checked.
    flap.work(seed, Duration::from_secs(seconds / 5 + 1));
    let settled = resident_bytes(flap.host.pid());
    let work = flap.work(seed.wrapping_add(1), Duration::from_secs(seconds));
    let grown = resident_bytes(flap.host.pid()).saturating_sub(settled);
    flap.town.come_up().expect("listen again");
    flap.town.behave(Which::All);
    flap.give_token();
    flap.check_calm();
    let Flap { town, host, slowest, .. } = flap;
    let lines = host.finish();
    report(&lines, &town, &work, &slowest.into_inner(), grown);
    assert!(grown < GROWTH_BYTES, "the host grew by {grown} bytes");
    check_lines(&lines);
    check(&town);
}

fn steady() -> Vec<String> {
    (0..STEADY).map(|number| format!("steady-{number}")).collect()
}

impl Flap {
    /// All threads at work for so long.
    fn work(&self, seed: u64, time: Duration) -> Work {
        self.over.store(false, Relaxed);
        let mut rng = Rng::with_seed(seed);
        let seeds: Vec<_> = (0..CHURNERS).map(|_| rng.fork()).collect();
        let mut total = Work::default();
        std::thread::scope(|scope| {
            let churners: Vec<_> = seeds
                .into_iter()
                .enumerate()
                .map(|(number, rng)| scope.spawn(move || self.churn(number, rng)))
                .collect();
            let talker = scope.spawn(|| self.talk());
            let end = EndOnDrop(&self.over);
            self.flap(rng, time, || churners.iter().any(|thread| thread.is_finished()));
            drop(end);
            for work in churners.into_iter().map(|thread| thread.join().expect("a churner")) {
                total.starts += work.starts;
                total.stops += work.stops;
                total.messages += work.messages;
            }
            total.messages += talker.join().expect("the talker").messages;
        });
        total
    }

    /// The town does something else every moment.
    fn flap(&self, mut rng: Rng, time: Duration, failed: impl Fn() -> bool) {
        let until = Instant::now() + time;
        let faults = Fault::each(Duration::from_millis(300));
        let mut number = 0;
        while Instant::now() < until && !failed() {
            match rng.u32(0..10) {
                0 => self.town.go_down(),
                1 => self.town.behave(Which::All),
                2..5 => self.town.misbehave(Which::All, faults[rng.usize(..faults.len())]),
                _ => {
                    let call = Call::ALL[rng.usize(..Call::ALL.len())];
                    self.town.misbehave(call, faults[rng.usize(..faults.len())]);
                }
            }
            if rng.bool() {
                self.town.come_up().expect("listen again");
            }
            if rng.u32(0..4) == 0 {
                number += 1;
                let agent = &steady()[number % STEADY];
                kept(&self.town, |kept| kept.nudge(&format!("n{number}"), agent, "a nudge"));
            }
            if rng.u32(0..20) == 0 {
                kept(&self.town, |kept| kept.tokens.make_stale());
            }
            if rng.u32(0..10) == 0 {
                self.give_token();
            }
            // A random rate: nothing waits for this time.
            std::thread::sleep(Duration::from_millis(rng.u64(20..200)));
        }
    }

    /// What a control plane does now and then. A refresh whose answer was lost is put right by it.
    fn give_token(&self) {
        let token = kept(&self.town, |kept| kept.tokens.issue(TOWN));
        let body = json!({"token": token});
        let answer = self
            .timed("refresh-token", ANSWER, || self.host.client().post("/refresh-token", &body));
        answer.expect(200);
    }

    fn timed(&self, what: &'static str, most: Duration, call: impl FnOnce() -> Answer) -> Answer {
        let began = Instant::now();
        let answer = call();
        let took = began.elapsed();
        assert!(took < most, "{what} took {took:?}: {answer:?}");
        let mut slowest = self.slowest.lock();
        let slot = slowest.entry(what).or_default();
        *slot = took.max(*slot);
        answer
    }

    /// Starts, talks to and stops agents.
    fn churn(&self, number: usize, mut rng: Rng) -> Work {
        let (client, mut work) = (self.host.client(), Work::default());
        while !self.over.load(Relaxed) {
            let agent = format!("churn-{number}-{}", rng.u32(0..3));
            let role = if rng.bool() { "echo" } else { "remembers" };
            let body = json!({
                "agentId": agent, "role": role, "deadlineMs": START_MS, "rigId": format!("rig-{number}"),
                "ifRunning": "restart",
            });
            let most = Duration::from_millis(START_MS) + ANSWER;
            self.timed("start", most, || client.post("/agents/start", &body)).expect(201);
            work.starts += 1;
            for message in 0..rng.u32(0..5) {
                let body = format!("message {message}");
                let answer = self.timed("message", ANSWER, || client.send_wait(&agent, &body));
                assert_eq!(answer.reply(), body);
                work.messages += 1;
            }
            if rng.u32(0..3) > 0 {
                let answer = self.timed("stop", ANSWER, || client.stop(&agent));
                answer.expect(200);
                work.stops += 1;
            }
            // A random rate: nothing waits for this time.
            std::thread::sleep(Duration::from_millis(rng.u64(0..20)));
        }
        work
    }

    /// Talks to the steady agents, and looks how the host is.
    fn talk(&self) -> Work {
        let (client, mut work) = (self.host.client(), Work::default());
        for agent in steady().iter().cycle() {
            if self.over.load(Relaxed) {
                return work;
            }
            let answer = self.timed("message", ANSWER, || client.send_wait(agent, "hi"));
            assert_eq!(answer.reply(), "hi", "{agent} is harmed");
            work.messages += 1;
            self.timed("health", ANSWER, || client.get("/health")).read::<Health>(200);
            let status =
                self.timed("status", ANSWER, || client.get(&format!("/agents/{agent}/status")));
            assert_eq!(status.read::<AgentView>(200).incarnation.0, 1);
        }
        work
    }

    /// The town is well: what it knows becomes what is true.
    fn check_calm(&self) {
        let here = || {
            let list = self.host.client().list();
            let up = list.iter().filter(|agent| agent.status == "running");
            let mut up: Vec<_> = up.map(|agent| agent.agent_id.to_string()).collect();
            up.sort();
            up
        };
        wait_until("the town's registry is the host's", || {
            kept(&self.town, |kept| kept.agents()) == here()
        });
        for agent in steady() {
            assert!(runs(&self.host, &agent), "{agent} does not run");
            // Something new to remember.
            assert_eq!(self.host.client().ask(&agent, "bye"), "bye");
        }
        for agent in steady() {
            wait_until(&format!("the town has the last snapshot of {agent}"), || {
                // A nudge that the town has kept may come meanwhile, and is one more.
                let count = self.host.client().status(&agent).message_count.to_string();
                let last = sealed(count.as_bytes());
                kept(&self.town, |kept| {
                    kept.snapshots.get(&agent).is_some_and(|kept| kept.bytes == last)
                })
            });
        }
    }
}

/// Lets the other threads end, also when this one fails.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Nothing ended that nobody asked for, and each nudge had one turn at most.
fn check_lines(lines: &[Value]) {
    let mut drains = false;
    let mut nudges = BTreeMap::<&str, u32>::new();
    for line in lines {
        match line["event"].as_str().unwrap_or_default() {
            "container.draining" => drains = true,
            "agent.exit" => {
                let agent = line["agentId"].as_str().unwrap_or_default();
                assert!(drains || !agent.starts_with("steady"), "{agent} ended: {line}");
                let reason = line["reason"].as_str().unwrap_or_default();
                let asked_for = ["stopped", "superseded", "drained"];
                assert!(asked_for.contains(&reason), "nobody asked for this end: {line}");
            }
            "agent.crash" | "agent.start_failed" | "town.fenced" => panic!("harm: {line}"),
            "agent.turn" => {
                let message = line["messageId"].as_str().unwrap_or_default();
                if message.starts_with('n') && message[1..].parse::<u64>().is_ok() {
                    *nudges.entry(message).or_default() += 1;
                }
            }
            _ => {}
        }
    }
    assert!(drains, "the drain was logged");
    assert!(nudges.values().all(|turns| *turns == 1), "a nudge came twice: {nudges:?}");
}

fn report(
    lines: &[Value],
    town: &TownServer,
    work: &Work,
    slowest: &BTreeMap<&str, Duration>,
    grown: u64,
) {
    let count = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
    let calls = town.calls();
    let bad = calls.iter().filter(|call| call.status != Some(200) || call.fault.is_some()).count();
    println!("{} starts, {} stops, {} messages", work.starts, work.stops, work.messages);
    println!("{} calls of the town, {bad} of them went wrong", calls.len());
    println!(
        "{} lines of town.call_failed, {} times unreachable, {} tokens",
        count("town.call_failed"),
        count("town.unreachable"),
        count("town.token_refreshed") + count("refresh_token.received"),
    );
    println!("slowest answers: {slowest:?}; the host grew by {} KiB", grown / 1024);
}
