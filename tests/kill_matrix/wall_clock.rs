//! The wall clock is set forward and back while agents crash, and then the host is killed.

use std::time::SystemTime;

use harness::memory_group::no_kills;
use harness::wall_clock::WallClock;
use harness::{Host, Need, Value, wait_until};
use rustix::process::{Signal, kill_process};

const HOUR: i64 = 3600;

/// Where the clock is set to before each crash, in seconds: forward by more than the window of `looper`, and
/// back by hours.
const STEPS: [i64; 5] = [2 * HOUR, -9 * HOUR, -7 * HOUR, 30 * HOUR, -30 * HOUR];

/// Quarantined with the crash after the last step, in a window that is longer than any test.
const LOOPER: &str = "restart = \"transient\"\nmax_attempts = 1\nrestart_backoff_ms = 1\nrestart_backoff_max_ms = 1\n\
    restart_max = 5\nrestart_window_ms = 3600000\nrestart_same_fault = 100";

/// Two crashes in its window would be one too many.
const RARE: &str = "restart = \"transient\"\nmax_attempts = 1\nrestart_backoff_ms = 1\nrestart_backoff_max_ms = 1\n\
    restart_max = 1\nrestart_window_ms = 200\nrestart_same_fault = 100";

/// More than this test takes, and less than any step.
const PATIENCE_MS: u64 = 600_000;

#[test]
fn a_wall_clock_that_jumps_confuses_neither_restarts_nor_causes() {
    let clock = match WallClock::new() {
        Ok(clock) => clock,
        Err(reason) => return harness::skip(Need::Cc, &reason),
    };
    let _quiet = no_kills();
    let builder = Host::builder().guest("trap").role("looper", "trap", LOOPER);
    let entrance = clock.entrance();
    let by: Vec<_> = entrance.iter().map(String::as_str).collect();
    let host = builder.role("rare", "trap", RARE).supervise().run_by(&by).start().ready();
    for agent in ["looper", "rare"] {
        host.client().start(agent, agent);
    }
    for (incarnation, seconds) in (1..).zip(STEPS) {
        clock.set(seconds);
        crash(&host, "looper", incarnation);
        check_clock(&host, seconds);
        host.client().runs("looper", incarnation + 1);
        crash(&host, "rare", incarnation);
        host.client().runs("rare", incarnation + 1);
        wait_until("the crash is out of the window", || {
            host.client().status("rare").restart.attempts_in_window == 0
        });
    }
    crash(&host, "looper", STEPS.len() as u64 + 1);
    let status = host.client().reaches("looper", "quarantined");
    assert_eq!(status.restart.attempts_in_window as usize, STEPS.len() + 1, "{status:#?}");

    kill_process(host.supervisor_pid(), Signal::KILL).expect("send a signal");
    let line = host.wait_for_number(&["container.previous_run"], 2);
    assert_eq!(
        (&line["cause"], &line["confidence"]),
        (&"external_sigkill".into(), &"high".into()),
        "{line:#}"
    );
    clock.set(0);
    check_times(&host.ready().finish());
}

/// Ends this incarnation of the agent.
#[track_caller]
fn crash(host: &Host, agent: &str, incarnation: u64) {
    host.client().runs(agent, incarnation);
    host.client().send_wait(agent, "panic").expect_error(502, &["told to panic"]);
    host.wait_for_line("the end of this incarnation", |line| {
        line["event"] == "agent.exit"
            && line["agentId"] == agent
            && line["incarnation"] == incarnation
    });
}

/// The host's wall clock is really off by this much.
#[track_caller]
fn check_clock(host: &Host, seconds: i64) {
    let exits = host.events_of("looper", "agent.exit");
    let text = exits.last().and_then(|line| line["ts"].as_str()).expect("a time");
    // Days and hours are enough to distinguish the steps.
    let off = |seconds: i64| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let ms = i64::try_from(now.as_millis()).expect("before the year 292277026");
        bulkhead_types::Timestamp(ms + seconds * 1000).to_string()
    };
    let (early, late) = (off(seconds - HOUR / 2), off(seconds + HOUR / 2));
    assert!(*early < *text && *text < *late, "{text} is not between {early} and {late}");
}

/// Durations are measured by a clock that was not set.
#[track_caller]
fn check_times(lines: &[Value]) {
    for run in lines.chunk_by(|_, next| next["event"] != "container.cold_start") {
        let mut latest = 0;
        for line in run {
            let uptime = line["uptimeMs"].as_u64().expect("every line has it");
            // Two threads may log in the other order.
            assert!(uptime + 1000 >= latest && uptime < PATIENCE_MS, "{latest}, then {line}");
            latest = latest.max(uptime);
            for field in ["agentUptimeMs", "backoffMs"] {
                assert!(line[field].as_u64().unwrap_or(0) < PATIENCE_MS, "{field}: {line}");
            }
        }
    }
}
