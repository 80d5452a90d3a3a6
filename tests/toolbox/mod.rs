//! The interface `tools`, seen from an agent: real programs in the sandbox that this machine has.

use std::process::Command;

use bulkhead_types::CrashRecord;
use harness::{Host, HostBuilder, Value, files, json, wait_until};

/// A host with an agent of this role, which may run a few programs that every machine has.
fn builder(more: &str) -> HostBuilder {
    let program = files::component("toolbox");
    let tools = "tools = [\"sh\", \"cat\", \"true\", \"sleep\", \"yes\"]";
    Host::builder().component("toolbox", &program).role(
        "toolbox",
        "toolbox",
        &format!("{tools}\n{more}"),
    )
}

fn host(more: &str) -> Host {
    let host = builder(more).start();
    host.client().start("toolbox", "toolbox");
    host
}

#[track_caller]
fn reply(host: &Host, order: &Value) -> Value {
    let reply = host.client().ask("toolbox", &order.to_string());
    serde_json::from_str(&reply).unwrap_or_else(|error| panic!("{error}: {reply}"))
}

/// Runs a script of the shell.
#[track_caller]
fn sh(host: &Host, script: &str, more: Value) -> Value {
    let mut order = json!({"do": "run", "run": ["sh", "-c", script]});
    order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    reply(host, &order)
}

fn tool_exited(host: &Host, program: &str) -> Value {
    host.wait_for_line("the end of a tool", |line| {
        line["event"] == "agent.tool_exited" && line["program"] == program
    })
}

#[test]
fn a_program_gets_what_the_command_says_and_nothing_of_the_host() {
    // As a service manager starts it.
    let service = ["env", "NOTIFY_SOCKET=@bulkhead-test-of-nobody", "WATCHDOG_USEC=60000000"];
    let host = builder("").run_by(&service).start();
    host.client().start("toolbox", "toolbox");
    let ran = reply(&host, &json!({"do": "run", "run": ["cat"], "stdin": "a\nb"}));
    assert_eq!(
        (&ran["end"], &ran["code"], &ran["stdout"]),
        (&json!("exited"), &json!(0), &json!("a\nb"))
    );
    let ran = sh(&host, "pwd; echo $0 $A; echo oh >&2; exit 3", json!({"env": {"A": "b c"}}));
    assert_eq!((&ran["code"], &ran["stderr"]), (&json!(3), &json!("oh\n")), "{ran}");
    assert!(ran["stdout"].as_str().unwrap().ends_with("sh b c\n"), "{ran}");
    let names = sh(&host, "export -p", json!({}))["stdout"].to_string();
    for inherited in ["BULKHEAD", "CARGO", "RUST_", "NOTIFY", "WATCHDOG"] {
        assert!(!names.contains(inherited), "{names}");
    }
    for set in ["PATH", "HOME", "LANG", "TMPDIR"] {
        assert!(names.contains(set), "no {set}: {names}");
    }
    assert_eq!(sh(&host, "kill -9 $$", json!({}))["end"], "signalled");
    // The log has each of them, with how it ended.
    let line = tool_exited(&host, "cat");
    assert_eq!((&line["end"], &line["code"]), (&json!("exited"), &json!(0)), "{line}");
    // The agent has its answer before it is counted.
    wait_until("none runs", || host.client().metrics()["bulkhead_tools_running"] == 0.0);
    assert_eq!(host.client().metrics()["bulkhead_tool_ends_total{end=\"exited\"}"], 3.0);
    host.finish();
}

#[test]
fn agent_and_program_have_one_workspace() {
    let host = host("");
    let written = json!({"do": "write-file", "directory": "note", "stdin": "from the agent"});
    assert_eq!(reply(&host, &written)["written"], 14);
    let ran = sh(&host, "cat note; mkdir -p a/b; cd a/b; pwd", json!({}));
    assert_eq!(
        ran["stdout"].as_str().map(|it| it.starts_with("from the agent")),
        Some(true),
        "{ran}"
    );
    let ran = sh(&host, "echo x >> y; cat y", json!({"directory": "a/b"}));
    assert_eq!(ran["stdout"], "x\n");
    let outside = sh(&host, "true", json!({"directory": "../.."}));
    assert_eq!(outside["error"], "tool-invalid", "{outside}");
    let missing = sh(&host, "true", json!({"directory": "no/such"}));
    assert!(missing["error"].is_string(), "{missing}");
    host.finish();
}

#[test]
fn what_may_not_be_run_is_refused_with_the_reason() {
    let host = host("tools_parallel = 1");
    let programs = reply(&host, &json!({"do": "programs"}));
    assert_eq!(programs["programs"], json!(["cat", "sh", "sleep", "true", "yes"]));
    let denied = reply(&host, &json!({"do": "run", "run": ["ls"]}));
    assert_eq!(denied["error"], "tool-denied");
    assert!(denied["message"].as_str().unwrap().contains("cat, sh, sleep"), "{denied}");
    let path = reply(&host, &json!({"do": "run", "run": ["/bin/cat"]}));
    assert_eq!(path["error"], "tool-invalid", "{path}");
    assert_eq!(reply(&host, &json!({"do": "spawn", "run": ["sleep", "60"]}))["kept"], 1);
    let second = reply(&host, &json!({"do": "run", "run": ["true"]}));
    assert_eq!(second["error"], "tool-unavailable", "{second}");
    assert!(second["message"].as_str().unwrap().contains("tools_parallel"), "{second}");
    // One that has ended gives its place back with its handle.
    reply(&host, &json!({"do": "kill"}));
    assert_eq!(reply(&host, &json!({"do": "wait"}))["end"], "cancelled");
    assert_eq!(reply(&host, &json!({"do": "drop"}))["kept"], 0);
    assert_eq!(reply(&host, &json!({"do": "run", "run": ["true"]}))["code"], 0);
    host.finish();
}

#[test]
fn a_role_without_tools_runs_none() {
    let program = files::component("toolbox");
    let host =
        Host::builder().component("toolbox", &program).role("toolbox", "toolbox", "").start();
    host.client().start("toolbox", "toolbox");
    assert_eq!(reply(&host, &json!({"do": "programs"}))["programs"], json!([]));
    let denied = reply(&host, &json!({"do": "run", "run": ["true"]}));
    assert_eq!(denied["error"], "tool-denied", "{denied}");
    let first =
        host.wait_for_line("the first line", |line| line["event"] == "container.cold_start");
    assert_eq!(first["tools"], Value::Null, "no launcher where nobody needs one");
    host.finish();
}

#[test]
fn each_limit_is_an_end_with_its_name_and_the_agent_goes_on() {
    let host = host("tool_memory_mb = 32\ntool_pids = 16\ntool_output_mb = 1");
    let bomb = "x=x; while :; do x=$x$x; done";
    let forks = "i=0; while [ $i -lt 40 ]; do sleep 60 & i=$((i+1)); done; wait";
    for (script, more, end) in [
        ("sleep 60", json!({"wallMs": 300}), "wall-deadline"),
        ("while :; do :; done", json!({"cpuMs": 200}), "cpu-deadline"),
        (bomb, json!({}), "memory-limit"),
        (forks, json!({}), "pids-limit"),
        ("yes", json!({}), "output-limit"),
        ("trap '' TERM; while :; do sleep 1; done", json!({"wallMs": 300}), "wall-deadline"),
    ] {
        let ran = sh(&host, script, more);
        assert_eq!(ran["end"], end, "{script}: {ran}");
        let line = host.wait_for_line("its line", |line| {
            line["event"] == "agent.tool_exited" && line["end"] == end.replace('-', "_")
        });
        assert_eq!(line["level"], "warn", "{line}");
    }
    let flood = sh(&host, "yes", json!({"outputBytes": 1000}));
    assert_eq!((&flood["end"], &flood["stdoutBytes"]), (&json!("output-limit"), &json!(1000)));
    let status = host.client().status("toolbox");
    assert_eq!((&*status.status, status.incarnation.0), ("running", 1));
    host.finish();
}

#[test]
fn a_program_that_fills_the_workspace_ends_and_the_agent_makes_room() {
    let host = host("workspace_mb = 1");
    let fill = "head -c 900k /dev/zero >a; head -c 900k /dev/zero >b; sleep 60";
    assert_eq!(sh(&host, fill, json!({}))["end"], "workspace-limit");
    let line = tool_exited(&host, "sh");
    assert_eq!(
        (&line["end"], &line["level"]),
        (&json!("workspace_limit"), &json!("warn")),
        "{line}"
    );
    let refused = reply(&host, &json!({"do": "write-file", "directory": "c", "stdin": "c"}));
    assert!(refused["error"].is_string(), "{refused}");
    assert_eq!(sh(&host, "rm a", json!({}))["code"], 0);
    let written = reply(&host, &json!({"do": "write-file", "directory": "c", "stdin": "c"}));
    assert_eq!(written["written"], 1, "{written}");
    host.finish();
}

#[test]
fn a_role_says_whether_its_programs_have_the_network() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut client in server.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut client, b"hello\n");
        }
    });
    let script = "use IO::Socket::INET; my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $ARGV[0]) \
        or exit 7; print <$s>";
    let order = json!({"do": "run", "run": ["perl", "-e", script, port.to_string()]});
    for (network, code, output) in [("open", 0, "hello\n"), ("none", 7, "")] {
        let role = format!("tools = [\"perl\"]\ntool_network = \"{network}\"");
        let host = builder("").role("toolbox", "toolbox", &role).start();
        host.client().start("toolbox", "toolbox");
        let first =
            host.wait_for_line("the first line", |it| it["event"] == "container.cold_start");
        if network == "open" || first["tools"]["networkNamespace"] == true {
            let ran = reply(&host, &order);
            assert_eq!((&ran["code"], &ran["stdout"]), (&json!(code), &json!(output)), "{ran}");
        }
        host.finish();
    }
}

#[test]
fn memory_of_a_program_is_in_its_agents_figures() {
    let host = host("");
    let script = "head -c 40M /dev/zero | tail -c 40M | sleep 60";
    reply(&host, &json!({"do": "spawn", "run": ["sh", "-c", script]}));
    let tool_bytes = || host.client().status("toolbox").memory.tool_bytes;
    wait_until("it is counted", || tool_bytes() >= 40 << 20);
    let tools = host.client().status("toolbox").running_tools;
    assert!(tools[0].memory_bytes >= 40 << 20, "{tools:?}");
    reply(&host, &json!({"do": "kill"}));
    reply(&host, &json!({"do": "wait"}));
    wait_until("it is gone", || tool_bytes() == 0);
    host.finish();
}

#[test]
fn a_program_sees_no_workspace_but_its_agents() {
    let host = host("");
    let client = host.client();
    let written = json!({"do": "write-file", "directory": "secret", "stdin": "hush-4711"});
    reply(&host, &written);
    client.start("other", "toolbox");
    let of_first = host.workspace("toolbox");
    assert!(of_first.join("secret").exists());
    let ways = [
        of_first.display().to_string(),
        "../toolbox".into(),
        "/workspace/../toolbox".into(),
        "/proc/1/root/workspace".into(),
    ];
    let reads: Vec<_> = ways.iter().map(|way| format!("cat {way}/secret")).collect();
    // By a link as well.
    let script =
        format!("ln -s {} link; cat link/secret; {}; true", of_first.display(), reads.join("; "));
    let order = json!({"do": "run", "run": ["sh", "-c", script]});
    let ran = client.ask("other", &order.to_string());
    assert!(ran.contains("\"exited\"") && !ran.contains("hush-4711"), "{ran}");
    // Nor does the agent itself, by what its program left.
    let order = json!({"do": "run", "run": ["cat", "link/secret"]});
    assert!(!client.ask("other", &order.to_string()).contains("hush-4711"));
    host.finish();
}

#[test]
fn a_host_that_lacks_what_it_requires_does_not_start() {
    if !rustix::process::geteuid().is_root() {
        return harness::skip(harness::Need::Mount, "only root takes the cgroups away");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bulkhead.toml");
    let run = |require: &str| {
        let text = builder("").toml(&format!("[tools]\nrequire = [{require}]"));
        std::fs::write(&file, text.render(&dir.path().join("state"))).unwrap();
        let host = harness::host::command(&file, dir.path());
        // Where it is not mounted there is none.
        let script = "umount -l -R /sys/fs/cgroup 2>/dev/null || umount -l /sys/fs/cgroup; exec timeout 60 \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
        command
            .arg(host.get_program())
            .args(host.get_args())
            .current_dir(dir.path())
            .output()
            .unwrap()
    };
    let ended = run("\"cgroup\"");
    let (stdout, stderr) =
        (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert_eq!(ended.status.code(), Some(1), "{stdout}{stderr}");
    assert!(format!("{stdout}{stderr}").contains("cgroup"), "{stdout}{stderr}");
}

#[test]
fn a_program_is_read_written_and_waited_for_over_turns() {
    let host = host("");
    let spawned = reply(&host, &json!({"do": "spawn", "run": ["cat"]}));
    assert_eq!(spawned["kept"], 1, "{spawned}");
    let tools = host.client().status("toolbox").running_tools;
    assert_eq!(tools[0].program, "cat", "{tools:?}");
    // More than a pipe holds: reader and writer have to take turns, which one thread cannot, so it is less.
    let text = "x".repeat(50_000);
    assert_eq!(reply(&host, &json!({"do": "write", "stdin": text}))["written"], 50_000);
    let read = reply(&host, &json!({"do": "read", "take": 10}));
    assert_eq!(read["stdout"], "xxxxxxxxxx");
    let ended = reply(&host, &json!({"do": "wait"}));
    assert_eq!((&ended["end"], &ended["code"]), (&json!("exited"), &json!(0)), "{ended}");
    assert_eq!(reply(&host, &json!({"do": "wait"}))["end"], "exited", "as often as one likes");
    host.finish();
}

#[test]
fn a_program_ends_with_its_incarnation_and_the_crash_record_names_it() {
    let host = host("");
    let order = json!({"do": "panic", "run": ["sleep", "54321"]});
    let crash = host.client().send_wait("toolbox", &order.to_string()).expect_error(502, &[]);
    let record = host.client().crash(&crash.crash_id.unwrap());
    let tool = &record.tools_in_flight[0];
    assert_eq!(tool.program, "sleep", "{record:?}");
    assert_eq!(tool.arguments, ["54321"]);
    let line = tool_exited(&host, "sleep");
    assert_eq!(line["end"], "cancelled", "{line}");
    wait_until("nothing is left of it", || !runs("54321"));
    host.finish();
}

/// Whether a process with this argument runs.
fn runs(argument: &str) -> bool {
    let found = Command::new("pgrep").args(["-f", argument]).output().unwrap();
    found.status.success()
}

#[test]
fn a_stop_waits_for_a_program_as_for_any_turn_and_kills_it_then() {
    let host = host("shutdown_ms = 300");
    let client = host.client();
    client.send("toolbox", &json!({"do": "run", "run": ["sleep", "54322"]}).to_string());
    wait_until("it runs", || {
        let tools = client.status("toolbox").running_tools;
        tools.first().is_some_and(|tool| tool.program == "sleep")
    });
    client.stop("toolbox").expect(200);
    let line = tool_exited(&host, "sleep");
    assert_eq!(line["end"], "cancelled", "{line}");
    wait_until("nothing is left of it", || !runs("54322"));
    host.finish();
}

#[test]
fn a_wait_for_a_program_has_the_bounds_of_the_turn() {
    // The limit of host calls does not hold, and the turn is left a second.
    let host = host("host_call_ms = 100\nwall_ms = 3000");
    assert_eq!(sh(&host, "sleep 0.3", json!({}))["code"], 0);
    let ran = sh(&host, "sleep 60", json!({}));
    assert_eq!(ran["end"], "wall-deadline", "{ran}");
    assert_eq!(host.client().status("toolbox").incarnation.0, 1);
    host.finish();
}

#[test]
fn nothing_of_the_machine_is_there_but_the_workspace() {
    let host = host("");
    let first =
        host.wait_for_line("the first line", |line| line["event"] == "container.cold_start");
    if first["tools"]["mountNamespace"] != true {
        harness::skip(harness::Need::Mount, "no mount namespaces");
        return;
    }
    let state = host.state_dir();
    let ran = sh(&host, &format!("ls {} 2>&1; ls /", state.display()), json!({}));
    let text = ran["stdout"].as_str().unwrap();
    assert!(text.contains("No such file"), "{text}");
    assert!(text.contains("workspace"), "{text}");
    let pids = sh(&host, "ls /proc | grep -c '^[0-9]'", json!({}));
    assert!(pids["stdout"].as_str().unwrap().trim().parse::<u32>().unwrap() < 10, "{pids}");
    let who =
        sh(&host, "cat /proc/self/status | grep -E '^(CapEff|NoNewPrivs|Seccomp):'", json!({}));
    let who = who["stdout"].as_str().unwrap().replace('\t', " ");
    assert!(who.contains("CapEff: 0000000000000000") && who.contains("NoNewPrivs: 1"), "{who}");
    host.finish();
}

#[test]
fn a_secret_among_the_arguments_is_in_no_line_and_no_answer() {
    const SECRET: &str = "hunter2-hunter2";
    let host = builder("").start();
    host.client().start_with("toolbox", "toolbox", json!({"secrets": {"KEY": SECRET}})).expect(201);
    let order = json!({"do": "panic", "run": ["sh", "-c", format!("sleep 60; echo {SECRET}")]});
    let crash = host.client().send_wait("toolbox", &order.to_string()).expect_error(502, &[]);
    let answer = host.client().get(&format!("/crashes/{}", crash.crash_id.unwrap()));
    assert!(!answer.text.contains(SECRET), "{}", answer.text);
    let record: CrashRecord = answer.read(200);
    assert_eq!(record.tools_in_flight[0].arguments[1], "sleep 60; echo ***", "{record:?}");
    for line in host.finish() {
        assert!(!line.to_string().contains(SECRET), "{line}");
    }
}

#[test]
fn when_memory_is_short_a_program_goes_and_its_agent_stays() {
    let host = builder("").toml("[memory]\nbudget_mb = 400").start();
    host.client().start("toolbox", "toolbox");
    // It keeps all of it, and waits for a reader that does not read.
    let ran = sh(&host, "head -c 350M /dev/zero | tail -c 350M | sleep 100", json!({}));
    assert_eq!(ran["end"], "evicted", "{ran}");
    let status = host.client().status("toolbox");
    assert_eq!((&*status.status, status.incarnation.0), ("running", 1));
    let line = tool_exited(&host, "sh");
    assert!(line["peakMemoryBytes"].as_u64() >= Some(300 << 20), "{line}");
    host.finish();
}
