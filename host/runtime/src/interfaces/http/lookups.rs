//! Looking up names: on threads of their own, and in fair shares.
//!
//! The system's resolver may hold its thread for many seconds, and giving up does not end it. So there are
//! only so many look-ups at one time, they take no thread that agents' files need, and one agent has a
//! share of them, which its next incarnation inherits with all that is still under way.

use std::io;
use std::sync::Arc;

use bulkhead_model::AgentId;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;

use crate::shares::Shares;

/// Look-ups at one time, for all agents.
const LOOKUPS: usize = 16;

/// Look-ups at one time for one agent. The others wait.
const LOOKUPS_OF_AN_AGENT: usize = 4;

/// Threads that look up names.
pub(crate) struct Resolver {
    /// Runs nothing by itself: only its blocking threads are used. There until this is dropped.
    threads: Option<Runtime>,
    handle: Handle,
    all: Arc<Semaphore>,
    /// Who uses them.
    shares: Shares,
}

/// One agent's way to them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Lookups {
    threads: Handle,
    all: Arc<Semaphore>,
    own: Arc<Semaphore>,
}

impl Resolver {
    pub(crate) fn start() -> io::Result<Self> {
        let mut builder = Builder::new_current_thread();
        builder.max_blocking_threads(LOOKUPS);
        let threads = crate::lanes::with_one_thread(builder.thread_name("bulkhead-names"))?;
        let (handle, all) = (threads.handle().clone(), Arc::new(Semaphore::new(LOOKUPS)));
        Ok(Self { threads: Some(threads), handle, all, shares: Shares::new(LOOKUPS_OF_AN_AGENT) })
    }

    /// The share of an agent.
    pub(crate) fn share_of(&self, agent: &AgentId) -> Lookups {
        let own = self.shares.of(agent);
        Lookups { threads: self.handle.clone(), all: Arc::clone(&self.all), own }
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
        let turn = |semaphore: &Arc<Semaphore>| Arc::clone(semaphore).acquire_owned();
        let closed = |error: tokio::sync::AcquireError| error.to_string();
        let own = turn(&self.own).await.map_err(closed)?;
        let one_of_all = turn(&self.all).await.map_err(closed)?;
        let work = self.threads.spawn_blocking(move || {
            let found = work();
            drop((own, one_of_all));
            found
        });
        work.await.map_err(|error| error.to_string())
    }
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

    #[tokio::test]
    async fn one_agent_cannot_take_all_look_ups_and_a_restart_does_not_help_it() {
        let resolver = Resolver::start().unwrap();
        let (began, begins) = sync_channel(LOOKUPS);
        let mut ends = Vec::new();
        let mut waiting = Vec::new();
        for _ in 0..LOOKUPS {
            let (end, ended) = sync_channel::<()>(0);
            ends.push(end);
            // Each one is of a new incarnation.
            let lookups = resolver.share_of(&agent("greedy"));
            let work = hanging(&began, ended);
            waiting.push(async move { lookups.run(work).await });
        }
        let all = tokio::task::JoinSet::from_iter(waiting);
        for _ in 0..LOOKUPS_OF_AN_AGENT {
            while begins.try_recv().is_err() {
                tokio::task::yield_now().await;
            }
        }
        let other = resolver.share_of(&agent("modest"));
        assert_eq!(other.run(|| 7).await, Ok(7), "another agent is not held up");
        assert!(begins.try_recv().is_err(), "it has no more than its share");
        drop(ends);
        assert_eq!(all.join_all().await, vec![Ok(()); LOOKUPS]);
    }
}
