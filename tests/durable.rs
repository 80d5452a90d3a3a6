//! What a host knows of the one before it: agents, settings, quarantine, state.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bulkhead_api::{Health, Readiness};
use bulkhead_store::database::{Config, Database, Newest, Notice, Snapshot};
use bulkhead_types::restart::QuarantineReason;
use bulkhead_types::{AgentId, Incarnation, Timestamp};
use harness::host::{CLEAN, Launch, run_to_end};
use harness::{Host, HostBuilder, Value, json, wait_until};
use rustix::process::Signal;

/// Is restarted at once.
const LOOPER: &str = "restart = \"transient\"\nmax_attempts = 1\nrestart_backoff_ms = 1\nrestart_backoff_max_ms = 1\n\
    restart_max = 2\nrestart_window_ms = 3600000";

/// Keeps its state after each turn.
const REMEMBERS: &str = "snapshot = \"turn\"\nsnapshot_ms = 1\nrestart = \"transient\"\nmax_attempts = 1\n\
    restart_backoff_ms = 1\nrestart_backoff_max_ms = 1";

fn builder() -> HostBuilder {
    Host::builder().guest("puppet").role("looper", "puppet", LOOPER)
}

/// The next run, after this one was killed at this moment.
fn killed(host: &mut Host) -> Host {
    host.signal(Signal::KILL);
    host.wait();
    host.restart().ready()
}

/// The next run, after this one ended in order.
fn ended(host: &mut Host) -> Host {
    host.signal(Signal::TERM);
    host.wait();
    host.restart().ready()
}

/// What a host without a run has in its database, which has to be whole.
fn database(host: &Host) -> Database {
    let config = Config::in_state_dir(&host.state_dir());
    Database::open(config, |notice| panic!("the database has something to say: {notice:?}")).0
}

fn id(agent: &str) -> AgentId {
    AgentId::parse(agent).expect("an id")
}

fn state_of(host: &Host, agent: &str) -> Option<String> {
    host.client().find(agent).map(|known| known.status.into_owned())
}

fn hydration(host: &Host) -> Value {
    host.wait_for_line("the end of hydration", |line| {
        line["event"] == "container.boot_hydration_finished"
    })
}

#[test]
fn what_ran_runs_again_and_what_was_stopped_or_done_does_not() {
    for next in [killed, ended] {
        let mut host = builder().start().ready();
        let client = host.client();
        let more = json!({"name": "Ann", "model": "first", "systemPrompt": "be brief"});
        client.start_with("runs", "puppet", more).expect(201);
        client.set_model("runs", "second").expect(200);
        client.start("stopped", "puppet");
        client.stop("stopped").expect(200);
        client.start("done", "puppet");
        client.send_wait("done", "done").expect(200);
        client.reaches("done", "exited");
        client.start("failed", "puppet");
        client.send_wait("failed", "panic").expect(502);
        client.reaches("failed", "failed");
        // What ends by itself is not acknowledged to anybody: this answer comes after it.
        client.start("last", "puppet");
        let before = client.status("runs").incarnation;
        let second = next(&mut host);
        let runs = second.client().status("runs");
        assert_eq!((&*runs.status, &*runs.name), ("running", "Ann"), "{runs:?}");
        assert_eq!(runs.model.as_deref(), Some("second"), "the change was kept: {runs:?}");
        assert!(runs.incarnation > before, "no number is used twice: {runs:?}");
        assert_eq!(second.client().ask("runs", "hi"), "hi");
        for down in ["stopped", "done", "failed"] {
            assert_eq!(state_of(&second, down), None, "{down} was restarted");
        }
        let report = hydration(&second);
        assert_eq!((&report["agents"], &report["running"]), (&json!(2), &json!(2)), "{report}");
        // A stopped one can be started, and its numbers go on.
        let again = second.client().start("stopped", "puppet");
        assert!(again.agent.incarnation.0 > 1, "{again:?}");
        second.finish();
    }
}

#[test]
fn a_crash_looper_stays_in_quarantine_with_its_history_and_comes_out_by_force() {
    let mut host = builder().start().ready();
    let client = host.client();
    let start = json!({"agentId": "looper", "role": "looper"});
    client.post("/agents/start", &start).expect(201);
    for _ in 0..3 {
        wait_until("it takes messages", || client.send("looper", "panic").status == 200);
    }
    client.reaches("looper", "quarantined");
    let before = client.post("/agents/start", &start).expect_error(409, &[]);
    // An answer that comes after it: what it follows is durable.
    client.start("other", "looper");
    let mut second = killed(&mut host);
    let client = second.client();
    let status = client.status("looper");
    assert_eq!(status.status, "quarantined", "{status:?}");
    assert_eq!(status.exit_reason.as_deref(), Some("panic"), "{status:?}");
    let why = status.restart.quarantine.map(|quarantine| quarantine.why);
    assert_eq!(why, Some(QuarantineReason::Intensity));
    let after = client.post("/agents/start", &start).expect_error(409, &[]);
    assert_eq!(before.history, after.history, "{after:?}");
    assert_eq!(after.history.len(), 3, "{after:?}");
    assert_eq!(hydration(&second)["quarantined"], 1);
    assert_eq!(client.status("other").status, "running");
    client
        .post("/agents/start", &json!({"agentId": "looper", "role": "looper", "force": true}))
        .expect(201);
    let third = killed(&mut second);
    assert_eq!(third.client().status("looper").status, "running");
    third.finish();
}

#[test]
fn one_that_hangs_or_cannot_start_delays_nobody() {
    // Its first start is in time. In the next run it takes as long as this test wants.
    let limits = "[limits]\nhydration_ms = 500\nhydration_parallel = 1";
    let builder = Host::builder().guest("slow-start").guest("puppet").toml(limits);
    let mut host = builder.start().ready();
    let client = host.client();
    host.release("slow");
    client.start_with("slow", "slow-start", json!({"prompt": "wait"})).expect(201);
    (0..10).for_each(|n| drop(client.start(&format!("quick-{n}"), "echo")));
    // A role that the next run does not have.
    client.start("homeless", "puppet");
    host.signal(Signal::KILL);
    host.wait();
    let file = host.dir().join("bulkhead.toml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    let mut config: toml::Table = text.parse().expect("TOML");
    let roles = config["roles"].as_table_mut().expect("roles");
    assert!(roles.remove("puppet").is_some());
    // For all others, one after the other on a busy machine, and not for the one that hangs.
    config["limits"]["hydration_ms"] = 4000.into();
    std::fs::write(&file, config.to_string()).expect("write the configuration");
    let second = host.restart().ready();
    let report = hydration(&second);
    assert_eq!([&report["late"], &report["failed"]], [&json!(1), &json!(1)], "{report}");
    let failed = report["results"].as_array().expect("results").iter();
    let failed: Vec<_> = failed.filter(|result| result["result"] == "failed").collect();
    assert_eq!(failed[0]["errorType"], "unknown-role", "{report}");
    for n in 0..10 {
        second.client().reaches(&format!("quick-{n}"), "running");
    }
    assert_eq!(second.client().status("slow").status, "starting", "all others were first");
    second.release("slow");
    second.client().reaches("slow", "running");
    second.finish();
}

#[test]
fn the_mayor_comes_first() {
    let builder = Host::builder().role("mayor", "echo", "").role("worker", "echo", "");
    let mut host = builder.toml("[limits]\nhydration_parallel = 1").start().ready();
    for agent in ["a1", "a2", "a3"] {
        host.client().start(agent, "worker");
    }
    host.client().start("zz", "mayor");
    let second = killed(&mut host);
    let lines = second.finish();
    let starts: Vec<_> = lines.iter().filter(|line| line["event"] == "agent.start").collect();
    assert_eq!(starts.len(), 4);
    assert_eq!(starts[0]["agentId"], "zz");
}

#[test]
fn the_configuration_starts_what_nobody_stopped() {
    let agent = |prompt: &str| format!("id = \"boot\"\nrole = \"echo\"\nprompt = {prompt:?}");
    let mut host = Host::builder().agent(&agent("one")).start().ready();
    assert_eq!(host.client().status("boot").status, "running");
    // It runs as it last was: what the configuration says did not change.
    let more = json!({"prompt": "two", "name": "Bo"});
    host.client().start_with("boot", "echo", more).expect(201);
    let mut second = killed(&mut host);
    assert_eq!(second.client().status("boot").name, "Bo");
    // The log is a moment behind; this line comes after those of the starts.
    hydration(&second);
    assert_eq!(second.events_of("boot", "agent.start").len(), 1, "once, not twice");
    second.client().stop("boot").expect(200);
    let third = killed(&mut second);
    assert_eq!(state_of(&third, "boot"), None, "somebody stopped it");
    third.client().start("boot", "echo");
    third.finish();
}

#[test]
fn a_configured_agent_follows_its_configuration_when_that_changes() {
    let agent = "id = \"boot\"\nrole = \"echo\"\nname = \"old\"";
    let mut host = Host::builder().agent(agent).start().ready();
    host.signal(Signal::KILL);
    host.wait();
    let file = host.dir().join("bulkhead.toml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    std::fs::write(&file, text.replace("\"old\"", "\"new\"")).expect("write the configuration");
    let second = host.restart().ready();
    assert_eq!(second.client().status("boot").name, "new");
    second.finish();
}

#[test]
fn one_whose_role_is_gone_is_missing_until_somebody_stops_it() {
    let mut host = Host::builder().role("old", "echo", "workspace = false").start().ready();
    host.client().start("one", "old");
    host.signal(Signal::KILL);
    host.wait();
    let file = host.dir().join("bulkhead.toml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    std::fs::write(&file, text.replace("[roles.old]", "[roles.new]")).expect("write it");
    let mut second = host.restart().ready();
    let ready: Readiness = second.client().get("/readyz").read(200);
    assert_eq!((ready.agents[0].agent_id.as_str(), &*ready.agents[0].status), ("one", "failed"));
    assert!(ready.agents[0].reason.contains("unknown role"), "{ready:?}");
    assert_eq!(second.client().get("/health").read::<Health>(200).missing, 1);
    second.client().stop("one").expect(200);
    second.client().stop("one").expect_error(404, &["no such agent"]);
    second.client().health();
    let third = killed(&mut second);
    assert_eq!(hydration(&third)["agents"], 0, "it was stopped for good");
    third.client().health();
    third.finish();
}

#[test]
fn a_start_during_hydration_is_answered_and_wins() {
    let limits = "[limits]\nhydration_parallel = 1";
    let builder = Host::builder().guest("slow-start").toml(limits);
    let mut host = builder.start().ready();
    let slow = json!({"agentId": "slow", "role": "slow-start", "prompt": "6000"});
    host.client().post("/agents/start", &slow).expect(201);
    host.client().start("waits", "echo");
    host.signal(Signal::KILL);
    host.wait();
    let second = host.restart();
    // Equal starts join or come first; another spec supersedes. Nobody waits for the others.
    let began = Instant::now();
    let more = json!({"name": "newer"});
    second.client().start_with("waits", "echo", more).expect(201);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let answer = second.client().post("/agents/start", &slow);
    assert!([200, 201].contains(&answer.status), "{}", answer.text);
    let second = second.ready();
    assert_eq!(second.client().status("waits").name, "newer");
    assert_eq!(second.client().status("slow").status, "running");
    second.finish();
}

/// Makes a call while the database cannot be written, lets it be written once the call was seen to wait, and
/// returns how long it took.
fn while_the_disk_is_slow(host: &Host, call: impl FnOnce() + Send) -> Duration {
    let mut lock = rusqlite::Connection::open(host.state_dir().join("store/bulkhead.db"))
        .expect("open the database");
    let behavior = rusqlite::TransactionBehavior::Immediate;
    let lock = lock.transaction_with_behavior(behavior).expect("keep others from writing");
    std::thread::scope(|scope| {
        let began = Instant::now();
        let call = scope.spawn(move || {
            call();
            began.elapsed()
        });
        // The time is the fact: a slow disk, and less than the host waits for the lock.
        std::thread::sleep(SLOW);
        lock.rollback().expect("let others write");
        call.join().expect("it is answered")
    })
}

/// How slow the disk is: far above what a start or a stop takes.
const SLOW: Duration = Duration::from_millis(250);

#[test]
fn a_start_and_a_stop_are_answered_when_they_are_written() {
    let mut host = builder().start().ready();
    let client = host.client();
    client.start("other", "echo");
    let started = while_the_disk_is_slow(&host, || drop(client.start("one", "echo")));
    assert!(started >= SLOW, "a start was answered after {started:?}");
    let stopped = while_the_disk_is_slow(&host, || drop(client.stop("one").expect(200)));
    assert!(stopped >= SLOW, "a stop was answered after {stopped:?}");
    let second = killed(&mut host);
    assert_eq!(state_of(&second, "one"), None);
    assert_eq!(second.events_named("container.store_unavailable").len(), 0);
    second.finish();
}

#[test]
fn a_damaged_database_is_set_aside_and_the_host_comes_up() {
    let mut host = builder().start().ready();
    host.client().start("one", "echo");
    host.signal(Signal::TERM);
    host.wait();
    let file = host.state_dir().join("store/bulkhead.db");
    let mut bytes = std::fs::read(&file).expect("the database");
    bytes.iter_mut().skip(100).step_by(7).for_each(|byte| *byte ^= 0x5a);
    std::fs::write(&file, &bytes).expect("damage the database");
    let second = host.restart().ready();
    let line =
        second.wait_for_line("the set-aside", |line| line["event"] == "container.store_set_aside");
    let kept = PathBuf::from(line["keptAs"].as_str().expect("a path"));
    assert_eq!(std::fs::read(kept).expect("it is kept"), bytes);
    assert_eq!(second.lines()[0]["event"], "container.cold_start");
    second.client().start("two", "echo");
    second.finish();
}

#[test]
fn a_damaged_journal_is_an_error_that_says_what_is_lost() {
    let mut host = builder().start().ready();
    host.signal(Signal::KILL);
    host.wait();
    let file = host.state_dir().join("journal");
    let mut bytes = std::fs::read(&file).expect("the journal");
    bytes[..64].fill(0x5a);
    std::fs::write(&file, &bytes).expect("damage the journal");
    let second = host.restart().ready();
    let is_it = |line: &Value| line["message"].as_str().is_some_and(|it| it.ends_with("are lost"));
    let line = second.wait_for_line("the loss", is_it);
    assert_eq!(
        (&line["event"], &line["level"]),
        (&json!("container.log"), &json!("error")),
        "{line}"
    );
    second.finish();
}

#[test]
fn a_database_that_is_gone_is_missed_and_a_first_boot_misses_none() {
    let mut host = builder().start().ready();
    assert!(host.events_named("container.store_set_aside").is_empty());
    host.client().start("one", "echo");
    host.signal(Signal::TERM);
    host.wait();
    std::fs::write(host.state_dir().join("store/bulkhead.db"), "").expect("empty the database");
    let second = host.restart().ready();
    let line =
        second.wait_for_line("the loss", |line| line["event"] == "container.store_set_aside");
    assert_eq!((&line["level"], &line["keptAs"]), (&json!("error"), &json!(null)), "{line}");
    assert!(line["reason"].to_string().contains("missing or empty"), "{line}");
    assert_eq!(state_of(&second, "one"), None);
    second.finish();
}

#[test]
fn without_a_database_the_host_works_and_says_so() {
    let mut host = builder().start().ready();
    host.signal(Signal::TERM);
    host.wait();
    let store = host.state_dir().join("store");
    std::fs::remove_dir_all(&store).expect("remove the database");
    std::fs::write(&store, "in its place").expect("block its place");
    let second = host.restart().ready();
    second.wait_for_line("that nothing is durable", |line| {
        line["event"] == "container.store_unavailable" && line["retries"] == true
    });
    let health: Health = second.client().get("/health").read(200);
    assert_eq!((health.store.as_deref(), &*health.status), (Some("lost"), "degraded"));
    assert_eq!(second.client().metrics()["bulkhead_durable"], 0.0);
    second.client().start("one", "echo");
    assert_eq!(second.client().ask("one", "hi"), "hi");
    std::fs::remove_file(&store).expect("free its place");
    second.wait_for_line("that it is", |line| line["event"] == "container.store_available");
    assert_eq!(second.client().get("/health").read::<Health>(200).store, None);
    assert_eq!(second.client().metrics()["bulkhead_durable"], 1.0);
    assert_eq!(second.client().get("/readyz?strict=true").read::<Readiness>(200).store, None);
    let mut second = second;
    let third = killed(&mut second);
    assert_eq!(third.client().status("one").status, "running", "it was written afterwards");
    third.finish();
}

#[test]
fn a_database_of_a_newer_version_is_not_forgotten_without_a_word() {
    let mut host = builder().start().ready();
    host.client().start("one", "echo");
    host.signal(Signal::TERM);
    host.wait();
    let file = host.state_dir().join("store/bulkhead.db");
    let version = |version: i64| {
        let connection = rusqlite::Connection::open(&file).expect("the database");
        let known: i64 =
            connection.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("its version");
        connection.pragma_update(None, "user_version", version).expect("another version");
        known
    };
    let known = version(4000);
    let before = std::fs::read(&file).expect("the database");
    for supervised in ["false", "true", "0", "1"] {
        let config = host.dir().join("bulkhead.toml");
        let ended = run_to_end(&config, &[("BULKHEAD_SUPERVISE", supervised)]);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        let says = format!("version 4000, this program knows {known}");
        let stderr = &ended.stderr;
        assert!(stderr.contains(&says) && stderr.contains("--without-store"), "{stderr}");
    }
    let launch = Launch { args: vec!["--without-store".into()], ..Launch::default() };
    let mut second = host.restart_with(launch).ready();
    let line = second
        .wait_for_line("that nothing is durable", |line| line["event"] == "container.store_off");
    assert_eq!(line["level"], "warn", "somebody wants it so: {line}");
    assert!(second.events_named("container.store_unavailable").is_empty());
    assert_eq!(second.client().health().store.as_deref(), Some("off"));
    assert_eq!(state_of(&second, "one"), None);
    second.client().start("two", "echo");
    assert_eq!(second.client().ask("two", "hi"), "hi");
    second.signal(Signal::TERM);
    assert_eq!(second.wait().code(), Some(CLEAN));
    assert_eq!(std::fs::read(&file).expect("the database"), before, "it was left as it was");
    version(known);
    let third = host.restart().ready();
    assert_eq!(third.client().status("one").status, "running");
    assert_eq!(state_of(&third, "two"), None);
    third.finish();
}

/// How many messages the agent's newest snapshot knows of.
fn remembered(database: &Database, agent: &str) -> Option<u64> {
    let Newest::Kept(kept) = database.newest_snapshot(&id(agent)).expect("readable") else {
        return None;
    };
    String::from_utf8_lossy(&kept.snapshot.bytes).parse().ok()
}

fn remembers() -> HostBuilder {
    Host::builder().role("remembers", "echo", REMEMBERS)
}

#[test]
fn state_survives_stop_drain_and_kill() {
    let mut host = remembers().start().ready();
    host.client().start("one", "remembers");
    assert_eq!(host.client().ask("one", "1"), "1");
    assert_eq!(host.client().ask("one", "2"), "2");
    host.client().stop("one").expect(200);
    host.client().start("one", "remembers");
    assert_eq!(host.client().ask("one", "3"), "3");
    host.client().stop("one").expect(200);
    host.signal(Signal::KILL);
    host.wait();
    // The answer of a stop comes when its last snapshot is durable.
    assert_eq!(remembered(&database(&host), "one"), Some(3));
    let mut second = host.restart().ready();
    second.client().start("one", "remembers");
    assert_eq!(second.client().ask("one", "4"), "4");
    second.signal(Signal::TERM);
    second.wait();
    assert_eq!(remembered(&database(&second), "one"), Some(4));
    let mut third = second.restart().ready();
    assert_eq!(third.client().ask("one", "5"), "5");
    // After a turn, without any end.
    wait_until("the snapshot of the turn is there", || read_only(&third, "one") == Some(5));
    third.signal(Signal::KILL);
    third.wait();
}

/// The same while a host has the database.
fn read_only(host: &Host, agent: &str) -> Option<u64> {
    let dir = host.state_dir().join("store");
    let found = bulkhead_store::database::read_snapshot(&dir, &id(agent));
    let Ok(Newest::Kept(kept)) = found else { return None };
    String::from_utf8_lossy(&kept.snapshot.bytes).parse().ok()
}

#[test]
fn a_poisoned_snapshot_is_set_aside_for_the_one_before_it() {
    let mut host = remembers().start().ready();
    host.client().start("one", "remembers");
    assert_eq!(host.client().ask("one", "1"), "1");
    host.signal(Signal::TERM);
    host.wait();
    let database = database(&host);
    assert_eq!(remembered(&database, "one"), Some(1));
    let Ok(Newest::Kept(good)) = database.newest_snapshot(&id("one")) else { panic!("none") };
    let poison = Snapshot {
        agent: id("one"),
        incarnation: Incarnation(1),
        taken_at: Timestamp(0),
        code: good.snapshot.code,
        bytes: b"not a number".to_vec().into(),
    };
    database.keep_snapshot(poison).expect("room").wait().expect("durable");
    drop(database);
    let mut second = host.restart().ready();
    let aside =
        second.wait_for_line("the set-aside", |line| line["event"] == "agent.snapshot_set_aside");
    assert_eq!((&aside["failures"], &aside["agentId"]), (&json!(2), &json!("one")), "{aside}");
    assert_eq!(second.client().events_named("one", "agent.snapshot_set_aside").len(), 1);
    let crash = &second.crashes()[0];
    assert_eq!((&crash["phase"], &crash["code"]), (&json!("restore"), &json!("bad-snapshot")));
    second.client().reaches("one", "running");
    assert_eq!(second.client().ask("one", "2"), "2");
    second.signal(Signal::TERM);
    second.wait();
    let config = Config::in_state_dir(&second.state_dir());
    let (database, _) = Database::open(config, |notice: Notice| panic!("{notice:?}"));
    assert_eq!(remembered(&database, "one"), Some(2), "it went on from the good one");
}

#[test]
fn work_that_is_done_leaves_no_state() {
    let settings = "snapshot = \"turn\"\nsnapshot_ms = 1";
    let host = Host::builder().guest("puppet").role("worker", "puppet", settings).start().ready();
    host.client().start("one", "worker");
    host.client().send_wait("one", "done").expect(200);
    host.client().reaches("one", "exited");
    // A puppet keeps no state, and refuses any that is offered.
    host.client().start("one", "worker");
    assert_eq!(host.client().ask("one", "hi"), "hi");
    host.finish();
}
