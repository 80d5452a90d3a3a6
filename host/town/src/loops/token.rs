//! Replaces the token before it ends.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Shared, backoff};

/// Longest sleep. A wall clock that was set is seen after it.
const LOOK: Duration = Duration::from_secs(60);

/// Between two tries that failed, at least.
const PAUSE: Duration = Duration::from_secs(15);

pub(super) async fn run(shared: &Shared) {
    let client = &shared.client;
    let mut failures = 0;
    let mut fenced = client.fenced.subscribe();
    loop {
        let due = client.token_due_in().unwrap_or(LOOK);
        let sleeping = sleep(due.min(LOOK));
        tokio::select! {
            _ = fenced.wait_for(|fenced| *fenced) => return,
            () = sleeping => {}
        }
        // Only what was due is refreshed; a token that was swapped meanwhile is checked again.
        if due >= LOOK || client.token_due_in().is_none_or(|now| now > LOOK) {
            continue;
        }
        let generation = client.token.current().generation;
        if client.renew(generation, "expiry", Instant::now() + client.patience).await {
            failures = 0;
        } else {
            failures += 1;
            sleep(PAUSE + 4 * backoff(failures)).await;
        }
    }
}
