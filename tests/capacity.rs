//! How many agents fit is known at boot, for the components of the configuration and the limits of the
//! process: so many start, and the next one gets an answer with the figures.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use harness::{Host, HostBuilder, Need, Value, json, wait_until};

/// A stock component that computes for ever, with these core modules beside its own.
fn busy(modules: &str) -> Vec<u8> {
    let text = format!(
        "(component
           (core module $main (func (export \"run\") (result i32) (loop br 0) i32.const 0))
           {modules}
           (core instance $i (instantiate $main))
           (func $run (result (result)) (canon lift (core func $i \"run\")))
           (instance $r (export \"run\" (func $run)))
           (export \"wasi:cli/run@0.2.0\" (instance $r)))"
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("bad WAT in a test: {error}\n{text}"))
}

/// So many modules with this in them, each instantiated once.
fn modules(count: usize, contents: &str) -> String {
    let one = |n| format!("(core module $m{n} {contents}) (core instance (instantiate $m{n}))");
    (0..count).map(one).collect()
}

fn builder(path: &Path, max_agents: usize) -> HostBuilder {
    Host::builder()
        .component("busy", path)
        .role("busy", "busy", "shutdown_ms = 100\nrestart = \"temporary\"")
        .toml(&format!("[limits]\nmax_agents = {max_agents}"))
}

/// Fills the host with agents of a role, and sees the next one refused with the figures.
fn fill(host: &Host, role: &str, max_agents: u64) {
    for number in 0..max_agents {
        host.client().start(&format!("agent-{number}"), role);
    }
    let one_more = host.client().start_with("one-more", role, json!({}));
    let most = max_agents.to_string();
    let error = one_more.expect_error(503, &[&format!("{most} agents"), &format!("holds {most}")]);
    assert_eq!(error.error_type.as_deref(), Some("capacity"), "{error:?}");
}

fn cold_start(host: &Host) -> Value {
    host.events_named("container.cold_start").remove(0)
}

#[test]
fn every_place_has_room_for_the_largest_component_of_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("busy.wasm");
    for contents in [
        modules(34, ""),
        modules(3, "(memory 1)"),
        modules(2, "(memory 1) (memory 1)"),
        modules(1, &"(table 1 funcref)".repeat(10)),
        modules(1, "(table 2000000 funcref)"),
    ] {
        std::fs::write(&path, busy(&contents)).unwrap();
        let host = builder(&path, 4).start().ready();
        assert_eq!(cold_start(&host)["maxAgents"], 4);
        assert_eq!(cold_start(&host)["allocator"], "pooling");
        fill(&host, "busy", 4);
        for number in 0..4 {
            host.client().stop(&format!("agent-{number}")).expect(200);
        }
        host.finish();
    }
}

#[test]
fn a_component_that_does_not_fit_is_a_component_and_the_answer_says_what_is_too_much() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("busy.wasm");
    std::fs::write(&path, busy("")).unwrap();
    let host = builder(&path, 4).start().ready();
    host.client().start("before", "busy");
    let contents = modules(3, "(memory 1) (table 1 funcref) (table 1 funcref)");
    std::fs::write(&path, busy(&contents)).unwrap();
    let refused = host.client().start_with("after", "busy", json!({}));
    let named = ["3 linear memories, 1 fit", "6 tables, 4 fit", "restart the host"];
    let error = refused.expect_error(422, &named);
    assert_eq!(error.error_type.as_deref(), Some("component-does-not-fit"), "{error:?}");
    host.client().start("echo", "echo");
    host.client().stop("before").expect(200);
    host.finish();
}

#[test]
fn a_feature_that_the_host_lacks_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("busy.wasm");
    std::fs::write(&path, busy("(core func (canon error-context.drop))")).unwrap();
    let host = builder(&path, 4).start().ready();
    let refused = host.client().start_with("contexts", "busy", json!({}));
    let error = refused.expect_error(422, &["component-model error contexts"]);
    assert_eq!(error.error_type.as_deref(), Some("component-unsupported"), "{error:?}");
    host.finish();
}

#[test]
fn what_an_async_toolchain_puts_beside_synchronous_exports_loads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("busy.wasm");
    let builtins =
        "(type $f (future u8)) (core func (canon task.cancel)) (core func (canon subtask.drop))
        (core func (canon waitable-set.new)) (core func (canon future.new $f))";
    std::fs::write(&path, busy(builtins)).unwrap();
    let host = builder(&path, 4).start().ready();
    host.client().start("async", "busy");
    host.client().stop("async").expect(200);
    host.finish();
}

/// A guest that hands control back without end is ended like one that keeps it, and delays nobody.
#[test]
fn yielding_is_not_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("yields.wasm");
    let yields = "(component
        (core func $yield (canon thread.yield))
        (core module $main
            (import \"\" \"yield\" (func $yield (result i32)))
            (func (export \"run\") (result i32) (loop (drop (call $yield)) (br 0)) i32.const 0))
        (core instance $i (instantiate $main (with \"\" (instance (export \"yield\" (func $yield))))))
        (func $run (result (result)) (canon lift (core func $i \"run\")))
        (instance $r (export \"run\" (func $run)))
        (export \"wasi:cli/run@0.2.0\" (instance $r)))";
    std::fs::write(&path, wat::parse_str(yields).unwrap()).unwrap();
    let host = Host::builder()
        .component("yields", &path)
        .role("yields", "yields", "cpu_ms = 300\nrestart = \"temporary\"")
        .start()
        .ready();
    host.client().start("yields", "yields");
    host.client().start("echo", "echo");
    let crash = host.wait_for_line("its end", |line| line["event"] == "agent.crash");
    assert_eq!(crash["reason"], "cpu_deadline", "{crash}");
    assert_eq!(host.client().ask("echo", "hi"), "hi");
    host.finish();
}

#[test]
fn too_few_open_files_are_named_and_nothing_else_is_blamed() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("bulkhead.toml");
    std::fs::write(&config, Host::builder().render(&dir.path().join("state"))).unwrap();
    let certificates = dir.path().join("certificates");
    std::fs::create_dir(&certificates).unwrap();
    let host = harness::host::command(&config, dir.path());
    // At each of them something else fails first.
    for files in [4, 5, 7, 8, 10, 16, 40] {
        let mut limited = Command::new("sh");
        limited.args(["-c", &format!("ulimit -n {files}; exec \"$@\""), "sh"]);
        limited.arg(host.get_program()).args(host.get_args()).env("SSL_CERT_DIR", &certificates);
        let ended = limited.output().unwrap();
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{files}: {stderr}");
        assert!(
            stderr.contains(&format!("{files} files open at most (RLIMIT_NOFILE)")),
            "{stderr}"
        );
        assert!(!stderr.contains("SSL_CERT") && !stderr.contains("panicked"), "{stderr}");
    }
    // The hard limit counts.
    let soft = ["sh", "-c", "ulimit -Sn 8; exec \"$@\"", "sh"];
    Host::builder().run_by(&soft).start().ready().finish();
}

#[test]
fn open_files_are_a_ceiling() {
    let limited = ["sh", "-c", "ulimit -n 90; exec \"$@\"", "sh"];
    let host = Host::builder().run_by(&limited).start().ready();
    let max_agents = cold_start(&host)["maxAgents"].as_u64().unwrap();
    assert_eq!(max_agents, 15, "half of 90 for the host, two for each agent and one to open");
    let cut =
        host.wait_for_line("what was cut", |line| line["event"] == "container.capacity_limited");
    assert_eq!(cut["granted"], 15, "{cut}");
    assert!(cut["reason"].as_str().unwrap().contains("RLIMIT_NOFILE is 90"), "{cut}");
    fill(&host, "echo", max_agents);
    for number in 0..max_agents {
        assert_eq!(host.client().ask(&format!("agent-{number}"), "hi"), "hi");
    }
    host.finish();
}

#[test]
fn guests_that_open_all_they_can_leave_the_host_its_descriptors() {
    let limited = ["sh", "-c", "ulimit -n 300; exec \"$@\"", "sh"];
    let host = Host::builder().guest("hog").role("hog", "hog", "").run_by(&limited).start().ready();
    for number in 0..5 {
        let hog = format!("hog-{number}");
        host.client().start(&hog, "hog");
        // There is room for 50, half of them for the first.
        let opened = host.client().ask(&hog, "files 60");
        assert!(opened.contains("Out of memory"), "{opened}");
    }
    host.wait_for_line("the reason", |line| {
        line["event"] == "agent.log" && line["message"].as_str().unwrap().contains("RLIMIT_NOFILE")
    });
    // Strangers that hold connections, as many as there can be.
    let strangers: Vec<_> =
        (0..100).filter_map(|_| TcpStream::connect(host.client().address()).ok()).collect();
    let metrics = host.client().metrics();
    assert!(metrics["process_open_fds"] < 280.0, "{}", metrics["process_open_fds"]);
    assert!(metrics["bulkhead_memory_limit_bytes"] > 0.0, "the kernel's figures are read");
    host.client().start("echo", "echo");
    assert_eq!(host.client().ask("echo", "hi"), "hi");
    drop(strangers);
    // What one gives back another may have.
    for number in 0..5 {
        assert_eq!(host.client().ask(&format!("hog-{number}"), "drop"), "dropped");
    }
    // A file is closed by a thread that may wait, after its agent was answered.
    wait_until("there is room again", || {
        host.client().ask("hog-4", "drop");
        host.client().ask("hog-4", "files 10") == "10"
    });
    assert!(host.crashes().is_empty(), "{:?}", host.crashes());
    host.finish();
}

#[test]
fn one_component_of_many_parts_is_refused_and_takes_no_room_from_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("busy.wasm");
    for (contents, named) in [
        (modules(900, ""), ["901 instances of core modules", "limits.component_instances is 256"]),
        (modules(99, "(memory 0)"), ["99 linear memories", "limits.component_memories is 16"]),
        (modules(70, "(table 0 funcref)"), ["70 tables", "limits.component_tables is 64"]),
    ] {
        std::fs::write(&path, busy(&contents)).unwrap();
        let host = builder(&path, 1000).start().ready();
        assert_eq!(cold_start(&host)["maxAgents"], 1000);
        let refused = host.client().start_with("many", "busy", json!({}));
        let error = refused.expect_error(422, &named);
        assert_eq!(error.error_type.as_deref(), Some("component-does-not-fit"), "{error:?}");
        host.client().start("echo", "echo");
        host.finish();
    }
    std::fs::write(&path, busy(&modules(99, "(memory 0)"))).unwrap();
    let host = builder(&path, 4).toml("[limits]\ncomponent_memories = 99").start().ready();
    host.client().start("many", "busy");
    host.client().stop("many").expect(200);
    host.finish();
}

#[test]
fn without_room_for_the_pool_the_limits_of_agents_are_what_is_reserved() {
    let limited = ["sh", "-c", "ulimit -v 4500000; exec \"$@\"", "sh"];
    let host = Host::builder().run_by(&limited).start().ready();
    let cold_start = cold_start(&host);
    assert_eq!(cold_start["allocator"], "on_demand");
    let max_agents = cold_start["maxAgents"].as_u64().unwrap();
    assert!((30..64).contains(&max_agents), "{max_agents} agents of 64 MiB");
    let cuts = host.events_named("container.capacity_limited");
    let names = |cut: &Value| cut["reason"].as_str().unwrap().contains("RLIMIT_AS is 4394 MiB");
    assert!(cuts.iter().any(names), "{cuts:?}");
    fill(&host, "echo", max_agents);
    for number in 0..max_agents {
        assert_eq!(host.client().ask(&format!("agent-{number}"), "hi"), "hi");
    }
    wait_until("all of them are idle", || {
        host.client().list().iter().all(|agent| agent.status == "running")
    });
    host.finish();
}

/// A group of processes, removed when it is dropped, in which the kernel gives no further thread once it is
/// closed.
struct PidsGroup(std::path::PathBuf);

impl PidsGroup {
    fn make() -> Result<Self, String> {
        let dir = Path::new("/sys/fs/cgroup/pids").join(format!("bulkhead-{}", std::process::id()));
        std::fs::create_dir(&dir).map_err(|error| format!("make a pids group: {error}"))?;
        Ok(Self(dir))
    }

    fn entrance(&self) -> Vec<String> {
        let procs = self.0.join("cgroup.procs").to_str().unwrap().to_owned();
        ["sh", "-c", "echo $$ >\"$0\" && exec \"$@\"", &procs].map(str::to_owned).to_vec()
    }

    fn close(&self) {
        let current = std::fs::read_to_string(self.0.join("pids.current")).unwrap();
        std::fs::write(self.0.join("pids.max"), current.trim()).unwrap();
    }

    fn refused(&self) -> u64 {
        let events = std::fs::read_to_string(self.0.join("pids.events")).unwrap();
        events.trim().strip_prefix("max ").unwrap().parse().unwrap()
    }
}

impl Drop for PidsGroup {
    fn drop(&mut self) {
        let removed = || std::fs::remove_dir(&self.0).is_ok();
        if !removed() && !std::thread::panicking() {
            wait_until("the group is empty", removed);
        }
    }
}

#[test]
fn no_agent_fails_where_the_system_gives_no_further_thread() {
    let group = match PidsGroup::make() {
        Ok(group) => group,
        Err(reason) => return harness::skip(Need::Cgroup, &reason),
    };
    let entrance = group.entrance();
    let entrance: Vec<&str> = entrance.iter().map(String::as_str).collect();
    let allow = "http_allow = [\"no-such-name.invalid\"]";
    let host = Host::builder().compiles().guest("hog").role("hog", "hog", allow);
    let host = host.run_by(&entrance).start().ready();
    // Compiled before: that takes a process.
    host.client().start("first", "hog");
    host.client().stop("first").expect(200);
    group.close();
    let refused = host.client().start_with("echo", "echo", json!({}));
    let refused = refused.expect_error(503, &["gives no process", "pids", "/proc/self/exe"]);
    assert_eq!(
        (refused.phase.as_deref(), refused.error_type.as_deref()),
        (Some("admission"), Some("no-process"))
    );
    std::thread::scope(|scope| {
        for number in 0..12 {
            let (host, name) = (&host, format!("agent-{number}"));
            scope.spawn(move || {
                host.client().start(&name, "hog");
                assert_eq!(host.client().ask(&name, "files 20"), "20");
                let fetched = host.client().ask(&name, "fetch 1 no-such-name.invalid /");
                assert!(fetched.starts_with("request 0 failed: "), "{fetched}");
                assert_eq!(host.client().ask(&name, "drop"), "dropped");
            });
        }
    });
    assert!(group.refused() > 0, "the kernel refused threads, or this shows nothing");
    assert!(host.crashes().is_empty());
    host.finish();
}
