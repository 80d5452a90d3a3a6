//! An engine that does what a script says, in the time of a paused clock.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bulkhead_runtime::{
    AgentFailure, CallLimits, InstanceContext, LoadError, PendingDump, ShutdownReason, StartInfo,
    Symbolizing, TrappedStore,
};
use bulkhead_tasks::BucketRules;
use bulkhead_types::{Digest, Exception, Exit, ExitReason, Frames, Message, Next, Outcome, Phase};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::engine::{
    BoxCall, Call, CallEnd, Code, Component, Engine, EngineFacts, Instance, Mapping, SnapshotBytes,
};

/// What is asked of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Load,
    Instantiate,
    Restore,
    Start,
    Handle,
    Snapshot,
    Shutdown,
}

/// What comes of one operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Act {
    after: Duration,
    does: Does,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Return,
    /// Of a turn: the agent wants another one.
    Continue,
    Fail,
    Trap,
}

/// Returns at once.
pub(crate) fn returns() -> Act {
    takes(Duration::ZERO)
}

/// Returns after this time.
pub(crate) fn takes(after: Duration) -> Act {
    Act { after, does: Does::Return }
}

/// A turn that wants another one.
pub(crate) fn continues() -> Act {
    Act { after: Duration::ZERO, does: Does::Continue }
}

impl Act {
    /// The same after this time.
    pub(crate) fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }
}

/// Never returns.
pub(crate) fn hangs() -> Act {
    takes(Duration::from_secs(1_000_000))
}

/// Reports an error.
pub(crate) fn fails() -> Act {
    Act { after: Duration::ZERO, does: Does::Fail }
}

/// Traps at once.
pub(crate) fn traps() -> Act {
    traps_after(Duration::ZERO)
}

/// Traps after this time.
pub(crate) fn traps_after(after: Duration) -> Act {
    Act { after, does: Does::Trap }
}

/// An engine without guests. What no script says returns at once.
#[derive(Default)]
pub(crate) struct FakeEngine {
    script: Mutex<HashMap<Op, VecDeque<Act>>>,
    log: Mutex<Vec<String>>,
    instances: AtomicUsize,
    /// Where the next tasks run. Else on the runtime that asks.
    fast_lane: Mutex<VecDeque<Handle>>,
    /// The limits that each call came with.
    limits: Mutex<Vec<(Op, CallLimits)>>,
    /// Else the runtime that asks.
    slow_lane: Option<Handle>,
    /// What comes of the next exceptions whose sources are asked for.
    mappings: Mutex<Vec<Mapping>>,
}

impl FakeEngine {
    /// The sources of the next exceptions are found so.
    pub(crate) fn maps(
        &self,
        mapping: impl Future<Output = Option<Vec<Exception>>> + Send + 'static,
    ) {
        self.mappings.lock().push(mapping.boxed());
    }

    /// The limits of all calls of this kind.
    pub(crate) fn limits_of(&self, op: Op) -> Vec<CallLimits> {
        let limits = self.limits.lock();
        limits.iter().filter(|(of, _)| *of == op).map(|(_, limits)| *limits).collect()
    }

    /// One that has a slow lane of its own.
    pub(crate) fn with_slow_lane(lane: Handle) -> Self {
        Self { slow_lane: Some(lane), ..Self::default() }
    }

    /// One whose fast lane has these threads for the next tasks.
    pub(crate) fn with_fast_lane(lane: impl IntoIterator<Item = Handle>) -> Self {
        Self { fast_lane: Mutex::new(lane.into_iter().collect()), ..Self::default() }
    }

    /// What the next operations of this kind do.
    pub(crate) fn plan(&self, op: Op, acts: impl IntoIterator<Item = Act>) {
        self.script.lock().entry(op).or_default().extend(acts);
    }

    /// What was asked of it, in order, and which stores are gone.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().clone()
    }

    /// Resolves when this was asked of it.
    pub(crate) async fn reached(&self, line: &str) {
        while !self.log().iter().any(|logged| logged == line) {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// A component with a digest of such bytes.
    pub(crate) fn component(self: &Arc<Self>, byte: u8) -> Arc<dyn Component> {
        Arc::new(FakeComponent(Arc::clone(self), Digest([byte; 32])))
    }

    fn next(&self, op: Op) -> Act {
        let mut script = self.script.lock();
        script.get_mut(&op).and_then(VecDeque::pop_front).unwrap_or_else(returns)
    }

    /// Whether the next turn wants another one.
    fn continues(&self) -> bool {
        let script = self.script.lock();
        let next = script.get(&Op::Handle).and_then(VecDeque::front);
        next.is_some_and(|act| act.does == Does::Continue)
    }

    fn write(&self, line: String) {
        self.log.lock().push(line);
    }
}

impl Engine for FakeEngine {
    fn facts(&self) -> EngineFacts {
        EngineFacts {
            max_agents: 1,
            max_agent_memory_bytes: 1 << 30,
            compile_limit: Duration::from_secs(600),
            bucket: BucketRules::default(),
            slow_lane: self.slow_lane.clone().unwrap_or_else(Handle::current),
        }
    }

    fn fast_lane(&self) -> Handle {
        let lane = self.fast_lane.lock().pop_front();
        lane.unwrap_or_else(Handle::current)
    }

    fn load(
        self: Arc<Self>,
        name: Arc<str>,
        code: Code,
    ) -> BoxFuture<'static, Result<Arc<dyn Component>, LoadError>> {
        let load = async move {
            self.write("load".into());
            let Act { after, does } = self.next(Op::Load);
            let under_way = UnderWay(&self);
            wait(after).await;
            std::mem::forget(under_way);
            if does == Does::Return {
                return Ok(self.component(7));
            }
            let path = code.component;
            Err(LoadError::Unreadable { name, path, reason: "as the script says".into() })
        };
        load.boxed()
    }

    fn compiling_since(&self, _: &Path) -> Option<std::time::Instant> {
        None
    }

    fn compiling_bytes(&self) -> u64 {
        0
    }

    fn keep_core(&self, _: TrappedStore, _: &str) -> Option<PendingDump> {
        None
    }
}

/// A load that is not through.
struct UnderWay<'a>(&'a FakeEngine);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.write("load given up".into());
    }
}

struct FakeComponent(Arc<FakeEngine>, Digest);

impl Component for FakeComponent {
    fn digest(&self) -> Digest {
        self.1
    }

    fn source_digest(&self) -> Option<Digest> {
        None
    }

    fn is_program(&self) -> bool {
        false
    }

    fn initial_memory_bytes(&self) -> u64 {
        64 * 1024
    }

    fn instantiate(&self, _: Arc<InstanceContext>, limits: CallLimits) -> BoxCall<()> {
        let number = self.0.instances.fetch_add(1, Relaxed) + 1;
        self.0.write(match self.1.0[0] {
            7 => format!("instantiate {number}"),
            other => format!("instantiate {number} of {other}"),
        });
        call(Store { engine: Arc::clone(&self.0), number }, Op::Instantiate, limits, ())
    }

    fn mapped_to_sources(&self, _: &[Exception]) -> Option<Mapping> {
        self.0.mappings.lock().pop()
    }

    fn symbolize(&self, _: &Frames) -> Option<Symbolizing> {
        None
    }
}

/// What an instance holds. The log says when it is gone.
struct Store {
    engine: Arc<FakeEngine>,
    number: usize,
}

impl Drop for Store {
    fn drop(&mut self) {
        self.engine.write(format!("gone {}", self.number));
    }
}

struct FakeInstance(Store);

impl FakeInstance {
    fn call<T: Send + 'static>(
        self,
        op: Op,
        line: String,
        limits: CallLimits,
        value: T,
    ) -> BoxCall<T> {
        self.0.engine.write(line);
        call(self.0, op, limits, value)
    }
}

impl Instance for FakeInstance {
    fn is_command(&self) -> bool {
        false
    }

    fn start(self: Box<Self>, _: StartInfo, limits: CallLimits) -> BoxCall<()> {
        let line = format!("start {}", self.0.number);
        self.call(Op::Start, line, limits, ())
    }

    fn handle(self: Box<Self>, message: &Message, limits: CallLimits) -> BoxCall<Outcome> {
        let line = format!("handle {} {} {}", self.0.number, message.id, message.attempt);
        let next = if self.0.engine.continues() { Next::Continue } else { Next::Idle };
        self.call(Op::Handle, line, limits, Outcome { reply: None, reply_cut: false, next })
    }

    fn snapshot(self: Box<Self>, limits: CallLimits) -> BoxCall<SnapshotBytes> {
        let line = format!("snapshot {}", self.0.number);
        let state: SnapshotBytes = Box::new(*b"state");
        self.call(Op::Snapshot, line, limits, state)
    }

    fn restore(self: Box<Self>, _: Vec<u8>, limits: CallLimits) -> BoxCall<()> {
        let line = format!("restore {}", self.0.number);
        self.call(Op::Restore, line, limits, ())
    }

    fn shutdown(self: Box<Self>, reason: ShutdownReason, limits: CallLimits) -> BoxCall<()> {
        let line = format!("shutdown {} {reason:?}", self.0.number);
        self.call(Op::Shutdown, line, limits, ())
    }

    fn run(self: Box<Self>, _: CallLimits) -> BoxCall<()> {
        unreachable!("no instance here is a stock component")
    }
}

/// When a call ends that does not return before.
#[derive(Clone, Copy)]
struct End {
    at: Instant,
    is_killed: bool,
}

struct FakeCall<T> {
    future: BoxFuture<'static, CallEnd<T>>,
    end: watch::Sender<End>,
}

fn call<T: Send + 'static>(store: Store, op: Op, limits: CallLimits, value: T) -> BoxCall<T> {
    let Act { after, does } = store.engine.next(op);
    store.engine.limits.lock().push((op, limits));
    let (end, ends) = watch::channel(End { at: Instant::now() + limits.wall, is_killed: false });
    let future = async move {
        let store = store;
        match or_cut_off(after, ends).await {
            Err(End { is_killed, .. }) => CallEnd::Ended(interrupted(op, is_killed), None),
            Ok(()) => match does {
                Does::Return | Does::Continue => {
                    CallEnd::Returned(Box::new(FakeInstance(store)), Ok(value))
                }
                Does::Fail => {
                    let (code, message) = ("no".to_owned(), "as the script says".to_owned());
                    let failure = AgentFailure { code, message, fatal: false, thrown: None };
                    CallEnd::Returned(Box::new(FakeInstance(store)), Err(failure))
                }
                Does::Trap => {
                    let exit = Exit::new(ExitReason::Trap, phase(op), "as the script says");
                    CallEnd::Ended(exit, None)
                }
            },
        }
    };
    Box::new(FakeCall { future: future.boxed(), end })
}

/// Waits so long, or until the call is interrupted.
async fn or_cut_off(after: Duration, mut ends: watch::Receiver<End>) -> Result<(), End> {
    let mut work = pin!(wait(after));
    loop {
        let end = *ends.borrow_and_update();
        tokio::select! {
            biased;
            () = &mut work => return Ok(()),
            () = sleep_until(end.at) => return Err(end),
            changed = ends.changed() => changed.expect("the call has the sender"),
        }
    }
}

/// Waits. No time is no wait.
async fn wait(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

fn interrupted(op: Op, is_killed: bool) -> Exit {
    let reason = match op {
        _ if is_killed => ExitReason::Killed,
        Op::Instantiate | Op::Restore | Op::Start => ExitReason::StartFailed,
        _ => ExitReason::WallDeadline,
    };
    Exit::new(reason, phase(op), "was interrupted")
}

fn phase(op: Op) -> Phase {
    match op {
        Op::Load | Op::Instantiate => Phase::Instantiate,
        Op::Restore => Phase::Restore,
        Op::Start => Phase::Start,
        Op::Handle => Phase::Handle,
        Op::Snapshot => Phase::Snapshot,
        Op::Shutdown => Phase::Shutdown,
    }
}

impl<T> Future for FakeCall<T> {
    type Output = CallEnd<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CallEnd<T>> {
        self.future.as_mut().poll(cx)
    }
}

impl<T> Call<T> for FakeCall<T> {
    fn end_within(&mut self, time: Duration) {
        let at = Instant::now() + time;
        self.end.send_modify(|end| {
            if at < end.at {
                *end = End { at, is_killed: true };
            }
        });
    }

    fn kill(&self) {
        self.end.send_replace(End { at: Instant::now(), is_killed: true });
    }
}
