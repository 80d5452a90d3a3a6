//! Crash records: in the log, over HTTP, in the file that the next run reads, and on the terminal.

use std::process::Command;

use bulkhead_api::CrashesPage;
use harness::{Host, Value, files, json, wait_until};
use rustix::process::Signal;

/// A host with an agent that panicked once. Returns the record as the log has it.
fn crashed(role: &str) -> (Host, Value) {
    let host = Host::builder().guest("trap").role("trap", "trap", role).start();
    host.client().start("one", "trap");
    let answer = host.client().send_wait("one", "panic").expect_error(502, &["told to panic"]);
    let crash = host.wait_for_line("the record", |line| line["event"] == "agent.crash");
    assert_eq!(answer.crash_id.as_deref(), crash["crashId"].as_str());
    (host, crash)
}

fn record(host: &Host, crash: &Value) -> Value {
    let path = format!("/crashes/{}", crash["crashId"].as_str().expect("a crash id"));
    host.client().get(&path).expect(200)
}

#[test]
fn a_record_is_read_by_its_id_of_its_agent_and_among_all() {
    let (host, crash) = crashed("");
    let record = record(&host, &crash);
    for (field, expected) in [
        ("agentId", json!("one")),
        ("reason", json!("panic")),
        ("startAttempt", json!(1)),
        ("runId", crash["runId"].clone()),
        ("consequence", json!({"decision": "none"})),
    ] {
        assert_eq!(record[field], expected, "{field}");
    }
    assert!(record["lastEvents"].as_array().is_some_and(|events| !events.is_empty()), "{record}");
    for path in ["/crashes", "/agents/one/crashes", "/crashes?agent=one&reason=panic&limit=1"] {
        let page: CrashesPage = host.client().get(path).read(200);
        assert_eq!(page.crashes[0].crash_id, crash["crashId"], "{path}");
        assert_eq!((page.crashes.len(), page.more), (1, false));
    }
    for path in ["/crashes?reason=trap", "/agents/other/crashes", "/crashes?limit=0"] {
        let page: CrashesPage = host.client().get(path).read(200);
        assert!(page.crashes.is_empty(), "{path}");
    }
    host.client().get("/crashes/none").expect_error(404, &["no such crash"]);
    host.finish();
}

#[test]
fn files_and_lines_are_filled_in_afterwards() {
    let (host, crash) = crashed("");
    wait_until("the record has its lines", || record(&host, &crash)["symbolized"] == "done");
    let line = host.wait_for_line("the lines", |line| {
        line["event"] == "agent.crash_symbolized" && line["crashId"] == crash["crashId"]
    });
    let record = record(&host, &crash);
    assert_eq!(record["frames"], line["frames"]);
    // The first frame of the agent's own is where its panic message says.
    let frames = record["frames"].as_array().expect("frames");
    let own = frames.iter().find(|frame| frame["inApp"] == true).expect("a frame of the agent");
    assert_eq!(own["line"], record["location"]["line"], "{own}");
    assert!(own["file"].as_str().is_some_and(|file| file.ends_with("trap.rs")), "{own}");
    // The same crash again has them at once.
    host.client().start("two", "trap");
    host.client().send_wait("two", "panic").expect_error(502, &["told to panic"]);
    let again = host.wait_for_event("two", "agent.crash");
    assert_eq!((&again["symbolized"], &again["frames"]), (&json!("done"), &record["frames"]));
    assert_eq!(again["fingerprint"], crash["fingerprint"]);
    host.finish();
}

/// Crashes with 40 MiB in memory, of which a copy takes a while, and is restarted at once.
const LARGE: &str = "core_dump = true\nmemory_limit_mb = 48\nrestart = \"transient\"\nmax_attempts = 1\n\
    restart_backoff_ms = 1\nrestart_backoff_max_ms = 1\nrestart_max = 100";

#[test]
fn an_agent_comes_back_when_its_dump_has_given_its_store_back_and_not_before() {
    // The pool has room for one store: a second one beside it would fail.
    let builder = Host::builder().guest("leak").role("leak", "leak", LARGE);
    let host = builder.toml("[limits]\nmax_agents = 1").start();
    host.client().start("one", "leak");
    for incarnation in 1..=5 {
        host.client().runs("one", incarnation);
        assert_eq!(host.client().ask("one", "leak 40960"), "40960");
        host.client().send_wait("one", "leak 20480").expect_error(502, &[]);
    }
    host.client().runs("one", 6);
    wait_until("the dumps are kept", || {
        host.client().metrics()["bulkhead_core_dumps_kept_total"] == 5.0
    });
    let dumps = host.events_named("agent.core_dump");
    let large = dumps.iter().all(|dump| dump["coreDump"]["bytes"].as_u64() > Some(40 << 20));
    assert!(large, "{dumps:#?}");
    let exits = host.events_of("one", "agent.exit");
    assert!(exits.iter().all(|exit| exit["reason"] == "memory_limit"), "{exits:#?}");
    assert_eq!(exits.len(), 5, "{exits:#?}");
    host.finish();
}

#[test]
fn a_role_that_wants_core_dumps_gets_one_for_each_crash() {
    let (host, crash) = crashed("core_dump = true");
    let line = host.wait_for_line("the dump", |line| line["event"] == "agent.core_dump");
    assert_eq!(line["crashId"], crash["crashId"]);
    let record = record(&host, &crash);
    assert_eq!(record["coreDump"], line["coreDump"]);
    let file = host.state_dir().join("cores").join(record["coreDump"]["id"].as_str().unwrap());
    let bytes = std::fs::read(&file).expect("read the dump");
    assert_eq!(bytes.len() as u64, record["coreDump"]["bytes"].as_u64().unwrap());
    assert_eq!(&bytes[..4], b"\0asm");
    host.finish();
}

/// The crash of the only agent, and that its core dump is kept.
fn dumped(host: &Host) -> Value {
    let dump = host.wait_for_line("the dump", |line| line["event"] == "agent.core_dump");
    let [crash] = &host.crashes()[..] else { panic!("{:?}", host.crashes()) };
    assert_eq!(dump["crashId"], crash["crashId"]);
    crash.clone()
}

#[test]
fn a_stock_component_leaves_a_core_dump_too() {
    let host = Host::builder().guest("command").role("command", "command", "core_dump = true");
    let host = host.start();
    let panics = json!({"envVars": {"COMMAND_EXIT": "panic"}});
    host.client().start_with("job", "command", panics).expect(201);
    let crash = dumped(&host);
    assert_eq!((&crash["reason"], &crash["phase"]), (&json!("panic"), &json!("run")));
    host.finish();
}

/// Its grace is short, and it does not go by itself.
const DEAF: &str = "core_dump = true\nshutdown_ms = 200";

#[test]
fn an_end_in_shutdown_leaves_a_core_dump_too() {
    let host = Host::builder().guest("ignores-stop").role("deaf", "ignores-stop", DEAF);
    let host = host.start();
    host.client().start("one", "deaf");
    host.client().stop("one").expect(200);
    let crash = dumped(&host);
    assert_eq!((&crash["reason"], &crash["phase"]), (&json!("killed"), &json!("shutdown")));
    host.finish();
}

#[test]
fn the_next_run_and_a_person_read_what_was_written() {
    let (host, crash) = crashed("");
    wait_until("the record has its lines", || record(&host, &crash)["symbolized"] == "done");
    let mut host = host;
    host.signal(Signal::TERM);
    assert_eq!(host.wait().code(), Some(0));
    let config = host.dir().join("bulkhead.toml");
    let run = |args: &[&str]| {
        let mut command = Command::new(files::binary());
        command.arg("crashes").args(args).arg("--config").arg(&config);
        let output = command.output().expect("run bulkhead crashes");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let id = crash["crashId"].as_str().expect("an id");
    let (code, text, errors) = run(&["show"]);
    assert_eq!(code, Some(0), "{errors}");
    for part in [id, "one, role trap", "panic", "told to panic", "trap.rs:", "not restarted"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (_, text, _) = run(&["list"]);
    assert!(text.contains(id) && text.lines().count() == 1, "{text}");
    let (_, text, _) = run(&["show", &id[..id.len() - 1], "--json"]);
    let read: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&read["crashId"], &read["symbolized"]), (&crash["crashId"], &json!("done")));
    let (code, _, errors) = run(&["show", "nonsense"]);
    assert!(code == Some(2) && errors.contains("no such crash: nonsense"), "{errors}");

    let host = host.restart();
    assert_eq!(record(&host, &crash)["message"], crash["message"]);
    host.finish();
}
