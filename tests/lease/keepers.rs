//! Keepers that die or hang, and registers that forget.

use super::*;

#[test]
fn a_keeper_that_dies_is_replaced() {
    let fleet = Fleet::new();
    let first = fleet.copy("first");
    first.serves(1);
    kill_process(first.named("bulkhead-keeper"), Signal::KILL).expect("kill the keeper");
    // The new one is another process, and waits as one.
    first.serves(2);
    assert_eq!(one_at_a_time(&[&first]), [1, 2]);
}

/// With a longer TTL, at which its wait is longer than the patience with one that hangs.
#[test]
fn the_keeper_that_replaces_another_one_may_wait() {
    let fleet = Fleet::with_ttl(8000);
    let copy = fleet.copy("first");
    copy.serves(1);
    kill_process(copy.named("bulkhead-keeper"), Signal::KILL).expect("kill it");
    copy.serves(2);
    let lines = copy.lines();
    let replaced = lines.iter().filter(|line| {
        line["message"].as_str().is_some_and(|text| text.contains("and is replaced"))
    });
    assert_eq!(replaced.count(), 1, "{lines:#?}");
    assert_eq!(one_at_a_time(&[&copy]), [1, 2]);
}

#[test]
fn a_keeper_that_hangs_is_replaced() {
    let fleet = Fleet::new();
    let first = fleet.copy("first");
    first.serves(1);
    kill_process(first.named("bulkhead-keeper"), Signal::STOP).expect("stop the keeper");
    first.says("the keeper of the lease hangs, and is replaced");
    first.serves(2);
    assert_eq!(one_at_a_time(&[&first]), [1, 2]);
}

#[test]
fn a_register_that_forgot_begins_no_second_copy_and_no_number_again() {
    let fleet = Fleet::new();
    let first = fleet.copy("first");
    first.serves(1);
    let second = fleet.copy("second");
    second.says("holds it (epoch 1)");
    empty(&fleet);
    first.says("the lease of the town is lost: the register has it no more");
    wait_until("one of them runs", || first.starts().len() + second.starts().len() == 2);
    assert_eq!(one_at_a_time(&[&first, &second]), [1, 2]);
}

/// Also one that was not there when the register was emptied.
#[test]
fn a_copy_that_begins_knows_the_epochs_of_its_disk() {
    let fleet = Fleet::new();
    let mut first = fleet.copy("first");
    first.serves(1);
    let kept = fleet.path("first").join("state/lease.json");
    wait_until("the epoch is kept", || kept.exists());
    first.signal(Signal::TERM);
    first.ends(0);
    empty(&fleet);
    let again = fleet.copy("first");
    again.serves(1);
    assert_eq!(again.runs().first().and_then(|run| run.epoch), Some(2), "{:#?}", again.runs());
}

/// Whoever holds the lease writes its file anew, so one may be gone before it is removed.
fn empty(fleet: &Fleet) {
    for entry in std::fs::read_dir(fleet.register()).expect("read the register").flatten() {
        match std::fs::remove_file(entry.path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
    }
}
