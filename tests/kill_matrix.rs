//! Ends the host in every way, in random order, with agents at work, and holds what the next run says
//! against what was done.
//!
//! `KILL_MATRIX_ROUNDS` makes it longer, `KILL_MATRIX_SEED` repeats an order.

mod full_disk;
mod full_log;
mod half_line;
mod in_flight;
mod wall_clock;

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use bulkhead_blackbox as blackbox;
use bulkhead_blackbox::runs::Runs;
use bulkhead_blackbox::{Geometry, Run};
use bulkhead_types::previous::RunState;
use harness::host::run_to_end;
use harness::memory_group::{self, MemoryGroup};
use harness::{Host, HostBuilder, Value, json};
use rustix::process::{Signal, kill_process};

/// Rounds through all ends when nothing else is said: some ten seconds.
const ROUNDS: usize = 2;

/// Of the group for kills by the kernel.
const MEMORY_LIMIT: u64 = 256 * 1024 * 1024;

/// What is done to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Asked,
    /// While its agents of the configuration start.
    AskedInBoot,
    KilledInDrain,
    Killed,
    Panic(&'static str),
    Fault(&'static str),
    OutOfMemory,
    PortTaken,
    OtherMachine,
}

/// Each with and without an init process, where there is a process at all.
const ENDS: [(End, bool); 19] = [
    (End::Asked, false),
    (End::Asked, true),
    (End::AskedInBoot, false),
    (End::AskedInBoot, true),
    (End::KilledInDrain, false),
    (End::KilledInDrain, true),
    (End::Killed, false),
    (End::Killed, true),
    (End::Panic("panic-main"), false),
    (End::Panic("panic-main"), true),
    (End::Panic("panic-thread"), true),
    (End::Fault("segv"), false),
    (End::Fault("segv"), true),
    (End::Fault("abort"), false),
    (End::Fault("abort"), true),
    (End::OutOfMemory, false),
    (End::OutOfMemory, true),
    (End::PortTaken, false),
    (End::OtherMachine, false),
];

/// What the next run is to say. A signal that nobody saw is no evidence, and the host claims none.
fn expected(end: End, seen: bool) -> &'static str {
    match end {
        End::Asked | End::AskedInBoot => "clean",
        End::KilledInDrain => "orchestrator_stop",
        End::Killed if seen => "external_sigkill",
        End::Fault(_) if seen => "native_fault",
        End::Killed | End::Fault(_) => "unknown",
        End::Panic(_) => "uncaught_exception",
        End::OutOfMemory => "oom_kill",
        End::PortTaken => "init_failure",
        End::OtherMachine => "vm_replaced",
    }
}

fn builder() -> HostBuilder {
    // With shedding on the kernel would never have to kill.
    let settings = "[memory]\nshed = false\n[limits]\nshutdown_ms = 3000";
    let builder = Host::builder().guest("leak").guest("ignores-stop").toml(settings);
    builder.role("leak", "leak", "memory_limit_mb = 1024").role(
        "deaf",
        "ignores-stop",
        "shutdown_ms = 3000",
    )
}

struct Matrix {
    /// An ended one, for its directory.
    host: Host,
    group: Option<MemoryGroup>,
    /// What the run that begins next has to say.
    pending: &'static str,
    /// How often something was expected and something was said.
    seen: BTreeMap<(String, String), usize>,
    wrong: Vec<Value>,
}

impl Matrix {
    fn note(&mut self, expected: &str, line: Value) {
        let said = line["cause"].as_str().unwrap_or("nothing").to_owned();
        if said != expected {
            self.wrong.push(line);
        }
        *self.seen.entry((expected.to_owned(), said)).or_default() += 1;
    }

    /// The next run, whose first words are about the one before.
    fn launch(&mut self, builder: HostBuilder) {
        self.host = self.host.restart_with(builder.launch()).ready();
        let line = self.host.wait_for_number(&["container.previous_run"], 1);
        self.note(self.pending, line);
        // It was killed in a drain, so it is back, and every drain would wait for it.
        if self.host.client().find("deaf").is_some() {
            self.host.client().stop("deaf").expect(200);
        }
    }

    fn run(&mut self, end: End, init: bool) {
        match end {
            End::PortTaken => self.fail_in_boot(),
            End::AskedInBoot => self.ask_in_boot(init),
            End::OtherMachine => self.come_from_another_machine(),
            _ => self.run_and_end(end, init),
        }
    }

    fn run_and_end(&mut self, end: End, init: bool) {
        let mut with = if init { builder().supervise() } else { builder() };
        if let End::Panic(fault) | End::Fault(fault) = end {
            with = with.inject_fault(fault);
        }
        if let (End::OutOfMemory, Some(group)) = (end, &self.group) {
            let entrance = group.entrance();
            with = with.run_by(&entrance.iter().map(String::as_str).collect::<Vec<_>>());
        }
        self.launch(with);
        let expected = expected(end, init);
        at_work(&self.host, || strike(&self.host, end, self.group.as_ref()));
        let goes_on = init && !matches!(end, End::Asked | End::KilledInDrain);
        if goes_on {
            let line = self.host.wait_for_number(&["container.previous_run"], 2);
            self.note(expected, line);
            // One that is asked to end before its boot is through does not end clean.
            self.host.wait_until_ready();
            self.host.signal(Signal::TERM);
        }
        self.host.wait();
        self.pending = if goes_on { "clean" } else { expected };
    }

    fn fail_in_boot(&mut self) {
        self.launch(builder());
        self.host.signal(Signal::TERM);
        self.host.wait();
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("an address").to_string();
        run_to_end(&self.host.dir().join("bulkhead.toml"), &[("BULKHEAD_LISTEN", &address)]);
        self.pending = expected(End::PortTaken, false);
    }

    fn ask_in_boot(&mut self, init: bool) {
        let slow = |builder: HostBuilder| {
            // The drain gives the start its time first, and then ends it.
            let builder = builder.toml("[limits]\ndrain_ms = 2300\nshutdown_ms = 2000");
            let builder = builder.guest("slow-start");
            builder.agent("id = \"slow\"\nrole = \"slow-start\"\nprompt = \"80000\"")
        };
        self.configure(slow(builder()));
        let with = if init { builder().supervise() } else { builder() };
        self.host = self.host.restart_with(with.launch());
        let line = self.host.wait_for_number(&["container.previous_run"], 1);
        self.note(self.pending, line);
        self.host.client().reaches("slow", "starting");
        self.host.signal(Signal::TERM);
        self.host.wait();
        self.configure(builder());
        self.pending = expected(End::AskedInBoot, init);
    }

    /// What the next runs are configured with.
    fn configure(&self, builder: HostBuilder) {
        let text = builder.render(&self.host.state_dir());
        std::fs::write(self.host.dir().join("bulkhead.toml"), text).expect("write the file");
    }

    fn come_from_another_machine(&mut self) {
        self.launch(builder());
        self.host.signal(Signal::TERM);
        self.host.wait();
        let run = Run {
            boot_id: Some("another".into()),
            run_id: "far".into(),
            number: Runs::read(&self.host.state_dir()).last_number() + 1,
            ..Run::default()
        };
        let opened = blackbox::open(&self.host.state_dir(), &run, Geometry::default());
        let blackbox = opened.blackbox.expect("a black box");
        for state in [RunState::Started, RunState::Hydrated] {
            blackbox.reached(state).expect("reach a state");
        }
        self.pending = expected(End::OtherMachine, false);
    }

    fn print(&self) {
        let said: BTreeSet<&str> = self.seen.keys().map(|(_, said)| said.as_str()).collect();
        println!(
            "expected \\ said       {}",
            said.iter().map(|c| format!("{c:>20}")).collect::<String>()
        );
        for row in self.seen.keys().map(|(row, _)| row).collect::<BTreeSet<_>>() {
            let cells = said.iter().map(|column| {
                let count = self.seen.get(&(row.clone(), (*column).to_owned()));
                count.map_or(format!("{:>20}", "."), |count| format!("{count:>20}"))
            });
            println!("{row:<20}  {}", cells.collect::<String>());
        }
    }
}

/// Does `then` while two agents answer one message after the other.
fn at_work(host: &Host, then: impl FnOnce()) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for agent in ["one", "two"] {
            start(host, agent, "echo");
            let over = &over;
            scope.spawn(move || {
                let answers = || host.client().try_send_wait(agent, "hi");
                while !over.load(Relaxed) && answers().is_ok_and(|answer| answer.status == 200) {}
            });
        }
        then();
        over.store(true, Relaxed);
    });
}

/// A fresh one, whatever earlier deaths of the host say of it: those that run when memory is short are suspects.
fn start(host: &Host, agent: &str, role: &str) {
    let fresh = json!({"ifRunning": "restart", "force": true});
    host.client().start_with(agent, role, fresh).expect(201);
}

fn strike(host: &Host, end: End, group: Option<&MemoryGroup>) {
    let kill = |signal| kill_process(host.supervisor_pid(), signal).expect("send a signal");
    match end {
        End::Asked => host.signal(Signal::TERM),
        End::Killed => kill(Signal::KILL),
        End::Panic(_) | End::Fault(_) => kill(Signal::USR2),
        End::KilledInDrain => {
            start(host, "deaf", "deaf");
            host.signal(Signal::TERM);
            host.wait_for_line("the drain", |line| {
                line["event"] == "container.draining" && line["phase"] == "stopping"
            });
            kill(Signal::KILL);
        }
        End::OutOfMemory => {
            let group = group.expect("a group");
            let kills = group.oom_kills();
            start(host, "leak", "leak");
            while group.oom_kills() == kills {
                let _ = host.client().try_send_wait("leak", "leak 16384");
            }
        }
        End::AskedInBoot | End::PortTaken | End::OtherMachine => {
            unreachable!("there is no run to end")
        }
    }
}

fn from_env<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_end_of_the_host_is_reported_by_its_name() {
    let _quiet = memory_group::kills_are_mine();
    let seed = from_env("KILL_MATRIX_SEED").unwrap_or_else(|| fastrand::u64(..));
    let rounds = from_env("KILL_MATRIX_ROUNDS").unwrap_or(ROUNDS);
    println!("seed {seed}, rounds {rounds}");
    let group = MemoryGroup::with_limit(MEMORY_LIMIT);
    if let Err(reason) = &group {
        println!("without kills for want of memory: {reason}");
    }
    let mut host = builder().start().ready();
    host.signal(Signal::TERM);
    host.wait();
    let (group, seen, wrong) = (group.ok(), BTreeMap::new(), Vec::new());
    let mut matrix = Matrix { host, group, pending: "clean", seen, wrong };
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..rounds {
        let mut ends = ENDS;
        random.shuffle(&mut ends);
        for (end, init) in ends {
            if end != End::OutOfMemory || matrix.group.is_some() {
                matrix.run(end, init);
            }
        }
    }
    matrix.launch(builder());
    matrix.host.signal(Signal::TERM);
    matrix.host.wait();
    matrix.print();
    assert!(matrix.wrong.is_empty(), "seed {seed}: {:#?}", matrix.wrong);
}
