//! Looking up names: on threads of their own, and in fair shares.
//!
//! ```text
//!   the agent's two ─▶ a slot ──▶ a thread ─▶ found
//!                         └─▶ given back at once when nobody waits any more, and in any case when it takes long
//! ```
//!
//! The system's resolver may hold its thread for many seconds, and nothing ends that. So giving up gives back the
//! slot that others wait for, while the thread goes on apart from the slots, and counts against its agent until
//! it is done. An agent's next incarnation inherits its share with all that is still under way.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_types::AgentId;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::shares::Shares;

/// Look-ups at one time that hold a slot, for all agents.
const SLOTS: usize = 32;

/// Threads: those of the slots, and those that go on although nobody waits. One that hangs has a stack of some tens of KiB.
const THREADS: usize = 256;

/// Look-ups at one time for one agent. The others wait.
const LOOKUPS_OF_AN_AGENT: usize = 2;

/// A look-up that takes longer holds no slot: a name server that answers does so sooner.
const LONG: Duration = Duration::from_millis(500);

/// Threads that look up names.
pub(crate) struct Resolver {
    /// Runs nothing by itself: only its blocking threads are used. There until this is dropped.
    threads: Option<Runtime>,
    handle: Handle,
    common: Common,
    /// Who uses them.
    shares: Shares,
}

/// One agent's way to them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Lookups {
    handle: Handle,
    common: Common,
    own: Arc<Semaphore>,
}

/// What all agents share.
#[derive(Clone)]
struct Common {
    slots: Arc<Semaphore>,
    threads: Arc<Semaphore>,
}

impl Resolver {
    pub(crate) fn start() -> io::Result<Self> {
        let mut builder = Builder::new_current_thread();
        builder.max_blocking_threads(THREADS);
        let threads = crate::lanes::with_one_thread(builder.thread_name("bulkhead-names"))?;
        let handle = threads.handle().clone();
        let [slots, all_threads] = [SLOTS, THREADS].map(|most| Arc::new(Semaphore::new(most)));
        let common = Common { slots, threads: all_threads };
        Ok(Self {
            threads: Some(threads),
            handle,
            common,
            shares: Shares::new(LOOKUPS_OF_AN_AGENT),
        })
    }

    /// The share of an agent.
    pub(crate) fn share_of(&self, agent: &AgentId) -> Lookups {
        let own = self.shares.of(agent);
        Lookups { handle: self.handle.clone(), common: self.common.clone(), own }
    }
}

impl Drop for Resolver {
    /// Without waiting for what is still being looked up.
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

impl Lookups {
    /// Does this on one of the threads, when it is this agent's turn. Its share is taken until the work is
    /// done, also when nobody waits for it any more.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        // A task of its own, which ends with this future and goes on while this is not polled: a request that
        // stands still between two turns must not hold a slot.
        let mut task = JoinSet::new();
        task.spawn(self.clone().take_turn(work));
        match task.join_next().await {
            Some(found) => found.map_err(|error| error.to_string())?,
            None => Err("the look-up was lost".into()),
        }
    }

    async fn take_turn<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        let own = turn(&self.own).await?;
        let slot = turn(&self.common.slots).await?;
        let thread = turn(&self.common.threads).await?;
        let mut work = self.handle.spawn_blocking(move || {
            let found = work();
            drop((own, thread));
            found
        });
        let found = match timeout(LONG, &mut work).await {
            Ok(found) => found,
            Err(_) => {
                drop(slot);
                work.await
            }
        };
        found.map_err(|error| error.to_string())
    }
}

async fn turn(of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, String> {
    Arc::clone(of).acquire_owned().await.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    fn agent(name: &str) -> AgentId {
        AgentId::parse(name).unwrap()
    }

    /// A look-up that says when it began, and ends when its channel does.
    fn hanging(began: &SyncSender<()>, end: Receiver<()>) -> impl FnOnce() + Send + 'static {
        let began = began.clone();
        move || {
            began.send(()).unwrap();
            let _ = end.recv();
        }
    }

    /// Starts so many look-ups that hang, each of a new incarnation of the agent that `name` names.
    fn start(
        resolver: &Resolver,
        count: usize,
        name: impl Fn(usize) -> String,
        began: &SyncSender<()>,
    ) -> (JoinSet<Result<(), String>>, Vec<SyncSender<()>>) {
        let mut ends = Vec::new();
        let mut waiting = JoinSet::new();
        for number in 0..count {
            let (end, ended) = sync_channel::<()>(0);
            ends.push(end);
            let lookups = resolver.share_of(&agent(&name(number)));
            let work = hanging(began, ended);
            waiting.spawn(async move { lookups.run(work).await });
        }
        (waiting, ends)
    }

    async fn hear(begins: &Receiver<()>, times: usize) {
        for _ in 0..times {
            while begins.try_recv().is_err() {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn one_agent_cannot_take_all_look_ups_and_a_restart_does_not_help_it() {
        let resolver = Resolver::start().unwrap();
        let (began, begins) = sync_channel(SLOTS);
        let (all, ends) = start(&resolver, SLOTS, |_| "greedy".into(), &began);
        hear(&begins, LOOKUPS_OF_AN_AGENT).await;
        let other = resolver.share_of(&agent("modest"));
        assert_eq!(other.run(|| 7).await, Ok(7), "another agent is not held up");
        assert!(begins.try_recv().is_err(), "it has no more than its share");
        drop(ends);
        assert_eq!(all.join_all().await, vec![Ok(()); SLOTS]);
    }

    #[tokio::test]
    async fn a_look_up_that_was_given_up_holds_no_place() {
        let resolver = Resolver::start().unwrap();
        let (began, begins) = sync_channel(THREADS);
        let pairs = |number: usize| format!("greedy-{}", number / LOOKUPS_OF_AN_AGENT);
        let (mut all, ends) = start(&resolver, SLOTS, pairs, &began);
        hear(&begins, SLOTS).await;
        all.abort_all();
        while all.join_next().await.is_some() {}
        let other = resolver.share_of(&agent("modest"));
        assert_eq!(other.run(|| 7).await, Ok(7), "all that had a slot hang, and hold nobody up");
        let again = resolver.share_of(&agent("greedy-0"));
        let waits = timeout(Duration::from_millis(20), again.run(|| 7)).await;
        assert!(waits.is_err(), "those that hang still count against their agents");
        drop(ends);
        assert_eq!(again.run(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn a_look_up_that_takes_long_holds_no_place() {
        let resolver = Resolver::start().unwrap();
        let (began, begins) = sync_channel(THREADS);
        let pairs = |number: usize| format!("greedy-{}", number / LOOKUPS_OF_AN_AGENT);
        let (all, ends) = start(&resolver, SLOTS, pairs, &began);
        hear(&begins, SLOTS).await;
        let other = resolver.share_of(&agent("modest"));
        assert_eq!(timeout(LONG * 10, other.run(|| 7)).await, Ok(Ok(7)));
        drop(ends);
        assert_eq!(all.join_all().await, vec![Ok(()); SLOTS]);
    }
}
