//! What one incarnation uses, readable from outside without stopping it, and the switches that cut it
//! off.
//!
//! CPU time: on the fast lane short polls are measured by the monotonic clock (25 ns), because reading
//! the thread's own CPU clock is a system call. From the first epoch tick of a poll on, and always on
//! the slow lane and where its thread may block, the thread's CPU clock counts, so that a guest is not charged for time
//! in which its thread did not run. A short poll whose thread was held up before its end is charged at most what the
//! thread ran since its clock was read last, which is less than a millisecond ago when a poll begins.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bulkhead_account::Account;
use bulkhead_tasks::{CpuMax, Switch, Throttle, Throttled, watched};
use bulkhead_types::{HostBytes, Limits, Phase};
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::host_call::Current;
use crate::interrupt::Interrupt;
use crate::interrupt::WallEnd;
use crate::memory::Memory;

/// Limits of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// CPU time.
    pub cpu: Duration,
    /// Wall time.
    pub wall: Duration,
    /// Time in one host call.
    pub host_call: Duration,
}

/// One incarnation's meter. Written by the thread that runs the guest, read by anyone.
pub struct Meter {
    base: Instant,
    memory: Memory,
    /// CPU time of finished polls of the current call.
    cpu_call_ns: AtomicU64,
    /// CPU time of finished calls and polls of this incarnation.
    cpu_total_ns: AtomicU64,
    /// CPU time of the message under way, of all its turns.
    cpu_message_ns: AtomicU64,
    /// Its agent's: what it burns decides which lane its task is on.
    switch: Arc<Switch>,
    /// What its agent may use over time, and the throttle that knows what it used. `None`: there is no bound.
    cpu_max: Option<(CpuMax, Arc<Throttle>)>,
    /// The call under way may be made to wait for CPU time.
    is_throttleable: AtomicBool,
    cpu_throttled_ns: AtomicU64,
    poll: PollClock,
    host_calls: AtomicU64,
    in_host_call: AtomicBool,
    /// The host call under way has bounds of its own.
    has_own_bounds: AtomicBool,
    host_call: Arc<Current>,
    yielded: AtomicBool,
    is_asked_to_yield: AtomicBool,
    /// The call is about to block its thread, and has the permit for it.
    to_block: Mutex<Option<OwnedSemaphorePermit>>,
    lane: AtomicU8,
    killed: AtomicBool,
    wall_end: AtomicU8,
    cpu_limit_ns: AtomicU64,
    /// Of each message, and of the call under way: there is none where it is no turn.
    message_budget_ns: u64,
    message_limit_ns: AtomicU64,
    wall_limit_ns: AtomicU64,
    /// End of the current call, as nanoseconds since `base`.
    deadline_ns: AtomicU64,
    /// A call is under way.
    turns: watch::Sender<bool>,
}

/// Clock of the poll under way.
#[derive(Default)]
struct PollClock {
    began_ns: AtomicU64,
    /// Charged when the thread's clock took over, and that clock's reading then. -1: it has not.
    charged_ns: AtomicU64,
    thread_base_ns: AtomicI64,
}

/// A reading of a [`Meter`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Linear memories, tables and host bytes, in bytes: what is held against the limit.
    pub memory_bytes: u64,
    /// The linear memories and tables among them.
    pub guest_bytes: u64,
    /// What the host holds, by kind.
    pub host: HostBytes,
    /// The largest `memory_bytes`.
    pub memory_peak_bytes: u64,
    /// The hard limit.
    pub memory_limit_bytes: u64,
    /// The soft mark. 0 before the incarnation has a store.
    pub memory_soft_bytes: u64,
    /// `memory_bytes` was at the soft mark once.
    pub soft_limit_crossed: bool,
    /// Growths that were denied.
    pub denied_growths: u64,
    /// What the host did not take for the agent because of its limit: mail, lines, events, requests.
    pub refused: u64,
    /// CPU time of all calls, in microseconds.
    pub cpu_us: u64,
    /// Time in which calls waited for CPU time, in microseconds.
    pub cpu_throttled_us: u64,
    /// Calls from the guest into the host.
    pub host_calls: u64,
}

/// What a turn costs the host beside the guest's own time, in nanoseconds of CPU time: a third of a message's round trip
/// (`just bench`) is the agent's thread.
const TURN_NS: u64 = 50_000;

/// A host function without a name: nobody hears the names, see `host_call`, or the engine called itself.
const UNNAMED: &str = "unnamed";

/// What the epoch callback decides.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    GoOn,
    Yield,
    Interrupt(Interrupt),
}

/// Which lane a call runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Lane {
    Fast = 0,
    Slow = 1,
}

impl Meter {
    /// A meter with nothing used yet. Memory is held by `account`, CPU time fills the bucket of `switch` and counts
    /// against the bound over time in `throttle`.
    pub fn new(
        limits: &Limits,
        account: Arc<Account>,
        switch: Arc<Switch>,
        throttle: Arc<Throttle>,
    ) -> Self {
        Self {
            base: Instant::now(),
            memory: Memory::new(limits, account),
            cpu_call_ns: AtomicU64::new(0),
            cpu_total_ns: AtomicU64::new(0),
            cpu_message_ns: AtomicU64::new(0),
            switch,
            cpu_max: CpuMax::new(limits.cpu_max_percent).map(|max| (max, throttle)),
            is_throttleable: AtomicBool::new(false),
            cpu_throttled_ns: AtomicU64::new(0),
            poll: PollClock { thread_base_ns: AtomicI64::new(-1), ..PollClock::default() },
            host_calls: AtomicU64::new(0),
            in_host_call: AtomicBool::new(false),
            has_own_bounds: AtomicBool::new(false),
            host_call: Arc::default(),
            yielded: AtomicBool::new(false),
            is_asked_to_yield: AtomicBool::new(false),
            to_block: Mutex::default(),
            lane: AtomicU8::new(Lane::Fast as u8),
            killed: AtomicBool::new(false),
            wall_end: AtomicU8::new(WallEnd::Turn as u8),
            cpu_limit_ns: AtomicU64::new(u64::MAX),
            message_budget_ns: nanos(limits.message_cpu),
            message_limit_ns: AtomicU64::new(u64::MAX),
            wall_limit_ns: AtomicU64::new(u64::MAX),
            deadline_ns: AtomicU64::new(u64::MAX),
            turns: watch::Sender::new(false),
        }
    }

    /// Reads it.
    pub fn usage(&self) -> Usage {
        let memory = self.memory.reading();
        Usage {
            memory_bytes: memory.used_bytes(),
            guest_bytes: memory.guest_bytes,
            host: memory.host,
            memory_peak_bytes: memory.peak_bytes,
            memory_limit_bytes: memory.limit_bytes,
            memory_soft_bytes: memory.soft_bytes,
            soft_limit_crossed: memory.soft_crossings > 0,
            denied_growths: memory.denied_growths,
            refused: memory.refused,
            cpu_us: self.cpu_total_ns.load(Relaxed) / 1000,
            cpu_throttled_us: self.cpu_throttled_ns.load(Relaxed) / 1000,
            host_calls: self.host_calls.load(Relaxed),
        }
    }

    /// Wall time that is left to the call under way.
    pub fn time_left(&self) -> Duration {
        Duration::from_nanos(self.deadline_ns.load(Relaxed).saturating_sub(self.now_ns()))
    }

    /// Memory.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    // ---- one call ----

    /// `continues`: a further turn of the message under way. It costs the host more than most guests need for it, so
    /// it has a price.
    pub(crate) fn begin_call(&self, limits: &CallLimits, phase: Phase, continues: bool) {
        let wall_end = match phase {
            Phase::Workspace | Phase::Instantiate | Phase::Restore | Phase::Start => WallEnd::Start,
            Phase::Shutdown => WallEnd::Grace,
            Phase::Handle | Phase::Snapshot | Phase::Run | Phase::Idle => WallEnd::Turn,
        };
        self.wall_end.store(wall_end as u8, Relaxed);
        // Somebody waits for the others, and each has a deadline that is a promise.
        let is_throttleable = matches!(phase, Phase::Handle | Phase::Run);
        self.is_throttleable.store(is_throttleable, Relaxed);
        self.cpu_call_ns.store(0, Relaxed);
        if continues {
            self.cpu_message_ns.fetch_add(TURN_NS, Relaxed);
            self.switch.charge(TURN_NS);
        } else if phase == Phase::Handle {
            self.cpu_message_ns.store(0, Relaxed);
            // Who sent it paid, if it was an agent: see `charge_turn`.
            self.switch.credit(TURN_NS);
        }
        self.yielded.store(false, Relaxed);
        drop(self.take_to_block());
        self.in_host_call.store(false, Relaxed);
        self.host_call.forget();
        self.memory.begin_call();
        self.cpu_limit_ns.store(nanos(limits.cpu), Relaxed);
        let is_turn = phase == Phase::Handle;
        let message_limit_ns = if is_turn { self.message_budget_ns } else { u64::MAX };
        self.message_limit_ns.store(message_limit_ns, Relaxed);
        self.wall_limit_ns.store(nanos(limits.wall), Relaxed);
        self.deadline_ns.store(self.now_ns().saturating_add(nanos(limits.wall)), Relaxed);
        watched::set(&self.turns, true);
    }

    /// The guest returned, or will not. What the host does for it stands still until the next call.
    pub(crate) fn end_call(&self) {
        watched::set(&self.turns, false);
    }

    /// Whether a call is under way. It changes at the begin and at the end of each.
    pub(crate) fn turns(&self) -> watch::Receiver<bool> {
        self.turns.subscribe()
    }

    /// Charges CPU time that the host spent for the guest on another thread. Such threads have a low priority, so it
    /// counts against the agent's limits and leaves it its lane.
    pub(crate) fn charge(&self, used: Duration) {
        self.spend(nanos(used));
    }

    /// Does `work` on a thread of a low priority and charges what it took.
    pub(crate) fn charged<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = thread_cpu_ns();
        let done = work();
        let used_ns = thread_cpu_ns().saturating_sub(before).max(0).unsigned_abs();
        self.charge(Duration::from_nanos(used_ns));
        done
    }

    /// A guest sends a message: it pays for the turn that comes of it, with its time on the fast lane.
    pub(crate) fn charge_turn(&self) {
        self.switch.charge(TURN_NS);
    }

    /// Does `work` of the host's own for the agent, on the thread of the agent's task. It fills the agent's bucket, and
    /// counts against none of its limits.
    pub fn host_work<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = thread_cpu_ns();
        let done = work();
        self.switch.charge(thread_cpu_ns().saturating_sub(before).max(0).unsigned_abs());
        done
    }

    /// Whether the message under way has used its CPU time.
    pub(crate) fn is_message_over(&self) -> bool {
        self.cpu_message_ns.load(Relaxed) > self.message_budget_ns
    }

    /// Whether the guest may hold a thread for long without being interrupted: `memory.fill` is one instruction.
    pub(crate) fn set_large(&self, is_large: bool) {
        self.switch.set_large(is_large);
    }

    /// Whether its agent's task is on the slow lane, or will be at its next wait.
    pub fn is_on_slow_lane(&self) -> bool {
        self.switch.is_away()
    }

    /// The poll under way ends, and the guest goes on as soon as it is its turn.
    pub(crate) fn yields(&self) {
        self.yielded.store(true, Relaxed);
        self.switch.yields();
    }

    fn spend(&self, used_ns: u64) {
        self.cpu_call_ns.fetch_add(used_ns, Relaxed);
        self.cpu_message_ns.fetch_add(used_ns, Relaxed);
        self.cpu_total_ns.fetch_add(used_ns, Relaxed);
        if let Some((max, throttle)) = &self.cpu_max {
            throttle.charge(*max, used_ns);
        }
    }

    /// The bound over time, where it holds: not for a call that is about to end.
    fn cpu_max(&self) -> Option<&(CpuMax, Arc<Throttle>)> {
        let holds = self.is_throttleable.load(Relaxed) && !self.is_killed();
        self.cpu_max.as_ref().filter(|_| holds)
    }

    /// Whether the call under way has to wait for CPU time now.
    pub(crate) fn throttled(&self) -> Option<Throttled> {
        let (max, throttle) = self.cpu_max()?;
        throttle.throttled(*max)
    }

    /// The call under way waited for CPU time for so long. It does not count as time of the turn.
    pub(crate) fn was_throttled(&self, waited: Duration) {
        self.cpu_throttled_ns.fetch_add(nanos(waited), Relaxed);
        if self.cpu_max().is_some() {
            let later = |deadline: u64| Some(deadline.saturating_add(nanos(waited)));
            let _ = self.deadline_ns.fetch_update(Relaxed, Relaxed, later);
        }
    }

    /// Brings the call's deadline forward as a grace. From now on it is never put off.
    pub(crate) fn end_within(&self, time: Duration) {
        self.is_throttleable.store(false, Relaxed);
        let grace = self.now_ns().saturating_add(nanos(time));
        if self.deadline_ns.fetch_min(grace, Relaxed) > grace {
            self.wall_end.store(WallEnd::Grace as u8, Relaxed);
        }
    }

    /// Something else has to be done in the agent's task: a guest that computes yields at its next tick, and not only
    /// when its slice is over.
    pub fn ask_to_yield(&self) {
        self.is_asked_to_yield.store(true, Relaxed);
    }

    /// Whether it was asked to, and has not ticked since.
    pub fn is_asked_to_yield(&self) -> bool {
        self.is_asked_to_yield.load(Relaxed)
    }

    pub(crate) fn set_kill(&self) {
        self.killed.store(true, Relaxed);
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.killed.load(Relaxed)
    }

    pub(crate) fn lane(&self) -> Lane {
        if self.lane.load(Relaxed) == Lane::Slow as u8 { Lane::Slow } else { Lane::Fast }
    }

    // ---- one poll ----

    pub(crate) fn begin_poll(&self) {
        self.host_call.enter();
        self.poll.began_ns.store(self.now_ns(), Relaxed);
        // A thread of low priority may wait long for its core in the middle of a poll, one that may block for a disk.
        let base = match crate::lanes::is_nice() || crate::lanes::may_block() {
            true => thread_cpu_ns(),
            false => {
                LastReading::refresh();
                -1
            }
        };
        let lane = if crate::lanes::is_nice() { Lane::Slow } else { Lane::Fast };
        self.lane.store(lane as u8, Relaxed);
        self.poll.charged_ns.store(0, Relaxed);
        self.poll.thread_base_ns.store(base, Relaxed);
    }

    pub(crate) fn end_poll(&self) {
        Current::leave();
        let used_ns = self.poll_cpu_ns(false);
        self.spend(used_ns);
        self.switch.charge(used_ns);
    }

    /// The poll under way ends because the call is about to block its thread.
    pub(crate) fn set_to_block(&self, permit: OwnedSemaphorePermit) {
        *self.to_block.lock() = Some(permit);
    }

    /// Whether the poll that just ended did so because the call is about to block its thread.
    pub(crate) fn take_to_block(&self) -> Option<OwnedSemaphorePermit> {
        self.to_block.lock().take()
    }

    /// Whether the poll that just ended did so because the guest yielded, and not because it waits.
    pub(crate) fn take_yielded(&self) -> bool {
        self.yielded.swap(false, Relaxed)
    }

    /// CPU time of the poll under way. `tick` lets the thread's clock take over.
    fn poll_cpu_ns(&self, tick: bool) -> u64 {
        let base = self.poll.thread_base_ns.load(Relaxed);
        if base >= 0 {
            let since = thread_cpu_ns().saturating_sub(base).max(0);
            return self.poll.charged_ns.load(Relaxed) + since.unsigned_abs();
        }
        let wall = self.now_ns().saturating_sub(self.poll.began_ns.load(Relaxed));
        let wall = LastReading::bound(wall);
        if tick {
            self.poll.charged_ns.store(wall, Relaxed);
            self.poll.thread_base_ns.store(thread_cpu_ns(), Relaxed);
        }
        wall
    }

    /// The epoch callback: may the guest go on?
    pub(crate) fn on_tick(&self, slow_slice: Duration) -> Verdict {
        // The engine counts its own call of this callback as a host call.
        self.host_calls.fetch_sub(1, Relaxed);
        if self.is_killed() {
            return Verdict::Interrupt(Interrupt::Killed);
        }
        let poll = self.poll_cpu_ns(true);
        let used = self.cpu_call_ns.load(Relaxed) + poll;
        let limit = self.cpu_limit_ns.load(Relaxed);
        if used > limit {
            return Verdict::Interrupt(Interrupt::Cpu {
                used_ms: used / 1_000_000,
                limit_ms: limit / 1_000_000,
            });
        }
        let used = self.cpu_message_ns.load(Relaxed) + poll;
        let limit = self.message_limit_ns.load(Relaxed);
        if used > limit {
            return Verdict::Interrupt(Interrupt::MessageCpu {
                used_ms: used / 1_000_000,
                limit_ms: limit / 1_000_000,
            });
        }
        if self.now_ns() > self.deadline_ns.load(Relaxed) {
            return Verdict::Interrupt(self.wall_interrupt());
        }
        let slice_ns = match self.lane() {
            Lane::Fast => self.switch.room_ns(),
            Lane::Slow => nanos(slow_slice),
        };
        let room_ns = self.cpu_max().map_or(u64::MAX, |(max, throttle)| throttle.room_ns(*max));
        if self.is_asked_to_yield.swap(false, Relaxed) || poll >= slice_ns.min(room_ns) {
            self.yields();
            return Verdict::Yield;
        }
        Verdict::GoOn
    }

    /// What it means that the deadline passed.
    pub(crate) fn wall_interrupt(&self) -> Interrupt {
        match WallEnd::from_u8(self.wall_end.load(Relaxed)) {
            WallEnd::Turn => {
                Interrupt::Wall { limit_ms: self.wall_limit_ns.load(Relaxed) / 1_000_000 }
            }
            WallEnd::Grace => Interrupt::Grace,
            WallEnd::Start => Interrupt::StartDeadline,
        }
    }

    // ---- host calls ----

    pub(crate) fn enter_host(&self) {
        self.host_calls.fetch_add(1, Relaxed);
        self.host_call.forget();
        self.in_host_call.store(true, Relaxed);
        self.has_own_bounds.store(false, Relaxed);
    }

    pub(crate) fn leave_host(&self) {
        self.in_host_call.store(false, Relaxed);
    }

    /// The host call under way ends by itself, in time: the limit of host calls is not for it.
    pub(crate) fn set_own_bounds(&self) {
        self.has_own_bounds.store(true, Relaxed);
    }

    /// Whether the host call under way ends by itself, in time.
    pub(crate) fn has_own_bounds(&self) -> bool {
        self.has_own_bounds.load(Relaxed)
    }

    /// Whether the guest is in a host function.
    pub(crate) fn is_in_host_call(&self) -> bool {
        self.in_host_call.load(Relaxed)
    }

    /// The host function that the guest is in.
    pub fn host_call(&self) -> Option<&'static str> {
        let name = || self.last_host_call().unwrap_or(UNNAMED);
        self.is_in_host_call().then(name)
    }

    /// The host function that the guest entered last in the call under way, if it has a name. It may have
    /// returned.
    pub(crate) fn last_host_call(&self) -> Option<&'static str> {
        self.host_call.name()
    }

    /// Changes with every host call.
    pub(crate) fn host_call_number(&self) -> u64 {
        self.host_calls.load(Relaxed)
    }

    fn now_ns(&self) -> u64 {
        nanos(self.base.elapsed())
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

thread_local! {
    static LAST_READING: Cell<Option<LastReading>> = const { Cell::new(None) };
}

/// When the thread's CPU clock was read last, and what it said.
#[derive(Clone, Copy)]
struct LastReading {
    at: Instant,
    cpu_ns: i64,
}

impl LastReading {
    /// A reading is as good as new for so long.
    const FRESH: Duration = Duration::from_millis(1);

    fn now() -> Self {
        Self { at: Instant::now(), cpu_ns: thread_cpu_ns() }
    }

    fn refresh() {
        if LAST_READING.get().is_none_or(|last| last.at.elapsed() > Self::FRESH) {
            LAST_READING.set(Some(Self::now()));
        }
    }

    /// What a poll took at most, of what the monotonic clock says.
    fn bound(used_ns: u64) -> u64 {
        let Some(last) = LAST_READING.get().filter(|_| used_ns > nanos(Self::FRESH)) else {
            return used_ns;
        };
        let now = Self::now();
        LAST_READING.set(Some(now));
        used_ns.min(now.cpu_ns.saturating_sub(last.cpu_ns).max(0).unsigned_abs())
    }
}

/// CPU time of the calling thread.
pub(crate) fn thread_cpu_ns() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

#[cfg(test)]
mod tests;
