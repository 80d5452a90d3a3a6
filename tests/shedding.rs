//! Memory that runs short: agents go one by one, each with a story, and the host stays.

use std::collections::HashSet;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use harness::memory_group::{MemoryGroup, kills_are_mine};
use harness::{Bystander, Host, HostBuilder, Need, Value, files, json, wait_until};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::compiler_process::{BLOCKS, bomb, compiler_but, no_compiler_is_left};

const MIB: u64 = 1024 * 1024;

/// What the host may use, with an engine that was not optimized in it.
const BUDGET_MB: u64 = 320;

/// Agents that grow at once, and the group's limit: together they may take six times as much.
const GROWING: usize = 50;
const GROUP_BYTES: u64 = 512 * MIB;

fn host() -> HostBuilder {
    let settings = format!("[memory]\nbudget_mb = {BUDGET_MB}\n[limits]\nmax_agents = 64");
    Host::builder().guest("leak").guest("oom").guest("puppet").toml(&settings)
}

fn evictions(host: &Host) -> Vec<Value> {
    host.crashes()
        .into_iter()
        .filter(|crash| crash["reason"] == "evicted_memory_pressure")
        .collect()
}

/// Resident bytes of a process that no file stands behind.
fn anon_bytes(host: &Host) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", host.pid())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() * 1024
}

#[test]
fn the_worst_goes_with_a_story_and_comes_back_when_there_is_memory() {
    let host = host()
        .role("mayor", "leak", "memory_limit_mb = 64")
        .role(
            "big",
            "leak",
            "memory_limit_mb = 400\nmax_attempts = 1\nrestart = \"transient\"\nrestart_backoff_ms = 1",
        )
        .role("small", "leak", "memory_limit_mb = 400")
        .start();
    let client = host.client();
    for agent in ["mayor", "big", "small"] {
        client.start(agent, agent);
    }
    // The mayor uses most of its limit, and yet is spared.
    assert_eq!(client.ask("mayor", "leak 40000"), "40000");
    assert_eq!(client.ask("small", "leak 20000"), "20000");
    // In one turn, which cannot end before: an agent that is evicted between two turns has no sender to answer, and
    // refuses the next one while it stops.
    let answer = client.send_wait("big", "leak 4096 every 1 times 90").expect_error(502, &[]);
    assert_eq!(answer.exit_reason.as_deref(), Some("evicted_memory_pressure"), "{answer:#?}");
    let crash = host.wait_for_line("the crash", |line| line["event"] == "agent.crash");
    assert_eq!(
        (&crash["agentId"], &crash["reason"]),
        (&"big".into(), &"evicted_memory_pressure".into())
    );
    let eviction = &crash["eviction"];
    assert!(eviction["score"].as_f64() > Some(0.0), "{crash:#}");
    assert!(eviction["usedBytes"].as_u64() > Some(50 * MIB), "{crash:#}");
    assert_eq!(eviction["containerLimitBytes"], BUDGET_MB * MIB, "{crash:#}");
    assert!(eviction["containerUsedBytes"].as_u64() >= Some(BUDGET_MB * MIB * 9 / 10), "{crash:#}");
    assert_eq!(eviction["alternatives"][0]["agentId"], "small", "{crash:#}");
    assert!(!eviction["alternatives"].to_string().contains("mayor"), "{crash:#}");
    assert_eq!(crash["consequence"]["decision"], "restart", "{crash:#}");
    let message = crash["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("ended to save the others"), "{message}");
    client.runs("big", 2);
    assert_eq!(client.ask("big", "here"), "here");
    assert_eq!(client.ask("small", "leak 1"), "20001");
    assert_eq!(client.ask("mayor", "leak 1"), "40001");
    host.finish();
}

/// An agent that allocates as fast as a core can, beside one that answers all the time: it is stopped in its
/// growth before the budget is used up.
#[test]
fn nobody_grows_past_the_budget_however_fast() {
    let host = host().role("hasty", "oom", "memory_limit_mb = 1024").start();
    let bystander = Bystander::begin(host.client());
    host.client().start("hasty", "hasty");
    let (over, most) = (AtomicBool::new(false), AtomicU64::new(0));
    let answer = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(anon_bytes(&host), Ordering::Relaxed);
                // A rate: one reading a millisecond.
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let answer = host.client().try_send_wait("hasty", "oom");
        over.store(true, Ordering::Relaxed);
        answer
    });
    let answer = answer.expect("the host answers").expect_error(502, &[]);
    assert_eq!(answer.exit_reason.as_deref(), Some("evicted_memory_pressure"), "{answer:#?}");
    let most = most.into_inner();
    assert!(most > BUDGET_MB * MIB / 2, "it was seen growing: {most}");
    assert!(most <= BUDGET_MB * MIB, "{most} bytes of {BUDGET_MB} MiB were used");
    bystander.wait_for_more();
    bystander.check();
    drop(bystander);
    host.finish();
}

#[test]
fn a_start_that_would_commit_too_much_is_refused_with_the_figures() {
    // (320 - 64) MiB, committed twice: eight agents of 64 MiB, no matter which uses what.
    let host = host().toml("[memory]\novercommit = 2").role("plain", "puppet", "").start();
    let client = host.client();
    for n in 0..8 {
        client.start(&format!("a{n}"), "plain");
    }
    let refused = client.start_with("a8", "plain", json!({}));
    let refused = refused.expect_error(503, &["64 MiB", "512 of 512 MiB are committed"]);
    assert_eq!(
        (refused.phase.as_deref(), refused.error_type.as_deref()),
        (Some("admission"), Some("memory"))
    );
    // One that takes the place of another adds nothing.
    client.start_with("a7", "plain", json!({"prompt": "another spec"})).expect(201);
    client.stop("a0").expect(200);
    client.start("a8", "plain");
    client.start_with("a9", "plain", json!({})).expect_error(503, &["committed"]);
    assert_eq!(client.metrics()["bulkhead_memory_committed_bytes"], 512.0 * MIB as f64);
    host.finish();
}

/// Fifty agents that grow at once, in a group that holds a sixth of what they may take.
fn grow_all(host: &Host) {
    for n in 0..GROWING {
        host.client().start(&format!("leak-{n}"), "leak");
    }
    std::thread::scope(|scope| {
        for n in 0..GROWING {
            scope.spawn(move || {
                let agent = format!("leak-{n}");
                // A host that is killed answers nobody any more.
                while let Ok(answer) = host.client().try_send_wait(&agent, "leak 1024") {
                    if answer.status != 200 {
                        break;
                    }
                }
            });
        }
    });
}

fn crowd(group: &MemoryGroup) -> HostBuilder {
    let entrance = group.entrance();
    let entrance: Vec<&str> = entrance.iter().map(String::as_str).collect();
    Host::builder().guest("leak").role("leak", "leak", "memory_limit_mb = 64").run_by(&entrance)
}

fn group() -> Option<MemoryGroup> {
    MemoryGroup::with_limit(GROUP_BYTES)
        .inspect_err(|reason| harness::skip(Need::Cgroup, reason))
        .ok()
}

#[test]
fn fifty_that_grow_at_once_go_one_by_one_and_the_kernel_kills_nobody() {
    let _lock = kills_are_mine();
    let Some(group) = group() else { return };
    let host = crowd(&group).start();
    let bystander = Bystander::begin(host.client());
    grow_all(&host);
    bystander.wait_for_more();
    bystander.check();
    drop(bystander);
    assert_eq!(group.oom_kills(), 0);
    wait_until("each one ended", || host.crashes().len() == GROWING);
    // What is left in the end has room to grow up to its own limit.
    let reasons: HashSet<_> = host
        .crashes()
        .iter()
        .map(|crash| crash["reason"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert!(
        reasons
            .iter()
            .all(|reason| ["evicted_memory_pressure", "memory_limit"].contains(&reason.as_str())),
        "{reasons:?}"
    );
    let evicted = evictions(&host);
    assert!(evicted.len() >= GROWING / 2, "{} of {GROWING} were evicted", evicted.len());
    let says_why = |crash: &Value| {
        let message = crash["message"].as_str().unwrap_or_default();
        crash["eviction"]["score"].is_f64() || message.contains("the container has no room")
    };
    assert!(evicted.iter().all(says_why), "each says its score: {evicted:#?}");
    host.finish();
}

#[test]
fn the_same_without_shedding_is_killed_and_the_next_run_knows() {
    let _lock = kills_are_mine();
    let Some(group) = group() else { return };
    let host = crowd(&group).toml("[memory]\nshed = false").supervise().start().ready();
    grow_all(&host);
    let line = host.wait_for_number(&["container.previous_run"], 2);
    assert_eq!((&line["cause"], &line["signal"]), (&"oom_kill".into(), &9.into()), "{line:#}");
    assert!(line["evidence"].to_string().contains("out-of-memory kills"), "{line:#}");
    host.ready().finish();
}

/// Agents of a mebibyte or two.
const SMALL: usize = 8;

/// Processes of a group that hold memory, until it is dropped.
struct Filler(Child);

impl Filler {
    fn begin(entrance: &[&str], bytes: u64) -> Self {
        // The last one reads nothing, so the one before keeps all of it.
        let script = format!("head -c {bytes} /dev/zero | tail -c {bytes} | sleep 600");
        let mut command = Command::new(entrance[0]);
        command.args(&entrance[1..]).args(["sh", "-c", &script]).process_group(0);
        Self(command.spawn().expect("start a process"))
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        if let Some(group) = Pid::from_raw(self.0.id().cast_signed()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

/// Compilers go for it, and what cannot go stays. The end of all small agents together would free less than a quarter of
/// what is needed.
#[test]
fn what_fills_the_container_and_is_no_agent_takes_none_with_it() {
    let _lock = kills_are_mine();
    let Some(group) = group() else { return };
    let entrance = group.entrance();
    let entrance: Vec<&str> = entrance.iter().map(String::as_str).collect();
    let dir = tempfile::tempdir().expect("make a directory");
    let host = Host::builder()
        .component("one", &bomb(&dir, "one.wasm", BLOCKS))
        .component("other", &bomb(&dir, "other.wasm", BLOCKS - 1))
        .role("one", "one", "")
        .role("other", "other", "")
        .role("small", "echo", "restart = \"permanent\"")
        // More than there is, so that the compiler does not end by itself.
        .toml("[limits]\ncompile_memory_mb = 2048")
        .run_by(&entrance)
        .start();
    let client = host.client();
    let small: Vec<_> = (0..SMALL).map(|n| format!("small-{n}")).collect();
    small.iter().for_each(|agent| drop(client.start(agent, "small")));
    let mut before = None;
    for bomb in ["one", "other"] {
        client.start_with(bomb, bomb, json!({"deadlineMs": 200})).expect_error(504, &["still"]);
        let compiler = compiler_but(&host, before);
        let is_over = || !host.events_of(bomb, "agent.start_failed").is_empty();
        wait_until("it fills the container", || group.share() > 0.91 || is_over());
        // Held, or the kernel might be faster than the host. One that is gone already needs no hold.
        let _ = kill_process(compiler, Signal::STOP);
        let failed = host.wait_for_event(bomb, "agent.start_failed");
        assert!(failed["error"].to_string().contains("memory is short"), "{failed}");
        before = Some(compiler);
    }
    // What it had is free then, and not while the share is read.
    no_compiler_is_left(&host);
    wait_until("memory is short no more", || client.metrics()["bulkhead_memory_high"] == 0.0);
    let bytes = (0.94 - group.share()) * GROUP_BYTES as f64;
    let filler = Filler::begin(&entrance, bytes as u64);
    wait_until("memory is short", || client.metrics()["bulkhead_memory_high"] == 1.0);
    let sweeps = || client.metrics()["bulkhead_memory_sweeps_total"];
    let before = sweeps();
    wait_until("it was thought about", || sweeps() >= before + 2.0);
    assert_eq!(client.metrics()["bulkhead_memory_high"], 1.0);
    // While it is there: when it goes, little is missing for a moment, and an agent may be the answer to that.
    for agent in &small {
        assert_eq!(client.status(agent).incarnation.0, 1);
    }
    assert!(host.crashes().is_empty(), "{:?}", host.crashes());
    drop(filler);
    wait_until("memory is short no more", || client.metrics()["bulkhead_memory_high"] == 0.0);
    for agent in &small {
        assert_eq!(client.ask(agent, "well?"), "well?");
    }
    assert_eq!(group.oom_kills(), 0);
    no_compiler_is_left(&host);
    host.finish();
}

/// An agent grows beside a program that has half of the container. `own` is the group that the host runs in, where it is not
/// the one of the program.
fn grows_beside_others_that_took_the_room(
    settings: &str,
    own: impl FnOnce(&MemoryGroup) -> Option<MemoryGroup>,
    message: &str,
) {
    let _lock = kills_are_mine();
    let Some(group) = group() else { return };
    let own = own(&group);
    let entrance = group.entrance();
    let entrance: Vec<&str> = entrance.iter().map(String::as_str).collect();
    let inside = own.as_ref().unwrap_or(&group).entrance();
    let inside: Vec<&str> = inside.iter().map(String::as_str).collect();
    let host = Host::builder()
        .guest("leak")
        .role("leak", "leak", "memory_limit_mb = 1024\nmax_attempts = 1")
        .toml(settings)
        .run_by(&inside)
        .start();
    host.client().start("leak", "leak");
    let filler = Filler::begin(&entrance, GROUP_BYTES / 2);
    wait_until("the room is taken", || group.share() > 0.5);
    let answer = host.client().try_send_wait("leak", message);
    let answer = answer.expect("the host answers").expect_error(502, &[]);
    assert_eq!(answer.exit_reason.as_deref(), Some("evicted_memory_pressure"), "{answer:#?}");
    assert_eq!(group.oom_kills() + own.as_ref().map_or(0, MemoryGroup::oom_kills), 0);
    drop(filler);
    host.finish();
}

/// All of the group in a quarter of the time between two checks.
#[test]
fn a_guest_that_grows_fast_goes_before_the_kernel_kills() {
    grows_beside_others_that_took_the_room("", |_| None, "leak 4096 every 0 times 128");
}

/// When what the last check found is no longer so.
#[test]
fn a_guest_that_grows_at_once_is_told_what_there_is_now() {
    grows_beside_others_that_took_the_room("", |_| None, "leak 409600");
}

#[test]
fn a_budget_that_the_container_does_not_have_any_more_is_no_room() {
    let settings = "[memory]\nbudget_mb = 400";
    grows_beside_others_that_took_the_room(settings, |_| None, "leak 4096 every 0 times 128");
}

/// As a service of a slice has it, or a container of a pod: its own limit is the smaller one, and the other the nearer.
#[test]
fn a_limit_that_the_group_above_does_not_have_any_more_is_no_room() {
    let own = |group: &MemoryGroup| Some(group.below(GROUP_BYTES * 15 / 16).expect("a group"));
    grows_beside_others_that_took_the_room("", own, "leak 4096 every 0 times 128");
}

/// Agents that each run a program of 100 MB.
const TOOLS: usize = 20;

#[test]
fn twenty_programs_that_do_not_fit_end_and_no_agent_does() {
    let _lock = kills_are_mine();
    let Some(group) = group() else { return };
    let entrance = group.entrance();
    let entrance: Vec<&str> = entrance.iter().map(String::as_str).collect();
    let host = Host::builder()
        .component("toolbox", &files::component("toolbox"))
        .role("toolbox", "toolbox", "tools = [\"sh\"]\nmax_attempts = 1")
        .run_by(&entrance)
        .start();
    let bystander = Bystander::begin(host.client());
    let agents: Vec<_> = (0..TOOLS).map(|number| format!("agent-{number}")).collect();
    for agent in &agents {
        host.client().start(agent, "toolbox");
    }
    // It holds all of it until it is told to go on.
    let script =
        "head -c 100M /dev/zero | tail -c 100M | (until [ -e go ]; do sleep 0.2; done; wc -c)";
    let order = json!({"do": "run", "run": ["sh", "-c", script]}).to_string();
    let evicted = || {
        let ended = host.events_named("agent.tool_exited");
        ended.iter().filter(|line| line["end"] == "evicted").count()
    };
    let ends: Vec<String> = std::thread::scope(|scope| {
        let asked: Vec<_> =
            agents.iter().map(|agent| scope.spawn(|| host.client().ask(agent, &order))).collect();
        wait_until("half of them are evicted", || evicted() >= TOOLS / 2);
        agents.iter().for_each(|agent| host.release(agent));
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    bystander.wait_for_more();
    bystander.check();
    drop(bystander);
    let count = |end: &str| ends.iter().filter(|reply| reply.contains(end)).count();
    let (exited, evicted, limit) =
        (count("\"exited\""), count("\"evicted\""), count("\"memory-limit\""));
    eprintln!("exited {exited} evicted {evicted} limit {limit} kills {}", group.oom_kills());
    assert_eq!((exited + evicted, limit), (TOOLS, 0), "{ends:?}");
    assert!(evicted >= TOOLS / 2 && exited > 0, "{ends:?}");
    assert!(host.crashes().is_empty());
    // The kernel kills among the tools, at the limit of all tools: the container's is never reached.
    assert_eq!(group.oom_kills(), 0);
    host.finish();
}
