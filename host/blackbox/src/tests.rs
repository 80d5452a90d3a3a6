use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, UNIX_EPOCH};

use bulkhead_types::previous::{InFlight, MemoryFigures};
use proptest::prelude::*;

use super::*;

const SMALL: Geometry = Geometry { in_flight: 4, container: 8, agents: 16 };

fn run(run_id: &str) -> Run {
    Run { run_id: run_id.into(), boot_id: Some("boot".into()), pid: 7, ..Run::default() }
}

fn begin(dir: &Path, run_id: &str) -> (Found, BlackBox) {
    let opened = open(dir, &run(run_id), SMALL);
    (opened.previous, opened.blackbox.unwrap())
}

/// What the run in `dir` would leave if it were killed now.
fn left(dir: &Path) -> Previous {
    match read(dir) {
        Found::Run(previous) => *previous,
        other => panic!("{other:?}"),
    }
}

fn file(dir: &Path) -> std::path::PathBuf {
    dir.join("blackbox")
}

fn work(agent: &str) -> Work<'_> {
    Work {
        agent_id: agent.into(),
        incarnation: 1,
        phase: "handle".into(),
        message_id: Some("m1".into()),
    }
}

/// Whose work was at hand.
fn at_hand(left: &Previous) -> Vec<&str> {
    left.in_flight.iter().map(|work| work.agent_id.as_str()).collect()
}

#[test]
fn the_contents_of_a_box_in_use_are_what_a_later_run_would_read() {
    let dir = tempfile::tempdir().unwrap();
    let (_, blackbox) = begin(dir.path(), "run-1");
    blackbox.note(&Fact::ColdStart(ColdStart { version: "1".into() }));
    let _marker = blackbox.in_flight().begin(&work("a1"));
    blackbox.reached(RunState::Started).unwrap();
    assert_eq!(blackbox.contents(), Some(left(dir.path())));
    assert_eq!(BlackBox::absent().contents(), None);
}

#[test]
fn a_box_of_memory_alone_has_contents_like_any_other() {
    let blackbox = in_memory(&run("run-1"), SMALL).unwrap();
    blackbox.note(&Fact::ColdStart(ColdStart { version: "1".into() }));
    for state in [RunState::Started, RunState::Hydrated, RunState::Draining, RunState::Clean] {
        blackbox.reached(state).unwrap();
    }
    let contents = blackbox.contents().unwrap();
    assert_eq!((contents.records.len(), contents.state()), (1, Some(RunState::Clean)));
    assert_eq!(contents.clean, CleanMarker::Of("run-1".into()));
}

#[test]
fn what_was_appended_is_read_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let (previous, blackbox) = begin(dir.path(), "run-1");
    assert!(matches!(previous, Found::Nothing));
    let started = Fact::AgentStart(AgentStart {
        agent_id: "a1".into(),
        role: "mayor".into(),
        incarnation: 1,
    });
    let memory = Fact::Memory(MemoryFigures { oom_kills: Some(3), ..MemoryFigures::default() });
    assert_eq!(blackbox.note(&started), Some(1));
    assert_eq!(blackbox.note(&memory), Some(2));
    assert_eq!(blackbox.append(Kind::of(900), b"of a later version"), Some(3));
    blackbox.alive(41);
    let left = left(dir.path());
    let facts: Vec<_> = left.records.iter().map(|record| (record.seq, record.fact())).collect();
    assert_eq!(facts, [(1, Some(started)), (2, Some(memory)), (3, None)]);
    assert_eq!(left.records[2].kind, Kind::Unknown(900));
    assert_eq!(left.records[2].payload, b"of a later version");
    assert_eq!(left.run, run("run-1"));
    assert_eq!(left.last_log_seq, Some(41));
    assert!(left.last_live.is_some() && left.last_ts() >= left.records[0].at);
    assert_eq!((left.torn, left.missing, left.state()), (0, 0, Some(RunState::Starting)));
}

#[test]
fn a_ring_keeps_the_newest_and_agents_do_not_push_out_the_container() {
    let dir = tempfile::tempdir().unwrap();
    let (_, blackbox) = begin(dir.path(), "run-1");
    let stop = Fact::StopIntent(StopIntent {
        by: "SIGTERM".into(),
        reason: "asked".into(),
        drain_ms: None,
    });
    blackbox.note(&stop);
    for _ in 0..1000 {
        blackbox.append(Kind::AgentCrash, b"{}");
    }
    let left = left(dir.path());
    let seqs: Vec<u64> = left.records.iter().map(|record| record.seq).collect();
    assert_eq!(seqs[0], 1);
    assert_eq!(seqs[1..], (986..=1001).collect::<Vec<u64>>());
    assert_eq!(left.records[0].fact(), Some(stop));
    assert!(left.stop_intent_at.is_some());
}

#[test]
fn writers_on_many_threads_lose_nothing_that_the_ring_still_has_room_for() {
    let dir = tempfile::tempdir().unwrap();
    let (_, blackbox) = begin(dir.path(), "run-1");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    blackbox.append(Kind::AgentExit, b"x");
                }
            });
        }
    });
    let last = blackbox.append(Kind::AgentExit, b"last").unwrap();
    let left = left(dir.path());
    assert_eq!(left.torn, 0);
    assert_eq!(left.records.len(), SMALL.agents as usize);
    assert_eq!(left.records.last().unwrap().seq, last);
    assert_eq!(blackbox.lost(), 0);
}

#[test]
fn work_is_in_flight_until_its_marker_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (_, blackbox) = begin(dir.path(), "run-1");
    let table = blackbox.in_flight();
    let before = now_ms();
    let first = table.begin(&work("a1"));
    let second = table.begin(&work("a2"));
    drop(first);
    let found = left(dir.path());
    assert_eq!(at_hand(&found), ["a2"]);
    let InFlight { incarnation, phase, message_id, since, .. } = &found.in_flight[0];
    assert_eq!((*incarnation, &**phase, message_id.as_deref()), (1, "handle", Some("m1")));
    assert!(*since >= timestamp(before) && *since <= timestamp(now_ms()), "{since:?}");
    drop(second);
    assert_eq!(at_hand(&left(dir.path())), [""; 0]);
}

#[test]
fn work_that_finds_the_table_full_is_counted_as_long_as_it_is_at_hand() {
    let dir = tempfile::tempdir().unwrap();
    let (_, blackbox) = begin(dir.path(), "run-1");
    let table = blackbox.in_flight();
    let many: Vec<_> = (0..11).map(|_| table.begin(&work("a1"))).collect();
    assert_eq!((at_hand(&left(dir.path())).len(), left(dir.path()).untracked), (4, 7));
    drop(many);
    assert_eq!((at_hand(&left(dir.path())).len(), left(dir.path()).untracked), (0, 0));
    assert_eq!(table.untracked(), 7, "what was not tracked stays counted");
    let _again: Vec<_> = (0..4).map(|_| table.begin(&work("a2"))).collect();
    assert_eq!(at_hand(&left(dir.path())), ["a2"; 4]);
    assert_eq!((left(dir.path()).torn, table.untracked()), (0, 7));
}

#[test]
fn markers_come_and_go_on_many_threads() {
    let dir = tempfile::tempdir().unwrap();
    let (_, blackbox) = begin(dir.path(), "run-1");
    let table = blackbox.in_flight();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..5_000).for_each(|_| drop(table.begin(&work("a1")))));
        }
    });
    let all: Vec<_> = (0..4).map(|_| table.begin(&work("a2"))).collect();
    assert_eq!((at_hand(&left(dir.path())), left(dir.path()).untracked), (vec!["a2"; 4], 0));
    drop(all);
}

#[test]
fn a_run_is_clean_only_after_its_drain() {
    let dir = tempfile::tempdir().unwrap();
    let (_, blackbox) = begin(dir.path(), "run-1");
    let refused = || match blackbox.reached(RunState::Clean) {
        Err(StateError::NotThrough) => {}
        other => panic!("{other:?}"),
    };
    refused();
    blackbox.reached(RunState::Hydrated).unwrap();
    refused();
    assert_eq!(left(dir.path()).clean, CleanMarker::Absent);
    blackbox.reached(RunState::Draining).unwrap();
    blackbox.reached(RunState::Clean).unwrap();
    let left = left(dir.path());
    assert_eq!(left.clean, CleanMarker::Of("run-1".into()));
    assert_eq!(left.state(), Some(RunState::Clean));
}

#[test]
fn a_run_follows_another_and_keeps_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let (_, first) = begin(dir.path(), "run-1");
    first.append(Kind::ColdStart, b"{}");
    let (previous, second) = begin(dir.path(), "run-2");
    assert_eq!(previous.run().unwrap().run.run_id, "run-1");
    assert_eq!(previous.run().unwrap().records.len(), 1);
    first.append(Kind::ColdStart, b"a late one of the first");
    second.append(Kind::Draining, b"{}");
    assert_eq!(left(dir.path()).run.run_id, "run-2");
    assert_eq!(left(dir.path()).records.len(), 1);
    let (previous, _third) = begin(dir.path(), "run-3");
    assert_eq!(previous.run().unwrap().run.run_id, "run-2");
    let kept = parse(&fs::read(dir.path().join("blackbox.previous")).unwrap()).unwrap();
    assert_eq!(kept.run.run_id, "run-2");
}

#[test]
fn a_boot_that_dies_between_two_steps_does_not_hide_the_run_before() {
    let dir = tempfile::tempdir().unwrap();
    let (_, _first) = begin(dir.path(), "run-1");
    let (_, _second) = begin(dir.path(), "run-2");
    fs::rename(file(dir.path()), dir.path().join("blackbox.new")).unwrap();
    assert_eq!(left(dir.path()).run.run_id, "run-1");
    let (previous, _third) = begin(dir.path(), "run-3");
    assert_eq!(previous.run().unwrap().run.run_id, "run-1");
    assert_eq!(left(dir.path()).run.run_id, "run-3");
}

#[test]
fn a_file_that_says_nothing_is_set_aside_and_only_a_few_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..6 {
        fs::write(file(dir.path()), format!("garbage {n}")).unwrap();
        let (previous, _) = begin(dir.path(), "run");
        let Found::Unreadable { reason, kept_as } = previous else { panic!("{previous:?}") };
        assert_eq!(reason, "shorter than a header");
        let kept = kept_as.unwrap();
        assert_eq!(fs::read_to_string(&kept).unwrap(), format!("garbage {n}"));
        let written = UNIX_EPOCH + Duration::from_secs(n);
        fs::File::open(&kept).unwrap().set_modified(written).unwrap();
    }
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    let corrupt = |n| fs::read_to_string(dir.path().join(format!("blackbox.corrupt-{n}"))).unwrap();
    let mut kept: Vec<String> = (0..3).map(corrupt).collect();
    kept.sort_unstable();
    assert_eq!(kept, ["garbage 3", "garbage 4", "garbage 5"]);
}

#[test]
fn without_room_there_is_no_black_box_and_the_host_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (_, first) = begin(dir.path(), "run-1");
    drop(first);
    let huge = Geometry { in_flight: 0, ..SMALL };
    let opened = open(dir.path(), &run("run-2"), huge);
    assert_eq!(opened.previous.run().unwrap().run.run_id, "run-1");
    assert!(matches!(opened.blackbox, Err(OpenError::Describe(_))));
    assert!(matches!(read(dir.path()), Found::Nothing), "run-1 is not the predecessor of run-3");
    let opened = open(&dir.path().join("missing"), &run("run-2"), SMALL);
    assert!(matches!(opened.blackbox, Err(OpenError::Create(_))));

    let absent = BlackBox::absent();
    assert_eq!(absent.append(Kind::Panic, b""), None);
    absent.alive(1);
    absent.reached(RunState::Clean).unwrap();
    drop(absent.in_flight().begin(&work("a1")));
    assert!(!absent.is_present());
}

#[test]
fn a_run_that_says_too_much_about_itself_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let long = Run { version: "x".repeat(5000), ..run("run-1") };
    assert!(matches!(open(dir.path(), &long, SMALL).blackbox, Err(OpenError::Describe(_))));
    let long = run(&"x".repeat(257));
    assert!(matches!(open(dir.path(), &long, SMALL).blackbox, Err(OpenError::Describe(_))));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing stays behind");
}

#[test]
fn a_pipe_in_its_place_does_not_hold_the_boot() {
    let dir = tempfile::tempdir().unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, file(dir.path()), 0o600.into()).unwrap();
    let (previous, _) = begin(dir.path(), "run-1");
    assert!(matches!(previous, Found::Unreadable { .. }));
}

/// A black box with a bit of everything.
fn sample() -> Vec<u8> {
    static SAMPLE: OnceLock<Vec<u8>> = OnceLock::new();
    SAMPLE.get_or_init(make_sample).clone()
}

fn make_sample() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let (_, blackbox) = begin(dir.path(), "run-1");
    for n in 0..20_u64 {
        blackbox.append(Kind::AgentCrash, &n.to_le_bytes());
        blackbox.append(Kind::Draining, b"{\"phase\":\"settling\",\"agents\":1}");
    }
    let _marker = blackbox.in_flight().begin(&work("a1"));
    for state in [RunState::Hydrated, RunState::Draining, RunState::Clean] {
        blackbox.reached(state).unwrap();
    }
    fs::read(file(dir.path())).unwrap()
}

/// A bounded part of what the fuzz target does without end: what the checksums would keep out as well.
#[test]
fn noise_with_checksums_that_are_right_is_survived() {
    let mut random = fastrand::Rng::with_seed(5);
    let sample = sample();
    for round in 0..3000 {
        let mut bytes = sample.clone();
        for _ in 0..=random.usize(..64) {
            let at = random.usize(..bytes.len());
            bytes[at] =
                if round % 2 == 0 { random.u8(..) } else { b"{}[]\",:0"[random.usize(..8)] };
        }
        read_any(&bytes);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..8192)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn any_bytes_after_a_good_header_are_read_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..20_000),
        at in 0_usize..20_000,
    ) {
        let mut file = sample();
        let at = (2048 + at).min(file.len());
        let end = (at + bytes.len()).min(file.len());
        file[at..end].copy_from_slice(&bytes[..end - at]);
        let _ = parse(&file);
    }

    #[test]
    fn a_cut_file_is_distinguished_from_a_whole_one(length in 0_usize..18_432) {
        let file = sample();
        match parse(&file[..length]) {
            Ok(previous) => prop_assert!(previous.torn + previous.missing > 0),
            Err(_) => prop_assert!(length < 4096),
        }
    }

    #[test]
    fn flipped_bits_are_never_believed(flips in prop::collection::vec(any::<prop::sample::Index>(), 1..4)) {
        let good = sample();
        let whole = parse(&good).unwrap();
        let mut bad = good.clone();
        for flip in flips {
            let bit = flip.index(bad.len() * 8);
            bad[bit / 8] ^= 1 << (bit % 8);
        }
        if let Ok(read) = parse(&bad) {
            prop_assert!(read.records.iter().all(|record| whole.records.contains(record)));
            prop_assert!(read.in_flight.iter().all(|work| whole.in_flight.contains(work)));
            prop_assert!(read.reached.iter().all(|state| whole.reached.contains(state)));
            prop_assert!(read.clean == whole.clean || read.clean == CleanMarker::Damaged);
            prop_assert_eq!(read.run, whole.run);
        }
    }
}
