//! Single decisions, with a TTL of 10 s. `tests/lease-model` goes through all that follow each other.

use super::*;

const TTL: Duration = Duration::from_secs(10);

fn at(ms: u64) -> Boottime {
    Boottime(1_000_000_000_000 + ms * 1_000_000)
}

fn protocol(holder: &str) -> Protocol {
    let me = Identity { holder: holder.into(), endpoint: "".into() };
    Protocol::new(me, TTL, 0)
}

fn version(name: &str) -> Version {
    Version(name.into())
}

fn wait(ms: u64) -> Step {
    Step::Wait(at(ms))
}

/// The record that is to be written at this moment.
#[track_caller]
fn write(protocol: &mut Protocol, now: u64, nonce: u128) -> (Option<Version>, Record) {
    match protocol.step(at(now), nonce) {
        Step::Write { expected, record } => (expected, record),
        step => panic!("{step:?}"),
    }
}

/// One that holds the lease since a request at 0 that was answered at 100.
fn holder() -> (Protocol, Record) {
    let mut protocol = protocol("a");
    assert_eq!(protocol.step(at(0), 1), Step::Read);
    protocol.read(at(0), Some(None));
    let (expected, record) = write(&mut protocol, 0, 1);
    assert_eq!((expected, record.epoch, record.counter), (None, 1, 0));
    protocol.wrote(at(100), Wrote::Written(version("v1")));
    (protocol, record)
}

/// One that saw the record of another one at 0.
fn waiting(record: Record) -> Protocol {
    let mut protocol = protocol("b");
    assert_eq!(protocol.step(at(0), 1), Step::Read);
    protocol.read(at(0), Some(Some((version("v1"), record))));
    protocol
}

#[test]
fn a_permit_counts_from_the_request_and_not_from_the_answer() {
    let (protocol, _) = holder();
    let permit = protocol.permit().unwrap();
    assert_eq!((permit.epoch, permit.fence_at, permit.until), (1, at(7_000), at(10_000)));
    assert!(permit.is_valid(at(6_999)) && !permit.is_valid(at(7_000)));
    assert!(permit.is_live(at(9_999)) && !permit.is_live(at(10_000)));
}

#[test]
fn it_is_renewed_after_three_tenths_under_the_same_number() {
    let (mut protocol, first) = holder();
    assert_eq!(protocol.step(at(100), 2), wait(3_000));
    let (expected, record) = write(&mut protocol, 3_000, 2);
    assert_eq!(expected, Some(version("v1")));
    assert_eq!((record.epoch, record.counter, record.nonce), (first.epoch, 1, 2));
    protocol.wrote(at(3_100), Wrote::Written(version("v2")));
    assert_eq!(protocol.permit().unwrap().fence_at, at(10_000));
}

#[test]
fn a_renewal_whose_answer_comes_after_the_fence_does_not_count() {
    let (mut protocol, _) = holder();
    write(&mut protocol, 6_900, 2);
    protocol.wrote(at(7_000), Wrote::Written(version("v2")));
    assert_eq!(protocol.permit(), None);
    assert_eq!(protocol.take_lost(), Some(Lost::Expired));
    assert_eq!(protocol.take_lost(), None);
    // Its own record is as another's to it.
    assert_eq!(protocol.step(at(7_000), 3), Step::Read);
}

#[test]
fn a_write_without_an_answer_is_decided_by_what_is_read() {
    let (mut protocol, _) = holder();
    let (_, renewal) = write(&mut protocol, 3_000, 2);
    protocol.wrote(at(4_000), Wrote::Unclear);
    assert_eq!(protocol.step(at(4_000), 3), Step::Read);
    let mut written = protocol.clone();
    written.read(at(4_100), Some(Some((version("v2"), renewal))));
    assert_eq!(written.permit().unwrap().fence_at, at(10_000));
    // It is not there: it is written again after a pause, and the first one counts should it arrive.
    let first = protocol.record().unwrap().clone();
    protocol.read(at(4_100), Some(Some((version("v1"), first))));
    assert_eq!(protocol.permit().unwrap().fence_at, at(7_000));
    assert_eq!(protocol.step(at(4_100), 3), wait(4_350));
    let (expected, again) = write(&mut protocol, 4_350, 3);
    assert_eq!((expected, again.counter, again.nonce), (Some(version("v1")), 1, 3));
}

#[test]
fn who_waits_takes_what_did_not_change_for_the_ttl_and_the_margin() {
    let (_, record) = holder();
    let mut protocol = waiting(record.clone());
    assert_eq!(protocol.step(at(0), 2), wait(250));
    assert_eq!(protocol.step(at(250), 2), Step::Read);
    protocol.read(at(10_400), Some(Some((version("v1"), record))));
    assert_eq!(protocol.step(at(10_400), 2), wait(10_500));
    let (expected, record) = write(&mut protocol, 10_500, 2);
    assert_eq!((expected, record.epoch, &*record.holder), (Some(version("v1")), 2, "b"));
}

#[test]
fn a_renewal_makes_others_wait_again_and_a_release_lets_them_go_on() {
    let (_, record) = holder();
    let mut protocol = waiting(record.clone());
    let renewed = Record { counter: 1, nonce: 9, ..record.clone() };
    assert_eq!(protocol.step(at(9_000), 2), Step::Read);
    protocol.read(at(9_000), Some(Some((version("v2"), renewed))));
    assert_eq!(protocol.step(at(10_600), 2), Step::Read);
    let released = Record { counter: 2, nonce: 10, released: true, ..record };
    protocol.read(at(10_600), Some(Some((version("v3"), released))));
    let (expected, record) = write(&mut protocol, 10_600, 2);
    assert_eq!((expected, record.epoch, record.released), (Some(version("v3")), 2, false));
}

#[test]
fn the_ttl_of_the_holder_counts_and_not_that_of_who_waits() {
    let (_, record) = holder();
    let mut protocol = waiting(Record { ttl: TTL * 6, ..record.clone() });
    assert_eq!(protocol.step(at(11_000), 2), Step::Read);
    protocol.read(at(62_900), Some(Some((version("v1"), Record { ttl: TTL * 6, ..record }))));
    assert_eq!(protocol.step(at(62_900), 2), wait(63_000));
}

#[test]
fn a_release_ends_the_permit_before_it_is_sent() {
    let (mut protocol, _) = holder();
    protocol.release();
    assert_eq!(protocol.permit(), None);
    let (expected, record) = write(&mut protocol, 500, 2);
    assert_eq!((expected, record.epoch, record.released), (Some(version("v1")), 1, true));
    protocol.wrote(at(600), Wrote::Unclear);
    assert_eq!(protocol.step(at(600), 3), Step::Read);
    protocol.read(at(700), Some(Some((version("v2"), record))));
    assert_eq!(protocol.step(at(700), 3), Step::Released);
    protocol.resume();
    assert_eq!(write(&mut protocol, 700, 3).1.epoch, 2);
}

#[test]
fn numbers_go_on_above_what_is_known_where_the_register_forgot() {
    let me = Identity { holder: "a".into(), endpoint: "".into() };
    let mut protocol = Protocol::new(me, TTL, 41);
    protocol.read(at(0), Some(None));
    // Another one may hold the lease, and not know yet that the register forgot it.
    assert_eq!(protocol.step(at(0), 1), wait(250));
    protocol.read(at(10_499), Some(None));
    assert_eq!(protocol.step(at(10_499), 1), wait(10_500));
    assert_eq!(write(&mut protocol, 10_500, 1).1.epoch, 42);
}

#[test]
fn who_saw_a_record_waits_for_its_holder_when_it_is_gone() {
    let (_, record) = holder();
    let mut protocol = waiting(record);
    protocol.read(at(5_000), Some(None));
    assert_eq!(protocol.step(at(5_000), 2), wait(5_250));
    protocol.read(at(15_499), Some(None));
    assert_eq!(protocol.step(at(15_499), 2), wait(15_500));
    assert_eq!(write(&mut protocol, 15_500, 2).1.epoch, 2);
}

#[test]
fn the_first_of_all_waits_for_nobody() {
    let mut protocol = protocol("a");
    protocol.read(at(0), Some(None));
    assert_eq!(write(&mut protocol, 0, 1).1.epoch, 1);
}

#[test]
fn a_register_that_does_not_answer_is_asked_after_a_pause() {
    let mut protocol = protocol("a");
    protocol.read(at(0), None);
    assert_eq!(protocol.step(at(0), 1), wait(250));
    assert_eq!(protocol.step(at(250), 1), Step::Read);
}

#[test]
fn writes_without_an_answer_are_bounded() {
    let (mut protocol, record) = holder();
    for try_ in 0..10 {
        write(&mut protocol, 3_000 + try_ * 300, 2 + u128::from(try_));
        protocol.wrote(at(3_000 + try_ * 300), Wrote::Unclear);
        protocol.read(at(3_000 + try_ * 300), Some(Some((version("v1"), record.clone()))));
    }
    assert_eq!(protocol.attempts.len(), MAX_ATTEMPTS);
}

#[test]
fn a_gate_refuses_what_is_older_than_what_it_saw() {
    let mut gate = Gate::new(3);
    assert!(!gate.admit(2) && gate.admit(3) && gate.admit(5) && gate.admit(5) && !gate.admit(4));
    assert_eq!(gate.newest(), 5);
}

#[test]
fn who_gave_it_back_for_others_leaves_it_to_them_for_a_while() {
    let (_, record) = holder();
    let released = Record { counter: 1, released: true, ..record };
    let read = |protocol: &mut Protocol, epoch: u64| {
        assert_eq!(protocol.step(at(0), 1), Step::Read);
        let record = Record { epoch, ..released.clone() };
        protocol.read(at(0), Some(Some((version("v2"), record))));
    };
    let mut moved = protocol("a");
    moved.yields(1);
    read(&mut moved, 1);
    assert_eq!(moved.free_at(), Some(at(3_000)));
    assert_eq!(moved.step(at(0), 2), wait(250));
    let (expected, taken) = write(&mut moved, 3_000, 3);
    assert_eq!((expected, taken.epoch), (Some(version("v2")), 2));
    // Neither another process nor another release waits for it.
    let (mut other, mut later) = (protocol("b"), protocol("a"));
    read(&mut other, 1);
    later.yields(1);
    read(&mut later, 2);
    for mut at_once in [other, later] {
        assert_eq!(at_once.free_at(), None);
        write(&mut at_once, 0, 2);
    }
}
