//! The compiler is a process of its own: what a component does to it is a failed start, and never a host that dies.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use harness::processes::{all_children, is_alive};
use harness::{Host, HostBuilder, Value, files, json, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Blocks of the bomb's function. It has just less than the mebibyte that a function may have, and takes minutes and
/// gigabytes.
pub(crate) const BLOCKS: u32 = 70_000;

/// Local variables of it, which all blocks use.
const LOCALS: u32 = 2000;

/// A bomb's compiler ends by itself after twice as long at least, and a kill takes milliseconds.
const FAR_BELOW_A_COMPILE: Duration = Duration::from_secs(5);

/// A host has this much time for what takes it milliseconds.
const SOON: &str = r#"{"deadlineMs": 200}"#;

fn leb(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn section(id: u8, contents: &[u8]) -> Vec<u8> {
    [vec![id], leb(contents.len() as u32), contents.to_vec()].concat()
}

/// A core module with one function of so many blocks, each of which may be left and changes a variable.
fn bomb_module(blocks: u32) -> Vec<u8> {
    let mut random = 1u32;
    let mut local = || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        leb((random >> 8) % LOCALS)
    };
    let mut body = [&[1][..], &leb(LOCALS), &[0x7f]].concat();
    for _ in 0..blocks {
        body.extend([0x02, 0x40, 0x20]);
        body.extend(local());
        body.extend([0x0d, 0, 0x20]);
        body.extend(local());
        body.push(0x21);
        body.extend(local());
        body.push(0x0b);
    }
    body.extend([0x41, 0, 0x0b]);
    let code = [&[1][..], &leb(body.len() as u32), &body].concat();
    let types = section(1, &[1, 0x60, 0, 1, 0x7f]);
    [b"\0asm\x01\0\0\0".to_vec(), types, section(3, &[1, 0]), section(10, &code)].concat()
}

pub(crate) fn bomb(dir: &TempDir, name: &str, blocks: u32) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, files::echo_with(&bomb_module(blocks))).expect("write the component");
    path
}

fn dir() -> TempDir {
    tempfile::tempdir().expect("make a directory")
}

/// A host with a role `bomb`.
fn builder(dir: &TempDir) -> HostBuilder {
    Host::builder()
        .compiles()
        .component("bomb", &bomb(dir, "bomb.wasm", BLOCKS))
        .role("bomb", "bomb", "")
}

fn soon() -> Value {
    SOON.parse().expect("JSON")
}

/// Starts an agent of the bomb, whose caller soon leaves. Returns the process that compiles, which is held: it does not
/// end by itself, however long a test takes.
fn start_bomb(host: &Host, agent: &str, role: &str) -> Pid {
    host.client().start_with(agent, role, soon()).expect_error(504, &["still"]);
    let pid = compiler(host);
    kill_process(pid, Signal::STOP).expect("hold the compiler");
    pid
}

/// The process that compiles, when it has bounded itself: it has its name from then on.
fn compiler(host: &Host) -> Pid {
    compiler_but(host, None)
}

/// A compiler that is not the one before, which may still be on its way out.
pub(crate) fn compiler_but(host: &Host, before: Option<Pid>) -> Pid {
    let supervisor = host.supervisor_pid();
    let is_one = |pid: &Pid| name(*pid) == "bulkhead-aot" && Some(*pid) != before;
    let found = || all_children(supervisor).into_iter().find(is_one);
    wait_until("a compiler is there", || found().is_some());
    found().expect("it is there")
}

fn name(pid: Pid) -> String {
    let comm = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()));
    comm.unwrap_or_default().trim().to_owned()
}

pub(crate) fn no_compiler_is_left(host: &Host) {
    let supervisor = host.supervisor_pid();
    wait_until("no compiler is left", || all_children(supervisor).is_empty());
}

#[test]
fn two_bombs_hold_up_no_start_of_others() {
    let dir = dir();
    let other = bomb(&dir, "other.wasm", BLOCKS - 1);
    let host = builder(&dir)
        .component("other", &other)
        .role("other", "other", "")
        .guest("puppet")
        .start()
        .ready();
    let first = start_bomb(&host, "one", "bomb");
    host.client().start_with("two", "other", soon()).expect_error(504, &["waiting to be loaded"]);
    // Neither is in the cache.
    host.client().start("echo", "echo");
    host.client().start("puppet", "puppet");
    assert_eq!(host.client().ask("echo", "hi"), "hi");
    assert!(is_alive(first), "the bomb is compiled all the while");
    assert_eq!(all_children(host.supervisor_pid()), [first], "one bomb at a time");
    for agent in ["one", "two"] {
        assert_eq!(host.client().status(agent).status, "starting");
        host.client().stop(agent).expect(200);
    }
    no_compiler_is_left(&host);
    assert!(host.crashes().is_empty());
    host.finish();
}

#[test]
fn the_compiler_is_killed_when_no_start_waits_for_it_any_more() {
    let dir = dir();
    let host = builder(&dir).start().ready();
    let pid = start_bomb(&host, "one", "bomb");
    host.client().start_with("two", "bomb", soon()).expect_error(504, &["still compiling"]);
    // The 504 is the caller's end, and not the start's.
    assert!(is_alive(pid));
    host.client().stop("one").expect(200);
    assert!(is_alive(pid), "the other one waits for it");
    // A start that takes over is a stop as well.
    host.client().start("two", "echo");
    wait_until("it is killed", || !is_alive(pid));
    no_compiler_is_left(&host);
    host.client().health();
    host.finish();
}

#[test]
fn a_drain_kills_the_compiler_and_does_not_wait_for_it() {
    let dir = dir();
    let host = builder(&dir).agent("id = \"boot\"\nrole = \"bomb\"").start();
    let pid = compiler(&host);
    kill_process(pid, Signal::STOP).expect("hold the compiler");
    host.finish();
    assert!(!is_alive(pid));
}

#[test]
fn a_compiler_does_not_outlive_its_host() {
    let dir = dir();
    let mut host = builder(&dir).start().ready();
    host.client().start_with("one", "bomb", soon()).expect_error(504, &["still"]);
    // Not held: the kernel ends a process that is stopped and orphaned, whatever it asked for.
    let pid = compiler(&host);
    host.signal(Signal::KILL);
    host.wait();
    let killed = Instant::now();
    wait_until("it went with its host", || !is_alive(pid));
    assert!(killed.elapsed() < FAR_BELOW_A_COMPILE, "it ended by itself");
}

#[test]
fn more_memory_than_it_may_take_is_an_answer_that_stays() {
    let dir = dir();
    let host = builder(&dir)
        .toml("[limits]\ncompile_memory_mb = 96")
        .role("again", "bomb", "restart = \"permanent\"\nrestart_backoff_ms = 1")
        .agent("id = \"boot\"\nrole = \"again\"")
        .start()
        .ready();
    let status = host.client().reaches("boot", "failed");
    assert_eq!(status.exit_reason.as_deref(), Some("start_failed"), "{status:?}");
    for agent in ["one", "two"] {
        let answer = host.client().start_with(agent, "bomb", json!({}));
        let answer = answer.expect_error(422, &["limits.compile_memory_mb, which is 96"]);
        assert_eq!(
            (answer.phase.as_deref(), answer.error_type.as_deref()),
            (Some("compile"), Some("compile-memory"))
        );
    }
    // The host has all the room that it had.
    host.client().start("echo", "echo");
    assert!(host.crashes().is_empty());
    let lines = host.finish();
    let again = lines.iter().filter(|line| line["event"] == "agent.restart_scheduled");
    assert_eq!(again.count(), 0, "nothing changes while the file is the same");
}

#[test]
fn more_cpu_time_than_it_may_take_is_one_as_well() {
    let dir = dir();
    let host = builder(&dir).toml("[limits]\ncompile_cpu_ms = 1000").start().ready();
    let answer = host.client().start_with("one", "bomb", json!({}));
    let answer = answer.expect_error(422, &["limits.compile_cpu_ms, which is 1000"]);
    assert_eq!(answer.error_type.as_deref(), Some("compile-time"), "{answer:?}");
    host.client().start("echo", "echo");
    host.finish();
}

#[test]
fn a_compiler_that_crashes_is_a_failed_start_with_its_signal() {
    let dir = dir();
    let host = builder(&dir).start().ready();
    let mut before = None;
    for (signal, status, kind, named) in [
        (Signal::KILL, 503, "compiler-killed", "from outside"),
        // Of a SIGSEGV that no access caused, Rust's handler takes the first one.
        (Signal::ABORT, 422, "compiler-crashed", "SIGABRT"),
    ] {
        let answer = std::thread::scope(|scope| {
            let start = || host.client().start_with("one", "bomb", json!({}));
            let start = scope.spawn(start);
            let compiler = compiler_but(&host, before.take());
            kill_process(compiler, signal).expect("kill the compiler");
            before = Some(compiler);
            start.join().expect("an answer")
        });
        let answer = answer.expect_error(status, &[named, "bomb"]);
        assert_eq!(answer.error_type.as_deref(), Some(kind), "{answer:?}");
    }
    let again = host.client().start_with("two", "bomb", json!({}));
    again.expect_error(422, &["SIGABRT"]);
    // Another file is another component.
    let path = dir.path().join("bomb.wasm");
    fs::remove_file(&path).expect("remove the bomb");
    fs::copy(files::component("echo"), &path).expect("put another one there");
    host.client().start("two", "bomb");
    assert!(host.crashes().is_empty());
    host.client().health();
    host.finish();
}

#[test]
fn too_much_code_is_refused_before_it_is_compiled() {
    let dir = dir();
    let large = bomb(&dir, "large.wasm", BLOCKS * 2);
    let host = builder(&dir)
        .component("large", &large)
        .role("large", "large", "")
        .toml("[limits]\ncomponent_functions = 2000")
        .start()
        .ready();
    let answer = host.client().start_with("one", "large", json!({}));
    let parts = ["a function of ", "limits.component_function_kb is 1024"];
    let answer = answer.expect_error(422, &parts);
    assert_eq!(
        (answer.phase.as_deref(), answer.error_type.as_deref()),
        (Some("component"), Some("component-too-complex"))
    );
    let many = format!("(module {})", "(func)".repeat(2000));
    let many = wat::parse_str(many).expect("a module");
    fs::write(&large, files::echo_with(&many)).expect("replace the component");
    let answer = host.client().start_with("one", "large", json!({}));
    answer.expect_error(422, &["functions, and limits.component_functions is 2000"]);
    host.finish();
}

#[test]
fn a_name_as_long_as_its_component_costs_the_host_nothing() {
    let dir = dir();
    let path = dir.path().join("name.wasm");
    let traps = |copies: usize| {
        let name = format!("a{}", ".1".repeat(copies));
        let text = format!(
            "(component
               (core module $m (func (@name \"{name}\") (export \"run\") (result i32) unreachable))
               (core instance $i (instantiate $m))
               (func $run (result (result)) (canon lift (core func $i \"run\")))
               (instance $r (export \"run\" (func $run)))
               (export \"wasi:cli/run@0.2.0\" (instance $r)))"
        );
        fs::write(&path, wat::parse_str(text).expect("a component")).expect("write the component");
    };
    traps(1);
    let role = "restart = \"temporary\"";
    let host = Host::builder()
        .compiles()
        .component("name", &path)
        .role("name", "name", role)
        .start()
        .ready();
    // The last one is so long that it is left out.
    for (agent, copies, shown) in
        [("short", 1, json!("a")), ("long", 8000, json!("a")), ("longest", 49_000, json!(null))]
    {
        traps(copies);
        host.client().start(agent, "name");
        let crash = host.wait_for_event(agent, "agent.crash");
        assert_eq!(crash["frames"][0]["function"], shown, "{crash}");
    }
    host.finish();
}

#[test]
fn a_cache_that_cannot_be_written_costs_nothing_but_the_next_compile() {
    let host = Host::builder().compiles().start().ready();
    let cache = host.state_dir().join("aot");
    fs::remove_dir_all(&cache).expect("remove the cache");
    fs::write(&cache, "no directory").expect("put a file there");
    host.client().start("one", "echo");
    host.client().start("two", "echo");
    assert_eq!(host.client().ask("one", "hi"), "hi");
    let rejected = host.wait_for_line("that it cannot be written", |line| {
        line["event"] == "container.cache_entry_rejected"
            && line["reason"].as_str().is_some_and(|reason| reason.contains("written"))
    });
    assert_eq!(rejected["level"], "warn");
    let loaded = host.events_named("container.component_loaded");
    assert_eq!(loaded.len(), 1, "{loaded:?}");
    assert_eq!(loaded[0]["source"], "compiled");
    host.finish();
}

#[test]
fn a_component_in_the_cache_takes_no_process() {
    let mut host = Host::builder().compiles().start().ready();
    host.client().start("one", "echo");
    host.signal(Signal::KILL);
    host.wait();
    let second = host.restart().ready();
    second.client().reaches("one", "running");
    let sources = second.events_named("container.component_loaded");
    assert!(sources.iter().all(|line| line["source"] == "cache"), "{sources:?}");
    second.finish();
}
