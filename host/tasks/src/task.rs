//! Named tasks.
//!
//! Every background task of the host is spawned here, so that each one has a name and a span, and a
//! panic or an error of it becomes a `container.unhandled_rejection` line instead of silence. Those that
//! live are counted ([`RunContext::tasks`]): a task that is never awaited and never ends shows there.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use bulkhead_log::{RunContext, SharedSink, Sink};
use bulkhead_types::Event;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::Switch;
use crate::containment::contain_future;
use crate::migrate::migrate;

/// Spawns named tasks on one runtime. Cheap to clone.
#[derive(Clone)]
pub struct Spawner {
    runtime: Handle,
    sink: SharedSink,
    context: Arc<RunContext>,
}

impl Spawner {
    /// Spawns on `runtime`, reports to `sink`.
    pub fn new(runtime: Handle, sink: SharedSink, context: Arc<RunContext>) -> Self {
        Self { runtime, sink, context }
    }

    /// Where the tasks run.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Runs `task` to its end. The handle yields `None` when the task failed, which was reported.
    pub fn spawn<T, E>(
        &self,
        name: impl Into<String>,
        task: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> JoinHandle<Option<T>>
    where
        T: Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        self.runtime.spawn(self.watch(name.into(), task))
    }

    /// The same for a task that cannot fail but by a panic.
    pub fn spawn_infallible<T: Send + 'static>(
        &self,
        name: impl Into<String>,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        // Held once, although there is one more layer around it.
        let task = Box::pin(task);
        self.spawn(name, async { Ok::<_, Infallible>(task.await) })
    }

    /// The same as [`Self::spawn`] for a task that is on the runtime `away` while `switch` says so.
    pub fn spawn_migrating<T, E>(
        &self,
        name: impl Into<String>,
        away: Handle,
        switch: Arc<Switch>,
        task: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> JoinHandle<Option<T>>
    where
        T: Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        let watched = migrate(self.watch(name.into(), task), switch, away);
        self.runtime.spawn(async { watched.await.flatten() })
    }

    /// The task with its name and its span; it reports what becomes of it, and never panics.
    fn watch<T, E, F>(
        &self,
        name: String,
        task: F,
    ) -> impl Future<Output = Option<T>> + Send + 'static + use<T, E, F>
    where
        T: Send + 'static,
        E: std::fmt::Display + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let span = tracing::info_span!("task", name);
        // Each layer around a future that is handed on holds it twice, where it came in and where it is polled.
        let task = Box::pin(task);
        let this = self.clone();
        let counted = self.context.tasks().enter();
        let watched = async move {
            // Goes last, however the task goes: ended, panicked, or dropped at any point.
            let _counted = counted;
            let (kind, message, place) = match contain_future(task).await {
                Ok(Ok(value)) => return Some(value),
                Ok(Err(error)) => ("error", error.to_string(), None),
                Err(panicked) => ("panic", panicked.message, panicked.place),
            };
            report_unhandled(&*this.sink, &this.context, &name, kind, message, place);
            None
        };
        watched.instrument(span)
    }
}

/// Logs a failure that nobody handles, unless the same one was logged just now. `name` is `panic` or
/// `error`; `place` is where in the host's source it happened.
pub fn report_unhandled(
    sink: &dyn Sink,
    context: &RunContext,
    task: &str,
    name: &'static str,
    message: String,
    place: Option<String>,
) {
    // The first word of a task's name is its kind: a failure of a hundred agents is one failure.
    let kind = task.split(' ').next().unwrap_or(task);
    let what = place.as_deref().or(message.lines().next()).unwrap_or_default();
    let fingerprint = format!("{kind}:{name}:{what}");
    let Some(repeated) = context.take_repeat(&fingerprint) else { return };
    sink.record(Event::UnhandledRejection {
        task: task.to_owned(),
        name,
        message,
        stack: place,
        active_agents: context.active_agents(),
        fingerprint,
        repeated,
    });
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use bulkhead_log::Gauge;

    #[derive(Default)]
    struct Kept(Mutex<Vec<Event>>);

    impl Sink for Kept {
        fn record(&self, event: Event) {
            self.0.lock().push(event);
        }
    }

    #[tokio::test]
    async fn a_panic_and_an_error_are_each_reported_once_and_success_is_not() {
        let kept = Arc::new(Kept::default());
        let context = Arc::new(RunContext::new("run".into(), None));
        let spawner = Spawner::new(Handle::current(), Arc::clone(&kept) as SharedSink, context);
        let fine = spawner.spawn("fine", async { Ok::<_, String>(1) });
        let infallible = spawner.spawn_infallible("infallible", async { 2 });
        let errs = spawner.spawn("errs", async { Err::<(), _>("no luck") });
        let panics = spawner.spawn("panics", async {
            if true {
                panic!("boom")
            }
            Ok::<(), String>(())
        });
        assert_eq!(fine.await.unwrap(), Some(1));
        assert_eq!(infallible.await.unwrap(), Some(2));
        assert_eq!(errs.await.unwrap(), None);
        assert_eq!(panics.await.unwrap(), None);
        let reported: Vec<_> = kept
            .0
            .lock()
            .iter()
            .map(|event| match event {
                Event::UnhandledRejection { task, name, message, .. } => {
                    (task.clone(), *name, message.clone())
                }
                other => panic!("unexpected {other:?}"),
            })
            .collect();
        assert!(reported.contains(&("errs".into(), "error", "no luck".into())));
        assert!(reported.contains(&("panics".into(), "panic", "boom".into())));
        assert_eq!(reported.len(), 2);
    }

    #[tokio::test]
    async fn what_is_around_a_task_does_not_hold_it_twice() {
        let context = Arc::new(RunContext::new("run".into(), None));
        let kept = Arc::new(Kept::default()) as SharedSink;
        let spawner = Spawner::new(Handle::current(), kept, context);
        let large = async {
            let state = [0_u8; 4096];
            tokio::task::yield_now().await;
            Ok::<_, String>(state.len())
        };
        assert!(size_of_val(&large) >= 4096);
        assert!(size_of_val(&spawner.watch("large".into(), large)) < 1024);
    }

    /// Lets the runtime drop what was aborted.
    async fn settle(tasks: &Gauge, want: usize) {
        while tasks.now() != want {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn tasks_count_until_they_ended_panicked_or_were_aborted() {
        let context = Arc::new(RunContext::new("run".into(), None));
        let kept = Arc::new(Kept::default()) as SharedSink;
        let spawner = Spawner::new(Handle::current(), kept, Arc::clone(&context));
        let tasks = context.tasks();
        let ends = spawner.spawn("ends", async { Ok::<_, String>(()) });
        let panics = spawner.spawn("panics", async {
            if true {
                panic!("boom")
            }
            Ok::<(), String>(())
        });
        let never = || std::future::pending::<Result<(), String>>();
        let waits = spawner.spawn("waits", never());
        assert_eq!(tasks.now(), 3, "spawned and not polled yet");
        ends.await.unwrap();
        panics.await.unwrap();
        assert_eq!(tasks.now(), 1);
        let unpolled = spawner.spawn("unpolled", never());
        unpolled.abort();
        settle(tasks, 1).await;
        waits.abort();
        settle(tasks, 0).await;
    }
}
