use std::sync::Arc;

use bulkhead_runtime::ShutdownReason;
use bulkhead_runtime::symbolizer::{Symbolizer, SymbolizerConfig};
use bulkhead_store::journal::{self, Left, PromptMark, Takes};
use bulkhead_store::{Database, Journal};
use bulkhead_types::{
    AgentSpec, Digest, Event, Frame, Frames, IfRunning, Incarnation, Message, Phase, RestartRules,
    Sender,
};
use futures_util::FutureExt as _;
use tokio::sync::oneshot::error::TryRecvError;

use super::*;
use crate::actor::slot_guard::SlotGuard;
use crate::actor::task::StartTask;
use crate::actor::tests::fake::{FakeEngine, Op, fails};
use crate::actor::tests::rig::{self, Kept, order, spec};
use crate::agent::Agent;
use crate::container::Container;
use crate::crash_follow_up::CrashFollowUp;
use crate::incarnation::IncarnationState;
use crate::mailbox::Envelope;
use crate::order::{AgentScope, AgentSlot, StartOrder};
use crate::refusal::{StartError, StartFailure, TurnReport};
use crate::slot::{Acquired, Admitted, Slot, StartIntent};

mod source_maps;

/// The event of a message that is set aside.
const SET_ASIDE: &str = "agent.message_set_aside";

/// What the next run finds of the agent in this directory.
fn left(dir: &std::path::Path) -> Left {
    let prompt = PromptMark::of("");
    let takes = Takes { prompt, resumes: true, adopts_mail: false };
    journal::open(dir, 4).journal.take(&spec().id, takes).left()
}

fn scope(container: &Container) -> AgentScope {
    AgentScope::new(&spec().id, container)
}

struct Bench {
    /// Where the journal is.
    dir: tempfile::TempDir,
    kept: Arc<Kept>,
    engine: Arc<FakeEngine>,
    container: Arc<Container>,
    slot: Arc<AgentSlot>,
    scope: AgentScope,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal::open(dir.path(), 4).journal;
        Self::with(dir, journal)
    }

    fn with_slow_lane(lane: tokio::runtime::Handle) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal::open(dir.path(), 4).journal;
        Self::of(FakeEngine::with_slow_lane(lane), dir, journal)
    }

    fn with_fast_lane(threads: impl Iterator<Item = tokio::runtime::Handle>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal::open(dir.path(), 4).journal;
        Self::of(FakeEngine::with_fast_lane(threads), dir, journal)
    }

    fn with(dir: tempfile::TempDir, journal: Journal) -> Self {
        Self::of(FakeEngine::default(), dir, journal)
    }

    fn of(engine: FakeEngine, dir: tempfile::TempDir, journal: Journal) -> Self {
        let engine = Arc::new(engine);
        let (container, kept) = rig::container(Arc::clone(&engine), Database::absent(), journal);
        let (slot, scope) = (Arc::new(Slot::new(Incarnation(0))), scope(&container));
        Self { dir, kept, engine, container, slot, scope }
    }

    /// An agent in `starting` that has the reservation, without a task.
    fn reserved(&self) -> (AgentHandle, SlotGuard) {
        self.reserved_for(Arc::new(spec()))
    }

    fn reserved_for(&self, spec: Arc<AgentSpec>) -> (AgentHandle, SlotGuard) {
        let order = order(AgentSpec::clone(&spec), Instant::now());
        let if_running = IfRunning::Join;
        let intent = StartIntent { spec: &*spec, if_running, force: false, resumes: false };
        let task = StartTask::new(order, &self.scope, &self.slot, &self.container);
        let may_begin = || Ok::<_, StartError>(());
        let admitted = self.slot.admit(&intent, may_begin, || task.incarnation(None, 1));
        let Ok(Admitted::Reserved { ticket, entry, .. }) = admitted else { panic!("not let in") };
        let guard = SlotGuard::new(&entry, ticket, &self.slot);
        (entry, guard)
    }

    /// The same, and it holds the slot.
    async fn holding(&self) -> (AgentHandle, SlotGuard) {
        let (agent, mut guard) = self.reserved();
        let ticket = guard.ticket().unwrap();
        self.slot.ready(ticket).unwrap();
        let permits = &self.container.permits;
        let turn = self.slot.acquire(ticket, || Arc::clone(permits).try_acquire_owned().ok()).await;
        assert_eq!(turn, Acquired::Holder);
        guard.begins();
        (agent, guard)
    }

    fn task(&self) -> StartTask {
        let order = order(spec(), Instant::now());
        StartTask::new(order, &self.scope, &self.slot, &self.container)
    }

    /// What a run that follows finds of the agent, were this one killed now.
    fn left(&self) -> Left {
        left(self.dir.path())
    }

    fn live_and_free(&self) -> (usize, usize) {
        (self.container.context.active_agents(), self.container.permits.available_permits())
    }
}

/// Tasks of the bench run on the runtime that it is made on.
fn on_a_bench(test: impl AsyncFnOnce(&Bench)) {
    on_this_bench(Bench::new, test);
}

fn on_this_bench(make: impl FnOnce() -> Bench, test: impl AsyncFnOnce(&Bench)) {
    let lane = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    lane.block_on(async { test(&make()).await });
}

fn mail(agent: &AgentHandle) -> tokio::sync::oneshot::Receiver<TurnReport> {
    mail_of(&agent.state, "m")
}

fn mail_of(state: &IncarnationState, id: &str) -> tokio::sync::oneshot::Receiver<TurnReport> {
    let (report, sender) = tokio::sync::oneshot::channel();
    let envelope = Envelope::new(Message::new(id, Sender::Operator, "hi"), Some(report));
    state.start.mailbox.push(envelope, || {}).unwrap();
    sender
}

#[test]
fn a_task_that_is_lost_answers_everyone_leaves_its_records_and_gives_its_place_back() {
    on_a_bench(async |bench| {
        let (agent, guard) = bench.holding().await;
        let sender = mail(&agent);
        assert_eq!(bench.live_and_free(), (1, 0));

        drop(guard);

        assert!(!agent.is_live() && bench.slot.is_vacant());
        assert_eq!(bench.live_and_free(), (0, 1));
        assert!(agent.state.is_answered(), "callers that wait for the start wait for ever");
        let error = agent.started().await.unwrap_err();
        assert_eq!(error.kind, StartFailure::Host);
        assert!(matches!(
            sender.await.unwrap(),
            TurnReport::Ended { reason: ExitReason::HostError, crash_id: Some(_), .. }
        ));
        assert_eq!(bench.kept.count(|event| matches!(event, Event::AgentExit { .. })), 1);
        assert_eq!(bench.kept.count(|event| matches!(event, Event::AgentCrash(_))), 1);
        assert_eq!(bench.kept.count(|event| matches!(event, Event::RestartScheduled { .. })), 0);
    });
}

#[test]
fn a_task_that_is_lost_before_its_turn_gives_the_reservation_back() {
    on_a_bench(async |bench| {
        let (agent, guard) = bench.reserved();
        drop(guard);
        assert!(bench.slot.is_vacant() && bench.slot.shown().is_none());
        assert_eq!(agent.started().await.unwrap_err().kind, StartFailure::Host);
        assert_eq!(bench.kept.count(|event| matches!(event, Event::AgentExit { .. })), 0);
    });
}

#[test]
fn a_task_that_is_lost_in_its_backoff_leaves_no_agent_to_restart() {
    on_a_bench(async |bench| {
        let (agent, mut guard) = bench.holding().await;
        let reporter = Reporter::new(Arc::clone(&agent.state));
        let exit = Exit::new(ExitReason::Trap, Phase::Handle, "x");
        let context = EndContext { may_restart: true, ..EndContext::default() };
        guard.report_end(&reporter, &exit, context);
        assert!(guard.release(None).backoff.is_some());
        assert_eq!(agent.publisher().state().as_str(), "backoff");
        // The permit is kept for the next incarnation; none is active.
        assert_eq!(bench.live_and_free(), (0, 0));
        let sender = mail(&agent);

        drop(guard);

        assert_eq!(agent.publisher().state().as_str(), "exited");
        assert_eq!(bench.live_and_free(), (0, 1));
        assert!(matches!(sender.await.unwrap(), TurnReport::Ended { .. }));
    });
}

#[test]
fn a_record_waits_for_no_core_dump_and_the_slot_for_the_store() {
    on_a_bench(async |bench| {
        let (agent, mut guard) = bench.holding().await;
        let reporter = Reporter::new(Arc::clone(&agent.state));
        let exit = Exit::new(ExitReason::Trap, Phase::Handle, "x");
        let crash_id = Some("crash".to_owned());
        let context =
            EndContext { crash_id: crash_id.clone(), may_restart: true, ..EndContext::default() };
        guard.report_end(&reporter, &exit, context);

        assert!(bench.container.crashes.get("crash").is_some());
        assert_eq!(bench.kept.count(|event| matches!(event, Event::AgentCrash(_))), 1);
        assert!(agent.is_live() && bench.slot.occupant().is_some(), "its store is still there");
        assert_eq!(agent.publisher().published().exit, None);

        // A task that is lost now leaves no second end, and nobody who is waited for.
        drop(guard);

        let exit = agent.publisher().published().exit.expect("an end");
        assert_eq!((exit.reason, exit.crash_id), (ExitReason::Trap, crash_id));
        assert!(!agent.is_live() && bench.slot.is_vacant());
        assert_eq!(bench.live_and_free(), (0, 1));
        assert_eq!(bench.kept.count(|event| matches!(event, Event::AgentExit { .. })), 1);
    });
}

#[test]
fn while_agents_are_ended_for_want_of_memory_a_start_does_not_even_load() {
    on_a_bench(async |bench| {
        for (held, kind) in
            [(false, StartFailure::ComponentUnreadable), (true, StartFailure::Memory)]
        {
            bench.container.hold_starts(held);
            bench.engine.plan(Op::Load, [fails()]);
            let agent = Agent::new(spec().id, Incarnation(0), Arc::clone(&bench.container));
            let order = order(spec(), Instant::now() + Duration::from_secs(60));
            let (_, handle) = agent.start(order).unwrap();
            assert_eq!(handle.started().await.unwrap_err().kind, kind);
        }
    });
}

#[test]
fn an_agent_that_is_started_again_after_each_death_goes_to_the_slow_lane_all_the_same() {
    on_a_bench(async |bench| {
        bench.engine.plan(Op::Instantiate, (0..2).map(|_| fails()));
        let agent = Agent::new(spec().id, Incarnation(0), Arc::clone(&bench.container));
        let spec = AgentSpec { restart: RestartRules::default(), ..spec() };
        let started = || {
            let order = order(spec.clone(), Instant::now() + Duration::from_secs(60));
            agent.start(order).unwrap().1
        };
        let away = |handle: &AgentHandle| handle.state.start.probation.switch().is_away();
        for deaths in 0..2 {
            let handle = started();
            assert!(!away(&handle), "after {deaths} deaths");
            handle.started().await.unwrap_err();
            handle.down().await;
        }
        let handle = started();
        assert!(away(&handle));
        handle.started().await.unwrap();
        handle.state.start.probation.survived();
        assert!(!away(&handle));
    });
}

/// A runtime of one thread with this name.
fn thread(name: &str) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name(name)
        .enable_time()
        .build()
        .unwrap()
}

#[test]
fn each_start_that_begins_has_the_next_thread_of_the_fast_lane() {
    let threads = ["one", "two", "three"].map(thread);
    let bench = || Bench::with_fast_lane(threads.iter().map(|thread| thread.handle().clone()));
    on_this_bench(bench, async |bench| {
        let agent = Agent::new(spec().id, Incarnation(0), Arc::clone(&bench.container));
        let deadline = Instant::now() + Duration::from_secs(60);
        for _ in 0..3 {
            let (_, handle) = agent.start(order(spec(), deadline)).unwrap();
            handle.started().await.unwrap();
            // A start that finds all well has no task.
            let keep = StartOrder { if_running: IfRunning::Keep, ..order(spec(), deadline) };
            agent.start(keep).unwrap();
            agent.gone(&agent.kill("test")).await;
        }
        let begins = |event: &Event| matches!(event, Event::AgentStart { .. });
        assert_eq!(bench.kept.threads(begins), ["one", "two", "three"]);
    });
}

#[test]
fn what_is_found_out_after_a_crash_is_logged_on_the_slow_lane() {
    let slow = thread("slow");
    let bench = || Bench::with_slow_lane(slow.handle().clone());
    on_this_bench(bench, async |bench| {
        let (agent, _guard) = bench.holding().await;
        let mut follow_up = CrashFollowUp::of(Arc::clone(&agent.state), "c".into());
        let frames = Frames::from(vec![Frame::default()]);
        let digest = Digest::parse(&"0".repeat(64)).unwrap();
        let symbolizer = Symbolizer::start(SymbolizerConfig::default()).unwrap();
        let path = std::path::Path::new("absent").into();
        follow_up.symbolizing = Some(symbolizer.symbolize(digest, &path, &frames));
        // The agent may be gone for all to see before this one begins.
        assert!(bench.container.crash_follow_ups_are_done().now_or_never().is_none());
        follow_up.spawn();
        bench.container.crash_follow_ups_are_done().await;
        let is_found = |event: &Event| matches!(event, Event::CrashSymbolized { .. });
        assert_eq!(bench.kept.threads(is_found), ["slow"]);
    });
}

#[test]
fn a_task_that_is_lost_when_its_restart_has_begun_gives_the_slot_back() {
    on_a_bench(async |bench| {
        let order = order(spec(), Instant::now());
        let task = StartTask::new(order, &scope(&bench.container), &bench.slot, &bench.container);
        let (agent, mut guard) = bench.holding().await;
        let reporter = Reporter::new(Arc::clone(&agent.state));
        let exit = Exit::new(ExitReason::Trap, Phase::Handle, "x");
        let context = EndContext { may_restart: true, ..EndContext::default() };
        guard.report_end(&reporter, &exit, context);
        assert!(guard.release(None).backoff.is_some());
        let mut actor = Actor::new(&task, agent, Instant::now(), guard);

        let next = actor.back_off(Instant::now()).await;
        assert!(next.is_some() && !bench.slot.is_vacant());
        drop(next);
        drop(actor);

        assert!(bench.slot.is_vacant(), "nobody holds the slot, and it is held for ever");
        assert_eq!(bench.live_and_free(), (0, 1));
    });
}

/// The agent takes the mail that waits for it into a turn.
async fn takes_mail(agent: &AgentHandle) -> Envelope {
    let envelope = agent.state.start.mailbox.next().await;
    agent.state.delivers(&envelope);
    envelope
}

/// An end in the turn of `in_flight`, as its task reports it.
fn report_end(agent: &AgentHandle, guard: &mut SlotGuard, in_flight: Envelope) {
    let reporter = Reporter::new(Arc::clone(&agent.state));
    let exit = Exit::new(ExitReason::Trap, Phase::Handle, "x");
    let context =
        EndContext { in_flight: Some(in_flight), may_restart: true, ..EndContext::default() };
    guard.report_end(&reporter, &exit, context);
}

/// What the next run finds: its attempt, what counts against it, and whether its turn is taken to be under way.
fn found(left: &Left) -> Option<(u32, u32, bool)> {
    left.mail.as_ref().map(|kept| (kept.message.attempt, kept.faults, kept.in_turn))
}

#[test]
fn a_delivery_whose_task_is_lost_does_not_count_in_the_next_run() {
    on_a_bench(async |bench| {
        let task = bench.task();
        let (agent, guard) = bench.holding().await;
        let actor = Actor::new(&task, agent.clone(), Instant::now(), guard);
        actor.take_journal();
        let _sender = mail(&agent);
        drop(takes_mail(&agent).await);
        assert_eq!(found(&bench.left()), Some((1, 0, true)));
        drop(actor);
        assert_eq!(found(&bench.left()), Some((2, 0, false)));
    });
}

#[test]
fn a_delivery_that_a_drain_waits_no_longer_for_does_not_count_in_the_next_run() {
    on_a_bench(async |bench| {
        let task = bench.task();
        let (agent, guard) = bench.holding().await;
        let actor = Actor::new(&task, agent.clone(), Instant::now(), guard);
        actor.take_journal();
        let _sender = mail(&agent);
        let envelope = takes_mail(&agent).await;
        agent.kill("drain");
        agent.abandon(Duration::ZERO);
        assert_eq!(found(&bench.left()), Some((2, 0, false)));
        // Its turn ends after all, and its sender is answered.
        agent.state.is_done_with(&envelope.message);
        assert_eq!(found(&bench.left()), None);
    });
}

#[test]
fn what_ends_after_its_drain_has_reported_its_end_changes_nothing_about_its_message() {
    on_a_bench(async |bench| {
        let task = bench.task();
        let (agent, guard) = bench.holding().await;
        let mut actor = Actor::new(&task, agent.clone(), Instant::now(), guard);
        actor.take_journal();
        let _sender = mail(&agent);
        let envelope = takes_mail(&agent).await;
        agent.kill("drain");
        agent.abandon(Duration::ZERO);
        report_end(&agent, &mut actor.guard, envelope);
        assert_eq!(found(&bench.left()), Some((2, 0, false)));
    });
}

#[test]
fn a_message_that_is_set_aside_keeps_its_record_until_that_is_reported() {
    on_a_bench(async |bench| {
        let task = bench.task();
        let (agent, guard) = bench.holding().await;
        let mut actor = Actor::new(&task, agent.clone(), Instant::now(), guard);
        actor.take_journal();
        let (ring, dir) = (Arc::clone(&agent.state.start.ring), bench.dir.path().to_owned());
        let (reported, seen) = std::sync::mpsc::sync_channel(1);
        bench.kept.look_at(move |event| {
            if let Event::MessageSetAside { .. } = event {
                let is_event = ring.after(0).events.iter().any(|it| &*it.event == SET_ASIDE);
                reported.send((is_event, found(&left(&dir)))).unwrap();
            }
        });
        let _sender = mail(&agent);
        let mut envelope = takes_mail(&agent).await;
        envelope.past.faults = 1;
        report_end(&agent, &mut actor.guard, envelope);
        // Killed right then, the next run reports it once more rather than nobody ever.
        assert_eq!(seen.recv(), Ok((true, Some((1, 0, true)))));
        assert_eq!(found(&bench.left()), None);
    });
}

#[test]
fn a_start_that_comes_while_a_crash_is_reported_finds_no_message_that_is_answered() {
    on_a_bench(async |bench| a_start_comes_while_a_crash_is_reported(bench, true).await);
}

#[test]
fn so_does_one_whose_stop_order_comes_after_the_report() {
    on_a_bench(async |bench| a_start_comes_while_a_crash_is_reported(bench, false).await);
}

async fn a_start_comes_while_a_crash_is_reported(bench: &Bench, orders_first: bool) {
    let (task, next_task) = (bench.task(), bench.task());
    let (agent, guard) = bench.holding().await;
    let mut actor = Actor::new(&task, agent.clone(), Instant::now(), guard);
    actor.take_journal();
    let mut sender = mail(&agent);
    let envelope = takes_mail(&agent).await;
    report_end(&agent, &mut actor.guard, envelope);
    assert_eq!(found(&bench.left()), Some((2, 1, false)), "it waits to be delivered again");

    // Its core is being copied; a start of something else takes over now.
    let other = AgentSpec { prompt: "other".into(), ..spec() };
    let (next, mut next_guard) = bench.reserved_for(Arc::new(other));
    let ticket = next_guard.ticket().unwrap();
    bench.slot.ready(ticket).unwrap();
    let order = || agent.stop(ShutdownReason::Superseded, "start");
    orders_first.then(order);
    assert!(actor.guard.release(None).backoff.is_some());
    (!orders_first).then(order);
    let permits = &bench.container.permits;
    let turn = bench.slot.acquire(ticket, || Arc::clone(permits).try_acquire_owned().ok()).await;
    assert_eq!(turn, Acquired::Holder);
    next_guard.begins();
    let next = Actor::new(&next_task, next, Instant::now(), next_guard);
    next.adopt_left_mail();
    next.take_journal();
    assert_eq!(found(&bench.left()), Some((2, 1, false)), "the new one has it");
    // The new one is at work when the one before notices.
    let again = next.state.start.mailbox.next().await;
    assert_eq!((&*again.message.id, again.message.attempt), ("m", 2));
    next.state.delivers(&again);
    assert!(actor.back_off(Instant::now()).await.is_none());
    assert_eq!(sender.try_recv(), Err(TryRecvError::Empty), "its sender still waits");
    assert_eq!(found(&bench.left()), Some((2, 1, true)));
}

#[test]
fn a_start_that_is_withdrawn_leaves_no_message_that_is_answered() {
    on_a_bench(async |bench| {
        let (task, next_task) = (bench.task(), bench.task());
        let (agent, guard) = bench.holding().await;
        let mut actor = Actor::new(&task, agent.clone(), Instant::now(), guard);
        actor.take_journal();
        let sender = mail(&agent);
        let envelope = takes_mail(&agent).await;
        report_end(&agent, &mut actor.guard, envelope);
        assert!(actor.guard.release(None).backoff.is_some());

        let (next, next_guard) = bench.reserved();
        bench.slot.ready(next_guard.ticket().unwrap()).unwrap();
        let mut next = Actor::new(&next_task, next, Instant::now(), next_guard);
        next.adopt_mail(&agent.state.start);
        assert_eq!(found(&bench.left()), Some((2, 1, false)), "it is as safe as before");
        next.guard.withdraw(false);
        assert!(matches!(sender.await.unwrap(), TurnReport::Ended { .. }));
        assert_eq!(found(&bench.left()), None);
    });
}

#[test]
fn mail_that_is_taken_over_keeps_its_record_in_the_turn_of_the_start_that_has_it() {
    on_a_bench(async |bench| {
        let (task, next_task) = (bench.task(), bench.task());
        let (agent, guard) = bench.holding().await;
        let mut actor = Actor::new(&task, agent.clone(), Instant::now(), guard);
        actor.take_journal();
        let _sender = mail(&agent);
        let envelope = takes_mail(&agent).await;
        report_end(&agent, &mut actor.guard, envelope);
        assert!(actor.guard.release(None).backoff.is_some());
        let (next, next_guard) = bench.reserved();
        bench.slot.ready(next_guard.ticket().unwrap()).unwrap();
        let next = Actor::new(&next_task, next, Instant::now(), next_guard);
        next.adopt_mail(&agent.state.start);
        next.take_journal();
        assert_eq!(found(&bench.left()), Some((2, 1, false)));
        assert_eq!(next.state.start.mailbox.next().await.message.attempt, 2);
    });
}

#[test]
fn what_an_earlier_run_left_is_for_the_start_that_replaces_one_without_an_instance() {
    let dir = tempfile::tempdir().unwrap();
    let takes = Takes { prompt: PromptMark::of(""), resumes: false, adopts_mail: false };
    let before = journal::open(dir.path(), 4).journal.take(&spec().id, takes);
    let message = Message { attempt: 2, ..Message::new("left", Sender::Operator, "hi") };
    assert!(before.waits(&message, 1, &[]));
    // Another run, in which a start has its turn and is replaced.
    let journal = journal::open(dir.path(), 4).journal;
    on_this_bench(
        || Bench::with(dir, journal),
        async |bench| {
            let [first, second] = [bench.task(), bench.task()];
            let has_turn = |task| {
                let agent = StartTask::incarnation(task, None, 1);
                let guard = SlotGuard::holding(&agent, &bench.slot);
                let actor = Actor::new(task, agent, Instant::now(), guard);
                actor.take_journal();
                actor
            };
            drop(has_turn(&first));
            let last = has_turn(&second);
            last.queue_first().unwrap();
            let queued = last.state.start.mailbox.next().await;
            assert_eq!((queued.message.id.as_str(), queued.message.attempt), ("left", 2));
            last.queue_first().unwrap();
            assert!(last.state.start.mailbox.is_empty(), "once");
        },
    );
}
