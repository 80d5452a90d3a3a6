//! Workspaces that travel.

use std::fs::{self, Permissions};
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_types::AgentId;
use flate2::Compression;
use flate2::write::GzEncoder;
use parking_lot::Mutex;
use tar::{Builder, EntryType, Header};

use super::{MAX_WORKSPACE, World};
use crate::{
    ArchiveError, ArchiveNotice, Archives, Arrived, Carrier, Settings, ShipError, Shipped,
};

mod losses;

/// A machine with workspaces.
struct Machine {
    archives: Archives,
    folder: PathBuf,
    notices: Arc<Mutex<Vec<ArchiveNotice>>>,
    _carrier: Carrier,
}

impl Machine {
    fn start(world: &World, name: &str, epoch: u64) -> Self {
        Self::with(world, name, epoch, world.settings())
    }

    fn with(world: &World, name: &str, epoch: u64, settings: Settings) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let opened = runtime.block_on(crate::open(settings, epoch, &world.disk(name), |_| {}));
        let folder = world.disk(name).join("workspaces");
        let notices = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&notices);
        let notify = move |_: &AgentId, notice| heard.lock().push(notice);
        let (archives, carrier) = opened.unwrap().archives(&folder, notify).unwrap().unwrap();
        Self { archives, folder, notices, _carrier: carrier }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.join("a").join(file)
    }

    fn write(&self, file: &str, contents: impl AsRef<[u8]>) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    fn ship(&self) -> Result<Option<Shipped>, ArchiveError> {
        wait(self.archives.ship(&agent()))
    }

    fn arrive(&self) -> Result<Option<Arrived>, ArchiveError> {
        wait(self.archives.arrive(&agent(), ()))
    }

    /// Changes what this disk knows.
    fn change_note(&self, change: impl FnOnce(&mut serde_json::Value)) {
        let path = self.folder.join(".shipped/a");
        let mut note = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut note);
        fs::write(path, note.to_string()).unwrap();
    }

    /// As if the machine had been started since.
    fn restart(&self) {
        self.change_note(|note| {
            assert!(note["bootId"].as_str().is_some_and(|boot| !boot.is_empty()), "{note}");
            note["bootId"] = "before".into();
        });
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap()
    }
}

fn agent() -> AgentId {
    AgentId::parse("a").unwrap()
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work)
}

/// Names of the objects of archives.
fn objects(world: &World) -> Vec<String> {
    let mut names: Vec<_> = match &world.server {
        None => fs::read_dir(world.disk("place/town/workspaces"))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path().display().to_string())
            .collect(),
        Some(server) => {
            server.paths().into_iter().filter(|path| path.contains("/workspaces/")).collect()
        }
    };
    names.sort();
    names
}

/// Bytes that do not become smaller.
fn noise(count: usize) -> Vec<u8> {
    let mut dice = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| dice.u8(..)).take(count).collect()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ships a workspace, ships it unchanged, and brings it to another machine. Half of each file becomes smaller.
pub fn figures(world: &World, files: usize, bytes: usize) {
    let epoch = 10 * u64::try_from(bytes).unwrap();
    let name = format!("{files}");
    let settings = || Settings { workspace_bytes: Some(64 * 1024 * 1024), ..world.settings() };
    let first = Machine::with(world, &name, epoch, settings());
    let mut contents = noise(bytes / 2);
    contents.resize(bytes, 0);
    for file in 0..files {
        first.write(&format!("{file}"), &contents);
    }
    let shipped = first.ship().unwrap().unwrap();
    let began = Instant::now();
    assert_eq!(first.ship(), Ok(None));
    let unchanged = began.elapsed();
    let second = Machine::with(world, &format!("{files}-next"), epoch + 1, settings());
    let arrived = second.arrive().unwrap().unwrap();
    eprintln!("{shipped:?}; unchanged {unchanged:?}; arrived in {:?}", arrived.took);
    assert_eq!(wait(second.archives.remove(&agent())), Ok(true));
}

#[test]
fn a_workspace_is_on_the_next_machine_as_its_agent_left_it() {
    for world in World::both() {
        let first = Machine::start(&world, "first", 1);
        let large = noise(5 * 1024 * 1024);
        let long = format!("{}/{}", "d".repeat(90), "n".repeat(200));
        first.write("notes/one", "first");
        first.write("large", &large);
        first.write(&long, "a long name");
        fs::create_dir(first.path("empty")).unwrap();
        fs::set_permissions(first.path("notes/one"), Permissions::from_mode(0o750)).unwrap();
        fs::set_permissions(first.path("notes"), Permissions::from_mode(0o500)).unwrap();
        symlink("notes/one", first.path("link")).unwrap();
        symlink("/etc/passwd", first.path("outside")).unwrap();
        let shipped = first.ship().unwrap().unwrap();
        assert_eq!((shipped.entries, shipped.skipped), (8, 0));
        assert!(shipped.packed_bytes > 4 * 1024 * 1024 && objects(&world).len() == 2);
        assert_eq!(first.ship(), Ok(None), "nothing was changed");

        let second = Machine::start(&world, "second", 2);
        let arrived = second.arrive().unwrap().unwrap();
        assert_eq!((arrived.entries, arrived.bytes, arrived.kept_as), (8, shipped.bytes, None));
        assert_eq!(
            (second.text("notes/one"), second.text(&long)),
            ("first".into(), "a long name".into())
        );
        assert!(fs::read(second.path("large")).unwrap() == large);
        assert!(second.path("empty").is_dir());
        let mode = |file| fs::metadata(second.path(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("notes/one"), mode("notes")), (0o750, 0o500));
        let modified = |machine: &Machine| {
            let modified = fs::metadata(machine.path("large")).unwrap().modified().unwrap();
            modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
        };
        assert_eq!(modified(&first), modified(&second));
        // Links are what they were, also those that lead out.
        assert_eq!(fs::read_link(second.path("link")).unwrap(), Path::new("notes/one"));
        assert_eq!(fs::read_link(second.path("outside")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(second.arrive(), Ok(None), "it is here");
        assert_eq!(second.ship(), Ok(None), "it is as it came");
        fs::remove_dir_all(&first.folder).ok();
    }
}

#[test]
fn the_newest_one_counts_and_nothing_of_an_older_one_stays() {
    for world in World::both() {
        let first = Machine::start(&world, "first", 1);
        assert_eq!(first.arrive(), Ok(None), "there is none");
        fs::create_dir_all(first.path("")).unwrap();
        assert_eq!(first.ship(), Ok(None), "an empty one is none");
        first.write("of", "one");
        first.ship().unwrap().unwrap();
        let second = Machine::start(&world, "second", 2);
        second.arrive().unwrap().unwrap();
        second.write("of", "two");
        second.ship().unwrap().unwrap();
        until("the older one is gone", || objects(&world).len() == 1);

        // Back again: what was here is what was shipped, so nothing is lost.
        let first = Machine::start(&world, "first", 3);
        assert_eq!(wait(first.archives.is_newer(&agent())), Ok(true));
        assert_eq!(first.ship(), Err(ArchiveError::Overtaken), "an older one");
        assert_eq!(first.arrive().unwrap().unwrap().kept_as, None);
        assert_eq!(first.text("of"), "two");
        first.write("only-here", "x");
        let second = Machine::start(&world, "second", 4);
        second.write("of", "three");
        assert_eq!(second.arrive(), Ok(None), "this disk has gone on from it");
        second.ship().unwrap().unwrap();

        // This time there is something that was never shipped.
        let first = Machine::start(&world, "first", 5);
        let kept_as = first.arrive().unwrap().unwrap().kept_as.unwrap();
        assert_eq!(fs::read_to_string(kept_as.join("only-here")).unwrap(), "x");
        assert_eq!(first.text("of"), "three");
        assert!(!first.path("only-here").exists());
        assert_eq!(wait(first.archives.remove(&agent())), Ok(true));
        assert!(!kept_as.exists());
        until("no archive is left", || objects(&world).is_empty());
        assert_eq!(first.arrive(), Ok(None), "it does not come back");
        assert!(!wait(first.archives.knows(&agent())));
    }
}

#[test]
fn one_that_is_too_large_stays_and_is_reported_once() {
    let world = World::of_directory();
    let first = Machine::start(&world, "first", 1);
    first.write("small", "x");
    first.ship().unwrap().unwrap();
    // It takes no room on the disk, and would where it is unpacked.
    let file = fs::File::create(first.path("hole")).unwrap();
    file.set_len(MAX_WORKSPACE + 1).unwrap();
    for _ in 0..2 {
        let error = first.ship().unwrap_err();
        let text = error.to_string();
        assert_eq!(error.code(), "too-large");
        assert!(text.contains("ship.workspace_mb") && text.contains("16777218 bytes"), "{text}");
    }
    let said = first.notices.lock().len();
    assert_eq!(said, 2, "one that was shipped, and one that was not");
    let figures = first.archives.figures();
    assert_eq!((figures.shipped, figures.too_large, figures.due), (1, 2, 1));
    assert_eq!(wait(first.archives.finish(Duration::from_secs(5))), 1);
    fs::remove_file(first.path("hole")).unwrap();
    fs::remove_file(first.path("small")).unwrap();
    first.ship().unwrap().unwrap();
    assert_eq!(first.archives.figures().due, 0);
}

#[test]
fn an_index_that_is_damaged_is_named_and_no_empty_one_begins() {
    for world in World::both() {
        let first = Machine::start(&world, "first", 1);
        first.write("file", "x");
        first.ship().unwrap().unwrap();
        let object = objects(&world).pop().unwrap();
        let index = object.rsplit_once("/workspaces/").unwrap().0.to_owned() + "/workspaces.json";
        world.change(&index, |bytes| bytes.truncate(bytes.len() - 1));
        let error = world.error("second", 2);
        assert!(error.contains("workspaces.json is damaged"), "{error}");
    }
}

#[test]
fn what_is_no_file_is_left_out() {
    let world = World::of_directory();
    let first = Machine::start(&world, "first", 1);
    first.write("file", "x");
    let path = first.path("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(first.path("socket")).unwrap();
    let shipped = first.ship().unwrap().unwrap();
    assert_eq!((shipped.entries, shipped.skipped), (1, 2));
    let second = Machine::start(&world, "second", 2);
    assert_eq!(second.arrive().unwrap().unwrap().entries, 1);
}

#[test]
fn a_part_that_is_missing_or_damaged_is_named_and_nothing_takes_its_place() {
    for world in World::both() {
        let first = Machine::start(&world, "first", 1);
        first.write("large", noise(5 * 1024 * 1024));
        first.ship().unwrap().unwrap();
        let second = Machine::start(&world, "second", 2);
        let parts = objects(&world);
        world.change(&parts[0], |bytes| bytes[1000] ^= 1);
        assert_eq!(second.arrive().unwrap_err().code(), "damaged");
        world.change(&parts[0], |bytes| bytes[1000] ^= 1);
        world.change(&parts[1], |bytes| bytes.truncate(bytes.len() / 2));
        assert_eq!(second.arrive().unwrap_err().code(), "damaged");
        world.remove(&parts[0]);
        let error = second.arrive().unwrap_err();
        assert!(matches!(&error, ArchiveError::Place(ShipError::Missing { .. })), "{error}");
        assert!(error.to_string().contains(".0 is missing"), "{error}");
        assert!(!second.path("").exists());
        let left = fs::read_dir(second.folder.join(".arriving")).unwrap().count();
        assert_eq!(left, 0, "what was unpacked is gone");
    }
}

/// One that was not made by this host, under the name of the archive that is there.
fn forge(world: &World, fill: impl FnOnce(&mut Builder<GzEncoder<&mut Vec<u8>>>)) {
    let object = objects(world).pop().unwrap();
    let digest = std::cell::RefCell::new((String::new(), String::new()));
    world.change(&object, |bytes| {
        let before = crate::segment::hex_digest(bytes);
        bytes.clear();
        let mut archive = Builder::new(GzEncoder::new(bytes, Compression::fast()));
        fill(&mut archive);
        let bytes = archive.into_inner().unwrap().finish().unwrap();
        *digest.borrow_mut() = (before, crate::segment::hex_digest(bytes));
    });
    let (before, after) = digest.into_inner();
    let index = object.rsplit_once("/workspaces/").unwrap().0.to_owned() + "/workspaces.json";
    world.change(&index, |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.contains(&before));
        *bytes = text.replace(&before, &after).into_bytes();
    });
}

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    header
}

/// Names that the library refuses to write.
fn named(mut header: Header, name: &[u8]) -> Header {
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_cksum();
    header
}

#[test]
fn a_hostile_archive_writes_nothing_outside() {
    type Fill = fn(&mut Builder<GzEncoder<&mut Vec<u8>>>, &Path);
    let attacks: [(&str, Fill, &str); 6] = [
        (
            "parents",
            |archive, _| {
                let header = named(header(EntryType::Regular, 1), b"../../outside");
                archive.append(&header, &b"x"[..]).unwrap();
            },
            "it leads out of the workspace",
        ),
        (
            "absolute",
            |archive, outside| {
                let name = outside.to_str().unwrap();
                let header = named(header(EntryType::Regular, 1), name.as_bytes());
                archive.append(&header, &b"x"[..]).unwrap();
            },
            "it leads out of the workspace",
        ),
        (
            "through a link",
            |archive, outside| {
                let mut link = header(EntryType::Symlink, 0);
                archive.append_link(&mut link, "link", outside.parent().unwrap()).unwrap();
                let mut file = header(EntryType::Regular, 1);
                archive.append_data(&mut file, "link/outside", &b"x"[..]).unwrap();
            },
            "link/outside",
        ),
        (
            "over a link",
            |archive, outside| {
                let mut link = header(EntryType::Symlink, 0);
                archive.append_link(&mut link, "link", outside).unwrap();
                let mut file = header(EntryType::Regular, 1);
                archive.append_data(&mut file, "link", &b"x"[..]).unwrap();
            },
            "link",
        ),
        (
            "a device",
            |archive, _| {
                let mut device = header(EntryType::Char, 0);
                device.set_device_major(1).unwrap();
                device.set_device_minor(3).unwrap();
                archive.append_data(&mut device, "null", std::io::empty()).unwrap();
            },
            "it is no file, directory or link",
        ),
        (
            "a bomb",
            |archive, _| {
                let size = MAX_WORKSPACE + 1;
                let mut file = header(EntryType::Regular, size);
                archive.append_data(&mut file, "zeros", std::io::repeat(0).take(size)).unwrap();
            },
            "ship.workspace_mb",
        ),
    ];
    for (name, fill, expected) in attacks {
        let world = World::of_directory();
        let first = Machine::start(&world, "first", 1);
        first.write("file", "x");
        first.ship().unwrap().unwrap();
        let outside = world.dir.path().join("second/outside");
        forge(&world, |archive| fill(archive, &outside));
        let second = Machine::start(&world, "second", 2);
        let error = second.arrive().unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
        assert!(!outside.exists() && !second.folder.join("outside").exists(), "{name}");
        assert!(!second.path("").exists(), "{name}");
    }
    // The forger is not refused for its forging.
    let world = World::of_directory();
    let first = Machine::start(&world, "first", 1);
    first.write("file", "x");
    first.ship().unwrap().unwrap();
    forge(&world, |archive| {
        archive.append_data(&mut header(EntryType::Regular, 1), "forged", &b"y"[..]).unwrap();
    });
    let second = Machine::start(&world, "second", 2);
    second.arrive().unwrap().unwrap();
    assert_eq!(second.text("forged"), "y");
}

#[test]
fn an_older_epoch_writes_nothing() {
    for world in World::both() {
        let first = Machine::start(&world, "first", 1);
        first.write("of", "one");
        first.ship().unwrap().unwrap();
        let second = Machine::start(&world, "second", 2);
        first.write("of", "one, late");
        let error = first.ship().unwrap_err();
        assert!(
            matches!(&error, ArchiveError::Place(ShipError::Newer { found: 2, own: 1, .. })),
            "{error}"
        );
        assert!(wait(first.archives.remove(&agent())).is_err());
        assert_eq!(wait(first.archives.finish(Duration::from_secs(5))), 1);
        second.arrive().unwrap().unwrap();
        assert_eq!(second.text("of"), "one");
        assert!(world.error("third", 1).contains("belongs to epoch 2"));
    }
}

#[test]
fn a_place_that_is_away_holds_nobody_up_for_long_and_the_end_ships_it() {
    let world = World::of_directory();
    let settings = Settings { wait: Duration::from_millis(600), ..world.settings() };
    let first = Machine::with(&world, "first", 1, settings);
    first.write("of", "one");
    let (place, away) = (world.disk("place"), world.disk("away"));
    fs::rename(&place, &away).unwrap();
    let began = Instant::now();
    assert_eq!(first.ship().unwrap_err().code(), "unavailable");
    assert!(began.elapsed() < Duration::from_secs(5));
    let figures = first.archives.figures();
    assert_eq!((figures.failed, figures.due), (1, 1));
    fs::rename(&away, &place).unwrap();
    assert_eq!(wait(first.archives.finish(Duration::from_secs(10))), 0);
    assert_eq!(objects(&world).len(), 1, "nothing is left of the first try");
    let second = Machine::start(&world, "second", 2);
    second.arrive().unwrap().unwrap();
    assert_eq!(second.text("of"), "one");
}

#[test]
fn many_that_end_at_once_are_all_named() {
    let world = World::of_bucket();
    let first = Machine::start(&world, "first", 1);
    let agents: Vec<_> = (0..40).map(|n| AgentId::parse(&format!("agent-{n}")).unwrap()).collect();
    for agent in &agents {
        fs::create_dir_all(first.folder.join(agent.as_str())).unwrap();
        fs::write(first.folder.join(agent.as_str()).join("id"), agent.as_str()).unwrap();
    }
    let all = futures_util::future::join_all(agents.iter().map(|agent| first.archives.ship(agent)));
    assert!(wait(all).iter().all(|shipped| matches!(shipped, Ok(Some(_)))));
    let second = Machine::start(&world, "second", 2);
    for agent in &agents {
        wait(second.archives.arrive(agent, ())).unwrap().unwrap();
        let id = fs::read_to_string(second.folder.join(agent.as_str()).join("id")).unwrap();
        assert_eq!(id, agent.as_str());
    }
}

#[test]
fn one_that_is_interrupted_is_due() {
    let world = World::of_directory();
    let first = Machine::start(&world, "first", 1);
    first.write("large", noise(4 * 1024 * 1024));
    let dropped = wait(async {
        let agent = agent();
        let ship = first.archives.ship(&agent);
        tokio::time::timeout(Duration::ZERO, ship).await
    });
    assert!(dropped.is_err());
    let last = first.notices.lock().last().cloned();
    assert_eq!(last, Some(ArchiveNotice::NotShipped(ArchiveError::Interrupted)));
    assert_eq!(first.archives.figures().due, 1);
    assert_eq!(wait(first.archives.finish(Duration::from_secs(10))), 0);
}
