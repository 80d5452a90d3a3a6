//! What a host reports of the run before it, for every way in which that one can end.

use std::net::TcpListener;
use std::path::Path;

use bulkhead_api::MessageAnswer;
use bulkhead_blackbox as blackbox;
use bulkhead_blackbox::{Found, Geometry, Run};
use bulkhead_types::previous::RunState;
use harness::host::{CLEAN, Launch, UNCLEAN, run_to_end};
use harness::memory_group::no_kills;
use harness::{Host, HostBuilder, Value, json, wait_until};
use hyper::Method;
use rustix::process::{Signal, kill_process};

/// Exit code when the address is not to be had.
const CANNOT_RUN: i32 = 1;

/// Exit code of a panic that nothing contained.
const PANICKED: i32 = 4;

/// A host whose boot is through, with an agent that answers.
fn at_work(builder: HostBuilder) -> Host {
    let host = builder.start().ready();
    host.client().start("one", "echo");
    assert_eq!(host.client().ask("one", "hi"), "hi");
    host
}

/// The line about the run before, of the run that began last.
fn previous_run(host: &Host, runs: usize) -> Value {
    host.wait_for_number(&["container.previous_run"], runs)
}

/// The line says this cause and level, and says why.
#[track_caller]
fn says(line: &Value, cause: &str, confidence: &str, level: &str) {
    let said = [&line["cause"], &line["confidence"], &line["level"]];
    assert_eq!(said, [cause, confidence, level], "{line:#}");
    assert!(line["evidence"].as_array().is_some_and(|why| !why.is_empty()), "{line:#}");
    assert!(line["excluded"].is_array() && line["inFlight"].is_array(), "{line:#}");
}

#[track_caller]
fn has(line: &Value, list: &str, text: &str) {
    let found = line[list].as_array().expect("a list");
    let found = found.iter().any(|entry| entry.as_str().is_some_and(|entry| entry.contains(text)));
    assert!(found, "{text:?} is not in {list}: {line:#}");
}

/// Ends a host in a way, without an init process, and returns it and what the next one reports.
fn after(builder: HostBuilder, end: impl FnOnce(&Host)) -> (Host, Value) {
    after_with(builder, CLEAN, end)
}

/// The same, where the next one ends with this code.
fn after_with(builder: HostBuilder, code: i32, end: impl FnOnce(&Host)) -> (Host, Value) {
    let _quiet = no_kills();
    let mut first = at_work(builder);
    end(&first);
    first.wait();
    let second = first.restart();
    let line = previous_run(&second, 1);
    assert_eq!(line["previousRunId"], first.lines()[0]["runId"], "{line:#}");
    let cold_start = &second.lines()[0];
    let summary = json!({
        "runId": line["previousRunId"], "cause": line["cause"], "confidence": line["confidence"],
    });
    assert_eq!(cold_start["previousRun"], summary, "{cold_start:#}");
    assert_eq!(line["seq"], 1, "right after cold_start: {line:#}");
    second.ready().finish_with(Signal::TERM, code);
    (first, line)
}

/// Ends a supervisor in a way, and returns what the next one reports.
fn after_below_init(builder: HostBuilder, end: impl FnOnce(&Host)) -> Value {
    let host = at_work(builder.supervise());
    end(&host);
    let line = previous_run(&host, 2);
    assert_ne!(line["runId"], line["previousRunId"]);
    assert_eq!(host.client().get("/health").status, 200, "the same port answers");
    host.ready().finish();
    line
}

fn kill(host: &Host, signal: Signal) {
    kill_process(host.supervisor_pid(), signal).expect("send a signal");
}

#[test]
fn a_kill_shows_who_was_at_what_and_a_clean_end_leaves_nothing() {
    let _quiet = no_kills();
    // The slow one is started again by each run, which need not wait for it long.
    let builder = Host::builder().guest("puppet").guest("slow-start");
    // A message that is delivered again would keep its agent busy in the next run as well.
    let builder = builder.role("puppet", "puppet", "max_attempts = 1");
    let mut first = at_work(builder.toml("[limits]\nhydration_ms = 500"));
    let client = first.client();
    let mut expected = Vec::new();
    for agent in ["a", "b", "c"] {
        // The second incarnation of each.
        client.start(agent, "puppet");
        client.start_afresh(agent, "puppet");
        let sent: MessageAnswer = client.send(agent, "wait").read(200);
        wait_until("the agent is in its turn", || client.status(agent).busy);
        expected.push(json!([agent, 2, "handle", sent.message_id]));
    }
    expected.push(json!(["slow", 1, "start", null]));
    std::thread::scope(|scope| {
        let body = json!({"agentId": "slow", "role": "slow-start", "prompt": "60000"}).to_string();
        let starting = scope.spawn(move || client.try_request(Method::POST, "/agents/start", body));
        let in_its_start = || match blackbox::read(&first.state_dir()) {
            Found::Run(left) => left.in_flight.iter().any(|work| work.phase == "start"),
            other => panic!("{other:?}"),
        };
        wait_until("the slow agent is in its start", in_its_start);
        kill(&first, Signal::KILL);
        starting.join().expect("no panic").expect_err("the host is gone");
    });
    first.wait();
    let mut second = first.restart();
    let line = previous_run(&second, 1);
    let mut agents: Vec<_> =
        line["inFlight"].as_array().expect("a list").iter().map(brief).collect();
    agents.sort_by_key(ToString::to_string);
    assert_eq!(agents, expected, "{line:#}");
    let (since, began) = (&line["inFlight"][0]["since"], &first.lines()[0]["ts"]);
    assert!(since.as_str() >= began.as_str() && since.as_str() <= line["ts"].as_str(), "{line:#}");

    // Ended as asked, in the middle of a turn.
    second.wait_until_ready();
    second.client().start_afresh("a", "puppet");
    second.client().send("a", "wait").expect(200);
    wait_until("the agent is in its turn", || second.client().status("a").busy);
    second.signal(Signal::INT);
    second.release("a");
    second.wait();
    let third = second.restart();
    let line = previous_run(&third, 1);
    assert_eq!((&line["cause"], &line["inFlight"]), (&"clean".into(), &json!([])), "{line:#}");
    // SIGTERM would let the slow start come to its end.
    third.ready().finish_with(Signal::INT, CLEAN);
}

fn brief(work: &Value) -> Value {
    json!([work["agentId"], work["incarnation"], work["phase"], work["messageId"]])
}

#[test]
fn a_first_boot_knows_of_no_run_and_that_is_no_error() {
    let host = Host::builder().start();
    let line = previous_run(&host, 1);
    says(&line, "none", "medium", "info");
    assert!(line["previousRunId"].is_null(), "{line}");
    let cold_start = &host.lines()[0];
    assert_eq!((&cold_start["init"], &cold_start["restartSeq"]), (&false.into(), &0.into()));
    assert_eq!(cold_start["pid"], host.pid());
}

#[test]
fn an_end_as_asked_is_clean() {
    let (first, line) = after(Host::builder(), |host| host.signal(Signal::TERM));
    says(&line, "clean", "high", "info");
    assert_eq!(line["lastState"], "clean", "{line:#}");
    assert_eq!(line["lastSeq"], first.lines().last().expect("a line")["seq"], "{line:#}");
    assert!(line["lastMemory"]["rssBytes"].as_u64() > Some(0), "{line:#}");
}

#[test]
fn a_kill_in_the_drain_is_a_stop_by_the_orchestrator() {
    // Time enough for a kill; not too much, because the deaf one is restarted and has to be killed.
    let builder = || {
        let builder = Host::builder().guest("ignores-stop").role("deaf", "ignores-stop", "");
        builder.toml("[limits]\nshutdown_ms = 5000")
    };
    let kill_in_the_drain = |host: &Host| {
        host.client().start("deaf", "deaf");
        host.signal(Signal::TERM);
        host.wait_for_line("the drain", |line| {
            line["event"] == "container.draining" && line["phase"] == "stopping"
        });
        kill(host, Signal::KILL);
    };
    let (_, line) = after_with(builder(), UNCLEAN, kill_in_the_drain);
    says(&line, "orchestrator_stop", "high", "info");
    has(&line, "evidence", "SIGTERM asked it to end");
    has(&line, "evidence", " of 300 s of its drain were left");
    assert_eq!(line["lastState"], "draining", "{line:#}");

    // An init process that passed the signal on ends with its supervisor, and logs it itself.
    let host = at_work(builder().supervise());
    kill_in_the_drain(&host);
    let (status, lines) = host.wait_for_end();
    assert_eq!(status.code(), Some(137), "{status}");
    let last = lines.last().expect("a line");
    assert_eq!(last["event"], "container.previous_run", "{last:#}");
    says(last, "orchestrator_stop", "high", "info");
}

#[test]
fn a_kill_from_outside_is_reported_by_the_init_process_and_is_a_riddle_without() {
    let line = after_below_init(Host::builder(), |host| kill(host, Signal::KILL));
    says(&line, "external_sigkill", "high", "error");
    assert_eq!(line["signal"], 9);
    has(&line, "excluded", "oom_kill: the kernel's count");
    let (_, line) = after(Host::builder(), |host| kill(host, Signal::KILL));
    says(&line, "unknown", "low", "error");
    has(&line, "evidence", "nobody saw how the process ended");
    has(&line, "excluded", "clean: there is no clean marker");
}

#[test]
fn a_native_fault_is_reported_by_the_init_process_and_is_a_riddle_without() {
    for (fault, signal) in [("segv", 11), ("abort", 6)] {
        let builder = || Host::builder().inject_fault(fault);
        let line = after_below_init(builder(), |host| kill(host, Signal::USR2));
        says(&line, "native_fault", "high", "error");
        assert_eq!(
            (&line["signal"], &line["exitCode"]),
            (&signal.into(), &Value::Null),
            "{line:#}"
        );
        let (_, line) = after(builder(), |host| host.signal(Signal::USR2));
        says(&line, "unknown", "low", "error");
    }
}

#[test]
fn a_panic_is_reported_with_its_words_with_and_without_an_init_process() {
    for (fault, thread) in [("panic-main", "main"), ("panic-thread", "unnamed")] {
        let builder = || Host::builder().inject_fault(fault);
        let (_, line) = after(builder(), |host| host.signal(Signal::USR2));
        says(&line, "uncaught_exception", "high", "error");
        has(&line, "evidence", &format!("{thread} panicked at host/daemon/src/faults.rs:"));
        has(&line, "evidence", "a fault was injected into");
        let line = after_below_init(builder(), |host| host.signal(Signal::USR2));
        says(&line, "uncaught_exception", "high", "error");
        assert_eq!(line["exitCode"], PANICKED, "{line:#}");
    }
}

#[test]
fn a_panic_that_is_survived_is_no_cause() {
    let (_, line) = after(Host::builder().inject_fault("panic-task"), |host| {
        host.signal(Signal::USR2);
        host.wait_for_line("the panic", |line| line["event"] == "container.unhandled_rejection");
        kill(host, Signal::KILL);
    });
    says(&line, "unknown", "low", "error");
    has(&line, "excluded", "uncaught_exception");
}

#[test]
fn a_black_box_of_another_run_is_not_believed() {
    let mut first = at_work(Host::builder());
    first.signal(Signal::TERM);
    first.wait();
    let file = first.state_dir().join("blackbox");
    let stale = std::fs::read(&file).expect("read the black box");
    let mut second = at_work_again(&mut first);
    kill(&second, Signal::KILL);
    second.wait();
    // Somebody brings back the one of the run before, which ended clean.
    std::fs::write(&file, stale).expect("put the old one back");
    let third = second.restart();
    let line = previous_run(&third, 1);
    says(&line, "lost", "high", "error");
    assert_eq!(line["previousRunId"], second.lines()[0]["runId"], "{line:#}");
    has(&line, "evidence", "the one found belongs to run");
    third.ready().finish();
}

/// The next run of a host that has ended, with its boot through.
fn at_work_again(host: &mut Host) -> Host {
    let next = host.restart().ready();
    assert_eq!(next.client().ask("one", "hi"), "hi");
    next
}

#[test]
fn a_disk_that_went_with_the_run_is_reported_when_anything_knows_of_the_run() {
    // Init knows. Between two supervisors there is time to take the disk away.
    let builder = Host::builder().supervise().args(&["--max-restarts", "1000"]);
    let host = at_work(builder);
    for run in 2..=6 {
        kill(&host, Signal::KILL);
        host.wait_for_number(&["container.cold_start"], run);
    }
    kill(&host, Signal::KILL);
    wait_until("init waits before it starts the next one", || {
        host.stderr().contains("restart 6 of 1000")
    });
    std::fs::remove_dir_all(host.state_dir()).expect("take the state directory away");
    let line = host.wait_for_line("the run after the loss", |line| {
        line["event"] == "container.previous_run" && line["cause"] == "lost"
    });
    says(&line, "lost", "high", "error");
    assert_eq!(line["signal"], 9, "{line:#}");
    host.ready().finish();

    // Alone only who runs the container knows.
    let mut first = at_work(Host::builder());
    kill(&first, Signal::KILL);
    first.wait();
    std::fs::remove_dir_all(first.state_dir()).expect("take the state directory away");
    let second = first.restart_with(after_outside(r#"{"code":137,"reason":"Error"}"#));
    let line = previous_run(&second, 1);
    says(&line, "lost", "high", "error");
    has(&line, "evidence", "from outside: code 137");
    second.ready().finish();
}

/// Who runs the container says how it ended.
fn after_outside(text: &str) -> Launch {
    Launch::default().run_by(&["env", &format!("BULKHEAD_PREVIOUS_EXIT={text}")])
}

#[test]
fn what_outsiders_know_of_the_end_comes_in() {
    let _quiet = no_kills();
    let mut first = at_work(Host::builder());
    kill(&first, Signal::KILL);
    first.wait();
    let mut second = first.restart_with(after_outside(r#"{"code":137,"reason":"oom"}"#)).ready();
    let line = previous_run(&second, 1);
    says(&line, "oom_kill", "medium", "error");
    assert_eq!(
        (&line["exitCode"], &line["previousRunId"]),
        (&137.into(), &first.lines()[0]["runId"])
    );
    has(&line, "evidence", r#"from outside: code 137, reason "oom""#);
    kill(&second, Signal::KILL);
    second.wait();
    for bad in ["hunter2", r#"{"code":"hunter2"}"#, r#"{"code":1000}"#, "[]"] {
        let third = first.restart_with(after_outside(bad)).ready();
        let warning = third.wait_for_line("a warning", |line| {
            line["level"] == "warn"
                && line["message"].to_string().contains("BULKHEAD_PREVIOUS_EXIT")
        });
        assert!(!warning.to_string().contains("hunter2"), "{warning}");
        assert!(previous_run(&third, 1)["exitCode"].is_null());
        third.finish();
    }
}

#[test]
fn a_kill_before_the_boot_is_through_is_a_kill_and_no_failure_of_the_boot() {
    let _quiet = no_kills();
    let slow = || {
        let builder = Host::builder().guest("slow-start");
        builder.agent("id = \"slow\"\nrole = \"slow-start\"\nprompt = \"80000\"")
    };
    let mut first = slow().start();
    let is_it = |line: &Value| line["event"] == "container.boot_hydration_started";
    first.wait_for_line("a boot that is under way", is_it);
    kill(&first, Signal::KILL);
    first.wait();
    let mut second = first.restart();
    let line = previous_run(&second, 1);
    says(&line, "unknown", "low", "error");
    assert_eq!(line["lastState"], "started", "{line:#}");
    has(&line, "evidence", "its boot came no further than started");
    // A boot that is asked to end, and does, is clean.
    second.signal(Signal::INT);
    second.wait();
    let mut third = first.restart();
    let line = previous_run(&third, 1);
    says(&line, "clean", "high", "info");
    has(&line, "evidence", "its boot came no further than started");
    kill(&third, Signal::KILL);
    third.wait();
    // Init saw it.
    let host = slow().supervise().start();
    previous_run(&host, 1);
    kill(&host, Signal::KILL);
    let line = previous_run(&host, 2);
    says(&line, "external_sigkill", "high", "error");
    has(&line, "excluded", "init_failure: SIGKILL ended it in its boot");
}

#[test]
fn a_boot_that_fails_says_in_which_phase() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let mut first = Host::builder().start().ready();
    first.signal(Signal::TERM);
    first.wait();
    let file = first.dir().join("bulkhead.toml");
    let ended = run_to_end(&file, &[("BULKHEAD_LISTEN", &address.to_string())]);
    assert_eq!(ended.code, Some(CANNOT_RUN), "{ended:?}");
    let third = first.restart();
    let line = previous_run(&third, 1);
    says(&line, "init_failure", "high", "error");
    has(&line, "evidence", "its boot failed in phase control: cannot serve the control API");
    assert_eq!(line["lastState"], "starting", "{line:#}");
}

#[test]
fn a_black_box_that_cannot_be_read_is_set_aside() {
    for damage in [&b"no black box at all"[..], b""] {
        let mut first = at_work(Host::builder());
        kill(&first, Signal::KILL);
        first.wait();
        let file = first.state_dir().join("blackbox");
        std::fs::write(&file, damage).expect("damage the black box");
        let second = first.restart();
        let line = previous_run(&second, 1);
        says(&line, "unknown", "low", "error");
        has(&line, "evidence", "its black box could not be read");
        let kept = std::fs::read_dir(first.state_dir()).expect("list the state directory");
        let kept = kept
            .filter_map(Result::ok)
            .find(|entry| entry.file_name().to_string_lossy().starts_with("blackbox.corrupt-"));
        assert_eq!(std::fs::read(kept.expect("it was kept").path()).expect("read it"), damage);
        second.ready().finish();
    }
}

#[test]
fn a_host_without_a_black_box_says_so_and_works() {
    let state = |state: &Path| {
        std::fs::create_dir_all(state.join("blackbox.new/in-the-way")).expect("make directories");
        Host::builder().render(state)
    };
    let mut host = Host::start(state).ready();
    host.wait_for_line("a warning", |line| {
        line["level"] == "warn" && line["message"].to_string().contains("no black box")
    });
    host.client().start("one", "echo");
    host.signal(Signal::TERM);
    assert_eq!(host.wait().code(), Some(CLEAN));
}

/// A state directory with the black box of a run that was at work and did not end in order.
fn left_by(run: &Run, state: &Path) {
    std::fs::create_dir_all(state).expect("make the state directory");
    let blackbox = blackbox::open(state, run, Geometry::default()).blackbox.expect("a black box");
    for reached in [RunState::Started, RunState::Hydrated] {
        blackbox.reached(reached).expect("reach a state");
    }
}

#[test]
fn a_machine_that_booted_since_is_reported() {
    let host = Host::start(|state| {
        let boot_id = Some("another-boot".into());
        left_by(&Run { run_id: "run-0".into(), boot_id, pid: 1, ..Run::default() }, state);
        Host::builder().render(state)
    });
    let line = previous_run(&host, 1);
    says(&line, "vm_replaced", "high", "error");
    assert_eq!(line["previousRunId"], "run-0");
}

#[test]
fn a_supervisor_that_dies_in_every_boot_is_given_up_with_a_last_word() {
    let mut first = at_work(Host::builder());
    first.signal(Signal::TERM);
    first.wait();
    let file = first.dir().join("bulkhead.toml");
    let text = std::fs::read_to_string(&file).expect("read the configuration");
    std::fs::write(&file, format!("{text}\n[town]\nid = \"town-7\"\n")).expect("write it");
    let args = ["--inject-fault", "abort-in-boot", "--max-restarts", "2", "--supervise"];
    let mut host = harness::host::command(&file, first.dir());
    let ended = host.args(args).output().expect("run the host");
    assert_eq!(ended.status.code(), Some(5), "{ended:?}");
    let lines: Vec<Value> = String::from_utf8_lossy(&ended.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect();
    let last = lines.last().expect("a line");
    assert_eq!(last["event"], "container.previous_run", "{last:#}");
    says(last, "native_fault", "high", "error");
    assert_eq!((&last["runId"], &last["townId"]), (&last["previousRunId"], &"town-7".into()));
    assert_eq!((&last["signal"], &last["lastState"]), (&6.into(), &"started".into()), "{last:#}");
    assert_eq!(last["seq"].as_u64(), last["lastSeq"].as_u64().map(|seq| seq + 1), "{last:#}");
    assert_eq!(last["schema"], 1, "{last:#}");
}

#[test]
fn no_two_runs_share_what_is_known_of_one() {
    let _quiet = no_kills();
    // Killed, clean, killed: each line is about the run right before it.
    let mut first = at_work(Host::builder());
    kill(&first, Signal::KILL);
    first.wait();
    let mut second = first.restart().ready();
    second.signal(Signal::TERM);
    second.wait();
    let mut third = second.restart_with(Launch::default()).ready();
    says(&previous_run(&third, 1), "clean", "high", "info");
    assert_eq!(previous_run(&third, 1)["previousRunId"], second.lines()[0]["runId"]);
    kill(&third, Signal::KILL);
    third.wait();
    let fourth = third.restart();
    says(&previous_run(&fourth, 1), "unknown", "low", "error");
    assert_eq!(previous_run(&fourth, 1)["previousRunId"], third.lines()[0]["runId"]);
}
