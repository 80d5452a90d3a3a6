use std::fs;
use std::path::Path;

use bulkhead_model::crash::{Consequence, Resources};
use bulkhead_model::{Determinism, Incarnation, Phase, Timestamp};
use proptest::prelude::*;

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

fn record(n: u64) -> CrashRecord {
    CrashRecord {
        crash_id: format!("c{n}"),
        agent_id: AgentId::parse(if n.is_multiple_of(2) { "even" } else { "odd" }).unwrap(),
        role: "mayor".into(),
        name: "A".into(),
        rig_id: None,
        town_id: None,
        run_id: "run-1".into(),
        incarnation: Incarnation(n),
        start_attempt: 1,
        component: "mayor".into(),
        component_sha256: None,
        reason: if n.is_multiple_of(3) { ExitReason::Panic } else { ExitReason::Trap },
        trap: Some("unreachable".into()),
        message: "it went wrong".into(),
        location: None,
        status: None,
        code: None,
        requested_bytes: None,
        fingerprint: "f".into(),
        deterministic: Determinism::Unknown,
        frames: vec![frame("raw")],
        symbolized: Symbolized::Pending,
        started_at: Timestamp(1000),
        crashed_at: Timestamp(2000),
        agent_uptime_ms: 1000,
        phase: Phase::Handle,
        message_id: None,
        host_call: None,
        resources: Resources::default(),
        last_log_lines: vec!["one".into(), "two".into()],
        last_events: Vec::new(),
        active_tools: Vec::new(),
        active_agents: 1,
        rss_mb: Some(48.5),
        pressure: Some(0.25),
        eviction: None,
        consequence: Consequence::None,
        core_dump: None,
    }
}

fn frame(function: &str) -> Frame {
    Frame {
        index: 0,
        function: Some(function.into()),
        module: None,
        function_index: 1,
        module_offset: Some(7),
        file: None,
        line: None,
        column: None,
        in_app: false,
    }
}

fn in_memory(max_records: usize) -> Crashes {
    Crashes::open(&Config { max_records, ..Config::default() }).0
}

fn config(dir: &Path) -> Config {
    Config { dir: Some(dir.to_owned()), ..Config::default() }
}

/// A store whose file is in `dir`, with what earlier ones wrote.
fn reopen(dir: &Path) -> (Crashes, Loaded) {
    Crashes::open(&config(dir))
}

fn ids(page: &Page) -> Vec<&str> {
    page.records.iter().map(|record| record.crash_id.as_str()).collect()
}

fn filled(count: u64) -> Crashes {
    let crashes = in_memory(100);
    (1..=count).for_each(|n| crashes.put(Arc::new(record(n))));
    crashes
}

#[test]
fn a_record_is_found_by_its_id_and_the_newest_comes_first() {
    let crashes = filled(3);
    assert_eq!(*crashes.get("c2").unwrap(), record(2));
    assert!(crashes.get("c9").is_none());
    assert_eq!(ids(&crashes.list(&Filter::default())), ["c3", "c2", "c1"]);
}

#[test]
fn the_oldest_make_room_and_are_counted() {
    let crashes = in_memory(3);
    (1..=10).for_each(|n| crashes.put(Arc::new(record(n))));
    let stats = crashes.stats();
    assert_eq!((stats.kept, stats.evicted), (3, 7));
    assert_eq!(ids(&crashes.list(&Filter::default())), ["c10", "c9", "c8"]);
    assert!(crashes.get("c7").is_none());
    assert!(crashes.get("c8").is_some());
}

#[test]
fn bytes_are_bounded_too() {
    let crashes = Crashes::open(&Config { max_bytes: 20_000, ..Config::default() }).0;
    for n in 0..100 {
        crashes.put(Arc::new(CrashRecord { message: "x".repeat(1000), ..record(n) }));
    }
    let stats = crashes.stats();
    assert!(stats.bytes <= 20_000 && stats.kept > 5, "{stats:?}");
    assert_eq!(stats.kept as u64 + stats.evicted, 100);
    crashes.put(Arc::new(CrashRecord { message: "x".repeat(50_000), ..record(1000) }));
    assert_eq!((crashes.stats().kept, crashes.stats().bytes), (0, 0));
}

#[test]
fn records_are_chosen_by_agent_and_reason() {
    let crashes = filled(12);
    let agent = Some(AgentId::parse("even").unwrap());
    let page = crashes.list(&Filter { agent: agent.clone(), ..Filter::default() });
    assert_eq!(ids(&page), ["c12", "c10", "c8", "c6", "c4", "c2"]);
    let reason = Some(ExitReason::Panic);
    let page = crashes.list(&Filter { agent, reason, limit: 1, ..Filter::default() });
    assert_eq!((ids(&page), page.more), (vec!["c12"], true));
}

#[test]
fn pages_follow_each_other_in_both_directions() {
    let crashes = filled(5);
    let before =
        |cursor: &str| Filter { before: Some(cursor.into()), limit: 2, ..Filter::default() };
    let page = crashes.list(&before("c4"));
    assert_eq!((ids(&page), page.more), (vec!["c3", "c2"], true));
    let page = crashes.list(&before("c2"));
    assert_eq!((ids(&page), page.more), (vec!["c1"], false));
    let after = |cursor: &str| Filter { after: Some(cursor.into()), limit: 2, ..Filter::default() };
    let page = crashes.list(&after("c1"));
    assert_eq!((ids(&page), page.more), (vec!["c3", "c2"], true), "none is left out");
    let page = crashes.list(&after("c3"));
    assert_eq!((ids(&page), page.more), (vec!["c5", "c4"], false));
    assert!(crashes.list(&after("c5")).records.is_empty());
}

#[test]
fn a_cursor_that_is_gone_is_told() {
    let crashes = in_memory(2);
    (1..=5).for_each(|n| crashes.put(Arc::new(record(n))));
    let page = crashes.list(&Filter { before: Some("c1".into()), ..Filter::default() });
    assert!(page.cursor_lost && page.records.is_empty());
    let page = crashes.list(&Filter { after: Some("c1".into()), ..Filter::default() });
    assert_eq!((ids(&page), page.cursor_lost), (vec!["c5", "c4"], true));
    assert!(!crashes.list(&Filter::default()).cursor_lost);
}

#[test]
fn frames_are_filled_in_and_whoever_holds_the_record_keeps_what_it_saw() {
    let crashes = filled(2);
    let held = crashes.get("c1").unwrap();
    crashes.update_frames("c1", vec![frame("named"), frame("too")], Symbolized::Done);
    crashes.update_frames("gone", Vec::new(), Symbolized::Done);
    let now = crashes.get("c1").unwrap();
    assert_eq!((now.frames.len(), now.symbolized), (2, Symbolized::Done));
    assert_eq!(*held, record(1));
}

#[test]
fn the_same_id_is_one_record() {
    let crashes = filled(3);
    crashes.put(Arc::new(CrashRecord { message: "better".into(), ..record(2) }));
    assert_eq!(crashes.stats().kept, 3);
    assert_eq!(crashes.get("c2").unwrap().message, "better");
    assert_eq!(ids(&crashes.list(&Filter::default())), ["c3", "c2", "c1"]);
}

#[test]
fn records_of_an_earlier_run_are_read_back_with_their_frames() {
    let dir = tempfile::tempdir().unwrap();
    let (crashes, loaded) = reopen(dir.path());
    assert_eq!(loaded, Loaded::default());
    (1..=3).for_each(|n| crashes.put(Arc::new(record(n))));
    crashes.update_frames("c2", vec![frame("named")], Symbolized::Done);
    drop(crashes);
    let (crashes, loaded) = reopen(dir.path());
    assert_eq!(loaded, Loaded { records: 3, ..Loaded::default() });
    let expected =
        CrashRecord { frames: vec![frame("named")], symbolized: Symbolized::Done, ..record(2) };
    assert_eq!(*crashes.get("c2").unwrap(), expected);
    assert_eq!(*crashes.get("c3").unwrap(), record(3));
    assert_eq!(crashes.stats().evicted, 0);
}

#[test]
fn a_half_written_line_is_skipped_and_spoils_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("crashes.jsonl");
    let (crashes, _) = reopen(dir.path());
    (1..=2).for_each(|n| crashes.put(Arc::new(record(n))));
    drop(crashes);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 40]).unwrap();
    let (crashes, loaded) = reopen(dir.path());
    assert_eq!(loaded, Loaded { records: 1, half_lines: 1, ..Loaded::default() });
    crashes.put(Arc::new(record(3)));
    drop(crashes);
    let (crashes, loaded) = reopen(dir.path());
    assert_eq!(loaded, Loaded { records: 2, ..Loaded::default() });
    assert!(crashes.get("c3").is_some());
}

#[test]
fn a_line_that_is_no_record_is_counted_and_the_others_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("crashes.jsonl");
    let (crashes, _) = reopen(dir.path());
    (1..=2).for_each(|n| crashes.put(Arc::new(record(n))));
    drop(crashes);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("\"c1\"", "1", 1) + "\n{}\n\n").unwrap();
    let (_, loaded) = reopen(dir.path());
    assert_eq!(loaded, Loaded { records: 1, unreadable_lines: 2, ..Loaded::default() });
}

#[test]
fn a_line_that_lost_only_its_end_is_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("crashes.jsonl");
    let (crashes, _) = reopen(dir.path());
    crashes.put(Arc::new(record(1)));
    drop(crashes);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, whole.trim_ascii_end()).unwrap();
    let (crashes, _) = reopen(dir.path());
    crashes.put(Arc::new(record(2)));
    drop(crashes);
    assert_eq!(reopen(dir.path()).1, Loaded { records: 2, ..Loaded::default() });
}

#[test]
fn a_full_file_becomes_the_old_one_and_both_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let small = Config { file_bytes: 10_000, ..config(dir.path()) };
    let (crashes, _) = Crashes::open(&small);
    (1..=100).for_each(|n| crashes.put(Arc::new(record(n))));
    drop(crashes);
    let size = |name: &str| fs::metadata(dir.path().join(name)).unwrap().len();
    assert!(size("crashes.jsonl") <= 10_000 && size("crashes.1.jsonl") <= 10_000);
    assert!(size("crashes.1.jsonl") > 9_000);
    let (crashes, loaded) = Crashes::open(&small);
    assert!(loaded.records > 8 && loaded.unreadable_lines + loaded.half_lines == 0, "{loaded:?}");
    let page = crashes.list(&Filter { limit: 3, ..Filter::default() });
    assert_eq!(ids(&page), ["c100", "c99", "c98"]);
}

#[test]
fn of_a_file_that_is_too_large_the_end_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (crashes, _) = reopen(dir.path());
    (1..=100).for_each(|n| crashes.put(Arc::new(record(n))));
    drop(crashes);
    let small = Config { file_bytes: 10_000, ..config(dir.path()) };
    let (crashes, loaded) = Crashes::open(&small);
    assert!(loaded.records > 3 && loaded.records < 20, "{loaded:?}");
    assert_eq!(loaded.unreadable_lines + loaded.half_lines, 0);
    assert!(crashes.get("c100").is_some());
}

#[test]
fn without_a_directory_memory_works_and_errors_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let (crashes, loaded) = reopen(&missing);
    assert_eq!(loaded, Loaded::default());
    crashes.put(Arc::new(record(1)));
    assert!(crashes.flush(PATIENCE));
    assert_eq!(crashes.stats().write_errors, 1);
    assert!(crashes.get("c1").is_some());
    fs::create_dir(&missing).unwrap();
    crashes.put(Arc::new(record(2)));
    assert!(crashes.flush(PATIENCE));
    assert_eq!((crashes.stats().write_errors, crashes.stats().written_lines), (1, 1));
}

#[test]
fn a_full_disk_costs_its_line_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", dir.path().join("crashes.jsonl")).unwrap();
    let (crashes, loaded) = reopen(dir.path());
    assert_eq!(loaded.errors, ["read crashes.jsonl: it is no regular file"]);
    crashes.put(Arc::new(record(1)));
    assert!(crashes.flush(PATIENCE));
    assert_eq!(crashes.stats().write_errors, 1);
    fs::remove_file(dir.path().join("crashes.jsonl")).unwrap();
    crashes.put(Arc::new(record(2)));
    drop(crashes);
    assert_eq!(reopen(dir.path()).1.records, 1);
}

#[test]
fn a_file_that_somebody_removed_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (crashes, _) = reopen(dir.path());
    crashes.put(Arc::new(record(1)));
    assert!(crashes.flush(PATIENCE));
    fs::remove_file(dir.path().join("crashes.jsonl")).unwrap();
    crashes.put(Arc::new(record(2)));
    drop(crashes);
    assert_eq!(reopen(dir.path()).1.records, 1);
}

#[test]
fn a_line_larger_than_a_file_is_an_error_and_kept_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let (crashes, _) = Crashes::open(&Config { file_bytes: 3000, ..config(dir.path()) });
    crashes.put(Arc::new(CrashRecord { message: "x".repeat(4000), ..record(1) }));
    crashes.put(Arc::new(record(2)));
    assert!(crashes.flush(PATIENCE));
    assert_eq!((crashes.stats().write_errors, crashes.stats().written_lines), (1, 1));
    assert!(crashes.get("c1").is_some());
}

#[test]
fn a_full_queue_drops_and_counts_and_never_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let (crashes, _) = Crashes::open(&Config { queue: 1, ..config(dir.path()) });
    (0..2000).for_each(|n| crashes.put(Arc::new(record(n))));
    assert!(crashes.flush(PATIENCE));
    let stats = crashes.stats();
    assert_eq!(stats.written_lines + stats.dropped_lines, 2000);
    assert_eq!((stats.write_errors, stats.kept), (0, 1000));
}

proptest! {
    #[test]
    fn a_file_with_anything_in_it_is_read_without_a_panic(
        lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20),
    ) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("crashes.jsonl"), lines.join(&b'\n')).unwrap();
        let (crashes, loaded) = reopen(dir.path());
        prop_assert_eq!(loaded.records, 0);
        prop_assert_eq!(crashes.stats().kept, 0);
    }
}
