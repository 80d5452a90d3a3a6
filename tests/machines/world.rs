//! One seed: machines and an engine in a namespace of their own, what befalls them, and what is found afterwards.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::wait_for;
use harness::wall_clock::WallClock;
use rustix::process::{Pid, Signal, kill_process};

use super::check::{self, Run};
use super::client::{self, Client};
use super::engine::{Engine, Register};
use super::machine::Machine;
use super::schedule::{self, Blow, SPAN, Strike, Which};
use super::{MACHINES, network};

/// From the end of the last fault until the town is served again: the TTL and its margin, a pause of the orchestrator, a
/// boot, and what a busy machine takes for all of it.
const BACK: Duration = Duration::from_secs(25);

/// Between two looks of the orchestrators.
const LOOK: Duration = Duration::from_millis(20);

pub struct World {
    pub machines: Vec<Machine>,
    pub engine: Engine,
    began: Instant,
    /// What was frozen by a strike, to be thawed at its end.
    frozen: Vec<(usize, Vec<Pid>)>,
    // The last to go.
    _dir: tempfile::TempDir,
}

impl World {
    /// In the namespaces of this process.
    pub fn new(register: Register, moto: Option<&str>) -> Self {
        network::lay_out();
        let dir = tempfile::tempdir().expect("a directory");
        let engine = Engine::start(register, moto, dir.path());
        engine.wait_until_up();
        let library = WallClock::new().expect("a wall clock");
        let machine = |number: usize| {
            let clock = library.another(&format!("machine-{number}")).expect("a wall clock");
            Machine::new(number, clock, &engine, dir.path())
        };
        let machines = (0..MACHINES).map(machine).collect();
        Self { machines, engine, began: Instant::now(), frozen: Vec::new(), _dir: dir }
    }

    pub fn look_after(&mut self) {
        self.machines.iter_mut().for_each(Machine::look_after);
    }

    /// Waits until a machine serves, and says which.
    #[track_caller]
    pub fn is_served(&mut self) -> usize {
        let began = Instant::now();
        loop {
            self.look_after();
            let addresses = self.machines.iter().map(Machine::address);
            if let Some(machine) = addresses.map(client::ready).position(|line| line.is_some()) {
                return machine;
            }
            let waited = began.elapsed();
            if waited > BACK {
                let lines = self.machines.iter().map(|machine| machine.copy().lines());
                let ends: Vec<_> =
                    lines.map(|lines| lines[lines.len().saturating_sub(8)..].to_vec()).collect();
                panic!("after {waited:.1?} no machine serves the town: {ends:#?}");
            }
            thread::sleep(LOOK);
        }
    }

    /// Waits for a moment, in milliseconds from the beginning.
    fn wait_for(&mut self, at: u64) {
        let at = self.began + Duration::from_millis(at);
        while let Some(left) = at.checked_duration_since(Instant::now()).filter(|it| !it.is_zero())
        {
            thread::sleep(left.min(LOOK));
            self.look_after();
        }
    }

    /// `serving`: who does, as far as that is known.
    fn suffer(&mut self, strikes: &mut [Strike], serving: &AtomicUsize, seed: u64) {
        self.began = Instant::now();
        let ends = |strike: &Strike| strike.at + strike.lasts;
        let mut moments: Vec<(u64, bool, usize)> = Vec::new();
        for (index, strike) in strikes.iter().enumerate() {
            moments.extend([(strike.at, true, index), (ends(strike), false, index)]);
        }
        moments.sort_unstable_by_key(|(at, is_begin, index)| (*at, !is_begin, *index));
        for (at, is_begin, index) in moments {
            self.wait_for(at);
            if is_begin {
                let machine =
                    *strikes[index].machine.get_or_insert(serving.load(Ordering::Relaxed));
                let Strike { lasts, blow, .. } = strikes[index];
                println!("{at:5} machine {machine}: {blow:?} for {lasts} ms");
                self.begin(index, machine, blow, seed);
            } else {
                self.end(index, strikes, at);
            }
        }
        self.wait_for(SPAN);
    }

    fn begin(&mut self, index: usize, machine: usize, blow: Blow, seed: u64) {
        let machine = &mut self.machines[machine];
        match blow {
            Blow::Kill(which) => machine.signal(which, Signal::KILL),
            Blow::Lose => machine.lose(),
            Blow::Freeze(which) => {
                self.frozen.push((index, machine.processes(which)));
                machine.signal(which, Signal::STOP);
            }
            Blow::Cut(way) => machine.namespace.cut(way),
            Blow::SlowDisk(ms) => machine.clock.set_sync_delay(ms),
            Blow::Skew(seconds) => machine.clock.set(seconds),
            Blow::Move => machine.signal(Which::Init, Signal::TERM),
            Blow::HandOver => client::hand_over(machine.address()),
            Blow::RegisterKilled => self.engine.kill(),
            Blow::RegisterFrozen => self.engine.freeze(),
            Blow::BucketAway => self.engine.pause_bucket(),
            Blow::BucketLossy(one_of) => self.engine.lose(one_of, seed),
        }
    }

    fn end(&mut self, index: usize, all: &[Strike], now: u64) {
        let Strike { machine: Some(machine), blow, .. } = all[index] else { return };
        // Another one of the kind goes on.
        let goes_on = |of_kind: fn(&Blow) -> bool| {
            all.iter().enumerate().any(|(other, it)| {
                other != index && of_kind(&it.blow) && it.at < now && now < it.at + it.lasts
            })
        };
        let machine = &mut self.machines[machine];
        match blow {
            Blow::Kill(_) | Blow::Lose | Blow::Skew(_) | Blow::Move | Blow::HandOver => {}
            Blow::Freeze(_) => {
                self.frozen.retain(|(of, pids)| {
                    if *of == index {
                        pids.iter().rev().for_each(|pid| _ = kill_process(*pid, Signal::CONT));
                    }
                    *of != index
                });
            }
            Blow::Cut(way) => machine.namespace.mend(way),
            Blow::SlowDisk(_) => machine.clock.set_sync_delay(0),
            Blow::RegisterKilled => self.engine.revive(),
            Blow::RegisterFrozen => self.engine.thaw(),
            Blow::BucketAway if goes_on(|it| matches!(it, Blow::BucketAway)) => {}
            Blow::BucketAway => self.engine.resume_bucket(),
            Blow::BucketLossy(_) => self.engine.lose(0, 0),
        }
    }

    /// Nothing is wrong with anything any more.
    fn heal(&mut self) {
        self.engine.revive();
        self.engine.resume_bucket();
        self.engine.lose(0, 0);
        self.engine.wait_until_up();
        for machine in &self.machines {
            machine.signal(Which::All, Signal::CONT);
        }
    }

    pub fn runs(&self) -> Vec<Run> {
        let machines = self.machines.iter().enumerate();
        let copies = machines.flat_map(|(number, machine)| {
            machine.copies().iter().enumerate().map(move |(copy, it)| (number, copy, it))
        });
        copies.flat_map(|(machine, copy, it)| check::runs(machine, copy, it)).collect()
    }
}

/// Plays one seed, and panics with what does not hold.
pub fn play(seed: u64, register: Register, moto: Option<&str>) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut strikes = schedule::strikes(&mut dice, MACHINES);
    let mut world = World::new(register, moto);
    world.is_served();
    let addresses = world.machines.iter().map(Machine::address).collect();
    let mut client = Client::new(addresses, dice.fork());
    let (is_over, serving) = (AtomicBool::new(false), client.machine_seen());
    let mut back = Duration::ZERO;
    thread::scope(|scope| {
        let works = scope.spawn(|| {
            // Whatever happens below, this ends with it.
            client.work(&is_over);
        });
        let ends = Ends(&is_over);
        world.suffer(&mut strikes, &serving, seed);
        world.heal();
        let healed = Instant::now();
        world.is_served();
        back = healed.elapsed();
        // Some more work, on what is left.
        thread::sleep(Duration::from_millis(300));
        drop(ends);
        works.join().expect("the client works");
    });
    let looked = |world: &mut World, client: &mut Client| {
        wait_for("the agents are listed", || {
            world.look_after();
            let line = client.find().ok_or("nobody serves")?;
            match client.look(line) {
                Ok(true) => Ok(client.machine()),
                other => Err(format!("{other:?}").leak() as &str),
            }
        })
    };
    // Whoever serves leaves, and another one begins.
    let holder = looked(&mut world, &mut client);
    let asked = Instant::now();
    world.machines[holder].signal(Which::Init, Signal::TERM);
    wait_for("the machine ends", || {
        let is_there = world.machines[holder].copy().is_there();
        if is_there { Err("it is there") } else { Ok(()) }
    });
    world.is_served();
    let moved = asked.elapsed();
    looked(&mut world, &mut client);
    let mut runs = world.runs();
    let found = check::problems(&mut runs, &client.said);
    let epochs: Vec<_> = runs.iter().filter_map(|run| run.epoch).collect();
    let said = &client.said;
    println!(
        "MACHINES_SEED={seed} {register:?}: {} blows, {} starts, {} stops, {} counts, {} lists, epochs {epochs:?}, back after {} ms, moved in {} ms",
        strikes.len(),
        said.starts,
        said.stops.len(),
        said.counted,
        said.claims.len(),
        back.as_millis(),
        moved.as_millis(),
    );
    if !found.is_empty() {
        for run in &runs {
            let at = |moment: Instant| moment.saturating_duration_since(world.began).as_millis();
            println!(
                "machine {} copy {} epoch {:?}: {} to {} ms",
                run.machine,
                run.copy,
                run.epoch,
                at(run.first),
                at(run.last)
            );
        }
        panic!("{} things do not hold:\n{}", found.len(), found.join("\n"));
    }
    // Where the bucket is away for most of the time nothing may be stopped.
    let tried = [said.starts, said.claims.len()];
    assert!(tried.iter().all(|count| *count > 0), "nothing was tried: {tried:?}");
}

/// Says that it is over, also when something panics.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
