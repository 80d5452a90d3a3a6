use std::fs;
use std::path::Path;

use bulkhead_types::event::AgentTag;
use bulkhead_types::{Exit, Frame, Incarnation, Phase, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::database;

fn record(n: u64) -> CrashRecord {
    let reason = if n.is_multiple_of(3) { ExitReason::Panic } else { ExitReason::Trap };
    let agent = AgentTag {
        agent_id: AgentId::parse(if n.is_multiple_of(2) { "even" } else { "odd" }).unwrap(),
        role: "mayor".into(),
        incarnation: Incarnation(n),
    };
    let exit = Exit::new(reason, Phase::Handle, "it went wrong");
    // Later than any test runs: young enough to be kept.
    let crashed_at = Timestamp(4_000_000_000_000);
    CrashRecord {
        fingerprint: "f".into(),
        frames: vec![frame("raw")].into(),
        symbolized: Symbolized::Pending,
        last_log_lines: vec!["one".into(), "two".into()],
        rss_mb: Some(48.5),
        pressure: Some(0.25),
        ..CrashRecord::new(format!("c{n}"), agent, &exit, crashed_at)
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

fn of_size(config: Config) -> Crashes {
    Crashes::new(config, Arc::new(Database::absent()), Vec::new())
}

fn in_memory(max_records: usize) -> Crashes {
    of_size(Config { max_records, ..Config::default() })
}

/// A store whose database is in `dir`, with what earlier ones wrote.
fn reopen(dir: &Path) -> Crashes {
    let config = database::Config { dir: Some(dir.to_owned()), ..database::Config::default() };
    let (database, found) = Database::open(config, |notice| panic!("{notice:?}"));
    Crashes::new(Config::default(), Arc::new(database), found.crashes)
}

fn ids(page: &Page) -> Vec<&str> {
    page.records.iter().map(|record| record.crash_id.as_str()).collect()
}

fn filled(count: u64) -> Crashes {
    let crashes = in_memory(100);
    (1..=count).for_each(|n| crashes.put(record(n).into()));
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
    (1..=10).for_each(|n| crashes.put(record(n).into()));
    let stats = crashes.stats();
    assert_eq!((stats.kept, stats.evicted), (3, 7));
    assert_eq!(ids(&crashes.list(&Filter::default())), ["c10", "c9", "c8"]);
    assert!(crashes.get("c7").is_none());
    assert!(crashes.get("c8").is_some());
}

#[test]
fn bytes_are_bounded_too() {
    let crashes = of_size(Config { max_bytes: 20_000, ..Config::default() });
    for n in 0..100 {
        crashes.put(CrashRecord { message: "x".repeat(1000), ..record(n) }.into());
    }
    let stats = crashes.stats();
    assert!(stats.bytes <= 20_000 && stats.kept > 5, "{stats:?}");
    assert_eq!(stats.kept as u64 + stats.evicted, 100);
    crashes.put(CrashRecord { message: "x".repeat(50_000), ..record(1000) }.into());
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
fn a_cursor_that_is_gone_is_reported() {
    let crashes = in_memory(2);
    (1..=5).for_each(|n| crashes.put(record(n).into()));
    let page = crashes.list(&Filter { before: Some("c1".into()), ..Filter::default() });
    assert!(page.cursor_lost && page.records.is_empty());
    let page = crashes.list(&Filter { after: Some("c1".into()), ..Filter::default() });
    assert_eq!((ids(&page), page.cursor_lost), (vec!["c5", "c4"], true));
    assert!(!crashes.list(&Filter::default()).cursor_lost);
}

#[test]
fn frames_are_filled_in_and_a_holder_of_the_record_keeps_what_it_saw() {
    let crashes = filled(2);
    let held = crashes.get("c1").unwrap();
    crashes.update_frames("c1", vec![frame("named"), frame("too")].into(), Symbolized::Done);
    crashes.update_frames("gone", Frames::default(), Symbolized::Done);
    let now = crashes.get("c1").unwrap();
    assert_eq!((now.frames.len(), now.symbolized), (2, Symbolized::Done));
    assert_eq!(*held, record(1));
}

#[test]
fn the_same_id_is_one_record() {
    let crashes = filled(3);
    crashes.put(CrashRecord { message: "better".into(), ..record(2) }.into());
    assert_eq!(crashes.stats().kept, 3);
    assert_eq!(crashes.get("c2").unwrap().message, "better");
    assert_eq!(ids(&crashes.list(&Filter::default())), ["c3", "c2", "c1"]);
}

#[test]
fn records_of_an_earlier_run_are_read_back_with_their_frames() {
    let dir = tempfile::tempdir().unwrap();
    let crashes = reopen(dir.path());
    assert_eq!(crashes.stats(), Stats::default());
    (1..=3).for_each(|n| crashes.put(record(n).into()));
    crashes.update_frames("c2", vec![frame("named")].into(), Symbolized::Done);
    drop(crashes);
    let crashes = reopen(dir.path());
    assert_eq!(ids(&crashes.list(&Filter::default())), ["c3", "c2", "c1"]);
    let expected = CrashRecord {
        frames: vec![frame("named")].into(),
        symbolized: Symbolized::Done,
        ..record(2)
    };
    assert_eq!(*crashes.get("c2").unwrap(), expected);
    assert_eq!(*crashes.get("c3").unwrap(), record(3));
    assert_eq!(crashes.stats().evicted, 0);
}

/// Two files as an earlier version left them, with a line truncated at its end and one that is none.
fn leave_old_files(dir: &Path) {
    let line = |record: &CrashRecord| {
        let mut line = serde_json::to_value(record).unwrap();
        line["line"] = "crash".into();
        format!("{line}\n")
    };
    fs::write(dir.join("crashes.1.jsonl"), line(&record(1)) + &line(&record(2))).unwrap();
    let frames = serde_json::json!({
        "line": "frames", "crashId": "c2", "symbolized": "done", "frames": [frame("named")],
    });
    let cut = line(&record(4));
    let text = format!("{}{frames}\n{{}}\n{}", line(&record(3)), &cut[..cut.len() - 40]);
    fs::write(dir.join("crashes.jsonl"), text).unwrap();
}

#[test]
fn files_of_an_earlier_version_are_taken_over_once() {
    let (old, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    leave_old_files(old.path());
    let crashes = reopen(dir.path());
    let imported = import(old.path(), &crashes.database);
    assert_eq!(imported.errors, Vec::<String>::new());
    assert_eq!((imported.records.len(), imported.unreadable_lines), (3, 2));
    assert!(old.path().join("crashes.jsonl.imported").exists());
    assert_eq!(import(old.path(), &crashes.database), Imported::default());
    drop(crashes);
    let crashes = reopen(dir.path());
    assert_eq!(ids(&crashes.list(&Filter::default())), ["c3", "c2", "c1"]);
    assert_eq!(*crashes.get("c2").unwrap().frames, [frame("named")]);
}

#[test]
fn files_that_the_database_did_not_take_stay() {
    let old = tempfile::tempdir().unwrap();
    leave_old_files(old.path());
    let imported = import(old.path(), &Database::absent());
    assert_eq!((imported.records.len(), imported.errors.len()), (3, 1));
    assert!(old.path().join("crashes.jsonl").exists());
}

proptest! {
    #[test]
    fn a_file_with_anything_in_it_is_read_without_a_panic(
        lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20),
    ) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("crashes.jsonl"), lines.join(&b'\n')).unwrap();
        prop_assert_eq!(import(dir.path(), &Database::absent()).records.len(), 0);
    }
}
