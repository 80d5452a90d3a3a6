//! When agents end, the kernel has their memory back: shown by what the host has resident, for every way to
//! end and both ways in which agents get their memory.

use harness::metrics::wait_for_metrics;
use harness::resident::resident_bytes;
use harness::{Host, HostBuilder, wait_until};

const MIB: u64 = 1024 * 1024;

/// Agents that are active at one time, and what each of them touches of its own.
const AGENTS: u64 = 8;
const EACH_BYTES: u64 = 32 * MIB;

/// What may stay of 256 MiB: the host's own heap, whose pages the allocator gives back as it sees fit, and
/// stacks and records of the engine's that wait for the next agents.
const MARGIN_BYTES: u64 = 12 * MIB;

fn builder() -> HostBuilder {
    let role = "memory_limit_mb = 40\nworkspace = false";
    let dumping = format!("{role}\ncore_dump = true");
    Host::builder().guest("hog").role("hog", "hog", role).role("dumping", "hog", &dumping)
}

/// What the first of all agents make the host take: compiled code, symbols, buffers.
const FIRST_BYTES: u64 = 32 * MIB;

/// Agents start, touch their memory, and end by `end`. Returns what the host had meanwhile.
fn round(host: &Host, role: &str, end: impl Fn(&str)) -> u64 {
    let ids: Vec<_> = (0..AGENTS).map(|number| format!("{role}-{number}")).collect();
    for id in &ids {
        host.client().start(id, role);
        let kib = (EACH_BYTES / 1024).to_string();
        assert_eq!(host.client().ask(id, &format!("hold {kib}")), kib);
    }
    let lived = resident_bytes(host.pid());
    ids.iter().for_each(|id| end(id));
    wait_for_metrics(host.client(), "their stores are gone", |now| now["bulkhead_stores"] == 0.0);
    lived
}

/// What the host has when one round is over is back after each later one.
fn goes_back(builder: HostBuilder, role: &str, end: impl Fn(&Host, &str)) {
    let host = builder.start();
    let pid = host.pid();
    // Compiles, and takes for the host what the first of all agents make it take.
    let fresh = resident_bytes(pid);
    round(&host, role, |id| end(&host, id));
    // The allocator gives back what was free for a second, copies of memories for core dumps among it.
    let most = fresh + FIRST_BYTES;
    wait_until(&format!("resident memory comes down to {most}"), || resident_bytes(pid) <= most);
    let before = resident_bytes(pid);
    for _ in 0..2 {
        let lived = round(&host, role, |id| end(&host, id));
        assert!(lived > before + AGENTS * EACH_BYTES * 9 / 10, "{before} to {lived}: not touched");
        let most = before + MARGIN_BYTES;
        wait_until(&format!("resident memory comes down from {lived} to {most}"), || {
            resident_bytes(pid) <= most
        });
    }
    host.finish();
}

fn stop(host: &Host, id: &str) {
    host.client().stop(id).expect(200);
}

fn crash(host: &Host, id: &str) {
    crash_id(host, id);
}

fn crash_id(host: &Host, id: &str) -> String {
    let answer = host.client().send_wait(id, "panic").expect_error(502, &[]);
    assert_eq!(answer.exit_reason.as_deref(), Some("panic"), "{answer:?}");
    answer.crash_id.expect("a crash")
}

fn meet_the_limit(host: &Host, id: &str) {
    let answer = host.client().send_wait(id, "hold 32768").expect_error(502, &[]);
    assert_eq!(answer.exit_reason.as_deref(), Some("memory_limit"), "{answer:?}");
}

fn on_demand() -> HostBuilder {
    builder().toml("[limits]\nmemory_pool = false")
}

#[test]
fn of_agents_that_were_stopped() {
    goes_back(builder(), "hog", stop);
    goes_back(on_demand(), "hog", stop);
}

#[test]
fn of_agents_that_crashed() {
    goes_back(builder(), "hog", crash);
    goes_back(on_demand(), "hog", crash);
}

#[test]
fn of_agents_that_met_their_limit() {
    goes_back(builder(), "hog", meet_the_limit);
    goes_back(on_demand(), "hog", meet_the_limit);
}

#[test]
fn of_agents_whose_core_was_dumped() {
    let crash_and_dump = |host: &Host, id: &str| {
        let crash = crash_id(host, id);
        let dump = host.wait_for_line("its core dump", |line| {
            line["event"] == "agent.core_dump" && line["crashId"] == crash
        });
        assert!(dump["coreDump"]["bytes"].as_u64() > Some(EACH_BYTES), "{dump}");
    };
    goes_back(builder(), "dumping", crash_and_dump);
    goes_back(on_demand(), "dumping", crash_and_dump);
}
