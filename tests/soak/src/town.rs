//! The host that is disturbed, with everything around it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::net::TcpStream;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use harness::host::{CLEAN, Launch, UNCLEAN};
use harness::wall_clock::WallClock;
use harness::{Host, Need, PATIENCE, processes, wait_until};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use crate::audit::Audit;
use crate::disturbance::Disturbance;
use crate::ledger::{Known, Ledger};
use crate::quiet::{Holdings, growth};
use crate::report::Report;
use crate::workers::{WORKERS, Work};

/// Restarts without an end, without a wait, and without a quarantine: they are not what is checked.
const RESTLESS: &str = "workspace = false\nrestart = \"transient\"\nrestart_max = 100\n\
    restart_window_ms = 1\nrestart_backoff_ms = 1\nrestart_backoff_max_ms = 1\nrestart_same_fault = 100\n";

/// Size of the state directory's disk: room for what a soak keeps, and soon full.
const DISK: &str = "size=256m,mode=700";

/// An agent that a drain waits for.
const HOLDER: &str = "holder";

/// Connections of a flood: more than the host lets in.
const FLOOD: usize = 700;

/// Crash records that were answered within this time around a kill may have been on their way to the database.
const ON_THEIR_WAY: Duration = Duration::from_millis(250);

const HOUR: i64 = 3600;

/// The host with its disk and its clock, and what is known of it.
pub struct Town {
    host: Host,
    launch: Launch,
    clock: Option<WallClock>,
    disk: Option<PathBuf>,
    dice: fastrand::Rng,
    ledger: Ledger,
    audit: Audit,
    crashes: Mutex<Vec<(Instant, String)>>,
    /// Quiet points of each supervisor, by its process id.
    quiet: BTreeMap<i32, Vec<Holdings>>,
}

impl Town {
    /// Starts a host with an empty state directory. Says what this machine lacks, where it must not lack it.
    pub fn open(dice: fastrand::Rng) -> Result<Self, String> {
        let clock = WallClock::new().map_err(|reason| harness::skip(Need::Cc, &reason)).ok();
        let builder = Host::builder()
            .guest("puppet")
            .guest("leak")
            .role("crasher", "puppet", RESTLESS)
            .role("keeper", "echo", &format!("{RESTLESS}snapshot = \"turn\"\nsnapshot_ms = 5"))
            .role("leaky", "leak", &format!("{RESTLESS}memory_limit_mb = 16"))
            .role("one-off", "puppet", "workspace = false")
            .role(HOLDER, "puppet", "shutdown_ms = 1000")
            .toml("[log]\nlevel = \"info\"\n[limits]\nmax_agents = 64")
            .args(&["--max-restarts", "100000"])
            .supervise();
        let entrance = clock.as_ref().map(WallClock::entrance).unwrap_or_default();
        let entrance: Vec<&str> = entrance.iter().map(String::as_str).collect();
        let launch = builder.launch().run_by(&entrance);
        let mut disk = None;
        let host = Host::start_with(launch.clone(), |state| {
            fs::create_dir(state).expect("make the state directory");
            disk = mount(state).map_err(|reason| harness::skip(Need::Mount, &reason)).ok();
            builder.render(state)
        });
        let host = host.ready();
        let town = Self {
            host,
            launch,
            clock,
            disk,
            dice,
            ledger: Ledger::default(),
            audit: Audit::default(),
            crashes: Mutex::default(),
            quiet: BTreeMap::new(),
        };
        // Everything is compiled before the disk is full for the first time.
        for role in ["crasher", "keeper", "leaky"] {
            town.host.client().start(role, role);
            town.host.client().stop(role).expect(200);
        }
        Ok(town)
    }

    /// Works for this long, disturbed, comes to a quiet point, and checks.
    pub fn round(&mut self, disturbance: Disturbance, time: Duration, report: &mut Report) {
        if disturbance == Disturbance::FullDisk && self.disk.is_none()
            || disturbance == Disturbance::ClockJump && self.clock.is_none()
        {
            return report.count(&format!("rounds left out: {disturbance}"));
        }
        report.count(&format!("rounds: {disturbance}"));
        for causes in disturbance.causes() {
            self.audit.expect(causes);
        }
        if disturbance == Disturbance::KillInDrain {
            let known = self.ledger.of(HOLDER);
            self.ledger.put(HOLDER, Known { runs: None, ..known });
        }
        let shared = Mutex::new(std::mem::take(report));
        let (over, lose) = (AtomicBool::new(false), AtomicBool::new(disturbance.ends_a_run()));
        let refuse = AtomicBool::new(disturbance.may_refuse());
        let client = self.host.client().clone();
        let mut dice = self.dice.fork();
        let work = Work {
            ledger: &self.ledger,
            may_lose_calls: &lose,
            may_be_refused: &refuse,
            over: &over,
            report: &shared,
            crashes: &self.crashes,
        };
        let disturbed = std::thread::scope(|scope| {
            let work = &work;
            for worker in 0..WORKERS {
                let (client, dice) = (client.clone(), dice.fork());
                scope.spawn(move || work.run(&client, worker, dice));
            }
            let began = Instant::now();
            // Lengths of a disturbance are part of it: nothing waits for these times.
            std::thread::sleep(time.mul_f64(0.1 + 0.3 * dice.f64()));
            let struck = Instant::now();
            disturb(
                &self.host,
                disturbance,
                self.clock.as_ref(),
                self.disk.as_deref(),
                time / 2,
                &mut dice,
            );
            let disturbed = struck..=Instant::now();
            std::thread::sleep(time.saturating_sub(began.elapsed()).min(time / 2));
            over.store(true, Relaxed);
            disturbed
        });
        *report = shared.into_inner();
        if matches!(
            disturbance,
            Disturbance::KillInit | Disturbance::KillInDrain | Disturbance::Drain
        ) {
            self.replace_host(disturbance, report);
        }
        self.host.wait_until_ready();
        self.read_log(report);
        self.ledger.check(&self.host, report);
        self.check_crashes(disturbance.ends_a_run().then_some(disturbed), report);
        self.come_to_rest(report);
        if self.audit.pending() > 0 {
            report.found(format!("{} ends were reported by no run", self.audit.pending()));
        }
    }

    /// The host has ended, or is about to: the next one goes on in its state directory.
    fn replace_host(&mut self, disturbance: Disturbance, report: &mut Report) {
        let status = self.host.wait();
        let ended = (disturbance, status.code());
        if !matches!(
            ended,
            (Disturbance::Drain, Some(CLEAN | UNCLEAN))
                | (Disturbance::KillInit | Disturbance::KillInDrain, None)
        ) {
            report.found(format!("after {disturbance} the host ended with {status}"));
        }
        self.audit.read(self.host.drain_lines(), report);
        let supervisor = self.audit.pid().and_then(Pid::from_raw);
        if let Some(pid) = supervisor {
            wait_until("the supervisor went with its init process", || !processes::is_alive(pid));
        }
        self.host = self.host.restart_with(self.launch.clone());
    }

    fn read_log(&mut self, report: &mut Report) {
        // A run reports on the one before right after its first line, but its writer is a moment behind.
        let until = Instant::now() + PATIENCE;
        loop {
            self.audit.read(self.host.drain_lines(), report);
            if self.audit.pending() == 0 || Instant::now() > until {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn check_crashes(&self, killed: Option<RangeInclusive<Instant>>, report: &mut Report) {
        let mut crashes = self.crashes.lock();
        if let Some(killed) = killed {
            // Those that were on their way to the disk. Who is killed through its parent dies a moment later.
            let (first, last) = (*killed.start() - ON_THEIR_WAY, *killed.end() + ON_THEIR_WAY);
            crashes.retain(|(answered, _)| *answered < first || *answered > last);
        }
        for (_, id) in crashes.drain(..) {
            let answer = self.host.client().get(&format!("/crashes/{id}"));
            match answer.status {
                200 => report.count("crash records read back"),
                status => report.found(format!("crash {id} was answered and is {status} now")),
            }
        }
    }

    /// Stops everything, and holds what is left against what was left before.
    fn come_to_rest(&mut self, report: &mut Report) {
        let mut agents = self.ledger.agents();
        agents.push(HOLDER.to_owned());
        for agent in agents {
            let answer = self.host.client().stop(&agent);
            match answer.status {
                200 | 404 => {}
                status => {
                    report.found(format!("stop of {agent} was answered {status}: {}", answer.text))
                }
            }
            let known = self.ledger.of(&agent);
            self.ledger.put(&agent, Known { runs: Some(false), ..known });
        }
        match Holdings::at_quiet_point(&self.host) {
            Ok(holdings) => {
                let points = self.quiet.entry(holdings.pid).or_default();
                points.push(holdings);
                if let Some(growth) = growth(points) {
                    report.found(growth);
                }
            }
            Err(left) => report.found(left),
        }
        self.read_log(report);
        self.audit.is_settled(report);
    }

    /// Ends the host as asked.
    pub fn close(mut self, report: &mut Report) {
        self.host.signal(Signal::TERM);
        let status = self.host.wait();
        if status.code() != Some(CLEAN) {
            report.found(format!("at last the host ended with {status}"));
        }
        self.audit.read(self.host.drain_lines(), report);
        report.quiet = std::mem::take(&mut self.quiet).into_values().collect();
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        if self.host.is_running() {
            self.host.signal(Signal::KILL);
            let _ = self.host.wait();
        }
        if let Some(disk) = self.disk.take() {
            let _ = Command::new("umount").arg(disk).status();
        }
    }
}

/// Puts a small disk over the state directory, for this process and those that it starts.
fn mount(state: &Path) -> Result<PathBuf, String> {
    let mut command = Command::new("mount");
    let command = command.args(["-t", "tmpfs", "-o", DISK, "disk"]).arg(state);
    match command.output() {
        Ok(output) if output.status.success() => Ok(state.to_owned()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("run mount: {error}")),
    }
}

/// Does it, for `time` where it lasts, and undoes what can be undone.
fn disturb(
    host: &Host,
    disturbance: Disturbance,
    clock: Option<&WallClock>,
    disk: Option<&Path>,
    time: Duration,
    dice: &mut fastrand::Rng,
) {
    let kill = |pid: Pid, signal| {
        // It may be gone already.
        let _ = kill_process(pid, signal);
    };
    match disturbance {
        Disturbance::None => {}
        Disturbance::Freeze => {
            let pid = host.supervisor_pid();
            kill(pid, Signal::STOP);
            std::thread::sleep(time);
            kill(pid, Signal::CONT);
        }
        Disturbance::ClockJump => {
            let Some(clock) = clock else { return };
            for _ in 0..3 {
                clock.set(dice.i64(-30..30) * HOUR);
                std::thread::sleep(time / 3);
            }
            clock.set(0);
        }
        Disturbance::StalledReader => {
            let _stalled = host.stall_log();
            std::thread::sleep(time);
        }
        Disturbance::ConnectionFlood => {
            let connect = |_| TcpStream::connect_timeout(&host.address(), time).ok();
            let flood: Vec<TcpStream> = (0..FLOOD).filter_map(connect).collect();
            std::thread::sleep(time);
            drop(flood);
        }
        Disturbance::FullDisk => {
            let Some(disk) = disk else { return };
            let path = disk.join("filler");
            let filled = File::create(&path).map(|mut filler| {
                for bytes in [1 << 20, 4096, 1] {
                    let block = vec![b'x'; bytes];
                    while filler.write_all(&block).is_ok() {}
                }
            });
            std::thread::sleep(time);
            if filled.is_ok() {
                let _ = fs::remove_file(path);
            }
        }
        Disturbance::KillSupervisor => kill(host.supervisor_pid(), Signal::KILL),
        Disturbance::KillInBoot => {
            let first = host.supervisor_pid();
            kill(first, Signal::KILL);
            wait_until("the next supervisor began", || host.supervisor_pid() != first);
            std::thread::sleep(Duration::from_micros(dice.u64(0..80_000)));
            kill(host.supervisor_pid(), Signal::KILL);
        }
        Disturbance::KillInit => host.signal(Signal::KILL),
        Disturbance::KillInDrain => {
            let supervisor = host.supervisor_pid();
            host.client().start(HOLDER, HOLDER);
            host.client().send(HOLDER, "wait hold").expect(200);
            wait_until("a turn that does not end", || host.client().status(HOLDER).busy);
            host.signal(Signal::TERM);
            host.wait_for_number(&["container.draining"], 1);
            std::thread::sleep(Duration::from_millis(dice.u64(0..300)));
            host.signal(Signal::KILL);
            kill(supervisor, Signal::KILL);
        }
        Disturbance::Drain => host.signal(Signal::TERM),
    }
}
