//! One start at a time.
//!
//! To let a start in is the most work that a request makes on the control server's thread. Clients that start agents
//! without a pause would hold up clients that send a message behind all of them, so one start passes at a time, and
//! whatever else is ready goes before the next one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::yield_now;
use tokio::time::Instant;

/// A start that follows another one after more time than this is none of a crowd: its client alone takes longer.
const CROWD: Duration = Duration::from_micros(100);

/// Requests that start an agent pass here, in order.
#[derive(Clone, Default)]
pub(crate) struct StartGate(Arc<Mutex<Option<Instant>>>);

/// A start on its way. The next one passes when this is dropped.
pub(crate) struct StartPass(OwnedMutexGuard<Option<Instant>>);

impl StartGate {
    /// Resolves when the start may pass. In a crowd every other task that is ready runs first.
    pub(crate) async fn pass(&self) -> StartPass {
        let pass = StartPass(Arc::clone(&self.0).lock_owned().await);
        if pass.0.is_some_and(|before| before.elapsed() < CROWD) {
            yield_now().await;
        }
        pass
    }
}

impl Drop for StartPass {
    fn drop(&mut self) {
        *self.0 = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    // The clock stands still, so all of them are a crowd.
    #[tokio::test(start_paused = true)]
    #[expect(clippy::disallowed_methods, reason = "a test has no spawner")]
    async fn a_task_that_is_ready_waits_for_two_starts_at_most() {
        let (gate, order) = (StartGate::default(), Arc::new(Mutex::new(String::new())));
        let starts: Vec<_> = (0..16)
            .map(|_| {
                let (gate, order) = (gate.clone(), Arc::clone(&order));
                tokio::spawn(async move {
                    let _pass = gate.pass().await;
                    order.lock().push('s');
                })
            })
            .collect();
        let for_messages = Arc::clone(&order);
        let messages = tokio::spawn(async move {
            for _ in 0..16 {
                for_messages.lock().push('m');
                yield_now().await;
            }
        });
        for start in starts {
            start.await.unwrap();
        }
        messages.await.unwrap();
        let order = order.lock();
        // The last one of a round of the runtime, and the first one of the next.
        assert!(!order.contains("sss"), "{order}");
    }
}
