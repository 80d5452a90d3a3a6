//! One machine: a namespace, a disk, a wall clock, and a copy of the town that an orchestrator starts again when it has ended.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harness::wall_clock::WallClock;
use harness::{files, host, seeds};
use rustix::process::{Pid, Signal, kill_process};

use super::TTL_MS;
use super::engine::Engine;
use super::network::Namespace;
use super::schedule::Which;
use crate::lease::Copy;

const PORT: u16 = 8080;

/// How long the orchestrator takes.
const RESTART: Duration = Duration::from_millis(300);

pub struct Machine {
    pub namespace: Namespace,
    pub clock: WallClock,
    dir: PathBuf,
    /// All that were started, the newest last.
    copies: Vec<Copy>,
    ended: Option<Instant>,
    /// The disk went with it.
    is_lost: bool,
}

impl Machine {
    pub fn new(number: usize, clock: WallClock, engine: &Engine, dir: &Path) -> Self {
        let dir = dir.join(format!("machine-{number}"));
        fs::create_dir_all(&dir).expect("make a directory");
        let (register, place) = engine.tables();
        let text = format!(
            "[server]\nlisten = \"0.0.0.0:{PORT}\"\nallow_unauthenticated = true\n\
             [state]\naot_seed = {:?}\n[limits]\nmax_agents = 64\n\
             [lease]\nname = \"town\"\nttl_ms = {TTL_MS}\nadvertise = \"machine-{number}:{PORT}\"\n{register}\
             [ship]\ninterval_ms = 100\nwait_ms = 1500\ncall_ms = 1000\n{place}\
             [components.puppet]\npath = {:?}\n\
             [roles.fleet]\ncomponent = \"puppet\"\ndurable = \"fleet\"\nworkspace = false\n\
             [[agents]]\nid = \"one\"\nrole = \"fleet\"\n",
            seeds::guests(),
            files::component("puppet"),
        );
        fs::write(dir.join("bulkhead.toml"), text).expect("write the configuration");
        let namespace = Namespace::new(number);
        let (copies, ended, is_lost) = (Vec::new(), None, false);
        let mut machine = Self { namespace, clock, dir, copies, ended, is_lost };
        machine.start();
        machine
    }

    pub fn start(&mut self) {
        (self.ended, self.is_lost) = (None, false);
        let by = [self.namespace.entrance(), self.clock.entrance()].concat();
        let command = host::command(&self.dir.join("bulkhead.toml"), &self.dir);
        self.copies.push(Copy::spawn(host::wrapped(&by, command)));
    }

    /// What the orchestrator does about it.
    pub fn look_after(&mut self) {
        if self.copy().is_there() {
            return;
        }
        let ended = *self.ended.get_or_insert_with(Instant::now);
        if ended.elapsed() < RESTART {
            return;
        }
        if self.is_lost {
            let _ = fs::remove_dir_all(self.dir.join("state"));
        }
        self.start();
    }

    pub fn lose(&mut self) {
        self.copy().signal_all(Signal::KILL);
        self.is_lost = true;
    }

    pub fn copy(&self) -> &Copy {
        self.copies.last().expect("it was started")
    }

    pub fn copies(&self) -> &[Copy] {
        &self.copies
    }

    pub fn address(&self) -> SocketAddr {
        format!("{}:{PORT}", self.namespace.address()).parse().expect("an address")
    }

    /// Those that are there.
    pub fn processes(&self, which: Which) -> Vec<Pid> {
        let copy = self.copy();
        match which {
            Which::All => copy.processes(),
            Which::Init => copy.processes().into_iter().take(1).collect(),
            Which::Keeper => copy.find("bulkhead-keeper").into_iter().collect(),
            Which::Supervisor => copy.find("bulkhead").into_iter().collect(),
        }
    }

    pub fn signal(&self, which: Which, signal: Signal) {
        for pid in self.processes(which) {
            let _ = kill_process(pid, signal);
        }
    }
}
