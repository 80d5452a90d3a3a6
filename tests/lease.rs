//! Copies of a town that share a register: at most one runs, and each that runs has a higher epoch than all before.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use harness::processes::{children, is_alive};
use harness::{files, launcher, wait_until};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

mod fleet;
mod keepers;
mod moves;
mod ports;
mod probes;

/// The shortest there is.
const TTL_MS: u64 = 2000;

/// A register, and copies that share it.
pub(crate) struct Fleet {
    dir: tempfile::TempDir,
    ttl_ms: u64,
}

/// One copy. Dropping it kills it.
pub(crate) struct Copy {
    init: Child,
    lines: Arc<Mutex<Vec<(Instant, Value)>>>,
}

/// A run of a supervisor, as its log has it.
#[derive(Debug)]
struct Run {
    id: String,
    epoch: Option<u64>,
    first: String,
    last: String,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let dir =
            tempfile::Builder::new().prefix("bulkhead-fleet-").tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("register")).expect("make the register");
        Self { dir, ttl_ms: TTL_MS }
    }

    fn with_ttl(ttl_ms: u64) -> Self {
        Self { ttl_ms, ..Self::new() }
    }

    /// A copy's directory, or another one of all.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn register(&self) -> PathBuf {
        self.path("register")
    }

    /// How often the holder of a town has written in its epoch.
    fn counter(&self, town: &str) -> u64 {
        let path = self.register().join(format!("{town}.lease.json"));
        let text = std::fs::read(path).expect("read the record");
        let record: Value = serde_json::from_slice(&text).expect("a record");
        record["counter"].as_u64().expect("a number")
    }

    /// Starts a copy with a disk of its own. It need not be the one that runs.
    fn copy(&self, name: &str) -> Copy {
        self.copy_with(name, "")
    }

    /// The same with more of a configuration.
    pub(crate) fn copy_with(&self, name: &str, more: &str) -> Copy {
        let config = self.write("town", name, "listen = \"127.0.0.1:0\"", "", more);
        Copy::start(&config, config.parent().expect("its directory"))
    }

    /// The same for a copy of this town that listens there.
    fn copy_of(&self, town: &str, name: &str, listen: &str) -> Copy {
        let config = self.configure(town, name, listen, "");
        Copy::start(&config, config.parent().expect("its directory"))
    }

    /// Writes the configuration of a copy, with these lines in `[lease]`.
    fn configure(&self, town: &str, name: &str, listen: &str, lease: &str) -> PathBuf {
        self.write(town, name, listen, lease, "")
    }

    /// The same with more at its end.
    fn write(&self, town: &str, name: &str, listen: &str, lease: &str, more: &str) -> PathBuf {
        let dir = self.path(name);
        std::fs::create_dir_all(&dir).expect("make a directory");
        let config = dir.join("bulkhead.toml");
        let text = format!(
            "[server]\n{listen}\nallow_unauthenticated = true\n\
             [lease]\nregister = \"file://{}\"\nname = \"{town}\"\nttl_ms = {}\n{lease}\n\
             [components.echo]\npath = {:?}\n[roles.echo]\ncomponent = \"echo\"\n\
             [[agents]]\nid = \"one\"\nrole = \"echo\"\n{more}",
            self.register().display(),
            self.ttl_ms,
            files::component("echo"),
        );
        std::fs::write(&config, text).expect("write the configuration");
        config
    }
}

impl Copy {
    fn start(config: &Path, dir: &Path) -> Self {
        Self::spawn(harness::host::command(config, dir))
    }

    /// Starts one by this command.
    pub(crate) fn spawn(command: Command) -> Self {
        let mut init = launcher::spawn(command).expect("start a copy");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let streams: [Option<Box<dyn Read + Send>>; 2] = [
            init.stdout.take().map(|pipe| Box::new(pipe) as _),
            init.stderr.take().map(|pipe| Box::new(pipe) as _),
        ];
        for stream in streams.into_iter().flatten() {
            let lines = Arc::clone(&lines);
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let now = Instant::now();
                    let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                    lines.lock().push((now, line));
                }
            });
        }
        Self { init, lines }
    }

    pub(crate) fn lines(&self) -> Vec<Value> {
        self.arrivals().into_iter().map(|(_, line)| line).collect()
    }

    /// Its lines, with when they came.
    pub(crate) fn arrivals(&self) -> Vec<(Instant, Value)> {
        self.lines.lock().clone()
    }

    pub(crate) fn starts(&self) -> Vec<Value> {
        let is_start = |line: &Value| line["event"] == "container.cold_start";
        self.lines().into_iter().filter(is_start).collect()
    }

    /// Waits until its supervisor runs for the `number`th time, and yields where it listens.
    #[track_caller]
    pub(crate) fn serves(&self, number: usize) -> SocketAddr {
        let is_through = |line: &Value| line["event"] == "container.boot_hydration_finished";
        wait_until("a supervisor has booted", || {
            self.lines().iter().filter(|line| is_through(line)).count() >= number
        });
        let start = &self.starts()[number - 1];
        start["listen"].as_str().and_then(|text| text.parse().ok()).expect("an address")
    }

    #[track_caller]
    pub(crate) fn waits_for(&self, what: &str, wanted: impl Fn(&Value) -> bool) {
        wait_until(what, || self.lines().iter().any(&wanted));
    }

    /// What the init process says.
    #[track_caller]
    fn says(&self, part: &str) {
        self.waits_for(part, |line| {
            line["event"] == "container.init"
                && line["message"].as_str().is_some_and(|text| text.contains(part))
        });
    }

    /// The init process, the keeper and the supervisor.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        let init = Pid::from_child(&self.init);
        [vec![init], children(init)].concat()
    }

    pub(crate) fn named(&self, name: &str) -> Pid {
        self.find(name).expect("such a process")
    }

    pub(crate) fn find(&self, name: &str) -> Option<Pid> {
        let is_it = |pid: &Pid| {
            let path = format!("/proc/{}/comm", pid.as_raw_nonzero());
            std::fs::read_to_string(path).is_ok_and(|comm| comm.trim() == name)
        };
        self.processes().into_iter().skip(1).find(is_it)
    }

    /// Whether its init process is there.
    pub(crate) fn is_there(&self) -> bool {
        is_alive(Pid::from_child(&self.init))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.init), signal).expect("send a signal");
    }

    /// What its machine would do to all of it at once.
    pub(crate) fn signal_all(&self, signal: Signal) {
        for pid in self.processes() {
            let _ = kill_process(pid, signal);
        }
    }

    #[track_caller]
    pub(crate) fn ends(&mut self, code: i32) {
        let init = Pid::from_child(&self.init);
        wait_until("the copy ends", || !is_alive(init));
        let status = self.init.wait().expect("its end");
        assert_eq!(status.code(), Some(code), "{:#?}", self.lines());
    }

    /// Its supervisors, in their order. One that logged no start has no epoch.
    fn runs(&self) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        // Why a run ended is said by others in its name.
        let of_itself = |line: &&Value| line["event"] != "container.previous_run";
        for line in self.lines().iter().filter(of_itself) {
            let Some(id) = line["runId"].as_str() else { continue };
            let ts = line["ts"].as_str().unwrap_or_default().to_owned();
            let epoch = line["leaseEpoch"].as_u64();
            match runs.iter_mut().find(|run| run.id == id) {
                Some(run) => {
                    run.last = ts;
                    run.epoch = run.epoch.or(epoch);
                }
                None => runs.push(Run { id: id.into(), epoch, first: ts.clone(), last: ts }),
            }
        }
        runs
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.signal_all(Signal::KILL);
        let _ = self.init.wait();
    }
}

/// Nothing of one run is in the time of another one, and later ones have higher epochs. Yields the epochs.
#[track_caller]
fn one_at_a_time(copies: &[&Copy]) -> Vec<u64> {
    let mut runs: Vec<Run> = copies.iter().flat_map(|copy| copy.runs()).collect();
    runs.sort_by(|one, other| one.first.cmp(&other.first));
    for pair in runs.windows(2) {
        assert!(pair[0].last <= pair[1].first, "{:?} is not before {:?}", pair[0], pair[1]);
    }
    let epochs: Vec<u64> = runs.iter().filter_map(|run| run.epoch).collect();
    assert!(epochs.is_sorted(), "{epochs:?}");
    epochs
}

fn request(address: SocketAddr) -> TcpStream {
    try_request(address, "/readyz").expect("ask")
}

fn try_request(address: SocketAddr, path: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    Ok(stream)
}

/// Everything that comes. Nothing, if the other side is gone.
fn answer(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn the_next_copy_begins_when_the_one_before_has_left() {
    let fleet = Fleet::new();
    let mut first = fleet.copy("first");
    let address = first.serves(1);
    wait_until("it is ready", || answer(request(address)).starts_with("HTTP/1.1 200"));
    let second = fleet.copy("second");
    second.says("holds it (epoch 1)");
    assert!(second.starts().is_empty(), "it waits");
    first.signal(Signal::TERM);
    first.ends(0);
    second.serves(1);
    assert_eq!(one_at_a_time(&[&first, &second]), [1, 2]);
}

#[test]
fn a_copy_that_waits_ends_when_it_is_asked_to() {
    let fleet = Fleet::new();
    let first = fleet.copy("first");
    first.serves(1);
    let mut second = fleet.copy("second");
    second.says("holds it (epoch 1)");
    second.signal(Signal::TERM);
    second.ends(0);
    assert!(is_alive(Pid::from_child(&first.init)) && first.starts().len() == 1);
}

#[test]
fn a_copy_that_is_gone_is_followed_when_its_time_is_over() {
    let fleet = Fleet::new();
    let first = fleet.copy("first");
    first.serves(1);
    let second = fleet.copy("second");
    second.says("holds it (epoch 1)");
    let processes = first.processes();
    first.signal(Signal::KILL);
    second.serves(1);
    assert!(!processes.into_iter().any(is_alive), "all of it went with its init process");
    assert_eq!(one_at_a_time(&[&first, &second]), [1, 2]);
}

#[test]
fn a_copy_that_was_frozen_answers_nothing_when_it_goes_on() {
    let fleet = Fleet::new();
    let first = fleet.copy("first");
    let address = first.serves(1);
    let second = fleet.copy("second");
    second.says("holds it (epoch 1)");
    first.signal_all(Signal::STOP);
    second.serves(1);
    // The kernel takes the request; who it is for may answer nothing any more.
    let asked = request(address);
    // Before its init process, which would end it as well.
    kill_process(first.named("bulkhead"), Signal::CONT).expect("let the supervisor go on");
    assert_eq!(answer(asked), "");
    first.signal_all(Signal::CONT);
    first.says("holds it (epoch 2)");
    assert_eq!(one_at_a_time(&[&first, &second]), [1, 2]);
}

#[test]
fn a_supervisor_whose_init_process_hangs_ends_by_itself() {
    let fleet = Fleet::new();
    let first = fleet.copy("first");
    first.serves(1);
    let supervisor = first.named("bulkhead");
    first.signal(Signal::STOP);
    wait_until("the supervisor ends at its fence", || !is_alive(supervisor));
    first.signal(Signal::CONT);
    first.serves(2);
    let why = first
        .lines()
        .into_iter()
        .find(|line| line["event"] == "container.previous_run" && line["cause"] != "none");
    assert_eq!(why.expect("why it ended")["cause"], "lease_lost");
    one_at_a_time(&[&first]);
}

#[test]
fn without_its_register_a_copy_ends_and_it_comes_back_with_it() {
    let fleet = Fleet::new();
    let first = fleet.copy("first");
    first.serves(1);
    let away = fleet.dir.path().join("away");
    std::fs::rename(fleet.register(), &away).expect("take the register away");
    first.says("the lease of the town is lost: it was not renewed in time: ");
    first.says("waiting for the lease of the town: the register says: ");
    std::fs::rename(&away, fleet.register()).expect("bring the register back");
    first.serves(2);
    assert_eq!(one_at_a_time(&[&first]), [1, 2]);
}

#[test]
fn a_copy_whose_init_process_hangs_gives_way_to_another_one() {
    let fleet = Fleet::new();
    let first = fleet.copy("first");
    first.serves(1);
    let second = fleet.copy("second");
    second.says("holds it (epoch 1)");
    first.signal(Signal::STOP);
    second.serves(1);
    first.signal(Signal::CONT);
    first.says("holds it (epoch 2)");
    assert_eq!(one_at_a_time(&[&first, &second]), [1, 2]);
}

#[test]
fn a_supervisor_that_was_frozen_alone_is_no_crash() {
    let fleet = Fleet::new();
    let first = fleet.copy("first");
    first.serves(1);
    let supervisor = first.named("bulkhead");
    kill_process(supervisor, Signal::STOP).expect("stop the supervisor");
    // The last of three renewals is sent 90 % of the TTL after the newest one that it can know of: past its fence.
    let counter = fleet.counter("town");
    wait_until("the lease is renewed without it", || fleet.counter("town") >= counter + 3);
    kill_process(supervisor, Signal::CONT).expect("let it go on");
    first.serves(2);
    let is_end = |line: &Value| {
        line["event"] == "container.previous_run" && line["previousRunId"].is_string()
    };
    let ends: Vec<_> = first.lines().into_iter().filter(is_end).collect();
    assert_eq!(ends[0]["cause"], "lease_lost", "{}", ends[0]);
    let has_counted =
        |line: &Value| line["message"].as_str().is_some_and(|text| text.contains("restart 1 of"));
    assert!(!first.lines().iter().any(has_counted), "{:#?}", first.lines());
}

#[test]
fn a_supervisor_that_is_stopped_is_killed_when_the_lease_is_lost() {
    let fleet = Fleet::new();
    let first = fleet.copy("first");
    first.serves(1);
    let supervisor = first.named("bulkhead");
    kill_process(supervisor, Signal::STOP).expect("stop the supervisor");
    let away = fleet.dir.path().join("away");
    std::fs::rename(fleet.register(), &away).expect("take the register away");
    wait_until("its init process kills it", || !is_alive(supervisor));
    std::fs::rename(&away, fleet.register()).expect("bring the register back");
    first.serves(2);
    assert_eq!(one_at_a_time(&[&first]), [1, 2]);
}

#[test]
fn a_supervisor_that_dies_is_restarted_under_the_same_lease() {
    let fleet = Fleet::new();
    let first = fleet.copy("first");
    first.serves(1);
    kill_process(first.named("bulkhead"), Signal::KILL).expect("kill the supervisor");
    first.serves(2);
    assert_eq!(one_at_a_time(&[&first]), [1, 1]);
}

/// What befalls one of three copies.
#[derive(Debug, Clone, Copy)]
enum Blow {
    /// SIGKILL to its init process, its keeper or its supervisor. One without an init process is started again.
    Kill(usize),
    /// Some of its processes stand still for a while.
    Freeze(u64, Which),
    /// The register is away for a while, for all.
    Away(u64),
    /// It is asked to end, and started again.
    Move,
    /// Nothing, for a while.
    Rest(u64),
}

#[derive(Debug, Clone, Copy)]
enum Which {
    All,
    One(usize),
}

fn blow(dice: &mut fastrand::Rng) -> Blow {
    // A little more than what it takes another copy to begin.
    let mut time = || dice.u64(0..TTL_MS * 3 / 2);
    let (short, long) = (time() / 4, time());
    match dice.u8(0..10) {
        0..3 => Blow::Kill(dice.usize(0..3)),
        3..5 => Blow::Freeze(long, Which::All),
        5..7 => Blow::Freeze(long, Which::One(dice.usize(0..3))),
        7 => Blow::Away(long),
        8 => Blow::Move,
        _ => Blow::Rest(short),
    }
}

/// Random blows, one after the other: `LEASE_BLOWS`, ten by default, `LEASE_SEED`.
#[test]
fn at_most_one_copy_runs_whatever_befalls_them() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (seed, blows) = (
        number("LEASE_SEED").unwrap_or_else(|| fastrand::u64(..)),
        number("LEASE_BLOWS").unwrap_or(10),
    );
    println!("LEASE_SEED={seed}");
    let mut dice = fastrand::Rng::with_seed(seed);
    let fleet = Fleet::new();
    let name = |index: usize| format!("copy-{index}");
    let ports: Vec<_> = (0..3).map(|_| ports::Ports::free().configured()).collect();
    let copy = |index: usize| fleet.copy_of("town", &name(index), &ports[index]);
    let mut copies: Vec<Copy> = (0..3).map(copy).collect();
    let mut gone = Vec::new();
    for number in 0..blows {
        let (index, blow) = (dice.usize(0..copies.len()), blow(&mut dice));
        println!("{number}: {} {blow:?}", name(index));
        let is_over = befall(&fleet, &mut copies[index], blow);
        if is_over {
            let next = copy(index);
            gone.push(std::mem::replace(&mut copies[index], next));
        }
    }
    let served = |copy: &Copy| copy.runs().len();
    let before: usize = copies.iter().map(served).sum();
    // Whoever runs now leaves, and another one begins.
    wait_until("a copy runs", || copies.iter().any(|copy| request_of(copy).is_some()));
    let runs = copies.iter().position(|copy| request_of(copy).is_some()).expect("a copy runs");
    copies[runs].signal(Signal::TERM);
    wait_until("another copy runs", || {
        copies.iter().map(served).sum::<usize>() > before
            && copies
                .iter()
                .enumerate()
                .any(|(index, copy)| index != runs && request_of(copy).is_some())
    });
    let all: Vec<&Copy> = gone.iter().chain(&copies).collect();
    let epochs = one_at_a_time(&all);
    println!("{} runs, epochs {epochs:?}", epochs.len());
}

/// Whether the copy has to be started again.
fn befall(fleet: &Fleet, copy: &mut Copy, blow: Blow) -> bool {
    let pause = |ms: u64| thread::sleep(Duration::from_millis(ms));
    let nth = |which: usize| copy.processes().get(which).copied();
    match blow {
        Blow::Kill(which) => {
            let Some(pid) = nth(which) else { return false };
            let _ = kill_process(pid, Signal::KILL);
            which == 0
        }
        Blow::Freeze(ms, which) => {
            let frozen: Vec<Pid> = match which {
                Which::All => copy.processes(),
                Which::One(which) => nth(which).into_iter().collect(),
            };
            frozen.iter().for_each(|pid| _ = kill_process(*pid, Signal::STOP));
            pause(ms);
            frozen.iter().rev().for_each(|pid| _ = kill_process(*pid, Signal::CONT));
            false
        }
        Blow::Away(ms) => {
            let away = fleet.dir.path().join("away");
            std::fs::rename(fleet.register(), &away).expect("take the register away");
            pause(ms);
            std::fs::rename(&away, fleet.register()).expect("bring the register back");
            false
        }
        Blow::Move => {
            copy.signal(Signal::TERM);
            let init = Pid::from_child(&copy.init);
            wait_until("the copy ends", || !is_alive(init));
            true
        }
        Blow::Rest(ms) => {
            pause(ms);
            false
        }
    }
}

/// Where it answers, if it does.
fn request_of(copy: &Copy) -> Option<SocketAddr> {
    let start = copy.starts().pop()?;
    let address: SocketAddr = start["listen"].as_str()?.parse().ok()?;
    let asked = try_request(address, "/readyz").ok()?;
    answer(asked).starts_with("HTTP/1.1 200").then_some(address)
}
