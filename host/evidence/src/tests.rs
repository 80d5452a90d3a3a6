//! The whole of it against real sinks over real sockets.

mod s3;
mod server;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use bulkhead_blackbox as blackbox;
use bulkhead_blackbox::runs::KnownRun;
use bulkhead_blackbox::{Geometry, Run};
use bulkhead_net::{Connector, Credential};
use bulkhead_types::previous::RunState;
use bulkhead_types::{AgentId, Incarnation, RestartState, Timestamp};

use super::*;
use crate::outbox::tests::record;
use server::{Mood, Server};

const PATIENCE: Duration = Duration::from_secs(20);

fn settings(sink: Address) -> Settings {
    Settings {
        name: Name::parse("town-7").unwrap(),
        sink,
        connector: Connector::default(),
        heartbeat: Duration::from_secs(3600),
        fetch: Duration::from_secs(10),
        call: Duration::from_secs(10),
    }
}

fn of(server: &Server) -> Settings {
    settings(Address::parse(&server.url()).unwrap())
}

fn agent(id: &str, number: u64) -> AgentHistory {
    AgentHistory {
        id: AgentId::parse(id).unwrap(),
        incarnation: Incarnation(number),
        restarts: Arc::new(RestartState { streak: 3, ..RestartState::default() }),
        order: None,
        changed_at: Timestamp(1),
    }
}

/// A run that stores evidence, with a black box of its own.
struct Stores {
    evidence: Evidence,
    notices: Receiver<Notice>,
    _disk: tempfile::TempDir,
}

fn this_run(run_id: &str, number: u64) -> ThisRun {
    let known = |run_id: &str, number| KnownRun {
        run_id: run_id.into(),
        number,
        has_box: true,
        verdict: None,
    };
    let runs = vec![known("unreported", number - 1), known(run_id, number)];
    ThisRun { run_id: run_id.into(), number, runs, forgotten_runs: 2 }
}

fn begin(evidence: Evidence, run_id: &str, number: u64) -> Stores {
    let disk = tempfile::tempdir().unwrap();
    let run = Run { run_id: run_id.into(), number, pid: 7, ..Run::default() };
    let blackbox = blackbox::open(disk.path(), &run, Geometry::default()).blackbox.unwrap();
    blackbox.reached(RunState::Started).unwrap();
    let content = move || Content {
        blackbox: blackbox.contents(),
        agents: vec![agent("a1", 41)],
        forgotten: Incarnation(5),
    };
    let (sender, notices) = sync_channel(1000);
    evidence.begin(this_run(run_id, number), content, move |notice| drop(sender.try_send(notice)));
    Stores { evidence, notices, _disk: disk }
}

fn start(settings: Settings) -> (Evidence, Result<Left, Fault>) {
    Evidence::start(settings).unwrap()
}

/// A run on another disk, from its boot to its end.
#[track_caller]
fn run(settings: Settings, run_id: &str) -> (Left, Stores) {
    let (evidence, left) = start(settings);
    let left = left.unwrap();
    let stores = begin(evidence, run_id, left.epoch + 1);
    assert!(stores.evidence.flush(PATIENCE));
    (left, stores)
}

#[track_caller]
fn ids(left: &Left) -> Vec<&str> {
    left.crashes.iter().map(|record| record.crash_id.as_str()).collect()
}

/// What every sink has to do.
fn keeps_what_runs_left(settings: &Settings) {
    let (left, first) = run(settings.clone(), "first");
    assert!(left.run.is_none() && left.crashes.is_empty() && left.damaged.is_empty());
    first.evidence.crashed(record("c1"));
    assert!(first.evidence.end(PATIENCE));
    let (left, second) = run(settings.clone(), "second");
    let found = left.run.as_ref().unwrap();
    assert_eq!((&*found.run_id, found.epoch, left.epoch), ("first", 1, 1));
    let previous = found.previous.as_ref().unwrap();
    assert_eq!((&*previous.run.run_id, previous.run.number), ("first", 1));
    assert_eq!(previous.state(), Some(RunState::Started));
    let known: Vec<_> = found.runs.iter().map(|it| (&*it.run_id, it.number)).collect();
    assert_eq!((known, found.forgotten_runs), (vec![("unreported", 0), ("first", 1)], 2));
    assert_eq!(found.agents[0].goes_on_after(), Incarnation(41 + ROOM));
    assert_eq!(found.agents[0].restarts.streak, 3);
    assert_eq!(found.others_go_on_after, Incarnation(5 + ROOM));
    assert_eq!(ids(&left), ["c1"]);
    second.evidence.crashed(record("c2"));
    second.evidence.reported();
    assert!(second.evidence.end(PATIENCE));
    // The third takes the places of the first, and the records of the first are still there.
    let (left, third) = run(settings.clone(), "third");
    let found = left.run.as_ref().unwrap();
    assert_eq!((&*found.run_id, found.epoch), ("second", 2));
    assert_eq!((found.runs.len(), found.forgotten_runs), (1, 0), "the others are reported");
    assert_eq!(ids(&left), ["c1", "c2"]);
    third.evidence.crashed(record("c3"));
    assert!(third.evidence.end(PATIENCE));
    let (_, left) = start(settings.clone());
    assert_eq!(ids(&left.unwrap()), ["c1", "c2", "c3"]);
}

#[test]
fn a_sink_by_http_keeps_what_runs_left() {
    let server = Server::start();
    let mut settings = of(&server);
    let Address::Http { token, .. } = &mut settings.sink else { panic!() };
    *token = Credential::fixed("hunter2".to_owned().into());
    keeps_what_runs_left(&settings);
    let kept = server.kept.lock();
    let paths: Vec<_> = kept.documents.keys().map(String::as_str).collect();
    let below = |name: &str| format!("/evidence/town-7/{name}");
    assert_eq!(paths, ["crashes-0.json", "crashes-1.json", "run-0.json", "run-1.json"].map(below),);
    assert_eq!(kept.authorization.as_deref(), Some("Bearer hunter2"));
}

#[test]
fn a_directory_keeps_what_runs_left_for_this_user_alone() {
    let dir = tempfile::tempdir().unwrap();
    keeps_what_runs_left(&settings(Address::File(dir.path().into())));
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let place = dir.path().join("town-7");
    assert_eq!((mode(&place), mode(&place.join("run-0.json"))), (0o700, 0o600));
    let left: Vec<_> =
        std::fs::read_dir(&place).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "{left:?}");
}

#[test]
fn a_volume_that_is_not_mounted_is_a_fault_and_no_place_to_write_to() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let (evidence, left) = start(settings(Address::File(missing.clone())));
    let fault = left.unwrap_err();
    assert!(fault.cause == Cause::Disk && fault.message.contains("missing"), "{fault:?}");
    let stores = begin(evidence, "first", 1);
    assert!(!stores.evidence.flush(Duration::from_millis(300)));
    assert!(!missing.exists());
    // It is mounted later.
    std::fs::create_dir(&missing).unwrap();
    assert!(stores.evidence.flush(PATIENCE));
}

#[test]
fn crashes_are_at_the_sink_by_few_connections() {
    let server = Server::start();
    let (_, stores) = run(of(&server), "first");
    for n in 0..40 {
        let crash_id = format!("crash-{n}");
        stores.evidence.crashed(record(&crash_id));
        server.wait_until("the record is there", |kept| {
            let documents = kept.documents.iter().filter(|(path, _)| path.contains("crashes"));
            let quoted = format!("{crash_id:?}");
            documents.into_iter().any(|(_, bytes)| String::from_utf8_lossy(bytes).contains(&quoted))
        });
    }
    let connections = server.kept.lock().connections;
    assert!(connections <= 6, "connections are kept: {connections}");
}

#[test]
fn a_server_that_closes_its_connections_loses_nothing() {
    let server = Server::start();
    server.set(Mood::Closes);
    keeps_what_runs_left(&of(&server));
}

#[test]
fn a_boot_waits_for_its_deadline_and_what_comes_late_is_reported() {
    let server = Server::start();
    let (_, first) = run(of(&server), "first");
    first.evidence.crashed(record("c1"));
    assert!(first.evidence.end(PATIENCE));
    server.set(Mood::Hangs);
    let quick = Settings {
        fetch: Duration::from_millis(200),
        call: Duration::from_millis(200),
        ..of(&server)
    };
    let began = Instant::now();
    let (evidence, left) = start(quick);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(left.unwrap_err().cause, Cause::Deadline);
    // A number that is too low: the disk is new.
    let stores = begin(evidence, "second", 1);
    let notice = stores.notices.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(&notice, Notice::Failed { doing: "fetch", .. }), "{notice:?}");
    stores.evidence.crashed(record("c2"));
    server.set(Mood::Works);
    assert!(stores.evidence.flush(PATIENCE));
    let late = stores.notices.try_iter().find_map(|notice| match notice {
        Notice::Late(left) => Some(left),
        _ => None,
    });
    assert_eq!(late.unwrap().run.unwrap().run_id, "first");
    // What was there is not overwritten, and the newer run counts.
    let (_, left) = start(of(&server));
    let left = left.unwrap();
    assert_eq!((left.epoch, ids(&left)), (2, vec!["c1", "c2"]));
    assert_eq!(left.run.unwrap().run_id, "second");
}

#[test]
fn a_sink_that_fails_is_reported_by_its_cause_and_delays_nobody() {
    for (mood, cause) in [
        (Mood::Answers(503), Cause::Refused),
        (Mood::Answers(401), Cause::Refused),
        (Mood::Answers(302), Cause::Refused),
        (Mood::Answers(507), Cause::Full),
        (Mood::Hangs, Cause::Deadline),
    ] {
        let server = Server::start();
        let call = Duration::from_millis(if mood == Mood::Hangs { 200 } else { 10_000 });
        let (_, stores) = run(Settings { call, ..of(&server) }, "first");
        server.set(mood);
        let began = Instant::now();
        (0..1000).for_each(|n| stores.evidence.crashed(record(&n.to_string())));
        assert!(began.elapsed() < Duration::from_secs(1), "nobody waits");
        assert!(!stores.evidence.flush(Duration::from_millis(500)), "{mood:?}");
        let Notice::Failed { doing: "store", fault } =
            stores.notices.recv_timeout(PATIENCE).unwrap()
        else {
            panic!("{mood:?}")
        };
        assert_eq!(fault.cause, cause, "{fault}");
        let figures = stores.evidence.figures();
        assert!(figures.failed > 0 && figures.dropped > 900, "{figures:?}");
        server.set(Mood::Works);
        assert!(stores.evidence.flush(PATIENCE));
        let notice = stores.notices.try_iter().last().unwrap();
        assert!(matches!(notice, Notice::Available { .. }), "{notice:?}");
    }
    // Nobody is there at all.
    let gone = Address::parse("http://127.0.0.1:1/").unwrap();
    let (_, left) = start(settings(gone));
    assert_eq!(left.unwrap_err().cause, Cause::Connect);
}

#[test]
fn a_half_written_document_is_not_believed_and_the_one_before_counts() {
    let server = Server::start();
    let (_, first) = run(of(&server), "first");
    assert!(first.evidence.end(PATIENCE));
    let (evidence, left) = start(of(&server));
    server.set(Mood::StoresHalf);
    let second = begin(evidence, "second", left.unwrap().epoch + 1);
    assert!(second.evidence.end(PATIENCE));
    server.set(Mood::Works);
    let (_, left) = start(of(&server));
    let left = left.unwrap();
    assert_eq!(left.damaged, ["run-0.json is half-written or damaged"]);
    assert_eq!(left.run.unwrap().run_id, "first");
}

#[test]
fn a_run_that_outlives_its_successors_start_does_not_take_its_place() {
    let server = Server::start();
    let (_, old) = run(of(&server), "old");
    let (_, new) = run(of(&server), "new");
    old.evidence.crashed(record("late"));
    assert!(old.evidence.end(PATIENCE) && new.evidence.end(PATIENCE));
    let (_, left) = start(of(&server));
    let left = left.unwrap();
    assert_eq!((ids(&left), left.run.as_ref().unwrap().run_id.as_str()), (vec!["late"], "new"));
}

#[test]
fn another_name_is_another_container() {
    let dir = tempfile::tempdir().unwrap();
    let of_dir = || settings(Address::File(dir.path().into()));
    let (_, first) = run(of_dir(), "first");
    assert!(first.evidence.end(PATIENCE));
    let other = Settings { name: Name::parse("other").unwrap(), ..of_dir() };
    let (left, other) = run(other, "second");
    assert!(left.run.is_none());
    assert!(other.evidence.end(PATIENCE));
    // Copied by hand to the other's place.
    std::fs::copy(dir.path().join("town-7/run-1.json"), dir.path().join("other/run-1.json"))
        .unwrap();
    let (_, left) = start(Settings { name: Name::parse("other").unwrap(), ..of_dir() });
    let left = left.unwrap();
    assert!(left.run.is_none() && left.damaged[0].contains("another one"), "{left:?}");
}
