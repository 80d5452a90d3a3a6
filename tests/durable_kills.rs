//! A host is killed at random moments of a busy workload, forty times (`DURABLE_KILLS`), in one state
//! directory. After each kill its database opens clean, everything that was acknowledged is there, and the
//! next host goes by it.

use std::collections::BTreeMap;
use std::time::Duration;

use bulkhead_api::StartAnswer;
use bulkhead_store::database::{AgentRow, Config, Database, Newest, Wanted};
use bulkhead_types::{AgentId, Incarnation};
use harness::client::Client;
use harness::incarnations::check_one_at_a_time;
use harness::{Host, Value, json};
use hyper::Method;
use parking_lot::Mutex;
use rustix::process::Signal;

const WORKERS: usize = 4;
const AGENTS: usize = 3;

/// What a worker knows of an agent of its.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Acknowledged; nothing when a request was under way at the kill.
    runs: Option<bool>,
    /// The highest number that an answer named.
    incarnation: u64,
    /// Turns of this incarnation that were answered.
    turns: u64,
    /// Turns that the last stop acknowledged, and the incarnation that they were of.
    kept: Option<(u64, u64)>,
}

/// The first agent of each worker crashes now and then, the others keep their state.
fn role(name: &str) -> &'static str {
    if name.ends_with("-0") { "crasher" } else { "worker" }
}

type Agents = BTreeMap<String, Known>;

fn name(worker: usize, agent: usize) -> String {
    format!("w{worker}-{agent}")
}

/// Works until the host is gone.
fn work(client: &Client, worker: usize, agents: &Mutex<Agents>, mut dice: fastrand::Rng) {
    loop {
        let name = name(worker, dice.usize(0..AGENTS));
        let mut known = agents.lock().get(&name).cloned().unwrap_or_default();
        let runs = known.runs;
        let put = |known: &Known| {
            agents.lock().insert(name.clone(), known.clone());
        };
        let answered = match (runs, dice.u8(0..10)) {
            (Some(true), 0..3) => {
                put(&Known { runs: None, kept: None, ..known.clone() });
                let stopped = call(client, &format!("/agents/{name}/stop"), &json!({}));
                if let Some(200) = stopped {
                    known.runs = Some(false);
                    let keeps = role(&name) == "worker" && known.turns > 0;
                    known.kept = keeps.then_some((known.incarnation, known.turns));
                }
                stopped
            }
            (Some(true), 3) if role(&name) == "crasher" => {
                // It is restarted automatically, later or at once: it is desired all the while.
                known.turns = 0;
                known.kept = None;
                put(&known);
                call(
                    client,
                    &format!("/agents/{name}/message?wait=20000"),
                    &json!({"prompt": "panic"}),
                )
            }
            (Some(true), _) => {
                let path = format!("/agents/{name}/message?wait=20000");
                let answered = call(client, &path, &json!({"prompt": "hi"}));
                known.turns += u64::from(answered == Some(200));
                answered
            }
            _ => {
                put(&Known { runs: None, ..known.clone() });
                let body = json!({"agentId": name, "role": role(&name)});
                match client.try_request(Method::POST, "/agents/start", body.to_string()) {
                    Ok(answer) if answer.status == 201 => {
                        let incarnation = answer.read::<StartAnswer>(201).agent.incarnation.0;
                        assert!(
                            incarnation > known.incarnation,
                            "a number came twice: {}",
                            answer.text
                        );
                        known = Known { runs: Some(true), incarnation, turns: 0, kept: None };
                        Some(201)
                    }
                    Ok(answer) => panic!("a start was refused: {}", answer.text),
                    Err(_) => None,
                }
            }
        };
        if answered.is_none() {
            return;
        }
        put(&known);
    }
}

/// The status of the answer, if there was one.
fn call(client: &Client, path: &str, body: &Value) -> Option<u16> {
    client.try_request(Method::POST, path, body.to_string()).ok().map(|answer| answer.status)
}

/// What must be in the database after a kill.
fn check_database(host: &Host, agents: &Agents) {
    let config = Config::in_state_dir(&host.state_dir());
    let (database, found) =
        Database::open(config, |notice| panic!("the database does not open clean: {notice:?}"));
    for (name, known) in agents {
        let id = AgentId::parse(name).unwrap();
        let row = found.agents.iter().find(|row| row.id == id);
        check_row(name, known, row);
        if let Some((incarnation, turns)) = known.kept {
            let newest = database.newest_snapshot(&id).unwrap();
            let Newest::Kept(kept) = newest else { panic!("{name} {known:?}: {newest:?}") };
            assert!(kept.snapshot.incarnation >= Incarnation(incarnation), "{name} {known:?}");
            let count: u64 = String::from_utf8_lossy(&kept.snapshot.bytes).parse().unwrap();
            assert!(count >= turns, "{name} {known:?}: {count}");
        }
    }
}

fn check_row(name: &str, known: &Known, row: Option<&AgentRow>) {
    let Some(runs) = known.runs else { return };
    let row = row.unwrap_or_else(|| panic!("{name} is not there: {known:?}"));
    let wanted = if runs { Wanted::Running } else { Wanted::Stopped };
    assert_eq!(row.wanted, wanted, "{name} {known:?}: {row:?}");
    assert!(row.incarnation.0 >= known.incarnation, "{name} {known:?}: {row:?}");
}

/// What the next host must make of it.
fn check_host(host: &Host, agents: &mut Agents) {
    let list = host.client().list();
    for (name, known) in agents {
        let shown = list.iter().find(|view| view.agent_id.as_str() == name);
        let status = shown.map(|view| &*view.status);
        match known.runs {
            Some(true) => assert!(
                matches!(status, Some("running" | "starting" | "backoff" | "stopping")),
                "{name} {known:?}: {shown:?}"
            ),
            Some(false) => assert_eq!(status, None, "{name} was restarted: {shown:?}"),
            None => known.runs = status.map(|_| true),
        }
        if let Some(shown) = shown {
            let incarnation = shown.incarnation.0;
            assert!(incarnation > known.incarnation, "a number came twice: {known:?}: {shown:?}");
            (known.incarnation, known.turns, known.kept) = (incarnation, 0, None);
        }
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let kills = number("DURABLE_KILLS").unwrap_or(40);
    let seed = number("DURABLE_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("DURABLE_SEED={seed}");
    let mut dice = fastrand::Rng::with_seed(seed);
    let crasher = "restart = \"transient\"\nmax_attempts = 1\nrestart_max = 100\nrestart_window_ms = 1\n\
        restart_backoff_ms = 1\nrestart_backoff_max_ms = 1";
    let worker = "snapshot = \"turn\"\nsnapshot_ms = 5";
    let builder = Host::builder().guest("puppet").role("crasher", "puppet", crasher);
    let mut host = builder.role("worker", "echo", worker).start().ready();
    let agents = Mutex::new(Agents::new());
    for kill in 0..kills {
        let pause = Duration::from_millis(dice.u64(0..150));
        std::thread::scope(|scope| {
            let (client, agents) = (host.client(), &agents);
            for worker in 0..WORKERS {
                let dice = dice.fork();
                scope.spawn(move || work(client, worker, agents, dice));
            }
            // The moment of the kill is meant to be random: nothing waits for this time.
            std::thread::sleep(pause);
            host.signal(Signal::KILL);
        });
        host.wait();
        let lines = host.lines();
        let mut agents = agents.lock();
        for name in agents.keys() {
            check_one_at_a_time(&lines, name);
        }
        println!("kill {kill} after {pause:?}: {} agents", agents.len());
        check_database(&host, &agents);
        if dice.u8(0..4) == 0 {
            // Another one at a random moment, while it brings its agents back.
            host = host.restart();
            std::thread::sleep(Duration::from_millis(dice.u64(0..30)));
            host.signal(Signal::KILL);
            host.wait();
            check_database(&host, &agents);
        }
        host = host.restart().ready();
        check_host(&host, &mut agents);
        assert_eq!(host.events_named("container.store_set_aside"), [] as [Value; 0]);
    }
    host.finish();
}
