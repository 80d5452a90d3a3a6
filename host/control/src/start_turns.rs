//! Turns for starts.
//!
//! To let a start in is the most work that a request makes on the control server's thread. Clients that start agents
//! without a pause would hold up whoever sends a message behind all of them, so one start has its turn at a time, and
//! whatever else is ready goes before the next one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::yield_now;

/// A start that follows another one after more time than this is none of a crowd: its client alone takes longer.
const CROWD: Duration = Duration::from_micros(100);

/// Who starts an agent waits here for its turn. In order.
#[derive(Clone, Default)]
pub(crate) struct StartTurns(Arc<Mutex<Option<Instant>>>);

/// A turn. The next one comes when this is dropped.
pub(crate) struct StartTurn(OwnedMutexGuard<Option<Instant>>);

impl StartTurns {
    /// Resolves when it is its turn. In a crowd everybody else who was ready then had theirs.
    pub(crate) async fn next(&self) -> StartTurn {
        let turn = StartTurn(Arc::clone(&self.0).lock_owned().await);
        if turn.0.is_some_and(|before| before.elapsed() < CROWD) {
            yield_now().await;
        }
        turn
    }
}

impl Drop for StartTurn {
    fn drop(&mut self) {
        *self.0 = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a test has no spawner")]
    async fn whoever_is_ready_waits_for_two_starts_at_most() {
        let (turns, order) = (StartTurns::default(), Arc::new(Mutex::new(String::new())));
        let starts: Vec<_> = (0..16)
            .map(|_| {
                let (turns, order) = (turns.clone(), Arc::clone(&order));
                tokio::spawn(async move {
                    let _turn = turns.next().await;
                    order.lock().unwrap().push('s');
                })
            })
            .collect();
        let for_messages = Arc::clone(&order);
        let messages = tokio::spawn(async move {
            for _ in 0..16 {
                for_messages.lock().unwrap().push('m');
                yield_now().await;
            }
        });
        for start in starts {
            start.await.unwrap();
        }
        messages.await.unwrap();
        let order = order.lock().unwrap();
        // The last one of a round of the runtime, and the first one of the next.
        assert!(!order.contains("sss"), "{order}");
    }
}
