//! Evidence that outlives the disk: a run is killed, its state directory is deleted, and the next run knows why it ended.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bulkhead_api::MessageAnswer;
use harness::host::{CLEAN, Launch};
use harness::memory_group::no_kills;
use harness::{Host, HostBuilder, Value, json, wait_until};
use rustix::process::{Signal, kill_process};

/// Exit code of a panic that nothing contained.
const PANICKED: i32 = 4;

/// Numbers that a run on an empty disk leaves out.
const ROOM: u64 = 1000;

/// A host whose evidence goes to a directory beside its own.
fn with_sink(sink: &Path) -> HostBuilder {
    with_sink_at(&format!("file://{}", sink.display()), "heartbeat_ms = 300")
}

fn with_sink_at(sink: &str, more: &str) -> HostBuilder {
    let role = "restart = \"transient\"\nmax_attempts = 1\nrestart_backoff_ms = 1\nrestart_backoff_max_ms = 1\nrestart_max = 2\n\
        restart_window_ms = 3600000\nrestart_same_fault = 100";
    let builder = Host::builder().guest("puppet").guest("trap").role("looper", "trap", role);
    builder.toml(&format!("[evidence]\nsink = {sink:?}\nname = \"test-town\"\n{more}"))
}

fn sink() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("bulkhead-evidence-").tempdir().expect("make a directory")
}

/// Ends a host by SIGKILL, waits, and takes its disk.
fn kill_with_its_disk(host: &mut Host) {
    kill_process(host.supervisor_pid(), Signal::KILL).expect("send SIGKILL");
    host.wait();
    lose_disk(host);
}

fn lose_disk(host: &Host) {
    std::fs::remove_dir_all(host.state_dir()).expect("delete the state directory");
}

/// The documents of a kind at the sink.
fn documents(sink: &Path, kind: &str) -> String {
    let read = |n: u8| std::fs::read_to_string(sink.join(format!("test-town/{kind}-{n}.json")));
    (0..2).filter_map(|n| read(n).ok()).collect()
}

/// Waits until the sink knows that the boot of this run is through.
fn wait_until_known(sink: &Path, host: &Host) {
    let run_id = host.lines()[0]["runId"].clone();
    let read = |n: u8| std::fs::read(sink.join(format!("test-town/run-{n}.json"))).ok();
    let is_known = |document: Vec<u8>| {
        let document: Value = serde_json::from_slice(&document).expect("a document is JSON");
        let reached = &document["content"]["digest"]["reached"];
        document["runId"] == run_id && reached.to_string().contains("hydrated")
    };
    wait_until("the sink knows of the run", || (0..2).filter_map(read).any(is_known));
}

fn crash(host: &Host, agent: &str, role: &str) -> Value {
    host.client().start_afresh(agent, role);
    host.client().send_wait(agent, "panic").expect_error(502, &["told to panic"]);
    host.wait_for_event(agent, "agent.crash")
}

fn previous_run(host: &Host) -> Value {
    host.wait_for_number(&["container.previous_run"], 1)
}

#[track_caller]
fn has(line: &Value, list: &str, text: &str) {
    let found = line[list].as_array().expect("a list");
    let found = found.iter().any(|entry| entry.as_str().is_some_and(|entry| entry.contains(text)));
    assert!(found, "{text:?} is not in {list}: {line:#}");
}

fn after_outside(text: &str) -> Launch {
    Launch::default().run_by(&["env", &format!("BULKHEAD_PREVIOUS_EXIT={text}")])
}

#[test]
fn a_run_whose_disk_is_gone_has_a_cause_its_crashes_and_its_numbers() {
    let _quiet = no_kills();
    let sink = sink();
    let mut first = with_sink(sink.path()).start().ready();
    let record = crash(&first, "one", "trap");
    first.client().start_afresh("one", "trap");
    first.client().start("busy", "puppet");
    let sent: MessageAnswer = first.client().send("busy", "wait").read(200);
    wait_until("the agent is in its turn", || first.client().status("busy").busy);
    // The next heartbeat has it.
    let message = format!("{:?}", sent.message_id);
    wait_until("the sink has the turn", || documents(sink.path(), "run").contains(&message));
    kill_with_its_disk(&mut first);

    let mut second = first.restart_with(after_outside(r#"{"code":137,"reason":"oom"}"#)).ready();
    let line = previous_run(&second);
    assert_eq!((&line["cause"], &line["level"]), (&json!("oom_kill"), &json!("error")), "{line:#}");
    assert_eq!(line["previousRunId"], first.lines()[0]["runId"], "{line:#}");
    assert_eq!(line["lastState"], "hydrated", "{line:#}");
    has(&line, "evidence", "the disk has nothing of it; its digest at the evidence sink is of");
    let flight = &line["inFlight"][0];
    assert_eq!(flight["agentId"], "busy");
    assert_eq!(flight["messageId"], sent.message_id);
    assert!(line["lastMemory"]["rssBytes"].as_u64() > Some(0), "{line:#}");
    let found =
        second.wait_for_line("what was found", |line| line["event"] == "container.evidence_found");
    assert_eq!(
        (&found["believed"], &found["crashRecords"]),
        (&json!("sink"), &json!(1)),
        "{found:#}"
    );
    // The record of the run before, as it was.
    let path = format!("/crashes/{}", record["crashId"].as_str().expect("a crash id"));
    let read = second.client().get(&path).expect(200);
    for field in ["runId", "fingerprint", "crashedAt", "messageId"] {
        assert_eq!(read[field], record[field], "{field}");
    }
    // Numbers go on, those of agents that nobody knew as well.
    let one = second.client().start("one", "trap").agent.incarnation.0;
    assert_eq!(one, 2 + ROOM + 1);
    let other = second.client().start("other", "trap").agent.incarnation.0;
    assert!(other > ROOM, "{other}");
    // The same once more, with the disk that there is now: nothing comes from the sink.
    kill_process(second.supervisor_pid(), Signal::KILL).expect("send SIGKILL");
    second.wait();
    let third = second.restart().ready();
    let found =
        third.wait_for_line("what was found", |line| line["event"] == "container.evidence_found");
    assert_eq!(
        (&found["believed"], &found["crashRecords"]),
        (&json!("disk"), &json!(0)),
        "{found:#}"
    );
    assert_eq!(previous_run(&third)["previousRunId"], second.lines()[0]["runId"]);
    third.finish_with(Signal::INT, CLEAN);
}

#[test]
fn an_end_that_a_run_sees_itself_is_known_without_its_disk() {
    let sink = sink();
    // A panic of the host.
    let mut first = with_sink(sink.path()).inject_fault("panic-thread").start().ready();
    first.signal(Signal::USR2);
    assert_eq!(first.wait().code(), Some(PANICKED));
    lose_disk(&first);
    let mut second = first.restart_with(Launch::default()).ready();
    let line = previous_run(&second);
    assert_eq!(
        (&line["cause"], &line["confidence"]),
        (&json!("uncaught_exception"), &json!("high")),
        "{line:#}"
    );
    has(&line, "evidence", "panicked at host/daemon/src/faults.rs");
    // An end as asked.
    second.signal(Signal::TERM);
    assert_eq!(second.wait().code(), Some(CLEAN));
    lose_disk(&second);
    let mut third = second.restart().ready();
    let line = previous_run(&third);
    assert_eq!(
        (&line["cause"], &line["confidence"]),
        (&json!("clean"), &json!("high")),
        "{line:#}"
    );
    assert_eq!(line["lastSeq"], second.lines().last().expect("a line")["seq"], "{line:#}");
    // A kill that nobody saw has no cause, and is no run that nothing is known of.
    wait_until_known(sink.path(), &third);
    kill_with_its_disk(&mut third);
    let fourth = third.restart().ready();
    let line = previous_run(&fourth);
    assert_eq!(
        (&line["cause"], &line["lastState"]),
        (&json!("unknown"), &json!("hydrated")),
        "{line:#}"
    );
    fourth.finish();
}

#[test]
fn a_copy_of_an_older_disk_is_not_believed_over_the_sink() {
    let sink = sink();
    let mut first = with_sink(sink.path()).start().ready();
    first.client().start("one", "puppet");
    first.signal(Signal::TERM);
    first.wait();
    let copy = sink.path().join("copy");
    copy_all(&first.state_dir(), &copy);
    let mut second = first.restart().ready();
    // After an end as asked numbers have no gap: the sink kept nothing of the host alive.
    second.client().runs("one", 2);
    for _ in 0..3 {
        second.client().start_afresh("one", "puppet");
    }
    wait_until_known(sink.path(), &second);
    kill_with_its_disk(&mut second);
    std::fs::rename(&copy, second.state_dir()).expect("put the copy back");
    let third = second.restart().ready();
    let line = previous_run(&third);
    assert_eq!(line["previousRunId"], second.lines()[0]["runId"], "{line:#}");
    assert_eq!(line["cause"], "unknown", "the clean marker is of the run before: {line:#}");
    assert!(line.get("earlier").is_none_or(|earlier| earlier == &json!([])), "{line:#}");
    let number = third.client().start_afresh("one", "puppet").agent.incarnation.0;
    assert!(number > ROOM, "{number}");
    third.finish_with(Signal::INT, CLEAN);
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("make a directory");
    for entry in std::fs::read_dir(from).expect("list a directory").map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type().expect("a type").is_dir() {
            true => copy_all(&from, &to),
            false => drop(std::fs::copy(from, to).expect("copy a file")),
        }
    }
}

#[test]
fn a_quarantine_outlives_the_disk_and_so_does_the_window() {
    let sink = sink();
    let agent = "id = \"configured\"\nrole = \"looper\"";
    let mut first = with_sink(sink.path()).agent(agent).start().ready();
    first.client().start("quarantined", "looper");
    for n in 0..3 {
        first.client().runs("quarantined", n + 1);
        first.client().send_wait("quarantined", "panic").expect_error(502, &["told to panic"]);
    }
    first.wait_for_event("quarantined", "agent.quarantined");
    // This one has two restarts in its window, and may have no third.
    for n in 0..2 {
        first.client().runs("configured", n + 1);
        first.client().send_wait("configured", "panic").expect_error(502, &["told to panic"]);
    }
    first.client().runs("configured", 3);
    let crashes =
        || documents(sink.path(), "crashes").matches("\"agentId\":\"configured\"").count();
    wait_until("the sink has both crashes", || crashes() == 2);
    let state = || documents(sink.path(), "run");
    let counted =
        || state().matches("\"crashId\"").count() >= 5 && state().contains("quarantine\":{");
    wait_until("the sink has the histories", counted);
    kill_with_its_disk(&mut first);
    let second = first.restart().ready();
    second.client().runs("configured", 3 + ROOM + 1);
    second.client().send_wait("configured", "panic").expect_error(502, &["told to panic"]);
    second.wait_for_event("configured", "agent.quarantined");
    assert_eq!(second.client().status("quarantined").status, "quarantined");
    let body = json!({"agentId": "quarantined", "role": "looper"});
    second.client().post("/agents/start", &body).expect_error(409, &["quarantin"]);
    second.finish();
}

#[test]
fn a_sink_that_hangs_delays_nothing_but_the_boot_and_that_within_its_deadline() {
    // It takes connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("an address"));
    let builder = with_sink_at(&url, "fetch_ms = 300\ncall_ms = 500\nheartbeat_ms = 200");
    let began = Instant::now();
    let mut host = builder.start().ready();
    let booted = began.elapsed();
    assert!(booted < Duration::from_secs(10), "{booted:?}");
    let line = previous_run(&host);
    assert_eq!(line["cause"], "none", "{line:#}");
    has(&line, "evidence", "the evidence sink is of no help: no answer within 300 ms");
    let failed =
        host.wait_for_line("the failure", |line| line["event"] == "container.evidence_failed");
    assert_eq!(
        (&failed["doing"], &failed["cause"]),
        (&json!("fetch"), &json!("deadline")),
        "{failed:#}"
    );
    let began = Instant::now();
    for n in 0..20 {
        crash(&host, &format!("agent-{n}"), "trap");
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let failed =
        || host.client().metrics()["bulkhead_evidence_documents_total{outcome=\"failed\"}"];
    wait_until("tries are counted", || failed() > 1.0);
    let lines = host.events_named("container.evidence_failed").len();
    assert!(lines <= 2, "one line a problem and not one a try: {lines}");
    let began = Instant::now();
    host.signal(Signal::TERM);
    assert_eq!(host.wait().code(), Some(CLEAN));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(host.stderr().contains("is not at the evidence sink"), "{}", host.stderr());
    drop(silent);
}

/// How soon is a figure of the bench (`just bench --only evidence`).
#[test]
fn a_crash_is_at_the_sink_long_before_the_next_heartbeat() {
    let sink = sink();
    let url = format!("file://{}", sink.path().display());
    let host = with_sink_at(&url, "heartbeat_ms = 3600000").start().ready();
    for n in 0..10 {
        let agent = format!("agent-{n}");
        host.client().start(&agent, "trap");
        host.client().send_wait(&agent, "panic").expect_error(502, &["told to panic"]);
        let quoted = format!("{agent:?}");
        wait_until("the record is there", || documents(sink.path(), "crashes").contains(&quoted));
    }
    host.finish();
}

#[test]
fn the_termination_log_says_why_the_container_ended_whatever_ended_it() {
    let dir = sink();
    let file = dir.path().join("termination-log");
    let run_by = || {
        let variable = format!("BULKHEAD_TERMINATION_LOG={}", file.display());
        Launch::default().run_by(&["env", &variable])
    };
    let text = || std::fs::read_to_string(&file).expect("read the file");
    std::fs::write(&file, "").expect("make the file");
    let builder = Host::builder().guest("trap").inject_fault("panic-thread");
    let mut first = Host::start_with(run_by(), |state| builder.render(state)).ready();
    let run_id = first.lines()[0]["runId"].as_str().expect("an id").to_owned();
    assert!(
        text().starts_with(&format!("run {run_id} ended without a word of its own")),
        "{}",
        text()
    );
    assert!(text().contains("the run before it: there was none"), "{}", text());
    kill_process(first.supervisor_pid(), Signal::KILL).expect("send SIGKILL");
    first.wait();
    let mut second = first.restart_with(run_by()).ready();
    assert!(
        text().contains(&format!("the run before it: unknown (low confidence), run {run_id}")),
        "{}",
        text()
    );
    second.signal(Signal::TERM);
    assert_eq!(second.wait().code(), Some(CLEAN));
    assert!(text().contains("ended as asked (SIGTERM): 0 agents ended"), "{}", text());
    // It stays within what is read, and nothing is made where there is none.
    std::fs::write(&file, "x".repeat(10_000)).expect("fill the file");
    let third = second.restart_with(run_by()).ready();
    assert!(text().len() <= 4096 && !text().contains("xxx"));
    third.finish();
    std::fs::remove_file(&file).expect("remove the file");
    second.restart_with(run_by()).ready().finish();
    assert!(!PathBuf::from(&file).exists());
}
