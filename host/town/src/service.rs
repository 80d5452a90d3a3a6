//! The thread, and the handles to it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::JoinHandle;
use std::time::Duration;

use bulkhead_api::TownRegistry;
use bulkhead_log::{RunContext, SharedSink};
use bulkhead_tasks::Spawner;
use bulkhead_types::{AgentId, Event, Secret, TownFigures};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle as Task;
use tokio::time::timeout;

use crate::address::Paths;
use crate::call::About;
use crate::client::Client;
use crate::config::{ConfigError, TownConfig};
use crate::container::{Container, TownCopy};
use crate::fault::{Cause, Fault};
use crate::heard::Heard;
use crate::loops::{self, Events, Shared, Snapshots};
use crate::token::{self, TokenError};
use crate::transport::Transport;

/// Threads that look up names and read snapshots.
const BLOCKING_THREADS: usize = 4;

/// The client of one town. Ends its thread when it is dropped.
pub struct Town {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    loops: Mutex<Vec<Task<Option<()>>>>,
    container: Mutex<Option<Arc<dyn Container>>>,
}

/// The way to the client. Cheap to clone. Everything but what is async returns at once.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    spawner: Spawner,
}

impl Town {
    /// Starts the thread. Calls can be made from then on; nothing is called by itself before
    /// [`Town::keep_token`] and [`Town::follow`].
    pub fn start(
        config: TownConfig,
        sink: SharedSink,
        context: Arc<RunContext>,
    ) -> Result<Self, ConfigError> {
        token::check(&config.token).map_err(ConfigError::Token)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("bulkhead-town-io")
            .build()
            .map_err(ConfigError::Thread)?;
        let lane = runtime.handle().clone();
        let spawner = Spawner::new(lane, Arc::clone(&sink), Arc::clone(&context));
        let TownConfig { town_id, api, token, connector, heartbeat, call, give_up } = config;
        let paths = Paths::new(&api, &town_id);
        let transport = Transport::new(api.destination, connector, spawner.clone());
        let client = Client::new(transport, paths, token, call, sink, context);
        let shared = Arc::new(Shared {
            client,
            heard: Heard::default(),
            town_id,
            heartbeat,
            give_up,
            closing: watch::Sender::new(false),
            events: Events::default(),
            snapshots: Snapshots::default(),
            waiting_events: AtomicU64::new(0),
            registry_is_read: AtomicBool::new(false),
            finder_wanted: Notify::new(),
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            // Either way there is nobody any more who wants a call.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        };
        let builder = std::thread::Builder::new().name("bulkhead-town".into());
        let thread = builder.spawn(run).map_err(ConfigError::Thread)?;
        let handle = Handle { shared, spawner };
        Ok(Self {
            handle,
            stop: Some(stop),
            thread: Some(thread),
            loops: Mutex::default(),
            container: Mutex::default(),
        })
    }

    /// The way to it.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Replaces tokens that are about to end from now on, which is logged. Once.
    pub fn keep_token(&self) {
        loops::keep_token(&self.handle.shared, &self.handle.spawner);
    }

    /// Reports to the town from now on. Not before what the town wants was merged with what is
    /// there: from here on the town's registry follows the container. Once.
    pub fn follow(&self, container: Arc<dyn Container>) {
        let mut loops = self.loops.lock();
        if loops.is_empty() {
            *loops = loops::begin(&self.handle.shared, &container, &self.handle.spawner);
        }
        *self.container.lock() = Some(container);
    }

    /// Begins to notify the town that the container goes away, and where each agent is. The handle resolves
    /// within ten seconds; nobody has to wait for it.
    pub fn evict(&self, reason: &str) -> Task<Option<()>> {
        let (shared, reason) = (Arc::clone(&self.handle.shared), reason.to_owned());
        let container = self.container.lock().clone();
        // Now: those who have nothing to do end at once.
        let active = container.map(|container| loops::active(&*container)).unwrap_or_default();
        self.handle.spawner.spawn_infallible("town eviction", async move {
            loops::evict(&shared, active, &reason).await;
        })
    }

    /// Sends the town what it has not got yet, for at most this long, and ends all loops. Says whether
    /// they were through.
    pub async fn finish(&self, patience: Duration) -> bool {
        let loops = std::mem::take(&mut *self.loops.lock());
        self.handle.shared.closing.send_replace(true);
        let all = async {
            for task in loops {
                let _ = task.await;
            }
        };
        timeout(patience, all).await.is_ok()
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Handle {
    /// Hears a fact on its way to the log.
    pub fn hear(&self, event: &Event) {
        self.shared.heard.hear(event, &self.shared.client);
    }

    /// Which town.
    pub fn town_id(&self) -> &str {
        &self.shared.town_id
    }

    /// The town sent a token: every call that begins from now on uses it. No agent is touched.
    pub fn refresh_token(&self, token: Secret) -> Result<(), TokenError> {
        token::check(&token)?;
        self.shared.client.swap_token(token);
        Ok(())
    }

    /// The town asks to be notified, once, when the container is ready.
    pub fn acknowledge(&self, nonce: &str) {
        self.shared.heard.nonce(nonce);
    }

    /// Resolves when a newer run serves the town.
    pub async fn fenced(&self) {
        let mut fenced = self.shared.client.fenced.subscribe();
        // The sender exists as long as this handle.
        let _ = fenced.wait_for(|fenced| *fenced).await;
    }

    /// The figures now.
    pub fn figures(&self) -> TownFigures {
        let Shared { client, heard, snapshots, waiting_events, .. } = &*self.shared;
        let (ends, idle) = heard.waiting();
        TownFigures {
            calls: client.counters.calls(),
            waiting: vec![
                ("events", waiting_events.load(Relaxed)),
                ("completions", ends as u64),
                ("nudges", idle as u64),
                ("snapshots", snapshots.waiting() as u64),
            ],
            dropped: client.counters.dropped(),
            given_up: client.counters.given_up(),
            reachable: client.is_reachable(),
            fenced: client.is_fenced(),
        }
    }

    /// The agents that the town wants here, asked for in this time.
    pub async fn registry(&self, within: Duration) -> Result<TownRegistry, Fault> {
        let shared = Arc::clone(&self.shared);
        let asking = self.spawner.spawn_infallible("town registry_get", async move {
            let asked = loops::ask_for_registry(&shared, within).await;
            // The caller merges it before anything is sent to the town.
            shared.registry_is_read.fetch_or(asked.is_ok(), Relaxed);
            asked
        });
        // A panic of it was logged; the town's thread may end before it.
        asking.await.ok().flatten().unwrap_or_else(|| Err(lost()))
    }

    /// What the town has of what an agent remembers.
    pub async fn snapshot(
        &self,
        agent_id: AgentId,
        rig_id: Option<String>,
        within: Duration,
    ) -> Result<TownCopy, Fault> {
        let shared = Arc::clone(&self.shared);
        let asking = self.spawner.spawn_infallible("town snapshot_get", async move {
            let about = About { agent_id, rig_id };
            loops::download(&shared, &about, within).await
        });
        asking.await.ok().flatten().unwrap_or_else(|| Err(lost()))
    }
}

fn lost() -> Fault {
    Fault::new(Cause::HalfClosed, "the town's client ended before the call did")
}
