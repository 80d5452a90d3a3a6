use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::{Receiver, sync_channel};

use bulkhead_types::event::AgentTag;
use bulkhead_types::restart::{Quarantine, QuarantineReason};
use bulkhead_types::{Digest, Exit, ExitReason, Phase, RestartState, Symbolized};
use proptest::prelude::*;
use rusqlite::Connection;

use super::*;

mod bounds;
mod full_disk;
mod pages;
mod read_only;
mod records;
mod replaced;
mod unreadable;
mod unwritable;
mod usage;
mod versions;

const PATIENCE: Duration = Duration::from_secs(30);

/// The file is back, and no crash record waited for it.
const AVAILABLE: Notice = Notice::Available { crashes_written: 0, crashes_dropped: 0 };

/// A database in `dir` that is not tried again soon, and its notices.
fn open(dir: &Path) -> (Database, Found, Receiver<Notice>) {
    open_with(dir, |_| {})
}

fn open_with(dir: &Path, set: impl Fn(&mut Config)) -> (Database, Found, Receiver<Notice>) {
    let mut config = Config { dir: Some(dir.to_owned()), ..Config::default() };
    set(&mut config);
    let (sender, notices) = sync_channel(100);
    let (database, found) = Database::open(config, move |notice| sender.try_send(notice).unwrap());
    (database, found, notices)
}

/// One that has nothing to complain of.
fn open_clean(dir: &Path) -> (Database, BTreeMap<AgentId, AgentRow>) {
    let (database, found, notices) = open(dir);
    assert_eq!(notices.try_recv().ok(), None);
    (database, by_id(found.agents))
}

fn by_id(rows: Vec<AgentRow>) -> BTreeMap<AgentId, AgentRow> {
    rows.into_iter().map(|row| (row.id.clone(), row)).collect()
}

fn id(name: &str) -> AgentId {
    AgentId::parse(name).unwrap()
}

fn began(number: u64, order: &str) -> Change {
    let restarts = Arc::default();
    let (incarnation, order) = (Incarnation(number), order.to_owned().into());
    Change::Began { incarnation, order, settings: None, restarts }
}

fn stopped(upto: u64) -> Change {
    Change::Stopped { upto: Incarnation(upto) }
}

fn quarantined() -> RestartState {
    let why = QuarantineReason::Intensity;
    let quarantine = Quarantine { since: Timestamp(7), why, message: "too often".into() };
    RestartState { quarantine: Some(quarantine), streak: 3, ..RestartState::default() }
}

fn crash(n: u64) -> CrashRecord {
    let reason = if n.is_multiple_of(3) { ExitReason::Panic } else { ExitReason::Trap };
    let agent_id = id(if n.is_multiple_of(2) { "even" } else { "odd" });
    let agent = AgentTag { agent_id, role: "mayor".into(), incarnation: Incarnation(n) };
    let exit = Exit::new(reason, Phase::Handle, "it went wrong");
    CrashRecord {
        fingerprint: format!("f{}", n % 5),
        symbolized: Symbolized::Done,
        ..CrashRecord::new(format!("c{n:05}"), agent, &exit, writer::now())
    }
}

fn snapshot(agent: &str, bytes: &[u8]) -> Snapshot {
    let (incarnation, taken_at) = (Incarnation(1), Timestamp(1));
    Snapshot { agent: id(agent), incarnation, taken_at, code: None, bytes: bytes.into() }
}

fn kept(database: &Database, agent: &str) -> Option<Kept> {
    match database.newest_snapshot(&id(agent)).unwrap() {
        Newest::Kept(kept) => Some(kept),
        Newest::None => None,
        Newest::Rotten { generation } => panic!("snapshot {generation} is rotten"),
    }
}

#[test]
fn what_was_acknowledged_is_there_after_a_new_open() {
    let dir = tempfile::tempdir().unwrap();
    let (database, found) = open_clean(dir.path());
    assert!(found.is_empty());
    database.change(&id("a"), began(1, "order a")).wait().unwrap();
    database.change(&id("b"), began(4, "order b")).wait().unwrap();
    database.change(&id("b"), stopped(4)).wait().unwrap();
    let ended = Change::Ended {
        incarnation: Incarnation(9),
        restarts: quarantined().into(),
        wanted: Wanted::Running,
    };
    database.change(&id("c"), began(9, "order c"));
    database.change(&id("c"), ended).wait().unwrap();
    drop(database);
    let (_, found) = open_clean(dir.path());
    let row = |name: &str| &found[&id(name)];
    assert_eq!((row("a").wanted, row("a").order.as_deref()), (Wanted::Running, Some("order a")));
    assert_eq!((row("b").wanted, &row("b").order), (Wanted::Stopped, &None), "secrets go");
    assert_eq!(row("b").incarnation, Incarnation(4));
    assert_eq!((&*row("c").restarts, row("c").order.as_deref()), (&quarantined(), Some("order c")));
}

#[test]
fn what_comes_late_from_an_earlier_incarnation_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (database, _) = open_clean(dir.path());
    let late = Change::Ended {
        incarnation: Incarnation(1),
        restarts: quarantined().into(),
        wanted: Wanted::Stopped,
    };
    database.change(&id("a"), began(1, "old"));
    database.change(&id("a"), began(2, "new"));
    database.change(&id("a"), late);
    database.change(&id("a"), stopped(1)).wait().unwrap();
    drop(database);
    let (_, found) = open_clean(dir.path());
    let row = &found[&id("a")];
    assert_eq!((row.wanted, row.order.as_deref()), (Wanted::Running, Some("new")));
    assert_eq!(*row.restarts, RestartState::default());
}

#[test]
fn a_history_that_nobody_waits_for_is_written_soon() {
    let dir = tempfile::tempdir().unwrap();
    let (database, _) = open_clean(dir.path());
    database.change(&id("a"), began(1, "order")).wait().unwrap();
    let restarts = RestartState { streak: 7, ..RestartState::default() };
    let (incarnation, wanted) = (Incarnation(1), Wanted::Running);
    database.note(&id("a"), Change::Ended { incarnation, restarts: restarts.into(), wanted });
    let until = std::time::Instant::now() + PATIENCE;
    let streak = || {
        let connection = file::open_to_read(dir.path()).unwrap();
        agents::read(&connection).unwrap().rows[0].restarts.streak
    };
    while streak() != 7 {
        assert!(std::time::Instant::now() < until, "it was not written");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_receipt_of_all_waits_for_what_nobody_else_waits_for() {
    let dir = tempfile::tempdir().unwrap();
    let (database, _) = open_clean(dir.path());
    database.change(&id("a"), began(1, "order")).wait().unwrap();
    let (incarnation, wanted) = (Incarnation(1), Wanted::Running);
    for streak in 1..=20 {
        let restarts = RestartState { streak, ..RestartState::default() };
        database.note(&id("a"), Change::Ended { incarnation, restarts: restarts.into(), wanted });
        database.receipt_of_all().wait().unwrap();
        let connection = file::open_to_read(dir.path()).unwrap();
        assert_eq!(agents::read(&connection).unwrap().rows[0].restarts.streak, streak);
    }
    database.receipt_of_all().wait().unwrap();
}

#[test]
fn only_its_owner_may_read_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("store");
    let (database, _) = open_clean(&dir);
    database.change(&id("a"), began(1, "secret")).wait().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn agents_that_nobody_has_to_see_are_forgotten_and_their_numbers_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let (database, _, _notices) = open_with(dir.path(), |config| config.max_agents = 10);
    database.change(&id("stays"), began(1, "order"));
    database.keep_snapshot(snapshot("stays", b"state")).unwrap();
    database.change(&id("agent-0"), began(1, "order"));
    database.keep_snapshot(snapshot("agent-0", b"state")).unwrap();
    for n in 0..100 {
        let id = id(&format!("agent-{n}"));
        database.change(&id, began(n + 1, "order"));
        database.change(&id, stopped(n + 1));
    }
    database.receipt().wait().unwrap();
    drop(database);
    let (database, found, _notices) = open(dir.path());
    assert!(kept(&database, "stays").is_some() && kept(&database, "agent-0").is_none());
    assert!(found.agents.len() <= 11, "{}", found.agents.len());
    assert!(found.agents.iter().any(|row| row.id == id("stays")));
    assert!(database.forgotten() >= Incarnation(85), "{:?}", database.forgotten());
}

#[test]
fn a_damaged_file_is_set_aside_and_the_host_comes_up() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..12 {
        fs::write(file::path(dir.path()), format!("this is no database {round}")).unwrap();
        let (database, found, notices) = open(dir.path());
        assert_eq!(found, Found::default());
        let Notice::SetAside { kept_as, removed, .. } = notices.try_recv().unwrap() else {
            panic!()
        };
        let text = fs::read_to_string(kept_as.unwrap()).unwrap();
        assert_eq!(text, format!("this is no database {round}"));
        assert_eq!(removed.is_some(), round >= 8, "{removed:?}");
        database.change(&id("a"), began(1, "order")).wait().unwrap();
    }
    let aside = fs::read_dir(dir.path()).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name().into_string().unwrap();
        name.contains("set-aside") && !name.ends_with("-wal") && !name.ends_with("-shm")
    });
    assert_eq!(aside.count(), 8);
}

#[test]
fn without_a_directory_nothing_is_durable_and_everything_follows_when_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let blocked = dir.path().join("store");
    fs::write(&blocked, "a file in the directory's place").unwrap();
    let soon = |config: &mut Config| config.retry = Duration::from_millis(20);
    let (database, _, notices) = open_with(&blocked, soon);
    let first = notices.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(first, Notice::Unavailable { retries: true, .. }), "{first:?}");
    let error = database.change(&id("a"), began(1, "order")).wait().unwrap_err();
    assert!(error.to_string().contains("make the directory"), "{error}");
    fs::remove_file(&blocked).unwrap();
    assert_eq!(notices.recv_timeout(PATIENCE).unwrap(), AVAILABLE);
    database.change(&id("b"), began(1, "order")).wait().unwrap();
    drop(database);
    let (_, found) = open_clean(&blocked);
    assert_eq!(found.len(), 2, "what was changed meanwhile is written as well");
}

#[test]
fn numbers_of_earlier_runs_count_for_an_agent_that_restarted_its_count_and_is_forgotten() {
    let mut image = Image::new(1);
    image.change(&id("a"), began(1, "new"), Timestamp(1), true);
    image.change(&id("a"), stopped(1), Timestamp(1), true);
    let row = AgentRow { incarnation: Incarnation(40), ..row_of("a") };
    image.merge(vec![row], Incarnation(7));
    assert_eq!(image.forgotten(), Incarnation(7));
    image.change(&id("b"), began(1, "order"), Timestamp(2), true);
    assert_eq!(image.rows().map(|row| &row.id).collect::<Vec<_>>(), [&id("b")]);
    assert_eq!(image.forgotten(), Incarnation(40));
}

#[test]
fn what_may_be_secret_is_not_shown() {
    let row = AgentRow { order: Some("hunter2".to_owned().into()), ..row_of("a") };
    assert!(!format!("{row:?} {:?}", began(1, "hunter2")).contains("hunter2"));
}

fn row_of(agent: &str) -> AgentRow {
    let dir = tempfile::tempdir().unwrap();
    let (database, _) = open_clean(dir.path());
    database.note(&id(agent), began(1, "order"));
    database.agents().remove(0)
}

#[test]
fn readers_do_not_wait_for_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let (database, _) = open_clean(dir.path());
    database.keep_snapshot(snapshot("a", b"one")).unwrap().wait().unwrap();
    // A writer that never gets to its end.
    let mut other = Connection::open(file::path(dir.path())).unwrap();
    let transaction =
        other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    transaction.execute("DELETE FROM snapshots", []).unwrap();
    let began = std::time::Instant::now();
    assert_eq!(*kept(&database, "a").unwrap().snapshot.bytes, *b"one");
    assert!(read_crashes(dir.path(), &CrashQuery::default()).unwrap().is_empty());
    // A caller waits for a writer for five seconds.
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

/// What a test does to a database.
#[derive(Debug, Clone)]
enum Step {
    Began(u8, u64),
    Returned(u8, u64),
    Ended(u8, u64, bool, bool),
    Stopped(u8, u64),
    Settings(u8, u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let (agent, number) = (0..4_u8, 1..12_u64);
    prop_oneof![
        3 => (agent.clone(), number.clone()).prop_map(|(a, n)| Step::Began(a, n)),
        2 => (agent.clone(), number.clone()).prop_map(|(a, n)| Step::Returned(a, n)),
        2 => (agent.clone(), number.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(a, n, stays, bad)| Step::Ended(a, n, stays, bad)),
        2 => (agent.clone(), number.clone()).prop_map(|(a, n)| Step::Stopped(a, n)),
        1 => (agent, number).prop_map(|(a, n)| Step::Settings(a, n)),
        1 => Just(Step::Reopen),
    ]
}

/// The same rules once more, as plainly as can be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Expected {
    running: bool,
    number: u64,
    order: Option<String>,
    settings: Option<String>,
    quarantined: bool,
}

fn expect(model: &mut BTreeMap<u8, Expected>, step: &Step) {
    let (agent, number) = match step {
        Step::Began(agent, number)
        | Step::Returned(agent, number)
        | Step::Ended(agent, number, ..)
        | Step::Stopped(agent, number)
        | Step::Settings(agent, number) => (*agent, *number),
        Step::Reopen => return,
    };
    if !model.contains_key(&agent) && !matches!(step, Step::Began(..)) {
        return;
    }
    let row = model.entry(agent).or_default();
    if number < row.number {
        return;
    }
    row.number = number;
    match step {
        Step::Began(..) => {
            let order = Some(format!("order {number}"));
            *row = Expected { running: true, number, order, ..Expected::default() };
        }
        Step::Ended(_, _, stays, bad) => {
            row.quarantined = *bad;
            row.running &= stays;
        }
        Step::Stopped(..) => row.running = false,
        Step::Settings(..) => row.settings = Some(format!("settings {number}")),
        Step::Returned(..) | Step::Reopen => {}
    }
    if !row.running && !row.quarantined {
        (row.order, row.settings) = (None, None);
    }
}

fn change(step: &Step) -> Option<(AgentId, Change)> {
    let name = |agent: &u8| id(&format!("agent-{agent}"));
    let incarnation = Incarnation;
    Some(match step {
        Step::Began(agent, n) => (name(agent), began(*n, &format!("order {n}"))),
        Step::Returned(agent, n) => {
            (name(agent), Change::Returned { incarnation: incarnation(*n) })
        }
        Step::Ended(agent, n, stays, bad) => {
            let restarts = if *bad { quarantined().into() } else { Arc::default() };
            let wanted = if *stays { Wanted::Running } else { Wanted::Stopped };
            (name(agent), Change::Ended { incarnation: incarnation(*n), restarts, wanted })
        }
        Step::Stopped(agent, n) => (name(agent), stopped(*n)),
        Step::Settings(agent, n) => {
            let settings = format!("settings {n}").into();
            (name(agent), Change::Settings { incarnation: incarnation(*n), settings })
        }
        Step::Reopen => return None,
    })
}

fn seen(rows: Vec<AgentRow>) -> BTreeMap<u8, Expected> {
    let of = |row: AgentRow| {
        let agent = row.id.as_str().strip_prefix("agent-").unwrap().parse().unwrap();
        let expected = Expected {
            running: row.wanted == Wanted::Running,
            number: row.incarnation.0,
            order: row.order.as_deref().map(str::to_owned),
            settings: row.settings.map(|text| text.to_string()),
            quarantined: row.restarts.quarantine.is_some(),
        };
        (agent, expected)
    };
    rows.into_iter().map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// After any steps, with and without new opens between, the file says what the rules say.
    #[test]
    fn the_file_follows_the_rules(steps in prop::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let (mut database, _) = open_clean(dir.path());
        let mut model = BTreeMap::new();
        for step in &steps {
            expect(&mut model, step);
            match change(step) {
                Some((id, change)) => _ = database.note(&id, change),
                None => {
                    drop(database);
                    let (again, found, _notices) = open(dir.path());
                    prop_assert_eq!(seen(found.agents), model.clone());
                    database = again;
                }
            }
            prop_assert_eq!(seen(database.agents()), model.clone());
        }
        database.receipt().wait().unwrap();
        drop(database);
        let (_, found, _notices) = open(dir.path());
        prop_assert_eq!(seen(found.agents), model);
    }

    /// Whatever becomes of the bytes of its files, the database opens, works, and says what it lost.
    #[test]
    fn broken_bytes_are_survived(
        seed in any::<u64>(),
        cut in prop::option::of(0.0..1.0_f64),
        flips in 0..20_usize,
        of_the_log in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let copy = tempfile::tempdir().unwrap();
        let (database, _) = open_clean(dir.path());
        for n in 0..20 {
            database.change(&id(&format!("agent-{n}")), began(1, &"x".repeat(500)));
            database.keep_crash(crash(n).into());
        }
        database.keep_snapshot(snapshot("agent-1", &[7; 3000])).unwrap();
        prop_assert!(database.flush(PATIENCE));
        // While it is open, so that there is a log.
        for name in ["bulkhead.db", "bulkhead.db-wal"] {
            let _ = fs::copy(dir.path().join(name), copy.path().join(name));
        }
        drop(database);
        let name = if of_the_log { "bulkhead.db-wal" } else { "bulkhead.db" };
        let mut bytes = fs::read(copy.path().join(name)).unwrap();
        if let Some(cut) = cut {
            bytes.truncate((bytes.len() as f64 * cut) as usize);
        }
        let mut dice = fastrand::Rng::with_seed(seed);
        for _ in 0..flips.min(bytes.len()) {
            let at = dice.usize(0..bytes.len());
            bytes[at] ^= 1 << dice.u8(0..8);
        }
        fs::write(copy.path().join(name), bytes).unwrap();
        let (database, found, _notices) = open(copy.path());
        prop_assert!(found.agents.len() <= 20);
        let _ = database.newest_snapshot(&id("agent-1"));
        let wrote = database.change(&id("new"), began(1, "order")).wait();
        prop_assert_eq!(wrote, Ok(()));
        database.keep_snapshot(snapshot("new", b"snapshot")).unwrap().wait().unwrap();
        prop_assert_eq!(&*kept(&database, "new").unwrap().snapshot.bytes, b"snapshot");
        drop(database);
        let (_, found, _notices) = open(copy.path());
        prop_assert!(found.agents.iter().any(|row| row.id == id("new")));
    }
}

#[test]
fn what_the_town_knows_is_kept_and_nothing_is_known_that_was_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let (database, _) = open_clean(dir.path());
    for agent in ["a", "b", "c"] {
        database.change(&id(agent), began(1, "order")).wait().unwrap();
    }
    database.notifying_town(&[id("a"), id("b")]);
    database.town_not_notified();
    assert!(database.agents().iter().all(|row| row.town_knows == TownKnows::No));
    database.town_wants(&[id("a")]);
    database.notifying_town(&[id("a"), id("b")]);
    // It is written no later than what follows.
    database.change(&id("b"), stopped(1)).wait().unwrap();
    drop(database);
    let rows = open_clean(dir.path()).1;
    let knows = |agent: &str| rows[&id(agent)].town_knows;
    assert_eq!(knows("a"), TownKnows::Yes);
    assert_eq!((knows("b"), knows("c")), (TownKnows::Notified, TownKnows::No));
}

#[test]
fn members_are_those_that_are_to_be_there_and_their_changes_are_counted() {
    let database = Database::absent();
    let mut changes = database.member_changes();
    let mut changed = || {
        let changed = changes.has_changed().unwrap();
        changes.mark_unchanged();
        changed
    };
    let members = || database.agents().iter().filter(|row| row.is_member()).count();
    database.note(&id("a"), began(1, "order"));
    assert!(changed() && members() == 1);
    database.note(&id("a"), Change::Returned { incarnation: Incarnation(2) });
    database.note(&id("a"), began(3, "order"));
    assert!(!changed(), "it is there as before");
    database.note(&id("a"), began(4, "another"));
    assert!(changed(), "it is there in another way");
    let (incarnation, wanted) = (Incarnation(4), Wanted::Running);
    let restarts = Arc::new(quarantined());
    database.note(&id("a"), Change::Ended { incarnation, restarts, wanted });
    assert!(changed() && members() == 0, "in quarantine");
    let order = "order".to_owned().into();
    database.note(&id("b"), Change::Wanted { upto: Incarnation(0), order });
    assert!(changed() && members() == 1, "the town wants it");
    database.note(&id("b"), stopped(0));
    assert!(changed() && members() == 0);
}
