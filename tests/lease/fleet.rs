//! What is known of a register from outside: `bulkhead fleet ps`, and `bulkhead check`.

use std::process::{Command, Output};

use super::ports::Ports;
use super::*;

fn bulkhead(fleet: &Fleet, args: &[&str]) -> Output {
    let mut command = Command::new(files::binary());
    command.current_dir(fleet.dir.path()).args(args).env_remove("BULKHEAD_LEASE_REGISTER");
    command.output().expect("run it")
}

fn register(fleet: &Fleet) -> String {
    format!("file://{}", fleet.register().display())
}

#[track_caller]
fn towns(fleet: &Fleet, args: &[&str]) -> Vec<Value> {
    let ended = bulkhead(fleet, &[&["fleet", "ps", "--json"], args].concat());
    assert!(ended.status.success(), "{ended:?}");
    let document: Value = serde_json::from_slice(&ended.stdout).expect("JSON");
    assert_eq!(document["hasMore"], false);
    document["towns"].as_array().expect("towns").clone()
}

#[test]
fn three_copies_of_two_towns_are_listed() {
    // Two seconds are little for a busy machine.
    let (fleet, ports) = (Fleet::with_ttl(5000), Ports::free());
    let advertise = format!("advertise = \"{}\"", ports.control);
    let config = fleet.configure("hill", "first", &ports.configured(), &advertise);
    let first = Copy::start(&config, config.parent().expect("its directory"));
    first.serves(1);
    wait_until("it is ready", || request_of(&first).is_some());
    let second = fleet.copy_of("hill", "second", "listen = \"127.0.0.1:0\"");
    second.says("holds it (epoch 1)");
    let third = fleet.copy_of("lake", "third", "listen = \"127.0.0.1:0\"");
    third.serves(1);
    std::fs::write(fleet.register().join("mill.lease.json"), "{\"format\":").expect("damage one");

    // By the configuration of a copy, and by the address alone.
    let config = config.to_str().expect("a path");
    let listed = towns(&fleet, &["--config", config]);
    let [hill, lake, mill] = &listed[..] else { panic!("{listed:#?}") };
    assert_eq!((&hill["town"], &hill["state"]), (&"hill".into(), &"held".into()), "{hill}");
    assert_eq!((&hill["epoch"], &hill["health"]), (&1.into(), &"ready".into()), "{hill}");
    assert_eq!(hill["endpoint"], ports.control.to_string());
    assert!(hill["unchangedMs"].as_u64().is_some_and(|ms| ms < fleet.ttl_ms), "{hill}");
    assert_eq!((&lake["state"], &lake["health"]), (&"held".into(), &Value::Null), "{lake}");
    assert_eq!(mill["state"], "unreadable");
    assert!(mill["problem"].as_str().is_some_and(|why| why.contains("cannot be read")), "{mill}");

    // The one is followed, the other one is gone.
    first.signal(Signal::KILL);
    third.signal(Signal::KILL);
    second.serves(1);
    let listed = || towns(&fleet, &["--register", &register(&fleet)]);
    let [hill, lake] = &listed()[..2] else { panic!("{:#?}", listed()) };
    assert_eq!((&hill["state"], &hill["epoch"]), (&"held".into(), &2.into()));
    assert_eq!(lake["town"], "lake");
    wait_until("the other one has expired", || listed()[1]["state"] == "expired");
    let shown = bulkhead(&fleet, &["fleet", "ps", "--register", &register(&fleet)]);
    println!("{}", String::from_utf8_lossy(&shown.stdout));
    assert!(shown.status.success());
}

#[test]
fn a_register_that_cannot_be_listed_is_reported() {
    let fleet = Fleet::new();
    let fails = |args: &[&str], code: i32, part: &str| {
        let ended = bulkhead(&fleet, &[&["fleet", "ps"], args].concat());
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{said}");
        assert!(said.contains(part), "{said}");
    };
    fails(&["--register", "file:///no/such/directory"], 1, "/no/such/directory");
    fails(&["--register", "http://x"], 2, "it has to begin with");
    fails(&["--register", "nats://x"], 2, "nats:// is followed by");
    fails(&[], 2, "there is no register");
    assert!(towns(&fleet, &["--register", &register(&fleet)]).is_empty());
}

#[test]
fn a_check_tries_the_register_and_leaves_the_lease() {
    let fleet = Fleet::new();
    let config = fleet.configure("town", "first", "listen = \"127.0.0.1:0\"", "");
    let path = config.to_str().expect("a path");
    let check = || {
        let ended = bulkhead(&fleet, &["check", "--config", path]);
        (ended.status.code(), String::from_utf8_lossy(&ended.stdout).into_owned())
    };
    let record = fleet.register().join("town.lease.json");
    let (code, said) = check();
    assert!(code == Some(0) && said.contains("of town: ok, never held"), "{said}");
    assert!(!record.exists(), "a check takes no lease");
    let first = Copy::start(&config, config.parent().expect("its directory"));
    first.serves(1);
    let (code, said) = check();
    assert!(code == Some(0) && said.contains("of town: ok, last held by "), "{said}");
    first.signal_all(Signal::KILL);
    std::fs::write(&record, "{").expect("damage it");
    let (code, said) = check();
    assert!(code == Some(2) && said.contains("the record of the lease cannot be read"), "{said}");
    std::fs::rename(fleet.register(), fleet.dir.path().join("away")).expect("take it away");
    let (code, said) = check();
    assert!(code == Some(0) && said.contains("warning: lease file:///"), "{said}");
}
