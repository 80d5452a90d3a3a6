//! What comes after what.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use bulkhead_runtime::{ShutdownReason, ToolProcess};
use bulkhead_types::memory::Eviction;
use bulkhead_types::{
    AgentSpec, AgentState, Event, ExitReason, Incarnation, Limits, RestartPolicy, RestartRules,
    RunningTool, SnapshotPolicy, SnapshotRules, Timestamp,
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::fake::{Op, fails, hangs, returns, takes, traps, traps_after};
use super::rig::{Rig, spec};
use crate::agent::Admission;
use crate::handle::AgentHandle;
use crate::refusal::{StartFailure, TurnReport};

const IDLE: AgentState = AgentState::Running { busy: false };
const SECOND: Duration = Duration::from_secs(1);

fn with_snapshots(when: SnapshotPolicy) -> AgentSpec {
    AgentSpec { snapshots: SnapshotRules { when, ..SnapshotRules::default() }, ..spec() }
}

fn eviction() -> Eviction {
    Eviction {
        score: 1.0,
        used_bytes: 1,
        idle: false,
        weight: 1.0,
        container_used_bytes: 1,
        container_limit_bytes: 1,
        alternatives: Vec::new(),
    }
}

/// Looks when somebody is woken, on the thread that wakes: a task on another thread sees no less.
struct OnWake<T> {
    look: Box<dyn Fn() -> T + Send + Sync>,
    seen: Mutex<Vec<T>>,
}

impl<T: Send + 'static> OnWake<T> {
    fn new(look: impl Fn() -> T + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { look: Box::new(look), seen: Mutex::default() })
    }

    /// Waits for something that has not happened.
    fn waits(self: &Arc<Self>, event: std::pin::Pin<&mut impl Future>) {
        let waker = Waker::from(Arc::clone(self));
        assert!(event.poll(&mut Context::from_waker(&waker)).is_pending());
    }

    fn seen(&self) -> Vec<T> {
        std::mem::take(&mut *self.seen.lock())
    }
}

impl<T: Send + 'static> Wake for OnWake<T> {
    fn wake(self: Arc<Self>) {
        let seen = (self.look)();
        self.seen.lock().push(seen);
    }
}

/// Another agent under the same id.
fn other() -> AgentSpec {
    AgentSpec { system_prompt: Some("other".into()), ..spec() }
}

#[tokio::test(start_paused = true)]
async fn a_start_has_a_deadline_and_no_limit_of_cpu_time_that_could_pass_before_it() {
    let rig = Rig::new();
    rig.keep_snapshot();
    let agent = rig.start(with_snapshots(SnapshotPolicy::Stop));
    agent.started().await.unwrap();
    for op in [Op::Instantiate, Op::Restore, Op::Start] {
        let limits = rig.engine.limits_of(op);
        assert_eq!(
            limits.iter().map(|limits| limits.cpu).collect::<Vec<_>>(),
            [Duration::MAX],
            "{op:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_incarnation_and_a_removal_are_never_at_one_workspace_together() {
    let rig = Rig::new();
    let (id, using) = (spec().id, &rig.container.workspace_use);
    let vacant = using.vacate(&id).expect("nobody is there");
    let agent = rig.start_in_a_workspace(spec());
    rig.engine.reached("load").await;
    sleep(spec().limits.start * 2).await;
    assert_eq!(rig.engine.log(), ["load"], "it waits, and its deadline stands still");
    drop(vacant);
    agent.started().await.unwrap();
    assert!(using.vacate(&id).is_none(), "it runs");
    // Another start of the same agent has to wait as well, and hears a stop.
    rig.engine.plan(Op::Shutdown, [takes(SECOND)]);
    let mut stop = pin!(rig.agent.stop(ShutdownReason::Stopped, "test"));
    assert!(timeout(SECOND / 2, &mut stop).await.is_err());
    assert!(using.vacate(&id).is_none(), "it shuts down");
    stop.await.expect("an end");
    let _vacant = using.vacate(&id).expect("it is gone");
    let agent = rig.start_in_a_workspace(spec());
    sleep(SECOND).await;
    rig.agent.stop(ShutdownReason::Stopped, "test").await;
    assert_eq!(agent.started().await.unwrap_err().kind, StartFailure::Superseded);
}

#[tokio::test(start_paused = true)]
async fn native_programs_are_gone_before_the_slot_is_free() {
    struct Program(Arc<AtomicBool>);
    impl ToolProcess for Program {
        fn memory_bytes(&self) -> Option<u64> {
            None
        }
        fn evict(&self) {}
        fn cancel(&self) {
            self.0.store(true, Relaxed);
        }
    }
    let rig = Rig::new();
    let agent = rig.running(spec()).await;
    let tool = |tool| RunningTool {
        tool,
        program: "git".into(),
        arguments: Vec::new(),
        started_at: Timestamp(0),
        memory_bytes: 0,
    };
    let tools = agent.publisher().tools();
    let cancelled = [Arc::default(), Arc::default()];
    tools.started(tool(1), Arc::new(Program(Arc::clone(&cancelled[0]))));
    let mut stop = pin!(rig.agent.stop(ShutdownReason::Stopped, "test"));
    assert!(timeout(SECOND, &mut stop).await.is_err(), "one still runs");
    assert!(cancelled[0].load(Relaxed));
    // One that begins at the last moment.
    tools.started(tool(2), Arc::new(Program(Arc::clone(&cancelled[1]))));
    assert!(cancelled[1].load(Relaxed));
    tools.ended(1);
    assert!(timeout(SECOND / 10, &mut stop).await.is_err(), "the other one");
    tools.ended(2);
    stop.await.expect("an end");
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_the_component_loads_gives_the_load_up() {
    let rig = Rig::new();
    rig.engine.plan(Op::Load, [hangs()]);
    let agent = rig.start(spec());
    rig.engine.reached("load").await;
    assert_eq!(rig.agent.stop(ShutdownReason::Stopped, "test").await, None, "nothing lived");
    assert_eq!(agent.started().await.unwrap_err().kind, StartFailure::Superseded);
    assert_eq!(rig.engine.log(), ["load", "load given up"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_a_snapshot_is_restored_ends_the_start_before_the_guests_own() {
    let rig = Rig::new();
    rig.keep_snapshot();
    rig.engine.plan(Op::Restore, [hangs()]);
    let agent = rig.start(with_snapshots(SnapshotPolicy::Stop));
    rig.engine.reached("restore 1").await;
    let exit = rig.agent.stop(ShutdownReason::Stopped, "test").await;
    assert_eq!(exit.expect("an end").reason, ExitReason::Stopped);
    assert_eq!(agent.started().await.unwrap_err().kind, StartFailure::Superseded);
    assert_eq!(rig.engine.log(), ["load", "instantiate 1", "restore 1", "gone 1"]);
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_snapshot_cannot_be_read_does_not_begin_without_it() {
    let rig = Rig::new();
    rig.keep_snapshot();
    rig.block_database();
    let agent = rig.start(with_snapshots(SnapshotPolicy::Stop));
    let error = agent.started().await.unwrap_err();
    assert_eq!(error.kind, StartFailure::Host);
    assert!(error.message.contains("snapshot could not be read"), "{}", error.message);
    assert!(!rig.engine.log().iter().any(|line| line.starts_with("start")));
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_the_guests_start_kills_it_at_once_and_asks_for_no_shutdown() {
    let rig = Rig::new();
    rig.engine.plan(Op::Start, [hangs()]);
    let agent = rig.start(spec());
    rig.engine.reached("start 1").await;
    let began = Instant::now();
    let exit = rig.agent.stop(ShutdownReason::Stopped, "test").await;
    assert_eq!(exit.expect("an end").reason, ExitReason::Stopped);
    assert!(began.elapsed() < SECOND, "there is nothing to wait for");
    assert_eq!(agent.started().await.unwrap_err().kind, StartFailure::Superseded);
    assert_eq!(rig.engine.log(), ["load", "instantiate 1", "start 1", "gone 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_the_turn_finish_within_its_grace_and_then_asks_for_the_shutdown() {
    let rig = Rig::new();
    rig.engine.plan(Op::Handle, [takes(2 * SECOND)]);
    let agent = rig.running(spec()).await;
    let delivery = rig.send(&agent, "m");
    rig.engine.reached("handle 1 m 1").await;
    let exit = rig.agent.stop(ShutdownReason::Stopped, "test").await;
    assert_eq!(exit.expect("an end").reason, ExitReason::Stopped);
    assert!(matches!(delivery.report.await, Ok(TurnReport::Finished(_))));
    let log = rig.engine.log();
    assert_eq!(log[3..], ["handle 1 m 1", "shutdown 1 Stopped", "gone 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_outlasts_the_grace_of_a_stop_is_killed_and_no_shutdown_follows() {
    let rig = Rig::new();
    rig.engine.plan(Op::Handle, [hangs()]);
    let agent = rig.running(spec()).await;
    let delivery = rig.send(&agent, "m");
    rig.engine.reached("handle 1 m 1").await;
    let began = Instant::now();
    let exit = rig.agent.stop(ShutdownReason::Stopped, "test").await;
    assert_eq!(exit.expect("an end").reason, ExitReason::Killed);
    let (waited, grace) = (began.elapsed(), spec().limits.shutdown);
    assert!(waited >= grace && waited < grace + SECOND, "{waited:?}");
    let report = delivery.report.await.unwrap();
    assert!(matches!(report, TurnReport::Ended { reason: ExitReason::Killed, .. }));
    assert_eq!(rig.engine.log()[3..], ["handle 1 m 1", "gone 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_kill_takes_what_is_left_of_the_grace_of_a_shutdown() {
    let rig = Rig::new();
    rig.engine.plan(Op::Shutdown, [hangs()]);
    rig.running(spec()).await;
    let began = Instant::now();
    let ending = rig.agent.order_stop(ShutdownReason::Stopped, "test");
    rig.engine.reached("shutdown 1 Stopped").await;
    rig.agent.kill("test");
    rig.agent.gone(&ending).await;
    assert!(began.elapsed() < SECOND, "the grace is five");
    let exit = rig.agent.current().unwrap().publisher().published().exit;
    assert_eq!(exit.expect("an end").reason, ExitReason::Killed);
    assert_eq!(rig.engine.log()[3..], ["shutdown 1 Stopped", "gone 1"]);
}

#[tokio::test(start_paused = true)]
async fn every_order_has_a_guest_that_computes_yield_for_it() {
    type Order = fn(&Rig, &AgentHandle);
    let orders: [(&str, Order); 3] = [
        ("stop", |rig, _| drop(rig.agent.order_stop(ShutdownReason::Stopped, "test"))),
        ("kill", |rig, _| drop(rig.agent.kill("test"))),
        ("evict", |_, agent| agent.evict(eviction(), SECOND)),
    ];
    for (name, order) in orders {
        let rig = Rig::new();
        // The fake engine has no ticks, so what was asked stays asked.
        rig.engine.plan(Op::Handle, [hangs()]);
        let agent = rig.running(spec()).await;
        let _delivery = rig.send(&agent, "m");
        rig.engine.reached("handle 1 m 1").await;
        let meter = &agent.state.instance_context.meter;
        assert!(!meter.is_asked_to_yield(), "{name}: nobody asked yet");
        order(&rig, &agent);
        assert!(meter.is_asked_to_yield(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_has_one_deadline_and_says_so_when_it_passes() {
    let rig = Rig::new();
    rig.engine.plan(Op::Instantiate, [takes(20 * SECOND)]);
    rig.engine.plan(Op::Start, [hangs()]);
    let began = Instant::now();
    let restart = RestartRules { policy: RestartPolicy::Temporary, ..RestartRules::default() };
    let agent = rig.start(AgentSpec { restart, ..spec() });
    let error = agent.started().await.unwrap_err();
    assert_eq!(error.kind, StartFailure::Deadline);
    let (waited, limit) = (began.elapsed(), Limits::default().start);
    assert!(waited >= limit && waited < limit + SECOND, "{waited:?}");
    assert_eq!(rig.engine.log(), ["load", "instantiate 1", "start 1", "gone 1"]);
}

#[tokio::test(start_paused = true)]
async fn loading_is_not_starting_and_takes_nothing_of_the_deadline() {
    let rig = Rig::new();
    rig.engine.plan(Op::Load, [takes(60 * SECOND)]);
    rig.engine.plan(Op::Start, [takes(20 * SECOND)]);
    rig.running(spec()).await;
    assert_eq!(rig.engine.log(), ["load", "instantiate 1", "start 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_a_turn_is_followed_by_a_backoff_and_a_higher_incarnation() {
    let rig = Rig::new();
    rig.engine.plan(Op::Handle, [traps()]);
    let first = rig.running(spec()).await;
    assert_eq!(first.tag().incarnation, Incarnation(1));
    let delivery = rig.send(&first, "m");
    let waiting = rig.shows(AgentState::Backoff).await;
    assert_eq!(waiting.tag().incarnation, Incarnation(1));
    assert_eq!(
        rig.engine.log().last().map(String::as_str),
        Some("gone 1"),
        "no incarnation is active"
    );
    assert!(matches!(delivery.report.await, Ok(TurnReport::Finished(_))));
    let second = rig.shows(IDLE).await;
    assert_eq!(second.tag().incarnation, Incarnation(2));
    let log = rig.engine.log();
    assert_eq!(log[3..], ["handle 1 m 1", "gone 1", "instantiate 2", "start 2", "handle 2 m 2"]);
}

#[tokio::test(start_paused = true)]
async fn messages_come_in_order_and_the_one_of_a_crash_comes_again_before_the_others() {
    let rig = Rig::new();
    rig.engine.plan(Op::Handle, [returns(), traps()]);
    let agent = rig.running(spec()).await;
    let mut reports = Vec::new();
    for id in ["a", "b", "c"] {
        reports.push(rig.send(&agent, id).report);
    }
    for report in reports {
        assert!(matches!(report.await, Ok(TurnReport::Finished(_))));
    }
    let log = rig.engine.log();
    let handled: Vec<_> = log.iter().filter(|line| line.starts_with("handle")).collect();
    assert_eq!(handled, ["handle 1 a 1", "handle 1 b 1", "handle 2 b 2", "handle 2 c 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_ends_its_agent_each_time_is_set_aside_and_the_agent_goes_on() {
    let rig = Rig::new();
    rig.engine.plan(Op::Handle, [traps(), traps()]);
    let agent = rig.running(spec()).await;
    let (poison, next) = (rig.send(&agent, "poison"), rig.send(&agent, "next"));
    let report = poison.report.await.unwrap();
    assert!(matches!(report, TurnReport::SetAside { attempts: 2, .. }), "{report:?}");
    assert!(matches!(next.report.await, Ok(TurnReport::Finished(_))));
    assert_eq!(rig.engine.log().last().map(String::as_str), Some("handle 3 next 1"));
}

#[tokio::test(start_paused = true)]
async fn one_crash_too_many_is_quarantined_and_nothing_begins_again() {
    let rig = Rig::new();
    rig.engine.plan(Op::Start, [traps(); 10]);
    let restart = RestartRules { max_restarts: 2, same_fault: 100, ..spec().restart };
    let spec = AgentSpec { restart, ..spec() };
    let first = rig.start(spec.clone());
    assert_eq!(first.started().await.unwrap_err().kind, StartFailure::GuestCrashed);
    let last = rig.shows(AgentState::Quarantined).await;
    assert_eq!(last.tag().incarnation, Incarnation(3));
    sleep(3600 * SECOND).await;
    let instances = |log: Vec<String>| log.iter().filter(|it| it.starts_with("inst")).count();
    assert_eq!(instances(rig.engine.log()), 3);
    let refused = rig.start(spec).started().await.unwrap_err();
    assert_eq!(refused.kind, StartFailure::Quarantined);
    assert_eq!(instances(rig.engine.log()), 3, "a start that is refused touches no engine");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_replaces_another_makes_its_instance_when_that_ones_store_is_gone() {
    let rig = Rig::new();
    rig.engine.plan(Op::Shutdown, [takes(2 * SECOND)]);
    let first = rig.running(spec()).await;
    let second = rig.running(other()).await;
    assert!(first.tag().incarnation < second.tag().incarnation);
    assert_eq!(first.publisher().published().exit.expect("an end").reason, ExitReason::Superseded);
    let log = rig.engine.log();
    let after = ["load", "shutdown 1 Superseded", "gone 1", "instantiate 2", "start 2"];
    assert_eq!(log[3..], after);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_cannot_load_leaves_what_runs_alone() {
    let rig = Rig::new();
    let first = rig.running(spec()).await;
    rig.engine.plan(Op::Load, [fails()]);
    let error = rig.start(other()).started().await.unwrap_err();
    assert_eq!(error.kind, StartFailure::ComponentUnreadable);
    assert_eq!(first.publisher().state(), IDLE);
    assert_eq!(rig.engine.log(), ["load", "instantiate 1", "start 1", "load"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_of_what_runs_joins_it_and_makes_no_instance() {
    let rig = Rig::new();
    let first = rig.running(spec()).await;
    let joined = rig.running(spec()).await;
    assert_eq!(joined.identity(), first.identity());
    assert_eq!(rig.engine.log(), ["load", "instantiate 1", "start 1", "load"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_of_what_starts_joins_it_and_both_are_answered_together() {
    let rig = Rig::new();
    rig.engine.plan(Op::Load, [takes(SECOND)]);
    let first = rig.start(spec());
    let (admission, second) = rig.admit(spec()).unwrap();
    assert_eq!(admission, Admission::Joined);
    let (first, second) = (first.started().await.unwrap(), second.started().await.unwrap());
    assert_eq!(first.identity(), second.identity());
    assert_eq!(rig.engine.log(), ["load", "instantiate 1", "start 1"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_turn_changed_is_in_a_snapshot_before_the_shutdown() {
    let rig = Rig::new();
    let agent = rig.running(with_snapshots(SnapshotPolicy::Stop)).await;
    rig.send(&agent, "m").report.await.unwrap();
    rig.agent.stop(ShutdownReason::Stopped, "test").await;
    let log = rig.engine.log();
    assert_eq!(log[3..], ["handle 1 m 1", "snapshot 1", "shutdown 1 Stopped", "gone 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_last_snapshot_that_hangs_has_half_of_the_grace() {
    let rig = Rig::new();
    rig.engine.plan(Op::Snapshot, [hangs()]);
    let agent = rig.running(with_snapshots(SnapshotPolicy::Stop)).await;
    rig.send(&agent, "m").report.await.unwrap();
    let began = Instant::now();
    let exit = rig.agent.stop(ShutdownReason::Stopped, "test").await;
    // A guest that is interrupted cannot be called again, so there is no shutdown, but there is an end in time.
    assert_eq!(exit.expect("an end").reason, ExitReason::Killed);
    assert!(began.elapsed() < spec().limits.shutdown);
    assert_eq!(rig.engine.log()[3..], ["handle 1 m 1", "snapshot 1", "gone 1"]);
}

#[tokio::test(start_paused = true)]
async fn turns_that_follow_each_other_are_in_one_snapshot_after_a_while() {
    let rig = Rig::new();
    let agent = rig.running(with_snapshots(SnapshotPolicy::Turn)).await;
    for id in ["a", "b"] {
        rig.send(&agent, id).report.await.unwrap();
    }
    rig.engine.reached("snapshot 1").await;
    sleep(60 * SECOND).await;
    let log = rig.engine.log();
    assert_eq!(log[3..], ["handle 1 a 1", "handle 1 b 1", "snapshot 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_the_turn_finish_and_nothing_is_restarted_after_it() {
    let rig = Rig::new();
    rig.engine.plan(Op::Handle, [takes(2 * SECOND)]);
    let agent = rig.running(spec()).await;
    let delivery = rig.send(&agent, "m");
    rig.engine.reached("handle 1 m 1").await;
    rig.container.drain();
    let exit = rig.agent.stop(ShutdownReason::Drained, "drain").await;
    assert_eq!(exit.expect("an end").reason, ExitReason::Drained);
    assert!(matches!(delivery.report.await, Ok(TurnReport::Finished(_))));
    sleep(3600 * SECOND).await;
    let log = rig.engine.log();
    assert_eq!(log[3..], ["handle 1 m 1", "shutdown 1 Drained", "gone 1"]);
    assert_eq!(rig.admit(spec()).unwrap_err().kind, StartFailure::Draining);
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_a_stop_was_ordered_is_not_restarted() {
    let rig = Rig::new();
    rig.engine.plan(Op::Handle, [traps_after(2 * SECOND)]);
    let agent = rig.running(spec()).await;
    rig.send(&agent, "m");
    rig.engine.reached("handle 1 m 1").await;
    let exit = rig.agent.stop(ShutdownReason::Stopped, "test").await;
    assert_eq!(exit.expect("an end").reason, ExitReason::Trap);
    sleep(3600 * SECOND).await;
    assert_eq!(rig.engine.log()[3..], ["handle 1 m 1", "gone 1"]);
    assert!(rig.agent.is_vacant());
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_a_backoff_cancels_the_restart() {
    let rig = Rig::new();
    rig.engine.plan(Op::Handle, [traps()]);
    let long = RestartRules { backoff: 60 * SECOND, ..spec().restart };
    let agent = rig.running(AgentSpec { restart: long, ..spec() }).await;
    let delivery = rig.send(&agent, "m");
    rig.shows(AgentState::Backoff).await;
    rig.agent.stop(ShutdownReason::Stopped, "test").await;
    assert!(matches!(delivery.report.await, Ok(TurnReport::Ended { .. })));
    sleep(3600 * SECOND).await;
    assert_eq!(rig.engine.log()[3..], ["handle 1 m 1", "gone 1"]);
    assert_eq!(rig.kept.count(|event| matches!(event, Event::RestartCancelled { .. })), 1);
}

#[tokio::test(start_paused = true)]
async fn an_agent_without_work_ends_when_its_role_says_so_and_not_before() {
    let rig = Rig::new();
    let limits = Limits { idle: Some(60 * SECOND), ..Limits::default() };
    let restart = RestartRules { policy: RestartPolicy::Transient, ..spec().restart };
    let agent = rig.running(AgentSpec { limits, restart, ..spec() }).await;
    sleep(50 * SECOND).await;
    rig.send(&agent, "m").report.await.unwrap();
    sleep(50 * SECOND).await;
    assert_eq!(agent.publisher().state(), IDLE, "a turn begins the time again");
    rig.shows(AgentState::Exited).await;
    assert_eq!(rig.engine.log()[3..], ["handle 1 m 1", "shutdown 1 Idle", "gone 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_is_logged_before_its_agent_can_take_it() {
    let rig = Rig::new();
    // Its task does not come to its mailbox, so this test waits there.
    rig.engine.plan(Op::Start, [hangs()]);
    let agent = rig.start(spec());
    rig.engine.reached("start 1").await;
    let kept = Arc::clone(&rig.kept);
    let logged = OnWake::new(move || kept.count(|it| matches!(it, Event::AgentMessage { .. })));
    let mut next = pin!(agent.mailbox().next());
    logged.waits(next.as_mut());
    rig.send(&agent, "m");
    assert_eq!(logged.seen(), [1]);
    next.await;
    let mut next = pin!(agent.mailbox().next());
    logged.waits(next.as_mut());
    agent.nudge("n".into(), "test".into(), "hi".into()).unwrap();
    assert_eq!(logged.seen(), [2]);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_shows_is_logged_and_counted() {
    let rig = Rig::new();
    rig.engine.plan(Op::Instantiate, (0..2).map(|_| fails()));
    let spec = AgentSpec { restart: RestartRules::default(), ..spec() };
    for deaths in 1..=2 {
        let agent = rig.start(spec.clone());
        let (kept, switch) = (Arc::clone(&rig.kept), agent.state.start.probation.switch());
        let ended = OnWake::new(move || {
            let failed = kept.count(|it| matches!(it, Event::AgentStartFailed { .. }));
            (failed, switch.is_away())
        });
        let mut watch = agent.publisher().watch();
        let mut end = pin!(watch.changed());
        ended.waits(end.as_mut());
        agent.started().await.unwrap_err();
        // A start that follows at once, on another thread, comes after it.
        assert_eq!(ended.seen(), [(deaths, deaths == 2)]);
    }
}
