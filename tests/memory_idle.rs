//! A host whose agents have gone is small again: what is kept of them has a bound, and what was kept for the
//! next ones goes back to the kernel.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bulkhead_api::ContainerMemoryView;
use harness::memory_group::{MemoryGroup, no_kills};
use harness::resident::resident_bytes;
use harness::{Host, HostBuilder, Need, json, wait_until};

const MIB: u64 = 1024 * 1024;

/// Agents at one time, where they are many.
const CALLERS: usize = 8;

/// What a host may hold when a thousand agents came and went.
const LEFT_BYTES: u64 = 64 * MIB;

/// Crashes that fill what is kept of agents that ended, and of crashes; then rounds after which nothing more may
/// be there.
const FILLING: usize = 1200;
const ROUNDS: usize = 3;

/// How much more than at the first quiet point a host may have, in percent.
const MORE_PERCENT: u64 = 2;

/// A thread that a later round needs first has a stack and an arena: so much more may be there once, in all rounds
/// together.
const LATE_THREADS_BYTES: u64 = 2 * MIB;

/// With the settings that a host has by default.
fn builder() -> HostBuilder {
    let role = "memory_limit_mb = 40\nworkspace = false\nlog_lines_per_second = 1000";
    Host::builder()
        .guest("puppet")
        .guest("hog")
        .guest("stack")
        .role("puppet", "puppet", role)
        .role("hog", "hog", role)
        .role("stack", "stack", role)
        .toml("[limits]\nmax_agents = 1000\n[log]\nlevel = \"info\"")
}

/// Does something for each number, on several connections.
fn each(numbers: usize, act: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= numbers {
                        return;
                    }
                    act(number);
                }
            });
        }
    });
}

/// An agent that does what leaves something behind, of each kind: events, lines, memory, deep stacks.
fn live(host: &Host, agent: &str, number: usize) {
    let client = host.client();
    match number % 3 {
        0 => {
            client.start(agent, "hog");
            assert_eq!(client.ask(agent, "events 500 1000"), "500");
            assert_eq!(client.ask(agent, "hold 1024"), "1024");
        }
        1 => {
            client.start(agent, "puppet");
            client.ask(agent, "say 40");
        }
        _ => {
            client.start(agent, "stack");
            client.ask(agent, "here");
        }
    }
}

fn end(host: &Host, agent: &str, number: usize) {
    match number % 6 {
        1 => drop(host.client().send_wait(agent, "panic").expect_error(502, &["panic"])),
        2 => drop(host.client().send_wait(agent, "recurse").expect_error(502, &[])),
        _ => drop(host.client().stop(agent).expect(200)),
    }
}

/// One after the other of each kind, so that everything is compiled and the host has what it takes for the
/// first of all agents. Yields what it has then.
fn booted(host: &Host) -> u64 {
    for number in 0..6 {
        let agent = format!("first-{number}");
        live(host, &agent, number);
        end(host, &agent, number);
    }
    resident_bytes(host.pid())
}

#[test]
fn after_a_thousand_agents_that_were_there_at_once() {
    let host = builder().terse().start();
    let most = booted(&host) + LEFT_BYTES;
    each(1000, |number| live(&host, &format!("a-{number}"), number));
    let lived = resident_bytes(host.pid());
    assert!(lived > most, "they took something: {lived}");
    each(1000, |number| end(&host, &format!("a-{number}"), number));
    wait_until(&format!("resident memory comes down from {lived} to {most}"), || {
        resident_bytes(host.pid()) <= most
    });
    let last = host.client().status("a-999");
    assert_eq!(last.exit_reason.as_deref(), Some("stopped"), "who ended last is known");
    drop(host);
}

#[test]
fn quiet_points_are_flat() {
    let host = builder().terse().start();
    booted(&host);
    let round = |round: usize| {
        each(400, |number| {
            let agent = format!("{round}-{number}");
            live(&host, &agent, number);
            end(&host, &agent, number);
        });
    };
    each(FILLING, |number| {
        let agent = format!("filling-{number}");
        live(&host, &agent, 1);
        end(&host, &agent, 1);
    });
    round(0);
    let quiet = settled(&host);
    let most = quiet + quiet * MORE_PERCENT / 100 + LATE_THREADS_BYTES;
    for number in 1..=ROUNDS {
        round(number);
        wait_until(&format!("round {number}: {quiet} resident bytes after the first"), || {
            resident_bytes(host.pid()) <= most
        });
    }
    drop(host);
}

/// What is resident when the host has given back what it does.
fn settled(host: &Host) -> u64 {
    let mut least = resident_bytes(host.pid());
    for _ in 0..4 {
        // A rate: the host looks every five seconds whether it should, and no line tells that there is no more to give.
        std::thread::sleep(Duration::from_secs(3));
        least = least.min(resident_bytes(host.pid()));
    }
    least
}

#[test]
fn nobody_is_evicted_for_what_the_host_keeps_of_others() {
    let _lock = no_kills();
    let group = MemoryGroup::with_limit(256 * MIB);
    let Ok(group) = group.inspect_err(|reason| harness::skip(Need::Cgroup, reason)) else { return };
    let entrance = group.entrance();
    let entrance: Vec<&str> = entrance.iter().map(String::as_str).collect();
    let host = builder().terse().run_by(&entrance).start();
    each(1000, |number| {
        let agent = format!("a-{number}");
        live(&host, &agent, number);
        end(&host, &agent, number);
    });
    // Together with the host's own they come close to the limit, and still fit.
    for agent in ["x", "y", "z"] {
        host.client().start(agent, "hog");
        assert_eq!(host.client().ask(agent, "hold 36864"), "36864");
    }
    wait_until("their memory was seen", || {
        let memory: ContainerMemoryView = host.client().get("/memory").read(200);
        memory.used_bytes >= Some(100 * MIB)
    });
    for agent in ["x", "y", "z"] {
        assert_eq!(host.client().ask(agent, "here"), "here");
    }
    let evictions = "bulkhead_agent_exits_total{reason=\"evicted_memory_pressure\"}";
    assert_eq!(host.client().metrics().get(evictions).copied().unwrap_or_default(), 0.0);
    assert_eq!(group.oom_kills(), 0);
    drop(host);
}

/// With room for a megabyte of all that ended.
#[test]
fn who_ended_longest_ago_gives_its_events_and_a_reader_sees_from_where() {
    let host = builder().toml("[limits]\nended_mb = 1").start();
    let client = host.client();
    for agent in ["first", "last"] {
        client.start(agent, "hog");
        assert_eq!(client.ask(agent, "events 600 1000"), "600");
    }
    let events = |agent: &str| client.events(agent, 0);
    client.stop("first").expect(200);
    let page = events("first");
    assert_eq!(page.dropped_before, None, "all of it is there");
    client.stop("last").expect(200);
    wait_until("some are gone", || events("first").dropped_before.is_some());
    let (first, last) = (events("first"), events("last"));
    assert_eq!(last.dropped_before, None);
    let begins = first.dropped_before.expect("some are gone");
    assert!(page.events[0].id < begins, "{begins}");
    assert!(first.events[0].id >= begins, "it says up to which id they are gone");
    let exit = first.events.last().expect("the newest are there");
    assert_eq!(&*exit.event, "agent.exit");
    // It starts again, and what it says then is its own.
    client.start("first", "hog");
    assert_eq!(client.ask("first", "events 600 1000"), "600");
    client.stop("last");
    let again = events("first").events.len();
    assert!(again > 600, "{again}");
    host.finish();
}

/// What they were asked to be counts as well: the oldest are forgotten in the end, and not their numbers.
#[test]
fn who_ended_longest_ago_is_forgotten_when_their_prompts_are_too_much() {
    let host = builder().toml("[limits]\nended_mb = 1").start();
    let client = host.client();
    let prompt = "x".repeat(300 * 1024);
    for agent in ["a", "b", "c", "d", "e"] {
        client.start_with(agent, "hog", json!({"systemPrompt": prompt})).expect(201);
        client.stop(agent).expect(200);
    }
    wait_until("the oldest are forgotten", || {
        client.get("/agents/a/status").status == 404 && client.get("/agents/b/status").status == 404
    });
    assert_eq!(client.ended("e").exit_reason.as_deref(), Some("stopped"));
    let again = client.start("a", "hog").agent;
    assert!(again.incarnation.0 > 1, "its number is not given again");
    host.finish();
}
