// Included in each version of the protocol, whose fields it sees.

use super::{
    Boottime, Gate, Identity, Permit, Protocol, Record, Step, Version, Wrote, percent,
    takeover_after,
};
use super::{Duration, FENCE_PERCENT};
use crate::scenario::{Scenario, TTL};
use crate::search::{Found, World, search};

/// What the clock of a process shows that is not ahead, always: a tick makes everything that it knows older instead. So
/// worlds that differ only in how old they are, are one.
const NOW: u64 = 10_000;

/// Goes through all states of a scenario.
pub fn check(scenario: &Scenario, traced: bool) -> Found {
    search(State::new(scenario), traced)
}

/// The world at one moment.
#[derive(Clone, Hash)]
struct State {
    epochs: u64,
    losses: u8,
    releases: u8,
    crashes: u8,
    receives: bool,
    compares: bool,
    register: Option<(Version, Record)>,
    processes: Vec<Process>,
    /// Writes that have not arrived, the older one first.
    on_the_way: Vec<Write>,
    /// The newest epoch of which a permit is known, and whose it is.
    newest: (u64, usize),
    /// All of them, where somebody receives: what was sent under one may arrive at any time.
    permitted: Vec<(u64, usize)>,
    gate: Gate,
    /// What was received last.
    received: (u64, usize),
}

#[derive(Clone, Hash)]
struct Process {
    protocol: Protocol,
    speed: u64,
    now: Boottime,
    request: Option<Request>,
    /// What the work was permitted last. It goes on until then, whatever the protocol learns.
    permit: Option<Permit>,
    /// The epoch whose fence it reached: its work is being ended.
    fenced: u64,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Request {
    /// What it found, when it was sent: one that arrives later is the same as one that is sent later.
    Read(Option<(Version, Record)>),
    /// Its nonce, and what became of it.
    Write(u128, Option<Wrote>),
}

#[derive(Clone, Hash)]
struct Write {
    expected: Option<Version>,
    record: Record,
}

/// What happens, to which process.
#[derive(Debug, Clone)]
enum Action {
    Tick,
    /// It does what the protocol says.
    Step(usize),
    /// An answer arrives.
    Answer(usize),
    /// It gives up waiting for an answer.
    GiveUp(usize),
    Release(usize),
    Crash(usize),
    /// The write at this place arrives at the register.
    ServeWrite(usize),
    /// What was sent under the permit at this place arrives.
    Receive(usize),
}

fn protocol(process: usize) -> Protocol {
    let me = Identity { holder: format!("p{process}").into(), endpoint: "".into() };
    Protocol::new(me, Duration::from_nanos(TTL), 0)
}

fn version(nonce: u128) -> Version {
    Version(format!("{nonce:x}").into())
}

impl State {
    fn new(scenario: &Scenario) -> Self {
        let clocks = scenario.speeds.iter().zip(&scenario.ahead).enumerate();
        let processes = clocks.map(|(process, (speed, ahead))| Process {
            protocol: protocol(process),
            speed: *speed,
            now: Boottime(NOW + ahead),
            request: None,
            permit: None,
            fenced: 0,
        });
        Self {
            epochs: scenario.epochs,
            losses: scenario.losses,
            releases: scenario.releases,
            crashes: scenario.crashes,
            receives: scenario.receives,
            compares: scenario.compares,
            register: None,
            processes: processes.collect(),
            on_the_way: Vec::new(),
            newest: (0, 0),
            permitted: Vec::new(),
            gate: Gate::default(),
            received: (0, 0),
        }
    }

    /// Each new permit has the highest number, and at most one process is live.
    fn permit(&mut self, process: usize) -> Result<(), String> {
        let at = &mut self.processes[process];
        // The loop reports a permit only before its fence.
        let Some(permit) = at.protocol.permit().filter(|permit| permit.is_valid(at.now)) else {
            return Ok(());
        };
        if permit.epoch == at.fenced {
            return Err(format!("the permit of p{process} came again after its fence"));
        }
        at.permit = Some(permit);
        let of = (permit.epoch, process);
        if of != self.newest {
            if permit.epoch <= self.newest.0 {
                return Err(format!("epoch {} of p{process} is no new one", permit.epoch));
            }
            self.newest = of;
            if self.receives {
                self.permitted.push(of);
            }
        }
        let live = |at: &&Process| at.permit.is_some_and(|permit| permit.is_live(at.now));
        match self.processes.iter().filter(live).count() {
            0 | 1 => Ok(()),
            _ => Err(format!("p{process} is live beside another one")),
        }
    }

    /// A random number: one that nothing in the world has.
    fn nonce(&mut self) -> u128 {
        let mut highest = 0;
        self.each_record(|record| highest = highest.max(record.nonce & 0xffff));
        highest + 1
    }

    /// What the protocol says. Whether it is more than to wait.
    fn step(&mut self, process: usize) -> Result<bool, String> {
        let nonce = self.nonce();
        let at = &mut self.processes[process];
        match at.protocol.step(at.now, nonce) {
            Step::Wait(until) if until > at.now => return Ok(false),
            Step::Wait(_) => return Err(format!("p{process} waits for what is over")),
            Step::Read => at.request = Some(Request::Read(self.register.clone())),
            // The world ends here: what others do, they may do before.
            Step::Write { record, .. } if record.epoch > self.epochs => return Ok(false),
            Step::Write { expected, record } => {
                at.request = Some(Request::Write(record.nonce, None));
                self.on_the_way.push(Write { expected, record });
            }
            Step::Released => at.protocol.resume(),
        }
        Ok(true)
    }

    fn answer(&mut self, process: usize, request: Request) -> Result<(), String> {
        let at = &mut self.processes[process];
        match request {
            Request::Read(found) => at.protocol.read(at.now, Some(found)),
            Request::Write(_, wrote) => {
                at.protocol.wrote(at.now, wrote.unwrap_or(Wrote::Unclear));
            }
        }
        self.permit(process)
    }

    fn is_expected(&self, write: &Write) -> bool {
        let there = self.register.as_ref().map(|(version, _)| version);
        there == write.expected.as_ref() || !self.compares
    }

    fn serve_write(&mut self, at: usize) {
        let write = self.on_the_way.remove(at);
        let (is_expected, record) = (self.is_expected(&write), write.record);
        let version = version(record.nonce);
        let wrote = if is_expected { Wrote::Written(version.clone()) } else { Wrote::Unclear };
        for process in &mut self.processes {
            if process.request == Some(Request::Write(record.nonce, None)) {
                process.request = Some(Request::Write(record.nonce, Some(wrote.clone())));
            }
        }
        if is_expected {
            self.register = Some((version, record));
        }
    }

    fn tick(&mut self) {
        for at in &mut self.processes {
            let speed = at.speed;
            at.each_moment(|moment| moment.0 = moment.0.saturating_sub(speed));
            if let Some(permit) = at.permit.filter(|permit| !permit.is_valid(at.now)) {
                at.fenced = permit.epoch;
            }
        }
        // The moment that one broken version writes into the record.
        self.each_record(|record| {
            let stamp = (record.nonce >> 16).saturating_sub(200);
            record.nonce = stamp << 16 | record.nonce & 0xffff;
        });
    }

    /// Makes equal what is not to be told apart any more.
    fn canonical(mut self) -> Self {
        for at in &mut self.processes {
            at.forget();
        }
        // A write that cannot succeed any more, and that nobody waits for.
        let mut on_the_way = std::mem::take(&mut self.on_the_way);
        let awaits = |nonce| Some(Request::Write(nonce, None));
        on_the_way.retain(|write| {
            let is_awaited = |at: &Process| at.request == awaits(write.record.nonce);
            self.is_expected(write) || self.processes.iter().any(is_awaited)
        });
        self.on_the_way = on_the_way;
        self.rename();
        self
    }

    /// Gives nonces, and what is named by them, the lowest numbers in their order.
    fn rename(&mut self) {
        let mut nonces = Vec::new();
        self.each_record(|record| nonces.push(record.nonce & 0xffff));
        nonces.sort_unstable();
        nonces.dedup();
        let renamed = |nonce: u128| {
            let at = nonces.binary_search(&(nonce & 0xffff)).unwrap_or(nonces.len());
            nonce & !0xffff | (at as u128 + 1)
        };
        let mut rename = |version: &mut Version| {
            let nonce = u128::from_str_radix(&version.0, 16).unwrap();
            let new = renamed(nonce) & 0xffff;
            if new != nonce {
                *version = self::version(new);
            }
        };
        self.each_version(&mut rename);
        for at in &mut self.processes {
            if let Some(Request::Write(nonce, _)) = &mut at.request {
                *nonce = renamed(*nonce);
            }
        }
        self.each_record(|record| {
            record.nonce = renamed(record.nonce);
            record.counter = 0;
        });
    }

    fn each_record(&mut self, mut each: impl FnMut(&mut Record)) {
        self.register.iter_mut().for_each(|(_, record)| each(record));
        self.on_the_way.iter_mut().for_each(|write| each(&mut write.record));
        for Process { protocol, request, .. } in &mut self.processes {
            let seen = protocol.seen.iter_mut().filter_map(|seen| seen.content.as_mut());
            seen.for_each(|(_, record)| each(record));
            protocol.attempts.iter_mut().for_each(|attempt| each(&mut attempt.record));
            protocol.holding.iter_mut().for_each(|holding| each(&mut holding.record));
            if let Some(Request::Read(Some((_, record)))) = request {
                each(record);
            }
        }
    }

    fn each_version(&mut self, each: &mut impl FnMut(&mut Version)) {
        self.register.iter_mut().for_each(|(version, _)| each(version));
        self.on_the_way.iter_mut().filter_map(|write| write.expected.as_mut()).for_each(&mut *each);
        for Process { protocol, request, .. } in &mut self.processes {
            let seen = protocol.seen.iter_mut().filter_map(|seen| seen.content.as_mut());
            seen.for_each(|(version, _)| each(version));
            match request {
                Some(Request::Read(Some((version, _)))) => each(version),
                Some(Request::Write(_, Some(Wrote::Written(version)))) => each(version),
                _ => {}
            }
        }
    }
}

impl Process {
    fn each_moment(&mut self, mut each: impl FnMut(&mut Boottime)) {
        let Protocol { seen, attempts, holding, not_before, .. } = &mut self.protocol;
        each(not_before);
        seen.iter_mut()
            .flat_map(|seen| [&mut seen.since, &mut seen.checked_at])
            .for_each(&mut each);
        attempts.iter_mut().for_each(|attempt| each(&mut attempt.asked_at));
        holding.iter_mut().for_each(|holding| each(&mut holding.asked_at));
        if let Some(permit) = &mut self.permit {
            each(&mut permit.fence_at);
            each(&mut permit.until);
        }
    }

    /// Forgets moments that make no difference any more.
    fn forget(&mut self) {
        let now = self.now;
        self.permit = self.permit.filter(|permit| permit.is_live(now));
        if let Some(permit) = self.permit.as_mut().filter(|permit| !permit.is_valid(now)) {
            permit.fence_at = Boottime(0);
        }
        let protocol = &mut self.protocol;
        protocol.lost = None;
        let pause = protocol.pause();
        let is_over = |moment: Boottime, span| moment.after(span) <= now;
        let forget = |moment: &mut Boottime, span| {
            if is_over(*moment, span) {
                *moment = Boottime(0);
            }
        };
        forget(&mut protocol.not_before, Duration::ZERO);
        if let Some(seen) = &mut protocol.seen {
            forget(&mut seen.checked_at, pause);
            match &seen.content {
                Some((_, record)) if !record.released => {
                    forget(&mut seen.since, takeover_after(record.ttl));
                }
                _ => seen.since = Boottime(0),
            }
        }
        for attempt in &mut protocol.attempts {
            forget(&mut attempt.asked_at, percent(protocol.ttl, FENCE_PERCENT));
        }
        if protocol.releasing {
            protocol.holding.iter_mut().for_each(|holding| holding.asked_at = Boottime(0));
        }
    }
}

impl World for State {
    type Action = Action;

    fn actions(&self) -> Vec<Action> {
        let mut actions = vec![Action::Tick];
        for (process, at) in self.processes.iter().enumerate() {
            match &at.request {
                None => {
                    actions.push(Action::Step(process));
                    if self.releases > 0 && at.protocol.permit().is_some() {
                        actions.push(Action::Release(process));
                    }
                }
                Some(Request::Write(_, None)) => {}
                Some(_) => actions.push(Action::Answer(process)),
            }
            if self.losses > 0 && at.request.is_some() {
                actions.push(Action::GiveUp(process));
            }
            if self.crashes > 0 {
                actions.push(Action::Crash(process));
            }
        }
        actions.extend((0..self.on_the_way.len()).map(Action::ServeWrite));
        actions.extend((0..self.permitted.len()).map(Action::Receive));
        actions
    }

    fn after(&self, action: &Action) -> Result<Option<Self>, String> {
        let mut after = self.clone();
        match *action {
            Action::Tick => after.tick(),
            Action::Step(process) => {
                if !after.step(process)? {
                    return Ok(None);
                }
                after.permit(process)?;
            }
            Action::Answer(process) => {
                let request = after.processes[process].request.take().unwrap();
                after.answer(process, request)?;
            }
            Action::GiveUp(process) => {
                after.losses -= 1;
                let at = &mut after.processes[process];
                match at.request.take().unwrap() {
                    Request::Read(_) => at.protocol.read(at.now, None),
                    Request::Write(..) => at.protocol.wrote(at.now, Wrote::Unclear),
                }
                after.permit(process)?;
            }
            Action::Release(process) => {
                after.releases -= 1;
                // Nothing of the work runs any more.
                after.processes[process].permit = None;
                after.processes[process].protocol.release();
            }
            Action::Crash(process) => {
                after.crashes -= 1;
                after.processes[process].protocol = protocol(process);
                after.processes[process].request = None;
            }
            Action::ServeWrite(at) => after.serve_write(at),
            Action::Receive(at) => {
                let of = after.permitted[at];
                let last = after.received;
                if after.gate.admit(of.0) {
                    if of.0 < last.0 || of.0 == last.0 && of.1 != last.1 {
                        return Err(format!("epoch {} was received after {}", of.0, last.0));
                    }
                    after.received = of;
                }
            }
        }
        Ok(Some(after.canonical()))
    }
}
