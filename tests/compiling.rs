//! Components that take longer to compile than their start may take, and agents that do not come up.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use bulkhead_api::{Health, Readiness, StartAnswer};
use harness::{Answer, Host, HostBuilder, Value, files, json, processes, wait_until};
use tempfile::TempDir;

/// Below what the slow component takes to compile, above what its agent takes to start.
const START_MS: u64 = 1000;

/// Functions of the slow component that nobody calls. They take some seconds on one core.
const FUNCTIONS: usize = 12_000;

/// More than a caller's deadline, far less than compiling takes on a machine that does nothing else.
const SLACK: Duration = Duration::from_secs(10);

/// Writes a component that answers like `echo` and takes long to compile. Its bytes are its own: `salt` is among them.
fn slow(dir: &TempDir, name: &str, salt: u32) -> PathBuf {
    let body = "(local.set 1 (i32.mul (i32.xor (local.get 0) (local.get 1)) (i32.rotl (local.get 1) \
                (local.get 0)))) (if (i32.lt_u (local.get 1) (i32.const 7)) (then (local.set 0 (i32.add \
                (local.get 0) (local.get 1)))))";
    let function =
        format!("(func (param i32) (result i32) (local i32) {} (local.get 1))", body.repeat(12));
    let module = format!("(module (global i32 (i32.const {salt})) {})", function.repeat(FUNCTIONS));
    let module = wat::parse_str(module).expect("a module");
    let path = dir.path().join(name);
    fs::write(&path, files::echo_with(&module)).expect("write the component");
    path
}

fn dir() -> TempDir {
    tempfile::tempdir().expect("make a directory")
}

/// A host with a role `slow` of a component that is not compiled.
fn builder(path: &std::path::Path, settings: &str) -> HostBuilder {
    let settings = format!("start_ms = {START_MS}\n{settings}");
    Host::builder().component("slow", path).role("slow", "slow", &settings)
}

fn missing(host: &Host) -> Vec<(String, String)> {
    let ready: Readiness = host.client().get("/readyz").read(200);
    assert_eq!(ready.missing, ready.agents.len(), "{ready:?}");
    let agents = ready.agents.into_iter();
    agents.map(|agent| (agent.agent_id.to_string(), agent.status.into_owned())).collect()
}

#[test]
fn agents_come_up_whose_components_compile_for_longer_than_their_start_may_take() {
    let dir = dir();
    let (js, py) = (slow(&dir, "js.wasm", 1), slow(&dir, "py.wasm", 2));
    let role = format!("start_ms = {START_MS}");
    let host = Host::builder()
        .component("js", &js)
        .component("py", &py)
        .role("js", "js", &role)
        .role("py", "py", &format!("{role}\nrestart = \"permanent\""))
        .agent("id = \"j\"\nrole = \"js\"")
        .agent("id = \"p\"\nrole = \"py\"")
        .toml("[limits]\nhydration_ms = 500")
        .start()
        .ready();
    for agent in ["j", "p"] {
        assert_eq!(host.client().status(agent).status, "starting", "while it is compiled");
    }
    assert_eq!(missing(&host), [], "what starts is not missing");
    for agent in ["j", "p"] {
        let status = host.client().reaches(agent, "running");
        assert_eq!(status.incarnation.0, 1, "{status:?}");
        assert_eq!(host.client().ask(agent, "hi"), "hi");
        let is_it = |line: &Value| line["event"] == "agent.start" && line["agentId"] == agent;
        let start = &host.wait_for_line("the start", is_it)["timings"];
        assert!(start["compileUs"].as_u64() > Some(START_MS * 1000), "too quick to show: {start}");
    }
    host.client().health();
    host.finish();
}

#[test]
fn a_caller_is_answered_at_its_deadline_and_the_start_goes_on() {
    let dir = dir();
    let host = builder(&slow(&dir, "slow.wasm", 3), "").start().ready();
    let began = Instant::now();
    let answer = host.client().start_with("one", "slow", json!({}));
    let took = began.elapsed();
    assert!(took < Duration::from_millis(START_MS) + SLACK, "answered after {took:?}");
    let parts = ["still compiling", " s so far", "`bulkhead compile` does it ahead"];
    // On a busy machine it was not even read by then.
    let is_read = |answer: &Answer| !answer.text.contains("still waiting to be loaded");
    let answers = std::iter::once(answer)
        .chain(std::iter::repeat_with(|| host.client().start_with("one", "slow", json!({}))));
    let answer = answers.take(60).find(is_read).expect("it is read").expect_error(504, &parts);
    let found = (answer.phase.as_deref(), answer.status);
    assert_eq!(found, (Some("compile"), Some(504)), "{answer:?}");
    assert_eq!(answer.error_type.as_deref(), Some("still-compiling"), "{answer:?}");
    assert!(answer.action.as_deref().is_some_and(|action| action.contains("wait")), "{answer:?}");
    assert_eq!(host.client().status("one").status, "starting");
    // An equal start joins it, whatever its own deadline is.
    // The client of the tests waits for a minute at most.
    let body = json!({"deadlineMs": 50_000});
    let joined = std::iter::repeat_with(|| host.client().start_with("one", "slow", body.clone()))
        .take(10)
        .find(|answer| answer.status != 504)
        .expect("it is compiled within minutes");
    assert!(matches!(joined.status, 200 | 201), "{}", joined.text);
    let joined: StartAnswer = joined.read(joined.status);
    assert_eq!((joined.joined, joined.agent.incarnation.0), (true, 1));
    assert_eq!(host.client().ask("one", "hi"), "hi");
    // Compiled once, and within the deadline from now on.
    host.client().start("two", "slow");
    let lines = host.finish();
    let is_it = |line: &&Value| {
        line["event"] == "container.component_loaded" && line["component"] == "slow"
    };
    assert_eq!(lines.iter().filter(is_it).count(), 1);
    let failed = lines.iter().filter(|line| line["event"] == "agent.start_failed");
    assert_eq!(failed.count(), 0, "it did not fail");
}

#[test]
fn a_start_whose_caller_has_left_can_be_stopped_and_superseded() {
    let dir = dir();
    let host = builder(&slow(&dir, "slow.wasm", 4), "").start().ready();
    let body = json!({"deadlineMs": 100});
    host.client().start_with("one", "slow", body.clone()).expect_error(504, &["still"]);
    host.client().start_with("two", "slow", body).expect_error(504, &["still"]);
    host.client().stop("one").expect(200);
    assert_eq!(host.client().start("two", "echo").agent.incarnation.0, 2);
    assert_eq!(host.client().ask("two", "hi"), "hi");
    let lines = host.finish();
    let superseded = lines.iter().filter(|line| line["event"] == "agent.start_superseded");
    assert_eq!(superseded.count(), 2);
}

#[test]
fn compiling_has_a_bound_of_its_own_and_ends_when_nobody_waits_any_more() {
    let dir = dir();
    let backoff = "restart = \"permanent\"\nrestart_backoff_ms = 50\nrestart_backoff_max_ms = 50";
    let host = builder(&slow(&dir, "slow.wasm", 5), backoff)
        .toml(&format!("[limits]\ncompile_ms = {START_MS}"))
        .agent("id = \"boot\"\nrole = \"slow\"")
        .start()
        .ready();
    // Its caller waits for longer than that.
    let body = json!({"deadlineMs": 30_000});
    let answer = host.client().start_with("one", "slow", body);
    let answer =
        answer.expect_error(504, &[&format!("within {START_MS} ms"), "limits.compile_ms", "again"]);
    assert_eq!(
        (answer.phase.as_deref(), answer.error_type.as_deref()),
        (Some("compile"), Some("compile-deadline"))
    );
    assert_eq!(host.client().get("/agents/one/status").status, 404, "its caller knows");
    // It is no fault of the agent: that is tried again, for as long as the host is there.
    host.wait_for_number(&["agent.restart_scheduled"], 6);
    assert!(host.client().status("boot").restart.quarantine.is_none());
    host.client().stop("boot").expect(200);
    wait_until("nothing is compiled", || processes::all_children(host.supervisor_pid()).is_empty());
    // Ahead of a start it is compiled without that bound.
    let config = host.dir().join("bulkhead.toml");
    let output = Command::new(files::binary()).arg("compile").arg("--config").arg(config).output();
    assert!(output.expect("run bulkhead").status.success());
    host.client().start("one", "slow");
    let lines = host.finish();
    let loaded = lines.iter().filter(|line| line["event"] == "container.component_loaded");
    let slow: Vec<_> = loaded.filter(|line| line["component"] == "slow").collect();
    assert_eq!(slow.len(), 1, "{slow:?}");
    assert_eq!(slow[0]["source"], "cache");
}

#[test]
fn an_agent_whose_component_is_not_there_shows_and_comes_up_when_it_is() {
    let dir = dir();
    let path = dir.path().join("late.wasm");
    let backoff = "restart = \"transient\"\nrestart_backoff_ms = 20\nrestart_backoff_max_ms = 20";
    let host = Host::builder()
        .component("late", &path)
        .role("late", "late", backoff)
        .role("never", "late", "")
        .agent("id = \"late\"\nrole = \"late\"\nprompt = \"the first message\"")
        .agent("id = \"never\"\nrole = \"never\"")
        .open()
        .start()
        .ready();
    // More than the restarts that an agent at fault would have.
    host.wait_for_number(&["agent.restart_scheduled"], 8);
    wait_until("it rests", || host.client().status("late").status == "backoff");
    let status = host.client().reaches("never", "failed");
    assert_eq!(status.exit_reason.as_deref(), Some("start_failed"), "{status:?}");
    let exit = status.exit.expect("more about the end");
    assert!(exit.message.contains("late.wasm"), "{exit:?}");
    assert!(exit.crash_id.is_none(), "nothing lived: {exit:?}");
    let names: Vec<_> = missing(&host).into_iter().map(|(agent, _)| agent).collect();
    assert_eq!(names.last().map(String::as_str), Some("never"));
    let strict = host.client().get("/readyz?strict=true").expect_error(503, &["never"]);
    assert_eq!(strict.error_type.as_deref(), Some("agents-missing"), "{strict:?}");
    let health: Health = host.client().get("/health").read(200);
    assert_eq!((&*health.status, health.missing), ("degraded", 1));
    assert_eq!(host.client().metrics()["bulkhead_agents_missing{state=\"failed\"}"], 1.0);
    // One that is being started at this very moment is not missing.
    wait_until("the page names both", || {
        let status = Command::new(files::binary())
            .args(["status", "--url", &format!("http://{}", host.address())])
            .output()
            .expect("run bulkhead");
        let page = String::from_utf8_lossy(&status.stdout).into_owned();
        ["missing    2 agents", "never: failed: component late", "late: backoff: "]
            .iter()
            .all(|part| page.contains(part))
    });
    // It takes messages, as in any backoff.
    host.client().send("late", "a second one").expect(200);
    // All of it at once: half a component is an invalid one.
    let beside = dir.path().join("beside");
    fs::copy(files::component("echo"), &beside).expect("bring the component");
    fs::rename(beside, &path).expect("put it in its place");
    let status = host.client().reaches("late", "running");
    assert_eq!(status.restart.attempts_in_window, 0, "{status:?}");
    wait_until("it has its mail", || host.client().status("late").message_count == 2);
    assert_eq!(missing(&host), [("never".to_owned(), "failed".to_owned())]);
    // One that failed can be started, and then nobody is missing.
    host.client().start("never", "never");
    assert_eq!(missing(&host), []);
    host.client().health();
    assert!(host.crashes().is_empty());
    host.finish();
}

#[test]
fn one_that_failed_and_was_stopped_is_not_missed_any_more_now_or_later() {
    let dir = dir();
    let path = dir.path().join("bad.wasm");
    fs::write(&path, "no component").expect("write a file");
    let mut host = Host::builder()
        .component("bad", &path)
        .role("bad", "bad", "restart = \"permanent\"")
        .role("rests", "bad", "restart = \"permanent\"")
        .agent("id = \"bad\"\nrole = \"bad\"")
        .agent("id = \"worse\"\nrole = \"bad\"")
        .start()
        .ready();
    for agent in ["bad", "worse"] {
        let status = host.client().reaches(agent, "failed");
        assert_eq!(status.incarnation.0, 1, "no retry can help: {status:?}");
    }
    assert_eq!(host.client().list().len(), 2);
    host.client().stop("bad").expect(200);
    assert_eq!(missing(&host), [("worse".to_owned(), "failed".to_owned())]);
    host.signal(rustix::process::Signal::KILL);
    host.wait();
    fs::copy(files::component("echo"), &path).expect("repair the component");
    let second = host.restart().ready();
    second.client().reaches("worse", "running");
    assert_eq!(second.client().get("/agents/bad/status").status, 404, "somebody stopped it");
    assert_eq!(missing(&second), []);
    second.finish();
}

#[test]
fn a_rest_of_a_start_ends_by_a_stop_a_start_and_a_drain() {
    let dir = dir();
    let path = dir.path().join("late.wasm");
    let long = "restart = \"permanent\"\nrestart_backoff_ms = 31536000000\n\
        restart_backoff_max_ms = 31536000000";
    let host = Host::builder()
        .component("late", &path)
        .role("late", "late", long)
        .agent("id = \"stopped\"\nrole = \"late\"")
        .agent("id = \"started\"\nrole = \"late\"")
        .agent("id = \"drained\"\nrole = \"late\"")
        .start()
        .ready();
    for agent in ["stopped", "started", "drained"] {
        let status = host.client().reaches(agent, "backoff");
        assert!(status.restart.next_restart_at.is_some(), "{status:?}");
    }
    assert_eq!(host.client().metrics()["bulkhead_places_used"], 0.0, "no agent is active");
    host.client().stop("stopped").expect(200);
    assert_eq!(host.client().status("stopped").status, "exited");
    // A start that fails as well leaves it as it was.
    host.client().start_with("started", "late", json!({})).expect_error(422, &["late.wasm"]);
    assert_eq!(host.client().status("started").status, "backoff");
    fs::copy(files::component("echo"), &path).expect("bring the component");
    host.client().start("started", "late");
    assert_eq!(host.client().ask("started", "hi"), "hi");
    let lines = host.finish();
    let by = |agent: &str| {
        let is_it =
            |line: &&Value| line["event"] == "agent.restart_cancelled" && line["agentId"] == agent;
        lines.iter().find(is_it).map(|line| line["by"].clone())
    };
    assert_eq!(by("stopped"), Some("control-api".into()));
    assert_eq!(by("started"), Some("start".into()));
    assert_eq!(by("drained"), Some("drain".into()));
}
