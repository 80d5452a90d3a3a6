//! A task that goes from one runtime to another and back, as it wishes.
//!
//! ```text
//!   home ── switch says away ──▶ away
//!     ▲                           │
//!     └──── switch says home ─────┘      checked whenever the task waits
//! ```
//!
//! Timers and wakes of the task go on working: whoever wakes it wakes whatever polls it now.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;

use tokio::runtime::Handle;

/// Where a task wishes to be.
#[derive(Debug, Default)]
pub struct Switch(AtomicBool);

impl Switch {
    /// At the next wait of the task it goes away from the runtime that it was spawned on.
    pub fn send_away(&self) {
        self.0.store(true, Relaxed);
    }

    /// At the next wait of the task it goes back.
    pub fn call_home(&self) {
        // Most calls change nothing, and then write nothing.
        if self.is_away() {
            self.0.store(false, Relaxed);
        }
    }

    /// Whether the task is away, or will be at its next wait.
    pub fn is_away(&self) -> bool {
        self.0.load(Relaxed)
    }
}

type Commuter<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// How a stay on one runtime ended.
enum Stay<T> {
    Finished(T),
    Leaves(Commuter<T>),
}

/// Runs `task` on this runtime, or on `away` while `switch` says so. `None`: the other runtime is gone, and
/// the task with it. The task must not panic: nobody here tells.
pub(crate) async fn commute<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
    switch: Arc<Switch>,
    away: Handle,
) -> Option<T> {
    let mut task: Commuter<T> = Box::pin(task);
    loop {
        task = match stay(task, Arc::clone(&switch), false).await {
            Stay::Finished(value) => return Some(value),
            Stay::Leaves(task) => task,
        };
        task = match away.spawn(stay(task, Arc::clone(&switch), true)).await.ok()? {
            Stay::Finished(value) => return Some(value),
            Stay::Leaves(task) => task,
        };
    }
}

/// Polls the task until it ends, or waits and wishes to be elsewhere.
async fn stay<T>(task: Commuter<T>, switch: Arc<Switch>, away: bool) -> Stay<T> {
    let mut task = Some(task);
    poll_fn(move |context| {
        let Some(mut running) = task.take() else { panic!("a stay was polled after it ended") };
        if switch.is_away() == away {
            match running.as_mut().poll(context) {
                Poll::Ready(value) => return Poll::Ready(Stay::Finished(value)),
                Poll::Pending if switch.is_away() == away => {
                    task = Some(running);
                    return Poll::Pending;
                }
                Poll::Pending => {}
            }
        }
        Poll::Ready(Stay::Leaves(running))
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::runtime::{Builder, Runtime};
    use tokio::time::sleep;

    use super::*;

    fn runtime(name: &str) -> Runtime {
        Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(name)
            .enable_all()
            .build()
            .unwrap()
    }

    fn here() -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }

    #[test]
    fn a_task_is_where_it_wishes_to_be_after_each_wait() {
        let (home, away) = (runtime("home"), runtime("away"));
        let switch = Arc::new(Switch::default());
        let steers = Arc::clone(&switch);
        let task = async move {
            let mut places = vec![here()];
            steers.send_away();
            places.push(here());
            // A timer of the runtime that it leaves.
            sleep(Duration::from_millis(2)).await;
            places.push(here());
            tokio::task::yield_now().await;
            places.push(here());
            steers.call_home();
            tokio::task::yield_now().await;
            places.push(here());
            places
        };
        #[expect(clippy::disallowed_methods, reason = "the test is about what lies below")]
        let places = home
            .block_on(async { tokio::spawn(commute(task, switch, away.handle().clone())).await });
        assert_eq!(places.unwrap().unwrap(), ["home", "home", "away", "away", "home"]);
    }

    #[test]
    fn a_task_goes_with_the_runtime_that_it_is_on() {
        let (home, away) = (runtime("home"), runtime("away"));
        let switch = Arc::new(Switch::default());
        switch.send_away();
        let (arrives, arrived) = tokio::sync::oneshot::channel();
        let task = async move {
            let _ = arrives.send(here());
            std::future::pending::<()>().await;
        };
        let ended = home.spawn(commute(task, switch, away.handle().clone()));
        assert_eq!(home.block_on(arrived).unwrap(), "away");
        away.shutdown_background();
        assert_eq!(home.block_on(ended).unwrap(), None);
    }
}
