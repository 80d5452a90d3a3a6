//! Which pages change: a copy that is kept by them alone is the file.

use std::pin::Pin;

use super::*;

#[derive(Default)]
struct Mirror {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pages: BTreeMap<u32, Box<[u8]>>,
    count: u32,
    lost: u32,
    commits: u32,
}

impl Follower for Mirror {
    fn committed(&self, changed: Changed) {
        let mut state = self.state.lock();
        state.count = changed.page_count;
        state.pages.extend(changed.pages);
        let count = state.count;
        state.pages.retain(|number, _| *number <= count);
        state.commits += 1;
    }

    fn lost_track(&self) {
        self.state.lock().lost += 1;
    }

    fn all_kept(&self) -> Pin<Box<dyn Future<Output = Result<(), NotDurable>> + Send + '_>> {
        Box::pin(async { Ok(()) })
    }

    fn figures(&self) -> FollowerFigures {
        FollowerFigures::default()
    }
}

impl Mirror {
    fn bytes(&self) -> Vec<u8> {
        self.state.lock().pages.values().flat_map(|page| page.to_vec()).collect()
    }
}

fn agents_in(bytes: &[u8]) -> BTreeMap<AgentId, AgentRow> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("bulkhead.db"), bytes).unwrap();
    open_clean(dir.path()).1
}

fn follow(dir: &Path) -> (Database, Arc<Mirror>, Receiver<Notice>) {
    let mirror = Arc::new(Mirror::default());
    let follower = Arc::clone(&mirror);
    let (database, _, notices) = open_with(dir, |config| {
        config.follower = Some(Arc::clone(&follower) as Arc<dyn Follower>);
        // Often emptied.
        config.max_log_bytes = 64 * 1024;
    });
    (database, mirror, notices)
}

fn copy_of(database: &Database) -> Vec<u8> {
    let (copy, ()) = database.copy(|| ()).unwrap().unwrap();
    copy.read(1, copy.page_count).unwrap()
}

#[test]
fn a_copy_kept_by_changed_pages_is_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (database, mirror, _notices) = follow(dir.path());
    for n in 0..300_u64 {
        let agent = id(&format!("agent-{}", n % 40));
        database.change(&agent, began(n + 1, &"x".repeat(n as usize * 7))).wait().unwrap();
        let bytes = vec![n as u8; 100 * n as usize];
        let snapshot = Snapshot {
            agent: agent.clone(),
            incarnation: Incarnation(n + 1),
            taken_at: Timestamp(n as i64),
            code: None,
            bytes: bytes.into(),
        };
        database.keep_snapshot(snapshot).unwrap().wait().unwrap();
        if n % 50 == 0 {
            assert!(copy_of(&database) == mirror.bytes(), "after {n}");
        }
    }
    let of_copy = agents_in(&copy_of(&database));
    let of_mirror = agents_in(&mirror.bytes());
    assert_eq!((of_copy.len(), &of_copy), (40, &of_mirror));
    assert_eq!(mirror.state.lock().lost, 0);
    drop(database);
    // Also what the end of the run wrote.
    assert!(mirror.bytes() == fs::read(dir.path().join("bulkhead.db")).unwrap());
}

#[test]
fn who_follows_hears_that_another_file_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (database, mirror, _notices) = follow(dir.path());
    database.change(&id("a"), began(1, "")).wait().unwrap();
    for entry in fs::read_dir(dir.path()).unwrap().flatten() {
        fs::remove_file(entry.path()).unwrap();
    }
    database.change(&id("b"), began(1, "")).wait().unwrap();
    assert_eq!(mirror.state.lock().lost, 1);
    let agents = agents_in(&copy_of(&database));
    assert_eq!(agents.len(), 2);
}

#[test]
fn a_file_from_elsewhere_is_checked_and_leaves_numbers_out() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (database, ..) = follow(from.path());
    database.change(&id("a"), began(7, "order")).wait().unwrap();
    let bytes = copy_of(&database);
    let made = to.path().join("made");
    fs::write(&made, &bytes).unwrap();
    drop(open_clean(to.path()));
    let aside = crate::database::install(to.path(), &made, 1).unwrap();
    assert!(aside.unwrap().exists(), "the one that was there is kept");
    let (database, agents) = open_clean(to.path());
    let number = agents[&id("a")].incarnation.0;
    assert!(number >= 7 + crate::database::NUMBERS_LEFT_OUT, "{number}");
    assert!(database.forgotten().0 >= crate::database::NUMBERS_LEFT_OUT);
    drop(database);
    let mut broken = bytes;
    let end = broken.len();
    broken[4096..end].fill(0x5a);
    fs::write(&made, &broken).unwrap();
    let error = crate::database::install(to.path(), &made, 0).unwrap_err();
    assert!(error.is_damage);
    assert!(error.to_string().contains("the restored database"), "{error}");
    assert_eq!(open_clean(to.path()).1.len(), 1, "nothing was touched");
}

#[test]
fn a_disk_that_is_full_is_not_taken_for_a_damaged_file() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (database, ..) = follow(from.path());
    database.change(&id("a"), began(7, "order")).wait().unwrap();
    let bytes = copy_of(&database);
    let kib = (bytes.len() / 1024).to_string();
    let size = format!("size={kib}k");
    let mount = full_disk::mount(&["-t", "tmpfs", "-o", &size, "tmpfs"], to.path());
    let Some(_unmount) = mount else { return };
    let made = to.path().join("made");
    fs::write(&made, &bytes).unwrap();
    let error = crate::database::install(to.path(), &made, 1).unwrap_err();
    assert!(!error.is_damage, "{error}");
}

/// The most memory that this process had, in KiB, since the last call.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    fs::write("/proc/self/clear_refs", "5").unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_copy_takes_no_memory_for_the_log() {
    const MIB: u64 = 1024;
    let dir = tempfile::tempdir().unwrap();
    let follower = Arc::new(Mirror::default());
    let (database, _, _notices) = open_with(dir.path(), |config| {
        config.follower = Some(Arc::clone(&follower) as Arc<dyn Follower>);
        config.max_log_bytes = 1 << 30;
    });
    database.change(&id("a"), began(1, "")).wait().unwrap();
    // Who reads on holds up the log.
    let reader = rusqlite::Connection::open(dir.path().join("bulkhead.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM agents").unwrap();
    let _: i64 = reader.query_row("SELECT count(*) FROM agents", [], |row| row.get(0)).unwrap();
    for n in 0..64_u64 {
        let snapshot = Snapshot {
            agent: id(&format!("agent-{n}")),
            incarnation: Incarnation(1),
            taken_at: Timestamp(1),
            code: None,
            bytes: vec![n as u8; 1 << 20].into(),
        };
        database.keep_snapshot(snapshot).unwrap().wait().unwrap();
        *follower.state.lock() = State::default();
    }
    let log = fs::metadata(dir.path().join("bulkhead.db-wal")).unwrap().len();
    assert!(log > 60 << 20, "{log}");
    peak_kib();
    let before = peak_kib();
    let (copy, ()) = database.copy(|| ()).unwrap().unwrap();
    let more = peak_kib().saturating_sub(before);
    assert!(more < 8 * MIB, "{more} KiB for a log of {log} bytes");
    drop(reader);
    assert_eq!((u64::from(copy.page_count) * u64::from(copy.page_bytes)) >> 20, 64);
}
