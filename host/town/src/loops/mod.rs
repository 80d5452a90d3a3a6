//! What the container sends to the town periodically, one loop a file.
//!
//! Every loop ends when a newer run serves the town, and after one more round when the container ends. One
//! that panics is logged as any task, and begins again.

mod agent_heartbeats;
mod attempts;
mod completed;
mod events;
mod eviction;
mod heartbeat;
mod nudges;
mod ready;
mod registry;
mod snapshots;
mod sweep;
mod token;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use bulkhead_tasks::Spawner;
use bulkhead_types::Backoff;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::call::About;
use crate::client::Client;
use crate::container::Container;
use crate::heard::Heard;

pub(crate) use events::Events;
pub(crate) use eviction::{active, evict};
pub(crate) use registry::ask_for_registry;
pub(crate) use snapshots::{Snapshots, download};

/// Calls of one loop at one time.
const PARALLEL: usize = 8;

/// Before a loop that panicked begins again.
const AGAIN: Duration = Duration::from_secs(1);

/// What all loops share.
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) heard: Heard,
    pub(crate) town_id: String,
    pub(crate) heartbeat: Duration,
    pub(crate) give_up: Duration,
    pub(crate) closing: watch::Sender<bool>,
    pub(crate) events: Events,
    pub(crate) snapshots: Snapshots,
    pub(crate) waiting_events: AtomicU64,
    /// The town's registry was read once in this run.
    pub(crate) registry_is_read: AtomicBool,
    /// An agent's heartbeat has to find out whether the town is there.
    pub(crate) finder_wanted: Notify,
}

/// What one loop has in hand.
#[derive(Clone)]
pub(crate) struct Loop {
    pub(crate) shared: Arc<Shared>,
    pub(crate) container: Arc<dyn Container>,
}

/// Why a wait was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    /// There is something to do.
    Work,
    /// The container ends: once more, and no more.
    Closing,
    /// A newer run serves the town.
    Fenced,
}

/// Begins all loops.
pub(crate) fn begin(
    shared: &Arc<Shared>,
    container: &Arc<dyn Container>,
    spawner: &Spawner,
) -> Vec<JoinHandle<Option<()>>> {
    let this = Loop { shared: Arc::clone(shared), container: Arc::clone(container) };
    vec![
        this.keep(spawner, "registry", registry::run),
        this.keep(spawner, "heartbeat", heartbeat::run),
        this.keep(spawner, "agent heartbeats", agent_heartbeats::run),
        this.keep(spawner, "ready", ready::run),
        this.keep(spawner, "events", events::run),
        this.keep(spawner, "nudges", nudges::run),
        this.keep(spawner, "completed", completed::run),
        this.keep(spawner, "snapshots", snapshots::run),
    ]
}

/// The loop that needs no agents.
pub(crate) fn keep_token(shared: &Arc<Shared>, spawner: &Spawner) {
    let shared = Arc::clone(shared);
    spawner.spawn_infallible("town token", async move { token::run(&shared).await });
}

impl Loop {
    fn keep<F>(&self, spawner: &Spawner, name: &str, run: fn(Loop) -> F) -> JoinHandle<Option<()>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (this, spawner_of_it, name) = (self.clone(), spawner.clone(), format!("town {name}"));
        spawner.spawn_infallible(format!("{name} keeper"), async move {
            loop {
                let task = spawner_of_it.spawn_infallible(name.clone(), run(this.clone()));
                if matches!(task.await, Ok(Some(()))) {
                    return;
                }
                sleep(AGAIN).await;
            }
        })
    }

    fn client(&self) -> &Client {
        &self.shared.client
    }

    /// Waits for work, or for the end of all work.
    async fn wait(&self, work: impl Future<Output = ()>) -> Woken {
        let (mut closing, mut fenced) =
            (self.shared.closing.subscribe(), self.client().fenced.subscribe());
        tokio::select! {
            biased;
            // The senders are ours: neither can be gone.
            _ = fenced.wait_for(|fenced| *fenced) => Woken::Fenced,
            _ = closing.wait_for(|closing| *closing) => Woken::Closing,
            () = work => Woken::Work,
        }
    }
}

/// Which agent a call is about.
fn about(view: &bulkhead_api::AgentView) -> About {
    About { agent_id: view.agent_id.clone(), rig_id: view.rig_id.clone() }
}

/// A random time below a bound that doubles with every failure in a row, up to ten seconds.
fn backoff(failures: u32) -> Duration {
    const MOST: Duration = Duration::from_secs(10);
    backoff_up_to(failures, MOST)
}

/// A random time below a bound that doubles with every failure in a row, up to `most`.
fn backoff_up_to(failures: u32, most: Duration) -> Duration {
    const FIRST: Duration = Duration::from_millis(250);
    let backoff = Backoff::new(FIRST, most);
    // Not at once, whatever the dice say.
    backoff.pause(failures, fastrand::f64()).max(FIRST / 2)
}

/// What changed rarely comes alone.
const COALESCE: Duration = Duration::from_millis(50);

/// Waits for a change, and a moment for those that come with it. What is lost when this is dropped: nothing. A change
/// counts as unseen until the moment is over.
async fn changed(changes: &mut watch::Receiver<u64>) {
    if changes.changed().await.is_err() {
        // Nothing will ever change again.
        std::future::pending::<()>().await;
    }
    changes.mark_changed();
    sleep(COALESCE).await;
}
