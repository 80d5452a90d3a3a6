use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use bucket_server::{Faults, Server};
use bulkhead_bucket::Name;
use bulkhead_net::Connector;
use bulkhead_store::Database;
use bulkhead_store::database::{self, AgentRow, Change, Follower, Newest, Snapshot};
use bulkhead_types::{AgentId, Incarnation, Timestamp};

use crate::{
    Address, NotShipped, Notice, Opened, Outbox, Restored, Settings, Ship, ShipError, open,
};

mod archives;
mod faults;
mod figures;
mod nats;
mod s3;

const PATIENCE: Duration = Duration::from_secs(30);

/// What is shipped of a workspace.
const MAX_WORKSPACE: u64 = 16 * 1024 * 1024;

/// A place for a town, and disks of machines.
pub(crate) struct World {
    dir: tempfile::TempDir,
    server: Option<Server>,
    /// Not the directory `place`.
    to: Option<Address>,
}

/// A copy of the town that runs.
struct Copy {
    database: Arc<Database>,
    ship: Ship,
    outbox: Arc<Outbox>,
    notices: Receiver<Notice>,
    restored: Restored,
}

impl World {
    pub(crate) fn of_directory() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("place")).unwrap();
        Self { dir, server: None, to: None }
    }

    fn of_bucket() -> Self {
        Self::of_server(Server::start(true).unwrap())
    }

    fn of_server(server: Server) -> Self {
        let to = s3::address(&server.url());
        Self { server: Some(server), ..Self::at(to) }
    }

    fn at(address: Address) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), server: None, to: Some(address) }
    }

    fn both() -> [Self; 2] {
        [Self::of_directory(), Self::of_bucket()]
    }

    pub(crate) fn settings(&self) -> Settings {
        let directory = || Address::File(self.dir.path().join("place"));
        let to = self.to.clone().unwrap_or_else(directory);
        Settings {
            town: Name::parse("town").unwrap(),
            to,
            connector: Connector::default(),
            restore: PATIENCE,
            every: Duration::from_millis(20),
            call: Duration::from_secs(5),
            wait: PATIENCE,
            workspace_bytes: Some(MAX_WORKSPACE),
        }
    }

    pub(crate) fn disk(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self, disk: &str, epoch: u64) -> Result<Opened, ShipError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(open(self.settings(), epoch, &self.disk(disk), |_| {}))
    }

    fn error(&self, disk: &str, epoch: u64) -> String {
        match self.open(disk, epoch) {
            Ok(_) => panic!("it was opened"),
            Err(error) => error.to_string(),
        }
    }

    #[track_caller]
    fn start(&self, disk: &str, epoch: u64) -> Copy {
        let opened = self.open(disk, epoch).unwrap();
        Copy::start(opened, &self.disk(disk))
    }

    /// Keys of segments.
    fn segments(&self) -> Vec<String> {
        let mut names: Vec<String> = match &self.server {
            None => fs::read_dir(self.dir.path().join("place/town/log"))
                .unwrap()
                .map(|entry| entry.unwrap().path().display().to_string())
                .collect(),
            Some(server) => {
                server.paths().into_iter().filter(|path| path.contains("/log/")).collect()
            }
        };
        names.sort();
        names
    }

    fn change(&self, object: &str, change: impl FnOnce(&mut Vec<u8>)) {
        match &self.server {
            None => {
                let mut bytes = fs::read(object).unwrap();
                change(&mut bytes);
                fs::write(object, bytes).unwrap();
            }
            Some(server) => assert!(server.change(object, change)),
        }
    }

    fn remove(&self, object: &str) {
        match &self.server {
            None => fs::remove_file(object).unwrap(),
            Some(server) => assert!(server.remove(object)),
        }
    }
}

impl Copy {
    fn start(opened: Opened, dir: &Path) -> Self {
        let (outbox, restored) = (Arc::clone(&opened.outbox), opened.restored.clone());
        let config = database::Config {
            dir: Some(dir.to_owned()),
            follower: Some(Arc::clone(&outbox) as Arc<dyn Follower>),
            ..database::Config::default()
        };
        let (database, _) = Database::open(config, |notice| panic!("{notice:?}"));
        let database = Arc::new(database);
        let weak = Arc::downgrade(&database);
        let (sender, notices) = sync_channel(1000);
        let copy = move |outbox: &Outbox| match weak.upgrade() {
            Some(database) => database.copy(|| outbox.is_copied()),
            None => Ok(None),
        };
        let ship = opened.begin(Box::new(copy), move |notice| _ = sender.try_send(notice)).unwrap();
        Self { database, ship, outbox, notices, restored }
    }

    fn change(&self, agent: &str, change: Change) {
        self.database.change(&id(agent), change).wait().unwrap();
    }

    fn shipped(&self, patience: Duration) -> Result<(), NotShipped> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.outbox.all_shipped(patience))
    }

    fn agents(&self) -> BTreeMap<AgentId, (u64, database::Wanted, Option<String>)> {
        let of = |row: AgentRow| {
            let order = row.order.as_ref().map(|order| order.to_string());
            (row.id.clone(), (row.incarnation.0, row.wanted, order))
        };
        self.database.agents().into_iter().map(of).collect()
    }

    /// As SIGKILL does it: what was committed is on the disk, and nothing more is shipped.
    fn die(self) {
        let Self { database, ship, .. } = self;
        drop(ship);
        // Its end would take numbers back.
        std::mem::forget(database);
    }

    /// The same after a commit that is not shipped.
    fn die_after(self, agent: &str) {
        let Self { database, ship, .. } = self;
        drop(ship);
        database.change(&id(agent), began(1)).wait().unwrap();
        std::mem::forget(database);
    }

    fn end(self) {
        let Self { database, ship, .. } = self;
        ship.finish(PATIENCE).unwrap();
        drop(database);
    }

    /// The next notice, but for those of the head of a copy that may be on its way.
    fn about_shipping(&self) -> Notice {
        loop {
            match self.notices.recv_timeout(PATIENCE).unwrap() {
                Notice::Untidy { .. } | Notice::Tidy => {}
                notice => return notice,
            }
        }
    }

    #[track_caller]
    fn is_fenced(&self) {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.notices.recv_timeout(left).expect("a notice") {
                Notice::Fenced { .. } => return,
                _ => continue,
            }
        }
    }
}

fn id(name: &str) -> AgentId {
    AgentId::parse(name).unwrap()
}

fn began(number: u64) -> Change {
    Change::Began {
        incarnation: Incarnation(number),
        order: format!("order {number}").into(),
        settings: None,
        restarts: Arc::default(),
    }
}

fn snapshot(agent: &str, number: u64, bytes: Vec<u8>) -> Snapshot {
    Snapshot {
        agent: id(agent),
        incarnation: Incarnation(number),
        taken_at: Timestamp(1),
        code: None,
        bytes: bytes.into(),
    }
}

#[test]
fn an_empty_disk_goes_on_with_what_was_shipped() {
    World::both().iter().for_each(moves);
}

fn moves(world: &World) {
    let first = world.start("a", 1);
    assert_eq!(first.restored, Restored::Nothing);
    for n in 0..40 {
        first.change(&format!("agent-{n}"), began(n + 1));
    }
    first.change("agent-7", Change::Stopped { upto: Incarnation(8) });
    let kept = first.database.keep_snapshot(snapshot("agent-3", 4, vec![7; 300_000])).unwrap();
    kept.wait().unwrap();
    first.shipped(PATIENCE).unwrap();
    let agents = first.agents();
    first.end();
    fs::remove_dir_all(world.disk("a")).unwrap();

    let second = world.start("b", 2);
    assert!(
        matches!(second.restored, Restored::From { ended: true, set_aside: None, .. }),
        "{:?}",
        second.restored
    );
    let after = second.agents();
    assert_eq!(after.len(), 40);
    for (agent, (number, wanted, order)) in &agents {
        let (number_after, wanted_after, order_after) = &after[agent];
        assert_eq!((wanted, order), (wanted_after, order_after), "{agent}");
        assert!(number_after >= number && *number_after < number + 1000, "{agent}");
    }
    match second.database.newest_snapshot(&id("agent-3")).unwrap() {
        Newest::Kept(kept) => assert_eq!(&*kept.snapshot.bytes, &[7; 300_000][..]),
        other => panic!("{other:?}"),
    }
    second.end();
}

/// As the host does it: what it restored in waits for the end.
#[test]
fn the_end_is_shipped_while_the_runtime_of_the_boot_is_blocked() {
    for world in World::both() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // A request that hangs is not given up before the end.
        let settings = Settings { call: 2 * PATIENCE, ..world.settings() };
        let opened = runtime.block_on(open(settings, 1, &world.disk("a"), |_| {})).unwrap();
        let first = Copy::start(opened, &world.disk("a"));
        first.change("agent", began(1));
        first.end();
        let second = world.start("b", 2);
        assert!(matches!(second.restored, Restored::From { ended: true, .. }));
        second.end();
        drop(runtime);
    }
}

#[test]
fn after_a_death_numbers_are_left_out() {
    for world in World::both() {
        let first = world.start("a", 1);
        first.change("agent", began(1));
        first.shipped(PATIENCE).unwrap();
        first.die();
        let second = world.start("b", 2);
        assert!(matches!(second.restored, Restored::From { ended: false, .. }));
        let number = second.agents()[&id("agent")].0;
        assert!(number >= database::NUMBERS_LEFT_OUT, "{number}");
        second.end();
    }
}

#[test]
fn numbers_are_left_out_for_each_copy_that_died_before_it_shipped_all_pages() {
    for world in World::both() {
        let first = world.start("a", 1);
        first.change("agent", began(1));
        first.shipped(PATIENCE).unwrap();
        first.die();
        drop(world.open("b", 2).unwrap());
        let third = world.start("c", 3);
        let number = third.agents()[&id("agent")].0;
        assert!(number >= 2 * database::NUMBERS_LEFT_OUT, "{number}");
        third.end();
    }
}

#[test]
fn a_disk_that_is_not_behind_is_kept_with_what_it_did_not_ship() {
    for world in World::both() {
        let first = world.start("a", 1);
        first.change("agent", began(1));
        first.shipped(PATIENCE).unwrap();
        first.die_after("unshipped");
        // The process begins again under the same lease.
        let again = world.start("a", 1);
        assert_eq!(again.restored, Restored::Kept);
        assert_eq!(again.agents().len(), 2);
        again.shipped(PATIENCE).unwrap();
        again.die();
        let other = world.start("b", 2);
        assert_eq!(other.agents().len(), 2, "{:?}", other.restored);
        other.end();
    }
}

#[test]
fn a_disk_that_others_have_overtaken_is_set_aside() {
    for world in World::both() {
        let first = world.start("a", 1);
        first.change("agent", began(1));
        first.shipped(PATIENCE).unwrap();
        first.die_after("lost");
        let second = world.start("b", 2);
        second.change("second", began(1));
        second.end();
        let back = world.start("a", 3);
        let Restored::From { set_aside: Some(aside), .. } = &back.restored else {
            panic!("{:?}", back.restored)
        };
        assert!(aside.exists());
        let agents: Vec<_> = back.agents().into_keys().collect();
        assert_eq!(agents, [id("agent"), id("second")]);
        back.end();
    }
}

#[test]
fn who_was_overtaken_ships_nothing_any_more() {
    for world in World::both() {
        let first = world.start("a", 1);
        first.change("agent", began(1));
        first.shipped(PATIENCE).unwrap();
        let second = world.start("b", 2);
        first.change("late", began(1));
        first.is_fenced();
        assert!(first.shipped(Duration::from_millis(100)).is_err());
        second.change("second", began(1));
        second.end();
        let third = world.start("c", 3);
        assert!(!third.agents().contains_key(&id("late")));
        assert_eq!(third.agents().len(), 2);
        third.end();
        let error = world.error("a", 2);
        assert!(
            error.contains("head.json belongs to epoch 3, and this copy has epoch 2"),
            "{error}"
        );
        first.die();
    }
}

#[test]
fn what_is_damaged_or_missing_is_named_and_never_a_new_beginning() {
    for world in World::both() {
        let first = world.start("a", 1);
        for n in 0..12 {
            first.change(&format!("agent-{n}"), began(1));
            first.shipped(PATIENCE).unwrap();
        }
        first.die();
        let segments = world.segments();
        assert!(segments.len() >= 12, "{segments:?}");
        let name = |object: &str| object.rsplit('/').next().unwrap().to_owned();
        let third = segments[4].clone();
        world.change(&third, |bytes| bytes[100] ^= 1);
        let error = world.error("b", 2);
        assert!(error.contains(&name(&third)) && error.contains("checksum"), "{error}");
        world.change(&third, |bytes| bytes[100] ^= 1);
        let mut cut = Vec::new();
        world.change(&third, |bytes| cut = bytes.split_off(10));
        let error = world.error("b", 2);
        assert!(error.contains(&name(&third)) && error.contains("damaged"), "{error}");
        world.change(&third, |bytes| bytes.extend(cut));
        world.remove(&third);
        let error = world.error("b", 2);
        assert!(error.contains(&name(&third)) && error.contains("is missing"), "{error}");
        assert!(!database::exists(&world.disk("b")));
    }
}

#[test]
fn a_server_without_conditions_is_refused() {
    let world = World::of_server(Server::start(false).unwrap());
    let error = world.error("a", 1);
    assert!(error.contains("ignores the condition If-None-Match"), "{error}");
}

#[test]
fn what_waits_too_long_is_said_and_shipped_when_the_place_is_back() {
    let world = World::of_directory();
    let first = world.start("a", 1);
    first.change("agent", began(1));
    first.shipped(PATIENCE).unwrap();
    let (place, away) = (world.dir.path().join("place"), world.dir.path().join("away"));
    fs::rename(&place, &away).unwrap();
    first.change("other", began(1));
    let notice = first.about_shipping();
    assert!(matches!(notice, Notice::Failing { .. }), "{notice:?}");
    let error = first.shipped(Duration::from_millis(50)).unwrap_err();
    assert!(error.to_string().contains("place"), "{error}");
    let figures = first.outbox.figures();
    assert!(figures.failing.is_some_and(|why| why.contains("place")) && !figures.lag.is_zero());
    fs::rename(&away, &place).unwrap();
    first.shipped(PATIENCE).unwrap();
    let notice = first.about_shipping();
    assert!(matches!(notice, Notice::Shipping { .. }), "{notice:?}");
    let figures = first.outbox.figures();
    assert!(figures.lag.is_zero() && !figures.is_first_due);
    first.end();
}

#[test]
fn a_backlog_past_its_bound_becomes_a_copy_and_old_segments_go() {
    let world = World::of_bucket();
    let first = world.start("a", 1);
    for round in 0..4_u64 {
        let (agent, bytes) = (format!("agent-{round}"), vec![round as u8; 13 * 1024 * 1024]);
        first.change(&agent, began(1));
        first.database.keep_snapshot(snapshot(&agent, 1, bytes)).unwrap().wait().unwrap();
        first.shipped(PATIENCE).unwrap();
    }
    let agents = first.agents();
    first.die();
    let segments = world.segments();
    assert!(!segments[1].ends_with("0002"), "{segments:?}");
    let second = world.start("b", 2);
    assert_eq!(second.agents().len(), agents.len());
    let newest = second.database.newest_snapshot(&id("agent-3")).unwrap();
    assert!(matches!(newest, Newest::Kept(kept) if kept.snapshot.bytes.len() == 13 * 1024 * 1024));
    second.end();
}

#[test]
fn a_copy_that_was_not_finished_counts_for_nothing() {
    let world = World::of_directory();
    let first = world.start("a", 1);
    let mut bytes = vec![0; 9 * 1024 * 1024];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    first.change("agent", began(1));
    first.database.keep_snapshot(snapshot("agent", 1, bytes)).unwrap().wait().unwrap();
    first.shipped(PATIENCE).unwrap();
    first.die();
    let head = world.dir.path().join("place/town/head.json");
    let (of_first, before) = (fs::read(&head).unwrap(), world.segments());
    let again = world.start("a", 1);
    again.change("unfinished", began(1));
    again.shipped(PATIENCE).unwrap();
    again.die();
    // As if the process had died after the first part of its copy: the beginning of its session is there, and that.
    let of_second = world.segments().into_iter().filter(|it| !before.contains(it)).skip(2);
    of_second.for_each(|object| world.remove(&object));
    fs::write(&head, of_first).unwrap();
    let second = world.start("b", 2);
    let agents: Vec<_> = second.agents().into_keys().collect();
    assert_eq!(agents, [id("agent")]);
    second.end();
}

/// Copies that take turns, die and end at random, over a network that loses requests and answers. What was acknowledged as
/// shipped is with the next copy, whatever its disk is; what is there was written.
#[test]
fn nothing_that_was_acknowledged_is_lost() {
    let seeds: Vec<u64> = match std::env::var("SHIP_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..8).collect(),
    };
    for seed in seeds {
        let world = World::of_bucket();
        let mut dice = fastrand::Rng::with_seed(seed);
        world.server.as_ref().unwrap().set_faults(
            Faults { lost_requests: dice.u32(10..40), lost_answers: dice.u32(10..40) },
            seed,
        );
        let (mut acknowledged, mut written) = (0, 0);
        let mut old: Option<(String, Copy)> = None;
        for epoch in 1..8 {
            let disk = format!("disk-{}", dice.u8(0..3));
            // Two processes never have one disk: its directory has a lock.
            if let Some((_, old)) = old.take_if(|(of_old, _)| *of_old == disk) {
                old.die();
            }
            if dice.bool() {
                let _ = fs::remove_dir_all(world.disk(&disk));
            }
            let copy = world.start(&disk, epoch);
            if let Some((_, old)) = old.take() {
                // It goes on for a while, as one that was frozen does.
                old.change("late", began(1));
                old.die();
            }
            let of_agent = |copy: &Copy| {
                let settings = copy.database.agents().into_iter().find(|row| row.id == id("count"));
                settings.map_or(0, |row| row.order.unwrap().parse::<u64>().unwrap())
            };
            let there = of_agent(&copy);
            assert!(
                acknowledged <= there && there <= written,
                "seed {seed}, epoch {epoch}: {there} of {acknowledged} to {written}, {:?}",
                copy.restored
            );
            for _ in 0..dice.u8(0..6) {
                written += 1;
                let change = Change::Began {
                    incarnation: Incarnation(
                        copy.agents().get(&id("count")).map_or(1, |it| it.0 + 1),
                    ),
                    order: written.to_string().into(),
                    settings: None,
                    restarts: Arc::default(),
                };
                copy.change("count", change);
                if dice.bool() && copy.shipped(Duration::from_millis(dice.u64(0..400))).is_ok() {
                    acknowledged = written;
                }
            }
            match dice.u8(0..3) {
                0 => copy.die(),
                1 => {
                    copy.end();
                    acknowledged = written;
                }
                _ => old = Some((disk, copy)),
            }
        }
        if let Some((_, old)) = old {
            old.die();
        }
    }
}

#[test]
fn a_crowd_waits_for_one_segment() {
    let world = World::of_directory();
    let first = world.start("a", 1);
    first.shipped(PATIENCE).unwrap();
    let before = first.outbox.figures().segments;
    for n in 0..200 {
        drop(first.database.change(&id(&format!("agent-{n}")), began(1)));
    }
    first.database.receipt().wait().unwrap();
    first.shipped(PATIENCE).unwrap();
    let segments = first.outbox.figures().segments - before;
    assert!(segments < 20, "{segments}");
    first.end();
}
