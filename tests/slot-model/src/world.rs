// What is around a slot. Included beside each version of it: `super::slot` is the version.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex as Plain, Weak};
use std::time::Duration;

use bulkhead_types::restart::{Decision, PastEnd};
use bulkhead_types::{
    AgentState, Digest, Exit, ExitReason, IfRunning, Incarnation, Phase, RestartPolicy, RestartRules, RestartState,
    Timestamp,
};
use futures_util::future::{Either, select};
use futures_util::pin_mut;
use shuttle::future::{JoinHandle, block_on, spawn, yield_now};

use super::mail::{Mailbox, Office};
use super::slot::{Admitted, Before, NotReady, Slot, Stopped, SlotEntry, Ticket, Acquired, StartIntent};
use crate::scenario::{Fate, Scenario, Step};
use crate::sync::watch;

/// Permits among all agents. One: an agent that loses its permit cannot run.
const PERMITS: usize = 1;

/// Plays a scenario to its end and checks, all the way, that at most one incarnation is active, that each begins
/// with a higher number than those before, that no start replaces what it asks for, that every start and every
/// message is answered, and that the journal has no message that is. Call it under the checker.
pub fn play(scenario: &Scenario) {
    let world = World::new(scenario);
    LAST.with(|last| *last.lock().unwrap() = Arc::downgrade(&world));
    block_on(async {
        for step in &scenario.first {
            world.act(*step).await;
        }
        let mut actors = Vec::new();
        for steps in scenario.then.clone() {
            let world = Arc::clone(&world);
            actors.push(spawn(async move {
                for step in steps {
                    world.act(step).await;
                }
            }));
        }
        for actor in actors {
            actor.await.unwrap();
        }
        if !scenario.ends_by_itself {
            world.stop().await;
        }
        world.check_end().await;
    });
}

// Plain primitives below are no steps of the scheduler: they observe.
struct World {
    slot: Slot<Fake, Permit>,
    active: Plain<Option<Incarnation>>,
    made: Plain<Vec<Fake>>,
    /// In the order in which they were given.
    numbers: Arc<Plain<Vec<Incarnation>>>,
    /// In the order in which they began.
    entered: Plain<Vec<Incarnation>>,
    exited: Plain<Vec<Incarnation>>,
    /// Some start wants a fresh incarnation, whatever runs.
    restarts: bool,
    tasks: Plain<Vec<JoinHandle<()>>>,
    permits: Arc<AtomicUsize>,
    drains: Flag,
    starts: AtomicUsize,
    answers: AtomicUsize,
    office: Arc<Office>,
}

/// An incarnation.
#[derive(Clone)]
struct Fake(Arc<FakeInner>);

struct FakeInner {
    number: Plain<Option<Incarnation>>,
    numbers: Arc<Plain<Vec<Incarnation>>>,
    spec: u8,
    mail: Arc<Mailbox>,
    state: Plain<AgentState>,
    ordered: Flag,
    answered: Flag,
    /// The incarnation that its start joined.
    joined: Plain<Option<Fake>>,
    gone: Flag,
}

/// A permit that is taken.
struct Permit(Arc<AtomicUsize>);

/// Something that happens once.
struct Flag {
    set: AtomicBool,
    changed: watch::Sender<()>,
}

struct Refused;

thread_local! {
    static LAST: Plain<Weak<World>> = const { Plain::new(Weak::new()) };
}

/// For the version that cancels under its lock.
pub(super) fn cancel_and_wait(number: Option<Incarnation>) {
    let world = LAST.with(|last| last.lock().unwrap().upgrade()).unwrap();
    let fake = world.made.lock().unwrap().iter().find(|fake| fake.incarnation() == number).cloned();
    let fake = fake.unwrap();
    fake.0.ordered.set();
    block_on(fake.0.gone.wait());
}

impl Flag {
    fn new() -> Self {
        Self { set: AtomicBool::new(false), changed: watch::Sender::new(()) }
    }

    fn set(&self) -> bool {
        let first = !self.set.swap(true, SeqCst);
        self.changed.send_replace(());
        first
    }

    fn is_set(&self) -> bool {
        self.set.load(SeqCst)
    }

    async fn wait(&self) {
        let mut changed = self.changed.subscribe();
        while !self.is_set() {
            changed.changed().await.unwrap();
        }
    }
}

impl From<RestartState> for Refused {
    fn from(_: RestartState) -> Self {
        Self
    }
}

impl SlotEntry for Fake {
    type Spec = u8;

    fn incarnation(&self) -> Option<Incarnation> {
        *self.0.number.lock().unwrap()
    }

    fn assign(&self, number: Incarnation) {
        let before = self.0.number.lock().unwrap().replace(number);
        assert!(before.is_none(), "{number:?} is given to {before:?}");
        let mut numbers = self.0.numbers.lock().unwrap();
        assert!(!numbers.contains(&number), "incarnation {number:?} was given before");
        numbers.push(number);
    }

    fn spec(&self) -> &u8 {
        &self.0.spec
    }

    fn is_same(&self, spec: &u8) -> bool {
        self.0.spec == *spec
    }

    fn component(&self) -> Option<Digest> {
        None
    }

    fn is_up(&self) -> bool {
        let state = *self.0.state.lock().unwrap();
        let is_up = matches!(state, AgentState::Starting | AgentState::Running { .. });
        is_up && !self.0.ordered.is_set()
    }

    fn is_starting(&self) -> bool {
        *self.0.state.lock().unwrap() == AgentState::Starting
    }
}

impl Fake {
    fn number(&self) -> Incarnation {
        self.incarnation().expect("what begins has a number")
    }

    fn set_state(&self, state: AgentState) {
        *self.0.state.lock().unwrap() = state;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

fn rules() -> RestartRules {
    RestartRules { policy: RestartPolicy::Transient, max_restarts: 2, ..RestartRules::default() }
}

impl World {
    fn new(scenario: &Scenario) -> Arc<Self> {
        let mut steps = scenario.first.iter().chain(scenario.then.iter().flatten());
        let restarts = |step: &Step| {
            matches!(step, Step::Start { if_running: IfRunning::Restart, .. })
        };
        Arc::new(Self {
            slot: Slot::new(Incarnation(0)),
            active: Plain::default(),
            made: Plain::default(),
            numbers: Arc::default(),
            restarts: steps.any(restarts),
            entered: Plain::default(),
            exited: Plain::default(),
            tasks: Plain::default(),
            permits: Arc::default(),
            drains: Flag::new(),
            starts: AtomicUsize::new(0),
            answers: AtomicUsize::new(0),
            office: Arc::default(),
        })
    }

    async fn act(self: &Arc<Self>, step: Step) {
        match step {
            Step::Start { spec, fate, if_running } => self.start(spec, fate, if_running).await,
            Step::Stop => self.stop().await,
            Step::Drain => {
                self.drains.set();
                self.stop().await;
                assert!(self.active.lock().unwrap().is_none(), "an incarnation is active after the drain");
            }
        }
    }

    // With a message that waits for it: every start has one.
    fn make(&self, spec: u8) -> Fake {
        self.make_with(spec, self.office.open())
    }

    fn make_with(&self, spec: u8, mail: Arc<Mailbox>) -> Fake {
        let fake = Fake(Arc::new(FakeInner {
            number: Plain::default(),
            numbers: Arc::clone(&self.numbers),
            spec,
            mail,
            state: Plain::new(AgentState::Starting),
            ordered: Flag::new(),
            answered: Flag::new(),
            joined: Plain::default(),
            gone: Flag::new(),
        }));
        self.made.lock().unwrap().push(fake.clone());
        fake
    }

    fn make_numbered(&self, number: Incarnation, before: &Fake) -> Fake {
        let fake = self.make_with(before.0.spec, Arc::clone(&before.0.mail));
        fake.assign(number);
        fake
    }

    fn acquire(&self) -> Option<Permit> {
        let take = |taken| (taken < PERMITS).then_some(taken + 1);
        self.permits.fetch_update(SeqCst, SeqCst, take).ok()?;
        Some(Permit(Arc::clone(&self.permits)))
    }

    // What `Agent::start` does, and then the caller waits for its answer.
    async fn start(self: &Arc<Self>, spec: u8, fate: Fate, if_running: IfRunning) {
        self.starts.fetch_add(1, SeqCst);
        let intent = StartIntent { spec: &spec, if_running, force: false, resumes: false };
        let may_begin = || if self.drains.is_set() { Err(Refused) } else { Ok(()) };
        match self.slot.admit(&intent, may_begin, || self.make(spec)) {
            Err(Refused) | Ok(Admitted::Kept(_)) => {}
            Ok(Admitted::Reserved { ticket, entry, superseded }) => {
                if let Some(superseded) = superseded {
                    assert!(!superseded.is_same(&spec), "a start superseded its equal");
                    superseded.0.ordered.set();
                }
                let (world, agent) = (Arc::clone(self), entry.clone());
                let task = spawn(async move { world.run(agent, ticket, fate).await });
                self.tasks.lock().unwrap().push(task);
                self.answer(entry, spec).await;
            }
            Ok(Admitted::Joined(entry)) => self.answer(entry, spec).await,
        }
        self.answers.fetch_add(1, SeqCst);
    }

    // What `AgentHandle::started` does.
    async fn answer(&self, mut agent: Fake, spec: u8) {
        loop {
            assert!(agent.is_same(&spec), "a start joined another agent");
            agent.0.answered.wait().await;
            let joined = agent.0.joined.lock().unwrap().clone();
            let Some(joined) = joined else { return };
            agent = joined;
        }
    }

    // What `Agent::stop` does.
    async fn stop(&self) {
        let Stopped { holder, next, backoff, upto } = self.slot.stop();
        for agent in [holder, next, backoff].into_iter().flatten() {
            agent.0.ordered.set();
        }
        self.slot.gone(upto).await;
        let active = *self.active.lock().unwrap();
        assert!(active.is_none_or(|number| number > upto), "{active:?} is active after a stop of {upto}");
    }

    // What the task of a start does, `StartTask::run`.
    async fn run(self: Arc<Self>, first: Fake, ticket: Ticket, mut fate: Fate) {
        if !self.reserve(&first, ticket, fate).await {
            self.slot.withdraw(ticket);
            first.0.mail.answer_all();
            first.0.answered.set();
            return;
        }
        first.0.mail.begins();
        let mut agent = first;
        while self.live(&agent, &mut fate).await {
            let Some(next) = self.rest(&agent).await else { return };
            agent = next;
        }
    }

    async fn reserve(&self, agent: &Fake, ticket: Ticket, fate: Fate) -> bool {
        // Its component loads.
        yield_now().await;
        if agent.0.ordered.is_set() || fate.load_fails {
            return false;
        }
        if let Some(up) = self.slot.join(ticket) {
            *agent.0.joined.lock().unwrap() = Some(up);
            return false;
        }
        let Before { holder, backoff } = match self.slot.ready(ticket) {
            Ok(before) => before,
            Err(NotReady::Joined(up)) => {
                *agent.0.joined.lock().unwrap() = Some(up);
                return false;
            }
            Err(NotReady::Gone | NotReady::Quarantined(_)) => return false,
        };
        if let Some(holder) = &holder {
            // What is up now was up then.
            let is_equal = holder.is_same(agent.spec()) && holder.is_up();
            assert!(self.restarts || !is_equal, "a start replaced its equal");
        }
        if let Some(backoff) = &backoff {
            agent.0.mail.adopt(&backoff.0.mail);
        }
        for before in [holder, backoff].into_iter().flatten() {
            before.0.ordered.set();
        }
        let turn = self.slot.acquire(ticket, || self.acquire());
        let gives_up = async {
            match fate.impatient {
                true => yield_now().await,
                false => agent.0.ordered.wait().await,
            }
        };
        pin_mut!(turn, gives_up);
        match select(turn, gives_up).await {
            Either::Left((turn, _)) => turn == Acquired::Holder,
            Either::Right(_) => false,
        }
    }

    // From the turn to the end. Whether it is restarted.
    async fn live(&self, agent: &Fake, fate: &mut Fate) -> bool {
        self.enter(agent);
        yield_now().await;
        let at_start = fate.start_crashes > 0;
        let crashes = if at_start { &mut fate.start_crashes } else { &mut fate.crashes };
        if !at_start && !agent.0.ordered.is_set() {
            agent.set_state(AgentState::Running { busy: false });
            agent.0.answered.set();
        }
        let mut in_turn = if at_start { None } else { agent.0.mail.take() };
        if *crashes > 0 {
            *crashes -= 1;
            yield_now().await;
        } else {
            if let Some(letter) = in_turn.take() {
                agent.0.mail.is_done(&letter);
                agent.0.mail.answer(letter);
            }
            agent.0.ordered.wait().await;
        }
        self.leave(agent);
        let reason = match agent.0.ordered.is_set() {
            true => ExitReason::Stopped,
            false => ExitReason::Trap,
        };
        let exit = Exit::new(reason, Phase::Handle, "");
        let end = PastEnd::new(&exit, Timestamp(0), agent.number(), String::new(), None);
        let may_restart = !self.drains.is_set();
        let decision = self.slot.decide(&rules(), end, Duration::ZERO, 0.0, may_restart);
        let comes_back = matches!(decision, Decision::Retry { .. });
        agent.set_state(if comes_back { AgentState::Backoff } else { AgentState::Failed });
        self.has_exited(agent);
        // Before anybody can take over what waits.
        match comes_back {
            true => in_turn.take().into_iter().for_each(|letter| agent.0.mail.put_back(letter)),
            false => in_turn.iter().for_each(|letter| agent.0.mail.is_done(letter)),
        }
        self.slot.end(agent.number(), comes_back);
        if !comes_back {
            in_turn.into_iter().for_each(|letter| agent.0.mail.answer(letter));
            agent.0.mail.answer_all();
        }
        agent.0.gone.set();
        agent.0.answered.set();
        comes_back
    }

    async fn rest(&self, agent: &Fake) -> Option<Fake> {
        let number = agent.number();
        let over = async {
            let (left_backoff, drains) = (self.slot.left_backoff(number), self.drains.wait());
            pin_mut!(left_backoff, drains);
            select(left_backoff, drains).await;
        };
        let timer = yield_now();
        pin_mut!(over, timer);
        let next = match select(over, timer).await {
            Either::Left(_) => None,
            Either::Right(_) => {
                self.slot.restart(number, |number| self.make_numbered(number, agent))
            }
        };
        if next.is_none() {
            self.slot.give_up_backoff(number);
            // A start that took over has what waited.
            agent.0.mail.answer_all();
            if !self.drains.is_set() {
                agent.0.ordered.wait().await;
            }
        }
        next
    }

    fn enter(&self, agent: &Fake) {
        let number = agent.number();
        let before = self.active.lock().unwrap().replace(number);
        assert!(before.is_none(), "{before:?} is active beside {number:?}");
        let permits = self.permits.load(SeqCst);
        assert_eq!(permits, 1, "an incarnation runs without a permit");
        let mut entered = self.entered.lock().unwrap();
        let last = entered.last().copied();
        assert!(last.is_none_or(|last| last < number), "{number:?} began after {last:?}");
        entered.push(number);
    }

    fn leave(&self, agent: &Fake) {
        let before = self.active.lock().unwrap().take();
        assert_eq!(before, Some(agent.number()), "another one is active");
    }

    fn has_exited(&self, agent: &Fake) {
        let mut exited = self.exited.lock().unwrap();
        assert!(!exited.contains(&agent.number()), "an incarnation ended twice");
        exited.push(agent.number());
    }

    async fn check_end(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap());
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(self.starts.load(SeqCst), self.answers.load(SeqCst), "a start was not answered");
        self.office.check_end();
        let made = self.made.lock().unwrap();
        assert!(made.iter().all(|fake| fake.0.answered.is_set()), "an incarnation did not answer");
        assert_eq!(*self.entered.lock().unwrap(), *self.exited.lock().unwrap(), "exits");
        assert!(self.slot.is_vacant(), "the slot is not vacant at the end");
        assert_eq!(self.permits.load(SeqCst), 0, "a permit was not given back");
    }
}
