//! The limiter: linear memories and tables of the whole component, summed into its meter.

use std::sync::Arc;

use async_trait::async_trait;
use bulkhead_types::MemoryPolicy;
use wasmtime::{Error, ResourceLimiterAsync, Result};

use crate::InstanceBounds;
use crate::growth_budget::{GrowthBudget, NoRoom};
use crate::host_call;
use crate::interrupt::Interrupt;
use crate::lanes::is_nice;
use crate::memory::Growth;
use crate::meter::Meter;

/// A table element is a pointer in the engine.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

pub(crate) struct Limiter {
    meter: Arc<Meter>,
    growth_budget: Arc<GrowthBudget>,
    bounds: InstanceBounds,
    large_bytes: u64,
    /// Its instances are made: a guest that grows from here on can see a denial.
    instantiated: bool,
    memories: Ledger,
    tables: Ledger,
}

#[derive(Clone, Copy)]
enum Kind {
    Memory,
    Table,
}

/// Sizes of all memories, or of all tables, of one store.
///
/// The engine does not say which memory grows, and its word that a growth failed can come without the
/// question before it, so it is not trusted to give anything back. What the engine does say truthfully
/// is the size before each growth: a grant that failed is corrected when that memory grows
/// again, and until then counts as held. Nothing is ever counted too low.
#[derive(Default)]
struct Ledger(Vec<Held>);

struct Held {
    before: usize,
    after: usize,
}

impl Ledger {
    /// Where in the ledger the one is that grows from `current`, if it is there.
    fn find(&self, current: usize) -> Option<usize> {
        let by =
            |wanted: fn(&Held) -> usize| self.0.iter().position(|held| wanted(held) == current);
        // One that is as large as its grant, else one whose grant failed.
        (current > 0).then(|| by(|held| held.after).or_else(|| by(|held| held.before))).flatten()
    }

    fn total(&self) -> usize {
        self.0.iter().map(|held| held.after).sum()
    }

    /// What the total would be.
    fn total_with(&self, current: usize, desired: usize) -> usize {
        let held = self.find(current).map_or(0, |at| self.0[at].after);
        (self.total() - held).saturating_add(desired)
    }

    fn set(&mut self, current: usize, desired: usize) {
        let held = Held { before: current, after: desired };
        match self.find(current) {
            Some(at) => self.0[at] = held,
            None => self.0.push(held),
        }
    }
}

impl Limiter {
    pub(crate) fn new(
        meter: Arc<Meter>,
        growth_budget: Arc<GrowthBudget>,
        bounds: InstanceBounds,
        large_bytes: u64,
    ) -> Self {
        let (memories, tables) = (Ledger::default(), Ledger::default());
        Self { meter, growth_budget, bounds, large_bytes, instantiated: false, memories, tables }
    }

    /// All instances are made.
    pub(crate) fn set_instantiated(&mut self) {
        self.instantiated = true;
    }

    async fn grow(
        &mut self,
        kind: Kind,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            self.meter.memory().growth_failed();
            return Ok(false);
        }
        let (growing, others) = match kind {
            Kind::Memory => (&self.memories, &self.tables),
            Kind::Table => (&self.tables, &self.memories),
        };
        let total = growing.total_with(current, desired).saturating_add(others.total());
        let requested = desired.saturating_sub(current);
        // Its own limit comes first. What it starts with is mapped from its image, and mostly never touched.
        let fits = self.meter.memory().fits(total as u64);
        if self.instantiated && fits && !self.there_is_room(requested).await? {
            return Ok(false);
        }
        let granted = self.may_hold(total, requested, !self.instantiated)?;
        if granted {
            let growing = match kind {
                Kind::Memory => &mut self.memories,
                Kind::Table => &mut self.tables,
            };
            growing.set(current, desired);
            self.leave_fast_lane(total as u64).await;
        }
        Ok(granted)
    }

    /// `memory.fill` and its like are one instruction each, which no tick interrupts: a guest that has much memory is on
    /// no fast thread from here on.
    async fn leave_fast_lane(&self, total_bytes: u64) {
        if total_bytes <= self.large_bytes {
            return;
        }
        self.meter.set_large(true);
        if !is_nice() {
            self.meter.yields();
            tokio::task::yield_now().await;
        }
    }

    /// Waits until the container has room for `bytes` more. The guest is paused like in a host call, and counts
    /// as being in one.
    async fn there_is_room(&self, bytes: usize) -> Result<bool> {
        let requested_bytes = bytes as u64;
        if self.growth_budget.try_take(requested_bytes) {
            return Ok(true);
        }
        self.meter.enter_host();
        host_call::name("memory.grow");
        let room = self.growth_budget.take(requested_bytes).await;
        self.meter.leave_host();
        if room.is_err() {
            self.meter.memory().deny_for_want_of_room(requested_bytes);
        }
        match room {
            Ok(()) => Ok(true),
            Err(NoRoom) if self.meter.memory().policy() == MemoryPolicy::Deny => Ok(false),
            Err(NoRoom) => Err(Interrupt::NoRoom { requested_bytes }.into()),
        }
    }

    /// Whether the whole may become `total` bytes. At context there is nobody who could see a denial.
    fn may_hold(&mut self, total: usize, requested: usize, at_instantiation: bool) -> Result<bool> {
        match self.meter.memory().hold(total as u64, requested as u64, at_instantiation) {
            Growth::Granted => Ok(true),
            Growth::Denied => Ok(false),
            Growth::Ends(cut) => Err(cut.into()),
        }
    }
}

#[async_trait]
impl ResourceLimiterAsync for Limiter {
    async fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        self.grow(Kind::Memory, current, desired, maximum).await
    }

    fn memory_grow_failed(&mut self, _error: Error) -> Result<()> {
        self.meter.memory().growth_failed();
        Ok(())
    }

    async fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        let bytes = |elements: usize| elements.saturating_mul(TABLE_ELEMENT_BYTES);
        self.grow(Kind::Table, bytes(current), bytes(desired), maximum.map(bytes)).await
    }

    fn table_grow_failed(&mut self, _error: Error) -> Result<()> {
        Ok(())
    }

    // What was read from the file says the same first. These hold also where that was read wrongly.

    fn instances(&self) -> usize {
        self.bounds.instances_of_a_store() as usize
    }

    fn memories(&self) -> usize {
        self.bounds.memories as usize
    }

    fn tables(&self) -> usize {
        self.bounds.tables as usize
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;
    use std::time::Instant;

    use bulkhead_types::{Limits, MemoryPolicy};

    use super::*;

    const LARGE: u64 = 5000;

    fn limiter(limit: u64) -> (Limiter, Arc<Meter>) {
        let on_memory_limit = MemoryPolicy::Deny;
        let limits = Limits { memory_bytes: limit, on_memory_limit, ..Limits::default() };
        let meter = Arc::new(Meter::new(&limits, Arc::default(), Arc::default(), Arc::default()));
        meter.memory().begin(Arc::new(|_| {}));
        let mut limiter =
            Limiter::new(Arc::clone(&meter), Arc::default(), InstanceBounds::default(), LARGE);
        limiter.set_instantiated();
        (limiter, meter)
    }

    #[tokio::test]
    async fn memories_and_tables_are_summed() {
        let (mut limiter, meter) = limiter(1000);
        assert!(limiter.memory_growing(0, 300, None).await.unwrap());
        assert!(limiter.memory_growing(0, 300, None).await.unwrap());
        assert!(limiter.table_growing(0, 10, None).await.unwrap());
        assert_eq!(meter.usage().memory_bytes, 680);
        assert!(limiter.memory_growing(300, 600, None).await.unwrap());
        assert!(!limiter.memory_growing(300, 600, None).await.unwrap());
        assert_eq!(meter.usage().memory_bytes, 980);
    }

    #[tokio::test]
    async fn what_grows_large_leaves_the_fast_lane_before_it_goes_on() {
        let (mut limiter, meter) = limiter(10_000);
        let mut waits = async |current, desired| {
            let growing = limiter.memory_growing(current, desired, None);
            tokio::pin!(growing);
            let polled = std::future::poll_fn(|cx| Poll::Ready(growing.as_mut().poll(cx))).await;
            let waits = polled.is_pending();
            assert!(!waits || growing.await.unwrap());
            (waits, meter.is_on_slow_lane())
        };
        assert_eq!(waits(0, 5000).await, (false, false));
        assert_eq!(waits(5000, 5001).await, (true, true));
        meter.set_large(false);
        assert_eq!(waits(0, 10).await, (true, true), "it is still large");
    }

    #[tokio::test]
    async fn a_failure_without_a_question_gives_nothing_back() {
        let (mut limiter, meter) = limiter(1000);
        for size in 0..9 {
            assert!(limiter.memory_growing(size * 100, (size + 1) * 100, None).await.unwrap());
            limiter.table_grow_failed(Error::msg("overflow")).unwrap();
            limiter.memory_grow_failed(Error::msg("overflow")).unwrap();
        }
        assert_eq!(meter.usage().memory_bytes, 900);
        assert!(!limiter.memory_growing(900, 1001, None).await.unwrap());
    }

    #[tokio::test]
    async fn a_grant_that_came_to_nothing_is_corrected_when_it_grows_again() {
        let (mut limiter, meter) = limiter(1000);
        assert!(limiter.memory_growing(0, 100, None).await.unwrap());
        assert!(limiter.memory_growing(100, 900, None).await.unwrap());
        limiter.memory_grow_failed(Error::msg("no memory")).unwrap();
        assert_eq!(meter.usage().memory_bytes, 900, "counted as held");
        assert!(limiter.memory_growing(100, 200, None).await.unwrap());
        assert_eq!(meter.usage().memory_bytes, 200);
    }

    #[tokio::test]
    async fn what_is_too_large_at_instantiation_is_never_shown_as_a_failed_growth() {
        let (mut limiter, _) = limiter(1000);
        limiter.instantiated = false;
        assert!(limiter.memory_growing(0, 600, None).await.unwrap());
        assert!(limiter.memory_growing(0, 600, None).await.is_err());
    }

    #[tokio::test]
    async fn what_the_container_has_no_room_for_is_not_held() {
        let (mut limiter, meter) = limiter(1000);
        assert!(limiter.memory_growing(0, 100, None).await.unwrap());
        limiter.growth_budget.set(Some(200), Instant::now());
        let growth_budget = Arc::clone(&limiter.growth_budget);
        let deny = async {
            tokio::task::yield_now().await;
            growth_budget.deny_above(0);
        };
        let (grown, ()) = tokio::join!(limiter.memory_growing(100, 200, None), deny);
        assert!(!grown.unwrap());
        let usage = meter.usage();
        assert_eq!((usage.memory_bytes, usage.denied_growths), (100, 1));
        assert!(limiter.memory_growing(100, 150, None).await.unwrap());
        assert!(!limiter.memory_growing(150, 1001, None).await.unwrap(), "its own limit is first");
    }
}
