//! A town is handed over to another copy, by `bulkhead move`.

use std::process::{Command, Output};

use harness::client::Client;

use super::ports::Ports;
use super::probes::becomes;
use super::*;

fn move_from(address: SocketAddr, flags: &[&str]) -> Output {
    let url = format!("http://{address}");
    let mut command = Command::new(files::binary());
    command.args(["move", "--url", &url]).args(flags).output().expect("run it")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Also back again, and nobody loses a process.
#[test]
fn a_copy_that_waits_takes_the_town() {
    let (fleet, [one, other]) = (Fleet::new(), [Ports::free(), Ports::free()]);
    let first = fleet.copy_of("town", "first", &one.configured());
    first.serves(1);
    let second = fleet.copy_of("town", "second", &other.configured());
    second.says("holds it (epoch 1)");
    wait_until("it is ready", || request_of(&first).is_some());
    let init = Pid::from_child(&first.init);

    let moved = move_from(one.control, &["--json"]);
    assert!(moved.status.success(), "{moved:?}");
    let lease: Value = serde_json::from_slice(&moved.stdout).expect("JSON");
    assert_eq!(lease["epoch"], 2, "{lease}");
    second.serves(1);
    wait_until("it is ready", || request_of(&second).is_some());
    first.says("is given back (epoch 1)");
    becomes("the first one waits", one.control, "/readyz", 503);

    let moved = move_from(other.control, &[]);
    assert!(moved.status.success(), "{moved:?}");
    assert!(text(&moved.stdout).contains("holds the town (epoch 3), after"), "{moved:?}");
    first.serves(2);
    assert!(is_alive(init) && second.is_there());
    assert_eq!(one_at_a_time(&[&first, &second]), [1, 2, 3]);
    // It was asked for, so nothing counts as a death.
    let lines = first.lines();
    let ends = lines.iter().filter(|line| line["event"] == "container.previous_run");
    let causes: Vec<_> = ends.map(|end| end["cause"].as_str().unwrap_or_default()).collect();
    assert_eq!(causes, ["none", "clean"]);
}

#[test]
fn a_town_that_nobody_takes_stays() {
    let (fleet, ports) = (Fleet::new(), Ports::free());
    let copy = fleet.copy_of("town", "first", &ports.configured());
    copy.serves(1);
    wait_until("it is ready", || request_of(&copy).is_some());
    let stayed = move_from(ports.control, &[]);
    assert_eq!(stayed.status.code(), Some(4), "{stayed:?}");
    assert!(text(&stayed.stderr).contains("no other copy took the town"), "{stayed:?}");
    copy.serves(2);
    assert_eq!(one_at_a_time(&[&copy]), [1, 2]);
}

/// An orchestrator ends a copy that it has asked to move.
#[test]
fn a_signal_ends_a_copy_that_has_moved() {
    let (fleet, [one, other]) = (Fleet::new(), [Ports::free(), Ports::free()]);
    let mut first = fleet.copy_of("town", "first", &one.configured());
    first.serves(1);
    let second = fleet.copy_of("town", "second", &other.configured());
    second.says("holds it (epoch 1)");
    wait_until("it is ready", || request_of(&first).is_some());
    let asked = move_from(one.control, &["--detach"]);
    assert!(asked.status.success(), "{asked:?}");
    assert_eq!(text(&asked.stdout), "the town moves (epoch 1)\n");
    first.signal(Signal::TERM);
    first.ends(0);
    second.serves(1);
    assert_eq!(one_at_a_time(&[&first, &second]), [1, 2]);
}

/// It is asked to end, and not to be quicker about it.
#[test]
fn a_signal_does_not_cut_the_drain_of_a_move_short() {
    let fleet = Fleet::new();
    let puppet = files::component("puppet");
    let more =
        format!("[components.puppet]\npath = {puppet:?}\n[roles.puppet]\ncomponent = \"puppet\"\n");
    let mut copy = fleet.copy_with("first", &more);
    let address = copy.serves(1);
    wait_until("it is ready", || request_of(&copy).is_some());
    let client = Client::new(address, &fleet.path("first"));
    client.start("a", "puppet");
    client.send("a", "wait well").expect(200);
    wait_until("it is at work", || client.status("a").busy);
    assert!(move_from(address, &["--detach"]).status.success());
    copy.waits_for("the drain", |line| line["event"] == "container.stop_intent");
    copy.signal(Signal::TERM);
    copy.waits_for("that it heard the signal", |line| {
        line["message"].as_str().is_some_and(|text| text.contains("which is under way"))
    });
    std::fs::write(fleet.path("first/state/workspaces/a/go"), "").expect("let it go on");
    copy.ends(0);
    let lines = copy.lines();
    let stopped = lines.iter().find(|line| line["event"] == "container.stopped");
    assert_eq!(stopped.expect("its end")["killed"], 0, "{lines:#?}");
}

#[test]
fn a_host_without_a_lease_stays() {
    let host = harness::Host::builder().open().start().ready();
    let refused = move_from(host.address(), &[]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    let said = text(&refused.stderr);
    assert!(said.contains("runs under no lease") && said.contains("[lease]"), "{said}");
}
