//! `bulkhead upgrade`: other code for agents that run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use bulkhead_api::UpgradeView;
use bulkhead_store::database::{Newest, read_snapshot};
use bulkhead_types::AgentId;
use harness::{Host, HostBuilder, files, json, wait_until};
use rustix::process::Signal;

use super::{Person, Running};

/// How the agents of these tests keep their state: soon, and at the end.
const KEEPS: &str = "snapshot = \"turn\"\nsnapshot_ms = 20";

/// A host with a role `worker`, whose component is a copy of `echo` that a test may change.
struct Town {
    dir: tempfile::TempDir,
    host: Host,
}

impl Town {
    fn start() -> Self {
        Self::with(KEEPS)
    }

    fn with(settings: &str) -> Self {
        Self::of(settings, Host::builder())
    }

    fn of(settings: &str, builder: HostBuilder) -> Self {
        let dir = tempfile::tempdir().expect("make a directory");
        let configured = dir.path().join("worker.wasm");
        fs::copy(files::component("echo"), &configured).expect("copy the component");
        let builder = builder.component("worker", &configured).role("worker", "worker", settings);
        Self { host: builder.start(), dir }
    }

    fn configured(&self) -> PathBuf {
        self.dir.path().join("worker.wasm")
    }

    /// `echo`, with other bytes.
    fn newer_echo(&self) -> PathBuf {
        // A module of nothing.
        let bytes = files::echo_with(b"\0asm\x01\0\0\0");
        let path = self.dir.path().join("newer.wasm");
        fs::write(&path, bytes).expect("write a component");
        path
    }

    fn upgrade(&self, component: &Path, more: &[&str]) -> super::Ended {
        let component = component.to_str().expect("a path in UTF-8");
        let words = [&["upgrade", "worker", "--component", component], more].concat();
        Person::of(&self.host).says(&words)
    }

    /// How many agents run on the new code, once there is any.
    fn upgraded(&self) -> usize {
        let answer = self.host.client().get("/roles/worker/upgrade");
        if answer.status == 404 { 0 } else { answer.read::<UpgradeView>(200).upgraded }
    }

    fn incarnation(&self, agent: &str) -> u64 {
        self.host.client().status(agent).incarnation.0
    }

    /// How many messages an agent has in what it keeps.
    fn kept(&self, agent: &str) -> Option<usize> {
        let id = AgentId::parse(agent).expect("an id");
        match read_snapshot(&self.host.state_dir().join("store"), &id) {
            Ok(Newest::Kept(kept)) => str::from_utf8(&kept.snapshot.bytes).ok()?.parse().ok(),
            _ => None,
        }
    }

    /// `puppet` counts its messages, and `echo` says the word again.
    fn runs_puppet(&self, agent: &str) -> bool {
        self.host.client().ask(agent, "count") != "count"
    }
}

#[test]
fn a_hundred_agents_lose_no_message_and_no_state() {
    let town = Town::of(KEEPS, Host::builder().toml("[limits]\nmax_agents = 120"));
    let ids: Vec<String> = (0..100).map(|number| format!("w{number}")).collect();
    for id in &ids {
        town.host.client().start(id, "worker");
    }
    let newer = town.newer_echo();
    let (is_over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let counts: Vec<AtomicUsize> = ids.iter().map(|_| AtomicUsize::new(0)).collect();
    thread::scope(|scope| {
        for part in 0..4 {
            let (client, ids, counts) = (town.host.client().clone(), &ids, &counts);
            let (is_over, asked) = (&is_over, &asked);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    for index in (part..ids.len()).step_by(4) {
                        assert_eq!(client.ask(&ids[index], "hi"), "hi");
                        counts[index].fetch_add(1, Ordering::Relaxed);
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        wait_until("messages come", || asked.load(Ordering::Relaxed) > 100);
        let said = town.upgrade(&newer, &["--prove", "60s"]).ok();
        let last = said.lines().last().expect("a line");
        assert!(last.starts_with("worker: done, 100 of 100 agents upgraded to "), "{said}");
        is_over.store(true, Ordering::Relaxed);
    });
    for (id, count) in ids.iter().zip(&counts) {
        assert_eq!(town.incarnation(id), 2, "{id}");
        let count = count.load(Ordering::Relaxed);
        wait_until("the last snapshot is there", || town.kept(id) == Some(count));
    }
    assert!(town.host.crashes().is_empty());
    town.host.finish();
}

#[test]
fn one_that_fails_in_its_first_turn_brings_all_back_and_its_message_is_answered() {
    let town = Town::start();
    town.host.client().start("a", "worker");
    town.host.client().start("b", "worker");
    let person = Person::of(&town.host);
    let puppet = files::component("puppet");
    let puppet = puppet.to_str().expect("a path in UTF-8");
    let upgrade = ["upgrade", "worker", "--component", puppet, "--prove", "60s"];
    let running = Running::of(person.command(&upgrade));
    wait_until("the first one is on trial", || town.upgraded() == 1);
    assert_eq!(town.host.client().ask("a", "panic"), "panic", "the old code answers it");
    let ended = running.ends();
    assert_eq!(ended.code, 4, "{ended:?}");
    let last = ended.stdout.lines().last().expect("a line");
    assert!(
        last.starts_with("worker: failed; all agents have the code before: agent a failed"),
        "{ended:?}"
    );
    assert!(last.contains("told to"), "{ended:?}");
    assert_eq!((town.incarnation("a"), town.incarnation("b")), (3, 1));
    assert!(!town.runs_puppet("a") && !town.runs_puppet("b"));
    let brought = || fs::read_dir(town.host.state_dir().join("upgrades")).expect("a directory");
    wait_until("what was brought is gone", || brought().next().is_none());
    let crashes = town.host.crashes();
    assert_eq!((crashes.len(), &crashes[0]["reason"]), (1, &json!("panic")));
    let phases: Vec<_> = town.host.events_named("container.role_upgrade");
    let phases: Vec<_> = phases.iter().map(|line| line["phase"].as_str().unwrap_or("")).collect();
    assert_eq!(phases, ["loading", "rolling", "failed"]);
    town.host.finish();
}

#[test]
fn one_that_cannot_take_the_state_over_brings_all_back() {
    // A mayor takes over a conversation, and no number.
    let town = Town::start();
    town.host.client().start("a", "worker");
    assert_eq!(town.host.client().ask("a", "hi"), "hi");
    wait_until("its state is kept", || town.kept("a") == Some(1));
    let ended = town.upgrade(&files::component("mayor"), &[]);
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.stdout.contains("agent a failed with it"), "{ended:?}");
    assert_eq!(town.host.client().ask("a", "hi"), "hi");
    wait_until("it goes on with its state", || town.kept("a") == Some(2));
    town.host.finish();
}

#[test]
fn a_program_does_not_take_the_place_of_agents_that_take_messages() {
    let town = Town::start();
    town.host.client().start("a", "worker");
    let ended = town.upgrade(&files::component("command"), &[]);
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.stdout.contains("is a program"), "{ended:?}");
    assert_eq!((town.incarnation("a"), town.host.client().ask("a", "hi").as_str()), (1, "hi"));
    town.host.finish();
}

#[test]
fn what_is_no_component_changes_nothing() {
    let town = Town::start();
    town.host.client().start("a", "worker");
    let nonsense = town.dir.path().join("nonsense.wasm");
    fs::write(&nonsense, "nonsense").expect("write it");
    let ended = town.upgrade(&nonsense, &[]);
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(
        ended.stdout.contains("worker: failed; all agents have the code before: component worker"),
        "{ended:?}"
    );
    assert_eq!(town.incarnation("a"), 1);
    town.upgrade(&town.dir.path().join("ghost.wasm"), &[]).fails(2, &["ghost.wasm"]);
    let person = Person::of(&town.host);
    person.says(&["upgrade", "ghost"]).fails(3, &["no-such-role", "ghost", "worker"]);
    person.says(&["upgrade", "echo", "--status"]).fails(3, &["no-upgrade"]);
    person.says(&["upgrade", "worker", "--abort"]).fails(3, &["upgrade-over"]);
    town.host.finish();
}

#[test]
fn the_role_has_it_after_a_restart_until_the_configuration_names_another_file() {
    let mut town = Town::start();
    town.host.client().start("a", "worker");
    town.upgrade(&files::component("puppet"), &["--prove", "1ms"]).ok();
    assert!(town.runs_puppet("a"));
    town.host.client().start("b", "worker");
    assert!(town.runs_puppet("b"), "what starts afterwards has it as well");

    town.host.signal(Signal::KILL);
    town.host.wait();
    town.host = town.host.restart().ready();
    assert!(town.runs_puppet("a"));

    town.host.signal(Signal::TERM);
    town.host.wait();
    fs::write(town.configured(), files::echo_with(b"\0asm\x01\0\0\0")).expect("deploy anew");
    town.host = town.host.restart().ready();
    assert!(!town.runs_puppet("a"));
    let said = town.host.events_named("container.log");
    assert!(said.iter().any(|line| line.to_string().contains("names another file")), "it says so");
    town.host.finish();
}

#[test]
fn a_kill_in_the_middle_comes_back_with_what_the_role_had() {
    let mut town = Town::start();
    town.host.client().start("a", "worker");
    town.host.client().start("b", "worker");
    let person = Person::of(&town.host);
    let puppet = files::component("puppet");
    let puppet = puppet.to_str().expect("a path in UTF-8");
    let said = person
        .says(&["upgrade", "worker", "--component", puppet, "--prove", "60s", "--detach"])
        .ok();
    assert_eq!(said, "worker: loading the new code\n");
    wait_until("the first one is on trial", || town.upgraded() == 1);
    person.says(&["upgrade", "worker"]).fails(3, &["upgrade-under-way"]);
    town.host.signal(Signal::KILL);
    town.host.wait();
    town.host = town.host.restart().ready();
    assert!(!town.runs_puppet("a") && !town.runs_puppet("b"));
    town.host.finish();
}

#[test]
fn it_can_be_taken_back_and_the_configured_file_is_the_default() {
    // `puppet` takes over no state.
    let town = Town::with("");
    town.host.client().start("a", "worker");
    town.host.client().start("b", "worker");
    fs::copy(files::component("puppet"), town.configured()).expect("change the file");
    let person = Person::of(&town.host);
    let running = Running::of(person.command(&["upgrade", "worker", "--prove", "60s"]));
    wait_until("the first one is on trial", || town.upgraded() == 1);
    assert!(town.runs_puppet("a"));
    person.says(&["upgrade", "worker", "--abort"]).ok();
    let ended = running.ends();
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(
        ended.stdout.ends_with("worker: taken back; all agents have the code before\n"),
        "{ended:?}"
    );
    assert!(!town.runs_puppet("a") && !town.runs_puppet("b"));

    person.says(&["upgrade", "worker", "--prove", "1ms"]).ok();
    assert!(town.runs_puppet("a") && town.runs_puppet("b"));
    let view = person.says(&["upgrade", "worker", "--status", "--json"]).json();
    assert_eq!(
        (&view["phase"], &view["agents"], &view["upgraded"]),
        (&json!("done"), &json!(2), &json!(2))
    );
    town.host.finish();
}
