//! Named tasks.
//!
//! Every background task of the host is spawned here, so that each one has a name and a span, and a
//! panic or an error of it becomes a `container.unhandled_rejection` line instead of silence. Those that
//! live are counted ([`RunContext::tasks`]): a task that is never awaited and never ends shows there.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bulkhead_model::Event;
use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::{RunContext, SharedSink};

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
        let name = name.into();
        let span = tracing::info_span!("task", name);
        let this = self.clone();
        let counted = self.context.tasks().enter();
        let watched = async move {
            // Goes last, however the task goes: ended, panicked, or dropped at any point.
            let _counted = counted;
            let (kind, message) = match AssertUnwindSafe(task).catch_unwind().await {
                Ok(Ok(value)) => return Some(value),
                Ok(Err(error)) => ("error", error.to_string()),
                Err(panic) => ("panic", panic_message(panic.as_ref())),
            };
            this.report(name, kind, message);
            None
        };
        self.runtime.spawn(watched.instrument(span))
    }

    fn report(&self, task: String, name: &'static str, message: String) {
        let fingerprint = format!("{task}:{name}:{}", message.lines().next().unwrap_or_default());
        self.sink.record(Event::UnhandledRejection {
            task,
            name,
            message,
            stack: None,
            active_agents: self.context.active_agents(),
            fingerprint,
            repeated: 0,
        });
    }
}

/// What a panic said.
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{Gauge, Sink};

    #[derive(Default)]
    struct Kept(Mutex<Vec<Event>>);

    impl Sink for Kept {
        fn record(&self, event: Event) {
            self.0.lock().unwrap().push(event);
        }
    }

    #[tokio::test]
    async fn a_panic_and_an_error_are_each_reported_once_and_success_is_not() {
        let kept = Arc::new(Kept::default());
        let context = Arc::new(RunContext::new("run".into(), None));
        let spawner = Spawner::new(Handle::current(), Arc::clone(&kept) as SharedSink, context);
        let fine = spawner.spawn("fine", async { Ok::<_, String>(1) });
        let errs = spawner.spawn("errs", async { Err::<(), _>("no luck") });
        let panics = spawner.spawn("panics", async {
            if true {
                panic!("boom")
            }
            Ok::<(), String>(())
        });
        assert_eq!(fine.await.unwrap(), Some(1));
        assert_eq!(errs.await.unwrap(), None);
        assert_eq!(panics.await.unwrap(), None);
        let reported: Vec<_> = kept
            .0
            .lock()
            .unwrap()
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
