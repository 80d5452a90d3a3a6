//! State that travels: a copy on an empty disk goes on with what another one shipped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bulkhead_api::StopAnswer;
use bulkhead_store::database::{Newest, read_snapshot};
use bulkhead_types::{AgentId, Durable};
use harness::client::Client;
use harness::{Value, files, json, wait_until};
use rustix::process::Signal;

use crate::lease::{Copy, Fleet};
use crate::repositories::remote::Remote;

/// A fleet with a place for the town.
struct World {
    fleet: Fleet,
}

impl World {
    fn new() -> Self {
        let fleet = Fleet::new();
        fs::create_dir(fleet.path("place")).unwrap();
        Self { fleet }
    }

    fn copy(&self, name: &str) -> Copy {
        self.copy_with(name, "")
    }

    /// The same with more in `[ship]`.
    fn copy_with(&self, name: &str, ship: &str) -> Copy {
        let more = format!(
            "[ship]\nto = \"file://{}\"\ninterval_ms = 100\n{ship}\n\
             [roles.fleet]\ncomponent = \"echo\"\ndurable = \"fleet\"\n\
             [components.puppet]\npath = {:?}\n[roles.keeps]\ncomponent = \"puppet\"\n\
             durable = \"fleet\"\nsnapshot = \"turn\"\nsnapshot_ms = 60000\n",
            self.fleet.path("place").display(),
            files::component("puppet"),
        );
        self.fleet.copy_with(name, &more)
    }

    fn client(&self, copy: &Copy, number: usize, name: &str) -> Client {
        Client::new(copy.serves(number), &self.fleet.path(name))
    }

    /// The machine is gone, with its disk.
    fn lose(&self, copy: Copy, name: &str) {
        drop(copy);
        fs::remove_dir_all(self.fleet.path(name)).unwrap();
    }

    fn segments(&self) -> Vec<PathBuf> {
        let log = fs::read_dir(self.fleet.path("place/town/log")).unwrap();
        let mut names: Vec<_> = log.map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    }
}

fn restored(copy: &Copy) -> Value {
    first_of(copy, "container.ship_restored").expect("what was restored")
}

/// Cause and confidence of the end that the copy reports. Its disk was empty: it knows only what was shipped.
fn end_before(copy: &Copy) -> (Value, Value) {
    wait_until("it reports", || first_of(copy, "container.previous_run").is_some());
    let line = first_of(copy, "container.previous_run").unwrap();
    let evidence = line["evidence"][0].as_str().unwrap_or_default();
    assert!(evidence.contains("restored from what one elsewhere shipped"), "{line}");
    (line["cause"].clone(), line["confidence"].clone())
}

fn first_of(copy: &Copy, event: &str) -> Option<Value> {
    copy.lines().into_iter().find(|line| line["event"] == event)
}

/// Agents that run, with their numbers.
fn running(client: &Client) -> BTreeMap<String, u64> {
    let runs = client.list().into_iter().filter(|agent| agent.status == "running");
    runs.map(|agent| (agent.agent_id.to_string(), agent.incarnation.0)).collect()
}

#[test]
fn an_empty_machine_goes_on_with_the_agents_of_one_that_is_lost() {
    let world = World::new();
    let first = world.copy("first");
    let client = world.client(&first, 1, "first");
    for agent in ["a", "b", "stopped"] {
        client.start(agent, "fleet");
    }
    client.stop("stopped").expect(200);
    client.start_afresh("b", "fleet");
    let before = running(&client);
    world.lose(first, "first");

    let second = world.copy("second");
    let client = world.client(&second, 1, "second");
    let after = running(&client);
    assert_eq!(after.keys().collect::<Vec<_>>(), ["a", "b", "one"], "{after:?}");
    for (agent, number) in &before {
        assert!(after[agent] > *number, "{agent}: {} after {number}", after[agent]);
    }
    let line = restored(&second);
    assert_eq!((&line["state"], &line["complete"]), (&"shipped".into(), &false.into()), "{line}");
    assert_eq!(end_before(&second), ("lost".into(), "medium".into()));
}

#[test]
fn a_planned_move_loses_nothing() {
    let world = World::new();
    let mut first = world.copy("first");
    let client = world.client(&first, 1, "first");
    for n in 0..20 {
        client.start(&format!("agent-{n}"), "echo");
    }
    client.stop("agent-7").expect(200);
    let before = running(&client);
    first.signal(Signal::TERM);
    first.ends(0);
    world.lose(first, "first");

    let second = world.copy("second");
    let client = world.client(&second, 1, "second");
    let after = running(&client);
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert!(!after.contains_key("agent-7"));
    assert_eq!(restored(&second)["complete"], true);
    assert_eq!(end_before(&second), ("clean".into(), "medium".into()));
}

#[test]
fn a_workspace_moves_with_its_agent_and_back() {
    let world = World::new();
    let notes = |machine: &str| {
        let path = world.fleet.path(machine).join("state/workspaces/a/notes");
        fs::read_to_string(path).map(|text| text.lines().count()).unwrap_or(0)
    };
    let mut first = world.copy("first");
    let client = world.client(&first, 1, "first");
    client.start("a", "keeps");
    client.start("idle", "keeps");
    assert_eq!(client.ask("a", "note one"), "one");
    first.signal(Signal::TERM);
    first.ends(0);
    let shipped =
        first.lines().into_iter().filter(|line| line["event"] == "agent.workspace_shipped");
    assert_eq!(shipped.map(|line| line["agentId"].clone()).collect::<Vec<_>>(), ["a"]);
    drop(first);

    let second = world.copy("second");
    let client = world.client(&second, 1, "second");
    assert_eq!(notes("second"), 1);
    let arrived = first_of(&second, "agent.workspace_arrived").expect("that it is here");
    assert_eq!((&arrived["agentId"], &arrived["entries"]), (&"a".into(), &1.into()), "{arrived}");
    assert_eq!(client.ask("a", "note two"), "two");
    // An end of the agent alone, and its machine is lost while it runs again.
    client.stop("a").expect(200);
    assert!(first_of(&second, "agent.workspace_shipped").is_some());
    client.start("a", "keeps");
    assert_eq!(client.ask("a", "note three"), "three");
    second.signal_all(Signal::KILL);
    world.lose(second, "second");

    // Back on the disk of the first one, which has an older state.
    let third = world.copy("first");
    let client = world.client(&third, 1, "first");
    let arrived = first_of(&third, "agent.workspace_arrived").expect("that it is here");
    assert_eq!(arrived["keptAs"], Value::Null, "what was here is shipped: {arrived}");
    assert_eq!(notes("first"), 2, "what its last end shipped");
    client.stop("a").expect(200);
    let workspaces = fs::read_dir(world.fleet.path("place/town/workspaces")).unwrap().count();
    assert_eq!(workspaces, 1);
    client.delete("/workspaces/a?force=true").expect(200);
    let workspaces = fs::read_dir(world.fleet.path("place/town/workspaces")).unwrap().count();
    assert_eq!(workspaces, 0, "the archive goes with it");
    client.start("a", "keeps");
    assert_eq!(notes("first"), 0, "and does not come back");
}

#[test]
fn an_older_directory_goes_without_the_archive_of_a_newer_one() {
    let world = World::new();
    for (machine, text) in [("first", "one"), ("second", "two")] {
        let mut copy = world.copy(machine);
        let client = world.client(&copy, 1, machine);
        client.start("a", "keeps");
        assert_eq!(client.ask("a", &format!("note {text}")), text);
        client.stop("a").expect(200);
        copy.signal(Signal::TERM);
        copy.ends(0);
    }
    let third = world.copy_with("first", "[workspaces]\nkeep_hours = 0\n");
    let client = world.client(&third, 1, "first");
    wait_until("the older one is gone", || {
        first_of(&third, "container.workspace_removed").is_some()
    });
    client.start("a", "keeps");
    let notes = world.fleet.path("first/state/workspaces/a/notes");
    assert_eq!(fs::read_to_string(notes).unwrap().lines().count(), 2);
}

/// What waits in a mailbox is done before the agent ends.
#[test]
fn no_message_that_was_taken_is_lost_by_a_move() {
    const MESSAGES: usize = 30;
    let world = World::new();
    let mut first = world.copy("first");
    let client = world.client(&first, 1, "first");
    client.start("a", "keeps");
    for n in 0..MESSAGES {
        client.send("a", &format!("note {n}")).expect(200);
    }
    first.signal(Signal::TERM);
    first.ends(0);
    world.lose(first, "first");
    let second = world.copy("second");
    let client = world.client(&second, 1, "second");
    assert_eq!(client.ask("a", "note last"), "last");
    let notes = fs::read_to_string(world.fleet.path("second/state/workspaces/a/notes")).unwrap();
    assert_eq!(notes.lines().count(), MESSAGES + 1, "{notes}");
}

#[test]
fn a_workspace_that_is_too_large_is_named_and_the_agent_goes_on() {
    let world = World::new();
    let mut first = world.copy_with("first", "workspace_mb = 1");
    let client = world.client(&first, 1, "first");
    client.start("a", "keeps");
    assert_eq!(client.ask("a", "note one"), "one");
    client.stop("a").expect(200);
    client.start("a", "keeps");
    let large = world.fleet.path("first/state/workspaces/a/large");
    fs::write(&large, vec![7; 1_500_000]).unwrap();
    client.stop("a").expect(200);
    let said = first_of(&first, "agent.workspace_not_shipped").expect("that it is too large");
    assert_eq!((&said["agentId"], &said["code"]), (&"a".into(), &"too-large".into()), "{said}");
    assert!(said["bytes"].as_u64().unwrap() > 1_500_000 && said["limitBytes"] == 1 << 20, "{said}");
    let metrics = client.get("/metrics").text;
    assert!(metrics.contains("bulkhead_ship_workspaces_due 1"), "{metrics}");
    client.start("a", "keeps");
    assert_eq!(client.ask("a", "note two"), "two");
    first.signal(Signal::TERM);
    first.ends(0);
    world.lose(first, "first");

    // What was shipped before counts.
    let second = world.copy_with("second", "workspace_mb = 1");
    world.client(&second, 1, "second");
    let notes = world.fleet.path("second/state/workspaces/a/notes");
    assert_eq!(fs::read_to_string(notes).unwrap().lines().count(), 1);
}

#[test]
fn a_workspace_that_is_damaged_where_it_is_shipped_keeps_its_agent_from_starting() {
    let world = World::new();
    let mut first = world.copy("first");
    let client = world.client(&first, 1, "first");
    client.start("a", "keeps");
    assert_eq!(client.ask("a", "note one"), "one");
    first.signal(Signal::TERM);
    first.ends(0);
    world.lose(first, "first");
    let archive = fs::read_dir(world.fleet.path("place/town/workspaces")).unwrap().next();
    let archive = archive.unwrap().unwrap().path();
    let mut bytes = fs::read(&archive).unwrap();
    bytes.truncate(40);
    fs::write(&archive, bytes).unwrap();

    let second = world.copy("second");
    let client = world.client(&second, 1, "second");
    assert!(!running(&client).contains_key("a") && running(&client).contains_key("one"));
    second.waits_for("why", |line| {
        line["event"] == "agent.crash" && line["code"] == "workspace-not-here"
    });
    assert!(!world.fleet.path("second/state/workspaces/a").exists());
}

#[test]
fn a_repository_of_which_nobody_pushed_anything_moves_as_well() {
    let (world, remote) = (World::new(), Remote::new());
    let more = format!(
        "[rigs.demo]\nurl = \"{}\"\n[components.toolbox]\npath = {:?}\n[roles.toolbox]\n\
         component = \"toolbox\"\ngit = true\ntools = [\"git\", \"sh\"]",
        remote.server.url("demo.git"),
        files::component("toolbox"),
    );
    let ask = |client: &Client, order: Value| -> Value {
        serde_json::from_str(&client.ask("toast", &order.to_string())).unwrap()
    };
    let mut first = world.copy_with("first", &more);
    let client = world.client(&first, 1, "first");
    client.start_with("toast", "toolbox", json!({"rigId": "demo"})).expect(201);
    ask(&client, json!({"do": "write-file", "directory": "done", "stdin": "x"}));
    let commit = ask(&client, json!({"do": "commit", "say": "not pushed"}));
    ask(&client, json!({"do": "write-file", "directory": "draft", "stdin": "half"}));
    first.signal(Signal::TERM);
    first.ends(0);
    world.lose(first, "first");

    let second = world.copy_with("second", &more);
    let client = world.client(&second, 1, "second");
    let prepared = first_of(&second, "agent.workspace_prepared").expect("its repository");
    assert_eq!(
        (&prepared["reused"], &prepared["head"]),
        (&true.into(), &commit["commit"]),
        "{prepared}"
    );
    assert_eq!(ask(&client, json!({"do": "status"}))["changes"], json!(["draft"]));
    assert_eq!(ask(&client, json!({"do": "push"})), commit);
    assert_eq!(remote.git(&["rev-parse", "bulkhead/toast"]), commit["commit"]);
}

#[test]
fn workspaces_stay_where_the_configuration_says_so() {
    let world = World::new();
    let mut first = world.copy_with("first", "workspaces = false");
    let client = world.client(&first, 1, "first");
    client.start("a", "keeps");
    assert_eq!(client.ask("a", "note one"), "one");
    first.signal(Signal::TERM);
    first.ends(0);
    world.lose(first, "first");
    assert!(!world.fleet.path("place/town/workspaces.json").exists());
    let second = world.copy_with("second", "workspaces = false");
    let client = world.client(&second, 1, "second");
    assert!(running(&client).contains_key("a"));
    assert!(!world.fleet.path("second/state/workspaces/a/notes").exists());
}

#[test]
fn a_supervisor_that_dies_goes_on_with_its_own_disk() {
    let world = World::new();
    let first = world.copy("first");
    let client = world.client(&first, 1, "first");
    client.start("a", "echo");
    rustix::process::kill_process(first.named("bulkhead"), Signal::KILL).unwrap();
    let client = world.client(&first, 2, "first");
    assert!(running(&client).contains_key("a"));
    let is_kept =
        |line: &Value| line["event"] == "container.ship_restored" && line["state"] == "disk";
    assert!(first.lines().iter().any(is_kept));
}

#[test]
fn a_damaged_segment_is_named_and_no_empty_town_begins() {
    let world = World::new();
    let first = world.copy("first");
    let client = world.client(&first, 1, "first");
    client.start("a", "fleet");
    world.lose(first, "first");
    let last = world.segments().pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    bytes[60] ^= 1;
    fs::write(&last, bytes).unwrap();

    let second = world.copy("second");
    let name = last.file_name().unwrap().to_str().unwrap().to_owned();
    let says = |line: &Value| {
        let text = line.to_string();
        text.contains(&name) && text.contains("its checksum is wrong")
    };
    wait_until("it says what is damaged", || second.lines().iter().any(says));
    assert!(second.starts().is_empty());
}

#[test]
fn an_answer_that_has_to_be_shipped_says_when_it_is_not() {
    let world = World::new();
    let first = world.copy("first");
    let client = world.client(&first, 1, "first");
    client.start("a", "fleet");
    let (place, away) = (world.fleet.path("place"), world.fleet.path("away"));
    fs::rename(&place, &away).unwrap();
    let answer = client.start_with("b", "fleet", json!({}));
    answer.expect_error(503, &["not shipped"]);
    assert!(running(&client).contains_key("b"), "it runs all the same");
    client.start("c", "echo");
    let metrics = client.get("/metrics").text;
    assert!(metrics.contains("bulkhead_ship_failing 1"), "{metrics}");
    client.get("/readyz?strict=true").expect_error(503, &["is not shipped"]);
    let ready = client.get("/readyz").expect(200);
    assert!(ready["ship"]["forMs"].is_u64() && ready["ship"]["error"].is_string(), "{ready}");
    fs::rename(&away, &place).unwrap();
    wait_until("it is shipped again", || {
        first.lines().iter().any(|line| line["event"] == "container.ship_available")
    });
    client.start_with("b", "fleet", json!({})).expect(200);
    client.stop("b").expect(200);
}

#[test]
fn a_turn_that_is_answered_as_shipped_left_its_snapshot_on_the_next_machine() {
    let world = World::new();
    let first = world.copy("first");
    let client = world.client(&first, 1, "first");
    assert_eq!(client.start("one-more", "echo").durable, Some(Durable::Node));
    assert_eq!(client.start("a", "keeps").durable, Some(Durable::Fleet));
    let turn = client.send_wait("a", "hello").turn();
    assert_eq!((turn.reply.as_deref(), turn.durable), (Some("hello"), Some(Durable::Fleet)));
    world.lose(first, "first");

    let second = world.copy("second");
    let client = world.client(&second, 1, "second");
    let id = AgentId::parse("a").unwrap();
    let newest = read_snapshot(&world.fleet.path("second/state/store"), &id);
    assert!(matches!(newest, Ok(Newest::Kept(_))), "{newest:?}");
    // An agent that gives none has none that is shipped, and one that is done leaves its end.
    for prompt in ["refuse 1", "done"] {
        let turn = client.send_wait("a", prompt).turn();
        assert_eq!(turn.durable, None, "{prompt}");
    }
    client.start("b", "keeps");
    let (place, away) = (world.fleet.path("place"), world.fleet.path("away"));
    fs::rename(&place, &away).unwrap();
    let turn = client.send_wait("b", "hello").turn();
    assert_eq!((turn.reply.as_deref(), turn.durable), (Some("hello"), Some(Durable::Node)));
    assert_eq!(client.stop("one-more").read::<StopAnswer>(200).durable, Some(Durable::Node));
    fs::rename(&away, &place).unwrap();
}

/// Machines that are lost at random moments, with their disks or without.
#[test]
fn no_start_that_was_acknowledged_is_lost_and_no_number_comes_again() {
    let rounds = std::env::var("SHIP_ROUNDS").map_or(6, |rounds| rounds.parse().unwrap());
    let seed =
        std::env::var("SHIP_SEED").map_or_else(|_| fastrand::u64(..), |it| it.parse().unwrap());
    println!("SHIP_SEED={seed}");
    let mut dice = fastrand::Rng::with_seed(seed);
    let world = World::new();
    let mut wanted = BTreeSet::from(["one".to_owned()]);
    let mut numbers: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for round in 0..rounds {
        let name = format!("machine-{}", dice.u8(0..2));
        let mut copy = world.copy(&name);
        let client = world.client(&copy, 1, &name);
        let there = running(&client);
        for agent in &wanted {
            assert!(there.contains_key(agent), "round {round}: {agent} is lost: {there:?}");
        }
        for (agent, number) in &there {
            assert!(
                wanted.contains(agent) || agent.starts_with("maybe"),
                "round {round}: {agent} was stopped"
            );
            let is_new = numbers.entry(agent.clone()).or_default().insert(*number);
            assert!(is_new, "round {round}: {agent} has the number {number} again");
        }
        for n in 0..dice.u8(1..5) {
            let agent = format!("agent-{round}-{n}");
            client.start(&agent, "fleet");
            numbers.entry(agent.clone()).or_default().insert(client.status(&agent).incarnation.0);
            wanted.insert(agent);
        }
        if dice.bool() && wanted.len() > 1 {
            let agent = wanted.iter().find(|agent| *agent != "one").unwrap().clone();
            client.stop(&agent).expect(200);
            wanted.remove(&agent);
        }
        // On its way when the end comes.
        let maybe = format!("maybe-{round}");
        let starter = std::thread::spawn(move || {
            let body = json!({"agentId": maybe, "role": "fleet"}).to_string();
            let _ = client.try_request(http::Method::POST, "/agents/start", body);
        });
        std::thread::sleep(Duration::from_millis(dice.u64(0..60)));
        match dice.u8(0..3) {
            0 => {
                copy.signal(Signal::TERM);
                copy.ends(0);
            }
            1 => copy.signal_all(Signal::KILL),
            _ => {
                copy.signal_all(Signal::KILL);
                let _ = starter.join();
                world.lose(copy, &name);
                continue;
            }
        }
        let _ = starter.join();
    }
}

/// A configuration that names a bucket: for `check`, and for a run that must not wait for it with the lease.
#[test]
fn a_bucket_that_is_not_there_is_found_by_check_and_not_waited_for() {
    let server = bucket_server::Server::start(true).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let place = |path: &str| dir.path().join(path);
    fs::create_dir(place("leases")).unwrap();
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nallow_unauthenticated = true\n\
         [lease]\nregister = \"file://{}\"\nname = \"town\"\n\
         [ship]\nto = \"s3://towns/a\"\nendpoint = \"{}\"\nregion = \"us-east-1\"\n\
         access_key_id = \"key\"\nsecret_access_key = \"secret\"\n\
         [components.echo]\npath = {:?}\n[roles.echo]\ncomponent = \"echo\"\n",
        place("leases").display(),
        server.url(),
        files::component("echo"),
    );
    fs::write(place("bulkhead.toml"), text).unwrap();
    let bulkhead = |command: &str| {
        let mut of = std::process::Command::new(files::binary());
        let ended = of.arg(command).arg("--config").arg(place("bulkhead.toml")).output().unwrap();
        let said = [ended.stdout, ended.stderr].concat();
        (ended.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let (code, said) = bulkhead("check");
    assert!(said.contains("ship s3://towns/a/town: ok, nothing shipped yet"), "{code:?}: {said}");
    assert_eq!(code, Some(0), "{said}");
    assert!(server.paths().is_empty(), "it only asks");
    server.set_gone(true);
    let (code, said) = bulkhead("check");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("NoSuchBucket (The specified bucket does not exist)"), "{said}");
    let began = std::time::Instant::now();
    let (code, said) = bulkhead("run");
    assert!(code != Some(0) && said.contains("NoSuchBucket"), "{code:?}: {said}");
    assert!(began.elapsed() < Duration::from_secs(60) && !said.contains("<Error>"), "{said}");
}
